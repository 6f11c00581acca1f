"""Where the order of a set is taken, and whether it comes to matter.

A set has no order that another process would share. Asking its length, or sorting it, is clean.
A list made from it carries its order along (`Hashed`): clean if it is sorted after all, a finding
once the order reaches a loop with effects, a text, an activity or the result.
"""

import ast
from collections.abc import Iterator

from edda_testkit.lint_frames import Args, Frame
from edda_testkit.lint_tables import MUTATORS
from edda_testkit.lint_values import (
    NOTHING,
    Atom,
    Bound,
    Function,
    Hashed,
    Instance,
    Known,
    Made,
    Many,
    Shared,
    Unordered,
    Values,
    inside,
)
from edda_testkit.order_free import drains_freely

__all__ = [
    "builtin",
    "deep",
    "is_number",
    "method",
    "ordered",
    "take",
    "take_iteration",
    "take_numbers",
    "take_text",
]

SETS = frozenset({"builtins.set", "builtins.frozenset", "weakref.WeakSet"})
# These take the order of their arguments over into what they make.
SEQUENCES = frozenset(
    {f"builtins.{name}" for name in "list tuple enumerate zip map filter iter reversed".split()}
    | {"collections.deque", "functools.reduce", "heapq.nlargest", "builtins.aiter"}
)
DICTS = frozenset(
    {"builtins.dict", "builtins.dict.fromkeys"}
    | {f"collections.{name}" for name in "Counter OrderedDict defaultdict ChainMap".split()}
)
# The order of their argument makes no difference to these.
FREE = frozenset(
    {f"builtins.{name}" for name in "len min max sum any all bool isinstance print type".split()}
    | {"math.fsum", "copy.copy", "copy.deepcopy", "builtins.hash", "builtins.id"}
    | {f"heapq.{name}" for name in "nsmallest nlargest heapify".split()}
)
# After these it matters how often, and in which order, others did the same.
ORDERED_MUTATORS = frozenset("append appendleft extend insert pop popitem popleft rotate".split())
TEXTS = frozenset({"builtins.str", "builtins.repr", "builtins.format", "builtins.ascii"})
SET_METHODS = frozenset("union intersection difference symmetric_difference copy".split())
CALLABLE = (Function, Bound, Known, Hashed)


def deep(values: Values) -> Iterator[Atom]:
    """The atoms, and those that containers among them hold."""
    for atom in values:
        yield atom
        if isinstance(atom, Many):
            yield from deep(atom.values)


def take(frame: Frame, values: Values, used: str, *, dicts: bool = False) -> None:
    """The order of these matters: report each whose order is that of a set."""
    for atom in deep(values):
        if isinstance(atom, Hashed) and (dicts or not atom.is_dict):
            frame.report_order(atom, used=used)


def take_iteration(frame: Frame, values: Values, node: ast.expr, used: str) -> None:
    """The order in which these are iterated matters."""
    if any(_is_open(atom) for atom in values):
        frame.report_order(Hashed(frame.place(node), is_dict=False), used=used)
    for atom in values:
        if isinstance(atom, Hashed):
            frame.report_order(atom, used=used)


def ordered(frame: Frame, values: Values, node: ast.expr, *, is_dict: bool = False) -> Values:
    """What a list (or dictionary) made from these is worth."""
    found: set[Atom] = set()
    for atom in values:
        if _is_open(atom):
            found.add(Hashed(frame.place(node), is_dict))
        elif isinstance(atom, Hashed):
            found.add(Hashed(atom.place, is_dict, atom.chain))
        elif isinstance(atom, Many):
            found.add(atom)
    return frozenset(found)


def _is_open(atom: Atom) -> bool:
    """Whether this is a set whose order nobody knows, or an instance of a class made of one."""
    if isinstance(atom, Instance):
        bases = [
            base.value if isinstance(base, ast.Subscript) else base for base in atom.cls.node.bases
        ]
        is_set = any(
            isinstance(base, ast.Name) and base.id in {"set", "frozenset"} for base in bases
        )
        return is_set and not any(
            isinstance(node, ast.FunctionDef) and node.name == "__iter__"
            for node in atom.cls.node.body
        )
    return isinstance(atom, Unordered) and not atom.is_stable


