"""The checks about the outbox: what is committed to be posted is posted, at least once."""

from datetime import timedelta

from edda.commands import Result
from edda.events import Envelope
from edda.history import Finished
from edda.ports import Outgoing, Status
from edda_testkit.contract.bench import Bench, law, same, wait

# ---- Filling -----------------------------------------------------------------------------------


async def fill(bench: Bench, *names: str) -> list[Envelope]:
    """Commit steps, each with one event to be posted, a second apart; the events."""
    claimed = await bench.begin()
    events = [bench.event(data={"s": "Ægir \U0001f30a"}, id=name) for name in names]
    for event in events:
        await bench.step(claimed, outbox=[event], release=False)
        bench.clock.advance(1)
    return events


async def take(bench: Bench, limit: int = 100, lease_seconds: float = 60) -> list[str]:
    """Take what is due; the ids of the events."""
    found = await bench.store.take_outgoing(limit=limit, lease_seconds=lease_seconds)
    return [one.envelope.id for one in found]


async def place(bench: Bench, id: str) -> int:
    """The position of an event in the outbox."""
    return next(one.position for one in await bench.store.outgoing() if one.envelope.id == id)


@law("T1")
async def the_outbox_is_filled_with_the_step(bench: Bench) -> None:
    """What a step has to post is there, in order, as it was given, due at once; nobody hears it."""
    await bench.suspend("b", wait())
    claimed = await bench.begin()
    same((await bench.store.outgoing(), await bench.store.outgoing_due()), ([], None))
    events = [bench.event(data={"s": "Ægir \U0001f30a"}), bench.event(to="x")]
    committed = await bench.step(claimed, outbox=events)
    same((committed.woken, committed.is_released), ((), True))
    found = await bench.store.outgoing()
    same([one.envelope for one in found], events)
    same([(one.attempts, one.error) for one in found], [(0, None)] * 2)
    same(await bench.store.outgoing_due(), bench.clock.now())


@law("T1")
async def an_event_may_be_posted_twice(bench: Bench) -> None:
    """The outbox does not compare: what is put into it twice is posted twice."""
    claimed = await bench.begin()
    event = bench.event()
    await bench.step(claimed, outbox=[event, event], release=False)
    await bench.step(claimed, outbox=[event])
    found = await bench.store.outgoing()
    same([one.envelope for one in found], [event] * 3)
    same(len({one.position for one in found}), 3, "positions")


@law("T1")
async def the_last_step_may_post(bench: Bench) -> None:
    """The commit that ends an instance, or begins it anew, fills the outbox too."""
    claimed = await bench.begin()
    await bench.recur(claimed, outbox=[bench.event(id="e")])
    claimed = await bench.claim_one()
    finished = Finished(1, bench.clock.now(), Result("1"))
    await bench.step(
        claimed,
        events=[finished],
        status=Status.COMPLETED,
        outbox=[bench.event(id="f")],
        length=1,
    )
    same(await take(bench), ["e", "f"])


@law("T1")
async def the_outbox_is_listed_page_by_page(bench: Bench) -> None:
    """`outgoing` lists by position, those that are taken or failing too, and takes nothing."""
    await fill(bench, "e", "f", "g")
    await take(bench, 1)
    await bench.store.settle_outgoing(await place(bench, "f"), error="no", retry_at=None)
    pages: list[str] = []
    after = 0
    while page := await bench.store.outgoing(limit=2, after=after):
        same(len(page) <= 2, True, "at most two")
        pages += [one.envelope.id for one in page]
        after = page[-1].position
    same(pages, ["e", "f", "g"])
    same(await bench.store.outgoing(limit=0), [])


# ---- Posting -----------------------------------------------------------------------------------


@law("T2")
async def what_is_due_is_taken_oldest_first(bench: Bench) -> None:
    """Events are taken in the order of their commits, at most `limit` of them, each by one."""
    await fill(bench, "e", "f", "g")
    same(await take(bench, 0), [])
    same(
        (await take(bench, 2), await take(bench, 2), await take(bench, 2)), (["e", "f"], ["g"], [])
    )


