"""DDL: each function changes definitions through a transaction, after a look at the data.

    create_table(tx, TableDefinition("note", (ColumnDefinition("id", UUID), ...), ("id",)))
    tx.state.table("note")      # there at once, for this transaction

A statement that raises has written nothing. Definitions merge (catalog.py), so what is refused here
is only what this replica can know: a name that is taken, a row that breaks the new constraint.
Every statement guards the whole catalog: of two concurrent ones on a replica the later retries.

A dropped table and its rows stay where they are, out of sight; creating it again begins the next
generation, with an id of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog, resolve_parent, suffixed
from murmur.catalog.constraints import check_new_foreign_key, check_new_unique
from murmur.catalog.definitions import (
    DROPPED,
    NAME,
    check_fields,
    column_fields,
    foreign_key_fields,
    index_fields,
    pack_vector,
    table_fields,
)
from murmur.catalog.rows import scan_rows
from murmur.catalog.schema import (
    Check,
    CheckDefinition,
    Column,
    ColumnDefinition,
    ForeignKey,
    ForeignKeyDefinition,
    Index,
    IndexColumn,
    Table,
    TableDefinition,
)
from murmur.catalog.types import SqlType
from murmur.errors import ConstraintViolation, InvalidInput
from murmur.kvcore.transaction import Transaction

Holds = Callable[[tuple[Any, ...]], bool | None]

_SAME_KEYS = ({"SMALLINT", "INTEGER", "BIGINT"}, {"TEXT", "VARCHAR"}, {"REAL", "DOUBLE"})


def create_table(
    tx: Transaction, definition: TableDefinition, *, if_not_exists: bool = False
) -> bool:
    """CREATE TABLE; False when the table was there and `if_not_exists` says that this is fine."""
    catalog = _catalog(tx)
    if catalog.table(definition.name) is not None:
        if if_not_exists:
            return False
        raise InvalidInput(f'table "{definition.name}" already exists')
    _check_columns(definition)
    types = {column.name: column.type for column in definition.columns}
    key = [(name, str(types[name])) for name in definition.primary_key]
    generation = next(
        each
        for each in count(1)
        if keyspace.table_id(definition.name, each, key) not in catalog.records
    )
    table_id = keyspace.table_id(definition.name, generation, key)
    taken: set[int] = set()
    columns = [
        _new_column(
            table_id, column, position, taken, required=column.name in definition.primary_key
        )
        for position, column in enumerate(definition.columns)
    ]
    ids = {column.name: column.id for column in columns}
    key_name = definition.primary_key_name or f"{definition.name}_pkey"
    table = Table(
        id=table_id,
        name=definition.name,
        generation=generation,
        columns=tuple(columns),
        primary_key=tuple(ids[name] for name in definition.primary_key),
        primary_key_name=key_name if definition.primary_key else "",
    )
    with _whole(tx):
        for column in columns:
            _write_column(tx, table_id, column)
        for unique in definition.uniques:
            listed = [(name, False) for name in unique.columns]
            index = _new_index(catalog, table, listed, unique.name, unique=True, constraint=True)
            if all(index.column_ids != other.column_ids for other in table.indexes):
                table = replace(table, indexes=(*table.indexes, index), compiled={})
                _write_index(tx, index)
        for check in definition.checks:
            table = replace(table, checks=(*table.checks, _new_check(table, check)), compiled={})
            _write_check(tx, table.checks[-1])
        for foreign in definition.foreign_keys:
            resolved = _new_foreign_key(catalog, table, foreign)
            table = replace(table, foreign_keys=(*table.foreign_keys, resolved), compiled={})
            _write_foreign_key(tx, resolved)
        fields = table_fields(table.name, generation, table.primary_key, table.primary_key_name)
        tx.insert(keyspace.table_key(table_id), fields, replace=True)
    return True


def drop_table(
    tx: Transaction, name: str, *, if_exists: bool = False, cascade: bool = False
) -> bool:
    """DROP TABLE; with `cascade`, foreign keys of other tables that lean on it go too."""
    catalog = _catalog(tx)
    table = catalog.table(name)
    if table is None:
        if if_exists:
            return False
        raise _no_table(name)
    children = [key for key in catalog.referencing(table.id) if key.table_id != table.id]
    if children and not cascade:
        child = catalog.table_by_id(children[0].table_id)
        assert child is not None
        raise InvalidInput(
            f'cannot drop table "{name}": foreign key "{children[0].name}" of table '
            f'"{child.name}" depends on it; use CASCADE to drop the foreign key too'
        )
    with _whole(tx):
        for key in children:
            tx.remove(keyspace.item_key(key.table_id, keyspace.FOREIGN_KEY, key.id))
        tx.edit(keyspace.table_key(table.id), {DROPPED: pack_vector(tx.snapshot.vector)})
    return True


def rename_table(tx: Transaction, name: str, new_name: str) -> None:
    """ALTER TABLE ... RENAME TO."""
    catalog = _catalog(tx)
    table = _table(catalog, name)
    if catalog.table(new_name) is not None:
        raise InvalidInput(f'table "{new_name}" already exists')
    _check_name(new_name)
    with _whole(tx):
        tx.edit(keyspace.table_key(table.id), {NAME: new_name})


def add_column(
    tx: Transaction, table_name: str, column: ColumnDefinition, *, if_not_exists: bool = False
) -> bool:
    """ALTER TABLE ... ADD COLUMN. Rows stay as they are, and read the constant default or NULL."""
    catalog = _catalog(tx)
    table = _table(catalog, table_name)
    if table.column(column.name) is not None:
        if if_not_exists:
            return False
        raise InvalidInput(f'column "{column.name}" of table "{table_name}" already exists')
    _check_column(table_name, column)
    record = catalog.records[table.id]
    known = [*record.columns, *(dropped for dropped, _ in record.dropped_columns)]
    taken = {each.id for each in known}
    position = max((each.position for each in known), default=-1) + 1
    new = _new_column(table.id, column, position, taken, required=False)
    if not new.nullable and new.missing is None:
        rows = keyspace.prefix_range(keyspace.row_prefix(table.id))
        tx.guard_range(*rows)
        if next(iter(tx.scan(*rows)), None) is not None:
            raise ConstraintViolation(
                f'column "{column.name}" of table "{table_name}" is NOT NULL without a constant '
                "default, and the table has rows, which would hold NULL there"
            )
    with _whole(tx):
        _write_column(tx, table.id, new)
    return True


def rename_column(tx: Transaction, table_name: str, name: str, new_name: str) -> None:
    """ALTER TABLE ... RENAME COLUMN; also of a hidden column, under its suffixed name."""
    catalog = _catalog(tx)
    table = _table(catalog, table_name)
    column = _column_called(catalog, table, name)
    if table.column(new_name) is not None:
        raise InvalidInput(f'column "{new_name}" of table "{table_name}" already exists')
    _check_name(new_name)
    with _whole(tx):
        tx.edit(keyspace.item_key(table.id, keyspace.COLUMN, column), {NAME: new_name})


def drop_column(tx: Transaction, table_name: str, name: str, *, if_exists: bool = False) -> bool:
    """ALTER TABLE ... DROP COLUMN: its indexes, CHECKs and foreign keys go with it."""
    catalog = _catalog(tx)
    table = _table(catalog, table_name)
    column = table.column(name)
    if column is None:
        if if_exists:
            return False
        raise InvalidInput(f'column "{name}" of table "{table_name}" does not exist')
    if column.id in table.primary_key:
        raise InvalidInput(f'column "{name}" is in the primary key of table "{table_name}"')
    if len(table.columns) == 1:
        raise InvalidInput(f'column "{name}" is the last one of table "{table_name}"')
    for foreign_key in catalog.referencing(table.id):
        if column.id in foreign_key.parent_column_ids:
            raise InvalidInput(f'foreign key "{foreign_key.name}" depends on column "{name}"')
    with _whole(tx):
        for index in table.indexes:
            if column.id in index.column_ids:
                tx.remove(keyspace.item_key(table.id, keyspace.INDEX, index.id))
        for check in table.checks:
            if column.id in check.column_ids:
                tx.remove(keyspace.item_key(table.id, keyspace.CHECK, check.id))
        for foreign_key in table.foreign_keys:
            if column.id in foreign_key.column_ids:
                tx.remove(keyspace.item_key(table.id, keyspace.FOREIGN_KEY, foreign_key.id))
        key = keyspace.item_key(table.id, keyspace.COLUMN, column.id)
        tx.edit(key, {DROPPED: pack_vector(tx.snapshot.vector)})
    return True


def create_index(
    tx: Transaction,
    table_name: str,
    columns: Sequence[tuple[str, bool]],
    *,
    name: str = "",
    unique: bool = False,
    constraint: bool = False,
    if_not_exists: bool = False,
) -> bool:
    """CREATE [UNIQUE] INDEX over (column, descending) pairs; or UNIQUE, with `constraint`."""
    catalog = _catalog(tx)
    table = _table(catalog, table_name)
    if name and catalog.index(name) is not None:
        if if_not_exists:
            return False
        raise InvalidInput(f'index "{name}" already exists')
    index = _new_index(catalog, table, columns, name, unique=unique, constraint=constraint)
    with _whole(tx):
        if unique:
            tx.guard_range(*keyspace.prefix_range(keyspace.row_prefix(table.id)))
        _write_index(tx, index)
        if unique:
            check_new_unique(tx, index)
    return True


def drop_index(tx: Transaction, name: str, *, if_exists: bool = False) -> bool:
    """DROP INDEX; one that UNIQUE made is dropped by drop_constraint."""
    catalog = _catalog(tx)
    index = catalog.index(name)
    if index is None:
        if if_exists:
            return False
        raise InvalidInput(f'index "{name}" does not exist')
    if index.constraint:
        table = catalog.table_by_id(index.table_id)
        assert table is not None
        raise InvalidInput(f'index "{name}" belongs to a UNIQUE of table "{table.name}"')
    _remove_index(tx, catalog, index)
    return True


def drop_constraint(
    tx: Transaction, table_name: str, name: str, *, if_exists: bool = False
) -> bool:
    """ALTER TABLE ... DROP CONSTRAINT, of a UNIQUE, FOREIGN KEY or CHECK."""
    catalog = _catalog(tx)
    table = _table(catalog, table_name)
    for index in table.indexes:
        if index.constraint and index.name == name:
            _remove_index(tx, catalog, index)
            return True
    named = [(keyspace.FOREIGN_KEY, each.id, each.name) for each in table.foreign_keys]
    named += [(keyspace.CHECK, each.id, each.name) for each in table.checks]
    for kind, item, item_name in named:
        if item_name == name:
            with _whole(tx):
                tx.remove(keyspace.item_key(table.id, kind, item))
            return True
    if if_exists:
        return False
    raise InvalidInput(f'constraint "{name}" of table "{table_name}" does not exist')


def add_foreign_key(tx: Transaction, table_name: str, definition: ForeignKeyDefinition) -> None:
    """ALTER TABLE ... ADD FOREIGN KEY; the rows that are there must hold it."""
    catalog = _catalog(tx)
    table = _table(catalog, table_name)
    foreign_key = _new_foreign_key(catalog, table, definition)
    with _whole(tx):
        tx.guard_range(*keyspace.prefix_range(keyspace.row_prefix(table.id)))
        _write_foreign_key(tx, foreign_key)
        check_new_foreign_key(tx, foreign_key)


def add_check(tx: Transaction, table_name: str, definition: CheckDefinition, holds: Holds) -> None:
    """ALTER TABLE ... ADD CHECK; `holds` is the compiled text, for the rows that are there."""
    table = _table(_catalog(tx), table_name)
    check = _new_check(table, definition)
    with _whole(tx):
        tx.guard_range(*keyspace.prefix_range(keyspace.row_prefix(table.id)))
        for _, row in scan_rows(tx, table):
            if holds(row) is False:
                raise ConstraintViolation(
                    f'check constraint "{check.name}" of table "{table_name}" is violated by '
                    "some row"
                )
        _write_check(tx, check)


@contextmanager
def _whole(tx: Transaction) -> Iterator[None]:
    """All writes of the block, or none; and nobody else's DDL beside them."""
    savepoint = tx.savepoint()
    tx.guard_range(*keyspace.prefix_range(keyspace.CATALOG))
    try:
        yield
    except BaseException:
        tx.rollback_to(savepoint)
        raise


