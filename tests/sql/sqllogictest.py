"""SQL logic tests: a reader of the public dialect, and a runner on Murmur.

    python -m tests.sql.sqllogictest [--engine NAME] FILE_OR_DIRECTORY ...

    statement ok                    statement error            skipif mysql    onlyif sqlite
    INSERT INTO t VALUES (1)        SELECT nope FROM t         hash-threshold 8        halt

    query IT rowsort label          SQL up to ----, then one value a line, or a row of values with
    SELECT a, b FROM t              tabs between them, or "8 values hashing to <md5>"
    ----
    1
    x

Types: I integer, R real with three decimals, T text. NULL is `NULL`, empty text `(empty)`.
Results of one label must be the same. `skipif` and `onlyif` name systems; Murmur answers to
`murmur`, and to one more name if asked to, so that a corpus can be read as PostgreSQL's or
SQLite's.

Of DuckDB's additions, `statement error` with a message behind `----` (or `<REGEX>:...`), `query`
with rows of tabs, and `statement maybe` are read. A record of a kind that is not known is an
error.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from murmur.errors import MurmurError
from murmur.sql import Session
from tests.sql.session_harness import fetch, open_session, rows_of

SORTS = ("nosort", "rowsort", "valuesort")
_HASHED = re.compile(r"(\d+) values? hashing to ([0-9a-f]{32})")


class Malformed(Exception):
    """The file is not in the dialect that this reads."""


@dataclass(frozen=True, slots=True)
class Record:
    """One statement or query, and what is expected of it."""

    line: int
    kind: str  # "ok", "error", "maybe" or "query"
    sql: str
    types: str = ""
    sort: str = "nosort"
    label: str = ""
    expected: tuple[str, ...] | None = None  # None: nothing is said of it


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that did not come out as expected."""

    record: Record
    reason: str


def records(text: str, names: Sequence[str] = ("murmur",)) -> Iterator[Record]:
    """The records of a file that are meant for a system of these names, up to a halt."""
    for start, lines in _paragraphs(text):
        at = 0
        meant = True
        while at < len(lines) and lines[at].split()[0] in ("skipif", "onlyif"):
            word, name = lines[at].split()[:2]
            meant = meant and (name.lower() in names) == (word == "onlyif")
            at += 1
        if at == len(lines):
            raise Malformed(f"line {start}: a condition without a record")
        head, body = lines[at].split(), lines[at + 1 :]
        if head[0] == "halt":
            if meant:
                return
        elif head[0] not in ("statement", "query", "hash-threshold"):
            raise Malformed(f"line {start + at}: {head[0]} is no kind of record")
        elif meant and head[0] != "hash-threshold":
            yield _record(start + at, head, body)


def _paragraphs(text: str) -> Iterator[tuple[int, list[str]]]:
    lines: list[str] = []
    start = 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip() and not line.startswith("#"):
            start = start if lines else number
            lines.append(line.rstrip("\r\n"))
            if line.split()[0] == "hash-threshold":  # needs no blank line behind it
                yield start, lines
                lines = []
        elif lines and not line.strip():
            yield start, lines
            lines = []


def _record(line: int, head: list[str], body: list[str]) -> Record:
    at = body.index("----") if "----" in body else len(body)
    sql = "\n".join(body[:at])
    expected = tuple(body[at + 1 :]) if at < len(body) else None
    if not sql:
        raise Malformed(f"line {line}: a record without SQL")
    if head[0] == "statement":
        if len(head) < 2 or head[1] not in ("ok", "error", "maybe"):
            raise Malformed(f"line {line}: statement ok or statement error")
        return Record(line, head[1], sql, expected=expected)
    types = head[1] if len(head) > 1 else ""
    sort = head[2] if len(head) > 2 else "nosort"
    if sort not in SORTS:
        raise Malformed(f"line {line}: {sort} is no order")
    label = head[3] if len(head) > 3 else ""
    return Record(line, "query", sql, types, sort, label, expected)


# Values ------------------------------------------------------------------------------------------


