"""The machine driven by hand: no store, no outer loop, no clock."""

import asyncio
import gc
import json
import math
import weakref
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda.activity import activity
from edda.codec import decode_error, encode_error
from edda.commands import Cancellation, Expiry, Failure, Result, SendAsk
from edda.errors import (
    ActivityError,
    ArgumentError,
    DecodingError,
    DuplicateIdError,
    EncodingError,
    EventTimeoutError,
    NonDeterminismError,
    NotReplayableError,
    RunawayWorkflowError,
)
from edda.history import (
    Answered,
    Asked,
    Attempted,
    CancelRequested,
    Finished,
    Refused,
    Started,
    Withdrawn,
)
from edda.loop import WorkflowLoop
from edda.machine import Decision, Machine, Question
from edda.waiting import sleep, wait_event
from edda.workflow import workflow

T0 = datetime(2030, 1, 1, tzinfo=UTC)


@activity
async def act(ctx, n: int) -> int: ...


@activity
async def tagged(ctx, tags: set[str]) -> None: ...


@activity
async def other(ctx, n: int) -> int: ...


MADE = []


def machine_of(definition):
    machine = Machine(definition.program("i-1"))
    MADE.append(machine)
    return machine


class Drive:
    """A machine and the history that it makes."""

    def __init__(self, fn):
        self.workflow = fn if hasattr(fn, "program") else workflow(fn)
        self.machine = machine_of(self.workflow)
        self.events = []
        self.live(Started(0, T0, self.workflow.name, "{}", 7))

    def live(self, event):
        self.machine.live(event)
        decision = self.machine.decide()
        self.events += decision.events
        return decision

    def answer(self, id, value=None, *, after=1.0, outcome=None):
        """Answer an ask, open or not, some seconds after the last event."""
        ask = next(e.ask for e in self.events if isinstance(e, Asked) and e.id == id)
        outcome = outcome or Result(json.dumps(value))
        at = self.machine.now + timedelta(seconds=after)
        event = Answered(self.machine.next_seq, at, ask.id, ask.name, ask.kind, outcome)
        return self.live(event)

    def fail(self, id, error):
        return self.answer(id, outcome=Failure(encode_error(error)))

    def cancel(self):
        return self.live(CancelRequested(self.machine.next_seq, self.machine.now))

    @property
    def open(self):
        return list(self.machine.open)

    @property
    def result(self):
        match self.machine.outcome:
            case Result(value):
                return json.loads(value)
            case Failure(error):
                return decode_error(error)
            case outcome:
                return outcome

    def trace(self):
        """The history as one short line an event."""
        return [f"{event.kind} {event.id}" for event in self.events]

    def replayed(self, fn=None):
        """A machine of `fn`, or of the same workflow, fed this history."""
        machine = machine_of(self.workflow if fn is None else workflow(fn))
        machine.replay(self.events)
        return machine


@pytest.fixture(autouse=True)
def closed():
    """Every machine is closed when its test ends, as whoever drives one must."""
    yield
    while MADE:
        MADE.pop().close()


# ---- Asks and answers ------------------------------------------------------------------------


def test_a_workflow_asks_is_answered_and_ends():
    """A history has what was asked, what came of it and how it ended, numbered in order."""

    async def wf(ctx):
        return await act(ctx, 1) + await act(ctx, n=2)

    drive = Drive(wf)
    assert repr(drive.machine) == "<Machine of 'wf': 2 events, waits for act:1>"
    drive.answer("act:1", 10)
    decision = drive.answer("act:2", 20)
    assert (drive.result, decision.outcome) == (30, Result("30"))
    assert [event.seq for event in drive.events] == list(range(6))
    assert drive.trace() == [
        "workflow_started workflow",
        "activity_scheduled act:1",
        "activity_completed act:1",
        "activity_scheduled act:2",
        "activity_completed act:2",
        "workflow_completed workflow",
    ]
    assert repr(drive.machine) == "<Machine of 'wf': 6 events, ended with Result>"
    assert drive.machine.decide() == Decision((), Result("30"))


def test_a_machine_that_has_not_started():
    """A machine without events says so, and a cancellation before the start does nothing."""

    async def wf(ctx): ...

    machine = machine_of(workflow(wf))
    assert repr(machine) == "<Machine of 'wf': 0 events, has not started>"
    machine.feed(CancelRequested(0, T0))
    assert machine.outcome is None


