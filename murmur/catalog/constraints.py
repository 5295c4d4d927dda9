"""Constraints, enforced in full against what the transaction sees.

    NOT NULL, types       layout.py, as values come in
    CHECK                 per row; the text is compiled by sql, here it is a callable
    PRIMARY KEY, UNIQUE   per row, against the live claims
    FOREIGN KEY           at the end of the statement (StatementChecks), as PostgreSQL does

Whatever was looked at is guarded, so that of two transactions that together break a constraint the
later one gets Conflict: a unique value's claims, a referenced parent's key, an abandoned parent's
children, and the digest of the definitions that the statement went by (DESIGN section 4, rule 2).
What replicas write while they are apart cannot be refused; conflicts.py lists it.

NULLs are distinct: a value with one claims nothing and references nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog
from murmur.catalog.decoding import Row
from murmur.catalog.derivation import Source, source_of, values_encoder
from murmur.catalog.keycode import atom_encoder
from murmur.catalog.keyspace import prefix_range
from murmur.catalog.layout import Fields, Layout, claim_text, key_text, layout_of, value_text
from murmur.catalog.schema import Check, Column, ForeignKey, Index, Table
from murmur.errors import ConstraintViolation
from murmur.kvcore import Atom, Transaction, View, visible_fields

RowCheck: TypeAlias = tuple[Check, Callable[[Row], bool | None]]


def asked_key(
    foreign_key: ForeignKey, child: Table, parent: Table
) -> tuple[bytes, list[tuple[Column, Column, bool]]]:
    """The key of a parent: what it begins with, and for each part of it the column of the child,
    that of the parent, and whether it descends."""
    child_of = dict(zip(foreign_key.parent_column_ids, foreign_key.column_ids, strict=True))
    if foreign_key.parent_index_id is None:
        prefix = keyspace.row_prefix(parent.id)
        asked = [(column_id, False) for column_id in parent.primary_key]
    else:
        prefix = keyspace.entry_prefix(foreign_key.parent_index_id, unique=True)
        index = next(each for each in parent.indexes if each.id == foreign_key.parent_index_id)
        asked = [(column.column_id, column.descending) for column in index.columns]
    return prefix, [
        (child.column_by_id(child_of[column_id]), parent.column_by_id(column_id), descending)
        for column_id, descending in asked
    ]


class Reference:
    """A foreign key between two tables, compiled: from a child to its parent's key, and back."""

    __slots__ = ("_of_parent", "child", "children", "foreign_key", "parent", "parent_key")

    def __init__(self, foreign_key: ForeignKey, child: Table, parent: Table) -> None:
        self.foreign_key = foreign_key
        self.child = child
        self.parent = parent
        self.children: Source = source_of(child, keyspace.child_prefix(foreign_key.id))
        prefix, asked = asked_key(foreign_key, child, parent)
        # The parent's key, from the fields of a child: None when one of them is NULL.
        self.parent_key = values_encoder(
            prefix,
            [
                (own.id, own.missing, atom_encoder(other.type, descending=descending))
                for own, other, descending in asked
            ],
        )
        # What the entries of its children begin with, from the fields of a parent.
        self._of_parent = values_encoder(
            self.children.prefix,
            [
                (
                    parent_id,
                    parent.column_by_id(parent_id).missing,
                    atom_encoder(child.column_by_id(child_id).type),
                )
                for parent_id, child_id in child_of_pairs(foreign_key)
            ],
        )

    def children_of(self, parent_fields: Mapping[int, Atom]) -> bytes | None:
        """The prefix of the entries of this parent's children; None when it can have none."""
        return self._of_parent(parent_fields)

    def parent_exists(self, view: View, key: bytes) -> bool:
        """Whether some live row has this key, as `parent_key` gives it."""
        if self.foreign_key.parent_index_id is None:
            return view.get(key) is not None
        return any(True for _ in view.scan(*prefix_range(key)))

    def guard_parent(self, tx: Transaction, key: bytes) -> None:
        """Let commit fail if the parent comes or goes before it."""
        if self.foreign_key.parent_index_id is None:
            tx.guard(key)
        else:
            tx.guard_range(*prefix_range(key))

    def has_children(self, view: View, prefix: bytes) -> bool:
        """Whether some live row references the parent with this prefix of children."""
        return any(True for _ in view.scan(*prefix_range(prefix)))

    def orphan(self, fields: Mapping[int, Atom]) -> ConstraintViolation:
        """The error for a child without a parent."""
        key = key_text(self.child, self.foreign_key.column_ids, fields)
        return ConstraintViolation(
            f'insert or update on table "{self.child.name}" violates foreign key constraint '
            f'"{self.foreign_key.name}": Key {key} is not present in table "{self.parent.name}".'
        )

    def still_referenced(self, parent_fields: Mapping[int, Atom]) -> ConstraintViolation:
        """The error for a parent that cannot go."""
        key = key_text(self.parent, self.foreign_key.parent_column_ids, parent_fields)
        return ConstraintViolation(
            f'update or delete on table "{self.parent.name}" violates foreign key constraint '
            f'"{self.foreign_key.name}" on table "{self.child.name}": Key {key} is still '
            f'referenced from table "{self.child.name}".'
        )


