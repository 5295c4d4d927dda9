"""What both twins of Storage promise, and what only a disk has: modes, locks of other processes."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from murmur.errors import Locked
from murmur.kvcore import storage as storage_module
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import DiskStorage, Storage, read_whole, write_atomically


@pytest.fixture(params=["disk", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return DiskStorage(tmp_path / "db") if request.param == "disk" else MemoryStorage()


def write(storage: Storage, name: str, data: bytes) -> None:
    file = storage.create(name)
    file.write(data)
    file.close()


class TestFiles:
    def test_appends_end_up_behind_one_another(self, storage: Storage) -> None:
        file = storage.create("a")
        file.write(b"one ")
        file.write(b"two")
        assert file.tell() == 7
        file.close()
        again = storage.append("a")
        assert again.tell() == 7
        again.write(b" three")
        again.sync()
        again.close()
        assert read_whole(storage, "a") == b"one two three"

    def test_a_write_after_a_cut_lands_at_the_new_end(self, storage: Storage) -> None:
        file = storage.create("a")
        file.write(b"one two")
        file.truncate(3)
        assert file.tell() == 3
        file.write(b"!")
        file.close()
        assert read_whole(storage, "a") == b"one!"

    def test_reads_are_short_only_at_the_end(self, storage: Storage) -> None:
        write(storage, "a", b"0123456789")
        file = storage.open("a")
        assert file.size() == 10
        assert file.read(2, 3) == b"234"
        assert file.read(8, 100) == b"89"
        assert file.read(10, 1) == b""
        assert file.read(0, 0) == b""
        file.close()

    def test_a_reader_sees_what_is_appended_meanwhile(self, storage: Storage) -> None:
        writer = storage.create("a")
        reader = storage.open("a")
        writer.write(b"x")
        assert (reader.size(), reader.read(0, 9)) == (1, b"x")
        writer.close()
        reader.close()

    def test_create_refuses_what_exists_and_append_and_open_what_does_not(
        self, storage: Storage
    ) -> None:
        write(storage, "a", b"")
        with pytest.raises(FileExistsError):
            storage.create("a")
        for missing in (storage.append, storage.open, storage.remove, storage.identity):
            with pytest.raises(FileNotFoundError):
                missing("b")
        with pytest.raises(FileNotFoundError):
            storage.rename("b", "c")
        with pytest.raises(FileNotFoundError):
            storage.create("nowhere/a")

    def test_closing_twice_is_harmless_and_use_after_it_an_error(self, storage: Storage) -> None:
        file = storage.create("a")
        reader = storage.open("a")
        for handle in (file, reader):
            handle.close()
            handle.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.write(b"x")
        with pytest.raises(OSError, match="Bad file descriptor"):
            reader.read(0, 1)

    def test_names_stay_inside(self, storage: Storage) -> None:
        for name in ("/etc/passwd", "../x", "log/../../x"):
            with pytest.raises(AssertionError):
                storage.exists(name)


class TestNames:
    def test_list_names_the_files_of_one_directory_in_order(self, storage: Storage) -> None:
        storage.make_directory("log")
        storage.make_directory("log")
        for name in ("b", "a", "log/z"):
            write(storage, name, b"")
        assert storage.list() == ["a", "b"]
        assert storage.list("log") == ["z"]
        assert storage.exists("log")
        assert storage.exists("log/z")
        assert not storage.exists("log/y")
        with pytest.raises(FileNotFoundError):
            storage.list("nowhere")
        with pytest.raises(FileExistsError):
            storage.make_directory("a")

    def test_rename_replaces_and_open_files_live_on(self, storage: Storage) -> None:
        write(storage, "old", b"old")
        write(storage, "new", b"new")
        reader = storage.open("old")
        storage.rename("new", "old")
        storage.sync_directory()
        assert storage.list() == ["old"]
        assert read_whole(storage, "old") == b"new"
        storage.remove("old")
        assert storage.list() == []
        assert reader.read(0, 9) == b"old"
        reader.close()

    def test_a_link_is_the_same_file_in_another_directory(self, storage: Storage) -> None:
        write(storage, "a", b"data")
        other = storage.at("checkpoint")
        storage.link("a", other, "b")
        storage.remove("a")
        assert read_whole(other, "b") == b"data"
        assert storage.list("checkpoint") == ["b"]
        write(storage, "a", b"")
        with pytest.raises(FileExistsError):
            storage.link("a", other, "b")

    def test_identity_follows_the_file_and_not_the_name_or_content(self, storage: Storage) -> None:
        write(storage, "a", b"data")
        identity = storage.identity("a")
        assert len(identity) == 16
        storage.rename("a", "b")
        assert storage.identity("b") == identity
        write(storage, "c", read_whole(storage, "b"))
        assert storage.identity("c") != identity


class TestWriteAtomically:
    def test_it_replaces_and_leaves_nothing_else(self, storage: Storage) -> None:
        write_atomically(storage, "a", b"1")
        write_atomically(storage, "a", b"2")
        assert read_whole(storage, "a") == b"2"
        assert storage.list() == ["a"]

    def test_it_takes_the_place_of_an_unfinished_one(self, storage: Storage) -> None:
        write(storage, "a.tmp", b"half")
        write_atomically(storage, "a", b"whole")
        assert read_whole(storage, "a") == b"whole"
        assert storage.list() == ["a"]


class TestLock:
    def test_a_second_handle_in_this_process_is_refused(self, storage: Storage) -> None:
        lock = storage.lock()
        with pytest.raises(Locked, match=f"already open in this process .pid {os.getpid()}"):
            storage.lock()
        with pytest.raises(Locked):
            storage.at("").lock()
        storage.lock("other").close()
        lock.close()
        lock.close()
        storage.lock().close()

    def test_one_thread_of_many_gets_it(self, storage: Storage) -> None:
        won: list[object] = []
        lost: list[Locked] = []

        def compete() -> None:
            try:
                won.append(storage.lock())
            except Locked as error:
                lost.append(error)

        threads = [threading.Thread(target=compete) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)


HOLDER = """
import sys
from murmur.kvcore.storage import DiskStorage
lock = DiskStorage(sys.argv[1]).lock()
print("held", flush=True)
sys.stdin.read()
"""


class TestDisk:
    def test_modes_are_private(self, tmp_path: Path) -> None:
        storage = DiskStorage(tmp_path / "outer" / "db")
        storage.make_directory("log")
        write(storage, "log/a", b"")
        storage.lock().close()
        for name, mode in [
            ("outer", 0o700),
            ("outer/db", 0o700),
            ("outer/db/log", 0o700),
            ("outer/db/log/a", 0o600),
            ("outer/db/LOCK", 0o600),
        ]:
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode

    def test_the_path_does_not_follow_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        storage = DiskStorage("db")
        monkeypatch.chdir("/")
        write(storage, "a", b"x")
        assert (tmp_path / "db" / "a").read_bytes() == b"x"

    def test_without_create_the_directory_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            DiskStorage(tmp_path / "db", create=False)
        (tmp_path / "file").touch()
        with pytest.raises(FileExistsError):
            DiskStorage(tmp_path / "file" / "db")

    def test_new_directories_are_synced_into_their_parents(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        monkeypatch.setattr(storage_module, "_sync_directory", synced.append)
        DiskStorage(tmp_path / "outer" / "db")
        assert synced == [str(tmp_path), str(tmp_path / "outer")]

    def test_short_writes_are_finished(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write
        sizes: list[int] = []

        def short(fd: int, data: bytes) -> int:
            sizes.append(len(data))
            return real(fd, data[:3])

        file = DiskStorage(tmp_path).create("a")
        monkeypatch.setattr(os, "write", short)
        file.write(b"12345678")
        monkeypatch.undo()
        assert sizes == [8, 5, 2]
        assert file.tell() == 8
        file.close()
        assert (tmp_path / "a").read_bytes() == b"12345678"

    def test_one_write_is_one_system_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write
        calls: list[int] = []
        monkeypatch.setattr(os, "write", lambda fd, data: calls.append(1) or real(fd, data))
        file = DiskStorage(tmp_path).create("a")
        file.write(bytes(100_000))
        file.close()
        assert len(calls) == 1

    def test_tell_knows_how_far_a_failed_write_got(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write

        def fill(fd: int, data: bytes) -> int:
            if len(data) < 8:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd, data[:3])

        file = DiskStorage(tmp_path).create("a")
        file.write(b"ab")
        monkeypatch.setattr(os, "write", fill)
        with pytest.raises(OSError, match="No space left"):
            file.write(b"12345678")
        monkeypatch.undo()
        assert file.tell() == 5
        file.truncate(2)
        file.write(b"c")
        assert file.tell() == 3
        file.close()
        assert (tmp_path / "a").read_bytes() == b"abc"

    def test_tell_is_right_after_an_interrupt_at_the_system_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write

        def interrupted(fd: int, data: bytes) -> int:
            real(fd, data)
            raise KeyboardInterrupt

        file = DiskStorage(tmp_path).create("a")
        monkeypatch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.write(b"1234")
        monkeypatch.undo()
        file.write(b"5")
        assert file.tell() == 5
        file.close()

    def test_short_reads_are_finished(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a").write_bytes(b"12345678")
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 3), at))
        file = DiskStorage(tmp_path).open("a")
        assert file.read(0, 8) == b"12345678"
        assert file.read(1, 100) == b"2345678"
        file.close()

    def test_a_full_disk_is_an_oserror(self) -> None:
        if not os.path.exists("/dev/full"):
            pytest.skip("needs /dev/full")
        file = DiskStorage("/dev").append("full")
        with pytest.raises(OSError, match="No space left"):
            file.write(b"x")
        file.close()

    def test_another_process_is_refused_by_pid_and_a_killed_one_leaves_no_trace(
        self, tmp_path: Path
    ) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            storage = DiskStorage(tmp_path)
            with pytest.raises(Locked) as caught:
                storage.lock()
            assert str(holder.pid) in str(caught.value)
            assert str(tmp_path) in str(caught.value)
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        assert (tmp_path / "LOCK").read_text().strip() == str(holder.pid)  # stale, and harmless
        lock = storage.lock()
        assert (tmp_path / "LOCK").read_text().strip() == str(os.getpid())
        lock.close()
        (tmp_path / "LOCK").write_text("12345678901\n")  # longer than any pid
        lock = storage.lock()
        assert (tmp_path / "LOCK").read_text() == f"{os.getpid()}\n"
        lock.close()

    def test_a_forked_child_that_closes_its_copy_leaves_the_lock_to_the_parent(
        self, tmp_path: Path
    ) -> None:
        storage = DiskStorage(tmp_path)
        lock = storage.lock()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests
            child = os.fork()
        if child == 0:
            lock.close()
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(Locked):
            storage.lock()
        lock.close()
