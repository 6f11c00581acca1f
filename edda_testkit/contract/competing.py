"""The checks about instances that compete for messages: each is processed by exactly one."""

import asyncio

from edda.commands import Cancellation, Result
from edda.ports import Claimed, Status
from edda_testkit.contract.bench import Bench, channel, law, positions, receive, refused, same

JOBS = (channel(),)
NEXT = receive()

# ---- Giving ------------------------------------------------------------------------------------


async def given(bench: Bench) -> dict[str, list[int]]:
    """What each instance that is ready was given; all of them are claimed."""
    return {one.lease.instance_id: positions(one) for one in await bench.claim()}


@law("M3")
async def each_is_given_to_one(bench: Bench) -> None:
    """Messages go to those who wait, the longest waiting first, one each; the rest stays."""
    await bench.compete("b", "c", "a")
    sent = [await bench.send("job") for _ in range(5)]
    same([one.woken for one in sent], [("b",), ("c",), ("a",), (), ()])
    found = await given(bench)
    same(found, {id: [one.position] for id, one in zip("bca", sent, strict=False)})


@law("M2")
async def a_queue_is_there_before_its_takers(bench: Bench) -> None:
    """What came before the subscription, and before the instance, is taken, in log order."""
    sent = [(await bench.send("job")).position for _ in range(3)]
    claimed = await bench.begin()
    for n, position in enumerate(sent, 1):
        committed = await bench.step(claimed, receive(f"receive:{n}"), subscriptions=JOBS)
        same((positions(committed), committed.is_released), ([position], False))
        await bench.step(claimed, taken=[position or 0], release=False, subscriptions=JOBS)
    committed = await bench.step(claimed, receive("receive:4"), subscriptions=JOBS)
    same((positions(committed), committed.is_released), ([], True))


@law("M3")
async def the_next_comes_with_the_next_wait(bench: Bench) -> None:
    """Who has processed its message gets the next of the queue; nobody else is disturbed."""
    await bench.compete("a")
    first, second = await bench.send("job"), await bench.send("job")
    claimed = await bench.claim_one()
    same(positions(claimed), [first.position])
    same(second.woken, ())
    committed = await bench.step(
        claimed, receive("receive:2"), taken=positions(claimed), subscriptions=JOBS
    )
    same((positions(committed), committed.is_released), ([second.position], False))
    same(committed.woken, ())


@law("M3")
async def a_new_wait_stands_at_the_end(bench: Bench) -> None:
    """Who was served waits behind those who waited already."""
    await bench.compete("a", "b", "c")
    await bench.send("job")
    claimed = await bench.claim_one()
    await bench.step(claimed, receive("receive:2"), taken=positions(claimed), subscriptions=JOBS)
    woken = [(await bench.send("job")).woken for _ in range(4)]
    same(woken, [("b",), ("c",), ("a",), ()])


@law("M3")
async def two_waits_of_one_instance_get_one_at_a_time(bench: Bench) -> None:
    """An instance that waits twice is given the next when it has processed the one before."""
    both = (receive("receive:1"), receive("receive:2"))
    await bench.suspend("a", *both, subscriptions=JOBS)
    await bench.compete("b")
    sent = [await bench.send("job") for _ in range(3)]
    same([one.woken for one in sent], [("a",), ("b",), ()])
    claimed = {one.lease.instance_id: one for one in await bench.claim()}
    same(positions(claimed["a"]), [sent[0].position])
    committed = await bench.step(
        claimed["a"], both[1], taken=positions(claimed["a"]), subscriptions=JOBS
    )
    same(positions(committed), [sent[2].position])
    committed = await bench.step(claimed["a"], taken=positions(committed), subscriptions=JOBS)
    same((positions(committed), committed.is_released), ([], True))


@law("M3")
async def channels_have_queues_of_their_own(bench: Bench) -> None:
    """Who has a message of one channel can be given one of another."""
    waits = (receive("receive:1"), receive("receive:2", "task"))
    await bench.suspend("a", *waits, subscriptions=[channel(), channel("task")])
    sent = [await bench.send(type) for type in ("job", "task", "job", "task")]
    same([one.woken for one in sent], [("a",), ("a",), (), ()])
    same(positions(await bench.claim_one()), [sent[0].position, sent[1].position])


