"""Activities as authors write them: the decorator, and the context their code gets.

An activity is where a workflow touches the world. Called with a workflow's context it is a
recorded step; `act.fn(...)` is the bare function. How an attempt is made is not said here.
"""

import inspect
import logging
import math
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from edda.codec import Parameters, Value, result_of
from edda.commands import ActivityAsk
from edda.errors import ArgumentError, DefinitionError
from edda.loop import user_site
from edda.retry import RetryPolicy
from edda.workflow import WorkflowContext, check_definition

__all__ = ["Activity", "ActivityContext", "activity"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class ActivityContext:
    """What an activity knows of the step it performs.

    `attempt` counts from 1.
    """

    instance_id: str
    workflow_name: str
    activity_id: str
    attempt: int
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("edda.activity"))

    @property
    def idempotency_key(self) -> str:
        """`instance_id/activity_id`: the same for every attempt, and for nothing else."""
        return f"{self.instance_id}/{self.activity_id}"


class Activity(Generic[P, R]):
    """An activity definition. Calling it with a workflow's context is a recorded step."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        retry_policy: RetryPolicy | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        check_definition(fn, "activity")
        self.fn = fn
        self.name = fn.__name__ if name is None else name
        self.is_async = inspect.iscoroutinefunction(fn)
        self.retry_policy = retry_policy
        self.timeout_seconds = timeout_seconds
        self.parameters = Parameters(fn, f"Activity {self.name!r}")
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        self._result: Value | None = None
        if not isinstance(retry_policy, RetryPolicy | None):
            raise DefinitionError(
                f"The activity {self.name!r} has retry_policy={retry_policy!r}: expected a "
                f"RetryPolicy, e.g. RetryPolicy(max_attempts=3)."
            )
        if timeout_seconds is not None and not _is_positive(timeout_seconds):
            raise ArgumentError(
                f"Activity {self.name!r}",
                [f"timeout_seconds must be a positive number, got {timeout_seconds!r}"],
            )

    def __repr__(self) -> str:
        return f"<Activity {self.name!r} {self.__module__}:{self.__qualname__}>"

    @overload
    def __call__(
        self, ctx: WorkflowContext, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def __call__(
        self, ctx: WorkflowContext, *args: Any, activity_id: str, **kwargs: Any
    ) -> Coroutine[Any, Any, R]: ...

    def __call__(self, ctx: WorkflowContext, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]:
        """Run the activity as a recorded step and return its result.

        `activity_id` overrides the id `name:n`. Raises `RetryExhaustedError` when every attempt
        failed, the error itself when it is terminal, `EncodingError` when an argument cannot be
        stored.
        """
        if not isinstance(ctx, WorkflowContext):
            raise ArgumentError(
                f"Activity {self.name!r}",
                [
                    (
                        f"its first argument must be the workflow's ctx, got {type(ctx).__name__}; "
                        f"outside a workflow call the function itself: {self.__name__}.fn(...)"
                    )
                ],
            )
        activity_id = kwargs.pop("activity_id", None)
        if activity_id is not None and (not isinstance(activity_id, str) or not activity_id):
            raise ArgumentError(
                f"Activity {self.name!r}",
                [f"activity_id must be a non-empty string, got {activity_id!r}"],
            )
        site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
        return self._step(ctx, site, activity_id, args, kwargs)

    async def _step(
        self, ctx: WorkflowContext, site: str, id: str | None, args: Any, kwargs: Any
    ) -> R:
        arguments = self.parameters.encode(args, kwargs)
        ask = ActivityAsk(ctx.machine.next_id(self.name, id), self.name, arguments, site)
        result: R = await ctx.machine.ask(
            ask, self.result.decode, definition=self, same=self.parameters.same
        )
        return result

    @property
    def result(self) -> Value:
        """The codec of what the activity returns."""
        if self._result is None:
            self._result = result_of(self.fn, f"The result of activity {self.name!r}")
        return self._result


@overload
def activity(fn: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], /) -> Activity[P, R]: ...


@overload
def activity(fn: Callable[Concatenate[C, P], R], /) -> Activity[P, R]: ...


@overload
def activity(
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout_seconds: float | None = None,
) -> "_Decorator": ...


def activity(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout_seconds: float | None = None,
) -> Any:
    """Make a function `f(ctx, ...)`, async or plain, an activity.

    `timeout_seconds` limits one attempt. A plain function runs in a thread, so that it may
    block. Raises `DefinitionError` for a function without a context parameter.
    """

    def decorate(fn: Callable[..., Any]) -> Activity[Any, Any]:
        return Activity(
            fn,
            name=name,
            retry_policy=retry_policy,
            timeout_seconds=timeout_seconds,
        )

    return decorate if fn is None else decorate(fn)


class _Decorator:  # the type of `activity(...)`; never made
    @overload
    def __call__(
        self, fn: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], /
    ) -> Activity[P, R]: ...

    @overload
    def __call__(self, fn: Callable[Concatenate[C, P], R], /) -> Activity[P, R]: ...

    def __call__(self, fn: Any, /) -> Any:
        raise AssertionError(fn)


def _is_positive(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )
