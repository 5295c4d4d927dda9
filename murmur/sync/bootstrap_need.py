"""Whether a snapshot is needed, and from whom it is to come.

    needed    a peer's log no longer holds what this replica lacks, and nobody else's does
    better    what it lacks of a log is longer than half of the state

What is missing may be on its way, so it is needed only when it has been missing for GRACE_MS; and
as long as another peer's log may bring it, for PATIENCE_MS in which nothing came of that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from murmur.sync.bootstrap_sources import Source
from murmur.sync.outbox import serves

GRACE_MS = 1_000
PATIENCE_MS = 15_000
LEAST_NEED_BYTES = 64 << 20  # of log: less is sent whatever the state's size


class Need:
    """What one replica lacks, and since when."""

    def __init__(self, least_need_bytes: int) -> None:
        self._least_bytes = least_need_bytes
        self._since_ms: int | None = None
        self._moved_ms = 0
        self._seen_total = 0

    @property
    def felt(self) -> bool:
        """Whether something is missing, if only for a moment."""
        return self._since_ms is not None

    def start(self, now_ms: int) -> None:
        """Time begins."""
        self._moved_ms = now_ms

    def notice(self, own: Mapping[bytes, int], now_ms: int) -> None:
        """See whether anything has come."""
        total = sum(own.values())
        if total != self._seen_total:
            self._seen_total, self._moved_ms = total, now_ms

    def met(self) -> None:
        """A snapshot was joined, or it begins anew."""
        self._since_ms = None

    def source(
        self, sources: Collection[Source], own: Mapping[bytes, int], now_ms: int
    ) -> tuple[Source, str] | None:
        """Who is to make a snapshot now, and why; None if nobody is."""
        able = [source for source in sources if source.stood]
        needed = [source for source in able if source.lacks_for(own)]
        better = [source for source in able if self._is_better(source, own)]
        if not needed and not better:
            self._since_ms = None
            return None
        if self._since_ms is None:
            self._since_ms = now_ms
        if better:
            return _most(better), "its log is longer than half of its state"
        if now_ms < self._since_ms + GRACE_MS:
            return None
        if now_ms < max(self._moved_ms, self._since_ms) + PATIENCE_MS:
            logs = [source for source in able if not source.lacks_for(own)]
            needed = [
                source
                for source in needed
                if not any(serves(source.floor, other.durable) for other in logs)
            ]
        if not needed:
            return None
        return _most(needed), "what this replica lacks is no longer in its log"

    def _is_better(self, source: Source, own: Mapping[bytes, int]) -> bool:
        return source.need_bytes(own) > max(self._least_bytes, source.state_bytes // 2)


def _most(sources: Collection[Source]) -> Source:
    """The one that has most: what it lacks is fetched from another one afterwards."""
    return max(sources, key=lambda s: (sum(s.durable.values()), s.remote.node_id))
