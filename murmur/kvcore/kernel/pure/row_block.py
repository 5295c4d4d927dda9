"""Rows on their way into a table, many at a time: encoded once, as operations of a record.

    encoder = RowEncoder(plan)
    encoder.bind(sources)
    encoder.add_rows([(1, "a"), (2, "b")])
    block = encoder.finish()

    operation := 04 | length varint | key | length varint | body      INSERT (record.py)
    body      := msgpack [{field: atom}] or [{field: atom}, {field: counter}]
    cell      := msgpack [1, stamp, replica, seq, as in the body]     what the tree holds (cell.py)
    entry     := prefix | columns | primary key -> its length, u16    of an index or foreign key

Rows are numbered in key order; their *place* is that in which they came. Whether a key or a claim
stands in the block twice is told, not refused: the caller knows what to say of it.

Columns are read by row_columns.py. This is the specification of native/row_block.hpp.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgpack

from murmur.errors import InvalidInput
from murmur.kvcore.kernel.block_plan import (
    CHILD,
    CLAIM,
    PARENT,
    BadValue,
    BlockPlan,
    ColumnSource,
    RowSource,
)
from murmur.kvcore.kernel.fields import BINARY, BOOLEAN, FLOAT, INTEGER, TEXT
from murmur.kvcore.kernel.pure.keycode import KeyCodec
from murmur.kvcore.kernel.pure.memtable import Memtable
from murmur.kvcore.kernel.pure.reads import Reads
from murmur.kvcore.kernel.pure.row_columns import KINDS, Unfit, column_reader
from murmur.kvcore.record import MAX_KEY_BYTES, ROWS, Atom
from murmur.kvcore.varint import varint

Pair = tuple[bytes, bytes]

_pack = msgpack.Packer(autoreset=True).pack


class RowEncoder:
    """Encodes rows of one plan."""

    def __init__(self, plan: BlockPlan) -> None:
        self._plan = plan
        self._key = KeyCodec([part.field for part in plan.parts])
        self._codecs = [
            KeyCodec(
                [part.field for part in entry.parts], [part.descending for part in entry.parts]
            )
            for entry in plan.entries
        ]
        columns = len(plan.fields) + len(plan.counters)
        for parts in (plan.parts, *(entry.parts for entry in plan.entries)):
            if any(not 0 <= part.column < columns for part in parts):
                raise InvalidInput("the plan of a block speaks of columns that it does not have")
        self._columns = columns
        self._sources: Sequence[RowSource] = ()
        self._width = 0
        self._rows: list[Pair] = []  # key and atoms, as they came
        self._entries: list[list[tuple[bytes, int, int, bool]]] = [[] for _ in plan.entries]
        self._size = 0

    @property
    def count(self) -> int:
        """How many rows were added."""
        return len(self._rows)

    @property
    def size(self) -> int:
        """What they take in an operation."""
        return self._size

    def bind(self, sources: Sequence[RowSource], width: int) -> None:
        """Say what `add_rows` will be given: rows of so many values, and a source a column."""
        if len(sources) != self._columns:
            raise InvalidInput("a source for each column is needed")
        if any(source.position >= width for source in sources):
            raise InvalidInput("a source asks for a value that rows do not have")
        self._sources, self._width = tuple(sources), width

    def add_rows(
        self,
        rows: list[Any],
        arrange: Callable[[Any], Sequence[Any]] | None = None,
        make_id: Callable[[], bytes] | None = None,
    ) -> None:
        """Add rows. `arrange` makes a sequence of one that is no tuple or list of the right length.

        Without key columns, `make_id` gives the id of each row. What `convert` raises ends it, with
        the rows before in.
        """
        for row in tuple(rows):
            if type(row) not in (tuple, list) or len(row) != self._width:
                row = tuple(arrange(row)) if arrange is not None else row
                if type(row) is not tuple or len(row) != self._width:
                    raise InvalidInput(f"a row has {self._width} values")
            atoms = [self._atom(source, row) for source in self._sources]
            self._add(atoms, b"" if make_id is None else make_id())

    def add_columns(
        self, count: int, sources: Sequence[ColumnSource], row_ids: bytes = b"", first: int = 0
    ) -> None:
        """Add the rows from `first` on, of columns. Raises BadValue, with the rows before in."""
        if len(sources) != self._columns:
            raise BadValue(first, 0, "a source for each column is needed")
        if row_ids and len(row_ids) // 16 < count:
            raise BadValue(first, 0, "its id is missing")
        reads = []
        for column, source in enumerate(sources):
            reads.append(column_reader(column, source, first, first + count))
        for row in range(first, first + count):
            atoms: list[Atom] = []
            for column, read in enumerate(reads):
                try:
                    atoms.append(read(row))
                except Unfit as error:
                    raise BadValue(row, column, str(error)) from None
            at = 16 * (row - first)
            self._add(atoms, row_ids[at : at + 16])

    def last_body(self) -> bytes:
        """The body of the row that was added last."""
        return _body(self._plan, self._rows[-1][1])

    def finish(self) -> RowBlock:
        """The rows that were added; the encoder goes on with none."""
        block = RowBlock(self._plan, self._rows, self._entries)
        self._rows, self._entries = [], [[] for _ in self._plan.entries]
        self._size = 0
        return block

    def _atom(self, source: RowSource, row: Sequence[Any]) -> Atom:
        if source.position < 0:
            if source.constant is not None:
                return msgpack.unpackb(source.constant)  # type: ignore[no-any-return]
            value = None
        else:
            value = row[source.position]
            if value is None and source.nullable:
                return None
            if source.plain and _is_plain(value, source):
                return value  # type: ignore[no-any-return]
        atom = source.convert(value)
        if type(atom) not in KINDS:
            raise TypeError(f"a {type(atom).__name__} is no atom")
        return atom

    def _add(self, atoms: Sequence[Atom], row_id: bytes) -> None:
        plan = self._plan
        if bool(row_id) == bool(plan.parts):
            raise InvalidInput("a row has a key, or an id")
        key = self._key.encode([atoms[part.column] for part in plan.parts], plan.prefix) + row_id
        if len(key) > MAX_KEY_BYTES:
            raise InvalidInput(f"a key of {len(key)} bytes is longer than {MAX_KEY_BYTES:,}")
        packed = b"".join(map(_pack, atoms))
        made = []
        for entry, codec in zip(plan.entries, self._codecs, strict=True):
            given = [atoms[part.column] for part in entry.parts]
            values = codec.encode(given, entry.prefix)
            made.append((values, None not in given))
        place = len(self._rows)
        for at, (values, whole) in enumerate(made):
            kind = plan.entries[at].kind
            if whole or kind < CHILD:
                own = b"" if kind == PARENT else key[len(plan.prefix) :]
                self._entries[at].append((values + own, len(values), place, whole))
        self._rows.append((key, packed))
        self._size += len(_row(key[len(plan.prefix) :], packed))


class RowBlock:
    """Rows in the order of their keys; it never changes."""

    def __init__(
        self,
        plan: BlockPlan,
        rows: Sequence[Pair],
        entries: Sequence[list[tuple[bytes, int, int, bool]]],
    ) -> None:
        self._plan = plan
        order = sorted(range(len(rows)), key=lambda place: rows[place][0])
        self._places = order
        self._keys = [rows[place][0] for place in order]
        self._atoms = [rows[place][1] for place in order]
        self._kinds = [entry.kind for entry in plan.entries]
        self._prefixes = [entry.prefix for entry in plan.entries]
        self._entries = entries
        self._asked: list[list[bytes]] = []
        self._askers: list[list[int]] = []
        self._reclaimed: list[int | None] = []
        for kind, made in zip(self._kinds, entries, strict=True):
            asked = sorted(
                (entry[:size], place)
                for entry, size, place, whole in made
                if whole and kind in (CLAIM, PARENT)
            )
            if kind == PARENT:
                asked = [asked[at] for at in range(len(asked)) if not _same(asked, at)]
            again = [asked[at][1] for at in range(len(asked)) if _same(asked, at)]
            self._asked.append([values for values, _ in asked])
            self._askers.append([place for _, place in asked])
            self._reclaimed.append(min(again, default=None))
        keys = self._keys
        self.repeated: int | None = min(
            (order[at] for at in range(1, len(keys)) if keys[at] == keys[at - 1]), default=None
        )

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._keys)

    @property
    def size(self) -> int:
        """What they take in an operation."""
        cut = len(self._plan.prefix)
        return sum(
            len(_row(key[cut:], own)) for key, own in zip(self._keys, self._atoms, strict=True)
        )

    @property
    def prefix(self) -> bytes:
        """What all keys begin with."""
        return self._plan.prefix

    @property
    def entry_prefixes(self) -> list[bytes]:
        """What the entries of each plan begin with."""
        return self._prefixes

    def key(self, row: int) -> bytes:
        """The key of a row."""
        return self._keys[row]

    def body(self, row: int) -> bytes:
        """What the row's own INSERT would hold."""
        return _body(self._plan, self._atoms[row])

    def place(self, row: int) -> int:
        """Which row it was as they came."""
        return self._places[row]

    def row_at(self, place: int) -> int:
        """The row that came there."""
        return self._places.index(place)

    def find(self, key: bytes) -> int | None:
        """The row with this key."""
        row = bisect_left(self._keys, key)
        return row if row < len(self._keys) and self._keys[row] == key else None

    def touches(self, start: bytes, stop: bytes | None) -> bool:
        """Whether there may be a row or an entry with start <= key < stop."""
        row = bisect_left(self._keys, start)
        if row < len(self._keys) and (stop is None or self._keys[row] < stop):
            return True
        return any(
            (start < prefix or start.startswith(prefix)) and (stop is None or prefix < stop)
            for prefix, kind, made in zip(self._prefixes, self._kinds, self._entries, strict=True)
            if made and kind != PARENT
        )

    def operations(self) -> bytes:
        """The operation that inserts all rows; nothing if there is none."""
        return b"".join(self.pieces())

    def pieces(self) -> Sequence[bytes | memoryview]:
        """The operation, in pieces that are not copied."""
        plan, cut = self._plan, len(self._plan.prefix)
        if not self._keys:
            return ()
        head: bytes = _pack(plan.fields) + _pack(plan.counters) + _pack(len(self._keys))
        rows = b"".join(
            _row(key[cut:], atoms) for key, atoms in zip(self._keys, self._atoms, strict=True)
        )
        size = varint(len(head) + len(rows))
        return bytes([ROWS]) + varint(cut) + plan.prefix + size + head, memoryview(rows)

    def cell(self, row: int, stamp: int, replica: bytes, seq: int) -> bytes:
        """What the tree holds of a row once it is committed with this stamp and dot."""
        return _cell(self.body(row), stamp, replica, seq)

    def pairs(self, stamp: int, replica: bytes, seq: int) -> list[Pair]:
        """Cells in key order, and then the entries."""
        pairs = [
            (key, _cell(self.body(row), stamp, replica, seq)) for row, key in enumerate(self._keys)
        ]
        for kind, made in zip(self._kinds, self._entries, strict=True):
            if kind != PARENT:
                pairs += [(entry, (len(entry) - size).to_bytes(2)) for entry, size, *_ in made]
        return pairs

    # Claims and parents, by the number of their entry in the plan ------

    def asked(self, plan: int) -> list[bytes]:
        """Claims, ascending; parents likewise, each once."""
        return list(self._asked[plan])

    def asker(self, plan: int, at: int) -> int:
        """The place of the row that makes this claim."""
        return self._askers[plan][at]

    def reclaimed(self, plan: int) -> int | None:
        """The place of the first row whose claim one before it has."""
        return self._reclaimed[plan]

    def claim_of(self, plan: int, key: bytes) -> int | None:
        """Which claim begins this key."""
        at = bisect_right(self._asked[plan], key) - 1
        return at if at >= 0 and key.startswith(self._asked[plan][at]) else None

    def first_of(self, keys: Iterable[bytes]) -> bytes | None:
        """One of these keys that a row has, or that begins with a claim."""
        claims = [plan for plan, kind in enumerate(self._kinds) if kind == CLAIM]
        for key in keys:
            if self.find(key) is not None:
                return key
            if any(self.claim_of(plan, key) is not None for plan in claims):
                return key
        return None

    def present(self, plan: int | None, reads: Reads, sequence: int) -> int | None:
        """The first row, or claim of a plan, whose key or values the tree has already."""
        probes = self._keys if plan is None else self._asked[plan]
        return first_present(lambda start, stop: reads.scan(start, stop, sequence), probes)

    def shared(self, plan: int | None, other: RowBlock) -> int | None:
        """The first row, or claim of a plan, that another block of this plan has too."""
        if plan is None:
            return next(
                (at for at, key in enumerate(self._keys) if other.find(key) is not None), None
            )
        for at, values in enumerate(self._asked[plan]):
            if other.claim_of(plan, values) is not None:
                return at
        return None


