"""The three-terminal example, driven as three people would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE_S, eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "shared_kv.py"
DONE = "commands: "


class Terminal:
    def __init__(self, directory: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), *arguments],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.greeting = self.type("")

    def type(self, line: str) -> list[str]:
        """Type a line, and read up to the answer of a command that does not exist."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\nfinished\n")
        self.process.stdin.flush()
        told = []
        for answer in self.process.stdout:
            if answer.startswith(DONE):
                return told
            told.append(answer.rstrip())
        raise AssertionError(f"the example ended after {line!r}: {told}")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("quit\n")
        self.process.stdin.close()
        rest = self.process.stdout.read()
        assert self.process.wait(PATIENCE_S) == 0, rest
        self.process.stdout.close()


def until_equal(*terminals: Terminal) -> str:
    """Wait for one another until all show one hash; the hash."""
    hashes: set[str] = set()

    def equal() -> bool:
        for terminal in terminals:
            terminal.type("wait")
        hashes.clear()
        hashes.update(terminal.type("hash")[0] for terminal in terminals)
        return len(hashes) == 1

    eventually(equal)
    return hashes.pop()


def test_sequential_concurrent_and_partitioned_edits(tmp_path: Path) -> None:
    alice = Terminal(tmp_path, "alice")
    ticket = alice.greeting[-1].removeprefix("ticket: ")
    bob, carol = Terminal(tmp_path, "bob", ticket), Terminal(tmp_path, "carol", ticket)
    everybody = (alice, bob, carol)
    try:
        alice.type("set db:host localhost")
        until_equal(*everybody)
        assert bob.type("get db:host") == carol.type("get db:host") == ["localhost"]
        assert sorted(alice.type("who")) == ["alice: founder (you)", "bob: member", "carol: member"]

        bob.type("apart")
        bob.type("set db:host from bob")
        alice.type("set db:host from alice")
        until_equal(alice, carol)
        assert carol.type("get db:host") == ["from alice"]
        assert bob.type("get db:host") == ["from bob"]
        bob.type("together")
        eventually(lambda: any("connected" in line for line in bob.type("peers")))
        until_equal(*everybody)
        values = {tuple(each.type("get db:host")) for each in everybody}
        assert len(values) == 1
        lost = {"from alice", "from bob"} - set(values.pop())
        assert any(lost.copy().pop() in line for line in carol.type("conflicts"))
        assert any("transactions" in line for line in alice.type("stats"))
        assert len(alice.type("list")) == 1
        alice.type("delete db:host")
        until_equal(*everybody)
        assert carol.type("get db:host") == ["nobody has set it"]
    finally:
        for terminal in everybody:
            terminal.close()
