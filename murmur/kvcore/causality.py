"""Dots and version vectors: who wrote what, and who had seen it.

A *dot* (replica, seq) names one transaction; a replica's seqs are gapless from 1. A *version
vector* maps each replica to the last of its seqs that was admitted; since admission is causal, that
one number stands for all before it.

    {a: 2, b: 1} covers a1, a2 and b1, but not a3

Invariant: an absent replica and one at 0 are the same; vectors are compared with that in mind.

After Almeida, Baquero et al., "Scalable and Accurate Causality Tracking" (2014).
"""

from __future__ import annotations

from collections.abc import Mapping

REPLICA_ID_BYTES = 8

Dot = tuple[bytes, int]
VersionVector = Mapping[bytes, int]


def covers(vector: VersionVector, replica: bytes, seq: int) -> bool:
    """Whether the dot is among what the vector has seen."""
    return vector.get(replica, 0) >= seq


def dominates(left: VersionVector, right: VersionVector) -> bool:
    """Whether `left` has seen everything that `right` has seen."""
    return all(left.get(replica, 0) >= seq for replica, seq in right.items())


def join(left: VersionVector, right: VersionVector) -> dict[bytes, int]:
    """The smallest vector that dominates both."""
    joined = dict(left)
    for replica, seq in right.items():
        if seq > joined.get(replica, 0):
            joined[replica] = seq
    return joined


def format_vector(vector: VersionVector) -> dict[str, int]:
    """The vector with hexadecimal replica ids, for people to read."""
    return {replica.hex(): seq for replica, seq in sorted(vector.items()) if seq}
