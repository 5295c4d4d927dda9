"""Messages: what the frames of a conversation say.

    1 CHALLENGE   [nonce]                             the acceptor, before all else
    2 PROOF       [node id, group tag, signature, invite proof or nil]
    3 WELCOME     [group tag]
    4 HELLO       [[oldest, newest version], features, [payload, record, window limits],
                   replica, incarnation, clock ms, durable {replica: seq},
                   tips {replica: [seq, hash]}, [address]]
    5 RECORDS     count u32 | length u32 * count | records       in the order of the log
    6 PIECE       total u32 | a part of one record too large for a RECORDS frame
    7 ACK         [bytes applied, durable, admitted]  vectors: what changed since the last ACK
    8 LINKS       [[replica]]                         whom else the sender converses with
    9 PING        [token]
    10 PONG       [token]
    11 RESEND     [admitted {replica: seq}]           "this is all I have: go on from there"
    12 BYE        [code, reason]

Payloads other than 5 and 6 are positional msgpack; a reader ignores elements behind those it
knows, so that a later version may append some.

Invariant: every field of a parsed message has the type and the range that its class says; whatever
has not is a ProtocolViolation.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar

from murmur.errors import ProtocolViolation
from murmur.sync.wire import pack, unpack

# On the wire: never renumber, never reuse.
CHALLENGE, PROOF, WELCOME, HELLO, RECORDS, PIECE, ACK, LINKS, PING, PONG, RESEND, BYE = range(1, 13)

# Bits of HELLO's features; both sides use what both have. Services have others (service.py).
ZSTD = 1  # compressed payloads
RELAY = 2  # carries circuits for others
PARTS = 4  # payloads in parts

MAX_TEXT = 512
MAX_ADDRESSES = 16
MAX_SEQ = (1 << 63) - 1
NODE_ID_BYTES = 32
REPLICA_ID_BYTES = 8
TIP_BYTES = 16
NONCE_BYTES = 32
TAG_BYTES = 32
SIGNATURE_BYTES = 64
MIN_RECORD_BYTES = 33  # version, replica, seq, stamp and more: what a record needs at least

Vector = Mapping[bytes, int]
Tip = tuple[int, bytes]  # seq and hash of a replica's newest record

_U32 = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Challenge:
    """The acceptor's nonce, which the dialer signs: no recorded proof opens anything."""

    TYPE: ClassVar[int] = CHALLENGE
    nonce: bytes

    def payload(self) -> bytes:
        """As bytes."""
        return pack([self.nonce])

    @classmethod
    def parse(cls, payload: bytes) -> Challenge:
        """From bytes."""
        (nonce,) = _fields(payload, "CHALLENGE", 1)
        return cls(_exactly(nonce, NONCE_BYTES, "CHALLENGE nonce"))


@dataclass(frozen=True, slots=True)
class Proof:
    """Who dials: the key, that it knows the group, that it holds the key and perhaps an invite."""

    TYPE: ClassVar[int] = PROOF
    node_id: bytes
    group_tag: bytes
    signature: bytes
    invite_proof: bytes | None

    def payload(self) -> bytes:
        """As bytes."""
        return pack([self.node_id, self.group_tag, self.signature, self.invite_proof])

    @classmethod
    def parse(cls, payload: bytes) -> Proof:
        """From bytes."""
        node_id, tag, signature, invite = _fields(payload, "PROOF", 4)
        return cls(
            _exactly(node_id, NODE_ID_BYTES, "PROOF node id"),
            _exactly(tag, TAG_BYTES, "PROOF group tag"),
            _exactly(signature, SIGNATURE_BYTES, "PROOF signature"),
            None if invite is None else _exactly(invite, TAG_BYTES, "PROOF invite"),
        )


