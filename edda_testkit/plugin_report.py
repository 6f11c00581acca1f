"""The pytest side of the report: collects what each test simulated, and writes the page.

What a test simulated travels with the report of its teardown, under xdist too. Loaded by the
plugin when `--edda-report` is given, and by nobody else.
"""

import json
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from edda_testkit.report import page, simulation_entry, test_entry
from edda_testkit.session import current_session

__all__ = ["ReportPlugin"]

# Simulations kept of a test, the last ones: @given and @explore open hundreds.
KEPT = 3


class ReportPlugin:
    """One session's report. `observe` is called with each simulation as it closes."""

    def __init__(self, config: pytest.Config) -> None:
        self._path = Path(config.getoption("edda_report"))
        self._is_worker = hasattr(config, "workerinput")
        self._closed: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._failure: dict[str, Any] | None = None
        self._count = 0
        self._tests: dict[str, dict[str, Any]] = {}

    def observe(self, simulation: Any) -> None:
        """Keep what a simulation was."""
        self._closed.append(simulation_entry(simulation))
        self._count += 1

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let what was simulated travel with the last report of a test."""
        del item
        report = yield
        session = current_session.get()
        for done in [] if session is None or call.when != "call" else session.explored:
            if done.failure is not None:  # of all the schedules, the one to look at
                self._failure = simulation_entry(done.failure.simulation)
        if call.when == "teardown" and self._count:
            sims = [*self._closed] if self._failure is None else [self._failure]
            told = {"sims": sims, "more": self._count - len(sims)}
            vars(report)["edda_simulations"] = json.dumps(told)  # text: plain for xdist
            self._closed.clear()
            self._failure = None
            self._count = 0
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Put a test together from the reports of its phases."""
        test = self._tests.setdefault(
            report.nodeid, {"outcome": "passed", "seconds": 0.0, "message": "", "sims": None}
        )
        test["seconds"] += report.duration
        if report.outcome != "passed":
            is_error = report.when != "call" and report.outcome == "failed"
            outcome = "error" if is_error else str(report.outcome)
            test["outcome"] = "xfailed" if hasattr(report, "wasxfail") else outcome
            test["message"] += report.longreprtext
        if (told := getattr(report, "edda_simulations", None)) is not None:
            test |= json.loads(told)

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        if self._is_worker:
            return
        entries = [
            test_entry(nodeid, test["outcome"], test["seconds"], test["message"], test["sims"])
            | {"more": test.get("more", 0)}
            for nodeid, test in self._tests.items()
            if test["sims"]
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(page(entries), "utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where it is."""
        if not self._is_worker:
            terminalreporter.write_line(f"edda report: {self._path.resolve().as_uri()}")
