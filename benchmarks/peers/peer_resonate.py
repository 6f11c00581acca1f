"""Resonate in its local mode: everything in this process, and nothing on a disk."""

from contextlib import asynccontextmanager
from datetime import timedelta

import rows
from resonate.resonate import Resonate
from resonate.types import Value


class Here:
    """The marks of the row that runs, and the promises that its workflows wait for."""

    marks: rows.Marks
    promises = {}  # noqa: RUF012 - one process, one row


async def trivial(ctx, number: int) -> int:
    return number


async def marked(ctx, key: str, number: int) -> int:
    Here.marks.tell(key, number)
    return number


async def three_steps(ctx) -> int:
    await ctx.run(trivial, 1)
    await ctx.run(trivial, 2)
    return await ctx.run(trivial, 3)


async def event(ctx, *mark):
    """Wait for a promise that somebody else resolves; its id is known once it has been made."""
    promise = ctx.promise(timeout=timedelta(hours=1))
    Here.promises[mark] = await promise.id()
    Here.marks.tell(*mark)
    return await promise


async def suspended(ctx, key: str) -> str:
    return await event(ctx, key, "waits")


async def alternating(ctx, key: str, rounds: int) -> int:
    for number in range(rounds):
        await event(ctx, key, f"waits {number}")
        await ctx.run(marked, key, number)
    return rounds


async def timed(ctx, key: str) -> None:
    Here.marks.tell(key, "began")
    await ctx.sleep(timedelta(seconds=1))
    Here.marks.tell(key, "woke")


class Local:
    def __init__(self, resonate):
        self.resonate = resonate
        self.marks = Here.marks = rows.Marks()
        self.handles = {}

    async def start(self, key, function, *arguments):
        self.handles[key] = self.resonate.run(key, function, *arguments)
        await self.handles[key].id()

    async def three(self, key):
        await self.resonate.run(key, three_steps).result()

    async def start_waiting(self, key):
        await self.start(key, suspended, key)

    async def all_waiting(self, keys):
        await self.marks.all_told(keys, "waits")

    async def deliver(self, key):
        await self.resonate.promises.resolve(Here.promises.pop((key, "waits")), Value(data=key))

    async def ended(self, key):
        await self.handles.pop(key).result()

    async def start_alternating(self, key, rounds):
        await self.start(key, alternating, key, rounds)

    async def deliver_round(self, key, number):
        mark = (key, f"waits {number}")
        await self.marks.told(*mark)
        await self.resonate.promises.resolve(Here.promises[mark], Value(data=number))

    async def start_timed(self, key):
        await self.start(key, timed, key)


@asynccontextmanager
async def opened(folder):
    resonate = Resonate(env={})
    for function in (trivial, marked, three_steps, suspended, alternating, timed):
        resonate.register(function)
    yield Local(resonate)
    await resonate.stop()


if __name__ == "__main__":
    rows.main({"memory": opened})
