"""The worker in real time, tens of milliseconds of it."""

import asyncio
import contextlib
import logging
import threading
import time
from datetime import timedelta

import pytest

from edda import (
    ActivityTimeoutError,
    EddaApp,
    RetryExhaustedError,
    RetryPolicy,
    WorkflowFailed,
    activity,
    sleep,
    wait_event,
    workflow,
)
from edda.doors import SystemClock
from edda.errors import LeaseLost, StoreUnavailableError

ONCE = RetryPolicy(max_attempts=1)


def run(body, **options):
    """Run `body(app)` on an open app in memory."""

    async def main():
        async with EddaApp("w", "memory://", **options) as app:
            return await asyncio.wait_for(body(app), 10)

    return asyncio.run(main())


@workflow
async def napping(ctx, seconds: float) -> None:
    await sleep(ctx, seconds)


def test_a_timer_fires_in_time():
    """A timer never fires early, and hardly late."""

    async def body(app):
        began = time.monotonic()
        await app.result(await app.start(napping, 0.03), timeout=5)
        return time.monotonic() - began

    assert 0.029 < run(body) < 0.5


def test_a_lost_lease_drops_the_turn(caplog):
    """When a lease cannot be renewed the activity is cancelled, and the instance taken up again."""
    states = []

    @activity
    async def long(ctx) -> int:
        states.append("began")
        try:
            await asyncio.sleep(5 if len(states) == 1 else 0)
        except asyncio.CancelledError:
            states.append("cancelled")
            raise
        return 1

    @workflow
    async def lasting(ctx) -> int:
        return await long(ctx)

    async def body(app):
        id = await app.start(lasting)
        await asyncio.sleep(0.005)
        await app.store.release(app._worker.id)
        return await app.result(id, timeout=5)

    with caplog.at_level(logging.WARNING, "edda.worker"):
        assert run(body, lease_seconds=0.06) == 1
    assert states == ["began", "cancelled", "began"]
    assert "Lost the lease" in caplog.text


@pytest.mark.parametrize("name", ["claim", "commit", "renew"])
@pytest.mark.parametrize("error", [StoreUnavailableError("away"), LeaseLost("x"), OSError("odd")])
def test_a_store_that_fails_once_loses_nothing(name, error):
    """A store that fails for a moment delays a run and does not end it."""

    async def body(app):
        original = getattr(app.store, name)
        failed = []

        async def fail_once(*args, **options):
            if not failed:
                failed.append(1)
                raise error
            return await original(*args, **options)

        setattr(app.store, name, fail_once)
        app._worker.wake_all()
        await app.result(await app.start(napping, 0.05), timeout=5)

    run(body, lease_seconds=0.06)


def test_shutdown_gives_leases_back():
    """After a clean shutdown another worker can go on at once, and a waiting activity is over."""
    ended = []

    @activity
    async def long(ctx) -> int:
        try:
            await asyncio.sleep(0.02 if ended else 5)
        finally:
            ended.append(1)
        return 1

    @workflow
    async def lasting(ctx) -> int:
        return await long(ctx)

    async def main():
        first = EddaApp("first", "memory://", workflows=[lasting])
        await first.initialize()
        id = await first.start(lasting)
        await asyncio.sleep(0.005)
        await first._worker.close(grace_seconds=0.01)
        assert ended == [1]
        first._worker = None
        async with EddaApp("second", workflows=[lasting], store=first.store) as second:
            assert await second.result(id, timeout=5) == 1
        await first.shutdown()

    asyncio.run(main())


@pytest.mark.parametrize("drain_seconds", [5, 0.01])
def test_shutdown_waits_as_long_as_the_app_says(tmp_path, drain_seconds):
    """A step under way ends within `drain_seconds`, or is cut off and done again elsewhere."""
    url = f"sqlite:///{tmp_path}/edda.db"
    doing, going_on = asyncio.Event(), asyncio.Event()

    @activity
    async def lasting_step(ctx) -> int:
        doing.set()
        await going_on.wait()
        return 1

    @workflow
    async def with_a_lasting_step(ctx) -> int:
        return await lasting_step(ctx)

    async def main():
        options = {"workflows": [with_a_lasting_step], "drain_seconds": drain_seconds}
        async with EddaApp("first", url, **options) as first:
            id = await first.start(with_a_lasting_step)
            await doing.wait()
            asyncio.get_running_loop().call_later(0.1, going_on.set)
        async with EddaApp("reader", url, worker=False) as reader:
            ended = (await reader.instance(id)).status == "completed"
            assert ended is (drain_seconds == 5)

    asyncio.run(main())


