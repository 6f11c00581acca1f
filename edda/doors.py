"""The doors as production uses them: the machine's clock, and the store that a URL names.

And the names of workers: they say where a worker runs, so that a process that was killed can be
told from one that is slow, and a restarted one need not wait for the leases of the dead.
"""

import os
import re
import secrets
import socket
from datetime import UTC, datetime, timedelta

from edda.errors import StoreUrlError
from edda.ports import Clock, Store
from edda.stores.memory import MemoryStore

__all__ = ["SystemClock", "is_dead", "open_store", "worker_id"]

# One process has one: a pid is used again, in a container often by the next process.
PROCESS = secrets.token_hex(4)
WORKER_ID = re.compile(r"@(?P<host>.+):(?P<pid>\d+):(?P<process>[0-9a-f]{8}):[0-9a-f]{8}")


class SystemClock:
    """The machine's clock and its entropy (`ports.Clock`).

    Where many machines share a database, they all follow its clock.
    """

    def __init__(self) -> None:
        self._ahead = timedelta(0)  # how far the one that is followed is ahead of the machine's

    def now(self) -> datetime:
        """The present in UTC."""
        return datetime.now(UTC) + self._ahead

    def follow(self, now: datetime, before: datetime, after: datetime) -> None:
        """It was `now` elsewhere at some time from `before` to `after` of this clock."""
        self._ahead += max(now - after, timedelta(0)) - max(before - now, timedelta(0))

    def entropy(self, bits: int) -> int:
        """Bits from the operating system."""
        return secrets.randbits(bits)


def open_store(url: object, clock: Clock) -> Store:
    """The store that a URL names, not opened yet. Raises `StoreUrlError`."""
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not isinstance(url, str) or not separator:
        raise StoreUrlError(str(url), "is not a URL")
    match scheme:
        case "memory":
            if rest:
                raise StoreUrlError(url, "names something after memory://, which has no name")
            return MemoryStore(clock)
        case "sqlite":
            if not rest.startswith("/") or not rest[1:]:
                raise StoreUrlError(url, "names no file")
            return _open_sqlite(rest[1:], clock)
        case "postgresql" | "postgres":
            return _open_postgres(url, clock)
    raise StoreUrlError(url, f"has the unknown scheme {scheme!r}")


def _open_sqlite(path: str, clock: Clock) -> Store:
    # sqlite3 and aiosqlite take a while to import, and tests in memory need neither.
    from edda.stores.sqlite import SqliteStore  # noqa: PLC0415

    return SqliteStore(path, clock)


def _open_postgres(url: str, clock: Clock) -> Store:
    try:
        from edda.stores.postgres import PostgresStore  # noqa: PLC0415 - asyncpg is an extra
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise StoreUrlError(
            url.partition("://")[0] + "://...",
            "needs asyncpg, which is not installed (`pip install edda-durable[postgres]`)",
        ) from error
    # One clock for all machines: the database's, unless a test has one of its own.
    follow = clock.follow if isinstance(clock, SystemClock) else None
    return PostgresStore(url, clock, follow=follow)


def worker_id(service_name: str) -> str:
    """A new worker's id: `service@host:pid:process:random`."""
    here = f"{socket.gethostname()}:{os.getpid()}:{PROCESS}"
    return f"{service_name}@{here}:{secrets.token_hex(4)}"


def is_dead(worker: str) -> bool:
    """Whether the worker's process ran on this host and is gone; False when that is not sure."""
    found = WORKER_ID.search(worker)
    if found is None or found["host"] != socket.gethostname() or os.name != "posix":
        return False
    pid = int(found["pid"])
    if pid == os.getpid():
        return found["process"] != PROCESS
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
