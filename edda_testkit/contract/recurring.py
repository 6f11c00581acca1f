"""The checks about instances that go on with a fresh history, as `ctx.recur` has it."""

from datetime import timedelta

from edda.history import CancelRequested, Started
from edda_testkit.contract.bench import (
    Bench,
    channel,
    law,
    positions,
    receive,
    refused,
    same,
    started,
    wait,
)

JOBS = (channel(),)
NEWS = (channel("news", "broadcast"),)


@law("T1")
async def a_restart_replaces_the_history(bench: Bench) -> None:
    """The history is the new start alone, and the next commit goes on from its length."""
    claimed = await bench.begin()
    await bench.step(claimed, events=[bench.asked(1), bench.asked(2)], release=False)
    bench.clock.advance(5)
    committed = await bench.recur(claimed)
    same((committed.is_released, committed.messages), (True, ()))
    fresh = started(bench.clock.now(), '{"again":true}')
    same(await bench.store.history("a"), [fresh])
    claimed = await bench.claim_one()
    same(claimed.history, (fresh,))
    await refused(claimed.lease, bench.step(claimed, length=3))
    asked = bench.asked(1)
    await bench.step(claimed, events=[asked], length=1)
    same(await bench.store.history("a"), [fresh, asked])


@law("T1")
async def a_restarted_instance_has_not_ended(bench: Bench) -> None:
    """It has no outcome, is as old as before, and is ready at its due time."""
    claimed = await bench.begin()
    created = await bench.look()
    bench.clock.advance(5)
    await bench.recur(claimed)
    view = await bench.look()
    same((view.outcome, view.problem, view.waits), (None, None, ()))
    same(view.started_at, created.started_at, "started_at")
    same(await bench.store.next_due(["w"]), bench.clock.now(), "next_due")
    same(await bench.ready(), ["a"])


@law("T1")
async def a_restart_gives_the_lease_back_whatever_there_is(bench: Bench) -> None:
    """Neither messages nor a cancel request keep the lease; both come with the next claim."""
    claimed = await bench.begin()
    await bench.step(claimed, wait(), release=False)
    sent = await bench.send()
    await bench.store.request_cancel("a")
    committed = await bench.recur(claimed)
    same((committed.is_released, committed.messages), (True, ()))
    await refused(claimed.lease, bench.step(claimed))
    claimed = await bench.claim_one()
    same((claimed.cancel_requested, positions(claimed)), (True, []))
    requested = CancelRequested(1, bench.clock.now())
    committed = await bench.step(claimed, wait(), events=[requested], length=1)
    same(positions(committed), [sent.position])


@law("T1")
async def a_restart_drops_the_waits(bench: Bench) -> None:
    """What the old history waited for wakes nobody, and is found by the waits of the new one."""
    await bench.suspend("a", wait(), due=bench.clock.now())
    await bench.recur(await bench.claim_one())
    same((await bench.look()).waits, ())
    claimed = await bench.claim_one()
    await bench.step(claimed, due=bench.clock.now() + timedelta(seconds=5))
    sent = await bench.send()
    same(sent.woken, ())
    bench.clock.advance(5)
    claimed = await bench.claim_one()
    same(positions(await bench.step(claimed, wait())), [sent.position])


@law("M2")
async def a_restart_keeps_what_was_taken_and_what_was_not(bench: Bench) -> None:
    """An event that was taken is never offered again; one that was not is there for the next."""
    claimed = await bench.begin()
    sent = [(await bench.send()).position or 0 for _ in range(4)]
    found = positions(await bench.step(claimed, wait(), release=False))
    await bench.step(claimed, wait(), taken=found[:1], release=False)
    await bench.recur(claimed, taken=found[1:2])
    claimed = await bench.claim_one()
    same(positions(await bench.step(claimed, wait())), sent[2:])


