"""Views made apart: both replicas show the same one, and the other is listed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from murmur import Swarm
from murmur.kvcore import ManualClock, MemoryStorage


@pytest.fixture
def pair() -> Iterator[tuple[Swarm, Swarm]]:
    clock = ManualClock()
    with ExitStack() as stack:
        swarms = [stack.enter_context(Swarm(MemoryStorage(), clock=clock)) for _ in range(2)]
        swarms[0].sql("CREATE TABLE note (id INT PRIMARY KEY, likes INT)")
        swarms[0].sql("INSERT INTO note VALUES (1, 10), (2, 20)")
        meet(*swarms)
        clock.advance(10)
        yield swarms[0], swarms[1]


def meet(*swarms: Swarm) -> None:
    for swarm in swarms:
        swarm.sync()
    for source in swarms:
        for target in swarms:
            log = source.replica.log
            target.replica.apply([record for _, record in log.missing(target.replica.vector)])
    assert len({swarm.state_hash() for swarm in swarms}) == 1
    assert all(swarm.check() == [] for swarm in swarms)


def shown(swarm: Swarm, query: str) -> list[tuple[object, ...]]:
    return swarm.sql(query).fetchall()


def test_a_view_arrives(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    alice.sql("CREATE VIEW most (n) AS SELECT max(likes) FROM note")
    meet(alice, bob)
    assert shown(bob, "SELECT n FROM most") == [(20,)]
    bob.sql("DROP VIEW most")
    meet(alice, bob)
    assert shown(alice, "SELECT name FROM murmur_views") == []


def test_two_texts_of_one_name(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    alice.sql("CREATE VIEW v AS SELECT min(likes) AS n FROM note")
    bob.sql("CREATE VIEW v AS SELECT max(likes) AS n FROM note")
    meet(alice, bob)
    assert shown(alice, "SELECT n FROM v") == shown(bob, "SELECT n FROM v")
    listed = [shown(each, "SELECT kind, table_name, detail FROM murmur_conflicts") for each in pair]
    assert listed[0] == listed[1]
    ((kind, name, detail),) = listed[0]
    assert (kind, name) == ("definition", "v")
    assert "min(likes)" in str(detail)
    assert "max(likes)" in str(detail)
    alice.sql("CREATE OR REPLACE VIEW v AS SELECT sum(likes) AS n FROM note")
    meet(alice, bob)
    assert shown(bob, "SELECT n FROM v") == [(30,)]
    assert shown(bob, "SELECT * FROM murmur_conflicts") == []


def test_a_table_and_a_view_of_one_name(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    alice.sql("CREATE TABLE both (id INT PRIMARY KEY)")
    bob.sql("CREATE VIEW both AS SELECT likes FROM note")
    meet(alice, bob)
    names = [
        shown(each, "SELECT table_name FROM information_schema.tables ORDER BY 1") for each in pair
    ]
    assert names[0] == names[1]
    later = next(str(name) for (name,) in names[0] if str(name).startswith("both~"))
    for each in pair:
        each.sql("SELECT * FROM both")
        each.sql(f'SELECT * FROM "{later}"')
        ((detail,),) = shown(each, "SELECT detail FROM murmur_conflicts")
        assert later in str(detail)


def test_a_view_survives_the_closing_of_its_replica(pair: tuple[Swarm, Swarm]) -> None:
    storage = MemoryStorage()
    with Swarm(storage) as swarm:
        swarm.sql("CREATE TABLE t (a INT)")
        swarm.sql("CREATE VIEW v AS SELECT count(*) AS n FROM t")
    with Swarm(storage) as swarm:
        assert shown(swarm, "SELECT n FROM v") == [(0,)]
        assert swarm.check() == []