def shown(value: Any, kind: str) -> str:
    """A value in the way of its column's type."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        if kind == "T":
            return "true" if value else "false"
        value = int(value)
    if kind == "I":
        if isinstance(value, float | Decimal) and math.isfinite(value):
            return str(int(value))
        return str(value)
    if kind == "R":
        return f"{value:.3f}" if isinstance(value, int | float | Decimal) else str(value)
    text = value.decode("latin-1") if isinstance(value, bytes) else _text(value)
    return "".join(c if c >= " " else "@" for c in text) or "(empty)"


def _text(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def values_of(rows: Sequence[tuple[Any, ...]], types: str, sort: str) -> list[str]:
    """The values of an answer, one after the other, in the order of comparison."""
    said = [
        [shown(value, types[i] if i < len(types) else "T") for i, value in enumerate(row)]
        for row in rows
    ]
    if sort == "rowsort":
        said.sort()
    values = [value for row in said for value in row]
    return sorted(values) if sort == "valuesort" else values


def digest(values: Sequence[str]) -> str:
    """The hash of many values."""
    return hashlib.md5("".join(value + "\n" for value in values).encode()).hexdigest()


def expected_values(record: Record, width: int) -> list[str]:
    """The expected values, taken apart where a line holds a row of them."""
    lines = list(record.expected or ())
    if width > 1 and all(line.count("\t") == width - 1 for line in lines):
        rows = [line.split("\t") for line in lines]
        if record.sort == "rowsort":
            rows.sort()
        lines = [value for row in rows for value in row]
        if record.sort == "valuesort":
            lines.sort()
    return lines


# Running -----------------------------------------------------------------------------------------


class Runner:
    """Runs records one after the other on one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._labels: dict[str, str] = {}

    def run(self, record: Record) -> str | None:
        """Why the record did not come out as expected; None if it did."""
        try:
            if record.kind != "query":
                return self._statement(record)
            rows = fetch(self._session, record.sql)
        except MurmurError as error:
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return self._compare(record, rows)

    def _statement(self, record: Record) -> str | None:
        try:
            for _ in rows_of(self._session.execute(record.sql)):
                pass
        except MurmurError as error:
            if record.kind == "ok":
                raise
            said = "\n".join(record.expected or ())
            if said.startswith("<REGEX>:"):
                found = re.search(said.removeprefix("<REGEX>:"), str(error), re.DOTALL) is not None
            else:
                found = said in str(error)
            return None if found or record.kind == "maybe" else f"another error: {error}"
        return "no error" if record.kind == "error" else None

    def _compare(self, record: Record, rows: list[tuple[Any, ...]]) -> str | None:
        width = len(rows[0]) if rows else len(record.types)
        if rows and record.types and width != len(record.types):
            return f"{width} columns instead of {len(record.types)}"
        values = values_of(rows, record.types, record.sort)
        hashed = digest(values)
        if record.label and self._labels.setdefault(record.label, hashed) != hashed:
            return f"not as other queries of label {record.label}"
        if record.expected is None:
            return None
        if len(record.expected) == 1 and (said := _HASHED.fullmatch(record.expected[0])):
            if (int(said[1]), said[2]) == (len(values), hashed):
                return None
            return f"{len(values)} values hashing to {hashed}: {values[:8]}"
        expected = expected_values(record, width)
        return None if values == expected else f"{values[:20]} instead of {expected[:20]}"


def run_text(
    text: str, names: Sequence[str] = ("murmur",), open_: Callable[[], Session] = open_session
) -> tuple[int, list[Failure]]:
    """Run a file's records on a new session: how many there were, and those that failed."""
    runner = Runner(open_())
    failures, count = [], 0
    for record in records(text, names):
        count += 1
        reason = runner.run(record)
        if reason is not None:
            failures.append(Failure(record, reason))
    return count, failures


def main() -> int:
    """Run files, and print what failed, and the reasons by their number."""
    parser = argparse.ArgumentParser(prog="python -m tests.sql.sqllogictest", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--engine", default="", help="a system that Murmur answers for, in skipif")
    parser.add_argument("--show", type=int, default=10, help="failures to print of each file")
    options = parser.parse_args()
    names = [name for name in ("murmur", options.engine) if name]
    total, reasons = 0, Counter[str]()
    for path in options.paths:
        files = sorted(path.rglob("*.test")) if path.is_dir() else [path]
        for file in files:
            count, failures = run_text(file.read_text(), names)
            total += count
            print(f"{file}: {count - len(failures)} of {count}")
            for each in failures[: options.show]:
                print(f"  line {each.record.line}: {each.reason}\n    {each.record.sql}")
            reasons.update(each.reason[:60] for each in failures)
    failed = reasons.total()
    print(f"{total - failed} of {total} records")
    for reason, count in reasons.most_common(20):
        print(f"{count:8} {reason}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
