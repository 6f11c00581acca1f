"""Virtual time: one clock with one heap, and the event loop that activities run on.

* A `VirtualClock` moves only when told to, and never backward. It hands out what is due one
  callback at a time, in the order (due, sequence), and calls nothing itself but its listeners.
* A `VirtualLoop` is a real asyncio loop whose timers live in that heap. `run_ready` runs what can
  run now, and `wait_outside` is the only place that blocks.
* Time must not move while `is_waiting_outside()`: a thread or a file then owes us an answer.
* Every datetime that leaves is a real, aware UTC `datetime`, whatever patched class came in.

Absent on purpose: the decision when to move (the simulation's), and jumping when idle: a loop
cannot know what a thread is about to hand back.
"""

import asyncio
import builtins
import sys
import threading
from asyncio import events, futures
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context
from datetime import timedelta
from functools import partial
from time import monotonic
from types import FunctionType
from typing import Any
from weakref import WeakSet

from edda_testkit.instants import MICROSECOND, Due, VirtualClock, as_utc
from edda_testkit.places import as_job, as_place, module_of

__all__ = [
    "Due",
    "OutsideTimeoutError",
    "VirtualClock",
    "VirtualLoop",
    "as_utc",
    "off_the_loop",
    "sleep_of",
]

# Futures made here are settled by tasks and timers of the same loop, never by the outside.
INSIDE = frozenset(f"asyncio.{name}" for name in ("locks", "queues", "tasks", "taskgroups"))
INSIDE_FUNCTIONS = frozenset({"TaskGroup.__aexit__"})  # anyio's waits for its own tasks
# A reader or writer may release whoever is parked in one of these.
PARKING = frozenset({"asyncio.locks", "asyncio.queues"})
MAX_ROUNDS = 200_000
CLOSING_ROUNDS = 10
CLOSING_SECONDS = 1.0
# Any: we go through asyncio's private doors, which are the same on 3.11, 3.12 and 3.13.
SELECTOR_LOOP: Any = asyncio.SelectorEventLoop
TIMER: Any = asyncio.TimerHandle
WAKE_SLEEPER: Any = futures._set_result_unless_cancelled  # type: ignore[attr-defined]


class OutsideTimeoutError(RuntimeError):
    """Real work did not come back within its limit of real time."""


