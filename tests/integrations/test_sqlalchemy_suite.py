"""SQLAlchemy's dialect compliance suite passes."""

from __future__ import annotations

import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "alchemy_suite"
ROOT = Path(__file__).parents[2]


def run_suite(directory: Path, *arguments: str, timeout_s: float) -> tuple[int, str]:
    """How many of its tests passed, and the summary's last line."""
    command = [sys.executable, "-m", "pytest", "-c", str(SUITE / "setup.cfg"), "-q", "--tb=short"]
    command += ["--rootdir", str(SUITE), str(SUITE / "test_suite.py"), *arguments]
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SUITE}"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    line = done.stdout.rstrip().splitlines()[-1]
    passed = re.search(r"(\d+) passed", line)
    assert passed is not None, line
    return int(passed[1]), line


def test_what_is_left_out_has_a_reason() -> None:
    features = runpy.run_path(str(SUITE / "requirements.py"))
    listed = {*features["OPEN"], *features["CLOSED"]}
    from sqlalchemy.testing.requirements import SuiteRequirements

    for name, feature in vars(SuiteRequirements).items():
        getter = getattr(feature, "fget", None)
        if getter is not None and "return exclusions.closed()" in inspect.getsource(getter):
            assert name in listed, name


@pytest.mark.timeout(600)
def test_all_of_it(tmp_path: Path) -> None:
    passed, line = run_suite(tmp_path, timeout_s=500)
    assert passed > 1250, line
