"""Soundness: what a row says where an atom is not one of its column's type. It says NULL.

    column likes INTEGER, a peer wrote "many"    ->    NULL, and listed in murmur_conflicts

No statement can write such an atom: what comes in is checked. But peers may send anything, and one
row must not keep a table from being read. Types are looked at once for all rows of one shape, which
is quick; what only its content shows to be wrong (text that is no DECIMAL) is found where it is
decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from murmur.catalog.schema import Column
from murmur.catalog.values import is_atom
from murmur.kvcore import Atom

Atoms = tuple[Atom, ...]

_SHAPES = 1000  # remembered for one table: each NULL makes another one

_NULL: type = type(None)
_INTEGER, _TEXT = frozenset({_NULL, int}), frozenset({_NULL, str})
_KINDS: Mapping[str, frozenset[type]] = {
    "BOOLEAN": frozenset({_NULL, bool}),
    "SMALLINT": _INTEGER,
    "INTEGER": _INTEGER,
    "BIGINT": _INTEGER,
    "COUNTER": _INTEGER,
    "REAL": frozenset({_NULL, float}),
    "DOUBLE": frozenset({_NULL, float}),
    "DECIMAL": _TEXT,
    "TEXT": _TEXT,
    "VARCHAR": _TEXT,
    "JSON": _TEXT,
    "BLOB": frozenset({_NULL, bytes}),
    "DATE": _INTEGER,
    "TIME": _INTEGER,
    "TIMESTAMP": _INTEGER,
    "TIMESTAMPTZ": _INTEGER,
    "INTERVAL": frozenset({_NULL, int, bytes}),
    "UUID": frozenset({_NULL, bytes}),
}


def types_checker(columns: Sequence[Column]) -> Callable[[tuple[Any, ...]], bool]:
    """Whether atoms, in the order of the columns, have the types that they should."""
    kinds = [_KINDS[column.type.name] for column in columns]
    known: set[tuple[type, ...]] = set()

    def check(atoms: tuple[Any, ...]) -> bool:
        shape = tuple(map(type, atoms))
        if shape in known:
            return True
        if not all(kind in allowed for kind, allowed in zip(shape, kinds, strict=True)):
            return False
        if len(known) >= _SHAPES:
            known.clear()
        known.add(shape)
        return True

    return check


def mended(columns: Sequence[Column], atoms: Sequence[Atom]) -> Atoms:
    """The atoms, with None in place of those that are not of their columns' types."""
    return tuple(
        atom if atom is None or is_atom(atom, column.type) else None
        for column, atom in zip(columns, atoms, strict=True)
    )
