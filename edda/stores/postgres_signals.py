"""What processes tell each other through PostgreSQL: which instances have something to do.

NOTIFY is sent in a transaction of its own, after the one it tells of: at commit the server takes
one lock for all that notify, and would hold it while it writes to disk. Notifications of one
process are put together while one is under way. One may be lost (the process died in between, a
connection broke); so now and then, and after each new connection, anything may have changed.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Iterable
from typing import Any

import asyncpg

from edda.errors import StoreError
from edda.ports import Changed
from edda.stores.postgres_database import Database

__all__ = ["Signals"]

logger = logging.getLogger("edda.store")

# How long a lost notification may go unnoticed.
DOUBT_SECONDS = 10.0

# How many ids go into one notification, and how long it may be: the server takes 7,999 bytes.
MOST = 100
LONGEST = 7900

BROKEN = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Signals:
    """Tells other processes what was changed here, and hears what they say."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channel = f"edda:{database.schema}"
        self._me = secrets.token_hex(8)
        self._telling: asyncio.Task[None] | None = None
        self._woken: dict[str, None] = {}
        self._over: dict[str, None] = {}
        self._has_sent = False
        self._connection: Any = None
        self._heard = asyncio.Event()
        self._changed = Changed()
        self._is_unsure = False

    async def close(self) -> None:
        """Say what is still to be said, and hear no more."""
        if self._telling is not None:
            await asyncio.wait([self._telling])
        connection, self._connection = self._connection, None
        self._heard = asyncio.Event()  # it belongs to this event loop, and the next may be another
        if connection is not None:
            connection.terminate()

    # ---- Telling ---------------------------------------------------------------------------------

    def tell(
        self, woken: Iterable[str] = (), over: Iterable[str] = (), *, has_sent: bool = False
    ) -> None:
        """Other processes are to know of these, soon."""
        self._woken |= dict.fromkeys(woken)
        self._over |= dict.fromkeys(over)
        self._has_sent |= has_sent
        if (self._woken or self._over or self._has_sent) and self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self._woken or self._over or self._has_sent:
                payloads = self._payloads()
                await self._database.rows("notify", self._channel, payloads)
        except StoreError as error:
            logger.warning(
                "Others are not told of a change, and will look by themselves: %s", error
            )
        finally:
            self._telling = None

    def _payloads(self) -> list[str]:
        woken, over, has_sent = list(self._woken), list(self._over), self._has_sent
        self._woken, self._over, self._has_sent = {}, {}, False
        rounds = range(0, max(len(woken), len(over), 1), MOST)
        return [
            payload if len(payload) <= LONGEST else json.dumps([self._me])
            for start in rounds
            if (
                payload := json.dumps(
                    [
                        self._me,
                        woken[start : start + MOST],
                        over[start : start + MOST],
                        has_sent,
                    ]
                )
            )
        ]

    # ---- Hearing ---------------------------------------------------------------------------------

    async def changed(self) -> Changed | None:
        """What others changed, as soon as they say so; None when anything may have changed."""
        if self._connection is None or self._connection.is_closed():
            self._connection = connection = await self._database.connect()
            connection.add_termination_listener(lambda _: self._heard.set())
            try:
                await connection.add_listener(self._channel, self._hear)
            except BROKEN:
                connection.terminate()
            return None
        try:
            async with asyncio.timeout(DOUBT_SECONDS):
                await self._heard.wait()
        except TimeoutError:
            await self._check(self._connection)
            return None
        changed, self._changed = self._changed, Changed()
        is_unsure, self._is_unsure = self._is_unsure, False
        self._heard.clear()
        return None if is_unsure else changed

    async def _check(self, connection: Any) -> None:
        """Drop a connection that has broken without a word: the next call makes a new one."""
        try:
            await connection.execute("SELECT 1")
        except BROKEN:
            connection.terminate()

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        sender, told = _told(payload)
        if sender == self._me:
            return
        if told is None:
            self._is_unsure = True
        else:
            before = self._changed
            self._changed = Changed(
                (*before.woken, *told.woken),
                (*before.over, *told.over),
                before.has_sent or told.has_sent,
            )
        self._heard.set()


def _told(payload: str) -> tuple[object, Changed | None]:
    """Who says what; None for anything, as where it cannot be read: anybody may notify."""
    try:
        sender, *said = json.loads(payload)
    except (TypeError, ValueError):
        return None, None
    match said:
        case [list(woken), list(over), bool(has_sent)] if all(
            isinstance(one, str) for one in (*woken, *over)
        ):
            return sender, Changed(tuple(woken), tuple(over), has_sent)
    return sender, None
