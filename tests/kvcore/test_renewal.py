"""A replica takes a new id in the middle of its work: nothing is lost, no number is used twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from murmur.errors import Conflict
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage

WHY = "its directory was put back"


@pytest.fixture(params=["disk", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """On the disk, with the system's clock, blind puts are native where there is a kernel."""
    return DiskStorage(tmp_path / "a") if request.param == "disk" else MemoryStorage("a")


def records(replica: Replica) -> list[bytes]:
    return [record for _, record in replica.log.missing({})]


@pytest.mark.parametrize("durability", ["none", "batched", "commit"])
def test_what_is_written_stays_and_what_follows_has_a_new_author(
    storage: Any, durability: str
) -> None:
    with_others = Replica.open(MemoryStorage("b"), durability="none")
    replica = Replica.open(storage, durability=durability, sync_interval_ms=None)
    old = replica.id
    for i in range(5):
        replica.put(b"\x01%d" % i, b"old")
    assert (replica.renewed, replica.former) == (None, frozenset())
    replica.renew(WHY)
    new = replica.id
    assert new != old
    assert (replica.renewed, replica.former) == (WHY, {old})
    assert replica.vector == {old: 5}
    for i in range(3, 9):
        replica.put(b"\x01%d" % i, b"new")
        assert replica.vector == {old: 5, new: i - 2}
    with replica.begin() as tx:
        tx.put(b"\x01tx", b"new")
    replica.delete(b"\x010")
    replica.sync()
    assert replica.vector == replica.durable_vector == {old: 5, new: 8}
    assert list(replica.check()) == []
    with_others.apply(records(replica))
    assert with_others.state_hash() == replica.state_hash()
    assert with_others.tips == replica.tips
    replica.close()

    again = Replica.open(storage, durability=durability, sync_interval_ms=None)
    assert (again.id, again.renewed, again.former) == (new, None, {old})
    assert again.vector == {old: 5, new: 8}
    again.put(b"\x01later", b"v")
    assert again.vector == {old: 5, new: 9}
    again.close()
    with_others.close()


def test_it_is_durable_before_anything_is_written_under_it() -> None:
    storage = MemoryStorage("a")
    replica = Replica.open(storage, durability="commit")
    replica.put(b"\x01a", b"v")
    old = replica.id
    replica.renew(WHY)
    new = replica.id
    survivor = Replica.open(storage.crash(None), durability="commit")
    assert survivor.id == new
    assert survivor.vector == {old: 1}
    for each in (survivor, replica):
        each.close()


def test_who_began_before_runs_again(storage: Any) -> None:
    replica = Replica.open(storage, durability="none")
    replica.put(b"\x01a", b"v")
    writer, reader = replica.begin(), replica.begin()
    writer.put(b"\x01b", b"v")
    assert reader.get(b"\x01a") is not None
    replica.renew(WHY)
    assert reader.commit() is None
    with pytest.raises(Conflict, match="new id"):
        writer.commit()
    assert replica.get(b"\x01b") is None
    replica.close()


def test_its_own_lost_writes_come_back_as_another_authors(storage: Any) -> None:
    lost = Replica.open(MemoryStorage("the same, later"), durability="none")
    for i in range(4):
        lost.put(b"\x01%d" % i, b"v")
    told = records(lost)
    replica = Replica.open(storage, durability="none", random_bytes=lambda n: lost.id[:n])
    assert replica.id == lost.id
    replica.apply(told[:2])  # as if it had written them itself, and was put back to here
    replica._ledger._random_bytes = lambda n: b"n" * n
    replica.renew(WHY)
    replica.put(b"\x01mine", b"v")
    replica.apply(told)
    assert replica.vector == {lost.id: 4, b"n" * 8: 1}
    assert list(replica.check()) == []
    replica.close()
    lost.close()


def test_former_ids_are_remembered_within_bounds(storage: Any) -> None:
    replica = Replica.open(storage, durability="none")
    ids = []
    for i in range(20):
        ids.append(replica.id)
        replica.put(b"\x01%d" % i, b"v")
        replica.renew(WHY)
    assert replica.former == set(ids[-16:])
    replica.close()
    again = Replica.open(storage, durability="none")
    assert again.former == set(ids[-16:])
    assert set(again.vector) == set(ids)
    again.close()
