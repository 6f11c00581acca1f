"""`edda check` on small folders of histories: what it says, in which form, with which exit code."""

import asyncio
import io
import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from edda import EddaApp, activity, wait_event, workflow
from edda.cli import main
from edda.history import as_document, from_document
from edda_testkit import Simulation
from edda_testkit.check import Progress, histories_in
from edda_testkit.golden_format import as_golden, layout

MODULE = """
from edda import EddaApp, activity, wait_event, workflow

@activity
async def check_pay(ctx, card: str, amount: float) -> dict:
    return {"card": card, "receipt": "R-1"}

@workflow
async def check_order(ctx, card: str) -> str:
    if ctx.patched("receipts"):
        pass
    paid = await check_pay(ctx, card, 12.5)
    event = await wait_event(ctx, "shipped")
    return f"{paid['receipt']} {event.data['by']}"

@workflow
async def check_idle(ctx):
    return ctx.patched("quiet")

app = EddaApp("check", "memory://", workflows=[check_order, check_idle])
"""


@activity
async def check_pay(ctx, card: str, amount: float) -> dict:
    return {"card": card, "receipt": "R-1"}


@workflow
async def check_order(ctx, card: str) -> str:
    paid = await check_pay(ctx, card, 12.5)
    event = await wait_event(ctx, "shipped")
    return f"{paid['receipt']} {event.data['by']}"


@workflow(name="check_order")
async def check_order_before(ctx, card: str) -> str:
    paid = await check_pay(ctx, card, 11)
    event = await wait_event(ctx, "shipped")
    return f"{paid['receipt']} {event.data['by']}"


@workflow
async def check_retired(ctx) -> None: ...


def recorded(definition, *arguments, event=True):
    with Simulation() as sim:
        run = sim.start(definition, *arguments)
        if event:
            sim.send("shipped", {"by": "post"})
        return run.id, run.history


@pytest.fixture(scope="module")
def histories(tmp_path_factory):
    """A project with one module and six files, each of another fate."""
    place = tmp_path_factory.mktemp("check")
    (place / "checked.py").write_text(MODULE)
    folder = place / "histories"
    (folder / "deep").mkdir(parents=True)
    good = recorded(check_order, "4242")
    (folder / "good.json").write_text(layout(as_golden("good", "checked:check_order", *good)))
    (folder / "deep" / "open.json").write_text(
        json.dumps(as_document(*recorded(check_order, "4242", event=False)))
    )
    (folder / "older.json").write_text(
        json.dumps(as_document(*recorded(check_order_before, "4242")))
    )
    (folder / "retired.json").write_text(json.dumps(as_document(*recorded(check_retired))))
    (folder / "damaged.json").write_text('{"format": "edda-history/1", "events": [')
    (folder / "other.json").write_text("[1, 2]")
    (folder / "folder.json").mkdir()
    return place


@pytest.fixture
def edda(histories, monkeypatch, capsys):
    """Runs a command in the project: its exit code, what it printed, and what it said beside."""
    monkeypatch.chdir(histories)
    monkeypatch.delenv("EDDA_APP", raising=False)
    monkeypatch.delenv("EDDA_DB_URL", raising=False)

    def run(*arguments):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_check_says_what_failed_and_what_was_not_covered(edda):
    """Failures come with their diff, and everything that was not checked is listed."""
    code, out, err = edda("check", "histories", "--app", "checked:app")
    assert (code, err) == (1, "")
    assert "FAILED histories/older.json  check_order 'check_order-" in out
    assert "amount: 11.0 recorded, 12.5 now" in out
    assert 'if ctx.patched("change-check-pay")' in out
    assert "FAILED histories/damaged.json\n  It is not JSON" in out
    assert "5 histories (" in out
    assert "2 as recorded, 2 failed, 1 not replayed." in out
    assert "patched('receipts'): held by 0 histories on the new side, 3 on the old." in out
    listed = out.partition("Not covered:\n")[2].splitlines()
    assert listed[:5] == [
        "  1 history of 'check_retired', which is no workflow here",
        "  workflows without a history: check_idle",
        "  patched('quiet') at checked:18: no history holds it, on either side",
        "  1 history had not finished: nobody knows what should follow",
        "  1 JSON file is no history",
    ]


