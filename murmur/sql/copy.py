"""COPY: rows from a file into a table, and rows of a table or a query into a file.

    COPY table [(column, ...)] FROM 'path' [[WITH] (option, ...)]
    COPY table [(column, ...)] TO 'path' [[WITH] (option, ...)]
    COPY (query) TO 'path' [[WITH] (option, ...)]

    FORMAT csv | parquet | json     without it, by the ending: .csv, .tsv, .parquet, .json, .jsonl
    HEADER [true | false | MATCH]   of CSV: the first line is names; MATCH compares them
    DELIMITER 'c'   QUOTE 'c'       of CSV
    NULL 'text'                     of CSV: what stands for NULL, unquoted; nothing, by default
    ATOMIC [true | false]           FROM: false loads in several transactions if need be

As in PostgreSQL, whose older form without parentheses is read too: WITH CSV HEADER. The path is on
the machine of the replica. This floor opens no file: what may be opened, and how formats are read,
is Files' affair, which whoever made the session has brought along, or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from sqlglot.tokens import TokenType

from murmur.sql.words import Token, WordReader

Format: TypeAlias = Literal["csv", "parquet", "json"]

_FORMATS: tuple[Format, ...] = ("csv", "parquet", "json")
_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
_BOOLEANS = {"TRUE": True, "ON": True, "1": True, "FALSE": False, "OFF": False, "0": False}


@dataclass(frozen=True, slots=True)
class Copy:
    """One COPY. `query` is the text of what is written; with it there is no table."""

    to: bool
    path: str
    table: str | None = None
    columns: tuple[str, ...] = ()
    query: str | None = None
    format: Format = "csv"
    header: bool = False
    match: bool = False  # the header's names are those of the columns
    delimiter: str = ","
    quote: str = '"'
    null: str = ""
    atomic: bool = True


def read_copy(tokens: Sequence[Token], text: str) -> Copy:
    """Read a statement that begins with COPY; ParseError or Unsupported."""
    return _Reader(tokens, text).read()


class _Reader(WordReader):
    def __init__(self, tokens: Sequence[Token], text: str) -> None:
        super().__init__(tokens, text)
        self._at = 1
        self._seen: set[str] = set()

    def read(self) -> Copy:
        table, query = None, None
        columns: tuple[str, ...] = ()
        if self._word() == "(":
            query = self._query()
        else:
            table = self._name("a table, or a query in parentheses")
            if self._take("."):
                if table != "public":
                    self._refuse("tables stand in the schema public")
                table = self._name("a table")
            if self._take("("):
                columns = self._columns()
        direction = self._word()
        if direction not in ("FROM", "TO") or (query is not None and direction == "FROM"):
            self._refuse("expected TO" if query is not None else "expected FROM or TO")
        self._at += 1
        copy = Copy(direction == "TO", self._path(), table, columns, query)
        lowered = copy.path.lower()
        ending = next((each for each in _ENDINGS if lowered.endswith(each)), None)
        if ending is not None:
            copy = replace(copy, format=_ENDINGS[ending])
        if ending == ".tsv":
            copy = replace(copy, delimiter="\t")
        copy = self._options(copy)
        if ending is None and "FORMAT" not in self._seen:
            self._unsupported("the path tells no format: say (FORMAT csv | parquet | json)")
        return self._checked(copy)

    def _options(self, copy: Copy) -> Copy:
        self._take("WITH")
        if self._take("("):
            while True:
                copy = self._option(copy)
                if self._take(")"):
                    break
                if not self._take(","):
                    self._refuse("expected , or )")
        else:
            while self._at < len(self._tokens):
                if self._word() in ("CSV", "PARQUET", "JSON"):
                    self._once("FORMAT")
                    copy = replace(copy, format=self._format())
                else:
                    copy = self._option(copy)
        if self._at < len(self._tokens):
            self._refuse(f'syntax error at "{self._shown()}"')
        return copy

    def _option(self, copy: Copy) -> Copy:
        word = self._word()
        if word not in ("FORMAT", "HEADER", "DELIMITER", "NULL", "QUOTE", "ATOMIC"):
            if not word:
                self._refuse("expected an option")
            self._unsupported(f'COPY has no option "{self._shown()}"')
        self._once(word)
        self._at += 1
        match word:
            case "FORMAT":
                return replace(copy, format=self._format())
            case "HEADER":
                match = self._take("MATCH")
                return replace(copy, header=match or self._boolean(), match=match)
            case "DELIMITER":
                return replace(copy, delimiter=self._letter())
            case "QUOTE":
                return replace(copy, quote=self._letter())
            case "NULL":
                self._take("AS")
                return replace(copy, null=self._string())
            case _:
                return replace(copy, atomic=self._boolean())

    def _checked(self, copy: Copy) -> Copy:
        if copy.format != "csv":
            for word in ("HEADER", "DELIMITER", "NULL", "QUOTE"):
                if word in self._seen:
                    self._unsupported(f"{word} is an option of FORMAT csv, not of {copy.format}")
        if copy.to and "ATOMIC" in self._seen:
            self._unsupported("ATOMIC is an option of COPY FROM")
        if copy.to and copy.match:
            self._unsupported("HEADER MATCH is an option of COPY FROM")
        if copy.delimiter == copy.quote:
            self._unsupported("DELIMITER and QUOTE are two characters")
        return copy

    def _format(self) -> Format:
        name = self._word().strip("'").lower()
        for known in _FORMATS:
            if known == name:
                self._at += 1
                return known
        return self._unsupported("formats are csv, parquet and json")

    # Pieces ------------------------------------------------------------

    def _query(self) -> str:
        start, depth = self._at + 1, 0
        for at in range(self._at, len(self._tokens)):
            kind = self._tokens[at].token_type
            depth += (kind is TokenType.L_PAREN) - (kind is TokenType.R_PAREN)
            if depth == 0:
                if at == start:
                    self._refuse("expected a query")
                self._at = at + 1
                return self._text[self._tokens[start].start : self._tokens[at - 1].end + 1]
        self._at = len(self._tokens)
        return self._refuse("expected )")

    def _columns(self) -> tuple[str, ...]:
        columns = [self._name("a column")]
        while self._take(","):
            columns.append(self._name("a column"))
        if not self._take(")"):
            self._refuse("expected , or )")
        return tuple(columns)

    def _path(self) -> str:
        if self._word() in ("STDIN", "STDOUT", "PROGRAM"):
            self._unsupported(f"COPY takes the path of a file, not {self._word()}")
        path = self._string()
        if not path or "\0" in path:
            self._at -= 1
            self._refuse("expected the path of a file")
        return path

    def _boolean(self) -> bool:
        word = self._word().strip("'").upper()
        if word in _BOOLEANS:
            self._at += 1
            return _BOOLEANS[word]
        return True

    def _letter(self) -> str:
        self._take("AS")
        letter = self._string()
        if len(letter) != 1 or not letter.isascii() or letter in "\r\n\0":
            self._at -= 1
            self._refuse("expected one character")
        return letter

    def _string(self) -> str:
        kinds = (TokenType.STRING, TokenType.BYTE_STRING, TokenType.HEREDOC_STRING)
        if self._at >= len(self._tokens) or self._tokens[self._at].token_type not in kinds:
            self._refuse("expected a text in quotes")
        self._at += 1
        return str(self._tokens[self._at - 1].text)

    def _once(self, word: str) -> None:
        if word in self._seen:
            self._refuse(f"{word} stands twice")
        self._seen.add(word)
