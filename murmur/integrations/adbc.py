"""An ADBC connection: what pandas, Polars and marimo read Arrow columns from, instead of rows.

    connection = murmur.integrations.adbc.connect("data/alice")      or of a swarm, or a connection
    pandas.read_sql("SELECT * FROM note", connection)
    polars.read_database("SELECT * FROM note", connection)
    frame.write_database("note", connection, if_table_exists="append")

It has the interface of adbc_driver_manager.dbapi and no C driver below: statements run through
murmur.Connection, whose transaction it is (PEP 249: commit, or autocommit=True). pandas asks for an
instance of that module's Connection, and Polars for a module whose name begins with adbc, so the
classes are the one and say the other. ADBC's statements of its own (statistics, partitions,
substrait) raise NotSupportedError.

`adbc_ingest` makes tables of Arrow data: mode create, append, replace or create_append.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NoReturn

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_manager import dbapi

import murmur
from murmur.catalog import Table
from murmur.errors import InvalidInput, NotSupportedError, ProgrammingError
from murmur.olap.arrow import sql_type_of
from murmur.olap.frames import to_pandas, to_polars, with_durations
from murmur.sql.information_schema import CATALOG, SCHEMA

MODULE = "adbc_driver_murmur.dbapi"  # Polars looks at the first word
BATCH_ROWS = 65_536

Mode = Literal["append", "create", "replace", "create_append"]
Depth = Literal["all", "catalogs", "db_schemas", "tables", "columns"]


def connect(
    target: str | os.PathLike[str] | murmur.Swarm | murmur.Connection,
    *,
    autocommit: bool = False,
    **options: Any,
) -> Connection:
    """Connect to a directory or a swarm as `murmur.connect` does, or wrap a connection."""
    if isinstance(target, murmur.Connection):
        if options or autocommit:
            raise InvalidInput("the connection is made already; it cannot be given options")
        return Connection(target)
    return Connection(murmur.connect(target, autocommit=autocommit, **options))


class Connection(dbapi.Connection):
    """A murmur.Connection in ADBC's words."""

    def __init__(self, connection: murmur.Connection) -> None:  # there is no driver to set up
        self.connection = connection

    # PEP 249 -----------------------------------------------------------

    def cursor(self, *, adbc_stmt_kwargs: dict[str, Any] | None = None) -> Cursor:
        """A new cursor."""
        if adbc_stmt_kwargs:
            raise NotSupportedError("statements of Murmur have no ADBC options")
        return Cursor(self, self.connection.cursor())

    def execute(
        self, operation: str, parameters: Any = None, *, adbc_stmt_kwargs: Any = None
    ) -> Cursor:
        """Run a statement on a cursor of its own, and return that."""
        return self.cursor(adbc_stmt_kwargs=adbc_stmt_kwargs).execute(operation, parameters)

    def commit(self) -> None:
        """Make what the transaction has written visible and durable. Raises Conflict."""
        self.connection.commit()

    def rollback(self) -> None:
        """Forget what the transaction has written."""
        self.connection.rollback()

    def close(self) -> None:
        """Roll back what was not committed, and let go of the swarm."""
        self.connection.close()

    def __del__(self) -> None:
        """Nothing: the murmur.Connection looks after itself."""

    # ADBC --------------------------------------------------------------

    def adbc_cancel(self) -> None:
        """End the statement that runs, from any thread."""
        self.connection.interrupt()

    def adbc_clone(self) -> Connection:
        """Another connection to the same swarm."""
        real = self.connection
        return Connection(murmur.connect(real.swarm, autocommit=real.autocommit))

    def adbc_get_info(self) -> dict[str | int, Any]:
        """Who answers."""
        return {
            "vendor_name": "Murmur",
            "vendor_version": murmur.__version__,
            "driver_name": "Murmur's ADBC interface",
            "driver_version": murmur.__version__,
        }

    def adbc_get_table_types(self) -> list[str]:
        """The kinds of tables that there are."""
        return ["TABLE", "VIEW"]

    def adbc_get_table_schema(
        self,
        table_name: str,
        *,
        catalog_filter: str | None = None,
        db_schema_filter: str | None = None,
    ) -> pa.Schema:
        """The columns of a table or view. Raises ADBC's error NOT_FOUND."""
        catalog = self.connection.catalog
        here = catalog_filter in (None, CATALOG) and db_schema_filter in (None, SCHEMA)
        if not here or (catalog.table(table_name) or catalog.view(table_name)) is None:
            raise adbc_driver_manager.ProgrammingError(
                f'there is no table "{table_name}"',
                status_code=adbc_driver_manager.AdbcStatusCode.NOT_FOUND,
            )
        return self.connection.sql(f"SELECT * FROM {_quoted(table_name)} LIMIT 0").arrow().schema

    def adbc_get_objects(
        self,
        *,
        depth: Depth = "all",
        catalog_filter: str | None = None,
        db_schema_filter: str | None = None,
        table_name_filter: str | None = None,
        table_types_filter: list[str] | None = None,
        column_name_filter: str | None = None,
    ) -> pa.RecordBatchReader:
        """Tables, views, their columns and keys, nested as ADBC nests them."""
        catalogs = []
        if _like(CATALOG, catalog_filter):
            schemas = []
            if depth != "catalogs" and _like(SCHEMA, db_schema_filter):
                tables = None
                if depth != "db_schemas":
                    kinds = frozenset(table_types_filter or self.adbc_get_table_types())
                    tables = [
                        _described(name, kind, table, depth, column_name_filter)
                        for name, kind, table in self._tables()
                        if kind in kinds and _like(name, table_name_filter)
                    ]
                schemas = [{"db_schema_name": SCHEMA, "db_schema_tables": tables}]
            found = None if depth == "catalogs" else schemas
            catalogs = [{"catalog_name": CATALOG, "catalog_db_schemas": found}]
        return pa.Table.from_pylist(catalogs, schema=_OBJECTS).to_reader()

    def _tables(self) -> Iterator[tuple[str, str, Table | None]]:
        catalog = self.connection.catalog
        yield from ((table.name, "TABLE", table) for table in catalog.tables)
        yield from ((view.name, "VIEW", None) for view in catalog.views)

    @property
    def adbc_current_catalog(self) -> str:
        """There is one."""
        return CATALOG

    @property
    def adbc_current_db_schema(self) -> str:
        """There is one."""
        return SCHEMA

    def _unsupported(self, *_: object, **__: object) -> NoReturn:
        raise NotSupportedError("Murmur has no ADBC driver below, so this is not to be had")

    adbc_get_statistics = adbc_get_statistic_names = _unsupported
    adbc_connection = adbc_database = property(_unsupported)


