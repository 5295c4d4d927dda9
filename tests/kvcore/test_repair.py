"""Repair: what has its checksum is saved, the rest is in the report, and nothing is made up."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from zlib import crc32

import pytest

from murmur.errors import InvalidInput, Locked, UnknownFormat
from murmur.kvcore.kernel import Entry
from murmur.kvcore.kernel.pure.table import FOOTER, FOOTER_BYTES
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.repair import Report, repair
from murmur.kvcore.storage import DiskStorage
from murmur.kvcore.tree import Tree

KB = 1 << 10
OPTIONS = Options(
    memtable_bytes=64 * KB, table_bytes=16 * KB, block_bytes=512, separate_bytes=1 * KB
)
Model = dict[bytes, bytes]


def numbered(start: int, stop: int, value: bytes = b"v") -> list[Entry]:
    """Every fiftieth value is large."""
    return [(b"%05d" % n, value * (1500 if n % 50 == 0 else 50)) for n in range(start, stop)]


def made(*, beside: bool = False) -> tuple[MemoryStorage, Model]:
    """A tree of two levels, with deletions, ranges and large values."""
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    model: Model = {}
    for batch, ranges in (
        (numbered(0, 500), []),
        (numbered(200, 300, b"w"), [(b"00050", b"00060")]),
        ([(b"00100", None), (b"00101", None)], []),
    ):
        tree.write(batch, None, ranges)
        for start, stop in ranges:
            model = {key: value for key, value in model.items() if not start <= key < stop}
        for key, value in batch:
            if value is None:
                del model[key]
            else:
                model[key] = value
        tree.flush(b"mark")
        if len(batch) == 500:
            tree.compact()
    tree.close()
    if beside:
        file = storage.create("REPLICA")
        file.write(b"REPLICA")
        file.close()
    return storage, model


def content(storage: MemoryStorage) -> Model:
    tree = Tree.open(storage, options=OPTIONS)
    try:
        assert list(tree.check()) == []
        with tree.snapshot() as snapshot:
            return dict(snapshot.scan(b"", None))
    finally:
        tree.close()


def repaired(storage: MemoryStorage) -> tuple[Report, Model]:
    report = repair(storage, storage.at("new"), OPTIONS)
    return report, content(storage.at("new"))


def table_of(storage: MemoryStorage, entries: int) -> str:
    """The name of a table with so many entries."""
    tree = Tree.open(storage, options=OPTIONS)
    tree.close()
    tables = tree._head.state.version.tables()
    return next(table.name for table in tables if table.info.entries == entries)


def test_what_is_sound_is_saved_whole() -> None:
    storage, model = made(beside=True)
    before = {name: storage.content(f"tree/{name}") for name in storage.list("tree")}
    report, found = repaired(storage)
    assert found == model
    assert report.losses == []
    assert report.saved == 602
    assert report.range_tombstones == 1
    assert report.copied == ["REPLICA"]
    assert storage.content("new/REPLICA") == b"REPLICA"
    assert next(iter(report.lines())) == f"saved 602 entries of {report.tables} tables"
    assert {name: storage.content(f"tree/{name}") for name in storage.list("tree")} == before
    tree = Tree.open(storage.at("new"), options=OPTIONS)
    assert tree.mark == b"mark"
    tree.close()


def test_a_damaged_block_costs_its_keys_and_says_which() -> None:
    storage, model = made()
    name = table_of(storage, 100)
    data = bytearray(storage.content(name))
    data[700] ^= 1
    storage.corrupt(name, bytes(data))
    report, found = repaired(storage)
    (loss,) = report.losses
    assert (loss.path, loss.reason) == (
        f"memory/{name}",
        "the block does not have its checksum",
    )
    assert loss.first is not None
    assert loss.last is not None
    differing = [key for key in model if found.get(key) != model[key]]
    assert 5 < len(differing) < 20
    assert loss.first <= differing[0]
    assert differing[-1] <= loss.last
    # Below lies what was overwritten.
    assert {found[key] for key in differing} == {b"v" * 50}


def test_a_damaged_index_costs_nothing_that_its_handles_still_reach() -> None:
    storage, model = made()
    name = table_of(storage, 100)
    data = bytearray(storage.content(name))
    offset = FOOTER.unpack_from(data, len(data) - FOOTER_BYTES)[13]
    data[offset + 5] ^= 1
    storage.corrupt(name, bytes(data))
    report, found = repaired(storage)
    assert [loss.reason for loss in report.losses] == ["the index does not have its checksum"]
    assert found == model


def test_a_lost_table_and_a_lost_value_are_reported() -> None:
    storage, _ = made()
    storage.remove(table_of(storage, 100))
    values = min(name for name in storage.list("tree") if name.endswith(".val"))
    data = bytearray(storage.content(f"tree/{values}"))
    data[-1] ^= 1  # of the last large value
    storage.corrupt(f"tree/{values}", bytes(data))
    report, found = repaired(storage)
    assert [(loss.first, loss.last) for loss in report.losses] == [
        (b"00050", b"00299"),
        (b"00450", b"00450"),
    ]
    assert b"00450" not in found
    assert found[b"00250"] == b"v" * 1500, "what was overwritten is back"
    assert found[b"00055"] == b"v" * 50, "what was deleted, too: the range tombstone is gone"
    assert b"00100" not in found
    assert len(list(report.lines())) == 3


@pytest.mark.parametrize("how", ["missing", "flipped", "short"])
def test_without_a_manifest_the_numbers_tell_what_is_newer(how: str) -> None:
    storage, model = made()
    data = storage.content("tree/MANIFEST")
    if how == "missing":
        storage.remove("tree/MANIFEST")
    else:
        broken = data[:-5] if how == "short" else data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
        storage.corrupt("tree/MANIFEST", broken)
    report, found = repaired(storage)
    assert found == model
    assert [loss.path for loss in report.losses] == ["memory/tree/MANIFEST"]
    tree = Tree.open(storage.at("new"), options=OPTIONS)
    assert tree.mark == b""
    tree.close()


def of_version(storage: MemoryStorage, version: int, body: bytes | None = None) -> None:
    """Let the manifest say another version, and perhaps something else."""
    data = storage.content("tree/MANIFEST")
    body = data[18:] if body is None else body
    header = struct.pack("<8sHII", data[:8], version, crc32(body), len(body))
    storage.corrupt("tree/MANIFEST", header + body)


@pytest.mark.parametrize("version", [0, 1, 3, 9, 0x8002])
def test_a_version_that_was_damaged_costs_nothing(version: int) -> None:
    storage, model = made()
    of_version(storage, version)
    report, found = repaired(storage)
    assert found == model
    assert [loss.path for loss in report.losses] == ["memory/tree/MANIFEST"]
    assert f"manifest format {version}" in report.losses[0].reason
    assert report.losses[0].offset == 8
    tree = Tree.open(storage.at("new"), options=OPTIONS)
    assert tree.mark
    tree.close()


@pytest.mark.parametrize("more", [b"", b"more and", bytes(100)])
def test_a_newer_release_is_not_damage(more: bytes) -> None:
    storage, _ = made()
    of_version(storage, 9, storage.content("tree/MANIFEST")[18:-4] + more)
    with pytest.raises(UnknownFormat):
        repair(storage, storage.at("new"))


def test_where_something_is_nothing_is_repaired_into() -> None:
    storage, _ = made()
    with pytest.raises(InvalidInput, match="holds a tree already"):
        repair(storage, storage)
    lock = storage.lock()
    with pytest.raises(Locked):
        repair(storage, storage.at("new"))
    lock.close()


def test_directories_are_given_by_path(tmp_path: Path) -> None:
    tree = Tree.open(DiskStorage(tmp_path / "a"))
    tree.write(numbered(0, 10))
    tree.flush(b"1")
    tree.close()
    assert repair(tmp_path / "a", str(tmp_path / "b")).saved == 10


def test_a_disk_that_fails_to_read_costs_what_it_does_not_give() -> None:
    storage, model = made()
    name = table_of(storage, 100)
    storage.fail("read", name=name, skip=4, times=2)
    report, found = repaired(storage)
    storage.heal()
    assert 1 <= len(report.losses) <= 2
    assert len(model) - 40 < sum(found.get(key) == value for key, value in model.items())


def test_no_damage_makes_anything_up() -> None:
    """Every kind of damage: each pair was written once, and what differs is in the report."""
    storage, model = made()
    written = dict(numbered(0, 500))
    newer = dict(numbered(200, 300, b"w"))
    rng = Random(3)
    names = [f"tree/{name}" for name in storage.list("tree")]
    for _ in range(250):
        copy = storage.clone()
        name = rng.choice(names)
        data = bytearray(copy.content(name))
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 600] = bytes(len(data[at : at + 600]))
        elif kind == 2:
            del data[at:]
        else:
            data[at : at + 64] = rng.randbytes(len(data[at : at + 64]))
        if data == storage.content(name):
            continue
        copy.corrupt(name, bytes(data))
        report, found = repaired(copy)
        for key, value in found.items():
            assert value in (written[key], newer.get(key))
        if found != model:
            assert report.losses
        differing = {key for key in model.keys() | found if model.get(key) != found.get(key)}
        ranges = [(loss.first, loss.last) for loss in report.losses if loss.first is not None]
        unknown = [loss for loss in report.losses if loss.first is None]
        if not unknown:
            for key in differing:
                assert any(first <= key <= (last or b"") for first, last in ranges)
