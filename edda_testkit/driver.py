"""What makes a simulation go: turns, the calls they ask for, and the instants time stops at.

One instance goes on at a time, one job at a time, in the calling thread; `settle` returns when
nothing can go on without time moving. The order is decided in `_next_job` and `fire`: keep the
current instance going, else first come, first served; at one instant what arrives comes before
what is due.

Absent: what a test says (the simulation's), and any moving of time that was not asked for.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from edda import current
from edda.activity import Activity
from edda.app import EddaApp
from edda.attempt import attempt
from edda.commands import Failure, Result
from edda.errors import DecodingError, LeaseLost
from edda.ports import Call as EngineCall
from edda.turn import Post, Step, Turn
from edda.workflow import Workflow
from edda_testkit.clock import VirtualClock, VirtualLoop
from edda_testkit.errors import Misuse, Stalled
from edda_testkit.loops import Loops
from edda_testkit.runs import Run
from edda_testkit.stubs import Call, Stubs

__all__ = ["Driver"]

T = TypeVar("T")
Job = Callable[[], None]

# Jobs at one instant, and due instants on one way, before it is taken to go on for ever.
MAX_JOBS = 100_000
MAX_INSTANTS = 100_000
# Leases end when a worker crashes, never by time.
FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


class Driver:
    """Drives one app's instances in virtual time. `broken` is raised by the next `settle`."""

    def __init__(
        self, app: EddaApp, clock: VirtualClock, loops: Loops, outside_seconds: float
    ) -> None:
        self.app = app
        self.clock = clock
        self.runs: dict[str, Run] = {}
        self.made: list[Call] = []
        self.broken: list[BaseException] = []
        self.stubs = Stubs(self.broken.append)
        self._loops = loops
        self._outside_seconds = outside_seconds
        self._turns: dict[str, Turn] = {}
        self._dues: dict[str, datetime] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._jobs: deque[tuple[str, Job]] = deque()
        self._current = ""
        self._worker = 1
        self._loop: VirtualLoop | None = None
        self._is_working = False
        self._is_moving = False

    @property
    def is_busy(self) -> bool:
        """Whether this is asked from within what the simulation runs."""
        return self._is_working or self._is_moving

    # ---- What runs see ---------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual instant."""
        return self.clock.now()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
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

    def live_turn(self, instance_id: str) -> Turn | None:
        """The turn under way of an instance, if there is one."""
        return self._turns.get(instance_id)

    def calls(
        self, activity: Activity[..., Any] | None = None, run: Run | None = None
    ) -> list[Call]:
        """The attempts made so far, of one activity, of one run, or all."""
        return [
            call
            for call in self.made
            if (activity is None or call.activity == activity.name)
            and (run is None or call.run == run.id)
        ]

    def cancel(self, run: Run) -> bool:
        """Ask for a run to be cancelled; False when it has finished already."""
        asked = self.wait(self.app.cancel(run.id))
        self.settle()
        return asked

    def run_of(self, instance_id: str, workflow: Workflow[..., Any]) -> Run:
        """What the test holds of an instance; one that code started gets its run here too."""
        run = self.runs.get(instance_id)
        if run is None:
            run = self.runs[instance_id] = Run(self, instance_id, workflow)
        return run

    # ---- Quiescence ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything happen that can happen at this instant."""
        if self._is_working:
            return  # called from within a job: whoever runs the jobs goes on with it
        with self._working():
            for _ in range(MAX_JOBS):
                if self.broken:
                    raise self.broken.pop(0)
                job = self._next_job()
                if job is None:
                    return
                job()
        raise Stalled(
            f"{MAX_JOBS:,} steps at {self.now.isoformat()} came to no rest",
            [],
            "Something goes on without end and without time: a wait is missing in its loop.",
        )

    def poke(self, ids: Iterable[str]) -> None:
        """Let these instances look again, if a turn of theirs is under way."""
        for instance_id in ids:
            turn = self._turns.get(instance_id)
            if turn is not None:
                self._jobs.append((instance_id, lambda turn=turn: self._step(turn, turn.poke())))  # type: ignore[misc]

    def _next_job(self) -> Job | None:
        for index, (instance_id, job) in enumerate(self._jobs):
            if instance_id == self._current:
                del self._jobs[index]
                return job
        if self._jobs:
            self._current, job = self._jobs.popleft()
            return job
        claimed = self.wait(
            self.app.store.claim(
                self.worker_id,
                self.app.names(),
                limit=1,
                lease_seconds=(FOR_EVER - self.now).total_seconds(),
            )
        )
        if claimed:
            return lambda: self._begin_turn(claimed[0])
        if self._loop is not None and self._loop.is_waiting_outside():
            return self._wait_outside
        return None

    @contextmanager
    def _working(self) -> Iterator[None]:
        was_working, self._is_working = self._is_working, True
        try:
            yield
        finally:
            self._is_working = was_working

    # ---- Turns -----------------------------------------------------------------------------------

    @property
    def worker_id(self) -> str:
        """The one worker that lives now."""
        return f"worker-{self._worker}"

    def _begin_turn(self, claimed: Any) -> None:
        workflow = self.app.resolve(claimed.workflow)
        turn = Turn(
            claimed,
            workflow,
            store=self.app.store,
            clock=self.app.clock,
            retry_policy=self.app.default_retry_policy,
            models=self.app.models,
        )
        self.run_of(turn.instance_id, workflow)
        self._current = turn.instance_id
        self._turns[turn.instance_id] = turn
        self._step(turn, turn.begin())

    def _step(self, turn: Turn, coroutine: Coroutine[Any, Any, Step]) -> None:
        if self._turns.get(turn.instance_id) is not turn:
            coroutine.close()
            return
        try:
            step = self.wait(coroutine)
        except LeaseLost:
            step = Step(is_over=True, dropped=tuple(turn.in_flight))
        for call_id in step.dropped:
            task = self._tasks.pop((turn.instance_id, call_id), None)
            if task is not None:
                task.cancel()
                self._run_loop()
        for call in step.calls:
            self._jobs.append((turn.instance_id, lambda call=call: self._begin(turn, call)))  # type: ignore[misc]
        self._dues.pop(turn.instance_id, None)
        if step.is_over:
            turn.close()
            del self._turns[turn.instance_id]
        elif step.due is not None:
            self._dues[turn.instance_id] = step.due

    # ---- Calls -----------------------------------------------------------------------------------

    def _begin(self, turn: Turn, call: EngineCall | Post) -> None:
        if call.id not in turn.in_flight or self._turns.get(turn.instance_id) is not turn:
            return  # given up before it began
        if isinstance(call, Post):
            self._answer(turn, call.id, self.wait(self.app.post(call)))
            return
        activity = cast("Activity[..., Any]", call.activity)
        self._note(activity, call)
        stub = self.stubs.get(activity)
        if stub is not None and stub.is_instant and activity.timeout_seconds is None:
            outcome = self.wait(attempt(call, stub, in_thread=False))
            self._answer(turn, call.id, outcome)
            return
        perform = self._perform(turn, call, activity.fn if stub is None else stub)
        task = self.loop.create_task(perform, name=f"{call.instance_id}/{call.id}")
        task.add_done_callback(self._look_at)
        self._tasks[call.instance_id, call.id] = task
        self._run_loop()

    def _note(self, activity: Activity[..., Any], call: EngineCall) -> None:
        try:
            args, kwargs = activity.parameters.decode(call.arguments)
        except DecodingError:  # the attempt will fail with it
            args, kwargs = (), json.loads(call.arguments)
        self.made.append(
            Call(activity.name, args, kwargs, self.now, call.attempt, call.instance_id)
        )

    async def _perform(self, turn: Turn, call: EngineCall, function: Callable[..., Any]) -> None:
        current.enter(self.app)  # in the task's own context: another simulation may be open
        outcome = await attempt(call, function, in_thread=False)
        if self._tasks.pop((call.instance_id, call.id), None) is not None:
            self._answer(turn, call.id, outcome)

    def _look_at(self, task: asyncio.Task[None]) -> None:
        # What no attempt takes for an outcome, like pytest.fail() in an activity, is the test's.
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.broken.append(error)

    def _answer(self, turn: Turn, call_id: str, outcome: Result | Failure) -> None:
        self._jobs.append(
            (turn.instance_id, lambda: self._step(turn, turn.answer(call_id, outcome)))
        )

    # ---- Time ------------------------------------------------------------------------------------

    def next_due(self) -> datetime | None:
        """The next instant at which something happens by itself."""
        dues = list(self._dues.values())
        stored = self.wait(self.app.store.next_due(self.app.names()))
        if stored is not None and stored < FOR_EVER:
            dues.append(stored)
        called = self.clock.next_due()
        if called is not None:
            dues.append(called)
        return max(min(dues), self.now) if dues else None

    @contextmanager
    def moving(self, verb: str) -> Iterator[None]:
        """Time moves in this block, and in no other meanwhile."""
        if self.is_busy:
            self.refuse(verb)
        self._is_moving = True
        try:
            self.settle()
            yield
        finally:
            self._is_moving = False

    def refuse(self, verb: str) -> None:
        """Raise `Misuse`, here and, should an activity swallow it, in the test."""
        error = Misuse(
            f"{verb}() was called by code that the simulation itself was running, an activity, a "
            f"stub or sim.call(). Call it from the test; an activity that takes time awaits "
            f"asyncio.sleep(seconds)."
        )
        if self._is_working:
            self.broken.append(error)
        raise error

    def advance_to(self, instant: datetime) -> None:
        """Move on to an instant, by way of every due instant before it."""
        for _ in range(MAX_INSTANTS):
            due = self.next_due()
            if due is None or due > instant:
                self.clock.move_to(instant)
                self.settle()
                return
            self.fire(due)
        raise Stalled(
            f"{MAX_INSTANTS:,} due instants did not reach {instant.isoformat()}",
            [],
            f"It is {self.now.isoformat()}: something is due again and again.",
        )

    def fire(self, due: datetime) -> None:
        """Move to a due instant and let everything happen there."""
        if due > self.now:
            self.clock.move_to(due)
        # What arrives at an instant comes before what is due at it (law M7).
        while (callback := self.clock.pop_due()) is not None:
            callback()
            self._run_loop()
        self.poke([each for each, at in self._dues.items() if at <= self.now])
        self.settle()

    # ---- The activities' loop --------------------------------------------------------------------

    @property
    def loop(self) -> VirtualLoop:
        """Made when the first activity needs it: many tests stub them all."""
        if self._loop is None:
            self._loop = self._loops.take(self.clock)
        return self._loop

    def run_on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the activities' loop to its end, in real time where it must wait."""
        task = self.loop.create_task(coroutine)
        self._run_loop()
        while not task.done():
            if not self.loop.is_waiting_outside():
                task.cancel()
                self._run_loop()
                raise Stalled(
                    "A request is not answered while time stands still",
                    [],
                    "Its handler waits for something that only the test can set going.",
                )
            self._wait_outside()
        return cast("T", task.result())

    def _run_loop(self) -> None:
        if self._loop is not None:
            with self._working():
                self._loop.run_ready()

    def _wait_outside(self) -> None:
        self.loop.wait_outside(self._outside_seconds)
        self._run_loop()

    # ---- The end ---------------------------------------------------------------------------------

    def crash(self) -> None:
        """End this worker, with all it has in flight, and let a new one begin."""
        self.drop()
        self.wait(self.app.store.release(self.worker_id))
        self._worker += 1
        self.retry_stuck()

    def retry_stuck(self) -> None:
        """What a worker does when it begins: other code may fit."""
        self.wait(self.app.store.retry_stuck())
        self.settle()

    def drop(self) -> None:
        """Drop turns and calls in flight; nothing their `finally` blocks do reaches the store."""
        if self._is_working:
            self.refuse("crash")
        was_open, self.app.is_open = self.app.is_open, False
        try:
            for turn in self._turns.values():
                turn.close()
            self._tasks.clear()
            if self._loop is not None:
                with self._working():
                    self._loops.give(self._loop)
        finally:
            self.app.is_open = was_open
            self._loop = None
            self._turns.clear()
            self._dues.clear()
            self._jobs.clear()
