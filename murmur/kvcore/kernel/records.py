"""Records in bulk: as Arrow columns and as tuples, natively where the kernel was compiled.

reader = ColumnReader(fields)       pure/rows.py tells what is read, and what reads NULL
RowReader(fields)(cell)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from murmur.kvcore.kernel import NATIVE

if TYPE_CHECKING or not NATIVE:
    from murmur.kvcore.kernel.pure.keycode import KeyCodec
    from murmur.kvcore.kernel.pure.rows import ColumnReader, RowReader
else:
    from murmur.kvcore.kernel import _native

    ColumnReader = _native.ColumnReader
    KeyCodec = _native.KeyCodec
    RowReader = _native.RowReader

__all__ = ["ColumnReader", "KeyCodec", "RowReader"]
