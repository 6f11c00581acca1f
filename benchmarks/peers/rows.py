"""The rows of `bench_peers.py`, the same for every engine, and how a script of a peer runs one.

    python benchmarks/peers/peer_dbos.py ROW [COLUMN] [--seconds S]

prints one JSON object: `{"value": 80.1, "note": "..."}`, or `{"error": "..."}` and exit code 1.
A process measures one row once, so that nothing carries over to the next.

A peer's script gives `main` a function for each of its columns, that opens an `Engine` in a folder.
Rows are boxed in time: a slow engine does fewer of the same. What an engine raises under load is
counted, and said in the note. This room imports nothing but the standard library, and no engine.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Protocol

CLIENTS = 32  # of the row "32 at once"
MOST = 1000  # suspended in one row
ROUNDS = 200  # of (wait, activity)
TIMERS = 20
WAKING_SECONDS = 14  # for the last of them
FEW = 100  # suspended, to tell what one costs
PAGE = os.sysconf("SC_PAGE_SIZE")


class Engine(Protocol):
    """What a peer must be able to do. Workflows are started under a key of the row's choice."""

    marks: "Marks"

    async def three(self, key: str) -> None:
        """Run a workflow of three trivial activities from start to end."""

    async def start_waiting(self, key: str) -> None:
        """Start a workflow that waits for one event and ends."""

    async def all_waiting(self, keys: list[str]) -> None:
        """Return once each of them has come to its wait."""

    async def deliver(self, key: str) -> None:
        """Send the event that this workflow waits for."""

    async def ended(self, key: str) -> None:
        """Return once this workflow has ended."""

    async def start_alternating(self, key: str, rounds: int) -> None:
        """Start a workflow of so many (wait, activity); activity n marks `(key, n)`."""

    async def deliver_round(self, key: str, number: int) -> None:
        """Send the event of this round."""

    async def start_timed(self, key: str) -> None:
        """Start a workflow that marks `key, "began"`, sleeps a second, and marks `key, "woke"`.

        It began at what the engine takes for now: the timer is due a second after that.
        """


Opened = Callable[[Path], AbstractAsyncContextManager[Engine]]


