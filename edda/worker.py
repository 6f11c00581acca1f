"""The worker: claims instances that have something to do and drives their turns.

One asyncio task a turn, one a call in flight; nothing at all for an instance that waits. There
is no polling interval: the worker sleeps until the store's next due time, or until somebody
wakes it (an event accepted here, a change another process made). Leases are renewed while their
turns run; a turn whose lease is lost is dropped, and what it had not committed did not happen.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from edda.announcing import Announcer
from edda.codec import Value, encode_error
from edda.commands import Failure, Outcome, Result
from edda.errands import Errand
from edda.errors import LeaseLost, StoreUnavailableError
from edda.history import Started
from edda.patience import PatientStore
from edda.ports import Activities, Call, Claimed, Clock, Created, Lease, NewInstance, Store
from edda.retry import RetryPolicy
from edda.turn import Step, Turn
from edda.workflow import Workflow

__all__ = ["Worker"]

logger = logging.getLogger("edda.worker")

# How many instances are claimed at once, at most: the rest of the room is for those started here.
BATCH = 100


class Worker:
    """Drives turns until it is stopped.

    `names` says which workflows it may claim and `resolve` what each name means; `on_over` is
    told of every instance whose turn ended, its workflow, and how the instance ended if it did;
    `on_sent` that the outbox has something new.
    """

    def __init__(
        self,
        id: str,
        *,
        store: Store,
        clock: Clock,
        activities: Activities,
        run_errand: Callable[[Errand], Awaitable[Result | Failure]],
        names: Callable[[], Sequence[str]],
        resolve: Callable[[str], Workflow[..., Any]],
        models: MutableMapping[str, Value],
        retry_policy: RetryPolicy,
        on_over: Callable[[str, str, Outcome | None], None],
        on_sent: Callable[[], None],
        hooks: Announcer,
        max_concurrent: int = 1000,
        lease_seconds: float = 30.0,
    ) -> None:
        self.id = id
        self.lease_seconds = lease_seconds
        self._store = PatientStore(store)
        self._clock = clock
        self._activities = activities
        self._run_errand = run_errand
        self._names = names
        self._resolve = resolve
        self._models = models
        self._retry_policy = retry_policy
        self._on_over = on_over
        self._on_sent = on_sent
        self._hooks = hooks
        self._max_concurrent = max_concurrent
        self._running: dict[str, _Run] = {}
        self._reserved = 0  # for turns whose instance is being created or claimed
        self._is_short_of_room = False
        self._context = Context()
        self._awake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: datetime | None = None
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"<Worker {self.id!r}: {len(self._running)} turns>"

    @property
    def room(self) -> int:
        """How many more turns may be begun now."""
        if self._is_stopping:
            return 0
        return max(0, self._max_concurrent - len(self._running) - self._reserved)

    def open(self) -> None:
        """Begin to claim. Call it on the event loop that is to do the work."""
        self._context = copy_context()
        self._tasks = [
            asyncio.create_task(self._claim_for_ever(), name=f"{self.id}-claims"),
            asyncio.create_task(self._renew_for_ever(), name=f"{self.id}-leases"),
        ]

    async def close(self, grace_seconds: float) -> None:
        """Stop claiming, let turns reach their end for a while, then give the leases back."""
        self._is_stopping = True
        claims, renewals = self._tasks
        claims.cancel()
        await asyncio.gather(claims, return_exceptions=True)
        self._silence()
        turns = [run.task for run in self._running.values() if run.task is not None]
        try:
            if turns:
                await asyncio.wait(turns, timeout=grace_seconds)
        finally:  # also when nobody waits for us any more
            for task in (*turns, renewals):
                task.cancel()
        await asyncio.gather(*turns, renewals, return_exceptions=True)
        await self._store.inner.release(self.id)

    async def create(self, instance_id: str, workflow: str, started: Started) -> Created:
        """Store a new instance; where there is room, its first turn follows without a claim."""
        if not self.room:
            created = await self._store.inner.create(NewInstance(instance_id, workflow, started))
            self._awake.set()
            return created
        self._reserved += 1
        now = self._clock.now()
        try:
            created = await self._store.inner.create(
                NewInstance(instance_id, workflow, started, self.id, self.lease_seconds)
            )
        except BaseException:  # also a cancellation: it goes to the caller
            self._awake.set()  # it may be stored, and leased to us: it is due when that lapses
            raise
        finally:
            self._reserved -= 1
        if created.claimed is not None:
            self._adopt(created.claimed, now)
        return created

    def _adopt(self, claimed: Claimed, seen_at: datetime) -> None:
        """Drive the turn of an instance that is leased to this worker."""
        instance_id = claimed.lease.instance_id
        old = self._running.get(instance_id)
        if old is not None and old.task is not None:
            old.task.cancel()  # its lease had lapsed: its commit would be refused
        run = _Run(claimed.lease)
        self._running[instance_id] = run
        run.task = asyncio.create_task(
            self._drive(claimed, run, seen_at),
            name=f"turn-{instance_id}",
            # The worker's own: who called `start` may have another app in mind.
            context=self._context.copy(),
        )

    def drives(self, instance_id: str) -> bool:
        """Whether a turn of this instance runs here; `on_over` is told when it ends."""
        return instance_id in self._running

    def wake(self, instance_ids: Iterable[str] = ()) -> None:
        """Something happened to these instances; look again."""
        for instance_id in instance_ids:
            run = self._running.get(instance_id)
            if run is None:
                self._awake.set()
            else:
                run.poke()

    def wake_all(self) -> None:
        """Another process may have changed anything; look at everything again."""
        self._awake.set()
        for run in self._running.values():
            run.poke()

    # ---- Claiming --------------------------------------------------------------------------------

    async def _claim_for_ever(self) -> None:
        while True:
            self._awake.clear()
            try:
                await self._claim()
            except StoreUnavailableError as error:
                logger.warning("Cannot claim: %s", error)
                self._wake_at(self._clock.now() + timedelta(seconds=1))
            except Exception:  # goes to the log: a worker that stops claiming helps nobody
                logger.exception("Cannot claim")
                self._wake_at(self._clock.now() + timedelta(seconds=1))
            await self._awake.wait()

    async def _claim(self) -> None:
        limit = min(self.room, BATCH)
        self._is_short_of_room = limit == 0
        if not limit:
            return  # the end of a turn wakes us
        names = self._names()
        self._reserved += limit
        now = self._clock.now()
        try:
            claimed = await self._store.inner.claim(
                self.id, names, limit=limit, lease_seconds=self.lease_seconds
            )
        finally:
            self._reserved -= limit
        for one in claimed:
            self._adopt(one, now)
        if len(claimed) == limit:
            self._awake.set()  # there may be more
        else:
            self._wake_at(await self._store.inner.next_due(names))

    def _wake_at(self, due: datetime | None) -> None:
        """Look again at `due`, unless an earlier look is set already."""
        if due is None or (self._alarm_at is not None and self._alarm_at <= due):
            return
        self._silence()
        seconds = (due - self._clock.now()).total_seconds()
        self._alarm_at = due
        self._alarm = asyncio.get_running_loop().call_later(max(0.0, seconds), self._ring)

    def _ring(self) -> None:
        self._silence()
        self._awake.set()

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._alarm_at = None

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.lease_seconds / 3)
            self._notice_the_time()
            leases = [run.lease for run in self._running.values()]
            if not leases:
                continue
            try:
                held = await self._store.inner.renew(leases, self.lease_seconds)
            except StoreUnavailableError as error:
                logger.warning("Cannot renew %d leases: %s", len(leases), error)
                continue
            except Exception:  # goes to the log: the next round may do better
                logger.exception("Cannot renew %d leases", len(leases))
                continue
            kept = {(lease.instance_id, lease.token) for lease in held}
            for lease in leases:
                run = self._running.get(lease.instance_id)
                lost = (lease.instance_id, lease.token) not in kept
                if lost and run is not None and run.lease is lease and run.task is not None:
                    logger.warning("Lost the lease of %s; its turn is dropped", lease.instance_id)
                    run.task.cancel()

    def _notice_the_time(self) -> None:
        """Look at what is due and did not ring: the clock was set, or the machine has slept."""
        now = self._clock.now()
        if self._alarm_at is not None and self._alarm_at <= now:
            self._ring()
        for run in self._running.values():
            if run.due is not None and run.due <= now:
                run.poke()

    # ---- One turn --------------------------------------------------------------------------------

    async def _drive(self, claimed: Claimed, run: "_Run", seen_at: datetime) -> None:
        instance_id = claimed.lease.instance_id
        has_ended = False
        try:
            turn = Turn(
                claimed,
                self._resolve(claimed.workflow),
                store=self._store,  # type: ignore[arg-type]
                clock=self._clock,
                retry_policy=self._retry_policy,
                models=self._models,
                seen_at=seen_at,
                observe=self._hooks.observe,
            )
            try:
                self._wake_at(await self._steps(turn, run))
                has_ended = True
            finally:
                turn.close()
        except LeaseLost as error:
            logger.warning("%s", error)
        except StoreUnavailableError as error:
            logger.warning("Gave up the turn of %s: %s", instance_id, error)
        except Exception:  # goes to the log; the lease lapses and the instance is tried again
            logger.exception("The turn of %s broke", instance_id)
        finally:
            calls, run.calls = run.calls, {}
            for task in calls.values():
                task.cancel()
            if self._running.get(instance_id) is run:
                del self._running[instance_id]
            ended = None if run.last is None else run.last.ended
            self._on_over(instance_id, claimed.workflow, ended)
            # A turn that broke is due when its lease lapses; a poke that came while the turn was
            # giving its lease back is nobody else's.
            if self._is_short_of_room or run.is_poked or not has_ended:
                self._awake.set()

    async def _steps(self, turn: Turn, run: "_Run") -> datetime | None:
        """Drive the turn to its end; when the instance next does something by itself."""
        async with run.lock:
            self._follow(await turn.begin(), turn, run)
        while run.last is None:
            await self._something(turn, run)
            async with run.lock:
                # What the turn has in hand then is an answer without what was written with it.
                if run.broken is not None:
                    raise run.broken
                if run.answers and not turn.is_over:
                    self._follow(await turn.answer(*run.answers.pop(0)), turn, run)
                elif run.is_poked and not turn.is_over:
                    run.is_poked = False
                    self._follow(await turn.poke(), turn, run)
            if not run.answers and not run.is_poked and run.broken is None:
                run.something.clear()
        return run.last.due

    async def _something(self, turn: Turn, run: "_Run") -> None:
        """Wait until something came, or something of the turn's own is due."""
        run.due = due = turn.due
        if due is None:
            await run.something.wait()
            return
        seconds = (due - self._clock.now()).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await run.something.wait()
        except TimeoutError:
            run.is_poked = True

    def _follow(self, step: Step, turn: Turn, run: "_Run") -> None:
        """Do what a step says."""
        for call_id in step.dropped:
            task = run.calls.pop(call_id, None)
            if task is not None:
                task.cancel()
        for call in step.calls:
            run.calls[call.id] = asyncio.create_task(
                self._perform(call, turn, run), name=f"call-{call.instance_id}/{call.id}"
            )
        self.wake(step.woken)
        if step.has_sent:
            self._on_sent()
        if step.is_over:
            run.last = step
            run.something.set()

    async def _perform(self, call: Call | Errand, turn: Turn, run: "_Run") -> None:
        outcome: Result | Failure | None
        try:
            if not isinstance(call, Call):
                outcome = await self._run_errand(call)
            elif call.activity.is_transactional:
                outcome = await self._transact(call, turn, run)
            else:
                outcome = await self._activities.attempt(call)
        except Exception as error:  # goes to the workflow: a door that raises must not hang it
            outcome = Failure(encode_error(error))
        except BaseException as error:  # the same, unless it was dropped or the process is to end
            if call.id not in run.calls or isinstance(error, KeyboardInterrupt):
                raise
            outcome = Failure(encode_error(error))
        if run.calls.pop(call.id, None) is not None and outcome is not None:
            run.answers.append((call.id, outcome))
            run.something.set()

    async def _transact(self, call: Call, turn: Turn, run: "_Run") -> Failure | None:
        """Make an attempt in a transaction that commits its answer; None when that is done.

        The turn does nothing else meanwhile: its own commits could not get at the store.
        """
        async with run.lock:
            if call.id not in turn.in_flight or run.broken is not None:
                return None
            async with self._store.inner.transaction() as transaction:
                mine = replace(call, connection=transaction.connection)
                outcome = await self._activities.attempt(mine)
                if isinstance(outcome, Failure):
                    await transaction.rollback()
                    return outcome
                run.calls.pop(call.id, None)
                try:
                    self._follow(await turn.answer(call.id, outcome, transaction), turn, run)
                except Exception as error:  # goes to the turn's own task, which ends the turn
                    run.broken = error
                run.something.set()
        return None


class _Run:
    """What the worker holds of one turn under way."""

    __slots__ = (
        "answers",
        "broken",
        "calls",
        "due",
        "is_poked",
        "last",
        "lease",
        "lock",
        "something",
        "task",
    )

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.task: asyncio.Task[None] | None = None
        self.calls: dict[str, asyncio.Task[None]] = {}
        self.answers: list[tuple[str, Result | Failure]] = []
        self.is_poked = False
        self.due: datetime | None = None
        self.broken: Exception | None = None
        self.last: Step | None = None
        self.lock = asyncio.Lock()  # one thing at a time happens to the turn
        self.something = asyncio.Event()

    def poke(self) -> None:
        self.is_poked = True
        self.something.set()
