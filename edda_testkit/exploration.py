"""Exploration: a scenario under many schedules, each time with a fresh simulation.

    @explore(crashes=1)
    def test_order(edda_sim): ...

is run once for each schedule by the pytest plugin; `explore(scenario, crashes=1)` does the same
without pytest. A failure is shrunk, has happened again when it is shown, and names the schedule
that repeats it. Absent: which schedules are tried (`search`).
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from edda.history import Answered, Attempted
from edda_testkit.async_simulation import AsyncSimulation
from edda_testkit.errors import CrashChangedOutcome, Misuse, NotExhaustive, UnusedStub
from edda_testkit.freeze import Freezer
from edda_testkit.runs import Run
from edda_testkit.schedule import Options, Schedule, Source
from edda_testkit.search import (
    BUDGET_SECONDS,
    MAX_SCHEDULES,
    Attempt,
    Exploration,
    Explorer,
)
from edda_testkit.session import Session, current_session
from edda_testkit.simulation import Simulation

__all__ = ["MARK", "Explored", "check_crashes", "explore", "explore_with"]

Scenario = Callable[[Any], Any]

MARK = "__edda_explored__"
# Every how many schedules the runs are replayed as well; the first is always, and what fails.
REPLAY_EVERY = 50


@dataclass(frozen=True, slots=True)
class Explored:
    """What `@explore(...)` leaves on a test, for the plugin."""

    explorer: Explorer
    reuse: tuple[str, ...] = ()


def explore(
    scenario: Any = None,
    /,
    *,
    crashes: int = 0,
    duplicates: int = 0,
    reorder: bool = True,
    faults: int = 0,
    delays: int = 0,
    inside_activities: bool = False,
    workers: int = 1,
    duplicate_ids: Literal["same", "fresh"] = "same",
    max_schedules: int = MAX_SCHEDULES,
    budget_seconds: float = BUDGET_SECONDS,
    seed: int | None = None,
    require_exhaustive: bool = False,
    reuse: Collection[str] = (),
    schedule: Schedule | str | None = None,
    simulation: Mapping[str, Any] | None = None,
) -> Any:
    """Run a test, or `scenario(sim)`, once for each schedule, each with a fresh simulation.

    Up to `crashes` crashes, `duplicates` redeliveries, `faults` of the store and of leases, and
    `delays` of events, answers and timers strike in each; with `inside_activities` crashes also
    between two effects of one activity. All schedules are tried if that takes no more than
    `max_schedules` and `budget_seconds` (of real time), else some, by `seed`. `reuse` names
    function-scoped fixtures of the test that may be shared by all. Without a test in hand
    it returns an `Exploration` (`.tried .total .exhaustive .seed`), or raises what the scenario
    raised, with the schedule in its notes; `schedule` runs that one alone, `simulation` holds
    options of `Simulation`.
    """
    __tracebackhide__ = True
    options = Options(
        crashes=crashes,
        duplicates=duplicates,
        reorder=reorder,
        faults=faults,
        delays=delays,
        inside_activities=inside_activities,
        workers=workers,
        duplicate_ids=duplicate_ids,
    )
    explorer = Explorer(
        options,
        max_schedules=max_schedules,
        budget_seconds=budget_seconds,
        seed=seed,
        require_exhaustive=require_exhaustive,
    )
    if scenario is None:
        return _mark(Explored(explorer, tuple(reuse)))
    if {"edda_sim", "edda_async_sim"} & set(inspect.signature(scenario).parameters):
        raise Misuse(f"Write @explore() above {scenario.__name__}, with parentheses.")
    with _session():
        done = explore_with(explorer, as_test(scenario), dict(simulation or {}), schedule=schedule)
    if done.failure is not None:
        raise noted(done)
    return done


def check_crashes(
    scenario: Scenario,
    *,
    crashes: int = 1,
    inside_activities: bool = False,
    workers: int = 1,
    outcomes: Collection[Any] | None = None,
    max_schedules: int = MAX_SCHEDULES,
    budget_seconds: float = BUDGET_SECONDS,
    schedule: Schedule | str | None = None,
    simulation: Mapping[str, Any] | None = None,
) -> Exploration:
    """Run `scenario(sim)` with a crash at every point, and compare how it comes out.

    With `inside_activities` two effects of one activity have a point between them.
    What it returns, and every run's status and result, must be as without a crash, or what it
    returns must be among `outcomes`. No call is executed more often than its attempts and the
    crashes between an effect and its commit account for. Raises `CrashChangedOutcome`.
    """
    __tracebackhide__ = True
    explorer = Explorer(
        Options(
            crashes=crashes,
            inside_activities=inside_activities,
            workers=workers,
            reorder=False,
        ),
        max_schedules=max_schedules,
        budget_seconds=budget_seconds,
    )
    expected: list[Any] = []

    def judged(sim: Simulation) -> None:
        __tracebackhide__ = True
        returned = scenario(sim)
        outcome = [returned, [_outcome_of(run) for run in sim.runs]]
        _check_ledger(sim)
        if not expected:
            expected.append(outcome)
        elif outcome != expected[0] and (outcomes is None or returned not in outcomes):
            raise CrashChangedOutcome(
                f"With a crash the scenario comes out otherwise.\n"
                f"  without: {_shown(expected[0])}\n"
                f"  with it: {_shown(outcome)}\n"
                f"Make what it does safe to be done again (ctx.idempotency_key), or name what it "
                f"may return as well: check_crashes(..., outcomes=[...])."
            )

    with _session():
        plain = explore_with(explorer, judged, dict(simulation or {}), schedule=Schedule())
        if plain.failure is not None:
            raise plain.failure.error
        done = explore_with(explorer, judged, dict(simulation or {}), schedule=schedule)
    if done.failure is not None:
        raise noted(done)
    return done


def explore_with(
    explorer: Explorer,
    scenario: Scenario,
    simulation: dict[str, Any],
    *,
    schedule: Schedule | str | None = None,
) -> Exploration:
    """Explore a scenario that takes a `Simulation`. Raises nothing of the scenario's."""
    runner = _Runner(scenario, simulation)
    session = current_session.get()
    opened = [] if session is None else list(session.opened)
    if schedule is None and session is not None:
        schedule = session.options.get("schedule")
    if isinstance(schedule, str):
        schedule = Schedule.parse(schedule)
    if schedule is not None:
        source = schedule.source()
        attempt = runner(source, True)
        if attempt.error is None:
            source.check_spent()
        done = Exploration(explorer.seed or 0, tried=1, failure=attempt.failure, is_replay=True)
    else:
        done = explorer.explore(runner, _progress())
    if session is not None:
        session.explored.append(done)
        session.opened[:] = opened if done.failure is None else [*opened, done.failure.simulation]
    if schedule is not None:
        return done
    if done.failure is None:
        if done.shares == 1:  # another share may use a stub that this one does not
            runner.check_stubs()
        if explorer.require_exhaustive and not done.exhaustive:
            raise NotExhaustive(str(done), explorer.max_schedules, explorer.budget_seconds)
    return done


