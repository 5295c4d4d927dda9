"""What one side of a conversation has still to say, in classes that cannot starve each other.

    control   first, whatever else waits: keep-alives, acknowledgements, the end
    live      weight 8    what was just committed
    sync      weight 4    what the peer lacks
    bulk      weight 2    snapshots

Nothing is made a frame before the link has room for it, so a class that has something to say waits
for what stands in the link and for about one frame of the others, however much they have queued.
Among those that have something to say the one goes next that was served least for its weight
(start-time fair queueing, Goyal et al., 1996): each gets at least its share of the link.

Frames are small enough for that: records are cut by flow.py, a service's message of more than
PART_BYTES goes in parts.

Invariant: within one class messages of services keep their order, and so do records.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from murmur.sync import wire
from murmur.sync.batches import Batch
from murmur.sync.flow import Outflow
from murmur.sync.messages import HELLO
from murmur.sync.service import Urgency

PART_BYTES = 48 << 10
WEIGHTS = {Urgency.LIVE: 8, Urgency.SYNC: 4, Urgency.BULK: 2}

Frame = tuple[int, int, Batch]  # type, flags, payload


@dataclass(slots=True)
class _Flow:
    """One source of frames."""

    urgency: Urgency
    records: bool  # of the log; else a service's messages
    queue: deque[Frame] = field(default_factory=deque)
    served: float = 0.0  # bytes sent / weight


class Output:
    """The frames of one direction, in the order in which they are sent."""

    def __init__(self, outflow: Outflow) -> None:
        self.sequence = 0  # frames made so far
        self.compresses = False  # both sides know how, and the link leaves this host
        self.parts = False  # the peer puts parts together
        self._outflow = outflow
        self._control: deque[Frame] = deque()
        self._last: Frame | None = None
        self._flows = [
            *(_Flow(urgency, records=True) for urgency in (Urgency.LIVE, Urgency.SYNC)),
            *(_Flow(urgency, records=False) for urgency in WEIGHTS),
        ]
        self._served = 0.0  # of the flow that was served last

    def put(self, kind: int, payload: bytes, urgency: Urgency, flags: int = 0) -> None:
        """Queue a message."""
        if urgency is Urgency.CONTROL:
            self._control.append((kind, flags, Batch(payload)))
            return
        queue = next(f.queue for f in self._flows if f.urgency is urgency and not f.records)
        if len(payload) <= PART_BYTES or not self.parts:
            queue.append((kind, flags, Batch(payload)))
            return
        flags |= urgency << wire.CLASS_SHIFT
        for start in range(0, len(payload), PART_BYTES):
            more = wire.MORE if start + PART_BYTES < len(payload) else 0
            queue.append((kind, flags | more, Batch(payload[start : start + PART_BYTES])))

    def end(self, kind: int, payload: bytes, *, drop: bool) -> None:
        """The last message; what waits goes before it, unless it is dropped."""
        if drop:
            self._clear()
        self._last = (kind, 0, Batch(payload))

    def drop(self) -> None:
        """Forget everything: there is nobody to say it to."""
        self._clear()
        self._control.clear()
        self._last = None

    def waits(self) -> bool:
        """Whether there is a frame to be sent as soon as the link has room."""
        if self._control or self._last is not None:
            return True
        return any(self._ready(flow) for flow in self._flows)

    def take(self, room: int | None = None) -> list[bytes]:
        """Frames for about so many bytes of room; control, and the end, need none."""
        result: list[bytes] = []
        while self._control:
            self._emit(self._control.popleft(), result)
        if self._last is not None:
            room = None
        taken = 0
        while room is None or taken < room:
            ready = [flow for flow in self._flows if self._ready(flow)]
            if not ready:
                break
            for flow in ready:
                # Who had nothing to say has no claim to what the others got meanwhile.
                flow.served = max(flow.served, self._served)
            flow = min(ready, key=lambda flow: flow.served)
            self._served = flow.served
            size = self._emit(flow.queue.popleft(), result)
            flow.served += size / WEIGHTS[flow.urgency]
            taken += size
        if self._last is not None:
            self._emit(self._last, result)
            self._last = None
        return result

    def _clear(self) -> None:
        self._outflow.clear()
        for flow in self._flows:
            flow.queue.clear()

    def _ready(self, flow: _Flow) -> bool:
        """Whether the flow has a frame; of records it is made here."""
        if flow.records and not flow.queue:
            found = self._outflow.next(flow.urgency)
            if found is not None:
                flow.queue.append((found[0], 0, found[1]))
        return bool(flow.queue)

    def _emit(self, frame: Frame, result: list[bytes]) -> int:
        kind, flags, batch = frame
        payload = batch.payload
        # HELLO says what this side can read: the peer cannot know that it may be compressed.
        if self.compresses and kind != HELLO:
            packed = batch.packed()
            if packed is not None:
                payload, flags = packed, flags | wire.COMPRESSED
        result += (wire.header(kind, len(payload), self.sequence, flags), payload)
        self.sequence += 1
        return wire.HEADER.size + len(payload)
