"""An agent under test: the model is a stub, or whatever Hypothesis makes up."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edda import WorkflowContext, workflow
from edda_testkit import NondeterministicCall, Simulation, check_crashes
from examples.agent_loop import (
    MAX_STEPS,
    NEEDS_APPROVAL,
    TOOLS,
    Mails,
    Outside,
    Step,
    agent,
    calculate,
    search,
    send_mail,
    think,
)


def allow(sim, run, *, is_allowed=True):
    sim.send("tool.approval", {"agent": run.id, "is_allowed": is_allowed})


def test_a_task(edda_sim):
    """Search, calculate, ask, send, answer: each tool is used once."""
    Outside.mails = edda_sim.world(Mails)
    run = edda_sim.start(agent, task="What is six times seven?")
    assert run.status == "waiting_for_event"
    allow(edda_sim, run)
    assert run.result == "42"
    assert [len(run.calls(tool)) for tool in (search, calculate, send_mail)] == [1, 1, 1]


def test_no_answer_is_a_no(edda_sim):
    """After a day without a word nothing is sent, and the agent goes on without."""
    Outside.mails = edda_sim.world(Mails)
    run = edda_sim.start(agent, task="What is six times seven?")
    edda_sim.advance(hours=24)
    assert run.result == "42"
    assert Outside.mails == {}


def test_a_model_that_is_overloaded(edda_sim):
    """The model is asked again after 2 and 4 seconds; nothing before that is repeated."""
    edda_sim.stub(
        think,
        sequence=[
            Step(tool="calculate", input="2*2"),
            ConnectionError("overloaded"),
            ConnectionError("overloaded"),
            Step(tool="answer", input="4"),
        ],
    )
    run = edda_sim.start(agent, task="2*2")
    edda_sim.run(until=run)
    assert run.result == "4"
    assert len(run.calls(calculate)) == 1


def one_task(sim):
    Outside.mails = sim.world(Mails)
    run = sim.start(agent, task="What is six times seven?", instance_id="A")
    allow(sim, run)
    return run.result, list(Outside.mails.values())


def test_a_crash_anywhere_sends_one_mail():
    """Wherever the process dies, the answer is the same and one mail goes out."""
    assert check_crashes(one_task).exhaustive


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*TOOLS, "answer"]), max_size=2 * MAX_STEPS), st.booleans())
def test_any_model_comes_to_an_end(tools, is_allowed):
    """Whatever a model wants, the agent ends, and sends only what was allowed."""
    wishes = [Step(tool=tool, input="2*2") for tool in tools]
    with Simulation(unused_stubs=True) as sim:
        Outside.mails = sim.world(Mails)
        sim.stub(think, sequence=[*wishes, *[Step(tool="answer", input="done")] * 2])
        run = sim.start(agent, task="anything")
        while not run.is_finished:
            allow(sim, run, is_allowed=is_allowed)
        assert len(run.calls(think)) <= MAX_STEPS
        assert is_allowed or not [c for c in run.calls() if c.activity in NEEDS_APPROVAL]


# ---- A bug, and the test that finds it -------------------------------------------------------
# Before: the choice of the tool was made in the workflow, with a little temperature. It works,
# until a process dies: then the replay chooses otherwise than the history says.


@workflow
async def agent_before(ctx: WorkflowContext, task: str) -> str:
    if random.random() < 0.5:  # what the author called temperature
        return await search(ctx, task)
    return await calculate(ctx, task)


def test_the_kit_finds_the_thought_that_is_not_recorded():
    """The guard names the call, the line, and what to write instead."""
    with pytest.raises(NondeterministicCall, match=r"random\.random"), Simulation() as sim:
        sim.start(agent_before, task="2*2")
