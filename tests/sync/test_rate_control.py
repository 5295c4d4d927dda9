"""The congestion controller on a virtual clock: rates are of simulated seconds, from a seed."""

from __future__ import annotations

import pytest

from murmur.sync.rate_control import NAME, PROBE_RTT, DeliveryRateControl
from tests.sync.wan import Flow, Path, Wan

MB = 1_000_000


def rate(algorithm: str, path: Path, total: int = 4 * MB, until_s: float = 60.0) -> float:
    flow = Flow(algorithm, total)
    Wan(path, [flow]).run(until_s)
    return flow.megabytes_per_second


def control(flow: Flow) -> DeliveryRateControl:
    found = flow.client._loss._cc
    assert isinstance(found, DeliveryRateControl)
    return found


@pytest.mark.parametrize("loss", [0.01, 0.03])
def test_random_loss_does_not_take_the_rate_away(loss: float) -> None:
    path = Path(loss=loss)
    assert rate(NAME, path) > 8 * rate("reno", path, 2 * MB)


def test_a_clean_path_is_used_as_well_as_by_others() -> None:
    assert rate(NAME, Path()) > 0.9 * rate("cubic", Path())


def test_a_deep_queue_is_not_filled() -> None:
    path = Path(rate=2.5e6, queue_bytes=8 << 20)
    flow = Flow(NAME, 8 * MB)
    Wan(path, [flow]).run(60)
    assert flow.megabytes_per_second > 2
    found = control(flow)
    assert found._rtt < 2 * 2 * path.delay_s, "Reno lets it grow to seconds"
    assert 0.9 * path.rate < found.rate < 1.2 * path.rate


def test_two_flows_share_a_path() -> None:
    flows = [Flow(NAME, 24 * MB), Flow(NAME, 24 * MB, starts_s=0.5)]
    Wan(Path(rate=1.25e6, queue_bytes=64 << 10), flows).run(4.5)
    first, second = (flow.received for flow in flows)
    assert first + second > 0.75 * 4 * 1.25 * MB
    assert second > 0.2 * (first + second)


def test_reno_is_not_starved() -> None:
    flows = [Flow("reno", 16 * MB), Flow(NAME, 16 * MB)]
    Wan(Path(rate=1.25e6, queue_bytes=64 << 10), flows).run(5)
    assert flows[0].received > 0.1 * flows[1].received


def test_a_path_that_goes_dark_is_found_again() -> None:
    flow = Flow(NAME, 8 * MB)
    Wan(Path(dark=(0.4, 2.4)), [flow]).run(30)
    assert flow.finished_s is not None
    assert flow.finished_s < 6


def test_a_path_that_becomes_slow_is_not_flooded() -> None:
    path = Path(rate=2.5e6)
    flow = Flow(NAME, 8 * MB)
    wan = Wan(path, [flow])
    wan.run(0.5)
    before, path.rate = flow.received, path.rate / 10
    wan.run(3.0)
    wan.overflows = 0
    start = flow.received
    wan.run(5.0)
    assert before < flow.received
    assert flow.received - start > 0.7 * 2 * path.rate
    assert wan.overflows * 1200 < 0.25 * (flow.received - start)


def test_the_shortest_round_trip_is_measured_again() -> None:
    path = Path(rate=0.5e6)
    flow = Flow(NAME, 20 * MB)
    wan = Wan(path, [flow])
    wan.run(2)
    path.delay_s *= 3  # another route
    seen = set()
    while wan.now < 16:
        wan.run(wan.now + 0.05)
        seen.add(control(flow).state)
    assert PROBE_RTT in seen
    assert control(flow).min_rtt > 2.5 * 0.04
