"""Shows a virtual clock as `datetime.now()`, `time.time()` and the like, through freezegun.

* Starting freezegun scans every loaded module. A `Freezer` starts it once, as a base that shows
  real time, and a projection only takes the base's place: microseconds.
* A freeze of the user's own is adopted, never covered: we stand in its place and lead its object
  along, and its `tick()`, `move_to()` and `shift()` ask the simulation to move.
* Nothing is pushed upon somebody's stack and popped in another order; entries are swapped in place.
* `monotonic`, `perf_counter`, pytest's durations, Hypothesis's deadlines and asyncio stay real.
* A naive `datetime.now()` reads UTC while projected, with either backend.

Absent: scheduling (the clock's), the instant to begin at (the simulation's), and patching of our own.
freezegun and time-machine are imported when first needed: freezegun costs 0.1 s.
"""

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import ModuleType
from typing import Any, Literal, Protocol
from weakref import WeakSet

from edda_testkit.pydantic_time import agree_with_fakes

__all__ = ["Backend", "FreezeError", "Freezer", "Projectable"]

Backend = Literal["freezegun", "time-machine", "off"]

# freezegun matches prefixes, hence the dots: "edda" would take in a user's "edda_orders" as well.
# An ignored module is not patched, and reads real time from `time`; its `datetime.now` is frozen.
IGNORE = tuple(
    """
    _hypothesis _pytest. aiosqlite. anyio. asyncio. concurrent. coverage. edda. edda_testkit.
    execnet. hypothesis. pluggy. pytest_ selectors socketserver subprocess trio. uvloop. xdist.
    """.split()
)
EVERYTHING = ("",)
STAYS_REAL = ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")

# The method of the real class, which nobody replaces as freezegun replaces classes and functions.
REAL_NOW = next(kind for kind in datetime.__mro__ if kind.__module__ == "datetime").now
EPOCH = REAL_NOW(UTC).min.replace(year=1970, tzinfo=UTC)


class FreezeError(RuntimeError):
    """Freezes of time were opened and closed in an order that cannot be followed."""


class Projectable(Protocol):
    """What a projection needs of a clock; `VirtualClock` has it."""

    def now(self) -> datetime:
        """The virtual instant."""

    def move_to(self, instant: datetime, /) -> None:
        """Set the virtual instant."""

    def on_move(self, listener: Callable[[datetime], object], /) -> Callable[[], None]:
        """Tell `listener` each new instant, until the answer is called."""


class Freezer:
    """Projects virtual clocks into user code; one a session, or one a simulation."""

    def __init__(self, backend: Backend = "freezegun") -> None:
        self.backend = backend
        self.is_held = False
        self._base: _RealTime | None = None
        self._freeze: Any = None
        self._modules: dict[str, ModuleType] = {}
        self._plain_models: WeakSet[type] = WeakSet()
        self._projections = 0

    def hold(self) -> None:
        """Keep a base freeze of real time alive, so that each projection is cheap.

        Does nothing if it is held already, if somebody else froze time, or with another backend.
        """
        if self.backend == "freezegun" and self._base is None and not frozen_stacks():
            self._start()
        self.is_held = self._base is not None

    def release(self) -> None:
        """Stop the base freeze: everything is real again. Does nothing if there is none.

        Raises FreezeError while a projection or a freeze begun inside is open; call it again then.
        """
        if self._projections:
            raise FreezeError(
                "release() was called while a simulation is open: close the simulation first."
            )
        self.is_held = False
        self._stop()

    def foreign_now(self) -> datetime | None:
        """The instant at which the user froze time, where a simulation should start; or None."""
        if self.backend == "off":
            return None
        for stack in frozen_stacks():
            top = stack.entries[-1]
            if isinstance(top, _Shown):
                return top.at if top.tie is not None else None
            return stack.tie(top).read()
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
        to which the user moved a freeze of their own; without it, the clock is moved there.
        """
        if self.backend == "off":
            yield lambda: None
            return
        with ExitStack() as ends:
            stack = self._stack(clock.now(), ends)
            shown = _Shown(stack, clock.now(), on_foreign_move or clock.move_to)
            shown.insert()
            ends.callback(shown.remove)
            if stack.mends_fakes:
                stack.mend(self._plain_models)
            ends.callback(clock.on_move(shown.show))
            yield lambda: shown.show(clock.now())

    def _stack(self, now: datetime, ends: ExitStack) -> "_Stack":
        """Where to stand: upon whoever froze time, else upon a freeze of ours."""
        for stack in frozen_stacks():
            return stack
        if self.backend == "time-machine":
            return start_travel(now, ends)
        if self._base is None:
            self._start()
        self._projections += 1
        ends.callback(self._end_projection)
        return _FreezegunStack()

    def _end_projection(self) -> None:
        self._projections -= 1
        if not self._projections and not self.is_held:
            self._stop()

    def _start(self) -> None:
        """Begin freezegun's outermost freeze, which shows real time."""
        freezegun = importlib.import_module("freezegun")
        stack = _FreezegunStack()
        self._modules = dict(sys.modules)
        self._freeze = freezegun.freeze_time(EPOCH, ignore=list(IGNORE))
        self._freeze.start()
        self._base = stack.entries[-1] = _RealTime()
        stack.api.ignore_lists[-1] = EVERYTHING
        stack.api.tz_offsets[-1] = REAL_NOW(UTC).astimezone().utcoffset()
        real = {getattr(stack.api, f"real_{name}"): name for name in STAYS_REAL}
        for function, name in real.items():
            setattr(time, name, function)
        for module, attribute, original in self._freeze.undo_changes:
            if callable(original) and original in real:
                setattr(module, attribute, original)
        stack.mend(self._plain_models)
        stack.let_time_machine_start(True)

    def _stop(self) -> None:
        """End freezegun's outermost freeze, which only the one who began it can."""
        if self._base is None:
            return
        stack = _FreezegunStack()
        if stack.entries[1:] or stack.entries[:1] != [self._base]:
            raise FreezeError(
                "A freeze_time() that began inside a simulation has not ended, so time cannot be "
                "made real: end it before the simulation ends, or begin it before."
            )
        stack.let_time_machine_start(False)
        self._freeze.stop()
        stack.unmend()
        stack.replace_fakes(self._modules)
        self._base, self._freeze, self._modules = None, None, {}


