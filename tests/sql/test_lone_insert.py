"""An INSERT of one row that commits by itself is what it would be by way of a transaction."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import murmur
from murmur.errors import Closed, ConstraintViolation, MurmurError
from murmur.kvcore import kernel
from murmur.kvcore.replica import Replica

pytestmark = pytest.mark.skipif(kernel.AuthorWriter is None, reason="there is no native kernel")

TABLES = """
CREATE TABLE plain (id INTEGER PRIMARY KEY, a TEXT, b SMALLINT, c DOUBLE PRECISION);
CREATE INDEX plain_a ON plain (a DESC, c);
CREATE UNIQUE INDEX plain_b ON plain (b);
CREATE TABLE hidden (a VARCHAR(3), b BLOB, c BOOLEAN DEFAULT TRUE);
CREATE TABLE priced (id BIGINT PRIMARY KEY, w DECIMAL(5,2) NOT NULL CHECK (w < 100), hits COUNTER);
CREATE TABLE dated (k TEXT, n INTEGER DEFAULT 7, d DATE DEFAULT CURRENT_DATE, PRIMARY KEY (n, k));
CREATE TABLE parent (id INTEGER PRIMARY KEY);
CREATE TABLE child (id INTEGER PRIMARY KEY, up INTEGER REFERENCES parent)
"""
STATEMENTS = {
    "INSERT INTO plain VALUES (?, ?, ?, ?)": "nsmf",
    "INSERT INTO plain (b, id) VALUES (:b, :id)": {"b": "m", "id": "n"},
    "INSERT INTO plain (id, a) VALUES ($1, 'fixed')": "n",
    "INSERT INTO hidden (a, b) VALUES (?, ?)": "sb",
    "INSERT INTO priced (id, w, hits) VALUES (?, ?, ?)": "ndn",
    "INSERT INTO dated (k) VALUES (?)": "s",
    "INSERT INTO dated VALUES (?, ?, '2024-02-29')": "sn",
    "INSERT INTO parent VALUES (?)": "n",
    "INSERT INTO child VALUES (?, ?)": "nn",
    "INSERT INTO plain (id) VALUES (?) ON CONFLICT DO NOTHING": "n",
    "INSERT INTO plain (id) VALUES (?) RETURNING id": "n",
}
VALUES = {
    "n": [*range(12), True, -1, 2**31, "7", Decimal(3)],
    "m": [*range(12), None, 40_000],
    "s": ["a", "b", "é", "abcd", "a\0", "\ud800", None, 5],
    "b": [b"", b"x", bytearray(b"y"), None, "text"],
    "f": [0.5, float("nan"), None, 3, "1.5"],
    "d": [Decimal("1.25"), Decimal("99.999"), 100, 7, None, 3.5],
}


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[murmur.Swarm]:
    with murmur.open(tmp_path / "one") as swarm:
        swarm.executescript(TABLES)
        yield swarm


def outcome(swarm: murmur.Swarm, text: str, given: Any) -> Any:
    try:
        result = swarm.sql(text, given)
        return result.kind, result.rowcount, result.lastrowid, result.fetchall()
    except (MurmurError, TypeError, ValueError) as error:
        return type(error), str(error)


def rows(swarm: murmur.Swarm) -> list[list[str]]:
    """Of all tables, as text: a NaN is unlike itself."""
    names = ["plain", "hidden", "priced", "dated", "parent", "child"]
    return [sorted(map(repr, swarm.sql(f"SELECT * FROM {name}").fetchall())) for name in names]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each row that was tried to be inserted by itself was."""
    insert, done = Replica.insert, []

    def counting(self: Replica, *rest: Any) -> bool:
        done.append(insert(self, *rest))
        return done[-1]

    monkeypatch.setattr(Replica, "insert", counting)
    return done


