"""Workflows that events start: by type, once, with arguments from data, all or nothing."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated

import httpx
import pytest
from pydantic import BaseModel, PlainSerializer

from edda import (
    DefinitionError,
    EddaApp,
    InvalidEventError,
    WorkflowContext,
    activity,
    send_event,
    wait_event,
    workflow,
)
from edda.errors import StoreUnavailableError
from edda.intake import id_of_start
from edda.stores.memory import MemoryStore
from edda_testkit import Simulation

EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "starts.order"}


class Line(BaseModel):
    sku: str
    count: int = 1


@workflow(start_on="starts.order")
async def fulfil(ctx: WorkflowContext, order_id: str, lines: list[Line] | None = None) -> dict:
    paid = await wait_event(ctx, "paid", match={"data.order_id": order_id})
    return {"order": order_id, "lines": len(lines or []), "paid": paid.data["amount"]}


@workflow(start_on="starts.order")
async def greet(ctx: WorkflowContext, order_id: str) -> str:
    return f"thanks for {order_id}"


@workflow(start_on=True)
async def nightly(ctx: WorkflowContext, at: datetime, **rest: int) -> list:
    return [at.isoformat(), rest]


@workflow
async def onlooker(ctx: WorkflowContext) -> str:
    event = await wait_event(ctx, "starts.order")
    return event.data["order_id"]


@workflow
async def sender(ctx: WorkflowContext) -> None:
    await send_event("starts.order", "inside", {"order_id": "ORD-9"})


class FailingStore(MemoryStore):
    """A store that fails as it is told: `{"create": "before"}`, once each."""

    def __init__(self, clock):
        super().__init__(clock)
        self.fails = {}

    async def create(self, new):
        return await self._failing("create", super().create(new))

    async def deliver(self, envelopes, judge=None):
        return await self._failing("deliver", super().deliver(envelopes, judge))

    async def _failing(self, verb, operation):
        when = self.fails.pop(verb, None)
        if when == "before":
            operation.close()
            raise StoreUnavailableError("db.example")
        value = await operation
        if when == "after":
            raise StoreUnavailableError("db.example")
        return value


@pytest.fixture
def sim():
    options = {"workflows": [fulfil, nightly, onlooker, sender]}
    with Simulation(store=FailingStore, app_options=options) as sim:
        yield sim


def names(sim):
    return [run.workflow.name for run in sim.runs]


# ---- What is started -------------------------------------------------------------------------


def test_an_event_starts_the_workflow_that_names_its_type(sim):
    """The members of its data are the arguments, made to fit the hints; others are left out."""
    data = {"order_id": "ORD-1", "lines": [{"sku": "a"}], "currency": "EUR"}
    sim.send("starts.order", data)
    [run] = sim.runs
    assert (run.workflow.name, run.status) == ("fulfil", "waiting_for_event")
    sim.send("paid", {"order_id": "ORD-1", "amount": 5})
    assert run.result == {"order": "ORD-1", "lines": 1, "paid": 5}


def test_true_means_the_workflows_own_name(sim):
    """`start_on=True` starts on the workflow's name, and `**kwargs` takes all that is left."""
    sim.send("nightly", {"at": "2026-01-01T00:00:00Z", "a": 1, "b": 2})
    assert sim.runs[0].result == [datetime(2026, 1, 1, tzinfo=UTC).isoformat(), {"a": 1, "b": 2}]


def test_data_do_not_reach_the_context(sim):
    """A member that is called like the context parameter is no argument, whatever is taken."""
    sim.send("nightly", {"at": "2026-01-01T00:00:00Z", "ctx": 1, "rest": 2})
    assert sim.runs[0].result[1] == {"rest": 2}


def test_every_workflow_of_the_type_starts():
    """Two workflows that name one type both start, each once."""
    with Simulation(app_options={"workflows": [fulfil, greet]}) as sim:
        sim.send("starts.order", {"order_id": "ORD-1"})
        assert sorted(names(sim)) == ["fulfil", "greet"]


def test_the_event_reaches_those_who_wait_too(sim):
    """An event that starts a workflow answers waits like any other."""
    waiting = sim.start(onlooker)
    sim.send("starts.order", {"order_id": "ORD-1"})
    assert waiting.result == "ORD-1"
    assert names(sim) == ["onlooker", "fulfil"]


