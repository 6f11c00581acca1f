"""The virtual clock and the loop on it: order, real I/O beside virtual timers, nesting, the end."""

import asyncio
import gc
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import aiosqlite
import anyio
import pytest
from freezegun import freeze_time

from edda_testkit.clock import OutsideTimeoutError, VirtualClock, VirtualLoop

START = datetime(2000, 1, 1, tzinfo=UTC)
LIMIT = 10  # real seconds; only a broken loop gets there


def after(seconds):
    return START + timedelta(seconds=seconds)


def settle(loop):
    """What a simulation does before it may move time."""
    loop.run_ready()
    while loop.is_waiting_outside():
        loop.wait_outside(LIMIT)
        loop.run_ready()


def advance(loop, clock, seconds):
    """What a simulation does to move time: from due time to due time."""
    target = clock.now() + timedelta(seconds=seconds)
    settle(loop)
    while (due := clock.next_due()) is not None and due <= target:
        clock.move_to(due)
        while callback := clock.pop_due():
            callback()
            settle(loop)
    clock.move_to(target)


@pytest.fixture
def clock():
    return VirtualClock(START)


@pytest.fixture
def loop(clock):
    loop = VirtualLoop(clock)
    yield loop
    loop.close()


# ---- the clock -------------------------------------------------------------------------------


def test_callbacks_come_in_order_of_due_time_then_of_registration(clock):
    """`pop_due` hands out what is due one at a time, by due time and then by registration."""
    for name, seconds in [("c", 2), ("a", 1), ("d", 2), ("late", 3), ("b", 1)]:
        clock.call_at(after(seconds), name.upper)
    clock.move_to(after(2))
    popped = iter(clock.pop_due, None)
    assert [callback() for callback in popped] == ["A", "B", "C", "D"]
    assert clock.next_due() == after(3)


def test_a_cancelled_callback_is_not_due(clock):
    """A cancelled callback is neither the next due nor handed out, and cancelling twice is fine."""
    first, second = clock.call_at(after(1), print), clock.call_at(after(2), "x".upper)
    first.cancel()
    first.cancel()
    assert clock.next_due() == second.due == after(2)
    clock.move_to(after(5))
    assert clock.pop_due()() == "X"
    second.cancel()
    assert (clock.pop_due(), clock.next_due()) == (None, None)


def test_cancelled_callbacks_do_not_pile_up(clock):
    """A hundred thousand cancelled timeouts leave no trace in the heap."""
    for _ in range(100_000):
        clock.call_at(after(3600), print).cancel()
    assert len(clock._heap) < 200
    assert clock.next_due() is None


def test_time_does_not_go_backward(clock):
    """Moving back is refused with a sentence that names both instants."""
    clock.move_to(after(1))
    clock.move_to(after(1))
    with pytest.raises(ValueError) as caught:
        clock.move_to(START)
    assert str(caught.value) == (
        "Virtual time never goes backward: it is 2000-01-01T00:00:01+00:00, and "
        "2000-01-01T00:00:00+00:00 was asked for. An earlier time needs another simulation."
    )


@pytest.mark.parametrize("use", [VirtualClock, VirtualClock(START).move_to])
def test_a_naive_instant_is_refused(use):
    """A naive datetime is refused with the cure."""
    with pytest.raises(ValueError) as caught:
        use(datetime(2001, 1, 1))  # noqa: DTZ001
    assert str(caught.value) == (
        "A virtual instant needs a time zone, and 2001-01-01T00:00:00 has none: "
        "give it one, such as tzinfo=timezone.utc."
    )


