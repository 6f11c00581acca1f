"""A long exploration under xdist: shares that make up the whole, repeated without xdist."""

import re

import pytest

from edda import activity, workflow
from edda_testkit.exploration import explore_with
from edda_testkit.schedule import Options
from edda_testkit.search import WALKS, Explorer

pytest_plugins = ["pytester"]


class Here:
    log: list


@activity
async def share_say(ctx, what: str) -> None:
    Here.log.append(what)


@workflow
async def share_two(ctx, name: str):
    await share_say(ctx, f"{name}1")
    await share_say(ctx, f"{name}2")


def orders(share, **options):
    seen = []

    def scenario(sim):
        Here.log = []
        with sim.concurrently():
            sim.start(share_two, "a")
            sim.start(share_two, "b")
        seen.append(sim.schedule.deviations)

    explorer = Explorer(Options(), budget_seconds=600, share=share, **options)
    done = explore_with(explorer, scenario, {})
    return done, seen


@pytest.mark.parametrize("shares", [2, 3, 7])
def test_shares_make_up_the_whole(shares):
    """No schedule is left out, and each share is a part: besides it only a few drawn ones."""
    whole, wanted = orders((0, 1))
    parts = [orders((number, shares)) for number in range(shares)]
    assert whole.exhaustive
    assert all(done.exhaustive for done, _ in parts)
    assert {one for _, seen in parts for one in seen} == set(wanted)
    assert sum(done.tried for done, _ in parts) < whole.tried + shares * (1 + WALKS)
    assert all(done.tried < whole.tried for done, _ in parts)
    assert str(parts[0][0]).endswith(f"of one share in {shares}")


def test_shares_draw_differently():
    """Where schedules are drawn, each share draws its own."""
    drawn = [orders((number, 2), max_schedules=30, seed=3)[1] for number in range(2)]
    assert set(drawn[0]) & set(drawn[1]) != set(drawn[0])


SHOP = """
    import pytest
    from edda import activity, workflow
    from edda_testkit import explore

    class Here:
        stock = 1

    @activity
    async def is_there(ctx) -> bool:
        return Here.stock > 0

    @activity
    async def take(ctx) -> None:
        Here.stock -= 1

    @workflow
    async def reserve(ctx):
        if await is_there(ctx):
            await take(ctx)

    @pytest.mark.parametrize("many", [2])
    @explore(max_schedules=5000)
    def test_long(edda_sim, many):
        Here.stock = 1
        with edda_sim.concurrently():
            for _ in range(many):
                edda_sim.start(reserve)
        assert Here.stock == 0

    @explore(budget_seconds=60)
    def test_fine(edda_sim):
        edda_sim.stub(is_there, returns=False)
        with edda_sim.concurrently():
            edda_sim.start(reserve)
            edda_sim.start(reserve)

    @explore()
    def test_short(edda_sim):
        Here.stock = 1
        edda_sim.start(reserve)
"""


def test_long_explorations_are_split_over_workers(pytester):
    """Each worker gets a share; the command of a failure names the whole test."""
    pytester.makepyfile(test_shop=SHOP)
    result = pytester.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider", "-v")
    text = result.stdout.str()
    names = set(re.findall(r"test_shop\.py::(\w+(?:\[[^]]+\])?)", text))
    assert {"test_long[2-1of2]", "test_long[2-2of2]"} <= names
    assert {"test_fine[1of2]", "test_fine[2of2]", "test_short"} <= names
    assert "1 of 2" not in text
    token = re.search(r"pytest 'test_shop\.py::test_long\[2\]' --edda-schedule (\S+)", text)[1]
    again = pytester.runpytest_subprocess(
        "-n", "0", "test_shop.py::test_long[2]", "--edda-schedule", token
    )
    again.assert_outcomes(failed=1)
    alone = pytester.runpytest_subprocess("-n", "0", "-p", "no:cacheprovider", "-v")
    alone.assert_outcomes(passed=2, failed=1)
