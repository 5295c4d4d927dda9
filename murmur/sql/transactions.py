"""Transaction statements, read word by word: sqlglot takes some of them for something else.

    BEGIN | START TRANSACTION [WORK | TRANSACTION] [mode, ...]       mode: READ ONLY, READ WRITE,
    COMMIT | END [WORK | TRANSACTION]                                      ISOLATION LEVEL level,
    ROLLBACK | ABORT [WORK | TRANSACTION] [TO [SAVEPOINT] name]            [NOT] DEFERRABLE
    SAVEPOINT name        RELEASE [SAVEPOINT] name

Every transaction is a snapshot of its own, which is PostgreSQL's REPEATABLE READ and more than
its READ COMMITTED; SERIALIZABLE would promise more than that and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from murmur.sql.words import Token, WordReader

Kind: TypeAlias = Literal["begin", "commit", "rollback", "savepoint", "release", "rollback to"]

FIRST_WORDS: dict[str, Kind] = {
    "BEGIN": "begin",
    "START": "begin",
    "COMMIT": "commit",
    "END": "commit",
    "ROLLBACK": "rollback",
    "ABORT": "rollback",
    "SAVEPOINT": "savepoint",
    "RELEASE": "release",
}
_LEVELS = ("REPEATABLE READ", "SNAPSHOT", "READ COMMITTED", "READ UNCOMMITTED")


@dataclass(frozen=True, slots=True)
class TransactionStatement:
    """One of them. `name` is a savepoint's, folded to lower case unless it was quoted.

    `read_only` is None where a BEGIN does not say it.
    """

    kind: Kind
    name: str = ""
    read_only: bool | None = None


def read_transaction(tokens: Sequence[Token], text: str) -> TransactionStatement:
    """Read a statement that begins with one of FIRST_WORDS; ParseError or Unsupported."""
    return _Reader(tokens, text).read()


class ModeReader(WordReader):
    """Reads the modes of a transaction, up to the end of the statement."""

    def _modes(self) -> bool | None:
        """Whether they say READ ONLY; None where they say neither that nor READ WRITE."""
        read_only: bool | None = None
        while self._at < len(self._tokens):
            start = self._at
            if self._take("ISOLATION"):
                if not self._take("LEVEL"):
                    self._refuse("expected LEVEL after ISOLATION")
                level = self._word()
                self._at += 1
                if level in ("READ", "REPEATABLE"):
                    level = f"{level} {self._word()}"
                    self._at += 1
                if level not in _LEVELS:
                    self._at = start
                    self._unsupported(
                        "every transaction is a snapshot: there is no isolation level "
                        + (level or "without a name")
                    )
            elif self._take("READ"):
                mode = self._word()
                if mode not in ("ONLY", "WRITE"):
                    self._refuse("expected ONLY or WRITE after READ")
                self._at += 1
                read_only = mode == "ONLY"
            elif self._take("NOT"):
                if not self._take("DEFERRABLE"):  # for SERIALIZABLE, which there is not
                    self._refuse("expected DEFERRABLE after NOT")
            elif not self._take("DEFERRABLE"):
                self._refuse(f'syntax error at "{self._shown()}"')
            self._take(",")
        return read_only


class _Reader(ModeReader):
    def read(self) -> TransactionStatement:
        word = self._word()
        kind = FIRST_WORDS[word]
        self._at += 1
        name, read_only = "", None
        if word == "START" and self._word() != "TRANSACTION":
            self._refuse("expected TRANSACTION after START")
        if kind in ("savepoint", "release"):
            if kind == "release":
                self._take("SAVEPOINT")
            name = self._name("the name of a savepoint")
        else:
            self._take("WORK", "TRANSACTION")
            if kind == "rollback" and self._take("TO"):
                self._take("SAVEPOINT")
                kind, name = "rollback to", self._name("the name of a savepoint")
            elif kind == "begin":
                read_only = self._modes()
            elif self._take("AND") and not (self._take("NO") and self._take("CHAIN")):
                self._unsupported("transactions are not chained")
        self._end()
        return TransactionStatement(kind, name, read_only)

    def _end(self) -> None:
        word = self._word()
        if word == "PREPARED":
            self._unsupported("Murmur has no prepared transactions")
        if word:
            self._refuse(f'syntax error at "{self._shown()}"')
