"""A simulation: what each verb does, when time moves, and that nothing hangs or lingers."""

import asyncio
import gc
import time
import weakref
from datetime import UTC, datetime, timedelta

import aiosqlite
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda import (
    ActivityTimeoutError,
    InstanceExistsError,
    InvalidEventError,
    RetryExhaustedError,
    RetryPolicy,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowStuck,
    activity,
    send_event,
    sleep,
    wait_event,
    workflow,
)
from edda.errors import NoAppError
from edda_testkit import Misuse, Simulation, Stalled, StuckRun, WorkflowNotFinished
from edda_testkit.freeze import Freezer

START = datetime(2000, 1, 1, tzinfo=UTC)
ONCE = RetryPolicy(max_attempts=1)


def later(seconds):
    return START + timedelta(seconds=seconds)


@pytest.fixture
def sim():
    with Simulation() as simulation:
        yield simulation


@activity
async def note(ctx, word: str) -> str:
    return word


@activity
async def nap(ctx, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return datetime.now(UTC).isoformat()


@workflow
async def paid(ctx, timeout: float | None = 60):
    await note(ctx, "before")
    event = await wait_event(ctx, "paid", timeout_seconds=timeout)
    await note(ctx, "after")
    return event.data


@workflow
async def napping(ctx, seconds: float):
    return await nap(ctx, seconds)


@workflow
async def two_timers(ctx):
    await sleep(ctx, 10)
    await sleep(ctx, 20)
    return ctx.now().isoformat()


# ---- Starting ----------------------------------------------------------------------------------


def test_start_runs_up_to_the_first_wait_and_moves_no_time(sim):
    """`start` returns when the workflow waits, at the same instant."""
    run = sim.start(paid)
    assert run.status == "waiting_for_event"
    assert [call.args for call in run.calls(note)] == [("before",)]
    assert sim.now == START


def test_an_activity_asleep_leaves_its_run_running(sim):
    """`start` does not wait for an activity in a virtual sleep."""
    run = sim.start(napping, 5)
    assert run.status == "running"
    assert sim.now == START


def test_the_same_instance_is_the_same_run(sim):
    """Starting an instance again with the same arguments gives the run that is there."""
    assert sim.start(paid, instance_id="P") is sim.start(paid, instance_id="P")
    with pytest.raises(InstanceExistsError):
        sim.start(paid, 5, instance_id="P")


def test_first_instant_and_seed_are_the_callers():
    """`start=` sets the first instant, `seed=` the ids."""
    with Simulation(start=later(60), seed=1) as one, Simulation(seed=2) as other:
        assert one.now == later(60)
        assert one.start(paid).id != other.start(paid).id
    with pytest.raises(ValueError, match="time zone"):
        Simulation(start=datetime(2000, 1, 1))  # noqa: DTZ001


def test_a_simulation_that_is_not_open_says_so():
    """Outside its block a simulation refuses to do anything, and it is entered only once."""
    sim = Simulation()
    with pytest.raises(NoAppError, match="with Simulation"):
        sim.start(paid)
    with sim:
        pass
    with pytest.raises(NoAppError, match="advance_to"):
        sim.advance(1)
    with pytest.raises(Misuse, match="once"):
        sim.__enter__()


# ---- Time --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "units", "seconds"),
    [
        ((90,), {}, 90),
        ((1.5,), {}, 1.5),
        ((timedelta(minutes=2),), {}, 120),
        ((), {"days": 1, "hours": 1, "minutes": 1, "seconds": 1, "milliseconds": 1}, 90061.001),
        ((1,), {"seconds": 1}, 2),
        ((), {}, 0),
    ],
)
def test_advance_takes_time_in_every_form(sim, args, units, seconds):
    """Seconds, a timedelta and units add up to where the clock then stands."""
    sim.advance(*args, **units)
    assert sim.now == later(seconds)


