"""The engine by example: writing, reading, opening again, refusing."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from murmur.errors import Closed, Corruption, InvalidInput, Locked, Poisoned, TypeMismatch
from murmur.kvcore import engine as engine_module
from murmur.kvcore.backup import Backup
from murmur.kvcore.engine import Engine, WriteBatch
from murmur.kvcore.kernel import NATIVE
from murmur.kvcore.log import ADMITTED, Log
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.storage import DiskStorage, Storage


@pytest.fixture(params=["disk", "memory", "memory, preallocated"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "disk":
        return DiskStorage(tmp_path / "db")
    return MemoryStorage(preallocates=request.param != "memory")


class TestReadingAndWriting:
    def test_what_is_put_is_got(self, storage: Storage) -> None:
        with Engine.open(storage) as engine:
            assert engine.get(b"a") is None
            engine.put(b"a", b"1")
            engine.put(b"b", b"")
            engine.put(b"a", b"2")
            assert (engine.get(b"a"), engine.get(b"b"), engine.get(b"")) == (b"2", b"", None)
            engine.delete(b"a")
            engine.delete(b"never there")
            assert engine.get(b"a") is None
            assert engine.multi_get([b"b", b"a", b"b"]) == [b"", None, b""]

    def test_it_is_there_again_after_closing_and_after_a_kill(self, storage: Storage) -> None:
        engine = Engine.open(storage)
        for n in range(300):
            engine.put(b"%03d" % n, b"x" * n)
        engine.close()
        engine = Engine.open(storage)
        assert list(engine.scan()) == [(b"%03d" % n, b"x" * n) for n in range(300)]
        engine.put(b"050", b"later")
        engine.delete_range(b"100", b"300")
        if isinstance(storage, MemoryStorage):
            engine = Engine.open(storage.clone())
        else:
            engine._files.close()  # the files as they are, and the lock
            engine = Engine.open(storage)
        assert [key for key, _ in engine.scan()] == [b"%03d" % n for n in range(100)]
        assert engine.get(b"050") == b"later"
        assert list(engine.check()) == []
        engine.close()

    def test_scans_go_both_ways_within_bounds_and_see_one_moment(self, storage: Storage) -> None:
        with Engine.open(storage, memtable_bytes=4000) as engine:
            for n in range(200):
                engine.put(b"%03d" % n, b"old")
            scan, back = engine.scan(b"010", b"190"), engine.scan(b"", b"100", reverse=True)
            first = next(scan)
            engine.delete_range(b"", b"\xff")
            assert [first[0], *(key for key, _ in scan)] == [b"%03d" % n for n in range(10, 190)]
            assert [key for key, _ in back] == [b"%03d" % n for n in range(99, -1, -1)]
            assert list(engine.scan()) == []

    def test_prefixes(self, storage: Storage) -> None:
        with Engine.open(storage) as engine:
            keys = [b"a", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b"\xff\xffz"]
            for key in keys:
                engine.put(key, key)
            for prefix in (b"", b"a", b"a\xff", b"b", b"\xff", b"\xff\xff", b"c"):
                expected = sorted(key for key in keys if key.startswith(prefix))
                assert [key for key, _ in engine.scan_prefix(prefix)] == expected
                back = [key for key, _ in engine.scan_prefix(prefix, reverse=True)]
                assert back == expected[::-1]

    def test_bounds_and_prefixes_both_ways(self, storage: Storage) -> None:
        with Engine.open(storage) as engine:
            keys = [b"%02d" % n for n in range(60)]
            for key in keys[::2]:
                engine.put(key, key)
            engine.flush()
            for key in keys[1::2]:
                engine.put(key, key)
            pairs = [(key, key) for key in keys]
            assert list(engine.scan()) == pairs
            assert list(engine.scan(reverse=True)) == pairs[::-1]
            assert list(engine.scan(b"07")) == pairs[7:]
            assert list(engine.scan(start=b"07", stop=b"31")) == pairs[7:31]
            assert list(engine.scan(b"07", b"31", reverse=True)) == pairs[7:31][::-1]
            assert list(engine.scan(b"31", b"07")) == list(engine.scan(b"31", b"31")) == []
            assert list(engine.scan_prefix(b"3", reverse=True)) == pairs[30:40][::-1]

    def test_a_scan_goes_on_whatever_is_flushed_and_merged(self, storage: Storage) -> None:
        with Engine.open(storage, memtable_bytes=5000) as engine:
            pairs = [(b"%04d" % n, b"old") for n in range(2000)]
            engine.write(pairs)
            engine.flush()
            engine.put(b"0007", b"new")
            pairs[7] = (b"0007", b"new")
            scans = [engine.scan(), engine.scan(reverse=True), engine.scan_prefix(b"0")]
            begun = [next(scans[0])]
            engine.write([(key, None if n % 2 else b"x") for n, (key, _) in enumerate(pairs)])
            engine.flush()
            engine.compact()
            engine.delete_range(b"", b"\xff")
            engine.flush()
            engine.compact()
            assert begun + list(scans[0]) == pairs
            assert list(scans[1]) == pairs[::-1]
            assert list(scans[2]) == pairs[:1000]
            assert list(engine.scan()) == []

    @pytest.mark.parametrize("flushed", [False, True])
    def test_closing_ends_a_scan(self, storage: Storage, flushed: bool) -> None:
        engine = Engine.open(storage)
        engine.write([(b"%04d" % n, b"v" * 100) for n in range(2000)])
        if flushed:
            engine.flush()
        scans = [engine.scan(), engine.scan(reverse=True), engine.scan_prefix(b"0")]
        for scan in scans[:2]:
            next(scan)
        engine.close()
        for scan in scans:
            with pytest.raises(Closed):
                list(scan)

    def test_scans_of_concurrent_threads_see_whole_batches(self, storage: Storage) -> None:
        with Engine.open(storage, memtable_bytes=30_000, durability="none") as engine:
            keys = [b"%03d" % n for n in range(100)]
            engine.write([(key, b"0") for key in keys])
            done = threading.Event()
            failures: list[BaseException] = []

            def read(reverse: bool) -> None:
                try:
                    while not done.is_set():
                        found = list(engine.scan(reverse=reverse))
                        assert [key for key, _ in found] == (keys[::-1] if reverse else keys)
                        assert len({value for _, value in found}) == 1
                except BaseException as error:
                    failures.append(error)

            readers = [threading.Thread(target=read, args=(way,)) for way in (False, True)]
            for reader in readers:
                reader.start()
            for n in range(1, 100):
                engine.write([(key, b"%d" % n) for key in keys])
            done.set()
            for reader in readers:
                reader.join()
            assert failures == []

    def test_a_snapshot_stays(self, storage: Storage) -> None:
        with Engine.open(storage) as engine:
            engine.put(b"a", b"1")
            with engine.snapshot() as snapshot:
                engine.put(b"a", b"2")
                engine.put(b"b", b"2")
                engine.flush()
                engine.delete(b"a")
                assert snapshot.get(b"a") == b"1"
                assert list(snapshot.scan(b"", None)) == [(b"a", b"1")]
            assert engine.get(b"a") is None

    def test_a_batch_is_as_if_written_in_its_order(self, storage: Storage) -> None:
        with Engine.open(storage) as engine:
            engine.put(b"b", b"before")
            batch = WriteBatch()
            batch.put(b"a", b"1")
            batch.put(b"c", b"1")
            batch.delete_range(b"a", b"c")
            batch.put(b"b2", b"1")
            batch.put(b"b2", b"2")
            batch.delete(b"c")
            assert len(batch) == 5
            engine.write(batch)
            assert list(engine.scan()) == [(b"b2", b"2")]
            engine.write([(b"x", b"1"), (b"b2", None), (b"x", b"2")])
            assert list(engine.scan()) == [(b"x", b"2")]
            engine.write([])
            engine.write(WriteBatch())
            batch.clear()
            assert len(batch) == 0

    @pytest.mark.parametrize("bad", ["a", None, 1, bytearray(b"a")])
    def test_what_is_no_key_cannot_be_read(self, storage: Storage, bad: Any) -> None:
        with Engine.open(storage) as engine, engine.snapshot() as snapshot:
            kind = type(bad).__name__
            for view in (engine, snapshot):
                with pytest.raises(TypeMismatch, match=f"a key is bytes, not {kind}"):
                    view.get(bad)
                with pytest.raises(TypeMismatch, match=f"a key is bytes, not {kind}"):
                    view.multi_get([b"a", bad])
                with pytest.raises(TypeMismatch, match=f"a prefix is bytes, not {kind}"):
                    view.scan_prefix(bad)
                with pytest.raises(TypeMismatch, match="bounds are bytes"):
                    list(view.scan(bad, b"b"))
                if bad is not None:
                    with pytest.raises(TypeMismatch, match="bounds are bytes"):
                        list(view.scan(b"", bad))

    def test_what_is_no_key_or_value_is_refused_and_changes_nothing(self, storage: Storage) -> None:
        with Engine.open(storage) as engine:
            engine.put(b"a", b"1")
            for bad in ("a", None, 1, bytearray(b"a")):
                with pytest.raises((TypeMismatch, TypeError)):
                    engine.put(bad, b"1")  # type: ignore[arg-type]
                with pytest.raises((TypeMismatch, TypeError)):
                    engine.put(b"b", bad)  # type: ignore[arg-type]
                with pytest.raises((TypeMismatch, TypeError)):
                    engine.write([(b"b", b"1"), (bad, b"1")])  # type: ignore[list-item]
                with pytest.raises((TypeMismatch, TypeError)):
                    engine.delete(bad)  # type: ignore[arg-type]
            with pytest.raises(InvalidInput):
                engine.delete_range(b"b", b"b")
            with pytest.raises(InvalidInput):
                engine.put(bytes((1 << 20) + 1), b"")
            assert list(engine.scan()) == [(b"a", b"1")]
            engine.put(b"b", b"2")
            assert list(engine.scan()) == [(b"a", b"1"), (b"b", b"2")]


class TestKeeping:
    def test_the_log_keeps_what_no_table_has(self, storage: Storage) -> None:
        with Engine.open(storage, segment_bytes=2000, memtable_bytes=20_000) as engine:
            for n in range(1000):
                engine.put(b"%04d" % n, bytes(40))
            stats = engine.stats()
            assert int(str(stats["log_start"])) > 0
            engine.flush()
            assert len(storage.list("log")) == 1
            engine.put(b"last", b"1")
        with Engine.open(storage) as engine:
            assert len(list(engine.scan())) == 1001

    def test_large_segments_are_removed_beside_who_writes(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_module, "WRITE_BEHIND", 1000)
        removers = set()
        remove = type(storage).remove

        def watched(self: Storage, name: str) -> None:
            if name.startswith("log/") and not leaving:
                removers.add(threading.current_thread().name)
            remove(self, name)

        monkeypatch.setattr(type(storage), "remove", watched)
        leaving = False
        with Engine.open(storage, segment_bytes=2000, memtable_bytes=20_000) as engine:
            for n in range(1000):
                engine.put(b"%04d" % n, bytes(40))
            while not engine.stats()["log_start"]:
                engine.put(b"more", bytes(40))
                time.sleep(0.001)
            leaving = True
        assert removers == {"murmur-sync"}
        with Engine.open(storage) as engine:
            assert len(list(engine.scan())) >= 1000

    def test_a_closed_engine_replays_nothing(self) -> None:
        storage = MemoryStorage()
        with Engine.open(storage) as engine:
            for n in range(100):
                engine.put(b"%04d" % n, bytes(40))
        with Engine.open(storage) as engine:
            assert engine.stats()["memtable_entries"] == 0
            assert len(list(engine.scan())) == 100

    def test_a_checkpoint_is_an_engine(self, storage: Storage) -> None:
        with Engine.open(storage) as engine:
            for n in range(100):
                engine.put(b"%04d" % n, bytes(40))
            engine.checkpoint("copy")
            engine.put(b"later", b"1")
            with pytest.raises(InvalidInput, match="already"):
                engine.checkpoint("copy")
            with Engine.open(storage.at("copy")) as copy:
                assert len(list(copy.scan())) == 100
                copy.put(b"own", b"1")
                assert engine.get(b"own") is None
            with Engine.open(storage.at("copy")) as copy:
                assert copy.get(b"own") == b"1"

    def test_a_backup_is_restored_whole(self, storage: Storage) -> None:
        with Engine.open(storage) as engine:
            for n in range(100):
                engine.put(b"%04d" % n, bytes(40))
            assert engine.backup("backup").number == 1
            engine.put(b"later", b"1")
            assert engine.backup("backup", "second").number == 2
        for number, keys in ((1, 100), (2, 101)):
            target = storage.at(f"restored{number}")
            Backup(storage.at("backup")).restore(target, number)
            with Engine.open(target) as engine:
                assert len(list(engine.scan())) == keys
                engine.put(b"own", b"1")
            with Engine.open(target) as engine:
                assert len(list(engine.scan())) == keys + 1

    def test_sstables_are_taken_in(self, tmp_path: Path) -> None:
        with Engine.open(tmp_path / "one") as one:
            for n in range(100):
                one.put(b"%04d" % n, b"one")
        (table,) = (tmp_path / "one" / "tree").glob("*.sst")
        with Engine.open(tmp_path / "two") as two:
            two.put(b"0005", b"two")
            two.put(b"5", b"two")
            two.ingest([table])
            assert two.get(b"0005") == b"one"
            two.put(b"0005", b"after")
            assert two.get(b"0005") == b"after"
        with Engine.open(tmp_path / "two") as two:
            assert (two.get(b"0005"), two.get(b"5"), two.get(b"0099")) == (b"after", b"two", b"one")

    def test_without_durability_the_log_is_still_written_behind(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_module, "WRITE_BEHIND", 1000)
        with Engine.open(MemoryStorage(), durability="none") as engine:
            for n in range(100):
                engine.put(b"%04d" % n, bytes(40))
            for _ in range(2000):
                if int(str(engine.stats()["log_durable"])) > 1000:
                    return
                threading.Event().wait(0.001)
            raise AssertionError("nothing was synced")

    def test_compaction_and_check(self, storage: Storage) -> None:
        with Engine.open(storage, memtable_bytes=5000, table_bytes=5000) as engine:
            for n in range(2000):
                engine.put(b"%04d" % (n * 7 % 500), b"%d" % n)
            engine.flush()
            engine.compact()
            assert list(engine.check()) == []
            assert len(list(engine.scan())) == 500

    def test_options_are_checked(self, storage: Storage) -> None:
        with pytest.raises(InvalidInput, match="no option colour"):
            Engine.open(storage, colour=1)
        with pytest.raises(InvalidInput, match="durability"):
            Engine.open(storage, durability="sometimes")
        with Engine.open(storage, options=Options(table_bytes=1000), cache_bytes=5) as engine:
            engine.put(b"a", b"1")


class TestOneOwner:
    def test_a_second_opener_is_refused(self, storage: Storage) -> None:
        with Engine.open(storage), pytest.raises(Locked, match=str(os.getpid())):
            Engine.open(storage)
        Engine.open(storage).close()

    def test_a_closed_engine_says_so(self, storage: Storage) -> None:
        engine = Engine.open(storage)
        engine.put(b"a", b"1")
        engine.close()
        engine.close()
        for use in (
            lambda: engine.put(b"a", b"1"),
            lambda: engine.delete(b"a"),
            lambda: engine.write([(b"a", b"1")]),
            lambda: engine.get(b"a"),
            lambda: engine.multi_get([b"a"]),
            engine.scan,
            lambda: engine.scan_prefix(b"a"),
            engine.snapshot,
            engine.flush,
            engine.sync,
            engine.stats,
        ):
            with pytest.raises(Closed):
                use()

    def test_what_is_a_replicas_is_refused(self) -> None:
        storage = MemoryStorage()
        log = Log.open(storage)
        log.append(ADMITTED, [b"\x01" + b"alice..." + (1).to_bytes(8)])
        log.close()
        with pytest.raises(InvalidInput, match="replica"):
            Engine.open(storage)

    def test_a_log_that_was_lost_is_missed(self) -> None:
        storage = MemoryStorage()
        with Engine.open(storage) as engine:
            engine.put(b"a", b"1")
        for name in storage.list("log"):
            storage.remove(f"log/{name}")
        with pytest.raises(Corruption, match="no segments"):
            Engine.open(storage)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_can_do_no_harm(self, tmp_path: Path) -> None:
        engine = Engine.open(tmp_path / "db")
        engine.put(b"a", b"1")
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (
                lambda: engine.put(b"b", b"2"),
                lambda: engine.get(b"a"),
                engine.scan,
                engine.flush,
            ):
                try:
                    use()
                except Exception:
                    refused += 1
            engine.close()
            os._exit(0 if refused == 4 else 1)
        assert os.waitpid(child, 0)[1] == 0
        engine.put(b"c", b"3")
        assert list(engine.scan()) == [(b"a", b"1"), (b"c", b"3")]
        engine.close()
        with Engine.open(tmp_path / "db") as engine:
            assert list(engine.scan()) == [(b"a", b"1"), (b"c", b"3")]


class TestFaults:
    @pytest.mark.parametrize("preallocates", [False, True])
    def test_a_full_disk_refuses_writes_until_there_is_room(self, preallocates: bool) -> None:
        storage = MemoryStorage(preallocates=preallocates)
        with Engine.open(storage) as engine:
            for n in range(100):
                engine.put(b"%03d" % n, bytes(40))
            storage.limit(0)
            refused = 0
            for n in range(2000):
                try:
                    engine.put(b"%03d" % (100 + n), bytes(40))
                except OSError as error:
                    refused += error.errno == errno.ENOSPC
            assert refused > 0
            assert engine.get(b"050") == bytes(40)
            found = list(engine.scan())
            assert len(found) == 2100 - refused
            assert list(Engine.open(storage.clone()).scan()) == found
            storage.limit(None)
            engine.put(b"x", b"1")
            assert list(Engine.open(storage.clone()).scan()) == [*found, (b"x", b"1")]

    def test_a_failed_sync_poisons(self) -> None:
        storage = MemoryStorage()
        engine = Engine.open(storage, durability="commit")
        engine.put(b"a", b"1")
        storage.fail("sync")
        for _ in range(2):
            with pytest.raises(Poisoned):
                engine.put(b"b", b"2")
        assert engine.get(b"a") == b"1"
        with pytest.raises(Poisoned):
            engine.close()
        assert list(Engine.open(storage.crash(None)).scan()) == [(b"a", b"1")]

    @pytest.mark.skipif(not NATIVE, reason="the twin does not map files")
    def test_a_file_that_is_cut_while_it_is_written_ends_no_process(self, tmp_path: Path) -> None:
        engine = Engine.open(tmp_path / "db", durability="none")
        for n in range(100):
            engine.put(b"%03d" % n, bytes(400))
        (name,) = (tmp_path / "db" / "log").iterdir()
        os.truncate(name, 20)

        def go_on() -> None:
            for n in range(1000):
                engine.put(b"x%03d" % n, bytes(400))

        with pytest.raises((Corruption, OSError, Poisoned)):
            go_on()
        assert engine.get(b"050") == bytes(400)


class TestDurability:
    def test_commit_survives_a_power_cut_and_none_a_kill(self) -> None:
        for durability, kept in (("commit", 50), ("batched", 0), ("none", 0)):
            storage = MemoryStorage()
            engine = Engine.open(storage, durability=durability, sync_interval_ms=None)
            for n in range(50):
                engine.put(b"%03d" % n, b"x")
            assert len(list(Engine.open(storage.clone()).scan())) == 50
            assert len(list(Engine.open(storage.crash(None)).scan())) == kept
            engine.sync()
            assert len(list(Engine.open(storage.crash(None)).scan())) == 50

    def test_batched_syncs_by_itself(self) -> None:
        storage = MemoryStorage()
        engine = Engine.open(storage, sync_interval_ms=1)
        for round_ in range(3):
            engine.put(b"%03d" % round_, b"x")
            for _ in range(2000):
                if engine.stats()["log_durable"] == engine.stats()["log_end"]:
                    break
                threading.Event().wait(0.001)
            assert len(list(Engine.open(storage.crash(None)).scan())) == round_ + 1
        engine.close()

    @pytest.mark.parametrize("durability", ["none", "batched", "commit"])
    def test_threads(self, storage: Storage, durability: str) -> None:
        engine = Engine.open(
            storage, durability=durability, memtable_bytes=30_000, segment_bytes=20_000
        )
        failures: list[BaseException] = []

        def work(who: int) -> None:
            try:
                for n in range(150):
                    key = b"%d/%04d" % (who, n)
                    engine.put(key, b"%d" % n)
                    assert engine.get(key) == b"%d" % n
                    if n % 50 == 49:
                        engine.write([(b"both", b"%d" % who), (b"%d/both" % who, b"%d" % n)])
                        assert len(list(engine.scan_prefix(b"%d/0" % who))) == n + 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(who,)) for who in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        found = list(engine.scan())
        assert len(found) == 6 * 151 + 1
        engine.close()
        with Engine.open(storage) as engine:
            assert list(engine.scan()) == found
