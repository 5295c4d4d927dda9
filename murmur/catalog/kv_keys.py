"""User keys in the keyspace: text and bytes are two ordered kinds that never meet.

    str     01 | 01 | utf-8
    bytes   01 | 02 | the bytes

    "db:host"     ->  01 01 64 62 3a 68 6f 73 74
    b"\\x00\\x07"   ->  01 02 00 07

swarm/kv.py puts and gets them; a table with a key prefix (kv_tables.py) shows them as rows.

Invariant: within a kind the order of the bytes is that of the keys. (UTF-8 sorts by code point, and
so does str.)
"""

from __future__ import annotations

from murmur.kvcore import REGISTER

TEXT_KEYS = REGISTER + b"\x01"  # on disk: never renumber, never reuse
BYTES_KEYS = REGISTER + b"\x02"

MAX_KEY_BYTES = 64 << 10
MAX_VALUE_BYTES = 32 << 20  # half of the largest record: one value always fits into a transaction


def show_key(key: bytes) -> str:
    """A user key in a message: text, with backslashes where it is none; bytes as hexadecimal."""
    if key.startswith(TEXT_KEYS):
        return key[len(TEXT_KEYS) :].decode(errors="backslashreplace")
    return "\\x" + key.removeprefix(BYTES_KEYS).hex()