@law("M2")
async def a_restart_keeps_subscriptions(bench: Bench) -> None:
    """A channel is read on from where the old history left it."""
    hear = receive("receive:1", "news", "broadcast")
    claimed = await bench.begin()
    await bench.step(claimed, release=False, subscriptions=NEWS)
    sent = [(await bench.send("news")).position for _ in range(2)]
    found = positions(await bench.step(claimed, hear, release=False, subscriptions=NEWS))
    await bench.recur(claimed, taken=found[:1], subscriptions=NEWS)
    sent.append((await bench.send("news")).position)
    claimed = await bench.claim_one()
    same(positions(await bench.step(claimed, hear, subscriptions=NEWS)), sent[1:])


@law("M2")
async def a_restart_without_subscriptions_drops_them(bench: Bench) -> None:
    """As in every commit, the subscriptions are those it has."""
    hear = receive("receive:1", "news", "broadcast")
    await bench.suspend("a", subscriptions=NEWS, due=bench.clock.now())
    await bench.send("news")
    await bench.recur(await bench.claim_one())
    claimed = await bench.claim_one()
    same(positions(await bench.step(claimed, hear, subscriptions=NEWS)), [])


@law("M3")
async def a_restart_gives_back(bench: Bench) -> None:
    """What was given to the old history and not taken is competed for, by the new one, too."""
    await bench.suspend("a", receive(), subscriptions=JOBS)
    await bench.compete("b")
    sent = [(await bench.send("job")).position for _ in range(3)]
    first, _ = await bench.claim()
    committed = await bench.recur(first, subscriptions=JOBS)
    same(committed.woken, ())
    claimed = await bench.claim_one()
    same(positions(await bench.step(claimed, receive(), subscriptions=JOBS)), sent[:1])


@law("T1")
async def a_fresh_history_may_be_cancelled_again(bench: Bench) -> None:
    """A cancellation that the old history has is not one of the new, whenever it was set down."""
    for name in ("before", "with"):
        claimed = await bench.begin(name)
        await bench.store.request_cancel(name)
        requested = CancelRequested(1, bench.clock.now())
        if name == "before":
            await bench.step(claimed, events=[requested], release=False)
            await bench.recur(claimed)
        else:
            await bench.step(
                claimed, events=[requested], restart=started(bench.clock.now()), due=None
            )
        same((await bench.store.request_cancel(name)), True, name)
        claimed = await bench.claim_one()
        same((claimed.lease.instance_id, claimed.cancel_requested), (name, True))
        await bench.step(claimed, events=[CancelRequested(1, bench.clock.now())], length=1)


@law("T3")
async def a_refused_restart_changes_nothing(bench: Bench) -> None:
    """Who has lost its lease cannot begin anew."""
    await bench.suspend("a", wait(), due=bench.clock.now(), subscriptions=NEWS)
    old = await bench.claim_one()
    bench.clock.advance(31)
    await bench.claim_one()
    view, history = await bench.look(), await bench.store.history("a")
    await refused(old.lease, bench.recur(old))
    same((await bench.look(), await bench.store.history("a")), (view, history))
    same((await bench.send()).woken, ("a",))


@law("T5", needs_disk=True)
async def a_restart_is_not_lost_by_closing(bench: Bench) -> None:
    """After closing and opening again there is the new history, its channels and its queue."""
    await bench.send("job")
    claimed = await bench.begin()
    await bench.step(claimed, events=[bench.asked(1)], release=False, subscriptions=NEWS)
    sent = await bench.send("news")
    await bench.recur(claimed, subscriptions=NEWS)
    await bench.store.close()
    await bench.store.open()
    claimed = await bench.claim_one()
    same([type(event) for event in claimed.history], [Started])
    hear = receive("receive:1", "news", "broadcast")
    committed = await bench.step(claimed, hear, receive("receive:2"), subscriptions=(*NEWS, *JOBS))
    same(len(committed.messages), 2, "messages")
    same(sent.position in positions(committed), True, "the news is there")
