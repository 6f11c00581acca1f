"""A state machine over one workflow: Hypothesis plays customer, network, time and power cut.

    class OrderMachine(WorkflowMachine):
        workflow = order
        events = {"payment.completed": PaymentCompleted}

        def setup(self, sim):
            sim.stub(charge, returns="receipt")

        @invariant()
        def charged_at_most_once(self):
            assert all(len(run.calls(charge)) <= 1 for run in self.runs)

    TestOrder = OrderMachine.TestCase

Every example has a simulation of its own, opened at its first step and closed however it ends.
A failing example is told as a story, a line a step. Rules and invariants of the subclass's own
work as in any `RuleBasedStateMachine`.
"""

import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, ClassVar

from cloudevents.core.v1.event import CloudEvent
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from edda.errors import InvalidEventError
from edda.timeline import duration_text
from edda.workflow import Workflow
from edda_testkit.errors import Misuse
from edda_testkit.replay import check_replay
from edda_testkit.runs import Run
from edda_testkit.schedule import Schedule, Source, Tape
from edda_testkit.simulation import Simulation
from edda_testkit.strategies import as_event_strategies, deviations, workflow_inputs

__all__ = ["WorkflowMachine"]

# A moment before something is due.
LEAST = timedelta(microseconds=1)


class WorkflowMachine(RuleBasedStateMachine):
    """Rules start, deliver, duplicate, delay, advance, crash, cancel and replay for a workflow.

    `events` maps types to models (or strategies of data), or lists strategies of CloudEvents.
    `schedules` (`strategies.schedules(...)`) lets the simulation choose otherwise than by default;
    a rule of its own, `turn_off`, has it do so at the next steps.
    `inputs` is a strategy of keyword arguments, or a dict that fixes some; by default they come
    from the annotations. `durations` are the seconds that time moves by, besides to the next due
    instant and to just before it. `options` go to the `Simulation`. `without` names rules that
    are not to happen.
    """

    workflow: ClassVar[Workflow[..., Any]]
    events: ClassVar[Any] = {}
    inputs: ClassVar[Any] = None
    schedules: ClassVar[st.SearchStrategy[Schedule] | None] = None
    durations: ClassVar[tuple[float, ...]] = (1, 60, 3600, 86400)
    max_runs: ClassVar[int] = 2
    options: ClassVar[Mapping[str, Any]] = {}
    without: ClassVar[frozenset[str] | set[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.schedules is not None:
            setattr(cls, "by_schedule", initialize(schedule=cls.schedules)(_follow))  # noqa: B010
            turned = rule(deviation=deviations)(_turn_off)
            setattr(cls, "turn_off", precondition(_can_turn_off)(turned))  # noqa: B010

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[CloudEvent] = []
        self.story: list[str] = []
        self._sim: Simulation | None = None
        self.source: Source | None = None  # what the simulation draws its choices from
        self._replayed: dict[str, tuple[Any, int]] = {}
        self.schedule: Schedule | None = None  # the simulation's, once `schedules` drew one

    # ---- For the subclass ----------------------------------------------------------------------

    def setup(self, sim: Simulation) -> None:
        """Set stubs, before the first step of each example."""

    def on_start(self, run: Run, inputs: dict[str, Any]) -> None:
        """Called after a run was started: a place for a model of your own to follow."""

    def on_deliver(self, event: CloudEvent, *, is_duplicate: bool, delay_seconds: float) -> None:
        """Called when an event has arrived: for the first time, again, or after a delay."""

    def on_refuse(self, event: CloudEvent) -> None:
        """Called instead when every wait refused the event's data."""

    def on_advance(self, by: timedelta) -> None:
        """Called after time moved."""

    def on_crash(self) -> None:
        """Called after every worker was killed and a new one began."""

    def on_cancel(self, run: Run) -> None:
        """Called after a run was asked to cancel."""

    @property
    def sim(self) -> Simulation:
        """This example's simulation."""
        if self._sim is None:
            if not isinstance(getattr(type(self), "workflow", None), Workflow):
                raise Misuse(f"{type(self).__name__} needs `workflow = ...`: a @workflow.")
            self.source = None if self.schedule is None else self.schedule.source()
            sim = Simulation(self.source, **{"unused_stubs": True, **self.options})
            sim.__enter__()
            self._sim = sim
            self.setup(sim)
        return self._sim

    @property
    def runs(self) -> list[Run]:
        """The runs of this example, oldest first."""
        return self.sim.runs

    @property
    def open_runs(self) -> list[Run]:
        """Those that have not finished."""
        return [run for run in self.runs if not run.is_finished]

    def tell(self, line: str) -> None:
        """Add a line to the story, for rules of your own."""
        self.story.append(line)

    def check_invariants(self, *args: Any, **kwargs: Any) -> None:
        """Check them: from the first on, the world that `setup` makes is there."""
        if self.schedules is None or self.schedule is not None:
            _ = self.sim
        super().check_invariants(*args, **kwargs)

    def teardown(self) -> None:
        """Judge the runs of a passing example, tell the story of a failing one, close."""
        sim, self._sim = self._sim, None
        try:
            if sim is not None and sys.exc_info()[1] is None:
                self._judge(sim)
            else:
                self._report(sim)
        finally:
            if sim is not None:
                sim.close()

    def _judge(self, sim: Simulation) -> None:
        is_fine = False
        try:
            sim.check()
            is_fine = True
        finally:
            if not is_fine:
                self._report(sim)

    def _report(self, sim: Simulation | None) -> None:
        lines = [f"  {number}. {line}" for number, line in enumerate(self.story, 1)]
        note("\n".join(["What happened:", *(lines or ["  nothing yet"])]))
        if sim is not None:
            if self.schedule is not None:
                note(f"schedule: {sim.schedule.token}")
            for run in sim.runs:
                note(f"{run!r}\n{run.timeline()}")

    # ---- Rules ---------------------------------------------------------------------------------

    @precondition(lambda self: self.can("start") and len(self.runs) < self.max_runs)
    @rule(inputs=st.runner().flatmap(lambda machine: machine.make_inputs()))
    def start(self, inputs: dict[str, Any]) -> None:
        """Start a run."""
        given = ", ".join(f"{name}={value!r}" for name, value in inputs.items())
        self.tell(f"start {self.workflow.name}({given})")
        self.on_start(self.sim.start(self.workflow, **inputs), inputs)

    @precondition(lambda self: self.can("deliver") and self.runs and self.events)
    @rule(event=st.runner().flatmap(lambda machine: machine.make_events()))
    def deliver(self, event: CloudEvent) -> None:
        """Send an event."""
        self.tell(f"deliver {_said(event)}")
        self._send(event)

    @precondition(lambda self: self.can("duplicate") and self.sent)
    @rule(event=st.runner().flatmap(lambda machine: st.sampled_from(machine.sent)))
    def duplicate(self, event: CloudEvent) -> None:
        """Deliver an event once more, under its id."""
        self.tell(f"deliver {_said(event)} again")
        try:
            self.sim.duplicate(event)
        except InvalidEventError:
            self.on_refuse(event)
        else:
            self.on_deliver(event, is_duplicate=True, delay_seconds=0)

    @precondition(lambda self: self.can("delay") and self.runs and self.events)
    @rule(
        event=st.runner().flatmap(lambda machine: machine.make_events()),
        seconds=st.runner().flatmap(lambda machine: st.sampled_from(machine.durations)),
    )
    def delay(self, event: CloudEvent, seconds: float) -> None:
        """Send an event that arrives later."""
        self.tell(f"send {_said(event)}, to arrive in {_length(timedelta(seconds=seconds))}")
        self.sim.call(lambda: self._send(event, seconds), after=seconds)

    @precondition(lambda self: self.can("advance") and self.runs)
    @rule(by=st.runner().flatmap(lambda machine: st.sampled_from(machine.lengths())))
    def advance(self, by: timedelta) -> None:
        """Let time go on."""
        self.tell(f"advance {_length(by)}")
        self.sim.advance(by)
        self.on_advance(by)

    @precondition(lambda self: self.can("crash") and self.open_runs)
    @rule()
    def crash(self) -> None:
        """Kill every worker; a new one begins."""
        self.tell("crash")
        self.sim.crash()
        self.on_crash()

    @precondition(lambda self: self.can("cancel") and self.open_runs)
    @rule(which=st.runner().flatmap(lambda machine: st.sampled_from(range(len(machine.open_runs)))))
    def cancel(self, which: int) -> None:
        """Ask for a run's cancellation."""
        run = self.open_runs[which]
        self.tell(f"cancel {run.label}")
        run.cancel()
        self.on_cancel(run)

    @precondition(lambda self: self.can("replay") and self.runs)
    @rule()
    def replay(self) -> None:
        """Replay every run from scratch and from every prefix."""
        self.tell("replay every run")
        for run in self.runs:
            length = len(run.history) + len(run.uncommitted)
            if self._replayed.get(run.id) != (run.workflow, length):  # it has gone on since
                check_replay(run.workflow, run.id, run.history, run.uncommitted)
                self._replayed[run.id] = run.workflow, length

    # ---- What the rules draw from --------------------------------------------------------------

    def can(self, name: str) -> bool:
        """Whether a rule may happen at all."""
        return name not in self.without

    def make_inputs(self) -> st.SearchStrategy[dict[str, Any]]:
        """The strategy of the next run's arguments."""
        if isinstance(self.inputs, st.SearchStrategy):
            return self.inputs
        return _cached_inputs(type(self))

    def make_events(self) -> st.SearchStrategy[CloudEvent]:
        """The strategy of the next event."""
        return _cached_events(type(self))

    def lengths(self) -> list[timedelta]:
        """How far time may move: to the next due instant, to just before it, or `durations`."""
        lengths = [timedelta(seconds=seconds) for seconds in self.durations]
        due = self.sim.next_due
        if due is not None and (until := due - self.sim.now) > LEAST:
            lengths = [until, until - LEAST, *lengths]
        return lengths

    def _send(self, event: CloudEvent, seconds: float = 0) -> None:
        try:
            event = self.sim.send(event)
        except InvalidEventError:
            self.on_refuse(event)
        else:
            self.sent.append(event)
            self.on_deliver(event, is_duplicate=False, delay_seconds=seconds)


def _follow(machine: WorkflowMachine, schedule: Schedule) -> None:
    """Take a schedule, before anything else."""
    machine.schedule = schedule


def _can_turn_off(machine: WorkflowMachine) -> bool:
    return machine.schedule is not None and machine.schedule.kind == "tape"


def _turn_off(machine: WorkflowMachine, deviation: tuple[int, int]) -> None:
    """Let the schedule leave the default soon, wherever in a long example that is."""
    _ = machine.sim
    if isinstance(machine.source, Tape):
        machine.source.deviate(*deviation)


@lru_cache(maxsize=64)
def _cached_inputs(machine: type[WorkflowMachine]) -> st.SearchStrategy[dict[str, Any]]:
    return workflow_inputs(machine.workflow, **(machine.inputs or {}))


@lru_cache(maxsize=64)
def _cached_events(machine: type[WorkflowMachine]) -> st.SearchStrategy[CloudEvent]:
    return st.one_of(as_event_strategies(machine.events))


def _said(event: CloudEvent) -> str:
    return f"{event.get_type()} {event.get_data()!r}"


def _length(length: timedelta) -> str:
    seconds = length.total_seconds()
    exact = f"{seconds:,.6f}".rstrip("0").rstrip(".")
    return f"{exact} s" if seconds < 3600 else f"{exact} s ({duration_text(length)})"
