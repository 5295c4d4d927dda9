"""Binding INSERT, UPDATE and DELETE to plans.

    INSERT INTO page (url, hits) VALUES (?, 1) ON CONFLICT (url) DO UPDATE SET hits = hits + 1

      -> Insert(page, (url, hits), ((Parameter(0), 1),), conflict=OnConflict(primary key,
           (Assignment(hits, 1, increment=True),)))

`SET n = n + x` and `SET n = n - x` of a COUNTER are increments; any other assignment resets it.

An UPDATE or DELETE whose condition or values need a subquery, or another relation's help, finds its
rows by a query (binder_targets.py). They are written one by one either way, so that constraints and
merging are the same on every road.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from typing import Literal as OneOf

from sqlglot import exp

from murmur.catalog.atoms import from_atom
from murmur.catalog.schema import Column as TableColumn
from murmur.catalog.schema import Index, Table
from murmur.errors import DatabaseError, ParseError, TypeMismatch, Unsupported
from murmur.sql.assignment import converted
from murmur.sql.binder import Binding, Scope, bind_items, row_columns
from murmur.sql.binder_expressions import assigned, bind_assignment, bind_condition, bind_expression
from murmur.sql.binder_names import alias_of, fold, only, unbound, unsupported
from murmur.sql.binder_targets import (
    bind_returning,
    qualifier_of,
    refuse_others,
    target_rows,
    tree_amount,
)
from murmur.sql.engines import plan_found
from murmur.sql.expressions import (
    Arithmetic,
    Column,
    Expr,
    Literal,
    NeedsColumnar,
    Negate,
    Parameter,
    columns_of,
)
from murmur.sql.folding import fold as fold_constants
from murmur.sql.generate import GENERATED_ID, default_expression
from murmur.sql.index_matching import conditions_of, key_fields, serves, with_key_fields
from murmur.sql.operators import plain
from murmur.sql.plan import Query, RowQuery, Rows
from murmur.sql.plan_writes import Assignment, Delete, Insert, OnConflict, Returning, Update
from murmur.sql.rules.access_path import plan_access

Tree: TypeAlias = Any  # sqlglot's


# INSERT ------------------------------------------------------------------------------------------


def bind_insert(tree: Tree, binding: Binding) -> Insert:
    """The plan of an INSERT."""
    text = binding.text
    parts = ("this", "expression", "conflict", "returning", "default", "with_", "alternative")
    only(tree, text, *parts)
    target = tree.this
    named = target.expressions if isinstance(target, exp.Schema) else None
    node = target.this if isinstance(target, exp.Schema) else target
    table = binding.table(node)
    name = alias_of(node, text) or table.name
    columns = target_columns(table, named, binding)
    rows: tuple[tuple[Expr | None, ...], ...] = ()
    query: Query | None = None
    if tree.args.get("default"):
        rows, columns = ((),), ()
    else:
        rows, query = _source(tree, table, columns, binding)
        width = len(rows[0]) if rows else _width(query)
        if width is not None and width < len(columns):
            if named is not None:
                message = f"{width} values for {len(columns)} columns"
                raise unbound(message, named[width], text)
            columns = columns[:width]  # the last ones take their defaults
    conflict = tree.args.get("conflict")
    returning = tree.args.get("returning")
    generated, defaults = insert_defaults(table)
    return Insert(
        table=table,
        columns=columns,
        rows=rows,
        query=query,
        defaults=defaults,
        generated=generated,
        conflict=_alternative(tree, table, binding)
        if conflict is None
        else _conflict(conflict, table, name, binding),
        returning=_returning(returning, table, name, binding),
        named=named is not None,
    )


def target_columns(
    table: Table, named: Sequence[Tree] | None, binding: Binding
) -> tuple[TableColumn, ...]:
    """The columns that an INSERT writes: those that it names, or all."""
    if named is None:
        return table.columns
    columns = []
    for identifier in named:
        if not isinstance(identifier, exp.Identifier):
            raise unsupported("a column name is expected here", identifier, binding.text)
        column = binding.column(table, identifier)
        if column in columns:
            raise unbound(f'column "{column.name}" stands twice', identifier, binding.text)
        columns.append(column)
    return tuple(columns)


def _source(
    tree: Tree, table: Table, columns: tuple[TableColumn, ...], binding: Binding
) -> tuple[tuple[tuple[Expr | None, ...], ...], Query | None]:
    """The rows of VALUES, or the query."""
    source = tree.expression
    with_ = tree.args.get("with_")
    if isinstance(source, exp.Values) and with_ is None and _is_plain(source):
        try:
            rows = tuple(_row(row, table, columns, binding) for row in source.expressions)
            if len({len(row) for row in rows}) > 1:
                raise unbound("VALUES rows differ in length", source, binding.text)
            return rows, None
        except NeedsColumnar:
            binding.types[:] = [None] * len(binding.types)
    if not isinstance(source, exp.Query | exp.Values):
        raise unsupported("INSERT takes VALUES or a query", tree, binding.text)
    if with_ is not None:
        if source.args.get("with_"):
            raise unsupported("WITH stands twice", source, binding.text)
        source = source.copy()
        source.set("with_", with_.copy())
    source = source if with_ is not None else source.copy()
    _read_literals(source, columns, binding)
    query = plan_found(source, binding, "INSERT")
    width = _width(query)
    for column in columns[: len(columns) if width is None else width]:
        if column.generated is not None:
            raise _generated(column, source, binding)
    if width is not None and width > len(columns):
        message = f"the query has {width} columns, the INSERT {len(columns)}"
        raise unbound(message, source, binding.text)
    return (), query


def _read_literals(source: Tree, columns: Sequence[TableColumn], binding: Binding) -> None:
    """Give literals and parameters of a query's rows the types of their columns, as VALUES does."""
    if isinstance(source, exp.Select):
        rows = [source.expressions]
    elif isinstance(source, exp.Values):
        rows = [r.expressions if isinstance(r, exp.Tuple) else [r] for r in source.expressions]
    else:
        return
    for row in rows:
        for column, item in zip(columns, row, strict=False):
            value, wanted = item.unalias(), plain(column.type)
            if value.find(exp.Star) is not None and isinstance(value, exp.Star | exp.Column):
                break  # what follows belongs to other columns
            if isinstance(value, exp.Placeholder):
                position = int(value.this)
                binding.types[position] = binding.types[position] or wanted
            elif value.is_string and not (wanted.is_text or wanted.name in ("JSON", "INTERVAL")):
                to = exp.DataType.build(str(wanted), "postgres")
                cast = exp.Cast(this=value.copy(), to=to)
                cast.meta.update(value.meta)
                value.replace(cast)


