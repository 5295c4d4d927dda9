"""Replicas that are new, restored or cloned, over real sockets and the public interface."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import murmur
from murmur.kvcore import Backup, DiskStorage, Replica
from murmur.swarm import Swarm
from tests.patience import eventually

SQL = "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, body TEXT UNIQUE)"
GROUP = "g"


def opened(path: Path, **options: object) -> Swarm:
    return murmur.open(path, group=GROUP, **options)  # type: ignore[arg-type]


def together(*swarms: Swarm) -> None:
    """Wait until all hold the same, and see that it is the same."""
    first, *rest = swarms
    eventually(lambda: all(s.replica.vector == first.replica.vector for s in rest))
    assert len({s.replica.state_hash() for s in swarms}) == 1
    for swarm in swarms:
        assert list(swarm.check()) == []


def insert(swarm: Swarm, *numbers: int) -> None:
    with swarm.transaction() as tx:
        for number in numbers:
            tx.sql("INSERT INTO note VALUES (?, ?)", [number, f"note {number}"])


def ids(swarm: Swarm) -> list[int]:
    return [row[0] for row in swarm.sql("SELECT id FROM note ORDER BY id").fetchall()]


def test_a_new_replica_of_a_group_that_has_trimmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Replica.open

    def small(*args: object, **options: object) -> Replica:
        return real(*args, segment_bytes=20_000, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Replica, "open", small)
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        a.sql(SQL)
        for start in range(0, 1000, 100):
            insert(a, *range(start, start + 100))
        a.replica.flush()
        assert a.replica.trim(a.replica.vector, keep_bytes=0) > 20_000
        b.sql(SQL)
        insert(b, 5000, 5001)  # of its own: a snapshot joins, and never replaces
        b.connect_peer(a.ticket())
        together(a, b)
        assert ids(a) == ids(b) == [*range(1000), 5000, 5001]
        assert b.sql("SELECT id FROM note WHERE body = 'note 77'").fetchall() == [(77,)]
        text = "SELECT stage, joined, last_error FROM murmur_bootstrap"
        eventually(lambda: b.sql(text).fetchall() == [("idle", 1, None)])
        insert(b, 6000)
        insert(a, 6001)
        together(a, b)
    with opened(tmp_path / "b") as b:
        assert ids(b) == [*range(1000), 5000, 5001, 6000, 6001]


def test_a_cloned_directory_is_another_replica(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as a:
        a.sql(SQL)
        insert(a, 1, 2)
        old, node = a.replica.id, a.node_id
    shutil.copytree(tmp_path / "a", tmp_path / "clone", ignore=shutil.ignore_patterns("LOCK"))
    with opened(tmp_path / "a") as a, opened(tmp_path / "clone") as clone:
        assert a.replica.id == old
        assert clone.replica.id != old
        assert "copied" in (clone.replica.renewed or "")
        assert a.node_id == node != clone.node_id
        insert(a, 3)  # both go on: under one id these would be one transaction
        insert(clone, 4)
        clone.connect_peer(a.ticket())
        together(a, clone)
        assert ids(a) == ids(clone) == [1, 2, 3, 4]


def test_a_restored_backup_is_another_replica(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        a.sql(SQL)
        insert(a, 1)
        b.connect_peer(a.ticket())
        together(a, b)
        a.replica.backup(str(tmp_path / "backup"))
        insert(a, 2)  # the backup does not have it, a peer does
        together(a, b)
        old = a.replica.id
        a.close()
        Backup(DiskStorage(tmp_path / "backup")).restore(DiskStorage(tmp_path / "restored"))
        with opened(tmp_path / "restored") as restored:
            assert restored.replica.id != old
            assert ids(restored) == [1]
            insert(restored, 3)
            insert(b, 4)
            restored.connect_peer(b.ticket())
            together(restored, b)
            assert ids(restored) == ids(b) == [1, 2, 3, 4]
            assert old in restored.replica.vector  # what it wrote then is still its own


@pytest.mark.parametrize(
    ("option", "value"), [("log_bytes", -1), ("log_days", "x"), ("expire_days", float("inf"))]
)
def test_what_is_kept_of_the_log_is_a_number(tmp_path: Path, option: str, value: object) -> None:
    with pytest.raises(murmur.InvalidInput, match=option):
        opened(tmp_path / "a", **{option: value})
    assert not (tmp_path / "a").exists()
