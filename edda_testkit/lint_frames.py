"""The state of an analysis: what was found, what was not analysed, and the function at hand.

A function is analysed once for each way it is called; its summary is what it returns and what it
does wrong. A caller takes over the summary's findings with one more line in their chain, unless
a comment on the line of the call allows them. Absent: how syntax is read.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edda_testkit.harmless import is_memo
from edda_testkit.lint_rules import RULES, Rule
from edda_testkit.lint_sources import Project, Source
from edda_testkit.lint_values import (
    NOTHING,
    Atom,
    Function,
    Hashed,
    Many,
    Place,
    Scope,
    Values,
)

__all__ = ["Analysis", "Args", "Finding", "Frame", "Gap", "Summary"]

MAX_WAYS = 16  # how many ways of calling a function are told apart
MAX_DEPTH = 60  # calls


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `chain`: the calls from the workflow down to `place`."""

    rule: Rule
    place: Place
    what: str
    chain: tuple[Place, ...] = ()
    workflow: str = ""

    @property
    def key(self) -> tuple[str, Place]:
        return self.rule.code, self.place


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that could not be analysed, and why."""

    place: Place
    reason: str


@dataclass(frozen=True, slots=True)
class Args:
    """The worth of a call's arguments. `is_whole`: none of them came out of a `*` or `**`."""

    positional: tuple[Values, ...] = ()
    keywords: tuple[tuple[str, Values], ...] = ()
    is_whole: bool = True

    @property
    def all(self) -> list[Values]:
        return [*self.positional, *(values for _, values in self.keywords)]


@dataclass(slots=True)
class Summary:
    """What a function returns, and what it does wrong."""

    returns: Values = NOTHING
    findings: dict[tuple[str, Place], Finding] = field(default_factory=dict)
    gaps: dict[Gap, None] = field(default_factory=dict)


