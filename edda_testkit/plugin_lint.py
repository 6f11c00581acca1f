"""`--edda-lint`: the lint as pytest items, one for each file with findings and one for the whole.

A file without findings makes no item: a hundred passing lines would say nothing. The item
`edda-lint` always runs, and says how much was looked at. Loaded by the plugin when the option is
given. Absent: what is wrong and why (`lint`).
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from edda_testkit.lint import Report, lint
from edda_testkit.lint_frames import Finding
from edda_testkit.lint_report import finding_text, summary

__all__ = ["LintPlugin"]


class _LintFailure(Exception):  # noqa: N818 - what it carries is shown, not its name
    """The findings of one file, as text."""


class _Item(pytest.Item):
    """A file that was linted, or the lint as a whole."""

    def __init__(self, *, text: str, place: str, **rest: Any) -> None:
        super().__init__(**rest)
        self._text = text
        self._place = place
        self.add_marker(pytest.mark.edda_lint)

    def runtest(self) -> None:
        if self._text:
            raise _LintFailure(self._text)

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """Show the findings as they are, without a traceback."""
        if isinstance(excinfo.value, _LintFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"edda-lint {self._place}".rstrip()


class _Collector(pytest.Collector):
    """Lints when pytest collects."""

    report: Report

    def collect(self) -> Iterator[pytest.Item]:
        paths = self.config.getini("edda_lint_paths") or [self.config.rootpath]
        missing = [path for path in paths if not Path(path).exists()]
        if missing:
            raise self.CollectError(f"edda_lint_paths: there is no {missing[0]}")
        self.report = lint([Path(path) for path in paths])
        found = [one for one in self.report.findings if one.rule.severity != "note"]
        for file, findings in groupby(found, key=lambda one: one.place.file):
            text = "\n\n".join(map(finding_text, findings))
            yield _Item.from_parent(self, name=file, text=text, place=file)
        yield _Item.from_parent(self, name="workflows", text=self._nothing(), place="workflows")

    def _nothing(self) -> str:
        if self.report.workflows:
            return ""
        return f"{summary(self.report)} Name the packages in the ini option edda_lint_paths."


class LintPlugin:
    """Adds the lint's items to a session, and its summary to the end of it."""

    def __init__(self) -> None:
        self._collector: _Collector | None = None

    def pytest_collection(self, session: pytest.Session) -> None:
        """Make the collector, which hangs below the session."""
        self._collector = _Collector.from_parent(session, name="edda-lint", nodeid="edda-lint")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the lint's items first: they are quick, and their findings explain other failures."""
        assert self._collector is not None
        items[:0] = list(self._collector.collect())

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was looked at, and what could not be."""
        report = getattr(self._collector, "report", None)
        if report is not None:
            terminalreporter.section("edda lint", "-")
            for gap in report.gaps:
                place = gap.place
                terminalreporter.line(f"not analysed: {place.file}:{place.line}: {gap.reason}")
            notes: list[Finding] = [one for one in report.findings if one.rule.severity == "note"]
            for note in notes:
                terminalreporter.line(f"{note.place.file}:{note.place.line}: {note.what}")
            terminalreporter.line(summary(report))