def test_an_ask_knows_the_line_that_asked():
    """The site of an ask is the line of the workflow, not of the engine."""

    async def wf(ctx):
        task = asyncio.create_task(act(ctx, 1))
        await asyncio.sleep(1)
        await task

    sites = [event.site.rpartition(":") for event in Drive(wf).events[1:]]
    assert [(file[-15:], int(line) - wf.__code__.co_firstlineno) for file, _, line in sites] == [
        ("test_machine.py", 2),
        ("test_machine.py", 1),
    ]


def test_a_failure_is_raised_at_the_await():
    """A failed ask raises its own exception where it was awaited."""

    async def wf(ctx):
        try:
            await act(ctx, 1)
        except KeyError as error:
            return f"caught {error}"

    drive = Drive(wf)
    drive.fail("act:1", KeyError("k"))
    assert drive.result == "caught 'k'"


def test_an_uncaught_failure_ends_the_workflow():
    """A workflow that raises ends with that exception as its outcome."""

    async def wf(ctx):
        await act(ctx, 1)

    drive = Drive(wf)
    drive.fail("act:1", KeyError("k"))
    assert repr(drive.result) == "KeyError('k')"


def test_system_exit_fails_the_workflow():
    """`SystemExit` in a workflow fails that workflow, and not who drives it."""

    async def wf(ctx):
        raise SystemExit(3)

    assert type(Drive(wf).result) is SystemExit


def test_a_result_that_cannot_be_stored_fails_the_workflow():
    """A workflow whose result cannot be encoded fails with an error that says so."""

    async def wf(ctx):
        return {1, 2}

    error = Drive(wf).result
    assert type(error) is EncodingError
    assert str(error).startswith("The result of workflow 'wf' cannot be stored: ")


def test_a_stored_answer_that_no_longer_fits_stops_the_turn():
    """An answer that does not fit today's type is an error of the turn, not of the workflow."""

    async def wf(ctx):
        await act(ctx, 1)

    drive = Drive(wf)
    with pytest.raises(DecodingError, match=r"^The result of activity 'act' does not fit"):
        drive.answer("act:1", "many")
    assert drive.machine.outcome is None


def test_a_wait_expires():
    """An event wait whose deadline came first raises `EventTimeoutError` with its fields."""

    async def wf(ctx):
        try:
            await wait_event(ctx, "paid", timeout_seconds=300)
        except TimeoutError as error:
            return [type(error) is EventTimeoutError, error.event_type, error.timeout_seconds]

    drive = Drive(wf)
    drive.answer("wait_event_paid:1", outcome=Expiry())
    assert drive.result == [True, "paid", 300.0]


def test_an_id_is_used_once():
    """The same id twice in one history is an error in the workflow, naming the second line."""

    async def wf(ctx):
        first = asyncio.create_task(act(ctx, 1, activity_id="mine"))
        await asyncio.sleep(0)
        await act(ctx, 2, activity_id="mine")
        await first

    assert type(Drive(wf).result) is DuplicateIdError


def test_time_is_that_of_the_event():
    """`ctx.now()` and the loop's time are those of the event being fed."""

    async def wf(ctx):
        loop = asyncio.get_running_loop()
        before, first = ctx.now(), loop.time()
        await act(ctx, 1)
        return [(ctx.now() - before).total_seconds(), first, loop.time()]

    drive = Drive(wf)
    drive.answer("act:1", 1, after=2.5)
    assert drive.result == [2.5, 0.0, 2.5]


def test_notes_are_kept_on_the_open_ask():
    """Failed attempts and refused messages are remembered with the ask, and change nothing else."""

    async def wf(ctx):
        await asyncio.gather(act(ctx, 1), wait_event(ctx, "paid"))

    drive = Drive(wf)
    later = T0 + timedelta(seconds=1)
    assert drive.open == ["act:1", "wait_event_paid:1"]
    for id in ("act:1", "gone:1"):
        drive.live(Attempted(drive.machine.next_seq, T0, id, "act", 2, "{}", T0, later))
    for id in ("wait_event_paid:1", "gone:1"):
        drive.live(Refused(drive.machine.next_seq, T0, id, "paid", 5, "{}"))
    machine = drive.replayed()
    opened, wait = machine.open.values()
    assert (opened.attempts, opened.began_at, opened.retry_at) == (2, T0, later)
    assert (wait.refused, machine.next_seq) == (frozenset({5}), 7)


# ---- Plain asyncio ---------------------------------------------------------------------------


