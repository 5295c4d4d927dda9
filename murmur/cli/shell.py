"""`murmur shell`: statements as they are typed, or from a pipe.

    murmur> SELECT body
       ...> FROM note;
     body
    ──────
     hello
    (1 row, 0.6 ms)
    murmur> BEGIN;
    murmur*> .help

A statement ends with a semicolon; a line that begins with a dot, before a statement, is one of the
shell's own commands (dots.py). Statements commit by themselves; BEGIN opens a transaction, and the
prompt says so. What is open at the end is rolled back.

On a terminal an error is written and the shell goes on; Ctrl-C drops the statement that is typed,
or stops the one that runs. From a pipe the first error ends the shell (unless --keep-going), the
exit code is 1, statements without rows write nothing, and the last one needs no semicolon.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from murmur.cli.answer import answer_of
from murmur.cli.directory import opened
from murmur.cli.dots import COMMANDS, run_command
from murmur.cli.editing import CONTINUATION, Lines, ScriptLines, terminal_lines
from murmur.cli.failure import DONE, FAILED, Fault, complain, describe, note
from murmur.cli.formats import write_answer
from murmur.cli.history import History, history_path
from murmur.cli.output import Output
from murmur.cli.statements import Splitter, Statement
from murmur.errors import MurmurError

if TYPE_CHECKING:
    from murmur.catalog import Catalog
    from murmur.swarm import Swarm

DELIVERY_S = 5.0  # for peers to take what was written

# Without a semicolon these words mean the commands, as people expect who come from elsewhere.
_WORDS = {"quit": ".quit", "exit": ".exit", "help": ".help"}

_KEYWORDS = """
    alter and as asc begin between by case cast check column commit counter create default delete
    desc distinct drop else end explain false foreign from full group having in index inner insert
    into is join key left like limit not null offset on or order outer primary references rename
    returning right rollback select set table then to true union unique update using values when
    where with
"""


def run_shell(
    path: str, *, group: str, listen: str | None, keep_going: bool, files: str | None = None
) -> int:
    """Open the directory and run what comes."""
    interactive = sys.stdin.isatty()
    with opened(path, create=True, group=group, listen=listen) as swarm:
        shell = Shell(
            swarm,
            Output(sys.stdout),
            interactive=interactive,
            keep_going=keep_going,
            files=files,
        )
        try:
            if interactive:
                history = History(history_path(os.environ))
                if history.trouble:
                    note(f"murmur: {history.trouble}")
                shell.greet()
                return shell.run(terminal_lines(history, shell.words, is_complete))
            return shell.run(ScriptLines(sys.stdin.buffer))
        finally:
            shell.close()


def is_complete(text: str) -> bool:
    """Whether nothing of the text waits for a semicolon."""
    if not text.strip() or text.lstrip().startswith(".") or text.strip().lower() in _WORDS:
        return True
    splitter = Splitter()
    splitter.feed(text)
    return splitter.blank


class Shell:
    """One session: its transaction, and how it writes."""

    def __init__(
        self,
        swarm: Swarm,
        output: Output,
        *,
        interactive: bool,
        keep_going: bool = False,
        files: str | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.swarm = swarm
        self.output = output
        self.mode = "table"
        self.timed = interactive
        self._interactive = interactive
        self._keep_going = keep_going
        self._monotonic = monotonic
        self._session = swarm.new_session(files=files)
        self._splitter = Splitter()
        self._leaving = False
        self._failed = False
        self._line = 0

    def greet(self) -> None:
        """Say where one is."""
        from murmur import __version__

        swarm = self.swarm
        self.output.text(
            f"Murmur {__version__}: {swarm.path}, replica {swarm.replica_id}, "
            f"group {swarm.group}. .help lists the commands.\n"
        )

    def run(self, lines: Lines) -> int:
        """Run all lines; the exit code."""
        while not self._leaving:
            self.output.flush()
            text = None
            try:
                text = lines.read(self._prompt())
                if text is None:
                    self._end()
                    break
                for line in text.splitlines(keepends=True):
                    self._take(line, lines)
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                self._splitter.clear()
                self.output.text("\n")
                if text is not None:
                    note("interrupted")
        self.output.flush()
        self._deliver()
        return FAILED if self._failed and not self._interactive else DONE

    def close(self) -> None:
        """End the session; say so if that undoes something."""
        if self._session.in_transaction:
            note("murmur: the transaction was not committed: it is rolled back")
        self._session.close()

    def leave(self) -> None:
        """Stop after this line."""
        self._leaving = True

    def query(self, text: str) -> None:
        """Run a query of the shell's own, and write its rows."""
        with answer_of(self._session.execute(text)) as answer:
            write_answer(answer, self.output, self.mode)

    def say(self, text: str) -> None:
        """Tell whoever sits at the terminal."""
        if self._interactive:
            self.output.text(text + "\n")

    def catalog(self) -> Catalog:
        """The tables as the next statement sees them."""
        from murmur.catalog import Catalog

        transaction = self._session.transaction
        catalog = self.swarm.replica.state if transaction is None else transaction.state
        assert isinstance(catalog, Catalog)
        return catalog

    def words(self) -> Iterator[str]:
        """What can be completed."""
        yield from _KEYWORDS.split()
        yield from COMMANDS
        for table in self.catalog().tables:
            yield table.name
            yield from (column.name for column in table.columns)

    def _prompt(self) -> str:
        if not self._splitter.blank:
            return CONTINUATION
        return "murmur*> " if self._session.in_transaction else "murmur> "

    def _take(self, line: str, lines: Lines) -> None:
        self._line += 1
        if self._leaving:
            return
        word = line.strip()
        if self._splitter.blank and (word.startswith(".") or word.lower() in _WORDS):
            lines.remember(word)
            self._attempt(lambda: run_command(self, _WORDS.get(word.lower(), word)), self._line)
            return
        for statement in self._splitter.feed(line):
            lines.remember(statement.text)
            self._execute(statement)
            if self._leaving:
                return

    def _end(self) -> None:
        """The input is over: a script's last statement may do without its semicolon."""
        statement = self._splitter.finish()
        if self._interactive:
            self.output.text("\n")
        elif statement is not None:
            self._execute(statement)

    def _deliver(self) -> None:
        """Let connected peers have what was written: the network ends with the shell."""
        if not self.swarm.connected_peers():
            return
        try:
            self.swarm.wait_for(timeout=DELIVERY_S)
        except MurmurError as error:
            note(f"murmur: {describe(error)}; the rest follows with the next connection")

    def _execute(self, statement: Statement) -> None:
        started = self._monotonic()

        def took() -> str:
            return _duration(self._monotonic() - started) if self.timed else ""

        def run() -> None:
            with answer_of(self._session.execute(statement.text)) as answer:
                if answer.names or self._interactive or self.timed:
                    write_answer(answer, self.output, self.mode, took=took)
                if self.timed and self.mode != "table":
                    self.output.flush()
                    note(took())

        self._attempt(run, statement.line)

    def _attempt(self, work: Callable[[], None], line: int) -> None:
        """Do the work; if it fails, say so, and go on or leave."""
        try:
            work()
        except BrokenPipeError:
            raise
        except (MurmurError, OSError, Fault) as error:
            self.output.flush()
            message = describe(error)
            if self._interactive:
                note(f"error: {message}")
                return
            complain(f"line {line}: {message}")
            self._failed = True
            self._leaving = self._leaving or not self._keep_going
        self.output.flush()


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 60 else f"{int(seconds // 60)} min {seconds % 60:.0f} s"
