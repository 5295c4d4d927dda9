"""murmur.aio: what is awaited does what the synchronous call does, and cancelling it stops it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import murmur
from murmur import aio

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

Test = Callable[[Path], Coroutine[Any, Any, None]]


def awaited(test: Test) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    run.__name__ = test.__name__
    return run


@awaited
async def test_keys_and_statements(tmp_path: Path) -> None:
    async with murmur.aio.open(tmp_path / "db", group="team") as swarm:
        await swarm.put("a", b"1")
        await swarm.put("b", b"2")
        assert await swarm.get("a") == b"1"
        assert await swarm.delete("b") is True
        assert [pair async for pair in swarm.scan()] == [("a", b"1")]
        await swarm.put_json("doc", {"word": "needle"})
        await swarm.put_msgpack(b"doc", [b"x"])
        assert await swarm.get_json("doc") == {"word": "needle"}
        assert await swarm.get_msgpack(b"doc") == [b"x"]
        assert [match.key for match in await swarm.search("d", "needle", limit=1)] == ["doc"]
        await swarm.sql("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        await swarm.execute_many("INSERT INTO t VALUES (?, ?)", ((i, f"x{i}") for i in range(1000)))
        result = await swarm.sql("SELECT b FROM t WHERE a > ? ORDER BY a", [997])
        assert list(result) == [("x998",), ("x999",)]
        assert (await swarm.run(murmur.Swarm.stats))["connected_peers"] == 0
        assert (await swarm.history("t")).fetchone() is not None
        with pytest.raises(murmur.InvalidInput, match="would not outlive the call"):
            await swarm.sql("BEGIN")
    assert swarm.swarm.closed
    with pytest.raises(murmur.Closed):
        await swarm.get("a")
    await swarm.close()


@awaited
async def test_a_transaction_commits_or_rolls_back(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "db") as swarm:
        await swarm.sql("CREATE TABLE t (a INT)")
        async with swarm.transaction() as tx:
            await tx.sql("INSERT INTO t VALUES (1)")
            await tx.put("k", b"v")
            assert await tx.get("k") == b"v"
            await tx.put_json("doc", [1])
            await tx.put_msgpack("pack", [2])
            assert (await tx.get_json("doc"), await tx.get_msgpack("pack")) == ([1], [2])
            await tx.delete("doc")
            await tx.delete("pack")
            assert await tx.scan() == [("k", b"v")]
            assert await swarm.get("k") is None
        assert await swarm.get("k") == b"v"
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with swarm.transaction() as tx:
                await tx.execute_many("INSERT INTO t VALUES (?)", [(2,), (3,)])
                raise ZeroDivisionError
        assert list(await swarm.sql("SELECT a FROM t")) == [(1,)]
        with pytest.raises(murmur.Conflict):  # noqa: PT012
            async with swarm.transaction() as tx:
                await tx.sql("UPDATE t SET a = a + 1")
                await swarm.sql("UPDATE t SET a = 7")


@awaited
async def test_connections_and_cursors(tmp_path: Path) -> None:
    async with aio.connect(tmp_path / "db") as connection:
        await connection.execute("CREATE TABLE t (a INT)")
        rows = [(i,) for i in range(600)]
        cursor = await connection.executemany("INSERT INTO t VALUES (?)", rows)
        assert cursor.rowcount == 600
        await connection.commit()
        cursor = await connection.execute("SELECT a FROM t ORDER BY a")
        assert cursor.description is not None
        assert await cursor.fetchone() == (0,)
        assert await cursor.fetchmany(2) == [(1,), (2,)]
        assert [row async for row in cursor] == rows[3:]
        async with await connection.cursor() as cursor:
            await cursor.execute("SELECT a FROM t WHERE a < 2")
            assert (await cursor.fetch_arrow_table()).num_rows == 2
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with connection:
                await connection.sql("DELETE FROM t")
                raise ZeroDivisionError
        assert (await connection.sql("SELECT count(*) FROM t")).fetchone() == (600,)
        await connection.sql("DELETE FROM t WHERE a > 0")
    async with aio.open(tmp_path / "db") as swarm, swarm.connect(autocommit=True) as other:
        assert (await other.sql("SELECT count(*) FROM t")).fetchone() == (1,)


@awaited
async def test_the_loop_runs_while_a_statement_does(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "db") as swarm, swarm.connect() as connection:
        endless = asyncio.create_task(connection.execute(ENDLESS))
        await swarm.put("a", b"1")  # on another thread
        assert await swarm.get("a") == b"1"
        assert not endless.done()
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless


async def run_of(swarm: aio.Swarm) -> Awaitable[Any]:
    return await swarm.sql(ENDLESS)


async def run_of_connection(swarm: aio.Swarm) -> Awaitable[Any]:
    async with swarm.connect() as connection:
        return await connection.execute(ENDLESS)


async def run_of_transaction(swarm: aio.Swarm) -> Awaitable[Any]:
    async with swarm.transaction() as tx:
        return await tx.sql(ENDLESS)


@pytest.mark.parametrize("run", [run_of, run_of_connection, run_of_transaction])
def test_a_cancelled_task_ends_its_statement(
    tmp_path: Path, run: Callable[[aio.Swarm], Coroutine[Any, Any, Any]]
) -> None:
    async def cancel() -> None:
        async with aio.open(tmp_path / "db") as swarm:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await run(swarm)
            await swarm.put("a", b"1")  # the thread is free
            assert (await swarm.sql("SELECT 1 + 1")).fetchone() == (2,)

    asyncio.run(cancel())


@awaited
async def test_a_call_that_has_not_begun_is_never_made(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "db") as swarm:
        gate = threading.Event()
        first = asyncio.create_task(swarm.run(lambda _: gate.wait()))
        second = asyncio.create_task(swarm.put("a", b"1"))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()
        assert await first is True
        assert await swarm.get("a") is None


@awaited
async def test_what_cannot_be_interrupted_is_waited_for(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "db") as swarm:
        done = []
        begun = threading.Event()

        def work(_: murmur.Swarm) -> None:
            begun.set()
            time.sleep(0.05)
            done.append(True)

        task = asyncio.create_task(swarm.run(work))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # again, while the end of the work is waited for
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [True]


@awaited
async def test_an_opening_that_is_cancelled_leaves_nothing_open(tmp_path: Path) -> None:
    async def opening() -> aio.Swarm:
        return await aio.open(tmp_path / "db")

    task = asyncio.create_task(opening())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(1000):  # what was opened all the same is closed on the thread
        try:
            murmur.open(tmp_path / "db").close()
        except murmur.Locked:
            await asyncio.sleep(0.01)
        else:
            break
    else:
        pytest.fail("the directory is still open")


@awaited
async def test_errors_are_the_synchronous_ones(tmp_path: Path) -> None:
    async with aio.open(tmp_path / "db") as swarm:
        with pytest.raises(murmur.BindError):
            await swarm.sql("SELECT * FROM nowhere")
        with pytest.raises(murmur.Timeout):
            await swarm.sql(ENDLESS, timeout=0.01)
        with pytest.raises(murmur.InvalidInput):
            await aio.open("")
