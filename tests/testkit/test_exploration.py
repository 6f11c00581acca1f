"""Exploration: every schedule of a scenario, what is found, how it is shown and repeated."""

import asyncio
import re

import pytest

from edda import (
    EventTimeoutError,
    RetryExhaustedError,
    RetryPolicy,
    activity,
    send_event,
    wait_event,
    wait_timer,
    workflow,
)
from edda_testkit import (
    CrashChangedOutcome,
    Misuse,
    NotExhaustive,
    Schedule,
    ScheduleError,
    Simulation,
    UnusedStub,
    check_crashes,
)
from edda_testkit import explore as explore_within_budget

pytest_plugins = ["pytester"]


def explore(scenario, **options):
    """Explore with all the time it takes: a busy machine changes nothing here."""
    return explore_within_budget(scenario, **{"budget_seconds": 600, **options})


class World:
    def __init__(self):
        self.log = []
        self.stock = 1
        self.keys = set()


class Here:
    world = World()


@activity
async def say(ctx, what: str) -> str:
    Here.world.log.append(what)
    return what


@activity
async def say_once(ctx, what: str) -> str:
    if ctx.idempotency_key not in Here.world.keys:
        Here.world.keys.add(ctx.idempotency_key)
        Here.world.log.append(what)
    return what


@activity
async def is_there(ctx) -> bool:
    return Here.world.stock > 0


@activity
async def take(ctx) -> None:
    Here.world.stock -= 1


@activity
async def slowly(ctx, what: str) -> None:
    Here.world.log.append(f"{what} begins")
    await asyncio.sleep(0)
    Here.world.log.append(f"{what} ends")


@workflow
async def two(ctx, name: str = ""):
    await say(ctx, f"{name}1")
    await say(ctx, f"{name}2")


@workflow
async def two_safely(ctx):
    await say_once(ctx, "1")
    await say_once(ctx, "2")


@workflow
async def reserve(ctx):
    if await is_there(ctx):
        await take(ctx)


@workflow
async def pay(ctx):
    try:
        await wait_event(ctx, "paid", timeout_seconds=60)
    except EventTimeoutError:
        return "late"
    return "paid"


def in_world(scenario):
    def run(sim):
        Here.world = sim.world(World)
        return scenario(sim)

    return run


def logs_of(scenario, **options):
    """What each schedule led to."""
    found = []

    @in_world
    def run(sim):
        scenario(sim)
        found.append(tuple(Here.world.log))

    return explore(run, **options), found


# ---- How many schedules --------------------------------------------------------------------------


def test_without_a_choice_there_is_one_schedule():
    """A sequential workflow has one order, and it is tried once."""
    done, found = logs_of(lambda sim: sim.start(two))

    assert (done.tried, done.total, done.exhaustive) == (1, 1, True)
    assert found == [("1", "2")]
    assert str(done) == "explored all 1 schedule"


def both(sim):
    with sim.concurrently():
        sim.start(two, "a")
        sim.start(two, "b")


def test_every_order_of_two_runs_is_tried():
    """Of two calls in each of two runs there are six orders, and all come up."""
    done, found = logs_of(both)

    assert done.exhaustive
    assert len(set(found)) == 6
    assert found[0] == ("a1", "a2", "b1", "b2")


def test_the_first_schedule_is_what_happens_without_exploration():
    """Choice 0 is what a simulation does that nobody explores."""
    scenarios = (both, waits_at_one_instant, side_by_side, sleepers, timed)
    for scenario in scenarios:
        with Simulation() as sim:
            Here.world = World()
            scenario(sim)
        plain = tuple(Here.world.log)
        _, found = logs_of(scenario, max_schedules=1)

        assert plain == found[0], scenario.__name__


def waits_at_one_instant(sim):
    @workflow
    async def nap(ctx, name: str):
        await wait_timer(ctx, 10)
        await say(ctx, name)

    sim.start(nap, "a")
    sim.start(nap, "b")
    sim.advance(10)


