"""Shows a virtual clock as `datetime.now()`, `time.time()` and the like, through freezegun.

* Starting freezegun scans every loaded module. A `Freezer` starts it once, as a base that shows
  real time, and a projection only stands in for the base: microseconds.
* A freeze of the user's own is adopted, never covered: we stand in for it and lead it along, and
  its `tick()`, `move_to()` and `shift()` ask the simulation to move.
* `monotonic`, `perf_counter`, pytest's durations, Hypothesis's deadlines and asyncio stay real.
* A naive `datetime.now()` reads UTC while projected, whatever the backend.

Absent: the instant to begin at (the simulation's), and patches of our own. freezegun and
time-machine are imported when first needed: freezegun alone costs 0.1 s.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Literal, Protocol
from weakref import WeakSet

from edda_testkit.freeze_entries import Shown
from edda_testkit.freeze_stacks import (
    FreezeError,
    FreezegunStack,
    Stack,
    TravelStack,
    stacks_in_use,
)

__all__ = ["Backend", "FreezeError", "Freezer", "Projectable"]

Backend = Literal["freezegun", "time-machine", "off"]


class Projectable(Protocol):
    """What a projection needs of a clock; `VirtualClock` has it."""

    def now(self) -> datetime:
        """The virtual instant."""

    def move_to(self, instant: datetime, /) -> None:
        """Set the virtual instant."""

    def on_move(self, listener: Callable[[datetime], object], /) -> Callable[[], None]:
        """Tell `listener` each new instant, until the answer is called."""


class Freezer:
    """Projects virtual clocks into user code; one for a session, or one for a simulation."""

    def __init__(self, backend: Backend = "freezegun") -> None:
        self.backend = backend
        self.is_held = False
        self._end: Callable[[], bool] | None = None
        self._plain_models: WeakSet[type] = WeakSet()
        self._projections = 0

    def hold(self) -> None:
        """Keep a freeze that shows real time alive, so that each projection is cheap.

        Does nothing if there is one, if somebody else froze time, or with another backend.
        """
        if self.backend == "freezegun" and not stacks_in_use():
            self._begin()
        self.is_held = self.backend == "freezegun" and self._end is not None

    def release(self) -> None:
        """Make everything real again; does nothing if nothing is held.

        Raises FreezeError while a projection, or a freeze that began inside, is open. It may be
        called again when that has ended.
        """
        if self._projections:
            raise FreezeError(
                "release() was called while a simulation is open: close the simulation first."
            )
        self.is_held = False
        self._stop()

    def foreign_now(self) -> datetime | None:
        """The instant the user froze time at, where a simulation should start; None if not."""
        if self.backend == "off":
            return None
        for stack in stacks_in_use():
            top = stack.entries[-1]
            if not isinstance(top, Shown):
                return stack.now_of(top)
            if top.tie is not None:
                return top.at
        return None

    @contextmanager
    def project(
        self,
        clock: Projectable,
        *,
        on_foreign_move: Callable[[datetime], object] | None = None,
    ) -> Iterator[Callable[[], None]]:
        """Show `clock` until the block ends; of several open ones, the one that moved last.

        Yields a function that brings this one to the front. `on_foreign_move` gets the instant
        to which the user moves a freeze of their own; without it, the clock is moved there.
        """
        if self.backend == "off":
            yield lambda: None
            return
        with ExitStack() as ends:
            self._projections += 1
            ends.callback(self._end_projection)
            stack = self._stack_for(clock)
            shown = Shown(stack, clock.now(), on_foreign_move or clock.move_to)
            shown.insert()
            ends.callback(shown.remove)
            stack.mend(self._plain_models)
            ends.callback(clock.on_move(shown.show))
            yield lambda: shown.show(clock.now())

    def _stack_for(self, clock: Projectable) -> Stack:
        """Where to stand: in for whoever froze time, else for a freeze of ours."""
        for stack in stacks_in_use():
            return stack
        if self.backend == "time-machine":
            travels = TravelStack()
            self._end = travels.begin(clock.now())
            return travels
        self._begin()
        return FreezegunStack()

    def _begin(self) -> None:
        freezes = FreezegunStack()
        if not freezes.entries:  # else there is a base already, perhaps another freezer's
            self._end = freezes.begin()
        freezes.mend(self._plain_models)

    def _end_projection(self) -> None:
        self._projections -= 1
        if not self._projections and not self.is_held:
            self._stop()

    def _stop(self) -> None:
        if self._end is not None and not self._end():
            raise FreezeError(
                "A freeze_time() that began inside a simulation has not ended, so time cannot be "
                "made real again: end it before the simulation, or begin it before."
            )
        self._end = None
