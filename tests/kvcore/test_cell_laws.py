"""The laws of the cells, over random histories; and each rule broken once, to see them object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from random import Random

import pytest

from murmur.kvcore import cell as cells
from murmur.kvcore import record as records
from murmur.kvcore.record import Insertion, decode, encode
from tests.kvcore.merge_model import (
    Rules,
    World,
    admit,
    causal_order,
    meaning,
    observed,
)

RULES = Rules()
ORDERS = 6


def hold_to_the_laws(seed: int, rules: Rules = RULES, favoured: Sequence[str] = ()) -> None:
    """L4, L5 and the author's view, for one history."""
    rng = Random(seed)
    world = World(rng, rng.choice((3, 3, 4, 5)), rules, favoured).play(rng.randrange(20, 120))
    for node in world.nodes:  # at whatever prefix each of them has come to
        assert observed(node.state) == meaning(node.admitted), f"seed {seed}"
    world.settle()
    final = world.nodes[0].state
    for node in world.nodes:
        assert node.vector == world.nodes[0].vector
        assert node.state == final, f"seed {seed}: equal vectors, different bytes"
    for _ in range(ORDERS):
        state: dict[bytes, bytes] = {}
        prefix = []
        for tx in causal_order(world.written, rng):
            admit(state, tx)
            prefix.append(tx)
            if rng.random() < 0.05:
                assert observed(state) == meaning(prefix), f"seed {seed}"
        assert state == final, f"seed {seed}: another order, different bytes"


