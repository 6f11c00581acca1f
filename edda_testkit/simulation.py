"""A simulation: the engine, a store and a clock that moves when the test says so.

Synchronous and single-threaded. Nothing runs but what a call of the test sets going, and every
call returns when the simulation is *quiescent*: no instance has a turn to take, no activity can
go on without time moving or the outside answering. So a test neither polls nor sleeps, and
cannot hang. Time moves from due instant to due instant and fires each exactly there.

The engine is the real one: its turns, machine and stores, on three simulated doors. The order
in which things happen is decided in `_next_job` and `_fire_due`: keep the current instance
going, else first come, first served; at one instant what arrives comes before what is due.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from cloudevents.core.v1.event import CloudEvent

from edda.activity import Activity
from edda.app import EddaApp
from edda.attempt import attempt
from edda.commands import Failure, Result
from edda.errors import LeaseLost, NoAppError
from edda.events import Envelope, as_cloudevent, as_envelope
from edda.loop import call_site
from edda.ports import Call as EngineCall
from edda.ports import Status, Store
from edda.stores.memory import MemoryStore
from edda.turn import Post, Step, Turn
from edda.workflow import Workflow
from edda_testkit.clock import VirtualClock, VirtualLoop
from edda_testkit.errors import Stalled, StuckRun
from edda_testkit.freeze import Freezer
from edda_testkit.replay import check_replay
from edda_testkit.runs import Run
from edda_testkit.session import current_session
from edda_testkit.stubs import Call, Stub, Stubs
from edda_testkit.web import Http

__all__ = ["Simulation"]

T = TypeVar("T")

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Jobs and due instants in one call of the test before it is taken to go on for ever.
MAX_JOBS = 1_000_000
MAX_INSTANTS = 100_000

Job = Callable[[], None]


class SimulatedClock:
    """The engine's `Clock` door: virtual time, seeded entropy."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self.now = clock.now
        self.entropy = Random(seed).getrandbits


