"""Webhooks come late, twice, broken, and while the process dies."""

import json

import pytest

from edda import WorkflowContext, activity, workflow
from edda_testkit import Simulation, check_crashes
from examples import webhook_receiver
from examples.webhook_receiver import Ledger, Outside, book, invoice_paid

# The body of the curl above: what is documented is what is tested.
BODY = webhook_receiver.__doc__.partition("-d '")[2].partition("'")[0]
HEADERS = {"content-type": "application/cloudevents+json"}


# Without this, an event would also start the version with the bug, further down.
pytestmark = pytest.mark.edda(app_options={"workflows": [invoice_paid]})


@pytest.fixture
def ledger(edda_sim):
    Outside.ledger = edda_sim.world(Ledger)
    return Outside.ledger


def test_the_curl(edda_sim, ledger):
    """The request of the curl is accepted, and books the amount."""
    answer = edda_sim.http.post("/events", headers=HEADERS, content=BODY)
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    assert ledger.bookings == {"INV-1": 99.99}


def test_a_sender_that_repeats_itself(edda_sim, ledger):
    """The same webhook three times starts one workflow."""
    for _ in range(3):
        assert edda_sim.http.post("/events", headers=HEADERS, content=BODY).status_code == 202
    assert len(edda_sim.calls(book)) == 1


@pytest.mark.parametrize("amount", ["a lot", None, [1]])
def test_a_webhook_that_makes_no_sense(edda_sim, ledger, amount):
    """What does not fit is refused with the name of the field, and nothing starts."""
    event = json.loads(BODY)
    event["data"]["amount"] = amount
    answer = edda_sim.http.post("/events", headers=HEADERS, content=json.dumps(event))
    assert answer.status_code == 400
    assert "amount" in answer.json()["error"]
    assert edda_sim.runs == []


def one_invoice(sim):
    ledger = Outside.ledger = sim.world(Ledger)
    sim.start(invoice_paid, invoice_id="INV-1", amount=99.99)
    return ledger.bookings


def test_a_crash_anywhere_books_once():
    """Wherever the process dies, the invoice is booked once."""
    assert check_crashes(one_invoice, crashes=2).exhaustive


# ---- A bug, and the test that finds it -------------------------------------------------------
# Before: booked under the key of the step, which protects against our own repetitions, and not
# against a sender that repeats its webhook under a new id.


@activity
async def book_by_step(ctx, invoice_id: str, amount: float) -> None:
    Outside.ledger.book(ctx.idempotency_key, amount)


@workflow(start_on="invoice.paid")
async def invoice_paid_before(ctx: WorkflowContext, invoice_id: str, amount: float) -> None:
    await book_by_step(ctx, invoice_id, amount)


def impatient_sender(definition):
    """It repeats its webhook under a new id, as it saw no answer in time."""
    with Simulation(app_options={"workflows": [definition]}) as sim:
        ledger = Outside.ledger = sim.world(Ledger)
        event = sim.send("invoice.paid", {"invoice_id": "INV-1", "amount": 99.99})
        sim.duplicate(event, id="fresh")
        assert len(sim.runs) == 2
        return sum(ledger.bookings.values())


def test_an_impatient_sender_is_booked_once():
    """Two webhooks, two workflows, one booking."""
    assert impatient_sender(invoice_paid) == 99.99


def test_the_kit_finds_the_double_booking():
    """A duplicate with a fresh id is all it takes."""
    assert impatient_sender(invoice_paid_before) == 2 * 99.99
