"""The house style, held by reading the source of both packages as syntax trees.

A rule takes a module and yields one line for each place that breaks it. An exception to a rule
is an entry in a dictionary below, and its value is the reason. Absent: what ruff and mypy hold
already, and anything that needs a module to be imported.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FIRST_PARTY = ("edda", "edda_testkit")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 70

# ---- Exceptions: name -> reason. A name that needs none any more is itself reported ----------

LONG_FILES: dict[str, str] = {  # "edda.room"
    "edda.errors": "a class for each cure: a list of sentences, which is read one at a time",
    "edda.app": "the composition root and its client: a method for each thing a caller may ask",
    "edda.loop": "asyncio's own list of methods, each in a line or two",
    "edda.stores.sqlite": "two ways of running the same methods, in a thread and at once",
    "edda.workflow": "what an author's `ctx` and a workflow can do, a short method each",
    "edda.machine": "all that decides what is in a history, which must be read as a whole",
    "edda.ports": "the doors, and the values that cross them",
    "edda.timeline": "a table of glyphs, and a line of text for each kind of event",
    "edda.worker": "a turn from its claim to its end, whose tasks and locks must be read together",
    "edda.turn": "one step of one instance, whose order of doing things must be read as a whole",
    "edda.codec": "values, parameters and exceptions cross the line in the same way",
    "edda_testkit.simulation": "the face of the kit: a method for each thing a test may do",
    "edda.history": "the event classes and both JSON forms, which must be read side by side",
}
LONG_FUNCTIONS: dict[str, str] = {}  # "edda.room.Class.function"
LOCAL_IMPORTS: dict[str, str] = {  # "edda.room"
    "edda.doors": "a store is imported where a URL asks for it: asyncpg is an extra, SQLite slow",
}
MUTABLE_GLOBALS: dict[str, str] = {  # "edda.room.name"
    "edda.current._open": "the open apps of the process, for calls that do not say which they mean",
    "edda.workflow.registry": "the registry of decorated definitions: the one the style allows",
}
BROAD_EXCEPTS: dict[str, str] = {  # "edda.room"
    "edda.codec": "a user's serializer, `__eq__` or `__str__` may raise anything; it is refused",
    "edda.loop": "a coroutine that is closed may raise anything; it is dropped (law T4)",
    "edda.machine": "a result that cannot be encoded, whatever the reason, fails the workflow",
    "edda.attempt": "an activity may raise anything; it becomes the step's answer",
    "edda.events": "data may refuse to be serialised in any way; the sender is told",
    "edda.turn": "an activity may raise anything; it becomes the step's answer",
    "edda.worker": "one instance's trouble must not stop the others",
    "edda.undo": "a compensation may raise anything; it is set down, and the others still run",
    "edda.workflow": "a workflow may raise anything; what it did is undone, and it goes on",
    "edda.outbox": "a message that cannot be sent is kept and tried again",
    "edda.announcing": "what a hook raises goes to the log and changes no run",
    "edda_testkit.between": "what is thrown into an activity's coroutine goes on into it",
    "edda_testkit.strategies_judge": "a model's own validators may raise anything: a refusal",
    "edda_testkit.strategies_pydantic": "a model's own validators may raise anything: a refusal",
    "edda.app": "the composition root closes what it opened, whatever happened",
    "edda.targets": "a user's module may raise anything at import; they are told",
    "edda_testkit.child": "a project's module may raise anything; the answer names it",
    "edda_testkit.histories": "an edited file may say anything; the verdict names it",
    "edda_testkit.exploration": "a scenario may raise anything; it is shrunk, and raised again",
    "edda_testkit.outside": "what is queued may raise anything; the block raises it at its end",
    "edda.http": "a defect of ours becomes a 500 that says so",
}

# ---- What the rules know ---------------------------------------------------------------------

MIND = (
    "edda.codec",
    "edda.commands",
    "edda.divergence",
    "edda.history",
    "edda.loop",
    "edda.machine",
)

# Names of asyncio that reach outside the process, into a thread, or to another loop.
ASYNCIO_IO = frozenset(
    """
    DatagramProtocol DatagramTransport IocpProactor ProactorEventLoop Protocol Runner
    SelectorEventLoop StreamReader StreamWriter Transport create_subprocess_exec
    create_subprocess_shell new_event_loop open_connection open_unix_connection run
    run_coroutine_threadsafe start_server start_unix_server subprocess to_thread
    """.split()
)

# What the mind may use of the modules that mostly do I/O.
PURE_NAMES = {
    "os": frozenset({"fspath", "path", "sep"}),
    "pathlib": frozenset({"PurePath", "PurePosixPath"}),
}

MUTABLE_MAKERS = frozenset(
    """
    Counter OrderedDict WeakKeyDictionary WeakSet WeakValueDictionary bytearray count cycle
    defaultdict deque dict list set
    """.split()
)
MUTABLE_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
CONSTANT_NAME = re.compile(r"__\w+__|_?[A-Z][A-Z0-9_]*")
BROAD = frozenset({"Exception", "BaseException", "ExceptionGroup", "BaseExceptionGroup"})
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
ABSOLUTE_PATH = re.compile(
    r"(?<![\w./:~-])(/(home|Users|root|tmp|mnt|opt|srv|usr|var|private)/\w|[A-Z]:\\\\?\w)"
)

FUNCTION_NODES = (ast.FunctionDef, ast.AsyncFunctionDef)
Rule = Callable[["Module"], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Module:
    """One source file: its dotted name, its text and its tree."""

    name: str
    file: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return parsed(self.text)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def at(self, node: ast.AST, what: str) -> str:
        return f"{self.file}:{node.lineno}: {what}"

    def resolved(self, node: ast.ImportFrom) -> str:
        """The absolute name of what `from ... import` reads from."""
        if not node.level:
            return node.module or ""
        package = self.name if self.file.endswith("__init__.py") else self.name.rpartition(".")[0]
        parts = package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, node.module] if node.module else parts)


@cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def modules() -> tuple[Module, ...]:
    return tuple(
        as_module(path, ROOT) for package in FIRST_PARTY for path in sorted_sources(ROOT / package)
    )


def sorted_sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def as_module(path: Path, root: Path) -> Module:
    file = path.relative_to(root)
    parts = file.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, file.as_posix(), path.read_text("utf-8"))


def hold(rule: Rule) -> None:
    faults = [line for module in modules() for line in rule(module)]
    assert not faults, "\n" + "\n".join(faults)


# ---- Rules: each yields "file:line: what is wrong" -------------------------------------------


def long_files(module: Module) -> Iterator[str]:
    length = len(module.lines)
    if length > MAX_FILE_LINES and module.name not in LONG_FILES:
        yield f"{module.file}: {length} lines, more than {MAX_FILE_LINES}"


def long_functions(module: Module) -> Iterator[str]:
    for name, node in functions(module.tree, module.name):
        length = node.end_lineno - node.lineno + 1
        if length > MAX_FUNCTION_LINES and name not in LONG_FUNCTIONS:
            yield module.at(node, f"{name} has {length} lines, more than {MAX_FUNCTION_LINES}")


def local_imports(module: Module) -> Iterator[str]:
    if module.name in LOCAL_IMPORTS:
        return
    seen = {
        node: name
        for _, function in functions(module.tree, module.name)
        for node in ast.walk(function)
        for name in imported(module, node)
        if name.partition(".")[0] in FIRST_PARTY
    }
    for node, name in seen.items():
        yield module.at(node, f"{name} is imported inside a function")


def underscored_files(module: Module) -> Iterator[str]:
    path = Path(module.file)
    for part in (*path.parts[:-1], path.stem):
        if part.startswith("_") and part not in {"__init__", "__main__"}:
            yield f"{module.file}: privacy is by name and __all__, not by file"


def missing_docstrings(module: Module) -> Iterator[str]:
    if not (ast.get_docstring(module.tree) or "").strip():
        yield f"{module.file}: opens without saying what it is"


def broad_excepts(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            what = "except" if node.type is None else f"except {ast.unparse(node.type)}"
            if node.type is not None and not is_broad(node.type):
                continue
        elif isinstance(node, ast.Call) and called(node) == "suppress":
            what = ast.unparse(node)
            if not any(is_broad(argument) for argument in node.args):
                continue
        else:
            continue
        if module.name not in BROAD_EXCEPTS:
            yield module.at(node, f"`{what}` outside the rooms that may have it")
        elif not has_comment(module, node):
            yield module.at(node, f"`{what}` without a comment saying where the error goes next")


def mutable_globals(module: Module) -> Iterator[str]:
    for node in module.tree.body:
        match node:
            case ast.Assign(targets=targets, value=value):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name), annotation=hint, value=value):
                names = [] if "Final" in ast.unparse(hint) else [name]
            case _:
                continue
        if not is_mutable(value):
            continue
        for name in names:
            if CONSTANT_NAME.fullmatch(name) or f"{module.name}.{name}" in MUTABLE_GLOBALS:
                continue
            yield module.at(node, f"{name} is a global that can change")


def unfinished_work(module: Module) -> Iterator[str]:
    for number, line in enumerate(module.lines, 1):
        if found := UNFINISHED.search(line):
            yield f"{module.file}:{number}: {found[0]} in a comment; do it or drop it"


def absolute_paths(module: Module) -> Iterator[str]:
    for number, line in enumerate(module.lines, 1):
        if found := ABSOLUTE_PATH.search(line):
            yield f"{module.file}:{number}: {found[0]}... exists on somebody's machine only"


def outside_world_in_the_mind(module: Module) -> Iterator[str]:
    if module.name not in MIND:
        return
    for node in ast.walk(module.tree):
        names = list(imported(module, node))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        for name in names:
            if reaches_outside(*name.split(".")):
                yield module.at(node, f"{name} reaches outside the mind")


def front_door_imports(module: Module) -> Iterator[str]:
    """A layers contract sees only those that lead upwards, and then names a detour."""
    package = module.name.partition(".")[0]
    if module.name == package:
        return
    rooms = {other.name for other in modules()}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name == package]
        elif isinstance(node, ast.ImportFrom) and module.resolved(node) == package:
            found = [a.name for a in node.names if f"{package}.{a.name}" not in rooms]
        else:
            continue
        for name in found:
            yield module.at(node, f"{name} comes from the room it lives in, not from {package}")


def private_names_in_the_kit(module: Module) -> Iterator[str]:
    if not module.name.startswith("edda_testkit"):
        return
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ImportFrom) or not is_engine(module.resolved(node)):
            continue
        source = module.resolved(node)
        for alias in node.names:
            if not is_public(source, alias.name):
                yield module.at(node, f"{source}.{alias.name} is not public: change the engine")


# ---- What the rules ask ----------------------------------------------------------------------


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        name = f"{prefix}.{child.name}" if hasattr(child, "name") and child.name else prefix
        if isinstance(child, FUNCTION_NODES):
            yield name, child
        yield from functions(child, name)


def imported(module: Module, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{module.resolved(node)}.{alias.name}" for alias in node.names)


def reaches_outside(root: str, *rest: str) -> bool:
    if root == "asyncio":
        return not ASYNCIO_IO.isdisjoint(rest)
    return bool(rest) and root in PURE_NAMES and rest[0] not in PURE_NAMES[root]


def called(node: ast.Call) -> str:
    return ast.unparse(node.func).partition("[")[0].rpartition(".")[2]


def is_broad(node: ast.expr) -> bool:
    members = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(ast.unparse(member).rpartition(".")[2] in BROAD for member in members)


def has_comment(module: Module, node: ast.AST) -> bool:
    line, above = module.lines[node.lineno - 1], module.lines[node.lineno - 2]
    return "# " in line.replace("# noqa", "") or above.lstrip().startswith("# ")


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return called(value) in MUTABLE_MAKERS
    return isinstance(value, MUTABLE_DISPLAYS)


def is_engine(name: str) -> bool:
    return name == "edda" or name.startswith("edda.")


def is_public(source: str, name: str) -> bool:
    if name.startswith("_"):
        return False
    declared = exports().get(source)
    rooms = {module.name for module in modules()}
    return declared is None or name in declared or f"{source}.{name}" in rooms


@cache
def exports() -> dict[str, frozenset[str]]:
    """The literal `__all__` of each module that has one."""
    found = {}
    for module in modules():
        for node in module.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List() | ast.Tuple()):
                    found[module.name] = frozenset(ast.literal_eval(node.value))
    return found


# ---- The rules, held over edda/ and edda_testkit/ --------------------------------------------


def test_no_file_is_too_long():
    """A file has at most 400 lines, unless a reason is written down."""
    hold(long_files)


def test_no_function_is_too_long():
    """A function has at most 70 lines, unless a reason is written down."""
    hold(long_functions)


def test_first_party_imports_stand_at_the_top():
    """No function imports a module of ours: the river is visible at the head of each file."""
    hold(local_imports)


def test_no_file_is_underscored():
    """Privacy is by name and `__all__`; only `__init__` and `__main__` have underscores."""
    hold(underscored_files)


def test_every_module_says_what_it_is():
    """Every module opens with a docstring."""
    hold(missing_docstrings)


def test_broad_excepts_stand_only_at_the_edges():
    """Only the listed rooms catch everything, each time with a comment on where it goes next."""
    hold(broad_excepts)


def test_no_global_changes():
    """No module keeps a list, dictionary or set in a global that is not named as a constant."""
    hold(mutable_globals)


def test_no_work_is_left_in_comments():
    """No file carries a note of unfinished work."""
    hold(unfinished_work)


def test_no_path_belongs_to_one_machine():
    """No file names an absolute path."""
    hold(absolute_paths)


def test_the_mind_does_not_reach_outside():
    """The deterministic rooms use no I/O, thread or subprocess of asyncio, os or pathlib."""
    hold(outside_world_in_the_mind)


def test_rooms_do_not_import_the_front_door():
    """A room imports from the room where a name lives, never from its own package."""
    hold(front_door_imports)


def test_the_kit_uses_public_names_of_the_engine():
    """What the kit imports from the engine has no underscore and is in the room's `__all__`."""
    hold(private_names_in_the_kit)


