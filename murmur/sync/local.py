"""Unix-domain sockets between the nodes of one user on one host: no network, no encryption.

    $XDG_RUNTIME_DIR/murmur/NAME        or  <temporary directory>/murmur-UID/NAME

The name is the first half of the node's id as text, for systems leave little room for such paths.

Who may enter the directory is the user alone (its owner and mode are checked, and the uid of who
connects), and the node's key is as safe as the directory: so the name of the socket says whom a
dialer reached. The dialer proves itself in the conversation, as over any link.

A socket whose node has died is replaced when the node starts again.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Sequence

from murmur.sync.streams import BACKLOG, StreamLink, StreamTransport
from murmur.sync.ticket import node_text, parse_node
from murmur.sync.transport import LOCAL

NAME_LENGTH = 26  # characters: 130 bits
SOCKET_BYTES = 1 << 20


class LocalTransport(StreamTransport):
    """The socket under this node's name, and the connections."""

    def __init__(self, node_id: bytes, directory: str | None = None) -> None:
        """Listen in the directory; OSError if it is not this user's alone, or the name is taken."""
        self._directory = directory or host_directory()
        own_directory(self._directory)
        self._name = self._path(node_id)
        super().__init__(_listen(self._name))
        self._inode = os.stat(self._name).st_ino

    @property
    def addresses(self) -> Sequence[str]:
        """None that a ticket needs: who is on this host finds the socket by the node's id."""
        return ()

    def ways(self, node_id: bytes, addresses: Sequence[str]) -> Sequence[str]:
        """The node's socket, if it has one here."""
        return [LOCAL + node_text(node_id)] if os.path.exists(self._path(node_id)) else []

    def dial(self, address: str, now: float) -> StreamLink:
        """Connect with the node of this id."""
        node_id = parse_node(address.removeprefix(LOCAL))
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(0)
            connection.connect(self._path(node_id))
            _check_user(connection)
            _widen(connection)
        except BaseException:
            connection.close()
            raise
        return self._add(StreamLink(self, connection, address, dialed=True, peer_id=node_id))

    def close(self, now: float) -> None:
        """End all links, stop listening, and take the name away."""
        super().close(now)
        try:
            if os.stat(self._name).st_ino == self._inode:
                os.unlink(self._name)
        except FileNotFoundError:
            return  # who cleans up the directory was faster

    def _accepted(self, connection: socket.socket, deadline: float) -> StreamLink | None:
        try:
            process = _check_user(connection)
            _widen(connection)
        except OSError:
            return None
        address = f"{LOCAL}process {process}"
        return StreamLink(self, connection, address, dialed=False, deadline=deadline)

    def _handshake(self, link: StreamLink) -> None:
        """There is none: a Unix-domain socket is connected at once."""

    def _path(self, node_id: bytes) -> str:
        return os.path.join(self._directory, node_text(node_id)[:NAME_LENGTH])


def host_directory() -> str:
    """Where the nodes of this user on this host meet."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        return os.path.join(runtime, "murmur")
    return os.path.join(tempfile.gettempdir(), f"murmur-{os.geteuid()}")


def own_directory(path: str) -> None:
    """Make the directory, or see that nobody but this user can enter it."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if not private or found.st_uid != os.geteuid():
            raise PermissionError(f"{path} is not a directory of this user alone") from None


def _widen(connection: socket.socket) -> None:
    """Let much be under way: each time that it is full costs a change of process."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)


def _check_user(connection: socket.socket) -> int:
    """The other end is a process of this user, where the system tells; its pid, else 0."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    size = struct.calcsize("3i")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    process, user, _ = struct.unpack("3i", found)
    if user != os.geteuid():
        raise PermissionError("the other end of a local socket is another user's")
    return int(process)


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.settimeout(0)
        if socket_answers(path):
            raise OSError(errno.EADDRINUSE, "a node with this key runs already", path)
        # Bound under another name first: a socket that can be found is one that listens.
        fresh = path + "~"
        if os.path.exists(fresh):
            os.unlink(fresh)
        listener.bind(fresh)
        listener.listen(BACKLOG)
        os.rename(fresh, path)
    except BaseException:
        listener.close()
        raise
    return listener


def socket_answers(path: str) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            return True
        return True
