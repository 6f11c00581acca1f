"""The checks about turns: who may commit, when an instance is ready, and in what order."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from edda.ports import Status
from edda_testkit.contract.bench import Bench, law, positions, refused, same, started, wait

# ---- Committing --------------------------------------------------------------------------------


@law("T1")
async def a_commit_appends(bench: Bench) -> None:
    """Events of commits follow each other in the history, and come with the next claim."""
    claimed = await bench.begin()
    first, second, third = (bench.asked(seq) for seq in (1, 2, 3))
    await bench.step(claimed, events=[first, second], release=False)
    await bench.step(claimed, events=[third], due=bench.clock.now())
    history = [started(bench.clock.now()), first, second, third]
    same(await bench.store.history("a"), history)
    same(list((await bench.claim_one()).history), history)


@law("T3")
async def a_stale_token_is_refused_without_effect(bench: Bench) -> None:
    """A commit by who held the lease before is refused and leaves no trace."""
    await bench.suspend("a", wait("paid:1"), due=bench.clock.now())
    sent = await bench.send()
    old = await bench.claim_one()
    bench.clock.advance(31)
    new = await bench.claim_one()
    view, history = await bench.look(), await bench.store.history("a")
    await refused(
        old.lease,
        bench.step(
            old,
            wait("other:1", "other"),
            events=[bench.asked(1)],
            taken=positions(old),
            status=Status.STUCK,
            problem="{}",
        ),
    )
    same((await bench.look(), await bench.store.history("a")), (view, history))
    same(positions(await bench.step(new, wait("paid:1"), release=False)), [sent.position])


@law("T3")
async def another_worker_is_refused(bench: Bench) -> None:
    """A token counts for the worker it was given to."""
    claimed = await bench.begin()
    stolen = replace(claimed, lease=replace(claimed.lease, worker="thief"))
    await refused(stolen.lease, bench.step(stolen, events=[bench.asked(1)]))
    same(len(await bench.store.history("a")), 1, "events")


@law("T3")
async def an_unknown_instance_takes_no_commit(bench: Bench) -> None:
    """A commit for an instance that is not there is refused."""
    claimed = await bench.begin()
    unknown = replace(claimed, lease=replace(claimed.lease, instance_id="nobody"))
    await refused(unknown.lease, bench.step(unknown, length=1))


@law("T3")
async def a_commit_fits_the_history_it_saw(bench: Bench) -> None:
    """A commit made for a shorter or longer history than the stored one is refused."""
    claimed = await bench.begin()
    await bench.step(claimed, events=[bench.asked(1)], release=False)
    for length in (1, 3):
        commit = bench.step(claimed, events=[bench.asked(length)], length=length)
        await refused(claimed.lease, commit)
    same(len(await bench.store.history("a")), 2, "events")


@law("T3")
async def a_released_lease_commits_no_more(bench: Bench) -> None:
    """Who gave the lease back cannot commit with it."""
    claimed = await bench.begin()
    await bench.step(claimed)
    await refused(claimed.lease, bench.step(claimed, events=[bench.asked(1)]))


@law("T3")
async def a_lapsed_lease_nobody_took_still_commits(bench: Bench) -> None:
    """A late commit is fine as long as nobody took over: the token decides, not the clock."""
    claimed = await bench.begin()
    bench.clock.advance(1000)
    await bench.step(claimed, events=[bench.asked(1)], release=False)
    same(len(await bench.store.renew([claimed.lease], 30)), 1, "renewed")
    same(await bench.ready(), [])


@law("T3")
async def only_one_of_many_commits(bench: Bench) -> None:
    """Of commits for one history length made at the same time, one has an effect."""
    claimed = await bench.begin()
    commits = (
        bench.step(claimed, events=[bench.asked(1, f"step{n}")], release=False, length=1)
        for n in range(10)
    )
    outcomes = await asyncio.gather(*commits, return_exceptions=True)
    same(sum(isinstance(one, Exception) for one in outcomes), 9, "refused commits")
    same(len(await bench.store.history("a")), 2, "events")


@law("T3")
async def one_refusal_does_not_disturb_the_others(bench: Bench) -> None:
    """Commits made at the same time as one that is refused all take effect."""
    held = [await bench.begin(f"i{n}") for n in range(10)]
    stale = replace(held[5], lease=replace(held[5].lease, token=99))
    held[5] = stale
    steps = (bench.step(one, events=[bench.asked(1)]) for one in held)
    outcomes = await asyncio.gather(*steps, return_exceptions=True)
    failed = [n for n, one in enumerate(outcomes) if isinstance(one, Exception)]
    lengths = [len(await bench.store.history(f"i{n}")) for n in range(10)]
    same((failed, lengths), ([5], [2] * 5 + [1] + [2] * 4))


# ---- Claiming ----------------------------------------------------------------------------------


@law("T3")
async def a_claim_has_all_a_turn_needs(bench: Bench) -> None:
    """A claim brings lease, workflow and history; its token is higher than any before."""
    await bench.create()
    first = await bench.claim_one("one")
    until = bench.clock.now() + timedelta(seconds=30)
    same((first.lease.instance_id, first.lease.worker, first.lease.until), ("a", "one", until))
    same((first.workflow, first.history), ("w", (started(bench.clock.now()),)))
    same((first.messages, first.cancel_requested), ((), False))
    await bench.step(first, due=bench.clock.now())
    second = await bench.claim_one("two")
    same(second.lease.token > first.lease.token, True, "the token grew")


@law("T3")
async def a_leased_instance_is_not_ready(bench: Bench) -> None:
    """Until the lease lapses nobody else gets the instance; from that instant on anybody does."""
    claimed = await bench.begin()
    await bench.step(claimed, release=False, due=bench.clock.now())
    bench.clock.advance(30, microseconds=-1)
    same(await bench.ready(), [])
    bench.clock.advance(microseconds=1)
    taken = await bench.claim_one("other")
    same((taken.lease.worker, taken.lease.token > claimed.lease.token), ("other", True))
    bench.clock.advance(30, microseconds=-1)
    same(await bench.ready(), [])
    bench.clock.advance(microseconds=1)
    same(await bench.ready(), ["a"])


@law("T3")
async def many_workers_share_without_overlap(bench: Bench) -> None:
    """Workers that claim at the same time get different instances, and together all of them."""
    for n in range(30):
        await bench.create(f"i{n:02}")
    claims = await asyncio.gather(*(bench.claim(f"worker{n}", limit=4) for n in range(10)))
    found = sorted(one.lease.instance_id for claimed in claims for one in claimed)
    same(found, [f"i{n:02}" for n in range(30)])


@law("T3")
async def a_worker_gets_what_it_knows_and_has_room_for(bench: Bench) -> None:
    """Only the named workflows are claimed, no more than `limit`, and the rest stays ready."""
    for n, workflow in enumerate(("unknown", "w", "unknown", "v", "w")):
        await bench.create(str(n), workflow=workflow)
    same(await bench.ready("nothing"), [])
    same(len(await bench.claim("me", "w", "v", "v", limit=2)), 2, "claimed")
    same(len(await bench.ready("w", "v")), 1, "left of those two")
    same(sorted(await bench.ready("unknown")), ["0", "2"])
    same(await bench.claim("me", limit=0), [])


@law("Timers")
async def a_due_time_is_exact(bench: Bench) -> None:
    """An instance is ready at its due time, and not a microsecond earlier."""
    due = bench.clock.now() + timedelta(seconds=60, microseconds=1)
    await bench.suspend("a", due=due)
    bench.clock.advance(60)
    same(await bench.ready(), [])
    bench.clock.advance(microseconds=1)
    same(await bench.ready(), ["a"])


@law("Timers")
async def a_due_time_is_replaced_by_the_next(bench: Bench) -> None:
    """The due time of the last commit counts; without one, time alone wakes nobody."""
    await bench.suspend("a", due=bench.clock.now())
    await bench.step(await bench.claim_one(), due=bench.clock.now() + timedelta(seconds=9))
    same(await bench.ready(), [])
    bench.clock.advance(9)
    await bench.step(await bench.claim_one(), due=None)
    bench.clock.advance(10_000)
    same(await bench.ready(), [])


@law("Timers")
async def the_longest_ready_comes_first(bench: Bench) -> None:
    """Instances are claimed in the order they became ready: due, woken, lapsed or created."""
    now = bench.clock.now()
    await bench.suspend("woken", wait())
    await bench.suspend("late", due=now + timedelta(seconds=40))
    await bench.suspend("early", due=now + timedelta(seconds=5))
    await bench.begin("lapsing")  # at 30
    bench.clock.advance(20)
    await bench.send()
    bench.clock.advance(5)
    await bench.create("created")
    bench.clock.advance(100)
    same(await bench.ready(), ["early", "woken", "created", "lapsing", "late"])


@law("Timers")
async def at_one_instant_first_come_first_served(bench: Bench) -> None:
    """Of instances ready at the same instant, the first to become so is claimed first."""
    for name in ("b", "a", "c"):
        await bench.suspend(name, wait(match={"data": name}))
    for name in ("c", "b", "a"):
        await bench.send(data=name)
    same(await bench.ready(), ["c", "b", "a"])


@law("Timers")
async def a_second_reason_does_not_cost_the_place(bench: Bench) -> None:
    """What is ready already keeps its place when more comes for it."""
    await bench.suspend("a", wait(match={"data": "a"}))
    await bench.suspend("b", wait(match={"data": "b"}))
    await bench.suspend("c", wait(match={"data": "c"}), due=bench.clock.now())
    bench.clock.advance(1)
    for name in ("a", "b", "c", "a"):
        await bench.send(data=name)
        bench.clock.advance(1)
    await bench.store.request_cancel("a")
    same(await bench.ready(), ["c", "a", "b"])


@law("Timers")
async def the_next_due_time_is_known(bench: Bench) -> None:
    """`next_due` is when the next instance of the named workflows is ready; None for never."""
    now = bench.clock.now()
    same(await bench.store.next_due(["w"]), None)
    await bench.suspend("a")
    same(await bench.store.next_due(["w"]), None)
    await bench.suspend("b", due=now + timedelta(seconds=7, microseconds=1))
    await bench.suspend("c", due=now + timedelta(seconds=9))
    await bench.suspend("d", due=now + timedelta(seconds=3), workflow="v")
    same(await bench.store.next_due(["w"]), now + timedelta(seconds=7, microseconds=1))
    same(await bench.store.next_due(["w", "v"]), now + timedelta(seconds=3))
    same(await bench.store.next_due([]), None)
    bench.clock.advance(1)
    await bench.store.request_cancel("a")
    same(await bench.store.next_due(["w"]), bench.clock.now())


@law("T3")
async def a_sleeping_worker_wakes_for_a_lease_that_lapses(bench: Bench) -> None:
    """`next_due` is no later than the end of a lease, or nobody would take over from the dead."""
    await bench.begin()
    due = await bench.store.next_due(["w"])
    assert due is not None, "next_due is None although a lease is going to lapse"
    same(due <= bench.clock.now() + timedelta(seconds=30), True, "next_due within the lease")
    bench.clock.advance((due - bench.clock.now()).total_seconds())
    same(await bench.ready(), ["a"])


# ---- Renewing and giving back ------------------------------------------------------------------


@law("T3")
async def a_renewed_lease_lasts_longer(bench: Bench) -> None:
    """Renewing moves the end of a lease, and the holder goes on with the same token."""
    claimed = await bench.begin()
    bench.clock.advance(20)
    (renewed,) = await bench.store.renew([claimed.lease], 30)
    same(renewed, replace(claimed.lease, until=bench.clock.now() + timedelta(seconds=30)))
    bench.clock.advance(29)
    same(await bench.ready(), [])
    await bench.step(claimed, events=[bench.asked(1)], release=False)
    bench.clock.advance(1)
    same(await bench.ready(), ["a"])


@law("T3")
async def a_lost_lease_is_not_renewed(bench: Bench) -> None:
    """Leases that are not held any more are missing from the answer, the others are in order."""
    held = [await bench.begin(name) for name in ("a", "b", "c")]
    await bench.step(held[1])
    bench.clock.advance(31)
    (taken,) = await bench.claim("other", limit=1)
    renewed = await bench.store.renew([one.lease for one in held], 30)
    kept = {"a", "c"} - {taken.lease.instance_id}
    same({lease.instance_id for lease in renewed}, kept)
    bench.clock.advance(31)
    await bench.claim()
    same(await bench.store.renew([held[0].lease, held[2].lease], 30), [], "an older token of ours")


@law("T3")
async def a_worker_gives_all_its_leases_back(bench: Bench) -> None:
    """`release` makes what a worker held ready at once, and the worker cannot commit for it."""
    mine = await bench.begin("mine")
    await bench.begin("also mine")
    theirs = await bench.begin("theirs", worker="other")
    await bench.suspend("nobody's", due=bench.clock.now() + timedelta(seconds=5))
    await bench.store.release("me")
    await refused(mine.lease, bench.step(mine))
    same(sorted(await bench.ready()), ["also mine", "mine"])
    await bench.step(theirs, events=[bench.asked(1)])


@law("T3")
async def holders_of_leases_are_known(bench: Bench) -> None:
    """`workers` names each worker that holds a lease, once, also when it has lapsed."""
    same(await bench.store.workers(), [])
    mine = await bench.begin("mine")
    await bench.begin("also mine")
    await bench.begin("theirs", worker="other")
    bench.clock.advance(1000)
    same(sorted(await bench.store.workers()), ["me", "other"])
    await bench.store.release("other")
    await bench.step(mine)
    same(await bench.store.workers(), ["me"])
    await bench.store.release("me")
    same(await bench.store.workers(), [])
