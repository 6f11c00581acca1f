"""The command `edda`: what it prints, where, and with which exit code.

Commands run in this process on a small database; `serve` and `worker` as processes of their own,
as they are about signals.
"""

import asyncio
import contextlib
import importlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import unicodedata
import urllib.request
from pathlib import Path

import pytest

from edda import EddaApp, WorkflowContext, WorkflowFailed, wait_event, workflow
from edda.cli import main
from edda.history import from_document

ROOT = Path(__file__).resolve().parents[1]

MODULE = """\
from edda import EddaApp, WorkflowContext, wait_event, workflow

print("a module that prints")


@workflow
async def order(ctx: WorkflowContext, order_id: str):
    event = await wait_event(ctx, "paid")
    return event.data


app = EddaApp("shop", "sqlite:///shop.db")
private = EddaApp("shop", "memory://")
number = 5


class Apps:
    inner = app
"""


@workflow
async def cli_order(ctx: WorkflowContext, order_id: str) -> dict:
    event = await wait_event(ctx, "paid", timeout_seconds=3600)
    return {"paid": event.data}


@workflow
async def cli_refusal(ctx: WorkflowContext) -> None:
    raise ValueError("no\nmoney")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory of its own, and nothing said in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDDA_DB_URL", raising=False)
    monkeypatch.delenv("EDDA_APP", raising=False)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "main.py").write_text(MODULE)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shop", "relay")]:
        sys.modules.pop(name, None)


@pytest.fixture
def database(place):
    """A database with a waiting instance, a completed one and a failed one."""

    async def fill():
        async with EddaApp("cli-tests", "sqlite:///shop.db", workflows=[cli_order]) as app:
            await app.start(cli_order, instance_id="done", order_id="ORD-1")
            await app.start(cli_refusal, instance_id="failed")
            await app.handle_event(
                {
                    "type": "paid",
                    "source": "bank",
                    "id": "1",
                    "eddainstanceid": "done",
                    "data": 9.5,
                }
            )
            await app.result("done", timeout=10)
            await app.start(cli_order, instance_id="waiting", order_id="ORD-2")
            async with asyncio.timeout(10):
                while await app.status("waiting") != "waiting_for_event":
                    await asyncio.sleep(0.005)

    asyncio.run(fill())
    return "sqlite:///shop.db"


@pytest.fixture
def edda(capsys):
    """Run a command: its exit code, what it printed, and what it said beside."""

    def run(*arguments):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


# ---- Looking into a database -----------------------------------------------------------------


def test_ps_lists_instances(edda, database):
    """`ps` is a table by id, with what each instance waits for or how it ended."""
    code, out, err = edda("ps", "--db", database)
    assert (code, err) == (0, "")
    rows = [re.split(r"  +", line) for line in out.splitlines()]
    assert rows[0] == ["ID", "WORKFLOW", "STATUS", "UPDATED (UTC)", "NOW"]
    assert [(row[0], row[1], row[2]) for row in rows[1:]] == [
        ("done", "cli_order", "completed"),
        ("failed", "cli_refusal", "failed"),
        ("waiting", "cli_order", "waiting_for_event"),
    ]
    assert rows[1][4] == 'completed with {"paid": 9.5}'
    assert rows[2][4] == "failed: ValueError: no money"
    assert rows[3][4].startswith("waits for paid, at most until 20")


def test_what_is_printed_commands_no_terminal(edda, place):
    """Control characters of ids and messages, which may be anybody's, are shown and not obeyed."""
    id = "a\x1b[31m\n\x9b2J\u202eb"

    @workflow
    async def cli_colours(ctx: WorkflowContext) -> None:
        raise ValueError("red \x1b[31m\x07")

    async def fill():
        async with EddaApp("cli-tests", "sqlite:///shop.db", workflows=[cli_colours]) as app:
            await app.start(cli_colours, instance_id=id)
            with contextlib.suppress(WorkflowFailed):
                await app.result(id, timeout=10)

    asyncio.run(fill())
    shown = [edda("ps", "--db", "sqlite:///shop.db"), edda("show", id, "--db", "sqlite:///shop.db")]
    text = "".join(out for _, out, _ in shown)
    assert [code for code, _, _ in shown] == [0, 0]
    assert [char for char in text if unicodedata.category(char) in ("Cc", "Cf")] == [
        "\n"
    ] * text.count("\n")
    assert text.count(r"a\x1b[31m\n\x9b2J\u202eb") == 2
    assert r"ValueError: red \x1b[31m\x07" in text


def test_looking_changes_no_database_of_others(edda, place):
    """`ps` on a database that no app has used says so, and makes no tables in it."""
    with contextlib.closing(sqlite3.connect("theirs.db")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
    Path("empty.db").touch()
    before = Path("theirs.db").read_bytes()
    for name in ("theirs.db", "empty.db"):
        code, out, err = edda("ps", "--db", f"sqlite:///{name}")
        assert (code, out) == (2, "")
        assert err == (
            f"edda: No app has used {name} yet: it has no tables of Edda. An app makes them when "
            f"it runs first; mend the name, or start the app.\n"
        )
    assert Path("theirs.db").read_bytes() == before
    assert sorted(path.name for path in place.glob("*.db*")) == ["empty.db", "theirs.db"]


def test_a_limit_is_one_that_a_database_can_count_to(edda, database):
    """A limit of more digits than any database counts to is a usage error."""
    code, _, err = edda("ps", "--db", database, "--limit", "9" * 20)
    assert code == 2
    assert "expected a number from 1 up, got '99999" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written(place, database):
    """A full disk behind the output is a sentence and exit code 1."""
    command = [sys.executable, "-m", "edda", "ps", "--db", database]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "edda: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    "url", ["postgresql://me:pass/word@h:5432/d", "postgresql://h:abc/d", "postgresql://[::1/d"]
)
def test_a_url_of_a_server_that_cannot_be_read(edda, url):
    """A URL that is none, as with a password that is not quoted, is a usage error without it."""
    code, _, err = edda("ps", "--db", url)
    assert code == 2
    assert "cannot be read" in err
    assert "word" not in err
    assert "Traceback" not in err


def test_ps_lists_instances_for_scripts(edda, database):
    """`ps --json` is an array of views, without results."""
    code, out, _ = edda("ps", "--db", database, "--json")
    views = json.loads(out)
    assert (code, [view["id"] for view in views]) == (0, ["done", "failed", "waiting"])
    assert views[2]["waiting_for"] == [{"id": "wait_event_paid:1", "type": "paid"}]
    assert "result" not in views[0]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--status", "completed"], ["done"]),
        (["--workflow", "cli_order"], ["done", "waiting"]),
        (["--after", "done"], ["failed", "waiting"]),
        (["--status", "stuck"], []),
    ],
)
def test_ps_chooses(edda, database, options, found):
    """`ps` can be narrowed to a status, a workflow, or what comes after an id."""
    _, out, _ = edda("ps", "--db", database, "--json", *options)
    assert [view["id"] for view in json.loads(out)] == found


def test_ps_says_that_there_may_be_more(edda, database):
    """A list that reached its limit says how to go on."""
    _, out, err = edda("ps", "--db", database, "--limit", "2")
    assert [line.partition(" ")[0] for line in out.splitlines()] == ["ID", "done", "failed"]
    assert err == "There may be more: --after failed\n"


def test_ps_of_nothing(edda, database):
    """Where there is no instance, `ps` says so."""
    assert edda("ps", "--db", database, "--status", "stuck") == (0, "No instances.\n", "")


def test_show_is_a_timeline(edda, database):
    """`show` tells the status and every event of an instance."""
    code, out, err = edda("show", "waiting", "--db", database)
    assert (code, err) == (0, "")
    head, _, started, asked, _, now = out.splitlines()
    assert head == "waiting  waiting_for_event"
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +▶ cli_order +\(order_id="ORD-2"\)', started
    )
    asked = asked.split(maxsplit=1)[1]
    assert re.fullmatch(r"◇ wait_event_paid:1  waits at most 1h +\S*test_cli.py:\d+", asked)
    assert now.startswith("waits for paid, at most until 20")


def test_show_counts_from_the_start(edda, database):
    """`show --relative --width` counts times from the start, in as many columns."""
    _, out, _ = edda("show", "done", "--db", database, "--relative", "--width", "60")
    lines = out.splitlines()
    assert lines[0] == "done  completed"
    assert re.fullmatch(r" *\+0 +▶ cli_order +\(order_id=.*", lines[2])
    assert "■ cli_order" in lines[-1]
    assert max(map(len, lines)) <= 60


