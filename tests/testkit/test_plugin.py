"""The pytest plugin in small real projects: fixtures, checks, reports, and time that is real."""

import re
import subprocess
import sys
import textwrap

import pytest

FLOWS = """
import asyncio, random
from datetime import datetime, UTC
from edda import workflow, activity, wait_event, sleep

@activity
async def pay(ctx, amount: int) -> int:
    return amount

@workflow
async def order(ctx):
    await pay(ctx, 1)
    event = await wait_event(ctx, "paid", timeout_seconds=60)
    return event.data

@workflow
async def timer(ctx):
    await sleep(ctx, 60)

@workflow
async def dice(ctx):
    await pay(ctx, random.randrange(10**9))  # edda: allow[random]
"""

pytestmark = pytest.mark.usefixtures("_fresh_process_only")


@pytest.fixture
def _fresh_process_only(monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def project(pytester):
    """Writes a test module, runs it in a process of its own, and returns the outcome."""
    pytester.makepyfile(flows=FLOWS)

    def run(source, *args, ini=""):
        pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}\n")
        head = "import asyncio, pytest, time\nimport datetime as dt\nfrom flows import *\n"
        pytester.makepyfile(test_it=head + textwrap.dedent(source))
        return pytester.runpytest_subprocess(*(args or NO_ASYNC))

    return run


NO_ASYNC = ("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:cacheprovider")
SIMPLE = """
def test_pays(edda_sim):
    run = edda_sim.start(order)
    edda_sim.send("paid", 3)
    assert run.result == 3
"""
ASYNC = """
async def test_pays(edda_async_sim):
    run = await edda_async_sim.start(order)
    await edda_async_sim.send("paid", 3)
    assert run.result == 3
"""


def test_the_fixture_is_there_in_a_fresh_project(project):
    """A project that does nothing but install the package has `edda_sim`."""
    project(SIMPLE).assert_outcomes(passed=1)


def test_marker_options_reach_the_simulation(project):
    """Options of the marker are the simulation's; those nearer to the test win."""
    source = """
    @pytest.mark.edda(seed=1, start=dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    class TestIt:
        @pytest.mark.edda(replay=False, start=dt.datetime(2031, 1, 1, tzinfo=dt.UTC))
        def test_options(self, edda_sim):
            assert edda_sim.start(dice).status == "completed"
            assert edda_sim.now.year == 2031
    """
    project(source).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("relpay=False", "*has no option 'relpay'; it takes start, seed, store,*"),
        ("False", "*takes keyword arguments only, got (False,)*"),
        ("start=dt.datetime(2030, 1, 1)", "*needs a time zone*"),
    ],
)
def test_a_bad_marker_is_explained(project, options, message):
    """A misspelt option is an error that lists the right ones."""
    result = project(f"@pytest.mark.edda({options})\ndef test_it(edda_sim): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("edda_sim.stub(pay, returns=1)", "*These stubs were never used:*"),
        ("edda_sim.start(dice)", "*The test passes, but is not replayable: dice*"),
        (
            """other = workflow(name='order')(timer.fn)
    edda_sim.start(order)
    edda_sim.deploy(other)
    edda_sim.send('paid', 1)""",
            "*is stuck: its code does not fit its history*",
        ),
    ],
)
def test_what_only_seems_to_pass_fails(project, body, message):
    """An unused stub, an unreplayable run and a stuck run fail the test, and are no errors."""
    result = project(f"def test_it(edda_sim):\n    {body}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])


def test_a_failing_test_is_not_judged_further(project):
    """The test's own failure is the one that is reported."""
    result = project("def test_it(edda_sim):\n    edda_sim.stub(pay, returns=1)\n    assert 1 == 2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*"])
    result.stdout.no_fnmatch_line("*never used*")


def test_a_failure_shows_timeline_and_waits(project):
    """The report of a failure has each run's timeline, its waits, and events left over."""
    source = """
    def test_it(edda_sim):
        edda_sim.start(order, instance_id="O-1")
        edda_sim.send("other")
        assert False
    """
    result = project(source)
    result.stdout.fnmatch_lines(
        [
            "*edda timeline of order 'O-1'*",
            "*order*",
            "*pay:1*returned 1*",
            "waits for event 'paid'*flows.py:*",
            "*edda events that no run took*",
            "other (id 'event-1'), sent at 2000-01-01*",
        ]
    )


