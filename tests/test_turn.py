"""Each verb as a triple: it suspends, it completes, it is still waiting. And what a turn leaves."""

import asyncio
import gc
import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from edda import (
    RetryPolicy,
    activity,
    send_event,
    sleep,
    wait_any,
    wait_event,
    wait_timer,
    workflow,
)
from edda.commands import Result
from edda.errors import DuplicateIdError
from edda.events import as_envelope
from edda.history import Started
from edda.ports import NewInstance
from edda.stores.memory import MemoryStore
from edda.turn import Turn
from edda_testkit import Simulation


@activity(retry_policy=RetryPolicy(initial_interval=10, max_attempts=2))
async def act(ctx) -> str:
    await asyncio.sleep(5)
    return "done"


@workflow
async def calling(ctx):
    return await act(ctx)


@workflow
async def timing(ctx):
    await wait_timer(ctx, 5)
    return "done"


@workflow
async def listening(ctx):
    return (await wait_event(ctx, "go")).data


@workflow
async def plain_asyncio(ctx):
    await asyncio.sleep(5)
    return "done"


@pytest.mark.parametrize(
    ("flow", "status"),
    [
        (calling, "running"),
        (timing, "waiting_for_timer"),
        (plain_asyncio, "waiting_for_timer"),
        (listening, "waiting_for_event"),
    ],
)
def test_each_verb_suspends_waits_and_completes(edda_sim, flow, status):
    """The verb suspends with its status, still waits a moment before, and completes."""
    run = edda_sim.start(flow)
    assert run.status == status
    edda_sim.advance(4.999999)
    assert run.status == status
    edda_sim.send("go", "done", after=0.000001)
    edda_sim.advance(0.000001)
    assert run.result == "done"


def test_a_send_completes_at_once(edda_sim):
    """An event sent in a workflow is a step, and reaches another run in the same instant."""

    @workflow
    async def sending(ctx):
        async with asyncio.TaskGroup() as group:
            sent = group.create_task(send_event("go", "s", {"b": 1, "a": 2}))
        return sent.result().get_id()

    listener = edda_sim.start(listening)
    run = edda_sim.start(sending, instance_id="x")
    assert run.result == "x/send_event_go:1"
    assert listener.result == {"a": 2, "b": 1}


def test_a_retry_suspends_waits_and_completes(edda_sim):
    """Between attempts the instance is released, and the second attempt follows when due."""
    edda_sim.stub(act, sequence=[ValueError("no"), "done"])
    run = edda_sim.start(calling)
    assert run.status == "waiting_for_retry"
    edda_sim.advance(8)
    assert run.status == "waiting_for_retry"
    edda_sim.crash()
    edda_sim.advance(2)
    assert run.result == "done"
    assert [call.attempt for call in run.calls(act)] == [1, 2]


def test_a_call_given_up_keeps_no_turn_alive(edda_sim):
    """A run that gave up an activity and waits is waiting, not running, and holds no turn."""

    @workflow
    async def impatient(ctx):
        try:
            async with asyncio.timeout(1):
                await act(ctx)
        except TimeoutError:
            return (await wait_event(ctx, "go")).data

    run = edda_sim.start(impatient)
    edda_sim.advance(1)
    assert run.status == "waiting_for_event"
    edda_sim.advance(60)
    edda_sim.send("go", "late")
    assert run.result == "late"


def test_cancel_runs_the_cleanup(edda_sim):
    """Cancellation drops what is in flight, and `finally` may take further steps."""

    @workflow
    async def tidy(ctx):
        try:
            await act(ctx)
        finally:
            await sleep(ctx, 3)

    run = edda_sim.start(tidy)
    assert run.cancel()
    assert run.status == "waiting_for_timer"
    edda_sim.advance(3)
    assert run.status == "cancelled"
    assert not run.cancel()


