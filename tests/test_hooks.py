"""Hooks: told after the commit, never on replay, and unable to change anything."""

import asyncio
import logging
from unittest.mock import AsyncMock

import pytest

from edda import (
    ActivityInfo,
    ArgumentError,
    EddaApp,
    EventInfo,
    Hooks,
    RetryPolicy,
    WaitInfo,
    WorkflowCancelled,
    WorkflowContext,
    WorkflowInfo,
    activity,
    send_event,
    sleep,
    wait_event,
    workflow,
)
from edda import announcing as hooks_room
from edda.announcing import NAMES
from edda.errors import StoreUnavailableError
from edda.stores.memory import MemoryStore
from edda_testkit import Simulation

POLICY = RetryPolicy(max_attempts=2, initial_interval=10.0)


@activity(retry_policy=POLICY)
async def charge(ctx, amount: int) -> int:
    if amount < 0 or (amount == 0 and ctx.attempt == 1):
        raise ValueError("no money")
    return amount


@workflow
async def order(ctx: WorkflowContext, amount: int = 1) -> int:
    charged = await charge(ctx, amount)
    paid = await wait_event(ctx, "paid", timeout_seconds=60)
    await sleep(ctx, seconds=5)
    await send_event("shipped", "shop", {"amount": charged})
    return charged + paid.data


@workflow(start_on="hooks.ordered")
async def on_order(ctx: WorkflowContext) -> None:
    pass


class Book:
    """Every hook, written down as it is called."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        if name not in NAMES:
            raise AttributeError(name)
        return lambda info: self.told.append((name, info))

    def __dir__(self):
        return [*super().__dir__(), *NAMES]

    @property
    def names(self):
        return [name for name, _ in self.told]

    def of(self, name):
        return [info for told, info in self.told if told == name]


class Lame(Hooks):
    """Async hooks that write down what they are told, after `seconds`."""

    def __init__(self, seconds=0):
        self.seconds = seconds
        self.told = []

    async def on_workflow_start(self, workflow: WorkflowInfo) -> None:
        await self.note("start")

    async def on_activity_start(self, activity: ActivityInfo) -> None:
        await self.note(activity.id)

    async def on_workflow_complete(self, workflow: WorkflowInfo) -> None:
        await self.note("complete")

    async def note(self, what):
        await asyncio.sleep(self.seconds)
        self.told.append(what)


def simulation(*hooks, **options):
    return Simulation(app_options={"hooks": list(hooks), "workflows": [order, on_order]}, **options)


@pytest.fixture
def book():
    return Book()


# ---- What is told ----------------------------------------------------------------------------


def test_a_run_is_told_from_start_to_end(book):
    """Every step of a run is told once, in order, with what it is about."""
    with simulation(book) as sim:
        run = sim.start(order, amount=3)
        sim.send("paid", 4, source="bank", id="1")
        sim.advance(5)
        assert run.result == 7
    told = [
        "on_workflow_start",
        "on_activity_start",
        "on_activity_complete",
        "on_wait",
        "on_event_received",
        "on_wait_over",
        "on_wait",
        "on_wait_over",
        "on_event_received",
        "on_event_sent",
        "on_workflow_complete",
    ]
    assert book.names == told
    start, [end] = book.told[0][1], book.of("on_workflow_complete")
    assert (start.instance_id, start.workflow, start.arguments) == (run.id, "order", '{"amount":3}')
    assert (end.result, end.started_at, end.at) == ("7", start.at, sim.now)
    began, [ended] = book.told[1][1], book.of("on_activity_complete")
    assert isinstance(began, ActivityInfo)
    assert (began.id, began.name, began.attempt) == ("charge:1", "charge", 1)
    assert (ended.id, ended.attempt, ended.result) == ("charge:1", 1, "3")
    waits, overs = book.of("on_wait"), book.of("on_wait_over")
    assert all(isinstance(info, WaitInfo) for info in waits + overs)
    assert [(wait.kind, wait.name, wait.outcome) for wait in waits] == [
        ("event", "paid", None),
        ("timer", waits[1].name, None),
    ]
    assert [(over.id, over.outcome) for over in overs] == [
        (waits[0].id, "received"),
        (waits[1].id, "fired"),
    ]
    assert (waits[0].due - waits[0].at).total_seconds() == 60
    assert (overs[0].event.id, overs[0].event.data) == ("1", 4)
    received, sent = book.of("on_event_received")[0], book.of("on_event_sent")[0]
    assert isinstance(received, EventInfo)
    assert (received.event.source, received.reached, received.instance_id) == (
        "bank",
        (run.id,),
        None,
    )
    assert (sent.event.type, sent.event.data, sent.instance_id) == (
        "shipped",
        {"amount": 3},
        run.id,
    )


def test_failed_attempts_are_told_each(book):
    """A failed attempt says whether and when another one follows."""
    with simulation(book) as sim:
        sim.start(order, amount=0)
        sim.advance(10)
    [failed] = book.of("on_activity_failed")
    assert (failed.attempt, repr(failed.error)) == (1, "ValueError('no money')")
    assert 9 <= (failed.retry_at - failed.at).total_seconds() <= 10
    assert [info.attempt for info in book.of("on_activity_start")] == [1, 2]
    assert book.of("on_activity_complete")[0].attempt == 2


def test_a_failed_run_is_told_with_its_error(book):
    """After the last attempt there is no next one, and the workflow's end has the error."""
    with simulation(book) as sim:
        sim.start(order, amount=-1)
        sim.advance(20)
    first, last = book.of("on_activity_failed")
    assert (first.retry_at is None, last.retry_at, last.attempt) == (False, None, 2)
    [end] = book.of("on_workflow_failed")
    assert type(end.error).__name__ == "RetryExhaustedError"
    assert isinstance(end.error.__cause__, ValueError)


