"""System relations of the swarm: peers, conflicts, parked and refused records and the log.

    SELECT kind, key, winner, loser FROM murmur_conflicts WHERE table_name = 'airline'

Nothing that merging set aside is out of sight (law L7): each relation shows what one part of the
system holds at the moment of the statement, murmur_conflicts and murmur_log as the statement's
snapshot has it. (murmur_tables, murmur_columns and murmur_indexes are the SQL floor's own.)
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from murmur.catalog import Catalog, SqlType, conflicts
from murmur.catalog.types import BIGINT, BLOB, BOOLEAN, DOUBLE, TEXT, TIMESTAMPTZ
from murmur.errors import Closed
from murmur.kvcore import stamp_ms
from murmur.olap.feed import position_of, read_log
from murmur.sql import ResultColumn
from murmur.sql.checks import checks_of

if TYPE_CHECKING:
    from murmur.kvcore import Replica, View
    from murmur.sync import BootstrapStatus, MemberStatus, PeerStatus, PendingPeer

_COLUMNS: Mapping[str, tuple[tuple[str, SqlType], ...]] = {
    "murmur_peers": (
        ("node_id", TEXT),
        ("replica_id", TEXT),
        ("address", TEXT),
        ("transport", TEXT),
        ("state", TEXT),
        ("dialed", BOOLEAN),
        ("rtt_ms", BIGINT),
        ("loss", DOUBLE),
        ("skew_ms", BIGINT),
        ("backlog", BIGINT),
        ("lag_ms", BIGINT),
        ("records_in", BIGINT),
        ("records_out", BIGINT),
        ("bytes_in", BIGINT),
        ("bytes_out", BIGINT),
        ("rate_in", BIGINT),
        ("rate_out", BIGINT),
        ("attempts", BIGINT),
        ("last_error", TEXT),
        ("quarantined_at", TIMESTAMPTZ),
        ("quarantined_until", TIMESTAMPTZ),
    ),
    "murmur_members": (
        ("node_id", TEXT),
        ("replica_id", TEXT),
        ("roles", TEXT),
        ("addresses", TEXT),
        ("liveness", TEXT),
        ("signed", BOOLEAN),
        ("signed_at", TIMESTAMPTZ),
        ("met_at", TIMESTAMPTZ),
    ),
    "murmur_pending": (
        ("node_id", TEXT),
        ("addresses", TEXT),
        ("via", TEXT),
        ("asks", BOOLEAN),
        ("first_seen", TIMESTAMPTZ),
        ("last_seen", TIMESTAMPTZ),
    ),
    "murmur_bootstrap": (
        ("stage", TEXT),
        ("sources", BIGINT),
        ("chunks_held", BIGINT),
        ("chunks", BIGINT),
        ("bytes_held", BIGINT),
        ("bytes", BIGINT),
        ("joined", BIGINT),
        ("last_error", TEXT),
    ),
    "murmur_conflicts": (
        ("kind", TEXT),
        ("table_name", TEXT),
        ("key", TEXT),
        ("constraint_name", TEXT),
        ("detail", TEXT),
        ("winner", TEXT),
        ("loser", TEXT),
        ("hlc", BIGINT),
        ("time", TIMESTAMPTZ),
        ("replica", TEXT),
    ),
    "murmur_parked": (
        ("replica", TEXT),
        ("seq", BIGINT),
        ("hlc", BIGINT),
        ("time", TIMESTAMPTZ),
        ("bytes", BIGINT),
    ),
    "murmur_dead_letters": (
        ("number", BIGINT),
        ("node_id", TEXT),
        ("replica", TEXT),
        ("seq", BIGINT),
        ("reason", TEXT),
        ("time", TIMESTAMPTZ),
        ("times", BIGINT),
        ("bytes", BIGINT),
        ("record", BLOB),
    ),
    "murmur_log": (
        ("position", BIGINT),
        ("kind", TEXT),
        ("replica", TEXT),
        ("seq", BIGINT),
        ("hlc", BIGINT),
        ("time", TIMESTAMPTZ),
        ("operations", BIGINT),
        ("bytes", BIGINT),
    ),
}


class Swarm(Protocol):
    """What the relations are about."""

    @property
    def replica(self) -> Replica:
        """The log, the parked records and the state."""
        ...

    def peers(self) -> list[PeerStatus]:
        """All peers that are known."""
        ...

    def bootstrap_status(self) -> BootstrapStatus | None:
        """How far a snapshot that this replica takes has come."""
        ...

    def members(self) -> list[MemberStatus]:
        """The members of the group."""
        ...

    def pending_peers(self) -> list[PendingPeer]:
        """All that wait to be accepted."""
        ...


class SystemRelations:
    """The relations of one swarm. It is held weakly: prepared statements outlive it otherwise."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = weakref.ref(swarm)
        self._rows: Mapping[str, Callable[[Swarm, View], Iterator[tuple[Any, ...]]]] = {
            "murmur_peers": _peers,
            "murmur_members": _members,
            "murmur_pending": _pending,
            "murmur_bootstrap": _bootstrap,
            "murmur_conflicts": _conflicts,
            "murmur_parked": _parked,
            "murmur_dead_letters": _dead_letters,
            "murmur_log": _log,
        }

    def columns(self, name: str) -> tuple[ResultColumn, ...] | None:
        """The columns of a relation; None when there is none of this name."""
        columns = _COLUMNS.get(name)
        return None if columns is None else tuple(ResultColumn(*column) for column in columns)

    def rows(self, name: str, view: View) -> Iterator[tuple[Any, ...]]:
        """What the relation holds, in this view."""
        swarm = self._swarm()
        if swarm is None:
            raise Closed("the swarm is closed")
        return self._rows[name](swarm, view)


