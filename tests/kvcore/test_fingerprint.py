"""Fingerprints of ranges: they add up, and a search by them ends at the one key that differs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from murmur.errors import Interrupted
from murmur.kvcore.fingerprint import BOUNDS_BYTES, CELLS_STOP, EMPTY, PARTS, measure, partition

SALT = b"s" * 16


class Cells:
    """A view of a dict."""

    def __init__(self, cells: dict[bytes, bytes]) -> None:
        self.cells = cells

    def get(self, key: bytes) -> bytes | None:
        return self.cells.get(key)

    def scan(self, start, stop, *, reverse=False):
        return ((k, self.cells[k]) for k in sorted(self.cells) if start <= k < stop)


def never() -> bool:
    return False


def cut(cells: dict[bytes, bytes], start: bytes = b"", stop: bytes = CELLS_STOP):
    return partition(Cells(cells), start, stop, SALT, never)


def measured(cells: dict[bytes, bytes], bounds: list[bytes], stop: bytes = CELLS_STOP):
    return measure(Cells(cells), bounds, stop, SALT, never)


def first_difference(mine: dict[bytes, bytes], theirs: dict[bytes, bytes]) -> bytes | None:
    """As the conversation of two verifiers finds it."""
    start, stop = b"", CELLS_STOP
    for _ in range(40):
        parts = cut(mine, start, stop)
        found = measured(theirs, [part.start for part in parts], stop)
        for i, (part, other) in enumerate(zip(parts, found, strict=True)):
            if part.fingerprint != other.fingerprint:
                stop = parts[i + 1].start if i + 1 < len(parts) else stop
                start = part.start
                break
        else:
            return None
        if part.fingerprint.cells == 0:
            return other.first
        if stop == start + b"\0":
            return start
    raise AssertionError("the search does not end")


keys = st.binary(min_size=1, max_size=3).map(lambda key: b"\x01" + key)
states = st.dictionaries(keys, st.binary(max_size=3), max_size=120)


@given(states)
def test_the_parts_are_the_whole(cells: dict[bytes, bytes]) -> None:
    parts = cut(cells)
    starts = [part.start for part in parts]
    assert starts == sorted(set(starts))
    assert sum(part.fingerprint.cells for part in parts) == len(cells)
    again = measured(cells, starts)
    assert [m.fingerprint for m in again] == [part.fingerprint for part in parts] or not parts
    ((whole, first),) = measured(cells, [b""])
    total = sum(int.from_bytes(part.fingerprint.digest) for part in parts)
    assert int.from_bytes(whole.digest) == total % 2**256
    assert first == min(cells, default=None)


@given(states, states)
def test_a_search_ends_at_the_first_key_that_differs(mine, theirs) -> None:
    different = {k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k)}
    assert first_difference(mine, theirs) == min(different, default=None)


@given(states, keys, st.binary(max_size=3))
def test_one_changed_cell_among_many_is_found(cells, key, value) -> None:
    changed = {**cells, key: value}
    expected = key if cells.get(key) != value else None
    assert first_difference(cells, changed) == first_difference(changed, cells) == expected


def test_many_cells_are_cut_evenly() -> None:
    cells = {b"\x01%06d" % i: b"v" for i in range(10_000)}
    counts = [part.fingerprint.cells for part in cut(cells)]
    assert PARTS <= len(counts) <= 2 * PARTS
    assert max(counts) <= 2 * 10_000 / PARTS
    cells[b"\x01004711"] = b"w"
    assert first_difference({**cells, b"\x01004711": b"v"}, cells) == b"\x01004711"


def test_long_keys_do_not_make_long_messages() -> None:
    cells = {b"\x01" + b"k" * 64_000 + b"%02d" % i: b"v" for i in range(40)}
    stop = CELLS_STOP
    assert sum(len(part.start) for part in cut(cells)) <= BOUNDS_BYTES
    other = {**cells, b"\x01" + b"k" * 64_000 + b"33": b"w"}
    assert first_difference(cells, other) == b"\x01" + b"k" * 64_000 + b"33"
    assert sum(len(part.start) for part in cut(cells, b"", stop)) <= BOUNDS_BYTES


def test_what_is_derived_does_not_count() -> None:
    assert cut({b"\x40x": b"entry", b"\x80x": b"local"}, b"", b"\xff") == cut({})
    assert measured({b"\x40x": b"entry"}, [b""], b"\xff") == [(EMPTY, None)]


def test_the_salt_decides_the_digest_but_not_the_count() -> None:
    cells = Cells({b"\x01k": b"v"})
    (one, _), (two, _) = (measure(cells, [b""], CELLS_STOP, s * 16, never)[0] for s in (b"a", b"b"))
    assert one.cells == two.cells == 1
    assert one.digest != two.digest


def test_a_long_pass_can_be_given_up() -> None:
    cells = Cells({b"\x01%06d" % i: b"v" for i in range(3000)})
    with pytest.raises(Interrupted):
        partition(cells, b"", CELLS_STOP, SALT, lambda: True)
    with pytest.raises(Interrupted):
        measure(cells, [b""], CELLS_STOP, SALT, lambda: True)
