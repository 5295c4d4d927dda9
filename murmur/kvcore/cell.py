"""Cells: what the tree stores under a key, and how operations change it.

A *register* holds the siblings that no put or delete has covered; a *record* holds the lives that
no removal has covered. A transaction covers what its vector has seen: nothing else is ever taken
away, so there are no tombstones, an insert that a delete had not seen survives it, and a delete
beats an edit of the life it saw (law L4). The winner, which readers see, is the element with the
highest (stamp, replica).

    register  := 01 | stamp u64 | replica 8s | seq u64 | value               one sibling
               | 02 | msgpack [[stamp, replica, seq, value]+]                several, winner first
    record    := msgpack [1, stamp, replica, seq, fields]                    one life, as inserted
               | msgpack [1, stamp, replica, seq, fields, counters]
               | msgpack [2, [life+]]                                        winner first
    life      := [stamp, replica, seq, fields, edited, counters]
    fields    := {field: atom}             edited := {field: [stamp, replica]}
    counters  := {field: integer} in form 1
               | {field: [value, stamp, replica, totals, offsets]} in form 2
    totals, offsets := [[replica, plus, minus]*]

A field of a life is last-writer-wins by (stamp, replica); without an entry in `edited` its writer
is the life's. A counter is its last set value, plus what each replica has added and subtracted,
less the pointwise maximum of what all resets had observed; counters of concurrent lives add up.

Invariants:
    1. The state is a function of the set of operations applied, in any causal order, down to the
       byte: elements are sorted, maps are sorted by key, and the shortest form is used (laws L4,
       L5).
    2. `apply` cannot fail on what record.decode has let through.

The rules, each with the history that shows its need, are DESIGN section 4's, numbers 3 and 6. After
Almeida et al., "Delta State Replicated Data Types" (2016); PN-counters after Shapiro et al. (2011).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgpack

from murmur.kvcore.causality import Dot, VersionVector
from murmur.kvcore.record import (
    COUNT,
    DELETE,
    EDIT,
    INSERT,
    INT64_MAX,
    INT64_MIN,
    PUT,
    REMOVE,
    Add,
    Atom,
    Counts,
    Insertion,
    Operation,
    Reset,
)

Rank = tuple[int, bytes]  # (stamp, replica): who wins
Totals = Mapping[bytes, tuple[int, int]]  # replica -> (plus, minus)

V = TypeVar("V")

_SINGLE = struct.Struct(">BQ8sQ")
_pack = msgpack.Packer(autoreset=True).pack
_unpack = msgpack.unpackb


class Sibling(NamedTuple):
    """One value of a register, and who wrote it."""

    stamp: int
    replica: bytes
    seq: int
    value: bytes


class Counter(NamedTuple):
    """One counter of one life."""

    value: int
    rank: Rank
    totals: Totals
    offsets: Totals

    def total(self) -> int:
        """What the counter stands at."""
        total = self.value
        for replica, (plus, minus) in self.totals.items():
            off_plus, off_minus = self.offsets.get(replica, (0, 0))
            # An offset may run ahead of the totals only where a peer lied: it then counts as zero.
            total += max(plus - off_plus, 0) - max(minus - off_minus, 0)
        return total


class Life(NamedTuple):
    """One insertion of a row that nothing has removed."""

    stamp: int
    replica: bytes
    seq: int
    fields: Mapping[int, Atom]
    edited: Mapping[int, Rank]
    counters: Mapping[int, Counter]


class Author(NamedTuple):
    """Who applies operations: the transaction's stamp, dot and vector."""

    stamp: int
    replica: bytes
    seq: int
    vector: VersionVector


def decode_register(cell: bytes) -> tuple[Sibling, ...]:
    """The siblings, winner first."""
    if cell[0] == 1:
        _, stamp, replica, seq = _SINGLE.unpack_from(cell)
        return (Sibling(stamp, replica, seq, cell[_SINGLE.size :]),)
    return tuple(Sibling(*sibling) for sibling in _unpack(cell[1:]))


def encode_register(siblings: Sequence[Sibling]) -> bytes | None:
    """The cell of these siblings; None when there are none."""
    if not siblings:
        return None
    if len(siblings) == 1:
        stamp, replica, seq, value = siblings[0]
        return _SINGLE.pack(1, stamp, replica, seq) + value
    # Exact tuples: to walk over others, the packer, which all threads share, makes objects, and
    # what may be collected then can let another thread write into the midst of this cell.
    packed: bytes = _pack([tuple(sibling) for sibling in sorted(siblings, reverse=True)])
    return b"\x02" + packed


