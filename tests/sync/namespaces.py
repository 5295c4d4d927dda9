"""Hosts in network namespaces, and the path between them in user space: real sockets, real kernels.

Each host is a thread that has left the network of this process (unshare), with a TUN device; what
is started from it lives in its network. A third thread carries the packets between the devices,
late, or not at all, from a seed. Namespaces vanish with the threads and processes in them.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
DEVICE = "murmur0"
PACKET_BYTES = 65_536


def why_not() -> str | None:
    """Why there can be no namespaces here, if there cannot."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    try:
        host = NetworkHost("10.77.0.1")
    except (OSError, subprocess.SubprocessError) as error:
        return f"no network namespaces here: {error}"
    host.close()
    return None


class NetworkHost:
    """A network of its own with one address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._thread = ThreadPoolExecutor(1)
        try:
            self.device: int = self._thread.submit(self._enter).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def start(self, arguments: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """Start a process in this network."""
        return self._thread.submit(  # a child is where the thread is that starts it
            lambda: subprocess.Popen(arguments, text=True, **options)  # type: ignore[call-overload]
        ).result()

    def close(self) -> None:
        """Leave it."""
        os.close(self.device)
        self._thread.shutdown()

    def _enter(self) -> int:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        try:
            name = struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI)
            fcntl.ioctl(device, TUNSETIFF, name)
            for command in (
                ["addr", "add", f"{self.address}/24", "dev", DEVICE],
                ["link", "set", DEVICE, "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run(["ip", *command], check=True, capture_output=True)
        except BaseException:
            os.close(device)
            raise
        return device


class Path:
    """Carries packets between two hosts. Change its attributes while it runs."""

    def __init__(self, first: NetworkHost, second: NetworkHost, seed: int = 1) -> None:
        self.loss = 0.0
        self.delay_s = 0.0  # one way
        self.blocked: set[NetworkHost] = set()  # whose packets do not get through
        self.carried = self.lost = 0
        self._ends = {first.device: second, second.device: first}
        self._hosts = {first.device: first, second.device: second}
        self._random = Random(seed)
        self._late: list[tuple[float, int, int, bytes]] = []
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name="path")
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)

    def _run(self) -> None:
        while True:
            timeout = self._late[0][0] - time.monotonic() if self._late else 1.0
            ready, _, _ = select.select([*self._ends, self._stop], [], [], max(0.0, timeout))
            if self._stop in ready:
                return
            for device in ready:
                self._take(device)
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, target, packet = heapq.heappop(self._late)
                self._give(target, packet)

    def _take(self, device: int) -> None:
        try:
            packet = os.read(device, PACKET_BYTES)
        except BlockingIOError:
            return
        if self._hosts[device] in self.blocked or self._random.random() < self.loss:
            self.lost += 1
            return
        self.carried += 1
        target = self._ends[device].device
        if self.delay_s:
            when = time.monotonic() + self.delay_s
            heapq.heappush(self._late, (when, self.carried, target, packet))
        else:
            self._give(target, packet)

    def _give(self, target: int, packet: bytes) -> None:
        try:
            os.write(target, packet)
        except OSError:
            self.lost += 1  # its queue is full, or it is down: as on any path
