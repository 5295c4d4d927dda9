"""The log when operations fail or are interrupted: it says so, and it is never half-way."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from murmur.errors import Poisoned
from murmur.kvcore import log as log_module
from murmur.kvcore import reserve as reserve_module
from murmur.kvcore import segment as segment_module
from murmur.kvcore import storage as storage_module
from murmur.kvcore.kernel.pure import log as pure_log
from murmur.kvcore.log import ADMITTED, Log
from murmur.kvcore.memory_storage import MemoryStorage
from tests.kvcore.interrupt import Interrupt
from tests.kvcore.log_model import ALICE, BOB, record, records_of

FIRST = f"log/{0:016x}.log"


def alice(*seqs: int) -> list[bytes]:
    return [record(ALICE, seq) for seq in seqs]


class TestFailedSync:
    def test_it_poisons_the_log_for_good_and_is_never_tried_again(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, alice(1))
        storage.fail("sync")
        with pytest.raises(Poisoned, match="Input/output error") as caught:
            log.sync()
        assert isinstance(caught.value.__cause__, OSError)
        before = storage.operations
        for use in (
            log.sync,
            lambda: log.sync(0),
            lambda: log.append(ADMITTED, alice(2)),
            lambda: log.rewind(0),
        ):
            with pytest.raises(Poisoned, match="close it and open it again"):
                use()
        assert storage.operations == before
        assert log.durable == 0
        assert records_of(log) == alice(1)  # reading does no harm
        log.close()

    def test_all_who_waited_for_it_are_told(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        end = log.append(ADMITTED, alice(1))
        storage.fail("sync")
        told: list[Poisoned] = []

        def wait() -> None:
            try:
                log.sync(end)
            except Poisoned as error:
                told.append(error)

        threads = [threading.Thread(target=wait) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(told) == 8
        assert storage.calls["sync"] == 2  # the header's, and the one that failed

    def test_opening_again_writes_anew_what_only_the_cache_has(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, alice(1))
        log.sync()
        log.append(ADMITTED, alice(2, 3))
        storage.fail("sync")
        with pytest.raises(Poisoned):
            log.sync()
        log.close()
        assert records_of(Log.open(storage.crash(None))) == alice(1)
        again = Log.open(storage)
        assert records_of(again) == alice(1, 2, 3)
        assert again.durable == again.end
        assert records_of(Log.open(storage.crash(None))) == alice(1, 2, 3)

    @pytest.mark.parametrize("skip", [0, 1])
    def test_one_while_changing_segments_poisons_too(self, skip: int) -> None:
        storage = MemoryStorage()
        log = Log.open(storage, segment_bytes=60)
        log.append(ADMITTED, alice(1))
        storage.fail("sync", name="log/", skip=skip)
        with pytest.raises(Poisoned):
            log.append(ADMITTED, alice(2))
        with pytest.raises(Poisoned):
            log.append(ADMITTED, alice(2))
        assert records_of(Log.open(storage.clone())) == alice(1)

    def test_one_of_a_directory_poisons_too(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage, segment_bytes=60)
        log.append(ADMITTED, alice(1))
        storage.fail("sync_directory")
        with pytest.raises(Poisoned):
            log.append(ADMITTED, alice(2))
        assert records_of(Log.open(storage.clone())) == alice(1)


class TestFailedWrite:
    @pytest.mark.parametrize("written", [0, 1, 20, 38, 75])
    @pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
    def test_it_is_cut_back_and_the_log_stays_usable(self, written: int, error: int) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        end = log.append(ADMITTED, alice(1))
        content = storage.content(FIRST)
        storage.fail("write", error=error, written=written)
        with pytest.raises(OSError) as caught:
            log.append(ADMITTED, alice(2, 3))
        assert caught.value.errno == error
        assert log.end == end
        assert storage.content(FIRST) == content
        log.append(ADMITTED, alice(2))
        assert records_of(log) == records_of(Log.open(storage.clone())) == alice(1, 2)
        assert log.segments[-1].ranges() == {ALICE: (1, 2)}

    def test_one_that_cannot_be_cut_back_poisons(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, alice(1))
        storage.fail("write", error=errno.EIO, written=30)
        storage.fail("truncate")
        with pytest.raises(Poisoned):
            log.append(ADMITTED, alice(2))
        with pytest.raises(Poisoned):
            log.append(ADMITTED, alice(2))
        again = Log.open(storage)
        assert records_of(again) == alice(1)
        assert again.torn is not None
        assert again.torn.length == 30

    def test_one_whose_cut_cannot_be_synced_poisons(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        storage.fail("write", error=errno.ENOSPC, written=30)
        storage.fail("sync")
        with pytest.raises(Poisoned):
            log.append(ADMITTED, alice(1))

    def test_a_full_disk_refuses_until_there_is_room_also_when_changing_segments(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage, segment_bytes=200)
        seq = refused = 0
        for capacity in range(1600):
            storage.limit(capacity)
            try:
                log.append(ADMITTED, alice(seq + 1))
            except OSError as error:
                refused += error.errno == errno.ENOSPC
            else:
                seq += 1
            if capacity % 100 == 0:
                assert records_of(log) == alice(*range(1, seq + 1))
                assert records_of(Log.open(storage.clone())) == alice(*range(1, seq + 1))
        assert len(log.segments) > 3
        assert seq + refused == 1600
        storage.heal()
        log.sync()
        log.close()
        assert records_of(Log.open(storage)) == alice(*range(1, seq + 1))

    @pytest.mark.parametrize("written", [0, 2, 10, 60])
    def test_closing_on_a_full_disk_leaves_no_footer_and_no_error(self, written: int) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, alice(1, 2))
        log.sync()
        content = storage.content(FIRST)
        storage.fail("write", error=errno.ENOSPC, written=written)
        log.close()
        assert storage.content(FIRST) == content
        again = Log.open(storage)
        assert again.torn is None
        assert records_of(again) == alice(1, 2)

    def test_opening_on_a_full_disk_recovers_in_place(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        end = log.append(ADMITTED, alice(1, 2))
        storage.corrupt(FIRST, storage.content(FIRST) + b"torn")
        storage.limit(len(storage.content(FIRST)))
        again = Log.open(storage)
        assert records_of(again) == alice(1, 2)
        assert again.end == end
        assert storage.list("log") == [FIRST[4:]]
        assert records_of(Log.open(storage.crash(None))) == alice(1, 2)

    @pytest.mark.parametrize("kind", ["create", "write", "sync", "rename", "sync_directory"])
    def test_an_error_while_opening_passes_through_and_harms_nothing(self, kind: str) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, alice(1, 2))
        storage.fail(kind)
        with pytest.raises(OSError, match="Input/output"):
            Log.open(storage)
        assert records_of(Log.open(storage)) == alice(1, 2)

    def test_a_file_that_shrank_is_noticed_before_it_is_written_to(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, alice(1))
        storage.corrupt(FIRST, storage.content(FIRST)[:-3])
        with pytest.raises(Exception, match="the file shrank from 58 bytes"):
            log.append(ADMITTED, alice(2))


INTERRUPTED = log_module, pure_log, reserve_module, segment_module, storage_module


ACTIONS: dict[str, tuple[Callable[[Log], object], list[list[bytes]]]] = {
    # On a log with records 1 and 2, which has room for one more; and what it may hold afterwards.
    "append": (lambda log: log.append(ADMITTED, alice(3, 4)), [alice(1, 2), alice(1, 2, 3, 4)]),
    "rewind": (lambda log: log.rewind(38), [alice(1, 2), alice(1)]),
    "sync": (lambda log: log.sync(), [alice(1, 2)]),
}


def then_append(storage: MemoryStorage, log: Log, found: list[bytes]) -> None:
    for seq in range(1, 6):  # with several changes of segments
        found.append(record(BOB, seq))
        log.append(ADMITTED, found[-1:])
        assert records_of(log) == found
        assert list(log.check()) == []
        reopen(storage.clone(), found)


def then_rewind_and_be_killed(storage: MemoryStorage, log: Log, found: list[bytes]) -> None:
    log.rewind(log.end)
    reopen(storage.clone(), found)


def then_lose_power(storage: MemoryStorage, log: Log, found: list[bytes]) -> None:
    log.sync()
    again = records_of(Log.open(storage.crash(None)))
    assert again[: len(found)] == found


def then_close(storage: MemoryStorage, log: Log, found: list[bytes]) -> None:
    log.sync()
    log.close()
    reopen(storage, found)


def then_close_without_sync(storage: MemoryStorage, log: Log, found: list[bytes]) -> None:
    log.close()
    again = records_of(Log.open(storage))
    assert again[: len(found)] == found


def then_be_killed(storage: MemoryStorage, log: Log, found: list[bytes]) -> None:
    again = records_of(Log.open(storage.clone()))
    assert again == alice(*range(1, len(again) + 1))


def reopen(storage: MemoryStorage, expected: list[bytes]) -> None:
    again = Log.open(storage)
    assert records_of(again) == expected
    assert list(again.check()) == []
    again.append(ADMITTED, [record(BOB, 99)])
    assert records_of(Log.open(storage.clone())) == [*expected, record(BOB, 99)]


@pytest.mark.parametrize("preallocates", [False, True])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "then",
    [
        then_append,
        then_rewind_and_be_killed,
        then_lose_power,
        then_close,
        then_close_without_sync,
        then_be_killed,
    ],
)
def test_what_is_interrupted_has_happened_or_not(
    action: str,
    then: Callable[[MemoryStorage, Log, list[bytes]], None],
    preallocates: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_module, "PREALLOCATED", 70)
    run, allowed = ACTIONS[action]
    for line in range(1, 1000):
        storage = MemoryStorage(preallocates=preallocates)
        log = Log.open(storage, segment_bytes=120)
        log.append(ADMITTED, alice(1))
        log.append(ADMITTED, alice(2))
        try:
            with Interrupt(line, INTERRUPTED):
                run(log)
        except KeyboardInterrupt:
            found = records_of(log)
            assert found in allowed, line
            then(storage, log, found)
        else:
            assert line > 10
            assert records_of(log) == allowed[-1]
            return
    pytest.fail("the action never ends")
