"""The node: one thread that runs a replica's conversations, behind a plain blocking API.

    application threads  --calls-->  inbox  -->  loop: socket, timers, mesh  --work-->  workers
                         <--futures--                                        <--results--

The loop owns everything about peers; others hand it callables and wait for futures. What may block
(applying records, reading the log, writing files, looking up names) runs on workers, one thread per
lane, so that keep-alives go out while a disk stalls.

Invariants:
    1. Nothing but the loop touches mesh and transport, from start to close.
    2. close() may be called from any thread, at any time, twice: after it no thread and no socket
       of the node is left. A KeyboardInterrupt inside it leaves it to be called again.
    3. A replica that is closed or poisoned stops the node; `state` says why.
"""

from __future__ import annotations

import atexit
import logging
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from random import Random
from typing import Any, TypeVar

from murmur.errors import Closed, Forked, InvalidInput, PeerError, Timeout, Unreachable
from murmur.kvcore import Storage
from murmur.sync.contact import Wait
from murmur.sync.election import Ballot, BullyElection, Election, Leadership, MajorityElection
from murmur.sync.exchange import Patience
from murmur.sync.identity import Identity
from murmur.sync.lanes import Lanes
from murmur.sync.local import LocalTransport
from murmur.sync.mesh import Mesh
from murmur.sync.outbox import Outbox
from murmur.sync.peer import Timing
from murmur.sync.roster import Roster
from murmur.sync.service import Service
from murmur.sync.status import PeerInfo, PeerStatus
from murmur.sync.ticket import Ticket, check_group, node_text, parse_node
from murmur.sync.transport import LOCAL, TCP, Transport, check_transport
from murmur.sync.verify import Verdict, Verifier

CONNECT_TIMEOUT_S = 15.0
INCARNATION_BYTES = 8
ELECTIONS = ("majority", "bully")

