"""Stubs: what an activity does in a test, and the record of what was called.

A stub replaces the function, not the step: its value crosses the codec like a real one, its
exception meets the retry policy. A stub that is never used is reported, so that a test cannot
go on passing when the workflow no longer gets there.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import FrameType
from typing import Any

from edda.activity import Activity, ActivityContext
from edda.errors import EncodingError
from edda.loop import call_site
from edda_testkit.errors import StubError, UnusedStub

__all__ = ["Call", "Stub", "Stubs", "site_of_test"]

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt of an activity: its arguments without `ctx`, and when it began."""

    activity: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    at: datetime
    attempt: int
    run: str

    def __repr__(self) -> str:
        given = [repr(arg) for arg in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        attempt = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"<Call {self.activity}({', '.join(given)}) at {self.at.isoformat()}{attempt}>"


class Stub:
    """The stand-in of one activity. `calls` counts how often it was used."""

    def __init__(
        self,
        activity: Activity[..., Any],
        answer: Callable[..., Any],
        kind: str,
        site: str,
        complain: Callable[[BaseException], object],
    ) -> None:
        self.activity = activity
        self.calls = 0
        self.is_instant = kind != "side_effect"
        self._answer = answer
        self._kind = kind
        self._site = site
        self._complain = complain

    def __repr__(self) -> str:
        return f"<Stub of {self.describe()}, used {self.calls}x>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the activity's attempt calls."""
        self.calls += 1
        try:
            return self._answer(*args, **kwargs)
        except StubError as error:
            # A retry policy must not have the last word on a mistake of the test's.
            self._complain(error)
            raise

    def describe(self) -> str:
        """For the report at teardown."""
        return f"{self.activity.name} ({self._kind}), set at {self._site}"


class Stubs:
    """The stubs of one simulation, by activity."""

    def __init__(self, complain: Callable[[BaseException], object]) -> None:
        self._complain = complain
        self._current: dict[Activity[..., Any], Stub] = {}
        self.all: list[Stub] = []

    def get(self, activity: Activity[..., Any]) -> Stub | None:
        """The stub that stands in for an activity now."""
        return self._current.get(activity)

    def add(
        self,
        activity: Activity[..., Any],
        site: str,
        *,
        returns: Any = _NOTHING,
        raises: Any = _NOTHING,
        side_effect: Any = _NOTHING,
        sequence: Any = _NOTHING,
    ) -> Stub:
        """Set a stub; a later one for the same activity replaces it."""
        if not isinstance(activity, Activity):
            raise StubError(
                f"stub() takes an activity, the object that @activity made, and got {activity!r}."
            )
        given = {
            name: value
            for name, value in (
                ("returns", returns),
                ("raises", raises),
                ("side_effect", side_effect),
                ("sequence", sequence),
            )
            if value is not _NOTHING
        }
        if len(given) != 1:
            got = ", ".join(given) or "nothing"
            raise StubError(
                f"A stub of {activity.name!r} needs exactly one of returns=, raises=, "
                f"side_effect= or sequence=, and got {got}."
            )
        ((kind, value),) = given.items()
        answer = _ANSWERS[kind](activity, value)
        stub = Stub(activity, answer, kind, site, self._complain)
        self._current[activity] = stub
        self.all.append(stub)
        return stub

    def check_used(self, called: Sequence[str]) -> None:
        """Raise `UnusedStub` when one was never called."""
        unused = [stub.describe() for stub in self.all if stub.calls == 0]
        if unused:
            raise UnusedStub(unused, list(dict.fromkeys(called)))


def site_of_test(frame: FrameType | None) -> str:
    """The nearest line outside this package."""
    while frame is not None and frame.f_globals.get("__name__", "").startswith("edda_testkit."):
        frame = frame.f_back
    return "?" if frame is None else call_site(frame)


def _returning(activity: Activity[..., Any], value: Any) -> Callable[..., Any]:
    _check_value(activity, value)
    return lambda *_args, **_kwargs: value


def _raising(activity: Activity[..., Any], error: Any) -> Callable[..., Any]:
    _check_error(activity, error)

    def answer(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    return answer


def _calling(activity: Activity[..., Any], function: Any) -> Callable[..., Any]:
    if not callable(function):
        raise StubError(
            f"side_effect of {activity.name!r} must be a function, got {function!r}; "
            f"returns= is for a value, sequence= for several."
        )
    # It is called with the activity's own arguments, and with `ctx` if it asks for it.
    try:
        takes_context = next(iter(inspect.signature(function).parameters), "") == "ctx"
    except ValueError:  # a builtin that does not say
        takes_context = False

    def answer(ctx: ActivityContext, *args: Any, **kwargs: Any) -> Any:
        return function(ctx, *args, **kwargs) if takes_context else function(*args, **kwargs)

    return answer


def _taking_turns(activity: Activity[..., Any], values: Any) -> Callable[..., Any]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence):
        raise StubError(f"sequence of {activity.name!r} must be a list, got {values!r}.")
    for value in values:
        if not _is_error(value):
            _check_value(activity, value)
    left = list(values)
    given: dict[tuple[str, int], Any] = {}

    def answer(ctx: ActivityContext, *_args: Any, **_kwargs: Any) -> Any:
        # An attempt that is executed again after a crash is answered as it was.
        attempt = ctx.idempotency_key, ctx.attempt
        if attempt in given:
            return _given(given[attempt])
        if not left:
            raise StubError(
                f"The stub of {activity.name!r} has answered {len(values)} calls and has no "
                f"answer for another: give its sequence one more, or use side_effect=."
            )
        given[attempt] = left.pop(0)
        return _given(given[attempt])

    return answer


def _given(value: Any) -> Any:
    if _is_error(value):
        raise value
    return value


_ANSWERS: dict[str, Callable[[Activity[..., Any], Any], Callable[..., Any]]] = {
    "returns": _returning,
    "raises": _raising,
    "side_effect": _calling,
    "sequence": _taking_turns,
}


def _is_error(value: Any) -> bool:
    return isinstance(value, BaseException) or (
        isinstance(value, type) and issubclass(value, BaseException)
    )


def _check_error(activity: Activity[..., Any], error: Any) -> None:
    if not _is_error(error):
        raise StubError(
            f"raises of {activity.name!r} must be an exception or a class of them, got {error!r}."
        )


def _check_value(activity: Activity[..., Any], value: Any) -> None:
    try:
        activity.result.encode(value)
    except EncodingError as error:
        raise StubError(f"A stub of {activity.name!r} cannot return {value!r}: {error}") from error
