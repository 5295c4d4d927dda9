"""`murmur ticket`: the text by which peers find a replica that is not running at the moment.

The port is the one that the replica had last; the ticket of `murmur serve` names the address that
it listens on right now.
"""

from __future__ import annotations

import sys

from murmur.cli.directory import opened
from murmur.cli.failure import DONE
from murmur.cli.output import Output


def run_ticket(path: str, *, group: str, listen: str | None) -> int:
    """Print the ticket."""
    output = Output(sys.stdout)
    with opened(path, group=group, listen=listen) as swarm:
        output.text(swarm.ticket() + "\n")
        output.flush()
    return DONE
