"""Both kernels append the same bytes, know the same of them, and refuse the same."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import pytest

from murmur.kvcore import kernel
from murmur.kvcore import segment as segment_module
from murmur.kvcore.batch import decode_batch, encode_batch
from murmur.kvcore.engine import Engine
from murmur.kvcore.frame import ADMITTED, BATCH, PARKED
from murmur.kvcore.kernel import pure
from murmur.kvcore.log import Log
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.replica import Replica
from murmur.kvcore.segment import Segment
from murmur.kvcore.storage import DiskStorage, Storage
from tests.kvcore.log_model import record

pytestmark = pytest.mark.skipif(not kernel.NATIVE, reason="not compiled")

WHO = [b"%08d" % n for n in range(5)]


def contents(storage: Storage) -> dict[str, bytes]:
    found = {}
    for name in storage.list("log"):
        file = storage.open(f"log/{name}")
        found[name] = file.read(0, file.size())
        file.close()
    return found


@pytest.mark.parametrize("seed", range(25))
def test_logs_are_equal_byte_for_byte(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_module, "BLOCK_BYTES", 300)
    storages: list[Storage] = [
        DiskStorage(tmp_path / "native"),
        MemoryStorage(),
        MemoryStorage(preallocates=True),
    ]

    def opened(storage: Storage) -> Log:
        return Log.open(storage, segment_bytes=3000)

    logs = [opened(storage) for storage in storages]
    monkeypatch.setattr("murmur.kvcore.log.Appender", pure.Appender)
    storages.append(DiskStorage(tmp_path / "pure"))
    logs.append(opened(storages[-1]))
    assert not logs[-1].appender.mapped
    rng = Random(seed)
    seqs = dict.fromkeys(WHO, 0)
    for _ in range(60):
        choice = rng.random()
        if choice < 0.8:
            batch = []
            for _ in range(rng.randint(1, 4)):
                who = rng.choice(WHO)
                seqs[who] += 1
                batch.append(record(who, seqs[who], rng.randbytes(rng.choice((0, 5, 70, 900)))))
            kind = rng.choice((ADMITTED, ADMITTED, PARKED, BATCH))
            ends = {log.append(kind, batch) for log in logs}
            assert len(ends) == 1
        elif choice < 0.95:
            assert len({log.sync() for log in logs}) == 1
        else:
            for log in logs:
                log.sync()
                log.close()
            assert all(contents(storage) == contents(storages[0]) for storage in storages)
            with pytest.MonkeyPatch.context() as native:
                native.setattr("murmur.kvcore.log.Appender", kernel.Appender)
                logs[:-1] = [opened(storage) for storage in storages[:-1]]
            logs[-1] = opened(storages[-1])
        assert all(log.segments == logs[-1].segments for log in logs)
        assert all(list(log.read(0)) == list(logs[-1].read(0)) for log in logs[:1])
    for log in logs:
        assert list(log.check()) == []
        log.sync()
        log.close()
    assert all(contents(storage) == contents(storages[0]) for storage in storages)


def test_logs_are_equal_whether_much_or_little_is_synced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The native one takes its file in large pieces while much is appended between two syncs."""
    storages = [DiskStorage(tmp_path / name) for name in ("native", "pure")]
    logs = [Log.open(storages[0], segment_bytes=4 << 20)]
    monkeypatch.setattr("murmur.kvcore.log.Appender", pure.Appender)
    logs.append(Log.open(storages[1], segment_bytes=4 << 20))
    assert logs[0].append(BATCH, [b""]) == logs[1].append(BATCH, [b""])
    assert logs[0].appender.mapped
    rng = Random(5)
    payloads = []
    for count in (3, 200, 3, 3, 700, 3, 2000, 1):  # a kilobyte each, then a sync
        payloads += [rng.randbytes(1024) for _ in range(count)]
        for log in logs:
            for payload in payloads[-count:]:
                log.append(BATCH, [payload])
            assert log.sync() == log.end
    for log in logs:
        assert [payload for _, _, payload in log.read(0)] == [b"", *payloads]
        log.close()
    assert contents(storages[0]) == contents(storages[1])


@pytest.mark.parametrize("seed", range(10))
def test_native_batches_are_those_of_python(seed: int, tmp_path: Path) -> None:
    rng = Random(seed)
    expected = []
    with Engine.open(tmp_path / "db", durability="none") as engine:
        engine.put(b"first", b"is the engine's own, which makes room")
        start = int(str(engine.stats()["log_end"]))
        for _ in range(100):
            entries = []
            for _ in range(rng.choice((1, 1, 1, 5, 200))):
                key = rng.randbytes(rng.choice((0, 1, 20, 127, 128, 300)))
                value = rng.randbytes(rng.choice((0, 1, 126, 127, 128, 20_000)))
                entries.append((key, None if rng.random() < 0.2 else value))
            if len(entries) > 1:
                engine.write(entries)
            elif entries[0][1] is None:
                engine.delete(entries[0][0])
            else:
                engine.put(entries[0][0], entries[0][1])
            expected.append(entries)
        engine.sync()
        payloads = [payload for _, _, payload in engine._log.read(start)]
        assert payloads == [encode_batch(entries) for entries in expected]
        assert [decode_batch(payload) for payload in payloads] == [(e, []) for e in expected]
        state = {key: value for entries in expected for key, value in entries if value is not None}
        for entries in expected:
            state.update(entries)  # type: ignore[arg-type]
        for key, value in state.items():
            assert engine.get(key) == value


@pytest.mark.parametrize("size", [1, 40, 41, 86, 87, 88, 128, 129, 214, 215, 216, 1000, 100_000])
def test_hashes_are_those_of_hashlib(size: int, tmp_path: Path) -> None:
    """Of records about the sizes at which BLAKE2b begins another block."""
    replica = Replica.open(DiskStorage(tmp_path / "db"))
    replica.put(b"\x01a", b"first")
    replica.put(b"\x01a", bytes(size))
    *_, last = (each for _, _, each in replica.log.read(0))
    assert replica.tips[replica.id] == hashlib.blake2b(last, digest_size=16).digest()
    replica.close()


def test_an_appender_refuses_what_is_no_record() -> None:
    storage = MemoryStorage()
    Log.open(storage).close()
    (name,) = storage.list("log")
    for kind in (kernel.Appender, pure.Appender):
        file = storage.append(f"log/{name}")
        appender = kind(file, Segment(0, 0), durable=0, block_bytes=1000)
        assert appender.append(ADMITTED, [record(WHO[0], 1)]) == -1  # there is no room
        appender.limit = 1000
        for bad in ([b"short"], ["text"], [None]):
            with pytest.raises((AssertionError, TypeError)):
                appender.append(ADMITTED, bad)  # type: ignore[arg-type]
        assert appender.end == 0
