"""Transports between two processes of one host, beside asyncio's TLS and aioquic as it comes.

    python -m benchmarks.bench_transports [--rounds 3] [--megabytes 1024] [--update]

Bulk: so many bytes one way, in writes of 64 KiB, until the other side says that it has them all.
Messages: 200 bytes each, as many as fit into 20 MB, handed over one by one and flushed as the loop
turns. Connect: from the call to the other side's first byte. Rounds take turns; figures are
medians. QUIC over aioquic moves a sixteenth of the bytes. `--update` writes the table into
benchmarks/README.md. QUIC's faster core takes part where it is installed (`murmurdb[fast]`).

Sealed memfds: the same bytes a megabyte at a time, each in a sealed memfd of its own that is handed
over a local socket, checked and copied out. It is what a local transport could do instead; blocking
calls, nothing around them.

Loss: QUIC's connections on a virtual path of 100 Mbit/s (tests/sync/wan.py), 40 ms there and back,
one packet in a hundred lost; with aioquic's own congestion control, ours, and that of qh3 (which a
node gives up there: quic_qh3.py).
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import platform
import select
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path as FilePath

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from murmur.sync import rate_control
from murmur.sync.identity import Identity
from murmur.sync.local import LocalTransport
from murmur.sync.quic import QuicTransport
from murmur.sync.quic_core import has_fast_core
from murmur.sync.tls import TlsTransport
from murmur.sync.transport import Data, Link, Transport, Up
from tests.sync.wan import QH3, Flow, Path, Wan

SERVER, CLIENT = Identity(b"s" * 32), Identity(b"c" * 32)
CHUNK = bytes(64 << 10)
MESSAGE = bytes(200)
SMALL_BYTES = 20_000_000
LOSSY_BYTES = 4_000_000
LOSSES = (0.0, 0.001, 0.01)
TURN_BYTES = 1 << 20  # handed over before the loop turns
AHEAD_BYTES = 4 << 20  # written and not yet taken by the other side
OURS = {"local": "Murmur, local socket", "tcp": "Murmur, TLS over TCP", "quic": "Murmur, QUIC"}
if has_fast_core():
    OURS["fast"] = "Murmur, QUIC over qh3"
PEERS = {"asyncio-tls": "asyncio, TLS over TCP", "aioquic": "aioquic as it comes"}
MEMFD = "memfd"
MEMFD_BYTES = 1 << 20
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
NAMES = OURS | PEERS | {MEMFD: "sealed memfds over a local socket"}
PAGE = FilePath(__file__).parent / "README.md"
BEGIN, END = "<!-- transports -->\n", "<!-- transports end -->\n"
SLOW = ("quic", "aioquic")


def transport_of(kind: str, identity: Identity, directory: str) -> Transport:
    """One of ours."""
    if kind == "local":
        return LocalTransport(identity.node_id, str(FilePath(directory) / "host"))
    if kind == "tcp":
        return TlsTransport("127.0.0.1:0", identity)
    return QuicTransport("127.0.0.1:0", identity, fast=kind == "fast")


class Answers:
    """What a receiver tells: after each reading, how many bytes it has got in all."""

    def __init__(self) -> None:
        self.received = 0
        self._rest = b""

    def take(self, data: bytes) -> int:
        """The newest count in the answers so far."""
        self._rest += data
        whole = len(self._rest) // 8 * 8
        if whole:
            self.received = int.from_bytes(self._rest[whole - 8 : whole])
            self._rest = self._rest[whole:]
        return whole


# -- the side that receives, in a process of its own


def serve_ours(kind: str, directory: str) -> None:
    transport = transport_of(kind, SERVER, directory)
    print(",".join(transport.addresses), flush=True)
    received: dict[Link, int] = {}
    while True:
        select.select([transport], [], [], timeout(transport))
        for event in transport.poll(time.monotonic()):
            if isinstance(event, Up):
                received[event.link] = 0
                event.link.write(bytes(8))
            elif isinstance(event, Data):
                received[event.link] += len(event.data)
                event.link.write(received[event.link].to_bytes(8))
        transport.flush(time.monotonic())


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    received = 0
    writer.write(bytes(8))
    while data := await reader.read(256 << 10):
        received += len(data)
        writer.write(received.to_bytes(8))
        await writer.drain()


def certificate(directory: str) -> str:
    """The server's key and certificate in a file, as `ssl` wants them."""
    path = FilePath(directory) / "server.pem"
    key = SERVER.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + SERVER.certificate().public_bytes(Encoding.PEM))
    return str(path)


