"""The user's page: every line of its code stands in the example, in order and unchanged."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples import demo

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "tests/data/event-waiting-example.txt").read_text(encoding="utf-8").splitlines()
EXAMPLE = (ROOT / "examples/event_waiting_workflow.py").read_text(encoding="utf-8").splitlines()

# The first and last line of each Python block. The page lost its indentation on the way here, so
# lines are compared without it.
BLOCKS = [
    (
        "from edda import workflow, activity, wait_event, WorkflowContext",
        'return {"status": "completed", "payment_result": event.data}',
    ),
    ("from edda import wait_timer", 'return {"status": "cancelled", "reason": "payment_timeout"}'),
    (
        "from edda.events import ReceivedEvent",
        'print(event.data) # {"transaction_id": "...", "amount": 99.99}',
    ),
    ("from pydantic import BaseModel", 'return {"status": "completed", "amount": amount}'),
    (
        'amount = event.data["amount"] # ⚠️ No type checking, typo possible',
        'amount = event.data["amount"] # ⚠️ No type checking, typo possible',
    ),
    (
        'event = await wait_event(ctx, "payment.completed", model=PaymentCompleted)',
        "amount = event.data.amount # ✅ Type-safe, IDE autocomplete",
    ),
    (
        "# ❌ Bad: Keeps workflow state in memory for 1 hour",
        "await wait_timer(ctx, duration_seconds=3600) # Memory freed!",
    ),
    (
        "async def loan_approval_workflow(ctx: WorkflowContext, application_id: str):",
        "await process_approval(ctx, event.data)",
    ),
    (
        "async def order_fulfillment(ctx: WorkflowContext, order_id: str):",
        'return {"status": "delivered"}',
    ),
    ("from edda.events import send_event", ")"),
]


def _block(first: str, last: str) -> list[str]:
    # "❌ Bad" stands twice; the one with the workflow below it is the block to run.
    begin = next(
        index
        for index, line in enumerate(PAGE)
        if line == first and (not line.startswith("# ❌") or PAGE[index + 1] == "@workflow")
    )
    end = next(index for index in range(begin, len(PAGE)) if PAGE[index] == last)
    return PAGE[begin : end + 1]


@pytest.mark.parametrize(("first", "last"), BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs_unchanged(first: str, last: str) -> None:
    """Each line of a block of the page stands in the example, in the page's order."""
    example = [line.strip() for line in EXAMPLE if line.strip()]
    position = example.index(first)
    for line in _block(first, last):
        while example[position] != line:
            position += 1
            assert position < len(example), f"not in the example: {line}"
        position += 1


def test_curl_is_the_pages() -> None:
    """The demo's curl is the page's, byte for byte."""
    begin = PAGE.index("curl -X POST http://localhost:8001/events \\")
    assert "\n".join(PAGE[begin : begin + 15]) == demo.CURL


def test_program_runs(tmp_path: Path) -> None:
    """`python examples/event_waiting_workflow.py` runs on SQLite and prints each result."""
    program = subprocess.run(
        [sys.executable, str(ROOT / "examples/event_waiting_workflow.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    assert "payment_workflow: {'status': 'completed'" in program.stdout
    assert "order_fulfillment: {'status': 'delivered'}" in program.stdout
    assert "order_with_timeout: waiting_for_timer" in program.stdout
    assert (tmp_path / "event_waiting.db").exists()


def test_server_takes_the_pages_curl(tmp_path: Path) -> None:
    """The page's curl against `edda serve` resumes the waiting workflow and gets its 202."""
    database = f"sqlite:///{tmp_path}/page.db"
    environment = os.environ | {"EDDA_DB_URL": database, "PYTHONPATH": str(ROOT)}
    port = demo.free_port()
    with demo.serving(environment, port):
        instance = asyncio.run(demo.start(database))
        demo.wait_for(database, instance, "waiting_for_event")
        demo.curl(port)
        demo.wait_for(database, instance, "completed")
