"""The reference, as Markdown, out of the docstrings of both packages.

    page("edda"), page("edda_testkit")

A page has what a package exports, room by room, and then what its other rooms are imported for.
Signatures are those of the source. It reads files and imports nothing, so extras may be missing.
Absent: private names, and names that neither a list below nor a package's `__all__` mentions.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What authors import from a room, since the package itself does not export it.
ALSO = {
    "edda": {
        "edda.errors": None,  # all that it exports
        "edda.http": ["BearerAuth", "WebhookSignature"],
        "edda.otel": ["OpenTelemetryHooks", "run_context"],
    },
    "edda_testkit": {
        "edda_testkit.strategies": None,
        "edda_testkit.coverage": ["Coverage"],
        "edda_testkit.histories": ["read", "replay", "Recorded", "Verdict"],
        "edda_testkit.contract": ["checks", "Check"],
        "edda_testkit.lint": ["lint", "Report"],
    },
}
OPENING = {
    "edda": "What `from edda import ...` has, then what is imported from its rooms. "
    "With examples: [Engine](../engine.md), [Composing](../composing.md).",
    "edda_testkit": "What `from edda_testkit import ...` has, then what is imported from its "
    "rooms. With examples: [Testing](../testing.md), [Exploration](../exploration.md).",
}
# What is public among rooms, and no part of what a user is promised.
INNER = {
    "EddaApp": "runs_workflows bind replace resolve names outcome_of handle_events send run_errand",
    "Run": "label uncommitted keep",
    "Schedule": "source",
    "Simulation": "wait exchange is_shared executions story brief stubs",
    "Stub": "describe",
    "Worker": "loop has_loop is_waiting_outside forget drop",
    "WorkflowMachine": "teardown can make_inputs make_events lengths",
}
HIDDEN_BASES = {"Generic", "Protocol"}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Name:
    """A public name: the room that one imports it from, and where it is defined."""

    room: str
    name: str
    node: ast.stmt
    home: str  # the module of `node`


def page(package: str) -> str:
    """The whole page of a package."""
    parts = [f"# {package}", OPENING[package]]
    room = ""
    for found in names(package):
        if found.room != room:
            room = found.room
            parts += [f"## {room}", "" if room == package else lead(room)]
        parts.append(entry(found))
    return "\n\n".join(part for part in parts if part) + "\n"


def names(package: str) -> Iterator[Name]:
    """What a page has, in its order."""
    seen = set()
    for name in exports(package):
        found = find(package, name)
        seen.add((found.home, name))
        yield Name(package, name, found.node, found.home)
    for room, chosen in ALSO[package].items():
        for name in chosen or exports(room):
            found = find(room, name)
            if (found.home, name) not in seen:
                yield Name(room, name, found.node, found.home)


# ---- Reading ---------------------------------------------------------------------------------


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module of ours."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text("utf-8"))


def exports(module: str) -> list[str]:
    """The literal `__all__` of a module."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def find(module: str, name: str) -> Name:
    """Where a name of a module is defined, through however many imports."""
    last = None
    for node in tree(module).body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and node.name == name:
            last = node  # the last of several overloads is the one that is called
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if ast.unparse(target) == name:
                last = node
    if last is not None:
        return Name(module, name, last, module)
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("edda"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find(node.module, alias.name)
    raise LookupError(f"{module} has no {name}")


def lead(room: str) -> str:
    """The first sentence of a room."""
    return (ast.get_docstring(tree(room)) or "").split("\n\n")[0].replace("\n", " ")


# ---- Writing ---------------------------------------------------------------------------------


def entry(found: Name) -> str:
    """One name: its heading, signature, docstring and members."""
    node = found.node
    parts = [f"### {found.name}"]
    match node:
        case ast.ClassDef():
            parts += [code(class_line(node)), text(node), *members(node, found.home)]
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            parts += [code(signature(node)), text(node)]
        case _:
            parts.append(code(ast.unparse(node)))
    return "\n\n".join(part for part in parts if part)


def members(node: ast.ClassDef, module: str) -> Iterator[str]:
    """Fields, properties and methods of a class, and of those classes of ours it builds on."""
    fields = [
        f"{one.target.id}: {ast.unparse(one.annotation)}"
        + ("" if one.value is None or "field(" in ast.unparse(one.value) else default(one.value))
        for one in node.body
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and not one.target.id.startswith("_")
    ]
    if fields:
        yield code("\n".join(fields))
    seen = set(INNER.get(node.name, "").split())
    for method in methods(node, module):
        if method.name in seen or method.name.startswith("_") or not ast.get_docstring(method):
            continue
        seen.add(method.name)
        yield f"#### {node.name}.{method.name}\n\n{code(signature(method))}\n\n{text(method)}"


def methods(node: ast.ClassDef, module: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (one for one in node.body if isinstance(one, FUNCTION))
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0]
        try:
            found = find(module, name)
        except (LookupError, FileNotFoundError):
            continue  # not one of ours
        if isinstance(found.node, ast.ClassDef):
            yield from methods(found.node, found.home)


def class_line(node: ast.ClassDef) -> str:
    bases = [ast.unparse(base) for base in node.bases]
    shown = [base for base in bases if base.partition("[")[0] not in HIDDEN_BASES]
    made = next((one for one in node.body if getattr(one, "name", "") == "__init__"), None)
    line = f"class {node.name}" + (f"({', '.join(shown)})" if shown else "")
    if made is None or not isinstance(made, ast.FunctionDef):
        return line
    return f"{line}\n\n{signature(made, node.name, has_result=False)}"


def signature(
    node: ast.FunctionDef | ast.AsyncFunctionDef, name: str = "", *, has_result: bool = True
) -> str:
    """A function as one writes it, a parameter a line where it would be long."""
    parameters = [one for one in as_parameters(node.args) if one not in ("self", "cls")]
    result = f" -> {ast.unparse(node.returns)}" if has_result and node.returns else ""
    if any(ast.unparse(one).endswith("property") for one in node.decorator_list):
        return f"{node.name}{result.replace(' ->', ':', 1)}"
    prefix = "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
    head = name or prefix + node.name
    line = f"{head}({', '.join(parameters)}){result}"
    if len(line) <= 72:
        return line
    return f"{head}(\n" + "".join(f"    {one},\n" for one in parameters) + f"){result}"


def as_parameters(arguments: ast.arguments) -> Iterator[str]:
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    for number, (argument, value) in enumerate(zip(plain, defaults, strict=True), 1):
        yield parameter(argument, value)
        if number == len(arguments.posonlyargs) and ast.unparse(plain[0]) not in ("self", "cls"):
            yield "/"
    if arguments.vararg:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield parameter(argument, value)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def parameter(argument: ast.arg, value: ast.expr | None) -> str:
    if value is None:
        return ast.unparse(argument)
    return ast.unparse(argument) + (
        default(value) if argument.annotation else f"={ast.unparse(value)}"
    )


def default(value: ast.expr) -> str:
    return f" = {ast.unparse(value)}"


def text(node: ast.AST) -> str:
    return ast.get_docstring(node) or ""


def code(source: str) -> str:
    return f"```python\n{source}\n```"
