"""to_char of numbers: the examples of PostgreSQL's documentation, and corner cases."""

from __future__ import annotations

from decimal import Decimal

import pytest

from murmur.errors import InvalidInput
from murmur.sql.number_formats import char_to_number, number_to_char

CASES = [
    ("-0.1", "99.99", "  -.10"),
    ("-0.1", "FM9.99", "-.1"),
    ("-0.1", "FM90.99", "-0.1"),
    ("0.1", "0.9", " 0.1"),
    ("12", "9990999.9", "    0012.0"),
    ("12", "FM9990999.9", "0012."),
    ("485", "999", " 485"),
    ("-485", "999", "-485"),
    ("485", "9 9 9", " 4 8 5"),
    ("1485", "9,999", " 1,485"),
    ("1485", "9G999", " 1,485"),
    ("148.5", "999.999", " 148.500"),
    ("148.5", "FM999.999", "148.5"),
    ("148.5", "FM999.990", "148.500"),
    ("3148.5", "9G999D999", " 3,148.500"),
    ("-485", "999S", "485-"),
    ("-485", "999MI", "485-"),
    ("485", "999MI", "485 "),
    ("485", "FM999MI", "485"),
    ("485", "PL999", "+485"),
    ("485", "SG999", "+485"),
    ("-485", "SG999", "-485"),
    ("-485", "9SG99", "4-85"),
    ("-485", "999PR", "<485>"),
    ("485", "999PR", " 485 "),
    ("485", "RN", "        CDLXXXV"),
    ("485", "FMRN", "CDLXXXV"),
    ("5.2", "FMRN", "V"),
    ("482", "999th", " 482nd"),
    ("485", '"Good number:"999', "Good number: 485"),
    ("485.8", '"Pre:"999" Post:" .999', "Pre: 485 Post: .800"),
    ("12", "99V999", " 12000"),
    ("12.4", "99V999", " 12400"),
    ("12.45", "99V9", " 125"),
    ("0.0004859", "9.99EEEE", " 4.86e-04"),
    ("0", "9", " 0"),
    ("0", "9.9", "  .0"),
    ("0", "FM9.99", "0."),
    ("1234", "99", " ##"),
    ("5", "FM9,999", "5"),
    ("-5", "S99", " -5"),
    ("1.5", "FM990.00", "1.50"),
    ("1234567.891", "FM999,999,999.00", "1,234,567.89"),
    ("NaN", "FM9", "NaN"),
]


@pytest.mark.parametrize(("number", "pattern", "text"), CASES)
def test_a_number_in_a_pattern(number: str, pattern: str, text: str) -> None:
    assert number_to_char(Decimal(number), pattern) == text


@pytest.mark.parametrize(
    ("text", "pattern", "number"),
    [
        ("12,454.8-", "99G999D9S", "-12454.8"),
        ("$1,234", "L9,999", "1234"),
        ("<12>", "99PR", "-12"),
        ("12.345", "99.99", "12.34"),
    ],
)
def test_a_number_is_read(text: str, pattern: str, number: str) -> None:
    assert char_to_number(text, pattern) == Decimal(number)


def test_a_pattern_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(InvalidInput, match="one decimal point"):
        number_to_char(Decimal(1), "9.9.9")
    with pytest.raises(InvalidInput, match="another sign"):
        number_to_char(Decimal(1), "S9MI")
