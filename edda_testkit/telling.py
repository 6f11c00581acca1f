"""What a failing test's report shows of its simulations: timelines, crashes, and what is awaited.

One line an event and one glyph a kind, with virtual times from each run's start. A crash stands
between the lines where it struck.
"""

from collections.abc import Sequence
from datetime import datetime

from edda.timeline import duration_text
from edda_testkit.runs import Run
from edda_testkit.search import Exploration
from edda_testkit.simulation import Simulation
from edda_testkit.workers import Crash

__all__ = ["concerned", "sections", "told"]

# More runs, or lines of one run, tell no more; the report page has them all.
MAX_RUNS = 8
MAX_LINES = 120
CRASH = "✝"


def concerned(
    opened: Sequence[Simulation], explored: Sequence[Exploration] = ()
) -> list[Simulation]:
    """Of a test's simulations the one an exploration failed with; else the open, and the last.

    Earlier ones ended well.
    """
    failures = [done.failure for done in explored if done.failure is not None]
    if failures:
        return [failures[-1].simulation]
    return [one for one in opened if one.is_open or one is opened[-1]]


def sections(sim: Simulation, *, is_explored: bool) -> list[tuple[str, str]]:
    """Titles and texts for a failure's report."""
    runs = sim.runs
    found = [(f"edda timeline of {run.label}", told(run, sim.crashes)) for run in runs[:MAX_RUNS]]
    if len(runs) > MAX_RUNS:
        rest = [f"{run!r}" for run in runs[MAX_RUNS:][:MAX_LINES]]
        found.append((f"edda: {len(runs) - MAX_RUNS} more runs", "\n".join(rest)))
    if untaken := sim.untaken_events():
        found.append(("edda events that no run took", "\n".join(untaken)))
    if sim.schedule.deviations and not is_explored:
        found.append(("edda schedule", f"schedule: {sim.schedule.token}"))
    return found


def told(run: Run, crashes: Sequence[Crash] = ()) -> str:
    """One run: how it stands, its timeline with crashes, and what it waits for."""
    history = run.history
    lines = run.timeline().split("\n") if history else []
    if history:
        for crash in reversed(crashes):
            if crash.at >= history[0].at:
                lines.insert(crash.lengths.get(run.id, 1), _crash_line(crash, history[0].at, lines))
    if len(lines) > MAX_LINES:
        half = MAX_LINES // 2
        lines[half:-half] = [f"... {len(lines) - 2 * half} more"]
    waits = [f"waits for {waiting}" for waiting in run.waiting_for]
    return "\n".join([f"{run!r}", *lines, *waits])


def _crash_line(crash: Crash, began: datetime, lines: Sequence[str]) -> str:
    first = lines[0]
    edge = len(first) - len(first.lstrip()) + len(first.split()[0])  # where times end
    time = f"+{duration_text(crash.at - began)}"
    who = "every worker" if crash.worker is None else f"worker {crash.worker}"
    # Where glyphs stand: past the column of pauses, which the first line has empty.
    glyph_at = next(at for at in range(edge, len(first)) if first[at] != " ")
    return f"{time.rjust(edge)}{' ' * (glyph_at - max(edge, len(time)))}{CRASH} crash of {who}"
