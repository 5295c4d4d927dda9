"""What an engine is to a workload, and the list of engines.

`put`, `get` and `delete` are the store's own functions wherever it has them with these arguments: a
Python frame between costs a tenth of an operation, and nobody has to pay it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

Pair = tuple[bytes, bytes]


class Budget(NamedTuple):
    """What every engine gets."""

    buffer_bytes: int = 64 << 20
    cache_bytes: int = 128 << 20
    sync: bool = False  # wait for the disk at every write
    map_bytes: int = 4 << 30  # LMDB: how large the file may become


class Engine:
    """A store that is open. `start`, `stop` and `count` of a scan say the same in two ways."""

    put: Callable[[bytes, bytes], object]
    get: Callable[[bytes], bytes | None]
    delete: Callable[[bytes], object]

    def __init__(self, directory: Path, budget: Budget) -> None:
        raise NotImplementedError

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def write(self, pairs: Sequence[Pair]) -> None:
        """All pairs at once, or none."""
        raise NotImplementedError

    def scan(self, start: bytes, stop: bytes, count: int) -> list[Pair]:
        """The `count` pairs with start <= key < stop."""
        raise NotImplementedError

    def items(self) -> Iterable[Pair]:
        """All pairs in key order."""
        raise NotImplementedError

    def only_reads_follow(self) -> None:
        """Prepare for reading, if that can be prepared."""

    def for_thread(self) -> Engine:
        """What another thread uses at the same time."""
        return self

    def flush(self) -> None:
        """Bring what is in memory into sorted files, if that can be asked for."""

    def describe(self) -> str:
        """What the table says of it: version and kind."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Listed(NamedTuple):
    """One engine: the module that it needs, and where its class is."""

    module: str
    place: str
    name: str
    peer: bool = True  # Murmur is compared with the best of these
    log_structured: bool = False


ENGINES = {
    "murmur": Listed("murmur.kvcore.engine", "murmur_engine", "Murmur", peer=False),
    "rocksdict": Listed("rocksdict", "log_structured", "RocksDict", log_structured=True),
    "plyvel": Listed("plyvel", "log_structured", "Plyvel", log_structured=True),
    "fjall": Listed("pyfjall", "log_structured", "Fjall", log_structured=True),
    "lmdb": Listed("lmdb", "trees", "Lmdb"),
    "lmdb-tuned": Listed("lmdb", "trees", "LmdbTuned"),
    "apsw": Listed("apsw", "trees", "Sqlite"),
    "swarm": Listed("murmur", "murmur_engine", "SwarmEngine", peer=False),
}


def installed(name: str) -> bool:
    return importlib.util.find_spec(ENGINES[name].module) is not None


def open_engine(name: str, directory: Path, budget: Budget) -> Engine:
    listed = ENGINES[name]
    module = importlib.import_module(f"{__package__}.{listed.place}")
    engine: Engine = getattr(module, listed.name)(directory, budget)
    return engine
