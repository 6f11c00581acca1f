"""A receiver of webhooks: `edda serve examples.webhook_receiver:app`, and this curl.

    curl -X POST http://localhost:8001/events \\
      -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "invoice.paid", "source": "psp", "id": "wh-1",
           "data": {"invoice_id": "INV-1", "amount": 99.99}}'

The answer 202 comes when the event is stored. The sender may repeat it as often as it likes: the
same `source` and `id` count once. A sender that makes up a new id for each try is met by the
ledger, which books by invoice. Set WEBHOOK_SECRET (whsec_...) to have signatures checked, as
https://www.standardwebhooks.com describes them.
"""

import os

from edda import EddaApp, WorkflowContext, activity, workflow
from edda.http import WebhookSignature


class Ledger:
    """The outside world: a bookkeeping service that knows a booking by its key."""

    def __init__(self) -> None:
        self.bookings: dict[str, float] = {}

    def book(self, key: str, amount: float) -> None:
        self.bookings.setdefault(key, amount)


class Outside:
    ledger = Ledger()


@activity
async def book(ctx, invoice_id: str, amount: float) -> None:
    Outside.ledger.book(invoice_id, amount)


@activity
async def thank(ctx, invoice_id: str) -> None:
    print(f"Thank you for paying {invoice_id}")


@workflow(start_on="invoice.paid")
async def invoice_paid(ctx: WorkflowContext, invoice_id: str, amount: float) -> str:
    await book(ctx, invoice_id, amount)
    await thank(ctx, invoice_id)
    return "booked"


secret = os.environ.get("WEBHOOK_SECRET")
app = EddaApp(
    "webhooks",
    os.environ.get("EDDA_DB_URL", "sqlite:///webhooks.db"),
    auth=WebhookSignature(secret) if secret else None,
)
