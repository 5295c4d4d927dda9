"""The ballot: in which term a voter is, and for whom it voted in it, on disk.

    BALLOT    JSON, mode 0600, replaced atomically:
    {"format": 1, "crc": CRC32, "groups": {"team": {"term": 7, "vote": NODE ID or null}}}

Invariant: a vote is durable before anybody hears of it, so that nobody votes twice in a term.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from murmur.errors import Corruption
from murmur.kvcore import Problem, Storage, write_atomically
from murmur.sync.sealed import seal, unseal

BALLOT_FILE = "BALLOT"


@dataclass(frozen=True, slots=True)
class Vote:
    """The term, and who has this node's vote in it."""

    term: int = 0
    candidate: bytes | None = None


class Ballot:
    """The votes of one node in one group."""

    def __init__(self, storage: Storage, group: str) -> None:
        """Read what was voted before; Corruption if the file is damaged."""
        self._storage = storage
        self._group = group
        self.last = _vote(
            storage, unseal(storage, BALLOT_FILE, "groups").get(group, {"term": 0, "vote": None})
        )

    def cast(self, vote: Vote) -> None:
        """Write a vote; durable when this returns."""
        groups = unseal(self._storage, BALLOT_FILE, "groups")
        candidate = vote.candidate.hex() if vote.candidate is not None else None
        groups[self._group] = {"term": vote.term, "vote": candidate}
        write_atomically(self._storage, BALLOT_FILE, seal("groups", groups, indent=1))
        self.last = vote


def check_ballot(storage: Storage) -> Iterator[Problem]:
    """Read the file, if there is one; what is wrong with it."""
    try:
        for fields in unseal(storage, BALLOT_FILE, "groups").values():
            _vote(storage, fields)
    except Corruption as error:
        yield Problem(error.path, error.offset, error.reason)


def _vote(storage: Storage, fields: Any) -> Vote:
    try:
        vote = fields["vote"]
        return Vote(int(fields["term"]), None if vote is None else bytes.fromhex(vote))
    except (KeyError, TypeError, ValueError) as error:
        raise Corruption(f"{storage.path}/{BALLOT_FILE}", 0, f"malformed: {error}") from None
