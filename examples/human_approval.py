"""A request that a person approves or rejects; after two days it goes to the manager.

`wait_any` waits for the first of several events. Serve it with
`edda serve examples.human_approval:app`, then:

    curl -X POST http://localhost:8001/events -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "expense", "source": "shell", "id": "1",
           "data": {"request": "R-1", "amount": 120}}'
    curl -X POST http://localhost:8001/events -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "approved", "source": "shell", "id": "2",
           "data": {"request": "R-1", "by": "Ada"}}'
"""

import os

from pydantic import BaseModel

from edda import EddaApp, EventTimeoutError, WorkflowContext, activity, wait_any, workflow

DAY_SECONDS = 24 * 3600


class Approved(BaseModel):
    request: str
    by: str


class Rejected(BaseModel):
    request: str
    by: str
    reason: str


@activity
async def ask(ctx, person: str, request: str) -> None:
    print(f"To {person}: please decide on {request}")


@activity
async def pay_out(ctx, request: str, amount: float) -> None:
    print(f"Paid {amount} for {request}")


@workflow(start_on=True)
async def expense(ctx: WorkflowContext, request: str, amount: float) -> str:
    for person, patience_seconds in (("team lead", 2 * DAY_SECONDS), ("manager", 7 * DAY_SECONDS)):
        await ask(ctx, person, request)
        try:
            decision = await wait_any(
                ctx,
                {"approved": Approved, "rejected": Rejected},
                timeout_seconds=patience_seconds,
                match={"data.request": request},
            )
        except EventTimeoutError:
            continue
        if isinstance(decision.data, Rejected):
            return f"rejected by {decision.data.by}: {decision.data.reason}"
        await pay_out(ctx, request, amount)
        return f"approved by {decision.data.by}"
    return "nobody decided"


app = EddaApp("approvals", os.environ.get("EDDA_DB_URL", "sqlite:///approvals.db"))