@dataclass(slots=True)
class _Runner:
    """Runs a scenario under one schedule after the other."""

    scenario: Scenario
    options: dict[str, Any]
    count: int = 0
    watched: set[int] = field(default_factory=set)
    stubs: dict[str, bool] = field(default_factory=dict)
    called: dict[str, None] = field(default_factory=dict)

    def __call__(self, source: Source, is_told: bool) -> Attempt:  # noqa: FBT001 - `search.Run`
        __tracebackhide__ = True  # what a test raised is shown without us
        is_replayed = is_told or self.count % REPLAY_EVERY == 0
        self.count += 1
        options = dict(self.options)
        options["replay"] = options.get("replay", True) and is_replayed
        simulation = Simulation(source, **{**options, "unused_stubs": True})
        simulation.brief(is_told=is_told, watched=self.watched)
        error = None
        try:
            with simulation:
                self.scenario(simulation)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:  # goes to the test when it was shrunk
            if _is_skip(raised):
                raise
            error = raised
        for stub in simulation.stubs:
            what = stub.describe()
            self.stubs[what] = self.stubs.get(what, False) or stub.calls > 0
        if simulation.stubs:
            self.called.update(dict.fromkeys(call.activity for call in simulation.calls()))
        return Attempt(source, error, simulation)

    def check_stubs(self) -> None:
        """Raise `UnusedStub` for those that no schedule used."""
        unused = [what for what, is_used in self.stubs.items() if not is_used]
        if unused and not self.options.get("unused_stubs"):
            raise UnusedStub(unused, list(self.called))


def as_test(scenario: Scenario) -> Scenario:
    """A scenario that takes a `Simulation`, of one that may be `async def`."""
    if not inspect.iscoroutinefunction(scenario):
        return scenario
    return lambda sim: asyncio.run(scenario(AsyncSimulation(sim)))


def noted(done: Exploration) -> BaseException:
    """What the scenario raised, with what was explored in its notes."""
    assert done.failure is not None
    error = done.failure.error
    for line in done.report:
        error.add_note(line)
    return error


def _mark(explored: Explored) -> Callable[[Any], Any]:
    def mark(test: Any) -> Any:
        setattr(test, MARK, explored)
        return test

    return mark


def _progress() -> Callable[[str], None] | None:
    """One line that is written over, where somebody watches."""
    stream = sys.__stderr__
    if stream is None or not stream.isatty():
        return None

    def show(text: str) -> None:
        stream.write(f"\r{text:<78}" if text else "\r" + " " * 78 + "\r")
        stream.flush()

    return show


@contextmanager
def _session() -> Iterator[None]:
    """What the simulations share: the frozen clock and the loop, where pytest has not set it."""
    if current_session.get() is not None:
        yield
        return
    session = Session(Freezer())
    token = current_session.set(session)
    session.freezer.hold()
    try:
        yield
    finally:
        current_session.reset(token)
        session.loops.close()
        session.freezer.release()


def _outcome_of(run: Run) -> tuple[str, str, Any]:
    error = run.error
    if error is not None:
        return run.workflow.name, run.status, (type(error), str(error))
    return run.workflow.name, run.status, run.result if run.status == "completed" else None


def _check_ledger(sim: Simulation) -> None:
    recorded: dict[tuple[str, str], int] = {}
    for run in sim.runs:
        for round, events in enumerate([*(events for _, events in run.rounds), run.history]):
            scope = f"{run.id}~{round}" if round else run.id
            for event in events:
                if isinstance(event, Answered):
                    recorded[scope, event.id] = event.attempts
                elif isinstance(event, Attempted):
                    recorded[scope, event.id] = event.attempt
    for (instance_id, id), (executed, lost) in sim.executions.items():
        most = max(1, recorded.get((instance_id, id), 1)) + lost
        assert executed <= most, (
            f"{id} of {instance_id} was executed {executed} times, and its attempts and the "
            f"crashes between its effect and its commit account for {most}."
        )


def _shown(outcome: Any) -> str:
    returned, runs = outcome
    ends = ", ".join(f"{name} {status}: {value!r}" for name, status, value in runs)
    return f"returned {returned!r}; {ends}"


def _is_skip(error: BaseException) -> bool:
    # pytest's Skipped and XFailed say something about the test, not about a schedule.
    return type(error).__module__ == "_pytest.outcomes" and type(error).__name__ != "Failed"
