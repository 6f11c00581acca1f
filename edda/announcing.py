"""Telling an app's hooks what has happened: which of them, in which order, and at whose cost.

- A hook changes nothing. What it raises is logged. A plain method is called at once, on the event
  loop, so it must be quick; an `async def` joins its object's line, where one runs at a time, in
  the order things happened, each for at most `PATIENCE_SECONDS`.
- A line that is `MAX_WAITING` long drops what comes next, and says so in the log.

Absent: who sees what happens first, which are the turn and the app.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Protocol

from edda.codec import decode_error
from edda.commands import (
    Cancellation,
    EventAsk,
    Expiry,
    Failure,
    ReceiveAsk,
    Recurrence,
    Result,
    ResultAsk,
    TimerAsk,
    deadline_of,
)
from edda.errors import ArgumentError
from edda.events import Envelope, received
from edda.history import Answered, Asked, Attempted, Event, Finished, Started, Withdrawn
from edda.hooks import ActivityInfo, EventInfo, Hooks, Told, WaitInfo, WaitKind, WorkflowInfo
from edda.machine import Machine
from edda.ports import Call, Clock

__all__ = ["Announcer", "Turning"]

logger = logging.getLogger("edda.hooks")

PATIENCE_SECONDS = 10.0
MAX_WAITING = 10_000

WAIT_KINDS: dict[str, WaitKind] = {
    "event": "event",
    "timer": "timer",
    "message": "message",
    "child": "child",
}
NAMES = tuple(name for name in vars(Hooks) if name.startswith("on_"))


class Turning(Protocol):
    """What a turn shows of itself."""

    instance_id: str
    machine: Machine


class Announcer:
    """Tells an app's hooks. Each method returns at once and never raises.

    `spawn` begins a task; a simulation puts its own in place.
    """

    def __init__(self, hooks: object, clock: Clock) -> None:
        objects = () if hooks is None else hooks if isinstance(hooks, list | tuple) else (hooks,)
        for one in objects:
            _check(one)
        self.spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] = _spawn
        self._clock = clock
        self._lines = [_Line() for _ in objects]
        self._told: dict[str, list[tuple[_Line, Callable[[Any], Told]]]] = {
            name: [
                (line, getattr(one, name))
                for line, one in zip(self._lines, objects, strict=True)
                if _has(one, name)
            ]
            for name in NAMES
        }
        self._is_silent = not any(self._told.values())

    def observe(self, turn: Turning, happened: Sequence[object]) -> None:
        """A turn has committed these events, begins these calls, or was parked with an error."""
        if self._is_silent:
            return
        for thing in happened:
            try:
                self._tell_of(turn, thing)
            except Exception:  # goes to the log: a fact that cannot be told changes no run
                logger.exception("Cannot tell hooks of %r in %s", thing, turn.instance_id)

    def started(self, instance_id: str, started: Started, envelope: Envelope | None) -> None:
        """An instance was stored."""
        if self._told["on_workflow_start"]:
            event = None if envelope is None else received(envelope.text)
            at, arguments = started.at, started.arguments
            info = WorkflowInfo(instance_id, started.name, at, at, arguments, event=event)
            self._tell("on_workflow_start", info)

    def accepted(
        self, envelope: Envelope, reached: tuple[str, ...], started: tuple[str, ...]
    ) -> None:
        """An event was stored that was not there before."""
        if self._told["on_event_received"]:
            event = received(envelope.text)
            info = EventInfo(self._clock.now(), event, reached=reached, started=started)
            self._tell("on_event_received", info)

    async def drain(self, grace_seconds: float = 5.0) -> None:
        """Let the lines come to their ends, for a while; what is left then is dropped."""
        tasks = [line.task for line in self._lines if line.is_busy and line.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)
        self.forget()

    def forget(self) -> None:
        """Drop what waits in line."""
        for line in self._lines:
            line.forget()

    # ---- What is told of what --------------------------------------------------------------------

    def _tell_of(self, turn: Turning, thing: object) -> None:
        workflow, id = turn.machine.program.name, turn.instance_id
        match thing:
            case Finished():
                if (told := _ending(turn, thing)) is not None:
                    self._tell(*told)
            case Call():
                name = thing.activity.name
                now, attempt = self._clock.now(), thing.attempt
                info = ActivityInfo(id, workflow, now, thing.id, name, attempt)
                self._tell("on_activity_start", info)
            case Exception() if self._told["on_workflow_stuck"]:
                stuck = _of_workflow(turn, self._clock.now(), error=thing)
                self._tell("on_workflow_stuck", stuck)
            case Asked(ask=(EventAsk() | TimerAsk() | ReceiveAsk() | ResultAsk()) as ask):
                due = deadline_of(ask)
                wait = WaitInfo(id, workflow, thing.at, ask.id, ask.name, ask.kind, due)
                self._tell("on_wait", wait)
            case Attempted() | Answered(of="activity"):
                self._tell(*_activity(id, workflow, thing))
            case Answered(of=of) | Withdrawn(of=of) if of in WAIT_KINDS:
                if self._told["on_wait_over"]:
                    self._tell("on_wait_over", _wait_over(id, workflow, thing))
            case Answered(of="send", outcome=Result(text)) if self._told["on_event_sent"]:
                self._tell("on_event_sent", EventInfo(thing.at, received(text), id))

    def _tell(self, name: str, info: Any) -> None:
        for line, hook in self._told[name]:
            try:
                told = hook(info)
            except (Exception, asyncio.CancelledError):  # to the log: a hook never changes a run
                logger.exception("The hook %s raised", name)
                continue
            if told is not None and inspect.isawaitable(told):
                line.put(name, told, self.spawn)


class _Line:
    """One object's awaitables: one at a time, in their order."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[str, Awaitable[None]]] = deque()
        self._has_dropped = False

    @property
    def is_busy(self) -> bool:
        return self.task is not None and not self.task.done()

    def put(self, name: str, told: Awaitable[None], spawn: Callable[..., Any]) -> None:
        if len(self._waiting) >= MAX_WAITING:
            if not self._has_dropped:
                logger.warning("%d hooks wait in line; %s is dropped", MAX_WAITING, name)
            self._has_dropped = True
            _close(told)
            return
        self._has_dropped = False
        self._waiting.append((name, told))
        if not self.is_busy:
            self.task = spawn(self._go())

    def forget(self) -> None:
        self.task = None
        while self._waiting:
            _close(self._waiting.popleft()[1])

    async def _go(self) -> None:
        while self._waiting:
            name, told = self._waiting.popleft()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await told
            except TimeoutError:
                logger.exception("The hook %s took more than %s s", name, PATIENCE_SECONDS)
            except (Exception, asyncio.CancelledError):  # to the log: a hook never changes a run
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # it is the line that is cancelled
                logger.exception("The hook %s raised", name)