def test_time_does_not_go_backward(sim):
    """Neither `advance` nor `advance_to` goes back, and an instant needs a time zone."""
    with pytest.raises(ValueError, match="forward only"):
        sim.advance(-1)
    with pytest.raises(ValueError, match="never goes backward"):
        sim.advance_to(later(-1))
    with pytest.raises(ValueError, match="needs a time zone"):
        sim.advance_to(datetime(2001, 1, 1))  # noqa: DTZ001


def test_advance_fires_each_timer_at_its_own_instant(sim):
    """Timers on the way read their exact due time, and the clock ends at the target."""
    run = sim.start(two_timers)
    sim.advance_to(later(1000))
    assert run.result == later(30).isoformat()
    assert [event.at for event in run.history if event.kind == "timer_fired"] == [
        later(10),
        later(30),
    ]
    assert sim.now == later(1000)


def test_advance_to_next_goes_from_due_to_due(sim):
    """`advance_to_next` stops at each due instant, and says when there is none."""
    run = sim.start(two_timers)
    assert sim.next_due == later(10)
    assert [sim.advance_to_next(), sim.advance_to_next()] == [later(10), later(30)]
    assert run.is_finished
    assert sim.next_due is None
    with pytest.raises(Stalled, match="Nothing is due any more"):
        sim.advance_to_next()


def test_run_goes_until_the_run_has_finished(sim):
    """`run(until=)` stops where the run finishes; other runs stay where they are."""
    other = sim.start(napping, 500)
    run = sim.start(two_timers)
    assert sim.run(until=run) is run
    assert sim.now == later(30)
    assert other.status == "running"
    assert sim.run() is None
    assert other.result == later(500).isoformat()


def test_run_says_what_can_never_come(sim):
    """`run(until=)` of a run that waits for an event names the wait and its source line."""
    run = sim.start(paid, None, instance_id="P-1")
    with pytest.raises(Stalled) as stalled:
        sim.run(until=run)
    assert str(stalled.value) == (
        "Nothing is due any more, and paid 'P-1' has not finished. What is waited for.\n"
        f"  paid 'P-1': {run.waiting_for[0]}\n"
        "Send the event with sim.send(...), or give the wait a timeout."
    )
    assert "test_simulation.py:" in str(run.waiting_for[0])


def test_a_lease_is_nothing_that_comes_by_itself(sim):
    """An activity that waits for ever stalls; the end of its lease is no event."""

    @activity
    async def forever(ctx):
        await asyncio.Event().wait()

    @workflow
    async def stands_still(ctx):
        await forever(ctx)

    run = sim.start(stands_still)
    with pytest.raises(Stalled, match="forever:1"):
        sim.run(until=run)


def test_a_run_without_end_is_noticed(sim, monkeypatch):
    """A workflow that sleeps for ever does not keep `run` for ever."""

    @workflow
    async def ticks(ctx):
        while True:
            await sleep(ctx, 1)

    monkeypatch.setattr("edda_testkit.simulation.MAX_INSTANTS", 20)
    sim.start(ticks)
    with pytest.raises(Stalled, match="After 20 due instants a run still goes on"):
        sim.run()


def test_the_clock_is_one_for_activity_helper_and_test(sim):
    """`datetime.now` and `time.time` agree everywhere; stopwatches stay real."""
    seen = {}

    @activity
    async def look(ctx):
        seen["activity"] = datetime.now(UTC), time.time()

    @workflow
    async def looks(ctx):
        await sleep(ctx, 7)
        await look(ctx)

    before = time.perf_counter()
    run = sim.start(looks)
    sim.run(until=run)
    assert seen["activity"] == (later(7), later(7).timestamp())
    assert (datetime.now(UTC), time.time()) == seen["activity"]
    assert sim.now == later(7)
    assert time.perf_counter() - before < 5


# ---- Activities --------------------------------------------------------------------------------


def test_sleep_in_an_activity_takes_virtual_time(sim):
    """`asyncio.sleep(3600)` takes a virtual hour, and no real one."""
    run = sim.start(napping, 3600)
    sim.advance(3599)
    assert run.status == "running"
    sim.advance(1)
    assert run.result == later(3600).isoformat()


