"""The checks about channels: from where they are read, and what is for whom."""

from edda.commands import Mode
from edda_testkit.contract.bench import Bench, channel, law, positions, receive, same

MODES: tuple[Mode, ...] = ("broadcast", "competing", "direct")
NEWS = channel("news", "broadcast")
DIRECT = channel("news", "direct")
NEXT = receive("receive:1", "news", "broadcast")

# ---- From where --------------------------------------------------------------------------------


@law("M2")
async def a_channel_is_read_from_its_subscription(bench: Bench) -> None:
    """What came before the commit that subscribed is not seen; what came after it is, in order."""
    claimed = await bench.begin()
    await bench.send("news")
    await bench.step(claimed, release=False, subscriptions=[NEWS])
    sent = [(await bench.send("news")).position for _ in range(3)]
    committed = await bench.step(claimed, NEXT, subscriptions=[NEWS])
    same((positions(committed), committed.is_released), (sent, False))


@law("M2")
async def one_commit_may_subscribe_and_wait(bench: Bench) -> None:
    """A wait registered with its subscription sees nothing from before, and all from then on."""
    claimed = await bench.begin()
    await bench.send("news")
    committed = await bench.step(claimed, NEXT, subscriptions=[NEWS])
    same((positions(committed), committed.is_released), ([], True))
    sent = await bench.send("news")
    same(sent.woken, ("a",))
    same(positions(await bench.claim_one()), [sent.position])


@law("M2")
async def a_subscription_stays_where_it_began(bench: Bench) -> None:
    """Commits that have the subscription again do not move its beginning."""
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=[NEWS])
    first = await bench.send("news")
    await bench.step(
        claimed, events=[bench.asked(1)], release=False, subscriptions=[NEWS, channel("other")]
    )
    second = await bench.send("news")
    found = positions(await bench.step(claimed, NEXT, subscriptions=[NEWS]))
    same(found, [first.position, second.position])


@law("M2")
async def subscribing_again_begins_anew(bench: Bench) -> None:
    """Between the end of a subscription and the next one nothing is read, taken or not."""
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=[NEWS])
    await bench.send("news")
    await bench.step(claimed, release=False)
    await bench.send("news")
    await bench.step(claimed, release=False, subscriptions=[NEWS])
    last = await bench.send("news")
    same(positions(await bench.step(claimed, NEXT, subscriptions=[NEWS])), [last.position])


@law("M2")
async def a_renewed_subscription_begins_anew(bench: Bench) -> None:
    """A channel left and subscribed to within one commit is read from it, the others as before."""
    both = [NEWS, channel("other", "broadcast")]
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=both)
    await bench.send("news")
    kept = await bench.send("other")
    await bench.step(claimed, release=False, subscriptions=both, renewed=["news"])
    last = await bench.send("news")
    other = receive("receive:2", "other", "broadcast")
    found = positions(await bench.step(claimed, NEXT, other, subscriptions=both))
    same(found, [kept.position, last.position])


@law("M2")
async def a_renewing_commit_may_wait_at_once(bench: Bench) -> None:
    """A wait registered by the commit that renews its channel sees nothing from before it."""
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=[NEWS])
    await bench.send("news")
    committed = await bench.step(claimed, NEXT, subscriptions=[NEWS], renewed=["news"])
    same((positions(committed), committed.is_released), ([], True))
    sent = await bench.send("news")
    same(sent.woken, ("a",))
    same(positions(await bench.claim_one()), [sent.position])


@law("M2")
async def renewing_forgets_what_an_earlier_wait_had(bench: Bench) -> None:
    """A wait that stays open keeps what had come; the next one after a renewal has none of it."""
    first, second, third = (receive(f"receive:{n}", "news", "broadcast") for n in (1, 2, 3))
    claimed = await bench.begin()
    await bench.step(claimed, first, release=False, subscriptions=[NEWS])
    sent = await bench.send("news")
    for wanted in (first, second):
        committed = await bench.step(
            claimed, wanted, release=False, subscriptions=[NEWS], renewed=["news"]
        )
        same(positions(committed), [sent.position] if wanted is first else [], wanted.id)
    committed = await bench.step(claimed, third, subscriptions=[NEWS])
    same((positions(committed), committed.is_released), ([], True))


