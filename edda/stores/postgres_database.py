"""The database under the PostgreSQL store: its URL, its connections, and what can go wrong.

A call is one statement on a connection of the pool, and so one transaction and one round trip.
What the server or the network says in a word or two becomes a sentence that names the database
(never its password) and the cure. A schema is changed only when it is ours or empty.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from edda.errors import (
    StoreError,
    StoreUnavailableError,
    StoreUrlError,
    StoreVersionError,
    TransactionOverError,
)
from edda.stores.postgres_rows import statements
from edda.stores.sentences import elsewhere, not_open

__all__ = ["VERSION", "Database"]

logger = logging.getLogger("edda.store")

# The version of postgres.sql, functions and all, kept in its table `version`. Whatever
# changes there makes a new one: a process must never call functions of another version.
VERSION = 2

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"

# How long the server may take to answer a call, and to accept a connection.
ANSWER_SECONDS = 30.0
CONNECT_SECONDS = 10.0

# How often a call is made again that the server gave up to resolve a deadlock.
TRIES = 5

# The advisory lock of those who make or check a schema ("edda").
OPENING = 0x65646461

SCHEMA = "edda"
POOL_SIZE = 10
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,47}")

Errors = tuple[type[BaseException], ...]

# Nobody answers, or not now: nothing is wrong with the call.
_AWAY: Errors = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut while a statement was prepared
    asyncpg.OperatorInterventionError,  # shut down, terminated, starting up, timed out
    asyncpg.InsufficientResourcesError,  # too many connections, the disk is full
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, or one that was just demoted
    asyncpg.PostgresIOError,
)


# All that is said in a sentence of ours.
_ANY: Errors = (*_AWAY, asyncpg.PostgresError)


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """One that is not reset between calls, which would be a second round trip for each."""

    __slots__ = ()

    def get_reset_query(self) -> str:
        return ""


class Database:
    """A pool of connections to the database and schema that a URL names.

    Besides what asyncpg knows, the URL takes `schema=` (`edda`) and `pool_size=` (10).
    Raises `StoreUrlError`.
    """

    def __init__(self, url: str) -> None:
        self.name = _without_password(url)
        with self._read():
            parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        self.schema = options.pop("schema", SCHEMA)
        size = options.pop("pool_size", str(POOL_SIZE))
        if not _NAME.fullmatch(self.schema) or self.schema.startswith("pg_"):
            problem = "has a schema= that is no plain name (small letters, digits and _)"
            raise StoreUrlError(self.name, problem)
        if not size.isascii() or not size.isdigit() or not 2 <= int(size) <= 1000:
            raise StoreUrlError(self.name, "has a pool_size= that is no number from 2 to 1000")
        self.sql = statements(self.schema)
        self._dsn = urlunsplit(parts._replace(scheme="postgresql", query=urlencode(options)))
        self._pool_size = int(size)
        self._pool: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the pool's
        # One connection is always left: an activity's transaction may need another for its answer.
        self._room = asyncio.Semaphore(self._pool_size - 1)

    def __repr__(self) -> str:
        return f"<Database: {self.name}>"

    async def open(self) -> None:
        """Connect and make the schema. Raises `StoreError`, and has then changed nothing."""
        if self._pool is not None:
            return
        with self._sentences(), self._read(), ExitStack() as undo:
            pool = await asyncpg.create_pool(
                min_size=1,
                max_size=self._pool_size,
                connection_class=_Connection,
                max_queries=10_000_000,
                max_cached_statement_lifetime=0,
                **self._how(),
            )
            undo.callback(pool.terminate)
            await self._prepare(pool)
            undo.pop_all()
        self._room = asyncio.Semaphore(self._pool_size - 1)  # of this event loop
        self._loop = asyncio.get_running_loop()
        self._pool = pool

    async def close(self) -> None:
        """Let calls under way end, and disconnect."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await pool.close()
            except _ANY:
                pool.terminate()

    async def connect(self) -> Any:
        """A connection outside the pool, for one's own use."""
        with self._sentences(), self._read():
            return await asyncpg.connect(**self._how())

    async def rows(self, name: str, *values: Any) -> list[Any]:
        """Run the statement of this name in a transaction of its own; its rows."""
        statement = self.sql[name]
        for left in reversed(range(TRIES)):
            try:
                with self._sentences():
                    found: list[Any] = await self._opened().fetch(statement, *values)
                return found
            except StoreUnavailableError as error:
                # The server has undone this one so that others can go on: nothing is half done.
                if not left or not isinstance(error.__cause__, asyncpg.TransactionRollbackError):
                    raise
        raise AssertionError

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """As `begin`, for somebody who may ask for other connections before it ends."""
        async with self._room, self.begin() as connection:
            yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        """A connection in a transaction, which is rolled back unless the block commits it."""
        async with self._lent() as connection:
            with self._sentences():
                await connection.execute(BEGIN)
            yield connection

    @asynccontextmanager
    async def locking(self, *names: str) -> AsyncIterator[Callable[..., Awaitable[list[Any]]]]:
        """Run these statements, and no others, in one transaction that takes locks.

        They are prepared before: a process that is stopped while the server prepares a statement
        for it does not count as idle, and would keep its locks for ever (`edda.hasten`).
        """
        async with self._lent() as connection:
            with self._sentences():
                ready = {name: await connection.prepare(self.sql[name]) for name in names}
                await connection.execute(BEGIN)

            async def rows(name: str, *values: Any) -> list[Any]:
                with self._sentences():
                    found: list[Any] = await ready[name].fetch(*values)
                    return found

            yield rows
            with self._sentences():
                await connection.execute("COMMIT")

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Any]:
        pool = self._opened()
        with self._sentences():
            connection = await pool.acquire()
        try:
            yield connection
        finally:
            await asyncio.shield(self._give_back(pool, connection))

    async def fetch(self, connection: Any, name: str, *values: Any) -> list[Any]:
        """Run the statement of this name in somebody's transaction; its rows."""
        with self._sentences():
            found: list[Any] = await connection.fetch(self.sql[name], *values)
            return found

    async def end(self, connection: Any, command: str) -> None:
        """Commit or roll back somebody's transaction."""
        with self._sentences():
            await connection.execute(command)

    async def _give_back(self, pool: Any, connection: Any) -> None:
        with suppress(*_ANY):  # a connection that is broken is replaced
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            await connection.execute("RESET ALL; SELECT pg_advisory_unlock_all(); UNLISTEN *")
        await pool.release(connection)

    def _opened(self) -> Any:
        if self._pool is None:
            raise not_open(self)
        if self._loop is not asyncio.get_running_loop():
            raise elsewhere(self)
        return self._pool

    def _how(self) -> dict[str, Any]:
        return {
            "dsn": self._dsn,
            "timeout": CONNECT_SECONDS,
            "command_timeout": ANSWER_SECONDS,
            "server_settings": {
                "application_name": "edda",
                "default_transaction_isolation": "read committed",
            },
        }

    # ---- The schema ----------------------------------------------------------------------------

    async def _prepare(self, pool: Any) -> None:
        async with pool.acquire() as connection:
            if await self._is_ready(connection):
                return
            async with connection.transaction():
                # Of several that start at once one makes the schema, and the others wait for it.
                await connection.execute("SELECT pg_advisory_xact_lock($1)", OPENING)
                if not await self._is_ready(connection):
                    await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"')
                    await connection.execute(self.sql["schema"])
                    await connection.execute(self.sql["add_version"], VERSION)

    async def _is_ready(self, connection: Any) -> bool:
        table = f'"{self.schema}".version'
        is_ours, is_used = await connection.fetchrow(self.sql["is_there"], table, self.schema)
        if not is_ours:
            if is_used:
                raise StoreError(
                    f"The schema {self.schema!r} of {self.name} belongs to another program. "
                    f"Nothing was changed. Give Edda one of its own: add ?schema=NAME to the URL."
                )
            return False
        found: int = await connection.fetchval(self.sql["version"])
        if found != VERSION:
            raise StoreVersionError(f"The schema {self.schema!r} of {self.name}", found, VERSION)
        return True

    # ---- Sentences -----------------------------------------------------------------------------

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except _ANY as error:
            raise _sentence(error, self.name) from error

    @contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError:
            raise
        except ValueError:
            # Not a word of what was found: it may be a piece of the password.
            problem = "cannot be read: look at the host and port, and quote (%2F) what is special"
            raise StoreUrlError(self.name, problem) from None


