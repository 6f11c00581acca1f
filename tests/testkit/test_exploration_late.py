"""What exploration lets come late: events, answers, timers; and crashes inside a transaction."""

import asyncio
from datetime import UTC, datetime

import pytest

from edda import EventTimeoutError, activity, sleep, wait_event, workflow
from edda_testkit import Schedule, Simulation, check_crashes, explore
from edda_testkit.schedule import Options


class Here:
    log: list


@activity
async def late_say(ctx, what: str) -> str:
    Here.log.append(what)
    return what


@activity(transactional=True)
async def late_book(ctx) -> None:
    ctx.connection["booked"] = ctx.connection.get("booked", 0) + 1
    Here.log.append("mail")


@workflow
async def late_booking(ctx):
    await late_book(ctx)


@workflow
async def late_takes(ctx, count: int):
    return [(await wait_event(ctx, "late.note")).data for _ in range(count)]


def test_an_event_comes_after_the_next_one():
    """Two events that a test sends one after the other arrive the other way around."""
    seen = set()

    def scenario(sim):
        run = sim.start(late_takes, 2)
        sim.send("late.note", 1)
        sim.send("late.note", 2)
        sim.run()
        seen.add(tuple(run.result))

    assert explore(scenario, delays=1).exhaustive
    assert seen == {(1, 2), (2, 1)}


def test_an_event_comes_after_the_deadline_it_was_sent_before():
    """A late event misses the timeout, and is there for the next wait."""
    seen = set()

    @workflow
    async def late_paid(ctx):
        try:
            await wait_event(ctx, "late.paid", timeout_seconds=60)
        except EventTimeoutError:
            return (await wait_event(ctx, "late.paid")).data
        return "in time"

    def scenario(sim):
        run = sim.start(late_paid)
        sim.advance(30)
        sim.send("late.paid", "late")
        sim.run(until=run)
        seen.add((run.result, sim.now.second))

    assert explore(scenario, delays=1).exhaustive
    assert {result for result, _ in seen} == {"in time", "late"}


def test_an_answer_comes_after_the_timeout():
    """A slow store lets a step time out that has had its effect."""
    seen = set()

    @workflow
    async def late_charge(ctx):
        try:
            async with asyncio.timeout(5):
                return await late_say(ctx, "charged")
        except TimeoutError:
            return "gave up"

    def scenario(sim):
        Here.log = []
        run = sim.start(late_charge)
        sim.run(until=run)
        seen.add((run.result, *Here.log))

    assert explore(scenario, delays=1).exhaustive
    assert seen == {("charged", "charged"), ("gave up", "charged")}


@pytest.mark.parametrize("ends", [True, False])
def test_timers_come_late_together(ends):
    """A clock that jumps past two timers lets what follows them happen in either order."""
    seen = set()

    async def after(ctx, seconds, what):
        await sleep(ctx, seconds)
        await late_say(ctx, what)

    @workflow
    async def late_hours(ctx):
        await asyncio.gather(after(ctx, 60, "open"), after(ctx, 120, "close"))

    def scenario(sim):
        Here.log = []
        sim.start(late_hours)
        if ends:
            sim.advance(200)
        sim.run()
        seen.add(tuple(Here.log))

    assert explore(scenario).exhaustive
    assert seen == {("open", "close")}
    explore(scenario, delays=1)
    assert seen == {("open", "close"), ("close", "open")}


def test_a_token_carries_delays():
    """The options of a token are those it was found under, delays as well."""
    for options in (Options(delays=3), Options(crashes=2, workers=200), Options()):
        schedule = Schedule("recorded", options=options)
        assert Schedule.parse(schedule.token) == schedule
    with pytest.raises(ValueError, match="delays must be a whole number from 0 on"):
        Options(delays=-1)


def test_a_crash_inside_a_transaction_undoes_what_it_wrote_and_nothing_else():
    """What a transactional activity did outside of its transaction is done twice, and found."""

    def scenario(sim):
        Here.log = []
        sim.start(late_booking)
        return Here.log

    with pytest.raises(AssertionError, match=r"returned \['mail', 'mail'\]"):
        check_crashes(scenario)

    with Simulation() as sim:
        Here.log = []
        sim.crash_at("late_book:1", "after_effect")
        run = sim.start(late_booking)
        assert run.status == "completed"
        assert len(run.calls(late_book)) == 2


def test_time_moves_by_one_hand():
    """Two moves of time in one block come one after the other, whatever falls between them."""
    ends = set()

    @workflow
    async def late_sleeper(ctx):
        await sleep(ctx, 5)
        await wait_event(ctx, "late.wake")

    def scenario(sim):
        sim.start(late_sleeper)
        with sim.concurrently():
            sim.advance(10)
            sim.send("late.wake")
            sim.advance(10)
        ends.add(sim.now)

    assert explore(scenario).exhaustive
    assert ends == {datetime(2000, 1, 1, 0, 0, 20, tzinfo=UTC)}


