"""How long tests wait for what must come: a generous deadline costs nothing where it comes.

eventually(lambda: b.get("k") == b"v")
swarm.wait_for(timeout=PATIENCE_S)
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 90.0


def eventually(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait until something comes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
