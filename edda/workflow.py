"""Workflows as authors write them: the decorator, and the context their code gets.

A workflow is an `async def` whose first parameter is the context. Definitions are values; the
registry below holds those made at module level, and each app decides for itself which name
means which of them.
"""

import asyncio
import inspect
import logging
import sys
import uuid
from collections.abc import Callable, Coroutine
from datetime import datetime
from hashlib import blake2b
from random import Random
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from edda.codec import Parameters, Value, result_of
from edda.current import current_host
from edda.errors import ArgumentError, DefinitionError, NotReplayableError
from edda.history import Started
from edda.loop import WorkflowLoop
from edda.machine import Machine

__all__ = ["Workflow", "WorkflowContext", "registry", "workflow"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")

# Every workflow decorated at module level, by name; a name may mean several things until an
# app has to know which.
registry: dict[str, list["Workflow[Any, Any]"]] = {}


class WorkflowContext:
    """What workflow code knows of itself: identity, time, randomness, a logger.

    All of it is the same on every replay. Pass it first to activities and waits.
    """

    def __init__(self, machine: Machine, instance_id: str) -> None:
        assert machine.started is not None
        self.machine = machine
        self.instance_id = instance_id
        self.workflow_name = machine.program.name
        self.logger = _ReplayLogger(logging.getLogger(f"edda.workflow.{self.workflow_name}"), self)
        self._seed = machine.started.seed
        self._streams: dict[str, Random] = {}

    def __repr__(self) -> str:
        replaying = ", replaying" if self.is_replaying else ""
        return f"<WorkflowContext of {self.workflow_name} {self.instance_id!r}{replaying}>"

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
        if not isinstance(id, str) or not id:
            raise ArgumentError("patched", [f"id must be a non-empty string, got {id!r}"])
        return self.machine.patched(id)

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
        self, fn: Callable[..., Coroutine[Any, Any, R]], *, name: str | None = None
    ) -> None:
        check_definition(fn, "workflow")
        if not inspect.iscoroutinefunction(fn):
            raise DefinitionError(
                f"The workflow {fn.__qualname__!r} is a plain function: workflows wait, so it "
                f"must be `async def`."
            )
        self.fn = fn
        self.name = fn.__name__ if name is None else name
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

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Start an instance on the current app and return its id.

        Returns when the instance is stored. Raises `ArgumentError` when the arguments do not
        fit the annotations, `NoAppError` when no app is open. `app.start(wf, instance_id=...)`
        is the full form.
        """
        if isinstance(asyncio.get_running_loop(), WorkflowLoop):
            raise NotReplayableError(
                f"{self.name}.start() without a context",
                "Start it from an activity, with an instance_id of your choosing.",
            )
        host = current_host(
            f"{self.name}.start()",
            "Open one with `async with EddaApp(...)`, or `await app.initialize()`.",
        )
        given: dict[str, Any] = dict(kwargs)
        return await host.start(self, *args, **given)

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
        ctx = WorkflowContext(machine, self.instance_id)
        return self._run(ctx, args, kwargs)

    def encode_result(self, value: Any) -> str:
        return self._workflow.result.encode(value)

    async def _run(self, ctx: WorkflowContext, args: Any, kwargs: Any) -> Any:
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
    *, name: str | None = None
) -> Callable[[Callable[Concatenate[C, P], Coroutine[Any, Any, R]]], Workflow[P, R]]: ...


def workflow(fn: Any = None, /, *, name: str | None = None) -> Any:
    """Make an `async def f(ctx, ...)` a durable workflow, stored under `name` or its own name.

    Raises `DefinitionError` for anything that is not an `async def` with a context parameter.
    """

    def decorate(fn: Callable[..., Coroutine[Any, Any, Any]]) -> Workflow[Any, Any]:
        definition: Workflow[Any, Any] = Workflow(fn, name=name)
        if "<locals>" not in fn.__qualname__:
            known = registry.setdefault(definition.name, [])
            # A module that is loaded again (a reload, a test's second import) replaces its own.
            known[:] = [old for old in known if old.reference != definition.reference]
            known.append(definition)
        return definition

    return decorate if fn is None else decorate(fn)


def check_definition(fn: Any, role: str) -> None:
    """Refuse what cannot be decorated, with the cure."""
    if not callable(fn) or not hasattr(fn, "__qualname__") or isinstance(fn, type):
        raise DefinitionError(
            f"@{role} decorates a function, and got {type(fn).__name__} {fn!r}. Write "
            f"@{role} above the def, or @{role}(name=...) with keyword arguments."
        )
    parameters = list(inspect.signature(fn).parameters.values())
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if not parameters or parameters[0].kind not in positional:
        raise DefinitionError(
            f"The {role} {fn.__qualname__!r} has no context parameter. Its first parameter is "
            f"the context: def {fn.__name__}(ctx, ...)."
        )
