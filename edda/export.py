"""Histories out of a database, for people and for tests: which, under what names, without secrets.

Redaction is pure: a document and paths in, a document out. A redacted value is replaced wherever
it occurs in the document, and equal values by equal placeholders of the same type, so that code
which only passes a value on still does the same in a replay. Absent: bindings and everything else
that makes a golden history of it (the testkit's).
"""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edda.app import EddaApp
from edda.commands import digest
from edda.errors import ArgumentError
from edda.history import as_document
from edda.ports import Instance, Status
from edda.targets import Trouble

__all__ = ["as_since", "as_text", "export", "redacted", "selected", "write"]

PAGE = 500
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONG_NUMBER = 6  # digits of a number that is replaced wherever it is
SHORTEST = 4  # characters of a string that is replaced inside of others, too
# What decides how an event is read: never replaced.
STRUCTURE = ("seq", "kind", "at", "name", "site", "digest", "seed", "due", "deadline", "model")


# ---- Which, and where to -------------------------------------------------------------------------


def as_since(text: str, now: datetime) -> datetime:
    """The instant of `--since`: `24h`, `7d`, or a date with or without a time (UTC).

    Raises `ArgumentError`.
    """
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    try:
        if found is not None:
            return now - timedelta(**{UNITS[found.group(2)]: int(found.group(1))})
        instant = datetime.fromisoformat(text)
    except (OverflowError, ValueError) as error:
        raise ArgumentError(
            "--since", [f"expected 24h, 7d or 2030-01-31T12:00:00Z, got {text!r}"]
        ) from error
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


async def selected(
    app: EddaApp, *, status: Status | str | None, workflow: str | None, since: datetime | None
) -> list[Instance]:
    """The instances that are meant, by id. `since` is about when they were last heard of."""
    found: list[Instance] = []
    after: str | None = None
    while True:
        page = await app.find(status=status, workflow=workflow, limit=PAGE, after=after)
        found += [one for one in page if since is None or one.updated_at >= since]
        if len(page) < PAGE:
            return found
        after = page[-1].id


async def export(app: EddaApp, instance_id: str, paths: Sequence[str] = ()) -> dict[str, Any]:
    """The document of one instance, redacted at `paths`."""
    return redacted(as_document(instance_id, await app.history(instance_id)), paths)


def write(folder: Path, workflow: str, document: dict[str, Any]) -> Path:
    """Write a document to `<workflow>/<instance>.json` in a folder. Raises `Trouble`."""
    path = folder / _plain(workflow) / f"{_plain(document['instance'])}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_text(document), encoding="utf-8", newline="\n")
    except OSError as error:
        raise Trouble(f"{path} cannot be written: {error.strerror}.", 1) from error
    return path


def as_text(document: dict[str, Any]) -> str:
    """The text of a document: one event a line."""
    head = {key: value for key, value in document.items() if key != "events"}
    lines = [f"  {_json(key)}: {_json(value)},\n" for key, value in head.items()]
    events = ",\n".join(f"    {_json(event)}" for event in document["events"])
    return f'{{\n{"".join(lines)}  "events": [\n{events}\n  ]\n}}\n'


def _json(value: Any) -> str:
    # ASCII: a payload may hold half a surrogate pair (a file's name), which UTF-8 cannot.
    return json.dumps(value)


def _plain(text: str) -> str:
    # Never a path of its own: no separators, no `..`; and two ids never meet in one name.
    plain = re.sub(r"[^\w.-]", "_", text, flags=re.ASCII)[:100].lstrip(".")
    return plain if plain == text else f"{plain}-{digest(text)[:8]}"


# ---- Redaction -----------------------------------------------------------------------------------


