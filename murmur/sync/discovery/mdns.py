"""Multicast DNS: nodes on one local network (RFC 6762, RFC 6763).

    MARK-ID._murmur._udp.local.   SRV port   TXT v=1 g=MARK id=NODE ID   A/AAAA addresses

The group's name does not appear, only its mark. Announcing and browsing run on threads of zeroconf;
what goes wrong there is told, and stops nothing else.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from typing import Any

from murmur.errors import InvalidInput, Unsupported
from murmur.sync.discovery.sighting import Report, Sighting, group_mark
from murmur.sync.ticket import node_text, parse_node
from murmur.sync.transport import is_loopback, join_address, scheme_of, split_address

SERVICE = "_murmur._udp.local."
RESOLVE_MS = 3_000

log = logging.getLogger("murmur.sync")


class MulticastScout:
    """Announces this node, and reports the others of its group."""

    def __init__(
        self,
        node_id: bytes,
        group: str,
        addresses: Sequence[str],
        report: Report,
        *,
        interfaces: Sequence[str] | None = None,
    ) -> None:
        """Start. `report` is called on other threads. OSError if the network has no multicast.

        A node that listens on the loopback interface alone is announced there alone.
        """
        try:
            from zeroconf import Error as ZeroconfError
            from zeroconf import (
                InterfaceChoice,
                ServiceBrowser,
                ServiceInfo,
                Zeroconf,
            )
        except ImportError:
            raise Unsupported(
                "mDNS needs zeroconf: pip install 'murmurdb[mdns]', or discover(mdns=False)"
            ) from None
        self._node_id = node_id
        self._mark = group_mark(group)
        self._report = report
        hosts, port = _listening(addresses)
        if interfaces is None and hosts and all(map(is_loopback, hosts)):
            interfaces = hosts
        self._zeroconf = Zeroconf(interfaces=list(interfaces or ()) or InterfaceChoice.All)
        try:
            if hosts:
                self._info: Any = ServiceInfo(
                    SERVICE,
                    f"{self._mark}-{node_text(node_id)[:20]}.{SERVICE}",
                    port=port,
                    addresses=[ipaddress.ip_address(host).packed for host in hosts],
                    properties={"v": "1", "g": self._mark, "id": node_text(node_id)},
                )
                # The name holds the node id: nobody else has it, and nobody need be asked.
                self._zeroconf.register_service(self._info, cooperating_responders=True)
            self._browser = ServiceBrowser(self._zeroconf, SERVICE, handlers=[self._changed])
        except BaseException as error:
            self._zeroconf.close()
            if isinstance(error, ZeroconfError):
                raise OSError(f"mDNS: {type(error).__name__}: {error}") from error
            raise

    def close(self) -> None:
        """Take the announcement back and end the threads."""
        try:
            self._zeroconf.unregister_all_services()
        finally:
            self._zeroconf.close()

    def _changed(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        """A service came, went or changed (zeroconf's thread)."""
        if state_change.name == "Removed" or not name.startswith(self._mark):
            return
        try:
            info = zeroconf.get_service_info(service_type, name, timeout=RESOLVE_MS)
            seen = None if info is None else self._sighting(info)
        except Exception as error:  # whatever a stranger's packet trips over
            log.warning("mDNS: %s was not understood: %s", name, error)
            return
        if seen is not None:
            self._report(seen)

    def _sighting(self, info: Any) -> Sighting | None:
        fields = {key: (value or b"").decode("ascii", "replace") for key, value in _text(info)}
        if fields.get("g") != self._mark:
            return None
        try:
            node_id = parse_node(fields.get("id", ""))
        except InvalidInput:
            return None
        if node_id == self._node_id:
            return None
        addresses = tuple(join_address(host, info.port) for host in info.parsed_scoped_addresses())
        return Sighting(node_id, addresses, "mdns") if addresses else None


def _text(info: Any) -> list[tuple[str, bytes | None]]:
    return [(key.decode("ascii", "replace"), value) for key, value in info.properties.items()]


def _listening(addresses: Sequence[str]) -> tuple[list[str], int]:
    """The hosts of the QUIC or TCP addresses, and their port."""
    found = [split_address(a.removeprefix(scheme_of(a))) for a in addresses]
    numeric = [(host, port) for host, port in found if port]
    if not numeric:
        return [], 0
    port = numeric[0][1]
    return list(dict.fromkeys(host for host, each in numeric if each == port)), port
