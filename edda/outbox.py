"""The relay of the outbox: posts what activities have sent in the transaction of their answer.

At least once: an event leaves the outbox when it was posted, and is posted again when that could
not be set down. Each event has its own retries, so one that is refused for ever does not keep the
others; it stays, and can be listed (`app.pending_events`). There is no order between events.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from edda.errors import StoreUnavailableError
from edda.events import Envelope
from edda.ports import Clock, Outgoing, Store
from edda.retry import RetryPolicy

__all__ = ["Relay"]

logger = logging.getLogger("edda.outbox")

# Events that are posted side by side, at most.
CONCURRENT = 10
# How long a relay has an event to itself.
LEASE_SECONDS = 60.0
BACKOFF = RetryPolicy(max_attempts=None, max_duration=None, max_interval=300.0)


class Relay:
    """Posts the events of a store's outbox through `post`, until it is closed."""

    def __init__(
        self, store: Store, clock: Clock, post: Callable[[Envelope], Awaitable[None]]
    ) -> None:
        self._store = store
        self._clock = clock
        self._post = post
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._posting: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Relay: {len(self._posting)} under way>"

    def open(self) -> None:
        """Begin to post. Call it on the event loop that is to do the work."""
        self._awake = asyncio.Event()  # an app may be opened again on another event loop
        self._task = asyncio.create_task(self._relay_for_ever(), name="outbox")

    async def close(self) -> None:
        """Stop; what was under way is posted again later."""
        tasks = [task for task in (self._task, *self._posting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """There may be something new."""
        self._awake.set()

    async def post_one(self, outgoing: Outgoing) -> None:
        """Post one event, and set down how that went."""
        try:
            await self._post(outgoing.envelope)
        except Exception as error:  # it stays in the outbox, with this error, and is tried again
            seconds = BACKOFF.interval(outgoing.attempts + 1)
            logger.warning(
                "The event %r was not posted (attempt %d), again in %g s: %s",
                outgoing.envelope.id,
                outgoing.attempts + 1,
                seconds,
                error,
            )
            await self._store.settle_outgoing(
                outgoing.position,
                error=f"{type(error).__name__}: {error}",
                retry_at=self._clock.now() + timedelta(seconds=seconds),
            )
        else:
            await self._store.settle_outgoing(outgoing.position)

    async def _relay_for_ever(self) -> None:
        while True:
            self._awake.clear()
            due: datetime | None = self._clock.now() + timedelta(seconds=1)
            try:
                room = CONCURRENT - len(self._posting)
                for outgoing in await self._take(room):
                    task = asyncio.create_task(self._guarded(outgoing))
                    self._posting.add(task)
                    task.add_done_callback(self._done)
                due = await self._store.outgoing_due()
            except StoreUnavailableError as error:
                logger.warning("Cannot look into the outbox: %s", error)
            except Exception:  # goes to the log: a relay that stops helps nobody
                logger.exception("Cannot look into the outbox")
            await self._wait_until(due)

    async def _take(self, room: int) -> list[Outgoing]:
        if not room:
            return []
        return await self._store.take_outgoing(limit=room, lease_seconds=LEASE_SECONDS)

    async def _guarded(self, outgoing: Outgoing) -> None:
        try:
            await self.post_one(outgoing)
        except Exception:  # goes to the log: it is due again when its lease ends
            logger.exception("Cannot set down what became of %r", outgoing.envelope.id)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._posting.discard(task)
        self._awake.set()

    async def _wait_until(self, due: datetime | None) -> None:
        if due is None or len(self._posting) >= CONCURRENT:
            await self._awake.wait()
            return
        seconds = max(0.0, (due - self._clock.now()).total_seconds())
        try:
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        except TimeoutError:
            return
