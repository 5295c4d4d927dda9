"""Congestion control by measured delivery rate: a lost packet alone is no sign of a full path.

Reno and Cubic halve their window at each loss, so that one percent of random loss (a radio link)
leaves a tenth of the path's rate. Here the window follows from what the path has shown, after BBR
(Cardwell et al., 2016; draft-cardwell-iccrg-bbr-congestion-control):

    rate      the most that was delivered per second within the last ROUNDS round trips
    min_rtt   the shortest round trip within the last MIN_RTT_S seconds
    window    gain * rate * round trip; aioquic paces packets at window / round trip

    STARTUP   the window doubles each round trip, until the rate grows no more
    DRAIN     the queue that this has built is let out
    CRUISE    the gain cycles through GAINS, one for each min_rtt: a little more, to see whether
              there is room, then less, to take back what was none
    PROBE_RTT when min_rtt was not met for long: nearly nothing for a moment, to see it again

Loss counts when it is much (HEAVY_LOSS of a round trip's bytes): then somebody else needs room, and
the rate that was remembered gives way to the present one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from aioquic.quic.congestion.base import QuicCongestionControl, register_congestion_control
from aioquic.quic.packet_builder import QuicSentPacket

NAME = "delivery-rate"

ROUNDS = 10
MIN_RTT_S = 10.0
PROBE_RTT_S = 0.2
STARTUP_GAIN = 2.885  # 2 / ln 2: doubles what is sent in each round trip
DRAIN_GAIN = 0.5
GAINS = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
FULL_GROWTH, FULL_ROUNDS = 1.25, 3
HEAVY_LOSS, HEAVY_LOSS_KEEPS = 0.15, 0.85
QUEUE_SHARE, SLACK_S = 1.25, 0.010
MIN_PACKETS = 4
LARGE_BYTES = 1250  # a packet beyond this tells something about what the path carries

STARTUP, DRAIN, CRUISE, PROBE_RTT = "startup", "drain", "cruise", "probe_rtt"


class DeliveryRateControl(QuicCongestionControl):  # type: ignore[misc]
    """The window of one connection."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self.state = STARTUP
        self.min_rtt = math.inf
        self.large_lost = 0  # large packets since one arrived
        self._least = MIN_PACKETS * max_datagram_size
        self.congestion_window: int
        self._initial = self.congestion_window
        self._rtt = 0.0  # smoothed
        self._min_rtt_at = 0.0
        # What was delivered, and when; of the newest packet that was: when it had been sent.
        self._delivered = 0
        self._delivered_at = self._sent_at = 0.0
        self._rates: deque[tuple[int, float]] = deque()  # (round, rate), rates falling
        # A round trip ends when what was sent after its beginning is delivered.
        self._round = self._round_stop = 0
        self._round_acked = self._round_lost = 0
        self.loss = 0.0  # the share of bytes lost, smoothed over some round trips
        self._round_limited = False
        self._full_rate, self._full_rounds = 0.0, 0
        self._phase, self._phase_at = 0, 0.0

    @property
    def rate(self) -> float:
        """Bytes a second that the path was seen to deliver; 0 before the first."""
        return self._rates[0][1] if self._rates else 0.0

    # -- what the connection tells

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        """Remember what had been delivered when the packet left."""
        if not self.bytes_in_flight:
            # After a silence: its time says nothing about the path.
            self._delivered_at = self._sent_at = packet.sent_time
        self.bytes_in_flight += packet.sent_bytes
        limited = 2 * self.bytes_in_flight < self.congestion_window
        packet.delivery = (self._delivered, self._delivered_at, self._sent_at, limited)

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        """Measure, and set the window."""
        self.bytes_in_flight -= packet.sent_bytes
        self._delivered += packet.sent_bytes
        if packet.sent_bytes > LARGE_BYTES:
            self.large_lost = 0
        self._round_acked += packet.sent_bytes
        delivered, delivered_at, sent_at, limited = packet.delivery
        self._delivered_at = now
        self._sent_at = max(self._sent_at, packet.sent_time)
        # Acknowledgements may come in a bunch: never faster than the packets were sent.
        elapsed = max(now - delivered_at, packet.sent_time - sent_at)
        if elapsed > 0 and elapsed >= self.min_rtt / 2:
            rate = (self._delivered - delivered) / elapsed
            if not limited or rate > self.rate:
                self._remember(rate)
        if delivered >= self._round_stop:
            self._end_round(limited=limited)
        self._advance(now)
        self._set_window(packet.sent_bytes)

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        """Packets of keys that are not used any more."""
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        """Count them; the end of the round trip judges."""
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            self._round_lost += packet.sent_bytes
            self.large_lost += packet.sent_bytes > LARGE_BYTES

    def on_persistent_congestion(self) -> None:
        """Nothing came through for long: begin again."""
        self._rates.clear()
        self._full_rate, self._full_rounds = 0.0, 0
        self.state = STARTUP
        self.congestion_window = self._least

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        """One more round trip was timed."""
        self._rtt = rtt if not self._rtt else 0.875 * self._rtt + 0.125 * rtt
        if rtt <= self.min_rtt:
            self.min_rtt, self._min_rtt_at = rtt, now

    # -- inside

    def _remember(self, rate: float) -> None:
        rates = self._rates
        while rates and rates[-1][1] <= rate:
            rates.pop()
        rates.append((self._round, rate))
        while rates[0][0] < self._round - ROUNDS:
            rates.popleft()

    def _end_round(self, *, limited: bool) -> None:
        sent = self._round_acked + self._round_lost
        self.loss += (self._round_lost / sent - self.loss) / 8 if sent else 0.0
        heavy = self._round_lost > HEAVY_LOSS * (self._round_acked + self._round_lost)
        self._round += 1
        self._round_stop = self._delivered
        self._round_acked = self._round_lost = 0
        if heavy and self._rates:
            present = self._rates[-1][1] * HEAVY_LOSS_KEEPS
            self._rates.clear()
            self._remember(present)
        if self.state != STARTUP:
            return
        if self.rate >= FULL_GROWTH * self._full_rate and not heavy:
            self._full_rate, self._full_rounds = self.rate, 0
        elif not limited:
            self._full_rounds += 1
        if self._full_rounds >= FULL_ROUNDS or heavy:
            self.state = DRAIN

    def _advance(self, now: float) -> None:
        """Go on to the next state when it is time."""
        if self.state == DRAIN and self.bytes_in_flight <= self.rate * self.min_rtt:
            self._cruise(now)
        elif self.state == CRUISE and now - self._phase_at > self.min_rtt:
            self._phase, self._phase_at = (self._phase + 1) % len(GAINS), now
        elif self.state == PROBE_RTT and now - self._phase_at > PROBE_RTT_S:
            self._min_rtt_at = now
            self._cruise(now)
        if self.state == CRUISE and now - self._min_rtt_at > MIN_RTT_S:
            # What is measured now replaces what the path once was.
            self.state, self._phase_at, self.min_rtt = PROBE_RTT, now, math.inf

    def _cruise(self, now: float) -> None:
        self.state, self._phase, self._phase_at = CRUISE, 2, now

    def _set_window(self, acked: int) -> None:
        if self.state == PROBE_RTT:
            self.congestion_window = self._least
            return
        if self.state == STARTUP:
            most = max(self._initial, STARTUP_GAIN * self.rate * self._rtt)
            self.congestion_window = max(
                self._least, int(min(self.congestion_window + acked, most))
            )
            return
        gain = DRAIN_GAIN if self.state == DRAIN else GAINS[self._phase]
        # What a queue adds to the round trip must not raise the window, or it never empties; what
        # late acknowledgements and a busy peer add must, or the path is never full.
        trip = min(self._rtt, QUEUE_SHARE * self.min_rtt + SLACK_S)
        self.congestion_window = max(self._least, int(gain * self.rate * trip) + self._least // 2)


register_congestion_control(NAME, DeliveryRateControl)
