"""Swarm: one replica in one directory, with everything that can be asked of it.

    with murmur.open("data/alice", group="team") as swarm:
        swarm.put("db:host", b"localhost")
        swarm.sql("INSERT INTO note (body) VALUES (?)", ["hello"])
        swarm.connect_peer(ticket)

A swarm joins the floors and has no logic of its own: keys and values go to kvcore, statements to
sql, wide queries to olap's engine, tickets and peers to sync. SQL, the engine and the network are
loaded when they are first used.

All methods may be called from any thread. A handle that was inherited over a fork refuses to work
(`Forked`); one that is forgotten instead of closed is closed with a ResourceWarning, as files are.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from murmur.catalog import CatalogDerivation, SqlType
from murmur.errors import InvalidInput
from murmur.kvcore import (
    Clock,
    DiskStorage,
    Handle,
    Problem,
    Replica,
    Storage,
    SystemClock,
    check_backend,
    check_durability,
    format_vector,
    visible_value,
)
from murmur.swarm import bulk, kv, registry
from murmur.swarm.bulk import Allowed
from murmur.swarm.documents import Documents
from murmur.swarm.kv import Key
from murmur.swarm.network import (
    EXPIRE_DAYS,
    LOG_BYTES,
    LeaderListener,
    Networked,
    NetworkOptions,
)
from murmur.swarm.result import Result
from murmur.swarm.search import THRESHOLD, Match, search
from murmur.swarm.statements import Statements
from murmur.swarm.transaction import (
    WAIT_TIMEOUT_S,
    Batch,
    Parameters,
    SwarmTransaction,
    check_wait,
)

if TYPE_CHECKING:
    from murmur.kvcore import Generation
    from murmur.sql import Session
    from murmur.swarm.engine import LazyEngine
    from murmur.swarm.system import SystemRelations
    from murmur.sync import Node

DEFAULT_GROUP = "default"


def open(  # noqa: A001 - murmur.open, as gzip.open and shelve.open
    path: str | os.PathLike[str],
    group: str = DEFAULT_GROUP,
    *,
    durability: str = "batched",
    listen: str | None = None,
    transport: str = "adaptive",
    fast: bool | None = None,
    election: str = "majority",
    voters: Iterable[str] = (),
    relay: bool = False,
    introductions: bool = True,
    bandwidth: int | None = None,
    peer_bandwidth: int | None = None,
    name: str | None = None,
    backend: str | None = None,
    log_bytes: int = LOG_BYTES,
    log_days: float | None = None,
    expire_days: float = EXPIRE_DAYS,
) -> Swarm:
    """Open the replica in this directory; create it if there is none.

    `group` names those who exchange data: peers of another group are turned away.
    `durability` says what an acknowledged write survives: "none" an orderly close, "batched" the
    death of the process (and a power cut but for the last moments), "commit" a power cut.
    `listen` is where peers can reach this replica, as "0.0.0.0:4040"; with it the network starts at
    once, otherwise with the first `ticket` or `connect_peer`, on the loopback interface.
    `transport` pins how peers are reached: "local" (a socket between replicas of one user on one
    host), "quic" or "tcp"; "adaptive" has all three, dials them in this order, moves to a better
    one when there is one, and calls through a relay where none of them reaches the peer.
    `fast=False` does without the faster QUIC core (pip install 'murmurdb[fast]'), which is used
    where both ends have it; `fast=True` raises InvalidInput where it is not installed.
    `relay`: carry what members of the group send each other that cannot reach each other. It stays
    encrypted between them.
    `introductions`: tell members of each other, and dial whom they tell of; without it this replica
    talks with those alone that it was told of here, or that dial it.
    `voters` are the node ids of those who elect a leader, the same on every replica of the group;
    a majority of them must be in reach of each other. Without them nobody leads, unless `election`
    is "bully": then the highest node id of those in reach does, in each part of a split network.
    `bandwidth` limits what is sent to all peers together and `peer_bandwidth` what is sent to each,
    in bytes a second; peers on this host do not count.
    `name` is for people; without it the swarm is called like its directory.
    `backend` keeps the tree that is derived from the log: "lsm", sorted files, or "sqlite", one
    SQLite file that the sqlite3 shell can read. Without it: what the directory has, "lsm" for a new
    one. Replicas of both kinds exchange data as any others.
    `log_bytes` of transactions that every peer holds are kept in the log, where history is read
    from; what is older goes while the network runs, at the latest after `log_days` if given. A peer
    silent for `expire_days` is no longer waited for: when it returns it takes a snapshot of the
    state, and keeps what it has written.

    Raises Locked when another process has the directory open, Corruption when its files are
    damaged, InvalidInput for a wrong argument or another backend than the directory has.
    """
    path = check_path(path)
    network = NetworkOptions(
        listen=listen,
        transport=transport,
        fast=fast,
        election=election,
        voters=_node_ids(voters),
        relay=relay,
        introductions=introductions,
        bandwidth=bandwidth,
        peer_bandwidth=peer_bandwidth,
        log_bytes=log_bytes,
        log_days=log_days,
        expire_days=expire_days,
    )
    # Before there is a directory.
    network.check()
    _check_text(group, "group")
    if name is not None:
        _check_text(name, "name")
    check_durability(durability)
    if backend is not None:
        check_backend(backend)
    return Swarm(
        DiskStorage(path),
        group=group,
        durability=durability,
        network=network,
        name=name,
        path=path,
        backend=backend,
    )


class Swarm(Documents, Statements, Networked):
    """An open replica. Made by `murmur.open`."""

    def __init__(
        self,
        storage: Storage,
        *,
        group: str = DEFAULT_GROUP,
        durability: str = "batched",
        network: NetworkOptions | None = None,
        name: str | None = None,
        path: str = "",
        backend: str | None = None,
        clock: Clock | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._handle = Handle(path or storage.path)
        self._handle.closed = True  # until there is something to close
        self.check_usable = self._handle.check
        self._lock = threading.RLock()
        self._node: Node | None = None
        self._engine: LazyEngine | None = None
        self._answer_point: Callable[[str, Parameters], Result | None] | None = None
        self._system: SystemRelations | None = None
        self._storage = storage
        self._clock = clock or SystemClock()
        self._random_bytes = random_bytes
        self._network = network or NetworkOptions()
        self._network.check()
        self._leader_listeners: list[LeaderListener] = []
        self.group = _check_text(group, "group")
        self.path = path or storage.path
        on_disk = isinstance(storage, DiskStorage)
        self.directory = os.path.realpath(storage.path) if on_disk else None
        self.name = os.path.basename(self.path) if name is None else _check_text(name, "name")
        self.replica: Replica = Replica.open(
            storage,
            clock=self._clock,
            random_bytes=random_bytes,
            derivation=CatalogDerivation(_compile_row_expression),
            durability=durability,
            backend=backend,
        )
        self._handle.closed = False
        registry.remember(self)
        try:
            if self._network.listen is not None:
                self.node()
        except BaseException:
            self.close()
            raise

    # Keys and values ---------------------------------------------------

    def put(
        self, key: Key, value: bytes, *, wait: int = 0, timeout: float = WAIT_TIMEOUT_S
    ) -> None:
        """Set the value of a key, `str` or `bytes`; they are two kinds, and never equal.

        With `wait`, return when so many peers durably hold it; see `wait_durable`.
        """
        encoded, checked = kv.encode_key(key), kv.check_value(value)
        self.check_usable()
        if wait != 0:
            check_wait(wait, timeout)
        self.replica.put(encoded, checked)
        if wait:
            self.wait_durable(wait, timeout=timeout)

    def get(self, key: Key) -> bytes | None:
        """The value of a key, None if it has none."""
        encoded = kv.encode_key(key)
        self.check_usable()
        cell = self.replica.get(encoded)
        return None if cell is None else visible_value(cell)

    def delete(self, key: Key, *, wait: int = 0, timeout: float = WAIT_TIMEOUT_S) -> bool:
        """Delete a key; whether it had a value. `wait` is as for `put`."""
        encoded = kv.encode_key(key)
        self.check_usable()
        if wait != 0:
            check_wait(wait, timeout)
        if self.replica.get(encoded) is None:
            return False
        self.replica.delete(encoded)
        if wait:
            self.wait_durable(wait, timeout=timeout)
        return True

    def scan(
        self,
        prefix: Key | None = None,
        *,
        start: Key | None = None,
        stop: Key | None = None,
        reverse: bool = False,
    ) -> kv.Scan:
        """Keys and values in key order: those with a prefix, or start <= key < stop, or all.

        The pairs are those of this moment, whatever is written before they are read.
        """
        bounds = kv.key_range(prefix, start, stop)
        self.check_usable()
        return kv.Scan(self.replica.snapshot(), bounds, reverse=reverse)

    def search(
        self,
        prefix: Key | None,
        words: str,
        *,
        limit: int = 10,
        threshold: float = THRESHOLD,
    ) -> list[Match]:
        """Keys with a prefix (None: all) that resemble some words, or whose values do, best first.

        Every key of the prefix is read; see swarm/search.py for what a score is.
        """
        with self.scan(prefix) as pairs:
            return search(pairs, words, limit=limit, threshold=threshold)

    def batch(self) -> Batch:
        """Puts and deletes that become visible all at once: `with swarm.batch() as b: b.put(...)`.

        They overwrite what is there, whoever wrote it; they never conflict. An exception inside
        the `with` drops them.
        """
        self.check_usable()
        return Batch(self)

    def transaction(self) -> SwarmTransaction:
        """Keys, values and SQL in one transaction: `with swarm.transaction() as tx: ...`.

        It reads one snapshot and its own writes, and commits at the end of the `with`, or raises
        Conflict if somebody has changed what it read and wrote; an exception rolls it back.
        """
        self.check_usable()
        return SwarmTransaction(self)

    # SQL ---------------------------------------------------------------

    def new_session(self, *, files: Allowed = None) -> Session:
        """A session of the SQL floor: a transaction of one's own. Its owner closes it."""
        from murmur.sql import Session

        self.check_usable()
        with self._lock:
            if self._engine is None:
                from murmur.swarm.engine import LazyEngine
                from murmur.swarm.points import point_answerer
                from murmur.swarm.system import SystemRelations

                self._engine = LazyEngine(self.replica.log)
                self._answer_point = point_answerer(self.replica, self._clock, self._random_bytes)
                self._system = SystemRelations(self)
        return Session(
            self.replica,
            columnar=self._engine,
            system=self._system,
            files=bulk.files_of(files),
            clock=self._clock,
            random_bytes=self._random_bytes,
        )

    # State -------------------------------------------------------------

    @property
    def replica_id(self) -> str:
        """The id under which this replica writes, hexadecimal."""
        return self.replica.id.hex()

    @property
    def version_vector(self) -> dict[str, int]:
        """How many transactions of each replica are here, by hexadecimal id."""
        return format_vector(self.replica.vector)

    def state_hash(self) -> str:
        """A hash of all replicated data, hexadecimal: equal when the version vectors are equal."""
        self.check_usable()
        return self.replica.state_hash().hex()

    def stats(self) -> dict[str, object]:
        """Figures of storage, cache and network."""
        self.check_usable()
        engine = self._engine
        return {
            **self.replica.stats(),
            **(engine.stats() if engine is not None else {}),
            "connected_peers": len(self.connected_peers()),
            "parked": len(self.replica.parked()),
            "dead_letters": len(self.replica.dead_letters()),
        }

    def check(self) -> list[Problem]:
        """Verify every file, and that all derived state follows from the log; what is wrong."""
        from murmur.sync.election.ballot import check_ballot
        from murmur.sync.identity import check_identity
        from murmur.sync.roster import check_roster

        self.check_usable()
        storage = self._storage
        network = (*check_identity(storage), *check_roster(storage), *check_ballot(storage))
        return [*self.replica.check(), *network]

    def release_parked(self, *, force: bool = False) -> int:
        """Admit parked transactions whose time has come, or all; how many were admitted."""
        self.check_usable()
        return self.replica.release_parked(force=force)

    def retry_dead_letters(self) -> int:
        """Apply what is in murmur_dead_letters again; how many are admitted now. Others stay.

        After an upgrade, for instance, that knows what the old release did not.
        """
        self.check_usable()
        return self.replica.retry_dead_letters()

    def drop_dead_letters(self, numbers: Iterable[int] | None = None) -> int:
        """Forget dead letters by their numbers, or all of them; how many there were."""
        self.check_usable()
        if numbers is not None and not isinstance(numbers, Iterable):
            raise InvalidInput(f"numbers: those of murmur_dead_letters are needed, not {numbers!r}")
        return self.replica.drop_dead_letters(numbers)

    def sync(self) -> None:
        """Make all that was written so far durable now."""
        self.check_usable()
        self.replica.sync()

    def flush(self) -> None:
        """Write what is in memory to sorted files, so that the next opening is quick."""
        self.check_usable()
        self.replica.flush()

    def backup(self, directory: str, label: str = "") -> Generation:
        """Add all that is here to the backups in a directory; only what they lack is copied.

        `murmur restore`, or kvcore's Backup, makes a directory of a generation: another replica,
        with an id of its own. Raises OSError, Unsupported under the backend "sqlite".
        """
        self.check_usable()
        return self.replica.backup(os.path.abspath(directory), label)

    @property
    def settings(self) -> dict[str, object]:
        """With what `murmur.open` would open it as it is open now."""
        return {
            "group": self.group,
            "durability": self.replica.durability,
            "name": self.name,
            "backend": self.replica.backend,
            **asdict(self._network),
        }

    # Its end -----------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the swarm is closed."""
        return self._handle.closed

    def close(self) -> None:
        """Leave the network, make everything durable, let go of the directory.

        From any thread; closing twice is once. What still uses the swarm gets Closed.
        """
        if self._handle.inherited:
            self._handle.closed = True
            return
        with self._lock:
            if self._handle.closed:
                return
            try:
                if self._node is not None:
                    self._node.close()
            finally:
                try:
                    if self._engine is not None:
                        self._engine.close()
                finally:
                    try:
                        self.replica.close()
                    finally:
                        self._handle.closed = True

    def __enter__(self) -> Swarm:
        self.check_usable()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # At the very end of the interpreter threads cannot be waited for; atexit has been here.
        handle = getattr(self, "_handle", None)
        if handle is not None and not handle.closed and not sys.is_finalizing():
            self.abandon()

    def abandon(self) -> None:
        """Close it, with a warning that its owner did not."""
        try:
            if not self._handle.inherited:
                text = f"{self!r} was not closed"
                warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
        finally:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"replica {self.replica_id}"
        return f"<Swarm {self.name!r} at {self.path!r}, {state}>"


