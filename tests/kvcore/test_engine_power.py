"""The engine loses power at every storage operation, and again while it recovers.

Both models of what a disk forgets (memory_disk.py), beside the disk that forgets all that was not
synced. What is left opens, holds a prefix of the batches, each whole, with all that was promised
by its durability, is sound to the last byte, and can be written on.
"""

from __future__ import annotations

from random import Random

import pytest

from murmur.errors import Poisoned
from murmur.kvcore import log as log_module
from murmur.kvcore.memory_storage import MemoryStorage, PowerCut
from tests.kvcore.engine_history import CONFIGURATIONS, KERNELS, History, replay, use_kernel

STEPS = 30
RECOVERIES = 3  # so often the power is cut at most while one survivor is opened


@pytest.fixture(params=KERNELS)
def kernel_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    use_kernel(monkeypatch, name)
    monkeypatch.setattr(log_module, "PREALLOCATED", 100)
    return name


def run_until(seed: int, configuration: str, cut: int | None) -> tuple[History, bool]:
    """A history up to a cut; whether there was one."""
    history = History(seed, MemoryStorage(preallocates=seed % 3 == 1), configuration)
    assert isinstance(history.storage, MemoryStorage)
    history.storage.cut_power(cut)
    try:
        history.run(STEPS)
    except PowerCut:
        return history, True
    except Poisoned as error:  # the background came to the cut first
        if not isinstance(error.__cause__, PowerCut):
            raise
        return history, True
    finally:
        history.storage.cut_power(0)  # what still runs, writes nothing any more
        history.abandon()
    return history, False


def recovered(history: History, storage: MemoryStorage, rng: Random) -> MemoryStorage:
    """The storage after openings that lost power as well."""
    for _ in range(rng.randint(0, RECOVERIES)):
        storage.cut_power(rng.randrange(1, 40))
        engine = None
        try:
            engine = history.open(storage)
        except PowerCut:
            pass
        finally:
            storage.cut_power(0)
            if engine is not None:
                history.engine = engine
                history.abandon()
        storage = storage.crash(rng)
    return storage


def survive(seed: int, configuration: str, cut: int, chance: int) -> bool:
    """One power cut and one thing that may be left of it; whether the history came so far."""
    history, was_cut = run_until(seed, configuration, cut)
    if was_cut:
        judge(history, seed, configuration, cut, chance)
    return was_cut


def judge(history: History, seed: int, configuration: str, cut: int, chance: int) -> None:
    with replay(f"survive({seed}, {configuration!r}, {cut}, {chance})"):
        storage = history.storage
        assert isinstance(storage, MemoryStorage)
        rng = Random(f"{seed} {configuration} {cut} {chance}")
        survivor = storage.crash(rng if chance else None)
        survivor = recovered(history, survivor, rng)
        history.examine(survivor, history.floor)
        if chance == 1:
            history.examine_checkpoints(survivor)


def sweep(seed: int, configuration: str, *, step: int, chances: int) -> int:
    """Cut the power at every `step`-th operation; how many survivors were looked at."""
    cut, states = 1 + seed % step, 0
    while True:
        history, was_cut = run_until(seed, configuration, cut)
        if not was_cut:
            return states
        for chance in range(chances):
            judge(history, seed, configuration, cut, chance)
        states += chances
        cut += step


states_seen: dict[str, int] = {}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_whatever_a_power_cut_leaves_is_a_prefix_with_all_that_was_promised(
    kernel_name: str, configuration: str, seed: int
) -> None:
    states_seen[kernel_name] = states_seen.get(kernel_name, 0) + sweep(
        seed, configuration, step=15 if kernel_name == "native" else 90, chances=3
    )


def test_a_thousand_states_were_seen(request: pytest.FixtureRequest) -> None:
    ran = [item.name for item in request.session.items if "a_prefix" in item.name]
    if len(ran) == 2 * len(CONFIGURATIONS) * len(KERNELS):
        assert sum(states_seen.values()) >= 1000, states_seen


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(100, 140))
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_power_is_cut_at_every_operation(kernel_name: str, configuration: str, seed: int) -> None:
    step = 1 if kernel_name == "native" else 7
    assert sweep(seed, configuration, step=step, chances=4) > 100