class VirtualLoop(SELECTOR_LOOP):  # type: ignore[misc]
    """The event loop of a simulation's activities: real I/O and threads, virtual timers.

    Drive it with `run_ready`, also from within another running loop of the same thread.
    """

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._timers: set[_Timer] = set()
        self._tasks: dict[asyncio.Task[Any], None] = {}  # in order, unlike a set
        self._foreign: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._inside: WeakSet[asyncio.Future[Any]] = WeakSet()
        self._jobs: set[_Job] = set()

    def time(self) -> float:
        """Virtual seconds since the clock's start."""
        return (self._clock.now() - self._clock.start).total_seconds()

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call back at virtual second `when`; `call_later` and `asyncio.sleep` come here too."""
        self._check_closed()
        timer = _Timer(when, callback, args, self, context)
        now = self._clock.now()
        try:
            due = self._clock.start + timedelta(seconds=when)
        except OverflowError:  # beyond the calendar, e.g. anyio's infinite deadlines: never
            return timer
        if when > self.time():  # rounding to microseconds must not make a timer early
            due = max(due, now + MICROSECOND)
        if due <= now:
            self._add_callback(timer)
        else:
            timer.entry = self._clock.call_at(due, timer.ring)
            self._timers.add(timer)
        return timer

    def run_ready(self) -> None:
        """Run callbacks and tasks until none can go on now, polling I/O without blocking.

        Raises RuntimeError when they never come to rest (a loop around `asyncio.sleep(0)`).
        """
        ready = self._ready
        with self._current():
            for _ in range(MAX_ROUNDS):
                # As asyncio's own round, without asking the system about files nobody waits for.
                for _ in range(len(ready)):
                    handle = ready.popleft()
                    if not handle._cancelled:
                        handle._run()
                if not ready and self._has_outside_files():
                    self._process_events(self._selector.select(0))
                if not ready:
                    return
        busy = "; ".join(map(as_place, self._pending_tasks())) or "a callback"
        raise RuntimeError(
            f"Activities kept running {MAX_ROUNDS:,} rounds without waiting for anything: {busy}. "
            "Virtual time stands still while something runs: wait with asyncio.sleep(seconds) "
            "or an asyncio.Event, not in a loop around asyncio.sleep(0)."
        )

    @property
    def is_idle(self) -> bool:
        """Whether `run_ready` would find nothing to run."""
        return not self._ready

    @property
    def ready_tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that can take a step, in the order they would."""
        return list(filter(None, dict.fromkeys(map(_task_of, self._ready))))

    def run_step(self, task: asyncio.Task[Any] | None) -> None:
        """Let one task take its next step, and run what belongs to none; other tasks stay."""
        with self._current():
            for handle in self._ready:
                if task is not None and _task_of(handle) is task:
                    self._ready.remove(handle)
                    handle._run()
                    break
            while loose := [handle for handle in self._ready if _task_of(handle) is None]:
                for handle in loose:
                    self._ready.remove(handle)
                    if not handle._cancelled:
                        handle._run()

    def is_waiting_outside(self) -> bool:
        """Whether a thread or a file owes an answer, so that virtual time must not move."""
        if not (self._tasks or self._jobs or self._foreign):
            return False
        return next(self._outside(), None) is not None

    def waits(self) -> list[str]:
        """What `is_waiting_outside` sees, one phrase for each: task, awaited thing, source line."""
        return sorted({describe() for describe in self._outside()})

    def wait_outside(self, limit_seconds: float, *, clock: Callable[[], float] = monotonic) -> None:
        """Block until something came back, then `run_ready` again.

        Raises `OutsideTimeoutError` after `limit_seconds` of real time, naming what is awaited.
        """
        if not self.is_waiting_outside():
            return
        deadline = clock() + limit_seconds
        while not self._ready:
            left = deadline - clock()
            if left <= 0:
                raise OutsideTimeoutError(
                    f"Nothing came back from outside within {limit_seconds:g} real seconds: "
                    + "; ".join(self.waits())
                    + ". Virtual time stands still meanwhile. Stub the activity, raise the limit, "
                    "or use asyncio.Event instead of a bare future between tasks."
                )
            self._process_events(self._selector.select(left))

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        """As asyncio's; the loop keeps the task alive until it is done."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """As asyncio's, remembering the futures that the outside settles."""
        future: asyncio.Future[Any] = super().create_future()
        code, names = sys._getframe(1).f_code, sys._getframe(1).f_globals
        is_inside = names.get("__name__") in INSIDE or code.co_qualname in INSIDE_FUNCTIONS
        (self._inside if is_inside else self._foreign).add(future)
        return future

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As asyncio's; a thread's job holds time until it ends, even if nobody awaits it."""
        if executor is None or isinstance(executor, ThreadPoolExecutor):  # others may pickle it
            func = _Job(self, func)
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        return future

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's; a thread that comes back after the end has nobody to tell."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_closed():
            handle = super().call_soon_threadsafe(callback, *args, context=context)
        return handle

    def run_forever(self) -> None:
        """Refused: a simulation's loop does not run by itself."""
        raise RuntimeError("A VirtualLoop does not run by itself: advance the simulation instead.")

    def close(self) -> None:
        """Cancel what is pending, let it end, give everything back. Never raises for user code."""
        if self.is_closed():
            return
        for limit_seconds in (CLOSING_SECONDS, *[0.0] * CLOSING_ROUNDS):
            if pending := self._pending_tasks():
                for task in pending:
                    task.cancel()
                self._let_end(pending, limit_seconds)
        if self._asyncgens:
            self._let_end([self.create_task(self.shutdown_asyncgens())], CLOSING_SECONDS)
        for task in self._pending_tasks():  # it swallowed every cancellation: leave it, silently
            task._log_destroy_pending = False
        for timer in tuple(self._timers):
            timer.cancel()
        for future in tuple(self._foreign):  # or a late thread would log an error at a closed loop
            future.cancel()
        super().close()

    def _let_end(self, closing: list[Any], limit_seconds: float) -> None:
        # It may wait outside too long, or never rest: then the next round cancels again.
        with suppress(RuntimeError):
            self.run_ready()
            while any(not task.done() for task in closing) and self.is_waiting_outside():
                self.wait_outside(limit_seconds)
                self.run_ready()

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Be the running loop, then give the thread back; asyncio keeps tasks by loop to 3.13."""
        self._check_closed()
        outer, hooks = events._get_running_loop(), sys.get_asyncgen_hooks()
        if outer is self:
            raise RuntimeError("This VirtualLoop is running: an activity must not drive it.")
        self._thread_id: int | None = threading.get_ident()
        self._stopping = True  # with it, asyncio's `_run_once` polls instead of blocking
        sys.set_asyncgen_hooks(self._asyncgen_firstiter_hook, self._asyncgen_finalizer_hook)
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(outer)
            sys.set_asyncgen_hooks(*hooks)
            self._thread_id, self._stopping = None, False

    def _outside(self) -> Iterator[Callable[[], str]]:
        """Whatever holds time, each as a function that describes it."""
        for job in tuple(self._jobs):
            yield partial(as_job, job.func)
        for future in tuple(self._foreign):
            # Callbacks are the sign that somebody waits: a task, shield(), wait(), a thread pool.
            if not future.done() and future._callbacks and not self._is_timed(future):
                yield partial(self._describe, future)
        has_files = self._has_outside_files()
        for task in self._pending_tasks():
            waiter = task._fut_waiter
            if waiter is None or waiter in self._foreign:
                continue
            # A future made without create_future(), by a library that hands it to a thread.
            is_bare = type(waiter) is asyncio.Future and waiter not in self._inside
            if is_bare or (has_files and module_of(task) in PARKING):
                yield partial(as_place, task)

    def _is_timed(self, future: asyncio.Future[Any]) -> bool:
        """Whether it is a sleep by hand: `call_later(5, future.set_result, None)`."""
        return any(timer._callback == future.set_result for timer in self._timers)

    def _describe(self, future: asyncio.Future[Any]) -> str:
        places = [as_place(task) for task in self._pending_tasks() if task._fut_waiter is future]
        return ", ".join(places) or f"somebody awaits {future!r}"

    def _pending_tasks(self) -> list[Any]:  # Any: asyncio's types hide what a task awaits
        return [task for task in tuple(self._tasks) if not task.done()]

    def _has_outside_files(self) -> bool:
        return bool(len(self._selector.get_map()) > self._internal_fds)


def off_the_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function as it finds itself in production's thread: with no event loop running.

    Libraries look: Django refuses its ORM under a loop, and gives it another connection.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        loop = events._get_running_loop()
        events._set_running_loop(None)
        try:
            return function(*args, **kwargs)
        finally:
            events._set_running_loop(loop)

    return call


def _task_of(handle: Any) -> asyncio.Task[Any] | None:
    """The task whose step or wake-up this is."""
    owner = getattr(handle._callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) and not handle._cancelled else None


class _Timer(TIMER):  # type: ignore[misc]
    """asyncio's timer handle, whose instant is kept by the virtual clock."""

    __slots__ = ("entry",)

    def __init__(self, *call: Any) -> None:
        super().__init__(*call)
        self.entry: Due | None = None

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    @property
    def sleeper(self) -> str:
        """The name of the task that sleeps until it rings."""
        waits = (task for task in self._loop._tasks if task._fut_waiter is self._args[0])
        return next((task.get_name() for task in waits), "somebody")

    def ring(self) -> None:
        self._loop._timers.discard(self)
        self._loop._add_callback(self)

    def cancel(self) -> None:
        super().cancel()
        self._loop._timers.discard(self)
        if self.entry is not None:
            self.entry.cancel()


def sleep_of(callback: Callable[[], object]) -> _Timer | None:
    """The timer of an `asyncio.sleep` that rings here; None for a timeout, or anything else."""
    timer = getattr(callback, "__self__", None)
    return timer if isinstance(timer, _Timer) and timer._callback is WAKE_SLEEPER else None


class _Job:
    """A function on its way through a thread: in flight from its first line to its last."""

    def __init__(self, loop: VirtualLoop, func: Callable[..., Any]) -> None:
        self._loop = loop
        self.func = func

    def __call__(self, *args: Any) -> Any:
        self._loop._jobs.add(self)
        try:
            return CALL(self.func, *args)
        finally:
            self._loop._jobs.discard(self)
            self._loop._write_to_self()  # wakes wait_outside if its future was cancelled meanwhile


# freezegun shows real time to callers in our package; `to_thread(time.time)` is the user's call.
CALLER = {"__name__": "activity_thread", "__builtins__": builtins}
CALL = FunctionType((lambda func, *args: func(*args)).__code__, CALLER)
