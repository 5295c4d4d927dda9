"""The laws L1 to L8 of the design, stated over whole swarms: random work, meetings, crashes.

Each history is a list of steps that Hypothesis chooses: writes by key and by SQL on three replicas,
and meetings of two, in which one gives the other what it lacks. (The laws of single cells are in
tests/kvcore.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import murmur
from murmur.kvcore import ManualClock, MemoryStorage
from murmur.kvcore.causality import dominates
from murmur.kvcore.log import ADMITTED
from murmur.kvcore.mark import NO_TIP, Tip
from murmur.kvcore.record import decode, digest
from murmur.swarm import Swarm

REPLICAS = 3
CREATE = (
    "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, n COUNTER)",
    "CREATE INDEX IF NOT EXISTS item_by_name ON item (name DESC)",
)

ids = st.integers(0, 4)
names = st.sampled_from(["a", "b", "ä", "", "zz"])
writes = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(["k", "l"]), st.binary(max_size=4)),
    st.tuples(st.just("delete"), st.sampled_from(["k", "l"])),
    st.tuples(st.just("INSERT INTO item (id, name) VALUES (?, ?)"), ids, names),
    st.tuples(st.just("UPDATE item SET name = ? WHERE id = ?"), names, ids),
    st.tuples(st.just("UPDATE item SET n = n + ? WHERE id = ?"), st.integers(-3, 3), ids),
    st.tuples(st.just("UPDATE item SET n = ? WHERE id = ?"), st.integers(-3, 3), ids),
    st.tuples(st.just("DELETE FROM item WHERE id = ?"), ids),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, REPLICAS - 1), writes),
        st.tuples(st.just("meet"), st.integers(0, REPLICAS - 1), st.integers(0, REPLICAS - 1)),
    ),
    max_size=30,
)
QUICK = settings(max_examples=40)


def open_swarm(storage: MemoryStorage, seed: int) -> Swarm:
    clock = ManualClock(1_767_225_600_000 + seed % 2)
    rng = Random(seed)
    return Swarm(storage, durability="commit", clock=clock, random_bytes=rng.randbytes)


@contextmanager
def swarms(count: int = REPLICAS) -> Iterator[list[Swarm]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_swarm(MemoryStorage(), seed)) for seed in range(count)]


def meet(source: Swarm, target: Swarm) -> None:
    """Give the target what it lacks."""
    log, stop = source.replica.log, source.replica.durable_position
    target.replica.apply(record for _, record in log.missing(target.replica.vector, stop))


def write(swarm: Swarm, action: str, *values: Any) -> bool:
    """Do one write; whether the constraints let it."""
    try:
        if action == "put":
            swarm.put(*values)
        elif action == "delete":
            swarm.delete(*values)
        else:
            swarm.sql(action, list(values))
    except murmur.IntegrityError:
        return False
    return True


def play(replicas: list[Swarm], history: list[Any]) -> None:
    for swarm in replicas:
        for statement in CREATE:
            swarm.sql(statement)
    for kind, one, other in history:
        if kind == "write":
            write(replicas[one], *other)
        elif one != other:
            meet(replicas[one], replicas[other])


def settle(replicas: list[Swarm]) -> None:
    for _ in range(2):
        for source in replicas:
            for target in replicas:
                if source is not target:
                    meet(source, target)


def visible(swarm: Swarm) -> tuple[Any, ...]:
    """All that a reader can see."""
    rows = swarm.sql("SELECT id, name, n FROM item ORDER BY id").fetchall()
    by_index = swarm.sql("SELECT id FROM item WHERE name >= '' ORDER BY name DESC, id").fetchall()
    conflicts = sorted(map(repr, swarm.sql("SELECT * FROM murmur_conflicts").fetchall()))
    return list(swarm.scan()), rows, by_index, conflicts


@QUICK
@given(steps)
def test_l1_the_log_alone_is_the_truth(history: list[Any]) -> None:
    with swarms() as replicas:
        play(replicas, history)
        swarm = replicas[0]
        before = (visible(swarm), swarm.state_hash(), swarm.version_vector)
        assert swarm.check() == []
        storage = swarm._storage
        swarm.close()
        assert isinstance(storage, MemoryStorage)
        for name in storage.list("tree"):
            storage.remove(f"tree/{name}")
        with open_swarm(storage, seed=99) as swarm:
            assert (visible(swarm), swarm.state_hash(), swarm.version_vector) == before


@QUICK
@given(st.integers(1, 5), st.integers(0, 40))
def test_l2_a_transaction_is_whole_everywhere(size: int, cut: int) -> None:
    with swarms(2) as (one, other):
        one.sql(CREATE[0])
        for round_ in range(3):
            with one.transaction() as tx:
                for number in range(size):
                    tx.put(f"k{number}", b"%d" % round_)
                    tx.sql(
                        "INSERT INTO item (id, name) VALUES (?, ?) "
                        "ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                        [number, f"{number} {round_}"],
                    )
        records = [record for _, record in one.replica.log.missing({})]
        other.replica.apply(records[: cut % (len(records) + 1)])
        seen = {value for _, value in other.scan()}
        assert len(seen) <= 1
        if seen:
            rows = other.sql("SELECT name FROM item").fetchall()
            assert {name.split()[1] for (name,) in rows} == {value.decode() for value in seen}
            assert len(rows) == size


@QUICK
@given(steps)
def test_l3_every_log_is_in_causal_order(history: list[Any]) -> None:
    with swarms() as replicas:
        play(replicas, history)
        settle(replicas)
        for swarm in replicas:
            seen: dict[bytes, int] = {}
            tips: dict[bytes, Tip] = {}
            for _, kind, record in swarm.replica.log.read(0):
                assert kind == ADMITTED
                tx = decode(record)
                tip = tips.get(tx.replica, NO_TIP)
                vector = tx.vector(tip.vector)
                assert tx.seq == tip.seq + 1
                assert tx.previous == tip.hash
                assert dominates(seen, vector)
                seen[tx.replica] = tx.seq
                tips[tx.replica] = Tip(tx.seq, tx.stamp, digest(record), vector)


@QUICK
@given(st.data())
def test_l4_a_write_replaces_what_it_had_seen(data: st.DataObject) -> None:
    with swarms(2) as (one, other):
        one.put("k", b"seen")
        meet(one, other)
        seen_by_other = data.draw(st.booleans())
        one.put("k", b"new")
        if seen_by_other:
            meet(one, other)
        delete = data.draw(st.booleans())
        _ = other.delete("k") if delete else other.put("k", b"other")
        settle([one, other])
        listed = [row[0] for row in one.sql("SELECT loser FROM murmur_conflicts").fetchall()]
        if seen_by_other:
            assert one.get("k") == (None if delete else b"other")
            assert listed == []
        elif delete:
            assert one.get("k") == b"new"  # a delete removes what it had seen, no more
        else:
            assert {one.get("k"), *(text.encode() for text in listed)} == {b"new", b"other"}


@QUICK
@given(steps, st.randoms(use_true_random=False))
def test_l5_state_is_a_function_of_the_set(history: list[Any], rng: Random) -> None:
    with swarms() as replicas, open_swarm(MemoryStorage(), seed=50) as late:
        play(replicas, history)
        settle(replicas)
        first = replicas[0]
        for swarm in replicas[1:]:
            assert swarm.version_vector == first.version_vector
            assert swarm.state_hash() == first.state_hash()
            assert visible(swarm) == visible(first)
        records = [record for _, record in first.replica.log.missing({})]
        rng.shuffle(records)
        late.replica.apply(records + records[:3])
        assert late.state_hash() == first.state_hash()
        assert visible(late) == visible(first)
        assert late.check() == []


@QUICK
@given(st.lists(writes, max_size=12), st.integers(0, 1000))
def test_l6_acknowledged_is_durable(todo: list[Any], seed: int) -> None:
    with swarms(1) as (swarm,):
        for statement in CREATE:
            swarm.sql(statement)
        for each in todo:
            write(swarm, *each)
        before = (visible(swarm), swarm.state_hash())
        storage = swarm._storage
        assert isinstance(storage, MemoryStorage)
        with open_swarm(storage.crash(Random(seed)), seed=7) as after:
            assert (visible(after), after.state_hash()) == before


@QUICK
@given(steps)
def test_l7_whatever_lost_is_listed(history: list[Any]) -> None:
    with swarms() as replicas:
        play(replicas, history)
        settle(replicas)
        swarm = replicas[0]
        listed = swarm.sql("SELECT kind, key, loser FROM murmur_conflicts").fetchall()
        written = swarm.sql("SELECT count(*) FROM murmur_log").fetchone()
        assert written == (sum(swarm.version_vector.values()),)
        from murmur.kvcore import decode_record, decode_register

        for key, cell in swarm.replica.snapshot().scan(b"\x01", b"\x03"):
            if key[0] == 1:
                winner, *others = decode_register(cell)
                for sibling in others:
                    if sibling.value == winner.value:
                        continue  # nothing was lost
                    name = key[2:].decode()
                    assert any(kind == "sibling" and at == name for kind, at, _ in listed), sibling
            elif key[1] == 2:
                first, *lives = decode_record(cell)
                losers = sum(life.fields != first.fields for life in lives)
                assert sum(kind == "row" for kind, _, _ in listed) >= losers
        names = [name for (name,) in swarm.sql("SELECT name FROM item").fetchall()]
        twice = {name for name in names if name is not None and names.count(name) > 1}
        assert len({at for kind, at, _ in listed if kind == "unique"}) >= len(twice)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda s: s.put(1, b""), murmur.InvalidInput),
        (lambda s: s.put("k", "text"), murmur.InvalidInput),
        (lambda s: s.put("k\ud800", b""), murmur.InvalidInput),
        (lambda s: s.sql("SELEC 1"), murmur.ParseError),
        (lambda s: s.sql("INSERT INTO nothing VALUES (1)"), murmur.BindError),
        (lambda s: s.sql("INSERT INTO item VALUES ('x', 'y', 0)"), murmur.TypeMismatch),
        (lambda s: s.sql("INSERT INTO item (id) VALUES (1), (2), (1)"), murmur.ConstraintViolation),
        (lambda s: s.sql("INSERT INTO item (id) VALUES (?)", ["x"]), murmur.DataError),
        (lambda s: s.sql("INSERT INTO item (id) VALUES (?)", []), murmur.ProgrammingError),
        (lambda s: s.replica.apply([b"\x01" * 60]), murmur.ProtocolViolation),
        (lambda s: s.connect_peer("murmur1nonsense"), murmur.InvalidInput),
    ],
)
def test_l8_malformed_input_is_a_named_error_and_changes_nothing(
    act: Callable[[Swarm], object], error: type[Exception]
) -> None:
    with swarms(1) as (swarm,):
        swarm.sql(CREATE[0])
        swarm.sql("INSERT INTO item (id, name) VALUES (7, 'seven')")
        before = (visible(swarm), swarm.state_hash(), swarm.version_vector)
        with pytest.raises(error) as raised:
            act(swarm)
        assert str(raised.value)
        assert (visible(swarm), swarm.state_hash(), swarm.version_vector) == before
