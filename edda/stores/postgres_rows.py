"""What the PostgreSQL store says and keeps: its statements by name, values to and from columns.

Pure: nothing here has a connection. A store knows the shapes of the types it meets, and says what
an event has at their paths (its *facets*) when it is handed over, so that the server needs to
know nothing of JSON.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from edda.events import TARGET, Envelope
from edda.history import Event, as_row
from edda.ports import Commit, Instance, Message, Outgoing, Status, Wait
from edda.stores.sqlite_rows import COMPETING, as_address, as_end, as_facet, as_shape

__all__ = [
    "Facets",
    "Shapes",
    "as_arrays",
    "as_facets",
    "as_instance",
    "as_messages",
    "as_outgoing",
    "as_stored_wait",
    "as_wait_words",
    "as_wanted",
    "as_words",
    "statements",
]

# The longest value that an index takes as it is, in bytes: PostgreSQL's limit is 2,704 a row.
LONGEST = 512

# Shapes by type: their keys and paths, all there were when they were read.
Shapes = Mapping[str, Sequence[tuple[int, str]]]


def statements(schema: str) -> dict[str, str]:
    """Every statement of postgres.sql by its name, for tables in this schema."""
    text = files("edda.stores").joinpath("postgres.sql").read_text("utf-8")
    sections = re.split(r"^-- name: ", text, flags=re.MULTILINE)[1:]
    placed = (re.sub(r"\bedda\.", f'"{schema}".', section) for section in sections)
    return {name: body for name, _, body in (one.partition("\n") for one in placed)}


@dataclass(frozen=True, slots=True)
class Facets:
    """What events have at the paths of the shapes of their types: columns, one entry a facet."""

    events: list[int]  # from 1, as the server counts
    shapes: list[int]
    founds: list[str]
    addresses: list[str]


def as_facets(envelopes: Sequence[Envelope], shapes: Shapes) -> Facets:
    """The facets of events by the shapes that are known."""
    facets = Facets([], [], [], [])
    for number, envelope in enumerate(envelopes, 1):
        for key, paths in shapes.get(envelope.type, ()):
            found = as_facet(envelope, paths)
            if found is not None:
                facets.events.append(number)
                facets.shapes.append(key)
                facets.founds.append(as_wanted(found))
                facets.addresses.append(as_address(envelope.instance_id, paths))
    return facets


def as_wanted(values: str | None) -> str:
    """Values of a match as an index takes them: as they are, or their digest."""
    if values is None or len(values) <= LONGEST // 4:
        return values or ""
    encoded = values.encode()
    return values if len(encoded) <= LONGEST else f"={blake2b(encoded, digest_size=32).hexdigest()}"


def as_words(envelopes: Iterable[Envelope]) -> list[list[str | None]]:
    """Events as the server takes them."""
    return [[one.type, one.source, one.id, one.instance_id, one.text] for one in envelopes]


def as_wait_words(waits: Iterable[Wait], shapes: Shapes) -> list[list[str | None]]:
    """Waits as the server takes them, each once. Their shapes are known."""
    keys = {(type, paths): key for type, known in shapes.items() for key, paths in known}
    return [
        [
            wait.id,
            str(keys[wait.type, as_shape(wait)]),
            as_wanted(wait.values),
            wait.values,
            wait.model,
            wait.on_invalid,
            wait.mode,
        ]
        for wait in dict.fromkeys(waits)
    ]


def as_arrays(commit: Commit) -> tuple[list[int], list[str], list[str | None]]:
    """What a commit adds to a history, as columns."""
    events: Sequence[Event] = commit.events if commit.restart is None else (commit.restart,)
    if not events:
        return [], [], []
    rows = [as_row(event) for event in events]
    start = commit.expected_length if commit.restart is None else 0
    assert rows[0][0] == start, f"event {rows[0][0]} cannot follow {start} events"
    seqs, heads, payloads = zip(*rows, strict=True)
    return list(seqs), list(heads), list(payloads)


def as_messages(
    positions: Sequence[int] | None, ats: Sequence[Any] | None, words: Sequence[Any] | None
) -> tuple[Message, ...]:
    """The messages of columns, all None when there are none."""
    if positions is None or ats is None or words is None:
        return ()
    rows = zip(positions, ats, words, strict=True)
    return tuple(Message(position, at, Envelope(*word)) for position, at, word in rows)


def as_stored_wait(words: Sequence[Any]) -> Wait:
    """A wait of `id, type, paths, values, model, on_invalid, mode`."""
    id, type, paths, values, *rest = words
    return Wait(id, type, None if paths in ("", COMPETING) else paths, values, *rest)


def as_instance(row: Sequence[Any]) -> Instance:
    """An instance as `find` reads it."""
    id, workflow, status, started_at, updated_at, due, problem, seq, head, payload, waits = row
    outcome, unread = as_end((seq, head, payload))
    stands = Status(status)
    return Instance(
        id=id,
        workflow=workflow,
        status=stands,
        started_at=started_at,
        updated_at=updated_at,
        due=None if stands.is_final or stands is Status.STUCK else due,
        waits=tuple(map(as_stored_wait, waits or ())),
        outcome=outcome,
        problem=problem or unread,
    )


def as_outgoing(row: Sequence[Any]) -> Outgoing:
    """An event of the outbox of `position, text, attempts, due, error`."""
    position, text, attempts, due, error = row
    document = json.loads(text)
    envelope = Envelope(
        document["type"], document["source"], document["id"], text, document.get(TARGET)
    )
    return Outgoing(position, envelope, attempts, due, error)
