"""What calls of Edda itself mean: decorators, waits, and what does not belong into a workflow."""

import ast

from edda_testkit import lint_order
from edda_testkit.lint_frames import Args, Frame
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_values import NOTHING, Context, Function, Known, Made, Step, Values

__all__ = ["edda_call"]

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
