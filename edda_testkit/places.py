"""Where something waits, in words: the task and the source lines a person would look at.

Pure functions over suspended coroutines; nothing is resumed, and nothing is kept.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

__all__ = ["as_job", "as_place", "frames_of", "module_of"]

STANDARD_LIBRARY = asyncio.__file__.removesuffix("asyncio/__init__.py")


def as_place(task: asyncio.Task[Any]) -> str:
    """Where a task waits: its innermost line that is not a library's, and its innermost line."""
    frames = frames_of(task)
    own = [frame for frame in frames if not is_library(frame.f_code.co_filename)]
    lines = dict.fromkeys(as_line(frame) for frame in (*own[-1:], *frames[-1:]))
    return f"task {task.get_name()!r} awaits at {', in '.join(lines) or 'an unknown line'}"


def as_job(func: Callable[..., Any]) -> str:
    """What a thread runs, by name and source line."""
    while isinstance(func, partial):  # to_thread() makes partial(context.run, func, ...)
        func = func.args[0] if getattr(func.func, "__name__", "") == "run" else func.func
    code = getattr(func, "__code__", None)
    where = f" at {code.co_filename}:{code.co_firstlineno}" if code else ""
    return f"a thread runs {getattr(func, '__qualname__', repr(func))}{where}"


def module_of(task: asyncio.Task[Any]) -> str:
    """The name of the module a task's innermost frame runs in."""
    return "".join(str(frame.f_globals.get("__name__")) for frame in frames_of(task)[-1:])


def frames_of(task: asyncio.Task[Any]) -> list[FrameType]:
    """The frames a task is suspended in, outermost first."""
    found: list[FrameType] = []
    awaitable: Any = task.get_coro()
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if frame is not None:
            found.append(frame)
        inner = getattr(awaitable, "cr_await", None)
        awaitable = inner if inner is not None else getattr(awaitable, "gi_yieldfrom", None)
    return found


def as_line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})"


def is_library(filename: str) -> bool:
    return "-packages" in filename or filename.startswith(STANDARD_LIBRARY)
