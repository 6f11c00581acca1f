"""What operators, containers and texts make of values.

Absent: names, calls and everything that binds a name (`lint_expressions`).
"""

import ast
from collections.abc import Sequence

from edda_testkit import lint_order
from edda_testkit.lint_frames import Args, Frame
from edda_testkit.lint_rules import RULES
from edda_testkit.lint_values import (
    NOTHING,
    Bound,
    Function,
    Hashed,
    Instance,
    Known,
    Made,
    Many,
    Pending,
    Unordered,
    Values,
    inside,
)

__all__ = [
    "TEXTS",
    "as_text",
    "binary",
    "bool_",
    "choice",
    "compare",
    "dict_",
    "does_wait",
    "folded",
    "iterate",
    "many",
    "refuse_pending",
    "sequence",
    "set_",
    "subscript",
    "text",
    "truth",
    "unary",
    "yield_",
    "yield_from",
]

MAX_NESTING = 4  # of containers that are told apart
TEXTS = {
    "builtins.repr": ("__repr__",),
    "builtins.str": ("__str__", "__repr__"),
    "builtins.format": ("__format__", "__str__", "__repr__"),
}
ITERATING = frozenset(
    f"builtins.{name}"
    for name in "list tuple set frozenset enumerate zip map filter iter sum any all sorted".split()
)
COMPARING = frozenset(
    {"builtins.sorted", "builtins.min", "builtins.max"}
    | {f"heapq.{name}" for name in "heapify heappop heappush nlargest nsmallest merge".split()}
    | {f"bisect.{name}" for name in "bisect bisect_left bisect_right insort".split()}
)
# These call the special method of their name.
CALLING = frozenset(
    {f"builtins.{name}" for name in "len bool hash next".split()} | {"copy.copy", "copy.deepcopy"}
)
COMPARISONS = {
    ast.Eq: ("__eq__",),
    ast.NotEq: ("__ne__", "__eq__"),
    ast.Lt: ("__lt__", "__gt__"),
    ast.Gt: ("__gt__", "__lt__"),
    ast.LtE: ("__le__", "__ge__"),
    ast.GtE: ("__ge__", "__le__"),
}
OPERATORS = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "truediv",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
    ast.LShift: "lshift",
    ast.RShift: "rshift",
}
BITS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)


def dunder(frame: Frame, values: Values, names: Sequence[str], node: ast.expr) -> Values:
    """Follow the first of these special methods that each instance has."""
    found = NOTHING
    for atom in values:
        for name in names if isinstance(atom, Instance) else ():
            methods = [m for m in frame.attribute(atom, name, node) if isinstance(m, Bound)]
            for method in methods:
                found |= frame.analysis.invoke(frame, method, node)
            if methods:
                break
    return found


def call_dunders(frame: Frame, path: str, args: Args, node: ast.expr) -> None:
    """Follow the special methods that a builtin calls on its arguments."""
    first = args.positional[0] if args.positional else NOTHING
    if path in TEXTS:
        as_text(frame, first, TEXTS[path], node)
    elif path in COMPARING:
        dunder(frame, inside(first), ("__lt__", "__gt__"), node)
    elif path in CALLING:
        dunder(frame, first, (f"__{path.rpartition('.')[2]}__",), node)
    elif path in ITERATING or path.startswith("itertools."):
        for values in args.all:
            iterate(frame, values, node)


def iterate(frame: Frame, values: Values, node: ast.expr, *, is_async: bool = False) -> Values:
    """Follow what going through an instance calls; what it gives comes out as a container."""
    for atom in values:
        if isinstance(atom, Made) and atom.path == "builtins.generator@shared":
            frame.report("EDL010", node, "going through a global changes state that all share")
    first, then = ("__aiter__", "__anext__") if is_async else ("__iter__", "__next__")
    made = dunder(frame, values, (first,) if is_async else (first, "__getitem__"), node)
    return made | many(dunder(frame, made, (then,), node))


def truth(frame: Frame, values: Values, node: ast.expr) -> None:
    """Follow what a condition calls; an activity that nobody awaits is always true."""
    refuse_pending(frame, values, node)
    dunder(frame, values, ("__bool__", "__len__"), node)


def unary(frame: Frame, node: ast.UnaryOp) -> Values:
    values = frame.evaluate(node.operand)
    if isinstance(node.op, ast.Not):
        truth(frame, values, node)
    return NOTHING


