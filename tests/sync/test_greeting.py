"""HELLO carries a vector: what it costs with many replica ids, and that it is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from murmur.sync import peer as p
from murmur.sync import wire
from murmur.sync.greeting import MAX_TIPS, fork_between, hello_of, tips_of
from tests.sync.fakes import ADDRESS, FakeOutbox, Pair


class OldGroup(FakeOutbox):
    """A replica that has met many others."""

    def __init__(self, name: str, count: int) -> None:
        super().__init__(name)
        # Large numbers, and ids that nothing compresses.
        ids = (hashlib.blake2b(b"%d" % i, digest_size=8).digest() for i in range(count - 1))
        self.vector = {self.id: 1 << 40, **dict.fromkeys(ids, (1 << 40) + 1)}
        self.durable_vector = dict(self.vector)

    @property
    def tips(self) -> Mapping[bytes, bytes]:
        # Its own is the last that it lists.
        return {r: hashlib.md5(r).digest() for r in reversed(list(self.vector))}


def size_of(count: int) -> int:
    return len(hello_of(OldGroup("old", count), b"incarnat", ADDRESS).payload())


def test_what_a_replica_id_costs() -> None:
    few, hundred, thousand = size_of(1), size_of(100), size_of(1_000)
    assert few < 200
    assert hundred < 7 << 10
    assert thousand < 64 << 10
    assert (thousand - hundred) / 900 < 64


@pytest.mark.parametrize("count", [100, 1_000, 20_000, 40_000])
def test_a_conversation_of_an_old_group_opens(count: int) -> None:
    pair = Pair()
    pair.dialer.outbox = OldGroup("dialer", count)
    pair.acceptor.outbox = OldGroup("acceptor", count)
    pair.open()
    assert pair.acceptor.session.hello is not None
    assert pair.acceptor.session.hello.vector == pair.dialer.outbox.vector
    assert pair.dialer.session.known == pair.acceptor.outbox.vector


def test_hashes_are_left_out_before_the_vector_is_and_never_its_own() -> None:
    outbox = OldGroup("old", 40_000)
    hello = hello_of(outbox, b"incarnat", ADDRESS)
    assert len(hello.payload()) <= wire.MAX_PAYLOAD
    assert len(hello.vector) == 40_000
    assert len(hello.tips) == MAX_TIPS
    assert outbox.id in hello.tips
    other = OldGroup("other", 40_000)
    assert fork_between(hello, other.id, tips_of(other)) is None
    own = {outbox.id: (1 << 40, b"another hash")}
    assert "two transactions" in (fork_between(hello, other.id, own) or "")


def test_more_ids_than_a_vector_may_have_end_the_conversation() -> None:
    pair = Pair()
    pair.dialer.outbox = OldGroup("dialer", p.MAX_REPLICAS + 1)
    pair.settle()
    assert pair.acceptor.ended is not None
    assert pair.acceptor.ended.code == p.VIOLATION
