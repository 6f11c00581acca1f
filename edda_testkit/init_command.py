"""The command `edda init`: a small project to begin with, found through an entry point.

It writes a workflow, its app, and tests in virtual time. Files that are there already are never
touched: then nothing is written at all. Absent: questions and templates to choose from.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edda.targets import Trouble

__all__ = ["FILES", "register"]

ABOUT = """\
Write a small project: a workflow and its app, and a test file in virtual time.

  edda init shop          into a new folder
  edda init               into this one; files that are there are never overwritten
"""
CODES = "Exit codes: 0 written, 1 files of these names are there already, 2 usage.\n"

PYPROJECT = """\
[project]
name = "orders"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["edda-durable[http]"]

[project.optional-dependencies]
dev = ["edda-durable[testkit]"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build]
include = ["orders.py"]

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["."]
"""

WORKFLOW = '''\
"""An order that waits for its payment, for a day at most.

Run it, in this folder:

    edda serve orders:app

Place an order and pay for it, from another shell:

    curl http://localhost:8001/events -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "order.placed", "source": "shop", "id": "1",
           "data": {"order_id": "ORD-1"}}'

    curl http://localhost:8001/events -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "order.paid", "source": "bank", "id": "2",
           "data": {"order_id": "ORD-1"}}'

See what became of it:

    edda ps --app orders:app
"""

from edda import EddaApp, EventTimeoutError, WorkflowContext, activity, wait_event, workflow

DAY_SECONDS = 24 * 3600


@activity
async def ship(ctx, order_id: str) -> str:
    # Clocks, files and network belong in activities. One may run again after a crash: what it
    # calls should be given ctx.idempotency_key.
    return f"shipped {order_id}"


@workflow(start_on="order.placed")
async def order(ctx: WorkflowContext, order_id: str) -> str:
    try:
        await wait_event(
            ctx, "order.paid", timeout_seconds=DAY_SECONDS, match={"data.order_id": order_id}
        )
    except EventTimeoutError:
        return "cancelled"
    return await ship(ctx, order_id)


app = EddaApp("orders", "sqlite:///orders.db")
'''

TESTS = '''\
"""Days pass in milliseconds, and processes die on purpose. Run it with: pytest"""

from edda_testkit import check_crashes

from orders import order, ship


def test_paid_in_the_last_hour(edda_sim):
    run = edda_sim.start(order, order_id="ORD-1")
    edda_sim.advance(hours=23)
    edda_sim.send("order.paid", {"order_id": "ORD-1"})
    assert run.result == "shipped ORD-1"


def test_not_paid_within_a_day(edda_sim):
    run = edda_sim.start(order, order_id="ORD-1")
    edda_sim.advance(days=1)
    assert run.result == "cancelled"
    assert run.calls(ship) == []


def test_another_order_is_paid(edda_sim):
    run = edda_sim.start(order, order_id="ORD-1")
    edda_sim.send("order.paid", {"order_id": "ORD-2"})
    assert run.status == "waiting_for_event"


def test_a_carrier_that_is_down(edda_sim):
    edda_sim.stub(ship, sequence=[ConnectionError("down"), "shipped at last"])
    run = edda_sim.start(order, order_id="ORD-1")
    edda_sim.send("order.paid", {"order_id": "ORD-1"})
    edda_sim.run(until=run)
    assert run.result == "shipped at last"


def paid(sim):
    run = sim.start(order, order_id="ORD-1")
    sim.send("order.paid", {"order_id": "ORD-1"})
    return run.result


def test_a_crash_anywhere_changes_nothing():
    assert check_crashes(paid).exhaustive
'''

GITIGNORE = """\
*.db
*.db-shm
*.db-wal
__pycache__/
"""

FILES = {
    "pyproject.toml": PYPROJECT,
    "orders.py": WORKFLOW,
    "test_orders.py": TESTS,
    ".gitignore": GITIGNORE,
}


def register(subparsers: Any) -> None:
    """Add the parser of `edda init`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "init",
        help="write a small project: a workflow, its app and its tests",
        description=ABOUT,
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", default=".", help="where to (this folder)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.directory)
    present = [name for name in FILES if (folder / name).exists()]
    if present:
        raise Trouble(
            f"{folder} has {', '.join(present)} already, and nothing is overwritten. Name another "
            f"folder: edda init DIR.",
            1,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in FILES.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise Trouble(f"{folder} cannot be written: {error.strerror or error}.", 1) from error
    into = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    print(f"Wrote {', '.join(FILES)} into {folder.resolve()}.\n")
    print(f"  {into}pytest                   # days of waiting, in a second")
    print(f"  {into}edda serve orders:app    # then send it the curls in orders.py")
    if find_spec("uvicorn") is None:
        print('\nThe second needs the extra http: pip install "edda-durable[http]"')
    return 0
