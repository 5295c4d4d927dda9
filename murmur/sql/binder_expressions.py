"""From sqlglot's trees to typed expressions: names, types and functions are settled here.

    bind_expression(parse_expression("price * 2 > ?"), scope)
      ->  Compare(">", Arithmetic("*", Column(1, "price", DECIMAL(9,2)), Literal(Decimal(2), ...)),
                  Parameter(0, DECIMAL))

A scope knows the columns and the types that parameters have got so far. Every error points at its
place in the statement. What the row engine does not run (aggregates, windows, subqueries, functions
that are not in the registry) raises NeedsColumnar, so that the planner may hand the whole statement
to the columnar engine.

sqlglot knows more of a tree than PostgreSQL does; what it accepts beyond that (LEN, NVL, IFNULL) is
accepted here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NoReturn, Protocol, TypeAlias

from sqlglot import exp

from murmur.catalog.types import (
    BIGINT,
    BLOB,
    BOOLEAN,
    DATE,
    DECIMAL,
    INTEGER,
    INTERVAL,
    JSON,
    TEXT,
    TIMESTAMP,
    TIMESTAMPTZ,
    SqlType,
    parse_type,
)
from murmur.catalog.values import check
from murmur.errors import (
    BindError,
    DatabaseError,
    DataError,
    InvalidInput,
    TypeMismatch,
    Unsupported,
)
from murmur.sql import operators
from murmur.sql.casts import can_cast, caster, decimal_from_text, type_of_value
from murmur.sql.expressions import (
    And,
    Between,
    Call,
    Case,
    Cast,
    Coalesce,
    Column,
    Compare,
    Comparison,
    Expr,
    Extreme,
    In,
    IsDistinct,
    IsNull,
    IsTruth,
    Like,
    Literal,
    NeedsColumnar,
    Not,
    NullIf,
    Operation,
    Or,
    Parameter,
    Value,
    fold,
    is_volatile,
)
from murmur.sql.functions import Function, extract_function, resolve, truncate_function
from murmur.sql.place import place

Tree: TypeAlias = Any  # a sqlglot expression


class Scope(Protocol):
    """What the names in an expression mean."""

    @property
    def text(self) -> str:
        """The statement, for errors to point into."""
        ...

    def column(self, name: str, qualifier: str | None) -> Column | None:
        """The column of this name, already folded to lower case unless it was quoted.

        A BindError (an ambiguous name) needs no place, it gets one here.
        """
        ...

    def parameter(self, index: int) -> Parameter:
        """The parameter at a position, with the type that it has got so far."""
        ...

    def set_parameter_type(self, index: int, sql_type: SqlType) -> None:
        """The parameter has met its type; `parameter` gives it from now on."""
        ...


# What other files call ---------------------------------------------------------------------------


def bind_expression(node: Tree, scope: Scope, *, expected: SqlType | None = None) -> Expr:
    """Bind an expression and fold its constants.

    `expected` is the type that an untyped result takes: a NULL, a string literal, a parameter. What
    has another type already keeps it.
    """
    return _finished(_Binder(scope), node, expected)


def bind_condition(node: Tree, scope: Scope, *, clause: str = "WHERE") -> Expr:
    """Bind an expression that must be BOOLEAN."""
    binder = _Binder(scope)
    return fold(binder.condition(node, clause))


def bind_assignment(node: Tree, scope: Scope, target: SqlType, *, name: str) -> Expr:
    """Bind the value of a column for INSERT or UPDATE.

    Numbers change into one another as PostgreSQL assigns them, checked for range, and a DATE may
    become a TIMESTAMP; nothing else is converted unasked. Length, precision and NULL are not looked
    at: the catalog checks them when the row is written.
    """
    binder = _Binder(scope)
    wanted = BIGINT if target.name == "COUNTER" else target
    expr = _finished(binder, node, wanted)
    given = expr.type
    if given is None or operators.plain(given) == operators.plain(wanted):
        return expr
    both_numeric = given.is_numeric and wanted.is_numeric
    if not both_numeric and not operators.is_implied(
        operators.plain(given), operators.plain(wanted)
    ):
        binder.fail(node, TypeMismatch, f"column {name} is {target}, the value is {given}")
    with binder.at(node):
        return fold(Cast(expr, wanted))


def bind_type(node: Tree, text: str) -> SqlType:
    """The type that a sqlglot DataType names."""
    return _bind_type(node, text)


def check_parameters(
    values: Sequence[object], types: Sequence[SqlType | None]
) -> tuple[Value, ...]:
    """The values of the parameters as the types that the binder gave them have it.

    An untyped parameter takes any Python value that some SQL type holds.
    """
    return tuple(
        [
            _checked(value, sql_type, position)
            for position, (value, sql_type) in enumerate(zip(values, types, strict=True), 1)
        ]
    )


def _checked(value: object, sql_type: SqlType | None, position: int) -> Value:
    if value is None:
        return None
    where = f"parameter {position}"
    if sql_type is None:
        try:
            return check(value, type_of_value(value), where=where)
        except TypeMismatch as error:
            raise TypeMismatch(f"{where}: {error}") from None
    if isinstance(value, str) and not sql_type.is_text and not sql_type.is_numeric:
        # Text reads as a literal of the type would; numbers and truth values are not text.
        cast = None if sql_type in (BOOLEAN, BLOB) else caster(TEXT, sql_type)
        if cast is not None:
            try:
                return cast(value)
            except DataError as error:
                raise DataError(f"{where}: {error}") from None
    if sql_type == DECIMAL and isinstance(value, Decimal) and value.is_finite():
        return value  # a column's digits are bounded, a number that is compared is not
    if type(value) is date and sql_type == TIMESTAMP:
        return datetime(value.year, value.month, value.day)
    return check(value, sql_type, where=where)


def _finished(binder: _Binder, node: Tree, expected: SqlType | None) -> Expr:
    expr = binder.bind(node)
    if expr.type is None:
        if expected is not None:
            expr = binder.convert(node, expr, expected)
        else:
            expr = operators.as_text_if_untyped(expr)
    return fold(expr)


# Places ------------------------------------------------------------------------------------------


def start_of(node: Tree) -> int:
    """Where in the text an expression begins: sqlglot knows it of names, literals and calls."""
    starts = [child.meta["start"] for child in node.walk() if "start" in child.meta]
    return min(starts, default=0)


# Binding -----------------------------------------------------------------------------------------


class _Binder:
    """Binds the expressions of one scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def bind(self, node: Tree) -> Expr:
        """The expression; an untyped literal stays untyped until it meets a type."""
        bind = _BINDERS.get(type(node))
        if bind is None:
            raise NeedsColumnar(_described(node))
        return bind(self, node)

    def fail(self, node: Tree, error: type[DatabaseError], message: str) -> NoReturn:
        """Raise an error that points at the beginning of the node."""
        raise error(f"{message}\n{place(self.scope.text, start_of(node))}")

    @contextmanager
    def at(self, node: Tree) -> Iterator[None]:
        """Give the errors of a typing rule the place of this node."""
        try:
            yield
        except NeedsColumnar:
            raise
        except DatabaseError as error:
            # A literal that its type cannot hold is the statement's fault, not the data's.
            kind = TypeMismatch if isinstance(error, DataError) else type(error)
            self.fail(node, kind, str(error))

    def convert(self, node: Tree, expr: Expr, target: SqlType) -> Expr:
        """Coerce what may be coerced unasked."""
        with self.at(node):
            return self.noted(operators.convert(expr, target))

    def noted(self, expr: Expr) -> Expr:
        """Tell the scope of a parameter that has just got its type."""
        if isinstance(expr, Parameter) and expr.type is not None:
            self.scope.set_parameter_type(expr.index, expr.type)
        return expr

    def unified(self, nodes: Sequence[Tree], exprs: Sequence[Expr], what: str) -> list[Expr]:
        """The operands of a comparison, with one type."""
        with self.at(_blamed(nodes, exprs)):
            return [self.noted(expr) for expr in operators.unify(exprs, what)]

    def condition(self, node: Tree, clause: str) -> Expr:
        """An expression that must be BOOLEAN."""
        expr = self.bind(node)
        if expr.type is None:
            expr = self.convert(node, expr, BOOLEAN)
        if expr.type != BOOLEAN:
            self.fail(node, TypeMismatch, f"{clause} takes a BOOLEAN, not {expr.type}")
        return expr

    def common(self, nodes: Sequence[Tree], exprs: Sequence[Expr]) -> tuple[list[Expr], Any]:
        """Operands of which one becomes the result (CASE, COALESCE), and their type."""
        with self.at(_blamed(nodes, exprs)):
            target = operators.common_type(expr.type for expr in exprs)
            if target is None:
                if all(isinstance(e, Literal | Parameter) and e.type is None for e in exprs):
                    exprs = [operators.as_text_if_untyped(expr) for expr in exprs]
                target = next((expr.type for expr in exprs if expr.type is not None), None)
        if target is None:
            return list(exprs), None
        converted = [
            self.convert(node, expr, target) for node, expr in zip(nodes, exprs, strict=True)
        ]
        return converted, target

    def call(self, node: Tree, name: str, arguments: Sequence[Tree]) -> Expr:
        """A function of the registry."""
        exprs = [self.bind(argument) for argument in arguments]
        with self.at(node):
            function = resolve(name, [expr.type for expr in exprs])
        return self.applied(function, arguments, exprs)

    def applied(self, function: Function, arguments: Sequence[Tree], exprs: Sequence[Expr]) -> Call:
        """The function over its arguments, coerced to its parameters."""
        converted = [
            self.convert(argument, expr, function.parameter(position))
            for position, (argument, expr) in enumerate(zip(arguments, exprs, strict=True))
        ]
        return Call(function, tuple(converted), function.result)