class StatementChecks:
    """What one statement has to verify when it ends. Make one per statement, and call verify.

    `checks_of` gives a table's compiled CHECKs, for the rows that ON DELETE SET NULL changes.
    """

    __slots__ = ("_abandoned", "_referenced", "catalog", "checks_of", "tx")

    def __init__(
        self,
        tx: Transaction,
        checks_of: Callable[[Table], Sequence[RowCheck]] | None = None,
    ) -> None:
        catalog = tx.state
        assert isinstance(catalog, Catalog)
        self.tx = tx
        self.catalog = catalog
        self.checks_of = checks_of or _no_checks
        self._referenced: dict[tuple[int, bytes], tuple[Reference, Mapping[int, Atom]]] = {}
        self._abandoned: dict[bytes, tuple[Reference, Mapping[int, Atom]]] = {}

    def reference(self, foreign_key: ForeignKey) -> Reference:
        """The compiled foreign key."""
        child = self.catalog.table_by_id(foreign_key.table_id)
        parent = self.catalog.table_by_id(foreign_key.parent_table_id)
        assert child is not None
        assert parent is not None
        known: Reference | None = child.compiled.get((Reference, foreign_key.id))
        if known is None or known.parent is not parent:
            known = Reference(foreign_key, child, parent)
            child.compiled[Reference, foreign_key.id] = known
        return known

    def referenced(self, foreign_key: ForeignKey, fields: Mapping[int, Atom]) -> None:
        """A child with these fields was written."""
        reference = self.reference(foreign_key)
        key = reference.parent_key(fields)
        if key is not None:
            self._referenced.setdefault((foreign_key.id, key), (reference, fields))
        elif all(
            fields.get(column_id, reference.child.column_by_id(column_id).missing) is not None
            for column_id in foreign_key.column_ids
        ):
            raise reference.orphan(fields)  # the parent's type does not even have the value

    def abandoned(self, foreign_key: ForeignKey, fields: Mapping[int, Atom]) -> None:
        """A parent with these fields was deleted, or got another key."""
        reference = self.reference(foreign_key)
        prefix = reference.children_of(fields)
        if prefix is None:
            return
        if foreign_key.on_delete == "RESTRICT" and reference.has_children(self.tx, prefix):
            raise reference.still_referenced(fields)
        self._abandoned[prefix] = reference, fields

    def verify(self) -> None:
        """Every child has a parent, and no parent left children behind; ConstraintViolation."""
        tx = self.tx
        for (_, key), (reference, fields) in self._referenced.items():
            reference.guard_parent(tx, key)
            # A later row of the statement may have taken the reference back.
            if not reference.parent_exists(tx, key) and self._is_referenced(reference, fields):
                raise reference.orphan(fields)
        for prefix, (reference, fields) in self._abandoned.items():
            tx.guard_range(*prefix_range(prefix))
            if reference.has_children(tx, prefix) and not self._taken_over(reference, fields):
                raise reference.still_referenced(fields)
        self._referenced.clear()
        self._abandoned.clear()

    def _is_referenced(self, reference: Reference, fields: Mapping[int, Atom]) -> bool:
        prefix = reference.children.values(fields)
        return prefix is not None and reference.has_children(self.tx, prefix)

    def _taken_over(self, reference: Reference, parent_fields: Mapping[int, Atom]) -> bool:
        """Whether another row has the abandoned key now."""
        as_child = {
            child_id: parent_fields.get(parent_id, reference.parent.column_by_id(parent_id).missing)
            for parent_id, child_id in child_of_pairs(reference.foreign_key)
        }
        key = reference.parent_key(as_child)
        if key is None or not reference.parent_exists(self.tx, key):
            return False
        reference.guard_parent(self.tx, key)
        return True


