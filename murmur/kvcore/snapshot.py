"""Snapshot: the keyspace, and all that belongs to one moment of it.

A number of the tree, the version vector and the derivation's state (the catalog) are published
together, as one object, so that whoever reads through a snapshot sees exactly the transactions that
its vector names (DESIGN section 4, rule 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from murmur.kvcore.backend import TreeView
from murmur.kvcore.kernel import Chunk, Reads


class Published(NamedTuple):
    """What goes with one sequence number of the tree."""

    vector: Mapping[bytes, int]
    state: object
    position: int


class Snapshot:
    """The keyspace, the vector and the derivation's state of one moment."""

    __slots__ = (
        "_tree",
        "chunks",
        "get",
        "look",
        "position",
        "scan",
        "sequence",
        "state",
        "vector",
    )

    def __init__(self, tree: TreeView) -> None:
        published = tree.attachment
        assert isinstance(published, Published)
        self._tree = tree
        self.get: Callable[[bytes], bytes | None] = tree.get
        self.scan = tree.scan
        # Pairs in blocks of bytes, where the backend has them; None where it has not.
        self.chunks: Callable[[bytes, bytes | None], Iterator[Chunk]] | None
        self.chunks = getattr(tree, "chunks", None)
        # What only the kernel's own reads can answer, likewise.
        self.look: Callable[[Callable[[Reads, int], object]], object] | None
        self.look = getattr(tree, "look", None)
        self.sequence = tree.sequence
        self.vector = published.vector
        self.state = published.state
        self.position = published.position  # of the log, up to which it is in the snapshot

    def close(self) -> None:
        """Let go of the files and versions that only this snapshot needs."""
        self._tree.close()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