def test_show_for_scripts(edda, database):
    """`show --json` has the view, the result and the history."""
    code, out, _ = edda("show", "done", "--db", database, "--json")
    view = json.loads(out)
    assert (code, view["status"], view["result"]) == (0, "completed", {"paid": 9.5})
    assert view["history"]["events"][-1]["kind"] == "workflow_completed"


def test_show_tells_what_an_instance_is_stuck_on(edda, database):
    """A stuck instance is shown with the whole message, which aligns code and history."""

    async def break_it():
        @workflow(name="cli_order")
        async def changed(ctx: WorkflowContext, order_id: str):
            await wait_event(ctx, "sent")

        async with EddaApp("cli-tests", database, workflows=[changed]) as app:
            await app.handle_event(
                {"type": "paid", "source": "bank", "id": "2", "eddainstanceid": "waiting"}
            )
            async with asyncio.timeout(10):
                while await app.status("waiting") != "stuck":
                    await asyncio.sleep(0.005)

    asyncio.run(break_it())
    _, out, _ = edda("show", "waiting", "--db", database)
    assert re.search(r"^stuck since 20\d\d-", out, re.MULTILINE)
    assert "wait_event_sent:1" in out
    assert edda("retry", "waiting", "--db", database) == (
        0,
        "waiting is ready again; a worker takes it up.\n",
        "",
    )


def test_a_history_can_be_exported(edda, database):
    """`history export` writes the document that tests replay."""
    code, out, err = edda("history", "export", "done", "--db", database)
    assert (code, err) == (0, "")
    kinds = [event.kind for event in from_document(json.loads(out))]
    assert kinds[0] == "workflow_started"
    assert kinds[-1] == "workflow_completed"


def test_cancel_asks(edda, database):
    """`cancel` leaves a request that a worker carries out, and says so once it is too late."""
    assert edda("cancel", "waiting", "--db", database) == (
        0,
        "Asked for the cancellation of waiting; a worker carries it out.\n",
        "",
    )

    async def work():
        async with EddaApp("cli-tests", database, workflows=[cli_order]) as app:
            async with asyncio.timeout(10):
                while not (await app.status("waiting")).is_final:
                    await asyncio.sleep(0.005)

    asyncio.run(work())
    assert edda("cancel", "waiting", "--db", database) == (
        1,
        "",
        "edda: waiting is cancelled already; it cannot be cancelled.\n",
    )


@pytest.mark.parametrize(
    ("command", "id", "code", "said"),
    [
        ("cancel", "waiting", 0, {"cancel_requested": True, "status": "waiting_for_event"}),
        ("cancel", "done", 1, {"cancel_requested": False, "status": "completed"}),
        ("retry", "done", 1, {"retried": False, "status": "completed"}),
    ],
)
def test_a_script_reads_what_came_of_it(edda, database, *, command, id, code, said):
    """With --json, `cancel` and `retry` answer in both cases, with the same exit codes."""
    found, out, err = edda(command, id, "--json", "--db", database)
    assert (found, json.loads(out), err) == (code, {"id": id} | said, "")


def test_retry_is_for_the_stuck(edda, database):
    """`retry` of an instance that is not stuck changes nothing, and is no success."""
    assert edda("retry", "done", "--db", database) == (
        1,
        "",
        "edda: done is completed, not stuck; there is nothing to do.\n",
    )


@pytest.mark.parametrize(
    "command", [["show"], ["history", "export"], ["cancel"], ["retry"]], ids=" ".join
)
def test_an_unknown_instance_is_said_to_be(edda, database, command):
    """An id that nobody has is one sentence with the cure, and exit code 1."""
    code, out, err = edda(*command, "none", "--db", database)
    assert (code, out) == (1, "")
    assert err.startswith("edda: There is no instance 'none' in this store. `edda ps` lists")