@pytest.mark.parametrize("block", range(10))
def test_state_is_a_function_of_the_set(block: int) -> None:
    for seed in range(block * 200, block * 200 + 200):
        hold_to_the_laws(seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_state_is_a_function_of_the_set_at_length() -> None:
    for seed in range(10_000, 60_000):
        hold_to_the_laws(seed)


def objects(rules: Rules = RULES, favoured: Sequence[str] = ()) -> bool:
    """Whether some history breaks a law."""
    for seed in range(2000):
        try:
            hold_to_the_laws(seed, rules, favoured)
        except (AssertionError, IndexError):
            return True
    return False


@pytest.mark.parametrize(
    "broken",
    [
        "vector_of_snapshot",
        "first_committer_wins",
        "admission_moves_clock",
        "exactly_once",
        "causal",
    ],
)
def test_the_model_objects_when_a_rule_is_broken(broken: str) -> None:
    assert objects(replace(RULES, **{broken: False}))


def test_ties_need_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 3: fields compare (stamp, replica); by stamp alone the first arrival wins."""

    def by_stamp_alone(life: cells.Life, fields: object, rank: cells.Rank) -> cells.Life:
        now, edited = dict(life.fields), dict(life.edited)
        for field, value in fields.items():  # type: ignore[attr-defined]
            if rank[0] > edited.get(field, (life.stamp, life.replica))[0]:
                now[field] = value
                edited[field] = rank
        return life._replace(fields=now, edited=edited)

    monkeypatch.setattr(cells, "_edited", by_stamp_alone)
    assert objects(favoured=["edit"])


def test_offsets_of_all_resets_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 6: with the winning reset's offsets alone, what another reset cancelled comes back."""
    right = cells._reset

    def winner_only(life: cells.Life, reset: cells.Reset, rank: cells.Rank) -> cells.Life:
        after = right(life, reset, rank)
        seen = reset.observed.get((life.replica, life.seq))
        if after is life or seen is None:
            return after
        counter = after.counters[reset.field]
        before = life.counters.get(reset.field)
        won = counter.rank == rank
        offsets = dict(seen) if won else dict(before.offsets if before else {})
        counter = counter._replace(offsets=offsets)
        return after._replace(counters={**after.counters, reset.field: counter})

    monkeypatch.setattr(cells, "_reset", winner_only)
    assert objects(favoured=["reset", "add"])


def test_edits_stay_within_the_lives_they_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law L4: an edit that leaks into a life it had not seen depends on the order."""
    right = cells._apply_record

    def leaking(cell: bytes | None, operations: object, author: cells.Author) -> bytes | None:
        everything = {life.replica: 1 << 62 for life in cells.decode_record(cell)} if cell else {}
        kinds = {operation.kind for operation in operations}  # type: ignore[attr-defined]
        if kinds == {5}:
            author = author._replace(vector=everything)
        return right(cell, operations, author)  # type: ignore[arg-type]

    monkeypatch.setattr(cells, "_apply_record", leaking)
    assert objects()


def test_removal_is_of_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law L4: a removal by time instead of by coverage kills an insert it had not seen."""
    right = cells._apply_record

    def by_time(cell: bytes | None, operations: object, author: cells.Author) -> bytes | None:
        if cell is not None and any(op.kind == 3 for op in operations):  # type: ignore[attr-defined]
            older = {
                life.replica: life.seq
                for life in cells.decode_record(cell)
                if life.stamp < author.stamp
            }
            author = author._replace(vector={**author.vector, **older})
        return right(cell, operations, author)  # type: ignore[arg-type]

    monkeypatch.setattr(cells, "_apply_record", by_time)
    assert objects()


def test_one_dot_names_one_transaction() -> None:
    """Rule 1: after a dot was used twice, equal vectors no longer mean equal states."""
    world = World(Random(3), 3).play(40)
    world.settle()
    first = next(tx for tx in world.written if tx.operations[0].kind == 1)
    forged = replace(
        first, operations=tuple(op._replace(body=b"forged") for op in first.operations)
    )
    states = []
    for used in (first, forged):
        state: dict[bytes, bytes] = {}
        admit(state, used)
        states.append(state)
    assert states[0] != states[1]


def test_records_survive_their_encoding() -> None:
    """What travels is what was meant, the vector written as a difference included."""
    for seed in range(30):
        world = World(Random(seed), 4).play(50)
        tips: dict[bytes, dict[bytes, int]] = {}
        for tx in sorted(world.written, key=lambda tx: tx.dot):
            before = tips.get(tx.replica, {})
            record = encode(
                tx.replica, tx.seq, tx.stamp, bytes(16), tx.vector, before, tx.operations
            )
            back = decode(record)
            assert (back.replica, back.seq, back.stamp) == (tx.replica, tx.seq, tx.stamp)
            assert back.vector(before) == {r: s for r, s in tx.vector.items() if s}
            assert tuple(back.operations) == tx.operations
            tips[tx.replica] = dict(tx.vector)


def parts(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, dict):
        value = [*value, *value.values()]
    for part in value if isinstance(value, list | tuple) else ():
        yield from parts(part)


def test_the_packer_that_threads_share_is_given_exact_types(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of others it makes objects: what is collected then runs code, and lets other threads run."""
    packed: Counter[type] = Counter()

    def watched(pack: Callable[[object], bytes], value: object) -> bytes:
        packed.update(map(type, parts(value)))
        return pack(value)

    for module in (cells, records):
        monkeypatch.setattr(module, "_pack", partial(watched, module._pack))
    for seed in range(30):
        world = World(Random(seed), 4).play(50)
        for tx in world.written:
            encode(tx.replica, tx.seq, tx.stamp, bytes(16), tx.vector, {}, tx.operations)
        world.settle()
    assert packed.keys() <= {list, tuple, dict, bytes, str, int, float, bool, type(None)}
    assert packed[list]
    assert packed[dict]


def test_concurrent_inserts_of_a_counter_add_up() -> None:
    """Two devices upsert n = 1 offline: both count (DESIGN section 4, rule 6)."""
    state = None
    for replica in (b"A" * 8, b"B" * 8):
        author = cells.Author(5, replica, 1, {})
        state = cells.apply(
            state, [cells.Operation(4, b"\x02k", Insertion({1: "x"}, {7: 1}))], author
        )
    assert state is not None
    assert cells.visible_fields(state) == {1: "x", 7: 2}
