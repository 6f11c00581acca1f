"""The doors of the engine as a simulation has them: the clock, the sender, and a telling store.

The store tells what is committed and whom it woke, and fails when it is told to. Everything that
a simulation injects comes in here or between two moves of the driver; the engine knows nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from operator import attrgetter
from random import Random
from typing import Any, Literal

from cloudevents.core.v1.event import CloudEvent

from edda.errors import StoreUnavailableError
from edda.events import Envelope, as_cloudevent
from edda.history import Event, Started
from edda.ports import (
    Commit,
    Committed,
    Created,
    Delivered,
    Judge,
    NewInstance,
    Store,
    Transaction,
    Wait,
)
from edda_testkit.clock import VirtualClock

__all__ = [
    "RecordingSender",
    "SimulatedClock",
    "SimulatedStore",
    "SkewedClock",
    "When",
    "reaches_others",
]

# The store's other methods after which there may be something to claim; the rest only look.
CHANGING = frozenset({"release", "renew", "retry_stuck"})

# What a commit says of its own instance alone; anything else may reach others.
OWN = frozenset("lease expected_length events status waits taken due release problem".split())
_others = attrgetter(*(field.name for field in fields(Commit) if field.name not in OWN))

When = Literal["before", "after"]


class SimulatedClock:
    """The engine's `Clock` door: virtual time, seeded entropy."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self.now = clock.now
        self.entropy = Random(seed).getrandbits


class SkewedClock:
    """The clock of a worker whose machine is ahead of the store's, or behind."""

    def __init__(
        self, clock: VirtualClock, ahead: timedelta, entropy: Callable[[int], int]
    ) -> None:
        self._clock = clock
        self._ahead = ahead
        self.entropy = entropy

    def now(self) -> datetime:
        """The present, as this worker has it."""
        return self._clock.now() + self._ahead