def _blamed(nodes: Sequence[Tree], exprs: Sequence[Expr]) -> Tree:
    """The operand that an error points at: a literal is more often wrong than a column."""
    for node, expr in zip(nodes, exprs, strict=True):
        if isinstance(expr, Literal):
            return node
    return nodes[-1]


def _described(node: Tree) -> str:
    if isinstance(node, exp.AggFunc):
        return f"aggregate {node.sql_name().lower()}"
    if isinstance(node, exp.Window):
        return "a window function"
    if isinstance(node, exp.Query | exp.Subquery | exp.Exists):
        return "a subquery"
    if isinstance(node, exp.Func):
        return f"function {node.sql_name().lower()}"
    return node.key.upper()


# Names, constants --------------------------------------------------------------------------------


def _column(binder: _Binder, node: Tree) -> Expr:
    if isinstance(node.this, exp.Star):
        binder.fail(node, BindError, "* stands for columns and cannot stand here")
    if node.args.get("db") is not None:
        binder.fail(node, BindError, "there are no schemas: write table.column")
    name, table = folded(node.this), node.args.get("table")
    qualifier = None if table is None else folded(table)
    try:
        column = binder.scope.column(name, qualifier)
    except BindError as error:
        binder.fail(node, BindError, str(error))
    if column is None:
        shown = name if qualifier is None else f"{qualifier}.{name}"
        hint = ", and text is written in single quotes" if node.this.args.get("quoted") else ""
        binder.fail(node, BindError, f"there is no column {shown}{hint}")
    if column.type is not None and column.type.name == "COUNTER":
        return Column(column.index, column.name, BIGINT, column.nullable)
    return column


