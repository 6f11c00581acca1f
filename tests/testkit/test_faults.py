"""What a test lets go wrong: crash points, store faults, leases, workers and clocks."""

import asyncio

import pytest

from edda import activity, wait_event, wait_timer, workflow
from edda.errors import StoreUnavailableError
from edda_testkit import Misuse, Simulation


class World:
    def __init__(self):
        self.log = []


class Here:
    world = World()


@pytest.fixture(autouse=True)
def world():
    Here.world = World()
    return Here.world


@pytest.fixture
def sim():
    with Simulation() as sim:
        yield sim


@activity
async def say(ctx, what: str) -> str:
    Here.world.log.append(what)
    return what


@activity
async def work(ctx) -> str:
    Here.world.log.append("begun")
    await asyncio.sleep(10)
    Here.world.log.append("done")
    return "worked"


@workflow
async def two(ctx):
    return [await say(ctx, "a"), await say(ctx, "b")]


@workflow
async def long(ctx):
    return await work(ctx)


@workflow
async def patient(ctx):
    await wait_timer(ctx, 60)
    return await say(ctx, "late")


# ---- crash_at ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "log"),
    [
        ("before", ["a", "b"]),
        ("after_effect", ["a", "b", "b"]),
        ("after_commit", ["a", "b"]),
    ],
)
def test_a_crash_point_strikes_where_it_says(sim, world, when, log):
    """Only what had its effect and was not committed is done again."""
    sim.crash_at("say:2", when)

    assert sim.start(two).result == ["a", "b"]
    assert log == world.log


def test_a_crash_during_an_activity_begins_it_again(sim, world):
    """At an await of the function the worker dies, and another begins from the start."""
    sim.crash_at("work:1", "during")
    run = sim.start(long)
    sim.advance(10)

    assert run.result == "worked"
    assert world.log == ["begun", "begun", "done"]


@pytest.mark.parametrize(("when", "log"), [("before", ["a", "a", "b"]), ("after", ["a", "b"])])
def test_a_crash_strikes_at_a_commit(sim, world, when, log):
    """The first commit here is that of the first answer."""
    sim.crash_at(commit=1, when=when)

    assert sim.start(two).result == ["a", "b"]
    assert log == world.log


def test_a_crash_point_may_be_for_one_run(sim, world):
    """Another run of the same workflow is left alone."""
    first = sim.start(patient)
    second = sim.start(patient)
    sim.crash_at("say:1", "after_effect", run=second)
    sim.advance(60)

    assert [first.result, second.result] == ["late", "late"]
    assert len(sim.calls(say, run=first)) == 1
    assert len(sim.calls(say, run=second)) == 2


def test_a_crash_point_that_is_never_reached_fails_the_test():
    """A test that crashes nothing must not pass for one that does."""
    with (  # noqa: PT012
        pytest.raises(AssertionError, match=r"crash_at\('say:9', \"before\"\) never struck"),
        Simulation() as sim,
    ):
        sim.crash_at("say:9", "before")
        sim.start(two)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "say:1", "when": "sometimes"}, "strikes 'before', 'during'"),
        ({}, "takes the id of a call"),
        ({"id": "say:1", "commit": 1}, "takes the id of a call"),
        ({"commit": 1, "when": "during"}, '"before" or "after" the n-th commit'),
        ({"commit": 0, "when": "after"}, "counted from 1"),
    ],
)
def test_an_impossible_crash_point_is_refused(sim, arguments, message):
    """A misspelt point is an error at once."""
    with pytest.raises(Misuse, match=message):
        sim.crash_at(**arguments)


def test_recovery_takes_its_time(world):
    """Until a new worker is up nothing goes on, and then all that was due does."""
    with Simulation(recovery_seconds=30) as sim:
        sim.crash_at("say:1", "after_effect")
        run = sim.start(two)
        assert world.log == ["a"]
        sim.advance(29)
        assert run.status == "running"
        sim.advance(1)
        assert run.result == ["a", "b"]


