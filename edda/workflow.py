"""Workflows as authors write them: the decorator, and the context their code gets.

A workflow is an `async def` whose first parameter is the context. Definitions are values; the
registry below holds those made at module level, and each app decides for itself which name
means which of them.
"""

import asyncio
import inspect
import json
import logging
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from random import Random
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, TypeVar, overload

from edda.codec import Parameters, Value, result_of, text_fault
from edda.commands import ResultAsk, StartAsk
from edda.current import current_host
from edda.determinism import as_categories
from edda.errors import ArgumentError, DefinitionError, NotReplayableError
from edda.history import Started
from edda.loop import WorkflowLoop, user_site
from edda.machine import Machine, Question
from edda.undo import Undos

__all__ = ["Workflow", "WorkflowContext", "registry", "workflow"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


class Registry(dict[str, list["Workflow[Any, Any]"]]):
    """Workflows by name; a name may mean several things until an app has to know which.

    `unique` are those whose name has one meaning.
    """

    def __init__(self) -> None:
        self.unique: dict[str, Workflow[Any, Any]] = {}

    def add(self, definition: "Workflow[Any, Any]") -> None:
        """One more; a module that is loaded again (a reload, a second import) replaces its own."""
        name = definition.name
        known = [old for old in self.get(name, ()) if old.reference != definition.reference]
        self[name] = [*known, definition]
        self.unique[name] = definition
        if known:
            del self.unique[name]


registry = Registry()  # of those decorated at module level


class WorkflowContext:
    """What workflow code knows of itself: identity, time, randomness, a logger.

    All of it is the same on every replay. Pass it first to activities and waits.
    """

    def __init__(self, machine: Machine, instance_id: str, parameters: Parameters) -> None:
        assert machine.started is not None
        self._accept = parameters.accept
        self.machine = machine
        self.instance_id = instance_id
        self.workflow_name = machine.program.name
        self.undos = Undos(machine)
        self._seed = machine.started.seed
        self._streams: dict[str, Random] = {}

    def __repr__(self) -> str:
        replaying = ", replaying" if self.is_replaying else ""
        return f"<WorkflowContext of {self.workflow_name} {self.instance_id!r}{replaying}>"

    @cached_property
    def logger(self) -> "_ReplayLogger":
        """A logger that is silent while replaying."""
        return _ReplayLogger(logging.getLogger(f"edda.workflow.{self.workflow_name}"), self)

    @property
    def is_replaying(self) -> bool:
        """Whether the code runs to rebuild its state, not to do anything new."""
        return self.machine.is_replaying

    def now(self) -> datetime:
        """The time of the event being fed: an aware datetime in UTC."""
        assert self.machine.now is not None
        return self.machine.now

    @property
    def random(self) -> Random:
        """A `random.Random` of the calling function's own, seeded by the instance.

        Every function has its stream, so a draw added elsewhere shifts nothing here.
        """
        caller = sys._getframe(1)  # noqa: SLF001 - the documented way to one's caller
        return self._stream("random", caller.f_code.co_qualname)

    def uuid4(self) -> uuid.UUID:
        """A random UUID from a stream of the calling function's own."""
        caller = sys._getframe(1)  # noqa: SLF001 - the documented way to one's caller
        stream = self._stream("uuid4", caller.f_code.co_qualname)
        return uuid.UUID(int=stream.getrandbits(128), version=4)

    def patched(self, id: str) -> bool:
        """Whether to take the new side of a change to code that instances are running.

        True for new instances, and for those that get here after the change; False for those
        whose history was recorded on the old side. Recorded, so it never changes for an instance.
        """
        if fault := text_fault(id):
            raise ArgumentError("patched", [f"id {fault}"])
        return self.machine.patched(id)

    def recur(self, **kwargs: Any) -> Coroutine[Any, Any, NoReturn]:
        """Go on as a fresh history of the same instance, called with `kwargs`. Never returns.

        Channels stay subscribed, and events that were not taken stay to be taken; open steps
        are given up, and compensations that were registered are forgotten. Raises
        `ArgumentError` when the arguments do not fit the workflow's annotations.
        """
        return self.machine.recur(self._accept((), kwargs))

    def _stream(self, use: str, function: str) -> Random:
        key = f"{use}:{function}"
        stream = self._streams.get(key)
        if stream is None:
            seed = blake2b(f"{self._seed}:{key}".encode(), digest_size=16).digest()
            stream = self._streams[key] = Random(seed)
        return stream


class _ReplayLogger(logging.LoggerAdapter[logging.Logger]):
    """Silent while replaying; else a line carries `[workflow instance]`."""

    def __init__(self, logger: logging.Logger, ctx: WorkflowContext) -> None:
        super().__init__(logger, {})
        self._ctx = ctx

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return not self._ctx.is_replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"[{self._ctx.workflow_name} {self._ctx.instance_id}] {msg}", kwargs


class Workflow(Generic[P, R]):
    """A workflow definition. Calling it runs the bare function, as a part of another workflow."""

    def __init__(
        self,
        fn: Callable[..., Coroutine[Any, Any, R]],
        *,
        name: str | None = None,
        start_on: str | bool | None = None,
        allow: Iterable[str] = (),
    ) -> None:
        check_definition(fn, "workflow")
        self.allow = as_categories(allow, f"@workflow on {fn.__qualname__!r}")
        if not inspect.iscoroutinefunction(fn):
            raise DefinitionError(
                f"The workflow {fn.__qualname__!r} is a plain function: workflows wait, so it "
                f"must be `async def`."
            )
        self.fn = fn
        self.name = fn.__name__ if name is None else name
        self.start_on = _event_type(start_on, self.name, fn)
        self.reference = f"{fn.__module__}:{fn.__qualname__}"
        self.parameters = Parameters(fn, f"Workflow {self.name!r}")
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        self._result: Value | None = None

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r} {self.reference}>"

    @property
    def place(self) -> str:
        """Where it is defined, for messages: `module:qualified name (line n)`."""
        return f"{self.reference} (line {self.fn.__code__.co_firstlineno})"

    def __call__(
        self, ctx: WorkflowContext, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        """Run the bare function, inside the workflow that `ctx` belongs to."""
        return self.fn(ctx, *args, **kwargs)

    @overload
    def start(
        self, ctx: WorkflowContext, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, str]: ...

    @overload
    def start(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, str]: ...

    @overload
    def start(self, *args: Any, instance_id: str, **kwargs: Any) -> Coroutine[Any, Any, str]: ...

    def start(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, str]:
        """Start an instance on the current app and return its id.

        Returns when the instance is stored; the same `instance_id` starts once. In workflow code
        the first argument is its `ctx`: a recorded step, done once. Raises `ArgumentError` when
        the arguments do not fit the annotations, `NoAppError` when no app is open,
        `InstanceExistsError`.
        """
        if args and isinstance(args[0], WorkflowContext):
            site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
            return self._launch(args[0], site, args[1:], kwargs, is_awaited=False)
        return self._start(args, kwargs)

    @overload
    def run(
        self, ctx: WorkflowContext, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def run(
        self, ctx: WorkflowContext, *args: Any, instance_id: str, **kwargs: Any
    ) -> Coroutine[Any, Any, R]: ...

    def run(self, ctx: WorkflowContext, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]:
        """Start a child instance from workflow code, once, and wait for its result.

        Its id is the parent's with `name:n`, or `instance_id`. Raises `WorkflowFailed` (its cause
        is the child's exception) or `WorkflowCancelled`. Giving up the wait, by cancellation or
        a timeout, cancels the child.
        """
        check_context(ctx, f"{self.name}.run")
        site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
        return self._result_of_child(ctx, site, args, kwargs)

    async def _start(self, args: Any, kwargs: Any) -> str:
        if isinstance(asyncio.get_running_loop(), WorkflowLoop):
            raise NotReplayableError(
                f"{self.name}.start() without a context",
                f"Pass the context, so that it is recorded and done once: "
                f"await {self.name}.start(ctx, ...).",
            )
        host = current_host(
            f"{self.name}.start()",
            "Open one with `async with EddaApp(...)`, or `await app.initialize()`.",
        )
        return await host.start(self, *args, **kwargs)

    async def _launch(
        self, ctx: WorkflowContext, site: str, args: Any, kwargs: Any, *, is_awaited: bool
    ) -> str:
        instance_id = kwargs.pop("instance_id", None)
        check_id(f"{self.name}.start", "instance_id", instance_id)
        arguments = self.parameters.accept(args, kwargs)
        id = ctx.machine.next_id(self.name)
        child = instance_id or f"{ctx.machine.scope}.{id}"
        ask = StartAsk(id, self.name, arguments, child, is_awaited, site)
        await ctx.machine.ask(Question(ask, json.loads, self, self.parameters.same))
        return child

    async def _result_of_child(self, ctx: WorkflowContext, site: str, args: Any, kwargs: Any) -> R:
        child = await self._launch(ctx, site, args, kwargs, is_awaited=True)
        ask = ResultAsk(ctx.machine.next_id(f"{self.name}.result"), self.name, child, site)
        result: R = await ctx.machine.ask(Question(ask, self.result.decode))
        return result

    @property
    def result(self) -> Value:
        """The codec of what the workflow returns."""
        if self._result is None:
            self._result = result_of(self.fn, f"The result of workflow {self.name!r}")
        return self._result

    def program(self, instance_id: str) -> "WorkflowProgram":
        """This workflow as the machine runs it for one instance."""
        return WorkflowProgram(self, instance_id)


class WorkflowProgram:
    """One instance's workflow as the machine sees it (`machine.Program`)."""

    __slots__ = ("_workflow", "instance_id", "name")

    def __init__(self, workflow: Workflow[Any, Any], instance_id: str) -> None:
        self.name = workflow.name
        self._workflow = workflow
        self.instance_id = instance_id

    def run(self, machine: Machine, started: Started) -> Coroutine[Any, Any, Any]:
        args, kwargs = self._workflow.parameters.decode(started.arguments)
        ctx = WorkflowContext(machine, self.instance_id, self._workflow.parameters)
        return self._run(ctx, args, kwargs)

    def encode_result(self, value: Any) -> str:
        return self._workflow.result.encode(value)

    def same_result(self, one: str, other: str) -> bool:
        return self._workflow.result.same(one, other)

    async def _run(self, ctx: WorkflowContext, args: Any, kwargs: Any) -> Any:
        try:
            value = await self._call(ctx, args, kwargs)
            if ctx.undos:
                self.encode_result(value)  # what cannot be stored fails the run, and is undone
            return value
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # goes to the machine
            await ctx.undos.unwind(error)
            raise

    async def _call(self, ctx: WorkflowContext, args: Any, kwargs: Any) -> Any:
        try:
            return await self._workflow.fn(ctx, *args, **kwargs)
        except RuntimeError as error:
            # asyncio's two sentences for an await that only another event loop could answer.
            if "attached to a different loop" in str(error) or "Task got bad yield" in str(error):
                raise NotReplayableError(
                    "An await of something outside this workflow",
                    "Await it in an activity; in a workflow only edda's waits, activities and "
                    "plain asyncio work.",
                ) from error
            raise


@overload
def workflow(fn: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(
    *, name: str | None = None, start_on: str | bool | None = None, allow: Iterable[str] = ()
) -> Callable[[Callable[Concatenate[C, P], Coroutine[Any, Any, R]]], Workflow[P, R]]: ...


def workflow(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    start_on: str | bool | None = None,
    allow: Iterable[str] = (),
) -> Any:
    """Make an `async def f(ctx, ...)` a durable workflow, stored under `name` or its own name.

    With `start_on`, every event of that type (True: of the workflow's name) that an app accepts
    starts an instance; the members of its data are the arguments. `allow` lists the categories of
    calls (`edda.determinism`) that tests shall not report in it. Raises `DefinitionError` for
    anything that is not an `async def` with a context parameter.
    """

    def decorate(fn: Callable[..., Coroutine[Any, Any, Any]]) -> Workflow[Any, Any]:
        definition: Workflow[Any, Any] = Workflow(fn, name=name, start_on=start_on, allow=allow)
        if "<locals>" not in fn.__qualname__:
            registry.add(definition)
        return definition

    return decorate if fn is None else decorate(fn)


def check_id(what: str, argument: str, value: object) -> None:
    """Refuse an id that is not a non-empty string; None is none."""
    if value is not None and (fault := text_fault(value)):
        raise ArgumentError(what, [f"{argument} {fault}"])


def check_context(ctx: object, verb: str) -> None:
    """Refuse anything but the context of a workflow."""
    if not isinstance(ctx, WorkflowContext):
        raise ArgumentError(
            verb,
            [f"its first argument must be a workflow's ctx, got {type(ctx).__name__} {ctx!r}"],
        )


def _event_type(start_on: object, name: str, fn: Callable[..., Any]) -> str | None:
    """The type of the events that start a workflow, checked at its definition."""
    if start_on is None or start_on is False:
        return None
    event_type = name if start_on is True else start_on
    if not isinstance(event_type, str) or not event_type:
        raise DefinitionError(
            f"The workflow {name!r} has start_on={start_on!r}: give the type of the events that "
            f'start it, e.g. start_on="order.created", or True for its own name.'
        )
    for parameter in list(inspect.signature(fn).parameters.values())[1:]:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise DefinitionError(
                f"The workflow {name!r} is started by events, which give arguments by name, and "
                f"{parameter.name!r} is positional-only: remove the `/` after it."
            )
    return event_type


def check_definition(fn: Any, role: str) -> None:
    """Refuse what cannot be decorated, with the cure."""
    if not callable(fn) or not hasattr(fn, "__qualname__") or isinstance(fn, type):
        raise DefinitionError(
            f"@{role} decorates a function, and got {type(fn).__name__} {fn!r}. Write "
            f"@{role} above the def, or @{role}(name=...) with keyword arguments."
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DefinitionError(
            f"The {role} {fn.__qualname__!r} has a `yield`, so a call of it is a generator and "
            f"runs nothing. Return the values, as a list."
        )
    parameters = list(inspect.signature(fn).parameters.values())
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if not parameters or parameters[0].kind not in positional:
        raise DefinitionError(
            f"The {role} {fn.__qualname__!r} has no context parameter. Its first parameter is "
            f"the context: def {fn.__name__}(ctx, ...)."
        )