def is_number(node: ast.expr) -> bool:
    """Whether this is a number in the code, or a display of numbers: their hashes are fixed."""
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return all(is_number(part) for part in node.elts)
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "range"
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float | complex)


# ---- Functions and methods that care, or do not ----------------------------------------------


def builtin(frame: Frame, path: str, args: Args, node: ast.Call) -> Values | None:
    """What a function of the standard library makes of sets; None if it is none that matters."""
    first = args.positional[0] if args.positional else NOTHING
    if path in SETS:
        if sets := {atom for atom in first if isinstance(atom, Unordered)}:
            return frozenset(sets)
        is_fixed = not node.args or is_number(node.args[0])
        return frozenset({Unordered("numbers" if is_fixed else "anything")})
    if path in {"builtins.sorted", "builtins.min", "builtins.max"}:
        keys = [one.value for one in node.keywords if one.arg == "key"]
        if any(isinstance(one, ast.Name) and one.id == "len" for one in keys):
            name = path.rpartition(".")[2]
            take_iteration(frame, first, node, f"{name}(key=len) of things of one length")
    if path == "builtins.sorted":
        return frozenset(atom for atom in first if isinstance(atom, Many))
    if path in FREE:
        return first if path.startswith("copy.") else NOTHING
    if path in SEQUENCES or path.startswith("itertools."):
        values = NOTHING.union(*args.all) if args.all else NOTHING
        return ordered(frame, values, node) or None
    if path in DICTS and node.args:
        take_numbers(frame, first, node.args[0])
    if path in DICTS:
        return ordered(frame, first, node, is_dict=True) or None
    if path == "builtins.next":
        if any(isinstance(atom, Made) and atom.path.endswith("@shared") for atom in first):
            frame.report("EDL010", node, "next() of a global changes state that all share")
        take_iteration(frame, first, node, "next()")
        return inside(first)
    if path in TEXTS:
        take_text(frame, first, node)
        return NOTHING
    if path == "asyncio.all_tasks":
        return frozenset({Unordered()})
    if path == "pickle.dumps":
        _take_sets(frame, first, node, "pickled text")
    if path in {"json.dumps", "json.dump", "orjson.dumps"}:
        makers = [ast.unparse(key.value) for key in node.keywords if key.arg == "default"]
        if makers and not any("sorted" in maker for maker in makers):
            _take_sets(frame, first, node, "JSON text")
        is_sorted = any(key.arg == "sort_keys" for key in node.keywords)
        take(frame, first, "JSON text", dicts=not is_sorted)
        return NOTHING
    return None


def _take_sets(frame: Frame, values: Values, node: ast.expr, used: str) -> None:
    """The order of the sets among these shows in what is made of them."""
    if any(_is_open(atom) for atom in deep(values)):
        frame.report_order(Hashed(frame.place(node), is_dict=False), used=used)


def take_numbers(frame: Frame, values: Values, source: ast.expr) -> None:
    """A dictionary of what `zip()` or `enumerate()` pairs: what is in it depends on the order."""
    if isinstance(source, ast.Call) and ast.unparse(source.func) in {"zip", "enumerate"}:
        take(frame, values, "numbering")


def take_text(frame: Frame, values: Values, node: ast.expr) -> None:
    """The order of these shows in a text that is made from them."""
    if any(_is_open(atom) for atom in values):
        frame.report_order(Hashed(frame.place(node), is_dict=False), used="the text of a set")
    take(frame, values, "text", dicts=True)


