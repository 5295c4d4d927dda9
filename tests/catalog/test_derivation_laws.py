"""The derived keyspace is a pure function of the cells, however they came to be (law L5).

Replicas define, alter and drop tables, write rows, some of them nonsense, and meet, all at random.
At every step of a transaction, on every replica, and on readers that get the same records in other
orders and batches, the derived entries are those that one walk over the cells gives.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from murmur.catalog import (
    CatalogDerivation,
    ColumnDefinition,
    Default,
    ExpressionDefinition,
    ForeignKeyDefinition,
    Increment,
    Table,
    TableDefinition,
    UniqueDefinition,
    add_column,
    comment_on_index,
    conflicts,
    create_index,
    create_table,
    create_trigram_index,
    drop_column,
    drop_constraint,
    drop_index,
    drop_not_null,
    drop_table,
    rename_column,
    rename_index,
    rename_table,
    scan_index,
    scan_rows,
    set_default,
    set_not_null,
    set_type,
)
from murmur.catalog.trigrams import candidates, trigrams_of
from murmur.catalog.types import BIGINT, BOOLEAN, COUNTER, INTEGER, TEXT
from murmur.errors import DatabaseError
from murmur.kvcore import Replica, Transaction
from murmur.sql.row_expressions import compile_row_expression
from tests.catalog.harness import (
    apart,
    catalog_of,
    define,
    delete,
    derived,
    exchange,
    insert,
    open_replica,
    records,
    table_of,
    update,
)

ID = ColumnDefinition("id", INTEGER)
A = ColumnDefinition("a", INTEGER)
TEXT_A = ColumnDefinition("a", TEXT)
SEVEN = Default("constant", 7, "7")
OF_A = ColumnDefinition("g", INTEGER, generated=ExpressionDefinition("12 / a", INTEGER, ("a",)))
DEFINITIONS = [
    TableDefinition("t", (ID, A, ColumnDefinition("n", COUNTER)), ("id",)),
    TableDefinition("t", (ID, TEXT_A), ("id",), uniques=(UniqueDefinition(("a",)),)),
    TableDefinition(
        "t",
        (ID, A, ColumnDefinition("b", TEXT, default=Default("constant", "z", "'z'"))),
        ("id",),
        uniques=(UniqueDefinition(("b", "a")),),
        foreign_keys=(ForeignKeyDefinition(("a",), "t", on_delete="CASCADE"),),
    ),
    TableDefinition(
        "u",
        (ID, A),
        ("id",),
        foreign_keys=(ForeignKeyDefinition(("a",), "t", on_delete="SET NULL"),),
    ),
    TableDefinition("t", (ID, A, OF_A), ("id",), uniques=(UniqueDefinition(("g",)),)),
    TableDefinition("t", (TEXT_A, ID), ("a",)),
]

TEXTS = ["a", "abcd", "c", "xabc", "e", "ABCd", "g", "ab"]  # some have trigrams, some share them

Step = Callable[[Transaction], Any]


def fitting(table: Table, key: int, seeds: list[int]) -> dict[str, Any]:
    """A row of the table, whatever its columns are by now."""
    found: dict[str, Any] = {}
    stored = [column for column in table.columns if column.generated is None]
    for column, seed in zip(stored, cycle(seeds), strict=False):
        number = key if column.id in table.primary_key else seed
        if column.type.name == "COUNTER":
            continue
        if number == 3 and column.nullable:
            found[column.name] = None
        else:
            found[column.name] = number if column.type.is_integer else TEXTS[number]
    return found


def some_table(tx: Transaction, at: int) -> str:
    """One of the tables that are there."""
    tables = catalog_of(tx).tables
    assert tables, "no tables"
    return tables[at % len(tables)].name


def some_key(tx: Transaction, name: str, key: int) -> bytes:
    """One of the rows that are there."""
    keys = [found for found, _ in scan_rows(tx, table_of(tx, name), columns=[])]
    assert keys, "no rows"
    return keys[key % len(keys)]


def insert_some(tx: Transaction, name: str, key: int, seeds: list[int]) -> None:
    insert(tx, name, **fitting(table_of(tx, name), key, seeds))


def update_some(tx: Transaction, name: str, key: int, column: int, seeds: list[int]) -> None:
    table = table_of(tx, name)
    chosen = list(fitting(table, key, seeds).items())
    changed = dict([chosen[column % len(chosen)]])
    update(tx, name, some_key(tx, name, key), **changed)


def delete_some(tx: Transaction, name: str, key: int) -> None:
    delete(tx, name, some_key(tx, name, key))


def count_some(tx: Transaction, name: str, key: int) -> None:
    update(tx, name, some_key(tx, name, key), n=Increment(1))


def spoil_some(tx: Transaction, name: str, key: int, column: int) -> None:
    """What a peer of another release might write: an atom that is not of the column's type."""
    columns = table_of(tx, name).columns
    atom = [b"?", 1.5, True, "text", 1 << 40][key]
    tx.edit(some_key(tx, name, key), {columns[column % len(columns)].id: atom})


