"""Snapshots joined into replicas: what comes of it, and what a power cut at any moment leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import (
    ChecksumMismatch,
    Conflict,
    Corruption,
    PeerError,
    ProtocolViolation,
    Trimmed,
)
from murmur.kvcore.backup import Backup
from murmur.kvcore.causality import join
from murmur.kvcore.cell import visible_fields, visible_value
from murmur.kvcore.clock import ManualClock
from murmur.kvcore.convert import convert
from murmur.kvcore.export import Chunk, Export, Manifest, content_hash, decode_manifest
from murmur.kvcore.log_reading import missing
from murmur.kvcore.mark import Tip
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.record import PUT, Operation
from murmur.kvcore.repair import repair
from murmur.kvcore.replica import Replica
from murmur.kvcore.spool import Spool
from murmur.kvcore.staging import Staging
from murmur.kvcore.storage import DiskStorage, read_whole, write_atomically
from tests.kvcore.each_cut import each_cut

FAR = 1 << 40


def opened(storage: Any, seed: int, clock: ManualClock | None = None, **options: Any) -> Replica:
    options = {"durability": "commit", "memtable_bytes": 4000, "segment_bytes": 2000, **options}
    clock = clock or ManualClock(1_767_225_600_000 + seed)
    return Replica.open(storage, clock=clock, random_bytes=Random(seed).randbytes, **options)


def write_some(replica: Replica, rng: Random, count: int) -> None:
    """Transactions on a few registers and rows: puts, deletes, edits, increments, resets."""
    for _ in range(count):
        key, row = b"\x01%d" % rng.randrange(20), b"\x02%d" % rng.randrange(20)
        with replica.begin() as tx:
            if rng.random() < 0.5:
                if rng.random() < 0.75:
                    tx.put(key, rng.randbytes(rng.choice((3, 3, 200))))
                else:
                    tx.delete(key)
            if tx.get(row) is None:
                tx.insert(row, {1: rng.randrange(99)}, {7: 0})
            elif rng.random() < 0.2:
                tx.remove(row)
            elif rng.random() < 0.5:
                tx.edit(row, {rng.choice((1, 2)): rng.randrange(99)})
            elif rng.random() < 0.8:
                tx.add(row, 7, rng.randrange(-5, 9))
            else:
                tx.reset(row, 7, rng.randrange(9))


def give(source: Replica, target: Replica, *, have: dict[bytes, int] | None = None) -> None:
    """What the target lacks, from the source's log."""
    vector = dict(target.vector) if have is None else have
    target.apply([record for _, record in source.log.missing(vector)])


def fetch(export: Export, storage: Any) -> Spool:
    spool = Spool(storage)
    spool.begin(export.encoded)
    for index in list(spool.lacking()):
        spool.add(index, export.chunk(index))
    return spool


def hand_over(source: Replica, target: Replica) -> None:
    """Join the source's state into the target."""
    export = source.export()
    spool = fetch(export, target.storage)
    target.adopt(spool)
    spool.clear()
    export.close()


def twin_of(*replicas: Replica) -> bytes:
    """The state hash of a replica that has admitted all that these have written."""
    with opened(MemoryStorage("twin"), 99) as twin:
        while True:
            before = dict(twin.vector)
            for replica in replicas:
                log = replica.log
                held = missing(log._storage, log._opened, log.segments, {}, FAR)
                twin.apply([record for _, record in held])
            if twin.vector == before:
                return twin.state_hash()


@pytest.fixture
def pair() -> Iterator[tuple[Replica, Replica]]:
    with opened(MemoryStorage("a"), 1) as a, opened(MemoryStorage("b"), 2) as b:
        yield a, b