def test_a_model_that_changed_parks_the_run(edda_sim):
    """Stored event data that today's model refuses makes the run stuck, not broken."""

    def version(hint):
        class Data(BaseModel):
            value: hint

        async def modelled(ctx):
            data = (await wait_event(ctx, "go", model=Data)).data
            await wait_event(ctx, "end")
            return str(data.value)

        return workflow(modelled)

    old, new = version(int), version(bool)
    run = edda_sim.start(old)
    edda_sim.send("go", {"value": 5})
    edda_sim.deploy(new)
    edda_sim.send("end")
    assert run.status == "stuck"
    assert "data.value" in str(run.error)
    edda_sim.deploy(old)
    edda_sim.crash()
    assert run.result == "5"


def test_a_local_class_that_is_not_retryable(edda_sim):
    """A class that cannot be found by name is still the one that a policy names."""

    class Local(Exception):
        pass

    @activity(retry_policy=RetryPolicy(non_retryable=(Local,)))
    async def refusing(ctx) -> None:
        raise Local("no")

    @workflow
    async def refused(ctx):
        await refusing(ctx)

    run = edda_sim.start(refused)
    assert run.status == "failed"
    assert "Local: no" in str(run.error)
    assert len(run.calls(refusing)) == 1


# ---- A turn by itself: what it does with what came late, or is refused --------------------------


class Clock:
    def __init__(self):
        self.time = datetime(2030, 1, 1, tzinfo=UTC)

    def now(self):
        return self.time

    def entropy(self, bits):
        return 7


class CountingStore(MemoryStore):
    commits = 0

    async def commit(self, commit):
        self.commits += 1
        assert self.commits < 20, "it spins"
        return await super().commit(commit)


async def begun(store, clock, flow):
    started = Started(0, clock.now(), flow.name, "{}", 7)
    created = await store.create(NewInstance("x", flow.name, started, "me"))
    turn = Turn(created.claimed, flow, store=store, clock=clock)
    await turn.begin()
    return turn


def post(type, id="1", data=None):
    return as_envelope({"type": type, "source": "s", "id": id}, data)


@pytest.mark.parametrize("timed", ["timeout_seconds", "asyncio.timeout"])
@pytest.mark.parametrize(("seconds", "said"), [(9, "go"), (10, "go"), (10.000001, "late")])
def test_an_event_that_a_turn_has_not_seen_yet(timed, seconds, said):
    """What was accepted by the deadline wins, also when the turn looks again only after it."""

    @workflow
    async def racing(ctx):
        async def listen():
            try:
                if timed == "timeout_seconds":
                    return (await wait_event(ctx, "go", timeout_seconds=10)).type
                async with asyncio.timeout(10):
                    return (await wait_event(ctx, "go")).type
            except TimeoutError:
                return "late"

        return await asyncio.gather(act(ctx), listen())

    async def main():
        clock = Clock()
        store = CountingStore(clock)
        turn = await begun(store, clock, racing)
        clock.time += timedelta(seconds=seconds)
        await store.deliver([post("go")])
        clock.time += timedelta(seconds=2)
        step = await turn.answer("act:1", Result('"done"'))
        assert step.is_over
        return json.loads((await store.instance("x")).outcome.value)

    assert asyncio.run(main()) == ["done", said]


@pytest.mark.parametrize("timed", ["timeout_seconds", "asyncio.timeout"])
def test_an_event_that_comes_late_while_the_turn_looks(timed):
    """One that is accepted after the deadline loses, also when both pass while a commit runs."""

    @workflow
    async def racing_a_commit(ctx):
        try:
            if timed == "timeout_seconds":
                return (await wait_event(ctx, "go", timeout_seconds=10)).type
            async with asyncio.timeout(10):
                return (await wait_event(ctx, "go")).type
        except TimeoutError:
            return "late"

    async def main():
        clock = Clock()

        class SlowStore(CountingStore):
            async def commit(self, commit):
                if not clock.time.second:
                    clock.time += timedelta(seconds=11)
                    await self.deliver([post("go")])
                return await super().commit(commit)

        store = SlowStore(clock)
        await begun(store, clock, racing_a_commit)
        return json.loads((await store.instance("x")).outcome.value)

    assert asyncio.run(main()) == "late"


