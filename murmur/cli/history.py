r"""What was typed into the shell, kept in a file over sessions.

    ~/.murmur_history, or the file that $MURMUR_HISTORY names; if that is empty, none
    one entry a line: backslash as \\, line break as \n

    SELECT *\nFROM note;

The file is created 0600. An entry is appended when it is made, so several shells can share the
file; when it has grown to twice KEPT entries, the older half goes at the next start. What holds a
ticket, which is a secret, is not kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

KEPT = 5000
SECRET = "murmur1"  # how tickets begin


class History:
    """Entries of earlier sessions and of this one, oldest first."""

    def __init__(self, path: str | None) -> None:
        self.entries: list[str] = []
        self.trouble: str | None = None  # why nothing is kept, if nothing is
        self._path = path
        if path is None:
            return
        try:
            self._load(path)
        except OSError as error:
            self._give_up(error)

    def add(self, entry: str) -> None:
        """Remember an entry, unless it is blank, the last one again, or a secret."""
        entry = entry.strip()
        if not entry or SECRET in entry.lower() or self.entries[-1:] == [entry]:
            return
        self.entries.append(entry)
        if self._path is None:
            return
        try:
            with open(self._path, "a", encoding="utf-8", opener=_private) as file:
                file.write(_escape(entry) + "\n")
        except OSError as error:
            self._give_up(error)

    def _load(self, path: str) -> None:
        with open(path, "a", encoding="utf-8", opener=_private):
            pass  # from now on it is there, and can be written
        with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
            self.entries = [_unescape(line.rstrip("\n")) for line in file if line.strip()]
        if len(self.entries) > 2 * KEPT:
            del self.entries[:-KEPT]
            new = f"{path}.new"
            with open(new, "w", encoding="utf-8", opener=_private) as file:
                file.writelines(_escape(entry) + "\n" for entry in self.entries)
            os.replace(new, path)

    def _give_up(self, error: OSError) -> None:
        self.trouble = f"{self._path}: {error.strerror}; history is not kept"
        self._path = None


def history_path(environment: Mapping[str, str]) -> str | None:
    """Where the history is."""
    named = environment.get("MURMUR_HISTORY")
    if named is not None:
        return os.path.expanduser(named) or None
    home = os.path.expanduser("~")
    return os.path.join(home, ".murmur_history") if home != "~" else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _escape(entry: str) -> str:
    return entry.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "")


def _unescape(line: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], line)
