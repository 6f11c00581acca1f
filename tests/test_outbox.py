"""Events that go out with an activity's answer, and the relay that posts them."""

import asyncio
from datetime import timedelta

import pytest

from edda import (
    ArgumentError,
    EddaApp,
    RetryPolicy,
    activity,
    send_event_transactional,
    wait_event,
    workflow,
)
from edda.errors import BrokerError


@activity(retry_policy=RetryPolicy(max_attempts=3, initial_interval=10))
async def create(ctx, n: int, fails: int = 0) -> int:
    await send_event_transactional(ctx, "outbox.created", "shop", {"n": n, "attempt": ctx.attempt})
    if ctx.attempt <= fails:
        raise OSError("down")
    return n


@workflow
async def order(ctx, n: int = 1, fails: int = 0):
    return await create(ctx, n, fails)


@workflow
async def shipping(ctx):
    return (await wait_event(ctx, "outbox.created")).data


class Broker:
    """A sender that refuses what it is told to, and keeps the rest."""

    def __init__(self, refuses=lambda envelope: False):
        self.refuses = refuses
        self.posted = []
        self.under_way = 0
        self.most = 0

    async def post(self, envelope, url):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        if self.refuses(envelope):
            raise BrokerError(url, "no")
        self.posted.append((envelope.id, envelope.document["data"]["n"]))


def test_an_event_goes_out_with_the_answer(sim):
    """Without a broker it goes to the app itself, once the answer is committed."""
    waiting = sim.start(shipping)
    run = sim.start(order, instance_id="O")
    assert run.result == 1
    assert waiting.result == {"n": 1, "attempt": 1}
    (event,) = waiting.received
    assert event.id == "O/create:1/event:1"


def test_an_attempt_that_fails_sends_nothing(sim):
    """What it wanted to send is dropped with it; the next attempt sends the same id."""
    waiting = sim.start(shipping)
    run = sim.start(order, fails=2)
    assert sim.wait(sim.app.pending_events()) == []
    assert waiting.status == "waiting_for_event"
    sim.run(until=run)
    assert waiting.result == {"n": 1, "attempt": 3}


def test_with_a_broker_it_is_posted(world):
    """To the URL of the app; posts of a simulation are kept in `sim.sender.posted`."""
    with world(app_options={"broker_url": "http://broker"}) as sim:
        sim.start(order)
        ((url, event),) = sim.sender.posted
        assert (url, event.get_type()) == ("http://broker", "outbox.created")


def test_a_refused_event_is_tried_again(world):
    """After 1, 2, 4, ... seconds, at most five minutes, for as long as it takes."""
    with world(app_options={"broker_url": "http://broker"}) as sim:
        down = True

        async def post(envelope, url):
            if down:
                raise BrokerError(url, "closed")

        sim.sender.post = post
        assert sim.start(order).result == 1
        for count, pause in enumerate((1, 2, 4, 8), start=1):
            (pending,) = sim.wait(sim.app.pending_events())
            assert pending.attempts == count
            assert pending.due == sim.now + timedelta(seconds=pause)
            assert "closed" in pending.error
            sim.advance(pause)
        down = False
        sim.advance(16)
        assert sim.wait(sim.app.pending_events()) == []


def test_in_a_workflow_it_says_what_to_call(sim):
    """There `send_event` is a recorded step already."""

    @workflow
    async def wrong(ctx):
        await send_event_transactional(ctx, "outbox.created", "shop")

    run = sim.start(wrong)
    assert isinstance(run.error, ArgumentError)
    assert "`await send_event(...)` is a recorded step already" in str(run.error)


def test_both_spellings(sim):
    """`event_source` and `event_data` are other names of `source` and `data`."""

    @activity
    async def tell(ctx) -> None:
        await send_event_transactional(
            ctx, event_type="outbox.created", event_source="shop", event_data={"n": 7}
        )

    @workflow
    async def telling(ctx):
        await tell(ctx)

    waiting = sim.start(shipping)
    sim.start(telling)
    assert waiting.result == {"n": 7}


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/edda.db"])
def test_one_poisoned_event_blocks_no_other(tmp_path, url):
    """The others are posted, a few at a time, while it waits for its next attempt."""
    broker = Broker(refuses=lambda envelope: envelope.document["data"]["n"] == 3)

    async def main():
        async with EddaApp(
            db_url=url.format(tmp_path), broker_url="http://broker", sender=broker
        ) as app:
            ids = [await app.start(order, n) for n in range(30)]
            for instance_id in ids:
                await app.result(instance_id, 10)
            while len(broker.posted) < 29:
                await asyncio.sleep(0.01)
            return await app.pending_events()

    (pending,) = asyncio.run(main())
    assert pending.envelope.document["data"]["n"] == 3
    assert "no" in pending.error
    assert sorted(n for _, n in broker.posted) == [n for n in range(30) if n != 3]
    assert 1 < broker.most <= 10


def test_another_app_posts(tmp_path):
    """An app without a relay stores events, and one that has a relay posts them later."""
    url = f"sqlite:///{tmp_path}/edda.db"
    broker = Broker()

    async def main():
        async with EddaApp("a", url, outbox_enabled=False, broker_url="x", sender=broker) as app:
            await app.result(await app.start(order, 5), 10)
            assert len(await app.pending_events()) == 1
        assert broker.posted == []
        async with EddaApp("b", url, broker_url="x", sender=broker, workflows=[]) as app:
            while await app.pending_events():
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert [n for _, n in broker.posted] == [5]
