"""Which workflows an event starts: by its type, each once, with arguments from its data.

- Only a workflow that says so is started (`@workflow(start_on=...)`), and an event addressed to
  one instance starts nothing.
- The members of the event's data are the arguments, by name; what the workflow does not take is
  left out. They are validated before the event is accepted.
- The instance id follows from the event's source and id, so the same event starts an instance
  once, however often it comes.

Pure. Absent: the order of accepting and starting, which is the app's (`EddaApp.handle_events`).
"""

import inspect
import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

from edda.errors import ArgumentError, EncodingError, InvalidEventError, sentence
from edda.events import Envelope, received
from edda.value import value
from edda.workflow import Workflow

__all__ = ["Start", "id_of_start", "starts"]


@value
class Start:
    """An instance that an event starts. `arguments` is JSON text, validated."""

    workflow: Workflow[..., Any]
    instance_id: str
    arguments: str


def starts(envelope: Envelope, workflows: Iterable[Workflow[..., Any]]) -> Iterator[Start]:
    """What an event starts. Raises `InvalidEventError` when its data are no arguments for it."""
    if envelope.instance_id is not None:
        return
    for workflow in workflows:
        if workflow.start_on == envelope.type:
            instance_id = id_of_start(workflow, envelope.source, envelope.id)
            yield Start(workflow, instance_id, _arguments(workflow, envelope))


def id_of_start(workflow: Workflow[..., Any], source: str, event_id: str) -> str:
    """The id of the instance that this event starts, or has started."""
    key = json.dumps([source, event_id]).encode()
    return f"{workflow.name}-{blake2b(key, digest_size=16).hexdigest()}"


def _arguments(workflow: Workflow[..., Any], envelope: Envelope) -> str:
    data = received(envelope.text).data
    expected = f"the arguments of the workflow {workflow.name!r}"
    if data is None:
        data = {}
    if not isinstance(data, dict):
        problem = f"data must be an object whose members are arguments, got {sentence(data)}"
        raise InvalidEventError(envelope.type, envelope.id, expected, [problem])
    context, *parameters = inspect.signature(workflow.fn).parameters.values()
    named = {one.name: one for one in parameters if one.kind in _NAMED}
    missing = [
        f"data.{name} is missing"
        for name, parameter in named.items()
        if name not in data and parameter.default is parameter.empty
    ]
    if missing:
        raise InvalidEventError(envelope.type, envelope.id, expected, missing)
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters)
    taken = {
        name: value
        for name, value in data.items()
        if name in named or (takes_all and name != context.name)
    }
    try:
        return workflow.parameters.accept((), taken)
    except ArgumentError as error:
        problems = [f"data.{problem}" for problem in error.problems]
    except EncodingError as error:
        problems = [str(error)]
    raise InvalidEventError(envelope.type, envelope.id, expected, problems)


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
