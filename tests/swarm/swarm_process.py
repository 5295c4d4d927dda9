"""A swarm in a process of its own: it evaluates what it is sent, line by line.

    python -m tests.swarm.swarm_process DIRECTORY OPTIONS [SEGMENT_BYTES]

Lines are JSON texts of Python code, with the swarm as `swarm`; so are the answers, ["ok", value] or
["error", text]. Small segments make a log that is trimmed soon.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import murmur
from murmur.kvcore import Replica


def main(directory: str, options: str, segment_bytes: str = "") -> None:
    if segment_bytes:
        opened = partial(Replica.open, segment_bytes=int(segment_bytes))
        Replica.open = opened  # type: ignore[method-assign,assignment]
    with murmur.open(directory, group="team", **json.loads(options)) as swarm:
        say("ok", "ready")
        for line in sys.stdin:
            try:
                say("ok", eval(json.loads(line), {"swarm": swarm, "murmur": murmur}))
            except Exception as error:
                say("error", f"{type(error).__name__}: {error}")


def say(kind: str, value: Any) -> None:
    sys.stdout.write(json.dumps([kind, value], default=repr) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
