"""Outcome coverage: what counts as an outcome, what is missing, and how it is reported."""

import asyncio
import json
import textwrap

import pytest

from edda import (
    EventTimeoutError,
    InvalidEventError,
    RetryPolicy,
    TerminalError,
    activity,
    send_event,
    sleep,
    wait_event,
    workflow,
)
from edda.commands import Result
from edda.history import Answered, Asked, Finished, Started
from edda_testkit import Simulation
from edda_testkit.coverage import Coverage
from edda_testkit.plugin_coverage import CoveragePlugin


@activity(retry_policy=RetryPolicy(max_attempts=2, initial_interval=1))
async def charge(ctx) -> int:
    raise NotImplementedError("must be stubbed")


@activity
async def refund(ctx) -> None:
    pass


async def apologise(ctx):
    await refund(ctx)


@workflow
async def order(ctx, fast: bool = False):
    try:
        await wait_event(
            ctx,
            "paid",
            timeout_seconds=60,
            model=int,
        )
    except EventTimeoutError:
        await apologise(ctx)
        return
    await charge(ctx)
    await wait_event(ctx, "packed")
    await sleep(ctx, 5)
    await send_event("shipped", "shop", {})


class Watch:
    """A coverage that watches simulations as the plugin does."""

    def __init__(self):
        self.coverage = Coverage()

    def __call__(self, sim):
        plugin = object.__new__(CoveragePlugin)
        plugin._coverage = self.coverage
        plugin.observe(sim)

    def site(self, kind, name):
        found = [s for s in self.coverage.all_sites() if (s.kind, s.name) == (kind, name)]
        assert len(found) == 1, found
        return self.coverage.all_sites()[found[0]]


@pytest.fixture
def watch():
    return Watch()


def test_each_outcome_of_a_wait_is_its_own(watch):
    """A wait with timeout and model has three outcomes; one with neither has one."""
    with Simulation() as sim:
        sim.start(order)
        with pytest.raises(InvalidEventError):
            sim.send("paid", "much")
        watch(sim)
    paid = watch.site("event", "paid")
    assert paid.possible == {"answered", "timed out", "refused"}
    assert paid.missing == ["answered", "timed out"]
    with Simulation(unused_stubs=True) as sim:
        sim.stub(charge, returns=1)
        sim.start(order)
        sim.start(order)
        sim.advance(1)
        sim.send("paid", 3)
        sim.start(order)
        sim.advance(60)
        watch(sim)
    assert paid.outcomes == {"refused": 1, "answered": 2, "timed out": 1}
    assert watch.site("event", "packed").possible == {"answered"}


@pytest.mark.parametrize(
    ("answer", "outcomes"),
    [
        ({"returns": 1}, {"succeeded"}),
        ({"sequence": [ValueError("once"), 1]}, {"failed", "succeeded"}),
        ({"raises": ValueError("always")}, {"failed", "exhausted"}),
        ({"raises": TerminalError("at once")}, {"failed"}),
    ],
)
def test_activities_succeed_fail_and_exhaust(watch, answer, outcomes):
    """A failed attempt, and a step that failed for good, are outcomes of their own."""
    with Simulation() as sim:
        sim.stub(charge, **answer)
        sim.start(order)
        sim.send("paid", 1)
        sim.advance(5)
        watch(sim)
    seen = watch.site("activity", "charge")
    assert set(seen.outcomes) == outcomes
    assert seen.possible == {"succeeded", "failed", "exhausted"}


def test_sites_that_no_run_reached_are_listed(watch):
    """Call sites in the source, also in helpers, are there with all their outcomes missing."""
    with Simulation() as sim:
        sim.start(order)
        watch(sim)
    lines = watch.coverage.lines()
    missing = [line.split()[1:3] for line in lines if line.endswith("never reached")]
    assert missing == [
        ["activity", "refund"],
        ["activity", "charge"],
        ["event", "packed"],
        ["timer", "?"],
        ["send", "shipped"],
    ]


def test_everything_seen_is_a_hundred_percent(watch):
    """With every outcome seen, nothing is missing."""

    @workflow
    async def small(ctx):
        await wait_event(ctx, "go")
        await sleep(ctx, 1)

    with Simulation() as sim:
        sim.start(small)
        sim.send("go")
        watch(sim)
        assert watch.coverage.percent() == 50
        sim.advance(1)
        watch(sim)
    assert watch.coverage.percent() == 100
    assert watch.coverage.document()["totals"] == {"seen": 2, "possible": 2, "percent": 100}


