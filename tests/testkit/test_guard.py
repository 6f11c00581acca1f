"""The guard finds and names what workflow code must not do, and stops the test; nothing else."""

import asyncio
import cProfile
import gc
import io
import logging
import os
import pdb  # noqa: T100 - what is tested
import random
import re
import sys
import time
import warnings
from contextlib import redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.corpus_determinism import cleans, helpers, plants
from edda import activity, sleep, wait_event, workflow
from edda.determinism import CATEGORIES
from edda.errors import DefinitionError
from edda.workflow import Workflow
from edda_testkit import (
    ForgottenAwait,
    Misuse,
    NondeterminismWarning,
    NondeterministicCall,
    NotReplayableRun,
    Simulation,
    explore,
)
from edda_testkit.freeze import Freezer
from edda_testkit.guard import Guard
from edda_testkit.replay import elsewhere

HERE = "tests/testkit/test_guard.py"
MARK = re.compile(r"# PLANT (\w+): (\w+)")
# What only another interpreter shows: benchmarks/determinism.py starts some.
NEED_A_CHILD = {
    "filled_by_an_activity",
    "longest_of_a_set",
    "model_with_a_set",
    "read_at_import",
    "result_in_set_order",
    "set_by_inheritance",
}


@activity
async def keep(ctx, value: str) -> str:
    return value


@activity
async def asks_the_clock(ctx) -> float:
    return time.time()


def helper():
    return datetime.now(UTC).isoformat()


def line_of(text, path=__file__):
    """The number of the only line with this text."""
    (found,) = (
        n
        for n, line in enumerate(Path(path).read_text("utf-8").splitlines(), 1)
        if line.strip() == text
    )
    return found


@workflow
async def bad(ctx):
    return await keep(ctx, helper())


@workflow
async def good(ctx):
    return await keep(ctx, "good")


@workflow
async def swallows(ctx):
    try:
        at = helper()
    except BaseException:
        at = "never"
    return await keep(ctx, at)


# ---- The corpus ------------------------------------------------------------------------------


def workflows(module):
    return [name for name, value in vars(module).items() if isinstance(value, Workflow)]


def marked():
    return {
        name: (category, f"{Path(module.__file__).name}:{number}")
        for module in (plants, helpers)
        for number, line in enumerate(Path(module.__file__).read_text("utf-8").splitlines(), 1)
        for name, category in MARK.findall(line)
    }


def go_through(wf):
    with redirect_stdout(io.StringIO()), Simulation() as sim:
        run = sim.start(wf)
        for _ in range(20):
            if run.is_finished or sim.next_due is None:
                break
            sim.advance_to_next()
    return run


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("name", [name for name in workflows(plants) if name not in NEED_A_CHILD])
def test_every_plant_is_found_with_its_line(name):
    """Each planted nondeterminism is reported with category, file and line."""
    category, line = marked()[name]
    with pytest.raises((NondeterministicCall, NotReplayableRun)) as error:
        go_through(getattr(plants, name))
    assert re.search(rf"\b{re.escape(line)}\b", str(error.value))
    assert getattr(error.value, "category", category) == category


@pytest.mark.parametrize("name", workflows(cleans))
def test_no_clean_workflow_is_accused(name):
    """What only looks suspicious runs to its end and is replayed."""
    logging.disable()
    try:
        assert go_through(getattr(cleans, name)).status == "completed"
    finally:
        logging.disable(logging.NOTSET)


# ---- What it says ------------------------------------------------------------------------------


def test_the_report_names_line_chain_and_cure():
    """The text has the workflow, the call, the innermost line, the way there, and what to do."""
    with pytest.raises(NondeterministicCall) as error, Simulation() as sim:
        sim.start(bad)
    inner = line_of("return datetime.now(UTC).isoformat()")
    outer = line_of("return await keep(ctx, helper())")
    assert str(error.value) == (
        f"The workflow 'bad' called datetime.now() at {HERE}:{inner}, which no replay can repeat.\n"
        f"  {HERE}:{outer} in bad\n"
        f"  {HERE}:{inner} in helper\n"
        f"  datetime.now()\n"
        f"clock: Use ctx.now(): the time of the event that is handled, the same on every replay.\n"
        f"`# edda: allow[clock]` on one of these lines, or @workflow(allow=['clock']), allows it."
    )
    found = error.value
    assert (found.workflow, found.category, found.call) == ("bad", "clock", "datetime.now()")
    assert (found.file, found.line) == (__file__, inner)


