"""The node: a replica's presence on the network, behind a plain blocking API.

Its methods hand questions to the loop (loop.py), which owns everything about peers, and wait for
the answer.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from threading import Lock
from typing import TYPE_CHECKING

from murmur.errors import InvalidInput
from murmur.kvcore import Storage
from murmur.sync.bandwidth import check_rate
from murmur.sync.bootstrap import Bootstrap, Breather, LogPolicy
from murmur.sync.bootstrap_sources import BootstrapStatus
from murmur.sync.bootstrap_wire import Handed
from murmur.sync.discovery import Introductions, Sighting, Stranger
from murmur.sync.discovery.door import check_accept, check_where
from murmur.sync.discovery.scouts import Scouts
from murmur.sync.election import Ballot, Election, Leadership
from murmur.sync.election.choice import check_election, make_election
from murmur.sync.exchange import Patience
from murmur.sync.identity import Identity
from murmur.sync.lanes import open_lanes
from murmur.sync.loop import STOPPED, Loop
from murmur.sync.membership import Members, Registry, Swim
from murmur.sync.mesh import Mesh
from murmur.sync.peer import Timing
from murmur.sync.pull import Pull
from murmur.sync.push import Push
from murmur.sync.questions import Questions
from murmur.sync.quic_core import check_fast
from murmur.sync.roster import Member, Roster
from murmur.sync.service import Service
from murmur.sync.status import MemberStatus, PeerInfo, PeerStatus, PendingPeer
from murmur.sync.ticket import (
    MAX_RELAY_ADDRESSES,
    MAX_RELAYS,
    Hint,
    Ticket,
    check_group,
    node_text,
    parse_node,
)
from murmur.sync.transport import TCP, Transport, check_transport, scheme_of
from murmur.sync.verify import Verifier
from murmur.sync.verify_wire import Verdict

if TYPE_CHECKING:
    from murmur.sync.circuits import RelayTransport
    from murmur.sync.relay import Relay

CONNECT_TIMEOUT_S = 15.0
INCARNATION_BYTES = 8

log = logging.getLogger("murmur.sync")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to a peer.

    connected, moved, disconnected, found, pending, refused, quarantined, skew, error, diverged,
    undecided, bootstrap, expired, renewed, leader, stopped
    """

    kind: str
    node_id: str
    text: str


