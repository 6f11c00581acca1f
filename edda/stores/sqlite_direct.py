"""A plain sqlite3 connection with the face of aiosqlite's, for transactional activities.

In a simulation the store works in the calling thread, and so do the activities that share its
transaction. What is awaited here has happened already.
"""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

__all__ = ["DirectConnection"]


class DirectCursor:
    """A cursor as aiosqlite has it; awaited, or entered with `async with`."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)  # rowcount, lastrowid, description, arraysize

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cursor.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        for row in self._cursor:
            yield row

    async def fetchone(self) -> Any:
        return self._cursor.fetchone()

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        return self._cursor.fetchmany(self._cursor.arraysize if size is None else size)

    async def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()


class DirectConnection:
    """What of aiosqlite's `Connection` an activity needs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"<DirectConnection {self._connection!r}>"

    @property
    def row_factory(self) -> Any:
        """What rows are made of."""
        return self._connection.row_factory

    @row_factory.setter
    def row_factory(self, factory: Any) -> None:
        self._connection.row_factory = factory

    @property
    def in_transaction(self) -> bool:
        """Whether the transaction is open."""
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> DirectCursor:
        """Run a statement."""
        return DirectCursor(self._connection.execute(sql, parameters))  # type: ignore[arg-type]

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> DirectCursor:
        """Run a statement for each of these."""
        return DirectCursor(self._connection.executemany(sql, parameters))

    def execute_fetchall(self, sql: str, parameters: Iterable[Any] = ()) -> Awaitable[list[Any]]:
        """All rows of a statement."""
        return self.execute(sql, parameters).fetchall()

    async def commit(self) -> None:
        """As aiosqlite's: it ends the transaction, which is the engine's to end."""
        self._connection.commit()

    async def rollback(self) -> None:
        """As aiosqlite's: it ends the transaction, which is the engine's to end."""
        self._connection.rollback()
