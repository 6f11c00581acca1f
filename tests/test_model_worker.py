"""The worker that production runs, in virtual time, against the reference.

An app and its worker run as they do in production, but on an event loop whose clock moves from due
instant to due instant. The store answers after a while, of another length each time, so that the
tasks of the worker meet in another order each time. At some call the process dies: the store hears
no more of it, and another process takes over. Programs and happenings are those of `tests.model`;
`EDDA_MODEL_SECONDS` and `EDDA_MODEL_SEED` are as in `test_model`.
"""

import asyncio
import inspect
import itertools
import os
import random
import textwrap
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace

import pytest

from edda import EddaApp, current, worker
from edda import turn as turn_room
from edda.ports import Commit
from edda.stores.memory import MemoryStore
from edda_testkit.clock import VirtualClock, VirtualLoop
from edda_testkit.doors import SimulatedClock
from tests.model import START, WORLDS, World, auditor, judge, scenario, scripted

SECONDS = float(os.environ.get("EDDA_MODEL_SECONDS", "5"))
SEED = int(os.environ.get("EDDA_MODEL_SEED", "1"))
END = START + timedelta(hours=1)
FINAL = ("completed", "failed", "cancelled")


# ---- A process -----------------------------------------------------------------------------------


class Store:
    """What a process has of a store: answers take a while, and from its death on there are none."""

    def __init__(self, inner, draw, calls):
        self.inner = inner
        self.draw = draw
        self.calls = calls  # that the process lives for; None for ever

    @property
    def is_cut(self):
        return self.calls is not None and self.calls <= 0

    def __getattr__(self, name):
        method = getattr(self.inner, name)
        if name in {"open", "close", "changed"} or not asyncio.iscoroutinefunction(method):
            return method
        return self.slow(method)

    def slow(self, method):
        async def call(*arguments, **options):
            await self.pause()
            answer = await method(*arguments, **options)
            await self.pause()
            return answer

        return call

    async def pause(self):
        """A while, of which nobody can say how long it is; when the process dies, for ever."""
        if self.calls is not None:
            self.calls -= 1
        if self.is_cut:
            await asyncio.Event().wait()
        for _ in range(self.draw.choice([0, 0, 1, 1, 2, 3, 5, 8])):
            await asyncio.sleep(0)
        if self.draw.random() < 0.2:
            await asyncio.sleep(self.draw.randrange(1, 4) * 1e-6)
        if self.is_cut:
            await asyncio.Event().wait()

    @asynccontextmanager
    async def transaction(self):
        async with self.inner.transaction() as inner:
            yield SimpleNamespace(
                connection=inner.connection,
                commit=self.slow(inner.commit),
                rollback=self.slow(inner.rollback),
            )


class Process:
    """An app on an event loop of its own, and what it has been asked to do."""

    def __init__(self, clock, door, store, draw):
        self.loop = VirtualLoop(clock)
        self.store = store
        self.app = EddaApp(
            "model",
            store=store,
            clock=door,
            workflows=[scripted, auditor],
            max_concurrent=draw.choice([1, 2, 1000]),
        )
        self.opened = self.loop.create_task(self.app.initialize())

    def do(self, work):
        """Let `work(app)` happen, once the app is open."""

        async def done():
            await self.opened
            return await work(self.app)

        return self.loop.create_task(done())

    def end(self):
        """It is gone; what is left in it reaches nobody."""
        current.forget(self.app)
        self.store.calls = 0
        self.loop.close()


class Outside:
    """Time, what happens at which time, and the process that it happens to."""

    def __init__(self, given, *, is_mortal):
        self.draw = random.Random(f"worker {given.seed}")
        self.clock = VirtualClock(START)
        self.door = SimulatedClock(self.clock, given.seed)
        self.inner = MemoryStore(self.door)
        self.is_mortal = is_mortal
        self.processes = [self.process()]
        self.asked = []  # what is not done yet: the work, and its task
        self.started = []
        for at, group in given.happenings:
            self.clock.call_at(START + timedelta(seconds=at), lambda group=group: self.ask(group))

    def process(self):
        calls = self.draw.choice([None, self.draw.randrange(1, 40), self.draw.randrange(1, 160)])
        store = Store(self.inner, self.draw, calls if self.is_mortal else None)
        return Process(self.clock, self.door, store, self.draw)

    def ask(self, group):
        for happening in group:
            work = self.work(*happening)
            self.asked.append((work, self.processes[-1].do(work)))

    def work(self, what, *rest):
        async def start(app):
            await app.start(scripted, rest[1], instance_id=rest[0])
            self.started.append(rest[0])

        async def cancel(app):
            if rest[0] in self.started:
                await app.cancel(rest[0])

        match what:
            case "start":
                return start
            case "cancel":
                return cancel
            case "event":
                type, data, id = rest[0], {"to": rest[1], "n": rest[2]}, f"e{rest[2]}"
            case "publish":
                type, data, id = f"edda.channel.{rest[0]}", rest[1], f"p{rest[1]}"
        return lambda app: app.handle_event({"type": type, "source": "s", "id": id, "data": data})

    def until(self, is_over):
        """Let time go on."""
        while True:
            self.run()
            if is_over():
                return
            due = self.clock.next_due()
            assert due is not None, "nothing will happen any more"
            assert due < END, "it does not come to an end"
            self.clock.move_to(max(due, self.clock.now()))
            while (callback := self.clock.pop_due()) is not None:
                callback()

    def run(self):
        """Let all go on that can at this instant, in a new process where one has died."""
        while True:
            self.processes[-1].loop.run_ready()
            self.asked = [(work, task) for work, task in self.asked if not happened(task)]
            if not self.processes[-1].store.is_cut:
                return
            self.take_over()

    def take_over(self):
        """Leases of the dead are given back, and who had no answer asks again."""
        if len(self.processes) == 4:
            self.is_mortal = False
        self.inner._writing = asyncio.Lock()
        self.processes.append(self.process())
        workers = [row.lease.worker for row in self.inner._rows.values() if row.lease]
        for one in workers:
            self.processes[-1].loop.create_task(self.inner.release(one))
        self.asked = [(work, self.processes[-1].do(work)) for work, _ in self.asked]

    def end(self):
        for process in self.processes:
            process.end()


