"""Who comes to a node's port without being one: raw datagrams, and a QUIC client of aioquic."""

from __future__ import annotations

import socket
import time

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from murmur.sync.quic_core import ALPN, VERSION_1


def send_raw(port: int, *datagrams: bytes) -> socket.socket:
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stranger.bind(("127.0.0.1", 0))
    stranger.settimeout(0)
    for datagram in datagrams:
        stranger.sendto(datagram, ("127.0.0.1", port))
    return stranger


class Stranger:
    """A QUIC client of aioquic's own, for what QuicTransport would not do."""

    def __init__(self, port: int, alpn: str = ALPN, version: int = VERSION_1) -> None:
        self.quic = QuicConnection(
            configuration=QuicConfiguration(
                is_client=True,
                alpn_protocols=[alpn],
                supported_versions=[version],
                verify_mode=0,
                server_name="x",
            )
        )
        self.address = ("127.0.0.1", port)
        self.socket = send_raw(port)
        self.quic.connect(self.address, time.monotonic())
        self.events: list[object] = []

    def turn(self) -> None:
        for datagram, address in self.quic.datagrams_to_send(time.monotonic()):
            self.socket.sendto(datagram, address)
        try:
            while True:
                data, address = self.socket.recvfrom(65535)
                self.quic.receive_datagram(data, address, time.monotonic())
        except BlockingIOError:
            pass
        timer = self.quic.get_timer()
        if timer is not None and timer <= time.monotonic():
            self.quic.handle_timer(time.monotonic())
        while (event := self.quic.next_event()) is not None:
            self.events.append(event)

    def saw(self, name: str) -> bool:
        self.turn()
        return any(type(event).__name__ == name for event in self.events)