def _is_plain(values: Tree) -> bool:
    return not any(values.args.get(key) for key in ("order", "limit", "offset", "alias"))


def _width(query: Query | None) -> int | None:
    return len(query.columns) if isinstance(query, RowQuery) else None


def _row(
    row: Tree, table: Table, columns: Sequence[TableColumn], binding: Binding
) -> tuple[Expr | None, ...]:
    values = row.expressions if isinstance(row, exp.Tuple) else [row]
    if not values:
        raise unbound("a row without values is written DEFAULT VALUES", row, binding.text)
    if len(values) > len(columns):
        message = f"{len(values)} values for {len(columns)} columns"
        raise unbound(message, values[len(columns)], binding.text)
    scope = Scope(binding)
    exprs: list[Expr | None] = []
    for column, value in zip(columns, values, strict=False):
        if is_default(value):
            exprs.append(None)
        elif column.generated is not None:
            raise _generated(column, value, binding)
        elif isinstance(value, exp.Placeholder):
            # The catalog checks what goes into a column; to check it here as well would cost.
            exprs.append(Parameter(int(value.this), None))
        else:
            exprs.append(bind_assignment(value, scope, column.type, name=_qualified(table, column)))
    return tuple(exprs)


def is_default(node: Tree) -> bool:
    """Whether a value is the word DEFAULT."""
    if isinstance(node, exp.Column) and node.args.get("table") is None:
        node = node.this
    if isinstance(node, exp.Identifier):
        return not node.args.get("quoted") and node.name.upper() == "DEFAULT"
    return isinstance(node, exp.Var) and node.name.upper() == "DEFAULT"


def _generated(column: TableColumn, node: Tree, binding: Binding) -> DatabaseError:
    message = f'column "{column.name}" is generated: it takes no value but DEFAULT'
    return unbound(message, node, binding.text)


def _qualified(table: Table, column: TableColumn) -> str:
    return f"{table.name}.{column.name}"


