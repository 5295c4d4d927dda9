"""Rows many at a time, natively where the kernel was compiled; block_plan.py says what is meant.

encoder = RowEncoder(plan)
encoder.bind(sources); encoder.add_rows(rows)     or encoder.add_columns(count, sources)
encoder.finish()                                  RowBlock
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from murmur.kvcore.kernel import NATIVE

if TYPE_CHECKING or not NATIVE:
    from murmur.kvcore.kernel.pure.row_block import RowBlock, RowEncoder, apply_blocks, runs_of
else:
    from murmur.kvcore.kernel import _native

    RowBlock = _native.RowBlock
    RowEncoder = _native.RowEncoder
    apply_blocks = _native.apply_blocks
    runs_of = _native.runs_of

__all__ = ["RowBlock", "RowEncoder", "apply_blocks", "runs_of"]
