"""Arrow tables into SQL tables: what `insert_arrow` of a swarm, transaction or connection does.

olap reads the data, sql checks and writes it; here they meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from murmur.errors import InvalidInput

if TYPE_CHECKING:
    from murmur.sql import Outcome, Session


def insert_arrow(
    session: Session, table: str, data: Any, *, atomic: bool, timeout: float | None
) -> Outcome:
    """Insert the rows of Arrow data into a table, column by name."""
    from murmur.olap.intake import intake, match_columns, open_arrow

    if not isinstance(table, str):
        raise InvalidInput(f"a table is named by str, not {type(table).__name__}")
    target = session.table(table)
    reader = open_arrow(data)
    columns = match_columns(reader.schema, target)
    return session.load(table, columns, intake(reader), atomic=atomic, timeout_s=timeout)
