"""What the PostgreSQL store does on this machine: workflows, waits, events, claims.

    python benchmarks/bench_postgres.py [COUNT]

A server is started (`EDDA_TEST_POSTGRES` names another), once with fsync and once without, as on
a disk that costs nothing. Server and
workers share this machine's cores, and every durable step waits for its disk: the first two
figures say what that costs here. Peers on PostgreSQL, on an idle machine of two cores: three
activities one after another 19 to 106 /s, many at once 49 to 178 /s; start, suspend, deliver and
complete 617 /s (absurd).
"""

import asyncio
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import asyncpg

from edda import EddaApp, activity, wait_event, workflow
from edda.doors import SystemClock, open_store
from edda.history import Started
from edda.ports import NewInstance, Status
from tests.postgres_server import NoPostgres, running

COUNT = 500
RESUMED = {}  # when the activity after an event began


@activity
async def add(ctx, n: int) -> int:
    RESUMED[n] = time.perf_counter()
    return n + 1


@workflow
async def three(ctx, n: int) -> int:
    for _ in range(3):
        n = await add(ctx, n)
    return n


@workflow
async def order(ctx, n: int) -> int:
    event = await wait_event(ctx, "paid", match={"data.order": n})
    return await add(ctx, event.data["order"])


def per_second(count, begun):
    return f"{count / (time.perf_counter() - begun):9,.0f} /s"


async def floor(url):
    """What one round trip and one durable commit cost here, at the least."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS floor (x int)")
    for label, statement in (
        ("round trip", "SELECT 1"),
        ("durable commit", "INSERT INTO floor VALUES (1)"),
    ):
        times = []
        for _ in range(300):
            begun = time.perf_counter()
            await connection.execute(statement)
            times.append((time.perf_counter() - begun) * 1000)
        print(f"floor: one {label:14} median {statistics.median(times):.2f} ms")
    await connection.close()


async def one_after_another(app, count):
    begun = time.perf_counter()
    for n in range(count):
        await app.result(await app.start(three, n), timeout=60)
    print("three activities, one after another", per_second(count, begun))


async def at_once(app, count, width):
    begun = time.perf_counter()
    room = asyncio.Semaphore(width)

    async def run(n):
        async with room:
            await app.result(await app.start(three, n), timeout=60)

    await asyncio.gather(*(run(n) for n in range(count)))
    print(f"three activities, {width:3} at once       ", per_second(count, begun))


async def suspended(app, count):
    begun = time.perf_counter()
    ids = await asyncio.gather(*(app.start(order, n) for n in range(count)))
    while await waiting(app) < count:  # noqa: ASYNC110 - the store says nothing of waits
        await asyncio.sleep(0.01)
    print("suspend on an event                 ", per_second(count, begun))
    begun = time.perf_counter()
    for n in range(count):
        await app.handle_event(paid(n))
    await asyncio.gather(*(app.result(id, timeout=60) for id in ids))
    print("deliver one by one, resume, complete", per_second(count, begun))


def paid(n):
    named = {"specversion": "1.0", "type": "paid", "source": "bench", "id": str(n)}
    return {**named, "data": {"order": n}}


async def waiting(app):
    return len(
        await app.store.find(status=Status.WAITING_FOR_EVENT, workflow="order", limit=100_000)
    )


async def latency(app, url, count):
    """From an event sent by a door without a worker to what the workflow does next, elsewhere."""
    async with EddaApp("door", url, worker=False) as door:
        resumed, completed = [], []
        for n in range(1_000_000, 1_000_000 + count):
            id = await app.start(order, n)
            while await app.status(id) != Status.WAITING_FOR_EVENT:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.002)
            begun = time.perf_counter()
            await door.handle_event(paid(n))
            await door.result(id, timeout=60)
            completed.append((time.perf_counter() - begun) * 1000)
            resumed.append((RESUMED[n] - begun) * 1000)
    for label, times in (("to resumed", resumed), ("to result", completed)):
        times.sort()
        p99 = times[int(len(times) * 0.99) - 1]
        median = statistics.median(times)
        print(f"event {label:11} through a door   median {median:6.1f} ms, p99 {p99:.1f} ms")


async def operations(url, count):
    store = open_store(url, SystemClock())
    await store.open()
    started = Started(0, datetime.now(UTC), "w", "{}", 1)
    begun = time.perf_counter()
    for n in range(count):
        await store.create(NewInstance(f"c{n}", "w", started))
    print("create, one by one                  ", per_second(count, begun))
    begun = time.perf_counter()
    claimed = 0
    while found := await store.claim("me", ["w"], limit=100, lease_seconds=30):
        claimed += len(found)
    print("claim, 100 at a time                ", per_second(claimed, begun))
    await store.close()


async def prepare(url, count):
    store = open_store(url, SystemClock())
    await store.open()
    started = Started(0, datetime.now(UTC), "p", "{}", 1)
    await asyncio.gather(*(store.create(NewInstance(f"p{n}", "p", started)) for n in range(count)))
    await store.close()


async def claim_all(url, name):
    store = open_store(url, SystemClock())
    await store.open()
    print("ready", flush=True)
    sys.stdin.readline()
    claimed, begun = 0, time.perf_counter()
    while found := await store.claim(name, ["p"], limit=10, lease_seconds=30):
        claimed += len(found)
    print(claimed, time.perf_counter() - begun, flush=True)
    await store.close()


def two_claimers(url, count):
    asyncio.run(prepare(url, count))
    command = [sys.executable, __file__, "claim", url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [subprocess.Popen([*command, f"w{n}"], **pipes) for n in range(2)]
    for other in others:
        other.stdout.readline()
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    told = [other.communicate()[0].split() for other in others]
    assert sum(int(claimed) for claimed, _ in told) == count, told
    seconds = max(float(seconds) for _, seconds in told)
    print(
        f"claim, 2 processes, 10 at a time     {count / seconds:9,.0f} /s",
        [int(c) for c, _ in told],
    )


async def bench(url, count):
    async with EddaApp("bench", url, workflows=[three, order]) as app:
        await floor(url)
        await at_once(app, 50, 8)  # warm
        await one_after_another(app, count // 2)
        for width in (8, 32, 128):
            await at_once(app, count, width)
        await suspended(app, count)
        await latency(app, url, 100)
    await operations(url, count)


if __name__ == "__main__":
    if sys.argv[1:2] == ["claim"]:
        asyncio.run(claim_all(*sys.argv[2:]))
    else:
        wanted = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
        try:
            for is_durable in (True, False):
                print("-- with fsync" if is_durable else "-- without fsync")
                with running(is_durable=is_durable) as place:
                    asyncio.run(bench(place, wanted))
                    two_claimers(place, 2 * wanted)
        except NoPostgres as error:
            print(f"not measured: {error}")
