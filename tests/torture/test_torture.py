"""Servers are killed at any instant, and nothing of what is promised breaks."""

import asyncio
import os
from collections import Counter

import pytest

from tests.torture import campaign, checker, mutants
from tests.torture.campaign import Plan

STRIKES = int(os.environ.get("EDDA_TORTURE", "60"))
SEED = int(os.environ.get("EDDA_TORTURE_SEED", "1"))


def judged(plan):
    evidence = asyncio.run(campaign.run(plan))
    found = checker.faults(evidence)
    struck = Counter(strike.kind for strike in evidence.strikes)
    print(f"{dict(struck)}, {len(evidence.instances)} instances, seed {plan.seed}")
    assert not found, "\n".join([f"seed {plan.seed}: {len(found)} faults", *found[:20]])
    return evidence


def test_nothing_breaks_on_sqlite(tmp_path):
    """On SQLite, with servers killed, paused past their leases, and a disk that fills up."""
    kinds = {"kill": 20, "pause": 1, "full": 2}
    plan = Plan(f"sqlite:///{tmp_path}/edda.db", tmp_path, SEED, STRIKES, kinds)
    evidence = judged(plan)
    assert len(evidence.strikes) > STRIKES * 0.9


def test_nothing_breaks_on_postgresql(tmp_path, postgres):
    """On PostgreSQL, with servers killed and paused, all connections cut at once, and clocks off.

    The machines' clocks are three seconds apart, more than a lease is long.
    """
    kinds = {"kill": 20, "pause": 1, "cut": 3}
    evidence = judged(
        Plan(postgres, tmp_path, SEED, STRIKES * 2 // 3, kinds, servers=3, skew_seconds=3.0)
    )
    assert any(strike.kind == "cut" for strike in evidence.strikes)


# ---- The checker is checked ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken_laws(tmp_path_factory):
    """The laws that were broken with each fault planted: a campaign for each, some at a time."""

    async def campaign_of(name, room):
        async with room:
            return await asyncio.to_thread(asyncio.run, until_broken(name))

    async def until_broken(name):
        for seed in (SEED, SEED + 1, SEED + 2):  # chance may spare it once
            folder = tmp_path_factory.mktemp(name)
            plan = Plan(
                f"sqlite:///{folder}/edda.db",
                folder,
                seed,
                16,
                {"kill": 3, "pause": 3},
                gap_seconds=0.15,
                lease_seconds=0.5,
                patience_seconds=3,
                moment_seconds=0.25,
                mutant=name,
            )
            found = checker.faults(await campaign.run(plan))
            if set(mutants.MUTANTS[name][0]) & {line.partition(" ")[0] for line in found}:
                break
        return found

    async def all_of_them():
        room = asyncio.Semaphore(4)
        found = await asyncio.gather(*(campaign_of(name, room) for name in mutants.MUTANTS))
        return dict(zip(mutants.MUTANTS, found, strict=True))

    return asyncio.run(all_of_them())


@pytest.mark.slow
@pytest.mark.parametrize("name", mutants.MUTANTS)
def test_a_planted_fault_is_found(broken_laws, name):
    """A fault that is planted into the engine breaks the law that it is about."""
    laws, _ = mutants.MUTANTS[name]
    found = {line.partition(" ")[0] for line in broken_laws[name]}
    assert found & set(laws), broken_laws[name]
