"""From sqlglot's trees to typed expressions: names, types and functions are settled here.

    bind_expression(parse_expression("price * 2 > ?"), scope)
      ->  Compare(">",
                  Arithmetic("*", Column(1, "price", DECIMAL(9,2)), Literal(2, DECIMAL), DECIMAL),
                  Parameter(0, DECIMAL))

A scope knows the columns and the types that parameters have got so far. Every error points at its
place in the statement. What the row engine does not run (aggregates, windows, subqueries, functions
that are not in the registry) raises NeedsColumnar, so that the planner may hand the whole statement
to the columnar engine.

Conditions are bound in binder_conditions.py, functions in binder_functions.py; what all of them
share is in binder_scope.py.
"""

from __future__ import annotations

from sqlglot import exp

import murmur.sql.binder_aggregates
import murmur.sql.binder_functions
import murmur.sql.binder_regular  # noqa: F401 - they register who binds functions
from murmur.catalog.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DECIMAL,
    INTEGER,
    INTERVAL,
    JSON,
    TEXT,
    SqlType,
    parse_type,
)
from murmur.errors import BindError, DataError, InvalidInput, TypeMismatch, Unsupported
from murmur.sql import operators
from murmur.sql.assignment import assignment_target, is_assigned
from murmur.sql.binder_conditions import compared, flattened
from murmur.sql.binder_names import fold as fold_name
from murmur.sql.binder_names import start_of
from murmur.sql.binder_scope import Bind, Binder, Scope, Tree, binds, json_operation
from murmur.sql.casts import can_cast, cast_value
from murmur.sql.expressions import (
    Arithmetic,
    Case,
    Cast,
    Coalesce,
    Column,
    Concat,
    Expr,
    Extreme,
    Literal,
    NeedsColumnar,
    NullIf,
    Operation,
    Parameter,
    is_volatile,
)
from murmur.sql.folding import fold
from murmur.sql.literals import read_decimal
from murmur.sql.parameter_values import check_parameters
from murmur.sql.place import place

__all__ = [
    "Scope",
    "assigned",
    "bind_assignment",
    "bind_condition",
    "bind_expression",
    "bind_type",
    "check_parameters",
]

# What other files call ---------------------------------------------------------------------------


def bind_expression(node: Tree, scope: Scope, *, expected: SqlType | None = None) -> Expr:
    """Bind an expression and fold its constants.

    `expected` is the type that an untyped result takes: a NULL, a string literal, a parameter. What
    has another type already keeps it.
    """
    return _finished(Binder(scope), node, expected)


def bind_condition(node: Tree, scope: Scope, *, clause: str = "WHERE") -> Expr:
    """Bind an expression that must be BOOLEAN."""
    binder = Binder(scope)
    return fold(binder.condition(node, clause))


def bind_assignment(node: Tree, scope: Scope, target: SqlType, *, name: str) -> Expr:
    """Bind the value of a column for INSERT or UPDATE.

    What is computed is converted as PostgreSQL's assignments convert (assignment.py); a literal
    must fit exactly. Range, length and NULL are not looked at: the catalog checks them when the row
    is written.
    """
    binder = Binder(scope)
    expr = _finished(binder, node, operators.plain(target))
    with binder.at(node):
        return assigned(expr, target, name=name)


def assigned(expr: Expr, target: SqlType, *, name: str) -> Expr:
    """A value as it is written to a column of this type; TypeMismatch if it has to be cast."""
    wanted = operators.plain(target)
    if expr.type is None:
        return expr
    given = operators.plain(expr.type)
    if isinstance(expr, Literal) and given != wanted and given.is_numeric and wanted.is_numeric:
        converted = Literal(cast_value(expr.value, wanted), wanted)
        if converted.value != expr.value and not wanted.is_float:
            raise TypeMismatch(f"column {name} is {target}, {expr.value} is not")
        return converted
    if given.is_integer and wanted.is_integer:
        return expr
    if given == wanted:
        exact = target.precision is None or isinstance(expr, Literal | Parameter)
        return expr if exact else fold(Cast(expr, target))
    strict = isinstance(expr, Literal) and not operators.is_implied(given, wanted)
    if (strict and wanted.is_text) or not is_assigned(given, wanted):
        raise TypeMismatch(f"column {name} is {target}, the value is {expr.type}; cast it")
    return fold(Cast(expr, assignment_target(target)))


def bind_type(node: Tree, text: str, start: int | None = None) -> SqlType:
    """The type that a sqlglot DataType names; errors point at `start` if the type has no place."""
    written: str = node.sql(dialect="postgres")
    start = start_of(node) if start is None else start
    where = "" if start is None else place(text, start)
    if node.args.get("nested") or node.this in _COLUMNAR_TYPES:
        raise NeedsColumnar(f"type {written}", where)
    try:
        return parse_type(written)
    except Unsupported as error:
        raise Unsupported(f"{error}\n{where}") from None
    except InvalidInput as error:
        raise BindError(f"{error}\n{where}") from None


