"""The loop: one thread that owns a node's sockets, timers and conversations.

    application threads  --calls-->  inbox  -->  loop: socket, timers, mesh  --work-->  workers
                         <--futures--                                        <--results--

The loop owns everything about peers; others hand it callables and wait for futures. What may block
(applying records, reading the log, writing files, looking up names) runs on workers, one thread per
lane, so that keep-alives go out while a disk stalls.

Invariants:
    1. Nothing but the loop touches mesh and transport, from start to close.
    2. close() may be called from any thread, at any time, twice: after it no thread and no socket
       is left. A KeyboardInterrupt inside it leaves it to be called again.
    3. A replica that is closed or poisoned stops the loop, and so does a fault that cannot be
       contained (faults.py); `state` says why, and calls raise Closed with the same words.
"""

from __future__ import annotations

import atexit
import logging
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack, suppress
from functools import partial
from typing import TypeVar

from murmur.errors import Closed, Forked, InvalidInput
from murmur.sync.mesh import Mesh
from murmur.sync.outbox import Outbox
from murmur.sync.transport import Transport, TransportEvent
from murmur.sync.workers import Workers

STOPPED = "stopped"  # how the state begins of a loop that could not go on
TRIPS, TRIPS_MS = 8, 60_000  # so many faults of the transport within this time are too many

log = logging.getLogger("murmur.sync")

Result = TypeVar("Result")


