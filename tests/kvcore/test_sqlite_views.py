"""What the views of kv.sqlite show, to SQLite as it comes, is what Murmur reads."""

from __future__ import annotations

import datetime
import json
import math
import shutil
import subprocess
import tempfile
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import murmur
from murmur.kvcore.cell import visible_fields, visible_value
from murmur.kvcore.clock import ManualClock
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage

SHELL = shutil.which("sqlite3")


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path / "tree/kv.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "db"
    with murmur.open(path, backend="sqlite") as swarm:
        swarm.put("db:host", b"localhost")
        swarm.put("größe", "ä".encode())
        swarm.put(b"\x00\xff", b"\x01\x02")
        swarm.sql(
            "CREATE TABLE note (id INT PRIMARY KEY, body TEXT UNIQUE, likes COUNTER, done BOOLEAN, "
            "price DECIMAL(10, 2), ref UUID, data BLOB, at TIMESTAMP, score DOUBLE)"
        )
        more = b"\x01\x02", datetime.datetime(2024, 1, 2, 3, 4, 5)
        rows = [
            (
                each,
                f'"{each}"',
                3,
                each % 2 == 0,
                Decimal("1.50"),
                uuid.UUID(int=each),
                *more,
                each / 4,
            )
            for each in range(3)
        ]
        swarm.execute_many("INSERT INTO note VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        swarm.sql("UPDATE note SET body = 'edited' WHERE id = 1")
        swarm.sql("CREATE TABLE other (name TEXT PRIMARY KEY)")
        swarm.sql("INSERT INTO other VALUES ('x')")
    return path


def test_registers(store: Path) -> None:
    rows = query(store, "SELECT key, CAST(value AS BLOB), siblings FROM registers")
    assert rows == [
        ("db:host", b"localhost", 1),
        ("größe", "ä".encode(), 1),
        ("x'00ff'", b"\x01\x02", 1),
    ]
    ((written, replica),) = query(
        store, "SELECT max(written), max(replica) FROM registers WHERE key LIKE 'db:%'"
    )
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    assert abs(now - datetime.datetime.fromisoformat(written)) < datetime.timedelta(minutes=10)
    with murmur.open(store) as swarm:
        assert replica == swarm.replica_id


def test_rows(store: Path) -> None:
    rows = query(store, "SELECT key, fields, lives, replica, written IS NULL FROM rows")
    assert len(rows) == 4
    assert {row[4] for row in rows} == {0}
    fields = json.loads(rows[0][1] if "body" in rows[0][1] else rows[-1][1])
    named = query(
        store,
        "SELECT table_name, key, fields ->> 'id', fields ->> 'body', fields ->> 'likes' FROM rows "
        "ORDER BY table_name, key",
    )
    assert named == [
        ("note", "028000000000000000", 0, '"0"', 3),
        ("note", "028000000000000001", 1, "edited", None),  # edited: its counters are left out
        ("note", "028000000000000002", 2, '"2"', 3),
        ("other", "02780001", None, None, None),
    ]
    assert fields.keys() == {
        "id", "body", "likes", "done", "price", "ref", "data", "at", "score"
    }  # fmt: skip
    assert (fields["done"], fields["price"], fields["data"]) == (True, "1.50", "0102")
    assert fields["ref"] == uuid.UUID(int=fields["id"]).hex.upper()
    assert fields["score"] == fields["id"] / 4


@pytest.mark.skipif(SHELL is None, reason="there is no sqlite3 shell here")
def test_the_shell_reads_it(store: Path) -> None:
    def shell(sql: str) -> list[str]:
        assert SHELL is not None
        ran = subprocess.run(
            [SHELL, str(store / "tree/kv.sqlite"), sql], capture_output=True, text=True, check=True
        )
        assert ran.stderr == ""
        return ran.stdout.splitlines()

    assert shell("SELECT key, value FROM registers WHERE key LIKE 'db:%'") == ["db:host|localhost"]
    assert shell("SELECT fields ->> 'body' FROM rows WHERE table_name = 'note'") == [
        '"0"',
        "edited",
        '"2"',
    ]
    assert int(shell("SELECT count(fields) FROM records")[0]) > 10
    assert shell("PRAGMA integrity_check") == ["ok"]
    with murmur.open(store) as swarm:  # beside an open replica, too
        swarm.put("later", b"1")
        swarm.flush()
        assert shell("SELECT value FROM registers WHERE key = 'later'") == ["1"]
        assert swarm.check() == []


atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_subnormal=True)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)
    | st.binary(max_size=300)
)


