"""Every test of the kernel that asks for `kernel` runs on both of its twins."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.kvcore.kernel.folder import KERNELS, load_kernel


@pytest.fixture(scope="session", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    """A kernel: its classes and functions by name."""
    return load_kernel(request.param)
