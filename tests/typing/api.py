"""Type-checked, never run: what mypy must make of the public API."""

from typing import Any, assert_type

from pydantic import BaseModel

from edda import (
    ChannelMessage,
    EddaApp,
    ReceivedEvent,
    RetryPolicy,
    WorkflowContext,
    activity,
    compensation,
    on_failure,
    publish,
    receive,
    register_compensation,
    subscribe,
    wait_any,
    wait_event,
    wait_timer,
    workflow,
)
from edda.history import Event
from edda_testkit import Run, Simulation


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
    await charge(ctx, "1", amout=2.0)  # type: ignore[call-overload]
    await charge(ctx, "1", 2.0, 3.0)  # type: ignore[call-overload]
    assert_type(await refund(ctx, "1"), int)
    assert_type(await refund(ctx, paid="1", reasons={"late"}), int)
    await refund(ctx, reasons={1})  # type: ignore[call-overload]
    assert_type(await other(ctx), None)  # as a part of this one
    assert_type(ctx.patched("change"), bool)
    return paid.amount


@activity(name="refund")
async def refund(ctx: WorkflowContext, paid: str, *, reasons: set[str] | None = None) -> int:
    return 1


@workflow(name="renamed")
async def other(ctx: WorkflowContext) -> None: ...


@workflow
async def generic(ctx: WorkflowContext, *, items: list[int], by: str = "sum") -> dict[str, int]:
    return {by: sum(items)}


@compensation
async def undo(ctx: WorkflowContext, order_id: str) -> None: ...


@activity
@on_failure(undo)
async def ship(ctx: WorkflowContext, order_id: str) -> int:
    return 1


@workflow
async def composed(ctx: WorkflowContext, order_id: str) -> float:
    assert_type(await ship(ctx, order_id), int)
    await ship(ctx, 5)  # type: ignore[call-overload]
    assert_type(await order.run(ctx, order_id), float)
    assert_type(await order.run(ctx, order_id, instance_id="O-1"), float)
    await order.run(ctx, 5)  # type: ignore[call-overload]
    assert_type(await order.start(ctx, order_id), str)
    assert_type(await wait_any(ctx, {"paid": Paid, "lost": None}), ReceivedEvent[Any])
    assert_type(await receive(ctx, "news", 5), ChannelMessage)
    assert_type(await publish(ctx, "news", 1), str)
    await subscribe(ctx, "news", "loud")  # type: ignore[arg-type]
    await register_compensation(ctx, undo, order_id)
    await ctx.recur(order_id=order_id)


async def main(app: EddaApp) -> None:
    assert_type(await order.start(order_id="1"), str)
    assert_type(await other.start(), str)
    await order.start(order_id=1)  # type: ignore[call-overload]
    await order.start()  # type: ignore[call-overload]
    await other.start(1)  # type: ignore[call-overload]
    assert_type(await order.start(order_id="1", instance_id="O-1"), str)
    assert_type(await generic.start(items=[1], by="sum"), str)
    await generic.start(items=["a"])  # type: ignore[list-item]
    assert_type(order.name, str)


def kit() -> None:
    with Simulation() as sim:
        run = sim.start(order, order_id="1")
        assert_type(run, Run)
        assert_type(sim.golden("paid", run=run), None)
        assert_type(run.history, list[Event])
