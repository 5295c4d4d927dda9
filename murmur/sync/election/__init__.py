"""Election: one node of a group that runs the jobs which only one may run.

The leader never orders writes: replicas that cannot reach it go on writing. There are two ways to
find one: a majority of configured voters (majority.py), with a term that fences, and Bully
(bully.py), which finds the highest id of whoever is in reach.
"""

from murmur.sync.election.ballot import Ballot
from murmur.sync.election.bully import BullyElection
from murmur.sync.election.leadership import Election, ElectionTiming, Leadership
from murmur.sync.election.majority import MajorityElection

__all__ = [
    "Ballot",
    "BullyElection",
    "Election",
    "ElectionTiming",
    "Leadership",
    "MajorityElection",
]