def test_instants_leave_as_real_utc_datetimes():
    """Whatever zone or patched class comes in, a real UTC datetime of the same instant goes out."""
    seen = []
    with freeze_time("2024-05-05"):
        fake = datetime.now(timezone(timedelta(hours=2)))
        clock = VirtualClock(fake)
        clock.on_move(seen.append)
        clock.move_to(clock.now() + timedelta(microseconds=1))
        clock.call_at(datetime.now(UTC) + timedelta(days=1), print)
        seen += [clock.start, clock.next_due()]
    assert {type(instant) for instant in seen} == {type(START)}
    assert {instant.tzinfo for instant in seen} == {UTC}
    assert seen[0] == datetime(2024, 5, 5, microsecond=1, tzinfo=UTC)


def test_listeners_hear_each_move_until_they_are_taken_off(clock):
    """A listener gets each new instant, and none after it was removed."""
    heard = []
    stop = clock.on_move(heard.append)
    clock.move_to(after(1))
    stop()
    clock.move_to(after(2))
    assert heard == [after(1)]


# ---- timers ----------------------------------------------------------------------------------


def test_sleeping_takes_virtual_time_only(loop, clock):
    """`asyncio.sleep` of months returns at its due instant, without real waiting."""
    woken = []

    async def sleeper(seconds):
        await asyncio.sleep(seconds)
        woken.append((seconds, clock.now(), loop.time()))

    for seconds in (7_776_000, 5, 0.25, 0):
        loop.create_task(sleeper(seconds))
    began = time.perf_counter()
    advance(loop, clock, 8_000_000)
    assert woken == [(s, after(s), s) for s in (0, 0.25, 5, 7_776_000)]
    assert time.perf_counter() - began < 1


def test_timeouts_are_virtual(loop, clock):
    """`timeout` and `wait_for` strike at their virtual instant."""
    seen = []

    async def hasty():
        try:
            async with asyncio.timeout(3):
                await asyncio.sleep(10)
        except TimeoutError:
            seen.append(loop.time())
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 4)
        except TimeoutError:
            seen.append(loop.time())

    task = loop.create_task(hasty())
    advance(loop, clock, 60)
    assert task.done()
    assert seen == [3, 7]
    assert clock.next_due() is None


def test_timers_of_the_same_instant_fire_in_order_of_registration(loop, clock):
    """Equal timers are all kept, and fire first come, first served."""
    fired = []
    for name in "abcab":
        loop.call_at(1, fired.append, name)
    advance(loop, clock, 1)
    assert fired == list("abcab")


def test_a_timer_is_never_early(loop, clock):
    """Rounding to microseconds lets a loop that sleeps out a tiny rest make progress."""
    done = []

    async def patient():
        deadline = loop.time() + 0.3000004
        while loop.time() < deadline:
            await asyncio.sleep(deadline - loop.time())
        done.append(clock.now())

    loop.create_task(patient())
    advance(loop, clock, 1)
    assert done == [after(0.300001)]


def test_a_timer_beyond_the_calendar_never_fires(loop, clock):
    """An infinite delay is kept off the heap, as anyio's deadlines need."""
    loop.call_later(float("inf"), print)
    loop.call_later(1e15, print)
    assert clock.next_due() is None


# ---- the outside holds time ------------------------------------------------------------------


async def query(path, log, times=20):
    async with aiosqlite.connect(path) as db:
        for _ in range(times):
            async with db.execute("select 1") as cursor:
                await cursor.fetchone()
    log.append(("db", asyncio.get_running_loop().time()))


@pytest.mark.parametrize("beside", ["sleep", "wait_for", "inside wait_for", "shield", "gather"])
def test_no_timer_overtakes_a_database(loop, clock, beside):
    """Twenty aiosqlite queries finish at virtual second 0, whatever timers stand beside them."""
    log = []

    async def sleeper():
        await asyncio.sleep(3600)
        log.append(("timer", loop.time()))

    async def guarded(job):
        with suppress(TimeoutError):
            await asyncio.wait_for(job, 3600)

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper())
            match beside:
                case "sleep":
                    group.create_task(query(":memory:", log))
                case "wait_for":
                    group.create_task(guarded(asyncio.Event().wait()))
                    group.create_task(query(":memory:", log))
                case "inside wait_for":
                    group.create_task(guarded(query(":memory:", log)))
                case "shield":
                    group.create_task(guarded(asyncio.shield(query(":memory:", log))))
                case "gather":
                    await asyncio.gather(*(query(":memory:", log) for _ in range(3)))

    task = loop.create_task(main())
    advance(loop, clock, 7200)
    assert task.done()
    assert log == [("db", 0)] * (len(log) - 1) + [("timer", 3600)]