def _catalog(tx: Transaction) -> Catalog:
    catalog = tx.state
    assert isinstance(catalog, Catalog)
    return catalog


def _table(catalog: Catalog, name: str) -> Table:
    table = catalog.table(name)
    if table is None:
        raise _no_table(name)
    return table


def _no_table(name: str) -> InvalidInput:
    return InvalidInput(f'table "{name}" does not exist')


def _column_called(catalog: Catalog, table: Table, name: str) -> int:
    column = table.column(name)
    if column is not None:
        return column.id
    shown = {each.id for each in table.columns}
    for record in catalog.records[table.id].columns:
        if record.id not in shown and suffixed(record.name, record.id) == name:
            return record.id
    raise InvalidInput(f'column "{name}" of table "{table.name}" does not exist')


def _check_name(name: str) -> None:
    if not name or "\0" in name:
        raise InvalidInput(f"{name!r} cannot be a name")


def _check_columns(definition: TableDefinition) -> None:
    _check_name(definition.name)
    if not definition.columns:
        raise InvalidInput(f'table "{definition.name}" has no columns')
    seen: set[str] = set()
    for column in definition.columns:
        if column.name in seen:
            raise InvalidInput(
                f'column "{column.name}" of table "{definition.name}" is defined twice'
            )
        seen.add(column.name)
        _check_column(definition.name, column)
    types = {column.name: column.type for column in definition.columns}
    _check_key(definition.name, definition.primary_key, types)


