"""INSERT of one row that commits by itself, without a transaction: what is tried first.

    insert_alone(replica, shared, clock, random_bytes, statement, [7, "a"])
        Inserted(last_key)     it is committed
        None                   nothing has happened: the long way, which says what is wrong

The row is encoded as those of executemany are; the kernel sees that nothing has its key or what it
claims, and commits it, in one call that no other thread comes between. All else has the long way:
rows with foreign keys, conflicts and RETURNING, wrong values, broken constraints, and any row while
a transaction is open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from murmur.catalog.catalog import Catalog
from murmur.kvcore.clock import Clock
from murmur.kvcore.replica import Replica
from murmur.sql.bulk import Given
from murmur.sql.cache import Shared, Statement
from murmur.sql.cancellation import Halt
from murmur.sql.execution import Context
from murmur.sql.system import System

_NO_SYSTEM = System(None)


class Inserted(NamedTuple):
    """A row was committed; its key, if that is one integer."""

    last_key: int | None


def insert_alone(
    replica: Replica,
    shared: Shared,
    clock: Clock,
    random_bytes: Callable[[int], bytes],
    statement: Statement,
    given: Given,
) -> Inserted | None:
    """Run an INSERT of one row that was run before, if nothing stands against it."""
    if not statement.inserts_rows:
        return None
    state = replica.settled()
    row = statement.lone_row(state) if isinstance(state, Catalog) else None
    if row is None:
        return None

    def context() -> Context:
        return Context(
            (),
            now_ms=clock.now_ms(),
            random_bytes=random_bytes,
            system=_NO_SYSTEM,
            columnar=None,
            uuid7=shared.uuid7,
            ids=shared.ids,
            halt=Halt(),
        )

    try:
        block = row.encode(given, context)
    except Exception:
        return None  # the long way says what is wrong
    if block is None or not replica.insert(block, state, row.load.table.id):
        return None
    return Inserted(row.last_key(block))
