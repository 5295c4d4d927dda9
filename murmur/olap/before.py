"""Before the log begins: what is known of rows whose first versions it does not hold.

    log        .  .  .  EDIT name by A@7      ADD 2 votes by B@9
    now        name (A@7), city, votes 12
    before     name unknown, city, votes 10

A log that was trimmed, or that a snapshot came beside, has changes to rows that it did not see
inserted. What they changed is known from the row as it is now: a field that no write of the log has
touched was the same before, a counter stood lower by what the log adds. What a write of the log has
replaced is not known, and shown as NULL; of a row that was deleted since, only its key is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from murmur.kvcore import Atom, Log, Operation
from murmur.kvcore.cell import (
    Author,
    Counter,
    Life,
    decode_record,
    decode_register,
    encode_record,
    encode_register,
)
from murmur.kvcore.record import COUNT, DELETE, EDIT, INSERT, PUT, REMOVE, Counts
from murmur.olap.feed import transactions

Get = Callable[[bytes], bytes | None]


@dataclass(slots=True)
class _Writes:
    """What the log has written to one key."""

    dots: set[tuple[bytes, int]] = field(default_factory=set)  # of puts and insertions
    edits: set[tuple[int, int, bytes]] = field(default_factory=set)  # field, stamp, replica
    adds: dict[tuple[bytes, int, int, bytes], tuple[int, int]] = field(default_factory=dict)
    resets: set[int] = field(default_factory=set)


class Before:
    """The rows of one table before the log begins."""

    def __init__(self, log: Log, position: int, prefix: bytes, now: Get) -> None:
        """`now` gives the cells of the snapshot that is at the position."""
        self._now = now
        self._written: dict[bytes, _Writes] = {}
        for author, operations in transactions(log, position, prefix):
            for operation in operations:
                if operation.key.startswith(prefix):
                    self._note(operation, author)

    def cell(self, key: bytes) -> bytes | None:
        """The cell of a key, as far as it is known; None if nothing is."""
        now = self._now(key)
        written = self._written.get(key, _Writes())
        if now is None:
            return None
        if key[0] == 1:
            kept = [s for s in decode_register(now) if (s.replica, s.seq) not in written.dots]
            return encode_register(kept)
        lives = [x for x in decode_record(now) if (x.replica, x.seq) not in written.dots]
        return encode_record([_without(life, written) for life in lives])

    def _note(self, operation: Operation, author: Author) -> None:
        stamp, replica, seq, _ = author
        written = self._written.setdefault(operation.key, _Writes())
        body = operation.body
        if operation.kind in (PUT, INSERT):
            written.dots.add((replica, seq))
        elif operation.kind == EDIT:
            assert isinstance(body, dict)
            written.edits.update((name, stamp, replica) for name in body)
        elif operation.kind == COUNT:
            assert isinstance(body, Counts)
            for add in body.adds:
                at = (*add.life, add.field, replica)
                plus, minus = written.adds.get(at, (0, 0))
                written.adds[at] = (plus + max(add.amount, 0), minus + max(-add.amount, 0))
            written.resets.update(reset.field for reset in body.resets)


def _without(life: Life, written: _Writes) -> Life:
    """The life without what the log has written."""
    fields: dict[int, Atom] = {
        name: None if (name, *life.edited.get(name, (-1, b""))) in written.edits else atom
        for name, atom in life.fields.items()
    }
    counters = {}
    for name, counter in life.counters.items():
        if name in written.resets:
            continue
        totals = {
            replica: _less(both, written.adds.get((life.replica, life.seq, name, replica), (0, 0)))
            for replica, both in counter.totals.items()
        }
        counters[name] = Counter(counter.value, counter.rank, totals, counter.offsets)
    return life._replace(fields=fields, edited={}, counters=counters)


def _less(both: tuple[int, int], added: tuple[int, int]) -> tuple[int, int]:
    return max(0, both[0] - added[0]), max(0, both[1] - added[1])


def partly_known(
    known: Mapping[int, Atom], operations: list[Operation]
) -> tuple[str, dict[int, Atom]]:
    """A change to a row of which only `known` is, as a version: what it wrote is known too."""
    fields = dict(known)
    op = "update"
    for operation in operations:
        if operation.kind == EDIT:
            assert isinstance(operation.body, dict)
            fields.update(operation.body)
        elif operation.kind in (REMOVE, DELETE):
            op = "delete"
    return op, fields
