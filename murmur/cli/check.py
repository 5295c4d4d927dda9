"""`murmur check`: is everything in the directory what was written, and does it fit together?

    /data/alice/tree/000003.sst, offset 4096: block checksum does not match
    1 problem in /data/alice

The log, every sorted file and the manifest are read to the last byte; then the whole state is
computed again from the log, and cells, indexes and claims are compared with it. Nothing is written
but what every opening writes.

Exit code: 0 sound, 1 problems, 2 it cannot be opened (the reason names file and offset).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from murmur.cli.directory import findings, open_swarm
from murmur.cli.failure import DONE, FAILED, printable
from murmur.cli.output import Output
from murmur.errors import Corruption

if TYPE_CHECKING:
    from murmur.kvcore import Problem
    from murmur.swarm import Swarm


def run_check(path: str) -> int:
    """Verify the directory, and write down what is wrong and what was looked at."""
    output = Output(sys.stdout)
    with open_swarm(path) as swarm:
        for line in findings(swarm):
            output.text(printable(line) + "\n")
        problems = _problems(swarm)
        for problem in problems:
            output.text(printable(_line(problem)) + "\n")
        if problems:
            output.text(printable(_verdict(swarm, len(problems))))
        else:
            output.text(printable(_summary(swarm)))
        output.flush()
    return FAILED if problems else DONE


def _problems(swarm: Swarm) -> list[Problem]:
    from murmur.kvcore import Problem

    try:
        return swarm.check()
    except Corruption as error:  # found where nothing was expected
        return [Problem(error.path, error.offset, error.reason)]


def _line(problem: Problem) -> str:
    return f"{problem.path}, offset {problem.offset}: {problem.reason}"


def _verdict(swarm: Swarm, count: int) -> str:
    return (
        f"{_count(count, 'problem')} in {swarm.path}\n"
        "Nothing was repaired. Where a file is damaged, what depends on it was not compared any "
        "further.\nPeers hold full copies: a new directory that connects to one gets all data.\n"
    )


def _summary(swarm: Swarm) -> str:
    from murmur.kvcore import DERIVED, LOCAL

    stats = swarm.replica.stats()
    start, end = _number(stats["log_start"]), _number(stats["log_end"])
    levels = stats["level_tables"], stats["level_bytes"]
    files, file_bytes = (sum(level) if isinstance(level, list) else 0 for level in levels)
    with swarm.replica.snapshot() as snapshot:
        cells = sum(1 for _ in snapshot.scan(b"", DERIVED))
        derived = sum(1 for _ in snapshot.scan(DERIVED, LOCAL))
    tables = swarm.replica.state.tables  # type: ignore[attr-defined]
    indexes = sum(len(table.indexes) + len(table.trigrams) for table in tables)
    vector = swarm.replica.vector
    transactions = _count(sum(vector.values()), "transaction")
    lines = [
        f"{swarm.path} is sound",
        f"  log     {_count(end - start, 'byte')}, "
        f"{transactions} of {_count(sum(map(bool, vector.values())), 'replica')}",
        f"  tree    {_count(files, 'file')}, {_count(file_bytes, 'byte')}",
        f"  state   {_count(cells, 'cell')} and {_count(derived, 'derived entry')}, "
        + ("as the log gives them" if not start else "not compared: the log's head was trimmed"),
        f"  schema  {_count(len(tables), 'table')}, {_count(indexes, 'index')}",
    ]
    if parked := swarm.replica.parked():
        lines.append(f"  parked  {_count(len(parked), 'transaction')} from the future")
    return "\n".join(lines) + "\n"


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


_PLURALS = {"index": "indexes", "derived entry": "derived entries"}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else _PLURALS.get(noun, noun + 's')}"
