"""Who belongs to the group, as this node knows it: members, its own invite, its last port, liars.

    PEERS    JSON, mode 0600, replaced atomically:
    {"format": 1, "crc": CRC32, "groups": {"team": {"invite": HEX, "port": 40412,
        "refused": [NODE ID], "members": {
            NODE ID: {"addresses": ["192.0.2.7:40412"], "invite": HEX, "replica": HEX,
                      "met": 12, "met_ms": 1767225600000}},
        "sentences": {
            NODE ID: {"offences": 1, "since_ms": 1767225600000, "until_ms": 1767225660000,
                      "reason": "..."}}}}}

A node becomes a member here when it proved an invite of ours, or when we dialed it by its ticket:
from then on its key is enough. The invite that we used is kept with it, in case that it forgot us.

Invariant: admission is durable before the peer is told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from murmur.errors import Corruption
from murmur.kvcore import Problem, Storage, write_atomically
from murmur.sync.quarantine import Sentence
from murmur.sync.sealed import seal, unseal
from murmur.sync.ticket import INVITE_BYTES

ROSTER_FILE = "PEERS"
MAX_ADDRESSES = 8


@dataclass(frozen=True, slots=True)
class Member:
    """A node that may converse with this one, and where it was last found."""

    node_id: bytes
    addresses: tuple[str, ...] = ()
    invite: bytes | None = None
    replica: bytes | None = None
    met: int = 0  # how many conversations were opened with it
    met_ms: int = 0  # when the last of them was, by this node's wall clock


class Roster:
    """The members of one group. Safe for threads that do not change it at the same time."""

    def __init__(self, storage: Storage, group: str, random_bytes: Callable[[int], bytes]) -> None:
        self._storage = storage
        self._group = group
        self._groups = unseal(storage, ROSTER_FILE, "groups")
        mine = self._groups.get(group)
        if mine is None:
            invite = random_bytes(INVITE_BYTES).hex()
            mine = {"invite": invite, "port": 0, "members": {}}
        self.invite: bytes
        self.port: int
        self.members: Mapping[bytes, Member]
        self.refused: frozenset[bytes]
        self.sentences: Mapping[bytes, Sentence]
        try:
            self.invite = bytes.fromhex(mine["invite"])
            self.port = int(mine["port"])
            self.members = {m.node_id: m for m in map(_member, mine["members"].items())}
            self.refused = frozenset(bytes.fromhex(each) for each in mine.get("refused", ()))
            said = mine.get("sentences", {}).items()
            self.sentences = {bytes.fromhex(node_id): _sentence(fields) for node_id, fields in said}
        except (KeyError, TypeError, ValueError) as error:
            raise Corruption(f"{storage.path}/{ROSTER_FILE}", 0, f"malformed: {error}") from None
        if group not in self._groups:
            self._write()

    def bind(self, port: int) -> None:
        """Remember the port, so that tickets stay good after a restart."""
        if port != self.port:
            self.port = port
            self._write()

    def admit(self, member: Member) -> None:
        """Add a member, or what is new about one; durable when this returns."""
        known = self.members.get(member.node_id)
        if known is not None:
            # The newest address is the likeliest; an old one may come back.
            addresses = tuple(dict.fromkeys(member.addresses + known.addresses))[:MAX_ADDRESSES]
            member = replace(
                member,
                addresses=addresses,
                invite=member.invite or known.invite,
                replica=member.replica or known.replica,
                met=max(member.met, known.met),
                met_ms=max(member.met_ms, known.met_ms),
            )
            if member == known and member.node_id not in self.refused:
                return
        self.members = {**self.members, member.node_id: member}
        self.refused -= {member.node_id}
        self._write()

    def refuse(self, node_id: bytes) -> None:
        """Keep a node out, a member too, until it is admitted again; durable when this returns."""
        self.members = {k: member for k, member in self.members.items() if k != node_id}
        self.refused |= {node_id}
        self._write()

    def sentence(self, node_id: bytes, sentence: Sentence) -> None:
        """Remember what a node did, and until when it is kept out; durable when this returns."""
        known = {k: v for k, v in self.sentences.items() if not v.forgiven(sentence.since_ms)}
        self.sentences = {**known, node_id: sentence}
        self._write()

    def _write(self) -> None:
        self._groups[self._group] = {
            "invite": self.invite.hex(),
            "port": self.port,
            "refused": sorted(node_id.hex() for node_id in self.refused),
            "members": {m.node_id.hex(): _plain(m) for m in self.members.values()},
            "sentences": {node_id.hex(): asdict(each) for node_id, each in self.sentences.items()},
        }
        write_atomically(self._storage, ROSTER_FILE, seal("groups", self._groups, indent=1))


def check_roster(storage: Storage) -> Iterator[Problem]:
    """Read the file, if there is one; what is wrong with it."""
    try:
        unseal(storage, ROSTER_FILE, "groups")
    except Corruption as error:
        yield Problem(error.path, error.offset, error.reason)


def _member(item: tuple[str, dict[str, Any]]) -> Member:
    node_id, fields = item
    return Member(
        bytes.fromhex(node_id),
        tuple(str(address) for address in fields["addresses"]),
        bytes.fromhex(fields["invite"]) if fields["invite"] else None,
        bytes.fromhex(fields["replica"]) if fields["replica"] else None,
        int(fields.get("met", 0)),
        int(fields.get("met_ms", 0)),
    )


def _sentence(fields: dict[str, Any]) -> Sentence:
    return Sentence(
        int(fields["offences"]),
        int(fields["since_ms"]),
        int(fields["until_ms"]),
        str(fields["reason"]),
    )


def _plain(member: Member) -> dict[str, Any]:
    return {
        "addresses": list(member.addresses),
        "invite": member.invite.hex() if member.invite else None,
        "replica": member.replica.hex() if member.replica else None,
        "met": member.met,
        "met_ms": member.met_ms,
    }