log = logging.getLogger("murmur.sync")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to a peer.

    connected, disconnected, refused, skew, error, diverged, leader, stopped
    """

    kind: str
    node_id: str
    text: str


class Node:
    """A replica's presence on the network. Safe to use from many threads."""

    def __init__(
        self,
        replica: Outbox,
        *,
        group: str,
        storage: Storage,
        identity: Identity | None = None,
        listen: str = "127.0.0.1:0",
        transport: str = "adaptive",
        local_directory: str | None = None,
        election: str = "majority",
        voters: Sequence[str] = (),
        on_event: Callable[[Notice], None] | None = None,
        on_leader_change: Callable[[str | None], None] | None = None,
        timing: Timing | None = None,
        patience: Patience | None = None,
        services: Sequence[Service] = (),
        random_bytes: Callable[[int], bytes] = os.urandom,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """A node of one group. `on_event` is called by the node's thread: it must be quick.

        `transport` pins "local", "quic" or "tcp"; "adaptive" has all, and dials the first of them
        that answers.
        `local_directory` is where the nodes of this host meet.
        `election` is "majority" of the `voters` (node ids), or "bully"; `on_leader_change` is told
        the leader's node id or None, in a thread of its own.
        `services` are run by the node's thread.
        """
        self.group = check_group(group)
        self.state = "new"  # new, running, closed, or why it stopped
        self._replica = replica
        self._storage = storage
        self._identity = identity or Identity.load(storage, random_bytes)
        self._listen = listen
        self._kind = check_transport(transport)
        self._local_directory = local_directory
        self._election: Election | None = None
        self._election_kind = election
        self._voters = check_election(election, voters)
        self._on_event = on_event
        self._on_leader_change = on_leader_change
        self._timing = timing
        self._patience = patience
        self._services = services
        self._verifier = Verifier()
        self._random_bytes = random_bytes
        self._monotonic = monotonic
        self._pid = os.getpid()
        self._lock = threading.Lock()  # a node starts once
        self._thread: threading.Thread | None = None
        self._inbox: deque[Callable[[int], None]] = deque()
        self._waker: socket.socket | None = None
        self._closing = False
        self._durable_noted = False
        self._addresses: tuple[str, ...] = ()

    @property
    def node_id(self) -> str:
        """The public key, as text."""
        return node_text(self._identity.node_id)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where this node can be dialed, once it is started."""
        return self._addresses

    def start(self) -> None:
        """Bind the socket, start the thread and dial the peers that are remembered."""
        with self._lock:
            self._check_pid()
            if self._thread is not None or self._closing:
                raise Closed(f"the node is {self.state}; a node starts once")
            self._roster = Roster(self._storage, self.group, self._random_bytes)
            transport, port = self._open_transport(self._roster.port)
            wake_reader = None
            try:
                if port:
                    self._roster.bind(port)
                wake_reader, self._waker = socket.socketpair()
                wake_reader.settimeout(0)
                self._waker.settimeout(0)
                self._addresses = tuple(transport.addresses)
                self._workers = _Workers(self._post)
                self._election = self._make_election()
                self._mesh = Mesh(
                    self._replica,
                    self._identity,
                    self._roster,
                    transport,
                    self._workers,
                    group=self.group,
                    incarnation=self._random_bytes(INCARNATION_BYTES),
                    random=Random(int.from_bytes(self._random_bytes(16))),
                    random_bytes=self._random_bytes,
                    timing=self._timing,
                    patience=self._patience,
                    services=(self._verifier, self._election, *self._services),
                    on_notice=self._notice,
                )
                self._thread = threading.Thread(
                    target=self._run,
                    args=(transport, wake_reader),
                    name="murmur-node",
                    daemon=True,
                )
                self.state = "running"
                self._thread.start()
            except BaseException:
                transport.close(self._monotonic())
                for end in (wake_reader, self._waker):
                    if end is not None:
                        end.close()
                self._thread, self._closing = None, True
                self.state = "failed to start"
                raise
        atexit.register(self.close)

    def ticket(self, *, invite: bool = True) -> str:
        """Text by which others can connect; with an invite it also admits them to the group."""
        self._check_running()
        secret = self._roster.invite if invite else None
        return str(Ticket(self._identity.node_id, self.group, self._addresses, secret))

    def connect_peer(self, ticket: str, *, timeout: float = CONNECT_TIMEOUT_S) -> PeerInfo:
        """Connect with a ticket's node, and again whenever the connection is lost.

        Returns once it is authenticated. Raises InvalidInput for a damaged ticket, Unreachable if
        nobody answers in time, PeerError if the peer refuses.
        """
        parsed = Ticket.parse(ticket)
        self._check_may_wait()
        found: Future[PeerInfo] = Future()

        def answer(info: PeerInfo | None, error: BaseException | None) -> None:
            if found.done():
                return
            if error is not None:
                found.set_exception(error)
            else:
                assert info is not None
                found.set_result(info)

        self._post(lambda now_ms: self._mesh.connect(parsed, answer, now_ms))
        try:
            return found.result(timeout)
        except FutureTimeout:
            reason = self._ask(lambda _: self._mesh.forget_answer(parsed.node_id, answer))
            if found.done():  # the answer came in the last moment
                return found.result()
            where = ", ".join(parsed.addresses) or "no address"
            raise Unreachable(
                f"no connection with {node_text(parsed.node_id)[:12]}… ({where}) "
                f"within {timeout:g} s: {reason}"
            ) from None
        except BaseException:
            if not found.done():
                self._post(lambda _: _ignore(self._mesh.forget_answer(parsed.node_id, answer)))
            raise

    def connected_peers(self) -> list[PeerInfo]:
        """The peers with whom a conversation is open."""
        return self._look(self._mesh.connected) if self.state == "running" else []

    def peers(self) -> list[PeerStatus]:
        """Every peer that this node knows, and how it stands with it."""
        return self._look(self._mesh.status) if self.state == "running" else []

    def wait_for(self, peers: Iterable[str | PeerInfo] | None = None, *, timeout: float) -> None:
        """Block until the peers durably hold everything that is committed here now.

        None means all that are connected, or were and did not say goodbye; if none is, the first
        that connects. Raises Timeout with the names of those that are late.
        """
        self._check_may_wait()
        wanted = None if peers is None else frozenset(_node_id(peer) for peer in peers)
        if wanted is not None and not wanted:
            return
        vector = {replica: seq for replica, seq in self._replica.vector.items() if seq}
        self._replica.sync()  # only what is durable is sent: do not wait for the next interval
        if wanted:
            known = self._ask(lambda _: frozenset(self._mesh.contacts))
            for node_id in wanted - known:
                raise InvalidInput(f"peer {node_text(node_id)} is not known here: connect to it")
        late = self._wait(vector, timeout, peers=wanted)
        if late is not None:
            names = ", ".join(f"{name[:12]}…" for name in late) or "no peer connected"
            raise Timeout(f"not everybody holds this replica's data after {timeout:g} s: {names}")

    def wait_durable(self, count: int, *, timeout: float) -> None:
        """Block until so many peers durably hold everything that is committed here now.

        Raises Timeout if fewer do; what is committed stays, and goes on its way.
        """
        if type(count) is not int or count < 0:
            raise InvalidInput(f"wait: {count!r} is not a number of peers")
        self._check_may_wait()
        vector = {replica: seq for replica, seq in self._replica.vector.items() if seq}
        self._replica.sync()
        late = self._wait(vector, timeout, count=count)
        if late is not None:
            names = ", ".join(f"{name[:12]}…" for name in late) or "no peer is known"
            raise Timeout(
                f"fewer than {count} peers hold this replica's data after {timeout:g} s "
                f"(missing: {names}); it is committed here, and they get it when they connect"
            )

    def verify(self, peer: str | PeerInfo, *, timeout: float) -> Verdict:
        """Compare this replica's state with that of a connected peer.

        States are compared at equal vectors, for which it waits until the timeout; the comparison
        itself takes as long as reading everything does. Raises PeerError if the peer is not
        connected, or leaves.
        """
        self._check_may_wait()
        node_id, found = _node_id(peer), Future[Verdict]()

        def answer(verdict: Verdict | None, error: BaseException | None) -> None:
            if verdict is not None:
                found.set_result(verdict)
            else:
                found.set_exception(error or PeerError("the comparison failed"))

        wait_ms = int(timeout * 1000)
        self._post(lambda now: self._verifier.verify(node_id, now + wait_ms, answer, now))
        try:
            while True:
                try:
                    return found.result(1.0)
                except FutureTimeout:
                    self._check_running()
        except BaseException:
            self._post(lambda _: self._verifier.give_up(answer))
            raise

    # -- who leads

    @property
    def leader_id(self) -> str | None:
        """The node id of the leader, as this node knows it."""
        leader = self._election.leadership.leader if self._election is not None else None
        return None if leader is None else node_text(leader)

    @property
    def is_leader(self) -> bool:
        """Whether this node leads at this moment."""
        return self._election is not None and self._election.leads(self._now_ms())

    @property
    def fencing_token(self) -> int | None:
        """The term in which this node leads; None if it does not, or by Bully."""
        return None if self._election is None else self._election.token(self._now_ms())

    def _make_election(self) -> Election:
        if self._election_kind == "bully":
            return BullyElection(on_change=self._leader_changed)
        ballot = Ballot(self._storage, self.group)
        return MajorityElection(self._voters, ballot, on_change=self._leader_changed)

    def _leader_changed(self, leadership: Leadership) -> None:
        leader = None if leadership.leader is None else node_text(leadership.leader)
        self._notice("leader", leader or "", f"term {leadership.term}" if leader else "nobody")
        tell = self._on_leader_change
        if tell is None:
            return

        def told(_: None, error: BaseException | None, now_ms: int) -> None:
            if error is not None:
                log.error("on_leader_change raised", exc_info=error)

        self._workers.submit("listeners", partial(tell, leader), told)

    def _wait(
        self,
        vector: dict[bytes, int],
        timeout: float,
        *,
        peers: frozenset[bytes] | None = None,
        count: int | None = None,
    ) -> list[str] | None:
        """Block until peers hold the vector; who is late, if that took too long."""
        held: Future[None] = Future()
        wait = Wait(vector, peers, lambda: held.set_result(None), count)
        self._post(lambda _: self._mesh.wait(wait))
        deadline = self._monotonic() + timeout
        try:
            while True:
                try:
                    # In steps, so that a node that stops meanwhile is noticed.
                    held.result(min(1.0, max(0.0, deadline - self._monotonic())))
                    return None
                except FutureTimeout:
                    self._check_running()
                    if self._monotonic() >= deadline:
                        break
            late = self._ask(lambda _: self._mesh.forget_wait(wait))
            return None if held.done() else late  # it came in the last moment
        except BaseException:
            self._post(lambda _: _ignore(self._mesh.forget_wait(wait)))
            raise

    def close(self) -> None:
        """Say goodbye, end the thread, close the socket. Calling it again does nothing."""
        if os.getpid() != self._pid:
            return  # the thread and its peers are the parent's
        self._closing = True
        thread = self._thread
        if thread is None:
            if self.state == "new":
                self.state = "closed"
            return
        self._wake()
        if thread is not threading.current_thread():
            thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> Node:
        if self._thread is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_transport(self, last_port: int) -> tuple[Transport, int]:
        """What `transport` asks for, and the port that it listens on (0: on none)."""
        lanes: dict[str, Transport] = {}
        port = 0
        try:
            if self._kind in ("adaptive", "local"):
                with self._dispensable("a local socket"):
                    lanes[LOCAL] = LocalTransport(self._identity.node_id, self._local_directory)
            if self._kind in ("adaptive", "quic"):
                from murmur.sync.quic import QuicTransport  # aioquic loads on first use

                quic = QuicTransport(self._listen, self._identity, last_port=last_port)
                lanes[""], port = quic, quic.port
            if self._kind in ("adaptive", "tcp"):
                from murmur.sync.tls import TlsTransport

                with self._dispensable("TCP"):
                    tcp = TlsTransport(self._listen, self._identity, last_port=port or last_port)
                    lanes[TCP], port = tcp, port or tcp.port
        except BaseException:
            for lane in lanes.values():
                lane.close(self._monotonic())
            raise
        # The order of the lanes is the order of dialing.
        return Lanes(lanes), port

    @contextmanager
    def _dispensable(self, what: str) -> Iterator[None]:
        """Do without this transport if the system refuses it, unless it was asked for."""
        try:
            yield
        except OSError as error:
            if self._kind != "adaptive":
                raise
            log.warning("this node does without %s: %s", what, error)

    # -- between threads

    def _check_pid(self) -> None:
        if os.getpid() != self._pid:
            raise Forked(f"the node belongs to process {self._pid}; open the replica in this one")

    def _check_may_wait(self) -> None:
        """Refuse to wait for the loop in the loop."""
        self._check_running()
        if threading.current_thread() is self._thread:
            raise InvalidInput("on_event may not wait for the network: use another thread")

    def _check_running(self) -> None:
        self._check_pid()
        if self.state != "running" or self._closing:
            raise Closed(f"the node is {self.state if self.state != 'running' else 'closing'}")

    def _post(self, call: Callable[[int], None]) -> None:
        """Have the loop call this; from any thread."""
        self._inbox.append(call)
        self._wake()

    def _ask(self, question: Callable[[int], Result]) -> Result:
        """The loop's answer to a question."""
        answer: Future[Result] = Future()

        def call(now_ms: int) -> None:
            try:
                answer.set_result(question(now_ms))
            except BaseException as error:
                answer.set_exception(error)

        self._check_running()
        self._post(call)
        while True:
            try:
                return answer.result(1.0)
            except FutureTimeout:
                self._check_running()

    def _look(self, question: Callable[[], list[Result]]) -> list[Result]:
        """What the loop sees; nothing, if it has ended meanwhile."""
        if threading.current_thread() is self._thread:  # asked by on_event
            return question()
        try:
            return self._ask(lambda _: question())
        except Closed:
            return []

    def _wake(self) -> None:
        waker = self._waker
        if waker is not None:
            try:
                waker.send(b"\0")
            except BlockingIOError:
                return  # it has enough to wake up for
            except OSError:
                return  # the loop has ended

    def _durable_moved(self) -> None:
        # Called by committing threads: note it once, the loop looks for itself how far.
        if not self._durable_noted:
            self._durable_noted = True
            self._wake()

    def _notice(self, kind: str, node_id: str, text: str) -> None:
        log.info("%s %s: %s", kind, node_id[:12], text)
        if self._on_event is not None:
            try:
                self._on_event(Notice(kind, node_id, text))
            except Exception:
                log.exception("on_event raised")

    # -- the loop

    def _run(self, transport: Transport, wake_reader: socket.socket) -> None:
        mesh = self._mesh
        why = "closed"
        with ExitStack() as ends:
            ends.callback(wake_reader.close)
            if self._waker is not None:
                ends.callback(self._waker.close)
            ends.callback(self._workers.close)
            selector = ends.enter_context(selectors.DefaultSelector())
            ends.callback(lambda: transport.close(self._monotonic()))
            try:
                ends.callback(self._replica.subscribe(self._durable_moved))
                selector.register(transport, selectors.EVENT_READ)
                selector.register(wake_reader, selectors.EVENT_READ)
                mesh.start(self._now_ms())
                while not self._closing and mesh.failure is None:
                    self._turn(selector, transport, wake_reader)
                if mesh.failure is not None:
                    why = f"stopped: {type(mesh.failure).__name__}: {mesh.failure}"
            except Exception as error:
                log.exception("the node's loop failed")
                why = f"stopped: {type(error).__name__}: {error}"
            self.state = why
            mesh.close("the node closes" if why == "closed" else "the node stopped")
            while self._inbox:
                self._inbox.popleft()(self._now_ms())
        if why != "closed":
            self._notice("stopped", self.node_id, why)

    def _turn(
        self, selector: selectors.BaseSelector, transport: Transport, wake_reader: socket.socket
    ) -> None:
        mesh = self._mesh
        selector.select(self._timeout(transport))
        with suppress(BlockingIOError):  # then something else woke the loop
            wake_reader.recv(4096)
        now = self._monotonic()
        now_ms = int(now * 1000)
        for event in transport.poll(now):
            mesh.handle(event, now_ms)
        if self._durable_noted:
            self._durable_noted = False
            mesh.durable_moved(now_ms)
        while self._inbox:
            self._inbox.popleft()(now_ms)
        mesh.tick(now_ms)
        mesh.flush(now_ms)
        transport.flush(self._monotonic())

    def _timeout(self, transport: Transport) -> float:
        if self._inbox or self._durable_noted:
            return 0.0
        now = self._monotonic()
        timeout = 60.0
        timer = transport.next_timer()
        if timer is not None:
            timeout = min(timeout, timer - now)
        timer_ms = self._mesh.next_timer_ms(int(now * 1000))
        if timer_ms is not None:
            timeout = min(timeout, timer_ms / 1000 - now)
        return max(0.0, timeout)

    def _now_ms(self) -> int:
        return int(self._monotonic() * 1000)


class _Workers:
    """One thread per lane, started when the lane is first used."""

    def __init__(self, post: Callable[[Callable[[int], None]], None]) -> None:
        self._post = post
        self._lanes: dict[str, SimpleQueue[Callable[[], None] | None]] = {}
        self._threads: list[threading.Thread] = []

    def submit(
        self,
        lane: str,
        work: Callable[[], Any],
        done: Callable[[Any, BaseException | None, int], None],
    ) -> None:
        """Do the work on the lane's thread and hand the result to the loop."""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = SimpleQueue()
            thread = threading.Thread(
                target=_work, args=(queue,), name=f"murmur-node-{lane}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

        def task() -> None:
            try:
                result, error = work(), None
            except Exception as raised:
                result, error = None, raised
            self._post(lambda now_ms: done(result, error, now_ms))

        queue.put(task)

    def close(self) -> None:
        """Finish what has begun and what is to be remembered, drop the rest, end the threads."""
        for lane, queue in self._lanes.items():
            while lane != "roster" and not queue.empty():
                queue.get_nowait()
            queue.put(None)
        for thread in self._threads:
            thread.join()


def _work(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (task := queue.get()) is not None:
        task()


def check_election(election: str, voters: Iterable[str]) -> frozenset[bytes]:
    """The voters' keys; InvalidInput for what is no kind of election, or no node id."""
    if election not in ELECTIONS:
        raise InvalidInput(f"election: {election!r} is none of {', '.join(ELECTIONS)}")
    found = frozenset(parse_node(voter) for voter in voters)
    if found and election == "bully":
        raise InvalidInput("voters: Bully has none; leave them out, or elect by majority")
    return found


def _node_id(peer: str | PeerInfo) -> bytes:
    return parse_node(peer.node_id if isinstance(peer, PeerInfo) else peer)


def _ignore(_: object) -> None:
    """Drop a result."""
