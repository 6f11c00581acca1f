"""The files that are linted: finding, reading and parsing them, and who imports whom.

A source is read once and never executed. Modules are found on disk by the rules of Python's
imports: from the folder above the outermost package, then from the linted folders. Absent: what
names mean, and any look at installed packages.
"""

import ast
import io
import os
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edda_testkit.lint_tables import PURE_PACKAGES, STDLIB

__all__ = [
    "FUNCTIONS",
    "Allow",
    "Binding",
    "Project",
    "Source",
    "Unreadable",
    "imports",
    "python_files",
    "shown",
    "statements",
]

ALLOW = re.compile(r"#\s*edda:\s*allow\[([^\]\n]*)\]")
SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages"})
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Unreadable(Exception):  # noqa: N818 - what becomes of it is a line of the report
    """Why a file cannot be analysed, and on which line."""

    def __init__(self, reason: str, line: int = 1) -> None:
        super().__init__(reason)
        self.line = line


@dataclass(frozen=True, slots=True)
class Allow:
    """A comment `# edda: allow[clock]`: its categories, and which of them silenced something."""

    line: int
    column: int
    categories: tuple[str, ...]
    used: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Binding:
    """One way in which a module binds a name: `module` and `name` of an import, or a node."""

    node: ast.AST | None = None
    module: str = ""
    name: str = ""
    level: int = 0


class Source:
    """One Python file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown = shown(path)
        self.data = _read(path)
        self._tree: ast.Module | None = None
        self._lines: list[str] | None = None
        self._allows: dict[int, Allow] | None = None
        self._bindings: dict[str, list[Binding]] | None = None
        self.stars: list[Binding] = []

    @property
    def tree(self) -> ast.Module:
        """The syntax tree. Raises `Unreadable`."""
        if self._tree is None:
            try:
                self._tree = ast.parse(self.data, self.shown)
            except SyntaxError as error:
                raise Unreadable(f"syntax error: {error.msg}", error.lineno or 1) from None
            except (ValueError, RecursionError, MemoryError) as error:
                raise Unreadable(f"cannot be parsed: {type(error).__name__}: {error}") from None
        return self._tree

    def forget(self) -> None:
        """Give back the memory of a tree that nothing refers to yet."""
        self._tree = None

    @property
    def lines(self) -> list[str]:
        if self._lines is None:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(self.data).readline)
            text = self.data.decode(encoding, "replace")
            self._lines = re.split(r"\r\n|\r|\n", text)
        return self._lines

    def column(self, line: int, offset: int) -> int:
        """The column, from 1, of what the parser counts in UTF-8 bytes."""
        text = self.line(line)
        return len(text.encode(errors="replace")[:offset].decode(errors="replace")) + 1

    def line(self, number: int) -> str:
        return self.lines[number - 1] if number <= len(self.lines) else ""

    @property
    def allows(self) -> dict[int, Allow]:
        """The comments that allow something, by line."""
        if self._allows is None:
            self._allows = dict(self._comments()) if b"allow[" in self.data else {}
        return self._allows

    def _comments(self) -> Iterator[tuple[int, Allow]]:
        try:
            for token in tokenize.tokenize(io.BytesIO(self.data).readline):
                found = ALLOW.search(token.string) if token.type == tokenize.COMMENT else None
                if found:
                    names = tuple(part.strip() for part in found[1].split(","))
                    line, column = token.start
                    yield line, Allow(line, column + found.start() + 1, names)
        except (tokenize.TokenError, SyntaxError):
            return

    @property
    def bindings(self) -> dict[str, list[Binding]]:
        """The names that the module binds when it is imported. Raises `Unreadable`."""
        if self._bindings is None:
            self._bindings = {}
            self._bind_all(self.tree.body)
        return self._bindings

    def _bind(self, name: str, binding: Binding) -> None:
        assert self._bindings is not None
        self._bindings.setdefault(name, []).append(binding)

    def _bind_all(self, body: Sequence[ast.stmt]) -> None:
        for node in statements(body):
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                self._bind(node.name, Binding(node))
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for name, binding in imports(node):
                    if name == "*":
                        self.stars.append(binding)
                    else:
                        self._bind(name, binding)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    for part in ast.walk(target):
                        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                            self._bind(part.id, Binding(node if target is part else None))


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a block and of the blocks in it, but not of functions and classes."""
    for node in body:
        yield node
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            continue
        for part in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, part, ()))
        for handler in getattr(node, "handlers", ()) or getattr(node, "cases", ()):
            yield from statements(handler.body)


def imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Binding]]:
    """The names an import binds, and to what."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            binding = Binding(module=node.module or "", name=alias.name, level=node.level)
            yield alias.asname or alias.name, binding
        elif alias.asname:
            yield alias.asname, Binding(module=alias.name)
        else:
            top = alias.name.partition(".")[0]
            yield top, Binding(module=top)


class Project:
    """The linted files, and the modules beside them that they import."""

    def __init__(self, files: Sequence[Path], folders: Sequence[Path]) -> None:
        self.sources: dict[Path, Source] = {}
        self.unreadable: dict[Path, Unreadable] = {}
        self.linted = [source for path in files if (source := self.source(path)) is not None]
        here = Path.cwd()
        roots = [root_of(path) for path in files]
        roots += [root for folder in (*folders, here) for root in (folder, folder / "src")]
        self._roots = list(dict.fromkeys(roots))
        self._found: dict[tuple[Path, str], Source | None] = {}

    def source(self, path: Path) -> Source | None:
        """The file, read once; None if it cannot be read."""
        if path not in self.sources and path not in self.unreadable:
            try:
                self.sources[path] = Source(path)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                self.unreadable[path] = Unreadable(f"cannot be read: {reason}")
        return self.sources.get(path)

    def find(self, module: str, importer: Source) -> Source | None:
        """The source of the module that `importer` knows as `module`."""
        top = module.partition(".")[0]
        if not top or top in STDLIB or top in PURE_PACKAGES:
            return None
        for root in (root_of(importer.path), *self._roots):
            if (found := self._module(root, module)) is not None:
                return found
        return None

    def find_relative(self, module: str, level: int, importer: Source) -> Source | None:
        """The source of the module `level` folders up, as in `from ..module import`."""
        folder = importer.path.parent
        for _ in range(level - 1):
            folder = folder.parent
        return self._module(folder, module)

    def _module(self, root: Path, module: str) -> Source | None:
        key = root, module
        if key not in self._found:
            base = root.joinpath(*module.split(".")) if module else root
            candidates = [base / "__init__.py"]
            if module:
                candidates.append(base.parent / f"{base.name}.py")
            file = next((path for path in candidates if path.is_file()), None)
            self._found[key] = None if file is None else self.source(Path(os.path.realpath(file)))
        return self._found[key]


def root_of(path: Path) -> Path:
    """The folder from which the module in this file is imported."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder


def python_files(folder: Path) -> Iterator[Path]:
    """The Python files below a folder, sorted; no links to folders, hidden ones, environments."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in SKIPPED_FOLDERS
            and not (Path(where) / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            if name.endswith(".py"):
                yield Path(where) / name


def _read(path: Path) -> bytes:
    return path.read_bytes()


def shown(path: Path) -> str:
    """A path as people read it: from the working directory, where it is below that."""
    try:
        return path.relative_to(os.path.realpath(Path.cwd())).as_posix()
    except ValueError:
        return path.as_posix()
