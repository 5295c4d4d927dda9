"""`murmur serve` between processes: ticket, events, convergence, and an orderly end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from murmur import PeerError, Swarm, Unreachable
from murmur.sync import Ticket
from tests.cli.commands import Running, environment, query, run, start
from tests.patience import eventually

ANYWHERE = "127.0.0.1:0"


def comes(shell: Running, statement: str) -> None:
    """Wait until a shell counts one."""

    def there() -> bool:
        shell.say(statement)
        shell.line("^n$")
        return shell.line() == "1"

    eventually(there)


def test_two_processes_converge(tmp_path: Path) -> None:
    """One serves rows; a shell connects, writes its own, and both have all."""
    one, two = tmp_path / "one", tmp_path / "two"
    run("sql", one, "CREATE TABLE note (id INT PRIMARY KEY, body TEXT)")
    run("sql", one, "INSERT INTO note VALUES (1, 'served')")
    server = start("serve", one, "--listen", ANYWHERE, "--group", "team")
    ticket = server.line("^murmur1")
    assert Ticket.parse(ticket).group == "team"
    shell = start("shell", two, "--group", "team", "--keep-going")
    shell.say(f".mode csv\n.connect {ticket}\n.peers")
    shell.line("^node,")
    assert ",connected," in shell.line(",unix:[a-z2-7]{52},")
    server.line("^connected [a-z2-7]{12}: at unix:process [0-9]+")
    comes(shell, "SELECT count(*) AS n FROM murmur_tables;")
    comes(shell, "SELECT count(*) AS n FROM note;")
    shell.say("INSERT INTO note VALUES (2, 'typed');")
    assert shell.end() == (0, f"murmur: created {two}\n")  # it waits until the peer has the row
    server.line("^disconnected [a-z2-7]{12}: ")
    assert server.end(signal.SIGINT) == (0, "")
    rows = [["1", "served"], ["2", "typed"]]
    for path in (one, two):
        assert query(path, "SELECT * FROM note ORDER BY id") == rows
        assert run("check", path).code == 0


def test_peers_that_come_later_are_tried_again(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run("put", one, "key", "value")
    run("put", two, "other", "value")
    ticket = run("ticket", one).out.strip()
    second = start("serve", two, "--listen", ANYWHERE, "--peer", ticket)
    second.line("^murmur1")
    address = Ticket.parse(ticket).addresses[0]
    first = start("serve", one, "--listen", address)
    second.line("^connected ")
    first.line("^connected ")
    assert second.end(signal.SIGTERM) == (0, "")
    first.line("^disconnected ")
    assert first.end(signal.SIGTERM) == (0, "")
    # They remember each other: no ticket is needed any more.
    second = start("serve", two, "--listen", ANYWHERE, "--for", "60")
    first = start("serve", one, "--listen", address)
    second.line("^connected ")
    assert first.end(signal.SIGINT) == (0, "")
    assert second.end(signal.SIGINT) == (0, "")


def test_unreachable_is_said_once_and_refused_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets = [str(Ticket(bytes([n]) * 32, "default", ("192.0.2.1:1",))) for n in range(2)]
    tried: list[str] = []

    def connect_peer(swarm: Swarm, ticket: str) -> None:
        tried.append(ticket)
        if ticket == tickets[0]:
            raise PeerError("not you")
        if len(tried) < 4:
            raise Unreachable("no answer")
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Swarm, "connect_peer", connect_peer)
    monkeypatch.setattr("murmur.cli.serve.RETRY_S", 0.01)
    peers = [part for ticket in tickets for part in ("--peer", ticket)]
    ran = run("serve", tmp_path / "one", "--listen", ANYWHERE, "--for", "60", *peers)
    assert ran.code == 0
    assert ran.out.splitlines()[1:] == ["refused: not you", "waiting for a peer: no answer"]
    assert tried == [tickets[0], *[tickets[1]] * 3]


def test_a_peer_of_another_group_is_named_and_left_alone(tmp_path: Path) -> None:
    server = start("serve", tmp_path / "one", "--listen", ANYWHERE, "--group", "blue")
    ticket = server.line("^murmur1")
    other = start(
        *("serve", tmp_path / "two", "--listen", ANYWHERE, "--group", "red", "--peer", ticket)
    )
    assert other.line().startswith("murmur1")
    assert other.line() == "refused: ticket: it is for group 'blue', this node is in 'red'"
    assert other.end(signal.SIGTERM)[0] == 0
    assert server.end(signal.SIGTERM)[0] == 0


def test_it_ends_by_itself(tmp_path: Path) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    ran = run("serve", tmp_path / "one", "--listen", ANYWHERE, "--for", "0.1")
    assert ran.code == 0
    assert ran.out.count("\n") == 1
    assert {each: signal.getsignal(each) for each in before} == before
    assert run("check", tmp_path / "one").code == 0


def test_nobody_reads_its_events(tmp_path: Path) -> None:
    argv = ["-m", "murmur", "serve", str(tmp_path / "one"), "--listen", ANYWHERE]
    server = subprocess.Popen(
        [sys.executable, *argv],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stderr is not None
    ticket = server.stdout.readline().strip()
    server.stdout.close()
    for _ in range(2):
        ran = run("shell", tmp_path / "two", stdin=f".connect {ticket}\nSELECT 1;")
        assert ran.code == 0, ran.err
    server.send_signal(signal.SIGTERM)
    assert server.stderr.read() == f"murmur: created {tmp_path / 'one'}\n"
    server.stderr.close()
    assert server.wait() == 0


def test_where_it_cannot_listen(tmp_path: Path) -> None:
    server = start("serve", tmp_path / "one", "--listen", ANYWHERE)
    ticket = server.line("^murmur1")
    address, tcp = Ticket.parse(ticket).addresses
    assert tcp == f"tcp:{address}"
    ran = run("serve", tmp_path / "two", "--listen", address)
    assert ran[:2] == (2, "")
    assert ran.err == f"murmur: cannot listen on {address}: Address already in use\n"
    ran = run("serve", tmp_path / "one", "--listen", ANYWHERE)
    assert (ran.code, ran.out) == (2, "")
    assert f"process {server.process.pid}" in ran.err
    assert server.end(signal.SIGINT)[0] == 0


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:99999", "127.0.0.1:x"])
def test_addresses_that_are_none(tmp_path: Path, listen: str) -> None:
    ran = run("serve", tmp_path / "one", "--listen", listen)
    assert ran[:2] == (2, "")
    assert ran.err.startswith("murmur: ")
    assert ran.err.count("\n") == 1
