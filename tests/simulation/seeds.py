"""Seeds: which of them a run tries, and how a failure is replayed.

    MURMUR_SEED=17 python -m pytest tests/simulation/test_convergence.py -k a_bad_day

A failing scenario ends with such a line. It names a test that takes its seeds from `seeds`.
"""

from __future__ import annotations

import os
from collections.abc import Callable


def seeds(these: range) -> list[int]:
    """The one that was asked for, or all."""
    chosen = os.environ.get("MURMUR_SEED")
    return [int(chosen)] if chosen else list(these)


def run(scenario: Callable[[int], object], seed: int, where: str) -> None:
    """Run the scenario; say how to run it again if it fails. `where` is for pytest."""
    try:
        scenario(seed)
    except BaseException as error:
        command = f"MURMUR_SEED={seed} python -m pytest {where}"
        error.add_note(f"seed {seed}; replay it with: {command}")
        raise
