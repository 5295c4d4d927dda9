"""The keyspace: every prefix that exists, and the ids that stand in the keys.

    key                                                       what
    01 | 01 or 02 | user key                                  register: KV, str and bytes keys, and
                                                              rows of tables over them
    01 03 | node id                                           register: what a member says of
                                                              itself, signed
    02 01 | table id | 00                                     record: a table
    02 01 | table id | 01 | column id                         record: a column
    02 01 | table id | 02 | index id                          record: an index
    02 01 | table id | 03 | foreign key id                    record: a foreign key
    02 01 | table id | 04 | check id                          record: a CHECK
    02 01 | view id | 05                                      record: a view
    02 01 | table id | 06 | trigram index id                  record: a trigram index
    02 02 | table id | primary key                            record: a row
    40 01 | index id | index columns | primary key            derived: an index entry
    40 02 | index id | index columns | primary key            derived: a claim of a unique index
    40 03 | foreign key id | child's columns | primary key    derived: a child of a parent row
    40 04 | table id                                          derived: digest of the definition
    40 05 | trigram index id | trigram | primary key          derived: a posting (trigrams.py)

Ids are BLAKE2b hashes, 8 bytes each, column ids 4 (they are field numbers of the row's record):

    table        name, generation, primary key (names and types); over KV keys also ("kv" and the
                 form of values, prefix in hexadecimal)
    column       table id, name, type, generation
    index        table id, name, unique, columns with direction; of a partial one the predicate too
    expression   table id, text, type, columns; 4 bytes, it stands for a column in an index
    foreign key  table id, columns, parent table id, parent columns
    check        table id, name, text
    view         name
    trigram      table id, name, column id

so replicas that run the same CREATE TABLE apart make the same table, column by column. The primary
key is part of a table's id because it is the identity of rows: two tables of one name whose keys
differ cannot share rows, and stay two tables.

Primary key and index columns are in the order-preserving encoding of keycode.py; a table without a
primary key has 16 bytes of row id in its place. A row with a NULL among the columns of a foreign
key is nobody's child; among those of a unique index, its entry claims nothing (NULLs are distinct).
The value of an entry, claim or child is the length of its primary key, u16, so that the row's key
can be cut out. The digest changes with any record that defines the table: a transaction guards it
for each table whose rows it writes, so it retries when the definition that it went by has changed.

    02 02 9c..|01 80 00 00 2a    the row 42 of table 9c..
    40 01 77..|"ewr" encoded|01 80 00 00 2a -> 00 05      its entry in index 77..

Invariant: derived entries are a pure function of the records (derivation.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import blake2b

from murmur.kvcore import DERIVED, RECORD, REGISTER

MEMBERS = REGISTER + b"\x03"
CATALOG = RECORD + b"\x01"
ROWS = RECORD + b"\x02"
ENTRIES = DERIVED + b"\x01"
CLAIMS = DERIVED + b"\x02"
CHILDREN = DERIVED + b"\x03"
DIGESTS = DERIVED + b"\x04"
POSTINGS = DERIVED + b"\x05"

# In keys: never renumber, never reuse.
TABLE, COLUMN, INDEX, FOREIGN_KEY, CHECK, VIEW, TRIGRAM = range(7)

ROW_ID_BYTES = 16

_KIND_AT = len(CATALOG) + 8
ROW_PREFIX_BYTES = len(ROWS) + 8

_Part = str | int | bytes | bool


def table_id(name: str, generation: int, primary_key: Iterable[tuple[str, str]]) -> int:
    """`primary_key` is (column name, type as text) in key order."""
    return _hash(8, "table", name, generation, *(part for pair in primary_key for part in pair))


def column_id(table: int, name: str, type_text: str, generation: int) -> int:
    """Two columns of one name and different types are two columns."""
    return _hash(4, "column", table, name, type_text, generation)


def index_id(
    table: int,
    name: str,
    columns: Iterable[tuple[int, bool]],
    *,
    unique: bool,
    predicate: int | None = None,
) -> int:
    """`columns` is (column id, descending) in index order; `predicate` an expression's id."""
    where = () if predicate is None else ("where", predicate)
    pairs = (part for pair in columns for part in pair)
    return _hash(8, "index", table, name, unique, *pairs, *where)


