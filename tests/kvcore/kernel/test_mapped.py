"""Tables that are mapped: what others do to the file meanwhile is an error, and not an answer.

Every block was read, and so verified, before the file is cut: what is gone then is either a page
(SIGBUS) or the rest of one (zeros).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from murmur.errors import Corruption
from murmur.kvcore.kernel import codec
from murmur.kvcore.storage import DiskStorage
from tests.kvcore.kernel.folder import Content, Folder, load_kernel

COUNT = 3000
CONTENT: Content = {b"%06d" % number: b"v%05d" % number * 16 for number in range(COUNT)}
PAIRS = sorted(CONTENT.items())

CUT = """
import sys
from pathlib import Path
from tests.kvcore.kernel.test_mapped import cut
cut(Path(sys.argv[1]))
print("survived")
"""


@pytest.fixture
def native() -> ModuleType:
    return load_kernel("native")


def mapped(folder: Folder, table: Any) -> Any:
    return folder.kernel.Table(folder.storage, table.name, table.info, folder.cache, mmap=True)


def opened(native: ModuleType, directory: Path, **options: Any) -> tuple[Any, Path]:
    """What reads a mapped table, and where that is."""
    directory.mkdir(parents=True, exist_ok=True)
    folder = Folder(native, DiskStorage(directory))
    table = folder.flush(CONTENT, **options)
    return folder.reads([(), [mapped(folder, table)]]), directory / table.name


def right(reads: Any) -> int:
    """How many keys are read; a wrong answer fails, and a scan that ends early."""
    count = 0
    for key, value in PAIRS:
        with suppress(Corruption):
            assert reads.get(key, 0) == value, key
            count += 1
        with suppress(Corruption):
            assert reads.get(key + b"x", 0) is None
    for reverse in (False, True):
        scan = reads.scan(b"", None, 0, reverse=reverse)
        assert not ends_early(scan, PAIRS[::-1] if reverse else PAIRS) or count < COUNT
    for start in range(0, COUNT, 100):
        some = PAIRS[start : start + 100]
        try:
            assert reads.multi_get([key for key, _ in some], 0) == [value for _, value in some]
        except Corruption:
            assert count < COUNT
    return count


def cut(directory: Path) -> None:
    """In a process of its own, since it would be a test's end, too."""
    native = load_kernel("native")
    for number, share in enumerate((0.9, 0.31, 0.011, 0.5, 0.0)):
        for separate_bytes in (0, 90):  # values, or references to them
            name = f"{number} {separate_bytes}"
            reads, path = opened(native, directory / name, separate_bytes=separate_bytes)
            size = path.stat().st_size
            cut_to = int(size * share) + number % 2  # the last page is gone as a whole, or in part
            assert right(reads) == COUNT
            scans = [reads.scan(b"%06d" % start, None, 0) for start in range(0, COUNT, 500)]
            begun = [int(next(scan)[0]) for scan in scans]
            os.truncate(path, cut_to)
            # Keys ascend: zeros come first, and are noticed before any page was missed.
            left = right(reads)
            assert abs(left / COUNT - share) < 0.1, (share, left)
            for scan, first in zip(scans, begun, strict=True):
                assert not ends_early(scan, PAIRS[first + 1 :]) or left < COUNT
            os.truncate(path, size)  # what comes back is not what was written
            assert right(reads) == left
            reads, path = opened(native, directory / "whole" / name, separate_bytes=separate_bytes)
            assert right(reads) == COUNT
            scans = [reads.scan(b"%06d" % start, None, 0) for start in range(0, COUNT, 500)]
            begun = [int(next(scan)[0]) for scan in scans]
            os.truncate(path, size - 1)
            for scan, first in zip(scans, begun, strict=True):
                assert not ends_early(scan, PAIRS[first + 1 :])
            assert right(reads) == COUNT  # a byte of the footer


def ends_early(scan: Any, wanted: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether it raises; wrong pairs fail, and an end that is none."""
    found: list[tuple[bytes, bytes]] = []
    try:
        found.extend(scan)
    except Corruption:
        assert found == wanted[: len(found)]
        return True
    assert found == wanted
    return False


def test_a_cut_file_gives_what_is_left_of_it_or_an_error(
    native: ModuleType, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", CUT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr


def test_a_changed_key_is_not_an_absent_one(native: ModuleType, tmp_path: Path) -> None:
    reads, path = opened(native, tmp_path, bits_per_key=0)
    assert right(reads) == COUNT
    stored = path.read_bytes()
    at = stored.index(b"v01500" * 16)
    with path.open("r+b") as file:  # all of the block's neighbourhood, in place
        file.seek(at - 8000)
        file.write(bytes(16_000))
    with pytest.raises(Corruption, match="was changed"):
        reads.get(b"001500x", 0)
    assert reads.get(b"000000x", 0) is None


def test_mapped_blocks_take_little_of_the_budget(native: ModuleType, tmp_path: Path) -> None:
    folder = Folder(native, DiskStorage(tmp_path))
    table = folder.flush(CONTENT)
    weights = []
    for each in (table, mapped(folder, table)):
        before = folder.cache.weight
        reads = folder.reads([(), [each]])
        assert right(reads) == COUNT
        weights.append(folder.cache.weight - before)
    assert weights[1] < weights[0] / 3


@pytest.mark.parametrize("name", ["lz4", "zstd"])
def test_compressed_blocks_are_copies(native: ModuleType, tmp_path: Path, name: str) -> None:
    number = {"lz4": codec.LZ4, "zstd": codec.ZSTD}[name]
    reads, path = opened(native, tmp_path, codec=number)
    assert right(reads) == COUNT
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size - 10))
    assert [reads.get(key, 0) for key, _ in PAIRS] == [value for _, value in PAIRS]


def test_a_file_that_cannot_be_mapped_is_read(
    native: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose last byte is zero: that it was cut could not be seen."""
    folder = Folder(native, DiskStorage(tmp_path))
    table = folder.flush(CONTENT)
    with (tmp_path / table.name).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")
    with pytest.raises(Corruption, match="magic"):
        mapped(folder, table).get(b"000000")
