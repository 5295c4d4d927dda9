"""Damage to any file of an engine: the right answer, or an error that says where; then repair.

Bits flipped, bytes zeroed, cut, inserted, lost, swapped; files exchanged, removed, duplicated. No
wrong answer, no scan that ends early; `check` finds what reading finds. `repair` saves what is
sound, reports the rest with its keys, and invents nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import pytest

from murmur.errors import Corruption
from murmur.kvcore.engine import Engine
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.repair import repair
from tests.kvcore.engine_history import (
    CONFIGURATIONS,
    KERNELS,
    KEYS,
    NUMBER,
    History,
    State,
    replay,
    use_kernel,
)

STEPS = 60
ALL = [NUMBER, *KEYS]


@pytest.fixture(params=KERNELS)
def kernel_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    use_kernel(monkeypatch, name)
    return name


class Made(NamedTuple):
    """An engine that is to be damaged."""

    history: History
    storage: MemoryStorage
    closed: bool

    @property
    def expected(self) -> State:
        return self.history.states[-1]

    def names(self) -> list[str]:
        """Its files, but for those that checkpoints share."""
        return [f"{each}/{name}" for each in ("tree", "log") for name in self.storage.list(each)]


def made(seed: int, configuration: str, *, closed: bool) -> Made:
    """One that was closed, or killed when all it had was durable."""
    storage = MemoryStorage()
    history = History(2 * seed, storage, configuration)
    history.run(STEPS)
    for _ in range(4):
        history.write()
    engine = history.usable
    if closed:
        engine.close()
    else:
        engine.sync()
        storage = storage.clone()
        history.abandon()
    return Made(history, storage, closed)


def damaged(content: bytes, rng: Random) -> tuple[str, bytes]:
    """A file's content, damaged in one of many ways."""
    at, other = rng.randrange(len(content)), rng.randrange(len(content))
    length = rng.choice((1, 4, 30, 200))
    piece = content[at : at + length]
    kind = rng.choice(("bit", "zeros", "cut", "lost", "inserted", "swapped", "random", "longer"))
    match kind:
        case "bit":
            new = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        case "zeros":
            new = content[:at] + bytes(len(piece)) + content[at + length :]
        case "cut":
            new = content[:at]
        case "lost":
            new = content[:at] + content[at + length :]
        case "inserted":
            new = content[:at] + rng.randbytes(length) + content[at:]
        case "swapped":
            swapped = bytearray(content)
            moved = content[other : other + len(piece)]
            swapped[other : other + len(piece)] = piece
            swapped[at : at + len(moved)] = moved
            new = bytes(swapped)
        case "random":
            new = content[:at] + rng.randbytes(len(piece)) + content[at + length :]
        case _:
            new = content + rng.randbytes(length)
    return f"{kind} at {at}, {length}", new


def damages(engine: Made, seed: int, count: int) -> Iterator[tuple[str, MemoryStorage]]:
    """So many damaged copies, and what was done to each."""
    rng = Random(seed)
    names = engine.names()
    for number in range(count):
        storage = engine.storage.clone()
        name, other = names[number % len(names)], rng.choice(names)
        content = storage.content(name)
        kind = rng.randrange(12)
        if kind == 0:
            storage.remove(name)
            yield f"{name} removed", storage
        elif kind == 1 and storage.content(other) != content:
            storage.corrupt(name, storage.content(other))
            storage.corrupt(other, content)
            yield f"{name} and {other} exchanged", storage
        elif kind == 2 and storage.content(other) != content:
            storage.corrupt(name, storage.content(other))
            yield f"{other} copied over {name}", storage
        elif kind == 3:
            stem, dot, suffix = name.rpartition(".")
            copy = f"{stem}9{dot}{suffix}" if dot else name + "9"
            storage.rename(name, copy)
            storage.link(copy, storage, name)
            yield f"{name} duplicated as {copy}", storage
        elif content:
            what, new = damaged(content, rng)
            if new != content:
                storage.corrupt(name, new)
                yield f"{name}: {what}", storage