def side_by_side(sim):
    @workflow
    async def gathers(ctx):
        await asyncio.gather(say(ctx, "a"), slowly(ctx, "b"), say(ctx, "c"), slowly(ctx, "d"))

    sim.start(gathers)


def sleepers(sim):
    @activity
    async def snore(ctx, what: str) -> None:
        await asyncio.sleep(10)
        Here.world.log.append(what)

    @workflow
    async def limited(ctx, what: str):
        try:
            async with asyncio.timeout(10):
                await snore(ctx, what)
            await say(ctx, "in time")
        except TimeoutError:
            await say(ctx, "too late")

    sim.start(limited, "a")
    sim.start(limited, "b")
    sim.advance(10)


def timed(sim):
    @activity(timeout_seconds=10, retry_policy=RetryPolicy(max_attempts=1))
    async def snore(ctx, what: str) -> None:
        await asyncio.sleep(10)
        Here.world.log.append(what)

    @workflow
    async def limited(ctx, what: str):
        try:
            await snore(ctx, what)
        except RetryExhaustedError:
            await say(ctx, f"{what} too late")

    sim.start(limited, "a")
    sim.send("b", after=10)
    sim.start(limited, "c")
    sim.advance(10)


def test_the_timeout_of_an_activity_races_with_it():
    """At one instant either may be first, for each of two activities."""
    _, found = logs_of(timed)

    assert {frozenset(one) for one in found} == {
        frozenset({"a", "c"}),
        frozenset({"a too late", "c"}),
        frozenset({"a", "c too late"}),
        frozenset({"a too late", "c too late"}),
    }


def test_timers_at_one_instant_come_in_any_order():
    """By default the one that was set first; else either."""
    _, found = logs_of(waits_at_one_instant)

    assert set(found) == {("a", "b"), ("b", "a")}


def test_activities_interleave_at_their_awaits():
    """Two that await in the middle may both have begun before either ends."""

    def scenario(sim):
        @workflow
        async def one(ctx, name: str):
            await slowly(ctx, name)

        with sim.concurrently():
            sim.start(one, "a")
            sim.start(one, "b")

    _, found = logs_of(scenario)
    assert ("a begins", "b begins", "a ends", "b ends") in found
    assert ("a begins", "b begins", "b ends", "a ends") in found


def test_an_event_and_a_deadline_race():
    """Beside each other either may come first; law M7 holds at one instant."""
    results = set()

    def scenario(sim):
        run = sim.start(pay)
        with sim.concurrently():
            sim.send("paid")
            sim.advance(60)
        results.add(run.result)

    assert explore(scenario).exhaustive
    assert results == {"paid", "late"}

    def at_once(sim):
        run = sim.start(pay)
        sim.send("paid", after=60)
        sim.advance(60)
        assert run.result == "paid"

    assert explore(at_once).exhaustive


def test_without_reordering_only_what_is_injected_varies():
    """`reorder=False` leaves every order at its default."""
    done, found = logs_of(both, reorder=False)

    assert (done.total, len(found)) == (1, 1)


def test_what_reaches_other_runs_is_not_skipped():
    """When a call uses the app, also the order of commits is explored."""

    @activity
    async def tell(ctx) -> None:
        await send_event("news", "test", {"n": 1})

    @workflow
    async def teller(ctx):
        await tell(ctx)

    @workflow
    async def listener(ctx):
        await say(ctx, "listening")
        try:
            await wait_event(ctx, "news", timeout_seconds=5)
        except EventTimeoutError:
            await say(ctx, "missed")

    def scenario(sim):
        with sim.concurrently():
            sim.start(teller)
            sim.start(listener)
        sim.advance(10)

    _, found = logs_of(scenario)
    assert set(found) == {("listening", "missed"), ("listening",)}


