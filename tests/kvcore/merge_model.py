"""Random histories of several replicas, and what a set of transactions means, found without order.

`World` plays a history: replicas with skewed clocks open transactions on snapshots, commit them,
and admit each other's in any causal order. `meaning` says what a set of transactions amounts to by
looking at the set alone. The laws compare the two, over many other causal orders of the same set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from murmur.kvcore import cell as cells
from murmur.kvcore.causality import dominates
from murmur.kvcore.clock import HybridClock, ManualClock
from murmur.kvcore.record import (
    COUNT,
    DELETE,
    EDIT,
    INSERT,
    PUT,
    REMOVE,
    Add,
    Counts,
    Insertion,
    Operation,
    Reset,
)

REGISTERS = (b"\x01k",)
RECORDS = (b"\x02a", b"\x02b")
FIELDS = (1, 2)
COUNTER = 7


@dataclass(frozen=True)
class Tx:
    replica: bytes
    seq: int
    stamp: int
    vector: Mapping[bytes, int]
    operations: tuple[Operation, ...]

    @property
    def dot(self) -> tuple[bytes, int]:
        return self.replica, self.seq

    def on(self, key: bytes) -> tuple[Operation, ...]:
        return tuple(operation for operation in self.operations if operation.key == key)


@dataclass(frozen=True)
class Rules:
    """The rules of DESIGN section 4 that live outside of the cells; a test switches one off."""

    vector_of_snapshot: bool = True  # rule 3
    first_committer_wins: bool = True  # rule 2
    admission_moves_clock: bool = True  # rule 4
    exactly_once: bool = True  # rule 5: replay starts strictly after the mark
    causal: bool = True  # law L3


RULES = Rules()


@dataclass
class Open:
    state: dict[bytes, bytes]
    vector: dict[bytes, int]
    key: bytes
    action: str
    value: int


@dataclass
class Node:
    id: bytes
    clock: HybridClock
    wall: ManualClock
    state: dict[bytes, bytes] = field(default_factory=dict)
    vector: dict[bytes, int] = field(default_factory=dict)
    admitted: list[Tx] = field(default_factory=list)
    open: list[Open] = field(default_factory=list)


class Surprise(AssertionError):
    """The author of a write does not see what it has just written."""


class World:
    def __init__(
        self, rng: Random, replicas: int, rules: Rules = RULES, favoured: Sequence[str] = ()
    ) -> None:
        self.rng = rng
        self.favoured = favoured
        self.rules = rules
        self.written: list[Tx] = []
        self.nodes = []
        for number in range(replicas):
            wall = ManualClock(1_000_000 + rng.choice((0, 0, 0, 50, -50)))
            node = Node(bytes([65 + number]) * 8, HybridClock(wall), wall)
            self.nodes.append(node)

    def play(self, steps: int) -> World:
        for _ in range(steps):
            node = self.rng.choice(self.nodes)
            step = self.rng.random()
            if step < 0.3 and len(node.open) < 2:
                self._begin(node)
            elif step < 0.6 and node.open:
                self._commit(node, node.open.pop(self.rng.randrange(len(node.open))))
            elif step < 0.65:
                node.wall.advance(1)
            else:
                self._deliver(node)
        for node in self.nodes:
            while node.open:
                self._commit(node, node.open.pop())
        return self

    def settle(self) -> None:
        """Bring everything to everybody."""
        for node in self.nodes:
            while self._deliver(node):
                pass

    def _begin(self, node: Node) -> None:
        key = self.rng.choice(REGISTERS + RECORDS * 2)
        if key in REGISTERS:
            actions = ["put", "put", "delete"]
        elif key in node.state:
            actions = ["edit", "edit", "add", "add", "reset", "remove", "replace"]
        else:
            actions = ["insert"]
        favoured = [action for action in actions if action in self.favoured]
        action = self.rng.choice(actions + favoured * 8)
        value = self.rng.randrange(1, 1000)
        node.open.append(Open(dict(node.state), dict(node.vector), key, action, value))

    def _commit(self, node: Node, tx: Open) -> None:
        blind = tx.action in ("put", "delete", "add")
        changed = node.state.get(tx.key) != tx.state.get(tx.key)
        if self.rules.first_committer_wins and changed and not blind:
            return
        vector = tx.vector if self.rules.vector_of_snapshot else dict(node.vector)
        seq = node.vector.get(node.id, 0) + 1
        operations = tuple(_operations(tx))
        done = Tx(node.id, seq, node.clock.tick(), vector, operations)
        self.written.append(done)
        before = node.state.get(tx.key)
        self._admit(node, done)
        self._check_visible(node, tx, before, done)

    def _check_visible(self, node: Node, tx: Open, before: bytes | None, done: Tx) -> None:
        """What a user has committed is what the user then reads."""
        after = node.state.get(tx.key)
        if tx.action in ("put", "delete"):
            unseen = {
                (sibling.replica, sibling.seq)
                for sibling in (cells.decode_register(before) if before else ())
                if tx.vector.get(sibling.replica, 0) < sibling.seq
            }
            left = {(s.replica, s.seq) for s in (cells.decode_register(after) if after else ())}
            if left - {done.dot} != unseen:
                raise Surprise(f"{tx.action} by {done.dot} leaves {left}, unseen were {unseen}")
        if tx.action == "delete":
            return
        if tx.action == "put":
            seen: object = cells.visible_value(after) if after else None
            expected: object = str(tx.value).encode()
        elif tx.action in ("insert", "replace", "edit"):
            seen = cells.visible_fields(after).get(1) if after else None
            expected = tx.value
        elif tx.action == "reset":
            seen = cells.visible_fields(after).get(COUNTER) if after else None
            expected = tx.value
        elif tx.action == "remove":
            # Only what the transaction had seen is removed.
            lives = cells.decode_record(before) if before else ()
            seen = len(cells.decode_record(after)) if after else 0
            expected = sum(tx.vector.get(life.replica, 0) < life.seq for life in lives)
        else:
            return
        if seen != expected:
            raise Surprise(f"{tx.action} of {tx.value} by {done.dot}: sees {seen}, not {expected}")

    def _deliver(self, node: Node) -> bool:
        ready = [
            tx
            for tx in self.written
            if tx.seq == node.vector.get(tx.replica, 0) + 1
            and (dominates(node.vector, tx.vector) or not self.rules.causal)
        ]
        if not ready:
            return False
        tx = self.rng.choice(ready)
        self._admit(node, tx)
        if not self.rules.exactly_once and self.rng.random() < 0.2:
            node.vector[tx.replica] -= 1
            self._admit(node, tx)
        return True

    def _admit(self, node: Node, tx: Tx) -> None:
        admit(node.state, tx)
        node.vector[tx.replica] = tx.seq
        node.admitted.append(tx)
        if self.rules.admission_moves_clock:
            node.clock.observe(tx.stamp)


def admit(state: dict[bytes, bytes], tx: Tx) -> None:
    """Apply a transaction with the code under test."""
    author = cells.Author(tx.stamp, tx.replica, tx.seq, tx.vector)
    for key in dict.fromkeys(operation.key for operation in tx.operations):
        after = cells.apply(state.get(key), tx.on(key), author)
        if after is None:
            state.pop(key, None)
        else:
            state[key] = after


def causal_order(written: Sequence[Tx], rng: Random) -> Iterator[Tx]:
    """The transactions in a random order that respects what each had seen."""
    left = list(written)
    vector: dict[bytes, int] = {}
    while left:
        ready = [
            tx
            for tx in left
            if tx.seq == vector.get(tx.replica, 0) + 1 and dominates(vector, tx.vector)
        ]
        tx = rng.choice(ready)
        left.remove(tx)
        vector[tx.replica] = tx.seq
        yield tx


def meaning(transactions: Iterable[Tx]) -> dict[bytes, Any]:
    """What the set amounts to, key by key, found without regard to any order."""
    known = list(transactions)
    keys = {operation.key for tx in known for operation in tx.operations}
    meant: dict[bytes, Any] = {}
    for key in keys:
        elements = _elements(known, key)
        if elements:
            meant[key] = elements
    return meant


def observed(state: Mapping[bytes, bytes]) -> dict[bytes, Any]:
    """A state in the words of `meaning`."""
    told: dict[bytes, Any] = {}
    for key, cell in state.items():
        if key[0] == 1:
            told[key] = {
                (s.replica, s.seq): (s.stamp, s.value) for s in cells.decode_register(cell)
            }
        else:
            told[key] = {
                (life.replica, life.seq): (
                    life.stamp,
                    dict(life.fields),
                    {field: counter.total() for field, counter in life.counters.items()},
                )
                for life in cells.decode_record(cell)
            }
    return told


def _covered(by: Tx, dot: tuple[bytes, int]) -> bool:
    return by.vector.get(dot[0], 0) >= dot[1]


def _elements(known: list[Tx], key: bytes) -> dict[tuple[bytes, int], Any]:
    removers = [tx for tx in known if any(op.kind in (PUT, DELETE, REMOVE) for op in tx.on(key))]
    elements = {}
    for tx in known:
        if any(_covered(remover, tx.dot) for remover in removers):
            continue
        for operation in tx.on(key):
            if operation.kind == PUT:
                elements[tx.dot] = (tx.stamp, operation.body)
            elif operation.kind == INSERT:
                elements[tx.dot] = (tx.stamp, _fields(known, key, tx), _counters(known, key, tx))
    return elements


def _fields(known: list[Tx], key: bytes, born: Tx) -> dict[int, Any]:
    insertion = next(op.body for op in born.on(key) if op.kind == INSERT)
    writes = {
        name: [((born.stamp, born.replica), value)] for name, value in insertion.fields.items()
    }
    for tx in known:
        for operation in tx.on(key):
            if operation.kind == EDIT and _covered(tx, born.dot):
                for name, value in operation.body.items():
                    writes.setdefault(name, []).append(((tx.stamp, tx.replica), value))
    return {name: max(values)[1] for name, values in writes.items()}


def _counters(known: list[Tx], key: bytes, born: Tx) -> dict[int, int]:
    insertion = next(op.body for op in born.on(key) if op.kind == INSERT)
    bases = {
        name: [((born.stamp, born.replica), value)] for name, value in insertion.counters.items()
    }
    sums: dict[tuple[int, bytes, int], int] = {}
    offsets: dict[tuple[int, bytes, int], int] = {}
    for tx in known:
        for operation in tx.on(key):
            if operation.kind != COUNT:
                continue
            for add in operation.body.adds:
                if add.life == born.dot:
                    at = (add.field, tx.replica, add.amount > 0)
                    sums[at] = sums.get(at, 0) + abs(add.amount)
                    bases.setdefault(add.field, [((born.stamp, born.replica), 0)])
            for reset in operation.body.resets:
                seen = reset.observed.get(born.dot)
                if seen is None:
                    continue
                value = reset.value if reset.life == born.dot else 0
                bases.setdefault(reset.field, [((born.stamp, born.replica), 0)])
                bases[reset.field].append(((tx.stamp, tx.replica), value))
                for replica, (plus, minus) in seen.items():
                    for positive, amount in ((True, plus), (False, minus)):
                        at = (reset.field, replica, positive)
                        offsets[at] = max(offsets.get(at, 0), amount)
    totals = {name: max(values)[1] for name, values in bases.items()}
    for (name, replica, positive), amount in sums.items():
        left = amount - offsets.get((name, replica, positive), 0)
        totals[name] += left if positive else -left
    return totals


def _operations(tx: Open) -> list[Operation]:
    cell = tx.state.get(tx.key)
    key, value = tx.key, tx.value
    if tx.action == "put":
        return [Operation(PUT, key, str(value).encode())]
    if tx.action == "delete":
        return [Operation(DELETE, key, b"")]
    born = Insertion(dict.fromkeys(FIELDS, value), {COUNTER: value % 10})
    if tx.action == "insert":
        return [Operation(INSERT, key, born)]
    if tx.action == "replace":
        return [Operation(REMOVE, key, b""), Operation(INSERT, key, born)]
    if tx.action == "remove":
        return [Operation(REMOVE, key, b"")]
    if tx.action == "edit":
        return [Operation(EDIT, key, {1: value} if value % 2 else {1: value, 2: value})]
    assert cell is not None
    lives = cells.decode_record(cell)
    named = (lives[0].replica, lives[0].seq)
    if tx.action == "add":
        amount = value if value % 3 else -value
        return [Operation(COUNT, key, Counts([Add(COUNTER, named, amount)], []))]
    seen = cells.observed_totals(lives, COUNTER)
    return [Operation(COUNT, key, Counts([], [Reset(COUNTER, value, named, seen)]))]
