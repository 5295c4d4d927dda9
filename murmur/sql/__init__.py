"""SQL: from a statement's text to rows, on the row engine or through the columnar one.

    session = Session(replica, columnar=engine, system=relations, clock=clock, random_bytes=random)
    session.execute("SELECT body FROM note WHERE id = ?", [id]).rows

    text --parser--> sqlglot's tree --binder--> plan --executor, dml, ddl--> Outcome

sqlglot ends at the binder. What other floors supply enters through two Protocols: ColumnarEngine
(relation.py) and SystemRelations (system.py).
"""

from murmur.sql.borrowed import FUNCTIONS as BORROWED_FUNCTIONS
from murmur.sql.borrowed import MACROS as BORROWED_MACROS
from murmur.sql.cache import Shared, shared_of
from murmur.sql.files import Files
from murmur.sql.lone_insert import insert_alone
from murmur.sql.parser import split_script
from murmur.sql.plan import ResultColumn
from murmur.sql.point_answer import point_answer
from murmur.sql.relation import ColumnarEngine, Relation
from murmur.sql.session import Outcome, Session
from murmur.sql.system import SystemRelations

__all__ = [
    "BORROWED_FUNCTIONS",
    "BORROWED_MACROS",
    "ColumnarEngine",
    "Files",
    "Outcome",
    "Relation",
    "ResultColumn",
    "Session",
    "Shared",
    "SystemRelations",
    "insert_alone",
    "point_answer",
    "shared_of",
    "split_script",
]