def test_too_many_schedules_are_sampled_by_seed():
    """It says how many there are about, and the same seed tries the same ones."""

    def scenario(sim):
        with sim.concurrently():
            for name in "abcd":
                sim.start(two, name)

    first, one = logs_of(scenario, max_schedules=150, seed=7)
    _, other = logs_of(scenario, max_schedules=150, seed=7)

    assert not first.exhaustive
    assert first.total is None
    assert first.seed == 7
    assert re.fullmatch(r"explored 150 schedules of about [\d,^]+, seed 7", str(first))
    assert one == other


def test_exhaustion_may_be_required():
    """A budget that is too small then fails, and says what to change."""
    with pytest.raises(NotExhaustive, match=r"Raise max_schedules \(5\)"):
        logs_of(both, max_schedules=5, require_exhaustive=True)


# ---- What is found -------------------------------------------------------------------------------


@in_world
def race(sim):
    with sim.concurrently():
        sim.start(reserve)
        sim.start(reserve)
    assert Here.world.stock == 0


def token_of(error):
    return error.__notes__[-1].removeprefix("schedule: ")


def test_a_race_is_found_shrunk_and_repeated():
    """Check-then-act takes one switch, and the token makes it happen again."""
    with pytest.raises(AssertionError) as caught:
        explore(race)
    token = token_of(caught.value)

    assert re.fullmatch(r"explored \d+ (of all \d+ )?schedules.*", caught.value.__notes__[-2])
    assert len(Schedule.parse(token).deviations) == 1
    with pytest.raises(AssertionError):
        explore(race, schedule=token)
    with Simulation(token) as sim, pytest.raises(AssertionError):
        race(sim)


def test_a_token_of_other_code_is_stale():
    """It does not quietly pass for a schedule that was repeated."""
    with pytest.raises(AssertionError) as caught:
        explore(race)

    token = token_of(caught.value)
    with pytest.raises(ScheduleError, match="does not fit"):
        explore(in_world(lambda sim: sim.start(two)), schedule=token)
    with pytest.raises(ScheduleError, match="does not fit"), Simulation(token) as sim:  # noqa: PT012
        Here.world = World()
        sim.start(two)


def test_a_crash_between_effect_and_commit_is_found():
    """What is not safe to be done twice shows."""

    @in_world
    def scenario(sim):
        sim.start(two)
        assert Here.world.log == ["1", "2"]

    with pytest.raises(AssertionError, match="'1', '1'"):
        explore(scenario, crashes=1)


def test_a_failure_that_does_not_repeat_says_so():
    """What leaks from one schedule to the next is named as the cause."""
    leaks = []

    @in_world
    def scenario(sim):
        leaks.append(1)
        both(sim)
        assert len(leaks) != 3

    with pytest.raises(ScheduleError, match="goes into sim.world"):
        explore(scenario)


def test_what_goes_another_way_each_time_is_not_called_exhaustive():
    """Real threads, or state that leaks, change the choices from run to run: that is no failure."""
    runs = []

    @in_world
    def scenario(sim):
        runs.append(1)
        with sim.concurrently():
            for number in range(1 + len(runs) % 3):
                sim.start(two, str(number))

    done = explore(scenario, max_schedules=60)

    assert (done.exhaustive, done.total) == (False, None)


def test_duplicates_arrive_with_the_same_id_or_a_fresh_one():
    """The engine absorbs the first kind (law M1); the second is for the workflow to know."""

    @workflow
    async def hear_two(ctx):
        one = await wait_event(ctx, "said")
        other = await wait_event(ctx, "said")
        return [one.data, other.data]

    def scenario(sim):
        run = sim.start(hear_two)
        sim.send("said", 1)
        sim.send("said", 2)
        assert run.result == [1, 2]

    assert explore(scenario, duplicates=1).exhaustive
    with pytest.raises(AssertionError):
        explore(scenario, duplicates=1, duplicate_ids="fresh")


