"""The store in memory: dictionaries and one heap of ready times.

For tests, simulations and programs that may forget. No method suspends, so a turn on this store
runs to its end in one `send`. Every check comes before the first change: a method that raises
has changed nothing, as a transaction would.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush

from edda.commands import Outcome
from edda.errors import LeaseLost
from edda.events import Envelope, match_values
from edda.history import CancelRequested, Event, Finished, Started
from edda.ports import (
    Claimed,
    Clock,
    Commit,
    Committed,
    Created,
    Delivered,
    Instance,
    Judge,
    Lease,
    Message,
    NewInstance,
    Status,
    Wait,
)

__all__ = ["MemoryStore"]

logger = logging.getLogger("edda.store")


@dataclass(slots=True)
class _Row:
    """One instance."""

    id: str
    workflow: str
    events: list[Event]
    since: int  # the log's end when it was created: it reads from there (law M2)
    updated_at: datetime
    status: Status = Status.PENDING
    lease: Lease | None = None
    token: int = 0
    ready: datetime | None = None  # when it can be claimed next; leased, when the lease lapses
    ticket: int = 0  # the number of its valid entry in the heap
    due: datetime | None = None
    waits: dict[str, Wait] = field(default_factory=dict)
    inbox: dict[int, Message] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)
    cancel_requested: bool = False  # and history does not have it yet
    cancel_recorded: bool = False
    outcome: Outcome | None = None
    problem: str | None = None

    @property
    def is_parked(self) -> bool:
        return self.status.is_final or self.status is Status.STUCK


class MemoryStore:
    """A `ports.Store` that forgets everything when it is gone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, _Row] = {}
        self._log: dict[int, Message] = {}
        self._by_key: dict[tuple[str, str], int] = {}
        self._by_type: dict[str, list[int]] = {}
        # type → paths → values → (instance, wait): how an event finds its waits.
        self._index: dict[str, dict[str | None, dict[str | None, dict[tuple[str, str], Wait]]]] = {}
        self._heap: list[tuple[datetime, int, str]] = []
        self._ticket = 0

    def __repr__(self) -> str:
        return f"<MemoryStore: {len(self._rows)} instances, {len(self._log)} messages>"

    async def open(self) -> None:
        """Nothing to do."""

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
        row = _Row(new.id, new.workflow, [new.started], len(self._log), now, due=now)
        self._rows[new.id] = row
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
            elif isinstance(event, Finished):
                row.outcome = event.outcome
        row.taken.update(commit.taken)
        for position in commit.taken:
            row.inbox.pop(position, None)
        if commit.status is Status.STUCK:  # its waits and due time stand for when it goes on
            row.lease = None
            self._schedule(row, None)
            return Committed(is_released=True)
        row.due = commit.due
        self._register(row, commit.waits)
        messages = tuple(message for _, message in sorted(row.inbox.items()))
        goes_on = bool(messages) or row.cancel_requested
        if commit.status.is_final or (commit.release and not goes_on):
            row.lease = None
            self._schedule(row, None if commit.status.is_final else commit.due)
            return Committed(is_released=True)
        return Committed(messages, row.cancel_requested)

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
        if not row.cancel_recorded and not row.cancel_requested:
            row.cancel_requested = True
            self._wake(row)
        return True

    async def retry_stuck(self, instance_id: str | None = None) -> int:
        """Make stuck instances ready again (one, or all); how many."""
        stuck = [
            row
            for row in self._rows.values()
            if row.status is Status.STUCK and instance_id in (None, row.id)
        ]
        for row in stuck:
            row.status = Status.PENDING
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
        planned: list[tuple[Envelope, list[str]] | None] = []
        refused: dict[int, tuple[str, ...]] = {}
        seen = set()
        for index, envelope in enumerate(envelopes):
            key = (envelope.source, envelope.id)
            if key in self._by_key or key in seen:
                self._warn_of_other_content(envelope)
                planned.append(None)
                continue
            seen.add(key)
            fitting = self._fitting(envelope)
            verdicts = [
                None if judge is None or wait.on_invalid == "raise" else judge(wait, envelope)
                for _, wait in fitting
            ]
            if fitting and all(verdicts):
                refused[index] = tuple(dict.fromkeys(filter(None, verdicts)))
            planned.append((envelope, list(dict.fromkeys(id for id, _ in fitting))))
        if refused:
            return [Delivered(None, (), refused.get(index, ())) for index in range(len(planned))]
        return [
            Delivered(None, is_duplicate=True) if plan is None else self._accept(*plan)
            for plan in planned
        ]

    def _accept(self, envelope: Envelope, woken: list[str]) -> Delivered:
        position = len(self._log) + 1
        message = Message(position, self._clock.now(), envelope)
        self._log[position] = message
        self._by_key[envelope.source, envelope.id] = position
        self._by_type.setdefault(envelope.type, []).append(position)
        for id in woken:
            row = self._rows[id]
            row.inbox[position] = message
            self._wake(row)
        return Delivered(position, tuple(woken))

    def _fitting(self, envelope: Envelope) -> list[tuple[str, Wait]]:
        found: list[tuple[str, Wait]] = []
        for paths, by_values in self._index.get(envelope.type, {}).items():
            values = None if paths is None else match_values(envelope.document, json.loads(paths))
            if paths is None or values is not None:
                found += [(key[0], wait) for key, wait in by_values.get(values, {}).items()]
        if envelope.instance_id is not None:
            found = [(id, wait) for id, wait in found if id == envelope.instance_id]
        return found

    def _warn_of_other_content(self, envelope: Envelope) -> None:
        position = self._by_key.get((envelope.source, envelope.id))
        if position is not None and self._log[position].envelope.text != envelope.text:
            logger.warning(
                "The event %r of %r came again with other content; the first one stands.",
                envelope.id,
                envelope.source,
            )

    # ---- Inside one row --------------------------------------------------------------------------

    def _held(self, lease: Lease) -> _Row | None:
        row = self._rows.get(lease.instance_id)
        held = row is not None and row.lease is not None
        if held and row.lease.worker == lease.worker and row.lease.token == lease.token:  # type: ignore[union-attr]
            return row
        return None

    def _lease(self, row: _Row, worker: str, until: datetime) -> Claimed:
        row.token += 1
        row.lease = Lease(row.id, worker, row.token, until)
        row.status = Status.RUNNING
        self._schedule(row, until)
        messages = tuple(message for _, message in sorted(row.inbox.items()))
        return Claimed(row.lease, row.workflow, tuple(row.events), messages, row.cancel_requested)

    def _schedule(self, row: _Row, at: datetime | None) -> None:
        # One valid entry a row; the older ones lose their ticket and are passed over.
        self._ticket += 1
        row.ticket = self._ticket
        row.ready = at
        if at is not None:
            heappush(self._heap, (at, row.ticket, row.id))

    def _wake(self, row: _Row) -> None:
        # A leased row's holder is told; one that is ready already keeps its place.
        now = self._clock.now()
        if row.lease is None and not row.is_parked and (row.ready is None or row.ready > now):
            self._schedule(row, now)

    def _register(self, row: _Row, waits: tuple[Wait, ...]) -> None:
        wanted = {} if row.status.is_final else {wait.id: wait for wait in waits}
        for id in row.waits.keys() - wanted.keys():
            old = row.waits.pop(id)
            by_values = self._index[old.type][old.paths]
            del by_values[old.values][row.id, id]
            if not by_values[old.values]:
                del by_values[old.values]
        # What fits none of the waits any more is found again when one is registered that it fits.
        row.inbox = {
            position: message
            for position, message in row.inbox.items()
            if any(wait.fits(message.envelope, row.id) for wait in wanted.values())
        }
        for id, wait in wanted.items():
            if id in row.waits:
                continue
            row.waits[id] = wait
            by_paths = self._index.setdefault(wait.type, {})
            by_paths.setdefault(wait.paths, {}).setdefault(wait.values, {})[row.id, id] = wait
            self._look_back(row, wait)

    def _look_back(self, row: _Row, wait: Wait) -> None:
        # Law M5: what came before the wait was registered is found here, in the same step.
        for position in self._by_type.get(wait.type, ()):
            if position > row.since and position not in row.taken and position not in row.inbox:
                message = self._log[position]
                if wait.fits(message.envelope, row.id):
                    row.inbox[position] = message


def _view(row: _Row) -> Instance:
    return Instance(
        id=row.id,
        workflow=row.workflow,
        status=row.status,
        started_at=row.events[0].at,
        updated_at=row.updated_at,
        due=None if row.is_parked else row.due,
        waits=tuple(row.waits.values()),
        outcome=row.outcome,
        problem=row.problem,
    )
