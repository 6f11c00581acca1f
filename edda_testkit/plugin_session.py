"""What sees every simulation of a session: outcome coverage, and the report."""

from typing import Any

import pytest

# Loaded so that every test has its view of the session, whenever it imports the kit.
import edda_testkit.session  # noqa: F401
from edda_testkit.plugin_coverage import CoveragePlugin

__all__ = ["install"]


def install(config: pytest.Config, observers: pytest.StashKey[list[Any]]) -> None:
    """Register what the options ask for."""
    coverage = ("edda_coverage", "edda_coverage_fail_under", "edda_coverage_json")
    if any(config.getoption(name) not in (None, False) for name in coverage):
        plugin = CoveragePlugin(config)
        config.pluginmanager.register(plugin, "edda-coverage")
        config.stash[observers].append(plugin.observe)
