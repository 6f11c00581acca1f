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
import pickle
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from types import CodeType, FrameType, FunctionType
from typing import Any
from weakref import WeakSet

from edda_testkit.guard_checks import hashes_by_chance
from edda_testkit.guard_source import UNKNOWN, call_at, function_of, position_of, value_of
from edda_testkit.guard_stale import Read, reads, reads_in
from edda_testkit.order_free import (
    gives_set_order,
    grown_in,
    is_added_to,
    is_bare,
    picks_one,
    uses,
)

__all__ = ["Sighting", "are_suspect", "sightings"]

# What calls its argument from C, once or often; `partial` makes such a thing.
CARRIERS = (
    *(map, filter, partial, defaultdict, operator.call, functools.reduce, sorted, min, max, iter),
    *(itertools.starmap, itertools.accumulate, itertools.groupby, itertools.takewhile),
    *(itertools.dropwhile, itertools.filterfalse),
)
# What these make has the order of what they are given.
SAME_ORDER = (
    *(list, tuple, iter, next, enumerate, reversed, str, repr, ascii, zip, map, filter, dict),
    *(deque, Counter, OrderedDict, ChainMap, itertools.chain, functools.reduce, pickle.dumps),
)
SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSION_NAMES = frozenset({"<genexpr>", "<listcomp>", "<dictcomp>"})
LISTING = frozenset({"join", "dumps", "fromkeys"}).union(each.__name__ for each in SAME_ORDER)
CACHES: type[Any] = type(cache(len))
PARTS = frozenset({"keys", "values", "items", "most_common", "popleft", "pop", "popitem", "copy"})
IN_PLACE = frozenset({"sort", "clear"})
SET_ITERATOR: type[Any] = type(iter(frozenset[Any]()))


@dataclass(frozen=True, slots=True)
class Sighting:
    """A line that a replay may not repeat: a set's order, a function called from C, a `read`."""

    frame: FrameType
    line: int
    function: Any = None  # None: it is the order of a set
    read: Read | None = None


Place = tuple[int, int]  # line and column


@dataclass(frozen=True, slots=True)
class Suspects:
    """Of one function: its loops with where their bodies are, what it hands to C, and more.

    `made` are the names that are assigned once, with what a set may have given its order to.
    Most functions have none of it.
    """

    loops: tuple[tuple[ast.expr, ast.expr, Place, Place], ...] = ()
    handed: tuple[tuple[int, Any], ...] = ()
    made: Mapping[str, ast.expr] = field(default_factory=dict)
    reads: tuple[Read, ...] = ()
    is_lister: bool = False


NONE = Suspects()


def are_suspect(frame: FrameType) -> bool:
    """Whether there is anything to look at in a frame of the user's."""
    return suspects_of(frame) is not NONE or frame.f_code.co_name in COMPREHENSION_NAMES


def sightings(caller: FrameType, users: tuple[FrameType, ...]) -> Iterator[Sighting]:
    """What the functions on the stack, `users`, do that no call shows; `caller` asks."""
    for frame in users:
        line = in_set_order(frame)
        if line is not None:
            yield Sighting(frame, line)
        for line, function in suspects_of(frame).handed:
            yield Sighting(frame, line, function)
    suspects = suspects_of(caller) if caller in users else NONE
    if suspects.is_lister or suspects.reads:
        call = call_at(caller)
        for read in () if call is None else reads_in(call, suspects.reads):
            yield Sighting(caller, read.node.lineno, None, read)
        values: list[ast.expr] = (
            [] if call is None else [*call.args, *(each.value for each in call.keywords)]
        )
        for value in values:
            origin = origin_of(value, caller)
            if origin is not None:
                yield Sighting(caller, origin.lineno)


# ---- Functions that are called from C --------------------------------------------------------


def handed_on(call: ast.Call, frame: FrameType) -> Any:
    """The function that a call hands to C, or the one behind the `partial` that it calls.

    Of what is known to every run of the function: it is asked once.
    """
    called = value_of(call.func, frame, is_global=True)
    if isinstance(called, partial):
        return called.func
    if isinstance(called, CACHES):
        return called.__wrapped__
    if name_of(call.func) == "sort" or any(called is carrier for carrier in CARRIERS):
        for passed in (*call.args, *(each.value for each in call.keywords)):
            value = value_of(passed, frame, is_global=True)
            if callable(value):
                return value.func if isinstance(value, partial) else value
    return None


