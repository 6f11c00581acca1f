"""Whether a call does harm this time: what its arguments and the value it is bound to tell.

A check is asked about the frame (the caller's for a builtin, its own for a Python function) and
the builtin that is called. In doubt it does not accuse: replays find what goes another way.
"""

import ast
import dis
import io
import socket
import sys
from collections.abc import Callable
from datetime import date, datetime
from types import FrameType
from typing import Any

from edda_testkit.guard_source import (
    UNKNOWN,
    around_call,
    call_at,
    function_of,
    goes_to_people,
    parsed,
    value_of,
)
from edda_testkit.harmless import is_key_only
from edda_testkit.order_free import drains_freely

__all__ = [
    "Check",
    "hashes_by_chance",
    "hashes_something",
    "is_clock_class",
    "is_database",
    "is_dropped",
    "is_fake_naive",
    "is_fake_zoneless",
    "is_more_than_key",
    "is_naive",
    "is_numpy_global",
    "is_socket",
    "is_unordered",
    "is_used",
    "is_zoneless",
    "lacks",
    "lacks_arguments",
    "reads_a_file",
]

Check = Callable[[FrameType, Any], object]  # it does harm if what comes out is true
POP_TOP = dis.opmap["POP_TOP"]


def is_dropped(frame: FrameType, _: object) -> bool:
    """Whether a coroutine is the value of a statement: that line forgot to await it.

    One that goes away with an exception, or with a variable, may have been meant otherwise.
    """
    caller = frame.f_back
    return caller is not None and caller.f_code.co_code[caller.f_lasti] == POP_TOP


# ---- Arguments -------------------------------------------------------------------------------


def lacks_arguments(least: int) -> Check:
    """Whether a builtin was given fewer: `time.gmtime()` asks the clock, `gmtime(0)` does not."""

    def check(frame: FrameType, _: object) -> bool:
        call = call_at(frame)
        return call is not None and len(call.args) + len(call.keywords) < least

    return check


def lacks(name: str) -> Check:
    """Whether a Python function's argument was left out, or None."""
    return lambda frame, _: frame.f_locals.get(name) is None


def hashes_something(frame: FrameType, _: object) -> bool:
    """Whether `hash()` was asked about a value whose hash no other process repeats."""
    # `__hash__` makes a key for a dictionary: no order in that.
    if frame.f_code.co_name == "__hash__" or not is_more_than_key(frame, None):
        return False
    call = call_at(frame)
    if call is None or len(call.args) != 1:
        return False
    value = value_of(call.args[0], frame)
    return value is UNKNOWN or hashes_by_chance(value)


def is_more_than_key(frame: FrameType, _: object) -> bool:
    """Whether `id()` or `hash()` is more than compared, looked up or told: that is no order."""
    if goes_to_people(frame):
        return False
    call = call_at(frame)
    return call is None or not is_key_only(call, around(frame))


def around(frame: FrameType) -> ast.AST:
    """The function whose code runs, or its file where it is an expression's."""
    return function_of(frame.f_code) or parsed(frame.f_code.co_filename)


def is_used(frame: FrameType, _: object) -> bool:
    """Whether something is made of what a call returns."""
    return not isinstance(around_call(frame), ast.Expr)


def hashes_by_chance(value: object) -> bool:
    """Whether a value's hash differs from process to process."""
    match value:
        case None:
            return sys.version_info < (3, 12)  # its address, until it was given a constant
        case tuple() | frozenset():
            return any(map(hashes_by_chance, value))
        case bool() | int() | float() | complex():
            return type(value).__hash__ not in PLAIN_HASHES
        case _:
            return True


PLAIN_HASHES = (int.__hash__, float.__hash__, complex.__hash__)


# ---- What a method is bound to -----------------------------------------------------------------


def is_naive(_: FrameType, method: Any) -> bool:
    """`timestamp()` of a naive time asks for this machine's zone."""
    at = method.__self__
    return isinstance(at, datetime) and at.tzinfo is None


def is_zoneless(frame: FrameType, method: Any) -> bool:
    """So do `astimezone()` and, of a naive time, `astimezone(zone)`."""
    at = method.__self__
    return isinstance(at, datetime) and (at.tzinfo is None or bool(NO_ARGUMENT(frame, method)))


NO_ARGUMENT = lacks_arguments(1)


def is_fake_naive(frame: FrameType, _: object) -> bool:
    """The same of freezegun's datetimes, which are Python."""
    return getattr(frame.f_locals.get("self"), "tzinfo", None) is None


def is_fake_zoneless(frame: FrameType, _: object) -> bool:
    """The same of freezegun's datetimes, which are Python."""
    return frame.f_locals.get("tz") is None or is_fake_naive(frame, _)


def is_clock_class(_: FrameType, method: Any) -> bool:
    """`now()`, `utcnow()` and `today()` of a subclass of date or datetime."""
    cls = method.__self__
    return isinstance(cls, type) and issubclass(cls, date)


def is_unordered(frame: FrameType, method: Any) -> bool:
    """`pop()` of a set takes whatever comes first; all the same where all are taken alike."""
    held = method.__self__
    if not isinstance(held, set) or len(held) < 2 or not any(map(hashes_by_chance, held)):
        return False
    call = call_at(frame)
    return call is None or not drains_freely(call, around(frame))


def reads_a_file(_: FrameType, method: Any) -> bool:
    """`read()` and the like, of a file that was opened elsewhere."""
    file = method.__self__
    return isinstance(file, io.IOBase) and not isinstance(file, io.BytesIO | io.StringIO)


def is_socket(_: FrameType, method: Any) -> bool:
    """A method of a socket that was opened elsewhere."""
    return isinstance(method.__self__, socket.socket)


def is_database(_: FrameType, method: Any) -> bool:
    """A method of a connection to SQLite that was opened elsewhere."""
    return type(method.__self__).__module__ == "sqlite3"


def is_numpy_global(_: FrameType, method: Any) -> bool:
    """A draw from the generator that all users of numpy share."""
    module = sys.modules.get("numpy.random.mtrand")
    return module is not None and method.__self__ is getattr(module, "_rand", None)
