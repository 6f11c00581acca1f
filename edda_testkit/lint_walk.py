"""Reading a function: its statements in order, its expressions for what they may be worth.

Branches are read one after the other and their names merged; loops are read twice, so that a
name set late in one round is known in the next. Absent: what calls do (`lint_calls`) and what
names of modules mean (`lint_names`).
"""

import ast
from collections.abc import Callable, Sequence

from edda_testkit import lint_order
from edda_testkit.lint_expressions import (
    define,
    evaluate,
    invoke,
    store,
    worth,
)
from edda_testkit.lint_frames import Analysis, Frame
from edda_testkit.lint_hooks import subclassing
from edda_testkit.lint_names import attribute, imported, look_up
from edda_testkit.lint_operators import iterate, truth
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_sources import imports
from edda_testkit.lint_types import annotated, values_of
from edda_testkit.lint_values import (
    NOTHING,
    Class,
    Hashed,
    Instance,
    Known,
    Pending,
    Shared,
    Values,
    inside,
)
from edda_testkit.lint_verdicts import judge
from edda_testkit.order_free import is_order_free

__all__ = ["install"]

SWALLOWING = frozenset({"builtins.BaseException"})
MAX_LOOPS = 3  # nested loops that are read twice


def install(analysis: Analysis) -> None:
    """Give an analysis the means to read code."""
    analysis.walk = walk
    analysis.evaluate = evaluate
    analysis.attribute = attribute
    analysis.value = lambda scope, node: worth(analysis, scope, node)
    analysis.judge = lambda scope, node: judge(analysis, scope, node)
    analysis.invoke = invoke


def walk(frame: Frame) -> None:
    """Read the function of a frame into its summary."""
    node = frame.function.node
    if isinstance(node, ast.Lambda):
        frame.summary.returns |= evaluate(frame, node.body)
    else:
        read(frame, node.body)


# ---- Statements ------------------------------------------------------------------------------


def read(frame: Frame, body: Sequence[ast.stmt]) -> None:
    """Read statements in order."""
    for node in body:
        inner = getattr(node, "body", None) or getattr(node, "cases", None)
        first = inner[0] if inner else None
        last = getattr(first, "lineno", 0) - 1 if inner else node.end_lineno or node.lineno
        frame.span = (node.lineno, max(node.lineno, last))
        reader = READERS.get(type(node))
        if reader is not None:
            reader(frame, node)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    evaluate(frame, child)


def branches(frame: Frame, *bodies: Sequence[ast.stmt]) -> None:
    """Read bodies of which one is run; a name may mean afterwards what any left it to mean."""
    before = dict(frame.names)
    after: list[dict[str, Values]] = []
    for body in bodies:
        frame.names = dict(before)
        read(frame, body)
        if not (body and isinstance(body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break)):
            after.append(frame.names)
    merged: dict[str, Values] = {}
    for names in after or [before]:
        for name, values in names.items():
            merged[name] = merged.get(name, NOTHING) | values
    frame.names = merged


def _expr(frame: Frame, node: ast.Expr) -> None:
    values = evaluate(frame, node.value)
    for atom in values if isinstance(node.value, ast.Call) else ():
        if isinstance(atom, Pending):
            frame.report("EDL020", node.value, f"{atom.name}(): {RULES['EDL020'].title}")


def _raise(frame: Frame, node: ast.Raise) -> None:
    frame.is_quiet, was_quiet = True, frame.is_quiet
    for part in (node.exc, node.cause):
        if part is not None:
            evaluate(frame, part)
    frame.is_quiet = was_quiet


def _assert(frame: Frame, node: ast.Assert) -> None:
    _test(frame, node.test)
    if node.msg is not None:
        frame.is_quiet, was_quiet = True, frame.is_quiet
        evaluate(frame, node.msg)
        frame.is_quiet = was_quiet


def _return(frame: Frame, node: ast.Return) -> None:
    if node.value is not None:
        frame.summary.returns |= evaluate(frame, node.value)


def _assign(frame: Frame, node: ast.Assign) -> None:
    pairs = [(target, node.value) for target in node.targets]
    if isinstance(node.value, ast.Tuple | ast.List):
        for target in node.targets:
            if isinstance(target, ast.Tuple | ast.List):
                parts, values = target.elts, node.value.elts
                starred = any(isinstance(one, ast.Starred) for one in (*parts, *values))
                if len(parts) == len(values) and not starred:
                    for part, worth in [
                        (part, evaluate(frame, value))
                        for part, value in zip(parts, values, strict=True)
                    ]:
                        store(frame, part, worth)
                    return
    values_ = evaluate(frame, node.value)
    for target, _ in pairs:
        if isinstance(target, ast.Attribute) and _mentions(node.value, target):
            _count(frame, target)
        store(frame, target, values_)


