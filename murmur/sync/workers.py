"""Workers: threads that do for the loop what may block, one for each lane.

A lane keeps the order of its work. Results come back to the loop, which alone touches its state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class Workers:
    """One thread per lane, started when the lane is first used."""

    def __init__(self, post: Callable[[Callable[[int], None]], None]) -> None:
        self._post = post
        self._lanes: dict[str, SimpleQueue[Callable[[], None] | None]] = {}
        self._threads: list[threading.Thread] = []

    def submit(
        self,
        lane: str,
        work: Callable[[], Any],
        done: Callable[[Any, BaseException | None, int], None],
    ) -> None:
        """Do the work on the lane's thread and hand the result to the loop."""
        queue = self._lanes.get(lane)
        if queue is None:
            queue = self._lanes[lane] = SimpleQueue()
            thread = threading.Thread(
                target=_work, args=(queue,), name=f"murmur-node-{lane}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

        def task() -> None:
            try:
                result, error = work(), None
            except Exception as raised:
                result, error = None, raised
            self._post(lambda now_ms: done(result, error, now_ms))

        queue.put(task)

    def close(self) -> None:
        """Finish what has begun and what is to be remembered, drop the rest, end the threads."""
        for lane, queue in self._lanes.items():
            while lane != "roster" and not queue.empty():
                queue.get_nowait()
            queue.put(None)
        for thread in self._threads:
            thread.join()


def _work(queue: SimpleQueue[Callable[[], None] | None]) -> None:
    while (task := queue.get()) is not None:
        task()
