"""A transaction as bytes: written once by its author, carried unaltered to every replica.

    record   := version u8 | replica 8s | seq u64 | stamp u64 | previous 16s | vector | operations
    vector   := count varint | (replica 8s | seq varint)*
    operations := count varint | (kind u8 | length varint | key | length varint | payload)*

Integers are big-endian; varints are LEB128. `previous` is the hash of the author's record before
this one (zeros before the first), so that two histories under one replica id cannot pass for one.

The vector is what the transaction's snapshot had seen. It is written as the difference from that of
the author's record before: only components that changed, 0 for one that went away. The author's own
component is seq - 1 unless it is listed. Reading it therefore needs the predecessor, which causal
admission has.

    kind            cell      payload
    1 PUT           register  the value
    2 DELETE        register  empty
    3 REMOVE        record    empty
    4 INSERT        record    msgpack [fields] or [fields, counters], each {field id: atom}
    5 EDIT          record    msgpack {field id: atom}
    6 COUNT         record    msgpack [adds, resets]
    7 ROWS          record    as many INSERTs as it has rows; its key is what their keys begin with
    adds   := [[field, life replica, life seq, amount]*]
    resets := [[field, value, life replica, life seq, [[life replica, life seq, totals]*]]*]
    totals := [[replica, plus, minus]*]
    rows   := [field id*] | [counter id*] | number of rows | row*      msgpack, one after the other
    row    := atom* of the fields | first value* of the counters | bytes: the rest of the key

Operations on one key apply in their order. ROWS counts as so many operations as it has rows, which
`decode` gives. A kind that this release does not know is kept and
forwarded, and changes nothing here (DESIGN section 4, rule 8).

Invariant: decode never allocates more than the bytes it was given call for, and raises Malformed
with an offset for anything else than a well-formed record.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import msgpack

from murmur.kvcore.causality import REPLICA_ID_BYTES, VersionVector
from murmur.kvcore.long_record import Record
from murmur.kvcore.varint import TooLong, read_varint, varint

VERSION = 1  # on disk and on the wire
# On disk: never renumber, never reuse.
PUT, DELETE, REMOVE, INSERT, EDIT, COUNT, ROWS = 1, 2, 3, 4, 5, 6, 7

REGISTER = b"\x01"
RECORD = b"\x02"
DERIVED = b"\x40"  # and above: never replicated
LOCAL = b"\x80"

HASH_BYTES = 16
NO_PREVIOUS = bytes(HASH_BYTES)
MAX_RECORD_BYTES = 64 << 20
MAX_KEY_BYTES = 64 << 10
MAX_FIELDS = 4096
NUMBER_BYTES = 10  # of the longest varint
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

Atom = None | bool | int | float | str | bytes

_HEADER = struct.Struct(">B8sQQ16s")
_CELL_OF_KIND = {PUT: 1, DELETE: 1, REMOVE: 2, INSERT: 2, EDIT: 2, COUNT: 2}
_pack = msgpack.Packer(autoreset=True).pack


class Malformed(ValueError):
    """Bytes that are not a record; the caller says whose they were."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"record byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason


class Add(NamedTuple):
    """An increment of a counter field, of one life of the row."""

    field: int
    life: tuple[bytes, int]
    amount: int


class Reset(NamedTuple):
    """A counter set to a value: what it observed is cancelled, the named life holds the value."""

    field: int
    value: int
    life: tuple[bytes, int]
    observed: Mapping[tuple[bytes, int], Mapping[bytes, tuple[int, int]]]


class Operation(NamedTuple):
    """One change to one key; the body's type goes with the kind."""

    kind: int
    key: bytes
    body: object


class Insertion(NamedTuple):
    """The fields and the counters' first values of a new life."""

    fields: Mapping[int, Atom]
    counters: Mapping[int, int]


class Counts(NamedTuple):
    """What one transaction does to the counters of one row."""

    adds: Sequence[Add]
    resets: Sequence[Reset]


