"""Ours: in memory, and on a SQLite file with its defaults (WAL, an fsync a commit)."""

import asyncio
from contextlib import asynccontextmanager

import rows

from edda import EddaApp, activity, send_event, sleep, wait_event, workflow


class Here:
    """The marks of the row that runs: workflows and activities tell them."""

    marks: rows.Marks


@activity
async def trivial(ctx, number: int) -> int:
    return number


@activity
async def marked(ctx, key: str, number: int) -> int:
    Here.marks.tell(key, number)
    return number


@workflow
async def three_activities(ctx) -> int:
    await trivial(ctx, 1)
    await trivial(ctx, 2)
    return await trivial(ctx, 3)


@workflow
async def suspended(ctx, key: str) -> str:
    Here.marks.tell(key, "waits")  # needless here; the other scripts keep as much in memory
    event = await wait_event(ctx, "bench.paid", match={"data.key": key})
    return event.data["key"]


@workflow
async def alternating(ctx, key: str, rounds: int) -> int:
    for number in range(rounds):
        await wait_event(ctx, f"bench.{number}")
        await marked(ctx, key, number)
    return rounds


@workflow
async def timed(ctx, key: str) -> None:
    Here.marks.tell(key, "began", at=ctx.now().timestamp())
    await sleep(ctx, 1)
    Here.marks.tell(key, "woke")


class Edda:
    def __init__(self, app):
        self.app = app
        self.marks = Here.marks = rows.Marks()

    async def three(self, key):
        await self.app.result(await self.app.start(three_activities, instance_id=key))

    async def start_waiting(self, key):
        await self.app.start(suspended, key, instance_id=key)

    async def all_waiting(self, keys):
        while await self.app.find(status="running", limit=1):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)

    async def deliver(self, key):
        await send_event("bench.paid", "bench", {"key": key})

    async def ended(self, key):
        await self.app.result(key)

    async def start_alternating(self, key, rounds):
        await self.app.start(alternating, key, rounds, instance_id=key)

    async def deliver_round(self, key, number):
        await send_event(f"bench.{number}", "bench", {})

    async def start_timed(self, key):
        await self.app.start(timed, key, instance_id=key)


def kept_in(url):
    @asynccontextmanager
    async def opened(folder):
        async with EddaApp("bench", db_url=url.format(folder=folder)) as app:
            yield Edda(app)

    return opened


if __name__ == "__main__":
    rows.main({"memory": kept_in("memory://"), "SQLite": kept_in("sqlite:///{folder}/bench.db")})