def test_gather():
    """`gather` asks for all at once and answers in the order given, whoever comes first."""

    async def wf(ctx):
        return await asyncio.gather(act(ctx, 1), act(ctx, 2), act(ctx, 3))

    drive = Drive(wf)
    assert drive.open == ["act:1", "act:2", "act:3"]
    for id, value in (("act:3", 30), ("act:1", 10), ("act:2", 20)):
        assert drive.machine.outcome is None
        drive.answer(id, value)
    assert drive.result == [10, 20, 30]


def test_gather_with_exceptions():
    """`gather` raises the first failure and leaves the others be; or returns the exceptions."""

    async def first(ctx):
        try:
            await asyncio.gather(act(ctx, 1), act(ctx, 2))
        except KeyError:
            return await act(ctx, 3)

    async def every(ctx):
        found = await asyncio.gather(act(ctx, 1), act(ctx, 2), return_exceptions=True)
        return [repr(item) for item in found]

    drive = Drive(first)
    drive.fail("act:1", KeyError("k"))
    assert drive.open == ["act:2", "act:3"]
    drive = Drive(every)
    drive.fail("act:1", KeyError("k"))
    drive.answer("act:2", 2)
    assert drive.result == ["KeyError('k')", "2"]


def test_a_failing_sibling_cancels_the_others():
    """In a `TaskGroup` a failure gives up the siblings; their late answers are absorbed."""

    async def wf(ctx):
        try:
            async with asyncio.TaskGroup() as group:
                for n in (1, 2, 3):
                    group.create_task(act(ctx, n))
        except* KeyError as errors:
            found = repr(errors.exceptions[0])
        return [found, await act(ctx, 4)]

    drive = Drive(wf)
    drive.answer("act:1", 1)
    drive.fail("act:2", KeyError("k"))
    assert drive.trace()[-3:] == [
        "activity_failed act:2",
        "activity_withdrawn act:3",
        "activity_scheduled act:4",
    ]
    assert drive.open == ["act:4"]
    assert drive.answer("act:3", 3).events[1:] == ()
    drive.answer("act:4", 4)
    assert drive.result == ["KeyError('k')", 4]
    assert drive.replayed().outcome == drive.machine.outcome


def test_sleep_is_a_durable_timer():
    """`asyncio.sleep` is a timer ask, due to the microsecond; a zero one asks for nothing."""

    async def wf(ctx):
        await asyncio.sleep(0)
        return await asyncio.sleep(60.0000015, "woke")

    drive = Drive(wf)
    ask = drive.events[-1].ask
    assert (ask.id, ask.name, ask.due - T0) == ("sleep:1", "sleep", timedelta(0, 60, 2))
    drive.answer("sleep:1")
    assert drive.result == "woke"


@pytest.mark.parametrize("seconds", [math.inf, 1e12, 1e300, pytest.param(math.nan)])
def test_a_sleep_without_an_end_is_refused(seconds):
    """A sleep that ends at no instant is an error that is also a `ValueError`."""

    async def wf(ctx):
        await asyncio.sleep(seconds)

    assert isinstance(Drive(wf).result, ValueError)


def test_an_endless_sleep_says_what_is_wrong():
    """The error of an endless sleep names it, and the number."""

    async def wf(ctx):
        await asyncio.sleep(math.inf)

    error = Drive(wf).result
    assert (type(error), str(error)) == (
        ArgumentError,
        "asyncio's sleep: inf seconds from the start is no instant that can be stored",
    )


def test_a_cancelled_sleep_is_withdrawn():
    """A cancelled sleep gives its timer up, and the timer's late answer is absorbed."""

    async def wf(ctx):
        task = asyncio.create_task(asyncio.sleep(60))
        await act(ctx, 1)
        task.cancel()
        await act(ctx, 2)

    drive = Drive(wf)
    drive.answer("act:1", 1)
    assert "timer_withdrawn sleep:1" in drive.trace()
    assert drive.answer("sleep:1").events[1:] == ()


def test_call_later_is_a_timer():
    """A bare `call_later` is a timer ask of that name, whatever is called."""

    class Call:
        def __call__(self):
            future.set_result("called")

    async def wf(ctx):
        nonlocal future
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(5, Call())
        return await future

    future = None
    drive = Drive(wf)
    assert drive.open == ["call_later:1"]
    drive.answer("call_later:1")
    assert drive.result == "called"