class _RealTime:
    """The base's entry in freezegun's stack: real time, or what time-machine makes of it."""

    def __call__(self) -> datetime:
        return REAL_NOW(UTC).replace(tzinfo=None)


class _Shown:
    """A projection's entry in the stack of freezegun or time-machine, in place of another."""

    def __init__(
        self, stack: "_Stack", at: datetime, on_foreign_move: Callable[[datetime], object]
    ) -> None:
        self._stack = stack
        self.at = at
        self.on_foreign_move = on_foreign_move
        self.under: Any = None
        self.saved: Any = None
        self.tie: _Tie | None = None

    def __call__(self) -> datetime:
        """What freezegun asks."""
        return self.at.replace(tzinfo=None)

    def time_ns(self) -> int:
        """What time-machine asks."""
        return (self.at - EPOCH) // timedelta(microseconds=1) * 1000

    def time(self) -> float:
        """What time-machine asked before its version 3."""
        return self.time_ns() / 1e9

    def _stop(self) -> None:
        """What time-machine calls when the user's journey ends before our projection."""
        self.under._stop()

    def show(self, at: datetime) -> None:
        """Show another instant, in front of other projections but not of the user's freezes."""
        self.at = at
        if self._stack.entries and self._stack.entries[-1] is not self:
            self._come_forward()
        if self.tie is not None:
            self.tie.write(at)

    def insert(self) -> None:
        entries = self._stack.entries
        self.under = entries[-1]
        if isinstance(self.under, _Shown):
            self.saved, self.tie = self.under.saved, self.under.tie
        else:
            self.saved = self._stack.enter()
            if not isinstance(self.under, _RealTime | _Journey):
                self.tie = self._stack.tie(self.under)
        entries[-1] = self
        if self.tie is not None:
            self.tie.add(self)

    def remove(self) -> None:
        """Leave the stack, wherever in it we are; nothing is left if the user's stop() took us."""
        if self.tie is not None:
            self.tie.drop(self)
        entries = self._stack.entries
        for index, entry in enumerate(entries):
            above = None
            while isinstance(entry, _Shown):
                if entry is self and above is not None:
                    above.under = self.under
                    return
                if entry is self:
                    entries[index] = self.under
                    if not isinstance(self.under, _Shown):
                        self._stack.leave(index, self.saved)
                    return
                above, entry = entry, entry.under
        self._stack.leave(None, self.saved)

    def _come_forward(self) -> None:
        if isinstance(self._stack.entries[-1], _Shown):
            tie, self.tie = self.tie, None
            ...
