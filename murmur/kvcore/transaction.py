"""A transaction: a snapshot, and the writes that stand before it until commit.

    tx = replica.begin()
    tx.insert(key, {1: "KLM"})
    tx.scan(start, stop)         # sees its own insert, index entries included
    tx.commit()                  # one record, or Conflict

Writes to one key are folded as they come (changes.py). Rows that are loaded as a block stay
encoded, and go into the record as they are, unless somebody looks at more than one of them or
changes one: then they become changes like others.

Invariants:
    1. The record's vector is the snapshot's: what the transaction had not seen it does not cover.
    2. First committer wins: if a key that was read and modified, or a guarded key or range, was
       changed by any transaction, local or remote, since the snapshot, commit raises Conflict and
       changes nothing. Blind puts and increments are exempt (DESIGN section 4, rule 2).
    3. Within the transaction, cells carry a provisional stamp and dot that win over all they have
       seen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Protocol

from murmur.errors import Closed, InvalidInput
from murmur.kvcore.cell import Author, apply
from murmur.kvcore.changes import NOTHING, Change, Put, RowChange, check_width, operations_of
from murmur.kvcore.derivation import CellChange, Derivation
from murmur.kvcore.kernel.blocks import RowBlock
from murmur.kvcore.loads import insertion_of
from murmur.kvcore.overlay import OwnKeys, Ranges, overlay
from murmur.kvcore.record import (
    DERIVED,
    MAX_KEY_BYTES,
    RECORD,
    REGISTER,
    Atom,
    Insertion,
    Operation,
)
from murmur.kvcore.snapshot import Snapshot


class Committer(Protocol):
    """What a transaction needs of the replica that began it."""

    @property
    def id(self) -> bytes:
        """The author."""
        ...

    @property
    def derivation(self) -> Derivation | None:
        """What keeps derived entries."""
        ...

    def commit(self, transaction: Transaction) -> tuple[bytes, int] | None:
        """Write it down; its dot."""
        ...

    def forget(self, transaction: Transaction) -> None:
        """It has ended."""
        ...


class Transaction:
    """One snapshot with this transaction's own writes on top; not safe to share between threads."""

    def __init__(self, replica: Committer, snapshot: Snapshot, stamp: int) -> None:
        self._replica = replica
        self.snapshot = snapshot
        self.open = True
        vector = snapshot.vector
        self.author = author = replica.id  # as whom the replica wrote when this began
        self._author = Author(stamp, author, vector.get(author, 0) + 1, vector)
        self._changes: dict[bytes, Change] = {}
        self._undo: list[tuple[bytes, Change | RowBlock | None]] = []  # a block has no key
        self._cells: dict[bytes, bytes | None] = {}  # of changed keys, computed when asked for
        self._derived: dict[bytes, bytes | None] = {}
        self._reflected: dict[bytes, bytes | None] = {}  # the cells that _derived speaks of
        self._stale: set[bytes] = set()  # changed since _derived was computed
        self._blocks: list[RowBlock] = []
        self._state = snapshot.state
        self._keys = OwnKeys()
        self._derived_keys = OwnKeys()
        self._guards: set[bytes] = set()
        self._ranges = Ranges()
        self._read: set[bytes] = set()
        self._read_ranges = Ranges()

    # Writing -----------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Replace what a register holds, without reading it."""
        assert key[:1] == REGISTER
        self._change(key, Put(value))

    def delete(self, key: bytes) -> None:
        """Empty a register, without reading it."""
        assert key[:1] == REGISTER
        self._change(key, Put(None))

    def insert(
        self,
        key: bytes,
        fields: Mapping[int, Atom],
        counters: Mapping[int, int] | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Begin a new life of a record; with `replace`, the lives seen so far end."""
        assert key[:1] == RECORD
        check_width(fields)
        earlier = self._changes.get(key)
        remove = replace or (isinstance(earlier, RowChange) and earlier.remove)
        self._change(key, RowChange(remove, Insertion(fields, counters or {})))

    def edit(self, key: bytes, fields: Mapping[int, Atom]) -> None:
        """Set fields of every life that the snapshot holds."""
        self._change(key, self._row(key).edited(fields))

    def add(self, key: bytes, field: int, amount: int) -> None:
        """Increment a counter of the record."""
        self._change(key, self._row(key).added(field, amount))

    def reset(self, key: bytes, field: int, value: int) -> None:
        """Set a counter of the record: what the snapshot has seen added is cancelled."""
        self._change(key, self._row(key).reset(field, value))

    def remove(self, key: bytes) -> None:
        """Delete the record: every life that the snapshot holds, and one begun here."""
        assert key[:1] == RECORD
        self._change(key, RowChange(remove=True))

    def load(self, block: RowBlock) -> None:
        """Insert the rows of a block: none of them is there, and their entries come with them."""
        if not self.open:
            raise Closed("the transaction has ended; begin another one")
        self._undo.append((b"", block))
        self._blocks.append(block)

    def spread(self) -> None:
        """Make changes like others of the rows in blocks."""
        blocks, self._blocks = self._blocks, []
        for block in blocks:
            # Undoing the load undoes them, so they are not noted one by one.
            for row in range(block.count):
                key = block.key(row)
                self._changes[key] = RowChange(insertion=insertion_of(block.body(row)))
                self._keys.add(key)
                self._stale.add(key)

    def guard(self, key: bytes) -> None:
        """Let commit fail if anybody changes this key before it."""
        self._guards.add(key)

    def guard_range(self, start: bytes, stop: bytes | None) -> None:
        """Let commit fail if anybody changes a key with start <= key < stop before it."""
        self._ranges.add(start, stop)

    # Reading -----------------------------------------------------------

    @property
    def state(self) -> object:
        """The derivation's state, this transaction's own changes included."""
        if self._stale:
            self._derive()
        return self._state

    @property
    def changed(self) -> bool:
        """Whether anything has been written."""
        return bool(self._changes or self._blocks)

    @property
    def blocks(self) -> list[RowBlock]:
        """The rows that were loaded and are still encoded."""
        return self._blocks

    def changes_between(self, start: bytes, stop: bytes) -> bool:
        """Whether a key with start <= key < stop was changed, other than by loading a block."""
        return any(key in self._changes for key in self._keys.between(start, stop))

    def get(self, key: bytes) -> bytes | None:
        """The value under the key, own writes included."""
        if key in self._changes:
            return self._cell(key)
        kind = key[:1]
        if self._blocks and kind >= RECORD:
            if kind < DERIVED:
                for block in self._blocks:
                    row = block.find(key)
                    if row is not None:
                        return block.cell(row, *self._author[:3])
            elif any(block.touches(key, key + b"\0") for block in self._blocks):
                self.spread()
        if kind >= DERIVED:
            if self._stale:
                self._derive()
            if key in self._derived:
                return self._derived[key]
        elif kind == REGISTER:
            self._read.add(key)
        return self.snapshot.get(key)

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop in key order, as they stand at this call."""
        if self._blocks and (any(block.touches(start, stop) for block in self._blocks)):
            self.spread()
        if self._stale and (stop is None or stop > DERIVED):
            self._derive()
        if start < RECORD:
            self._read_ranges.add(start, stop)
        own: list[tuple[bytes, bytes | None]] = [
            (key, self._cell(key))
            for key in self._keys.between(start, stop)
            if key in self._changes
        ]
        own += [
            (key, self._derived[key])
            for key in self._derived_keys.between(start, stop)
            if key in self._derived
        ]
        below = self.snapshot.scan(start, stop, reverse=reverse)
        if not own:
            return below
        if reverse:
            own.reverse()
        return overlay(own, below, reverse=reverse)

    def standing(self) -> Transaction:
        """What this transaction shows now, to be read while it goes on writing.

        What is read through it counts as read by this one; it cannot be written to nor committed.
        """
        other = copy.copy(self)
        other.open = False  # so that nothing ends when it goes
        other._undo = []
        other._changes, other._cells = dict(self._changes), dict(self._cells)
        other._derived, other._reflected = dict(self._derived), dict(self._reflected)
        other._stale, other._blocks = set(self._stale), list(self._blocks)
        other._keys, other._derived_keys = self._keys.copy(), self._derived_keys.copy()
        return other

    # Ending ------------------------------------------------------------

    def savepoint(self) -> int:
        """A point that rollback_to can return to."""
        return len(self._undo)

    def rollback_to(self, savepoint: int) -> None:
        """Forget every write since the savepoint; guards stay, which can only cause a retry."""
        while len(self._undo) > savepoint:
            key, change = self._undo.pop()
            if not key:
                self._unload(change)  # type: ignore[arg-type]
                continue
            assert not isinstance(change, RowBlock)
            self._cells.pop(key, None)
            self._stale.add(key)
            if change is None:
                self._changes.pop(key, None)
            else:
                self._changes[key] = change

    def commit(self) -> tuple[bytes, int] | None:
        """Write the record; its dot, or None when there was nothing to write. Raises Conflict."""
        if not self.open:
            raise Closed("the transaction has ended; begin another one")
        try:
            if not self.changed:
                return None
            return self._replica.commit(self)
        finally:
            self.rollback()

    def rollback(self) -> None:
        """End the transaction; nothing of it remains."""
        if self.open:
            self.open = False
            self._replica.forget(self)
            self.snapshot.close()

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.open:
            self.commit()
        else:
            self.rollback()

    def __del__(self) -> None:
        if getattr(self, "open", False):
            self.rollback()

    # For the replica ---------------------------------------------------

    def operations(self) -> list[Operation]:
        """What the record will carry, in key order, and before the blocks."""
        operations: list[Operation] = []
        for key in sorted(self._changes):
            operations += operations_of(key, self._changes[key], self.snapshot)
        return operations

    @property
    def blind(self) -> bool:
        """Whether it needs nothing to be as it was: it has read nothing and guards nothing."""
        guarded = self._guards or self._ranges or self._read or self._read_ranges
        return not (guarded or self._blocks) and all(
            isinstance(change, Put) or change.only_adds for change in self._changes.values()
        )

    def conflicts_with(self, keys: set[bytes]) -> bytes | None:
        """A key among `keys` that this transaction needs as it was, if there is one."""
        for key in keys & self._guards:
            return key
        for block in self._blocks:
            found = block.first_of(keys)
            if found is not None:
                return found
        for key in keys & self._changes.keys():
            change = self._changes[key]
            if isinstance(change, Put):
                if key in self._read or self._read_ranges.hold(key):
                    return key
            elif not change.only_adds:
                return key
        if self._ranges:
            for key in keys:
                if self._ranges.hold(key):
                    return key
        return None

    # Within ------------------------------------------------------------

    def _row(self, key: bytes) -> RowChange:
        assert key[:1] == RECORD
        if self._blocks and any(block.find(key) is not None for block in self._blocks):
            self.spread()
        change = self._changes.get(key, NOTHING)
        assert isinstance(change, RowChange)
        return change

    def _change(self, key: bytes, change: Change) -> None:
        if not self.open:
            raise Closed("the transaction has ended; begin another one")
        if len(key) > MAX_KEY_BYTES:
            raise InvalidInput(f"a key of {len(key):,} bytes is longer than {MAX_KEY_BYTES:,}")
        if self._blocks and any(block.find(key) is not None for block in self._blocks):
            self.spread()
        earlier = self._changes.get(key)
        self._undo.append((key, earlier))
        self._changes[key] = change
        if earlier is None:
            self._keys.add(key)
        else:
            self._cells.pop(key, None)
        self._stale.add(key)

    def _unload(self, block: RowBlock) -> None:
        if self._blocks and self._blocks[-1] is block:
            self._blocks.pop()
            return
        for row in range(block.count):
            key = block.key(row)
            self._changes.pop(key, None)
            self._cells.pop(key, None)
            self._stale.add(key)

    def _cell(self, key: bytes) -> bytes | None:
        if key in self._cells:
            return self._cells[key]
        operations = operations_of(key, self._changes[key], self.snapshot)
        # A put covers all that the snapshot holds, so what it holds need not be read.
        below = self.snapshot.get(key) if key[:1] == RECORD else None
        cell = apply(below, operations, self._author) if operations else below
        self._cells[key] = cell
        return cell

    def _derive(self) -> None:
        """Bring the derived entries up to the writes so far."""
        changes = []
        for key in sorted(self._stale):
            if key[:1] != RECORD:
                continue
            before = self._reflected[key] if key in self._reflected else self.snapshot.get(key)
            after = self._cell(key) if key in self._changes else self.snapshot.get(key)
            if before != after:
                changes.append(CellChange(key, before, after))
        derivation = self._replica.derivation
        if changes and derivation is not None:
            entries, self._state = derivation.derive(self._state, changes, _Reflected(self))
            for key, value in entries:
                if key not in self._derived:
                    self._derived_keys.add(key)
                self._derived[key] = value
        for change in changes:
            self._reflected[change.key] = change.after
        self._stale.clear()


class _Reflected:
    """The keyspace as the derived entries know it: the snapshot and what was derived so far."""

    def __init__(self, transaction: Transaction) -> None:
        self._cells = transaction._reflected
        self._derived = transaction._derived
        self._snapshot = transaction.snapshot

    def get(self, key: bytes) -> bytes | None:
        for own in (self._cells, self._derived):
            if key in own:
                return own[key]
        return self._snapshot.get(key)

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        own = sorted(
            (key, value)
            for values in (self._cells, self._derived)
            for key, value in values.items()
            if start <= key and (stop is None or key < stop)
        )
        below = self._snapshot.scan(start, stop, reverse=reverse)
        return overlay(own[::-1] if reverse else own, below, reverse=reverse)
