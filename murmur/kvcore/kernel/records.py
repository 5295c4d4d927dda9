"""Records in bulk: as Arrow columns and as tuples, natively where the kernel was compiled.

reader = ColumnReader(fields)       pure/rows.py tells what is read, and what reads NULL
RowReader(fields)(cell)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from murmur.kvcore.kernel.pure import rows as pure

if TYPE_CHECKING:
    ColumnReader = pure.ColumnReader
    RowReader = pure.RowReader
else:
    try:
        if os.environ.get("MURMUR_PURE") == "1":
            raise ImportError
        from murmur.kvcore.kernel import _native

        ColumnReader, RowReader = _native.ColumnReader, _native.RowReader
    except (ImportError, AttributeError):
        ColumnReader, RowReader = pure.ColumnReader, pure.RowReader

__all__ = ["ColumnReader", "RowReader"]
