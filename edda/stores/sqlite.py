"""The store in an SQLite file: for one machine, and several processes on it.

`SqliteStore` works in a thread of its own, through aiosqlite, with group commit: what is asked
for while a transaction is being written goes into the next one, all together, so that many
instances share one fsync. `DirectSqliteStore` is the same tables in the calling thread, and
never suspends: for simulations.

Absent: SQL and semantics (`sqlite_core`), files and their faults (`sqlite_file`).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from edda.errors import StoreError
from edda.events import Envelope
from edda.history import Event
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
from edda.stores.sqlite_core import SqliteCore
from edda.stores.sqlite_direct import DirectConnection
from edda.stores.sqlite_file import IN_MEMORY, SqliteFile

__all__ = ["DirectSqliteStore", "SqliteStore"]

T = TypeVar("T")

# How often `changed` looks whether another process wrote.
POLL_SECONDS = 0.05

# How many operations share a transaction at most: others must get at the file in between.
GROUP = 1000


class _SqliteMethods:
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
        total = 0
        while count := await self._run(lambda core: core.log.expire(before)):
            total += count
        return total

    async def expired(self, *, limit: int = 100, after: int = 0) -> list[Expired]:
        """Events that expired unread, by position, those after a position."""
        return await self._run(lambda core: core.log.expired(limit, after), is_write=False)

    async def take_outgoing(self, *, limit: int, lease_seconds: float) -> list[Outgoing]:
        """Take up to `limit` events of the outbox that are due, oldest first."""
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


class DirectSqliteStore(_SqliteMethods):
    """A `ports.Store` on SQLite in the calling thread; its methods never suspend."""

    def __init__(self, clock: Clock, path: str | Path = IN_MEMORY) -> None:
        self._clock = clock
        self._path = path
        self._file: SqliteFile | None = None

    def __repr__(self) -> str:
        return f"<DirectSqliteStore: {self._path}>"

    async def open(self) -> None:
        """Connect and make the schema. Raises `StoreError` when the file cannot be used."""
        if self._file is None:
            self._file = SqliteFile(self._path, self._clock)

    async def close(self) -> None:
        """Disconnect. What was in memory is gone; what was in a file is there."""
        if self._file is not None:
            self._file.close()
            self._file = None

    async def changed(self) -> None:
        """Wait for ever: nobody else is meant to use this file."""
        await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction of an activity, which must not wait for anything while it is open."""
        if self._file is None:
            raise _not_open(self)
        self._refuse_while_open()
        file = self._file

        async def finish(commit: Commit) -> Committed:
            committed: Committed = file.finish(lambda core: core.commit(commit))
            return committed

        async def undo() -> None:
            file.undo()

        file.begin()
        try:
            yield _Transaction(DirectConnection(file.connection), finish, undo)
        finally:
            file.undo()

    async def _run(self, work: Callable[[SqliteCore], T], *, is_write: bool = True) -> T:
        if self._file is None:
            raise _not_open(self)
        self._refuse_while_open()
        outcome: T = self._file.run([work], is_write=is_write)[0]
        return outcome

    def _refuse_while_open(self) -> None:
        if self._file is not None and self._file.connection.in_transaction:
            raise StoreError(
                "A transactional activity waits for something while its transaction is open, and "
                "another step needs the database. In a simulation on SQLite it must write and "
                "return; in production it would keep everybody waiting."
            )


@dataclass(frozen=True, slots=True)
class _Transaction:
    """An open transaction of an activity (`ports.Transaction`)."""

    connection: Any
    finish: Callable[[Commit], Awaitable[Committed]]
    undo: Callable[[], Awaitable[None]]

    async def commit(self, commit: Commit) -> Committed:
        return await self.finish(commit)

    async def rollback(self) -> None:
        await self.undo()


@dataclass(slots=True, eq=False)
class _Asked:
    """One operation somebody waits for."""

    work: Callable[[SqliteCore], Any]
    is_write: bool
    answer: asyncio.Future[Any]


