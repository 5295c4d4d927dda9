"""Rows as Arrow columns, and Arrow columns as rows.

    SQL type      Arrow type                in the columnar engine
    BOOLEAN       bool
    SMALLINT      int16
    INTEGER       int32
    BIGINT        int64
    COUNTER       int64                     reads as BIGINT
    REAL          float
    DOUBLE        double
    DECIMAL(p,s)  decimal128(p, s)          DECIMAL alone: decimal128(38, 10)
    TEXT, VARCHAR string
    BLOB          binary
    DATE          date32
    TIME          time64[us]
    TIMESTAMP     timestamp[us]
    TIMESTAMPTZ   timestamp[us, tz=UTC]
    INTERVAL      month_day_nano_interval   a day is 24 hours, so days and microseconds add up again
    UUID          string                    arrow.uuid, 16 bytes
    JSON          string                    arrow.json

A UUID leaves Murmur as text: Polars and pandas have no such type and would show 16 raw bytes, and
DuckDB compares text with UUID anyway. Inside the columnar engine it stays 16 bytes, which join and
compare faster and order as PostgreSQL orders them.

Every field says in its metadata which SQL type it came from, so that rows can be made of a table
again, with UUID objects where the text is a UUID:

    id: string  metadata murmur.type: UUID

The columns of a table are made by the kernel from the bytes of its records, without an object for
each row; those of Python values, most of them by one call for the whole column.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from murmur.catalog.atoms import decoder, encoder
from murmur.catalog.fields import field_of, type_field
from murmur.catalog.kv_tables import scan_kv_columns
from murmur.catalog.rows import scan_batches, scan_rows
from murmur.catalog.schema import Column, Table
from murmur.catalog.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    INTEGER,
    INTERVAL,
    REAL,
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UUID,
    Interval,
    SqlType,
    decimal,
    decimal_bounds,
    parse_type,
)
from murmur.errors import DataError
from murmur.kvcore.kernel.pure.rows import array_of
from murmur.kvcore.view import View

BLOCK_ROWS = 8192  # rows made Python objects at a time

_TYPE_KEY = b"murmur.type"
_UNFIT = (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_US_PER_DAY = 86_400_000_000

_PLAIN: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "COUNTER": pa.int64(),
    "REAL": pa.float32(),
    "DOUBLE": pa.float64(),
    "TEXT": pa.string(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
    "INTERVAL": pa.month_day_nano_interval(),
    "UUID": pa.string(),
    "JSON": pa.string(),
}


# Types -----------------------------------------------------------------


def arrow_type(sql_type: SqlType | None) -> pa.DataType:
    """The Arrow type in which results carry an SQL type; null for an unknown one."""
    if sql_type is None:
        return pa.null()
    if sql_type.name == "DECIMAL":
        return pa.decimal128(*decimal_bounds(sql_type))
    return _PLAIN[sql_type.name]


def make_field(name: str, sql_type: SqlType | None, data_type: pa.DataType) -> pa.Field:
    """A field that remembers the SQL type it came from."""
    metadata = None if sql_type is None else {_TYPE_KEY: str(sql_type).encode()}
    return pa.field(name, data_type, metadata=metadata)


def sql_type_of(field: pa.Field) -> SqlType | None:
    """The SQL type of a column: what its metadata says, else what its Arrow type amounts to."""
    written = (field.metadata or {}).get(_TYPE_KEY)
    if written is not None:
        return parse_type(written.decode())
    data_type = field.type
    if pa.types.is_decimal(data_type):
        return decimal(data_type.precision, data_type.scale) if data_type.scale >= 0 else None
    return _SQL_TYPES.get(data_type)


_SQL_TYPES: dict[pa.DataType, SqlType] = {
    pa.bool_(): BOOLEAN,
    pa.int8(): SMALLINT,
    pa.uint8(): SMALLINT,
    pa.int16(): SMALLINT,
    pa.uint16(): INTEGER,
    pa.int32(): INTEGER,
    pa.uint32(): BIGINT,
    pa.int64(): BIGINT,
    pa.float32(): REAL,
    pa.float64(): DOUBLE,
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.string_view(): TEXT,
    pa.binary(): BLOB,
    pa.large_binary(): BLOB,
    pa.date32(): DATE,
    pa.time64("us"): TIME,
    pa.timestamp("us"): TIMESTAMP,
    pa.timestamp("us", "UTC"): TIMESTAMPTZ,
    pa.month_day_nano_interval(): INTERVAL,
    pa.duration("us"): INTERVAL,
}


# To Arrow --------------------------------------------------------------


def table_to_arrow(
    view: View, table: Table, columns: Sequence[Column] | None = None, *, engine: bool = False
) -> pa.Table:
    """The rows of a table as this view shows them; `engine`: in the columnar engine's own types."""
    wanted = table.columns if columns is None else columns
    if table.kv is not None:
        return _kv_to_arrow(view, table, wanted, engine=engine)
    stored = [column for column in wanted if column.generated is None]
    batches = scan_batches(view, table, [field_of(column, raw=engine) for column in stored])
    arrays = {
        column.id: pa.chunked_array(
            [_labelled(pa.array(batch[at]), column.type, engine=engine) for batch in batches]
        )
        for at, column in enumerate(stored)
    }
    computed = [column for column in wanted if column.generated is not None]
    if computed:
        ids = [column.id for column in computed]
        values = list(zip(*(row for _, row in scan_rows(view, table, columns=ids)), strict=True))
        for column, held in zip(computed, values or [()] * len(ids), strict=True):
            arrays[column.id] = values_to_array(held, column.type, engine=engine, where=column.name)
    columns_of = [(column.name, column.type) for column in wanted]
    return make_table(columns_of, [arrays[column.id] for column in wanted])