async def serve_peer(kind: str, directory: str) -> None:
    tasks = set()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if kind == "asyncio-tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(directory))
        server = await asyncio.start_server(start, "127.0.0.1", 0, ssl=context)
        print(server.sockets[0].getsockname()[1], flush=True)
    else:
        configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=["bench"],
            certificate=SERVER.certificate(),
            private_key=SERVER.private_key,
        )
        quic = await serve("127.0.0.1", 0, configuration=configuration, stream_handler=start)
        print(quic._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


def serve_memfd(directory: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/memfd")
        listener.listen()
        print(flush=True)
        connection, _ = listener.accept()
        with connection:
            while True:
                data, found, _, _ = socket.recv_fds(connection, 1, 1)
                if not data:
                    return
                with open(found[0], "rb", buffering=0) as file:
                    assert fcntl.fcntl(file, fcntl.F_GET_SEALS) == SEALS
                    size = os.fstat(found[0]).st_size
                    assert len(os.pread(found[0], size, 0)) == size
                connection.sendall(b"1")


# -- the side that sends


def send_memfd(directory: str, total: int) -> float:
    """Seconds to bring so many bytes over; as many are ahead as elsewhere."""
    piece = bytes(MEMFD_BYTES)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{directory}/memfd")
        began = time.perf_counter()
        for number in range(total // MEMFD_BYTES):
            found = os.memfd_create("murmur", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.write(found, piece)
            fcntl.fcntl(found, fcntl.F_ADD_SEALS, SEALS)
            socket.send_fds(connection, [b"1"], [found])
            os.close(found)
            if number >= AHEAD_BYTES // MEMFD_BYTES:
                connection.recv(1)
        for _ in range(min(total, AHEAD_BYTES) // MEMFD_BYTES):
            connection.recv(1)
        return time.perf_counter() - began


def timeout(transport: Transport) -> float:
    timer = transport.next_timer()
    return 1.0 if timer is None else max(0.0, timer - time.monotonic())


def send_ours(kind: str, directory: str, address: str, piece: bytes, total: int) -> list[float]:
    """Seconds to connect, and to bring so many bytes over."""
    transport = transport_of(kind, CLIENT, directory)
    try:
        addresses = address.split(",") if address else []
        began = time.perf_counter()
        if isinstance(transport, QuicTransport) and kind == "fast":
            transport.fast_peers.add(SERVER.node_id)
        link = transport.dial(transport.ways(SERVER.node_id, addresses)[0], time.monotonic())
        answers, greeted = Answers(), False

        def turn(*, more: bool = False) -> bool:
            transport.flush(time.monotonic())
            # Like a node's loop: it does not wait while there is more to send, and room for it.
            select.select([transport], [], [], 0 if more and link.room > 0 else timeout(transport))
            heard = 0
            for event in transport.poll(time.monotonic()):
                if isinstance(event, Data):
                    heard += answers.take(event.data)
            return heard > 0

        while not greeted:
            greeted = turn()
        connected = time.perf_counter()
        sent = 0
        while answers.received < total:
            for _ in range(TURN_BYTES // len(piece)):
                if sent < total and sent - answers.received < AHEAD_BYTES:
                    link.write(piece)
                    sent += len(piece)
            turn(more=sent < total and sent - answers.received < AHEAD_BYTES)
        return [connected - began, time.perf_counter() - connected]
    finally:
        transport.close(time.monotonic())


async def send_peer(kind: str, port: int, piece: bytes, total: int) -> list[float]:
    began = time.perf_counter()
    if kind == "asyncio-tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        return await stream(reader, writer, began, piece, total)
    configuration = QuicConfiguration(alpn_protocols=["bench"], verify_mode=ssl.CERT_NONE)
    async with connect("127.0.0.1", port, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(MESSAGE)  # a stream is there once something was sent on it
        return await stream(reader, writer, began, piece, total)


async def stream(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    began: float,
    piece: bytes,
    total: int,
) -> list[float]:
    await reader.readexactly(8)
    connected = time.perf_counter()
    answers, sent = Answers(), 0

    async def listen() -> None:
        while answers.received < total:
            answers.take(await reader.read(65536))

    listening = asyncio.ensure_future(listen())
    while sent < total:
        while sent - answers.received >= AHEAD_BYTES:
            await asyncio.sleep(0.0005)
        for _ in range(TURN_BYTES // len(piece)):
            writer.write(piece)
            sent += len(piece)
        await writer.drain()
        await asyncio.sleep(0)
    await listening
    result = [connected - began, time.perf_counter() - connected]
    writer.close()
    return result


# -- the comparison


def main() -> None:
    """Measure all, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve in OURS:
        serve_ours(options.serve, options.directory)
    elif options.serve == MEMFD:
        serve_memfd(options.directory)
    elif options.serve:
        asyncio.run(serve_peer(options.serve, options.directory))
    else:
        table = measure(options.rounds, options.megabytes << 20)
        print(table)
        if options.update:
            head, rest = PAGE.read_text().split(BEGIN)
            PAGE.write_text(head + BEGIN + table + END + rest.split(END)[1])


def measure(rounds: int, bulk: int) -> str:
    """The table, after so many rounds."""
    kinds = list(NAMES)
    figures: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            for kind in kinds:
                figures[kind].append(one_round(kind, directory, bulk))
    medians = {
        kind: [statistics.median(column) for column in zip(*rows, strict=True)]
        for kind, rows in figures.items()
    }
    lines = [
        f"Python {platform.python_version()}, {os.cpu_count()} cores; medians of {rounds}.\n",
        "| transport | connect, ms | bulk, MB/s | × asyncio TLS | × aioquic | messages/s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for kind, (connected, rate, messages) in medians.items():
        tls, quic = (rate / medians[peer][1] for peer in PEERS)
        lines.append(
            f"| {NAMES[kind]} | {connected * 1000:.1f} | {rate / 1e6:,.1f} | {tls:.2f} "
            f"| {quic:.1f} | {messages:,.0f} |"
        )
    lines += ["", *losses(rounds)]
    return "\n".join(lines) + "\n"


def losses(rounds: int) -> list[str]:
    """The same transfer with each congestion control, from one seed each round."""
    names = {"reno": "aioquic as it comes", rate_control.NAME: "Murmur, QUIC"}
    if "fast" in OURS:
        names[QH3] = OURS["fast"]
    rates: dict[tuple[str, float], float] = {}
    for name in names:
        for loss in LOSSES:
            found = []
            for seed in range(rounds):
                flow = Flow(name, LOSSY_BYTES)
                Wan(Path(loss=loss, delay_s=0.02), [flow], seed).run(300)
                found.append(flow.megabytes_per_second)
            rates[name, loss] = statistics.median(found)
    lines = [
        "| 40 ms round trip, 100 Mbit/s, MB/s with a loss of | "
        + " | ".join(f"{loss:.1%}" for loss in LOSSES)
        + " | × aioquic at 1.0% |",
        "|---|" + "--:|" * (len(LOSSES) + 1),
    ]
    for name, text in names.items():
        cells = " | ".join(f"{rates[name, loss]:.2f}" for loss in LOSSES)
        ratio = rates[name, LOSSES[-1]] / rates["reno", LOSSES[-1]]
        lines.append(f"| {text} | {cells} | {ratio:.1f} |")
    return lines


def one_round(kind: str, directory: str, bulk: int) -> list[float]:
    """Seconds to connect, bytes and messages a second."""
    command = [sys.executable, "-m", "benchmarks.bench_transports"]
    command += ["--serve", kind, "--directory", directory]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        try:

            def run(piece: bytes, total: int) -> list[float]:
                if kind in OURS:
                    return send_ours(kind, directory, address, piece, total)
                return asyncio.run(send_peer(kind, int(address), piece, total))

            if kind == MEMFD:
                return [0.0, bulk / send_memfd(directory, bulk), 0.0]
            part = 16 if kind in SLOW else 1
            connected, bulk_s = run(CHUNK, bulk // part)
            _, small_s = run(MESSAGE, SMALL_BYTES // part)
            return [
                connected,
                bulk // part / bulk_s,
                SMALL_BYTES // part / len(MESSAGE) / small_s,
            ]
        finally:
            server.kill()
            FilePath(directory, MEMFD).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
