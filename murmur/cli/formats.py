r"""Answers in the format that their reader wants.

    table   for people: tables.py
    csv     RFC 4180: a line of names, CRLF, quotes where a value needs them. NULL is nothing
            between two commas, an empty text is "". (Alone on its line NULL is "" too: many
            readers skip empty lines.)
    json    one array of objects, one row a line; values.py says how values are written
    arrow   the IPC stream format: `pyarrow.ipc.open_stream(sys.stdin.buffer).read_all()`

csv and json are UTF-8 and written as the rows come. An error in the middle leaves a JSON array
without an end, so that nobody takes the part for the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

from murmur.cli.answer import Answer
from murmur.cli.failure import Fault
from murmur.cli.output import Output
from murmur.cli.tables import write_table
from murmur.cli.values import json_writer, quoted, text_writer

FORMATS = ("table", "csv", "json", "arrow")

BLOCK_ROWS = 256  # written at a time

_KINDS = {"insert": "inserted", "update": "updated", "delete": "deleted", "merge": "merged"}


def write_answer(
    answer: Answer, output: Output, form: str, *, took: Callable[[], str] = str
) -> None:
    """Write an answer. Only a table says how many rows there were, and how long it `took`."""
    if answer.names:
        if form == "csv":
            write_csv(answer, output)
        elif form == "json":
            write_json(answer, output)
        elif form == "arrow":
            write_arrow(answer, output)
        else:
            rows, time = _rows(write_table(answer, output)), took()
            output.text(f"({rows}, {time})\n" if time else f"({rows})\n")
    elif form == "table":
        done = answer.kind.upper()
        if answer.kind in _KINDS:
            done = f"{_rows(answer.rowcount)} {_KINDS[answer.kind]}"
        time = took()
        output.text(f"{done} ({time})\n" if time else f"{done}\n")


def write_csv(answer: Answer, output: Output) -> None:
    """Write RFC 4180."""
    output.data(",".join(map(_csv_field, answer.names)) + "\r\n")
    writers = [text_writer(sql_type) for sql_type in answer.types]
    alone = '""' if len(writers) == 1 else ""
    rows = answer.rows()
    while block := list(islice(rows, BLOCK_ROWS)):
        lines = []
        for row in block:
            fields = [
                alone if value is None else _csv_field(write(value))
                for write, value in zip(writers, row, strict=True)
            ]
            lines.append(",".join(fields) + "\r\n")
        output.data("".join(lines))


def write_json(answer: Answer, output: Output) -> None:
    """Write an array of objects."""
    _refuse_duplicates(answer.names)
    keys = [f"{quoted(name)}: " for name in answer.names]
    writers = [json_writer(sql_type) for sql_type in answer.types]
    rows, before = answer.rows(), "[\n"
    while block := list(islice(rows, BLOCK_ROWS)):
        objects = []
        for row in block:
            members = [
                key + ("null" if value is None else write(value))
                for key, write, value in zip(keys, writers, row, strict=True)
            ]
            objects.append("{" + ", ".join(members) + "}")
        output.data(before + ",\n".join(objects))
        before = ",\n"
    output.data("[]\n" if before == "[\n" else "\n]\n")


def write_arrow(answer: Answer, output: Output) -> None:
    """Write an IPC stream."""
    from murmur.olap.ipc import write_stream

    write_stream(answer.arrow(), output.raw)


_TO_QUOTE = re.compile('[",\r\n]')


def _csv_field(text: str) -> str:
    if text and not _TO_QUOTE.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def _refuse_duplicates(names: tuple[str, ...]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Fault(f"two columns are called {twice}, which an object cannot hold; use AS")


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
