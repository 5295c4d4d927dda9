"""The log by example: positions, segments, reading, what peers lack, opening again, formats."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from murmur.errors import Closed, Corruption, InvalidInput, UnknownFormat
from murmur.kvcore import segment as segment_module
from murmur.kvcore.frame import CHUNK, FRAME_SIZE, encode
from murmur.kvcore.log import ADMITTED, PARKED, Log
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.segment import HEADER_SIZE
from murmur.kvcore.storage import DiskStorage, Storage
from tests.kvcore.log_model import ALICE, BOB, record, records_of


@pytest.fixture(params=["disk", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return DiskStorage(tmp_path / "db") if request.param == "disk" else MemoryStorage()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "BLOCK_BYTES", 200)


class TestPositions:
    def test_they_count_the_bytes_of_frames(self, storage: Storage) -> None:
        log = Log.open(storage)
        assert (log.start, log.end, log.durable, log.torn) == (0, 0, 0, None)
        one, two, three = (record(ALICE, seq, bytes(seq)) for seq in (1, 2, 3))
        first = log.append(ADMITTED, [one])
        assert first == log.end == FRAME_SIZE + len(one)
        second = log.append(PARKED, [two, three])
        assert second == log.end == 3 * FRAME_SIZE + len(one + two + three)
        middle = first + FRAME_SIZE + len(two)
        everything = [(first, ADMITTED, one), (middle, PARKED, two), (second, PARKED, three)]
        assert list(log.read(0)) == everything
        assert list(log.read(first)) == everything[1:]
        assert list(log.read(0, middle)) == everything[:2]
        assert list(log.read(second)) == []
        assert log.append(ADMITTED, []) == second
        log.close()

    def test_they_run_on_through_segments_and_openings(self, storage: Storage) -> None:
        log = Log.open(storage, segment_bytes=200)
        ends = [log.append(ADMITTED, [record(ALICE, seq, bytes(50))]) for seq in range(1, 10)]
        assert len(storage.list("log")) == 5
        for segment in log.segments:
            assert storage.exists(f"log/{segment.start:016x}.log")
        log.close()
        log = Log.open(storage, segment_bytes=200)
        assert log.end == ends[-1]
        assert [after for after, _, _ in log.read(0)] == ends
        for number, end in enumerate(ends):
            assert [after for after, _, _ in log.read(end)] == ends[number + 1 :]
            assert [after for after, _, _ in log.read(0, end)] == ends[: number + 1]
        ends.append(log.append(ADMITTED, [record(ALICE, 10)]))
        assert [after for after, _, _ in log.read(0)] == ends
        log.close()

    def test_a_large_record_has_a_segment_of_its_own_and_a_batch_stays_together(
        self, storage: Storage
    ) -> None:
        log = Log.open(storage, segment_bytes=100)
        log.append(ADMITTED, [record(ALICE, 1)])
        log.append(ADMITTED, [record(ALICE, 2, bytes(1000))])
        log.append(ADMITTED, [record(ALICE, 3)])
        log.append(ADMITTED, [record(ALICE, seq) for seq in range(4, 9)])
        sizes = [segment.end - segment.start for segment in log.segments]
        assert sizes == [38, 1038, 38, 5 * 38]
        assert [int.from_bytes(r[9:17]) for r in records_of(log)] == list(range(1, 9))
        log.close()

    def test_records_longer_than_a_chunk_are_read_whole(self, storage: Storage) -> None:
        log = Log.open(storage)
        written = [record(ALICE, seq, bytes([seq]) * (seq * CHUNK // 2)) for seq in range(1, 7)]
        log.append(ADMITTED, written[:4])
        log.append(ADMITTED, written[4:])
        assert records_of(log) == written
        log.close()

    def test_reading_makes_few_system_calls(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, [record(ALICE, seq) for seq in range(1, 10_001)])
        before = storage.operations
        assert len(records_of(log)) == 10_000
        assert storage.operations - before < 5

    def test_appending_a_batch_is_one_write(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        before = storage.operations
        log.append(ADMITTED, [record(ALICE, seq) for seq in range(1, 1001)])
        assert storage.operations - before == 1


class TestMissing:
    def test_it_is_what_is_newer_than_the_vector(self, storage: Storage) -> None:
        log = Log.open(storage, segment_bytes=300)
        written = [record(who, seq, bytes(20)) for seq in range(1, 21) for who in (ALICE, BOB)]
        ends = [log.append(ADMITTED, [each]) for each in written]
        both = list(zip(ends, written, strict=True))
        assert list(log.missing({})) == both
        assert list(log.missing({ALICE: 20, BOB: 20})) == []
        assert list(log.missing({ALICE: 20, BOB: 17})) == both[-5::2]
        assert list(log.missing({ALICE: 3})) == [
            (end, each) for end, each in both if each[1:9] == BOB or each[9:17] > (3).to_bytes(8)
        ]
        assert list(log.missing({}, stop=ends[6])) == both[:7]
        log.close()

    def test_parked_records_are_nobodys(self, storage: Storage) -> None:
        log = Log.open(storage)
        log.append(PARKED, [record(ALICE, 1)])
        log.append(ADMITTED, [record(BOB, 1)])
        assert [each for _, each in log.missing({})] == [record(BOB, 1)]
        log.close()

    @pytest.mark.usefixtures("small_blocks")
    def test_what_a_peer_has_is_not_read(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage, segment_bytes=2000)
        for seq in range(1, 201):
            log.append(ADMITTED, [record(ALICE, seq, bytes(20))])
        before = storage.calls["read"]
        assert len(list(log.missing({ALICE: 199}))) == 1
        assert storage.calls["read"] - before == 1
        before = storage.calls["open"]
        assert list(log.missing({ALICE: 200})) == []
        assert storage.calls["open"] == before
        log.close()
        log = Log.open(storage, segment_bytes=2000)
        before = storage.calls["read"]
        assert len(list(log.missing({ALICE: 199}))) == 1
        assert storage.calls["read"] - before == 1

    def test_the_vector_is_taken_when_it_is_asked(self, storage: Storage) -> None:
        log = Log.open(storage)
        log.append(ADMITTED, [record(ALICE, 1), record(ALICE, 2)])
        have: dict[bytes, int] = {}
        missing = log.missing(have)
        have[ALICE] = 2
        assert len(list(missing)) == 2
        log.close()

    @pytest.mark.usefixtures("small_blocks")
    def test_segments_say_what_they_hold(self, storage: Storage) -> None:
        log = Log.open(storage, segment_bytes=1000)
        for seq in range(1, 41):
            log.append(ADMITTED, [record(ALICE, seq, bytes(20)), record(BOB, 100 + seq)])
        said = [segment.ranges() for segment in log.segments]
        assert len(said) > 2
        assert [r[ALICE][0] for r in said[1:]] == [r[ALICE][1] + 1 for r in said[:-1]]
        assert said[0][BOB][0] == 101
        assert said[-1][BOB][1] == 140
        log.close()
        assert [segment.ranges() for segment in Log.open(storage).segments] == said


class TestDurability:
    def test_sync_says_how_much_is_durable(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        first = log.append(ADMITTED, [record(ALICE, 1)])
        second = log.append(ADMITTED, [record(ALICE, 2)])
        assert log.durable == 0
        assert log.sync(first) == second == log.durable
        before = storage.calls["sync"]
        assert log.sync(first) == log.sync() == second
        assert storage.calls["sync"] == before
        assert records_of(Log.open(storage.crash(None))) == [record(ALICE, 1), record(ALICE, 2)]

    def test_a_new_segment_makes_the_old_ones_durable(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage, segment_bytes=60)
        first = log.append(ADMITTED, [record(ALICE, 1)])
        log.append(ADMITTED, [record(ALICE, 2)])
        assert log.durable == first
        assert records_of(Log.open(storage.crash(None))) == [record(ALICE, 1)]

    def test_opening_makes_durable_what_it_finds(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        end = log.append(ADMITTED, [record(ALICE, 1)])
        killed = storage.clone()
        assert Log.open(killed).durable == end
        assert records_of(Log.open(killed.crash(None))) == [record(ALICE, 1)]

    def test_threads_share_syncs(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        appended = threading.Lock()
        seqs = iter(range(1, 1000))
        leader = log._syncing
        before = storage.calls["sync"]

        def commit() -> None:
            with appended:
                end = log.append(ADMITTED, [record(ALICE, next(seqs))])
            assert log.sync(end) >= end

        threads = [threading.Thread(target=commit) for _ in range(20)]
        with leader:  # hold the first one back until all have appended
            for thread in threads:
                thread.start()
            while log.end < 20 * (FRAME_SIZE + 17):
                threading.Event().wait(0.001)
        for thread in threads:
            thread.join()
        assert storage.calls["sync"] - before == 1
        assert log.durable == log.end
        assert len(records_of(Log.open(storage.crash(None)))) == 20

    def test_readers_run_beside_writers(self, storage: Storage) -> None:
        log = Log.open(storage, segment_bytes=3000)
        total = 600
        failures: list[BaseException] = []

        def seqs(read: Iterator[bytes]) -> list[int]:
            return [int.from_bytes(each[9:17]) for each in read]

        def follow() -> None:
            try:
                position, count = 0, 0
                while count < total:
                    for after, _, each in log.read(position, log.durable):
                        position, count = after, count + 1
                        assert int.from_bytes(each[9:17]) == count
                    have = {ALICE: count // 2}
                    lacking = seqs(each for _, each in log.missing(have))
                    assert lacking == list(range(count // 2 + 1, count // 2 + 1 + len(lacking)))
                    assert len(lacking) >= count - count // 2
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=follow) for _ in range(3)]
        for thread in threads:
            thread.start()
        for seq in range(1, total + 1):
            log.append(ADMITTED, [record(ALICE, seq, bytes(seq % 60))])
            if seq % 10 == 0:
                log.sync()
        log.sync()
        for thread in threads:
            thread.join()
        assert failures == []
        log.close()


class TestRewind:
    def test_it_takes_back_what_is_not_durable(self, storage: Storage) -> None:
        log = Log.open(storage)
        first = log.append(ADMITTED, [record(ALICE, 1)])
        log.append(ADMITTED, [record(BOB, 1), record(BOB, 2)])
        log.rewind(first)
        assert log.end == first
        assert records_of(log) == [record(ALICE, 1)]
        assert log.segments[-1].ranges() == {ALICE: (1, 1)}
        log.append(ADMITTED, [record(ALICE, 2)])
        assert [each for _, each in log.missing({ALICE: 1})] == [record(ALICE, 2)]
        assert records_of(log) == [record(ALICE, 1), record(ALICE, 2)]
        log.close()
        assert records_of(Log.open(storage)) == [record(ALICE, 1), record(ALICE, 2)]

    @pytest.mark.usefixtures("small_blocks")
    def test_it_takes_back_whole_blocks(self, storage: Storage) -> None:
        for number, count in enumerate((29, 17, 16, 3, 0)):
            log = Log.open(storage.at(str(number)))
            ends = [log.append(ADMITTED, [record(ALICE, n, bytes(40))]) for n in range(1, 31)]
            log.rewind([0, *ends][count])
            assert len(records_of(log)) == count
            assert log.segments[-1].ranges() == ({ALICE: (1, count)} if count else {})
            assert list(log.check()) == []
            log.close()

    def test_it_refuses_what_is_durable_and_changes_nothing(self, storage: Storage) -> None:
        log = Log.open(storage)
        first = log.append(ADMITTED, [record(ALICE, 1)])
        log.append(ADMITTED, [record(ALICE, 2)])
        log.sync()
        with pytest.raises(InvalidInput, match="durable"):
            log.rewind(first)
        assert len(records_of(log)) == 2
        log.rewind(log.end)
        assert len(records_of(log)) == 2

    def test_no_crash_brings_back_what_was_taken_back(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, [record(ALICE, 1), record(ALICE, 2)])
        log.rewind(0)
        log.append(ADMITTED, [record(BOB, 1)])  # as long as ALICE 1: ALICE 2 would fit behind it
        for seed in range(300):
            survivor = Log.open(storage.crash(Random(seed)))
            assert records_of(survivor) in ([], [record(BOB, 1)])


class TestOpening:
    def test_a_log_closed_in_order_is_not_read_again(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        end = log.append(ADMITTED, [record(ALICE, seq) for seq in range(1, 100_000)])
        log.sync()
        log.close()
        before = storage.calls["read"]
        log = Log.open(storage, clean_end=end)
        assert storage.calls["read"] - before == 3  # the header, and the footer from its end
        assert log.segments[-1].ranges() == {ALICE: (1, 99_999)}
        assert (log.end, log.durable, log.torn) == (end, end, None)
        log.append(ADMITTED, [record(ALICE, 100_000)])
        assert len(records_of(log)) == 100_000
        assert len(records_of(Log.open(storage.clone()))) == 100_000
        end = log.sync()
        log.close()
        before = storage.calls["read"]
        assert Log.open(storage, clean_end=end).end == end
        assert storage.calls["read"] - before == 3

    def test_opening_and_closing_changes_nothing(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, [record(ALICE, 1)])
        log.sync()
        log.close()
        before = storage.calls["write"] + storage.calls["truncate"]
        for clean_end in (log.end, None):
            Log.open(storage, clean_end=clean_end).close()
        assert storage.calls["write"] + storage.calls["truncate"] == before

    def test_closing_twice_is_once_and_a_closed_log_says_so(self, storage: Storage) -> None:
        log = Log.open(storage)
        log.append(ADMITTED, [record(ALICE, 1)])
        log.close()
        log.close()
        for use in (
            lambda: log.append(ADMITTED, [record(ALICE, 2)]),
            log.sync,
            lambda: log.rewind(0),
            lambda: log.read(0),
            lambda: log.missing({}),
        ):
            with pytest.raises(Closed):
                use()
        assert records_of(Log.open(storage)) == [record(ALICE, 1)]

    def test_a_log_that_lost_its_head_is_refused_unless_it_was_trimmed(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage, segment_bytes=60)
        ends = [log.append(ADMITTED, [record(ALICE, seq)]) for seq in range(1, 5)]
        log.close()
        storage.remove(f"log/{0:016x}.log")
        with pytest.raises(Corruption, match="starts at 38, not at 0"):
            Log.open(storage)
        log = Log.open(storage, trimmed=ends[0])
        assert log.start == ends[0]
        assert len(records_of(log)) == 3

    def test_a_log_that_lost_its_middle_or_end_is_refused(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage, segment_bytes=60)
        ends = [log.append(ADMITTED, [record(ALICE, seq)]) for seq in range(1, 5)]
        log.sync()
        log.close()
        without_middle = storage.clone()
        without_middle.remove(f"log/{ends[1]:016x}.log")
        with pytest.raises(Corruption, match="ends at 76, the next one starts at 114"):
            Log.open(without_middle)
        without_end = storage.clone()
        without_end.remove(f"log/{ends[2]:016x}.log")
        with pytest.raises(Corruption, match="ends at 114, but it reached 152"):
            Log.open(without_end, clean_end=ends[3])
        nothing = storage.clone()
        for name in nothing.list("log"):
            nothing.remove(f"log/{name}")
        with pytest.raises(Corruption, match="no segments"):
            Log.open(nothing, clean_end=ends[3])

    def test_what_an_unfinished_opening_left_is_removed(self, storage: Storage) -> None:
        Log.open(storage).close()
        storage.create(f"log/{0:016x}.log.tmp").close()
        Log.open(storage).close()
        assert storage.list("log") == [f"{0:016x}.log"]

    def test_what_does_not_belong_there_is_left_alone(self, storage: Storage) -> None:
        Log.open(storage).close()
        storage.create("log/notes.txt").close()
        log = Log.open(storage)
        log.append(ADMITTED, [record(ALICE, 1)])
        log.close()
        assert "notes.txt" in storage.list("log")


class TestFormat:
    def test_the_example_in_frame_py_is_right(self) -> None:
        frame = encode(ADMITTED, 0, 0, [b"hello"]).hex()
        assert frame == "f51a4c6739a1c12b0000000501000000000000000068656c6c6f"

    def test_a_segment_of_version_1_stays_readable(self) -> None:
        """The bytes are on disks: if this fails, the version has to change."""
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, [record(ALICE, 1, b"one")])
        log.sync()
        log.append(PARKED, [record(BOB, 7)])
        log.sync()
        log.close()
        assert storage.content(f"log/{0:016x}.log").hex() == GOLDEN

    def test_an_unknown_version_is_refused_by_name(self) -> None:
        storage = MemoryStorage()
        Log.open(storage).close()
        name = f"log/{0:016x}.log"
        header = storage.content(name)
        later = header[:6] + (2).to_bytes(2) + header[8:-4]
        storage.corrupt(name, later + segment_module.crc32(later).to_bytes(4))
        with pytest.raises(UnknownFormat, match="log format 2"):
            Log.open(storage)

    def test_header_size(self) -> None:
        assert HEADER_SIZE == 20


# header, frame, frame, footer
GOLDEN = (
    "4d55524c4f470001" "0000000000000000" "3d3cb281"
    "f51a4c67" "4aba8840" "00000014" "01" "0000000000000000"
    "01" "616c6963652e2e2e" "0000000000000001" "6f6e65"
    "f51a4c67" "cece5ac0" "00000011" "02" "0000000000000029"
    "01" "626f622e2e2e2e2e" "0000000000000007"
    "f51a4c66"
    "000000000000004f" "00000001" "616c6963652e2e2e" "0000000000000001" "0000000000000001"
    "00000001" "00000024" "000000000000004f" "f2e34a85" "f51a4c66"
)  # fmt: skip