class Cursor:
    """A murmur.Cursor in ADBC's words."""

    def __init__(self, connection: Connection, cursor: murmur.Cursor) -> None:
        self._connection = connection
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._cursor, name)  # fetchone, description, rowcount, ...

    @property
    def connection(self) -> Connection:
        """The connection that the cursor belongs to."""
        return self._connection

    def execute(self, operation: str, parameters: Any = None) -> Cursor:
        """Run one statement; parameters also as Arrow data of one row."""
        given = () if parameters is None else next(iter(_rows(parameters)), ())
        if isinstance(parameters, Sequence | dict):
            given = parameters
        self._cursor.execute(operation, given)
        return self

    def executemany(self, operation: str, seq_of_parameters: Any) -> None:
        """Run a statement that writes once for each row of parameters, also of Arrow data."""
        self._cursor.executemany(operation, _rows(seq_of_parameters))

    def executescript(self, operation: str) -> None:
        """Run statements with semicolons between them; rows are not kept."""
        self._connection.connection.executescript(operation)

    # Arrow -------------------------------------------------------------

    def fetch_arrow_table(self) -> pa.Table:
        """The rows that are left, as a table; intervals are durations, as in dataframes."""
        return with_durations(self._cursor.fetch_arrow_table())

    fetchallarrow = fetch_arrow_table
    fetch_arrow = fetch_arrow_table

    def fetch_record_batch(self) -> pa.RecordBatchReader:
        """The rows that are left, batch by batch."""
        return self.fetch_arrow_table().to_reader(BATCH_ROWS)

    def fetch_df(self) -> Any:
        """The rows that are left, as a pandas.DataFrame."""
        return to_pandas(self.fetch_arrow_table())

    def fetch_polars(self) -> Any:
        """The rows that are left, as a polars.DataFrame."""
        return to_polars(self.fetch_arrow_table())

    def adbc_cancel(self) -> None:
        """End the statement that runs, from any thread."""
        self._connection.adbc_cancel()

    def adbc_ingest(
        self,
        table_name: str,
        data: Any,
        mode: Mode = "create",
        *,
        catalog_name: str | None = None,
        db_schema_name: str | None = None,
        temporary: bool = False,
    ) -> int:
        """Write Arrow data into a table, which is made of it where the mode says so; how many rows.

        All of it, or nothing: what fails leaves no table behind either.
        """
        if temporary or catalog_name not in (None, CATALOG) or db_schema_name not in (None, SCHEMA):
            raise NotSupportedError(f"tables stand in {SCHEMA}, and none is temporary")
        if mode not in ("append", "create", "replace", "create_append"):
            raise ProgrammingError(f"there is no mode {mode!r}")
        table = _with_sql_types(_table(data))
        connection = self._connection.connection
        savepoint = connection.in_transaction and not connection.autocommit
        if savepoint:
            connection.execute("SAVEPOINT murmur_ingest")
        else:
            connection.execute("BEGIN")
        try:
            if mode == "replace":
                connection.execute(f"DROP TABLE IF EXISTS {_quoted(table_name)}")
            if mode != "append":
                exists = "IF NOT EXISTS " if mode == "create_append" else ""
                connection.execute(f"CREATE TABLE {exists}{_definition(table_name, table.schema)}")
            count = connection.insert_arrow(table_name, table)
        except BaseException:
            connection.execute("ROLLBACK TO murmur_ingest" if savepoint else "ROLLBACK")
            raise
        connection.execute("RELEASE murmur_ingest" if savepoint else "COMMIT")
        return count

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()


