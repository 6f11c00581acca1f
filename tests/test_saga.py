"""Sagas: what is undone, in which order, how often, and what is said when it cannot be."""

import asyncio

import pytest

from edda import (
    ArgumentError,
    CompensationError,
    DefinitionError,
    RetryPolicy,
    TerminalError,
    WorkflowCancelled,
    activity,
    compensation,
    on_failure,
    register_compensation,
    wait_event,
    wait_timer,
    workflow,
)
from edda.history import Asked

ONCE = RetryPolicy(max_attempts=1)


@compensation
async def unbook(ctx, place: str, result: str) -> None: ...


@compensation(retry_policy=ONCE)
async def refund(ctx, amount: int) -> None: ...


@activity
@on_failure(unbook)
async def book(ctx, place: str, nights: int = 1) -> str: ...


@on_failure(refund)
@activity(retry_policy=ONCE)
async def charge(ctx, amount: int) -> str: ...


@activity(retry_policy=ONCE)
async def confirm(ctx) -> None: ...


@workflow
async def trip(ctx, then: str = "fail"):
    await book(ctx, "Ritz")
    await charge(ctx, amount=100)
    if then == "wait":
        await wait_event(ctx, "confirmed")
    elif then == "fail":
        await confirm(ctx)
    return "booked"


@pytest.fixture
def sim(world):
    """A simulation on each store; no test needs every stub."""
    with world(unused_stubs=True) as simulation:
        yield simulation


@pytest.fixture
def undone(sim):
    """What compensations were called with, in order."""
    calls = []
    sim.stub(book, returns="B-1")
    sim.stub(charge, returns="C-1")
    sim.stub(unbook, side_effect=lambda place, result: calls.append(("unbook", place, result)))
    sim.stub(refund, side_effect=lambda amount: calls.append(("refund", amount)))
    return calls


def asked(run, name):
    return [event.ask for event in run.history if isinstance(event, Asked) and event.name == name]


def test_a_run_that_completes_undoes_nothing(sim, undone):
    """Compensations are for runs that end badly."""
    assert sim.start(trip, then="end").result == "booked"
    assert undone == []


def test_a_run_that_waits_undoes_nothing_yet(sim, undone):
    """While it waits, what was done stands."""
    assert sim.start(trip, then="wait").status == "waiting_for_event"
    assert undone == []


def test_failure_undoes_in_reverse(sim, undone):
    """The newest step is undone first, with the arguments and the result of the step."""
    sim.stub(confirm, raises=TerminalError("no"))
    run = sim.start(trip)
    assert run.status == "failed"
    assert str(run.error) == "no"
    assert undone == [("refund", 100), ("unbook", "Ritz", "B-1")]


def test_cancellation_undoes_in_reverse(sim, undone):
    """A cancelled run is undone too, and is cancelled then."""
    run = sim.start(trip, then="wait")
    assert run.cancel()
    assert run.status == "cancelled"
    assert undone == [("refund", 100), ("unbook", "Ritz", "B-1")]
    with pytest.raises(WorkflowCancelled):
        _ = run.result


def test_each_compensation_is_a_recorded_step(sim, undone):
    """It has an id, its arguments, and the id of the step that it undoes."""
    sim.stub(confirm, raises=TerminalError("no"))
    run = sim.start(trip)
    ((undo,), (give_back,)) = asked(run, "unbook"), asked(run, "refund")
    assert (undo.id, undo.compensates) == ("unbook:1", "book:1")
    assert undo.arguments == '{"place":"Ritz","result":"B-1"}'
    assert (give_back.id, give_back.compensates) == ("refund:1", "charge:1")


def test_only_what_completed_is_undone(sim, undone):
    """A step that failed has nothing to undo."""
    sim.stub(charge, raises=TerminalError("poor"))
    assert sim.start(trip).status == "failed"
    assert undone == [("unbook", "Ritz", "B-1")]


def test_compensations_are_retried(sim, undone):
    """By their own policy, in virtual time, with the status `compensating`."""
    sim.stub(confirm, raises=TerminalError("no"))
    sim.stub(unbook, sequence=[OSError("off"), OSError("off"), None])
    run = sim.start(trip)
    assert run.status == "compensating"
    sim.run(until=run)
    assert run.status == "failed"
    assert str(run.error) == "no"
    assert len(run.calls(unbook)) == 3


def test_a_crash_in_the_middle(sim, undone):
    """What was undone before a crash is not undone again; the rest is."""
    sim.stub(confirm, raises=TerminalError("no"))
    sim.stub(unbook, sequence=[OSError("off"), None])
    run = sim.start(trip)
    sim.crash()
    assert run.status == "compensating"
    sim.run(until=run)
    assert run.status == "failed"
    assert undone == [("refund", 100)]
    assert len(run.calls(unbook)) == 2


def test_one_that_fails_for_good(sim, undone):
    """The others still run, and the run ends `failed` with the account of both."""
    sim.stub(confirm, raises=TerminalError("no"))
    sim.stub(refund, raises=OSError("bank is closed"))
    run = sim.start(trip)
    assert undone == [("unbook", "Ritz", "B-1")]
    assert run.status == "failed"
    error = run.error
    assert isinstance(error, CompensationError)
    assert (error.undone, error.failed) == (["book:1"], ["charge:1"])
    assert "bank is closed" in str(error)
    assert isinstance(error.__cause__, TerminalError)


