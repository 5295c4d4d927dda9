"""Running MERGE: the rows that its query gives, one after the other.

    query:  (17, 1, 5)      ->  update the row 17 as WHEN number 1 says, n = 5
            (NULL, 2, 9)    ->  insert a row as number 2 says

The query is read to its end before the first row is written. A target row may be changed once: two
source rows that meet it and both change it are an error, because neither could be said to be last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from murmur.catalog.constraints import StatementChecks
from murmur.catalog.rows import delete_row, get_row, key_of, update_row
from murmur.catalog.schema import Table
from murmur.errors import ConstraintViolation
from murmur.kvcore.transaction import Transaction
from murmur.sql.checks import checks_of
from murmur.sql.compile import compile_projection
from murmur.sql.dml import (
    Program,
    Row,
    Written,
    begin_checks,
    changer,
    end_checks,
    filler,
    inserter,
    returned_by,
    row_at,
)
from murmur.sql.execution import Context
from murmur.sql.found import compile_found
from murmur.sql.plan_writes import Merge, MergeAction, MergeDelete, MergeInsert, MergeUpdate

# Writes what a row of the query asks for; the target's row to return, None if nothing was written.
Act: TypeAlias = Callable[[Transaction, Context, Row, bytes, StatementChecks], Row | None]


def compile_merge(plan: Merge) -> Program:
    """The function that merges the source into the plan's table."""
    table = plan.table
    width = max(1, len(table.primary_key))
    acts = [None if action is None else _act(action, table) for action in plan.actions]
    names = [_name(action) for action in plan.actions]
    inserts = [isinstance(action, MergeInsert) for action in plan.actions]
    returned = returned_by(plan.returning)
    source_at = plan.source_at
    rows_of = compile_found(plan.query)

    def run(tx: Transaction, context: Context, written: Written) -> None:
        statement = begin_checks(tx, context)
        changed: set[bytes] = set()
        for row in list(context.memory.hold(rows_of(context.standing or tx, context))):
            number: int | None = row[width]
            act = None if number is None else acts[number]
            if number is None or act is None:
                continue
            key = b""
            if not inserts[number]:
                key = key_of(table, row[:width]) if table.primary_key else row[0]
                if key in changed:
                    raise ConstraintViolation(
                        f'MERGE cannot change a row of "{table.name}" twice: several rows of the '
                        "source meet it; let the source have one row for each"
                    )
                changed.add(key)
            target = act(tx, context, row, key, statement)
            if target is None:
                continue  # a cascade from another row has taken it
            written.count += 1
            if returned is not None:
                written.give(returned((*row[source_at:], *target, names[number]), context), context)
        end_checks(statement, context)

    return run


def _name(action: MergeAction | None) -> str:
    """What merge_action() calls it."""
    match action:
        case MergeInsert():
            return "INSERT"
        case MergeUpdate():
            return "UPDATE"
        case MergeDelete():
            return "DELETE"
    return ""


def _act(action: MergeAction, table: Table) -> Act:
    match action:
        case MergeInsert():
            return _insert(action, table)
        case MergeUpdate():
            return _update(action, table)
        case MergeDelete():
            return _delete(table)


def _insert(action: MergeInsert, table: Table) -> Act:
    plan = action.insert
    (exprs,) = plan.rows
    given = [(c.id, e) for c, e in zip(plan.columns, exprs, strict=True) if e is not None]
    names = [column_id for column_id, _ in given]
    values_of = compile_projection([expr for _, expr in given])
    fill, write = filler(plan), inserter(plan)

    def insert(
        tx: Transaction, context: Context, row: Row, key: bytes, statement: StatementChecks
    ) -> Row | None:
        values: dict[int, Any] = dict(zip(names, values_of(row, context), strict=True))
        fill(values, context)
        return row_at(tx, table, write(tx, context, values, statement))

    return insert


def _update(action: MergeUpdate, table: Table) -> Act:
    change = changer(action.assignments)
    checks = checks_of(table)

    def update(
        tx: Transaction, context: Context, row: Row, key: bytes, statement: StatementChecks
    ) -> Row | None:
        changes = change(row, context)
        new_key = update_row(tx, table, key, changes, checks=checks, statement=statement)
        return None if new_key is None else row_at(tx, table, new_key)

    return update


def _delete(table: Table) -> Act:
    def delete(
        tx: Transaction, context: Context, row: Row, key: bytes, statement: StatementChecks
    ) -> Row | None:
        before = get_row(tx, table, key)
        return before if delete_row(tx, table, key, statement=statement) else None

    return delete
