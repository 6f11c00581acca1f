"""What a call does: of an outside function, of code that can be followed, of what is not known.

Arguments are evaluated already. A function that is handed to another one is taken to be called
by it. Absent: syntax, and what becomes of the order of sets (`lint_order`).
"""

import ast

from edda_testkit import lint_hooks, lint_operators, lint_order
from edda_testkit.harmless import is_dropped_value, is_key_only
from edda_testkit.lint_edda import edda_call
from edda_testkit.lint_frames import Analysis, Args, Frame
from edda_testkit.lint_hazards import METHODS, has_methods
from edda_testkit.lint_names import attribute, imported
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_sources import Binding
from edda_testkit.lint_tables import DATA_METHODS, RETURNS, is_known, same_name
from edda_testkit.lint_types import annotated, at_import, lineage, member, values_of
from edda_testkit.lint_values import (
    NOTHING,
    Atom,
    Bound,
    Class,
    Function,
    Instance,
    Known,
    Made,
    Many,
    Module,
    Pending,
    Shared,
    Step,
    Unordered,
    Values,
)
from edda_testkit.lint_verdicts import code_of, is_exempt, shown

__all__ = ["UNKNOWN_MODULE", "call", "call_hooks", "follow", "given"]

WRAPPERS = frozenset(
    {f"functools.{name}" for name in "cache lru_cache singledispatch update_wrapper".split()}
    | {f"builtins.{name}" for name in "staticmethod classmethod property".split()}
    | {f"contextlib.{name}" for name in "contextmanager asynccontextmanager".split()}
    | {"typing.cast", "typing.no_type_check", "dataclasses.dataclass", "copy.copy"}
)
BLIND = frozenset(
    {f"builtins.{name}" for name in "exec eval compile __import__".split()}
    | {"importlib.import_module", "runpy.run_module", "pickle.loads", "pickle.load"}
)
IMPORTS = frozenset({"builtins.__import__", "importlib.import_module"})
UNKNOWN_MODULE = "is outside the linted paths, and in no table"


def call(frame: Frame, callee: Values, args: Args, node: ast.Call) -> Values:
    """What a call returns; what it does wrong is reported."""
    if not callee:
        return _unknown(frame, args, node)
    found = NOTHING
    for atom in callee:
        found |= _call(frame, atom, args, node, "")
    return found


def follow(frame: Frame, atom: Atom, args: Args, node: ast.expr) -> Values:
    """What a call of one atom returns; what it does wrong is reported."""
    return _call(frame, atom, args, node, "")


def _call(frame: Frame, atom: Atom, args: Args, node: ast.expr, by: str) -> Values:
    match atom:
        case Known(path):
            return _outside(frame, path, args, node, by)
        case Function():
            return frame.call(atom, given(frame.analysis, atom, args), node)
        case Class():
            return _construct(frame, atom, args, node)
        case Instance(cls):
            found = NOTHING
            for one in member(frame.analysis, cls, "__call__"):
                found |= _call(frame, Bound(one, (frozenset({atom}),)), args, node, by)
            return found
        case Bound(target, first, keywords):
            positional = (*first, *args.positional)
            whole = Args(positional, (*keywords, *args.keywords), args.is_whole)
            return _call(frame, target, whole, node, by)
        case Step(function, role):
            return _step(frame, function, role, args, node)
    return NOTHING


# ---- Code that can be followed ---------------------------------------------------------------


def given(analysis: Analysis, function: Function, args: Args) -> dict[str, Values]:
    """What the parameters of a function are worth in a call: as given, by default, or by type."""
    parameters, scope = function.node.args, function.scope
    named = [*parameters.posonlyargs, *parameters.args]
    keywords = dict(args.keywords)
    first_default = len(named) - len(parameters.defaults)
    defaults: dict[str, ast.expr | None] = {
        one.arg: parameters.defaults[n - first_default] if n >= first_default else None
        for n, one in enumerate(named)
    }
    defaults |= {
        one.arg: default
        for one, default in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True)
    }
    found: dict[str, Values] = {}
    for n, one in enumerate([*named, *parameters.kwonlyargs]):
        default = defaults[one.arg]
        if n < len(named) and n < len(args.positional):
            found[one.arg] = args.positional[n]
        elif one.arg in keywords:
            found[one.arg] = keywords.pop(one.arg)
        elif default is not None and args.is_whole:
            found[one.arg] = (
                at_import(analysis, scope, default, one.arg)
                if scope.parent is None
                else values_of(analysis, scope, default)
            )
        else:
            found[one.arg] = NOTHING
        found[one.arg] = found[one.arg] or annotated(analysis, scope, one.annotation)
    rest = NOTHING.union(*args.positional[len(named) :])
    for star, values in (
        (parameters.vararg, rest),
        (parameters.kwarg, NOTHING.union(*keywords.values())),
    ):
        if star is not None:
            found[star.arg] = frozenset({Many(values)}) if values else NOTHING
    return found


