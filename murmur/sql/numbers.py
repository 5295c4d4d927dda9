"""Arithmetic as PostgreSQL does it: checked integers, exact decimals, floats that do not overflow.

    -7 / 2              ->  -3            integers truncate toward zero
    -7 % 2              ->  -1            the sign of the dividend
    1.0 / 3             ->  0.33333333333333333333
    1e308 * 10          ->  DataError     DOUBLE out of range
    1 / 0               ->  DataError     division by zero

DECIMAL results have the digits after the point that PostgreSQL's NUMERIC gives them: of a sum the
longer of the two, of a product both together, of a quotient or a root enough for 16 significant
digits. The source is its numeric.c (select_div_scale and the functions after it).
"""

from __future__ import annotations

import decimal
import math
import struct
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Any, NoReturn

from murmur.errors import DataError

# Exact arithmetic up to PostgreSQL's 131,072 digits before the point and 16,383 after it. Only the
# methods of this context are used, never the thread's current one, which rounds to 28 digits.
EXACT = decimal.Context(
    prec=150_000,
    rounding=ROUND_HALF_UP,
    Emin=-999_999,
    Emax=999_999,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
MAX_DIGITS = 131_072

_MIN_DIGITS = 16  # significant digits of a quotient, at the least
_MAX_SCALE = 1000


def out_of_range(what: object) -> NoReturn:
    """The error of every number that its type cannot hold."""
    raise DataError(f"{what} out of range")


def round_real(value: float) -> float:
    """The nearest 32-bit float."""
    if value - value != 0.0:  # NaN and the infinities
        return value
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        out_of_range("REAL")
    if rounded == 0.0 and value != 0.0:
        out_of_range("REAL")
    return rounded


_SINGLE = struct.Struct("<f")


def plain_decimal(value: Decimal) -> Decimal:
    """Without a positive exponent: 1E+2 becomes 100. NUMERIC has no negative scale, and no -0."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent > 0:
        value = EXACT.quantize(value, Decimal(1))
    return value or abs(value)


def round_decimal(value: Decimal, scale: int) -> Decimal:
    """Round half away from zero to so many digits after the point; a negative scale before it."""
    rounded = EXACT.quantize(value, Decimal((0, (1,), -scale)))
    if scale < 0:  # quantize leaves 1E+2; a NUMERIC has no negative scale
        rounded = EXACT.quantize(rounded, Decimal(1))
    return rounded or abs(rounded)


def check_decimal(value: Decimal) -> Decimal:
    """The value, if PostgreSQL's NUMERIC could hold it."""
    if value and value.adjusted() >= MAX_DIGITS:
        out_of_range("DECIMAL")
    return value


def division_by_zero() -> NoReturn:
    """The error of /, %, div and mod."""
    raise DataError("division by zero")


# Integers ----------------------------------------------------------------------------------------


def divide_integers(left: int, right: int) -> int:
    """Truncate toward zero."""
    if right == 0:
        division_by_zero()
    quotient = abs(left) // abs(right)
    return quotient if (left >= 0) == (right > 0) else -quotient


def modulo_integers(left: int, right: int) -> int:
    """The rest of that division."""
    if right == 0:
        division_by_zero()
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


# Floats ------------------------------------------------------------------------------------------


def checked_float(left: float, right: float, result: float) -> float:
    """A sum, difference or product; out of range if it is infinite and no operand was."""
    if math.isinf(result) and not (math.isinf(left) or math.isinf(right)):
        out_of_range("DOUBLE")
    return result


def multiply_floats(left: float, right: float) -> float:
    """left * right."""
    result = left * right
    if result == 0.0:
        if left != 0.0 and right != 0.0:
            out_of_range("DOUBLE")
        return result
    return checked_float(left, right, result)


def divide_floats(left: float, right: float) -> float:
    """left / right."""
    if right == 0.0:
        if left != left:
            return left
        division_by_zero()
    result = left / right
    if result == 0.0 and left != 0.0 and not math.isinf(right):
        out_of_range("DOUBLE")
    return checked_float(left, right, result)


def power_floats(base: float, exponent: float) -> float:
    """base ^ exponent."""
    if base == 0.0 and exponent < 0.0:
        raise DataError("zero raised to a negative power is undefined")
    if base < 0.0 and math.isfinite(exponent) and exponent != math.floor(exponent):
        raise DataError("a negative number raised to a fraction is not a real number")
    try:
        result = math.pow(base, exponent)
    except (OverflowError, ValueError):
        out_of_range("DOUBLE")
    if result == 0.0 and base != 0.0 and math.isfinite(exponent) and math.isfinite(base):
        out_of_range("DOUBLE")
    return result


def cube_root(value: float) -> float:
    """The cube root, exact where it is whole: not every C library's cbrt is."""
    root = math.cbrt(value)
    if root - root != 0.0:
        return root
    near = float(round(root))
    return near if near * near * near == value else root


def round_float(value: float, digits: int) -> float:
    """Round a float to digits after the point, ties away from zero, as DuckDB does."""
    if value - value != 0.0 or digits > 307:
        return value
    if digits < -308:
        return 0.0
    factor = 10.0 ** abs(digits)
    scaled = value * factor if digits >= 0 else value / factor
    if math.isinf(scaled):
        return value
    rounded = math.copysign(math.floor(abs(scaled) + 0.5), scaled)
    if abs(scaled) >= 2.0**52:
        rounded = scaled  # it is whole already
    return rounded / factor if digits >= 0 else rounded * factor


# Decimals ----------------------------------------------------------------------------------------


def _scale(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent


def _positive_zero(value: Decimal) -> Decimal:
    return value or abs(value)


def add_decimals(left: Any, right: Any) -> Decimal:
    """left + right; either may be an int."""
    return _positive_zero(check_decimal(EXACT.add(left, right)))


def subtract_decimals(left: Any, right: Any) -> Decimal:
    """left - right."""
    return _positive_zero(check_decimal(EXACT.subtract(left, right)))


def multiply_decimals(left: Any, right: Any) -> Decimal:
    """left * right."""
    product = _positive_zero(check_decimal(EXACT.multiply(left, right)))
    return product if _scale(product) <= 16_383 else round_decimal(product, 16_383)


def divide_decimals(left: Any, right: Any) -> Decimal:
    """left / right."""
    left, right = Decimal(left), Decimal(right)
    if not right:
        division_by_zero()
    scale = _quotient_scale(left, right)
    return _divided(left, right, scale)


def _divided(left: Decimal, right: Decimal, scale: int, rounding: str = ROUND_HALF_UP) -> Decimal:
    """The quotient with so many digits after the point, rounded once."""
    # All digits before the point, those after it, and one more tells which way to round;
    # ROUND_05UP makes that digit remember what was cut off after it.
    digits = max(1, left.adjusted() - right.adjusted() + 1) + scale + 2
    if digits > 150_000:
        out_of_range("DECIMAL")
    wide = decimal.Context(prec=digits, rounding=decimal.ROUND_05UP, Emin=-999_999, Emax=999_999)
    quotient = wide.divide(left, right)
    unit = Decimal((0, (1,), -scale))
    return _positive_zero(check_decimal(quotient.quantize(unit, rounding, EXACT)))


def _base_10000(value: Decimal) -> tuple[int, int]:
    """Weight and value of the first digit of PostgreSQL's base-10,000 representation."""
    if not value:
        return 0, 0
    weight = value.adjusted() // 4
    return weight, int(abs(value).scaleb(-4 * weight, EXACT))


def _quotient_scale(left: Decimal, right: Decimal) -> int:
    (left_weight, left_first), (right_weight, right_first) = _base_10000(left), _base_10000(right)
    weight = left_weight - right_weight - (left_first <= right_first)
    scale = max(_MIN_DIGITS - weight * 4, _scale(left), _scale(right))
    return min(max(scale, 0), _MAX_SCALE)


def modulo_decimals(left: Any, right: Any) -> Decimal:
    """The rest of the truncated division: the sign is the dividend's."""
    if not right:
        division_by_zero()
    rest = EXACT.remainder(left, right)
    scale = max(_scale(Decimal(left)), _scale(Decimal(right)))
    return _positive_zero(round_decimal(rest, scale))


def whole_quotient(left: Decimal, right: Decimal) -> Decimal:
    """div(left, right): truncated toward zero."""
    if not right:
        division_by_zero()
    return _positive_zero(check_decimal(EXACT.divide_int(left, right)))


def truncate_decimal(value: Decimal, scale: int = 0) -> Decimal:
    """Cut off the digits after that place."""
    scale = max(min(scale, _MAX_SCALE), -MAX_DIGITS)
    rounded = value.quantize(Decimal((0, (1,), -scale)), decimal.ROUND_DOWN, EXACT)
    return _positive_zero(EXACT.quantize(rounded, Decimal(1)) if scale < 0 else rounded)


def round_decimal_to(value: Decimal, scale: int) -> Decimal:
    """round(decimal, digits): half away from zero."""
    return check_decimal(round_decimal(value, max(min(scale, _MAX_SCALE), -MAX_DIGITS)))


def ceil_decimal(value: Decimal) -> Decimal:
    """The smallest whole number that is not below."""
    return _positive_zero(value.to_integral_value(ROUND_CEILING))


def floor_decimal(value: Decimal) -> Decimal:
    """The largest whole number that is not above."""
    return _positive_zero(value.to_integral_value(ROUND_FLOOR))


def _rounded(value: Decimal, scale: int) -> Decimal:
    return check_decimal(round_decimal(value, min(max(scale, 0), _MAX_SCALE)))


def sqrt_decimal(value: Decimal) -> Decimal:
    """The square root."""
    if value < 0:
        raise DataError("the square root of a negative number is not a real number")
    weight, _ = _base_10000(value)
    scale = max(_MIN_DIGITS - (weight + 1) * 2 + 1, _scale(value), 0)
    context = decimal.Context(prec=max(value.adjusted(), 0) // 2 + scale + 10)
    return _rounded(value.sqrt(context), scale)


def exp_decimal(value: Decimal) -> Decimal:
    """e to that power."""
    magnitude = float(value) * 0.434294481903252
    if magnitude > MAX_DIGITS:
        out_of_range("DECIMAL")
    scale = min(max(_MIN_DIGITS - int(magnitude), _scale(value), 0), _MAX_SCALE)
    context = decimal.Context(prec=max(int(magnitude), 0) + scale + 10, Emin=-999_999, Emax=999_999)
    return _rounded(value.exp(context), scale)


def ln_decimal(value: Decimal) -> Decimal:
    """The natural logarithm."""
    if value <= 0:
        raise DataError("a logarithm needs a number above zero")
    context = decimal.Context(prec=_MAX_SCALE // 4)
    rough = abs(float(value.ln(decimal.Context(prec=20))))
    weight = math.log10(rough) if rough else 0.0
    near_one = Decimal("0.9") <= value <= Decimal("1.1")
    weight = math.floor(weight) if near_one else int(weight)
    return _rounded(value.ln(context), max(_MIN_DIGITS - weight, _scale(value)))


def log_decimal(base: Decimal, value: Decimal) -> Decimal:
    """The logarithm to a base."""
    if value <= 0 or base <= 0:
        raise DataError("a logarithm needs a number above zero")
    if base == 1:
        division_by_zero()
    context = decimal.Context(prec=100)
    result = context.divide(value.ln(context), base.ln(context))
    weight = math.floor(math.log10(abs(result))) if result else 0
    return _rounded(result, max(_MIN_DIGITS - weight, _scale(base), _scale(value)))


def power_decimals(base: Decimal, exponent: Decimal) -> Decimal:
    """base ^ exponent."""
    if not base:
        if exponent < 0:
            raise DataError("zero raised to a negative power is undefined")
        return Decimal("1.0000000000000000") if not exponent else Decimal("0.0000000000000000")
    whole = exponent == exponent.to_integral_value()
    if base < 0 and not whole:
        raise DataError("a negative number raised to a fraction is not a real number")
    magnitude = float(abs(base).ln(decimal.Context(prec=20)) * exponent) * 0.434294481903252
    if magnitude > MAX_DIGITS:
        out_of_range("DECIMAL")
    scale = max(_MIN_DIGITS, _scale(base))
    if not whole:
        scale = max(_MIN_DIGITS - int(magnitude), _scale(base), _scale(exponent))
    scale = min(scale, _MAX_SCALE)
    prec = max(int(magnitude), 0) + scale + 20
    context = decimal.Context(prec=prec, Emin=-999_999, Emax=999_999)
    return _rounded(context.power(base, exponent), scale)


# What the compiler calls -------------------------------------------------------------------------

FLOAT_OPERATIONS: dict[str, Callable[[float, float], float]] = {
    "+": lambda left, right: checked_float(left, right, left + right),
    "-": lambda left, right: checked_float(left, right, left - right),
    "*": multiply_floats,
    "/": divide_floats,
}
DECIMAL_OPERATIONS: dict[str, Callable[[Any, Any], Decimal]] = {
    "+": add_decimals,
    "-": subtract_decimals,
    "*": multiply_decimals,
    "/": divide_decimals,
    "%": modulo_decimals,
}
