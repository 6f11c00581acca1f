"""What makes a simulation go: turns, the calls they ask for, and the instants time stops at.

One move is made at a time, in the calling thread; `settle` returns when nothing can go on
without time moving. Which move comes next is decided in `_next_move` and in `fire`, by the
schedule. Its default: keep the current instance going, else first come, first served, then what
can be claimed, then the outside; at one instant what arrives comes before what is due.

Absent: what a test says (the simulation's), what can go wrong (`Chance`), and any moving of time
that was not asked for.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, cast

from edda import current
from edda.activity import Activity
from edda.app import EddaApp
from edda.attempt import attempt
from edda.commands import Failure, Result
from edda.errors import DecodingError, LeaseLost, StoreUnavailableError
from edda.events import Envelope
from edda.ports import Call as EngineCall
from edda.ports import Claimed
from edda.turn import Post, Step, Turn
from edda.workflow import Workflow
from edda_testkit.chance import Chance
from edda_testkit.clock import VirtualClock, VirtualLoop
from edda_testkit.doors import SimulatedStore, SkewedClock
from edda_testkit.errors import Misuse, Stalled
from edda_testkit.loops import Loops
from edda_testkit.runs import Run
from edda_testkit.schedule import Source
from edda_testkit.stubs import Call, Stubs
from edda_testkit.workers import Crashed, Move, Worker

__all__ = ["Driver"]

T = TypeVar("T")

# Moves at one instant, and due instants on one way, before it is taken to go on for ever.
MAX_MOVES = 100_000
MAX_INSTANTS = 100_000
# Leases end when a worker crashes or stalls, never by time.
FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


class Driver:
    """Drives one app's instances in virtual time. `broken` is raised by the next `settle`."""

    def __init__(
        self,
        app: EddaApp,
        clock: VirtualClock,
        store: SimulatedStore,
        source: Source,
        *,
        loops: Loops,
        outside_seconds: float,
    ) -> None:
        self.app = app
        self.clock = clock
        self.runs: dict[str, Run] = {}
        self.made: list[Call] = []
        self.broken: list[BaseException] = []
        self.stubs = Stubs(self.broken.append)
        self.source = source
        self.chance = Chance(store, source, clock)
        self.recovery = timedelta(0)
        self.workers: list[Worker] = []
        self._outside_seconds = outside_seconds
        self._loops = loops
        self._front: VirtualLoop | None = None
        self._turns: dict[str, Turn] = {}  # by instance, the newest
        self._fresh: set[Turn] = set()  # claimed, and not begun
        self._moves: list[Move] = []
        self._batch: list[Move] = []
        self._current = ""
        self._is_working = False
        self._is_moving = False
        store.on_wake = self.poke
        for _ in range(source.options.workers):
            self.add_worker()

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
            return  # called from within a move: whoever makes the moves goes on with it
        with self._working():
            for _ in range(MAX_MOVES):
                if self.broken:
                    raise self.broken.pop(0)
                move = self._next_move()
                if move is None:
                    return
                try:
                    move.run()
                except Crashed as crash:
                    self.die(crash.worker)
        raise Stalled(
            f"{MAX_MOVES:,} steps at {self.now.isoformat()} came to no rest",
            [],
            "Something goes on without end and without time: a wait is missing in its loop.",
        )

    def settle_with(self, batch: Sequence[Move]) -> None:
        """Let these things of the outside happen too, in an order of the schedule's choosing."""
        self._batch = list(batch)
        try:
            self.settle()
        finally:
            self._batch.clear()

    def poke(self, ids: Iterable[str]) -> None:
        """Let these instances look again, if a turn of theirs is under way."""
        for instance_id in ids:
            turn = self._turns.get(instance_id)
            if turn is not None:
                self._queue("look", turn, "", partial(self._look, turn))

    def _queue(self, kind: str, turn: Turn, name: str, run: Callable[[], None]) -> None:
        self._moves.append(Move(kind, turn.instance_id, name, run, turn))

    def _next_move(self) -> Move | None:
        chance = self.chance
        if chance.explores or not self._moves:
            self._claim()
        moves = self._moves
        if moves and not chance.explores:
            found = next((move for move in moves if move.actor == self._current), moves[0])
        else:
            options = [move for move in moves if move.actor == self._current]
            options += [move for move in moves if move.actor != self._current]
            if self._fresh:  # a turn looks at nothing before it has begun
                options = [m for m in options if m.kind == "turn" or m.turn not in self._fresh]
            options = self._at_work(options)
            if self._batch and not self._is_waiting_outside():
                options += self._batch
            picked = chance.pick(options, self._batch, self._again)
            if picked is None:
                return self._outside_move()
            found = picked
        if found in moves:
            moves.remove(found)
            self._current = found.actor
        elif found in self._batch:
            self._batch.remove(found)
        chance.note(found)
        return found

    def _at_work(self, moves: list[Move]) -> list[Move]:
        """Without those of workers that stand still."""
        idle = {turn for worker in self.workers if not worker.is_up for turn in worker.turns}
        return [move for move in moves if move.turn not in idle] if idle else moves

    def _again(self, envelope: Envelope) -> None:
        self.wait(self.app.handle_events([envelope]))

    def _outside_move(self) -> Move | None:
        if not self._is_waiting_outside():
            return None
        return Move("outside", "", "", self._wait_outside)

    def _is_waiting_outside(self) -> bool:
        return any(worker.is_waiting_outside for worker in self.workers)

    @contextmanager
    def _working(self) -> Iterator[None]:
        was_working, self._is_working = self._is_working, True
        try:
            yield
        finally:
            self._is_working = was_working

    # ---- Workers ---------------------------------------------------------------------------------

    def add_worker(self, ahead_seconds: float = 0.0) -> Worker:
        """One more worker, whose clock may differ from the store's."""
        clock = self.app.clock
        if ahead_seconds:
            ahead = timedelta(seconds=ahead_seconds)
            clock = SkewedClock(self.clock, ahead, self.app.clock.entropy)
        worker = Worker(self, len(self.workers) + 1, clock, self.clock, self._loops)
        self.workers.append(worker)
        return worker

    def _claim(self) -> None:
        """Lease what is ready: all of it when the order is to be explored, else the next."""
        names = self.app.names()
        store = self.app.store
        while up := [worker for worker in self.workers if worker.is_up]:
            if len(up) > 1:
                due = self.wait(store.next_due(names))
                if due is None or due > self.now:
                    return
            worker = up[self.chance.choose(len(up), "worker")]
            seconds = (FOR_EVER - self.now).total_seconds()
            claim = store.claim(worker.id, names, limit=1, lease_seconds=seconds)
            claimed = self.wait(claim)
            if not claimed:
                return
            self._adopt(worker, claimed[0])
            if not self.chance.explores:
                return

    def _adopt(self, worker: Worker, claimed: Claimed) -> None:
        instance_id = claimed.lease.instance_id
        old = self._turns.get(instance_id)
        if old is not None and old in worker.turns:
            self._end(old)  # its lease had lapsed: its commit would be refused
        workflow = self.app.resolve(claimed.workflow)
        turn = Turn(
            claimed,
            workflow,
            store=self.app.store,
            clock=worker.engine_clock,
            retry_policy=self.app.default_retry_policy,
            models=self.app.models,
        )
        self.run_of(instance_id, workflow)
        self._turns[instance_id] = turn
        worker.turns[turn] = None
        self._fresh.add(turn)
        self._queue("turn", turn, "", partial(self._start, turn))

    def _worker_of(self, turn: Turn) -> Worker | None:
        for worker in self.workers:
            if turn in worker.turns:
                return worker
        return None

    def _end(self, turn: Turn) -> None:
        """A turn is over, or its lease is lost: nothing of it goes on."""
        worker = self._worker_of(turn)
        turn.close()
        self.chance.lose(turn)
        self._fresh.discard(turn)
        self._moves = [move for move in self._moves if move.turn is not turn]
        if self._turns.get(turn.instance_id) is turn:
            del self._turns[turn.instance_id]
        if worker is not None:
            self._cancel(worker, worker.forget(turn))

    def _cancel(self, worker: Worker, tasks: Sequence["asyncio.Task[Any]"]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            self._run_loop(worker)

    # ---- Turns -----------------------------------------------------------------------------------

    def _start(self, turn: Turn) -> None:
        self._fresh.discard(turn)
        self._step(turn, turn.begin())

    def _look(self, turn: Turn) -> None:
        self._step(turn, turn.poke())

    def _step(self, turn: Turn, coroutine: Coroutine[Any, Any, Step]) -> None:
        worker = self._worker_of(turn)
        if worker is None:
            coroutine.close()
            return
        self.chance.at_step(worker)
        try:
            step = self.wait(coroutine)
        except LeaseLost:
            self._end(turn)
            return
        except StoreUnavailableError:  # the worker gives the turn up, and its lease lapses
            self._end(turn)
            self.lapse([turn])
            return
        gone = [worker.tasks.pop((turn, id)) for id in step.dropped if (turn, id) in worker.tasks]
        self._cancel(worker, gone)
        for call in step.calls:
            self._queue("call", turn, call.id, partial(self._begin, turn, call))
        worker.dues.pop(turn, None)
        if step.is_over:
            self._end(turn)
        elif step.due is not None:
            worker.dues[turn] = step.due + (self.now - worker.engine_clock.now())

    def lapse(self, turns: Sequence[Turn]) -> None:
        """Let leases lapse at this instant; whoever claims next takes over."""
        self.wait(self.app.store.renew([turn.lease for turn in turns], 0.0))

    # ---- Calls -----------------------------------------------------------------------------------

    def _begin(self, turn: Turn, call: EngineCall | Post) -> None:
        worker = self._worker_of(turn)
        if worker is None or call.id not in turn.in_flight:
            return  # given up before it began
        self.chance.at_call("before", worker, turn, call.id)
        self.chance.began(turn, call.id)
        if isinstance(call, Post):
            self.chance.in_call = True
            self._answer(turn, call.id, self.wait(self.app.post(call)))
            self.chance.in_call = False
            self._had_effect(worker, turn, call.id)
            return
        activity = cast("Activity[..., Any]", call.activity)
        self._note(activity, call)
        stub = self.stubs.get(activity)
        if stub is not None and stub.is_instant and activity.timeout_seconds is None:
            self.chance.in_call = True
            outcome = self.wait(attempt(call, stub, in_thread=False))
            self.chance.in_call = False
            self._answer(turn, call.id, outcome)
            self._had_effect(worker, turn, call.id)
            return
        perform = self._perform(worker, turn, call, activity.fn if stub is None else stub)
        task = worker.loop.create_task(perform, name=f"{call.instance_id}/{call.id}")
        task.add_done_callback(self._look_at)
        worker.tasks[turn, call.id] = task
        self._run_loop(worker)

    def _note(self, activity: Activity[..., Any], call: EngineCall) -> None:
        try:
            args, kwargs = activity.parameters.decode(call.arguments)
        except DecodingError:  # the attempt will fail with it
            args, kwargs = (), json.loads(call.arguments)
        self.made.append(
            Call(activity.name, args, kwargs, self.now, call.attempt, call.instance_id)
        )

    async def _perform(
        self, worker: Worker, turn: Turn, call: EngineCall, function: Callable[..., Any]
    ) -> None:
        current.enter(self.app)  # in the task's own context: another simulation may be open
        outcome = await attempt(call, function, in_thread=False)
        if worker.tasks.pop((turn, call.id), None) is not None:
            worker.ended.append((turn, call.id))
            self._answer(turn, call.id, outcome)

    def _look_at(self, task: "asyncio.Task[None]") -> None:
        # What no attempt takes for an outcome, like pytest.fail() in an activity, is the test's.
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.broken.append(error)

    def _answer(self, turn: Turn, id: str, outcome: Result | Failure) -> None:
        self._queue("answer", turn, id, lambda: self._step(turn, turn.answer(id, outcome)))

    def _had_effect(self, worker: Worker, turn: Turn, id: str) -> None:
        if self.chance.at_call("after_effect", worker, turn, id):
            self.lapse([turn])

    # ---- Time ------------------------------------------------------------------------------------

    def next_due(self, *, is_later: bool = False) -> datetime | None:
        """The next instant at which something happens by itself; `is_later` leaves out now."""
        up = [worker for worker in self.workers if worker.is_up]
        dues = [due for worker in up for due in worker.dues.values()]
        stored = self.wait(self.app.store.next_due(self.app.names()))
        if stored is not None and stored < FOR_EVER and up:  # else the clock knows who comes up
            dues.append(stored)
        called = self.clock.next_due()
        if called is not None:
            dues.append(called)
        if is_later:
            dues = [due for due in dues if due > self.now]
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
        self.ring(due)
        self.settle()

    def ring(self, due: datetime) -> None:
        """Move to a due instant: what is due there can happen from now on."""
        if due > self.now:
            self.clock.move_to(due)
        # What arrives at an instant comes before what is due at it (law M7).
        while (callback := self.clock.pop_due(self.chance.among_due)) is not None:
            callback()
            try:
                for worker in self.workers:
                    self._run_loop(worker)
            except Crashed as crash:
                self.die(crash.worker)
        self.look_at_the_time()

    def look_at_the_time(self) -> None:
        """Let turns look whose time has come."""
        for worker in self.workers:
            self.poke([turn.instance_id for turn, at in worker.dues.items() if at <= self.now])

    def go_on_with(self, move: Move) -> None:
        """It is not done: it stays the next thing that the outside does."""
        self._batch.insert(0, move)

    # ---- The activities' loops -------------------------------------------------------------------

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

    def _run_loop(self, worker: Worker) -> None:
        if not worker.has_loop or not worker.is_up:
            return
        is_idle = worker.loop.is_idle
        self.chance.in_call = True
        with self._working():
            worker.loop.run_ready()
        self.chance.in_call = False
        while worker.ended:
            self._had_effect(worker, *worker.ended.pop(0))
        if not is_idle and worker.tasks:
            self.chance.progressed()
            for turn, id in list(worker.tasks):
                if self.chance.at_call("during", worker, turn, id):
                    self.lapse([turn])

    def _wait_outside(self) -> None:
        for worker in self.workers:
            if worker.is_waiting_outside:
                worker.loop.wait_outside(self._outside_seconds)
                self._run_loop(worker)

    # ---- The end ---------------------------------------------------------------------------------

    def crash(self, worker: Worker | None = None) -> None:
        """Kill a worker, or all, with all it has in flight, and start it again."""
        if self._is_working:
            self.refuse("crash")
        self.die(worker)
        self.settle()

    def die(self, worker: Worker | None) -> None:
        """A worker, or all, is killed here; a new one is up when it has recovered."""
        for each in self.workers if worker is None else [worker]:
            gone = each.id
            self._forget(each)
            each.lives += 1
            self.wait(self.app.store.release(gone))
            each.stalled_until = None
            if self.recovery:
                each.stalled_until = self.now + self.recovery
                self.clock.call_at(each.stalled_until, lambda: None)
        self.chance.crashed(worker)
        self.wait(self.app.store.retry_stuck())

    def stall(self, worker: Worker, seconds: float) -> None:
        """Let a worker stand still; its leases lapse at once."""
        if self.is_busy:
            self.refuse("stall")
        worker.stalled_until = self.now + timedelta(seconds=seconds)
        self.clock.call_at(worker.stalled_until, lambda: None)
        self.lapse(list(worker.turns))
        self.settle()

    def retry_stuck(self) -> None:
        """What a worker does when it begins: other code may fit."""
        self.wait(self.app.store.retry_stuck())
        self.settle()

    def _forget(self, worker: Worker) -> None:
        was_open, self.app.is_open = self.app.is_open, False
        try:
            for turn in worker.turns:
                self.chance.lose(turn)
                if self._turns.get(turn.instance_id) is turn:
                    del self._turns[turn.instance_id]
            self._fresh.difference_update(worker.turns)
            self._moves = [move for move in self._moves if move.turn not in worker.turns]
            with self._working():
                worker.drop()
        finally:
            self.app.is_open = was_open

    def drop(self) -> None:
        """Drop turns and calls in flight; nothing their `finally` blocks do reaches the store."""
        if self._is_working:
            self.refuse("close")
        for worker in self.workers:
            self._forget(worker)
        self._moves.clear()
        if self._front is not None:
            self._loops.give(self._front)
            self._front = None
