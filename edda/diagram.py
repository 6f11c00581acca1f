"""A history as a Mermaid sequence diagram, for pages that draw them.

The workflow in the middle, its activities and the outside around it, a note wherever time went
by. What comes from users is text and never syntax.
"""

from collections.abc import Sequence
from datetime import timedelta

from edda.history import Answered, Asked, Attempted, Event, Refused, Started
from edda.timeline import duration_text, event_text

__all__ = ["mermaid"]

# Longer than this, a line of a diagram is cut.
LONGEST = 80
WORKFLOW, CLOCK, OUTSIDE = "w", "clock", "outside"
ACTIVITY = "a"


def mermaid(events: Sequence[Event]) -> str:
    """The history as the text of a Mermaid `sequenceDiagram`."""
    asked = {event.id: event for event in events if isinstance(event, Asked)}
    names = {
        event.name: f"{ACTIVITY}{number}"
        for number, event in enumerate(
            {one.name: one for one in asked.values() if one.ask.kind == "activity"}.values(), 1
        )
    }
    lines = ["sequenceDiagram", "    autonumber"]
    first = events[0] if events else None
    title = first.name if isinstance(first, Started) else "workflow"
    lines.append(f"    participant {WORKFLOW} as {_alias(title)}")
    lines += [f"    participant {key} as {_alias(name)}" for name, key in names.items()]
    kinds = {event.ask.kind for event in asked.values()}
    lines += [f"    participant {CLOCK} as clock"] if "timer" in kinds else []
    if any(_partner(event, names) == OUTSIDE for event in asked.values()):
        lines.append(f"    participant {OUTSIDE} as outside")
    before = None
    for event in events:
        if before is not None and event.at > before:
            lines.append(f"    Note over {WORKFLOW}: {_text(_pause(event.at - before))}")
        before = event.at
        lines.append(f"    {_line(event, asked, names)}")
    return "\n".join(lines)


def _line(event: Event, asked: dict[str, Asked], names: dict[str, str]) -> str:
    """One event: an arrow between the workflow and whom it concerns, or a note."""
    ask = event if isinstance(event, Asked) else asked.get(event.id)
    said = f"{event.id} {event_text(event)}"
    if isinstance(event, Started):
        return f"Note over {WORKFLOW}: {_text(f'started {event_text(event)}')}"
    if ask is None:
        return f"Note over {WORKFLOW}: {_text(event_text(event))}"
    other = _partner(ask, names)
    match event:
        case Asked():
            return f"{WORKFLOW}->>{other}: {_text(said)}"
        case Attempted() | Refused():
            return f"{other}--x{WORKFLOW}: {_text(said)}"
        case Answered():
            return f"{other}-->>{WORKFLOW}: {_text(said)}"
    return f"{WORKFLOW}-x{other}: {_text(said)}"


def _partner(event: Asked, names: dict[str, str]) -> str:
    if event.ask.kind == "timer":
        return CLOCK
    return names[event.name] if event.ask.kind == "activity" else OUTSIDE


def _pause(length: timedelta) -> str:
    return f"{duration_text(length)} later"


def _text(text: str) -> str:
    """Text that Mermaid takes for nothing else: what is no plain character, by its number."""
    flat = " ".join(text.split()) or "-"
    cut = flat if len(flat) <= LONGEST else f"{flat[: LONGEST - 1]}…"
    return "".join(char if char.isalnum() or char in _PLAIN else f"#{ord(char)};" for char in cut)


def _alias(name: str) -> str:
    return _text(name).replace(":", "#58;")


_PLAIN = frozenset(" _.,()=+-/:…'\"")
