"""Writing rows: INSERT, UPDATE and DELETE, compiled once and run for each execution.

    program = compile_insert(plan, load_values)
    written = program(tx, context)      ->  Written(count=2, rows=[...] if RETURNING, last_key=17)

A program reads all that it needs before it writes, so that a statement does not meet its own rows.
Foreign keys are verified when it ends. If it raises, part of it may be written: the session goes
back to a savepoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from murmur.catalog.constraints import StatementChecks
from murmur.catalog.layout import layout_of
from murmur.catalog.rows import (
    Increment,
    conflicting_row,
    delete_row,
    get_row,
    insert_row,
    key_of,
    update_row,
)
from murmur.catalog.schema import Column, Index, Table
from murmur.catalog.types import SqlType
from murmur.errors import BindError, ConstraintViolation
from murmur.kvcore.transaction import Transaction
from murmur.kvcore.view import View
from murmur.sql.access import access_keys
from murmur.sql.assignment import Converter, converter, needs_converter
from murmur.sql.checks import checks_of
from murmur.sql.compile import compile_expression, compile_predicate, compile_projection
from murmur.sql.execution import Context
from murmur.sql.expressions import Call, Expr, Parameter
from murmur.sql.found import compile_found
from murmur.sql.memory import weight
from murmur.sql.plan import KeyLookup, Query, RowQuery, Rows
from murmur.sql.plan_writes import Assignment, Delete, Insert, OnConflict, Returning, Update

Row: TypeAlias = tuple[Any, ...]
Values: TypeAlias = dict[int, Any]  # by column id


@dataclass(slots=True)
class Written:
    """What a statement wrote: how many rows, what RETURNING says of them, and the last key."""

    count: int = 0
    rows: list[Row] = field(default_factory=list)
    last_key: int | None = None
    arrow: Any = None  # of a query behind parts that write, on the columnar engine

    def give(self, row: Row, context: Context) -> None:
        """Keep a row of RETURNING."""
        context.memory.keep(weight(row))
        self.rows.append(row)


MANY = 32  # rows of one statement that are worth being loaded together

Program: TypeAlias = Callable[[Transaction, Context, Written], None]


# INSERT ------------------------------------------------------------------------------------------


# Inserts rows together; False: nothing is done, and they have to go one by one.
Loader: TypeAlias = Callable[[Table, Sequence[Values], Transaction, Context, Written], bool]


def compile_insert(plan: Insert, load: Loader) -> Program:
    """The function that inserts the plan's rows, by `load` where that can be."""
    table = plan.table
    loads = plan.conflict is None and plan.returning is None
    read = _row_source(plan)
    insert = inserter(plan)
    single = plan.query is None and len(plan.rows) == 1
    needs_checks = bool(table.foreign_keys) or plan.conflict is not None
    on_conflict = None if plan.conflict is None else _conflict_handler(plan.conflict, table)
    returned = returned_by(plan.returning)
    key_id = integer_key(table)

    def run(tx: Transaction, context: Context, written: Written) -> None:
        rows = read(tx, context)
        together = loads and context.checks is None and len(rows) >= MANY
        if together and load(table, rows, tx, context, written):
            return
        statement = begin_checks(tx, context) if needs_checks else None
        touched: set[bytes] | None = None if single or on_conflict is None else set()
        for values in rows:
            key = None
            if on_conflict is not None:
                assert statement is not None
                standing, key = on_conflict(tx, context, values, statement, touched)
                if standing and key is None:
                    continue  # DO NOTHING, or the WHERE of DO UPDATE is not TRUE
            if key is None:
                key = insert(tx, context, values, statement)
                if key_id is not None:
                    written.last_key = values[key_id]
            if touched is not None:
                touched.add(key)
            written.count += 1
            if returned is not None:
                written.give(returned(row_at(tx, table, key), context), context)
        if statement is not None:
            end_checks(statement, context)

    return run


def begin_checks(tx: Transaction, context: Context) -> StatementChecks:
    """What to verify when the statement ends: of the whole one, where this is a part of it."""
    return context.checks or StatementChecks(tx, checks_of)


def end_checks(statement: StatementChecks, context: Context) -> None:
    """Verify it, unless the statement goes on."""
    if context.checks is None:
        statement.verify()


def integer_key(table: Table) -> int | None:
    """The column id of a primary key that is one integer: what lastrowid tells."""
    if len(table.primary_key) != 1:
        return None
    (column_id,) = table.primary_key
    return column_id if table.column_by_id(column_id).type.is_integer else None


RowSource: TypeAlias = Callable[[Transaction, Context], Sequence[Values]]