def test_cancel_reaches_a_running_activity():
    """Cancelling a run cancels the activity that it is in."""
    seen = []

    @activity
    async def long(ctx) -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    @workflow
    async def lasting(ctx) -> None:
        await long(ctx)

    async def body(app):
        id = await app.start(lasting)
        await asyncio.sleep(0.005)
        assert await app.cancel(id)
        while not (await app.status(id)).is_final:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await app.status(id)

    assert run(body) == "cancelled"
    assert seen == ["cancelled"]


def test_turns_are_limited():
    """No more turns are under way than `max_concurrent`, however many are started at once."""
    now, most = set(), []

    @activity
    async def busy(ctx, n: int) -> int:
        now.add(n)
        most.append(len(now))
        await asyncio.sleep(0.005)
        now.discard(n)
        return n

    @workflow
    async def working(ctx, n: int) -> int:
        return await busy(ctx, n)

    async def body(app):
        create = app.store.create

        async def slowly(new):
            await asyncio.sleep(0)
            return await create(new)

        app.store.create = slowly
        ids = await asyncio.gather(*(app.start(working, n) for n in range(12)))
        return [await app.result(id, timeout=5) for id in ids]

    assert run(body, max_concurrent=3) == list(range(12))
    assert max(most) == 3


def test_two_workers_share_the_work():
    """On one store each instance is driven by one worker at a time, and each step runs once."""
    calls = []

    @activity
    async def step(ctx) -> None:
        calls.append(ctx.idempotency_key)
        await asyncio.sleep(0.001)

    @workflow
    async def stepping(ctx) -> None:
        await step(ctx)
        await sleep(ctx, 0.01)
        await step(ctx)

    async def body(app):
        async with EddaApp("rival", workflows=[stepping], store=app.store):
            ids = [await app.start(stepping) for _ in range(10)]
            while any([not (await app.status(id)).is_final for id in ids]):
                await asyncio.sleep(0.005)

    run(body, workflows=[stepping])
    assert len(calls) == len(set(calls)) == 20


def test_plain_functions_run_in_a_thread():
    """A plain activity may block, and one that raises StopIteration does not hang its run."""

    @activity
    def blocking(ctx) -> bool:
        return threading.current_thread() is threading.main_thread()

    @activity(retry_policy=ONCE)
    def exhausted(ctx) -> int:
        return next(iter([]))

    @workflow
    async def both(ctx) -> bool:
        on_main = await blocking(ctx)
        await exhausted(ctx)
        return on_main

    async def body(app):
        with pytest.raises(WorkflowFailed, match="StopIteration"):
            await app.result(await app.start(both, instance_id="x"), timeout=5)
        events = await app.history("x")
        return [e.outcome.value for e in events if e.kind == "activity_completed"]

    assert run(body) == ["false"]


def test_an_attempt_has_its_time():
    """An attempt that takes too long fails with ActivityTimeoutError, and counts as one."""

    @activity(timeout_seconds=0.01, retry_policy=ONCE)
    async def slow(ctx) -> None:
        await asyncio.sleep(5)

    @workflow
    async def hurried(ctx) -> str:
        try:
            await slow(ctx)
        except RetryExhaustedError as error:
            return type(error.last_error).__name__
        return "in time"

    async def body(app):
        return await app.result(await app.start(hurried), timeout=5)

    assert run(body) == ActivityTimeoutError.__name__


def test_a_retry_is_durable():
    """Between attempts the instance is released, and the next attempt is the second."""
    attempts, statuses = [], []

    @activity(retry_policy=RetryPolicy(initial_interval=0.03))
    async def flaky(ctx) -> int:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("once")
        return ctx.attempt

    @workflow
    async def retrying(ctx) -> int:
        return await flaky(ctx)

    async def body(app):
        id = await app.start(retrying)
        await asyncio.sleep(0.01)
        statuses.append(await app.status(id))
        assert app._worker._running == {}
        return await app.result(id, timeout=5)

    assert run(body) == 2
    assert (attempts, statuses) == ([1, 2], ["waiting_for_retry"])


