"""An order is whole or it is nothing: no crash and no cancellation leaves half of one."""

from functools import partial

import pytest

from edda import TerminalError, WorkflowContext, activity, on_failure, workflow
from edda_testkit import check_crashes, explore
from examples.order_saga import (
    Outside,
    Shop,
    order_saga,
    refund,
    release_stock,
    reserve_stock,
    ship,
)

ORDER = {"order_id": "ORD-1", "sku": "TEA", "price": 9.5}


def test_an_order_ships(edda_sim):
    """Stock, money and parcel: all three, and nothing is undone."""
    shop = Outside.shop = edda_sim.world(Shop)
    order = edda_sim.start(order_saga, **ORDER)
    assert order.result == "shipped"
    assert (shop.reserved, shop.charges) == ({"ORD-1": "TEA"}, {"ORD-1": 9.5})
    assert order.calls(refund) == []


def test_an_order_that_cannot_ship_is_undone(edda_sim):
    """Without a carrier the money goes back first, then the stock."""
    shop = Outside.shop = edda_sim.world(Shop)
    edda_sim.stub(ship, raises=TerminalError("no carrier"))
    order = edda_sim.start(order_saga, **ORDER)
    assert str(order.error) == "no carrier"
    assert [call.activity for call in order.calls()][-2:] == ["refund", "release_stock"]
    assert (shop.reserved, shop.charges) == ({}, {})


def test_what_was_never_done_is_not_undone(edda_sim):
    """Sold out: nothing was charged, so nothing is refunded."""
    Outside.shop = edda_sim.world(Shop)
    order = edda_sim.start(order_saga, order_id="ORD-1", sku="GOLD", price=900.0)
    assert str(order.error) == "GOLD is sold out"
    assert order.calls(refund) == order.calls(release_stock) == []


def test_the_carrier_comes_back(edda_sim):
    """A carrier that is down for a while delays the order, and no more than that."""
    Outside.shop = edda_sim.world(Shop)
    edda_sim.stub(ship, sequence=[ConnectionError("down"), ConnectionError("down"), None])
    order = edda_sim.start(order_saga, **ORDER)
    assert order.status == "waiting_for_retry"
    edda_sim.run(until=order)
    assert order.result == "shipped"
    assert [call.attempt for call in order.calls(ship)] == [1, 2, 3]


def an_order(sim):
    shop = Outside.shop = sim.world(Shop)
    sim.start(order_saga, **ORDER)
    return shop.reserved, shop.charges, shop.shipped


def test_a_crash_anywhere_changes_nothing():
    """Whichever two crashes strike: one reservation, one charge, one parcel."""
    assert check_crashes(an_order, crashes=2).exhaustive


# ---- A bug, and the test that finds it -------------------------------------------------------
# Before: the refund was tied to the answer of the charge. It is not there when the cancellation
# comes between the effect of the charge and its answer.


@activity
@on_failure(refund)
async def charge_with_refund(ctx, order_id: str, price: float) -> None:
    Outside.shop.charges[order_id] = price


@workflow
async def order_saga_before(ctx: WorkflowContext, order_id: str, sku: str, price: float) -> str:
    await reserve_stock(ctx, order_id, sku)
    await charge_with_refund(ctx, order_id, price)
    await ship(ctx, order_id)
    return "shipped"


def called_off(definition, sim):
    """A customer calls the order off, at any moment."""
    shop = Outside.shop = sim.world(Shop)
    with sim.concurrently():
        order = sim.start(definition, **ORDER)
        sim.cancel(order)
    assert len(shop.charges) == (order.status == "completed"), "paid for, and called off"


def test_an_order_called_off_costs_nothing():
    """At whatever moment the cancellation comes, the customer pays for what is shipped."""
    assert explore(partial(called_off, order_saga)).exhaustive


def test_the_kit_finds_the_charge_that_nobody_undoes():
    """A cancellation in the one moment that matters keeps the money."""
    with pytest.raises(AssertionError, match="paid for, and called off"):
        explore(partial(called_off, order_saga_before))