def expression_id(table: int, text: str, type_text: str, columns: Iterable[int]) -> int:
    """Expressions of one table that say the same are one; in an index it is a column's id."""
    return _hash(4, "expression", table, text, type_text, *columns)


def foreign_key_id(
    table: int, columns: Iterable[int], parent: int, parent_columns: Iterable[int]
) -> int:
    """The same reference under two names is one foreign key."""
    return _hash(8, "foreign key", table, *columns, "->", parent, *parent_columns)


def check_id(table: int, name: str, text: str) -> int:
    """The same text under one name is one CHECK."""
    return _hash(8, "check", table, name, text)


def trigram_id(table: int, name: str, column: int) -> int:
    """The same column under one name is one trigram index."""
    return _hash(8, "trigram", table, name, column)


def view_id(name: str) -> int:
    """Views of one name are one view."""
    return _hash(8, "view", name)


def view_key(view: int) -> bytes:
    """The record of a view."""
    return CATALOG + view.to_bytes(8) + bytes([VIEW])


def table_key(table: int) -> bytes:
    """The record of a table."""
    return CATALOG + table.to_bytes(8) + b"\x00"


def item_key(table: int, kind: int, item: int) -> bytes:
    """The record of a column, index, foreign key, CHECK or trigram index."""
    return CATALOG + table.to_bytes(8) + bytes([kind]) + item.to_bytes(4 if kind == COLUMN else 8)


def parse_catalog_key(key: bytes) -> tuple[int, int, int] | None:
    """(table id, kind, item id) of a catalog record; None for what this release does not know."""
    if len(key) <= _KIND_AT:
        return None
    table, kind = int.from_bytes(key[len(CATALOG) : _KIND_AT]), key[_KIND_AT]
    item = key[_KIND_AT + 1 :]
    if kind > TRIGRAM or len(item) != (0, 4, 8, 8, 8, 0, 8)[kind]:
        return None
    return table, kind, int.from_bytes(item)


def definition_range(table: int) -> tuple[bytes, bytes]:
    """All records that define one table."""
    return prefix_range(CATALOG + table.to_bytes(8))


def row_prefix(table: int) -> bytes:
    """What the keys of a table's rows begin with."""
    return ROWS + table.to_bytes(8)


def entry_prefix(index: int, *, unique: bool) -> bytes:
    """What the entries, or claims, of an index begin with."""
    return (CLAIMS if unique else ENTRIES) + index.to_bytes(8)


def posting_prefix(trigram_index: int) -> bytes:
    """What the postings of a trigram index begin with."""
    return POSTINGS + trigram_index.to_bytes(8)


def child_prefix(foreign_key: int) -> bytes:
    """What the children of a foreign key begin with."""
    return CHILDREN + foreign_key.to_bytes(8)


def digest_key(table: int) -> bytes:
    """Where the digest of a table's definition is."""
    return DIGESTS + table.to_bytes(8)


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """start and stop of all keys with this prefix."""
    return prefix, after_prefix(prefix)


def after_prefix(prefix: bytes) -> bytes:
    """The least key above all keys with this prefix. No prefix here consists of ff only."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


def _hash(size: int, *parts: _Part) -> int:
    digest = blake2b(digest_size=size)
    for part in parts:
        match part:
            case bool():
                data = b"b" + bytes([part])
            case int():
                data = b"i" + part.to_bytes(9, signed=True)
            case str():
                data = b"s" + part.encode()
            case _:
                data = b"y" + part
        digest.update(struct.pack(">I", len(data)) + data)
    return int.from_bytes(digest.digest())