class Node:
    """A replica's presence on the network. Safe to use from many threads."""

    def __init__(
        self,
        replica: Handed,
        *,
        group: str,
        storage: Storage,
        identity: Identity | None = None,
        listen: str = "127.0.0.1:0",
        transport: str = "adaptive",
        fast: bool | None = None,
        local_directory: str | None = None,
        relay: bool = False,
        introductions: bool = True,
        election: str = "majority",
        voters: Sequence[str] = (),
        bandwidth: int | None = None,
        peer_bandwidth: int | None = None,
        on_event: Callable[[Notice], None] | None = None,
        on_leader_change: Callable[[str | None], None] | None = None,
        timing: Timing | None = None,
        patience: Patience | None = None,
        services: Sequence[Service] = (),
        registry: Registry | None = None,
        log: LogPolicy | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """A node of one group. `on_event` is called by the node's thread: it must be quick.

        `transport` pins "local", "quic" or "tcp"; "adaptive" has all, and dials the first of them
        that answers.
        `fast`: QUIC over qh3 with peers that have it too; None means where it is installed.
        `local_directory` is where the nodes of this host meet.
        `relay`: carry what members send each other that cannot reach each other.
        `introductions`: tell members of each other, and dial whom they tell of.
        `election` is "majority" of the `voters` (node ids), or "bully"; `on_leader_change` is told
        the leader's node id or None, in a thread of its own.
        `bandwidth` limits what is sent in all and `peer_bandwidth` to each peer, in bytes a second.
        `services` are run by the node's thread. In `registry` stand the members' records: a node
        that votes, relays or discovers publishes its own there. `log` says how much of the log is
        kept for whom.
        """
        self.group = check_group(group)
        self._replica = replica
        self._storage = storage
        self._identity = identity or Identity.load(storage, random_bytes)
        self._listen = listen
        self._kind = check_transport(transport)
        self._fast = check_fast(fast)
        self._local_directory = local_directory
        self._relays = relay
        self._introductions = introductions
        self._relay: Relay | None = None
        self._election: Election | None = None
        self._election_kind = election
        self._voters = check_election(election, voters)
        self._bandwidth = check_rate(bandwidth, "bandwidth")
        self._peer_bandwidth = check_rate(peer_bandwidth, "peer_bandwidth")
        self._members = (
            None
            if registry is None
            else Members(
                registry,
                self._identity,
                self.group,
                roles=[
                    role
                    for role, held in (
                        ("relay", relay),
                        ("voter", self._identity.node_id in self._voters),
                    )
                    if held
                ],
                addresses=lambda: self._addresses,
                meet=lambda seen, now_ms: self._loop.mesh.reception.meet(seen, now_ms),
            )
        )
        self._swim = Swim(
            lambda: [each.node_id for each, _ in self._loop.mesh.reception.acquaintances()]
        )
        self._on_event = on_event
        self._on_leader_change = on_leader_change
        self._timing = timing
        self._patience = patience
        self._services = services
        self._verifier = Verifier()
        self._log = log
        self._bootstrap: Bootstrap | None = None
        self._scouts = Scouts(lambda seen, now_ms: self._loop.mesh.reception.meet(seen, now_ms))
        self._random_bytes = random_bytes
        self._monotonic = monotonic
        self._loop = Loop(replica, monotonic, self._stopped)
        self._questions = Questions(self._loop, replica, monotonic)
        self._addresses: tuple[str, ...] = ()
        self._discovering = Lock()  # what is asked replaces what was asked before, one at a time

    @property
    def node_id(self) -> str:
        """The public key, as text."""
        return node_text(self._identity.node_id)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialed, once it is started."""
        return self._addresses

    @property
    def state(self) -> str:
        """new, running, closed, or why it stopped."""
        return self._loop.state

    def start(self) -> None:
        """Bind the socket, start the thread and dial the peers that are remembered."""
        self._loop.start(self._begin)

    def _begin(self) -> tuple[Transport, Mesh]:
        self._roster = Roster(self._storage, self.group, self._random_bytes)
        self._election = make_election(
            self._election_kind,
            self._voters,
            lambda: Ballot(self._storage, self.group),
            self._leader_changed,
        )
        self._bootstrap = Bootstrap(
            self._replica,
            self._storage,
            members=lambda: list(self._roster.members),
            policy=self._log,
            pause=Breather(self._monotonic, time.sleep),
        )
        opened = open_lanes(
            self._kind,
            self._identity,
            listen=self._listen,
            last_port=self._roster.port,
            local_directory=self._local_directory,
            fast=self._fast,
            now=self._monotonic(),
        )
        transport = opened.transport
        try:
            if opened.port:
                self._roster.bind(opened.port)
            self._addresses = tuple(transport.addresses)
            relay = self._relay = self._make_relay(opened.circuits)
            return transport, Mesh(
                self._replica,
                self._identity,
                self._roster,
                transport,
                self._loop.workers,
                group=self.group,
                incarnation=self._random_bytes(INCARNATION_BYTES),
                random=Random(int.from_bytes(self._random_bytes(16))),
                random_bytes=self._random_bytes,
                timing=self._timing,
                patience=self._patience,
                services=(
                    Push(),
                    Pull(busy=lambda: self._bootstrap is not None and self._bootstrap.fetching),
                    self._verifier,
                    self._bootstrap,
                    self._election,
                    self._scouts,
                    Introductions(lambda: self._loop.mesh.reception, exchange=self._introductions),
                    self._swim,
                    *([self._members] if self._members is not None else []),
                    *([relay] if relay is not None else []),
                    *opened.offers,
                    *self._services,
                ),
                bandwidth=self._bandwidth,
                peer_bandwidth=self._peer_bandwidth,
                on_notice=self._notice,
            )
        except BaseException:
            transport.close(self._monotonic())
            raise

    def bootstrap_status(self) -> BootstrapStatus | None:
        """How far a bootstrap of this replica has come; None once the node is closed."""
        bootstrap = self._bootstrap
        if bootstrap is None or self.state != "running":
            return None
        return next(iter(self._loop.look(lambda: [bootstrap.status()])), None)

    def ticket(self, *, invite: bool = True) -> str:
        """Text by which others can connect; with an invite it also admits them to the group.

        It then names relays that are connected, for who cannot reach this node.
        """
        self._loop.check_running()
        secret = self._roster.invite if invite else None
        relays = tuple(self._loop.look(self._hints)) if invite else ()
        return str(Ticket(self._identity.node_id, self.group, self._addresses, secret, relays))

    def _hints(self) -> list[Hint]:
        """The relays for a ticket."""
        hints = []
        for node_id, invite in self._relay.invites.items() if self._relay is not None else ():
            contact = self._loop.mesh.company.contacts.get(node_id)
            known = contact.member.addresses if contact is not None else ()
            reachable = [each for each in known if scheme_of(each) in ("", TCP)]
            if reachable:
                hints.append(Hint(node_id, tuple(reachable[:MAX_RELAY_ADDRESSES]), invite))
        return hints[:MAX_RELAYS]

    def connect_peer(self, ticket: str, *, timeout: float = CONNECT_TIMEOUT_S) -> PeerInfo:
        """Connect with a ticket's node, and again whenever the connection is lost.

        Returns once it is authenticated. Raises InvalidInput for a damaged ticket, Unreachable if
        nobody answers in time, PeerError if the peer refuses.
        """
        return self._questions.connect(ticket, timeout)

    def connected_peers(self) -> list[PeerInfo]:
        """The peers with whom a conversation is open."""
        return self._loop.look(self._loop.mesh.company.connected) if self.state == "running" else []

    def peers(self) -> list[PeerStatus]:
        """Every peer that this node knows, and how it stands with it.

        Of a node that could not go on, all that it knew, in the state "stopped", and why.
        """
        if self.state.startswith(STOPPED):
            known = self._loop.mesh.company.status(self._replica.vector, self._loop.now_ms())
            return [replace(each, state=STOPPED, last_error=self.state) for each in known]
        if self.state != "running":
            return []
        return self._loop.look(lambda: self._loop.mesh.status(self._loop.now_ms()))

    def wait_for(
        self, peers: Iterable[str | PeerInfo] | str | PeerInfo | None = None, *, timeout: float
    ) -> None:
        """Block until the peers durably hold everything that is committed here now.

        None means all that are connected, or were and did not say goodbye; if none is, the first
        that connects. Raises Timeout with the names of those that are late.
        """
        self._questions.wait_for(peers, timeout)

    def wait_durable(self, count: int, *, timeout: float) -> None:
        """Block until so many peers durably hold everything that is committed here now.

        Raises Timeout if fewer do; what is committed stays, and goes on its way.
        """
        self._questions.wait_durable(count, timeout)

    def verify(self, peer: str | PeerInfo, *, timeout: float) -> Verdict:
        """Compare this replica's state with that of a connected peer.

        What is written to meanwhile is compared when it has come to rest, until the timeout; the
        comparison itself takes as long as reading everything does. Raises PeerError if the peer is
        not connected, or leaves.
        """
        return self._questions.verify(self._verifier, peer, timeout)

    # -- who is found

    def discover(
        self,
        *,
        mdns: bool = True,
        host: bool = True,
        accept: str = "ask",
        interfaces: Sequence[str] | None = None,
    ) -> None:
        """Look for the group's nodes on the local network and this host, and be seen there.

        Calling it again replaces what was asked before; with neither nothing is looked for. A
        network without multicast is told (a notice, and the log), and does not stop the rest.
        """
        check_accept(accept)
        check_where(mdns=mdns, host=host, interfaces=interfaces)
        self._loop.check_may_wait()
        with self._discovering:
            self._discover(mdns, host, accept, interfaces)

    def _discover(
        self, mdns: bool, host: bool, accept: str, interfaces: Sequence[str] | None
    ) -> None:
        from murmur.sync.discovery.host import HostScout
        from murmur.sync.discovery.mdns import MulticastScout

        def report(seen: Sighting) -> None:
            self._loop.post(lambda now_ms: self._loop.mesh.reception.meet(seen, now_ms))

        # What was asked before ends first: its announcements have the same names.
        self._loop.ask(lambda now_ms: self._scouts.send(None, None, now_ms))
        own = self._identity.node_id
        near = HostScout(own, self.group, self._local_directory) if host else None
        far = None
        try:
            if mdns:
                far = MulticastScout(
                    own, self.group, self._addresses, report, interfaces=interfaces
                )
        except OSError as error:
            self._notice("error", self.node_id, f"this network cannot be searched: {error}")
        except BaseException:
            if near is not None:
                near.close()
            raise

        def begin(now_ms: int) -> None:
            self._loop.mesh.reception.door.accept = accept
            self._scouts.send(near, far, now_ms)
            if self._members is not None:
                self._members.show(now_ms)

        self._loop.ask(begin)

    def members(self) -> list[MemberStatus]:
        """Everybody who was met, and everybody with a record: who they are, and whether alive."""
        if self.state != "running" or self._members is None:
            return []

        def look() -> list[tuple[list[Member], dict[bytes, str]]]:
            met = [member for member, _ in self._loop.mesh.reception.acquaintances()]
            return [(met, self._swim.liveness())]

        for met, liveness in self._loop.look(look):
            return self._members.status(met, liveness)
        return []

    def pending_peers(self) -> list[PendingPeer]:
        """Nodes of the group that were found, or dialed this one, and wait to be accepted."""
        if self.state != "running":
            return []
        return [
            _pending(stranger) for stranger in self._loop.look(self._loop.mesh.reception.strangers)
        ]

    def accept_peer(self, node_id: str) -> None:
        """Admit a node that waits, or whose id is known otherwise, and connect with it."""
        key = parse_node(node_id)
        if key == self._identity.node_id:
            raise InvalidInput("accept: it is this node's own id")
        self._loop.check_may_wait()
        self._loop.ask(lambda now_ms: self._loop.mesh.reception.accept(key, now_ms))

    def refuse_peer(self, node_id: str) -> None:
        """Keep a node out until it is accepted, a member too; durable when this returns."""
        key = parse_node(node_id)
        if key == self._identity.node_id:
            raise InvalidInput("refuse: it is this node's own id")
        self._loop.check_may_wait()
        done: Future[None] = Future()

        def refused(_: None, error: BaseException | None, now_ms: int) -> None:
            self._loop.mesh.reception.refuse(key, now_ms)
            done.set_result(None) if error is None else done.set_exception(error)

        write = partial(self._roster.refuse, key)
        self._loop.post(lambda _: self._loop.workers.submit("roster", write, refused))
        self._loop.wait(done)

    # -- who leads

    @property
    def leader_id(self) -> str | None:
        """The node id of the leader, as this node knows it."""
        leader = self._election.leadership.leader if self._election is not None else None
        return None if leader is None else node_text(leader)

    @property
    def is_leader(self) -> bool:
        """Whether this node leads at this moment."""
        return self._election is not None and self._election.leads(self._loop.now_ms())

    @property
    def fencing_token(self) -> int | None:
        """The term in which this node leads; None if it does not, or by Bully."""
        return None if self._election is None else self._election.token(self._loop.now_ms())

    def _leader_changed(self, leadership: Leadership) -> None:
        leader = None if leadership.leader is None else node_text(leadership.leader)
        self._notice("leader", leader or "", f"term {leadership.term}" if leader else "nobody")
        tell = self._on_leader_change
        if tell is None:
            return

        def told(_: None, error: BaseException | None, now_ms: int) -> None:
            if error is not None:
                log.error("on_leader_change raised", exc_info=error)

        self._loop.workers.submit("listeners", partial(tell, leader), told)

    def close(self) -> None:
        """Say goodbye, end the thread, close the socket. Calling it again does nothing."""
        self._loop.close()

    def __enter__(self) -> Node:
        if self._loop.state == "new":
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_relay(self, circuits: RelayTransport | None) -> Relay | None:
        if circuits is None and not self._relays:
            return None
        from murmur.sync.relay import Relay

        return Relay(circuits, serves=self._relays, invite=lambda: self._roster.invite)

    def _notice(self, kind: str, node_id: str, text: str) -> None:
        log.info("%s %s: %s", kind, node_id[:12], text)
        if self._on_event is not None:
            try:
                self._on_event(Notice(kind, node_id, text))
            except Exception:
                log.exception("on_event raised")

    def _stopped(self, why: str) -> None:
        self._notice("stopped", self.node_id, why)


def _pending(stranger: Stranger) -> PendingPeer:
    return PendingPeer(
        node_text(stranger.node_id),
        stranger.addresses,
        stranger.via,
        stranger.asks,
        stranger.first_ms,
        stranger.last_ms,
    )
