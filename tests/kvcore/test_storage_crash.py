"""MemoryStorage: what a power cut may take, what it may not, and how operations fail on demand."""

from __future__ import annotations

import errno
import threading
from random import Random

import pytest

from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.storage import read_whole, write_atomically

SEEDS = range(200)


def content_of(storage: MemoryStorage, name: str) -> bytes | None:
    return storage.content(name) if storage.exists(name) else None


def outcomes(storage: MemoryStorage, name: str) -> set[bytes | None]:
    """What a file may hold after a power cut."""
    return {content_of(storage.crash(Random(seed)), name) for seed in SEEDS}


class TestPowerCut:
    def test_nothing_is_durable_by_itself(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        file.write(b"data")
        assert content_of(storage.crash(None), "a") is None
        file.sync()
        assert content_of(storage.crash(None), "a") is None
        assert outcomes(storage, "a") == {None, b"data"}
        storage.sync_directory()
        assert outcomes(storage, "a") == {b"data"}
        assert content_of(storage.crash(None), "a") == b"data"

    def test_a_synced_name_without_synced_bytes_is_an_empty_or_torn_file(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        storage.sync_directory()
        file.write(b"1234")
        assert content_of(storage.crash(None), "a") == b""
        found = outcomes(storage, "a")
        assert {b"", b"1", b"12", b"123", b"1234"} <= found
        assert any(data and set(data) == {0} for data in found if data)  # the size without bytes

    def test_later_writes_may_survive_earlier_ones_and_sectors_go_by_themselves(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        storage.sync_directory()
        file.write(b"a" * 512)
        file.write(b"b" * 1024)
        found = outcomes(storage, "a")
        assert bytes(512) + b"b" * 1024 in found
        assert b"a" * 512 + bytes(512) + b"b" * 512 in found

    def test_a_cut_of_a_file_may_be_undone(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        file.write(b"long")
        file.sync()
        storage.sync_directory()
        file.truncate(1)
        assert outcomes(storage, "a") == {b"long", b"l"}
        file.sync()
        assert outcomes(storage, "a") == {b"l"}

    def test_names_come_back_and_go_until_their_directory_is_synced(self) -> None:
        storage = MemoryStorage()
        for name in ("a", "b"):
            file = storage.create(name)
            file.write(name.encode())
            file.sync()
        storage.sync_directory()
        storage.remove("a")
        storage.rename("b", "c")
        found = {tuple(storage.crash(Random(seed)).list()) for seed in SEEDS}
        assert found == {("a", "b"), ("b",), ("a", "c"), ("c",)}  # never both b and c, or neither
        storage.sync_directory()
        assert {tuple(storage.crash(Random(seed)).list()) for seed in SEEDS} == {("c",)}

    def test_files_of_a_directory_that_is_lost_are_lost(self) -> None:
        storage = MemoryStorage()
        storage.make_directory("log")
        file = storage.create("log/a")
        file.write(b"data")
        file.sync()
        storage.sync_directory("log")
        assert outcomes(storage, "log/a") == {None, b"data"}
        storage.sync_directory()
        assert outcomes(storage, "log/a") == {b"data"}

    def test_a_link_shares_the_fate_of_its_file(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        storage.link("a", storage.at("other"), "b")
        storage.sync_directory()
        storage.sync_directory("other")
        file.write(b"12345678")
        for seed in SEEDS:
            survivor = storage.crash(Random(seed))
            assert survivor.content("a") == survivor.content("other/b")

    def test_a_crash_is_replayed_by_its_seed_and_leaves_the_source_alone(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        storage.sync_directory()
        for number in range(10):
            file.write(bytes([number]) * 600)
        first = [storage.crash(Random(seed)).content("a") for seed in SEEDS]
        assert first == [storage.crash(Random(seed)).content("a") for seed in SEEDS]
        assert storage.content("a") == b"".join(bytes([n]) * 600 for n in range(10))

    def test_everything_that_survived_is_durable(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        file.write(b"x" * 5000)
        for seed in SEEDS:
            once = storage.crash(Random(seed))
            assert content_of(once.crash(None), "a") == content_of(once, "a")

    def test_write_atomically_leaves_the_old_or_the_new_at_every_operation(self) -> None:
        storage = MemoryStorage()
        write_atomically(storage, "a", b"old")
        for at in range(1, 20):
            run = storage.clone()
            run.cut_power(at)
            try:
                write_atomically(run, "a", b"new version")
            except PowerCut:
                assert outcomes(run, "a") <= {b"old", b"new version"}
            else:
                assert outcomes(run, "a") == {b"new version"}
                return
        pytest.fail("the write never ends")


class TestFailedSync:
    def test_its_bytes_stay_in_doubt_even_when_the_next_sync_succeeds(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        storage.sync_directory()
        file.write(b"first")
        storage.fail("sync")
        with pytest.raises(OSError, match="Input/output"):
            file.sync()
        file.write(b" second")
        file.sync()
        assert storage.content("a") == b"first second"  # the cache has it all
        found = outcomes(storage, "a")
        assert bytes(5) + b" second" in found
        assert b"first second" in found
        assert all(data is not None and data.endswith(b" second") for data in found)


class TestKill:
    def test_everything_written_is_there_and_the_lock_is_free(self) -> None:
        storage = MemoryStorage()
        storage.lock()
        file = storage.create("a")
        file.write(b"data")
        clone = storage.clone()
        clone.lock().close()
        assert clone.content("a") == b"data"
        assert clone.identity("a") == storage.identity("a")
        assert content_of(clone.crash(None), "a") is None  # and is no more durable than before
        file.write(b"!")
        assert clone.content("a") == b"data"

    def test_a_copy_has_other_identities(self) -> None:
        storage = MemoryStorage()
        storage.create("a")
        assert storage.copy().identity("a") != storage.identity("a")


class TestFaults:
    def test_the_nth_operation_of_a_kind_fails(self) -> None:
        storage = MemoryStorage()
        storage.fail("create", error=errno.ENOSPC, skip=1, times=2)
        storage.create("a")
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                storage.create("b")
        storage.create("b")

    def test_names_can_be_singled_out_and_faults_healed(self) -> None:
        storage = MemoryStorage()
        storage.make_directory("log")
        storage.fail("create", name="log/", times=None)
        storage.create("a")
        with pytest.raises(OSError, match="Input/output"):
            storage.create("log/a")
        storage.heal()
        storage.create("log/a")

    @pytest.mark.parametrize(
        "kind",
        ["append", "open", "rename", "remove", "list", "make_directory", "sync_directory", "lock"],
    )
    def test_every_kind_of_operation_can_fail(self, kind: str) -> None:
        storage = MemoryStorage()
        storage.create("a")
        storage.fail(kind)
        arguments = {"rename": ("a", "b"), "list": (), "sync_directory": (), "lock": ()}
        with pytest.raises(OSError, match="Input/output"):
            getattr(storage, kind)(*arguments.get(kind, ("a",)))
        assert storage.list() == ["a"]

    def test_a_write_can_get_half_way(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        storage.fail("write", written=2)
        with pytest.raises(OSError, match="Input/output"):
            file.write(b"1234")
        assert file.tell() == 2
        assert storage.content("a") == b"12"

    def test_a_full_disk_takes_what_fits(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        storage.limit(6)
        file.write(b"1234")
        with pytest.raises(OSError, match="No space left"):
            file.write(b"5678")
        assert storage.content("a") == b"123456"
        file.truncate(0)
        file.write(b"x")

    def test_power_cut_ends_every_operation_from_then_on(self) -> None:
        storage = MemoryStorage()
        file = storage.create("a")
        before = storage.operations
        storage.cut_power(before + 2)
        file.write(b"1")
        for operation in (lambda: file.write(b"2"), file.sync, storage.list, storage.lock):
            with pytest.raises(PowerCut):
                operation()
        assert storage.content("a") == b"1"
        assert storage.calls["write"] == 2

    def test_threads_may_share_it(self) -> None:
        storage = MemoryStorage()

        def work(number: int) -> None:
            file = storage.create(str(number))
            for _ in range(200):
                file.write(b"x")
                file.sync()
            storage.sync_directory()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        survivor = storage.crash(None)
        assert [len(read_whole(survivor, name)) for name in survivor.list()] == [200] * 4
