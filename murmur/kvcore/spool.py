"""The spool: a snapshot on its way in, chunk by chunk, until it is whole and can be joined.

    bootstrap/MANIFEST          the manifest of the snapshot that is being fetched
    bootstrap/HASH.chunk        a chunk, named by its content

It lies in the replica's directory and outlives the process, so fetching goes on after a cut where
it stopped. When another snapshot is begun, the chunks that it shares with the last one stay.

Invariant: a chunk has its name when its bytes are durable and have been compared with its hash; it
is compared again when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from murmur.errors import ChecksumMismatch, ProtocolViolation
from murmur.kvcore.export import Entry, Manifest, content_hash, decode_chunk, decode_manifest
from murmur.kvcore.join import MalformedCell, check_cell
from murmur.kvcore.record import DERIVED
from murmur.kvcore.storage import TEMPORARY, Storage, read_whole, write_atomically

DIRECTORY = "bootstrap"
MANIFEST = f"{DIRECTORY}/MANIFEST"

_NAME = re.compile(r"[0-9a-f]{64}\.chunk")


class Spool:
    """The snapshot that one replica is fetching. For one thread at a time."""

    def __init__(self, storage: Storage) -> None:
        """What is there of it; a manifest that is damaged counts as none."""
        self._storage = storage
        self.manifest: Manifest | None = None
        self.id: bytes | None = None
        self._held: dict[bytes, int] = {}  # hashes of chunks that are there, and their sizes
        self._making = not storage.exists(DIRECTORY)
        if self._making:
            return
        for name in storage.list(DIRECTORY):
            if name.endswith(TEMPORARY):
                storage.remove(f"{DIRECTORY}/{name}")
        if not storage.exists(MANIFEST):
            return
        data = read_whole(storage, MANIFEST)
        try:
            self.manifest, self.id = decode_manifest(data), content_hash(data)
        except ProtocolViolation:
            storage.remove(MANIFEST)
        self._look()

    @property
    def held_bytes(self) -> int:
        """How much of the present snapshot is there."""
        return 0 if self.manifest is None else sum(self._held.values())

    @property
    def whole(self) -> bool:
        """Whether all of it is there."""
        return self.manifest is not None and not any(self.lacking())

    def begin(self, data: bytes) -> Manifest:
        """Fetch the snapshot of this manifest from now on. Raises ProtocolViolation."""
        manifest = decode_manifest(data)
        if self._making:
            self._storage.make_directory(DIRECTORY)
            self._storage.sync_directory()
            self._making = False
        write_atomically(self._storage, MANIFEST, data)
        self.manifest, self.id = manifest, content_hash(data)
        self._look()
        return manifest

    def lacking(self) -> Iterator[int]:
        """The indexes of the chunks that are not there."""
        assert self.manifest is not None
        for index, chunk in enumerate(self.manifest.chunks):
            if chunk.hash not in self._held:
                yield index

    def add(self, index: int, data: bytes) -> None:
        """Keep a chunk. Raises ProtocolViolation if it is not what the manifest names."""
        assert self.manifest is not None
        chunk = self.manifest.chunks[index]
        if len(data) != chunk.size or content_hash(data) != chunk.hash:
            raise ProtocolViolation(f"chunk {index} of a snapshot is not what its manifest names")
        write_atomically(self._storage, _name(chunk.hash), data)
        self._held[chunk.hash] = chunk.size

    def chunk(self, index: int) -> bytes | None:
        """A chunk that is there, for somebody else who fetches it."""
        assert self.manifest is not None
        chunk = self.manifest.chunks[index]
        return self._read(chunk.hash) if chunk.hash in self._held else None

    def entries(self, start: bytes = b"") -> Iterator[Entry]:
        """The pairs of the whole snapshot from a key on, each looked at.

        Raises Corruption where a chunk was damaged on the disk (it is removed, to be fetched again)
        and ProtocolViolation where the snapshot is none.
        """
        manifest = self.manifest
        assert manifest is not None
        vector = manifest.vector
        firsts = [chunk.first for chunk in manifest.chunks]
        for index, chunk in enumerate(manifest.chunks):
            stop = firsts[index + 1] if index + 1 < len(firsts) else DERIVED
            if stop <= start:
                continue
            last: bytes | None = None
            count = 0
            try:
                for key, cell in decode_chunk(self._read(chunk.hash)):
                    if (last is None and key != chunk.first) or (last is not None and key <= last):
                        raise MalformedCell("the keys are not in order")
                    if key >= stop:
                        raise MalformedCell("a key belongs to another chunk")
                    check_cell(key, cell, vector, manifest.stamp)
                    last = key
                    count += 1
                    if key >= start:
                        yield key, cell
            except ValueError as error:  # MalformedCell is one
                place = f"after key {last.hex()}" if last is not None else "at its beginning"
                raise ProtocolViolation(f"chunk {index} of a snapshot, {place}: {error}") from None
            if count != chunk.entries:
                raise ProtocolViolation(f"chunk {index} of a snapshot has {count} entries")

    def clear(self) -> None:
        """Remove everything: it was joined, or nobody wants it."""
        self.manifest = self.id = None
        self._held.clear()
        if self._making:
            return
        # The manifest first: chunks without one are swept when the next begins.
        names = self._storage.list(DIRECTORY)
        for name in sorted(names, key=lambda name: name != "MANIFEST"):
            self._storage.remove(f"{DIRECTORY}/{name}")
        self._storage.sync_directory(DIRECTORY)

    def _look(self) -> None:
        """See which chunks of the manifest are there, and remove the others."""
        wanted = {} if self.manifest is None else {c.hash: c.size for c in self.manifest.chunks}
        self._held = {}
        for name in self._storage.list(DIRECTORY):
            if _NAME.fullmatch(name):
                digest = bytes.fromhex(name[:64])
                if digest in wanted:
                    self._held[digest] = wanted[digest]
                else:
                    self._storage.remove(f"{DIRECTORY}/{name}")

    def _read(self, digest: bytes) -> bytes:
        name = _name(digest)
        data = read_whole(self._storage, name)
        if content_hash(data) != digest:
            self._held.pop(digest, None)
            self._storage.remove(name)
            path = f"{self._storage.path}/{name}"
            raise ChecksumMismatch(path, 0, "a fetched chunk was damaged; it is fetched again")
        return data


def _name(digest: bytes) -> str:
    return f"{DIRECTORY}/{digest.hex()}.chunk"