def as_text(frame: Frame, values: Values, names: Sequence[str], node: ast.expr) -> None:
    """Follow what makes the text of an instance; the text of a bare object is its address."""
    for atom in values:
        if isinstance(atom, Made) and atom.path == "builtins.object()" and not frame.is_quiet:
            frame.report("EDL802", node, f"the text of an object {RULES['EDL802'].title}")
        if isinstance(atom, Function) and not frame.is_quiet:
            frame.report("EDL802", node, f"the text of a function {RULES['EDL802'].title}")
        if not isinstance(atom, Instance):
            continue
        cls = atom.cls.node
        is_plain = not (cls.bases or cls.decorator_list or cls.keywords)
        has_text = any(frame.attribute(atom, name, node) for name in names)
        if is_plain and not has_text and not frame.is_quiet:
            frame.report("EDL802", node, f"the text of a {cls.name} {RULES['EDL802'].title}")
        dunder(frame, frozenset({atom}), names, node)
    if held := inside(values):  # a container shows what it holds
        as_text(frame, held, TEXTS["builtins.repr"], node)


def refuse_pending(frame: Frame, values: Values, node: ast.expr) -> None:
    """Report an activity whose answer is used, and that nobody awaits."""
    for atom in values:
        if isinstance(atom, Pending):
            frame.report("EDL020", node, f"{atom.name}(): {RULES['EDL020'].title}")


# ---- Operators -------------------------------------------------------------------------------


def choice(frame: Frame, node: ast.IfExp) -> Values:
    truth(frame, frame.evaluate(node.test), node.test)
    return frame.evaluate(node.body) | frame.evaluate(node.orelse)


def bool_(frame: Frame, node: ast.BoolOp) -> Values:
    found = NOTHING
    for part in node.values:
        values = frame.evaluate(part)
        truth(frame, values, part)
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
    for n, op in enumerate(node.ops):
        if isinstance(op, ast.In | ast.NotIn):
            dunder(frame, worths[n + 1], ("__contains__", "__iter__"), node)
        elif type(op) in COMPARISONS:
            dunder(frame, worths[n] | worths[n + 1], COMPARISONS[type(op)], node)
    return NOTHING


def binary(frame: Frame, node: ast.BinOp) -> Values:
    left, right = frame.evaluate(node.left), frame.evaluate(node.right)
    both = left | right
    name = OPERATORS.get(type(node.op))
    if isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant | ast.JoinedStr):
        if not frame.is_quiet:
            lint_order.take_text(frame, right, node)
        as_text(frame, right | inside(right), TEXTS["builtins.str"], node)
        return NOTHING
    if name is not None and any(isinstance(atom, Instance) for atom in both):
        made = dunder(frame, left, (f"__{name}__",), node)
        return made | dunder(frame, right, (f"__r{name}__",), node)
    refuse_pending(frame, both, node)
    if isinstance(node.op, BITS) and (
        any(isinstance(atom, Unordered) for atom in both) or _is_view(node.left)
    ):
        is_fixed = left and right and both == {Unordered("numbers")}
        return frozenset({Unordered("numbers" if is_fixed else "anything")})
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
    named = _by_name(frame, node)
    if named is not None:
        return named
    values = frame.evaluate(node.value)
    refuse_pending(frame, values, node.value)
    frame.evaluate(node.slice)
    for atom in values:  # a defaultdict makes what is missing
        if isinstance(atom, Bound) and atom.target == Known("collections.defaultdict"):
            for maker in atom.args[0]:
                frame.analysis.invoke(frame, maker, node)
    lint_order.take(
        frame, frozenset(atom for atom in values if isinstance(atom, Hashed)), "an index"
    )
    dunder(frame, values, ("__missing__",), node)
    return inside(values) | dunder(frame, values, ("__getitem__",), node)


def _by_name(frame: Frame, node: ast.Subscript) -> Values | None:
    """What `vars(owner)["name"]` is worth, or `owner.__dict__["name"]`; None if it is neither."""
    name = folded(node.slice)
    match node.value:
        case ast.Attribute(value=owner, attr="__dict__") if name is not None:
            pass
        case ast.Call(func=ast.Name(id="vars"), args=[owner]) if name is not None:
            pass
        case _:
            return None
    values = frame.evaluate(owner)
    return NOTHING.union(*(frame.attribute(atom, name, node) for atom in values))


def text(frame: Frame, node: ast.JoinedStr) -> Values:
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            values = frame.evaluate(part.value)
            refuse_pending(frame, values, part.value)
            if not frame.is_quiet:
                lint_order.take_text(frame, values, part.value)
            names = TEXTS["builtins.repr" if part.conversion == ord("r") else "builtins.format"]
            as_text(frame, values, names, part.value)
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
            values = frame.evaluate(part.value)
            iterate(frame, values, part.value)
            order |= lint_order.ordered(frame, values, part.value)
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
    is_single = len(node.elts) == 1 and not isinstance(node.elts[0], ast.Starred)
    if all(map(lint_order.is_number, node.elts)):
        return frozenset({Unordered("numbers")})
    return frozenset({Unordered("one" if is_single else "anything")})


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


def folded(node: ast.expr) -> str | None:
    """The text of a constant, or of constants that are put together."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = folded(node.left), folded(node.right)
        return None if left is None or right is None else left + right
    return None
