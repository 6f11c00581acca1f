"""The checks about instances: creating and seeing them, their histories, and how they end."""

from datetime import timedelta

from edda.commands import (
    ActivityAsk,
    Cancellation,
    EventAsk,
    Expiry,
    Failure,
    Result,
    SendAsk,
    TimerAsk,
)
from edda.history import (
    Answered,
    Asked,
    Attempted,
    CancelRequested,
    Event,
    Finished,
    Refused,
    Started,
    Withdrawn,
)
from edda.ports import NewInstance, Status
from edda_testkit.contract.bench import Bench, law, refused, same, started, wait

# ---- Creating and looking ----------------------------------------------------------------------


@law("T5")
async def a_created_instance_is_there(bench: Bench) -> None:
    """A created instance is pending, and its history is what it was started with."""
    created = await bench.create()
    same(created.claimed, None, "claimed")
    same(created.existing, None, "existing")
    view = await bench.look()
    same((view.id, view.workflow, view.status), ("a", "w", Status.PENDING))
    same(
        (view.started_at, view.waits, view.outcome, view.problem),
        (bench.clock.now(), (), None, None),
    )
    same(await bench.store.history("a"), [started(bench.clock.now())])


@law("T5")
async def an_unknown_instance_is_none(bench: Bench) -> None:
    """What is not there is None, an empty history and False, and raises nothing."""
    same(await bench.store.instance("nobody"), None)
    same(await bench.store.history("nobody"), [])
    same(await bench.store.request_cancel("nobody"), False)
    same(await bench.store.retry_stuck("nobody"), 0)


@law("T5")
async def an_id_is_created_once(bench: Bench) -> None:
    """The second creation of an id changes nothing and answers with what is stored."""
    first = started(bench.clock.now(), '{"n":1}')
    await bench.store.create(NewInstance("a", "w", first))
    bench.clock.advance(1)
    second = started(bench.clock.now(), '{"n":2}')
    again = await bench.store.create(NewInstance("a", "other", second, "me"))
    same((again.claimed, again.existing), (None, ("w", first)))
    same(await bench.store.history("a"), [first])
    same(len(await bench.claim()), 1, "instances to claim")


@law("T3")
async def creation_may_lease_at_once(bench: Bench) -> None:
    """An instance created for a worker is leased to it, and to nobody else."""
    claimed = await bench.begin()
    until = bench.clock.now() + timedelta(seconds=30)
    same((claimed.lease.worker, claimed.lease.until), ("me", until))
    same(claimed.history, (started(bench.clock.now()),))
    same(await bench.ready(), [])
    await bench.step(claimed, events=[bench.asked(1)])


@law("H1")
async def every_kind_of_event_comes_back_as_it_was(bench: Bench) -> None:
    """A history comes back equal: every kind of event, to the microsecond, in any script."""
    claimed = await bench.begin()
    at = bench.clock.advance(microseconds=1)
    later = at + timedelta(days=3650, microseconds=7)
    events: list[Event] = [
        Asked(1, at, ActivityAsk("pay:1", "pay", '{"who":"Ægir \U0001f30a"}', "flow.py:1")),
        Asked(2, at, TimerAsk("sleep:1", "sleep", later, "flow.py:2")),
        Asked(
            3, at, EventAsk("e:1", "paid", later, 1.5, '{"data.n":1}', "m:M", "raise", "flow.py:3")
        ),
        Asked(4, at, EventAsk("e:2", "paid", None, None, None, None, "reject", "flow.py:4")),
        Asked(5, at, SendAsk("send:1", "sent", '{"a":"\\u0000\'\\""}', "flow.py:5")),
        Attempted(6, at, "pay:1", "pay", 1, '{"type":"x:E"}', at, later),
        Answered(7, at, "pay:1", "pay", "activity", Result('"√2"'), attempts=2),
        Refused(8, at, "e:1", "paid", 9, '{"type":"x:E"}'),
        Answered(9, at, "e:1", "paid", "event", Expiry()),
        Withdrawn(10, at, "e:2", "paid", "event"),
        Answered(11, at, "send:1", "sent", "send", Failure('{"type":"x:E"}')),
        CancelRequested(12, at),
        Finished(13, at, Cancellation()),
    ]
    await bench.step(claimed, events=events, status=Status.CANCELLED)
    same((await bench.store.history("a"))[1:], events)


