"""Damaged files: an error that says where, or the same records; a torn end is cut and told of."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import ChecksumMismatch, Corruption
from murmur.kvcore import frame as frame_module
from murmur.kvcore import segment as segment_module
from murmur.kvcore.frame import FRAME_SIZE, MARKER, encode, find_witness
from murmur.kvcore.log import ADMITTED, PARKED, Log
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.segment import HEADER_SIZE, Block, Segment, encode_footer
from tests.kvcore.log_model import ALICE, BOB, record, records_of

FIRST = f"log/{0:016x}.log"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "BLOCK_BYTES", 150)


def written(count: int) -> list[bytes]:
    return [record((ALICE, BOB)[n % 2], n // 2 + 1, bytes([n]) * (n % 40)) for n in range(count)]


def closed_log() -> tuple[MemoryStorage, list[bytes], int]:
    """Three segments, closed in order."""
    storage = MemoryStorage()
    log = Log.open(storage, segment_bytes=400)
    records = written(18)
    for number, each in enumerate(records):
        log.append(PARKED if number % 5 == 4 else ADMITTED, [each])
    log.sync()
    log.close()
    assert len(storage.list("log")) == 3
    return storage, records, log.end


def damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    rng = Random(len(content))
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << rng.randrange(8)
        yield f"bit flipped at {at}", bytes(flipped)
        yield f"cut at {at}", content[:at]
        length = rng.randint(1, 64)
        zeroed = content[:at] + bytes(len(content[at : at + length])) + content[at + length :]
        if zeroed != content:
            yield f"{length} bytes zeroed at {at}", zeroed
        yield f"byte lost at {at}", content[:at] + content[at + 1 :]
        yield f"byte inserted at {at}", content[:at] + rng.randbytes(1) + content[at:]
        other = rng.randrange(len(content))
        pasted = content[:at] + content[other : other + length]
        pasted += content[len(pasted) :]
        if pasted != content:
            yield f"{length} bytes pasted from {other} to {at}", pasted


def test_any_damage_to_a_closed_log_is_named_or_harmless() -> None:
    storage, records, end = closed_log()
    missing = [each for number, each in enumerate(records) if number % 5 != 4]
    named = harmless = 0
    for name in storage.list("log"):
        for what, content in damages(storage.content(f"log/{name}")):
            damaged = storage.clone()
            damaged.corrupt(f"log/{name}", content)
            error: Corruption | None
            try:
                log = Log.open(damaged, clean_end=end)
                problems = list(log.check())
                found = records_of(log)
                lacking = [each for _, each in log.missing({})]
            except Corruption as caught:
                error = caught
            else:
                error = None
            if error is None:
                assert found == records, (name, what)
                assert lacking == missing, (name, what)
                assert problems == [], (name, what)
                harmless += 1
            else:
                assert error.path.endswith((name, "/log")), what
                assert 0 <= error.offset <= len(content), what
                named += 1
    assert named > 5000
    assert harmless > 100  # the last footer only spares work


def test_check_finds_what_reading_would_find() -> None:
    storage, _, end = closed_log()
    names = storage.list("log")
    log = Log.open(storage, clean_end=end)
    assert list(log.check()) == []
    for name in names:
        whole = storage.content(f"log/{name}")
        for at in range(0, len(whole), 7):
            storage.corrupt(f"log/{name}", whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            problems = list(log.check())
            if name != names[-1] or at < HEADER_SIZE + end - log.segments[-1].start:
                assert [problem.path for problem in problems] == [f"memory/log/{name}"], at
                assert abs(problems[0].offset - at) < 200
        storage.corrupt(f"log/{name}", whole)


def test_check_goes_on_behind_a_problem() -> None:
    storage, _, end = closed_log()
    log = Log.open(storage, clean_end=end)
    names = [f"log/{name}" for name in storage.list("log")]
    for name in names:
        whole = storage.content(name)
        storage.corrupt(name, whole[:30] + b"?" + whole[31:])
    storage.remove(FIRST)
    problems = list(log.check())
    assert [problem.path for problem in problems] == [f"memory/{name}" for name in names]
    assert "No such file" in problems[0].reason
    assert problems[1].offset == HEADER_SIZE


def test_segments_in_each_others_place_are_refused() -> None:
    storage, _, end = closed_log()
    one, two, _ = (f"log/{name}" for name in storage.list("log"))
    first, second = storage.content(one), storage.content(two)
    storage.corrupt(one, second)
    storage.corrupt(two, first)
    with pytest.raises(Corruption, match="the segment starts at"):
        Log.open(storage, clean_end=end)


def test_frames_in_each_others_place_are_refused() -> None:
    storage = MemoryStorage()
    log = Log.open(storage)
    ends = [log.append(ADMITTED, [record(ALICE, seq)]) for seq in range(1, 4)]
    log.sync()
    log.close()
    content = storage.content(FIRST)
    a, b = (
        slice(HEADER_SIZE, HEADER_SIZE + ends[0]),
        slice(HEADER_SIZE + ends[0], HEADER_SIZE + ends[1]),
    )
    storage.corrupt(FIRST, content[: a.start] + content[b] + content[a] + content[b.stop :])
    with pytest.raises(ChecksumMismatch):
        records_of(Log.open(storage, clean_end=ends[-1]))


def test_a_footer_that_says_something_else_than_the_frames_is_found() -> None:
    storage, _, end = closed_log()
    log = Log.open(storage, clean_end=end)
    segment = log.segments[0]
    content = storage.content(FIRST)[: HEADER_SIZE + segment.end]
    wrong = Segment(0, segment.end, (Block(segment.end, {ALICE: (1, 999)}),))
    storage.corrupt(FIRST, content + encode_footer(wrong))
    assert [problem.reason for problem in log.check()] == ["the footer was exchanged"]
    log = Log.open(storage, clean_end=end)
    assert log.segments[0] == wrong
    reasons = [problem.reason for problem in log.check()]
    assert reasons == ["the block's ranges are not those of its records"]


def test_a_frame_of_an_unknown_kind_is_refused() -> None:
    storage = MemoryStorage()
    log = Log.open(storage)
    log.sync()
    log.close()
    frame = encode(9, 0, 0, [record(ALICE, 1)])
    storage.corrupt(FIRST, storage.content(FIRST) + frame)
    with pytest.raises(Corruption, match="frame of unknown kind 9"):
        Log.open(storage, clean_end=len(frame))


class TestInterruptedChangeOfSegments:
    """An empty segment behind one whose footer did not last."""

    def unfinished(self) -> tuple[MemoryStorage, int]:
        storage = MemoryStorage()
        log = Log.open(storage, segment_bytes=100)
        end = log.append(ADMITTED, written(4))
        log.append(ADMITTED, written(1))
        log.rewind(end)
        return storage, end

    def test_the_empty_one_is_dropped(self) -> None:
        storage, end = self.unfinished()
        content = storage.content(FIRST)
        for size in range(HEADER_SIZE + end, len(content)):
            copy = storage.clone()
            copy.corrupt(FIRST, content[:size])
            log = Log.open(copy)
            assert records_of(log) == written(4)
            left = size - HEADER_SIZE - end
            assert (log.torn is None) == (left == 0 or left >= 4)  # less could be a torn frame
            assert copy.list("log") == [FIRST[4:]]
            log.append(ADMITTED, written(1))
            assert len(records_of(Log.open(copy))) == 5

    def test_what_lies_before_it_was_durable(self) -> None:
        storage, end = self.unfinished()
        content = storage.content(FIRST)
        for size in range(HEADER_SIZE + end):
            copy = storage.clone()
            copy.corrupt(FIRST, content[:size])
            with pytest.raises(Corruption):
                Log.open(copy)


class TestTornOrDamaged:
    """The last segment of a log whose process was killed, and nothing known of its end."""

    def synced_after_each(self, count: int) -> tuple[MemoryStorage, list[int]]:
        storage = MemoryStorage()
        log = Log.open(storage)
        ends = []
        for each in written(count):
            ends.append(log.append(ADMITTED, [each]))
            log.sync()
        return storage, ends

    def test_a_bad_frame_that_a_later_one_saw_durable_is_damage(self) -> None:
        storage, ends = self.synced_after_each(6)
        content = storage.content(FIRST)
        starts = [0, *ends]
        for at in range(HEADER_SIZE, len(content)):
            damaged = storage.clone()
            damaged.corrupt(FIRST, content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
            if at < HEADER_SIZE + ends[-2]:
                with pytest.raises(Corruption, match="it was durable before") as caught:
                    Log.open(damaged)
                start = max(start for start in starts if start + HEADER_SIZE <= at)
                assert caught.value.offset == start + HEADER_SIZE
            else:  # nobody saw the last one durable
                log = Log.open(damaged)
                assert records_of(log) == written(5)
                assert log.torn is not None

    def test_damage_changes_nothing(self) -> None:
        storage, _ = self.synced_after_each(6)
        content = storage.content(FIRST)
        broken = content[:50] + b"?" + content[51:]
        storage.corrupt(FIRST, broken)
        for _ in range(2):
            with pytest.raises(Corruption):
                Log.open(storage)
        assert storage.content(FIRST) == broken
        assert storage.list("log") == [FIRST[4:]]

    def test_a_bad_frame_among_unsynced_ones_is_the_torn_end(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        records = written(8)
        ends = [log.append(ADMITTED, [each]) for each in records[:3]]
        log.sync()
        ends += [log.append(ADMITTED, [each]) for each in records[3:]]
        content = storage.content(FIRST)
        for at in range(HEADER_SIZE + ends[2], len(content)):
            torn = storage.clone()
            torn.corrupt(FIRST, content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
            log = Log.open(torn)
            count = sum(HEADER_SIZE + end <= at for end in ends)
            assert records_of(log) == records[:count]
            offset = HEADER_SIZE + ends[count - 1]
            assert log.torn is not None
            assert log.torn[:3] == (f"memory/{FIRST}", offset, len(content) - offset)
            assert Log.open(torn.clone()).torn is None  # it is told once

    @pytest.mark.parametrize("zeros", [0, 1000])
    @pytest.mark.parametrize("rest", [b"x", b"\0x", b"\xff" * 50, MARKER + bytes(40) + b"x"])
    def test_what_follows_the_last_frame_is_a_torn_end(self, rest: bytes, zeros: int) -> None:
        storage, ends = self.synced_after_each(3)
        storage.corrupt(FIRST, storage.content(FIRST) + rest + bytes(zeros))
        for clean_end in (None, ends[-1]):
            again = storage.clone()
            log = Log.open(again, clean_end=clean_end)
            assert log.torn is not None
            assert log.torn[1:3] == (HEADER_SIZE + ends[-1], len(rest))
            assert log.end == ends[-1]
            assert Log.open(again.clone(), clean_end=clean_end).torn is None
            log.close()
            assert Log.open(again, clean_end=clean_end).torn is None

    @pytest.mark.parametrize("count", [1, 20, 21, 1000, 3 << 20])
    def test_zeros_are_room_that_was_preallocated(self, count: int) -> None:
        storage, ends = self.synced_after_each(3)
        frames = storage.content(FIRST)
        storage.corrupt(FIRST, frames + bytes(count))
        for clean_end in (None, ends[-1]):
            again = storage.clone()
            log = Log.open(again, clean_end=clean_end)
            assert (log.torn, log.end) == (None, ends[-1])
            assert records_of(log) == written(3)
            log.append(ADMITTED, [record(ALICE, 9)])
            assert records_of(Log.open(again.clone())) == [*written(3), record(ALICE, 9)]
            log.close()
            assert records_of(Log.open(again)) == [*written(3), record(ALICE, 9)]
        with pytest.raises(Corruption, match=r"no (frame begins here|whole frame)"):
            Log.open(storage.clone(), clean_end=ends[-1] + 1)

    def test_zeros_before_a_witness_are_damage(self) -> None:
        storage, ends = self.synced_after_each(4)
        content = storage.content(FIRST)
        lost = content[: HEADER_SIZE + ends[0]] + bytes(ends[1] - ends[0])
        storage.corrupt(FIRST, lost + content[len(lost) :] + bytes(500))
        with pytest.raises(Corruption, match="it was durable before"):
            Log.open(storage)

    def test_what_lies_before_the_clean_end_is_never_torn(self) -> None:
        storage, ends = self.synced_after_each(3)
        content = storage.content(FIRST)
        for clean_end in (ends[1] + 1, ends[2]):
            for size in range(HEADER_SIZE + ends[1], len(content)):
                damaged = storage.clone()
                damaged.corrupt(FIRST, content[:size])
                with pytest.raises(Corruption):
                    Log.open(damaged, clean_end=clean_end)

    def test_frames_before_a_valid_footer_are_never_torn(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        end = log.append(ADMITTED, written(4))
        log.sync()
        log.close()
        content = storage.content(FIRST)
        for at in range(HEADER_SIZE, HEADER_SIZE + end):
            damaged = storage.clone()
            damaged.corrupt(FIRST, content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
            with pytest.raises(Corruption):
                Log.open(damaged)

    def test_a_footer_that_was_never_finished_is_nothing_to_tell(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        end = log.append(ADMITTED, written(4))
        log.sync()
        log.close()
        content = storage.content(FIRST)
        for size in range(HEADER_SIZE + end + 4, len(content)):
            unfinished = storage.clone()
            unfinished.corrupt(FIRST, content[:size])
            log = Log.open(unfinished)
            assert log.torn is None
            assert records_of(log) == written(4)

    def test_frames_within_a_record_do_not_mislead(self) -> None:
        """A hostile record holds frames that claim all to be durable, or a footer."""
        for fake in (
            encode(ADMITTED, 1, 0, [record(BOB, 9)]) * 3,
            encode(ADMITTED, 1 << 40, 0, [record(BOB, 9)]) * 3,
            (MARKER + bytes(8)) * 50,
            encode_footer(Segment(0, 38)),
        ):
            hostile = record(ALICE, 2, fake)
            storage = MemoryStorage()
            log = Log.open(storage)
            log.append(ADMITTED, [record(ALICE, 1)])
            log.append(ADMITTED, [hostile])
            assert records_of(Log.open(storage.clone())) == [record(ALICE, 1), hostile]
            content = storage.content(FIRST)
            storage.corrupt(FIRST, content[: HEADER_SIZE + 38] + bytes(8) + content[66:])
            assert records_of(Log.open(storage)) == [record(ALICE, 1)]

    def test_a_search_that_takes_too_long_ends_with_a_refusal(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        position = 1000
        start = MARKER + bytes(4) + (50).to_bytes(4) + b"\1" + (position + 1).to_bytes(8)
        content = b"????" + start * 20
        assert find_witness(content, position) is None
        monkeypatch.setattr(frame_module, "_SEARCH_LIMIT", 100)
        assert find_witness(content, position) == position + 4 + 2 * FRAME_SIZE


@given(
    batches=st.lists(
        st.tuples(
            st.sampled_from([ADMITTED, PARKED]),
            st.lists(st.binary(max_size=300), min_size=1, max_size=5),
            st.booleans(),
        ),
        max_size=12,
    ),
    segment_bytes=st.integers(1, 2000),
    edit=st.tuples(st.integers(0, 1 << 30), st.integers(0, 1 << 30), st.binary(max_size=40)),
)
def test_no_edit_of_a_file_makes_other_records(
    batches: list[tuple[int, list[bytes], bool]],
    segment_bytes: int,
    edit: tuple[int, int, bytes],
) -> None:
    storage = MemoryStorage()
    log = Log.open(storage, segment_bytes=segment_bytes)
    seq = 0
    records: list[bytes] = []
    for kind, bodies, sync in batches:
        batch = [record(ALICE, seq + n, body) for n, body in enumerate(bodies, 1)]
        seq += len(batch)
        log.append(kind, batch)
        records += batch
        if sync:
            log.sync()
    log.sync()
    log.close()
    assert records_of(Log.open(storage.clone())) == records
    names = storage.list("log")
    name = f"log/{names[edit[0] % len(names)]}"
    content = storage.content(name)
    at = edit[1] % (len(content) + 1)
    storage.corrupt(name, content[:at] + edit[2] + content[at + len(edit[2]) :])
    try:
        found = records_of(Log.open(storage, clean_end=log.end))
    except Corruption:
        return
    assert found == records
