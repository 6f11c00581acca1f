"""Event waiting: every code block of the page, unchanged, in one program.

Run it with `python examples/event_waiting_workflow.py`, or serve it with
`edda serve examples.event_waiting_workflow:app --port 8001` and send events with curl.
The comments below name the sections of the page; what the page leaves out (the bodies of a few
activities, the app, a main function) is at the end of each section and at the end of the file.
"""

import asyncio
import os

from edda import activity, EddaApp


# ---- Wait for External Event -----------------------------------------------------------------

from edda import workflow, activity, wait_event, WorkflowContext

@activity
async def start_payment_processing(ctx: WorkflowContext, order_id: str):
    """Initiate payment processing with external service."""
    print(f"🔄 Starting payment for order {order_id}")
    # Call external payment service API...
    return {"payment_id": f"PAY-{order_id}", "status": "pending"}

@workflow
async def payment_workflow(ctx: WorkflowContext, order_id: str):
    """
    Payment workflow that waits for external payment completion event.
    Note: Activity IDs are auto-generated for sequential execution.
    """
    # Step 1: Start payment processing (auto-generated ID: "start_payment_processing:1")
    payment = await start_payment_processing(ctx, order_id)
    print(f"Payment started: {payment['payment_id']}")
    # Step 2: Wait for payment completion event
    # Workflow pauses here, worker process is released
    print("⏸️ Waiting for payment.completed event...")
    event = await wait_event(
        ctx,
        event_type="payment.completed",
        timeout_seconds=300 # 5-minute timeout
    )
    # Step 3: Process payment result
    print(f"✅ Payment completed: {event.data}")
    return {"status": "completed", "payment_result": event.data}


# ---- Wait for Timer --------------------------------------------------------------------------

from edda import wait_timer

@workflow
async def order_with_timeout(ctx: WorkflowContext, order_id: str):
    """
    Order workflow with payment timeout.
    Note: Activity IDs are auto-generated for sequential execution.
    """
    # Step 1: Create order (auto-generated ID: "create_order:1")
    await create_order(ctx, order_id)
    print(f"Order {order_id} created")
    # Step 2: Wait 60 seconds for payment
    print("⏱️ Waiting 60 seconds for payment...")
    await wait_timer(ctx, duration_seconds=60)
    # Step 3: Check payment status (auto-generated ID: "check_payment_status:1")
    status = await check_payment_status(ctx, order_id)
    if status["paid"]:
        print("✅ Payment received!")
        return {"status": "completed"}
    else:
        print("❌ Payment timeout - cancelling order")
        # Step 4: Cancel order (auto-generated ID: "cancel_order:1")
        await cancel_order(ctx, order_id)
        return {"status": "cancelled", "reason": "payment_timeout"}


@activity
async def create_order(ctx: WorkflowContext, order_id: str):
    print(f"Creating order {order_id}")

@activity
async def check_payment_status(ctx: WorkflowContext, order_id: str):
    return {"paid": False}

@activity
async def cancel_order(ctx: WorkflowContext, order_id: str):
    print(f"Cancelling order {order_id}")


# ---- ReceivedEvent Structure -----------------------------------------------------------------

from edda.events import ReceivedEvent

@workflow
async def received_event_structure(ctx: WorkflowContext):
    event = await wait_event(ctx, "payment.completed")
    # event is a ReceivedEvent instance
    print(event.type) # "payment.completed"
    print(event.source) # "payment-service"
    print(event.data) # {"transaction_id": "...", "amount": 99.99}
    return isinstance(event, ReceivedEvent)


# ---- Type-Safe Events with Pydantic ----------------------------------------------------------

from pydantic import BaseModel

class PaymentCompleted(BaseModel):
    order_id: str
    transaction_id: str
    amount: float
    status: str

@workflow
async def payment_workflow_typed(ctx: WorkflowContext, order_id: str):
    """
    Payment workflow with type-safe event handling.
    """
    # Wait for event with Pydantic model
    event = await wait_event(
        ctx,
        event_type="payment.completed",
        model=PaymentCompleted # Type-safe conversion
    )
    # Type-safe access with IDE completion
    amount = event.data.amount # ✅ Type-safe (float)
    transaction_id = event.data.transaction_id # ✅ Type-safe (str)
    order_id = event.data.order_id # ✅ Type-safe (str)
    print(f"✅ Payment of ${amount} completed for order {order_id}")
    print(f" Transaction ID: {transaction_id}")
    return {"status": "completed", "amount": amount}