def _check_column(table: str, column: ColumnDefinition) -> None:
    _check_name(column.name)
    default = column.default
    if column.type.name == "COUNTER" and default is not None and default.value != 0:
        raise InvalidInput(f'column "{column.name}" of table "{table}": a COUNTER begins at 0')


def _check_key(table: str, names: Sequence[str], types: dict[str, SqlType]) -> None:
    for name in names:
        if name not in types:
            raise InvalidInput(f'column "{name}" of table "{table}" does not exist')
        if not types[name].can_be_key:
            raise InvalidInput(
                f'column "{name}" of table "{table}" is {types[name]}, which cannot be a key'
            )
    if len(set(names)) < len(names):
        raise InvalidInput(f'a key of table "{table}" names one column twice')


def _new_column(
    table_id: int, column: ColumnDefinition, position: int, taken: set[int], *, required: bool
) -> Column:
    type_text = str(column.type)
    generations = (keyspace.column_id(table_id, column.name, type_text, each) for each in count(1))
    column_id = next(each for each in generations if each not in taken)
    taken.add(column_id)
    return Column(
        id=column_id,
        name=column.name,
        type=column.type,
        nullable=column.nullable and not required,
        default=column.default,
        position=position,
    )


def _new_index(
    catalog: Catalog,
    table: Table,
    columns: Sequence[tuple[str, bool]],
    name: str,
    *,
    unique: bool,
    constraint: bool,
) -> Index:
    types = {column.name: column.type for column in table.columns}
    names = [column for column, _ in columns]
    if not names:
        raise InvalidInput(f'an index of table "{table.name}" has no columns')
    _check_key(table.name, names, types)
    taken = {index.name for index in table.indexes}
    if name and (name in taken or catalog.index(name) is not None):
        raise InvalidInput(f'index "{name}" already exists')
    ending = "key" if constraint else "idx"
    name = name or next(
        each
        for each in _numbered("_".join((table.name, *names, ending)))
        if each not in taken and catalog.index(each) is None
    )
    pairs = []
    for column_name, descending in columns:
        column = table.column(column_name)
        assert column is not None
        pairs.append((column.id, descending))
    return Index(
        id=keyspace.index_id(table.id, name, pairs, unique=unique),
        name=name,
        table_id=table.id,
        columns=tuple(IndexColumn(column_id, descending) for column_id, descending in pairs),
        unique=unique,
        constraint=constraint,
    )