@law("T2")
async def what_was_posted_is_gone(bench: Bench) -> None:
    """A settled event is not listed, not due and not taken any more; settling it again is fine."""
    await fill(bench, "e", "f")
    same(await take(bench, 1), ["e"])
    position = await place(bench, "e")
    for _ in range(2):
        await bench.store.settle_outgoing(position)
    await bench.store.settle_outgoing(position, error="late", retry_at=bench.clock.now())
    bench.clock.advance(1000)
    same([one.envelope.id for one in await bench.store.outgoing()], ["f"])
    same(await take(bench), ["f"])


@law("T2")
async def a_relay_that_dies_posts_no_more(bench: Bench) -> None:
    """What was taken and not settled is due again when the lease ends, not a microsecond before."""
    await fill(bench, "e")
    now = bench.clock.now()
    same(await take(bench, lease_seconds=1.5), ["e"])
    same(await bench.store.outgoing_due(), now + timedelta(seconds=1.5))
    bench.clock.advance(1.5, microseconds=-1)
    same(await take(bench), [])
    bench.clock.advance(microseconds=1)
    same(await take(bench), ["e"])
    (one,) = await bench.store.outgoing()
    same((one.attempts, one.error), (0, None))


@law("T2")
async def what_failed_is_tried_again_in_its_time(bench: Bench) -> None:
    """A failed attempt is counted, its error kept, and the event due at `retry_at`."""
    (event,) = await fill(bench, "e")
    for n in (1, 2):
        same(await take(bench), ["e"])
        retry_at = bench.clock.now() + timedelta(seconds=7, microseconds=n)
        position = await place(bench, "e")
        await bench.store.settle_outgoing(position, error=f"no {n} ø", retry_at=retry_at)
        same(await bench.store.outgoing(), [Outgoing(position, event, n, retry_at, f"no {n} ø")])
        same(await bench.store.outgoing_due(), retry_at)
        bench.clock.advance(7, microseconds=n - 1)
        same(await take(bench), [])
        bench.clock.advance(microseconds=1)
    (taken,) = await bench.store.take_outgoing(limit=9, lease_seconds=60)
    same((taken.envelope, taken.attempts, taken.error), (event, 2, "no 2 ø"))


@law("T2")
async def without_a_time_it_is_tried_at_once(bench: Bench) -> None:
    """A failure without `retry_at` makes the event due now."""
    await fill(bench, "e")
    await take(bench)
    await bench.store.settle_outgoing(await place(bench, "e"), error="no")
    same(await bench.store.outgoing_due(), bench.clock.now())
    same(await take(bench), ["e"])


@law("T2")
async def a_poisoned_event_holds_up_nobody(bench: Bench) -> None:
    """Of those that are due the longest due come first: one that always fails waits its turn."""
    await fill(bench, "bad", "e", "f")
    same(await take(bench, 1), ["bad"])
    await bench.store.settle_outgoing(await place(bench, "bad"), error="no")
    same(await take(bench, 1), ["e"])
    same(await take(bench, 1), ["f"])
    same(await take(bench, 1), ["bad"])


@law("T2")
async def an_unknown_event_is_settled_silently(bench: Bench) -> None:
    """Settling what is not there changes nothing."""
    await bench.store.settle_outgoing(99)
    await bench.store.settle_outgoing(99, error="no", retry_at=bench.clock.now())
    same((await bench.store.outgoing(), await bench.store.outgoing_due()), ([], None))


@law("T5", needs_disk=True)
async def the_outbox_outlives_the_process(bench: Bench) -> None:
    """After closing and opening again events are there, with their attempts, errors and leases."""
    await fill(bench, "e", "f")
    await take(bench, 1)
    due = bench.clock.now() + timedelta(seconds=5)
    await bench.store.settle_outgoing(await place(bench, "f"), error="no", retry_at=due)
    before = await bench.store.outgoing()
    await bench.store.close()
    await bench.store.open()
    same(await bench.store.outgoing(), before)
    same((await take(bench), await bench.store.outgoing_due()), ([], due))
