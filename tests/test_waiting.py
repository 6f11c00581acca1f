"""The arguments of the verbs: what is wrong with one is said before anything is stored."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import BaseModel

from edda import (
    ArgumentError,
    EventTimeoutError,
    InvalidEventError,
    discard_events,
    sleep,
    sleep_until,
    wait_any,
    wait_event,
    wait_timer,
    wait_until,
    workflow,
)

CASES = {
    "no type": (lambda ctx: wait_event(ctx, ""), "event_type must be a non-empty string"),
    "number as type": (lambda ctx: wait_event(ctx, 5), "event_type must be a non-empty string"),
    "number as id": (lambda ctx: wait_event(ctx, "x", event_id=5), "event_id must be"),
    "on_invalid": (lambda ctx: wait_event(ctx, "x", on_invalid="no"), 'must be "reject" or'),
    "match": (lambda ctx: wait_event(ctx, "x", match=["a"]), "match must map paths"),
    "match value": (lambda ctx: wait_event(ctx, "x", match={"a": object()}), "plain JSON"),
    "text timeout": (lambda ctx: wait_event(ctx, "x", "5"), "timeout_seconds: expected seconds"),
    "bool timeout": (lambda ctx: wait_event(ctx, "x", True), "timeout_seconds: expected seconds"),
    "nan": (lambda ctx: sleep(ctx, float("nan")), "seconds: expected a finite number"),
    "infinite": (lambda ctx: wait_timer(ctx, float("inf")), "duration_seconds: expected a finite"),
    "beyond 9999": (lambda ctx: sleep(ctx, 1e12), "outside the years"),
    "no duration": (lambda ctx: sleep(ctx), "give the duration once"),  # noqa: PLW0108
    "two durations": (lambda ctx: sleep(ctx, 1, duration_seconds=2), "give the duration once"),
    "naive": (lambda ctx: wait_until(ctx, datetime(2030, 1, 1)), "is naive"),  # noqa: DTZ001
    "no instant in UTC": (
        lambda ctx: wait_until(ctx, datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))),
        "lies outside the years",
    ),
    "half a pair": (lambda ctx: wait_event(ctx, "x\ud800"), "half of a surrogate pair"),
    "half a pair in match": (lambda ctx: wait_event(ctx, "x", match={"a": "\ud800"}), "plain JSON"),
    "text instant": (lambda ctx: sleep_until(ctx, "noon"), "target_time must be a datetime"),
    "no ctx": (lambda ctx: sleep("ctx", 1), "first argument must be a workflow's ctx"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_argument_fails_the_workflow(edda_sim, name):
    """The error names the argument and what was expected, and nothing has been asked."""
    verb, text = CASES[name]

    @workflow
    async def wrong(ctx):
        await verb(ctx)

    run = edda_sim.start(wrong)
    assert isinstance(run.error, ArgumentError)
    assert text in str(run.error)
    assert len(run.history) == 2


@pytest.mark.parametrize(
    "verb",
    [
        lambda ctx: sleep(ctx, 5),
        lambda ctx: sleep(ctx, duration_seconds=timedelta(seconds=5)),
        lambda ctx: wait_timer(ctx, seconds=5.0),
        lambda ctx: wait_until(ctx, target_time=datetime(2000, 1, 1, 0, 0, 5, tzinfo=UTC)),
        lambda ctx: sleep_until(ctx, until_time=datetime(2000, 1, 1, 0, 0, 5, tzinfo=UTC)),
    ],
)
def test_every_spelling_of_five_seconds(edda_sim, verb):
    """Each verb takes the other's argument name too, and waits five seconds."""

    @workflow
    async def five(ctx):
        await verb(ctx)

    run = edda_sim.start(five)
    assert (run.waiting_for[0].due - edda_sim.now).total_seconds() == 5


# ---- wait_any: suspends, completes, still waiting ----------------------------------------------


class Approval(BaseModel):
    by: str


@workflow
async def approval(ctx, timeout: float | None = None):
    event = await wait_any(
        ctx, {"approved": Approval, "rejected": None}, timeout, match={"subject": "L-1"}
    )
    return [event.type, event.data.by if event.type == "approved" else event.data]


def test_wait_any_suspends(sim):
    """It waits for each of the types."""
    run = sim.start(approval)
    assert run.status == "waiting_for_event"
    assert [waiting.name for waiting in run.waiting_for] == ["approved", "rejected"]