def test_a_timer_due_while_an_activity_runs_fires_on_time(sim):
    """A timer beside a long activity fires at its instant, not after the activity."""

    @workflow
    async def beside(ctx):
        async with asyncio.TaskGroup() as group:
            group.create_task(nap(ctx, 100))
            await sleep(ctx, 10)
            await note(ctx, "ten")

    run = sim.start(beside)
    sim.run(until=run)
    assert [call.at for call in run.calls(note)] == [later(10)]
    assert sim.now == later(100)


def test_gathered_activities_sleep_side_by_side(sim):
    """Three naps of 3, 1 and 2 seconds take three seconds in all."""

    @workflow
    async def gathers(ctx):
        return await asyncio.gather(nap(ctx, 3), nap(ctx, 1), nap(ctx, 2))

    run = sim.start(gathers)
    sim.run(until=run)
    assert run.result == [later(n).isoformat() for n in (3, 1, 2)]
    assert sim.now == later(3)


def test_a_timeout_of_an_activity_is_virtual(sim):
    """An attempt is given up at exactly its timeout."""

    @activity(timeout_seconds=30, retry_policy=ONCE)
    async def slow(ctx):
        await asyncio.sleep(31)

    @workflow
    async def impatient(ctx):
        await slow(ctx)

    run = sim.start(impatient)
    sim.run(until=run)
    assert sim.now == later(30)
    assert isinstance(run.error.__cause__, ActivityTimeoutError)


def test_retries_wait_in_virtual_time(sim):
    """Attempts are made when the policy says, each with its number."""

    @activity(retry_policy=RetryPolicy(max_attempts=3, initial_interval=10, backoff_coefficient=2))
    async def fails(ctx):
        raise OSError("away")

    @workflow
    async def tries(ctx):
        await fails(ctx)

    run = sim.start(tries)
    assert run.status == "waiting_for_retry"
    (second,) = [waiting.due for waiting in run.waiting_for]
    assert later(9) <= second <= later(10)  # the policy spreads crowds by up to a tenth
    sim.run(until=run)
    calls = run.calls()
    assert [call.attempt for call in calls] == [1, 2, 3]
    assert [call.at for call in calls[:2]] == [START, second]
    assert timedelta(seconds=18) <= calls[2].at - second <= timedelta(seconds=20)
    assert isinstance(run.error, RetryExhaustedError)


def test_real_io_holds_virtual_time(sim, tmp_path):
    """Queries to a real database come back before a sleep of an hour beside them fires."""

    @activity
    async def queries(ctx) -> int:
        async with aiosqlite.connect(tmp_path / "real.db") as db:
            for _ in range(20):
                cursor = await db.execute("SELECT 1")
                await cursor.fetchone()
        return int((datetime.now(UTC) - START).total_seconds())

    @workflow
    async def both(ctx):
        return await asyncio.gather(queries(ctx), nap(ctx, 3600))

    run = sim.start(both)
    sim.run(until=run)
    assert run.result == [0, later(3600).isoformat()]


def test_a_loop_that_never_rests_is_noticed(sim, monkeypatch):
    """An activity that spins around sleep(0) is an error that names it."""

    @activity
    async def spins(ctx):
        while True:
            await asyncio.sleep(0)

    @workflow
    async def busy(ctx):
        await spins(ctx)

    monkeypatch.setattr("edda_testkit.clock.MAX_ROUNDS", 100)
    with pytest.raises(RuntimeError, match="spins"):
        sim.start(busy)


def test_what_is_no_outcome_reaches_the_test(sim):
    """`pytest.fail()` in an activity fails the test, whatever the retry policy."""

    @activity
    async def judges(ctx):
        await asyncio.sleep(1)
        pytest.fail("not here")

    @workflow
    async def judged(ctx):
        await judges(ctx)

    sim.start(judged)
    with pytest.raises(pytest.fail.Exception, match="not here"):
        sim.advance(1)


