"""Whatever is said wrongly about the network is an error with a name, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import murmur
from murmur import InvalidInput, Swarm

WRONG: dict[str, list[Any]] = {
    "listen": [5, b"127.0.0.1:0", True, "", ":0", "1.2.3.4", "1.2.3.4:99999", "[::1", "[::1]:x"],
    "transport": [5, None, b"quic", "QUIC", "relay", ["quic"]],
    "election": [5, None, "raft", ["bully"]],
    "voters": [5, None, "alice", [5], [b"a" * 52], ["\ud800" * 52]],
    "relay": [5, None, "yes", 1],
    "bandwidth": [0, -1, 1.5, "1", True, float("nan"), float("inf")],
    "peer_bandwidth": [0, -1, 1.5, "1", True],
    "log_bytes": [-1, "1", True, None, float("nan"), float("inf")],
    "log_days": [-1, "1", True, float("nan"), 1 << 2000, 1e300],
    "expire_days": [-1, "1", None, True, float("inf"), 1 << 2000, 1e300],
    "group": [5, None, b"x", "", "a" * 256, "\ud800", "𝒳" * 64],
    "name": [5, b"x", "", "\ud800"],
    "durability": [5, None, "x", b"commit", []],
    "backend": [5, "x", b"lsm", []],
}
MORE_LISTEN = ["host\0:1", "a..b:1", "ü" * 300 + ":1", "\ud800:1", "h:" + "9" * 5000, "h:٣", "h :1"]
TIMEOUTS: list[Any] = ["1", None, b"1", [], True, -1, float("nan"), float("-inf")]


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_option_is_refused_before_there_is_a_directory(tmp_path: Path, option: str) -> None:
    for value in WRONG[option] + (MORE_LISTEN if option == "listen" else []):
        with pytest.raises(InvalidInput):
            murmur.open(tmp_path / "never", **{option: value})
    assert not (tmp_path / "never").exists()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Swarm, Swarm]]:
    with ExitStack() as stack:
        alice = stack.enter_context(murmur.open(tmp_path / "alice", group="team"))
        bob = stack.enter_context(murmur.open(tmp_path / "bob", group="team"))
        bob.connect_peer(alice.ticket())
        alice.put("k", b"v")
        alice.wait_for()
        yield alice, bob


def test_a_wrong_timeout_is_refused_before_anything_is_written(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    before = alice.version_vector
    for wrong in TIMEOUTS:
        with pytest.raises(InvalidInput, match="timeout"):
            alice.put("k", b"w", wait=1, timeout=wrong)
        with pytest.raises(InvalidInput, match="timeout"):
            alice.delete("k", wait=1, timeout=wrong)
        with alice.transaction() as tx:
            tx.put("k", b"w")
            with pytest.raises(InvalidInput, match="timeout"):
                tx.commit(wait=1, timeout=wrong)
            tx.rollback()
        with pytest.raises(InvalidInput, match="timeout"):
            alice.commit(wait=1, timeout=wrong)
        with pytest.raises(InvalidInput, match="timeout"):
            alice.wait_durable(1, timeout=wrong)
        with pytest.raises(InvalidInput, match="timeout"):
            alice.wait_for(timeout=wrong)
        with pytest.raises(InvalidInput, match="timeout"):
            bob.connect_peer(alice.ticket(), timeout=wrong)
        with pytest.raises(InvalidInput, match="timeout"):
            bob.verify(alice.node_id, timeout=wrong)
    for wrong in (None, "", [], 0.5):
        with pytest.raises(InvalidInput, match="is not a number of peers"):
            alice.put("k", b"w", wait=wrong)  # type: ignore[arg-type]
    assert alice.version_vector == before
    for endless in (float("inf"), 1e300, 1 << 2000):
        alice.put("k", b"w", wait=1, timeout=endless)
        bob.connect_peer(alice.ticket(), timeout=endless)
        assert bob.verify(alice.node_id, timeout=endless).state == "equal"


def test_wrong_peers_tickets_and_places_are_refused(pair: tuple[Swarm, Swarm]) -> None:
    alice, bob = pair
    for wrong in (5, b"x", [5], ["x"], {"a": 1}):
        with pytest.raises(InvalidInput):
            bob.wait_for(wrong)  # type: ignore[arg-type]
    bob.wait_for(alice.node_id)
    bob.wait_for(bob.connected_peers()[0])
    for ticket in (5, None, b"x", [], "\ud800", "murmur1é"):
        with pytest.raises(InvalidInput, match="ticket"):
            bob.connect_peer(ticket)  # type: ignore[arg-type]
    places: list[dict[str, Any]] = [
        {"mdns": 5},
        {"host": None},
        {"interfaces": "127.0.0.1"},
        {"interfaces": []},
        {"interfaces": [5]},
        {"interfaces": ["eth0"]},
    ]
    for place in places:
        with pytest.raises(InvalidInput, match=next(iter(place))):
            alice.discover(**place)
    with pytest.raises(InvalidInput, match="numbers"):
        alice.drop_dead_letters(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="timeout"):
        alice.sql("SELECT 1", timeout="1")  # type: ignore[arg-type]


def test_any_unicode_is_a_name_of_a_group(tmp_path: Path) -> None:
    for number, group in enumerate(("ß\u202e\0 ", "👩‍👩‍👧 команда", "\n", "a" * 255)):
        with (
            murmur.open(tmp_path / f"a{number}", group=group) as alice,
            murmur.open(tmp_path / f"b{number}", group=group) as bob,
        ):
            bob.connect_peer(alice.ticket())
            alice.put("k", b"v", wait=1)
            assert bob.get("k") == b"v"
