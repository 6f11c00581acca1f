"""What an expression is worth, and what it does.

Expressions are evaluated in the order in which Python would, over the atoms of `lint_values`.
Code that runs at import is evaluated by the same functions, in a frame whose findings nobody
takes. Absent: statements (`lint_walk`), and what calls do (`lint_calls`).
"""

import ast
from collections.abc import Callable

from edda_testkit import lint_calls, lint_hooks, lint_operators, lint_order
from edda_testkit.lint_edda import tell_changed
from edda_testkit.lint_frames import Analysis, Args, Frame
from edda_testkit.lint_hazards import READS
from edda_testkit.lint_names import attribute, look_up, tell_stale
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_values import (
    NOTHING,
    Atom,
    Bound,
    Class,
    Function,
    Hashed,
    Instance,
    Known,
    Made,
    Many,
    Module,
    Pending,
    Scope,
    Shared,
    Step,
    Unordered,
    Values,
    inside,
)
from edda_testkit.order_free import picks_one

__all__ = ["define", "evaluate", "invoke", "store", "worth"]

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
NOWHERE = ast.Lambda(
    ast.arguments([], [], None, [], [], None, []), ast.Constant(None)
)  # code that runs at import stands in no function
LOGGING = frozenset("debug info warning error exception critical log print".split())
ROLES = {
    "builtins.property": "property",
    "functools.cached_property": "property",
    "builtins.staticmethod": "staticmethod",
    "builtins.classmethod": "classmethod",
}
STEPS = {
    "workflow": "workflow",
    "activity": "activity",
    "compensation": "activity",
    "on_failure": "activity",
}


def worth(analysis: Analysis, scope: Scope, node: ast.AST) -> Values:
    """What an expression or a definition is worth in a scope; nothing is reported."""
    frame = Frame(analysis, Function(NOWHERE, scope, "<module>"), {})
    frame.scope = scope
    is_import = scope.parent is None
    analysis.imports += is_import
    try:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return define(frame, node, scope)
        assert isinstance(node, ast.expr)
        return evaluate(frame, node)
    finally:
        analysis.imports -= is_import


def invoke(frame: Frame, atom: Atom, node: ast.expr) -> Values:
    """What a property or a method without arguments returns."""
    return lint_calls.follow(frame, atom, Args(), node)