def _peers(swarm: Swarm, view: View) -> Iterator[tuple[Any, ...]]:
    names = [name for name, kind in _COLUMNS["murmur_peers"] if kind is not TIMESTAMPTZ]
    for peer in swarm.peers():
        quarantined = peer.quarantined_ms, peer.quarantined_until_ms
        times = (None if ms is None else _wall(ms) for ms in quarantined)
        yield *(getattr(peer, name) for name in names), *times


def _members(swarm: Swarm, view: View) -> Iterator[tuple[Any, ...]]:
    for member in swarm.members():
        yield (
            member.node_id,
            member.replica_id,
            ", ".join(member.roles),
            ", ".join(member.addresses),
            member.liveness,
            member.signed,
            *(None if ms is None else _wall(ms) for ms in (member.signed_ms, member.met_ms)),
        )


def _pending(swarm: Swarm, view: View) -> Iterator[tuple[Any, ...]]:
    for peer in swarm.pending_peers():
        seen = map(_wall, (peer.first_ms, peer.last_ms))
        yield peer.node_id, ", ".join(peer.addresses), peer.via, peer.asks, *seen


def _bootstrap(swarm: Swarm, view: View) -> Iterator[tuple[Any, ...]]:
    status = swarm.bootstrap_status()
    if status is not None:
        yield tuple(getattr(status, name) for name, _ in _COLUMNS["murmur_bootstrap"])


def _parked(swarm: Swarm, view: View) -> Iterator[tuple[Any, ...]]:
    for record in swarm.replica.parked():
        stamp = record.stamp
        yield record.replica.hex(), record.seq, _hlc(stamp), _moment(stamp), record.bytes


def _dead_letters(swarm: Swarm, view: View) -> Iterator[tuple[Any, ...]]:
    from murmur.sync.ticket import node_text

    for letter in swarm.replica.dead_letters():
        yield (
            letter.number,
            node_text(letter.peer) if letter.peer else None,
            letter.replica.hex() if letter.replica is not None else None,
            None if letter.seq is None else min(letter.seq, 2**63 - 1),
            letter.reason,
            _moment(letter.time_ms << 16),
            letter.times,
            letter.size,
            letter.record or None,
        )


def _log(swarm: Swarm, view: View) -> Iterator[tuple[Any, ...]]:
    for entry in read_log(swarm.replica.log, position_of(view)):
        yield (
            entry.position,
            "admitted" if entry.admitted else "parked",
            entry.replica.hex(),
            entry.seq,
            _hlc(entry.stamp),
            _moment(entry.stamp),
            entry.operations,
            entry.bytes,
        )


def _conflicts(swarm: Swarm, view: View) -> Iterator[tuple[Any, ...]]:
    catalog = view.state  # type: ignore[attr-defined]
    assert isinstance(catalog, Catalog)
    for conflict in conflicts(view, catalog, checks_of):
        stamp, replica = conflict.stamp, conflict.replica
        yield (
            conflict.kind,
            conflict.table,
            conflict.key,
            conflict.constraint,
            conflict.detail,
            conflict.winner,
            conflict.loser,
            None if stamp is None else _hlc(stamp),
            None if stamp is None else _moment(stamp),
            None if replica is None else replica.hex(),
        )


def _wall(ms: int) -> datetime | None:
    """A peer's wall clock; None beyond the year 9999."""
    return _moment(ms << 16)


def _hlc(stamp: int) -> int:
    return min(stamp, 2**63 - 1)


def _moment(stamp: int) -> datetime | None:
    """The wall clock in a stamp; None beyond the year 9999, which a broken clock can claim."""
    seconds, milliseconds = divmod(stamp_ms(stamp), 1000)
    if seconds > 253_402_300_799:
        return None
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)
