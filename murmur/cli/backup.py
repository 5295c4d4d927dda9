"""`murmur backup`, `restore` and `repair`: copies to fall back on, and what to do without one.

    $ murmur backup data/alice /mnt/backup --label monday
    /mnt/backup has generation 3: 14,201 bytes, 1,022 of them new
    $ murmur restore /mnt/backup data/alice2
    data/alice2 holds generation 3 (monday)
    $ murmur repair data/alice data/saved
    saved 1204 entries of 3 tables
    lost: data/alice/tree/000002.sst, offset 4096: ...; keys b'a' to b'c'

A backup copies what it lacks, verified; generations share what did not change. What is restored or
repaired is a new directory; a restored replica takes an id of its own. A peer is the better rescue:
a new directory that connects to one has everything that the group has.

Exit code: 0 done; 1 a backup is damaged, or the repair had to leave something out; 2 not begun.
"""

from __future__ import annotations

import sys

from murmur.cli.directory import holds_replica, opened
from murmur.cli.failure import DONE, FAILED, NOT_BEGUN, Fault, describe, printable
from murmur.cli.output import Output
from murmur.errors import InvalidInput, Locked, UnknownFormat


def run_backup(path: str, *, target: str, label: str) -> int:
    """Add a generation to the backups in a directory, and say how large it is."""
    with opened(path) as swarm:
        generation = swarm.backup(target, label)
    _say(
        f"{target} has generation {generation.number}: {generation.size:,} bytes, "
        f"{generation.copied:,} of them new"
    )
    return DONE


def run_restore(backup: str, *, target: str, generation: int | None) -> int:
    """Make a directory of a generation."""
    from murmur.kvcore import Backup, DiskStorage

    try:
        source = Backup(DiskStorage(backup, create=False))
        if not source.list():
            raise Fault(f"{backup}: there is no backup here", NOT_BEGUN)
        restored = source.restore(DiskStorage(target), generation)
    except (InvalidInput, FileNotFoundError) as error:
        raise Fault(describe(error), NOT_BEGUN) from error
    named = f" ({restored.label})" if restored.label else ""
    _say(f"{target} holds generation {restored.number}{named}")
    return DONE


def run_repair(path: str, *, target: str) -> int:
    """Save what can be saved into a new directory, and list what cannot."""
    from murmur.kvcore import repair

    if not holds_replica(path):
        raise Fault(f"{path}: there is no replica here", NOT_BEGUN)
    try:
        report = repair(path, target)
    except (InvalidInput, Locked, UnknownFormat) as error:
        raise Fault(describe(error), NOT_BEGUN) from error
    for line in report.lines():
        _say(line)
    return FAILED if report.losses else DONE


def _say(line: str) -> None:
    output = Output(sys.stdout)
    output.text(printable(line) + "\n")
    output.flush()
