"""The checks about what goes with a step: messages it sends, instances it cancels, who is woken."""

from edda.commands import Result
from edda.history import CancelRequested, Finished
from edda.ports import Status
from edda_testkit.contract.bench import Bench, channel, law, positions, receive, refused, same, wait

# ---- Messages ----------------------------------------------------------------------------------


@law("T1")
async def messages_are_delivered_with_the_step(bench: Bench) -> None:
    """What a step sends is accepted as other events are, and wakes those who wait for it."""
    await bench.suspend("b", wait())
    await bench.suspend("c", wait(match={"data": 2}))
    claimed = await bench.begin()
    events = [bench.event(data=1), bench.event(data=2), bench.event("unheard")]
    committed = await bench.step(claimed, messages=events)
    same((sorted(committed.woken), committed.is_released), (["b", "c"], True))
    found = {
        one.lease.instance_id: [message.envelope for message in one.messages]
        for one in await bench.claim()
    }
    same(found, {"b": events[:2], "c": events[1:2]})
    same([one.is_duplicate for one in await bench.store.deliver(events)], [True] * 3)


@law("T1")
async def the_end_of_an_instance_may_send(bench: Bench) -> None:
    """The last commit of an instance, and one that begins anew, send as every other does."""
    await bench.suspend("b", wait())
    claimed = await bench.begin()
    first = await bench.recur(claimed, messages=[bench.event()])
    same(first.woken, ("b",))
    claimed = {one.lease.instance_id: one for one in await bench.claim()}["a"]
    finished = Finished(1, bench.clock.now(), Result("1"))
    last = await bench.step(
        claimed, events=[finished], status=Status.COMPLETED, messages=[bench.event()], length=1
    )
    same(last.woken, ("b",))


@law("M1")
async def what_a_step_sends_twice_is_accepted_once(bench: Bench) -> None:
    """A repeat changes nothing: in one step, from another, or of what came from outside."""
    await bench.suspend("b", wait())
    await bench.send(id="x")
    claimed = await bench.begin()
    twice = [bench.event(id="e"), bench.event(id="e"), bench.event(id="x")]
    same((await bench.step(claimed, messages=twice, release=False)).woken, ("b",))
    committed = await bench.step(claimed, messages=twice, events=[bench.asked(1)])
    same((committed.woken, committed.is_released), ((), True))
    same(len(await bench.store.history("a")), 2, "events")
    same([one.envelope.id for one in (await bench.claim_one()).messages], ["x", "e"])


@law("M2")
async def an_instance_may_send_to_itself(bench: Bench) -> None:
    """A step whose message fits its own wait brings it, keeps the lease and wakes nobody else."""
    claimed = await bench.begin()
    committed = await bench.step(claimed, wait(), messages=[bench.event(id="e", to="a")])
    same([one.envelope.id for one in committed.messages], ["e"])
    same((committed.is_released, committed.woken), (False, ()))
    committed = await bench.step(claimed, taken=positions(committed))
    same((committed.messages, committed.is_released), ((), True))
    same(await bench.ready(), [])


@law("M2")
async def an_instance_hears_its_own_channel(bench: Bench) -> None:
    """A step may subscribe, publish and receive; a competitor that is alone gets its own job."""
    subscriptions = (channel("news", "broadcast"), channel())
    waits = (receive("receive:1", "news", "broadcast"), receive("receive:2"))
    claimed = await bench.begin()
    events = [bench.event("news"), bench.event("job")]
    committed = await bench.step(claimed, *waits, subscriptions=subscriptions, messages=events)
    same([one.envelope for one in committed.messages], events)
    same((committed.is_released, committed.woken), (False, ()))


@law("T3")
async def a_refused_step_sends_nothing(bench: Bench) -> None:
    """With a lease that is not held nothing is delivered, posted or cancelled."""
    await bench.suspend("b", wait())
    claimed = await bench.begin()
    await bench.step(claimed)
    event = bench.event()
    for length in (1, 7):
        commit = bench.step(
            claimed, messages=[event], outbox=[bench.event()], cancels=["b"], length=length
        )
        await refused(claimed.lease, commit)
    same(await bench.store.outgoing(), [])
    same(await bench.ready(), [])
    same((await bench.store.deliver([event]))[0].woken, ("b",))
    same((await bench.claim_one()).cancel_requested, False, "cancel_requested")