def test_a_bare_future_under_wait_holds_time(loop, clock):
    """A future that a thread settles holds time under `wait`, `wait_for` and `shield` alike."""
    seen = []

    async def main():
        for wrap in (
            partial(asyncio.wait_for, timeout=9),
            asyncio.shield,
            lambda f: asyncio.wait([f]),
        ):
            future = loop.create_future()
            timer = threading.Timer(0.005, loop.call_soon_threadsafe, (future.set_result, "answer"))
            timer.start()
            await wrap(future)
            seen.append((future.result(), loop.time()))

    loop.create_task(main())
    loop.create_task(asyncio.sleep(3600))
    advance(loop, clock, 10)
    assert seen == [("answer", 0)] * 3


def test_a_future_of_a_library_that_bypasses_the_loop_holds_time(loop, clock):
    """`asyncio.Future()`, made without asking the loop, holds time too: anyio's threads use it."""
    seen = []

    async def main():
        seen.append(await anyio.to_thread.run_sync(lambda: time.sleep(0.005) or "anyio"))
        seen.append(loop.time())

    loop.create_task(main())
    loop.create_task(asyncio.sleep(3600))
    advance(loop, clock, 7200)
    assert seen == ["anyio", 0]


def test_threads_hold_time(loop, clock):
    """Jobs of `to_thread` and of any pool finish before the next timer."""
    log = []

    def work(name):
        time.sleep(0.003)
        return name

    async def main():
        loop.call_later(1, log.append, "timer")
        with ThreadPoolExecutor(1) as pool:
            jobs = [
                asyncio.to_thread(work, "to_thread"),
                loop.run_in_executor(pool, work, "pool"),
                asyncio.wrap_future(pool.submit(work, "wrapped")),
            ]
            log.extend(await asyncio.gather(*jobs))

    loop.create_task(main())
    advance(loop, clock, 5)
    assert log == ["to_thread", "pool", "wrapped", "timer"]


def test_a_thread_nobody_awaits_any_more_holds_time(loop, clock):
    """A job whose awaiter was cancelled holds time until its function has ended."""
    log, release, started = [], threading.Event(), threading.Event()

    def work():
        started.set()
        release.wait(LIMIT)
        log.append("thread")

    task = loop.create_task(asyncio.to_thread(work))
    loop.run_ready()
    started.wait(LIMIT)
    task.cancel()
    loop.run_ready()
    assert task.cancelled()
    assert loop.is_waiting_outside()
    threading.Timer(0.005, release.set).start()
    settle(loop)
    assert log == ["thread"]


def test_sockets_hold_time(loop, clock):
    """Streams between two tasks and a thread come through before the next timer."""
    ours, theirs = socket.socketpair()
    log = []

    def echo():
        with theirs:
            theirs.sendall(theirs.recv(100).upper())

    async def main():
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(b"hello")
        log.append(await reader.readexactly(5))
        await asyncio.sleep(5)  # the idle connection does not hold this one
        log.append(loop.time())
        writer.close()
        await writer.wait_closed()

    loop.create_task(main())
    loop.call_at(1, log.append, "timer")
    thread = threading.Thread(target=echo)
    thread.start()
    advance(loop, clock, 60)
    thread.join()
    assert log == [b"HELLO", "timer", 5]


