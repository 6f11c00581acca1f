"""What the simulations of one test session share: the frozen clock, and who was opened.

Set by the pytest plugin around each test; without the plugin each simulation stands alone.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from edda_testkit.freeze import Freezer
from edda_testkit.loops import Loops

__all__ = ["Session", "current_session"]


KEPT = 2


@dataclass
class Session:
    """One test's view of the session. `opened` are its simulations, oldest first.

    `goldens` tells where its golden histories are (`edda_testkit.golden.Goldens`).
    """

    freezer: Freezer
    loops: Loops = field(default_factory=Loops)
    options: dict[str, Any] = field(default_factory=dict)
    opened: list[Any] = field(default_factory=list)
    goldens: Callable[[], Any] | None = None
    observers: Sequence[Callable[[Any], object]] = ()  # see each simulation before it closes
    explored: list[Any] = field(default_factory=list)  # each an `Exploration`

    def keep(self, simulation: Any) -> None:
        """Remember a simulation, and of the closed ones the last few: `@given` opens hundreds."""
        closed = [one for one in self.opened if not one.is_open]
        self.opened = [one for one in self.opened if one.is_open or one in closed[-KEPT:]]
        self.opened.append(simulation)


current_session: ContextVar[Session | None] = ContextVar("edda_testkit_session", default=None)
