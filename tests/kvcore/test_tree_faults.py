"""Every kind of fault, at one call after the other: nothing is lost, and no answer is wrong.

The workload of test_tree_crash.py meets one fault. Whatever it raises, what it has read until then
is right; after it, the directory opens, sound, with what belongs to its mark.
"""

from __future__ import annotations

import errno
import threading
import time
from random import Random
from typing import Any

import pytest

from murmur.errors import Corruption, Poisoned
from murmur.kvcore.memory_storage import MemoryStorage
from tests.kvcore.test_tree_crash import RICH, Work, content, surviving

TURNS = 14
WRITING = ["create", "write", "sync", "rename", "remove", "sync_directory"]
READING = ["open", "read", "size", "exists", "list"]


def calls(kind: str) -> int:
    """How often the workload asks for an operation of this kind, about."""
    work = Work(MemoryStorage(), options=RICH)
    work.run(TURNS)
    return work.storage.calls[kind]


def run(kind: str, error: int, skip: int, written: int = 0) -> tuple[Work, BaseException | None]:
    work = Work(MemoryStorage(), options=RICH)
    work.storage.fail(kind, error=error, skip=skip, written=written)
    try:
        work.run(TURNS)
    except (OSError, Poisoned, Corruption) as failure:
        if work.tree is not None:
            try:
                assert content(work.tree) == work.model
            except OSError as again:
                if again.errno != error:  # else the fault is one of reading
                    raise
        work.close()
        return work, failure
    work.close()
    return work, None


@pytest.mark.parametrize("kind", WRITING)
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["eio", "enospc"])
def test_one_failing_operation(kind: str, error: int) -> None:
    total = calls(kind)
    raised = 0
    for skip in range(0, total, max(1, total // 25)):
        work, failure = run(kind, error, skip, written=7 if kind == "write" else 0)
        if isinstance(failure, Poisoned):
            assert isinstance(failure.__cause__, OSError)
            assert failure.__cause__.errno == error
        elif failure is not None:
            assert isinstance(failure, OSError)
            assert failure.errno == error
        raised += failure is not None
        work.storage.heal()
        for seed in (None, 1, 2):
            survivor = work.storage.crash(None if seed is None else Random(seed))
            surviving(work, survivor, b"")
        surviving(work, work.storage.clone(), b"")
    assert raised > 0 or kind == "remove"  # what cannot be removed is tried again behind


@pytest.mark.parametrize("kind", READING)
def test_one_failing_read(kind: str) -> None:
    total = calls(kind)
    for skip in range(0, total, max(1, total // 25)):
        work, failure = run(kind, errno.EIO, skip)
        assert not isinstance(failure, Corruption), "a disk that fails is not a damaged file"
        work.storage.heal()
        surviving(work, work.storage.clone(), b"")


def test_a_merge_that_began_on_a_full_disk_is_not_the_answer_to_who_asks_later() -> None:
    work = Work(MemoryStorage(), options=RICH)
    tree = work.open()
    upkeep = tree._upkeep
    merge, merging = upkeep._work.merge, threading.Event()

    def full(*arguments: object) -> None:
        upkeep._work.merge = merge  # type: ignore[method-assign]
        merging.set()
        while not upkeep._merges.wanted:
            time.sleep(0.001)
        raise OSError(errno.ENOSPC, "No space left on device")

    upkeep._work.merge = full  # type: ignore[assignment]
    for _ in range(RICH.level0_tables):
        work.write(3)
        tree.flush(work.mark())
    assert merging.wait(60)
    tree.compact()
    assert content(tree) == work.model
    work.close()


def test_a_flush_that_began_on_a_full_disk_is_not_the_answer_to_who_asks_later() -> None:
    work = Work(MemoryStorage(), options=RICH)
    tree = work.open()
    upkeep = tree._upkeep
    flush, flushing, asked = upkeep._work.flush, threading.Event(), threading.Event()

    def full(*arguments: object) -> None:
        upkeep._work.flush = flush  # type: ignore[method-assign]
        flushing.set()
        assert asked.wait(60)
        raise OSError(errno.ENOSPC, "No space left on device")

    upkeep._work.flush = full  # type: ignore[assignment]
    rotate = upkeep.rotate

    def rotated(*arguments: Any, **options: Any) -> Any:
        frozen = rotate(*arguments, **options)
        asked.set()
        return frozen

    work.write(3)
    mark = work.mark()
    tree.rotate(mark)
    assert flushing.wait(60)
    upkeep.rotate = rotated  # type: ignore[method-assign]
    tree.flush(mark)  # of nothing more than was being flushed
    assert content(tree) == work.model
    assert tree.mark == mark
    work.close()


def test_who_asks_for_a_merge_is_not_answered_by_one_that_had_begun() -> None:
    work = Work(MemoryStorage(), options=RICH)
    tree = work.open()
    upkeep = tree._upkeep
    merge, merging, asked = upkeep._work.merge, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> None:
        if upkeep._merges.exclusive:
            upkeep._work.merge = merge  # type: ignore[method-assign]
            merging.set()
            assert asked.wait(60)
        merge(*arguments)

    upkeep._work.merge = slow  # type: ignore[method-assign]
    work.write(3)
    tree.flush(work.mark())
    first = threading.Thread(target=tree.compact)
    first.start()
    assert merging.wait(60)
    work.write(3)
    tree.flush(work.mark())
    retry = upkeep._retry

    def retried() -> None:
        retry()
        asked.set()

    upkeep._retry = retried  # type: ignore[method-assign]
    tree.compact()
    first.join()
    assert not tree._head.state.version.level(0)
    assert content(tree) == work.model
    work.close()


def test_a_full_disk_that_is_emptied_needs_no_reopening() -> None:
    """At every operation that may find no room; then there is room again, and all goes on."""
    for kind in ("create", "write", "sync", "rename", "sync_directory"):
        for skip in range(0, 40, 3):
            work = Work(MemoryStorage(), options=RICH)
            tree = work.open()
            work.storage.fail(kind, name="tree", error=errno.ENOSPC, skip=skip, times=None)
            for _ in range(8):
                try:
                    work.write(6)
                    tree.flush(work.mark())
                    tree.compact()
                except OSError as failure:
                    if failure.errno != errno.ENOSPC:
                        raise
                assert content(tree) == work.model
            work.storage.heal()
            mark = work.mark()
            tree.flush(mark)
            tree.compact()
            tree.settle()
            assert content(tree) == work.model
            assert list(tree.check()) == []
            work.close()
            surviving(work, work.storage.crash(None), mark)
