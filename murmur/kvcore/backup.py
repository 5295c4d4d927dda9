"""Backups: a directory that holds several generations of a tree, each whole, files kept once.

    BACKUP/generations/000003      what generation 3 consists of
    BACKUP/files/...               its files, and those of others

    generation := "MURMRBAK" | version u16 | crc u32 of the body | length u32 of the body | body
    body       := label | file count u32 | file*
    file       := size u64 | crc u32 of all of it | name in the backup | name in the directory
    label, name := length u32 | bytes

Integers are little-endian. A table is named by its number and its footer's checksum, a value file
by its number, its size and the checksum of its last bytes: what a backup has under such a name it
need not copy again. All else (the manifest, the log) is named by its content.

    backup     copy what is missing, sync it -> sync the directory -> write the generation
    restore    copy and compare every byte's checksum; the files that make a directory one, last
    prune      remove old generations -> remove files that none of the others names

Interrupted anywhere, a backup leaves the generations before it, and at most files that the next
prune removes; a restore leaves a directory that does not open, and may be repeated.

Invariant: every file that a generation names is there, with the content it had when it was made.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from zlib import crc32

from murmur.errors import ChecksumMismatch, Corruption, InvalidInput, UnknownFormat
from murmur.kvcore.kernel.pure.table import FOOTER, FOOTER_BYTES
from murmur.kvcore.reserve import RESERVE
from murmur.kvcore.segment import Segment
from murmur.kvcore.storage import (
    TEMPORARY,
    Problem,
    ReadFile,
    Storage,
    read_whole,
    write_atomically,
)
from murmur.kvcore.store import MANIFEST
from murmur.kvcore.version import Version

VERSION = 1  # on disk
MAGIC = b"MURMRBAK"
LOCK = "LOCK"  # of the owner of a directory: not backed up
GENERATIONS, FILES = "generations", "files"
PIECE_BYTES = 1 << 20  # copied at once
TAIL_BYTES = 64 << 10  # of a value file, whose checksum is part of its name

_INCOMING = FILES + "/incoming" + TEMPORARY
_RESTORING = "RESTORING"  # a directory in which a restore has not come to its end

_HEADER = struct.Struct("<8sHII")
_FILE = struct.Struct("<QI")
_LENGTH = struct.Struct("<I")


class Kept(NamedTuple):
    """A file of a generation."""

    size: int
    crc: int
    name: str  # below FILES
    target: str  # in the directory that was backed up


@dataclass(frozen=True, slots=True)
class Generation:
    """One backup: `copied` is how many of its bytes were new when it was made, 0 if read again."""

    number: int
    label: str
    files: tuple[Kept, ...]
    copied: int = 0

    @property
    def size(self) -> int:
        """The bytes of its files."""
        return sum(file.size for file in self.files)


Generations: TypeAlias = list[Generation]


class Item(NamedTuple):
    """A file that is to be in a generation; its content must not change, but may grow."""

    target: str
    size: int
    open: Callable[[], ReadFile]
    close: Callable[[], None] = lambda: None  # let go of what keeps the file
    key: str | None = None  # a name that no other content has; None: by its content
    table_checksum: int | None = None  # of the footer of a table


class Backup:
    """The backups in one directory. One process at a time; `Locked` tells of another."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def add(self, items: Sequence[Item], label: str = "") -> Generation:
        """Make a generation of these files, copying what is not there yet."""
        lock = self.storage.lock()
        try:
            for directory in (GENERATIONS, FILES):
                self.storage.make_directory(directory)
            self.storage.sync_directory()
            known = {file.name: file for generation in self.list() for file in generation.files}
            files, copied = [], 0
            for item in items:
                kept = known.get(item.key or "")
                if kept is None:
                    kept = self._copy(item)
                    if kept.name not in known:
                        # There may be one of a backup that was interrupted: it is replaced.
                        self.storage.rename(_INCOMING, f"{FILES}/{kept.name}")
                        known[kept.name] = kept
                        copied += item.size
                files.append(kept._replace(target=item.target))
            self.storage.sync_directory(FILES)
            number = max((generation.number for generation in self.list()), default=0) + 1
            generation = Generation(number, label, tuple(files), copied)
            write_atomically(self.storage, _generation_name(number), _encode(generation))
            return generation
        finally:
            for item in items:
                item.close()
            lock.close()

    def list(self) -> Generations:
        """The generations, the oldest first. Raises Corruption for one that cannot be read."""
        if not self.storage.exists(GENERATIONS):
            return []
        names = (name for name in self.storage.list(GENERATIONS) if name.isdigit())
        return [self._read(int(name)) for name in sorted(names)]

    def prune(self, keep: int) -> Generations:
        """Remove all but the newest so many generations, and files of none; what was removed."""
        if keep < 1:
            raise InvalidInput(f"at least one generation is kept, not {keep}")
        lock = self.storage.lock()
        try:
            generations = self.list()
            gone, rest = generations[:-keep], generations[-keep:]
            for generation in gone:
                self.storage.remove(_generation_name(generation.number))
            if not rest:
                return gone
            self.storage.sync_directory(GENERATIONS)
            needed = {file.name for generation in rest for file in generation.files}
            for name in self.storage.list(FILES):
                if name not in needed:
                    self.storage.remove(f"{FILES}/{name}")
            return gone
        finally:
            lock.close()

    def check(self) -> Iterator[Problem]:
        """Read all files of all generations and compare their checksums; what is wrong."""
        known: dict[str, Kept] = {}
        for name in self.storage.list(GENERATIONS) if self.storage.exists(GENERATIONS) else ():
            if name.isdigit():
                try:
                    known.update({file.name: file for file in self._read(int(name)).files})
                except Corruption as error:
                    yield Problem(error.path, error.offset, error.reason)
        for file in known.values():
            try:
                for _ in self._pieces(file):
                    pass
            except Corruption as error:
                yield Problem(error.path, error.offset, error.reason)

    def restore(self, target: Storage, number: int | None = None) -> Generation:
        """Make a directory of a generation, the newest by default, verified as it is copied.

        Raises InvalidInput if there is none, or if the directory holds something already;
        Corruption if a file of the backup is damaged: then the directory does not open.
        """
        if number is None:
            generations = self.list()
            if not generations:
                raise InvalidInput(f"{self.storage.path} holds no backup")
            generation = generations[-1]
        elif self.storage.exists(_generation_name(number)):
            generation = self._read(number)
        else:
            raise InvalidInput(f"{self.storage.path} holds no generation {number}")
        # What says that a directory is a tree or a replica comes last.
        files = sorted(generation.files, key=lambda file: (_is_decisive(file.target), file.target))
        if not target.exists(_RESTORING):
            for file in files:
                if _is_decisive(file.target) and target.exists(file.target):
                    raise InvalidInput(f"{target.path} holds {file.target} already")
            target.create(_RESTORING).close()
        directories = sorted({posixpath.dirname(file.target) for file in files} - {""})
        for directory in directories:
            target.make_directory(directory)
        target.sync_directory()
        for last in (False, True):
            for file in files:
                if _is_decisive(file.target) is last:
                    self._restore_file(file, target)
            for directory in (*directories, ""):
                target.sync_directory(directory)
        target.remove(_RESTORING)
        target.sync_directory()
        return generation

    def _restore_file(self, file: Kept, target: Storage) -> None:
        temporary = file.target + TEMPORARY
        if target.exists(temporary):
            target.remove(temporary)
        writer = target.create(temporary)
        try:
            for piece in self._pieces(file):
                writer.write(piece)
            writer.sync()
        finally:
            writer.close()
        target.rename(temporary, file.target)

    def _pieces(self, file: Kept, name: str = "") -> Iterator[bytes]:
        """The content of a file; Corruption before its end if it is not what it was."""
        name = name or f"{FILES}/{file.name}"
        path = f"{self.storage.path}/{name}"
        try:
            reader = self.storage.open(name)
        except FileNotFoundError:
            raise Corruption(path, 0, "a generation names this file; it is missing") from None
        try:
            if reader.size() != file.size:
                size = reader.size()
                reason = f"{size} bytes long instead of {file.size}"
                raise Corruption(path, min(size, file.size), reason)
            crc = 0
            for offset in range(0, file.size, PIECE_BYTES):
                piece = reader.read(offset, min(PIECE_BYTES, file.size - offset))
                crc = crc32(piece, crc)
                if offset + len(piece) == file.size and crc != file.crc:
                    raise ChecksumMismatch(path, 0, "the file is not what was backed up")
                yield piece
        finally:
            reader.close()

    def _copy(self, item: Item) -> Kept:
        """Copy a file durably, under a temporary name, and read it again."""
        if self.storage.exists(_INCOMING):
            self.storage.remove(_INCOMING)
        writer = self.storage.create(_INCOMING)
        crc = body = 0
        left = item.size - FOOTER_BYTES  # of a table, before its footer
        footer = b""
        try:
            for piece in _pieces(item):
                writer.write(piece)
                crc = crc32(piece, crc)
                body = crc32(piece[: max(left, 0)], body)
                footer += piece[max(left, 0) :]
                left -= len(piece)
            writer.sync()
        finally:
            writer.close()
        if item.table_checksum is not None:
            whole = crc32(footer[: FOOTER.size]) == item.table_checksum
            if not whole or FOOTER.unpack_from(footer)[-1] != body:
                raise ChecksumMismatch(item.target, 0, "the table does not have its checksum")
        by_content = f"{crc:08x}-{item.size}-{posixpath.basename(item.target)}"
        kept = Kept(item.size, crc, item.key or by_content, item.target)
        for _ in self._pieces(kept, _INCOMING):
            pass
        return kept

    def _read(self, number: int) -> Generation:
        name = _generation_name(number)
        path = f"{self.storage.path}/{name}"
        data = read_whole(self.storage, name)
        if len(data) < _HEADER.size or not data.startswith(MAGIC):
            raise Corruption(path, 0, "not a generation of a backup")
        _, version, crc, length = _HEADER.unpack_from(data)
        if version != VERSION:
            reason = f"backup format {version}, this release reads {VERSION}"
            raise UnknownFormat(path, len(MAGIC), reason)
        body = data[_HEADER.size :]
        if len(body) != length or crc32(body) != crc:
            raise ChecksumMismatch(path, _HEADER.size, "the generation has another checksum")
        return _decode(number, body)


