"""Running a statement that writes in several places: WITH ... RETURNING, and TRUNCATE a, b.

As in PostgreSQL, every part reads what stood when the statement began, so that none sees what
another has written but by what it returns; a part runs to its end whether or not its rows are read;
and foreign keys are verified when all of them are done.
"""

from __future__ import annotations

from murmur.catalog.constraints import StatementChecks
from murmur.kvcore.transaction import Transaction
from murmur.sql.bulk import load_values
from murmur.sql.checks import checks_of
from murmur.sql.dml import (
    Program,
    Written,
    compile_delete,
    compile_insert,
    compile_update,
)
from murmur.sql.execution import Context
from murmur.sql.found import compile_found
from murmur.sql.memory import weight
from murmur.sql.merge import compile_merge
from murmur.sql.plan import ColumnarQuery, Query, RowQuery
from murmur.sql.plan_writes import Delete, Insert, Merge, Several, Update


def compile_write(plan: Insert | Update | Delete | Merge) -> Program:
    """The function that carries out one part."""
    match plan:
        case Insert():
            return compile_insert(plan, load_values)
        case Update():
            return compile_update(plan)
        case Delete():
            return compile_delete(plan)
        case Merge():
            return compile_merge(plan)


def compile_several(plan: Several) -> Program:
    """The function that carries out all parts, and the statement that they stand before."""
    programs = [(part, compile_write(part.plan)) for part in plan.parts]
    main = _query(plan.main) if isinstance(plan.main, Query) else compile_write(plan.main)

    def run(tx: Transaction, context: Context, written: Written) -> None:
        context.standing = tx.standing()
        context.checks = checks = StatementChecks(tx, checks_of)
        try:
            for part, program in programs:
                own = Written()
                program(tx, context, own)
                context.given[part.relation] = part.columns, own.rows
                if plan.counted:
                    written.count += own.count
            main(tx, context, written)
            context.checks = None
            checks.verify()
        finally:
            context.standing = context.checks = None
            context.given.clear()

    return run


def _query(query: Query) -> Program:
    """The rows of a query at the end, as those of RETURNING."""
    if isinstance(query, ColumnarQuery):

        def ask(tx: Transaction, context: Context, written: Written) -> None:
            written.arrow = context.run_columnar(query, context.standing or tx)
            written.count = written.arrow.num_rows

        return ask
    assert isinstance(query, RowQuery)
    read = compile_found(query)

    def collect(tx: Transaction, context: Context, written: Written) -> None:
        for row in read(context.standing or tx, context):
            context.memory.keep(weight(row))
            written.rows.append(row)
        written.count = len(written.rows)

    return collect
