"""CREATE TABLE ... AS: a table made of a query's columns, and filled with its rows.

    CREATE TABLE busy AS SELECT author, count(*) AS notes FROM note GROUP BY author
      -> CREATE TABLE busy (author BIGINT, notes BIGINT), and the rows

A column has the type that the query gives it; one without a type (a bare NULL) needs a cast. The
table has no primary key and no constraints: ALTER TABLE adds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog import ddl
from murmur.catalog.catalog import Catalog
from murmur.catalog.rows import insert_row
from murmur.catalog.schema import ColumnDefinition, TableDefinition
from murmur.catalog.types import BIGINT, SqlType
from murmur.errors import BindError
from murmur.kvcore.transaction import Transaction
from murmur.sql.binder import Binding
from murmur.sql.binder_names import named_before_as, only, unsupported
from murmur.sql.bulk import load_rows
from murmur.sql.dml import Written
from murmur.sql.engines import plan_found
from murmur.sql.execution import Context
from murmur.sql.found import compile_found
from murmur.sql.parser import text_after_as
from murmur.sql.plan import RowQuery
from murmur.sql.plan_writes import CreateAs

Tree: TypeAlias = Any  # sqlglot's
Row: TypeAlias = tuple[Any, ...]


def bind_create_as(tree: Tree, binding: Binding) -> CreateAs:
    """The plan of a CREATE TABLE that has a query."""
    text = binding.text
    only(tree, text, "this", "kind", "exists", "expression", "properties")
    text_after_as(text)
    _, name, names = named_before_as(tree.this, text)
    filled = True
    properties = tree.args.get("properties")
    for each in properties.expressions if properties else ():
        if not isinstance(each, exp.WithDataProperty):
            raise unsupported("this property is not supported", each, text)
        filled = not each.args.get("no")
    query = plan_found(tree.expression, binding, "CREATE TABLE AS")
    return CreateAs(name, bool(tree.args.get("exists")), names, query, filled)


def create_as(plan: CreateAs, tx: Transaction, context: Context) -> int:
    """Make the table and fill it; how many rows it has. -1: there was one, and IF NOT EXISTS."""
    if plan.if_not_exists and _catalog(tx).table(plan.name) is not None:
        return -1
    names: Sequence[str]
    rows: Iterable[Row]
    query = plan.query
    if isinstance(query, RowQuery):
        names = [column.name for column in query.columns]
        types: Sequence[SqlType | None] = [column.type for column in query.columns]
        rows = list(context.memory.hold(compile_found(query)(tx, context))) if plan.filled else ()
    else:
        engine = context.engine_for(query)
        answer = context.run_columnar(query, tx)
        names, types = answer.column_names, engine.types(answer)
        rows = engine.rows(answer) if plan.filled else ()
    columns = _columns(plan, names, types)
    ddl.create_table(tx, TableDefinition(name=plan.name, columns=columns))
    table = _catalog(tx).table(plan.name)
    assert table is not None
    written = Written()
    if plan.filled and not load_rows(table, table.columns, rows, tx, context, written):
        ids = [column.id for column in table.columns]
        for row in rows:
            insert_row(tx, table, dict(zip(ids, row, strict=True)), row_id=context.uuid7().bytes)
            written.count += 1
    return written.count


def _columns(
    plan: CreateAs, names: Sequence[str], types: Sequence[SqlType | None]
) -> tuple[ColumnDefinition, ...]:
    if len(plan.names) > len(names):
        raise BindError(f"the query has {len(names)} columns, CREATE TABLE names {len(plan.names)}")
    named = [*plan.names, *names[len(plan.names) :]]
    columns: dict[str, ColumnDefinition] = {}
    for name, sql_type in zip(named, types, strict=True):
        if name in columns:
            raise BindError(f'the query has two columns "{name}": give one another name with AS')
        if sql_type is None:
            raise BindError(f'column "{name}" of the query has no type: cast it to one')
        if sql_type.name == "COUNTER":
            sql_type = BIGINT
        columns[name] = ColumnDefinition(name, sql_type)
    return tuple(columns.values())


def _catalog(tx: Transaction) -> Catalog:
    catalog = tx.state
    assert isinstance(catalog, Catalog)
    return catalog
