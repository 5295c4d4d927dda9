"""The replica by example: both ways in, what a reader sees, and what it refuses."""

from __future__ import annotations

import gc
import linecache
import os
import sys
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from murmur.errors import Closed, Conflict, Corruption, InvalidInput, Locked, ProtocolViolation
from murmur.kvcore.cell import decode_register, visible_fields, visible_value
from murmur.kvcore.clock import ManualClock
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.record import DELETE, PUT, Operation, decode
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage
from tests.patience import PATIENCE_S

KEY = b"\x01k"
ROW = b"\x02r"


def open_replica(
    storage: Any = None, *, seed: int = 1, clock: ManualClock | None = None, **options: Any
) -> Replica:
    options.setdefault("durability", "commit")
    rng = Random(seed)
    return Replica.open(
        MemoryStorage() if storage is None else storage,
        clock=clock or ManualClock(),
        random_bytes=rng.randbytes,
        **options,
    )


def put(replica: Replica, key: bytes, value: bytes) -> tuple[bytes, int]:
    return replica.write([Operation(PUT, key, value)])


def value(replica: Replica, key: bytes = KEY) -> bytes | None:
    cell = replica.get(key)
    return None if cell is None else visible_value(cell)


def records(replica: Replica, have: dict[bytes, int] | None = None) -> list[bytes]:
    return [record for _, record in replica.log.missing(have or {}, replica.durable_position)]


def exchange(*replicas: Replica) -> None:
    for source in replicas:
        for target in replicas:
            target.apply(records(source, dict(target.vector)))


def test_what_was_put_is_read_and_deleted() -> None:
    with open_replica() as replica:
        assert put(replica, KEY, b"one") == (replica.id, 1)
        assert value(replica) == b"one"
        put(replica, KEY, b"two")
        assert value(replica) == b"two"
        replica.write([Operation(DELETE, KEY, b"")])
        assert replica.get(KEY) is None
        assert replica.vector == {replica.id: 3}


def test_a_transaction_is_whole_and_sees_itself() -> None:
    with open_replica() as replica:
        with replica.begin() as tx:
            tx.put(KEY, b"one")
            tx.insert(ROW, {1: "a"}, {2: 5})
            tx.add(ROW, 2, 3)
            assert visible_fields(tx.get(ROW) or b"") == {1: "a", 2: 8}
            assert [key for key, _ in tx.scan(b"", None)] == [KEY, ROW]
            assert replica.get(KEY) is None
        assert value(replica) == b"one"
        assert visible_fields(replica.get(ROW) or b"") == {1: "a", 2: 8}
        assert replica.vector == {replica.id: 1}


def test_an_exception_rolls_back() -> None:
    with open_replica() as replica:
        tx = replica.begin()
        tx.put(KEY, b"one")
        tx.__exit__(RuntimeError, RuntimeError(), None)
        assert replica.get(KEY) is None
        assert replica.vector == {}


def test_a_savepoint_takes_back_what_came_after() -> None:
    with open_replica() as replica, replica.begin() as tx:
        tx.insert(ROW, {1: "a"})
        mark = tx.savepoint()
        tx.edit(ROW, {1: "b"})
        tx.put(KEY, b"x")
        assert visible_fields(tx.get(ROW) or b"") == {1: "b"}
        tx.rollback_to(mark)
        assert visible_fields(tx.get(ROW) or b"") == {1: "a"}
        assert [key for key, _ in tx.scan(b"", None)] == [ROW]


def test_a_snapshot_stays() -> None:
    with open_replica() as replica:
        put(replica, KEY, b"one")
        with replica.snapshot() as snapshot:
            put(replica, KEY, b"two")
            assert visible_value(snapshot.get(KEY) or b"") == b"one"
            assert snapshot.vector == {replica.id: 1}
        assert value(replica) == b"two"


def test_the_first_committer_wins() -> None:
    with open_replica() as replica:
        first, second = replica.begin(), replica.begin()
        first.insert(ROW, {1: "a"})
        second.insert(ROW, {1: "b"})
        first.commit()
        with pytest.raises(Conflict):
            second.commit()
        assert visible_fields(replica.get(ROW) or b"") == {1: "a"}


def test_remote_transactions_count_as_committers() -> None:
    with open_replica(seed=1) as a, open_replica(seed=2) as b:
        with a.begin() as tx:
            tx.insert(ROW, {1: "a"})
        exchange(a, b)
        edit = a.begin()
        edit.edit(ROW, {1: "edited"})
        with b.begin() as tx:
            tx.remove(ROW)
        exchange(a, b)
        with pytest.raises(Conflict):
            edit.commit()