def test_wait_any_completes_with_the_first(sim):
    """The first event answers, validated by the model of its type; the other wait is given up."""
    run = sim.start(approval)
    sim.send("approved", {"by": "Ada"}, subject="L-1")
    sim.send("rejected", "late", subject="L-1")
    assert run.result == ["approved", "Ada"]
    other = sim.start(approval)
    sim.send("rejected", "why", subject="L-1")
    assert other.result == ["rejected", "why"]
    assert [e.id for e in other.history if e.kind == "event_withdrawn"] == ["wait_event_approved:1"]


def test_wait_any_still_waits(sim):
    """An event of another type, or that does not match, or that the model refuses, is none."""
    run = sim.start(approval)
    sim.send("cancelled", None, subject="L-1")
    sim.send("approved", {"by": "Ada"}, subject="L-2")
    with pytest.raises(InvalidEventError):
        sim.send("approved", {"by": None}, subject="L-1")
    assert run.status == "waiting_for_event"


def test_wait_any_takes_the_oldest_of_the_log(sim):
    """Of events that came before it, whichever came first answers."""

    @workflow
    async def later(ctx):
        await wait_event(ctx, "go")
        return (await wait_any(ctx, {"b": None, "a": None})).type

    run = sim.start(later)
    sim.send("a")
    sim.send("b")
    sim.send("go")
    assert run.result == "a"


def test_wait_any_times_out(sim):
    """After `timeout_seconds` it raises `EventTimeoutError` that names all types."""
    run = sim.start(approval, 60)
    sim.advance(60)
    assert isinstance(run.error, EventTimeoutError)
    assert str(run.error) == "No 'approved | rejected' event came within 60 s."
    assert run.waiting_for == []


@pytest.mark.parametrize("events", [{}, ["a"], {"": None}, None, {1: None}])
def test_wait_any_wants_a_mapping(sim, events):
    """Anything but a mapping from types is refused before anything waits."""

    @workflow
    async def wrong(ctx):
        await wait_any(ctx, events)

    run = sim.start(wrong)
    assert isinstance(run.error, ArgumentError)
    assert "events must map event types to models or None" in str(run.error)


# ---- A deadline of now, and discard_events -----------------------------------------------------


def test_a_timeout_of_zero_looks_into_the_log(sim):
    """An event that came before the wait comes before its deadline (law M7)."""

    @workflow
    async def polling(ctx):
        await wait_event(ctx, "go")
        found = (await wait_event(ctx, "paid", timeout_seconds=0)).data
        with pytest.raises(EventTimeoutError):
            await wait_event(ctx, "paid", timeout_seconds=0)
        return found

    run = sim.start(polling)
    sim.send("paid", 5)
    sim.send("go")
    assert run.result == 5


def test_discard_events(sim):
    """It drops what has come, says how much, and leaves what comes later and other types."""

    @workflow
    async def clean(ctx):
        await wait_event(ctx, "go")
        dropped = await discard_events(ctx, "paid")
        other = await wait_event(ctx, "other")
        return [dropped, (await wait_event(ctx, "paid")).data, other.data]

    run = sim.start(clean)
    for n in range(40):
        sim.send("paid", n)
    sim.send("other", "kept")
    sim.send("go")
    assert run.status == "waiting_for_event"
    sim.send("paid", "new")
    assert run.result == [40, "new", "kept"]


def test_discard_events_of_nothing(sim):
    """With nothing to drop it answers at once."""

    @workflow
    async def clean(ctx):
        return await discard_events(ctx, "paid")

    assert sim.start(clean).result == 0


def test_wait_any_takes_the_oldest_beside_a_full_inbox(sim):
    """An event at hand from an earlier wait does not come before an older one of the log."""

    @workflow
    async def picky(ctx):
        await wait_event(ctx, "go")
        first = await wait_event(ctx, "green")
        return [first.data, (await wait_any(ctx, {"green": None, "blue": None})).data]

    run = sim.start(picky)
    sim.send("green", 0)
    sim.send("blue", 1)
    sim.send("green", 2)
    sim.send("go")
    assert run.result == [0, 1]


def test_a_wider_wait_takes_the_oldest(sim):
    """A wait without `match` sees what an earlier wait with one was not offered (law M2)."""

    @workflow
    async def widening(ctx):
        await wait_event(ctx, "go")
        first = await wait_event(ctx, "paid", match={"data": 1})
        return [first.data, (await wait_event(ctx, "paid")).data]

    run = sim.start(widening)
    for n in (0, 1, 1):
        sim.send("paid", n)
    sim.send("go")
    assert run.result == [1, 0]
