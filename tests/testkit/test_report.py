"""The report page: what it holds, that nothing in it is markup, and how a browser shows it."""

import html
import json
import re
import shutil
import subprocess
import textwrap
from datetime import UTC, datetime

import pytest

from edda import RetryPolicy, activity, sleep, wait_event, workflow
from edda_testkit import Simulation
from edda_testkit.report import MAX_EVENTS, MAX_RUNS, page, simulation_entry, test_entry

entry_of = test_entry  # a name that pytest does not collect
del test_entry

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HOSTILE = "</script><img src=x onerror=document.title='owned'><!--<script>"


@activity(retry_policy=RetryPolicy(max_attempts=2, initial_interval=5))
async def charge(ctx, order_id: str) -> str:
    raise NotImplementedError("must be stubbed")


@workflow
async def order(ctx, order_id: str):
    await wait_event(ctx, "paid", timeout_seconds=3600)
    receipt = await charge(ctx, order_id)
    await sleep(ctx, 86400)
    return receipt


@workflow
async def counting(ctx, many: int):
    for _ in range(many):
        await sleep(ctx, 1)


def simulated(order_id="ORD-1"):
    """An order with an early wait, a crash, a failed attempt and a long sleep."""
    with Simulation() as sim:
        sim.stub(charge, sequence=[ConnectionError("gateway down"), "R-1"])
        sim.start(order, order_id=order_id, instance_id=order_id)
        sim.advance(30)
        sim.crash()
        sim.send("paid", {"by": order_id})
        sim.send("other")
        sim.advance(days=2)
        return simulation_entry(sim)


def data_of(text):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


# ---- What the page is told ---------------------------------------------------------------------


def test_an_entry_has_lanes_events_crashes_and_commits():
    """A simulation is told with times from its start, what answered what, crashes and commits."""
    entry = simulated()
    assert (entry["start"], entry["now"]) == ("2000-01-01T00:00:00+00:00", 172_830_000_000)
    assert entry["crashes"] == [{"t": 30_000_000, "worker": None, "lengths": {"ORD-1": 2}}]
    assert entry["untaken"] == ["other (id 'event-2'), sent at 2000-01-01T00:00:30+00:00"]
    (run,) = entry["runs"]
    assert (run["workflow"], run["status"], run["outcome"]) == ("order", "completed", '"R-1"')
    assert run["commits"][0] == 2
    events = run["events"]
    assert [event["k"] for event in events] == [
        *("workflow_started", "event_awaited", "event_received", "activity_scheduled"),
        *("attempt_failed", "activity_completed", "timer_set", "timer_fired"),
        "workflow_completed",
    ]
    assert [event.get("o") for event in events] == [None, None, 1, None, 3, 3, None, 6, None]
    assert [event["c"] for event in events] == [
        *("", "", "good", "", "bad"),
        "good",
        "",
        "good",
        "good",
    ]
    assert events[1]["s"].startswith("tests/testkit/test_report.py:") or events[1]["s"].startswith(
        "test_report.py:"
    )
    assert json.loads(events[2]["p"])["data"] == {"by": "ORD-1"}


def test_what_is_not_finished_says_what_it_waits_for():
    """An open run's waits are there, and so is a failed one's error."""

    @workflow
    async def failing(ctx):
        raise ValueError("no")

    with Simulation() as sim:
        sim.start(order, order_id="1")
        sim.start(failing)
        waiting, failed = simulation_entry(sim)["runs"]
    assert waiting["waits"][0].startswith("event 'paid' (wait_event_paid:1) at ")
    assert (failed["status"], failed["outcome"]) == ("failed", "ValueError('no')")


