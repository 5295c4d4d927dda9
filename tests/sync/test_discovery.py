"""Who is noted at the door, and what members say of each other."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import InvalidInput, ProtocolViolation
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.sync.discovery import Door, Sighting, group_mark
from murmur.sync.discovery.door import MAX_PENDING
from murmur.sync.discovery.host import HostScout
from murmur.sync.discovery.introductions import MAX_PEERS, parse_peers
from murmur.sync.local import LocalTransport
from murmur.sync.roster import Member, Roster
from murmur.sync.ticket import node_text
from murmur.sync.wire import pack

ALICE, BOB = b"a" * 32, b"b" * 32


def make_roster(storage: MemoryStorage | None = None) -> Roster:
    return Roster(storage or MemoryStorage(), "team", Random(1).randbytes)


def test_a_stranger_waits_and_what_is_new_of_it_is_added() -> None:
    times = iter((1_000, 2_000, 3_000))
    door = Door(make_roster(), lambda: next(times))
    assert not door.open_to(ALICE, invited=False)
    assert door.open_to(ALICE, invited=True)
    assert door.note(Sighting(ALICE, ("192.0.2.1:7",), "mdns"))
    assert not door.note(Sighting(ALICE, ("192.0.2.2:7",), "mdns"))
    assert door.note(Sighting(ALICE, (), "dialed"), asks=True)
    (stranger,) = door.pending.values()
    assert stranger.addresses == ("192.0.2.2:7", "192.0.2.1:7")
    assert (stranger.via, stranger.asks) == ("dialed", True)
    assert (stranger.first_ms, stranger.last_ms) == (1_000, 3_000)


def test_so_many_wait_at_most_and_the_last_seen_stay() -> None:
    door = Door(make_roster(), lambda: 0)
    ids = [number.to_bytes(32) for number in range(MAX_PENDING)]
    for node_id in ids:
        door.note(Sighting(node_id, ("192.0.2.1:7",) * 100, "mdns"))
    door.note(Sighting(ids[0], (), "mdns"))
    door.note(Sighting(ALICE, (), "mdns"))
    assert len(door.pending) == MAX_PENDING
    assert ids[0] in door.pending
    assert ids[1] not in door.pending
    assert all(len(stranger.addresses) <= 8 for stranger in door.pending.values())


def test_who_was_refused_stays_out_over_a_power_cut_until_it_is_admitted() -> None:
    storage = MemoryStorage()
    roster = make_roster(storage)
    roster.admit(Member(ALICE))
    roster.refuse(ALICE)
    storage = storage.crash(None)
    roster = make_roster(storage)
    door = Door(roster, lambda: 0, "all")
    assert ALICE not in roster.members
    assert not door.open_to(ALICE, invited=True)
    assert not door.note(Sighting(ALICE, (), "mdns"))
    assert door.open_to(BOB, invited=False)
    roster.admit(Member(ALICE))
    assert make_roster(storage).members.keys() == {ALICE}
    assert door.open_to(ALICE, invited=False)


def test_a_roster_of_before_is_read() -> None:
    storage = MemoryStorage()
    roster = make_roster(storage)
    roster.admit(Member(ALICE, ("192.0.2.1:7",), met=3, met_ms=17))
    assert make_roster(storage).members[ALICE].met == 3
    roster.admit(Member(ALICE, met=2, met_ms=16))
    assert make_roster(storage).members[ALICE] == Member(ALICE, ("192.0.2.1:7",), met=3, met_ms=17)


def test_how_strangers_are_accepted_has_a_name() -> None:
    with pytest.raises(InvalidInput, match="accept"):
        Door(make_roster(), lambda: 0, "some")


entries = st.lists(
    st.tuples(
        st.binary(min_size=32, max_size=32),
        st.lists(st.text(max_size=5), max_size=3),
        st.integers(0, 1 << 40),
    ),
    max_size=6,
)


@given(entries)
def test_what_is_said_of_peers_is_understood(
    peers: list[tuple[bytes, list[str], int]],
) -> None:
    payload = pack([[[node_id, addresses, age] for node_id, addresses, age in peers], "later"])
    assert parse_peers(payload) == [(n, tuple(a), age) for n, a, age in peers]


@pytest.mark.parametrize(
    "said",
    [
        [],
        [7],
        [[7]],
        [[[ALICE, []]]],
        [[[b"a", [], 0]]],
        [[["a" * 32, [], 0]]],
        [[[ALICE, "10.0.0.1:1", 0]]],
        [[[ALICE, [7], 0]]],
        [[[ALICE, ["x" * 600], 0]]],
        [[[ALICE, ["x"] * 17, 0]]],
        [[[ALICE, [], -1]]],
        [[[ALICE, [], True]]],
        [[[ALICE, [], 0]] * (MAX_PEERS + 1)],
    ],
)
def test_what_makes_no_sense_is_a_violation(said: list[object]) -> None:
    with pytest.raises(ProtocolViolation, match="PEERS"):
        parse_peers(pack(said))


def test_on_one_host_only_living_nodes_of_the_group_are_seen(short_path: Path) -> None:
    directory = short_path / "run"
    directory.mkdir(mode=0o700)
    listening = LocalTransport(ALICE, str(directory))
    alice, bob = (HostScout(n, "team", str(directory)) for n in (ALICE, BOB))
    other = HostScout(b"c" * 32, "others", str(directory))
    (directory / "damaged.node").write_text("{")
    (directory / "odd.node").write_text(json.dumps({"node": 7, "group": group_mark("team")}))
    (directory / "odder.node").write_text(json.dumps([node_text(ALICE)]))
    assert bob.look() == [Sighting(ALICE, (), "host")]
    assert alice.look() == []  # bob does not listen
    assert other.look() == []
    listening.close(0.0)
    assert bob.look() == []
    for scout in (alice, bob, bob, other):
        scout.close()
    assert sorted(path.name for path in directory.iterdir() if len(path.stem) > 10) == []


def test_a_group_is_not_told_by_its_mark() -> None:
    assert group_mark("team") == group_mark("team") != group_mark("teams")
    assert "team" not in group_mark("team")