def test_a_door_that_raises_fails_the_step():
    """An `Activities` door that breaks its promise fails the attempt, and does not hang the run."""

    class Broken:
        async def attempt(self, call):
            raise OSError("broken door")

    @activity(retry_policy=ONCE)
    async def any_step(ctx) -> None:
        pass

    @workflow
    async def stepping(ctx) -> None:
        await any_step(ctx)

    async def body(app):
        with pytest.raises(WorkflowFailed, match="broken door"):
            await app.result(await app.start(stepping), timeout=5)

    run(body, activities=Broken())


def test_an_event_that_comes_as_a_turn_ends_is_not_lost():
    """An event stored between a turn's last commit and its end still wakes its instance."""

    @workflow
    async def waiting(ctx) -> int:
        return (await wait_event(ctx, "go")).data

    async def body(app):
        commit = app.store.commit

        async def slowly(one):
            committed = await commit(one)
            if committed.is_released:
                app.store.commit = commit
                event = {"type": "go", "source": "s", "id": "1", "data": 5}
                await app.handle_event(event)
            return committed

        app.store.commit = slowly
        return await app.result(await app.start(waiting), timeout=5)

    assert run(body) == 5


class Odd(BaseException):
    pass


def raises_odd():
    raise Odd("odd")


def raises_exit():
    raise GeneratorExit


async def cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)


@pytest.mark.parametrize("is_plain", [False, True], ids=["async", "plain"])
@pytest.mark.parametrize(
    ("what", "name"),
    [(raises_odd, "Odd"), (raises_exit, "GeneratorExit"), (cancels_itself, "Cancelled")],
)
def test_whatever_an_activity_raises_nobody_hangs(is_plain, what, name):
    """What is no Exception, and a task that cancels itself, are a failed attempt like any other."""

    async def asynchronous(ctx) -> None:
        found = what()
        if found is not None:
            await found

    def plain(ctx) -> None:
        return what()

    act = activity(retry_policy=ONCE)(plain if is_plain else asynchronous)

    @workflow
    async def odd(ctx) -> None:
        await act(ctx)

    async def body(app):
        id = await app.start(odd)
        with pytest.raises(WorkflowFailed, match=f"the last error was {name}"):
            await app.result(id, timeout=5)
        assert app._worker._running == {}

    run(body)


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), asyncio.CancelledError()])
def test_a_start_whose_answer_is_lost_runs_all_the_same(error):
    """An instance that was stored runs, also when who started it never learnt of it."""

    async def body(app):
        create, awake = app.store.create, app._worker._awake
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not awake.is_set()  # it has looked, found nothing and sleeps

        async def create_and_fail(new):
            await create(new)
            raise error

        app.store.create = create_and_fail
        with pytest.raises(type(error)):
            await app.start(napping, 0.0, instance_id="x")
        await app.result("x", timeout=5)

    run(body, lease_seconds=0.06)


@pytest.mark.parametrize("has_a_turn", [False, True], ids=["waiting", "turning"])
def test_a_clock_that_is_set_forward(has_a_turn):
    """When the clock jumps, or the machine has slept, what became due meanwhile is noticed."""
    ahead = [timedelta(0)]

    class Clock(SystemClock):
        def now(self):
            return super().now() + ahead[0]

    @activity
    async def long(ctx) -> None:
        await asyncio.sleep(60)

    @workflow
    async def dozing(ctx) -> None:
        if has_a_turn:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3600):
                    await long(ctx)
        else:
            await sleep(ctx, 3600)

    async def body(app):
        id = await app.start(dozing)
        status = "running" if has_a_turn else "waiting_for_timer"
        while await app.status(id) != status or app._worker._awake.is_set():
            await asyncio.sleep(0.001)
        ahead[0] = timedelta(hours=2)
        if has_a_turn:  # its lease must not lapse: that would be another way out
            app._worker._notice_the_time()
        await app.result(id, timeout=5)

    run(body, clock=Clock(), lease_seconds=30.0 if has_a_turn else 0.06)


def test_plain_functions_do_not_wait_for_each_other():
    """So many plain functions as are called are at work at once: none runs out of time in line."""
    together = threading.Barrier(50, timeout=5)

    @activity(timeout_seconds=5, retry_policy=ONCE)
    def meets(ctx) -> int:
        return int(together.wait() >= 0)

    @workflow
    async def meeting(ctx) -> int:
        return sum(await asyncio.gather(*(meets(ctx) for _ in range(50))))

    async def body(app):
        return await app.result(await app.start(meeting), timeout=8)

    assert run(body) == 50