@law("T1")
async def instances_are_found_by_id(bench: Bench) -> None:
    """`find` lists instances by id, page by page, by status and by workflow."""
    for name in ("b", "a", "d", "c"):
        await bench.create(name, workflow="w" if name < "d" else "other")
    await bench.finish(await bench.begin("e"), Status.COMPLETED, Result("1"))

    async def ids(**wanted: object) -> list[str]:
        return [one.id for one in await bench.store.find(**wanted)]  # type: ignore[arg-type]

    same(await ids(), ["a", "b", "c", "d", "e"])
    same(await ids(limit=2), ["a", "b"])
    same(await ids(limit=2, after="b"), ["c", "d"])
    same(await ids(after="bb"), ["c", "d", "e"])
    same(await ids(workflow="other"), ["d"])
    same(await ids(status=Status.COMPLETED), ["e"])
    same(await ids(status=Status.PENDING, workflow="w", after="a"), ["b", "c"])
    same(await ids(status=Status.STUCK), [])


@law("T1")
async def a_view_shows_what_was_committed(bench: Bench) -> None:
    """An instance is seen as its last commit left it: status, waits in order, due, time of it."""
    claimed = await bench.begin()
    due = bench.clock.now() + timedelta(days=400, microseconds=123_457)
    waits = (
        wait("paid:2", match={"data.n": 5, "subject": "ø"}, model="m:M", on_invalid="raise"),
        wait("paid:10"),
        wait("paid:1", "sent"),
    )
    bench.clock.advance(2)
    await bench.step(claimed, *waits, due=due, status=Status.WAITING_FOR_EVENT)
    view = await bench.look()
    same((view.status, view.due, view.waits), (Status.WAITING_FOR_EVENT, due, waits))
    same(view.updated_at - view.started_at, timedelta(seconds=2), "updated_at after started_at")
    same(await bench.store.find(), [view])


# ---- Ending ------------------------------------------------------------------------------------


@law("T1")
async def the_outcome_of_an_ended_instance_is_kept(bench: Bench) -> None:
    """Result, failure and cancellation are the outcome of an instance that ended so."""
    for name, status, outcome in (
        ("a", Status.COMPLETED, Result('{"ok":true}')),
        ("b", Status.FAILED, Failure('{"type":"x:E"}')),
        ("c", Status.CANCELLED, Cancellation()),
    ):
        committed = await bench.finish(await bench.begin(name), status, outcome)
        same(committed.is_released, True, "is_released")
        view = await bench.look(name)
        same((view.status, view.outcome), (status, outcome))


@law("T1")
async def an_ended_instance_does_nothing_more(bench: Bench) -> None:
    """What has ended has no waits, is never ready, and takes neither commits nor cancellation."""
    claimed = await bench.begin()
    await bench.step(claimed, wait(), release=False)
    finished = Finished(1, bench.clock.now(), Result("1"))
    due = bench.clock.now()
    await bench.step(claimed, wait(), events=[finished], status=Status.COMPLETED, due=due)
    same((await bench.look()).waits, ())
    same((await bench.send()).woken, (), "woken")
    same(await bench.store.request_cancel("a"), False, "request_cancel")
    same(await bench.store.renew([claimed.lease], 30), [], "renewed")
    await refused(claimed.lease, bench.step(claimed))
    bench.clock.advance(1000)
    same(await bench.ready(), [])
    same(await bench.store.next_due(["w"]), None, "next_due")


# ---- Cancelling --------------------------------------------------------------------------------


@law("T1")
async def a_cancel_request_wakes(bench: Bench) -> None:
    """A cancel request makes a suspended instance ready, and comes with its claim."""
    await bench.suspend("a")
    await bench.suspend("b")
    same(await bench.store.request_cancel("a"), True)
    claimed = await bench.claim_one()
    same((claimed.lease.instance_id, claimed.cancel_requested), ("a", True))


@law("T1")
async def a_cancel_request_stays_until_history_has_it(bench: Bench) -> None:
    """Until `CancelRequested` is committed the request keeps the lease and comes again."""
    claimed = await bench.begin()
    await bench.store.request_cancel("a")
    committed = await bench.step(claimed, events=[bench.asked(1)])
    same((committed.cancel_requested, committed.is_released), (True, False))
    bench.clock.advance(31)
    claimed = await bench.claim_one("other")
    same(claimed.cancel_requested, True, "cancel_requested after the lease lapsed")
    requested = CancelRequested(2, bench.clock.now())
    committed = await bench.step(claimed, events=[requested])
    same((committed.cancel_requested, committed.is_released), (False, True))
    same(await bench.ready(), [])


