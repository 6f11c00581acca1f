"""The pytest side of outcome coverage: gathers over a session, merges under xdist, and reports.

Loaded by the plugin when one of the `--edda-coverage` options is given, and by nobody else.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from edda.workflow import registry
from edda_testkit.coverage import Coverage
from edda_testkit.sites import is_within

__all__ = ["CoveragePlugin"]

OUTPUT = "edda_coverage"


class CoveragePlugin:
    """One session's outcome coverage. `observe` is called with each simulation as it closes."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._coverage = Coverage()
        self._is_worker = hasattr(config, "workerinput")
        self._points: bool = config.getoption("edda_coverage_points")
        self._least: float | None = config.getoption("edda_coverage_fail_under")
        self._shortfall = ""

    def observe(self, simulation: Any) -> None:
        """Count the runs of a simulation."""
        lost: dict[str, list[str]] = {}
        for (instance_id, ask_id), (_, times) in simulation.executions.items():
            if times:
                lost.setdefault(instance_id, []).append(ask_id)
        for run in simulation.runs:
            if history := run.history:
                self._coverage.add(
                    run.workflow,
                    run.id,
                    history,
                    crashed_at=[
                        crash.lengths.get(run.id, 1)
                        for crash in simulation.crashes
                        if crash.at >= history[0].at
                    ],
                    lost=lost.get(run.id, ()),
                    refused=simulation.store.refused,
                )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In a worker, hand over; else judge, and write the file."""
        for known in registry.values():
            for workflow in known:
                if is_within(workflow, self._config.rootpath):
                    self._coverage.know(workflow)
        if self._is_worker:
            output: dict[str, Any] = self._config.workeroutput  # type: ignore[attr-defined]
            output[OUTPUT] = self._coverage.dumps()
            return
        percent = self._coverage.percent(points=self._points)
        is_run = not self._config.getoption("collectonly")
        if is_run and self._least is not None and percent < self._least:
            self._shortfall = (
                f"FAIL Required outcome coverage of {self._least:g}% not reached. "
                f"It is {percent:.2f}%."
            )
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if path := self._config.getoption("edda_coverage_json"):
            document = self._coverage.document(points=self._points)
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker of xdist saw; one that died has left nothing."""
        text = getattr(node, "workeroutput", {}).get(OUTPUT)
        if text is not None:
            self._coverage.merge(Coverage.loads(text))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The table."""
        terminalreporter.section("edda outcome coverage", sep="-")
        for line in self._coverage.lines(points=self._points):
            terminalreporter.write_line(line)
        if self._shortfall:
            terminalreporter.write_line(self._shortfall, red=True, bold=True)