@dataclass(frozen=True, slots=True)
class Welcome:
    """The acceptor admits the dialer, and shows that it knows the group too."""

    TYPE: ClassVar[int] = WELCOME
    group_tag: bytes

    def payload(self) -> bytes:
        """As bytes."""
        return pack([self.group_tag])

    @classmethod
    def parse(cls, payload: bytes) -> Welcome:
        """From bytes."""
        (tag,) = _fields(payload, "WELCOME", 1)
        return cls(_exactly(tag, TAG_BYTES, "WELCOME group tag"))


@dataclass(frozen=True, slots=True)
class Hello:
    """What a side speaks, and where it stands."""

    TYPE: ClassVar[int] = HELLO
    versions: tuple[int, int]  # oldest and newest protocol version spoken
    features: int  # bits; both sides use what both have
    max_payload: int  # the largest frame payload accepted
    max_record: int  # the largest record accepted
    window: int  # bytes of records accepted beyond those acknowledged as applied
    replica: bytes
    incarnation: bytes  # of the node's process: changes with every start
    clock_ms: int
    vector: Vector  # durable
    tips: Mapping[bytes, Tip]  # admitted
    addresses: tuple[str, ...]

    def payload(self) -> bytes:
        """As bytes."""
        limits = [self.max_payload, self.max_record, self.window]
        return pack(
            [
                list(self.versions),
                self.features,
                limits,
                self.replica,
                self.incarnation,
                self.clock_ms,
                dict(self.vector),
                {replica: list(tip) for replica, tip in self.tips.items()},
                list(self.addresses),
            ]
        )

    @classmethod
    def parse(cls, payload: bytes) -> Hello:
        """From bytes."""
        versions, features, limits, replica, incarnation, clock_ms, vector, tips, addresses = (
            _fields(payload, "HELLO", 9)
        )
        oldest, newest = _items(versions, 2, "HELLO versions")
        max_payload, max_record, window = _items(limits, 3, "HELLO limits")
        span = (_integer(oldest, "HELLO version"), _integer(newest, "HELLO version"))
        if span[0] > span[1]:
            raise ProtocolViolation(f"HELLO versions {span[0]} to {span[1]} are no range")
        return cls(
            span,
            _integer(features, "HELLO features", most=(1 << 64) - 1),
            _integer(max_payload, "HELLO payload limit", least=1 << 12),
            _integer(max_record, "HELLO record limit", least=1 << 12),
            _integer(window, "HELLO window", least=1 << 12),
            _exactly(replica, REPLICA_ID_BYTES, "HELLO replica"),
            _exactly(incarnation, REPLICA_ID_BYTES, "HELLO incarnation"),
            _integer(clock_ms, "HELLO clock"),
            _vector(vector, "HELLO vector"),
            _tips(tips),
            _addresses(addresses),
        )


@dataclass(frozen=True, slots=True)
class Records:
    """Whole transactions, in the order of the sender's log."""

    TYPE: ClassVar[int] = RECORDS
    records: Sequence[bytes]

    def payload(self) -> bytes:
        """As bytes."""
        count = len(self.records)
        return b"".join([struct.pack(f">I{count}I", count, *map(len, self.records)), *self.records])

    @classmethod
    def parse(cls, payload: bytes) -> Records:
        """From bytes."""
        if len(payload) < 4:
            raise ProtocolViolation("RECORDS: no count")
        (count,) = _U32.unpack_from(payload)
        start = 4 + 4 * count
        if not count or start > len(payload):
            raise ProtocolViolation(f"RECORDS: {count} records do not fit {len(payload)} bytes")
        lengths = struct.unpack_from(f">{count}I", payload, 4)
        if start + sum(lengths) != len(payload):
            raise ProtocolViolation("RECORDS: the lengths do not add up to the payload")
        if min(lengths) < MIN_RECORD_BYTES:
            raise ProtocolViolation(f"RECORDS: a record of {min(lengths)} bytes")
        offsets = accumulate(lengths, initial=start)
        return cls([payload[first:last] for first, last in pairwise(offsets)])


