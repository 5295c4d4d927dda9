"""INSERT of many rows, encoded together: parameters of executemany, Arrow, those of one statement.

    load = compile_load(plan, parameters, ...)       None: a row at a time (dml.py)
    loading = load.begin(tx, context)                None: this transaction needs that too
    loading.add_rows([(1, "a"), (2, "b")])           executemany
    loading.add_batch(batch)                         Arrow columns: insert_arrow, COPY
    loading.finish(written)

The kernel encodes the rows; the catalog checks them as a whole (catalog/bulk.py). What one row at a
time would say of the first wrong value, key or constraint is said here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgpack

from murmur.catalog.bulk import (
    columns_of,
    constant_source,
    is_loadable,
    load_blocks,
    load_plan,
    value_source,
)
from murmur.catalog.constraints import StatementChecks
from murmur.catalog.schema import Column, Table
from murmur.errors import DataError, InvalidInput
from murmur.kvcore import Atom
from murmur.kvcore.kernel.block_plan import (
    ATOMS,
    CONSTANT,
    BadValue,
    BlockPlan,
    ColumnSource,
    RowSource,
)
from murmur.kvcore.kernel.blocks import RowBlock, RowEncoder
from murmur.kvcore.loads import insertion_of
from murmur.kvcore.record import MAX_RECORD_BYTES
from murmur.kvcore.transaction import Transaction
from murmur.sql.checks import checks_of
from murmur.sql.compile import compile_expression
from murmur.sql.dml import Written, default_value, integer_key
from murmur.sql.execution import Context
from murmur.sql.expressions import Expr, Literal, Parameter
from murmur.sql.files import Batch
from murmur.sql.parameters import Parameters
from murmur.sql.plan_writes import Insert

PIECE_ROWS = 512  # Python rows encoded before the statement asks whether it is to stop
PART_BYTES = 32 << 20  # of a load that may be several transactions: what each of them takes
BLOCK_BYTES = 4 << 20  # of rows that are encoded, sorted and checked together
ATOMS_WIDTH = 4

Given = Sequence[Any] | Mapping[str, Any] | None


class Load:
    """An INSERT whose rows are encoded together; compiled once, shared by all executions."""

    def __init__(self, plan: Insert, parameters: Parameters) -> None:
        self.table = plan.table
        self.parameters = parameters
        self.columns = columns_of(plan.table)
        self.key = _position(self.columns, integer_key(plan.table))
        self._generated = plan.generated
        exprs = zip(plan.columns, plan.rows[0], strict=False)
        self._given: dict[int, Expr] = {
            column.id: expr for column, expr in exprs if expr is not None
        }
        self._defaults = {column.id: default_value(expr) for column, expr in plan.defaults}
        self.varies = bool(self._defaults.keys() - self._given.keys())  # with the execution

    def begin(self, tx: Transaction, context: Context) -> Loading | None:
        """One execution; None if rows have to go one by one in this transaction."""
        statement = StatementChecks(tx, checks_of)
        plan = load_plan(statement, self.table)
        return None if plan is None else Loading(self, plan, statement, context)

    def sources(self, context: Context) -> list[RowSource]:
        """Where each column's values come from, for one execution."""
        return [self._source(column, context) for column in self.columns]

    def _source(self, column: Column, context: Context) -> RowSource:
        table, expr = self.table, self._given.get(column.id)
        fill: Callable[[], Any] | None = None
        if self._generated is not None and self._generated.id == column.id:
            fill = context.ids
        if isinstance(expr, Parameter):
            return value_source(table, column, expr.index, fill)
        if expr is not None:
            value_of = compile_expression(expr)
            return value_source(table, column, -1, lambda: value_of((), context))
        default = self._defaults.get(column.id)
        if default is not None:
            return value_source(table, column, -1, lambda: default((), context))
        if fill is not None:
            return value_source(table, column, -1, fill)
        return constant_source(table, column, column.left_out)


