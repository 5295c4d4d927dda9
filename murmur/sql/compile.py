"""From expressions to Python functions. Three-valued logic lives here and nowhere else.

`a < 5 AND b` over the columns (a INTEGER, b BOOLEAN) becomes

    def predicate(row, context):
        return ((t0 := row[0]) is not None and t0 < k0) and row[1]

An expression has three translations:

    value(e)    a Python expression for its value, None standing for NULL
    true(e)     one that is truthy exactly when e is TRUE      what WHERE asks
    false(e)    one that is truthy exactly when e is FALSE     what NOT asks below WHERE

so that a condition needs the third truth value only where a value is wanted: NOT swaps the last
two, AND and OR follow De Morgan. By induction over the nodes, for every row exactly one of true(e),
false(e) and `value(e) is None` holds; the tests state this as a law.

The source consists of the words in this file, indexes and numbered names. Constants and functions
are bound to names (k0, k1, ...); no text of a statement gets into it. Python's parser and compiler
are recursive, so a tree deeper than SPILL is cut into functions that call one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from murmur.catalog.types import SqlType
from murmur.sql import operators
from murmur.sql.casts import cast_value, caster, type_of_value
from murmur.sql.compile_operators import PYTHON, Operators
from murmur.sql.expressions import (
    And,
    Arithmetic,
    Between,
    Call,
    Case,
    Cast,
    Coalesce,
    Column,
    Compare,
    Comparison,
    Concat,
    Context,
    Expr,
    Extreme,
    In,
    IsDistinct,
    IsNull,
    IsTruth,
    Like,
    Literal,
    Negate,
    Not,
    NullIf,
    Operation,
    Or,
    Outer,
    Parameter,
    Row,
    Subquery,
    Value,
)
from murmur.sql.rewrites import Bound, Member, is_atom, listed, ranged, refers_to_variable, uncast

Evaluator: TypeAlias = Callable[[Row, Context], Value]
Predicate: TypeAlias = Callable[[Row, Context], bool | None]  # True only when TRUE
Projection: TypeAlias = Callable[[Row, Context], tuple[Value, ...]]
Pipeline: TypeAlias = Callable[[Iterable[Row], Context], Iterator[tuple[Value, ...]]]

SPILL = 24  # levels of a tree in one Python expression, at least 2
_BRANCHES = 40  # of CASE or COALESCE in one Python expression


def compile_expression(expr: Expr) -> Evaluator:
    """The value of the expression for a row."""
    source = Source()
    evaluator: Evaluator = source.build(f"return {source.value(expr)}")
    return evaluator


def compile_predicate(expr: Expr) -> Predicate:
    """True if the condition is TRUE for a row; False or None if it is FALSE or NULL."""
    source = Source()
    predicate: Predicate = source.build(f"return {source.true(expr)}")
    return predicate


def compile_projection(exprs: Sequence[Expr]) -> Projection:
    """The values of several expressions for a row, as a tuple."""
    source = Source()
    projection: Projection = source.build(f"return {source.row_of(exprs)}")
    return projection


def compile_pipeline(predicate: Expr | None, outputs: Sequence[Expr] | None) -> Pipeline:
    """Filter and project many rows in one loop, lazily.

    Without a predicate every row passes, without outputs the rows come out as they are.
    """
    source = Source()
    condition = "" if predicate is None else f"if {source.true(predicate)}: "
    item = "row" if outputs is None else source.row_of(outputs)
    loop = f"for row in rows:\n        {condition}yield {item}"
    pipeline: Pipeline = source.build(loop, argument="rows")
    return pipeline


SubqueryValue: TypeAlias = Callable[[tuple[Value, ...], tuple[Value, ...], Context], Value]
_subquery_compilers: list[Callable[[Subquery], SubqueryValue]] = []


def compiles_subqueries(compiler: Callable[[Subquery], SubqueryValue]) -> None:
    """Say who compiles the plans inside of expressions: that stands above this file."""
    _subquery_compilers[:] = [compiler]


def _subquery(expr: Subquery) -> SubqueryValue:
    (compiler,) = _subquery_compilers
    return compiler(expr)


class Source(Operators):
    """The source of one function: expressions over a row."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def row_of(self, exprs: Sequence[Expr]) -> str:
        """A tuple of values."""
        return "(" + "".join(f"{self.value(expr)}, " for expr in exprs) + ")"

    # The three translations ----------------------------------------------------------------------

    def value(self, expr: Expr) -> str:
        """The value, or None for NULL."""
        return self._nested(expr, self._value, compile_expression)

    def true(self, expr: Expr) -> str:
        """Truthy exactly when the condition is TRUE."""
        return self._nested(expr, self._true, compile_predicate)

    def false(self, expr: Expr) -> str:
        """Truthy exactly when the condition is FALSE."""
        return self._nested(expr, self._false, lambda e: compile_predicate(Not(e)))

    def _nested(
        self, expr: Expr, translate: Callable[[Expr], str], spill: Callable[[Expr], Any]
    ) -> str:
        if self._depth >= SPILL and not is_atom(expr) and not refers_to_variable(expr):
            return f"{self.constant(spill(expr))}(row, context)"
        self._depth += 1
        try:
            return translate(expr)
        finally:
            self._depth -= 1

    def _value(self, expr: Expr) -> str:
        match expr:
            case Literal(value, _):
                return "None" if value is None else self.constant(value)
            case Parameter(index, _):
                self._parameters.add(index)
                return f"p{index}"
            case Column(index):
                return f"row[{index}]"
            case Outer(slot):
                self._outer.add(slot)
                return f"o{slot}"
            case Subquery(arguments=arguments, operands=operands):
                answer = self.constant(_subquery(expr))
                return f"{answer}({self.row_of(arguments)}, {self.row_of(operands)}, context)"
            case Bound(name):
                return name
            case Member(operand, values):
                return f"({operand.name} in {self.constant(values)})"
            case IsNull() | IsDistinct() | IsTruth():
                return self._true(expr)  # these are never NULL, and yield True or False
            case Not(operand):
                return self._strict([operand], lambda name: f"not {name}")
            case And(operands):
                return self._chain(operands, "False", "True")
            case Or(operands):
                return self._chain(operands, "True", "False")
            case Compare(op, left, right):
                return self._strict(
                    uncast(left, right), lambda a, b: self._comparison(expr, op, a, b)
                )
            case Between() | In():
                return self._with_operand(expr, self.value, null="None")
            case Like():
                return self._strict(_like_operands(expr), self._like(expr))
            case Arithmetic(_, left, right):
                return self._strict(uncast(left, right), self._arithmetic(expr))
            case Negate(operand, sql_type):
                return self._strict([operand], self._negation(sql_type))
            case Concat(operands, sql_type):
                return self._strict(operands, self._concatenation(sql_type))
            case Case(branches, otherwise):
                return self._case(branches, otherwise)
            case Coalesce(operands):
                return self._coalesce(operands)
            case NullIf(left, right):
                return self._null_if(left, right)
            case Extreme(greatest, operands, sql_type):
                choose = self.constant(_extreme(greatest=greatest, sql_type=sql_type))
                return f"{choose}({', '.join(self.value(operand) for operand in operands)})"
            case Cast(operand, sql_type):
                assert sql_type is not None
                return self._cast(operand, sql_type)
            case Call():
                return self._call(expr)
        raise AssertionError(f"no translation for {type(expr).__name__}")

    def _true(self, expr: Expr) -> str:
        match expr:
            case Literal(value, _):
                return "True" if value is True else "False"
            case Not(operand):
                return self.false(operand)
            case And(operands):
                return self._join(" and ", map(self.true, operands))
            case Or(operands):
                return self._join(" or ", map(self.true, operands))
            case IsNull(operand, negated):
                return f"(({self.value(operand)}) is {'not ' if negated else ''}None)"
            case IsTruth(operand, truth, negated):
                return f"(({self.value(operand)}) is {'not ' if negated else ''}{truth})"
            case IsDistinct():
                return self._distinct(expr)
            case Compare(op, left, right):
                return self._holds(
                    uncast(left, right), lambda a, b: self._comparison(expr, op, a, b)
                )
            case Between() | In():
                return self._with_operand(expr, self.true, null="False")
            case Like():
                return self._holds(_like_operands(expr), self._like(expr))
        return self._value(expr)  # None and False are falsy, True is not

    def _false(self, expr: Expr) -> str:
        match expr:
            case Literal(value, _):
                return "True" if value is False else "False"
            case Not(operand):
                return self.true(operand)
            case And(operands):
                return self._join(" or ", map(self.false, operands))
            case Or(operands):
                return self._join(" and ", map(self.false, operands))
            case IsNull() | IsDistinct() | IsTruth():
                return f"(not {self._true(expr)})"
            case Compare(op, left, right):
                return self._holds(
                    uncast(left, right), lambda a, b: f"not {self._comparison(expr, op, a, b)}"
                )
            case Between() | In():
                return self._with_operand(expr, self.false, null="False")
            case Like():
                matches = self._like(expr)
                return self._holds(_like_operands(expr), lambda *names: f"not {matches(*names)}")
        return f"(({self._value(expr)}) is False)"

    def _join(self, word: str, parts: Iterable[str]) -> str:
        return f"({word.join(parts)})"

    # NULL in, NULL out ---------------------------------------------------------------------------

    def _strict(self, operands: Sequence[Expr], body: Callable[..., str]) -> str:
        """body(names of the operands' values), or None if one of them is NULL."""
        names, nulls = self._guarded(operands, " is None")
        if nulls is None:
            return "None"
        result = body(*names)
        return f"(None if {' or '.join(nulls)} else {result})" if nulls else f"({result})"

    def _holds(self, operands: Sequence[Expr], body: Callable[..., str]) -> str:
        """Whether body is truthy and no operand is NULL."""
        names, present = self._guarded(operands, " is not None")
        if present is None:
            return "False"
        return f"({' and '.join([*present, body(*names)])})"

    def _guarded(self, operands: Sequence[Expr], test: str) -> tuple[list[str], list[str] | None]:
        """Names for the values of operands, and the tests that assign and compare them with NULL.

        A non-atomic operand gets its variable even if it is never NULL: the body may repeat it.
        The tests are None when an operand is always NULL.
        """
        names: list[str] = []
        tests: list[str] = []
        for operand in operands:
            if isinstance(operand, Literal) and operand.value is None:
                return names, None
            if is_atom(operand):
                name = self.value(operand)
                if isinstance(operand, Parameter | Outer):
                    tests.append(name + test)
            else:
                name = self.temporary()
                tests.append(f"({name} := {self.value(operand)}){test}")
            names.append(name)
        return names, tests

    # Logic ---------------------------------------------------------------------------------------

    def _chain(self, operands: Sequence[Expr], decides: str, otherwise: str) -> str:
        """AND (decided by False) and OR (decided by True) as a value."""
        decided, unknown = [], []
        for operand in operands:
            name = self.temporary()
            decided.append(f"({name} := {self.value(operand)}) is {decides}")
            unknown.append(f"{name} is None")
        return (
            f"({decides} if {' or '.join(decided)} else "
            f"None if {' or '.join(unknown)} else {otherwise})"
        )

    def _with_operand(self, expr: Expr, translate: Callable[[Expr], str], *, null: str) -> str:
        """BETWEEN and IN as the comparisons that they stand for, over an operand held in a name."""
        assert isinstance(expr, Between | In)
        operand = expr.operand
        if isinstance(operand, Literal) and operand.value is None:
            return null
        if is_atom(operand):
            name = self.value(operand)
            test = f"{name} is None" if isinstance(operand, Parameter | Outer) else ""
        else:
            name = self.temporary()
            test = f"({name} := {self.value(operand)}) is None"
        bound = Bound(name, operand.type)
        condition = ranged(expr, bound) if isinstance(expr, Between) else listed(expr, bound)
        inner = translate(Not(condition) if expr.negated else condition)
        return f"({null} if {test} else {inner})" if test else inner

    def _case(self, branches: Sequence[tuple[Expr, Expr]], otherwise: Expr | None) -> str:
        now, later = branches[:_BRANCHES], branches[_BRANCHES:]
        parts = [f"{self.value(result)} if {self.true(condition)}" for condition, result in now]
        if later:
            rest = compile_expression(Case(tuple(later), otherwise, None))
            last = f"{self.constant(rest)}(row, context)"
        else:
            last = "None" if otherwise is None else self.value(otherwise)
        return f"({' else '.join([*parts, last])})"

    def _coalesce(self, operands: Sequence[Expr]) -> str:
        now, later = operands[:_BRANCHES], operands[_BRANCHES:]
        parts = []
        for operand in now:
            name = self.temporary()
            parts.append(f"{name} if ({name} := {self.value(operand)}) is not None")
        last = "None"
        if later:
            rest = compile_expression(Coalesce(tuple(later), None))
            last = f"{self.constant(rest)}(row, context)"
        return f"({' else '.join([*parts, last])})"

    def _null_if(self, left: Expr, right: Expr) -> str:
        name = self.temporary()
        bound = Bound(name, left.type)
        equal = self.true(Compare("=", bound, right))
        return f"(None if ({name} := {self.value(left)}) is None or {equal} else {name})"

    # Comparison ----------------------------------------------------------------------------------

    def _comparison(self, expr: Compare, op: Comparison, left: str, right: str) -> str:
        """A comparison of two values that are not NULL; the result is a bool."""
        sql_type = expr.left.type or expr.right.type
        if sql_type is None:
            compare = self.constant(_untyped_comparison(op))
            return f"{compare}({left}, {right}, context)"
        if not sql_type.is_float:
            return f"{left} {PYTHON[op]} {right}"
        return self._float_comparison(expr, op, left, right)

    def _distinct(self, expr: IsDistinct) -> str:
        left, right = self.temporary(), self.temporary()
        compare = Compare("<>", Bound(left, expr.left.type), Bound(right, expr.right.type))
        different = (
            f"({left} is not {right} if (({left} := {self.value(expr.left)}) is None) | "
            f"(({right} := {self.value(expr.right)}) is None) "
            f"else {self._comparison(compare, '<>', left, right)})"
        )
        return f"(not {different})" if expr.negated else different

    # Numbers, dates ------------------------------------------------------------------------------

    def _arithmetic(self, expr: Arithmetic) -> Callable[[str, str], str]:
        if expr.type is not None:
            return self._typed_arithmetic(expr)
        compute = self.constant(_untyped_arithmetic(expr.op))
        return lambda a, b: f"{compute}({a}, {b}, context)"

    def _negation(self, sql_type: SqlType | None) -> Callable[[str], str]:
        if sql_type is not None:
            return self._typed_negation(sql_type)
        negate = self.constant(_untyped_negation)
        return lambda a: f"{negate}({a}, context)"

    # Casts and calls -----------------------------------------------------------------------------

    def _cast(self, operand: Expr, target: SqlType) -> str:
        if operand.type is None:
            dynamic, same = self.constant(cast_value), self.constant(target)
            return self._strict([operand], lambda a: f"{dynamic}({a}, {same})")
        cast = caster(operand.type, target)
        if cast is None:
            return self.value(operand)
        name = self.constant(cast)
        return self._strict([operand], lambda a: f"{name}({a})")

    def _call(self, expr: Call) -> str:
        name = self.constant(expr.function.call)
        first = ["context"] if expr.function.takes_context else []
        if not expr.function.strict:
            arguments = [*first, *map(self.value, expr.arguments)]
            return f"{name}({', '.join(arguments)})"
        return self._strict(expr.arguments, lambda *names: f"{name}({', '.join([*first, *names])})")


