"""A UDP socket that hands the system many datagrams at once, where it takes them.

    send      datagrams of one size to one address in a row go out as one call (Linux: UDP_SEGMENT)
    receive   what the system has joined comes in as one call, and is cut again (Linux: UDP_GRO)

A call of the system costs about as much as the datagram in it. Elsewhere, and where the device
refuses, each datagram is a call of its own; the bytes are the same.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections import deque
from typing import Any

SOCKET_BYTES = 4 << 20
MAX_SEGMENTS = 64  # the kernel's own limit
MAX_SEGMENTED_BYTES = 65_000
RECEIVE_BYTES = 65_535
# <linux/udp.h>; Python's socket module does not name them.
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
_U16, _INT = struct.Struct("=H"), struct.Struct("=i")
_NO_SEGMENTS = (errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT)

Datagram = tuple[Any, bytes, Any]  # whose it is, the bytes, the address


class Datagrams:
    """One bound socket, and what could not be sent yet."""

    def __init__(self, bound: socket.socket) -> None:
        self.socket = bound
        self.calls_out = self.calls_in = 0  # of the system
        self.segments = _knows(bound, UDP_SEGMENT)
        self._joined = _knows(bound, UDP_GRO)
        self._unsent: deque[Datagram] = deque()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            bound.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)
        if self._joined:
            bound.setsockopt(SOL_UDP, UDP_GRO, 1)

    def __len__(self) -> int:
        """Datagrams that wait to be sent."""
        return len(self._unsent)

    def put(self, owner: Any, data: bytes, address: Any) -> None:
        """Queue a datagram; send() is due."""
        self._unsent.append((owner, data, address))

    def send(self) -> list[tuple[Any, OSError]]:
        """Send as many as the system takes; whose were refused, and why."""
        refused: list[tuple[Any, OSError]] = []
        unsent = self._unsent
        while unsent:
            run = self._run()
            try:
                self.calls_out += 1
                if len(run) == 1:
                    self.socket.sendto(run[0][1], run[0][2])
                else:
                    self._send_run(run)
            except BlockingIOError:
                unsent.extendleft(reversed(run))
                break
            except OSError as error:
                if len(run) > 1 and error.errno in _NO_SEGMENTS:
                    self.segments = False
                    unsent.extendleft(reversed(run))
                else:
                    refused += [(owner, error) for owner, _, _ in run]
        return refused

    def receive(self) -> tuple[list[bytes], Any]:
        """Datagrams from one address; BlockingIOError when there are none."""
        self.calls_in += 1
        if not self._joined:
            data, address = self.socket.recvfrom(RECEIVE_BYTES)
            return [data], address
        space = socket.CMSG_SPACE(_INT.size)
        data, ancillary, _, address = self.socket.recvmsg(RECEIVE_BYTES, space)
        size = 0
        for level, kind, value in ancillary:
            if level == SOL_UDP and kind == UDP_GRO:
                size = _INT.unpack_from(value)[0]
        if not size or size >= len(data):
            return [data], address
        return [data[start : start + size] for start in range(0, len(data), size)], address

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.close()

    def _run(self) -> list[Datagram]:
        """The datagrams that go out next: all of one size but the last, to one address."""
        unsent = self._unsent
        first = unsent.popleft()
        run = [first]
        if not self.segments:
            return run
        size = total = len(first[1])
        while unsent and len(run) < MAX_SEGMENTS and len(run[-1][1]) == size:
            _, data, address = unsent[0]
            if len(data) > size or address != first[2] or total + len(data) > MAX_SEGMENTED_BYTES:
                break
            total += len(data)
            run.append(unsent.popleft())
        return run

    def _send_run(self, run: list[Datagram]) -> None:
        size = [(SOL_UDP, UDP_SEGMENT, _U16.pack(len(run[0][1])))]
        self.socket.sendmsg([data for _, data, _ in run], size, 0, run[0][2])


def _knows(bound: socket.socket, option: int) -> bool:
    """Whether the system has an option of UDP sockets."""
    if sys.platform != "linux":
        return False
    try:
        bound.getsockopt(SOL_UDP, option)
    except OSError:
        return False
    return True
