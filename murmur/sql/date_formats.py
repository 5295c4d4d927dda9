"""to_char() of moments and spans, to_date() and to_timestamp() of texts, by PostgreSQL's patterns.

    2024-01-05 17:08:09   'DD Mon YYYY HH12:MI am'   '05 Jan 2024 05:08 pm'
                          'FMDay, FMDDth "of" FMMonth'   'Friday, 5th of January'

Patterns of numbers may be written in any letters; those of names say how the name is written:
MONTH, Month, month. FM before one leaves padding out, TH behind one makes an ordinal. What is no
pattern stands for itself, as does what is in double quotes.

When a text is read, blanks and signs of text and pattern match each other, and a number has as
many digits as its pattern, or fewer where no digit follows.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from murmur.catalog.types import Interval
from murmur.errors import DataError, InvalidInput
from murmur.sql.number_formats import ordinal

_MONTHS = tuple(calendar.month_name[1:])
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_KINDS = """
    HH24 HH12 HH MI SS MS US SSSSS SSSS FF1 FF2 FF3 FF4 FF5 FF6 AM PM A.M. P.M. Y,YYY YYYY YYY YY Y
    IYYY IYY IY I BC AD B.C. A.D. MONTH MON MM DAY DY DDD IDDD DD D ID W WW IW CC J Q RM TZH TZM TZ
    OF