def _like_operands(expr: Like) -> list[Expr]:
    operands = [expr.operand, expr.pattern]
    return operands if expr.escape is None else [*operands, expr.escape]


def _extreme(*, greatest: bool, sql_type: SqlType | None) -> Callable[..., Value]:
    """GREATEST or LEAST of values of which some are NULL."""
    op: Comparison = ">" if greatest else "<"
    left, right = Column(0, "", sql_type), Column(1, "", sql_type)
    is_better = compile_expression(Compare(op, left, right))
    context = Context()

    def choose(*values: Value) -> Value:
        best = None
        for value in values:
            if value is not None and (best is None or is_better((value, best), context)):
                best = value
        return best

    return choose


# Operands without a type: that of the value decides, as soon as there is one ----------------------


def _untyped_comparison(op: Comparison) -> Callable[[Value, Value, Context], Value]:
    return _untyped(lambda left, right: operators.compare(op, left, right))


def _untyped_arithmetic(op: Operation) -> Callable[[Value, Value, Context], Value]:
    return _untyped(lambda left, right: operators.arithmetic(op, left, right))


def _untyped(bind: Callable[[Expr, Expr], Expr]) -> Callable[[Value, Value, Context], Value]:
    @lru_cache(maxsize=64)
    def evaluator(left: SqlType, right: SqlType) -> Evaluator:
        return compile_expression(bind(Column(0, "", left), Column(1, "", right)))

    def evaluate(left: Value, right: Value, context: Context) -> Value:
        return evaluator(type_of_value(left), type_of_value(right))((left, right), context)

    return evaluate


def _untyped_negation(value: Value, context: Context) -> Value:
    operand = Column(0, "", type_of_value(value))
    return compile_expression(operators.negate(operand))((value,), context)
