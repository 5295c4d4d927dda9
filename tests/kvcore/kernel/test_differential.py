"""The twins write the same bytes, and each reads what the other wrote.

Random batches, range tombstones, large values, options and merges go through both kernels. After
each step the files are compared byte by byte; at the end both kernels read both folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from murmur.kvcore.kernel import Entry
from murmur.kvcore.kernel.codec import compress
from tests.kvcore.kernel.folder import ONE_TABLE, Folder, Range, load_kernel

CODECS = [0, 0, 1, 2]


@pytest.fixture(scope="module")
def kernels() -> list[ModuleType]:
    compress(1, 0, b""), compress(2, 3, b"")  # InvalidInput: the packages are missing
    return [load_kernel("pure"), load_kernel("native")]


class Pair:
    """Two folders that are to stay equal; tables come in pairs too."""

    def __init__(self, kernels: Sequence[ModuleType]) -> None:
        self.folders = [Folder(kernel) for kernel in kernels]

    def flush(
        self, batches: Sequence[tuple[list[Entry], list[Range]]], **options: int
    ) -> list[tuple[Any, ...]]:
        """Tables of a memtable into which these batches went."""
        memtables = []
        for folder in self.folders:
            memtable = folder.kernel.Memtable(0)
            for sequence, (entries, ranges) in enumerate(batches, 1):
                memtable.apply(sequence, entries, (), ranges)
            memtable.freeze(len(batches))
            memtables.append(memtable)
        return self._write([[memtable] for memtable in memtables], **options)

    def merge(self, sources: Sequence[Sequence[tuple[Any, ...]]], **options: Any) -> Any:
        """Tables of these tables."""
        return self._write(
            [[[pair[side] for pair in source] for source in sources] for side in (0, 1)], **options
        )

    def _write(self, sources: Sequence[Sequence[Any]], **options: Any) -> list[tuple[Any, ...]]:
        outputs = [folder.output(**options) for folder in self.folders]
        tables = [
            folder.write_to(output, some)
            for folder, output, some in zip(self.folders, outputs, sources, strict=True)
        ]
        left, right = self.folders
        assert left.created == right.created
        assert outputs[0].value_files == outputs[1].value_files
        assert [table.info for table in tables[0]] == [table.info for table in tables[1]]
        ours, others = left.content(), right.content()
        for name, data in ours.items():
            assert data == others[name], f"{name} differs at {first_difference(data, others[name])}"
        return list(zip(*tables, strict=True))

    def check(self, levels: Sequence[Sequence[tuple[Any, ...]]], keys: Sequence[bytes]) -> None:
        """See that both kernels read the same in both folders."""
        answers = []
        for kernel in (folder.kernel for folder in self.folders):
            for side, folder in enumerate(self.folders):
                reader = Folder(kernel, folder.storage)
                reader.values = {
                    number: kernel.ValueFile(
                        folder.storage, f"{number:06}.val", number, len(folder.content()[name])
                    )
                    for name in folder.created
                    if name.endswith(".val")
                    for number in [int(name[:6])]
                }
                tables = [[reader.open(pair[side].info) for pair in level] for level in levels]
                for level in tables:
                    for table in level:
                        assert list(table.check()) == []
                reads = reader.reads(tables)
                start, stop = sorted(keys[:2])
                answers.append(
                    (
                        list(reads.scan(b"", None, 0)),
                        list(reads.scan(b"", None, 0, reverse=True))[::-1],
                        list(reads.scan(start, stop, 0)),
                        list(reads.scan(start, stop, 0, reverse=True))[::-1],
                        reads.multi_get(keys, 0),
                        [reads.get(key, 0) for key in keys],
                        b"".join(
                            bytes(chunk.keys) + bytes(chunk.values)
                            for chunk in reads.chunks(start, stop, 0, bytes_=1 << 62)
                        ),
                    )
                )
        assert all(answer == answers[0] for answer in answers)
        assert answers[0][0] == answers[0][1]
        assert answers[0][4] == answers[0][5]


def first_difference(left: bytes, right: bytes) -> int:
    length = min(len(left), len(right))
    return next((at for at in range(length) if left[at] != right[at]), length)


def draw_value(rng: Random) -> bytes | None:
    kind = rng.randrange(12)
    if kind == 0:
        return None
    if kind == 1:
        return rng.randbytes(rng.randrange(3000))
    if kind == 2:
        return bytes([rng.randrange(256)]) * rng.choice([0, 255, 256, 20_000, 70_000, 300_000])
    return rng.choice([b"again and again ", rng.randbytes(4)]) * rng.randrange(20)


def draw_key(rng: Random, width: int) -> bytes:
    kind = rng.randrange(20)
    if kind == 0:
        return rng.randbytes(rng.randrange(4))
    if kind == 1:
        return b"key" + bytes([rng.choice([0, 255])]) * rng.randrange(300)
    return b"key%06d" % rng.randrange(width)


def draw_batches(rng: Random, width: int, count: int) -> list[tuple[list[Entry], list[Range]]]:
    batches = []
    for _ in range(count):
        entries = [(draw_key(rng, width), draw_value(rng)) for _ in range(rng.randrange(60))]
        ranges = [
            (draw_key(rng, width), draw_key(rng, width)) for _ in range(rng.randrange(3) // 2)
        ]
        if rng.random() < 0.2:
            start = rng.randrange(width)
            ranges.append((b"key%06d" % start, b"key%06d" % (start + width // 5)))
        batches.append((entries, ranges))
    return batches


def draw_options(rng: Random) -> dict[str, int]:
    return {
        "table_bytes": rng.choice([1, 5000, 30_000, ONE_TABLE]),
        "block_bytes": rng.choice([1, 60, 700, 4096, 4096, 50_000]),
        "codec": rng.choice(CODECS),
        "level": rng.choice([1, 3, 9]),
        "bits_per_key": rng.choice([0, 1, 5, 10, 10, 14, 44]),
        "separate_bytes": rng.choice([0, 0, 1, 300, 2000]),
    }


@pytest.mark.parametrize("seed", range(40))
def test_a_life_of_flushes_and_merges(kernels: list[ModuleType], seed: int) -> None:
    rng = Random(seed)
    pair = Pair(kernels)
    width = rng.choice([50, 1000, 100_000])
    level0: list[tuple[Any, ...]] = []
    level1: list[tuple[Any, ...]] = []
    for _ in range(rng.randrange(2, 8)):
        options = draw_options(rng) | {"table_bytes": ONE_TABLE}
        level0 = pair.flush(draw_batches(rng, width, rng.randrange(1, 12)), **options) + level0
        if len(level0) >= 3 or rng.random() < 0.2:
            files = sorted(pair.folders[0].values)
            level1 = pair.merge(
                [*([table] for table in level0), level1],
                drop_tombstones=rng.random() < 0.3,
                relocate=rng.sample(files, rng.randrange(len(files) + 1)),
                **draw_options(rng),
            )
            level0 = []
    keys = [draw_key(rng, width) for _ in range(40)]
    pair.check([level0, level1], keys)


@pytest.mark.parametrize("codec", [1, 2])
def test_the_borders_of_compression(kernels: list[ModuleType], codec: int) -> None:
    pair, rng = Pair(kernels), Random(codec)
    noise = rng.randbytes(1000)
    for extra in range(0, 400, 3):  # an eighth shrinks away, or does not
        pair.flush([([(b"k", noise + bytes(extra))], [])], codec=codec)
    for size in range(65_536, 76_000, 131):  # a reader would believe it, or not
        pair.flush([([(b"k", bytes(size))], [])], codec=codec)


short = st.binary(max_size=2)
batch = st.tuples(
    st.lists(st.tuples(short, st.none() | st.binary(max_size=40)), max_size=8),
    st.lists(st.tuples(short, short), max_size=2),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(batch, min_size=1, max_size=4), min_size=1, max_size=4),
    st.fixed_dictionaries(
        {
            "table_bytes": st.sampled_from([1, 60, ONE_TABLE]),
            "block_bytes": st.integers(1, 80),
            "separate_bytes": st.sampled_from([0, 1, 30]),
            "codec": st.sampled_from(CODECS),
            "bits_per_key": st.sampled_from([0, 10]),
        }
    ),
    st.booleans(),
    st.booleans(),
)
def test_small_cases(
    kernels: list[ModuleType],
    layers: list[list[tuple[list[Entry], list[Range]]]],
    options: dict[str, int],
    drop_tombstones: bool,
    relocate: bool,
) -> None:
    pair = Pair(kernels)
    tables = [pair.flush(layer, **options | {"table_bytes": ONE_TABLE}) for layer in layers]
    files = list(pair.folders[0].values) if relocate else []
    merged = pair.merge(tables[::-1], drop_tombstones=drop_tombstones, relocate=files, **options)
    pair.check([[], merged], [b"", b"\xff", b"a", b"\0", b"\0\0", b"\1"])
    if not drop_tombstones:
        pair.check([[], merged, merged[:1]], [b"", b"\xff", b"a", b"\0", b"\0\0", b"\1"])
