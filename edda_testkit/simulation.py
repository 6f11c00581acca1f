"""A simulation: the engine, a store and a clock that moves when the test says so.

Synchronous and single-threaded. Nothing runs but what a call of the test sets going, and every
call returns when the simulation is *quiescent*: no instance has a turn to take, no activity can
go on without time moving or the outside answering. So a test neither polls nor sleeps, and
cannot hang. Time moves from due instant to due instant and fires each exactly there.

The engine is the real one: its turns, machine and stores, on simulated doors. Here is what a
test says and sees; what goes on in between is the `Driver`'s.
"""

import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from edda.activity import Activity
from edda.app import EddaApp
from edda.errors import NoAppError
from edda.ports import Status, Store
from edda.stores.memory import MemoryStore
from edda.workflow import Workflow
from edda_testkit.clock import VirtualClock, as_utc
from edda_testkit.doors import RecordingSender, SimulatedClock, SimulatedStore
from edda_testkit.driver import Driver
from edda_testkit.errors import Misuse, Stalled, StuckRun
from edda_testkit.faults import Faults
from edda_testkit.freeze import Freezer
from edda_testkit.freeze_entries import Shown
from edda_testkit.freeze_stacks import stacks_in_use
from edda_testkit.golden import check_run
from edda_testkit.guard import Guard
from edda_testkit.loops import Loops
from edda_testkit.outside import Outdoors, Outside
from edda_testkit.replay import check_replay
from edda_testkit.runs import Run, waits_of
from edda_testkit.schedule import Schedule, Source, as_source
from edda_testkit.session import current_session
from edda_testkit.stubs import Stub, site_of_test
from edda_testkit.web import Http
from edda_testkit.witness import Witness

__all__ = ["Simulation"]

T = TypeVar("T")

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Due instants that run() goes through before a run is taken to go on for ever.
MAX_INSTANTS = 10_000
SEND_IT = "Send the event with sim.send(...), or give the wait a timeout."


