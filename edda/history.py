"""What happened to one instance: an append-only list of events, and its JSON form.

A history is a transcript. *Inputs* (`Started`, `Answered`, `CancelRequested`) are what the
machine was fed; *outputs* (`Asked`, `Withdrawn`, `Patched`, `Subscribed`, `Unsubscribed`,
`Finished`) are what the code did about them, in order, up to the next input; *notes*
(`Attempted`, `Refused`) are facts about an open ask that the code never sees. Feeding the inputs
of any prefix again yields the same outputs (law H2).

Two JSON forms: rows for stores, where payloads stay text and are not parsed, and documents
(`edda-history/1`) for people and files. Nothing here knows where rows are kept.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Literal, assert_never

from pydantic_core import from_json, to_json

from edda.commands import (
    ActivityAsk,
    Answer,
    Ask,
    Cancellation,
    EventAsk,
    Expiry,
    Failure,
    Mode,
    Outcome,
    ReceiveAsk,
    Recurrence,
    Result,
    ResultAsk,
    SendAsk,
    StartAsk,
    TimerAsk,
    digest,
)
from edda.errors import HistoryFormatError
from edda.shapes import misfit
from edda.value import value

__all__ = [
    "FORMAT",
    "Answered",
    "Asked",
    "Attempted",
    "CancelRequested",
    "Event",
    "Finished",
    "Input",
    "Note",
    "Output",
    "Patched",
    "Refused",
    "Row",
    "Started",
    "Subscribed",
    "Unsubscribed",
    "Withdrawn",
    "as_document",
    "as_row",
    "from_document",
    "from_row",
]

FORMAT = "edda-history/1"

AskKind = Literal["activity", "timer", "event", "send", "message", "start", "child"]

# What an ask of each kind is called in `event.kind`, by what became of it.
ASKED: dict[AskKind, str] = {
    "activity": "activity_scheduled",
    "timer": "timer_set",
    "event": "event_awaited",
    "send": "send_requested",
    "message": "message_awaited",
    "start": "child_requested",
    "child": "child_awaited",
}
ANSWERED: dict[tuple[AskKind, type[Answer]], str] = {
    ("activity", Result): "activity_completed",
    ("activity", Failure): "activity_failed",
    ("timer", Result): "timer_fired",
    ("event", Result): "event_received",
    ("event", Failure): "event_failed",
    ("event", Expiry): "event_timed_out",
    ("send", Result): "event_sent",
    ("send", Failure): "send_failed",
    ("message", Result): "message_received",
    ("message", Expiry): "message_timed_out",
    ("start", Result): "child_started",
    ("start", Failure): "child_refused",
    ("child", Result): "child_completed",
    ("child", Failure): "child_failed",
}
FINISHED = {
    Result: "workflow_completed",
    Failure: "workflow_failed",
    Cancellation: "workflow_cancelled",
    Recurrence: "workflow_recurred",
}


@value
class Started:
    """The instance was accepted. `seed` feeds `ctx.random`; `arguments` is a JSON object.

    `parent` is the instance that is told how this one ends. After `ctx.recur`, `recurred` counts
    how often, and `subscriptions` are the channels and modes that were kept.
    """

    seq: int
    at: datetime
    name: str
    arguments: str
    seed: int
    parent: str | None = None
    recurred: int = 0
    subscriptions: tuple[tuple[str, Mode], ...] = ()
    kind: ClassVar[str] = "workflow_started"
    id: ClassVar[str] = "workflow"


@value
class Asked:
    """The code asked for something."""

    seq: int
    at: datetime
    ask: Ask

    @property
    def kind(self) -> str:
        return ASKED[self.ask.kind]

    @property
    def id(self) -> str:
        return self.ask.id

    @property
    def name(self) -> str:
        return self.ask.name

    @property
    def site(self) -> str:
        return self.ask.site


@value
class Answered:
    """An ask came out. `message` is the log position of the message taken, if one was."""

    seq: int
    at: datetime
    id: str
    name: str
    of: AskKind
    outcome: Answer
    message: int | None = None
    attempts: int = 1

    @property
    def kind(self) -> str:
        return ANSWERED[self.of, type(self.outcome)]


@value
class Withdrawn:
    """The code gave up an ask (a cancelled task, the loser of a race)."""

    seq: int
    at: datetime
    id: str
    name: str
    of: AskKind

    @property
    def kind(self) -> str:
        return f"{self.of}_withdrawn"


@value
class Attempted:
    """An attempt of an activity failed, and another follows at `retry_at`."""

    seq: int
    at: datetime
    id: str
    name: str
    attempt: int
    error: str
    began_at: datetime
    retry_at: datetime
    kind: ClassVar[str] = "attempt_failed"


@value
class Refused:
    """A message fitted a wait but its data did not fit the wait's model; the wait goes on."""

    seq: int
    at: datetime
    id: str
    name: str
    message: int
    error: str
    kind: ClassVar[str] = "event_refused"