def named(error: Corruption) -> None:
    assert error.path.startswith("memory/"), error
    assert error.offset >= 0
    assert error.reason


def judged(engine: Made, storage: MemoryStorage) -> bool:
    """Whether reading finds nothing wrong; a wrong answer fails."""
    try:
        opened = engine.history.open(storage)
    except Corruption as error:
        named(error)
        return False
    try:
        return read(engine, opened)
    finally:
        engine.history.engine = opened
        engine.history.abandon()


def read(engine: Made, opened: Engine) -> bool:
    expected, right = engine.expected, True
    if not engine.closed:
        # Of the log of a killed engine the end may have been lost, as if never written.
        try:
            number = int(opened.get(NUMBER) or b"0")
        except Corruption as error:
            named(error)
        else:
            expected = engine.history.states[number]
    for key in ALL:
        try:
            assert opened.get(key) == expected.get(key)
        except Corruption as error:
            named(error)
            right = False
    for reverse in (False, True):
        found: list[tuple[bytes, bytes]] = []
        pairs = sorted(expected.items(), reverse=reverse)
        try:
            found.extend(opened.scan(reverse=reverse))  # what came before an error is kept
            assert found == pairs
        except Corruption as error:
            named(error)
            right = False
            assert found == pairs[: len(found)]
    problems = list(opened.check())
    assert right or problems, "reading finds what check does not"
    return right


def sweep(seed: int, configuration: str, count: int, *, closed: bool) -> int:
    """Damage so many copies of one engine; how many were not harmless."""
    engine = made(seed, configuration, closed=closed)
    assert judged(engine, engine.storage.clone())
    found = 0
    for what, storage in damages(engine, seed, count):
        line = f"sweep({seed}, {configuration!r}, {count}, closed={closed}): {what}"
        with replay(line):
            found += not judged(engine, storage)
    return found


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_damage_gives_the_right_answer_or_an_error(
    kernel_name: str, configuration: str, closed: bool
) -> None:
    count = 240 if kernel_name == "native" else 60  # 2,400 in all
    assert sweep(1, configuration, count, closed=closed) > count // 3


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_much_damage(kernel_name: str, configuration: str, closed: bool) -> None:
    for seed in range(100, 130):
        count = 800 if kernel_name == "native" else 100
        sweep(seed, configuration, count, closed=closed)


# -- repair


def mended(engine: Made, storage: MemoryStorage) -> int:
    """Repair a copy, and judge what is saved; how many losses were reported."""
    target = storage.at("mended")
    report = repair(storage, target)
    losses = report.losses
    opened = engine.history.open(target)
    try:
        found = dict(opened.scan())
        assert list(opened.check()) == []
    finally:
        engine.history.engine = opened
        engine.history.abandon()
    written = {pair for state in engine.history.states for pair in state.items()}
    assert written.issuperset(found.items()), "made up"
    differing = {key for key in ALL if found.get(key) != engine.expected.get(key)}
    unknown = any(loss.first is None for loss in losses)
    for key in differing:
        covered = any(
            loss.first is not None and loss.first <= key <= (loss.last or b"") for loss in losses
        )
        assert unknown or covered, (key, losses)
    return len(losses)


def mend_all(seed: int, configuration: str, count: int) -> int:
    engine = made(seed, configuration, closed=True)
    assert mended(engine, engine.storage.clone()) == 0
    losses = 0
    for what, storage in damages(engine, seed, count):
        with replay(f"mend_all({seed}, {configuration!r}, {count}): {what}"):
            losses += mended(engine, storage)
    return losses


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_repair_saves_what_is_sound_and_reports_the_rest(
    kernel_name: str, configuration: str
) -> None:
    count = 100 if kernel_name == "native" else 30
    assert mend_all(2, configuration, count) > count // 4


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_much_is_repaired(kernel_name: str, configuration: str) -> None:
    for seed in range(100, 120):
        mend_all(seed, configuration, 500 if kernel_name == "native" else 100)
