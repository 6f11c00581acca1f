"""What an expression is worth, and what it does.

Expressions are evaluated in the order in which Python would, over the atoms of `lint_values`.
Code that runs at import is evaluated by the same functions, in a frame whose findings nobody
takes. Absent: statements (`lint_walk`), and what calls do (`lint_calls`).
"""

import ast
from collections.abc import Callable

from edda_testkit import lint_calls, lint_order
from edda_testkit.lint_frames import Analysis, Args, Frame
from edda_testkit.lint_names import attribute, look_up, tell_stale
from edda_testkit.lint_rules import READS, RULES
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

__all__ = ["define", "evaluate", "invoke", "refuse_pending", "store", "worth"]

MAX_NESTING = 4  # of containers that are told apart
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
LOGGING = frozenset("debug info warning error exception critical log print".split())
BITS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)
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
    frame = Frame(analysis, Function(ast.Lambda(), scope, "<module>"), {})
    frame.scope = scope
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return define(frame, node, scope)
    assert isinstance(node, ast.expr)
    return evaluate(frame, node)


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
    for atom in values:
        if isinstance(atom, Known) and atom.path in READS:
            code = READS[atom.path]
            frame.report(code, node, f"{atom.path} {RULES[code].title}")
            values = values.difference({atom})
    return tell_stale(frame, values, node, node.id)


def _attribute(frame: Frame, node: ast.Attribute) -> Values:
    values = evaluate(frame, node.value)
    refuse_pending(frame, values, node.value)
    found = NOTHING
    for atom in values:
        found |= attribute(frame, atom, node.attr, node)
    return found


def refuse_pending(frame: Frame, values: Values, node: ast.expr) -> None:
    """Report an activity whose answer is used, and that nobody awaits."""
    for atom in values:
        if isinstance(atom, Pending):
            frame.report("EDL020", node, f"{atom.name}(): {RULES['EDL020'].title}")


# ---- Calls -----------------------------------------------------------------------------------


def _call(frame: Frame, node: ast.Call) -> Values:
    function = node.func
    if isinstance(function, ast.Name) and function.id == "super" and not node.args:
        return _super(frame)
    receiver = NOTHING
    if isinstance(function, ast.Attribute):
        receiver = evaluate(frame, function.value)
        refuse_pending(frame, receiver, function.value)
        callee = NOTHING
        for atom in receiver:
            callee |= attribute(frame, atom, function.attr, function)
    else:
        callee = evaluate(frame, function)
    was_quiet = frame.is_quiet
    frame.is_quiet = was_quiet or _is_logging(function, callee)
    args = _arguments(frame, node)
    frame.is_quiet = was_quiet
    if isinstance(function, ast.Attribute):
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
    return frozenset(atom for atom in values if not isinstance(atom, Pending))


def _lambda(frame: Frame, node: ast.Lambda) -> Values:
    for default in (*node.args.defaults, *node.args.kw_defaults):
        if default is not None:
            evaluate(frame, default)
    return frozenset({Function(node, frame.scope, "<lambda>")})


# ---- Operators -------------------------------------------------------------------------------


def _choice(frame: Frame, node: ast.IfExp) -> Values:
    refuse_pending(frame, evaluate(frame, node.test), node.test)
    return evaluate(frame, node.body) | evaluate(frame, node.orelse)


def _bool(frame: Frame, node: ast.BoolOp) -> Values:
    found = NOTHING
    for part in node.values:
        values = evaluate(frame, part)
        refuse_pending(frame, values, part)
        found |= values
    return found


def _compare(frame: Frame, node: ast.Compare) -> Values:
    parts = [node.left, *node.comparators]
    worths = [evaluate(frame, part) for part in parts]
    for part, values in zip(parts, worths, strict=True):
        refuse_pending(frame, values, part)
    if any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
        for values in worths:
            lint_order.take(frame, values, "a comparison of lists")
    return NOTHING


def _binary(frame: Frame, node: ast.BinOp) -> Values:
    left, right = evaluate(frame, node.left), evaluate(frame, node.right)
    both = left | right
    refuse_pending(frame, both, node)
    if isinstance(node.op, BITS) and (
        any(isinstance(atom, Unordered) for atom in both) or _is_view(node.left)
    ):
        return frozenset({Unordered()})
    if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant | ast.JoinedStr):
        if not frame.is_quiet:
            lint_order.take_text(frame, right, node)
        return NOTHING
    kept = (Hashed, Many) if isinstance(node.op, ast.Add | ast.BitOr | ast.Mult) else ()
    return frozenset(
        atom
        for atom in both
        if isinstance(atom, kept) or (isinstance(atom, Made) and not atom.path.endswith("@shared"))
    )


