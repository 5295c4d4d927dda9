"""Dead letters: records that can never be applied, kept in sight (law L7).

    file DEADLETTERS := msgpack [format, crc, body]
    body             := msgpack [next number, dropped, [letter*]]
    letter           := [number, peer, replica or nil, seq or nil, reason, time ms, times, size,
                         record]

What is not a record, or does not fit its author's chain, is refused, and whoever sent it is named.
It may be the fault of this side all the same (a record of a later release), so the bytes are kept,
and can be tried again.

Invariants:
    1. At most MAX_LETTERS letters with KEPT_BYTES of records are kept; the oldest go first, and how
       many went is counted. A record beyond RECORD_BYTES is listed without its bytes.
    2. The same bytes from the same peer are one letter, however often they come.
    3. The file is replaced atomically. One that is damaged all the same is set aside as
       DEADLETTERS.damaged, where check() tells of it: it does not keep the replica from opening.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import msgpack

from murmur.errors import Corruption, ProtocolViolation, UnknownFormat
from murmur.kvcore.record import origin
from murmur.kvcore.storage import Problem, Storage, read_whole, write_atomically

DEAD_LETTERS_FILE = "DEADLETTERS"
DAMAGED_FILE = DEAD_LETTERS_FILE + ".damaged"
FORMAT = 1
MAX_LETTERS = 256
KEPT_BYTES = 4 << 20
RECORD_BYTES = 1 << 20
_DOT_BYTES = 17  # of a record, up to the end of its dot


class Unappliable(ProtocolViolation):
    """A record that can never be applied, and the peer that sent it."""

    def __init__(self, record: bytes, peer: bytes, reason: str, admitted: int = 0) -> None:
        super().__init__(reason)
        self.record = record
        self.peer = peer
        self.admitted = admitted  # records that came before it


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that was refused."""

    number: int
    peer: bytes  # node id of who sent it; empty if it was not told
    replica: bytes | None  # as the bytes claim; None if there are too few
    seq: int | None
    reason: str
    time_ms: int  # when it came last, wall clock
    times: int  # how often it came
    size: int
    record: bytes  # empty if it was too large to keep


class DeadLetters:
    """The letters of one replica. For any number of threads."""

    def __init__(self, storage: Storage) -> None:
        """Read the file, if there is one. Raises UnknownFormat."""
        self._storage = storage
        self._lock = threading.Lock()
        try:
            self._next, self.dropped, self._letters = _read(storage)
        except UnknownFormat:
            raise
        except Corruption:
            storage.rename(DEAD_LETTERS_FILE, DAMAGED_FILE)
            storage.sync_directory()
            self._next, self.dropped, self._letters = _read(storage)

    def __len__(self) -> int:
        return len(self._letters)

    def listing(self) -> list[DeadLetter]:
        """All of them, oldest first."""
        with self._lock:
            return list(self._letters.values())

    def add(
        self, record: bytes, peer: bytes, reason: str, time_ms: int, size: int | None = None
    ) -> None:
        """Keep a record that was refused; `size` if it is longer than what came of it."""
        size = len(record) if size is None else size
        replica, seq = origin(record) if len(record) >= _DOT_BYTES else (None, None)
        kept = record if size == len(record) <= RECORD_BYTES else b""
        letter = DeadLetter(0, peer, replica, seq, reason, time_ms, 1, size, kept)
        with self._lock:
            letters = dict(self._letters)
            for number, known in self._letters.items():
                if _same(known, letter):
                    times = known.times + 1
                    letters[number] = replace(letter, number=number, times=times)
                    break
            else:
                letters[self._next] = replace(letter, number=self._next)
                self._next += 1
            self._write(letters)

    def remove(self, numbers: Iterable[int]) -> int:
        """Forget these letters; how many there were."""
        with self._lock:
            gone = set(numbers) & self._letters.keys()
            if gone:
                self._write({n: each for n, each in self._letters.items() if n not in gone})
            return len(gone)

    def _write(self, letters: dict[int, DeadLetter]) -> None:
        kept = sum(len(letter.record) for letter in letters.values())
        while len(letters) > MAX_LETTERS or kept > KEPT_BYTES:
            oldest = letters.pop(next(iter(letters)))
            kept -= len(oldest.record)
            self.dropped += 1
        self._letters = letters
        fields = [
            (e.number, e.peer, e.replica, e.seq, e.reason, e.time_ms, e.times, e.size, e.record)
            for e in letters.values()
        ]
        body = msgpack.packb([self._next, self.dropped, fields])
        write_atomically(
            self._storage, DEAD_LETTERS_FILE, msgpack.packb([FORMAT, zlib.crc32(body), body])
        )


def check_dead_letters(storage: Storage) -> Iterator[Problem]:
    """Read the file, if there is one; what is wrong with it."""
    if storage.exists(DAMAGED_FILE):
        yield Problem(f"{storage.path}/{DAMAGED_FILE}", 0, "damaged dead letters were set aside")
    try:
        _read(storage)
    except Corruption as error:
        yield Problem(error.path, error.offset, error.reason)


def _same(left: DeadLetter, right: DeadLetter) -> bool:
    known = left.peer, left.record, left.size, left.replica, left.seq
    return known == (right.peer, right.record, right.size, right.replica, right.seq)


def _read(storage: Storage) -> tuple[int, int, dict[int, DeadLetter]]:
    if not storage.exists(DEAD_LETTERS_FILE):
        return 1, 0, {}
    path = f"{storage.path}/{DEAD_LETTERS_FILE}"
    try:
        version, crc, body = msgpack.unpackb(read_whole(storage, DEAD_LETTERS_FILE))
        if version != FORMAT:
            raise UnknownFormat(path, 0, f"format {version} is not {FORMAT}")
        if zlib.crc32(body) != crc:
            raise Corruption(path, 0, "checksum does not match")
        following, dropped, letters = msgpack.unpackb(body)
        return following, dropped, {fields[0]: DeadLetter(*fields) for fields in letters}
    except (ValueError, TypeError) as error:
        raise Corruption(path, 0, f"not the file that was written: {error}") from None