# What DuckDB has and Murmur has not.
_COLUMNAR_TYPES = frozenset(
    {
        exp.DataType.Type.ARRAY,
        exp.DataType.Type.LIST,
        exp.DataType.Type.MAP,
        exp.DataType.Type.STRUCT,
        exp.DataType.Type.INT128,
        exp.DataType.Type.UINT128,
        exp.DataType.Type.TINYINT,
    }
)


def _finished(binder: Binder, node: Tree, expected: SqlType | None) -> Expr:
    expr = binder.bind(node)
    if expr.type is None:
        if expected is not None:
            expr = binder.convert(node, expr, expected)
        else:
            expr = operators.as_text_if_untyped(expr)
    return fold(expr)


# Names, constants --------------------------------------------------------------------------------


@binds(exp.Column, "this", "table")
def _column(binder: Binder, node: Tree) -> Expr:
    if isinstance(node.this, exp.Star):
        raise binder.failure(node, BindError, "* stands for columns and cannot stand here")
    name, table = fold_name(node.this), node.args.get("table")
    qualifier = None if table is None else fold_name(table)
    try:
        column = binder.scope.column(name, qualifier)
    except BindError as error:
        raise binder.failure(node, BindError, str(error)) from None
    if column is None:
        shown = name if qualifier is None else f"{qualifier}.{name}"
        hint = ", and text is written in single quotes" if node.this.args.get("quoted") else ""
        raise binder.failure(node, BindError, f"there is no column {shown}{hint}")
    if isinstance(column, Column) and column.type is not None and column.type.name == "COUNTER":
        return Column(column.index, column.name, BIGINT, column.nullable)
    return column


@binds(exp.Placeholder)
def _placeholder(binder: Binder, node: Tree) -> Expr:
    return binder.scope.parameter(int(node.name))


@binds(exp.Literal)
def _literal(binder: Binder, node: Tree) -> Expr:
    text: str = node.this
    if node.args.get("is_string"):
        return Literal(text, None)
    return _number(binder, node, text)


_INTEGER_MAX, _BIGINT_MAX = 2**31 - 1, 2**63 - 1


def _number(binder: Binder, node: Tree, text: str) -> Expr:
    if text.isdigit() and len(text) < 4000:
        number = int(text)
        if number <= _BIGINT_MAX:
            return Literal(number, INTEGER if number <= _INTEGER_MAX else BIGINT)
    with binder.at(node):
        return Literal(read_decimal(text), DECIMAL)


@binds(exp.ByteString)
@binds(exp.RawString)
def _text(_binder: Binder, node: Tree) -> Expr:
    return Literal(node.this, None)


@binds(exp.HexString)
def _hexadecimal(binder: Binder, node: Tree) -> Expr:
    try:
        return Literal(bytes.fromhex(node.this), BLOB)
    except ValueError:
        message = "a blob has two hexadecimal digits for each byte"
        raise binder.failure(node, DataError, message) from None


@binds(exp.Null)
def _null(_binder: Binder, _node: Tree) -> Expr:
    return Literal(None, None)


@binds(exp.Boolean)
def _boolean(_binder: Binder, node: Tree) -> Expr:
    return Literal(bool(node.this), BOOLEAN)


@binds(exp.Paren, "this")
def _paren(binder: Binder, node: Tree) -> Expr:
    return binder.bind(node.this)


@binds(exp.Interval, "this", "unit")
def _interval(binder: Binder, node: Tree) -> Expr:
    quantity, unit = node.this, node.args.get("unit")
    if not isinstance(quantity, exp.Literal) or isinstance(unit, exp.IntervalSpan):
        raise binder.columnar(node, "this form of INTERVAL")
    text = quantity.name if unit is None else f"{quantity.name} {unit.name}"
    return binder.convert(node, Literal(text, None), INTERVAL)


# Arithmetic and text -----------------------------------------------------------------------------


def _arithmetic(op: Operation) -> Bind:
    def bind(binder: Binder, node: Tree) -> Expr:
        left, right = binder.bind(node.this), binder.bind(node.expression)
        if op == "-" and (found := json_operation(binder, node, "jsonb_delete", (left, right))):
            return found
        if op == "%" and TEXT in (left.type, right.type):
            return binder.call(node, "similarity_op", [node.this, node.expression])
        with binder.at(node):
            result = operators.arithmetic(op, left, right)
        for operand in _operands(result):
            binder.noted(operand)
        return result

    return bind


_OPERATIONS: dict[type, Operation] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}
for _tree, _operation in _OPERATIONS.items():
    binds(_tree, "this", "expression")(_arithmetic(_operation))


def _operands(expr: Expr) -> tuple[Expr, ...]:
    return (expr.left, expr.right) if isinstance(expr, Arithmetic) else ()