def test_blind_puts_and_increments_do_not_conflict() -> None:
    with open_replica() as replica:
        with replica.begin() as tx:
            tx.insert(ROW, {}, {1: 0})
        one, two = replica.begin(), replica.begin()
        for tx in (one, two):
            tx.put(KEY, b"blind")
            tx.add(ROW, 1, 1)
            tx.commit()
        assert visible_fields(replica.get(ROW) or b"") == {1: 2}


def test_a_read_register_that_is_written_conflicts() -> None:
    with open_replica() as replica:
        tx = replica.begin()
        assert tx.get(KEY) is None
        tx.put(KEY, b"mine")
        put(replica, KEY, b"theirs")
        with pytest.raises(Conflict):
            tx.commit()
        assert value(replica) == b"theirs"


@pytest.mark.parametrize("guard", ["key", "range"])
def test_guards_see_concurrent_claims(guard: str) -> None:
    with open_replica() as replica:
        tx = replica.begin()
        if guard == "key":
            tx.guard(KEY)
        else:
            tx.guard_range(b"\x01a", b"\x01z")
        tx.put(b"\x01zz", b"depends")
        put(replica, KEY, b"claimed")
        with pytest.raises(Conflict):
            tx.commit()
        assert replica.get(b"\x01zz") is None


def test_a_put_covers_what_its_snapshot_had_seen_and_no_more() -> None:
    with open_replica(seed=1) as a, open_replica(seed=2) as b:
        tx = a.begin()
        tx.delete(KEY)
        put(b, KEY, b"unseen")
        exchange(a, b)
        tx.commit()
        exchange(a, b)
        assert value(a) == value(b) == b"unseen"


def test_concurrent_puts_stay_as_siblings_and_the_latest_is_read() -> None:
    clock_a, clock_b = ManualClock(1000), ManualClock(2000)
    with open_replica(seed=1, clock=clock_a) as a, open_replica(seed=2, clock=clock_b) as b:
        put(a, KEY, b"early")
        put(b, KEY, b"late")
        exchange(a, b)
        assert value(a) == value(b) == b"late"
        assert [s.value for s in decode_register(a.get(KEY) or b"")] == [b"late", b"early"]
        assert a.state_hash() == b.state_hash()
        put(a, KEY, b"merged")
        exchange(a, b)
        assert [s.value for s in decode_register(b.get(KEY) or b"")] == [b"merged"]


def test_records_are_admitted_once_in_causal_order() -> None:
    with open_replica(seed=1) as a, open_replica(seed=2) as b, open_replica(seed=3) as c:
        put(a, KEY, b"1")
        exchange(a, b)
        put(b, KEY, b"2")
        put(b, KEY, b"3")
        out = records(b)
        assert [decode(record).replica for record in out] == [a.id, b.id, b.id]
        assert c.apply(out[1:]) == (0, 0, 2)
        assert c.get(KEY) is None
        assert c.apply(out[:1]) == (3, 0, 0)
        assert value(c) == b"3"
        assert c.apply(out) == (0, 0, 0)
        assert c.state_hash() == b.state_hash()


def test_malformed_records_change_nothing() -> None:
    with open_replica(seed=1) as a, open_replica(seed=2) as b:
        put(a, KEY, b"1")
        good = records(a)[0]
        for bad in (good[:-1], good + b"x", b"", b"\x02" + good[1:], good[:41]):
            with pytest.raises(ProtocolViolation):
                b.apply([good, bad])
            assert b.vector == {}
            assert b.log.end == 0 or records(b) == []


def test_a_fork_is_refused() -> None:
    storage = MemoryStorage()
    with open_replica(storage, seed=1) as a:
        put(a, KEY, b"1")
        with open_replica(seed=2) as b:
            b.apply(records(a))
            other = open_replica(seed=1)  # the same id, another history
            assert other.id == a.id
            put(other, KEY, b"other 1")
            put(other, KEY, b"other 2")
            with pytest.raises(ProtocolViolation, match="fork"):
                b.apply(records(other))
            assert value(b) == b"1"
            other.close()


def test_everything_is_there_after_closing() -> None:
    storage = MemoryStorage()
    with open_replica(storage) as a:
        put(a, KEY, b"1")
        with a.begin() as tx:
            tx.insert(ROW, {1: "a"})
        before = (a.id, dict(a.vector), a.state_hash(), a.last_stamp)
    with open_replica(storage, seed=9) as a:
        assert (a.id, dict(a.vector), a.state_hash()) == before[:3]
        assert a.last_stamp >= before[3]
        assert put(a, KEY, b"2") == (a.id, 3)
        assert list(a.check()) == []


