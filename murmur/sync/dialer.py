"""Dialing: the addresses of a contact, each a little after the one before, then a growing pause.

    next_dial_ms -> dial -> (look the name up) -> link -> contact.dialing, the next STAGGER_MS later
                                               -> failed -> the next at once, or a pause

As in Happy Eyeballs (RFC 8305) an address that does not answer costs a quarter of a second, not a
timeout; of the links that come up the first one stays that shows the key which was dialed.

Invariant: a contact that is neither open nor being dialed nor forgotten has a time for its next
dial, also while a name is being looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from murmur.errors import InvalidInput
from murmur.sync.contact import Contact
from murmur.sync.faults import Faults
from murmur.sync.transport import RELAY, Labour, Link, Transport, look_up, scheme_of

DIAL_MS = 4_000  # one address, until the link is up
STAGGER_MS = 250  # between the dials of two addresses


class Dialer:
    """Reaches contacts over a transport."""

    def __init__(
        self,
        transport: Transport,
        labour: Labour,
        begun: Callable[[Contact, Link, int], None],
        faults: Faults,
    ) -> None:
        """`begun` is told of each link that may come up."""
        self._transport = transport
        self._labour = labour
        self._begun = begun
        self._faults = faults
        self._ended = False

    def end(self) -> None:
        """Dial nobody any more."""
        self._ended = True

    def dial(self, contact: Contact, now_ms: int) -> None:
        """Try the contact's next address, unless it is connected."""
        self._try(contact, self._dial_next, now_ms)

    def dial_over_relays(self, contact: Contact, now_ms: int) -> None:
        """A relay has been reached: try through it before what is left to try."""
        ways = self._transport.ways(contact.member.node_id, contact.member.addresses)
        over = [way for way in ways if scheme_of(way) == RELAY and way not in contact.ways]
        if over and self._may(contact):
            contact.ways = over + contact.ways
            contact.next_dial_ms = now_ms

    def _try(self, contact: Contact, call: Callable[[Contact, int], None], now_ms: int) -> None:
        """A fault is a dial that failed."""
        try:
            call(contact, now_ms)
        except Exception as error:
            reason = self._faults.note("dialing", error, peer=contact.name)
            self.failed(contact, reason, now_ms)

    def _dial_next(self, contact: Contact, now_ms: int) -> None:
        contact.next_dial_ms = None
        if not self._may(contact):
            return
        if not contact.ways and contact.dialing:
            return
        if not contact.ways:
            member = contact.member
            contact.ways = list(self._transport.ways(member.node_id, member.addresses))
        if not contact.ways:
            self.failed(contact, "no address of it is known that this node can dial", now_ms)
            return
        address = contact.ways.pop(0)
        try:
            numeric = look_up(address, numeric=True)
        except InvalidInput as error:
            self.failed(contact, str(error), now_ms)
            return
        if numeric:
            self._dial_first(contact, numeric, now_ms)
            return
        contact.next_dial_ms = now_ms + (STAGGER_MS if contact.ways else 2 * DIAL_MS)
        self._labour.submit(
            "names", partial(look_up, address), partial(self._found, contact, address)
        )

    def failed(self, contact: Contact, reason: str, now_ms: int) -> None:
        """A dial or a conversation ended: when is the next?"""
        contact.last_error = reason
        if self._ended or contact.forgotten:
            return
        if contact.ways:
            contact.next_dial_ms = now_ms  # the other addresses first
        elif not contact.dialing:
            contact.next_dial_ms = now_ms + contact.backoff.next_ms()

    def _may(self, contact: Contact) -> bool:
        return not (contact.open is not None or contact.forgotten or self._ended)

    def _found(
        self,
        contact: Contact,
        address: str,
        resolved: tuple[str, ...] | None,
        error: BaseException | None,
        now_ms: int,
    ) -> None:
        if error is not None or resolved is None:
            self.failed(contact, f"{address}: {error}", now_ms)
        elif self._may(contact):
            self._try(
                contact, lambda found, then_ms: self._dial_first(found, resolved, then_ms), now_ms
            )

    def _dial_first(self, contact: Contact, addresses: Sequence[str], now_ms: int) -> None:
        """Dial the first of these addresses that the transport can."""
        contact.next_dial_ms = None
        reason = ""
        for address in addresses:
            try:
                link = self._transport.dial(address, now_ms / 1000)
            except OSError as error:
                reason = f"{address}: {error.strerror or error}"
            else:
                self._begun(contact, link, now_ms)
                if contact.ways:
                    contact.next_dial_ms = now_ms + STAGGER_MS
                return
        self.failed(contact, reason, now_ms)
