"""Who waits for a sync goes on after it, woken by the one before; nobody is forgotten."""

from __future__ import annotations

import threading
import time

import pytest

from murmur.kvcore import group_commit
from murmur.kvcore.group_commit import GroupCommit


def waiting(commits: GroupCommit, count: int, done: list[int]) -> list[threading.Thread]:
    """So many threads that wait, in the order of their numbers."""

    def wait(number: int) -> None:
        commits.wait()
        done.append(number)

    threads = []
    for number in range(count):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        while len(commits._waiting) <= number:
            time.sleep(0)
    return threads


def test_each_wakes_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LONGEST_WAIT", 3600.0)
    commits, done = GroupCommit(), list[int]()
    with commits.syncing:
        threads = waiting(commits, 8, done)
    assert not done
    commits.wake()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))
    assert not commits._waiting
    assert not commits._woken
    assert commits._group == 9


def test_who_waits_no_longer_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One gives up while a sync goes on, one finds that there is none, and one is interrupted."""
    monkeypatch.setattr(group_commit, "LONGEST_WAIT", 0.001)
    commits, done = GroupCommit(), list[int]()
    with commits.syncing:
        commits.wait()
    commits.wait()
    monkeypatch.setattr(group_commit, "LONGEST_WAIT", "interrupted")
    with commits.syncing, pytest.raises(TypeError):
        commits.wait()
    assert not commits._waiting
    monkeypatch.setattr(group_commit, "LONGEST_WAIT", 3600.0)
    with commits.syncing:
        threads = waiting(commits, 3, done)
    commits.wake()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2]


def test_threads_that_sync_in_turn_all_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "LONGEST_WAIT", 0.05)
    commits, state = GroupCommit(), {"end": 0, "durable": 0}
    appending = threading.Lock()

    def work() -> None:
        for _ in range(50):
            with appending:
                target = state["end"] = state["end"] + 1
            while state["durable"] < target:
                if commits.syncing.locked():
                    commits.wait()
                    continue
                with commits.syncing:
                    if state["durable"] < target:
                        commits.gather()
                        end = state["end"]
                        time.sleep(0.0001)
                        state["durable"] = end
                commits.wake()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state["durable"] == state["end"]