def folded(identifier: Tree) -> str:
    """The name that an identifier stands for: lower case unless it is quoted."""
    name: str = identifier.name
    return name if identifier.args.get("quoted") else name.lower()


def _placeholder(binder: _Binder, node: Tree) -> Expr:
    return binder.scope.parameter(int(node.name))


def _literal(binder: _Binder, node: Tree) -> Expr:
    text: str = node.this
    if node.args.get("is_string"):
        return Literal(text, None)
    return _number(binder, node, text)


_INTEGER_MAX, _BIGINT_MAX = 2**31 - 1, 2**63 - 1


def _number(binder: _Binder, node: Tree, text: str) -> Expr:
    if text.isdigit() and len(text) < 4000:
        number = int(text)
        if number <= _BIGINT_MAX:
            return Literal(number, INTEGER if number <= _INTEGER_MAX else BIGINT)
    with binder.at(node):
        return Literal(decimal_from_text(text), DECIMAL)


def _text(_binder: _Binder, node: Tree) -> Expr:
    return Literal(node.this, None)


def _hexadecimal(binder: _Binder, node: Tree) -> Expr:
    try:
        return Literal(bytes.fromhex(node.this), BLOB)
    except ValueError:
        binder.fail(node, DataError, "a blob has two hexadecimal digits for each byte")


def _null(_binder: _Binder, _node: Tree) -> Expr:
    return Literal(None, None)


def _boolean(_binder: _Binder, node: Tree) -> Expr:
    return Literal(bool(node.this), BOOLEAN)


def _paren(binder: _Binder, node: Tree) -> Expr:
    return binder.bind(node.this)


def _interval(binder: _Binder, node: Tree) -> Expr:
    quantity, unit = node.this, node.args.get("unit")
    if not isinstance(quantity, exp.Literal) or isinstance(unit, exp.IntervalSpan):
        raise NeedsColumnar("this form of INTERVAL")
    text = quantity.name if unit is None else f"{quantity.name} {unit.name}"
    return binder.convert(node, Literal(text, None), INTERVAL)


# Logic -------------------------------------------------------------------------------------------


def _chain(kind: type[And | Or], tree: type) -> Callable[[_Binder, Tree], Expr]:
    def bind(binder: _Binder, node: Tree) -> Expr:
        clause = kind.__name__.upper()
        operands: list[Expr] = []
        for operand in _flattened(node, tree):
            bound = binder.condition(operand, clause)
            operands.extend(bound.operands if isinstance(bound, kind) else [bound])
        return kind(tuple(operands))

    return bind


