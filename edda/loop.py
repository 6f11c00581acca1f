"""A deterministic asyncio event loop: first come, first served, and nothing from outside.

Workflow code runs on this loop, so `gather`, `TaskGroup`, `timeout`, `Queue`, `create_task` and
the rest of asyncio behave as documented. The loop is driven synchronously: `run()` runs what is
ready, in order, and returns; waiting is simply not being resumed. Its clock is whatever its
owner says, and `call_later` / `call_at` become the owner's timers.

Deliberately absent: sockets, threads, subprocesses, signals, and everything else whose outcome
a replay cannot reproduce. Each raises `NotReplayableError` with the call and the cure.
"""

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import lru_cache
from types import FrameType
from typing import Any, NoReturn, Protocol, TypeVar

from edda.errors import NotReplayableError, RunawayWorkflowError

__all__ = ["Timers", "WorkflowLoop", "call_site", "source_name", "user_site"]

T = TypeVar("T")

# Callbacks in one run before the workflow is taken to spin.
MAX_CALLBACKS = 100_000

logger = logging.getLogger("edda.workflow")


class Handle:
    """A callback that waits for its turn, and can be cancelled until then."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.is_cancelled = False

    def __repr__(self) -> str:
        state = " cancelled" if self.is_cancelled else ""
        return f"<Handle{state} {getattr(self.callback, '__qualname__', self.callback)!s}>"

    def cancel(self) -> None:
        """Take the callback back."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self.is_cancelled


class TimerHandle(Handle):
    """A callback that waits for its time; `withdraw` gives up the timer behind it."""

    __slots__ = ("when_seconds", "withdraw")

    def __init__(self, *args: Any, when_seconds: float) -> None:
        super().__init__(*args)
        self.when_seconds = when_seconds
        self.withdraw: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Take the callback back."""
        if not self.is_cancelled:
            super().cancel()
            if self.withdraw is not None:
                self.withdraw()

    def when(self) -> float:
        """When the callback is due, in the loop's seconds."""
        return self.when_seconds


class Task(asyncio.Task[Any]):
    """A task that is hashed by its order, not by its address.

    A `TaskGroup` keeps its tasks in a set, and cancels them in the order of that set.
    """

    def __init__(self, coro: Any, order: int, **options: Any) -> None:
        self._order = order
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._order


class _Running:
    """A block in which a loop is the running one of this thread."""

    __slots__ = ("_hooks", "_loop", "_outer")

    def __init__(self, loop: "WorkflowLoop") -> None:
        self._loop = loop

    def __enter__(self) -> None:
        self._outer = asyncio._get_running_loop()
        self._hooks = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self._loop)
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._loop.finalize)

    def __exit__(self, *_: object) -> None:
        sys.set_asyncgen_hooks(*self._hooks)
        asyncio._set_running_loop(self._outer)


class Timers(Protocol):
    """The owner of the loop's time."""

    def time(self) -> float:
        """Seconds since the instance started."""

    def set_timer(self, handle: TimerHandle, when_seconds: float, site: str) -> None:
        """Have `handle` put on the loop (`WorkflowLoop.fire`) when the time has come.

        Sets `handle.withdraw`, which is called if the handle is cancelled before that.
        """