def _new_foreign_key(
    catalog: Catalog, table: Table, definition: ForeignKeyDefinition
) -> ForeignKey:
    parent = table if definition.parent == table.name else catalog.table(definition.parent)
    if parent is None:
        raise _no_table(definition.parent)
    children = [_column(table, name) for name in definition.columns]
    if definition.parent_columns:
        parents = [_column(parent, name) for name in definition.parent_columns]
    else:
        parents = [parent.column_by_id(column_id) for column_id in parent.primary_key]
    if not children or len(children) != len(parents):
        raise InvalidInput(
            f'a foreign key of table "{table.name}" has {len(children)} columns and references '
            f'{len(parents)} of table "{parent.name}"'
        )
    for child, referenced in zip(children, parents, strict=True):
        if not _same_keys(child.type, referenced.type):
            raise InvalidInput(
                f'column "{child.name}" of table "{table.name}" is {child.type}, and cannot '
                f'reference column "{referenced.name}" of table "{parent.name}", which is '
                f"{referenced.type}"
            )
        if not child.nullable and definition.on_delete == "SET NULL":
            raise InvalidInput(f'ON DELETE SET NULL: column "{child.name}" is NOT NULL')
    column_ids = tuple(column.id for column in children)
    parent_ids = tuple(column.id for column in parents)
    identity = keyspace.foreign_key_id(table.id, column_ids, parent.id, parent_ids)
    name = definition.name or "_".join((table.name, *definition.columns, "fkey"))
    foreign_key = ForeignKey(
        id=identity,
        name=_constraint_name(table, name, given=bool(definition.name)),
        table_id=table.id,
        column_ids=column_ids,
        parent_table_id=parent.id,
        parent_column_ids=parent_ids,
        on_delete=definition.on_delete,
    )
    resolved = resolve_parent(foreign_key, parent)
    if resolved is None:
        names = ", ".join(column.name for column in parents)
        raise InvalidInput(
            f'table "{parent.name}" has no primary key or unique constraint over ({names})'
        )
    return resolved