# ---- The order of sets -----------------------------------------------------------------------


def in_set_order(frame: FrameType) -> int | None:
    """The line where a frame began a loop over a set whose order is another in each process."""
    if frame.f_code.co_name in COMPREHENSION_NAMES:
        source = frame.f_locals.get(".0")
        names = frame.f_code.co_varnames[1:2]
        is_more = type(source) is SET_ITERATOR and operator.length_hint(source) > 0
        if is_more and any(hashes_by_chance(frame.f_locals.get(name)) for name in names):
            return frame.f_lineno
        return None
    for source, target, first, last in suspects_of(frame).loops:
        if first[0] <= frame.f_lineno <= last[0] and first <= place_of(frame) <= last:
            if is_unordered(source, frame, target):
                return source.lineno
            origin = origin_of(source, frame)
            if origin is not None:
                return origin.lineno
    return None


def place_of(frame: FrameType) -> Place:
    position = position_of(frame)
    return (frame.f_lineno, 0) if position is None else (position[0], position[2])


def origin_of(node: ast.AST, frame: FrameType) -> ast.expr | None:
    """Where a value took over the order of a set: `list(names)`, `",".join({...})`."""
    match node:
        case ast.Name(id=name):
            made = suspects_of(frame).made.get(name)
            return None if made is None or not is_kept(name, frame) else origin_of(made, frame)
        case ast.Call(func=ast.Attribute(attr="join" | "dumps" | "fromkeys"), args=[inner, *_]):
            return first_of(node, [inner], frame)
        case ast.Call(func=ast.Attribute(value=inner, attr=attr)) if attr in PARTS:
            return origin_of(inner, frame)
        case ast.Subscript(value=inner):  # of a dictionary, by key, whatever the order
            return None if isinstance(value_of(inner, frame), dict) else origin_of(inner, frame)
        case ast.Call(func=ast.Name() | ast.Attribute() as name, args=[_, *_] as given):
            is_same = any(value_of(name, frame) is each for each in SAME_ORDER)
            return first_of(node, given, frame) if is_same else None
        case ast.ListComp(elt=made) | ast.GeneratorExp(elt=made) | ast.DictComp(key=made):
            source = node.generators[0]
            if picks_one(source) or not uses([made], source.target):
                return None
            return first_of(node, [source.iter], frame)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            starred = [part.value for part in parts if isinstance(part, ast.Starred)]
            return first_of(node, starred, frame)
        case ast.Starred(value=inner):
            return first_of(node, [inner], frame)
        case ast.JoinedStr(values=parts):
            shown = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
            return first_of(node, shown, frame)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return origin_of(left, frame) or origin_of(right, frame)
    return None


def first_of(node: ast.expr, sources: list[ast.expr], frame: FrameType) -> ast.expr | None:
    """Where the first of these that has the order of a set has it from; `node` took it over."""
    for each in sources:
        if is_unordered(each, frame):
            return node
        origin = origin_of(each, frame)
        if origin is not None:
            return origin
    return None


def is_kept(name: str, frame: FrameType) -> bool:
    """Whether a name still holds several things: of one, or none, the order is all the same."""
    value = frame.f_locals.get(name, UNKNOWN)
    return not isinstance(value, list | tuple | dict | deque) or len(value) > 1


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
        case ast.Call(func=func) if is_of_set(value_of(func, frame)):
            return is_target_chancy(target, frame)
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


def is_of_set(function: object) -> bool:
    """Whether this is a function, in Python, that returns a set, or a list made of one."""
    source = function_of(function.__code__) if isinstance(function, FunctionType) else None
    return source is not None and gives_set_order(source)


def is_set(node: ast.AST, frame: FrameType) -> bool:
    match node:
        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(attr="keys" | "items")):
            return True
    return isinstance(value_of(node, frame), set | frozenset)


def is_chancy(value: object) -> bool:
    is_several = isinstance(value, set | frozenset | WeakSet) and len(value) > 1
    return is_several and any(map(hashes_by_chance, value))  # type: ignore[call-overload]


