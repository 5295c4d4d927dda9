"""The laws of the join: a semilattice, and the same as admitting both sides' transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from murmur.kvcore import causality, record
from murmur.kvcore import cell as cells
from murmur.kvcore import join as joins
from murmur.kvcore.join import MalformedCell, check_cell, join
from tests.kvcore.merge_model import Node, Tx, World, admit, causal_order, meaning, observed

Side = tuple[Mapping[bytes, bytes], Mapping[bytes, int]]


def joined(left: Side, right: Side) -> Side:
    """Two replicas' states as one, key by key."""
    (ours, seen), (theirs, other) = left, right
    both = {key: join(ours.get(key), seen, theirs.get(key), other) for key in {*ours, *theirs}}
    state = {key: cell for key, cell in both.items() if cell is not None}
    return state, causality.join(seen, other)


def side(node: Node) -> Side:
    return node.state, {replica: seq for replica, seq in node.vector.items() if seq}


def of(transactions: Sequence[Tx], rng: Random) -> dict[bytes, bytes]:
    """The state of a set of transactions, in some causal order."""
    state: dict[bytes, bytes] = {}
    for tx in causal_order(transactions, rng):
        admit(state, tx)
    return state


def played(seed: int, favoured: Sequence[str] = ()) -> World:
    rng = Random(seed)
    return World(rng, rng.choice((3, 3, 4, 5)), favoured=favoured).play(rng.randrange(10, 120))


def hold_to_the_laws(seed: int, favoured: Sequence[str] = ()) -> None:
    world = played(seed, favoured)
    a, b, c = map(side, world.nodes[:3])
    assert joined(a, a) == a
    assert joined(a, b) == joined(b, a)
    assert joined(joined(a, b), c) == joined(a, joined(b, c))
    assert joined(joined(a, b), b) == joined(a, b)
    left, right = world.nodes[:2]
    union = {tx.dot: tx for tx in (*left.admitted, *right.admitted)}
    state, vector = joined(a, b)
    assert state == of(list(union.values()), world.rng), f"seed {seed}"
    assert observed(state) == meaning(union.values()), f"seed {seed}"
    for key, cell in state.items():
        check_cell(key, cell, vector, max(tx.stamp for tx in union.values()))


@given(st.integers(0, 1 << 32))
@example(0)
def test_a_join_is_a_semilattice_and_the_state_of_the_union(seed: int) -> None:
    hold_to_the_laws(seed)


@pytest.mark.parametrize("favoured", [["reset", "add"], ["edit", "replace"], ["put"], ["remove"]])
def test_the_laws_hold_where_one_kind_of_write_prevails(favoured: list[str]) -> None:
    for seed in range(150):
        hold_to_the_laws(seed, favoured)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_laws_hold_at_length() -> None:
    for seed in range(10_000, 60_000):
        hold_to_the_laws(seed)


@given(st.integers(0, 1 << 32))
def test_a_join_goes_on_as_if_all_had_been_admitted(seed: int) -> None:
    """What is admitted after a join falls on the same cells as without it."""
    world = played(seed)
    state, vector = joined(side(world.nodes[0]), side(world.nodes[1]))
    state = dict(state)
    rest = [tx for tx in world.written if tx.seq > vector.get(tx.replica, 0)]
    have = dict(vector)
    while rest:
        tx = world.rng.choice(
            [
                tx
                for tx in rest
                if tx.seq == have.get(tx.replica, 0) + 1 and causality.dominates(have, tx.vector)
            ]
        )
        rest.remove(tx)
        have[tx.replica] = tx.seq
        admit(state, tx)
    assert state == of(world.written, world.rng)


def breaks() -> bool:
    for seed in range(300):
        try:
            for favoured in ([], ["reset", "add"], ["edit"]):
                hold_to_the_laws(seed, favoured)
        except (AssertionError, MalformedCell):
            return True
    return False


def test_the_model_objects_to_a_join_without_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 7: what one side had and saw go must not come back from the other."""
    monkeypatch.setattr(joins, "covers", lambda vector, replica, seq: False)
    assert breaks()


def test_the_model_objects_to_offsets_of_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 6: cancelled increments must not come back."""
    right = joins._join_counters

    def one_sided(left: cells.Counter, other: cells.Counter) -> cells.Counter:
        return right(left, other)._replace(offsets=max(left, other, key=lambda c: c.rank).offsets)

    monkeypatch.setattr(joins, "_join_counters", one_sided)
    assert breaks()


