"""A store whose commits ask again while the database is away."""

import asyncio
from typing import Any

from edda.errors import StoreUnavailableError
from edda.ports import Store

__all__ = ["PatientStore"]

# How long an unreachable store is asked again before a commit is given up.
PATIENCE_SECONDS = 20.0


class PatientStore:
    """The `commit` of `inner`, asked again.

    A commit that took effect although its answer was lost is refused the second time
    (`LeaseLost`): the instance then goes on from there when its lease has lapsed.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    async def commit(self, commit: Any) -> Any:
        """Apply a step (`ports.Store`)."""
        pause = 0.05
        waited = 0.0
        while True:
            try:
                return await self.inner.commit(commit)
            except StoreUnavailableError:
                if waited >= PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(pause)
                waited += pause
                pause = min(2 * pause, 2.0)
