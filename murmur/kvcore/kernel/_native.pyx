# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""The binding of the C++ kernel; each part stands beside the sources that it binds."""

include "native/core.pxi"
include "native/table.pxi"
include "native/memtable.pxi"
include "native/reads.pxi"
include "native/log.pxi"
include "native/writer.pxi"
include "native/rows.pxi"
include "native/keycode.pxi"
include "native/row_block.pxi"
include "native/author.pxi"
