"""What a commit costs: one after another, and a hundred at once, on an idle and on a busy loop.

    python benchmarks/bench_store.py [FOLDER]

The file is made in FOLDER (where temporary files go, unless given): the price of its fsync is
in the numbers. The floor is the least that SQLite can do in the same run and place: one transaction
that inserts a row and updates a row, on a plain connection in the calling thread, with the same
settings; for "at once", a hundred of those in one transaction.
"""

import asyncio
import contextlib
import gc
import math
import sqlite3
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from edda.commands import ActivityAsk, Result
from edda.history import Answered, Asked, Started
from edda.ports import Commit, NewInstance, Status, Wait
from edda.stores.memory import MemoryStore
from edda.stores.sqlite import DirectSqliteStore, SqliteStore

ROUNDS, AT_ONCE = 5, 100
BUSY_SECONDS = 10.0


class SystemClock:
    def now(self):
        return datetime.now(UTC)

    def entropy(self, bits):
        return 1


def step(lease, seq, waits=()):
    """An activity's answer and the next ask, as a turn commits them."""
    at = datetime.now(UTC)
    name = f"charge:{seq}"
    events = (
        Asked(
            seq, at, ActivityAsk(name, "charge", '{"order_id":"o-1","cents":4200}', "flow.py:12")
        ),
        Answered(seq + 1, at, name, "charge", "activity", Result('{"id":"ch_1","ok":true}')),
    )
    return Commit(lease, seq, events, Status.RUNNING, waits, (), None, release=False)


async def begin(store, prefix):
    started = Started(0, datetime.now(UTC), "w", "{}", 1)
    made = [
        await store.create(NewInstance(f"{prefix}{n}", "w", started, "me", 3600))
        for n in range(AT_ONCE)
    ]
    return [one.claimed.lease for one in made]


async def alone(store, leases, waits):
    seq, times = 1, []
    for _ in range(ROUNDS):
        for lease in leases:
            commit = step(lease, seq, waits(seq))
            began = time.perf_counter()
            await store.commit(commit)
            times.append(time.perf_counter() - began)
        seq += 2
    return middle(times)


async def at_once(store, leases, waits):
    seq, times = 1, []
    for _ in range(ROUNDS):
        commits = [step(lease, seq, waits(seq)) for lease in leases]
        began = time.perf_counter()
        await asyncio.gather(*map(store.commit, commits))
        times.append((time.perf_counter() - began) / AT_ONCE)
        seq += 2
    return middle(times)


def middle(times):
    return sorted(times)[len(times) // 2] * 1e6


@contextlib.asynccontextmanager
async def busy():
    """Another task that computes half a millisecond at a time, as turns do."""

    async def compute():
        while True:
            end = time.perf_counter() + 0.0005
            while time.perf_counter() < end:
                pass
            await asyncio.sleep(0)

    task = asyncio.create_task(compute())
    try:
        yield
    finally:
        task.cancel()


async def within(measuring):
    """What is measured, or NaN: a thread may hardly ever get at the interpreter's lock."""
    try:
        return await asyncio.wait_for(measuring, BUSY_SECONDS)
    except TimeoutError:
        return math.nan


def no_waits(seq):
    return ()


def one_wait(seq):
    return (Wait(f"paid:{seq}", "paid", '["data.order"]', f"[{seq}]"),)


async def measure(store):
    await store.open()
    gc.disable()
    row = [
        await alone(store, await begin(store, "a"), no_waits),
        await at_once(store, await begin(store, "b"), no_waits),
        await alone(store, await begin(store, "c"), one_wait),
        await at_once(store, await begin(store, "d"), one_wait),
    ]
    one, other = await begin(store, "e"), await begin(store, "f")
    async with busy():
        row.append(await within(alone(store, one, no_waits)))
        row.append(await within(at_once(store, other, no_waits)))
    gc.enable()
    await store.close()
    return row


def floor(path):
    """The least that SQLite can do: µs a commit alone, and of a hundred in one transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE i (key INTEGER PRIMARY KEY, status TEXT, length INTEGER)")
        connection.execute(
            "CREATE TABLE e (i INTEGER, seq INTEGER, head TEXT, payload TEXT, PRIMARY KEY (i, seq))"
            " WITHOUT ROWID"
        )
        connection.executemany("INSERT INTO i VALUES (?, 'x', 0)", [(n,) for n in range(AT_ONCE)])
        rows = [("x" * 90, "x" * 40)] * 2

        def write(key, seq):
            connection.executemany(
                "INSERT INTO e VALUES (?, ?, ?, ?)",
                [(key, seq + n, *row) for n, row in enumerate(rows)],
            )
            connection.execute("UPDATE i SET status = 'y', length = ? WHERE key = ?", (seq, key))

        single, group = [], []
        for seq in range(1, 2 * ROUNDS, 2):
            for key in range(AT_ONCE):
                began = time.perf_counter()
                connection.execute("BEGIN IMMEDIATE")
                write(key, seq)
                connection.execute("COMMIT")
                single.append(time.perf_counter() - began)
        for seq in range(1001, 1001 + 2 * ROUNDS, 2):
            began = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            for key in range(AT_ONCE):
                write(key, seq)
            connection.execute("COMMIT")
            group.append((time.perf_counter() - began) / AT_ONCE)
    return middle(single), middle(group)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    print("Microseconds a commit (two events), the median of", ROUNDS, "x", AT_ONCE)
    print(f"{'':18}{'alone':>8}{'at once':>9}{'+ wait':>9}{'at once':>9}{'busy':>9}{'at once':>9}")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        stores = {
            "memory": MemoryStore(SystemClock()),
            "sqlite, direct": DirectSqliteStore(SystemClock(), Path(place) / "direct.db"),
            "sqlite": SqliteStore(Path(place) / "edda.db", SystemClock()),
        }
        for name, store in stores.items():
            numbers = asyncio.run(measure(store))
            print(
                f"{name:18}"
                + "".join(f"{number:>{9 - (not n)}.0f}" for n, number in enumerate(numbers))
            )
        numbers = floor(Path(place) / "floor.db")
        print(
            f"{'bare sqlite3':18}"
            + "".join(f"{number:>{9 - (not n)}.0f}" for n, number in enumerate(numbers))
        )


if __name__ == "__main__":
    main()