def test_imports_flow_one_way():
    """The import contracts of pyproject.toml hold."""
    if not all((ROOT / package / "__init__.py").exists() for package in FIRST_PARTY):
        pytest.skip("a package has no __init__.py yet")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}\n{done.stderr}"


def test_every_test_states_its_behaviour():
    """Every test has a docstring that says, in a sentence, what it holds."""
    silent = [
        module.at(node, f"{node.name} does not say what it holds")
        for path in sorted_sources(ROOT / "tests")
        for module in [as_module(path, ROOT)]
        for node in cases_of(module.tree)
        if not ast.get_docstring(node)
    ]
    assert not silent, "\n" + "\n".join(silent)


def cases_of(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for body in (tree.body, *(node.body for node in classes)):
        for node in body:
            if isinstance(node, FUNCTION_NODES) and node.name.startswith("test_"):
                yield node


def test_no_merge_left_both_sides():
    """No file of the project holds the marks of a conflict."""
    kinds = ("*.md", "*.py", "*.sql", "*.toml", "*.txt", "*.yml")
    folders = ("benchmarks", "docs", "edda", "edda_testkit", "examples", "scripts", "tests")
    files = [path for kind in kinds for path in ROOT.glob(kind)]
    files += [p for folder in folders for kind in kinds for p in (ROOT / folder).rglob(kind)]
    mark = re.compile("^(<{7}|>{7}) ", re.MULTILINE)
    assert len(files) > 300
    assert [path for path in files if mark.search(path.read_text(encoding="utf-8"))] == []


def test_no_exception_outlives_its_reason():
    """A name in a list of exceptions still names a module, function or global of ours."""
    names = {module.name for module in modules()}
    names |= {name for m in modules() for name, _ in functions(m.tree, m.name)}
    names |= {
        f"{module.name}.{target.id}"
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in getattr(node, "targets", None) or [node.target]
        if isinstance(target, ast.Name)
    }
    listed = [*LONG_FILES, *LONG_FUNCTIONS, *LOCAL_IMPORTS, *MUTABLE_GLOBALS] if names else []
    assert [name for name in listed if name not in names] == []


# ---- The rules themselves: each finds a planted fault, and leaves its neighbour alone --------


LONG_BODY = "    pass\n" * MAX_FUNCTION_LINES

PLANTED = [
    (long_files, "edda.x", "x = 1\n" * 401, "x = 1\n" * 400),
    (long_functions, "edda.x", f"def f():\n{LONG_BODY}", f"def f():\n{LONG_BODY[9:]}"),
    (local_imports, "edda.x", "def f():\n    from edda.y import z", "from edda.y import z"),
    (local_imports, "edda.x", "def f():\n    from . import z", "def f():\n    import json"),
    (underscored_files, "edda._x", "", None),
    (missing_docstrings, "edda.x", "x = 1", '"""What it is."""'),
    (broad_excepts, "edda.x", "try: f()\nexcept Exception: # so\n  pass", None),
    (broad_excepts, "edda.x", "try: f()\nexcept (ValueError, BaseException): g()", None),
    (broad_excepts, "edda.x", "with contextlib.suppress(Exception): f()", None),
    (
        broad_excepts,
        "edda.turn",
        "try:\n  f()\nexcept:\n  pass",
        "try:\n  f()\n# to the caller\nexcept Exception:\n  g()",
    ),
    (broad_excepts, "edda.x", "try: f()\nexcept: g()", "try: f()\nexcept OSError: g()"),
    (mutable_globals, "edda.x", "cache = {}", "CACHE = {}"),
    (mutable_globals, "edda.x", "seen: set[str] = set()", "seen: Final = frozenset()"),
    (mutable_globals, "edda.x", "q = collections.deque()", "__all__ = ['q']"),
    (unfinished_work, "edda.x", "# TODO: more", "# to do is to be"),
    (absolute_paths, "edda.x", "p = '/home/me/x'", "p = 'https://a.example/home/me'"),
    (absolute_paths, "edda.x", "p = 'C:\\\\temp'", "p = 'sqlite:////abs.db'"),
    (outside_world_in_the_mind, "edda.loop", "asyncio.to_thread(f)", "asyncio.Future()"),
    (
        outside_world_in_the_mind,
        "edda.machine",
        "from asyncio import open_connection",
        "from asyncio import Future",
    ),
    (
        outside_world_in_the_mind,
        "edda.codec",
        "import asyncio.subprocess",
        "import asyncio.futures",
    ),
    (outside_world_in_the_mind, "edda.loop", "os.environ", "os.path.dirname(asyncio.__file__)"),
    (outside_world_in_the_mind, "edda.loop", "from pathlib import Path", "import os"),
    (front_door_imports, "edda.x", "from edda import workflow_of_ours", "from edda.x import y"),
    (private_names_in_the_kit, "edda_testkit.x", "from edda.y import _z", "from edda.y import z"),
]


@pytest.mark.parametrize(("rule", "name", "fault", "fine"), PLANTED)
def test_each_rule_finds_a_planted_fault(rule, name, fault, fine):
    """Each rule reports the planted fault once and has nothing to say about its neighbour."""
    file = name.replace(".", "/") + ".py"
    assert len(list(rule(Module(name, file, fault)))) == 1
    if fine is not None:
        assert list(rule(Module(name, file, fine))) == []
