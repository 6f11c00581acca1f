"""Every test is a replay test: recorded runs are replayed under other circumstances.

A history is replayed from scratch and from its prefixes, as if in another process; who calls this
shifts the clock. The machine compares every ask; here is only decided what to replay, under which
circumstances, and how to say what went wrong.
"""

import importlib
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from typing import Any

from edda.commands import Ask
from edda.errors import EddaError
from edda.history import Answered, Asked, CancelRequested, Event, Started
from edda.machine import Machine
from edda.workflow import Workflow
from edda_testkit.errors import NotReplayableRun
from edda_testkit.guard import Guard

__all__ = ["check_replay", "elsewhere", "where_to_look"]

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
    with elsewhere():
        _replay(workflow, instance_id, events, "replayed from scratch", pending, guard)
        for length in _prefixes(events):
            how = f"replayed from its first {length} of {len(events)} events"
            _replay(workflow, instance_id, events[:length], how)


def where_to_look(workflow: Definition) -> str:
    """What the lint sees in a workflow that did not replay; "" if nothing."""
    # It is much code, and hardly a session needs it.
    hints = importlib.import_module("edda_testkit.lint_hints")
    return str(hints.hint(workflow.fn))


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
        raise NotReplayableRun(run, how, str(error), where_to_look(workflow)) from None
    finally:
        machine.close()
    if fresh:
        asked = ", ".join(f"{event.kind} {event.id}" for event in fresh)
        reason = f"It asks for more than its history has: {asked}."
        raise NotReplayableRun(run, how, reason, where_to_look(workflow))


# ---- Other circumstances -----------------------------------------------------------------------


@contextmanager
def elsewhere() -> Iterator[None]:
    """As if in another process: other randomness, another environment and zone, other addresses.

    All is as it was afterwards. Who calls this shifts the clock. What stays is the seed of
    hashes, which only another interpreter has.
    """
    with _other_randomness(), _other_environment():
        ballast = _other_addresses()
        yield
        del ballast


@contextmanager
def _other_randomness() -> Iterator[None]:
    state = random.getstate()
    random.seed(0x5EED)
    try:
        yield
    finally:
        random.setstate(state)


# What the interpreter, its tools and the operating system need as it is.
KEPT_VARIABLES = re.compile(
    "(COV|DYLD|EDDA|HYPOTHESIS|LD_|PATH|PYDEV|PYTEST|PYTHON|SYSTEM|TEMP|TMP|VIRTUAL_ENV|WIN).*",
    re.IGNORECASE,
)


@contextmanager
def _other_environment() -> Iterator[None]:
    # What Python reads. Only the zone is told to C as well: to tell it every variable, and back,
    # takes longer than the replay does.
    environ = os.environ
    data = vars(environ)["_data"]
    saved = dict(data)
    try:
        data.update(_changed(tuple(saved.items())))
        environ["TZ"] = "ELS-05:45"
        _set_zone()
        yield
    finally:
        environ.pop("TZ", None)
        data.clear()
        data.update(saved)
        if "TZ" in environ:
            os.putenv("TZ", environ["TZ"])
        _set_zone()


@lru_cache(maxsize=1)  # it is the same for all tests but those that change variables
def _changed(saved: tuple[tuple[Any, Any], ...]) -> dict[Any, Any]:
    """Other values of variables, and one more, as `os.environ` keeps them."""
    environ = os.environ
    mark = environ.encodevalue("-elsewhere")
    changed = {
        name: value + mark
        for name, value in saved
        if not KEPT_VARIABLES.fullmatch(environ.decodekey(name))
    }
    return changed | {environ.encodekey("EDDA_REPLAY"): mark[1:]}


def _set_zone() -> None:
    if hasattr(time, "tzset"):  # not on Windows
        time.tzset()


def _other_addresses() -> list[object]:
    """Ballast to hold: memory is handed out in the order it was given back, so in another one."""
    held: list[object] = []
    for size in range(1, 200, 16):
        blocks = list(map(bytes, repeat(size, 16)))
        held += blocks[::2]
        freed = blocks[1::4] + blocks[:2:-4]  # in this order, beginning with the last
        del blocks, freed
    return held