@value
class CancelRequested:
    """Somebody asked for the instance to be cancelled."""

    seq: int
    at: datetime
    kind: ClassVar[str] = "cancel_requested"
    id: ClassVar[str] = "workflow"
    name: ClassVar[str] = ""


@value
class Patched:
    """The code took the new side of `ctx.patched(id)`."""

    seq: int
    at: datetime
    id: str
    kind: ClassVar[str] = "patched"

    @property
    def name(self) -> str:
        return self.id


@value
class Subscribed:
    """The code reads the channel `id` from here on."""

    seq: int
    at: datetime
    id: str
    mode: Mode
    kind: ClassVar[str] = "channel_subscribed"

    @property
    def name(self) -> str:
        return self.id


@value
class Unsubscribed:
    """The code reads the channel `id` no more."""

    seq: int
    at: datetime
    id: str
    kind: ClassVar[str] = "channel_unsubscribed"

    @property
    def name(self) -> str:
        return self.id


@value
class Finished:
    """The code ended. Nothing follows."""

    seq: int
    at: datetime
    outcome: Outcome
    id: ClassVar[str] = "workflow"
    name: ClassVar[str] = ""

    @property
    def kind(self) -> str:
        return FINISHED[type(self.outcome)]


Input = Started | Answered | CancelRequested
Output = Asked | Withdrawn | Patched | Subscribed | Unsubscribed | Finished
Note = Attempted | Refused
Event = Input | Output | Note

# `json.dumps` would make an encoder for each event.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

# One row of a store: sequence number, JSON object without the payload, payload as JSON text.
Row = tuple[int, str, str | None]


# ---- To JSON ---------------------------------------------------------------------------------


def as_row(event: Event) -> Row:
    """The event as a store keeps it."""
    fields, payload = _fields(event)
    return event.seq, to_json(fields).decode(), payload


def as_document(instance_id: str, events: Iterable[Event]) -> dict[str, Any]:
    """The history as a JSON-able document: what `edda history export` writes."""
    entries = []
    for event in events:
        fields, payload = _fields(event)
        if payload is not None:
            fields["payload"] = json.loads(payload)
            if isinstance(event, Asked):
                fields["digest"] = digest(payload)
        entries.append({"seq": event.seq, **fields})
    return {"format": FORMAT, "instance": instance_id, "events": entries}


def _fields(event: Event) -> tuple[dict[str, Any], str | None]:
    head: dict[str, Any] = {"kind": event.kind, "at": event.at.isoformat()}
    match event:
        case Started():
            head |= {"name": event.name, "seed": event.seed}
            if event.parent is not None:
                head["parent"] = event.parent
            if event.recurred:
                head["recurred"] = event.recurred
            if event.subscriptions:
                head["subscriptions"] = [list(pair) for pair in event.subscriptions]
            return head, event.arguments
        case Asked():
            return _ask_fields(head, event.ask)
        case Answered():
            head |= {"id": event.id, "name": event.name}
            if event.message is not None:
                head["message"] = event.message
            if event.attempts != 1:
                head["attempts"] = event.attempts
            return head, _payload(event.outcome)
        case Withdrawn():
            return head | {"id": event.id, "name": event.name}, None
        case Patched() | Unsubscribed():
            return head | {"id": event.id}, None
        case Subscribed():
            return head | {"id": event.id, "mode": event.mode}, None
        case Attempted():
            return head | {
                "id": event.id,
                "name": event.name,
                "attempt": event.attempt,
                "began_at": event.began_at.isoformat(),
                "retry_at": event.retry_at.isoformat(),
            }, event.error
        case Refused():
            return head | {
                "id": event.id,
                "name": event.name,
                "message": event.message,
            }, event.error
        case CancelRequested():
            return head, None
        case Finished():
            return head, _payload(event.outcome)
        case _:  # pragma: no cover
            assert_never(event)


