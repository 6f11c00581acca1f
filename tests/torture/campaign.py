"""A campaign: servers under load that are killed, paused, cut off and starved, by a seeded plan.

The last act of each: one server is paused in the middle of its work and stays so; the others must
bring everything to its end. What is left behind is read from the store when all are dead.
"""

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from edda import EddaApp
from edda.errors import EddaError
from tests.read_only import set_read_only
from tests.torture import mutants, world
from tests.torture.customers import Customers
from tests.torture.evidence import Evidence, Strike

__all__ = ["Plan", "run"]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 600.0  # for a whole campaign
BOOKED = "CREATE TABLE booked (key TEXT, n INTEGER)"


@dataclass(frozen=True)
class Plan:
    """What is done, and how much of it. `mutant` is planted into the servers."""

    url: str
    folder: Path
    seed: int
    strikes: int
    kinds: dict[str, float]  # kill, pause, cut, full, readonly -> weight
    servers: int = 2
    customers: int = 10  # at a time
    gap_seconds: float = 0.12  # between strikes, on average
    lease_seconds: float = 1.2
    patience_seconds: float = 12.0  # without any progress, at the end
    moment_seconds: float = 0.02  # an activity takes, at most, before its effect and after it
    skew_seconds: float = 0.0  # between the clocks of two servers
    mutant: str | None = None


async def run(plan):
    """Carry out the plan; its evidence."""
    reader = EddaApp("reader", plan.url, workflows=list(world.WORKFLOWS.values()), worker=False)
    async with reader:
        await rows(plan.url, BOOKED)
        if plan.url.startswith("postgres") and plan.mutant in mutants.FUNCTIONS:
            await spoil(plan.url, *mutants.FUNCTIONS[plan.mutant])
        nursery = await asyncio.to_thread(Nursery, plan)
        campaign = Campaign(plan, nursery, reader)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):  # who insists does so for ever
                return await campaign.run()
        finally:
            campaign.let_write()
            nursery.close()


