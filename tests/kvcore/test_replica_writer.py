"""Blind puts and deletes in one call: byte for byte what the replica writes in Python."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from random import Random

import pytest

from murmur.errors import Conflict, Forked
from murmur.kvcore import kernel
from murmur.kvcore.cell import Author, apply, encode_register
from murmur.kvcore.record import DELETE, PUT, REGISTER, Operation, decode, digest, encode
from murmur.kvcore.replica import Replica
from murmur.kvcore.storage import DiskStorage
from murmur.kvcore.transaction import Transaction

pytestmark = pytest.mark.skipif(kernel.AuthorWriter is None, reason="not compiled")

KEYS = [REGISTER + b"\x02%02d" % n for n in range(20)]


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica.open(DiskStorage(tmp_path / "one"))


def is_open(replica: Replica) -> bool:
    """Whether the next put is native: then it leaves the own tip behind."""
    before = replica._ledger.tips[replica.id].seq if replica.id in replica._ledger.tips else 0
    replica.put(KEYS[0], b"probe")
    tip = replica._ledger.tips.get(replica.id)
    return (tip.seq if tip else 0) == before


def own_records(replica: Replica) -> list[bytes]:
    return [record for _, _, record in replica.log.read(0) if record[1:9] == replica.id]


def assert_like_python(replica: Replica) -> None:
    """Every own record is what `encode` makes of its parts, and the tree is what the log says."""
    previous, predecessor = bytes(16), dict[bytes, int]()
    for number, record in enumerate(own_records(replica), 1):
        decoded = decode(record)
        assert (decoded.seq, decoded.previous) == (number, previous)
        vector = decoded.vector(predecessor)
        again = encode(
            replica.id,
            decoded.seq,
            decoded.stamp,
            previous,
            vector,
            predecessor,
            decoded.operations,
        )
        assert again == record
        previous, predecessor = digest(record), vector
    assert replica.tips.get(replica.id, bytes(16)) == previous
    assert list(replica.check()) == []


def test_the_second_put_is_native(replica: Replica) -> None:
    assert not is_open(replica)
    assert is_open(replica)
    replica.delete(KEYS[0])
    assert is_open(replica)
    assert replica.vector == {replica.id: 4}
    assert len(own_records(replica)) == 4
    assert_like_python(replica)
    replica.close()


@pytest.mark.parametrize("size", [0, 1, 60, 127, 128, 300, 20_000])
def test_records_and_cells_are_those_of_python(replica: Replica, size: int) -> None:
    replica.put(KEYS[0], b"first")
    value = Random(size).randbytes(size)
    for key in (KEYS[1], REGISTER + bytes(size % 5000)):
        before = replica.vector
        replica.put(key, value)
        decoded = decode(own_records(replica)[-1])
        operation = Operation(PUT, key, value)
        assert decoded.operations == [operation]
        author = Author(decoded.stamp, replica.id, decoded.seq, before)
        assert replica.get(key) == apply(None, [operation], author)
        assert replica.get(key) == encode_register(
            [(decoded.stamp, replica.id, decoded.seq, value)]  # type: ignore[list-item]
        )
        replica.delete(key)
        assert replica.get(key) is None
        assert decode(own_records(replica)[-1]).operations == [Operation(DELETE, key, b"")]
    assert_like_python(replica)
    replica.close()


@pytest.mark.parametrize("seed", range(6))
def test_a_life_of_two_replicas(tmp_path: Path, seed: int) -> None:
    """Native puts between remote records, transactions, flushes and openings: both stay equal."""
    rng = Random(seed)
    durability = ("none", "batched", "commit")[seed % 3]
    storages = [DiskStorage(tmp_path / name) for name in ("one", "two")]

    def opened(storage: DiskStorage) -> Replica:
        return Replica.open(
            storage, durability=durability, memtable_bytes=20_000, segment_bytes=10_000
        )

    pair = [opened(storage) for storage in storages]
    for _ in range(120):
        who = rng.randrange(2)
        one, two = pair[who], pair[1 - who]
        choice = rng.random()
        if choice < 0.6:
            for _ in range(rng.randint(1, 30)):
                key = rng.choice(KEYS)
                if rng.random() < 0.8:
                    one.put(key, rng.randbytes(rng.randint(0, 40)))
                else:
                    one.delete(key)
        elif choice < 0.7:
            with one.begin() as transaction:
                transaction.put(rng.choice(KEYS), b"in a transaction")
                transaction.get(rng.choice(KEYS))
        elif choice < 0.85:
            two.sync()
            one.apply([record for _, record in two.log.missing(one.vector)])
        elif choice < 0.9:
            one.flush()
        elif choice < 0.95:
            vector, tips = one.vector, one.tips
            one.close()
            pair[who] = one = opened(storages[who])
            assert (one.vector, one.tips) == (vector, tips)
        else:
            one.sync()
            assert one.durable_vector == one.vector
            assert one.durable_position == one.log.end
        assert one.last_stamp >= max((decode(r).stamp for r in own_records(one)[-1:]), default=0)
    for one, two in (pair, pair[::-1]):
        one.sync()
        two.apply([record for _, record in one.log.missing(two.vector)])
    assert pair[0].vector == pair[1].vector
    assert pair[0].state_hash() == pair[1].state_hash()
    for one in pair:
        assert_like_python(one)
        one.close()


def test_a_snapshot_has_the_vector_of_what_it_shows(replica: Replica) -> None:
    replica.put(KEYS[0], b"0")
    stop = threading.Event()

    def write() -> None:
        count = 0
        while not stop.is_set():
            count += 1
            replica.put(KEYS[1], b"%d" % count)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(300):
        with replica.snapshot() as snapshot:
            cell = snapshot.get(KEYS[1])
            seq = int.from_bytes(cell[17:25]) if cell else 1
            assert snapshot.vector == {replica.id: seq}
        assert replica.vector[replica.id] >= seq
    stop.set()
    writer.join()
    assert_like_python(replica)
    replica.close()


def test_a_transaction_conflicts_with_a_put_since(replica: Replica) -> None:
    def begun() -> Transaction:
        replica.put(KEYS[0], b"before")
        replica.put(KEYS[0], b"before, native")
        transaction = replica.begin()
        transaction.put(KEYS[0], (transaction.get(KEYS[0]) or b"") + b"!")
        return transaction

    begun().commit()
    for write in (
        lambda: replica.put(KEYS[0], b"since"),
        lambda: replica.delete(KEYS[0]),
        lambda: (replica.put(KEYS[3], b"x"), replica.put(KEYS[0], b"since")),
    ):
        transaction = begun()
        write()
        with pytest.raises(Conflict):
            transaction.commit()
    begun().commit()
    assert_like_python(replica)
    replica.close()


def test_threads_with_transactions_lose_no_update(replica: Replica) -> None:
    """Puts in one thread, counting transactions in others: each that committed has counted."""
    counted = [0, 0]
    replica.put(KEYS[5], b"0")

    def count(who: int) -> None:
        while counted[who] < 60:
            transaction = replica.begin()
            cell = transaction.get(KEYS[5])
            assert cell is not None
            transaction.put(KEYS[5], b"%d" % (int(cell[25:]) + 1))
            try:
                transaction.commit()
            except Conflict:
                continue
            counted[who] += 1

    threads = [threading.Thread(target=count, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    for number in range(3000):
        replica.put(KEYS[6 + number % 10], b"%d" % number)
    for thread in threads:
        thread.join()
    cell = replica.get(KEYS[5])
    assert cell is not None
    assert int(cell[25:]) == 120
    assert_like_python(replica)
    replica.close()


def test_listeners_hear_of_each_put_that_is_durable_at_once(tmp_path: Path) -> None:
    replica = Replica.open(DiskStorage(tmp_path / "one"), durability="none")
    replica.put(KEYS[0], b"0")
    replica.put(KEYS[0], b"1")
    assert replica.durable_vector == {replica.id: 2}
    heard: list[int] = []
    end = replica.subscribe(lambda: heard.append(replica.durable_vector[replica.id]))
    for _ in range(3):
        replica.put(KEYS[0], b"2")
    assert heard == [3, 4, 5]
    end()
    replica.put(KEYS[0], b"3")
    assert is_open(replica)
    replica.close()


def test_batched_and_commit_tell_what_is_durable(tmp_path: Path) -> None:
    batched = Replica.open(DiskStorage(tmp_path / "one"), sync_interval_ms=1)
    commit = Replica.open(DiskStorage(tmp_path / "two"), durability="commit")
    for replica in (batched, commit):
        for number in range(50):
            replica.put(KEYS[0], b"%d" % number)
            if replica is commit:
                assert replica.durable_vector == {replica.id: number + 1}
        for _ in range(2000):
            if replica.durable_vector == replica.vector:
                break
            threading.Event().wait(0.001)
        assert replica.durable_vector == {replica.id: 50}
        assert replica.durable_position == replica.log.end
        replica.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_do_no_harm(replica: Replica) -> None:
    replica.put(KEYS[0], b"1")
    replica.put(KEYS[0], b"2")
    child = os.fork()
    if child == 0:
        try:
            replica.put(KEYS[0], b"child")
        except Forked:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    replica.put(KEYS[0], b"3")
    assert replica.vector == {replica.id: 3}
    assert_like_python(replica)
    replica.close()
