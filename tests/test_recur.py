"""`ctx.recur`: a fresh history, the same instance, nothing lost."""

import asyncio

import pytest

from edda import (
    ArgumentError,
    activity,
    compensation,
    publish,
    receive,
    register_compensation,
    subscribe,
    wait_event,
    wait_timer,
    workflow,
)
from edda.history import Started
from edda_testkit import NotReplayableRun, check_crashes


@activity
async def note(ctx, n: int) -> str:
    return ctx.idempotency_key


@workflow
async def counting(ctx, n: int = 0, last: int = 3):
    await wait_timer(ctx, 60)
    if n == last:
        return n
    await ctx.recur(n=n + 1, last=last)
    raise AssertionError("it does not return")


def started(run):
    first = run.history[0]
    assert isinstance(first, Started)
    return first


def test_recur_goes_on(sim):
    """The workflow runs again with the new arguments, under the same id."""
    run = sim.start(counting, instance_id="C")
    sim.run(until=run)
    assert run.result == 3
    assert [run.id for run in sim.runs] == ["C"]


def test_recur_begins_a_fresh_history(sim):
    """A loop of any length has a short history, which says how often it recurred."""
    run = sim.start(counting, last=50)
    sim.run(until=run)
    assert len(run.history) == 4
    assert started(run).recurred == 50
    assert started(run).arguments == '{"n":50,"last":50}'


def test_recur_still_waits(sim):
    """Between two rounds the instance waits like any other."""
    run = sim.start(counting)
    sim.advance(60)
    assert run.status == "waiting_for_timer"
    assert started(run).recurred == 1


def test_crashes_between_rounds(sim):
    """A round that has begun is not begun again."""
    run = sim.start(counting)
    for _ in range(4):
        sim.crash()
        sim.advance(60)
    assert run.result == 3


def test_recur_keeps_subscriptions_and_messages(sim):
    """What is published while a round runs is there for the next, in order."""

    @workflow
    async def loop(ctx, seen: list[int] | None = None):
        await subscribe(ctx, "ticks")
        message = await receive(ctx, "ticks")
        await wait_event(ctx, "next")
        seen = [*(seen or []), message.data]
        if len(seen) == 4:
            return seen
        await ctx.recur(seen=seen)

    run = sim.start(loop)
    for n in range(4):
        sim.publish("ticks", n)
    for _ in range(4):
        sim.send("next")
    assert run.result == [0, 1, 2, 3]


def test_recur_keeps_events(sim):
    """An event that came early and was not taken answers a wait of a later round."""

    @workflow
    async def loop(ctx, n: int = 0):
        event = await wait_event(ctx, "step")
        if n == 2:
            return event.data
        await ctx.recur(n=n + 1)

    run = sim.start(loop)
    for n in range(3):
        sim.send("step", n)
    assert run.result == 2


def test_recur_in_the_middle_of_others(sim):
    """Whatever is open is given up, and nothing runs after it."""
    after = []

    @workflow
    async def hasty(ctx, again: bool = True):
        async def other():
            try:
                await wait_event(ctx, "never")
            finally:
                after.append("finally")

        task = asyncio.create_task(other())
        await asyncio.sleep(0)
        if again:
            await ctx.recur(again=False)
        task.cancel()
        return "done"

    run = sim.start(hasty)
    sim.run(until=run)
    assert run.result == "done"
    assert [event.kind for event in run.history].count("event_awaited") == 1


def test_keys_differ_between_rounds(sim):
    """Idempotency keys, ids of events and children of one round are not those of another."""
    keys = []

    @workflow
    async def charging(ctx, n: int = 0):
        keys.append(await note(ctx, n))
        await publish(ctx, "charged", n)
        if n == 2:
            return
        await ctx.recur(n=n + 1)

    @workflow
    async def listener(ctx):
        await subscribe(ctx, "charged")
        return [(await receive(ctx, "charged")).data for _ in range(3)]

    heard = sim.start(listener)
    run = sim.start(charging, instance_id="C")
    sim.run(until=run)
    assert set(keys) == {"C/note:1", "C~1/note:1", "C~2/note:1"}
    assert heard.result == [0, 1, 2]


def test_randomness_differs_between_rounds(sim):
    """Each round has a seed of its own, which follows from the first."""

    @workflow
    async def drawing(ctx, drawn: list[float] | None = None):
        drawn = [*(drawn or []), ctx.random.random()]
        if len(drawn) == 3:
            return drawn
        await ctx.recur(drawn=drawn)

    run = sim.start(drawing)
    sim.run(until=run)
    assert len(set(run.result)) == 3


def test_compensations_are_forgotten(sim):
    """A round that ended well is not undone by a later one."""
    undone = []

    @compensation
    async def undo(ctx, n: int) -> None:
        undone.append(n)

    @workflow
    async def saga(ctx, n: int = 0):
        await register_compensation(ctx, undo, n)
        if n == 1:
            raise ValueError("over")
        await ctx.recur(n=n + 1)

    run = sim.start(saga)
    sim.run()
    assert run.status == "failed"
    assert set(undone) == {1}


def test_a_cancellation_meets_the_next_round(sim):
    """An instance that recurs all the time can be cancelled."""
    run = sim.start(counting, last=10**9)
    sim.advance(300)
    assert run.cancel()
    assert run.status == "cancelled"


def test_arguments_are_checked(sim):
    """Arguments that do not fit fail the workflow where it recurs."""

    @workflow
    async def wrong(ctx, n: int):
        await ctx.recur(m=1)

    run = sim.start(wrong, 1)
    assert isinstance(run.error, ArgumentError)
    assert "it takes (n: int)" in str(run.error)


def test_every_round_is_replayed(sim):
    """Code that changes between rounds leaves the instance stuck, not lost."""
    run = sim.start(counting, instance_id="C")
    sim.advance(60)

    @workflow(name="counting")
    async def other(ctx, n: int = 0, last: int = 3):
        await wait_event(ctx, "else")

    sim.deploy(other)
    sim.advance(60)
    assert run.status == "stuck"
    sim.deploy(counting)
    sim.run(until=run)
    assert run.result == 3


def test_rounds_that_are_over_are_replayed_too(world):
    """A test fails for code that is not deterministic, also when its history is gone."""
    seen = []

    @workflow
    async def forgetful(ctx, n: int = 0):
        seen.append(n)
        await wait_timer(ctx, 1 if len(seen) < 3 else 2)
        await (note(ctx, n) if len(seen) < 3 else publish(ctx, "x", 1))
        if n == 2:
            return
        await ctx.recur(n=n + 1)

    def passes():
        with world() as sim:
            sim.stub(note, returns="x")
            sim.start(forgetful)
            sim.run()

    with pytest.raises(NotReplayableRun):
        passes()


def test_the_ledger_counts_each_round(world):
    """A step of each round is executed once in it, wherever the worker is killed."""

    @workflow
    async def noting(ctx, n: int = 0):
        await note(ctx, n)
        if n == 2:
            return
        await ctx.recur(n=n + 1)

    def scenario(sim):
        sim.run(until=sim.start(noting))

    check_crashes(scenario)


def test_a_start_that_is_repeated_after_a_round_is_the_same_start(sim):
    """Who repeats a start after the instance recurred is answered, not told of other arguments."""
    run = sim.start(counting, 0, instance_id="C")
    sim.advance(60)
    assert started(run).recurred == 1
    assert sim.wait(sim.app.start(counting, 0, instance_id="C")) == "C"
    sim.run(until=run)
    assert run.result == 3
