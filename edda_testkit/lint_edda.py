"""What calls of Edda itself mean: decorators, waits, and what does not belong into a workflow."""

import ast
from collections.abc import Iterator

from edda_testkit import lint_order
from edda_testkit.lint_frames import Args, Frame
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_tables import MUTATORS
from edda_testkit.lint_values import NOTHING, Context, Function, Known, Made, Step, Values

__all__ = ["edda_call", "tell_changed"]

ROLES = {"activity": "activity", "compensation": "activity", "on_failure": "activity"}


def edda_call(frame: Frame, path: str, args: Args, node: ast.expr) -> Values:
    """What a call of Edda does in a workflow, and what must not be called there."""
    name = path.rpartition(".")[2]
    if path == "edda.ctx.now":
        return frozenset({Made("datetime.datetime")})
    if path == "edda.activity.fn":
        frame.report("EDL021", node, RULES["EDL021"].title)
    elif path == "edda.workflow.start":
        first = args.positional[0] if args.positional else NOTHING
        is_named = isinstance(node, ast.Call) and [ast.unparse(a) for a in node.args[:1]] == ["ctx"]
        if not is_named and not any(isinstance(atom, Context) for atom in first):
            frame.report("EDL022", node, RULES["EDL022"].title)
    elif ".EddaApp." in path:
        frame.report("EDL023", node, f"{name}() of {RULES['EDL023'].title}")
    elif name == "workflow" or name in ROLES:
        functions = [a for values in args.positional for a in values if isinstance(a, Function)]
        for function in functions:
            if name == "workflow":
                frame.analysis.roots.setdefault(function.node, function)
        if functions:
            return frozenset(Step(one, ROLES.get(name, "workflow")) for one in functions)
        return frozenset({Known(path)}) if not args.positional else NOTHING
    elif name == "EddaApp":
        return frozenset({Made("edda.EddaApp")})
    else:
        for values in args.all:
            lint_order.take(frame, values, f"an argument of {name}()")
        return frozenset({Made(f"{path}()")})
    return NOTHING


def tell_changed(frame: Frame, node: ast.Name) -> None:
    """Report a global that a workflow reads and an activity of the same file changes."""
    changes = frame.analysis.changes
    if frame.source not in changes:
        changes[frame.source] = dict(_changed_by_activities(frame.source.tree))
    by = changes[frame.source].get(node.id)
    if by is not None and not frame.is_logged:
        frame.report(
            "EDL010", node, f"{node.id} is shared by all, and the activity {by} changes it"
        )


def _changed_by_activities(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The variables of a module that its activities change, and by which of them."""
    variables = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for function in tree.body if variables else ():
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        names = [ast.unparse(each).partition("(")[0] for each in function.decorator_list]
        if not any(name.rpartition(".")[2] == "activity" for name in names):
            continue
        parts = list(ast.walk(function))
        taken = {name for part in parts if isinstance(part, ast.Global) for name in part.names}
        own = {part.arg for part in parts if isinstance(part, ast.arg)} | {
            part.id
            for part in parts
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        }
        for part in parts:
            match part:
                case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                    changed = {name} - own
                case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                    changed = {name} - own
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)):
                    changed = {name} - own if attr in MUTATORS else set()
                case ast.Name(id=name, ctx=ast.Store()):
                    changed = {name} & taken
                case _:
                    continue
            for name in changed & variables:
                yield name, function.name
