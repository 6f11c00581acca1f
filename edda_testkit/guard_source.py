"""The source behind a running frame: the call it is at, its statement, and its comments.

Answers None, or nothing, where there is no source (`exec`, a shell): who asks must then not
accuse. Files are parsed once. Absent: any judgement.
"""

import ast
import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from types import CodeType, FrameType
from typing import Any, TypeGuard

__all__ = [
    "UNKNOWN",
    "allowed_at",
    "around_call",
    "call_at",
    "function_of",
    "goes_to_people",
    "parsed",
    "position_of",
    "value_of",
]

ALLOW = re.compile(r"#.*?\bedda:\s*allow\[([\w\s,]*)\]")
UNKNOWN = object()
SAYING = frozenset("print debug info warning error exception critical log".split())


@dataclass(frozen=True, slots=True)
class Source:
    """One file's expressions: its calls by where they end, and what each is a part of."""

    calls: dict[tuple[int, int], ast.Call]
    around: dict[ast.expr, ast.AST]
    statements: list[tuple[int, int]]


def call_at(frame: FrameType) -> ast.Call | None:
    """The call expression that a frame is executing."""
    position = position_of(frame)
    return None if position is None else source_of(frame).calls.get(position[1::2])


def around_call(frame: FrameType) -> ast.AST | None:
    """What the call expression that a frame is executing is a part of."""
    call = call_at(frame)
    return None if call is None else source_of(frame).around.get(call)


def goes_to_people(frame: FrameType) -> bool:
    """Whether the call that a frame is executing stands in what is printed or logged."""
    call, source = call_at(frame), source_of(frame)
    around: ast.AST | None = call
    while isinstance(around, ast.expr):
        around = source.around.get(around)
        if isinstance(around, ast.Call) and is_statement(source.around.get(around)):
            function = around.func
            name = getattr(function, "id", None) or getattr(function, "attr", None)
            return name in SAYING
    return False


def is_statement(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Expr)


def function_of(code: CodeType) -> ast.AST | None:
    """The definition behind a code object."""
    return functions_in(code.co_filename).get((code.co_firstlineno, code.co_name))


def allowed_at(frame: FrameType, line: int) -> Iterator[str]:
    """The categories that a comment on the statement at a line allows."""
    name = frame.f_code.co_filename
    lines = linecache.getlines(name, frame.f_globals)
    around = [span for span in source_of(frame).statements if span[0] <= line <= span[1]]
    first, last = max(around, default=(line, line))
    for text in lines[first - 1 : last]:
        for match in ALLOW.finditer(text):
            yield from match[1].replace(",", " ").split()


def value_of(node: ast.AST, frame: FrameType, *, is_global: bool = False) -> Any:
    """The value of a constant, a name or a dotted name, without running anybody's code.

    `UNKNOWN` for everything else, and with `is_global` for what only this frame knows.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            code = frame.f_code
            if not is_global:
                scopes: tuple[dict[str, Any], ...] = (
                    frame.f_locals,
                    frame.f_globals,
                    frame.f_builtins,
                )
            elif name in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
                return UNKNOWN
            else:
                scopes = (frame.f_globals, frame.f_builtins)
            return next((scope[name] for scope in scopes if name in scope), UNKNOWN)
        case ast.Attribute(value=inner, attr=name):
            owner = value_of(inner, frame, is_global=is_global)
            if isinstance(owner, type):
                # Class methods of builtin classes are made on access; user metaclasses are not run.
                if type(owner) is type or type(owner).__module__.startswith("freezegun"):
                    return getattr(owner, name, UNKNOWN)
            elif owner is not UNKNOWN:
                return getattr(owner, "__dict__", {}).get(name, UNKNOWN)
    return UNKNOWN


# ---- Helpers ---------------------------------------------------------------------------------


def position_of(frame: FrameType) -> tuple[int, int, int, int] | None:
    """Line, end line, column, end column of the instruction a frame is at."""
    if frame.f_lasti < 0:
        return None
    found = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), None)
    if found is None or None in found:
        return None
    return found  # type: ignore[return-value]


@lru_cache(maxsize=256)
def parsed(name: str) -> ast.Module:
    """A file's tree; an empty one when there is no source."""
    try:
        return ast.parse("".join(linecache.getlines(name)))
    except (SyntaxError, ValueError):
        return ast.Module([], [])


@lru_cache(maxsize=256)
def functions_in(name: str) -> dict[tuple[int, str], ast.AST]:
    """A file's functions by where they begin. Only statements are gone through: it is quick."""
    found: dict[tuple[int, str], ast.AST] = {}
    left: list[ast.AST] = [parsed(name)]
    while left:
        node = left.pop()
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            left += getattr(node, field, ())
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            found[first, node.name] = node
    return found


def source_of(frame: FrameType) -> Source:
    return indexed(frame.f_code.co_filename)


@lru_cache(maxsize=256)
def indexed(name: str) -> Source:
    """All expressions of a file. Takes its time, and is wanted only where something is found."""
    calls: dict[tuple[int, int], ast.Call] = {}
    around: dict[ast.expr, ast.AST] = {}
    statements: list[tuple[int, int]] = []
    for node in ast.walk(parsed(name)):
        for child in ast.iter_child_nodes(node):
            if is_call(child):
                calls[child.end_lineno or 0, child.end_col_offset or 0] = child
            if isinstance(child, ast.expr):
                around[child] = node
        if isinstance(node, ast.stmt):
            statements.append(span_of(node))
    return Source(calls, around, sorted(statements))


def is_call(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call)


def span_of(node: ast.stmt) -> tuple[int, int]:
    """The lines of a statement; of a compound one, those of its head."""
    body = getattr(node, "body", None) or getattr(node, "cases", None)
    last = node.end_lineno or node.lineno
    if body:
        inner = body[0]
        begins = getattr(inner, "lineno", None) or inner.pattern.lineno
        last = max(node.lineno, begins - 1)
    return node.lineno, last
