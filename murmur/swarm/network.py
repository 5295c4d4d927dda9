"""A swarm among others: tickets, peers, waiting for them, comparing with them, and who leads.

    swarm.connect_peer(ticket)
    swarm.put("db:host", b"localhost", wait=2)      held durably by two peers when it returns
    if swarm.is_leader: ...                         a job that only one of the group runs

The network, and what it needs, is loaded when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING

from murmur.errors import InvalidInput
from murmur.kvcore import Replica, Storage
from murmur.swarm.transaction import WAIT_TIMEOUT_S, check_wait

if TYPE_CHECKING:
    from murmur.swarm.verification import Verification
    from murmur.sync import BootstrapStatus, MemberStatus, Node, PeerInfo, PeerStatus, PendingPeer

DEFAULT_LISTEN = "127.0.0.1:0"
CONNECT_TIMEOUT_S = 15.0
LOG_BYTES = 1 << 30
EXPIRE_DAYS = 30.0
MOST = 1e15  # bytes or days: what is meant to be without end

LeaderListener = Callable[[str | None], None]


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How a swarm meets others; what the options mean stands at `murmur.open`."""

    listen: str | None = None
    transport: str = "adaptive"
    fast: bool | None = None
    election: str = "majority"
    voters: tuple[str, ...] = ()
    relay: bool = False
    introductions: bool = True
    bandwidth: int | None = None
    peer_bandwidth: int | None = None
    log_bytes: int = LOG_BYTES
    log_days: float | None = None
    expire_days: float = EXPIRE_DAYS

    def check(self) -> None:
        """Raise InvalidInput for what cannot be."""
        _check_amount("log_bytes", self.log_bytes)
        _check_amount("log_days", 0 if self.log_days is None else self.log_days)
        _check_amount("expire_days", self.expire_days)
        for name in ("relay", "introductions"):
            if not isinstance(value := getattr(self, name), bool):
                raise InvalidInput(f"{name}: {value!r} is neither True nor False")
        if self.listen is not None:
            from murmur.sync.transport import split_address

            split_address(self.listen)
        if self != NetworkOptions(self.listen):
            from murmur.sync.bandwidth import check_rate
            from murmur.sync.election.choice import check_election
            from murmur.sync.quic_core import check_fast
            from murmur.sync.transport import check_transport

            check_transport(self.transport)
            check_fast(self.fast)
            check_election(self.election, self.voters)
            check_rate(self.bandwidth, "bandwidth")
            check_rate(self.peer_bandwidth, "peer_bandwidth")


