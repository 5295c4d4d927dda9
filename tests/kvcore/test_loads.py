"""Blocks that go past the memtable: whole or not at all, through cuts, full disks and Ctrl-C.

What `check` and `state_hash` compare with is the same transaction, replayed row by row.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from murmur.errors import MurmurError
from murmur.kvcore import tree as tree_module
from murmur.kvcore import upkeep as upkeep_module
from murmur.kvcore import work as work_module
from murmur.kvcore.cell import visible_fields
from murmur.kvcore.clock import ManualClock
from murmur.kvcore.kernel.block_plan import BlockPlan, KeyPart, RowSource
from murmur.kvcore.kernel.blocks import RowBlock, RowEncoder
from murmur.kvcore.kernel.fields import INTEGER, TEXT, FieldSpec
from murmur.kvcore.mark import decode_mark
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.record import (
    INSERT,
    PUT,
    RECORD,
    Insertion,
    Malformed,
    Operation,
    decode,
    encode,
)
from murmur.kvcore.replica import Replica
from tests.kvcore.each_cut import each_cut
from tests.kvcore.interrupt import Interrupt

NUMBER = FieldSpec(1, INTEGER, "i", width=4, low=-(2**31), high=2**31 - 1)
NAME = FieldSpec(2, TEXT, "u")
PLAN = BlockPlan((1, 2), (), b"\x02\x02table", (KeyPart(0, NUMBER),))
BESIDE, AFTER = b"\x01beside", b"\x01after"
ROWS, MEMTABLE = 60, 2000


def block_of(numbers: Iterator[int] | range, name: str = "a name of some length") -> RowBlock:
    encoder = RowEncoder(PLAN)
    encoder.bind([RowSource(NUMBER, 0, int), RowSource(NAME, 1, str)], 2)
    encoder.add_rows([(number, name) for number in numbers])
    return encoder.finish()


def opened(storage: Any, seed: int = 1, **options: Any) -> Replica:
    options = {"durability": "commit", "memtable_bytes": MEMTABLE, "segment_bytes": 9000, **options}
    return Replica.open(
        storage, clock=ManualClock(), random_bytes=Random(seed).randbytes, **options
    )


def load(replica: Replica, start: int = 0, count: int = ROWS) -> None:
    with replica.begin() as tx:
        tx.put(BESIDE, b"%d" % start)
        for first in range(start, start + count, count // 3):
            tx.load(block_of(range(first, min(first + count // 3, start + count))))


def numbers(replica: Replica) -> list[int]:
    with replica.snapshot() as snapshot:
        cells = [cell for _, cell in snapshot.scan(PLAN.prefix, b"\x02\x03")]
    return [visible_fields(cell)[1] for cell in cells]  # type: ignore[misc]


def is_whole(replica: Replica, start: int = 0) -> bool:
    """Whether the load is there; else nothing of it may be."""
    found = numbers(replica)
    assert found in ([], list(range(start, start + ROWS)))
    assert (replica.get(BESIDE) is not None) == bool(found)
    return bool(found)


def goes_on(replica: Replica) -> None:
    replica.write([Operation(PUT, AFTER, b"on")])
    before = len(numbers(replica))
    load(replica, 1000)
    assert len(numbers(replica)) == before + ROWS
    assert list(replica.check()) == []


def test_a_load_becomes_tables_and_leaves_the_memtable_empty() -> None:
    with opened(MemoryStorage()) as replica:
        replica.write([Operation(PUT, AFTER, b"before")])
        with replica.snapshot() as earlier:
            load(replica)
            assert list(earlier.scan(PLAN.prefix, b"\x02\x03")) == []
        assert is_whole(replica)
        assert replica.stats()["memtable_entries"] == 0
        replica._tree.settle()
        assert is_whole(replica)
        assert replica.stats()["unflushed_bytes"] == 0
        mark = decode_mark(replica._tree.mark)
        assert (mark.position, mark.tips[replica.id].seq) == (replica.log.end, 2)
        assert list(replica.check()) == []
        with replica.begin() as tx:
            tx.edit(PLAN.prefix + block_of(range(7, 8)).key(0)[len(PLAN.prefix) :], {2: "new"})
        assert [visible_fields(replica.get(block_of(range(7, 8)).key(0)) or b"")[2]] == ["new"]


def held_up(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No tables are made before this is set."""
    flush, may = work_module.Work.flush, threading.Event()

    def later(self: Any, *rest: Any) -> None:
        may.wait(10)
        flush(self, *rest)

    monkeypatch.setattr(work_module.Work, "flush", later)
    return may


def key_of(number: int) -> bytes:
    return block_of(range(number, number + 1)).key(0)


def test_what_is_loaded_is_read_and_changed_before_it_is_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may = held_up(monkeypatch)
    storage = MemoryStorage()
    with opened(storage) as replica:
        replica.write([Operation(PUT, AFTER, b"before")])
        load(replica)
        with replica.snapshot() as whole:
            with replica.begin() as tx:
                tx.remove(key_of(3))
                tx.edit(key_of(5), {2: "new"})
            assert len(list(whole.scan(PLAN.prefix, b"\x02\x03"))) == ROWS
        assert numbers(replica) == [number for number in range(ROWS) if number != 3]
        assert replica.get(key_of(3)) is None
        assert visible_fields(replica.get(key_of(5)) or b"")[2] == "new"
        assert list(replica.check()) == []
        digest = replica.state_hash()
        crashed = storage.crash(None)
        may.set()
        replica._tree.settle()
        assert replica.state_hash() == digest
        assert list(replica.check()) == []
    for left in (crashed, storage):
        with opened(left, seed=9) as again:
            assert again.state_hash() == digest
            assert list(again.check()) == []


