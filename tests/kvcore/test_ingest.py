"""Ready tables: built, verified, and let in whole or not at all."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from random import Random

import pytest

from murmur.errors import Corruption, InvalidInput, Poisoned, UnknownFormat
from murmur.kvcore import ingest as module
from murmur.kvcore.ingest import Source, TableBuilder, table_info, write_sstable
from murmur.kvcore.kernel import Entry
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from murmur.kvcore.options import Options
from murmur.kvcore.storage import DiskStorage, Storage
from murmur.kvcore.tree import Tree

KB = 1 << 10
OPTIONS = Options(memtable_bytes=64 * KB, table_bytes=4 * KB, level0_tables=4)
Pairs = list[tuple[bytes, bytes]]


def numbered(start: int, stop: int, value: bytes = b"v") -> Pairs:
    return [(b"%05d" % n, value * 50) for n in range(start, stop)]


def entries(pairs: Pairs) -> list[Entry]:
    return list(pairs)


def ready(storage: Storage, name: str, pairs: Pairs) -> Source:
    builder = TableBuilder(storage, name)
    for pair in pairs:
        builder.add(*pair)
    assert builder.finish() == len(pairs)
    return Source(storage, name, table_info(storage, name))


def content(tree: Tree) -> dict[bytes, bytes]:
    with tree.snapshot() as snapshot:
        return dict(snapshot.scan(b"", None))


def test_files_come_in_and_stay_as_they_are(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path / "db")
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(entries(numbered(0, 10)))
    path = tmp_path / "ready.sst"
    assert write_sstable(path, numbered(5, 1000, b"w")) == 995
    before = path.read_bytes()
    first = tree.write([(b"last", b"")])
    snapshot = tree.snapshot()
    assert tree.ingest([path], b"mark") == first + 1
    expected = dict(numbered(0, 5)) | dict(numbered(5, 1000, b"w")) | {b"last": b""}
    assert content(tree) == expected
    assert tree.mark == b"mark"
    assert len(list(snapshot.scan(b"", None))) == 11, "it was taken before"
    snapshot.close()
    assert path.read_bytes() == before
    path.unlink()
    tree.write([(b"00007", b"later")])
    assert content(tree) == expected | {b"00007": b"later"}
    assert list(tree.check()) == []
    stats = tree.stats()
    assert (stats["ingested"], stats["bytes_ingested"]) == (1, len(before))
    tree.close()
    tree = Tree.open(storage, options=OPTIONS)
    assert content(tree) == expected
    tree.close()


def test_large_tables_are_built_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 4 * KB)
    storage = MemoryStorage()
    source = ready(storage, "big", numbered(0, 1000))
    assert storage.list() == ["big"]
    whole = storage.content("big")
    monkeypatch.setattr(module, "PIECE_BYTES", 4000 * KB)
    ready(storage, "big2", numbered(0, 1000))
    assert storage.content("big2") == whole
    assert (source.info.entries, source.info.first, source.info.last) == (
        1000,
        b"00000",
        b"00999",
    )


def test_pairs_come_in_order_and_there_is_one(tmp_path: Path) -> None:
    for pairs in ([], [(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", b"")]):
        with pytest.raises(InvalidInput):
            write_sstable(tmp_path / "ready", pairs)
        assert list(tmp_path.iterdir()) == []


def test_where_nothing_overlaps_it_goes_to_the_bottom() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    tree.write(entries(numbered(0, 300)))
    tree.flush(b"1")
    tree.compact()
    beside = ready(storage, "beside", numbered(300, 310))
    above = ready(storage, "above", numbered(100, 110, b"w"))
    tree.ingest([above, beside], b"2")
    levels = tree._head.state.version.levels
    assert [table.info.entries for table in levels[0]] == [10]
    assert levels[1][-1].info.first == b"00300"
    assert {table.info.max_sequence for table in (*levels[0], levels[1][-1])} == {
        tree._head.state.sequence
    }
    tree.compact()
    assert content(tree) == dict(numbered(0, 310)) | dict(numbered(100, 110, b"w"))
    tree.close()


def test_all_or_nothing_is_let_in() -> None:
    storage = MemoryStorage()
    tree = Tree.open(storage, options=OPTIONS)
    good = ready(storage, "good", numbered(0, 300))
    data = bytearray(storage.content("good"))
    data[8000] ^= 1  # of a block that only a full check reads
    file = storage.create("bad")
    file.write(bytes(data))
    file.close()
    bad = good._replace(name="bad")
    overlapping = ready(storage, "overlapping", numbered(299, 310))
    for sources, error in (
        ([bad], Corruption),
        ([good, overlapping], InvalidInput),
        ([overlapping, bad], Corruption),
    ):
        with pytest.raises(error):
            tree.ingest(sources, b"1")
        assert content(tree) == {}
        assert tree.mark == b""
    assert tree.ingest([], b"1") == 0
    tree.ingest([good], b"1")
    assert len(content(tree)) == 300
    tree.close()


def test_what_is_no_table_is_named() -> None:
    storage = MemoryStorage()
    source = ready(storage, "good", numbered(0, 50))
    data = storage.content("good")
    for name, broken, error in (
        ("empty", b"", Corruption),
        ("text", b"not a table" * 50, Corruption),
        ("newer", data[:-10] + b"\x63\x00" + data[-8:], UnknownFormat),
        ("short", data[:-1], Corruption),
        ("long", b"x" + data, Corruption),
    ):
        file = storage.create(name)
        file.write(broken)
        file.close()
        with pytest.raises(error):
            table_info(storage, name)
    with pytest.raises(FileNotFoundError):
        table_info(storage, "nothing")
    assert table_info(storage, "good") == source.info


def test_a_table_with_values_elsewhere_is_refused() -> None:
    storage = MemoryStorage()
    other = Tree.open(storage.at("other"), options=Options(separate_bytes=10))
    other.write(entries(numbered(0, 10)))
    other.flush(b"1")
    (table,) = other._head.state.version.tables()
    tree = Tree.open(storage, options=OPTIONS)
    with pytest.raises(InvalidInput, match="refers to values in other files"):
        tree.ingest([Source(storage.at("other"), table.name, table.info)], b"1")
    tree.close()
    other.close()


# -- faults


def test_a_power_cut_leaves_all_of_it_or_nothing() -> None:
    def prepared() -> tuple[MemoryStorage, Tree, list[Source]]:
        storage = MemoryStorage()
        sources = [
            ready(storage, "one", numbered(0, 100, b"w")),
            ready(storage, "two", numbered(200, 300, b"w")),
        ]
        tree = Tree.open(storage, options=OPTIONS)
        tree.write(entries(numbered(50, 60)))
        return storage, tree, sources

    storage, tree, sources = prepared()
    start = storage.operations
    tree.ingest(sources, b"1")
    stop = storage.operations
    tree.close()
    outcomes = set()
    for cut in range(start + 1, stop + 1):
        storage, tree, sources = prepared()
        storage.cut_power(at=cut)
        try:
            tree.ingest(sources, b"1")
        except PowerCut:
            pass
        except Poisoned as error:
            if not isinstance(error.__cause__, PowerCut):
                raise
        tree.close()
        for seed in range(6):
            survivor = Tree.open(storage.crash(Random(seed) if seed else None), options=OPTIONS)
            found = len(content(survivor))
            outcomes.add(found)
            assert (found, survivor.mark) in ((0, b""), (10, b"1"), (200, b"1"))
            assert list(survivor.check()) == []
            survivor.close()
    assert outcomes == {0, 10, 200}


def test_a_full_disk_is_told_and_can_be_tried_again() -> None:
    storage = MemoryStorage()
    source = ready(storage, "ready", numbered(0, 500))
    tree = Tree.open(storage, options=OPTIONS)
    tree.write([(b"a", b"1")])
    tree.flush(b"1")
    used = sum(len(storage.content(name)) for name in storage.list())
    used += sum(len(storage.content(f"tree/{name}")) for name in storage.list("tree"))
    storage.limit(used + 2000)
    with pytest.raises(OSError, match="No space left") as caught:
        tree.ingest([source], b"2")
    assert caught.value.errno == errno.ENOSPC
    assert content(tree) == {b"a": b"1"}
    assert storage.list("tree") == ["000001.sst", "MANIFEST", "RESERVE"], "nothing is left of it"
    tree.write([(b"b", b"2")])
    storage.limit(None)
    tree.ingest([source], b"2")
    assert len(content(tree)) == 502
    tree.close()


def test_a_failing_disk_poisons_only_where_it_is_uncertain_what_is_on_it() -> None:
    storage = MemoryStorage()
    source = ready(storage, "ready", numbered(0, 50))
    tree = Tree.open(storage, options=OPTIONS)
    tree.flush(b"1")
    storage.fail("sync", name="tree/0")
    with pytest.raises(OSError, match="Input/output"):
        tree.ingest([source], b"1")
    assert tree.ingest([source], b"1")
    storage.fail("rename", name="tree/MANIFEST")
    with pytest.raises(Poisoned):
        tree.ingest([source], b"1")
    with pytest.raises(Poisoned):
        tree.write([(b"a", b"1")])
    tree.close()


def test_a_writer_waits_for_an_ingest_that_was_interrupted() -> None:
    storage = MemoryStorage()
    source = ready(storage, "ready", numbered(0, 50))
    tree = Tree.open(storage, options=OPTIONS)
    tree.flush(b"1")
    with tree._work.installing:  # it comes no further than this
        tree._upkeep._until, until = _interrupted, tree._upkeep._until  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            tree.ingest([source], b"1")
        tree._upkeep._until = until  # type: ignore[method-assign]
        written = threading.Event()

        def write() -> None:
            tree.write([(b"00007", b"later")])
            written.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert not written.wait(0.05)
    writer.join()
    assert content(tree) == dict(numbered(0, 50)) | {b"00007": b"later"}
    tree.close()


def _interrupted(*args: object, **details: object) -> None:
    raise KeyboardInterrupt
