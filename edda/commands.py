"""What workflow code asks of the world, and how an ask can come out. Values only.

An *ask* is one thing the code wants: an activity, a timer, an event, a message sent. Its public
id (`name:n`) is unique in a history and never changes; `site` is the `file:line` that asked and
is for messages only, never compared. Payloads (`arguments`, `value`, `error`) are JSON text:
only `edda.codec` turns them into objects and back.

A new verb starts here with one more class in `Ask`.
"""

from datetime import datetime
from hashlib import blake2b
from typing import ClassVar, Literal

from edda.value import value

__all__ = [
    "ActivityAsk",
    "Answer",
    "Ask",
    "CallAsk",
    "Cancellation",
    "EventAsk",
    "Expiry",
    "Failure",
    "Mode",
    "Outcome",
    "ReceiveAsk",
    "Recurrence",
    "Result",
    "ResultAsk",
    "SendAsk",
    "StartAsk",
    "TimerAsk",
    "WaitAsk",
    "deadline_of",
    "digest",
]

# Who gets a message of a channel: every subscriber, one of them, or the one it is sent to.
Mode = Literal["broadcast", "competing", "direct"]


@value
class ActivityAsk:
    """Run the activity `name` with `arguments`, a JSON object of the arguments given.

    `compensates` is the id of the step that a compensation undoes.
    """

    kind: ClassVar[Literal["activity"]] = "activity"
    id: str
    name: str
    arguments: str
    site: str
    compensates: str | None = None


@value
class TimerAsk:
    """Answer at `due`. The deadline is absolute, set once, and not compared on replay."""

    kind: ClassVar[Literal["timer"]] = "timer"
    id: str
    name: str
    due: datetime
    site: str


@value
class EventAsk:
    """Answer with the first message of type `name` that fits, or fail at `deadline`.

    `match` is a JSON object of dotted paths and the values they must have; `model` names the
    type that the data must validate as (`module:qualified name`); both are None when not given.
    """

    kind: ClassVar[Literal["event"]] = "event"
    id: str
    name: str
    deadline: datetime | None
    timeout_seconds: float | None
    match: str | None
    model: str | None
    on_invalid: Literal["reject", "raise"]
    site: str


@value
class SendAsk:
    """Send the CloudEvent in `arguments` once."""

    kind: ClassVar[Literal["send"]] = "send"
    id: str
    name: str
    arguments: str
    site: str


@value
class ReceiveAsk:
    """Answer with the next message of the channel `name`, or fail at `deadline`.

    `mode` is that of the subscription it reads.
    """

    kind: ClassVar[Literal["message"]] = "message"
    id: str
    name: str
    deadline: datetime | None
    timeout_seconds: float | None
    mode: Mode
    site: str


@value
class StartAsk:
    """Start an instance `child` of the workflow `name`, once, and answer with its id.

    `is_awaited` says that the child shall tell how it ends.
    """

    kind: ClassVar[Literal["start"]] = "start"
    id: str
    name: str
    arguments: str
    child: str
    is_awaited: bool
    site: str


@value
class ResultAsk:
    """Answer with the outcome of `child`, an instance of the workflow `name` started here."""

    kind: ClassVar[Literal["child"]] = "child"
    id: str
    name: str
    child: str
    site: str


Ask = ActivityAsk | TimerAsk | EventAsk | SendAsk | ReceiveAsk | StartAsk | ResultAsk

# Those that somebody performs, and those that a message of the log answers.
CallAsk = ActivityAsk | SendAsk | StartAsk
WaitAsk = EventAsk | ReceiveAsk | ResultAsk


@value
class Result:
    """It worked; `value` is the JSON text of what came out."""

    value: str


@value
class Failure:
    """It failed; `error` is the JSON text of the exception (`codec.encode_error`)."""

    error: str


@value
class Cancellation:
    """It was cancelled."""


@value
class Expiry:
    """Its deadline came first."""


@value
class Recurrence:
    """It goes on as a fresh history of the same instance, with `arguments` (a JSON object)."""

    arguments: str


Answer = Result | Failure | Expiry
Outcome = Result | Failure | Cancellation | Recurrence


def deadline_of(ask: Ask) -> datetime | None:
    """When an ask is answered or given up by time alone; None for never."""
    match ask:
        case TimerAsk():
            return ask.due
        case EventAsk() | ReceiveAsk():
            return ask.deadline
        case _:
            return None


def digest(arguments: str) -> str:
    """Sixteen hexadecimal digits that stand for `arguments` where the text is left out."""
    return blake2b(arguments.encode(), digest_size=8).hexdigest()
