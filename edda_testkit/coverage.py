"""Outcome coverage: how each call site of a workflow came out over many runs, and how it did not.

Read off histories: every ask has a call site, and every answer is an outcome of it. What can come
out depends on the ask: a wait times out only if it has a timeout, is refused only if it has a
model. Call sites that no run reached are found in the source (`sites`). Kinds of asks that this
room does not know are answered, fail or time out like any other.

Crashes and cancellations are *points*, not outcomes: they are shown, and count for the percentage
only when asked.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from edda.commands import Expiry, Failure
from edda.errors import EddaError
from edda.history import (
    Answered,
    Asked,
    Attempted,
    CancelRequested,
    Event,
    Refused,
    Withdrawn,
)
from edda.loop import user_site
from edda.machine import Machine
from edda.ports import Wait
from edda.workflow import Workflow
from edda_testkit.sites import Known, kind_of, known_sites, outcomes_of, uses_patches

__all__ = ["FORMAT", "POINTS", "Coverage", "Site"]

FORMAT = "edda-coverage/1"
POINTS = ("crash", "cancel")
# A patch's arms are noted under this kind; `patched` is no ask.
PATCH = "patched"


@dataclass(frozen=True, slots=True, order=True)
class Site:
    """One call site: `place` is `file:line`, `name` what is called or waited for there."""

    workflow: str
    place: str
    kind: str
    name: str


@dataclass
class Seen:
    """What a call site can come to, and how often it did."""

    possible: set[str] = field(default_factory=set)
    outcomes: dict[str, int] = field(default_factory=dict)

    def note(self, outcome: str) -> None:
        """It came out so, once more."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    @property
    def missing(self) -> list[str]:
        """What it never came to."""
        return sorted(self.possible - self.outcomes.keys())


