"""The pytest plugin: fixtures, options, and the checks after a passing test.

Import-safe and lazy: it imports pytest and nothing else until a test asks for a simulation, and
patches nothing. Time is frozen only around tests that ask, and real again before any other.
"""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

SESSION = pytest.StashKey[Any]()
FREEZER = pytest.StashKey[Any]()
LOOPS = pytest.StashKey[Any]()
OBSERVERS = pytest.StashKey[list[Any]]()
PROPERTY = "edda_explored"
EXPLORED = "__edda_explored__"  # `exploration.MARK`
SEEING = ("edda_coverage", "edda_coverage_fail_under", "edda_coverage_json", "edda_report")
FIXTURES = frozenset({"edda_sim", "edda_async_sim"})


OPTIONS: dict[str, dict[str, Any]] = {
    "--edda-store": {
        "choices": ("memory", "sqlite"),
        "default": "memory",
        "help": "the store that simulations run on (default: memory)",
    },
    "--edda-lint": {
        "action": "store_true",
        "help": "look for nondeterminism in the workflows of edda_lint_paths, without running them",
    },
    "--edda-update": {
        "action": "store_true",
        "help": "write the golden histories that tests ask for, where they do not fit",
    },
    "--edda-perturb": {
        "choices": ("on", "off"),
        "default": "on",
        "help": "replay golden histories under other hash seeds, time zones, locales (default: on)",
    },
    "--edda-guard": {
        "choices": ("strict", "warn", "off"),
        "help": "what becomes of workflow code that no replay can repeat (default: edda_guard)",
    },
    "--edda-schedule": {
        "metavar": "TOKEN",
        "help": "run explored tests under this one schedule, as printed with a failure: edda1-...",
    },
    "--edda-coverage": {
        "action": "store_true",
        "help": "show which outcomes of which call sites of workflows the tests went through",
    },
    "--edda-coverage-fail-under": {
        "type": float,
        "metavar": "PERCENT",
        "help": "fail when fewer of the possible outcomes were seen",
    },
    "--edda-coverage-json": {"metavar": "FILE", "help": "write the outcome coverage as JSON"},
    "--edda-coverage-points": {
        "action": "store_true",
        "help": "count a crash and a cancellation at each call site as outcomes too",
    },
    "--edda-report": {"metavar": "FILE", "help": "write a page (HTML) of all simulated tests"},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "edda_lint_paths": {
        "type": "paths",
        "help": "files and folders that --edda-lint reads (default: the root folder)",
    },
    "edda_guard": {
        "help": "what becomes of workflow code no replay can repeat: strict (default), warn, off",
        "default": "strict",
    },
    "edda_freeze": {
        "help": "how virtual time is shown to code: freezegun (default), time-machine or off",
        "default": "freezegun",
    },
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the command line, and the settings of the project's file."""
    group = parser.getgroup("edda", "durable workflows in virtual time")
    for name, option in OPTIONS.items():
        group.addoption(name, **option)
    for name, setting in SETTINGS.items():
        parser.addini(name, **setting)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and what the options ask for."""
    config.addinivalue_line(
        "markers",
        "edda(replay=True, unused_stubs=False, strict_events=False, guard=None, start=None, "
        "seed=0): "
        "options of the edda_sim of this test, those of edda_testkit.Simulation",
    )
    if config.getoption("--edda-lint"):
        config.addinivalue_line("markers", "edda_lint: an item that --edda-lint made")
        room = importlib.import_module("edda_testkit.plugin_lint")
        config.pluginmanager.register(room.LintPlugin(), "edda-lint")
    config.stash[OBSERVERS] = []
    if any(config.getoption(name) not in (None, False) for name in SEEING):
        importlib.import_module("edda_testkit.plugin_session").install(config, OBSERVERS)


@pytest.fixture
def edda_sim(request: pytest.FixtureRequest) -> Generator[Any, None, None]:
    """A fresh simulation of its own for this test (`edda_testkit.Simulation`)."""
    if _is_explored(request.node):  # it gets one for each schedule
        yield None
        return
    simulation = _simulation(request)
    with _closing(simulation):
        yield simulation


@pytest.fixture
def edda_async_sim(request: pytest.FixtureRequest) -> Generator[Any, None, None]:
    """A fresh simulation for an `async def` test (`edda_testkit.AsyncSimulation`)."""
    if _is_explored(request.node):
        yield None
        return
    kit = importlib.import_module("edda_testkit.async_simulation")
    simulation = _simulation(request)
    with _closing(simulation):
        yield kit.AsyncSimulation(simulation)


@pytest.fixture
def edda_share(request: pytest.FixtureRequest) -> Any:
    """Which part of a long exploration this is, and of how many."""
    return request.param


@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Split a long exploration over xdist's workers."""
    if hasattr(metafunc.function, EXPLORED):
        importlib.import_module("edda_testkit.plugin_explore").split(metafunc)


class _closing:  # noqa: N801 - used like contextlib.closing
    """Open a simulation and close it; its checks are made when the test function has passed."""

    def __init__(self, simulation: Any) -> None:
        self._simulation = simulation

    def __enter__(self) -> None:
        self._simulation.__enter__()

    def __exit__(self, *_: object) -> None:
        self._simulation.close()


def _simulation(request: pytest.FixtureRequest) -> Any:
    item = request.node
    importlib.import_module("edda_testkit.session")
    _enter(item)  # a fixture's simulation is wanted before the test function is called
    kit = importlib.import_module("edda_testkit.simulation")
    return kit.Simulation(**_options(item, kit))


def _options(item: pytest.Item, kit: Any) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("edda"))):
        if marker.args:
            raise pytest.UsageError(
                f"@pytest.mark.edda takes keyword arguments only, got {marker.args!r}"
            )
        options |= marker.kwargs
    if not options:
        return options
    parameters = inspect.signature(kit.Simulation).parameters
    known = [name for name in parameters if name not in ("schedule", "freezer")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise pytest.UsageError(
            f"@pytest.mark.edda has no option {unknown[0]!r}; it takes {', '.join(known)}"
        )
    return options


def _is_explored(item: pytest.Item) -> bool:
    return hasattr(getattr(item, "obj", None), EXPLORED)


# ---- Golden histories (edda_testkit.plugin_golden) ----------------------------------------------


def _golden() -> Any:
    return importlib.import_module("edda_testkit.plugin_golden")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A history in a folder `histories` is a test item by itself."""
    if file_path.suffix == ".json" and "histories" in file_path.parts:
        collector: pytest.Collector | None = _golden().collect(file_path, parent)
        return collector
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Golden files come after the tests that may write them."""
    if "edda_testkit.plugin_golden" in sys.modules:
        _golden().last(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands on what it found."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None and "edda_testkit.plugin_golden" in sys.modules:
        output["edda_golden"] = _golden().packed(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """And the process that reports takes it in."""
    found = getattr(node, "workeroutput", {}).get("edda_golden")
    if found is not None:
        _golden().merge(node.config, found)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What was explored, a line for each test; what was written, and what golden histories hold."""
    explored = [
        f"{report.nodeid}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if terminalreporter.verbosity >= 0:
        _section(terminalreporter, "edda exploration", explored)
    if "edda_testkit.plugin_golden" in sys.modules:
        held: list[str] = []
        _golden().report(config, held.append)
        _section(terminalreporter, "edda golden histories", held)


def _section(terminalreporter: Any, title: str, lines: list[str]) -> None:
    if lines:
        terminalreporter.section(title, sep="-")
        for line in lines:
            terminalreporter.write_line(line)


# ---- Around each test --------------------------------------------------------------------------


def _enter(item: pytest.Item) -> None:
    """Give the test its view of the session, once the kit is in use at all."""
    if SESSION in item.stash or "edda_testkit.session" not in sys.modules:
        return
    kit = importlib.import_module("edda_testkit.session")
    config = item.config
    if FREEZER not in config.stash:
        freeze = importlib.import_module("edda_testkit.freeze")
        backend = config.getini("edda_freeze")
        if backend not in ("freezegun", "time-machine", "off"):
            raise pytest.UsageError(
                f"edda_freeze must be freezegun, time-machine or off, got {backend!r}"
            )
        config.stash[FREEZER] = freeze.Freezer(backend)
        config.stash[LOOPS] = importlib.import_module("edda_testkit.loops").Loops()
    session = kit.Session(config.stash[FREEZER], config.stash[LOOPS])
    if config.getoption("--edda-store") == "sqlite":
        sqlite = importlib.import_module("edda.stores.sqlite")
        session.options["store"] = sqlite.DirectSqliteStore
    session.goldens = lambda: _golden().goldens_for(item)
    mode = config.getoption("--edda-guard") or config.getini("edda_guard")
    if mode not in ("strict", "warn", "off"):
        raise pytest.UsageError(f"edda_guard must be strict, warn or off, got {mode!r}")
    session.options["guard"] = mode
    session.observers = config.stash[OBSERVERS]
    session.options["schedule"] = config.getoption("--edda-schedule")
    item.stash[SESSION] = session
    kit.current_session.set(session)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Every kind of test has its view of the session, a state machine's `TestCase` too."""
    __tracebackhide__ = True
    _enter(item)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """After a passing test function: its simulations must be replayable, stubs used."""
    __tracebackhide__ = True
    result = yield
    session = pyfuncitem.stash.get(SESSION, None)
    for simulation in () if session is None else session.opened:
        if simulation.is_open:
            simulation.check()
    return result


class _AsyncTests:
    """Runs explored tests, and `async def` tests with a simulation where no other plugin does."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        __tracebackhide__ = True
        function = pyfuncitem.obj
        if _is_explored(pyfuncitem):
            importlib.import_module("edda_testkit.session")
            _enter(pyfuncitem)
            kit = importlib.import_module("edda_testkit.simulation")
            exploring = importlib.import_module("edda_testkit.plugin_explore")
            exploring.explore_item(pyfuncitem, _options(pyfuncitem, kit))
            return True
        if not inspect.iscoroutinefunction(function) or not _uses_simulation(pyfuncitem):
            return None
        if any(pyfuncitem.get_closest_marker(name) for name in ("asyncio", "anyio", "trio")):
            return None
        wanted = inspect.signature(function).parameters
        names = [name for name in pyfuncitem.funcargs if name in wanted]
        # Not imported above: it costs more than the rest of this plugin.
        asyncio = importlib.import_module("asyncio")
        asyncio.run(function(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True


def pytest_sessionstart(session: pytest.Session) -> None:
    """A second implementation of one hook needs an object of its own."""
    session.config.pluginmanager.register(_AsyncTests(), "edda-async-tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Make time real again, unless the next test wants a simulation too."""
    try:
        return (yield)
    finally:
        session = item.stash.get(SESSION, None)
        if session is not None:
            importlib.import_module("edda_testkit.session").current_session.set(None)
            del item.stash[SESSION]
            if nextitem is None or not _uses_simulation(nextitem):
                _release(session.freezer)
                session.loops.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the virtual timeline of every run when a test fails, and none of our own frames."""
    session = item.stash.get(SESSION, None)
    if call.excinfo is not None and session is not None and not item.config.option.fulltrace:
        _hide(call.excinfo)
    report = yield
    if report.when == "call" and session is not None and session.explored:
        exploring = importlib.import_module("edda_testkit.plugin_explore")
        if report.failed:
            report.sections += exploring.sections(session.explored, item.nodeid)
        elif counted := exploring.counted(session.explored):
            report.user_properties.append((PROPERTY, counted))
    if report.when == "call" and report.failed and session is not None:
        telling = importlib.import_module("edda_testkit.telling")
        for simulation in telling.concerned(session.opened, session.explored):
            is_explored = bool(session.explored)
            report.sections += telling.sections(simulation, is_explored=is_explored)
    return report


def pytest_report_teststatus(report: Any) -> tuple[str, str, str] | None:
    """Under -v a passing explored test says how many schedules it went through."""
    counted = dict(getattr(report, "user_properties", ())).get(PROPERTY)
    if counted is None or report.when != "call" or not report.passed:
        return None
    return "passed", ".", f"PASSED ({counted})"


def _release(freezer: Any) -> None:
    # A fixture of the user's may have frozen time for longer than this test: then after it.
    with contextlib.suppress(importlib.import_module("edda_testkit.freeze").FreezeError):
        freezer.release()


def _hide(excinfo: Any) -> None:
    """Show the frames of the test and what it called; --full-trace shows all of them."""
    for entry in excinfo.traceback:
        names = entry.frame.f_globals  # where pytest looks for this name, after the locals
        if str(names.get("__name__", "")).partition(".")[0] in ("edda", "edda_testkit"):
            names["__tracebackhide__"] = True


def _uses_simulation(item: pytest.Item) -> bool:
    return bool(FIXTURES.intersection(getattr(item, "fixturenames", ())))
