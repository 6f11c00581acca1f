"""What people read of an instance: its history as a timeline, its state as plain values.

One line an event, one glyph a kind, the time, and how long nothing happened before it. Pure
text: no colour, no terminal, no store. A history is cut to the width asked for and never
wrapped, so that a line is an event to `grep` too.
"""

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, assert_never

from edda.commands import (
    ActivityAsk,
    Ask,
    Cancellation,
    EventAsk,
    Expiry,
    Failure,
    Outcome,
    ReceiveAsk,
    Recurrence,
    Result,
    ResultAsk,
    SendAsk,
    StartAsk,
    TimerAsk,
)
from edda.history import (
    Answered,
    Asked,
    Attempted,
    CancelRequested,
    Event,
    Finished,
    Patched,
    Refused,
    Started,
    Subscribed,
    Unsubscribed,
    Withdrawn,
)
from edda.ports import Instance, Status

__all__ = [
    "GLYPHS",
    "clock_text",
    "duration_text",
    "event_text",
    "instance_view",
    "outcome_text",
    "table",
    "timeline",
    "visible",
]

GLYPHS = {
    "workflow_started": "▶",
    "activity_scheduled": "○",
    "activity_completed": "●",
    "activity_failed": "✗",
    "activity_withdrawn": "⊖",
    "attempt_failed": "↻",
    "timer_set": "◔",
    "timer_fired": "◕",
    "timer_withdrawn": "⊝",
    "event_awaited": "◇",
    "event_received": "◆",
    "event_timed_out": "◈",
    "event_failed": "⬖",
    "event_refused": "⊘",
    "event_withdrawn": "⊟",
    "send_requested": "△",
    "event_sent": "▲",
    "send_failed": "▽",
    "send_withdrawn": "⊡",
    "message_awaited": "◁",
    "message_received": "◀",
    "message_timed_out": "◂",
    "message_withdrawn": "⊳",
    "child_requested": "⬡",
    "child_started": "⬢",
    "child_refused": "⬣",
    "start_withdrawn": "⌬",
    "child_awaited": "☐",
    "child_completed": "☑",
    "child_failed": "☒",
    "child_withdrawn": "⊔",
    "channel_subscribed": "⊞",
    "channel_unsubscribed": "⊠",
    "cancel_requested": "⊗",
    "patched": "⊕",
    "workflow_completed": "■",
    "workflow_failed": "✖",
    "workflow_cancelled": "□",
    "workflow_recurred": "↺",
}

# A pause shorter than this says nothing about the workflow and is left out.
LEAST_GAP = timedelta(seconds=1)
# Columns: an id is cut beyond this, and call sites give way to this much of what was said.
LONGEST_ID = 48
LEAST_SAID = 20


def timeline(events: Sequence[Event], *, relative: bool = False, width: int = 120) -> str:
    """The events as lines: time, pause before it, glyph, id, what happened, call site.

    Times are UTC with the date where it changes, or with `relative` counted from the first
    event. Lines are at most `width` columns wide, as far as times and ids leave room.
    """
    columns = (
        _right(_relative(events) if relative else _absolute(events)),
        _right(_gaps(events)),
        [GLYPHS.get(event.kind, "·") for event in events],
        _left([_cut(_name(event, events[0]), LONGEST_ID) for event in events]),
    )
    heads = [
        f"{time}  {gap}  {glyph} {name}  " for time, gap, glyph, name in zip(*columns, strict=True)
    ]
    room = width - max(map(_wide, heads), default=0)
    lines = []
    for event, head, site in zip(events, heads, _sites(events, room), strict=True):
        said = event_text(event)
        if site:
            left = room - _wide(site) - 2
            said = _cut(said, left)
            said += " " * (left - _wide(said)) + f"  {site}"
        lines.append(f"{head}{_cut(said, room)}".rstrip())
    return "\n".join(lines)


def instance_view(instance: Instance, *, result: bool = False) -> dict[str, Any]:
    """What a caller may know of an instance, as JSON values; its outcome only with `result`.

    With `result` there is a `result`, None while there is none, and an `error` where it failed
    or is stuck.
    """
    view: dict[str, Any] = {
        "id": instance.id,
        "workflow": instance.workflow,
        "status": instance.status.value,
        "waiting_for": [{"id": wait.id, "type": wait.type} for wait in instance.waits],
        "started_at": _iso(instance.started_at),
        "updated_at": _iso(instance.updated_at),
        "due": None if instance.due is None else _iso(instance.due),
    }
    if result:
        outcome = instance.outcome
        view["result"] = json.loads(outcome.value) if isinstance(outcome, Result) else None
        error = outcome.error if isinstance(outcome, Failure) else instance.problem
        if error is not None:
            entry = json.loads(error)
            view["error"] = {"type": entry["type"], "message": entry["message"]}
    return view


