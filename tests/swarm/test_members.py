"""Who belongs to the group, as SQL shows it: records that are replicated, signatures that hold."""

from __future__ import annotations

import time
from pathlib import Path

import murmur
from murmur.catalog.keyspace import MEMBERS
from tests.patience import PATIENCE_S, eventually


def test_a_relay_says_so_and_a_forged_record_is_seen_as_such(tmp_path: Path) -> None:
    with (
        murmur.open(tmp_path / "a", group="team", relay=True) as a,
        murmur.open(tmp_path / "b", group="team") as b,
    ):
        assert a.members() == b.members() == []
        b.connect_peer(a.ticket(), timeout=PATIENCE_S)
        query = "SELECT node_id, replica_id, roles, liveness, signed FROM murmur_members"
        relay = (a.node_id, a.replica_id, "relay", "alive", True)
        eventually(lambda: relay in b.sql(query).fetchall())
        plain = (b.node_id, b.replica_id, "", "alive", None)
        assert plain in a.sql(query).fetchall()
        assert b.version_vector == {a.replica_id: 1}  # b has nothing to say of itself
        assert not list(b.scan())
        b.replica.put(MEMBERS + bytes(32), b"nonsense")
        b.replica.put(MEMBERS + bytes(31), b"nonsense")
        forged = [row for row in b.sql(query).fetchall() if row[4] is False]
        assert len(forged) == 2
        a.wait_for(timeout=PATIENCE_S)
        b.wait_for(timeout=PATIENCE_S)
        assert b.verify(a.node_id).state == "equal"
        assert not a.check()
        assert not b.check()
        a.close()
        eventually(lambda: ("dead",) in b.sql("SELECT liveness FROM murmur_members").fetchall())


def test_records_and_tables_over_keys_do_not_meet(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "a", group="team", relay=True) as swarm:
        swarm.sql("CREATE TABLE everything (key TEXT PRIMARY KEY, value BLOB) USING KV PREFIX ''")
        swarm.put("k", b"v")
        swarm.ticket()
        eventually(lambda: len(swarm.members()) == 1 and swarm.members()[0].signed)
        assert len(swarm.sql("SELECT * FROM everything").fetchall()) == 1
        assert [key for key, _ in swarm.scan()] == ["k"]
        assert not swarm.check()
    with murmur.open(tmp_path / "a", group="team", relay=True, backend=None) as swarm:
        swarm.ticket()
        time.sleep(0.3)
        assert swarm.version_vector[swarm.replica_id] == 3  # what was said is not said again