def file_item(storage: Storage, name: str) -> Item:
    """A file that may be removed or grow meanwhile: opened now, up to its present size."""
    reader = storage.open(name)
    return Item(name, reader.size(), lambda: reader, reader.close)


def tree_items(storage: Storage, version: Version, manifest: bytes) -> list[Item]:
    """The files of a version, which the items hold on to."""
    items = [bytes_item(MANIFEST, manifest)]
    for table in version.tables():
        info = table.info
        key = f"{info.number:06}-{info.checksum:08x}.sst"
        items.append(_lazy(storage, version, table.name, info.size, key, info.checksum))
    for file in version.values.values():
        key = value_key(storage, file.name, file.size)
        items.append(_lazy(storage, version, file.name, file.size, key, None))
    return items


def whole_items(storage: Storage, tree: Sequence[Item], log: Sequence[Segment]) -> list[Item]:
    """A tree's files, the log as it is now, and the files that say whose directory this is.

    To be called by its owner while nothing is appended to the log, nor trimmed; copying them may
    come later. `log` is its segments, the open one last, of which the copy ends with the last
    frame. What is restored opens as a copied directory does: a replica takes a new id.
    """
    left_out = LOCK, RESERVE
    names = [
        name for name in storage.list() if name not in left_out and not name.endswith(TEMPORARY)
    ]
    items = [*tree, *(file_item(storage, name) for name in names)]
    for segment in log:
        item = file_item(storage, segment.name)
        if segment is log[-1]:  # behind that there may be room for more, and soon there is more
            item = item._replace(size=segment.end + segment.shift)
        items.append(item)
    return items


