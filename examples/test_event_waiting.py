"""The workflows of event_waiting_workflow.py, tested in virtual time."""

import pytest

from edda import (
    EventTimeoutError,
    InvalidEventError,
    WorkflowContext,
    WorkflowFailed,
    activity,
    wait_event,
    workflow,
)
from edda_testkit import CrashChangedOutcome, check_crashes
from examples.event_waiting_workflow import (
    bad_workflow,
    both_ways,
    cancel_order,
    check_payment_status,
    create_order,
    good_workflow,
    loan_approval_workflow,
    order_fulfillment,
    order_with_timeout,
    payment_workflow,
    payment_workflow_typed,
    process_approval,
    received_event_structure,
    start_payment_processing,
)

PAYMENT = {
    "order_id": "ORD-123",
    "transaction_id": "TXN-456",
    "amount": 99.99,
    "status": "success",
}


def test_payment_arrives(edda_sim):
    """A payment event resumes the workflow with its data."""
    payment = edda_sim.start(payment_workflow, order_id="ORD-123")
    assert payment.status == "waiting_for_event"
    edda_sim.send("payment.completed", PAYMENT)
    assert payment.result == {"status": "completed", "payment_result": PAYMENT}


def test_payment_times_out(edda_sim):
    """After exactly five minutes the wait fails with EventTimeoutError."""
    payment = edda_sim.start(payment_workflow, order_id="ORD-123")
    edda_sim.advance(seconds=299.999999)
    assert payment.status == "waiting_for_event"
    edda_sim.advance(seconds=0.000001)
    with pytest.raises(WorkflowFailed) as failure:
        _ = payment.result
    assert isinstance(failure.value.__cause__, EventTimeoutError)


def test_payment_in_the_last_instant_wins(edda_sim):
    """An event at the very instant of the deadline still counts."""
    payment = edda_sim.start(payment_workflow, order_id="ORD-123")
    edda_sim.send("payment.completed", PAYMENT, after=300)
    edda_sim.advance(minutes=5)
    assert payment.result["status"] == "completed"


def test_unpaid_order_is_cancelled(edda_sim):
    """An order that is not paid within a minute is cancelled, once."""
    order = edda_sim.start(order_with_timeout, order_id="ORD-1")
    assert order.status == "waiting_for_timer"
    edda_sim.stub(check_payment_status, returns={"paid": False})
    edda_sim.advance(seconds=60)
    assert order.result == {"status": "cancelled", "reason": "payment_timeout"}
    assert len(order.calls(cancel_order)) == 1


def test_paid_order_is_kept(edda_sim):
    """An order that is paid within a minute is not cancelled."""
    edda_sim.stub(check_payment_status, returns={"paid": True})
    order = edda_sim.start(order_with_timeout, order_id="ORD-1")
    edda_sim.run(until=order)
    assert order.result == {"status": "completed"}
    assert order.calls(cancel_order) == []


def test_loan_is_approved_after_two_days(edda_sim):
    """48 hours pass in no time, and the approval in the last hour counts."""
    loan = edda_sim.start(loan_approval_workflow, application_id="LOAN-7")
    edda_sim.advance(hours=47, minutes=59)
    edda_sim.send("loan.approved", {"by": "Ada"})
    assert loan.status == "completed"
    assert [call.args for call in loan.calls(process_approval)] == [({"by": "Ada"},)]


def test_loan_is_not_approved(edda_sim):
    """After 48 hours without an approval the application fails."""
    loan = edda_sim.start(loan_approval_workflow, application_id="LOAN-7")
    edda_sim.advance(hours=48)
    assert loan.status == "failed"
    assert isinstance(loan.error, EventTimeoutError)


def test_early_events_are_not_lost(edda_sim):
    """Events that come before their wait, in any order, are kept for it."""
    fulfillment = edda_sim.start(order_fulfillment, order_id="ORD-123")
    edda_sim.send("order.delivered", {})
    edda_sim.send("order.picked_up", {})
    assert fulfillment.status == "waiting_for_event"
    edda_sim.send("order.packed", {})
    assert fulfillment.result == {"status": "delivered"}


def test_crash_while_waiting(edda_sim):
    """A process that dies while it waits loses nothing and repeats nothing."""
    payment = edda_sim.start(payment_workflow, order_id="ORD-123")
    edda_sim.crash()
    edda_sim.send("payment.completed", PAYMENT)
    assert payment.result["status"] == "completed"
    assert len(payment.calls(start_payment_processing)) == 1


def test_crash_at_every_wait_of_an_order(edda_sim):
    """An order goes on where it was, however often its worker dies."""
    order = edda_sim.start(order_with_timeout, order_id="ORD-1")
    for _ in range(6):
        edda_sim.crash()
        edda_sim.advance(seconds=10)
    assert order.result == {"status": "cancelled", "reason": "payment_timeout"}
    assert [len(order.calls(a)) for a in (create_order, cancel_order)] == [1, 1]


