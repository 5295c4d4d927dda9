"""Sync: 100k transactions of one process become durable transactions of another.

Murmur sends them over QUIC, authenticated and encrypted, and merges them. SQLite has no
replication: its side is the least that could be called that, a plain TCP socket whose other end
commits each row as a transaction.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import murmur

COUNT = 100_000
VALUE = b"v" * 100

MURMUR_PEER = """
import sys, murmur
with murmur.open(sys.argv[1], group="bench", transport="quic") as swarm:
    print("ready", flush=True)
    swarm.connect_peer(sys.stdin.readline().strip())
    sys.stdin.readline()
"""

SQLITE_PEER = """
import socket, struct, sys, apsw
connection = apsw.Connection(sys.argv[1])
connection.pragma("journal_mode", "wal")
connection.pragma("synchronous", "normal")
connection.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
stream = server.accept()[0].makefile("rb")
count = 0
while True:
    head = stream.read(4)
    if not head:
        break
    key, value = struct.unpack(">HH", head)
    row = (stream.read(key).decode(), stream.read(value))
    connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", row)
    count += 1
connection.wal_checkpoint()
print(count, flush=True)
"""


def start(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.benchmark(group="sync of 100k transactions between two processes")
class TestSync:
    def test_murmur(self, benchmark: BenchmarkFixture, swarm: murmur.Swarm, tmp_path: Path) -> None:
        for number in range(COUNT):
            swarm.put(f"key:{number:012d}", VALUE)
        ticket = swarm.ticket()
        peers: list[subprocess.Popen[str]] = []

        def setup() -> tuple[tuple[subprocess.Popen[str]], dict[str, str]]:
            peer = start(MURMUR_PEER, tmp_path / f"peer{len(peers)}")
            assert peer.stdout is not None
            peer.stdout.readline()
            peers.append(peer)
            return (peer,), {}

        def work(peer: subprocess.Popen[str]) -> None:
            assert peer.stdin is not None
            peer.stdin.write(ticket + "\n")
            peer.stdin.flush()
            swarm.wait_for(timeout=300)
            peer.stdin.write("end\n")
            peer.stdin.close()
            peer.wait(60)

        benchmark.pedantic(work, setup=setup, rounds=2)
        for peer in peers:
            assert peer.returncode == 0

    def test_sqlite(self, benchmark: BenchmarkFixture, tmp_path: Path) -> None:
        rounds = iter(range(100))

        def setup() -> tuple[tuple[subprocess.Popen[str]], dict[str, str]]:
            return (start(SQLITE_PEER, tmp_path / f"sqlite{next(rounds)}.db"),), {}

        def work(peer: subprocess.Popen[str]) -> None:
            assert peer.stdout is not None
            port = int(peer.stdout.readline())
            with socket.create_connection(("127.0.0.1", port)) as connection:
                stream = connection.makefile("wb")
                for number in range(COUNT):
                    key = f"key:{number:012d}".encode()
                    stream.write(struct.pack(">HH", len(key), len(VALUE)) + key + VALUE)
                stream.close()
            assert int(peer.stdout.readline()) == COUNT
            peer.wait(60)

        benchmark.pedantic(work, setup=setup, rounds=2)
