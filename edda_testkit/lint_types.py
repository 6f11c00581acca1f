"""What annotations, classes and values made at import are worth.

Absent: names of functions and modules, and attributes (`lint_names`).
"""

import ast
from collections.abc import Iterator
from dataclasses import replace

from edda_testkit.lint_frames import Analysis
from edda_testkit.lint_hazards import WAITED_ON
from edda_testkit.lint_rules import AT_IMPORT, RULES, TOLD_AT_IMPORT
from edda_testkit.lint_sources import statements
from edda_testkit.lint_tables import CONTAINERS
from edda_testkit.lint_values import (
    NOTHING,
    Atom,
    Class,
    Context,
    Function,
    Instance,
    Known,
    Made,
    Many,
    Scope,
    Shared,
    Stale,
    Unordered,
    Values,
)

__all__ = ["annotated", "at_import", "is_generator", "lineage", "member", "values_of"]

SETS = frozenset(
    {"builtins.set", "builtins.frozenset"}
    | {f"typing.{name}" for name in "Set FrozenSet AbstractSet MutableSet".split()}
    | {f"collections.abc.{name}" for name in "Set MutableSet".split()}
)
TRANSPARENT = frozenset(
    f"typing.{name}" for name in "Optional Union Annotated Final ClassVar Required".split()
)
SHARED_WHEN_GLOBAL = WAITED_ON | {"random.Random", "random.Random@unseeded", "itertools.count"}
DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CONVERSIONS = frozenset(f"builtins.{name}" for name in "str int float bool round abs len".split())


# ---- At import -----


def at_import(analysis: Analysis, scope: Scope, value: ast.expr, name: str) -> Values:
    """What a value is worth that is made at import, and shared from then on."""
    stale = _made_at_import(analysis, scope, value)
    return stale | _shared(values_of(analysis, scope, value), value, analysis, scope, name)


def _shared(found: Values, value: ast.expr, analysis: Analysis, scope: Scope, name: str) -> Values:
    """What a value is to code that shares it with every other instance."""
    kinds: set[Atom] = set()
    for atom in found:
        if isinstance(atom, Made) and atom.path in SHARED_WHEN_GLOBAL:
            kinds.add(Made(f"{atom.path.partition('@')[0]}@shared"))
            continue
        if isinstance(atom, Instance):
            kinds.update((replace(atom, is_shared=True), Shared(name, is_container=False)))
            continue
        kinds.add(atom)
    is_container = isinstance(value, DISPLAYS)
    if isinstance(value, ast.Call):
        makers = values_of(analysis, scope, value.func)
        is_container = any(isinstance(one, Known) and one.path in CONTAINERS for one in makers)
    if scope.parent is None and is_generator(analysis, scope, value):
        kinds.add(Made("builtins.generator@shared"))
    if is_container:
        kinds.add(Shared(name, is_container=True))
    return frozenset(kinds)


def is_generator(analysis: Analysis, scope: Scope, node: ast.expr) -> bool:
    """Whether an expression makes a generator: something that can be gone through once."""
    if isinstance(node, ast.GeneratorExp):
        return True
    made = values_of(analysis, scope, node.func) if isinstance(node, ast.Call) else NOTHING
    functions = [atom.node for atom in made if isinstance(atom, Function)]
    return any(
        isinstance(part, ast.Yield | ast.YieldFrom)
        for function in functions
        if isinstance(function, ast.FunctionDef)
        for part in ast.walk(function)
    )


def _made_at_import(analysis: Analysis, scope: Scope, node: ast.expr) -> Values:
    """Whether a global holds what a clock, a generator or the environment said at import."""
    from_ = _parts_of_value(analysis, scope, node)
    found: set[Atom] = set()
    for part in from_:
        code, what = analysis.judge(scope, part)
        is_told = RULES[code].category != "process" or code in TOLD_AT_IMPORT if code else False
        if is_told and RULES[code].category in AT_IMPORT:
            last = part.end_lineno or part.lineno
            if analysis.is_allowed(RULES[code], scope.source, part.lineno, last):
                continue
            found.add(Stale(AT_IMPORT[RULES[code].category], what, part.lineno))
    return frozenset(found)


def _parts_of_value(analysis: Analysis, scope: Scope, node: ast.expr) -> Iterator[ast.expr]:
    """The calls and attributes that a value consists of, through conversions and operators."""
    if isinstance(node, ast.Call):
        yield node
        if isinstance(node.func, ast.Attribute):
            yield from _parts_of_value(analysis, scope, node.func.value)
        callee = values_of(analysis, scope, node.func)
        if any(isinstance(atom, Known) and atom.path in CONVERSIONS for atom in callee):
            for argument in node.args:
                yield from _parts_of_value(analysis, scope, argument)
    elif isinstance(node, ast.Name):
        yield node
    elif isinstance(node, ast.Attribute | ast.Subscript):
        yield node
        yield from _parts_of_value(analysis, scope, node.value)
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.IfExp | ast.Compare | ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from _parts_of_value(analysis, scope, child)
    elif isinstance(node, ast.Dict | ast.List | ast.Tuple):
        held = node.values if isinstance(node, ast.Dict) else node.elts
        for child in held:
            yield from _parts_of_value(analysis, scope, child)
    elif isinstance(node, ast.ListComp | ast.GeneratorExp):
        yield from _parts_of_value(analysis, scope, node.elt)
    elif isinstance(node, ast.FormattedValue | ast.UnaryOp):
        inner = node.value if isinstance(node, ast.FormattedValue) else node.operand
        yield from _parts_of_value(analysis, scope, inner)


