"""Back-pressure and the rate limit, on time that passes only when it is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore import kernel
from murmur.kvcore.engine import Engine
from murmur.kvcore.kernel import Entry
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.pressure import (
    FIRST_RATE,
    FULLEST,
    LEAST_NAP_S,
    LEVEL0,
    NAP_S,
    STEPS,
    UNFLUSHED,
    Brake,
    Bucket,
)
from murmur.kvcore.tree import Tree

MB = 1 << 20
OPTIONS = Options(memtable_bytes=MB, level0_tables=8)  # slow at 12 tables, stopped at 28


class ManualPace:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0
        self.naps: list[float] = []

    def now_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += int(seconds * 1e9)


def brake(tables: int = 0, frozen: int = 0) -> Brake:
    made = Brake(OPTIONS)
    made.look(tables, frozen, frozen * MB, 0)
    return made


def test_without_anything_piled_up_nothing_is_owed() -> None:
    calm = brake(11)
    assert calm.threshold == MB
    assert calm.pressure(MB) == (0, LEVEL0)
    for size in range(0, MB, 1000):
        calm.charge(size)
    assert calm.nap(MB) == 0


def test_a_writer_is_slowed_long_before_it_is_stopped() -> None:
    pressures = [brake(tables).pressure(MB // 2)[0] for tables in range(29)]
    assert pressures[:12] == [0] * 12
    assert pressures == sorted(pressures)
    assert 0 < pressures[12] < 0.1
    assert 0.9 < pressures[27] < pressures[28] == FULLEST


@given(st.integers(0, 27), st.integers(0, 2), st.integers(0, MB - 1000), st.integers(1, 999))
def test_the_pressure_does_not_jump(tables: int, frozen: int, size: int, more: int) -> None:
    made = brake(tables, frozen)
    before, after = made.pressure(size)[0], made.pressure(size + more)[0]
    assert before <= after <= before + 2 * more / MB
    # A memtable that is frozen, and then flushed, changes nothing that was written.
    assert abs(brake(tables, 1).pressure(0)[0] - brake(tables).pressure(MB)[0]) < 1e-9
    assert brake(tables + 1).pressure(size)[0] <= brake(tables, 1).pressure(size)[0]


def test_at_half_the_pressure_one_writes_as_fast_as_is_drained() -> None:
    half = brake(19)
    half.charge(MB)  # from 19 tables to 20: (20 - 12) / 16 is a half
    assert half.cause == LEVEL0
    assert abs(half.debt - MB / FIRST_RATE) < 1e-9


def test_what_is_owed_is_slept_in_naps_and_forgiven_when_the_pressure_goes() -> None:
    made = brake(27)
    made.charge(MB)
    owed = made.debt
    assert owed > 0.1
    assert made.nap(MB) == NAP_S
    made.slept(NAP_S)
    assert abs(made.debt - (owed - NAP_S)) < 1e-9
    made.slept(owed)
    assert made.debt == -NAP_S, "what was overslept is credited, within bounds"
    assert made.nap(MB) == 0
    made.debt = owed
    made.look(0, 0, 0, 0)
    assert made.nap(0) == 0
    assert made.debt == 0


def test_the_rate_is_what_was_drained_of_late() -> None:
    slow, fast = brake(19), brake(19)
    for _ in range(20):
        slow.drained(LEVEL0, MB, 10**9)
        fast.drained(LEVEL0, 100 * MB, 10**9)
    slow.charge(MB)
    fast.charge(MB)
    assert abs(slow.debt - 1) < 0.5
    assert abs(fast.debt - 0.01) < 0.005
    slow.drained(UNFLUSHED, 0, 5)
    slow.drained(UNFLUSHED, 5, 0)


def test_unflushed_bytes_press_as_well() -> None:
    made = brake(0, 1)
    assert made.threshold == MB // 2
    assert made.pressure(MB) == (1 / 3, UNFLUSHED)


@given(st.lists(st.integers(1, MB // 8), max_size=20), st.lists(st.booleans(), min_size=20))
def test_what_is_written_is_charged_once(pieces: list[int], looks: list[bool]) -> None:
    made, once = brake(19), brake(19)
    size = 0
    for piece, looked in zip(pieces, looks, strict=False):
        size += piece
        made.charge(size)
        if looked:  # a merge ended meanwhile, and changed nothing here
            made.look(19, 0, 0, size)
    once.charge(size)
    assert made.debt <= once.debt
    made.look(19, 1, MB, 0)
    assert made.due <= MB // STEPS or made.debt >= LEAST_NAP_S, "another memtable begins anew"


def test_within_a_step_the_writer_need_not_ask() -> None:
    made = brake(19)
    assert made.due == MB // STEPS
    made.charge(MB // 2)
    assert made.debt >= LEAST_NAP_S
    assert made.due == 0, "it is to pay"
    made.slept(1)
    assert made.due == MB // 2 + MB // STEPS
    assert brake(11).due == MB, "there is no pressure before"


# -- the limit


def test_a_bucket_lets_so_many_bytes_pass_a_second() -> None:
    pace = ManualPace()
    bucket = Bucket(10 * MB, pace)
    for _ in range(100):
        pace.sleep(bucket.take(MB, urgent=False))
    assert abs(pace.now - 10 * 10**9) < 10**8


def test_flushes_go_first_on_credit() -> None:
    pace = ManualPace()
    bucket = Bucket(10 * MB, pace)
    assert [bucket.take(MB, urgent=True) for _ in range(10)] == [0] * 10
    assert abs(bucket.take(MB, urgent=True) - 0.1) < 1e-6
    assert abs(bucket.take(MB, urgent=False) - 1.2) < 1e-6, "a merge waits for all of it"


def test_an_idle_bucket_saves_little() -> None:
    pace = ManualPace()
    bucket = Bucket(10 * MB, pace)
    pace.sleep(3600)
    assert bucket.take(MB, urgent=False) == 0
    assert bucket.take(MB, urgent=False) > 0


def test_without_a_limit_nobody_waits() -> None:
    assert Bucket(0, ManualPace()).take(1 << 40, urgent=False) == 0


# -- in a tree


def test_a_tree_slows_its_writer_and_says_why() -> None:
    pace = ManualPace()
    options = Options(memtable_bytes=64 << 10, level0_tables=2, pending_memtables=8)
    tree = Tree.open(MemoryStorage(), options=options, pace=pace)
    tree._upkeep._merges.full = OSError("held")  # no merge begins
    tree._upkeep._retry = lambda: None  # type: ignore[method-assign]
    batch: list[Entry] = [(b"%06d" % number, b"v" * 100) for number in range(100)]
    for turn in range(12):
        while not tree.full():
            tree.write(batch)
        tree.flush(b"%d" % turn)
    stalls = tree.stats()["stalls"]
    assert isinstance(stalls, dict)
    assert stalls["level0"]["count"] > 0
    assert stalls["level0"]["total_us"] * 1000 <= pace.now
    assert stalls["memtables_stop"]["count"] == 0
    assert pace.naps
    del tree._upkeep._retry
    tree.compact()
    before = len(pace.naps)
    while not tree.full():
        tree.write(batch)
    tree.write(batch)
    assert len(pace.naps) == before, "it recovers at once"
    tree.close()


def test_under_pressure_too_a_native_writer_does_most_by_itself(tmp_path: Path) -> None:
    if kernel.Writer is None:
        pytest.skip("there is no native kernel")
    options = Options(memtable_bytes=4 * MB, level0_tables=2, pending_memtables=8)
    with Engine.open(tmp_path, durability="none", options=options) as engine:
        tree = engine._tree
        assert tree is not None
        tree._work.look = lambda: None  # type: ignore[method-assign]
        tree._brake.look(5, 0, 0, 0)  # half of the way from slow to stop
        by_hand: list[int] = []
        write = tree.write

        def written(*arguments: Any) -> int:
            by_hand.append(1)
            return write(*arguments)

        tree.write = written  # type: ignore[method-assign]
        for number in range(10_000):
            engine.put(b"%06d" % number, b"v" * 100)
        stalls = cast("dict[str, Any]", engine.stats()["stalls"])
        assert stalls["level0"]["count"] > 0
        assert len(by_hand) < 10_000 // 20


def test_a_limited_merge_sleeps_between_its_pieces() -> None:
    pace = ManualPace()
    options = Options(memtable_bytes=64 * MB, rate_limit_bytes=MB)
    tree = Tree.open(MemoryStorage(), options=options, pace=pace)
    for turn in range(3):
        tree.write([(b"%06d" % number, b"%d" % turn * 1000) for number in range(5000)])
        tree.flush(b"%d" % turn)
    flushed = pace.now
    tree.compact()
    written = tree.stats()["bytes_compacted"]
    assert isinstance(written, int)
    assert pace.now - flushed > (written - 2 * MB) / MB * 1e9
    tree.close()
