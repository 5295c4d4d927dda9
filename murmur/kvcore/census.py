"""Census: what a version of the tree consists of, in figures for `Tree.stats`."""

from __future__ import annotations

from murmur.kvcore.compaction import capacity
from murmur.kvcore.kernel import BlockCache
from murmur.kvcore.options import Options
from murmur.kvcore.version import Version, size_of


def census(version: Version, options: Options, cache: BlockCache) -> dict[str, object]:
    """Tables, bytes and tombstones, by level where it matters; cache and filters since opening."""
    return {
        "level_tables": [len(level) for level in version.levels],
        "level_bytes": [size_of(level) for level in version.levels],
        "level_capacity": [capacity(version, options, n) for n in range(1, version.deepest)],
        "tombstones": sum(table.info.tombstones for table in version.tables()),
        "range_tombstones": sum(table.info.ranges for table in version.tables()),
        "value_files": len(version.values),
        "value_bytes": sum(file.size for file in version.values.values()),
        "value_bytes_live": sum(version.live_bytes.values()),
        "space_amplification": space_amplification(version),
        "cache_bytes": cache.weight,
        "cache_hits": cache.hits,
        "cache_misses": cache.misses,
        **_filters(version),
    }


def space_amplification(version: Version) -> float:
    """Bytes on the disk for each that could not be spared: an estimate from above.

    What the deepest level holds, and the large values that tables refer to, counts as needed; of
    what lies above, nobody knows without merging it whether it replaces or adds.
    """
    sizes = [size_of(level) for level in version.levels]
    deepest = next((size for size in reversed(sizes) if size), 0)
    needed = deepest + sum(version.live_bytes.values())
    held = sum(sizes) + sum(file.size for file in version.values.values())
    return held / needed if needed else 1.0


def _filters(version: Version) -> dict[str, object]:
    """How often filters were asked, and let pass in vain: by the tables that are there now."""
    asked = sum(getattr(table, "filtered", 0) for table in version.tables())
    in_vain = sum(getattr(table, "passed_in_vain", 0) for table in version.tables())
    return {"filter_spared": asked, "filter_false_positives": in_vain}