def _flattened(node: Tree, tree: type) -> list[Tree]:
    """The operands of a chain of one operator, from left to right."""
    operands: list[Tree] = []
    pending = [node]
    while pending:
        top = pending.pop()
        if isinstance(top, tree):
            pending += [top.expression, top.this]
        else:
            operands.append(top)
    return operands


def _not(binder: _Binder, node: Tree) -> Expr:
    operand = binder.condition(node.this, "NOT")
    match operand:
        case Between() | In() | Like() if not operand.negated:
            return _negated(operand)
        case IsNull() | IsTruth() | IsDistinct():
            return _negated(operand)
    return Not(operand)


def _negated(expr: Between | In | Like | IsNull | IsTruth | IsDistinct) -> Expr:
    match expr:
        case Between(operand, low, high, negated):
            return Between(operand, low, high, not negated)
        case In(operand, items, negated):
            return In(operand, items, not negated)
        case Like(operand, pattern, escape, insensitive, negated):
            return Like(operand, pattern, escape, insensitive, not negated)
        case IsNull(operand, negated):
            return IsNull(operand, not negated)
        case IsTruth(operand, truth, negated):
            return IsTruth(operand, truth, not negated)
        case IsDistinct(left, right, negated):
            return IsDistinct(left, right, not negated)


def _is(binder: _Binder, node: Tree) -> Expr:
    negated = bool(node.args.get("negate"))
    match node.expression:
        case exp.Null():
            operand = operators.as_text_if_untyped(binder.bind(node.this))
            return IsNull(operand, negated)
        case exp.Boolean():
            truth = bool(node.expression.this)
            word = "IS TRUE" if truth else "IS FALSE"
            return IsTruth(binder.condition(node.this, word), truth, negated)
    raise NeedsColumnar(f"IS {node.expression.sql(dialect='postgres')}")


# Comparison --------------------------------------------------------------------------------------


def _comparison(op: Comparison) -> Callable[[_Binder, Tree], Expr]:
    def bind(binder: _Binder, node: Tree) -> Expr:
        left, right = node.this, node.expression
        if isinstance(right, exp.Any | exp.All):
            raise NeedsColumnar(f"{op} {right.key.upper()}")
        if _is_row(left) or _is_row(right):
            return _row_comparison(binder, op, left, right)
        return _compared(binder, op, left, right)

    return bind


def _compared(binder: _Binder, op: Comparison, left: Tree, right: Tree) -> Expr:
    nodes = (left, right)
    one, two = binder.unified(nodes, [binder.bind(left), binder.bind(right)], op)
    return Compare(op, one, two)


def _is_row(node: Tree) -> bool:
    return isinstance(node, exp.Tuple)


def _row_comparison(binder: _Binder, op: Comparison, left: Tree, right: Tree) -> Expr:
    """(a, b) < (c, d) is a < c OR a = c AND b < d; = and <> compare all."""
    if not _is_row(left) or not _is_row(right) or len(left.expressions) != len(right.expressions):
        binder.fail(left, TypeMismatch, "rows are compared with rows of the same length")
    pairs = list(zip(left.expressions, right.expressions, strict=True))
    if len(pairs) == 1:
        return _compared(binder, op, *pairs[0])
    if op in ("=", "<>"):
        each = tuple(_compared(binder, op, one, two) for one, two in pairs)
        return And(each) if op == "=" else Or(each)
    strict: Comparison = "<" if op in ("<", "<=") else ">"
    (one, two), *_ = pairs
    rest = _without_first(left), _without_first(right)
    below = _row_comparison(binder, op, *rest)
    also = below.operands if isinstance(below, And) else (below,)
    equal = And((_compared(binder, "=", one, two), *also))
    return Or((_compared(binder, strict, one, two), equal))


def _without_first(row: Tree) -> Tree:
    return exp.Tuple(expressions=[item.copy() for item in row.expressions[1:]])


def _distinct(*, negated: bool) -> Callable[[_Binder, Tree], Expr]:
    def bind(binder: _Binder, node: Tree) -> Expr:
        nodes = (node.this, node.expression)
        left, right = binder.unified(
            nodes, [binder.bind(node.this), binder.bind(node.expression)], "IS DISTINCT FROM"
        )
        return IsDistinct(left, right, negated)

    return bind


def _between(binder: _Binder, node: Tree) -> Expr:
    nodes = (node.this, node.args["low"], node.args["high"])
    exprs = [binder.bind(child) for child in nodes]
    operand, low, high = binder.unified(nodes, exprs, "BETWEEN")
    between = Between(operand, low, high)
    return Or((between, Between(operand, high, low))) if node.args.get("symmetric") else between


