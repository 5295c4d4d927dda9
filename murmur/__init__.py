"""Murmur: a database that you import.

    import murmur

    swarm = murmur.open("data/alice", group="team")     one directory, one replica
    swarm.put("db:host", b"localhost")                   keys and values
    swarm.sql("SELECT ...").pl()                         SQL, as rows, Arrow or a dataframe
    swarm.connect_peer(ticket)                           others hold full copies; all converge
    con = murmur.connect("data/alice")                   PEP 249
    murmur.aio.open("data/alice")                        the same, awaited
    murmur.polars.scan(swarm, "note")                    a table as a lazy frame
    %load_ext murmur                                     %sql and %%sql in notebooks

Importing the package loads none of SQL, DuckDB, Arrow, Polars or the network: names are found when
they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from murmur.errors import (
    BindError,
    ChecksumMismatch,
    Closed,
    Conflict,
    ConstraintViolation,
    Corruption,
    DatabaseError,
    DataError,
    Error,
    Forked,
    IntegrityError,
    InterfaceError,
    InternalError,
    Interrupted,
    InvalidInput,
    Locked,
    MurmurError,
    NotSupportedError,
    OperationalError,
    ParseError,
    PeerError,
    Poisoned,
    ProgrammingError,
    ProtocolViolation,
    Timeout,
    TypeMismatch,
    UnknownFormat,
    Unreachable,
    Unsupported,
    Warning,  # noqa: A004 - PEP 249's name
)

if TYPE_CHECKING:
    from murmur.catalog import Interval
    from murmur.swarm.dbapi import (
        BINARY,
        DATETIME,
        NUMBER,
        ROWID,
        STRING,
        Binary,
        Connection,
        Cursor,
        Date,
        DateFromTicks,
        Time,
        TimeFromTicks,
        Timestamp,
        TimestampFromTicks,
        connect,
    )
    from murmur.swarm.result import Result
    from murmur.swarm.swarm import Swarm, open  # noqa: A004 - murmur.open
    from murmur.sync import PeerInfo

__version__ = "0.1.0"

apilevel = "2.0"
threadsafety = 2
paramstyle = "qmark"

_LAZY = {
    "Interval": "murmur.catalog",
    "PeerInfo": "murmur.sync",
    "Result": "murmur.swarm.result",
    "Swarm": "murmur.swarm.swarm",
    "load_ipython_extension": "murmur.integrations.ipython",
    "open": "murmur.swarm.swarm",
    "unload_ipython_extension": "murmur.integrations.ipython",
} | dict.fromkeys(
    (
        "BINARY",
        "DATETIME",
        "NUMBER",
        "ROWID",
        "STRING",
        "Binary",
        "Connection",
        "Cursor",
        "Date",
        "DateFromTicks",
        "Time",
        "TimeFromTicks",
        "Timestamp",
        "TimestampFromTicks",
        "connect",
    ),
    "murmur.swarm.dbapi",
)

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "BindError",
    "ChecksumMismatch",
    "Closed",
    "Conflict",
    "Connection",
    "ConstraintViolation",
    "Corruption",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "Forked",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Interrupted",
    "Interval",
    "InvalidInput",
    "Locked",
    "MurmurError",
    "NotSupportedError",
    "OperationalError",
    "ParseError",
    "PeerError",
    "PeerInfo",
    "Poisoned",
    "ProgrammingError",
    "ProtocolViolation",
    "Result",
    "Swarm",
    "Time",
    "TimeFromTicks",
    "Timeout",
    "Timestamp",
    "TimestampFromTicks",
    "TypeMismatch",
    "UnknownFormat",
    "Unreachable",
    "Unsupported",
    "Warning",
    "apilevel",
    "connect",
    "open",
    "paramstyle",
    "threadsafety",
]


_MODULES = frozenset({"aio", "polars"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"murmur.{name}")
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'murmur' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