@pytest.mark.parametrize("seed", range(12))
def test_a_join_of_states_is_the_state_of_all_transactions(seed: int) -> None:
    rng = Random(seed)
    with opened(MemoryStorage("a"), 1) as a, opened(MemoryStorage("b"), 2) as b:
        for _ in range(rng.randrange(1, 4)):
            write_some(a, rng, rng.randrange(10))
            write_some(b, rng, rng.randrange(30))
            if rng.random() < 0.7:
                give(*rng.choice(((a, b), (b, a))))
        expected = twin_of(a, b)
        hand_over(b, a)
        assert a.state_hash() == expected
        assert a.vector == join(a.vector, b.vector)
        assert list(a.check()) == []
        # What only it had is still in its log, and what came is not.
        give(a, b)
        assert b.state_hash() == expected
        write_some(a, rng, 10)
        write_some(b, rng, 10)
        give(a, b)
        give(b, a)
        assert a.state_hash() == b.state_hash()
        assert list(a.check()) == list(b.check()) == []
        storage = a.storage
        digest = a.state_hash()
        a.close()
        with opened(storage, 1) as again:
            assert again.state_hash() == digest
            assert list(again.check()) == []
            give(b, again)
            write_some(again, rng, 3)
            give(again, b)
            assert again.state_hash() == b.state_hash()


def test_a_log_that_a_snapshot_came_beside_does_not_serve_who_lacks_it(
    pair: tuple[Replica, Replica],
) -> None:
    a, b = pair
    write_some(b, Random(1), 30)
    hand_over(b, a)
    assert a.floor == {b.id: 30}
    with pytest.raises(Trimmed):
        list(a.log.missing({}))
    write_some(b, Random(2), 5)
    give(b, a)
    assert len(list(a.log.missing({b.id: 30}))) == 5
    assert list(a.check()) == []


@pytest.mark.parametrize("seed", range(6))
def test_what_is_written_while_a_snapshot_is_joined_is_not_lost(
    pair: tuple[Replica, Replica], seed: int
) -> None:
    """Writes and remote records fall between any two steps of the join."""
    rng = Random(seed)
    a, b = pair
    write_some(b, rng, 30)
    give(b, a)
    write_some(a, rng, 20)
    write_some(b, rng, 40)
    export = b.export()
    spool = fetch(export, a.storage)
    write_some(b, rng, 5)
    seen = 0

    def pause() -> None:
        nonlocal seen
        seen += 1
        if rng.random() < 0.6:
            write_some(a, rng, 1)
        elif rng.random() < 0.3:
            give(b, a)

    a.adopt(spool, pause)
    assert seen
    give(b, a)
    assert a.state_hash() == twin_of(a, b)
    assert list(a.check()) == []
    export.close()


