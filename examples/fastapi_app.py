"""A FastAPI application with workflows in it: `uvicorn examples.fastapi_app:api --port 8001`.

The host opens and closes the app in its lifespan, and mounts it, so that CloudEvents come in under
its own address:

    curl -X POST http://localhost:8001/orders/ORD-1
    curl -X POST http://localhost:8001/workflows/events \\
      -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "parcel.handed_over", "source": "carrier", "id": "1",
           "data": {"order_id": "ORD-1", "parcel": "P-7"}}'
    curl http://localhost:8001/orders/ORD-1
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from edda import (
    EddaApp,
    EventTimeoutError,
    InstanceNotFoundError,
    WorkflowContext,
    activity,
    wait_event,
    workflow,
)


class Parcel(BaseModel):
    order_id: str
    parcel: str


@activity
async def pack(ctx, order_id: str) -> None:
    print(f"Packing {order_id}")


@activity
async def alarm(ctx, order_id: str) -> None:
    print(f"{order_id} was packed a day ago, and no carrier came")


@workflow
async def web_order(ctx: WorkflowContext, order_id: str) -> str:
    await pack(ctx, order_id)
    while True:
        try:
            event = await wait_event(
                ctx,
                "parcel.handed_over",
                timeout_seconds=24 * 3600,
                model=Parcel,
                match={"data.order_id": order_id},
            )
        except EventTimeoutError:
            await alarm(ctx, order_id)
        else:
            return event.data.parcel


def make_api(workflows: EddaApp) -> FastAPI:
    """The application around an app: the real one, or the one of a simulation."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with workflows:
            yield

    api = FastAPI(lifespan=lifespan)

    @api.post("/orders/{order_id}", status_code=202)
    async def place(order_id: str) -> dict[str, str]:
        # The id of the instance is the order's: an order that is placed twice starts once.
        instance_id = await workflows.start(web_order, instance_id=order_id, order_id=order_id)
        return {"order": instance_id}

    @api.get("/orders/{order_id}")
    async def look(order_id: str) -> dict[str, str]:
        try:
            return {"order": order_id, "status": await workflows.status(order_id)}
        except InstanceNotFoundError as error:
            raise HTTPException(404, str(error)) from error

    api.mount("/workflows", workflows)
    return api


app = EddaApp("web-orders", os.environ.get("EDDA_DB_URL", "sqlite:///web_orders.db"))
api = make_api(app)