class Loading:
    """One execution: rows are added, and loaded into the transaction by `finish`."""

    def __init__(
        self, load: Load, plan: BlockPlan, statement: StatementChecks, context: Context
    ) -> None:
        self._load = load
        self._plan = plan
        self._statement = statement
        self._context = context
        self._sources = load.sources(context)
        self._encoder = RowEncoder(plan)
        self._encoder.bind(self._sources, len(load.parameters.names))
        self._blocks: list[RowBlock] = []  # of the rows before those in the encoder
        self._count = self._bytes = 0  # of these blocks
        self._last_body = b""

    @property
    def size(self) -> int:
        """What the rows take in the record, in bytes."""
        return self._bytes + self._encoder.size

    def add_rows(self, rows: Iterable[Given]) -> None:
        """Add rows of parameters."""
        encoder, arrange = self._encoder, self._load.parameters.arrange
        named = self._load.parameters.style == ":"
        make_id = None if self._load.table.primary_key else self._make_id
        source = iter(rows)
        while piece := list(islice(source, PIECE_ROWS)):
            self._context.halt.check()
            encoder.add_rows([arrange(row) for row in piece] if named else piece, arrange, make_id)
            self._added("commit it in parts")

    def add_batch(self, batch: Batch) -> None:
        """Add a batch: what the kernel cannot take as it is goes through Python's checks."""
        load = self._load
        row_ids = b""
        if not load.table.primary_key:
            row_ids = self._context.row_ids(batch.rows)
        columns = []
        for column, source in zip(load.columns, self._sources, strict=True):
            given = batch.source(source.position, column) if source.position >= 0 else None
            if given is None:
                given = _converted(source, batch)
            elif column.type.is_float and column.id in load.table.primary_key:
                given = given._replace(finite=True)
            columns.append(given)
        first = 0
        while first < batch.rows:
            self._context.halt.check()
            try:
                left = batch.rows - first
                self._encoder.add_columns(left, columns, row_ids[16 * first :], first)
                break
            except BadValue as bad:
                source = self._sources[bad.column]
                if columns[bad.column].form in (ATOMS, CONSTANT):
                    name = f"{load.table.name}.{load.columns[bad.column].name}"
                    row = batch.first + bad.row + 1
                    raise DataError(f"row {row}: column {name}: {bad.reason}") from None
                # Python says what is wrong, or takes it nevertheless.
                columns[bad.column] = _converted(source, batch)
                first = bad.row
        self._added("pass atomic=False (COPY: ATOMIC false) to load them in several")

    def finish(self, written: Written) -> None:
        """Check the rows as a whole, and load them into the transaction."""
        self._close_block()
        if not self._count:
            return
        load, table = self._load, self._load.table
        load_blocks(
            self._statement.tx,
            table,
            self._plan,
            self._blocks,
            checks=checks_of(table),
            statement=self._statement,
        )
        written.count += self._count
        if load.key is not None:
            last = insertion_of(self._last_body).fields
            written.last_key = last[load.columns[load.key].id]  # type: ignore[assignment]

    def _make_id(self) -> bytes:
        return self._context.uuid7().bytes

    def _added(self, advice: str) -> None:
        if self.size > MAX_RECORD_BYTES:
            raise InvalidInput(
                f"{self._count + self._encoder.count:,} rows take more than the "
                f"{MAX_RECORD_BYTES:,} bytes that one transaction holds; {advice}"
            )
        if self._encoder.size >= BLOCK_BYTES:
            self._close_block()

    def _close_block(self) -> None:
        encoder = self._encoder
        if encoder.count:
            self._last_body = encoder.last_body()
            self._count += encoder.count
            self._bytes += encoder.size
            self._blocks.append(encoder.finish())


def compile_load(plan: Insert, parameters: Parameters, as_given: frozenset[int]) -> Load | None:
    """The program for many rows of parameters; None if the statement is of another form."""
    if plan.query is not None or len(plan.rows) != 1:
        return None
    if plan.conflict is not None or plan.returning is not None or not is_loadable(plan.table):
        return None
    for expr in plan.rows[0]:
        if isinstance(expr, Parameter):
            if expr.index not in as_given:
                return None
        elif expr is not None and not isinstance(expr, Literal):
            return None
    return Load(plan, parameters)


def load_rows(
    table: Table,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Any]],
    tx: Transaction,
    context: Context,
    written: Written,
) -> bool:
    """Insert rows of values for these columns together; False: they have to go one by one."""
    if not is_loadable(table):
        return False
    values = tuple(Parameter(at, None) for at in range(len(columns)))
    plan = Insert(table, tuple(columns), (values,), None, (), None, None, None)
    load = Load(plan, Parameters("?", tuple(range(len(columns)))))
    loading = load.begin(tx, context)
    if loading is None:
        return False
    loading.add_rows(rows)
    loading.finish(written)
    return True


def load_values(
    table: Table,
    rows: Sequence[Mapping[int, Any]],
    tx: Transaction,
    context: Context,
    written: Written,
) -> bool:
    """The same, of values by column id: all rows have to name the same columns."""
    given = rows[0].keys()
    if not given or any(values.keys() != given for values in rows):
        return False
    names = list(given)
    columns = [table.column_by_id(name) for name in names]
    tuples = ([values[name] for name in names] for values in rows)
    return load_rows(table, columns, tuples, tx, context, written)


def insertion_text(table: str, columns: Sequence[str]) -> str:
    """The INSERT of rows whose values are parameters."""
    names = ", ".join(map(quoted, columns))
    return f"INSERT INTO {quoted(table)} ({names}) VALUES ({', '.join('?' * len(columns))})"


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def rows_of(batch: Batch, width: int) -> Iterator[tuple[Any, ...]]:
    """A batch as rows of Python values."""
    return zip(*(batch.values(at) for at in range(width)), strict=True)


def packed_atoms(values: Sequence[Any], source: RowSource, first: int) -> ColumnSource:
    """Values as atoms in msgpack, each checked by the column; errors tell which row it is."""
    pack = msgpack.Packer(autoreset=True).pack
    convert, nullable = source.convert, source.nullable
    packed: list[bytes] = []
    for row, value in enumerate(values):
        try:
            atom: Atom = None if value is None and nullable else convert(value)
        except Exception as error:
            raise _with_row(error, first + row + 1) from None
        packed.append(pack(atom))
    offsets = bytearray()
    end = 0
    offsets += end.to_bytes(ATOMS_WIDTH, "little")
    for each in packed:
        end += len(each)
        if end >= 1 << 31:
            raise InvalidInput("a batch of more than 2 GiB: pass it in smaller ones")
        offsets += end.to_bytes(ATOMS_WIDTH, "little")
    return ColumnSource(ATOMS, offsets=bytes(offsets), values=b"".join(packed))


def _with_row(error: Exception, row: int) -> Exception:
    """The error, telling of which row it speaks."""
    try:
        return type(error)(f"row {row}: {error}")
    except TypeError:
        return error


def _converted(source: RowSource, batch: Batch) -> ColumnSource:
    """A column of atoms that Python makes of the values, or one that is the same in all rows."""
    if source.constant is not None:
        return ColumnSource(CONSTANT, values=source.constant)
    values = batch.values(source.position) if source.position >= 0 else [None] * batch.rows
    return packed_atoms(values, source, batch.first)


def _position(columns: Sequence[Column], column_id: int | None) -> int | None:
    return next((at for at, column in enumerate(columns) if column.id == column_id), None)