def _ask_fields(head: dict[str, Any], ask: Ask) -> tuple[dict[str, Any], str | None]:
    head["id"] = ask.id
    head["name"] = ask.name
    head["site"] = ask.site
    match ask:
        case ActivityAsk():
            if ask.compensates is not None:
                head["compensates"] = ask.compensates
            return head, ask.arguments
        case SendAsk():
            return head, ask.arguments
        case StartAsk():
            head["child"] = ask.child
            head["awaited"] = ask.is_awaited
            return head, ask.arguments
        case ResultAsk():
            head["child"] = ask.child
            return head, None
        case ReceiveAsk():
            head["mode"] = ask.mode
            _add_deadline(head, ask)
            return head, None
        case TimerAsk():
            head["due"] = ask.due.isoformat()
            return head, None
        case EventAsk():
            _add_deadline(head, ask)
            if ask.model is not None:
                head["model"] = ask.model
            if ask.on_invalid != "reject":
                head["on_invalid"] = ask.on_invalid
            return head, ask.match
        case _:  # pragma: no cover
            assert_never(ask)


def _add_deadline(head: dict[str, Any], ask: EventAsk | ReceiveAsk) -> None:
    if ask.deadline is not None:
        head["deadline"] = ask.deadline.isoformat()
        head["timeout_seconds"] = ask.timeout_seconds


def _payload(outcome: Answer | Outcome) -> str | None:
    match outcome:
        case Result(value) | Recurrence(value):
            return value
        case Failure(error):
            return error
        case Cancellation() | Expiry():
            return None
        case _:  # pragma: no cover
            assert_never(outcome)


# ---- From JSON -------------------------------------------------------------------------------


def from_row(row: Row | Sequence[Any]) -> Event:
    """The event of a stored row. Raises `HistoryFormatError` when it cannot be read."""
    seq, head, payload = row
    try:
        return _event(seq, from_json(head), payload)
    except (KeyError, TypeError, ValueError) as error:
        raise HistoryFormatError(_unreadable(f"Event {seq} of a stored history", error)) from error