def _mentions(value: ast.expr, target: ast.expr) -> bool:
    text = ast.unparse(target)
    return any(
        isinstance(one, type(target)) and ast.unparse(one) == text for one in ast.walk(value)
    )


def _ann_assign(frame: Frame, node: ast.AnnAssign) -> None:
    values = annotated(frame.analysis, frame.scope, node.annotation)
    if node.value is not None:
        values = evaluate(frame, node.value) or values
    store(frame, node.target, values)


def _aug_assign(frame: Frame, node: ast.AugAssign) -> None:
    values = evaluate(frame, node.value)
    if isinstance(node.target, ast.Name):
        known = look_up(frame, node.target.id)
        for atom in known:
            if isinstance(atom, Shared) and atom.is_container:
                frame.report("EDL010", node.target, f"{atom.name} {RULES['EDL010'].title}")
        kept: Values = frozenset(a for a in values if isinstance(a, Hashed))
        if isinstance(node.op, ast.Add):
            kept |= lint_order.ordered(frame, values, node.value)
        store(frame, node.target, known | kept)
    else:
        if isinstance(node.target, ast.Attribute):
            _count(frame, node.target)
        store(frame, node.target, values)


def _count(frame: Frame, target: ast.Attribute) -> None:
    """A new value is made from the old one: what it is depends on how often others did it."""
    for atom in evaluate(frame, target.value):
        if isinstance(atom, Instance) and atom.is_shared:
            frame.report("EDL010", target, f"{ast.unparse(target)} {RULES['EDL010'].title}")


def _if(frame: Frame, node: ast.If) -> None:
    if ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING", "False"}:
        read(frame, node.orelse)
        return
    _test(frame, node.test)
    _check_replaying(frame, node)
    branches(frame, node.body, node.orelse)


def _check_replaying(frame: Frame, node: ast.If) -> None:
    """What is asked must not depend on whether the code is replayed."""
    names = [one for one in ast.walk(node.test) if isinstance(one, ast.Attribute)]
    if not any(one.attr == "is_replaying" and isinstance(one.value, ast.Name) for one in names):
        return
    for one in (*node.body, *node.orelse):
        waits = [part for part in ast.walk(one) if isinstance(part, ast.Await)]
        if waits:
            frame.report("EDL024", waits[0], f"this {RULES['EDL024'].title}")


def _test(frame: Frame, node: ast.expr) -> None:
    truth(frame, evaluate(frame, node), node)


def _while(frame: Frame, node: ast.While) -> None:
    _test(frame, node.test)
    _rounds(frame, node.body)
    read(frame, node.orelse)


def _for(frame: Frame, node: ast.For | ast.AsyncFor) -> None:
    over = evaluate(frame, node.iter)
    over |= iterate(frame, over, node.iter, is_async=isinstance(node, ast.AsyncFor))
    if isinstance(node, ast.For):
        if is_order_free(node, frame.function.node):
            _keep_order(frame, node, over)
        else:
            lint_order.take_iteration(frame, over, node.iter, "this loop")
    store(frame, node.target, inside(over))
    _rounds(frame, node.body)
    read(frame, node.orelse)


def _keep_order(frame: Frame, node: ast.For, over: Values) -> None:
    """A dictionary that is filled in the order of a set has its order."""
    order = lint_order.ordered(frame, over, node.iter, is_dict=True)
    kept = frozenset(atom for atom in order if isinstance(atom, Hashed))
    for one in ast.walk(node) if kept else ():
        if not isinstance(one, ast.Subscript) or not isinstance(one.ctx, ast.Store):
            continue
        if isinstance(one.value, ast.Name) and one.value.id in frame.names:
            frame.bind(one.value.id, frame.names[one.value.id] | kept)


def _rounds(frame: Frame, body: Sequence[ast.stmt]) -> None:
    frame.loops += 1
    for _ in range(2 if frame.loops <= MAX_LOOPS else 1):
        branches(frame, body, ())
    frame.loops -= 1


def _with(frame: Frame, node: ast.With | ast.AsyncWith) -> None:
    is_async = isinstance(node, ast.AsyncWith)
    managers: list[Values] = []
    for item in node.items:
        values = evaluate(frame, item.context_expr)
        managers.append(values)
        entered = values
        for atom in values:
            if isinstance(atom, Instance):
                entered = entered.difference({atom})
                entered |= _dunder(frame, atom, "__aenter__" if is_async else "__enter__", item)
        if item.optional_vars is not None:
            store(frame, item.optional_vars, entered or values)
    read(frame, node.body)
    for values, item in zip(managers, node.items, strict=True):
        for atom in values:
            if isinstance(atom, Instance):
                _dunder(frame, atom, "__aexit__" if is_async else "__exit__", item)