@pytest.mark.parametrize("late", [False, True])
def test_timeout(late):
    """`asyncio.timeout` is a durable timer: it gives up the ask, or is given up by its answer."""

    async def wf(ctx):
        try:
            async with asyncio.timeout(30):
                return await act(ctx, 1)
        except TimeoutError:
            return "late"

    drive = Drive(wf)
    assert set(drive.open) == {"timeout:1", "act:1"}
    if late:
        drive.answer("timeout:1", after=30)
        assert (drive.result, drive.trace()[3:5]) == (
            "late",
            ["timer_fired timeout:1", "activity_withdrawn act:1"],
        )
    else:
        drive.answer("act:1", 7)
        assert (drive.result, drive.trace()[4]) == (7, "timer_withdrawn timeout:1")
    assert drive.replayed().outcome == drive.machine.outcome


@pytest.mark.parametrize("late", [False, True])
def test_wait_for(late):
    """`asyncio.wait_for` is a durable timer too, called the same on every Python."""

    async def wf(ctx):
        try:
            return await asyncio.wait_for(act(ctx, 1), 30)
        except TimeoutError:
            return "late"

    drive = Drive(wf)
    assert set(drive.open) == {"timeout:1", "act:1"}
    if late:
        drive.answer("timeout:1", after=30)
    else:
        drive.answer("act:1", 7)
    assert drive.result == ("late" if late else 7)
    assert drive.replayed().outcome == drive.machine.outcome


def test_queue_and_event():
    """`Queue`, `Event`, `Lock` and `Semaphore` work between the tasks of one workflow."""

    async def wf(ctx):
        queue, done, lock = asyncio.Queue(1), asyncio.Event(), asyncio.Lock()
        limit = asyncio.Semaphore(1)
        seen = []

        async def consume():
            while (item := await queue.get()) is not None:
                async with lock, limit:
                    seen.append(item)
            done.set()

        consumer = asyncio.create_task(consume())
        for n in (1, 2):
            await queue.put(await act(ctx, n))
        await queue.put(None)
        await done.wait()
        await consumer
        return seen

    drive = Drive(wf)
    drive.answer("act:1", 10)
    drive.answer("act:2", 20)
    assert drive.result == [10, 20]


def test_nested_tasks():
    """Tasks started by tasks ask in the order they were started, level by level."""

    async def wf(ctx):
        async def branch(n):
            inner = [asyncio.create_task(act(ctx, n * 10 + k)) for k in (1, 2)]
            return [await act(ctx, n), *[await task for task in inner]]

        return await asyncio.gather(branch(1), branch(2))

    drive = Drive(wf)
    assert [json.loads(event.ask.arguments)["n"] for event in drive.events[1:]] == [
        1,
        2,
        11,
        12,
        21,
        22,
    ]
    for n, id in enumerate(reversed(drive.open)):
        drive.answer(id, n)
    assert drive.result == [[5, 3, 2], [4, 1, 0]]


def test_siblings_are_given_up_in_a_set_order():
    """The order in which a `TaskGroup` gives its tasks up is the same in every process."""

    async def wf(ctx):
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(act(ctx, n))

    drive = Drive(wf)
    drive.fail("act:1", KeyError("k"))
    given_up = [event.id for event in drive.events if isinstance(event, Withdrawn)]
    assert given_up == [f"act:{n}" for n in range(2, 21)]


def test_open_asks_do_not_keep_a_workflow_alive():
    """A workflow that returns with tasks under way is finished."""

    async def wf(ctx):
        task = asyncio.create_task(act(ctx, 1))
        await asyncio.sleep(0)
        return task.done()

    drive = Drive(wf)
    assert (drive.result, drive.trace()[-1]) == (False, "workflow_completed workflow")


def test_an_answer_and_a_cancellation_in_one_step():
    """A future that is cancelled in the step that answers it is cancelled, and nothing breaks."""

    async def wf(ctx):
        second = asyncio.create_task(act(ctx, 2))
        await act(ctx, 1)
        second.cancel()
        return await asyncio.gather(second, return_exceptions=True) != []

    drive = Drive(wf)
    second = drive.machine.open["act:2"]
    drive.answer("act:1", 1)
    second.resolve(Result("2"))
    assert (drive.result, drive.open) == (True, [])


# ---- Cancellation ----------------------------------------------------------------------------