def is_target_chancy(target: ast.expr | None, frame: FrameType) -> bool:
    if isinstance(target, ast.Tuple):
        return any(is_target_chancy(part, frame) for part in target.elts)
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
        found = kept()[id(code)] = code, searched(frame)
    return found[1]


def searched(frame: FrameType) -> Suspects:
    function = function_of(frame.f_code)
    loops: list[tuple[ast.expr, ast.expr, Place, Place]] = []
    handed: list[tuple[int, Any]] = []
    nodes = [] if function is None else list(own_nodes(function))
    is_lister = False
    for node in nodes:
        match node:
            case ast.For() | ast.AsyncFor():
                last = node.body[-1].end_lineno or 0
                if uses(node.body, node.target):
                    loops.append((node.iter, node.target, (node.body[0].lineno, 0), (last + 1, 0)))
            case ast.ListComp() | ast.DictComp() | ast.GeneratorExp():
                source = node.generators[0]
                loops.append((source.iter, source.target, *element_of(node)))
                is_lister = True
            case ast.Starred() | ast.JoinedStr():
                is_lister = is_lister or lists(node)
            case ast.Call():
                is_lister = is_lister or lists(node)
                passed = handed_on(node, frame)
                if passed is not None:
                    handed.append((node.lineno, passed))
    is_lister = is_lister or any(isinstance(node, ast.Set | ast.SetComp) for node in nodes)
    made = made_once(nodes, frame.f_code) if is_lister or loops else {}
    found = Suspects(tuple(loops), tuple(handed), made, reads(nodes, frame), is_lister)
    return NONE if found == NONE else found


def element_of(node: ast.ListComp | ast.DictComp | ast.GeneratorExp) -> tuple[Place, Place]:
    """From where to where the element of a comprehension is, which is made once in each round."""
    first, last = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt, node.elt)
    end = last.end_lineno or 0, last.end_col_offset or 0
    return (first.lineno, first.col_offset), end


def made_once(nodes: list[ast.AST], code: CodeType) -> dict[str, ast.expr]:
    """The names that are assigned once and never put into another order, and what is assigned."""
    made: dict[str, ast.expr] = {}
    grown: dict[str, ast.expr] = {}
    stored = Counter(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    for node in nodes:
        match node:
            case ast.For(iter=source, body=body, target=target):
                for name in grown_in(body, target):
                    grown[name] = ast.copy_location(ast.Starred(source, ast.Load()), node)
                    stored[name] -= sum(is_added_to(name, part) for part in body)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                made[name] = value
            case ast.Assign(targets=[ast.Tuple(elts=parts) | ast.List(elts=parts)], value=value):
                whole = ast.copy_location(ast.Starred(value, ast.Load()), value)
                made |= {part.id: whole for part in parts if isinstance(part, ast.Name)}
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                stored[name] += 1
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)):
                stored[name] += attr in IN_PLACE
            case ast.Expr(value=ast.Call(args=given)):  # `shuffle(names)`, `heapify(names)`
                stored.update(each.id for each in given if isinstance(each, ast.Name))
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                stored.update([*names, *names])
    made |= {name: loop for name, loop in grown.items() if name in made and is_bare(made[name])}
    return {name: value for name, value in made.items() if stored[name] == 1 and lists(value)}


def lists(node: ast.AST) -> bool:
    """Whether an expression is of a form that may take over the order of a set."""
    match node:
        case ast.Call(func=func):
            return name_of(func) in LISTING
        case ast.BinOp(left=left, right=right):
            return lists(left) or lists(right)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return any(isinstance(part, ast.Starred) for part in parts)
        case ast.JoinedStr(values=parts):
            shown = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
            return any(isinstance(each, ast.Name | ast.Set) or lists(each) for each in shown)
    return isinstance(node, ast.Starred | ast.ListComp | ast.DictComp | ast.GeneratorExp)


def name_of(node: ast.expr) -> str:
    return str(getattr(node, "id", None) or getattr(node, "attr", ""))


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those of the functions in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, SCOPES):
            yield child
            yield from own_nodes(child)
