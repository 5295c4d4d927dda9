"""The storage parameters of CREATE TABLE: a prefix of KV keys, of which the table is a view.

    CREATE TABLE cfg (...) WITH (kv_prefix = 'cfg:', kv_values = 'json')

That is what the parser makes of USING KV PREFIX 'cfg:' VALUES JSON (parser_kv.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog.kv_keys import BYTES_KEYS, MAX_KEY_BYTES, TEXT_KEYS
from murmur.catalog.schema import ColumnDefinition, KvPrefix
from murmur.sql.binder_names import unbound, unsupported
from murmur.sql.parser_kv import PREFIX, VALUES

Tree: TypeAlias = Any  # sqlglot's


def bind_kv_prefix(
    tree: Tree, columns: Sequence[ColumnDefinition], primary_key: Sequence[str], text: str
) -> KvPrefix | None:
    """The keys that a CREATE TABLE is about; None if it is about rows of its own."""
    properties = tree.args.get("properties")
    prefix: bytes | None = None
    values = "whole"
    for each in properties.expressions if properties else ():
        name = each.this.name.lower() if type(each) is exp.Property else ""
        value = each.args.get("value")
        if name == PREFIX and isinstance(value, exp.HexString):
            prefix = BYTES_KEYS + bytes.fromhex(value.this)
        elif name == PREFIX and isinstance(value, exp.Literal) and value.is_string:
            key_types = [column.type.name for column in columns if column.name in primary_key]
            kind = BYTES_KEYS if key_types == ["BLOB"] else TEXT_KEYS
            prefix = kind + value.this.encode()
        elif name == VALUES and isinstance(value, exp.Literal) and value.is_string:
            values = value.this.lower()
            if values not in ("whole", "json"):
                raise unbound(f"{VALUES} is 'whole' or 'json', not '{value.this}'", value, text)
        elif name in (PREFIX, VALUES):
            raise unbound(f"{name} takes a text", each, text)
        else:
            raise unsupported("table properties are not supported", each, text)
    if prefix is None:
        if properties:
            raise unbound(f"{VALUES} needs {PREFIX}", properties.expressions[0], text)
        return None
    if len(prefix) > MAX_KEY_BYTES:
        raise unbound(f"a prefix of {len(prefix) - 2} bytes is longer than a key", tree, text)
    return KvPrefix(prefix, "json" if values == "json" else "whole")
