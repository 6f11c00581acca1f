"""Transactional activities: what they write is there exactly when their answer is (law T2)."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager

import pytest

from edda import (
    DefinitionError,
    EddaApp,
    NoTransactionError,
    RetryExhaustedError,
    RetryPolicy,
    WorkflowStuck,
    activity,
    wait_event,
    workflow,
)
from edda.doors import SystemClock
from edda.errors import StoreError, StoreUnavailableError
from edda.stores.memory import MemoryStore
from edda.stores.sqlite import DirectSqliteStore
from edda_testkit import Simulation

ONCE = RetryPolicy(max_attempts=1)


async def add(connection, name):
    """Count up under a name, in either store."""
    if hasattr(connection, "execute"):
        await connection.execute("CREATE TABLE IF NOT EXISTS tally (name TEXT)")
        await connection.execute("INSERT INTO tally VALUES (?)", (name,))
    else:
        connection[name] = connection.get(name, 0) + 1


def tally(store):
    """What was counted."""
    if isinstance(store, MemoryStore):
        return dict(store.tables)
    connection = store._file.connection
    try:
        rows = connection.execute("SELECT name, count(*) FROM tally GROUP BY name").fetchall()
    except sqlite3.OperationalError:
        return {}
    return dict(rows)


@activity(transactional=True, retry_policy=RetryPolicy(max_attempts=3, initial_interval=10))
async def write(ctx, name: str, fails: int = 0) -> str:
    await add(ctx.connection, name)
    if ctx.attempt <= fails:
        raise OSError("down")
    return name


@workflow
async def writing(ctx, name: str = "a", fails: int = 0):
    await write(ctx, name, fails)
    await wait_event(ctx, "go")
    return "done"


def test_writes_are_committed_with_the_answer(sim):
    """Once, however often the process dies afterwards."""
    run = sim.start(writing)
    assert tally(sim.store.inner) == {"a": 1}
    sim.crash()
    sim.crash()
    sim.send("go")
    assert run.result == "done"
    assert tally(sim.store.inner) == {"a": 1}


def test_an_attempt_that_fails_writes_nothing(sim):
    """Its writes are rolled back; those of the attempt that succeeds stay."""
    run = sim.start(writing, fails=2)
    assert run.status == "waiting_for_retry"
    assert tally(sim.store.inner) == {}
    sim.advance(100)
    assert run.status == "waiting_for_event"
    assert tally(sim.store.inner) == {"a": 1}


class Failing:
    """A transaction whose commit fails."""

    def __init__(self, opened, failed):
        self.connection = opened.connection
        self.rollback = opened.rollback
        self.failed = failed

    async def commit(self, step):
        self.failed.append(step)
        raise StoreError("the disk is gone")


def test_a_commit_that_fails_undoes_the_writes(sim):
    """When the answer cannot be committed, nothing was written; then both are, once."""
    real, failed = sim.store.inner.transaction, []

    @asynccontextmanager
    async def transaction():
        async with real() as opened:
            yield opened if failed else Failing(opened, failed)

    sim.store.inner.transaction = transaction
    with pytest.raises(StoreError, match="the disk is gone"):
        sim.start(writing, "b")
    assert tally(sim.store.inner) == {}
    sim.crash()
    assert tally(sim.store.inner) == {"b": 1}


def test_side_by_side(sim):
    """Several at once in one workflow each have a transaction of their own."""

    @workflow
    async def many(ctx):
        return await asyncio.gather(*(write(ctx, name) for name in "abc"))

    assert sim.start(many).result == ["a", "b", "c"]
    assert tally(sim.store.inner) == {"a": 1, "b": 1, "c": 1}


def test_it_ends_its_own_transaction(tmp_path):
    """An activity that calls commit() itself is stuck with an error that says whose that is."""

    @activity(transactional=True, retry_policy=ONCE)
    async def greedy(ctx) -> None:
        await add(ctx.connection, "a")
        await ctx.connection.commit()

    @workflow
    async def wrong(ctx):
        await greedy(ctx)

    async def main():
        async with EddaApp(db_url=f"sqlite:///{tmp_path}/edda.db", lease_seconds=0.2) as app:
            instance_id = await app.start(wrong)
            with pytest.raises(WorkflowStuck, match=r"commit\(\) or rollback\(\)"):
                await app.result(instance_id, timeout=5)
            return len(await app.history(instance_id))

    assert asyncio.run(main()) == 1


def test_only_if_declared(sim):
    """`ctx.connection` of another activity says how to declare it."""

    @activity(retry_policy=ONCE)
    async def plain(ctx) -> None:
        _ = ctx.connection

    @workflow
    async def wrong(ctx):
        await plain(ctx)

    error = sim.start(wrong).error
    assert isinstance(error, RetryExhaustedError)
    assert isinstance(error.last_error, NoTransactionError)


def test_a_plain_function_cannot_be_transactional():
    """It would run in a thread, and the connection belongs to an event loop."""
    with pytest.raises(DefinitionError, match="Make it `async def`"):

        @activity(transactional=True)
        def blocking(ctx): ...


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/edda.db"])
def test_under_a_worker(tmp_path, url):
    """Many instances write at once; each write is there once, and nobody waits for ever."""

    @workflow
    async def waits_beside(ctx, name: str):
        written, event = await asyncio.gather(write(ctx, name), wait_event(ctx, "go"))
        return [written, event.data]

    async def main():
        async with EddaApp(db_url=url.format(tmp_path)) as app:
            ids = [await app.start(waits_beside, f"n{n}") for n in range(20)]
            await app.handle_event(
                {"specversion": "1.0", "type": "go", "source": "t", "id": "1", "data": 1}
            )
            results = [await app.result(instance_id, 10) for instance_id in ids]
            if isinstance(app.store, MemoryStore):
                return results, app.store.tables
            rows = await app.store._run(
                lambda core: core._execute(
                    "SELECT name, count(*) FROM tally GROUP BY name"
                ).fetchall()
            )
            return results, dict(rows)

    results, written = asyncio.run(main())
    assert results == [[f"n{n}", 1] for n in range(20)]
    assert written == {f"n{n}": 1 for n in range(20)}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("store", [MemoryStore, DirectSqliteStore])
def test_a_simulated_failure_of_its_commit_ends_the_transaction(store, when):
    """As in a real store, the database is free for others afterwards, and the step is done."""

    @activity(transactional=True)
    async def idle(ctx) -> int:
        return 1

    @workflow
    async def steps(ctx) -> int:
        return await idle(ctx)

    with Simulation(store=store) as sim:
        sim.store.fail_next(commit=1, when=when)
        run = sim.start(steps)
        assert run.result == 1


class CutOnce(MemoryStore):
    """Its first transaction waits for `may_end`, and then its commit fails, as on a cut line."""

    def __init__(self, clock):
        super().__init__(clock)
        self.may_end = asyncio.Event()
        self.is_cut = False

    @asynccontextmanager
    async def transaction(self):
        async with super().transaction() as transaction:

            async def fail(_):
                await self.may_end.wait()
                raise StoreUnavailableError("the line was cut")

            if not self.is_cut:
                self.is_cut, transaction.finish = True, fail
            yield transaction


@activity(transactional=True)
async def write_cut(ctx, name: str) -> str:
    await add(ctx.connection, name)
    return name


@workflow
async def writing_two(ctx):
    return await asyncio.gather(write_cut(ctx, "a"), write_cut(ctx, "b"))


@workflow
async def writing_one(ctx):
    return [await write_cut(ctx, "a")]


@pytest.mark.parametrize("flow", [writing_one, writing_two])
def test_an_answer_whose_transaction_failed_is_not_committed_by_what_comes_next(flow):
    """A turn whose transaction failed commits nothing more, whatever has come meanwhile (T2)."""

    async def main():
        store = CutOnce(SystemClock())
        app = EddaApp(store=store, workflows=[flow], lease_seconds=0.2)
        async with app:
            id = await app.start(flow)
            while not store.is_cut:
                await asyncio.sleep(0)
            app._worker.wake([id])  # as an event does that comes while the activity is at work
            for _ in range(10):
                await asyncio.sleep(0)  # the turn waits for its turn now
            store.may_end.set()
            return await app.result(id, timeout=10), dict(store.tables)

    wanted = ["a"] if flow is writing_one else ["a", "b"]
    assert asyncio.run(main()) == (wanted, dict.fromkeys(wanted, 1))
