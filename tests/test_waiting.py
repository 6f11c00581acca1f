"""The arguments of the verbs: what is wrong with one is said before anything is stored."""

from datetime import UTC, datetime, timedelta

import pytest

from edda import ArgumentError, sleep, sleep_until, wait_event, wait_timer, wait_until, workflow

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
