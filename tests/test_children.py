"""Workflows that start workflows: once, with an id, and told how they end."""

import asyncio

import pytest

from edda import (
    ArgumentError,
    InstanceExistsError,
    NotReplayableError,
    RetryExhaustedError,
    WorkflowCancelled,
    WorkflowFailed,
    activity,
    wait_event,
    wait_timer,
    workflow,
)
from edda.events import as_envelope
from edda_testkit import NondeterministicCall


@workflow
async def double(ctx, n: int, seconds: float = 10) -> int:
    await wait_timer(ctx, seconds)
    if n < 0:
        raise ValueError("negative")
    return 2 * n


@workflow
async def parent(ctx, n: int, instance_id: str | None = None):
    return await double.run(ctx, n, instance_id=instance_id)


# ---- run: suspends, completes, still waiting ---------------------------------------------------


def test_run_suspends(sim):
    """The parent is stored and waits for the end of its child."""
    run = sim.start(parent, 4)
    assert run.status == "waiting_for_event"
    (waiting,) = run.waiting_for
    assert (waiting.kind, waiting.id, waiting.name) == ("child", "double.result:1", "double")


def test_run_completes(sim):
    """The child's result is what `run` returns."""
    run = sim.start(parent, 4)
    sim.advance(10)
    assert run.result == 8


def test_run_still_waits(sim):
    """The end of another instance of that workflow is not the child's."""
    run = sim.start(parent, 4)
    other = sim.start(double, 1, seconds=1)
    sim.advance(5)
    assert other.result == 2
    assert run.status == "waiting_for_event"


def test_the_childs_id(sim):
    """It follows from the parent's and the step, or is the one given."""
    sim.start(parent, 4, instance_id="P")
    refused = sim.start(parent, 4, "", instance_id="Q")
    assert isinstance(refused.error, ArgumentError)
    sim.start(parent, 5, "mine", instance_id="R")
    assert {"P.double:1", "mine"} <= {run.id for run in sim.runs}


def test_a_childs_failure(sim):
    """`run` raises `WorkflowFailed`, whose cause is the child's own exception."""

    @workflow
    async def careful(ctx):
        try:
            await double.run(ctx, -1)
        except WorkflowFailed as error:
            return [type(error.__cause__).__name__, str(error.__cause__)]

    run = sim.start(careful)
    sim.advance(10)
    assert run.result == ["ValueError", "negative"]


def test_a_childs_cancellation(sim):
    """`run` raises `WorkflowCancelled`."""
    run = sim.start(parent, 4, instance_id="P")
    child = next(run for run in sim.runs if run.id == "P.double:1")
    child.cancel()
    assert isinstance(run.error, WorkflowCancelled)


def test_a_cancelled_parent(sim):
    """It takes the child along that it waits for."""
    run = sim.start(parent, 4, instance_id="P")
    run.cancel()
    assert {run.id: run.status for run in sim.runs} == {
        "P": "cancelled",
        "P.double:1": "cancelled",
    }


def test_giving_up_a_child(sim):
    """A timeout around `run` cancels the child."""

    @workflow
    async def impatient(ctx):
        try:
            async with asyncio.timeout(5):
                await double.run(ctx, 4)
        except TimeoutError:
            return "gave up"

    run = sim.start(impatient, instance_id="P")
    sim.advance(5)
    assert run.result == "gave up"
    assert next(run for run in sim.runs if run.id == "P.double:1").status == "cancelled"


def test_several_children_at_once(sim):
    """`gather` over children waits for all, and each is its own instance."""

    @workflow
    async def many(ctx):
        return await asyncio.gather(*(double.run(ctx, n, seconds=9 - n) for n in range(3)))

    run = sim.start(many)
    sim.run(until=run)
    assert run.result == [0, 2, 4]
    assert len(sim.runs) == 4


def test_crashes_start_no_second_child(sim):
    """Whenever the workers die, there is one child, and its end is heard."""
    run = sim.start(parent, 4)
    for _ in range(3):
        sim.crash()
        sim.advance(3)
    sim.advance(10)
    assert run.result == 8
    assert len(sim.runs) == 2


def test_an_id_that_is_taken(sim):
    """A child cannot be an instance that somebody else has started."""
    sim.start(double, 5, instance_id="mine")
    run = sim.start(parent, 5, "mine")
    sim.run()
    assert isinstance(run.error, RetryExhaustedError)
    assert isinstance(run.error.last_error, InstanceExistsError)


def test_the_news_of_an_end_cannot_be_forged(sim):
    """An event from outside cannot say how a child ended."""
    run = sim.start(parent, 4, instance_id="P")
    document = {"type": "edda.ended.double", "source": "edda", "id": "x", "subject": "P.double:1"}
    with pytest.raises(ArgumentError, match="the engine's own"):
        sim.wait(sim.app.handle_events([as_envelope(document, {"result": 1})]))
    assert run.status == "waiting_for_event"


# ---- start -------------------------------------------------------------------------------------


def test_start_does_not_wait(sim):
    """In a workflow it is a recorded step that answers with the id."""

    @workflow
    async def launcher(ctx):
        child = await double.start(ctx, 4)
        await wait_event(ctx, "go")
        return child

    run = sim.start(launcher, instance_id="L")
    sim.crash()
    sim.send("go")
    assert run.result == "L.double:1"
    sim.advance(10)
    assert [one.result for one in sim.runs if one.id == "L.double:1"] == [8]


def test_start_survives_its_parents_end(sim):
    """What was only started lives its own life."""

    @workflow
    async def launcher(ctx):
        await double.start(ctx, 4, instance_id="own")
        await wait_event(ctx, "go")

    run = sim.start(launcher)
    run.cancel()
    sim.advance(10)
    assert next(one for one in sim.runs if one.id == "own").result == 8


def test_start_in_an_activity(sim):
    """There it is plain code, with an id of one's choosing."""

    @activity
    async def launch(ctx) -> str:
        return await double.start(4, instance_id=f"{ctx.idempotency_key}/child")

    @workflow
    async def launcher(ctx):
        return await launch(ctx)

    run = sim.start(launcher, instance_id="L")
    assert run.result == "L/launch:1/child"
    assert len(sim.runs) == 2


def test_start_without_a_context(world):
    """In workflow code it says to pass the context; in a test the guard says it first."""

    @workflow
    async def careless(ctx):
        await double.start(4)

    with world(guard="off") as sim:
        run = sim.start(careless)
        assert isinstance(run.error, NotReplayableError)
        assert "await double.start(ctx, ...)" in str(run.error)
    with world() as sim, pytest.raises(NondeterministicCall, match="Pass the context"):
        sim.start(careless)


def test_bad_arguments(sim):
    """They are refused where they are given, before a child exists."""

    @workflow
    async def wrong(ctx):
        await double.run(ctx, "four")

    run = sim.start(wrong)
    assert isinstance(run.error, ArgumentError)
    assert len(sim.runs) == 1
    with pytest.raises(ArgumentError, match="workflow's ctx"):
        double.run(None, 4)


@workflow
async def same_child(ctx, left: int = 1):
    one, two = await asyncio.gather(*(double.run(ctx, 2, instance_id="K") for _ in range(2)))
    three = await double.run(ctx, 2, instance_id="K")
    if left:
        await ctx.recur(left=left - 1)
    return [one, two, three]


def test_one_child_run_several_times(sim):
    """A child that is run again by its id starts once, and has ended as it did: nobody hangs."""
    run = sim.start(same_child)
    sim.advance(10)
    assert run.result == [4, 4, 4]
    assert [child.id for child in sim.runs].count("K") == 1
