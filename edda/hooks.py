"""Hooks: what an app's own code is told of its workflows, and the methods that are told.

A hook is called after the commit that made it true, in the process that committed it, and never on
a replay. Where the process dies in between, it is not called: at most once.

Absent: how hooks are called (`edda.announcing`), and any use of them, like `edda.otel`.
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from edda.events import ReceivedEvent

__all__ = ["ActivityInfo", "EventInfo", "Hooks", "Told", "WaitInfo", "WaitKind", "WorkflowInfo"]


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """An instance as a hook sees it. `arguments` and `result` are JSON texts.

    `event` is the one that started it by its type, and is there in `on_workflow_start` alone.
    """

    instance_id: str
    workflow: str
    at: datetime
    started_at: datetime
    arguments: str
    result: str | None = None
    error: BaseException | None = None
    event: ReceivedEvent[Any] | None = None


@dataclass(frozen=True, slots=True)
class ActivityInfo:
    """One attempt of one activity; `result` is JSON text.

    `retry_at` says when the next attempt is due, None after the last one; `error` is then what
    the workflow gets.
    """

    instance_id: str
    workflow: str
    at: datetime
    id: str
    name: str
    attempt: int
    result: str | None = None
    error: BaseException | None = None
    retry_at: datetime | None = None


WaitKind = Literal["event", "timer", "message", "child"]


@dataclass(frozen=True, slots=True)
class WaitInfo:
    """A wait for an event, a channel's message, a child's end or a time.

    `due` is its deadline, `event` what answered it.
    """

    instance_id: str
    workflow: str
    at: datetime
    id: str
    name: str
    kind: WaitKind
    due: datetime | None = None
    outcome: Literal["received", "failed", "timed_out", "fired", "withdrawn"] | None = None
    event: ReceivedEvent[Any] | None = None


@dataclass(frozen=True, slots=True)
class EventInfo:
    """An event that was accepted here, or sent by a workflow (`instance_id`).

    `reached` are the instances whose waits it fits, `started` those that its type starts.
    """

    at: datetime
    event: ReceivedEvent[Any]
    instance_id: str | None = None
    reached: tuple[str, ...] = ()
    started: tuple[str, ...] = ()


Told = Awaitable[None] | None


class Hooks:
    """What an app can be told. Override what you want to know of, plain or `async def`.

    Any object with some of these methods will do: `EddaApp(hooks=...)` takes one or a list.
    """

    def on_workflow_start(self, workflow: WorkflowInfo) -> Told:
        """An instance is stored; its first turn follows."""

    def on_workflow_complete(self, workflow: WorkflowInfo) -> Told:
        """An instance has returned `result`."""

    def on_workflow_failed(self, workflow: WorkflowInfo) -> Told:
        """An instance has raised `error`."""

    def on_workflow_cancelled(self, workflow: WorkflowInfo) -> Told:
        """An instance was cancelled."""

    def on_workflow_stuck(self, workflow: WorkflowInfo) -> Told:
        """An instance does not fit today's code, says `error`; it waits for code that does."""

    def on_activity_start(self, activity: ActivityInfo) -> Told:
        """An attempt begins. It has no end here if the process dies or the workflow drops it."""

    def on_activity_complete(self, activity: ActivityInfo) -> Told:
        """An attempt has returned, and its result is stored."""

    def on_activity_failed(self, activity: ActivityInfo) -> Told:
        """An attempt has failed; another one follows where there is a `retry_at`."""

    def on_wait(self, wait: WaitInfo) -> Told:
        """A workflow waits for an event or a time."""

    def on_wait_over(self, wait: WaitInfo) -> Told:
        """A wait is over, as `outcome` says."""

    def on_event_received(self, event: EventInfo) -> Told:
        """An event was accepted, and was not here before."""

    def on_event_sent(self, event: EventInfo) -> Told:
        """A workflow's `send_event` has gone out, and that is stored."""
