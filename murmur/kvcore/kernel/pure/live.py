"""Live pairs: what is left of merged runs for whoever reads: no tombstones, no references.

A run of plain values passes through as it is. One that holds references is read value by value, as
the pairs are asked for: a run of large values may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import cast

from murmur.kvcore.kernel.pure.block import REFERENCES, TOMBSTONES, Reference
from murmur.kvcore.kernel.pure.merge import Run


def live_pairs(
    runs: Iterator[Run], read: Callable[[Reference], bytes], *, reverse: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """The pairs of the runs; `read` gives the value that a reference stands for."""
    return chain.from_iterable(_pairs(run, read, reverse=reverse) for run in runs)


def live_pieces(
    runs: Iterator[Run], read: Callable[[Reference], bytes]
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """The same as parallel lists of keys and values; one that was separated comes alone."""
    for keys, values, kinds in runs:
        if not kinds:
            yield keys, cast("list[bytes]", values)
            continue
        plain_keys: list[bytes] = []
        plain_values: list[bytes] = []
        for key, value in zip(keys, values, strict=True):
            if type(value) is Reference:
                if plain_keys:
                    yield plain_keys, plain_values
                    plain_keys, plain_values = [], []
                yield [key], [read(value)]
            elif value is not None:
                plain_keys.append(key)
                plain_values.append(value)
        if plain_keys:
            yield plain_keys, plain_values


def _pairs(
    run: Run, read: Callable[[Reference], bytes], *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    keys, values, kinds = run
    pairs: Iterator[tuple[bytes, bytes | None]]
    if reverse:
        pairs = zip(reversed(keys), reversed(values), strict=True)
    else:
        pairs = zip(keys, values, strict=True)
    if kinds & TOMBSTONES:
        pairs = iter([pair for pair in pairs if pair[1] is not None])
    live = cast("Iterator[tuple[bytes, bytes]]", pairs)
    if kinds & REFERENCES:
        return ((key, read(value) if type(value) is Reference else value) for key, value in live)
    return live