def test_nothing_seen_is_nothing():
    """Without any run the percentage is 0, not a division by nothing."""
    assert Coverage().percent() == 0
    assert Coverage().lines()[-1].startswith("TOTAL")


def test_crashes_and_cancellations_are_points(watch):
    """A crash or a cancellation counts where the run waited, and for nothing by default."""
    with Simulation() as sim:
        run = sim.start(order)
        sim.crash()
        run.cancel()
        watch(sim)
    seen = watch.site("event", "paid")
    assert seen.outcomes == {"crash": 1, "cancel": 1, "withdrawn": 1}
    percent = watch.coverage.percent()
    assert watch.coverage.percent(points=True) > percent
    assert "crashed at 1 of 1 reached call sites" in watch.coverage.lines()


def test_a_crash_counts_at_an_activity_whose_effect_was_lost(watch):
    """An activity that was executed and not committed has met a crash."""
    with Simulation() as sim:
        sim.stub(charge, returns=1)
        sim.start(order)
        sim.crash_at("charge:1", "after_effect")
        sim.send("paid", 1)
        watch(sim)
    assert watch.site("activity", "charge").outcomes == {"crash": 1, "succeeded": 1}
    assert watch.site("event", "paid").outcomes == {"answered": 1}


def test_a_withdrawn_timeout_is_an_outcome(watch):
    """The timer of asyncio.timeout fires or is withdrawn; a plain sleep only fires."""

    @workflow
    async def limited(ctx):
        async with asyncio.timeout(10):
            await wait_event(ctx, "go")
        await sleep(ctx, 1)

    with Simulation() as sim:
        sim.start(limited)
        sim.send("go")
        watch(sim)
    seen = watch.site("timer", "timeout")
    assert (seen.possible, set(seen.outcomes)) == ({"fired", "withdrawn"}, {"withdrawn"})
    assert watch.site("timer", "sleep").possible == {"fired"}


def test_both_arms_of_a_patch_are_outcomes(watch):
    """New instances take the new arm, those recorded before the change the old one."""

    @workflow(name="patching")
    async def before(ctx):
        await wait_event(ctx, "go")

    @workflow(name="patching")
    async def after(ctx):
        await wait_event(ctx, "go")
        if ctx.patched("thanks"):
            await refund(ctx)

    with Simulation() as sim:
        sim.start(after)
        sim.send("go")
        watch(sim)
    assert watch.site("patched", "thanks").missing == ["old"]
    with Simulation() as sim:
        sim.start(before)
        sim.send("go")
        sim.deploy(after)
        watch(sim)
    assert watch.site("patched", "thanks").outcomes == {"new": 1, "old": 1}


def test_unreached_patches_and_children_are_known(watch):
    """`ctx.patched` and children of other workflows are call sites too."""

    @workflow
    async def parent(ctx):
        await wait_event(ctx, "go")
        if ctx.patched("p"):
            await order.run(ctx)

    with Simulation() as sim:
        sim.start(parent)
        watch(sim)
    assert watch.site("patched", "p").missing == ["new", "old"]
    assert watch.site("child", "order").missing == ["completed", "failed"]


def test_a_workflow_called_as_a_function_belongs_to_its_caller(watch):
    """What an inlined workflow asks is a call site of the one that runs."""

    @workflow
    async def outer(ctx):
        await order(ctx)

    with Simulation() as sim:
        sim.start(outer)
        watch(sim)
    assert {site.workflow for site in watch.coverage.all_sites()} == {"outer"}
    assert watch.site("activity", "charge").missing == ["exhausted", "failed", "succeeded"]


class Novelty:
    """An ask of a kind that nobody here has heard of."""

    kind, id, name, site, deadline = "oracle", "oracle:1", "delphi", "flows.py:3", "soon"


def test_unknown_kinds_are_counted_like_any_other(watch):
    """An ask of a new kind is answered, or times out when it has a deadline."""
    with Simulation() as sim:
        started = sim.start(order).history[0]
    assert isinstance(started, Started)
    history = [
        started,
        Asked(1, started.at, Novelty),
        Answered(2, started.at, "oracle:1", "delphi", "oracle", Result("1")),
        Finished(3, started.at, Result("null")),
    ]
    watch.coverage.add(order, "O", history)
    seen = watch.site("oracle", "delphi")
    assert seen.possible == {"answered", "timed out"}
    assert seen.outcomes == {"answered": 1}