@law("M3")
async def what_is_given_is_told_to_the_holder(bench: Bench) -> None:
    """A leased instance is named as woken, and its next commit brings what it was given."""
    claimed = await bench.begin()
    await bench.step(claimed, NEXT, release=False, subscriptions=JOBS)
    sent = await bench.send("job")
    same(sent.woken, ("a",))
    same(await bench.ready(), [])
    committed = await bench.step(claimed, NEXT, subscriptions=JOBS)
    same((positions(committed), committed.is_released), ([sent.position], False))


@law("M3")
async def who_only_looks_keeps_what_it_has(bench: Bench) -> None:
    """A commit that leaves the wait open changes nothing, also when an earlier one came back."""
    await bench.compete("a", "b")
    first, second = await bench.send("job"), await bench.send("job")
    claimed = {one.lease.instance_id: one for one in await bench.claim()}
    await bench.step(claimed["a"], subscriptions=JOBS)  # gives the first one back
    looked = await bench.step(claimed["b"], NEXT, release=False, subscriptions=JOBS)
    same(positions(looked), [second.position])
    await bench.step(claimed["b"], taken=[second.position or 0])
    found = await bench.step(await bench.begin("c"), NEXT, subscriptions=JOBS)
    same(positions(found), [first.position])


# ---- Keeping and giving back -------------------------------------------------------------------


@law("M3")
async def who_crashes_keeps_what_it_has(bench: Bench) -> None:
    """What was given to an instance stays its own when its lease lapses or is given back."""
    await bench.compete("a", "b")
    sent = await bench.send("job")
    same(positions(await bench.claim_one("dead")), [sent.position])
    bench.clock.advance(31)
    same(positions(await bench.claim_one("going")), [sent.position])
    await bench.store.release("going")
    claimed = await bench.claim_one()
    same(positions(claimed), [sent.position])
    taken = await bench.step(claimed, taken=positions(claimed), subscriptions=JOBS)
    same((taken.messages, taken.woken), ((), ()))
    same(await bench.ready(), [])


@law("M3")
async def who_gives_up_its_wait_gives_back(bench: Bench) -> None:
    """A message whose wait is dropped untaken goes to the next one who waits, who is woken."""
    await bench.compete("a", "b")
    first, second = await bench.send("job"), await bench.send("job", to="a")
    claimed = await bench.claim_one()
    same(positions(claimed), [first.position, second.position])
    committed = await bench.step(claimed, subscriptions=JOBS)
    same((committed.messages, committed.woken), ((), ("b",)))
    same(await given(bench), {"b": [first.position]})


@law("M3")
async def what_nobody_wants_yet_stands_in_its_place(bench: Bench) -> None:
    """A message that was given back comes before those that came after it."""
    await bench.compete("a")
    sent = [(await bench.send("job")).position for _ in range(3)]
    claimed = await bench.claim_one()
    same((await bench.step(claimed, subscriptions=JOBS)).woken, ())
    claimed = await bench.begin("b")
    seen: list[int] = []
    for n in range(3):
        committed = await bench.step(
            claimed, receive(f"receive:{n}"), taken=seen[-1:], subscriptions=JOBS
        )
        seen += positions(committed)
    same(seen, sent)


@law("M3")
async def a_wait_in_place_of_another_keeps_it(bench: Bench) -> None:
    """Who drops one wait and registers another in the same commit keeps what it was given."""
    await bench.compete("a", "b")
    sent = await bench.send("job")
    claimed = await bench.claim_one()
    other = await bench.step(claimed, receive("receive:2"), subscriptions=JOBS)
    same((positions(other), other.woken), ([sent.position], ()))
    same(await bench.ready(), [])


@law("M3")
async def the_stuck_give_back(bench: Bench) -> None:
    """A parked instance keeps its wait, but nothing that others could take."""
    await bench.compete("a", "b")
    sent = await bench.send("job")
    claimed = await bench.claim_one()
    committed = await bench.step(claimed, status=Status.STUCK, problem="{}")
    same((committed.is_released, committed.woken), (True, ("b",)))
    same(await given(bench), {"b": [sent.position]})
    same((await bench.send("job")).woken, ())


@law("M3")
async def who_is_tried_again_competes_again(bench: Bench) -> None:
    """What came for nobody else while an instance was stuck is its own when it goes on."""
    await bench.compete("a")
    sent = [await bench.send("job") for _ in range(2)]
    claimed = await bench.claim_one()
    await bench.step(claimed, status=Status.STUCK, problem="{}")
    await bench.store.retry_stuck()
    claimed = await bench.claim_one()
    committed = await bench.step(claimed, NEXT, subscriptions=JOBS)
    same((positions(committed), committed.is_released), ([sent[0].position], False))