@dataclass(frozen=True, slots=True)
class Piece:
    """The next part of one large record; the part that completes `total` ends it."""

    TYPE: ClassVar[int] = PIECE
    total: int
    part: bytes

    def payload(self) -> bytes:
        """As bytes."""
        return _U32.pack(self.total) + self.part

    @classmethod
    def parse(cls, payload: bytes) -> Piece:
        """From bytes."""
        if len(payload) < 5:
            raise ProtocolViolation("PIECE: empty")
        (total,) = _U32.unpack_from(payload)
        if total < MIN_RECORD_BYTES:
            raise ProtocolViolation(f"PIECE: of a record of {total} bytes")
        return cls(total, payload[4:])


@dataclass(frozen=True, slots=True)
class Ack:
    """How far the sender has come with what it received, and what it holds."""

    TYPE: ClassVar[int] = ACK
    applied_bytes: int  # of RECORDS and PIECE payloads, since HELLO
    durable: Vector  # components that changed since the last ACK (the first: since HELLO)
    admitted: Vector  # the same; admitted is not yet durable

    def payload(self) -> bytes:
        """As bytes."""
        return pack([self.applied_bytes, dict(self.durable), dict(self.admitted)])

    @classmethod
    def parse(cls, payload: bytes) -> Ack:
        """From bytes."""
        applied, durable, admitted = _fields(payload, "ACK", 3)
        return cls(
            _integer(applied, "ACK bytes"),
            _vector(durable, "ACK durable vector"),
            _vector(admitted, "ACK admitted vector"),
        )


@dataclass(frozen=True, slots=True)
class Links:
    """The replicas with which the sender converses: they bring it their own transactions."""

    TYPE: ClassVar[int] = LINKS
    replicas: frozenset[bytes]

    def payload(self) -> bytes:
        """As bytes."""
        return pack([sorted(self.replicas)])

    @classmethod
    def parse(cls, payload: bytes) -> Links:
        """From bytes."""
        (replicas,) = _fields(payload, "LINKS", 1)
        items = _items(replicas, None, "LINKS")
        return cls(frozenset(_exactly(item, REPLICA_ID_BYTES, "LINKS replica") for item in items))


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""

    TYPE: ClassVar[int] = PING
    token: int

    def payload(self) -> bytes:
        """As bytes."""
        return pack([self.token])

    @classmethod
    def parse(cls, payload: bytes) -> Ping:
        """From bytes."""
        (token,) = _fields(payload, "PING", 1)
        return cls(_integer(token, "PING token"))


@dataclass(frozen=True, slots=True)
class Pong:
    """I am; here is your token."""

    TYPE: ClassVar[int] = PONG
    token: int

    def payload(self) -> bytes:
        """As bytes."""
        return pack([self.token])

    @classmethod
    def parse(cls, payload: bytes) -> Pong:
        """From bytes."""
        (token,) = _fields(payload, "PONG", 1)
        return cls(_integer(token, "PONG token"))


@dataclass(frozen=True, slots=True)
class Resend:
    """Something sent did not arrive here or was set aside: go on from this admitted vector."""

    TYPE: ClassVar[int] = RESEND
    vector: Vector

    def payload(self) -> bytes:
        """As bytes."""
        return pack([dict(self.vector)])

    @classmethod
    def parse(cls, payload: bytes) -> Resend:
        """From bytes."""
        (vector,) = _fields(payload, "RESEND", 1)
        return cls(_vector(vector, "RESEND vector"))