def test_a_cancelled_run_is_told(book):
    """A cancellation withdraws the wait and ends the run."""
    with simulation(book) as sim:
        run = sim.start(order)
        sim.cancel(run)
    assert book.names[-2:] == ["on_wait_over", "on_workflow_cancelled"]
    assert book.of("on_wait_over")[0].outcome == "withdrawn"


def test_a_wait_that_times_out_is_told(book):
    """The end of a wait says that nothing came."""
    with simulation(book) as sim:
        sim.start(order)
        sim.advance(60)
    [over] = book.of("on_wait_over")
    assert (over.outcome, over.event) == ("timed_out", None)
    assert book.names[-1] == "on_workflow_failed"


def test_a_wait_that_fails_is_told(book):
    """With `on_invalid="raise"` a bad event ends the wait, as failed."""

    @workflow
    async def strict(ctx: WorkflowContext) -> None:
        await wait_event(ctx, "amount", model=int, on_invalid="raise")

    with simulation(book) as sim:
        sim.start(strict)
        sim.send("amount", "much")
    assert book.of("on_wait_over")[0].outcome == "failed"


def test_a_fact_that_cannot_be_told_is_logged(book, monkeypatch, caplog):
    """A defect of ours on the way to the hooks changes no run either."""

    def broken(*args, **more):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(hooks_room, "decode_error", broken)
    with simulation(book) as sim:
        run = sim.start(order, amount=-1)
        sim.advance(20)
        assert run.status == "failed"
    assert "Cannot tell hooks of Attempted(" in caplog.text


def test_a_stuck_run_is_told(book):
    """When code does not fit the history, the hook gets the error that says how."""

    @workflow(name="order")
    async def changed(ctx: WorkflowContext, amount: int = 1) -> None:
        await wait_event(ctx, "paid")

    with simulation(book, replay=False) as sim:
        run = sim.start(order)
        sim.deploy(changed)
        sim.send("paid", 1)
        assert run.status == "stuck"
        sim.deploy(order)
    assert {type(info.error).__name__ for info in book.of("on_workflow_stuck")} == {
        "NonDeterminismError"
    }


def test_an_event_that_starts_a_run_is_told_with_it(book):
    """The accepted event names what it starts, and the start has the event."""
    with simulation(book) as sim:
        event = sim.send("hooks.ordered", {}, id="7")
        sim.duplicate(event)
        run = sim.runs[0]
    assert book.names == ["on_event_received", "on_workflow_start", "on_workflow_complete"]
    assert book.told[0][1].started == (run.id,)
    assert book.told[1][1].event.id == "7"


