"""Push: whom a node sends new transactions at once, and whom it only tells that it has them.

Up to FULL_MESH open conversations nothing is to be decided: authors send to everybody, and others
leave it to them (LINKS, exchange.py). Beyond, links are *eager* or *lazy*, after Plumtree (Leitao,
Pereira, Rodrigues: "Epidemic Broadcast Trees", 2007). Along eager links everything is passed on;
over lazy ones go the acknowledgements alone, whose vectors say what the sender holds: IHAVE.

    35 GRAFT   []     send to me at once from now on: something did not come by another way
    36 PRUNE   []     do not: I had it already

So the eager links become a tree. When something that a lazy neighbour holds does not come, because
a link of the tree broke, that neighbour is grafted. A link is eager or lazy for both of its ends.

Invariants:
    1. A node with links has an eager one.
    2. What a lazy neighbour holds and this node lacks for `graft_ms` is asked for by a GRAFT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from murmur.sync.service import Fabric, Remote, Service, Urgency
from murmur.sync.wire import pack

GRAFT, PRUNE = 35, 36
FEATURE = 1 << GRAFT

FULL_MESH = 8  # open conversations
EAGER_LINKS = 4  # so many at first; grafts and prunes change it
GRAFT_MS = 600  # and two round trips: transactions are made durable at every hop
PAUSE_MS = 1_000  # between two grafts of one link
REPAIR_MS = 50  # so seldom does it look at what did not come


@dataclass(slots=True)
class _Link:
    """One neighbour that can be lazy."""

    remote: Remote
    eager: bool = True
    duplicates: int = 0  # of its flow, that were looked at
    heard: int = -1  # acknowledgements, likewise
    grafted_ms: int = -PAUSE_MS


@dataclass(slots=True)
class _Lack:
    """A neighbour holds more of some author than this node does."""

    have: int
    since_ms: int


class Push(Service):
    """The eager and lazy links of one node."""

    kinds = (GRAFT, PRUNE)
    features = FEATURE

    def __init__(
        self,
        *,
        full_mesh: int = FULL_MESH,
        eager_links: int = EAGER_LINKS,
        graft_ms: int = GRAFT_MS,
    ) -> None:
        self.grafts = self.prunes = 0  # that this node has sent
        self._full_mesh = full_mesh
        self._eager_links = eager_links
        self._graft_ms = graft_ms
        self._fabric: Fabric
        self._links: dict[bytes, _Link] = {}
        self._others: set[bytes] = set()  # neighbours of older releases: always eager
        self._lacks: dict[bytes, _Lack] = {}
        self._tree = False
        self._repair_at_ms = 0

    def eager(self) -> set[bytes]:
        """The neighbours that are sent everything at once."""
        return self._others | {node_id for node_id, link in self._links.items() if link.eager}

    # -- as a service

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """The mesh begins."""
        self._fabric = fabric

    def opened(self, remote: Remote, now_ms: int) -> None:
        """A new neighbour: eager while there are few of these."""
        if not remote.features & FEATURE:
            self._others.add(remote.node_id)
        else:
            enough = len(self.eager()) >= self._eager_links
            link = self._links[remote.node_id] = _Link(remote)
            if self._grown() and enough:
                self._prune(link, now_ms)
        self._settle(now_ms)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """A neighbour has left."""
        self._others.discard(remote.node_id)
        self._links.pop(remote.node_id, None)
        self._settle(now_ms)

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """The neighbour wants more, or less."""
        link = self._links.get(remote.node_id)
        if link is not None:
            link.remote = remote
            self._turn(link, eager=kind == GRAFT, now_ms=now_ms)
            self._settle(now_ms)

    def tick(self, now_ms: int) -> None:
        """Look at what came twice, and at what did not come."""
        lazy = False
        for link in self._links.values():
            flow = self._fabric.flow(link.remote.node_id)
            if flow is None:
                continue
            if flow.duplicates != link.duplicates:
                link.duplicates = flow.duplicates
                if self._tree and link.eager and len(self.eager()) > 1:
                    self._prune(link, now_ms)
            lazy = lazy or not link.eager
            if not link.eager and flow.heard != link.heard:
                link.heard = flow.heard
                self._compare(flow.durable, now_ms)
        if self._lacks:
            if not lazy:
                self._lacks.clear()
            elif now_ms >= self._repair_at_ms:
                self._repair_at_ms = now_ms + REPAIR_MS
                self._repair(now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due = [lack.since_ms + self._graft_ms for lack in self._lacks.values()]
        return max(self._repair_at_ms, now_ms + 10, min(due)) if due else None

    # -- inside

    def _grown(self) -> bool:
        return len(self._links) + len(self._others) > self._full_mesh

    def _settle(self, now_ms: int) -> None:
        """Enter or leave the tree; see that one link is eager."""
        grown = self._grown()
        if self._tree and not grown:
            for link in self._links.values():
                if not link.eager:
                    self._graft(link, now_ms)
        self._tree = grown
        if self._links and not self.eager():
            ready = [x for x in self._links.values() if now_ms >= x.grafted_ms + PAUSE_MS]
            if ready:
                self._graft(min(ready, key=_distance), now_ms)

    def _compare(self, theirs: Mapping[bytes, int], now_ms: int) -> None:
        """Note what a lazy neighbour holds and this node does not."""
        mine = self._fabric.outbox.vector
        for replica, seq in theirs.items():
            have = mine.get(replica, 0)
            if seq > have and replica not in self._lacks:
                self._lacks[replica] = _Lack(have, now_ms)

    def _repair(self, now_ms: int) -> None:
        """Graft a neighbour for what has not come for long."""
        mine = self._fabric.outbox.vector
        flows = {node_id: self._fabric.flow(node_id) for node_id in self._links}
        if any(flow is not None and flow.busy for flow in flows.values()):
            return  # it may have arrived and not yet be applied
        for replica, lack in list(self._lacks.items()):
            have = mine.get(replica, 0)
            holders = [
                link
                for node_id, link in self._links.items()
                if (flow := flows[node_id]) is not None and flow.durable.get(replica, 0) > have
            ]
            if not holders:
                del self._lacks[replica]
            elif have != lack.have:
                self._lacks[replica] = _Lack(have, now_ms)
            elif lazy := [link for link in holders if not link.eager]:
                link = min(lazy, key=_distance)
                if now_ms >= lack.since_ms + self._graft_ms + 2 * _distance(link):
                    self._graft(link, now_ms)
                    for other in self._lacks.values():
                        other.since_ms = now_ms  # it brings what it has of them too
                    return

    def _graft(self, link: _Link, now_ms: int) -> None:
        self.grafts += 1
        link.grafted_ms = now_ms
        self._say(link, GRAFT)
        self._turn(link, eager=True, now_ms=now_ms)

    def _prune(self, link: _Link, now_ms: int) -> None:
        self.prunes += 1
        self._say(link, PRUNE)
        self._turn(link, eager=False, now_ms=now_ms)

    def _turn(self, link: _Link, *, eager: bool, now_ms: int) -> None:
        link.eager = eager
        link.heard = -1
        flow = self._fabric.flow(link.remote.node_id)
        if flow is not None:
            flow.turn(eager=eager, now_ms=now_ms)

    def _say(self, link: _Link, kind: int) -> None:
        self._fabric.say(link.remote.node_id, kind, pack([]), Urgency.CONTROL)


def _distance(link: _Link) -> int:
    return link.remote.rtt_ms or 0
