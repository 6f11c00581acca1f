"""What an expression may be worth, as far as it matters here. Values only.

The worth of an expression is a set of atoms, all that it may be; the empty set says that nothing
worth knowing is known. Atoms are compared by what they are, scopes and syntax nodes by identity.
"""

import ast
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from edda_testkit.lint_sources import Source

__all__ = [
    "NOTHING",
    "Atom",
    "Bound",
    "Class",
    "Context",
    "Function",
    "Hashed",
    "Instance",
    "Known",
    "Made",
    "Many",
    "Module",
    "Pending",
    "Place",
    "Scope",
    "Shared",
    "Stale",
    "Step",
    "Unordered",
    "Values",
    "inside",
]


class Scope:
    """The names of a function (or a class, or a module) that functions inside it can see.

    It `is_shared` if the function ran at import: whoever sees its names sees the same ones.
    """

    __slots__ = ("is_shared", "names", "parent", "source")

    def __init__(
        self, source: Source, parent: "Scope | None" = None, *, is_shared: bool = False
    ) -> None:
        self.is_shared = is_shared
        self.source = source
        self.parent = parent
        self.names: dict[str, Values] = {}

    def bind(self, name: str, values: "Values") -> None:
        self.names[name] = self.names.get(name, NOTHING) | values


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code; `text` is what stands there, `function` where it stands in."""

    file: str
    line: int
    column: int
    function: str
    text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A name of a module that is not linted: `time.time`."""

    path: str


@dataclass(frozen=True, slots=True)
class Made:
    """An instance of a class that is not linted: a `pathlib.Path`; `place` is where."""

    path: str
    place: Place | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Module:
    """A module whose source can be read."""

    source: Source


@dataclass(frozen=True, slots=True)
class Function:
    """A function, or a lambda. `role`: activity, workflow, or how a class binds it."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: Scope
    name: str
    role: str = ""
    owner: "Class | None" = field(default=None, compare=False)

    @property
    def source(self) -> Source:
        return self.scope.source


@dataclass(frozen=True, slots=True)
class Class:
    """A class whose source can be read. `attributes` grows as methods assign to `self`."""

    node: ast.ClassDef
    scope: Scope
    name: str
    attributes: dict[str, "Values"] = field(default_factory=dict, compare=False)

    @property
    def source(self) -> Source:
        return self.scope.source


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of a class whose source can be read. `after`: `super()` looks behind it.

    One that `is_shared` was made at import: what its methods change, they change for all.
    """

    cls: Class
    after: Class | None = None
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """A callable with its first arguments: a method, or a `functools.partial`."""

    target: "Atom"
    args: tuple["Values", ...]
    keywords: tuple[tuple[str, "Values"], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """An activity (or a workflow, `role`): calling it is what the engine records."""

    function: Function | None
    role: str


@dataclass(frozen=True, slots=True)
class Pending:
    """An activity that was called, and not awaited yet."""

    place: Place
    name: str


@dataclass(frozen=True, slots=True)
class Unordered:
    """A set; of numbers, whose hashes are the same everywhere, or of a single thing."""

    of: Literal["anything", "numbers", "one"] = "anything"

    @property
    def is_stable(self) -> bool:
        return self.of != "anything"


@dataclass(frozen=True, slots=True)
class Hashed:
    """Something in the order of a set. `chain`: the calls from here down to its place."""

    place: Place
    is_dict: bool
    chain: tuple[Place, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Many:
    """A list, tuple or dictionary that holds these."""

    values: "Values"


@dataclass(frozen=True, slots=True)
class Shared:
    """A global that all instances share; `is_container` when its methods can change it."""

    name: str
    is_container: bool


@dataclass(frozen=True, slots=True)
class Stale:
    """A global whose value was made at import: by which rule, in which words, on which line."""

    code: str
    what: str
    line: int


@dataclass(frozen=True, slots=True)
class Context:
    """The workflow's context."""


Atom: TypeAlias = (
    Known
    | Made
    | Module
    | Function
    | Class
    | Instance
    | Bound
    | Step
    | Pending
    | Unordered
    | Hashed
    | Many
    | Shared
    | Stale
    | Context
)
Values: TypeAlias = frozenset[Atom]

NOTHING: Values = frozenset()


def inside(values: Values) -> Values:
    """What containers among these hold."""
    found = NOTHING
    for atom in values:
        if isinstance(atom, Many):
            found |= atom.values
    return found
