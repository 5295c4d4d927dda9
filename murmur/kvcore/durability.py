"""Durability: what an acknowledged write survives.

none       nothing is promised; the system writes when it likes
batched    the death of the process, and a power cut but for the last moments
commit     a power cut
"""

from __future__ import annotations

from murmur.errors import InvalidInput

DURABILITIES = ("none", "batched", "commit")


def check_durability(name: object) -> None:
    """Raise InvalidInput unless there is such a durability."""
    if name not in DURABILITIES:
        raise InvalidInput(f"durability is one of {', '.join(DURABILITIES)}, not {name!r}")
