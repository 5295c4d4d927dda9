"""The room that is held: as much as there is, given up whole, taken again, and nobody's to miss."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.reserve import Reserve
from murmur.kvcore.storage import DiskStorage, Storage


@pytest.fixture(params=["memory", "disk"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return MemoryStorage() if request.param == "memory" else DiskStorage(tmp_path)


def size(storage: Storage) -> int:
    file = storage.open("RESERVE")
    try:
        return file.size()
    finally:
        file.close()


def test_it_is_held_grown_given_up_and_taken_over(storage: Storage) -> None:
    reserve = Reserve(storage, "RESERVE")
    assert (reserve.bytes, reserve.give_up()) == (0, False)
    reserve.hold(5000)
    reserve.hold(3000)
    assert reserve.bytes == size(storage) == 5000
    reserve.hold(9000)
    assert reserve.bytes == size(storage) == 9000
    again = Reserve(storage, "RESERVE")
    assert (again.bytes, again.spent) == (9000, False)
    assert again.give_up()
    assert (again.bytes, again.spent) == (0, True)
    assert storage.list() == []
    again.hold(10)
    assert (again.bytes, again.spent) == (10, False)


def test_it_takes_no_more_room_than_there_is() -> None:
    storage = MemoryStorage()
    storage.limit(6000)
    reserve = Reserve(storage, "RESERVE")
    reserve.hold(7000)
    assert (reserve.bytes, storage.list()) == (0, [])
    reserve.hold(4000)
    reserve.hold(7000)
    assert reserve.bytes == size(storage) == 4000


@pytest.mark.parametrize("kind", ["create", "append", "preallocate", "truncate", "remove"])
def test_a_disk_that_fails_has_none_and_disturbs_nobody(kind: str) -> None:
    storage = MemoryStorage()
    reserve = Reserve(storage, "RESERVE")
    reserve.hold(100)
    storage.fail(kind, times=None)
    reserve.hold(200)
    reserve.give_up()
    reserve.hold(300)
    storage.heal()
    reserve.hold(400)
    assert reserve.bytes == size(storage) == 400


def test_where_nothing_can_be_preallocated_zeros_are_written() -> None:
    storage = MemoryStorage()
    storage.fail("preallocate", error=errno.EOPNOTSUPP, times=None)
    reserve = Reserve(storage, "RESERVE")
    reserve.hold(3 << 20)
    assert reserve.bytes == size(storage) == 3 << 20
