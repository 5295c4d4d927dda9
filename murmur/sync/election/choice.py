"""Which election a group has: by a majority of configured voters, or Bully."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from murmur.errors import InvalidInput
from murmur.sync.election.ballot import Ballot
from murmur.sync.election.bully import BullyElection
from murmur.sync.election.leadership import Election, Leadership
from murmur.sync.election.majority import MajorityElection
from murmur.sync.ticket import parse_node

ELECTIONS = ("majority", "bully")


def check_election(election: str, voters: Iterable[str]) -> frozenset[bytes]:
    """The voters' keys; InvalidInput for what is no kind of election, or no node id."""
    if election not in ELECTIONS:
        raise InvalidInput(f"election: {election!r} is none of {', '.join(ELECTIONS)}")
    found = frozenset(parse_node(voter) for voter in voters)
    if found and election == "bully":
        raise InvalidInput("voters: Bully has none; leave them out, or elect by majority")
    return found


def make_election(
    kind: str,
    voters: frozenset[bytes],
    ballot: Callable[[], Ballot],
    on_change: Callable[[Leadership], None],
) -> Election:
    """The service; Bully reads no ballot."""
    if kind == "bully":
        return BullyElection(on_change=on_change)
    return MajorityElection(voters, ballot(), on_change=on_change)