def test_the_model_objects_to_fields_by_stamp_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 3: equal stamps need the replica."""
    monkeypatch.setattr(joins, "_first", lambda pair: pair[0][0])
    assert breaks()


KIND_NAMES = {"PUT", "DELETE", "REMOVE", "INSERT", "EDIT", "COUNT", "ROWS"}
A, B = b"A" * 8, b"B" * 8
KEY, ROW = b"\x01k", b"\x02r"


def test_an_element_on_one_side_survives_unless_the_other_saw_it_go() -> None:
    ours = cells.encode_register([cells.Sibling(5, A, 2, b"ours")])
    assert join(ours, {A: 2}, None, {B: 3}) == ours  # they never knew it
    assert join(ours, {A: 2}, None, {A: 2, B: 3}) is None  # they knew it, and it went
    theirs = cells.encode_register([cells.Sibling(6, B, 1, b"theirs")])
    both = join(ours, {A: 2}, theirs, {B: 3})
    assert both is not None
    assert [s.value for s in cells.decode_register(both)] == [b"theirs", b"ours"]


def good() -> bytes:
    counter = cells.Counter(1, (9, A), {A: (3, 0)}, {})
    life = cells.Life(9, A, 2, {1: "x"}, {1: (10, B)}, {7: counter})
    cell = cells.encode_record([life])
    assert cell is not None
    return cell


def test_a_snapshot_says_which_operations_its_cells_hold() -> None:
    """A release that applies another kind raises this number, and takes no older snapshots in."""
    kinds = {value for name, value in vars(record).items() if name in KIND_NAMES}
    assert max(kinds) == joins.KINDS
    assert len(kinds) == len(KIND_NAMES) == joins.KINDS


def test_a_good_cell_passes() -> None:
    check_cell(ROW, good(), {A: 2}, 10)
    check_cell(KEY, cells.encode_register([cells.Sibling(5, A, 2, b"v")]) or b"", {A: 2}, 5)


@pytest.mark.parametrize(
    ("key", "cell", "vector", "stamp"),
    [
        (ROW, good(), {A: 1}, 10),  # a dot beyond the vector
        (ROW, good(), {A: 2}, 9),  # a stamp beyond the snapshot's
        (b"\x40x", good(), {A: 2}, 10),  # a derived entry
        (b"\x03x", good(), {A: 2}, 10),  # a cell type of another release
        (b"", good(), {A: 2}, 10),
        (ROW, good() + b"\0", {A: 2}, 10),
        (ROW, good()[:-1], {A: 2}, 10),
        (ROW, b"", {A: 2}, 10),
        (KEY, b"", {A: 2}, 10),
        (KEY, b"\x01short", {A: 2}, 10),
        (KEY, b"\x02" + msgpack.packb([[5, A, 1, b"v"]]), {A: 2}, 10),  # one sibling, long form
        (KEY, b"\x02" + msgpack.packb([[5, A, 1, b"v"], [5, A, 1, b"v"]]), {A: 2}, 10),
        (ROW, msgpack.packb([1, 9, A, 2, {1: [1]}]), {A: 2}, 10),  # a field that is a list
        (ROW, msgpack.packb([1, 9, A, 2, {1: "x", "y": 2}]), {A: 2}, 10),
        (ROW, msgpack.packb([1, 9, b"short", 2, {1: "x"}]), {b"short": 2}, 10),
        (ROW, msgpack.packb([2, [[9, A, 2, {}, {1: [9, A]}, {}]]]), {A: 2}, 10),
        (ROW, msgpack.packb([2, 7]), {A: 2}, 10),
        (ROW, msgpack.packb([2, [[9, A, 2, {}, {}, {7: [1, 9, A, [[A, -1, 0]], []]}]]]), {A: 2}, 9),
        (ROW, b"\x91" * 2000, {A: 2}, 10),
    ],
)
def test_what_is_no_cell_of_the_snapshot_is_refused(
    key: bytes, cell: bytes, vector: dict[bytes, int], stamp: int
) -> None:
    with pytest.raises(MalformedCell):
        check_cell(key, cell, vector, stamp)


@given(st.binary(max_size=60), st.integers(0, 1 << 32))
def test_no_bytes_make_the_check_fail_otherwise(noise: bytes, seed: int) -> None:
    rng = Random(seed)
    cell = bytearray(good())
    for _ in range(rng.randrange(1, 4)):
        cell[rng.randrange(len(cell))] = rng.randrange(256)
    for candidate in (noise, bytes(cell)):
        for key in (KEY, ROW):
            try:
                check_cell(key, candidate, {A: 2, B: 2}, 1 << 62)
            except MalformedCell:
                continue
            # What passed joins with anything.
            own = good() if key == ROW else cells.encode_register([cells.Sibling(5, A, 2, b"v")])
            join(candidate, {A: 2, B: 2}, own, {A: 2})