def test_a_simulation_of_the_tests_own_is_reported_too(project):
    """`with Simulation()` in a test shows its timeline although it is closed by then."""
    source = """
    from edda_testkit import Simulation
    def test_it():
        with Simulation() as sim:
            sim.start(order, instance_id="O-1")
            assert False
    """
    project(source).stdout.fnmatch_lines(["*edda timeline of order 'O-1'*", "waits for event*"])


# ---- Async tests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "args", "ini"),
    [
        ("", NO_ASYNC, ""),
        ("", ("-p", "no:asyncio"), ""),
        ("", ("--asyncio-mode=strict",), "asyncio_default_fixture_loop_scope = function"),
        (
            "@pytest.mark.asyncio",
            ("--asyncio-mode=strict",),
            "asyncio_default_fixture_loop_scope = function",
        ),
        ("", ("--asyncio-mode=auto",), "asyncio_default_fixture_loop_scope = function"),
        ("@pytest.mark.anyio", ("-p", "no:asyncio"), ""),
    ],
)
def test_async_tests_run_under_any_plugin(project, mark, args, ini):
    """Without a plugin we run them; where another one is in charge, it does."""
    source = f"""
    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    {mark}
    async def test_pays(edda_async_sim):
        run = await edda_async_sim.start(order)
        await edda_async_sim.send("paid", 3)
        assert run.result == 3

    {mark}
    async def test_fails(edda_async_sim):
        await edda_async_sim.start(dice)
    """
    result = project(source, *args, ini=ini)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*The test passes, but is not replayable: dice*"])


# ---- Time --------------------------------------------------------------------------------------


def test_time_is_real_in_the_next_test(project):
    """The next test sees the real clock and the real class, and pays no freeze."""
    source = """
    def test_frozen(edda_sim):
        assert dt.datetime.now().year == 2000
        assert time.time() == edda_sim.now.timestamp()

    def test_real():
        import datetime
        assert type(datetime.datetime) is type
        assert datetime.datetime.__module__ == "datetime"
        assert datetime.datetime.now().year > 2020
        assert type(time.time).__name__ == "builtin_function_or_method"
    """
    project(source).assert_outcomes(passed=2)


def test_consecutive_tests_freeze_once(project, pytester):
    """The scan of loaded modules is made once for tests that follow each other."""
    pytester.makeconftest(
        """
        import freezegun.api
        starts = []
        original = freezegun.api._freeze_time.start
        def start(self):
            starts.append(1)
            return original(self)
        freezegun.api._freeze_time.start = start
        def pytest_unconfigure():
            print(f"freezes: {len(starts)}")
        """
    )
    source = """
    @pytest.mark.parametrize("n", range(5))
    def test_it(edda_sim, n):
        edda_sim.start(timer)
    """
    result = project(source, *NO_ASYNC, "-s")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["*freezes: 1"])


def test_a_freeze_of_the_test_is_adopted(project):
    """Under freeze_time, as decorator or block, the simulation starts there and is led along."""
    source = """
    from freezegun import freeze_time
    from edda_testkit import Simulation

    def check(sim, frozen):
        assert sim.now == dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
        run = sim.start(timer)
        frozen.tick(59)
        assert run.status == "waiting_for_timer"
        frozen.tick(1)
        assert run.status == "completed"
        other = sim.start(timer)
        frozen.move_to("2024-05-02")
        assert other.history[-1].at == dt.datetime(2024, 5, 1, 0, 2, tzinfo=dt.UTC)
        sim.advance(hours=1)
        assert dt.datetime.now() == dt.datetime(2024, 5, 2, 1)

    @freeze_time("2024-05-01", as_kwarg="frozen")
    def test_decorated(edda_sim, frozen=None):
        check(edda_sim, frozen)

    def test_block(edda_sim):
        with freeze_time("2024-05-01") as frozen:
            check(edda_sim, frozen)

    def test_block_around():
        with freeze_time("2024-05-01") as frozen, Simulation() as sim:
            check(sim, frozen)

    def test_too_early(edda_sim):
        edda_sim.start(timer)
        with freeze_time("1999-01-01"), pytest.raises(ValueError, match="never goes backward"):
            edda_sim.advance(1)

    def test_real():
        assert type(dt.datetime) is type and dt.datetime.now().year > 2024
    """
    project(source).assert_outcomes(passed=5)


