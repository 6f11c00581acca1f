"""The report: one page of a session's simulated tests, which needs no network and no server.

A list of tests, and for each its simulations: a lane for each instance on a virtual time axis.
Here is what the page is told, as plain JSON values, and how it becomes a page; `report_page` has
what a browser does with it. Strings of users go into the page as JSON text in which no character
can end a script, and reach the document as text, never as markup.

Runs, events and payloads are capped, and the page says where.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

from edda.codec import decode_error
from edda.commands import Failure, Result
from edda.history import Answered, Asked, Attempted, Event, Refused, Withdrawn, as_row
from edda.timeline import GLYPHS, event_text
from edda_testkit.runs import Run
from edda_testkit.simulation import Simulation

__all__ = ["FORMAT", "MAX_EVENTS", "MAX_RUNS", "MAX_TEXT", "page", "simulation_entry", "test_entry"]

FORMAT = "edda-report/1"
MAX_RUNS = 40  # of a simulation
MAX_EVENTS = 400  # of a run: the first and the last of them
MAX_TEXT = 2_000  # characters of a payload or of what happened
MAX_MESSAGE = 8_000  # of a test's failure, its end
MAX_BYTES = 24_000_000  # of the page; tests beyond keep their name and outcome

ORDER = ("failed", "error", "xpassed", "passed", "xfailed", "skipped")
# What ends well, and what does not, by the last word of an event's kind.
GOOD = frozenset({"completed", "fired", "received", "sent"})
BAD = frozenset({"failed", "exhausted"})


def simulation_entry(sim: Simulation) -> dict[str, Any]:
    """A simulation as the page shows it; times are microseconds from its start."""
    began = sim.clock.start
    runs = sim.runs
    return {
        "start": began.isoformat(),
        "now": _micros(sim.clock.now() - began),
        "schedule": sim.schedule.token if sim.schedule.deviations else "",
        "runs": [_run(run, sim, began) for run in runs[:MAX_RUNS]],
        "more": max(0, len(runs) - MAX_RUNS),
        "crashes": [
            {"t": _micros(crash.at - began), "worker": crash.worker, "lengths": dict(crash.lengths)}
            for crash in sim.crashes
        ],
        "untaken": [_cut(line, 200) for line in sim.untaken_events()[:MAX_RUNS]],
        "story": [_cut(line, 200) for line in sim.story[:MAX_EVENTS]],
    }


def test_entry(
    nodeid: str, outcome: str, seconds: float, message: str, simulations: Sequence[Any]
) -> dict[str, Any]:
    """A test as the page shows it."""
    return {
        "id": nodeid,
        "outcome": outcome,
        "seconds": round(seconds, 3),
        "message": message[-MAX_MESSAGE:],
        "sims": list(simulations),
    }


def page(tests: Sequence[Mapping[str, Any]], *, made: datetime | None = None) -> str:
    """The page: failed tests first, else in the order given."""
    ranked = sorted(tests, key=lambda test: _rank(test["outcome"]))
    left, kept, dropped = MAX_BYTES, [], 0
    for test in ranked:
        left -= len(_as_json(test))
        if left < 0:
            dropped += bool(test["sims"])
        kept.append(test if left >= 0 else {**test, "sims": [], "dropped": True})
    stamp = (made or datetime.now(UTC)).isoformat(timespec="seconds")
    data = {"format": FORMAT, "made": stamp, "tests": kept, "dropped": dropped, "glyphs": GLYPHS}
    parts = {"css": _part("page.css"), "js": _part("page.js"), "data": _as_json(data)}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html"))


# ---- Helpers -----------------------------------------------------------------------------------


def _run(run: Run, sim: Simulation, began: datetime) -> dict[str, Any]:
    history = run.history
    half = MAX_EVENTS // 2
    shown = range(len(history))
    if len(history) > MAX_EVENTS:
        shown = [*range(half), *range(len(history) - half, len(history))]  # type: ignore[assignment]
    opened = {event.id: event.seq for event in history if isinstance(event, Asked)}
    return {
        "id": run.id,
        "workflow": run.workflow.name,
        "status": str(run.status),
        "outcome": _cut(_outcome(run), MAX_TEXT),
        "waits": [_cut(str(waiting), 300) for waiting in run.waiting_for],
        "total": len(history),
        "commits": [length for instance, length in sim.store.log if instance == run.id],
        "events": [_event(history[index], opened, began) for index in shown],
    }


def _event(event: Event, opened: Mapping[str, int], began: datetime) -> dict[str, Any]:
    _, _, payload = as_row(event)
    entry: dict[str, Any] = {
        "n": event.seq,
        "t": _micros(event.at - began),
        "k": event.kind,
        "i": event.id,
        "x": _cut(event_text(event), MAX_TEXT),
        "c": _tone(event),
    }
    if payload is not None:
        entry["p"] = _cut(payload, MAX_TEXT)
    match event:
        case Asked():
            entry |= {"r": "ask", "s": event.site}
        case Answered() | Withdrawn():
            entry |= {"r": "end", "o": opened.get(event.id)}
        case Attempted():
            entry |= {"r": "note", "o": opened.get(event.id), "b": _micros(event.began_at - began)}
        case Refused():
            entry |= {"r": "note", "o": opened.get(event.id)}
    return entry


def _tone(event: Event) -> str:
    word = event.kind.rpartition("_")[2]
    if word in GOOD:
        return "good"
    if word in BAD:
        return "bad"
    if word in ("out", "refused", "withdrawn", "cancelled", "requested") or isinstance(
        event, Withdrawn
    ):
        return "odd" if event.kind != "send_requested" else ""
    return ""


def _outcome(run: Run) -> str:
    finished = run.history[-1] if run.history else None
    match getattr(finished, "outcome", None):
        case Result(value):
            return value
        case Failure(error):
            return repr(decode_error(error))
    return "" if run.error is None else str(run.error)


def _micros(length: timedelta) -> int:
    return length // timedelta(microseconds=1)


def _rank(outcome: str) -> int:
    return ORDER.index(outcome) if outcome in ORDER else len(ORDER)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"


def _as_json(value: Any) -> str:
    # In a script element, only `<` can end it or open a comment; ASCII leaves no odd line ends.
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _part(name: str) -> str:
    return files("edda_testkit.report_page").joinpath(name).read_text("utf-8")