class Counted(BaseModel):
    count: int


def test_a_refused_event_that_nobody_wants_any_more():
    """A message that one wait refused, and another gave up before it took it, ends no turn late."""

    @workflow
    async def tangled(ctx):
        taking = []

        async def opens():
            await wait_event(ctx, "first")
            taking.append(asyncio.create_task(wait_event(ctx, "counted")))

        async def gives_up():
            await wait_event(ctx, "last")
            taking[0].cancel()

        waiting = wait_event(ctx, "counted", model=Counted)
        await asyncio.gather(waiting, opens(), gives_up())

    async def main():
        clock = Clock()
        store = CountingStore(clock)
        await begun(store, clock, tangled)
        await store.deliver([post("first"), post("counted", "2", "no"), post("last", "3")])
        (claimed,) = await store.claim("me", [tangled.name], limit=1, lease_seconds=30)
        step = await Turn(claimed, tangled, store=store, clock=clock).begin()
        assert step.is_over
        await store.deliver([post("counted", "4", {"count": 1})])
        (claimed,) = await store.claim("me", [tangled.name], limit=1, lease_seconds=30)
        await Turn(claimed, tangled, store=store, clock=clock).begin()
        return (await store.instance("x")).status

    assert asyncio.run(main()) == "completed"


# ---- What asyncio code may do, and the turn must bear --------------------------------------------


@pytest.mark.parametrize("how", ["call_soon", "call_later", "add_done_callback"])
def test_a_callback_that_raises_is_logged(edda_sim, caplog, how):
    """A plain callback that raises is logged, as asyncio does it, and the workflow goes on."""

    @workflow
    async def calling_back(ctx):
        loop, ended = asyncio.get_running_loop(), asyncio.create_task(asyncio.sleep(0))
        match how:
            case "call_soon":
                loop.call_soon(int, "no number")
            case "call_later":
                loop.call_later(1, int, "no number")
            case _:
                ended.add_done_callback(int)
        await sleep(ctx, 5)
        return "went on"

    run = edda_sim.start(calling_back)
    edda_sim.advance(5)
    assert run.result == "went on"
    assert "In workflow calling_back: Exception in callback" in caplog.text


def test_a_wait_of_several_that_cannot_be_asked_leaves_none(edda_sim):
    """When the second of several waits has an id that is taken, the first takes no event."""

    @workflow
    async def doubled(ctx):
        other = asyncio.create_task(wait_event(ctx, "other", event_id="wait_event_second:1"))
        await asyncio.sleep(0)
        with pytest.raises(DuplicateIdError):
            await wait_any(ctx, {"first": None, "second": None})
        return [(await wait_event(ctx, "first")).data, (await other).data]

    run = edda_sim.start(doubled)
    edda_sim.send("other", 2)
    edda_sim.send("first", 1)
    assert run.result == [1, 2]


def test_ids_do_not_depend_on_the_garbage_collector():
    """What an abandoned generator asks when it is collected, whenever that is, counts no id."""

    @workflow
    async def littering(ctx):
        cycle = []

        async def numbers(cycle):
            try:
                yield cycle
            finally:
                await act(ctx)

        cycle.append(numbers(cycle))
        async for _ in cycle[0]:
            break
        del cycle
        if not ctx.is_replaying:
            gc.collect()
        await act(ctx)
        await sleep(ctx, 5)

    gc.disable()
    try:
        with Simulation(guard="off") as sim:
            run = sim.start(littering)
            sim.run(until=run)
            assert [event.id for event in run.history if event.kind == "activity_scheduled"] == [
                "act:1"
            ]
    finally:
        gc.enable()