def test_faults_of_the_store_and_of_leases_are_found():
    """With two workers a lease may be lost in the middle of a turn as well."""

    @in_world
    def scenario(sim):
        sim.start(two)
        assert Here.world.log == ["1", "2"]

    for options in ({"faults": 1}, {"faults": 1, "workers": 2}):
        with pytest.raises(AssertionError):
            explore(scenario, **options)

    @in_world
    def safe(sim):
        sim.start(two_safely)
        assert Here.world.log == ["1", "2"]

    assert explore(safe, faults=1, workers=2).exhaustive


def test_a_stub_is_judged_over_all_schedules():
    """One that some schedule uses is used; one that none uses is reported."""

    def scenario(sim):
        sim.stub(say, returns="x")
        run = sim.start(pay)
        with sim.concurrently():
            sim.send("paid")
            sim.advance(60)
        if run.result == "late":
            sim.start(two)

    assert explore(scenario).exhaustive
    with pytest.raises(UnusedStub, match="say"):
        explore(lambda sim: sim.stub(say, returns="x"))


def test_a_sequence_answers_an_attempt_that_is_done_again_as_before():
    """A crash does not use up the answers of a stub."""

    @workflow
    async def asks_twice(ctx):
        return [await say(ctx, "a"), await say(ctx, "b")]

    def scenario(sim):
        sim.stub(say, sequence=["1", "2"])
        assert sim.start(asks_twice).result == ["1", "2"]

    assert explore(scenario, crashes=2).exhaustive


def test_an_async_scenario_is_explored_too():
    """It is given an AsyncSimulation."""

    async def scenario(sim):
        Here.world = sim.world(World)
        with sim.concurrently():
            await sim.start(reserve)
            await sim.start(reserve)
        assert Here.world.stock == 0

    with pytest.raises(AssertionError):
        explore(scenario)


# ---- concurrently --------------------------------------------------------------------------------


def test_a_block_happens_as_written_without_exploration():
    """Each of its verbs takes effect when the block ends, in order."""
    with Simulation() as sim:
        Here.world = World()
        with sim.concurrently():
            first = sim.start(two, "a")
            assert (first.status, first.history) == ("pending", [])
            sim.call(lambda: Here.world.log.append("called"))
            second = sim.start(two, "b")
            event = sim.send("paid", 1, id="p")
            sim.duplicate(event)
            sim.advance(5)
            assert sim.cancel(second)
        assert Here.world.log == ["a1", "a2", "called", "b1", "b2"]
        assert (first.status, sim.now.second) == ("completed", 5)


def test_a_block_that_raises_does_nothing():
    """The exception is the block's own, and what it had queued is dropped."""
    with Simulation() as sim:
        with pytest.raises(ZeroDivisionError), sim.concurrently():  # noqa: PT012
            sim.start(two)
            _ = 1 / 0
        assert all(run.status == "pending" for run in sim.runs)


def test_the_first_error_of_a_block_is_raised_and_names_the_others():
    """Everything else in the block happens all the same."""

    def fail(error):
        raise error

    with Simulation() as sim:
        Here.world = World()
        with pytest.raises(KeyError) as caught, sim.concurrently():  # noqa: PT012
            sim.call(lambda: fail(KeyError("one")))
            sim.call(lambda: fail(ValueError("two")))
            sim.start(two)
        assert "ValueError: two" in caught.value.__notes__[0]
        assert Here.world.log == ["1", "2"]


def test_what_needs_a_run_comes_after_its_start():
    """Nobody can cancel, or write to, what was not started: they were told its id."""

    @workflow
    async def addressed(ctx):
        return (await wait_event(ctx, "hello")).data

    def scenario(sim):
        with sim.concurrently():
            sim.send("other")
            run = sim.start(addressed)
            sim.send("hello", 1, eddainstanceid=run.id)
        assert run.result == 1

    assert explore(scenario).exhaustive


