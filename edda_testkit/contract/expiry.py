"""The checks about retention: what nobody who lives could take goes, everything else stays."""

from datetime import timedelta

from edda.commands import Result
from edda.ports import Claimed, Status
from edda_testkit.contract.bench import Bench, channel, law, positions, receive, same, wait

NEWS = channel("news", "broadcast")
HEAR = receive("receive:1", "news", "broadcast")

# ---- What goes ---------------------------------------------------------------------------------


async def expire(bench: Bench) -> int:
    """Expire all that came before now; how many went."""
    bench.clock.advance(1)
    return await bench.store.expire(bench.clock.now())


async def unread(bench: Bench) -> list[str]:
    """The ids of the events that expired unread."""
    return [one.id for one in await bench.store.expired()]


async def take_all(bench: Bench, claimed: Claimed) -> None:
    """Commit that an instance took what it was offered."""
    await bench.step(claimed, taken=positions(claimed))


@law("M4")
async def what_nobody_could_take_goes(bench: Bench) -> None:
    """Events accepted before the instant go and are counted; those accepted at it stay."""
    at = bench.clock.now()
    old = await bench.send("paid", id="old", source="shop")
    bench.clock.advance(microseconds=1)
    await bench.send(id="fresh")
    same(await bench.store.expire(bench.clock.now()), 1)
    (found,) = await bench.store.expired()
    same(
        (found.position, found.at, found.type, found.source, found.id),
        (old.position, at, "paid", "shop", "old"),
    )
    same(await bench.store.expire(bench.clock.now()), 0)
    same(await expire(bench), 1)
    same(await unread(bench), ["old", "fresh"])


@law("M4")
async def what_was_read_goes_silently(bench: Bench) -> None:
    """An event that an instance took goes with the rest, and is not among the unread."""
    await bench.suspend("a", wait())
    await bench.send(id="read")
    await bench.send("other", id="unread")
    await take_all(bench, await bench.claim_one())
    same((await expire(bench), await unread(bench)), (2, ["unread"]))


@law("M1")
async def an_expired_id_may_come_again(bench: Bench) -> None:
    """Within the retention a repeat is a duplicate; after it, a new event with a new position."""
    first = await bench.send(id="e")
    await bench.store.expire(bench.clock.now())
    same((await bench.send(id="e")).is_duplicate, True)
    await expire(bench)
    again = await bench.send(id="e")
    same((again.is_duplicate, (again.position or 0) > (first.position or 0)), (False, True))
    await expire(bench)
    same(await unread(bench), ["e", "e"])


@law("M4")
async def many_go_in_one_call(bench: Bench) -> None:
    """However many are old, one call drops them all and says how many."""
    kept = await bench.begin("a")
    await bench.step(kept, wait())
    await bench.store.deliver([bench.event("other") for _ in range(1500)])
    await bench.send()
    await bench.store.deliver([bench.event("other") for _ in range(1500)])
    same(await expire(bench), 3000)
    same(len(await bench.store.expired(limit=5000)), 3000, "unread")
    same(len((await bench.claim_one()).messages), 1, "messages")


@law("M4")
async def the_expired_are_listed_page_by_page(bench: Bench) -> None:
    """`expired` lists by position, at most `limit`, those after a position."""
    sent = [(await bench.send()).position for _ in range(5)]
    await expire(bench)
    found: list[int] = []
    while page := await bench.store.expired(limit=2, after=found[-1] if found else 0):
        found += [one.position for one in page]
    same(found, sent)


# ---- What stays --------------------------------------------------------------------------------


@law("M4")
async def what_a_live_instance_could_take_stays(bench: Bench) -> None:
    """An event is kept for who was there before it, until that one takes it, or ends."""
    await bench.suspend("a", wait(), due=bench.clock.now())
    await bench.suspend("b", wait(match={"data": "later"}), due=bench.clock.now())
    await bench.send(id="e")
    same(await expire(bench), 0)
    claimed = {one.lease.instance_id: one for one in await bench.claim()}
    await take_all(bench, claimed["a"])
    same(await expire(bench), 0, "kept for b")
    await bench.finish(claimed["b"], Status.COMPLETED, Result("1"))
    same((await expire(bench), await unread(bench)), (1, []))


