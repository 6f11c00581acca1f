"""Channels: who gets which message, in which order, and what is kept."""

import asyncio

import pytest

from edda import (
    ArgumentError,
    ChannelMessage,
    EventTimeoutError,
    NotSubscribedError,
    activity,
    publish,
    receive,
    send_to,
    subscribe,
    unsubscribe,
    wait_event,
    workflow,
)


@workflow
async def reader(ctx, mode: str, count: int, channel: str = "news", timeout: float | None = None):
    await subscribe(ctx, channel, mode)
    return [(await receive(ctx, channel, timeout)).data for _ in range(count)]


def say(sim, *messages, channel="news"):
    for message in messages:
        sim.publish(channel, message)


# ---- receive: suspends, completes, still waiting ----------------------------------------------


def test_receive_suspends(sim):
    """An instance that receives is stored and waits for a message."""
    run = sim.start(reader, "broadcast", 1)
    assert run.status == "waiting_for_message"
    (waiting,) = run.waiting_for
    assert (waiting.kind, waiting.id, waiting.name) == ("message", "receive_news:1", "news")


def test_receive_completes(sim):
    """A message of the channel answers it."""
    run = sim.start(reader, "broadcast", 1)
    say(sim, {"headline": "rain"})
    assert run.result == [{"headline": "rain"}]


def test_receive_still_waits(sim):
    """A message of another channel, and an event of the same name, do not."""
    run = sim.start(reader, "broadcast", 1)
    say(sim, 1, channel="sports")
    sim.send("news", 2)
    assert run.status == "waiting_for_message"


def test_receive_times_out(sim):
    """After `timeout_seconds` it raises `EventTimeoutError`."""
    run = sim.start(reader, "broadcast", 1, timeout=60)
    sim.advance(60)
    assert isinstance(run.error, EventTimeoutError)
    assert str(run.error) == "No 'news' event came within 60 s."


def test_a_message_in_full(sim):
    """It has an id, its channel, data, metadata, and when it was published."""

    @workflow
    async def once(ctx):
        await subscribe(ctx, "news")
        message = await receive(ctx, "news")
        assert isinstance(message, ChannelMessage)
        return [message.id, message.channel, message.data, dict(message.metadata)]

    run = sim.start(once)
    said = sim.now
    message_id = sim.publish("news", None, {"by": ["me", 1]}).get_id()
    sim.run()
    assert run.result == [message_id, "news", None, {"by": ["me", 1]}]
    (event,) = run.received
    assert event.time == said


# ---- Broadcast ---------------------------------------------------------------------------------


def test_broadcast_reaches_every_subscriber(sim):
    """Each of them gets every message, in order."""
    runs = [sim.start(reader, "broadcast", 3) for _ in range(3)]
    say(sim, 1, 2, 3)
    assert [run.result for run in runs] == [[1, 2, 3]] * 3


def test_a_channel_is_read_from_the_subscription_on(sim):
    """What was published before it is not for this subscriber; what came before receive() is."""

    @workflow
    async def late(ctx):
        await subscribe(ctx, "news")
        await wait_event(ctx, "go")
        return [(await receive(ctx, "news")).data, (await receive(ctx, "news")).data]

    say(sim, "before")
    run = sim.start(late)
    say(sim, 1, 2)
    sim.send("go")
    assert run.result == [1, 2]


def test_nothing_is_lost_between_subscribing_and_publishing(sim):
    """Who subscribes, then asks another to publish, gets what is published."""

    @activity
    async def announce(ctx) -> None:
        await publish(ctx, "news", "mine")

    @workflow
    async def echo(ctx):
        await subscribe(ctx, "news")
        await announce(ctx)
        return (await receive(ctx, "news")).data

    assert sim.start(echo).result == "mine"


def test_unsubscribing(sim):
    """After `unsubscribe` nothing is kept; a new subscription begins at its own time."""

    @workflow
    async def pausing(ctx):
        await subscribe(ctx, "news")
        await unsubscribe(ctx, "news")
        await wait_event(ctx, "go")
        await subscribe(ctx, "news")
        return (await receive(ctx, "news")).data

    run = sim.start(pausing)
    say(sim, "missed")
    sim.send("go")
    assert run.status == "waiting_for_message"
    say(sim, "heard")
    assert run.result == "heard"


def test_subscribing_twice_changes_nothing(sim):
    """The first subscription stands, and is recorded once."""

    @workflow
    async def eager(ctx):
        await subscribe(ctx, "news")
        await wait_event(ctx, "go")
        await subscribe(ctx, "news")
        return (await receive(ctx, "news")).data

    run = sim.start(eager)
    say(sim, "kept")
    sim.send("go")
    assert run.result == "kept"
    assert [event.kind for event in run.history].count("channel_subscribed") == 1


# ---- Competing ---------------------------------------------------------------------------------


def test_each_job_has_one_worker(sim):
    """A message that instances compete for is processed by exactly one of them."""
    runs = [sim.start(reader, "competing", 2, channel="jobs") for _ in range(3)]
    say(sim, *range(6), channel="jobs")
    assert sorted(job for run in runs for job in run.result) == list(range(6))


def test_jobs_wait_for_workers(sim):
    """A queue is there before those who take from it, and keeps its order."""
    say(sim, 1, 2, channel="jobs")
    assert sim.start(reader, "competing", 2, channel="jobs").result == [1, 2]


def test_a_worker_that_gives_up_gives_back(sim):
    """What was given to an instance that is cancelled goes to another."""
    first = sim.start(reader, "competing", 2, channel="jobs")
    second = sim.start(reader, "competing", 1, channel="jobs")
    say(sim, "a", channel="jobs")
    assert first.status == "waiting_for_message"
    first.cancel()
    say(sim, "b", channel="jobs")
    assert second.result == ["b"]


def test_a_worker_that_crashes_keeps_its_job(sim):
    """A message that was taken is in the history, and is nobody else's."""
    first = sim.start(reader, "competing", 2, channel="jobs")
    say(sim, "a", channel="jobs")
    sim.crash()
    second = sim.start(reader, "competing", 1, channel="jobs")
    say(sim, "b", channel="jobs")
    assert first.result == ["a", "b"]
    assert second.status == "waiting_for_message"


def test_broadcast_beside_competing(sim):
    """A message goes to every listener, and to one of those who compete."""
    listener = sim.start(reader, "broadcast", 2)
    workers = [sim.start(reader, "competing", 1) for _ in range(2)]
    say(sim, 1, 2)
    assert listener.result == [1, 2]
    assert sorted(worker.result[0] for worker in workers) == [1, 2]


# ---- Direct ------------------------------------------------------------------------------------


def test_direct_takes_only_what_is_sent_to_it(sim):
    """Others do not see it, and what is published is not for it."""
    mine = sim.start(reader, "direct", 1)
    other = sim.start(reader, "direct", 1)
    listener = sim.start(reader, "broadcast", 1)
    say(sim, "for all")
    sim.send_to(mine, "news", "for you")
    sim.run()
    assert mine.result == ["for you"]
    assert other.status == "waiting_for_message"
    assert listener.result == ["for all"]


def test_what_is_sent_reaches_subscribers_of_each_mode(sim):
    """An addressed message is seen by its instance, however it has subscribed, and by no other."""
    for mode in ("broadcast", "competing", "direct"):
        run, other = sim.start(reader, mode, 1), sim.start(reader, mode, 1)
        sim.send_to(run, "news", mode)
        sim.run()
        assert run.result == [mode]
        assert other.status == "waiting_for_message"


# ---- From workflows ----------------------------------------------------------------------------


def test_publishing_is_a_recorded_step(sim):
    """A workflow publishes once, however often it is replayed."""

    @workflow
    async def author(ctx):
        await publish(ctx, "news", 1)
        await wait_event(ctx, "go")
        await publish(ctx, "news", 2, {"edition": "late"})

    listener = sim.start(reader, "broadcast", 2)
    run = sim.start(author)
    sim.crash()
    sim.crash()
    sim.send("go")
    assert run.status == "completed"
    assert listener.result == [1, 2]
    assert [event.id for event in run.history if event.kind == "event_sent"] == [
        "publish_news:1",
        "publish_news:2",
    ]