def outcome_text(instance: Instance) -> str:
    """How an instance stands, in a line."""
    match instance.outcome:
        case None:
            pass
        case outcome:
            return _outcome(outcome)
    if instance.problem is not None:
        return f"{instance.status.value}: {_error(instance.problem)}"
    waits = ", ".join(wait.type for wait in instance.waits)
    due = "" if instance.due is None else clock_text(instance.due)
    match instance.status:
        case Status.WAITING_FOR_EVENT | Status.WAITING_FOR_MESSAGE:
            return f"waits for {waits or 'an event'}" + (f", at most until {due}" if due else "")
        case Status.WAITING_FOR_TIMER | Status.WAITING_FOR_RETRY if due:
            return f"waits until {due}"
    return instance.status.value.replace("_", " ")


def table(rows: Sequence[Sequence[str]], width: int) -> str:
    """Rows of cells as aligned columns; lines are cut to `width`."""
    columns = [_left([visible(cell) for cell in cells]) for cells in zip(*rows, strict=True)]
    return "\n".join(_cut("  ".join(cells).rstrip(), width) for cells in zip(*columns, strict=True))


def visible(text: str) -> str:
    """The text on one line, with what a terminal would obey (controls, bidi) shown as escapes."""
    return _OBEYED.sub(lambda found: ascii(found.group())[1:-1], text)


_OBEYED = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def clock_text(at: datetime) -> str:
    """An instant in UTC to the millisecond: `2026-11-23 09:37:53.120`."""
    return at.astimezone(UTC).isoformat(" ", "milliseconds").removesuffix("+00:00")


def duration_text(length: timedelta) -> str:
    """A length of time in its two largest units: `12ms`, `2.5s`, `5m`, `48h`, `4d 3h`."""
    seconds = length.total_seconds()
    if seconds < 0:
        return f"-{duration_text(-length)}"
    if seconds < 0.9995:
        return f"{round(seconds * 1000)}ms" if seconds else "0"
    if seconds < 59.95:
        return f"{round(seconds, 1):g}s"
    for size, unit, smaller, smaller_unit, limit in _UNITS:
        if seconds < limit - smaller / 2:
            many, rest = divmod(math.floor(seconds / smaller + 0.5) * smaller, size)
            few = rest // smaller
            return f"{many}{unit} {few}{smaller_unit}" if few else f"{many}{unit}"
    raise AssertionError("the last unit has no limit")


_UNITS = (
    (60, "m", 1, "s", 3600.0),
    (3600, "h", 60, "m", 96 * 3600.0),
    (86400, "d", 3600, "h", math.inf),
)


# ---- Columns ---------------------------------------------------------------------------------


def _relative(events: Sequence[Event]) -> list[str]:
    return [f"+{duration_text(event.at - events[0].at)}" for event in events]


def _absolute(events: Sequence[Event]) -> list[str]:
    texts: list[str] = []
    day = ""
    for event in events:
        date, _, time = clock_text(event.at).partition(" ")
        texts.append(time if date == day else f"{date} {time}")
        day = date
    return texts


def _gaps(events: Sequence[Event]) -> list[str]:
    texts = [""]
    for before, after in pairwise(events):
        pause = after.at - before.at
        texts.append(f"+{duration_text(pause)}" if pause >= LEAST_GAP else "")
    return texts[: len(events)]


def _name(event: Event, first: Event) -> str:
    if isinstance(event, Started | Finished | CancelRequested):
        return first.name  # the workflow's, as a history begins with its start
    return event.id


def _sites(events: Sequence[Event], room: int) -> list[str]:
    """Where each ask was made: the place in full if there is room, else the file's name."""
    asked = [event.site if isinstance(event, Asked) else "?" for event in events]
    full = ["" if site == "?" else site for site in asked]
    short = [re.split(r"[/\\]", site)[-1] for site in full]
    for sites in (full, short):
        if room - max(map(_wide, sites), default=0) - 2 >= LEAST_SAID:
            return sites
    return [""] * len(events)