# ---- Which database, which app ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({"EDDA_DB_URL": "sqlite:///shop.db"}, []),
        ({"EDDA_APP": "shop.main:app"}, []),
        ({"EDDA_APP": "nothing:at_all"}, ["--db", "sqlite:///shop.db"]),
        ({"EDDA_DB_URL": "sqlite:///none.db"}, ["--app", "shop.main:app"]),
        ({"EDDA_DB_URL": "sqlite:///none.db"}, ["--app", "shop.main:Apps.inner"]),
        ({"EDDA_DB_URL": "sqlite:///shop.db", "EDDA_APP": "nothing:at_all"}, []),
    ],
)
def test_the_database_is_named_by_option_or_environment(
    edda, database, monkeypatch, environment, options
):
    """Options come before the environment, a URL before an app; a module's prints stay out."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, out, err = edda("ps", "--json", *options)
    assert (code, len(json.loads(out))) == (0, 3)
    assert err in ("", "a module that prints\n")


HERE = r"\S*"

MISTAKES = [
    ([], r"Which database\? Give --db sqlite:///edda.db or --app module:app, or set EDDA_DB_URL"),
    (["--db", "sqlite:///none.db"], rf"There is no database none.db \(the working dir.* {HERE}\)"),
    (["--db", "sqlite:////no/such/dir/x.db"], r"There is no database /no/such/dir/x.db \("),
    (["--db", "memory://"], "A memory:// database lives in the process of its app"),
    (["--db", "mysql://x"], "The database URL 'mysql://x' has the unknown scheme 'mysql'"),
    (["--db", "shop.db"], "The database URL .*'shop.db'.* is not a URL"),
    (["--app", "shop.main:private"], "A memory:// database lives in the process of its app"),
    (["--app", "shop.main"], "'shop.main' names no app. Write the module with dots, a colon"),
    (["--app", "shop/main.py:app"], "'shop/main.py:app' names no app."),
    (["--app", ".main:app"], "'.main:app' names no app."),
    (["--app", "shop.none:app"], rf"There is no module 'shop.none', neither in {HERE} nor inst"),
    (["--app", "none.at.all:app"], "There is no module 'none.at.all'"),
    (["--app", "shop.broken:app"], "The module 'shop.broken' cannot be imported: No module named"),
    (
        ["--app", "shop.wrong:app"],
        r"The module 'shop.wrong' cannot be imported: ZeroDivisionError: .*wrong.py, line 2\)",
    ),
    (["--app", "shop.typo:app"], "The module 'shop.typo' cannot be imported: SyntaxError: "),
    (["--app", "shop.main:none"], "The module 'shop.main' has no 'none'. Its apps are: app, priv"),
    (["--app", "shop.main:number"], "'shop.main:number' is of type int, no EddaApp. Its apps are"),
    (["--app", "json:loads"], "'json:loads' is of type function, no EddaApp. It has no EddaApp"),
]


@pytest.mark.parametrize(
    ("options", "sentence"), MISTAKES, ids=[" ".join(options) for options, _ in MISTAKES]
)
def test_a_mistake_is_one_sentence(edda, place, options, sentence):
    """What names no database or app is said in a line with its cure, with exit code 2."""
    (place / "shop" / "broken.py").write_text("import no_such_module_anywhere\n")
    (place / "shop" / "wrong.py").write_text("\n1 / 0\n")
    (place / "shop" / "typo.py").write_text("def\n")
    code, out, err = edda("ps", *options)
    assert (code, out) == (2, "")
    assert re.match(f"edda: {sentence}", err.removeprefix("a module that prints\n"))
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: edda [-h] [--version] COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["ps", "--db", "a", "--app", "b"], "not allowed with argument"),
        (["ps", "--status", "happy"], "invalid choice: 'happy'"),
        (["ps", "--limit", "0"], "expected a number from 1 up, got '0'"),
        (["show"], "the following arguments are required: ID"),
        (["serve", "a:b", "--port", "70000"], "expected a port from 0 to 65535, got '70000'"),
        (["serve", "a:b", "--port", "http"], "expected a port from 0 to 65535, got 'http'"),
        (["serve"], "the following arguments are required: module:app"),
        (["check"], "the following arguments are required: PATH"),
    ],
)
def test_a_command_line_that_says_nothing_is_usage(edda, arguments, said):
    """A command line that cannot be read ends with exit code 2 and says what was expected."""
    code, out, err = edda(*arguments)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ([], "edda serve shop.main:app"),
        (["serve"], "curl -X POST http://localhost:8001/events"),
        (["worker"], "edda worker shop.main:app"),
        (["ps"], "edda ps --json | jq -r '.[].id'"),
        (["show"], "--relative"),
        (["history", "export"], "tests/histories/payment_workflow/paid.json"),
        (["cancel"], "edda cancel payment_workflow-5d1c"),
        (["retry"], "edda ps --status stuck"),
    ],
)
def test_help_teaches_by_example(edda, command, example):
    """Every command's help shows how it is used, and what exit codes mean."""
    code, out, _ = edda(*command, "--help")
    assert code == 0
    assert example in out
    assert "Exit codes: 0 done, 1 it could not be done, 2 usage." in out


