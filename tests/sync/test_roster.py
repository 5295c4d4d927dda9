from __future__ import annotations

import json
import stat
from pathlib import Path
from random import Random

import pytest

from murmur.errors import Corruption, UnknownFormat
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import DiskStorage, Storage, read_whole, write_atomically
from murmur.sync.quarantine import CAP_MS, Sentence
from murmur.sync.roster import ROSTER_FILE, Member, Roster

ALICE, BOB = b"a" * 32, b"b" * 32


def roster(storage: Storage, group: str = "team") -> Roster:
    return Roster(storage, group, Random(1).randbytes)


def test_members_invite_and_port_stay() -> None:
    storage = MemoryStorage()
    first = roster(storage)
    first.admit(Member(ALICE, ("192.0.2.1:7",), b"i" * 16, b"r" * 8))
    first.bind(4711)
    again = Roster(storage, "team", Random(2).randbytes)
    assert again.members == first.members
    assert again.invite == first.invite
    assert again.port == 4711


def test_admission_survives_a_power_cut() -> None:
    storage = MemoryStorage()
    roster(storage).admit(Member(ALICE))
    assert ALICE in roster(storage.crash(None)).members


def test_groups_are_apart() -> None:
    storage = MemoryStorage()
    team = roster(storage)
    team.admit(Member(ALICE))
    other = Roster(storage, "other", Random(2).randbytes)
    assert other.invite != team.invite
    assert not other.members
    other.admit(Member(BOB))
    assert set(roster(storage).members) == {ALICE}


def test_what_is_new_about_a_member_is_merged() -> None:
    storage = MemoryStorage()
    people = roster(storage)
    people.admit(Member(ALICE, ("192.0.2.1:7",), b"i" * 16))
    people.admit(Member(ALICE, ("192.0.2.2:7",), None, b"r" * 8))
    expected = Member(ALICE, ("192.0.2.2:7", "192.0.2.1:7"), b"i" * 16, b"r" * 8)
    assert roster(storage).members[ALICE] == expected
    for port in range(50):
        people.admit(Member(ALICE, (f"192.0.2.3:{port}",)))
    assert len(people.members[ALICE].addresses) == 8


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    roster(DiskStorage(tmp_path))
    assert stat.S_IMODE((tmp_path / ROSTER_FILE).stat().st_mode) == 0o600


def test_damage_is_noticed() -> None:
    storage = MemoryStorage()
    roster(storage).admit(Member(ALICE, ("192.0.2.1:7",), b"i" * 16))
    data = read_whole(storage, ROSTER_FILE)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x05
        if json_or_none(bytes(damaged)) == json.loads(data):
            continue  # one kind of white space for another
        write_atomically(storage, ROSTER_FILE, bytes(damaged))
        with pytest.raises(Corruption, match=ROSTER_FILE):
            roster(storage)


def json_or_none(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "groups": 3}', "\xff"])
def test_another_file_is_refused(text: str) -> None:
    storage = MemoryStorage()
    write_atomically(storage, ROSTER_FILE, text.encode("latin-1"))
    with pytest.raises(Corruption):
        roster(storage)


def test_a_later_format_is_refused() -> None:
    storage = MemoryStorage()
    write_atomically(storage, ROSTER_FILE, b'{"format": 2, "groups": {}}')
    with pytest.raises(UnknownFormat, match="format 2"):
        roster(storage)


def test_sentences_are_kept_and_forgotten_when_they_are_long_over() -> None:
    storage = MemoryStorage()
    first = roster(storage)
    old = Sentence(1, 1_000, 61_000, "it sent no record")
    first.sentence(ALICE, old)
    storage = storage.crash(None)
    again = roster(storage)
    assert again.sentences == {ALICE: old}
    late = Sentence(2, 61_000 + CAP_MS, 62_000 + CAP_MS, "two histories")
    again.sentence(BOB, late)
    assert roster(storage.crash(None)).sentences == {BOB: late}
