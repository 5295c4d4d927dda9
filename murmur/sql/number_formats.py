"""to_char() and to_number() of numbers, by PostgreSQL's patterns.

    1234.5  '9,999.99'   ' 1,234.50'        9  a digit, blank where it leads as a zero
    -12     '000S'       '012-'             0  a digit, always
    0.1     'FM9.99'     '.1'               .  D  the point;  ,  G  between groups
    4       'RN'         '             IV'  S  MI  PL  SG  PR  the sign;  FM  without padding
    485     '999th'      ' 485th'           V  shifts;  EEEE  with an exponent;  TH  an ordinal

What is no pattern stands for itself, as does what is in double quotes. The steps are those of
PostgreSQL's formatting.c, whose corner cases are documented nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from functools import lru_cache

from murmur.errors import DataError, InvalidInput

_TOKEN = re.compile(
    r'"((?:[^"\\]|\\.)*)"?|(FM|EEEE|TH|PR|MI|PL|SG|RN|[09.,DGSVL])|(.)', re.IGNORECASE | re.DOTALL
)
_SAME = {"D": ".", "G": ","}
_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L")),
    *((40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
_ROMAN_WIDTH = 15


@dataclass(slots=True)
class _Format:
    """A pattern taken apart: its tokens ("" before a literal text), and what follows from them."""

    tokens: list[tuple[str, str]]
    before: int = 0  # digits before the point
    after: int = 0
    shift: int = 0  # V
    zero_start: int = -1  # the first 0, counted in digits; -1: there is none
    zero_end: int = 0
    point: bool = False
    fill: bool = False  # FM
    sign: str = ""  # "before" or "after" the number, for S
    angles: bool = False  # PR
    minus: bool = False  # MI or SG
    plus: bool = False  # PL or SG
    roman: str = ""  # RN or rn
    exponent: bool = False


@lru_cache(maxsize=256)
def _format(text: str) -> _Format:
    tokens: list[tuple[str, str]] = []
    form = _Format(tokens)
    sign_at = -1
    for found in _TOKEN.finditer(text):
        quoted, word, other = found.groups()
        if word is None:
            tokens.append(("", other or re.sub(r"\\(.)", r"\1", quoted or "")))
            continue
        kind = _SAME.get(word.upper(), word.upper())
        tokens.append((kind, word))
        match kind:
            case "9" | "0":
                if kind == "0" and not form.point and form.zero_start < 0:
                    form.zero_start = form.before
                if form.shift or any(each == "V" for each, _ in tokens):
                    form.shift += 1
                    form.before += 1
                elif form.point:
                    form.after += 1
                else:
                    form.before += 1
                if kind == "0":
                    form.zero_end = form.before + form.after
            case ".":
                if form.point:
                    raise InvalidInput("a number's pattern has one decimal point")
                form.point = True
            case "FM":
                form.fill = True
            case "S":
                if form.sign or form.minus or form.plus or form.angles:
                    raise InvalidInput("S does not go with another sign in a number's pattern")
                form.sign = "after" if form.point else "before"
                sign_at = form.before
            case "MI" | "PL" | "SG" if form.sign:
                raise InvalidInput("S does not go with another sign in a number's pattern")
            case "MI" | "PL" | "SG":
                form.minus = form.minus or kind != "PL"
                form.plus = form.plus or kind != "MI"
            case "PR":
                form.angles = True
            case "RN":
                form.roman = word
            case "EEEE":
                form.exponent = True
            case "L":
                tokens[-1] = ("", " ")  # there is no currency
    if form.sign == "before" and sign_at == form.before:
        form.sign = "after"
    return form


def number_to_char(value: Decimal | float, text: str) -> str:
    """The number in this pattern; `#` for digits that do not fit."""
    form = _format(text)
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    if form.roman:
        return _roman(number, form)
    if not number.is_finite():
        special = "NaN" if number.is_nan() else "Infinity"
        return special if form.fill else special.rjust(form.before + form.after + 1)
    if form.exponent:
        shown = f"{number:.{form.after}e}"
        mantissa, _, power = shown.partition("e")
        shown = f"{mantissa}e{power[0]}{power[1:].rjust(2, '0')}"
        return shown if shown[0] == "-" or form.fill else f" {shown}"
    with localcontext() as context:
        context.prec = 200
        number = number.scaleb(form.shift).quantize(
            Decimal(1).scaleb(-form.after), rounding=ROUND_HALF_UP
        )
        digits = format(abs(number), "f")
    sign = "-" if number < 0 else "+"
    if "." not in digits and form.point:
        digits += "."
    return _Writer(form, digits, sign).write()


class _Writer:
    """Writes one number token by token."""

    def __init__(self, form: _Format, digits: str, sign: str) -> None:
        self._form = form
        self._sign = sign
        before = len(digits.partition(".")[0])
        self._spaces = max(0, form.before - before)
        if before > form.before:
            digits = "#" * form.before + ("." + "#" * form.after if form.point else "")
        self._digits = digits
        self._at = 0  # in the digits
        self._count = 0  # digits and points of the pattern so far
        self._relevant = self._last_relevant() if form.fill and form.point else -1
        self._begun = False
        self._signed = self._needs_no_sign()
        self._angles = form.angles and not (form.fill and sign == "+")
        self._size = form.after + form.before - 1
        if not self._signed and self._spaces == 0:
            self._size += 1

    def _needs_no_sign(self) -> bool:
        form = self._form
        if form.minus or form.plus:
            return form.minus or self._sign == "+"
        return self._sign == "+" and form.fill and not form.sign

    def _last_relevant(self) -> int:
        """Where the digits end that FM keeps: zeros behind them go, those of a 0 stay."""
        point = self._digits.index(".")
        last = max(
            (i for i, each in enumerate(self._digits) if i > point and each != "0"), default=point
        )
        if self._form.zero_end > self._spaces:
            kept = min(len(self._digits) - 1, self._form.zero_end - self._spaces)
            last = max(last, kept)
        return last

    def write(self) -> str:
        form, out = self._form, []
        for kind, text in form.tokens:
            match kind:
                case "":
                    out.append(text)
                case "9" | "0" | ".":
                    out.append(self._digit(kind))
                case ",":
                    out.append("," if self._begun else "" if form.fill else " ")
                case "MI":
                    out.append("-" if self._sign == "-" else "" if form.fill else " ")
                case "PL":
                    out.append("+" if self._sign == "+" else "" if form.fill else " ")
                case "SG":
                    out.append(self._sign)
                case "TH" if self._sign == "+":
                    whole = self._digits.partition(".")[0]
                    ending = ordinal(whole)
                    out.append(ending.upper() if text == "TH" else ending)
        return "".join(out)

    def _digit(self, kind: str) -> str:
        form, out = self._form, ""
        zeros = form.zero_start >= 0
        only_point = self._relevant >= 0 and self._digits[self._relevant] == "."
        # A zero before the point is left out unless a 0 asks for it.
        hidden = not zeros and self._at == 0 and self._digits[:1] == "0" and form.after != 0
        reached = self._count >= self._spaces or (zeros and form.zero_start == self._count)
        if not self._signed and reached and (not hidden or only_point):
            if form.sign:
                if form.sign == "before":
                    out += self._sign
                    self._signed = True
            elif self._angles:
                out += " " if self._sign == "+" else "<"
                self._signed = True
            else:
                out += "-" if self._sign == "-" else "" if form.fill else " "
                self._signed = True
        if self._count < self._spaces and (form.zero_start > self._count or not zeros):
            out += "" if form.fill else " "
        elif zeros and self._count < self._spaces:
            out += "0"
            self._begun = True
        else:
            out += self._next(kind, hidden=hidden, only_point=only_point)
            self._at += 1
        end = self._size + (self._spaces > 0) + form.point
        if self._relevant == self._at:
            end = self._count
        if self._count + 1 == end:
            if self._signed and self._angles:
                out += " " if self._sign == "+" else ">"
            elif form.sign == "after":
                out += self._sign
        self._count += 1
        return out

    def _next(self, kind: str, *, hidden: bool, only_point: bool) -> str:
        digit = self._digits[self._at : self._at + 1]
        if digit == ".":
            return "."
        if 0 <= self._relevant < self._at and kind != "0":
            return ""
        if hidden:
            return ("0" if only_point else "") if self._form.fill else " "
        self._begun = True
        return digit


def ordinal(digits: str) -> str:
    """What makes an ordinal of a number: st, nd, rd or th."""
    teen = digits[-2:-1] == "1" and len(digits) > 1
    return "th" if teen else {"1": "st", "2": "nd", "3": "rd"}.get(digits[-1:], "th")


def _roman(number: Decimal, form: _Format) -> str:
    if not number.is_finite() or not 1 <= (left := round(number)) <= 3999:
        return "#" * _ROMAN_WIDTH
    text = ""
    for value, letters in _ROMAN:
        text += letters * (left // value)
        left %= value
    text = text.lower() if form.roman == "rn" else text
    return text if form.fill else text.rjust(_ROMAN_WIDTH)


def char_to_number(text: str, pattern: str) -> Decimal:
    """The number that a text holds in this pattern."""
    form = _format(pattern)
    negative = "-" in text or (form.angles and "<" in text)
    digits = re.sub(r"[^0-9.]", "", text)
    if not form.point:
        digits = digits.replace(".", "")
    whole, _, fraction = digits.partition(".")
    whole = whole[: form.before] if form.before else whole
    fraction = fraction.replace(".", "")[: form.after]
    try:
        number = Decimal(f"{whole or '0'}.{fraction or '0'}").scaleb(-form.shift)
    except InvalidOperation:
        raise DataError(f'"{text}" is no number') from None
    if not (whole or fraction):
        raise DataError(f'invalid input syntax for type numeric: "{text}"')
    number = number if fraction or form.shift else number.to_integral_value()
    return -number if negative else number
