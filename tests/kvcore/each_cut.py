"""A power cut at each operation of one run: what would be left is examined before it.

    with each_cut(storage, examine) as cuts:     # examine(1), examine(2), ... beside the run
        work.run()
    assert cuts.count > 30

The first thing that is found wrong is raised at the end: the run itself is not disturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from murmur.kvcore.memory_storage import MemoryStorage


@dataclass
class Cuts:
    count: int = 0


@contextmanager
def each_cut(storage: MemoryStorage, examine: Callable[[int], None]) -> Iterator[Cuts]:
    cuts = Cuts()
    wrong: list[BaseException] = []

    def see() -> None:
        cuts.count += 1
        if not wrong:
            try:
                examine(cuts.count)
            except BaseException as error:
                error.add_note(f"the power was cut at operation {cuts.count}")
                wrong.append(error)

    storage.watch(see)
    try:
        yield cuts
    finally:
        storage.watch(None)
    if wrong:
        raise wrong[0]