def test_the_event_is_not_read_by_what_it_starts():
    """The instance reads the log from its start on, and its start follows the event."""

    @workflow(start_on="tick")
    async def on_tick(ctx: WorkflowContext, number: int) -> int:
        event = await wait_event(ctx, "tick")
        return event.data["number"]

    with Simulation(app_options={"workflows": [on_tick]}) as sim:
        sim.send("tick", {"number": 1})
        first = sim.runs[0]
        assert first.status == "waiting_for_event"
        sim.send("tick", {"number": 2})
        assert first.result == 2


def test_the_same_event_starts_once(sim):
    """A repeated event, by source and id, finds its instance there; another id starts another."""
    event = sim.send("starts.order", {"order_id": "ORD-1"})
    sim.duplicate(event)
    assert names(sim) == ["fulfil"]
    assert sim.runs[0].id == id_of_start(fulfil, "test", event.get_id())
    sim.duplicate(event, id="fresh")
    assert names(sim) == ["fulfil", "fulfil"]


def test_a_repeat_with_other_content_changes_nothing(sim):
    """The first one stands, in the log and for the instance."""
    sim.send("starts.order", {"order_id": "ORD-1"}, id="7")
    sim.send("starts.order", {"order_id": "ORD-2"}, id="7")
    assert [run.history[0].arguments for run in sim.runs] == ['{"order_id":"ORD-1"}']


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "bc"), ("ab", "c")), (('a","', "b"), ("a", '","b'))]
)
def test_ids_of_instances_do_not_run_together(one, other):
    """Source and id are told apart in the instance's id."""
    assert id_of_start(fulfil, *one) != id_of_start(fulfil, *other)


def test_an_addressed_event_starts_nothing(sim):
    """An event for one instance is seen by that instance alone."""
    sim.send("starts.order", {"order_id": "ORD-1"}, eddainstanceid="somebody")
    assert sim.runs == []


def test_an_event_sent_by_a_workflow_starts_too(sim):
    """`send_event` in a workflow behaves like one from outside."""
    run = sim.start(sender)
    assert run.status == "completed"
    assert names(sim) == ["sender", "fulfil"]


def test_an_event_that_started_a_run_was_taken():
    """Under `strict_events`, an event that started something does not count as left over."""
    options = {"workflows": [greet]}
    with Simulation(strict_events=True, app_options=options) as sim:
        sim.send("starts.order", {"order_id": "ORD-1"})


# ---- What is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        ({}, "data.order_id is missing"),
        (None, "data.order_id is missing"),
        ({"order_id": 5}, "data.order_id: Input should be a valid string"),
        ({"order_id": "1", "lines": [{}]}, "data.lines.0.sku: Field required"),
        ([1], "data must be an object whose members are arguments, got [1]"),
        ("ORD-1", "data must be an object whose members are arguments, got 'ORD-1'"),
    ],
)
def test_data_that_are_no_arguments_are_refused(sim, data, fragment):
    """The sender is told each field; nothing is stored, and the corrected event may come."""
    with pytest.raises(InvalidEventError) as caught:
        sim.send("starts.order", data, id="1")
    assert fragment in str(caught.value)
    assert "does not fit the arguments of the workflow 'fulfil'" in str(caught.value)
    assert sim.runs == []
    sim.send("starts.order", {"order_id": "ORD-1"}, id="1")
    assert names(sim) == ["fulfil"]