def _lazy(
    storage: Storage, version: Version, name: str, size: int, key: str, checksum: int | None
) -> Item:
    """A file that is opened when it is copied, and is there as long as its version is held."""
    opened: list[ReadFile] = []

    def open_it() -> ReadFile:
        assert version is not None  # held by this function
        opened.append(storage.open(name))
        return opened[-1]

    def close() -> None:
        while opened:
            opened.pop().close()

    return Item(name, size, open_it, close, key, checksum)


def bytes_item(target: str, data: bytes) -> Item:
    """A file that is not on the disk."""
    return Item(target, len(data), lambda: _Bytes(target, data))


def value_key(storage: Storage, name: str, size: int) -> str:
    """The name of a value file in a backup."""
    reader = storage.open(name)
    try:
        start = max(0, size - TAIL_BYTES)
        tail = crc32(reader.read(start, size - start))
    finally:
        reader.close()
    stem, suffix = posixpath.splitext(posixpath.basename(name))
    return f"{stem}-{size}-{tail:08x}{suffix}"


class _Bytes:
    """Bytes as a file to read."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def size(self) -> int:
        return len(self._data)

    def close(self) -> None:
        pass


def _pieces(item: Item) -> Iterator[bytes]:
    reader = item.open()
    for offset in range(0, item.size, PIECE_BYTES):
        length = min(PIECE_BYTES, item.size - offset)
        piece = reader.read(offset, length)
        if len(piece) != length:
            raise Corruption(item.target, offset + len(piece), "the file has become shorter")
        yield piece
    item.close()


def _is_decisive(target: str) -> bool:
    """Whether a file says that a directory is a tree or a replica."""
    return "/" not in target or target.endswith("/MANIFEST")


def _generation_name(number: int) -> str:
    return f"{GENERATIONS}/{number:06}"


def _encode(generation: Generation) -> bytes:
    parts: Iterable[bytes] = (
        _text(generation.label),
        _LENGTH.pack(len(generation.files)),
        *(
            _FILE.pack(file.size, file.crc) + _text(file.name) + _text(file.target)
            for file in generation.files
        ),
    )
    body = b"".join(parts)
    return _HEADER.pack(MAGIC, VERSION, crc32(body), len(body)) + body


def _decode(number: int, body: bytes) -> Generation:
    label, at = _read_text(body, 0)
    (count,) = _LENGTH.unpack_from(body, at)
    at += _LENGTH.size
    files = []
    for _ in range(count):
        size, crc = _FILE.unpack_from(body, at)
        name, at = _read_text(body, at + _FILE.size)
        target, at = _read_text(body, at)
        files.append(Kept(size, crc, name, target))
    assert at == len(body), "its checksum is right, so it was written like this"
    return Generation(number, label, tuple(files))


def _text(text: str) -> bytes:
    data = text.encode()
    return _LENGTH.pack(len(data)) + data


def _read_text(body: bytes, at: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(body, at)
    stop = at + _LENGTH.size + length
    return body[at + _LENGTH.size : stop].decode(), stop
