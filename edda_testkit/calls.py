"""The calls of a simulation: attempts of activities, and the loops they run on.

A call that is stubbed with a value is answered at once; any other is a task on its worker's
loop. By default a loop runs until it can do no more; when the order is explored, each step of a
task is a move of its own. Absent: turns (`crew`), and which move comes next (`driver`).
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast

from edda import current
from edda.activity import Activity
from edda.app import EddaApp
from edda.attempt import attempt
from edda.commands import Failure, Result
from edda.errands import Errand
from edda.errors import DecodingError
from edda.ports import Call as EngineCall
from edda.turn import Step, Turn
from edda_testkit.between import between_effects
from edda_testkit.chance import Chance
from edda_testkit.clock import VirtualClock, VirtualLoop, off_the_loop, sleep_of
from edda_testkit.doors import SimulatedStore
from edda_testkit.errors import Stalled
from edda_testkit.guard import Guard
from edda_testkit.loops import Loops
from edda_testkit.runs import Run
from edda_testkit.schedule import Source
from edda_testkit.stubs import Call, Stubs
from edda_testkit.workers import Move, Worker

__all__ = ["MOMENT", "Calls"]

# How far after what is due a late thing comes.
MOMENT = timedelta(microseconds=1)

T = TypeVar("T")


class Calls:
    """Makes the calls that turns ask for. `broken` is raised by the next `settle`."""

    def __init__(
        self,
        app: EddaApp,
        clock: VirtualClock,
        store: SimulatedStore,
        source: Source,
        *,
        guard: Guard,
        loops: Loops,
        outside_seconds: float,
    ) -> None:
        self.app = app
        self.clock = clock
        self.store = store
        self.source = source
        self.guard = guard
        self.chance = Chance(store, source, clock)
        self.workers: list[Worker] = []
        self._attempts: list[tuple[EngineCall, datetime]] = []
        self.broken: list[BaseException] = []
        self.stubs = Stubs(self.broken.append)
        self._outside_seconds = outside_seconds
        self._loops = loops
        self._front: VirtualLoop | None = None
        self._moves: list[Move] = []
        self.is_working = False

    @property
    def now(self) -> datetime:
        """The virtual instant."""
        return self.clock.now()

    def _worker_of(self, turn: Turn) -> Worker | None:
        raise NotImplementedError

    def next_due(self, *, is_later: bool = False) -> datetime | None:
        """The next instant at which something happens by itself; `is_later` leaves out now."""
        raise NotImplementedError

    def _step(self, turn: Turn, coroutine: Coroutine[Any, Any, Step]) -> None:
        raise NotImplementedError

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that never suspends: the stores of a simulation answer at once."""
        try:
            coroutine.send(None)
        except StopIteration as end:
            value: T = end.value
            return value
        coroutine.close()
        raise RuntimeError(
            f"{coroutine!r} waits for the outside. A simulation's store and clock answer at "
            f"once; give it MemoryStore or DirectSqliteStore."
        )

    def calls(
        self, activity: Activity[..., Any] | None = None, run: Run | None = None
    ) -> list[Call]:
        """The attempts made so far, of one activity, of one run, or all."""
        return [
            _as_call(call, at)
            for call, at in self._attempts
            if (activity is None or call.activity.name == activity.name)
            and (run is None or call.instance_id == run.id)
        ]

    def _begin(self, turn: Turn, call: EngineCall | Errand) -> None:
        worker = self._worker_of(turn)
        if worker is None or call.id not in turn.in_flight:
            return  # given up before it began
        self.chance.at_call("before", worker, turn, call.id)
        self.chance.began(turn, call.id)
        if not isinstance(call, EngineCall):
            self.chance.in_call = True
            self._answer(turn, call.id, self.wait(self.app.run_errand(call)))
            self.chance.in_call = False
            self._had_effect(worker, turn, call.id)
            return
        activity = cast("Activity[..., Any]", call.activity)
        self._attempts.append((call, self.now))
        stub = self.stubs.get(activity)
        is_plain = activity.timeout_seconds is None and not activity.is_transactional
        if stub is not None and stub.is_instant and is_plain:
            self.chance.in_call = True
            outcome = self.wait(attempt(call, stub, in_thread=False))
            self.chance.in_call = False
            self._answer(turn, call.id, outcome)
            self._had_effect(worker, turn, call.id)
            return
        function = activity.fn if stub is None else stub
        if stub is None and self.chance.strikes_inside:
            function = between_effects(function, partial(self.chance.between, worker))
        if not activity.is_async:
            function = off_the_loop(function)
        perform = self._perform(worker, turn, call, function)
        task = worker.loop.create_task(perform, name=f"{call.instance_id}/{call.id}")
        task.add_done_callback(self._look_at)
        worker.tasks[turn, call.id] = task
        self._run_loop(worker, task)

    async def _perform(
        self, worker: Worker, turn: Turn, call: EngineCall, function: Callable[..., Any]
    ) -> None:
        current.enter(self.app)  # in the task's own context: another simulation may be open
        if call.activity.is_transactional:
            await self._transact(worker, turn, call, function)
            return
        outcome = await attempt(call, function, in_thread=False)
        if worker.tasks.pop((turn, call.id), None) is not None:
            worker.ended.append((turn, call.id))
            self._answer(turn, call.id, outcome)

    async def _transact(
        self, worker: Worker, turn: Turn, call: EngineCall, function: Callable[..., Any]
    ) -> None:
        """Make an attempt in a transaction that commits its answer."""
        key = (turn, call.id)
        async with self.store.transaction() as transaction:
            mine = replace(call, connection=transaction.connection)
            outcome = await attempt(mine, function, in_thread=False)
            if isinstance(outcome, Result):
                self.chance.in_transaction(worker, turn, call.id)
                if worker.tasks.pop(key, None) is not None:
                    self._step(turn, turn.answer(call.id, outcome, transaction))
                return
            await transaction.rollback()
        if worker.tasks.pop(key, None) is not None:
            worker.ended.append(key)
            self._answer(turn, call.id, outcome)

    def _look_at(self, task: "asyncio.Task[None]") -> None:
        # What no attempt takes for an outcome, like pytest.fail() in an activity, is the test's.
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.broken.append(error)

    def _answer(self, turn: Turn, id: str, outcome: Result | Failure) -> None:
        def answer() -> None:
            self._queue("answer", turn, id, lambda: self._step(turn, turn.answer(id, outcome)))

        due = self.next_due() if self.chance.delays else None
        if due is not None and self.chance.delay(f"answer {id} of {turn.instance_id}"):
            self.clock.call_at(due + MOMENT, lambda: answer() if id in turn.in_flight else None)
        else:
            answer()

    def takes_longer(self, callback: Callable[[], object]) -> bool:
        """Whether the sleep of an activity that ends here is to last past what is due next.

        It stands for the time that a service takes, and that is never certain.
        """
        timer = sleep_of(callback) if self.chance.delays else None
        due = None if timer is None else self.next_due(is_later=True)
        if timer is None or due is None or not self.chance.delay(f"the sleep in {timer.sleeper}"):
            return False
        timer.entry = self.clock.call_at(due + MOMENT, callback)
        return True

    def _had_effect(self, worker: Worker, turn: Turn, id: str) -> None:
        if self.chance.at_call("after_effect", worker, turn, id):
            self.lapse([turn])

    def _run_loop(self, worker: Worker, task: "asyncio.Task[Any] | None" = None) -> None:
        """Let activities go on: all that can, or when the order is explored, `task` for a step."""
        if not worker.has_loop or not worker.is_up or worker.loop.is_idle:
            return
        self.chance.in_call = True
        with self._working():
            if self.chance.explores:
                worker.loop.run_step(task)
            else:
                worker.loop.run_ready()
        self.chance.in_call = False
        if self.broken:
            return
        while worker.ended:
            self._had_effect(worker, *worker.ended.pop(0))
        if worker.tasks:
            self.chance.progressed()
            for turn, id in list(worker.tasks):
                if self.chance.at_call("during", worker, turn, id):
                    self.lapse([turn])

    def _awaiting(self) -> list[Move]:
        """A move for each task of an activity that can go on."""
        moves = []
        for worker in self.workers:
            if worker.has_loop and worker.is_up and not worker.loop.is_idle:
                for task in worker.loop.ready_tasks:
                    actor, _, name = task.get_name().partition("/")
                    run = partial(self._run_loop, worker, task)
                    moves.append(Move("await", actor, name, run))
        return moves

    def _wait_outside(self) -> None:
        for worker in self.workers:
            if worker.is_waiting_outside:
                worker.loop.wait_outside(self._outside_seconds)
                self._run_loop(worker)

    def _is_waiting_outside(self) -> bool:
        return any(worker.is_waiting_outside for worker in self.workers)

    def run_on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine at the front door to its end, in real time where it must wait."""
        if self._front is None:
            self._front = self._loops.take(self.clock)
        loop = self._front
        with self._working():
            task = loop.create_task(coroutine)
            loop.run_ready()
            while not task.done():
                if not loop.is_waiting_outside():
                    task.cancel()
                    loop.run_ready()
                    raise Stalled(
                        "A request is not answered while time stands still",
                        [],
                        "Its handler waits for something that only the test can set going.",
                    )
                loop.wait_outside(self._outside_seconds)
                loop.run_ready()
        return cast("T", task.result())

    def _working(self) -> "_Working":
        return _Working(self)

    def _queue(self, kind: str, turn: Turn, name: str, run: Callable[[], None]) -> None:
        self._moves.append(Move(kind, turn.instance_id, name, run, turn))

    def lapse(self, turns: Sequence[Turn]) -> None:
        """Let leases lapse at this instant; whoever claims next takes over."""
        self.wait(self.app.store.renew([turn.lease for turn in turns], 0.0))


def _as_call(call: EngineCall, at: datetime) -> Call:
    try:
        args, kwargs = call.activity.parameters.decode(call.arguments)
    except DecodingError:  # the attempt has failed with it
        args, kwargs = (), json.loads(call.arguments)
    return Call(call.activity.name, args, kwargs, at, call.attempt, call.instance_id)


class _Working:
    """A block in which the simulation runs something."""

    __slots__ = ("_calls", "_was_working")

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __enter__(self) -> None:
        calls = self._calls
        self._was_working, calls.is_working = calls.is_working, True

    def __exit__(self, *_: object) -> None:
        self._calls.is_working = self._was_working
