"""What the simulations of one test session share: the frozen clock, and who was opened.

Set by the pytest plugin around each test; without the plugin each simulation stands alone.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from edda_testkit.freeze import Freezer

__all__ = ["Session", "current_session"]


@dataclass
class Session:
    """One test's view of the session. `opened` are its simulations, oldest first."""

    freezer: Freezer
    options: dict[str, Any] = field(default_factory=dict)
    opened: list[Any] = field(default_factory=list)


current_session: ContextVar[Session | None] = ContextVar("edda_testkit_session", default=None)
