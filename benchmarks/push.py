"""What a hundred replicas send each other for nothing, beside flooding.

    python -m benchmarks.push [replicas] [links per replica] [transactions]

A simulated network (tests/simulation) of random links and latencies; transactions of random
replicas, one after the other. A copy is surplus if its receiver had the transaction already.
Flooding is counted, not run: everybody passes on everything to all but its bringer.
"""

from __future__ import annotations

import argparse
import time

from tests.simulation.test_push import Crowd, spread


def main(count: int = 100, degree: int = 10, transactions: int = 20) -> None:
    """Print surplus copies, first while the tree grows and then along it."""
    began = time.perf_counter()
    crowd = Crowd(count, degree)
    print(f"{count} replicas, {len(crowd.links)} links")
    for what, number, seed in (("first", 5, 1), ("then", transactions, 2)):
        surplus, flooding = spread(crowd, number, seed), crowd.flooding(number)
        print(
            f"{what:>6}: {number} transactions, {surplus} surplus copies, flooding {flooding}: "
            f"{surplus / flooding:.1%}"
        )
    hashes = {host.replica.state_hash() for host in crowd.hosts}
    print(f"{len(hashes)} state, in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("replicas", nargs="?", type=int, default=100)
    parser.add_argument("links", nargs="?", type=int, default=10, help="of each replica")
    parser.add_argument("transactions", nargs="?", type=int, default=20)
    given = parser.parse_args()
    main(given.replicas, given.links, given.transactions)