def insert_defaults(
    table: Table,
) -> tuple[TableColumn | None, tuple[tuple[TableColumn, Expr], ...]]:
    """The key that fills itself, and the other columns whose default is a function."""
    generated: TableColumn | None = None
    defaults = []
    for column in table.columns:
        if column.default is None or column.default.kind != "function":
            continue
        if column.default.text == GENERATED_ID:
            generated = column
        else:
            defaults.append((column, default_expression(column)))
    return generated, tuple(defaults)


# ON CONFLICT -------------------------------------------------------------------------------------


def _conflict(node: Tree, table: Table, name: str, binding: Binding) -> OnConflict:
    text = binding.text
    if node.args.get("duplicate"):
        raise unsupported("ON DUPLICATE KEY is not PostgreSQL's; use ON CONFLICT", node, text)
    only(
        node,
        text,
        "action",
        "conflict_keys",
        "constraint",
        "expressions",
        "index_predicate",
        "where",
    )
    target = _conflict_target(node, table, binding)
    if node.args.get("action") is None:
        raise unbound("ON CONFLICT needs DO NOTHING or DO UPDATE", node, text)
    action = node.args["action"].name.upper()
    if action == "DO NOTHING":
        return OnConflict(target)
    if action != "DO UPDATE":
        raise unsupported(f"ON CONFLICT {action} is not supported", node, text)
    if target == "any":
        raise unbound("ON CONFLICT DO UPDATE needs the columns of the conflict", node, text)
    standing = row_columns(table)
    excluded = row_columns(table, len(standing))
    scope = Scope(binding, (name, standing), ("excluded", excluded))
    where = node.args.get("where")
    try:
        return OnConflict(
            target,
            _assignments(node.expressions, table, scope, binding),
            None if where is None else bind_condition(where.this, scope),
        )
    except NeedsColumnar as reason:
        raise unsupported(f"{reason.reason} cannot stand in ON CONFLICT", node, text) from None


def _alternative(tree: Tree, table: Table, binding: Binding) -> OnConflict | None:
    """SQLite's INSERT OR IGNORE, and OR REPLACE, which is about the primary key."""
    word = str(tree.args.get("alternative") or "ABORT").upper()
    match word:
        case "ABORT":
            return None
        case "IGNORE":
            return OnConflict("any")
        case "REPLACE" if not table.primary_key:
            return None
        case "REPLACE":
            width = len(table.columns)
            assignments = tuple(
                Assignment(column, Column(width + column.position, column.name, plain(column.type)))
                for column in table.columns
                if column.id not in table.primary_key and column.generated is None
            )
            return OnConflict(None, assignments)
    raise unsupported(f"INSERT OR {word} is not supported", tree, binding.text)


def _conflict_target(node: Tree, table: Table, binding: Binding) -> Index | OneOf["any"] | None:
    text = binding.text
    constraint = node.args.get("constraint")
    if constraint is not None:
        name = fold(constraint)
        if name == table.primary_key_name and table.primary_key:
            return None
        index = table.index(name)
        if index is None or not index.unique:
            message = f'"{table.name}" has no unique constraint "{name}"'
            raise unbound(message, constraint, binding.text)
        return index
    keys = node.args.get("conflict_keys")
    if not keys:
        return "any"
    scope = Scope(binding, (table.name, row_columns(table)))
    try:
        exprs = [bind_expression(k.this if isinstance(k, exp.Ordered) else k, scope) for k in keys]
        where = node.args.get("index_predicate")
        asked = () if where is None else conditions_of(bind_condition(where.this, scope))
    except NeedsColumnar as reason:
        raise unsupported(f"{reason.reason} cannot stand in ON CONFLICT", node, text) from None
    fields = key_fields(table)
    found = [with_key_fields(fields, expr) for expr in exprs]
    positions = {field.index for field in found if isinstance(field, Column)}
    if len(positions) == len(found) > 0:
        key = {table.column_by_id(column_id).position for column_id in table.primary_key}
        if positions == key:
            return None
        for index in table.indexes:
            over = {position for position, _ in fields.of_index[index.id]}
            if index.unique and over == positions and serves(fields, index, tuple(asked)):
                return index
    message = "there is no unique constraint on the columns of ON CONFLICT"
    raise unbound(message, keys[0], binding.text)


