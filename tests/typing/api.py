"""Type-checked, never run: what mypy must make of the public API."""

from typing import Any, assert_type

from pydantic import BaseModel

from edda import (
    EddaApp,
    ReceivedEvent,
    RetryPolicy,
    WorkflowContext,
    activity,
    wait_event,
    wait_timer,
    workflow,
)


class Paid(BaseModel):
    amount: float


@activity
async def charge(ctx: WorkflowContext, order_id: str, amount: float = 1.0) -> Paid:
    return Paid(amount=amount)


@activity(retry_policy=RetryPolicy(max_attempts=2), timeout_seconds=5)
def count(ctx: WorkflowContext, words: list[str]) -> int:
    return len(words)


@workflow
async def order(ctx: WorkflowContext, order_id: str) -> float:
    paid = await charge(ctx, order_id)
    assert_type(paid, Paid)
    assert_type(await charge(ctx, order_id, amount=2.0), Paid)
    assert_type(await charge(ctx, order_id, activity_id="once"), Paid)
    assert_type(await count(ctx, ["a"]), int)
    assert_type(await wait_event(ctx, "paid"), ReceivedEvent[Any])
    assert_type((await wait_event(ctx, "paid", model=Paid)).data, Paid)
    assert_type(await wait_timer(ctx, 5), None)
    await charge(ctx, 5)  # type: ignore[call-overload]
    await charge(ctx)  # type: ignore[call-overload]
    return paid.amount


@workflow(name="renamed")
async def other(ctx: WorkflowContext) -> None: ...


async def main(app: EddaApp) -> None:
    assert_type(await order.start(order_id="1"), str)
    assert_type(await other.start(), str)
    await order.start(order_id=1)  # type: ignore[arg-type]
    await order.start()  # type: ignore[call-arg]
