"""Snapshots of replicas that have tables: what is derived from the joined rows is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

import murmur
from murmur.kvcore.spool import Spool
from murmur.swarm import Swarm

NOTE = """
CREATE TABLE IF NOT EXISTS note (
    id INTEGER PRIMARY KEY, slug TEXT UNIQUE, n COUNTER, v INTEGER DEFAULT 1
)
"""
UPSERT = """
INSERT INTO note (id, slug, n) VALUES (?, ?, 1)
ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, n = n + 1, v = excluded.id
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Swarm, Swarm]]:
    with (
        murmur.open(tmp_path / "a", group="g", listen=None) as a,
        murmur.open(tmp_path / "b", group="g", listen=None) as b,
    ):
        yield a, b


def give(source: Swarm, target: Swarm) -> None:
    target.replica.apply([r for _, r in source.replica.log.missing(target.replica.vector)])


def hand_over(source: Swarm, target: Swarm, pause: Callable[[], None] = lambda: None) -> None:
    source.replica.flush()
    export = source.replica.export()
    spool = Spool(target.replica.storage)
    spool.begin(export.encoded)
    for index in list(spool.lacking()):
        spool.add(index, export.chunk(index))
    target.replica.adopt(spool, pause)
    spool.clear()
    export.close()


def note(swarm: Swarm, identity: int, slug: str) -> None:
    swarm.sql(UPSERT, [identity, slug])


def rows(swarm: Swarm) -> list[tuple[object, ...]]:
    return swarm.sql("SELECT id, slug, n FROM note ORDER BY id").fetchall()


def agree(a: Swarm, b: Swarm) -> None:
    give(a, b)
    give(b, a)
    assert a.replica.vector == b.replica.vector
    assert rows(a) == rows(b)
    for query in (
        "SELECT id FROM note WHERE slug = 's3'",
        "SELECT id FROM note ORDER BY slug, id",
        "SELECT kind, table_name, key, detail FROM murmur_conflicts ORDER BY 1, 2, 3, 4",
    ):
        assert a.sql(query).fetchall() == b.sql(query).fetchall()
    for swarm in (a, b):
        assert list(swarm.check()) == []


def test_an_empty_replica_gets_tables_rows_and_indexes(pair: tuple[Swarm, Swarm]) -> None:
    a, b = pair
    b.sql(NOTE)
    b.sql("CREATE INDEX by_v ON note (v)")
    for number in range(50):
        note(b, number, f"s{number}")
    hand_over(b, a)
    assert rows(a) == rows(b)
    assert a.sql("SELECT id FROM note WHERE slug = 's7'").fetchall() == [(7,)]
    assert "by_v" in str(a.sql("SELECT * FROM murmur_indexes").fetchall())
    agree(a, b)


@pytest.mark.parametrize("seed", range(4))
def test_both_have_rows_of_their_own(pair: tuple[Swarm, Swarm], seed: int) -> None:
    """Unique values claimed on both sides, rows deleted on one, definitions on one."""
    rng = Random(seed)
    a, b = pair
    b.sql(NOTE)
    note(b, 1, "s1")
    give(b, a)
    for swarm in pair:
        for _ in range(30):
            number = rng.randrange(20)
            if rng.random() < 0.7:
                slug = f"s{rng.randrange(30)}"
                try:
                    note(swarm, number, slug)
                except murmur.ConstraintViolation:
                    continue
            else:
                swarm.sql("DELETE FROM note WHERE id = ?", [number])
    rng.choice(pair).sql("CREATE INDEX by_v ON note (v)")
    rng.choice(pair).sql("ALTER TABLE note ADD COLUMN more TEXT DEFAULT 'x'")
    rng.choice(pair).sql("CREATE TABLE other (id INTEGER PRIMARY KEY)")
    hand_over(b, a)
    agree(a, b)


@pytest.mark.parametrize("seed", range(3))
def test_statements_run_while_a_snapshot_is_joined(pair: tuple[Swarm, Swarm], seed: int) -> None:
    rng = Random(seed)
    a, b = pair
    b.sql(NOTE)
    for number in range(10):
        note(b, number, f"s{number}")
    give(b, a)
    for number in range(80):
        note(b, number, f"t{number}")
    for number in range(20, 30):
        note(a, number, f"u{number}")
    left = 8

    def pause() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            return
        if left == 5:  # many rows, as one block; some of them the other side has inserted too
            many = "SELECT s, 'bulk' || s FROM generate_series(40, 90) g(s)"
            a.sql(f"INSERT INTO note (id, slug) {many}")
        elif left == 6 and seed:
            a.sql("CREATE INDEX by_v ON note (v)")
        elif rng.random() < 0.5:
            note(a, rng.randrange(30), f"v{left}")
        else:
            a.sql("DELETE FROM note WHERE id = ?", [rng.randrange(30)])

    hand_over(b, a, pause)
    assert left < 4
    agree(a, b)


def test_history_begins_with_what_the_log_holds(pair: tuple[Swarm, Swarm]) -> None:
    """What is known of rows that are older than the log is shown; the rest is NULL."""
    a, b = pair
    b.sql(NOTE)
    for number in (1, 2, 3):
        note(b, number, f"s{number}")
    hand_over(b, a)
    note(a, 4, "s4")
    a.sql("UPDATE note SET slug = 'new' WHERE id = 1")
    a.sql("UPDATE note SET n = n + 5 WHERE id = 1")
    a.sql("DELETE FROM note WHERE id = 2")
    a.sql("UPDATE note SET slug = 'newer' WHERE id = 1")
    a.sql("UPDATE note SET v = 7 WHERE id = 3")
    expected = [
        (4, "s4", 1, 1, "insert"),
        (1, "new", 1, 1, "update"),
        (1, "new", 6, 1, "update"),
        (2, None, None, None, "delete"),
        (1, "newer", 6, 1, "update"),
        (3, "s3", 1, 7, "update"),
    ]
    found = [(*row[:4], row[-1]) for row in a.history("note").fetchall()]
    assert found == expected
    text = "SELECT id, slug, n, v, _op FROM murmur_history('note') ORDER BY _hlc"
    assert a.sql(text).fetchall() == expected
    agree(a, b)
    assert len(b.history("note").fetchall()) == 9


def test_history_of_keys_that_are_older_than_the_log(pair: tuple[Swarm, Swarm]) -> None:
    a, b = pair
    cfg = "CREATE TABLE cfg (key TEXT PRIMARY KEY, value TEXT) USING KV PREFIX 'cfg:'"
    b.sql(cfg)
    for key in ("cfg:x", "cfg:y", "cfg:z"):
        b.put(key, b"1")
    hand_over(b, a)
    a.put("cfg:x", b"2")
    a.delete("cfg:y")
    a.put("cfg:x", b"3")
    text = "SELECT key, value, _op FROM murmur_history('cfg') ORDER BY _hlc"
    # That x had a value is not known any more: both writes have covered it.
    assert a.sql(text).fetchall() == [
        ("x", "2", "insert"),
        ("y", None, "delete"),
        ("x", "3", "update"),
    ]
