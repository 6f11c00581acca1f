"""An open transaction of an activity, whatever the store: it ends once, and then others go on."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from edda.errors import StoreError
from edda.ports import Commit, Committed

__all__ = ["OpenTransaction"]


@dataclass(slots=True, eq=False)
class OpenTransaction:
    """A `ports.Transaction`. `finish` commits, `undo` rolls back, `end` lets others go on."""

    connection: Any
    finish: Callable[[Commit], Awaitable[Committed]]
    undo: Callable[[], Awaitable[None]]
    end: Callable[[], None]
    is_over: bool = False

    async def commit(self, commit: Commit) -> Committed:
        """Apply a step together with what was written, and end the transaction."""
        if self.is_over:
            raise StoreError(
                "This transaction has ended already, by a commit or a rollback before. Open "
                "another one."
            )
        self.is_over = True
        try:
            return await self.finish(commit)
        finally:
            self.end()

    async def rollback(self) -> None:
        """Undo what was written, and end the transaction; nothing when it has ended."""
        if not self.is_over:
            self.is_over = True
            try:
                await self.undo()
            finally:
                self.end()
