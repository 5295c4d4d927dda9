"""Applying: the conversations take turns with what they received, one slice at a time.

Invariant: one slice is applied at a time, whoever it came from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from murmur.sync.contact import Conversation
from murmur.sync.exchange import Exchange, Outcome
from murmur.sync.peer import State
from murmur.sync.transport import Labour


class Turns:
    """Whose slice is applied next."""

    def __init__(
        self,
        labour: Labour,
        *,
        serve: Callable[[Conversation, Callable[[], object], int], None],
        on_applied: Callable[[Outcome, int], None],
        on_failure: Callable[[Conversation, BaseException | None, int], None],
    ) -> None:
        self._labour = labour
        self._serve = serve
        self._on_applied = on_applied
        self._on_failure = on_failure
        self._waiting: deque[Conversation] = deque()
        self._busy = False

    def clear(self) -> None:
        """Nothing more is to be applied."""
        self._waiting.clear()

    def next(self, more: Conversation, now_ms: int) -> None:
        """The conversation has something to apply; it waits for its turn."""
        if more not in self._waiting:
            self._waiting.append(more)
        while self._waiting and not self._busy:
            conversation = self._waiting.popleft()
            exchange = conversation.exchange
            if exchange is None or not exchange.inbox or conversation.session.state is State.CLOSED:
                continue
            self._serve(conversation, partial(self._begin, conversation, exchange), now_ms)

    def _begin(self, conversation: Conversation, exchange: Exchange) -> None:
        work = exchange.take()
        self._labour.submit("apply", work, partial(self._applied, conversation))
        self._busy = True

    def _applied(
        self,
        conversation: Conversation,
        outcome: Outcome | None,
        error: BaseException | None,
        now_ms: int,
    ) -> None:
        self._busy = False

        def settle() -> None:
            assert conversation.exchange is not None
            if error is not None or outcome is None:
                self._on_failure(conversation, error, now_ms)
            else:
                conversation.exchange.done(outcome, now_ms)
                self._on_applied(outcome, now_ms)

        self._serve(conversation, settle, now_ms)
        self.next(conversation, now_ms)