def _is_view(node: ast.expr) -> bool:
    """Whether this is `d.keys()`, of which operators make a set."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"keys", "items"}
    )


def _subscript(frame: Frame, node: ast.Subscript) -> Values:
    values = evaluate(frame, node.value)
    refuse_pending(frame, values, node.value)
    evaluate(frame, node.slice)
    lint_order.take(
        frame, frozenset(atom for atom in values if isinstance(atom, Hashed)), "an index"
    )
    return inside(values)


def _text(frame: Frame, node: ast.JoinedStr) -> Values:
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            values = evaluate(frame, part.value)
            refuse_pending(frame, values, part.value)
            if not frame.is_quiet:
                lint_order.take_text(frame, values, part.value)
            if part.format_spec is not None:
                evaluate(frame, part.format_spec)
    return NOTHING


def _walrus(frame: Frame, node: ast.NamedExpr) -> Values:
    values = evaluate(frame, node.value)
    store(frame, node.target, values)
    return values


def _yield(frame: Frame, node: ast.Yield) -> Values:
    if node.value is not None:
        values = evaluate(frame, node.value)
        if values:
            frame.summary.returns |= {Many(values)}
    return NOTHING


def _yield_from(frame: Frame, node: ast.YieldFrom) -> Values:
    values = evaluate(frame, node.value)
    frame.summary.returns |= lint_order.ordered(frame, values, node.value)
    return NOTHING


# ---- Containers and comprehensions -----------------------------------------------------------


def _sequence(frame: Frame, node: ast.List | ast.Tuple) -> Values:
    held, order = NOTHING, NOTHING
    for part in node.elts:
        if isinstance(part, ast.Starred):
            order |= lint_order.ordered(frame, evaluate(frame, part.value), part.value)
        else:
            held |= evaluate(frame, part)
    return order | many(held)


def many(held: Values, depth: int = 0) -> Values:
    """A container that holds these; one nested too deeply is not told apart."""
    kept = held
    for atom in held:
        if isinstance(atom, Many) and _nesting(atom) >= MAX_NESTING:
            kept = kept.difference({atom})
    return frozenset({Many(kept)}) if kept else NOTHING


def _nesting(atom: Many) -> int:
    return 1 + max((_nesting(one) for one in atom.values if isinstance(one, Many)), default=0)


def _set(frame: Frame, node: ast.Set) -> Values:
    for part in node.elts:
        evaluate(frame, part.value if isinstance(part, ast.Starred) else part)
    constants = [part.value for part in node.elts if isinstance(part, ast.Constant)]
    return frozenset({Unordered(any(isinstance(one, float) for one in constants))})


def _dict(frame: Frame, node: ast.Dict) -> Values:
    held, order = NOTHING, NOTHING
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            order |= lint_order.ordered(frame, evaluate(frame, value), value, is_dict=True)
        else:
            evaluate(frame, key)
            held |= evaluate(frame, value)
    return order | many(held)


def _comprehension(
    frame: Frame, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
) -> Values:
    before = dict(frame.names)
    order = NOTHING
    for part in node.generators:
        over = evaluate(frame, part.iter)
        place = part.iter
        if _does_wait(node):
            lint_order.take_iteration(frame, over, place, "this comprehension")
        else:
            made = lint_order.ordered(frame, over, place, is_dict=isinstance(node, ast.DictComp))
            order |= frozenset(atom for atom in made if isinstance(atom, Hashed))
        frame.names = dict(frame.names)
        store(frame, part.target, inside(over))
        for test in part.ifs:
            evaluate(frame, test)
    if isinstance(node, ast.DictComp):
        evaluate(frame, node.key)
        held = evaluate(frame, node.value)
    else:
        held = evaluate(frame, node.elt)
    frame.names = before
    if isinstance(node, ast.SetComp):
        return frozenset({Unordered()})
    return order | many(held)


def _does_wait(node: ast.expr) -> bool:
    return any(isinstance(one, ast.Await) for one in ast.walk(node))


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
    if isinstance(atom, Function | Bound | Instance):
        return lint_calls.follow(frame, atom, Args((values,)), node) or values
    return values


# ---- Assignment ------------------------------------------------------------------------------


def store(frame: Frame, target: ast.expr, values: Values) -> None:
    """Let the target of an assignment be worth this."""
    match target:
        case ast.Name(id=name):
            if name in frame.globals:
                frame.report("EDL010", target, f"the global {name} {RULES['EDL010'].title}")
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
                if isinstance(atom, Shared) and atom.is_container:
                    frame.report("EDL010", target, f"{atom.name}[...] {RULES['EDL010'].title}")
            kept = frozenset(a for a in values if isinstance(a, Hashed | Many | Function | Known))
            if isinstance(owner, ast.Name) and owner.id in frame.names and kept:
                frame.bind(owner.id, frame.names[owner.id] | {Many(kept)})


def _store_attribute(
    frame: Frame, target: ast.expr, owners: Values, name: str, values: Values
) -> None:
    is_shared = any(isinstance(atom, Shared) for atom in owners)
    for atom in owners:
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
    ast.IfExp: _choice,
    ast.BoolOp: _bool,
    ast.Compare: _compare,
    ast.BinOp: _binary,
    ast.Subscript: _subscript,
    ast.JoinedStr: _text,
    ast.NamedExpr: _walrus,
    ast.Yield: _yield,
    ast.YieldFrom: _yield_from,
    ast.List: _sequence,
    ast.Tuple: _sequence,
    ast.Set: _set,
    ast.Dict: _dict,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.DictComp: _comprehension,
}