def test_large_runs_are_capped_and_say_so():
    """Of a long run the first and last events are kept, of many runs the first."""
    with Simulation(replay=False) as sim:
        sim.start(counting, many=300)
        for _ in range(MAX_RUNS):
            sim.start(counting, many=0)
        sim.advance(400)
        entry = simulation_entry(sim)
    run = entry["runs"][0]
    assert (run["total"], len(run["events"])) == (602, MAX_EVENTS)
    assert [run["events"][0]["n"], run["events"][-1]["n"]] == [0, 601]
    assert (len(entry["runs"]), entry["more"]) == (MAX_RUNS, 1)


def test_long_payloads_are_cut():
    """A payload of a megabyte does not make a page of a megabyte."""
    entry = simulated("x" * 1_000_000)
    assert len(json.dumps(entry["runs"][0]["events"])) < 30_000
    assert "… (1,000," in entry["runs"][0]["events"][0]["p"]


def test_a_full_page_keeps_the_names_of_tests(monkeypatch):
    """Beyond the limit a test keeps its outcome and loses its simulations, and says so."""
    tests = [entry_of(f"t.py::test_{n}", "passed", 0.1, "", [simulated()]) for n in range(3)]
    monkeypatch.setattr("edda_testkit.report.MAX_BYTES", len(json.dumps(tests[0])) * 3 // 2)
    data = data_of(page(tests))
    assert [bool(test["sims"]) for test in data["tests"]] == [True, False, False]
    assert (data["dropped"], data["tests"][2]["dropped"]) == (2, True)


def test_failed_tests_come_first():
    """Failures, then errors, then what passed; in their own order otherwise."""
    tests = [entry_of(o + n, o, 0, "", []) for n in "12" for o in ("passed", "error", "failed")]
    found = [test["id"] for test in data_of(page(tests))["tests"]]
    assert found == ["failed1", "failed2", "error1", "error2", "passed1", "passed2"]


def test_nothing_of_a_user_is_markup():
    """Hostile ids, data and messages stand in the page as JSON without a `<`."""
    text = page([entry_of(HOSTILE, "failed", 0, HOSTILE, [simulated(HOSTILE)])])
    assert text.count("</script>") == 2  # the data's, and the page's own
    assert "onerror" in text
    raw = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    assert not set("<>&") & set(raw)
    assert raw.isascii()
    assert data_of(text)["tests"][0]["sims"][0]["runs"][0]["id"] == HOSTILE


def test_the_page_asks_the_network_for_nothing():
    """No address in the page's own parts but SVG's name, and a policy that forbids the rest."""
    text = page([], made=datetime(2030, 1, 1, tzinfo=UTC))
    assert re.findall(r"https?://[^\"'\s]+", text) == ["http://www.w3.org/2000/svg"]
    assert "default-src 'none'" in text
    assert not re.search(r"<(link|img|iframe)\b|@import|url\(", text)
    assert data_of(text)["made"] == "2030-01-01T00:00:00+00:00"


# ---- In a project of the user's ----------------------------------------------------------------

TESTS = """
import pytest
from edda import wait_event, workflow

@workflow
async def order(ctx, order_id: str):
    return (await wait_event(ctx, "paid", timeout_seconds=60)).data

def test_pays(edda_sim):
    edda_sim.start(order, order_id="1")
    edda_sim.send("paid", 1)

def test_fails(edda_sim):
    edda_sim.start(order, order_id="2", instance_id="O-2")
    assert 1 == 2

def test_without(): ...

@pytest.fixture
def broken(edda_sim):
    yield
    raise ValueError("in teardown")

def test_error(broken, edda_sim):
    edda_sim.start(order, order_id="3")

@pytest.mark.xfail
def test_expected(edda_sim):
    edda_sim.start(order, order_id="4")
    assert 1 == 2
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """Runs pytest in a process of its own on TESTS and returns the outcome and the page's data."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(*args, source=TESTS):
        pytester.makepyfile(test_it=textwrap.dedent(source))
        result = pytester.runpytest_subprocess(
            "-p", "no:asyncio", "-p", "no:anyio", "--edda-report=out/report.html", *args
        )
        return result, data_of((pytester.path / "out" / "report.html").read_text("utf-8"))

    return run


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "xdist"])
def test_the_page_has_the_simulated_tests(project, workers):
    """`--edda-report` writes a page of every test that simulated, under xdist too."""
    result, data = project(*workers)
    result.stdout.fnmatch_lines(["edda report: file://*/out/report.html"])
    outcomes = {test["id"]: test["outcome"] for test in data["tests"]}
    assert outcomes == {
        "test_it.py::test_fails": "failed",
        "test_it.py::test_error": "error",
        "test_it.py::test_pays": "passed",
        "test_it.py::test_expected": "xfailed",
    }
    failed = data["tests"][0]
    assert "assert 1 == 2" in failed["message"]
    assert failed["sims"][0]["runs"][0]["id"] == "O-2"


