"""What a turn hands out, made from what the code asks: calls, errands, waits, news of its end.

Pure values. A `Call` is one attempt of an activity; an *errand* is what the engine itself does for
a workflow: post an event, launch another instance. How they are performed is not said here.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from edda.codec import decode_error, encode_error
from edda.commands import (
    ActivityAsk,
    Answer,
    CallAsk,
    Cancellation,
    EventAsk,
    Failure,
    Mode,
    Outcome,
    ReceiveAsk,
    Recurrence,
    Result,
    ResultAsk,
    SendAsk,
    StartAsk,
    WaitAsk,
)
from edda.errors import WorkflowCancelled, WorkflowFailed
from edda.events import CHANNEL, ENDED, Envelope, canonical
from edda.history import Started
from edda.machine import Machine, Question
from edda.ports import Call, Wait
from edda.value import value
from edda.workflow import Workflow

__all__ = ["Errand", "Launch", "Post", "answer_of_end", "end_of", "job_of", "restart_of", "wait_of"]


@value
class Post:
    """One attempt to send an event for a workflow."""

    instance_id: str
    id: str
    envelope: Envelope
    broker_url: str | None
    attempt: int


@value
class Launch:
    """One attempt to start another instance for a workflow. `arguments` is a JSON object.

    `parent` is the instance that is told how it ends.
    """

    instance_id: str
    id: str
    workflow: Workflow[..., object]
    child: str
    arguments: str
    parent: str | None
    attempt: int


Errand = Post | Launch


def job_of(machine: Machine, opened: Question, ask: CallAsk) -> Call | Errand:
    """The next attempt of what an ask wants done."""
    attempt = opened.attempts + 1
    instance_id = machine.program.instance_id
    match ask:
        case SendAsk():
            arguments = json.loads(ask.arguments)
            envelope = _envelope(arguments["event"])
            return Post(instance_id, ask.id, envelope, arguments["broker_url"], attempt)
        case StartAsk():
            parent = instance_id if ask.is_awaited else None
            return Launch(
                instance_id,
                ask.id,
                opened.definition,
                ask.child,
                ask.arguments,
                parent,
                attempt,
            )
        case ActivityAsk():
            return Call(
                opened.definition,
                instance_id,
                machine.program.name,
                ask.id,
                ask.arguments,
                attempt,
                f"{machine.scope}/{ask.id}",
            )


def wait_of(ask: WaitAsk) -> Wait:
    """An ask that a message answers, as the store keeps it."""
    match ask:
        case ReceiveAsk():
            return Wait(ask.id, CHANNEL + ask.name, mode=ask.mode)
        case ResultAsk():
            return Wait(ask.id, ENDED + ask.name, '["subject"]', canonical([ask.child]))
        case EventAsk():
            paths, values = (None, None) if ask.match is None else _facet(ask.match)
            return Wait(ask.id, ask.name, paths, values, ask.model, ask.on_invalid)


@lru_cache(maxsize=1024)  # a wait is looked at again and again
def _facet(match: str) -> tuple[str, str]:
    """The paths that a match looks at and the values it wants there, as stores compare them."""
    wanted = json.loads(match)
    names = sorted(wanted)
    return json.dumps(names), canonical([wanted[name] for name in names])


# ---- How an instance ends --------------------------------------------------------------------


def end_of(instance_id: str, started: Started, outcome: Outcome) -> Envelope | None:
    """The message that tells the parent how an instance ended; None without a parent."""
    if started.parent is None or isinstance(outcome, Recurrence):
        return None
    match outcome:
        case Result(value):
            data: dict[str, Any] = {"result": json.loads(value)}
        case Failure(error):
            data = {"error": json.loads(error)}
        case Cancellation():
            data = {"cancelled": True}
    return _envelope(
        {
            "specversion": "1.0",
            "type": ENDED + started.name,
            "source": "edda",
            "id": f"{instance_id}/ended",
            "subject": instance_id,
            "eddainstanceid": started.parent,
            "data": data,
        }
    )


def answer_of_end(envelope: Envelope) -> Answer:
    """What the end of a child is to the parent that waits for it."""
    data, child = envelope.document["data"], envelope.document["subject"]
    if "result" in data:
        return Result(json.dumps(data["result"], separators=(",", ":"), ensure_ascii=False))
    if "error" in data:
        text = json.dumps(data["error"])
        return Failure(encode_error(WorkflowFailed(child, decode_error(text)), cause_text=text))
    return Failure(encode_error(WorkflowCancelled(child)))


def restart_of(
    started: Started, arguments: str, at: datetime, subscriptions: Mapping[str, Mode]
) -> Started:
    """The start of the next history of an instance that recurs."""
    seed = int.from_bytes(blake2b(f"{started.seed}:recur".encode(), digest_size=8).digest()) >> 1
    return replace(
        started,
        at=at,
        arguments=arguments,
        seed=seed,
        recurred=started.recurred + 1,
        subscriptions=tuple(subscriptions.items()),
    )


def _envelope(document: dict[str, Any]) -> Envelope:
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return Envelope(
        document["type"], document["source"], document["id"], text, document.get("eddainstanceid")
    )