@dataclass(frozen=True, slots=True)
class Bye:
    """The last frame: why the conversation ends."""

    TYPE: ClassVar[int] = BYE
    code: int
    reason: str

    def payload(self) -> bytes:
        """As bytes."""
        return pack([self.code, self.reason[: MAX_TEXT // 4]])

    @classmethod
    def parse(cls, payload: bytes) -> Bye:
        """From bytes."""
        code, reason = _fields(payload, "BYE", 2)
        return cls(_integer(code, "BYE code"), _text(reason, "BYE reason"))


Message = (
    Challenge | Proof | Welcome | Hello | Records | Piece | Ack | Links | Ping | Pong | Resend | Bye
)
_CLASSES: tuple[type[Message], ...] = (
    Challenge,
    Proof,
    Welcome,
    Hello,
    Records,
    Piece,
    Ack,
    Links,
    Ping,
    Pong,
    Resend,
    Bye,
)
_PARSERS = {kind.TYPE: kind.parse for kind in _CLASSES}


def parse(kind: int, payload: bytes, *, ignorable: bool = False) -> Message | None:
    """The message in a frame; None if it is unknown and may be skipped."""
    parser = _PARSERS.get(kind)
    if parser is not None:
        return parser(payload)
    if not ignorable:
        raise ProtocolViolation(f"unknown message type {kind}")
    return None


def positional(
    payload: bytes,
    what: str,
    types: Sequence[type | tuple[type, ...]],
    optional: Sequence[type | tuple[type, ...]] = (),
) -> list[Any]:
    """The fields of a service's message, each of its type; ProtocolViolation if it is another.

    Those that are `optional` came with a later release: None stands for what is not there.
    """
    fields = _fields(payload, what, len(types), len(optional))
    kinds = [*types, *optional][: len(fields)]
    for value, kind in zip(fields, kinds, strict=True):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ProtocolViolation(f"{what}: a field is {type(value).__name__}")
        if isinstance(value, int):
            _integer(value, what)
    return fields + [None] * (len(types) + len(optional) - len(fields))


def vector_of(value: object, what: str) -> dict[bytes, int]:
    """A vector inside a message; ProtocolViolation if it is none."""
    return _vector(value, what)


def _fields(payload: bytes, what: str, count: int, more: int = 0) -> list[Any]:
    """The first `count` elements of a positional message, and so many more if they are there."""
    fields = unpack(payload)
    if not isinstance(fields, list) or len(fields) < count:
        raise ProtocolViolation(f"{what}: not {count} fields")
    return fields[: count + more]


def _items(value: object, count: int | None, what: str) -> list[Any]:
    if not isinstance(value, list) or (count is not None and len(value) != count):
        raise ProtocolViolation(f"{what}: not a list{'' if count is None else f' of {count}'}")
    return value


def _exactly(value: object, size: int, what: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise ProtocolViolation(f"{what}: not {size} bytes")
    return value


def _integer(value: object, what: str, *, least: int = 0, most: int = MAX_SEQ) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ProtocolViolation(f"{what}: not an integer from {least} to {most}")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ProtocolViolation(f"{what}: not text of at most {MAX_TEXT} characters")
    return value


def _vector(value: object, what: str) -> dict[bytes, int]:
    if not isinstance(value, dict):
        raise ProtocolViolation(f"{what}: not a map")
    for replica, seq in value.items():
        _exactly(replica, REPLICA_ID_BYTES, what)
        _integer(seq, what, least=1)
    return value


def _tips(value: object) -> dict[bytes, Tip]:
    if not isinstance(value, dict):
        raise ProtocolViolation("HELLO tips: not a map")
    tips: dict[bytes, Tip] = {}
    for replica, tip in value.items():
        seq, digest = _items(tip, 2, "HELLO tip")
        tips[_exactly(replica, REPLICA_ID_BYTES, "HELLO tips")] = (
            _integer(seq, "HELLO tip", least=1),
            _exactly(digest, TIP_BYTES, "HELLO tip"),
        )
    return tips


def _addresses(value: object) -> tuple[str, ...]:
    items = _items(value, None, "HELLO addresses")
    if len(items) > MAX_ADDRESSES:
        raise ProtocolViolation(f"HELLO addresses: more than {MAX_ADDRESSES}")
    return tuple(_text(item, "HELLO address") for item in items)