def test_typed_event(edda_sim):
    """The event's data is an instance of the model."""
    payment = edda_sim.start(payment_workflow_typed, order_id="ORD-123")
    edda_sim.send("payment.completed", PAYMENT)
    assert payment.result == {"status": "completed", "amount": 99.99}


def test_invalid_event_is_refused(edda_sim):
    """Data that does not fit the model is the sender's error, and does not use up the wait."""
    payment = edda_sim.start(payment_workflow_typed, order_id="ORD-123")
    with pytest.raises(InvalidEventError, match="amount"):
        edda_sim.send("payment.completed", {**PAYMENT, "amount": "a lot"})
    assert payment.status == "waiting_for_event"
    edda_sim.send("payment.completed", PAYMENT)
    assert payment.result["amount"] == 99.99


def test_the_other_blocks_of_the_page(edda_sim):
    """The page's small blocks do what their comments say."""
    received = edda_sim.start(received_event_structure)
    both = edda_sim.start(both_ways)
    hours = [edda_sim.start(bad_workflow), edda_sim.start(good_workflow)]
    edda_sim.send("payment.completed", PAYMENT, source="payment-service")
    edda_sim.send("payment.completed", {**PAYMENT, "amount": 1.5}, source="payment-service")
    assert received.result is True
    assert both.result == 1.5
    assert [run.status for run in hours] == ["waiting_for_timer"] * 2
    edda_sim.advance(hours=1)
    assert [run.status for run in hours] == ["completed"] * 2


async def test_in_an_async_test(edda_async_sim):
    """The same in an async test, with no other plugin."""
    payment = await edda_async_sim.start(payment_workflow, order_id="ORD-123")
    await edda_async_sim.send("payment.completed", PAYMENT)
    assert payment.result["status"] == "completed"


# ---- Bugs, and the tests that find them ------------------------------------------------------
# Before: the payment of anybody else was waved through, and began the five minutes anew.


@workflow
async def patient_payment(ctx: WorkflowContext, order_id: str):
    while True:
        event = await wait_event(ctx, "payment.completed", timeout_seconds=300)
        if event.data["order_id"] == order_id:
            return {"status": "completed"}


@workflow
async def strict_payment(ctx: WorkflowContext, order_id: str):
    mine = {"data.order_id": order_id}
    await wait_event(ctx, "payment.completed", timeout_seconds=300, match=mine)
    return {"status": "completed"}


def after_five_minutes_of_other_payments(sim, definition):
    payment = sim.start(definition, order_id="ORD-123")
    for number in range(3):
        sim.advance(minutes=2)
        sim.send("payment.completed", {"order_id": f"OTHER-{number}"})
    return payment.status


def test_payments_of_others_do_not_count(edda_sim):
    """With `match`, the five minutes are five minutes, whoever else pays."""
    assert after_five_minutes_of_other_payments(edda_sim, strict_payment) == "failed"


def test_the_kit_finds_the_deadline_that_moves(edda_sim):
    """Before, the order waited for as long as anybody paid for anything."""
    status = after_five_minutes_of_other_payments(edda_sim, patient_payment)
    assert status == "waiting_for_event"


# Before: the money of a loan was paid out under no key, so a process that died between the transfer
# and its commit paid twice.


class Bank:
    """The outside world: transfers, by key."""

    def __init__(self):
        self.transfers = {}


class Outside:
    bank = Bank()


@activity
async def transfer(ctx: WorkflowContext, amount: int):
    Outside.bank.transfers[ctx.idempotency_key] = amount


@activity
async def transfer_without_key(ctx: WorkflowContext, amount: int):
    Outside.bank.transfers[len(Outside.bank.transfers)] = amount


def loan_paid_by(paying):
    @workflow
    async def loan(ctx: WorkflowContext):
        event = await wait_event(ctx, "loan.approved", timeout_seconds=48 * 3600)
        await paying(ctx, event.data["amount"])

    def scenario(sim):
        bank = Outside.bank = sim.world(Bank)
        sim.start(loan)
        sim.advance(hours=47)
        sim.send("loan.approved", {"amount": 5_000})
        return list(bank.transfers.values())

    return scenario


def test_a_loan_is_paid_once():
    """Wherever the process dies, one transfer."""
    assert check_crashes(loan_paid_by(transfer)).exhaustive


def test_the_kit_finds_the_second_transfer():
    """Without a key, one of the crashes pays twice."""
    with pytest.raises(CrashChangedOutcome, match=r"returned \[5000, 5000\]"):
        check_crashes(loan_paid_by(transfer_without_key))