def decode_record(cell: bytes) -> tuple[Life, ...]:
    """The lives, winner first."""
    form = _unpack(cell, strict_map_key=False)
    if form[0] == 1:
        _, stamp, replica, seq, fields, *rest = form
        first = {
            field: Counter(value, (stamp, replica), {}, {})
            for field, value in (rest[0] if rest else {}).items()
        }
        return (Life(stamp, replica, seq, fields, {}, first),)
    return tuple(
        Life(
            stamp,
            replica,
            seq,
            fields,
            {field: (at, by) for field, (at, by) in edited.items()},
            {
                field: Counter(value, (at, by), _totals(totals), _totals(offsets))
                for field, (value, at, by, totals, offsets) in counters.items()
            },
        )
        for stamp, replica, seq, fields, edited, counters in form[1]
    )


def encode_record(lives: Sequence[Life]) -> bytes | None:
    """The cell of these lives; None when there are none."""
    if not lives:
        return None
    if len(lives) == 1 and _is_plain(lives[0]):
        stamp, replica, seq, fields, _, counters = lives[0]
        return _plain(
            stamp, replica, seq, fields, {field: c.value for field, c in counters.items()}
        )
    form = [
        [
            life.stamp,
            life.replica,
            life.seq,
            _sorted(life.fields),
            _sorted(life.edited),
            {
                field: [
                    counter.value,
                    *counter.rank,
                    [(replica, *both) for replica, both in sorted(counter.totals.items())],
                    [(replica, *both) for replica, both in sorted(counter.offsets.items())],
                ]
                for field, counter in sorted(life.counters.items())
            },
        ]
        for life in sorted(lives, key=_rank, reverse=True)
    ]
    packed: bytes = _pack([2, form])
    return packed


def visible_value(cell: bytes) -> bytes:
    """A register's value: the winner's."""
    return cell[_SINGLE.size :] if cell[0] == 1 else decode_register(cell)[0].value


def visible_fields(cell: bytes) -> dict[int, Atom]:
    """A record's fields as a reader sees them: the winner's, counters summed over all lives."""
    form = _unpack(cell, strict_map_key=False)
    if form[0] == 1:
        fields: dict[int, Atom] = form[4]
        if len(form) > 5:
            fields.update(form[5])
        return fields
    lives = decode_record(cell)
    fields = dict(lives[0].fields)
    fields.update(visible_counters(lives))
    return fields


def visible_counters(lives: Sequence[Life]) -> dict[int, int]:
    """The counters of a row, summed over its lives, within 64 bits."""
    sums: dict[int, int] = {}
    for life in lives:
        for field, counter in life.counters.items():
            sums[field] = sums.get(field, 0) + counter.total()
    return {field: min(max(total, INT64_MIN), INT64_MAX) for field, total in sums.items()}


def winner(cell: bytes) -> tuple[int, bytes, int]:
    """(stamp, replica, seq) of the element that readers see: who inserted or put it."""
    if cell[0] == 1:
        _, stamp, replica, seq = _SINGLE.unpack_from(cell)
        return stamp, replica, seq
    if cell[0] == 2:
        return decode_register(cell)[0][:3]
    life = decode_record(cell)[0]
    return life.stamp, life.replica, life.seq


def apply(cell: bytes | None, operations: Sequence[Operation], author: Author) -> bytes | None:
    """The cell after one transaction's operations on its key; None when nothing is left."""
    kind = operations[0].kind
    if kind in _REGISTER_KINDS:
        return _apply_register(cell, operations, author)
    if cell is None:
        if kind == INSERT and len(operations) == 1:
            return _born(operations[0].body, author)  # type: ignore[arg-type]
        if len(operations) == 1 or all(operation.kind != INSERT for operation in operations):
            return None
    return _apply_record(cell, operations, author)


def _apply_register(
    cell: bytes | None, operations: Sequence[Operation], author: Author
) -> bytes | None:
    stamp, replica, seq, vector = author
    left: list[Sibling] = []
    if cell is not None:
        left = [s for s in decode_register(cell) if vector.get(s.replica, 0) < s.seq]
    last = operations[-1]
    if last.kind == PUT:
        left.append(Sibling(stamp, replica, seq, last.body))  # type: ignore[arg-type]
    return encode_register(left)


def _born(body: Insertion, author: Author) -> bytes:
    return _plain(author.stamp, author.replica, author.seq, body.fields, body.counters)