@law("M3")
async def the_ended_give_back(bench: Bench) -> None:
    """Who ends, well or not, with a message it has not taken leaves it to the next."""
    await bench.compete("a", "b", "c")
    sent = await bench.send("job")
    claimed = await bench.claim_one()
    await bench.finish(claimed, Status.COMPLETED, Result("1"))
    claimed = await bench.claim_one()
    same((claimed.lease.instance_id, positions(claimed)), ("b", [sent.position]))
    await bench.store.request_cancel("b")
    committed = await bench.finish(claimed, Status.CANCELLED, Cancellation())
    same(committed.woken, ("c",))
    same(await given(bench), {"c": [sent.position]})


@law("M3")
async def what_was_taken_is_gone(bench: Bench) -> None:
    """What an instance took in its last commit, or with its end, is given to nobody."""
    await bench.compete("a", "b")
    await bench.send("job")
    claimed = await bench.claim_one()
    finished = await bench.step(claimed, status=Status.COMPLETED, taken=positions(claimed))
    same(finished.woken, ())
    await bench.compete("c")
    same(await bench.ready(), [])


@law("T3")
async def a_refused_commit_gives_nothing_back(bench: Bench) -> None:
    """Who has lost its lease neither takes nor gives back for the instance."""
    await bench.compete("a", "b")
    sent = await bench.send("job")
    old = await bench.claim_one()
    bench.clock.advance(31)
    new = await bench.claim_one()
    await refused(old.lease, bench.step(old))
    await refused(old.lease, bench.step(old, taken=positions(old)))
    same(await bench.ready(), [])
    same(positions(await bench.step(new, NEXT, subscriptions=JOBS)), [sent.position])


# ---- Beside others -----------------------------------------------------------------------------


@law("M3")
async def what_is_addressed_is_not_competed_for(bench: Bench) -> None:
    """A message to one instance is its own, and does not count as the one it was given."""
    await bench.compete("a", "b")
    mine = await bench.send("job", to="b")
    same(mine.woken, ("b",))
    first, second = await bench.send("job"), await bench.send("job")
    same((first.woken, second.woken), (("a",), ("b",)))
    found = await given(bench)
    same(found, {"a": [first.position], "b": [mine.position, second.position]})


@law("M3")
async def broadcast_takes_nothing_from_the_queue(bench: Bench) -> None:
    """On one channel every broadcast subscriber gets each message, and one competitor does."""
    everything = receive("receive:1", "job", "broadcast")
    for id in ("x", "y"):
        await bench.suspend(id, everything, subscriptions=[channel("job", "broadcast")])
    await bench.compete("a", "b")
    sent = [await bench.send("job") for _ in range(2)]
    same([sorted(one.woken) for one in sent], [["a", "x", "y"], ["b", "x", "y"]])
    both = [one.position for one in sent]
    found = await given(bench)
    same(found, {"x": both, "y": both, "a": both[:1], "b": both[1:]})


@law("M3")
async def none_is_lost_and_none_is_taken_twice(bench: Bench) -> None:
    """Many who compete at the same time, while messages come, process each exactly once."""
    ids = [f"i{n}" for n in range(8)]
    claimed = [await bench.begin(id) for id in ids]
    sent: list[int] = []
    processed: list[int] = []

    async def send() -> None:
        sent.append((await bench.send("job")).position or 0)

    async def process(one: Claimed) -> None:
        processed.extend(await work(bench, one))

    await asyncio.gather(*map(process, claimed), *(send() for _ in range(40)))
    for one in claimed:  # what came last
        await process(one)
    same(sorted(processed), sorted(sent), "processed")


async def work(bench: Bench, claimed: Claimed) -> list[int]:
    """Take what one instance is given, until it is given nothing; what that was."""
    seen: list[int] = []
    found: list[int] = []
    while True:
        n = len(seen)
        committed = await bench.step(
            claimed, receive(f"receive:{n}"), taken=found, release=False, subscriptions=JOBS
        )
        found = positions(committed)
        if not found:
            await bench.step(claimed, release=False, subscriptions=JOBS)
            return seen
        seen += found
