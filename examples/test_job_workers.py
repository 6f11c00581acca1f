"""Every job once, however many workers, and whoever dies."""

from collections import Counter

import pytest

from edda import WorkflowContext, receive, subscribe, workflow
from edda_testkit import check_crashes, explore
from examples.job_workers import (
    IDLE_SECONDS,
    ROUND,
    Album,
    Job,
    Outside,
    job_worker,
    resize,
)


def test_jobs_are_shared(edda_sim):
    """Two workers, ten jobs: each job is done once, and both have worked."""
    workers = [edda_sim.start(job_worker) for _ in range(2)]
    for number in range(10):
        edda_sim.publish("jobs", {"picture": f"{number}.png"})
    assert sorted(call.args[0].picture for call in edda_sim.calls(resize)) == [
        f"{number}.png" for number in range(10)
    ]
    assert all(worker.calls(resize) for worker in workers)


def test_idle_workers_go_home(edda_sim):
    """After an hour without a job a worker ends, and says how much it did."""
    worker = edda_sim.start(job_worker)
    edda_sim.publish("jobs", {"picture": "cat.png"})
    edda_sim.advance(IDLE_SECONDS - 1)
    assert worker.status == "waiting_for_message"
    edda_sim.advance(1)
    assert worker.result == 1


def test_jobs_that_nobody_waited_for(edda_sim):
    """A job that comes before its worker is kept."""
    edda_sim.publish("jobs", {"picture": "early.png"})
    worker = edda_sim.start(job_worker)
    assert [call.args for call in worker.calls(resize)] == [(Job(picture="early.png"),)]


def test_a_long_day(edda_sim):
    """Fresh histories begin under way; the count and the unread jobs stay."""
    worker = edda_sim.start(job_worker)
    for number in range(2 * ROUND + 3):
        edda_sim.publish("jobs", {"picture": f"{number}.png"})
    edda_sim.advance(IDLE_SECONDS)
    assert worker.result == 2 * ROUND + 3


def one_job(sim):
    album = Outside.album = sim.world(Album)
    worker = sim.start(job_worker)
    sim.publish("jobs", {"picture": "cat.png"})
    sim.advance(IDLE_SECONDS)
    return worker.result, album.pictures


def test_a_crash_anywhere():
    """Wherever the worker dies, the picture is there and the job is counted once."""
    assert check_crashes(one_job, crashes=2).exhaustive


# ---- A bug, and the test that finds it -------------------------------------------------------
# Before: the mode was left at its default, which gives every message to every subscriber.


@workflow
async def eager_worker(ctx: WorkflowContext) -> None:
    await subscribe(ctx, "jobs")
    while True:
        message = await receive(ctx, "jobs")
        await resize(ctx, Job.model_validate(message.data))


def shift(definition, sim):
    """Two workers and two jobs, in whatever order they come; one of the processes dies."""
    with sim.concurrently():
        sim.start(definition)
        sim.start(definition)
        sim.publish("jobs", {"picture": "a.png"})
        sim.publish("jobs", {"picture": "b.png"})
    done = Counter(call.args[0].picture for call in sim.calls(resize))
    assert max(done.values(), default=0) <= 1, "a job was done twice"


def test_no_order_of_things_does_a_job_twice():
    """In every order of starts and jobs, each job is done at most once."""
    assert explore(lambda sim: shift(job_worker, sim), max_schedules=200).tried > 10


def test_the_kit_finds_the_job_done_twice():
    """With the default mode, both workers take the same job."""
    with pytest.raises(AssertionError, match="a job was done twice"):
        explore(lambda sim: shift(eager_worker, sim))