def apply_blocks(
    memtable: Memtable,
    sequence: int,
    entries: Sequence[tuple[bytes, bytes | None]],
    blocks: Sequence[tuple[RowBlock, int, bytes, int]],
    pinned: Sequence[int] = (),
) -> None:
    """Write entries and blocks, each with its stamp, replica and seq, as one batch."""
    batch: list[tuple[bytes, bytes | None]] = list(entries)
    for block, stamp, replica, seq in blocks:
        batch += block.pairs(stamp, replica, seq)
    memtable.apply(sequence, batch, pinned)


def runs_of(loads: Sequence[tuple[RowBlock, int, bytes, int]]) -> list[Memtable]:
    """What loaded blocks, each with stamp, replica and seq, bring into the tree, as sources of
    tables: disjoint, and none of them empty."""
    runs: dict[bytes, list[tuple[bytes, bytes | None]]] = {}
    for block, stamp, replica, seq in loads:
        prefixes = [block.prefix, *block.entry_prefixes]
        for pair in block.pairs(stamp, replica, seq):
            prefix = next(each for each in prefixes if pair[0].startswith(each))
            runs.setdefault(prefix, []).append(pair)
    memtables = []
    for pairs in runs.values():
        memtable = Memtable(0)
        memtable.apply(1, pairs, ())
        memtable.freeze(1)
        memtables.append(memtable)
    return memtables