def test_the_log_alone_brings_everything_back() -> None:
    storage = MemoryStorage()
    a = open_replica(storage)
    for number in range(50):
        put(a, b"\x01%d" % number, b"v")
    digest, vector = a.state_hash(), dict(a.vector)
    after = storage.crash(None)  # everything synced is kept: durability was "commit"
    with open_replica(after) as b:
        assert b.state_hash() == digest
        assert b.vector == vector
        assert list(b.check()) == []


def test_a_wild_clock_is_parked_visibly_and_released() -> None:
    wall, wild = ManualClock(), ManualClock()
    wild.advance(3_600_000)
    with open_replica(seed=2, clock=wild) as b:
        storage = MemoryStorage()
        with open_replica(storage, seed=1, clock=wall) as a:
            put(b, KEY, b"from the future")
            put(b, KEY, b"and its child")
            applied = a.apply(records(b))
            assert (applied.admitted, applied.parked) == (0, 1)
            assert [p.replica for p in a.parked()] == [b.id]
            assert a.get(KEY) is None
            assert a.last_stamp < wild.now_ms() << 16
            a.apply(records(b))
            assert len(a.parked()) == 1
        with open_replica(storage, seed=1, clock=wall) as a:
            assert len(a.parked()) == 1
            assert a.release_parked() == 0
            wall.advance(3_600_000)
            assert a.release_parked() == 1
            a.apply(records(b, dict(a.vector)))
            assert value(a) == b"and its child"
            assert a.parked() == []
            assert list(a.check()) == []


def test_parked_records_are_released_by_command() -> None:
    wild = ManualClock()
    wild.advance(3_600_000)
    with open_replica(seed=2, clock=wild) as b, open_replica(seed=1) as a:
        put(b, KEY, b"from the future")
        a.apply(records(b))
        assert a.release_parked(force=True) == 1
        assert value(a) == b"from the future"
        put(a, KEY, b"later")
        assert value(a) == b"later"


def test_a_copied_directory_gets_a_new_id(tmp_path: Any) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with open_replica(DiskStorage(source)) as a:
        put(a, KEY, b"1")
        first = a.id
    os.system(f"cp -r {source} {target}")
    with open_replica(DiskStorage(target), seed=5) as b:
        assert b.id != first
        assert b.renewed is not None
        assert b.vector == {first: 1}
        assert put(b, KEY, b"2") == (b.id, 1)
    with open_replica(DiskStorage(source), seed=5) as a:
        assert a.id == first


def test_an_unclean_end_under_none_gets_a_new_id() -> None:
    storage = MemoryStorage()
    a = open_replica(storage, durability="none")
    put(a, KEY, b"1")
    with open_replica(storage.crash(None), seed=5, durability="none") as b:
        assert b.id != a.id
    storage = MemoryStorage()
    with open_replica(storage, durability="none") as a:
        put(a, KEY, b"1")
    with open_replica(storage, seed=5) as b:
        assert b.id == a.id
        assert value(b) == b"1"


def test_only_what_is_durable_is_told() -> None:
    with open_replica(durability="batched", sync_interval_ms=None) as a:
        told: list[int] = []
        a.subscribe(lambda: told.append(1))
        put(a, KEY, b"1")
        assert a.vector == {a.id: 1}
        assert a.durable_vector == {}
        assert records(a) == []
        a.sync()
        assert a.durable_vector == {a.id: 1}
        assert len(records(a)) == 1
        assert told


def test_the_background_sync_of_batched(tmp_path: Any) -> None:
    import threading

    moved = threading.Event()
    with Replica.open(DiskStorage(tmp_path / "a"), sync_interval_ms=1) as a:
        a.subscribe(moved.set)
        put(a, KEY, b"1")
        assert moved.wait(PATIENCE_S)
        assert a.durable_vector == {a.id: 1}


def test_a_directory_has_one_owner(tmp_path: Any) -> None:
    mine = str(os.getpid())
    with open_replica(DiskStorage(tmp_path / "a")), pytest.raises(Locked, match=mine):
        open_replica(DiskStorage(tmp_path / "a"))


