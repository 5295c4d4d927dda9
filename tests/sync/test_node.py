"""Real nodes over loopback QUIC, in one process, with real replicas."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from murmur.errors import Closed, Forked, InvalidInput, PeerError, Poisoned, Timeout, Unreachable
from murmur.kvcore.memory_storage import MemoryStorage
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage
from murmur.sync import Node, Notice, Ticket, Timing
from murmur.sync.wire import frame
from tests.patience import PATIENCE_S, eventually
from tests.sync.stranger import Stranger

# A busy machine is no silence: what is lost here is lost by a goodbye.
QUICK = Timing(ping_ms=200, silence_ms=20_000)


class Peer:
    """A replica and its node."""

    def __init__(
        self, name: str, group: str = "team", storage: object = None, **options: object
    ) -> None:
        self.name = name
        self.storage = storage or MemoryStorage(name)
        self.replica = Replica.open(self.storage, sync_interval_ms=5)  # type: ignore[arg-type]
        self.notices: list[Notice] = []
        self.node = Node(
            self.replica,
            group=group,
            storage=self.storage,  # type: ignore[arg-type]
            timing=QUICK,
            on_event=self.notices.append,
            **{"transport": "quic", **options},  # type: ignore[arg-type]
        )
        self.node.start()

    def put(self, key: bytes, value: bytes = b"v") -> None:
        with self.replica.begin() as tx:
            tx.put(b"\x01" + key, value)

    def has(self, key: bytes) -> bool:
        return self.replica.get(b"\x01" + key) is not None

    def close(self) -> None:
        self.node.close()
        self.replica.close()


Make = Callable[..., Peer]


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:

        def new(*args: object, **options: object) -> Peer:
            peer = Peer(*args, **options)  # type: ignore[arg-type]
            stack.callback(peer.close)
            return peer

        yield new
    names = {thread.name for thread in threading.enumerate()}
    assert not {name for name in names if name.startswith("murmur-node")}, "threads are left"


def test_two_nodes_meet_and_converge(make: Make) -> None:
    a, b = make("a"), make("b")
    a.put(b"from a")
    b.put(b"from b")
    info = b.node.connect_peer(a.node.ticket())
    assert info.node_id == a.node.node_id
    assert info.replica_id == a.replica.id.hex()
    assert info.address == a.node.addresses[0]
    a.node.wait_for(timeout=PATIENCE_S)
    b.node.wait_for([info], timeout=PATIENCE_S)
    b.node.wait_for([a.node.node_id], timeout=PATIENCE_S)
    assert a.replica.state_hash() == b.replica.state_hash()
    assert b.node.connected_peers() == [info]
    (status,) = a.node.peers()
    assert (status.state, status.backlog, status.dialed) == ("connected", 0, False)


def test_what_is_written_later_arrives(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    for i in range(20):
        (a if i % 2 else b).put(b"%d" % i)
    a.node.wait_for(timeout=PATIENCE_S)
    b.node.wait_for(timeout=PATIENCE_S)
    assert a.replica.state_hash() == b.replica.state_hash()


def test_a_line_of_nodes_converges(make: Make) -> None:
    peers = [make(name) for name in "abcd"]
    for left, right in pairwise(peers):
        right.node.connect_peer(left.node.ticket())
    for peer in peers:
        peer.put(peer.name.encode())
    eventually(lambda: all(peer.has(name.encode()) for peer in peers for name in "abcd"))
    eventually(lambda: len({peer.replica.state_hash() for peer in peers}) == 1)


def test_everybody_dials_everybody(make: Make) -> None:
    peers = [make(name) for name in "abcd"]
    errors: list[BaseException] = []

    def dial(peer: Peer, ticket: str) -> None:
        try:
            peer.node.connect_peer(ticket)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=dial, args=(peer, other.node.ticket()))
        for peer in peers
        for other in peers
        if peer is not other
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for i in range(5):
        for peer in peers:
            peer.put(peer.name.encode() + b"%d" % i)
    eventually(lambda: len({peer.replica.state_hash() for peer in peers}) == 1)
    eventually(lambda: all(len(peer.node.connected_peers()) == 3 for peer in peers))


def test_a_peer_that_comes_back_is_met_again(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    b.close()
    eventually(lambda: not a.node.connected_peers())
    a.put(b"meanwhile")
    again = make("b", storage=b.storage)
    eventually(lambda: again.has(b"meanwhile"))
    assert again.node.node_id == b.node.node_id


def test_a_ticket_outlives_a_restart(make: Make) -> None:
    a = make("a")
    ticket = a.node.ticket()
    a.close()
    make("a", storage=a.storage)
    make("b").node.connect_peer(ticket)


def test_groups_are_isolated(make: Make) -> None:
    a, b = make("a", "team"), make("b", "other")
    a.put(b"secret")
    with pytest.raises(PeerError, match="for group 'team', this node is in 'other'"):
        b.node.connect_peer(a.node.ticket())
    parsed = Ticket.parse(a.node.ticket())
    forged = Ticket(parsed.node_id, "other", parsed.addresses, parsed.invite)
    with pytest.raises(PeerError, match="another group"):
        b.node.connect_peer(str(forged))
    assert not b.has(b"secret")
    assert not a.node.connected_peers()


def test_without_an_invite_one_is_refused(make: Make) -> None:
    a, b = make("a"), make("b")
    with pytest.raises(PeerError, match="not admitted"):
        b.node.connect_peer(a.node.ticket(invite=False))
    eventually(lambda: any(notice.kind == "refused" for notice in a.notices))
    b.node.connect_peer(a.node.ticket())


def test_nobody_there(make: Make) -> None:
    a, b = make("a"), make("b")
    ticket = a.node.ticket()
    a.node.close()
    with pytest.raises(Unreachable, match=r"within 0\.3 s"):
        b.node.connect_peer(ticket, timeout=0.3)
    assert b.node.peers() == []


@pytest.mark.parametrize("ticket", ["", "murmur1", "murmur1abc", "https://example.org"])
def test_a_damaged_ticket(make: Make, ticket: str) -> None:
    with pytest.raises(InvalidInput, match="ticket"):
        make("a").node.connect_peer(ticket)


def test_ones_own_ticket(make: Make) -> None:
    a = make("a")
    with pytest.raises(InvalidInput, match="own"):
        a.node.connect_peer(a.node.ticket())


def test_waiting_names_who_is_late(make: Make) -> None:
    a, b = make("a"), make("b")
    with pytest.raises(Timeout, match="no peer"):
        a.node.wait_for(timeout=0.1)
    info = b.node.connect_peer(a.node.ticket())
    a.node.wait_for(timeout=PATIENCE_S)
    apply, hold = b.replica.apply, threading.Event()
    b.replica.apply = lambda *a, **k: (hold.wait(PATIENCE_S), apply(*a, **k))[1]  # type: ignore[method-assign]
    a.put(b"x")
    with pytest.raises(Timeout, match=b.node.node_id[:12]):
        a.node.wait_for(timeout=0.2)
    hold.set()
    a.node.wait_for([b.node.node_id], timeout=PATIENCE_S)
    with pytest.raises(InvalidInput, match="not known here"):
        b.node.wait_for(["a" * 52], timeout=1)
    with pytest.raises(InvalidInput, match="node id"):
        b.node.wait_for(["nobody"], timeout=1)
    assert info


def test_malformed_records_close_that_conversation_only(make: Make) -> None:
    a, b, c = make("a"), make("b"), make("c")
    b.node.connect_peer(a.node.ticket())
    c.node.connect_peer(a.node.ticket())
    before = a.replica.state_hash()
    b.node._loop.post(
        lambda now_ms: [
            conversation.session.send([b"\xff" * 100], {})
            for conversation in b.node._loop.mesh._conversations.values()
        ]
    )
    eventually(lambda: any(notice.kind == "refused" for notice in a.notices))
    (text,) = [notice.text for notice in a.notices if notice.kind == "refused"]
    assert "record byte 0" in text
    assert a.replica.state_hash() == before
    assert [info.node_id for info in a.node.connected_peers()] == [c.node.node_id]
    c.put(b"fine")
    eventually(lambda: a.has(b"fine"))


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: murmur\r\n\r\n", "its version is"),
        (frame(1, b"\xdd\xff\xff\xff\xff", 0), "cut short"),
        (frame(4, b"\x91" * 1000, 0), "nested deeper"),
        (frame(5, b"\xff" * 1024, 0), "do not fit"),
        (bytes(100_000), "its version is 0"),
    ],
)
def test_a_stranger_who_talks_garbage_is_shown_out(make: Make, garbage: bytes, reason: str) -> None:
    a, b = make("a"), make("b")
    before = a.replica.state_hash()
    stranger = Stranger(int(a.node.addresses[0].rpartition(":")[2]))
    eventually(lambda: stranger.saw("StreamDataReceived"))  # the challenge
    stranger.quic.send_stream_data(1, garbage)
    eventually(lambda: stranger.turn() or any(n.kind == "refused" for n in a.notices))
    (text,) = [notice.text for notice in a.notices if notice.kind == "refused"]
    assert reason in text
    stranger.socket.close()
    assert a.replica.state_hash() == before
    b.node.connect_peer(a.node.ticket())


def test_a_closed_replica_stops_its_node(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    b.replica.close()
    a.put(b"x")
    eventually(lambda: b.node.state.startswith("stopped: Closed"))
    with pytest.raises(Closed, match="stopped: Closed"):
        b.node.wait_for(timeout=1)
    assert b.node.connected_peers() == []
    eventually(lambda: not a.node.connected_peers())


def test_a_poisoned_replica_stops_its_node(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())

    def poisoned(records: object, **how: object) -> object:
        raise Poisoned("a sync failed")

    b.replica.apply = poisoned  # type: ignore[method-assign, assignment]
    a.put(b"x")
    eventually(lambda: b.node.state == "stopped: Poisoned: a sync failed")
    eventually(lambda: [n.kind for n in b.notices].count("stopped") == 1)


def test_close_from_anywhere_and_again(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    threads = [threading.Thread(target=a.node.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    a.node.close()
    assert a.node.state == "closed"
    for call in (a.node.ticket, lambda: a.node.connect_peer(b.node.ticket()), a.node.start):
        with pytest.raises(Closed):
            call()
    eventually(lambda: any("the node closes" in notice.text for notice in b.notices))


def test_close_from_its_own_thread(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    a.node._on_event = lambda notice: a.node.close()
    b.node.close()
    eventually(lambda: a.node.state == "closed")


def test_close_releases_who_waits(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    b.replica.apply = lambda *_, **__: time.sleep(0.5)  # type: ignore[method-assign, assignment, return-value]
    a.put(b"x")
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            a.node.wait_for(timeout=PATIENCE_S)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    a.node.close()
    thread.join(PATIENCE_S)
    assert isinstance(errors[0], Closed)


def test_a_port_that_is_taken() -> None:
    storage = MemoryStorage()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken,
        Replica.open(storage) as replica,
    ):
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        node = Node(replica, group="team", storage=storage, listen=listen)
        with pytest.raises(OSError, match="in use"):
            node.start()
        node.close()


def test_a_node_that_never_started_closes() -> None:
    storage = MemoryStorage()
    with Replica.open(storage) as replica:
        node = Node(replica, group="team", storage=storage)
        with pytest.raises(Closed, match="new"):
            node.ticket()
        node.close()
        assert node.state == "closed"


def test_an_event_handler_that_raises_is_no_harm(make: Make) -> None:
    a, b = make("a"), make("b")

    def broken(notice: Notice) -> None:
        raise RuntimeError("a bug of the application")

    a.node._on_event = broken
    b.node.connect_peer(a.node.ticket())
    a.put(b"x")
    eventually(lambda: b.has(b"x"))


def test_what_an_event_handler_may_ask(make: Make) -> None:
    a, b = make("a"), make("b")
    seen: list[object] = []

    def handler(notice: Notice) -> None:
        seen.append(a.node.connected_peers())
        try:
            a.node.wait_for(timeout=1)
        except InvalidInput as error:
            seen.append(str(error))

    a.node._on_event = handler
    b.node.connect_peer(a.node.ticket())
    eventually(lambda: len(seen) >= 2)
    assert "on_event may not wait" in str(seen[1])


def test_an_address_may_be_a_name(make: Make) -> None:
    a, b = make("a"), make("b")
    parsed = Ticket.parse(a.node.ticket())
    port = a.node.addresses[0].rpartition(":")[2]
    named = Ticket(parsed.node_id, parsed.group, (f"localhost:{port}",), parsed.invite)
    b.node.connect_peer(str(named))


def test_a_forked_child_may_not_use_the_node(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: there are threads
        pid = os.fork()
    if pid == 0:  # the child says what happened and leaves without cleaning up
        try:
            a.node.ticket()
            outcome = b"used"
        except Forked:
            a.node.close()
            outcome = b"refused"
        except BaseException:
            outcome = b"?"
        os.write(writer, outcome)
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
    os.waitpid(pid, 0)
    a.put(b"x")
    eventually(lambda: b.has(b"x"))
    assert len(a.node.connected_peers()) == 1


def test_a_copied_directory_is_another_node(make: Make, tmp_path: Path) -> None:
    a = make("a", storage=DiskStorage(tmp_path / "a"))
    b = make("b", storage=DiskStorage(tmp_path / "b"))
    b.node.connect_peer(a.node.ticket())
    b.put(b"before")
    b.node.wait_for(timeout=PATIENCE_S)
    b.close()
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    again = make("b", storage=DiskStorage(tmp_path / "b"))
    copy = make("c", storage=DiskStorage(tmp_path / "c"))
    assert copy.node.node_id != again.node.node_id == b.node.node_id
    assert copy.replica.id != again.replica.id
    # The invite that the original used still admits the copy, as a node of its own.
    eventually(lambda: len(a.node.connected_peers()) == 2)
    copy.put(b"of the copy")
    again.put(b"of the original")
    eventually(lambda: a.has(b"of the copy") and a.has(b"of the original"))
    eventually(lambda: a.replica.state_hash() == copy.replica.state_hash())


def test_many_writers_while_it_syncs(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())

    def write(peer: Peer, start: int) -> None:
        for i in range(start, start + 200):
            peer.put(b"%d" % i, bytes(200))

    threads = [
        threading.Thread(target=write, args=(peer, 1000 * n)) for n, peer in enumerate([a, a, b, b])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    a.node.wait_for(timeout=PATIENCE_S)
    b.node.wait_for(timeout=PATIENCE_S)
    assert a.replica.state_hash() == b.replica.state_hash()


def test_a_large_transaction_goes_through(make: Make) -> None:
    a, b = make("a"), make("b")
    b.node.connect_peer(a.node.ticket())
    with a.replica.begin() as tx:
        for i in range(3000):
            tx.put(b"\x01%d" % i, bytes(2000))
    a.node.wait_for(timeout=PATIENCE_S)
    assert a.replica.state_hash() == b.replica.state_hash()


def test_importing_sync_loads_no_network_library() -> None:
    code = (
        "import sys, murmur.sync\n"
        "from murmur.kvcore.memory_storage import MemoryStorage\n"
        "heavy = {'aioquic', 'asyncio', 'cryptography', 'sqlglot', 'duckdb', 'pyarrow', 'polars'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