def test_one_that_fails_after_a_cancellation(sim, undone):
    """A cancelled run that cannot be undone has failed: somebody must look at it."""
    sim.stub(refund, raises=OSError("bank is closed"))
    run = sim.start(trip, then="wait")
    run.cancel()
    assert run.status == "failed"
    assert isinstance(run.error, CompensationError)


def test_what_is_caught_is_not_undone(sim, undone):
    """An error that the workflow handles is no failure."""

    @workflow
    async def careful(ctx):
        await book(ctx, "Ritz")
        try:
            await confirm(ctx)
        except TerminalError:
            return "kept"

    sim.stub(confirm, raises=TerminalError("no"))
    assert sim.start(careful).result == "kept"
    assert undone == []


def test_register_compensation(sim, undone):
    """Anything can be undone, with its own arguments, in the order of registration."""

    @workflow
    async def by_hand(ctx):
        places = {"place": "A", "result": "1"}
        await register_compensation(ctx, unbook, **places)
        await book(ctx, "B")
        await register_compensation(ctx, refund, 7)
        raise ValueError("over")

    run = sim.start(by_hand)
    assert run.status == "failed"
    assert undone == [("refund", 7), ("unbook", "B", "B-1"), ("unbook", "A", "1")]


def test_open_steps_are_given_up_first(sim, undone):
    """Whatever still runs beside is cancelled before anything is undone."""

    @workflow
    async def hasty(ctx):
        async with asyncio.TaskGroup() as group:
            group.create_task(book(ctx, "Ritz"))
            group.create_task(wait_timer(ctx, 3600))
            group.create_task(confirm(ctx))

    sim.stub(confirm, raises=TerminalError("no"))
    run = sim.start(hasty)
    assert run.status == "failed"
    assert undone == [("unbook", "Ritz", "B-1")]


def test_a_background_task_is_stopped_before_undoing(sim, undone):
    """A task that nobody awaits does not go on beside the compensations."""

    @workflow
    async def forgetful(ctx):
        await book(ctx, "Ritz")
        task = asyncio.create_task(wait_timer(ctx, 3600))
        await asyncio.sleep(1)
        raise ValueError(f"over, {task.done()}")

    run = sim.start(forgetful)
    sim.advance(1)
    assert run.status == "failed"
    kinds = [event.kind for event in run.history]
    assert kinds.index("timer_withdrawn") < kinds.index("activity_scheduled", 3)


def test_an_answer_that_comes_with_the_cancellation(sim, undone):
    """A step that completed is undone, even if its task was cancelled before it could go on."""

    @workflow
    async def race(ctx):
        task = asyncio.create_task(book(ctx, "Ritz"))
        await charge(ctx, 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise ValueError("over")

    run = sim.start(race)
    assert run.status == "failed"
    assert ("refund", 5) in undone
    done = {event.id for event in run.history if event.kind == "activity_completed"}
    assert (("unbook", "Ritz", "B-1") in undone) == ("book:1" in done)


def test_a_compensation_is_an_activity():
    """It can be called, retried and stubbed like one."""
    assert unbook.name == "unbook"
    assert book.compensation is unbook
    assert charge.compensation is refund


def test_arguments_that_are_not_there():
    """A compensation that needs what its activity does not have is refused where it is written."""

    @compensation
    async def undo(ctx, colour: str): ...

    with pytest.raises(
        DefinitionError, match="needs colour, which 'paint' does not have"
    ) as caught:

        @activity
        @on_failure(undo)
        def paint(ctx, color: str): ...

    assert "rename the parameter" in str(caught.value)


def test_bad_calls(sim):
    """A wrong context and a plain function are refused with the cure."""

    @workflow
    async def wrong(ctx):
        await register_compensation(ctx, len)

    run = sim.start(wrong)
    assert isinstance(run.error, ArgumentError)
    assert "decorated with @compensation or @activity" in str(run.error)
    with pytest.raises(ArgumentError, match="workflow's ctx"):
        register_compensation(None, unbook)
    with pytest.raises(DefinitionError, match="@on_failure decorates an activity"):
        on_failure(unbook)(3)


def test_a_cancellation_while_undoing(sim, undone):
    """Who asks for cancellation while a run is undone changes nothing: all of it is undone."""
    sim.stub(confirm, raises=ValueError("full"))
    sim.stub(refund, side_effect=slow_refund(undone))
    run = sim.start(trip)
    assert run.status == "compensating"
    assert run.cancel()
    sim.advance(10)
    assert (run.status, [name for name, *_ in undone]) == ("failed", ["refund", "unbook"])
    assert "full" in str(run.error)


def slow_refund(undone):
    async def refund(amount):
        await asyncio.sleep(10)
        undone.append(("refund", amount))

    return refund


def test_a_result_that_cannot_be_stored_undoes(sim, undone):
    """A run that fails because its result cannot be stored is undone like any that fails."""

    @workflow
    async def odd(ctx):
        await book(ctx, "Ritz")
        return {1, 2}

    run = sim.start(odd)
    assert (run.status, undone) == ("failed", [("unbook", "Ritz", "B-1")])
    assert "cannot be stored" in str(run.error)
