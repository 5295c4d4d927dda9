"""The seam through which an upper floor keeps derived data beside the cells.

After every transaction, local or remote, the replica tells the derivation which records changed; it
answers with entries for the derived keyspace (0x40 and above), and they enter the tree in the same
atomic batch. So an index entry is there exactly when its row is, on every replica, and all of it
can be dropped and rebuilt.

Invariant: the entries are a pure function of the cells. Whatever the order in which cells came to
be, the derived keyspace is what one call with every cell, from an empty one, would give.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from murmur.kvcore.view import View


class CellChange(NamedTuple):
    """One record's cell before and after; None where there is none."""

    key: bytes
    before: bytes | None
    after: bytes | None


class Derivation(Protocol):
    """What the catalog implements; its state is opaque here, immutable, part of each snapshot."""

    @property
    def definitions(self) -> bytes:
        """What the keys begin with of which the state is made. They come before all other records,
        and where many change, as with a snapshot, in one call."""
        ...

    def load(self, view: View) -> object:
        """The state that belongs to the keyspace."""
        ...

    def derive(
        self, state: object, changes: Sequence[CellChange], before: View
    ) -> tuple[Sequence[tuple[bytes, bytes | None]], object]:
        """Entries to write (None deletes) and the next state.

        Changes are in key order, one for a key; `before` is the keyspace without them.
        """
        ...

    def follow(self, state: object, under: Collection[object]) -> object:
        """The state after rows that came with their entries (`Replica.insert`)."""
        ...