class Coverage:
    """Outcomes by call site. `add` runs, `merge` others, then read `lines` or `document`."""

    def __init__(self) -> None:
        self.sites: dict[Site, Seen] = {}
        self.runs: dict[str, int] = {}
        self.known: dict[Site, Known] = {}

    # ---- Gathering -----------------------------------------------------------------------------

    def know(self, workflow: Workflow[..., Any]) -> None:
        """Look for the workflow's call sites, also those that no run will reach."""
        if workflow.name in self.runs:
            return
        self.runs[workflow.name] = 0
        for one in known_sites(workflow):
            self.known[Site(workflow.name, one.place, one.kind, one.name)] = one

    def add(
        self,
        workflow: Workflow[..., Any],
        instance_id: str,
        history: Sequence[Event],
        *,
        crashed_at: Iterable[int] = (),
        lost: Iterable[str] = (),
        refused: Iterable[Wait] = (),
    ) -> None:
        """Count one run: `crashed_at` are lengths of its history when a worker crashed.

        `lost` are the ids of asks whose effect was lost with a worker, and had again; `refused`
        are waits that turned an event away at the door, of which a history says nothing.
        """
        self.know(workflow)
        self.runs[workflow.name] += 1
        asked: dict[str, Site] = {}
        still_open: dict[str, Site] = {}
        crashes, struck = set(crashed_at), set(lost)
        for length, event in enumerate(history, 1):
            self._take(workflow.name, event, asked, still_open)
            if length in crashes:
                struck |= still_open.keys()
        self._strike("crash", [asked[id] for id in struck if id in asked])
        for wait in refused:
            site = asked.get(wait.id)
            if site is not None and "refused" in self.sites[site].possible:
                self._note(site, "refused")
        if uses_patches(workflow):
            self._patches(workflow, instance_id, history)

    def _take(
        self, workflow: str, event: Event, asked: dict[str, Site], still_open: dict[str, Site]
    ) -> None:
        match event:
            case Asked(ask=ask):
                site = Site(workflow, ask.site, kind_of(ask), ask.name)
                asked[ask.id] = still_open[ask.id] = site
                seen = self.sites.setdefault(site, Seen())
                seen.possible |= outcomes_of(ask)
            case Answered():
                still_open.pop(event.id, None)
                for outcome in _outcomes(event):
                    self._note(asked.get(event.id), outcome)
            case Withdrawn():
                still_open.pop(event.id, None)
                self._note(asked.get(event.id), "withdrawn")
            case Attempted():
                self._note(asked.get(event.id), "failed")
            case Refused():
                self._note(asked.get(event.id), "refused")
            case CancelRequested():
                self._strike("cancel", still_open.values())

    def _note(self, site: Site | None, outcome: str) -> None:
        if site is not None:
            seen = self.sites[site]
            seen.note(outcome)
            if outcome not in POINTS:
                seen.possible.add(outcome)

    def _strike(self, point: str, sites: Iterable[Site]) -> None:
        for site in sites:
            self.sites[site].note(point)

    def _patches(
        self, workflow: Workflow[..., Any], instance_id: str, history: Sequence[Event]
    ) -> None:
        """Which arms of `ctx.patched` the run took: history tells of the new ones alone."""
        machine = _Watching(workflow, instance_id)
        try:
            machine.replay(history)
        except EddaError:  # a stuck run: its code does not fit, and takes no arm
            return
        finally:
            machine.close()
        for (place, id), is_new in machine.arms.items():
            site = Site(workflow.name, place, PATCH, id)
            seen = self.sites.setdefault(site, Seen())
            seen.possible |= {"new", "old"}
            seen.note("new" if is_new else "old")

    # ---- Merging -------------------------------------------------------------------------------

    def merge(self, other: Self) -> None:
        """Add what another process saw."""
        for name, count in other.runs.items():
            self.runs[name] = self.runs.get(name, 0) + count
        self.known |= other.known
        for site, theirs in other.sites.items():
            ours = self.sites.setdefault(site, Seen())
            ours.possible |= theirs.possible
            for outcome, count in theirs.outcomes.items():
                ours.outcomes[outcome] = ours.outcomes.get(outcome, 0) + count

    def dumps(self) -> str:
        """All of it as JSON text, for `loads` in another process."""
        return json.dumps(
            {
                "runs": self.runs,
                "known": [_key(site) + one.as_list() for site, one in self.known.items()],
                "sites": [
                    [*_key(site), sorted(seen.possible), seen.outcomes]
                    for site, seen in self.sites.items()
                ],
            }
        )

    @classmethod
    def loads(cls, text: str) -> Self:
        """What `dumps` wrote."""
        document = json.loads(text)
        made = cls()
        made.runs = document["runs"]
        for workflow, place, kind, name, *rest in document["known"]:
            made.known[Site(workflow, place, kind, name)] = Known.from_list(place, kind, name, rest)
        for workflow, place, kind, name, possible, outcomes in document["sites"]:
            made.sites[Site(workflow, place, kind, name)] = Seen(set(possible), outcomes)
        return made

    # ---- Reading -------------------------------------------------------------------------------

    def all_sites(self) -> dict[Site, Seen]:
        """Every call site by workflow and place, those that no run reached too."""
        found = dict(self.sites)
        reached: dict[str, list[Site]] = {}
        for site in self.sites:
            reached.setdefault(site.workflow, []).append(site)
        for site, one in self.known.items():
            if not any(one.is_at(each.place, each.name) for each in reached.get(site.workflow, ())):
                found[site] = Seen(set(one.possible))
        return dict(sorted(found.items(), key=lambda entry: _by_line(entry[0])))

    def percent(self, *, points: bool = False) -> float:
        """Outcomes seen of those possible, in percent; 0 when there are none."""
        seen, possible = _count(self.all_sites().values(), points=points)
        return 100 * seen / possible if possible else 0.0

    def document(self, *, points: bool = False) -> dict[str, Any]:
        """The JSON form: totals, and every site by workflow."""
        sites = self.all_sites()
        seen, possible = _count(sites.values(), points=points)
        workflows: dict[str, Any] = {
            name: {"runs": count, "sites": []} for name, count in sorted(self.runs.items())
        }
        for site, one in sites.items():
            workflows[site.workflow]["sites"].append(
                {
                    "place": site.place,
                    "kind": site.kind,
                    "name": site.name,
                    "reached": site in self.sites,
                    "possible": sorted(one.possible),
                    "outcomes": {k: v for k, v in one.outcomes.items() if k not in POINTS},
                    "points": {point: one.outcomes.get(point, 0) for point in POINTS},
                    "missing": one.missing,
                }
            )
        totals = {"seen": seen, "possible": possible, "percent": self.percent(points=points)}
        return {"format": FORMAT, "totals": totals, "workflows": workflows}

    def lines(self, *, points: bool = False) -> list[str]:
        """The table for a terminal: a line a call site, and what is missing there."""
        sites = self.all_sites()
        rows: list[tuple[str, ...]] = [
            ("Workflow / call site", "Outcomes", "Seen", "Cover", "Missing")
        ]
        for workflow, runs in sorted(self.runs.items()):
            own = {site: seen for site, seen in sites.items() if site.workflow == workflow}
            rows.append(_row(workflow, own.values(), "" if runs else "never run", points=points))
            for site, seen in own.items():
                missing = ", ".join(_missing(seen, points=points))
                if site not in self.sites:
                    missing = "never reached"
                label = f"  {site.place}  {site.kind} {site.name}"
                rows.append(_row(label, [seen], missing, points=points))
        rows.append(_row("TOTAL", sites.values(), "", points=points))
        table = _table(rows)
        return [*table, *self._points_lines()]

    def _points_lines(self) -> list[str]:
        lines = []
        for point, words in (("crash", "crashed"), ("cancel", "cancelled")):
            hit = [site for site, seen in self.sites.items() if seen.outcomes.get(point)]
            asks = [site for site in self.sites if site.kind != PATCH]
            if asks:
                lines.append(f"{words} at {len(hit)} of {len(asks)} reached call sites")
        return lines


