"""Quarantine: a peer that lied is refused, for a time that grows with every lie.

    offence 1: 1 minute    2: 4 minutes    3: 16 minutes    ...    at most a day

A lie is what no fault of the network explains: malformed messages and records inside an
authenticated conversation, two records with one dot, records that do not fit their author's chain.
What it said changed nothing, and is kept as a dead letter where it was a record. Offences are
forgiven after a day without one. Connecting to the peer by its ticket lifts the quarantine.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE_MS = 60_000
GROWTH = 4
CAP_MS = 86_400_000


@dataclass(slots=True)
class Quarantine:
    """Where one peer stands."""

    offences: int = 0
    until_ms: int | None = None
    reason: str = ""
    forgiven_ms: int = 0

    def offend(self, reason: str, now_ms: int) -> None:
        """It lied."""
        self.offences += 1
        wait_ms = min(CAP_MS, BASE_MS * GROWTH ** min(self.offences - 1, 16))
        self.until_ms, self.reason = now_ms + wait_ms, reason
        self.forgiven_ms = self.until_ms + CAP_MS

    def lift(self) -> None:
        """Somebody wants it back."""
        self.until_ms = None

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        if self.until_ms is not None and now_ms >= self.until_ms:
            self.until_ms = None
        if self.offences and now_ms >= self.forgiven_ms:
            self.offences = 0

    def refusal(self, now_ms: int) -> str:
        """Why it may not come in now; empty if it may."""
        if self.until_ms is None or now_ms >= self.until_ms:
            return ""
        seconds = (self.until_ms - now_ms + 999) // 1000
        return f"quarantined for {seconds} s more: {self.reason}"

    def next_dial_ms(self, planned_ms: int) -> int:
        """When to dial it, who would be dialed then."""
        return planned_ms if self.until_ms is None else max(planned_ms, self.until_ms)
