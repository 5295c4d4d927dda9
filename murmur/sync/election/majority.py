"""Election by a majority of the configured voters, with terms, a lease and a fencing token.

    FOLLOWER --nobody leads--> CANVASSING --majority would--> CANDIDATE --majority does--> LEADER
        ^--------- a greater term, or nobody answers -------------'-------------------------'

The elections are Raft's (Ongaro and Ousterhout 2014), without its log: terms, one vote a term,
randomised waiting, pre-votes (a node that was cut off does not disturb the others when it comes
back), and votes refused while a leader is heard. On top stands a lease: the leader leads until
`lease_ms` after the sending of the last heartbeat that a majority answered, and each of those
grants no vote until `timeout_ms` after it came. So leases do not overlap, as long as no clock runs
a quarter faster than another. What a lease cannot prevent is a process that is stopped between
asking and acting: who does the work compares the token, which is the term.

    50 ASK_VOTE   [voters' digest, term, whether it is only a question]
    51 GIVE_VOTE  [term, whether it was only a question, whether it is given]
    52 LEAD       [voters' digest, term, token]       to everybody; token: the leader's clock
    53 FOLLOW     [term, token]                       the answer of a voter
    54 TELL       [term, node id, replica, token]     of the leader, to who does not hear it

Invariants:
    1. At most one node leads in a term; a vote is durable before it is given (ballot.py).
    2. `leads` is true of at most one node at a time.
    3. A node that has just started gives no vote for `timeout_ms`: it may have promised so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import Any

from murmur.errors import ProtocolViolation
from murmur.sync.election.ballot import Ballot, Vote
from murmur.sync.election.leadership import Changed, Election, ElectionTiming, Leadership
from murmur.sync.service import Fabric, Remote, Urgency
from murmur.sync.wire import pack, unpack

ASK_VOTE, GIVE_VOTE, LEAD, FOLLOW, TELL = range(50, 55)
MAX_TERM = 1 << 53

log = logging.getLogger("murmur.sync")


class Standing(Enum):
    """What a voter is doing."""

    FOLLOWER = "follower"
    CANVASSING = "canvassing"
    CANDIDATE = "candidate"
    LEADER = "leader"


class MajorityElection(Election):
    """One node's part in the elections."""

    kinds = range(50, 55)

    def __init__(
        self,
        voters: Iterable[bytes],
        ballot: Ballot,
        *,
        timing: ElectionTiming | None = None,
        on_change: Changed = lambda leadership: None,
    ) -> None:
        """`voters` are node ids, the same on every node; who is none of them only follows.

        `on_change` is called by the node's thread.
        """
        self.voters = frozenset(voters)
        self.standing = Standing.FOLLOWER
        self._quorum = len(self.voters) // 2 + 1
        self._digest = blake2b(b"".join(sorted(self.voters)), digest_size=16).digest()
        self._ballot = ballot
        self._timing = timing or ElectionTiming()
        self._on_change = on_change
        self._term, self._vote = ballot.last.term, ballot.last.candidate
        self._leader: bytes | None = None
        self._leader_replica = b""
        self._leader_token = -1
        self._heard_ms = 0  # the leader
        self._no_vote_before_ms = 0
        self._stand_at_ms: int | None = None
        self._votes: set[bytes] = set()
        self._answers: dict[bytes, int] = {}  # the newest token that each voter answered
        self._beat_at_ms = 0
        self._confirm_by_ms = 0
        self._lease: tuple[int, int] | None = None  # (term, until): read by other threads
        self._told = Leadership(None, self._term)
        self._at_odds: set[bytes] = set()  # who has other voters configured

    # -- what may be asked

    @property
    def leadership(self) -> Leadership:
        """Who leads, as this node sees it. From any thread."""
        return self._told

    def leads(self, now_ms: int) -> bool:
        """Whether this node holds the lease at this moment. From any thread."""
        lease = self._lease
        return lease is not None and now_ms < lease[1]

    def token(self, now_ms: int) -> int | None:
        """The term, while this node leads. From any thread."""
        lease = self._lease
        return lease[0] if lease is not None and now_ms < lease[1] else None

    # -- what the mesh says

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """Begin, as a follower of nobody."""
        self._fabric = fabric
        self._no_vote_before_ms = now_ms + self._timing.timeout_ms
        if fabric.node_id in self.voters:
            self._stand_later(now_ms)

    def opened(self, remote: Remote, now_ms: int) -> None:
        """Somebody came: it should know who leads."""
        if self.standing is Standing.LEADER:
            self._say(remote.node_id, LEAD, [self._digest, self._term, now_ms])
        elif self._leader is not None:
            self._tell(remote)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """Somebody left: if it is the leader, that is noticed by its silence."""

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """Take a message."""
        if kind == ASK_VOTE:
            digest, term, question = _fields(payload, "ASK_VOTE", bytes, int, bool)
            self._asked(remote, digest, term, now_ms, question=question)
        elif kind == GIVE_VOTE:
            term, question, given = _fields(payload, "GIVE_VOTE", int, bool, bool)
            self._answered(remote.node_id, term, now_ms, question=question, given=given)
        elif kind == LEAD:
            digest, term, token = _fields(payload, "LEAD", bytes, int, int)
            if self.voters and not self._agrees(remote, digest):
                return
            if term >= self._term and not self._deposed_by(term, remote.node_id):
                self._follow(remote.node_id, remote.replica, term, token, now_ms)
            if self._fabric.node_id in self.voters:
                self._say(remote.node_id, FOLLOW, [self._term, token])
        elif kind == FOLLOW:
            term, token = _fields(payload, "FOLLOW", int, int)
            self._followed(remote.node_id, term, token, now_ms)
        else:
            term, leader, replica, token = _fields(payload, "TELL", int, bytes, bytes, int)
            news = term > self._term or (leader == self._leader and token > self._leader_token)
            unknown = term == self._term and self._leader is None
            if (news or unknown) and leader != self._fabric.node_id and self._plausible(leader):
                self._follow(leader, replica, term, token, now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        if self.standing is Standing.LEADER:
            until = self._lease[1] if self._lease is not None else self._confirm_by_ms
            if now_ms >= until:
                self._step_down(self._term, now_ms)
            elif now_ms >= self._beat_at_ms:
                self._beat(now_ms)
        elif self._stand_at_ms is not None and now_ms >= self._stand_at_ms:
            self._canvass(now_ms)
        elif self._leader is not None and now_ms >= self._forget_at_ms():
            self._leader = None
        self._publish()

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        if self.standing is Standing.LEADER:
            until = self._lease[1] if self._lease is not None else self._confirm_by_ms
            return min(self._beat_at_ms, until)
        due = [self._forget_at_ms()] if self._leader is not None else []
        if self._stand_at_ms is not None:
            due.append(self._stand_at_ms)
        return min(due, default=None)

    def end(self) -> None:
        """The node closes: it leads no more."""
        self._lease = None
        self._leader = None
        self._publish()

    # -- to vote

    def _asked(
        self, remote: Remote, digest: bytes, term: int, now_ms: int, *, question: bool
    ) -> None:
        candidate = remote.node_id
        bound = now_ms < self._no_vote_before_ms or self.leads(now_ms)
        if not self._agrees(remote, digest) or bound or self._fabric.node_id not in self.voters:
            self._answer(candidate, self._term, question=question, given=False)
            return
        if question:
            given = term > self._term
            self._answer(candidate, term if given else self._term, question=True, given=given)
            return
        if term > self._term:
            self._step_down(term, now_ms)
        if term < self._term or self._vote not in (None, candidate):
            self._answer(candidate, self._term, question=False, given=False)
            return
        self._vote = candidate
        self._stand_later(now_ms)
        self._cast(lambda _: self._answer(candidate, term, question=False, given=True))

    def _answered(
        self, voter: bytes, term: int, now_ms: int, *, question: bool, given: bool
    ) -> None:
        if voter not in self.voters:
            return
        if not given:
            if term > self._term:
                self._step_down(term, now_ms)
        elif question and self.standing is Standing.CANVASSING and term == self._term + 1:
            self._votes.add(voter)
            if len(self._votes) >= self._quorum:
                self._campaign(now_ms)
        elif not question and self.standing is Standing.CANDIDATE and term == self._term:
            self._votes.add(voter)
            self._count(now_ms)

    def _answer(self, candidate: bytes, term: int, *, question: bool, given: bool) -> None:
        self._say(candidate, GIVE_VOTE, [term, question, given])

    def _cast(self, then: Callable[[int], None]) -> None:
        """Make the vote durable, then go on; without disk there is no vote."""
        vote = Vote(self._term, self._vote)

        def done(_: None, error: BaseException | None, now_ms: int) -> None:
            if error is not None:
                log.error("the ballot could not be written: %s", error)
                self._fabric.notice("error", self._fabric.node_id, f"no vote given: {error}")
            elif self._term == vote.term:
                then(now_ms)

        self._fabric.labour.submit("ballot", partial(self._ballot.cast, vote), done)

    # -- to stand

    def _stand_later(self, now_ms: int) -> None:
        wait = self._timing.timeout_ms
        if self._fabric.node_id in self.voters:
            self._stand_at_ms = now_ms + wait + self._fabric.random.randrange(wait)

    def _canvass(self, now_ms: int) -> None:
        """Ask whether a candidacy would succeed."""
        self._leader = None
        self.standing = Standing.CANVASSING
        self._votes = {self._fabric.node_id}
        self._stand_later(now_ms)
        if len(self._votes) >= self._quorum:
            self._campaign(now_ms)
        else:
            self._ask([self._digest, self._term + 1, True])

    def _campaign(self, now_ms: int) -> None:
        """Stand in a term of its own, with the own vote."""
        self.standing = Standing.CANDIDATE
        self._term += 1
        self._vote = self._fabric.node_id
        self._votes = set()
        self._stand_later(now_ms)
        self._cast(partial(self._stand, self._term))

    def _stand(self, term: int, now_ms: int) -> None:
        if self.standing is Standing.CANDIDATE and self._term == term:
            self._votes.add(self._fabric.node_id)
            self._ask([self._digest, term, False])
            self._count(now_ms)

    def _ask(self, fields: list[object]) -> None:
        for voter in self.voters - {self._fabric.node_id}:
            self._say(voter, ASK_VOTE, fields)

    def _count(self, now_ms: int) -> None:
        if len(self._votes) >= self._quorum:
            self.standing = Standing.LEADER
            self._stand_at_ms = None
            self._answers = {}
            self._confirm_by_ms = now_ms + self._timing.timeout_ms
            self._beat(now_ms)

    # -- to lead

    def _beat(self, now_ms: int) -> None:
        """Say that this node leads."""
        self._beat_at_ms = now_ms + self._timing.heartbeat_ms
        for remote in self._fabric.remotes():
            self._say(remote.node_id, LEAD, [self._digest, self._term, now_ms])
        self._extend(now_ms)

    def _followed(self, voter: bytes, term: int, token: int, now_ms: int) -> None:
        if term > self._term and voter in self.voters:
            self._step_down(term, now_ms)
        leading = self.standing is Standing.LEADER and term == self._term
        if leading and voter in self.voters and token <= now_ms:
            self._answers[voter] = max(token, self._answers.get(voter, 0))
            self._extend(now_ms)

    def _extend(self, now_ms: int) -> None:
        """The lease runs from the newest moment that a majority has answered."""
        own = self._fabric.node_id
        moments = sorted([now_ms, *(t for v, t in self._answers.items() if v != own)], reverse=True)
        if len(moments) < self._quorum:
            return
        until = moments[self._quorum - 1] + self._timing.lease_ms
        if until > now_ms and (self._lease is None or until > self._lease[1]):
            self._lease = (self._term, until)
            self._leader, self._leader_token = own, now_ms
            self._publish()

    # -- to follow

    def _deposed_by(self, term: int, node_id: bytes) -> bool:
        """Two leaders of one term: somebody's ballot was lost, or it lies. Neither yields."""
        if self.standing is not Standing.LEADER or term != self._term:
            return False
        self._fabric.notice("error", node_id, f"it claims to lead in term {term}, as this node")
        return True

    def _follow(self, leader: bytes, replica: bytes, term: int, token: int, now_ms: int) -> None:
        if term > self._term:
            self._step_down(term, now_ms)
        elif self.standing is not Standing.FOLLOWER:
            self.standing = Standing.FOLLOWER
        news = leader != self._leader or token > self._leader_token
        self._leader, self._leader_replica = leader, replica
        self._leader_token = token
        self._heard_ms = now_ms
        self._no_vote_before_ms = max(self._no_vote_before_ms, now_ms + self._timing.timeout_ms)
        self._stand_later(now_ms)
        if news:
            for remote in self._fabric.remotes():
                self._tell(remote)
        self._publish()

    def _tell(self, remote: Remote) -> None:
        """Tell of the leader, if the peer does not hear it itself."""
        leader, replica = self._leader, self._leader_replica
        if leader is None or leader in (remote.node_id, self._fabric.node_id):
            return
        if replica not in remote.links:
            self._say(remote.node_id, TELL, [self._term, leader, replica, self._leader_token])

    def _step_down(self, term: int, now_ms: int) -> None:
        """Follow nobody yet, in this term."""
        if term > self._term:
            self._term, self._vote = term, None
        self.standing = Standing.FOLLOWER
        self._lease = None
        self._leader, self._leader_token = None, -1
        self._stand_later(now_ms)
        self._publish()

    def _forget_at_ms(self) -> int:
        return self._heard_ms + 2 * self._timing.timeout_ms

    # -- inside

    def _agrees(self, remote: Remote, digest: bytes) -> bool:
        """Whether the peer is a voter, and has the same voters configured."""
        if digest == self._digest and remote.node_id in self.voters:
            return True
        if remote.node_id not in self._at_odds:
            self._at_odds.add(remote.node_id)
            text = "it has other voters configured: give all nodes the same"
            self._fabric.notice("error", remote.node_id, text)
        return False

    def _plausible(self, leader: bytes) -> bool:
        return not self.voters or leader in self.voters

    def _say(self, node_id: bytes, kind: int, fields: list[object]) -> None:
        self._fabric.say(node_id, kind, pack(fields), Urgency.CONTROL)

    def _publish(self) -> None:
        now = Leadership(self._leader, self._term)
        if now.leader != self._told.leader or (now.leader and now.term != self._told.term):
            self._told = now
            self._on_change(now)
        elif now != self._told:
            self._told = now


def _fields(payload: bytes, what: str, *types: type) -> list[Any]:
    """The fields of a message, of these types; ProtocolViolation if they are others."""
    fields = unpack(payload)
    if not isinstance(fields, list) or len(fields) < len(types):
        raise ProtocolViolation(f"{what}: not {len(types)} fields")
    fields = fields[: len(types)]
    for field, expected in zip(fields, types, strict=True):
        if type(field) is not expected or (type(field) is int and not 0 <= field <= MAX_TERM):
            raise ProtocolViolation(f"{what}: {field!r} is no {expected.__name__} that fits")
    return fields
