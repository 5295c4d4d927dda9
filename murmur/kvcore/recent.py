"""Recent commits: which keys changed since a transaction began, so that the first committer wins.

    begin(t at 7)    commit 8 {a}    commit 9 {b}    check(t): does t need a or b as it was?

They are remembered while transactions are open, and within a bound: one that began before what was
forgotten, and needs anything to be as it was, is told to run again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from murmur.errors import Conflict
from murmur.kvcore.transaction import Transaction

RECENT_BYTES = 64 << 20  # what may be remembered of commits since the oldest open transaction
_COMMIT_BYTES, _KEY_BYTES = 300, 40  # what CPython takes for the memory of one, and of its keys


class Recent:
    """The open transactions of a replica, and what was committed since the oldest began.

    All but `open` is guarded by the replica's lock.
    """

    def __init__(self) -> None:
        self.open: dict[int, int] = {}  # by identity, the sequence of the snapshot
        self._commits: deque[tuple[int, set[bytes]]] = deque()
        self._bytes = 0
        self._forgotten = 0  # the highest sequence that is no more among them

    def __len__(self) -> int:
        return len(self._commits)

    def note(self, sequence: int, keys: Iterable[bytes]) -> None:
        """These keys changed with this sequence; if anybody has to know, it is remembered."""
        if self.open:
            self._remember(sequence, set(keys))
        elif self._commits:
            self._commits.clear()
            self._bytes = 0

    def check(self, transaction: Transaction) -> None:
        """Raise Conflict if what the transaction needs as it was has changed since."""
        began = transaction.snapshot.sequence
        if began < self._forgotten and not transaction.blind:
            raise Conflict(
                "too much was committed since this transaction began to tell whether it "
                "conflicts; run it again"
            )
        for sequence, keys in self._commits:
            if sequence > began:
                key = transaction.conflicts_with(keys)
                if key is not None:
                    raise Conflict(
                        "another transaction changed what this one read (key "
                        f"{key[:24].hex()}{'…' if len(key) > 24 else ''}); run it again"
                    )

    def since(self, sequence: int) -> set[bytes] | None:
        """Which keys changed after this sequence, at which somebody in `open` began; None if too
        many did."""
        if sequence < self._forgotten:
            return None
        changed: set[bytes] = set()
        for committed, keys in self._commits:
            if committed > sequence:
                changed |= keys
        return changed

    def forget(self, sequence: int) -> None:
        """So much changed with this sequence that no open transaction may need what was before."""
        self._commits.clear()
        self._bytes = 0
        self._forgotten = sequence

    def _remember(self, sequence: int, keys: set[bytes]) -> None:
        self._commits.append((sequence, keys))
        self._bytes += _weight(keys)
        oldest = min(tuple(self.open.values()), default=sequence)
        while self._commits and (self._commits[0][0] <= oldest or self._bytes > RECENT_BYTES):
            self._forgotten, keys = self._commits.popleft()
            self._bytes -= _weight(keys)


def _weight(keys: set[bytes]) -> int:
    return _COMMIT_BYTES + _KEY_BYTES * len(keys)