def _check_amount(name: str, value: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < MOST:
        raise InvalidInput(f"{name}: {value!r} is not a number from 0 to {MOST:g}")


class Networked:
    """What a swarm has to do with its peers."""

    replica: Replica
    group: str
    _node: Node | None
    _lock: RLock
    _storage: Storage
    _network: NetworkOptions
    _random_bytes: Callable[[int], bytes]
    _leader_listeners: list[LeaderListener]
    check_usable: Callable[[], None]

    def ticket(self) -> str:
        """Text that lets another replica connect to this one, and join its group.

        It names relays that this one is connected with, for who cannot reach it.
        """
        return self.node().ticket()

    def connect_peer(self, ticket: str, *, timeout: float = CONNECT_TIMEOUT_S) -> PeerInfo:
        """Connect to the replica that gave the ticket, and again whenever the connection is lost.

        Raises InvalidInput for a damaged ticket, Unreachable, PeerError when the peer refuses.
        """
        return self.node().connect_peer(ticket, timeout=timeout)

    @property
    def network_state(self) -> str:
        """How this replica's presence on the network is: "off" before it is first used, "running",
        "closed", or "stopped: " and why. What is stopped stays so until the replica is opened
        again; reading and writing here go on."""
        return "off" if self._node is None else self._node.state

    def connected_peers(self) -> list[PeerInfo]:
        """The peers with which a conversation is open."""
        self.check_usable()
        return [] if self._node is None else self._node.connected_peers()

    def peers(self) -> list[PeerStatus]:
        """All peers that this replica knows, and how it stands with each."""
        self.check_usable()
        return [] if self._node is None else self._node.peers()

    def bootstrap_status(self) -> BootstrapStatus | None:
        """How far a snapshot that this replica takes has come: `murmur_bootstrap` in SQL.

        None while the network of this replica has not started.
        """
        self.check_usable()
        return None if self._node is None else self._node.bootstrap_status()

    def discover(
        self,
        *,
        mdns: bool = True,
        host: bool = True,
        accept: str = "ask",
        interfaces: Sequence[str] | None = None,
    ) -> None:
        """Find the replicas of this group that are near, and be found by them.

        `mdns` looks on the local network (pip install 'murmurdb[mdns]'), on the `interfaces` whose
        addresses are given or on all; `host` among this user's processes. With accept="ask" who is
        found waits in `pending_peers()`, unless it is a member; with "all", whoever knows the name
        of the group comes in, which is for networks where everybody may. Another call replaces the
        first; `discover(mdns=False, host=False)` ends it.
        """
        self.node().discover(mdns=mdns, host=host, accept=accept, interfaces=interfaces)

    def members(self) -> list[MemberStatus]:
        """The members of the group as this replica knows them: `murmur_members` in SQL.

        Those who vote, relay or discover publish a signed record of themselves, which is replicated
        with the data; of the others it knows whom it has met.
        """
        self.check_usable()
        return [] if self._node is None else self._node.members()

    def pending_peers(self) -> list[PendingPeer]:
        """Replicas that were found, or asked to come in, and wait: `murmur_pending` in SQL."""
        self.check_usable()
        return [] if self._node is None else self._node.pending_peers()

    def accept_peer(self, node_id: str) -> None:
        """Admit a replica by its node id, and connect with it where it was seen.

        It comes in when it has accepted this one too, or has a ticket.
        """
        self.node().accept_peer(node_id)

    def refuse_peer(self, node_id: str) -> None:
        """Keep a replica out, also one that was a member, until it is accepted.

        Other replicas decide for themselves; what it has, it keeps.
        """
        self.node().refuse_peer(node_id)

    def wait_for(
        self,
        peers: Iterable[str | PeerInfo] | str | PeerInfo | None = None,
        *,
        timeout: float = WAIT_TIMEOUT_S,
    ) -> None:
        """Block until the peers (default: all that are connected) hold all that is written here.

        Raises Timeout with the names of those that do not.
        """
        self.node().wait_for(peers, timeout=timeout)

    def wait_durable(self, count: int, *, timeout: float = WAIT_TIMEOUT_S) -> None:
        """Block until so many peers durably hold all that is written here.

        Raises Timeout if fewer do by then. Nothing is undone: what is written stays, here and
        wherever it has arrived, and goes on its way.
        """
        self.node().wait_durable(count, timeout=timeout)

    def commit(self, *, wait: int = 0, timeout: float = WAIT_TIMEOUT_S) -> None:
        """Make all that was written so far durable: here, and with `wait` on so many peers.

        Each write outside of a transaction has committed by itself; this is for the last of
        several, as of statements or batches. Raises Timeout as `wait_durable` does.
        """
        check_wait(wait, timeout)
        self.check_usable()
        self.replica.sync()
        if wait:
            self.wait_durable(wait, timeout=timeout)

    def verify(self, peer: str | PeerInfo, *, timeout: float = WAIT_TIMEOUT_S) -> Verification:
        """Compare all cells with those of a connected peer, by fingerprints of key ranges.

        What either side writes meanwhile is compared when it has come to rest, until the timeout;
        if some of it never does, or the two are too far apart, the answer is "undecided", and why.
        Raises PeerError when the peer is not connected, or leaves.
        """
        from murmur.swarm.verification import verification_of

        verdict = self.node().verify(peer, timeout=timeout)
        name = peer if isinstance(peer, str) else peer.node_id
        with self.replica.snapshot() as snapshot:
            return verification_of(verdict, name, snapshot.state)  # type: ignore[arg-type]

    def node(self) -> Node:
        """This replica's presence on the network, started if it was not."""
        self.check_usable()
        with self._lock:
            self.check_usable()
            if self._node is None:
                from murmur.swarm.members import ReplicatedRegistry
                from murmur.sync import Node
                from murmur.sync.bootstrap import LogPolicy

                options = self._network
                node = Node(
                    self.replica,
                    group=self.group,
                    storage=self._storage,
                    listen=DEFAULT_LISTEN if options.listen is None else options.listen,
                    transport=self._network.transport,
                    fast=self._network.fast,
                    relay=self._network.relay,
                    introductions=self._network.introductions,
                    election=self._network.election,
                    voters=self._network.voters,
                    bandwidth=self._network.bandwidth,
                    peer_bandwidth=self._network.peer_bandwidth,
                    on_leader_change=self._leader_changed,
                    registry=ReplicatedRegistry(self.replica),
                    log=LogPolicy(options.log_bytes, options.log_days, options.expire_days),
                    random_bytes=self._random_bytes,
                )
                node.start()
                self._node = node
            return self._node

    # -- who leads

    @property
    def node_id(self) -> str:
        """The public key by which peers know this replica; it starts the network, if need be."""
        return self.node().node_id

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads its group at this moment, and may run its singleton jobs.

        With voters it holds a lease: no other does before the lease ends. False while the network
        of this replica has not started.
        """
        return self._node is not None and self._node.is_leader

    @property
    def leader_id(self) -> str | None:
        """The node id of the group's leader, as this replica knows it; None while nobody leads."""
        return None if self._node is None else self._node.leader_id

    @property
    def fencing_token(self) -> int | None:
        """The term in which this replica leads; None if it does not, or by "bully".

        It is greater than that of any leader before. Whatever the leader's job writes to can
        refuse a token smaller than one that it has seen: of a leader that slept too long.
        """
        return None if self._node is None else self._node.fencing_token

    def on_leader_change(self, listener: LeaderListener) -> Callable[[], None]:
        """Call `listener` with the leader's node id, or None, when it changes.

        It is called in a thread of its own, one call after the other. What is returned ends it.
        """
        if not callable(listener):
            raise InvalidInput(f"on_leader_change takes a function, not {listener!r}")
        self.check_usable()
        listeners = self._leader_listeners
        listeners.append(listener)
        return lambda: listeners.remove(listener) if listener in listeners else None

    def _leader_changed(self, leader: str | None) -> None:
        failures = []
        for listener in list(self._leader_listeners):
            try:
                listener(leader)
            except Exception as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("on_leader_change", failures)