def first_present(
    scan: Callable[[bytes, bytes | None], Iterator[Pair]], probes: Sequence[bytes]
) -> int | None:
    """The first of ascending probes with which some key of a scan begins."""
    if not probes:
        return None
    shortened = probes[-1].rstrip(b"\xff")
    stop = shortened[:-1] + bytes([shortened[-1] + 1]) if shortened else None
    at = 0
    while at < len(probes):
        pair = next(iter(scan(probes[at], stop)), None)
        if pair is None:
            return None
        key = pair[0]
        at = bisect_right(probes, key, at) - 1
        if at >= 0 and key.startswith(probes[at]):
            return bisect_left(probes, probes[at])
        at += 1
    return None


# Values --------------------------------------------------------------------


def _is_plain(value: object, source: RowSource) -> bool:
    field = source.field
    kind = type(value)
    match field.kind:
        case 1:  # BOOLEAN
            return kind is bool
        case 2:  # INTEGER
            return kind is int and field.low <= value <= field.high  # type: ignore[operator]
        case 3:  # FLOAT
            return kind is float
        case 5:  # TEXT
            if kind is not str:
                return False
            assert isinstance(value, str)
            return (
                "\0" not in value
                and is_text(value)
                and len(value) <= (source.longest or len(value))
            )
        case 6:  # BINARY
            return kind is bytes
    return False


assert (BOOLEAN, INTEGER, FLOAT, TEXT, BINARY) == (1, 2, 3, 5, 6)


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Bytes ---------------------------------------------------------------------


def _row(rest: bytes, atoms: bytes) -> bytes:
    own: bytes = _pack(rest)
    return atoms + own


def _body(plan: BlockPlan, packed: bytes) -> bytes:
    """Of the atoms: [fields] or [fields, counters]."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(packed)
    atoms = list(unpacker)
    form: list[object] = [dict(zip(plan.fields, atoms, strict=False))]
    if plan.counters:
        form.append(dict(zip(plan.counters, atoms[len(plan.fields) :], strict=True)))
    body: bytes = _pack(form)
    return body


def _cell(body: bytes, stamp: int, replica: bytes, seq: int) -> bytes:
    head: bytes = b"\1" + _pack(stamp) + _pack(replica) + _pack(seq)
    return bytes([body[0] + 4]) + head + body[1:]


def _same(asked: Sequence[tuple[bytes, int]], at: int) -> bool:
    return at > 0 and asked[at][0] == asked[at - 1][0]