def test_a_reader_that_sets_an_event_holds_time(loop, clock):
    """Who is parked on an Event beside a registered reader may be waiting for that reader."""
    ours, theirs = socket.socketpair()
    log = []

    async def main():
        event = asyncio.Event()
        loop.add_reader(ours, event.set)
        await event.wait()
        loop.remove_reader(ours)
        log.append(("read", loop.time()))

    loop.create_task(main())
    loop.call_at(1, log.append, "timer")
    threading.Timer(0.005, theirs.sendall, (b"x",)).start()
    advance(loop, clock, 5)
    with ours, theirs:
        assert log == [("read", 0), "timer"]


def test_what_tasks_owe_each_other_does_not_hold_time(loop, clock):
    """Locks, events, queues, groups, shields, gathers and anyio's groups let time move."""
    log = []

    async def waiter(event, queue, lock):
        async with lock:
            await event.wait()
        log.append(await queue.get())

    async def main():
        event, queue, lock = asyncio.Event(), asyncio.Queue(), asyncio.Lock()
        async with anyio.create_task_group() as outer, asyncio.TaskGroup() as group:
            outer.start_soon(anyio.sleep, 1)
            group.create_task(waiter(event, queue, lock))
            await asyncio.shield(asyncio.sleep(1))
            await asyncio.gather(
                asyncio.sleep(1), asyncio.wait({group.create_task(lock.acquire())}, timeout=1)
            )
            event.set()
            by_hand = loop.create_future()
            loop.call_later(1, by_hand.set_result, None)
            await by_hand
            queue.put_nowait("answer")
        log.append(loop.time())

    task = loop.create_task(main())
    loop.run_ready()
    assert loop.waits() == []
    advance(loop, clock, 5)
    assert task.done()
    assert log == ["answer", 3]


def test_waiting_too_long_names_who_waits_and_where(loop):
    """The limit of real time ends in an error with task, source line and the cure."""

    async def lonely():
        await asyncio.get_running_loop().create_future()

    loop.create_task(lonely(), name="charge_card:1")
    loop.run_ready()
    line = lonely.__code__.co_firstlineno + 1
    with pytest.raises(OutsideTimeoutError) as caught:
        loop.wait_outside(0.002)
    assert str(caught.value) == (
        "Nothing came back from outside within 0.002 real seconds: task 'charge_card:1' awaits at "
        f"{__file__}:{line} (lonely). Virtual time stands still meanwhile. Stub the activity, "
        "raise the limit, or use asyncio.Event instead of a bare future between tasks."
    )


def test_waits_name_threads_and_the_lines_of_libraries(loop):
    """A thread shows its function; a wait inside a library shows the user's line before it."""
    release = threading.Event()

    def work():
        release.wait(LIMIT)

    async def ask():
        await asyncio.to_thread(work)

    loop.create_task(ask(), name="ask")
    loop.run_ready()
    while not loop._jobs:  # until the thread has begun
        time.sleep(0.0001)
    thread, task = loop.waits()
    release.set()
    settle(loop)
    first = work.__code__.co_firstlineno
    assert thread == f"a thread runs {work.__qualname__} at {__file__}:{first}"
    assert task.startswith(f"task 'ask' awaits at {__file__}:{first + 4} (ask), in ")
    assert task.endswith("(to_thread)")


def test_nothing_to_wait_for_returns_at_once(loop):
    """`wait_outside` with nothing outside comes back without blocking."""
    loop.create_task(asyncio.sleep(5))
    loop.run_ready()
    loop.wait_outside(LIMIT)


def test_a_busy_loop_is_reported(loop, monkeypatch):
    """A task that spins around `sleep(0)` ends in an error that names its line."""
    monkeypatch.setattr("edda_testkit.clock.MAX_ROUNDS", 100)

    async def spin():
        while True:
            await asyncio.sleep(0)

    loop.create_task(spin(), name="spinner")
    with pytest.raises(RuntimeError) as caught:
        loop.run_ready()
    assert str(caught.value).startswith(
        "Activities kept running 100 rounds without waiting for anything: task 'spinner' awaits at "
        f"{__file__}:{spin.__code__.co_firstlineno + 2} (spin), in "
    )


