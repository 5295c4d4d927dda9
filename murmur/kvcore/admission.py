"""Admission: from transactions to what the tree will hold, before anything is written.

    group = Group(tree, published vector)
    group.admit(record, decoded, vector)     cells, vector and tips move on within the group
    group.batch(derivation, state, view)     one batch: the cells, and the entries derived from them

A group is whole transactions that enter the log and the tree together. Nothing outside of it
changes until its owner writes the records and then the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from murmur.kvcore.causality import dominates
from murmur.kvcore.cell import Author, apply
from murmur.kvcore.derivation import CellChange, Derivation
from murmur.kvcore.kernel.blocks import RowBlock
from murmur.kvcore.loads import Loaded
from murmur.kvcore.long_record import Record
from murmur.kvcore.mark import Tip
from murmur.kvcore.record import COUNT, PUT, Operation, Transaction, deletes, digest
from murmur.kvcore.view import View


class Gettable(Protocol):
    """Where a group finds the cells as they are."""

    def get(self, key: bytes) -> bytes | None:
        """The latest cell under the key."""
        ...


class Group:
    """Transactions that enter the log and the tree together: cells as they will be, and tips."""

    def __init__(self, tree: Gettable, vector: Mapping[bytes, int]) -> None:
        self._tree = tree
        self._before: dict[bytes, bytes | None] = {}
        self._after: dict[bytes, bytes | None] = {}
        self.vector: Mapping[bytes, int] = vector
        self.tips: dict[bytes, Tip] = {}
        self.stamp = 0
        self.records: list[Record] = []
        self.park: list[bytes] = []
        self.deleting = True  # it does nothing else
        self.bytes = 0
        self.loads: list[Loaded] = []

    def admit(
        self,
        record: Record,
        decoded: Transaction,
        vector: Mapping[bytes, int],
        blocks: Sequence[RowBlock] = (),
    ) -> None:
        """Compute the cells after the transaction; nothing outside of the group changes.

        `blocks` are insertions that stand in the record beside the decoded operations. No key of
        theirs has a cell: their transaction had looked, and would else be in conflict.
        """
        replica, seq, stamp, _, _, operations = decoded
        author = Author(stamp, replica, seq, vector)
        # A put that has seen everything leaves nothing of what was there, so that is not read.
        blind = dominates(vector, self.vector)
        before, after, get = self._before, self._after, self._tree.get
        for key, own in _by_key(operations):
            if key in after:
                cell = after[key]
            elif blind and key[0] == 1:
                cell = None
            else:
                cell = before[key] = get(key)
            after[key] = apply(cell, own, author)
        self.vector = {**self.vector, replica: seq}
        self.tips[replica] = Tip(seq, stamp, digest(record), vector)
        self.stamp = max(self.stamp, stamp)
        self.records.append(record)
        self.deleting = self.deleting and not blocks and deletes(operations)
        self.bytes += len(record)
        self.loads += [Loaded(block, stamp, replica, seq) for block in blocks]

    def batch(
        self, derivation: Derivation | None, state: object, latest: View
    ) -> tuple[list[tuple[bytes, bytes | None]], object]:
        """Cells and what follows from them, for the tree, and the derivation's next state."""
        after, before = self._after, self._before
        batch = list(after.items())
        if derivation is None:
            return batch, state
        changes = [
            CellChange(key, before[key], after[key])
            for key in sorted(after)
            if key[0] == 2 and before[key] != after[key]
        ]
        if changes:
            entries, state = derivation.derive(state, changes, latest)
            batch += entries
        for block, stamp, replica, seq in {load.block.prefix: load for load in self.loads}.values():
            # They have their entries, made by the definitions that are among the changes; one row
            # of each table tells the state what has changed.
            born = CellChange(block.key(0), None, block.cell(0, stamp, replica, seq))
            _, state = derivation.derive(state, [born], latest)
        return batch, state


def _by_key(operations: Sequence[Operation]) -> Iterable[tuple[bytes, Sequence[Operation]]]:
    """Operations of known kinds, by key, in their order."""
    if len(operations) == 1:
        return [(operations[0].key, operations)] if PUT <= operations[0].kind <= COUNT else []
    keyed: dict[bytes, list[Operation]] = {}
    for operation in operations:
        if PUT <= operation.kind <= COUNT:
            keyed.setdefault(operation.key, []).append(operation)
    return keyed.items()