def test_rows_and_errors_are_those_of_the_long_way(
    swarm: murmur.Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = counted(monkeypatch)
    chance = random.Random(5)
    pick = chance.choice
    with murmur.open(tmp_path / "other") as other:
        other.executescript(TABLES)
        with other.transaction():  # as long as it is open, all have the long way
            for _ in range(700):
                text = pick(list(STATEMENTS))
                kinds = STATEMENTS[text]
                given: Any
                if isinstance(kinds, dict):
                    given = {name: pick(VALUES[kind]) for name, kind in kinds.items()}
                else:
                    given = [pick(VALUES[kind]) for kind in kinds]
                    if chance.random() < 0.05:
                        given.append(0)
                assert outcome(swarm, text, given) == outcome(other, text, given), (text, given)
                if chance.random() < 0.02:
                    victim = "DELETE FROM plain WHERE id = ?"
                    key = [chance.randrange(12)]
                    assert outcome(swarm, victim, key) == outcome(other, victim, key)
        assert rows(swarm) == rows(other)
    assert done.count(True) > 50
    assert done.count(False) > 50
    assert swarm.check() == []


def test_another_replica_makes_the_same_of_it(
    swarm: murmur.Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = counted(monkeypatch)
    for number in range(50):
        swarm.sql("INSERT INTO plain VALUES (?, ?, ?, ?)", [number, f"n{number % 7}", number, 0.5])
        swarm.sql("INSERT INTO priced (id, w) VALUES (?, 3)", [number])
        if number == 20:
            swarm.put("key", b"value")
        if number == 30:
            swarm.sql("UPDATE plain SET a = 'new' WHERE id = 3")
    swarm.sql("INSERT INTO plain (id) VALUES (?)", [99])
    assert done.count(True) > 90
    records = [record for _, record in swarm.replica.log.missing({})]
    with murmur.open(tmp_path / "peer") as peer:
        assert peer.replica.apply(records).admitted == len(records)
        assert peer.state_hash() == swarm.state_hash()
        assert rows(peer) == rows(swarm)
        # It writes after them, and the first one knows what that has seen.
        peer.sql("INSERT INTO plain (id) VALUES (?)", [100])
        peer.sql("INSERT INTO plain (id) VALUES (?)", [101])
        peer.put("key", b"other")
        more = [r for _, r in peer.replica.log.missing(swarm.replica.vector)]
        assert swarm.replica.apply(more).admitted == 3
        swarm.sql("INSERT INTO plain (id) VALUES (?)", [102])
        swarm.put("key", b"last")
        swarm.sql("INSERT INTO plain (id) VALUES (?)", [103])
        back = [r for _, r in swarm.replica.log.missing(peer.replica.vector)]
        assert peer.replica.apply(back).admitted == 3
        assert peer.state_hash() == swarm.state_hash()
        assert peer.check() == swarm.check() == []


def test_what_was_inserted_is_there_after_the_death_of_the_process(
    swarm: murmur.Swarm, tmp_path: Path
) -> None:
    for number in range(20):
        swarm.sql("INSERT INTO plain VALUES (?, ?, ?, ?)", [number, "a", number, None])
    shutil.copytree(tmp_path / "one", tmp_path / "left")
    with murmur.open(tmp_path / "left") as again:
        assert rows(again) == rows(swarm)
        assert again.sql("SELECT count(*) FROM plain WHERE a = 'a'").fetchall() == [(20,)]
        assert again.check() == []


def test_columns_that_were_kept_know_of_the_row(swarm: murmur.Swarm) -> None:
    with murmur.connect(swarm) as connection:
        connection.autocommit = True
        connection.execute("SET engine = columnar")
        for number in range(6):
            connection.execute("INSERT INTO priced (id, w) VALUES (?, ?)", [number, number])
            total = connection.execute("SELECT sum(w), count(*) FROM priced").fetchall()
            assert total == [(sum(range(number + 1)), number + 1)]


def test_definitions_that_change_in_between_are_heeded(swarm: murmur.Swarm) -> None:
    text = "INSERT INTO plain (id, b) VALUES (?, ?)"
    for number in range(3):
        swarm.sql(text, [number, number])
    swarm.sql("ALTER TABLE plain ADD COLUMN e INTEGER DEFAULT 5")
    swarm.sql("ALTER TABLE plain ADD CHECK (b < 10)")
    for number in range(3, 6):
        swarm.sql(text, [number, number])
    with pytest.raises(ConstraintViolation, match="check constraint"):
        swarm.sql(text, [6, 11])
    swarm.sql("DROP INDEX plain_b")
    swarm.sql(text, [7, 1])
    swarm.sql("CREATE INDEX plain_e ON plain (e)")
    swarm.sql(text, [8, 1])
    swarm.sql(text, [9, 1])
    found = swarm.sql("SELECT id FROM plain WHERE e = 5 ORDER BY id").fetchall()
    assert found == [(number,) for number in (0, 1, 2, 3, 4, 5, 7, 8, 9)]
    assert swarm.check() == []
    swarm.sql("DROP TABLE plain")
    with pytest.raises(MurmurError, match="plain"):
        swarm.sql(text, [10, 1])


def test_each_key_is_taken_once_among_threads(swarm: murmur.Swarm) -> None:
    text, taken, refused = "INSERT INTO plain (id, b) VALUES (?, ?)", [], []
    swarm.sql(text, [-1, -1])
    start = threading.Barrier(4)

    def insert(seed: int) -> None:
        chance = random.Random(seed)
        keys = chance.sample(range(150), 150)
        start.wait(10)
        for key in keys:
            try:
                swarm.sql(text, [key, key])
                taken.append(key)
            except ConstraintViolation:
                refused.append(key)

    threads = [threading.Thread(target=insert, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == list(range(150))
    assert len(refused) == 450
    assert swarm.check() == []


def test_a_transaction_sees_what_was_inserted_before_it_and_not_what_comes_after(
    swarm: murmur.Swarm,
) -> None:
    text = "INSERT INTO plain (id) VALUES (?)"
    swarm.sql(text, [1])
    swarm.sql(text, [2])
    with murmur.connect(swarm) as connection:
        count = "SELECT count(*) FROM plain"
        assert connection.execute(count).fetchall() == [(2,)]
        swarm.sql(text, [3])
        assert connection.execute(count).fetchall() == [(2,)]
        connection.execute(text, [3])
        with pytest.raises(murmur.OperationalError, match="run it again"):
            connection.commit()
    swarm.sql(text, [4])
    swarm.sql(text, [5])
    assert swarm.sql(count).fetchall() == [(5,)]


def test_keys_fill_themselves(swarm: murmur.Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    done, keys = counted(monkeypatch), []
    for number in range(4):
        result = swarm.sql("INSERT INTO plain (id, b) VALUES (?, ?)", [None, number])
        keys.append(result.lastrowid)
        swarm.sql("INSERT INTO hidden (a) VALUES (?)", ["a"])
    assert done == [True] * 6
    found = swarm.sql("SELECT id, b FROM plain ORDER BY b").fetchall()
    assert found == list(zip(sorted(keys), range(4), strict=True))
    assert swarm.sql("SELECT a, c FROM hidden").fetchall() == [("a", True)] * 4


def test_read_only_sessions_and_closed_swarms_refuse(swarm: murmur.Swarm) -> None:
    text = "INSERT INTO plain (id) VALUES (?)"
    swarm.sql(text, [1])
    swarm.sql(text, [2])
    with murmur.connect(swarm) as connection:
        connection.autocommit = True
        connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(MurmurError, match="read-only"):
            connection.execute(text, [3])
    swarm.close()
    with pytest.raises(Closed):
        swarm.sql(text, [3])
