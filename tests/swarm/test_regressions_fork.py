"""Forks at bad moments: the child refuses at once and leaves nothing of the parent's in use."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import murmur
from murmur import Forked, Swarm
from murmur.kvcore import PUT, Operation


def in_child(work: Callable[[], None], *, seconds: int = 10) -> int:
    """The exit code of a forked child that does this; a child that hangs is killed by its alarm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads beside a fork: on purpose
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(seconds)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def swarm(tmp_path: Path) -> Swarm:
    return murmur.open(tmp_path / "a")


def test_a_child_does_not_keep_the_directory_of_a_parent_that_let_go(
    swarm: Swarm, tmp_path: Path
) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)  # lives until the parent says so
        os._exit(0)
    try:
        swarm.close()
        with murmur.open(tmp_path / "a") as again:
            again.put("a", b"1")
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(pid, 0)


def test_a_child_is_refused_though_a_lock_was_held_when_it_was_forked(swarm: Swarm) -> None:
    transaction, other = swarm.transaction(), swarm.replica.begin()
    transaction.put("a", b"1")
    other.put(b"\x01\x01b", b"1")

    def work() -> None:
        for call in (
            transaction.commit,
            other.commit,
            swarm.replica.flush,
            lambda: swarm.replica.write([Operation(PUT, b"\x01\x01c", b"")]),
            lambda: swarm.replica.apply([]),
            lambda: list(swarm.replica.check()),
            lambda: swarm.replica.release_parked(),
        ):
            with pytest.raises(Forked):
                call()

    with swarm.replica._ledger.lock:  # as if another thread were in the middle of a commit
        assert in_child(work) == 0
    transaction.rollback()
    other.rollback()
    swarm.close()


def test_a_child_lets_go_of_snapshots_though_their_lock_was_held(swarm: Swarm) -> None:
    scan, transaction = swarm.scan(), swarm.transaction()

    def work() -> None:
        scan.close()
        transaction.rollback()
        swarm.close()

    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with swarm.replica._tree._head.lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert in_child(work) == 0
    finally:
        done.set()
        thread.join()
    scan.close()
    transaction.rollback()
    swarm.close()


def test_a_transaction_is_refused_in_a_child(swarm: Swarm) -> None:
    transaction = swarm.transaction()

    def work() -> None:
        for call in (
            lambda: transaction.get("a"),
            lambda: transaction.put("a", b""),
            lambda: transaction.sql("SELECT 1"),
        ):
            with pytest.raises(Forked):
                call()

    assert in_child(work) == 0
    transaction.put("a", b"1")
    transaction.commit()
    assert swarm.get("a") == b"1"
    swarm.close()