def index_some(tx: Transaction, name: str, unique: bool, first: int, *descending: bool) -> None:
    columns = [column for column in table_of(tx, name).columns if column.type.can_be_key]
    rotated = [columns[(first + at) % len(columns)] for at in range(len(columns))]
    chosen = zip((column.name for column in rotated), descending, strict=False)
    create_index(tx, name, list(chosen), unique=unique)


def index_computed(
    tx: Transaction, name: str, unique: bool, at: int, kind: int, partial: bool
) -> None:
    """An index of an expression, or of a column where another has some value, or of both."""
    columns = [column for column in table_of(tx, name).columns if column.type.can_be_key]
    column, other = columns[at % len(columns)], columns[-1 - at % len(columns)]
    text = column.type.name == "TEXT"
    of_text = [("upper({})", TEXT), ("12 / (length({}) - 1)", INTEGER)]
    of_number = [("{} % 3", INTEGER), ("12 / {}", INTEGER)]
    sql, sql_type = (of_text if text else of_number)[kind % 2]
    expression = ExpressionDefinition(sql.format(column.name), sql_type, (column.name,))
    where = f"{other.name} < 'd'" if other.type.name == "TEXT" else f"12 / {other.name} <> 6"
    predicate = ExpressionDefinition(where, BOOLEAN, (other.name,))
    create_index(
        tx,
        name,
        [(expression, partial)] if kind < 2 else [(column.name, partial), (expression, False)],
        unique=unique,
        predicate=predicate if partial else None,
    )


def index_trigrams(tx: Transaction, name: str, at: int) -> None:
    texts = [column.name for column in table_of(tx, name).columns if column.type.is_text]
    assert texts, "no text"
    create_trigram_index(tx, name, texts[at % len(texts)])


def drop_some_trigrams(tx: Transaction, name: str, at: int) -> None:
    indexes = table_of(tx, name).trigrams
    assert indexes, "no trigrams"
    drop_index(tx, indexes[at % len(indexes)].name)


def alter_some(tx: Transaction, name: str, at: int, kind: int) -> None:
    """What changes a column in place: its default, NULLs, type, or the name of an index."""
    table = table_of(tx, name)
    column = table.columns[at % len(table.columns)]
    match kind:
        case 0:
            value = "q" if column.type.name == "TEXT" else 5
            default = Default("constant", value, repr(value)) if at < 3 else None
            set_default(tx, name, column.name, default)
        case 1:
            (set_not_null if at % 2 else drop_not_null)(tx, name, column.name)
        case 2:
            set_type(tx, name, column.name, TEXT if column.type.name == "TEXT" else BIGINT)
        case _:
            assert table.indexes, "no indexes"
            index = table.indexes[at % len(table.indexes)]
            comment_on_index(tx, index.name, "an index")
            rename_index(tx, index.name, f"{index.name[:8]}{at}")


def drop_some_index(tx: Transaction, name: str, at: int) -> None:
    indexes = table_of(tx, name).indexes
    assert indexes, "no indexes"
    chosen = indexes[at % len(indexes)]
    if chosen.constraint:
        drop_constraint(tx, name, chosen.name)
    else:
        drop_index(tx, chosen.name)


