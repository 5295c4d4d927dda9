"""Join: what a key holds when two replicas' cells of it become one, without their transactions.

    join(left, {a: 3}, right, {a: 2, b: 1})

A snapshot is a state and its version vector. Joining two of them, key by key, gives the state of
all transactions that either has admitted (DESIGN section 4, rule 7):

    an element on both sides      stays; its fields and counters are merged, each by its own rule
    an element on one side only   stays unless the other side's vector covers its dot: then the
                                  other had it and saw it go

Fields are last-writer-wins by (stamp, replica). What a replica has added to a counter only grows,
and so does what resets have cancelled: the greater one has seen the smaller.

Laws: commutative, associative, idempotent; join(state(A), state(B)) == state(A | B), byte for byte,
for causally closed sets of transactions A and B. A join cannot fail on what `check_cell` let
through.

After Almeida et al., "Delta State Replicated Data Types" (2016): the causal join of dot stores.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import msgpack

from murmur.kvcore.causality import REPLICA_ID_BYTES, VersionVector, covers
from murmur.kvcore.cell import (
    Counter,
    Life,
    Rank,
    Sibling,
    Totals,
    decode_record,
    decode_register,
    encode_record,
    encode_register,
)
from murmur.kvcore.record import (
    DERIVED,
    INT64_MAX,
    INT64_MIN,
    MAX_FIELDS,
    MAX_KEY_BYTES,
    RECORD,
    REGISTER,
    ROWS,
    Atom,
)

KINDS = ROWS  # the highest kind of operation whose effect the cells of this release hold

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
_ATOMS = (type(None), bool, int, float, str, bytes)


def join(
    left: bytes | None, seen_left: VersionVector, right: bytes | None, seen_right: VersionVector
) -> bytes | None:
    """The cell of a key that both sides' vectors and cells amount to; None when nothing is left."""
    if left == right:
        return left
    present = left if left is not None else right
    assert present is not None
    if present[0] in _REGISTER_FORMS:
        return _join_registers(left, seen_left, right, seen_right)
    return _join_records(left, seen_left, right, seen_right)


def _join_registers(
    left: bytes | None, seen_left: VersionVector, right: bytes | None, seen_right: VersionVector
) -> bytes | None:
    ours = {(s.replica, s.seq): s for s in decode_register(left)} if left is not None else {}
    theirs = {(s.replica, s.seq): s for s in decode_register(right)} if right is not None else {}
    kept: list[Sibling] = []
    for dot, sibling in ours.items():
        if dot in theirs or not covers(seen_right, *dot):
            kept.append(sibling)
    for dot, sibling in theirs.items():
        if dot not in ours and not covers(seen_left, *dot):
            kept.append(sibling)
    return encode_register(kept)


def _join_records(
    left: bytes | None, seen_left: VersionVector, right: bytes | None, seen_right: VersionVector
) -> bytes | None:
    ours = {(x.replica, x.seq): x for x in decode_record(left)} if left is not None else {}
    theirs = {(x.replica, x.seq): x for x in decode_record(right)} if right is not None else {}
    kept: list[Life] = []
    for dot, life in ours.items():
        other = theirs.get(dot)
        if other is not None:
            kept.append(_join_lives(life, other))
        elif not covers(seen_right, *dot):
            kept.append(life)
    for dot, life in theirs.items():
        if dot not in ours and not covers(seen_left, *dot):
            kept.append(life)
    return encode_record(kept)


def _join_lives(left: Life, right: Life) -> Life:
    born = (left.stamp, left.replica)
    fields: dict[int, Atom] = {}
    edited: dict[int, Rank] = {}
    for field in left.fields.keys() | right.fields.keys():
        rank, life = max(
            (
                (life.edited.get(field, born), life)
                for life in (left, right)
                if field in life.fields
            ),
            key=_first,
        )
        fields[field] = life.fields[field]
        if field in life.edited:
            edited[field] = rank
    counters = _united(left.counters, right.counters, _join_counters)
    return Life(left.stamp, left.replica, left.seq, fields, edited, counters)


def _join_counters(left: Counter, right: Counter) -> Counter:
    latest = max(left, right, key=lambda counter: counter.rank)
    return Counter(
        latest.value,
        latest.rank,
        _united(left.totals, right.totals, _pointwise),
        _united(left.offsets, right.offsets, _pointwise),
    )


