"""Single rows without a session: what `Swarm.sql` tries first.

A statement that has been run before, and reads one row by its key, is answered from the latest
state; one that inserts one row commits it. Every other one, and whatever is not certain, goes the
long way.
"""

from __future__ import annotations

from collections.abc import Callable

from murmur.kvcore import Clock, Replica
from murmur.sql import insert_alone, point_answer, shared_of
from murmur.swarm.result import Result, count_of, from_list
from murmur.swarm.transaction import Parameters


def point_answerer(
    replica: Replica, clock: Clock, random_bytes: Callable[[int], bytes]
) -> Callable[[str, Parameters], Result | None]:
    """The function that answers a point query, or inserts a row, and None to anything else."""
    shared = shared_of(replica, clock, random_bytes)
    find = shared.statements.find

    def answer(text: str, parameters: Parameters) -> Result | None:
        statement = find(text)
        if statement is None:
            return None
        if statement.parsed.kind == "insert":
            inserted = insert_alone(replica, shared, clock, random_bytes, statement, parameters)
            return None if inserted is None else count_of("insert", 1, inserted.last_key)
        found = point_answer(replica, statement, parameters)
        return None if found is None else from_list(found[0].described, found[1])

    return answer
