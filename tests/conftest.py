"""What holds for every test.

Hypothesis has no deadlines, since machines are noisy. `make test` tries the same examples each
time, so that it fails for a change and not by chance; `make soak` tries new ones.

Ctrl-C reaches tests and the processes that they start also where this run was started in the
background, by a shell that ignores it there.

Nodes meet on this host in a directory of the run's own: another run beside it is not seen.
"""

from __future__ import annotations

import gc
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("test", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Choose Hypothesis' profile by the marker that was asked for, and hear Ctrl-C."""
    settings.load_profile("soak" if config.option.markexpr == "soak" else "test")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector leave out the tests themselves: it would walk over them again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What is left goes as ever when the interpreter ends."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def short_directory() -> Iterator[Callable[[], str]]:
    """Makes directories whose names leave room for that of a socket."""
    made = []

    def make() -> str:
        made.append(tempfile.mkdtemp(prefix="mm", dir="/tmp"))
        return made[-1]

    yield make
    for each in made:
        shutil.rmtree(each, ignore_errors=True)


@pytest.fixture
def short_path(short_directory: Callable[[], str]) -> Path:
    """A directory of the test's own with such a name."""
    return Path(short_directory())


@pytest.fixture(scope="session", autouse=True)
def _own_runtime_directory(short_directory: Callable[[], str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", short_directory())
        yield
