"""People who maintain shared configuration, each on their own machine. Open three terminals:

    python examples/shared_kv.py alice
    python examples/shared_kv.py bob   TICKET-THAT-ALICE-PRINTED
    python examples/shared_kv.py carol TICKET-THAT-ALICE-PRINTED

and type, for instance

    set db:host localhost       an edit; the others see it at once (sequential edits)
    apart                       leave the network; edits made now are kept (partitioned edits)
    set db:host 10.0.0.7        ... while somebody else sets it, too (concurrent edits)
    together                    meet again: all show the same value, `conflicts` the others
    list  get KEY  delete KEY  who  peers  stats  conflicts  wait  hash  quit

Whoever starts without a ticket is the group's founder, the others are its members. The files are
kept in shared-kv/NAME, so everybody can quit and come back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import murmur


class Desk:
    """One person's replica, and the commands they can type."""

    def __init__(self, name: str, ticket: str | None, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.swarm = self.open()
        role = b"member" if ticket else b"founder"
        if self.swarm.get(f"person:{name}") is None:
            self.swarm.put(f"person:{name}", role)
        if ticket:
            peer = self.swarm.connect_peer(ticket)
            print(f"connected to {peer.node_id[:12]}")
        self.together()

    def open(self) -> murmur.Swarm:
        """Open the replica; the network starts with the first ticket."""
        return murmur.open(self.directory / self.name, group="shared-kv", name=self.name)

    def set(self, key: str, *words: str) -> None:
        """Set a key of the configuration."""
        self.swarm.put(f"config:{key}", " ".join(words).encode())

    def get(self, key: str) -> None:
        """Show one value."""
        value = self.swarm.get(f"config:{key}")
        print("nobody has set it" if value is None else value.decode())

    def delete(self, key: str) -> None:
        """Remove a key."""
        print("deleted" if self.swarm.delete(f"config:{key}") else "nobody has set it")

    def list(self) -> None:
        """Show the whole configuration."""
        for key, value in self.swarm.scan(prefix="config:"):
            print(f"{str(key).removeprefix('config:')} = {value.decode()}")

    def who(self) -> None:
        """Show the people and their roles."""
        for key, role in self.swarm.scan(prefix="person:"):
            name = str(key).removeprefix("person:")
            print(f"{name}: {role.decode()}{' (you)' if name == self.name else ''}")

    def peers(self) -> None:
        """Show the peers and how it stands with each."""
        print(
            self.swarm.sql(
                "SELECT left(node_id, 12) AS node, state, rtt_ms, backlog, last_error "
                "FROM murmur_peers"
            )
        )

    def stats(self) -> None:
        """Show how much has been written by whom, and what the network did."""
        for replica, count in self.swarm.version_vector.items():
            mine = " (this replica)" if replica == self.swarm.replica_id else ""
            print(f"{replica}: {count} transactions{mine}")
        for name, figure in self.swarm.stats().items():
            print(f"{name}: {figure}")

    def conflicts(self) -> None:
        """Show the values that lost to a concurrent one."""
        print(self.swarm.sql("SELECT key, winner, loser, time FROM murmur_conflicts"))

    def apart(self) -> None:
        """Leave the network; go on writing."""
        self.swarm.close()
        self.swarm = self.open()
        print("apart: what you write now stays here until you are together again")

    def together(self) -> None:
        """Join the network again; peers that were met before are dialled by themselves."""
        print(f"ticket: {self.swarm.ticket()}")

    def wait(self) -> None:
        """Wait until every connected peer holds all that is written here."""
        self.swarm.wait_for()
        print(f"{len(self.swarm.connected_peers())} peers hold everything")

    def hash(self) -> None:
        """Show the hash of the whole state: equal for all who have seen the same."""
        print(self.swarm.state_hash())

    def serve(self, lines: Iterable[str]) -> None:
        """Do what is typed, until `quit` or the end of the input."""
        commands: dict[str, Callable[..., None]] = {
            name: getattr(self, name)
            for name in (
                *("set", "get", "delete", "list", "who", "peers", "stats", "conflicts"),
                *("apart", "together", "wait", "hash"),
            )
        }
        for line in lines:
            name, *words = line.split() or [""]
            if name == "quit":
                return
            if name in commands:
                try:
                    commands[name](*words)
                except TypeError:
                    print(f"{name}: {commands[name].__doc__}")
                except murmur.Error as error:
                    print(f"{type(error).__name__}: {error}")
            elif name:
                print(f"commands: {' '.join(sorted(commands))} quit")
            sys.stdout.flush()


def main() -> None:
    """Open the desk and serve the terminal."""
    if not 2 <= len(sys.argv) <= 3:
        raise SystemExit(__doc__)
    name, *ticket = sys.argv[1:]
    desk = Desk(name, ticket[0] if ticket else None, Path("shared-kv"))
    sys.stdout.flush()
    try:
        desk.serve(sys.stdin)
    except KeyboardInterrupt:
        print()
    finally:
        desk.swarm.close()


if __name__ == "__main__":
    main()