def _in(binder: _Binder, node: Tree) -> Expr:
    if any(node.args.get(key) for key in ("query", "unnest", "field")):
        raise NeedsColumnar("a subquery")
    items = node.expressions
    if not items:
        binder.fail(node, InvalidInput, "IN takes at least one value")
    if _is_row(node.this):
        rows = tuple(_row_comparison(binder, "=", node.this, item) for item in items)
        return rows[0] if len(rows) == 1 else Or(rows)
    nodes = (node.this, *items)
    operand, *bound = binder.unified(nodes, [binder.bind(child) for child in nodes], "IN")
    return In(operand, tuple(bound))


def _like(*, insensitive: bool) -> Callable[[_Binder, Tree], Expr]:
    def bind(binder: _Binder, node: Tree, escape: Tree | None = None) -> Expr:
        if isinstance(node.expression, exp.Any | exp.All):
            raise NeedsColumnar(f"LIKE {node.expression.key.upper()}")
        word = "ILIKE" if insensitive else "LIKE"
        operands = [_text_operand(binder, n, word) for n in (node.this, node.expression)]
        bound = None if escape is None else _text_operand(binder, escape, "ESCAPE")
        return Like(operands[0], operands[1], bound, insensitive, bool(node.args.get("negate")))

    return bind


_LIKES: dict[type, Any] = {exp.Like: _like(insensitive=False), exp.ILike: _like(insensitive=True)}


def _escape(binder: _Binder, node: Tree) -> Expr:
    bind = _LIKES.get(type(node.this))
    if bind is None:
        raise NeedsColumnar("ESCAPE")
    bound: Expr = bind(binder, node.this, node.expression)
    return bound


def _text_operand(binder: _Binder, node: Tree, word: str) -> Expr:
    expr = binder.bind(node)
    if expr.type is None:
        return binder.convert(node, expr, TEXT)
    if not expr.type.is_text:
        binder.fail(node, TypeMismatch, f"{word} takes text, not {expr.type}; cast it to TEXT")
    return expr


# Arithmetic and text -----------------------------------------------------------------------------


def _arithmetic(op: Operation) -> Callable[[_Binder, Tree], Expr]:
    def bind(binder: _Binder, node: Tree) -> Expr:
        left, right = binder.bind(node.this), binder.bind(node.expression)
        with binder.at(node):
            result = operators.arithmetic(op, left, right)
        for operand in _operands(result):
            binder.noted(operand)
        return result

    return bind


def _operands(expr: Expr) -> tuple[Expr, ...]:
    return (expr.left, expr.right) if isinstance(expr, operators.Arithmetic) else ()


def _negation(binder: _Binder, node: Tree) -> Expr:
    if isinstance(node.this, exp.Literal) and node.this.is_number:
        # -2147483648 is an INTEGER although 2147483648 is none.
        number = _number(binder, node, node.this.name)
        assert isinstance(number, Literal)
        if number.value in (_INTEGER_MAX + 1, _BIGINT_MAX + 1):
            return Literal(-int(number.value), INTEGER if number.value < 2**32 else BIGINT)
    operand = binder.bind(node.this)
    with binder.at(node):
        return operators.negate(operand)


def _concatenation(binder: _Binder, node: Tree) -> Expr:
    operands = [binder.bind(operand) for operand in _flattened(node, exp.DPipe)]
    with binder.at(node):
        result = operators.concatenate(operands)
    assert isinstance(result, operators.Concat)
    for operand in result.operands:
        binder.noted(operand)
    return result


def _concat_function(name: str) -> Callable[[_Binder, Tree], Expr]:
    """concat and concat_ws take values of every type, as text."""

    def bind(binder: _Binder, node: Tree) -> Expr:
        exprs = []
        for argument in node.expressions:
            expr = binder.convert(argument, binder.bind(argument), TEXT)
            exprs.append(expr)
        with binder.at(node):
            function = resolve(name, [TEXT] * len(exprs))
        return Call(function, tuple(exprs), function.result)

    return bind


def _cast(binder: _Binder, node: Tree) -> Expr:
    target = _bind_type(node.args["to"], binder.scope.text, start_of(node))
    if isinstance(node.this, exp.IntDiv):  # sqlglot's reading of div(a, b)
        return binder.call(node, "div", [node.this.this, node.this.expression])
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
        binder.fail(node.this, TypeMismatch, f"cannot cast {expr.type} to {target}")
    return Cast(expr, target)


def _as_text(literal: Literal) -> Expr:
    return literal if literal.value is None else Literal(literal.value, TEXT)


