"""SQLAlchemy 2: `create_engine("murmur:///data/alice")`.

    engine = create_engine("murmur:///data/alice?group=team")      ////abs/olute has four slashes
    with engine.begin() as connection: ...
    Session(engine)                                                 the ORM
    create_engine("murmur://", creator=lambda: murmur.connect(swarm))   a swarm that is open

    from murmur.integrations.sqlalchemy import COUNTER, insert
    insert(note).values(...).on_conflict_do_update(index_elements=["id"], set_={...})

    dialect.py     connections, transactions, what can be asked
    compiler.py    statements, DDL and types as text
    types.py       SQLAlchemy's types and Murmur's
    reflection.py  tables, keys, indexes and views from the catalog

All connections to one directory share one open swarm, so an engine may have a pool of them.
"""

from murmur.integrations.sqlalchemy.compiler import Insert, insert
from murmur.integrations.sqlalchemy.dialect import MurmurDialect
from murmur.integrations.sqlalchemy.types import COUNTER

__all__ = ["COUNTER", "Insert", "MurmurDialect", "insert"]
