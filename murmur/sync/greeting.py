"""HELLO: where this replica stands, and whether a peer's history can be true beside its own.

Each record names its author's record before by hash, so histories under one replica id either
agree or fork. Two forks are seen here: both ends are one replica (a copied directory), or both have
the same newest seq of some author with different hashes. If one end has more of the author, its
next record names another predecessor, and applying it fails.

Nobody holds more of a replica's transactions than the replica itself, for it sends only what is
durable. If a peer does, the replica was put back to an earlier state; it takes a new id before it
writes anything else under a number that is in use. What it has written before that, since it was
put back, has forked: then one of the two ends says so.

A replica id costs 19 to 27 bytes of the vector and its hash 30 to 38: 6 KB for 100 ids, 58 KB for
1,000. With more than MAX_TIPS some hashes are left out, so that HELLO stays one frame: what forked
there is seen when it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from murmur.kvcore import MAX_RECORD_BYTES
from murmur.sync import compression, flow, wire
from murmur.sync import messages as m
from murmur.sync import peer as p
from murmur.sync.messages import Hello, Tip
from murmur.sync.outbox import Outbox

MAX_TIPS = 1 << 12


def tips_of(outbox: Outbox) -> dict[bytes, Tip]:
    """(seq, hash) of each author's newest record, while others may be committing."""
    before, hashes, after = outbox.vector, outbox.tips, outbox.vector
    # A seq that is the same before and after was that of the hash read in between.
    return {
        replica: (before[replica], digest)
        for replica, digest in hashes.items()
        if before.get(replica, 0) == after.get(replica, 0) != 0
    }


def _told(tips: Mapping[bytes, Tip], own: bytes) -> dict[bytes, Tip]:
    """As many of them as HELLO has room for, the own one first."""
    first = sorted(tips, key=lambda replica: replica != own)[:MAX_TIPS]
    return {replica: tips[replica] for replica in first}


def hello_of(
    outbox: Outbox, incarnation: bytes, addresses: Sequence[str], features: int = 0
) -> Hello:
    """What this replica tells a peer about itself."""
    return Hello(
        versions=p.VERSIONS,
        features=features | m.PARTS | (m.ZSTD if compression.available() else 0),
        max_payload=wire.MAX_PAYLOAD,
        max_record=MAX_RECORD_BYTES,
        window=flow.WINDOW_BYTES,
        replica=outbox.id,
        incarnation=incarnation,
        clock_ms=outbox.clock.now_ms(),
        vector={replica: seq for replica, seq in outbox.durable_vector.items() if seq},
        tips=_told(tips_of(outbox), outbox.id),
        addresses=tuple(addresses),
    )


def put_back(hello: Hello, outbox: Outbox) -> str | None:
    """Why this replica needs a new id, if the peer holds more of it than is here."""
    own = outbox.id
    theirs, mine = hello.vector.get(own, 0), outbox.vector.get(own, 0)
    if theirs <= mine:
        return None
    return (
        f"a peer holds {theirs} transactions of this replica {own.hex()}, which has written "
        f"{mine}: its directory was put back to an earlier state"
    )


def fork_between(hello: Hello, own_id: bytes, own_tips: Mapping[bytes, Tip]) -> str | None:
    """Why the peer's history and this one's cannot both be true, if they cannot."""
    if hello.replica == own_id:
        return f"fork: both ends are replica {own_id.hex()}"
    for replica, (seq, digest) in hello.tips.items():
        own = own_tips.get(replica)
        if own is not None and own[0] == seq and own[1] != digest:
            return f"fork: two transactions carry the dot {replica.hex()}:{seq}"
    return None
