"""Every error that Murmur raises, in one tree.

The tree is PEP 249's, and below it each class is named for what the caller does next:

    MurmurError (= Error)
      InterfaceError
        Closed                    open it again
        Forked                    open it in the child
      DatabaseError
        DataError
          TypeMismatch            fix the value            (also an InvalidInput)
        OperationalError
          Conflict                retry the transaction
          Locked                  another process owns the directory
          Poisoned                a sync failed: close, and open again
          Trimmed                 the log no longer holds it: take a snapshot
          Timeout                 wait longer, or look at the peers
          Interrupted             somebody else ended the statement
          PeerError               drop the peer
            ProtocolViolation
            Unreachable
        IntegrityError
          ConstraintViolation     the data refuses
        InternalError
          Corruption              path, offset, reason
            ChecksumMismatch
            UnknownFormat
        ProgrammingError
          InvalidInput            fix the statement or the argument
            ParseError
            BindError
        NotSupportedError
          Unsupported             no engine runs this      (also an InvalidInput)

An OSError (disk full, permission) passes through untouched; a bug is an AssertionError.
"""

from __future__ import annotations


class MurmurWarning(Exception):  # PEP 249 names it Warning
    """PEP 249's Warning: something worth knowing happened, and the work was done."""


class MurmurError(Exception):
    """The root of every error that Murmur raises (PEP 249's Error)."""


class InterfaceError(MurmurError):
    """The handle was misused, not the data."""


class Closed(InterfaceError):
    """The handle is closed; open the replica again."""


class Forked(InterfaceError):
    """The handle was opened before a fork; open the replica in this process instead."""


class DatabaseError(MurmurError):
    """Whatever concerns the database itself."""


class DataError(DatabaseError):
    """A value that the type cannot hold."""


class OperationalError(DatabaseError):
    """The operation was right; the circumstances were not."""


class IntegrityError(DatabaseError):
    """The relational integrity of the data is affected."""


class InternalError(DatabaseError):
    """The database's own state is not what it should be."""


class ProgrammingError(DatabaseError):
    """The statement or the call is wrong."""


class NotSupportedError(DatabaseError):
    """The feature does not exist here."""


class InvalidInput(ProgrammingError):
    """The statement or an argument is wrong; nothing was changed."""


class ParseError(InvalidInput):
    """The statement is not SQL; the message points at the place."""


class BindError(InvalidInput):
    """The statement names something that does not exist, or means two things."""


class TypeMismatch(InvalidInput, DataError):
    """A value does not fit the type of the column that should hold it."""


class Unsupported(InvalidInput, NotSupportedError):
    """Valid SQL that no engine of Murmur's runs."""


class ConstraintViolation(IntegrityError):
    """A constraint refuses the row; the message names constraint and value."""


class Conflict(OperationalError):
    """Another transaction, local or remote, committed first; retry this one."""


class Locked(OperationalError):
    """Another process owns the directory; the message names its pid."""


class Trimmed(OperationalError):
    """The log no longer holds the transactions that were asked for, or never did.

    They are in the state: take a snapshot of that. A reading of the log may be begun again.
    """


class Poisoned(OperationalError):
    """A sync to disk failed, so what is durable is unknown; close and open again."""


class Timeout(OperationalError):
    """What was waited for did not happen in time."""


class Interrupted(OperationalError):
    """A statement was interrupted from another thread: nothing that it did remains."""


class PeerError(OperationalError):
    """A peer cannot be reached or cannot be trusted."""


class ProtocolViolation(PeerError):
    """A peer sent what the protocol forbids; the conversation is closed."""


class Unreachable(PeerError):
    """No address of the peer answers."""


class Corruption(InternalError):
    """Stored bytes are not what was written."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(f"{path}, offset {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason

    def __reduce__(self) -> tuple[type[Corruption], tuple[str, int, str]]:
        return type(self), (self.path, self.offset, self.reason)  # to be copied, or pickled


class ChecksumMismatch(Corruption):
    """A block, frame or file does not have the checksum that it was written with."""


class UnknownFormat(Corruption):
    """A format version that this release cannot read; nothing was changed."""


Error = MurmurError
Warning = MurmurWarning  # noqa: A001 - PEP 249's name