class SqliteStore(_SqliteMethods):
    """A `ports.Store` in an SQLite file. Several processes of one machine may share the file."""

    def __init__(self, path: str | Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._file: SqliteFile | None = None
        self._connection: Any = None  # aiosqlite's; it is only handed work
        self._asked: list[_Asked] = []
        self._alone: list[_Asked] = []
        self._hop: asyncio.Task[list[Any]] | None = None
        self._version = 0
        self._own = asyncio.Lock()  # held by the transaction of an activity
        self._is_paused = False

    def __repr__(self) -> str:
        return f"<SqliteStore: {self._path}>"

    async def open(self) -> None:
        """Connect and make the schema. Raises `StoreError` when the file cannot be used."""
        if self._connection is None:
            file = await asyncio.to_thread(SqliteFile, self._path, self._clock)
            connection = _in_daemon_thread(
                lambda: aiosqlite.Connection(lambda: file.connection, 64)
            )
            self._file, self._connection = file, await connection
            self._version = await self._run(SqliteCore.data_version, is_write=False)

    async def close(self) -> None:
        """Finish what was asked for, and disconnect."""
        while self._hop is not None:
            await asyncio.wait([self._hop])
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            await connection.close()

    async def changed(self) -> None:
        """Return when another connection has changed the file since the last time."""
        version = self._version
        while version == self._version:
            await asyncio.sleep(POLL_SECONDS)
            version = await self._run(SqliteCore.data_version, is_write=False)
        self._version = version

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction of an activity. Nobody else gets at the file until it ends."""
        async with self._own:
            self._is_paused = True
            try:
                while self._hop is not None:
                    await asyncio.wait([self._hop])
                if self._connection is None or self._file is None:
                    raise _not_open(self)
                file, hop = self._file, self._connection._execute  # noqa: SLF001 - as below

                async def finish(commit: Commit) -> Committed:
                    try:
                        done: Committed = await hop(file.finish, lambda core: core.commit(commit))
                    finally:
                        self._resume()
                    return done

                async def undo() -> None:
                    try:
                        await hop(file.undo)
                    finally:
                        self._resume()

                await hop(file.begin)
                try:
                    yield _Transaction(self._connection, finish, undo)
                finally:
                    if self._is_paused:
                        await asyncio.shield(undo())
            finally:
                self._resume()

    def _resume(self) -> None:
        self._is_paused = False
        if self._hop is None and (self._alone or self._asked):
            self._start_hop()

    # ---- Group commit --------------------------------------------------------------------------
    # One hop to the thread is under way at a time. It takes along all that was asked for until
    # it starts, in one transaction. When an operation raises, the transaction is rolled back and
    # each of its operations gets one of its own: the one that raises has no effect, and the
    # others do not notice.

    async def _run(self, work: Callable[[SqliteCore], T], *, is_write: bool = True) -> T:
        if self._connection is None:
            raise _not_open(self)
        asked = _Asked(work, is_write, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        if self._hop is None and not self._is_paused:
            self._start_hop()
        outcome: T = await asked.answer
        return outcome

    def _start_hop(self) -> None:
        group: list[_Asked] = []
        self._hop = asyncio.get_running_loop().create_task(self._make_hop(group))
        self._hop.add_done_callback(lambda hop: self._land(group, hop))

    async def _make_hop(self, group: list[_Asked]) -> list[Any]:
        waiting = self._alone or self._asked
        size = 1 if self._alone else GROUP
        group += [asked for asked in waiting[:size] if not asked.answer.done()]  # not given up
        del waiting[:size]
        if not group:
            return []
        assert self._file is not None
        # aiosqlite's own name for "run this in the thread": the public ones run one statement.
        outcomes: list[Any] = await self._connection._execute(  # noqa: SLF001
            self._file.run,
            [asked.work for asked in group],
            is_write=any(asked.is_write for asked in group),
        )
        return outcomes

    def _land(self, group: list[_Asked], hop: "asyncio.Task[list[Any]]") -> None:
        self._hop = None
        error = asyncio.CancelledError() if hop.cancelled() else hop.exception()
        if error is not None and len(group) > 1 and isinstance(error, Exception):
            self._alone += group
        else:
            outcomes = hop.result() if error is None else [None] * len(group)
            for asked, outcome in zip(group, outcomes, strict=True):
                _settle(asked.answer, outcome, error)
        if not self._is_paused:
            self._resume()


def _settle(answer: asyncio.Future[Any], outcome: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(outcome)
    elif isinstance(error, asyncio.CancelledError):
        answer.cancel()
    else:
        answer.set_exception(error)


def _in_daemon_thread(make: Callable[[], T]) -> T:
    """What `make` returns, made in a daemon thread, so that threads it makes are daemons too.

    A program that ends without closing its store must not hang at exit, as it would with
    aiosqlite's thread; to the file, that is no more than a crash (law T5).
    """
    made: list[T] = []
    thread = threading.Thread(target=lambda: made.append(make()), daemon=True)
    thread.start()
    thread.join()
    return made[0]


def _not_open(store: object) -> StoreError:
    return StoreError(f"{store!r} is not open. Call `await store.open()` first.")
