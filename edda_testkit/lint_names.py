"""What names and attributes mean, across the modules of a project.

Nothing is imported: a name is followed through assignments, imports and re-exports to the
definition or to the dotted path of somebody else's module. Absent: what calls do.
"""

import ast

from edda_testkit.lint_frames import Analysis, Frame
from edda_testkit.lint_hazards import READS, rule_of
from edda_testkit.lint_hooks import metaclasses
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_sources import Binding, Source, Unreadable
from edda_testkit.lint_tables import BUILTINS, RETURNS, same_name
from edda_testkit.lint_types import annotated, at_import, member, values_of
from edda_testkit.lint_values import (
    NOTHING,
    Atom,
    Bound,
    Class,
    Context,
    Function,
    Instance,
    Known,
    Made,
    Module,
    Scope,
    Stale,
    Step,
    Values,
)

__all__ = ["attribute", "global_values", "imported", "look_up", "tell_stale"]


# ---- Names -----------------------------------------------------------------------------------


def look_up(frame: Frame, name: str) -> Values:
    """What a name means at this point of a function."""
    if name in frame.names and name not in frame.globals:
        return frame.names[name]
    scope: Scope | None = frame.function.scope
    while scope is not None and scope.parent is not None and name not in frame.globals:
        if name in scope.names:
            return scope.names[name]
        scope = scope.parent
    return global_values(frame.analysis, frame.source, name)


def global_values(analysis: Analysis, source: Source, name: str) -> Values:
    """What a name of a module means."""
    key = source, name
    if key not in analysis.globals:
        analysis.globals[key] = NOTHING  # a definition that leads back to itself
        analysis.globals[key] = _global_values(analysis, source, name)
    return analysis.globals[key]


def _global_values(analysis: Analysis, source: Source, name: str) -> Values:
    try:
        bindings = source.bindings.get(name, [])
    except Unreadable:
        return NOTHING
    found = NOTHING
    for binding in bindings:
        if binding.module or binding.level:
            found |= imported(analysis, source, binding)
        elif binding.node is not None:
            found |= _defined(analysis, source, name, binding.node)
    if bindings:
        return found
    for star in source.stars:
        taken = imported(analysis, source, Binding(None, star.module, name, star.level))
        if name not in BUILTINS or not all(isinstance(atom, Known) for atom in taken):
            found |= taken
    if found:
        return found
    return frozenset({Known(f"builtins.{name}")}) if name in BUILTINS else NOTHING


def imported(analysis: Analysis, source: Source, binding: Binding) -> Values:
    """What an import gets: a module, or a name of one."""
    project = analysis.project
    if binding.level:
        module = project.find_relative(binding.module, binding.level, source)
        nested = f"{binding.module}.{binding.name}".lstrip(".")
        submodule = project.find_relative(nested, binding.level, source)
    else:
        module = project.find(binding.module, source)
        nested = f"{binding.module}.{binding.name}"
        submodule = project.find(nested, source) if binding.name else None
    if module is not None:
        if not binding.name:
            return frozenset({Module(module)})
        if found := global_values(analysis, module, binding.name):
            return found
    if submodule:
        return frozenset({Module(submodule)})
    if module is not None:
        return NOTHING
    path = f"{binding.module}.{binding.name}" if binding.name else binding.module
    return frozenset({Known(same_name(path))})


def _names(source: Source) -> dict[str, list[Binding]]:
    try:
        return source.bindings
    except Unreadable:
        return {}


def _defined(analysis: Analysis, source: Source, name: str, node: ast.AST) -> Values:
    """What a statement of a module binds a name to."""
    scope = analysis.scope(source)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return values_of(analysis, scope, node)
    value = getattr(node, "value", None)
    if value is None:
        return NOTHING
    found = at_import(analysis, scope, value, name)
    if isinstance(node, ast.AnnAssign) and not found:
        found = annotated(analysis, scope, node.annotation)
    return found


# ---- Attributes ------------------------------------------------------------------------------


