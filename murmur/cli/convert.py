"""`murmur convert`: let another backend keep the tree of a directory.

    $ murmur convert data/alice --backend sqlite
    data/alice is kept by sqlite now: 1,204 entries, 5f0c7a..
    $ sqlite3 data/alice/tree/kv.sqlite "SELECT key, value FROM registers"

The replica stays who it is: id, vector and log are not touched. The directory must not be open
anywhere. Interrupted at any moment, it is what it was, or converted; run it again.

Exit code: 0 converted, or nothing to do; 1 not converted; 2 there is no replica, or it is open.
"""

from __future__ import annotations

import sys

from murmur.cli.directory import holds_replica
from murmur.cli.failure import DONE, NOT_BEGUN, Fault, describe
from murmur.cli.output import Output
from murmur.errors import Locked


def run_convert(path: str, *, backend: str) -> int:
    """Convert the directory, and say what was done."""
    if not holds_replica(path):
        raise Fault(f"{path}: there is no replica here", NOT_BEGUN)
    from murmur.kvcore import DiskStorage
    from murmur.kvcore.convert import convert

    try:
        converted = convert(DiskStorage(path, create=False), backend)
    except Locked as error:
        raise Fault(describe(error), NOT_BEGUN) from error
    if converted is None:
        line = f"{path} is kept by {backend} already"
    else:
        entries = "1 entry" if converted.entries == 1 else f"{converted.entries:,} entries"
        line = f"{path} is kept by {backend} now: {entries}, {converted.hash}"
    output = Output(sys.stdout)
    output.text(line + "\n")
    output.flush()
    return DONE
