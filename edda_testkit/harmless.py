"""What comes to the same whatever the order of a set, or whatever number an address is.

Judged by syntax alone, and shared by the guard and the lint: loops whose rounds commute, a set that
is drained into a closure, a search for the one thing that is equal, ids and hashes that are only
looked up, and globals that keep what their key alone makes. Absent: whether there is a set at all.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import lru_cache

__all__ = [
    "drains_freely",
    "is_dropped_value",
    "is_key_only",
    "is_memo",
    "is_order_free",
    "picks_one",
]

LOOKUPS = frozenset({"add", "discard", "remove", "get", "pop"})
QUIET_CALLS = frozenset({"add", "discard", "debug", "info", "warning", "error", "exception"})
LESS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
EMPTY = frozenset({"list", "dict", "set", "Counter", "defaultdict", "deque", "OrderedDict"})
Function = ast.AST


# ---- Loops -------------------------------------------------------------------------------------


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
    for loop in ast.walk(function):
        if not isinstance(loop, ast.While) or held not in _drained(loop.test):
            continue
        for node in loop.body:
            match node:
                case ast.Expr(value=value) if value is call:
                    targets: set[str] = set()
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if value is call:
                    targets = {name}
                case _:
                    continue
            rest = [one for one in (*loop.body, *loop.orelse) if one is not node]
            if any(isinstance(one, ast.Break) for part in rest for one in ast.walk(part)):
                return False  # then some are left
            return _Rounds(loop, function, targets, held).are_free(rest)
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
                return _is_quiet(test) and _is_quiet(kept)
            case ast.If(test=test, body=body, orelse=orelse):
                return _is_quiet(test) and self.are_free(body) and self.are_free(orelse)
            case ast.For(iter=over, body=body, orelse=orelse):
                return _is_quiet(over) and self.are_free(body) and self.are_free(orelse)
            case ast.Assert() | ast.Delete():
                return _is_quiet(node)
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=name)) as call):
                is_own = name in {"update", "remove"} and ast.unparse(owner) == self.held
                return (name in QUIET_CALLS or is_own) and _is_quiet(call)
            case ast.Expr(value=ast.Call(func=ast.Name(id="print")) | ast.Constant()):
                return _is_quiet(node)
            case ast.Return(value=value):
                return value is None or isinstance(value, ast.Constant)
            case ast.Raise():
                return _is_quiet(node) and not self.targets & names_of(node)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                if not _is_quiet(value):
                    return False
                is_bits = isinstance(op, ast.BitOr | ast.BitAnd | ast.BitXor)
                return is_bits or _is_counted(name, self.function, value)
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name)) as target]):
                return _is_quiet(node) and self._is_filed(name, target.slice, node.value)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                return _is_quiet(value) and (isinstance(value, ast.Constant) or self._is_left(name))
        return False

    def _is_filed(self, name: str, key: ast.expr, value: ast.expr) -> bool:
        """Whether what is filed under a key is of that key, and of no count and no rank."""
        if self.counted & names_of(value) or f"len({name})" in ast.unparse(value):
            return False
        if not self.derived & names_of(value):
            return True
        told_by_length = {
            id(one)
            for part in ast.walk(key)
            if isinstance(part, ast.Call) and ast.unparse(part.func) == "len"
            for one in ast.walk(part)
        }
        names = (one for one in ast.walk(key) if isinstance(one, ast.Name))
        return any(one.id in self.derived and id(one) not in told_by_length for one in names)

    def _is_left(self, name: str) -> bool:
        """Whether nobody reads a name after the loop."""
        end = self.loop.end_lineno or self.loop.lineno
        return not any(
            isinstance(node, ast.Name)
            and node.id == name
            and isinstance(node.ctx, ast.Load)
            and node.lineno > end
            for node in ast.walk(self.function)
        )


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


def _is_quiet(node: ast.AST) -> bool:
    loud = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
    return not any(isinstance(one, loud) for one in ast.walk(node))


def names_of(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _is_counted(name: str, function: Function, value: ast.expr) -> bool:
    """Whether a name starts as a whole number, so that the order of adding does not matter."""
    constants = [one.value for one in ast.walk(value) if isinstance(one, ast.Constant)]
    if any(isinstance(one, float | str) for one in constants):
        return False
    starts = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    ]
    return bool(starts) and all(
        isinstance(one, ast.Constant) and type(one.value) is int for one in starts
    )


def picks_one(part: ast.comprehension) -> bool:
    """Whether a comprehension looks for what equals something: mostly there is one of it."""
    targets = names_of(part.target)
    return any(
        isinstance(test, ast.Compare)
        and any(isinstance(op, ast.Eq | ast.Is) for op in test.ops)
        and any(_root(side) in targets for side in (test.left, *test.comparators))
        for whole in part.ifs
        for test in (whole.values if isinstance(whole, ast.BoolOp) else [whole])
    )


def _root(node: ast.expr) -> str:
    """The name that `a.b[0].c` begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


# ---- Addresses and hashes ----------------------------------------------------------------------


