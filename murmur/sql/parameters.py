"""The parameters of a statement, and how given values find their positions.

    style    in the text    given as     names
    ?        ? ? ?          sequence     (0, 1, 2)
    $        $2 $1 $2       sequence     (0, 1)
    :        :b :a :b       mapping      ("b", "a")

One statement uses one style. Whatever the style, a value is known by its position from here on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from murmur.errors import InvalidInput

MAX_PARAMETERS = 32_766  # SQLite's limit


@dataclass(frozen=True, slots=True)
class Parameters:
    """The style, and the names in order of position.

    `?` and `$1` are named by their position, counted from 0. A name stands here once, however often
    the text uses it.
    """

    style: Literal["", "?", "$", ":"] = ""
    names: tuple[int | str, ...] = ()

    def arrange(self, given: Sequence[Any] | Mapping[str, Any] | None) -> Sequence[Any]:
        """The given values by position; InvalidInput names what is expected and what was given."""
        if given is None:
            given = ()
        # The plain cases first: this runs for every execution, and Mapping's check is slow.
        if not isinstance(given, tuple | list):
            if isinstance(given, Mapping):
                return self._by_name(given)
            self._check_sequence(given)
        if self.style == ":":
            raise InvalidInput(f"the parameters are named ({self._listed()}): pass a mapping")
        if len(given) != len(self.names):
            raise InvalidInput(
                f"the statement has {_count(len(self.names), 'parameter')}, "
                f"{_count(len(given), 'value')} given"
            )
        return given

    def _check_sequence(self, given: object) -> None:
        if isinstance(given, str | bytes | bytearray) or not isinstance(given, Sequence):
            raise InvalidInput(
                f"parameters come as a sequence or a mapping, not as {type(given).__name__}"
            )

    def _by_name(self, given: Mapping[str, Any]) -> Sequence[Any]:
        expected = _count(len(self.names), "parameter")
        if self.style != ":":
            if not self.names and not given:
                return ()
            raise InvalidInput(
                f"the statement has {expected} without names, "
                f"a mapping of {_count(len(given), 'value')} given"
            )
        try:
            return [given[name] for name in self.names]  # type: ignore[index]  # all are str here
        except KeyError:
            missing = ", ".join(f":{name}" for name in self.names if name not in given)
            raise InvalidInput(
                f"the statement has {expected} ({self._listed()}), "
                f"{_count(len(given), 'value')} given: {missing} missing"
            ) from None

    def _listed(self) -> str:
        return ", ".join(f":{name}" for name in self.names)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
