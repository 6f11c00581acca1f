"""The methods of the SQLite stores, each one piece of work on the core. How it runs is theirs."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from edda.events import Envelope
from edda.history import Event
from edda.ports import (
    Claimed,
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
)
from edda.stores.sqlite_core import SqliteCore

__all__ = ["SqliteMethods"]

T = TypeVar("T")


class SqliteMethods:
    """The methods of `ports.Store`, each as one piece of work on the core."""

    async def _run(self, work: Callable[[SqliteCore], T], *, is_write: bool = True) -> T:
        raise NotImplementedError

    async def create(self, new: NewInstance) -> Created:
        """Store a new instance, unless its id is there already."""
        return await self._run(lambda core: core.create(new))

    async def claim(
        self, worker: str, names: Sequence[str], *, limit: int, lease_seconds: float
    ) -> list[Claimed]:
        """Lease up to `limit` instances of these workflows, the longest ready first."""
        return await self._run(lambda core: core.claim(worker, names, limit, lease_seconds))

    async def commit(self, commit: Commit) -> Committed:
        """Apply a step. Raises `LeaseLost`, with no effect, when the lease is not held."""
        return await self._run(lambda core: core.commit(commit))

    async def renew(self, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
        """Prolong leases; those that are not held any more are missing from the answer."""
        return await self._run(lambda core: core.renew(leases, lease_seconds))

    async def release(self, worker: str) -> None:
        """Give back every lease of a worker."""
        await self._run(lambda core: core.release(worker))

    async def workers(self) -> list[str]:
        """The workers that hold leases, lapsed ones too."""
        return await self._run(lambda core: core.workers(), is_write=False)

    async def deliver(
        self, envelopes: Sequence[Envelope], judge: Judge | None = None
    ) -> list[Delivered]:
        """Accept events, all or none, and wake the instances whose waits they fit.

        `judge` is called in the store's thread, and again when a transaction is repeated.
        """
        return await self._run(lambda core: core.log.deliver(envelopes, judge))

    async def expire(self, before: datetime) -> int:
        """Drop events accepted before an instant that no live instance could still take."""
        total, after = 0, 0
        while True:
            count, last = await self._expire_some(before, after)
            total += count
            if last is None:
                return total
            after = last

    async def _expire_some(self, before: datetime, after: int) -> tuple[int, int | None]:
        return await self._run(lambda core: core.log.expire(before, after))

    async def expired(self, *, limit: int = 100, after: int = 0) -> list[Expired]:
        """Events that expired unread, by position, those after a position."""
        return await self._run(lambda core: core.log.expired(limit, after), is_write=False)

    async def take_outgoing(self, *, limit: int, lease_seconds: float) -> list[Outgoing]:
        """Take up to `limit` events of the outbox that are due, the longest due first."""
        return await self._run(lambda core: core.take_outgoing(limit, lease_seconds))

    async def settle_outgoing(
        self, position: int, *, error: str | None = None, retry_at: datetime | None = None
    ) -> None:
        """An event of the outbox was posted; or was not, with `error`."""
        await self._run(lambda core: core.settle_outgoing(position, error, retry_at))

    async def outgoing(self, *, limit: int = 100, after: int = 0) -> list[Outgoing]:
        """The events of the outbox, by position, those after a position."""
        return await self._run(lambda core: core.outgoing(limit, after), is_write=False)

    async def outgoing_due(self) -> datetime | None:
        """When the next event of the outbox is due."""
        return await self._run(lambda core: core.outgoing_due(), is_write=False)

    async def request_cancel(self, instance_id: str) -> bool:
        """Ask for cancellation and wake the instance; False when it has ended or is unknown."""
        return await self._run(lambda core: core.request_cancel(instance_id))

    async def retry_stuck(self, instance_id: str | None = None) -> int:
        """Make stuck instances ready again (one, or all); how many."""
        return await self._run(lambda core: core.retry_stuck(instance_id))

    async def next_due(self, names: Sequence[str]) -> datetime | None:
        """When the next instance of these workflows has something to do, or its lease lapses."""
        return await self._run(lambda core: core.next_due(names), is_write=False)

    async def instance(self, instance_id: str) -> Instance | None:
        """One instance, or None."""
        return await self._run(lambda core: core.instance(instance_id), is_write=False)

    async def history(self, instance_id: str) -> list[Event]:
        """The history of one instance; empty when there is none."""
        return await self._run(lambda core: core.history(instance_id), is_write=False)

    async def find(
        self,
        *,
        status: Status | None = None,
        workflow: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Instance]:
        """Instances by id, at most `limit`, those after the id `after`."""
        return await self._run(
            lambda core: core.find(status, workflow, limit, after), is_write=False
        )