def check_path(path: object) -> str:
    """The path as text, or InvalidInput."""
    if not isinstance(path, str | os.PathLike):
        raise InvalidInput(f"a path is str or os.PathLike, not {type(path).__name__}")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InvalidInput("a path is text, not bytes")
    if not text:
        raise InvalidInput("the path is empty; name a directory")
    if "\0" in text:
        raise InvalidInput("the path has a NUL in it")
    if text == ":memory:":
        raise InvalidInput("a swarm lives in a directory; for a passing one, use tempfile")
    return text


def _node_ids(voters: object) -> tuple[str, ...]:
    if isinstance(voters, str) or not isinstance(voters, Iterable):
        raise InvalidInput(f"voters: a list of node ids is needed, not {voters!r}")
    return tuple(voters)


def _check_text(text: object, what: str) -> str:
    if not isinstance(text, str) or not text:
        raise InvalidInput(f"{what}: a name is needed, not {text!r}")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        reason = f"a lone surrogate at position {error.start}, which is not valid text"
        raise InvalidInput(f"{what}: {reason}") from None
    if len(encoded) > 255:
        raise InvalidInput(f"{what}: a name of at most 255 bytes is needed")
    return text


def _compile_row_expression(
    text: str, columns: Sequence[tuple[str, SqlType]], result: SqlType
) -> Callable[[Sequence[Any]], Any]:
    """What an index or a generated column computes; SQL is imported for the first of them."""
    from murmur.sql.row_expressions import compile_row_expression

    return compile_row_expression(text, columns, result)
