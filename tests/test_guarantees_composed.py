"""The promises of docs/guarantees.md about sagas, channels, children, outbox and expiry."""

import asyncio
from datetime import timedelta

from edda import (
    RetryPolicy,
    TerminalError,
    activity,
    compensation,
    on_failure,
    receive,
    send_event_transactional,
    subscribe,
    wait_event,
    wait_timer,
    workflow,
)

WEEK = timedelta(days=7)


class Ledger(list):
    """What activities have done to the outside; it survives crashes."""


def crashing(sim, steps=20):
    """Let time pass to the end, with a crash at every instant at which something happens."""
    for _ in range(steps):
        sim.crash()
        if sim.next_due is None:
            return
        sim.advance_to_next()
    raise AssertionError("it does not come to an end")


# ---- Turns ---------------------------------------------------------------------------------------


@activity(transactional=True, retry_policy=RetryPolicy(max_attempts=4, initial_interval=1))
async def tally(ctx, name: str) -> int:
    rows = ctx.connection
    if hasattr(rows, "execute"):
        await rows.execute("CREATE TABLE IF NOT EXISTS tally (name TEXT)")
        await rows.execute("INSERT INTO tally VALUES (?)", (name,))
        found = await (await rows.execute("SELECT count(*) FROM tally")).fetchone()
        count = found[0]
    else:
        rows["tally"] = [*rows.get("tally", []), name]
        count = len(rows["tally"])
    if ctx.attempt < 3:
        raise OSError("after the write")
    return count


def test_transactional_writes_are_exactly_once(world):
    """Attempts that failed and processes that died have written nothing; the answer is there."""

    @workflow
    async def counting(ctx):
        counts = [await tally(ctx, name) for name in "abc"]
        await wait_event(ctx, "go")
        return counts

    with world() as sim:
        run = sim.start(counting)
        crashing(sim)
        sim.send("go")
        assert run.result == [1, 2, 3]
        assert len(run.calls(tally)) == 9


def test_an_outbox_event_goes_out_with_its_answer(world):
    """Once, from the attempt that was committed, whatever failed or died before and after."""

    @activity(retry_policy=RetryPolicy(max_attempts=3, initial_interval=1))
    async def place(ctx) -> None:
        await send_event_transactional(ctx, "placed", "shop", ctx.attempt)
        if ctx.attempt < 3:
            raise OSError("after the send")

    @workflow
    async def order(ctx):
        await place(ctx)

    with world(app_options={"broker_url": "http://broker"}) as sim:
        sim.start(order)
        crashing(sim)
        assert [event.get_data() for _, event in sim.sender.posted] == [3]


def test_a_saga_is_undone_in_reverse_across_crashes(world):
    """Each step is undone once, the newest first, although every process died."""
    ledger = Ledger()

    @compensation(retry_policy=RetryPolicy(max_attempts=3, initial_interval=5))
    async def undo(ctx, n: int) -> None:
        if ctx.attempt == 1:
            raise OSError("not yet")
        ledger.append(("undo", n))

    @activity
    @on_failure(undo)
    async def do(ctx, n: int) -> None:
        ledger.append(("do", n))

    @activity
    async def fail(ctx) -> None:
        raise TerminalError("over")

    @workflow
    async def saga(ctx):
        for n in range(3):
            await do(ctx, n)
            await wait_timer(ctx, 10)
        await fail(ctx)

    with world() as sim:
        run = sim.start(saga)
        crashing(sim)
        assert run.status == "failed"
        assert ledger == [*(("do", n) for n in range(3)), *(("undo", n) for n in (2, 1, 0))]


def test_a_child_is_started_once_and_its_end_is_heard(world):
    """Two children side by side, and a crash at every instant."""

    @workflow
    async def child(ctx, n: int) -> int:
        await wait_timer(ctx, n)
        return n * n

    @workflow
    async def parent(ctx):
        return await asyncio.gather(child.run(ctx, 3), child.run(ctx, 5))

    with world() as sim:
        run = sim.start(parent)
        crashing(sim)
        assert run.result == [9, 25]
        assert len(sim.runs) == 3


# ---- Messages ------------------------------------------------------------------------------------


@workflow
async def worker(ctx, jobs: int):
    await subscribe(ctx, "jobs", "competing")
    done = []
    for _ in range(jobs):
        done.append((await receive(ctx, "jobs")).data)
        await wait_timer(ctx, 10)
    return done


def test_a_competing_message_has_one_taker(world):
    """Whoever dies, is cancelled or gives up, each job is done by one."""
    with world() as sim:
        workers = [sim.start(worker, 2) for _ in range(4)]
        for job in range(4):
            sim.publish("jobs", job)
        sim.crash()
        workers[0].cancel()
        for job in range(4, 8):
            sim.publish("jobs", job)
        crashing(sim)
        done = [job for run in workers[1:] for job in run.result]
        assert len(done) == len(set(done)) == 6


def test_recurring_loses_no_message(world):
    """A loop that recurs for each message sees them all, in order, across crashes."""

    @workflow
    async def loop(ctx, seen: list[int] | None = None):
        await subscribe(ctx, "ticks")
        seen = [*(seen or []), (await receive(ctx, "ticks")).data]
        await wait_timer(ctx, 10)
        if len(seen) == 5:
            return seen
        await ctx.recur(seen=seen)

    with world() as sim:
        run = sim.start(loop)
        for n in range(5):
            sim.publish("ticks", n)
        crashing(sim)
        assert run.result == [0, 1, 2, 3, 4]


@workflow
async def patient(ctx):
    await wait_event(ctx, "first")
    return (await wait_event(ctx, "second")).data


def test_events_are_kept_while_they_could_be_taken(world):
    """An early event outlives the retention time, as long as somebody may come to wait for it."""
    with world() as sim:
        other = sim.start(patient)  # its workflow is known to wait for both
        sim.send("first", 0, eddainstanceid=other.id)
        sim.send("second", 0, eddainstanceid=other.id)
        run = sim.start(patient)
        sim.send("second", "early")
        sim.advance(WEEK * 10)
        assert sim.wait(sim.app.expire()) == 2  # those that were taken
        sim.send("first", 0)
        assert run.result == "early"
        sim.advance(WEEK)
        assert sim.wait(sim.app.expire()) == 1
        sim.advance(timedelta(seconds=1))
        assert sim.wait(sim.app.expire()) == 1
        assert sim.wait(sim.app.expired_messages()) == []


def test_what_expires_unread_can_be_listed(world):
    """Events that nobody could take go after the retention time, and leave a line behind."""
    with world(app_options={"retention": timedelta(days=1)}) as sim:
        sim.start(patient)
        sent = sim.send("unknown", 1, id="U-1")
        sim.advance(timedelta(days=1))
        assert sim.wait(sim.app.expire()) == 0
        sim.advance(timedelta(seconds=1))
        assert sim.wait(sim.app.expire()) == 1
        (gone,) = sim.wait(sim.app.expired_messages())
        assert (gone.type, gone.id, gone.source) == ("unknown", "U-1", sent.get_source())
        sim.send("unknown", 2, id="U-1")  # accepted again: the id is forgotten
        assert len(sim.wait(sim.app.expired_messages())) == 1