@law("M2")
async def renewing_keeps_what_is_addressed_and_what_queues(bench: Bench) -> None:
    """What is for the instance alone, and what a queue holds, is there after a renewal too."""
    for mode in MODES:
        claimed = await bench.begin(mode)
        await bench.step(claimed, release=False, subscriptions=[channel(mode, mode)])
        wanted = [(await bench.send(mode, to=mode)).position]
        queued = await bench.send(mode)
        wanted += [queued.position] if mode == "competing" else []
        committed = await bench.step(
            claimed,
            receive("receive:1", mode, mode),
            release=False,
            subscriptions=[channel(mode, mode)],
            renewed=[mode],
        )
        seen = positions(committed)
        again = receive("receive:2", mode, mode)
        committed = await bench.step(
            claimed, again, taken=seen, release=False, subscriptions=[channel(mode, mode)]
        )
        same(seen + positions(committed), wanted, mode)
        await bench.step(claimed, taken=positions(committed))


@law("M2")
async def another_mode_is_another_subscription(bench: Bench) -> None:
    """A channel that is read in another mode is read from the commit that changed it."""
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=[DIRECT])
    await bench.send("news")
    await bench.step(claimed, release=False, subscriptions=[NEWS])
    last = await bench.send("news")
    same(positions(await bench.step(claimed, NEXT, subscriptions=[NEWS])), [last.position])


@law("M2")
async def a_channel_does_not_begin_before_the_instance(bench: Bench) -> None:
    """Subscriptions of one instance say nothing about those of another."""
    await bench.suspend("a", NEXT, subscriptions=[NEWS])
    first = await bench.send("news")
    await bench.suspend("b", NEXT, subscriptions=[NEWS])
    second = await bench.send("news")
    same((first.woken, second.woken), (("a",), ("a", "b")))
    found = {one.lease.instance_id: positions(one) for one in await bench.claim()}
    same(found, {"a": [first.position, second.position], "b": [second.position]})


@law("M2")
async def a_wait_outlives_its_subscription(bench: Bench) -> None:
    """An open wait whose channel is not read any more is still answered; a new one has no past."""
    await bench.suspend("a", NEXT, subscriptions=[NEWS], due=bench.clock.now())
    await bench.step(await bench.claim_one(), NEXT)
    sent = await bench.send("news")
    same(sent.woken, ("a",))
    claimed = await bench.claim_one()
    same(positions(claimed), [sent.position])
    for n, mode in enumerate(MODES[::2], 2):
        later = receive(f"receive:{n}", "news", mode)
        committed = await bench.step(claimed, later, taken=positions(claimed), release=False)
        same(positions(committed), [], mode)


@law("M2")
async def a_subscription_alone_wakes_nobody(bench: Bench) -> None:
    """Messages of a channel wake only those who wait for them."""
    await bench.suspend("a", subscriptions=[NEWS])
    await bench.suspend("b", receive("receive:1", "other", "broadcast"), subscriptions=[NEWS])
    same((await bench.send("news")).woken, ())
    same(await bench.ready(), [])


# ---- In order ----------------------------------------------------------------------------------


@law("M2")
async def a_channel_is_read_in_order(bench: Bench) -> None:
    """Messages of two channels come in log order, each to its own wait, none twice."""
    other = channel("other", "broadcast")
    waits = (NEXT, receive("receive:2", "other", "broadcast"))
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=[NEWS, other])
    sent = [(await bench.send("news" if n % 3 else "other")).position for n in range(9)]
    seen: list[int] = []
    found = positions(await bench.step(claimed, *waits, subscriptions=[NEWS, other]))
    while found:
        seen.append(found[0])
        committed = await bench.step(
            claimed, *waits, taken=found[:1], release=False, subscriptions=[NEWS, other]
        )
        found = positions(committed)
    same(seen, sent)