class Loop:
    """The thread, and the ways to it."""

    mesh: Mesh

    def __init__(
        self,
        replica: Outbox,
        monotonic: Callable[[], float],
        on_stopped: Callable[[str], None],
    ) -> None:
        """`on_stopped` is told why the loop ended, unless somebody closed it."""
        self.state = "new"  # new, running, closed, or why it stopped
        self.workers = Workers(self.post)
        self._replica = replica
        self._monotonic = monotonic
        self._on_stopped = on_stopped
        self._pid = os.getpid()
        self._lock = threading.Lock()  # a loop starts once
        self._thread: threading.Thread | None = None
        self._inbox: deque[Callable[[int], None]] = deque()
        self._waker: socket.socket | None = None
        self._closing = False
        self._durable_noted = False
        self._tripped_ms: deque[int] = deque(maxlen=TRIPS)

    def start(self, begin: Callable[[], tuple[Transport, Mesh]]) -> None:
        """Start the thread on what `begin` makes; nothing of that is left if it cannot start."""
        with self._lock:
            self.check_pid()
            if self._thread is not None or self._closing:
                raise Closed(f"the node is {self.state}; a node starts once")
            transport, self.mesh = begin()
            wake_reader = None
            try:
                wake_reader, self._waker = socket.socketpair()
                wake_reader.settimeout(0)
                self._waker.settimeout(0)
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

    def now_ms(self) -> int:
        """The time that timers are set by. From any thread."""
        return int(self._monotonic() * 1000)

    # -- between threads

    def check_pid(self) -> None:
        """Forked, in another process than the one that made it."""
        if os.getpid() != self._pid:
            raise Forked(f"the node belongs to process {self._pid}; open the replica in this one")

    def check_may_wait(self) -> None:
        """Refuse to wait for the loop in the loop."""
        self.check_running()
        if threading.current_thread() is self._thread:
            raise InvalidInput("on_event may not wait for the network: use another thread")

    def check_running(self) -> None:
        """Closed, unless it runs."""
        self.check_pid()
        if self.state.startswith(STOPPED):
            raise Closed(
                f"the network of this replica {self.state}; reading and writing here go on, close "
                "and open the replica to connect it again"
            )
        if self.state != "running" or self._closing:
            raise Closed(f"the node is {self.state if self.state != 'running' else 'closing'}")

    def post(
        self,
        call: Callable[[int], None],
        failed: Callable[[BaseException], object] = lambda error: None,
    ) -> None:
        """Have the loop call this; from any thread. `failed` is told what it raised."""

        def guarded(now_ms: int) -> None:
            try:
                call(now_ms)
            except Exception as error:
                failed(error)
                raise

        self._inbox.append(guarded)
        self._wake()

    def ask(self, question: Callable[[int], Result]) -> Result:
        """The loop's answer to a question."""
        answer: Future[Result] = Future()

        def call(now_ms: int) -> None:
            try:
                answer.set_result(question(now_ms))
            except BaseException as error:
                answer.set_exception(error)

        self.check_running()
        self.post(call)
        return self.wait(answer)

    def wait(self, answer: Future[Result]) -> Result:
        """What the loop will answer; Closed if it ends meanwhile."""
        while True:
            try:
                return answer.result(1.0)
            except FutureTimeout:
                self.check_running()

    def look(self, question: Callable[[], list[Result]]) -> list[Result]:
        """What the loop sees; nothing, if it has ended meanwhile."""
        if threading.current_thread() is self._thread:  # asked by on_event
            return question()
        try:
            return self.ask(lambda _: question())
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

    # -- the loop

    def _run(self, transport: Transport, wake_reader: socket.socket) -> None:
        mesh = self.mesh
        why, goodbye = "closed", "the node closes"
        with ExitStack() as ends:
            ends.callback(wake_reader.close)
            if self._waker is not None:
                ends.callback(self._waker.close)
            ends.callback(self.workers.close)
            selector = ends.enter_context(selectors.DefaultSelector())
            ends.callback(lambda: transport.close(self._monotonic()))
            try:
                ends.callback(self._replica.subscribe(self._durable_moved))
                selector.register(transport, selectors.EVENT_READ)
                selector.register(wake_reader, selectors.EVENT_READ)
                mesh.start(self.now_ms())
                while not self._closing and mesh.failure is None:
                    self._turn(selector, transport, wake_reader)
                if mesh.failure is not None:
                    why = f"{STOPPED}: {type(mesh.failure).__name__}: {mesh.failure}"
            except Exception as error:
                log.exception("the node's loop failed")
                why = f"{STOPPED}: {type(error).__name__}: {error}"
            if why != "closed":
                goodbye = f"the node {why}"
            self.state = why
            mesh.faults.contain("closing", lambda: mesh.close(goodbye), 0)
            self._answer(self.now_ms())
        if why != "closed":
            self._on_stopped(why)

    def _turn(
        self, selector: selectors.BaseSelector, transport: Transport, wake_reader: socket.socket
    ) -> None:
        mesh = self.mesh
        selector.select(self._timeout(transport))
        with suppress(BlockingIOError):  # then something else woke the loop
            wake_reader.recv(4096)
        now = self._monotonic()
        now_ms = int(now * 1000)
        nothing: list[TransportEvent] = []
        for event in self._transport_does(lambda: transport.poll(now), nothing):
            mesh.handle(event, now_ms)
        if self._durable_noted:
            self._durable_noted = False
            mesh.faults.contain("following the log", lambda: mesh.durable_moved(now_ms), now_ms)
        self._answer(now_ms)
        mesh.tick(now_ms)
        mesh.flush(now_ms)
        self._transport_does(lambda: transport.flush(self._monotonic()), None)

    def _answer(self, now_ms: int) -> None:
        """Call what was posted."""
        while self._inbox:
            self.mesh.faults.contain("a call", partial(self._inbox.popleft(), now_ms), now_ms)

    def _transport_does(self, call: Callable[[], Result], otherwise: Result) -> Result:
        """What a transport answers. A fault in it ends all links; one that does not end, the loop.

        Which links it happened to cannot be told, and what they had received may be lost.
        """
        try:
            return call()
        except Exception as error:
            now_ms = self.now_ms()
            self._tripped_ms.append(now_ms)
            if len(self._tripped_ms) == TRIPS and now_ms - self._tripped_ms[0] < TRIPS_MS:
                raise
            self.mesh.fail_links(error, now_ms)
            return otherwise

    def _timeout(self, transport: Transport) -> float:
        if self._inbox or self._durable_noted:
            return 0.0
        now = self._monotonic()
        timeout = 60.0
        timer = self._transport_does(transport.next_timer, None)
        if timer is not None:
            timeout = min(timeout, timer - now)
        timer_ms = self.mesh.next_timer_ms(int(now * 1000))
        if timer_ms is not None:
            timeout = min(timeout, timer_ms / 1000 - now)
        return max(0.0, timeout)
