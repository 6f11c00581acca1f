"""Golden files as test items by themselves, in small real projects."""

import textwrap

import pytest

from edda import activity, workflow
from edda_testkit import Simulation
from edda_testkit.golden_format import as_golden, layout

FLOWS = """
from edda import workflow, activity, wait_event

@activity
async def pay(ctx, word: str) -> int:
    return 1

@activity
async def post(ctx) -> int:
    return 1

@workflow
async def order(ctx, n: int) -> int:
    await pay(ctx, "once")
    return n
"""
PATCHED = FLOWS.replace(
    "    return n", "    if ctx.patched('posting'):\n        await post(ctx)\n    return n"
)
BROKEN = FLOWS.replace("    return n", "    await post(ctx)\n    return n")
TESTS = """
from flows import *

def test_order(edda_sim):
    edda_sim.start(order, 3)
    edda_sim.golden("three")
"""
BARE = ("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:cacheprovider", "-q")


@pytest.fixture(autouse=True)
def _not_in_ci(monkeypatch):
    """Pytest and Hypothesis do otherwise where `CI` is set; a user's machine is meant here."""
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def project(pytester, monkeypatch):
    """Writes a project, and runs pytest on it in a process of its own."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("TZ", raising=False)  # the workflows here look at it
    pytester.makeini("[pytest]\nfilterwarnings = error\npythonpath = .\n")
    (pytester.path / "tests").mkdir()

    def run(*arguments, flows=FLOWS, tests=TESTS, perturb="off"):
        (pytester.path / "flows.py").write_text(flows)
        (pytester.path / "tests" / "test_it.py").write_text(textwrap.dedent(tests))
        return pytester.runpytest_subprocess(*BARE, f"--edda-perturb={perturb}", *arguments)

    return run


@activity
async def pay(ctx, word: str) -> int:
    return 1


@workflow
async def order(ctx, n: int) -> int:
    await pay(ctx, "once")
    return n


@pytest.fixture
def written(pytester):
    """The golden file that the test of FLOWS writes."""
    with Simulation() as sim:
        run = sim.start(order, 3)
        text = layout(as_golden("three", "flows:order", run.id, run.history))
    file = golden(pytester.path)
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def golden(project_path, name="three", workflow="order"):
    return project_path / "tests" / "histories" / workflow / f"{name}.json"


def test_a_file_is_written_then_held_by_its_test_and_by_itself(project, pytester):
    """`--edda-update` writes and says so; from then on the file is an item of its own."""
    result = project("--edda-update")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*edda golden histories*",
            "written: tests/histories/order/three.json",
        ]
    )
    result.stdout.no_fnmatch_line("*left alone*")
    (pytester.path / "tests" / "histories" / "other.json").write_text('{"a": 1}')
    result = project("-vv")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*histories/order/three.json::replay PASSED*"])
    assert "other.json" not in result.stdout.str()
    before = golden(pytester.path).read_bytes()
    result = project("--edda-update")
    result.stdout.fnmatch_lines(["golden histories left alone: 1"])
    assert golden(pytester.path).read_bytes() == before


def test_a_breaking_change_fails_the_test_and_the_file(project, written):
    """A step more fails both, with the aligned diff and `ctx.patched`, and an update mends both."""
    result = project(flows=BROKEN)
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert text.count("post:1 (activity)  flows.py:15") == 2
    assert text.count('if ctx.patched("change-post")') == 2
    result = project("--edda-update", flows=BROKEN)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["changed: tests/histories/order/three.json"])


def test_a_new_version_with_patched_holds_old_and_new(project, pytester, written):
    """Old and new histories both pass, and the summary counts who is on which side."""
    written.rename(golden(pytester.path, "before_posting"))
    project("--edda-update", flows=PATCHED)
    result = project(flows=PATCHED)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["patched('posting'): 1 histories on the new side, 1 on the old"])


def test_a_patch_that_no_history_holds_is_named(project, written):
    """A `ctx.patched` in the code of a workflow that no golden history reaches is listed."""
    unheld = FLOWS + "\n@workflow\nasync def other(ctx):\n    return ctx.patched('quiet')\n"
    result = project(flows=unheld)
    result.stdout.fnmatch_lines(["patched('quiet') at flows:19: no history holds it*"])


def test_code_that_differs_between_interpreters_fails_by_itself(project, pytester):
    """The item says under which hash seed a history goes another way; `off` leaves that out."""
    flows = """
    import os
    from edda import workflow, activity

    @activity
    async def pay(ctx, word: str) -> int:
        return 1

    @workflow
    async def order(ctx, n: int) -> int:
        await pay(ctx, os.environ.get("TZ", "")[:9])  # edda: allow[environment]
        return n
    """
    flows = textwrap.dedent(flows)
    tests = TESTS + "\nimport pytest\npytestmark = pytest.mark.edda(replay=False)\n"
    project("--edda-update", flows=flows, tests=tests)
    result = project(str(golden(pytester.path)), flows=flows, perturb="on")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["It does not replay with*TZ=*"])
    project(flows=flows, tests=tests).assert_outcomes(passed=2)


def test_a_workflow_of_a_test_module_is_found_without_the_module(project, pytester):
    """A file alone finds the module of its workflow, under pytest's names for modules too."""
    tests = """
    from edda import workflow

    @workflow
    async def mine(ctx, n: int) -> int:
        return n

    def test_mine(edda_sim):
        edda_sim.start(mine, 3)
        edda_sim.golden("three")
    """
    project("--edda-update", "--import-mode=importlib", tests=tests)
    file = golden(pytester.path, workflow="mine")
    for mode in ("importlib", "prepend"):
        result = project(f"--import-mode={mode}", str(file), tests=tests, perturb="on")
        result.assert_outcomes(passed=1)
        assert "other interpreters" not in result.stdout.str()


