"""The engine in real processes: killed, forked, interrupted, and with files cut under it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from murmur.kvcore.engine import Engine
from murmur.kvcore.kernel import NATIVE

WRITER = """
import sys
from murmur.kvcore.engine import Engine, WriteBatch

engine = Engine.open(sys.argv[1], durability=sys.argv[2], memtable_bytes=6000, table_bytes=4000,
                     segment_bytes=5000, separate_bytes=200, level0_tables=2, mmap=True)
number = int(engine.get(b"last") or b"0")
while True:
    number += 1
    batch = WriteBatch()
    batch.put(b"last", b"%d" % number)
    batch.put(b"%06d" % number, b"x" * (number % 400))
    batch.delete(b"%06d" % (number - 50))
    engine.write(batch)
    if number % 7 == 0:
        engine.put(b"alone", b"%d" % number)
    if number % 97 == 0:
        engine.delete_range(b"", b"%06d" % (number - 40))
    if number % 151 == 0:
        engine.flush()
    sys.stdout.write("%d\\n" % number)
    sys.stdout.flush()
"""


def environment(*, pure: bool) -> dict[str, str]:
    paths = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": paths, "MURMUR_PURE": "1" if pure else "0"}


def sound(path: Path, acknowledged: int) -> int:
    """All that was acknowledged is there, and nothing else; how far the writer has come."""
    with Engine.open(path) as engine:
        number = int(engine.get(b"last") or b"0")
        assert number in (acknowledged, acknowledged + 1)
        found = dict(engine.scan(b"0", b"9"))
        # The range before the last multiple of 97 was deleted after its batch; a kill may have
        # come between the two.
        for first in {number // 97 * 97 - 40, (number - number % 97 - 97) - 40}:
            kept = range(max(1, first, number - 49), number + 1)
            if found == {b"%06d" % n: b"x" * (n % 400) for n in kept}:
                break
        else:
            raise AssertionError(f"{number}: {sorted(found)}")
        alone = int(engine.get(b"alone") or b"0")
        # A kill between a batch and its put leaves that out until the next one.
        assert alone % 7 == 0
        assert number - 21 < alone <= number
        assert list(engine.check()) == []
    return number


def kill_often(path: Path, durability: str, seed: int, kills: int, *, pure: bool) -> None:
    rng, acknowledged = Random(seed), 0
    for _ in range(kills):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), durability],
            stdout=subprocess.PIPE,
            env=environment(pure=pure),
        ) as writer:
            assert writer.stdout is not None
            for _ in range(rng.choice((1, 20, 150, 400))):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().split(b"\n")[:-1]:
                acknowledged = int(line)
        acknowledged = sound(path, acknowledged)


@pytest.mark.parametrize("durability", ["none", "batched", "commit"])
def test_a_kill_takes_nothing_that_was_acknowledged(tmp_path: Path, durability: str) -> None:
    kill_often(tmp_path / "native", durability, 1, 6, pure=False)
    kill_often(tmp_path / "pure", durability, 2, 2, pure=True)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("durability", ["none", "batched", "commit"])
def test_many_kills(tmp_path: Path, durability: str) -> None:
    for seed in range(10):
        kill_often(tmp_path / f"{seed}", durability, seed, 100, pure=seed % 3 == 0)


READER = """
import os, sys
from pathlib import Path
from murmur.errors import Corruption
from murmur.kvcore.engine import Engine

path = Path(sys.argv[1])
engine = Engine.open(path, mmap=True, cache_bytes=0, separate_bytes=500)
for n in range(3000):
    engine.put(b"%05d" % n, b"v" * (2000 if n % 100 == 0 else 90))
engine.flush()
snapshot = engine.snapshot()
assert len(list(engine.scan())) == 3000
for name in (path / "tree").glob("*." + sys.argv[2]):
    os.truncate(name, int(sys.argv[3]))
