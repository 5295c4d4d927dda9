"""Merging runs is what a dict does, newest last."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from murmur.kvcore.kernel.pure.block import TOMBSTONES
from murmur.kvcore.kernel.pure.live import live_pairs
from murmur.kvcore.kernel.pure.merge import Run, merge

Source = dict[bytes, bytes | None]
sources = st.lists(
    st.dictionaries(st.binary(max_size=2), st.none() | st.binary(max_size=2), max_size=30),
    max_size=5,
)


def runs(source: Source, sizes: list[int], *, reverse: bool = False) -> Iterator[Run]:
    pieces, keys, turn = [], sorted(source), 0
    while keys:
        size = sizes[turn % len(sizes)]
        piece, keys, turn = keys[:size], keys[size:], turn + 1
        pieces.append((piece, [source[key] for key in piece]))
    for keys, values in reversed(pieces) if reverse else pieces:
        yield keys, values, TOMBSTONES if None in values else 0


@given(sources, st.lists(st.integers(1, 8), min_size=1), st.booleans())
def test_the_newest_source_wins(maps: list[Source], sizes: list[int], reverse: bool) -> None:
    model: Source = {}
    for older in reversed(maps):
        model.update(older)

    def merged() -> Iterator[Run]:
        return merge([runs(source, sizes, reverse=reverse) for source in maps], reverse=reverse)

    everything: Source = {}
    for keys, values, kinds in merged():
        assert keys
        assert keys == sorted(set(keys))
        assert everything.keys().isdisjoint(keys)
        assert kinds & TOMBSTONES or None not in values
        everything.update(zip(keys, values, strict=True))
    assert everything == model
    live = sorted(
        ((key, value) for key, value in model.items() if value is not None), reverse=reverse
    )
    assert list(live_pairs(merged(), bytes, reverse=reverse)) == live
