"""Every passing test is a replay test: what is not replayable is found and named."""

import random
import re
from datetime import UTC, datetime

import pytest

from edda import activity, sleep, wait_event, workflow
from edda_testkit import NotReplayableRun, Simulation
from edda_testkit.replay import MOST_EVENTS, check_replay

counter = iter(range(1_000_000))


@activity
async def double(ctx, n: float) -> float:
    return 2 * n


@workflow
async def reads_the_clock(ctx):
    return await double(ctx, datetime.now(UTC).timestamp())


@workflow
async def draws(ctx):
    return await double(ctx, random.random())


@workflow
async def counts(ctx):
    return await double(ctx, next(counter))


@workflow
async def branches_on_the_hour(ctx):
    if datetime.now(UTC).hour == 0:
        await sleep(ctx, 1)
    await wait_event(ctx, "never")


@workflow
async def keeps_to_ctx(ctx):
    drawn = ctx.random.random() + ctx.now().timestamp()
    return await double(ctx, drawn)


@pytest.mark.parametrize("wf", [reads_the_clock, draws, counts, branches_on_the_hour])
def test_what_depends_on_the_world_is_not_replayable(wf):
    """A clock, randomness and a global counter are each found in a run that passed."""
    with pytest.raises(NotReplayableRun) as error, Simulation(guard="off") as sim:  # noqa: PT012
        sim.start(wf, instance_id="R")
        sim.advance(1)
    assert str(error.value).startswith(
        f"The test passes, but is not replayable: {wf.name} 'R', replayed from scratch"
    )


def test_the_line_that_changes_a_global_is_told():
    """The replay shows the ask that differs; what the lint sees shows why it does."""
    with pytest.raises(NotReplayableRun) as error, Simulation(guard="off") as sim:
        sim.start(counts)
    assert "The lint sees in it:" in str(error.value)
    assert re.search(r"test_replay\.py:\d+: EDL010 ", str(error.value))


def test_code_without_a_file_is_told_without_a_hint():
    """Where there is no source to read, the divergence is told all the same."""
    names: dict[str, object] = {"workflow": workflow, "double": double, "made": iter(range(9))}
    source = "@workflow\nasync def typed_in(ctx):\n    return await double(ctx, next(made))\n"
    exec(compile(source, "<typed in>", "exec"), names)
    with pytest.raises(NotReplayableRun) as error, Simulation(guard="off") as sim:
        sim.start(names["typed_in"])
    assert "The lint sees" not in str(error.value)


def test_replay_can_be_turned_off():
    """With `replay=False` the run is not judged."""
    with Simulation(replay=False, guard="off") as sim:
        run = sim.start(draws)
    assert run.status == "completed"


def test_what_keeps_to_ctx_is_replayable():
    """The context's time and randomness are the same in each replay."""
    with Simulation() as sim:
        run = sim.start(keeps_to_ctx)
    assert run.status == "completed"


def test_a_call_in_flight_is_judged_too():
    """A run whose activity is under way at the end is replayable, or not, all the same."""

    @activity
    async def waits(ctx, n: float) -> None:
        await sleep_for_ever()

    async def sleep_for_ever():
        import asyncio

        await asyncio.sleep(1e6)

    @workflow
    async def fine(ctx):
        await waits(ctx, 1)

    @workflow
    async def not_fine(ctx):
        await waits(ctx, random.random())  # edda: allow[random]

    with Simulation() as sim:
        run = sim.start(fine)
    assert run.status == "running"
    with pytest.raises(NotReplayableRun, match="activity_scheduled waits:1"), Simulation() as sim:
        sim.start(not_fine)


def test_a_change_that_only_a_prefix_shows_is_found():
    """State that an earlier execution left behind is met when a prefix is replayed."""
    executions = []

    @workflow
    async def remembers(ctx):
        await double(ctx, 1)
        executions.append(1)
        if len(executions) > 2:  # the run itself, and the replay from scratch
            await double(ctx, 2)
        await double(ctx, 3)

    with pytest.raises(NotReplayableRun, match="from its first"), Simulation() as sim:
        sim.start(remembers)


def test_the_tests_own_randomness_is_untouched():
    """A replay leaves the global `random` as it was."""
    with Simulation() as sim:
        sim.start(keeps_to_ctx)
        random.seed(4)
        first = random.random()
        random.seed(4)
    assert random.random() == first


def test_a_long_run_is_replayed_from_some_prefixes(monkeypatch):
    """The work of replays is bounded, and the last prefix is among them."""
    replayed = []

    @workflow
    async def long(ctx):
        replayed.append(1)
        for n in range(20):
            await double(ctx, n)

    monkeypatch.setattr("edda_testkit.replay.MOST_EVENTS", 200)
    with Simulation(replay=False) as sim:
        run = sim.start(long)
    replayed.clear()
    check_replay(long, run.id, run.history)
    assert 2 <= len(replayed) <= 12
    assert MOST_EVENTS > 10_000
