"""REINDEX, which has nothing to do: an index changes in one batch with its row.

    REINDEX                     REINDEX note_author                   an index or a table
    REINDEX INDEX note_author   REINDEX TABLE CONCURRENTLY note       PostgreSQL's words

The name is looked up, so that one that is wrong is an error. `murmur check` verifies indexes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlglot import exp

from murmur.catalog import Catalog
from murmur.errors import BindError, ParseError
from murmur.sql.place import place

Token: TypeAlias = Any  # sqlglot's
Tree: TypeAlias = Any


def read_reindex(tokens: Sequence[Token], text: str) -> Tree:
    """The statement as a Command that holds the kind of thing and its name."""
    rest = list(tokens[1:])
    kind = ""
    if len(rest) > 1 and rest[0].text.upper() in ("INDEX", "TABLE"):
        kind = rest.pop(0).text.upper()
        if len(rest) > 1 and rest[0].text.upper() == "CONCURRENTLY":
            rest.pop(0)
    if len(rest) > 1:
        raise ParseError(f"REINDEX takes one name\n{place(text, rest[1].start)}")
    quoted = bool(rest) and text[rest[0].start] == '"'
    name = rest[0].text if quoted else "".join(token.text.lower() for token in rest)
    return exp.Command(this="REINDEX", expression=f"{kind} {name}")


def check_reindex(tree: Tree, catalog: Catalog) -> None:
    """Raise BindError if there is nothing of that name."""
    kind, name = tree.args["expression"].split(" ", 1)
    index = any(index.name == name for table in catalog.tables for index in table.indexes)
    if name and not ((kind != "TABLE" and index) or (kind != "INDEX" and catalog.table(name))):
        raise BindError(f'there is no {kind.lower() or "index or table"} "{name}"')
