"""The log loses power at every single storage operation of random workloads.

What is left must open, hold a prefix of what was appended, all that was durable, no part of a
record, and nothing that was rewound; and it must still take records. Opening loses power, too.

A failure names its workload and cut; `examine(workload, cut)` replays it.
"""

from __future__ import annotations

import errno
from random import Random

import pytest

from murmur.errors import Poisoned
from murmur.kvcore import log as log_module
from murmur.kvcore import segment as segment_module
from murmur.kvcore.log import ADMITTED, PARKED, Log
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.segment import FOOTER_MARKER
from tests.kvcore.each_cut import each_cut
from tests.kvcore.log_model import ALICE, BOB, record

Entry = tuple[int, bytes]  # kind, record

SEGMENT_BYTES = 400
STEPS = 14


class Workload:
    """A random history of one log, the same for a seed wherever it is cut."""

    def __init__(self, seed: int, cut: int | None = None) -> None:
        self.seed = seed
        self.storage = MemoryStorage(preallocates=seed % 2 == 0)
        self.storage.cut_power(cut)
        self.rng = Random(seed)
        self.log: Log | None = None
        self.entries: list[Entry] = []
        self.ends: list[int] = []  # where each of them ends
        self.pending: list[Entry] = []  # what the step at hand might add
        self.clean_end: int | None = None
        self.floor = 0  # durable whatever happens
        self.seqs = {ALICE: 0, BOB: 0}

    def run(self) -> None:
        self.open()
        steps = [self.append] * 8 + [self.sync] * 4 + [self.rewind] * 2
        steps += [self.close_and_open, self.kill_and_open, self.fill_disk, self.fail_sync]
        for _ in range(STEPS):
            self.rng.choice(steps)()

    def open(self) -> None:
        self.log = Log.open(self.storage, segment_bytes=SEGMENT_BYTES, clean_end=self.clean_end)
        assert list(self.log.read(0)) == [
            (end, *entry) for end, entry in zip(self.ends, self.entries, strict=True)
        ]
        # Of a footer that found no room, so few bytes may be left that they could be a frame's.
        assert self.log.torn is None or self.log.torn.length < len(FOOTER_MARKER)
        self.note_durable()

    def note_durable(self) -> None:
        assert self.log is not None
        self.floor = max(self.floor, sum(end <= self.log.durable for end in self.ends))

    def new_batch(self) -> tuple[int, list[bytes]]:
        kind = self.rng.choice((ADMITTED, ADMITTED, PARKED))
        batch = []
        for _ in range(self.rng.randint(1, 3)):
            who = self.rng.choice((ALICE, BOB))
            self.seqs[who] += 1
            size = self.rng.choice((0, 0, 30, 30, 700))
            batch.append(record(who, self.seqs[who], self.rng.randbytes(size)))
        return kind, batch

    def append(self) -> None:
        assert self.log is not None
        kind, batch = self.new_batch()
        self.pending = [(kind, each) for each in batch]
        end = self.log.append(kind, batch)
        self.note_appended(batch)
        assert self.log.end == end
        self.pending = []
        self.note_durable()

    def note_appended(self, batch: list[bytes]) -> None:
        assert self.log is not None
        position = self.ends[-1] if self.ends else 0
        for each in batch:
            position += 21 + len(each)
            self.ends.append(position)
        assert position == self.log.end
        self.entries += self.pending

    def sync(self) -> None:
        assert self.log is not None
        self.log.sync()
        self.note_durable()

    def rewind(self) -> None:
        assert self.log is not None
        count = self.rng.randint(self.floor, len(self.ends))
        self.log.rewind(self.ends[count - 1] if count else 0)
        del self.entries[count:]
        del self.ends[count:]
        self.note_durable()

    def close_and_open(self) -> None:
        assert self.log is not None
        self.log.sync()
        self.note_durable()
        self.clean_end = self.log.end
        self.log.close()
        self.open()

    def kill_and_open(self) -> None:
        self.open()

    def fill_disk(self) -> None:
        assert self.log is not None
        kind, batch = self.new_batch()
        self.pending = [(kind, each) for each in batch]
        before = self.log.end
        if self.storage.preallocates and self.rng.random() < 0.5:
            # The next append may need no more room, and then succeeds.
            self.storage.limit(self.rng.choice((0, 100, 1000)))
            try:
                self.log.append(kind, batch)
            except OSError:
                assert self.log.end == before
            else:
                self.note_appended(batch)
            self.pending = []
            self.storage.limit(None)
            self.note_durable()
            return
        self.storage.fail("write", error=errno.ENOSPC, written=self.rng.randint(0, 60))
        with pytest.raises(OSError, match="No space left"):
            self.log.append(kind, batch)
        assert self.log.end == before
        self.pending = []
        self.note_durable()

    def fail_sync(self) -> None:
        assert self.log is not None
        if self.log.durable < self.log.end:
            self.storage.fail("sync")
            with pytest.raises(Poisoned):
                self.log.sync()
            with pytest.raises(Poisoned):
                self.log.append(ADMITTED, [record(ALICE, 1)])
            self.open()  # what the failed sync should have saved is still in the cache


def run_until_cut(seed: int, cut: int) -> bool:
    """Run a workload up to the cut, and check what is left. False: it ended before the cut."""
    work = Workload(seed, cut)
    try:
        work.run()
    except PowerCut:
        examine(work, cut)
        return True
    return False


def sweep(seed: int) -> int:
    """Cut the power at every operation of one run; how many there were."""
    work = Workload(seed)
    with each_cut(work.storage, lambda cut: examine(work, cut)) as cuts:
        work.run()
    return cuts.count


def examine(work: Workload, cut: int) -> None:
    if work.log is not None:
        work.note_durable()
    possible = work.entries + work.pending
    for chance in range(2):
        where = f"workload {work.seed}, cut {cut}, chance {chance}"
        survivor = work.storage.crash(Random(chance * 1000 + cut))
        nested = survivor.clone()
        log = check(survivor, work, possible, where)
        log.append(ADMITTED, [record(b"later...", 1)])
        log.sync()
        again = Log.open(survivor.crash(None))
        assert [each for _, _, each in again.read(0)][-1] == record(b"later...", 1), where
        assert again.end == log.end, where
        # A second cut while recovering from the first.
        nested.cut_power(Random(cut).randint(1, 12))
        try:
            Log.open(nested, segment_bytes=SEGMENT_BYTES, clean_end=work.clean_end)
        except PowerCut:
            check(nested.crash(Random(cut)), work, possible, where + ", nested")


def check(storage: MemoryStorage, work: Workload, possible: list[Entry], where: str) -> Log:
    log = Log.open(storage, segment_bytes=SEGMENT_BYTES, clean_end=work.clean_end)
    found = [(kind, each) for _, kind, each in log.read(0)]
    assert found == possible[: len(found)], where
    assert len(found) >= work.floor, where
    assert list(log.check()) == [], where
    assert [each for _, each in log.missing({})] == [e for kind, e in found if kind == ADMITTED]
    assert log.durable == log.end, where
    return log


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "BLOCK_BYTES", 150)
    monkeypatch.setattr(log_module, "PREALLOCATED", 100)


@pytest.mark.parametrize("seed", range(25))
def test_power_cut_at_every_operation(seed: int) -> None:
    assert sweep(seed) > 30
    cut = 1 + seed % 12
    while run_until_cut(seed, cut):
        cut += 12


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 2500))
def test_power_cut_at_every_operation_of_many_workloads(seed: int) -> None:
    assert sweep(seed) > 30
    cut = 1 + seed % 7
    while run_until_cut(seed, cut):
        cut += 7