def make(step: Callable[..., Any], *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    """A step that picks one of the tables there are, and gets the rest as it was drawn."""

    def drawn(values: tuple[Any, ...]) -> Step:
        at, *rest = values
        return lambda tx: step(tx, some_table(tx, at) if type(at) is int else at, *rest)

    return st.tuples(*arguments).map(drawn)


tables = st.integers(0, 5)
names = st.sampled_from(["t", "u", "v"])
columns = st.sampled_from(["a", "b", "c", "n"])
numbers = st.integers(0, 3)
keys = st.integers(0, 7)
seeds = st.lists(numbers, min_size=3, max_size=3)
added = st.sampled_from(
    [A, TEXT_A, OF_A, ColumnDefinition("c", INTEGER, default=SEVEN), ColumnDefinition("c", TEXT)]
)

row_steps = st.one_of(
    make(insert_some, tables, keys, seeds),
    make(insert_some, tables, keys, seeds),
    make(update_some, tables, keys, numbers, seeds),
    make(update_some, tables, keys, numbers, seeds),
    make(delete_some, tables, keys),
    make(count_some, tables, numbers),
    make(spoil_some, tables, st.integers(0, 4), numbers),
)
schema_steps = st.one_of(
    make(create_table, st.sampled_from(DEFINITIONS)),
    make(drop_table, tables),
    make(rename_table, tables, names),
    make(add_column, tables, added),
    make(rename_column, tables, columns, columns),
    make(drop_column, tables, columns),
    make(index_some, tables, st.booleans(), numbers, st.booleans()),
    make(index_some, tables, st.booleans(), numbers, st.booleans(), st.booleans()),
    make(index_computed, tables, st.just(value=False), numbers, numbers, st.booleans()),
    make(index_computed, tables, st.just(value=False), numbers, numbers, st.just(value=True)),
    make(index_computed, tables, st.just(value=True), numbers, numbers, st.booleans()),
    make(alter_some, tables, numbers, numbers),
    make(alter_some, tables, numbers, numbers),
    make(drop_some_index, tables, numbers),
    make(index_trigrams, tables, numbers),
    make(drop_some_trigrams, tables, numbers),
)
transactions = st.tuples(
    st.integers(0, 2),
    st.lists(st.one_of(row_steps, row_steps, row_steps, schema_steps), min_size=1, max_size=4),
)
meetings = st.tuples(st.integers(0, 2), st.none())
fillings = st.lists(make(insert_some, tables, keys, seeds), min_size=3, max_size=5)
first_tables = st.lists(
    st.tuples(st.sampled_from(DEFINITIONS[:3]), fillings), min_size=3, max_size=3
)
histories = st.tuples(
    first_tables,
    st.lists(st.one_of(transactions, transactions, meetings), min_size=6, max_size=16),
)
History = tuple[list[tuple[TableDefinition, list[Step]]], list[tuple[int, list[Step] | None]]]

derivation = CatalogDerivation(compile_row_expression)


def assert_derived(view: Any) -> None:
    assert derived(view) == dict(derivation.rebuild(view))


def run(replica: Replica, steps: list[Step]) -> None:
    with replica.begin() as tx:
        for step in steps:
            savepoint = tx.savepoint()
            try:
                step(tx)
            except (DatabaseError, AssertionError):  # a wrong statement: it changes nothing
                tx.rollback_to(savepoint)
            assert_derived(tx)
        assert_readable(tx)
    with replica.snapshot() as snapshot:
        assert_derived(snapshot)


def assert_readable(view: Any) -> None:
    """Every index names every row once, and conflicts can be listed."""
    for table in catalog_of(view).tables:
        keys = sorted(key for key, _ in scan_rows(view, table, columns=[]))
        for index in table.indexes:
            found = sorted(scan_index(view, table, index))
            assert len(found) == len(set(found))
            assert set(found) <= set(keys)
        for trigrams in table.trigrams:
            column = table.column_by_id(trigrams.column_id).position
            found = candidates(view, table, trigrams, trigrams_of("aBc")) or []
            having = [
                key for key, row in scan_rows(view, table) if "abc" in str(row[column]).lower()
            ]
            assert found == having
    list(conflicts(view, catalog_of(view)))


def play(history: History, seed: int) -> None:
    replicas = apart(3)
    first, rest = history
    for replica, (definition, filling) in zip(replicas, first, strict=True):
        define(replica, definition)
        run(replica, filling)
    for at, steps in rest:
        if steps is None:
            exchange(replicas[at], replicas[(at + 1) % 3])
        else:
            run(replicas[at], steps)
    exchange(*replicas)
    exchange(*replicas)
    with replicas[0].snapshot() as snapshot:
        expected, tables = derived(snapshot), catalog_of(snapshot).tables
        disputes = catalog_of(snapshot).disputes
        assert_derived(snapshot)
    everything = records(replicas[0], {})
    rng = Random(seed)
    for reader in (*replicas[1:], open_replica(8), open_replica(9)):
        rng.shuffle(everything)
        left = list(everything)
        while left:
            size = rng.randint(1, 5)
            reader.apply(left[:size])
            del left[:size]
        with reader.snapshot() as snapshot:
            assert derived(snapshot) == expected
            assert catalog_of(snapshot).tables == tables
            assert catalog_of(snapshot).disputes == disputes
        assert list(reader.check()) == []


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.integers(0, 1 << 30))
def test_derived_entries_are_a_function_of_the_cells(history: History, seed: int) -> None:
    play(history, seed)


@pytest.mark.soak
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, st.integers(0, 1 << 30))
def test_derived_entries_are_a_function_of_the_cells_at_length(history: History, seed: int) -> None:
    play(history, seed)
