"""The lint: files in, a report out. Code is read, never imported and never run.

Workflows are found first, wherever they are defined; then each is read with everything it calls.
Absent: the command line (`lint_command`), and how a report is printed (`lint_report`).
"""

import ast
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edda_testkit.lint_calls import UNKNOWN_MODULE, given
from edda_testkit.lint_frames import Analysis, Args, Finding, Frame, Gap
from edda_testkit.lint_names import global_values
from edda_testkit.lint_order import take
from edda_testkit.lint_rules import CATEGORIES, LINT_ONLY, RULES
from edda_testkit.lint_sources import FUNCTIONS, Project, Source, Unreadable, python_files, shown
from edda_testkit.lint_types import values_of
from edda_testkit.lint_values import Context, Function, Place, Scope
from edda_testkit.lint_walk import install

__all__ = ["Report", "lint"]

RECURSION_LIMIT = 10_000  # frames of Python; deep code is nested deeply here too


@dataclass(frozen=True, slots=True)
class Report:
    """What a lint found. Findings and gaps are in the order of files and lines."""

    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...]
    files: int
    workflows: int

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found but notes."""
        return all(finding.rule.severity == "note" for finding in self.findings)


def lint(
    paths: Sequence[str | os.PathLike[str]],
    *,
    is_wanted: Callable[[str], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Lint files, and all Python files below folders.

    `is_wanted` chooses by code; `progress` is called with how many of how many steps are done.
    Raises `FileNotFoundError` for a path that does not exist.
    """
    files, folders = _files(paths)
    limit, collects = sys.getrecursionlimit(), gc.isenabled()
    try:
        gc.disable()  # millions of syntax nodes are made, and kept: looking through them takes half
        sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler thinks of the code it parses
            return _lint(
                Project(files, folders),
                is_wanted or (lambda _: True),
                progress or (lambda _, __: None),
            )
    finally:
        sys.setrecursionlimit(limit)
        if collects:
            gc.enable()


def _files(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[Path], list[Path]]:
    files: dict[Path, None] = {}
    folders = []
    for given_path in paths:
        path = Path(os.path.realpath(given_path))
        if path.is_dir():
            folders.append(path)
            files.update((Path(os.path.realpath(file)), None) for file in python_files(path))
        elif path.exists():
            files[path] = None
        else:
            raise FileNotFoundError(f"There is no file or folder {os.fspath(given_path)!r}.")
    return list(files), folders