def _bind_type(node: Tree, text: str, start: int | None = None) -> SqlType:
    written: str = node.sql(dialect="postgres")
    if node.args.get("nested") or node.this in _COLUMNAR_TYPES:
        raise NeedsColumnar(f"type {written}")
    try:
        return parse_type(written)
    except (InvalidInput, Unsupported) as error:
        at = start_of(node) if start is None else start
        kind = type(error) if isinstance(error, Unsupported) else BindError
        raise kind(f"{error}\n{place(text, at)}") from None


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


# CASE and its kin --------------------------------------------------------------------------------


def _case(binder: _Binder, node: Tree) -> Expr:
    operand: Tree | None = node.this
    conditions: list[Expr] = []
    results: list[Tree] = []
    for branch in node.args["ifs"]:
        if operand is None:
            conditions.append(binder.condition(branch.this, "WHEN"))
        else:
            conditions.append(_compared(binder, "=", operand, branch.this))
        results.append(branch.args["true"])
    if operand is not None and len(results) > 1 and is_volatile(binder.bind(operand)):
        raise NeedsColumnar("CASE over a volatile operand")
    default = node.args.get("default")
    return _chosen(binder, conditions, results, default)


def _if(binder: _Binder, node: Tree) -> Expr:
    condition = binder.condition(node.this, "IF")
    return _chosen(binder, [condition], [node.args["true"]], node.args.get("false"))


def _chosen(
    binder: _Binder, conditions: list[Expr], results: list[Tree], default: Tree | None
) -> Expr:
    nodes = results if default is None else [*results, default]
    bound, sql_type = binder.common(nodes, [binder.bind(result) for result in nodes])
    branches = tuple(zip(conditions, bound, strict=False))
    return Case(branches, None if default is None else bound[-1], sql_type)


def _coalesce(binder: _Binder, node: Tree) -> Expr:
    nodes = [node.this, *node.expressions]
    operands, sql_type = binder.common(nodes, [binder.bind(child) for child in nodes])
    return operands[0] if len(operands) == 1 else Coalesce(tuple(operands), sql_type)


def _null_if(binder: _Binder, node: Tree) -> Expr:
    nodes = (node.this, node.expression)
    left, right = binder.unified(nodes, [binder.bind(child) for child in nodes], "NULLIF")
    return NullIf(left, right, left.type)


def _extreme(*, greatest: bool) -> Callable[[_Binder, Tree], Expr]:
    def bind(binder: _Binder, node: Tree) -> Expr:
        nodes = [node.this, *node.expressions]
        operands, sql_type = binder.common(nodes, [binder.bind(child) for child in nodes])
        if sql_type is not None and sql_type.name == "JSON":
            binder.fail(node, TypeMismatch, "JSON values have no order")
        return Extreme(greatest, tuple(operands), sql_type)

    return bind


# Functions with a grammar of their own -----------------------------------------------------------


def _function(name: str, *keys: str) -> Callable[[_Binder, Tree], Expr]:
    """A function whose arguments sqlglot keeps under these keys; other keys are another function."""

    def bind(binder: _Binder, node: Tree) -> Expr:
        for key, value in node.args.items():
            if isinstance(value, exp.Expression | list) and value and key not in keys:
                raise NeedsColumnar(f"function {name} with {key}")
        arguments: list[Tree] = []
        for key in keys:
            value = node.args.get(key)
            arguments += value if isinstance(value, list) else [value] if value is not None else []
        return binder.call(node, name, arguments)

    return bind


def _anonymous(binder: _Binder, node: Tree) -> Expr:
    name = node.name.lower()
    if name in ("typeof", "pg_typeof") and len(node.expressions) == 1:
        return _type_name(binder, node.expressions[0], postgres=name == "pg_typeof")
    if any(isinstance(n, exp.Kwarg | exp.Variadic | exp.Distinct) for n in node.expressions):
        raise NeedsColumnar(f"function {name} with such arguments")
    return binder.call(node, name, node.expressions)


def _typeof(binder: _Binder, node: Tree) -> Expr:
    return _type_name(binder, node.this, postgres=False)


def _type_name(binder: _Binder, node: Tree, *, postgres: bool) -> Expr:
    sql_type = operators.as_text_if_untyped(binder.bind(node)).type
    if sql_type is None:
        return Literal("unknown" if postgres else "NULL", TEXT)
    return (
        Literal(_POSTGRES_NAMES.get(sql_type.name, sql_type.name.lower()), TEXT)
        if postgres
        else (Literal(str(sql_type), TEXT))
    )


