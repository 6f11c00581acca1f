"""The crew of a simulation: its workers, the instances they claim, and the turns they drive.

A worker dies with all it has in flight; what was committed stays. Leases end when their worker
dies, stalls or is made to lose them, and never by time alone.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from edda.errors import LeaseLost, StoreUnavailableError
from edda.ports import Claimed
from edda.turn import Step, Turn
from edda.workflow import Workflow
from edda_testkit.calls import Calls
from edda_testkit.doors import SkewedClock
from edda_testkit.errors import NondeterminismWarning, NondeterministicCall
from edda_testkit.runs import Run
from edda_testkit.workers import Worker

__all__ = ["FOR_EVER", "Crew"]

FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


class Crew(Calls):
    """Claims instances and drives their turns, each step a move."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.runs: dict[str, Run] = {}
        self.recovery = timedelta(0)
        self._turns: dict[str, Turn] = {}  # by instance, the newest
        self._fresh: set[Turn] = set()  # claimed, and not begun
        self.abandoned: set[str] = set()
        self.is_moving = False
        self._claimed_at: tuple[int, datetime] | None = None  # when nothing was left to claim
        self.store.on_wake = self.poke
        for _ in range(self.source.options.workers):
            self.add_worker()

    def run_of(self, instance_id: str, workflow: Workflow[..., Any]) -> Run:
        """What the test holds of an instance."""
        raise NotImplementedError

    def stall(self, worker: Worker, seconds: float) -> None:
        """Let a worker stand still; its leases lapse at once."""
        raise NotImplementedError

    def crash(self, worker: Worker | None = None) -> None:
        """Kill a worker, or all, and start it again."""
        raise NotImplementedError

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
        store = self.store
        seen = (store.changes, self.now)
        if seen == self._claimed_at:
            return
        names = self.app.names()
        while up := [worker for worker in self.workers if worker.is_up]:
            if len(up) > 1:
                due = self.wait(store.next_due(names))
                if due is None or due > self.now:
                    return
            worker = up[self.chance.choose(len(up), "worker")]
            seconds = (FOR_EVER - self.now).total_seconds() + 1  # a float's rounding is no end
            claim = store.claim(worker.id, names, limit=1, lease_seconds=seconds)
            claimed = self.wait(claim)
            if not claimed:
                self._claimed_at = seen
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
            observe=self.app.hooks.observe,
        )
        turn.machine.watch = self.guard.watch(workflow)
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
        try:
            self.chance.stepping = worker  # what is committed meanwhile is its doing
            try:
                step = self.wait(coroutine)
            finally:
                self.chance.stepping = None
        except LeaseLost:
            self._end(turn)
            return
        except (NondeterministicCall, NondeterminismWarning) as error:
            self._abandon(turn, error)
            raise
        except StoreUnavailableError:  # the worker gives the turn up, and its lease lapses
            self._end(turn)
            self.lapse([turn])
            return
        while self.store.rounds:
            instance_id, events = self.store.rounds.pop()
            run = self.runs[instance_id]
            run.rounds.append((run.workflow, events))
        gone = [worker.tasks.pop((turn, id)) for id in step.dropped if (turn, id) in worker.tasks]
        self._cancel(worker, gone)
        for call in step.calls:
            self._queue("call", turn, call.id, partial(self._begin, turn, call))
        self.poke(step.woken)
        worker.dues.pop(turn, None)
        if step.is_over:
            self._end(turn)
            early = timedelta(0) if step.due is None else step.due - worker.engine_clock.now()
            if step.due is not None and step.due <= self.now and early:
                # Its clock is behind the store's: it would claim this again and again.
                worker.stalled_until = self.now + early
                self.clock.call_at(worker.stalled_until, lambda: None)
        elif step.due is not None:
            worker.dues[turn] = step.due + (self.now - worker.engine_clock.now())

    def _abandon(self, turn: Turn, error: BaseException) -> None:
        """End a turn that the guard has stopped: nothing of its last step is committed."""
        self.abandoned.add(turn.instance_id)
        self._end(turn)
        if self.is_moving:
            self.broken.append(error)  # what called this, sim.call() perhaps, may swallow it

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

    def _forget(self, worker: Worker) -> None:
        was_open, self.app.is_open = self.app.is_open, False
        try:
            for turn in worker.turns:
                self.chance.lose(turn)
                if self._turns.get(turn.instance_id) is turn:
                    del self._turns[turn.instance_id]
            self._fresh.difference_update(worker.turns)
            self._moves = [move for move in self._moves if move.turn not in worker.turns]
            if worker is self.workers[0]:
                self.app.hooks.forget()  # their tasks are on its loop
            with self._working():
                worker.drop()
        finally:
            self.app.is_open = was_open

    def live_turn(self, instance_id: str) -> Turn | None:
        """The turn under way of an instance, if there is one."""
        return self._turns.get(instance_id)

    def poke(self, ids: Iterable[str]) -> None:
        """Let these instances look again, if a turn of theirs is under way."""
        for instance_id in ids:
            turn = self._turns.get(instance_id)
            if turn is not None:
                self.look_soon(turn)

    def look_soon(self, turn: Turn) -> None:
        """Let a turn look what is there for it."""
        self._queue("look", turn, "", partial(self._look, turn))
