"""WorkflowMachine: its rules, its story, its isolation, under pytest and unittest."""

import asyncio
import re
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from pydantic import BaseModel

from edda import EventTimeoutError, activity, sleep, wait_event, workflow
from edda_testkit import Misuse, Schedule, Simulation, strategies
from edda_testkit.stateful import WorkflowMachine

quick = settings(
    max_examples=40,
    stateful_step_count=15,
    suppress_health_check=list(HealthCheck),
    deadline=None,
    database=None,
    derandomize=True,  # what chance finds, it finds in every run
)


class Paid(BaseModel):
    amount: int


@activity
async def ship(ctx, order_id: str) -> str:
    return order_id


@workflow
async def order(ctx, order_id: str):
    try:
        event = await wait_event(ctx, "paid", timeout_seconds=60, model=Paid)
    except EventTimeoutError:
        return "cancelled"
    await ship(ctx, order_id)
    await sleep(ctx, 10)
    return event.data.amount


class OrderMachine(WorkflowMachine):
    workflow = order
    events = {"paid": Paid}  # noqa: RUF012 - as users write it


def run(machine, **changes):
    run_state_machine_as_test(machine, settings=settings(quick, **changes))


def run_until(is_done, machine):
    """Some rounds of random examples, if it takes them: what is rare is not in each."""
    for _ in range(8):
        if not is_done():
            run(machine, derandomize=False)
    assert is_done()


def test_every_rule_happens_and_a_right_workflow_passes():
    """Start, deliver, duplicate, delay, advance, crash, cancel and replay are all tried."""
    words = set()

    class Machine(OrderMachine):
        def tell(self, line):
            words.add("again" if line.endswith("again") else line.split()[0])
            super().tell(line)

    rules = {"start", "deliver", "again", "send", "advance", "crash", "cancel", "replay"}
    run_until(lambda: words == rules, Machine)


def test_hooks_keep_a_model_in_step():
    """The hooks tell a model of the user's own what happened."""
    seen = set()

    class Machine(OrderMachine):
        def __init__(self):
            super().__init__()
            self.started = 0
            self.amounts = []

        def on_start(self, run, inputs):
            assert inputs.keys() == {"order_id"}
            self.started += 1

        def on_deliver(self, event, *, is_duplicate, delay_seconds):
            seen.add(("duplicate", is_duplicate, bool(delay_seconds)))
            self.amounts.append(event.get_data()["amount"])

        def on_advance(self, by):
            assert by > timedelta(0)
            seen.add("advance")

        def on_crash(self):
            seen.add("crash")

        def on_cancel(self, run):
            assert run.status in ("cancelled", "running")
            seen.add("cancel")

        @invariant()
        def results_were_sent(self):
            assert len(self.runs) == self.started
            for one in self.runs:
                if one.status == "completed" and one.result != "cancelled":
                    assert one.result in self.amounts

    wanted = {"advance", "crash", "cancel", ("duplicate", True, False)}
    wanted |= {("duplicate", False, True), ("duplicate", False, False)}
    run_until(lambda: seen >= wanted, Machine)


def test_refused_events_reach_their_hook():
    """Events that a model refuses are told to `on_refuse`, and are not failures."""
    refused = []

    class Machine(WorkflowMachine):
        workflow = order
        events = (strategies.invalid_events(Paid, type="paid"),)

        def on_refuse(self, event):
            refused.append(event)

    run_until(lambda: refused, Machine)


def test_setup_stubs_each_example():
    """`setup` is called once for each example, with a fresh simulation."""
    sims = []

    class Machine(OrderMachine):
        def setup(self, sim):
            sims.append(sim)
            assert sim.runs == []
            sim.stub(ship, returns="stubbed")

    run(Machine, max_examples=5)
    assert len({id(sim) for sim in sims}) == len(sims) >= 5
    assert not any(sim.is_open for sim in sims)


def test_inputs_events_rules_and_runs_are_chosen():
    """`inputs` fixes arguments, `events` may be strategies of data, `without` leaves rules out."""

    class Machine(WorkflowMachine):
        workflow = order
        inputs = {"order_id": "ORD-1"}  # noqa: RUF012
        events = {"paid": st.just({"amount": 7})}  # noqa: RUF012
        without = {"crash", "cancel", "duplicate", "delay", "replay"}  # noqa: RUF012
        max_runs = 1
        durations = (5,)

        @invariant()
        def as_chosen(self):
            assert len(self.runs) <= 1
            for line in self.story:
                assert line.startswith(("start order(order_id='ORD-1')", "deliver paid", "advance"))

        @invariant()
        def only_seven(self):
            assert all(event.get_data() == {"amount": 7} for event in self.sent)

    run(Machine)