_POSTGRES_NAMES = {
    "DOUBLE": "double precision",
    "DECIMAL": "numeric",
    "VARCHAR": "character varying",
    "BLOB": "bytea",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMPTZ": "timestamp with time zone",
}


def _trim(binder: _Binder, node: Tree) -> Expr:
    names = {"LEADING": "ltrim", "TRAILING": "rtrim"}
    name = names.get(str(node.args.get("position") or "").upper(), "trim")
    characters = node.args.get("expression")
    return binder.call(node, name, [node.this] if characters is None else [node.this, characters])


def _pad(binder: _Binder, node: Tree) -> Expr:
    name = "lpad" if node.args.get("is_left") else "rpad"
    fill = node.args.get("fill_pattern")
    arguments = [node.this, node.expression]
    return binder.call(node, name, arguments if fill is None else [*arguments, fill])


def _initcap(binder: _Binder, node: Tree) -> Expr:
    return binder.call(node, "initcap", [node.this])


def _now(binder: _Binder, node: Tree) -> Expr:
    if node.this is not None:
        raise NeedsColumnar("CURRENT_TIMESTAMP with a precision")
    return binder.call(node, _NOW[type(node)], [])


_NOW: dict[type, str] = {
    exp.CurrentTimestamp: "now",
    exp.CurrentDate: "current_date",
    exp.Localtimestamp: "localtimestamp",
    exp.Localtime: "localtime",
}


def _random(binder: _Binder, node: Tree) -> Expr:
    if node.this is not None:
        raise NeedsColumnar("random with bounds")
    return binder.call(node, "random", [])


def _extract(binder: _Binder, node: Tree) -> Expr:
    expr = _moment(binder, node.expression)
    assert expr.type is not None
    with binder.at(node):
        function = extract_function(node.name, expr.type)
    return binder.applied(function, [node.expression], [expr])


def _truncate(binder: _Binder, node: Tree) -> Expr:
    zone, unit = node.args.get("zone"), node.args["unit"]
    if zone is not None or not isinstance(unit, exp.Var | exp.Literal):
        raise NeedsColumnar("date_trunc with a time zone")
    expr = _moment(binder, node.this)
    assert expr.type is not None
    with binder.at(node):
        function = truncate_function(unit.name, expr.type)
    return binder.applied(function, [node.this], [expr])


def _moment(binder: _Binder, node: Tree) -> Expr:
    """A date, time or interval; untyped, it is a TIMESTAMP."""
    expr = binder.bind(node)
    return binder.convert(node, expr, TIMESTAMP) if expr.type is None else expr


def _at_zone(binder: _Binder, node: Tree) -> Expr:
    expr = binder.bind(node.this)
    if expr.type in (None, DATE):
        expr = binder.convert(node.this, expr, TIMESTAMPTZ)
    zone = binder.convert(node.args["zone"], binder.bind(node.args["zone"]), TEXT)
    with binder.at(node):
        function = resolve("timezone", [zone.type, expr.type])
    return Call(function, (zone, expr), function.result)


def _json(name: str) -> Callable[[_Binder, Tree], Expr]:
    """-> and ->>; sqlglot turns a literal key into a JSON path of one step."""

    def bind(binder: _Binder, node: Tree) -> Expr:
        if not node.args.get("only_json_types") and isinstance(node.expression, exp.JSONPath):
            raise NeedsColumnar("a JSON path")
        document = binder.bind(node.this)
        if document.type is None:
            document = binder.convert(node.this, document, JSON)
        key = _json_key(binder, node.expression)
        with binder.at(node):
            function = resolve(name, [document.type, key.type or TEXT])
            key = binder.noted(operators.convert(key, function.parameters[1]))
        return Call(function, (document, key), function.result)

    return bind


def _json_key(binder: _Binder, node: Tree) -> Expr:
    if not isinstance(node, exp.JSONPath):
        return binder.bind(node)
    steps = node.expressions[1:]
    match steps:
        case [exp.JSONPathKey()] if isinstance(steps[0].this, str):
            return Literal(steps[0].this, TEXT)
        case [exp.JSONPathSubscript()] if isinstance(steps[0].this, int):
            return Literal(steps[0].this, INTEGER)
    raise NeedsColumnar("a JSON path")


