"""Nodes in processes of their own, which may be killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S, eventually


class Process:
    def __init__(
        self, directory: Path, *, prefix: Sequence[str] = (), listen: str = "127.0.0.1:0"
    ) -> None:
        self.directory = directory
        python = [*prefix, sys.executable, "-X", "dev", "-m"]
        command = [*python, "tests.sync.peer_process", str(directory), listen]
        self.errors = directory.with_suffix(".errors")
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )
        assert self.listen() == "ready"

    def listen(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        return self.listen()

    def complaints(self) -> str:
        return self.errors.read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


Start = Callable[[str], Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def new(name: str) -> Process:
            process = Process(tmp_path / name)
            stack.callback(process.end)
            return process

        yield new


def test_two_processes_converge(start: Start) -> None:
    a, b = start("a"), start("b")
    a.ask("put x")
    b.ask("connect " + a.ask("ticket"))
    b.ask("put y")
    assert a.ask("wait")
    assert b.ask("wait") == a.ask("wait")
    assert a.ask("has y") == b.ask("has x") == "True"
    assert a.ask("close") == b.ask("close") == "closed"
    for process in (a, b):
        assert process.process.wait(PATIENCE_S) == 0
        assert process.complaints() == ""


def test_a_process_killed_at_work_comes_back_with_all_that_it_told(start: Start) -> None:
    a, b = start("a"), start("b")
    b.ask("connect " + a.ask("ticket"))
    for i in range(50):
        b.ask(f"put before{i}")
    b.ask("wait")
    b.kill()
    a.ask("put meanwhile")
    eventually(lambda: a.ask("peers") == "0")
    b = start("b")
    eventually(lambda: b.ask("has meanwhile") == "True")
    for i in (0, 49):
        assert b.ask(f"has before{i}") == "True"
    assert b.ask("wait") == a.ask("wait")


def test_the_dialed_process_is_killed_and_found_again(start: Start) -> None:
    a, b = start("a"), start("b")
    b.ask("connect " + a.ask("ticket"))
    a.kill()
    b.ask("put meanwhile")
    a = start("a")  # on the port of last time
    eventually(lambda: a.ask("has meanwhile") == "True")


def test_a_frozen_process_is_noticed_and_catches_up(start: Start) -> None:
    a, b = start("a"), start("b")
    b.ask("connect " + a.ask("ticket"))
    a.ask("put first")
    a.ask("wait")
    b.process.send_signal(signal.SIGSTOP)
    for i in range(10):
        a.ask(f"put meanwhile{i}")

    def lag() -> list[int]:
        return [int(number) for number in a.ask("lag").split()]

    eventually(lambda: lag()[0] == 10 and lag()[1] > 1_000)
    eventually(lambda: a.ask("peers") == "0")
    b.process.send_signal(signal.SIGCONT)
    eventually(lambda: b.ask("has meanwhile9") == "True")
    eventually(lambda: lag() == [0, 0])
    assert a.ask("wait") == b.ask("wait")


def test_ctrl_c_closes_in_order(start: Start) -> None:
    a, b = start("a"), start("b")
    b.ask("connect " + a.ask("ticket"))
    b.process.send_signal(signal.SIGINT)
    assert b.process.wait(PATIENCE_S) != 0
    eventually(lambda: "the node closes" in a.ask("losses"))  # it said goodbye
    assert "KeyboardInterrupt" in b.complaints()
    assert "Warning" not in b.complaints()
