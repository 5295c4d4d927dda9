"""Questions: what threads of the application ask of the loop and block for, until it answers.

Each puts a callable into the loop's inbox and waits for a future; each gives up at its timeout, or
when the loop has ended, and then lets the loop forget that anybody asked. `Node` says what they
mean, and what they raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from murmur.errors import InvalidInput, PeerError, Timeout, Unreachable
from murmur.kvcore import check_timeout
from murmur.sync.contact import Wait
from murmur.sync.loop import Loop
from murmur.sync.outbox import Outbox
from murmur.sync.status import PeerInfo
from murmur.sync.ticket import Ticket, node_text, parse_node
from murmur.sync.verify import Verifier
from murmur.sync.verify_wire import Verdict


class Questions:
    """The waiting side of one node. Safe to use from many threads."""

    def __init__(self, loop: Loop, replica: Outbox, monotonic: Callable[[], float]) -> None:
        self._loop = loop
        self._replica = replica
        self._monotonic = monotonic

    def connect(self, ticket: str, timeout: float) -> PeerInfo:
        """Connect with a ticket's node."""
        parsed, timeout = Ticket.parse(ticket), check_timeout(timeout)
        self._loop.check_may_wait()
        found: Future[PeerInfo] = Future()

        def answer(info: PeerInfo | None, error: BaseException | None) -> None:
            if found.done():
                return
            if error is not None:
                found.set_exception(error)
            else:
                assert info is not None
                found.set_result(info)

        self._loop.post(
            lambda now_ms: self._loop.mesh.connect(parsed, answer, now_ms),
            lambda error: answer(None, error),
        )
        try:
            return found.result(timeout)
        except FutureTimeout:
            reason = self._loop.ask(lambda _: self._loop.mesh.forget_answer(parsed.node_id, answer))
            if found.done():  # the answer came in the last moment
                return found.result()
            where = ", ".join(parsed.addresses) or "no address"
            raise Unreachable(
                f"no connection with {node_text(parsed.node_id)[:12]}… ({where}) "
                f"within {timeout:g} s: {reason}"
            ) from None
        except BaseException:
            if not found.done():
                self._loop.post(
                    lambda _: _ignore(self._loop.mesh.forget_answer(parsed.node_id, answer))
                )
            raise

    def wait_for(
        self, peers: Iterable[str | PeerInfo] | str | PeerInfo | None, timeout: float
    ) -> None:
        """Wait until these peers hold everything."""
        self._loop.check_may_wait()
        timeout = check_timeout(timeout)
        wanted = _node_ids(peers)
        if wanted is not None and not wanted:
            return
        vector = {replica: seq for replica, seq in self._replica.vector.items() if seq}
        self._replica.sync()  # only what is durable is sent: do not wait for the next interval
        if wanted:
            known = self._loop.ask(lambda _: frozenset(self._loop.mesh.company.contacts))
            for node_id in wanted - known:
                raise InvalidInput(f"peer {node_text(node_id)} is not known here: connect to it")
        late = self._wait(vector, timeout, peers=wanted)
        if late is not None:
            names = ", ".join(f"{name[:12]}…" for name in late) or "no peer connected"
            raise Timeout(f"not everybody holds this replica's data after {timeout:g} s: {names}")

    def wait_durable(self, count: int, timeout: float) -> None:
        """Wait until so many peers hold everything."""
        if type(count) is not int or count < 0:
            raise InvalidInput(f"wait: {count!r} is not a number of peers")
        timeout = check_timeout(timeout)
        self._loop.check_may_wait()
        vector = {replica: seq for replica, seq in self._replica.vector.items() if seq}
        self._replica.sync()
        late = self._wait(vector, timeout, count=count)
        if late is not None:
            names = ", ".join(f"{name[:12]}…" for name in late) or "no other peer is known"
            raise Timeout(
                f"fewer than {count} peers hold this replica's data after {timeout:g} s "
                f"(missing: {names}); it is committed here, and they get it when they connect"
            )

    def verify(self, verifier: Verifier, peer: str | PeerInfo, timeout: float) -> Verdict:
        """Compare states with a peer."""
        self._loop.check_may_wait()
        node_id, found = _node_id(peer), Future[Verdict]()
        wait_ms = int(check_timeout(timeout) * 1000)

        def answer(verdict: Verdict | None, error: BaseException | None) -> None:
            if verdict is not None:
                found.set_result(verdict)
            else:
                found.set_exception(error or PeerError("the comparison failed"))

        self._loop.post(lambda now: verifier.verify(node_id, now + wait_ms, answer, now))
        try:
            while True:
                try:
                    return found.result(1.0)
                except FutureTimeout:
                    self._loop.check_running()
        except BaseException:
            self._loop.post(lambda _: verifier.give_up(answer))
            raise

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
        self._loop.post(lambda _: self._loop.mesh.company.wait(wait))
        deadline = self._monotonic() + timeout
        try:
            while True:
                try:
                    # In steps, so that a node that stops meanwhile is noticed.
                    held.result(min(1.0, max(0.0, deadline - self._monotonic())))
                    return None
                except FutureTimeout:
                    self._loop.check_running()
                    if self._monotonic() >= deadline:
                        break
            late = self._loop.ask(lambda _: self._loop.mesh.company.forget_wait(wait))
            return None if held.done() else late  # it came in the last moment
        except BaseException:
            self._loop.post(lambda _: _ignore(self._loop.mesh.company.forget_wait(wait)))
            raise


def _node_id(peer: str | PeerInfo) -> bytes:
    return parse_node(peer.node_id if isinstance(peer, PeerInfo) else peer)


def _node_ids(peers: object) -> frozenset[bytes] | None:
    """Of peers that a caller named: one, several, or None, which means all."""
    if peers is None:
        return None
    if isinstance(peers, (str, PeerInfo)):
        return frozenset([_node_id(peers)])
    if not isinstance(peers, Iterable):
        raise InvalidInput(f"peers: a list of node ids is needed, not {peers!r}")
    return frozenset(_node_id(peer) for peer in peers)


def _ignore(_: object) -> None:
    """Drop a result."""