def _kv_to_arrow(view: View, table: Table, columns: Sequence[Column], *, engine: bool) -> pa.Table:
    """The rows of a table over KV keys."""
    chunks: list[list[pa.Array]] = [[] for _ in columns]
    for some in scan_kv_columns(view, table, columns):
        for chunk, atoms, column in zip(chunks, some, columns, strict=True):
            chunk.append(atoms_to_array(atoms, column.type, engine=engine))
    arrays = [
        pa.chunked_array(chunk or [atoms_to_array((), column.type, engine=engine)])
        for chunk, column in zip(chunks, columns, strict=True)
    ]
    return make_table([(column.name, column.type) for column in columns], arrays)


def rows_to_arrow(
    columns: Sequence[tuple[str, SqlType | None]],
    rows: Sequence[Sequence[Any]],
    *,
    engine: bool = False,
) -> pa.Table:
    """Rows of Python values as a table; a column of unknown type gets that of its values."""
    by_column: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(columns)
    typed = [
        (name, infer_type(values) if sql_type is None else sql_type)
        for (name, sql_type), values in zip(columns, by_column, strict=True)
    ]
    arrays = [
        values_to_array(values, sql_type, engine=engine, where=name)
        for (name, sql_type), values in zip(typed, by_column, strict=True)
    ]
    return make_table(typed, arrays, rows=len(rows))


def make_table(
    columns: Sequence[tuple[str, SqlType | None]],
    arrays: Sequence[pa.Array | pa.ChunkedArray],
    rows: int = 0,
) -> pa.Table:
    """Columns under their names, each with its SQL type; `rows` counts when there are none."""
    if not columns:
        return pa.table({"": pa.nulls(rows)}).select([])
    fields = [
        make_field(name, sql_type, array.type)
        for (name, sql_type), array in zip(columns, arrays, strict=True)
    ]
    return pa.Table.from_arrays(list(arrays), schema=pa.schema(fields))


def atoms_to_array(atoms: Sequence[Any], sql_type: SqlType, *, engine: bool = False) -> pa.Array:
    """A column of stored values; what is not of the type reads NULL (catalog/soundness.py)."""
    array = array_of(atoms, type_field(sql_type, raw=engine))
    return _labelled(array, sql_type, engine=engine)


def _labelled(array: pa.Array, sql_type: SqlType, *, engine: bool) -> pa.Array:
    """The array, in the columnar engine's own type if it has one."""
    own = _OWN_TYPES.get(sql_type.name) if engine else None
    return array if own is None else pa.ExtensionArray.from_storage(own, array)


_OWN_TYPES = {"UUID": pa.uuid(), "JSON": pa.json_()}


