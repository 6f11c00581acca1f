"""A history as a Mermaid sequence diagram: who talks to whom, and nothing breaks its syntax."""

import re

import pytest

from edda import RetryPolicy, activity, send_event, sleep, wait_event, workflow
from edda.diagram import LONGEST, mermaid
from edda_testkit import Simulation


@activity(retry_policy=RetryPolicy(max_attempts=2, initial_interval=5))
async def charge(ctx, order_id: str) -> str:
    raise NotImplementedError("must be stubbed")


@workflow
async def order(ctx, order_id: str):
    await wait_event(ctx, "paid", timeout_seconds=60)
    await charge(ctx, order_id)
    await sleep(ctx, 10)
    await send_event("done", "shop", {})


def drawn(order_id="O"):
    with Simulation() as sim:
        sim.stub(charge, sequence=[ConnectionError("down"), "R"])
        run = sim.start(order, order_id=order_id)
        sim.send("paid")
        sim.advance(60)
        assert run.timeline("mermaid") == mermaid(run.history)
        return mermaid(run.history).split("\n")


def test_each_step_is_an_arrow_between_the_workflow_and_its_partner():
    """Activities have a lifeline each, timers the clock's, events and sends the outside's."""
    lines = [line.strip() for line in drawn()]
    assert lines[:6] == [
        "sequenceDiagram",
        "autonumber",
        "participant w as order",
        "participant a1 as charge",
        "participant clock as clock",
        "participant outside as outside",
    ]
    arrows = [
        re.match(r"\w+(->>|-->>|--x|-x)\w+", line)[0]
        for line in lines
        if "->" in line or "-x" in line
    ]
    assert arrows == [
        *("w->>outside", "outside-->>w", "w->>a1", "a1--xw", "a1-->>w"),
        *("w->>clock", "clock-->>w", "w->>outside", "outside-->>w"),
    ]
    assert lines[-1] == "Note over w: completed with null"


def test_time_that_went_by_is_a_note():
    """Where virtual time moved, a note says by how much."""
    notes = [line.strip() for line in drawn() if "later" in line]
    assert len(notes) == 2
    assert notes[1] == "Note over w: 10s later"


@pytest.mark.parametrize(
    "hostile", ["a;b", "x\nend\nNote over w: y", "#quot;", "%%{init}%%", "<b>"]
)
def test_what_users_wrote_is_never_syntax(hostile):
    """A hostile argument changes no line's shape: the diagram has as many as without it."""
    lines = drawn(hostile)
    assert len(lines) == len(drawn())
    for line in lines:
        assert not re.search(r"[<%{}]", line)
        assert re.sub(r"#\d+;", "", line).count(";") == 0
        assert len(re.sub(r"#\d+;", "x", line)) < LONGEST + 40


def test_an_empty_history_is_an_empty_diagram():
    """Without events there is a workflow that nothing happens to."""
    assert mermaid([]).split("\n")[2:] == ["    participant w as workflow"]


def test_other_forms_are_refused():
    """`timeline()` knows two forms and says so."""
    with Simulation(replay=False) as sim:
        run = sim.start(order, order_id="1")
        with pytest.raises(ValueError, match='takes "text" or "mermaid", got \'svg\''):
            run.timeline("svg")