def test_the_version_is_told(edda):
    """`--version` says which version runs."""
    code, out, _ = edda("--version")
    assert code == 0
    assert re.fullmatch(r"edda (\d\S*|\(run from its sources\))\n", out)


def test_a_reader_that_has_enough_is_no_error(database):
    """Output into a pipe that nobody reads any more ends quietly."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "edda.cli", "ps", "--db", database]
    done = subprocess.run(
        command, env=environment(), stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_output_is_utf_8_whatever_the_terminal_says(database):
    """Glyphs and JSON are written as UTF-8, also where Python was told another encoding."""
    command = [sys.executable, "-m", "edda.cli", "show", "done", "--db", database]
    env = {**environment(), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "▶ cli_order" in done.stdout.decode()


# ---- Running an app --------------------------------------------------------------------------


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "edda.cli", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line_with(process, pattern):
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"{pattern} was never said")


def test_serve_takes_events_and_stops_cleanly(place):
    """`serve` finds the module from here, takes an event, and ends with 0 on SIGTERM."""
    with started("serve", "shop.main:app", "--port", "0") as process:
        try:
            assert line_with(process, "serving sqlite:///shop.db, workflows: order")
            url = line_with(process, r"running on (http://\S+)")[1]
            event = {"specversion": "1.0", "id": "1", "source": "x", "type": "paid"}
            request = urllib.request.Request(
                f"{url}/events",
                json.dumps(event).encode(),
                {"content-type": "application/cloudevents+json"},
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                assert (response.status, response.read()) == (202, b'{"status":"accepted"}')
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            process.kill()
    assert (place / "shop.db").exists()


def test_the_readme_can_be_followed(place, edda):
    """`shop.py` of README, served, runs an order to its end on the events that README posts."""
    section = (ROOT / "README.md").read_text("utf-8").partition("## Running the engine")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    bodies = re.findall(r"-d '(.*?)'\n", section.partition("\n## ")[0], re.DOTALL)
    assert len(bodies) == 2
    Path("readme_shop.py").write_text(code, "utf-8")
    with started("serve", "readme_shop:app", "--port", "0") as process:
        try:
            url = line_with(process, r"running on (http://\S+)")[1]
            for body in bodies:
                kind = {"content-type": "application/cloudevents+json"}
                request = urllib.request.Request(f"{url}/events", body.encode(), kind)
                with urllib.request.urlopen(request, timeout=10) as response:
                    assert response.status == 202
            deadline = time.monotonic() + 15
            out = ""
            while "completed" not in out and time.monotonic() < deadline:
                _, out, _ = edda("ps", "--db", "sqlite:///shop.db")
        finally:
            process.kill()
    assert 'completed with {"order": "ORD-1", "paid": 99.99}' in out


def test_serve_of_an_app_that_cannot_open_fails(place):
    """An app whose database cannot be opened ends `serve` with 1 and the reason."""
    (place / "shop" / "lost.py").write_text(
        "from edda import EddaApp\napp = EddaApp(db_url='sqlite:///none/such.db')\n"
    )
    with started("serve", "shop.lost:app", "--port", "0") as process:
        _, said = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "none" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_stops_cleanly(number, place):
    """`worker` runs until it is told to stop, and ends with 0."""
    with started("worker", "shop.main:app") as process:
        try:
            assert line_with(process, "working on sqlite:///shop.db, workflows: order; Ctrl-C")
            process.send_signal(number)
            assert process.wait(15) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_running_nothing_is_usage(edda, command):
    """`serve` and `worker` of an app that is not there end with 2 and the reason."""
    code, out, err = edda(command, "shop.none:app")
    assert (code, out) == (2, "")
    assert err.startswith("edda: There is no module 'shop.none'")


def test_serve_says_that_a_port_is_in_use(edda):
    """A taken port is said before the app is opened, with another one to try."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = edda("serve", "shop.main:app", "--port", str(port))
    assert (code, out) == (1, "")
    assert err.endswith(
        f"edda: Cannot listen: port {port} of 127.0.0.1 is in use. Stop what listens there, or "
        f"choose another: --port {port + 1}.\n"
    )
    assert not Path("shop.db").exists()


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_serve_says_that_an_address_is_not_here(edda, host):
    """An address of another machine, or none at all, is a sentence with its cure."""
    code, _, err = edda("serve", "shop.main:app", "--host", host)
    assert code == 1
    assert f"edda: Cannot listen: {host} is no address of this machine (" in err
    assert "Choose another with --host" in err