def _construct(frame: Frame, cls: Class, args: Args, node: ast.expr) -> Values:
    instance: Values = frozenset({Instance(cls)})
    for meta in lint_hooks.metaclasses(frame.analysis, cls) if frame.analysis.depth < 40 else ():
        for atom in member(frame.analysis, meta, "__call__"):
            _call(frame, Bound(atom, (frozenset({cls}),)), args, node, "")
    for hook in lint_hooks.hooks(frame.analysis, cls, "__init__"):
        _call(frame, Bound(hook, (instance,)), Args(is_whole=False), node, "")
    for code, what in lint_hooks.made_by_chance(frame.analysis, cls, is_seeded=bool(args.all)):
        frame.report(code, node, f"{what} {RULES[code].title}")
    is_followed = False
    for name in ("__new__", "__init__", "__post_init__"):
        for atom in member(frame.analysis, cls, name):
            if isinstance(atom, Function):
                is_followed = is_followed or name == "__init__"
                handed = Args() if name == "__post_init__" else args
                _call(frame, Bound(atom, (instance,)), handed, node, "")
    if not is_followed:
        for values in args.all:
            lint_order.take(frame, values, f"{cls.name}()")
        _make_fields(frame, cls, args, node)
    return instance


def call_hooks(frame: Frame, receiver: Values, name: str, node: ast.expr) -> None:
    """Follow what pydantic calls when this method of a model is called."""
    for cls in lint_hooks.makers(receiver, name):
        _construct(frame, cls, lint_hooks.fields_in(node), node)
    for atom in receiver if name in lint_hooks.DUMPS else ():
        if isinstance(atom, Instance):
            for hook in lint_hooks.hooks(frame.analysis, atom.cls, name):
                _call(frame, Bound(hook, (frozenset({atom}),)), Args(is_whole=False), node, "")
            if name == "model_dump_json" and lint_hooks.has_sets(frame.analysis, atom.cls):
                frame.report("EDL801", node, f"the JSON text {RULES['EDL801'].title}")


def _make_fields(frame: Frame, cls: Class, args: Args, node: ast.expr) -> None:
    """Call the default factories of a dataclass or a model, where no value is given."""
    names = {name for name, _ in args.keywords}
    left = len(args.positional)  # these come first
    for one in lineage(frame.analysis, cls) if args.is_whole else ():
        for field in one.node.body if isinstance(one, Class) else ():
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            left -= 1
            if left >= 0 or field.target.id in names or not isinstance(field.value, ast.Call):
                continue
            for keyword in field.value.keywords:
                if keyword.arg in {"default_factory", "factory"}:
                    by = f"the default of {cls.name}.{field.target.id}"
                    assert isinstance(one, Class)
                    for atom in values_of(frame.analysis, one.scope, keyword.value):
                        if isinstance(atom, Function | Known | Bound | Class):
                            _call(frame, atom, Args(), node, by)


def _step(frame: Frame, function: Function | None, role: str, args: Args, node: ast.expr) -> Values:
    if role == "workflow":
        if function is None:
            return NOTHING
        frame.analysis.roots.setdefault(function.node, function)
        return frame.call(function, given(frame.analysis, function, args), node)
    parameters: dict[str, Values] = {}
    if function is not None:
        parameters = given(frame.analysis, function, Args(is_whole=False))
    typed = list(parameters.values())
    for n, values in enumerate(args.all):
        is_set = n < len(typed) and any(isinstance(atom, Unordered) for atom in typed[n])
        if not is_set:
            lint_order.take(frame, values, "an activity's argument")
    name = "activity" if function is None else function.name
    pending: Values = frozenset({Pending(frame.place(node), name)})
    if function is None or isinstance(function.node, ast.Lambda):
        return pending
    return pending | annotated(frame.analysis, function.scope, function.node.returns)