@activity
async def late_work(ctx) -> None:
    await asyncio.sleep(20)


@workflow
async def late_shielded(ctx):
    task = asyncio.create_task(late_work(ctx))
    try:
        await asyncio.wait_for(asyncio.shield(task), 30)
    except TimeoutError:
        await late_say(ctx, "slow")
        await task
    return "done"


def test_a_turn_that_lost_its_lease_looks_at_its_own_deadline():
    """A zombie's deadline does not keep the one that took over looking for ever."""

    def scenario(sim):
        Here.log = []
        run = sim.start(late_shielded)
        sim.run()
        assert run.result == "done"

    explore(scenario, crashes=1, faults=1, workers=2, max_schedules=400, budget_seconds=600)


@activity(timeout_seconds=5)
async def late_twice(ctx) -> None:
    await asyncio.sleep(2)
    await asyncio.sleep(2)


@workflow
async def late_two(ctx):
    await wait_event(ctx, "late.go")
    await late_twice(ctx)


def test_a_crash_may_strike_while_a_lost_call_is_cancelled():
    """Cancelling what lost its lease is a point to crash at, and is survived like any other."""

    def scenario(sim):
        runs = [sim.start(late_two) for _ in range(2)]
        with sim.concurrently():
            for run in runs:
                sim.send("late.go", eddainstanceid=run.id)
        sim.run()
        assert all(run.status == "completed" for run in runs)

    explore(scenario, crashes=1, faults=1, workers=2, max_schedules=600, budget_seconds=600)


@activity(timeout_seconds=5)
async def late_service(ctx) -> str:
    Here.log.append("asked")
    await asyncio.sleep(4)
    Here.log.append("done")
    return "answered"


@workflow
async def late_asks(ctx):
    return await late_service(ctx)


def test_a_service_takes_longer_than_the_attempt_may():
    """A sleep in an activity may outlast the attempt's timeout: then it is asked again."""
    seen = set()

    def scenario(sim):
        Here.log = []
        run = sim.start(late_asks)
        sim.run(until=run)
        seen.add((run.is_finished, *Here.log))

    assert explore(scenario).exhaustive
    assert seen == {(True, "asked", "done")}
    assert explore(scenario, delays=1).exhaustive
    assert (True, "asked", "asked", "done") in seen


@activity
async def late_part(ctx, seconds: float, what: str) -> None:
    await asyncio.sleep(seconds)
    Here.log.append(what)


@workflow
async def late_child(ctx):
    await late_part(ctx, 1, "child")


@workflow
async def late_parent(ctx, waits: bool):
    if waits:
        await asyncio.gather(late_child.run(ctx), late_part(ctx, 2, "mine"))
    else:
        await late_child.start(ctx)
        await late_part(ctx, 2, "mine")
    return "child" in Here.log


def child_first(waits):
    def scenario(sim):
        Here.log = []
        run = sim.start(late_parent, waits)
        sim.run(until=run)
        assert run.result is True

    return scenario


def test_who_counts_on_a_service_to_be_quick_is_found():
    """A parent that only hopes for its child is found, and its schedule repeats it."""
    explore(child_first(True), delays=1, max_schedules=300, budget_seconds=600)
    explore(child_first(False), max_schedules=300, budget_seconds=600)
    with pytest.raises(AssertionError) as caught:
        explore(child_first(False), delays=1)
    token = caught.value.__notes__[-1].removeprefix("schedule: ")
    schedule = Schedule.parse(token)
    assert len(schedule.deviations) == 1
    with Simulation(schedule) as sim, pytest.raises(AssertionError):
        child_first(False)(sim)


def test_only_sleeps_of_activities_last_longer():
    """A timeout inside of an activity, and a sleep with nothing due after it, are on time."""

    @activity
    async def late_limits(ctx) -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        except TimeoutError:
            return "gave up"
        return "never"

    @workflow
    async def late_limited(ctx):
        return await late_limits(ctx)

    @workflow
    async def late_alone(ctx):
        await late_part(ctx, 1, "alone")

    def scenario(sim):
        Here.log = []
        run = sim.start(late_limited)
        sim.run(until=run)
        with sim.concurrently():
            sim.start(late_alone)
        sim.advance(1)
        assert (run.result, Here.log) == ("gave up", ["alone"])

    assert explore(scenario, delays=1, reorder=False).exhaustive


def test_a_sleep_that_lasts_longer_can_be_given_up():
    """Its run is cancelled meanwhile: the sleeper is, too, and nothing rings afterwards."""
    seen = set()

    @workflow
    async def late_given_up(ctx):
        try:
            async with asyncio.timeout(2):
                await late_part(ctx, 1, "done")
        except TimeoutError:
            return "gave up"
        return "had it"

    def scenario(sim):
        Here.log = []
        run = sim.start(late_given_up)
        sim.run()
        assert sim.next_due is None
        seen.add((run.result, *Here.log))

    assert explore(scenario, delays=1).exhaustive
    assert ("gave up",) in seen
    assert ("had it", "done") in seen
