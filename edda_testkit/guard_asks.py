"""What a profile hook cannot see, looked for when workflow code asks for something.

Iterating over a set is no call, and a function that is handed to `map` or `partial` is called
from C. So at each ask the source of the functions on the stack is consulted: is the ask made in a
loop over a set, are its arguments listed from one, does its function hand a harmful builtin on?
What the source leaves open, the values at hand decide. In doubt it does not accuse: replays in
interpreters with other hash seeds are exact.
"""

import ast
import functools
import itertools
import operator
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from types import CodeType, FrameType
from typing import Any

from edda_testkit.guard_checks import hashes_by_chance
from edda_testkit.guard_source import UNKNOWN, call_at, function_of, value_of

__all__ = ["Sighting", "are_suspect", "sightings"]

# What calls its argument from C, once or often; `partial` makes such a thing.
CARRIERS = (
    *(map, filter, partial, defaultdict, operator.call, functools.reduce, sorted, min, max, iter),
    *(itertools.starmap, itertools.accumulate, itertools.groupby, itertools.takewhile),
    *(itertools.dropwhile, itertools.filterfalse),
)
SAME_ORDER = (list, tuple, iter, next, enumerate, str, repr)
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSION_NAMES = frozenset({"<genexpr>", "<listcomp>", "<dictcomp>"})
LISTING = frozenset(
    {"join", "dumps", "fromkeys", "list", "tuple", "iter", "next", "enumerate", "str", "repr"}
)
SET_ITERATOR: type[Any] = type(iter(frozenset[Any]()))


@dataclass(frozen=True, slots=True)
class Sighting:
    """A line that a replay may not repeat: a set's order, or a function called from C."""

    frame: FrameType
    line: int
    function: Any = None  # None: it is the order of a set


@dataclass(frozen=True, slots=True)
class Suspects:
    """Of one function: its loops with the lines of their bodies, what it hands to C, and more.

    Most functions have none of it.
    """

    loops: tuple[tuple[ast.expr, ast.expr, int, int], ...] = ()
    handed: tuple[tuple[int, Any], ...] = ()
    is_lister: bool = False


NONE = Suspects()


def are_suspect(frame: FrameType) -> bool:
    """Whether there is anything to look at in a frame of the user's."""
    return suspects_of(frame) is not NONE or frame.f_code.co_name in COMPREHENSION_NAMES


def sightings(caller: FrameType, users: tuple[FrameType, ...]) -> Iterator[Sighting]:
    """What the functions on the stack, `users`, do that no call shows; `caller` asks."""
    for frame in users:
        if in_set_order(frame):
            yield Sighting(frame, frame.f_lineno)
        for line, function in suspects_of(frame).handed:
            yield Sighting(frame, line, function)
    if caller in users and suspects_of(caller).is_lister:
        call = call_at(caller)
        values: list[ast.expr] = (
            [] if call is None else [*call.args, *(each.value for each in call.keywords)]
        )
        if any(is_listed(value, caller) for value in values):
            yield Sighting(caller, caller.f_lineno)


# ---- Functions that are called from C --------------------------------------------------------


def handed_on(call: ast.Call, frame: FrameType) -> Any:
    """The function that a call hands to C, or the one behind the `partial` that it calls.

    Of what is known to every run of the function: it is asked once.
    """
    called = value_of(call.func, frame, is_global=True)
    if isinstance(called, partial):
        return called.func
    if name_of(call.func) == "sort" or any(called is carrier for carrier in CARRIERS):
        for passed in (*call.args, *(each.value for each in call.keywords)):
            value = value_of(passed, frame, is_global=True)
            if callable(value):
                return value.func if isinstance(value, partial) else value
    return None


# ---- The order of sets -----------------------------------------------------------------------


def in_set_order(frame: FrameType) -> bool:
    """Whether a frame is in a loop over a set whose order is another in each process."""
    if frame.f_code.co_name in COMPREHENSION_NAMES:
        source = frame.f_locals.get(".0")
        names = frame.f_code.co_varnames[1:2]
        is_more = type(source) is SET_ITERATOR and operator.length_hint(source) > 0
        return is_more and any(hashes_by_chance(frame.f_locals.get(name)) for name in names)
    return any(
        first <= frame.f_lineno <= last and is_unordered(source, frame, target)
        for source, target, first, last in suspects_of(frame).loops
    )


def is_listed(node: ast.AST, frame: FrameType) -> bool:
    """Whether an argument carries the order of a set: `list(names)`, `",".join({...})`."""
    match node:
        case ast.Call(func=ast.Attribute(attr="join" | "dumps" | "fromkeys"), args=[inner, *_]):
            return is_unordered(inner, frame) or is_listed(inner, frame)
        case ast.Call(func=ast.Name() as name, args=[inner, *_]):
            is_kept = any(value_of(name, frame) is each for each in SAME_ORDER)
            return is_kept and (is_unordered(inner, frame) or is_listed(inner, frame))
        case ast.ListComp() | ast.DictComp() | ast.GeneratorExp():
            return is_unordered(node.generators[0].iter, frame)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return any(isinstance(p, ast.Starred) and is_unordered(p.value, frame) for p in parts)
    return False


