"""Who this directory is: its replica id, and how its last session ended.

    REPLICA    one line of text each: `murmur replica 1`, `id HEX`, `session N`, `durability NAME`,
               `file HEX`, `former HEX HEX ...` (ids that it had, if any), `crc HEX`
    CLEAN      `murmur clean 1`, `session N`, `end POSITION`, `crc HEX`

REPLICA is rewritten at every opening with the session number and with the identity of the very file
that holds it (device and inode). CLEAN is written at an orderly close, for its session and the
log's end.

A replica id must never issue one dot twice, so a new one is taken when
    - the file is not the one that was written: the directory was copied, or restored from a backup;
    - the last session ran with durability "none" and did not end cleanly: what it had sent may be
      lost here;
    - a peer holds more of the replica's transactions than the replica (`renew`): its whole disk was
      put back to an earlier state, which no file can tell.

Invariant: both files are replaced atomically; REPLICA is durable before the log is created.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from murmur.errors import Corruption, UnknownFormat
from murmur.kvcore.causality import REPLICA_ID_BYTES
from murmur.kvcore.storage import Storage, read_whole, write_atomically

REPLICA_FILE = "REPLICA"
CLEAN_FILE = "CLEAN"
FORMAT = 1
MAX_FORMER = 16


@dataclass(frozen=True, slots=True)
class Lineage:
    """The replica's id and session; `renewed` says why the id is a new one, if it is."""

    id: bytes
    session: int
    clean_end: int | None
    renewed: str | None
    former: tuple[bytes, ...] = ()  # ids that it had, the last ones


def open_lineage(
    storage: Storage, *, durability: str, random_bytes: Callable[[int], bytes]
) -> Lineage:
    """Read who the directory is, decide whether it still is, and begin a session."""
    last = read_lines(storage, REPLICA_FILE, "replica")
    clean = read_lines(storage, CLEAN_FILE, "clean")
    clean_end: int | None = None
    renewed: str | None = None
    former: tuple[bytes, ...] = ()
    if last is None:
        if storage.exists("log") and storage.list("log"):
            raise Corruption(
                f"{storage.path}/{REPLICA_FILE}", 0, "missing, beside a log that needs it"
            )
        replica, session = random_bytes(REPLICA_ID_BYTES), 1
    else:
        replica, session = bytes.fromhex(last["id"]), int(last["session"]) + 1
        ended_cleanly = clean is not None and clean["session"] == last["session"]
        if clean is not None:
            clean_end = int(clean["end"])
        if last["file"] != storage.identity(REPLICA_FILE).hex():
            renewed = "the directory was copied or restored"
        elif last["durability"] == "none" and not ended_cleanly:
            renewed = "the last session ended uncleanly under durability 'none'"
        former = tuple(map(bytes.fromhex, last.get("former", "").split()))
        if renewed:
            former = (*former, replica)[-MAX_FORMER:]
            replica = random_bytes(REPLICA_ID_BYTES)
    _write_replica(storage, replica, session, durability, former)
    return Lineage(replica, session, clean_end, renewed, former)


def renew(
    storage: Storage,
    lineage: Lineage,
    why: str,
    *,
    durability: str,
    random_bytes: Callable[[int], bytes],
) -> Lineage:
    """Take a new id within a session; durable when this returns."""
    former = (*lineage.former, lineage.id)[-MAX_FORMER:]
    replica = random_bytes(REPLICA_ID_BYTES)
    _write_replica(storage, replica, lineage.session, durability, former)
    return replace(lineage, id=replica, renewed=why, former=former)


def close_lineage(storage: Storage, session: int, end: int) -> None:
    """Note that the session ended in order, with the log synced up to `end`."""
    write_atomically(
        storage, CLEAN_FILE, encode_lines("clean", {"session": str(session), "end": str(end)})
    )


def _write_replica(
    storage: Storage, replica: bytes, session: int, durability: str, former: tuple[bytes, ...]
) -> None:
    # The file names its own inode, so it is created first and written second.
    temporary = REPLICA_FILE + ".new"
    if storage.exists(temporary):
        storage.remove(temporary)
    file = storage.create(temporary)
    try:
        facts = {
            "id": replica.hex(),
            "session": str(session),
            "durability": durability,
            "file": storage.identity(temporary).hex(),
        }
        if former:
            facts["former"] = " ".join(each.hex() for each in former)
        file.write(encode_lines("replica", facts))
        file.sync()
    finally:
        file.close()
    storage.rename(temporary, REPLICA_FILE)
    storage.sync_directory()


def encode_lines(kind: str, facts: dict[str, str]) -> bytes:
    """A small text file: `murmur KIND 1`, a line for each fact, a checksum."""
    text = f"murmur {kind} {FORMAT}\n" + "".join(
        f"{name} {value}\n" for name, value in facts.items()
    )
    return text.encode() + f"crc {zlib.crc32(text.encode()):08x}\n".encode()


def read_lines(storage: Storage, name: str, kind: str) -> dict[str, str] | None:
    """The facts of such a file, None if there is none. Raises Corruption, UnknownFormat."""
    if not storage.exists(name):
        return None
    path = f"{storage.path}/{name}"
    data = read_whole(storage, name)
    first, _, _ = data.partition(b"\n")
    words = first.split(b" ")
    if words[:2] != [b"murmur", kind.encode()] or len(words) != 3:
        raise Corruption(path, 0, f"does not begin with 'murmur {kind}'")
    if words[2] != str(FORMAT).encode():
        raise UnknownFormat(path, 0, f"format {words[2].decode(errors='replace')} is not {FORMAT}")
    body, mark, crc = data.rpartition(b"crc ")
    if not mark or crc.strip() != f"{zlib.crc32(body):08x}".encode():
        raise Corruption(path, len(body), "checksum does not match")
    return dict(line.split(" ", 1) for line in body.decode().splitlines()[1:])
