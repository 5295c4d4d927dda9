"""The Bully election (Garcia-Molina 1982): whoever of those in reach has the highest id leads.

    55 ELECTION     []        to everybody with a higher id: is anybody there?
    56 ALIVE        []        the answer: leave it to me
    57 COORDINATOR  [term]    to everybody, again and again: I lead

It asks for no configuration, and promises less: each side of a partition has a leader of its own,
and a node with a higher id takes over when it comes. There is no lease and no fencing token.
"""

from __future__ import annotations

from murmur.errors import ProtocolViolation
from murmur.sync.election.leadership import Changed, Election, ElectionTiming, Leadership
from murmur.sync.service import Fabric, Remote, Urgency
from murmur.sync.wire import pack, unpack

ELECTION, ALIVE, COORDINATOR = range(55, 58)
MAX_TERM = 1 << 53


class BullyElection(Election):
    """One node's part in the elections."""

    kinds = range(55, 58)

    def __init__(
        self,
        *,
        timing: ElectionTiming | None = None,
        on_change: Changed = lambda leadership: None,
    ) -> None:
        """`on_change` is called by the node's thread."""
        self._timing = timing or ElectionTiming()
        self._on_change = on_change
        self._leader: bytes | None = None
        self._term = 0
        self._told = Leadership(None, 0)
        self._elect_at_ms: int | None = None  # nobody leads, or nobody is heard to lead
        self._claim_at_ms: int | None = None  # nobody with a higher id answers
        self._beat_at_ms: int | None = None  # this node leads

    @property
    def leadership(self) -> Leadership:
        """Who leads, as this node sees it. From any thread."""
        return self._told

    def leads(self, now_ms: int) -> bool:
        """Whether this node believes that it leads. From any thread."""
        return self._told.leader is not None and self._told.leader == self._fabric.node_id

    def token(self, now_ms: int) -> int | None:
        """None: a leader by Bully is not fenced."""
        return None

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """Begin, and give those who are there time to be met."""
        self._fabric = fabric
        self._elect_at_ms = now_ms + self._timing.timeout_ms

    def opened(self, remote: Remote, now_ms: int) -> None:
        """Somebody came: it hears who leads, if that is this node."""
        if self._leader == self._fabric.node_id:
            self._say(remote.node_id, COORDINATOR, [self._term])

    def closed(self, remote: Remote, now_ms: int) -> None:
        """Somebody left; another takes the leader's place."""
        if remote.node_id == self._leader:
            self._follow(None)
            self._elect_at_ms = now_ms + self._fabric.random.randrange(self._timing.heartbeat_ms)

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """Take a message."""
        node_id, own = remote.node_id, self._fabric.node_id
        fields = unpack(payload)
        if not isinstance(fields, list):
            raise ProtocolViolation("election: not a list of fields")
        if kind == ELECTION:
            if node_id < own:
                self._say(node_id, ALIVE, [])
                if self._leader == own:
                    self._say(node_id, COORDINATOR, [self._term])
                elif self._claim_at_ms is None:
                    self._elect(now_ms)
        elif kind == ALIVE:
            if node_id > own and self._claim_at_ms is not None:
                self._claim_at_ms = None
                self._elect_at_ms = now_ms + self._timing.timeout_ms  # should it fail to claim
        else:
            term = fields[0] if fields else None
            if type(term) is not int or not 0 <= term <= MAX_TERM:
                raise ProtocolViolation("COORDINATOR: no term")
            self._term = max(self._term, term)
            if node_id > own:
                if self._leader is None or node_id >= self._leader:
                    self._follow(node_id)
                    self._elect_at_ms = now_ms + self._timing.timeout_ms
            elif self._leader != own and self._claim_at_ms is None:
                self._elect(now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        if self._beat_at_ms is not None and now_ms >= self._beat_at_ms:
            self._beat(now_ms)
        if self._claim_at_ms is not None and now_ms >= self._claim_at_ms:
            self._claim(now_ms)
        if self._elect_at_ms is not None and now_ms >= self._elect_at_ms:
            self._elect(now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        timers = (self._beat_at_ms, self._claim_at_ms, self._elect_at_ms)
        return min((timer for timer in timers if timer is not None), default=None)

    def end(self) -> None:
        """The node closes: it leads no more."""
        self._follow(None)

    def _elect(self, now_ms: int) -> None:
        """Ask those with a higher id; claim the lead if there are none."""
        self._follow(None)
        self._elect_at_ms = None
        own = self._fabric.node_id
        higher = [r.node_id for r in self._fabric.remotes() if r.node_id > own]
        for node_id in higher:
            self._say(node_id, ELECTION, [])
        if higher:
            self._claim_at_ms = now_ms + self._timing.heartbeat_ms
        else:
            self._claim(now_ms)

    def _claim(self, now_ms: int) -> None:
        self._claim_at_ms = self._elect_at_ms = None
        self._term += 1
        self._follow(self._fabric.node_id)
        self._beat(now_ms)

    def _beat(self, now_ms: int) -> None:
        self._beat_at_ms = now_ms + self._timing.heartbeat_ms
        for remote in self._fabric.remotes():
            self._say(remote.node_id, COORDINATOR, [self._term])

    def _follow(self, leader: bytes | None) -> None:
        if leader is not None:
            self._claim_at_ms = None
        if leader != self._fabric.node_id:
            self._beat_at_ms = None
        self._leader = leader
        now = Leadership(leader, self._term)
        changed = leader != self._told.leader
        self._told = now
        if changed:
            self._on_change(now)

    def _say(self, node_id: bytes, kind: int, fields: list[object]) -> None:
        self._fabric.say(node_id, kind, pack(fields), Urgency.CONTROL)
