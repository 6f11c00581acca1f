"""Days of waiting for people, in milliseconds."""

from functools import partial

import pytest

from edda import InvalidEventError, WorkflowContext, wait_any, workflow
from edda_testkit import explore
from examples.human_approval import Approved, Rejected, ask, expense, pay_out


def test_approved(edda_sim):
    """An approval in the last hour of the second day pays out."""
    request = edda_sim.start(expense, request="R-1", amount=120)
    edda_sim.advance(hours=47)
    edda_sim.send("approved", {"request": "R-1", "by": "Ada"})
    assert request.result == "approved by Ada"
    assert [call.args for call in request.calls(ask)] == [("team lead", "R-1")]


def test_rejected(edda_sim):
    """A rejection pays nothing and gives its reason."""
    request = edda_sim.start(expense, request="R-1", amount=120)
    edda_sim.send("rejected", {"request": "R-1", "by": "Ada", "reason": "no receipt"})
    assert request.result == "rejected by Ada: no receipt"
    assert request.calls(pay_out) == []


def test_the_manager_is_asked_after_two_days(edda_sim):
    """To the second: not before 48 hours, and then at once."""
    request = edda_sim.start(expense, request="R-1", amount=120)
    edda_sim.advance(hours=48, seconds=-1)
    assert len(request.calls(ask)) == 1
    edda_sim.advance(seconds=1)
    assert [call.args[0] for call in request.calls(ask)] == ["team lead", "manager"]
    edda_sim.run(until=request)
    assert request.result == "nobody decided"


def test_a_crash_over_the_weekend(edda_sim):
    """A process that dies and comes back asks nobody twice."""
    request = edda_sim.start(expense, request="R-1", amount=120)
    edda_sim.crash()
    edda_sim.advance(days=3)
    edda_sim.crash()
    edda_sim.send("approved", {"request": "R-1", "by": "Grace"})
    assert request.result == "approved by Grace"
    assert len(request.calls(ask)) == 2


def test_half_a_decision_is_refused(edda_sim):
    """A rejection without a reason is the sender's error; the wait goes on."""
    request = edda_sim.start(expense, request="R-1", amount=120)
    with pytest.raises(InvalidEventError, match="reason"):
        edda_sim.send("rejected", {"request": "R-1", "by": "Ada"})
    assert request.status == "waiting_for_event"


# ---- A bug, and the test that finds it -------------------------------------------------------
# Before: the wait had no `match`, so a decision on one request decided on all of them.


@workflow
async def expense_of_anybody(ctx: WorkflowContext, request: str, amount: float) -> str:
    decision = await wait_any(ctx, {"approved": Approved, "rejected": Rejected})
    if decision.type == "approved":
        await pay_out(ctx, request, amount)
    return decision.type


def two_requests(definition, sim):
    """Two requests; one is approved and one rejected, in either order."""
    small = sim.start(definition, request="R-1", amount=5)
    large = sim.start(definition, request="R-2", amount=9_000)
    with sim.concurrently():
        sim.send("approved", {"request": "R-1", "by": "Ada"})
        sim.send("rejected", {"request": "R-2", "by": "Ada", "reason": "too much"})
    assert len(small.calls(pay_out)) == 1
    assert large.calls(pay_out) == [], "paid what was rejected"


def test_each_request_gets_its_own_decision():
    """In either order, the small request is paid and the large one is not."""
    assert explore(partial(two_requests, expense)).exhaustive


def test_the_kit_finds_the_missing_match():
    """Without `match`, the approval of one request pays another."""
    with pytest.raises(AssertionError, match="paid what was rejected"):
        explore(partial(two_requests, expense_of_anybody))
