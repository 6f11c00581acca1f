"""What callers hand to an app, checked at its door: no store sees what would mean nothing to it.

Stores differ in what they make of a limit of -1, a status that is none or an id with a NUL; a
caller must not learn the difference. Absent: arguments of workflows (`codec`), and events.
"""

import math
from datetime import timedelta

from edda.codec import text_fault
from edda.errors import ArgumentError, InstanceNotFoundError, sentence
from edda.ports import Status
from edda.workflow import Workflow

__all__ = [
    "check_known",
    "check_numbers",
    "check_page",
    "check_retention",
    "check_timeout",
    "check_wanted",
    "check_workflow",
    "status_of",
]

LARGEST = 2**63 - 1  # what a database keeps as a whole number


def check_workflow(workflow: object) -> None:
    """Refuse what is no workflow."""
    if not isinstance(workflow, Workflow):
        raise ArgumentError(
            "EddaApp", [f"expected a function decorated with @workflow, got {workflow!r}"]
        )


def check_retention(retention: object) -> None:
    """Refuse what is no positive time."""
    if not isinstance(retention, timedelta) or retention <= timedelta(0):
        problem = f"retention must be a positive timedelta, got {sentence(retention)}"
        raise ArgumentError("EddaApp", [problem])


def check_numbers(**options: object) -> None:
    """Refuse options of an app that are no numbers above 0."""
    whole = ("max_concurrent", "max_body_bytes")
    problems = []
    for name, value in options.items():
        is_number = isinstance(value, int if name in whole else int | float)
        most = 1e9 if name == "lease_seconds" else math.inf  # an instant that can be stored
        if not is_number or isinstance(value, bool) or not 0 < value < most:  # type: ignore[operator]
            kind = "a whole number" if name in whole else "a number"
            problems.append(f"{name} must be {kind} above 0, got {sentence(value)}")
    if problems:
        raise ArgumentError("EddaApp", problems)


def check_page(what: str, **numbers: object) -> None:
    """Refuse a limit or a position that is no whole number a store can compare with."""
    problems = [
        f"{name} must be a whole number from 0 to {LARGEST}, got {sentence(value)}"
        for name, value in numbers.items()
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST
    ]
    if problems:
        raise ArgumentError(what, problems)


def check_wanted(what: str, **names: object) -> None:
    """Refuse a name that no store could keep; None and an empty one ask for nothing."""
    problems = [
        f"{name} {fault}"
        for name, value in names.items()
        if value not in (None, "") and (fault := text_fault(value))
    ]
    if problems:
        raise ArgumentError(what, problems)


def status_of(what: str, value: object) -> Status | None:
    """The status that is meant, None for any."""
    if value is None:
        return None
    try:
        return Status(value)  # type: ignore[arg-type]
    except ValueError:
        known = ", ".join(Status)
        problem = f"status must be one of {known}, got {sentence(value)}"
        raise ArgumentError(what, [problem]) from None


def check_known(instance_id: object) -> None:
    """What no store could keep as an id names no instance. Raises `InstanceNotFoundError`."""
    if text_fault(instance_id):
        raise InstanceNotFoundError(instance_id)  # type: ignore[arg-type]


def check_timeout(what: str, timeout: object) -> None:
    """Refuse what is neither a number of seconds nor None."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    try:
        if timeout is None or (is_number and not math.isnan(timeout)):  # type: ignore[arg-type]
            return
    except OverflowError:
        pass  # no clock goes so far
    raise ArgumentError(what, [f"timeout must be a number of seconds, got {sentence(timeout)}"])
