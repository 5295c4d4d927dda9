"""Options: few, valid, and each in the table of docs/engine.md as it is in the code."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from murmur.errors import InvalidInput
from murmur.kvcore.kernel import LZ4, NO_CODEC, ZSTD
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.options import Options
from murmur.kvcore.tree import Tree

PAGE = Path(__file__).parents[2] / "docs" / "engine.md"


def test_there_are_at_most_twenty() -> None:
    assert len(fields(Options)) <= 20


def test_the_page_has_each_option_with_its_default() -> None:
    section = PAGE.read_text().split("\n## ")[1]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
    written = {name: default.strip().strip("`") for name, default in rows}
    assert written == {field.name: shown(field.default) for field in fields(Options)}
    assert [name for name, _ in rows] == [field.name for field in fields(Options)]


def shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 20:
        return f"{value >> 20} MiB"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 10:
        return f"{value >> 10} KiB"
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"memtable_bytes": 0},
        {"memtable_bytes": 1.5},
        {"memtable_bytes": "32 MiB"},
        {"table_bytes": True},
        {"cache_bytes": -1},
        {"block_bytes": 1 << 30},
        {"level_ratio": 1},
        {"level0_tables": 1},
        {"compression": "gzip"},
        {"compression": ()},
        {"compression": ("none", 3)},
        {"compression": ["none"]},
        {"compression_level": 0},
        {"filter_bits": -1},
        {"filter_bits": (12, 10)},
        {"filter_bits": (12, 10, 8.5)},
        {"filter_bits": 100},
        {"tombstone_ratio": 0},
        {"garbage_ratio": 1.1},
        {"garbage_ratio": "half"},
        {"mmap": 1},
        {"compact_threads": 0},
        {"rate_limit_bytes": -1},
        {"pending_memtables": 0},
        {"separate_bytes": None},
    ],
)
def test_what_is_no_option_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InvalidInput, match=f"^{name} is"):
        Options(**wrong)
    with pytest.raises(InvalidInput, match=f"^{name} is"):
        replace(Options(), **wrong)


def test_a_codec_by_name_is_that_of_the_deepest_level() -> None:
    options = Options(compression="zstd")
    assert [options.codec(level, deepest=level == 2) for level in range(3)] == [
        NO_CODEC,
        NO_CODEC,
        ZSTD,
    ]
    assert options.codec(0, deepest=True) == NO_CODEC, "level 0 is rewritten soon"


def test_codecs_by_level_go_on_downward() -> None:
    options = Options(compression=("none", "lz4", "zstd"))
    codecs = [options.codec(level, deepest=level == 4) for level in range(5)]
    assert codecs == [NO_CODEC, LZ4, ZSTD, ZSTD, ZSTD]


def test_filters_have_fewer_bits_where_most_keys_are() -> None:
    bits = [Options().bits_per_key(level, deepest=level == 4) for level in range(5)]
    assert bits == [12, 12, 10, 10, 8]
    assert Options().bits_per_key(1, deepest=True) == 8
    assert Options(filter_bits=10).bits_per_key(4, deepest=True) == 10
    assert Options(filter_bits=0).tables(0, deepest=False).bits_per_key == 0


def test_a_tree_takes_its_budgets_either_way() -> None:
    tree = Tree.open(MemoryStorage(), options=Options(level_ratio=5), memtable_bytes=1 << 20)
    assert tree.options == Options(level_ratio=5, memtable_bytes=1 << 20)
    tree.close()
    with pytest.raises(InvalidInput, match=r"^table_bytes is"):
        Tree.open(MemoryStorage(), table_bytes=0)