def test_a_closed_replica_says_so() -> None:
    a = open_replica()
    tx = a.begin()
    a.close()
    a.close()
    for use in (a.begin, a.snapshot, lambda: a.get(KEY), lambda: put(a, KEY, b"x")):
        with pytest.raises(Closed):
            use()
    tx.put(KEY, b"x")
    with pytest.raises(Closed):
        tx.commit()


def test_unknown_kinds_are_kept_and_forwarded() -> None:
    with open_replica(seed=1) as a, open_replica(seed=2) as b, open_replica(seed=3) as c:
        with a.begin() as tx:
            tx.put(KEY, b"known")
            tx._changes[b"\x03future"] = tx._changes[KEY]  # a cell type of some later release
            operations = tx.operations
            tx.operations = lambda: [  # type: ignore[method-assign]
                *[o for o in operations() if o.key == KEY],
                Operation(200, b"\x03future", b"opaque"),
            ]
        b.apply(records(a))
        c.apply(records(b))
        assert records(c) == records(a)
        assert value(c) == b"known"
        assert c.get(b"\x03future") is None


def test_too_large_a_transaction_is_refused_and_changes_nothing() -> None:
    with open_replica() as a:
        with pytest.raises(InvalidInput, match="larger than"):
            put(a, KEY, bytes(65 << 20))
        assert a.vector == {}
        put(a, KEY, b"small")
        assert a.vector == {a.id: 1}


def test_a_lost_replica_file_is_corruption() -> None:
    storage = MemoryStorage()
    with open_replica(storage) as a:
        put(a, KEY, b"1")
    storage.remove("REPLICA")
    with pytest.raises(Corruption, match="REPLICA"):
        open_replica(storage)


def interrupted(replica: Replica, at: int, act: Callable[[], object]) -> bool:
    """Run `act`, raising KeyboardInterrupt at the at-th line executed in kvcore; whether it was."""
    count = 0

    def tracer(frame: Any, event: str, _: object) -> Any:
        nonlocal count
        caller = frame.f_back.f_code.co_filename if frame.f_back else ""
        file = frame.f_code.co_filename
        if "kvcore" not in file or "memory_" in file or caller.endswith("weakref.py"):
            return None  # the twin of the disk is not under test; finalizers swallow exceptions
        # Entering a `try` and leaving a `with` are line events too, but no signal is handled there:
        # CPython looks for one after calls and at jumps.
        line = linecache.getline(file, frame.f_lineno).strip()
        if event == "line" and not line.startswith(("with ", "try:")):
            count += 1
            if count == at:
                raise KeyboardInterrupt
        return tracer

    before = sys.gettrace()
    gc.disable()  # what is raised in a finalizer is swallowed
    sys.settrace(tracer)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    return False


def test_ctrl_c_anywhere_in_a_commit_leaves_memory_and_disk_agreeing() -> None:
    at = 1
    while True:
        storage = MemoryStorage()
        a = open_replica(storage, durability="batched", sync_interval_ms=None)
        put(a, KEY, b"before")
        hit = interrupted(a, at, partial(put, a, KEY, b"during"))
        # The next use settles it; the interrupted write is there whole or not at all.
        put(a, b"\x01other", b"after")
        assert value(a) in (b"before", b"during")
        assert a.vector[a.id] == (2 if value(a) == b"before" else 3)
        digest, vector = a.state_hash(), dict(a.vector)
        assert list(a.check()) == []
        a.sync()
        with open_replica(storage.crash(None), seed=4) as b:
            assert b.state_hash() == digest
            assert b.vector == vector
        a.close()
        if not hit:
            break
        at += 1
    assert at > 20


def test_what_stood_is_read_while_the_transaction_writes() -> None:
    replica = open_replica()
    put(replica, b"\x01a", b"0")
    with replica.begin() as transaction:
        transaction.put(b"\x01b", b"1")
        standing = transaction.standing()
        transaction.put(b"\x01a", b"2")
        transaction.delete(b"\x01b")
        transaction.put(b"\x01c", b"3")
        keys = (b"\x01a", b"\x01b", b"\x01c")
        before = [standing.get(key) for key in keys]
        assert before != [transaction.get(key) for key in keys]
        assert [key for key, _ in standing.scan(b"\x01", b"\x02")] == [b"\x01a", b"\x01b"]
        with pytest.raises(Closed):
            standing.put(b"\x01d", b"4")
        put(replica, b"\x01z", b"somebody else")
        standing.get(b"\x01y")  # counts as read by the transaction
        transaction.put(b"\x01y", b"5")
        put(replica, b"\x01y", b"theirs")
        with pytest.raises(Conflict):
            transaction.commit()