def test_an_activity_cannot_move_time(sim):
    """`advance` from within an activity is refused, also if the activity swallows the error."""

    @activity
    async def meddles(ctx):
        sim.advance(1)

    @workflow
    async def meddling(ctx):
        await meddles(ctx)

    with pytest.raises(Misuse, match=r"asyncio\.sleep"):
        sim.start(meddling)


# ---- Runs --------------------------------------------------------------------------------------


def test_result_of_a_waiting_run_says_what_it_waits_for(sim):
    """The message has the wait, since when, its source line, and what is due next."""
    run = sim.start(paid, instance_id="P-1")
    with pytest.raises(WorkflowNotFinished) as error:
        _ = run.result
    line = paid.fn.__code__.co_firstlineno + 3
    assert str(error.value) == (
        "paid 'P-1' has no result yet: it is waiting_for_event.\n"
        f"  event 'paid' (wait_event_paid:1) at {run.waiting_for[0].site}, "
        "since 2000-01-01T00:00:00+00:00, due at 2000-01-01T00:01:00+00:00\n"
        "  Next due: 2000-01-01T00:01:00+00:00; sim.advance_to_next() goes there."
    )
    assert run.waiting_for[0].site.endswith(f"test_simulation.py:{line}")


def test_result_without_anything_due_says_to_send(sim):
    """Where nothing comes by itself the message asks for an event."""
    run = sim.start(paid, None)
    with pytest.raises(WorkflowNotFinished, match="Nothing is due by itself: send an event"):
        _ = run.result


def test_a_failed_run_has_its_error(sim):
    """`result` raises WorkflowFailed with the workflow's exception as cause; `error` is it."""

    @workflow
    async def breaks(ctx):
        raise ValueError("broken")

    run = sim.start(breaks)
    with pytest.raises(WorkflowFailed) as failure:
        _ = run.result
    assert isinstance(failure.value.__cause__, ValueError)
    assert str(run.error) == "broken"
    assert sim.start(paid).error is None


def test_timeline_reads_in_time_from_the_start(sim):
    """The timeline has a line an event, with times from the run's start."""
    run = sim.start(paid)
    sim.send("paid", 1, after=5)
    sim.run(until=run)
    lines = run.timeline().splitlines()
    assert len(lines) == len(run.history)
    assert lines[0].split()[0] == "+0"
    assert lines[-1].split()[0] == "+5s"
    assert "completed with 1" in lines[-1]


def test_calls_are_by_activity_and_run(sim):
    """`sim.calls` has all, `run.calls` a run's, each with arguments, instant and attempt."""
    one, other = sim.start(paid), sim.start(paid)
    assert [call.run for call in sim.calls(note)] == [one.id, other.id]
    (call,) = one.calls(note)
    assert (call.args, call.kwargs, call.at, call.attempt) == (("before",), {}, START, 1)
    assert repr(call) == "<Call note('before') at 2000-01-01T00:00:00+00:00>"
    assert sim.calls(nap) == []


def test_a_run_that_code_started_is_a_run_too(sim):
    """An instance started by an activity is among the runs."""

    @activity
    async def starts(ctx) -> str:
        return await paid.start(instance_id="child")

    @workflow
    async def parent(ctx):
        return await starts(ctx)

    sim.start(parent)
    assert [run.id for run in sim.runs][1:] == ["child"]
    assert sim.runs[1].status == "waiting_for_event"


def test_runs_can_be_read_when_the_simulation_is_closed():
    """Result, status, history, waits and timeline stay as they were."""
    with Simulation() as sim:
        done, waiting = sim.start(paid), sim.start(paid)
        sim.send("paid", 1, id="x", eddainstanceid=done.id)
    assert done.result == 1
    assert waiting.status == "waiting_for_event"
    assert "wait_event_paid:1" in str(waiting.waiting_for[0])
    assert len(waiting.timeline().splitlines()) == len(waiting.history)
    with pytest.raises(WorkflowNotFinished, match="Next due: 2000-01-01T00:01"):
        _ = waiting.result


