"""The simulation for `async def` tests: the same verbs, awaited."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from edda import activity, sleep, wait_event, workflow
from edda.errors import StoreUnavailableError
from edda_testkit import AsyncSimulation, UnusedStub

START = datetime(2000, 1, 1, tzinfo=UTC)


@activity
async def nap(ctx, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@workflow
async def waits(ctx):
    await nap(ctx, 5)
    return (await wait_event(ctx, "go", timeout_seconds=60)).data


@workflow
async def ticks(ctx):
    await sleep(ctx, 10)
    await sleep(ctx, 10)


async def test_every_verb_is_awaited(edda_async_sim):
    """Start, advance, send, duplicate, call, run and cancel do what they do elsewhere."""
    sim = edda_async_sim
    one, other = await sim.start(waits), await sim.start(waits)
    assert one.status == "running"
    await sim.advance(seconds=5)
    assert one.status == "waiting_for_event"
    event = await sim.send("go", 1, after=1)
    await sim.call(lambda: None)
    assert await sim.run(until=one) is one
    await sim.duplicate(event)
    assert [one.result, other.result] == [1, 1]
    assert await sim.cancel(one) is False
    assert [len(sim.runs), len(sim.calls(nap)), sim.now] == [2, 2, START + timedelta(seconds=6)]


async def test_time_and_faults(edda_async_sim):
    """`advance_to`, `advance_to_next`, `crash` and `deploy` are there too."""
    sim = edda_async_sim
    run = await sim.start(ticks)
    assert sim.next_due == START + timedelta(seconds=10)
    assert await sim.advance_to_next() == START + timedelta(seconds=10)
    await sim.crash()
    await sim.deploy(ticks)
    await sim.advance_to(START + timedelta(seconds=20))
    assert run.status == "completed"


async def test_the_tests_own_loop_is_left_alone(edda_async_sim):
    """The test's tasks run on the test's loop, and its time is real."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(asyncio.sleep(0.001, "mine"))
    await edda_async_sim.start(waits)
    await edda_async_sim.advance(hours=1)
    assert asyncio.get_running_loop() is loop
    assert await task == "mine"


async def test_what_happens_side_by_side_is_a_block_of_either_kind(edda_async_sim):
    """`with` and `async with` do the same, and what fails in the block is raised by it."""
    sim = edda_async_sim
    async with sim.concurrently():
        run = await sim.start(ticks)
        await sim.advance(20)
        assert run.status == "pending"
    with sim.concurrently():
        other = await sim.start(ticks)
        await sim.advance(20)
    assert run.is_finished
    assert other.is_finished
    with pytest.raises(ZeroDivisionError):
        async with sim.concurrently():
            raise ZeroDivisionError


async def test_its_doors_are_public(edda_async_sim):
    """Store, clock, sender and schedule are those of the simulation."""
    sim = edda_async_sim
    assert (sim.store, sim.clock) == (sim.simulation.store, sim.simulation.clock)
    assert sim.sender.posted == []
    assert sim.schedule.deviations == ()
    sim.store.fail_next(create=1)
    with pytest.raises(StoreUnavailableError):
        await sim.start(ticks)


async def test_requests_are_awaited(edda_async_sim):
    """`http` answers an awaited request."""
    run = await edda_async_sim.start(waits)
    await edda_async_sim.advance(5)
    event = {"specversion": "1.0", "type": "go", "source": "s", "id": "1", "data": 2}
    response = await edda_async_sim.http.post(
        "/events", json=event, headers={"content-type": "application/cloudevents+json"}
    )
    assert (response.status_code, run.result) == (202, 2)
    assert (await edda_async_sim.http.get("/healthz")).status_code == 200


def test_it_is_a_context_manager_anywhere():
    """`async with AsyncSimulation()` works on any loop, and checks when it ends."""

    async def use():
        async with AsyncSimulation() as sim:
            assert repr(sim) == "<AsyncSimulation at 2000-01-01T00:00:00+00:00: 0 runs>"
            assert sim.app.is_open
            stub = sim.stub(nap, returns="x")
            assert "test_async_simulation.py:" in stub.describe()

    with pytest.raises(UnusedStub):
        asyncio.run(use())
