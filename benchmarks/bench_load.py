"""What one process carries: many suspended instances, a long history, many events over HTTP.

    python benchmarks/bench_load.py [--suspended N] [suspended] [memory] [http] [history]

Real time. N is 100,000, and 1,000,000 with `--suspended 1000000` (some ten minutes, 3 GB of
disk); in memory at most 100,000. Every number is of one round.
"""

import asyncio
import contextlib
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edda import EddaApp, activity, send_event, wait_event, wait_timer, workflow

ROOT = Path(__file__).resolve().parents[1]
TIMERS = 1_000
AT_A_TIME = 1_000  # starts
EVENTS = 5_000
EVENTS_PER_SECOND = 1_000
CONNECTIONS = 16
HISTORY = 100_000  # events


@activity
async def trivial(ctx, number: int) -> int:
    return number


@workflow
async def waiting_for_a_key(ctx, key: str) -> str:
    event = await wait_event(ctx, "load.paid", match={"data.key": key})
    return event.data["key"]


@workflow
async def waiting_for_an_instant(ctx, seconds: float) -> None:
    await wait_timer(ctx, seconds)


@workflow
async def long_running(ctx, rounds: int) -> int:
    for number in range(rounds):
        await trivial(ctx, number)
    await wait_event(ctx, "load.end")
    return rounds


@workflow
async def counting(ctx, key: str, events: int) -> int:
    for _ in range(events):
        await wait_event(ctx, "load.tick", match={"data.key": key})
    return events


app = EddaApp("load", os.environ.get("EDDA_LOAD_URL", "memory://"))  # for `edda serve`


def row(what, value, unit):
    print(f"{what:<58}{value:>12,.{0 if value >= 100 else 2}f} {unit}", flush=True)


def resident_bytes():
    """Of this process, once it has let go of what it does not need."""
    gc.collect()
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell how much memory a process has")


# ---- Many suspended instances ----------------------------------------------------------------


async def start_all(app, count):
    for first in range(0, count, AT_A_TIME):
        numbers = range(first, min(first + AT_A_TIME, count))
        await asyncio.gather(
            *(app.start(waiting_for_a_key, f"key-{n}", instance_id=f"key-{n}") for n in numbers)
        )
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{first:,} of {count:,} started ")
    await all_suspended(app)


async def all_suspended(app):
    while await app.find(status="running", limit=1):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)


async def suspend(url, count, file=None):
    """Suspend `count`; deliver to some of them; let timers fire among them."""
    where = "SQLite" if file else "memory"
    async with EddaApp("load", url) as app:
        before, began = resident_bytes(), time.perf_counter()
        await start_all(app, count)
        seconds = time.perf_counter() - began
        row(f"{where}: started and suspended, {count:,} in all", count / seconds, "/s")
        row("  memory of the process", (resident_bytes() - before) / count, "bytes each")
        if file:
            size = sum(each.stat().st_size for each in file.parent.glob(f"{file.name}*"))
            row("  file", size / count, "bytes each")
        times = []
        for key in (f"key-{count * n // 100}" for n in range(100)):
            began = time.perf_counter()
            await send_event("load.paid", "load", {"key": key})
            await app.result(key)
            times.append(time.perf_counter() - began)
        row("  deliver to one and complete it, median of 100", statistics.median(times) * 1e3, "ms")
        due = time.time() + 5
        ids = [await app.start(waiting_for_an_instant, due - time.time()) for _ in range(TIMERS)]
        await asyncio.gather(*map(app.result, ids))
        row(f"  {TIMERS:,} timers, due at once, all completed after", time.time() - due, "s")


# ---- A long history --------------------------------------------------------------------------


async def replay(folder):
    """A history of so many events: made, and taken up by another process."""
    url = f"sqlite:///{folder}/long.db"
    rounds = HISTORY // 2
    async with EddaApp("load", url) as app:
        began = time.perf_counter()
        await app.start(long_running, rounds, instance_id="long")
        while (await app.instance("long")).status != "waiting_for_event":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        seconds = time.perf_counter() - began
        row(f"SQLite: {rounds:,} activities in one workflow", rounds / seconds, "/s")
    async with EddaApp("load", url) as app:
        began = time.perf_counter()
        await send_event("load.end", "load", {})
        await app.result("long")
        seconds = time.perf_counter() - began
        row(f"  resumed from {HISTORY:,} events of history after", seconds, "s")
        row("  an event", seconds / HISTORY * 1e6, "us")


# ---- Events over HTTP ------------------------------------------------------------------------


async def post_all(port, keys):
    """Post `EVENTS` at `EVENTS_PER_SECOND`, each a CloudEvent: how long each answer took."""
    times = []
    pending = asyncio.Queue()
    began = time.perf_counter()
    for number in range(EVENTS):
        pending.put_nowait((began + number / EVENTS_PER_SECOND, number))

    async def connection():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not pending.empty():
            due, number = pending.get_nowait()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            key = keys[number % len(keys)]
            event = {
                "specversion": "1.0",
                "id": str(number),
                "source": "load",
                "type": "load.tick",
                "data": {"key": key},
            }
            body = json.dumps(event).encode()
            sent = time.perf_counter()
            writer.write(
                b"POST /events HTTP/1.1\r\nHost: x\r\n"
                b"Content-Type: application/cloudevents+json\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(head.decode())
            length = next(
                line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(int(length.partition(b":")[2]))
            times.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return times, time.perf_counter() - began


async def serve(folder):
    """1,000 instances wait; events come over HTTP to a server in a process of its own."""
    url = f"sqlite:///{folder}/http.db"
    keys = [f"key-{number}" for number in range(1_000)]
    async with EddaApp("load", url) as app:
        for key in keys:
            await app.start(counting, key, EVENTS // len(keys), instance_id=key)
        await all_suspended(app)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "edda", "serve", "benchmarks.bench_load:app"]
    server = subprocess.Popen(  # noqa: ASYNC220 - it is there before anything else happens
        [*command, "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "EDDA_LOAD_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                (await asyncio.open_connection("127.0.0.1", port))[1].close()
                break
            await asyncio.sleep(0.05)
        times, seconds = await post_all(port, keys)
        row(
            f"HTTP: events accepted, of {EVENTS_PER_SECOND:,} a second sent", EVENTS / seconds, "/s"
        )
        row("  an answer (202, it is on disk), median", statistics.median(times) * 1e3, "ms")
        row("  an answer, 99 of 100", statistics.quantiles(times, n=100)[-1] * 1e3, "ms")
        last = time.perf_counter()
        async with EddaApp("reader", url, workflows=[counting], worker=False) as reader:
            await asyncio.gather(*map(reader.result, keys))
        row("  all 1,000 instances completed after the last", time.perf_counter() - last, "s")
    finally:
        server.terminate()
        server.wait()


async def main():
    arguments = sys.argv[1:]
    count = 100_000
    if "--suspended" in arguments:
        at = arguments.index("--suspended")
        count = int(arguments[at + 1])
        del arguments[at : at + 2]
    wanted = arguments or ["suspended", "memory", "http", "history"]
    with tempfile.TemporaryDirectory() as folder:
        if "suspended" in wanted:
            file = Path(folder, "many.db")
            await suspend(f"sqlite:///{file}", count, file)
        if "memory" in wanted:
            await suspend("memory://", min(100_000, count))
        if "http" in wanted:
            await serve(folder)
        if "history" in wanted:
            await replay(folder)


if __name__ == "__main__":
    asyncio.run(main())
