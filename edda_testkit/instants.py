"""Virtual instants: one clock with one heap of what is due, to the microsecond.

A `VirtualClock` moves only when told to, and never backward. It hands out what is due one callback
at a time, in the order (due, sequence), and calls nothing itself but its listeners. Every datetime
that leaves is a real, aware UTC `datetime`, whatever patched class came in.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush
from itertools import count

__all__ = ["MICROSECOND", "Due", "VirtualClock", "as_utc"]

# freezegun swaps module attributes, ours too if a test froze time before this room was loaded:
# we take the real class out of whatever `datetime` is, and keep clocks as default arguments.
EPOCH: datetime = next(kind for kind in datetime.__mro__ if kind.__module__ == "datetime")(
    1970, 1, 1, tzinfo=UTC
)
MICROSECOND = timedelta(microseconds=1)
Callback = Callable[[], object]


class Due:
    """A callback that waits for its instant."""

    __slots__ = ("_clock", "callback", "due")

    def __init__(self, clock: "VirtualClock", due: datetime, callback: Callback) -> None:
        self._clock = clock
        self.due = due
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Forget the callback; without effect once it was popped."""
        if self.callback is not None:
            self.callback = None
            self._clock.forget_one()


class VirtualClock:
    """The one virtual time of a simulation, to the microsecond."""

    def __init__(self, start: datetime) -> None:
        self._start = self._now = as_utc(start)
        self._heap: list[tuple[datetime, int, Due]] = []
        self._sequence = count()
        self._cancelled = 0
        self._listeners: list[Callable[[datetime], object]] = []

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now.isoformat()}>"

    @property
    def start(self) -> datetime:
        """The first instant; a `VirtualLoop` counts its seconds from here."""
        return self._start

    def now(self) -> datetime:
        """The current virtual instant."""
        return self._now

    def move_to(self, instant: datetime) -> None:
        """Set the clock and tell the listeners; ValueError if that is in the past or naive."""
        target = as_utc(instant)
        if target < self._now:
            raise ValueError(
                f"Virtual time never goes backward: it is {self._now.isoformat()}, and "
                f"{target.isoformat()} was asked for. An earlier time needs another simulation."
            )
        self._now = target
        for listener in tuple(self._listeners):
            listener(target)

    def on_move(self, listener: Callable[[datetime], object]) -> Callable[[], None]:
        """Call `listener` with the new instant after each move; the answer takes it off again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def call_at(self, due: datetime, callback: Callback) -> Due:
        """Keep `callback` until `pop_due` hands it out, at `due` or at once if that has passed."""
        entry = Due(self, as_utc(due), callback)
        heappush(self._heap, (entry.due, next(self._sequence), entry))
        return entry

    def next_due(self) -> datetime | None:
        """The earliest instant that somebody waits for."""
        while self._heap and self._heap[0][2].callback is None:
            heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def pop_due(self, pick: Callable[[int], int] | None = None) -> Callback | None:
        """Take the first callback that is due by now, or None; its caller calls it.

        Of several at one instant, `pick` says which is the first; without it, the oldest.
        """
        due = self.next_due()
        if due is None or due > self._now:
            return None
        if pick is not None:
            ties = sorted(item for item in self._heap if item[0] == due and item[2].callback)
            chosen = ties[pick(len(ties))]
            self._heap.remove(chosen)
            heapify(self._heap)
            entry = chosen[2]
        else:
            entry = heappop(self._heap)[2]
        callback, entry.callback = entry.callback, None
        return callback

    def forget_one(self) -> None:
        """Count a cancelled entry; sweep when most are, or `wait_for(..., 3600)` piles them up."""
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].callback is not None]
            heapify(self._heap)
            self._cancelled = 0


def as_utc(instant: datetime) -> datetime:
    """The same instant as a real aware UTC datetime; ValueError for a naive one."""
    if instant.tzinfo is None:
        raise ValueError(
            f"A virtual instant needs a time zone, and {instant.isoformat()} has none: "
            "give it one, such as tzinfo=timezone.utc."
        )
    return EPOCH + (instant - EPOCH)
