"""The call sites of a workflow, read off its source: what it could ask for, and how that can end.

Follows calls of helpers and of workflows that are called as functions, as far as their names can
be resolved. What cannot be read (no source, a call through a variable) is left out: this room
only ever adds sites that a run did not reach.
"""

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any, Self

from edda.activity import Activity
from edda.commands import Ask
from edda.loop import source_name
from edda.workflow import Workflow
from edda_testkit.reach import is_foreign, named_in, reached_from

__all__ = ["Known", "is_within", "kind_of", "known_sites", "outcomes_of", "uses_patches"]

# What every ask of a kind can come to; a timeout and a model add to it.
ALWAYS = {
    "activity": frozenset({"succeeded", "failed", "exhausted"}),
    "event": frozenset({"answered"}),
    "timer": frozenset({"fired"}),
    "send": frozenset({"sent"}),
    "start": frozenset({"started"}),
    "child": frozenset({"completed", "failed"}),
    "compensation": frozenset({"succeeded"}),
}
# A timer of asyncio.timeout() is there to be withdrawn.
TIMEOUTS = frozenset({"timeout"})
ANY_NAME = "?"

TIMERS = frozenset({"sleep", "sleep_until", "wait_timer", "wait_until"})


def kind_of(ask: Ask) -> str:
    """The kind of an ask; that of an activity which undoes a step is `compensation`."""
    return "compensation" if getattr(ask, "compensates", None) is not None else ask.kind


def outcomes_of(ask: Any) -> set[str]:
    """What an ask can come to."""
    found = set(ALWAYS.get(kind_of(ask), {"answered"}))
    if ask.kind == "timer" and ask.name in TIMEOUTS:
        found.add("withdrawn")
    if getattr(ask, "deadline", None) is not None:
        found.add("timed out")
    if getattr(ask, "model", None) is not None:
        found.add("refused")
    return found


@dataclass(frozen=True, slots=True)
class Known:
    """A call site in the source, from its first line to its `last`."""

    place: str
    kind: str
    name: str
    last: int
    possible: frozenset[str]

    def is_at(self, place: str, name: str) -> bool:
        """Whether a site of a history is this one."""
        file, _, line = place.rpartition(":")
        own, _, first = self.place.rpartition(":")
        return (
            file == own and int(first) <= int(line) <= self.last and self.name in (ANY_NAME, name)
        )

    def as_list(self) -> list[Any]:
        """For JSON, without what a key holds already."""
        return [self.last, sorted(self.possible)]

    @classmethod
    def from_list(cls, place: str, kind: str, name: str, rest: Sequence[Any]) -> Self:
        """What `as_list` wrote."""
        return cls(place, kind, name, rest[0], frozenset(rest[1]))


def uses_patches(workflow: Workflow[..., Any]) -> bool:
    """Whether its code calls `patched` at all."""
    return _uses_patches(workflow.fn)


@lru_cache(maxsize=256)
def _uses_patches(function: FunctionType) -> bool:
    return any("patched" in _all_names(one) for one in reached_from(function))


def _all_names(function: FunctionType) -> set[str]:
    codes = [function.__code__]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [one for one in code.co_consts if inspect.iscode(one)]
    return names


def is_within(workflow: Workflow[..., Any], folder: Path) -> bool:
    """Whether the workflow is defined in a file below a folder, and not in what is installed."""
    file = Path(workflow.fn.__code__.co_filename)
    return file.is_relative_to(folder) and "site-packages" not in file.parts


def known_sites(workflow: Workflow[..., Any]) -> list[Known]:
    """The call sites of a workflow, in the order of its source."""
    found: dict[Known, None] = {}
    seen: set[Any] = set()
    todo: list[Any] = [workflow.fn]
    while todo:
        function = inspect.unwrap(todo.pop(0))
        if function in seen or not isinstance(function, FunctionType) or is_foreign(function):
            continue
        seen.add(function)
        for call, callee in _calls(function):
            match callee:
                case Workflow():
                    todo.append(callee.fn)
                case FunctionType() if not is_foreign(callee):
                    todo.append(callee)
                case _:
                    found |= dict.fromkeys(_sites(function, call, callee))
    return list(found)