# UPDATE, DELETE ----------------------------------------------------------------------------------


def bind_update(tree: Tree, binding: Binding) -> Update:
    """The plan of an UPDATE."""
    only(tree, binding.text, "this", "expressions", "from_", "where", "returning", "with_")
    table = binding.table(tree.this)
    name = alias_of(tree.this, binding.text) or table.name
    scope = Scope(binding, (name, row_columns(table)))
    where = tree.args.get("where")
    returning, others = _returned(tree, table, name, binding)
    types = list(binding.types)
    try:
        refuse_others(tree)
        predicate = None if where is None else bind_condition(where.this, scope)
        assignments = _assignments(tree.expressions, table, scope, binding)
        source: Rows | Query = plan_access(table, predicate, facts=binding.facts)[0]
    except NeedsColumnar as reason:
        binding.types[:] = types
        source, assignments = _found_update(tree, table, binding, others, reason.reason)
    return Update(table, source, assignments, returning)


def bind_delete(tree: Tree, binding: Binding) -> Delete:
    """The plan of a DELETE."""
    only(tree, binding.text, "this", "using", "cluster", "where", "returning", "with_")
    table = binding.table(tree.this)
    name = alias_of(tree.this, binding.text) or table.name
    where = tree.args.get("where")
    returning, others = _returned(tree, table, name, binding)
    types = list(binding.types)
    try:
        refuse_others(tree)
        scope = Scope(binding, (name, row_columns(table)))
        predicate = None if where is None else bind_condition(where.this, scope)
        source: Rows | Query = plan_access(table, predicate, facts=binding.facts)[0]
    except NeedsColumnar as reason:
        binding.types[:] = types
        source = target_rows(tree, table, others, binding, reason.reason)
    return Delete(table, source, returning)


def set_targets(
    nodes: Sequence[Tree], table: Table, binding: Binding
) -> list[tuple[TableColumn, Tree]]:
    """Columns and values of SET; (a, b) = (1, 2) is two of them."""
    targets: list[tuple[TableColumn, Tree]] = []
    if not nodes:
        raise ParseError("an UPDATE needs SET column = value")
    for node in nodes:
        left, right = node.this, node.expression
        if not isinstance(node, exp.EQ):
            raise unsupported("SET takes column = value", node, binding.text)
        if isinstance(left, exp.Tuple):
            values = _values_of_row(right)
            if len(left.expressions) != len(values):
                message = "SET (columns) takes as many values in parentheses"
                raise unsupported(message, left, binding.text)
            pairs = list(zip(left.expressions, values, strict=True))
        else:
            pairs = [(left, right)]
        for name, value in pairs:
            if not isinstance(name, exp.Column) or name.args.get("table") is not None:
                raise unsupported("SET takes plain column names", name, binding.text)
            column = binding.column(table, name.this)
            if any(column is other for other, _ in targets):
                raise unbound(f'column "{column.name}" is set twice', name, binding.text)
            if column.generated is None:
                targets.append((column, value))
            elif not is_default(value):
                raise _generated(column, value, binding)
    return targets


def _values_of_row(node: Tree) -> list[Tree]:
    """The values of (1, 2), ROW(1, 2) or (SELECT 1, 2), which becomes a subquery for each."""
    match node:
        case exp.Tuple():
            return list(node.expressions)
        case exp.Anonymous() if node.name.upper() == "ROW":
            return list(node.expressions)
        case exp.Subquery() if isinstance(node.this, exp.Select):
            values = []
            for item in node.this.expressions:
                one = node.copy()
                one.this.set("expressions", [item.copy()])
                values.append(one)
            return values
    return []


def _assignments(
    nodes: Sequence[Tree], table: Table, scope: Scope, binding: Binding
) -> tuple[Assignment, ...]:
    return tuple(
        _assignment(column, _value(column, node, table, scope))
        for column, node in set_targets(nodes, table, binding)
    )


def _value(column: TableColumn, node: Tree, table: Table, scope: Scope) -> Expr:
    if is_default(node):
        return default_value(column)
    return bind_assignment(node, scope, column.type, name=_qualified(table, column))


def default_value(column: TableColumn) -> Expr:
    """What SET column = DEFAULT sets."""
    default = column.default
    if column.type.name == "COUNTER":
        return Literal(0, column.type)
    if default is None:
        return Literal(None, column.type)
    if default.kind == "constant":
        return Literal(from_atom(default.value, column.type), column.type)
    if default.text == GENERATED_ID:
        raise Unsupported(f'column "{column.name}" fills itself when a row is inserted, not later')
    return default_expression(column)


