"""How a command ends: its exit code, and one line about what went wrong.

    0    done
    1    refused, not found, or found wanting: a statement failed, a key has no value, a file is bad
    2    nothing was begun: wrong arguments, or the directory cannot be opened
    130  Ctrl-C (128 + SIGINT)
    141  whoever read the output is gone (128 + SIGPIPE); nothing is said about it

What goes wrong is written to stderr as `murmur: message`. A message that points into a statement
keeps its excerpt, on the lines below. An exception that is not listed here is a bug and keeps its
traceback.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from murmur.errors import MurmurError

DONE, FAILED, NOT_BEGUN = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 130, 141


class Fault(Exception):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def describe(error: MurmurError | OSError | Fault) -> str:
    """The error in words, with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        if isinstance(name, bytes):
            name = name.decode(errors="backslashreplace")
        return f"{name}: {error.strerror}" if name else error.strerror
    return str(error) or type(error).__name__


def complain(message: str) -> None:
    """Write one message to stderr, after what stdout still holds."""
    with suppress(OSError, ValueError):  # if that fails it is reported at the end
        sys.stdout.flush()
    note(f"murmur: {message}")


def note(message: str) -> None:
    """Write a line to stderr that is no complaint."""
    print(printable(message), file=sys.stderr, flush=True)


def printable(message: str) -> str:
    """The message without what a terminal would obey; line breaks and tabs stay."""
    return message if message.isprintable() else message.translate(_CONTROLS)


_CONTROLS = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)},
    **{code: f"\\u{code:04x}" for code in range(0xDC80, 0xDD00)},  # bytes of argv that are no text
}