def evaluate(frame: Frame, node: ast.expr) -> Values:
    """What an expression is worth; what it does wrong is reported."""
    reader = READERS.get(type(node))
    if reader is not None:
        return reader(frame, node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            evaluate(frame, child)
    return NOTHING


# ---- Names and attributes --------------------------------------------------------------------


def _name(frame: Frame, node: ast.Name) -> Values:
    values = look_up(frame, node.id)
    if node.id in frame.globals or not frame.is_local(node.id):
        tell_changed(frame, node)
    for atom in values:
        if isinstance(atom, Known) and atom.path in READS:
            code = READS[atom.path]
            frame.report(code, node, f"{atom.path} {RULES[code].title}")
            values = values.difference({atom})
    return tell_stale(frame, values, node, node.id)


def _attribute(frame: Frame, node: ast.Attribute) -> Values:
    values = evaluate(frame, node.value)
    lint_operators.refuse_pending(frame, values, node.value)
    found = NOTHING
    for atom in values:
        found |= attribute(frame, atom, node.attr, node)
    return found


# ---- Calls -----------------------------------------------------------------------------------


def _call(frame: Frame, node: ast.Call) -> Values:
    function = node.func
    if isinstance(function, ast.Name) and function.id == "super" and not node.args:
        return _super(frame)
    receiver = NOTHING
    if isinstance(function, ast.Attribute):
        receiver = evaluate(frame, function.value)
        lint_operators.refuse_pending(frame, receiver, function.value)
        callee = NOTHING
        for atom in receiver:
            callee |= attribute(frame, atom, function.attr, function)
    else:
        callee = evaluate(frame, function)
    was = frame.is_quiet, frame.is_logged
    if _is_logging(function, callee):
        frame.is_quiet = frame.is_logged = True
    args = _arguments(frame, node)
    frame.is_quiet, frame.is_logged = was
    if isinstance(function, ast.Attribute):
        if function.attr == "format" and isinstance(function.value, ast.Constant):
            for values in args.all:
                lint_operators.as_text(frame, values, lint_operators.TEXTS["builtins.str"], node)
        lint_calls.call_hooks(frame, receiver, function.attr, node)
        done = lint_order.method(frame, receiver, function.attr, args, node)
        if not callee and (done is not None or any(_is_data(atom) for atom in receiver)):
            return done or NOTHING
        if done is not None:
            return done | lint_calls.call(frame, callee, args, node)
    return lint_calls.call(frame, callee, args, node)


def _is_data(atom: Atom) -> bool:
    return isinstance(atom, Shared | Instance | Module | Class) and (
        not isinstance(atom, Shared) or atom.is_container
    )


def _is_logging(function: ast.expr, callee: Values) -> bool:
    """Whether what is handed over goes to people only."""
    name = function.attr if isinstance(function, ast.Attribute) else ""
    if isinstance(function, ast.Name):
        name = function.id if not callee.difference({Known("builtins.print")}) else ""
    return name in LOGGING


def _arguments(frame: Frame, node: ast.Call) -> Args:
    positional: list[Values] = []
    is_whole = True
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            values = evaluate(frame, argument.value)
            lint_operators.iterate(frame, values, argument)
            lint_order.take_iteration(frame, values, argument, "unpacking into arguments")
            positional.append(inside(values))
            is_whole = False
        else:
            positional.append(evaluate(frame, argument))
    keywords: list[tuple[str, Values]] = []
    for keyword in node.keywords:
        values = evaluate(frame, keyword.value)
        if keyword.arg is None:
            is_whole = False
        else:
            keywords.append((keyword.arg, values))
    return Args(tuple(positional), tuple(keywords), is_whole)


def _super(frame: Frame) -> Values:
    owner = frame.function.owner
    parameters = getattr(frame.function.node, "args", None)
    first = parameters.args[0].arg if parameters and parameters.args else ""
    return frozenset(
        Instance(atom.cls, owner)
        for atom in frame.names.get(first, NOTHING)
        if isinstance(atom, Instance)
    )


def _await(frame: Frame, node: ast.Await) -> Values:
    values = evaluate(frame, node.value)
    made = lint_operators.dunder(frame, values, ("__await__",), node)
    waited = (Pending, Instance) if made else Pending
    return made | frozenset(atom for atom in values if not isinstance(atom, waited))


def _lambda(frame: Frame, node: ast.Lambda) -> Values:
    for default in (*node.args.defaults, *node.args.kw_defaults):
        if default is not None:
            evaluate(frame, default)
    return frozenset({Function(node, frame.scope, "<lambda>")})


# ---- What binds a name -------


def _walrus(frame: Frame, node: ast.NamedExpr) -> Values:
    values = evaluate(frame, node.value)
    store(frame, node.target, values)
    return values


def _comprehension(
    frame: Frame, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
) -> Values:
    before = dict(frame.names)
    order = NOTHING
    for part in node.generators:
        over = evaluate(frame, part.iter)
        over |= lint_operators.iterate(frame, over, part.iter, is_async=bool(part.is_async))
        place = part.iter
        if lint_operators.does_wait(node):
            lint_order.take_iteration(frame, over, place, "this comprehension")
        else:
            made = lint_order.ordered(frame, over, place, is_dict=isinstance(node, ast.DictComp))
            if isinstance(node, ast.DictComp):
                lint_order.take_numbers(frame, over, place)
            if not picks_one(part):
                order |= frozenset(atom for atom in made if isinstance(atom, Hashed))
        frame.names = dict(frame.names)
        store(frame, part.target, inside(over))
        for test in part.ifs:
            lint_operators.truth(frame, evaluate(frame, test), test)
    if isinstance(node, ast.DictComp):
        evaluate(frame, node.key)
        held = evaluate(frame, node.value)
    else:
        held = evaluate(frame, node.elt)
    frame.names = before
    if isinstance(node, ast.SetComp):
        return frozenset({Unordered("one" if isinstance(node.elt, ast.Constant) else "anything")})
    return order | lint_operators.many(held)


# ---- Definitions -----------------------------------------------------------------------------


def define(
    frame: Frame, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: Scope
) -> Values:
    """What a definition is worth, with its decorators applied."""
    if isinstance(node, ast.ClassDef):
        for decorator in node.decorator_list:
            evaluate(frame, decorator)
        return frozenset({Class(node, scope, node.name)})
    values: Values = frozenset({Function(node, scope, node.name)})
    for decorator in reversed(node.decorator_list):
        if isinstance(decorator, ast.Attribute) and decorator.attr in {"setter", "deleter"}:
            return NOTHING
        for atom in evaluate(frame, decorator):
            values = _decorated(frame, atom, values, decorator)
    return values


def _decorated(frame: Frame, atom: Atom, values: Values, node: ast.expr) -> Values:
    if isinstance(atom, Known):
        name = atom.path.rpartition(".")[2]
        if atom.path.startswith("edda.") and name in STEPS:
            functions = [one for one in values if isinstance(one, Function)]
            for one in functions if name == "workflow" else ():
                frame.analysis.roots.setdefault(one.node, one)
            return frozenset(Step(one, STEPS[name]) for one in functions)
        if atom.path in ROLES:
            return frozenset(
                Function(one.node, one.scope, one.name, ROLES[atom.path], one.owner)
                for one in values
                if isinstance(one, Function)
            )
        if atom.path == "functools.singledispatch":
            names = [one.name for one in values if isinstance(one, Function)]
            return values.union(*(lint_hooks.registered(frame.scope, name) for name in names))
    if isinstance(atom, Function | Bound | Instance | Class):
        return lint_calls.follow(frame, atom, Args((values,)), node) or values
    return values


# ---- Assignment ------------------------------------------------------------------------------


def store(frame: Frame, target: ast.expr, values: Values) -> None:
    """Let the target of an assignment be worth this."""
    match target:
        case ast.Name(id=name):
            if name in frame.globals:
                frame.report_shared(target, f"the global {name}")
            if name in frame.outer and frame.is_outer_shared(name):
                frame.report_shared(target, f"the outer {name}")
            frame.bind(name, values)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            if any(isinstance(atom, Unordered | Hashed) for atom in values):
                lint_order.take_iteration(frame, values, target, "unpacking")
            for part in parts:
                store(frame, part, inside(values))
        case ast.Starred(value=inner):
            store(frame, inner, values)
        case ast.Attribute(value=owner, attr=name):
            _store_attribute(frame, target, evaluate(frame, owner), name, values)
        case ast.Subscript(value=owner, slice=index):
            evaluate(frame, index)
            held = evaluate(frame, owner)
            for atom in held:
                if isinstance(atom, Made) and atom.path == "builtins.globals()":
                    frame.report("EDL010", target, f"globals()[...] {RULES['EDL010'].title}")
                if isinstance(atom, Shared) and atom.is_container:
                    frame.report_shared(target, f"{atom.name}[...]")
            kept = frozenset(a for a in values if isinstance(a, Hashed | Many | Function | Known))
            if isinstance(owner, ast.Name) and owner.id in frame.names and kept:
                frame.bind(owner.id, frame.names[owner.id] | {Many(kept)})


def _store_attribute(
    frame: Frame, target: ast.expr, owners: Values, name: str, values: Values
) -> None:
    is_shared = any(isinstance(atom, Shared) for atom in owners)
    for atom in owners:
        if isinstance(atom, Instance):
            self = frozenset({atom})
            for setter in lint_hooks.setters(frame.analysis, atom.cls, name):
                lint_calls.follow(frame, Bound(setter, (self,)), Args((values,)), target)
        if isinstance(atom, Instance) and not is_shared:
            atom.cls.attributes[name] = atom.cls.attributes.get(name, NOTHING) | values
        elif isinstance(atom, Shared | Class | Module):
            label = atom.source.path.stem if isinstance(atom, Module) else atom.name
            frame.report("EDL010", target, f"{label}.{name} {RULES['EDL010'].title}")
        elif isinstance(atom, Function) and atom.scope.parent is None:
            frame.report("EDL010", target, f"{atom.name}.{name} {RULES['EDL010'].title}")


READERS: dict[type, Callable[..., Values]] = {
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Call: _call,
    ast.Await: _await,
    ast.Lambda: _lambda,
    ast.IfExp: lint_operators.choice,
    ast.BoolOp: lint_operators.bool_,
    ast.Compare: lint_operators.compare,
    ast.BinOp: lint_operators.binary,
    ast.Subscript: lint_operators.subscript,
    ast.UnaryOp: lint_operators.unary,
    ast.JoinedStr: lint_operators.text,
    ast.NamedExpr: _walrus,
    ast.Yield: lint_operators.yield_,
    ast.YieldFrom: lint_operators.yield_from,
    ast.List: lint_operators.sequence,
    ast.Tuple: lint_operators.sequence,
    ast.Set: lint_operators.set_,
    ast.Dict: lint_operators.dict_,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.DictComp: _comprehension,
}
