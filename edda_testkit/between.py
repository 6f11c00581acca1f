"""Where an activity does several things to the outside, a worker can die between two of them.

An exploration may ask for that (`inside_activities`). Then the lines of such an activity are traced
while it runs: before a statement that does something, after another that did, the schedule may kill
the worker. Statements are judged by
their text, in doubt as doing something: that costs a schedule, and nothing else. An activity with
one such statement is never traced.

Only the activity's own function: a helper, or a method of the world, is taken as a whole. What is
killed here is unwound, so a `finally` runs that would not run in a process that dies.
"""

import ast
import builtins
import inspect
import linecache
import sys
import textwrap
import tokenize
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType, FrameType, coroutine
from typing import Any

from edda.loop import call_site

__all__ = ["between_effects", "effects_in"]

Offer = Callable[[str], None]  # told of the place
Tracer = Callable[[FrameType, str, Any], Any]

HARMFUL = frozenset({"delattr", "eval", "exec", "input", "next", "open", "setattr"})
HARMLESS = frozenset(vars(builtins)) - HARMFUL
QUIET = frozenset("asyncio datetime json log logger logging math".split())


def between_effects(function: Callable[..., Any], offer: Offer) -> Callable[..., Any]:
    """An activity's function that calls `offer` between two of its effects.

    `offer` may raise: there the worker dies. It is the function itself when it has one effect at
    most, or no source to read.
    """
    code: CodeType | None = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or len(effects_in(code)) < 2:
        return function

    async def in_steps(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace(code, offer)
        outcome = await _steps(function(*args, **kwargs), trace)
        trace.check()
        return outcome

    def at_once(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace(code, offer)
        with trace.tracing():
            outcome = function(*args, **kwargs)
        trace.check()
        return outcome

    return in_steps if inspect.iscoroutinefunction(function) else at_once


@coroutine
def _steps(running: Any, trace: "_Trace") -> Generator[Any, Any, Any]:
    """Await a coroutine, traced whenever it runs."""
    value, error = None, None
    while True:
        try:
            with trace.tracing():
                awaited = running.send(value) if error is None else running.throw(error)
        except StopIteration as end:
            return end.value
        value, error = None, None
        try:
            value = yield awaited
        except BaseException as thrown:  # goes on into the coroutine
            error = thrown


class _Trace:
    """One run of the function."""

    def __init__(self, code: CodeType, offer: Offer) -> None:
        self._code = code
        self._effects = effects_in(code)
        self._offer = offer
        self._has_effect = False
        self._lines = range(0)  # of the statement that runs, when it does something
        self._line = 0
        self._struck: BaseException | None = None

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Look at the lines that run in this block. Who traced before still does."""
        previous: Any = sys.gettrace()

        def on_call(frame: FrameType, event: str, arg: Any) -> Any:
            local = None if previous is None else previous(frame, event, arg)
            if sys.gettrace() is not on_call:
                sys.settrace(on_call)  # coverage's puts itself in our place when it is called
            return self._after(local) if frame.f_code is self._code else local

        sys.settrace(on_call)
        try:
            yield
        finally:
            sys.settrace(previous)

    def _after(self, other: Tracer | None) -> Tracer:
        def on_event(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal other
            if other is not None:
                other = other(frame, event, arg)
            if event == "line":
                self._look(frame)
            return on_event

        return on_event

    def _look(self, frame: FrameType) -> None:
        line, before, self._line = frame.f_lineno, self._line, frame.f_lineno
        if line in self._lines[1:] or (line in self._lines and before in self._lines[1:]):
            return  # a call on several lines, among its arguments or after them
        self._lines = range(line, self._effects.get(line, line - 1) + 1)
        if not self._lines:
            return
        if self._has_effect:
            try:
                self._offer(call_site(frame))
            except BaseException as struck:  # goes to the activity, and to who called it
                self._struck = struck
                raise
        self._has_effect = True

    def check(self) -> None:
        """Raise what `offer` raised, if the function has swallowed it."""
        if self._struck is not None:
            raise self._struck


# ---- Statements that do something ------------------------------------------------------------


def effects_in(code: CodeType) -> Mapping[int, int]:
    """The statements of a function that may do something: the first line of each, and its last."""
    return _effects(code.co_filename, code.co_firstlineno)


@lru_cache(maxsize=1024)
def _effects(path: str, first: int) -> Mapping[int, int]:
    lines = linecache.getlines(path)[first - 1 :]
    try:
        (function,) = ast.parse(textwrap.dedent("".join(inspect.getblock(lines)))).body
    except (SyntaxError, ValueError, tokenize.TokenError):
        return {}
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return {}
    parameters = [*function.args.posonlyargs, *function.args.args]
    quiet = QUIET.union([parameters[0].arg] if parameters else [])  # ctx
    shared = {
        name
        for node in ast.walk(function)
        if isinstance(node, ast.Global | ast.Nonlocal)
        for name in node.names
    }
    found = {}
    for nodes in _statements(function.body):
        if any(_does(node, quiet, shared) for each in nodes for node in ast.walk(each)):
            start = min(each.lineno for each in nodes) + first - 1
            found[start] = max(each.end_lineno or each.lineno for each in nodes) + first - 1
    return found


def _statements(body: Iterable[ast.stmt]) -> Iterator[list[Any]]:
    """Each statement with what it evaluates itself; one with a body, without that body."""
    for statement in body:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Raise():
                continue
            case ast.If(test=header) | ast.While(test=header) | ast.Match(subject=header):
                yield [header]
            case ast.For(iter=header) | ast.AsyncFor(iter=header):
                yield [header]
            case ast.With(items=items) | ast.AsyncWith(items=items):
                yield [item.context_expr for item in items]
            case ast.Try() | ast.TryStar():
                pass
            case _:
                yield [statement]
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, name, ()))
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _statements(part.body)


def _does(node: ast.AST, quiet: frozenset[str], shared: set[str]) -> bool:
    """Whether evaluating this reaches outside of the function."""
    match node:
        case (
            ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del())
        ):
            return True
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return name in shared
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name) as called):
            root: ast.AST = called
            while isinstance(root, ast.Attribute | ast.Call | ast.Subscript):
                root = root.func if isinstance(root, ast.Call) else root.value
            is_made = name[:1].isupper()  # a class
            is_builtin = isinstance(called, ast.Name) and name in HARMLESS
            is_quiet = isinstance(root, ast.Constant | ast.JoinedStr) or (
                isinstance(root, ast.Name) and root.id in quiet
            )
            return not (is_made or is_builtin or is_quiet)
        case ast.Call():
            return True
    return False
