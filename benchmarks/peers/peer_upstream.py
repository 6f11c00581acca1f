"""Upstream Edda (`edda-framework`): on a SQLite file, and on SQLite in memory, with its defaults.

Events have no correlation there, so each workflow waits for a type of its own. What an event wakes
is resumed by hand at once, which is faster than its own loop: that polls, from a second upwards. A
start or a resumption returns when the workflow waits (again) or has ended.
"""

import itertools
from contextlib import asynccontextmanager

import rows
from cloudevents.http import CloudEvent

from edda import EddaApp, WorkflowContext, activity, sleep, wait_event, workflow

EVENTS = itertools.count()


class Here:
    """The marks of the row that runs: workflows and activities tell them."""

    marks: rows.Marks


@activity
async def trivial(ctx: WorkflowContext, number: int) -> int:
    return number


@activity
async def marked(ctx: WorkflowContext, key: str, number: int) -> int:
    Here.marks.tell(key, number)
    return number


@workflow
async def three_activities(ctx: WorkflowContext) -> dict:
    await trivial(ctx, 1)
    await trivial(ctx, 2)
    return {"last": await trivial(ctx, 3)}


@workflow
async def suspended(ctx: WorkflowContext, key: str) -> dict:
    await wait_event(ctx, event_type=f"paid.{key}")
    Here.marks.tell(key, "ended")
    return {"key": key}


@workflow
async def alternating(ctx: WorkflowContext, key: str, rounds: int) -> dict:
    for number in range(rounds):
        await wait_event(ctx, event_type=f"next.{key}.{number}")
        await marked(ctx, key, number)
    Here.marks.tell(key, "ended")
    return {"rounds": rounds}


@workflow
async def timed(ctx: WorkflowContext, key: str) -> dict:
    Here.marks.tell(key, "began")
    await sleep(ctx, 1)
    Here.marks.tell(key, "woke")
    return {"key": key}


class Upstream:
    """A start runs the workflow up to its first wait, or to its end."""

    def __init__(self, app):
        self.app = app
        self.marks = Here.marks = rows.Marks()
        self.ids = {}

    async def three(self, key):
        await three_activities.start()

    async def start_waiting(self, key):
        self.ids[key] = await suspended.start(key=key)

    async def all_waiting(self, keys):
        """They are, when their start has returned."""

    async def deliver(self, key):
        await self.send(f"paid.{key}")
        await suspended.resume(self.ids[key])

    async def ended(self, key):
        await self.marks.told(key, "ended")

    async def start_alternating(self, key, rounds):
        self.ids[key] = await alternating.start(key=key, rounds=rounds)

    async def deliver_round(self, key, number):
        await self.send(f"next.{key}.{number}")
        await alternating.resume(self.ids[key])

    async def start_timed(self, key):
        await timed.start(key=key)

    async def send(self, type_):
        attributes = {"type": type_, "source": "bench", "id": f"event-{next(EVENTS)}"}
        await self.app.handle_cloudevent(CloudEvent(attributes, {"type": type_}), wait=True)


def kept_in(url):
    @asynccontextmanager
    async def opened(folder):
        app = EddaApp(service_name="bench", db_url=url.format(folder=folder))
        await app.initialize()
        yield Upstream(app)
        await app.shutdown()

    return opened


if __name__ == "__main__":
    rows.main(
        {"SQLite": kept_in("sqlite:///{folder}/bench.db"), "memory": kept_in("sqlite:///:memory:")}
    )