def child_of_pairs(foreign_key: ForeignKey) -> list[tuple[int, int]]:
    """(parent column id, child column id), in the foreign key's order."""
    return list(zip(foreign_key.parent_column_ids, foreign_key.column_ids, strict=True))


def check_row(table: Table, checks: Sequence[RowCheck], row: Row) -> None:
    """Every CHECK holds: it is TRUE or NULL."""
    for check, holds in checks:
        if holds(row) is False:
            values = ", ".join(map(value_text, row))
            raise ConstraintViolation(
                f'new row for table "{table.name}" violates check constraint "{check.name}": '
                f"Failing row contains ({values})."
            )


def check_claims(
    tx: Transaction,
    layout: Layout,
    fields: Mapping[int, Atom],
    own: bytes | None,
    edited: Mapping[int, Atom] | None = None,
) -> None:
    """Nobody else holds the unique values of this row, of which `edited` are new (None: all)."""
    for index, source in layout.claims:
        if edited is not None and source.column_ids.isdisjoint(edited):
            continue
        holder = claim_holder(tx, layout, source, fields, own)
        if holder is not None:
            raise unique_violation(layout.table, index, fields)


def claim_holder(
    tx: Transaction, layout: Layout, source: Source, fields: Mapping[int, Atom], own: bytes | None
) -> bytes | None:
    """The key of another row that holds the same unique value; the value is guarded."""
    values = source.values(fields)
    if values is None:
        return None
    bounds = prefix_range(values)
    tx.guard_range(*bounds)
    for entry, size in tx.scan(*bounds):
        holder = layout.prefix + entry[len(entry) - int.from_bytes(size) :]
        if holder != own:
            return holder
    return None


def unique_violation(
    table: Table, index: Index | None, fields: Mapping[int, Atom]
) -> ConstraintViolation:
    """The error for a value that another row holds; without an index, the primary key."""
    name = table.primary_key_name if index is None else index.name
    if index is None:
        key = key_text(table, table.primary_key, fields)
    else:
        key = claim_text(table, index, fields)
    return ConstraintViolation(
        f'duplicate key value violates unique constraint "{name}" of table "{table.name}": '
        f"Key {key} already exists."
    )


def check_new_unique(tx: Transaction, index: Index) -> None:
    """A unique index that has just been defined holds over the rows that are there."""
    table = _defined(tx, index.table_id)
    index = next(each for each in table.indexes if each.id == index.id)
    prefix = keyspace.entry_prefix(index.id, unique=True)
    for _, fields in duplicate_claims(tx, table, index, prefix):
        key = claim_text(table, index, fields)
        raise ConstraintViolation(
            f'could not create unique index "{index.name}" of table "{table.name}": '
            f"Key {key} is duplicated."
        )


def duplicate_claims(
    view: View, table: Table, index: Index, prefix: bytes
) -> list[tuple[bytes, Fields]]:
    """(row key, fields) of every row that shares its value of a unique index, value by value."""
    layout = layout_of(table)
    source = source_of(table, prefix)
    found: list[tuple[bytes, Fields]] = []
    group: list[bytes] = []
    value = b""
    for entry, size in view.scan(*prefix_range(prefix)):
        end = len(entry) - int.from_bytes(size)
        if entry[:end] != value:
            found += _claimants(view, source, group)
            value, group = entry[:end], []
        group.append(layout.prefix + entry[end:])
    return found + _claimants(view, source, group)


def _claimants(view: View, source: Source, keys: list[bytes]) -> list[tuple[bytes, Fields]]:
    if len(keys) < 2:
        return []
    rows: list[tuple[bytes, Fields]] = []
    for key in keys:
        cell = view.get(key)
        assert cell is not None
        rows.append((key, visible_fields(cell)))
        if source.values(rows[0][1]) is None:
            return []  # rows with a NULL in the value stand side by side, and claim nothing
    return rows


def check_new_foreign_key(tx: Transaction, foreign_key: ForeignKey) -> None:
    """A foreign key that has just been defined holds over the rows that are there."""
    statement = StatementChecks(tx)
    table = _defined(tx, foreign_key.table_id)
    for _, cell in tx.scan(*prefix_range(keyspace.row_prefix(table.id))):
        statement.referenced(foreign_key, visible_fields(cell))
    statement.verify()


def _defined(tx: Transaction, table_id: int) -> Table:
    catalog = tx.state
    assert isinstance(catalog, Catalog)
    table = catalog.table_by_id(table_id)
    assert table is not None
    return table


def _no_checks(table: Table) -> Sequence[RowCheck]:
    return ()
