"""The checks about waits: no message is lost, none is taken twice, each comes in its turn."""

import asyncio
from datetime import timedelta

from edda.ports import Claimed
from edda_testkit.contract.bench import Bench, law, positions, same, wait

# A log so long that no store offers all of it at once.
LOG = 120

# ---- Waiting -----------------------------------------------------------------------------------


@law("M2")
async def an_event_before_the_wait_is_found(bench: Bench) -> None:
    """An event that came after the start and before the wait is there when the wait is."""
    claimed = await bench.begin()
    first, second = await bench.send(), await bench.send()
    committed = await bench.step(claimed, wait())
    same((positions(committed), committed.is_released), ([first.position, second.position], False))


@law("M2")
async def an_event_before_the_start_is_not_seen(bench: Bench) -> None:
    """An instance reads the log from the moment it started."""
    await bench.send()
    claimed = await bench.begin()
    committed = await bench.step(claimed, wait())
    same((committed.messages, committed.is_released), ((), True))


@law("M5")
async def no_wake_up_is_lost(bench: Bench) -> None:
    """An event beside a commit that registers its wait comes with it or wakes it, always."""
    held = [await bench.begin(f"i{n}") for n in range(10)]
    steps = [bench.step(one, wait(match={"data": n})) for n, one in enumerate(held)]
    sends = [bench.send(data=n) for n in range(10)]
    both = [one for pair in zip(steps, sends, strict=True) for one in pair]
    await asyncio.gather(*both[3:], *both[:3])
    bench.clock.advance(31)
    claimed = await bench.claim()
    same(sorted(len(one.messages) for one in claimed), [1] * 10, "messages of each")


@law("M5")
async def a_wait_wakes_its_instance(bench: Bench) -> None:
    """An event makes an instance that waits for its type ready now, and comes with the claim."""
    due = bench.clock.now() + timedelta(hours=1)
    await bench.suspend("a", wait(), due=due)
    bench.clock.advance(5)
    delivered = await bench.send()
    same(delivered.woken, ("a",))
    same(await bench.store.next_due(["w"]), bench.clock.now(), "next_due")
    same(positions(await bench.claim_one()), [delivered.position])
    same((await bench.look()).due, due, "due")


@law("M5")
async def a_closed_wait_wakes_nobody(bench: Bench) -> None:
    """A wait that is not among those of the last commit is over."""
    await bench.suspend("a", wait(), due=bench.clock.now())
    await bench.step(await bench.claim_one(), wait("sent:1", "sent"))
    same((await bench.send()).woken, ())
    same(await bench.ready(), [])
    same((await bench.send("sent")).woken, ("a",))


@law("M3")
async def a_leased_instance_is_told_by_its_next_commit(bench: Bench) -> None:
    """What comes for a leased instance names it as woken, and its next commit brings it."""
    claimed = await bench.begin()
    await bench.step(claimed, wait(), release=False)
    delivered = await bench.send()
    same(delivered.woken, ("a",))
    same(await bench.ready(), [])
    committed = await bench.step(claimed, wait(), release=False)
    same((positions(committed), committed.is_released), ([delivered.position], False))


@law("M5")
async def a_lease_is_kept_while_there_is_more_to_do(bench: Bench) -> None:
    """A commit that would release does not while it brings messages; then it does."""
    claimed = await bench.begin()
    await bench.step(claimed, wait(), release=False)
    sent = await bench.send()
    kept = await bench.step(claimed, wait())
    same((positions(kept), kept.is_released), ([sent.position], False))
    released = await bench.step(claimed, taken=positions(kept))
    same((released.messages, released.is_released), ((), True))


# ---- Taking ------------------------------------------------------------------------------------


@law("M2")
async def a_taken_message_is_never_offered_again(bench: Bench) -> None:
    """What an instance took or refused is gone for it: in this turn, and for later waits."""
    claimed = await bench.begin()
    first, second = await bench.send(), await bench.send()
    await bench.step(claimed, wait("paid:1"), release=False)
    took = await bench.step(claimed, wait("paid:2"), taken=[first.position or 0], release=False)
    same(positions(took), [second.position])
    bench.clock.advance(31)
    claimed = await bench.claim_one()
    same(positions(claimed), [second.position])
    await bench.step(claimed, taken=[second.position or 0], due=bench.clock.now())
    claimed = await bench.claim_one()
    same(positions(await bench.step(claimed, wait("paid:3"))), [])


@law("M2")
async def taking_is_a_matter_of_each_instance(bench: Bench) -> None:
    """What one instance took is still there for the others."""
    await bench.suspend("a", wait())
    await bench.suspend("b", wait())
    sent = await bench.send()
    one, other = await bench.claim()
    await bench.step(one, taken=positions(one))
    same(positions(await bench.step(other, wait(), release=False)), [sent.position])


@law("M2")
async def an_untaken_message_waits_for_the_next_wait(bench: Bench) -> None:
    """A message whose wait was answered otherwise is kept, silently, for the next that fits."""
    keeps = wait("sent:1", "sent")
    await bench.suspend("a", wait("paid:1"), keeps)
    sent = await bench.send()
    claimed = await bench.claim_one()
    over = await bench.step(claimed, keeps)
    same((over.messages, over.is_released), ((), True))
    same(await bench.ready(), [])
    same(await bench.store.next_due(["w"]), None, "next_due")
    other = await bench.send("sent")
    claimed = await bench.claim_one()
    same(positions(claimed), [other.position])
    again = await bench.step(claimed, wait("paid:2"), taken=positions(claimed))
    same(positions(again), [sent.position])


@law("M2")
async def a_message_for_another_wait_wakes_nobody(bench: Bench) -> None:
    """An instance without an open wait for it is not ready because of a message in the log."""
    await bench.suspend("a", wait(match={"data": 1}))
    await bench.send(data=2)
    same(await bench.ready(), [])
    same((await bench.send(data=1)).woken, ("a",))
    same(len((await bench.claim_one()).messages), 1, "messages")


@law("M2")
async def each_of_many_waits_gets_its_message(bench: Bench) -> None:
    """As many messages are offered as there are waits they fit, in log order."""
    claimed = await bench.begin()
    sent = [await bench.send() for _ in range(60)]
    waits = [wait(f"paid:{n}") for n in range(50)]
    found = positions(await bench.step(claimed, *waits))
    same(found[:50], [one.position for one in sent[:50]])


async def drain(bench: Bench, claimed: Claimed, offered: list[int], each: int) -> list[int]:
    """The first positions that come when the first `each` offered are taken in every commit."""
    found: list[int] = []
    while offered and len(found) < LOG:
        taken = offered[:each]
        found += taken
        offered = positions(await bench.step(claimed, wait(), taken=taken, release=False))
    return found + offered


@law("M2")
async def a_long_log_is_read_to_its_end(bench: Bench) -> None:
    """However many came before, each is offered in its turn, and none twice."""
    for name, each in (("a", 1), ("b", 7)):
        claimed = await bench.begin(name)
        batch = [bench.event() for _ in range(LOG)]
        sent = [one.position for one in await bench.store.deliver(batch)]
        first = positions(await bench.step(claimed, wait(), release=False))
        same(await drain(bench, claimed, first, each), sent)


@law("M2")
async def a_long_log_of_one_wait_hides_no_other(bench: Bench) -> None:
    """A message for one wait is offered however many for another are before it."""
    claimed = await bench.begin()
    await bench.store.deliver([bench.event() for _ in range(200)])
    last = await bench.send("sent")
    committed = await bench.step(claimed, wait(), wait("sent:1", "sent"))
    same(last.position in positions(committed), True, "the other wait's message is offered")
