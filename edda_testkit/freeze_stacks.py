"""The stacks on which freezegun and time-machine keep who tells the time, and what goes with it.

Their `stop()` pops whatever is last, so an entry pushed upon a user's would be popped in the wrong
order as soon as a fixture outlives a decorator. We push nothing but a base of our own, when nobody
froze time, and stand in for what we find.

Everything here is process-wide, as the two libraries are; no state is kept outside their modules.
Absent: the entries (`freeze_entries`), when to begin and end (`freeze`), pydantic's share
(`pydantic_time`).
"""

import importlib
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import ModuleType
from typing import Any
from weakref import WeakSet

from edda_testkit.freeze_entries import EPOCH, LocalOffset, RealTime, Shown, Tie
from edda_testkit.pydantic_time import give_fakes_a_schema, judge_by_shown_time

__all__ = [
    "FreezeError",
    "FreezegunStack",
    "Stack",
    "TravelStack",
    "stacks_in_use",
]

# freezegun matches prefixes, hence the dots: "edda" would take in a user's "edda_orders" as well.
# An ignored module is not patched, and what it calls in `time` is real.
IGNORE = tuple(
    """
    _hypothesis _pytest. aiosqlite. anyio. asyncio. concurrent. coverage. edda. edda_testkit.
    execnet. hypothesis. pluggy. pytest_ selectors socketserver subprocess trio. uvloop. xdist.
    """.split()
)
EVERYTHING = ("",)
STOPWATCHES = ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")


@dataclass(frozen=True, slots=True)
class Saved:
    """What freezegun had in a place before us."""

    ignore: tuple[str, ...]
    tz_offset: timedelta
    limit: int


class FreezeError(RuntimeError):
    """Freezes of time that cannot be followed, or begin and end in an impossible order."""


class FreezegunStack:
    """freezegun's module of globals, four of which are parallel stacks."""

    def __init__(self) -> None:
        name = "freezegun.api"
        self.api: Any = sys.modules.get(name) or importlib.import_module(name)
        self.entries: list[Any] = self.api.freeze_factories

    def begin(self) -> Callable[[], bool]:
        """Begin the outermost freeze, showing real time; answers what ends it, if it can end."""
        self._load_late_names()
        loaded_before = dict(sys.modules)
        freeze = self.api.freeze_time(EPOCH, ignore=list(IGNORE))
        freeze.start()
        base = self.entries[-1] = RealTime()
        self._be_real(-1)
        stopwatches = [getattr(self.api, f"real_{name}") for name in STOPWATCHES]
        for name, real in zip(STOPWATCHES, stopwatches, strict=True):
            setattr(time, name, real)
        for module, attribute, original in freeze.undo_changes:
            if any(original is real for real in stopwatches):
                setattr(module, attribute, original)

        def end() -> bool:
            if self.entries != [base]:  # only the freeze that began the stack can end it cleanly
                return False
            freeze.stop()
            self._unmend()
            self.api.FakeDatetime.__name__ = "FakeDatetime"
            self._replace_fakes(loaded_before)
            return True

        return end

    def _load_late_names(self) -> None:
        """Load what freezegun's scan would: pydantic keeps fakes for good if it meets them."""
        with warnings.catch_warnings(action="ignore"):
            for module in list(sys.modules.values()):
                if "__dir__" in getattr(module, "__dict__", ()):
                    self.api._get_module_attributes(module)

    def _replace_fakes(self, loaded_before: Mapping[str, ModuleType]) -> None:
        """Mend ignored modules that were imported meanwhile, which freezegun forgets."""
        api = self.api
        fakes = {id(api.FakeDatetime): api.real_datetime, id(api.FakeDate): api.real_date}
        for name, value in vars(api).items():
            if name.startswith("fake_"):
                fakes[id(value)] = getattr(api, name.replace("fake_", "real_", 1))
        for name, module in list(sys.modules.items()):
            if loaded_before.get(name) is not module and module is not api:
                for attribute, value in list(getattr(module, "__dict__", {}).items()):
                    if id(value) in fakes:
                        setattr(module, attribute, fakes[id(value)])

    def now_of(self, entry: Any) -> datetime:
        """What it shows now; a ticking freeze goes on meanwhile."""
        return as_instant(entry() if hasattr(entry, "start") else entry.time_to_freeze)

    def tie(self, entry: Any) -> Tie:
        """Lead its `time_to_freeze`, which naive UTC is kept in."""

        def read() -> datetime:
            return as_instant(entry.time_to_freeze)

        def write(at: datetime) -> None:
            entry.time_to_freeze = at.replace(tzinfo=None)
            if hasattr(entry, "start"):  # it ticks
                entry.start = self.api.real_datetime.now()

        return Tie(entry, ("tick", "move_to"), read, write)

    def enter(self, under: Any) -> Saved:
        """Let our rules hold in the last place."""
        api = self.api
        limits = [entry.saved.limit for entry in self.entries if isinstance(entry, Shown)]
        limit = limits[0] if limits else api.call_stack_inspection_limit
        saved = Saved(api.ignore_lists[-1], api.tz_offsets[-1], limit)
        defaults = tuple(api.config.settings.default_ignore_list)
        api.ignore_lists[-1] = IGNORE + (defaults if is_real(under) else saved.ignore)
        if is_real(under):
            api.tz_offsets[-1] = timedelta(0)
        # "Is the caller ignored?" With freezegun's 5 it is "is anybody near", and user code run
        # by asyncio, Hypothesis or us would see real time.
        api.call_stack_inspection_limit = 1
        api.FakeDatetime.__name__ = "FakeDatetime"
        return saved

    def leave(self, saved: Saved, index: int | None) -> None:
        """Let the place's own rules hold again."""
        if index is not None and is_real(self.entries[index]):
            self._be_real(index)
        elif index is not None:
            self.api.ignore_lists[index] = saved.ignore
        if not any(map(is_shown, self.entries)):
            self.api.call_stack_inspection_limit = saved.limit
            if not any(map(is_real, self.entries)):
                self._unmend()

    def mend(self, plain_models: WeakSet[type]) -> None:
        """Make pydantic understand the fakes."""
        # What is to be undone is kept where it was done, as several freezers may come and go.
        fake = self.api.FakeDatetime
        if not hasattr(fake, "edda_undo"):
            fake.edda_undo, fake.edda_judged = ExitStack(), False
            give_fakes_a_schema(self.api, fake.edda_undo)
        if not fake.edda_judged and "pydantic" in sys.modules:
            fake.edda_judged = True
            judge_by_shown_time(self.api, plain_models, fake.edda_undo)

    def _unmend(self) -> None:
        fake = self.api.FakeDatetime
        if hasattr(fake, "edda_undo"):
            fake.edda_undo.close()
            del fake.edda_undo, fake.edda_judged

    def _be_real(self, index: int) -> None:
        self.api.ignore_lists[index] = EVERYTHING
        self.api.tz_offsets[index] = LocalOffset()
        # time-machine refuses to start if it sees freezegun's name; under real time it may.
        self.api.FakeDatetime.__name__ = "datetime"


