"""The checks about transactions of activities: what they write is there iff their answer is.

What is written goes through the store's own connection: a mapping, or anything that has `execute`
(and `fetch` or `execute_fetchall`) for SQL.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from edda.errors import StoreError
from edda.ports import Transaction
from edda_testkit.contract.bench import Bench, law, refused, same, wait

# No check takes a second: who waits longer waits for ever.
PATIENCE_SECONDS = 10.0

# ---- Writing -----------------------------------------------------------------------------------


async def prepare(bench: Bench) -> None:
    """Make the table that is written to, where the store has tables."""
    claimed = await bench.begin("prepare")
    async with bench.store.transaction() as transaction:
        if not isinstance(transaction.connection, MutableMapping):
            await transaction.connection.execute("CREATE TABLE contract_note (name TEXT)")
        await bench.step(claimed, through=transaction)


async def write(transaction: Transaction, name: str) -> None:
    """Write through the connection of a transaction."""
    connection = transaction.connection
    if isinstance(connection, MutableMapping):
        connection[name] = name
    else:
        await connection.execute(f"INSERT INTO contract_note VALUES ('{name}')")  # noqa: S608 - ours


async def seen(connection: Any) -> list[str]:
    """What was written, as this connection sees it."""
    if isinstance(connection, MutableMapping):
        return sorted(connection)
    fetch = getattr(connection, "fetch", None) or connection.execute_fetchall
    return sorted(row[0] for row in await fetch("SELECT name FROM contract_note"))


async def notes(bench: Bench) -> list[str]:
    """What was written and committed."""
    async with bench.store.transaction() as transaction:
        return await seen(transaction.connection)


# ---- Together ----------------------------------------------------------------------------------


@law("T2")
async def a_transaction_commits_both(bench: Bench) -> None:
    """What was written and the step are there together, with all that goes with the step."""
    await prepare(bench)
    await bench.suspend("b", wait())
    claimed = await bench.begin()
    async with bench.store.transaction() as transaction:
        await write(transaction, "x")
        await write(transaction, "y")
        same(await seen(transaction.connection), ["x", "y"])
        committed = await bench.step(
            claimed,
            events=[bench.asked(1)],
            messages=[bench.event()],
            outbox=[bench.event()],
            through=transaction,
        )
    same((committed.woken, committed.is_released), (("b",), True))
    same(await notes(bench), ["x", "y"])
    same(len(await bench.store.history("a")), 2, "events")
    same(len(await bench.store.outgoing()), 1, "outgoing")
    same(await bench.ready(), ["b"])


@law("T2")
async def a_transaction_that_is_left_undoes_both(bench: Bench) -> None:
    """Without `commit` nothing was written, and the turn goes on as if it had not been."""
    await prepare(bench)
    claimed = await bench.begin()
    async with bench.store.transaction() as transaction:
        await write(transaction, "x")
    same(await notes(bench), [])
    await bench.step(claimed, events=[bench.asked(1)])
    same(await notes(bench), [])


@law("T2")
async def an_error_undoes_both(bench: Bench) -> None:
    """What the body raises reaches the caller, and nothing was written."""
    await prepare(bench)
    await bench.begin()
    try:
        async with bench.store.transaction() as transaction:
            await write(transaction, "x")
            raise ZeroDivisionError
    except ZeroDivisionError:
        same(await notes(bench), [])
    else:
        raise AssertionError("the error of the body was swallowed")


@law("T2")
async def an_error_after_the_commit_undoes_nothing(bench: Bench) -> None:
    """What was committed stays, whatever happens then."""
    await prepare(bench)
    claimed = await bench.begin()
    try:
        async with bench.store.transaction() as transaction:
            await write(transaction, "x")
            await bench.step(claimed, events=[bench.asked(1)], through=transaction)
            raise ZeroDivisionError
    except ZeroDivisionError:
        same((await notes(bench), len(await bench.store.history("a"))), (["x"], 2))


@law("T3")
async def a_lost_lease_undoes_what_was_written(bench: Bench) -> None:
    """A commit that is refused takes what was written with it; nothing of the step happens."""
    await prepare(bench)
    await bench.suspend("b", wait())
    old = await bench.begin()
    bench.clock.advance(31)
    new = await bench.claim_one()
    async with bench.store.transaction() as transaction:
        await write(transaction, "x")
        commit = bench.step(
            old,
            events=[bench.asked(1)],
            messages=[bench.event(id="e")],
            outbox=[bench.event()],
            through=transaction,
        )
        await refused(old.lease, commit)
    same(await notes(bench), [])
    same((await bench.store.outgoing(), await bench.ready()), ([], []))
    same((await bench.send(id="e")).is_duplicate, False)
    await bench.step(new, events=[bench.asked(1)])


@law("T2")
async def a_transaction_may_be_rolled_back(bench: Bench) -> None:
    """After `rollback` nothing was written, and the step may be committed without it, at once."""
    await prepare(bench)
    claimed = await bench.begin()
    async with asyncio.timeout(PATIENCE_SECONDS), bench.store.transaction() as transaction:
        await write(transaction, "x")
        await transaction.rollback()
        await bench.step(claimed, events=[bench.asked(1)])
        same(len(await bench.store.history("a")), 2, "events")
    same(await notes(bench), [])


@law("T2")
async def a_commit_ends_the_transaction(bench: Bench) -> None:
    """After `commit` the store goes on, before the body is left: it may be called from there."""
    await prepare(bench)
    claimed = await bench.begin()
    async with asyncio.timeout(PATIENCE_SECONDS), bench.store.transaction() as transaction:
        await write(transaction, "x")
        await bench.step(claimed, events=[bench.asked(1)], release=False, through=transaction)
        await bench.step(claimed, events=[bench.asked(2)])
        async with bench.store.transaction() as other:
            await write(other, "y")
    same((await notes(bench), len(await bench.store.history("a"))), (["x"], 3))


@law("T2")
async def a_transaction_ends_once(bench: Bench) -> None:
    """What has ended takes no second commit: `StoreError`, and nothing happens."""
    await prepare(bench)
    claimed = await bench.begin()
    for is_committed in (True, False):
        async with bench.store.transaction() as transaction:
            if is_committed:
                await bench.step(claimed, release=False, through=transaction)
            else:
                await transaction.rollback()
            commit = bench.step(claimed, events=[bench.asked(1)], through=transaction)
            (found,) = await asyncio.gather(commit, return_exceptions=True)
            same(isinstance(found, StoreError), True, f"{found!r} is a StoreError")
            await transaction.rollback()
    same(len(await bench.store.history("a")), 1, "events")


# ---- Beside others -----------------------------------------------------------------------------


@law("T2", needs_patience=True)
async def transactions_come_one_after_another_or_side_by_side(bench: Bench) -> None:
    """Of many at the same time, those that commit have written, the others have not."""
    await prepare(bench)
    ids = [f"i{n}" for n in range(8)]
    held = {id: await bench.begin(id) for id in ids}

    async def act(id: str) -> None:
        async with bench.store.transaction() as transaction:
            await write(transaction, id)
            await asyncio.sleep(0)
            if id in ids[::2]:
                await bench.step(held[id], events=[bench.asked(1)], through=transaction)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*map(act, ids))
    same(await notes(bench), ids[::2])
    same([len(await bench.store.history(id)) for id in ids], [2, 1] * 4)


@law("T2", needs_patience=True)
async def nobody_sees_half_of_a_transaction(bench: Bench) -> None:
    """Calls made meanwhile succeed, now or when it is over, and see all of it or nothing."""
    await prepare(bench)
    claimed, other = await bench.begin("a"), await bench.begin("b")
    is_open = asyncio.Event()

    async def act() -> None:
        async with bench.store.transaction() as transaction:
            await write(transaction, "x")
            is_open.set()
            for _ in range(20):
                await asyncio.sleep(0)
            await bench.step(
                claimed, events=[bench.asked(1)], outbox=[bench.event()], through=transaction
            )

    async def look() -> tuple[int, int, int]:
        await is_open.wait()
        found = await asyncio.gather(
            bench.store.history("a"),
            bench.store.outgoing(),
            bench.step(other, events=[bench.asked(1)]),
            bench.store.deliver([bench.event()]),
            notes(bench),
        )
        return len(found[0]), len(found[1]), len(found[4])

    async with asyncio.timeout(PATIENCE_SECONDS):
        _, found = await asyncio.gather(act(), look())
    same(found in ((1, 0, 0), (1, 0, 1), (2, 1, 1)), True, f"{found} is all or nothing")
    same((await notes(bench), len(await bench.store.history("b"))), (["x"], 2))


@law("T2", needs_patience=True)
async def who_is_cancelled_leaves_a_store_that_works(bench: Bench) -> None:
    """A task that is cancelled at any point of its transaction did all of it, or nothing."""
    await prepare(bench)
    written = []
    for n in range(30):
        claimed = await bench.begin(f"i{n}")

        async def act(name: str = f"i{n}", claimed: Any = claimed) -> None:
            async with bench.store.transaction() as transaction:
                await write(transaction, name)
                await bench.step(claimed, events=[bench.asked(1)], through=transaction)

        task = asyncio.create_task(act())
        for _ in range(n):
            await asyncio.sleep(0.0001 if n % 2 else 0)
        task.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait([task])
            found = await notes(bench)
            length = len(await bench.store.history(f"i{n}"))
        written += [f"i{n}"] if length == 2 else []
        same(found, sorted(written), f"written, cancelled after {n}")


@law("T2", needs_patience=True)
async def who_is_cancelled_in_the_queue_disturbs_nobody(bench: Bench) -> None:
    """A task that is cancelled while it waits for another's transaction has no part in it."""
    await prepare(bench)
    claimed = await bench.begin()
    is_open, goes_on = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        async with bench.store.transaction() as transaction:
            await write(transaction, "x")
            is_open.set()
            await goes_on.wait()
            await bench.step(claimed, events=[bench.asked(1)], through=transaction)

    first = asyncio.create_task(act())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await is_open.wait()
        waiting = [asyncio.create_task(notes(bench)) for _ in range(4)]
        await asyncio.sleep(0)
        for one in waiting[:2]:
            one.cancel()
        goes_on.set()
        await first
        found = await asyncio.gather(*waiting, return_exceptions=True)
    same([one for one in found[2:] if one not in (["x"], [])], [], "what the others saw")
    same((await notes(bench), len(await bench.store.history("a"))), (["x"], 2))