class Marks:
    """When workflows came to a place in their code. Told from any thread, the first time counts."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.times = {}
        self.awaited = {}

    def tell(self, *mark, at=None):
        """Note the time of this place, in seconds since 1970; a replay of it is no news."""
        if mark not in self.times:
            self.times[mark] = time.time() if at is None else at
            self.loop.call_soon_threadsafe(self._tell, mark)

    def _tell(self, mark):
        if (future := self.awaited.pop(mark, None)) and not future.done():
            future.set_result(None)

    async def told(self, *mark):
        """Return once the place has been reached."""
        if mark not in self.times:
            await self.awaited.setdefault(mark, self.loop.create_future())

    async def all_told(self, keys, place):
        for key in keys:
            await self.told(key, place)

    def seconds_between(self, key):
        return self.times[key, "woke"] - self.times[key, "began"]


async def one_after_another(engine, seconds):
    """Workflows a second, each started when the one before has ended."""
    await engine.three("warm")
    return await done_a_second(engine, seconds, clients=1)


async def at_once(engine, seconds):
    """Workflows a second, of 32 clients that each start one after another."""
    await engine.three("warm")
    return await done_a_second(engine, seconds, CLIENTS)


async def done_a_second(engine, seconds, clients):
    began = last = time.perf_counter()
    done, failed = 0, []

    async def client(name):
        nonlocal done, last
        number = 0
        while time.perf_counter() < began + seconds:
            number += 1
            try:
                await engine.three(f"three-{name}-{number}")
                done, last = done + 1, time.perf_counter()
            except Exception as e:
                failed.append(e)

    clients = [asyncio.create_task(client(name)) for name in range(clients)]
    _, stuck = await asyncio.wait(clients, timeout=seconds * 3 + 4)
    return noted(done, last - began, failed, len(stuck))


async def suspend(engine, seconds):
    """Suspensions a second: started, and come to the wait."""
    await started_and_waiting(engine, seconds, "warm", most=1)
    began = time.perf_counter()
    keys, failed = await started_and_waiting(engine, seconds, "key")
    return noted(len(keys), time.perf_counter() - began, failed)


async def complete(engine, seconds):
    """Workflows a second from start to end, by way of a suspension."""
    await started_and_waiting(engine, seconds, "warm", most=1)
    began = time.perf_counter()
    keys, failed = await started_and_waiting(engine, seconds, "key")
    delivered, done, last, unstarted = [], 0, began, len(failed)
    until = time.perf_counter() + seconds * 4
    for key in keys:
        if time.perf_counter() < until:
            try:
                await engine.deliver(key)
                delivered.append(key)
            except Exception as e:
                failed.append(e)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds * 2):
            for key in delivered:
                await engine.ended(key)
                done, last = done + 1, time.perf_counter()
    return noted(done, last - began, failed, len(keys) - done - len(failed) + unstarted)


async def started_and_waiting(engine, seconds, prefix, most=MOST):
    """The keys of those that were started: `most`, or as many as the time allows."""
    until = time.perf_counter() + seconds
    keys, failed = [], []
    while len(keys) < most and time.perf_counter() < until:
        key = f"{prefix}-{len(keys) + len(failed)}"
        try:
            await engine.start_waiting(key)
            keys.append(key)
        except Exception as e:
            failed.append(e)
    async with asyncio.timeout(seconds * 3 + 10):
        await engine.all_waiting(keys)
    return keys, failed


def noted(done, took, failed=(), stuck=0):
    """The rate up to the last that ended, and what must be known to read it."""
    notes = []
    if failed:
        words = f"{type(failed[0]).__name__}: {failed[0]}".splitlines()[0]
        notes.append(f"{len(failed)} of {len(failed) + done} failed ({words[:60]})")
    if stuck:
        notes.append(f"{stuck} had not ended when the time was up")
    return (done / took if done else None), "; ".join(notes) or None


async def alternate(engine, seconds):
    """Seconds for 200 x (wait, activity): each event is sent when the activity before has run.

    An event that wakes nobody is sent again, as its sender would have to.
    """
    began = time.perf_counter()
    until = began + seconds * 4
    await engine.start_alternating("alternating", ROUNDS)
    number = 0
    while number < ROUNDS and time.perf_counter() < until:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds * 2):
                await engine.deliver_round("alternating", number)
                await engine.marks.told("alternating", number)
                number += 1
    took = time.perf_counter() - began
    if not number:
        return None, "not one round ended in time"
    if number < ROUNDS:
        return took / number * ROUNDS, f"{number} rounds in {took:.1f} s, scaled in proportion"
    await engine.ended("alternating")
    return time.perf_counter() - began


async def lateness(engine, seconds):
    """Milliseconds that a timer of one second is late, the median of 20 that overlap."""
    keys = [f"timer-{number}" for number in range(TIMERS)]
    for key in keys:
        await engine.start_timed(key)
        await asyncio.sleep(0.02)
    with suppress(TimeoutError):
        async with asyncio.timeout(WAKING_SECONDS):
            await engine.marks.all_told(keys, "woke")
    woken = [key for key in keys if (key, "woke") in engine.marks.times]
    if not woken:
        return None, f"no timer of a second fired in {WAKING_SECONDS} s"
    late = statistics.median(engine.marks.seconds_between(key) - 1 for key in woken) * 1000
    is_all = len(woken) == TIMERS
    return late, None if is_all else f"{len(woken)} of {TIMERS} fired in {WAKING_SECONDS} s"


async def memory(engine, seconds):
    """Kilobytes that one more suspended workflow costs this process, after as many before it."""
    first, _ = await started_and_waiting(engine, seconds * 3, "first", MOST * 2)
    before = await settled()
    second, _ = await started_and_waiting(engine, seconds * 6, "second", len(first))
    if not second:
        return None, "not one was suspended in time"
    bytes_each = max(0, await settled() - before) / len(second)
    note = f"only {len(second)} of them, a coarse figure" if len(second) < FEW else None
    return bytes_each / 1000, note


async def settled():
    """The bytes of memory of this process when what is not needed has gone."""
    await asyncio.sleep(0.2)
    gc.collect()
    return resident()


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


ROWS = {
    row.__name__: row
    for row in (one_after_another, at_once, suspend, complete, alternate, lateness, memory)
}


def main(columns: dict[str, Opened]) -> None:
    """Run the row that the command line names, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("column", nargs="?", choices=list(columns), default=next(iter(columns)))
    parser.add_argument("--seconds", type=float, default=2.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            opened = columns[asked.column](Path(folder))
            # Not `asyncio.run`, which waits for every thread that a peer has left in its pool.
            measuring = measured(ROWS[asked.row], opened, asked.seconds)
            said = asyncio.new_event_loop().run_until_complete(measuring)
        except Exception as e:
            said = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(said), flush=True)
    os._exit(1 if "error" in said else 0)  # threads that a peer has left are nobody's business


async def measured(row, opened, seconds):
    engine = await opened.__aenter__()
    try:
        found = await row(engine, seconds)
    finally:
        with suppress(Exception):  # what a peer says when it is closed changes no figure
            async with asyncio.timeout(5):
                await opened.__aexit__(None, None, None)
    value, note = found if isinstance(found, tuple) else (found, None)
    return {"value": value, "note": note}