class Analysis:
    """One run of the lint."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.files = {source.shown: source for source in project.sources.values()}
        self.roots: dict[ast.AST, Function] = {}
        self.scopes: dict[Source, Scope] = {}
        self.globals: dict[tuple[Source, str], Values] = {}
        # The walk over syntax, which imports this room, puts itself in here.
        self.walk: Callable[[Frame], None]
        self.evaluate: Callable[[Frame, ast.expr], Values]
        self.attribute: Callable[[Frame, Atom, str, ast.expr], Values]
        self.value: Callable[[Scope, ast.AST], Values]
        self.judge: Callable[[Scope, ast.expr], tuple[str, str]]
        self.invoke: Callable[[Frame, Atom, ast.expr], Values]
        self.changes: dict[Source, dict[str, str]] = {}  # by activities, to globals
        self.depth = 0
        self.imports = 0  # how deep in code that runs at import
        self._summaries: dict[object, Summary] = {}
        self._ways: dict[ast.AST, int] = {}
        self._active: set[object] = set()

    def scope(self, source: Source) -> Scope:
        """The global scope of a module."""
        if source not in self.scopes:
            self.scopes[source] = Scope(source)
            self.files[source.shown] = source
        return self.scopes[source]

    def enter(self, function: Function, given: dict[str, Values]) -> Summary:
        """The summary of a function for what its parameters are worth."""
        ways = self._ways.get(function.node, 0)
        key: tuple[object, ...] = (
            function.node,
            function.scope,
            tuple(sorted(given.items(), key=lambda one: one[0])),
            self.imports > 0,
        )
        if key not in self._summaries and ways >= MAX_WAYS:
            given = dict.fromkeys(given, NOTHING)
            key = (function.node, None, tuple(given.items()))
        if key in self._active or self.depth >= MAX_DEPTH:
            return Summary()
        if key not in self._summaries:
            self._ways[function.node] = ways + 1
            frame = Frame(self, function, given)
            self._active.add(key)
            self.depth += 1
            try:
                self.walk(frame)
            except RecursionError:
                frame.gap(function.node, f"{function.name} is nested too deeply")
            finally:
                self.depth -= 1
                self._active.discard(key)
            self._summaries[key] = frame.summary
        return self._summaries[key]

    def is_allowed(self, rule: Rule, source: Source, first: int, last: int) -> bool:
        """Whether a comment on one of the lines silences the rule; then it had a use."""
        for line in range(first, last + 1) if source.allows else ():
            allow = source.allows.get(line)
            if allow is not None and rule.category in allow.categories:
                allow.used.add(rule.category)
                return True
        return False


class Frame:
    """A function while it is read: its names, as they are at this point of it, and its summary."""

    def __init__(self, analysis: Analysis, function: Function, given: dict[str, Values]) -> None:
        self.analysis = analysis
        self.function = function
        self.source = function.source
        self.scope = Scope(function.source, function.scope, is_shared=analysis.imports > 0)
        self.names: dict[str, Values] = {}
        self.summary = Summary()
        self.globals: set[str] = set()
        self.outer: set[str] = set()  # names that are `nonlocal`
        self.loops = 0
        self.span = (0, 0)  # the lines of the statement that is read
        self.is_quiet = False  # while arguments are read that go to a log or an error message
        self.is_logged = False  # while they go to a log
        for name, values in given.items():
            self.bind(name, values)

    def bind(self, name: str, values: Values) -> None:
        """Let a local name mean something from here on."""
        self.names[name] = values
        self.scope.bind(name, values)

    def place(self, node: ast.AST) -> Place:
        line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        column = self.source.column(line, offset)
        text = self.source.line(line).strip()
        return Place(self.source.shown, line, column, self.function.name, text)

    def evaluate(self, node: ast.expr) -> Values:
        """What an expression is worth; what it does wrong is reported."""
        return self.analysis.evaluate(self, node)

    def attribute(self, atom: Atom, name: str, node: ast.expr) -> Values:
        """What an attribute is worth."""
        return self.analysis.attribute(self, atom, name, node)

    def _lines(self, node: ast.AST) -> tuple[int, int]:
        """The lines on which a comment speaks of a node: its own, and its statement's."""
        first = getattr(node, "lineno", 1)
        last = (getattr(node, "end_lineno", None) or first) if isinstance(node, ast.expr) else first
        start, end = self.span
        return (min(first, start), max(last, end)) if start <= first <= end else (first, last)

    def report(self, code: str, node: ast.AST, what: str) -> None:
        """Note that something is wrong, unless a comment allows it."""
        rule = RULES[code]
        if not self.analysis.is_allowed(rule, self.source, *self._lines(node)):
            self._take(Finding(rule, self.place(node), what))

    def is_local(self, name: str) -> bool:
        """Whether a name is of this function, or of one around it."""
        scope: Scope | None = self.scope
        while scope is not None and scope.parent is not None:
            if name in scope.names:
                return True
            scope = scope.parent
        return name in self.names

    def is_outer_shared(self, name: str) -> bool:
        """Whether a name that is `nonlocal` here is of a function that ran at import."""
        scope = self.function.scope
        while scope.parent is not None and name not in scope.names:
            scope = scope.parent
        return scope.is_shared

    def report_shared(self, node: ast.expr, name: str) -> None:
        """Note that state is changed that all share, unless it keeps what anyone would make."""
        if not is_memo(node, self.function.node):
            self.report("EDL010", node, f"{name} {RULES['EDL010'].title}")

    def report_order(self, hashed: Hashed, *, used: str) -> None:
        """Note that the order of a set was taken, and came to matter."""
        if self.is_logged:
            return  # for people's eyes only
        rule, place = RULES["EDL801"], hashed.place
        source = self.analysis.files[place.file]
        if not self.analysis.is_allowed(rule, source, place.line, place.line):
            self._take(Finding(rule, place, f"{used} {rule.title}", hashed.chain))

    def report_at(self, code: str, place: Place, what: str) -> None:
        """Note that something is wrong on a line that was read before."""
        rule, source = RULES[code], self.analysis.files[place.file]
        if not self.analysis.is_allowed(rule, source, place.line, place.line):
            self._take(Finding(rule, place, f"{what} {rule.title}"))

    def gap(self, node: ast.AST, reason: str) -> None:
        """Note that something could not be analysed."""
        gap = Gap(self.place(node), reason)
        self.summary.gaps[gap] = None

    def call(self, function: Function, given: dict[str, Values], node: ast.AST) -> Values:
        """Follow a call: what it returns; what it does wrong is wrong here too."""
        summary = self.analysis.enter(function, given)
        first, last = self._lines(node)
        site = self.place(node)
        for finding in list(summary.findings.values()):
            if not self.analysis.is_allowed(finding.rule, self.source, first, last):
                self._take(replace(finding, chain=(site, *finding.chain)))
        self.summary.gaps.update(summary.gaps)
        return _through(summary.returns, site)

    def _take(self, finding: Finding) -> None:
        known = self.summary.findings.get(finding.key)
        if known is None or len(finding.chain) < len(known.chain):
            self.summary.findings[finding.key] = finding


def _through(values: Values, site: Place) -> Values:
    """Values that a call returned: the order of a set remembers the way it came."""
    if not any(isinstance(atom, Hashed | Many) for atom in values):
        return values
    found: set[Atom] = set()
    for atom in values:
        if isinstance(atom, Hashed) and len(atom.chain) < MAX_DEPTH:
            found.add(replace(atom, chain=(site, *atom.chain)))
        elif isinstance(atom, Many):
            found.add(Many(_through(atom.values, site)))
        else:
            found.add(atom)
    return frozenset(found)