@lru_cache(maxsize=1024)
def is_key_only(call: ast.Call, function: Function) -> bool:
    """Whether what `id()` or `hash()` says is compared, or looked up, and nothing else."""
    parents = _parents(function)
    around = parents.get(call)
    if isinstance(around, ast.Tuple):
        return _is_lookup(around, parents)
    if isinstance(around, ast.Assign | ast.NamedExpr | ast.AnnAssign):
        targets = around.targets if isinstance(around, ast.Assign) else [around.target]
        reads = [node for node in parents if isinstance(node, ast.Name)]
        return all(isinstance(target, ast.Name) for target in targets) and all(
            _is_lookup(node, parents)
            for node in reads
            if isinstance(node.ctx, ast.Load) and node.id == ast.unparse(targets[0])
        )
    return _is_lookup(call, parents)


def _is_lookup(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    match parents.get(node):
        case ast.Compare(ops=ops):
            alike = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
            return all(isinstance(each, alike) for each in ops)
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in LOOKUPS
        case ast.Dict() | ast.DictComp() | ast.Set() | ast.SetComp() | ast.Subscript() | ast.Expr():
            return True
    return False


def is_dropped_value(call: ast.expr, function: Function) -> bool:
    """Whether a call is a statement: nothing is made of what it returns."""
    return isinstance(_parents(function).get(call), ast.Expr)


@lru_cache(maxsize=16)
def _parents(function: Function) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}


# ---- Globals that keep what was computed -------------------------------------------------------


def is_memo(changed: ast.expr, function: Function) -> bool:
    """Whether a global is filled with what its key alone makes, the first time that it is wanted.

    Then it does not matter who came first: `if key not in known: known[key] = make(key)`.
    `changed` is the target of the assignment, or the call of `setdefault`.
    """
    parents = _parents(function)
    if isinstance(changed, ast.Call):
        match changed:
            case ast.Call(func=ast.Attribute(value=held, attr="setdefault"), args=[key, value]):
                is_last = not isinstance(parents.get(changed), ast.Attribute)
                return is_last and _is_made_of(value, held, key, function)
        return False
    statement = parents.get(changed)
    if not isinstance(statement, ast.Assign) or not _is_first_time(statement, changed, parents):
        return False
    if isinstance(changed, ast.Subscript):
        return _is_made_of(statement.value, changed.value, changed.slice, function)
    return isinstance(changed, ast.Name) and _is_made_of(statement.value, changed, None, function)


def _is_first_time(
    statement: ast.Assign, changed: ast.expr, parents: dict[ast.AST, ast.AST]
) -> bool:
    """Whether a statement runs only where the global has nothing yet, and nothing else does."""
    around = parents.get(statement)
    if isinstance(around, ast.If) and statement in around.body:
        made = names_of(statement.value)
        for one in around.body:
            if isinstance(one, ast.Assign):
                if one is not statement and any(names_of(to) - made for to in one.targets):
                    return False
            elif not isinstance(one, ast.Return):
                return False
        return _is_quiet(around) and _asks_for(around.test, changed)
    if isinstance(around, ast.ExceptHandler):
        return ast.unparse(around.type or ast.Constant(0)) == "KeyError" and _is_quiet(around)
    return False


def _asks_for(test: ast.expr, changed: ast.expr) -> bool:
    match test, changed:
        case ast.Compare(left=left, ops=[ast.NotIn()], comparators=[right]), ast.Subscript():
            asked = ast.unparse(left), ast.unparse(right)
            return asked == (ast.unparse(changed.slice), ast.unparse(changed.value))
        case ast.Compare(left=left, ops=[ast.Is()], comparators=[ast.Constant(None)]), ast.Name():
            return ast.unparse(left) == changed.id
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=name)), ast.Name():
            return name == changed.id
    return False


def _is_made_of(value: ast.expr, held: ast.expr, key: ast.expr | None, function: Function) -> bool:
    """Whether a value depends on the key alone, as far as this function goes."""
    local = {
        node.id if isinstance(node, ast.Name) else node.arg
        for node in ast.walk(function)
        if isinstance(node, ast.arg)
        or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    } - names_of(held)
    if key is None and _is_empty(value):
        return False  # it is there to be filled
    return _is_known(value, set() if key is None else names_of(key), local, held, function)


def _is_known(
    value: ast.expr, known: set[str], local: set[str], held: ast.expr, function: Function
) -> bool:
    if any(ast.unparse(part) == ast.unparse(held) for part in _expressions(value)):
        return False
    own = {
        name.id
        for part in ast.walk(value)
        if isinstance(part, ast.comprehension | ast.Lambda)
        for name in ast.walk(part)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    for name in (names_of(value) & local) - known - own:
        made = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)
        ]
        if len(made) != 1 or not _is_known(made[0], known, local - {name}, held, function):
            return False
    return _is_quiet(value)


def _expressions(value: ast.expr) -> Iterator[ast.expr]:
    return (part for part in ast.walk(value) if isinstance(part, ast.expr))


def _is_empty(value: ast.expr) -> bool:
    match value:
        case ast.List(elts=parts) | ast.Dict(keys=parts):
            return not parts
        case ast.Call(func=func):
            return ast.unparse(func).rpartition(".")[2] in EMPTY
    return False
