"""The dialect: what SQLAlchemy may expect of Murmur.

A connection is murmur.connect's. Isolation levels are SNAPSHOT, the default, and AUTOCOMMIT; there
is one level of transactions, and its name says what it does. A Conflict at commit is an
OperationalError: run the transaction again. Errors of one's own statements are those of murmur's
PEP 249 tree, so SQLAlchemy wraps each in its class of the same name.

Integer keys fill themselves, in rising order within a statement, and come back through RETURNING.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc, pool
from sqlalchemy import types as sqltypes
from sqlalchemy.engine import default
from sqlalchemy.engine.url import URL
from sqlalchemy.schema import Index
from sqlalchemy.sql.compiler import InsertmanyvaluesSentinelOpts

import murmur
from murmur.errors import Closed, Poisoned
from murmur.integrations.sqlalchemy.compiler import (
    MurmurCompiler,
    MurmurDDLCompiler,
    MurmurIdentifierPreparer,
    MurmurTypeCompiler,
)
from murmur.integrations.sqlalchemy.reflection import Reflection
from murmur.integrations.sqlalchemy.types import COLSPECS
from murmur.sql.information_schema import SCHEMA

SNAPSHOT, AUTOCOMMIT = "SNAPSHOT", "AUTOCOMMIT"
_OPTIONS = frozenset({"group", "durability", "listen", "name", "backend"})


class MurmurDialect(Reflection, default.DefaultDialect):
    """`murmur:///path`."""

    name = "murmur"
    driver = "murmur"
    default_paramstyle = "qmark"
    default_schema_name = SCHEMA
    max_identifier_length = 255

    statement_compiler = MurmurCompiler
    ddl_compiler = MurmurDDLCompiler
    type_compiler_cls = MurmurTypeCompiler
    preparer = MurmurIdentifierPreparer
    colspecs = COLSPECS
    construct_arguments = [(Index, {"where": None})]

    supports_statement_cache = True
    supports_schemas = False
    supports_alter = True
    supports_views = True
    supports_sequences = False
    supports_comments = True
    supports_native_boolean = True
    supports_native_decimal = True
    supports_native_enum = False
    supports_native_uuid = True
    supports_identity_columns = False
    supports_default_values = True
    supports_default_metavalue = True
    supports_empty_insert = False  # INSERT () VALUES (); DEFAULT VALUES is there
    supports_multivalues_insert = True
    supports_is_distinct_from = True
    supports_sane_rowcount = True
    supports_sane_multi_rowcount = True
    cte_follows_insert = False
    div_is_floordiv = True
    postfetch_lastrowid = True
    favor_returning_over_lastrowid = True
    insert_returning = True
    update_returning = True
    delete_returning = True
    insert_executemany_returning = True
    use_insertmanyvalues = True
    insertmanyvalues_implicit_sentinel = InsertmanyvaluesSentinelOpts.ANY_AUTOINCREMENT
    default_isolation_level = SNAPSHOT

    # What SQLAlchemy's PostgreSQL compilers ask their dialect.
    _backslash_escapes = False
    _supports_jsonb_subscripting = False

    def __init__(
        self, json_serializer: Any = None, json_deserializer: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._json_serializer = json_serializer
        self._json_deserializer = json_deserializer

    # Connections -------------------------------------------------------

    @classmethod
    def import_dbapi(cls) -> Any:
        """The PEP 249 module."""
        return murmur

    @classmethod
    def get_pool_class(cls, url: URL) -> Any:
        """Several connections to one directory share one swarm, so they may be pooled."""
        return pool.QueuePool

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """The directory, and the options of murmur.open from the URL's query."""
        if url.host or url.username or url.port:
            raise exc.ArgumentError(
                "a Murmur URL names a directory and no host: murmur:///data/alice, "
                "or murmur:////var/data/alice"
            )
        unknown = url.query.keys() - _OPTIONS
        if unknown:
            raise exc.ArgumentError(
                f"a Murmur URL has no option {', '.join(sorted(unknown))}; "
                f"there are {', '.join(sorted(_OPTIONS))}"
            )
        return [url.database or ""], dict(url.query)

    def connect(self, *arguments: Any, **options: Any) -> Any:
        """A connection of murmur.connect."""
        if not arguments[0]:
            raise exc.ArgumentError(
                "a Murmur URL needs a directory: murmur:///data/alice; for a swarm that is open, "
                'create_engine("murmur://", creator=lambda: murmur.connect(swarm))'
            )
        return murmur.connect(*arguments, **options)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Whether the swarm behind the connection can do no more."""
        return isinstance(e, Closed | Poisoned)

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Whether the connection works."""
        return not dbapi_connection.swarm.closed and bool(dbapi_connection.catalog)

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:
        return tuple(int(part) for part in murmur.__version__.split("."))

    def _get_default_schema_name(self, connection: Any) -> str:
        return SCHEMA

    def _check_max_identifier_length(self, connection: Any) -> None:
        return None

    # Transactions ------------------------------------------------------

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        """Snapshot isolation."""
        return SNAPSHOT

    def get_isolation_level_values(self, dbapi_conn: Any) -> Any:
        """Snapshot isolation, and a transaction for each statement."""
        return [SNAPSHOT, AUTOCOMMIT]

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        """What the connection does now."""
        return AUTOCOMMIT if dbapi_connection.autocommit else SNAPSHOT

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """SNAPSHOT or AUTOCOMMIT."""
        dbapi_connection.autocommit = level == AUTOCOMMIT

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:
        """Whether each statement commits by itself."""
        return bool(dbapi_conn.autocommit)

    # Types -------------------------------------------------------------

    def type_descriptor(self, typeobj: Any) -> Any:
        """How a type is passed and read here."""
        return sqltypes.adapt_type(typeobj, self.colspecs)
