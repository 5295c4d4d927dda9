"""What comparing two replicas came to, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from murmur.catalog import Catalog, describe_key

if TYPE_CHECKING:
    from murmur.sync import Verdict


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer of `Swarm.verify`.

    `state` is "equal", "different" or "undecided": then `reason` says why, and `apart` how many
    transactions lay between the two. `cells` were compared. If they differ, `difference` says where
    first, and start <= key < stop is that range of the key space, as bytes.
    """

    peer: str
    state: str
    cells: int
    apart: int
    difference: str | None
    start: bytes
    stop: bytes
    reason: str | None = None

    @property
    def equal(self) -> bool:
        """Whether it is proved that both hold the same."""
        return self.state == "equal"


def verification_of(verdict: Verdict, peer: str, catalog: Catalog) -> Verification:
    """The verdict, with the first key that differs as the catalog names it."""
    difference = None
    if verdict.key is not None:
        difference = describe_key(catalog, verdict.key)
    return Verification(
        peer,
        verdict.state,
        verdict.cells,
        verdict.apart,
        difference,
        verdict.start,
        verdict.stop,
        verdict.reason or None,
    )