def test_cancelling_raises_at_the_await():
    """A cancellation gives up what is open; `finally` may run further steps; then it has ended."""

    async def wf(ctx):
        try:
            await act(ctx, 1)
        finally:
            await act(ctx, 2)

    drive = Drive(wf)
    drive.cancel()
    assert drive.open == ["act:2"]
    drive.answer("act:2", 2)
    assert (drive.result, drive.trace()[2:5]) == (
        Cancellation(),
        ["cancel_requested workflow", "activity_withdrawn act:1", "activity_scheduled act:2"],
    )
    assert drive.replayed().outcome == Cancellation()


def test_cancelling_what_has_ended_changes_nothing():
    """A cancellation after the end has no output."""

    async def wf(ctx):
        return 1

    drive = Drive(wf)
    assert drive.cancel().events[1:] == ()
    assert drive.result == 1


# ---- What comes from outside -----------------------------------------------------------------


def test_a_foreign_future_is_named():
    """Awaiting another loop's future, or a bare yield, fails with the cure."""

    class Bare:
        def __await__(self):
            yield "bare"

    def awaiting(foreign):
        async def wf(ctx):
            await foreign

        return wf

    awaited = (asyncio.Future(loop=WorkflowLoop(None, "another")), Bare())
    for foreign in awaited:
        error = Drive(awaiting(foreign)).result
        assert type(error) is NotReplayableError
        assert str(error) == (
            "An await of something outside this workflow cannot be replayed, so a workflow cannot "
            "use it. Await it in an activity; in a workflow only edda's waits, activities and "
            "plain asyncio work."
        )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: asyncio.to_thread(print), "asyncio.to_thread / loop.run_in_executor"),
        (lambda: asyncio.open_connection("h", 1), "asyncio.open_connection / loop.create_con"),
        (lambda: asyncio.create_subprocess_exec("true"), "asyncio.create_subprocess_exec / "),
    ],
)
def test_what_cannot_be_replayed_fails_the_workflow(call, name):
    """A foreign await fails the workflow that makes it, naming the call."""

    async def wf(ctx):
        await call()

    error = Drive(wf).result
    assert type(error) is NotReplayableError
    assert str(error).startswith(name)


def test_a_workflow_that_spins():
    """A workflow that never waits stops the turn."""

    async def wf(ctx):
        while True:
            await asyncio.sleep(0)

    with pytest.raises(RunawayWorkflowError, match="'wf'"):
        Drive(wf)


def test_driven_inside_a_running_loop():
    """A machine driven by a task of an outer loop leaves that loop's current task alone."""

    async def wf(ctx):
        inner.append(asyncio.current_task())
        await asyncio.gather(act(ctx, 1), asyncio.sleep(1))

    async def outer():
        me = asyncio.current_task()
        drive = Drive(wf)
        assert asyncio.current_task() is me
        drive.answer("act:1", 1)
        await asyncio.sleep(0)
        assert asyncio.current_task() is me
        drive.machine.close()
        return asyncio.current_task() is me

    inner = []
    assert asyncio.run(outer())
    assert inner[0].get_name() == "wf-1"


# ---- Closing (T4) ----------------------------------------------------------------------------


def test_what_changes_the_instance_does_not_count_while_it_is_closed():
    """Patches, channels and the next round, asked for in a `finally` that closing runs, are not."""
    seen = []

    async def wf(ctx):
        machine = ctx.machine
        machine.subscribe("kept", "broadcast")
        machine.subscribe("kept", "broadcast")
        machine.unsubscribe("never read")
        try:
            await act(ctx, 1)
        finally:
            seen.append(ctx.patched("new"))
            machine.subscribe("more", "broadcast")
            machine.unsubscribe("kept")
            await machine.recur("{}")

    drive = Drive(wf)
    before = drive.trace()
    drive.machine.close()
    assert seen == [True]
    assert (drive.machine.decide().events, drive.trace()) == ((), before)
    assert dict(drive.machine.subscriptions) == {"kept": "broadcast"}


