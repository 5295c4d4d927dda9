"""A snapshot of the tree: everything as it was at one sequence number, until it is closed.

    with tree.snapshot() as snapshot:
        snapshot.get(b"a")                     snapshot.multi_get([b"a", b"b"])
        snapshot.scan(b"a", b"c")              in key order, or against it with reverse=True
        snapshot.scan_prefix(b"row/")          all keys that begin so
        snapshot.chunks(b"a", None)            in blocks of bytes and offsets

It pins what it reads by holding one immutable State, so it never waits and never changes, whatever
is written, flushed and merged meanwhile.

Invariant: closing it ends every iterator on it with Closed; nothing else disturbs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from murmur.errors import Closed, TypeMismatch
from murmur.kvcore.figures import SAMPLE, Histogram
from murmur.kvcore.kernel import Reads
from murmur.kvcore.pressure import Pace
from murmur.kvcore.state import State

if TYPE_CHECKING:
    from murmur.kvcore.kernel import Chunk

CHUNK_BYTES = 1 << 20

T = TypeVar("T")


class TreeSnapshot:
    """The tree at one sequence number, until it is closed. For any number of threads."""

    __slots__ = ("_gets", "_pace", "_reads", "_released", "_state", "attachment", "sequence")

    def __init__(
        self, state: State, released: Callable[[State], None], gets: Histogram, pace: Pace
    ) -> None:
        self.sequence = state.sequence
        self.attachment = state.attachment
        self._state: State | None = state  # None once it is closed
        self._reads = state.reads
        self._released = released
        self._gets = gets
        self._pace = pace

    def get(self, key: bytes) -> bytes | None:
        """The value of the key, None if it has none."""
        if not next(_turns) % SAMPLE:
            began = self._pace.now_ns()
            value = self._reads.get(key, self.sequence)
            self._gets.record(self._pace.now_ns() - began)
        else:
            value = self._reads.get(key, self.sequence)
        if self._state is None:  # asked last: what it sees is kept until then
            raise Closed("the snapshot is closed")
        return value

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of several keys, in their order; None where there is none."""
        values = self._reads.multi_get(keys, self.sequence)
        if self._state is None:
            raise Closed("the snapshot is closed")
        return values

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < stop (None: no bound), in key order or against it."""
        self._usable()
        return self._reads.scan(
            start, stop, self.sequence, reverse=reverse, is_open=lambda: self._state is not None
        )

    def look(self, find: Callable[[Reads, int], T]) -> T:
        """What somebody finds who knows the kernel: of all that can be read, at a sequence."""
        self._usable()
        found = find(self._reads, self.sequence)
        self._usable()
        return found

    def scan_prefix(self, prefix: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The pairs whose keys begin with a prefix."""
        return self.scan(prefix, after_prefix(prefix), reverse=reverse)

    def chunks(
        self, start: bytes, stop: bytes | None, *, bytes_: int = CHUNK_BYTES
    ) -> Iterator[Chunk]:
        """The same pairs forward, in chunks of about so many bytes, without an object for each.

        A chunk stays valid whatever becomes of the snapshot.
        """
        self._usable()
        for chunk in self._reads.chunks(start, stop, self.sequence, bytes_=bytes_):
            if self._state is None:
                raise Closed("the snapshot is closed")
            yield chunk

    def close(self) -> None:
        """Let go of what the snapshot pins. Closing again does nothing."""
        state, self._state = self._state, None
        if state is not None:
            self._reads = _NOTHING
            self._released(state)

    def _usable(self) -> None:
        if self._state is None:
            raise Closed("the snapshot is closed")

    def __enter__(self) -> TreeSnapshot:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key after all that begin with a prefix; None if there is none."""
    if not isinstance(prefix, bytes):
        raise TypeMismatch(f"a prefix is bytes, not {type(prefix).__name__}")
    shortened = prefix.rstrip(b"\xff")
    return shortened[:-1] + bytes([shortened[-1] + 1]) if shortened else None


_turns = count()  # of all snapshots: one that reads a single key is timed in its turn
_NOTHING = Reads((), (), {})  # what a closed snapshot reads