@law("M6")
async def what_a_step_sends_nobody_can_refuse(bench: Bench) -> None:
    """There is nobody to tell: it is accepted, and the instances that wait settle it."""
    await bench.suspend("b", wait(model="m:M"))
    same((await bench.step(await bench.begin(), messages=[bench.event()])).woken, ("b",))


# ---- Cancels -----------------------------------------------------------------------------------


@law("T1")
async def a_step_may_cancel_others(bench: Bench) -> None:
    """The instances it names are asked to cancel, and woken, once each."""
    for id in ("b", "c", "d"):
        await bench.suspend(id)
    claimed = await bench.begin()
    committed = await bench.step(claimed, cancels=["c", "b", "c"])
    same((sorted(committed.woken), committed.is_released), (["b", "c"], True))
    found = {one.lease.instance_id: one.cancel_requested for one in await bench.claim()}
    same(found, {"b": True, "c": True})


@law("T1")
async def a_needless_cancel_changes_nothing(bench: Bench) -> None:
    """Who is unknown, has ended, or is being cancelled already is passed over."""
    await bench.finish(await bench.begin("ended"), Status.COMPLETED, Result("1"))
    asked = await bench.begin("asked")
    await bench.store.request_cancel("asked")
    await bench.step(asked, events=[CancelRequested(1, bench.clock.now())])
    claimed = await bench.begin()
    committed = await bench.step(
        claimed, events=[bench.asked(1)], cancels=["nobody", "ended", "asked"]
    )
    same((committed.woken, committed.is_released), ((), True))
    same(await bench.ready(), [])
    same((await bench.look("ended")).status, Status.COMPLETED)


@law("T1")
async def an_instance_may_cancel_itself(bench: Bench) -> None:
    """A step that cancels its own instance is told so, and keeps the lease for it."""
    claimed = await bench.begin()
    committed = await bench.step(claimed, events=[bench.asked(1)], cancels=["a"])
    same((committed.cancel_requested, committed.is_released), (True, False))
    same(committed.woken, ())
    requested = CancelRequested(2, bench.clock.now())
    committed = await bench.step(claimed, events=[requested])
    same((committed.cancel_requested, committed.is_released), (False, True))


@law("T1")
async def the_end_is_not_cancelled(bench: Bench) -> None:
    """A step that ends its instance and cancels it ends it."""
    claimed = await bench.begin()
    finished = Finished(1, bench.clock.now(), Result("1"))
    committed = await bench.step(claimed, events=[finished], status=Status.COMPLETED, cancels=["a"])
    same((committed.is_released, committed.woken), (True, ()))
    same((await bench.look()).status, Status.COMPLETED)
    same(await bench.ready(), [])


@law("H3")
async def the_stuck_are_asked_too(bench: Bench) -> None:
    """A stuck instance that a step cancels has the request when it goes on."""
    await bench.step(await bench.begin("b"), status=Status.STUCK, problem="{}")
    await bench.step(await bench.begin(), cancels=["b"])
    same(await bench.ready(), [])
    await bench.store.retry_stuck()
    same((await bench.claim_one()).cancel_requested, True, "cancel_requested")


# ---- Waking ------------------------------------------------------------------------------------


@law("M5")
async def those_who_are_woken_are_named_once(bench: Bench) -> None:
    """An instance with several things to do by a step is named once, and is ready once."""
    await bench.suspend("b", wait("paid:1"), wait("paid:2"))
    claimed = await bench.begin()
    events = [bench.event(), bench.event()]
    same((await bench.step(claimed, messages=events, cancels=["b"])).woken, ("b",))
    same(len((await bench.claim_one()).messages), 2, "messages")


@law("T3")
async def those_who_are_leased_are_told_by_their_holder(bench: Bench) -> None:
    """A leased instance is named, keeps its lease, and finds all of it with its next commit."""
    other = await bench.begin("b", worker="other")
    await bench.step(other, wait(), release=False)
    committed = await bench.step(await bench.begin(), messages=[bench.event()], cancels=["b"])
    same(committed.woken, ("b",))
    same(await bench.ready(), [])
    committed = await bench.step(other, wait())
    same((len(committed.messages), committed.cancel_requested), (1, True))
