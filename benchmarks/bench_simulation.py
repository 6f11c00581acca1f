"""What a fresh simulation costs: one workflow, two activities, one wait, opened and checked.

    python benchmarks/bench_simulation.py [TESTS]

The first table is measured in this process; the second runs pytest on TESTS tests (500) that
are empty, and that each have a simulation. The target is 1 ms a test on top of an empty one.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edda import activity, wait_event, workflow
from edda.stores.sqlite import DirectSqliteStore
from edda_testkit.freeze import Freezer
from edda_testkit.simulation import Simulation

TARGET_MS = 1.0
ROOT = Path(__file__).resolve().parents[1]

TESTS = """
import pytest
from edda import activity, wait_event, workflow

@activity
async def charge(ctx, amount: int) -> int:
    return amount

@workflow
async def order(ctx, amount: int):
    await charge(ctx, amount)
    event = await wait_event(ctx, "paid", timeout_seconds=60)
    await charge(ctx, amount)
    return event.data

@pytest.mark.parametrize("n", range({many}), ids="n{{}}".format)
def test_empty(n):
    pass

@pytest.mark.parametrize("n", range({many}), ids="n{{}}".format)
def test_simulated(edda_sim, n):
    run = edda_sim.start(order, n)
    edda_sim.send("paid", n)
    assert run.result == n
"""


@activity
async def charge(ctx, amount: int) -> int:
    return amount


@workflow
async def order(ctx, amount: int):
    await charge(ctx, amount)
    event = await wait_event(ctx, "paid", timeout_seconds=60)
    await charge(ctx, amount)
    return event.data


def simulate(*, stubbed=False, **options):
    with Simulation(**options) as sim:
        if stubbed:
            sim.stub(charge, returns=1)
        run = sim.start(order, 1)
        sim.send("paid", {"n": 1})
        assert run.result == {"n": 1}


def cost_ms(rounds=7, times=100, **options):
    """The median of rounds, in milliseconds a simulation."""
    simulate(**options)
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(times):
            simulate(**options)
        found.append((time.perf_counter() - begin) / times * 1000)
    return statistics.median(found)


def pytest_ms(name, folder):
    """Milliseconds of a whole run of pytest: the best of three."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - begin)
    return min(found) * 1000


def row(name, ms, base):
    print(f"{name:<44}{ms:>9.3f} ms{ms / base:>9.2f}x")


def main():
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    freezer = Freezer()
    freezer.hold()
    base = cost_ms(freezer=freezer)
    print(f"{'one simulation':<44}{'cost':>12}{'ratio':>10}")
    row("memory, freezegun held", base, base)
    row("memory, freezegun held, stubs", cost_ms(freezer=freezer, stubbed=True), base)
    row("memory, freezegun held, no replay", cost_ms(freezer=freezer, replay=False), base)
    sqlite = cost_ms(freezer=freezer, store=DirectSqliteStore, times=20)
    row("SQLite in memory, freezegun held", sqlite, base)
    freezer.release()
    row("memory, time left alone", cost_ms(freezer=Freezer("off")), base)
    row("memory, a freeze of its own", cost_ms(freezer=Freezer(), times=5), base)

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_cost.py").write_text(TESTS.format(many=many), "utf-8")
        none, first = (pytest_ms(f"{name} and n0]", folder) for name in ("empty", "simulated"))
        empty, simulated = (pytest_ms(name, folder) for name in ("empty", "simulated"))
    empty_test, test = (empty - none) / (many - 1), (simulated - first) / (many - 1)
    extra = test - empty_test
    print(f"\n{f'pytest, {many} tests':<44}{'a test':>12}{'ratio':>10}")
    row("empty", empty_test, empty_test)
    row("with a simulation", test, empty_test)
    row("the first simulation of a session", first - none, empty_test)
    verdict = "met" if extra < TARGET_MS else "MISSED"
    print(f"{'a simulation adds':<44}{extra:>9.3f} ms   target {TARGET_MS:g} ms: {verdict}")


if __name__ == "__main__":
    main()