class RecordingSender:
    """The engine's `Sender` door: events for brokers are kept, not posted."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, CloudEvent]] = []

    async def post(self, envelope: Envelope, url: str) -> None:
        """Keep the event."""
        self.posted.append((url, as_cloudevent(envelope)))


class Simulation:
    """A world for one test. Use it as a context manager, or through the fixture `edda_sim`.

    `start` is the first instant (an aware datetime; 2000-01-01 by default, or where the test
    froze time), `seed` feeds ids and `ctx.random`. `app_options` go to its `EddaApp`. When the
    block ends well, the runs are replayed (`replay`), unused stubs reported (`unused_stubs=True`
    allows them), and with `strict_events=True` events that no run took as well.
    `outside_seconds` limits real I/O in activities, in real time.
    """

    __test__ = False

    def __init__(
        self,
        *,
        start: datetime | None = None,
        seed: int = 0,
        store: Callable[[SimulatedClock], Store] | None = None,
        app_options: Mapping[str, Any] | None = None,
        replay: bool = True,
        unused_stubs: bool = False,
        strict_events: bool = False,
        outside_seconds: float = 10.0,
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
        self._outside_seconds = outside_seconds
        self.clock = VirtualClock(start or self._freezer.foreign_now() or EPOCH)
        self.sender = RecordingSender()
        door = SimulatedClock(self.clock, seed)
        self.store: Store = (store or MemoryStore)(door)
        self.app = EddaApp(
            **{"service_name": "simulation", **(app_options or {})},
            db_url="memory://",
            worker=False,
            store=self.store,
            clock=door,
            sender=self.sender,
        )
        self.http = Http(self)
        self.runs: list[Run] = []
        self._stubs = Stubs()
        self._calls: list[Call] = []
        self._turns: dict[str, Turn] = {}
        self._dues: dict[str, datetime] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._jobs: deque[tuple[str, Job]] = deque()
        self._current = ""
        self._worker = 1
        self._sent: dict[tuple[str, str], str] = {}
        self._events_sent = 0
        self._is_settling = False
        self._loop: VirtualLoop | None = None
        self._ends: ExitStack | None = None
        self._is_checked = False

    def __repr__(self) -> str:
        return f"<Simulation at {self.now.isoformat()}: {len(self.runs)} runs>"

    def __enter__(self) -> Self:
        with ExitStack() as ends:
            if self._session is not None:
                self._session.opened.append(self)
                self._freezer.hold()
            ends.enter_context(self._freezer.project(self.clock, on_foreign_move=self.advance_to))
            self._complete(self.app.initialize())
            ends.callback(self._drop)
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self._is_checked:
                self.check()
        finally:
            self.close()

    # ---- Runs ------------------------------------------------------------------------------------

    def start(
        self,
        workflow: Workflow[..., Any],
        /,
        *args: Any,
        instance_id: str | None = None,
        **kwargs: Any,
    ) -> Run:
        """Start a workflow and let it go on as far as it can now. Does not move time."""
        self._check_open("start")
        id = self._complete(self.app.start(workflow, *args, instance_id=instance_id, **kwargs))
        run = next((run for run in self.runs if run.id == id), None)
        if run is None:
            run = Run(self, id, workflow)
            self.runs.append(run)
        self._settle()
        return run

    def run(self, until: Run | None = None) -> Run | None:
        """Skip from due instant to due instant until a run has finished, or all have.

        Raises `Stalled` when `until` waits for what can never come by itself.
        """
        self._check_open("run")
        self._settle()
        for _ in range(MAX_INSTANTS):
            if until is not None and until.is_finished:
                return until
            if not self._advance_to_next():
                break
        else:
            raise Stalled(f"after {MAX_INSTANTS:,} due instants {until or 'a run'} goes on", [])
        if until is not None:
            raise Stalled(f"{until.label} has not finished", self._all_waits())
        return None

    def cancel(self, run: Run) -> bool:
        """Ask for a run to be cancelled; False when it has finished already."""
        self._check_open("cancel")
        asked = self._complete(self.app.cancel(run.id))
        if asked:
            self._poke([run.id])
            self._settle()
        return asked

    def crash(self) -> None:
        """Kill every worker, at this instant, and start a new one.

        Coroutines and activities in flight are gone; what was committed stays, and what
        activities did to the outside stays done.
        """
        self._check_open("crash")
        self._drop()
        self._complete(self.store.release(self._worker_id))
        self._worker += 1
        self._complete(self.store.retry_stuck())
        self._settle()

    def deploy(self, workflow: Workflow[..., Any]) -> None:
        """Put other code under a workflow's name; running instances meet it at their next turn."""
        self.app.replace(workflow)
        for run in self.runs:
            if run.workflow.name == workflow.name:
                run.workflow = workflow

    # ---- Time ------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual instant: an aware datetime in UTC."""
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
        if not isinstance(duration, timedelta):
            duration = timedelta(seconds=duration)
        duration += timedelta(
            days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds
        )
        if duration < timedelta(0):
            raise ValueError(f"advance() goes forward only, and was asked for {duration}.")
        self.advance_to(self.now + duration)

    def advance_to(self, instant: datetime) -> None:
        """Move time on to an instant, an aware datetime, by way of every due instant before it."""
        self._check_open("advance_to")
        if instant < self.now:
            self.clock.move_to(instant)  # raises, and says why
        self._settle()
        for _ in range(MAX_INSTANTS):
            due = self._next_due()
            if due is None or due > instant:
                self.clock.move_to(instant)
                self._settle()
                return
            self._fire_due(due)
        raise Stalled(f"{MAX_INSTANTS:,} due instants did not reach {instant.isoformat()}", [])

    def advance_to_next(self) -> datetime:
        """Move time on to the next due instant, and return it. Raises `Stalled` without one."""
        self._check_open("advance_to_next")
        self._settle()
        if not self._advance_to_next():
            raise Stalled("advance_to_next() has no instant to go to", self._all_waits())
        return self.now

    @property
    def next_due(self) -> datetime | None:
        """The next instant at which something happens by itself."""
        return self._next_due()

    # ---- The outside world -------------------------------------------------------------------------

    def send(
        self,
        event: str | CloudEvent,
        data: Any = None,
        *,
        source: str = "test",
        subject: str | None = None,
        id: str | None = None,
        after: float | timedelta | None = None,
        at: datetime | None = None,
        **extensions: Any,
    ) -> CloudEvent:
        """Send a CloudEvent into the simulation, now or later, and return it.

        Raises `InvalidEventError` when every wait that it fits refuses its data.
        """
        if isinstance(event, CloudEvent):
            envelope = as_envelope(event.get_attributes(), event.get_data())
        else:
            self._events_sent += 1
            attributes = {
                "type": event,
                "source": source,
                "id": f"event-{self._events_sent}" if id is None else id,
                "subject": subject,
                "time": self.now,
                **extensions,
            }
            envelope = as_envelope(attributes, data)
        self._at(after, at, lambda: self._deliver(envelope))
        return as_cloudevent(envelope)

    def duplicate(self, event: CloudEvent, *, id: str | None = None) -> CloudEvent:
        """Deliver an event again: the same id, or another (`id="fresh"` makes one up)."""
        attributes = dict(event.get_attributes())
        if id is not None:
            self._events_sent += 1
            attributes["id"] = f"{attributes['id']}-{self._events_sent}" if id == "fresh" else id
        envelope = as_envelope(attributes, event.get_data())
        self._at(None, None, lambda: self._deliver(envelope))
        return as_cloudevent(envelope)

    def call(
        self,
        function: Callable[[], object],
        *,
        after: float | timedelta | None = None,
        at: datetime | None = None,
    ) -> None:
        """Call a plain function, now or at a virtual instant: the outside world's doing."""
        self._at(after, at, function)

    def stub(self, activity: Activity[..., Any], **answer: Any) -> Stub:
        """Let an activity answer `returns=`, `raises=`, `side_effect=` or `sequence=[...]`."""
        return self._stubs.add(activity, call_site(sys._getframe(1)), **answer)

    def calls(self, activity: Activity[..., Any] | None = None, run: Run | None = None) -> list[Call]:
        """The attempts made so far, of one activity, of one run, or all."""
        return [
            call
            for call in self._calls
            if (activity is None or call.activity == activity.name)
            and (run is None or call.run == run.id)
        ]

    # ---- The end -----------------------------------------------------------------------------------

    def check(self) -> None:
        """What a passing test must also satisfy: replayable runs, used stubs, nobody stuck."""
        self._is_checked = True
        for run in self.runs:
            if run.status is Status.STUCK:
                raise StuckRun(run.label, str(run.error))
        if not self._unused_stubs:
            self._stubs.check_used([call.activity for call in self._calls])
        if self._strict_events and (left := self.untaken_events()):
            raise AssertionError(
                "No run ever took these events:\n" + "\n".join(f"  {line}" for line in left)
            )
        if self._replay and self.runs:
            self._check_replays()

    def untaken_events(self) -> list[str]:
        """The events sent that no run has taken, a phrase for each."""
        taken: set[tuple[str, str]] = set()
        for run in self.runs:
            taken |= {(event.source, event.id) for event in run.received}
        return [text for key, text in self._sent.items() if key not in taken]

    def close(self) -> None:
        """Drop everything; time is real again. Doing it twice is fine."""
        if self._ends is not None:
            ends, self._ends = self._ends, None
            try:
                ends.close()
            finally:
                if self.app.is_open:
                    self._complete(self.app.shutdown())

    def _check_replays(self) -> None:
        # At another time than it ran: code that asks the machine's clock goes another way.
        elsewhere = VirtualClock(self.now + timedelta(days=3, hours=7, seconds=11))
        with self._freezer.project(elsewhere):
            for run in self.runs:
                check_replay(run.workflow, run.id, run.history)

    # ---- Quiescence ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Let everything happen that can happen at this instant."""
        if self._is_settling:
            return  # called from within a job: whoever runs the jobs goes on with it
        self._is_settling = True
        try:
            for _ in range(MAX_JOBS):
                job = self._next_job()
                if job is None:
                    return
                job()
                if self._stubs.complaint is not None:
                    raise self._stubs.complaint
            raise Stalled(f"{MAX_JOBS:,} steps at {self.now.isoformat()} came to no rest", [])
        finally:
            self._is_settling = False

    def _next_job(self) -> Job | None:
        for index, (id, job) in enumerate(self._jobs):
            if id == self._current:
                del self._jobs[index]
                return job
        if self._jobs:
            self._current, job = self._jobs.popleft()
            return job
        claimed = self._complete(
            self.store.claim(self._worker_id, self.app.names(), limit=1, lease_seconds=_FOR_EVER)
        )
        if claimed:
            turn = Turn(
                claimed[0],
                self.app.resolve(claimed[0].workflow),
                store=self.store,
                clock=self.app.clock,
                retry_policy=self.app.default_retry_policy,
                models=self.app.models,
            )
            self._current = turn.instance_id
            self._turns[turn.instance_id] = turn
            return lambda: self._step(turn, turn.begin())
        if self._loop is not None and self._loop.is_waiting_outside():
            return self._wait_outside
        return None

    def _wait_outside(self) -> None:
        assert self._loop is not None
        self._loop.wait_outside(self._outside_seconds)
        self._loop.run_ready()

    def _step(self, turn: Turn, coroutine: Coroutine[Any, Any, Step]) -> None:
        if self._turns.get(turn.instance_id) is not turn:
            coroutine.close()
            return
        try:
            step = self._complete(coroutine)
        except LeaseLost:
            step = Step(is_over=True, dropped=tuple(turn.in_flight))
        for call_id in step.dropped:
            task = self._tasks.pop((turn.instance_id, call_id), None)
            if task is not None:
                task.cancel()
                self._events_loop.run_ready()
        for call in step.calls:
            self._jobs.append((turn.instance_id, lambda call=call: self._begin(turn, call)))  # type: ignore[misc]
        self._dues.pop(turn.instance_id, None)
        if step.is_over:
            turn.close()
            del self._turns[turn.instance_id]
        elif step.due is not None:
            self._dues[turn.instance_id] = step.due

    def _poke(self, ids: Sequence[str]) -> None:
        for id in ids:
            turn = self._turns.get(id)
            if turn is not None:
                self._jobs.append((id, lambda turn=turn: self._step(turn, turn.poke())))  # type: ignore[misc]

    # ---- Calls ----------------------------------------------------------------------------------------

    def _begin(self, turn: Turn, call: EngineCall | Post) -> None:
        if call.id not in turn.in_flight or self._turns.get(turn.instance_id) is not turn:
            return  # given up before it began
        if isinstance(call, Post):
            self._answer(turn, call.id, self._complete(self.app.post(call)))
            return
        activity = cast("Activity[..., Any]", call.activity)
        args, kwargs = activity.parameters.decode(call.arguments)
        self._calls.append(
            Call(activity.name, args, kwargs, self.now, call.attempt, call.instance_id)
        )
        stub = self._stubs.get(activity)
        function = activity.fn if stub is None else stub
        if stub is not None and activity.timeout_seconds is None and not stub.is_async:
            self._answer(
                turn, call.id, self._complete(attempt(call, function, in_thread=False))
            )
            return
        task = self._events_loop.create_task(self._perform(turn, call, function))
        self._tasks[call.instance_id, call.id] = task
        self._events_loop.run_ready()

    async def _perform(
        self, turn: Turn, call: EngineCall, function: Callable[..., Any]
    ) -> None:
        outcome = await attempt(call, function, in_thread=False)
        if self._tasks.pop((call.instance_id, call.id), None) is not None:
            self._answer(turn, call.id, outcome)

    def _answer(self, turn: Turn, call_id: str, outcome: Result | Failure) -> None:
        self._jobs.append(
            (turn.instance_id, lambda: self._step(turn, turn.answer(call_id, outcome)))
        )

    # ---- Instants ---------------------------------------------------------------------------------------

    def _next_due(self) -> datetime | None:
        dues = [*self._dues.values()]
        for due in (
            self._complete(self.store.next_due(self.app.names())),
            self.clock.next_due(),
        ):
            if due is not None:
                dues.append(due)
        return max(min(dues), self.now) if dues else None

    def _advance_to_next(self) -> bool:
        due = self._next_due()
        if due is None:
            return False
        self._fire_due(due)
        return True

    def _fire_due(self, due: datetime) -> None:
        if due > self.now:
            self.clock.move_to(due)
        # What arrives at an instant comes before what is due at it (law M7).
        while (callback := self.clock.pop_due()) is not None:
            callback()
            if self._loop is not None:
                self._loop.run_ready()
        self._poke([id for id, at in self._dues.items() if at <= self.now])
        self._settle()

    def _at(
        self, after: float | timedelta | None, at: datetime | None, job: Callable[[], object]
    ) -> None:
        self._check_open("send or call")
        if after is not None and at is not None:
            raise ValueError("Give after= or at=, not both.")
        if after is None and at is None:
            job()
            self._settle()
            return
        if at is None:
            at = self.now + (after if isinstance(after, timedelta) else timedelta(seconds=after or 0))
        if at < self.now:
            raise ValueError(
                f"{at.isoformat()} lies in the past: it is {self.now.isoformat()} already."
            )
        self.clock.call_at(at, job)

    def _deliver(self, envelope: Envelope) -> None:
        delivered = self._complete(self.app.handle_events([envelope]))
        self._sent.setdefault(
            (envelope.source, envelope.id),
            f"{envelope.type} (id {envelope.id!r}), sent at {self.now.isoformat()}",
        )
        self._poke([id for one in delivered for id in one.woken])

    # ---- Doing things ------------------------------------------------------------------------------------

    @property
    def _worker_id(self) -> str:
        return f"worker-{self._worker}"

    @property
    def _events_loop(self) -> VirtualLoop:
        # Made when the first activity needs it: many tests stub them all.
        if self._loop is None:
            self._loop = VirtualLoop(self.clock)
        return self._loop

    def _complete(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that never suspends: the stores of a simulation answer at once."""
        try:
            coroutine.send(None)
        except StopIteration as end:
            return cast("T", end.value)
        coroutine.close()
        raise RuntimeError(
            f"{coroutine!r} waits for the outside. A simulation's store and clock answer at "
            f"once; give it MemoryStore or DirectSqliteStore."
        )

    def run_on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the activities' loop to its end, in real time where it must wait."""
        loop = self._events_loop
        task = loop.create_task(coroutine)
        loop.run_ready()
        while not task.done():
            loop.wait_outside(self._outside_seconds)
            loop.run_ready()
        return cast("T", task.result())

    def live_turn(self, instance_id: str) -> Turn | None:
        """The turn under way of an instance, if there is one."""
        return self._turns.get(instance_id)

    def settle(self) -> None:
        """Let everything happen that can happen at this instant."""
        self._poke(tuple(self._turns))
        self._settle()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The value of a coroutine of the app or the store."""
        return self._complete(coroutine)

    def _all_waits(self) -> list[str]:
        return [
            f"{run.label}: {waiting}"
            for run in self.runs
            if not run.is_finished
            for waiting in run.waiting_for
        ]

    def _drop(self) -> None:
        """Drop turns and calls in flight; nothing their `finally` blocks do reaches the store."""
        was_open, self.app.is_open = self.app.is_open, False
        try:
            for turn in self._turns.values():
                turn.close()
            if self._loop is not None:
                self._tasks.clear()
                self._loop.close()
        finally:
            self.app.is_open = was_open
        self._loop = None
        self._turns.clear()
        self._dues.clear()
        self._tasks.clear()
        self._jobs.clear()

    @property
    def is_open(self) -> bool:
        """Whether the simulation is entered, and not closed yet."""
        return self._ends is not None

    def _check_open(self, call: str) -> None:
        if self._ends is None:
            raise NoAppError(
                f"{call}()", "Use the simulation as a context manager: with Simulation() as sim:"
            )


# One worker: leases end when it crashes, not by time.
_FOR_EVER = timedelta(days=36_500).total_seconds()
