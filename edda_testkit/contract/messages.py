"""The checks about messages: accepting, matching and refusing them."""

import asyncio
from collections.abc import Sequence

from edda.events import Envelope
from edda.ports import Status, Wait
from edda_testkit.contract.bench import Bench, law, positions, same, wait

# ---- Accepting ---------------------------------------------------------------------------------


@law("M1")
async def an_event_is_accepted_once(bench: Bench) -> None:
    """The second event of one source and id is a duplicate: no position, nobody woken."""
    await bench.suspend("a", wait())
    first = await bench.send(id="e", source="s")
    same((first.woken, first.is_duplicate), (("a",), False))
    again = await bench.send(id="e", source="s")
    same((again.position, again.woken, again.is_duplicate), (None, (), True))
    other = await bench.send("other", {"n": 2}, id="e", source="s")
    same((other.position, other.is_duplicate), (None, True))
    same(positions(await bench.claim_one()), [first.position])


@law("M1")
async def sources_have_ids_of_their_own(bench: Bench) -> None:
    """The same id from another source is another event."""
    first = await bench.send(id="e", source="s")
    second = await bench.send(id="e", source="t")
    same((first.is_duplicate, second.is_duplicate), (False, False))
    same(first.position != second.position, True, "positions differ")


@law("M1")
async def a_duplicate_may_stand_in_its_own_batch(bench: Bench) -> None:
    """Of two events of one source and id in a batch the first is accepted."""
    batch = [bench.event(id=one) for one in ("e", "f", "e")]
    delivered = await bench.store.deliver(batch)
    same([one.is_duplicate for one in delivered], [False, False, True])


@law("M1")
async def duplicates_may_come_together(bench: Bench) -> None:
    """Of one event delivered many times at once, one is accepted."""
    await bench.suspend("a", wait())
    delivered = await asyncio.gather(*(bench.send(id="e") for _ in range(10)))
    same(sum(one.is_duplicate for one in delivered), 9, "duplicates")
    same(len((await bench.claim_one()).messages), 1, "messages")


@law("M2")
async def positions_grow(bench: Bench) -> None:
    """Each accepted event has a higher position than the ones before, in the order of a batch."""
    batch = await bench.store.deliver([bench.event(one) for one in ("paid", "sent", "paid")])
    last = await bench.send()
    found = [one.position or 0 for one in (*batch, last)]
    same(found, sorted(set(found)), "positions")


@law("M2")
async def a_message_comes_as_it_was_sent(bench: Bench) -> None:
    """A message has its position, the time of its acceptance, and the event, text and all."""
    await bench.suspend("a", wait())
    at = bench.clock.advance(1, microseconds=1)
    event = bench.event(data={"n": 1.5, "s": "Ægir \U0001f30a '\""}, to="a")
    (delivered,) = await bench.store.deliver([event])
    bench.clock.advance(5)
    (message,) = (await bench.claim_one()).messages
    same((message.position, message.at, message.envelope), (delivered.position, at, event))


@law("M2")
async def nobody_needs_to_wait(bench: Bench) -> None:
    """An event that nobody waits for is accepted, and wakes nobody."""
    await bench.suspend("a", wait("sent:1", "sent"))
    delivered = await bench.send("paid")
    same((delivered.position is None, delivered.woken), (False, ()))
    same((await bench.send(to="nobody")).is_duplicate, False)
    same(await bench.ready(), [])


# ---- Matching ----------------------------------------------------------------------------------


async def fits(bench: Bench, waits: Sequence[Wait], *events: Envelope) -> list[list[str]]:
    """Which waits, each of an instance of its own, each event wakes."""
    for n, one in enumerate(waits):
        await bench.suspend(f"{n}", one)
    delivered = [(await bench.store.deliver([event]))[0] for event in events]
    return [sorted(one.woken) for one in delivered]


