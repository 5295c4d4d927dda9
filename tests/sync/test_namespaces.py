"""Nodes on networks that fail: real processes, real sockets, real kernels' routes and queues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from tests.patience import eventually
from tests.sync.namespaces import Host, Lan, Wire, supported
from tests.sync.test_processes import Process

PORT = 4040


@pytest.fixture(scope="module", autouse=True)
def _networks_can_be_made() -> None:
    if not supported():
        pytest.skip("needs root and network namespaces")


class Group:
    """A node on each host; all have met."""

    def __init__(self, hosts: list[Host], directory: Path, ends: ExitStack) -> None:
        self.hosts = hosts
        self._directory = directory
        self._ends = ends
        self.nodes = [self.start(i) for i in range(len(hosts))]
        for node in self.nodes[1:]:
            assert node.ask("connect " + self.nodes[0].ask("ticket"))
        eventually(lambda: all(int(n.ask("peers")) == len(hosts) - 1 for n in self.nodes))

    def start(self, number: int) -> Process:
        """The node of a host; a directory of sockets of its own keeps them off the local lane."""
        host = self.hosts[number]
        runtime = self._directory / f"run{number}"
        runtime.mkdir(mode=0o700, exist_ok=True)
        process = Process(
            self._directory / f"node{number}",
            prefix=[*host.prefix(), "env", f"XDG_RUNTIME_DIR={runtime}"],
            listen=f"{host.address}:{PORT}",
        )
        self._ends.callback(process.end)
        return process

    def converge(self) -> None:
        """All hold the same, soon."""
        eventually(lambda: len({node.ask("wait") for node in self.nodes}) == 1)


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_cable_is_pulled_and_put_back(tmp_path: Path, ends: ExitStack) -> None:
    lan = ends.enter_context(Lan(3))
    group = Group(lan.hosts, tmp_path, ends)
    a, b, c = group.nodes
    lan.hosts[2].down()
    eventually(lambda: c.ask("peers") == "0" and a.ask("peers") == "1")
    for node, key in ((a, "at a"), (b, "at b"), (c, "alone")):
        assert node.ask(f"put {key}") == "ok"
    eventually(lambda: a.ask("has at b") == b.ask("has at a") == "True")
    assert c.ask("has at a") == a.ask("has alone") == "False"
    lan.hosts[2].up()
    group.converge()
    assert c.ask("has at a") == c.ask("has at b") == a.ask("has alone") == "True"


def test_who_hears_and_is_not_heard_is_met_again(tmp_path: Path, ends: ExitStack) -> None:
    lan = ends.enter_context(Lan(2))
    group = Group(lan.hosts, tmp_path, ends)
    a, b = group.nodes
    lan.hosts[1].blind(lan.hosts[0])
    eventually(lambda: a.ask("peers") == b.ask("peers") == "0")
    assert a.ask("put from a") == b.ask("put from b") == "ok"
    lan.hosts[1].see(lan.hosts[0])
    group.converge()
    assert a.ask("has from b") == b.ask("has from a") == "True"


def test_what_was_acknowledged_while_cut_off_survives_a_kill(
    tmp_path: Path, ends: ExitStack
) -> None:
    lan = ends.enter_context(Lan(2))
    group = Group(lan.hosts, tmp_path, ends)
    a, b = group.nodes
    lan.hosts[1].down()
    for number in range(20):
        assert b.ask(f"put offline {number}") == "ok"
    b.kill()
    assert a.ask("put meanwhile") == "ok"
    lan.hosts[1].up()
    group.nodes[1] = b = group.start(1)
    group.converge()
    assert all(a.ask(f"has offline {number}") == "True" for number in range(20))
    assert b.ask("has meanwhile") == "True"


def test_one_packet_of_a_hundred_is_lost(tmp_path: Path, ends: ExitStack) -> None:
    wire = ends.enter_context(Wire(loss=0.01, delay_s=0.02))
    group = Group(wire.hosts, tmp_path, ends)
    a, b = group.nodes
    for number in range(30):
        assert a.ask(f"put small {number}") == "ok"
        assert b.ask(f"fill large {number} 40000") == "ok"
    group.converge()
    assert all(b.ask(f"has small {number}") == "True" for number in range(30))
    assert all(a.ask(f"has large {number}") == "True" for number in range(30))
    assert wire.lost > 0
    assert wire.carried > 500


def test_where_udp_is_blocked_it_goes_over_tls_and_back_as_soon_as_it_is_not(
    tmp_path: Path, ends: ExitStack
) -> None:
    lan = ends.enter_context(Lan(2))
    try:
        lan.hosts[0].block_udp()
    except CalledProcessError:
        pytest.skip("this kernel has no rules by protocol")
    lan.hosts[1].block_udp()
    group = Group(lan.hosts, tmp_path, ends)
    a, b = group.nodes
    assert a.ask("transports") == b.ask("transports") == "tcp"
    assert a.ask("put over tls") == "ok"
    group.converge()
    for host in lan.hosts:
        host.pass_udp()
    eventually(lambda: a.ask("transports") == b.ask("transports") == "quic")
    for host in lan.hosts:
        host.block_udp()
    assert b.ask("put blocked again") == "ok"
    eventually(lambda: a.ask("has blocked again") == "True")
    assert a.ask("transports") == "tcp"
    group.converge()


def test_a_host_that_comes_back_under_another_address_is_met_again(
    tmp_path: Path, ends: ExitStack
) -> None:
    lan = ends.enter_context(Lan(2))
    group = Group(lan.hosts, tmp_path, ends)
    a, b = group.nodes
    host = lan.hosts[1]
    b.kill()
    host.ip("addr", "del", f"{host.address}/24", "dev", "eth0")
    host.address = "10.213.77.99"
    host.ip("addr", "add", f"{host.address}/24", "dev", "eth0")
    assert a.ask("put k") == "ok"
    group.nodes[1] = b = group.start(1)
    group.converge()
    assert b.ask("has k") == "True"
