"""MERGE against a model: a dictionary that the WHENs change as PostgreSQL says."""

from __future__ import annotations

from random import Random

import pytest

from murmur.errors import ConstraintViolation
from tests.sql.session_harness import fetch, open_session

STATEMENT = """
    MERGE INTO t USING s ON t.id = s.id
    WHEN MATCHED AND s.n = 0 THEN DELETE
    WHEN MATCHED AND s.n < t.n THEN DO NOTHING
    WHEN MATCHED THEN UPDATE SET n = t.n + s.n, hits = hits + 1
    WHEN NOT MATCHED AND s.n > 4 THEN INSERT (id, n) VALUES (s.id, s.n * 10)
    WHEN NOT MATCHED AND s.n > 2 THEN INSERT (n, id) VALUES (s.n, id)
"""


class Twice(Exception):
    """A row was to be changed twice, or inserted twice."""


def merged(
    target: dict[int, tuple[int, int]], source: list[tuple[int, int]]
) -> tuple[dict[int, tuple[int, int]], int]:
    """The target after the statement, and how many rows it wrote."""
    after, changed = dict(target), set()
    for key, given in source:
        if key in target:
            n, hits = target[key]
            if given and given < n:
                continue
            if given:
                after[key] = (n + given, hits + 1)
            else:
                after.pop(key, None)
        elif given > 2:
            after[key] = (given * 10 if given > 4 else given, 0)
        else:
            continue
        if key in changed:
            raise Twice
        changed.add(key)
    return after, len(changed)


@pytest.mark.parametrize("seed", range(8))
def test_merge_does_what_a_dictionary_does(seed: int) -> None:
    rng = Random(seed)
    session = open_session()
    session.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT, hits COUNTER)")
    session.execute("CREATE INDEX t_n ON t (n) WHERE n > 3")
    session.execute("CREATE TABLE s (id INT, n INT)")
    target: dict[int, tuple[int, int]] = {}
    for _ in range(5):
        width = rng.choice([6, 40])
        source = [(rng.randrange(width), rng.randrange(8)) for _ in range(rng.randrange(9))]
        session.execute("DELETE FROM s")
        session.execute_many("INSERT INTO s VALUES (?, ?)", source)
        try:
            expected, count = merged(target, source)
        except Twice:
            with pytest.raises(ConstraintViolation):
                session.execute(STATEMENT)
        else:
            assert session.execute(STATEMENT).rowcount == count
            target = expected
        rows = [(key, *values) for key, values in sorted(target.items())]
        assert fetch(session, "SELECT id, n, hits FROM t ORDER BY id") == rows
        large = sorted(key for key, (n, _) in target.items() if n > 3)
        assert fetch(session, "SELECT id FROM t WHERE n > 3 ORDER BY id") == [(k,) for k in large]