"""
# By length, so that the longest matches.
_PATTERNS = sorted(_KINDS.split(), key=len, reverse=True)
_TOKEN = re.compile(
    r'"((?:[^"\\]|\\.)*)"?|(FM|fm)?(' + "|".join(map(re.escape, _PATTERNS)) + r")(TH|th)?|(.)",
    re.IGNORECASE | re.DOTALL,
)


class _Token:
    """A pattern in capitals and as it was written; or, without one, a text."""

    __slots__ = ("kind", "ordinal", "short", "text")

    def __init__(self, kind: str, text: str, *, short: bool = False, ordinal: str = "") -> None:
        self.kind, self.text, self.short, self.ordinal = kind, text, short, ordinal


@lru_cache(maxsize=256)
def _tokens(pattern: str) -> Sequence[_Token]:
    tokens = []
    for found in _TOKEN.finditer(pattern):
        quoted, short, kind, ending, other = found.groups()
        if kind is None:
            text = other if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            tokens.append(_Token("", text))
        else:
            tokens.append(_Token(kind.upper(), kind, short=bool(short), ordinal=ending or ""))
    return tokens


# Writing -----------------------------------------------------------------------------------------


def moment_to_char(moment: date | datetime, pattern: str) -> str:
    """A date or time in this pattern."""
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return "".join(
        token.text if not token.kind else _finished(_said(token, moment), token)
        for token in _tokens(pattern)
    )


def _finished(said: str | tuple[int, int], token: _Token) -> str:
    """A number with its zeros, unless FM is there, and the ending of an ordinal."""
    if isinstance(said, str):
        return said
    number, width = said
    text = str(abs(number)) if token.short else str(abs(number)).rjust(width, "0")
    text = f"-{text}" if number < 0 else text
    if token.ordinal:
        ending = ordinal(text)
        text += ending.upper() if token.ordinal == "TH" else ending
    return text


def _said(token: _Token, at: datetime) -> str | tuple[int, int]:
    """What a pattern shows of a moment: a text, or a number and its width."""
    kind, text = token.kind, token.text
    year, week, weekday = at.isocalendar()
    match kind:
        case "AM" | "PM" | "A.M." | "P.M.":
            return _meridian(at.hour, text)
        case "BC" | "AD" | "B.C." | "A.D.":
            era = "A.D." if "." in kind else "AD"
            return era.lower() if text.islower() else era
        case "MONTH" | "DAY":
            name = _MONTHS[at.month - 1] if kind == "MONTH" else _DAYS[weekday % 7]
            return _written(name, text) if token.short else _written(name, text).ljust(9)
        case "MON" | "DY":
            name = _MONTHS[at.month - 1] if kind == "MON" else _DAYS[weekday % 7]
            return _written(name[:3], text)
        case "RM":
            roman = _ROMAN[at.month - 1]
            roman = roman.lower() if text.islower() else roman
            return roman if token.short else roman.ljust(4)
        case "Y,YYY":
            return f"{at.year // 1000},{at.year % 1000:03}"
        case "TZ":
            return "" if at.tzinfo is None else "utc" if text.islower() else "UTC"
        case "OF" | "TZH":
            return "+00"
        case "TZM":
            return "00"
    numbers = {
        "YYYY": (at.year, 4),
        "YYY": (at.year % 1000, 3),
        "YY": (at.year % 100, 2),
        "Y": (at.year % 10, 1),
        "IYYY": (year, 4),
        "IYY": (year % 1000, 3),
        "IY": (year % 100, 2),
        "I": (year % 10, 1),
        "CC": ((at.year + 99) // 100, 2),
        "Q": ((at.month + 2) // 3, 1),
        "MM": (at.month, 2),
        "DDD": (at.timetuple().tm_yday, 3),
        "IDDD": ((week - 1) * 7 + weekday, 3),
        "DD": (at.day, 2),
        "D": (weekday % 7 + 1, 1),
        "ID": (weekday, 1),
        "W": ((at.day - 1) // 7 + 1, 1),
        "WW": ((at.timetuple().tm_yday - 1) // 7 + 1, 2),
        "IW": (week, 2),
        "J": (at.toordinal() + 1721425, 1),
    }
    if kind in numbers:
        return numbers[kind]
    return _clock(kind, at.hour, at.minute, at.second, at.microsecond)


def _clock(kind: str, hour: int, minute: int, second: int, micros: int) -> tuple[int, int]:
    match kind:
        case "HH" | "HH12":
            return (hour % 12 or 12, 2)
        case "HH24":
            return (hour, 2)
        case "MI":
            return (minute, 2)
        case "SS":
            return (second, 2)
        case "MS" | "FF3":
            return (micros // 1000, 3)
        case "US" | "FF6":
            return (micros, 6)
        case "SSSS" | "SSSSS":
            return (hour * 3600 + minute * 60 + second, 1)
    digits = int(kind[2:])  # FF1, FF2, FF4, FF5
    return (micros // 10 ** (6 - digits), digits)


def _meridian(hour: int, text: str) -> str:
    said = "am" if hour % 24 < 12 else "pm"
    said = ".".join(said) + "." if "." in text else said
    return said if text.islower() else said.upper()


def _written(name: str, like: str) -> str:
    if like.isupper():
        return name.upper()
    return name.lower() if like.islower() else name


def span_to_char(span: timedelta | Interval, pattern: str) -> str:
    """A span of time in this pattern; its months are years and months, its hours go beyond 24."""
    months, exact = (span.months, span.exact) if isinstance(span, Interval) else (0, span)
    sign = -1 if exact < timedelta() else 1
    rest = abs(exact)
    clock = rest.seconds
    out = []
    for token in _tokens(pattern):
        match token.kind:
            case "":
                out.append(token.text)
                continue
            case "YYYY" | "YYY" | "YY" | "Y":
                said = (_toward_zero(months, 12), len(token.kind))
            case "MM":
                said = (months - 12 * _toward_zero(months, 12), 2)
            case "DD" | "DDD":
                said = (sign * rest.days, len(token.kind))
            case "AM" | "PM" | "A.M." | "P.M.":
                out.append(_meridian(clock // 3600, token.text))
                continue
            case kind if kind[0] in "HSUF" or kind in ("MI", "MS"):
                clocked = _clock(
                    kind, clock // 3600, clock // 60 % 60, clock % 60, rest.microseconds
                )
                said = (sign * clocked[0], clocked[1])
            case kind:
                raise InvalidInput(f"a span of time has no {kind}")
        out.append(_finished(said, token))
    return "".join(out)


def since_midnight(clock: time) -> timedelta:
    """A time of day as a span."""
    return datetime.combine(date.min, clock) - datetime.combine(date.min, time())


def _toward_zero(number: int, divisor: int) -> int:
    return abs(number) // divisor * (-1 if number < 0 else 1)


# Reading -----------------------------------------------------------------------------------------


def char_to_date(text: str, pattern: str) -> date:
    """The date that a text holds in this pattern."""
    return char_to_moment(text, pattern).date()


def char_to_moment(text: str, pattern: str) -> datetime:
    """The moment, in UTC, that a text holds in this pattern."""
    return _Reader(text, pattern).read()


_DIGITS = {
    **dict.fromkeys(
        ("HH", "HH12", "HH24", "MI", "SS", "MM", "DD", "YY", "IY", "IW", "WW", "CC"), 2
    ),
    **dict.fromkeys(("MS", "DDD", "YYY", "FF3"), 3),
    **dict.fromkeys(("US", "FF6"), 6),
    **dict.fromkeys(("YYYY", "IYYY", "FF4"), 4),
    **dict.fromkeys(("SSSS", "SSSSS", "FF5"), 5),
    **dict.fromkeys(("Y", "Q", "D", "ID", "W", "I", "FF1"), 1),
    "FF2": 2,
    "J": 7,
}


class _Reader:
    """Reads one text by one pattern."""

    def __init__(self, text: str, pattern: str) -> None:
        self._text, self._pattern, self._at = text, pattern, 0
        self._found: dict[str, int] = {}

    def read(self) -> datetime:
        tokens = _tokens(self._pattern)
        for i, token in enumerate(tokens):
            if not token.kind:
                self._skip(token.text)
                continue
            self._blanks()
            following = tokens[i + 1] if i + 1 < len(tokens) else None
            joined = following is not None and following.kind in _DIGITS
            self._field(token, joined=joined)
        try:
            return self._moment()
        except (ValueError, OverflowError):
            raise DataError(f'"{self._text}" is no date by "{self._pattern}"') from None

    def _blanks(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _skip(self, text: str) -> None:
        """A blank or sign of the pattern stands for any of them, a letter for a character."""
        if len(text) == 1 and not text.isalnum():
            while self._at < len(self._text) and not self._text[self._at].isalnum():
                if self._text[self._at] in "+-" and text.isspace():
                    break
                self._at += 1
        else:
            self._at += len(text)

    def _field(self, token: _Token, *, joined: bool) -> None:
        kind = token.kind
        names = {"MONTH": _MONTHS, "MON": _MONTHS, "DAY": _DAYS, "DY": _DAYS}.get(kind)
        if names is not None:
            number = self._name(kind, names)
            if names is _MONTHS:
                self._found["MM"] = number + 1
        elif kind == "RM":
            self._found["MM"] = self._name(kind, _ROMAN) + 1
        elif kind in ("AM", "PM", "A.M.", "P.M."):
            self._found["PM"] = self._name(kind, ("a.m.", "p.m.") if "." in kind else ("am", "pm"))
        elif kind in ("AD", "BC", "A.D.", "B.C."):
            self._name(kind, ("A.D.",) if "." in kind else ("AD",))
        elif kind in ("TZH", "TZM", "TZ", "OF"):
            self._zone(kind)
        elif kind == "Y,YYY":
            self._found["YYYY"] = int(self._match(kind, r"\d+,\d{3}").replace(",", ""))
        elif kind in _DIGITS:
            most = _DIGITS[kind] if joined or kind not in ("YYYY", "IYYY") else 9
            digits = self._match(kind, rf"[+-]?\d{{1,{most}}}")
            if kind in ("MS", "US") or kind.startswith("FF"):
                self._found["US"] = int(digits.ljust(6, "0")[:6])
            else:
                self._found[kind] = int(digits)
            if token.ordinal:
                self._at += 2
        else:
            raise InvalidInput(f"a text is not read by the pattern {kind}")

    def _match(self, kind: str, pattern: str) -> str:
        found = re.compile(pattern).match(self._text, self._at)
        if found is None:
            raise DataError(f'invalid value "{self._text[self._at :][:8]}" for "{kind}"')
        self._at = found.end()
        return found[0]

    def _name(self, kind: str, names: Sequence[str]) -> int:
        """The number of the name that stands here, whole or its first three letters."""
        rest = self._text[self._at :].lower()
        short = kind not in ("RM", "AM", "PM", "AD", "BC") and "." not in kind
        for number in sorted(range(len(names)), key=lambda i: -len(names[i])):
            for name in (names[number], names[number][:3] if short else names[number]):
                if rest.startswith(name.lower()):
                    self._at += len(name)
                    return number
        raise DataError(f'invalid value "{self._text[self._at :][:8]}" for "{kind}"')

    def _zone(self, kind: str) -> None:
        if kind == "TZ":
            name = self._match(kind, r"[A-Za-z]+|[+-]\d\d(?::?\d\d)?")
            if name.upper() in ("UTC", "GMT", "Z"):
                return
            self._at -= len(name)
        if kind == "TZM":
            minutes = int(self._match(kind, r"\d\d"))
        else:
            found = self._match(kind, r"[+-]?\d{1,2}(?::\d\d)?")
            hours, _, rest = found.partition(":")
            minutes = int(hours) * 60
            minutes += (-1 if hours.startswith("-") else 1) * int(rest or 0)
        sign = -1 if self._found.get("zone", 0) < 0 else 1
        self._found["zone"] = self._found.get("zone", 0) + (
            sign * minutes if kind == "TZM" else minutes
        )

    def _moment(self) -> datetime:
        found = self._found
        day = self._date()
        hour = found.get("HH24", found.get("HH12", found.get("HH", 0)))
        if "HH24" not in found and ("HH" in found or "HH12" in found):
            if not 1 <= hour <= 12:
                raise DataError(f'hour "{hour}" is invalid for the 12-hour clock')
            hour = hour % 12 + 12 * found.get("PM", 0)
        seconds = found.get("SSSS", found.get("SSSSS"))
        clock = (
            timedelta(seconds=seconds)
            if seconds is not None
            else timedelta(hours=time(hour).hour, minutes=time(0, found.get("MI", 0)).minute)
            + timedelta(seconds=time(0, 0, found.get("SS", 0)).second)
        )
        moment = datetime.combine(day, time(), UTC) + clock
        moment += timedelta(microseconds=found.get("US", 0))
        return moment - timedelta(minutes=found.get("zone", 0))

    def _date(self) -> date:
        found = self._found
        if "J" in found:
            return date.fromordinal(found["J"] - 1721425)
        if "IYYY" in found or "IW" in found:
            year = found.get("IYYY", 1)
            return date.fromisocalendar(year, found.get("IW", 1), found.get("ID", 1))
        year = self._year()
        if "DDD" in found:
            if not 1 <= found["DDD"] <= 366:
                raise ValueError
            return date(year, 1, 1) + timedelta(days=found["DDD"] - 1)
        if "WW" in found:
            return date(year, 1, 1) + timedelta(days=7 * (found["WW"] - 1))
        day = found.get("DD", 1)
        if "W" in found and "DD" not in found:
            day = 7 * (found["W"] - 1) + 1
        return date(year, found.get("MM", 1), day)

    def _year(self) -> int:
        """Two digits are those nearest to 2020, as in PostgreSQL."""
        found = self._found
        if "YYYY" in found:
            return found["YYYY"]
        for kind, low, high in (("YYY", 100, 1000), ("YY", 70, 2000), ("Y", 0, 2000)):
            if kind in found:
                number = found[kind]
                if kind == "YYY":
                    return number + (1000 if number >= low else 2000)
                return number + (1900 if kind == "YY" and number >= low else high)
        return 1 if "CC" not in found else (found["CC"] - 1) * 100 + 1