def test_merging_is_the_same_as_seeing_it_all():
    """Two processes' coverage, through text, is that of one."""
    one, two, both = Watch(), Watch(), Watch()
    for watch, event in ((one, "paid"), (two, "other")):
        with Simulation(unused_stubs=True) as sim:
            sim.stub(charge, returns=1)
            sim.start(order)
            sim.send(event, 1)
            sim.advance(60)
            watch(sim)
            both(sim)
    merged = Coverage.loads(one.coverage.dumps())
    merged.merge(Coverage.loads(two.coverage.dumps()))
    assert merged.document() == both.coverage.document()
    assert merged.lines() == both.coverage.lines()


# ---- In a project of the user's ----------------------------------------------------------------

FLOWS = """
from edda import activity, wait_event, workflow

@activity
async def pay(ctx) -> int:
    return 1

@workflow
async def order(ctx):
    event = await wait_event(ctx, "paid", timeout_seconds=60)
    if event.data:
        await pay(ctx)

@workflow
async def forgotten(ctx):
    await pay(ctx)
"""
TESTS = """
from flows import order

def test_one(edda_sim):
    edda_sim.start(order)
    edda_sim.send("paid", 0)

def test_two(edda_sim):
    edda_sim.start(order)
    edda_sim.advance(60)
"""
TABLE = [
    "*edda outcome coverage*",
    "Workflow / call site*Outcomes*Seen*Cover*Missing",
    "forgotten*3*0*0%*never run",
    "*flows.py:15*activity pay*3*0*0%*never reached",
    "order*5*2*40%",
    "*flows.py:9*event paid*2*2*100%",
    "*flows.py:11*activity pay*3*0*0%*never reached",
    "TOTAL*8*2*25%",
]


@pytest.fixture
def project(pytester, monkeypatch):
    """Runs pytest in a process of its own on FLOWS and TESTS."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(flows=FLOWS)

    def run(*args, source=TESTS):
        pytester.makepyfile(test_it=textwrap.dedent(source))
        return pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:anyio", *args)

    return run


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "xdist"])
def test_the_table_is_shown_and_merged_under_xdist(project, workers):
    """`--edda-coverage` shows the table, the same with workers as without."""
    result = project("--edda-coverage", *workers)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(TABLE)


def test_without_the_option_nothing_is_shown(project):
    """Nobody sees a table who has not asked for one."""
    project().stdout.no_fnmatch_line("*outcome coverage*")


@pytest.mark.parametrize(("least", "code"), [("25", 0), ("25.5", 1)])
def test_too_little_fails_the_session(project, least, code):
    """`--edda-coverage-fail-under` decides the exit code, and says why."""
    result = project(f"--edda-coverage-fail-under={least}")
    assert result.ret == code
    said = "FAIL Required outcome coverage of 25.5% not reached. It is 25.00%."
    assert (said in result.stdout.str()) == bool(code)


def test_json_has_every_site(project, pytester):
    """`--edda-coverage-json` writes totals and call sites."""
    project("--edda-coverage-json=out/coverage.json")
    document = json.loads((pytester.path / "out" / "coverage.json").read_text())
    assert document["format"] == "edda-coverage/1"
    assert document["totals"] == {"seen": 2, "possible": 8, "percent": 25.0}
    paid = document["workflows"]["order"]["sites"][0]
    assert paid == {
        "place": "flows.py:9",
        "kind": "event",
        "name": "paid",
        "reached": True,
        "possible": ["answered", "timed out"],
        "outcomes": {"answered": 1, "timed out": 1},
        "points": {"crash": 0, "cancel": 0},
        "missing": [],
    }


def test_simulations_of_given_and_explore_count(project):
    """Every simulation of a test is seen, not just the last."""
    source = """
    from hypothesis import given, settings, strategies as st
    from edda_testkit import Simulation, explore
    from flows import order

    @settings(max_examples=20, derandomize=True, database=None, deadline=None)
    @given(st.booleans())
    def test_given(answer):
        with Simulation() as sim:
            sim.start(order)
            sim.send("paid", answer)

    @explore(crashes=1)
    def test_explored(edda_sim):
        edda_sim.start(order)
        edda_sim.send("paid", 1)
    """
    result = project("--edda-coverage", "--edda-coverage-points", source=source)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*event paid*4*1*25%*timed out, crash, cancel",
            "*activity pay*5*2*40%*exhausted, failed, cancel",
            "crashed at * reached call sites",
        ]
    )
