"""The nodes of this host: files beside the sockets at which they listen.

    $XDG_RUNTIME_DIR/murmur/NAME.node     {"node": NODE ID, "group": MARK}

A file is there from the start of its node to its end; of a node that was killed it is left over,
and ignored, for its socket does not answer. The directory is this user's alone (local.py).
"""

from __future__ import annotations

import json
import os

from murmur.errors import InvalidInput
from murmur.sync.discovery.sighting import Sighting, group_mark
from murmur.sync.local import NAME_LENGTH, host_directory, own_directory, socket_answers
from murmur.sync.ticket import node_text, parse_node

SUFFIX = ".node"


class HostScout:
    """Shows this node to the others of this user on this host, and looks for them."""

    def __init__(self, node_id: bytes, group: str, directory: str | None = None) -> None:
        """Write the file; OSError if the directory is not this user's alone."""
        self._directory = directory or host_directory()
        own_directory(self._directory)
        self._mark = group_mark(group)
        self._name = node_text(node_id)[:NAME_LENGTH] + SUFFIX
        path = os.path.join(self._directory, self._name)
        fresh = path + "~"
        with open(fresh, "w", encoding="ascii") as file:
            json.dump({"node": node_text(node_id), "group": self._mark}, file)
        os.replace(fresh, path)

    def look(self) -> list[Sighting]:
        """The nodes of this group that listen here now."""
        found = []
        for name in sorted(os.listdir(self._directory)):
            if not name.endswith(SUFFIX) or name == self._name:
                continue
            path = os.path.join(self._directory, name)
            try:
                with open(path, encoding="ascii") as file:
                    fields = json.load(file)
                node_id, mark = parse_node(fields["node"]), fields["group"]
            except (OSError, ValueError, KeyError, TypeError, InvalidInput):
                continue  # gone meanwhile, half written by a killed node, or not ours
            if mark == self._mark and socket_answers(path.removesuffix(SUFFIX)):
                found.append(Sighting(node_id, (), "host"))
        return found

    def close(self) -> None:
        """Take the file away."""
        try:
            os.unlink(os.path.join(self._directory, self._name))
        except FileNotFoundError:
            return  # who cleans up the directory was faster