def _dunder(frame: Frame, instance: Instance, name: str, item: ast.withitem) -> Values:
    found = NOTHING
    for method in attribute(frame, instance, name, item.context_expr):
        found |= invoke(frame, method, item.context_expr)
    return found


def _try(frame: Frame, node: ast.Try | ast.TryStar) -> None:
    waits = any(_awaits(one) for one in node.body)
    for handler in node.handlers:
        kinds = NOTHING if handler.type is None else _kinds(frame, handler.type)
        paths = {atom.path for atom in kinds if isinstance(atom, Known)}
        is_raised = any(isinstance(one, ast.Raise) for one in ast.walk(handler))
        if waits and not is_raised and (handler.type is None or paths & SWALLOWING):
            what = "except" if handler.type is None else f"except {ast.unparse(handler.type)}"
            frame.report("EDL030", handler, f"`{what}` {RULES['EDL030'].title}")
    before = dict(frame.names)
    read(frame, [*node.body, *node.orelse])
    tried = frame.names
    merged = dict(tried)
    for handler in node.handlers:
        frame.names = {name: before.get(name, NOTHING) | worth for name, worth in tried.items()}
        if handler.name:
            frame.bind(handler.name, NOTHING)
        read(frame, handler.body)
        if not isinstance(handler.body[-1], ast.Return | ast.Raise | ast.Continue):
            for name, worth in frame.names.items():
                merged[name] = merged.get(name, NOTHING) | worth
    frame.names = merged
    read(frame, node.finalbody)


def _kinds(frame: Frame, node: ast.expr) -> Values:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return NOTHING.union(*(evaluate(frame, part) for part in parts)) if parts else NOTHING


def _awaits(node: ast.AST) -> bool:
    waiting = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    return any(isinstance(one, waiting) for one in ast.walk(node))


def _match(frame: Frame, node: ast.Match) -> None:
    subject = evaluate(frame, node.subject)
    for case in node.cases:
        for one in ast.walk(case.pattern):
            name = getattr(one, "name", None) or getattr(one, "rest", None)
            if isinstance(name, str):
                frame.bind(name, subject)
        if case.guard is not None:
            evaluate(frame, case.guard)
    branches(frame, *(case.body for case in node.cases), ())


def _import(frame: Frame, node: ast.Import | ast.ImportFrom) -> None:
    for name, binding in imports(node):
        if name != "*":
            frame.bind(name, imported(frame.analysis, frame.source, binding))


def _scope_words(frame: Frame, node: ast.Global | ast.Nonlocal) -> None:
    if isinstance(node, ast.Global):
        frame.globals.update(node.names)
    else:
        frame.outer.update(node.names)


def _definition(frame: Frame, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
    if isinstance(node, ast.ClassDef):
        for base in node.bases:
            evaluate(frame, base)
        for hook in subclassing(frame.analysis, Class(node, frame.scope, node.name)):
            invoke(frame, hook, node.bases[0] if node.bases else node.keywords[0].value)
    else:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                evaluate(frame, default)
    frame.bind(node.name, define(frame, node, frame.scope))
    if isinstance(node, ast.ClassDef):
        _class_body(frame, node)


def _class_body(frame: Frame, node: ast.ClassDef) -> None:
    """Read a class that is defined in a function; its names stay its own."""
    before = dict(frame.names)
    for one in node.body:
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            read(frame, [one])
        else:
            values_of(frame.analysis, frame.scope, one)
    frame.names = before


READERS: dict[type, Callable[..., None]] = {
    ast.Expr: _expr,
    ast.Return: _return,
    ast.Raise: _raise,
    ast.Assert: _assert,
    ast.Assign: _assign,
    ast.AnnAssign: _ann_assign,
    ast.AugAssign: _aug_assign,
    ast.If: _if,
    ast.While: _while,
    ast.For: _for,
    ast.AsyncFor: _for,
    ast.With: _with,
    ast.AsyncWith: _with,
    ast.Try: _try,
    ast.TryStar: _try,
    ast.Match: _match,
    ast.Import: _import,
    ast.ImportFrom: _import,
    ast.Global: _scope_words,
    ast.Nonlocal: _scope_words,
    ast.FunctionDef: _definition,
    ast.AsyncFunctionDef: _definition,
    ast.ClassDef: _definition,
}