def from_document(document: object) -> list[Event]:
    """The events of an exported document. Raises `HistoryFormatError` when it cannot be read."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise HistoryFormatError(
            f"This is not a history that this version reads: expected a JSON object with "
            f'"format": "{FORMAT}", found {found!r}. `edda history export` writes one.'
        )
    entries = document.get("events")
    if not isinstance(entries, list) or not entries:
        raise HistoryFormatError('This history has no "events": expected a list of them.')
    events: list[Event] = []
    for index, entry in enumerate(entries):
        try:
            if (seq := entry.get("seq", index)) != index:
                raise ValueError(f"its seq is {seq!r} where {index} is expected")
            payload = _encode(entry["payload"]) if "payload" in entry else None
            event = _event(index, entry, payload)
            if (fault := misfit(event)) is not None:
                raise ValueError(fault)
            events.append(event)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise HistoryFormatError(_unreadable(f"Event {index}", error)) from error
    if not isinstance(events[0], Started):
        raise HistoryFormatError("A history begins with workflow_started, and this one does not.")
    return events


def _unreadable(what: str, error: Exception) -> str:
    reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return f"{what} cannot be read: {reason}. It was not written by this version, or was edited."


@lru_cache(maxsize=4096)
def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"the time {text!r} has no zone")
    return time


def _event(seq: int, head: dict[str, Any], payload: str | None) -> Event:
    kind = head["kind"]
    at = _time(head["at"])
    if (asked := _ASKED.get(kind)) is not None:
        return Asked(seq, at, _ask(asked, head, payload))
    if (answered := _ANSWERED.get(kind)) is not None:
        of, outcome = answered
        return Answered(
            seq,
            at,
            head["id"],
            head["name"],
            of,
            _answer(outcome, payload),
            head.get("message"),
            head.get("attempts", 1),
        )
    match kind:
        case "workflow_started":
            subscriptions = tuple(
                (name, _mode(mode)) for name, mode in head.get("subscriptions", ())
            )
            return Started(
                seq,
                at,
                head["name"],
                _text(payload),
                head["seed"],
                head.get("parent"),
                head.get("recurred", 0),
                subscriptions,
            )
        case "attempt_failed":
            return Attempted(
                seq,
                at,
                head["id"],
                head["name"],
                head["attempt"],
                _text(payload),
                _time(head["began_at"]),
                _time(head["retry_at"]),
            )
        case "event_refused":
            return Refused(seq, at, head["id"], head["name"], head["message"], _text(payload))
        case "cancel_requested":
            return CancelRequested(seq, at)
        case "patched":
            return Patched(seq, at, head["id"])
        case "channel_subscribed":
            return Subscribed(seq, at, head["id"], _mode(head["mode"]))
        case "channel_unsubscribed":
            return Unsubscribed(seq, at, head["id"])
        case "workflow_completed":
            return Finished(seq, at, Result(_text(payload)))
        case "workflow_failed":
            return Finished(seq, at, Failure(_text(payload)))
        case "workflow_cancelled":
            return Finished(seq, at, Cancellation())
        case "workflow_recurred":
            return Finished(seq, at, Recurrence(_text(payload)))
    if (withdrawn := _WITHDRAWN.get(kind)) is not None:
        return Withdrawn(seq, at, head["id"], head["name"], withdrawn)
    raise ValueError(f"{kind!r} is no kind of event")


def _answer(outcome: type[Answer], payload: str | None) -> Answer:
    if outcome is Result:
        return Result(_text(payload))
    return Failure(_text(payload)) if outcome is Failure else Expiry()


def _ask(kind: AskKind, head: dict[str, Any], payload: str | None) -> Ask:
    match kind:
        case "activity":
            return ActivityAsk(
                head["id"], head["name"], _text(payload), head["site"], head.get("compensates")
            )
        case "send":
            return SendAsk(head["id"], head["name"], _text(payload), head["site"])
        case "timer":
            return TimerAsk(head["id"], head["name"], _time(head["due"]), head["site"])
        case "start":
            return StartAsk(
                head["id"],
                head["name"],
                _text(payload),
                head["child"],
                head["awaited"],
                head["site"],
            )
        case "child":
            return ResultAsk(head["id"], head["name"], head["child"], head["site"])
        case "message":
            return ReceiveAsk(
                head["id"],
                head["name"],
                _deadline(head),
                head.get("timeout_seconds"),
                _mode(head["mode"]),
                head["site"],
            )
        case "event":
            return EventAsk(
                head["id"],
                head["name"],
                _deadline(head),
                head.get("timeout_seconds"),
                payload,
                head.get("model"),
                head.get("on_invalid", "reject"),
                head["site"],
            )
        case _:  # pragma: no cover
            assert_never(kind)


def _deadline(head: dict[str, Any]) -> datetime | None:
    deadline = head.get("deadline")
    return None if deadline is None else _time(deadline)


def _mode(text: str) -> Mode:
    if text not in _MODES:
        raise ValueError(f"{text!r} is no mode of a subscription")
    return _MODES[text]


def _text(payload: str | None) -> str:
    if payload is None:
        raise ValueError("its payload is missing")
    return payload


_MODES: dict[str, Mode] = {
    "broadcast": "broadcast",
    "competing": "competing",
    "direct": "direct",
}
_KINDS: tuple[AskKind, ...] = tuple(ASKED)
_ASKED: dict[str, AskKind] = {ASKED[kind]: kind for kind in _KINDS}
_ANSWERED = {text: key for key, text in ANSWERED.items()}
_WITHDRAWN: dict[str, AskKind] = {f"{kind}_withdrawn": kind for kind in _KINDS}