# ---- Events ------------------------------------------------------------------------------------


def test_send_returns_what_it_sent(sim):
    """The event has the source, subject, id and time that it was given, or sensible ones."""
    plain = sim.send("a", {"n": 1})
    assert (plain.get_source(), plain.get_id(), plain.get_time()) == ("test", "event-1", START)
    full = sim.send("a", 1, source="s", subject="x", id="i", tenant="t")
    assert full.get_attributes()["tenant"] == "t"
    assert (full.get_source(), full.get_subject(), full.get_id()) == ("s", "x", "i")


@pytest.mark.parametrize(
    "when", [{"after": 30}, {"after": timedelta(seconds=30)}, {"at": later(30)}]
)
def test_an_event_can_come_later(sim, when):
    """With `after` or `at` the event arrives at that instant, and not before."""
    run = sim.start(paid)
    event = sim.send("paid", "x", **when)
    assert event.get_time() == later(30)
    sim.advance(29)
    assert run.status == "waiting_for_event"
    sim.advance(1)
    assert run.result == "x"


def test_when_an_event_comes_must_make_sense(sim):
    """Two instants, a past one or a naive one are refused."""
    with pytest.raises(ValueError, match="not both"):
        sim.send("a", after=1, at=later(1))
    with pytest.raises(ValueError, match="lies in the past"):
        sim.send("a", at=later(-1))
    with pytest.raises(ValueError, match="time zone"):
        sim.send("a", at=datetime(2001, 1, 1))  # noqa: DTZ001


def test_an_event_sent_again_is_taken_once(sim):
    """A duplicate is absorbed; with an id of its own it is another event."""

    @workflow
    async def twice(ctx):
        first = await wait_event(ctx, "a")
        second = await wait_event(ctx, "a")
        return [first.id, second.id]

    run = sim.start(twice)
    event = sim.send("a", id="E")
    sim.duplicate(event)
    assert run.status == "waiting_for_event"
    fresh = sim.duplicate(event, id="fresh")
    assert run.result == ["E", fresh.get_id()]


def test_an_event_from_an_activity_reaches_a_turn_under_way(sim):
    """`send_event` in an activity wakes its own run, while another activity is at work."""

    @activity
    async def tells(ctx):
        await send_event("told", "here", {"n": 1})

    @workflow
    async def hears(ctx):
        async with asyncio.TaskGroup() as group:
            group.create_task(nap(ctx, 100))
            group.create_task(tells(ctx))
            event = await wait_event(ctx, "told")
            await note(ctx, "heard")
        return event.data

    run = sim.start(hears)
    assert [call.at for call in run.calls(note)] == [START]
    sim.run(until=run)
    assert run.result == {"n": 1}


def test_the_outside_world_acts_when_told(sim):
    """`call` runs a function now or at its instant, and what it starts comes to rest."""
    seen = []
    sim.call(lambda: seen.append(sim.now))
    sim.call(lambda: seen.append(sim.start(paid).status), after=10)
    sim.call(lambda: sim.send("paid", 1), at=later(20))
    assert seen == [START]
    sim.advance(20)
    assert seen[1] == "waiting_for_event"
    assert sim.runs[0].result == 1


def test_untaken_events_are_listed_and_strict_fails():
    """Events that no run took are named; with strict_events they fail the test."""

    def use():
        with Simulation(strict_events=True) as sim:
            sim.start(paid)
            sim.send("paid", 1)
            sim.send("b")

    with pytest.raises(AssertionError, match=r"took these events:\n +b \(id 'event-2'\)"):
        use()


