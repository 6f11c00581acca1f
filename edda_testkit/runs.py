"""What a test holds of one instance: its status, result, history and waits. Views only."""

from collections.abc import Collection, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from edda.activity import Activity
from edda.app import EddaApp
from edda.codec import decode_error
from edda.commands import Ask, Failure, Result, deadline_of
from edda.diagram import mermaid
from edda.errors import WorkflowCancelled, WorkflowFailed, WorkflowStuck
from edda.events import ReceivedEvent, received
from edda.history import Answered, Asked, Attempted, Event, Withdrawn
from edda.ports import Instance, Status
from edda.timeline import timeline
from edda.turn import Turn
from edda.workflow import Workflow
from edda_testkit.errors import WorkflowNotFinished
from edda_testkit.stubs import Call

__all__ = ["Run", "Waiting", "World", "waits_of"]

T = TypeVar("T")


class World(Protocol):
    """What drives a run, as the run sees it."""

    app: EddaApp

    @property
    def now(self) -> datetime:
        """The virtual instant."""

    def next_due(self) -> datetime | None:
        """The next instant at which something happens by itself."""

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
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
        since = self.since.isoformat()
        return f"{self.kind} {self.name!r} ({self.id}) at {self.site}, since {since}{due}"


class Run:
    """One instance of a workflow in a simulation."""

    __test__ = False

    def __init__(
        self,
        world: World,
        id: str,
        workflow: Workflow[..., Any],
        *,
        queued_at: datetime | None = None,
    ) -> None:
        self._world = world
        self._queued_at = queued_at  # it may not have been started yet
        self._kept: tuple[Instance, list[Event], list[Waiting], datetime | None] | None = None
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
        due = self._world.next_due() if self._kept is None else self._kept[3]
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
        if self._kept is not None:
            return self._kept[1]
        if self._queued_at is not None and self._is_only_queued:
            return []
        return self._world.wait(self._world.app.history(self.id))

    @property
    def waiting_for(self) -> list[Waiting]:
        """What it waits for: events, timers, retries, and activities in flight."""
        if self._kept is not None:
            return self._kept[2]
        if self.is_finished:
            return []
        events = self.history
        asked = {event.id: event for event in events if isinstance(event, Asked)}
        turn = self._world.live_turn(self.id)
        if turn is None:
            answered = {e.id for e in events if isinstance(e, Answered | Withdrawn)}
            began = {event.ask: event.at for event in asked.values() if event.id not in answered}
            in_flight: Collection[str] = ()
        else:
            began = {
                one.ask: asked[one.ask.id].at
                if one.ask.id in asked
                else one.began_at or self._world.now
                for one in turn.machine.open.values()
            }
            in_flight = turn.in_flight
        retries = {
            e.id: e.retry_at for e in events if isinstance(e, Attempted) and e.id not in in_flight
        }
        return [_waiting(ask, since, retries.get(ask.id)) for ask, since in began.items()]

    @property
    def uncommitted(self) -> list[Ask]:
        """Asks for activities that will be in its history together with their first answer."""
        turn = None if self._kept is not None else self._world.live_turn(self.id)
        if turn is None:
            return []
        asked = {event.id for event in self.history if isinstance(event, Asked)}
        return [one.ask for one in turn.machine.open.values() if one.ask.id not in asked]

    @property
    def received(self) -> list[ReceivedEvent[Any]]:
        """The events it took, in order."""
        return [
            received(event.outcome.value)
            for event in self.history
            if isinstance(event, Answered)
            and event.of in ("event", "message")
            and isinstance(event.outcome, Result)
        ]

    def calls(self, activity: Activity[..., Any] | None = None) -> list[Call]:
        """The attempts it made, of one activity or all."""
        return self._world.calls(activity, self)

    def cancel(self) -> bool:
        """Ask for it to be cancelled; False when it has finished already."""
        return self._world.cancel(self)

    def timeline(self, form: Literal["text", "mermaid"] = "text") -> str:
        """Its history as text, one line an event, times from its start; or as a diagram.

        `"mermaid"` is the source of a Mermaid sequence diagram.
        """
        if form == "mermaid":
            return mermaid(self.history)
        if form != "text":
            raise ValueError(f'timeline() takes "text" or "mermaid", got {form!r}.')
        return timeline(self.history, relative=True)

    def keep(self) -> None:
        """Remember how it stands, for when its simulation is closed."""
        due = None if self.is_finished else self._world.next_due()
        self._kept = (self._instance, self.history, self.waiting_for, due)

    @property
    def _instance(self) -> Instance:
        if self._kept is not None:
            return self._kept[0]
        at = self._queued_at
        if at is not None and self._is_only_queued:
            return Instance(
                id=self.id,
                workflow=self.workflow.name,
                status=Status.PENDING,
                started_at=at,
                updated_at=at,
                due=None,
                waits=(),
                outcome=None,
                problem=None,
            )
        return self._world.wait(self._world.app.instance(self.id))

    @property
    def _is_only_queued(self) -> bool:
        return self._world.wait(self._world.app.store.instance(self.id)) is None


def waits_of(runs: Iterable[Run]) -> list[str]:
    """What the unfinished ones wait for, a phrase for each wait."""
    return [
        f"{run.label}: {waiting}"
        for run in runs
        if not run.is_finished
        for waiting in run.waiting_for
    ] or ["no run waits for anything"]


def _waiting(ask: Ask, since: datetime, retry_at: datetime | None) -> Waiting:
    due = deadline_of(ask) if retry_at is None else retry_at
    return Waiting(ask.kind, ask.id, ask.name, since, due, ask.site)
