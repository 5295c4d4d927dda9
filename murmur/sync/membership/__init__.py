"""Membership: who is in the group, what each says of itself, and who is alive.

What a node says of itself is data: a record signed with its key, replicated with everything else
(record.py, members.py). Whether it is alive is each node's own observation (swim.py), which is told
to others only to be weighed against theirs, and never stored.
"""

from murmur.sync.membership.members import Members, Registry
from murmur.sync.membership.record import MemberRecord
from murmur.sync.membership.swim import Liveness, Swim

__all__ = ["Liveness", "MemberRecord", "Members", "Registry", "Swim"]