def test_arguments_that_cannot_be_stored_are_refused():
    """A value that would come back another one is the sender's to mend, not a defect."""

    class Rounded(BaseModel):
        price: Annotated[float, PlainSerializer(lambda value: value // 1)]

    @workflow(start_on=True)
    async def rounding(ctx: WorkflowContext, order: Rounded) -> None: ...

    with Simulation(app_options={"workflows": [rounding]}) as sim:
        with pytest.raises(InvalidEventError, match="cannot be stored"):
            sim.send("rounding", {"order": {"price": 1.5}})
        assert sim.runs == []


def test_an_event_that_every_wait_refuses_starts_nothing():
    """Refused means not accepted: no instance is started by it."""

    class Full(BaseModel):
        total: float

    @workflow
    async def picky(ctx: WorkflowContext) -> float:
        return (await wait_event(ctx, "starts.order", model=Full)).data.total

    with Simulation(app_options={"workflows": [fulfil, picky]}) as sim:
        sim.start(picky)
        with pytest.raises(InvalidEventError):
            sim.send("starts.order", {"order_id": "ORD-1"}, id="1")
        assert names(sim) == ["picky"]
        sim.send("starts.order", {"order_id": "ORD-1", "total": 5}, id="1")
        assert names(sim) == ["picky", "fulfil"]


@pytest.mark.parametrize("start_on", ["", 5, b"x"])
def test_a_type_that_is_none_is_refused(start_on):
    """`start_on` is a type of events, or True."""
    with pytest.raises(DefinitionError) as caught:

        @workflow(start_on=start_on)
        async def bad(ctx: WorkflowContext) -> None: ...

    assert str(caught.value) == (
        f"The workflow 'bad' has start_on={start_on!r}: give the type of the events that start "
        f'it, e.g. start_on="order.created", or True for its own name.'
    )


def test_arguments_that_have_no_name_are_refused():
    """A positional-only parameter could never be given by an event."""
    with pytest.raises(DefinitionError, match="'order_id' is positional-only: remove the `/`"):

        @workflow(start_on=True)
        async def bad(ctx: WorkflowContext, order_id: str, /) -> None: ...


# ---- A store that fails ----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["deliver", "create"])
def test_a_repeat_after_trouble_does_what_is_left(sim, verb, when):
    """Whichever store operation fails, before or after it took effect, a repeat mends it."""
    waiting = sim.start(onlooker)
    sim.store.fails[verb] = when
    with pytest.raises(StoreUnavailableError):
        sim.send("starts.order", {"order_id": "ORD-1"}, id="1")
    sim.send("starts.order", {"order_id": "ORD-1"}, id="1")
    assert waiting.result == "ORD-1"
    assert sorted(run.workflow for run in sim.wait(sim.app.find())) == ["fulfil", "onlooker"]


def test_a_posted_event_starts_in_a_simulation(sim):
    """`sim.http` is the same door: what it accepts has started when it answers."""
    headers = {"content-type": "application/cloudevents+json"}
    event = {**EVENT, "data": {"order_id": "ORD-1"}}
    assert sim.http.post("/events", headers=headers, json=event).status_code == 202
    assert names(sim) == ["fulfil"]
    bad = {**event, "id": "2", "data": {}}
    assert sim.http.post("/events", headers=headers, json=bad).status_code == 400
    assert names(sim) == ["fulfil"]


# ---- Over HTTP, with workers -----------------------------------------------------------------


def post(app, content, kind="application/cloudevents+json"):
    async def send():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edda") as client:
            headers = {"content-type": kind}
            return await client.post("/events", headers=headers, content=json.dumps(content))

    return send()


@pytest.mark.asyncio
async def test_a_posted_event_starts_an_instance_that_runs():
    """202 means that the instance is stored; many posts of one event start it once."""
    async with EddaApp("starts", "memory://", workflows=[greet]) as app:
        event = {**EVENT, "data": {"order_id": "ORD-1"}}
        answers = await asyncio.gather(*(post(app, event) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {202}
        [instance] = await app.find()
        assert await app.result(instance.id, timeout=10) == "thanks for ORD-1"


@pytest.mark.asyncio
async def test_a_batch_with_bad_arguments_is_refused_as_a_whole():
    """The bad member is named by its index, and none of the others starts anything."""
    async with EddaApp("starts", "memory://", workflows=[greet]) as app:
        good, bad = {"order_id": "ORD-1"}, {"order_id": None}
        batch = [{**EVENT, "data": good}, {**EVENT, "id": "2", "data": bad}]
        answer = await post(app, batch, "application/cloudevents-batch+json")
        assert (answer.status_code, answer.json()["error_type"]) == (400, "InvalidEventError")
        assert answer.json()["error"].startswith("event 1: The event 'starts.order' (id '2')")
        assert await app.find() == []


@pytest.mark.asyncio
async def test_what_was_started_is_told_to_the_caller_in_process():
    """`handle_event` returns the ids of what the event starts, also for a repeat."""
    async with EddaApp("starts", "memory://", workflows=[greet]) as app:
        event = {**EVENT, "data": {"order_id": "ORD-1"}}
        first, again = await app.handle_event(event), await app.handle_event(event)
        assert first.started == again.started == (id_of_start(greet, "/shop", "1"),)
        assert (first.is_duplicate, again.is_duplicate) == (False, True)


@activity
async def announce(ctx, order_id: str) -> None:
    await send_event("starts.order", "activity", {"order_id": order_id}, id=order_id)


@pytest.mark.asyncio
async def test_an_activity_may_start_by_event():
    """`send_event` in an activity starts workflows of the current app."""

    @workflow
    async def announcer(ctx: WorkflowContext) -> None:
        await announce(ctx, "ORD-3")

    async with EddaApp("starts", "memory://", workflows=[greet, announcer]) as app:
        await app.result(await app.start(announcer), timeout=10)
        started = id_of_start(greet, "activity", "ORD-3")
        assert await app.result(started, timeout=10) == "thanks for ORD-3"
