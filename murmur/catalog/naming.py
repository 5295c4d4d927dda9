"""Keys in words: what a key of the keyspace is the key of, for people.

01 01 | "db:host"                 key db:host
02 02 | table id | 5 encoded      row (id)=(5) of table note
02 01 | table id | ...            definition of table note
"""

from __future__ import annotations

from murmur.catalog import keyspace
from murmur.catalog.catalog import Catalog
from murmur.catalog.keycode import key_decoder
from murmur.catalog.kv_keys import show_key
from murmur.catalog.layout import value_text
from murmur.catalog.schema import Table
from murmur.catalog.settling import table_of
from murmur.errors import Corruption
from murmur.kvcore import REGISTER


def describe_key(catalog: Catalog, key: bytes) -> str:
    """What the key names in this catalog; in hexadecimal what the catalog does not know."""
    if key.startswith(keyspace.MEMBERS):
        return f"record of member {key[len(keyspace.MEMBERS) :].hex()}"
    if key.startswith(REGISTER) and len(key) > len(REGISTER):
        return f"key {show_key(key)}"
    if key.startswith(keyspace.CATALOG):
        parsed = keyspace.parse_catalog_key(key)
        if parsed is not None:
            table, kind, _ = parsed
            if kind == keyspace.VIEW:
                return "definition of a view"
            return f"definition of {_table_name(catalog, table)}"
    if key.startswith(keyspace.ROWS) and len(key) >= keyspace.ROW_PREFIX_BYTES:
        table = int.from_bytes(key[len(keyspace.ROWS) : keyspace.ROW_PREFIX_BYTES])
        return f"row {_row_name(catalog, table, key)} of {_table_name(catalog, table)}"
    return f"key {key.hex()} of the keyspace"


def _table_name(catalog: Catalog, table_id: int) -> str:
    table = catalog.table_by_id(table_id)
    if table is not None:
        return f"table {table.name}"
    record = catalog.records.get(table_id)
    if record is not None:
        return f"dropped table {table_of(record).name}"
    return f"unknown table {table_id:016x}"


def _row_name(catalog: Catalog, table_id: int, key: bytes) -> str:
    record = catalog.records.get(table_id)
    table = catalog.table_by_id(table_id) or (table_of(record) if record is not None else None)
    if table is not None and table.primary_key:
        try:
            return _key_values(table, key)
        except (Corruption, KeyError):
            pass  # nobody's row, or of columns that this catalog does not know
    return key[keyspace.ROW_PREFIX_BYTES :].hex()


def _key_values(table: Table, key: bytes) -> str:
    columns = [table.column_by_id(column_id) for column_id in table.primary_key]
    values = key_decoder([column.type for column in columns])(key, keyspace.ROW_PREFIX_BYTES)
    names = ", ".join(column.name for column in columns)
    return f"({names})=({', '.join(map(value_text, values))})"
