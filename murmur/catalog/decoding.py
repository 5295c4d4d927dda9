"""From the fields of a record to values: what readers of rows are compiled from.

    atoms_getter(columns)    {column id: atom}  ->  (atom, atom, ...)
    row_decoder(columns)     {column id: atom}  ->  (value, value, ...)
    row_reader(columns)      a record's bytes   ->  (value, value, ...)    in one go

A field that is missing belongs to a column that came later, and reads its constant default. What is
no value of its column reads NULL. A generated column is computed here, from the other fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any

from murmur.catalog.atoms import decoder
from murmur.catalog.fields import field_of
from murmur.catalog.schema import Column
from murmur.catalog.soundness import mender
from murmur.kvcore import Atom, visible_fields
from murmur.kvcore.kernel.records import RowReader

Row = tuple[Any, ...]


def row_decoder(columns: Sequence[Column]) -> Callable[[Mapping[int, Atom]], Row]:
    """Fields to a tuple of values of these columns; what is no value of its column reads NULL."""
    atoms = atoms_getter(columns)
    mended = mender(columns)
    decode = atoms_decoder(columns)
    return lambda fields: decode(mended(atoms(fields)))


def row_reader(columns: Sequence[Column]) -> Callable[[bytes], Row]:
    """As `row_decoder`, from a record's bytes. Raises Corruption when they are no record."""
    if any(column.generated is not None for column in columns):
        decode_row = row_decoder(columns)
        return lambda cell: decode_row(visible_fields(cell))
    read = RowReader([field_of(column) for column in columns])
    decode = atoms_decoder(columns)
    decode_fields = row_decoder(columns)

    def read_row(cell: bytes) -> Row:
        atoms = read(cell)
        return decode_fields(visible_fields(cell)) if atoms is None else decode(atoms)

    return read_row


def atoms_decoder(columns: Sequence[Column]) -> Callable[[tuple[Atom, ...]], Row]:
    """Atoms that these columns can hold to values."""
    decoders: list[tuple[int, Callable[[Any], Any]]] = []
    for at, column in enumerate(columns):
        # What `decoder` makes sure of besides is known of an atom that is held.
        decode = Decimal if column.type.name == "DECIMAL" else decoder(column.type)
        if decode is not None:
            decoders.append((at, decode))
    if not decoders:
        return lambda atoms: atoms

    def decode_atoms(atoms: tuple[Atom, ...]) -> Row:
        row: list[Any] = list(atoms)
        for at, decode in decoders:
            atom = row[at]
            if atom is not None:
                row[at] = decode(atom)
        return tuple(row)

    return decode_atoms


def atoms_getter(columns: Sequence[Column]) -> Callable[[Mapping[int, Atom]], tuple[Atom, ...]]:
    """Fields to a tuple of atoms of these columns."""
    if any(column.generated is not None for column in columns):
        parts = [column.atom for column in columns]
        return lambda fields: tuple([atom(fields) for atom in parts])
    ids = tuple(column.id for column in columns)
    missing = tuple(column.missing for column in columns)
    if len(ids) < 2:

        def few(fields: Mapping[int, Atom]) -> tuple[Atom, ...]:
            return tuple(map(fields.get, ids, missing))

        return few
    present = itemgetter(*ids)

    def atoms(fields: Mapping[int, Atom]) -> tuple[Atom, ...]:
        try:
            return present(fields)  # type: ignore[no-any-return]
        except KeyError:
            return tuple(map(fields.get, ids, missing))

    return atoms
