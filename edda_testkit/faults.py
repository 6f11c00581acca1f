"""What a test lets go wrong: crashes, workers that stand still, leases and clocks.

A crash takes a worker with all it has in flight. What was committed stays, and what activities
did to the outside stays done. Stores fail by `sim.store.fail_next(...)`.
"""

from datetime import timedelta
from typing import Any

from edda_testkit.chance import CrashPoint
from edda_testkit.driver import Driver
from edda_testkit.errors import Misuse
from edda_testkit.outside import Outside
from edda_testkit.runs import Run
from edda_testkit.workers import Crashed, Worker

__all__ = ["Faults"]


class Faults:
    """What a simulation lets a test break."""

    _driver: Driver
    _outside: Outside

    def _open_for(self, verb: str, *, is_queued: bool = False) -> None:
        raise NotImplementedError

    def crash(self) -> None:
        """Kill every worker, at this instant, and start a new one.

        Coroutines and activities in flight are gone; what was committed stays, and what
        activities did to the outside stays done.
        """
        self._open_for("crash", is_queued=True)
        if self._outside.is_concurrent:
            self._outside.happen(None, _die, "crash")
        else:
            self._driver.crash()

    def crash_at(
        self,
        id: str | None = None,
        when: str = "after_effect",
        *,
        run: Run | None = None,
        commit: int | None = None,
    ) -> None:
        """Kill the worker, once, when it gets to a call such as `"charge_card:1"`.

        `when` is `"before"` its function is called, `"during"` (at its first await that takes
        time), `"after_effect"`, or `"after_commit"` of its answer. With `commit=n` it strikes
        `"before"` or `"after"` the n-th commit from now. A test that does not get there fails.
        """
        self._open_for("crash_at")
        if (id is None) == (commit is None):
            raise Misuse('crash_at() takes the id of a call, like "charge_card:1", or commit=n.')
        if commit is not None and (when not in ("before", "after") or commit < 1):
            raise Misuse(
                f'crash_at(commit=n) strikes "before" or "after" the n-th commit, counted from 1, '
                f"and got commit={commit}, {when!r}."
            )
        self._driver.chance.arm(CrashPoint(when, id, None if run is None else run.id, commit))

    def add_worker(self, *, clock_ahead_seconds: float = 0.0) -> Worker:
        """One more worker beside the others; its clock may be ahead of the store's, or behind."""
        self._open_for("add_worker")
        return self._driver.add_worker(clock_ahead_seconds)

    @property
    def workers(self) -> list[Worker]:
        """The workers, oldest first."""
        return list(self._driver.workers)

    def expire_lease(self, run: Run) -> bool:
        """Let the lease of a run's turn lapse now; False when it has no turn under way.

        Its worker does not know: its next commit is refused if another has claimed the run.
        """
        self._open_for("expire_lease")
        turn = self._driver.live_turn(run.id)
        if turn is None:
            return False
        self._driver.lapse([turn])
        self._driver.settle()
        return True

    def jump(self, duration: float | timedelta) -> None:
        """Let the clock jump forward, past what is due: all of that happens late, at the end."""
        self._open_for("jump")
        seconds = duration if isinstance(duration, timedelta) else timedelta(seconds=duration)
        if seconds < timedelta(0):
            raise ValueError(f"A clock jumps forward only, and was asked for {seconds}.")
        with self._driver.moving("jump"):
            self._driver.fire(self._driver.now + seconds)

    def _check_struck(self) -> None:
        left: list[Any] = self._driver.chance.armed
        if left:
            raise AssertionError(
                f"{', '.join(map(str, left))} never struck: the simulation did not get there. "
                f"Look at run.timeline() for the ids of calls."
            )


def _die() -> None:
    raise Crashed(None)
