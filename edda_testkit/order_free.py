"""Loops over sets that come to the same whatever the order.

Judged by syntax alone, and shared by the guard and the lint: loops whose rounds commute, a set that
is drained, a search for the one thing that is equal. Absent: whether there is a set at all.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeGuard, TypeVar

__all__ = [
    "Function",
    "drains_freely",
    "gives_set_order",
    "grown_in",
    "is_added_to",
    "is_bare",
    "is_order_free",
    "is_quiet",
    "names_of",
    "nodes_of",
    "picks_one",
    "uses",
]

QUIET_CALLS = frozenset({"add", "discard", "debug", "info", "warning", "error", "exception"})
GROWING = frozenset({"append", "appendleft", "extend", "insert"})
KEYS = frozenset({"id", "key", "name", "code", "number", "email", "slug", "sku"})
LESS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
Function = ast.AST
Node = TypeVar("Node", bound=ast.AST)


def is_order_free(loop: ast.For, function: Function) -> bool:
    """Whether a loop comes to the same whatever the order of its rounds."""
    targets = names_of(loop.target)
    body = [*loop.body, *loop.orelse]
    if not any(targets & names_of(node) for node in body):
        return True  # every round is the same
    return _Rounds(loop, function, targets).are_free(body)


def drains_freely(call: ast.Call, function: Function) -> bool:
    """Whether `todo.pop()` empties the whole set, in a loop whose rounds commute.

    So it is when everything is visited, and what is found on the way goes into sets and sums.
    """
    if not isinstance(call.func, ast.Attribute):
        return False
    held = ast.unparse(call.func.value)
    if any(ast.unparse(node) == f"len({held}) == 1" for node in nodes_of(function, ast.Compare)):
        return True  # there is one
    for loop in nodes_of(function, ast.While):
        if held not in _drained(loop.test):
            continue
        for node in loop.body:
            match node:
                case ast.Expr(value=value) if value is call:
                    targets: set[str] = set()
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if call in ast.walk(
                    value
                ):
                    targets = {name}
                case _:
                    continue
            rest = [one for one in (*loop.body, *loop.orelse) if one is not node]
            if any(isinstance(one, ast.Break) for part in rest for one in ast.walk(part)):
                return False  # then some are left
            rounds = _Rounds(loop, function, targets, held)
            return all(map(rounds.is_left, targets)) and rounds.are_free(rest)
    return False


def _drained(test: ast.expr) -> set[str]:
    """What is empty when a loop with this test ends."""
    match test:
        case ast.Name() | ast.Attribute():
            return {ast.unparse(test)}
        case ast.Call(func=ast.Name(id="len"), args=[inner]):
            return _drained(inner)
        case ast.Compare(left=left, ops=[ast.Gt() | ast.NotEq()], comparators=[ast.Constant(0)]):
            return _drained(left)
    return set()


class _Rounds:
    """The rounds of one loop. `targets` are the names that differ, `held` a set that it drains."""

    def __init__(
        self, loop: ast.For | ast.While, function: Function, targets: set[str], held: str = ""
    ) -> None:
        self.loop = loop
        self.function = function
        self.targets = targets
        self.held = held
        self.derived = targets | {
            node.id
            for node in ast.walk(loop)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        self.counted = {
            node.target.id
            for node in ast.walk(loop)
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        }

    def are_free(self, body: Sequence[ast.stmt]) -> bool:
        return all(map(self._is_free, body))

    def _is_free(self, node: ast.stmt) -> bool:
        match node:
            case ast.Pass() | ast.Continue() | ast.Break():
                return True
            case ast.If(test=test, body=[ast.Assign() as kept], orelse=[]) if _is_best(test, kept):
                return is_quiet(test) and is_quiet(kept)
            case ast.If(test=test, body=body, orelse=orelse):
                return is_quiet(test) and self.are_free(body) and self.are_free(orelse)
            case (
                ast.For(iter=over, body=body, orelse=orelse)
                | ast.While(test=over, body=body, orelse=orelse)
            ):
                return is_quiet(over) and self.are_free(body) and self.are_free(orelse)
            case ast.Assert() | ast.Delete():
                return is_quiet(node)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=name)) as call):
                is_own = name in {"update", "remove"} and ast.unparse(owner) == self.held
                is_of_round = isinstance(owner, ast.Name) and self._is_of_round(owner.id)
                return (name in QUIET_CALLS or is_own or is_of_round) and is_quiet(call)
            case ast.Expr(value=ast.Call(func=ast.Name(id="print")) | ast.Constant()):
                return is_quiet(node)
            case ast.Return(value=value):
                return value is None or isinstance(value, ast.Constant)
            case ast.Raise():
                return is_quiet(node) and not self.targets & names_of(node)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                if not is_quiet(value):
                    return False
                is_bits = isinstance(op, ast.BitOr | ast.BitAnd | ast.BitXor)
                return is_bits or _is_counted(name, self.function, value)
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name)) as target]):
                return is_quiet(node) and self._is_filed(name, target.slice, node.value)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                return is_quiet(value) and (isinstance(value, ast.Constant) or self.is_left(name))
        return False

    def _is_filed(self, name: str, key: ast.expr, value: ast.expr) -> bool:
        """Whether what is filed under a key is of that key, and of no count and no rank."""
        if self.counted & names_of(value) or f"len({name})" in ast.unparse(value):
            return False
        if not self.derived & names_of(value) - names_of(key):
            by_key = {id(one) for part in _like(key, value) for one in ast.walk(part)}
            if all(id(one) in by_key for one in _of(self.derived, value)):
                return True  # all that come here say the same
        told_by_length = {
            id(one)
            for part in ast.walk(key)
            if isinstance(part, ast.Call) and ast.unparse(part.func) == "len"
            for one in ast.walk(part)
        }
        return any(id(one) not in told_by_length for one in _of(self.derived, key))

    def _is_of_round(self, name: str) -> bool:
        """Whether a name is given a value in each round, and ends with it."""
        return self.is_left(name) and any(
            isinstance(node, ast.Assign) and name in set().union(*map(names_of, node.targets))
            for node in self.loop.body
        )

    def is_left(self, name: str) -> bool:
        """Whether nobody reads a name after the loop."""
        end = self.loop.end_lineno or self.loop.lineno
        return not any(
            isinstance(node, ast.Name)
            and node.id == name
            and isinstance(node.ctx, ast.Load)
            and node.lineno > end
            for node in ast.walk(self.function)
        )


def _like(key: ast.expr, value: ast.expr) -> list[ast.AST]:
    """The parts of a value that say the same as a key."""
    return [part for part in ast.walk(value) if ast.unparse(part) == ast.unparse(key)]


def _of(names: set[str], node: ast.AST) -> list[ast.Name]:
    return [one for one in ast.walk(node) if isinstance(one, ast.Name) and one.id in names]


def _is_best(test: ast.expr, kept: ast.Assign) -> bool:
    """Whether this keeps the least, or the greatest: `if each < best: best = each`."""
    sides = {ast.unparse(kept.value), *(ast.unparse(target) for target in kept.targets)}
    return len(kept.targets) == 1 and any(
        isinstance(part, ast.Compare)
        and len(part.ops) == 1
        and isinstance(part.ops[0], LESS)
        and {ast.unparse(part.left), ast.unparse(part.comparators[0])} == sides
        for part in ast.walk(test)
    )


def is_quiet(node: ast.AST) -> bool:
    """Whether nothing is awaited or yielded on the way."""
    loud = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
    return not any(isinstance(one, loud) for one in ast.walk(node))


def names_of(node: ast.AST) -> set[str]:
    """The names in a piece of code."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _is_counted(name: str, function: Function, value: ast.expr) -> bool:
    """Whether a name starts as a whole number, so that the order of adding does not matter."""
    constants = [one.value for one in ast.walk(value) if isinstance(one, ast.Constant)]
    if any(isinstance(one, float | str) for one in constants):
        return False
    starts = [value for target, value in _assigned(function) if ast.unparse(target) == name]
    return bool(starts) and all(
        isinstance(one, ast.Constant) and type(one.value) is int for one in starts
    )