def redacted(document: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """The document with the values at `paths` replaced. Raises `ArgumentError` for no path.

    A path is matched from its end: `card_number` is that key at any depth of any payload,
    `card.number` the key `number` in `card`. `*` is any one key, index, or name of a step.
    """
    wanted = [_parts(path) for path in paths]
    if not wanted:
        return document
    stand_ins = _StandIns(keys={parts[-1] for parts in wanted})
    for entry in document["events"]:
        step = str(entry.get("name", ""))
        for trail, value in _leaves(entry.get("payload"), (step,)):
            if any(_matches(trail, parts) for parts in wanted):
                stand_ins.add(value)
    stand_ins.settle()
    events = [
        {
            key: value
            if key in STRUCTURE or isinstance(value, int | float)
            else stand_ins.fill(value)
            for key, value in entry.items()
            if key != "digest"  # of a text that is not there any more
        }
        for entry in document["events"]
    ]
    return document | {"instance": stand_ins.text(document["instance"]), "events": events}


def _parts(path: str) -> list[str]:
    parts = path.split(".")
    if not all(parts):
        raise ArgumentError("--redact", [f"expected a dotted path like card.number, got {path!r}"])
    return parts


def _matches(trail: Sequence[str], parts: Sequence[str]) -> bool:
    # What is below a path is redacted with it: any stretch of the trail may be the path.
    width = len(parts)
    return any(
        all(want in ("*", got) for want, got in zip(parts, trail[end - width : end], strict=True))
        for end in range(width, len(trail) + 1)
    )


def _leaves(value: Any, trail: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    match value:
        case dict():
            for key, one in value.items():
                yield from _leaves(one, (*trail, key))
        case list():
            for index, one in enumerate(value):
                yield from _leaves(one, (*trail, str(index)))
        case _:
            yield trail, value


class _StandIns:
    """What replaces what.

    Short strings and numbers are replaced only under the redacted `keys`: elsewhere an equal one
    says something else. Booleans and null stay: two values hide nothing.
    """

    def __init__(self, keys: set[str]) -> None:
        self.keys = keys
        self.words: dict[str, str] = {}
        self.numbers: dict[float, float] = {}
        self._long: re.Pattern[str] | None = None

    def add(self, value: Any) -> None:
        match value:
            case str() if value:
                self.words.setdefault(value, _word(value, len(self.words) + 1))
            case bool() | None:
                pass
            case int() | float():
                number = self.numbers.setdefault(value, len(self.numbers) + 1)
                self.words.setdefault(str(value), str(type(value)(number)))  # in messages

    def settle(self) -> None:
        # The longest first: one may be a part of another. All in one go: a stand-in stays.
        long = sorted((word for word in self.words if len(word) >= SHORTEST), key=len, reverse=True)
        self._long = re.compile("|".join(map(re.escape, long))) if long else None

    def fill(self, value: Any, *, is_at_key: bool = False) -> Any:
        match value:
            case str():
                return self.text(value, is_at_key=is_at_key)
            case bool():
                return value
            case int() | float() if value in self.numbers and (
                is_at_key or len(str(value)) >= LONG_NUMBER
            ):
                return type(value)(self.numbers[value])
            case list():
                return [self.fill(one, is_at_key=is_at_key) for one in value]
            case dict():
                return {
                    self.text(key): self.fill(
                        one, is_at_key=is_at_key or key in self.keys or "*" in self.keys
                    )
                    for key, one in value.items()
                }
            case _:
                return value

    def text(self, text: str, *, is_at_key: bool = False) -> str:
        if is_at_key and text in self.words:
            return self.words[text]
        if self._long is None:
            return text
        return self._long.sub(lambda found: self.words[found.group()], text)


UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
DATE = r"\d{4}-\d\d-\d\d"
TIME = DATE + r"[T ]\d\d:\d\d(:\d\d(\.\d+)?)?"
# A type like UUID or datetime must still find one of its own.
SHAPES = (
    (re.compile(UUID), "00000000-0000-4000-8000-{:012x}"),
    (re.compile(DATE), "2000-01-01"),
    (re.compile(TIME), "2000-01-01T00:00:00"),
    (re.compile(TIME + r"(Z|[+-]\d\d:?\d\d)"), "2000-01-01T00:00:00Z"),
    (re.compile(r"[^@\s]+@[^@\s]+"), "redacted-{}@example.invalid"),
    (re.compile(r"https?://\S+"), "https://redacted-{}.example.invalid/"),
)


def _word(value: str, number: int) -> str:
    for shape, stand_in in SHAPES:
        if shape.fullmatch(value):
            return stand_in.format(number)
    if value.isdecimal():
        return str(number).zfill(len(value))
    return f"redacted-{number}"
