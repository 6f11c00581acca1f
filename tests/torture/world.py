"""What runs under torture: a workflow for each promise, activities that leave a trace.

An activity's effect is one line at the end of a file that is opened O_APPEND: such a line is
written whole or not at all, and stays when its process is killed right after.
"""

import asyncio
import json
import os
import random
import time
from datetime import datetime, timedelta

from pydantic import BaseModel

from edda import (
    EventTimeoutError,
    RetryPolicy,
    TerminalError,
    activity,
    compensation,
    on_failure,
    receive,
    send_event_transactional,
    subscribe,
    wait_event,
    wait_timer,
    workflow,
)

SHORT = 0.15  # seconds, of timers and deadlines
settings = {"ledger": -1, "moment_seconds": 0.02}


def open_ledger(path):
    """Write effects to this file from now on."""
    settings["ledger"] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def note(kind, **what):
    """Add a line to the ledger."""
    line = json.dumps({"kind": kind, "pid": os.getpid(), "at": time.time(), **what})
    os.write(settings["ledger"], line.encode() + b"\n")


def effect(ctx, **what):
    """What an activity does to the outside."""
    note("effect", key=ctx.idempotency_key, attempt=ctx.attempt, **what)


async def moment():
    await asyncio.sleep(random.random() * settings["moment_seconds"])


class Tick(BaseModel):
    """What a counter counts."""

    id: str
    n: int


@activity
async def charge(ctx, n: int) -> int:
    await moment()
    effect(ctx, n=n)
    await moment()
    return n


@activity(retry_policy=RetryPolicy(initial_interval=0.03))
async def flaky(ctx, n: int) -> int:
    effect(ctx, n=n)
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt always fails")
    return n


@activity(transactional=True)
async def book(ctx, n: int) -> int:
    row = (ctx.idempotency_key, n)
    if hasattr(ctx.connection, "fetchrow"):  # asyncpg's
        await ctx.connection.execute("INSERT INTO booked VALUES ($1, $2)", *row)
    else:
        await ctx.connection.execute("INSERT INTO booked VALUES (?, ?)", row)
    return n


@activity
async def tell(ctx, n: int) -> None:
    data = {"id": ctx.instance_id, "n": n}
    await send_event_transactional(ctx, event_type="told", source="world", data=data)


@activity
async def mark(ctx, due: datetime) -> None:
    effect(ctx, due=due.timestamp())


@compensation
async def unreserve(ctx, what: str) -> None:
    effect(ctx, undone=what)


@activity
@on_failure(unreserve)
async def reserve(ctx, what: str) -> str:
    effect(ctx, what=what)
    await moment()
    return what


@activity
async def explode(ctx) -> None:
    raise TerminalError("sold out")


@workflow
async def order(ctx, n: int):
    await book(ctx, n)
    await charge(ctx, n)
    event = await wait_event(ctx, "paid", match={"data.id": ctx.instance_id})
    await book(ctx, -n)
    return [event.data["n"], await flaky(ctx, n)]


@workflow(start_on="start.delayed")
async def delayed(ctx, n: int):
    due = ctx.now() + timedelta(seconds=SHORT)
    await wait_timer(ctx, SHORT)
    await mark(ctx, due)
    return sum(await asyncio.gather(charge(ctx, n), charge(ctx, 2 * n)))


@workflow
async def trip(ctx, n: int):
    await reserve(ctx, "hotel")
    await reserve(ctx, "flight")
    await explode(ctx)


@workflow
async def child(ctx, n: int) -> int:
    await wait_timer(ctx, 0.03)
    return await charge(ctx, n)


@workflow
async def parent(ctx, n: int) -> int:
    return await child.run(ctx, n)


@workflow
async def teller(ctx, n: int) -> int:
    await tell(ctx, n)
    event = await wait_event(ctx, "told", match={"data.id": ctx.instance_id})
    return event.data["n"]


@workflow
async def counter(ctx, n: int):
    await charge(ctx, n)
    seen = []
    for _ in range(3):
        match = {"data.id": ctx.instance_id}
        event = await wait_event(ctx, "tick", model=Tick, match=match)
        seen.append(event.data.n)
    return seen


@workflow
async def racer(ctx, n: int):
    deadline = ctx.now() + timedelta(seconds=SHORT)
    try:
        match = {"data.id": ctx.instance_id}
        await wait_event(ctx, "raced", match=match, timeout_seconds=SHORT)
    except EventTimeoutError:
        return ["late", deadline.timestamp()]
    return ["came", deadline.timestamp()]


@workflow
async def abandoned(ctx, n: int):
    await reserve(ctx, "hotel")
    await wait_event(ctx, "never", match={"data.id": ctx.instance_id})


@workflow
async def consumer(ctx, n: int):
    await subscribe(ctx, "jobs", mode="competing")
    for _ in range(4):
        try:
            message = await receive(ctx, "jobs", timeout_seconds=0.05)
        except EventTimeoutError:
            await wait_timer(ctx, 0.005)
        else:
            return await charge(ctx, message.data)
    await ctx.recur(n=n)


@workflow
async def listener(ctx, n: int, seen: list[int] = []):  # noqa: B006 - never changed
    await charge(ctx, n)  # what is published meanwhile is kept, from the second round on
    await subscribe(ctx, "news")
    for _ in range(2):
        message = await receive(ctx, "news")
        seen = [*seen, message.data]
    if len(seen) >= 6:
        return seen
    await ctx.recur(n=n, seen=seen)


WORKFLOWS = {
    one.name: one
    for one in (
        abandoned,
        child,
        consumer,
        counter,
        delayed,
        listener,
        order,
        parent,
        racer,
        teller,
        trip,
    )
}