def is_unordered(node: ast.AST, frame: FrameType, target: ast.expr | None = None) -> bool:
    """Whether an expression is a set of several values whose order is a matter of chance.

    `target` is the loop's variable: where the set cannot be known, its value tells of what kind.
    """
    value = value_of(node, frame)
    if value is not UNKNOWN:
        return is_chancy(value)
    match node:
        case ast.Set(elts=[_, _, *_] as parts):
            values = [value_of(part, frame) for part in parts]
            if any(each is UNKNOWN for each in values):
                return is_target_chancy(target, frame)
            is_several = len({id(each) for each in values}) > 1  # equal constants are one object
            return is_several and any(map(hashes_by_chance, values))
        case ast.Call(func=ast.Name(id="set" | "frozenset"), args=[inner]):
            held = value_of(inner, frame)
            if isinstance(held, list | tuple | set | frozenset | dict | str):
                return is_chancy(set(filter(is_plain, held)))
            return held is UNKNOWN and is_target_chancy(target, frame)
        case ast.Call(func=ast.Name() as name, args=[inner, *_]):
            is_kept = any(value_of(name, frame) is each for each in SAME_ORDER)
            return is_kept and is_unordered(inner, frame, target)
        case ast.Call(func=ast.Attribute(value=inner, attr=name)) if name in SET_METHODS:
            held = value_of(inner, frame)
            return isinstance(held, set | frozenset) and is_target_chancy(target, frame)
        case ast.BinOp(left=left, right=right, op=ast.Sub() | ast.BitAnd() | ast.BitOr()):
            sides = (left, right)
            return any(is_set(each, frame) for each in sides) and is_target_chancy(target, frame)
        case ast.SetComp():
            return is_target_chancy(target, frame)
    return False


def is_set(node: ast.AST, frame: FrameType) -> bool:
    match node:
        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(attr="keys")):
            return True
    return isinstance(value_of(node, frame), set | frozenset)


def is_chancy(value: object) -> bool:
    is_several = isinstance(value, set | frozenset) and len(value) > 1
    return is_several and any(map(hashes_by_chance, value))  # type: ignore[call-overload]


def is_target_chancy(target: ast.expr | None, frame: FrameType) -> bool:
    value = UNKNOWN if target is None else value_of(target, frame)
    return value is not UNKNOWN and hashes_by_chance(value)


def is_plain(value: object) -> bool:
    """Whether a value can be hashed without running anybody's code."""
    return isinstance(value, str | bytes | int | float | None)


# ---- Source, once for each function ----------------------------------------------------------


@cache
def kept() -> dict[int, tuple[CodeType, Suspects]]:
    """By the id of a code object, which is kept so that the id stays its own."""
    return {}


def suspects_of(frame: FrameType) -> Suspects:
    code = frame.f_code
    found = kept().get(id(code))
    if found is None:
        found = kept()[id(code)] = code, read(frame)
    return found[1]


def read(frame: FrameType) -> Suspects:
    function = function_of(frame.f_code)
    loops: list[tuple[ast.expr, ast.expr, int, int]] = []
    handed: list[tuple[int, Any]] = []
    is_lister = False
    for node in () if function is None else own_nodes(function):
        match node:
            case ast.For() | ast.AsyncFor():
                last = node.body[-1].end_lineno or 0
                if uses(node.body, node.target):
                    loops.append((node.iter, node.target, node.body[0].lineno, last))
            case ast.ListComp() | ast.DictComp() | ast.GeneratorExp():
                source = node.generators[0]
                loops.append((source.iter, source.target, node.lineno, node.end_lineno or 0))
                is_lister = True
            case ast.Starred():
                is_lister = True
            case ast.Call():
                is_lister = is_lister or name_of(node.func) in LISTING
                passed = handed_on(node, frame)
                if passed is not None:
                    handed.append((node.lineno, passed))
    found = Suspects(tuple(loops), tuple(handed), is_lister)
    return NONE if found == NONE else found


def uses(body: list[ast.stmt], target: ast.expr) -> bool:
    """Whether a loop does something with its variable: else its order is all the same."""
    names = {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
    return any(
        isinstance(node, ast.Name) and node.id in names for each in body for node in ast.walk(each)
    )


def name_of(node: ast.expr) -> str:
    return str(getattr(node, "id", None) or getattr(node, "attr", ""))


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of the functions in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, SCOPES):
            yield child
            yield from own_nodes(child)
