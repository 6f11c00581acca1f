"""Sagas as authors write them: what undoes what.

A compensation is an activity. `@on_failure(it)` on another activity has it run when that one has
completed and the workflow then fails or is cancelled; `register_compensation` does the same for
anything. How and in which order they run is said in `edda.undo`.
"""

import sys
from collections.abc import Callable, Coroutine
from inspect import Parameter, signature
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from edda.activity import COMPENSATION, Activity
from edda.errors import ArgumentError, DefinitionError
from edda.loop import user_site
from edda.retry import RetryPolicy
from edda.undo import Undo
from edda.workflow import WorkflowContext, check_context

__all__ = ["Compensation", "compensation", "on_failure", "register_compensation"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
F = TypeVar("F")


class Compensation(Activity[P, R]):
    """An activity whose work is to undo another's."""


@overload
def compensation(
    fn: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], /
) -> Compensation[P, R]: ...


@overload
def compensation(fn: Callable[Concatenate[C, P], R], /) -> Compensation[P, R]: ...


@overload
def compensation(
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout_seconds: float | None = None,
    transactional: bool = False,
) -> Callable[[Callable[..., Any]], Compensation[..., Any]]: ...


def compensation(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry_policy: RetryPolicy | None = None,
    timeout_seconds: float | None = None,
    transactional: bool = False,
) -> Any:
    """Make a function `f(ctx, ...)` a compensation: an activity, with all that one can do.

    It is called with those arguments of the step it undoes that it has parameters for, and with
    `result`, the step's result, if it has a parameter of that name.
    """

    def decorate(fn: Callable[..., Any]) -> Compensation[Any, Any]:
        return Compensation(
            fn,
            name=name,
            retry_policy=retry_policy,
            timeout_seconds=timeout_seconds,
            transactional=transactional,
        )

    return decorate if fn is None else decorate(fn)


def on_failure(compensation: Activity[..., Any] | Callable[..., Any], /) -> Callable[[F], F]:
    """Have an activity undone by `compensation` when its workflow fails or is cancelled later.

    Stands above or below `@activity`. Raises `DefinitionError` when the compensation needs an
    argument that the activity does not have.
    """
    undoing = compensation if isinstance(compensation, Activity) else Compensation(compensation)

    def decorate(target: F) -> F:
        function: Any = target.fn if isinstance(target, Activity) else target
        if not callable(function):
            raise DefinitionError(
                f"@on_failure decorates an activity, and got {type(target).__name__} {target!r}. "
                f"Write it above or below @activity."
            )
        _check(undoing, function)
        if isinstance(target, Activity):
            target.compensation = undoing
        else:
            setattr(target, COMPENSATION, undoing)
        return target

    return decorate


def register_compensation(
    ctx: WorkflowContext, fn: Activity[..., Any], /, *args: Any, **kwargs: Any
) -> Coroutine[Any, Any, None]:
    """Have `fn(ctx, *args, **kwargs)` run when the workflow fails or is cancelled from here on.

    `fn` is a compensation or an activity. Raises `ArgumentError` when the arguments do not fit.
    """
    check_context(ctx, "register_compensation")
    _check_activity(fn)
    site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
    return _register(ctx, fn, site, fn.parameters.encode(args, kwargs))


async def _register(
    ctx: WorkflowContext, fn: Activity[..., Any], site: str, arguments: str
) -> None:
    def run() -> Coroutine[Any, Any, Any]:
        # As they were when it was registered, whatever the workflow has done to them since.
        args, kwargs = fn.parameters.decode(arguments)
        return fn.step(ctx, site, args, kwargs, compensates=site)

    ctx.undos.add(Undo(f"what was registered at {site}", fn.name, run))


def _check_activity(fn: object) -> None:
    if not isinstance(fn, Activity):
        problem = f"expected a function decorated with @compensation or @activity, got {fn!r}"
        raise ArgumentError("register_compensation", [problem])


def _check(undoing: Activity[..., Any], function: Callable[..., Any]) -> None:
    known = {"result", *list(signature(function).parameters)[1:]}
    missing = [
        name
        for name, parameter in list(signature(undoing.fn).parameters.items())[1:]
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        and name not in known
    ]
    if missing:
        raise DefinitionError(
            f"The compensation {undoing.name!r} needs {', '.join(missing)}, which "
            f"{function.__name__!r} does not have. It is called with the arguments of the "
            f"activity it undoes, and `result`: rename the parameter, or give it a default."
        )