def test_a_repeated_start_is_not_told(book):
    """The same instance id again starts nothing, and nothing is told."""
    with simulation(book) as sim:
        for _ in range(2):
            sim.start(order, instance_id="one")
        assert len(book.of("on_workflow_start")) == 1


def test_nothing_is_told_on_replay(book):
    """After a crash the run is rebuilt from history, and only what is new is told."""
    with simulation(book) as sim:
        sim.start(order)
        before = list(book.names)
        sim.crash()
        sim.send("paid", 1)
        assert book.names[: len(before)] == before
        assert book.names[len(before) :] == ["on_event_received", "on_wait_over", "on_wait"]


class Half(MemoryStore):
    """A store whose next creation fails."""

    fails = True

    async def create(self, new):
        if self.fails:
            self.fails = False
            raise StoreUnavailableError("gone")
        return await super().create(new)


def test_an_accepted_event_is_told_even_if_its_start_fails(book):
    """The event is stored, and told; the instance is told once it is stored as well."""
    with simulation(book, store=Half) as sim:
        with pytest.raises(StoreUnavailableError):
            sim.send("hooks.ordered", {}, id="1")
        assert book.names == ["on_event_received"]
        sim.send("hooks.ordered", {}, id="1")
    assert book.names == ["on_event_received", "on_workflow_start", "on_workflow_complete"]


class Refusing(MemoryStore):
    """A store whose next commit fails, before it took effect."""

    fails = False

    async def commit(self, commit):
        if self.fails:
            self.fails = False
            raise StoreUnavailableError("gone")
        return await super().commit(commit)


def test_what_was_not_committed_is_not_told():
    """A step whose commit fails has not happened; that it happens later is told once."""
    told = []
    for fails in (False, True):
        book = Book()
        with simulation(book, store=Refusing, replay=False) as sim:
            run = sim.start(order)
            sim.store.inner.fails = fails
            sim.send("paid", 1)
            sim.advance(60)
            assert run.result == 2
            assert sim.store.inner.fails is False
        told.append(book.names)
    assert told[0] == told[1]


# ---- A hook changes nothing ------------------------------------------------------------------


class Raising(Hooks):
    def on_workflow_start(self, workflow):
        raise ValueError("plain")

    async def on_activity_start(self, activity):
        raise ValueError("async")

    async def on_workflow_complete(self, workflow):
        raise asyncio.CancelledError


def test_a_hook_that_raises_is_logged(caplog, book):
    """The run goes on, the other objects are told, and the log has the error."""
    with simulation(Raising(), book) as sim:
        run = sim.start(order)
        sim.send("paid", 1)
        sim.advance(5)
        assert run.result == 2
    assert "The hook on_workflow_start raised" in caplog.text
    assert "The hook on_activity_start raised" in caplog.text
    assert "ValueError: async" in caplog.text
    assert book.names[-1] == "on_workflow_complete"


def test_async_hooks_run_in_order_and_in_virtual_time():
    """An object's async hooks come one after the other; its line takes virtual time."""
    lame = Lame(seconds=3)
    with simulation(lame) as sim:
        sim.start(order)
        assert lame.told == []
        sim.send("paid", 1)
        sim.advance(5)
        assert lame.told == ["start"]
        sim.advance(10)
    assert lame.told == ["start", "charge:1", "complete"]


def test_async_hooks_die_with_their_worker():
    """What waits in line when a worker crashes is not told, and the next one tells again."""
    lame = Lame(seconds=3)
    with simulation(lame) as sim:
        sim.start(order)
        sim.crash()
        sim.send("paid", 1)
        sim.advance(20)
    assert lame.told == ["complete"]


def test_a_hook_that_hangs_is_cut(caplog):
    """After ten seconds the next in line has its turn."""

    class Hanging(Lame):
        async def on_workflow_start(self, workflow):
            await asyncio.Event().wait()

    hanging = Hanging()
    with simulation(hanging) as sim:
        sim.start(order)
        sim.advance(9)
        assert hanging.told == []
        sim.advance(1)
        assert hanging.told == ["charge:1"]
    assert "The hook on_workflow_start took more than 10.0 s" in caplog.text


def test_a_line_without_end_is_cut(monkeypatch, caplog):
    """A line that is full drops what comes next, and says so once."""
    monkeypatch.setattr(hooks_room, "MAX_WAITING", 2)
    lame = Lame(seconds=1)
    with simulation(lame) as sim:
        for number in range(4):
            sim.start(order, instance_id=f"order-{number}")
        sim.advance(10)
    assert len(lame.told) == 3
    assert caplog.text.count("2 hooks wait in line") == 1


@pytest.mark.asyncio
async def test_hooks_are_told_by_workers():
    """A production app tells the same, and lets lines come to their ends before it closes."""
    book, lame = Book(), Lame(seconds=0.01)
    async with EddaApp("hooks", "memory://", workflows=[order], hooks=[book, lame]) as app:
        run = await app.start(order)
        await app.cancel(run)
        with pytest.raises(WorkflowCancelled):
            await app.result(run, timeout=10)
    assert book.names[0] == "on_workflow_start"
    assert book.names[-1] == "on_workflow_cancelled"
    assert lame.told[0] == "start"


@pytest.mark.asyncio
async def test_shutdown_does_not_wait_for_ever_for_a_hook():
    """A line that does not come to its end is dropped."""
    lame = Lame(seconds=3600)
    app = EddaApp("hooks", "memory://", workflows=[on_order], hooks=lame)
    async with app:
        await app.result(await app.start(on_order), timeout=10)
        await app.hooks.drain(grace_seconds=0)
    assert lame.told == []


@pytest.mark.asyncio
async def test_a_plain_method_may_return_an_awaitable():
    """What a mock or a wrapped function returns is awaited like an async hook."""

    class Mocked:
        on_workflow_complete = AsyncMock()

    async with EddaApp("hooks", "memory://", workflows=[on_order], hooks=Mocked()) as app:
        await app.result(await app.start(on_order), timeout=10)
    [call] = Mocked.on_workflow_complete.await_args_list
    assert isinstance(call.args[0], WorkflowInfo)


def test_the_base_class_costs_nothing(caplog):
    """Methods that are not overridden are not called, and their facts are not even made."""
    with caplog.at_level(logging.ERROR), simulation(Hooks()) as sim:
        assert sim.app.hooks._is_silent
        sim.start(order)


@pytest.mark.parametrize(
    ("hooks", "problem"),
    [
        (5, "int has none of them"),
        ([Hooks(), object()], "object has none of them"),
        (Hooks, "Hooks is a class: give an object of it, Hooks()"),
        (
            type("Typo", (Hooks,), {"on_workflow_started": lambda self, info: None})(),
            "Typo has on_workflow_started, and there is no such hook",
        ),
        (type("Flag", (), {"on_wait": True})(), "Flag.on_wait is no method"),
    ],
)
def test_what_could_never_be_told_is_refused(hooks, problem):
    """An object without hooks, a class, or a misspelt hook is an error that lists them."""
    with pytest.raises(ArgumentError) as caught:
        EddaApp(db_url="memory://", hooks=hooks)
    assert str(caught.value) == f"EddaApp(hooks=...): {problem}. The hooks are {', '.join(NAMES)}"


def test_a_hook_that_raises_a_cancellation(caplog):
    """A CancelledError of a hook's own is logged like any error, and later hooks are told."""
    told = []

    class Cancelled:
        def on_activity_start(self, info):
            raise asyncio.CancelledError

        async def on_activity_complete(self, info):
            raise asyncio.CancelledError

        async def on_workflow_complete(self, info):
            told.append(info.result)

    @workflow
    async def charging(ctx) -> int:
        return await charge(ctx, 3)

    async def main():
        async with EddaApp(db_url="memory://", hooks=Cancelled()) as app:
            return await app.result(await app.start(charging), timeout=5)

    assert (asyncio.run(main()), told) == (3, ["3"])
    assert "The hook on_activity_start raised" in caplog.text
    assert "The hook on_activity_complete raised" in caplog.text
