"""The ballot: in which term a voter is, and for whom it voted in it, on disk.

    BALLOT    JSON, mode 0600, replaced atomically:
    {"format": 1, "crc": CRC32, "groups": {"team": {"term": 7, "vote": NODE ID or null}}}

Invariant: a vote is durable before anybody hears of it, so that nobody votes twice in a term.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from murmur.errors import Corruption, UnknownFormat
from murmur.kvcore import Problem, Storage, read_whole, write_atomically

BALLOT_FILE = "BALLOT"
FORMAT = 1


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
        self.last = _vote(storage, _read(storage).get(group, {"term": 0, "vote": None}))

    def cast(self, vote: Vote) -> None:
        """Write a vote; durable when this returns."""
        groups = _read(self._storage)
        candidate = vote.candidate.hex() if vote.candidate is not None else None
        groups[self._group] = {"term": vote.term, "vote": candidate}
        document = {"format": FORMAT, "crc": _crc(groups), "groups": groups}
        write_atomically(self._storage, BALLOT_FILE, json.dumps(document, indent=1).encode())
        self.last = vote


def check_ballot(storage: Storage) -> Iterator[Problem]:
    """Read the file, if there is one; what is wrong with it."""
    try:
        for fields in _read(storage).values():
            _vote(storage, fields)
    except Corruption as error:
        yield Problem(error.path, error.offset, error.reason)


def _vote(storage: Storage, fields: Any) -> Vote:
    try:
        vote = fields["vote"]
        return Vote(int(fields["term"]), None if vote is None else bytes.fromhex(vote))
    except (KeyError, TypeError, ValueError) as error:
        raise Corruption(f"{storage.path}/{BALLOT_FILE}", 0, f"malformed: {error}") from None


def _read(storage: Storage) -> dict[str, Any]:
    if not storage.exists(BALLOT_FILE):
        return {}
    path = f"{storage.path}/{BALLOT_FILE}"
    try:
        document = json.loads(read_whole(storage, BALLOT_FILE))
        version, groups = document["format"], document["groups"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corruption(path, 0, f"not the file that was written: {error}") from None
    if version != FORMAT:
        raise UnknownFormat(path, 0, f"format {version} is not {FORMAT}")
    if not isinstance(groups, dict) or document.get("crc") != _crc(groups):
        raise Corruption(path, 0, "checksum does not match")
    return groups


def _crc(groups: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(groups, sort_keys=True).encode())