def _pointwise(left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
    return max(left[0], right[0]), max(left[1], right[1])


def _united(left: Mapping[K, V], right: Mapping[K, V], both: Callable[[V, V], V]) -> dict[K, V]:
    united = {**left, **right}
    for key in left.keys() & right.keys():
        united[key] = both(left[key], right[key])
    return united


def _first(pair: tuple[Rank, Life]) -> Rank:
    return pair[0]


# What a peer sends is looked at before it gets here -----------------------------------------


class MalformedCell(ValueError):
    """Bytes that are not a cell of this key, or that the snapshot's vector cannot hold."""


def check_cell(key: bytes, cell: bytes, vector: VersionVector, stamp: int) -> None:
    """Raise MalformedCell unless this is a cell as `apply` would leave it, within the vector.

    Its dots are covered by the vector, its stamps do not exceed `stamp`, and it stands in its one
    form, so that equal states stay equal bytes.
    """
    try:
        if not key or key >= DERIVED or len(key) > MAX_KEY_BYTES:
            raise MalformedCell("the key lies outside of the replicated keyspace or is too long")
        if key[:1] == REGISTER:
            siblings = decode_register(cell) if cell[0] in _REGISTER_FORMS else ()
            for sibling in siblings:
                _check_dot(*sibling[:3], vector, stamp)
                _is(sibling.value, bytes)
            _check_distinct(siblings)
            same = encode_register(siblings)
        elif key[:1] == RECORD:
            lives = _decode_record(cell)
            for life in lives:
                _check_life(life, vector, stamp)
            _check_distinct(lives)
            same = encode_record(lives)
        else:
            raise MalformedCell(f"cell type {key[0]} is unknown to this release")
    except MalformedCell:
        raise
    except _UNREADABLE as error:
        raise MalformedCell(f"{type(error).__name__}: {error}") from None
    if same != cell:
        raise MalformedCell("it does not stand in its shortest form")


def _check_distinct(found: Sequence[Sibling] | Sequence[Life]) -> None:
    if len({(element.replica, element.seq) for element in found}) < len(found):
        raise MalformedCell("two elements carry one dot")


def _decode_record(cell: bytes) -> Sequence[Life]:
    if not cell or cell[0] & 0xF0 != 0x90:
        raise MalformedCell("a record is a list")
    return decode_record(cell)


def _check_dot(at: object, replica: object, seq: object, vector: VersionVector, last: int) -> None:
    if type(replica) is not bytes or len(replica) != REPLICA_ID_BYTES:
        raise MalformedCell("not a replica id")
    if type(seq) is not int or not 0 < seq <= vector.get(replica, 0):
        raise MalformedCell("an element's dot is not within the snapshot's vector")
    _check_stamp(at, last)


def _check_stamp(at: object, last: int) -> None:
    if type(at) is not int or not 0 <= at <= last:
        raise MalformedCell("an element is stamped later than the snapshot")


def _check_life(life: Life, vector: VersionVector, stamp: int) -> None:
    _check_dot(life.stamp, life.replica, life.seq, vector, stamp)
    if len(life.fields) > MAX_FIELDS or len(life.counters) > MAX_FIELDS:
        raise MalformedCell("too many fields")
    for field in (*life.fields, *life.counters):
        if type(field) is not int or not 0 <= field < 1 << 32:
            raise MalformedCell("a field id is a number of 32 bits")
    for value in life.fields.values():
        if type(value) not in _ATOMS:
            raise MalformedCell(f"a field holds a {type(value).__name__}")
        if type(value) is int:
            _check_number(value)
    for field, rank in life.edited.items():
        if field not in life.fields:
            raise MalformedCell("an edited field is not there")
        _check_rank(rank, stamp)
    for counter in life.counters.values():
        _check_number(counter.value)
        _check_rank(counter.rank, stamp)
        for totals in (counter.totals, counter.offsets):
            _check_totals(totals)


def _check_totals(totals: Totals) -> None:
    for replica, both in totals.items():
        _check_replica(replica)
        for number in both:
            _check_number(number)
            if number < 0:
                raise MalformedCell("a counter's sums are not negative")


def _check_rank(rank: Rank, stamp: int) -> None:
    at, replica = rank
    _check_replica(replica)
    _check_stamp(at, stamp)


def _check_replica(replica: object) -> None:
    if type(replica) is not bytes or len(replica) != REPLICA_ID_BYTES:
        raise MalformedCell("not a replica id")


def _check_number(value: Any) -> None:
    if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
        raise MalformedCell("not a number of 64 bits")


def _is(value: object, kind: type) -> None:
    if type(value) is not kind:
        raise MalformedCell(f"a {type(value).__name__} in place of {kind.__name__}")


_REGISTER_FORMS = (1, 2)
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    struct.error,
    msgpack.UnpackException,
)
