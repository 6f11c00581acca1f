"""Stubs: what an activity answers in a test, and what a stub complains about."""

import asyncio
import functools

import pytest
from pydantic import BaseModel

from edda import RetryExhaustedError, RetryPolicy, TerminalError, activity, workflow
from edda_testkit import Simulation, StubError, UnusedStub


class Price(BaseModel):
    amount: int


@activity(retry_policy=RetryPolicy(max_attempts=2, initial_interval=1))
async def price(ctx, item: str, count: int = 1) -> Price:
    raise OSError("the real shop")


@workflow
async def buys(ctx, times: int = 1) -> list[int]:
    return [(await price(ctx, f"item-{n}", count=n)).amount for n in range(times)]


@pytest.fixture
def sim():
    with Simulation() as simulation:
        yield simulation


def test_returns_crosses_the_codec(sim):
    """A returned model arrives as a model, and later changes of it do not."""
    answer = Price(amount=3)
    stub = sim.stub(price, returns=answer)
    answer_before = sim.start(buys)
    assert answer_before.result == [3]
    assert stub.calls == 1
    assert repr(stub).startswith("<Stub of price (returns), set at ")
    assert repr(stub).endswith("used 1x>")


def test_a_stub_names_the_line_that_set_it(sim):
    """The place in reports is the test's own."""
    stub = sim.stub(price, returns=Price(amount=1))
    assert "test_stubs.py:" in stub.describe()
    sim.start(buys)


def test_raises_meets_the_retry_policy(sim):
    """An exception is retried as the activity's own would be."""
    sim.stub(price, raises=OSError("away"))
    run = sim.start(buys)
    sim.run(until=run)
    assert isinstance(run.error, RetryExhaustedError)
    assert [call.attempt for call in run.calls(price)] == [1, 2]


def test_raises_takes_a_class(sim):
    """An exception class is raised too, and a terminal one is not retried."""
    sim.stub(price, raises=TerminalError)
    run = sim.start(buys)
    assert isinstance(run.error, TerminalError)
    assert len(run.calls()) == 1


@pytest.mark.parametrize("kind", ["plain", "async", "context", "partial", "lambda of a coroutine"])
def test_side_effect_is_called_with_the_activitys_arguments(sim, kind):
    """Plain and async functions are called alike, with `ctx` if it is their first parameter."""
    seen = []

    def plain(item, count):
        seen.append((item, count))
        return Price(amount=count)

    async def slow(item, count):
        await asyncio.sleep(5)
        return plain(item, count)

    def context(ctx, item, count):
        assert ctx.attempt == 1
        return plain(item, count)

    effects = {
        "plain": plain,
        "async": slow,
        "context": context,
        "partial": functools.partial(slow),
        "lambda of a coroutine": lambda item, count: slow(item, count=count),
    }
    sim.stub(price, side_effect=effects[kind])
    run = sim.start(buys, 2)
    sim.run(until=run)
    assert run.result == [0, 1]
    assert seen == [("item-0", 0), ("item-1", 1)]


def test_sequence_answers_in_order(sim):
    """Values are returned and exceptions raised, one a call."""
    sim.stub(price, sequence=[Price(amount=1), OSError("once"), Price(amount=2)])
    run = sim.start(buys, 2)
    sim.run(until=run)
    assert run.result == [1, 2]


def test_a_sequence_that_runs_out_fails_the_test(sim):
    """The complaint reaches the test although the activity has a retry policy."""
    sim.stub(price, sequence=[Price(amount=1)])
    with pytest.raises(StubError, match="has answered 1 calls and has no answer for another"):
        sim.start(buys, 2)
    sim.advance(0)  # said once


def test_the_last_stub_counts(sim):
    """A later stub of the same activity replaces the earlier from then on."""
    sim.stub(price, sequence=[Price(amount=1)])
    first = sim.start(buys)
    sim.stub(price, returns=Price(amount=2))
    assert [first.result, sim.start(buys).result] == [[1], [2]]


def test_a_stub_that_answers_at_once_cannot_time_out(sim):
    """A stub of an activity with a timeout works like any other."""

    @activity(timeout_seconds=1)
    async def limited(ctx) -> int:
        await asyncio.sleep(2)
        return 1

    @workflow
    async def quick(ctx):
        return await limited(ctx)

    sim.stub(limited, returns=7)
    assert sim.start(quick).result == 7


def test_an_unused_stub_is_reported():
    """The report names the stub, where it was set, and what was called instead."""
    with pytest.raises(UnusedStub) as error, Simulation() as sim:
        sim.stub(price, returns=Price(amount=1))
    first, second, third, *_ = str(error.value).splitlines()
    assert first == "These stubs were never used:"
    assert second.startswith("  price (returns), set at ")
    assert third == "Activities that were called: none."


def test_unused_stubs_can_be_allowed():
    """`unused_stubs=True` says that a stub need not be used."""
    with Simulation(unused_stubs=True) as sim:
        stub = sim.stub(price, returns=Price(amount=1))
    assert stub.calls == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "got nothing"),
        ({"returns": 1, "raises": OSError}, "got returns, raises"),
        ({"returns": "no price"}, "cannot return 'no price'"),
        ({"raises": "OSError"}, "must be an exception or a class of them"),
        ({"side_effect": 3}, "must be a function, got 3"),
        ({"sequence": "abc"}, "must be a list, got 'abc'"),
        ({"sequence": [object()]}, "cannot return <object"),
    ],
)
def test_a_stub_that_cannot_work_is_refused_where_it_is_set(sim, answer, message):
    """The mistake is reported by `stub` itself, not when the activity is called."""
    with pytest.raises(StubError, match=message):
        sim.stub(price, **answer)


def test_only_activities_have_stubs(sim):
    """Anything else is refused with what was given."""
    with pytest.raises(StubError, match="takes an activity"):
        sim.stub(print, returns=1)
