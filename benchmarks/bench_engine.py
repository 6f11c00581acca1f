"""What the engine does in a second: one app, one process, real time, memory and a SQLite file.

    python benchmarks/bench_engine.py [--cpu] [memory] [sqlite]

The rows are those of the table of peers that was published with the project (2 cores, CPython
3.11): the best of them stands beside ours, as published there and not measured here. Every figure
is the best of three rounds. With `--cpu` the rates count the CPU time of this process instead of
the time that passes: what others do on a busy computer hardly counts then. The cost of an empty
call is printed to compare computers by.
"""

import asyncio
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edda import EddaApp, activity, send_event, sleep, wait_event, workflow

ROUNDS = 3
clock = time.process_time if "--cpu" in sys.argv else time.perf_counter


class Noted:
    """When things happened, in seconds of `time.perf_counter`."""

    resumed: ClassVar = {}  # by key
    late: ClassVar = []


@activity
async def trivial(ctx, number: int) -> int:
    return number


@workflow
async def three_activities(ctx) -> int:
    await trivial(ctx, 1)
    await trivial(ctx, 2)
    return await trivial(ctx, 3)


@workflow
async def suspended(ctx, key: str) -> str:
    event = await wait_event(ctx, "bench.paid", match={"data.key": key})
    Noted.resumed[key] = time.perf_counter()
    return event.data["key"]


@workflow
async def timed(ctx) -> None:
    began = ctx.now().timestamp()
    await sleep(ctx, 1)
    Noted.late.append(time.time() - began - 1)


@workflow
async def alternating(ctx, rounds: int) -> int:
    for number in range(rounds):
        await wait_event(ctx, f"bench.{number}")
        await trivial(ctx, number)
    return rounds


@dataclass(frozen=True)
class Row:
    """One line of the table, and how a round of it is measured."""

    what: str
    unit: str
    peer: str
    measure: Callable[[EddaApp], Awaitable[float]]


@asynccontextmanager
async def opened(store):
    with tempfile.TemporaryDirectory() as folder:
        url = "memory://" if store == "memory" else f"sqlite:///{Path(folder, 'bench.db')}"
        async with EddaApp("bench", db_url=url) as app:
            yield app


async def one_after_another(app, count=200):
    """Workflows a second, each started when the one before has ended."""
    began = clock()
    for _ in range(count):
        await app.result(await app.start(three_activities))
    return count / (clock() - began)


async def at_once(app, clients=200, each=10):
    """Workflows a second, of many clients that each start one after another."""

    async def client():
        for _ in range(each):
            await app.result(await app.start(three_activities))

    began = clock()
    await asyncio.gather(*[client() for _ in range(clients)])
    return clients * each / (clock() - began)


async def suspend(app, count=1000):
    """Suspensions a second: started, and stored as waiting."""
    began = clock()
    await started_and_waiting(app, count)
    return count / (clock() - began)


async def resume(app, count=1000):
    """Resumptions a second: an event delivered, and the workflow at its end."""
    keys = await started_and_waiting(app, count)
    began = clock()
    await deliver_all(app, keys)
    return count / (clock() - began)


async def both(app, count=1000):
    """Workflows a second from start to end, by way of a suspension."""
    began = clock()
    await deliver_all(app, await started_and_waiting(app, count))
    return count / (clock() - began)


async def started_and_waiting(app, count):
    keys = [f"key-{number}" for number in range(count)]
    for key in keys:
        await app.start(suspended, key, instance_id=key)
    while await app.find(status="running", limit=1):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    return keys


async def deliver_all(app, keys):
    for key in keys:
        await send_event("bench.paid", "bench", {"key": key})
    await asyncio.gather(*map(app.result, keys))


async def latency(app, count=100):
    """Milliseconds from `send_event` called to the workflow's code going on, the median."""
    found = []
    for key in await started_and_waiting(app, count):
        began = time.perf_counter()
        await send_event("bench.paid", "bench", {"key": key})
        await app.result(key)
        found.append(Noted.resumed[key] - began)
    return statistics.median(found) * 1000


async def lateness(app, count=50):
    """Milliseconds that a timer of one second is late, the median."""
    Noted.late.clear()
    ids = []
    for _ in range(count):
        ids.append(await app.start(timed))
        await asyncio.sleep(0.01)
    for id in ids:
        await app.result(id)
    return statistics.median(Noted.late) * 1000


async def alternate(app, rounds=200):
    """Seconds that one workflow takes for so many events, each answered by an activity."""
    began = clock()
    id = await app.start(alternating, rounds)
    for number in range(rounds):
        await send_event(f"bench.{number}", "bench", {})
    await app.result(id)
    return clock() - began


ROWS = (
    Row("3 activities, one workflow after another", "/s", "616 Resonate", one_after_another),
    Row("3 activities, 200 workflows at once", "/s", "565 Resonate", at_once),
    Row("start and suspend 1,000", "/s", "3,235 Resonate", suspend),
    Row("deliver to and complete 1,000 suspended", "/s", "-", resume),
    Row("start, suspend, deliver, complete 1,000", "/s", "1,410 Resonate", both),
    Row("event sent to code resumed, median", "ms", "-", latency),
    Row("lateness of a one-second timer, median", "ms", "7-10 DBOS, AWS", lateness),
    Row("200 x (wait, activity) in one workflow", "s", "2.3 DBOS", alternate),
)


async def measured(row, store):
    """The best of the rounds, each in a fresh app: the most a second, or the least time."""
    found = []
    for _ in range(ROUNDS):
        async with opened(store) as app:
            found.append(await row.measure(app))
    return max(found) if row.unit == "/s" else min(found)


def main():
    wanted = [name for name in sys.argv[1:] if name != "--cpu"] or ["memory", "sqlite"]
    columns = "".join(f"{store:>12}" for store in wanted)
    print(f"{'':<44}{'':>4}{columns}   {'best peer, published'}")
    for row in ROWS:
        values = [asyncio.run(measured(row, store)) for store in wanted]
        digits = 0 if row.unit == "/s" else 2
        columns = "".join(f"{value:>12,.{digits}f}" for value in values)
        print(f"{row.what:<44}{row.unit:>4}{columns}   {row.peer}", flush=True)
    call = timeit.timeit("f()", "def f(): pass", number=1_000_000) * 1000
    print(f"a call of an empty function costs {call:.0f} ns here")


if __name__ == "__main__":
    main()
