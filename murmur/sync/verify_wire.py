"""What two verifiers say to each other, and what a comparison came to.

    asker                                               answerer
    30 VERIFY    [run, salt, vector, [key]|nil]    ->   pins a snapshot
       [run, vector, [key]|nil]                    <-   31 PINNED
    32 COMPARE   [run, [bound], stop, [digest], [key]|nil] ->
       [run, index|nil, count, key|nil]            <-   33 COMPARED
    34 RELEASE   [run]                             ->

The keys of VERIFY are the only ones to be compared, nil stands for all. Those of PINNED were
touched at the answerer beyond the cut of both vectors, nil if it cannot tell. Those of COMPARE are
left out, and come with the first one. The fields that are keys came later: before, nothing but
equal vectors was compared, which is what happens with a peer that does not send them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from murmur.errors import ProtocolViolation

VERIFY, PINNED, COMPARE, COMPARED, RELEASE = range(30, 35)
FEATURE = 1 << VERIFY

SALT_BYTES = 16
MAX_BOUNDS = 64
TOUCHED_BYTES = 192 << 10  # of keys; both sides' and their framing fit a message
HOLD_MS = 600_000  # either side may scan for so long before the other gives it up

EQUAL, DIFFERENT, UNDECIDED = "equal", "different", "undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison with a peer came to.

    `cells` is how many this side compared. If they differ, start <= key < stop is the first range
    that does, and `key` the first key in it that either side holds. If it is undecided, `reason`
    says why, and `apart` how many transactions lay between the two at last.
    """

    state: str  # EQUAL, DIFFERENT or UNDECIDED
    cells: int = 0
    apart: int = 0  # transactions that one side holds and the other does not
    start: bytes = b""
    stop: bytes = b""
    key: bytes | None = None
    vector: Mapping[bytes, int] = field(default_factory=dict)
    reason: str = ""


def keys_of(value: list[object] | None, what: str) -> list[bytes] | None:
    """Keys inside a message, ascending; ProtocolViolation if they are none."""
    if value is None:
        return None
    keys = [key for key in value if isinstance(key, bytes)]
    if len(keys) != len(value) or any(a >= b for a, b in pairwise(keys)):
        raise ProtocolViolation(f"{what}: keys that do not ascend")
    if sum(map(len, keys)) > 2 * TOUCHED_BYTES:
        raise ProtocolViolation(f"{what}: more than {2 * TOUCHED_BYTES} bytes of keys")
    return keys


def apart(left: Mapping[bytes, int], right: Mapping[bytes, int]) -> int:
    """Transactions that only one of the two has seen."""
    return sum(
        abs(left.get(replica, 0) - right.get(replica, 0)) for replica in left.keys() | right.keys()
    )