# ---- Functions of other people's modules -----------------------------------------------------


def _outside(frame: Frame, path: str, args: Args, node: ast.expr, by: str) -> Values:
    path = same_name(path)
    if path.startswith("edda."):
        return edda_call(frame, path, args, node)
    code = code_of(path, args)
    lint_operators.call_dunders(frame, path, args, node)
    if (
        path == "builtins.hash"
        and isinstance(node, ast.Call)
        and all(map(lint_order.is_number, node.args))
    ):
        return NOTHING
    if code in {"EDL802", "EDL803"} and (
        frame.is_logged or (isinstance(node, ast.Call) and is_key_only(node, frame.function.node))
    ):
        return NOTHING  # for people's eyes only, or to find something by
    if path == "gc.collect" and is_dropped_value(node, frame.function.node):
        return NOTHING
    if code:
        subject = shown(path) if by else f"{shown(path)}()"
        how = f", {by}," if by else ""
        frame.report(code, node, f"{subject}{how} {RULES[code].title}")
    elif path == "builtins.eval" and _constant(node) is not None:
        return _eval(frame, node)
    elif path == "builtins.exec" and _constant(node) is not None:
        return _exec(frame, node)
    elif path in IMPORTS and (name := _constant(node)):
        return imported(frame.analysis, frame.source, Binding(module=name))
    elif path in BLIND:
        frame.gap(node, f"{shown(path)}() runs code that cannot be seen")
    elif path == "builtins.setattr":
        _setattr(frame, args, node)
    elif path == "builtins.getattr":
        return _getattr(frame, args, node)
    elif path.startswith("operator.methodcaller@") and args.positional:
        return _method_called(frame, path.partition("@")[2], args.positional[0], node)
    elif path.startswith("operator.attrgetter@") and args.positional:
        owners = args.positional[0]
        name = path.partition("@")[2]
        return NOTHING.union(*(attribute(frame, atom, name, node) for atom in owners))
    elif path == "operator.call" and args.positional:
        rest = Args(args.positional[1:], args.keywords, args.is_whole)
        return NOTHING.union(*(_call(frame, atom, rest, node, by) for atom in args.positional[0]))
    elif path == "collections.defaultdict" and args.positional:
        return frozenset({Bound(Known(path), (args.positional[0],)), Made("builtins.dict")})
    elif path == "functools.partial" and args.positional:
        return frozenset(
            Bound(atom, args.positional[1:], args.keywords)
            for atom in args.positional[0]
            if isinstance(atom, Function | Class | Known | Bound | Step)
        )
    elif path in WRAPPERS and args.positional:
        return args.positional[-1]
    elif not is_known(path) and "()" not in path:
        frame.gap(node, f"{path} {UNKNOWN_MODULE}")
    _hand_over(frame, path, args, node)
    if path in {"pprint.pformat", "reprlib.repr"} and args.positional:
        lint_operators.as_text(frame, args.positional[0], ("__repr__",), node)
    if isinstance(node, ast.Call) and not by:
        ordered = lint_order.builtin(frame, path, args, node)
        if ordered is not None:
            return ordered
    if path == "builtins.super":
        return NOTHING
    if not is_exempt(path):
        for values in args.all:
            lint_order.take(frame, values, f"an argument of {shown(path)}()")
    return _made_by(frame, path, args, node)


def _made_by(frame: Frame, path: str, args: Args, node: ast.expr) -> Values:
    if path == "random.Random" and args.is_whole and _is_unseeded(node):
        return frozenset({Made("random.Random@unseeded", frame.place(node))})
    if path == "datetime.datetime" and args.is_whole:
        is_aware = len(args.positional) > 7 or "tzinfo" in dict(args.keywords)
        return frozenset({Made(path if is_aware else f"{path}@naive")})
    if path in {"operator.methodcaller", "operator.attrgetter"} and (name := _constant(node)):
        return frozenset({Known(f"{path}@{name}")})
    if path in RETURNS:
        return frozenset({Made(RETURNS[path])})
    name = path.rpartition(".")[2]
    is_class = name[:1].isupper() or path.startswith("datetime.") or has_methods(path)
    return frozenset({Made(path if is_class else f"{path}()")})