def test_serve_says_that_a_host_has_no_name(edda, place):
    """A host that is no name at all is a sentence, too."""
    code, _, err = edda("serve", "shop.main:app", "--host", "a..b")
    assert code == 1
    assert "edda: Cannot listen: 'a..b' is no name of a host. Choose another with --host" in err


def test_a_worker_that_would_run_nothing_says_so(edda, place):
    """`worker` of an app that only accepts is an error, and not a silence."""
    (place / "shop" / "door.py").write_text(
        "from edda import EddaApp\napp = EddaApp(db_url='sqlite:///shop.db', worker=False)\n"
    )
    code, _, err = edda("worker", "shop.door:app")
    assert code == 1
    assert err.startswith("edda: shop.door:app was made with worker=False: it accepts, and runs")


@pytest.mark.parametrize(
    "content", [b"not a database at all, whatever its name says", b"\0" * 5000]
)
def test_a_file_that_is_no_database_is_said_to_be(edda, content):
    """What cannot be opened as a database ends with 1 and the reason."""
    Path("other.db").write_bytes(content)
    code, out, err = edda("ps", "--db", "sqlite:///other.db")
    assert (code, out) == (1, "")
    assert err.startswith("edda: ")
    assert "other.db" in err


RELAY = """\
import asyncio
from pathlib import Path

from edda import EddaApp, WorkflowContext, activity, wait_event, workflow


@activity
async def pack(ctx, name: str) -> str:
    Path(f"{name}-began").touch()
    while not Path(f"{name}-go").exists():
        await asyncio.sleep(0.01)
    return name


@workflow
async def relay(ctx: WorkflowContext) -> list:
    first = await pack(ctx, "first")
    event = await wait_event(ctx, "paid")
    return [first, event.data]


app = EddaApp("relay", "sqlite:///relay.db")
"""


def seen(path, process):
    while not Path(path).exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


@pytest.mark.parametrize("command", [["worker"], ["serve", "--port", "0"]], ids=lambda c: c[0])
def test_a_step_under_way_is_finished_and_the_rest_goes_on_in_the_next_process(
    edda, place, command
):
    """SIGTERM lets the activity come out; the next process goes on without waiting for a lease."""
    (place / "relay.py").write_text(RELAY)
    url = "sqlite:///relay.db"

    async def start():
        async with EddaApp("door", url, worker=False) as app:
            await app.start(importlib.import_module("relay").relay, instance_id="run")

    sys.path.insert(0, str(place))
    asyncio.run(start())
    with started(command[0], "relay:app", *command[1:]) as process:
        try:
            seen("first-began", process)
            process.send_signal(signal.SIGTERM)
            line_with(process, "finishing what|Waiting for application shutdown")
            Path("first-go").touch()
            assert process.wait(15) == 0
        finally:
            process.kill()
    code, out, _ = edda("show", "run", "--db", url, "--json")
    view = json.loads(out)
    assert (code, view["status"]) == (0, "waiting_for_event")

    async def go_on():
        app = EddaApp("relay", url)
        async with app:
            assert await app.store.workers() == []  # nothing was left behind
            await app.handle_event({"type": "paid", "source": "x", "id": "1", "data": 5})
            assert await app.result("run", timeout=10) == ["first", 5]

    asyncio.run(go_on())


def test_ctrl_c_ends_a_drain_at_once(place):
    """SIGTERM twice is one drain; Ctrl-C after it does not wait for the steps."""
    (place / "relay.py").write_text(RELAY)
    sys.path.insert(0, str(place))

    async def start():
        async with EddaApp("door", "sqlite:///relay.db", worker=False) as app:
            await app.start(importlib.import_module("relay").relay)

    asyncio.run(start())
    with started("worker", "relay:app") as process:
        try:
            seen("first-began", process)
            process.send_signal(signal.SIGTERM)
            line_with(process, "finishing what")
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            assert process.wait(4) == -signal.SIGINT
        finally:
            process.kill()


def test_serve_says_what_to_install(edda, monkeypatch):
    """Without uvicorn, `serve` names the command that installs it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = edda("serve", "shop.main:app")
    assert code == 1
    assert err == (
        "edda: `edda serve` needs uvicorn, which is not installed. "
        'Run: pip install "edda-durable[http]"\n'
    )
