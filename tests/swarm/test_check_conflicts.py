"""A CHECK and a row that were written apart: the row stays, and is listed."""

from __future__ import annotations

from murmur.kvcore import MemoryStorage
from murmur.swarm import Swarm
from tests.swarm.test_laws import meet, open_swarm


def listed(swarm: Swarm) -> list[tuple[object, ...]]:
    return swarm.sql(
        "SELECT kind, table_name, key, constraint_name, loser FROM murmur_conflicts"
    ).fetchall()


def test_a_row_that_a_concurrent_check_refuses_is_listed() -> None:
    with open_swarm(MemoryStorage(), 0) as one, open_swarm(MemoryStorage(), 1) as other:
        one.sql("CREATE TABLE p (id INTEGER PRIMARY KEY, x INTEGER)")
        one.sql("INSERT INTO p VALUES (1, 5), (2, NULL)")
        meet(one, other)
        one.sql("ALTER TABLE p ADD CONSTRAINT positive CHECK (10 / x > 0)")
        other.sql("UPDATE p SET x = -1 WHERE id = 1")
        other.sql("UPDATE p SET x = 0 WHERE id = 2")
        for source, target in ((one, other), (other, one)):
            meet(source, target)
        expected = [
            ("check", "p", "(id)=(1)", "positive", "id=1, x=-1"),
            ("check", "p", "(id)=(2)", "positive", "id=2, x=0"),
        ]
        assert listed(one) == listed(other) == expected
        one.sql("UPDATE p SET x = 1")
        assert listed(one) == []


def test_a_counter_that_increments_carry_over_its_bound_is_listed() -> None:
    with open_swarm(MemoryStorage(), 0) as one, open_swarm(MemoryStorage(), 1) as other:
        one.sql("CREATE TABLE seat (id INTEGER PRIMARY KEY, taken COUNTER CHECK (taken <= 1))")
        one.sql("INSERT INTO seat (id) VALUES (1)")
        meet(one, other)
        for swarm in (one, other):
            swarm.sql("UPDATE seat SET taken = taken + 1")
        meet(other, one)
        assert [row[0] for row in listed(one)] == ["check"]