def _apply_record(
    cell: bytes | None, operations: Sequence[Operation], author: Author
) -> bytes | None:
    stamp, replica, seq, vector = author
    rank = (stamp, replica)
    lives = list(decode_record(cell)) if cell is not None else []
    for operation in operations:
        body = operation.body
        if operation.kind == REMOVE:
            lives = [life for life in lives if vector.get(life.replica, 0) < life.seq]
        elif operation.kind == INSERT:
            assert isinstance(body, Insertion)
            first = {field: Counter(value, rank, {}, {}) for field, value in body.counters.items()}
            lives = [life for life in lives if (life.replica, life.seq) != (replica, seq)]
            lives.append(Life(stamp, replica, seq, body.fields, {}, first))
        elif operation.kind == EDIT:
            lives = [
                _edited(life, body, rank) if vector.get(life.replica, 0) >= life.seq else life  # type: ignore[arg-type]
                for life in lives
            ]
        elif operation.kind == COUNT:
            assert isinstance(body, Counts)
            # Of a life that the author cannot have seen it says nothing: else the order decides.
            for add in body.adds:
                lives = [
                    _added(life, add, replica) if vector.get(life.replica, 0) >= life.seq else life
                    for life in lives
                ]
            for reset in body.resets:
                lives = [
                    _reset(life, reset, rank) if vector.get(life.replica, 0) >= life.seq else life
                    for life in lives
                ]
    lives.sort(key=_rank, reverse=True)
    return encode_record(lives)


def _edited(life: Life, fields: Mapping[int, Atom], rank: Rank) -> Life:
    inserted = (life.stamp, life.replica)
    now, edited = dict(life.fields), dict(life.edited)
    for field, value in fields.items():
        if rank > edited.get(field, inserted):
            now[field] = value
            edited[field] = rank
    return life._replace(fields=now, edited=edited)


def _added(life: Life, add: Add, replica: bytes) -> Life:
    if add.life != (life.replica, life.seq):
        return life
    counter = life.counters.get(add.field) or _untouched(life)
    plus, minus = counter.totals.get(replica, (0, 0))
    # Saturating sums of one sign commute, so the bound cannot make replicas differ.
    if add.amount >= 0:
        both = (min(plus + add.amount, INT64_MAX), minus)
    else:
        both = (plus, min(minus - add.amount, INT64_MAX))
    counter = counter._replace(totals={**counter.totals, replica: both})
    return life._replace(counters={**life.counters, add.field: counter})


def _reset(life: Life, reset: Reset, rank: Rank) -> Life:
    observed = reset.observed.get((life.replica, life.seq))
    if observed is None:
        return life
    counter = life.counters.get(reset.field) or _untouched(life)
    offsets = dict(counter.offsets)
    for replica, (plus, minus) in observed.items():
        off_plus, off_minus = offsets.get(replica, (0, 0))
        offsets[replica] = (max(off_plus, plus), max(off_minus, minus))
    value, held = counter.value, counter.rank
    if rank > held:
        value, held = (reset.value if reset.life == (life.replica, life.seq) else 0), rank
    counter = Counter(value, held, counter.totals, offsets)
    return life._replace(counters={**life.counters, reset.field: counter})


def observed_totals(lives: Sequence[Life], field: int) -> dict[Dot, Totals]:
    """What a reset of the field must cancel: each life's totals, as they stand in this snapshot."""
    return {
        (life.replica, life.seq): life.counters[field].totals if field in life.counters else {}
        for life in lives
    }


def _untouched(life: Life) -> Counter:
    return Counter(0, (life.stamp, life.replica), {}, {})


def _plain(
    stamp: int, replica: bytes, seq: int, fields: Mapping[int, Atom], counters: Mapping[int, int]
) -> bytes:
    packed: bytes
    if counters:
        packed = _pack((1, stamp, replica, seq, _sorted(fields), _sorted(counters)))
    else:
        packed = _pack((1, stamp, replica, seq, _sorted(fields)))
    return packed


def _sorted(fields: Mapping[int, V]) -> Mapping[int, V]:
    # A dict keeps its order: rows of one statement come sorted already, and are not copied.
    last = -1
    for field in fields:
        if field < last:
            return dict(sorted(fields.items()))
        last = field
    return fields


def _is_plain(life: Life) -> bool:
    return not life.edited and all(
        not counter.totals and not counter.offsets and counter.rank == (life.stamp, life.replica)
        for counter in life.counters.values()
    )


def _rank(life: Life) -> tuple[int, bytes, int]:
    return life.stamp, life.replica, life.seq


def _totals(entries: Sequence[tuple[bytes, int, int]]) -> dict[bytes, tuple[int, int]]:
    return {replica: (plus, minus) for replica, plus, minus in entries}


_REGISTER_KINDS = frozenset({PUT, DELETE})
