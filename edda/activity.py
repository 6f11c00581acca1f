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
from edda.errors import ArgumentError, DefinitionError, NoTransactionError
from edda.loop import user_site
from edda.machine import Question
from edda.retry import RetryPolicy
from edda.undo import Undo
from edda.workflow import WorkflowContext, check_definition, check_id

__all__ = ["COMPENSATION", "Activity", "ActivityContext", "activity"]

# What `@on_failure` leaves on a function that becomes an activity later.
COMPENSATION = "__edda_compensation__"

_logger = logging.getLogger("edda.activity")

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class ActivityContext:
    """What an activity knows of the step it performs.

    `attempt` counts from 1. `idempotency_key` is `instance_id/activity_id` (and after
    `ctx.recur` `instance_id~n/activity_id`): the same for every attempt, and for nothing else.
    """

    instance_id: str
    workflow_name: str
    activity_id: str
    attempt: int
    idempotency_key: str
    logger: logging.Logger = _logger
    # Where `connection` and `send_event_transactional` lead to; the engine fills them.
    transaction: Any = field(default=None, repr=False)
    outbox: list[Any] = field(default_factory=list, repr=False)

    @property
    def connection(self) -> Any:
        """The store's own connection, in the transaction that commits this activity's answer.

        aiosqlite's or asyncpg's, a mapping in memory. Its `commit` is the engine's. Raises
        `NoTransactionError` unless the activity is `transactional=True`.
        """
        if self.transaction is None:
            raise NoTransactionError(self.activity_id)
        return self.transaction


class Activity(Generic[P, R]):
    """An activity definition. Calling it with a workflow's context is a recorded step."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        retry_policy: RetryPolicy | None = None,
        timeout_seconds: float | None = None,
        transactional: bool = False,
    ) -> None:
        check_definition(fn, "activity")
        self.fn = fn
        self.name = fn.__name__ if name is None else name
        self.is_async = inspect.iscoroutinefunction(fn)
        self.retry_policy = retry_policy
        self.timeout_seconds = timeout_seconds
        self.is_transactional = transactional
        self.compensation: Activity[..., Any] | None = getattr(fn, COMPENSATION, None)
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
        if transactional and not self.is_async:
            raise DefinitionError(
                f"The activity {self.name!r} is transactional and a plain function: it shares the "
                f"store's connection, which belongs to an event loop. Make it `async def`."
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
                        f"in a workflow write {self.__name__}(ctx, ...), and outside of one call "
                        f"the function itself: {self.__name__}.fn(...)"
                    )
                ],
            )
        activity_id = kwargs.pop("activity_id", None)
        check_id(self.parameters.what, "activity_id", activity_id)
        site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
        step: Any = self.step(ctx, site, args, kwargs, id=activity_id)
        step.__qualname__ = self.__qualname__  # "coroutine 'ship' was never awaited"
        result: Coroutine[Any, Any, R] = step
        return result

    async def step(
        self,
        ctx: WorkflowContext,
        site: str,
        args: Any,
        kwargs: Any,
        *,
        id: str | None = None,
        compensates: str | None = None,
    ) -> R:
        """The recorded step itself; `compensates` is the id of the step that it undoes."""
        arguments = self.parameters.encode(args, kwargs)
        id = ctx.machine.next_id(self.name, id)
        ask = ActivityAsk(id, self.name, arguments, site, compensates)

        def decode(text: str) -> R:
            result: R = self.result.decode(text)
            if self.compensation is not None:
                ctx.undos.add(_undo(ctx, self.compensation, ask, self, result))
            return result

        question = Question(ask, decode, self, self.parameters.same)
        result: R = await ctx.machine.ask(question)
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
    transactional: bool = False,
) -> "_Decorator": ...


def activity(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout_seconds: float | None = None,
    transactional: bool = False,
) -> Any:
    """Make a function `f(ctx, ...)`, async or plain, an activity.

    `timeout_seconds` limits one attempt. A plain function runs in a thread, so that it may
    block. A transactional one writes through `ctx.connection`, and what it wrote is committed
    together with its answer, exactly once: keep it short, nobody else writes meanwhile. Raises
    `DefinitionError` for a function without a context parameter.
    """

    def decorate(fn: Callable[..., Any]) -> Activity[Any, Any]:
        return Activity(
            fn,
            name=name,
            retry_policy=retry_policy,
            timeout_seconds=timeout_seconds,
            transactional=transactional,
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


def _undo(
    ctx: WorkflowContext,
    compensation: Activity[..., Any],
    ask: ActivityAsk,
    done: Activity[..., Any],
    result: Any,
) -> Undo:
    """How a step is undone: with its arguments, and its result, as far as they are taken."""

    def run() -> Coroutine[Any, Any, Any]:
        known = {"result": result, **done.parameters.named(ask.arguments)}
        kwargs = {name: known[name] for name in compensation.parameters.names if name in known}
        return compensation.step(ctx, ask.site, (), kwargs, compensates=ask.id)

    return Undo(ask.id, compensation.name, run)


def _is_positive(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )
