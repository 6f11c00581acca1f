"""`sim.publish` and `sim.send_to`: channels fed by a test."""

import pytest

from edda import ArgumentError, WorkflowContext, receive, subscribe, workflow
from edda_testkit import AsyncSimulation, Simulation, explore


@workflow
async def reader(ctx: WorkflowContext, mode: str = "broadcast", count: int = 2) -> list:
    await subscribe(ctx, "news", mode=mode)
    return [(await receive(ctx, "news")).data for _ in range(count)]


@workflow
async def envelope_reader(ctx: WorkflowContext) -> list:
    await subscribe(ctx, "news")
    message = await receive(ctx, "news")
    return [message.id, message.channel, dict(message.metadata), message.published_at.isoformat()]


def test_every_reader_gets_what_is_published(edda_sim):
    """A message goes to all who broadcast-subscribe, in the order of publishing."""
    readers = [edda_sim.start(reader) for _ in range(2)]
    edda_sim.publish("news", "one")
    edda_sim.publish("news", "two")
    assert [run.result for run in readers] == [["one", "two"]] * 2


def test_one_run_alone(edda_sim):
    """`send_to` reaches one run, whatever the others read."""
    one, other = edda_sim.start(reader), edda_sim.start(reader, mode="direct", count=1)
    edda_sim.send_to(other, "news", {"for": "you"})
    assert other.result == [{"for": "you"}]
    assert one.status == "waiting_for_message"


def test_a_message_as_its_reader_sees_it(edda_sim):
    """Metadata and the virtual time come with it, and the id counts."""
    run = edda_sim.start(envelope_reader)
    edda_sim.advance(60)
    edda_sim.publish("news", None, metadata={"from": "test"})
    [id, channel, metadata, at] = run.result
    assert (id, channel, metadata) == ("message-1", "news", {"from": "test"})
    assert at == edda_sim.now.isoformat()


def test_later(edda_sim):
    """`after=` is virtual time: the message is not there before."""
    run = edda_sim.start(reader, count=1)
    edda_sim.publish("news", "late", after=30)
    edda_sim.advance(29)
    assert run.status == "waiting_for_message"
    edda_sim.advance(1)
    assert run.result == ["late"]


def test_again(edda_sim):
    """What was published can be delivered again, and counts once under the same id."""
    run = edda_sim.start(reader)
    message = edda_sim.publish("news", "one")
    edda_sim.duplicate(message)
    assert run.status == "waiting_for_message"
    edda_sim.duplicate(message, id="fresh")
    assert run.result == ["one", "one"]


def test_side_by_side():
    """Inside `concurrently()` a message may come before the subscription, and is then not read."""
    seen = set()

    def scenario(sim):
        with sim.concurrently():
            run = sim.start(reader, count=1)
            sim.publish("news", "one")
        seen.add(run.status)

    assert explore(scenario).exhaustive
    assert seen == {"completed", "waiting_for_message"}


def test_a_schedule_publishes_the_same_ids():
    """Ids count and are not drawn, so that a schedule that is run again sees the same."""
    ids = []
    for _ in range(2):
        with Simulation() as sim:
            ids.append([sim.publish("news", n).get_id() for n in range(2)])
    assert ids == [["message-1", "message-2"]] * 2


def test_a_channel_without_a_name(edda_sim):
    """An empty name is refused where the test says it."""
    with pytest.raises(ArgumentError, match="channel must be a non-empty string"):
        edda_sim.publish("", 1)


@pytest.mark.asyncio
async def test_in_an_async_test():
    """`AsyncSimulation` has both, to be awaited."""
    async with AsyncSimulation() as sim:
        one = await sim.start(reader, count=1)
        two = await sim.start(reader, mode="direct", count=1)
        await sim.publish("news", 1)
        await sim.send_to(two, "news", 2)
        assert (one.result, two.result) == ([1], [2])