def _calls(function: FunctionType) -> Iterator[tuple[ast.Call, Any]]:
    """The calls in a function's source, and what each calls, where that can be told."""
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return
    ast.increment_lineno(tree, first - 1)
    scope = dict(named_in(function))
    definition = tree.body[0]
    decorators = {
        node
        for decorator in getattr(definition, "decorator_list", ())
        for node in ast.walk(decorator)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node not in decorators:
            yield node, _callee(node.func, scope)


def _callee(node: ast.expr, scope: dict[str, Any]) -> Any:
    text = ast.unparse(node)
    if text in scope:
        return scope[text]
    if isinstance(node, ast.Attribute):
        owner = scope.get(ast.unparse(node.value))
        if isinstance(owner, Workflow):  # a child: wf.run(ctx), wf.start(ctx)
            return _Method(owner, node.attr)
        return _Method(None, node.attr)
    return None


@dataclass(frozen=True)
class _Method:
    owner: Any
    name: str


def _sites(function: FunctionType, call: ast.Call, callee: Any) -> Iterator[Known]:
    file = source_name(function.__code__.co_filename, function.__globals__.get("__name__", ""))
    place, last = f"{file}:{call.lineno}", call.end_lineno or call.lineno
    for kind, name, possible in _meanings(call, callee):
        yield Known(place, kind, name, last, frozenset(possible))


def _meanings(call: ast.Call, callee: Any) -> Iterator[tuple[str, str, Collection[str]]]:
    """The kind, the name and the outcomes of what a call asks for."""
    if isinstance(callee, Activity):
        yield "activity", callee.name, ALWAYS["activity"]
        if callee.compensation is not None:
            yield "compensation", callee.compensation.name, ALWAYS["compensation"]
    elif isinstance(callee, _Method):
        if callee.owner is not None and callee.name in ("run", "start") and call.args:
            yield "start", callee.owner.name, ALWAYS["start"]
            if callee.name == "run":
                yield "child", callee.owner.name, ALWAYS["child"]
        elif callee.name == "patched" and call.args:
            yield "patched", _text(call.args[0]), {"new", "old"}
    elif isinstance(callee, FunctionType) and callee.__module__.startswith("edda."):
        yield from _meanings_of_verb(call, callee.__name__)


def _meanings_of_verb(call: ast.Call, verb: str) -> Iterator[tuple[str, str, Collection[str]]]:
    if verb == "wait_event":
        yield "event", _text(_argument(call, 1, "event_type")), _wait_outcomes(call)
    elif verb == "wait_any":
        yield "event", ANY_NAME, _wait_outcomes(call) - {"refused"}
    elif verb == "receive":
        yield "message", _text(_argument(call, 1, "channel")), _wait_outcomes(call) - {"refused"}
    elif verb in TIMERS:
        yield "timer", ANY_NAME, ALWAYS["timer"]
    elif verb == "send_event":
        yield "send", _text(_argument(call, 0, "event_type")), ALWAYS["send"]
    elif verb in ("publish", "send_to"):
        yield "send", ANY_NAME, ALWAYS["send"]


def _wait_outcomes(call: ast.Call) -> set[str]:
    found = {"answered"}
    if _is_given(_argument(call, 2, "timeout_seconds")):
        found.add("timed out")
    if _is_given(_argument(call, 3, "model")):
        found.add("refused")
    return found


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[position] if position < len(call.args) else None


def _is_given(node: ast.expr | None) -> bool:
    return node is not None and not (isinstance(node, ast.Constant) and node.value is None)


def _text(node: ast.expr | None) -> str:
    return (
        node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ANY_NAME
    )
