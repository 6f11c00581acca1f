"""The workers of a simulation: the turns each drives, and what dies with it.

A `Worker` is what a test holds; a `Move` is one thing that can happen next. Neither decides
anything: which move is made, and when a worker dies, is the driver's.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from edda.ports import Clock
from edda.turn import Turn
from edda.value import value
from edda_testkit.clock import VirtualClock, VirtualLoop
from edda_testkit.loops import Loops

__all__ = ["Crash", "Crashed", "Move", "Worker"]


# What each kind of move is, to who has never seen one.
PHRASES = {
    "turn": "{actor} takes a turn",
    "call": "{actor} calls {name}",
    "await": "{actor} goes on in {name}",
    "answer": "{actor} gets the answer of {name}",
    "look": "{actor} looks at time and messages",
    "outside": "test, {name}",
    "arrival": "what is due now arrives",
    "duplicate": "{name} comes again",
}


@value
class Crash:
    """A crash that was: of one worker or all (None), and how long each history was by then."""

    at: datetime
    worker: int | None
    lengths: Mapping[str, int]


class Crashed(BaseException):
    """A worker dies here and now."""

    def __init__(self, worker: "Worker | None") -> None:
        super().__init__(worker)
        self.worker = worker


class Move:
    """One thing that can happen next: a turn, a call, an answer, a look, or the outside's doing."""

    __slots__ = ("actor", "after", "kind", "name", "run", "turn")

    def __init__(
        self, kind: str, actor: str, name: str, run: Callable[[], None], turn: Turn | None = None
    ) -> None:
        self.kind = kind
        self.actor = actor
        self.name = name
        self.run = run
        self.turn = turn
        self.after: Move | None = None  # what it cannot come before

    def __str__(self) -> str:
        phrase = PHRASES.get(self.kind, "{kind} {name}")
        return phrase.format(kind=self.kind, actor=self.actor, name=self.name).strip()

    @property
    def key(self) -> tuple[str, str]:
        """Whose move it is: each call in flight goes on by itself."""
        return self.actor, self.name


class Boss(Protocol):
    """What a worker needs of its driver."""

    def stall(self, worker: "Worker", seconds: float) -> None:
        """Let it stand still."""

    def crash(self, worker: "Worker | None" = None) -> None:
        """Kill it."""


class Worker:
    """One worker of a simulation, as `sim.add_worker()` returns it."""

    __test__ = False

    def __init__(
        self, driver: Boss, number: int, engine_clock: Clock, clock: VirtualClock, loops: Loops
    ) -> None:
        self.number = number
        self.lives = 1
        self.engine_clock = engine_clock
        self.turns: dict[Turn, None] = {}
        self.dues: dict[Turn, datetime] = {}
        self.tasks: dict[tuple[Turn, str], asyncio.Task[None]] = {}
        self.ended: list[tuple[Turn, str]] = []  # calls whose task has just ended
        self.stalled_until: datetime | None = None
        self._driver = driver
        self._clock = clock
        self._loops = loops
        self._loop: VirtualLoop | None = None

    def __repr__(self) -> str:
        state = "" if self.is_up else ", not at work"
        return f"<Worker {self.id}: {len(self.turns)} turns{state}>"

    @property
    def id(self) -> str:
        """Its name in leases; another after each crash."""
        return f"worker-{self.number}" if self.lives == 1 else f"worker-{self.number}.{self.lives}"

    @property
    def is_up(self) -> bool:
        """Whether it works now: it is neither stalled nor still starting."""
        return self.stalled_until is None or self.stalled_until <= self._clock.now()

    def stall(self, seconds: float) -> None:
        """Let it stand still for so many virtual seconds; its leases lapse at once.

        When it goes on it does not know: what it commits then is refused (law T3).
        """
        self._driver.stall(self, seconds)

    def crash(self) -> None:
        """Kill it at this instant, and start it again."""
        self._driver.crash(self)

    # ---- For the driver --------------------------------------------------------------------------

    @property
    def loop(self) -> VirtualLoop:
        """The loop its activities run on, made when the first of them needs it."""
        if self._loop is None:
            self._loop = self._loops.take(self._clock)
        return self._loop

    @property
    def has_loop(self) -> bool:
        """Whether any activity needed one."""
        return self._loop is not None

    @property
    def is_waiting_outside(self) -> bool:
        """Whether a thread or a file owes one of its activities an answer."""
        return self._loop is not None and self._loop.is_waiting_outside()

    def forget(self, turn: Turn) -> list[asyncio.Task[Any]]:
        """A turn has ended: what of it is still running."""
        self.turns.pop(turn, None)
        self.dues.pop(turn, None)
        left = [key for key in self.tasks if key[0] is turn]
        return [self.tasks.pop(key) for key in left]

    def drop(self) -> None:
        """Forget everything, as a process that is killed."""
        loop, self._loop = self._loop, None
        for turn in self.turns:
            turn.close()
        for each in (self.turns, self.dues, self.tasks, self.ended):
            each.clear()
        if loop is not None:
            self._loops.give(loop)
