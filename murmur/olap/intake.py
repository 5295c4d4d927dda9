"""Arrow data on its way into a table: batches whose columns the kernel reads as they are.

    for batch in intake(data, table, ["id", "body"]): batch.source(0, column) ...

Data is a pyarrow Table, RecordBatch or RecordBatchReader, or whatever has `__arrow_c_stream__`:
frames of Polars and pandas, relations of DuckDB, results of Murmur. Columns are matched by name.

    column of the table          columns of Arrow that the kernel reads, after an exact cast
    BOOLEAN                      bool
    integers, COUNTER            integers
    REAL, DOUBLE                 floats; integers that a float holds exactly
    DECIMAL                      decimals, integers
    TEXT, VARCHAR                strings, also of a dictionary
    BLOB                         binaries
    DATE                         dates
    TIME                         times
    TIMESTAMP, TIMESTAMPTZ       timestamps without, and with a zone
    UUID                         16 bytes

Everything else becomes Python values, and is taken or refused as a parameter would be: text for a
date or a UUID, JSON, intervals. Nothing is rounded or cut: a value that does not fit is an error
that names the column and the row, counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from murmur.catalog.fields import field_of
from murmur.catalog.schema import Column, Table
from murmur.errors import BindError, InvalidInput, TypeMismatch
from murmur.kvcore.kernel.block_plan import (
    BINARIES,
    BOOLEANS,
    DECIMALS,
    FIXEDS,
    FLOATS,
    INTEGERS,
    NULLS,
    TEXTS,
    ColumnSource,
)
from murmur.kvcore.kernel.fields import (
    BINARY,
    BOOLEAN,
    DECIMAL,
    FLOAT,
    INTEGER,
    TEXT,
    UUID,
    FieldSpec,
)
from murmur.olap.arrow import array_to_values, sql_type_of

BATCH_ROWS = 16_384
BATCH_BYTES = 4 << 20

_FORMS = {
    BOOLEAN: BOOLEANS,
    INTEGER: INTEGERS,
    FLOAT: FLOATS,
    DECIMAL: DECIMALS,
    TEXT: TEXTS,
    BINARY: BINARIES,
    UUID: FIXEDS,
}


def open_arrow(data: Any) -> pa.RecordBatchReader:
    """A reader of the data. TypeMismatch if it is not Arrow's."""
    if isinstance(data, pa.RecordBatchReader):
        return data
    if isinstance(data, pa.Table):
        return data.to_reader(BATCH_ROWS)
    if isinstance(data, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(data.schema, [data])
    try:
        if hasattr(data, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(data)
        if hasattr(data, "__arrow_c_array__"):
            batch = pa.record_batch(data)
            return pa.RecordBatchReader.from_batches(batch.schema, [batch])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TypeMismatch(f"the data cannot be read as rows of Arrow: {error}") from None
    raise TypeMismatch(
        f"a {type(data).__name__} is no Arrow data: pass a pyarrow.Table, a reader, or a frame "
        "with __arrow_c_stream__; rows of Python values go to execute_many"
    )


def match_columns(schema: pa.Schema, table: Table) -> list[str]:
    """The names of the data's columns, each a column of the table. BindError if one is not."""
    names: list[str] = schema.names
    known = {column.name for column in table.columns}
    if not names:
        raise InvalidInput("the data has no columns")
    for at, name in enumerate(names):
        if name not in known:
            raise BindError(
                f'table "{table.name}" has no column "{name}"; it has '
                f"{', '.join(column.name for column in table.columns)}"
            )
        if name in names[:at]:
            raise BindError(f'the data has two columns "{name}"')
    return names


def intake(reader: pa.RecordBatchReader) -> Iterator[ArrowBatch]:
    """The data in batches, checked to be what its schema says."""
    first = 0
    source = iter(reader)
    while True:
        try:
            batch = next(source, None)
        except pa.ArrowException as error:
            raise InvalidInput(f"row {first + 1} or after: {error}") from None
        if batch is None:
            return
        each = 1 + batch.nbytes // max(1, batch.num_rows)
        rows = min(BATCH_ROWS, max(1, BATCH_BYTES // each))
        for start in range(0, batch.num_rows, rows):
            piece = batch.slice(start, rows)
            yield ArrowBatch(piece, first)
            first += piece.num_rows


class ArrowBatch:
    """Rows as columns; see sql/bulk.py for what is asked of them."""

    def __init__(self, batch: pa.RecordBatch, first: int) -> None:
        self.rows: int = batch.num_rows
        self.first = first
        self._arrays = [_plain(array) for array in batch.columns]
        self._converters: dict[int, Callable[[Any], Any]] = {}

    def convert(self, at: int, convert: Callable[[Any], Any]) -> None:
        """Let values of a column, but NULL, be what this makes of them."""
        self._converters[at] = convert

    def source(self, at: int, column: Column) -> ColumnSource | None:
        """A column as the kernel reads it; None if Python has to convert it."""
        array = self._arrays[at]
        if at in self._converters:
            return None
        field = field_of(column, raw=True)
        if pa.types.is_null(array.type):
            return None
        cast = _exact(array, column.type.name, field)
        if cast is None:
            return None
        try:
            cast.validate(full=True)
        except pa.ArrowException as error:
            raise InvalidInput(f'the data\'s column "{column.name}" is damaged: {error}') from None
        return _source(cast, column, field)

    def values(self, at: int) -> Sequence[Any]:
        """A column as Python values."""
        array = self._arrays[at]
        sql_type = sql_type_of(pa.field("", array.type))
        try:
            values = array_to_values(pa.chunked_array([array]), sql_type)
        except (pa.ArrowException, OverflowError, ValueError) as error:
            raise InvalidInput(f"after row {self.first}: {error}") from None
        convert = self._converters.get(at)
        if convert is None:
            return values
        return [None if value is None else convert(value) for value in values]


def _plain(array: pa.Array) -> pa.Array:
    """The array without dictionary, run ends, or a type of somebody's own."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    return array


def _exact(array: pa.Array, name: str, field: FieldSpec) -> pa.Array | None:
    """The array in the type that the kernel reads for this SQL type, value for value; else None."""
    given, wanted = array.type, _wanted(name, field)
    if wanted is None or not _is_alike(given, name, wanted):
        return None
    if given == wanted:
        return array
    try:
        return array.cast(wanted)  # raises for what would be lost
    except (pa.ArrowException, ValueError):
        return None


def _wanted(name: str, field: FieldSpec) -> pa.DataType | None:
    match name:
        case "BOOLEAN":
            return pa.bool_()
        case "SMALLINT" | "INTEGER" | "BIGINT" | "COUNTER":
            return {2: pa.int16(), 4: pa.int32(), 8: pa.int64()}[field.width]
        case "REAL":
            return pa.float32()
        case "DOUBLE":
            return pa.float64()
        case "DECIMAL":
            return pa.decimal128(field.precision, field.scale)
        case "TEXT" | "VARCHAR":
            return pa.string()
        case "BLOB":
            return pa.binary()
        case "DATE":
            return pa.date32()
        case "TIME":
            return pa.time64("us")
        case "TIMESTAMP":
            return pa.timestamp("us")
        case "TIMESTAMPTZ":
            return pa.timestamp("us", "UTC")
        case "UUID":
            return pa.binary(16)
    return None


def _is_alike(given: pa.DataType, name: str, wanted: pa.DataType) -> bool:
    """Whether every value that an exact cast lets through means the same."""
    if name in ("TIMESTAMP", "TIMESTAMPTZ"):
        return pa.types.is_timestamp(given) and (given.tz is None) == (name == "TIMESTAMP")
    return bool(given == wanted) or any(is_one(given) for is_one in _ALIKE.get(name, ()))


_INTEGERS = (pa.types.is_integer,)
_ALIKE: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    **dict.fromkeys(("SMALLINT", "INTEGER", "BIGINT", "COUNTER"), _INTEGERS),
    "REAL": (pa.types.is_float16,),  # a double is rounded, which Python checks
    "DOUBLE": (pa.types.is_floating, pa.types.is_integer),
    "DECIMAL": (pa.types.is_decimal, pa.types.is_integer),
    **dict.fromkeys(("TEXT", "VARCHAR"), (pa.types.is_large_string, pa.types.is_string_view)),
    "BLOB": (
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        pa.types.is_binary_view,
    ),
    "DATE": (pa.types.is_date,),
    "TIME": (pa.types.is_time,),
}


def _source(array: pa.Array, column: Column, field: FieldSpec) -> ColumnSource:
    buffers = array.buffers()
    form = FIXEDS if column.type.name == "UUID" else _FORMS[field.kind]
    counter = column.type.name == "COUNTER"
    if len(array) == 0:
        return ColumnSource(NULLS)
    return ColumnSource(
        form,
        array.offset,
        buffers[0] if array.null_count else None,
        buffers[1] if form in (TEXTS, BINARIES) else None,
        buffers[-1],
        width=16 if form == FIXEDS else field.width,
        nullable=column.nullable,
        counter=counter,
        bias=field.bias,
        low=field.low if form == INTEGERS else 0,
        high=field.high if form == INTEGERS else 0,
        precision=field.precision,
        scale=field.scale,
        shortest=field.shortest,
        longest=column.type.length or 0,
    )
