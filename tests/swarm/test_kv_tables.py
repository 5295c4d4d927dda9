"""Tables over keys: what `put` writes SQL sees, and the other way round, on every replica."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import murmur
from murmur import Conflict, Swarm
from murmur.kvcore import MemoryStorage
from tests.swarm.test_laws import meet, open_swarm

CFG = "CREATE TABLE IF NOT EXISTS cfg (key TEXT PRIMARY KEY, value TEXT) USING KV PREFIX 'cfg:'"
SENSOR = (
    "CREATE TABLE IF NOT EXISTS sensor (key TEXT PRIMARY KEY, temp DOUBLE, site TEXT) "
    "USING KV PREFIX 'sensor:' VALUES JSON"
)


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with murmur.open(tmp_path / "a") as swarm:
        swarm.sql(CFG)
        swarm.sql(SENSOR)
        yield swarm


def rows(source: Any, text: str = "SELECT * FROM cfg", *parameters: Any) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = source.sql(text, list(parameters)).fetchall()
    return found


def test_puts_are_rows_and_rows_are_puts(swarm: Swarm) -> None:
    swarm.put("cfg:host", b"mx")
    swarm.put("other", b"no")
    swarm.put(b"cfg:bytes", b"no")
    assert rows(swarm) == [("host", "mx")]
    swarm.sql("INSERT INTO cfg VALUES ('port', '25')")
    assert list(swarm.scan("cfg:")) == [("cfg:host", b"mx"), ("cfg:port", b"25")]
    swarm.sql("UPDATE cfg SET value = value || '.example' WHERE key = 'host'")
    assert swarm.get("cfg:host") == b"mx.example"
    swarm.delete("cfg:port")
    assert rows(swarm, "SELECT count(*) FROM cfg") == [(1,)]
    swarm.sql("DELETE FROM cfg")
    assert swarm.get("cfg:host") is None
    assert swarm.get("other") == b"no"
    swarm.put_json("sensor:a", {"temp": 1, "unit": "C"})
    swarm.sql("UPDATE sensor SET temp = 2 WHERE key = 'a'")
    assert swarm.get_json("sensor:a") == {"temp": 2.0, "unit": "C"}


def test_one_transaction_sees_both_ways_on_both_engines(swarm: Swarm) -> None:
    by_key = "SELECT value FROM cfg WHERE key = ?"
    columnar = "SELECT a.value FROM cfg a JOIN cfg b ON a.key = b.key ORDER BY a.value"
    swarm.put("cfg:a", b"0")
    with swarm.transaction() as tx:
        assert rows(tx, by_key, "a") == rows(tx, columnar) == [("0",)]
        tx.put("cfg:a", b"1")
        assert rows(tx, by_key, "a") == rows(tx, columnar) == [("1",)]
        tx.sql("INSERT INTO cfg VALUES ('b', '2')")
        assert tx.get("cfg:b") == b"2"
        assert rows(tx, columnar) == [("1",), ("2",)]
        tx.delete("cfg:a")
        assert rows(tx) == [("b", "2")]
        tx.sql("SAVEPOINT s")
        tx.sql("DELETE FROM cfg")
        assert (tx.scan("cfg:"), rows(tx)) == ([], [])
        tx.sql("ROLLBACK TO s")
        assert tx.scan("cfg:") == [("cfg:b", b"2")]
    assert rows(swarm) == rows(swarm, "SELECT * FROM cfg GROUP BY key, value") == [("b", "2")]


def test_the_columnar_engine_does_not_answer_from_before_a_put(swarm: Swarm) -> None:
    text = "SELECT sum(length(value)) FROM cfg GROUP BY true"
    for count in range(1, 4):
        swarm.put(f"cfg:{count}", b"x" * count)
        assert rows(swarm, text) == rows(swarm, text) == [(count * (count + 1) // 2,)]


def test_writes_conflict_as_a_get_and_a_put_do(swarm: Swarm) -> None:
    swarm.put("cfg:n", b"1")
    tx = swarm.transaction()
    tx.sql("UPDATE cfg SET value = (value::int + 1)::text WHERE key = 'n'")
    swarm.put("cfg:n", b"5")
    with pytest.raises(Conflict):
        tx.commit()
    tx = swarm.transaction()
    tx.sql("INSERT INTO cfg VALUES ('new', 'mine')")
    swarm.put("cfg:new", b"theirs")
    with pytest.raises(Conflict):
        tx.commit()
    tx = swarm.transaction()
    tx.sql("UPDATE cfg SET value = 'all' WHERE value > ''")
    swarm.put("cfg:other", b"unseen")
    tx.commit()
    assert rows(swarm) == [("n", "all"), ("new", "all"), ("other", "unseen")]


def test_what_cannot_be_shown_is_listed(swarm: Swarm) -> None:
    listed = (
        "SELECT kind, table_name, key, detail, loser FROM murmur_conflicts ORDER BY table_name, key"
    )
    swarm.put("cfg:text", b"\xff")
    swarm.put("cfg:a\0b", b"nul")
    swarm.put("sensor:bad", b"[1]")
    swarm.put_json("sensor:odd", {"temp": "hot", "site": None})
    with swarm.transaction() as tx:  # only a peer writes such a key
        tx._open().put(b"\x01\x01cfg:\xff", b"odd")
    assert rows(swarm) == [("text", None)]
    for count in ("count(*)", "count(key)", "count(*) FILTER (WHERE true)"):
        assert rows(swarm, f"SELECT {count} FROM cfg") == [(1,)]
    assert rows(swarm, "SELECT * FROM sensor") == [("bad", None, None), ("odd", None, None)]
    columns = "the value is not of the type of its columns, which read NULL: "
    assert rows(swarm, listed) == [
        (
            "unreadable",
            "cfg",
            "cfg:\\xff",
            "under key 01016366673aff, which is no TEXT: it is no row",
            "odd",
        ),
        (
            "unreadable",
            "cfg",
            "cfg:a\0b",
            "under key 01016366673a610062, which is no TEXT: it is no row",
            "nul",
        ),
        ("unreadable", "cfg", "cfg:text", columns + "value", "\\xff"),
        ("unreadable", "sensor", "sensor:bad", columns + "temp, site", "[1]"),
        ("unreadable", "sensor", "sensor:odd", columns + "temp", '{"site":null,"temp":"hot"}'),
    ]
    swarm.sql("UPDATE sensor SET temp = temp + 1, site = 'x' WHERE key = 'odd'")
    assert swarm.get_json("sensor:odd") == {"temp": "hot", "site": "x"}  # NULL + 1 changes nothing
    swarm.sql("UPDATE sensor SET temp = 3 WHERE key = 'odd'")
    swarm.sql("DELETE FROM cfg")
    assert [key for key, _ in swarm.scan("cfg:")] == ["cfg:a\0b", "cfg:\\xff"]
    assert [row[2] for row in rows(swarm, listed)] == ["cfg:\\xff", "cfg:a\0b", "sensor:bad"]
    assert swarm.check() == []


def test_replicas_share_table_rows_and_siblings() -> None:
    siblings = "SELECT table_name, key, winner, loser FROM murmur_conflicts WHERE kind = 'sibling'"
    with open_swarm(MemoryStorage(), 0) as one, open_swarm(MemoryStorage(), 1) as other:
        for swarm in (one, other):
            swarm.sql(CFG)  # apart: the same table
        one.sql("INSERT INTO cfg VALUES ('k', 'one')")
        other.put("cfg:k", b"other")
        meet(one, other)
        meet(other, one)
        assert one.state_hash() == other.state_hash()
        ((_, key, winner, loser),) = found = rows(one, siblings)
        assert found == rows(other, siblings) == [("cfg", "cfg:k", winner, loser)]
        assert (key, {winner, loser}) == ("cfg:k", {"one", "other"})
        assert rows(one) == rows(other) == [("k", winner)]
        # An UPDATE settles it, even to what is read already.
        assert one.sql("UPDATE cfg SET value = value").rowcount == 1
        meet(one, other)
        assert rows(one, siblings) == rows(other, siblings) == []
        assert rows(other) == [("k", winner)]
        before = one.version_vector
        assert one.sql("UPDATE cfg SET value = value").rowcount == 1
        assert one.version_vector == before
        one.sql("DROP TABLE cfg")
        meet(one, other)
        assert rows(other, "SELECT name FROM murmur_tables") == []
        assert other.get("cfg:k") == winner.encode()


def test_tables_of_one_name_over_other_keys_stay_two() -> None:
    with open_swarm(MemoryStorage(), 0) as one, open_swarm(MemoryStorage(), 1) as other:
        one.sql("CREATE TABLE t (key TEXT PRIMARY KEY, value TEXT)")
        one.sql("INSERT INTO t VALUES ('row', 'kept')")
        other.sql("CREATE TABLE t (key TEXT PRIMARY KEY, value TEXT) USING KV PREFIX 't:'")
        other.put("t:key", b"kept")
        meet(one, other)
        meet(other, one)
        for swarm in (one, other):
            names = [name for (name,) in rows(swarm, "SELECT name FROM murmur_tables ORDER BY 1")]
            assert len(names) == 2
            found = [rows(swarm, f'SELECT * FROM "{name}"') for name in names]
            assert sorted(found) == [[("key", "kept")], [("row", "kept")]]


def test_it_is_there_after_a_restart_and_in_history(tmp_path: Path) -> None:
    with murmur.open(tmp_path / "a") as swarm:
        swarm.put("cfg:early", b"0")
        swarm.sql(CFG)
        swarm.sql("INSERT INTO cfg VALUES ('k', '1')")
        swarm.put("cfg:k", b"2")
        swarm.put("cfg:k", b"\xff")
        swarm.sql("DELETE FROM cfg WHERE key = 'k'")
        swarm.flush()
    with murmur.open(tmp_path / "a") as swarm:
        assert rows(swarm) == [("early", "0")]
        expected = [
            ("early", "0", "insert"),
            ("k", "1", "insert"),
            ("k", "2", "update"),
            ("k", None, "update"),
            ("k", None, "delete"),
        ]
        text = "SELECT key, value, _op FROM murmur_history('cfg') ORDER BY _hlc"
        assert rows(swarm, text) == expected
        assert [row[:2] + row[-1:] for row in swarm.history("cfg").fetchall()] == expected
        swarm.sql("DROP TABLE cfg")
        assert len(swarm.history("cfg").fetchall()) == 5
        assert swarm.check() == []


def test_it_reads_as_any_table_through_dbapi_and_frames(swarm: Swarm) -> None:
    with murmur.connect(swarm) as connection:
        cursor = connection.cursor()
        cursor.executemany("INSERT INTO cfg VALUES (?, ?)", [("a", "1"), ("b", "2")])
        cursor.execute("UPDATE cfg SET value = '3' WHERE key = ?", ["b"])
        assert cursor.rowcount == 1
        connection.commit()
        cursor.execute("SELECT value FROM cfg WHERE key = ?", ["b"])
        assert cursor.fetchall() == [("3",)]
    assert list(swarm.scan("cfg:")) == [("cfg:a", b"1"), ("cfg:b", b"3")]
    assert swarm.sql("SELECT * FROM cfg").arrow().to_pydict() == {
        "key": ["a", "b"],
        "value": ["1", "3"],
    }


def test_a_large_one_goes_to_the_columnar_engine(swarm: Swarm) -> None:
    with swarm.batch() as batch:
        for number in range(6000):
            batch.put_json(f"sensor:{number:05}", {"temp": number, "site": f"s{number % 3}"})
    text = "SELECT key, temp, site FROM sensor WHERE temp >= 5998"
    assert rows(swarm, text) == [("05998", 5998.0, "s1"), ("05999", 5999.0, "s2")]
    assert rows(swarm, f"EXPLAIN {text}")[0][0].startswith("engine: columnar")
    swarm.sql("UPDATE sensor SET temp = -1 WHERE key = '05999'")
    assert rows(swarm, text) == [("05998", 5998.0, "s1")]


keys = st.sampled_from(["", "a", "ab", "b", "é", "\U0010ffff"])
texts = st.sampled_from(["", "x", "ß"])
writes = st.lists(
    st.one_of(
        st.tuples(st.just("put"), keys, texts),
        st.tuples(st.just("delete"), keys),
        st.tuples(st.just("INSERT INTO cfg VALUES (?, ?)"), keys, texts),
        st.tuples(
            st.just(
                "INSERT INTO cfg VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = "
                "cfg.value || excluded.value"
            ),
            keys,
            texts,
        ),
        st.tuples(st.just("UPDATE cfg SET value = ? WHERE key >= ?"), texts, keys),
        st.tuples(st.just("UPDATE cfg SET key = ? WHERE key = ?"), keys, keys),
        st.tuples(st.just("DELETE FROM cfg WHERE key <= ? AND value = ?"), keys, texts),
    ),
    max_size=12,
)


def model(state: dict[str, str], action: str, *values: str) -> bool:
    """Do to a dict what the action does; whether it is let."""
    first, second = values[0], values[-1]
    match action.split()[0]:
        case "put":
            state[first] = second
        case "delete":
            state.pop(first, None)
        case "INSERT" if "ON CONFLICT" in action:
            state[first] = state[first] + second if first in state else second
        case "INSERT":
            if first in state:
                return False
            state[first] = second
        case "UPDATE" if "value =" in action:
            state.update({key: first for key in state if key >= second})
        case "UPDATE":
            if second in state and first != second:
                if first in state:
                    return False
                state[first] = state.pop(second)
        case "DELETE":
            for key in [key for key, value in state.items() if key <= first and value == second]:
                del state[key]
    return True


@settings(max_examples=40)
@given(writes, st.booleans(), keys, keys)
def test_the_table_is_the_dict_that_the_keys_are(
    history: list[Any], together: bool, low: str, high: str
) -> None:
    state: dict[str, str] = {}
    with open_swarm(MemoryStorage(), 0) as swarm:
        swarm.sql(CFG)
        swarm.put("cfg", b"")
        swarm.put("cfg;", b"")
        tx = swarm.transaction() if together else None
        writer: Any = tx or swarm
        for action, *values in history:
            allowed = model(state, action, *values)
            try:
                if action == "put":
                    writer.put("cfg:" + values[0], values[1].encode())
                elif action == "delete":
                    writer.delete("cfg:" + values[0])
                else:
                    writer.sql(action, values)
            except murmur.ConstraintViolation:
                assert not allowed
            else:
                assert allowed
            seen = sorted(state.items())
            assert rows(writer) == seen
            assert [(key[4:], value.decode()) for key, value in writer.scan("cfg:")] == seen
            between = [pair for pair in seen if low < pair[0] <= high]
            ranged = "SELECT * FROM cfg WHERE key > ? AND key <= ? ORDER BY key DESC"
            assert rows(writer, ranged, low, high) == between[::-1]
            assert rows(writer, "SELECT value FROM cfg WHERE key = ?", low) == [
                (value,) for key, value in seen if key == low
            ]
        if tx is not None:
            tx.commit()
        assert rows(swarm) == sorted(state.items())


QUERIES = (
    "SELECT s.key, n.city FROM sensor s JOIN site n ON n.name = s.site WHERE s.temp > 9 ORDER BY 1",
    "SELECT n.name, c.value FROM site n LEFT JOIN cfg c ON c.key = n.name ORDER BY 1",
    "SELECT c.key, n.city FROM site n FULL JOIN cfg c ON c.key = n.name ORDER BY 1 NULLS LAST",
    "SELECT count(*) FROM cfg",
    "SELECT count(*), count(temp), min(key), sum(length(site)) FROM sensor",
    "SELECT site, count(*), max(temp) FROM sensor GROUP BY site ORDER BY site NULLS FIRST",
    "SELECT key FROM cfg WHERE EXISTS (SELECT 1 FROM site WHERE name = cfg.key) ORDER BY 1",
    "SELECT (SELECT value FROM cfg WHERE key = n.name) FROM site n ORDER BY name",
    "SELECT key FROM sensor UNION SELECT key FROM cfg ORDER BY 1 LIMIT 5",
    "SELECT DISTINCT site FROM sensor WHERE key LIKE '1%' ORDER BY 1",
    "SELECT key, temp FROM sensor WHERE key >= '05' AND key < '1' ORDER BY key DESC",
)


def test_both_engines_answer_alike(swarm: Swarm) -> None:
    swarm.sql("CREATE TABLE site (name TEXT PRIMARY KEY, city TEXT)")
    swarm.sql("INSERT INTO site VALUES ('s1', 'Bern'), ('s2', 'Lima'), ('none', NULL)")
    swarm.put("cfg:s\0", b"no row")
    for number in range(40):
        odd = {"temp": "cold"} if number % 7 == 0 else {"temp": number, "site": f"s{number % 4}"}
        swarm.put_json(f"sensor:{number:02}", odd)
        swarm.put(f"cfg:s{number % 4}", str(number).encode())
    with murmur.connect(swarm) as connection:
        for text in QUERIES:
            answers = []
            for engine in ("row", "columnar"):
                connection.execute(f"SET engine = '{engine}'")
                answers.append(connection.execute(text).fetchall())
            assert answers[0] == answers[1] != [], text


def test_a_join_looks_keys_up(swarm: Swarm) -> None:
    with swarm.batch() as batch:
        for number in range(3000):
            batch.put(f"cfg:{number:05}", b"v%d" % number)
    swarm.sql("CREATE TABLE few (k TEXT PRIMARY KEY)")
    swarm.sql("INSERT INTO few VALUES ('00007'), ('02999'), ('3'), ('00007x')")
    text = "SELECT k, value FROM few JOIN cfg ON key = k ORDER BY k"
    assert rows(swarm, text) == [("00007", "v7"), ("02999", "v2999")]
    plan = [line.strip() for (line,) in rows(swarm, f"EXPLAIN {text}")]
    assert any(line.startswith("lookup join") for line in plan), plan
