"""`murmur serve`: a replica on the network, until it is told to stop.

    murmur1aeaq...                                      the ticket, at once
    connected 7fqmx2kw3tba: at 192.0.2.7:40412          then a line for each event
    disconnected 7fqmx2kw3tba: the peer ended the conversation: the node closes

SIGINT and SIGTERM end it in order, with exit code 0; a second one ends it at once. Peers that do
not answer yet are tried until they do; one that refuses is named and left alone. Should nobody read
the output any more, it goes on without.

The events are what the logger `murmur.sync` says at level INFO.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from murmur.cli.directory import opened
from murmur.cli.failure import DONE, FAILED, NOT_BEGUN, Fault, complain, describe, printable
from murmur.cli.output import abandon_stdout
from murmur.errors import Closed, InvalidInput, MurmurError, Unreachable

if TYPE_CHECKING:
    from murmur.swarm import Swarm

LOOK_S = 0.5  # between looks at whether the node still runs
RETRY_S = 5.0


def run_serve(
    path: str,
    *,
    listen: str,
    peers: Sequence[str],
    group: str,
    duration_s: float | None,
) -> int:
    """Serve the directory until a signal, or for so many seconds."""
    _check_tickets(peers)
    stop = threading.Event()
    lines = _Lines()
    with _signals(stop), _events(lines):
        with opened(path, create=True, group=group, listen=listen) as swarm:
            lines.write(swarm.ticket())
            connecting = threading.Thread(
                target=_connect_all, args=(swarm, peers, lines, stop), name="murmur-connect"
            )
            connecting.start()
            try:
                failure = _wait(swarm, stop, duration_s)
            finally:
                stop.set()
                swarm.close()  # ends the connecting, too
                connecting.join()
        if failure is not None:
            complain(f"{path}: {failure}")
            return FAILED
    return DONE


def _check_tickets(tickets: Sequence[str]) -> None:
    from murmur.sync import Ticket

    for ticket in tickets:
        try:
            Ticket.parse(ticket)
        except InvalidInput as error:
            raise Fault(describe(error), NOT_BEGUN) from None


def _wait(swarm: Swarm, stop: threading.Event, duration_s: float | None) -> str | None:
    """Until it is to stop; why the node stopped by itself, if it did."""
    node = swarm.node()
    left = float("inf") if duration_s is None else duration_s
    while left > 0 and not stop.wait(min(LOOK_S, left)):
        left -= LOOK_S
        if node.state != "running":
            return f"the node {node.state}"
    return None


def _connect_all(
    swarm: Swarm, tickets: Sequence[str], lines: _Lines, stop: threading.Event
) -> None:
    """Connect to every ticket's node; from then on the node keeps them connected."""
    waiting = list(tickets)
    said: set[str] = set()
    while waiting and not stop.is_set():
        for ticket in list(waiting):
            try:
                swarm.connect_peer(ticket)
                waiting.remove(ticket)
            except Unreachable as error:
                if ticket not in said:
                    said.add(ticket)
                    lines.write(f"waiting for a peer: {describe(error)}")
            except Closed:
                return
            except MurmurError as error:
                waiting.remove(ticket)
                lines.write(f"refused: {describe(error)}")
        if waiting:
            stop.wait(RETRY_S)


class _Lines:
    """Lines on stdout, from any thread, as long as somebody reads them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = True

    def write(self, line: str) -> None:
        with self._lock:
            if not self._open:
                return
            try:
                sys.stdout.write(printable(line).replace("\n", " ") + "\n")
                sys.stdout.flush()
            except (OSError, ValueError):  # its reader is gone, or the disk is full
                self._open = False
                abandon_stdout()


class _EventHandler(logging.Handler):
    """Writes what the network says."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; the traceback of a bug is left to the process's own logging."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        self._lines.write(text)


@contextmanager
def _events(lines: _Lines) -> Iterator[None]:
    logger = logging.getLogger("murmur.sync")
    level, handler = logger.level, _EventHandler(lines)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`; a second one does what it does by default."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
