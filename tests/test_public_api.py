"""What `import murmur` shows, and what it leaves unloaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import murmur

HEAVY = ("sqlglot", "duckdb", "polars", "pyarrow", "pandas", "numpy", "aioquic", "cryptography")


def loaded_after(program: str, *arguments: str) -> set[str]:
    """Which of the heavy libraries a fresh process has loaded after the program."""
    tail = f"\nimport sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program + tail, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_importing_loads_nothing_heavy() -> None:
    assert loaded_after("import murmur; murmur.Locked; murmur.apilevel; dir(murmur)") == set()
    assert loaded_after("import murmur.errors") == set()


def test_keys_and_values_load_nothing_heavy(tmp_path: Path) -> None:
    program = """
import sys, murmur
with murmur.open(sys.argv[1]) as swarm:
    swarm.put("a", b"1")
    with swarm.batch() as batch:
        batch.put("b", b"2")
    assert list(swarm.scan()) == [("a", b"1"), ("b", b"2")]
"""
    assert loaded_after(program, str(tmp_path / "a")) == set()


def test_narrow_sql_loads_the_parser_and_wide_sql_the_engine(tmp_path: Path) -> None:
    program = """
import sys, murmur
with murmur.open(sys.argv[1]) as swarm:
    swarm.sql("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY)")
    connection = murmur.connect(swarm)
    connection.execute("SELECT * FROM t WHERE id = 1").fetchall()
    connection.close()
"""
    assert loaded_after(program, str(tmp_path / "a")) == {"sqlglot"}
    wide = program + '    swarm.sql("SELECT rank() OVER (ORDER BY id) FROM t").fetchall()\n'
    assert {"sqlglot", "duckdb", "pyarrow"} <= loaded_after(wide, str(tmp_path / "a"))


def test_every_public_name_is_there() -> None:
    for name in murmur.__all__:
        assert getattr(murmur, name) is not None
        assert name in dir(murmur)
    assert len(set(murmur.__all__)) == len(murmur.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'murmur' has no attribute 'nope'"):
        murmur.nope  # noqa: B018 - the attribute is the point


def test_the_module_is_a_pep_249_module() -> None:
    names = """
        apilevel threadsafety paramstyle connect
        Warning Error InterfaceError DatabaseError DataError OperationalError IntegrityError
        InternalError ProgrammingError NotSupportedError
        Date Time Timestamp DateFromTicks TimeFromTicks TimestampFromTicks Binary
        STRING BINARY NUMBER DATETIME ROWID
    """
    for name in names.split():
        assert name in murmur.__all__


def test_the_version_is_that_of_the_distribution() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert f'version = "{murmur.__version__}"' in text