def test_a_third_load_waits_for_the_tables_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    may = held_up(monkeypatch)
    with opened(MemoryStorage()) as replica:
        for start in (0, 100):
            load(replica, start)
        assert replica.stats()["frozen_memtables"] == 2
        third = threading.Thread(target=load, args=(replica, 200))
        third.start()
        third.join(0.05)
        assert third.is_alive()
        assert replica.log.end == replica._ledger.published.position  # it is not in the log either
        may.set()
        third.join(10)
        assert numbers(replica) == [*range(ROWS), *range(100, 100 + ROWS), *range(200, 200 + ROWS)]
        replica._tree.settle()
        assert list(replica.check()) == []


def test_interleaved_blocks_become_one_run() -> None:
    with opened(MemoryStorage()) as replica:
        with replica.begin() as tx:
            for shift in range(4):
                tx.load(block_of(range(shift, 200, 4)))
        assert numbers(replica) == list(range(200))
        assert list(replica.check()) == []


def test_a_peer_that_applies_the_record_row_by_row_holds_the_same() -> None:
    with opened(MemoryStorage()) as replica, opened(MemoryStorage(), seed=2) as peer:
        load(replica)
        load(replica, 500)
        records = [record for _, record in replica.log.missing({})]
        assert peer.apply(records).admitted == 2
        assert peer.state_hash() == replica.state_hash()
        assert peer.tips == replica.tips


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_record_of_rows_is_malformed_or_another_record(data: st.DataObject) -> None:
    block = block_of(range(3))
    whole = bytearray(
        encode(b"replica!", 1, 5 << 16, bytes(16), {}, {}, [], [(3, block.operations())])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(41, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        operations = decode(bytes(whole)).operations
    except Malformed:
        return
    for kind, key, body in operations:
        assert kind != INSERT or (key[:1] == RECORD and isinstance(body, Insertion))


def test_power_is_cut_at_every_operation_of_a_load() -> None:
    storage = MemoryStorage()
    replica = opened(storage)
    replica.write([Operation(PUT, AFTER, b"before")])
    done, seen = False, {False: 0, True: 0}

    def examine(cut: int) -> None:
        for chance in (None, Random(3)):
            acknowledged = done
            after = storage.crash(chance)
            with opened(after, seed=7) as again:
                there = is_whole(again)
                assert there or not acknowledged
                assert list(again.check()) == []
                seen[there] += 1
                digest = again.state_hash()
            with opened(after, seed=8) as again:
                assert again.state_hash() == digest

    with each_cut(storage, examine):
        load(replica)
        done = True
        replica.close()
    assert seen[False] > 1
    assert seen[True] > 5


def test_a_disk_that_fills_at_any_point_loses_nothing() -> None:
    refused = loaded = 0
    for room in range(0, 16_000, 400):
        storage = MemoryStorage()
        replica = opened(storage, sync_interval_ms=None, durability="batched")
        replica.write([Operation(PUT, AFTER, b"before")])
        storage.limit(room)
        try:
            load(replica)
            loaded += 1
            assert is_whole(replica)
        except OSError as error:
            refused += error.errno == errno.ENOSPC
        storage.limit(None)
        is_whole(replica)
        goes_on(replica)
        replica.close()
        with opened(storage) as again:
            assert list(again.check()) == []
    assert refused > 3
    assert loaded > 3
    assert refused + loaded == 40


def test_a_power_cut_in_the_thread_that_makes_tables() -> None:
    cut = 1
    while True:
        storage = MemoryStorage()
        replica = opened(storage)
        storage.cut_power(cut)
        was_cut = False
        try:
            load(replica)
        except (PowerCut, MurmurError, OSError):
            was_cut = True
        with suppress(PowerCut, MurmurError, OSError):
            replica.close()
        with opened(storage.crash(Random(cut)), seed=5) as again:
            assert is_whole(again) or was_cut
            assert list(again.check()) == []
        if not was_cut:
            break
        cut += 1
    assert cut > 10


@pytest.mark.parametrize("step", [1, 2, 3])
def test_an_interrupt_leaves_all_or_nothing(step: int) -> None:
    line, seen = step, {False: 0, True: 0}
    modules = [tree_module, upkeep_module, work_module]
    while True:
        with opened(MemoryStorage()) as replica:
            replica.write([Operation(PUT, AFTER, b"before")])
            interrupt = Interrupt(line, modules)
            try:
                with interrupt:
                    load(replica)
            except KeyboardInterrupt:
                pass
            goes_on(replica)
            seen[0 in numbers(replica)] += 1
        if interrupt.left > 0:
            break
        line += 3
    assert seen[True] > 1
    assert seen[False] > 1
