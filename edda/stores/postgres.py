"""The store in PostgreSQL: for many workers on many machines.

A method is one call of one function of the server, and so one transaction and one round trip;
the SQL, and what is locked when and why, is in `postgres.sql`. The database's clock counts for
leases and acceptance times, and the machine's clock is told how it compares.

Absent: connections and their faults (`postgres_database`), notifications (`postgres_signals`),
values and columns (`postgres_rows`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edda.codec import encode_error
from edda.errors import HistoryFormatError, LeaseLost, TransactionOverError
from edda.events import Envelope
from edda.history import CancelRequested, Event, Started, as_row, from_row
from edda.ports import (
    Changed,
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
from edda.stores.postgres_database import Database
from edda.stores.postgres_log import PostgresLog
from edda.stores.postgres_rows import (
    as_arrays,
    as_facets,
    as_instance,
    as_messages,
    as_outgoing,
    as_wait_words,
    as_words,
)
from edda.stores.postgres_signals import Signals

__all__ = ["PostgresStore"]

# How many messages more than it has waits an instance is offered at once: enough that a turn
# which refuses a few has the next ones at hand; the rest of a long log follows with each commit.
OFFERED = 16

# Told what time it was at the database, and here before and after asking.
Follow = Callable[[datetime, datetime, datetime], None]


class PostgresStore:
    """A `ports.Store` in a schema of a PostgreSQL database. Any number of processes may share it.

    With `follow` the database's clock counts, and `follow` is told how it compares to `clock`;
    without, `clock` counts, which is for tests. Raises `StoreUrlError`.
    """

    def __init__(self, url: str, clock: Clock, *, follow: Follow | None = None) -> None:
        self._database = Database(url)
        self._clock = clock
        self._follow = follow
        self._log = PostgresLog(self._database, self._now)
        self._signals = Signals(self._database)

    def __repr__(self) -> str:
        return f"<PostgresStore: {self._database.name}>"

    async def open(self) -> None:
        """Connect and make the schema. Raises `StoreError` when the database cannot be used."""
        async with AsyncExitStack() as undo:
            await self._database.open()
            undo.push_async_callback(self.close)
            await self.next_due(())  # the clocks are compared before anything happens
            undo.pop_all()

    async def close(self) -> None:
        """Let calls under way end, and disconnect."""
        await self._signals.close()
        await self._database.close()
        # Its lock belongs to this event loop, and the next may be another.
        self._log = PostgresLog(self._database, self._now)

    async def changed(self) -> Changed | None:
        """Return what another process changed, as soon as it says so; None for anything."""
        return await self._signals.changed()

    # ---- Turns ---------------------------------------------------------------------------------

    async def create(self, new: NewInstance) -> Created:
        """Store a new instance, unless its id is there already."""
        _, head, payload = as_row(new.started)
        lease = timedelta(seconds=new.lease_seconds)
        told = (new.id, new.workflow, new.started.at, head, payload, new.worker, lease)
        ((is_new, workflow, head, payload, until),) = await self._rows("create", self._now(), *told)
        if not is_new:
            started = from_row((0, head, payload))
            assert isinstance(started, Started)
            return Created(None, (workflow, started))
        if new.worker is None:
            self._signals.tell([new.id])
            return Created(None)
        return Created(Claimed(Lease(new.id, new.worker, 1, until), new.workflow, (new.started,)))

    async def claim(
        self, worker: str, names: Sequence[str], *, limit: int, lease_seconds: float
    ) -> list[Claimed]:
        """Lease up to `limit` instances of these workflows, the longest ready first."""
        if not names or limit <= 0:
            return []
        lease = timedelta(seconds=lease_seconds)
        rows = await self._rows("claim", self._now(), worker, list(names), limit, lease, OFFERED)
        claimed = []
        for key, id, workflow, token, until, is_asked, seqs, heads, payloads, *messages in rows:
            try:
                history = tuple(map(from_row, zip(seqs, heads, payloads, strict=True)))
            except HistoryFormatError as error:
                # One that nobody here can read must not keep the others from being claimed.
                await self._rows("park", key, token, encode_error(error), self._now())
                continue
            held = Lease(id, worker, token, until)
            claimed.append(Claimed(held, workflow, history, as_messages(*messages), is_asked))
        return claimed

    async def commit(self, commit: Commit) -> Committed:
        """Apply a step. Raises `LeaseLost`, with no effect, when the lease is not held."""
        committed = await self._commit(commit, self._rows)
        self._tell(commit, committed)
        return committed

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction of an activity, on a connection of its own; others go on meanwhile."""
        async with self._database.transaction() as connection:
            yield _Transaction(self, connection)

    async def commit_in(self, connection: Any, commit: Commit) -> Committed:
        """Apply a step in an open transaction, and commit that."""
        if not connection.is_in_transaction():
            raise TransactionOverError(
                "A transactional activity has ended its transaction itself, so its writes cannot "
                "be committed with its answer. Leave COMMIT and ROLLBACK to the engine; raise to "
                "undo."
            )

        async def rows(name: str, *values: Any) -> list[Any]:
            return await self._database.fetch(connection, name, *values)

        committed = await self._commit(commit, rows)
        await self._database.end(connection, "COMMIT")
        self._tell(commit, committed)
        return committed

    async def undo(self, connection: Any) -> None:
        """Roll back what was begun, if anything was."""
        if connection.is_in_transaction():
            await self._database.end(connection, "ROLLBACK")

    async def _commit(self, commit: Commit, run: Callable[..., Awaitable[list[Any]]]) -> Committed:
        await self._log.make_shapes(commit)
        types = sorted({envelope.type for envelope in commit.messages})
        await self._log.learn(types)
        lease = commit.lease
        is_restart = commit.restart is not None
        is_asked = any(isinstance(event, CancelRequested) for event in commit.events)
        while True:
            facets = as_facets(commit.messages, self._log.shapes)
            ((outcome, is_released, is_cancelled, woken, _, *messages),) = await run(
                "commit",
                self._now(),
                lease.instance_id,
                lease.worker,
                lease.token,
                commit.expected_length,
                commit.status.value,
                commit.due,
                commit.release,
                commit.problem,
                is_asked,
                is_restart,
                *as_arrays(commit),
                list(commit.taken),
                as_wait_words(commit.waits, self._log.shapes),
                [one.type for one in commit.subscriptions],
                [one.mode for one in commit.subscriptions],
                [envelope.text for envelope in commit.outbox],
                list(commit.cancels),
                types,
                self._log.counts(types),
                as_words(commit.messages),
                facets.events,
                facets.shapes,
                facets.founds,
                facets.addresses,
                OFFERED,
                list(commit.renewed),
            )
            match outcome:
                case "done":
                    told = tuple(woken)
                    return Committed(as_messages(*messages), is_cancelled, is_released, told)
                case "lost":
                    raise LeaseLost(lease.instance_id)
                case "stale":
                    await self._log.learn(types, again=True)
                case _:
                    assert outcome == "again", outcome

    def _tell(self, commit: Commit, committed: Committed) -> None:
        over = [commit.lease.instance_id] if commit.status.is_final else []
        self._signals.tell(committed.woken, over, has_sent=bool(commit.outbox))

    async def renew(self, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
        """Prolong leases; those that are not held any more are missing from the answer."""
        rows = await self._rows(
            "renew",
            self._now(),
            [lease.instance_id for lease in leases],
            [lease.worker for lease in leases],
            [lease.token for lease in leases],
            timedelta(seconds=lease_seconds),
        )
        held = {(id, token): until for id, token, until in rows}
        return [
            Lease(lease.instance_id, lease.worker, lease.token, until)
            for lease in leases
            if (until := held.get((lease.instance_id, lease.token))) is not None
        ]

    async def release(self, worker: str) -> None:
        """Give back every lease of a worker."""
        ((freed,),) = await self._rows("free", self._now(), worker, None)
        self._signals.tell(freed)

    async def workers(self) -> list[str]:
        """The workers that hold leases, lapsed ones too."""
        return [worker for (worker,) in await self._rows("workers")]

    async def request_cancel(self, instance_id: str) -> bool:
        """Ask for cancellation and wake the instance; False when it has ended or is unknown."""
        ((is_asked,),) = await self._rows("request_cancel", self._now(), instance_id)
        if is_asked:
            self._signals.tell([instance_id])
        return bool(is_asked)

    async def retry_stuck(self, instance_id: str | None = None) -> int:
        """Make stuck instances ready again (one, or all); how many."""
        ((freed,),) = await self._rows("free", self._now(), None, instance_id)
        self._signals.tell(freed)
        return len(freed)

    # ---- Messages ------------------------------------------------------------------------------

    async def deliver(
        self, envelopes: Sequence[Envelope], judge: Judge | None = None
    ) -> list[Delivered]:
        """Accept events, all or none, and wake the instances whose waits they fit.

        `judge` is asked before the transaction, and the transaction checks that it was asked
        about the right waits: no lock is held while it thinks.
        """
        delivered = await self._log.deliver(envelopes, judge)
        self._signals.tell(woken for one in delivered for woken in one.woken)
        return delivered

    async def expire(self, before: datetime) -> int:
        """Drop events accepted before an instant that no live instance could still take."""
        return await self._log.expire(before)

    async def expired(self, *, limit: int = 100, after: int = 0) -> list[Expired]:
        """Events that expired unread, by position, those after a position."""
        return [Expired(*row) for row in await self._rows("expired", after, limit)]

    # ---- The outbox ----------------------------------------------------------------------------

    async def take_outgoing(self, *, limit: int, lease_seconds: float) -> list[Outgoing]:
        """Take up to `limit` events of the outbox that are due, oldest first."""
        lease = timedelta(seconds=lease_seconds)
        rows = await self._rows("take_outgoing", self._now(), limit, lease)
        return [as_outgoing(row) for row in rows]

    async def settle_outgoing(
        self, position: int, *, error: str | None = None, retry_at: datetime | None = None
    ) -> None:
        """An event of the outbox was posted; or was not, with `error`."""
        if error is None:
            await self._rows("drop_outgoing", position)
        else:
            await self._rows("fail_outgoing", position, retry_at, error, self._now())

    async def outgoing(self, *, limit: int = 100, after: int = 0) -> list[Outgoing]:
        """The events of the outbox, by position, those after a position."""
        return [as_outgoing(row) for row in await self._rows("outgoing", after, limit)]

    async def outgoing_due(self) -> datetime | None:
        """When the next event of the outbox is due."""
        ((due,),) = await self._rows("outgoing_due")
        found: datetime | None = due
        return found

    # ---- Looking -------------------------------------------------------------------------------

    async def next_due(self, names: Sequence[str]) -> datetime | None:
        """When the next instance of these workflows has something to do, or its lease lapses."""
        before = self._clock.now()
        ((due, now),) = await self._rows("next_due", list(set(names)))
        if self._follow is not None:
            self._follow(now, before, self._clock.now())
        found: datetime | None = due
        return found

    async def instance(self, instance_id: str) -> Instance | None:
        """One instance, or None."""
        rows = await self._rows("instance", instance_id)
        return as_instance(rows[0]) if rows else None

    async def history(self, instance_id: str) -> list[Event]:
        """The history of one instance; empty when there is none."""
        return [from_row(row) for row in await self._rows("history", instance_id)]

    async def find(
        self,
        *,
        status: Status | None = None,
        workflow: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Instance]:
        """Instances by id, at most `limit`, those after the id `after`."""
        wanted = None if status is None else status.value
        rows = await self._rows("find", after or "", wanted, workflow, limit)
        return [as_instance(row) for row in rows]

    async def _rows(self, name: str, *values: Any) -> list[Any]:
        return await self._database.rows(name, *values)

    def _now(self) -> datetime | None:
        return self._clock.now() if self._follow is None else None


@dataclass(frozen=True, slots=True)
class _Transaction:
    """An open transaction of an activity (`ports.Transaction`)."""

    store: PostgresStore
    connection: Any

    async def commit(self, commit: Commit) -> Committed:
        return await self.store.commit_in(self.connection, commit)

    async def rollback(self) -> None:
        await self.store.undo(self.connection)
