"""The store in memory: dictionaries and one heap of ready times.

For tests, simulations and programs that may forget. No method suspends, so a turn on this store
runs to its end in one `send`. Every check comes before the first change: a method that raises
has changed nothing, as a transaction would.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any

from edda.commands import Recurrence
from edda.errors import LeaseLost
from edda.events import Envelope
from edda.history import CancelRequested, Event, Finished, Started
from edda.ports import (
    Claimed,
    Clock,
    Commit,
    Committed,
    Created,
    Delivered,
    Expired,
    Instance,
    Judge,
    Lease,
    NewInstance,
    Outgoing,
    Status,
    Transaction,
)
from edda.stores.memory_log import Log, Row
from edda.stores.memory_tables import Overlay
from edda.stores.transactions import OpenTransaction

__all__ = ["MemoryStore"]


class MemoryStore:
    """A `ports.Store` that forgets everything when it is gone.

    `tables` is what transactional activities wrote.
    """

    def __init__(self, clock: Clock) -> None:
        self.tables: dict[Any, Any] = {}
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._log = Log(self._rows)
        self._heap: list[tuple[datetime, int, str]] = []
        self._ticket = 0
        self._outbox: dict[int, Outgoing] = {}
        self._posted = 0  # the last position in the outbox
        self._writing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<MemoryStore: {len(self._rows)} instances, {len(self._log)} messages>"

    async def open(self) -> None:
        """Be ready for this event loop, which may be another than before."""
        if not self._writing.locked():
            self._writing = asyncio.Lock()

    async def close(self) -> None:
        """Nothing to do; what is stored stays until the object goes."""

    async def changed(self) -> None:
        """Wait for ever: no other process sees this store."""
        await asyncio.get_running_loop().create_future()

    # ---- Instances -----------------------------------------------------------------------------

    async def create(self, new: NewInstance) -> Created:
        """Store a new instance, unless its id is there already."""
        found = self._rows.get(new.id)
        if found is not None:
            started = found.events[0]
            assert isinstance(started, Started)
            return Created(None, (found.workflow, started))
        now = self._clock.now()
        row = Row(new.id, new.workflow, [new.started], self._log.last, new.started.at, now, due=now)
        self._rows[new.id] = row
        self._log.add(row)
        if new.worker is None:
            self._schedule(row, now)
            return Created(None)
        return Created(self._lease(row, new.worker, now + timedelta(seconds=new.lease_seconds)))

    async def claim(
        self, worker: str, names: Sequence[str], *, limit: int, lease_seconds: float
    ) -> list[Claimed]:
        """Lease up to `limit` instances that have something to do now."""
        now = self._clock.now()
        until = now + timedelta(seconds=lease_seconds)
        claimed: list[Claimed] = []
        skipped: list[tuple[datetime, int, str]] = []
        while len(claimed) < limit and self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            row = self._rows[entry[2]]
            if row.ticket != entry[1]:
                continue
            if row.workflow in names:
                claimed.append(self._lease(row, worker, until))
            else:
                skipped.append(entry)
        for entry in skipped:
            heappush(self._heap, entry)
        return claimed

    async def commit(self, commit: Commit) -> Committed:
        """Apply a step. Raises `LeaseLost`, with no effect, when the lease is not held."""
        row = self._held(commit.lease)
        if row is None or len(row.events) != commit.expected_length:
            raise LeaseLost(commit.lease.instance_id)
        row.events.extend(commit.events)
        row.status = commit.status
        row.problem = commit.problem
        row.updated_at = self._clock.now()
        for event in commit.events:
            if isinstance(event, CancelRequested):
                row.cancel_requested, row.cancel_recorded = False, True
            elif isinstance(event, Finished) and not isinstance(event.outcome, Recurrence):
                row.outcome = event.outcome
        self._log.take(row, commit.taken)
        if commit.status is Status.STUCK:  # its waits and due time stand for when it goes on
            row.lease = None
            self._schedule(row, None)
            return Committed(is_released=True, woken=self._wake(self._log.give_back(row)))
        is_final = commit.status.is_final
        if is_final:
            self._log.end(row)
        if commit.restart is not None:
            row.events = [commit.restart]
            row.cancel_recorded = False
        self._log.subscribe(row, () if is_final else commit.subscriptions, commit.renewed)
        row.due = commit.due
        woken = self._log.register(row, () if is_final else commit.waits)
        woken += self._send_out(commit)
        others = [one for one in woken if one is not row]
        messages = row.messages
        goes_on = bool(messages) or row.cancel_requested
        if is_final or commit.restart is not None or (commit.release and not goes_on):
            row.lease = None
            self._schedule(row, None if is_final else commit.due)
            return Committed(is_released=True, woken=self._wake(others))
        return Committed(messages, row.cancel_requested, woken=self._wake(others))

    def _send_out(self, commit: Commit) -> list[Row]:
        for envelope in commit.outbox:
            self._posted += 1
            self._outbox[self._posted] = Outgoing(self._posted, envelope, due=self._clock.now())
        woken = [row for one in commit.messages for row in self._deliver(one)]
        for id in commit.cancels:
            woken += self._ask_to_cancel(id)
        return woken

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction whose `connection` is a mapping over `tables`; one at a time."""
        tables = Overlay(self.tables)

        async def finish(commit: Commit) -> Committed:
            committed = await self.commit(commit)
            tables.apply()
            return committed

        async def undo() -> None:
            """Nothing to do: the overlay is dropped."""

        await self._writing.acquire()
        transaction = OpenTransaction(tables, finish, undo, self._writing.release)
        try:
            yield transaction
        finally:
            await transaction.rollback()

    async def renew(self, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
        """Prolong leases; those that are not held any more are missing from the answer."""
        until = self._clock.now() + timedelta(seconds=lease_seconds)
        renewed = []
        for lease in leases:
            row = self._held(lease)
            if row is not None:
                row.lease = Lease(lease.instance_id, lease.worker, lease.token, until)
                self._schedule(row, until)
                renewed.append(row.lease)
        return renewed

    async def release(self, worker: str) -> None:
        """Give back every lease of a worker."""
        for row in self._rows.values():
            if row.lease is not None and row.lease.worker == worker:
                row.lease = None
                row.due = self._clock.now()
                self._schedule(row, row.due)

    async def workers(self) -> list[str]:
        """The workers that hold leases, lapsed ones too."""
        leases = (row.lease for row in self._rows.values())
        return list(dict.fromkeys(lease.worker for lease in leases if lease is not None))

    async def request_cancel(self, instance_id: str) -> bool:
        """Ask for cancellation and wake the instance; False when it has ended or is unknown."""
        row = self._rows.get(instance_id)
        if row is None or row.status.is_final:
            return False
        self._wake(self._ask_to_cancel(instance_id))
        return True

    def _ask_to_cancel(self, instance_id: str) -> list[Row]:
        row = self._rows.get(instance_id)
        if row is None or row.status.is_final or row.cancel_recorded or row.cancel_requested:
            return []
        row.cancel_requested = True
        return [row]

    async def retry_stuck(self, instance_id: str | None = None) -> int:
        """Make stuck instances ready again (one, or all); how many."""
        stuck = [
            row
            for row in self._rows.values()
            if row.status is Status.STUCK and instance_id in (None, row.id)
        ]
        for row in stuck:
            row.status = Status.PENDING
            self._log.go_on(row)
            row.due = self._clock.now()
            self._schedule(row, row.due)
        return len(stuck)

    async def next_due(self, names: Sequence[str]) -> datetime | None:
        """When the next instance of these workflows has something to do."""
        passed = []
        due = None
        while self._heap:
            at, ticket, id = self._heap[0]
            row = self._rows[id]
            if row.ticket == ticket:
                if row.workflow in names:
                    due = at
                    break
                passed.append(self._heap[0])
            heappop(self._heap)
        for entry in passed:
            heappush(self._heap, entry)
        return due

    async def instance(self, instance_id: str) -> Instance | None:
        """One instance, or None."""
        row = self._rows.get(instance_id)
        return None if row is None else _view(row)

    async def history(self, instance_id: str) -> list[Event]:
        """The history of one instance; empty when there is none."""
        return list(self._rows[instance_id].events) if instance_id in self._rows else []

    async def find(
        self,
        *,
        status: Status | None = None,
        workflow: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Instance]:
        """Instances by id, at most `limit`, those after the id `after`."""
        ids = sorted(
            id
            for id, row in self._rows.items()
            if status in (None, row.status)
            and workflow in (None, row.workflow)
            and (after is None or id > after)
        )
        return [_view(self._rows[id]) for id in ids[:limit]]

    # ---- Messages ------------------------------------------------------------------------------

    async def deliver(
        self, envelopes: Sequence[Envelope], judge: Judge | None = None
    ) -> list[Delivered]:
        """Accept events, all or none, and wake the instances whose waits they fit."""
        refused: dict[int, tuple[str, ...]] = {}
        for index, envelope in enumerate(envelopes):
            if judge is None or self._log.is_known(envelope):
                continue
            verdicts = [
                None if wait.on_invalid == "raise" else judge(wait, envelope)
                for _, wait in self._log.fitting(envelope)
            ]
            if verdicts and all(verdicts):
                refused[index] = tuple(dict.fromkeys(filter(None, verdicts)))
        if refused:
            return [Delivered(None, (), refused.get(index, ())) for index in range(len(envelopes))]
        delivered = []
        for envelope in envelopes:
            last = self._log.last
            woken = self._deliver(envelope)
            if self._log.last == last:
                delivered.append(Delivered(None, is_duplicate=True))
            else:
                delivered.append(Delivered(self._log.last, self._wake(woken)))
        return delivered

    def _deliver(self, envelope: Envelope) -> list[Row]:
        if self._log.is_known(envelope):
            return []
        rows = {row.id: row for row, _ in self._log.fitting(envelope)}
        return self._log.accept(envelope, self._clock.now(), rows.values())

    async def expire(self, before: datetime) -> int:
        """Drop events accepted before an instant that no live instance could still take."""
        return self._log.expire(before)

    async def expired(self, *, limit: int = 100, after: int = 0) -> list[Expired]:
        """Events that expired unread, by position, those after a position."""
        found = [one for one in self._log.expired if one.position > after]
        return sorted(found, key=lambda one: one.position)[:limit]

    # ---- The outbox ----------------------------------------------------------------------------

    async def take_outgoing(self, *, limit: int, lease_seconds: float) -> list[Outgoing]:
        """Take up to `limit` events of the outbox that are due, the longest due first."""
        now = self._clock.now()
        until = now + timedelta(seconds=lease_seconds)
        due = sorted((one.due or now, one.position) for one in self._outbox.values())
        taken = [self._outbox[position] for at, position in due if at <= now][:limit]
        for one in taken:
            self._outbox[one.position] = replace(one, due=until)
        return taken

    async def settle_outgoing(
        self, position: int, *, error: str | None = None, retry_at: datetime | None = None
    ) -> None:
        """An event of the outbox was posted; or was not, with `error`."""
        if error is None:
            self._outbox.pop(position, None)
        elif (one := self._outbox.get(position)) is not None:
            due = retry_at or self._clock.now()
            self._outbox[position] = replace(one, attempts=one.attempts + 1, due=due, error=error)

    async def outgoing(self, *, limit: int = 100, after: int = 0) -> list[Outgoing]:
        """The events of the outbox, by position, those after a position."""
        return [one for one in self._outbox.values() if one.position > after][:limit]

    async def outgoing_due(self) -> datetime | None:
        """When the next event of the outbox is due."""
        return min((one.due for one in self._outbox.values() if one.due is not None), default=None)

    # ---- Inside one row --------------------------------------------------------------------------

    def _held(self, lease: Lease) -> Row | None:
        row = self._rows.get(lease.instance_id)
        held = row is not None and row.lease is not None
        if held and row.lease.worker == lease.worker and row.lease.token == lease.token:  # type: ignore[union-attr]
            return row
        return None

    def _lease(self, row: Row, worker: str, until: datetime) -> Claimed:
        row.token += 1
        row.lease = Lease(row.id, worker, row.token, until)
        row.status = Status.RUNNING
        self._schedule(row, until)
        return Claimed(
            row.lease, row.workflow, tuple(row.events), row.messages, row.cancel_requested
        )

    def _schedule(self, row: Row, at: datetime | None) -> None:
        # One valid entry a row; the older ones lose their ticket and are passed over.
        self._ticket += 1
        row.ticket = self._ticket
        row.ready = at
        if at is not None:
            heappush(self._heap, (at, row.ticket, row.id))

    def _wake(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Make rows ready; their ids, each once."""
        now = self._clock.now()
        found = {row.id: row for row in rows}
        for row in found.values():
            # A leased row's holder is told; one that is ready already keeps its place.
            if row.lease is None and not row.is_parked and (row.ready is None or row.ready > now):
                self._schedule(row, now)
        return tuple(found)


def _view(row: Row) -> Instance:
    return Instance(
        id=row.id,
        workflow=row.workflow,
        status=row.status,
        started_at=row.started_at,
        updated_at=row.updated_at,
        due=None if row.is_parked else row.due,
        waits=tuple(row.waits.values()),
        outcome=row.outcome,
        problem=row.problem,
    )
