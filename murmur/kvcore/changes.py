"""Changes: all that one transaction does to one key, folded as it comes.

    insert {1: a}, edit {2: b}       ->  insert {1: a, 2: b}
    add 1: +2, add 1: +3             ->  add 1: +5
    add 1: +2, reset 1: 9, add 1: +1 ->  reset 1: 10
    insert ..., remove               ->  remove

So a record carries at most one operation of a kind for a key: (remove?, insert?, edits, resets,
adds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from murmur.errors import DataError, InvalidInput
from murmur.kvcore.cell import decode_record, observed_totals
from murmur.kvcore.record import (
    COUNT,
    DELETE,
    EDIT,
    INSERT,
    INT64_MAX,
    INT64_MIN,
    MAX_FIELDS,
    PUT,
    REMOVE,
    Add,
    Atom,
    Counts,
    Insertion,
    Operation,
    Reset,
)
from murmur.kvcore.view import View


@dataclass(frozen=True, slots=True)
class Put:
    """A register's new value; None deletes it."""

    value: bytes | None


@dataclass(frozen=True, slots=True)
class RowChange:
    """All that one transaction does to one record."""

    remove: bool = False
    insertion: Insertion | None = None
    edits: Mapping[int, Atom] = field(default_factory=dict)
    resets: Mapping[int, int] = field(default_factory=dict)
    adds: Mapping[int, int] = field(default_factory=dict)

    @property
    def only_adds(self) -> bool:
        """Whether it goes well with whatever others do to the record."""
        return not (self.remove or self.insertion is not None or self.edits or self.resets)

    def edited(self, fields: Mapping[int, Atom]) -> RowChange:
        """And then fields are set."""
        if self.insertion is not None:
            born, counters = self.insertion
            fields = {**born, **fields}
            change = replace(self, insertion=Insertion(fields, counters))
        else:
            fields = {**self.edits, **fields}
            change = replace(self, edits=fields)
        check_width(fields)
        return change

    def added(self, counter: int, amount: int) -> RowChange:
        """And then a counter is incremented."""
        if self.insertion is not None:
            fields, counters = self.insertion
            counters = {**counters, counter: _whole(counters.get(counter, 0) + amount)}
            return replace(self, insertion=Insertion(fields, counters))
        if counter in self.resets:
            value = _whole(self.resets[counter] + amount)
            return replace(self, resets={**self.resets, counter: value})
        if not amount:
            return self
        amount = _whole(self.adds.get(counter, 0) + amount, -INT64_MAX)
        return replace(self, adds={**self.adds, counter: amount})

    def reset(self, counter: int, value: int) -> RowChange:
        """And then a counter is set."""
        value = _whole(value)
        if self.insertion is not None:
            fields, counters = self.insertion
            return replace(self, insertion=Insertion(fields, {**counters, counter: value}))
        adds = {other: amount for other, amount in self.adds.items() if other != counter}
        return replace(self, adds=adds, resets={**self.resets, counter: value})


Change = Put | RowChange
NOTHING = RowChange()


def operations_of(key: bytes, change: Change, view: View) -> list[Operation]:
    """What a record says of the change; `view` is what its transaction has seen."""
    if isinstance(change, Put):
        kind = DELETE if change.value is None else PUT
        return [Operation(kind, key, change.value or b"")]
    if change.insertion is not None and not change.remove:
        return [Operation(INSERT, key, change.insertion)]
    operations: list[Operation] = []
    if change.remove:
        operations.append(Operation(REMOVE, key, b""))
    if change.insertion is not None:
        operations.append(Operation(INSERT, key, change.insertion))
    if change.edits:
        operations.append(Operation(EDIT, key, change.edits))
    if change.adds or change.resets:
        cell = view.get(key)
        if cell is not None:
            lives = decode_record(cell)
            named = (lives[0].replica, lives[0].seq)
            adds = [Add(field, named, amount) for field, amount in change.adds.items()]
            resets = [
                Reset(field, value, named, observed_totals(lives, field))
                for field, value in change.resets.items()
            ]
            operations.append(Operation(COUNT, key, Counts(adds, resets)))
    return operations


def check_width(fields: Mapping[int, Atom]) -> None:
    """Raise InvalidInput for more fields than a record may have."""
    if len(fields) > MAX_FIELDS:
        raise InvalidInput(f"a row has at most {MAX_FIELDS:,} columns, not {len(fields):,}")


def _whole(count: int, smallest: int = INT64_MIN) -> int:
    if not smallest <= count <= INT64_MAX:
        raise DataError(f"a counter goes by 64 bits: {count} is out of its range")
    return count
