"""A node in a process of its own, told what to do by lines.

    python -m tests.sync.peer_process DIRECTORY [HOST:PORT]

    ticket | connect TICKET | put KEY | fill KEY SIZE | has KEY | wait
    peers | transports | lag | losses | close

Each is answered by one line.
"""

from __future__ import annotations

import os
import sys

from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage
from murmur.sync import Node, Notice, Timing
from tests.patience import PATIENCE_S


def main(directory: str, listen: str = "127.0.0.1:0") -> None:
    storage = DiskStorage(directory)
    with Replica.open(storage, durability="commit") as replica:
        losses: list[str] = []

        def note(notice: Notice) -> None:
            if notice.kind == "disconnected":
                losses.append(notice.text)

        timing = Timing(ping_ms=200, silence_ms=2500)
        options = {"timing": timing, "listen": listen, "on_event": note}
        with Node(replica, group="team", storage=storage, **options) as node:
            say("ready")
            for line in sys.stdin:
                command, _, argument = line.strip().partition(" ")
                match command:
                    case "ticket":
                        say(node.ticket())
                    case "connect":
                        say(node.connect_peer(argument).node_id)
                    case "put":
                        with replica.begin() as tx:
                            tx.put(b"\x01" + argument.encode(), b"v")
                        say("ok")
                    case "fill":
                        key, _, size = argument.rpartition(" ")
                        with replica.begin() as tx:
                            tx.put(b"\x01" + key.encode(), os.urandom(int(size)))
                        say("ok")
                    case "has":
                        say(str(replica.get(b"\x01" + argument.encode()) is not None))
                    case "wait":
                        node.wait_for(timeout=PATIENCE_S)
                        say(replica.state_hash().hex())
                    case "peers":
                        say(str(len(node.connected_peers())))
                    case "transports":
                        say(" ".join(peer.transport or "none" for peer in node.peers()))
                    case "lag":  # of the first peer: transactions and milliseconds
                        say(f"{node.peers()[0].backlog} {node.peers()[0].lag_ms}")
                    case "losses":
                        say("; ".join(losses))
                    case "close":
                        break
    say("closed")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
