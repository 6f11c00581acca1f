"""Servers are killed at any instant, and nothing of what is promised breaks."""

import asyncio
import os
from collections import Counter

from tests.torture import campaign, checker
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
