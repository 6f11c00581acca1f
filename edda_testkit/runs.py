"""What a test holds of one instance: its status, result, history and waits. Views only."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from edda.activity import Activity
from edda.app import EddaApp
from edda.codec import decode_error
from edda.commands import ActivityAsk, Ask, EventAsk, Failure, Result, SendAsk, TimerAsk
from edda.errors import WorkflowCancelled, WorkflowFailed, WorkflowStuck
from edda.events import ReceivedEvent, received
from edda.history import Answered, Asked, Event, Withdrawn
from edda.ports import Instance, Status
from edda.timeline import timeline
from edda.turn import Turn
from edda.workflow import Workflow
from edda_testkit.errors import WorkflowNotFinished
from edda_testkit.stubs import Call

__all__ = ["Run", "Waiting", "World"]


class World(Protocol):
    """The simulation, as a run sees it."""

    app: EddaApp
    now: datetime
    next_due: datetime | None

    def wait(self, coroutine: Any) -> Any:
        """The value of a coroutine of the app."""

    def live_turn(self, instance_id: str) -> Turn | None:
        """The turn under way of an instance."""

    def calls(
        self, activity: Activity[..., Any] | None = None, run: "Run | None" = None
    ) -> list[Call]:
        """The attempts made so far."""

    def cancel(self, run: "Run") -> bool:
        """Ask for cancellation."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing a run waits for. `due` is when it gives up, or goes on by itself."""

    kind: str
    id: str
    name: str
    since: datetime
    due: datetime | None
    site: str

    def __str__(self) -> str:
        due = "" if self.due is None else f", due at {self.due.isoformat()}"
        return f"{self.kind} {self.name!r} ({self.id}) at {self.site}, since {self.since.isoformat()}{due}"


class Run:
    """One instance of a workflow in a simulation."""

    __test__ = False

    def __init__(self, world: Any, id: str, workflow: Workflow[..., Any]) -> None:
        self._world = world
        self.id = id
        self.workflow = workflow

    def __repr__(self) -> str:
        return f"<Run {self.label}, {self.status}>"

    @property
    def label(self) -> str:
        """`workflow 'id'`, for messages."""
        return f"{self.workflow.name} {self.id!r}"

    @property
    def status(self) -> Status:
        """Where it stands; compares equal to plain strings like `"waiting_for_event"`."""
        return self._instance.status

    @property
    def is_finished(self) -> bool:
        """Whether it completed, failed or was cancelled."""
        return self.status.is_final

    @property
    def result(self) -> Any:
        """What the workflow returned.

        Raises `WorkflowFailed` (its cause is the workflow's exception), `WorkflowCancelled`, or
        `WorkflowNotFinished`, which says what the run waits for.
        """
        instance = self._instance
        match instance.outcome:
            case Result(value):
                return self.workflow.result.decode(value)
            case Failure(error):
                raise WorkflowFailed(self.id, decode_error(error))
        if instance.status is Status.CANCELLED:
            raise WorkflowCancelled(self.id)
        if instance.problem is not None:
            raise WorkflowStuck(self.id, decode_error(instance.problem))
        due = self._world.next_due
        next_due = (
            "Nothing is due by itself: send an event."
            if due is None
            else f"Next due: {due.isoformat()}; sim.advance_to_next() goes there."
        )
        raise WorkflowNotFinished(
            self.label, instance.status, [str(waiting) for waiting in self.waiting_for], next_due
        )

    @property
    def error(self) -> BaseException | None:
        """The exception the workflow failed with, why it is stuck, or None."""
        instance = self._instance
        if isinstance(instance.outcome, Failure):
            return decode_error(instance.outcome.error)
        return None if instance.problem is None else decode_error(instance.problem)

    @property
    def history(self) -> list[Event]:
        """Its events so far, oldest first: what is committed."""
        events: list[Event] = self._world.wait(self._world.app.history(self.id))
        return events

    @property
    def waiting_for(self) -> list[Waiting]:
        """What it waits for: events, timers, retries, and activities in flight."""
        if self.is_finished:
            return []
        asked = {event.id: event for event in self.history if isinstance(event, Asked)}
        turn = self._world.live_turn(self.id)
        if turn is not None:
            asks: list[Ask] = [opened.ask for opened in turn.machine.open.values()]
        else:
            answered = {e.id for e in self.history if isinstance(e, Answered | Withdrawn)}
            asks = [event.ask for id, event in asked.items() if id not in answered]
        return [
            _waiting(ask, asked[ask.id].at if ask.id in asked else self._world.now) for ask in asks
        ]

    @property
    def received(self) -> Iterator[ReceivedEvent[Any]]:
        """The events it took, in order."""
        for event in self.history:
            if isinstance(event, Answered) and event.of == "event":
                if isinstance(event.outcome, Result):
                    yield received(event.outcome.value)

    def calls(self, activity: Activity[..., Any] | None = None) -> list[Call]:
        """The attempts it made, of one activity or all."""
        calls: list[Call] = self._world.calls(activity, self)
        return calls

    def cancel(self) -> bool:
        """Ask for it to be cancelled; False when it has finished already."""
        asked: bool = self._world.cancel(self)
        return asked

    def timeline(self) -> str:
        """Its history as text: one line an event, times from its start."""
        return timeline(self.history, relative=True)

    @property
    def _instance(self) -> Instance:
        instance: Instance = self._world.wait(self._world.app.instance(self.id))
        return instance


def _waiting(ask: Ask, since: datetime) -> Waiting:
    due = None
    match ask:
        case TimerAsk():
            due = ask.due
        case EventAsk():
            due = ask.deadline
        case ActivityAsk() | SendAsk():
            pass
    return Waiting(ask.kind, ask.id, ask.name, since, due, ask.site)
