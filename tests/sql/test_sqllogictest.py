"""The reader of SQL logic tests, and our own: logic/*.test, each on a new session.

Every query of theirs that the row engine runs is given to the columnar engine as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sql.session_harness import columnar_rows, open_session
from tests.sql.sqllogictest import Malformed, Runner, digest, records, run_text, values_of

FILES = sorted((Path(__file__).parent / "logic").glob("*.test"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_logic(path: Path) -> None:
    count, failures = run_text(path.read_text())
    assert count > 5
    assert not failures, "\n".join(f"line {each.record.line}: {each.reason}" for each in failures)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_both_engines_answer_alike(path: Path) -> None:
    session = open_session()
    runner = Runner(session)
    for record in records(path.read_text()):
        assert runner.run(record) is None
        if record.kind == "query":
            rows = columnar_rows(session, record.sql)
            assert rows is None or runner._compare(record, rows) is None, (record.sql, rows)


ONE_TWO_TEN = digest(["1", "2", "10"])
RECORDS = """
# a comment
statement ok
CREATE TABLE t (a INTEGER,
                b TEXT)

statement ok
INSERT INTO t VALUES (2, ''), (1, NULL), (10, 'x')

{record}
"""


def failures(record: str) -> list[str]:
    return [each.reason for each in run_text(RECORDS.format(record=record))[1]]


@pytest.mark.parametrize(
    "record",
    [
        "query I nosort\nSELECT a FROM t ORDER BY a\n----\n1\n2\n10",
        "query IT rowsort\nSELECT a, b FROM t\n----\n1\nNULL\n10\nx\n2\n(empty)",
        "query IT rowsort\nSELECT a, b FROM t\n----\n2\t(empty)\n10\tx\n1\tNULL",
        "query IT valuesort\nSELECT a, b FROM t\n----\n(empty)\n1\n10\n2\nNULL\nx",
        "query R nosort\nSELECT a / 4.0 FROM t WHERE a = 1\n----\n0.250",
        f"query I nosort\nSELECT a FROM t ORDER BY a\n----\n3 values hashing to {ONE_TWO_TEN}",
        "query I nosort\nSELECT a FROM t WHERE a > 10\n----",
        "query I rowsort x\nSELECT a FROM t\n\nquery I rowsort x\nSELECT - - a FROM t",
        "statement error\nSELECT nope FROM t",
        "statement error\nSELECT nope FROM t\n----\nno column",
        "statement error\nSELECT nope FROM t\n----\n<REGEX>:no col.*nope",
        "skipif murmur\nquery I nosort\nwrong\n----\n1",
        "onlyif mysql\nstatement ok\nwrong",
        "onlyif murmur\nquery I nosort\nSELECT 1\n----\n1",
        "hash-threshold 3\nquery I nosort\nSELECT 1\n----\n1",
        "halt\n\nstatement ok\nwrong",
    ],
)
def test_records_that_hold(record: str) -> None:
    assert failures(record) == []


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("query I nosort\nSELECT a FROM t ORDER BY a\n----\n1\n2\n11", "instead of"),
        ("query II nosort\nSELECT a FROM t\n----\n1", "1 columns instead of 2"),
        (f"query I nosort\nSELECT 1\n----\n1 values hashing to {'0' * 32}", "hashing to"),
        ("statement ok\nSELECT nope FROM t", "BindError"),
        ("statement error\nSELECT 1", "no error"),
        ("statement error\nSELECT nope FROM t\n----\nsyntax", "another error"),
        ("query I nosort\nSELECT 1 / 0\n----\n1", "DataError"),
        ("query I nosort x\nSELECT 1\n----\n1\n\nquery I nosort x\nSELECT 2\n----\n2", "label x"),
    ],
)
def test_records_that_do_not_hold(record: str, reason: str) -> None:
    (found,) = failures(record)
    assert reason in found


@pytest.mark.parametrize(
    "text",
    [
        "what ok\nSELECT 1",
        "statement fine\nSELECT 1",
        "statement ok",
        "query I upward\nSELECT 1",
        "skipif x",
    ],
)
def test_what_is_no_record_is_an_error(text: str) -> None:
    with pytest.raises(Malformed, match="line 1"):
        list(records(text))


def test_an_engine_s_name_chooses_records() -> None:
    text = "onlyif postgresql\nstatement ok\nSELECT 1\n\nskipif postgresql\nstatement ok\nSELECT 2"
    assert [each.sql for each in records(text)] == ["SELECT 2"]
    assert [each.sql for each in records(text, ("murmur", "postgresql"))] == ["SELECT 1"]


def test_values_are_shown_by_the_type_of_their_column() -> None:
    assert values_of([(1.6, 2, True, "a\nb")], "IRIT", "nosort") == ["1", "2.000", "1", "a@b"]
