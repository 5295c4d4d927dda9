"""The native writers, where there are any: a put in one call of the kernel.

    Writer          of an engine: puts, deletes, batches
    AuthorWriter    of a replica: blind puts and deletes of registers, and rows that nobody has

What they may not do (a full segment or memtable, back-pressure, ranges, mistakes) they leave to
their owner, who shuts them while anybody is in the critical section. Without a compiled kernel the
owner does all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Any, Protocol

from murmur.kvcore import kernel
from murmur.kvcore.batch import Range, WriteBatch
from murmur.kvcore.figures import SAMPLE
from murmur.kvcore.kernel import Appender, Entry, Memtable
from murmur.kvcore.kernel.blocks import RowBlock
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
    look: Callable[[], int],
) -> NativeWriter | None:
    """The writer for an engine's tree.

    `write` is how the engine does it, `wake` and `wait` are for syncs, `look` tells from which size
    of the memtable on the engine does it.
    """
    if kernel.Writer is None:
        return None
    writer: NativeWriter = _made(kernel.Writer, tree, write, wake, wait, look)
    return writer


class NativeAuthor(Protocol):
    """Writes for one replica in one call each, as long as it is open."""

    seq: int  # of the last record
    stamp: int  # the highest issued or observed, as far as it knows
    progress: tuple[int, int, int, int, bytes]
    """Sequence, log position, seq, stamp and hash of the last write: all of one moment."""

    def follow(
        self,
        appender: Appender,
        memtable: Memtable,
        *,
        replica: bytes,
        seq: int,
        stamp: int,
        digest: bytes,
        state: object,
        unless: tuple[Sized, ...],
    ) -> None:
        """Go on after this record, unless one of the collections holds anything.

        `state` is the derivation's, of all that there is.
        """
        ...

    def followed(self) -> tuple[int, int, int, set[object] | None]:
        """Sequence, log position and seq of the last write, and what rows were inserted under since
        this was asked last: all of one moment."""
        ...

    settled: object | None
    """The state that it goes on with; None while it is shut."""

    def insert(self, block: RowBlock, state: object, under: object) -> bool:
        """Insert the row of a block of one, if this state is that of all there is, and nothing has
        the row's key or claims; else nothing happens. `under` is noted for `followed`."""
        ...

    def shut(self) -> None:
        """Leave everything to the replica."""
        ...

    def rest(self) -> None:
        """Wake the replica when something is written."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a register."""
        ...

    def delete(self, key: bytes) -> None:
        """Empty a register."""
        ...


def native_author(
    tree: Tree,
    *,
    write: Callable[[bytes, bytes | None], object],
    wake: Callable[[], None] | None,
    wait: Callable[[int], object] | None,
) -> NativeAuthor | None:
    """The writer for a replica's tree; the keywords are those of `native_writer`."""
    if kernel.AuthorWriter is None:
        return None
    look = tree.writable_bytes
    writer: NativeAuthor = _made(kernel.AuthorWriter, tree, write, wake, wait, look)
    return writer


def _made(
    kind: Callable[..., Any],
    tree: Tree,
    write: Callable[..., object],
    wake: Callable[[], None] | None,
    wait: Callable[[int], object] | None,
    look: Callable[[], int],
) -> Any:
    return kind(
        tree.latest,
        write=write,
        wake=wake,
        wait=wait,
        look=look,
        timed=tree.write_times.record,
        batch_type=WriteBatch,
        sample=SAMPLE,
    )
