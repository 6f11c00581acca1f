"""What stands in the stacks of freezegun and time-machine for us, and how it tells the time.

A stack's last entry is asked for the time. Ours never lies upon somebody else's: a `Shown` stands
in for the entry `under` it, so that both may leave in any order. `Tie` leads the user's object.
Absent: where the stacks are and what else they keep (`freeze_stacks`).
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Protocol

__all__ = ["EPOCH", "LocalOffset", "RealTime", "Shown", "Tie"]

# A method of the real class: freezegun replaces classes and functions that a module holds, ours
# too if the user froze time first, but not a method.
REAL: tuple[Any, ...] = tuple(kind for kind in datetime.__mro__ if kind.__module__ == "datetime")
REAL_NOW: Callable[[timezone], datetime] = REAL[0].now
EPOCH: datetime = REAL[0](1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Stack(Protocol):
    """What an entry needs of the stack it stands in."""

    @property
    def entries(self) -> list[Any]:
        """The library's own list; the last is asked."""

    def tie(self, entry: Any) -> "Tie":
        """The user's entry, to be led along."""

    def enter(self, under: Any) -> Any:
        """Let our rules hold in the last place; answers what was there."""

    def leave(self, saved: Any, index: int | None) -> None:
        """Set back what was at `index`, if it is still there, and what was everywhere."""


class RealTime:
    """The entry of a freeze of ours that nobody uses now: real time."""

    def __init__(self, traveller: Any = None) -> None:
        self._traveller = traveller

    def __call__(self) -> datetime:
        """What freezegun asks."""
        return REAL_NOW(UTC).replace(tzinfo=None)

    def _stop(self) -> None:
        """What time-machine calls when it pops an entry."""
        self._traveller._stop()


class LocalOffset:
    """What freezegun adds to naive UTC, and forgets not to add to a time in a zone."""

    def __radd__(self, at: datetime) -> datetime:
        if at.tzinfo is not None:
            return at
        return at.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)

    def __rsub__(self, wall: timedelta) -> timedelta:
        """From the local wall's distance to 1970 to the true one."""
        return (EPOCH.replace(tzinfo=None) + wall).astimezone(UTC) - EPOCH

    def total_seconds(self) -> float:
        """The offset in seconds at this moment."""
        offset = REAL_NOW(UTC).astimezone().utcoffset()
        return offset.total_seconds() if offset else 0.0


class Shown:
    """A projection's entry, in place of the one `under` it."""

    def __init__(
        self, stack: Stack, at: datetime, on_foreign_move: Callable[[datetime], object]
    ) -> None:
        self.at = at
        self.on_foreign_move = on_foreign_move
        self.under: Any = None
        self.saved: Any = None
        self.tie: Tie | None = None
        self._stack = stack

    def __call__(self) -> datetime:
        """What freezegun asks."""
        return self.at.replace(tzinfo=None)

    def time_ns(self) -> int:
        """What time-machine asks."""
        microseconds: int = (self.at - EPOCH) // MICROSECOND
        return microseconds * 1000

    def time(self) -> float:
        """What time-machine 3.0 asks."""
        return self.time_ns() / 1e9

    def _stop(self) -> None:
        """What time-machine calls when the user's journey ends before our projection does."""
        self.under._stop()

    def show(self, at: datetime) -> None:
        """Show another instant, in front of other projections in the same place."""
        self.at = at
        entries = self._stack.entries
        above = entries[-1] if entries else None
        while isinstance(above, Shown):
            if above.under is self:
                above.under, self.under, entries[-1] = self.under, entries[-1], self
                break
            above = above.under
        if self.tie is not None:
            self.tie.write(at)

    def insert(self) -> None:
        """Take the place of the last entry."""
        entries = self._stack.entries
        self.under = entries[-1]
        if isinstance(self.under, Shown):
            self.saved, self.tie = self.under.saved, self.under.tie
        else:
            self.saved = self._stack.enter(self.under)
            if not isinstance(self.under, RealTime):
                self.tie = self._stack.tie(self.under)
        entries[-1] = self
        if self.tie is not None:
            self.tie.add(self)

    def remove(self) -> None:
        """Give the place back, wherever it is; if the user's stop() took it, there is none."""
        self._give_back()
        if self.tie is not None:
            self.tie.drop(self)
            above = self._stack.entries[-1] if self._stack.entries else None
            if isinstance(above, Shown) and above.tie is self.tie:
                self.tie.write(above.at)  # it was led to our instant, and is another's now

    def _give_back(self) -> None:
        entries = self._stack.entries
        for index, entry in enumerate(entries):
            if entry is self:
                entries[index] = self.under
                self._stack.leave(self.saved, None if isinstance(self.under, Shown) else index)
                return
            above = entry
            while isinstance(above, Shown):
                if above.under is self:
                    above.under = self.under
                    return
                above = above.under
        self._stack.leave(self.saved, None)


class Tie:
    """A user's frozen object, led along by our clock, whose moves ask the simulation to move."""

    def __init__(
        self,
        thing: Any,
        methods: tuple[str, ...],
        read: Callable[[], datetime],
        write: Callable[[datetime], object],
    ) -> None:
        self.read = read
        self.write = write
        self._thing = thing
        self._methods = methods
        self._followers: list[Shown] = []
        self._is_busy = False

    def add(self, follower: Shown) -> None:
        """Lead the thing along; the first follower puts us before its methods."""
        if not self._followers:
            for name in self._methods:
                setattr(self._thing, name, self._asking(getattr(self._thing, name)))
        self._followers.append(follower)
        self.write(follower.at)

    def drop(self, follower: Shown) -> None:
        """Let go; the last follower gives the thing its own methods back."""
        self._followers.remove(follower)
        if not self._followers:
            for name in self._methods:
                delattr(self._thing, name)

    def _asking(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any, **options: Any) -> Any:
            if self._is_busy:  # freezegun's tick() and move_to() call each other
                return method(*args, **options)
            before = self._followers[-1].at
            self.write(before)  # it may have ticked
            self._is_busy = True
            try:
                answer = method(*args, **options)
                target = self.read()
                self.write(before)  # our clocks lead it there, through what is due on the way
            finally:
                self._is_busy = False
            for follower in tuple(self._followers):
                follower.on_foreign_move(target)
            return answer

        return ask
