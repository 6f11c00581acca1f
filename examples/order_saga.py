"""An order that undoes what it did when it cannot be finished, or is called off.

When the workflow fails or is cancelled, what was done is undone, newest first. Stock is reserved by
a step that names its compensation: that runs once the step has answered. Money wants more: the
refund is registered before the charge, as a cancellation may come while the charge is under way,
and then nobody knows whether it happened. So the refund must do no harm where there was no charge.

Serve it with `edda serve examples.order_saga:app`, then:

    curl -X POST http://localhost:8001/events -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "order.placed", "source": "shop", "id": "1",
           "data": {"order_id": "ORD-1", "sku": "TEA", "price": 9.5}}'
"""

import os

from edda import (
    EddaApp,
    TerminalError,
    WorkflowContext,
    activity,
    compensation,
    on_failure,
    register_compensation,
    workflow,
)


class Shop:
    """The outside world: what the services that the activities call would keep.

    A reservation that nobody takes up lapses by itself. A charge does not.
    """

    def __init__(self) -> None:
        self.stock = {"TEA": 2}
        self.reserved: dict[str, str] = {}
        self.charges: dict[str, float] = {}
        self.shipped: set[str] = set()


class Outside:
    shop = Shop()


@compensation
async def release_stock(ctx, order_id: str) -> None:
    Outside.shop.reserved.pop(order_id, None)


@activity
@on_failure(release_stock)
async def reserve_stock(ctx, order_id: str, sku: str) -> None:
    shop = Outside.shop
    if list(shop.reserved.values()).count(sku) >= shop.stock.get(sku, 0):
        raise TerminalError(f"{sku} is sold out")
    shop.reserved[order_id] = sku


@compensation
async def refund(ctx, order_id: str) -> None:
    Outside.shop.charges.pop(order_id, None)


@activity
async def charge(ctx, order_id: str, price: float) -> None:
    Outside.shop.charges[order_id] = price  # by order, not by attempt: twice is once


@activity
async def ship(ctx, order_id: str) -> None:
    Outside.shop.shipped.add(order_id)


@workflow(start_on="order.placed")
async def order_saga(ctx: WorkflowContext, order_id: str, sku: str, price: float) -> str:
    await reserve_stock(ctx, order_id, sku)
    await register_compensation(ctx, refund, order_id=order_id)
    await charge(ctx, order_id, price)
    await ship(ctx, order_id)
    return "shipped"


app = EddaApp("order-saga", os.environ.get("EDDA_DB_URL", "sqlite:///order_saga.db"))
