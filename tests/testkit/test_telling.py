"""What a failing test is told of its simulations."""

import pytest

from edda import activity, sleep, wait_event, workflow
from edda_testkit import Schedule, Simulation
from edda_testkit.telling import MAX_LINES, MAX_RUNS, concerned, sections, told


@activity
async def pay(ctx) -> int:
    return 1


@workflow
async def order(ctx):
    await pay(ctx)
    await wait_event(ctx, "packed", timeout_seconds=3600)
    await sleep(ctx, 60)


@workflow
async def many(ctx, count: int):
    for _ in range(count):
        await pay(ctx)


def test_crashes_stand_where_they_struck():
    """A crash is a line of its own between the events around it, with its virtual time."""
    with Simulation() as sim:
        run = sim.start(order)
        sim.crash()
        sim.advance(90)
        sim.crash()
        sim.send("packed")
        lines = told(run, sim.crashes).split("\n")
    assert lines[0].startswith("<Run order 'order-")
    assert [line.rpartition("  tests/")[0].rstrip() or line for line in lines[1:-1]] == [
        "     +0           ▶ order                ()",
        "     +0           ○ pay:1                ()",
        "     +0           ● pay:1                returned 1",
        "     +0           ◇ wait_event_packed:1  waits at most 1h",
        "     +0           ✝ crash of every worker",
        "+1m 30s           ✝ crash of every worker",
        "+1m 30s  +1m 30s  ◆ wait_event_packed:1  received from test: null",
        "+1m 30s           ◔ sleep:1              for 1m",
    ]
    assert lines[-1].startswith("waits for timer 'sleep' (sleep:1) at ")


def test_a_worker_is_named_when_there_are_several():
    """One of two workers crashes: the line says which."""
    with Simulation(workers=2) as sim:
        sim.start(order)
        sim._driver.workers[1].crash()
        assert "✝ crash of worker 2" in told(sim.runs[0], sim.crashes)


def test_long_timelines_and_many_runs_are_cut():
    """Of a very long run the middle is left out, of many runs only a line is shown."""
    with Simulation(replay=False) as sim:
        sim.start(many, count=100)
        for _ in range(MAX_RUNS + 2):
            sim.start(order)
        found = sections(sim, is_explored=False)
    assert len(found[0][1].split("\n")) == MAX_LINES + 2
    assert "... 82 more" in found[0][1]
    assert found[MAX_RUNS][0] == "edda: 3 more runs"
    assert found[MAX_RUNS][1].count("<Run order ") == 3


def test_a_schedule_that_is_not_the_default_is_named():
    """The token of a schedule given by hand is in the report; an explored test shows its own."""
    schedule = Schedule("tape", tape=(0, 1))

    @workflow
    async def both(ctx):
        import asyncio

        await asyncio.gather(pay(ctx), pay(ctx))

    with Simulation(schedule, replay=False) as sim:
        sim.start(both)
        token = sim.schedule.token
        assert ("edda schedule", f"schedule: {token}") in sections(sim, is_explored=False)
        assert "edda schedule" not in dict(sections(sim, is_explored=True))


def test_earlier_simulations_that_ended_well_are_left_out():
    """Of many simulations, those still open and the last are shown."""
    sims = [Simulation() for _ in range(3)]
    for sim in sims[:2]:
        with sim:
            pass
    with sims[2]:
        assert concerned(sims) == [sims[2]]
    assert concerned(sims) == [sims[2]]
    assert concerned([]) == []


@pytest.mark.parametrize("form", ["text", "mermaid"])
def test_a_run_without_history_is_told(form):
    """A run that is only queued has nothing to show, and that is no error."""
    with Simulation() as sim, sim.concurrently():
        run = sim.start(order)
        assert told(run).startswith("<Run order ")
        assert isinstance(run.timeline(form), str)