class RecordingSender:
    """The engine's `Sender` door: events for brokers are kept, not posted."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, CloudEvent]] = []

    async def post(self, envelope: Envelope, url: str) -> None:
        """Keep the event."""
        self.posted.append((url, as_cloudevent(envelope)))


class SimulatedStore:
    """The simulation's store: `fail_next` lets an operation of it fail, all else is the store's."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.commits = 0
        # What each history holds: it cannot be read while the transaction that replaces it is open.
        self._events: dict[str, list[Event]] = {}
        self.rounds: list[tuple[str, tuple[Event, ...]]] = []  # histories that `ctx.recur` ended
        self.refused: set[Wait] = set()  # the waits that turned an event away
        self.log: list[tuple[str, int]] = []  # of each commit: the instance, its history's length
        self.changes = 0  # of what can be claimed, as far as it did not come with time
        self.on_wake: Callable[[Iterable[str]], None] = lambda _: None
        self.on_other: Callable[[], None] = lambda: None
        self.on_delivered: Callable[[Envelope], None] = lambda _: None
        # What the schedule says of a commit: to fail it, or nothing. And: it is committed.
        self.judge_commit: Callable[[Commit], When | None] | None = None
        self.on_commit: Callable[[Commit, Committed], None] | None = None
        self._failures: dict[str, list[tuple[int, When]]] = {}

    def __repr__(self) -> str:
        return repr(self.inner)

    def __getattr__(self, name: str) -> Any:
        self.on_other()
        self.changes += name in CHANGING
        return getattr(self.inner, name)

    def fail_next(
        self, *, commit: int = 0, deliver: int = 0, create: int = 0, when: When = "before"
    ) -> None:
        """Let the n-th commit, delivery or creation from now on raise `StoreUnavailableError`.

        `when` is "before" it takes effect, or "after" it did, when only the answer is lost.
        """
        if when not in ("before", "after"):
            raise ValueError(f'when must be "before" or "after", got {when!r}.')
        counts = {"commit": commit, "deliver": deliver, "create": create}
        if sum(count > 0 for count in counts.values()) != 1 or min(counts.values()) < 0:
            raise ValueError(
                f"fail_next() takes one of commit=, deliver= or create=, a number from 1 on, and "
                f"got {', '.join(f'{name}={count}' for name, count in counts.items())}."
            )
        for name, count in counts.items():
            if count:
                self._failures.setdefault(name, []).append((count, when))

    async def commit(self, commit: Commit) -> Committed:
        """Apply a step."""
        return await self.commit_by(self.inner.commit, commit)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """The transaction of an activity, whose commit is one like all others."""
        self.on_other()
        async with self.inner.transaction() as opened:
            yield _Transaction(self, opened)

    async def commit_by(
        self, apply: Callable[[Commit], Awaitable[Committed]], commit: Commit
    ) -> Committed:
        """Apply a step in a way of one's own, and fail it if that is its turn."""
        when = self._failing("commit")
        if when is None and self.judge_commit is not None:
            when = self.judge_commit(commit)
        if when == "before":
            raise _unavailable("commit", when)
        committed = await apply(commit)
        # Without its start, which a store of the test's own may have hidden, it is no history.
        events = self._events.setdefault(commit.lease.instance_id, [])
        events += commit.events
        if commit.restart is not None and isinstance(events[0], Started):
            self.rounds.append((commit.lease.instance_id, tuple(events)))
            events[:] = [commit.restart]
        self.commits += 1
        self.log.append((commit.lease.instance_id, commit.expected_length + len(commit.events)))
        self.changes += committed.is_released or reaches_others(commit)
        if self.on_commit is not None:
            self.on_commit(commit, committed)
        if when == "after":
            raise _unavailable("commit", when)
        return committed

    async def create(self, new: NewInstance) -> Created:
        """Store a new instance."""
        self.on_other()
        when = self._failing("create")
        if when == "before":
            raise _unavailable("create", when)
        created = await self.inner.create(new)
        if created.existing is None:
            self._events[new.id] = [new.started]
        self.changes += 1
        if when == "after":
            raise _unavailable("create", when)
        return created

    async def deliver(
        self, envelopes: Sequence[Envelope], judge: Judge | None = None
    ) -> list[Delivered]:
        """Accept events."""
        when = self._failing("deliver")
        if when == "before":
            raise _unavailable("deliver", when)
        delivered = await self.inner.deliver(envelopes, judge and self._noting(judge))
        self.changes += 1
        for envelope, one in zip(envelopes, delivered, strict=True):
            if one.position is not None:
                self.on_delivered(envelope)
            self.on_wake(one.woken)
        if when == "after":
            raise _unavailable("deliver", when)
        return delivered

    def _noting(self, judge: Judge) -> Judge:
        def noting(wait: Wait, envelope: Envelope) -> str | None:
            reason = judge(wait, envelope)
            if reason is not None:
                self.refused.add(wait)
            return reason

        return noting

    async def request_cancel(self, instance_id: str) -> bool:
        """Ask for a cancellation."""
        self.on_other()
        asked = await self.inner.request_cancel(instance_id)
        self.changes += 1
        if asked:
            self.on_wake([instance_id])
        return asked

    def _failing(self, operation: str) -> When | None:
        planned = self._failures.get(operation)
        if not planned:
            return None
        due = [when for count, when in planned if count == 1]
        self._failures[operation] = [(count - 1, when) for count, when in planned if count > 1]
        return due[0] if due else None


@dataclass(frozen=True, slots=True)
class _Transaction:
    """An open transaction of the store, which fails when the store is to fail."""

    store: SimulatedStore
    opened: Transaction

    @property
    def connection(self) -> Any:
        """What the activity writes through."""
        return self.opened.connection

    async def commit(self, commit: Commit) -> Committed:
        """Apply a step together with what was written."""
        try:
            return await self.store.commit_by(self.opened.commit, commit)
        except StoreUnavailableError:
            await self.opened.rollback()  # as a store does that cannot commit: it keeps nobody out
            raise

    async def rollback(self) -> None:
        """Undo what was written."""
        await self.opened.rollback()


def reaches_others(commit: Commit) -> bool:
    """Whether a commit may change what other instances see."""
    return any(_others(commit))


def _unavailable(operation: str, when: When) -> StoreUnavailableError:
    return StoreUnavailableError(f"the simulation failed this {operation} {when} it took effect")
