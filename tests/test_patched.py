"""`ctx.patched("id")`: code that changes under running instances."""

import pytest

from edda import activity, wait_event, workflow
from edda.history import Patched, as_row, from_row
from edda_testkit import Simulation


@activity
async def charge(ctx, cents: int) -> int:
    return cents


@activity
async def reserve(ctx) -> str:
    return "reserved"


@workflow(name="buy")
async def old(ctx) -> str:
    await wait_event(ctx, "go")
    await charge(ctx, 1)
    await wait_event(ctx, "end")
    return "old"


@workflow(name="buy")
async def new(ctx) -> str:
    await wait_event(ctx, "go")
    reserved = await reserve(ctx) if ctx.patched("reserve-first") else "not reserved"
    await charge(ctx, 1)
    await wait_event(ctx, "end")
    return reserved


@pytest.fixture
def sim():
    """A simulation in which the old code runs."""
    with Simulation() as sim:
        yield sim


def test_an_instance_past_the_change_keeps_the_old_side(sim):
    """What was recorded without the patch goes on without it, however often it is replayed."""
    run = sim.start(old)
    sim.send("go")
    sim.deploy(new)
    sim.crash()
    sim.send("end")
    assert run.result == "not reserved"
    assert run.calls(reserve) == []


def test_an_instance_before_the_change_takes_the_new_side(sim):
    """One that gets there after the change takes the new side, and keeps it when replayed."""
    run = sim.start(old)
    sim.deploy(new)
    sim.send("go")
    sim.crash()
    sim.send("end")
    assert run.result == "reserved"
    assert [event.id for event in run.history if isinstance(event, Patched)] == ["reserve-first"]


def test_a_new_instance_takes_the_new_side(sim):
    """A new instance takes the new side."""
    run = sim.start(new)
    sim.send("go")
    sim.send("end")
    assert run.result == "reserved"


def test_the_answer_is_recorded_once(sim):
    """Asking again gives the same answer, and one event."""

    @workflow
    async def asking(ctx) -> list[bool]:
        return [ctx.patched("a"), ctx.patched("a"), ctx.patched("b")]

    run = sim.start(asking)
    assert run.result == [True, True, True]
    assert [event.id for event in run.history if event.kind == "patched"] == ["a", "b"]


def test_taking_a_patch_away_is_a_divergence(sim):
    """Code that drops `patched` while instances rely on it leaves them stuck, and says so."""
    run = sim.start(new)
    sim.send("go")
    sim.deploy(old)
    sim.crash()
    sim.send("end")
    assert run.status == "stuck"
    assert "patched('reserve-first')" in str(run.error)
    sim.deploy(new)
    sim.crash()
    assert run.result == "reserved"


def test_an_id_is_a_string(sim):
    """Anything but a non-empty string is refused."""

    @workflow
    async def wrong(ctx) -> str:
        with pytest.raises(TypeError, match="id must be a non-empty string, got 5"):
            ctx.patched(5)
        return "refused"

    assert sim.start(wrong).result == "refused"


def test_a_patch_survives_storage(sim):
    """The event is the same after a round trip through its row."""
    run = sim.start(new)
    sim.send("go")
    patched = next(event for event in run.history if isinstance(event, Patched))
    assert from_row(as_row(patched)) == patched
