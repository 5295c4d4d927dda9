"""Where the shell's lines come from.

    script      stdin is a file or a pipe: lines as they are, no prompt
    editor      a terminal, and prompt_toolkit is installed: whole statements are edited, Enter ends
                one that is complete and breaks the line of one that is not
    readline    a terminal: lines are edited one by one
    plain       a terminal that can neither: lines as the terminal hands them over

All of them give text that ends with a line break, None at the end of the input, and raise
KeyboardInterrupt for Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, BinaryIO, Protocol

from murmur.cli.failure import Fault
from murmur.cli.history import History

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

CONTINUATION = "   ...> "

Words = Callable[[], Iterable[str]]  # what can be completed
Complete = Callable[[str], bool]  # whether a text needs no further line


class Lines(Protocol):
    """A source of lines."""

    def read(self, prompt: str) -> str | None:
        """The next line or lines; None at the end."""
        ...

    def remember(self, entry: str) -> None:
        """Note a statement that was read."""
        ...


def terminal_lines(history: History, words: Words, complete: Complete) -> Lines:
    """The best way to read from this terminal."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return PlainLines()
    try:
        return EditorLines(history, words, complete)
    except ImportError:
        pass  # it comes with murmurdb[shell]
    try:
        return ReadlineLines(history, words)
    except ImportError:
        return PlainLines()


class ScriptLines:
    """The lines of a file or a pipe, UTF-8."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._count = 0

    def read(self, prompt: str) -> str | None:
        """The next line."""
        line = self._stream.readline()
        if not line:
            return None
        self._count += 1
        try:
            text = line.decode("utf-8-sig" if self._count == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise Fault(
                f"line {self._count} of stdin is not UTF-8: {error.reason} at byte {error.start}"
            ) from None
        return text if text.endswith("\n") else text + "\n"

    def remember(self, entry: str) -> None:
        """Scripts have no history."""


class PlainLines:
    """A terminal without any editing; the prompt goes to stderr."""

    def read(self, prompt: str) -> str | None:
        """The next line."""
        print(prompt, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline() or None

    def remember(self, entry: str) -> None:
        """Here is no history."""


class ReadlineLines:
    """Lines edited by readline or libedit."""

    def __init__(self, history: History, words: Words) -> None:
        import readline

        self._readline = readline
        self._history = history
        self._words = words
        self._found: list[str] = []
        readline.set_auto_history(False)  # statements are remembered whole
        for entry in history.entries:
            readline.add_history(entry)
        readline.set_completer(self._complete)
        readline.set_completer_delims(" \t\n,;()=<>+*/'\"")
        readline.parse_and_bind("tab: complete")

    def read(self, prompt: str) -> str | None:
        """The next line."""
        try:
            return input(prompt) + "\n"
        except EOFError:
            return None

    def remember(self, entry: str) -> None:
        """Add a statement to the history."""
        before = len(self._history.entries)
        self._history.add(entry)
        if len(self._history.entries) > before:
            self._readline.add_history(entry.strip())

    def _complete(self, start: str, number: int) -> str | None:
        if number == 0:
            found = {word for word in self._words() if word.startswith(start.lower())}
            self._found = sorted(found)
        return self._found[number] if number < len(self._found) else None


class EditorLines:
    """Statements edited by prompt_toolkit."""

    def __init__(self, history: History, words: Words, complete: Complete) -> None:
        self._session = _editor(history, words, complete)

    def read(self, prompt: str) -> str | None:
        """The next statement, or several that were pasted."""
        try:
            return self._session.prompt(prompt) + "\n"
        except EOFError:
            return None

    def remember(self, entry: str) -> None:
        """The editor has done so."""


def _editor(history: History, words: Words, complete: Complete) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import History as EditorHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    class Kept(EditorHistory):
        def load_history_strings(self) -> Iterable[str]:
            return reversed(history.entries)

        def store_string(self, string: str) -> None:
            history.add(string)

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    return PromptSession(
        history=Kept(),
        multiline=True,
        key_bindings=keys,
        # A line that is only too long for the screen goes on without it.
        prompt_continuation=lambda width, line, wraps: "" if wraps else CONTINUATION,
        completer=WordCompleter(
            lambda: sorted(set(words())), ignore_case=True, pattern=re.compile(r"\.?\w+")
        ),
        complete_while_typing=False,
    )
