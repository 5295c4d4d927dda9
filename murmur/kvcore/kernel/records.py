"""Records in bulk: as Arrow columns and as tuples, natively where the kernel was compiled.

reader = ColumnReader(fields)       pure/rows.py tells what is read, and what reads NULL
RowReader(fields)(cell)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from murmur.kvcore.kernel import NATIVE
from murmur.kvcore.kernel.pure import rows as pure

if TYPE_CHECKING or not NATIVE:
    ColumnReader = pure.ColumnReader
    RowReader = pure.RowReader
else:
    from murmur.kvcore.kernel import _native

    ColumnReader, RowReader = _native.ColumnReader, _native.RowReader

__all__ = ["ColumnReader", "RowReader"]