def test_closing_runs_no_except_exception():
    """Closing runs `finally`, never `except Exception`, and records nothing that is asked."""
    seen = []

    async def numbers(ctx):
        try:
            yield await act(ctx, 1)
        finally:
            seen.append("generator")
            await sleep(ctx, 5)

    async def helper(ctx):
        async with asyncio.TaskGroup() as group:
            group.create_task(act(ctx, 2))
            try:
                async with asyncio.timeout(30):
                    await wait_event(ctx, "paid")
            finally:
                seen.append("finally")
                await asyncio.wait_for(asyncio.gather(act(ctx, 3), asyncio.sleep(1)), 5)

    async def consume(ctx):
        async for number in numbers(ctx):
            seen.append(f"never {number}")

    async def wf(ctx):
        try:
            await asyncio.gather(helper(ctx), consume(ctx))
        except Exception:
            seen.append("never")
            await act(ctx, 4)

    drive = Drive(wf)
    assert len(drive.open) == 4
    before = drive.trace()
    drive.machine.close()
    assert sorted(seen) == ["finally", "generator"]
    assert (drive.machine.decide().events, drive.trace(), drive.open) == ((), before, [])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_closing_code_raises_is_dropped(error):
    """An exception from a `finally` that runs while closing goes nowhere."""

    async def wf(ctx):
        try:
            await act(ctx, 1)
        finally:
            raise error

    drive = Drive(wf)
    drive.machine.close()
    assert drive.machine.outcome is None


def test_a_closed_workflow_is_garbage():
    """After closing, nothing holds what the coroutine held."""

    class Held: ...

    async def wf(ctx):
        held = Held()
        alive.append(weakref.ref(held))
        await asyncio.gather(act(ctx, 1), asyncio.sleep(5))
        return repr(held)

    alive = []
    drive = Drive(wf)
    root = weakref.ref(drive.machine._root)
    coroutine = weakref.ref(drive.machine._root.get_coro())
    assert alive[0]() is not None
    drive.machine.close()
    gc.collect()
    assert (alive[0](), root(), coroutine()) == (None, None, None)


# ---- Replaying (H2, H3) ----------------------------------------------------------------------


def divergence(drive, fn):
    fn.__name__ = drive.workflow.name
    with pytest.raises(NonDeterminismError) as caught:
        drive.replayed(fn)
    _, table, sentence = str(caught.value).split("\n\n")
    return [line[2] for line in table.splitlines()[1:]], sentence.split("\nNothing was")[0]


def two_steps():
    async def wf(ctx):
        await act(ctx, 1)
        await other(ctx, 2)

    drive = Drive(wf)
    drive.answer("act:1", 1)
    drive.answer("other:1", 2)
    return drive


def test_a_replay_is_silent_and_says_so():
    """`is_replaying` is true while a recorded history is fed, and false for a new one."""
    seen = []

    async def wf(ctx):
        seen.append(ctx.is_replaying)
        await act(ctx, 1)

    drive = Drive(wf)
    machine = drive.replayed()
    assert (seen, machine.is_replaying, machine.decide()) == (
        [False, True],
        False,
        Decision((), None),
    )


def test_the_recorded_deadline_stands():
    """A deadline is set once: on replay the recorded one stands, whatever the code says now."""

    async def was(ctx):
        await asyncio.gather(sleep(ctx, 60), act(ctx, 1))

    async def now(ctx):
        await asyncio.gather(sleep(ctx, 5), act(ctx, 1))

    machine = Drive(was).replayed(now)
    assert list(machine.open) == ["sleep:1", "act:1"]
    assert machine.open["sleep:1"].ask.due == T0 + timedelta(seconds=60)


def test_arguments_are_compared_by_value():
    """Arguments that are written otherwise and mean the same are the same, also once given up."""

    async def wf(ctx):
        task = asyncio.create_task(tagged(ctx, {"a", "b"}))
        await asyncio.sleep(0)
        task.cancel()
        await tagged(ctx, {"a", "b"})

    drive = Drive(wf)
    for index, event in enumerate(drive.events):
        if isinstance(event, Asked):
            text = '{"tags":["b","a"]}' if '["a"' in event.ask.arguments else '{"tags":["a","b"]}'
            ask = type(event.ask)(event.id, event.name, text, event.site)
            drive.events[index] = Asked(event.seq, event.at, ask)
    assert drive.trace()[1:] == [
        "activity_scheduled tagged:1",
        "activity_scheduled tagged:2",
        "activity_withdrawn tagged:1",
    ]
    assert list(drive.replayed().open) == ["tagged:2"]


def test_an_ask_without_a_comparison():
    """An ask that brings no comparison of its own is compared by its text."""

    def sending(text):
        async def wf(ctx):
            ask = SendAsk("send:1", "send", text, "shop.py:1")
            await ctx.machine.ask(Question(ask, json.loads))

        return wf

    drive = Drive(sending("[1]"))
    assert list(drive.replayed(sending("[1]")).open) == ["send:1"]
    assert divergence(drive, sending("[2]"))[1].startswith("send:1 (send) has other arguments")


