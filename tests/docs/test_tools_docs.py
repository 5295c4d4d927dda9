"""The sessions in docs/tools.md are true ones."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from sqlalchemy.dialects import registry

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"


def test_the_sessions_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register("murmur", "murmur.integrations.sqlalchemy", "MurmurDialect")
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.attempted > 20
    assert result.failed == 0
