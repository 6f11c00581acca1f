"""What was read or made when a module was imported: another process has another.

Reading `sys.argv` is no call, and neither is reading a global that a clock made at import. So the
source of a function is searched, once, for such reads; at an ask those among its arguments count.
Absent: which functions are clocks (`guard_rules`).
"""

import ast
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from types import FrameType
from typing import Any
from uuid import UUID

from edda_testkit.guard_source import UNKNOWN, allowed_at, parsed, value_of

__all__ = ["Read", "is_allowed", "reads", "reads_in"]

OF_PROCESS: tuple[tuple[Any, frozenset[str]], ...] = (
    (
        sys,
        frozenset("argv orig_argv path modules executable prefix flags version platform".split()),
    ),
    (os, frozenset({"name"})),
    (time, frozenset("tzname timezone altzone daylight".split())),
)
DATA = (str, bytes, int, float, date, UUID, time.struct_time)


@dataclass(frozen=True, slots=True)
class Read:
    """A name that a function reads, and what was called when its module was imported.

    `made` is the line of the assignment; 0 if it is an attribute of the process.
    """

    node: ast.expr
    name: str
    made: int = 0
    functions: tuple[Any, ...] = ()
    is_environment: bool = False


def reads(nodes: Iterable[ast.AST], frame: FrameType) -> tuple[Read, ...]:
    """The reads among the nodes of a function that may differ in another process."""
    return tuple(found for node in nodes for found in _read(node, frame))


def reads_in(call: ast.Call, known: tuple[Read, ...]) -> Iterator[Read]:
    """Those that stand among the arguments of a call."""
    first, last = _begin(call), _end(call)
    for read in known:
        if first <= _begin(read.node) and _end(read.node) <= last:
            yield read


def _begin(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or 0, node.end_col_offset or 0


def _read(node: ast.AST, frame: FrameType) -> Iterator[Read]:
    match node:
        case ast.Attribute(value=ast.Name() as owner, attr=attr, ctx=ast.Load()):
            held = value_of(owner, frame, is_global=True)
            for module, names in OF_PROCESS:
                if held is module and attr in names:
                    yield Read(node, f"{module.__name__}.{attr}", is_environment=True)
            is_here = isinstance(held, type) and held.__module__ == frame.f_globals.get("__name__")
            if is_here and isinstance(vars(held).get(attr), DATA):
                yield from _made(node, f"{held.__name__}.{attr}", frame)
        case ast.Name(id=name, ctx=ast.Load()):
            if isinstance(value_of(node, frame, is_global=True), DATA):
                yield from _made(node, name, frame)


def _made(node: ast.expr, name: str, frame: FrameType) -> Iterator[Read]:
    """What made a global, if calls did."""
    values = assigned(frame.f_code.co_filename).get(name, ())
    if len(values) != 1:
        return
    functions, is_environment = [], False
    for part in ast.walk(values[0]):
        if isinstance(part, ast.Lambda):
            return
        if isinstance(part, ast.Call):
            functions.append(value_of(part.func, frame, is_global=True))
        elif isinstance(part, ast.Attribute | ast.Name):
            is_environment = is_environment or value_of(part, frame, is_global=True) is os.environ
    known = tuple(each for each in functions if each is not UNKNOWN)
    if known or is_environment:
        yield Read(node, name, values[0].lineno, known, is_environment)


def is_allowed(read: Read, category: str, frame: FrameType) -> bool:
    """Whether a comment where a global is made allows it."""
    return bool(read.made) and category in allowed_at(frame, read.made)


@lru_cache(maxsize=256)
def assigned(file: str) -> dict[str, list[ast.expr]]:
    """What the globals of a file, and the attributes of its classes, are assigned."""
    found: dict[str, list[ast.expr]] = {}
    for node in parsed(file).body:
        body, prefix = [node], ""
        if isinstance(node, ast.ClassDef):
            body, prefix = node.body, f"{node.name}."
        for each in body:
            match each:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                ):
                    found.setdefault(prefix + name, []).append(value)
    return found
