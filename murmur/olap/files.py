"""The files of COPY: what may be opened, and how CSV, Parquet and JSON are read and written.

    folder = Folder("data")                     paths below the directory data, and no others
    columns, batches = folder.read(copy, table)
    folder.write(copy, columns, rows)           under a temporary name, then renamed

CSV is PostgreSQL's: NULL is unquoted, text is quoted where it must be, a BLOB is \\x00ff. JSON is
one object a line, or an array of objects. A file is read as the types of the table's columns; what
Arrow cannot read so comes as text, and the column takes it or refuses it.

Invariants: with a directory, no path leads out of it, symbolic links resolved; a file that is
written is there whole or not at all.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pa_parquet

from murmur.catalog.schema import Column, Table
from murmur.catalog.types import Interval, SqlType
from murmur.errors import BindError, DataError, InvalidInput
from murmur.olap.arrow import arrow_type, column_types, iterate_rows, rows_to_arrow
from murmur.olap.intake import ArrowBatch, intake

BLOCK_BYTES = 4 << 20  # of a text file, parsed at a time

_TRUE = ["t", "true", "TRUE", "True", "y", "yes", "on", "1"]
_FALSE = ["f", "false", "FALSE", "False", "n", "no", "off", "0"]
# What Arrow reads in a text file as the column has it; all else comes as text.
_READ = frozenset(
    "BOOLEAN SMALLINT INTEGER BIGINT COUNTER DOUBLE DECIMAL TEXT VARCHAR DATE TIMESTAMP".split()  # noqa: SIM905
)


class Copy(Protocol):
    """A COPY statement: see sql/copy.py."""

    @property
    def path(self) -> str:
        """The file."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the table that it has; none: all."""
        ...

    @property
    def format(self) -> str:
        """csv, parquet or json."""
        ...

    @property
    def header(self) -> bool:
        """Whether the first line of a CSV file is names."""
        ...

    @property
    def match(self) -> bool:
        """Whether those are to be compared."""
        ...

    @property
    def delimiter(self) -> str:
        """What stands between two values."""
        ...

    @property
    def quote(self) -> str:
        """What stands around a text."""
        ...

    @property
    def null(self) -> str:
        """What stands for NULL."""
        ...


