"""The whole web application in virtual time: its routes, its workflows, and the days between."""

import pytest

fastapi = pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

from examples.fastapi_app import alarm, make_api, pack, web_order  # noqa: E402

EVENT = {
    "specversion": "1.0",
    "type": "parcel.handed_over",
    "source": "carrier",
    "id": "1",
    "data": {"order_id": "ORD-1", "parcel": "P-7"},
}


def browser(api):
    """A client that calls the application in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://shop")


async def test_from_the_order_to_the_parcel(edda_async_sim):
    """An order is placed by HTTP, waits for three days, and the carrier's event ends it."""
    sim = edda_async_sim
    async with browser(make_api(sim.app)) as client:
        answer = await client.post("/orders/ORD-1")
        assert (answer.status_code, answer.json()) == (202, {"order": "ORD-1"})
        await sim.advance(days=3)
        assert len(sim.calls(alarm)) == 3
        answer = await client.post(
            "/workflows/events",
            headers={"content-type": "application/cloudevents+json"},
            json=EVENT,
        )
        assert answer.status_code == 202
        await sim.advance(0)
        answer = await client.get("/orders/ORD-1")
        assert answer.json() == {"order": "ORD-1", "status": "completed"}


async def test_an_order_nobody_knows(edda_async_sim):
    """An unknown order is 404, not 500."""
    async with browser(make_api(edda_async_sim.app)) as client:
        assert (await client.get("/orders/ORD-9")).status_code == 404


async def test_a_crash_between_the_order_and_the_carrier(edda_async_sim):
    """The process dies and comes back: the alarm still goes off, once a day."""
    sim = edda_async_sim
    order = await sim.start(web_order, order_id="ORD-1")
    await sim.advance(hours=12)
    await sim.crash()
    await sim.advance(hours=12)
    assert len(order.calls(alarm)) == 1
    assert len(order.calls(pack)) == 1


# ---- A bug, and the test that finds it -------------------------------------------------------
# Before: the route let the app choose the id, so a double click was two orders.


def api_before(workflows):
    api = fastapi.FastAPI()

    @api.post("/orders/{order_id}", status_code=202)
    async def place(order_id: str) -> dict[str, str]:
        return {"order": await workflows.start(web_order, order_id=order_id)}

    return api


async def packed_after_a_double_click(sim, api):
    async with browser(api) as client:
        for _ in range(2):
            assert (await client.post("/orders/ORD-1")).status_code == 202
    await sim.advance(0)
    return len(sim.calls(pack))


async def test_a_double_click_is_one_order(edda_async_sim):
    """Two clicks, one parcel."""
    api = make_api(edda_async_sim.app)
    assert await packed_after_a_double_click(edda_async_sim, api) == 1


async def test_the_kit_finds_the_double_click(edda_async_sim):
    """Before, two clicks were two parcels."""
    api = api_before(edda_async_sim.app)
    assert await packed_after_a_double_click(edda_async_sim, api) == 2
