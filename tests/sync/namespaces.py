"""Hosts on a network of their own: Linux network namespaces on one bridge, or on a lossy wire.

    with Lan(3) as lan: lan.hosts[0].run(...)        10.213.77.1, .2, .3, who all reach each other
    host.down(), host.up()                           the cable of one host
    host.blind(other)                                it cannot send to the other, but hears it
    with Wire(loss=0.01, delay_s=0.02) as wire:      two hosts, 10.213.78.1 and .2, seeded loss

It needs root, `ip`, bridges and /dev/net/tun; `supported()` says whether they are there. Where the
kernel can lose packets itself (netem) that is not needed: a Wire carries them in user space.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import select
import shutil
import struct
import subprocess
import threading
import time
from contextlib import ExitStack
from random import Random

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
PACKET = 65_536


def supported() -> bool:
    """Whether this process may make such networks; it tries."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with Lan(2), Wire(loss=0.0, delay_s=0.0):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


class Host:
    """A namespace with one address."""

    def __init__(self, name: str, address: str, device: str) -> None:
        self.name = name
        self.address = address
        self.device = device

    def ip(self, *arguments: str) -> None:
        """`ip` inside the namespace."""
        _ip("-n", self.name, *arguments)

    def prefix(self) -> list[str]:
        """What a command is preceded by to run there."""
        return ["ip", "netns", "exec", self.name]

    def down(self) -> None:
        """Pull the cable."""
        self.ip("link", "set", self.device, "down")

    def up(self) -> None:
        """Put it back."""
        self.ip("link", "set", self.device, "up")

    def blind(self, other: Host) -> None:
        """Packets from here to the other are lost; the other's come through."""
        self.ip("route", "add", "blackhole", f"{other.address}/32")

    def see(self, other: Host) -> None:
        """End it."""
        self.ip("route", "del", "blackhole", f"{other.address}/32")

    def block_udp(self) -> None:
        """Lose every datagram that is sent from here."""
        self.ip("rule", "add", "pref", "10", "ipproto", "udp", "blackhole")

    def pass_udp(self) -> None:
        """End it."""
        self.ip("rule", "del", "pref", "10")


class Lan:
    """Hosts on a bridge."""

    def __init__(self, count: int) -> None:
        self._ends = ExitStack()
        self._bridge = f"mm{os.getpid()}-lan"
        self.hosts = [
            Host(f"mm{os.getpid()}-{i}", f"10.213.77.{i + 1}", "eth0") for i in range(count)
        ]

    def __enter__(self) -> Lan:
        # The bridge stands in a namespace too: nothing of the machine's own network is touched.
        with ExitStack() as ends:
            _namespace(self._bridge, ends)
            _ip("-n", self._bridge, "link", "add", "br0", "type", "bridge")
            _ip("-n", self._bridge, "link", "set", "br0", "up")
            for number, host in enumerate(self.hosts):
                _namespace(host.name, ends)
                port = f"p{number}"
                wire = ("link", "add", port, "type", "veth", "peer", "name", "eth0")
                _ip("-n", self._bridge, *wire, "netns", host.name)
                _ip("-n", self._bridge, "link", "set", port, "master", "br0", "up")
                host.ip("addr", "add", f"{host.address}/24", "dev", "eth0")
                host.ip("link", "set", "lo", "up")
                host.up()
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()


class Wire:
    """Two hosts, and every packet between them in this process's hands."""

    def __init__(self, *, loss: float, delay_s: float, seed: int = 1) -> None:
        self.lost = self.carried = 0
        self._loss = loss
        self._delay_s = delay_s
        self._random = Random(seed)
        self._ends = ExitStack()
        self._stop = threading.Event()
        self.hosts = [Host(f"mm{os.getpid()}-w{i}", f"10.213.78.{i + 1}", "tun0") for i in range(2)]

    def __enter__(self) -> Wire:
        with ExitStack() as ends:
            devices = []
            for host in self.hosts:
                _namespace(host.name, ends)
                device = _tun(host)
                ends.callback(os.close, device)
                devices.append(device)
                host.ip("addr", "add", f"{host.address}/24", "dev", "tun0")
                host.ip("link", "set", "lo", "up")
                host.up()
            carrier = threading.Thread(target=self._carry, args=(devices,), daemon=True)
            carrier.start()
            ends.callback(carrier.join)
            ends.callback(self._stop.set)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _carry(self, devices: list[int]) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        order = 0
        while not self._stop.is_set():
            wait = 0.05 if not under_way else max(0.0, under_way[0][0] - time.monotonic())
            readable, _, _ = select.select(devices, [], [], min(wait, 0.05))
            now = time.monotonic()
            for device in readable:
                packet = os.read(device, PACKET)
                if self._random.random() < self._loss:
                    self.lost += 1
                    continue
                self.carried += 1
                order += 1
                other = devices[1 - devices.index(device)]
                heapq.heappush(under_way, (now + self._delay_s, order, other, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, device, packet = heapq.heappop(under_way)
                os.write(device, packet)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _namespace(name: str, ends: ExitStack) -> None:
    _ip("netns", "add", name)
    ends.callback(_ip, "netns", "del", name)


def _tun(host: Host) -> int:
    """A TUN device in the namespace: a thread enters it, for a descriptor stays where it was."""
    found: list[int | BaseException] = []

    def enter() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{host.name}", "rb") as namespace:
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            device = os.open("/dev/net/tun", os.O_RDWR)
            request = struct.pack("16sH22x", host.device.encode(), IFF_TUN | IFF_NO_PI)
            fcntl.ioctl(device, TUNSETIFF, request)
            found.append(device)
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    (result,) = found
    if isinstance(result, BaseException):
        raise result
    return result
