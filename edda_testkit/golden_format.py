"""A golden history as text that people review: the document of a run, with what varies taken out.

`edda-golden/1` is the document of `edda.history.as_document` with five changes, all undone by
`events_of`: times are offsets from the start, generated ids are `${names}` with a stand-in value
each, tracebacks, source lines and digests are left out, log positions count from 1, and events
carry no number, so that one inserted event is one inserted line. `"${any}"` in what the code
asks stands for whatever it asks. A literal `${` is written `$${`.

Pure: no files. It knows nothing of kinds of events, only of inputs, outputs and failures.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from edda.codec import is_unicode
from edda.commands import Failure
from edda.errors import HistoryFormatError
from edda.history import FORMAT as HISTORY_FORMAT
from edda.history import Event, Output, as_document, from_document
from edda_testkit.holes import (
    ANY,
    HOLE,
    Pattern,
    as_text,
    bound,
    escaped,
    mapped,
    texts,
    unify,
    without_lines,
)

__all__ = ["FORMAT", "as_golden", "events_of", "fits", "layout", "with_wildcards"]

FORMAT = "edda-golden/1"
WIDTH = 100  # columns; an event that needs more is written as a block

LEFT_OUT = ("seq", "site", "digest")
# Fields of an event that are words, whatever they look like.
WORDS = ("kind", "id", "name", "payload")
IGNORED = ("seed",)  # kept for the replay; that a test started it second is no difference

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
OFFSET = re.compile(r"([+-])(?:(\d+)d )?(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
GENERATED = re.compile(
    r"(?<![0-9a-f])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])"
)
Document = dict[str, Any]


# ---- From a run to a document ------------------------------------------------------------------


def as_golden(
    name: str,
    reference: str,
    instance_id: str,
    events: Sequence[Event],
    *,
    exact: bool = False,
) -> Document:
    """The golden document of a history. `reference` is the workflow's `module:qualified name`.

    `exact` binds generated ids to what they were: code may have computed something of them.
    """
    entries = as_document(instance_id, events)["events"]
    start = events[0].at
    holes = _Holes(exact=exact)
    instance = escaped(instance_id)
    if re.fullmatch(re.escape(f"{events[0].name}-") + "[0-9a-f]{32}", instance_id):
        instance = holes.bind(instance_id, "instance")
    positions: dict[int, int] = {}
    shown = []
    for event, entry in zip(events, entries, strict=True):
        if "payload" in entry and _is_failure(event):
            entry["payload"] = without_lines(entry["payload"])
        is_input = not isinstance(event, Output)
        holes.learn(entry, may_bind=is_input)
        if isinstance(entry.get("message"), int):
            entry["message"] = positions.setdefault(entry["message"], len(positions) + 1)
        shown.append(
            {
                key: _offset(value, start)
                if key not in WORDS and isinstance(value, str) and INSTANT.fullmatch(value)
                else holes.fill(value)
                for key, value in entry.items()
                if key not in LEFT_OUT
            }
        )
    bindings = {"bindings": holes.values} if holes.values else {}
    return {
        "format": FORMAT,
        "name": name,
        "workflow": reference,
        "instance": instance,
        **bindings,
        "start": start.isoformat(),
        "events": shown,
    }


class _Holes:
    """The generated ids of one history: which `${name}` stands for which of them."""

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact
        self.names: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self._literal: set[str] = set()

    def bind(self, value: str, name: str) -> str:
        self.names[value] = f"${{{name}}}"
        number = len(self.values) + 1
        shown = GENERATED.sub(lambda found: _stand_in(found.group(), number), value)
        self.values[name] = value if self.exact else shown
        return self.names[value]

    def learn(self, entry: Document, *, may_bind: bool) -> None:
        """Bind the ids that come from outside; those that the code makes are its own doing."""
        for text in texts([entry.get("payload"), entry.get("id")]):
            for value in GENERATED.findall(text):
                known = value in self._literal or any(value in name for name in self.names)
                if known:
                    continue
                if may_bind:
                    self.bind(value, f"id-{1 + sum(key != 'instance' for key in self.values)}")
                else:
                    self._literal.add(value)

    def fill(self, value: Any) -> Any:
        return mapped(value, self._text)

    def _text(self, text: str) -> str:
        text = escaped(text)
        for value, hole in self.names.items():
            text = text.replace(value, hole)
        return text


def _stand_in(value: str, number: int) -> str:
    if "-" in value:
        return f"00000000-0000-4000-8000-{number:012x}"
    return f"{number:032x}"


def _is_failure(event: Event) -> bool:
    return isinstance(getattr(event, "outcome", None), Failure) or hasattr(event, "error")


def _offset(text: str, start: datetime) -> str:
    past = datetime.fromisoformat(text) - start
    sign, past = ("-", -past) if past < timedelta(0) else ("+", past)
    minutes, seconds = divmod(past.seconds, 60)
    days = f"{past.days}d " if past.days else ""
    fraction = f".{past.microseconds:06d}".rstrip("0") if past.microseconds else ""
    return f"{sign}{days}{minutes // 60}:{minutes % 60:02d}:{seconds:02d}{fraction}"


# ---- From a document to a file -----------------------------------------------------------------


def layout(document: Document) -> str:
    """The text of the file: one line an event, or a small block where that is too long."""
    head = [
        f"  {_json(key)}: {_pretty(value, 2, room=len(key) + 6)},\n"
        for key, value in document.items()
        if key != "events"
    ]
    events = ",\n".join(f"    {_event(entry)}" for entry in document["events"])
    return f'{{\n{"".join(head)}  "events": [\n{events}\n  ]\n}}\n'


def _event(entry: Document) -> str:
    line = _json(entry)
    if len(line) + 5 <= WIDTH or "payload" not in entry:
        return line
    head = _json({key: value for key, value in entry.items() if key != "payload"})
    return f'{head[:-1]},\n      "payload": {_pretty(entry["payload"], 6, room=18)}}}'


def _pretty(value: Any, indent: int, *, room: int) -> str:
    """JSON text of which each part is on one line if it fits there. `room` is taken already."""
    line = _json(value)
    if room + len(line) <= WIDTH or not value or not isinstance(value, dict | list):
        return line
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        names = [(f"{_json(key)}: ", one) for key, one in value.items()]
        opening, closing = "{}"
    else:
        names = [("", one) for one in value]
        opening, closing = "[]"
    parts = [
        f"{inner}{name}{_pretty(one, indent + 2, room=indent + 4 + len(name))}"
        for name, one in names
    ]
    return f"{opening}\n" + ",\n".join(parts) + f"\n{' ' * indent}{closing}"


def _json(value: Any) -> str:
    # Half a surrogate pair (a file's name) has no UTF-8 form; JSON's escapes have one.
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or is_unicode(text) else json.dumps(value)


# ---- From a document to events -----------------------------------------------------------------


def events_of(
    document: Document, sites: Callable[[int], str] = "event {}".format
) -> tuple[str, list[Event]]:
    """The instance id and the events, ready to be replayed. Raises `HistoryFormatError`.

    `sites` names the place in the file of the event of an index: messages show it where a
    history has the source line that asked.
    """
    if document.get("format") != FORMAT:
        raise HistoryFormatError(
            f'Expected "format": "{FORMAT}", found {document.get("format")!r}.'
        )
    bindings, entries = document.get("bindings", {}), document.get("events")
    instance, start = document.get("instance"), document.get("start")
    if not isinstance(bindings, dict) or not isinstance(entries, list):
        raise HistoryFormatError('A golden history has a list of "events", and "bindings" by name.')
    if not isinstance(instance, str) or not instance:
        raise HistoryFormatError('A golden history names its "instance".')
    if not isinstance(start, str) or not INSTANT.fullmatch(start):
        raise HistoryFormatError('A golden history has its "start", an instant with a zone.')
    try:
        began = datetime.fromisoformat(start)
        plain = [_entry(entry, i, began, bindings, sites) for i, entry in enumerate(entries)]
        name = bound(instance, bindings)
    except (OverflowError, ValueError, RecursionError) as error:
        raise HistoryFormatError(f"This golden history cannot be read: {error}.") from error
    if not isinstance(name, str):
        raise HistoryFormatError('The binding of "instance" must be a string.')
    events = from_document({"format": HISTORY_FORMAT, "instance": name, "events": plain})
    seen: dict[str, Any] = {}
    return name, [
        _patterned(event, entry, bindings, seen)
        for event, entry in zip(events, entries, strict=True)
    ]


def _entry(
    entry: Any,
    index: int,
    start: datetime,
    bindings: Mapping[str, Any],
    sites: Callable[[int], str],
) -> Any:
    if not isinstance(entry, dict):
        return entry  # from_document says what is wrong with it
    shown = {"site": sites(index)}
    for key, value in entry.items():
        found = OFFSET.fullmatch(value) if isinstance(value, str) and key not in WORDS else None
        shown[key] = bound(value, bindings) if found is None else _instant(found, start)
    return shown


def _instant(found: re.Match[str], start: datetime) -> str:
    sign, days, hours, minutes, seconds, fraction = found.groups()
    past = timedelta(
        days=int(days or 0),
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int((fraction or "").ljust(6, "0")),
    )
    return (start + past if sign == "+" else start - past).isoformat()


def _patterned(
    event: Event, entry: Document, bindings: Mapping[str, Any], seen: dict[str, Any]
) -> Event:
    payload = entry.get("payload")
    names = {
        hole.group(2)
        for text in texts([payload])
        for hole in HOLE.finditer(text)
        if hole.group(2) is not None and hole.group(2) not in bindings
    }
    if not names:
        return event
    if not isinstance(event, Output):
        if names == {"any"}:
            return event
        raise HistoryFormatError(
            f"{event.kind} {event.id} uses ${{{min(names)}}}, which has no value: what the "
            f'workflow is told must be known. Give it one in "bindings".'
        )
    text = as_text(bound(payload, bindings))
    pattern = Pattern.of(payload, bindings, seen, is_error=_is_failure(event))
    return _with_payload(event, text, pattern)  # type: ignore[no-any-return]


def _with_payload(value: Any, text: str, pattern: "Pattern") -> Any:
    """The event with its payload, wherever it keeps it, replaced by a pattern."""
    if isinstance(value, str):
        return pattern if value == text else value
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changed = {
        field.name: new
        for field in fields(value)
        if (new := _with_payload(old := getattr(value, field.name), text, pattern)) is not old
    }
    return replace(value, **changed) if changed else value


# ---- Comparing ---------------------------------------------------------------------------------


def fits(template: Document, actual: Document) -> bool:
    """Whether a run, as a golden document, is the one that was recorded."""
    found: dict[str, Any] = {}
    for key in ("workflow", "instance"):
        if not unify(template.get(key), actual.get(key), {}, found):
            return False
    one, other = template["events"], actual["events"]
    return len(one) == len(other) and all(
        unify(_compared(was), _compared(now), {}, found)
        for was, now in zip(one, other, strict=True)
    )


def _compared(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {key: value for key, value in entry.items() if key not in IGNORED}


def with_wildcards(template: Document, actual: Document) -> Document:
    """A fresh document that keeps what people wrote into the old one: `${any}` in its places."""
    olds = {(entry["kind"], entry.get("id")): entry for entry in template["events"]}
    events = [
        _kept(olds.get((entry["kind"], entry.get("id"))), entry) for entry in actual["events"]
    ]
    return actual | {"events": events}


def _kept(old: Any, new: Any) -> Any:
    match old, new:
        case str(), _ if old == ANY:
            return old
        case dict(), dict():
            return {key: _kept(old.get(key), value) for key, value in new.items()}
        case list(), list() if len(old) == len(new):
            return [_kept(one, other) for one, other in zip(old, new, strict=True)]
        case _:
            return new
