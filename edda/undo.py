"""What a run has done that can be undone, and how it is undone when the run ends badly (a saga).

Compensations run newest first, each a recorded and retried step. One that fails for good is set
down, and the others still run. What is undone, and by which step, is not known here.

The idea: Garcia-Molina and Salem, "Sagas", SIGMOD 1987.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from edda.errors import CompensationError
from edda.machine import Machine

__all__ = ["Undo", "Undos"]


@dataclass(frozen=True, slots=True)
class Undo:
    """One thing to undo: the step that did it, the name of what undoes it, and how."""

    step: str
    by: str
    run: Callable[[], Awaitable[object]]


class Undos:
    """The undos of one run, in the order in which their steps were answered."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._stack: list[Undo] = []

    def __repr__(self) -> str:
        return f"<Undos: {', '.join(undo.step for undo in self._stack) or 'none'}>"

    def __bool__(self) -> bool:
        return bool(self._stack)

    def add(self, undo: Undo) -> None:
        """Remember to undo this, before all that was added until now."""
        self._stack.append(undo)

    async def unwind(self, error: BaseException) -> None:
        """Undo everything, newest first, because of `error`.

        Raises `CompensationError` when something could not be undone.
        """
        if not self._stack:
            return
        self._machine.is_compensating = True
        undone: list[str] = []
        failed: list[tuple[str, str, str]] = []
        try:
            await self._machine.cancel_others()
            while self._stack:
                undo = self._stack.pop()
                try:
                    await undo.run()
                except Exception as problem:  # goes into the account; the others still run
                    failed.append((undo.step, undo.by, f"{type(problem).__name__}: {problem}"))
                else:
                    undone.append(undo.step)
        finally:
            self._machine.is_compensating = False
        if failed:
            raise CompensationError(error, undone, failed) from error