def test_of_many_simulations_the_last_are_kept(project):
    """A test under @given opens many: the last three are shown, and the others counted."""
    source = """
    from hypothesis import given, settings, strategies as st
    from edda import workflow
    from edda_testkit import Simulation

    @workflow
    async def echo(ctx, word: int):
        return word

    @settings(max_examples=10, derandomize=True, database=None, deadline=None)
    @given(st.integers(0, 10**6))
    def test_it(word):
        with Simulation() as sim:
            sim.start(echo, word=word)
    """
    _, data = project(source=source)
    (test,) = data["tests"]
    assert len(test["sims"]) == 3
    assert test["more"] == 7


def test_of_an_exploration_the_failure_is_shown(project):
    """Of all the schedules of a failing exploration, the page has the one that failed."""
    source = """
    from edda import activity, workflow
    from edda_testkit import explore

    @activity
    async def pay(ctx) -> None: ...

    @workflow
    async def order(ctx):
        await pay(ctx)

    @explore(crashes=1)
    def test_once(edda_sim):
        run = edda_sim.start(order)
        assert len(run.calls(pay)) == 1
    """
    result, data = project(source=source)
    (test,) = data["tests"]
    (sim,) = test["sims"]
    assert sim["schedule"] in result.stdout.str()
    assert any("crash" in line for line in sim["story"])
    assert len(sim["crashes"]) == 1
    result.stdout.fnmatch_lines(["*edda timeline of order*", "*✝ crash of worker 1*"])


