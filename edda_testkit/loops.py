"""The loops of a session's simulations: a clean one serves the next, for making one costs.

A loop is passed on only when nothing of its simulation is left in it: no task, timer, thread,
file or future, and nothing that user code has set on it. Any other is closed.
"""

from edda_testkit.clock import VirtualClock, VirtualLoop

__all__ = ["Loops"]


class Loops:
    """Hands out loops, and keeps one between two simulations."""

    def __init__(self) -> None:
        self._spare: VirtualLoop | None = None

    def take(self, clock: VirtualClock) -> VirtualLoop:
        """A loop on this clock."""
        loop, self._spare = self._spare, None
        if loop is None:
            return VirtualLoop(clock)
        loop._clock = clock
        return loop

    def give(self, loop: VirtualLoop) -> None:
        """Take a loop back when its simulation has ended."""
        if self._spare is None and _is_clean(loop):
            self._spare = loop
        else:
            loop.close()

    def close(self) -> None:
        """Close what is kept; it may be used again."""
        loop, self._spare = self._spare, None
        if loop is not None:
            loop.close()


def _is_clean(loop: VirtualLoop) -> bool:
    left = (
        loop.is_closed(),
        loop._tasks,
        loop._timers,
        loop._jobs,
        loop._ready,
        loop._foreign,
        loop._asyncgens,
        loop._default_executor,
        loop._exception_handler,
        loop._task_factory,
        loop.get_debug(),
        loop._has_outside_files(),
    )
    return not any(left)
