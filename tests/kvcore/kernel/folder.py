"""What tests of the kernel share: the twins by name, and a directory that one of them writes.

folder = Folder(load_kernel("native"))
tables = folder.write([folder.memtable({b"a": b"1"}), old], table_bytes=1 << 20)
folder.content()        every file's bytes, to be compared with the other twin's
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest

from murmur.kvcore.kernel import Entry, Output, TableInfo, TableOptions
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.storage import AppendFile, Storage, read_whole

KERNELS = ["pure", "native"]
NAMES = [
    "BlockCache",
    "Latest",
    "Memtable",
    "Reads",
    "Table",
    "ValueFile",
    "crc32",
    "write_tables",
]
ONE_TABLE = 1 << 62

Content = dict[bytes, bytes | None]
Range = tuple[bytes, bytes]


def load_kernel(name: str) -> ModuleType:
    """The twin of this name; skips the test if it was not built."""
    if name == "pure":
        return import_module("murmur.kvcore.kernel.pure")
    try:
        native = import_module("murmur.kvcore.kernel._native")
    except ImportError as error:
        pytest.skip(f"the native kernel was not built: {error}")
    if missing := [known for known in NAMES if not hasattr(native, known)]:
        pytest.skip(f"the native kernel has no {', '.join(missing)}")
    return native


class Folder:
    """Tables and value files in one storage, written and read by one kernel."""

    def __init__(
        self,
        kernel: ModuleType,
        storage: Storage | None = None,
        *,
        cache_bytes: int = 1 << 20,
        first: int = 1,
    ) -> None:
        self.kernel = kernel
        self.storage: Storage = storage if storage is not None else MemoryStorage()
        self.cache = kernel.BlockCache(cache_bytes)
        self.values: dict[int, Any] = {}  # ValueFile, by number
        self.created: list[str] = []
        self._number = first - 1

    def memtable(
        self, content: Content | Iterable[Entry], ranges: Sequence[Range] = (), sequence: int = 1
    ) -> Any:
        """A frozen memtable of one batch."""
        memtable = self.kernel.Memtable(sequence - 1)
        batch = list(content.items()) if isinstance(content, dict) else list(content)
        memtable.apply(sequence, batch, (), ranges)
        memtable.freeze(sequence)
        return memtable

    def output(
        self,
        *,
        drop_tombstones: bool = False,
        relocate: Iterable[int] = (),
        max_sequence: int = 7,
        pause: Callable[[int], None] = lambda written: None,
        **options: int,
    ) -> Output:
        """Where to write; the options are those of TableOptions."""
        return Output(
            self._create,
            self._create_values,
            TableOptions(**{"table_bytes": ONE_TABLE, **options}),
            max_sequence,
            drop_tombstones,
            frozenset(relocate),
            self.values,
            pause,
        )

    def write(self, sources: Sequence[Any], **options: Any) -> list[Any]:
        """The tables that `write_tables` makes of the sources, open."""
        return self.write_to(self.output(**options), sources)

    def write_to(self, output: Output, sources: Sequence[Any]) -> list[Any]:
        infos = self.kernel.write_tables(sources, output)
        for number, size in output.value_files:
            name = f"{number:06}.val"
            self.values[number] = self.kernel.ValueFile(self.storage, name, number, size)
        return [self.open(info) for info in infos]

    def flush(self, content: Content, ranges: Sequence[Range] = (), **options: Any) -> Any:
        """One table of this content."""
        (table,) = self.write([self.memtable(content, ranges)], **options)
        return table

    def open(self, info: TableInfo) -> Any:
        return self.kernel.Table(self.storage, f"{info.number:06}.sst", info, self.cache)

    def reads(self, levels: Sequence[Sequence[Any]], memtables: Sequence[Any] = ()) -> Any:
        return self.kernel.Reads(memtables, levels, self.values)

    def pairs(self, *tables: Any) -> list[tuple[bytes, bytes]]:
        """What a level of these tables holds."""
        return list(self.reads([(), tables]).scan(b"", None, 0))

    def content(self) -> dict[str, bytes]:
        """The bytes of all files."""
        return {name: read_whole(self.storage, name) for name in self.storage.list()}

    def _create(self) -> tuple[int, AppendFile]:
        return self._new("sst")

    def _create_values(self) -> tuple[int, AppendFile]:
        return self._new("val")

    def _new(self, suffix: str) -> tuple[int, AppendFile]:
        self._number += 1
        self.created.append(f"{self._number:06}.{suffix}")
        return self._number, self.storage.create(self.created[-1])