def _row_source(plan: Insert) -> RowSource:
    """The function that gives the values of each row, functions of DEFAULT applied."""
    fill = filler(plan)
    if plan.query is not None:
        read = compile_found(plan.query)
        names = [column.id for column in plan.columns]
        converters = _converters(plan)

        def from_query(tx: Transaction, context: Context) -> list[Values]:
            # Read to the end first: the query may read the table that is written to.
            found = list(context.memory.hold(read(context.standing or tx, context)))
            if found and len(found[0]) != len(names) and (plan.named or len(found[0]) > len(names)):
                raise BindError(f"the query has {len(found[0])} columns, the INSERT {len(names)}")
            rows = [dict(zip(names, row, strict=False)) for row in found]
            for column_id, convert in converters:
                for values in rows:
                    if column_id in values:
                        values[column_id] = convert(values[column_id])
            for values in rows:
                fill(values, context)
            return rows

        return from_query
    makers = [_row_maker(plan.columns, row) for row in plan.rows]

    def from_values(tx: Transaction, context: Context) -> list[Values]:
        rows = [make(context) for make in makers]
        for values in rows:
            fill(values, context)
        return rows

    return from_values


def _converters(plan: Insert) -> list[tuple[int, Converter]]:
    """What makes values of the query's columns values of the table's, where that may be needed."""
    query = plan.query
    found: Sequence[SqlType | None] = (
        [column.type for column in query.columns] if isinstance(query, RowQuery) else ()
    )
    return [
        (column.id, converter(column.type))
        for at, column in enumerate(plan.columns)
        if at >= len(found) or needs_converter(found[at], column.type)
    ]


def _row_maker(
    columns: Sequence[Column], exprs: Sequence[Expr | None]
) -> Callable[[Context], Values]:
    """The values of one row of VALUES; DEFAULT is left out."""
    given = [
        (column.id, expr) for column, expr in zip(columns, exprs, strict=False) if expr is not None
    ]
    names = [column_id for column_id, _ in given]
    positions = [expr.index for _, expr in given if isinstance(expr, Parameter)]
    if positions == list(range(len(given))):
        # INSERT ... VALUES (?, ?, ?): what bulk loads do.
        return lambda context: dict(zip(names, context.parameters, strict=False))
    values_of = compile_projection([expr for _, expr in given])
    return lambda context: dict(zip(names, values_of((), context), strict=True))


def filler(plan: Insert) -> Callable[[Values, Context], None]:
    """What puts generated keys and functions of DEFAULT where no value was given."""
    generated = None if plan.generated is None else plan.generated.id
    always = [(column.id, default_value(expr)) for column, expr in plan.defaults]

    def fill(values: Values, context: Context) -> None:
        if generated is not None and values.get(generated) is None:
            values[generated] = context.ids()
        for column_id, value_of in always:
            if column_id not in values:
                values[column_id] = value_of((), context)

    return fill


def default_value(expr: Expr) -> Callable[[Row, Context], Any]:
    """What evaluates a DEFAULT for each row."""
    if isinstance(expr, Call) and expr.function.name in ("uuid7", "uuidv7"):
        return lambda row, context: context.uuid7()  # rising, also within a millisecond
    return compile_expression(expr)


Inserter: TypeAlias = Callable[[Transaction, Context, Values, StatementChecks | None], bytes]


def inserter(plan: Insert) -> Inserter:
    """The function that inserts a row of these values."""
    table = plan.table
    checks = checks_of(table)
    if table.primary_key:
        return lambda tx, context, values, statement: insert_row(
            tx, table, values, checks=checks, statement=statement
        )
    return lambda tx, context, values, statement: insert_row(
        tx, table, values, row_id=context.uuid7().bytes, checks=checks, statement=statement
    )


# ON CONFLICT -------------------------------------------------------------------------------------

# Gives whether a row stands in the way, and its key if it was updated.
ConflictHandler: TypeAlias = Callable[
    [Transaction, Context, Values, StatementChecks, "set[bytes] | None"],
    tuple[bool, bytes | None],
]