def _new_check(table: Table, definition: CheckDefinition) -> Check:
    columns = tuple(_column(table, name).id for name in definition.columns)
    middle = definition.columns if len(definition.columns) == 1 else ()
    name = definition.name or "_".join((table.name, *middle, "check"))
    name = _constraint_name(table, name, given=bool(definition.name))
    return Check(
        id=keyspace.check_id(table.id, name, definition.text),
        name=name,
        table_id=table.id,
        text=definition.text,
        column_ids=columns,
        column_names=definition.columns,
    )


def _constraint_name(table: Table, name: str, *, given: bool) -> str:
    taken = {check.name for check in table.checks}
    taken |= {foreign_key.name for foreign_key in table.foreign_keys}
    if given and name in taken:
        raise InvalidInput(f'constraint "{name}" of table "{table.name}" already exists')
    return next(each for each in _numbered(name) if each not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in count(1):
        yield f"{name}{number}"


def _column(table: Table, name: str) -> Column:
    column = table.column(name)
    if column is None:
        raise InvalidInput(f'column "{name}" of table "{table.name}" does not exist')
    return column


def _same_keys(child: SqlType, parent: SqlType) -> bool:
    """Whether equal values of both have equal stored forms and key bytes."""
    return child == parent or any(
        child.name in family and parent.name in family for family in _SAME_KEYS
    )


def _write_column(tx: Transaction, table_id: int, column: Column) -> None:
    key = keyspace.item_key(table_id, keyspace.COLUMN, column.id)
    tx.insert(key, column_fields(column), replace=True)


def _write_index(tx: Transaction, index: Index) -> None:
    key = keyspace.item_key(index.table_id, keyspace.INDEX, index.id)
    tx.insert(key, index_fields(index), replace=True)


def _write_check(tx: Transaction, check: Check) -> None:
    key = keyspace.item_key(check.table_id, keyspace.CHECK, check.id)
    tx.insert(key, check_fields(check), replace=True)


def _write_foreign_key(tx: Transaction, foreign_key: ForeignKey) -> None:
    key = keyspace.item_key(foreign_key.table_id, keyspace.FOREIGN_KEY, foreign_key.id)
    tx.insert(key, foreign_key_fields(foreign_key), replace=True)


def _remove_index(tx: Transaction, catalog: Catalog, index: Index) -> None:
    for foreign_key in catalog.referencing(index.table_id):
        if foreign_key.parent_index_id == index.id:
            raise InvalidInput(f'foreign key "{foreign_key.name}" depends on index "{index.name}"')
    with _whole(tx):
        tx.remove(keyspace.item_key(index.table_id, keyspace.INDEX, index.id))