# ---- In a browser ------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path):
    """Writes a page of these tests and returns the text of its document at an address."""
    if CHROMIUM is None:
        pytest.skip("needs a chromium on the PATH")

    def dump(tests, fragment="", *options, script=""):
        file = tmp_path / "report.html"
        more = f"<script>{script}</script></body>" if script else "</body>"
        file.write_text(page(tests).replace("</body>", more), "utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [CHROMIUM, *flags, profile, *options, "--dump-dom", f"{file.as_uri()}#{fragment}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return re.sub(r"(?s)<script.*?</script>", "", done.stdout)

    return dump


def sample():
    return [
        entry_of("a.py::test_one", "passed", 0.1, "", [simulated()]),
        entry_of("a.py::test_two", "failed", 0.2, "assert <b>1</b>", [simulated("ORD-2")]),
    ]


def test_a_browser_draws_lanes_dots_and_crashes(browser):
    """The page lists the tests, failed first, and draws the chosen one's lanes."""
    dom = browser(sample())
    assert dom.index("test_two") < dom.index("test_one")
    assert dom.count('class="lane"') == 1
    assert len(re.findall(r'class="dot ', dom)) == 9
    assert len(re.findall(r'class="span ', dom)) == 3
    assert len(re.findall(r'class="crash"', dom)) == 1
    assert "crash of every worker" in dom
    assert dom.count('class="gap"') == 4
    assert "assert &lt;b&gt;1&lt;/b&gt;" in dom
    assert re.search(r'data-test="0"[^>]*aria-current="true"', dom)


def test_a_browser_shows_details_search_and_theme(browser):
    """The address chooses test, event, search and theme; details have attempts and payloads."""
    dom = browser(sample(), "test=1&event=3&theme=dark&search=ord-1")
    assert 'data-theme="dark"' in dom
    listed = re.search(r'<ol id="tests".*?</ol>', dom, re.DOTALL)[0]
    assert "test_one" in listed
    assert "test_two" not in listed
    details = re.search(r"<aside.*?</aside>", dom, re.DOTALL)[0]
    said = html.unescape(re.sub(r"<[^>]+>", " ", details))
    assert "charge:1" in said
    assert "attempt 1 failed" in said
    assert "gateway down" in said
    assert '"order_id": "ORD-1"' in said
    assert " hidden" not in details[:80]


def test_a_browser_runs_nothing_that_a_test_made_up(browser):
    """Hostile strings everywhere: shown as text, and no element or title of theirs comes up."""
    dom = browser([entry_of(HOSTILE, "failed", 0, HOSTILE, [simulated(HOSTILE)])], "event=0")
    assert "<img" not in dom
    assert "<title>Edda report</title>" in dom
    assert html.escape(HOSTILE, quote=False) in dom


def test_a_page_of_many_events_is_drawn(browser):
    """Forty runs of a hundred events each are on the page, none left out silently."""
    with Simulation(replay=False) as sim:
        for _ in range(MAX_RUNS):
            sim.start(counting, many=50)
        sim.advance(60)
        entry = simulation_entry(sim)
    dom = browser([entry_of("big.py::test_big", "passed", 1, "", [entry])])
    assert dom.count('class="lane"') == MAX_RUNS
    assert len(re.findall(r'class="dot ', dom)) == MAX_RUNS * 102


def test_an_empty_page_says_so(browser):
    """A session without simulations has a page that says that."""
    assert "No test opened a simulation." in browser([])


def test_the_page_fits_a_phone(browser):
    """On a narrow screen only the lanes' own stage scrolls sideways, never the page."""
    measure = "if (document.documentElement.scrollWidth <= innerWidth) document.title = 'fits'"
    dom = browser(sample(), "test=1", "--window-size=500,900", script=measure)
    assert re.search(r"<title>(.*?)</title>", dom)[1] == "fits"


PRESS = """
const press = (key) => (document.activeElement || document.body).dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
"""


def test_keys_walk_through_tests_and_events(browser):
    """`j` goes to the next test, arrows from event to event, Enter opens details, `t` turns."""
    keys = ["j", "t", "+", "ArrowRight", "ArrowRight", "ArrowRight", "Enter"]
    script = PRESS + "".join(f"press('{key}');" for key in keys)
    dom = browser(sample(), "theme=light", script=script)
    assert re.search(r"<main.*?<h2>a.py::test_one</h2>", dom, re.DOTALL)
    assert 'data-theme="dark"' in dom
    details = re.search(r"<aside.*?</aside>", dom, re.DOTALL)[0]
    assert "wait_event_paid:1" in details
    assert "received from test" in details
    closed = browser(sample(), "", script=script + "press('Escape');")
    assert re.search(r'<aside[^>]* hidden=""', closed)


def test_a_search_and_a_filter_narrow_the_list(browser):
    """Typing in the search field, and a filter's button, leave what fits."""
    script = """
    const field = document.getElementById("search");
    field.value = "ORD-2";
    field.dispatchEvent(new Event("input"));
    """
    listed = r'<ol id="tests"(.*?)</ol>'
    found = re.search(listed, browser(sample(), "", script=script), re.DOTALL)[1]
    assert "test_two" in found
    assert "test_one" not in found
    script = "document.querySelectorAll('#filters button')[2].click()"
    dom = browser(sample(), "", script=script)
    found = re.search(listed, dom, re.DOTALL)[1]
    assert "test_one" in found
    assert "test_two" not in found
    assert 'aria-pressed="true">passed 1<' in dom