def happened(task):
    return task.done() and (task.result() or True)


def observed(given, *, is_mortal):
    """What comes of a scenario: endings, effects, bookings; and how many processes it took."""
    WORLDS.append(World())
    outside = Outside(given, is_mortal=is_mortal)
    try:
        end = START + timedelta(seconds=given.end)
        outside.clock.call_at(end, lambda: None)
        outside.until(lambda: outside.clock.now() >= end and not outside.asked)
        outside.processes[-1].store.calls = None
        seen = outside.processes[-1].do(lambda app: endings(app, outside.started))
        outside.until(seen.done)
        ends, booked = seen.result()
        return ends, WORLDS[-1].done, booked, len(outside.processes)
    finally:
        outside.end()
        WORLDS.pop()


async def endings(app, ids):
    ends = {}
    for id in ids:
        found = await app.instance(id)
        result = app.outcome_of(found) if found.status == "completed" else None
        ends[id] = (found.status if found.status in FINAL else "waiting", result)
    return ends, await app.result(await app.start(auditor))


def compare(seed, *, is_mortal):
    """Run one scenario; raises what is wrong."""
    given = scenario(seed)
    try:
        found, done, booked, processes = observed(given, is_mortal=is_mortal)
        judge(given, found, done, booked)
    except BaseException as error:
        error.add_note(f"scenario {seed}, mortal: {is_mortal}: {given.happenings} to {given.end}")
        raise
    return processes


def compare_some(count):
    """Run the first so many scenarios."""
    for seed in range(count):
        compare(seed, is_mortal=False)


# ---- The comparison ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_mortal", [False, True], ids=["one process", "processes that die"])
def test_the_worker_does_what_the_reference_says(is_mortal):
    """However its tasks meet and its processes die, what must come of a program comes of it."""
    end, processes = time.monotonic() + SECONDS, []
    for seed in itertools.count(SEED):
        processes.append(compare(seed, is_mortal=is_mortal))
        if time.monotonic() > end:
            break
    print(f"{len(processes)} scenarios from seed {SEED}, {sum(processes)} processes")
    assert (max(processes) > 1) == is_mortal


def without(part):
    """The end of a turn, as it would be without a part of its last condition."""
    source = inspect.getsource(worker.Worker._drive)
    assert part in source
    names = dict(vars(worker))
    exec(textwrap.dedent(source.replace(part, "")), names)
    return names["_drive"]


class Nothing:
    """A lock that excludes nobody."""

    async def __aenter__(self):
        pass

    async def __aexit__(self, *_):
        pass


def forgotten_takes(monkeypatch):
    """What was taken is offered again."""
    monkeypatch.setattr(turn_room, "Commit", lambda taken, **rest: Commit(taken=(), **rest))


def missed_pokes(monkeypatch):
    """A turn that is under way is not told that something came."""
    monkeypatch.setattr(worker._Run, "poke", lambda _: None)


def pokes_missed_at_the_end(monkeypatch):
    """What comes while a turn gives its lease back is nobody's."""
    monkeypatch.setattr(worker.Worker, "_drive", without("run.is_poked or "))


def room_that_is_forgotten(monkeypatch):
    """A worker that was full does not look again when a turn ends."""
    monkeypatch.setattr(worker.Worker, "_drive", without("self._is_short_of_room or "))


def no_alarm(monkeypatch):
    """A worker does not wake up by itself."""
    monkeypatch.setattr(worker.Worker, "_wake_at", lambda *_: None)


def steps_side_by_side(monkeypatch):
    """Two things may happen to one turn at once."""
    real = worker._Run.__init__

    def init(self, lease):
        real(self, lease)
        self.lock = Nothing()

    monkeypatch.setattr(worker._Run, "__init__", init)


@pytest.mark.parametrize(
    "plant",
    [
        forgotten_takes,
        missed_pokes,
        pokes_missed_at_the_end,
        room_that_is_forgotten,
        no_alarm,
        steps_side_by_side,
    ],
)
def test_a_planted_fault_is_noticed(monkeypatch, plant):
    """A worker with a fault departs from the reference within some hundred scenarios."""
    plant(monkeypatch)
    with pytest.raises(BaseException) as caught:
        compare_some(1500)
    assert any(note.startswith("scenario ") for note in caught.value.__notes__)