def test_an_invalid_event_later_is_reported_when_it_comes(sim):
    """The refusal of an event that comes later is raised by the verb that moved time."""

    @workflow
    async def typed(ctx):
        return (await wait_event(ctx, "n", model=int)).data

    run = sim.start(typed)
    sim.send("n", "no number", after=5)
    with pytest.raises(InvalidEventError):
        sim.advance(10)
    sim.send("n", 3)
    assert run.result == 3


def test_a_request_goes_through_the_http_door(sim):
    """The page's event by HTTP is answered 202, and the workflow has gone on."""
    run = sim.start(paid)
    response = sim.http.post(
        "/",
        headers={
            "Content-Type": "application/json",
            "ce-specversion": "1.0",
            "ce-type": "paid",
            "ce-source": "payment-service",
            "ce-id": "event-123",
        },
        content='{"order_id": "ORD-123", "amount": 99.99}',
    )
    assert response.status_code == 202
    assert run.result == {"order_id": "ORD-123", "amount": 99.99}


# ---- Faults, cancellation, deployment ----------------------------------------------------------


def test_a_crash_loses_what_is_in_flight_and_keeps_what_is_committed(sim):
    """After a crash the finished step is not repeated and the activity in flight is."""

    @workflow
    async def steps(ctx):
        await note(ctx, "first")
        await sleep(ctx, 1)
        return await nap(ctx, 10)

    run = sim.start(steps)
    sim.advance(6)
    sim.crash()
    sim.run(until=run)
    assert run.result == later(16).isoformat()
    assert [len(run.calls(act)) for act in (note, nap)] == [1, 2]


def test_a_crash_drops_coroutines_without_effects(sim):
    """A `finally` block that runs while a worker dies reaches nobody."""
    ended = []

    @activity
    async def guarded(ctx):
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)
            await send_event("ghost", "here", {})

    @workflow
    async def guards(ctx):
        await guarded(ctx)

    sim.start(guards)
    sim.crash()
    sim.advance(1)
    ghost = sim.start(paid, None)
    assert ended == [True]
    assert sim.untaken_events() == []
    assert ghost.status == "waiting_for_event"


def test_a_crash_can_come_at_an_instant(sim):
    """`call(sim.crash, after=...)` strikes in the middle of an activity."""
    run = sim.start(napping, 10)
    sim.call(sim.crash, after=4)
    sim.run(until=run)
    assert run.result == later(14).isoformat()


def test_cancel_ends_a_run_once(sim):
    """`cancel` cancels a waiting run; a second one changes nothing."""
    run = sim.start(paid)
    assert sim.cancel(run) is True
    assert run.status == "cancelled"
    assert run.cancel() is False
    with pytest.raises(WorkflowCancelled):
        _ = run.result


def test_cancel_stops_an_activity_in_flight(sim):
    """The activity gets asyncio's cancellation at once."""
    seen = []

    @activity
    async def long(ctx):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append(sim.now)
            raise

    @workflow
    async def cancels(ctx):
        await long(ctx)

    run = sim.start(cancels)
    sim.advance(3)
    assert run.cancel() is True
    assert (run.status, seen) == ("cancelled", [later(3)])


def versions():
    @workflow(name="versioned")
    async def first(ctx):
        await note(ctx, "one")
        await sleep(ctx, 10)

    @workflow(name="versioned")
    async def second(ctx):
        await nap(ctx, 1)
        await sleep(ctx, 10)

    return first, second


def test_code_that_does_not_fit_leaves_a_run_stuck():
    """Other code under a running instance makes it stuck, which fails the test."""
    first, second = versions()
    with pytest.raises(StuckRun, match="versioned 'V' is stuck"), Simulation() as sim:  # noqa: PT012
        run = sim.start(first, instance_id="V")
        sim.deploy(second)
        sim.advance(10)
        assert run.status == "stuck"
        with pytest.raises(WorkflowStuck):
            _ = run.result
        with pytest.raises(StuckRun):
            sim.run(until=run)