class TravelStack:
    """time-machine's list of travellers."""

    def __init__(self) -> None:
        self.module: Any = importlib.import_module("time_machine")
        if not hasattr(self.module, "traveller_stack"):
            raise FreezeError(
                "This time-machine stops time.monotonic() too, and with it every real timeout: "
                "install time-machine 3 or newer, or let freezegun show the time."
            )
        self.entries: list[Any] = self.module.traveller_stack

    def begin(self, at: datetime) -> Callable[[], bool]:
        """Begin a journey of our own; answers what ends it, if nobody stands in for it."""
        travel = self.module.travel(at, tick=False)
        travel.start()
        base = self.entries[-1] = RealTime(self.entries[-1])

        def end() -> bool:
            if base not in self.entries:
                return False
            self.entries.remove(base)
            self.entries.append(base)  # stop() pops the last, which may be a journey of the user's
            travel.stop()
            return True

        return end

    def now_of(self, entry: Any) -> datetime:
        """What it shows now."""
        return EPOCH + timedelta(microseconds=entry.time_ns() // 1000)

    def tie(self, entry: Any) -> Tie:
        """Lead it by `shift`, which leaves its time zone alone."""

        def write(at: datetime) -> None:
            entry._tick = False
            type(entry).shift(entry, at - self.now_of(entry))

        return Tie(entry, ("shift", "move_to"), partial(self.now_of, entry), write)

    def enter(self, under: Any) -> Any:
        """Nothing to set; answers whether it ticks."""
        return None if is_real(under) else under._tick

    def leave(self, saved: Any, index: int | None) -> None:
        """Let it tick again if it did."""
        if index is not None and not is_real(self.entries[index]):
            self.entries[index]._tick = saved

    def mend(self, plain_models: WeakSet[type]) -> None:
        """Nothing: the classes stay real."""


Stack = FreezegunStack | TravelStack


def stacks_in_use() -> list[Stack]:
    """The stacks that show something else than real time, the nearer to user code first."""
    found: list[Stack] = []
    if "freezegun.api" in sys.modules:
        found.append(FreezegunStack())
    if "time_machine" in sys.modules:
        found.append(TravelStack())
    return [stack for stack in found if stack.entries and not is_real(stack.entries[-1])]


def as_instant(naive: datetime) -> datetime:
    return EPOCH + (naive.replace(tzinfo=UTC) - EPOCH)


def is_real(entry: object) -> bool:
    return isinstance(entry, RealTime)


def is_shown(entry: object) -> bool:
    return isinstance(entry, Shown)