def test_rules_of_ones_own_join_in():
    """A subclass adds rules, and lines to the story."""
    told = []

    class Machine(OrderMachine):
        @rule(amount=st.integers(1, 9))
        def pay_by_hand(self, amount):
            self.tell(f"pay {amount} by hand")
            self.sim.send("paid", {"amount": amount})
            told.append(amount)

    run(Machine)
    assert told


@pytest.mark.parametrize("where", ["setup", "invariant", "rule", "teardown"])
def test_a_simulation_is_closed_however_an_example_ends(where):
    """An error anywhere closes the simulation: time is real again afterwards."""
    sims = []

    class Machine(OrderMachine):
        def setup(self, sim):
            sims.append(sim)
            if where == "setup":
                raise ValueError("here")

        @invariant()
        def broken(self):
            if where == "invariant" and self.runs:
                raise ValueError("here")

        @rule()
        def fail(self):
            self.sim  # noqa: B018 - opens it
            if where == "rule":
                raise ValueError("here")

        def teardown(self):
            super().teardown()
            if where == "teardown":
                raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        run(Machine, phases=[Phase.generate])
    assert sims
    assert not any(sim.is_open for sim in sims)


def test_what_is_not_replayable_fails_at_the_end():
    """Without any invariant, a workflow that reads what is not recorded fails."""
    calls = []

    @workflow
    async def fickle(ctx):
        calls.append(1)
        await ship(ctx, str(len(calls)))

    class Machine(WorkflowMachine):
        workflow = fickle
        without = {"replay", "crash"}  # noqa: RUF012

    with pytest.raises(AssertionError, match="not replayable"):
        run(Machine, phases=[Phase.generate])


def test_a_machine_without_a_workflow_says_so():
    """`workflow` is needed, and the error says what to write."""

    class Machine(WorkflowMachine):
        pass

    with pytest.raises(Misuse, match=r"Machine needs `workflow = \.\.\.`"):
        run(Machine, phases=[Phase.generate])


def test_frozen_time_does_not_touch_the_deadline():
    """Two virtual days inside a step are no slow example: a deadline counts real time."""

    class Machine(OrderMachine):
        @rule()
        def two_days(self):
            self.sim.advance(days=2)

    run(Machine, deadline=timedelta(seconds=20), max_examples=5)


@workflow
async def racing(ctx):
    await asyncio.gather(ship(ctx, "a"), ship(ctx, "b"))


def test_schedules_reorder_what_happens():
    """With `schedules`, a failure that needs another order is found, and its token is told."""
    told = []

    class Machine(WorkflowMachine):
        workflow = racing
        schedules = strategies.schedules()
        without = {"crash", "cancel", "replay"}  # noqa: RUF012
        max_runs = 1

        @invariant()
        def in_order(self):
            for one in self.runs:
                assert [call.args for call in one.calls()] in ([("a",), ("b",)], [("a",)], [])

        def teardown(self):
            if self.runs:
                told.append(self.sim.schedule.token)
            super().teardown()

    with pytest.raises(AssertionError) as caught:
        run(Machine, max_examples=200, phases=[Phase.generate, Phase.shrink])
    notes = "\n".join(caught.value.__notes__)
    token = re.search(r"^schedule: (edda1-\S+)$", notes, re.MULTILINE)[1]
    assert token in told
    assert "1. start racing()" in notes
    with Simulation(token, replay=False) as sim:
        assert [call.args for call in sim.start(racing).calls()] == [("b",), ("a",)]


@workflow
async def long_order(ctx):
    for _ in range(4):
        await wait_event(ctx, "paid", model=Paid)
    await ship(ctx, "A-1")


def test_schedules_reach_what_happens_late_in_an_example():
    """A crash between an effect and its commit is found after many steps, however many came."""

    class Machine(WorkflowMachine):
        workflow = long_order
        events = {"paid": st.just({"amount": 1})}  # noqa: RUF012
        schedules = strategies.schedules(crashes=1)
        without = {"cancel", "delay", "advance", "replay", "crash", "duplicate"}  # noqa: RUF012
        max_runs = 1

        @invariant()
        def once(self):
            assert all(len(one.calls(ship)) <= 1 for one in self.runs)

    with pytest.raises(AssertionError) as caught:
        run(Machine, max_examples=200, phases=[Phase.generate])
    notes = "\n".join(caught.value.__notes__)
    assert notes.count("deliver paid") >= 4
    token = re.search(r"^schedule: (edda1-\S+)$", notes, re.MULTILINE)[1]
    assert Schedule.parse(token).deviations