class Simulation(Outdoors, Faults, Witness):
    """A world for one test. Use it as a context manager, or through the fixture `edda_sim`.

    `start` is the first instant (an aware datetime; 2000-01-01 by default, or where the test
    froze time), `seed` feeds ids and `ctx.random`. `app_options` go to its `EddaApp`. When the
    block ends well, the runs are replayed (`replay`), unused stubs reported (`unused_stubs=True`
    allows them), and with `strict_events=True` events that no run took as well. `guard` is
    `strict` (the default: workflow code that calls what a replay cannot repeat fails the test),
    `warn` or `off`.
    `outside_seconds` limits real I/O in activities, in real time.
    """

    __test__ = False

    def __init__(
        self,
        schedule: Schedule | Source | str | None = None,
        /,
        *,
        start: datetime | None = None,
        seed: int = 0,
        store: Callable[[SimulatedClock], Store] | None = None,
        app_options: Mapping[str, Any] | None = None,
        replay: bool = True,
        unused_stubs: bool = False,
        strict_events: bool = False,
        guard: str | None = None,
        outside_seconds: float = 10.0,
        workers: int = 1,
        recovery_seconds: float = 0.0,
        freezer: Freezer | None = None,
    ) -> None:
        session = current_session.get()
        self._session = session if freezer is None else None
        self._freezer = freezer or (Freezer() if session is None else session.freezer)
        if store is None and session is not None:
            store = session.options.get("store")
        self._replay = replay
        self._unused_stubs = unused_stubs
        self._strict_events = strict_events
        self.clock = VirtualClock(start or self._freezer.foreign_now() or EPOCH)
        self.sender = RecordingSender()
        door = SimulatedClock(self.clock, seed)
        self.store = SimulatedStore((store or MemoryStore)(door))
        self.app = EddaApp(
            **{"service_name": "simulation", **(app_options or {})},
            db_url="memory://",
            worker=False,
            store=cast("Store", self.store),
            clock=door,
            sender=self.sender,
        )
        self.http = Http(self)
        default = "strict" if session is None else session.options.get("guard", "strict")
        self._guard = Guard(default if guard is None else guard)
        self._loops = Loops() if self._session is None else self._session.loops
        source = as_source(schedule)
        self._driver = Driver(
            self.app,
            self.clock,
            self.store,
            source,
            guard=self._guard,
            loops=self._loops,
            outside_seconds=outside_seconds,
        )
        self._driver.recovery = timedelta(seconds=recovery_seconds)
        for _ in range(workers - 1):
            self._driver.add_worker()
        self._outside = Outside(self._driver)
        self._ends: ExitStack | None = None
        self._was_opened = False
        self._keeps = True

    def __repr__(self) -> str:
        return f"<Simulation at {self.clock.now().isoformat()}: {len(self.runs)} runs>"

    def __enter__(self) -> Self:
        if self._was_opened:
            raise Misuse("A Simulation is entered once: make another one.")
        self._was_opened = True
        with ExitStack() as ends:
            if self._session is not None:
                self._session.keep(self)
                self._freezer.hold()
            ends.enter_context(self._freezer.project(self.clock, on_foreign_move=self.advance_to))
            self.wait(self.app.initialize())
            if self._session is None:
                ends.callback(self._loops.close)
            ends.callback(self._driver.drop)
            for observe in () if self._session is None else self._session.observers:
                ends.callback(observe, self)
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.check()
        finally:
            self.close()

    # ---- Runs ------------------------------------------------------------------------------------

    @property
    def runs(self) -> list[Run]:
        """The instances here, oldest first, also those that code has started."""
        return list(self._driver.runs.values())

    def start(
        self,
        workflow: Workflow[..., Any],
        /,
        *args: Any,
        instance_id: str | None = None,
        **kwargs: Any,
    ) -> Run:
        """Start a workflow and let it go on as far as it can now. Does not move time."""
        self._open_for("start", is_queued=True)
        if self._outside.is_concurrent:
            return self._start_later(workflow, args, kwargs, instance_id)
        started = self.wait(self.app.start(workflow, *args, instance_id=instance_id, **kwargs))
        run = self._driver.run_of(started, workflow)
        self._driver.settle()
        return run

    def run(self, until: Run | None = None) -> Run | None:
        """Skip from due instant to due instant until a run has finished, or all have.

        Raises `Stalled` when `until` waits for what can never come by itself.
        """
        self._open_for("run")
        with self._driver.moving("run"):
            for _ in range(MAX_INSTANTS):
                if until is not None and until.is_finished:
                    return until
                if until is not None and until.status is Status.STUCK:
                    raise StuckRun(until.label, str(until.error))
                due = self._driver.next_due()
                if due is None:
                    break
                self._driver.fire(self._driver.late(due))
            else:
                raise Stalled(
                    f"After {MAX_INSTANTS:,} due instants {until or 'a run'} still goes on, and it "
                    f"is {self.now.isoformat()}",
                    waits_of(self.runs),
                    "advance(...) goes to an instant and stops there.",
                )
        if until is not None:
            raise Stalled(
                f"Nothing is due any more, and {until.label} has not finished. What is waited for",
                waits_of(self.runs),
                SEND_IT,
            )
        return None

    def cancel(self, run: Run) -> bool:
        """Ask for a run to be cancelled; False when it has finished already."""
        self._open_for("cancel", is_queued=True)
        if not self._outside.is_concurrent:
            return self._driver.cancel(run)
        is_open = not run.is_finished
        cancel = lambda: self.wait(self.app.cancel(run.id))  # noqa: E731
        self._outside.happen(None, cancel, f"cancel {run.id}", needs=run.id)
        return is_open

    def deploy(self, workflow: Workflow[..., Any]) -> None:
        """Put other code under a workflow's name; instances meet it at their next turn.

        Stuck ones are tried again at once.
        """
        self._open_for("deploy")
        found = [run for run in self.runs if run.workflow.name == workflow.name]
        if not found:
            names = ", ".join(sorted({run.workflow.name for run in self.runs})) or "none"
            raise Misuse(
                f"deploy() puts other code under runs of the same name, and there is none of "
                f"{workflow.name!r}; there are: {names}. Name it: @workflow(name=...)."
            )
        self.app.replace(workflow)
        for run in found:
            run.workflow = workflow
        self._driver.retry_stuck()

    # ---- Time ------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual instant: an aware datetime in UTC."""
        if self._ends is not None:
            self._adopt()
        return self.clock.now()

    def advance(
        self,
        duration: float | timedelta = 0,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        milliseconds: float = 0,
    ) -> None:
        """Move time on by a number of seconds, a `timedelta`, or `days= hours= ...`.

        Stops at every due instant on the way, and ends exactly at its target.
        """
        if not isinstance(duration, timedelta | int | float):
            raise TypeError(
                f"advance() takes seconds, a timedelta, or minutes=5, hours=1, days=2 and the "
                f"like, and got {duration!r}."
            )
        if not isinstance(duration, timedelta):
            duration = timedelta(seconds=duration)
        duration += timedelta(
            days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds
        )
        if duration < timedelta(0):
            raise ValueError(f"advance() goes forward only, and was asked for {duration}.")
        if self._outside.is_concurrent:
            self._open_for("advance", is_queued=True)
            self._outside.advance(duration)
        else:
            self.advance_to(self.now + duration)

    def advance_to(self, instant: datetime) -> None:
        """Move time on to an instant, an aware datetime, by way of every due instant before it."""
        self._open_for("advance_to")
        instant = as_utc(instant)
        with self._driver.moving("advance"):
            self._driver.advance_to(instant)

    def advance_to_next(self) -> datetime:
        """Move time on to the next due instant, and return it. Raises `Stalled` without one."""
        self._open_for("advance_to_next")
        with self._driver.moving("advance_to_next"):
            due = self._driver.next_due()
            if due is None:
                raise Stalled(
                    "Nothing is due any more. What is waited for",
                    waits_of(self.runs),
                    SEND_IT,
                )
            self._driver.fire(due)
        return self.clock.now()

    @property
    def next_due(self) -> datetime | None:
        """The next instant at which something happens by itself."""
        return self._driver.next_due()

    # ---- The outside world -----------------------------------------------------------------------

    def stub(self, activity: Activity[..., Any], **answer: Any) -> Stub:
        """Let an activity answer `returns=`, `raises=`, `side_effect=` or `sequence=[...]`."""
        return self._driver.stubs.add(activity, site_of_test(inspect.currentframe()), **answer)

    # ---- The end ---------------------------------------------------------------------------------

    def check(self) -> None:
        """What a passing test must also satisfy: replayable runs, used stubs, nobody stuck."""
        if self._driver.broken:
            raise self._driver.broken.pop(0)
        for run in self.runs:
            if run.status is Status.STUCK:
                raise StuckRun(run.label, str(run.error))
        self._check_struck()
        self._driver.source.check_spent()
        if self.stubs and not self._unused_stubs:
            self._driver.stubs.check_used([call.activity for call in self.calls()])
        if self._strict_events and (left := self.untaken_events()):
            raise AssertionError(
                "No run ever took these events:\n" + "\n".join(f"  {line}" for line in left)
            )
        if self._replay and self.runs:
            # At another time than it ran: code that asks the machine's clock goes another way.
            elsewhere = VirtualClock(self.now + timedelta(days=3, hours=7, seconds=11))
            with self._freezer.project(elsewhere):
                for run in self.runs:
                    if run.id in self._driver.abandoned:
                        continue  # the test has been told why
                    for workflow, events in run.rounds:
                        check_replay(workflow, run.id, events, (), self._guard)
                    check_replay(run.workflow, run.id, run.history, run.uncommitted, self._guard)

    def close(self) -> None:
        """Drop everything; time is real again. Doing it twice is fine."""
        if self._ends is not None:
            ends, self._ends = self._ends, None
            for run in self.runs if self._keeps else ():
                run.keep()  # what it was can still be read when the store is gone
            try:
                ends.close()
            finally:
                if self.app.is_open:
                    self.wait(self.app.shutdown())

    @property
    def is_open(self) -> bool:
        """Whether the simulation is entered, and not closed yet."""
        return self._ends is not None

    def golden(
        self, name: str, *, run: Run | None = None, directory: Any = None, update: bool = False
    ) -> None:
        """Compare a run's history with the file `histories/<workflow>/<name>.json`.

        The folder `histories` is beside the test, or `directory`. `run` may be left out where
        there is only one. `update`, like `--edda-update`, writes the file. Raises `GoldenMismatch`.
        """
        __tracebackhide__ = True
        check_run(self.runs, name, run, self._session, directory=directory, update=update)

    # ---- For the rooms beside --------------------------------------------------------------------

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The value of a coroutine of the app or the store."""
        return self._driver.wait(coroutine)

    def exchange(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The value of a coroutine that may wait for the outside, and all that followed it."""
        self._open_for("http")
        value = self._driver.run_on_loop(coroutine)
        self._driver.settle()
        return value

    # ---- Helpers ---------------------------------------------------------------------------------

    def _start_later(
        self, workflow: Workflow[..., Any], args: Any, kwargs: Any, instance_id: str | None
    ) -> Run:
        self.app.bind(workflow)
        workflow.parameters.accept(args, kwargs)  # what does not fit is said here and now
        wanted = instance_id or f"{workflow.name}-{self.app.clock.entropy(128):032x}"
        run = Run(self._driver, wanted, workflow, queued_at=self.now)
        run = self._driver.runs.setdefault(wanted, run)
        starting = lambda: self.wait(  # noqa: E731
            self.app.start(workflow, *args, instance_id=wanted, **kwargs)
        )
        self._outside.happen(None, starting, f"start {wanted}", starts=wanted)
        return run

    def _open_for(self, verb: str, *, is_queued: bool = False) -> None:
        if self._outside.is_concurrent and not is_queued:
            raise Misuse(
                f"{verb}() cannot be queued: concurrently() takes start, send, duplicate, "
                f"publish, send_to, call, advance, cancel and crash. Call it after the block."
            )
        if self._ends is None:
            raise NoAppError(
                f"{verb}()", "Use the simulation as a context manager: with Simulation() as sim:"
            )
        self._adopt()

    def _adopt(self) -> None:
        """Stand in for a freeze that the test began after this simulation."""
        if self._ends is None or self._freezer.backend == "off" or self._driver.is_busy:
            return
        for stack in stacks_in_use():
            if not isinstance(stack.entries[-1], Shown):
                target = stack.now_of(stack.entries[-1])
                if target < self.clock.now():
                    self.clock.move_to(target)  # raises, and says why
                self._ends.enter_context(
                    self._freezer.project(self.clock, on_foreign_move=self.advance_to)
                )
                self.advance_to(target)
            return
