"""Derived entries: what a change of cells does to indexes, claims, children and digests.

    derive(catalog, changes, before)  ->  entries to write, next catalog

kvcore calls it for every transaction, local or remote, and writes the entries in the same batch. A
*source* is one index or foreign key of one visible table: it makes at most one entry of a row, but
for a trigram index, which makes many (trigrams.py).

    a row changed            for each source: the entry of the row before goes, the one after comes
    a definition changed     the catalog is settled again; sources that are new are filled from the
                             rows that are there, sources that are gone or changed are emptied

Invariant: the derived keyspace is a pure function of the cells. Entries speak of the winning life
of each row; whichever way rows and definitions arrived, the result is what `rebuild` gives. So a
source is compared by all that its entries depend on (`Source.spec`). What cannot be encoded,
because a peer wrote something else than the column's type there, counts as NULL, as it reads.

The loop over changed rows is the hot path of every write: one dictionary for the row before, one
for the row after, and one call for each source and side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from heapq import merge
from itertools import count
from typing import TypeAlias, cast

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog, empty_catalog, read_definitions
from murmur.catalog.expressions import Compile, no_compiler
from murmur.catalog.keycode import NOT_OF_TYPE, ColumnEncoder, atom_encoder
from murmur.catalog.keyspace import CATALOG, ROW_PREFIX_BYTES, ROWS
from murmur.catalog.schema import IndexColumn, RowExpression, Table
from murmur.catalog.table_records import read_table
from murmur.catalog.trigrams import TrigramSource
from murmur.catalog.views import read_view
from murmur.kvcore import Atom, CellChange, View, visible_fields

Pair: TypeAlias = tuple[bytes, bytes]
Write: TypeAlias = tuple[bytes, bytes | None]
Part: TypeAlias = tuple[int, Atom, ColumnEncoder]  # column id, what a missing field reads
Fields: TypeAlias = Mapping[int, Atom]

# One sequence for the whole process: see Catalog on what its cache keys promise.
_tick = count(1).__next__


class Source:
    """One index or foreign key of a table.

    entry(fields, primary_key)   the entry of a row, None when it has none
    values(fields)               what the entries of all rows with the same values begin with; None
                                 when a value is NULL: such rows claim and reference nothing
    """

    __slots__ = ("column_ids", "entry", "prefix", "spec", "values")

    def __init__(
        self,
        table: Table,
        prefix: bytes,
        columns: Sequence[IndexColumn],
        *,
        nulls: bool,
        predicate: RowExpression | None = None,
    ) -> None:
        parts: list[Part] = []
        computed: list[tuple[int, RowExpression]] = []
        described = []
        for part in columns:
            sql_type, missing, expression = table.type_of(part), None, part.expression
            if expression is None:
                column = table.column_by_id(part.column_id)
                missing, expression = column.missing, column.generated
            if expression is not None:
                computed.append((part.column_id, expression))
            encode = atom_encoder(sql_type, descending=part.descending)
            parts.append((part.column_id, missing, encode))
            described.append((part.column_id, missing, sql_type, part.descending, expression))
        plain = [part.column_id for part in columns if part.expression is None]
        inputs = [part.expression for part in columns if part.expression is not None]
        inputs += [predicate] if predicate is not None else []
        plain += [column_id for expression in inputs for column_id in expression.column_ids]
        self.prefix = prefix
        # On which fields of a record the entry depends.
        self.column_ids = frozenset(table.stored_ids(plain))
        of_inputs = tuple(
            (each.id, each.missing, each.type, each.generated)
            for each in map(table.column_by_id, sorted({*plain, *self.column_ids}))
        )
        self.spec = (prefix, nulls, tuple(described), predicate, of_inputs if inputs else ())
        self.values = values_encoder(prefix, parts)
        self.entry = _entry(prefix, parts) if nulls else _entry_without_nulls(self.values)
        if computed or predicate is not None:
            prepare = _preparing(computed, predicate)
            self.values = _values_of_prepared(self.values, prepare)
            self.entry = _entry_of_prepared(self.entry, prepare)


AnySource: TypeAlias = Source | TrigramSource


def sources_of(table: Table) -> tuple[AnySource, ...]:
    """The sources of a table, compiled once."""
    sources: tuple[AnySource, ...] | None = table.compiled.get(Source)
    if sources is None:
        sources = table.compiled[Source] = tuple(_compile(table))
    return sources


def source_of(table: Table, prefix: bytes) -> Source:
    """The source whose entries begin with this prefix."""
    return next(
        source
        for source in sources_of(table)
        if isinstance(source, Source) and source.prefix == prefix
    )


def values_encoder(prefix: bytes, parts: Sequence[Part]) -> Callable[[Fields], bytes | None]:
    """A prefix and the encoded columns; None if one is NULL, or not of its type."""

    def values(fields: Fields) -> bytes | None:
        encoded = [prefix]
        try:
            for column_id, missing, encode in parts:
                atom = fields.get(column_id, missing)
                if atom is None:
                    return None
                encoded.append(encode(atom))
        except NOT_OF_TYPE:
            return None
        return b"".join(encoded)

    return values


class CatalogDerivation:
    """The catalog's side of kvcore's Derivation; its state is the Catalog.

    `compile_text` reads the expressions of indexes and generated columns (expressions.py).
    """

    definitions = CATALOG

    def __init__(self, compile_text: Compile = no_compiler) -> None:
        self._compile = compile_text

    def load(self, view: View) -> Catalog:
        """The catalog of this keyspace."""
        tables, views = read_definitions(view.scan(*keyspace.prefix_range(CATALOG)))
        empty = empty_catalog(compile_text=self._compile)
        return empty.redefined(tables, views, _tick())

    def derive(
        self, state: object, changes: Sequence[CellChange], before: View
    ) -> tuple[Sequence[Write], Catalog]:
        """Entries to write and the next catalog; changes are in key order."""
        assert isinstance(state, Catalog)
        first = bisect_left(changes, ROWS, key=_key_of)
        if first and changes[first - 1].key.startswith(CATALOG):
            return _redefine(state, changes, first, before)
        return _follow(state, changes, first)

    def follow(self, state: object, under: Collection[object]) -> Catalog:
        """The catalog after rows of these tables, by id, came with their entries."""
        assert isinstance(state, Catalog)
        return state.touching(cast("Collection[int]", under), _tick())

    def rebuild(self, view: View) -> Iterator[Pair]:
        """Every derived entry that the cells of this view give, in no order."""
        catalog = self.load(view)
        pairs = view.scan(*keyspace.prefix_range(CATALOG))
        for table_id, digest in _digests(pairs).items():
            yield keyspace.digest_key(table_id), digest
        for table in catalog.tables:
            sources = sources_of(table)
            if sources:
                rows = view.scan(*keyspace.prefix_range(keyspace.row_prefix(table.id)))
                yield from _fill(sources, rows)


def _follow(
    catalog: Catalog, changes: Sequence[CellChange], first: int
) -> tuple[Sequence[Write], Catalog]:
    """Rows changed, definitions did not."""
    writes: list[Write] = []
    touched: list[int] = []
    prefix = b""
    sources: tuple[AnySource, ...] = ()
    for change in changes[first:] if first else changes:
        key = change[0]
        if key[:ROW_PREFIX_BYTES] != prefix:
            prefix = key[:ROW_PREFIX_BYTES]
            if not prefix.startswith(ROWS):
                break
            table_id = int.from_bytes(prefix[len(ROWS) :])
            touched.append(table_id)
            table = catalog.table_by_id(table_id)
            sources = sources_of(table) if table is not None else ()
        if sources:
            _turn(sources, change, writes)
    return writes, catalog.touching(touched, _tick()) if touched else catalog


def _turn(sources: tuple[AnySource, ...], change: CellChange, writes: list[Write]) -> None:
    """Replace the entries of one row."""
    key, old, new = change
    primary_key = key[ROW_PREFIX_BYTES:]
    old_fields = visible_fields(old) if old is not None else None
    new_fields = visible_fields(new) if new is not None else None
    for source in sources:
        if isinstance(source, TrigramSource):
            writes.extend(source.changes(old_fields, new_fields, primary_key))
            continue
        stale = source.entry(old_fields, primary_key) if old_fields is not None else None
        fresh = source.entry(new_fields, primary_key) if new_fields is not None else None
        if stale != fresh:
            if stale is not None:
                writes.append((stale, None))
            if fresh is not None:
                writes.append((fresh, len(primary_key).to_bytes(2)))


def _redefine(
    catalog: Catalog, changes: Sequence[CellChange], first: int, before: View
) -> tuple[Sequence[Write], Catalog]:
    """Definitions changed, and perhaps rows with them."""
    writes: dict[bytes, bytes | None] = {}
    records, views = dict(catalog.records), dict(catalog.view_records)
    start = bisect_left(changes, CATALOG, key=_key_of)
    at = len(CATALOG)
    for table_id in sorted({change.key[at : at + 8] for change in changes[start:first]}):
        identity = int.from_bytes(table_id)
        pairs = list(_overlaid(before, changes, keyspace.definition_range(identity)))
        records.pop(identity, None)
        views.pop(identity, None)
        record = read_table(identity, pairs)
        if record is not None:
            records[identity] = record
        elif (view := read_view(identity, pairs)) is not None:
            views[identity] = view
        digest = _digests(pairs).get(identity)
        if digest != before.get(keyspace.digest_key(identity)):
            writes[keyspace.digest_key(identity)] = digest
    redefined = catalog.redefined(records, views, _tick())

    kept = {source.spec for table in redefined.tables for source in sources_of(table)}
    known = {source.spec for table in catalog.tables for source in sources_of(table)}
    for table in catalog.tables:
        for source in sources_of(table):
            if source.spec not in kept:
                for key, _ in before.scan(*keyspace.prefix_range(source.prefix)):
                    writes[key] = None
    for table in redefined.tables:
        rows = keyspace.prefix_range(keyspace.row_prefix(table.id))
        fresh = tuple(source for source in sources_of(table) if source.spec not in known)
        if fresh:
            writes.update(_fill(fresh, _overlaid(before, changes, rows)))
        old = tuple(source for source in sources_of(table) if source.spec in known)
        if old:
            turned: list[Write] = []
            for change in _between(changes, rows):
                _turn(old, change, turned)
            writes.update(turned)

    touched = {int.from_bytes(change.key[2:10]) for change in changes[first:]}
    touched |= {
        table.id for table in redefined.tables if table is not catalog.table_by_id(table.id)
    }
    return list(writes.items()), redefined.touching(touched, _tick())


def _fill(sources: tuple[AnySource, ...], rows: Iterable[Pair]) -> Iterator[Pair]:
    """The entries of all these rows."""
    for key, cell in rows:
        fields = visible_fields(cell)
        primary_key = key[ROW_PREFIX_BYTES:]
        size = len(primary_key).to_bytes(2)
        for source in sources:
            if isinstance(source, TrigramSource):
                for posting in source.entries(fields, primary_key):
                    yield posting, size
                continue
            entry = source.entry(fields, primary_key)
            if entry is not None:
                yield entry, size


def _digests(pairs: Iterable[Pair]) -> dict[int, bytes]:
    """The digest of each table that these records of the catalog define."""
    hashers = {}
    at = len(CATALOG)
    for key, cell in pairs:
        table_id = int.from_bytes(key[at : at + 8])
        if table_id not in hashers:
            hashers[table_id] = blake2b(digest_size=16)
        for part in (key, cell):
            hashers[table_id].update(len(part).to_bytes(4) + part)
    return {table_id: hasher.digest() for table_id, hasher in hashers.items()}


def _overlaid(
    before: View, changes: Sequence[CellChange], bounds: tuple[bytes, bytes]
) -> Iterable[Pair]:
    """The pairs in these bounds once the changes are in, in key order."""
    own = _between(changes, bounds)
    below = before.scan(*bounds)
    if not own:
        return below
    changed = {change.key for change in own}
    kept = (pair for pair in below if pair[0] not in changed)
    return merge(kept, ((key, after) for key, _, after in own if after is not None))


def _between(changes: Sequence[CellChange], bounds: tuple[bytes, bytes]) -> Sequence[CellChange]:
    start, stop = (bisect_left(changes, bound, key=_key_of) for bound in bounds)
    return changes[start:stop]


def _compile(table: Table) -> Iterator[AnySource]:
    for index in table.indexes:
        prefix = keyspace.entry_prefix(index.id, unique=index.unique)
        yield Source(table, prefix, index.columns, nulls=True, predicate=index.predicate)
    for foreign_key in table.foreign_keys:
        prefix = keyspace.child_prefix(foreign_key.id)
        columns = [IndexColumn(column_id) for column_id in foreign_key.column_ids]
        yield Source(table, prefix, columns, nulls=False)

    for trigram_index in table.trigrams:
        yield TrigramSource(table, trigram_index)


def _key_of(change: CellChange) -> bytes:
    return change.key


def _entry(prefix: bytes, parts: Sequence[Part]) -> Callable[[Fields, bytes], bytes | None]:
    def entry(fields: Fields, primary_key: bytes) -> bytes:
        encoded = [prefix]
        try:
            for column_id, missing, encode in parts:
                encoded.append(encode(fields.get(column_id, missing)))
        except NOT_OF_TYPE:
            encoded = [prefix, *(encode_readable(fields, *part) for part in parts)]
        encoded.append(primary_key)
        return b"".join(encoded)

    def encode_readable(
        fields: Fields, column_id: int, missing: Atom, encode: ColumnEncoder
    ) -> bytes:
        try:
            return encode(fields.get(column_id, missing))
        except NOT_OF_TYPE:
            return encode(None)

    if len(parts) > 1:
        return entry
    ((column_id, missing, encode),) = parts

    def entry_of_one(fields: Fields, primary_key: bytes) -> bytes:
        try:
            return prefix + encode(fields.get(column_id, missing)) + primary_key
        except NOT_OF_TYPE:
            return prefix + encode(None) + primary_key

    return entry_of_one


def _preparing(
    computed: Sequence[tuple[int, RowExpression]], predicate: RowExpression | None
) -> Callable[[Fields], Fields | None]:
    """Fields to those of an entry, the computed ones among them; None: the row has no entry."""

    def prepare(fields: Fields) -> Fields | None:
        if predicate is not None and predicate.atom(fields) is not True:
            return None
        if not computed:
            return fields
        return {**fields, **{field: expression.atom(fields) for field, expression in computed}}

    return prepare


def _values_of_prepared(
    values: Callable[[Fields], bytes | None], prepare: Callable[[Fields], Fields | None]
) -> Callable[[Fields], bytes | None]:
    def prepared_values(fields: Fields) -> bytes | None:
        prepared = prepare(fields)
        return None if prepared is None else values(prepared)

    return prepared_values


def _entry_of_prepared(
    entry: Callable[[Fields, bytes], bytes | None], prepare: Callable[[Fields], Fields | None]
) -> Callable[[Fields, bytes], bytes | None]:
    def prepared_entry(fields: Fields, primary_key: bytes) -> bytes | None:
        prepared = prepare(fields)
        return None if prepared is None else entry(prepared, primary_key)

    return prepared_entry


def _entry_without_nulls(
    values: Callable[[Fields], bytes | None],
) -> Callable[[Fields, bytes], bytes | None]:
    def entry(fields: Fields, primary_key: bytes) -> bytes | None:
        start = values(fields)
        return None if start is None else start + primary_key

    return entry
