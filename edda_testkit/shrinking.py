"""Shrinking: from a schedule that fails to the smallest that fails in the same way.

Fewest deviations first, then earlier, then lower ones. "The same way" is the same type of
exception at the same line. What is shown has failed at least twice.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import edda
from edda_testkit.errors import ScheduleError
from edda_testkit.schedule import Deviation, Schedule

__all__ = ["Failure", "failure_of", "shrunk"]

Deviations = tuple[Deviation, ...]

MOST_RUNS = 500
MOST_SECONDS = 5.0
_OURS = tuple(f"{Path(file).parent}{os.sep}" for file in (edda.__file__, __file__))


@dataclass(frozen=True, slots=True)
class Failure:
    """How a scenario failed, under which schedule."""

    error: BaseException
    schedule: Schedule
    place: str
    simulation: Any = None
    runs: int = 0

    def is_like(self, other: "Failure") -> bool:
        """Whether it is the same failure: type and line are the same."""
        return type(self.error) is type(other.error) and self.place == other.place


def failure_of(error: BaseException, schedule: Schedule, simulation: Any = None) -> Failure:
    """What went wrong, and where in the user's code."""
    return Failure(error, schedule, _place(error.__traceback__), simulation)


def _place(traceback: TracebackType | None) -> str:
    place = "?"
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if not code.co_filename.startswith(_OURS):
            place = f"{code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def shrunk(failure: Failure, again: Callable[[Deviations], Failure | None]) -> Failure:
    """The smallest failure like this one. `again` runs a schedule, and says how it failed.

    Raises `ScheduleError` when it does not fail a second time.
    """
    best = again(failure.schedule.deviations)
    runs = 1
    if best is None or not best.is_like(failure):
        how = "it passed" if best is None else f"it failed with {type(best.error).__name__}"
        raise ScheduleError(
            f"A schedule failed with {type(failure.error).__name__}: {failure.error}\n"
            f"When it was run again, {how}. Something outside the simulation differs from one run "
            f"to the next: a module global, a set's order, real time or randomness. What belongs "
            f"to one run goes into sim.world(...). schedule: {failure.schedule.token}"
        ) from failure.error
    end = perf_counter() + MOST_SECONDS
    seen = {best.schedule.deviations}
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller(best.schedule.deviations):
            if runs >= MOST_RUNS or perf_counter() > end:
                break
            if candidate in seen:
                continue
            seen.add(candidate)
            runs += 1
            found = again(candidate)
            if found is None or not found.is_like(failure):
                continue
            if _size(found.schedule.deviations) < _size(best.schedule.deviations):
                best, is_smaller = found, True
                break
    return replace(best, runs=runs)


def _size(deviations: Deviations) -> tuple[int, int, int]:
    return (
        len(deviations),
        sum(one.at for one in deviations),
        sum(one.choice for one in deviations),
    )


def _smaller(deviations: Deviations) -> Iterator[Deviations]:
    count = len(deviations)
    chunk = count // 2
    while chunk > 1:  # many at once first
        for begin in range(0, count, chunk):
            yield deviations[:begin] + deviations[begin + chunk :]
        chunk //= 2
    for index in range(count):
        yield deviations[:index] + deviations[index + 1 :]
    for index, one in enumerate(deviations):
        least = deviations[index - 1].at + 1 if index else 0
        for at in {least, (least + one.at) // 2, one.at - 1}:
            if least <= at < one.at:
                yield _with(deviations, index, Deviation(at, one.choice, one.among))
        for choice in {1, one.choice - 1}:
            if 0 < choice < one.choice:
                yield _with(deviations, index, Deviation(one.at, choice, one.among))


def _with(deviations: Deviations, index: int, one: Deviation) -> Deviations:
    return (*deviations[:index], one, *deviations[index + 1 :])
