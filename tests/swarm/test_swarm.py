"""A swarm from opening to closing: keys, SQL and transactions together, and wrong arguments."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import murmur
from murmur import (
    BindError,
    Closed,
    Conflict,
    ConstraintViolation,
    Corruption,
    Forked,
    InvalidInput,
    Locked,
    ParseError,
    Swarm,
)

NOTE = "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL, likes COUNTER)"
CREATED = 8  # operations of that: the table and three columns, each removed first and inserted


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a") as swarm:
        yield swarm


@pytest.fixture
def notes(swarm: Swarm) -> Swarm:
    swarm.sql(NOTE)
    swarm.execute_many("INSERT INTO note (id, body) VALUES (?, ?)", [(1, "one"), (2, "two")])
    return swarm


def rows(swarm: Swarm, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return swarm.sql(text, parameters).fetchall()


# SQL -------------------------------------------------------------------


def test_statements_commit_by_themselves(notes: Swarm) -> None:
    assert rows(notes, "SELECT id, body, likes FROM note ORDER BY id") == [
        (1, "one", 0),
        (2, "two", 0),
    ]
    notes.sql("UPDATE note SET likes = likes + ? WHERE id = ?", [3, 1])
    assert rows(notes, "SELECT likes FROM note WHERE id = $1", 1) == [(3,)]
    result = notes.sql("SELECT body FROM note WHERE id = :id", {"id": 2})
    assert result.fetchall() == [("two",)]
    assert rows(notes, "DELETE FROM note WHERE id = 2 RETURNING body") == [("two",)]


def test_grouping_and_joins_run_on_the_same_data(notes: Swarm) -> None:
    wide = """
        SELECT n.body, count(*) AS pairs FROM note n JOIN note m ON m.id >= n.id
        GROUP BY n.body ORDER BY n.body
    """
    assert rows(notes, wide) == [("one", 2), ("two", 1)]
    notes.sql("INSERT INTO note (id, body) VALUES (3, 'three')")
    assert rows(notes, wide) == [("one", 3), ("three", 1), ("two", 2)]


def test_both_engines_give_the_same_python_values(swarm: Swarm) -> None:
    swarm.sql(
        "CREATE TABLE t (id UUID PRIMARY KEY, d DECIMAL(8,2), b BLOB, day DATE, at TIMESTAMPTZ,"
        " span INTERVAL, j JSON, n COUNTER)"
    )
    swarm.sql(
        "INSERT INTO t VALUES (?, 1.50, '\\x00ff', '2024-02-29', '2024-02-29 12:00:00+02',"
        " '1 month 2 days', '{\"a\": 1}', 7)",
        [uuid.UUID(int=7)],
    )
    narrow = swarm.sql("SELECT * FROM t")
    lateral = "SELECT t.* FROM t, LATERAL (SELECT t.n) AS u (x)"
    wide = swarm.sql(lateral)
    for text, engine in (("SELECT * FROM t", "row"), (lateral, "columnar")):
        assert f"engine: {engine}" in str(swarm.sql(f"EXPLAIN {text}"))
    (one,), (other,) = narrow, wide
    assert one == other
    assert list(map(type, one)) == list(map(type, other))
    assert narrow.arrow().equals(wide.arrow())
    assert narrow.columns == wide.columns


def test_execute_many_is_all_or_nothing(notes: Swarm) -> None:
    with pytest.raises(ConstraintViolation):
        notes.execute_many("INSERT INTO note (id, body) VALUES (?, ?)", [(3, "x"), (1, "y")])
    assert rows(notes, "SELECT count(*) FROM note") == [(2,)]
    done = notes.execute_many("UPDATE note SET body = ? WHERE id = ?", [("a", 1), ("b", 9)])
    assert done.rowcount == 1


def test_a_transaction_statement_alone_is_refused(notes: Swarm) -> None:
    with pytest.raises(InvalidInput, match=r"swarm\.transaction"):
        notes.sql("BEGIN")
    with pytest.raises(InvalidInput):
        notes.sql("COMMIT")
    assert rows(notes, "SELECT count(*) FROM note") == [(2,)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELEC 1", ParseError),
        ("", ParseError),
        ("SELECT nope FROM note", BindError),
        ("SELECT sum(nope) FROM note", BindError),
        ("SELECT * FROM nope", BindError),
        ("SELECT 1; SELECT 2", InvalidInput),
        ("INSERT INTO note VALUES ('x', 'y', 0)", InvalidInput),
        ("SELECT * FROM read_csv('/etc/passwd')", InvalidInput),
        (None, InvalidInput),
    ],
)
def test_wrong_statements_change_nothing(
    notes: Swarm, text: Any, error: type[murmur.MurmurError]
) -> None:
    before = notes.state_hash()
    with pytest.raises(error):
        notes.sql(text)
    assert notes.state_hash() == before


def test_sql_from_many_threads(notes: Swarm) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                notes.sql("INSERT INTO note (id, body) VALUES (?, ?)", [100 * number + step, "x"])
                assert notes.sql("SELECT count(*), max(id) FROM note").fetchone()
                assert rows(notes, "SELECT body, count(*) FROM note GROUP BY body")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows(notes, "SELECT count(*) FROM note") == [(42,)]


# Transactions ----------------------------------------------------------


def test_keys_and_sql_commit_together(notes: Swarm) -> None:
    with notes.transaction() as tx:
        tx.put("config", b"1")
        assert tx.get("config") == b"1"
        assert tx.sql("UPDATE note SET body = 'ONE' WHERE id = 1").rowcount == 1
        tx.execute_many("INSERT INTO note (id, body) VALUES (?, ?)", [(3, "three")])
        assert tx.sql("SELECT count(*) FROM note").fetchall() == [(3,)]
        assert notes.get("config") is None
        assert rows(notes, "SELECT count(*) FROM note") == [(2,)]
        before = sum(notes.version_vector.values())
    assert sum(notes.version_vector.values()) == before + 1
    assert notes.get("config") == b"1"
    assert rows(notes, "SELECT body FROM note ORDER BY id") == [("ONE",), ("two",), ("three",)]


def test_wide_queries_see_the_transactions_own_writes(notes: Swarm) -> None:
    wide = "SELECT upper(body), count(*) FROM note GROUP BY 1 ORDER BY 1"
    with notes.transaction() as tx:
        tx.sql("INSERT INTO note (id, body) VALUES (3, 'two')")
        assert tx.sql(wide).fetchall() == [("ONE", 1), ("TWO", 2)]
        assert rows(notes, wide) == [("ONE", 1), ("TWO", 1)]
        tx.rollback()
    assert rows(notes, wide) == [("ONE", 1), ("TWO", 1)]


def test_scans_and_deletes_in_a_transaction(swarm: Swarm) -> None:
    swarm.put("a", b"1")
    swarm.put("b", b"2")
    with swarm.transaction() as tx:
        assert tx.delete("a") is True
        assert tx.delete("a") is False
        tx.put("c", b"3")
        assert tx.scan() == [("b", b"2"), ("c", b"3")]
        assert tx.scan("c") == tx.scan(start="c") == [("c", b"3")]
        assert tx.scan(stop="c", reverse=True) == [("b", b"2")]
    assert list(swarm.scan()) == [("b", b"2"), ("c", b"3")]


def test_an_exception_rolls_back(notes: Swarm) -> None:
    before = notes.state_hash()
    with pytest.raises(ConstraintViolation), notes.transaction() as tx:
        _insert_twice(tx)
    assert notes.state_hash() == before


def _insert_twice(tx: Any) -> None:
    tx.put("config", b"1")
    tx.sql("INSERT INTO note (id, body) VALUES (7, 'x')")
    tx.sql("INSERT INTO note (id, body) VALUES (7, 'y')")


def test_a_failed_statement_leaves_the_transaction_usable(notes: Swarm) -> None:
    with notes.transaction() as tx:
        tx.sql("INSERT INTO note (id, body) VALUES (7, 'x')")
        with pytest.raises(ConstraintViolation):
            tx.sql("INSERT INTO note (id, body) VALUES (8, 'y'), (7, 'z')")
    assert rows(notes, "SELECT id FROM note ORDER BY id") == [(1,), (2,), (7,)]


def test_the_second_committer_is_told_to_retry(notes: Swarm) -> None:
    with notes.transaction() as tx:
        assert tx.sql("SELECT body FROM note WHERE id = 1").fetchone() == ("one",)
        notes.sql("UPDATE note SET body = 'first' WHERE id = 1")
        tx.sql("UPDATE note SET body = 'second' WHERE id = 1")
        with pytest.raises(Conflict):
            tx.commit()
    assert rows(notes, "SELECT body FROM note WHERE id = 1") == [("first",)]
    with pytest.raises(Conflict), notes.transaction() as tx:
        _read_then_be_overtaken(tx, notes)
    assert notes.get("k") == b"theirs"


def _read_then_be_overtaken(tx: Any, swarm: Swarm) -> None:
    assert tx.get("k") is None
    swarm.put("k", b"theirs")
    tx.put("k", b"mine")


def test_a_transaction_that_ended_is_closed(notes: Swarm) -> None:
    tx = notes.transaction()
    tx.put("a", b"1")
    tx.commit()
    tx.rollback()
    for call in (tx.commit, tx.scan, lambda: tx.sql("SELECT 1"), lambda: tx.put("a", b"2")):
        with pytest.raises(Closed, match="transaction has ended"):
            call()
    assert notes.get("a") == b"1"


def test_a_result_outlives_its_transaction(notes: Swarm) -> None:
    with notes.transaction() as tx:
        narrow = tx.sql("SELECT body FROM note ORDER BY id")
        tx.sql("DELETE FROM note")
    assert narrow.fetchall() == [("one",), ("two",)]


# History and system relations -------------------------------------------


def test_history_as_a_result_and_in_sql(notes: Swarm) -> None:
    notes.sql("UPDATE note SET body = 'ONE' WHERE id = 1")
    notes.sql("DELETE FROM note WHERE id = 1")
    frame = notes.history("note").pl()
    assert frame["_op"].to_list() == ["insert", "insert", "update", "delete"]
    assert frame["body"].to_list() == ["one", "two", "ONE", "ONE"]
    assert rows(
        notes,
        "SELECT body, _op FROM murmur_history('note') WHERE id = 1 AND _seq > 2 ORDER BY _hlc",
    ) == [("ONE", "update"), ("ONE", "delete")]
    joined = """
        SELECT n.body, count(*) FROM note n JOIN murmur_history('note') h ON h.id = n.id
        WHERE h._replica = ? GROUP BY n.body
    """
    assert rows(notes, joined, notes.replica_id) == [("two", 1)]
    with pytest.raises(BindError, match="nope"):
        notes.history("nope")
    notes.sql("DROP TABLE note")
    assert len(notes.history("note")) == 4


def test_the_log_is_a_relation(notes: Swarm) -> None:
    assert rows(notes, "SELECT kind, replica, seq, operations FROM murmur_log") == [
        ("admitted", notes.replica_id, 1, CREATED),
        ("admitted", notes.replica_id, 2, 2),
    ]
    ((total, last),) = rows(notes, "SELECT sum(operations), max(time) FROM murmur_log")
    assert (total, last.tzinfo is not None) == (CREATED + 2, True)


def test_conflicts_peers_and_parked_are_relations(notes: Swarm) -> None:
    for name in ("murmur_conflicts", "murmur_peers", "murmur_parked"):
        result = notes.sql(f"SELECT * FROM {name}")
        assert (result.fetchall(), len(result.columns) > 3) == ([], True)
        assert rows(notes, f"SELECT count(*) FROM {name} GROUP BY ()") == [(0,)]
    with pytest.raises(BindError):
        notes.sql("SELECT * FROM murmur_nope")


# State -----------------------------------------------------------------


def test_what_it_says_about_itself(notes: Swarm, tmp_path: Path) -> None:
    assert notes.version_vector == {notes.replica_id: 2}
    assert notes.name == "a"
    assert notes.group == "default"
    assert notes.path == str(tmp_path / "a")
    assert notes.replica_id in repr(notes)
    assert len(bytes.fromhex(notes.state_hash())) >= 16
    assert notes.check() == []
    stats = notes.stats()
    assert stats["connected_peers"] == stats["parked"] == 0
    rows(notes, "SELECT body, count(*) OVER () FROM note")
    assert notes.stats()["arrow_cache_misses"] == 1


def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "a", durability="commit") as swarm:
        swarm.sql(NOTE)
        swarm.sql("INSERT INTO note (id, body) VALUES (1, 'one')")
        swarm.put("k", b"v")
        swarm.flush()
        swarm.sync()
        before = (swarm.replica_id, swarm.version_vector, swarm.state_hash())
    with murmur.open(tmp_path / "a") as swarm:
        assert (swarm.replica_id, swarm.version_vector, swarm.state_hash()) == before
        assert rows(swarm, "SELECT * FROM note") == [(1, "one", 0)]
        assert swarm.get("k") == b"v"
        assert len(swarm.history("note")) == 1


# Opening and closing ----------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"path": ""}, "the path is empty"),
        ({"path": None}, "not NoneType"),
        ({"path": 5}, "not int"),
        ({"path": "a\0b"}, "NUL"),
        ({"path": b"a"}, "not bytes"),
        ({"path": ":memory:"}, "directory"),
        ({"group": ""}, "group"),
        ({"group": None}, "group"),
        ({"group": "g" * 256}, "group"),
        ({"durability": "always"}, "durability"),
        ({"durability": None}, "durability"),
        ({"name": ""}, "name"),
        ({"listen": "nowhere"}, "nowhere"),
        ({"listen": "127.0.0.1:99999"}, "99999"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(
    tmp_path: Path, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidInput, match=text):
        murmur.open(**{"path": tmp_path / "a", **arguments})
    with murmur.open(tmp_path / "a"):
        pass  # and nothing holds the directory


def test_a_file_in_place_of_the_directory_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("not a directory")
    with pytest.raises(OSError, match="a"):
        murmur.open(tmp_path / "a")


def test_a_closed_swarm_refuses_everything(tmp_path: Path) -> None:
    swarm = murmur.open(tmp_path / "a")
    batch, tx = swarm.batch(), swarm.transaction()
    batch.put("a", b"1")
    tx.put("a", b"1")
    swarm.close()
    swarm.close()
    assert swarm.closed
    calls: list[Any] = [
        lambda: swarm.put("a", b""),
        lambda: swarm.get("a"),
        lambda: swarm.delete("a"),
        swarm.scan,
        swarm.batch,
        swarm.transaction,
        lambda: swarm.sql("SELECT 1"),
        lambda: swarm.execute_many("SELECT 1", []),
        lambda: swarm.history("t"),
        swarm.ticket,
        lambda: swarm.connect_peer("x"),
        swarm.connected_peers,
        swarm.peers,
        swarm.wait_for,
        swarm.state_hash,
        swarm.stats,
        swarm.check,
        swarm.sync,
        swarm.flush,
        swarm.release_parked,
        swarm.retry_dead_letters,
        swarm.drop_dead_letters,
        lambda: swarm.verify("x"),
        swarm.__enter__,
        lambda: murmur.connect(swarm),
        lambda: batch.__exit__(None),
        tx.commit,
    ]
    for call in calls:
        with pytest.raises(Closed):
            call()
    assert "closed" in repr(swarm)


def test_closing_from_many_threads_at_once(tmp_path: Path) -> None:
    swarm = murmur.open(tmp_path / "a")
    swarm.put("a", b"1")
    failures: list[BaseException] = []

    def close() -> None:
        try:
            swarm.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=close) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with murmur.open(tmp_path / "a") as again:
        assert again.get("a") == b"1"


def test_a_forgotten_swarm_warns_and_lets_go(tmp_path: Path) -> None:
    swarm = murmur.open(tmp_path / "a")
    swarm.put("a", b"1")
    swarm.sql(NOTE)
    swarm.sql("SELECT kind, count(*) FROM murmur_log GROUP BY kind").fetchall()
    swarm.sql("SELECT seq FROM murmur_log").fetchall()
    with pytest.warns(ResourceWarning, match="was not closed"):  # noqa: PT031 - del does it
        del swarm
        gc.collect()
    with murmur.open(tmp_path / "a") as again:
        assert again.get("a") == b"1"


FORGETFUL = """
import murmur, sys
swarm = murmur.open(sys.argv[1])
swarm.sql("CREATE TABLE t (id INTEGER PRIMARY KEY)")
swarm.sql("SELECT id, count(*) FROM t GROUP BY id").fetchall()
swarm.ticket()
swarm.put("a", b"1")
connection = murmur.connect(swarm)
connection.execute("INSERT INTO t VALUES (1)")
"""


def test_a_program_that_forgets_to_close_ends_all_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", FORGETFUL, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "was not closed" in done.stderr
    assert "Traceback" not in done.stderr
    with murmur.open(tmp_path / "a") as swarm:
        assert swarm.get("a") == b"1"
        assert swarm.sql("SELECT count(*) FROM t").fetchall() == [(0,)]
        assert swarm.replica.torn is None


def test_the_directory_has_one_owner(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "a"):
        with pytest.raises(Locked, match=str(os.getpid())):
            murmur.open(tmp_path / "a")
        program = (
            "import murmur, sys\n"
            "try: murmur.open(sys.argv[1])\n"
            "except murmur.Locked as error: print(error)"
        )
        other = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "a")],
            capture_output=True,
            text=True,
            check=True,
        )
    assert f"process {os.getpid()}" in other.stdout
    assert other.stderr == ""


FORK = """
import murmur, os, sys
swarm = murmur.open(sys.argv[1])
connection = murmur.connect(swarm)
swarm.put("a", b"1")
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    told = []
    for call in (
        lambda: swarm.get("a"),
        lambda: swarm.put("a", b"2"),
        lambda: swarm.sql("SELECT 1"),
        lambda: swarm.ticket(),
        lambda: connection.execute("SELECT 1"),
        lambda: murmur.connect(swarm),
        lambda: murmur.open(sys.argv[1]),
        lambda: murmur.connect(sys.argv[1]),
    ):
        try:
            call()
        except murmur.MurmurError as error:
            told.append(type(error).__name__)
        else:
            told.append("allowed")
    swarm.close()
    os.write(write, " ".join(told).encode())
    os._exit(0)
