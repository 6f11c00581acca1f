"""Numbers of objects, and globals, that do no harm.

Judged by syntax alone, and shared by the guard and the lint: ids and hashes that are only looked
up, and globals that keep what their key alone makes.
"""

import ast
from collections.abc import Iterator
from functools import lru_cache

from edda_testkit.order_free import Function, is_quiet, names_of, nodes_of

__all__ = ["is_dropped_value", "is_key_only", "is_memo"]

LOOKUPS = frozenset({"add", "discard", "remove", "get", "pop"})
TELLING = frozenset("print debug info warning error exception critical log warn".split())
EMPTY = frozenset({"list", "dict", "set", "Counter", "defaultdict", "deque", "OrderedDict"})


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
    if not isinstance(statement, ast.Assign):
        return False
    if not _is_first_time(statement, changed, function, parents):
        return False
    if isinstance(changed, ast.Subscript):
        return _is_made_of(statement.value, changed.value, changed.slice, function)
    return isinstance(changed, ast.Name) and _is_made_of(statement.value, changed, None, function)


def _is_first_time(
    statement: ast.Assign,
    changed: ast.expr,
    function: Function,
    parents: dict[ast.AST, ast.AST],
) -> bool:
    """Whether a statement runs only where the global has nothing yet, and nothing else does."""
    around = parents.get(statement)
    if isinstance(around, ast.If) and statement in around.body:
        made = names_of(statement.value)
        for one in around.body:
            if isinstance(one, ast.Assign):
                if one is not statement and any(names_of(to) - made for to in one.targets):
                    return False
            elif not isinstance(one, ast.Return | ast.Import | ast.ImportFrom) and not _tells(one):
                return False
        return is_quiet(around) and _asks_for(around.test, changed, function)
    if isinstance(around, ast.ExceptHandler):
        return ast.unparse(around.type or ast.Constant(0)) == "KeyError" and is_quiet(around)
    return False


def _tells(node: ast.stmt) -> bool:
    """Whether a statement is for people's eyes only."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name))):
            return name in TELLING
    return False


def _asks_for(test: ast.expr, changed: ast.expr, function: Function) -> bool:
    """Whether a condition says that there is nothing yet where something is put."""
    match test, changed:
        case (
            ast.Compare(left=ast.Name(id=name), ops=[ast.Is()], comparators=[ast.Constant(None)]),
            ast.Subscript(value=held, slice=key),
        ):
            looked_up = f"{name} = {ast.unparse(held)}.get({ast.unparse(key)})"
            return any(ast.unparse(one) == looked_up for one in nodes_of(function, ast.Assign))
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
    if key is not None and names_of(held) & names_of(key):
        return False
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
    return is_quiet(value)


def _expressions(value: ast.expr) -> Iterator[ast.expr]:
    return (part for part in ast.walk(value) if isinstance(part, ast.expr))


def _is_empty(value: ast.expr) -> bool:
    match value:
        case ast.List(elts=parts) | ast.Dict(keys=parts):
            return not parts
        case ast.Call(func=func):
            return ast.unparse(func).rpartition(".")[2] in EMPTY
    return False
