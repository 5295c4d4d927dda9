"""The source of a function: its names, and operators over values that are there.

    constant(out_of_range)   ->  "k3"           no text of a statement gets into the source: objects
    temporary()              ->  "t0"           are bound to numbered names
    a + b of INTEGERs        ->  "t0 if -2147483648 <= (t0 := a + b) <= 2147483647 else k3(k4)"

What is done about NULLs, and with operands of which no type is known, stands in compile.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from murmur.catalog.types import BLOB, SqlType, integer_bounds
from murmur.errors import DatabaseError, Unsupported
from murmur.sql import numbers, temporal
from murmur.sql.expressions import Arithmetic, Compare, Comparison, Expr, Like, Literal
from murmur.sql.numbers import out_of_range, round_real
from murmur.sql.texts import ESCAPE, like_matcher

_MAX = "1.7976931348623157e+308"  # the largest 64-bit float
PYTHON = {"=": "==", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


class Operators:
    """The source of one function, and the objects that its names stand for."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {}
        self._parameters: set[int] = set()
        self._outer: set[int] = set()
        self._temporaries = 0

    def build(self, body: str, *, argument: str = "row") -> Any:
        """Compile the function; its parameters are read once at its beginning."""
        head = "".join(f"    p{i} = parameters[{i}]\n" for i in sorted(self._parameters))
        if head:
            head = "    parameters = context.parameters\n" + head
        if self._outer:
            head += "    outer = context.outer\n"
            head += "".join(f"    o{slot} = outer[{slot}]\n" for slot in sorted(self._outer))
        text = f"def function({argument}, context):\n{head}    {body}\n"
        try:
            exec(compile(text, "<murmur expression>", "exec"), self._names)
        except RecursionError:
            raise Unsupported("the expression is nested too deeply") from None
        return self._names.pop("function")

    # Names ---------------------------------------------------------------------------------------

    def constant(self, value: object) -> str:
        """The name of an object."""
        name = f"k{len(self._names)}"
        self._names[name] = value
        return name

    def temporary(self) -> str:
        """A new variable."""
        self._temporaries += 1
        return f"t{self._temporaries - 1}"

    # Comparison -----------------------------------------------------------------------------------

    def _float_comparison(self, expr: Compare, op: Comparison, left: str, right: str) -> str:
        """NaN equals NaN and is above every other number."""
        a, b = _may_be_nan(expr.left), _may_be_nan(expr.right)
        left_nan, right_nan = f"{left} != {left}", f"{right} != {right}"
        plain = f"{left} {PYTHON[op]} {right}"
        match op:
            case "=":
                return f"({plain} or ({left_nan} and {right_nan}))" if a and b else f"({plain})"
            case "<>":
                both = f"({plain} and not ({left_nan} and {right_nan}))"
                return both if a and b else f"({plain})"
            case ">=":
                return f"({plain} or {left_nan})" if a else f"({plain})"
            case "<=":
                return f"({plain} or {right_nan})" if b else f"({plain})"
            case ">":
                if not a:
                    return f"({plain})"
                return f"({plain} or ({left_nan} and {right} == {right}))"
            case "<":
                if not b:
                    return f"({plain})"
                return f"({plain} or ({right_nan} and {left} == {left}))"

    # Text ----------------------------------------------------------------------------------------

    def _like(self, expr: Like) -> Callable[..., str]:
        """A function of the operands' names; negation included."""
        prefix = "not " if expr.negated else ""
        pattern, escape = expr.pattern, expr.escape
        escape_value = escape.value if isinstance(escape, Literal) else None
        constant = escape is None or escape_value is not None
        if constant and isinstance(pattern, Literal) and pattern.value is not None:
            try:
                match = like_matcher(
                    pattern.value, ESCAPE if escape is None else escape_value, expr.insensitive
                )
            except DatabaseError:
                pass  # a bad pattern is an error of the row that meets it
            else:
                name = self.constant(match)
                return lambda text, *_: f"({prefix}{name}({text}))"
        matcher, insensitive = self.constant(like_matcher), expr.insensitive

        def matches(text: str, pattern: str, escape: str = repr(ESCAPE)) -> str:
            return f"({prefix}{matcher}({pattern}, {escape}, {insensitive})({text}))"

        return matches

    def _concatenation(self, sql_type: SqlType | None) -> Callable[..., str]:
        join = self.constant(b"".join if sql_type == BLOB else "".join)

        def joined(*names: str) -> str:
            # A sum of thousands would be a tree as deep.
            return " + ".join(names) if len(names) < 4 else f"{join}(({', '.join(names)}))"

        return joined

    # Numbers, dates ------------------------------------------------------------------------------

    def _typed_arithmetic(self, expr: Arithmetic) -> Callable[[str, str], str]:
        op, sql_type = expr.op, expr.type
        assert sql_type is not None
        if sql_type.is_integer and expr.left.type is not None and expr.left.type.is_integer:
            return self._integer_arithmetic(expr, sql_type)
        if sql_type.is_float:
            return self._float_arithmetic(op, sql_type)
        if sql_type.name == "DECIMAL":
            name = self.constant(numbers.DECIMAL_OPERATIONS[op])
            return lambda a, b: f"{name}({a}, {b})"
        assert expr.left.type is not None
        assert expr.right.type is not None
        call, swap = temporal.operation(op, expr.left.type, expr.right.type)
        name = self.constant(call)
        return lambda a, b: f"{name}({b}, {a})" if swap else f"{name}({a}, {b})"

    def _integer_arithmetic(self, expr: Arithmetic, sql_type: SqlType) -> Callable[[str, str], str]:
        op = expr.op
        low, high = integer_bounds(sql_type)
        overflow, same = self.constant(out_of_range), self.constant(sql_type)
        result = self.temporary()

        def checked(source: str) -> str:
            return f"{result} if {low} <= ({result} := {source}) <= {high} else {overflow}({same})"

        if op in ("+", "-", "*"):
            return lambda a, b: checked(f"{a} {op} {b}")
        divisor = expr.right.value if isinstance(expr.right, Literal) else None
        if (
            divisor is not None and divisor > 0
        ):  # Python rounds down, SQL toward zero: for left >= 0 that is the same
            word = "//" if op == "/" else "%"
            return lambda a, b: f"{a} {word} {b} if {a} >= 0 else -(-{a} {word} {b})"
        if op == "%":
            modulo = self.constant(numbers.modulo_integers)
            return lambda a, b: f"{modulo}({a}, {b})"
        divide = self.constant(numbers.divide_integers)
        return lambda a, b: checked(f"{divide}({a}, {b})")

    def _float_arithmetic(self, op: str, sql_type: SqlType) -> Callable[[str, str], str]:
        real = sql_type.name == "REAL"
        if op in ("+", "-") and not real:
            check, result = self.constant(numbers.checked_float), self.temporary()
            return lambda a, b: (
                f"{result} if -{_MAX} <= ({result} := {a} {op} {b}) <= {_MAX} "
                f"else {check}({a}, {b}, {result})"
            )
        compute = self.constant(numbers.FLOAT_OPERATIONS[op])
        if not real:
            return lambda a, b: f"{compute}({a}, {b})"
        rounded = self.constant(round_real)
        return lambda a, b: f"{rounded}({compute}({a}, {b}))"

    def _typed_negation(self, sql_type: SqlType) -> Callable[[str], str]:
        if sql_type.is_integer:
            low, _ = integer_bounds(sql_type)
            overflow, same = self.constant(out_of_range), self.constant(sql_type)
            return lambda a: f"-{a} if {a} != {low} else {overflow}({same})"
        if sql_type.name == "DECIMAL":
            negate = self.constant(numbers.subtract_decimals)
            return lambda a: f"{negate}(0, {a})"
        return lambda a: f"-{a}"


def _may_be_nan(expr: Expr) -> bool:
    return not isinstance(expr, Literal) or expr.value != expr.value
