"""Many rows at once: encoded by the kernel as a block, checked and loaded as a whole.

    plan = load_plan(statement, table)          None: rows of this table go one by one (insert_row)
    encoder = RowEncoder(plan); ...             of Python values or Arrow columns
    load_blocks(tx, table, plan, [encoder.finish()], checks=checks, statement=statement)

What insert_row makes sure of for each row holds for the block: types and NOT NULL as values come
in (RowSource.convert is the catalog's own check), then keys, CHECKs, unique values and foreign
keys, against the snapshot, against other blocks of the transaction, and within the block. Cells and
entries are the same, byte for byte.

A block does not know what else the transaction has done to its table. Where it has done anything
but make the table and load blocks, rows go one by one; so they do where entries are made of more
than columns, and where a foreign key refers to a column of another type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgpack

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog
from murmur.catalog.constraints import (
    RowCheck,
    StatementChecks,
    asked_key,
    check_row,
    unique_violation,
)
from murmur.catalog.derivation import sources_of
from murmur.catalog.fields import field_of, type_field
from murmur.catalog.keyspace import prefix_range
from murmur.catalog.layout import Intake, layout_of
from murmur.catalog.schema import Column, ForeignKey, Table
from murmur.kvcore import Atom, Transaction
from murmur.kvcore.kernel.block_plan import (
    CHILD,
    CLAIM,
    INDEX,
    PARENT,
    BlockPlan,
    EntryPlan,
    KeyPart,
    RowSource,
)
from murmur.kvcore.kernel.blocks import RowBlock
from murmur.kvcore.kernel.pure.row_block import first_present
from murmur.kvcore.loads import insertion_of
from murmur.kvcore.snapshot import Snapshot

__all__ = [
    "columns_of",
    "constant_source",
    "is_loadable",
    "load_blocks",
    "load_plan",
    "lone_plan",
    "value_source",
    "verify_checks",
]

# Types whose values are their own atoms: the kernel checks them itself.
_PLAIN = frozenset(
    {"BOOLEAN", "SMALLINT", "INTEGER", "BIGINT", "COUNTER", "DOUBLE", "TEXT", "VARCHAR", "BLOB"}
)
_TEST_STAMP, _TEST_REPLICA, _TEST_SEQ = 1, bytes(8), 1


def is_loadable(table: Table) -> bool:
    """Whether rows of the table are nothing but columns, keys, and entries made of columns."""
    known: bool | None = table.compiled.get(is_loadable)
    if known is None:
        known = table.kv is None
        known = known and all(column.generated is None for column in table.columns)
        known = known and all(index.plain for index in table.indexes)
        # There is nothing else that makes entries of a row.
        entries = len(table.indexes) + len(table.foreign_keys)
        known = table.compiled[is_loadable] = known and len(sources_of(table)) == entries
    return known


def columns_of(table: Table) -> tuple[Column, ...]:
    """The columns in the order in which a body has them: fields by id, then counters by id."""
    by_id = sorted(table.columns, key=lambda column: column.id)
    return tuple(sorted(by_id, key=lambda column: column.type.name == "COUNTER"))


def load_plan(statement: StatementChecks, table: Table) -> BlockPlan | None:
    """How the table's rows are encoded now; None if they have to go one by one."""
    tx = statement.tx
    rows = prefix_range(keyspace.row_prefix(table.id))
    if not is_loadable(table) or tx.changes_between(*rows) or not _is_settled(tx, table, rows):
        return None
    parents = []
    for foreign_key in table.foreign_keys:
        parent = _parent_plan(statement, table, foreign_key)
        if parent is None:
            return None
        parents.append(parent)
    plan = _plan_of(table)
    return plan._replace(entries=plan.entries + tuple(parents)) if parents else plan


def lone_plan(catalog: Catalog, table: Table) -> BlockPlan | None:
    """How a row of the table is encoded, if all that can stand against it is its key, what it
    claims, and its CHECKs; else None."""
    if table.foreign_keys or not is_loadable(table) or catalog.table_by_id(table.id) is not table:
        return None
    return _plan_of(table)


def _plan_of(table: Table) -> BlockPlan:
    plan: BlockPlan | None = table.compiled.get(BlockPlan)
    if plan is None:
        plan = table.compiled[BlockPlan] = _plan(table)
    return plan


def _is_settled(tx: Transaction, table: Table, rows: tuple[bytes, bytes]) -> bool:
    """Whether the snapshot knows the table as it is now, or has nothing of it.

    Entries that the transaction has made for rows of the snapshot are not where blocks look.
    """
    settled = tx.snapshot.state
    assert isinstance(settled, Catalog)
    known = settled.table_by_id(table.id)
    if known is not None:
        return known is table
    return next(iter(tx.snapshot.scan(*rows)), None) is None


def value_source(
    table: Table, column: Column, position: int, fill: Callable[[], Any] | None = None
) -> RowSource:
    """A column whose values stand at a position of each row; -1: they are all made by `fill`.

    `fill` makes a value in place of a NULL, for a key that fills itself.
    """
    intake = layout_of(table).intakes[column.id]
    counter = column.type.name == "COUNTER"
    key_float = column.type.is_float and column.id in table.primary_key  # NaN is no key
    return RowSource(
        field_of(column),
        position,
        _converter(table, intake, fill, counter=counter),
        nullable=column.nullable and not counter and fill is None,
        plain=column.type.name in _PLAIN and not key_float,
        longest=column.type.length or 0,
    )


def constant_source(table: Table, column: Column, atom: Atom) -> RowSource:
    """A column that holds the same in every row."""
    if atom is None and not column.nullable:
        return value_source(table, column, -1)  # the first row tells
    packed: bytes = msgpack.packb(atom)
    return RowSource(field_of(column), -1, lambda value: atom, constant=packed)


