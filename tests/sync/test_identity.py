from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from random import Random

import pytest

from murmur.errors import Corruption, UnknownFormat
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.storage import DiskStorage, read_whole, write_atomically
from murmur.sync.identity import KEY_FILE, Identity, certificate_key, transcript, verify


def test_the_key_stays(tmp_path: Path) -> None:
    first = Identity.load(DiskStorage(tmp_path), os.urandom)
    again = Identity.load(DiskStorage(tmp_path), os.urandom)
    assert first.node_id == again.node_id
    assert not again.renewed


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    Identity.load(DiskStorage(tmp_path), os.urandom)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_a_copied_directory_is_another_node(tmp_path: Path) -> None:
    first = Identity.load(DiskStorage(tmp_path / "a"), os.urandom)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy = Identity.load(DiskStorage(tmp_path / "b"), os.urandom)
    assert copy.node_id != first.node_id
    assert copy.renewed
    assert Identity.load(DiskStorage(tmp_path / "b"), os.urandom).node_id == copy.node_id


def test_a_renamed_directory_is_the_same_node(tmp_path: Path) -> None:
    first = Identity.load(DiskStorage(tmp_path / "a"), os.urandom)
    (tmp_path / "a").rename(tmp_path / "b")
    assert Identity.load(DiskStorage(tmp_path / "b"), os.urandom).node_id == first.node_id


def test_damage_to_any_byte_is_noticed() -> None:
    storage = MemoryStorage()
    whole = Identity.load(storage, Random(1).randbytes).node_id
    data = read_whole(storage, KEY_FILE)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x15
        write_atomically(storage, KEY_FILE, bytes(damaged))
        with pytest.raises(Corruption, match=KEY_FILE):
            Identity.load(storage, Random(2).randbytes)
    assert whole


def test_a_later_format_is_refused() -> None:
    storage = MemoryStorage()
    write_atomically(storage, KEY_FILE, b"murmur node 2\nwhatever\n")
    with pytest.raises(UnknownFormat, match="murmur node 2"):
        Identity.load(storage, os.urandom)


def test_a_power_cut_while_the_key_is_made_leaves_none_or_one() -> None:
    for cut in range(1, 20):
        storage = MemoryStorage()
        storage.cut_power(at=cut)
        made = None
        try:
            made = Identity.load(storage, Random(1).randbytes).node_id
        except PowerCut:
            made = None
        survivor = storage.crash(Random(cut))
        found = Identity.load(survivor, Random(2).randbytes).node_id
        if made is not None:
            assert found == made


def test_signatures() -> None:
    identity, other = Identity(b"1" * 32), Identity(b"2" * 32)
    signed = identity.sign(b"said")
    assert verify(identity.node_id, b"said", signed)
    assert not verify(identity.node_id, b"not said", signed)
    assert not verify(other.node_id, b"said", signed)
    assert not verify(identity.node_id, b"said", bytes(64))
    assert not verify(bytes(32), b"said", signed)


def test_the_certificate_carries_the_node_id() -> None:
    identity = Identity(b"1" * 32)
    assert certificate_key(identity.certificate()) == identity.node_id


def test_the_transcript_depends_on_everything() -> None:
    base = (b"d" * 32, b"a" * 32, "team", b"n" * 32)
    others = [
        (b"x" * 32, *base[1:]),
        (base[0], b"x" * 32, *base[2:]),
        (*base[:2], "other", base[3]),
        (*base[:3], b"x" * 32),
        (base[1], base[0], *base[2:]),
    ]
    assert transcript(*base) not in [transcript(*other) for other in others]