class Folder:
    """The files that COPY may read and write: those below a directory, or, without one, all."""

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        self._directory = None if directory is None else os.path.realpath(directory)
        if self._directory is not None and not os.path.isdir(self._directory):
            raise InvalidInput(f"files: {self._directory} is no directory")

    def read(self, copy: Copy, table: Table) -> tuple[Sequence[str], Iterator[ArrowBatch]]:
        """The columns that the file has, and its rows."""
        path = self._path(copy.path)
        if not os.path.isfile(path):
            if not os.path.exists(path):
                raise FileNotFoundError(2, "COPY finds no such file", path)
            raise InvalidInput(f"COPY reads files, and {path} is none")
        columns = _named(table, copy.columns)
        read = {"csv": _read_csv, "parquet": _read_parquet, "json": _read_json}[copy.format]
        try:
            return read(path, copy, columns)
        except pa.ArrowException as error:
            raise DataError(f"{path}: {error}") from None

    def write(self, copy: Copy, columns: Sequence[tuple[str, SqlType | None]], rows: Any) -> int:
        """Write rows, an Arrow table or an iterator of tuples, as a whole; how many."""
        path = self._path(copy.path)
        if os.path.isdir(path):
            raise InvalidInput(f"COPY writes files, and {path} is a directory")
        table = rows if isinstance(rows, pa.Table) else rows_to_arrow(columns, list(rows))
        write = {"csv": _write_csv, "parquet": _write_parquet, "json": _write_json}[copy.format]
        passing = f"{path}.{secrets.token_hex(4)}.tmp"
        try:
            with open(passing, "xb") as file:
                try:
                    write(file, copy, table)
                except pa.ArrowException as error:
                    raise DataError(f"{path}: {error}") from None
                file.flush()
                os.fsync(file.fileno())
            os.replace(passing, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.remove(passing)
            raise
        return int(table.num_rows)

    def _path(self, path: str) -> str:
        """The file that is meant, links resolved. InvalidInput if it is none of the allowed."""
        if self._directory is None:
            return os.path.realpath(path)
        found = os.path.realpath(os.path.join(self._directory, path))
        if os.path.commonpath([found, self._directory]) != self._directory:
            raise InvalidInput(
                f"COPY may use files below {self._directory} only, and {path!r} is not there"
            )
        return found


def _named(table: Table, names: Sequence[str]) -> list[Column]:
    known = {column.name: column for column in table.columns}
    for at, name in enumerate(names):
        if name not in known:
            raise BindError(f'table "{table.name}" has no column "{name}"')
        if name in names[:at]:
            raise BindError(f'column "{name}" stands twice')
    return [known[name] for name in names] if names else list(table.columns)


# Reading ---------------------------------------------------------------


def _read_csv(
    path: str, copy: Copy, columns: Sequence[Column]
) -> tuple[Sequence[str], Iterator[ArrowBatch]]:
    names = [column.name for column in columns]
    if copy.match:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=copy.delimiter, quotechar=copy.quote)
            header = next(lines, [])
        if header != names:
            raise DataError(f"{path}: the header is {', '.join(header)}, not {', '.join(names)}")
    if os.path.getsize(path) == 0:
        return names, iter(())
    options = pa_csv.ConvertOptions(
        column_types={column.name: _text_type(column) for column in columns},
        null_values=[copy.null],
        true_values=_TRUE,
        false_values=_FALSE,
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        reader = pa_csv.open_csv(
            path,
            pa_csv.ReadOptions(
                column_names=names, skip_rows=int(copy.header), block_size=BLOCK_BYTES
            ),
            pa_csv.ParseOptions(
                delimiter=copy.delimiter, quote_char=copy.quote, newlines_in_values=True
            ),
            options,
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV file" in str(error):
            return names, iter(())  # a header and nothing else
        raise
    return names, _of_text(path, reader, columns)


def _read_json(
    path: str, copy: Copy, columns: Sequence[Column]
) -> tuple[Sequence[str], Iterator[ArrowBatch]]:
    with open(path, "rb") as file:
        start = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not start:
        return [column.name for column in columns], iter(())
    types = [
        pa.field(column.name, _text_type(column, json=True))
        for column in columns
        if column.type.name != "JSON"  # whatever stands there
    ]
    options = pa_json.ParseOptions(
        explicit_schema=pa.schema(types),
        newlines_in_values=False,
        unexpected_field_behavior="infer",
    )
    if start == b"[":
        reader = _json_array(path, options)
    else:
        reader = pa_json.open_json(path, pa_json.ReadOptions(block_size=BLOCK_BYTES), options)
    wanted = {column.name: column for column in columns}
    unknown = [name for name in reader.schema.names if name not in wanted]
    if unknown:
        raise BindError(f'{path}: its objects have "{unknown[0]}", which is no column to copy')
    found = [wanted[name] for name in reader.schema.names]
    return reader.schema.names, _of_text(path, reader, found)


def _json_array(path: str, options: pa_json.ParseOptions) -> pa.RecordBatchReader:
    """An array of objects, as lines: Arrow reads those only."""
    with open(path, encoding="utf-8-sig") as file:
        try:
            objects = json.load(file, parse_float=_Number, parse_int=_Number)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
    lines = "\n".join(_dumped(each) for each in objects).encode()
    if not objects:
        return pa.Table.from_pylist([]).to_reader()
    whole = pa_json.ReadOptions(block_size=max(len(lines) + 1, 1 << 16))
    return pa_json.read_json(pa.BufferReader(lines), whole, options).to_reader()


class _Number(float):
    """A number that is written as it was read."""

    def __new__(cls, text: str) -> _Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def _dumped(value: Any) -> str:
    """JSON with numbers as they were read."""
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{_dumped(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumped, value)) + "]"
    return json.dumps(value)


def _read_parquet(
    path: str, copy: Copy, columns: Sequence[Column]
) -> tuple[Sequence[str], Iterator[ArrowBatch]]:
    file = pa_parquet.ParquetFile(path)
    schema = file.schema_arrow
    names: list[str] = schema.names
    wanted = [column.name for column in columns]
    if copy.columns:
        missing = [name for name in wanted if name not in names]
        if missing:
            raise BindError(f'{path} has no column "{missing[0]}"; it has {", ".join(names)}')
        names = wanted
    else:
        unknown = [name for name in names if name not in wanted]
        if unknown:
            raise BindError(f'{path} has the column "{unknown[0]}", and the table has none such')
    batches = (batch.select(names) for batch in file.iter_batches(columns=names))
    reader = pa.RecordBatchReader.from_batches(
        pa.schema([schema.field(name) for name in names]), batches
    )
    return names, _told(path, intake(reader))


def _text_type(column: Column, *, json: bool = False) -> pa.DataType:
    """The type in which a column of a text file is read."""
    name = column.type.name
    if name == "REAL":
        return pa.float64()  # rounded by the column, which knows what is too large
    if name not in _READ or (json and name == "DATE"):
        return pa.string()
    return arrow_type(column.type)


def _of_text(
    path: str, reader: pa.RecordBatchReader, columns: Sequence[Column]
) -> Iterator[ArrowBatch]:
    blobs = [at for at, column in enumerate(columns) if column.type.name == "BLOB"]
    for batch in _told(path, intake(reader)):
        for at in blobs:
            batch.convert(at, _from_hex)
        yield batch


def _told(path: str, batches: Iterator[ArrowBatch]) -> Iterator[ArrowBatch]:
    """The batches; what is wrong with the file names it."""
    try:
        yield from batches
    except InvalidInput as error:
        raise DataError(f"{path}: {error}") from None


def _from_hex(text: str) -> bytes:
    if text[:2] != "\\x":
        raise DataError(f"a BLOB stands in a text file as \\x00ff, not {text[:20]!r}")
    try:
        return bytes.fromhex(text[2:])
    except ValueError as error:
        raise DataError(f"a BLOB in a text file: {error}") from None


# Writing ---------------------------------------------------------------


def _write_csv(file: IO[bytes], copy: Copy, table: pa.Table) -> None:
    plain = copy.null == "" and copy.quote == '"'
    table = _as_text(table)
    if plain:
        options = pa_csv.WriteOptions(
            include_header=copy.header, delimiter=copy.delimiter, quoting_style="needed"
        )
        pa_csv.write_csv(table, file, options)
        return
    special = {copy.delimiter, copy.quote, "\n", "\r"}

    def shown(value: Any) -> str:
        if value is None:
            return copy.null
        text = ("true" if value else "false") if isinstance(value, bool) else str(value)
        if isinstance(value, str) and (text in ("", copy.null) or not special.isdisjoint(text)):
            return copy.quote + text.replace(copy.quote, 2 * copy.quote) + copy.quote
        return text

    if copy.header:
        file.write((copy.delimiter.join(map(shown, table.column_names)) + "\n").encode())
    for row in iterate_rows(table):
        file.write((copy.delimiter.join(map(shown, row)) + "\n").encode())


def _write_parquet(file: IO[bytes], copy: Copy, table: pa.Table) -> None:
    intervals = [
        name
        for name, kind in zip(table.column_names, table.schema.types, strict=True)
        if kind == pa.month_day_nano_interval()
    ]
    pa_parquet.write_table(_as_text(table, intervals), file)


def _write_json(file: IO[bytes], copy: Copy, table: pa.Table) -> None:
    names, types = table.column_names, column_types(table)
    documents = [at for at, each in enumerate(types) if each is not None and each.name == "JSON"]
    for row in iterate_rows(table):
        values = list(row)
        for at in documents:
            values[at] = None if row[at] is None else json.loads(row[at])
        line = json.dumps(dict(zip(names, values, strict=True)), default=_shown, ensure_ascii=False)
        file.write(line.encode() + b"\n")


def _as_text(table: pa.Table, only: Sequence[str] | None = None) -> pa.Table:
    """The table with text in place of what CSV, or Parquet, has no form for."""
    for at, field in enumerate(table.schema):
        wanted = field.name in only if only is not None else _has_no_text(field.type)
        if not wanted:
            continue
        values = [row[0] for row in iterate_rows(table.select([at]))]
        texts = pa.array([None if each is None else _shown(each) for each in values], pa.string())
        table = table.set_column(at, field.name, texts)
    return table


def _has_no_text(kind: pa.DataType) -> bool:
    types: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_interval,
        pa.types.is_duration,
        pa.types.is_nested,
        pa.types.is_decimal,
        pa.types.is_time,
    )
    return any(is_one(kind) for is_one in types)


def _shown(value: Any) -> str:
    match value:
        case bytes():
            return "\\x" + value.hex()
        case datetime():
            return value.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case Decimal():
            return format(value, "f")
        case Interval():
            return str(value)
        case timedelta():
            return f"{value.days} days {value.seconds}.{value.microseconds:06d} seconds"
        case list() | dict():
            return json.dumps(value, default=_shown)
    return str(value)