class Nursery:
    """Starts servers, and strikes them."""

    def __init__(self, plan):
        self.plan = plan
        options = {
            "url": plan.url,
            "folder": str(plan.folder),
            "servers": plan.servers,
            "lease_seconds": plan.lease_seconds,
            "moment_seconds": plan.moment_seconds,
            "skew_seconds": plan.skew_seconds,
            "mutant": plan.mutant,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.nursery", json.dumps(options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ports = self.answer()["ports"]
        self.pids = [self.fork(number) for number in range(plan.servers)]

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def fork(self, number):
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return self.answer()["pid"]

    def replace(self, number):
        """Kill a server, and start another in its place."""
        self.pids[number] = self.fork(number)

    def signal(self, pid, number):
        """Nothing when it was replaced: its pid may be somebody else's."""
        if pid in self.pids:
            os.kill(pid, number)

    def close(self):
        """Kill all that are left."""
        if not self.process.stdin.closed:
            self.process.stdin.close()
            self.process.wait(10)
            self.process.stdout.close()
            self.pids = []


class Campaign:
    """One campaign under way."""

    def __init__(self, plan, nursery, reader):
        self.plan = plan
        self.nursery = nursery
        self.reader = reader
        self.random = random.Random(plan.seed)
        self.customers = Customers(nursery.ports, random.Random(plan.seed))
        self.strikes = []
        self.snapshots = []
        self.paused = {}  # number of a server -> until when
        self.wakers = []  # what lets the paused go on
        self.is_over = False
        self.left = []  # what had not ended when nothing moved any more

    async def run(self):
        news = asyncio.create_task(self.customers.talk_news())
        async with asyncio.TaskGroup() as group:
            for _ in range(self.plan.customers):
                group.create_task(self.keep_busy())
            group.create_task(self.watch())
            await self.strike_all()
            self.is_over = True
            for _ in range(2 * self.plan.customers):  # so that it has something in hand
                group.create_task(self.customers.one())
            last = await self.pause_for_good(0)
        await self.settle()
        news.cancel()
        await asyncio.gather(news, return_exceptions=True)
        await self.customers.http.aclose()
        self.nursery.signal(last, signal.SIGCONT)
        await asyncio.sleep(0.3)  # it goes on where it was, with leases that others have had since
        self.nursery.close()
        return await self.evidence()

    async def keep_busy(self):
        while not self.is_over:
            await self.customers.one()

    async def watch(self):
        """Look at histories on the way: what they are now, they must begin with for ever."""
        while not self.is_over:
            await asyncio.sleep(0.2)
            for promise in self.customers.promises[-10:]:
                await self.look(promise.id)

    async def look(self, id):
        try:
            self.snapshots.append((id, await self.reader.store.history(id)))
        except EddaError:
            await asyncio.sleep(0.1)  # the disk is full, or the connection was cut

    # ---- Strikes ---------------------------------------------------------------------------------

    async def strike_all(self):
        kinds, weights = zip(*self.plan.kinds.items(), strict=True)
        for _ in range(self.plan.strikes):
            await asyncio.sleep(self.random.expovariate(1 / self.plan.gap_seconds))
            (kind,) = self.random.choices(kinds, weights)
            number = self.random.choice(self.awake())
            if kind == "kill":
                self.kill(number)
            elif kind == "pause":
                self.pause(number)
            elif kind == "full":
                self.fill_disk(number)
            elif kind == "readonly":
                self.let_nobody_write()
            else:
                await self.cut()

    def awake(self):
        """Servers that are not paused; all, when all are."""
        every = range(self.plan.servers)
        return [n for n in every if self.paused.get(n, 0) < time.time()] or list(every)

    def kill(self, number):
        pid, at = self.nursery.pids[number], time.time()
        self.nursery.replace(number)
        self.strikes.append(Strike("kill", pid, at, time.time()))  # it lived for a moment yet
        self.paused.pop(number, None)

    def pause(self, number):
        """Past the end of its leases."""
        pid, seconds = self.nursery.pids[number], 1.5 * self.plan.lease_seconds
        self.nursery.signal(pid, signal.SIGSTOP)
        # What keeps the file to itself keeps the others from renewing their leases, too.
        self.note("pause", None if is_locked(self.plan.url) else pid, seconds)
        self.paused[number] = time.time() + seconds
        later = asyncio.get_running_loop().call_later
        self.wakers.append(later(seconds, self.nursery.signal, pid, signal.SIGCONT))

    async def pause_for_good(self, number):
        """While it has turns under way, and not while it keeps everybody out of an SQLite file."""
        for other in range(self.plan.servers):
            if other != number:
                self.kill(other)  # one that could not start while the disk was full is there again
        for waker in self.wakers:  # one that comes yet would end the last pause
            waker.cancel()
        pid = self.nursery.pids[number]
        self.nursery.signal(pid, signal.SIGCONT)
        while True:
            for _ in range(50):
                await asyncio.sleep(0.02)
                if any(one.startswith(f"server{number}@") for one in await self.workers()):
                    break
            self.note("pause", pid, 3600)
            self.nursery.signal(pid, signal.SIGSTOP)
            if not is_locked(self.plan.url):
                return pid
            self.nursery.signal(pid, signal.SIGCONT)

    def fill_disk(self, number):
        """No file may grow past a size that the database has passed."""
        pid, seconds = self.nursery.pids[number], 0.2
        room = (self.plan.folder / "ledger").stat().st_size + 32_768
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        self.note("full", pid, seconds)
        asyncio.get_running_loop().call_later(seconds, self.empty_disk, pid)

    def empty_disk(self, pid):
        if pid in self.nursery.pids:
            limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    def let_nobody_write(self):
        """Nobody may write the file and its log, root neither; servers that start then cannot."""
        for path in self.plan.folder.glob("edda.db*"):
            # The other is mapped: to write it would kill, and not fail.
            if not path.name.endswith("-shm"):
                with contextlib.suppress(OSError):  # one that has gone
                    set_read_only(path, True)
        self.note("readonly", None, 0.2)
        asyncio.get_running_loop().call_later(0.2, self.let_write)

    def let_write(self):
        for path in self.plan.folder.glob("edda.db*"):
            with contextlib.suppress(OSError):  # one that has gone
                set_read_only(path, False)

    async def cut(self):
        """PostgreSQL ends every connection."""
        at = time.time()
        connection = await asyncpg.connect(self.plan.url.partition("&schema=")[0])
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        await connection.close()
        self.strikes.append(Strike("cut", None, at, time.time()))

    def note(self, kind, pid, seconds=0.0):
        now = time.time()
        self.strikes.append(Strike(kind, pid, now, now + seconds))

    async def workers(self):
        try:
            return await self.reader.store.workers()
        except EddaError:
            return []

    # ---- The end ---------------------------------------------------------------------------------

    async def settle(self):
        """Wait until everything has ended, or nothing moves any more."""
        seen, since = None, time.monotonic()
        while time.monotonic() - since < self.plan.patience_seconds:
            await asyncio.sleep(0.1)
            try:
                open_now = [one for one in await self.all() if not one.status.is_final]
                if not open_now and not await self.reader.pending_events(limit=1):
                    return
            except EddaError:
                continue
            # One that waits with a timeout does so for ever, and that is no progress.
            now = sorted(one.id for one in open_now)
            if now != seen:
                seen, since = now, time.monotonic()
        self.left = seen or []

    async def all(self):
        found, after = [], None
        while page := await self.reader.find(limit=1000, after=after):
            found += page
            after = page[-1].id
        return found

    async def evidence(self):
        instances = {one.id: one for one in await self.all()}
        lines = (self.plan.folder / "ledger").read_text().splitlines()
        logs = [path.read_text() for path in sorted(self.plan.folder.glob("server-*.log"))]
        return Evidence(
            promises=self.customers.promises,
            instances=instances,
            histories={id: await self.reader.history(id) for id in instances},
            snapshots=self.snapshots,
            outcomes={id: outcome_of(self.reader, one) for id, one in instances.items()},
            ledger=[json.loads(line) for line in lines],
            booked=await rows(self.plan.url, "SELECT key, n FROM booked"),
            strikes=self.strikes,
            lease_seconds=self.plan.lease_seconds,
            clocks_seconds=0.05 if self.plan.skew_seconds else 0.001,
            news=self.customers.news,
            jobs=self.customers.jobs,
            left=self.left,
            pending=len(await self.reader.pending_events()),
            surprises=self.customers.surprises,
            logs="\n".join(logs),
        )


async def spoil(url, function, changes):
    """Put other text into a function of the server."""
    plain, _, schema = url.partition("&schema=")
    schema = schema.partition("&")[0]
    connection = await asyncpg.connect(plain)
    named = (
        "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = $1::text::regnamespace"
    )
    text = await connection.fetchval(f"{named} AND proname = $2", schema, function)
    for change in changes.items():
        was, now = (one.replace("edda.", f'"{schema}".') for one in change)
        assert was in text, was
        text = text.replace(was, now)
    await connection.execute(text)
    await connection.close()


def outcome_of(reader, instance):
    """The result, or the error's type name."""
    try:
        return reader.outcome_of(instance)
    except EddaError as error:
        return type(error.__cause__ or error).__name__


def is_locked(url):
    """Whether somebody keeps the write lock of an SQLite file."""
    if not url.startswith("sqlite"):
        return False
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0.02, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


async def rows(url, statement):
    """What a statement finds in the store's own database."""
    if url.startswith("postgres"):
        plain, _, schema = url.partition("&schema=")
        connection = await asyncpg.connect(plain)
        try:
            own = schema.partition("&search_path=")[2]
            await connection.execute(f"SET search_path TO {own}")
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        with connection:
            return connection.execute(statement).fetchall()
    finally:
        connection.close()
