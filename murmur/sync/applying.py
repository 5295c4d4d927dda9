"""Applying: the conversations take turns with what they received, one slice at a time.

Invariant: one slice is applied at a time, whoever it came from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from murmur.errors import ProtocolViolation
from murmur.sync.contact import Conversation
from murmur.sync.exchange import Outcome
from murmur.sync.fabric import End
from murmur.sync.peer import VIOLATION, State
from murmur.sync.transport import Labour


class Turns:
    """Whose slice is applied next."""

    def __init__(
        self,
        labour: Labour,
        *,
        end: End,
        on_applied: Callable[[Outcome, int], None],
        on_failure: Callable[[Conversation, BaseException | None, int], None],
    ) -> None:
        self._labour = labour
        self._end = end
        self._on_applied = on_applied
        self._on_failure = on_failure
        self._waiting: deque[Conversation] = deque()
        self._busy = False

    def clear(self) -> None:
        """Nothing more is to be applied."""
        self._waiting.clear()

    def next(self, more: Conversation) -> None:
        """The conversation has something to apply; it waits for its turn."""
        if more not in self._waiting:
            self._waiting.append(more)
        while self._waiting and not self._busy:
            conversation = self._waiting.popleft()
            exchange = conversation.exchange
            if exchange is None or not exchange.inbox or conversation.session.state is State.CLOSED:
                continue
            self._busy = True
            self._labour.submit("apply", exchange.take(), partial(self._applied, conversation))

    def _applied(
        self,
        conversation: Conversation,
        outcome: Outcome | None,
        error: BaseException | None,
        now_ms: int,
    ) -> None:
        self._busy = False
        assert conversation.exchange is not None
        if isinstance(error, ProtocolViolation):
            self._end(conversation, VIOLATION, str(error), now_ms)
        elif error is not None or outcome is None:
            self._on_failure(conversation, error, now_ms)
        else:
            conversation.exchange.done(outcome, now_ms)
            self._on_applied(outcome, now_ms)
        self.next(conversation)