def test_the_clock_can_be_left_alone(project):
    """With edda_freeze = off, code sees real time; a wrong value is explained."""
    source = """
    def test_it(edda_sim):
        assert dt.datetime.now().year > 2020 and edda_sim.now.year == 2000
    """
    project(source, *NO_ASYNC, ini="edda_freeze = off").assert_outcomes(passed=1)
    project(source, *NO_ASYNC, ini="edda_freeze = ice").stdout.fnmatch_lines(["*got 'ice'*"])


# ---- Ways to run -------------------------------------------------------------------------------


def test_tests_run_in_parallel(project):
    """Under xdist each worker has its own."""
    source = """
    @pytest.mark.parametrize("n", range(8))
    def test_it(edda_sim, n):
        edda_sim.start(timer)
        edda_sim.advance(60)
    """
    project(source, "-n", "2", *NO_ASYNC).assert_outcomes(passed=8)


def test_tests_run_on_sqlite(project):
    """`--edda-store=sqlite` runs the same tests on SQL, and its reports as well."""
    source = SIMPLE + "    assert 'Sqlite' in repr(edda_sim.store)\n"
    project(source, "--edda-store=sqlite", *NO_ASYNC).assert_outcomes(passed=1)
    project(ASYNC, "--edda-store=sqlite", *NO_ASYNC).assert_outcomes(passed=1)


def test_given_opens_a_simulation_for_each_example(project):
    """Hypothesis tests open simulations of their own, with time frozen once."""
    source = """
    from hypothesis import given, settings, strategies as st
    from edda_testkit import Simulation

    @settings(deadline=None)  # the first example pays for the freeze, on a busy machine too much
    @given(st.integers(0, 100))
    def test_it(n):
        with Simulation() as sim:
            run = sim.start(order)
            sim.send("paid", n, after=n)
            sim.run()
            assert run.is_finished
    """
    project(source).assert_outcomes(passed=1)


def test_the_plugin_imports_nothing_heavy():
    """At pytest's start the plugin brings in neither engine nor hypothesis, freezegun, asyncio."""
    code = (
        "import pytest, sys; before = set(sys.modules); import edda_testkit.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["edda_testkit", "edda_testkit.plugin"]


def test_a_project_without_simulations_stays_as_it_was(project):
    """Tests that ask for no simulation load no engine and have real time."""
    source = """
    import sys
    def test_it():
        assert "edda_testkit.simulation" not in sys.modules
        assert "freezegun" not in sys.modules
    """
    project(source).assert_outcomes(passed=1)


# ---- What a failure shows --------------------------------------------------------------------

NEWCOMER = """
    import pytest
    from edda import activity, wait_event, workflow

    @activity
    async def ship(ctx, order_id):
        raise_from_below()

    def raise_from_below():
        raise ValueError("no carrier")

    @workflow
    async def order(ctx, order_id: str):
        await wait_event(ctx, "paid")
        raise_from_below()

    def test_unfinished(edda_sim):
        assert edda_sim.start(order, order_id="ORD-1").result

    def test_misspelt(edda_sim):
        edda_sim.start(order, order="ORD-1")

    def test_failed(edda_sim):
        run = edda_sim.start(order, order_id="ORD-1")
        edda_sim.send("paid")
        assert run.result

    def test_unused(edda_sim):
        edda_sim.stub(ship, returns=None)
"""


def test_a_failure_shows_the_frames_of_the_test(pytester):
    """What a test did wrong is shown at its own line, without the kit's and the engine's source."""
    pytester.makepyfile(NEWCOMER)
    result = pytester.runpytest_subprocess("-p", "no:randomly")
    text = result.stdout.str()
    assert re.findall(r"^.*(?:edda|edda_testkit)/\w+\.py", text, re.MULTILINE) == []
    result.stdout.fnmatch_lines(
        [
            ">*assert edda_sim.start(order, order_id=*",
            "E *WorkflowNotFinished: order * has no result yet: it is waiting_for_event.",
            ">*edda_sim.start(order, order=*",
            "E *ArgumentError: Workflow 'order': missing a required argument: *it takes*",
            "ValueError: no carrier",
            "*in order",
            "*in raise_from_below",
            ">*assert run.result",
            "E *UnusedStub: These stubs were never used:",
        ]
    )


def test_a_full_trace_shows_everything(pytester):
    """`--full-trace` shows the frames of the kit as well."""
    pytester.makepyfile(NEWCOMER)
    result = pytester.runpytest_subprocess("-k", "unfinished", "--full-trace")
    result.stdout.fnmatch_lines(["*runs.py:*WorkflowNotFinished"])
