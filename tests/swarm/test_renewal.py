"""SQL on a replica that takes a new id in the middle of its work."""

from __future__ import annotations

from pathlib import Path

import pytest

import murmur


@pytest.mark.parametrize("backend", ["lsm", "sqlite"])
def test_sql_goes_on_under_a_new_id(tmp_path: Path, backend: str) -> None:
    with murmur.open(tmp_path / "a", backend=backend) as swarm:
        swarm.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, n COUNTER, x TEXT UNIQUE)")
        for i in range(20):
            swarm.sql("INSERT INTO t (id, n, x) VALUES (?, 1, ?)", [i, f"x{i}"])
        old = swarm.replica_id
        swarm.replica.renew("its disk was put back")
        assert swarm.replica_id != old
        for i in range(10, 40):
            try:
                swarm.sql("INSERT INTO t (id, n, x) VALUES (?, 1, ?)", [i, f"x{i}"])
            except murmur.ConstraintViolation:
                assert i < 20
        swarm.sql("UPDATE t SET n = n + 1")
        assert swarm.version_vector == {old: 21, swarm.replica_id: 21}
        assert list(swarm.check()) == []
    with murmur.open(tmp_path / "a") as swarm:
        assert swarm.sql("SELECT count(*), sum(n) FROM t").fetchall() == [(40, 80)]
        assert list(swarm.check()) == []