@law("T1")
async def a_cancellation_is_requested_once(bench: Bench) -> None:
    """A request for an instance whose history has one already succeeds and changes nothing."""
    claimed = await bench.begin()
    await bench.store.request_cancel("a")
    await bench.step(claimed, events=[CancelRequested(1, bench.clock.now())])
    same(await bench.store.request_cancel("a"), True)
    same(await bench.ready(), [])


# ---- Parking -----------------------------------------------------------------------------------


@law("H3")
async def a_stuck_instance_is_parked(bench: Bench) -> None:
    """A stuck instance shows its problem and is not ready, whatever comes."""
    await bench.suspend("a", wait(), due=bench.clock.now())
    claimed = await bench.claim_one()
    committed = await bench.step(claimed, status=Status.STUCK, problem='{"why":1}')
    same(committed.is_released, True, "is_released")
    view = await bench.look()
    same((view.status, view.problem, view.due), (Status.STUCK, '{"why":1}', None))
    await refused(claimed.lease, bench.step(claimed))
    await bench.send()
    await bench.store.request_cancel("a")
    bench.clock.advance(1000)
    same(await bench.ready(), [])
    same(await bench.store.next_due(["w"]), None, "next_due")


@law("H3")
async def a_stuck_instance_is_released_whatever_it_holds(bench: Bench) -> None:
    """Messages and cancel requests do not keep the lease of an instance that gets stuck."""
    await bench.suspend("a", wait())
    await bench.send()
    claimed = await bench.claim_one()
    await bench.store.request_cancel("a")
    committed = await bench.step(claimed, wait(), status=Status.STUCK, problem="{}")
    same(committed.is_released, True, "is_released")


@law("H3")
async def a_stuck_instance_is_tried_again_on_request(bench: Bench) -> None:
    """`retry_stuck` makes one or all of the stuck ready, and says how many."""
    for name in ("a", "b", "c"):
        await bench.step(await bench.begin(name), status=Status.STUCK, problem="{}")
    await bench.suspend("d")
    same(await bench.store.retry_stuck("d"), 0)
    same(await bench.store.retry_stuck("b"), 1)
    same((await bench.look("b")).status, Status.PENDING, "status")
    same(await bench.ready(), ["b"])
    same(await bench.store.retry_stuck(), 2)
    same(sorted(await bench.ready()), ["a", "c"])
    same(await bench.store.retry_stuck(), 0)


@law("H3")
async def what_came_while_stuck_is_not_lost(bench: Bench) -> None:
    """A stuck instance keeps its waits: what came for them is there when it goes on."""
    await bench.suspend("a", wait(), due=bench.clock.now())
    await bench.step(await bench.claim_one(), status=Status.STUCK, problem="{}")
    sent = await bench.send()
    await bench.store.request_cancel("a")
    await bench.store.retry_stuck()
    claimed = await bench.claim_one()
    same([message.position for message in claimed.messages], [sent.position])
    same(claimed.cancel_requested, True, "cancel_requested")
    committed = await bench.step(claimed, wait(), release=False, status=Status.RUNNING)
    same((await bench.look()).problem, None, "problem")
    same(len(committed.messages), 1, "messages")


# ---- Staying -----------------------------------------------------------------------------------


@law("T5", needs_disk=True)
async def nothing_is_lost_by_closing(bench: Bench) -> None:
    """After closing and opening again everything is as it was: leases and messages, too."""
    await bench.suspend("a", wait(), due=bench.clock.now() + timedelta(seconds=5))
    held = await bench.begin("b")
    sent = await bench.send()
    view, history = await bench.look(), await bench.store.history("a")
    await bench.store.close()
    await bench.store.open()
    same(await bench.look(), view)
    same(await bench.store.history("a"), history)
    same(isinstance(history[0], Started), True, "history begins with Started")
    same((await bench.send(id="event-1")).is_duplicate, True, "is_duplicate")
    claimed = await bench.claim_one()
    same([message.position for message in claimed.messages], [sent.position])
    await bench.step(held, events=[bench.asked(1)])