def test_code_that_fits_frees_a_stuck_run(sim):
    """Deploying the old code again lets a stuck instance go on."""
    first, second = versions()
    run = sim.start(first)
    sim.deploy(second)
    sim.advance(10)
    sim.deploy(first)
    assert run.status == "completed"


def test_deploy_of_an_unknown_name_is_refused(sim):
    """Code that no run would ever meet is a mistake."""
    sim.start(paid)
    with pytest.raises(Misuse, match="none of 'napping'; there are: paid"):
        sim.deploy(napping)


# ---- Simulations beside each other, and afterwards ----------------------------------------------


def test_two_simulations_do_not_meet():
    """Each has its own time and events, and an activity's event goes to its own app."""

    @activity
    async def tells(ctx):
        await send_event("paid", "here", ctx.instance_id)

    @workflow
    async def telling(ctx):
        await tells(ctx)

    with Simulation() as one, Simulation() as other:
        waits = [sim.start(paid) for sim in (one, other)]
        one.advance(5)
        one.start(telling, instance_id="T")
        assert waits[0].result == "T"
        assert waits[1].status == "waiting_for_event"
        assert (one.now, other.now) == (later(5), START)


def test_a_closed_simulation_is_collectable():
    """Nothing global holds a simulation that is closed."""

    def use():
        with Simulation(freezer=Freezer()) as sim:  # the plugin keeps its own for the report
            sim.start(paid)
            sim.start(napping, 5)
            sim.advance(1)
        return weakref.ref(sim), weakref.ref(sim.app)

    references = use()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@given(st.lists(st.integers(0, 120), max_size=4))
def test_a_payment_counts_up_to_its_deadline(delays):
    """Under @given, each example has a world of its own, and the earliest event decides."""
    with Simulation() as sim:
        run = sim.start(paid)
        for delay in delays:
            sim.send("paid", delay, after=delay)
        sim.run()
        if min(delays, default=61) <= 60:
            assert run.result == min(delays)
        else:
            assert run.status == "failed"


def test_time_is_real_afterwards():
    """When the block ends, also by an error, `datetime` is the real class at the real time."""
    with pytest.raises(KeyError), Simulation() as sim:  # noqa: PT012
        sim.advance(10)
        raise KeyError
    assert datetime.now(UTC).year > 2020


def test_what_is_no_duration_is_refused_with_what_is(sim):
    """A duration written as text is an error that names what `advance` takes."""
    with pytest.raises(TypeError) as error:
        sim.advance("5m")
    assert str(error.value) == (
        "advance() takes seconds, a timedelta, or minutes=5, hours=1, days=2 and the like, and got "
        "'5m'."
    )
    assert sim.now == START


# ---- Plain activities ------------------------------------------------------------------------


@activity
def as_in_a_thread(ctx) -> list[int]:
    loops = [] if asyncio._get_running_loop() is None else [1]
    return loops + asyncio.run(asyncio.sleep(0, [2]))


@workflow
async def has_a_plain_activity(ctx):
    return [await as_in_a_thread(ctx), await nap(ctx, 5)]


@pytest.mark.parametrize("is_stubbed", [False, True])
def test_a_plain_activity_finds_no_running_loop(sim, is_stubbed):
    """It may ask, and may run a loop of its own, as in the thread that production gives it."""
    if is_stubbed:
        sim.stub(as_in_a_thread, side_effect=lambda: as_in_a_thread.fn(None))
    run = sim.start(has_a_plain_activity)
    sim.advance(5)
    assert run.result == [[2], "2000-01-01T00:00:05+00:00"]


@activity
async def never_ends(ctx) -> None:
    await asyncio.Event().wait()


@workflow
async def hopeless(ctx):
    await never_ends(ctx)


def test_a_lease_for_ever_is_never_due():
    """At whatever microsecond a turn begins: its lease has no end that time could go to."""
    for microseconds in (0, 1, 847_344, 974_040):
        with Simulation() as sim:
            sim.advance(timedelta(seconds=5, microseconds=microseconds))
            sim.start(hopeless)
            assert sim.next_due is None