def test_two_instances_talk(sim):
    """`send_to` in a workflow answers the one that asked."""

    @workflow
    async def server(ctx):
        await subscribe(ctx, "questions", "competing")
        message = await receive(ctx, "questions")
        await send_to(ctx, message.metadata["from"], "answers", message.data * 2)

    @workflow
    async def client(ctx):
        await subscribe(ctx, "answers", "direct")
        await publish(ctx, "questions", 21, {"from": ctx.instance_id})
        return (await receive(ctx, "answers")).data

    asking = sim.start(client)
    sim.start(server)
    assert asking.result == 42


# ---- What is refused ---------------------------------------------------------------------------


def fault(sim, body):
    run = sim.start(workflow(body))
    assert run.status == "failed"
    return run.error


def test_receiving_without_a_subscription(sim):
    """It says which channel, and what to do."""

    async def deaf(ctx):
        await receive(ctx, "news")

    error = fault(sim, deaf)
    assert isinstance(error, NotSubscribedError)
    assert "`await subscribe(ctx, 'news')` first" in str(error)


def test_two_modes(sim):
    """A channel is read in one way at a time."""

    async def torn(ctx):
        await subscribe(ctx, "news")
        await subscribe(ctx, "news", "competing")

    assert isinstance(fault(sim, torn), NotSubscribedError)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda ctx: subscribe(ctx, ""), "channel must be a non-empty string"),
        (lambda ctx: subscribe(ctx, "news", "loud"), 'mode must be "broadcast"'),
        (lambda ctx: receive(ctx, None), "channel must be a non-empty string"),
        (lambda ctx: publish(ctx, 3, 1), "channel must be a non-empty string"),
        (lambda ctx: publish(ctx, "news", 1, {"x": {1}}), "metadata must be a mapping"),
        (lambda ctx: publish(ctx, "news", float("nan")), "data cannot be sent"),
        (lambda ctx: send_to(ctx, "", "news", 1), "instance_id must be a non-empty string"),
    ],
)
def test_bad_arguments(sim, call, said):
    """Each says which argument, what was expected and what was given."""

    async def wrong(ctx):
        await call(ctx)

    error = fault(sim, wrong)
    assert isinstance(error, ArgumentError)
    assert said in str(error)


def test_outside_a_workflow():
    """`publish` without a context says what to call instead."""
    with pytest.raises(ArgumentError, match=r"from outside use app\.publish"):
        asyncio.run(publish(None, "news", 1))
    with pytest.raises(ArgumentError, match="workflow's ctx"):
        receive(None, "news")


@pytest.mark.parametrize("metadata", ["not json", "5", "[" * 5000, '{"a": 1}'])
def test_metadata_from_anybody(sim, metadata):
    """Whoever posts an event of a channel with odd metadata does not stop who receives it."""

    @workflow
    async def posted(ctx):
        await subscribe(ctx, "posted")
        message = await receive(ctx, "posted")
        return [message.data, message.metadata]

    run = sim.start(posted)
    sim.send("edda.channel.posted", "x", eddametadata=metadata)
    assert run.result == ["x", {"a": 1} if metadata.startswith("{") else {}]


def test_subscribing_anew_forgets_what_came(sim):
    """A channel that is left and read anew in one step begins there, whatever came before."""

    @workflow
    async def renewing(ctx):
        await subscribe(ctx, "renewed")
        await wait_event(ctx, "renew")
        await unsubscribe(ctx, "renewed")
        await subscribe(ctx, "renewed")
        return (await receive(ctx, "renewed")).data

    run = sim.start(renewing)
    say(sim, "old", channel="renewed")
    sim.send("renew")
    assert run.status == "waiting_for_message"
    say(sim, "new", channel="renewed")
    assert run.result == "new"