os.waitpid(pid, 0)
print(os.read(read, 1000).decode())
swarm.put("b", b"3")
connection.close()
swarm.close()
with murmur.open(sys.argv[1]) as again:
    print(again.get("a"), again.get("b"))
"""


def test_a_child_process_cannot_use_what_it_inherited(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "Forked Forked Forked Forked Forked Forked Locked Locked",
        "b'1' b'3'",
    ]
    assert done.stderr == ""
    assert issubclass(Forked, murmur.InterfaceError)


def test_damage_is_named_with_its_place(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "a") as swarm:
        for number in range(100):
            swarm.put(f"k{number}", b"v" * 100)
    (segment,) = (tmp_path / "a" / "log").iterdir()
    damaged = bytearray(segment.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    segment.write_bytes(damaged)
    with murmur.open(tmp_path / "a") as swarm:
        (problem, *_) = swarm.check()
        assert "log" in problem.path
        assert 0 < problem.offset < len(damaged)
        with pytest.raises(Corruption, match=f"offset {problem.offset}"):
            swarm.sql("SELECT * FROM murmur_log").fetchall()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"group": ""}, "group: a name is needed"),
        ({"group": None}, "a name is needed, not None"),
        ({"group": "x" * 256}, "at most 255 bytes"),
        ({"group": "ä" * 128}, "at most 255 bytes"),
        ({"group": "\ud800"}, "group: a lone surrogate at position 0"),
        ({"name": ""}, "name: a name is needed"),
        ({"durability": "much"}, "durability is one of none, batched, commit"),
        ({"backend": "paper"}, "backend is one of lsm, sqlite"),
        ({"listen": "here"}, "'here' is not host:port"),
        ({"listen": 4040}, "text is needed, not 4040"),
        ({"relay": "yes"}, "relay: 'yes' is neither True nor False"),
        ({"introductions": 1}, "introductions: 1 is neither True nor False"),
        ({"voters": 3}, "a list of node ids is needed"),
        ({"log_bytes": -1}, "log_bytes: -1"),
    ],
)
def test_wrong_arguments_leave_no_directory(
    tmp_path: Path, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        murmur.open(tmp_path / "a", **arguments)
    assert not (tmp_path / "a").exists()