def test_a_crash_in_a_block_falls_anywhere():
    """It may strike while a run beside it is between an effect and its commit."""

    def scenario(sim):
        with sim.concurrently():
            sim.start(two)
            sim.crash()

    _, found = logs_of(scenario)
    assert set(found) == {("1", "2"), ("1", "1", "2"), ("1", "2", "2")}


def test_some_verbs_cannot_be_queued():
    """What returns what happened needs it to happen now."""
    with (
        Simulation() as sim,
        sim.concurrently(),
        pytest.raises(RuntimeError, match="Call it after"),
    ):
        sim.run()


# ---- check_crashes -------------------------------------------------------------------------------


def test_every_crash_point_of_a_safe_workflow_is_fine():
    """Before and after each commit and effect, with one crash and with two."""

    @in_world
    def scenario(sim):
        sim.start(two_safely)
        return Here.world.log

    one = check_crashes(scenario)
    two_of_them = check_crashes(scenario, crashes=2, workers=2)

    assert one.exhaustive
    assert two_of_them.exhaustive
    assert 3 < one.total < two_of_them.total


def test_a_decorator_without_parentheses_is_noticed():
    """Else the test would run while its module is imported."""
    with pytest.raises(Misuse, match=r"Write @explore\(\) above test_something"):

        @explore_within_budget
        def test_something(edda_sim): ...


def test_an_outcome_that_a_crash_changes_is_shown():
    """Both outcomes are in the message, and what to do."""

    @in_world
    def scenario(sim):
        sim.start(two)
        return len(Here.world.log)

    with pytest.raises(CrashChangedOutcome, match=r"without: returned 2; two completed: None"):
        check_crashes(scenario)
    assert check_crashes(scenario, outcomes=[3]).exhaustive
    with pytest.raises(CrashChangedOutcome, match=r"with it: returned 4"):
        check_crashes(scenario, crashes=2, outcomes=[3])


def test_a_scenario_that_fails_without_a_crash_fails_as_it_is():
    """Its own error comes first."""
    with pytest.raises(ZeroDivisionError):
        check_crashes(lambda sim: 1 / 0)


# ---- Under pytest --------------------------------------------------------------------------------

PROJECT = """
import pytest
from edda import activity, workflow
from edda_testkit import check_crashes, explore

class World:
    stock = 1

class Here:
    pass

@activity
async def is_there(ctx) -> bool:
    return Here.world.stock > 0

@activity
async def take(ctx) -> None:
    Here.world.stock -= 1

@workflow
async def reserve(ctx):
    if await is_there(ctx):
        await take(ctx)

@pytest.fixture
def thing():
    return []

"""


@pytest.fixture
def project(pytester):
    def run(body, *arguments):
        pytester.makepyfile(test_it=PROJECT + body)
        return pytester.runpytest("-p", "no:cacheprovider", *arguments)

    return run


RACE = """
@explore()
@pytest.mark.parametrize("many", [1, 2])
def test_race(edda_sim, many):
    Here.world = edda_sim.world(World)
    with edda_sim.concurrently():
        for _ in range(many):
            edda_sim.start(reserve)
    assert Here.world.stock == 0
"""


def test_a_failure_shows_the_schedule_and_the_command(project):
    """Each on a line of its own, then what happened, with the place where it left the default."""
    result = project(RACE)
    text = result.stdout.str()

    result.assert_outcomes(passed=1, failed=1)
    token = re.search(r"^schedule: (edda1-\S+)$", text, re.MULTILINE)[1]
    assert re.search(r"^explored \d+ (of all \d+ )?schedules?( of about .*)?$", text, re.MULTILINE)
    assert (
        f"\npytest 'test_it.py::test_race[[]2]' --edda-schedule {token}\n".replace("[[]", "[")
        in text
    )
    assert re.search(
        r"◆ choice \d+ \(order\)\. By default first: reserve-\w{8} gets the answer", text
    )
    assert re.search(r"^\S+  ○ reserve-\w{8} calls \w+:1$", text, re.MULTILINE)
    assert "assert -1 == 0" in text

    again = project(RACE, "test_it.py::test_race[2]", "--edda-schedule", token)
    again.assert_outcomes(failed=1)
    assert "explored the one schedule that was asked for" in again.stdout.str()
    stale = project(RACE, "test_it.py::test_race[1]", "--edda-schedule", token)
    stale.assert_outcomes(failed=1)
    assert "does not fit" in stale.stdout.str()