def test_an_inserted_step():
    """A step that the history does not have is one insertion."""

    async def wf(ctx):
        await act(ctx, 1)
        await sleep(ctx, 5)
        await other(ctx, 2)

    marks, sentence = divergence(two_steps(), wf)
    assert marks == ["=", "+", "-", "-"]
    assert sentence.startswith("The history goes on with other:1 (activity), asked at ")
    assert "; the code goes on with sleep:1 (timer), asked at " in sentence


def test_a_removed_step():
    """A step that the code does not have any more is one removal."""

    async def wf(ctx):
        await other(ctx, 2)

    marks, sentence = divergence(two_steps(), wf)
    assert marks == ["-", "=", "-"]
    assert sentence.startswith("The history goes on with act:1 (activity), asked at ")


def test_changed_arguments():
    """A step with other arguments is named with both values."""

    async def wf(ctx):
        await act(ctx, 1)
        await other(ctx, 3)

    marks, sentence = divergence(two_steps(), wf)
    assert marks == ["=", "!", "-"]
    assert sentence == "other:1 (activity) has other arguments:\n    n: 2 recorded, 3 now"


def test_another_id():
    """A step under another id is not the step that the history has."""

    async def wf(ctx):
        await act(ctx, 1, activity_id="mine")
        await other(ctx, 2)

    _, sentence = divergence(two_steps(), wf)
    assert sentence == "act:1 (activity) has another id now: mine."


def test_ending_early():
    """Code that ends before its history does is named as that."""

    async def wf(ctx):
        await act(ctx, 1)

    marks, sentence = divergence(two_steps(), wf)
    assert marks == ["=", "-", "="]
    assert sentence.startswith("The history goes on with other:1 (activity), asked at ")
    assert sentence.endswith("; the code goes on with workflow completed.")


def test_ending_late():
    """Code that goes on after its history ended is named as that."""

    async def wf(ctx):
        await act(ctx, 1)
        await other(ctx, 2)
        await act(ctx, 3)

    _, sentence = divergence(two_steps(), wf)
    assert sentence.startswith("The history goes on with workflow completed; the code goes on with")
    assert " act:2 (activity), asked at " in sentence


def test_ending_otherwise():
    """Another result, or another error, than the recorded one is a divergence."""

    def ending(value, error=None):
        async def wf(ctx):
            if error is not None:
                raise error
            return value

        return wf

    assert divergence(Drive(ending(1)), ending(2))[1] == (
        "workflow completed came out differently:\n    recorded  1\n    now       2"
    )
    failed = Drive(ending(None, ValueError("a")))
    assert failed.replayed(ending(None, ValueError("a"))).outcome is not None
    assert '    message: "a" recorded, "b" now' in divergence(failed, ending(0, ValueError("b")))[1]
    assert "workflow failed came out differently" in divergence(failed, ending(0, KeyError("a")))[1]


def test_asking_early():
    """A step that is asked before an answer that the history has first is named as early."""

    async def wf(ctx):
        await asyncio.gather(act(ctx, 1), other(ctx, 2))

    assert divergence(two_steps(), wf)[1] == (
        "other:1 (activity) comes too early: the history has an answer before it."
    )


def test_asking_late():
    """A step that the history has at once and the code only later is named as that."""

    async def was(ctx):
        await asyncio.gather(act(ctx, 1), other(ctx, 2))

    async def wf(ctx):
        await act(ctx, 1)
        await other(ctx, 2)

    sentence = divergence(Drive(was), wf)[1]
    assert sentence.startswith("The history has other:1 (activity), asked at ")
    assert sentence.endswith(" here; the code does not, yet.")


def test_another_patch():
    """A side taken is recorded once, stands on replay, and another one is a divergence."""

    def taking(*ids):
        async def wf(ctx):
            sides = [ctx.patched(id) for id in ids]
            await act(ctx, 1)
            return sides

        return wf

    drive = Drive(taking("a", "a"))
    assert drive.trace()[1:] == ["patched a", "activity_scheduled act:1"]
    machine = drive.replayed()
    assert (list(machine.open), machine.decide().events) == (["act:1"], ())
    assert divergence(drive, taking())[1].startswith("The history goes on with patched('a'); ")