Connection.__module__ = Cursor.__module__ = MODULE


# Arrow data ------------------------------------------------------------


def _table(data: Any) -> pa.Table:
    if isinstance(data, pa.RecordBatch):
        return pa.table(data)
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    if not hasattr(data, "__arrow_c_stream__"):
        raise InvalidInput(f"{type(data).__name__} is no Arrow data")
    return pa.table(data)


def _rows(parameters: Any) -> Iterable[Any]:
    """Rows of parameters, from Python's or from Arrow's."""
    if hasattr(parameters, "__arrow_c_stream__") or isinstance(parameters, pa.RecordBatch):
        table = _table(parameters)
        return zip(*(column.to_pylist() for column in table.columns), strict=True)
    return parameters if isinstance(parameters, Iterable) else (parameters,)


def _with_sql_types(table: pa.Table) -> pa.Table:
    """The table with columns that have an SQL type."""
    for at, field in enumerate(table.schema):
        plain = _plain(field.type)
        if plain != field.type:
            table = table.set_column(at, field.with_type(plain), table.column(at).cast(plain))
    return table


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that SQL knows for one that it does not."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_time(kind):
        return pa.time64("us")
    if kind == pa.uint64():
        return pa.int64()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    return pa.string() if pa.types.is_null(kind) or pa.types.is_string_view(kind) else kind


def _definition(name: str, schema: pa.Schema) -> str:
    columns = []
    for field in schema:
        sql_type = sql_type_of(field)
        if sql_type is None:
            raise NotSupportedError(f"column {field.name}: no column holds {field.type}")
        columns.append(f"{_quoted(field.name)} {sql_type}")
    return f"{_quoted(name)} ({', '.join(columns)})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# What there is ---------------------------------------------------------

_COLUMN = pa.struct(
    [
        pa.field("column_name", pa.string(), nullable=False),
        ("ordinal_position", pa.int32()),
        ("remarks", pa.string()),
        ("xdbc_type_name", pa.string()),
        ("xdbc_is_nullable", pa.string()),
    ]
)
_CONSTRAINT = pa.struct(
    [
        ("constraint_name", pa.string()),
        pa.field("constraint_type", pa.string(), nullable=False),
        pa.field("constraint_column_names", pa.list_(pa.string()), nullable=False),
    ]
)
_TABLE = pa.struct(
    [
        pa.field("table_name", pa.string(), nullable=False),
        pa.field("table_type", pa.string(), nullable=False),
        ("table_columns", pa.list_(_COLUMN)),
        ("table_constraints", pa.list_(_CONSTRAINT)),
    ]
)
_SCHEMA = pa.struct([("db_schema_name", pa.string()), ("db_schema_tables", pa.list_(_TABLE))])
_OBJECTS = pa.schema([("catalog_name", pa.string()), ("catalog_db_schemas", pa.list_(_SCHEMA))])


def _described(
    name: str, kind: str, table: Table | None, depth: Depth, column_filter: str | None
) -> dict[str, Any]:
    shown: dict[str, Any] = {"table_name": name, "table_type": kind}
    if depth != "tables" and table is not None:
        shown["table_columns"] = [
            {
                "column_name": column.name,
                "ordinal_position": column.position + 1,
                "xdbc_type_name": str(column.type),
                "xdbc_is_nullable": "YES" if column.nullable else "NO",
            }
            for column in table.columns
            if _like(column.name, column_filter)
        ]
        keys = [(table.primary_key_name, "PRIMARY KEY", table.primary_key)]
        keys += [
            (each.name, "UNIQUE", each.column_ids) for each in table.indexes if each.constraint
        ]
        shown["table_constraints"] = [
            {
                "constraint_name": label or None,
                "constraint_type": word,
                "constraint_column_names": list(table.names_of(ids)),
            }
            for label, word, ids in keys
            if ids
        ]
    return shown


def _like(name: str, pattern: str | None) -> bool:
    """Whether the name fits a LIKE pattern; ADBC filters are such patterns."""
    if pattern is None:
        return True
    expression = re.escape(pattern).replace("%", ".*").replace("_", ".")
    return re.fullmatch(expression, name, re.DOTALL) is not None