def _assigned(function: Function) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is assigned to what, one by one: `a, b = 0, 1` is two."""
    for node in nodes_of(function, ast.Assign):
        for target in node.targets:
            match target, node.value:
                case ast.Tuple(elts=targets), ast.Tuple(elts=values):
                    yield from zip(targets, values, strict=False)
                case _:
                    yield target, node.value


def picks_one(part: ast.comprehension) -> bool:
    """Whether a comprehension looks for what equals something: there is one of it.

    Of what the things in a set are called by, too: two of one id are hardly in it.
    """
    targets = names_of(part.target)
    return any(
        isinstance(test, ast.Compare)
        and any(isinstance(op, ast.Eq | ast.Is) for op in test.ops)
        and any(_is_named(side, targets) for side in (test.left, *test.comparators))
        for whole in part.ifs
        for test in (whole.values if _is_and(whole) else [whole])
    )


def _is_and(node: ast.expr) -> TypeGuard[ast.BoolOp]:
    return isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And)


def _is_named(node: ast.expr, targets: set[str]) -> bool:
    match node:
        case ast.Name(id=name):
            return name in targets
        case ast.Attribute(value=ast.Name(id=name), attr=key):
            return name in targets and key.rpartition("_")[2] in KEYS
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))):
            return name in targets and key.rpartition("_")[2] in KEYS
    return False


def nodes_of(function: Function, kind: type[Node]) -> list[Node]:
    """The nodes of one kind in a function."""
    return [node for node in ast.walk(function) if isinstance(node, kind)]


# ---- What takes over the order ---------------------------------------------------------------


def grown_in(body: Sequence[ast.stmt], target: ast.expr) -> Iterator[str]:
    """The lists and texts that take in a loop's variable in each round: `found.append(name)`."""
    for node in body:
        match node:
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(ast.Name(id=name), attr=attr), args=given)
            ):
                if attr in GROWING and uses(given, target):
                    yield name
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                if uses([value], target):
                    yield name


