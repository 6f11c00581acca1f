"""The file under the SQLite store: opening it, one transaction at a time, and what can go wrong.

A file is changed only when it is ours or empty. What SQLite says in a word or two becomes a
sentence that names the path and the cure.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edda.errors import (
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
    TransactionOverError,
)
from edda.ports import Clock
from edda.stores.sqlite_core import SqliteCore
from edda.stores.sqlite_rows import SQL

__all__ = ["BUSY_SECONDS", "VERSION", "SqliteFile"]

# How long another connection may hold the file before we say so.
BUSY_SECONDS = 2.0

# The version of the schema in sqlite.sql, kept in `PRAGMA user_version`.
VERSION = 2

IN_MEMORY = ":memory:"

# Gone when somebody else has ended the transaction that we began.
SAVEPOINT = "edda_step"


class SqliteFile:
    """An open database. Raises `StoreError` when it cannot be used, and has then changed nothing.

    It may be used in another thread than it was made in, but only in one at a time.
    """

    def __init__(self, path: str | Path, clock: Clock) -> None:
        self.path = path
        _check_place(path)
        with ExitStack() as undo:
            try:
                self.connection = sqlite3.connect(
                    path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
                )
                undo.callback(self.connection.close)
                self._prepare()
            except sqlite3.Error as error:
                raise _sentence(error, path) from error
            undo.pop_all()
        self.core = SqliteCore(self.connection, clock)

    def run(
        self, works: Sequence[Callable[[SqliteCore], Any]], *, is_write: bool = True
    ) -> list[Any]:
        """Run these in one transaction. When one raises, none of them had an effect."""
        with self._committing():
            self.connection.execute("BEGIN IMMEDIATE" if is_write else "BEGIN")
            return [work(self.core) for work in works]

    def begin(self) -> None:
        """Begin a transaction that `finish` or `undo` ends."""
        with self._sentences():
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute(f"SAVEPOINT {SAVEPOINT}")

    def finish(self, work: Callable[[SqliteCore], Any]) -> Any:
        """Run this in the transaction that was begun, and commit. When it raises, all is undone."""
        with self._committing():
            self._reset()
            self._release()
            return work(self.core)

    def undo(self) -> None:
        """Roll back what was begun, if anything was; and what was set on the connection."""
        with self._sentences():
            self._reset()
            self._roll_back()

    def _release(self) -> None:
        try:
            self.connection.execute(f"RELEASE {SAVEPOINT}")
        except sqlite3.OperationalError as error:
            if _primary(error) != sqlite3.SQLITE_ERROR:
                raise
            raise TransactionOverError(
                "The transaction of a transactional activity was over before its answer could be "
                "committed with it: the activity has called commit() or rollback(), or swallowed "
                "an error that ended it. Leave the end to the engine; raise to undo."
            ) from error

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self.core.log.forget()

    def _reset(self) -> None:
        """Undo what an activity may have set on the connection."""
        self.connection.row_factory = None
        self.connection.text_factory = str
        if self.connection.isolation_level is not None:
            self._roll_back()  # to change it would commit
            self.connection.isolation_level = None

    @contextmanager
    def _committing(self) -> Iterator[None]:
        is_committed = False
        with self._sentences():
            try:
                yield
                self.connection.execute("COMMIT")
                is_committed = True
            finally:
                if not is_committed:
                    self._roll_back()

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _sentence(error, self.path) from error

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    # ---- Opening -------------------------------------------------------------------------------

    def _prepare(self) -> None:
        found = self._version()
        self._switch_to_wal()
        # Power loss loses nothing that was acknowledged; the second is for macOS alone.
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA fullfsync = ON")
        if found == VERSION:
            return
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            if self._version() != VERSION:  # else another process was faster
                for statement in SQL["schema"].split(";"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {VERSION}")

    def _version(self) -> int:
        """The schema's version, 0 when there is none yet."""
        # One statement, so that nobody makes the schema between two.
        found, tables = self.connection.execute(
            "SELECT user_version, (SELECT count(*) FROM sqlite_master WHERE name = 'edda_instance')"
            " FROM pragma_user_version"
        ).fetchone()
        is_ours = tables == 1
        if is_ours and found != VERSION:
            raise StoreVersionError(str(self.path), found, VERSION)
        if is_ours != (found > 0):
            raise StoreError(
                f"{self.path} is the database of another program, which numbers its schema with "
                f"`PRAGMA user_version` as we do (found {found}). Nothing was changed. Give Edda "
                f"a file of its own."
            )
        return int(found)

    def _switch_to_wal(self) -> None:
        # SQLite does not wait for this lock itself when two processes make one file at once.
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.005)


def _check_place(path: str | Path) -> None:
    if str(path) == IN_MEMORY:
        return
    place = Path(path)
    if place.is_dir():
        raise StoreError(
            f"{path} is a folder, and a database is a file. Name a file in it, for example "
            f"{place / 'edda.db'}."
        )
    if not place.parent.is_dir():
        raise StoreError(
            f"There is no folder {place.parent} to keep {path} in (the working directory is "
            f"{Path.cwd()}). Make the folder first, or name a file in another one."
        )
    # With a log that may not be written, SQLite would open the file, and write it never again.
    for needed in (place, place.parent, Path(f"{path}-wal"), Path(f"{path}-shm")):
        if needed.exists() and not os.access(needed, os.W_OK):
            raise StoreError(_not_writable(path, f"{needed} is read-only"))


def _sentence(error: sqlite3.Error, path: str | Path) -> Exception:
    """What to raise for an error of SQLite's; the error itself when it is a defect of ours."""
    match _primary(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return StoreUnavailableError(
                f"{path} was locked by another connection for {BUSY_SECONDS:g} s. Nothing was "
                f"changed, and the call may be repeated. A program that holds a transaction open "
                f"(an `sqlite3` shell, a backup) is the usual cause."
            )
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_NOMEM:
            return StoreUnavailableError(
                f"{path} cannot be read or written now: {error}. Nothing was changed, and the "
                f"call may be repeated. Look at the disk: its room, its quota, its health."
            )
        case sqlite3.SQLITE_NOTADB:
            return StoreError(
                f"{path} is not an SQLite database. Nothing was changed. Name the file of a "
                f"database, or one that does not exist yet."
            )
        case sqlite3.SQLITE_CORRUPT:
            return StoreError(
                f"{path} is damaged: {error}. Restore a backup, or save what can be read with "
                f"`sqlite3 FILE .recover`."
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return StoreError(_not_writable(path, str(error)))
    return error


def _not_writable(path: str | Path, reason: str) -> str:
    return (
        f"{path} cannot be written: {reason}. Nothing was changed. SQLite writes the file and "
        f"others beside it: give this user the right to write both the file and its folder."
    )


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