def _assignment(column: TableColumn, value: Expr) -> Assignment:
    if column.type.name == "COUNTER":
        amount = _amount_of(value, column.position)
        if amount is not None:
            return Assignment(column, amount, increment=True)
    return Assignment(column, value)


def _amount_of(value: Expr, position: int) -> Expr | None:
    """x, if the value is n + x in whatever words: n - 1, 2 + n, n + 3 - 1."""
    if not isinstance(value, Arithmetic) or value.op not in ("+", "-"):
        return None
    left, right = value.left, value.right
    reads = [position in columns_of(side) for side in (left, right)]
    if reads == [True, False]:
        amount = right if value.op == "+" else Negate(right, right.type)
        if isinstance(left, Column):
            return fold_constants(amount)
        inner = _amount_of(left, position)
        return (
            None
            if inner is None
            else fold_constants(Arithmetic(value.op, inner, right, value.type))
        )
    if reads == [False, True] and value.op == "+":
        if isinstance(right, Column):
            return left
        inner = _amount_of(right, position)
        return None if inner is None else fold_constants(Arithmetic("+", left, inner, value.type))
    return None


def _found_update(
    tree: Tree, table: Table, binding: Binding, others: Sequence[Tree], reason: str
) -> tuple[Query, tuple[Assignment, ...]]:
    """The query for keys, new values and `others`, and assignments that read its rows."""
    values: list[Tree] = []
    assignments: list[Assignment] = []
    for column, node in set_targets(tree.expressions, table, binding):
        value = constant(column, node, table, binding)
        increment = False
        if value is None:
            found = node
            if column.type.name == "COUNTER":
                found, increment = tree_amount(column, node, qualifier_of(tree))
            value = Column(len(values), column.name, column.type)
            values.append(found)
        assignments.append(Assignment(column, value, increment))
    query = target_rows(tree, table, [*values, *others], binding, reason)
    offset = max(1, len(table.primary_key))
    return query, tuple(written(each, query, offset) for each in assignments)


def constant(column: TableColumn, node: Tree, table: Table, binding: Binding) -> Expr | None:
    """The value of SET that is the same for all rows: DEFAULT, a literal or a parameter."""
    if is_default(node):
        return default_value(column)
    if isinstance(node, exp.Literal | exp.Placeholder | exp.Null | exp.Boolean):
        return bind_assignment(node, Scope(binding), column.type, name=_qualified(table, column))
    return None


def written(assignment: Assignment, query: Query, offset: int) -> Assignment:
    """The assignment of a value that a query has found, converted as any other is.

    It reads the query's rows from column `offset` on. What has no type yet is converted when it has
    a value; what does not convert is left to the catalog, which says what is wrong with it.
    """
    column, value = assignment.column, assignment.value
    if not isinstance(value, Column) or assignment.increment:
        return assignment
    place = value.index + offset
    known = query.columns[place].type if place < len(query.columns) else None
    if known is None:
        return replace(assignment, value=converted(value, column.type))
    try:
        found = assigned(replace(value, type=known), column.type, name=column.name)
    except TypeMismatch:
        return assignment
    return replace(assignment, value=found)


def _returned(
    tree: Tree, table: Table, name: str, binding: Binding
) -> tuple[Returning | None, list[Tree]]:
    """RETURNING of an UPDATE or DELETE, and what it reads of the relations of FROM or USING."""
    node = tree.args.get("returning")
    if node is None or not (tree.args.get("from_") or tree.args.get("using")):
        return _returning(node, table, name, binding), []
    return bind_returning(tree, row_columns(table), name, binding)


def _returning(node: Tree | None, table: Table, name: str, binding: Binding) -> Returning | None:
    if node is None:
        return None
    only(node, binding.text, "expressions")
    columns = row_columns(table)
    scope = Scope(binding, (name, columns))
    try:
        exprs, results = bind_items(node.expressions, scope, columns, name, binding.text)
    except NeedsColumnar as reason:
        raise unsupported(
            f"{reason.reason} cannot stand in RETURNING", node, binding.text
        ) from None
    return Returning(exprs, results)