def values_to_array(
    values: Sequence[Any], sql_type: SqlType | None, *, engine: bool = False, where: str = ""
) -> pa.Array:
    """A column of Python values of one SQL type."""
    try:
        if sql_type is None:
            return pa.nulls(len(values))
        if sql_type.name == "DECIMAL":
            if sql_type.precision is None:
                return _free_decimals(values)
            return pa.array(values, arrow_type(sql_type))
        encode = encoder(sql_type)
        if encode is not None:
            values = [None if value is None else encode(value) for value in values]
        return _BUILDERS.get(sql_type.name, _build_plain)(values, sql_type, engine)
    except _UNFIT as error:
        raise DataError(f"column {where}: a value is not {sql_type}: {error}") from None


def infer_type(values: Sequence[Any]) -> SqlType | None:
    """The SQL type that holds all these Python values; None when all are NULL."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return None
    if len(kinds) == 1:
        return _infer_one(kinds.pop(), values)
    if kinds <= {int, float}:
        return DOUBLE
    if kinds <= {int, Decimal}:
        return DECIMAL
    if kinds <= {timedelta, Interval}:
        return INTERVAL
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise DataError(f"values of different types cannot share a column: {names}")


def _infer_one(kind: type, values: Sequence[Any]) -> SqlType:
    if kind is int:
        fits = all(value is None or -(2**63) <= value < 2**63 for value in values)
        return BIGINT if fits else DECIMAL
    if kind is datetime:
        aware = {value.tzinfo is not None for value in values if value is not None}
        if len(aware) == 2:
            raise DataError("times with and without a zone cannot share a column")
        return TIMESTAMPTZ if aware.pop() else TIMESTAMP
    found = _KINDS.get(kind)
    if found is None:
        raise DataError(f"no column holds values of type {kind.__name__}")
    return found


_KINDS: dict[type, SqlType] = {
    bool: BOOLEAN,
    float: DOUBLE,
    Decimal: DECIMAL,
    str: TEXT,
    bytes: BLOB,
    date: DATE,
    time: TIME,
    timedelta: INTERVAL,
    Interval: INTERVAL,
    uuid.UUID: UUID,
}


def _build_plain(atoms: Sequence[Any], sql_type: SqlType, engine: bool) -> pa.Array:
    return pa.array(atoms, _PLAIN[sql_type.name])


def _build_decimal(atoms: Sequence[Any], sql_type: SqlType, engine: bool) -> pa.Array:
    return pa.array(atoms, pa.string()).cast(arrow_type(sql_type))


def _build_date(atoms: Sequence[Any], sql_type: SqlType, engine: bool) -> pa.Array:
    days = pc.subtract(pa.array(atoms, pa.int32()), pa.scalar(_EPOCH_ORDINAL, pa.int32()))
    return days.cast(pa.date32())


def _build_shifted(atoms: Sequence[Any], sql_type: SqlType, engine: bool) -> pa.Array:
    return pa.array(atoms, pa.int64()).cast(_PLAIN[sql_type.name])


def _build_interval(atoms: Sequence[Any], sql_type: SqlType, engine: bool) -> pa.Array:
    return pa.array([_month_day_nano(atom) for atom in atoms], pa.month_day_nano_interval())


def _build_uuid(atoms: Sequence[Any], sql_type: SqlType, engine: bool) -> pa.Array:
    if engine:
        return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(atoms, pa.binary(16)))
    return pa.array([None if atom is None else _uuid_text(atom) for atom in atoms], pa.string())


def _build_json(atoms: Sequence[Any], sql_type: SqlType, engine: bool) -> pa.Array:
    texts = pa.array(atoms, pa.string())
    return pa.ExtensionArray.from_storage(pa.json_(), texts) if engine else texts


_BUILDERS: dict[str, Callable[[Sequence[Any], SqlType, bool], pa.Array]] = {
    "DECIMAL": _build_decimal,
    "DATE": _build_date,
    "TIME": _build_shifted,
    "TIMESTAMP": _build_shifted,
    "TIMESTAMPTZ": _build_shifted,
    "INTERVAL": _build_interval,
    "UUID": _build_uuid,
    "JSON": _build_json,
}


def _month_day_nano(atom: int | bytes | None) -> tuple[int, int, int] | None:
    if atom is None:
        return None
    months = 0
    if isinstance(atom, bytes):
        if len(atom) != 12:
            raise ValueError("not 12 bytes")
        months, atom = int.from_bytes(atom[:4], signed=True), int.from_bytes(atom[4:], signed=True)
    days, microseconds = divmod(atom, _US_PER_DAY)
    return months, days, microseconds * 1000


def _uuid_text(atom: bytes) -> str:
    text = atom.hex()
    if len(text) != 32:
        raise ValueError("not 16 bytes")
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _free_decimals(values: Sequence[Any]) -> pa.Array:
    """Exact numbers of any scale: the narrowest decimal128 that holds them all."""
    exact = [Decimal(value) if type(value) is int else value for value in values]
    array = pa.array(exact)
    if pa.types.is_null(array.type):
        return array.cast(pa.decimal128(38, 10))
    if not pa.types.is_decimal128(array.type):
        raise ValueError("more than 38 digits")
    scale = max(array.type.scale, 0)
    return array.cast(pa.decimal128(38, scale))


# From Arrow ------------------------------------------------------------


def iterate_rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows as tuples of Python values, a block at a time."""
    types = column_types(table)
    if not table.num_columns:
        yield from [()] * table.num_rows
        return
    for start in range(0, table.num_rows, BLOCK_ROWS):
        yield from _block(table.slice(start, BLOCK_ROWS), types)


