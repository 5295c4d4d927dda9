"""A log that is opened again goes on where it stopped, wherever its room ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from murmur.kvcore.frame import BATCH
from murmur.kvcore.log import PREALLOCATED, Log
from murmur.kvcore.storage import DiskStorage


@pytest.mark.parametrize("size", [40, 100, PREALLOCATED + 1, 3 * PREALLOCATED])
def test_frames_that_end_where_the_room_ends_are_there_after_closing(
    tmp_path: Path, size: int
) -> None:
    written = []
    for life in range(4):
        log = Log.open(DiskStorage(str(tmp_path)))
        assert [record for _, _, record in log.read(0)] == written
        for number in range(3):
            written.append(bytes([life, number]) * size)
            log.append(BATCH, [written[-1]])
        log.sync()
        log.close()


def test_a_log_that_goes_on_makes_room_for_more_than_one_record(tmp_path: Path) -> None:
    storage = DiskStorage(str(tmp_path))
    log = Log.open(storage)
    for _ in range(2 * PREALLOCATED // 100):
        log.append(BATCH, [bytes(100)])
    log.sync()
    log.close()
    log = Log.open(storage)
    room = set()
    for _ in range(100):
        log.append(BATCH, [bytes(100)])
        room.add(log.appender.limit)
    log.close()
    assert len(room) < 5