def load_blocks(
    tx: Transaction,
    table: Table,
    plan: BlockPlan,
    blocks: Sequence[RowBlock],
    *,
    checks: Sequence[RowCheck] = (),
    statement: StatementChecks,
) -> None:
    """Insert the rows of blocks, in their order.

    Raises ConstraintViolation; then some may be inserted, and the caller rolls back.
    """
    layout = layout_of(table)
    blocks = [block for block in blocks if block.count]
    unique = [(at, index) for at, index in enumerate(table.indexes) if index.unique]
    if blocks:
        tx.guard(layout.digest_key)
    for block in blocks:
        others = [other for other in tx.blocks if other.prefix == plan.prefix]
        taken = _taken(block, None, block.repeated, tx.snapshot, others)
        if taken is not None:
            raise unique_violation(table, None, _fields(block, taken))
        verify_checks(table, block, checks)
        for at, index in unique:
            taken = _taken(block, at, block.reclaimed(at), tx.snapshot, others)
            if taken is not None:
                raise unique_violation(table, index, _fields(block, taken))
        tx.load(block)
    # Rows may refer to one another, and to rows of other blocks.
    first_parent = len(plan.entries) - len(table.foreign_keys)
    for at, foreign_key in enumerate(table.foreign_keys, first_parent):
        for block in blocks:
            _verify_parents(tx, block, at, foreign_key, statement)


def verify_checks(table: Table, block: RowBlock, checks: Sequence[RowCheck]) -> None:
    """Raise ConstraintViolation if a row breaks a CHECK."""
    if not table.checks:
        return
    assert len(checks) == len(table.checks)
    layout = layout_of(table)
    for row in range(block.count):
        cell = block.cell(row, _TEST_STAMP, _TEST_REPLICA, _TEST_SEQ)
        check_row(table, checks, layout.read(cell))


# Plans ---------------------------------------------------------------------


def _plan(table: Table) -> BlockPlan:
    columns = columns_of(table)
    entries = []
    for index in table.indexes:
        parts = tuple(
            _part(table, columns, part.column_id, part.descending) for part in index.columns
        )
        prefix = keyspace.entry_prefix(index.id, unique=index.unique)
        entries.append(EntryPlan(CLAIM if index.unique else INDEX, prefix, parts))
    for foreign_key in table.foreign_keys:
        parts = tuple(_part(table, columns, each) for each in foreign_key.column_ids)
        entries.append(EntryPlan(CHILD, keyspace.child_prefix(foreign_key.id), parts))
    return BlockPlan(
        fields=tuple(each.id for each in columns if each.type.name != "COUNTER"),
        counters=tuple(each.id for each in columns if each.type.name == "COUNTER"),
        prefix=keyspace.row_prefix(table.id),
        parts=tuple(_part(table, columns, each) for each in table.primary_key),
        entries=tuple(entries),
    )


def _part(
    table: Table, columns: Sequence[Column], column_id: int, descending: bool = False
) -> KeyPart:
    column = table.column_by_id(column_id)
    return KeyPart(columns.index(column), field_of(column), descending)


def _parent_plan(
    statement: StatementChecks, table: Table, foreign_key: ForeignKey
) -> EntryPlan | None:
    """The key of the row that a child refers to, of the child's columns."""
    prefix, asked = asked_key(foreign_key, table, statement.reference(foreign_key).parent)
    columns = columns_of(table)
    parts = []
    for own, other, descending in asked:
        if own.type != other.type:
            return None
        parts.append(KeyPart(columns.index(own), type_field(other.type), descending))
    return EntryPlan(PARENT, prefix, tuple(parts))


# Checks --------------------------------------------------------------------


def _taken(
    block: RowBlock,
    plan: int | None,
    repeated: int | None,
    snapshot: Snapshot,
    others: Sequence[RowBlock],
) -> int | None:
    """The row whose key, or claim of a plan, another row has: here, in the tree, or in a block."""
    if repeated is not None:
        return block.row_at(repeated)
    found = _present(block, plan, snapshot)
    for other in others:
        if found is None:
            found = block.shared(plan, other)
    if found is None or plan is None:
        return found
    return block.row_at(block.asker(plan, found))


def _present(block: RowBlock, plan: int | None, snapshot: Snapshot) -> int | None:
    """The first row, or claim of a plan, whose key or values the snapshot has."""
    if snapshot.look is not None:
        found: Any = snapshot.look(lambda reads, sequence: block.present(plan, reads, sequence))
        return found  # type: ignore[no-any-return]
    probes = [block.key(row) for row in range(block.count)] if plan is None else block.asked(plan)
    return first_present(snapshot.scan, probes)


def _verify_parents(
    tx: Transaction, block: RowBlock, plan: int, foreign_key: ForeignKey, statement: StatementChecks
) -> None:
    reference = statement.reference(foreign_key)
    for at, key in enumerate(block.asked(plan)):
        reference.guard_parent(tx, key)
        if not reference.parent_exists(tx, key):
            raise reference.orphan(_fields(block, block.row_at(block.asker(plan, at))))


def _fields(block: RowBlock, row: int) -> Mapping[int, Atom]:
    return insertion_of(block.body(row)).fields


# Values --------------------------------------------------------------------


def _converter(
    table: Table, intake: Intake, fill: Callable[[], Any] | None, *, counter: bool
) -> Callable[[Any], Atom]:
    def convert(value: Any) -> Atom:
        if value is None and fill is not None:
            value = fill()
        if counter:
            return intake.check(value) or 0
        return intake.atom(value, table)

    return convert
