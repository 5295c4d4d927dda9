"""Running the command: in this process, in one of its own, and on a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from murmur.cli import main
from tests.patience import PATIENCE_S


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str
    raw: bytes


def run(*argv: object, stdin: str | bytes = b"") -> Ran:
    """Run a command in this process."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    before = sys.stdin, sys.stdout, sys.stderr
    out, err = io.BytesIO(), io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(given), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8")
    sys.stderr = err
    try:
        code = main([str(argument) for argument in argv])
        sys.stdout.flush()
        raw = out.getvalue()
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    return Ran(code, raw.decode(errors="replace"), err.getvalue(), raw)


def query(path: object, statement: str, *options: object) -> list[list[str]]:
    """The rows of a statement, as CSV has them."""
    import csv

    ran = run("sql", path, statement, "--format", "csv", *options)
    assert ran.code == 0, ran.err
    return list(csv.reader(io.StringIO(ran.out, newline="")))[1:]


def environment(**extra: str) -> dict[str, str]:
    """The environment of a command in a process of its own."""
    root = str(Path(__file__).parents[2])
    inherited = {key: value for key, value in os.environ.items() if key != "MURMUR_HISTORY"}
    return {**inherited, "PYTHONPATH": root, "PYTHONWARNINGS": "error", **extra}


def start(*argv: object, **extra: str) -> Running:
    """Start a command in a process of its own, with a pipe to each of its streams."""
    return Running([sys.executable, "-m", "murmur", *map(str, argv)], environment(**extra))


class Running:
    """A command that runs. Its lines are read as they come."""

    def __init__(self, argv: list[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        self.seen: list[str] = []
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self, pattern: str = "") -> str:
        """The next line of stdout in which the pattern is found."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except Empty:
                self.process.kill()
                raise AssertionError(f"no {pattern!r} in {self.seen}, {self.end()}") from None
            self.seen.append(line)
            if re.search(pattern, line):
                return line

    def say(self, text: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def end(self, signal_number: int | None = None) -> tuple[int, str]:
        """Wait for its end, after a signal if one is given; the exit code and stderr."""
        if signal_number is not None:
            self.process.send_signal(signal_number)
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        err = self.process.stderr.read()
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code, err

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))


# The child makes the terminal its own, so that Ctrl-C reaches it as a signal.
_LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
_WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
from murmur.cli import main
from tests.patience import PATIENCE_S
sys.exit(main())
"""


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.shown = ""  # all that was ever written

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def expect(self, pattern: str, *, patience_s: float = PATIENCE_S) -> str:
        """Wait until the pattern is found; what was shown up to there is taken away."""
        deadline = time.monotonic() + patience_s
        while True:
            found = re.search(pattern, self._plain(), re.DOTALL)
            if found:
                before, self._pending = found.string[: found.end()], found.string[found.end() :]
                return before
            assert time.monotonic() < deadline, f"no {pattern!r} in {self._plain()!r}"
            self._wait(0.2)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        while self._wait(PATIENCE_S):
            pass
        return self.process.wait(PATIENCE_S)

    _pending = ""

    def _plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._pending)

    def _wait(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end open any more
            return False
        text = data.decode(errors="replace")
        self._pending += text
        self.shown += text
        return bool(data)


@contextmanager
def terminal(
    *argv: object, columns: int = 80, without: tuple[str, ...] = (), **extra: str
) -> Iterator[Terminal]:
    """Run a command on a terminal, some modules of Python missing."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    program = ["-c", _WITHOUT.format(names=without)] if without else ["-m", "murmur"]
    env = environment(TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1", **extra)
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, *program, *map(str, argv)],
        env={key: value for key, value in env.items() if key not in ("COLUMNS", "LINES")},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)
        os.close(master)
