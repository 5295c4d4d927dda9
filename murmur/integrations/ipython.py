"""SQL in notebooks: `%load_ext murmur`, then `%sql` and `%%sql`.

    %sql --connect data/alice            a directory, or a variable that holds a swarm or connection
    %sql SELECT body FROM note           one line; `rows = %sql SELECT ...` keeps the Result
    %%sql                                a cell, shown as a table
    SELECT body FROM note WHERE likes >= :least
    %%sql notes <<                       a cell, kept as a dataframe in `notes` and not shown
    SELECT * FROM note
    %%sql                                several statements: the last one's result is shown
    CREATE TABLE tag (name TEXT); INSERT INTO tag VALUES ('new'); SELECT * FROM tag
    %sql --close

`:name` is the Python variable of that name, passed as a parameter and never pasted into the text.
Each statement commits by itself until BEGIN, so that those before one that fails stay done; what a
statement can be is docs/sql.md's. An error is
shown as its message, with the place in the statement, and without Python's traceback.

    %config SqlMagics.dataframe = "pandas"     or "polars" (the default), "arrow", "result"
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope
from traitlets import Enum

import murmur
from murmur.sql.parser import parse, split_script
from murmur.swarm.result import Result

_ASSIGNMENT = re.compile(r"\s*([^\W\d]\w*)\s*<<(?:\s+|\Z)")
_USAGE = "%sql --connect DIRECTORY-OR-VARIABLE, %sql --close, %sql STATEMENT, %%sql [NAME <<]"


@magics_class
class SqlMagics(Magics):
    """`%sql` and `%%sql`, on one connection for each shell."""

    dataframe = Enum(
        ["polars", "pandas", "arrow", "result"],
        default_value="polars",
        help="What `name <<` keeps: the answer as which kind of frame.",
    ).tag(config=True)

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._connection: murmur.Connection | None = None
        self._own = False  # whether it was opened here, and is closed here

    @needs_local_scope
    @line_cell_magic
    def sql(
        self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None
    ) -> Result | None:
        """Run a statement of SQL, connect with --connect, or let go with --close."""
        variables = {**self.shell.user_ns, **(local_ns or {})}
        word, _, rest = line.strip().partition(" ")
        if word == "--connect":
            self._connect(rest.strip(), variables)
            line = ""
        elif word == "--close":
            self.close()
            line = ""
        elif word.startswith("--") and len(word) > 2:
            raise UsageError(f"{word}: there is no such option; {_USAGE}")
        name, text = _assigned(f"{line}\n{cell}" if cell is not None else line)
        if not text.strip():
            if cell is None and word.startswith("--"):
                return None
            raise UsageError(f"there is no statement; {_USAGE}")
        result = self._run(text, variables)
        if name is None:
            return result
        self.shell.user_ns[name] = self._frame(result)
        return None

    def close(self) -> None:
        """Let go of the connection; what was not committed is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None and self._own:
            connection.close()

    def _connect(self, target: str, variables: Mapping[str, Any]) -> None:
        if not target:
            raise UsageError(f"--connect needs a directory or a variable; {_USAGE}")
        found = variables.get(target) if target.isidentifier() else None
        if found is not None and not isinstance(
            found, murmur.Swarm | murmur.Connection | str | os.PathLike
        ):
            raise UsageError(
                f"{target} is of type {type(found).__name__}, not a swarm, connection or path"
            )
        self.close()
        if isinstance(found, murmur.Connection):
            self._connection, self._own = found, False
        else:
            chosen = target.strip("'\"") if found is None else found
            with _short():
                self._connection = murmur.connect(chosen, autocommit=True)
            self._own = True

    def _run(self, text: str, variables: Mapping[str, Any]) -> Result:
        connection = self._connection
        if connection is None:
            raise UsageError(f"no connection is open; {_USAGE}")
        with _short():
            *before, last = split_script(text) or [text]
            for statement in before:
                connection.sql(statement, _parameters(statement, variables) or ()).close()
            return connection.sql(last, _parameters(last, variables) or ())

    def _frame(self, result: Result) -> Any:
        match self.dataframe:
            case "pandas":
                return result.df()
            case "arrow":
                return result.arrow()
            case "polars":
                return result.pl()
        return result


def load_ipython_extension(shell: Any) -> None:
    """What %load_ext calls."""
    magics = SqlMagics(shell)
    shell.register_magics(magics)
    atexit.register(magics.close)


def unload_ipython_extension(shell: Any) -> None:
    """What %unload_ext calls."""
    magics = shell.magics_manager.registry.get("SqlMagics")
    if isinstance(magics, SqlMagics):
        magics.close()
        atexit.unregister(magics.close)


def _assigned(text: str) -> tuple[str | None, str]:
    """`name << statement` as name and statement."""
    found = _ASSIGNMENT.match(text)
    return (None, text) if found is None else (found[1], text[found.end() :])


def _parameters(text: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables that the statement names."""
    names = [name for name in parse(text).parameters.names if isinstance(name, str)]
    missing = [name for name in names if name not in variables]
    if missing:
        listed = ", ".join(f":{name}" for name in missing)
        raise murmur.InvalidInput(f"{listed}: there is no such variable")
    return {name: _plain(variables[name]) for name in names}


def _plain(value: Any) -> Any:
    """A scalar of numpy as Python's; types are strict, and a notebook is full of them."""
    return value.item() if type(value).__module__ == "numpy" and not value.shape else value


@contextmanager
def _short() -> Iterator[None]:
    """Errors of Murmur are shown as what is wrong, without a traceback."""
    try:
        yield
    except murmur.Error as error:
        shown = f"{type(error).__name__}: {error}".splitlines()
        error._render_traceback_ = lambda: shown  # type: ignore[attr-defined]  # IPython's hook
        raise
