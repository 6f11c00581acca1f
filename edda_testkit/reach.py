"""What the code of a workflow names: activities and helpers, also by way of its helpers.

Read from compiled code, its globals and its closure; nothing is called or imported. A function
that is reached through a container or an attribute of an object is not seen.
"""

import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from edda.activity import Activity
from edda.workflow import Workflow

__all__ = ["activities_of", "is_foreign", "named_in", "reached_from"]


def activities_of(workflow: Workflow[..., Any]) -> list[Activity[..., Any]]:
    """The activities that a workflow's code, and the helpers it calls, name."""
    found: dict[int, Activity[..., Any]] = {}
    for function in reached_from(workflow.fn):
        for _, value in named_in(function):
            if isinstance(value, Activity):
                found[id(value)] = value
    return list(found.values())


def reached_from(function: Callable[..., Any]) -> list[FunctionType]:
    """A function and all that its code names, directly or not, first come first."""
    seen: dict[int, FunctionType] = {}
    todo: list[Any] = [function]
    while todo:
        one = todo.pop(0)
        if isinstance(one, Workflow):
            one = one.fn
        if not isinstance(one, FunctionType) or id(one) in seen or is_foreign(one):
            continue
        seen[id(one)] = one
        todo += [value for _, value in named_in(one)]
    return list(seen.values())


def named_in(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The names in a function's code that mean something in its module or its closure."""
    names = set(_names(function.__code__))
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            yield name, cell.cell_contents
        except ValueError:  # a local of the outer function that is not there yet
            continue
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        if isinstance(value, ModuleType):
            inside = vars(value)
            yield from ((f"{name}.{one}", inside[one]) for one in sorted(names & inside.keys()))
        else:
            yield name, value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def is_foreign(function: FunctionType) -> bool:
    """Whether it belongs to the standard library, the engine or the kit."""
    root = (function.__module__ or "").partition(".")[0]
    return root in sys.stdlib_module_names or root in ("edda", "edda_testkit", "pydantic")