class WorkflowLoop(asyncio.AbstractEventLoop):
    """The loop one workflow instance runs on. `timers` owns its clock.

    `salt` is any number of the instance's own; it keeps the hashes of tasks apart.
    """

    def __init__(self, timers: Timers, name: str) -> None:
        self.timers = timers
        self.name = name
        self.salt = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self._ready: deque[Handle] = deque()
        self._closed = False

    def __repr__(self) -> str:
        return f"<WorkflowLoop of {self.name}, {len(self._ready)} ready>"

    def running(self) -> "_Running":
        """Be the running loop of this thread, whichever was before. Once for many `run()`s."""
        return _Running(self)

    # All control flow of a workflow is in this one function.
    def run(self) -> None:
        """Run what is ready, and what becomes ready by it, until nothing is."""
        if asyncio._get_running_loop() is not self:
            with self.running():
                return self.run()
        ready = self._ready
        for _ in range(MAX_CALLBACKS):
            if not ready:
                return None
            handle = ready.popleft()
            if not handle.is_cancelled:
                try:
                    handle.context.run(handle.callback, *handle.args)
                except SystemExit:
                    continue  # the task has it: it fails the workflow, not the worker
                except Exception as error:  # of a plain callback: as asyncio does, it is logged
                    message = f"Exception in callback {handle!r}"
                    self.call_exception_handler({"message": message, "exception": error})
        raise RunawayWorkflowError(self.name, MAX_CALLBACKS)

    def fire(self, handle: TimerHandle) -> None:
        """Put a timer's handle on the loop: its time has come."""
        handle.withdraw = None
        if not handle.is_cancelled:
            self._ready.append(handle)

    def halt(self) -> None:
        """Run nothing any more."""
        self._ready.clear()
        self._closed = True

    def shut(self) -> None:
        """Close every coroutine that is still suspended. No `except Exception` runs (law T4)."""
        self._ready.clear()
        self._closed = True
        if not self.tasks:
            return
        with self.running():
            for task in reversed(self.tasks):
                if not task.done():
                    # `asyncio.timeout` and `TaskGroup` in its `finally` ask for the current task.
                    asyncio.tasks._enter_task(self, task)
                    _drop(task)
                    asyncio.tasks._leave_task(self, task)
                elif not task.cancelled():
                    task.exception()  # marks it as retrieved: nobody is left to tell
        self.tasks.clear()
        self._ready.clear()

    def finalize(self, generator: Any) -> None:
        """End an asynchronous generator that nobody holds any more, without the loop."""
        # Called by the garbage collector, at an instant no replay can reproduce: so nothing that
        # the generator's `finally` asks for may count.
        was_closed, self._closed = self._closed, True
        closing = generator.aclose()
        try:
            closing.send(None)
            _close(closing)  # its `finally` awaits
        except BaseException:  # also StopIteration: it has ended; what it raised is dropped
            return
        finally:
            self._closed = was_closed

    # ---- What asyncio asks of a loop ---------------------------------------------------------

    def time(self) -> float:
        return self.timers.time()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        return self._call_at(self.time() + delay, callback, args, context, sys._getframe(1))

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        return self._call_at(when, callback, args, context, sys._getframe(1))

    def _call_at(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
        frame: FrameType,
    ) -> TimerHandle:
        context = copy_context() if context is None else context
        handle = TimerHandle(callback, args, context, when_seconds=when)
        self.timers.set_timer(handle, when, user_site(frame))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        _refuse_unordered(sys._getframe(1))
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: "Coroutine[Any, Any, T] | Generator[Any, None, T]",
        *,
        name: object = None,
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        _refuse_unordered(sys._getframe(1))
        # Named by order: asyncio's own counter runs on through the whole process.
        label = f"{self.name}-{len(self.tasks) + 1}" if name is None else str(name)
        order = self.salt % 2**40 * 2**16 + len(self.tasks)
        task = Task(coro, order, loop=self, name=label, context=context)
        if self._closed:  # closing code starts nothing: nobody would run it
            self._ready.pop()
            _drop(task)
        else:
            self.tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        if enabled:
            _refuse("loop.set_debug", "Debug asyncio code in an activity or a plain test.")

    def is_running(self) -> bool:
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        return self._closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        logger.error("In workflow %s: %s", self.name, context.get("message"), exc_info=error)


# ---- Call sites ------------------------------------------------------------------------------

_ASYNCIO = os.path.join(os.path.dirname(asyncio.__file__), "")
_ENGINE = (_ASYNCIO, os.path.join(os.path.dirname(__file__), ""))


def call_site(frame: FrameType) -> str:
    """The `file:line` of a frame; the file is relative to the top of its package."""
    module = frame.f_globals.get("__name__", "")
    return _site(frame.f_code.co_filename, module, frame.f_lineno)


@lru_cache(maxsize=4096)
def _site(path: str, module: str, line: int) -> str:
    return f"{source_name(path, module)}:{line}"


