"""The native writer of an engine, where there is one: a put in one call of the kernel.

What it may not do (a full segment or memtable, back-pressure, ranges, mistakes) it leaves to the
engine. Without a compiled kernel, the engine does all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from murmur.kvcore import kernel
from murmur.kvcore.batch import Range, WriteBatch
from murmur.kvcore.figures import SAMPLE
from murmur.kvcore.kernel import Appender, Entry, Memtable
from murmur.kvcore.tree import Tree


class NativeWriter(Protocol):
    """Writes to one engine in one call each, as long as it is open."""

    def open(self, appender: Appender, memtable: Memtable) -> None:
        """Go on, with these."""
        ...

    def shut(self) -> None:
        """Leave everything to the engine."""
        ...

    def rest(self) -> None:
        """Wake the engine when something is written."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key."""
        ...

    def delete(self, key: bytes) -> None:
        """Delete a key."""
        ...

    def write(self, batch: WriteBatch | Sequence[Entry]) -> None:
        """Apply a batch."""
        ...


def native_writer(
    tree: Tree,
    *,
    write: Callable[[Sequence[Entry], Sequence[Range]], None],
    wake: Callable[[], None] | None,
    wait: Callable[[int], object] | None,
) -> NativeWriter | None:
    """The writer for a tree; `write` is how the engine does it, `wake` and `wait` are for syncs."""
    if kernel.Writer is None:
        return None
    writer: NativeWriter = kernel.Writer(
        tree.latest,
        write=write,
        wake=wake,
        wait=wait,
        look=tree.writable_bytes,
        timed=tree.write_times.record,
        batch_type=WriteBatch,
        sample=SAMPLE,
    )
    return writer