@law("M3")
async def a_match_needs_equal_values(bench: Bench) -> None:
    """5 is 5.0, but not "5"; 1 is not true; null is a value; objects are equal in any order."""
    wanted: list[object] = [5, "5", True, 1, None, {"a": 1, "b": [2]}, "", "5 "]
    waits = [wait(match={"data.n": value}) for value in wanted]
    sent: list[object] = [5, 5.0, "5", True, 1, None, {"b": [2], "a": 1}, "", [5]]
    found = await fits(bench, waits, *(bench.event(data={"n": value}) for value in sent))
    same(found, [["0"], ["0"], ["1"], ["2"], ["3"], ["4"], ["5"], ["6"], []])


@law("M3")
async def a_missing_value_never_matches(bench: Bench) -> None:
    """A path that leads nowhere fits nothing, not even null."""
    waits = [wait(match={"data.n": None}), wait(match={"data.n": None, "data.m": 1})]
    found = await fits(
        bench,
        waits,
        bench.event(data={}),
        bench.event(data=None),
        bench.event(data=[1]),
        bench.event(data={"n": None}),
        bench.event(data={"n": None, "m": 1}),
    )
    same(found, [[], [], [], ["0"], ["0", "1"]])


@law("M3")
async def every_path_of_a_match_counts(bench: Bench) -> None:
    """Attributes, dotted paths and list indices are compared, all of them, for each wait."""
    waits = [
        wait(match={"data.order.lines.1.sku": "x", "source": "shop"}),
        wait(match={"data.order.lines.1.sku": "x"}),
        wait(match={"source": "shop"}),
        wait(match={"source": "elsewhere"}),
        wait(),
    ]
    order = {"order": {"lines": [{"sku": "y"}, {"sku": "x"}]}}
    found = await fits(
        bench,
        waits,
        bench.event(data=order),
        bench.event(data=order, source="elsewhere"),
        bench.event(data={"order": {"lines": [{"sku": "x"}]}}),
        bench.event("sent", order),
    )
    same(found, [["0", "1", "2", "4"], ["1", "3", "4"], ["2", "4"], []])


@law("M3")
async def a_match_finds_what_came_before(bench: Bench) -> None:
    """The log is searched for a match as strictly as new events are."""
    claimed = await bench.begin()
    sent = [await bench.send(data={"n": n}) for n in (1, "1", True, 1.0, 2)]
    committed = await bench.step(claimed, wait(match={"data.n": 1}))
    same(positions(committed), [sent[0].position, sent[3].position])


@law("M3")
async def without_an_address_everybody_gets_it(bench: Bench) -> None:
    """An event for nobody in particular wakes every instance whose wait it fits, each once."""
    await bench.suspend("a", wait("paid:1"), wait("paid:2", match={"data": 1}))
    await bench.suspend("b", wait())
    await bench.suspend("c", wait("sent:1", "sent"))
    same((await bench.send(data=1)).woken, ("a", "b"))
    same([len(one.messages) for one in await bench.claim()], [1, 1], "messages of each")


@law("M3")
async def an_addressed_event_is_seen_by_its_addressee_alone(bench: Bench) -> None:
    """An event with an instance id wakes that instance only, and is in no other's log, ever."""
    await bench.suspend("a", wait())
    await bench.suspend("b", wait())
    later = await bench.begin("c")
    sent = await bench.send(to="b")
    same(sent.woken, ("b",))
    same(positions(await bench.claim_one()), [sent.position])
    same((await bench.step(later, wait())).messages, ())


@law("M3")
async def an_addressed_event_may_come_before_the_wait(bench: Bench) -> None:
    """An instance finds events addressed to it in the log, in order with those for all."""
    claimed = await bench.begin()
    sent = [await bench.send(to=to) for to in ("a", None, "b", "a", None)]
    expected = [sent[n].position for n in (0, 1, 3, 4)]
    same(positions(await bench.step(claimed, wait())), expected)


# ---- Judging -----------------------------------------------------------------------------------


def refuse_all(one: Wait, event: Envelope) -> str | None:
    """A judge that refuses everything."""
    return f"{one.id} refuses {event.id}"


def refuse_strict(one: Wait, event: Envelope) -> str | None:
    """A judge that refuses for waits with a model."""
    return f"{one.id} refuses {event.id}" if one.model else None