def _sentence(error: BaseException, name: str) -> StoreError:
    """What to raise for an error of the server's, the network's or asyncpg's."""
    what = str(error).strip() or type(error).__name__
    if isinstance(error.__cause__, UnicodeError):
        error = error.__cause__
    for kinds, make in _SENTENCES:
        if isinstance(error, kinds):
            return make(name, what)
    return StoreError(f"{name} refused a statement, and nothing was changed: {what}.")


def _refused(cure: str) -> Callable[[str, str], StoreError]:
    return lambda name, what: StoreError(f"{name} cannot be used: {what}. {cure}")


def _unavailable(cure: str) -> Callable[[str, str], StoreError]:
    return lambda name, what: StoreUnavailableError(f"{name} does not answer: {what}. {cure}")


# The first that fits counts.
_SENTENCES: Sequence[tuple[Errors, Callable[[str, str], StoreError]]] = (
    (
        (asyncpg.InvalidAuthorizationSpecificationError,),  # InvalidPasswordError is one
        _refused("Correct the user or the password in the URL, or the server's pg_hba.conf."),
    ),
    (
        (asyncpg.exceptions.ClientConfigurationError,),
        _refused("Correct the URL: postgresql://user@host:5432/database."),
    ),
    (
        (asyncpg.InvalidCatalogNameError,),
        _refused("Make the database first (`createdb NAME`), or name another one in the URL."),
    ),
    (
        (asyncpg.InsufficientPrivilegeError,),
        _refused(
            "Give the user the right to make the schema (CREATE on the database), or make it as "
            "another user and let this one own it."
        ),
    ),
    (
        (asyncpg.InFailedSQLTransactionError,),
        lambda _, what: TransactionOverError(
            "A transactional activity has caught an error of the database and gone on, but the "
            f"error has ended its transaction, so its answer cannot be committed ({what}). Let "
            "the error out, or put the statement that may fail into `async with "
            "ctx.connection.transaction()`."
        ),
    ),
    (
        (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError, UnicodeError),
        lambda name, what: StoreError(
            f"{name} keeps text as UTF-8 without NUL characters, and something that was to be "
            f"stored is not ({what}). Nothing was changed. Look at the ids, types and sources."
        ),
    ),
    (
        (asyncpg.DataError,),
        lambda name, what: StoreError(f"{name} cannot keep a value: {what}. Nothing was changed."),
    ),
    (
        (asyncpg.ProgramLimitExceededError,),
        lambda name, what: StoreError(
            f"{name} cannot keep something so large, and nothing was changed: {what}. Ids, types "
            f"and sources may have some 2,000 characters together."
        ),
    ),
    (
        (
            asyncpg.UndefinedTableError,
            asyncpg.UndefinedFunctionError,
            asyncpg.InvalidSchemaNameError,
        ),
        _refused(
            "Somebody has dropped Edda's schema or a part of it, or another version of Edda has "
            "made it anew. Restore a backup, or start this process with the version that made it."
        ),
    ),
    (
        (asyncpg.TransactionRollbackError,),
        _unavailable("Nothing was changed, and the call may be repeated."),
    ),
    (
        (asyncpg.ReadOnlySQLTransactionError,),
        _unavailable("It is a standby that only reads: name the primary in the URL."),
    ),
    (
        (asyncpg.InsufficientResourcesError,),
        _unavailable("Nothing was changed. Look at its disk, and at max_connections."),
    ),
    (
        _AWAY,
        _unavailable(
            "What was under way is done as a whole or not at all; the call may be repeated."
        ),
    ),
)


def _without_password(url: str) -> str:
    return re.sub(r"(://[^/@:]*):[^@]*@", r"\1@", url.partition("?")[0])
