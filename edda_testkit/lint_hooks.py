"""Functions that nobody calls by name: what a library or the language calls for a class.

Validators and serializers of pydantic models, setters, hooks of class creation, the
implementations of a `singledispatch` function. Absent: special methods that operators call
(`lint_operators`).
"""

import ast
import json
from collections.abc import Iterator
from contextlib import suppress

from edda_testkit.lint_frames import Analysis, Args
from edda_testkit.lint_types import annotated, lineage, member, values_of
from edda_testkit.lint_values import (
    NOTHING,
    Atom,
    Bound,
    Class,
    Function,
    Known,
    Scope,
    Unordered,
    Values,
)

__all__ = [
    "DUMPS",
    "fields_in",
    "has_sets",
    "hooks",
    "made_by_chance",
    "makers",
    "metaclasses",
    "registered",
    "setters",
    "subclassing",
]

VALIDATORS = frozenset("field_validator model_validator validator root_validator".split())
SERIALIZERS = frozenset("computed_field field_serializer model_serializer".split())
DUMPS = frozenset({"model_dump", "model_dump_json"})
TIMED = frozenset({"PastDate", "FutureDate", "PastDatetime", "FutureDatetime"})
PARSES = frozenset({"model_validate", "model_validate_json", "parse_obj", "parse_raw"})


def hooks(analysis: Analysis, cls: Class, name: str) -> Iterator[Function]:
    """What pydantic calls of a model when this method of it is called: `__init__`, a dump."""
    wanted = SERIALIZERS if name in DUMPS else VALIDATORS
    for one in lineage(analysis, cls):
        for node in one.node.body if isinstance(one, Class) else ():
            assert isinstance(one, Class)
            if isinstance(node, ast.FunctionDef):
                is_hook = any(_last(each) in wanted for each in node.decorator_list)
                if is_hook or (node.name == "model_post_init" and name not in DUMPS):
                    yield Function(node, one.scope, f"{one.name}.{node.name}", "", one)


def has_sets(analysis: Analysis, cls: Class) -> bool:
    """Whether a model has a field that is a set, whose order shows in JSON text."""
    return any(
        isinstance(atom, Unordered) and not atom.is_stable
        for one in lineage(analysis, cls)
        if isinstance(one, Class)
        for node in one.node.body
        if isinstance(node, ast.AnnAssign)
        for atom in annotated(analysis, one.scope, node.annotation)
    )


def made_by_chance(analysis: Analysis, cls: Class, *, is_seeded: bool) -> Iterator[tuple[str, str]]:
    """Codes, and words, for making an instance: a generator without a seed, a date in the past."""
    for one in lineage(analysis, cls):
        if isinstance(one, Known):
            if one.path == "random.Random" and not is_seeded:
                yield "EDL202", f"{cls.name}() has no seed, and"
            continue
        for node in one.node.body:
            types = ast.walk(node.annotation) if isinstance(node, ast.AnnAssign) else ()
            timed = [each for each in types if _last_name(each) in TIMED]
            named = NOTHING.union(*(values_of(analysis, one.scope, each) for each in timed))
            if any(isinstance(each, Known) and "pydantic" in each.path for each in named):
                yield "EDL101", f"the type of a field of {cls.name}"


def _last_name(node: ast.AST) -> str:
    return str(getattr(node, "attr", None) or getattr(node, "id", ""))


def makers(cls: Values, name: str) -> Iterator[Class]:
    """The classes of which a call of this class method makes an instance."""
    for atom in cls if name in PARSES else ():
        if isinstance(atom, Class):
            yield atom


def fields_in(call: ast.expr) -> Args:
    """The fields that a call is given in a dictionary, or in JSON, as if they were arguments.

    They are not whole where they do not stand in the code.
    """
    names: list[str] | None = None
    match call:
        case ast.Call(args=[ast.Dict(keys=keys), *_]):
            if all(isinstance(key, ast.Constant) for key in keys):
                names = [str(key.value) for key in keys if isinstance(key, ast.Constant)]
        case ast.Call(args=[ast.Constant(value=str() | bytes() as text), *_]):
            with suppress(ValueError):
                found = json.loads(text)
                names = list(found) if isinstance(found, dict) else None
    keywords = tuple((name, NOTHING) for name in names or ())
    return Args((), keywords, is_whole=names is not None)


def setters(analysis: Analysis, cls: Class, name: str) -> Iterator[Function]:
    """The functions that run when an attribute is set: a property's setter, `__setattr__`."""
    for one in lineage(analysis, cls):
        for node in one.node.body if isinstance(one, Class) else ():
            assert isinstance(one, Class)
            if isinstance(node, ast.FunctionDef) and _is_setter(node, name):
                yield Function(node, one.scope, f"{one.name}.{name}", "", one)
    for atom in member(analysis, cls, "__setattr__"):
        if isinstance(atom, Function):
            yield atom


def subclassing(analysis: Analysis, cls: Class) -> Iterator[Bound]:
    """What runs when a class is made: `__init_subclass__` of a base, `__new__` of a metaclass."""
    made: Values = frozenset({cls})
    for one in [each for each in lineage(analysis, cls) if isinstance(each, Class)][1:]:
        for atom in member(analysis, one, "__init_subclass__"):
            if isinstance(atom, Function):
                yield Bound(atom, (made,))
    for meta in metaclasses(analysis, cls):
        for name in ("__new__", "__init__"):
            for atom in member(analysis, meta, name):
                if isinstance(atom, Function):
                    yield Bound(atom, (made,))


def metaclasses(analysis: Analysis, cls: Class) -> Iterator[Class]:
    """The metaclasses that a class names whose source can be read."""
    for keyword in cls.node.keywords:
        if keyword.arg == "metaclass":
            for atom in values_of(analysis, cls.scope, keyword.value):
                if isinstance(atom, Class):
                    yield atom


def registered(scope: Scope, name: str) -> Values:
    """The implementations that a module registers with its `singledispatch` function."""
    found: set[Atom] = set()
    for node in scope.source.tree.body:
        for decorator in getattr(node, "decorator_list", ()):
            plain = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(node, ast.FunctionDef) and ast.unparse(plain) == f"{name}.register":
                found.add(Function(node, scope, node.name))
    return frozenset(found) or NOTHING


def _is_setter(node: ast.FunctionDef, name: str) -> bool:
    return node.name == name and any(_last(each) == "setter" for each in node.decorator_list)


def _last(node: ast.expr) -> str:
    """The last part of a decorator's name."""
    plain = node.func if isinstance(node, ast.Call) else node
    return plain.attr if isinstance(plain, ast.Attribute) else str(getattr(plain, "id", ""))
