"""SQLAlchemy's dialect compliance suite, of which requirements.py says what applies.

Integer keys of Murmur's are made of the time and the replica; the suite expects 1, 2, 3. So where
it compares such keys, they are compared by their rank among the keys of the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import testing
from sqlalchemy.testing import eq_
from sqlalchemy.testing.suite import *  # noqa: F403
from sqlalchemy.testing.suite import ComponentReflectionTestExtra as _ReflectionTestExtra
from sqlalchemy.testing.suite import IsolationLevelTest as _IsolationLevelTest
from sqlalchemy.testing.suite import test_insert, test_select

GENERATED = 2**50  # keys are above it


def eq_by_rank(found: Any, expected: Any, message: str | None = None) -> None:
    eq_(ranked(found), ranked(expected), message)


def ranked(found: Any) -> Any:
    """The same with 1 for the lowest generated key, 2 for the next, and so on."""
    if isinstance(found, set | list):
        rows = sorted(found, key=lambda row: row[0] if is_row(row) else 0)
        keys = {row[0]: rank for rank, row in enumerate(rows, 1) if is_row(row)}
        return type(found)((keys[row[0]], *row[1:]) if is_row(row) else row for row in found)
    return (1, *found[1:]) if is_row(found) else found


def is_row(value: Any) -> bool:
    """Whether it is a row that begins with a generated key."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        return False
    first = next(iter(value), None)
    return isinstance(first, int) and first > GENERATED


for _module in (test_insert, test_select):
    _module.eq_ = eq_by_rank


class ComponentReflectionTestExtra(_ReflectionTestExtra):
    @testing.fixture(params=[None])
    def use_schema_fixture(self, request: Any) -> Any:
        """Without a schema: the suite's own fixture asks for one whatever is required."""
        return request.param

    def test_string_length_reflection(self) -> None:
        testing.config.skip_test("CHAR(n) is VARCHAR(n): nothing is padded")


class IsolationLevelTest(_IsolationLevelTest):
    def test_dialect_user_setting_is_restored(self) -> None:
        testing.config.skip_test("there is no level besides SNAPSHOT and AUTOCOMMIT")