def is_added_to(name: str, node: ast.stmt) -> bool:
    """Whether a statement is `name += ...`."""
    return isinstance(node, ast.AugAssign) and ast.unparse(node.target) == name


def is_bare(node: ast.expr) -> bool:
    """Whether this is an empty list or text, to be filled."""
    return ast.unparse(node) in {"[]", "list()", "deque()", "''"}


def uses(body: Sequence[ast.AST], target: ast.expr) -> bool:
    """Whether a loop does something with its variable: else its order is all the same."""
    names = {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
    return any(
        isinstance(node, ast.Name) and node.id in names for each in body for node in ast.walk(each)
    )


@lru_cache(maxsize=512)
def gives_set_order(function: Function) -> bool:
    """Whether all that a function returns is a set, or a list that is made of one."""
    if not isinstance(function, ast.FunctionDef):
        return False
    inner = {
        part
        for node in ast.walk(function)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        and node is not function
        for part in ast.walk(node)
    }
    nodes = [node for node in ast.walk(function) if node not in inner]
    if function.decorator_list or any(
        isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes
    ):
        return False
    values = [node.value for node in nodes if isinstance(node, ast.Return)]
    return bool(values) and all(value is not None and _is_of_set(value) for value in values)


def _is_of_set(node: ast.expr) -> bool:
    match node:
        case ast.Set(elts=parts):
            return len(parts) > 1
        case ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset"), args=[_]):
            return True
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[inner]):
            return _is_of_set(inner)
    return False
