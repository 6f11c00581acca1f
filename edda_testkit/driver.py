"""What makes a simulation go: turns, the calls they ask for, and the instants time stops at.

One move is made at a time, in the calling thread; `settle` returns when nothing can go on
without time moving. Which move comes next is decided in `_next_move` and in `fire`, by the
schedule. Its default: keep the current instance going, else first come, first served, then what
can be claimed, then the outside; at one instant what arrives comes before what is due.

Absent: what a test says (the simulation's), what can go wrong (`Chance`), and any moving of time
that was not asked for.
"""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from edda.events import Envelope
from edda.ports import Outgoing
from edda.workflow import Workflow
from edda_testkit.crew import FOR_EVER, Crew
from edda_testkit.errors import Misuse, Stalled
from edda_testkit.runs import Run
from edda_testkit.workers import Crashed, Move, Worker

__all__ = ["Driver"]

# Moves at one instant, and due instants on one way, before it is taken to go on for ever.
MAX_MOVES = 100_000
MAX_INSTANTS = 100_000

# How far a clock jumps past what is due, where the test sets no end.
PAUSE = timedelta(hours=1)

# How long one who posts from the outbox has an event to itself.
LEASE_SECONDS = 60.0


class Driver(Crew):
    """Drives one app's instances in virtual time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_due = False  # time has moved, and turns have not looked at it yet
        self._is_arriving = False
        self._batch: list[Move] = []
        self._current = ""
        self._new = ""  # what the outside has just started
        self.app.hooks.spawn = self._spawn

    @property
    def is_busy(self) -> bool:
        """Whether this is asked from within what the simulation runs."""
        return self.is_working or self.is_moving

    # ---- What runs see ---------------------------------------------------------------------------

    def run_of(self, instance_id: str, workflow: Workflow[..., Any]) -> Run:
        """What the test holds of an instance; one that code started gets its run here too."""
        run = self.runs.get(instance_id)
        if run is None:
            run = self.runs[instance_id] = Run(self, instance_id, workflow)
        return run

    def cancel(self, run: Run) -> bool:
        """Ask for a run to be cancelled; False when it has finished already."""
        asked = self.wait(self.app.cancel(run.id))
        self.settle()
        return asked

    # ---- Quiescence ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything happen that can happen at this instant."""
        if self.is_working:
            return  # called from within a move: whoever makes the moves goes on with it
        with self._working():
            for _ in range(MAX_MOVES):
                if self.broken:
                    broken = self.broken.pop(0)
                    if isinstance(broken, Crashed):  # it struck in a transaction, inside a task
                        self.die(broken.worker)
                        continue
                    raise broken
                try:
                    move = self._next_move()
                    if move is None:
                        return
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

    def _next_move(self) -> Move | None:
        chance = self.chance
        if not chance.explores and self._moves and not self.is_due:  # most simulations
            mine = (one for one in self._moves if one.actor == self._current)
            return self._made(next(mine, self._moves[0]))
        awaiting = self._awaiting() if chance.explores else []
        if self._is_arriving and (arrivals := self._arrivals()):
            options = awaiting + arrivals
        else:
            options = self._options(awaiting)
        move = chance.pick(options, self._batch, self._again)
        if move is not None:
            return self._made(move)
        for outgoing in self.wait(self.store.take_outgoing(limit=1, lease_seconds=LEASE_SECONDS)):
            return Move("post", "", outgoing.envelope.type, partial(self._post, outgoing))
        for worker in self.workers:  # a hook's task, which nobody waits for
            if worker.has_loop and worker.is_up and not worker.loop.is_idle:
                return Move("await", "", "", partial(self._run_loop, worker))
        if self._is_waiting_outside():
            return Move("outside", "", "", self._wait_outside)
        return None

    def _post(self, outgoing: Outgoing) -> None:
        self.wait(self.app.relay.post_one(outgoing))

    def _options(self, awaiting: list[Move]) -> list[Move]:
        """What can be next, the default first."""
        if self.is_due and not awaiting:
            self._look_at_the_time()
        if self.chance.explores or not self._moves:
            self._claim()
        options = [*awaiting, *(sorted(self._moves, key=self._rank) if self._moves else ())]
        if self._fresh and len(options) > 1:  # a turn looks at nothing before it has begun
            options = [one for one in options if one.kind == "turn" or one.turn not in self._fresh]
        if not all(worker.is_up for worker in self.workers):
            options = self._at_work(options)
        if self.is_due:
            options.append(Move("time", "", "", self._look_at_the_time))
        if self._batch and not self._is_waiting_outside():
            options += [move for move in self._batch if move.after not in self._batch]
        return options

    def _rank(self, move: Move) -> int:
        """What the outside has just started, then the same instance, others, what is claimed."""
        if move.kind == "turn":
            return 0 if move.actor == self._new else 3
        return 1 if move.actor == self._current else 2

    def _made(self, move: Move) -> Move:
        """This one is next."""
        if move.turn is not None:
            self._moves.remove(move)
        elif move in self._batch:
            self._batch.remove(move)
        if move.actor and not self.chance.is_early:
            self._current = move.actor
        self._new = move.actor if move.kind == "outside" else ""
        self.chance.note(move)
        return move

    def _at_work(self, moves: list[Move]) -> list[Move]:
        """Without those of workers that stand still."""
        idle = {turn for worker in self.workers if not worker.is_up for turn in worker.turns}
        return [move for move in moves if move.turn not in idle]

    def _again(self, envelope: Envelope) -> None:
        self.wait(self.app.handle_events([envelope]))

    # ---- Time ------------------------------------------------------------------------------------

    def next_due(self, *, is_later: bool = False) -> datetime | None:
        """The next instant at which something happens by itself; `is_later` leaves out now."""
        up = [worker for worker in self.workers if worker.is_up]
        dues = [due for worker in up for due in worker.dues.values()]
        stored = self.wait(self.app.store.next_due(self.app.names()))
        if stored is not None and stored < FOR_EVER and up:  # else the clock knows who comes up
            dues.append(stored)
        posted = self.wait(self.store.outgoing_due())
        if posted is not None:
            dues.append(posted)
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
        self.is_moving = True
        try:
            self.settle()
            yield
        finally:
            self.is_moving = False

    def refuse(self, verb: str) -> None:
        """Raise `Misuse`, here and, should an activity swallow it, in the test."""
        error = Misuse(
            f"{verb}() was called by code that the simulation itself was running, an activity, a "
            f"stub or sim.call(). Call it from the test; an activity that takes time awaits "
            f"asyncio.sleep(seconds)."
        )
        if self.is_working:
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
            self.fire(self.late(due, instant))
        raise Stalled(
            f"{MAX_INSTANTS:,} due instants did not reach {instant.isoformat()}",
            [],
            f"It is {self.now.isoformat()}: something is due again and again.",
        )

    def late(self, due: datetime, latest: datetime | None = None) -> datetime:
        """When what is due is looked at: then, or when the clock has jumped past it."""
        if not self.chance.delays or due == latest:
            return due
        jumped = due + PAUSE if latest is None else latest
        return jumped if self.chance.delay("what is due") else due

    def fire(self, due: datetime) -> None:
        """Move to a due instant and let everything happen there."""
        self.ring(due)
        self.settle()

    def ring(self, due: datetime) -> None:
        """Move to a due instant: what is due there can happen from now on."""
        if due > self.now:
            self.clock.move_to(due)
        # What arrives at an instant comes before what is due at it (law M7).
        if self.chance.explores:
            self._is_arriving = True  # each arrival is a move
            return
        while (callback := self.clock.pop_due()) is not None:
            callback()
            try:
                for worker in self.workers:
                    self._run_loop(worker)
            except Crashed as crash:
                self.die(crash.worker)
        self.is_due = True

    def _arrivals(self) -> list[Move]:
        """What comes next of what arrives at this instant; nothing else goes before it."""
        due = self.clock.next_due() if self._is_arriving else None
        if due is None or due > self.now:
            self._is_arriving, self.is_due = False, True
            return []
        return [Move("arrival", "", "", self._arrive)]

    def _arrive(self) -> None:
        callback = self.clock.pop_due(self.chance.among_due)
        if callback is not None and not self.takes_longer(callback):
            # What the outside does now may start runs, and see how far they get.
            self._is_arriving = self.is_working = False
            try:
                callback()
            finally:
                self._is_arriving = self.is_working = True
            for worker in self.workers:
                self._run_loop(worker)

    def _look_at_the_time(self) -> None:
        """Let turns look whose time has come."""
        self.is_due = False
        for worker in self.workers:
            for turn in [turn for turn, at in worker.dues.items() if at <= self.now]:
                self.look_soon(turn)  # this one, not who has taken its instance over

    def go_on_with(self, move: Move) -> None:
        """It is not done: it stays the next thing that the outside does."""
        self._batch.insert(0, move)

    def _spawn(self, hook: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A hook's task runs on a worker's loop, where it takes virtual time."""
        return self.workers[0].loop.create_task(hook, name="edda-hooks")

    # ---- The end ---------------------------------------------------------------------------------

    def crash(self, worker: Worker | None = None) -> None:
        """Kill a worker, or all, with all it has in flight, and start it again."""
        if self.is_working:
            self.refuse("crash")
        self.die(worker)
        self.settle()

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

    def drop(self) -> None:
        """Drop turns and calls in flight; nothing their `finally` blocks do reaches the store."""
        if self.is_working:
            self.refuse("close")
        for worker in self.workers:
            self._forget(worker)
        self._moves.clear()
        if self._front is not None:
            self._loops.give(self._front)
            self._front = None