def _right(texts: list[str]) -> list[str]:
    edge = max(map(_wide, texts), default=0)
    return [" " * (edge - _wide(text)) + text for text in texts]


def _left(texts: list[str]) -> list[str]:
    edge = max(map(_wide, texts), default=0)
    return [text + " " * (edge - _wide(text)) for text in texts]


# ---- What happened ---------------------------------------------------------------------------


def event_text(event: Event) -> str:
    """What happened, in a few words, without time and id."""
    match event:
        case Started():
            return f"({_arguments(event.arguments)})"
        case Asked():
            return _asked(event.ask, event.at)
        case Answered():
            return _answered(event)
        case Withdrawn():
            return "given up"
        case Patched():
            return "takes the new side"
        case Subscribed():
            return f"subscribes, {event.mode}"
        case Unsubscribed():
            return "unsubscribes"
        case Attempted():
            wait = duration_text(event.retry_at - event.at)
            return f"attempt {event.attempt} failed, again in {wait}: {_error(event.error)}"
        case Refused():
            return f"refused message {event.message}: {_error(event.error)}"
        case CancelRequested():
            return "cancellation requested"
        case Finished():
            return _outcome(event.outcome)
        case _:  # pragma: no cover
            assert_never(event)


def _asked(ask: Ask, at: datetime) -> str:
    match ask:
        case ActivityAsk():
            undoes = "" if ask.compensates is None else f"undoes {ask.compensates} "
            return f"{undoes}({_arguments(ask.arguments)})"
        case StartAsk():
            return f"starts {ask.child} ({_arguments(ask.arguments)})"
        case ResultAsk():
            return f"waits for the end of {ask.child}"
        case ReceiveAsk():
            return _waits(ask.deadline, at)
        case TimerAsk():
            if ask.name.endswith("until"):
                return f"until {clock_text(ask.due)}"
            return f"for {duration_text(ask.due - at)}"
        case EventAsk():
            match = "" if ask.match is None else f" with {_plain(json.loads(ask.match))}"
            return f"{_waits(ask.deadline, at)}{match}"
        case SendAsk():
            asked = json.loads(ask.arguments)
            to = asked.get("broker_url")
            return f"sends {_plain(asked['event'].get('data'))}" + (f" to {to}" if to else "")
        case _:  # pragma: no cover
            assert_never(ask)


def _waits(deadline: datetime | None, at: datetime) -> str:
    return "waits" if deadline is None else f"waits at most {duration_text(deadline - at)}"


def _answered(event: Answered) -> str:
    tries = "" if event.attempts == 1 else f" after {event.attempts} attempts"
    match event.outcome:
        case Result(value) if event.of in ("event", "message"):
            message = json.loads(value)
            return f"received from {message['source']}: {_data(message)}"
        case Result(value) if event.of in ("activity", "child"):
            return f"returned{tries} {_plain(json.loads(value))}"
        case Result():
            return _DONE.get(event.of, "fired")
        case Failure(error):
            return f"failed{tries}: {_error(error)}"
        case Expiry():
            return "timed out"
        case _:  # pragma: no cover
            assert_never(event.outcome)


def _outcome(outcome: Outcome) -> str:
    match outcome:
        case Result(value):
            return f"completed with {_plain(json.loads(value))}"
        case Failure(error):
            return f"failed: {_error(error)}"
        case Cancellation():
            return "cancelled"
        case Recurrence(arguments):
            return f"goes on with ({_arguments(arguments)})"
        case _:  # pragma: no cover
            assert_never(outcome)


_DONE = {"send": "sent", "start": "started"}


def _arguments(text: str) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in json.loads(text).items())


def _data(message: dict[str, Any]) -> str:
    if "data_base64" in message:
        return f"base64 {message['data_base64']}"
    return _plain(message.get("data"))


def _error(text: str) -> str:
    entry = json.loads(text)
    kind = entry["type"].rpartition(":")[2].rpartition(".")[2]
    return " ".join(f"{kind}: {entry['message']}".split())


# ---- Text ------------------------------------------------------------------------------------


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _wide(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 2 if _is_broad(char) else 1 for char in text)


def _is_broad(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def _cut(text: str, room: int) -> str:
    """At most `room` columns of the text, and at least one."""
    text = visible(text)
    if _wide(text) <= room:
        return text
    taken = text[: max(room - 1, 0)]
    while taken and _wide(taken) >= room:
        taken = taken[:-1]
    return f"{taken}…"
