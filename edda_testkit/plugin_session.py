"""What sees every simulation of a session: outcome coverage, and the report."""

import importlib
from typing import Any

import pytest

__all__ = ["install"]

COVERAGE = ("edda_coverage", "edda_coverage_fail_under", "edda_coverage_json")


def install(config: pytest.Config, observers: pytest.StashKey[list[Any]]) -> None:
    """Register what the options ask for."""
    # Every test has its view of the session now, whenever it imports the kit.
    importlib.import_module("edda_testkit.session")
    plugins: dict[str, Any] = {}
    if any(config.getoption(name) not in (None, False) for name in COVERAGE):
        room = importlib.import_module("edda_testkit.plugin_coverage")
        plugins["edda-coverage"] = room.CoveragePlugin(config)
    if config.getoption("edda_report"):
        room = importlib.import_module("edda_testkit.plugin_report")
        plugins["edda-report"] = room.ReportPlugin(config)
    for name, plugin in plugins.items():
        config.pluginmanager.register(plugin, name)
        config.stash[observers].append(plugin.observe)
