"""Discovery: how nodes of one group find each other without a ticket.

Who is found is not yet let in: what becomes of a stranger is decided at the door (door.py).
"""

from murmur.sync.discovery.door import Door, Stranger
from murmur.sync.discovery.introductions import Introductions
from murmur.sync.discovery.sighting import Sighting, group_mark

__all__ = ["Door", "Introductions", "Sighting", "Stranger", "group_mark"]