@law("M4")
async def it_is_kept_for_a_wait_to_come(bench: Bench) -> None:
    """A live instance whose workflow has waited for this type finds the event when it waits."""
    await bench.finish(await waits_once(bench), Status.COMPLETED, Result("1"))
    claimed = await bench.begin("b")
    sent = await bench.send()
    same(await expire(bench), 0)
    same(positions(await bench.step(claimed, wait())), [sent.position])


async def waits_once(bench: Bench, workflow: str = "w") -> Claimed:
    """Begin an instance that has waited for `paid`."""
    claimed = await bench.begin(f"once {workflow}", workflow=workflow)
    await bench.step(claimed, wait(), release=False)
    return claimed


@law("M4")
async def it_is_not_kept_for_a_workflow_that_never_waited(bench: Bench) -> None:
    """What another workflow waits for keeps no event for this one."""
    await bench.finish(await waits_once(bench, "v"), Status.COMPLETED, Result("1"))
    await bench.suspend("a", wait("sent:1", "sent"))
    await bench.send()
    same(await expire(bench), 1)


@law("M4")
async def it_is_not_kept_for_who_came_later(bench: Bench) -> None:
    """An instance that began after an event does not keep it: it would not see it."""
    await bench.finish(await waits_once(bench), Status.COMPLETED, Result("1"))
    await bench.send()
    await bench.suspend("a", wait())
    same(await expire(bench), 1)


@law("M4")
async def the_stuck_live(bench: Bench) -> None:
    """What a stuck instance could take is there when it goes on."""
    await bench.suspend("a", wait(), due=bench.clock.now())
    await bench.step(await bench.claim_one(), status=Status.STUCK, problem="{}")
    sent = await bench.send()
    same(await expire(bench), 0)
    await bench.store.retry_stuck()
    same(positions(await bench.claim_one()), [sent.position])


@law("M4")
async def those_who_recur_live(bench: Bench) -> None:
    """A fresh history takes what the old one left, and keeps it until then."""
    claimed = await bench.begin()
    await bench.step(claimed, wait(), release=False)
    sent = await bench.send()
    await bench.recur(claimed)
    same(await expire(bench), 0)
    same(positions(await bench.step(await bench.claim_one(), wait())), [sent.position])


@law("M4")
async def what_is_addressed_is_kept_for_its_addressee_alone(bench: Bench) -> None:
    """An event for one instance stays while that one could take it, whoever else lives."""
    await bench.suspend("a", wait())
    await bench.suspend("b", wait(), due=bench.clock.now())
    await bench.send(to="nobody", id="nobody's")
    await bench.send(to="b", id="b's")
    same((await expire(bench), await unread(bench)), (1, ["nobody's"]))
    claimed = await bench.claim_one()
    same([one.envelope.id for one in claimed.messages], ["b's"])
    await bench.finish(claimed, Status.COMPLETED, Result("1"))
    same((await expire(bench), await unread(bench)), (1, ["nobody's", "b's"]))


@law("M4")
async def what_is_gone_is_offered_to_nobody(bench: Bench) -> None:
    """An expired event fits no later wait; those that stayed come in their order."""
    await bench.send("sent")
    await bench.suspend("a", wait(match={"data": 1}), due=bench.clock.now())
    kept = [await bench.send(data=1), await bench.send(data=2)]
    same(await expire(bench), 1)
    claimed = await bench.claim_one()
    same(positions(claimed), [kept[0].position])
    committed = await bench.step(claimed, wait("paid:2"), wait("sent:1", "sent"))
    same(positions(committed), [one.position for one in kept])


# ---- Channels ----------------------------------------------------------------------------------