def test_the_chain_leads_through_libraries():
    """Library frames between the workflow's line and the call are shown."""

    @workflow
    async def reads(ctx):
        return Path(__file__).read_text("utf-8")  # noqa: ASYNC240

    with pytest.raises(NondeterministicCall) as error, Simulation() as sim:
        sim.start(reads)
    assert error.value.category == "files"
    assert error.value.line == line_of('return Path(__file__).read_text("utf-8")  # noqa: ASYNC240')
    assert any("pathlib" in line for line in error.value.chain)


def test_every_category_has_a_cure():
    """The vocabulary is small, stable, and each word of it says what to do instead."""
    assert list(CATEGORIES) == (
        "clock random environment files network process threads hash asyncio".split()
    )
    assert all(cure.endswith(".") for cure in CATEGORIES.values())


# ---- What becomes of the run -----------------------------------------------------------------


def test_swallowing_it_hides_nothing():
    """`except BaseException` in the workflow does not keep the error from the test."""
    with Simulation() as sim, pytest.raises(NondeterministicCall):
        sim.start(swallows)


def test_nothing_of_the_step_is_committed():
    """The run is not failed by it: its history is what it was before."""
    with Simulation() as sim:
        with pytest.raises(NondeterministicCall):
            sim.start(bad, instance_id="B")
        (run,) = sim.runs
        assert [event.kind for event in run.history] == ["workflow_started"]
        assert not run.is_finished
        assert sim.calls() == []


def test_other_runs_go_on():
    """A simulation whose workflow was stopped can be used on."""
    with Simulation() as sim:
        with pytest.raises(NondeterministicCall):
            sim.start(bad)
        assert sim.start(good).result == "good"
        sim.advance(60)


def test_what_a_callback_swallows_is_raised_all_the_same():
    """A violation below `sim.call(...)` that the callback swallows reaches the test."""
    with Simulation() as sim:

        def start():
            with suppress(BaseException):
                sim.start(swallows)

        sim.call(start, after=1)
        with pytest.raises(NondeterministicCall):
            sim.advance(2)
        sim.advance(1)


@workflow
async def forgets(ctx, what: str = "activity") -> str:
    match what:
        case "activity":
            keep(ctx, "lost")
        case "wait":
            wait_event(ctx, "never.awaited")
        case "helper":
            awaits_nothing()
        case "condition":
            keep(ctx, "a") if what else keep(ctx, "b")
        case "list":
            [keep(ctx, word) for word in what]
        case "variable":
            kept = keep(ctx, "gathered")
            await asyncio.gather(kept)
        case "exception":
            with suppress(ZeroDivisionError):
                await asyncio.gather(keep(ctx, "not meant"), 1 / 0)
    return what


async def awaits_nothing():
    return 1


