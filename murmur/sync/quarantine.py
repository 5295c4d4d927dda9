"""Quarantine: a peer that lied is refused, for a time that grows with every lie.

    offence 1: 1 minute    2: 4 minutes    3: 16 minutes    ...    at most a day

A lie is what no fault of the network explains: malformed messages and records inside an
authenticated conversation, two records with one dot, records that do not fit their author's chain.
What it said changed nothing, and is kept as a dead letter where it was a record. Offences are
forgiven after a day without one. Connecting to the peer by its ticket, or accepting it, lifts the
quarantine. A restart does not: the sentence stands in the roster's file (sentences.py).

Sentences have the time of the wall clock; what is left of one is counted down by the loop's, so
that a clock that jumps back does not make it longer.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE_MS = 60_000
GROWTH = 4
CAP_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is remembered of a liar; times are of the wall clock."""

    offences: int
    since_ms: int
    until_ms: int
    reason: str

    def forgiven(self, wall_ms: int) -> bool:
        """Whether it is long over."""
        return wall_ms >= self.until_ms + CAP_MS


@dataclass(slots=True)
class Quarantine:
    """Where one peer stands; times are of the loop, but for the sentence's."""

    offences: int = 0
    until_ms: int | None = None
    reason: str = ""
    forgiven_ms: int = 0
    sentence: Sentence | None = None  # while it lasts

    def offend(self, reason: str, now_ms: int, wall_ms: int) -> Sentence:
        """It lied."""
        self.offences += 1
        wait_ms = min(CAP_MS, BASE_MS * GROWTH ** min(self.offences - 1, 16))
        sentence = Sentence(self.offences, wall_ms, wall_ms + wait_ms, reason)
        self.resume(sentence, now_ms, wall_ms)
        return sentence

    def resume(self, sentence: Sentence, now_ms: int, wall_ms: int) -> None:
        """Go on with what is left of a sentence."""
        left_ms = sentence.until_ms - max(wall_ms, sentence.since_ms)
        self.offences, self.reason = sentence.offences, sentence.reason
        self.until_ms, self.sentence = now_ms + left_ms, sentence
        self.forgiven_ms = self.until_ms + CAP_MS
        self.tick(now_ms)

    def lifted(self, wall_ms: int) -> Sentence:
        """What is to be remembered when somebody wants it back: the next one will be longer."""
        return Sentence(self.offences, wall_ms, wall_ms, self.reason)

    def lift(self) -> None:
        """Somebody wants it back."""
        self.until_ms = self.sentence = None

    def tick(self, now_ms: int) -> None:
        """Let time pass."""
        if self.until_ms is not None and now_ms >= self.until_ms:
            self.lift()
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