def _conflict_handler(conflict: OnConflict, table: Table) -> ConflictHandler:
    targets: list[Index | None]
    if conflict.target == "any":
        targets = [None, *(index for index in table.indexes if index.unique)]
    else:
        targets = [conflict.target]
    if conflict.assignments is None:

        def nothing(
            tx: Transaction, context: Context, values: Values, *_: object
        ) -> tuple[bool, bytes | None]:
            return conflicting_row(tx, table, values, targets) is not None, None

        return nothing
    change = changer(conflict.assignments)
    holds = None if conflict.predicate is None else compile_predicate(conflict.predicate)
    checks = checks_of(table)
    layout = layout_of(table)

    def update(
        tx: Transaction,
        context: Context,
        values: Values,
        statement: StatementChecks,
        touched: set[bytes] | None,
    ) -> tuple[bool, bytes | None]:
        key = conflicting_row(tx, table, values, targets)
        if key is None:
            return False, None
        if touched is not None and key in touched:
            raise ConstraintViolation(
                "ON CONFLICT DO UPDATE cannot change one row twice in one statement"
            )
        fields, counters = layout.intake(values)
        row = row_at(tx, table, key) + layout.decode({**fields, **counters})
        if holds is not None and not holds(row, context):
            return True, None
        changes = change(row, context)
        return True, update_row(tx, table, key, changes, checks=checks, statement=statement)

    return update


# UPDATE, DELETE ----------------------------------------------------------------------------------


def compile_update(plan: Update) -> Program:
    """The function that updates the rows that the plan finds."""
    table = plan.table
    read = target_source(plan.source, table)
    change = changer(plan.assignments)
    checks = checks_of(table)
    returned = returned_by(plan.returning)
    others = _others(plan.returning)

    def run(tx: Transaction, context: Context, written: Written) -> None:
        statement = begin_checks(tx, context)
        for key, row in read(context.standing or tx, context):
            changes = change(row, context)
            new_key = update_row(tx, table, key, changes, checks=checks, statement=statement)
            if new_key is None:
                continue
            written.count += 1
            if returned is not None:
                written.give(returned(row_at(tx, table, new_key) + row[others], context), context)
        end_checks(statement, context)

    return run


def compile_delete(plan: Delete) -> Program:
    """The function that deletes the rows that the plan finds."""
    table = plan.table
    read = target_source(plan.source, table)
    returned = returned_by(plan.returning)
    others = _others(plan.returning)

    def run(tx: Transaction, context: Context, written: Written) -> None:
        statement = begin_checks(tx, context)
        for key, found in read(context.standing or tx, context):
            row = None if returned is None else get_row(tx, table, key)
            if not delete_row(tx, table, key, statement=statement):
                continue  # a cascade from another row has taken it
            written.count += 1
            if returned is not None and row is not None:
                written.give(returned(row + found[others], context), context)
        end_checks(statement, context)

    return run


TargetSource: TypeAlias = Callable[[View, Context], Sequence[tuple[bytes, Row]]]


def target_source(source: Rows | Query, table: Table) -> TargetSource:
    """Row keys and what the assignments read, all of them before the first is written."""
    if not isinstance(source, Query):
        read = access_keys(source)
        if isinstance(source, KeyLookup):
            return lambda tx, context: list(read(tx, context))

        def pairs(tx: View, context: Context) -> list[tuple[bytes, Row]]:
            context.memory.begin()
            return list(context.memory.hold(read(tx, context)))

        return pairs
    rows_of = compile_found(source)
    width = len(table.primary_key)

    def targets(tx: View, context: Context) -> list[tuple[bytes, Row]]:
        found: dict[bytes, Row] = {}  # a join may find a row several times
        for row in context.memory.hold(rows_of(tx, context)):
            if width:
                found.setdefault(key_of(table, row[:width]), row[width:])
            else:
                found.setdefault(row[0], row[1:])
        return list(found.items())

    return targets


def changer(
    assignments: Sequence[Assignment],
) -> Callable[[Row, Context], Mapping[int, Any]]:
    """The function that gives the changes of one row."""
    names = [assignment.column.id for assignment in assignments]
    values_of = compile_projection([assignment.value for assignment in assignments])
    increments = [each.column.id for each in assignments if each.increment]

    def change(row: Row, context: Context) -> Mapping[int, Any]:
        changes = dict(zip(names, values_of(row, context), strict=True))
        for column_id in increments:
            # n + NULL is NULL, which a COUNTER reads as 0: a reset, as it stands in the statement.
            if changes[column_id] is not None:
                changes[column_id] = Increment(changes[column_id])
        return changes

    return change


# Shared ------------------------------------------------------------------------------------------


def returned_by(returning: Returning | None) -> Callable[[Row, Context], Row] | None:
    """The function that makes a row of RETURNING, if there is one."""
    return None if returning is None else compile_projection(returning.exprs)


def _others(returning: Returning | None) -> slice:
    """Where the values of other relations stand in a row of the statement's query: at its end."""
    count = 0 if returning is None else returning.others
    return slice(-count, None) if count else slice(0)


def row_at(tx: Transaction, table: Table, key: bytes) -> Row:
    """The row that has just been written under this key."""
    row = get_row(tx, table, key)
    assert row is not None
    return row