def method(frame: Frame, receiver: Values, name: str, args: Args, node: ast.Call) -> Values | None:
    """What a method of a set, or of something in its order, does; None if it is neither."""
    assert isinstance(node.func, ast.Attribute)
    target = node.func.value
    _mutate(frame, receiver, name, args, node)
    if name == "join" and args.positional and not any(isinstance(a, Known) for a in receiver):
        take_iteration(frame, args.positional[0], node.args[0], "join()")
        return NOTHING
    found: Values | None = None
    for atom in receiver:
        made: Values | None = None
        if isinstance(atom, Made) and atom.path == "random.Random@unseeded":
            _draw(frame, atom, name, node)
        if isinstance(atom, Unordered):
            made = frozenset({atom}) if name in SET_METHODS else NOTHING
            if name in SET_METHODS and args.positional:
                made = frozenset({Unordered()})
            if (
                name == "pop"
                and not atom.is_stable
                and not drains_freely(node, frame.function.node)
            ):
                frame.report_order(Hashed(frame.place(node), is_dict=False), used="pop() of a set")
        elif isinstance(atom, Hashed):
            made = _of_hashed(frame, atom, name, target)
        elif isinstance(atom, Many):
            made = frozenset({atom}) if name in {"copy", "items", "values"} else atom.values
            made = NOTHING if name in {"index", "count"} else made
        if made is not None:
            found = made if found is None else found | made
    return found


def _draw(frame: Frame, generator: Made, name: str, node: ast.Call) -> None:
    """A generator without a seed draws; one that is given a seed or a state is clean."""
    assert isinstance(node.func, ast.Attribute)
    target = node.func.value
    if name in {"seed", "setstate"} and node.args:
        if isinstance(target, ast.Name) and target.id in frame.names:
            kept = frame.names[target.id].difference({generator})
            frame.bind(target.id, kept | {Made("random.Random")})
        return
    frame.report("EDL202", node, f"{name}() of a random.Random() without a seed")
    if generator.place is not None:
        frame.report_at("EDL202", generator.place, "this random.Random() has no seed, and")


def _of_hashed(frame: Frame, atom: Hashed, name: str, target: ast.expr) -> Values:
    if name == "sort" and isinstance(target, ast.Name) and target.id in frame.names:
        kept = frame.names[target.id]
        frame.bind(target.id, frozenset(one for one in kept if not isinstance(one, Hashed)))
    elif atom.is_dict and name in {"items", "keys", "values"}:
        return frozenset({Hashed(atom.place, is_dict=False, chain=atom.chain)})
    elif name in {"popitem", "index", "popleft", "most_common"} or (
        name == "pop" and not atom.is_dict
    ):
        frame.report_order(atom, used=f"{name}()")
    elif name == "copy":
        return frozenset({atom})
    return NOTHING


def _mutate(frame: Frame, receiver: Values, name: str, args: Args, node: ast.Call) -> None:
    """A container takes something in; one that is shared is changed for all."""
    if name not in MUTATORS:
        return
    for atom in receiver:
        if isinstance(atom, Shared) and atom.is_container:
            frame.report_shared(node, f"{atom.name}.{name}()")
    assert isinstance(node.func, ast.Attribute)
    target = node.func.value
    kept: Values = frozenset(
        a for values in args.all for a in values if isinstance(a, (*CALLABLE, Many))
    )
    if name in {"extend", "extendleft"}:
        kept |= NOTHING.union(*(ordered(frame, values, node) for values in args.positional))
    if isinstance(target, ast.Name) and target.id in frame.names:
        frame.bind(target.id, _grown(frame.names[target.id], name, node))
    if isinstance(target, ast.Attribute):
        for atom in frame.evaluate(target.value):
            if isinstance(atom, Instance) and target.attr in atom.cls.attributes:
                known = atom.cls.attributes
                known[target.attr] = _grown(known[target.attr], name, node)
            if isinstance(atom, Instance) and atom.is_shared and name in ORDERED_MUTATORS:
                said = f"{ast.unparse(target)}.{name}()"
                frame.report("EDL010", node, f"{said} changes state that all share")
    if isinstance(target, ast.Name) and target.id in frame.names and kept:
        held = kept if name in {"extend", "update"} else frozenset({Many(kept)})
        if not any(isinstance(atom, Unordered) for atom in receiver):
            frame.bind(target.id, frame.names[target.id] | held)


def _grown(values: Values, name: str, node: ast.Call) -> Values:
    """A set of numbers that takes in something else is a set like any other."""
    fixed = {atom for atom in values if isinstance(atom, Unordered) and atom.is_stable}
    if not fixed or name not in {"add", "update", "symmetric_difference_update"}:
        return values
    if fixed == {Unordered("numbers")} and all(map(is_number, node.args)):
        return values
    return values.difference(fixed) | {Unordered()}