@law("M6")
async def what_every_wait_refuses_is_not_accepted(bench: Bench) -> None:
    """An event that all waits it fits refuse is not stored, and a corrected one may have its id."""
    await bench.suspend("a", wait("paid:1", model="m:M"))
    refused = await bench.send(id="e", judge=refuse_all)
    same((refused.position, refused.woken), (None, ()))
    same(refused.refusals, ("paid:1 refuses e",))
    same(await bench.ready(), [])
    corrected = await bench.send(id="e")
    same((corrected.is_duplicate, corrected.woken), (False, ("a",)))


@law("M6")
async def one_refusal_stops_its_batch(bench: Bench) -> None:
    """When one event of a batch is refused none is stored, and the refusal stands in its place."""
    await bench.suspend("a", wait(model="m:M"))
    await bench.suspend("b", wait("sent:1", "sent"))
    batch = [bench.event("sent", id="e"), bench.event("paid", id="f")]
    delivered = await bench.store.deliver(batch, refuse_strict)
    same([one.position for one in delivered], [None, None])
    same([one.refusals for one in delivered], [(), ("paid:1 refuses f",)])
    same(await bench.ready(), [])
    same([one.is_duplicate for one in await bench.store.deliver(batch)], [False, False])


@law("M6")
async def an_event_that_one_wait_takes_is_accepted(bench: Bench) -> None:
    """When some waits refuse and some do not, the event is stored; the turns settle the rest."""
    await bench.suspend("a", wait(model="m:M"))
    await bench.suspend("b", wait())
    sent = await bench.send(judge=refuse_strict)
    same((sent.position is None, sent.refusals, "b" in sent.woken), (False, (), True))
    claimed = {one.lease.instance_id: one for one in await bench.claim()}
    same(positions(claimed["b"]), [sent.position])


@law("M6")
async def a_wait_that_raises_refuses_nothing(bench: Bench) -> None:
    """A wait with `on_invalid="raise"` is for its workflow to refuse, not for the door."""
    await bench.suspend("a", wait(model="m:M", on_invalid="raise"))
    sent = await bench.send(judge=refuse_all)
    same((sent.woken, sent.refusals), (("a",), ()))
    same(positions(await bench.claim_one()), [sent.position])


@law("M6")
async def only_waits_that_fit_are_asked(bench: Bench) -> None:
    """The judge is asked about the waits an event fits; without any, the event is accepted."""
    asked: list[tuple[Wait, str]] = []

    def judge(one: Wait, event: Envelope) -> str | None:
        asked.append((one, event.id))
        return "no"

    fitting = wait("paid:1", match={"data": 1}, model="m:M")
    await bench.suspend("a", fitting)
    await bench.suspend("b", wait("paid:1", match={"data": 2}))
    await bench.suspend("c", wait("sent:1", "sent"))
    same((await bench.send(data=3, judge=judge)).position is None, False, "refused")
    same((await bench.send(data=2, to="a", judge=judge)).position is None, False, "refused")
    same((await bench.send(id="e", data=1, judge=judge)).refusals, ("no",))
    same(asked, [(fitting, "e")])


@law("M6")
async def a_broken_judge_changes_nothing(bench: Bench) -> None:
    """What a judge raises reaches the sender; nothing of the batch is stored."""

    def judge(one: Wait, event: Envelope) -> str | None:
        raise ZeroDivisionError(f"{one.id} {event.id}")

    await bench.suspend("a", wait("sent:1", "sent", model="m:M"))
    batch = [bench.event("paid", id="e"), bench.event("sent", id="f")]
    (raised,) = await asyncio.gather(bench.store.deliver(batch, judge), return_exceptions=True)
    same(type(raised), ZeroDivisionError)
    same([one.is_duplicate for one in await bench.store.deliver(batch)], [False, False])


@law("M6")
async def a_stuck_wait_still_judges(bench: Bench) -> None:
    """A stuck instance keeps its waits, so what only it would refuse is refused."""
    await bench.suspend("a", wait(model="m:M"), due=bench.clock.now())
    await bench.step(await bench.claim_one(), status=Status.STUCK, problem="{}")
    same((await bench.send(judge=refuse_all)).position, None)
