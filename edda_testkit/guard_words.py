"""A rule of the guard, and the words that say what to do instead."""

from dataclasses import dataclass
from typing import Any

from edda.determinism import CATEGORIES
from edda_testkit.guard_checks import Check

__all__ = [
    "DRAW",
    "IDS",
    "NOW",
    "OF_NAIVE",
    "ORDER",
    "SEEDED",
    "SLEEP",
    "TO_LOCAL",
    "ZONE",
    "Rule",
    "rule",
]

NOW = "Use ctx.now(): the time of the event that is handled, the same on every replay."
SLEEP = "Use `await sleep(ctx, seconds)` or `await asyncio.sleep(seconds)`, which are durable."
ZONE = "It depends on the time zone of the machine: name the zone, as in ZoneInfo('Europe/Oslo')."
DRAW = "Use ctx.random, a random.Random that draws the same on every replay."
SEEDED = "Use ctx.random, or give it a seed that is the same on every replay."
IDS = "Use ctx.uuid4(), or uuid.uuid5(namespace, name) for an id made of what is known."
TO_LOCAL, OF_NAIVE = "astimezone() to the machine's zone", "timestamp() of a naive datetime"
ORDER = "The order of a set differs from process to process: use sorted(...), a list or a dict."


@dataclass(frozen=True, slots=True)
class Rule:
    """One call that workflow code must not make.

    `check` says whether it does harm this time, or answers with the rule that is broken. An
    `is_direct` rule holds for the user's own lines only: libraries have good reasons. A `by_edda`
    one is about what the engine refuses; an `is_ask` one is the moment to look (`guard_asks`). The
    `is_forgotten` one is Python's own finding of a coroutine that nobody awaits. Code that meets
    an `each_time` one is watched each time it runs, also on events that it has run on before.
    """

    category: str
    call: str
    cure: str
    check: Check | None = None
    is_direct: bool = False
    by_edda: bool = False
    is_ask: bool = False
    is_forgotten: bool = False
    each_time: bool = False


def rule(category: str, call: str, cure: str = "", **options: Any) -> Rule:
    """A rule; its cure is the category's where none is said."""
    return Rule(category, call, cure or CATEGORIES[category], **options)
