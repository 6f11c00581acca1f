"""What a simulation can tell of itself, to those who explore and report."""

import re
from typing import Any

from edda.activity import Activity
from edda_testkit.clock import VirtualClock
from edda_testkit.driver import Driver
from edda_testkit.outside import Outside
from edda_testkit.runs import Run
from edda_testkit.schedule import Schedule
from edda_testkit.stubs import Call, Stub
from edda_testkit.workers import Crash

__all__ = ["Witness"]

# The end of an id that was made up: eight digits of it tell instances apart.
LONG_ID = re.compile(r"(?<=-[0-9a-f]{8})[0-9a-f]{24}\b")


class Witness:
    """The choices a simulation made, what happened, and how often."""

    clock: VirtualClock
    _driver: Driver
    _outside: Outside
    _keeps: bool

    @property
    def schedule(self) -> Schedule:
        """What was chosen so far, as a schedule with a token."""
        return self._driver.source.schedule

    @property
    def crashes(self) -> list[Crash]:
        """The crashes so far, in order."""
        return self._driver.chance.crashes

    @property
    def is_shared(self) -> bool:
        """Whether an activity used the app, so that others can see what it did."""
        return self._driver.chance.is_shared

    @property
    def executions(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Of each call, by instance and id: how often it was executed, and its effect lost."""
        chance = self._driver.chance
        return {key: (count, chance.lost[key]) for key, count in chance.executed.items()}

    @property
    def story(self) -> list[str]:
        """What happened, a line each with the virtual time since the start; if it was kept."""
        told = self._driver.chance.story or []
        return [f"+{at - self.clock.start}  {LONG_ID.sub('', text)}" for at, text in told]

    def brief(self, *, is_told: bool, watched: set[int]) -> None:
        """Keep the story from here on; or, for speed, nothing that is read after the end.

        `watched` is what the guard saw in the schedules before (`Guard.watched`).
        """
        self._keeps = is_told
        self._driver.guard.watched = watched
        self._driver.chance.story = [] if is_told else None

    @property
    def stubs(self) -> list[Stub]:
        """All that were set here."""
        return self._driver.stubs.all

    def untaken_events(self) -> list[str]:
        """The events sent that no run has taken, a phrase for each."""
        return self._outside.untaken(list(self._driver.runs.values()))

    def calls(
        self, activity: Activity[..., Any] | None = None, run: Run | None = None
    ) -> list[Call]:
        """The attempts made so far, of one activity, of one run, or all."""
        return self._driver.calls(activity, run)