def test_a_workflow_inside_a_test_is_skipped_by_the_file(project):
    """A workflow defined in a function is held by its test alone, and the file says why."""
    tests = """
    from edda import workflow

    def test_mine(edda_sim):
        @workflow
        async def mine(ctx, n: int) -> int:
            return n

        edda_sim.start(mine, 3)
        edda_sim.golden("three")
    """
    project("--edda-update", tests=tests)
    result = project("-rs", tests=tests)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*is defined inside a function*only*its own test*"])


def test_an_orphan_fails_and_is_reported(project, written):
    """A file whose workflow is gone fails with the cures, and is listed as an orphan."""
    result = project(flows=FLOWS.replace("order", "orders"), tests="def test_nothing(): pass")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "No workflow is called 'order', and flows:order is none.",
            "*@workflow(name='order')*delete the file*",
            "orphan: tests/histories/order/three.json: *and no test asks for it",
        ]
    )


def test_a_file_that_cannot_be_read_fails(project, written):
    """A damaged golden file fails with a sentence, and no traceback."""
    written.write_text(written.read_text()[:-20])
    result = project(str(written))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["three.json cannot be read. It is not JSON:*"])
    assert "Traceback" not in result.stdout.str()


def test_a_dying_child_names_the_history(project):
    """A replay that kills its interpreter fails that item, and the others are still judged."""
    flows = FLOWS + (
        "\n@workflow\nasync def deadly(ctx):\n    import os, sys\n"
        "    if 'pytest' not in sys.modules:\n        os._exit(7)\n"
    )
    tests = TESTS + "\ndef test_deadly(edda_sim):\n    edda_sim.start(deadly)\n"
    tests += '    edda_sim.golden("one")\n'
    project("--edda-update", flows=flows, tests=tests)
    result = project(flows=flows, tests=tests, perturb="on")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        ["*replay of deadly/one.json*", "*took its process with it: it ended with exit code 7*"]
    )


def test_a_project_without_histories_loads_nothing(project, pytester):
    """JSON files elsewhere are not looked at, and the room of golden items is not imported."""
    (pytester.path / "tests" / "data.json").write_text('{"format": "edda-golden/1"}')
    tests = """
    import sys
    def test_nothing():
        assert "edda_testkit.plugin_golden" not in sys.modules
    """
    project(tests=tests).assert_outcomes(passed=1)


def test_workers_of_xdist_report_together(project, written):
    """Under pytest-xdist the summary adds up what the workers found."""
    result = project("-n2", flows=PATCHED)
    result.stdout.fnmatch_lines(["patched('posting'): 0 histories on the new side, 1 on the old"])
