"""Sync: how replicas find each other's transactions, over an authenticated network.

`Node` puts a replica on the network. The conversation itself (`PeerSession`) and the many of them
(`Mesh`) are plain code without sockets or clocks; aioquic is loaded when the first node starts.
"""

from murmur.sync.bootstrap_sources import BootstrapStatus
from murmur.sync.exchange import Patience
from murmur.sync.identity import Identity
from murmur.sync.node import Node, Notice
from murmur.sync.outbox import Outbox
from murmur.sync.peer import Timing
from murmur.sync.status import MemberStatus, PeerInfo, PeerStatus, PendingPeer
from murmur.sync.ticket import Ticket
from murmur.sync.transport import Link, Transport
from murmur.sync.verify_wire import Verdict

__all__ = [
    "BootstrapStatus",
    "Identity",
    "Link",
    "MemberStatus",
    "Node",
    "Notice",
    "Outbox",
    "Patience",
    "PeerInfo",
    "PeerStatus",
    "PendingPeer",
    "Ticket",
    "Timing",
    "Transport",
    "Verdict",
]
