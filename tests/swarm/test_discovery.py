"""Replicas that find each other: real multicast on the loopback interface, real sockets."""

from __future__ import annotations

import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

import murmur
from murmur import InvalidInput, PeerError, Unsupported
from tests.patience import PATIENCE_S, eventually

LOOPBACK = ["127.0.0.1"]


@pytest.fixture(autouse=True)
def runtime(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the nodes of one test meet."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    return short_path


def test_two_replicas_on_one_network_are_in_sync(tmp_path: Path) -> None:
    group = f"team {secrets.token_hex(8)}"  # other runs of the tests are on this network, too
    with (
        murmur.open(tmp_path / "a", group=group, transport="quic") as a,
        murmur.open(tmp_path / "b", group=group, transport="quic") as b,
        murmur.open(tmp_path / "c", group="others", transport="quic") as c,
    ):
        for swarm in (a, b, c):
            swarm.discover(host=False, accept="all", interfaces=LOOPBACK)
        a.put("k", b"v")
        eventually(lambda: b.get("k") == b"v")
        (peer,) = b.peers()
        assert peer.transport == "quic"
        assert not c.peers()
        assert not c.pending_peers()


def test_two_processes_of_one_user_are_in_sync(tmp_path: Path, runtime: Path) -> None:
    with (
        murmur.open(tmp_path / "a", group="team") as a,
        murmur.open(tmp_path / "b", group="team") as b,
        murmur.open(tmp_path / "c", group="others") as c,
    ):
        for swarm in (a, b, c):
            swarm.discover(mdns=False, accept="all")
        a.put("k", b"v")
        eventually(lambda: b.get("k") == b"v")
        assert b.peers()[0].transport == "local"
        assert not c.peers()
    assert not [p for p in (runtime / "murmur").iterdir() if p.suffix == ".node"]


def test_who_is_found_waits_until_both_have_accepted(tmp_path: Path) -> None:
    with (
        murmur.open(tmp_path / "a", group="team") as a,
        murmur.open(tmp_path / "b", group="team") as b,
    ):
        a.discover(mdns=False)
        b.discover(mdns=False)
        eventually(lambda: a.pending_peers() and b.pending_peers())
        (row,) = a.sql("SELECT node_id, via, asks FROM murmur_pending").fetchall()
        assert row == (b.node_id, "host", False)
        assert not a.connected_peers()
        b.accept_peer(a.node_id)
        eventually(lambda: a.pending_peers()[0].asks)
        assert not a.connected_peers()
        assert not b.pending_peers()
        a.accept_peer(b.node_id)
        eventually(a.connected_peers)
        assert not a.pending_peers()
        a.put("k", b"v")
        eventually(lambda: b.get("k") == b"v")


def test_who_is_refused_stays_out_also_with_an_invite(tmp_path: Path) -> None:
    with ExitStack() as stack:
        a = stack.enter_context(murmur.open(tmp_path / "a", group="team"))
        b = stack.enter_context(murmur.open(tmp_path / "b", group="team"))
        b.connect_peer(a.ticket(), timeout=PATIENCE_S)
        a.refuse_peer(b.node_id)
        eventually(lambda: not a.connected_peers() and not b.connected_peers())
        ticket = a.ticket()
        a.close()
        a = stack.enter_context(murmur.open(tmp_path / "a", group="team"))
        ticket = a.ticket()
        with pytest.raises(PeerError, match="not admitted"):
            b.connect_peer(ticket, timeout=PATIENCE_S)
        assert not a.peers()
        a.accept_peer(b.node_id)
        b.connect_peer(ticket, timeout=PATIENCE_S)


def test_members_introduce_each_other(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hub, *others = (
            stack.enter_context(murmur.open(tmp_path / name, group="team", transport="quic"))
            for name in ("hub", "a", "b", "c")
        )
        for each in others:
            each.connect_peer(hub.ticket(), timeout=PATIENCE_S)
        eventually(lambda: all(len(each.connected_peers()) == 3 for each in (hub, *others)))
        hub.close()
        others[0].put("k", b"without the hub")
        eventually(lambda: others[2].get("k") == b"without the hub")


def test_what_cannot_be_is_refused(tmp_path: Path, runtime: Path) -> None:
    with murmur.open(tmp_path / "a", group="team") as a:
        with pytest.raises(InvalidInput, match="accept"):
            a.discover(accept="nobody")
        for wrong in ("", "alice", a.node_id):
            with pytest.raises(InvalidInput):
                a.accept_peer(wrong)
            with pytest.raises(InvalidInput):
                a.refuse_peer(wrong)
        a.discover(mdns=False)
        a.discover(mdns=False, host=False)
        assert not [p for p in (runtime / "murmur").iterdir() if p.suffix == ".node"]


def test_threads_that_discover_at_once_take_turns(tmp_path: Path, runtime: Path) -> None:
    with murmur.open(tmp_path / "a", group="team") as a, ThreadPoolExecutor(8) as threads:
        a.node()
        for _ in threads.map(lambda _: a.discover(mdns=False), range(200)):
            pass
        assert len([p for p in (runtime / "murmur").iterdir() if p.suffix == ".node"]) == 1


def test_a_network_without_multicast_stops_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_multicast(*_: object, **__: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr("zeroconf.Zeroconf", no_multicast)
    caplog.set_level("INFO", "murmur.sync")
    with (
        murmur.open(tmp_path / "a", group="team") as a,
        murmur.open(tmp_path / "b", group="team") as b,
    ):
        a.discover(accept="all")
        b.discover(accept="all")
        eventually(a.connected_peers)
    assert "this network cannot be searched" in caplog.text


def test_without_zeroconf_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with murmur.open(tmp_path / "a", group="team") as a:
        with pytest.raises(Unsupported, match=r"murmurdb\[mdns\]"):
            a.discover()
        a.discover(mdns=False)


@pytest.mark.parametrize("silent", ["hub", "guest", None])
def test_members_are_introduced_unless_one_side_does_without(
    tmp_path: Path, silent: str | None
) -> None:
    with (
        murmur.open(tmp_path / "hub", group="team", introductions=silent != "hub") as hub,
        murmur.open(tmp_path / "b", group="team", introductions=silent != "guest") as b,
        murmur.open(tmp_path / "c", group="team", introductions=silent != "guest") as c,
    ):
        b.connect_peer(hub.ticket())
        c.connect_peer(hub.ticket())
        if silent is None:
            eventually(lambda: {p.node_id for p in b.connected_peers()} == {hub.node_id, c.node_id})
            return
        for number in range(3):  # what an introduction comes before
            c.put(f"k{number}", b"v")
            eventually(lambda number=number: b.get(f"k{number}") == b"v")
        assert [p.node_id for p in b.peers()] == [p.node_id for p in c.peers()] == [hub.node_id]