class Transaction(NamedTuple):
    """A decoded record; `changed` is the vector's difference from the author's record before."""

    replica: bytes
    seq: int
    stamp: int
    previous: bytes
    changed: Mapping[bytes, int]
    operations: Sequence[Operation]

    def vector(self, predecessor: VersionVector) -> dict[bytes, int]:
        """What the transaction's snapshot had seen, given that of the author's record before."""
        vector = dict(predecessor)
        vector[self.replica] = self.seq - 1
        vector.update(self.changed)
        return {replica: seq for replica, seq in vector.items() if seq}


def encode(
    replica: bytes,
    seq: int,
    stamp: int,
    previous: bytes,
    vector: VersionVector,
    predecessor: VersionVector,
    operations: Sequence[Operation],
    encoded: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """The record's bytes; `predecessor` is the vector of the author's record before.

    `encoded` are more operations: how many, and their bytes.
    """
    more = sum(count for count, _ in encoded)
    head = encode_head(replica, seq, stamp, previous, vector, predecessor, operations, more)
    return b"".join((head, *(some for _, some in encoded)))


def encode_head(
    replica: bytes,
    seq: int,
    stamp: int,
    previous: bytes,
    vector: VersionVector,
    predecessor: VersionVector,
    operations: Sequence[Operation],
    more: int,
) -> bytes:
    """The record's bytes up to so many more operations."""
    changed = [
        (other, seen)
        for other, seen in vector.items()
        if (predecessor.get(other, 0) if other != replica else seq - 1) != seen
    ]
    changed += [(other, 0) for other in predecessor if other not in vector and other != replica]
    if replica not in vector and seq > 1:
        changed.append((replica, 0))
    changed.sort()
    parts = [_HEADER.pack(VERSION, replica, seq, stamp, previous), varint(len(changed))]
    for other, seen in changed:
        parts += (other, varint(seen))
    parts.append(varint(len(operations) + more))
    for kind, key, body in operations:
        payload = _encode_body(kind, body)
        parts += (_KIND_BYTES[kind], varint(len(key)), key, varint(len(payload)), payload)
    return b"".join(parts)


def decode(record: bytes) -> Transaction:
    """The transaction, checked from end to end. Raises Malformed."""
    if len(record) < _HEADER.size:
        raise Malformed(len(record), "shorter than a header")
    version, replica, seq, stamp, previous = _HEADER.unpack_from(record)
    if version != VERSION:
        raise Malformed(0, f"version {version} is not {VERSION}")
    if seq == 0:
        raise Malformed(9, "sequence numbers begin at 1")
    if len(record) > MAX_RECORD_BYTES:
        raise Malformed(0, f"longer than {MAX_RECORD_BYTES} bytes")
    try:
        return _decode_body(record, replica, seq, stamp, previous)
    except IndexError:
        raise Malformed(len(record), "ends in the middle of a number") from None
    except TooLong as error:
        raise Malformed(error.at, "a number is longer than 64 bits") from None


def origin(record: Record) -> tuple[bytes, int]:
    """The dot of a record, from its first bytes."""
    if not isinstance(record, bytes):
        record = record.head
    return record[1:9], int.from_bytes(record[9:17])


def stamp_of(record: bytes) -> int:
    """The stamp of a record, from its first bytes."""
    return int.from_bytes(record[17:25])


def digest(record: Record) -> bytes:
    """The record's hash, which its author's next record carries (BLAKE2b, 16 bytes)."""
    if isinstance(record, bytes):
        return hashlib.blake2b(record, digest_size=HASH_BYTES).digest()
    hashed = hashlib.blake2b(digest_size=HASH_BYTES)
    for piece in record.pieces:
        hashed.update(piece)
    return hashed.digest()


def deletes(operations: Sequence[Operation]) -> bool:
    """Whether they only take away: then they are written even on a full disk."""
    return all(operation.kind in (DELETE, REMOVE) for operation in operations)


def decode_head(record: bytes) -> tuple[Transaction, int]:
    """The transaction of an admitted record without its operations, and how many they are."""
    _, replica, seq, stamp, previous = _HEADER.unpack_from(record)
    changed, at = _read_changed(record, replica, seq)
    count, _ = read_varint(record, at, NUMBER_BYTES)
    return Transaction(replica, seq, stamp, previous, changed, ()), count


def _read_changed(record: bytes, replica: bytes, seq: int) -> tuple[dict[bytes, int], int]:
    count, at = read_varint(record, _HEADER.size, NUMBER_BYTES)
    changed: dict[bytes, int] = {}
    for _ in range(count):
        other = record[at : at + REPLICA_ID_BYTES]
        if len(other) != REPLICA_ID_BYTES:
            raise Malformed(at, "ends in the middle of a vector")
        seen, at = read_varint(record, at + REPLICA_ID_BYTES, NUMBER_BYTES)
        if other in changed:
            raise Malformed(at, "a replica stands twice in the vector")
        if other == replica and seen >= seq:
            raise Malformed(at, "the transaction claims to have seen itself")
        changed[other] = seen
    return changed, at


def _decode_body(
    record: bytes, replica: bytes, seq: int, stamp: int, previous: bytes
) -> Transaction:
    end = len(record)
    changed, at = _read_changed(record, replica, seq)
    count, at = read_varint(record, at, NUMBER_BYTES)
    operations: list[Operation] = []
    while count:
        place = at
        kind = record[at]
        # Lengths below 128 are one byte: the common case is inlined.
        length = record[at + 1]
        at += 2
        if length > 127:
            length, at = read_varint(record, at - 1, NUMBER_BYTES)
        key = record[at : at + length]
        at += length
        length = record[at]
        at += 1
        if length > 127:
            length, at = read_varint(record, at - 1, NUMBER_BYTES)
        payload = record[at : at + length]
        at += length
        if at > end:
            raise Malformed(place, "an operation reaches beyond the record")
        if kind == ROWS:
            before = len(operations)
            _decode_rows(key, payload, place, operations)
            count -= len(operations) - before
            if count < 0:
                raise Malformed(place, "it has more rows than the record has operations")
            continue
        operations.append(Operation(kind, key, _decode_payload(kind, key, payload, place)))
        count -= 1
    if at != end:
        raise Malformed(at, f"{end - at} bytes left over")
    return Transaction(replica, seq, stamp, previous, changed, operations)


def _encode_body(kind: int, body: object) -> bytes:
    if kind == INSERT:
        assert isinstance(body, Insertion)
        return _packed([body.fields, body.counters] if body.counters else [body.fields])
    if kind == EDIT:
        return _packed(body)
    if kind == COUNT:
        assert isinstance(body, Counts)
        adds = [(field, *life, amount) for field, life, amount in body.adds]
        resets = [
            (
                field,
                value,
                *life,
                [
                    (*dot, [(r, *both) for r, both in sorted(totals.items())])
                    for dot, totals in sorted(observed.items())
                ],
            )
            for field, value, life, observed in body.resets
        ]
        return _packed([adds, resets])
    assert isinstance(body, bytes)
    return body


def _packed(value: object) -> bytes:
    packed: bytes = _pack(value)
    return packed


def _decode_payload(kind: int, key: bytes, payload: bytes, place: int) -> object:
    if not key or key >= DERIVED or len(key) > MAX_KEY_BYTES:
        raise Malformed(place, "the key lies outside of the replicated keyspace or is too long")
    cell = _CELL_OF_KIND.get(kind)
    if cell is None:
        return payload  # unknown: kept and forwarded, never applied
    if key[0] != cell:
        raise Malformed(place, f"operation {kind} does not go with a key of cell type {key[0]}")
    if kind == PUT:
        return payload
    if kind in (DELETE, REMOVE):
        if payload:
            raise Malformed(place, "a removal has no payload")
        return b""
    try:
        body = msgpack.unpackb(
            payload,
            strict_map_key=False,
            max_array_len=1 << 16,
            max_map_len=MAX_FIELDS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise Malformed(place, f"payload is not msgpack: {error}") from None
    if kind == EDIT:
        return _fields(body, place)
    if kind == INSERT:
        if type(body) is not list or not 1 <= len(body) <= 2:
            raise Malformed(place, "an insertion is [fields] or [fields, counters]")
        fields = _fields(body[0], place)
        counters = _fields(body[1], place) if len(body) == 2 else {}
        if not all(type(value) is int and value <= INT64_MAX for value in counters.values()):
            raise Malformed(place, "a counter begins with an integer of 64 bits")
        return Insertion(fields, counters)  # type: ignore[arg-type]
    return _counts(body, place)


def _decode_rows(prefix: bytes, payload: bytes, place: int, operations: list[Operation]) -> None:
    """Append the INSERT of each row."""
    if prefix[:1] != RECORD:
        raise Malformed(place, "rows do not go with a key of another cell type than records")
    unpacker = msgpack.Unpacker(
        BytesIO(payload), strict_map_key=False, max_array_len=MAX_FIELDS, max_ext_len=0
    )
    read = unpacker.unpack
    try:
        fields, counters, count = read(), read(), read()
        _check_ids(fields, place)
        _check_ids(counters, place)
        if type(count) is not int or not 0 < count <= len(payload):
            raise Malformed(place, "so many rows cannot be in an operation")
        for _ in range(count):
            atoms = {field: _atom(read(), place) for field in fields}
            firsts: dict[int, int] = {}
            for field in counters:
                firsts[field] = first = read()
                if type(first) is not int or first > INT64_MAX:
                    raise Malformed(place, "a counter begins with an integer of 64 bits")
            rest = read()
            if type(rest) is not bytes or len(prefix) + len(rest) > MAX_KEY_BYTES:
                raise Malformed(place, "the rest of a key is not bytes, or too long")
            operations.append(Operation(INSERT, prefix + rest, Insertion(atoms, firsts)))
    except Malformed:
        raise
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise Malformed(place, f"rows are not msgpack: {error!r}") from None
    if unpacker.tell() != len(payload):
        raise Malformed(place, "bytes are left over behind the rows")


def _check_ids(ids: object, place: int) -> None:
    if type(ids) is not list or len(set(ids)) != len(ids):
        raise Malformed(place, "field ids are not a list of different ones")
    if not all(type(field) is int and 0 <= field < 1 << 32 for field in ids):
        raise Malformed(place, "a field id is a number of 32 bits")


def _atom(value: Any, place: int) -> Atom:
    kind = type(value)
    if kind is int:
        if value > INT64_MAX:
            raise Malformed(place, "an integer exceeds 64 bits")
    elif kind not in _ATOMS:
        raise Malformed(place, f"a field holds a {kind.__name__}")
    return value  # type: ignore[no-any-return]


def _fields(body: object, place: int) -> dict[int, Atom]:
    if type(body) is not dict:
        raise Malformed(place, "fields are not a map")
    for field, value in body.items():
        if type(field) is not int or not 0 <= field < 1 << 32:
            raise Malformed(place, "a field id is a number of 32 bits")
        kind = type(value)
        if kind is int:
            if value > INT64_MAX:
                raise Malformed(place, "an integer exceeds 64 bits")
        elif kind not in _ATOMS:
            raise Malformed(place, f"a field holds a {kind.__name__}")
    return body


def _counts(body: Any, place: int) -> Counts:
    try:
        adds_body, resets_body = body
        adds = [
            Add(
                _whole(field, place),
                (_replica(replica, place), _whole(seq, place)),
                _whole(amount, place),
            )
            for field, replica, seq, amount in adds_body
        ]
        resets = []
        for field, value, replica, seq, observed in resets_body:
            seen = {
                (_replica(r, place), _whole(s, place)): {
                    _replica(by, place): (abs(_whole(plus, place)), abs(_whole(minus, place)))
                    for by, plus, minus in totals
                }
                for r, s, totals in observed
            }
            life = (_replica(replica, place), _whole(seq, place))
            resets.append(Reset(_whole(field, place), _whole(value, place), life, seen))
    except (TypeError, ValueError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(place, f"counts have another shape: {error}") from None
    return Counts(adds, resets)


def _whole(value: object, place: int) -> int:
    if type(value) is not int or not INT64_MIN <= value <= INT64_MAX:
        raise Malformed(place, "not a number of 64 bits")
    return value


def _replica(value: object, place: int) -> bytes:
    if type(value) is not bytes or len(value) != REPLICA_ID_BYTES:
        raise Malformed(place, "not a replica id")
    return value


_KIND_BYTES = tuple(bytes([value]) for value in range(256))
_ATOMS = frozenset({type(None), bool, int, float, str, bytes})