def test_the_same_for_programs(edda, tmp_path):
    """`--json` is one object, and `--junit` a file that CI servers read."""
    junit = tmp_path / "check.xml"
    code, out, err = edda(
        "check", "histories", "--app", "checked:app", "--json", "--junit", str(junit)
    )
    assert (code, err) == (1, "")
    report = json.loads(out)
    assert (report["format"], report["histories"], report["passed"]) == ("edda-check/1", 5, 2)
    states = {Path(one["file"]).stem: one["state"] for one in report["files"]}
    assert states == {
        "damaged": "unreadable",
        "good": "passed",
        "older": "failed",
        "open": "passed",
        "retired": "unknown",
    }
    assert report["patches"] == {"receipts": {"new": 0, "old": 3}}
    assert report["not_covered"]["workflows_without_histories"] == ["check_idle"]
    assert report["not_covered"]["patches_without_histories"] == {"quiet": "checked:18"}
    suite = ET.fromstring(junit.read_text())
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "2", "1")
    failed = {one.get("name") for one in suite if one.find("failure") is not None}
    assert failed == {"histories/older.json", "histories/damaged.json"}


def test_histories_that_hold_are_fine(edda):
    """Exit code 0 where all replay; `--strict` fails for what is not covered."""
    files = ("histories/good.json", "histories/deep")
    code, out, _ = edda("check", *files)  # the golden one names its module
    assert code == 0
    assert "2 histories" in out
    code, _, _ = edda("check", *files, "--app", "checked:app", "--strict", "--jobs", "1")
    assert code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nowhere"], "There is no file or folder nowhere."),
        (["check", "histories/folder.json"], "There are no histories in 'histories/folder.json'."),
        (["check", "histories", "--app", "nowhere:app"], "There is no module 'nowhere'"),
        (["check", "histories", "--app", "checked:none"], "Its apps are: app."),
        (["check", "histories", "--jobs", "0"], "--jobs takes a number from 1 up"),
        (["check", "histories", "--timeout", "nan"], "--timeout one above 0"),
        (["check", "histories/retired.json"], "Name the app whose workflows they are"),
    ],
)
def test_nothing_to_check_is_usage(edda, arguments, said):
    """Where nothing can be checked the exit code is 2, and stderr says why in a sentence."""
    code, _, err = edda(*arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_report_that_cannot_be_written_is_usage(edda):
    """A JUnit file in a folder that is not there is a sentence, not a traceback."""
    code, _, err = edda("check", "histories/good.json", "--junit", "none/x.xml")
    assert code == 2
    assert "none/x.xml cannot be written" in err


def test_files_are_found_in_folders_once(histories):
    """A folder is searched to its depths; a file that is named twice counts once."""
    folder = histories / "histories"
    files, skipped = histories_in([folder, folder / "good.json"])
    assert [path.name for path in files] == [
        "damaged.json",
        "open.json",
        "good.json",
        "older.json",
        "retired.json",
    ]
    assert skipped == 1


def test_hidden_folders_below_are_not_searched(histories):
    """What tools keep beside a project (.venv, .mypy_cache) is neither checked nor counted."""
    hidden = histories / "histories" / ".tool" / "inner"
    hidden.mkdir(parents=True)
    for name in ("good.json", "notes.json"):
        (hidden / name).write_text((histories / "histories" / "good.json").read_text("utf-8"))
    (hidden / "notes.json").write_text("{}")
    assert histories_in([histories / "histories"])[1] == 1
    assert hidden / "good.json" not in histories_in([histories / "histories"])[0]
    assert histories_in([hidden])[0] == [hidden / "good.json"]  # unless it is what was asked for


def test_a_bar_is_drawn_on_a_terminal_only():
    """On a terminal the progress is one line that is cleaned up; elsewhere nothing is written."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        with Progress(4, stream) as progress:
            progress.step(4)
    assert terminal.getvalue().startswith("\r░")
    assert "of 4 replays" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert file.getvalue() == ""


def test_from_production_to_a_check(edda, histories, tmp_path):
    """What is exported, redacted, from a database replays on the code that made it."""

    async def fill():
        url = f"sqlite:///{tmp_path}/shop.db"
        async with EddaApp("check", url, workflows=[check_order]) as app:
            await app.start(check_order, "4000123412341234", instance_id="card-4000123412341234")
            await app.handle_event(
                {"type": "shipped", "source": "x", "id": "1", "data": {"by": "post"}}
            )
            await app.result("card-4000123412341234", timeout=10)
        return url

    url = asyncio.run(fill())
    out = tmp_path / "exported"
    command = ("history", "export", "--db", url, "--since", "1h", "--output", str(out))
    code, _, err = edda(*command, "--redact", "check_order.card")
    assert (code, err) == (0, f"edda: histories written to {out}: 1\n")
    (file,) = out.rglob("*.json")
    text = file.read_text()
    assert "4000123412341234" not in text
    assert from_document(json.loads(text))
    code, out, _ = edda("check", str(out), "--app", "checked:app")
    assert code == 0, out


def test_the_command_is_found_by_its_entry_point(edda):
    """`edda check --help` comes from the kit, through the group `edda.commands`."""
    code, out, _ = edda("check", "--help")
    assert code == 0
    assert "Replay recorded histories on today's code" in out
    assert "edda_testkit.check" in sys.modules
