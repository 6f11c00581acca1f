"""The pytest-first kit that tests Edda workflows in virtual time.

`Simulation` is the heart of it; with pytest, the fixtures `edda_sim` and `edda_async_sim` open
one for a test. Names are imported when they are first used: pytest loads this package at every
start-up, also of projects that do not use it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edda_testkit.async_simulation import AsyncSimulation
    from edda_testkit.contract import check_store
    from edda_testkit.errors import (
        CrashChangedOutcome,
        ForgottenAwait,
        GoldenMismatch,
        Misuse,
        NondeterminismWarning,
        NondeterministicCall,
        NotExhaustive,
        NotReplayableRun,
        ScheduleError,
        Stalled,
        StrategyError,
        StubError,
        StuckRun,
        UnusedStub,
        WorkflowNotFinished,
    )
    from edda_testkit.exploration import check_crashes, explore
    from edda_testkit.runs import Run, Waiting
    from edda_testkit.schedule import Schedule
    from edda_testkit.search import Exploration
    from edda_testkit.simulation import Simulation
    from edda_testkit.stateful import WorkflowMachine
    from edda_testkit.stubs import Call, Stub
    from edda_testkit.workers import Worker

__all__ = [
    "AsyncSimulation",
    "Call",
    "CrashChangedOutcome",
    "Exploration",
    "ForgottenAwait",
    "GoldenMismatch",
    "Misuse",
    "NondeterminismWarning",
    "NondeterministicCall",
    "NotExhaustive",
    "NotReplayableRun",
    "Run",
    "Schedule",
    "ScheduleError",
    "Simulation",
    "Stalled",
    "StrategyError",
    "Stub",
    "StubError",
    "StuckRun",
    "UnusedStub",
    "Waiting",
    "Worker",
    "WorkflowMachine",
    "WorkflowNotFinished",
    "check_crashes",
    "check_store",
    "explore",
]

_ROOMS = {
    "WorkflowMachine": "stateful",
    "AsyncSimulation": "async_simulation",
    "check_crashes": "exploration",
    "check_store": "contract",
    "explore": "exploration",
    "Exploration": "search",
    "Schedule": "schedule",
    "Worker": "workers",
    "Run": "runs",
    "Waiting": "runs",
    "Simulation": "simulation",
    "Call": "stubs",
    "Stub": "stubs",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS.get(name, 'errors')}"), name)