@workflow
async def both_ways(ctx: WorkflowContext):
    # Without Pydantic (dict access):
    event = await wait_event(ctx, "payment.completed")
    amount = event.data["amount"] # ⚠️ No type checking, typo possible
    # With Pydantic (model access):
    event = await wait_event(ctx, "payment.completed", model=PaymentCompleted)
    amount = event.data.amount # ✅ Type-safe, IDE autocomplete
    return amount


# ---- Resource Efficiency ---------------------------------------------------------------------

# ❌ Bad: Keeps workflow state in memory for 1 hour
# (Here it is not bad: asyncio.sleep in a workflow is a durable timer too.)
@workflow
async def bad_workflow(ctx: WorkflowContext):
    await asyncio.sleep(3600) # Task held in RAM!

# ✅ Good: Persists state and releases memory
@workflow
async def good_workflow(ctx: WorkflowContext):
    await wait_timer(ctx, duration_seconds=3600) # Memory freed!


# ---- Long-Running Workflows ------------------------------------------------------------------

@workflow
async def loan_approval_workflow(ctx: WorkflowContext, application_id: str):
    # Submit for manual review
    await submit_for_review(ctx, application_id)
    # Wait up to 48 hours for approval
    event = await wait_event(
        ctx,
        event_type="loan.approved",
        timeout_seconds=48 * 3600
    )
    # Process approval
    await process_approval(ctx, event.data)


@activity
async def submit_for_review(ctx: WorkflowContext, application_id: str):
    print(f"Submitting {application_id} for review")

@activity
async def process_approval(ctx: WorkflowContext, approval: dict):
    print(f"Processing approval: {approval}")


# ---- Event-Driven Architecture ---------------------------------------------------------------

@workflow
async def order_fulfillment(ctx: WorkflowContext, order_id: str):
    # Wait for warehouse to pack the order
    pack_event = await wait_event(ctx, "order.packed")
    # Wait for carrier to pick up
    pickup_event = await wait_event(ctx, "order.picked_up")
    # Wait for delivery confirmation
    delivery_event = await wait_event(ctx, "order.delivered")
    return {"status": "delivered"}


# ---- Sending Events --------------------------------------------------------------------------

from edda.events import send_event

async def send_payment_completed():
    await send_event(
        event_type="payment.completed",
        source="payment-service",
        data={
            "order_id": "ORD-123",
            "transaction_id": "TXN-456",
            "amount": 99.99,
            "status": "success"
        }
    )


# ---- The program -----------------------------------------------------------------------------

app = EddaApp(
    service_name="event-waiting",
    db_url=os.environ.get("EDDA_DB_URL", "sqlite:///event_waiting.db"),
)


async def main():
    async with app:
        payment = await payment_workflow.start(order_id="ORD-123")
        typed = await payment_workflow_typed.start(order_id="ORD-123")
        order = await order_with_timeout.start(order_id="ORD-124")
        loan = await loan_approval_workflow.start(application_id="LOAN-7")
        fulfillment = await order_fulfillment.start(order_id="ORD-123")

        # Early, late, in any order: an event that comes before its wait is not lost.
        await send_payment_completed()
        await send_event("order.delivered", "carrier", {"order_id": "ORD-123"})
        await send_event("order.packed", "warehouse", {"order_id": "ORD-123"})
        await send_event("order.picked_up", "carrier", {"order_id": "ORD-123"})
        await send_event("loan.approved", "back-office", {"application_id": "LOAN-7", "by": "Ada"})

        for instance_id in (payment, typed, loan, fulfillment):
            result = await app.result(instance_id, timeout=10)
            print(f"🏁 {instance_id.partition('-')[0]}: {result}")
        print(f"💤 order_with_timeout: {await app.status(order)} (its 60 seconds are stored; run me again)")


if __name__ == "__main__":
    asyncio.run(main())
