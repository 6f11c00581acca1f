"""PostgreSQL under a simulation: a store whose methods never suspend, by waiting in place.

Its event loop runs in a thread of its own, so that every guarantee that is checked in virtual
time can be checked on the real database.
"""

import asyncio
import threading
from contextlib import asynccontextmanager
from functools import cache
from types import SimpleNamespace

from edda.stores.postgres import PostgresStore

__all__ = ["BlockingStore"]


@cache
def loop():
    made = asyncio.new_event_loop()
    threading.Thread(target=made.run_forever, daemon=True, name="postgres").start()
    return made


def wait_for(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop()).result(60)


class Blocking:
    """Coroutine methods of `inner`, waited for in place."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        method = getattr(self.inner, name)

        async def call(*arguments, **options):
            return wait_for(method(*arguments, **options))

        return call


class BlockingStore(Blocking):
    """A `ports.Store` on PostgreSQL in the time of a simulation."""

    def __init__(self, url, clock):
        super().__init__(PostgresStore(url, clock))

    async def changed(self):
        await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def transaction(self):
        manager = self.inner.transaction()
        opened = wait_for(manager.__aenter__())
        try:
            yield SimpleNamespace(
                connection=Blocking(opened.connection),
                commit=Blocking(opened).commit,
                rollback=Blocking(opened).rollback,
            )
        except BaseException as error:
            if not wait_for(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            wait_for(manager.__aexit__(None, None, None))