_BINDERS: dict[type, Callable[[_Binder, Tree], Expr]] = {
    exp.Column: _column,
    exp.Placeholder: _placeholder,
    exp.Literal: _literal,
    exp.ByteString: _text,
    exp.RawString: _text,
    exp.HexString: _hexadecimal,
    exp.Null: _null,
    exp.Boolean: _boolean,
    exp.Paren: _paren,
    exp.Interval: _interval,
    exp.And: _chain(And, exp.And),
    exp.Or: _chain(Or, exp.Or),
    exp.Not: _not,
    exp.Is: _is,
    exp.EQ: _comparison("="),
    exp.NEQ: _comparison("<>"),
    exp.LT: _comparison("<"),
    exp.LTE: _comparison("<="),
    exp.GT: _comparison(">"),
    exp.GTE: _comparison(">="),
    exp.NullSafeEQ: _distinct(negated=True),
    exp.NullSafeNEQ: _distinct(negated=False),
    exp.Between: _between,
    exp.In: _in,
    exp.Like: _LIKES[exp.Like],
    exp.ILike: _LIKES[exp.ILike],
    exp.Escape: _escape,
    exp.Add: _arithmetic("+"),
    exp.Sub: _arithmetic("-"),
    exp.Mul: _arithmetic("*"),
    exp.Div: _arithmetic("/"),
    exp.Mod: _arithmetic("%"),
    exp.Neg: _negation,
    exp.DPipe: _concatenation,
    exp.Concat: _concat_function("concat"),
    exp.ConcatWs: _concat_function("concat_ws"),
    exp.Cast: _cast,
    exp.Case: _case,
    exp.If: _if,
    exp.Coalesce: _coalesce,
    exp.Nullif: _null_if,
    exp.Greatest: _extreme(greatest=True),
    exp.Least: _extreme(greatest=False),
    exp.Anonymous: _anonymous,
    exp.Typeof: _typeof,
    exp.Trim: _trim,
    exp.Pad: _pad,
    exp.Initcap: _initcap,
    exp.CurrentTimestamp: _now,
    exp.CurrentDate: _now,
    exp.Localtimestamp: _now,
    exp.Localtime: _now,
    exp.Rand: _random,
    exp.Extract: _extract,
    exp.TimestampTrunc: _truncate,
    exp.AtTimeZone: _at_zone,
    exp.JSONExtract: _json("json_get"),
    exp.JSONExtractScalar: _json("json_get_text"),
    exp.Lower: _function("lower", "this"),
    exp.Upper: _function("upper", "this"),
    exp.Length: _function("length", "this"),
    exp.BitLength: _function("bit_length", "this"),
    exp.Substring: _function("substring", "this", "start", "length"),
    exp.StrPosition: _function("strpos", "this", "substr"),
    exp.Replace: _function("replace", "this", "expression", "replacement"),
    exp.Translate: _function("translate", "this", "from_", "to"),
    exp.Left: _function("left", "this", "expression"),
    exp.Right: _function("right", "this", "expression"),
    exp.Repeat: _function("repeat", "this", "times"),
    exp.Reverse: _function("reverse", "this"),
    exp.SplitPart: _function("split_part", "this", "delimiter", "part_index"),
    exp.StartsWith: _function("starts_with", "this", "expression"),
    exp.Chr: _function("chr", "expressions"),
    exp.Ascii: _function("ascii", "this"),
    exp.MD5: _function("md5", "this"),
    exp.Encode: _function("encode", "this", "charset"),
    exp.Decode: _function("decode", "this", "charset"),
    exp.Hex: _function("to_hex", "this"),
    exp.Abs: _function("abs", "this"),
    exp.Ceil: _function("ceil", "this"),
    exp.Floor: _function("floor", "this"),
    exp.Round: _function("round", "this", "decimals"),
    exp.Trunc: _function("trunc", "this", "decimals"),
    exp.Sign: _function("sign", "this"),
    exp.Pow: _function("power", "this", "expression"),
    exp.Sqrt: _function("sqrt", "this"),
    exp.Cbrt: _function("cbrt", "this"),
    exp.Exp: _function("exp", "this"),
    exp.Ln: _function("ln", "this"),
    exp.Log: _function("log", "this", "expression"),
    exp.Pi: _function("pi"),
    exp.Sin: _function("sin", "this"),
    exp.Cos: _function("cos", "this"),
    exp.Tan: _function("tan", "this"),
    exp.Asin: _function("asin", "this"),
    exp.Acos: _function("acos", "this"),
    exp.Atan: _function("atan", "this"),
    exp.Atan2: _function("atan2", "this", "expression"),
    exp.Sinh: _function("sinh", "this"),
    exp.Cosh: _function("cosh", "this"),
    exp.Tanh: _function("tanh", "this"),
    exp.Degrees: _function("degrees", "this"),
    exp.Radians: _function("radians", "this"),
    exp.Uuid: _function("gen_random_uuid"),
    exp.TimestampFromParts: _function(
        "make_timestamp", "year", "month", "day", "hour", "min", "sec"
    ),
    exp.UnixToTime: _function("to_timestamp", "this"),
}