FORGOTTEN = {
    "activity": 'keep(ctx, "lost")',
    "wait": 'wait_event(ctx, "never.awaited")',
    "helper": "awaits_nothing()",
    "condition": 'keep(ctx, "a") if what else keep(ctx, "b")',
    "list": "[keep(ctx, word) for word in what]",
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("what", FORGOTTEN)
def test_a_forgotten_await_is_named_with_its_line(what):
    """A statement that drops a coroutine stops the test: what was called has done nothing."""
    with pytest.raises(ForgottenAwait) as error, Simulation() as sim:
        sim.start(forgets, what=what)
    name, line = FORGOTTEN[what].partition("(")[0].strip("["), line_of(FORGOTTEN[what])
    assert str(error.value) == (
        f"The workflow 'forgets' called {name}() at {HERE}:{line} and never awaited it, so it did "
        f"nothing.\n"
        f"  {HERE}:{line} in forgets\n"
        f"  {name}()\n"
        f"asyncio: Write `await {name}(...)`, or hand it to asyncio.gather or a TaskGroup.\n"
        f"`# edda: allow[asyncio]` on one of these lines, or @workflow(allow=['asyncio']), "
        f"allows it."
    )


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("what", ["variable", "exception"])
def test_a_coroutine_that_is_kept_or_lost_to_an_exception_is_not_forgotten(what):
    """One that is awaited later, or that an exception keeps from being awaited, is no mistake."""
    with Simulation() as sim:
        assert sim.start(forgets, what=what).result == what


def test_pythons_own_warning_names_the_activity():
    """Where no guard looks, the interpreter's word about it has the activity's name."""
    with pytest.warns(RuntimeWarning, match="'keep' was never"), Simulation(guard="off") as sim:
        sim.start(forgets)


def test_what_is_left_over_fails_the_check():
    """What no call of the simulation has raised yet is raised after the test."""
    left = NondeterministicCall(
        "wf", "clock", "time.time()", "Do not.", chain=[], file="f.py", line=1, site="f.py:1"
    )
    with pytest.raises(NondeterministicCall) as error, Simulation() as sim:
        sim._driver.broken.append(left)
    assert error.value is left


def test_it_is_found_after_a_wait():
    """Code behind a wait is watched when it goes on."""

    @workflow
    async def later(ctx):
        await wait_event(ctx, "go")
        return helper()

    with Simulation() as sim:
        run = sim.start(later)
        with pytest.raises(NondeterministicCall):
            sim.send("go")
        assert not run.is_finished


def test_replays_are_watched():
    """What the code does only when it is replayed is found after the test."""

    @workflow
    async def asks_later(ctx):
        await sleep(ctx, 1)
        if ctx.is_replaying:
            helper()
        await sleep(ctx, 1)

    with pytest.raises(NondeterministicCall), Simulation() as sim:  # noqa: PT012
        sim.start(asks_later)
        sim.advance(5)


def test_code_is_not_watched_again_on_the_events_that_it_has_run_on():
    """A replay is not watched, and neither are schedules that come the same way."""
    hooks = []

    @activity
    async def once_more(ctx) -> None: ...

    @workflow
    async def run_again(ctx):
        hooks.append(sys.getprofile())
        await once_more(ctx)
        await once_more(ctx)

    done = explore(lambda sim: sim.start(run_again), crashes=1)
    assert done.tried > 3
    assert len(hooks) > done.tried
    assert [hook is None for hook in hooks] == [False] + (len(hooks) - 1) * [True]


def test_a_generator_that_is_seeded_is_known_after_a_crash():
    """What the guard has to know of replayed code it sees again."""

    @workflow
    async def draws_later(ctx):
        generator = random.Random(7)
        await sleep(ctx, 1)
        return generator.random()

    with Simulation() as sim:
        run = sim.start(draws_later)
        sim.crash()
        sim.advance(1)
        assert run.result == random.Random(7).random()


# ---- Where it does not look --------------------------------------------------------------------


def test_it_is_there_while_workflow_code_runs_and_only_then():
    """Tests, activities and callbacks run without any profile function."""
    seen = []

    @activity
    async def looks(ctx) -> None:
        seen.append(sys.getprofile())

    @workflow
    async def looked_at(ctx):
        seen.append(sys.getprofile())
        await looks(ctx)

    with Simulation() as sim:
        sim.call(lambda: seen.append(sys.getprofile()), after=1)
        sim.start(looked_at)
        sim.advance(1)
        assert sys.getprofile() is None
    hooked, *others = seen
    assert hooked is not None
    assert others[:2] == [None, None]


def test_activities_may_do_what_they_like():
    """An activity asks the clock, for real or in its stub."""

    @workflow
    async def through(ctx):
        return await asks_the_clock(ctx)

    with Simulation() as sim:
        sim.start(through)
        sim.stub(asks_the_clock, side_effect=random.random)
        sim.start(through)


def test_the_garbage_collector_is_nobodys_call():
    """A callback of the collector that asks the clock, as Hypothesis has one, is not reported."""

    def measure(phase, info):
        time.perf_counter()

    @workflow
    async def litters(ctx):
        for n in range(gc.get_threshold()[0] * 3):
            box = [n]
            box.append(box)
        await keep(ctx, "a")

    gc.callbacks.append(measure)
    try:
        with Simulation() as sim:
            sim.start(litters)
    finally:
        gc.callbacks.remove(measure)


def test_a_debugger_may_stop_in_it():
    """`set_trace()` and what is typed there are no part of the workflow; what follows is."""

    @workflow
    async def stopped(ctx):
        pdb.Pdb(
            stdin=io.StringIO("p __import__('time').time()\nc\n"), stdout=out, nosigint=True
        ).set_trace()
        await keep(ctx, "a")
        return helper()

    out = io.StringIO()
    tracing = sys.gettrace()
    try:
        with Simulation() as sim, pytest.raises(NondeterministicCall, match="helper"):
            sim.start(stopped)
    finally:
        sys.settrace(tracing)
    assert "(Pdb)" in out.getvalue()


def test_a_callback_that_one_caller_passes_is_not_held_against_another():
    """What is known of a function's arguments holds for that call of it only."""

    async def listed(ctx, function):
        return await keep(ctx, str(list(map(function, ["x"]))))

    @workflow
    async def calls_both(ctx, name: str):
        await listed(ctx, {"getpid": lambda _: os.getpid(), "upper": str.upper}[name])

    with Simulation() as sim:
        with pytest.raises(NondeterministicCall):
            sim.start(calls_both, "getpid")
        assert sim.start(calls_both, "upper").status == "completed"


# ---- Beside other profilers ----------------------------------------------------------------------


@pytest.mark.parametrize("wf", [good, swallows])
def test_a_profile_function_is_kept(wf):
    """Who profiled before still sees workflow code, and is there afterwards."""
    seen = set()

    def profile(frame, event, arg):
        seen.add(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        with Simulation() as sim:
            try:
                sim.start(wf)
            except NondeterministicCall:
                assert wf is swallows
            kept = sys.getprofile()
    finally:
        sys.setprofile(None)
    assert kept is profile
    assert wf.name in seen


def test_a_profile_function_set_by_the_workflow_stays():
    """The guard takes nobody's profile function away."""

    def mine(frame, event, arg):
        pass

    @workflow
    async def profiles(ctx):
        sys.setprofile(mine)

    try:
        with Simulation(replay=False) as sim:
            sim.start(profiles)
            assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)


def test_cprofile_sees_what_it_would():
    """Under cProfile a simulation runs, and the profile has the workflow in it."""
    profiler = cProfile.Profile()
    with Simulation() as sim:
        profiler.enable()
        sim.start(good)
        profiler.disable()
    profiler.create_stats()
    assert any(name == "good" for _, _, name in profiler.stats)


@pytest.mark.parametrize("backend", ["freezegun", "time-machine", "off"])
def test_clocks_are_seen_however_time_is_shown(backend):
    """freezegun's and time-machine's stand-ins are clocks like the real ones."""

    @workflow
    async def asks(ctx, which: int):
        (datetime.now, time.time, time.monotonic, datetime.utcnow)[which]()

    freezer = Freezer(backend)
    with Simulation(freezer=freezer) as sim:
        for which in range(4):
            with pytest.raises(NondeterministicCall, match="^The workflow 'asks' called"):
                sim.start(asks, which)


# ---- Modes ---------------------------------------------------------------------------------------


def test_warn_goes_on_and_says_it_once():
    """With `guard="warn"` the same text is a warning, once a place, and the run goes on."""
    with (
        warnings.catch_warnings(record=True) as caught,
        Simulation(guard="warn", replay=False) as sim,
    ):
        warnings.simplefilter("always")
        status = [sim.start(swallows).status for _ in range(2)]
    assert status == ["completed", "completed"]
    (warning,) = caught
    assert warning.category is NondeterminismWarning
    assert str(warning.message).startswith("The workflow 'swallows' called datetime.now() at")
    assert warning.lineno == line_of("return datetime.now(UTC).isoformat()")


def test_off_looks_at_nothing():
    """With `guard="off"` workflow code runs without a profile function."""
    seen = []

    @workflow
    async def looked_at(ctx):
        seen.append(sys.getprofile())

    with Simulation(guard="off") as sim:
        sim.start(looked_at)
    assert set(seen) == {None}


def test_another_mode_is_refused():
    """The three modes are named."""
    with pytest.raises(ValueError, match="guard must be one of strict, warn, off, and is 'on'"):
        Guard("on")


# ---- Allowing ------------------------------------------------------------------------------------


def allowed_helper():
    return time.time()  # edda: allow[clock]


def test_a_comment_on_any_line_of_the_chain_allows():
    """The comment may stand at the call, at the caller, or on another line of the statement."""

    @workflow
    async def allowed(ctx):
        allowed_helper()
        helper()  # edda: allow[random, clock]
        log = (
            time.time(),
            random.random(),
        )  # edda: allow[clock random] - it is logged only
        assert log

    with Simulation() as sim:
        sim.start(allowed)


def test_a_loop_over_a_set_is_shown_with_the_ask_in_it():
    """The line of the loop is the one to look at; the chain also has the line that asks."""

    @workflow
    async def loops(ctx):
        people = {"ann", "bob", "cyd"}
        for name in people:
            upper = name.upper()
            await keep(ctx, upper)

    with pytest.raises(NondeterministicCall) as error, Simulation() as sim:
        sim.start(loops)
    assert error.value.line == line_of("for name in people:")
    ask = line_of("await keep(ctx, upper)")
    assert list(error.value.chain[:2]) == [
        f"{HERE}:{error.value.line} in {loops.fn.__qualname__}",
        f"{HERE}:{ask} in {loops.fn.__qualname__}",
    ]


def test_an_ask_in_a_loop_over_a_set_may_be_allowed_at_either_line():
    """A comment counts at the loop, and at the ask that it is about."""

    @workflow
    async def at_the_loop(ctx):
        names = {"ann", "bob"}
        for name in names:  # edda: allow[hash]
            said = name.upper()
            await keep(ctx, said)

    @workflow
    async def at_the_ask(ctx):
        names = {"ann", "bob"}
        for name in names:
            said = name.upper()
            await keep(ctx, said)  # edda: allow[hash]

    with Simulation(replay=False) as sim:
        assert sim.start(at_the_loop).status == "completed"
        assert sim.start(at_the_ask).status == "completed"


BORN = time.time()
KNOWN = time.time()  # edda: allow[clock]


def test_a_global_that_a_clock_made_at_import_is_found_where_it_is_asked_with():
    """Its name, the call that made it and that line are told; a comment there allows it."""

    @workflow
    async def stale(ctx):
        await keep(ctx, str(BORN))

    @workflow
    async def known(ctx):
        await keep(ctx, str(KNOWN))

    with Simulation() as sim:
        assert sim.start(known).status == "completed"
    with pytest.raises(NondeterministicCall) as error, Simulation() as sim:
        sim.start(stale)
    made = line_of("BORN = time.time()")
    assert error.value.call == f"for BORN, which time.time() made at import (line {made}),"


def test_a_generator_without_a_seed_is_shown_where_it_was_made():
    """The draw is what is wrong, and the line that forgot the seed is where to mend it."""

    @workflow
    async def unseeded(ctx):
        dice = random.Random()
        await keep(ctx, "a")
        await keep(ctx, str(dice.random()))

    with pytest.raises(NondeterministicCall) as error, Simulation() as sim:
        sim.start(unseeded)
    made = line_of("dice = random.Random()")
    assert f"random() of a generator without a seed, made at {HERE}:{made}" in str(error.value)


def test_another_category_does_not_allow():
    """A comment allows what it names and nothing else."""

    @workflow
    async def half_allowed(ctx):
        random.random()  # edda: allow[clock]

    with Simulation() as sim, pytest.raises(NondeterministicCall, match="random"):
        sim.start(half_allowed)


def test_a_workflow_may_allow():
    """`@workflow(allow=[...])` allows categories in all that it calls."""

    @workflow(allow=["clock"])
    async def allowed(ctx):
        helper()

    with Simulation() as sim:
        assert sim.start(allowed).status == "completed"
    assert allowed.allow == {"clock"}


@pytest.mark.parametrize(
    ("allow", "sentence"),
    [
        (
            ["clocks"],
            "got 'clocks', which is no category. The categories are: clock, random, environment, "
            "files, network, process, threads, hash, asyncio.",
        ),
        ("clock", "takes a list of categories, such as allow=['clock'], and got 'clock'."),
        (None, "takes a list of categories, such as allow=['clock'], and got None."),
        ([1], "got 1, which is no category."),
    ],
)
def test_what_is_no_category_is_refused(allow, sentence):
    """A misspelt category is an error where the workflow is defined."""
    with pytest.raises(DefinitionError, match=re.escape(sentence)):

        @workflow(allow=allow)
        async def wrong(ctx):
            pass


# ---- Replays under other circumstances ---------------------------------------------------------


@pytest.mark.parametrize("name", ["environment", "home", "machine_zone", "default_repr", "draws"])
def test_replays_differ_where_processes_differ(name):
    """Without the guard, replays find environment, time zone, addresses and randomness."""
    with pytest.raises(NotReplayableRun), Simulation(guard="off") as sim:
        sim.start(getattr(plants, name))


def test_afterwards_all_is_as_it_was():
    """Environment, time zone and randomness are restored, also when a replay fails."""
    before = dict(os.environ), time.tzname, random.getstate()
    with pytest.raises(Misuse), elsewhere():  # noqa: PT012
        assert os.environ["HOME"] != before[0]["HOME"]
        assert time.tzname != before[1]
        raise Misuse
    assert before == (dict(os.environ), time.tzname, random.getstate())


# ---- In pytest -----------------------------------------------------------------------------------

FLOWS = """
import time
from edda import activity, workflow

@activity
async def keep(ctx, value: str) -> str:
    return value

@workflow
async def hasty(ctx):
    try:
        time.time()
    except BaseException:
        pass
    return await keep(ctx, "a")

@workflow
async def asserts(ctx):
    try:
        assert {"a": 1, "b": [1, 2, 3]} == {"a": 2, "b": [1, 2, 4]}
    except AssertionError:
        pass
    print("out")
    return await keep(ctx, "b")
"""


@pytest.mark.parametrize(
    ("args", "ini", "marker", "outcome"),
    [
        ([], "", "", {"failed": 1}),
        ([], "edda_guard = off", "", {"passed": 1}),
        ([], "edda_guard = warn", "", {"passed": 1, "warnings": 1}),
        (["--edda-guard=strict"], "edda_guard = off", "", {"failed": 1}),
        (["--edda-guard=off"], "", "", {"passed": 1}),
        (["--edda-guard=off"], "", '@pytest.mark.edda(guard="strict")', {"failed": 1}),
        ([], "", '@pytest.mark.edda(guard="off")', {"passed": 1}),
        (["-Werror", "--edda-guard=warn"], "", "", {"failed": 1}),
    ],
)
def test_the_mode_comes_from_marker_option_or_ini(pytester, args, ini, marker, outcome):
    """The marker counts before `--edda-guard`, and that before `edda_guard`."""
    pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{ini}")
    pytester.makepyfile(
        FLOWS + f"import pytest\n{marker}\ndef test_it(edda_sim):\n    edda_sim.start(hasty)\n"
    )
    pytester.runpytest_subprocess(*args).assert_outcomes(**outcome)


def test_an_unknown_mode_in_the_ini_is_a_usage_error(pytester):
    """A misspelt `edda_guard` is said at once."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nedda_guard = on")
    pytester.makepyfile("def test_it(edda_sim):\n    pass\n")
    result = pytester.runpytest_subprocess()
    result.stdout.fnmatch_lines(["*edda_guard must be strict, warn or off, got 'on'*"])


def test_assertions_in_workflows_are_rewritten_in_peace(pytester):
    """A failing assert in a workflow of a test module is explained, and not reported."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(
        FLOWS + "def test_it(edda_sim):\n    assert edda_sim.start(asserts).result == 'b'\n"
    )
    pytester.runpytest_subprocess("-vv").assert_outcomes(passed=1)


@pytest.mark.parametrize("core", ["ctrace", "pytrace", "sysmon"])
def test_coverage_is_measured_under_the_guard(pytester, core):
    """Lines of workflows are covered, whichever core coverage uses, and the guard finds them."""
    if core == "sysmon" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with Python 3.12")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(
        flows=FLOWS,
        test_it=(
            "from flows import asserts, hasty\n"
            "def test_good(edda_sim):\n    edda_sim.start(asserts)\n"
            "def test_bad(edda_sim):\n    edda_sim.start(hasty)\n"
        ),
    )
    pytester.makefile(".coveragerc", "")
    Path(".coveragerc").write_text(f"[run]\ncore = {core}\n", "utf-8")
    result = pytester.run(
        *(sys.executable, "-m", "coverage", "run", "--rcfile=.coveragerc", "--include=flows.py"),
        *("--data-file=data", "-m", "pytest", "-p", "no:cacheprovider"),
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*The workflow 'hasty' called time.time() at flows.py:11*"])
    report = pytester.run(
        *(
            sys.executable,
            "-m",
            "coverage",
            "report",
            "--data-file=data",
            "-m",
            "--include=flows.py",
        )
    )
    report.stdout.fnmatch_lines(["flows.py*100%*"])
