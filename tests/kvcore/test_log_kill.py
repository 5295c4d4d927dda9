"""A real process writes a log on a real disk and is killed: what it had appended is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from murmur.kvcore.log import Log
from murmur.kvcore.storage import DiskStorage
from tests.kvcore.log_model import records_of

WRITER = """
import sys
from murmur.kvcore.log import ADMITTED, Log
from murmur.kvcore.storage import DiskStorage

storage = DiskStorage(sys.argv[1])
owner = storage.lock()
log = Log.open(storage, segment_bytes=20_000)
seq = sum(1 for _ in log.read(0))
while True:
    batch = [b"\\1" + b"writer.." + (seq + n).to_bytes(8) + bytes(seq % 100) for n in (1, 2, 3)]
    log.append(ADMITTED, batch)
    seq += 3
    if seq % 60 == 0:
        log.sync()
    print(seq, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 50, 400])
def test_nothing_appended_is_lost_to_a_kill(tmp_path: Path, lines: int) -> None:
    acknowledged = 0
    for _ in range(2):  # the second process recovers from the end of the first
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            writer.wait()
        storage = DiskStorage(tmp_path)
        storage.lock().close()
        log = Log.open(storage)
        seqs = [int.from_bytes(each[9:17]) for each in records_of(log)]
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) >= acknowledged
        assert list(log.check()) == []
        log.close()
