"""Every test is a replay test: recorded runs are replayed under other circumstances.

A history is replayed from scratch and from its prefixes, with another seed in the
global `random`; who calls this shifts the clock. The machine compares every ask; here is only
decided what to replay and how to say what went wrong.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edda.commands import Ask
from edda.errors import EddaError
from edda.history import Answered, Asked, CancelRequested, Event, Started
from edda.machine import Machine
from edda.workflow import Workflow
from edda_testkit.errors import NotReplayableRun
from edda_testkit.guard import Guard

__all__ = ["check_replay"]

# Events to feed to replays of one run: about half a second's worth.
MOST_EVENTS = 25_000

Definition = Workflow[..., object]


def check_replay(
    workflow: Definition,
    instance_id: str,
    events: Sequence[Event],
    pending: Sequence[Ask] = (),
    guard: Guard | None = None,
) -> None:
    """Replay one run from scratch and from every prefix. Raises `NotReplayableRun`.

    `pending` are the asks of a run under way that will be committed with their first answer;
    `guard` watches the code when it is replayed whole: prefixes run nothing else.
    """
    with _other_randomness():
        _replay(workflow, instance_id, events, "replayed from scratch", pending, guard)
        for length in _prefixes(events):
            how = f"replayed from its first {length} of {len(events)} events"
            _replay(workflow, instance_id, events[:length], how)


def _prefixes(events: Sequence[Event]) -> list[int]:
    """The lengths at which a worker could have found the history: before each input."""
    inputs = (Started, Answered, CancelRequested)
    found = [index for index, event in enumerate(events) if index and isinstance(event, inputs)]
    # A long run is replayed from as many as a test can wait for, evenly spread, and the last.
    step = max(1, len(events) * len(found) // (2 * MOST_EVENTS))
    return found[::-step][::-1]


def _replay(  # noqa: PLR0917 - its callers are above
    workflow: Definition,
    instance_id: str,
    events: Sequence[Event],
    how: str,
    pending: Sequence[Ask] = (),
    guard: Guard | None = None,
) -> None:
    run = f"{workflow.name} {instance_id!r}"
    machine = Machine(workflow.program(instance_id))
    if guard is not None:
        machine.watch = guard.watch(workflow)
    try:
        machine.replay(events)
        fresh = [
            event
            for event in machine.decide().events
            if not isinstance(event, Asked) or event.ask not in pending
        ]
    except EddaError as error:
        raise NotReplayableRun(run, how, str(error)) from None
    finally:
        machine.close()
    if fresh:
        asked = ", ".join(f"{event.kind} {event.id}" for event in fresh)
        raise NotReplayableRun(run, how, f"It asks for more than its history has: {asked}.")


@contextmanager
def _other_randomness() -> Iterator[None]:
    state = random.getstate()
    random.seed(0x5EED)
    try:
        yield
    finally:
        random.setstate(state)