def values_of(analysis: Analysis, scope: Scope, node: ast.AST) -> Values:
    """What an expression or a definition is worth that is evaluated at import."""
    try:
        return analysis.value(scope, node)
    except RecursionError:
        return NOTHING


# ---- Classes ---------------------------------------------------------------------------------


def member(analysis: Analysis, cls: Class, name: str, after: Class | None = None) -> Values:
    """What an attribute of a class or its instances is worth, up the line of its bases."""
    line = list(lineage(analysis, cls))
    if after is not None:
        line = line[line.index(after) + 1 :] if after in line else line[1:]
    found = NOTHING
    for one in line:
        if isinstance(one, Known):
            found |= frozenset({Known(f"{one.path}.{name}")})
            continue
        found |= one.attributes.get(name, NOTHING)
        nodes = [node for node in statements(one.node.body) if name in _bound_by(node)]
        for node in nodes:
            found |= _member(analysis, one, node)
        if nodes:
            break
    return found


def lineage(analysis: Analysis, cls: Class, depth: int = 0) -> Iterator[Class | Known]:
    """A class and its bases, nearest first."""
    yield cls
    for base in cls.node.bases if depth < 20 else ():
        plain = base.value if isinstance(base, ast.Subscript) else base
        for atom in values_of(analysis, cls.scope, plain):
            if isinstance(atom, Class) and atom.node is not cls.node:
                yield from lineage(analysis, atom, depth + 1)
            elif isinstance(atom, Known):
                yield atom


def _is_data(analysis: Analysis, cls: Class) -> bool:
    """Whether a class looks like a dataclass or a model: decorated, or with a base elsewhere."""
    line = list(lineage(analysis, cls))
    return any(isinstance(one, Known) or one.node.decorator_list for one in line)


def _bound_by(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                yield target.id


def _member(analysis: Analysis, cls: Class, node: ast.stmt) -> Values:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        found = NOTHING
        if isinstance(node, ast.AnnAssign):
            found |= annotated(analysis, cls.scope, node.annotation)
        if node.value is not None:
            name = f"{cls.name}.{next(_bound_by(node), '')}"
            found |= at_import(analysis, cls.scope, node.value, name)
            is_field = isinstance(node, ast.AnnAssign) and _is_data(analysis, cls)
            if is_field:  # a dataclass copies it, or refuses it
                found = frozenset(atom for atom in found if not isinstance(atom, Shared))
        return found
    return frozenset(
        Function(atom.node, atom.scope, f"{cls.name}.{atom.name}", atom.role, cls)
        if isinstance(atom, Function) and atom.owner is None and atom.node is node
        else atom
        for atom in values_of(analysis, cls.scope, node)
    )


# ---- Annotations -----------------------------------------------------------------------------


def annotated(analysis: Analysis, scope: Scope, node: ast.expr | None, depth: int = 0) -> Values:
    """What a value of this type is worth."""
    if node is None or depth > 8:
        return NOTHING
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return NOTHING
        return annotated(analysis, scope, node, depth + 1)
    if isinstance(node, ast.BinOp):
        left = annotated(analysis, scope, node.left, depth + 1)
        return left | annotated(analysis, scope, node.right, depth + 1)
    if isinstance(node, ast.Subscript):
        return _subscripted(analysis, scope, node, depth)
    found: set[Atom] = set()
    for atom in values_of(analysis, scope, node) if _is_dotted(node) else ():
        match atom:
            case Class():
                found.add(Instance(atom))
            case Known(path) if path in SETS:
                found.add(Unordered())
            case Known(path) if path.startswith("edda.") and path.endswith(".WorkflowContext"):
                found.add(Context())
            case Known(path) if not path.startswith(("builtins.", "typing.", "collections.")):
                found.add(Made(path))
    return frozenset(found)


def _subscripted(analysis: Analysis, scope: Scope, node: ast.Subscript, depth: int) -> Values:
    arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    outer = values_of(analysis, scope, node.value) if _is_dotted(node.value) else NOTHING
    paths = {atom.path for atom in outer if isinstance(atom, Known)}
    if paths & SETS:
        is_number = ast.unparse(node.slice) in {"int", "float", "bool"}
        return frozenset({Unordered("numbers" if is_number else "anything")})
    found = NOTHING
    if paths & TRANSPARENT:
        for argument in arguments:
            found |= annotated(analysis, scope, argument, depth + 1)
    elif paths & {"builtins.list", "builtins.dict", "builtins.tuple", "typing.List", "typing.Dict"}:
        for argument in arguments:
            found |= annotated(analysis, scope, argument, depth + 1)
        return frozenset({Many(found)}) if found else NOTHING
    elif outer:
        return annotated(analysis, scope, node.value, depth + 1)
    return found


def _is_dotted(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)
