"""Soundness: what a row says where an atom is not one of its column's type. It says NULL.

    column likes INTEGER, a peer wrote "many"    ->    NULL, and listed in murmur_conflicts

No statement can write such an atom: what comes in is checked. But peers may send anything, and one
row must not keep a table from being read. What a column can hold is the kernel's affair, so that
rows and Arrow columns say the same (kvcore/kernel/pure/rows.py): the length of a VARCHAR and the
syntax of JSON are not looked into, an atom that is too long or no JSON is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from murmur.catalog.fields import field_of
from murmur.catalog.schema import Column
from murmur.kvcore import Atom
from murmur.kvcore.kernel.pure.rows import holder

Atoms = tuple[Atom, ...]


def mender(columns: Sequence[Column]) -> Callable[[Sequence[Atom]], Atoms]:
    """The function that puts None in place of atoms, in the columns' order, that are not held."""
    holders = [holder(field_of(column)) for column in columns]

    def mended(atoms: Sequence[Atom]) -> Atoms:
        pairs = zip(atoms, holders, strict=True)
        return tuple([atom if holds(atom) else None for atom, holds in pairs])

    return mended