# ---- The store -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("when", "log"), [("before", ["a", "a", "b"]), ("after", ["a", "b"])])
def test_a_commit_that_fails_is_taken_up_again(sim, world, when, log):
    """What failed before it took effect is done again; what took effect stands."""
    sim.store.fail_next(commit=1, when=when)

    assert sim.start(two).result == ["a", "b"]
    assert log == world.log


def test_a_delivery_that_fails_is_the_senders_to_repeat(sim):
    """The sender gets the error, and a repeat changes nothing if the first had taken effect."""

    @workflow
    async def waiting(ctx):
        return (await wait_event(ctx, "go")).data

    run = sim.start(waiting)
    sim.store.fail_next(deliver=1, when="after")
    with pytest.raises(StoreUnavailableError):
        sim.send("go", 1, id="one")
    sim.send("go", 1, id="one")

    assert run.result == 1


def test_a_start_that_fails_started_nothing(sim):
    """Before it took effect there is no instance."""
    sim.store.fail_next(create=1)
    with pytest.raises(StoreUnavailableError):
        sim.start(two)

    assert sim.runs == []


@pytest.mark.parametrize(
    "wrong", [{}, {"commit": 1, "deliver": 1}, {"commit": -1}, {"commit": 1, "when": "never"}]
)
def test_an_impossible_fault_is_refused(sim, wrong):
    """Which operation fails, and when, must be clear."""
    with pytest.raises(ValueError, match=r"fail_next\(\)|when must be"):
        sim.store.fail_next(**wrong)


# ---- Workers, leases, clocks ---------------------------------------------------------------------


def test_a_stalled_worker_comes_back_too_late(world):
    """Another took over; what the first commits when it goes on is refused."""
    with Simulation(workers=2) as sim:
        run = sim.start(long)
        first = next(worker for worker in sim.workers if worker.turns)
        first.stall(60)
        assert world.log == ["begun", "begun"]
        sim.advance(10)
        assert run.result == "worked"
        sim.advance(60)
        assert world.log == ["begun", "begun", "done", "done"]
        assert len(run.history) == 4


def test_a_lost_lease_lets_another_worker_in(world):
    """Both work on it for a while, and one of them commits."""
    with Simulation(workers=2) as sim:
        run = sim.start(long)
        assert sim.expire_lease(run)
        sim.advance(10)

        assert run.result == "worked"
        assert not sim.expire_lease(run)


def test_a_crash_of_one_worker_leaves_the_other_alone(world):
    """What the other has in flight goes on."""
    with Simulation() as sim:
        sim.start(long)
        other = sim.add_worker()
        other.crash()
        assert world.log == ["begun"]
        sim.workers[0].crash()
        assert world.log == ["begun", "begun"]
        sim.advance(10)


def test_a_workers_clock_may_be_ahead(world):
    """It is early with the timers of turns that it holds, by as much as its clock is ahead."""

    @workflow
    async def beside(ctx):
        await asyncio.gather(work(ctx), nap(ctx))

    async def nap(ctx):
        await wait_timer(ctx, 8)
        await say(ctx, "woke")

    with Simulation() as sim:
        sim.workers[0].stall(3600)
        sim.add_worker(clock_ahead_seconds=5)
        sim.start(beside)
        sim.advance(20)

        assert [call.at.second for call in sim.calls(say)] == [3]


def test_a_workers_clock_may_be_behind():
    """What is due by the store's clock waits until the worker's says so too."""
    with Simulation() as sim:
        sim.workers[0].stall(3600)
        sim.add_worker(clock_ahead_seconds=-5)
        run = sim.start(patient)
        sim.advance(64)
        assert run.status == "waiting_for_timer"
        sim.advance(1)
        assert run.result == "late"


def test_a_clock_that_jumps_makes_everything_late(sim, world):
    """Nothing is done at the instants it jumped over."""
    run = sim.start(patient)
    sim.jump(3600)

    assert run.result == "late"
    assert [str(call.at.time()) for call in sim.calls(say)] == ["01:00:00"]
    with pytest.raises(ValueError, match="jumps forward only"):
        sim.jump(-1)
