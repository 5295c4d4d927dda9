"""Options: all that can be chosen about a tree. There is no other knob, and none needs turning.

    Options(compression="zstd")                      the deepest level, where most bytes are
    Options(compression=("none", "none", "lz4"))     by level; the last name goes on downward
    Options(filter_bits=10)                          the same everywhere, instead of (12, 10, 8)

They are chosen at every opening and stand nowhere on the disk: what was written otherwise stays
readable and changes as merges rewrite it. docs/engine.md has the table of them, with what each
costs; a test holds it to this file.

Invariant: an Options that exists is valid; `InvalidInput` names the option and why it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from murmur.errors import InvalidInput
from murmur.kvcore.kernel import LZ4, NO_CODEC, ZSTD, TableOptions

CODECS = {"none": NO_CODEC, "lz4": LZ4, "zstd": ZSTD}
SHALLOW = 1  # levels up to here take the first of `filter_bits`, unless they are the deepest

FilterBits: TypeAlias = int | tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a tree uses memory, disk and threads. Sizes in bytes."""

    memtable_bytes: int = 32 << 20
    pending_memtables: int = 2
    table_bytes: int = 32 << 20
    cache_bytes: int = 64 << 20
    block_bytes: int = 4096
    compression: str | tuple[str, ...] = "none"
    compression_level: int = 3
    filter_bits: FilterBits = (12, 10, 8)
    level0_tables: int = 8
    level_ratio: int = 10
    tombstone_ratio: float = 0.5
    separate_bytes: int = 32 << 10
    garbage_ratio: float = 0.5
    mmap: bool = True
    compact_threads: int = 1
    rate_limit_bytes: int = 0

    def __post_init__(self) -> None:
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidInput(f"{name} is a number from {low} to {high}, not {value!r}")
        for name in ("tombstone_ratio", "garbage_ratio"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
                raise InvalidInput(f"{name} is a share, above 0 and up to 1, not {value!r}")
        if not isinstance(self.mmap, bool):
            raise InvalidInput(f"mmap is True or False, not {self.mmap!r}")
        names = self._codec_names()
        if not names or any(name not in tuple(CODECS) for name in names):
            raise InvalidInput(
                f"compression is one of {', '.join(CODECS)}, or a tuple of them by level, "
                f"not {self.compression!r}"
            )
        bits = self.filter_bits if isinstance(self.filter_bits, tuple) else (self.filter_bits,) * 3
        if len(bits) != 3 or any(
            isinstance(each, bool) or not isinstance(each, int) or not 0 <= each <= MOST_BITS
            for each in bits
        ):
            raise InvalidInput(
                f"filter_bits is a number of bits from 0 to {MOST_BITS}, or three: for levels 0 "
                f"and 1, those between, and the deepest; not {self.filter_bits!r}"
            )

    def codec(self, level: int, *, deepest: bool) -> int:
        """The codec of a level's tables."""
        if isinstance(self.compression, str):
            return CODECS[self.compression] if deepest and level else NO_CODEC
        return CODECS[self.compression[min(level, len(self.compression) - 1)]]

    def bits_per_key(self, level: int, *, deepest: bool) -> int:
        """The size of a level's filters: few bits where most keys are (Monkey, TODS 2018)."""
        if isinstance(self.filter_bits, int):
            return self.filter_bits
        shallow, middle, deep = self.filter_bits
        if level == 0:
            return shallow
        if deepest:
            return deep
        return shallow if level <= SHALLOW else middle

    def tables(self, level: int, *, deepest: bool) -> TableOptions:
        """How tables of a level are written."""
        return TableOptions(
            self.table_bytes,
            self.block_bytes,
            self.codec(level, deepest=deepest),
            self.compression_level,
            self.bits_per_key(level, deepest=deepest),
            self.separate_bytes,
        )

    def _codec_names(self) -> tuple[object, ...]:
        names = self.compression
        return names if isinstance(names, tuple) else (names,)


MOST_BITS = 32
_BOUNDS = (
    ("memtable_bytes", 1, 1 << 40),
    ("pending_memtables", 1, 64),
    ("table_bytes", 1, 1 << 40),
    ("cache_bytes", 0, 1 << 50),
    ("block_bytes", 64, 1 << 20),
    ("compression_level", 1, 22),
    ("level0_tables", 2, 1000),
    ("level_ratio", 2, 100),
    ("separate_bytes", 0, 1 << 30),
    ("compact_threads", 1, 64),
    ("rate_limit_bytes", 0, 1 << 50),
)