def test_an_open_transaction_conflicts_with_a_snapshot(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    with b.begin() as tx:
        tx.insert(b"\x02row", {1: 5}, {})
    open_tx, blind = a.begin(), a.begin()
    assert open_tx.get(b"\x02row") is None
    open_tx.insert(b"\x02row", {1: 6}, {})
    blind.put(b"\x01k", b"v")
    hand_over(b, a)
    with pytest.raises(Conflict):
        open_tx.commit()
    blind.commit()
    assert visible_fields(a.get(b"\x02row") or b"") == {1: 5}


@pytest.mark.parametrize("where", ["_joined", "adopt"])
def test_an_interrupted_join_is_settled_by_whoever_comes_next(
    pair: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    a, b = pair
    write_some(a, Random(1), 5)
    write_some(b, Random(2), 20)
    expected = twin_of(a, b)
    owner = a._ledger if where == "_joined" else a._tree
    work = getattr(owner, where)

    def interrupted(*args: Any) -> None:
        monkeypatch.setattr(owner, where, work)
        if where == "adopt":
            work(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        hand_over(b, a)
    write_some(b, Random(3), 2)
    give(b, a)  # the records after the snapshot follow on it
    a.write([Operation(PUT, b"\x01new", b"v")])
    assert a.vector[b.id] == 22
    assert list(a.check()) == []
    storage, digest = a.storage, a.state_hash()
    assert digest != expected
    give(a, b)
    assert b.state_hash() == digest
    a.close()
    with opened(storage, 1) as again:
        assert again.state_hash() == digest
        assert list(again.check()) == []


def test_readers_keep_their_snapshot(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    write_some(b, Random(4), 30)
    a.write([Operation(PUT, b"\x01own", b"1")])
    with a.snapshot() as before:
        hand_over(b, a)
        assert len(list(before.scan(b"", None))) == 1
        assert before.vector == {a.id: 1}
    assert visible_value(a.get(b"\x01own") or b"") == b"1"


def test_parked_records_that_come_with_a_snapshot_are_no_longer_parked() -> None:
    wall = ManualClock(1_767_225_600_000)
    ahead = ManualClock(1_767_225_600_000 + 600_000)
    with opened(MemoryStorage("a"), 1, wall) as a, opened(MemoryStorage("b"), 2, ahead) as b:
        write_some(b, Random(1), 3)
        give(b, a)
        assert len(a.parked()) == 1  # the others wait for it
        with pytest.raises(PeerError, match="ahead"):
            hand_over(b, a)
        assert a.vector == {}
        wall.advance(600_000)
        hand_over(b, a)
        assert a.parked() == []
        assert a.state_hash() == b.state_hash()
        assert a.last_stamp >= b.last_stamp
        assert list(a.check()) == []
        storage = a.storage
        a.close()
        with opened(storage, 1, wall) as again:
            assert again.parked() == []


def test_the_clock_follows_a_snapshot() -> None:
    """Rule 4: an edit after a snapshot is later than what came in it."""
    wall, ahead = ManualClock(1_767_225_600_000), ManualClock(1_767_225_630_000)
    with opened(MemoryStorage("a"), 1, wall) as a, opened(MemoryStorage("b"), 2, ahead) as b:
        b.write([Operation(PUT, b"\x01k", b"theirs")])
        hand_over(b, a)
        a.write([Operation(PUT, b"\x01k", b"mine")])
        give(a, b)
        assert visible_value(b.get(b"\x01k") or b"") == b"mine"


@pytest.mark.parametrize(("more", "less"), [(4, 2), (2, 4), (3, 3)])
def test_a_fork_is_seen_before_anything_is_joined(more: int, less: int) -> None:
    with opened(MemoryStorage("b"), 2) as b:
        write_some(b, Random(1), 5)
        copied = b.storage.crash(None)  # type: ignore[attr-defined]
        write_some(b, Random(2), less)
        with opened(MemoryStorage("a"), 1) as a, opened(copied, 2) as twin:
            assert twin.id == b.id
            write_some(twin, Random(3), more)
            give(b, a)
            before = a.state_hash()
            # The one whose history is longer sees it: who makes the snapshot, or who takes it in.
            if more > less:
                with pytest.raises(ProtocolViolation, match="fork"):
                    twin.compare({b.id: (b.vector[b.id], a.tips[b.id])})
            else:
                with pytest.raises(ProtocolViolation, match="fork"):
                    hand_over(twin, a)
            assert a.state_hash() == before


def test_a_directory_that_was_put_back_is_told_so() -> None:
    with opened(MemoryStorage("b"), 2) as b, opened(MemoryStorage("a"), 1) as a:
        write_some(b, Random(1), 5)
        copied = b.storage.crash(None)  # type: ignore[attr-defined]
        write_some(b, Random(2), 2)
        give(b, a)
        with (
            opened(copied, 2) as earlier,
            pytest.raises(ProtocolViolation, match="earlier state"),
        ):
            hand_over(a, earlier)


@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_at_any_step_leaves_the_old_state_or_the_new(seed: int) -> None:
    rng = Random(seed)
    storage = MemoryStorage("a")
    with opened(storage, 1) as a, opened(MemoryStorage("b"), 2) as b:
        write_some(b, rng, 15)
        give(b, a)
        write_some(a, rng, 10)
        write_some(b, rng, 25)
        old, new = a.state_hash(), twin_of(a, b)
        before, union = dict(a.vector), join(a.vector, b.vector)
        export = b.export()
        cuts = {"old": 0, "new": 0}

        def examine(cut: int) -> None:
            for chance in (None, Random(seed), Random(seed + 1)):
                survivor = storage.crash(chance)
                with opened(survivor, 7) as after:
                    assert after.id == a.id
                    assert list(after.check()) == []
                    digest = after.state_hash()
                    assert digest in (old, new)
                    assert dict(after.vector) == (before if digest == old else union)
                    cuts["old" if digest == old else "new"] += 1
                    if digest == old:
                        # What was fetched is still there, and need not be fetched again.
                        spool = Spool(survivor)
                        if spool.manifest is None:
                            spool.begin(export.encoded)
                        for index in list(spool.lacking()):
                            spool.add(index, export.chunk(index))
                        after.adopt(spool)
                        assert after.state_hash() == new
                    write_some(after, Random(9), 2)
                    give(after, b, have={**b.vector})
                    assert list(after.check()) == []

        twin = opened(b.storage.crash(None), 2)  # type: ignore[attr-defined]
        b.close()
        b = twin
        with each_cut(storage, examine):
            spool = fetch(export, storage)
            a.adopt(spool)
            spool.clear()
        assert min(cuts.values()) > 5
        assert a.state_hash() == new
        b.close()


def test_a_full_disk_leaves_the_old_state(pair: tuple[Replica, Replica]) -> None:
    a, b = pair
    write_some(a, Random(1), 10)
    write_some(b, Random(2), 40)
    before = a.state_hash()
    export = b.export()
    spool = fetch(export, a.storage)
    for room in (0, 100, 600, 2000):
        a.storage.limit(room)  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="space"):
            a.adopt(spool)
        a.storage.limit(None)  # type: ignore[attr-defined]
        assert a.state_hash() == before
        assert list(a.check()) == []
    a.adopt(spool)
    assert a.state_hash() == twin_of(a, b)
    export.close()


@pytest.mark.parametrize("backend", ["lsm", "sqlite"])
def test_snapshots_are_of_every_backend(tmp_path: Path, backend: str) -> None:
    rng = Random(3)
    with (
        opened(DiskStorage(tmp_path / "a"), 1, backend=backend) as a,
        opened(DiskStorage(tmp_path / "b"), 2) as b,
    ):
        write_some(a, rng, 30)
        give(a, b)
        write_some(a, rng, 10)
        write_some(b, rng, 60)
        expected = twin_of(a, b)
        with a.snapshot() as before:
            pairs = list(before.scan(b"", None))
            hand_over(b, a)
            assert list(before.scan(b"", None)) == pairs
        assert a.state_hash() == expected
        assert list(a.check()) == []
        hand_over(a, b)
        assert b.state_hash() == expected
        write_some(a, rng, 3)
    with opened(DiskStorage(tmp_path / "a"), 1) as a, opened(DiskStorage(tmp_path / "b"), 2) as b:
        assert list(a.check()) == list(b.check()) == []
        give(a, b)
        assert a.state_hash() == b.state_hash()


def test_much_is_staged_outside_of_memory() -> None:
    """What does not fit a run goes to files, and the entries come out in order."""
    storage = MemoryStorage("a")
    storage.make_directory("bootstrap")
    with opened(storage, 1) as a:
        for number in range(30):
            a.write([Operation(PUT, b"\x01%03d" % number, b"below")])
        with a.snapshot() as below:
            staging = Staging(storage, "bootstrap", below, run_bytes=2000)
            expected = dict(below.scan(b"", None))
            changes: dict[bytes, bytes | None] = {}
            rng = Random(1)
            for _ in range(60):
                batch = {
                    b"\x01%03d" % rng.randrange(60): rng.choice((None, rng.randbytes(50)))
                    for _ in range(5)
                }
                staging.write(batch.items())
                changes.update(batch)
                expected.update({k: v for k, v in batch.items() if v is not None})
                for key, value in batch.items():
                    if value is None:
                        expected.pop(key, None)
            assert len(storage.list("bootstrap")) > 2
            assert list(staging.entries()) == sorted(changes.items())
            assert list(staging.scan(b"", None)) == sorted(expected.items())
            backwards = staging.scan(b"", None, reverse=True)
            assert list(backwards) == sorted(expected.items(), reverse=True)
            assert [staging.get(key) for key in changes] == [expected.get(key) for key in changes]
            staging.close()
            assert storage.list("bootstrap") == []


def test_a_spool_keeps_what_it_has() -> None:
    storage = MemoryStorage("spool")
    with opened(MemoryStorage("b"), 2) as b:
        for number in range(40):
            b.write([Operation(PUT, b"\x01%03d" % number, bytes([number]) * 300_000)])
        export = b.export()
        count = len(export.manifest.chunks)
        assert count > 5
        spool = Spool(storage)
        spool.begin(export.encoded)
        with pytest.raises(ProtocolViolation, match="not what its manifest names"):
            spool.add(0, export.chunk(1))
        for index in range(0, count, 2):
            spool.add(index, export.chunk(index))
        again = Spool(storage.crash(Random(1)))
        assert list(again.lacking()) == list(range(1, count, 2))
        # Of a later snapshot most chunks are those of this one.
        b.write([Operation(PUT, b"\x01005", b"changed")])
        later = b.export()
        again.begin(later.encoded)
        assert len(list(again.lacking())) <= count // 2 + 2
        for index in list(again.lacking()):
            again.add(index, later.chunk(index))
        assert again.whole
        assert [k for k, _ in again.entries()] == [b"\x01%03d" % n for n in range(40)]
        export.close()
        later.close()


def test_damage_on_the_disk_is_fetched_again() -> None:
    storage = MemoryStorage("a")
    with opened(storage, 1) as a, opened(MemoryStorage("b"), 2) as b:
        write_some(b, Random(1), 10)
        export = b.export()
        spool = fetch(export, storage)
        name = next(n for n in storage.list("bootstrap") if n.endswith(".chunk"))
        data = bytearray(read_whole(storage, f"bootstrap/{name}"))
        data[7] ^= 1
        write_atomically(storage, f"bootstrap/{name}", bytes(data))
        with pytest.raises(ChecksumMismatch):
            a.adopt(spool)
        assert list(spool.lacking()) == [0]
        spool.add(0, export.chunk(0))
        a.adopt(spool)
        assert a.state_hash() == b.state_hash()
        export.close()


@pytest.mark.parametrize("seed", range(40))
def test_a_lying_snapshot_changes_nothing(seed: int) -> None:
    """Bytes that carry the right hashes and are not a state."""
    rng = Random(seed)
    with opened(MemoryStorage("a"), 1) as a, opened(MemoryStorage("b"), 2) as b:
        write_some(a, rng, 5)
        write_some(b, rng, 10)
        export = b.export()
        data = bytearray(export.chunk(0))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        lie = export.manifest.chunks[0]._replace(hash=content_hash(bytes(data)))
        manifest = export.manifest._replace(chunks=[lie])
        before = a.state_hash()
        spool = Spool(a.storage)
        spool.begin(manifest.encode())
        spool.add(0, bytes(data))
        try:
            a.adopt(spool)
        except ProtocolViolation:
            assert a.state_hash() == before
            assert a.vector == {a.id: 5}
        # else a value was changed, which nobody can know
        assert list(a.check()) == []
        export.close()


@given(st.binary(max_size=300), st.integers(0, 1 << 32))
def test_a_manifest_is_read_or_refused(noise: bytes, seed: int) -> None:
    rng = Random(seed)
    tips = {b"A" * 8: Tip(3, 9, b"h" * 16, {b"B" * 8: 2})}
    manifest = Manifest(9, tips, [Chunk(b"c" * 32, 10, 1, b"\x01a")])
    data = bytearray(manifest.encode())
    assert decode_manifest(bytes(data)) == manifest
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    for candidate in (noise, bytes(data)):
        try:
            decode_manifest(candidate)
        except ProtocolViolation:
            continue


# Trimming ---------------------------------------------------------------------


def test_a_trimmed_log_serves_whoever_has_what_was_trimmed() -> None:
    rng = Random(1)
    roomy = opened(MemoryStorage("a"), 1, memtable_bytes=1 << 20)
    with roomy as a, opened(MemoryStorage("b"), 2) as b:
        write_some(a, rng, 40)
        give(a, b)
        write_some(b, rng, 40)
        give(b, a)
        write_some(a, rng, 10)
        before, digest = dict(b.vector), a.state_hash()
        assert a.trim(a.vector, keep_bytes=0) == 0  # the tree has not flushed it
        a.flush()
        assert a.trim({}, keep_bytes=0) == 0  # nobody else has it
        assert a.trim(b.vector, keep_bytes=FAR) == 0  # there is room
        assert a.trim(b.vector, keep_bytes=FAR, before_ms=1) == 0  # it is not that old
        removed = a.trim(b.vector, keep_bytes=3000)
        assert removed > 3000
        assert a.log.end - a.log.start >= 3000
        with pytest.raises(Trimmed):
            list(a.log.missing({}))
        give(a, b, have=before)
        assert b.state_hash() == digest
        assert list(a.check()) == []
        write_some(a, rng, 3)
        storage = a.storage
        a.close()
        with opened(storage, 1) as again:
            assert again.log.start == removed
            assert list(again.check()) == []
            give(again, b)
            assert again.state_hash() == b.state_hash()
            again.flush()
            assert again.trim(b.vector, keep_bytes=FAR, before_ms=1 << 50) > 0
            give(again, b)
            assert list(again.check()) == []


def test_a_reading_that_trimming_overtakes_is_told_so() -> None:
    with opened(MemoryStorage("a"), 1) as a:
        write_some(a, Random(1), 60)
        a.flush()
        reading = a.log.missing({})
        next(reading)
        a.trim(a.vector, keep_bytes=0)
        with pytest.raises(Trimmed, match="removed meanwhile"):
            list(reading)


@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_while_trimming_loses_nothing(seed: int) -> None:
    storage = MemoryStorage("a")
    with opened(storage, 1) as a:
        write_some(a, Random(seed), 60)
        a.flush()
        digest = a.state_hash()

        def examine(cut: int) -> None:
            for chance in (None, Random(cut)):
                with opened(storage.crash(chance), 1) as after:
                    assert after.state_hash() == digest
                    assert list(after.check()) == []
                    write_some(after, Random(1), 2)
                    after.flush()
                    after.trim(after.vector, keep_bytes=0)
                    assert list(after.check()) == []

        with each_cut(storage, examine) as cuts:
            assert a.trim(a.vector, keep_bytes=500)
        assert cuts.count > 2


def test_two_halves_that_trimmed_what_the_other_lacks_join() -> None:
    rng = Random(4)
    with opened(MemoryStorage("a"), 1) as a, opened(MemoryStorage("b"), 2) as b:
        write_some(a, rng, 30)
        give(a, b)
        write_some(a, rng, 50)
        write_some(b, rng, 50)
        expected = twin_of(a, b)
        for replica in (a, b):
            replica.flush()
            assert replica.trim(replica.vector, keep_bytes=500)
        for one, other in ((a, b), (b, a)):
            with pytest.raises(Trimmed):
                list(one.log.missing(other.vector))
        hand_over(b, a)
        hand_over(a, b)
        assert a.state_hash() == b.state_hash() == expected
        write_some(a, rng, 5)
        give(a, b)
        assert a.state_hash() == b.state_hash()
        assert list(a.check()) == list(b.check()) == []


def test_a_tree_that_is_gone_is_not_made_from_a_log_without_its_head() -> None:
    storage = MemoryStorage("a")
    with opened(storage, 1) as a:
        write_some(a, Random(1), 60)
        a.flush()
        a.trim(a.vector, keep_bytes=500)
    for name in storage.list("tree"):
        storage.remove(f"tree/{name}")
    with pytest.raises(Corruption, match="trimmed"):
        opened(storage, 1)


def test_a_damaged_directory_without_its_logs_head_is_saved_from_its_tables(
    tmp_path: Path,
) -> None:
    with opened(DiskStorage(tmp_path / "a"), 1) as a, opened(MemoryStorage("b"), 2) as b:
        write_some(b, Random(2), 20)
        hand_over(b, a)
        write_some(a, Random(1), 20)
        digest = a.state_hash()
    repair(tmp_path / "a", tmp_path / "saved")
    with opened(DiskStorage(tmp_path / "saved"), 1) as saved:
        assert saved.state_hash() == digest
        assert list(saved.check()) == []


def test_backups_and_conversions_of_a_trimmed_directory(tmp_path: Path) -> None:
    with opened(DiskStorage(tmp_path / "a"), 1) as a:
        write_some(a, Random(1), 60)
        a.flush()
        assert a.trim(a.vector, keep_bytes=500)
        write_some(a, Random(2), 3)
        digest = a.state_hash()
        a.backup(str(tmp_path / "backup"))
    Backup(DiskStorage(tmp_path / "backup")).restore(DiskStorage(tmp_path / "restored"))
    convert(DiskStorage(tmp_path / "a"), "sqlite")
    for name in ("a", "restored"):
        with opened(DiskStorage(tmp_path / name), 3) as back:
            assert back.state_hash() == digest
            assert list(back.check()) == []
            assert back.floor
