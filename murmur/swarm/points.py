"""Point queries without a session: what `Swarm.sql` tries first.

A statement that has been run before, and reads one row by its key, is answered from the latest
state; every other one, and whatever is not certain, goes the long way.
"""

from __future__ import annotations

from collections.abc import Callable

from murmur.kvcore import Clock, Replica
from murmur.sql import point_answer, shared_of
from murmur.swarm.result import Result, from_list
from murmur.swarm.transaction import Parameters


def point_answerer(
    replica: Replica, clock: Clock, random_bytes: Callable[[int], bytes]
) -> Callable[[str, Parameters], Result | None]:
    """The function that answers a point query, and None to anything else."""
    find = shared_of(replica, clock, random_bytes).statements.find

    def answer(text: str, parameters: Parameters) -> Result | None:
        statement = find(text)
        if statement is None:
            return None
        found = point_answer(replica, statement, parameters)
        return None if found is None else from_list(found[0].described, found[1])

    return answer
