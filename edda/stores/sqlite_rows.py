"""What the SQLite store says and keeps: its statements by name, values to and from columns.

Pure: nothing here has a connection.
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, overload

from edda.codec import encode_error
from edda.commands import Outcome
from edda.errors import HistoryFormatError
from edda.events import Envelope, match_values
from edda.history import Finished, from_row
from edda.ports import Wait

__all__ = [
    "COMPETING",
    "EVERYBODY",
    "QUEUE",
    "SQL",
    "as_address",
    "as_end",
    "as_facet",
    "as_list",
    "as_micros",
    "as_shape",
    "as_time",
    "as_wait",
    "is_same",
]

# Whom a facet is for: everybody, whoever gets it from the queue, or `=id` for one instance.
EVERYBODY, QUEUE = "", "?"

# The paths of the shape of waits that compete.
COMPETING = "competing"

# Every statement by its name in sqlite.sql.
SQL = {
    name: text
    for name, _, text in (
        section.partition("\n")
        for section in re.split(
            r"^-- name: ",
            files("edda.stores").joinpath("sqlite.sql").read_text("utf-8"),
            flags=re.MULTILINE,
        )[1:]
    )
}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_micros(time: datetime) -> int:
    """Microseconds since 1970; exact, as `timestamp()` is not."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@overload
def as_time(micros: int) -> datetime: ...


@overload
def as_time(micros: int | None) -> datetime | None: ...


def as_time(micros: int | None) -> datetime | None:
    """The instant of a column."""
    return None if micros is None else EPOCH + timedelta(microseconds=micros)


def as_list(names: Sequence[str]) -> str:
    """Names for `json_each`, each once."""
    return json.dumps(sorted(set(names)))


def as_end(last: Sequence[Any]) -> tuple[Outcome | None, str | None]:
    """How an instance ended by its last event, and the problem if that cannot be read here.

    The others are to be seen all the same.
    """
    try:
        event = None if last[0] is None else from_row(last)
    except HistoryFormatError as error:
        return None, encode_error(error)
    return (event.outcome if isinstance(event, Finished) else None), None


def as_wait(row: Sequence[Any]) -> Wait:
    """A wait of `id, type, paths, wanted, model, on_invalid, mode`."""
    wait_id, event_type, paths, wanted, model, on_invalid, mode = row
    if paths in ("", COMPETING):
        return Wait(wait_id, event_type, None, None, model, on_invalid, mode)
    return Wait(wait_id, event_type, paths, wanted, model, on_invalid, mode)


def as_shape(wait: Wait) -> str:
    """The paths of a wait's shape."""
    return COMPETING if wait.mode == "competing" else wait.paths or ""


def as_address(target: str | None, paths: str) -> str:
    """Whom a message's facet in a shape of these paths is for."""
    if target is not None:
        return f"={target}"
    return QUEUE if paths == COMPETING else EVERYBODY


def as_facet(envelope: Envelope, paths: str) -> str | None:
    """What an event has at the paths of a shape; None when something is missing."""
    if paths in ("", COMPETING):
        return ""
    return match_values(envelope.document, json.loads(paths))


def is_same(text: str, other: str) -> bool:
    """Whether two events of one id have the same content."""
    return text == other or json.loads(text) == json.loads(other)