@law("M4")
async def a_channel_keeps_what_its_readers_have_not_taken(bench: Bench) -> None:
    """A message stays for a broadcast subscriber from its subscription on, waiting or not."""
    claimed = await bench.begin()
    await bench.step(claimed, HEAR, release=False)  # its workflow waits for it
    early = await bench.send("news", id="early")
    await bench.step(claimed, release=False, subscriptions=[NEWS])
    late = await bench.send("news", id="late")
    same((await expire(bench), await unread(bench)), (1, ["early"]))
    committed = await bench.step(
        claimed, receive("receive:2", "news", "broadcast"), subscriptions=[NEWS]
    )
    same((positions(committed), early.position == late.position), ([late.position], False))
    await bench.step(claimed, taken=positions(committed), subscriptions=[NEWS])
    same((await expire(bench), await unread(bench)), (1, ["early"]))


@law("M4")
async def a_direct_reader_keeps_what_is_its_own(bench: Bench) -> None:
    """For a direct subscriber only what is addressed to it stays, from its start on."""
    direct = receive("receive:1", "news", "direct")
    claimed = await bench.begin()
    mine = [await bench.send("news", to="a")]
    await bench.step(claimed, direct, release=False, subscriptions=[channel("news", "direct")])
    await bench.send("news", id="for all")
    mine.append(await bench.send("news", to="a"))
    same((await expire(bench), await unread(bench)), (1, ["for all"]))
    committed = await bench.step(claimed, direct, subscriptions=[channel("news", "direct")])
    same(positions(committed), [one.position for one in mine])


@law("M4")
async def a_queue_is_kept_while_somebody_competes(bench: Bench) -> None:
    """What stands in a queue stays for any live competitor, however late it came; else it goes."""
    sent = await bench.send("job", id="e")
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=[channel()])
    same(await expire(bench), 0)
    committed = await bench.step(claimed, receive(), subscriptions=[channel()])
    same(positions(committed), [sent.position])
    same(await expire(bench), 0, "given, not taken")
    await bench.finish(claimed, Status.COMPLETED, Result("1"))
    same((await expire(bench), await unread(bench)), (1, ["e"]))
    await bench.compete("b")
    same(await bench.ready(), [])


@law("M4")
async def what_a_competitor_has_processed_goes(bench: Bench) -> None:
    """A message that one has taken is not kept for the others."""
    await bench.compete("a", "b")
    await bench.send("job", id="e")
    await take_all(bench, await bench.claim_one())
    same((await expire(bench), await unread(bench)), (1, []))


@law("M4")
async def what_the_stuck_gave_back_is_kept_for_them(bench: Bench) -> None:
    """A stuck competitor lives: the queue waits for it."""
    await bench.compete("a")
    sent = await bench.send("job")
    await bench.step(await bench.claim_one(), status=Status.STUCK, problem="{}")
    same(await expire(bench), 0)
    await bench.store.retry_stuck()
    committed = await bench.step(
        await bench.claim_one(), receive(), subscriptions=[channel()], due=None
    )
    same(positions(committed), [sent.position])


@law("M4")
async def a_queue_goes_on_after_what_expired(bench: Bench) -> None:
    """Who competes next is given what is left, in order, and nothing that is gone."""
    for _ in range(3):
        await bench.send("job")
    claimed = await bench.begin()
    await bench.step(claimed, receive(), release=False, subscriptions=[channel()])
    await bench.finish(claimed, Status.COMPLETED, Result("1"))
    same(await expire(bench), 3)
    later = [await bench.send("job") for _ in range(2)]
    await bench.suspend("b", due=bench.clock.now() + timedelta(seconds=1))
    bench.clock.advance(1)
    committed = await bench.step(await bench.claim_one(), receive(), subscriptions=[channel()])
    same(positions(committed), [later[0].position])


@law("T5", needs_disk=True)
async def what_expired_stays_so(bench: Bench) -> None:
    """After closing and opening again the list is there, and positions go on."""
    sent = await bench.send(id="e")
    await expire(bench)
    await bench.store.close()
    await bench.store.open()
    same(await unread(bench), ["e"])
    again = await bench.send(id="e")
    same((again.position or 0) > (sent.position or 0), True, "a new position")
