"""durabletask on its in-memory backend, worker, backend and client in this process, over gRPC.

The client is the asynchronous one. The end of an orchestration is noted by its last line: each call
of `wait_for_orchestration_completion` holds one of the backend's ten threads, so that 32 of them at
once leave none to work with.
"""

import socket
from contextlib import asynccontextmanager
from datetime import UTC, timedelta

import rows
from durabletask.client import AsyncTaskHubGrpcClient
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker


class Here:
    """The marks of the row that runs: orchestrators and activities tell them."""

    marks: rows.Marks


def trivial(ctx, number):
    return number


def marked(ctx, mark):
    Here.marks.tell(*mark)


def three_activities(ctx, key):
    yield ctx.call_activity(trivial, input=1)
    yield ctx.call_activity(trivial, input=2)
    last = yield ctx.call_activity(trivial, input=3)
    Here.marks.tell(key, "ended")
    return last


def suspended(ctx, key):
    Here.marks.tell(key, "waits")
    event = yield ctx.wait_for_external_event("paid")
    Here.marks.tell(key, "ended")
    return event


def alternating(ctx, asked):
    key, rounds = asked
    for number in range(rounds):
        yield ctx.wait_for_external_event("next")
        yield ctx.call_activity(marked, input=[key, number])
    Here.marks.tell(key, "ended")
    return rounds


def timed(ctx, key):
    now = ctx.current_utc_datetime.replace(tzinfo=UTC)
    Here.marks.tell(key, "began", at=now.timestamp())
    yield ctx.create_timer(timedelta(seconds=1))
    Here.marks.tell(key, "woke")


class InMemory:
    def __init__(self, client):
        self.client = client
        self.marks = Here.marks = rows.Marks()

    async def start(self, orchestrator, key, given):
        await self.client.schedule_new_orchestration(orchestrator, input=given, instance_id=key)

    async def three(self, key):
        await self.start(three_activities, key, key)
        await self.ended(key)

    async def start_waiting(self, key):
        await self.start(suspended, key, key)

    async def all_waiting(self, keys):
        await self.marks.all_told(keys, "waits")

    async def deliver(self, key):
        await self.client.raise_orchestration_event(key, "paid", data=key)

    async def ended(self, key):
        await self.marks.told(key, "ended")

    async def start_alternating(self, key, rounds):
        await self.start(alternating, key, [key, rounds])

    async def deliver_round(self, key, number):
        await self.client.raise_orchestration_event(key, "next", data=number)

    async def start_timed(self, key):
        await self.start(timed, key, key)


@asynccontextmanager
async def opened(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    backend = create_test_backend(port)
    address = f"localhost:{port}"
    with TaskHubGrpcWorker(host_address=address) as worker:
        for orchestrator in (three_activities, suspended, alternating, timed):
            worker.add_orchestrator(orchestrator)
        worker.add_activity(trivial)
        worker.add_activity(marked)
        worker.start()
        async with AsyncTaskHubGrpcClient(host_address=address) as client:
            yield InMemory(client)
    backend.stop()


if __name__ == "__main__":
    rows.main({"memory": opened})
