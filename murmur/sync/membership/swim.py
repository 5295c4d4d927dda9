"""SWIM (Das et al., 2002): who is alive, in groups too large for everybody to watch everybody.

    61 PROBE       [nonce, updates]              are you there?
    62 PROBED      [nonce, updates]
    63 PROBE_FOR   [nonce, node id, updates]     ask it for me
    64 PROBED_FOR  [nonce, node id, updates]     it is there

    update = [node id, state, incarnation]

In each period one member is probed with whom this node converses, or did until just now; who does
not answer is asked for by three others; if nobody hears it, it is suspected, and dead when it has
not refuted that in time. Of all the others a node knows what it hears: what is new travels on the
probes, each piece a few times. A node that was late itself (a busy loop, a sleeping laptop) does
not judge in that period, as in Lifeguard (Dadgar et al., 2018).

Up to FEW members every node converses with every other, and the conversations' own keep-alives say
it all: then nothing is sent.

Invariant: a greater incarnation, which only its owner can make, overrides whatever was said before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from murmur.errors import ProtocolViolation
from murmur.sync.messages import NODE_ID_BYTES
from murmur.sync.service import Fabric, Remote, Service, Urgency
from murmur.sync.wire import pack, unpack

PROBE, PROBED, PROBE_FOR, PROBED_FOR = range(61, 65)

FEW = 8
PERIOD_MS = 2_000
ANSWER_MS = 600  # for a direct probe
HELPERS = 3
SUSPECT_PERIODS = 3  # times the logarithm of the group's size
UPDATES = 8  # on one message
TELLINGS = 3  # of an update, times the logarithm
MAX_PENDING = 256
MAX_NUMBER = 1 << 62

ALIVE, SUSPECT, DEAD = range(3)
NAMES = ("alive", "suspect", "dead")


@dataclass(slots=True)
class Liveness:
    """What is believed of one member."""

    state: int
    incarnation: int
    since_ms: int


@dataclass(slots=True)
class _Round:
    """The probe of one period."""

    target: bytes
    nonce: int
    ask_at_ms: int | None  # when others are asked


class Swim(Service):
    """One node's view of who is alive."""

    kinds = range(61, 65)

    def __init__(self, members: Callable[[], Iterable[bytes]]) -> None:
        """`members` are the ids of all that are known, without this node's own."""
        self.states: dict[bytes, Liveness] = {}
        self._members = members
        self._watched: set[bytes] = set()  # with whom this node converses, or has to judge
        self._order: list[bytes] = []
        self._round: _Round | None = None
        self._next_ms = 0
        self._news: dict[bytes, int] = {}  # node id: how often it is still to be told
        self._helping: dict[int, tuple[bytes, int, bytes]] = {}  # nonce: asker, its nonce, target
        self._own = 0

    # -- what may be asked

    def liveness(self) -> dict[bytes, str]:
        """alive, suspect or dead, of everybody of whom something was heard."""
        found = {node_id: NAMES[known.state] for node_id, known in self.states.items()}
        return found | {remote.node_id: NAMES[ALIVE] for remote in self._fabric.remotes()}

    # -- what the mesh says

    def start(self, fabric: Fabric, now_ms: int) -> None:
        """Begin, with an incarnation beyond those of former lives."""
        self._fabric = fabric
        self._own = max(0, fabric.outbox.clock.now_ms())
        self._next_ms = now_ms + PERIOD_MS

    def opened(self, remote: Remote, now_ms: int) -> None:
        """It is there, for it converses."""
        self._watched.add(remote.node_id)
        self._alive(remote.node_id, now_ms)

    def closed(self, remote: Remote, now_ms: int) -> None:
        """It may be gone: in a small group that is all there is to know."""
        if not self._many():
            known = self.states[remote.node_id]
            self.states[remote.node_id] = Liveness(DEAD, known.incarnation, now_ms)
            self._watched.discard(remote.node_id)
        elif self._round is None:
            self._order.append(remote.node_id)
            self._next_ms = now_ms

    def received(self, remote: Remote, kind: int, payload: bytes, now_ms: int) -> None:
        """Take a message."""
        fields = unpack(payload)
        count = 2 if kind in (PROBE, PROBED) else 3
        if not isinstance(fields, list) or len(fields) < count:
            raise ProtocolViolation(f"probe: not {count} fields")
        nonce, target, updates = fields[0], fields[count - 2], fields[count - 1]
        if type(nonce) is not int or not 0 <= nonce <= MAX_NUMBER:
            raise ProtocolViolation("probe: no nonce")
        for node_id, state, incarnation in _updates(updates):
            self._hear(node_id, state, incarnation, now_ms)
        if kind == PROBE:
            self._news.setdefault(self._fabric.node_id, 1)  # the answer holds the incarnation
            self._say(remote.node_id, PROBED, [nonce])
        elif kind == PROBED:
            self._answered(remote.node_id, nonce, now_ms)
        elif not isinstance(target, bytes) or len(target) != NODE_ID_BYTES:
            raise ProtocolViolation("probe: no node id")
        elif kind == PROBE_FOR:
            self._help(remote.node_id, nonce, target)
        elif self._round is not None and (self._round.nonce, self._round.target) == (nonce, target):
            self._round = None
            self._alive(target, now_ms)

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        probing = self._round
        if probing is not None and probing.ask_at_ms is not None and now_ms >= probing.ask_at_ms:
            probing.ask_at_ms = None
            self._ask_others(probing)
        if now_ms < self._next_ms:
            return
        late = now_ms - self._next_ms > PERIOD_MS // 2
        self._next_ms = now_ms + PERIOD_MS
        self._helping.clear()
        self._round = None
        if not self._many():
            return
        if probing is not None and not late:
            self._suspect(probing.target, now_ms)
        self._bury(now_ms, late=late)
        self._begin(now_ms)

    def next_timer_ms(self, now_ms: int) -> int | None:
        """When tick() is due."""
        due = self._next_ms
        if self._round is not None and self._round.ask_at_ms is not None:
            due = min(due, self._round.ask_at_ms)
        return due

    # -- inside: a period

    def _many(self) -> bool:
        return sum(1 for _ in self._members()) > FEW

    def _begin(self, now_ms: int) -> None:
        """Probe the next member of a random order that holds everybody once."""
        while self._order and self._order[-1] not in self._watched:
            self._order.pop()
        if not self._order:
            self._order = sorted(self._watched)
            self._fabric.random.shuffle(self._order)
        if not self._order:
            return
        target = self._order.pop()
        nonce = self._fabric.random.getrandbits(60)
        self._round = _Round(target, nonce, now_ms + ANSWER_MS)
        if not self._say(target, PROBE, [nonce]):
            self._round.ask_at_ms = None
            self._ask_others(self._round)

    def _ask_others(self, probing: _Round) -> None:
        others = [r.node_id for r in self._fabric.remotes() if r.node_id != probing.target]
        for helper in self._fabric.random.sample(others, min(HELPERS, len(others))):
            self._say(helper, PROBE_FOR, [probing.nonce, probing.target])

    def _help(self, asker: bytes, nonce: int, target: bytes) -> None:
        """Probe a member for another one."""
        mine = self._fabric.random.getrandbits(60)
        if len(self._helping) < MAX_PENDING and self._say(target, PROBE, [mine]):
            self._helping[mine] = (asker, nonce, target)

    def _answered(self, node_id: bytes, nonce: int, now_ms: int) -> None:
        self._alive(node_id, now_ms)
        if self._round is not None and (self._round.nonce, self._round.target) == (nonce, node_id):
            self._round = None
        asked = self._helping.pop(nonce, None)
        if asked is not None and asked[2] == node_id:
            self._say(asked[0], PROBED_FOR, [asked[1], node_id])

    # -- inside: what is believed

    def _alive(self, node_id: bytes, now_ms: int) -> None:
        """It was heard, by this node or by one that was asked."""
        known = self.states.get(node_id)
        if known is None or known.state != ALIVE:
            self._believe(node_id, Liveness(ALIVE, known.incarnation if known else 0, now_ms))

    def _suspect(self, node_id: bytes, now_ms: int) -> None:
        known = self.states.get(node_id) or Liveness(ALIVE, 0, now_ms)
        if known.state == ALIVE:
            self._believe(node_id, Liveness(SUSPECT, known.incarnation, now_ms))

    def _bury(self, now_ms: int, *, late: bool) -> None:
        """Who was suspected for long is dead; if this node slept, all get their time anew."""
        patience_ms = int(SUSPECT_PERIODS * PERIOD_MS * log2(2 + len(self.states)))
        for node_id, known in list(self.states.items()):
            if known.state != SUSPECT:
                continue
            if late:
                known.since_ms = now_ms
            elif now_ms - known.since_ms >= patience_ms:
                self._believe(node_id, Liveness(DEAD, known.incarnation, now_ms))
                self._watched.discard(node_id)

    def _hear(self, node_id: bytes, state: int, incarnation: int, now_ms: int) -> None:
        """Weigh what others say against what is believed."""
        if node_id == self._fabric.node_id:
            if state != ALIVE and incarnation >= self._own:
                self._own = incarnation + 1
                self._news[node_id] = self._tellings()
            return
        known = self.states.get(node_id)
        worse = known is not None and incarnation == known.incarnation and state > known.state
        if known is None or incarnation > known.incarnation or worse:
            self._believe(node_id, Liveness(state, incarnation, now_ms))

    def _believe(self, node_id: bytes, now: Liveness) -> None:
        before = self.states.get(node_id)
        self.states[node_id] = now
        self._news[node_id] = self._tellings()
        # Of those with whom this node converses the conversations themselves tell.
        if before is not None and before.state != now.state and self._many():
            self._fabric.notice(NAMES[now.state], node_id, "by the probes of the group")

    # -- inside: gossip

    def _tellings(self) -> int:
        return int(TELLINGS * log2(2 + len(self.states)))

    def _take_updates(self) -> list[list[object]]:
        """This node's own news, and those that were told least, once more."""
        own = self._fabric.node_id
        told = sorted(self._news, key=lambda n: (n != own, -self._news[n]))[:UPDATES]
        updates: list[list[object]] = []
        for node_id in told:
            self._news[node_id] -= 1
            if self._news[node_id] <= 0:
                del self._news[node_id]
            if node_id == own:
                updates.append([node_id, ALIVE, self._own])
            elif node_id in self.states:
                known = self.states[node_id]
                updates.append([node_id, known.state, known.incarnation])
        return updates

    def _say(self, node_id: bytes, kind: int, fields: Sequence[object]) -> bool:
        payload = pack([*fields, self._take_updates()])
        return self._fabric.say(node_id, kind, payload, Urgency.CONTROL)


def _updates(value: Any) -> list[tuple[bytes, int, int]]:
    if not isinstance(value, list) or len(value) > 4 * UPDATES:
        raise ProtocolViolation("probe: updates are not a list that is short enough")
    found = []
    for update in value:
        if not isinstance(update, list) or len(update) < 3:
            raise ProtocolViolation("probe: an update is not node id, state, incarnation")
        node_id, state, incarnation = update[:3]
        if not isinstance(node_id, bytes) or len(node_id) != NODE_ID_BYTES:
            raise ProtocolViolation("probe: an update of nobody")
        if type(state) is not int or type(incarnation) is not int:
            raise ProtocolViolation("probe: an update's state and incarnation are numbers")
        if not 0 <= state <= DEAD or not 0 <= incarnation <= MAX_NUMBER:
            raise ProtocolViolation("probe: an update's number is out of its range")
        found.append((node_id, state, incarnation))
    return found
