"""Arrow data and files into tables, and out of them: `insert_arrow`, and the files of COPY.

olap reads the data, sql checks and writes it; here they meet.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from murmur.errors import InvalidInput

if TYPE_CHECKING:
    from murmur.sql import Files, Outcome, Session


Allowed = str | os.PathLike[str] | bool | None


def files_of(allowed: Allowed) -> Files | None:
    """What COPY may open: files below a directory; with True any; with None or False none."""
    if allowed is None or allowed is False:
        return None
    from murmur.olap.files import Folder

    if allowed is True:
        return Folder(None)
    if not isinstance(allowed, str | os.PathLike):
        raise InvalidInput(f"files is a directory or True, not {type(allowed).__name__}")
    return Folder(allowed)


def insert_arrow(
    session: Session, table: str, data: Any, *, atomic: bool, timeout: float | None
) -> Outcome:
    """Insert the rows of Arrow data into a table, column by name."""
    from murmur.olap.intake import intake, match_columns, open_arrow

    if not isinstance(table, str):
        raise InvalidInput(f"a table is named by str, not {type(table).__name__}")
    target = session.table(table)
    reader = open_arrow(data)
    columns = match_columns(reader.schema, target)
    return session.load(table, columns, intake(reader), atomic=atomic, timeout_s=timeout)