def source_name(path: str, module: str) -> str:
    """A source file's path from the top of its package."""
    parts = path.replace("\\", "/").split("/")
    depth = module.count(".") + (parts[-1] == "__init__.py")
    return "/".join(parts[-1 - depth :])


def user_site(frame: FrameType | None) -> str:
    """The innermost call site outside asyncio and this package, or `"?"`."""
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_ENGINE):
            return call_site(frame)
        if code is WorkflowLoop.run.__code__:
            break
        frame = frame.f_back
    return "?"


# ---- What is refused -------------------------------------------------------------------------

_UNORDERED = {
    "wait": "asyncio.wait",
    "_wait": "asyncio.wait",
    "as_completed": "asyncio.as_completed",
    "_AsCompletedIterator": "asyncio.as_completed",
}


def _refuse_unordered(frame: FrameType | None) -> None:
    # asyncio.wait and as_completed keep their awaitables in sets, whose order is that of memory
    # addresses. They call the loop from within asyncio, so the frames above tell.
    while frame is not None and frame.f_code.co_filename.startswith(_ASYNCIO):
        name = frame.f_code.co_qualname.partition(".")[0]
        if name in _UNORDERED:
            _refuse(
                _UNORDERED[name],
                "It keeps its awaitables in a set, which has another order in every process: "
                "use asyncio.gather or asyncio.TaskGroup.",
            )
        frame = frame.f_back


def _refuse(call: str, cure: str) -> NoReturn:
    raise NotReplayableError(call, cure)


_THREADS = "Put the blocking call into an activity; a plain `def` activity runs in a thread."
_NETWORK = "Do network I/O in an activity, and await the activity."
_PROCESSES = "Start the process in an activity, and await the activity."
_PROGRAM = "It belongs to the program that runs workers, not to a workflow."

_CURES = {
    **dict.fromkeys(("run_in_executor", "call_soon_threadsafe", "set_default_executor"), _THREADS),
    **dict.fromkeys(("shutdown_default_executor",), _THREADS),
    **dict.fromkeys(
        (
            "getaddrinfo getnameinfo create_connection create_server start_tls sendfile "
            "create_unix_connection create_unix_server connect_accepted_socket "
            "create_datagram_endpoint connect_read_pipe connect_write_pipe add_reader "
            "remove_reader add_writer remove_writer sock_recv sock_recv_into sock_recvfrom "
            "sock_recvfrom_into sock_sendall sock_sendto sock_connect sock_accept sock_sendfile"
        ).split(),
        _NETWORK,
    ),
    **dict.fromkeys(("subprocess_shell", "subprocess_exec"), _PROCESSES),
    **dict.fromkeys(
        (
            "run_forever run_until_complete stop close shutdown_asyncgens add_signal_handler "
            "remove_signal_handler set_task_factory get_task_factory get_exception_handler "
            "set_exception_handler"
        ).split(),
        _PROGRAM,
    ),
}
_NAMES = {
    "run_in_executor": "asyncio.to_thread / loop.run_in_executor",
    "create_connection": "asyncio.open_connection / loop.create_connection",
    "create_server": "asyncio.start_server / loop.create_server",
    "subprocess_exec": "asyncio.create_subprocess_exec / loop.subprocess_exec",
    "subprocess_shell": "asyncio.create_subprocess_shell / loop.subprocess_shell",
}


def _refusal(name: str, cure: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        _refuse(_NAMES.get(name, f"loop.{name}"), cure)

    refuse.__name__ = name
    return refuse


for _name, _cure in _CURES.items():
    setattr(WorkflowLoop, _name, _refusal(_name, _cure))


# ---- Closing ---------------------------------------------------------------------------------


class _Closing(BaseException):
    """Ends a coroutine from its innermost await outwards.

    Not `close()`: where a `finally` awaits again, that raises RuntimeError in the coroutines
    around it, and their `except Exception` would run.
    """


def _close(coroutine: Any) -> None:
    for _ in range(100):  # once for each await in a `finally`
        try:
            coroutine.throw(_Closing())
        except BaseException:  # also StopIteration: it has ended; what it raised is dropped (T4)
            return


def _drop(task: "asyncio.Task[Any]") -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    _close(task.get_coro())
