"""Standard output, as what is to be written there needs it.

    text    for people: in the terminal's encoding, what that lacks as \\uXXXX
    data    for programs: UTF-8, whatever the locale says
    raw     bytes as they are

All of it goes into one buffer, so it comes out in order.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from contextlib import suppress
from typing import BinaryIO, TextIO

from murmur.cli.failure import Fault


class Output:
    """The stream and what is known about it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.is_terminal = stream.isatty()
        self.colored = (
            self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )
        self.draws = self._can_draw()

    @property
    def width(self) -> int | None:
        """The columns of the terminal as it is now; None where lines have no end."""
        return shutil.get_terminal_size().columns if self.is_terminal else None

    @property
    def raw(self) -> BinaryIO:
        """The stream's bytes."""
        binary: BinaryIO | None = getattr(self._stream, "buffer", None)
        if binary is None:
            raise Fault("standard output takes text only")
        return binary

    def text(self, text: str) -> None:
        """Write for people."""
        self.raw.write(text.encode(self._encoding, "backslashreplace"))

    def data(self, text: str) -> None:
        """Write for programs."""
        self.raw.write(text.encode())

    def flush(self) -> None:
        """Hand over everything now."""
        self._stream.flush()

    def _can_draw(self) -> bool:
        try:
            "│─┼…↵".encode(self._encoding)
        except UnicodeEncodeError:
            return False
        return True


def hold_standard_streams() -> None:
    """Open what was closed: otherwise a file of the database could become standard output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            if not _is_open(number):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def abandon_stdout() -> None:
    """Let what is still to be written go nowhere: whoever read it is gone."""
    with suppress(OSError, io.UnsupportedOperation, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
