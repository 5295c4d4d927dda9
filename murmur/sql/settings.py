"""Statements about the session and its statistics, read word by word.

SET engine = 'row' | 'columnar' | 'auto'     also TO, DEFAULT, without quotes; SET SESSION
RESET engine                                 the same as 'auto'
SET memory_limit = '512MB'                   what a statement may hold (memory.py); DEFAULT, RESET
SET TRANSACTION mode [, ...]                 the open transaction: READ ONLY, or a level
SET SESSION CHARACTERISTICS AS TRANSACTION mode [, ...]    those that are opened from now on,
SET default_transaction_read_only = on | off               and statements that commit by themselves
SHOW engine | memory_limit | transaction_isolation | transaction_read_only | ...
ANALYZE [table [, table ...]]                count what is in tables, in all without a name
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from murmur.sql.memory import read_bytes
from murmur.sql.transactions import ModeReader
from murmur.sql.words import Token

SETTING_WORDS = ("SET", "RESET", "SHOW", "ANALYZE", "ANALYSE")
Engine: TypeAlias = Literal["auto", "row", "columnar"]
_ENGINES: dict[str, Engine] = {
    "auto": "auto",
    "default": "auto",
    "row": "row",
    "columnar": "columnar",
}
_TRUTH = {**dict.fromkeys(("ON", "TRUE", "YES", "1"), True)} | dict.fromkeys(
    ("OFF", "FALSE", "NO", "0", "DEFAULT"), False
)
READ_ONLY = "default_transaction_read_only"
MEMORY = "memory_limit"
SHOWN = ("engine", MEMORY, "transaction_isolation", "transaction_read_only", READ_ONLY)
_VALUES = {
    "engine": "'row', 'columnar' or 'auto'",
    MEMORY: "a size such as '512MB' or '2GB'",
    READ_ONLY: "on or off",
}


@dataclass(frozen=True, slots=True)
class SettingStatement:
    """One of them: the engine of `set`, the tables of `analyze`, the name of `show`, the bytes of
    `memory` (None: the default).

    `transaction` and `session` say whether the open transaction, or those to come, are read-only;
    None leaves that as it is.
    """

    kind: Literal["set", "analyze", "show", "transaction", "session", "memory"]
    engine: Engine = "auto"
    tables: tuple[str, ...] = ()
    name: str = ""
    read_only: bool | None = None
    limit_bytes: int | None = None


def read_setting(tokens: Sequence[Token], text: str) -> SettingStatement:
    """Read a statement that begins with one of SETTING_WORDS; ParseError or Unsupported."""
    return _Reader(tokens, text).read()


class _Reader(ModeReader):
    def read(self) -> SettingStatement:
        word = self._word()
        self._at += 1
        match word:
            case "SET":
                statement = self._set()
            case "RESET":
                statement = self._reset()
            case "SHOW":
                statement = self._show()
            case _:
                statement = SettingStatement("analyze", tables=self._tables())
        if self._word():
            self._refuse(f"nothing goes behind {word} here")
        return statement

    def _set(self) -> SettingStatement:
        if self._word() == "LOCAL":
            self._unsupported("SET LOCAL is not supported")
        if self._take("TRANSACTION"):
            return SettingStatement("transaction", read_only=self._some_modes())
        if self._take("SESSION") and self._take("CHARACTERISTICS"):
            if not (self._take("AS") and self._take("TRANSACTION")):
                self._refuse("expected AS TRANSACTION")
            return SettingStatement("session", read_only=self._some_modes())
        name = self._setting("SET", tuple(_VALUES))
        if not self._take("=", "TO") or not self._word():
            self._refuse(f"expected = and {_VALUES[name]}")
        value = self._shown().strip("'\"")
        if name == READ_ONLY:
            if value.upper() not in _TRUTH:
                self._refuse(f"{READ_ONLY} is on or off, not {value!r}")
            self._at += 1
            return SettingStatement("session", read_only=_TRUTH[value.upper()])
        if name == MEMORY:
            limit_bytes = read_bytes(value)
            if limit_bytes is None and value.upper() != "DEFAULT":
                self._refuse(f"{MEMORY} is {_VALUES[name]}, not {value!r}")
            self._at += 1
            return SettingStatement("memory", limit_bytes=limit_bytes)
        engine = _ENGINES.get(value.lower())
        if engine is None:
            self._refuse(f"the engine is 'row', 'columnar' or 'auto', not {value!r}")
        self._at += 1
        return SettingStatement("set", engine)

    def _some_modes(self) -> bool | None:
        if not self._word():
            self._refuse("expected READ ONLY, READ WRITE or ISOLATION LEVEL")
        return self._modes()

    def _reset(self) -> SettingStatement:
        match self._setting("RESET", tuple(_VALUES)):
            case "memory_limit":
                return SettingStatement("memory")
            case "default_transaction_read_only":
                return SettingStatement("session", read_only=False)
        return SettingStatement("set")

    def _show(self) -> SettingStatement:
        if self._take("TRANSACTION"):
            if not (self._take("ISOLATION") and self._take("LEVEL")):
                self._refuse("expected ISOLATION LEVEL")
            return SettingStatement("show", name="transaction_isolation")
        return SettingStatement("show", name=self._setting("SHOW", SHOWN))

    def _setting(self, word: str, known: Sequence[str]) -> str:
        name = self._shown().strip('"').lower() if self._word() else ""
        if not name:
            self._refuse(f"{word} what?")
        if name not in known:
            listed = known[0] if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}"
            self._unsupported(f'there is no setting "{name}": there are {listed}')
        self._at += 1
        return name

    def _tables(self) -> tuple[str, ...]:
        names: list[str] = []
        while self._word():
            names.append(self._name("the name of a table"))
            if not self._word():
                break
            if not self._take(","):
                self._refuse("expected a comma")
            if not self._word():
                self._refuse("nothing follows the comma")
        return tuple(names)