refused = 0
for read in (
    lambda: engine.get(b"02900"),
    lambda: list(engine.scan()),
    lambda: list(engine.scan(reverse=True)),
    lambda: engine.multi_get([b"02900", b"02800"]),
    lambda: list(snapshot.scan(b"", None)),
    lambda: list(snapshot.chunks(b"", None)),
):
    try:
        read()
    except Corruption as error:
        assert str(path) in error.path
        refused += 1
assert refused == 6, refused
assert list(engine.check()) != []
print("alive")
"""


@pytest.mark.parametrize("size", [0, 10, 5000, 150_000])
@pytest.mark.parametrize("suffix", ["sst", "val"])
def test_a_file_cut_under_an_open_engine_kills_nobody(
    tmp_path: Path, suffix: str, size: int
) -> None:
    if suffix == "val" and size == 150_000:
        size = 50_000
    reader = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "db"), suffix, str(size)],
        capture_output=True,
        text=True,
        env=environment(pure=False),
    )
    assert reader.stdout == "alive\n", reader.stderr


INTERRUPTED = """
import signal, sys
from random import Random
from murmur.kvcore.engine import Engine

def opened():
    return Engine.open(sys.argv[1], durability=sys.argv[2], memtable_bytes=20000,
                       segment_bytes=20000, separate_bytes=200)

rng, engine, state, maybe = Random(sys.argv[3]), opened(), {}, {}
interrupts = 0
signal.signal(signal.SIGALRM, signal.default_int_handler)
for turn in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.random() * 0.004 + 0.0002, 1.0)
        while True:
            key = b"%03d" % rng.randrange(300)
            value = b"%d" % rng.getrandbits(60) * rng.choice((1, 20))
            maybe = {key: value}
            engine.put(key, value)
            state[key] = value
            maybe = {}
            if rng.random() < 0.01:
                engine.flush()
    except KeyboardInterrupt:
        interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    engine.put(b"after", b"%d" % turn)  # settles what was interrupted
    state[b"after"] = b"%d" % turn
    found = dict(engine.scan())
    for key, value in maybe.items():
        if found.get(key) == value:
            state[key] = value
    assert found == state, turn
    if turn % 10 == 9:
        engine.close()
        engine = opened()
        assert dict(engine.scan()) == state, turn
assert interrupts == 60
assert list(engine.check()) == []
engine.close()
print("whole")
"""


@pytest.mark.parametrize("pure", [False, True], ids=["native", "pure"])
@pytest.mark.parametrize("durability", ["none", "batched", "commit"])
def test_an_interrupted_writer_stays_whole(tmp_path: Path, durability: str, pure: bool) -> None:
    writer = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "db"), durability, "7"],
        capture_output=True,
        text=True,
        env=environment(pure=pure),
    )
    assert writer.stdout == "whole\n", writer.stderr


@pytest.mark.parametrize("mmap", [False, True])
def test_a_fork_beside_busy_threads_leaves_the_parent_what_it_has(
    tmp_path: Path, mmap: bool
) -> None:
    engine = Engine.open(tmp_path / "db", memtable_bytes=20_000, mmap=mmap and NATIVE)
    for n in range(2000):
        engine.put(b"%05d" % n, b"x" * 50)
        if n % 400 == 0:
            child = os.fork()
            if child == 0:
                refused = 0
                for use in (
                    lambda: engine.put(b"child", b""),
                    lambda: engine.get(b"00000"),
                    lambda: list(engine.scan()),
                    engine.flush,
                    engine.sync,
                    engine.compact,
                ):
                    try:
                        use()
                    except Exception:
                        refused += 1
                engine.close()
                os._exit(0 if refused == 6 else 1)
            assert os.waitpid(child, 0)[1] == 0
    assert len(list(engine.scan())) == 2000
    engine.close()
    with Engine.open(tmp_path / "db") as engine:
        assert len(list(engine.scan())) == 2000
        assert list(engine.check()) == []
