"""Arrow tables as bytes that other processes read: the IPC stream format.

write_stream(table, sys.stdout.buffer)
pyarrow.ipc.open_stream(sys.stdin.buffer).read_all()        in the other process
"""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa


def write_stream(table: pa.Table, sink: BinaryIO) -> None:
    """Write schema and rows, and the mark of the end; the sink stays open."""
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