# ---- For whom ----------------------------------------------------------------------------------


@law("M3")
async def direct_is_for_the_addressee_alone(bench: Bench) -> None:
    """A direct subscriber gets what is addressed to it, and nothing else, before or after."""
    direct = receive("receive:1", "news", "direct")
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=[DIRECT])
    await bench.send("news")
    await bench.send("news", to="b")
    mine = await bench.send("news", to="a")
    committed = await bench.step(claimed, direct, subscriptions=[DIRECT])
    same(positions(committed), [mine.position])
    committed = await bench.step(
        claimed,
        receive("receive:2", "news", "direct"),
        taken=positions(committed),
        subscriptions=[DIRECT],
    )
    same(committed.is_released, True)
    same((await bench.send("news")).woken, ())
    same((await bench.send("news", to="b")).woken, ())
    same((await bench.send("news", to="a")).woken, ("a",))
    same(len((await bench.claim_one()).messages), 1, "messages")


@law("M3")
async def addressed_and_broadcast_come_in_order(bench: Bench) -> None:
    """A broadcast subscriber gets what is for all and what is for it, and nothing for others."""
    await bench.suspend("a", NEXT, subscriptions=[NEWS])
    await bench.suspend("b", NEXT, subscriptions=[NEWS])
    first = await bench.send("news", to="a")
    second = await bench.send("news")
    third = await bench.send("news", to="a")
    same((first.woken, second.woken, third.woken), (("a",), ("a", "b"), ("a",)))
    found = {one.lease.instance_id: positions(one) for one in await bench.claim()}
    same(found["a"], [first.position, second.position, third.position])
    same(found["b"], [second.position])


@law("M3")
async def what_is_addressed_waits_for_the_subscription(bench: Bench) -> None:
    """A message to one instance is kept until it subscribes, in any mode, and between times."""
    for mode in MODES:
        subscription, later = channel("news", mode), receive("receive:2", "news", mode)
        claimed = await bench.begin(mode)
        early = await bench.send("news", to=mode)
        same(early.woken, ())
        wait = receive("receive:1", "news", mode)
        committed = await bench.step(claimed, wait, subscriptions=[subscription])
        same(positions(committed), [early.position], mode)
        await bench.step(claimed, taken=positions(committed), release=False)
        between = await bench.send("news", to=mode)
        committed = await bench.step(claimed, later, subscriptions=[subscription])
        same(positions(committed), [between.position], mode)
        await bench.step(claimed, taken=positions(committed))


@law("M2")
async def what_is_addressed_before_the_start_is_not_seen(bench: Bench) -> None:
    """Also what is sent to one instance is read from its start, in every mode."""
    for mode in MODES:
        await bench.send("news", to=mode)
        claimed = await bench.begin(mode)
        committed = await bench.step(
            claimed, receive("receive:1", "news", mode), subscriptions=[channel("news", mode)]
        )
        same((positions(committed), committed.is_released), ([], True), mode)


@law("M3")
async def every_broadcast_subscriber_gets_it(bench: Bench) -> None:
    """What one subscriber took is there for the others, also for those who have not asked yet."""
    await bench.suspend("a", NEXT, subscriptions=[NEWS])
    await bench.suspend("b", subscriptions=[NEWS], due=bench.clock.now())
    sent = await bench.send("news")
    claimed = {one.lease.instance_id: one for one in await bench.claim()}
    await bench.step(claimed["a"], taken=positions(claimed["a"]), subscriptions=[NEWS])
    found = await bench.step(claimed["b"], NEXT, subscriptions=[NEWS])
    same(positions(found), [sent.position])
