"""Workers that share the jobs of a channel: each job is done by one of them.

Start as many `job_worker` instances as should work side by side. A job is a message; whatever can
post a CloudEvent can publish one. Serve it with `edda serve examples.job_workers:app`, then:

    curl -X POST http://localhost:8001/events -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "job_worker", "source": "shell", "id": "1", "data": {}}'
    curl -X POST http://localhost:8001/events -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "edda.channel.jobs", "source": "shell", "id": "2",
           "data": {"picture": "cat.png"}}'
"""

import os

from pydantic import BaseModel

from edda import (
    EddaApp,
    EventTimeoutError,
    WorkflowContext,
    activity,
    receive,
    subscribe,
    workflow,
)

IDLE_SECONDS = 3600
ROUND = 50  # jobs until a worker begins a fresh history


class Job(BaseModel):
    picture: str


class Album:
    """The outside world: where pictures go."""

    def __init__(self) -> None:
        self.pictures: dict[str, str] = {}


class Outside:
    album = Album()


@activity
async def resize(ctx, job: Job) -> None:
    Outside.album.pictures[job.picture] = f"small/{job.picture}"


@workflow(start_on=True)
async def job_worker(ctx: WorkflowContext, done: int = 0) -> int:
    """Do jobs until none has come for an hour; how many were done."""
    await subscribe(ctx, "jobs", mode="competing")
    for _ in range(ROUND):
        try:
            message = await receive(ctx, "jobs", timeout_seconds=IDLE_SECONDS)
        except EventTimeoutError:
            return done
        await resize(ctx, Job.model_validate(message.data))
        done += 1
    await ctx.recur(done=done)
    return done


app = EddaApp("job-workers", os.environ.get("EDDA_DB_URL", "sqlite:///job_workers.db"))