def _block(table: pa.Table, types: Sequence[SqlType | None]) -> list[tuple[Any, ...]]:
    columns = [
        array_to_values(column, sql_type)
        for column, sql_type in zip(table.columns, types, strict=True)
    ]
    return list(zip(*columns, strict=True))


def array_to_values(array: pa.ChunkedArray, sql_type: SqlType | None) -> list[Any]:
    """The Python values of one column: what the row engine would have given."""
    name = sql_type.name if sql_type is not None else ""
    read = _READERS.get(name)
    if read is not None:
        assert sql_type is not None
        try:
            return read(array, sql_type)
        except (OverflowError, ValueError) as error:
            raise DataError(f"a result is outside of what {sql_type} can show: {error}") from None
    return array.to_pylist()  # type: ignore[no-any-return]


def _read_date(array: pa.ChunkedArray, sql_type: SqlType) -> list[Any]:
    days = array.cast(pa.int32()).to_pylist()
    from_ordinal = date.fromordinal
    return [None if day is None else from_ordinal(day + _EPOCH_ORDINAL) for day in days]


def _read_shifted(array: pa.ChunkedArray, sql_type: SqlType) -> list[Any]:
    decode = decoder(sql_type)
    assert decode is not None
    atoms = array.cast(pa.int64()).to_pylist()
    return [None if atom is None else decode(atom) for atom in atoms]


def _read_decimal(array: pa.ChunkedArray, sql_type: SqlType) -> list[Any]:
    texts = array.cast(pa.string()).to_pylist()
    return [None if text is None else Decimal(text) for text in texts]


def _read_interval(array: pa.ChunkedArray, sql_type: SqlType) -> list[Any]:
    if pa.types.is_duration(array.type):
        return array.cast(pa.duration("us")).to_pylist()  # type: ignore[no-any-return]
    return [None if parts is None else _interval(*parts) for parts in array.to_pylist()]


def _interval(months: int, days: int, nanoseconds: int) -> timedelta:
    if not months:
        return timedelta(days, 0, nanoseconds // 1000)
    return Interval(months, days=days, microseconds=nanoseconds // 1000)


def _read_uuid(array: pa.ChunkedArray, sql_type: SqlType) -> list[Any]:
    return [None if text is None else uuid.UUID(text) for text in array.to_pylist()]


_READERS: dict[str, Callable[[pa.ChunkedArray, SqlType], list[Any]]] = {
    "DATE": _read_date,
    "TIME": _read_shifted,
    "TIMESTAMP": _read_shifted,
    "TIMESTAMPTZ": _read_shifted,
    "DECIMAL": _read_decimal,
    "INTERVAL": _read_interval,
    "UUID": _read_uuid,
}


def column_types(table: pa.Table) -> tuple[SqlType | None, ...]:
    """The SQL type of every column."""
    return tuple(map(sql_type_of, table.schema))