# ---- beside another loop ---------------------------------------------------------------------


def test_the_loop_runs_inside_another_running_loop(clock):
    """Inside, loop and task are ours; afterwards the outer ones are back; the outer goes on."""
    seen = []

    async def inner():
        seen.append(asyncio.get_running_loop())
        seen.append(asyncio.current_task().get_name())
        await asyncio.sleep(5)
        seen.append(asyncio.current_task().get_name())

    async def outer():
        mine, task = asyncio.get_running_loop(), asyncio.current_task()
        loop = VirtualLoop(clock)
        loop.create_task(inner(), name="inner")
        loop.call_soon(lambda: seen.append(asyncio.current_task()))
        advance(loop, clock, 10)
        loop.close()
        assert asyncio.get_running_loop() is mine
        assert asyncio.current_task() is task
        async with asyncio.timeout(LIMIT):
            await asyncio.sleep(0.001)
        return loop

    loop = asyncio.run(outer())
    assert seen == [loop, "inner", None, "inner"]


def test_an_activity_cannot_drive_its_own_loop(loop):
    """Driving the loop from inside itself is refused, and so is running it by hand."""

    async def naughty():
        loop.run_ready()

    task = loop.create_task(naughty())
    loop.run_ready()
    assert str(task.exception()) == "This VirtualLoop is running: an activity must not drive it."
    with pytest.raises(RuntimeError) as caught:
        loop.run_forever()
    assert "advance the simulation instead" in str(caught.value)


def test_the_outer_loop_is_restored_after_an_interrupt(loop):
    """Ctrl-C inside an activity leaves no running loop behind, and the loop usable."""

    async def interrupted():
        raise KeyboardInterrupt

    task = loop.create_task(interrupted())
    with pytest.raises(KeyboardInterrupt):
        loop.run_ready()
    assert isinstance(task.exception(), KeyboardInterrupt)
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    done = loop.create_task(asyncio.sleep(0, "fine"))
    loop.run_ready()
    assert done.result() == "fine"


# ---- the end ---------------------------------------------------------------------------------


def test_closing_ends_what_is_pending(clock, caplog, recwarn, monkeypatch):
    """Sleepers, databases, generators, stubborn tasks and late threads all end without noise."""
    monkeypatch.setattr("edda_testkit.clock.CLOSING_SECONDS", 0.02)
    ended, release = [], threading.Event()
    loop = VirtualLoop(clock)

    async def sleeper():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("sleeper")

    async def database():
        async with aiosqlite.connect(":memory:") as db:
            await db.execute("select 1")
            await asyncio.sleep(3600)

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    async def consumer():
        async for _ in kept:
            await asyncio.sleep(3600)

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append("stubborn")

    kept = numbers()
    for activity in (sleeper, database, consumer, stubborn):
        loop.create_task(activity())
    loop.create_task(asyncio.to_thread(release.wait, LIMIT))
    settle_without_threads(loop)
    loop.close()
    loop.close()
    release.set()
    assert clock.next_due() is None
    assert {"sleeper", "generator", "stubborn"} <= set(ended)
    del loop
    gc.collect()
    assert not caplog.records
    assert not recwarn.list


def settle_without_threads(loop):
    """Let the database come to rest, though a thread is held back for good."""
    for _ in range(200):
        loop.run_ready()
        time.sleep(0.0001)


def test_a_thread_that_comes_back_after_the_end_is_ignored(clock):
    """Reporting to a closed loop from a thread neither raises nor does anything."""
    loop = VirtualLoop(clock)
    loop.close()
    loop.call_soon_threadsafe(print, "late")


def test_a_fresh_loop_is_cheap(clock):
    """Making and closing a loop costs far less than a test."""
    best = min(timed(lambda: VirtualLoop(clock).close()) for _ in range(50))
    assert best < 0.001


def timed(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
