"""From a call up to the workflow: which frames are whose, and what lies in between.

A call counts when workflow code leads to it. It does not count below something that a replay need
not repeat: an import, logging, a traceback, a debugger, pytest's own work. Pure functions over
frames. Absent: what is called, and whether that is bad.
"""

import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType

from edda_testkit.guard_source import allowed_at
from edda_testkit.places import is_library

__all__ = ["Chain", "chain_of", "shown", "users_until"]

# Whatever these call, and whatever it calls in turn, is no part of the workflow: it looks at the
# program, reports on it, or loads what never changes.
ABSOLVED = frozenset(
    """
    IPython _frozen_importlib _frozen_importlib_external _pydev_bundle _pydevd_bundle _pytest
    _strptime bdb cmd coverage ddtrace debugpy doctest encodings faulthandler hypothesis importlib
    importlib_metadata importlib_resources inspect ipdb linecache logbook logfire logging loguru
    opentelemetry pdb pkg_resources pkgutil pluggy prometheus_client pudb pydevd pydevd_plugins
    pytest_timeout pytz rich sentry_sdk structlog tokenize traceback tzdata warnings weakref
    zipimport zoneinfo
    """.split()
)
ABSOLVED_MODULES = ("dateutil.tz", "dateutil.zoneinfo", "pydantic.plugin")
# These do their own work right, and are judged by what they lead to.
EDDA = str(Path(__file__).parent.with_name("edda"))  # and edda_testkit, which begins so
TRUSTED = frozenset({"edda", "edda_testkit", "freezegun", "time_machine"})
WRITES = frozenset({"flush", "isatty", "write", "writelines"})


@dataclass(frozen=True, slots=True)
class Chain:
    """The frames from workflow code down to a call, outermost first, without edda's own.

    `own` are those that are not a library's; `is_direct` says whether the last of them made the
    call, not a library for it. `line` is where it is.
    """

    frames: tuple[FrameType, ...]
    own: tuple[FrameType, ...]
    is_direct: bool
    line: int

    @property
    def site(self) -> str:
        """The line to look at, as `file:line`."""
        return f"{short(self.own[-1].f_code.co_filename)}:{self.line}"

    def at(self, frame: FrameType, line: int) -> "Chain":
        """The part of it that ends at another line, in one of its own frames."""
        frames = self.frames[: self.frames.index(frame) + 1]
        return Chain(frames, self.own[: self.own.index(frame) + 1], True, line)

    def library_of(self, names: frozenset[str]) -> str | None:
        """The first of these libraries that it leads through."""
        tops = [str(frame.f_globals.get("__name__", "")) for frame in self.frames]
        return next((top.partition(".")[0] for top in tops if top.partition(".")[0] in names), None)

    def allowed(self) -> set[str]:
        """The categories that comments on its lines allow."""
        found = {name for frame in self.own for name in allowed_at(frame, line_in(frame))}
        return found.union(allowed_at(self.own[-1], self.line))

    def lines(self) -> list[str]:
        """A line for each frame: where, and in which function; two if it is not where it is at."""
        last = self.own[-1]
        found = [f"{shown(frame)} in {frame.f_code.co_qualname}" for frame in self.frames]
        if self.line != line_in(last):
            found.insert(self.frames.index(last), f"{self.site} in {last.f_code.co_qualname}")
        return found


def chain_of(
    caller: FrameType, until: FrameType | None, home: str, *, by_edda: bool = False
) -> Chain | None:
    """What leads from workflow code to a call made by `caller`, or None if it does not count.

    `until` is the frame at which workflow code begins; `home` is the file of the workflow, which
    counts as the user's wherever it is installed. What edda calls does not count, unless it is
    `by_edda` that the call is refused.
    """
    frames = list(frames_until(caller, until))
    if any(map(is_absolved, frames)):
        return None
    own = [frame for frame in frames if is_users(frame, home)]
    if not own or (top_of(caller) in TRUSTED and not by_edda):
        return None
    # What edda and asyncio do before any code of the user's runs is no news.
    told = [frame for frame in frames[: frames.index(own[-1]) + 1] if top_of(frame) not in TRUSTED]
    return Chain(tuple(told[::-1]), tuple(own[::-1]), caller is own[0], line_in(own[0]))


def line_in(frame: FrameType) -> int:
    """The line that a frame is at, or was at last: some instructions belong to none."""
    at: int | None = frame.f_lineno
    if at is None:
        begun = [line for start, _, line in frame.f_code.co_lines() if start <= frame.f_lasti]
        at = next((line for line in reversed(begun) if line), frame.f_code.co_firstlineno)
    return at


def frames_until(frame: FrameType | None, until: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame is not until:
        yield frame
        frame = frame.f_back


def users_until(frame: FrameType, until: FrameType | None) -> Iterator[FrameType]:
    """The frames up to `until` that are probably the user's: quick, and once in a while wrong."""
    for each in frames_until(frame, until):
        if is_elsewhere(each.f_code.co_filename):
            yield each


@lru_cache(maxsize=4096)
def is_elsewhere(name: str) -> bool:
    return not name.startswith(("<", EDDA)) and not is_library(name)


def shown(frame: FrameType) -> str:
    """`file:line`, the file relative to the working directory if it is below it."""
    return f"{short(frame.f_code.co_filename)}:{line_in(frame)}"


@lru_cache(maxsize=4096)
def short(path: str) -> str:
    return path.removeprefix(f"{Path.cwd()}{os.sep}")


def top_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def is_users(frame: FrameType, home: str) -> bool:
    """Whether a frame is neither a library's nor generated nor edda's."""
    name = frame.f_code.co_filename
    if name == home:
        return True
    return not name.startswith("<") and not is_library(name) and top_of(frame) not in TRUSTED


def code_of(function: object) -> object:
    return getattr(function, "__code__", None)


def is_absolved(frame: FrameType) -> bool:
    """Whether what is below this frame is no part of the workflow."""
    code, module = frame.f_code, str(frame.f_globals.get("__name__", ""))
    if module.partition(".")[0] in ABSOLVED or module.startswith(ABSOLVED_MODULES):
        return True
    # The garbage collector came by, at an instant that has nothing to do with the workflow.
    if code.co_name == "__del__" or any(code is code_of(each) for each in gc.callbacks):
        return True
    if code.co_name in WRITES:  # print(), to what a test or a library put there
        writer = frame.f_locals.get("self")
        return writer is not None and (writer is sys.stdout or writer is sys.stderr)
    return False
