"""What holds for every test.

Hypothesis has no deadlines, since machines are noisy. `make test` tries the same examples each
time, so that it fails for a change and not by chance; `make soak` tries new ones.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("test", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Choose Hypothesis' profile by the marker that was asked for."""
    settings.load_profile("soak" if config.option.markexpr == "soak" else "test")
