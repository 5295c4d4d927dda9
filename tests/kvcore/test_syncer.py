"""The background sync ends when it is told to, at whatever moment that is."""

from __future__ import annotations

import threading

from murmur.kvcore.syncer import Syncer


def test_a_close_between_two_looks_is_not_missed() -> None:
    synced: list[int] = []
    syncer = Syncer(lambda: synced.append(1), interval_ms=1)
    cleared, go = threading.Event(), threading.Event()
    clear = syncer._dirty.clear

    def closed_meanwhile() -> None:
        cleared.set()
        go.wait()
        clear()

    syncer._dirty.clear = closed_meanwhile  # type: ignore[method-assign]
    syncer.wake()
    cleared.wait()
    syncer._closing.set()
    syncer._dirty.set()
    go.set()
    syncer._thread.join(30)
    assert not syncer._thread.is_alive()
    assert synced == []
    syncer.close()


def test_what_was_written_is_synced() -> None:
    synced = threading.Event()
    syncer = Syncer(synced.set, interval_ms=1)
    assert not synced.wait(0.05)
    syncer.wake()
    assert synced.wait(30)
    syncer.close()
    syncer.close()