# ---- Helpers ---------------------------------------------------------------------------------


def _check(one: object) -> None:
    """Refuse what could never be told anything, or not what its author thinks."""
    found = [name for name in dir(one) if name.startswith("on_")]
    unknown = [name for name in found if name not in NAMES]
    if isinstance(one, type):
        problem = f"{one.__name__} is a class: give an object of it, {one.__name__}()"
    elif unknown:
        problem = f"{type(one).__name__} has {', '.join(unknown)}, and there is no such hook"
    elif not found:
        problem = f"{type(one).__name__} has none of them"
    else:
        wrong = [name for name in found if not callable(getattr(one, name))]
        if not wrong:
            return
        problem = f"{type(one).__name__}.{wrong[0]} is no method"
    raise ArgumentError("EddaApp(hooks=...)", [f"{problem}. The hooks are {', '.join(NAMES)}"])


def _has(one: object, name: str) -> bool:
    """Whether an object wants to be told: the base class's own methods do nothing."""
    return hasattr(one, name) and getattr(type(one), name, None) is not getattr(Hooks, name)


def _spawn(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(coroutine, name="edda-hooks")


def _close(told: Awaitable[None]) -> None:
    if asyncio.iscoroutine(told):
        told.close()  # else Python says that it was never awaited


def _of_workflow(turn: Turning, at: datetime, **more: Any) -> WorkflowInfo:
    started = turn.machine.started
    since, arguments = (at, "{}") if started is None else (started.at, started.arguments)
    name = turn.machine.program.name
    return WorkflowInfo(turn.instance_id, name, at, since, arguments, **more)


def _ending(turn: Turning, event: Finished) -> tuple[str, WorkflowInfo] | None:
    match event.outcome:
        case Result(value):
            return "on_workflow_complete", _of_workflow(turn, event.at, result=value)
        case Failure(error):
            error_ = decode_error(error)
            return "on_workflow_failed", _of_workflow(turn, event.at, error=error_)
        case Cancellation():
            return "on_workflow_cancelled", _of_workflow(turn, event.at)
        case Recurrence():
            return None  # it goes on


def _activity(id: str, workflow: str, event: Attempted | Answered) -> tuple[str, ActivityInfo]:
    if isinstance(event, Attempted):
        known = (id, workflow, event.at, event.id, event.name, event.attempt)
        error = decode_error(event.error)
        return "on_activity_failed", ActivityInfo(*known, error=error, retry_at=event.retry_at)
    known = (id, workflow, event.at, event.id, event.name, event.attempts)
    if isinstance(event.outcome, Failure):
        error = decode_error(event.outcome.error)
        return "on_activity_failed", ActivityInfo(*known, error=error)
    assert isinstance(event.outcome, Result), "activities do not expire"
    return "on_activity_complete", ActivityInfo(*known, result=event.outcome.value)


def _wait_over(id: str, workflow: str, event: Event) -> WaitInfo:
    assert isinstance(event, Answered | Withdrawn)
    kind = WAIT_KINDS[event.of]
    known = (id, workflow, event.at, event.id, event.name, kind)
    if isinstance(event, Withdrawn):
        return WaitInfo(*known, outcome="withdrawn")
    match event.outcome:
        case Result(text) if kind in ("event", "message"):
            return WaitInfo(*known, outcome="received", event=received(text))
        case Result():
            return WaitInfo(*known, outcome="fired" if kind == "timer" else "received")
        case Expiry():
            return WaitInfo(*known, outcome="timed_out")
        case Failure():
            return WaitInfo(*known, outcome="failed")
