"""What a node tells about its peers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connected peer."""

    node_id: str
    replica_id: str  # hexadecimal
    address: str


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One row of `murmur_peers`. Counters are of the present conversation."""

    node_id: str
    replica_id: str  # hexadecimal; empty if it was never met
    address: str
    transport: str | None  # local, quic, tcp or relay, while it is connected
    state: str  # connected, connecting, waiting (for the next dial), quarantined, stopped
    dialed: bool | None  # by this node
    rtt_ms: int | None
    loss: float | None  # the share of its packets that are lost, where the transport can tell
    skew_ms: int | None  # its clock minus this one's, at HELLO
    backlog: int  # transactions durable here that it has not acknowledged
    lag_ms: int  # since when it lacks something, to a second
    records_in: int
    records_out: int
    bytes_in: int
    bytes_out: int
    rate_in: int  # bytes a second, lately
    rate_out: int
    attempts: int  # of dialing, since the last stable conversation
    last_error: str | None  # of one in quarantine: why it is
    quarantined_ms: int | None = None  # since when, by this node's wall clock
    quarantined_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One row of `murmur_members`: a node of the group, as this one knows it."""

    node_id: str
    replica_id: str  # hexadecimal; empty if it was never met and has no record
    roles: tuple[str, ...]  # voter, relay
    addresses: tuple[str, ...]
    liveness: str  # self, alive, suspect, dead, unknown
    signed: bool | None  # its record is signed by its key; None: it has published none
    signed_ms: int | None  # when it was, by its own wall clock
    met_ms: int | None  # when this node last began a conversation with it


@dataclass(frozen=True, slots=True)
class PendingPeer:
    """One row of `murmur_pending`: a node of the group that nobody has accepted or refused."""

    node_id: str
    addresses: tuple[str, ...]
    via: str  # how it was seen last: mdns, host, dialed
    asks: bool  # it dialed this node, and was told to wait
    first_ms: int  # when it was seen, by this node's wall clock
    last_ms: int
