"""The store in an SQLite file: for one machine, and several processes on it.

`SqliteStore` works in a thread of its own, through aiosqlite, with group commit: what is asked
for while a transaction is being written goes into the next one, all together, so that many
instances share one fsync. `DirectSqliteStore` is the same tables in the calling thread, and
never suspends: for simulations.

Absent: the plain methods (`sqlite_methods`), SQL and semantics (`sqlite_core`), files and their
faults (`sqlite_file`).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from edda.errors import StoreError
from edda.ports import (
    Clock,
    Commit,
    Committed,
    Transaction,
)
from edda.stores.sentences import elsewhere, not_open
from edda.stores.sqlite_core import SqliteCore
from edda.stores.sqlite_direct import DirectConnection
from edda.stores.sqlite_file import IN_MEMORY, SqliteFile
from edda.stores.sqlite_methods import SqliteMethods
from edda.stores.transactions import OpenTransaction

__all__ = ["DirectSqliteStore", "SqliteStore"]

T = TypeVar("T")

# How often `changed` looks whether another process wrote.
POLL_SECONDS = 0.05

# How many operations share a transaction at most: others must get at the file in between.
GROUP = 1000


class DirectSqliteStore(SqliteMethods):
    """A `ports.Store` on SQLite in the calling thread; its methods never suspend."""

    def __init__(self, clock: Clock, path: str | Path = IN_MEMORY) -> None:
        self._clock = clock
        self._path = path
        self._file: SqliteFile | None = None
        self._is_open = False  # a transaction of an activity

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
        file = self._usable()

        async def finish(commit: Commit) -> Committed:
            committed: Committed = file.finish(lambda core: core.commit(commit))
            return committed

        async def undo() -> None:
            file.undo()

        def end() -> None:
            self._is_open = False

        file.begin()
        self._is_open = True
        transaction = OpenTransaction(DirectConnection(file.connection), finish, undo, end)
        try:
            yield transaction
        finally:
            await transaction.rollback()

    async def _run(self, work: Callable[[SqliteCore], T], *, is_write: bool = True) -> T:
        outcome: T = self._usable().run([work], is_write=is_write)[0]
        return outcome

    def _usable(self) -> SqliteFile:
        if self._file is None:
            raise not_open(self)
        if self._is_open:
            raise StoreError(
                "A transactional activity waits for something while its transaction is open, and "
                "another step needs the database. In a simulation on SQLite it must write and "
                "return; in production it would keep everybody waiting."
            )
        return self._file


@dataclass(slots=True, eq=False)
class _Asked:
    """One operation somebody waits for."""

    work: Callable[[SqliteCore], Any]
    is_write: bool
    answer: asyncio.Future[Any]


# The transactions that the running task, or one that made it, has opened.
_inside: ContextVar[tuple[OpenTransaction, ...]] = ContextVar("edda_transactions", default=())


class SqliteStore(SqliteMethods):
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
        self._loop: asyncio.AbstractEventLoop | None = None  # the one it is open on
        self._own = asyncio.Lock()  # held by the transaction of an activity
        self._opened: OpenTransaction | None = None  # while it is, hops wait

    def __repr__(self) -> str:
        return f"<SqliteStore: {self._path}>"

    async def open(self) -> None:
        """Connect and make the schema. Raises `StoreError` when the file cannot be used."""
        if self._connection is None:
            opening = asyncio.ensure_future(asyncio.to_thread(SqliteFile, self._path, self._clock))
            try:
                file = await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(_close_it)
                raise
            connection = _in_daemon_thread(
                lambda: aiosqlite.Connection(lambda: file.connection, 64)
            )
            self._file, self._connection = file, await connection
            self._loop = asyncio.get_running_loop()
            self._own = asyncio.Lock()  # the one before may belong to another event loop
            self._version = await self._run(SqliteCore.data_version, is_write=False)

    async def close(self) -> None:
        """Finish what was asked for, transactions of activities too, and disconnect."""
        self._refuse_inside()
        async with self._own:
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

    # ---- Transactions of activities ------------------------------------------------------------
    # While one is open, hops wait. The thread does what it is handed in order, so whoever is
    # cancelled while he waits for its answer may go: what was handed over is done before whatever
    # comes next.

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction of an activity. Nobody else gets at the file until it ends."""
        if self._connection is not None and asyncio.get_running_loop() is not self._loop:
            raise self._unusable()
        self._refuse_inside()
        await self._own.acquire()
        transaction = OpenTransaction(None, self._finish, self._undo, self._go_on)
        self._opened = transaction
        _inside.set((*(one for one in _inside.get() if not one.is_over), transaction))
        try:
            while self._hop is not None:
                await asyncio.wait([self._hop])
            if self._connection is None or self._file is None:
                raise self._unusable()
            transaction.connection = self._connection
            await self._hand(self._file.begin)
            yield transaction
        finally:
            await transaction.rollback()

    async def _finish(self, commit: Commit) -> Committed:
        assert self._file is not None
        committed: Committed = await self._hand(self._file.finish, lambda core: core.commit(commit))
        return committed

    async def _undo(self) -> None:
        if self._file is not None:
            await self._hand(self._file.undo)

    def _go_on(self) -> None:
        self._opened = None
        self._own.release()
        if self._hop is None and (self._alone or self._asked):
            self._start_hop()

    def _refuse_inside(self) -> None:
        if self._opened is not None and self._opened in _inside.get():
            raise StoreError(
                "A transactional activity calls the engine (a start, a status, an event that goes "
                "out at once) while its transaction is open: the call would wait for its own end. "
                "Write through ctx.connection alone, send with send_event_transactional, and do "
                "the rest in a step of its own."
            )

    def _unusable(self) -> StoreError:
        return not_open(self) if self._connection is None else elsewhere(self)

    def _hand(self, work: Callable[..., Any], *arguments: Any, **options: Any) -> Awaitable[Any]:
        # aiosqlite's own name for "run this in the thread": the public ones run one statement.
        answer: Awaitable[Any] = self._connection._execute(work, *arguments, **options)  # noqa: SLF001
        return answer

    # ---- Group commit --------------------------------------------------------------------------
    # One hop to the thread is under way at a time. It takes along all that was asked for until
    # it starts, in one transaction. When an operation raises, the transaction is rolled back and
    # each of its operations gets one of its own: the one that raises has no effect, and the
    # others do not notice.

    async def _run(self, work: Callable[[SqliteCore], T], *, is_write: bool = True) -> T:
        loop = asyncio.get_running_loop()
        if self._connection is None or loop is not self._loop:
            raise self._unusable()
        self._refuse_inside()
        asked = _Asked(work, is_write, loop.create_future())
        self._asked.append(asked)
        if self._hop is None and self._opened is None:
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
        outcomes: list[Any] = await self._hand(
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
        if (self._alone or self._asked) and self._opened is None:
            self._start_hop()


def _close_it(opening: "asyncio.Future[SqliteFile]") -> None:
    """Close what was opened for somebody who has gone."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


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