@binds(exp.Neg, "this")
def _negation(binder: Binder, node: Tree) -> Expr:
    if isinstance(node.this, exp.Literal) and node.this.is_number:
        # -2147483648 is an INTEGER although 2147483648 is none.
        number = _number(binder, node, node.this.name)
        assert isinstance(number, Literal)
        if number.value in (_INTEGER_MAX + 1, _BIGINT_MAX + 1):
            return Literal(-int(number.value), INTEGER if number.value < 2**32 else BIGINT)
    operand = binder.bind(node.this)
    with binder.at(node):
        return operators.negate(operand)


@binds(exp.DPipe, "this", "expression")
def _concatenation(binder: Binder, node: Tree) -> Expr:
    operands = [binder.bind(operand) for operand in flattened(node, exp.DPipe)]
    if any(operand.type == JSON for operand in operands) and all(
        operand.type in (None, JSON) for operand in operands
    ):
        sides = (binder.bind(node.this), binder.bind(node.expression))
        joined = json_operation(binder, node, "jsonb_concat", sides)
        assert joined is not None
        return joined
    with binder.at(node):
        result = operators.concatenate(operands)
    assert isinstance(result, Concat)
    for operand in result.operands:
        binder.noted(operand)
    return result


@binds(exp.Cast, "this", "to")
def _cast(binder: Binder, node: Tree) -> Expr:
    target = bind_type(node.args["to"], binder.scope.text, start_of(node))
    expr = binder.bind(node.this)
    if isinstance(expr, Parameter):
        # Whatever the caller passes is cast: it does not have to be of the type.
        return Cast(expr, target)
    if expr.type is None:
        if isinstance(expr, Literal):
            with binder.at(node.this):
                return (
                    fold(Cast(_as_text(expr), target))
                    if target.is_text
                    else (operators.convert(expr, target))
                )
        return Cast(expr, target)
    if not can_cast(expr.type, target):
        raise binder.failure(node.this, TypeMismatch, f"cannot cast {expr.type} to {target}")
    return Cast(expr, target)


def _as_text(literal: Literal) -> Expr:
    return literal if literal.value is None else Literal(literal.value, TEXT)


# CASE and its kin --------------------------------------------------------------------------------


@binds(exp.Case, "this", "ifs", "default")
def _case(binder: Binder, node: Tree) -> Expr:
    operand: Tree | None = node.this
    conditions: list[Expr] = []
    results: list[Tree] = []
    for branch in node.args["ifs"]:
        if operand is None:
            conditions.append(binder.condition(branch.this, "WHEN"))
        else:
            conditions.append(compared(binder, "=", operand, branch.this))
        results.append(branch.args["true"])
    if operand is not None and len(results) > 1 and is_volatile(binder.bind(operand)):
        raise binder.columnar(node, "CASE over a volatile operand")
    default = node.args.get("default")
    return _chosen(binder, conditions, results, default)


@binds(exp.If, "this", "true", "false")
def _if(binder: Binder, node: Tree) -> Expr:
    condition = binder.condition(node.this, "IF")
    return _chosen(binder, [condition], [node.args["true"]], node.args.get("false"))


def _chosen(
    binder: Binder, conditions: list[Expr], results: list[Tree], default: Tree | None
) -> Expr:
    nodes = results if default is None else [*results, default]
    bound, sql_type = binder.common(nodes, [binder.bind(result) for result in nodes])
    branches = tuple(zip(conditions, bound, strict=False))
    return Case(branches, None if default is None else bound[-1], sql_type)


@binds(exp.Coalesce, "this", "expressions")
def _coalesce(binder: Binder, node: Tree) -> Expr:
    nodes = [node.this, *node.expressions]
    operands, sql_type = binder.common(nodes, [binder.bind(child) for child in nodes])
    return operands[0] if len(operands) == 1 else Coalesce(tuple(operands), sql_type)


@binds(exp.Nullif, "this", "expression")
def _null_if(binder: Binder, node: Tree) -> Expr:
    nodes = (node.this, node.expression)
    left, right = binder.unified(nodes, [binder.bind(child) for child in nodes], "NULLIF")
    return NullIf(left, right, left.type)


def _extreme(*, greatest: bool) -> Bind:
    def bind(binder: Binder, node: Tree) -> Expr:
        nodes = [node.this, *node.expressions]
        operands, sql_type = binder.common(nodes, [binder.bind(child) for child in nodes])
        if sql_type is not None and sql_type.name == "JSON":
            raise binder.failure(node, TypeMismatch, "JSON values have no order")
        return Extreme(greatest, tuple(operands), sql_type)

    return bind


for _tree, _greatest in ((exp.Greatest, True), (exp.Least, False)):
    binds(_tree, "this", "expressions")(_extreme(greatest=_greatest))
