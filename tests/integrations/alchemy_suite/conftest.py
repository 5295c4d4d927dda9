"""SQLAlchemy's own test plugin, in a run of its own: it takes over the whole of pytest."""

from typing import Any

from sqlalchemy.dialects import registry

for name in ("murmur", "murmur.murmur"):
    registry.register(name, "murmur.integrations.sqlalchemy", "MurmurDialect")

from sqlalchemy.testing import provision  # noqa: E402
from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: E402, F403 - its hooks


@provision.upsert.for_db("murmur")
def upsert(
    cfg: Any,
    table: Any,
    returning: Any,
    *,
    set_lambda: Any = None,
    sort_by_parameter_order: bool = False,
    index_elements: Any = None,
) -> Any:
    from murmur.integrations.sqlalchemy import insert

    statement = insert(table)
    target = index_elements or table.primary_key
    if set_lambda is None:
        statement = statement.on_conflict_do_nothing()
    else:
        values = set_lambda(statement.excluded)
        statement = statement.on_conflict_do_update(index_elements=target, set_=values)
    return statement.returning(*returning, sort_by_parameter_order=sort_by_parameter_order)