# ---- In a project of the user's ----------------------------------------------------------------

MODULE = """
from hypothesis import settings, reproduce_failure, Phase
from hypothesis.stateful import invariant
from pydantic import BaseModel
from edda import EventTimeoutError, activity, wait_event, workflow
from edda_testkit.stateful import WorkflowMachine

class Paid(BaseModel):
    amount: int

@activity
async def ship(ctx, order_id: str) -> None: ...

@workflow
async def order(ctx, order_id: str):
    try:
        await wait_event(ctx, "paid", timeout_seconds=60, model=Paid)
    except EventTimeoutError:
        return "cancelled"
    await ship(ctx, order_id)
    return "shipped"

class OrderMachine(WorkflowMachine):
    workflow = order
    events = {"paid": Paid}

    @invariant()
    def never_cancelled(self):
        for run in self.runs:
            assert run.status != "completed" or run.result != "cancelled"

TestOrder = OrderMachine.TestCase
TestOrder.settings = settings(deadline=None, print_blob=True, stateful_step_count=8)
"""
STORY = [
    "*What happened:*",
    "*1. start order(order_id='')",
    "*2. advance 60 s",
    "*wait_event_paid:1*timed out*",
]


@pytest.fixture(autouse=True)
def _not_in_ci(monkeypatch):
    """Pytest and Hypothesis do otherwise where `CI` is set; a user's machine is meant here."""
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def project(pytester, monkeypatch):
    """Runs pytest in a process of its own over MODULE and what follows it."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(*args, more=""):
        pytester.makepyfile(test_it=MODULE + textwrap.dedent(more))
        return pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:anyio", *args)

    return run


def test_a_failure_is_told_as_the_shortest_story(project):
    """The report has the minimal steps in words, the timeline, and hypothesis's own lines."""
    result = project()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(STORY)
    result.stdout.no_fnmatch_line("*3. *")


def test_seed_and_profile_are_hypothesis_own(project):
    """`--hypothesis-seed` and `--hypothesis-profile` work as everywhere."""
    more = """
    settings.register_profile("brief", max_examples=300, phases=[Phase.generate, Phase.shrink])
    TestOrder.settings = settings(settings.get_profile("brief"), database=None)
    """
    runs = [project("--hypothesis-seed=7", more=more) for _ in range(2)]
    for result in runs:
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(STORY)


def test_the_example_database_finds_it_again_at_once(project):
    """A second session replays the stored failure first."""
    project().assert_outcomes(failed=1)
    more = "TestOrder.settings = settings(phases=[Phase.reuse], deadline=None)"
    result = project(more=more)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(STORY)


def test_the_printed_blob_reproduces_the_failure(project):
    """`@reproduce_failure` with what was printed fails the same way."""
    lines = project().stdout.lines
    found = (re.search(r"@reproduce_failure\(.*?\)", line) for line in lines)
    blob = next(one[0] for one in found if one)
    more = f"""
    TestOrder = {blob[1:]}(OrderMachine).TestCase
    TestOrder.settings = settings(database=None, deadline=None)
    """
    result = project(more=more)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(STORY)


def test_it_runs_under_unittest(pytester):
    """`python -m unittest` runs the TestCase, and prints the story too."""
    pytester.makepyfile(test_it=MODULE)
    command = [sys.executable, "-m", "unittest", "test_it"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "What happened:\n  1. start order(order_id='')\n  2. advance 60 s" in (
        done.stdout + done.stderr
    )


def test_invariants_find_the_world_of_setup_from_the_first_on():
    """An invariant may look at what `setup` makes, before any rule has happened."""
    looks = []

    class Watched(OrderMachine):
        def setup(self, sim):
            self.world = sim.world(list)

        @invariant()
        def is_there(self):
            looks.append((len(self.sim.runs), self.world))

    class Scheduled(Watched):
        schedules = strategies.schedules()

    for machine in (Watched, Scheduled):
        looks.clear()
        run(machine, max_examples=5)
        assert looks
        assert looks[0] == (0, [])