def _hand_over(frame: Frame, path: str, args: Args, node: ast.expr) -> None:
    """Take the functions among the arguments to be called."""
    if is_exempt(path):
        return
    by = f"handed to {shown(path)}()" if path else "handed on"
    for values in args.all:
        for atom in values:
            is_hazard = isinstance(atom, Known) and code_of(same_name(atom.path), Args())
            if is_hazard or isinstance(atom, Function | Bound):
                _call(frame, atom, Args(is_whole=isinstance(atom, Known)), node, by)


def _setattr(frame: Frame, args: Args, node: ast.expr) -> None:
    for atom in args.positional[0] if args.positional else ():
        if isinstance(atom, Shared | Class | Module):
            frame.report("EDL010", node, f"setattr() {RULES['EDL010'].title}")


def _getattr(frame: Frame, args: Args, node: ast.expr) -> Values:
    name = node.args[1] if isinstance(node, ast.Call) and len(node.args) > 1 else None
    text = None if name is None else lint_operators.folded(name)
    if text is None:
        frame.gap(node, "getattr() with a name that is made at run time")
        return NOTHING
    found = NOTHING
    for atom in args.positional[0]:
        found |= attribute(frame, atom, text, node)
    return found


def _is_unseeded(node: ast.expr) -> bool:
    given = (
        [*node.args, *(one.value for one in node.keywords)] if isinstance(node, ast.Call) else []
    )
    return all(isinstance(one, ast.Constant) and one.value is None for one in given)


def _exec(frame: Frame, node: ast.expr) -> Values:
    """Read the statements of a text that is executed, as a function that is called here."""
    try:
        body = ast.parse(_constant(node) or "").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return NOTHING
    for statement in body:
        for part in ast.walk(statement):
            ast.copy_location(part, node)
    nothing = ast.arguments([], [], None, [], [], None, [])
    function = ast.copy_location(ast.FunctionDef("exec", nothing, body, []), node)
    return frame.call(Function(function, frame.scope, "exec"), {}, node)


def _constant(node: ast.expr) -> str | None:
    """The text that is the first argument of a call, where it is one."""
    return lint_operators.folded(node.args[0]) if isinstance(node, ast.Call) and node.args else None


def _eval(frame: Frame, node: ast.expr) -> Values:
    """Read the text that is evaluated, as if it stood in the place of the call."""
    try:
        inner = ast.parse(_constant(node) or "", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return NOTHING
    for part in ast.walk(inner):
        ast.copy_location(part, node)
    return frame.evaluate(inner)


def _method_called(frame: Frame, name: str, values: Values, node: ast.expr) -> Values:
    found = NOTHING
    for atom in values:
        for method in attribute(frame, atom, name, node):
            found |= _call(frame, method, Args(), node, "")
    return found


# ---- What is not known -----------------------------------------------------------------------


def _unknown(frame: Frame, args: Args, node: ast.Call) -> Values:
    function, text = node.func, ast.unparse(node.func)
    short = text if len(text) <= 40 else f"{text[:37]}..."
    is_data = False
    if isinstance(function, ast.Attribute):
        is_data = function.attr in DATA_METHODS
        code = METHODS.get(function.attr)
        if function.attr == "astimezone" and not node.args and not node.keywords:
            code = "EDL305"
        if code:
            frame.report(code, node, f"{short}() {RULES[code].title}")
        elif not is_data:
            owner = ast.unparse(function.value)
            owner = owner if len(owner) <= 30 else f"{owner[:27]}..."
            frame.gap(node, f"{short}() is a method of {owner}, whose class is not known")
    elif isinstance(function, ast.Name):
        frame.gap(node, f"{short}() calls a value that is not known")
    else:
        frame.gap(node, f"{short}() calls what comes out of an expression")
    _hand_over(frame, "", args, node)
    if not is_data:
        for values in args.all:
            lint_order.take(frame, values, f"an argument of {short}()")
    return NOTHING