def test_a_passing_test_says_how_much_it_explored(project):
    """Under -v on its line, and in the summary."""
    result = project(RACE, "-v", "-k", "1")

    result.stdout.fnmatch_lines(["*test_race[[]1] PASSED (all * schedule*)*"])
    result.stdout.fnmatch_lines(["test_it.py::test_race[[]1]: all * schedule*"])


def test_async_tests_are_explored(project):
    """With edda_async_sim, and no other plugin's help."""
    result = project("""
@explore()
async def test_race(edda_async_sim):
    sim = edda_async_sim
    Here.world = sim.world(World)
    with sim.concurrently():
        await sim.start(reserve)
        await sim.start(reserve)
    assert Here.world.stock == 0
""")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["schedule: edda1-*"])


def test_fixtures_made_once_are_refused(project):
    """Unless the test says that all schedules may share them."""
    result = project("""
@explore()
def test_refused(edda_sim, thing):
    pass

@explore(reuse=["thing"])
def test_reused(edda_sim, thing):
    thing.append(1)

@explore()
def test_none():
    pass
""")

    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*fixture 'thing' is made once*@explore(reuse=[[]'thing'])*"])
    result.stdout.fnmatch_lines(["*let it take edda_sim or edda_async_sim*"])


def test_options_of_the_marker_hold_in_each_schedule(project):
    """`@pytest.mark.edda(...)` says how each simulation is made."""
    result = project("""
from datetime import UTC, datetime

@explore(crashes=1)
@pytest.mark.edda(start=datetime(2030, 1, 1, tzinfo=UTC))
def test_start(edda_sim):
    Here.world = edda_sim.world(World)
    edda_sim.start(reserve)
    assert edda_sim.now.year == datetime.now().year == 2030
""")

    result.assert_outcomes(passed=1)


def test_check_crashes_is_shown_and_repeated_too(project):
    """In a plain test, its token goes to the same option."""
    body = """
def test_crashes():
    def scenario(sim):
        Here.world = sim.world(World)
        sim.start(reserve)
        return Here.world.stock
    check_crashes(scenario)
"""
    text = project(body).stdout.str()
    token = re.search(r"^schedule: (edda1-\S+)$", text, re.MULTILINE)[1]
    assert "✝ crash of worker 1" in text

    again = project(body, "--edda-schedule", token)
    again.assert_outcomes(failed=1)


def test_a_skip_inside_an_explored_test_skips_it(project):
    """It says something about the test, not about a schedule."""
    result = project("""
@explore()
def test_skipped(edda_sim):
    pytest.skip("not here")
""")

    result.assert_outcomes(skipped=1)


# ---- Fresh histories -------------------------------------------------------------------------


class Outside:
    ticks: list


@activity
async def tick(ctx, number: int) -> None:
    Outside.ticks.append((ctx.idempotency_key, number))


@workflow
async def ticking(ctx, number: int = 1) -> int:
    await tick(ctx, number)
    if number == 3:
        return number
    await ctx.recur(number=number + 1)


def test_a_step_of_each_round_is_a_call_of_its_own():
    """After `ctx.recur` ids begin at 1 again, which check_crashes takes for no repetition."""

    def scenario(sim):
        Outside.ticks = sim.world(list)
        run = sim.start(ticking)
        return run.result, sorted({number for _, number in Outside.ticks})

    assert check_crashes(scenario, crashes=2).exhaustive