def test_an_old_instance_keeps_the_old_side():
    """An instance whose history was recorded before the change does not take its new side."""

    async def was(ctx):
        await act(ctx, 1)
        await act(ctx, 2)

    async def now(ctx):
        await act(ctx, 1)
        return [ctx.patched("a"), await act(ctx, 2)]

    drive = Drive(was)
    drive.answer("act:1", 1)
    drive.machine = drive.replayed(now)
    drive.answer("act:2", 2)
    assert drive.result == [False, 2]


def test_giving_up_another_ask():
    """Giving up another ask than the history has is a divergence."""

    def giving_up(n):
        async def wf(ctx):
            tasks = [asyncio.create_task(act(ctx, k)) for k in (0, 1)]
            await asyncio.sleep(0)
            tasks[n].cancel()
            await act(ctx, 2)

        return wf

    sentence = divergence(Drive(giving_up(0)), giving_up(1))[1]
    assert sentence == (
        "The history goes on with act:1 given up; the code goes on with act:2 given up."
    )


# ---- Every prefix yields the same asks (H2) --------------------------------------------------

leaves = st.one_of(
    st.tuples(st.just("act"), st.integers(0, 3)),
    st.tuples(st.just("sleep"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.sampled_from("xy")),
    st.just(("fail",)),
)
programs = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.just("then"), st.lists(inner, max_size=3)),
        st.tuples(st.just("gather"), st.lists(inner, max_size=3)),
        st.tuples(st.just("group"), st.lists(inner, max_size=3)),
        st.tuples(st.just("timeout"), st.integers(1, 9), inner),
        st.tuples(st.just("wait_for"), st.integers(1, 9), inner),
        st.tuples(st.just("try"), inner, inner),
        st.tuples(st.just("race"), inner, inner),
    ),
    max_leaves=8,
)


async def perform(ctx, node):
    match node:
        case ("act", n):
            await act(ctx, n)
        case ("sleep", n):
            await asyncio.sleep(n)
        case ("wait", name):
            await wait_event(ctx, name, timeout_seconds=5)
        case ("fail",):
            raise LookupError
        case ("then", nodes):
            for each in nodes:
                await perform(ctx, each)
        case ("gather", nodes):
            await asyncio.gather(*[perform(ctx, each) for each in nodes])
        case ("group", nodes):
            async with asyncio.TaskGroup() as group:
                for each in nodes:
                    group.create_task(perform(ctx, each))
        case ("timeout", n, inner):
            async with asyncio.timeout(n):
                await perform(ctx, inner)
        case ("wait_for", n, inner):
            await asyncio.wait_for(perform(ctx, inner), n)
        case ("try", inner, after):
            try:
                await perform(ctx, inner)
            except Exception:
                ctx.logger.info("caught")
            finally:
                await perform(ctx, after)
        case ("race", one, two):
            task = asyncio.create_task(perform(ctx, one))
            await perform(ctx, two)
            task.cancel()


def outputs(events):
    return [event for event in events if isinstance(event, Asked | Withdrawn | Finished)]


@given(programs, st.data())
def test_every_prefix_yields_the_same_asks(program, data):
    """Replaying any prefix of any history asks for, gives up and ends the same, in order."""

    async def wf(ctx):
        await perform(ctx, program)

    drive = Drive(wf)
    for _ in range(20):
        if drive.machine.outcome is not None:
            break
        asked = [event for event in drive.events if isinstance(event, Asked)]
        answered = {event.id for event in drive.events if isinstance(event, Answered)}
        # Also asks that were given up: an answer may come late.
        choices = [event.ask for event in asked if event.id not in answered]
        ask = data.draw(st.sampled_from([*choices, None]))
        if ask is None:
            drive.cancel()
        elif ask.kind == "event":
            drive.answer(ask.id, outcome=Expiry())
        elif ask.kind == "activity" and data.draw(st.booleans()):
            drive.fail(ask.id, ActivityError("shop:Closed", "closed"))
        else:
            drive.answer(ask.id, 1, after=data.draw(st.integers(0, 3)))
    whole = outputs(drive.events)
    for length in range(1, len(drive.events) + 1):
        prefix = drive.events[:length]
        machine = machine_of(drive.workflow)
        machine.replay(prefix)
        again = outputs([*prefix, *machine.decide().events])
        assert again == whole[: len(again)]
        assert len(again) >= len(outputs(prefix))
    assert list(drive.replayed().open) == drive.open
    while MADE:
        MADE.pop().close()
