"""What operators, containers and texts make of values.

Absent: names, calls and everything that binds a name (`lint_expressions`).
"""

import ast

from edda_testkit import lint_order
from edda_testkit.lint_frames import Frame
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_values import (
    NOTHING,
    Hashed,
    Made,
    Many,
    Pending,
    Unordered,
    Values,
    inside,
)

__all__ = [
    "binary",
    "bool_",
    "choice",
    "compare",
    "dict_",
    "does_wait",
    "many",
    "refuse_pending",
    "sequence",
    "set_",
    "subscript",
    "text",
    "yield_",
    "yield_from",
]

MAX_NESTING = 4  # of containers that are told apart
BITS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)


def refuse_pending(frame: Frame, values: Values, node: ast.expr) -> None:
    """Report an activity whose answer is used, and that nobody awaits."""
    for atom in values:
        if isinstance(atom, Pending):
            frame.report("EDL020", node, f"{atom.name}(): {RULES['EDL020'].title}")


# ---- Operators -------------------------------------------------------------------------------


def choice(frame: Frame, node: ast.IfExp) -> Values:
    refuse_pending(frame, frame.evaluate(node.test), node.test)
    return frame.evaluate(node.body) | frame.evaluate(node.orelse)


def bool_(frame: Frame, node: ast.BoolOp) -> Values:
    found = NOTHING
    for part in node.values:
        values = frame.evaluate(part)
        refuse_pending(frame, values, part)
        found |= values
    return found


def compare(frame: Frame, node: ast.Compare) -> Values:
    parts = [node.left, *node.comparators]
    worths = [frame.evaluate(part) for part in parts]
    for part, values in zip(parts, worths, strict=True):
        refuse_pending(frame, values, part)
    if any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
        for values in worths:
            lint_order.take(frame, values, "a comparison of lists")
    return NOTHING


def binary(frame: Frame, node: ast.BinOp) -> Values:
    left, right = frame.evaluate(node.left), frame.evaluate(node.right)
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


def subscript(frame: Frame, node: ast.Subscript) -> Values:
    values = frame.evaluate(node.value)
    refuse_pending(frame, values, node.value)
    frame.evaluate(node.slice)
    lint_order.take(
        frame, frozenset(atom for atom in values if isinstance(atom, Hashed)), "an index"
    )
    return inside(values)


def text(frame: Frame, node: ast.JoinedStr) -> Values:
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            values = frame.evaluate(part.value)
            refuse_pending(frame, values, part.value)
            if not frame.is_quiet:
                lint_order.take_text(frame, values, part.value)
            if part.format_spec is not None:
                frame.evaluate(part.format_spec)
    return NOTHING


def yield_(frame: Frame, node: ast.Yield) -> Values:
    if node.value is not None:
        values = frame.evaluate(node.value)
        if values:
            frame.summary.returns |= {Many(values)}
    return NOTHING


def yield_from(frame: Frame, node: ast.YieldFrom) -> Values:
    values = frame.evaluate(node.value)
    frame.summary.returns |= lint_order.ordered(frame, values, node.value)
    return NOTHING


# ---- Containers and comprehensions -----------------------------------------------------------


def sequence(frame: Frame, node: ast.List | ast.Tuple) -> Values:
    held, order = NOTHING, NOTHING
    for part in node.elts:
        if isinstance(part, ast.Starred):
            order |= lint_order.ordered(frame, frame.evaluate(part.value), part.value)
        else:
            held |= frame.evaluate(part)
    return order | many(held)


def many(held: Values) -> Values:
    """A container that holds these; one nested too deeply is not told apart."""
    kept = held
    for atom in held:
        if isinstance(atom, Many) and _nesting(atom) >= MAX_NESTING:
            kept = kept.difference({atom})
    return frozenset({Many(kept)}) if kept else NOTHING


def _nesting(atom: Many) -> int:
    return 1 + max((_nesting(one) for one in atom.values if isinstance(one, Many)), default=0)


def set_(frame: Frame, node: ast.Set) -> Values:
    for part in node.elts:
        frame.evaluate(part.value if isinstance(part, ast.Starred) else part)
    constants = [part.value for part in node.elts if isinstance(part, ast.Constant)]
    return frozenset({Unordered(any(isinstance(one, float) for one in constants))})


def dict_(frame: Frame, node: ast.Dict) -> Values:
    held, order = NOTHING, NOTHING
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            order |= lint_order.ordered(frame, frame.evaluate(value), value, is_dict=True)
        else:
            frame.evaluate(key)
            held |= frame.evaluate(value)
    return order | many(held)


def does_wait(node: ast.expr) -> bool:
    return any(isinstance(one, ast.Await) for one in ast.walk(node))