class _Watching(Machine):
    """A machine that remembers which arms of patches the code took, and where."""

    def __init__(self, workflow: Workflow[..., Any], instance_id: str) -> None:
        super().__init__(workflow.program(instance_id))
        self.arms: dict[tuple[str, str], bool] = {}

    def patched(self, id: str) -> bool:
        is_new = super().patched(id)
        self.arms[user_site(sys._getframe(1)), id] = is_new  # noqa: SLF001 - the way to a caller
        return is_new


def _outcomes(event: Answered) -> list[str]:
    match event.outcome, str(event.of):
        case Expiry(), _:
            return ["timed out"]
        case Failure(error), "activity":
            kind = json.loads(error)["type"].rpartition(":")[2]
            return ["failed", "exhausted"] if kind == "RetryExhaustedError" else ["failed"]
        case Failure(), "event":
            return ["refused"]
        case Failure(), _:
            return ["failed"]
        case _, kind:
            return [SUCCESS.get(kind, "answered")]


SUCCESS = {
    "activity": "succeeded",
    "timer": "fired",
    "send": "sent",
    "start": "started",
    "child": "completed",
}


def _missing(seen: Seen, *, points: bool) -> list[str]:
    return seen.missing + [p for p in POINTS if points and p not in seen.outcomes]


def _count(sites: Iterable[Seen], *, points: bool) -> tuple[int, int]:
    """How many outcomes were seen, of how many that are possible."""
    seen = possible = 0
    for one in sites:
        missing = len(_missing(one, points=points))
        total = len(one.possible) + (len(POINTS) if points else 0)
        seen, possible = seen + total - missing, possible + total
    return seen, possible


def _row(label: str, sites: Iterable[Seen], missing: str, *, points: bool) -> tuple[str, ...]:
    seen, possible = _count(sites, points=points)
    percent = f"{int(100 * seen / possible)}%" if possible else "-"
    return label, str(possible), str(seen), percent, missing


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(row[column].rjust(widths[column]) for column in (1, 2, 3)),
                row[4],
            ]
        ).rstrip()
        for row in rows
    ]
    rule = "-" * max(map(len, lines))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]


def _key(site: Site) -> list[str]:
    return [site.workflow, site.place, site.kind, site.name]


def _by_line(site: Site) -> tuple[str, str, int, str, str]:
    file, _, line = site.place.rpartition(":")
    return site.workflow, file, int(line) if line.isdigit() else 0, site.kind, site.name
