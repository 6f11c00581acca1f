"""A worker dies between two effects of one activity."""

import asyncio
import logging
import sys

import pytest

from edda import RetryPolicy, activity, workflow
from edda_testkit import check_crashes, explore
from edda_testkit.between import between_effects, effects_in

logger = logging.getLogger(__name__)


class Bank:
    """Effects of activities: an account's movements, and what is known to be done."""

    def __init__(self):
        self.moved = []
        self.done = set()
        self.now = None

    def move(self, amount):
        self.moved.append(amount)

    async def move_soon(self, amount):
        self.moved.append(amount)


here = Bank()


@activity
async def noted_too_late(ctx, amount: int) -> int:
    if ctx.idempotency_key not in here.done:
        here.move(amount)
        here.done.add(ctx.idempotency_key)
    return amount


@activity
def noted_too_late_in_a_thread(ctx, amount: int) -> int:
    if ctx.idempotency_key not in here.done:
        here.move(amount)
        here.done.add(ctx.idempotency_key)
    return amount


@activity
async def awaits_nothing_real(ctx, amount: int) -> int:
    if ctx.idempotency_key not in here.done:
        await here.move_soon(amount)
        here.done.add(ctx.idempotency_key)
    return amount


@activity(retry_policy=RetryPolicy(max_attempts=3, initial_interval=1))
async def swallows(ctx, amount: int) -> int:
    if ctx.idempotency_key not in here.done:
        try:
            here.move(amount)
            here.done.add(ctx.idempotency_key)
        except BaseException:
            logger.info("nothing of that")
    return amount


@activity
async def noted_together(ctx, amount: int) -> int:
    if ctx.idempotency_key not in here.done:
        here.moved, here.done = [*here.moved, amount], {*here.done, ctx.idempotency_key}
    return amount


@workflow
async def moving(ctx, which: str):
    steps = {
        one.name: one
        for one in (
            noted_too_late,
            noted_too_late_in_a_thread,
            awaits_nothing_real,
            swallows,
            noted_together,
        )
    }
    return await steps[which](ctx, 5)


def moved(which):
    def scenario(sim):
        here.__init__()
        run = sim.start(moving, which)
        sim.run(until=run)
        assert run.result == 5
        assert here.moved == [5]

    return scenario


@pytest.mark.parametrize(
    "which",
    ["noted_too_late", "noted_too_late_in_a_thread", "awaits_nothing_real", "swallows"],
)
def test_a_crash_between_two_effects_is_found(which):
    """What an activity does before it notes that it has is done again, and the test sees it."""
    with pytest.raises(AssertionError):
        explore(moved(which), crashes=1, inside_activities=True)
    with pytest.raises(AssertionError):
        check_crashes(moved(which), inside_activities=True)


def test_what_is_one_effect_is_not_taken_apart():
    """An activity that does and notes in one statement is fine, and is not traced."""
    assert explore(moved("noted_together"), crashes=1, inside_activities=True).exhaustive
    assert between_effects(noted_together.fn, print) is noted_together.fn


def test_nothing_is_traced_that_was_not_asked_for():
    """Without crashes, or without `inside_activities`, the lines of activities are left alone."""
    seen, before = [], sys.gettrace()

    @activity
    async def looks(ctx) -> None:
        seen.append(getattr(sys.gettrace(), "__module__", "") == between_effects.__module__)
        here.done.add(1)

    @workflow
    async def looking(ctx):
        await looks(ctx)

    explore(lambda sim: sim.start(looking), inside_activities=True)
    explore(lambda sim: sim.start(looking), crashes=1)
    assert not any(seen)
    explore(lambda sim: sim.start(looking), crashes=1, inside_activities=True)
    assert any(seen)
    assert sys.gettrace() is before


def test_who_traced_before_still_does():
    """A debugger or a coverage tool sees the lines too, and has its trace function back."""
    lines, before = [], sys.gettrace()

    def tracer(frame, event, _):
        if frame.f_code is noted_too_late.fn.__code__ and event == "line":
            lines.append(frame.f_lineno)
        return tracer

    sys.settrace(tracer)
    try:
        with pytest.raises(AssertionError):
            explore(moved("noted_too_late"), crashes=1, inside_activities=True)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
    assert len(set(lines)) == 4


async def many(ctx, items):
    total = len(items)  # 1
    logger.info("%d items", total)
    for item in sorted(items):  # 3
        here.move(
            item,
        )  # 4 to 6
    with suppressing(here) as all_of_it:  # 7
        all_of_it.now = ctx.now()  # 8
    if here.is_open():  # 9
        raise RuntimeError(here.reason())  # 10
    await asyncio.sleep(1)  # 11
    text = ", ".join(str(item) for item in items)  # 12
    return await here.end(text)  # 13


def suppressing(what):
    return what


def test_statements_that_do_something():
    """Calls of unknown functions and methods, and stores outside; not those that only make."""
    first = many.__code__.co_firstlineno
    found = {start - first: end - first for start, end in effects_in(many.__code__).items()}
    assert found == {4: 6, 7: 7, 8: 8, 9: 9, 13: 13}


def test_a_call_on_several_lines_is_one_effect():
    """Its arguments do not make a crash point of their own."""
    places = []

    def twice(ctx):
        here.move(
            sum(
                [1, 2],
            ),
        )
        for _ in range(2):
            here.move(3)

    here.__init__()
    between_effects(twice, places.append)(None)
    assert here.moved == [3, 3, 3]
    line = twice.__code__.co_firstlineno + 7
    assert [int(place.rpartition(":")[2]) for place in places] == [line, line]


def test_without_source_nothing_is_traced():
    """Code that was made from text is run as it is."""
    names = {}
    exec("def made(ctx):\n    ctx.a()\n    x.b()\n    x.c()\n", names)
    assert between_effects(names["made"], print) is names["made"]
    assert between_effects(len, print) is len