def _lint(
    project: Project,
    is_wanted: Callable[[str], bool],
    progress: Callable[[int, int], None],
) -> Report:
    analysis = Analysis(project)
    install(analysis)
    steps = len(project.linted)
    gaps: dict[Gap, None] = {}
    for done, source in enumerate(project.linted):
        progress(done, 2 * steps)
        try:
            _find_workflows(analysis, source)
        except Unreadable as error:
            gaps[_gap(source.shown, error)] = None
    findings: dict[tuple[str, Place], Finding] = {}
    roots: dict[ast.AST, Function] = {}
    while new := {node: one for node, one in analysis.roots.items() if node not in roots}:
        roots |= new
        for done, function in enumerate(new.values()):
            progress(steps + done * steps // len(new), 2 * steps)
            _read_workflow(analysis, function, findings, gaps)
    for path, trouble in project.unreadable.items():
        gaps[_gap(shown(path), trouble)] = None
    for source in project.linted:
        findings.update((one.key, one) for one in _useless_allows(source))
    wanted = [one for one in findings.values() if is_wanted(one.rule.code)]
    return Report(
        tuple(sorted(wanted, key=lambda one: (_order(one.place), one.rule.code))),
        _once(gaps),
        len(project.linted) + len(project.unreadable),
        len(roots),
    )


def _once(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """The gaps in order; a module that is not known, only where it is called first."""
    found: dict[object, Gap] = {}
    for gap in sorted(gaps, key=lambda one: (_order(one.place), one.reason)):
        key = gap.reason if gap.reason.endswith(UNKNOWN_MODULE) else gap
        found.setdefault(key, gap)
    return tuple(found.values())


def _order(place: Place) -> tuple[str, int, int]:
    return place.file, place.line, place.column


def _gap(file: str, error: Unreadable) -> Gap:
    return Gap(Place(file, error.line, 1, "<module>"), str(error))


# ---- Workflows -------------------------------------------------------------------------------


def _find_workflows(analysis: Analysis, source: Source) -> None:
    """Evaluate what may define a workflow; the analysis notes those that do."""
    tree = source.tree
    scope = analysis.scope(source)
    is_near = b"workflow" in source.data or b"edda" in source.data
    is_kept = False
    for node, outer in _candidates(tree.body, None):
        if outer is None:
            is_kept = True
            if isinstance(node, ast.AsyncFunctionDef):
                global_values(analysis, source, node.name)
            else:
                values_of(analysis, scope, node)
        elif is_near:
            is_kept = True
            _read_outer(analysis, scope, outer)
    if not is_kept:
        source.forget()


def _candidates(
    body: Sequence[ast.stmt], outer: ast.stmt | None
) -> Iterator[tuple[ast.AST, ast.stmt | None]]:
    """Decorated `async def`s, with the outermost definition around them; `workflow(f)` calls."""
    for node in body:
        if isinstance(node, ast.AsyncFunctionDef) and node.decorator_list:
            yield node, outer
        elif outer is None and _is_workflow_call(node):
            assert isinstance(node, ast.Assign)
            yield node.value, None
        is_definition = isinstance(node, (*FUNCTIONS, ast.ClassDef))
        inner = outer if outer is not None or not is_definition else node
        for part in ("body", "orelse", "finalbody"):
            yield from _candidates(getattr(node, part, ()), inner)
        for handler in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            yield from _candidates(handler.body, inner)


def _is_workflow_call(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
        return False
    return "workflow" in ast.unparse(node.value.func)


def _read_outer(analysis: Analysis, scope: Scope, outer: ast.stmt) -> None:
    """Read what stands around a local workflow, for its names; findings there are not its own."""
    if isinstance(outer, ast.ClassDef):
        for node in outer.body:
            if isinstance(node, FUNCTIONS):
                values_of(analysis, scope, node)
                function = Function(node, scope, f"{outer.name}.{node.name}")
                analysis.enter(function, given(analysis, function, Args(is_whole=False)))
    elif isinstance(outer, FUNCTIONS):
        function = Function(outer, scope, outer.name)
        analysis.enter(function, given(analysis, function, Args(is_whole=False)))


def _read_workflow(
    analysis: Analysis,
    function: Function,
    findings: dict[tuple[str, Place], Finding],
    gaps: dict[Gap, None],
) -> None:
    parameters = given(analysis, function, Args(is_whole=True))
    if parameters:
        first = next(iter(parameters))
        parameters[first] |= {Context()}
    summary = analysis.enter(function, parameters)
    frame = Frame(analysis, function, {})  # what it returns is its result, which is recorded
    take(frame, summary.returns, "the result")
    found = {**frame.summary.findings, **summary.findings}
    allowed, node = _allowed(function)
    used = set()
    for key, finding in found.items():
        if finding.rule.category in allowed:
            used.add(finding.rule.category)
            continue
        known = findings.get(key)
        if known is None or len(finding.chain) < len(known.chain):
            findings[key] = replace(finding, workflow=function.name)
    gaps.update(summary.gaps)
    for category in allowed:
        if category not in used and node is not None:
            rule = RULES["EDL090" if category in CATEGORIES else "EDL091"]
            frame.report(rule.code, node, f"allow=[{category!r}]: {rule.title}")
    findings.update(
        (key, one) for key, one in frame.summary.findings.items() if one.rule.severity == "note"
    )


def _allowed(function: Function) -> tuple[list[str], ast.expr | None]:
    """The categories that `@workflow(allow=[...])` names, and where."""
    for decorator in getattr(function.node, "decorator_list", ()):
        for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
            if keyword.arg == "allow":
                try:
                    return [str(one) for one in ast.literal_eval(keyword.value)], keyword.value
                except (ValueError, TypeError):
                    return [], None
    return [], None


def _is_category(name: str) -> bool:
    return name in CATEGORIES or name in LINT_ONLY


def _useless_allows(source: Source) -> Iterator[Finding]:
    for allow in source.allows.values():
        for category in allow.categories:
            if category not in allow.used:
                rule = RULES["EDL090" if _is_category(category) else "EDL091"]
                text = source.line(allow.line).strip()
                place = Place(source.shown, allow.line, allow.column, "", text)
                yield Finding(rule, place, f"allow[{category}]: {rule.title}")