def attribute(frame: Frame, atom: Atom, name: str, node: ast.expr) -> Values:
    """What an attribute is worth; reading some is a finding in itself."""
    match atom:
        case Known(path):
            return _of_known(frame, path, name, node)
        case Made(path):
            full = f"{path}.{name}"
            if path.endswith("@naive") and rule_of(full) is None:
                full = f"{path.removesuffix('@naive')}.{name}"
            if name in {"parent", "parents"} and full in RETURNS:
                return frozenset({Made(RETURNS[full])})
            return frozenset({Known(full)})
        case Module(source):
            found = global_values(frame.analysis, source, name)
            if not found and name not in _names(source):
                inner = frame.analysis.project.find_relative(name, 1, source)
                is_package = source.path.name == "__init__.py"
                return frozenset({Module(inner)}) if inner and is_package else NOTHING
            return tell_stale(frame, found, node, name)
        case Instance(cls, after):
            members = member(frame.analysis, cls, name, after)
            if not members and not name.startswith("__"):
                for method in attribute(frame, atom, "__getattr__", node):
                    members |= frame.analysis.invoke(frame, method, node)
            return _of_instance(frame, atom, members, node, name)
        case Class():
            members = member(frame.analysis, atom, name) or _of_meta(frame, atom, name, node)
            members = frozenset(_of_class(atom, found) for found in members)
            return tell_stale(frame, members, node, f"{atom.name}.{name}")
        case Step(function, role):
            return _of_step(function, role, name)
        case Context():
            return frozenset({Known(f"edda.ctx.{name}")})
    return NOTHING


def _of_meta(frame: Frame, cls: Class, name: str, node: ast.expr) -> Values:
    """What a class has from its metaclass."""
    found = NOTHING
    for meta in metaclasses(frame.analysis, cls):
        for atom in member(frame.analysis, meta, name):
            if isinstance(atom, Function):
                bound = Bound(atom, (frozenset({cls}),))
                is_read = atom.role == "property"
                found |= frame.analysis.invoke(frame, bound, node) if is_read else {bound}
    return found


def tell_stale(frame: Frame, values: Values, node: ast.expr, name: str) -> Values:
    """Report a global that was made at import, where it is read."""
    stale = [atom for atom in values if isinstance(atom, Stale)]
    for atom in () if frame.is_logged else stale:
        title = RULES[atom.code].title
        frame.report(atom.code, node, f"{name} (line {atom.line}: {atom.what}) {title}")
    return values.difference(stale)


def _of_known(frame: Frame, path: str, name: str, node: ast.expr) -> Values:
    full = same_name(f"{path}.{name}")
    if full in READS:
        frame.report(READS[full], node, f"{full} {RULES[READS[full]].title}")
        return NOTHING
    found = frame.analysis.project.find(full, frame.source)
    return frozenset({Module(found) if found is not None else Known(full)})


def _of_instance(
    frame: Frame, instance: Instance, members: Values, node: ast.expr, name: str
) -> Values:
    self = Instance(instance.cls, is_shared=instance.is_shared)
    found: set[Atom] = set()
    for atom in members:
        if (
            isinstance(atom, Known)
            and instance.is_shared
            and atom.path.startswith("random.Random.")
        ):
            found.add(Known(f"random.Random@shared.{atom.path.rpartition('.')[2]}"))
        elif not isinstance(atom, Function) or atom.owner is None or atom.role == "staticmethod":
            found.add(atom)
        elif atom.role == "classmethod":
            found.add(Bound(atom, (frozenset({instance.cls}),)))
        else:
            found.add(Bound(atom, (frozenset({self}),)))
    for descriptor in [one for one in found if isinstance(one, Instance)]:
        for method in attribute(frame, descriptor, "__get__", node):
            found |= frame.analysis.invoke(frame, method, node)
    properties = [a for a in found if isinstance(a, Bound) and _role(a.target) == "property"]
    for getter in properties:
        found.discard(getter)
        found |= frame.analysis.invoke(frame, getter, node)
    return tell_stale(frame, frozenset(found), node, name)


def _role(atom: Atom) -> str:
    return atom.role if isinstance(atom, Function) else ""


def _of_class(cls: Class, atom: Atom) -> Atom:
    if isinstance(atom, Function) and atom.role == "classmethod" and atom.owner is not None:
        return Bound(atom, (frozenset({cls}),))
    return atom


def _of_step(function: Function | None, role: str, name: str) -> Values:
    if name in {"fn", "__wrapped__"}:
        if role == "workflow" and function is not None:
            return frozenset({function})
        return frozenset({Known(f"edda.{role}.fn")})
    if role == "workflow" and name in {"start", "run"}:
        return frozenset({Known(f"edda.workflow.{name}")})
    return NOTHING