def as_json(atom: Any) -> Any:
    if isinstance(atom, bytes):
        return atom.hex().upper()
    if isinstance(atom, float) and not math.isfinite(atom):
        return "NaN" if atom != atom else "Infinity" if atom > 0 else "-Infinity"
    return atom


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, 2**32 - 1), atoms, max_size=20),
            st.dictionaries(st.integers(0, 2**32 - 1), st.integers(-(2**60), 2**60), max_size=3),
        ),
        max_size=4,
    )
)
def test_records_of_any_fields(given: list[tuple[dict[int, Any], dict[int, int]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        storage = DiskStorage(directory)
        with Replica.open(storage, clock=ManualClock(1_700_000_000_000), backend="sqlite") as a:
            for number, (fields, counters) in enumerate(given):
                with a.begin() as tx:
                    own = {field: each for field, each in counters.items() if field not in fields}
                    tx.insert(b"\x02%d" % number, dict(sorted(fields.items())), own)
            expected = {
                key.hex(): {
                    str(field): as_json(atom) for field, atom in visible_fields(cell).items()
                }
                for key, cell in a.snapshot().scan(b"\x02", b"\x03")
            }
        shown = query(Path(directory), "SELECT key, fields, replica, written, lives FROM records")
        assert {key: json.loads(fields) for key, fields, *_ in shown} == expected
        for row in shown:
            assert row[2:] == (a.id.hex(), "2023-11-14 22:13:20.000", 1)


def test_winners_among_siblings_and_lives(tmp_path: Path) -> None:
    clock = ManualClock(1_700_000_000_000)
    replicas = [
        Replica.open(DiskStorage(tmp_path / f"{number}"), clock=clock, backend="sqlite")
        for number in range(4)
    ]
    for number, replica in enumerate(replicas):
        clock.advance(1000)
        with replica.begin() as tx:
            tx.put(b"\x01\x01text", bytes([number]) * (1 << 4 * number))
            tx.put(b"\x01\x02\xff", b"%d" % number)
            tx.insert(b"\x02row", {7: f"of {number}"}, {8: number})
            tx.edit(b"\x02row", {7: f"edited by {number}"})
        replica.sync()
    for source in replicas:
        for target in replicas:
            missing = source.log.missing(dict(target.vector), source.durable_position)
            target.apply([record for _, record in missing])
    with replicas[1].snapshot() as snapshot:
        values = [
            visible_value(snapshot.get(key) or b"") for key in (b"\x01\x01text", b"\x01\x02\xff")
        ]
        fields = visible_fields(snapshot.get(b"\x02row") or b"")
    for replica in replicas:
        replica.close()
    last = replicas[-1].id.hex()
    for number in range(4):
        path = tmp_path / f"{number}"
        assert query(path, "SELECT * FROM registers") == [
            ("text", values[0], "2023-11-14 22:13:24.000", last, 4),
            ("x'ff'", values[1], "2023-11-14 22:13:24.000", last, 4),
        ]
        ((key, shown, written, replica_id, lives),) = query(path, "SELECT * FROM records")
        assert (key, written, lives) == (b"\x02row".hex(), "2023-11-14 22:13:24.000", 4)
        assert json.loads(shown) == {"7": fields[7]}
        assert replica_id == last
