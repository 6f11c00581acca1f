"""Faults of the engine, planted into the servers of a campaign to prove that its checker sees them.

Each replaces a piece of the engine in its own process, or of a function of the server: the engine
has no switch for it. Each says which laws the checker must find broken (any of them).
"""

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta

from edda import turn as turning
from edda.app import EddaApp
from edda.attempt import DirectActivities
from edda.commands import Result, TimerAsk, deadline_of
from edda.events import ENDED
from edda.ports import Delivered
from edda.stores.postgres import PostgresStore
from edda.stores.sqlite import SqliteStore
from edda.stores.sqlite_core import SqliteCore
from edda.stores.sqlite_log import SqliteLog
from edda.stores.sqlite_rows import SQL
from edda.undo import Undos

__all__ = ["FUNCTIONS", "LAWS", "PLANTERS", "plant"]

PLANTERS = {"sqlite": {}, "postgres": {}}  # store -> name -> how to plant it
LAWS = {}  # name -> laws
STORES = (SqliteStore, PostgresStore)

# Faults of functions of the server: name -> (function, what its text has instead of what).
FUNCTIONS = {
    "commit_without_fence": (
        "commit",
        {
            "mine.worker IS DISTINCT FROM holder OR mine.token <> held": "false",
            "mine.length <> expected": "false",
            "new_length := expected": "expected := mine.length; new_length := expected",
            "SELECT mine.key, e.seq, ": "SELECT mine.key, expected + e.seq - min(e.seq) OVER (), ",
        },
    ),
    "wait_without_looking_back": ("commit", {"IF new_waits > 0 THEN": "IF false THEN"}),
    "given_back_to_nobody": ("give_back", {"SET address = '?'": "SET address = 'nobody'"}),
    "competing_for_all": (
        "compete",
        {
            "UPDATE edda.facet AS f SET address = '=' || free.id\n"
            "        WHERE f.shape = queue AND f.found = '' AND f.address = '?' "
            "AND f.position = next_position": (
                "INSERT INTO edda.facet VALUES (queue, '', '=' || free.id, next_position) "
                "ON CONFLICT DO NOTHING"
            ),
        },
    ),
}


def plant(store, name):
    """Plant this fault into the engine of this process, or nothing when it is of a function."""
    PLANTERS[store].get(name, lambda: None)()


def mutant(*laws, store=None):
    def register(planter):
        LAWS[planter.__name__] = laws
        for each in PLANTERS if store is None else [store]:
            PLANTERS[each][planter.__name__] = planter
        return planter

    return register


def change(where, name, made):
    """Replace a method by what `made` makes of it."""
    setattr(where, name, made(getattr(where, name)))


def change_commits(made):
    """Have every store commit what `made` makes of a commit."""

    def by(real):
        return lambda self, commit, *rest: real(self, made(commit), *rest)

    change(SqliteCore, "commit", by)
    change(PostgresStore, "_commit", by)


@mutant("T3", "H1", "H2", "H3", "T1", store="sqlite")
def commit_without_fence():
    """Whoever held the lease once may commit, after whatever others have committed."""

    def made(real):
        def commit(self, commit):
            row = self._execute(SQL["for_commit"], (commit.lease.instance_id,)).fetchone()
            if row is not None:
                length, worker, token = row[3], row[8], row[9]
                lease = replace(commit.lease, worker=worker, token=token)
                events = tuple(replace(e, seq=length + n) for n, e in enumerate(commit.events))
                commit = replace(commit, lease=lease, expected_length=length, events=events)
            return real(self, commit)

        return commit

    change(SqliteCore, "commit", made)


@mutant("T2")
def answer_before_effect():
    """An activity's answer is committed while the activity still runs."""

    def made(real):
        async def attempt(self, call):
            if call.activity.name not in ("charge", "reserve"):
                return await real(self, call)
            later = asyncio.create_task(real(self, call))
            background.add(later)
            await asyncio.sleep(0)
            args, kwargs = call.activity.parameters.decode(call.arguments)
            return Result(call.activity.result.encode([*args, *kwargs.values()][0]))

        return attempt

    background = set()
    change(DirectActivities, "attempt", made)


@mutant("T5", "T1", "M2")
def accepted_before_insert():
    """The 202 is sent, and the event is stored a moment later."""

    def made(real):
        async def handle_events(self, envelopes):
            async def later():
                await asyncio.sleep(0.1)
                await real(self, envelopes)

            background.add(asyncio.create_task(later()))
            return [Delivered(0)] * len(envelopes)

        return handle_events

    background = set()
    change(EddaApp, "handle_events", made)


@mutant("T5")
def started_before_insert():
    """`start` returns, and the instance is stored a moment later."""

    def made(real):
        async def start(self, workflow, *args, **kwargs):
            async def later():
                await asyncio.sleep(0.1)
                await real(self, workflow, *args, **kwargs)

            background.add(asyncio.create_task(later()))

        return start

    background = set()
    change(EddaApp, "start", made)


@mutant("T1", "M2", store="sqlite")
def wait_without_looking_back():
    """A wait is registered, and what came before it is not looked for."""

    def made(real):
        def commit(self, commit):
            offered, self.log.offered = self.log.offered, lambda *_: ()
            try:
                return real(self, commit)
            finally:
                self.log.offered = offered

        return commit

    change(SqliteCore, "commit", made)


@mutant("Timers")
def timer_early():
    """Timers fire a little before they are due."""

    def early(ask):
        due = deadline_of(ask)
        return due - timedelta(seconds=0.05) if isinstance(ask, TimerAsk) else due

    turning.deadline_of = early


@mutant("T5", "T1", store="sqlite")
def given_back_to_nobody():
    """What a competitor was given and did not take is gone."""

    def made(real):
        def _give_back(self, key, taken, kept):
            for shape, position in self._execute(SQL["given"], (key,)).fetchall():
                if position in taken or shape not in kept:
                    self._execute(SQL["drop_given"], (key, shape, position))
                    self._execute(SQL["set_busy"], (False, key, shape))
            return set()

        return _give_back

    change(SqliteLog, "_give_back", made)


@mutant("M3", store="sqlite")
def competing_for_all():
    """A message that was given to one competitor stays in the queue."""

    def made(real):
        def _compete(self, shape):
            woken = {}
            queued = self._execute(SQL["queued"], (shape,)).fetchone()
            while queued and (free := self._execute(SQL["free"], (shape,)).fetchone()):
                self._execute(SQL["give"], (free[0], shape, queued[0]))
                self._execute(SQL["set_busy"], (True, free[0], shape))
                woken[free[0]] = free[1]
            if woken:
                self._execute(SQL["drop_facet"], (shape, "", "?", queued[0]))
            return woken

        return _compete

    change(SqliteLog, "_compete", made)


@mutant("T1")
def outbox_row_dropped():
    """An event of the outbox is forgotten when it is taken, not when it was posted."""

    def made(real):
        async def take_outgoing(self, *, limit, lease_seconds):
            taken = await real(self, limit=limit, lease_seconds=lease_seconds)
            for one in taken:
                await self.settle_outgoing(one.position)
            return [one for one in taken if one.position % 2]

        return take_outgoing

    for store in STORES:
        change(store, "take_outgoing", made)


@mutant("M2", "M1")
def duplicate_accepted():
    """An event that comes again is another event."""

    def made(real):
        def deliver(self, envelopes, judge=None):
            others = [replace(one, id=f"{one.id}-{next(numbers)}-again") for one in envelopes]
            return real(self, others, judge)

        return deliver

    numbers = itertools.count(id(object()))
    for store in STORES:
        change(store, "deliver", made)


@mutant("T1")
def lease_for_ever():
    """A lease never lapses."""
    far = 10_000_000.0

    def made(real):
        async def claim(self, worker, names, *, limit, lease_seconds):
            return await real(self, worker, names, limit=limit, lease_seconds=far)

        return claim

    def creating(real):
        return lambda self, new: real(self, replace(new, lease_seconds=far))

    for store in STORES:
        change(store, "claim", made)
        change(store, "create", creating)
        change(store, "renew", lambda real: lambda self, leases, _: real(self, leases, far))


@mutant("M2", "H3", "T1")
def restart_forgets_subscriptions():
    """A fresh history begins without the channels of the old one."""

    def made(commit):
        if commit.restart is None:
            return commit
        restart = replace(commit.restart, subscriptions=())
        return replace(commit, restart=restart, subscriptions=())

    change_commits(made)


@mutant("T1")
def end_of_child_lost():
    """A child ends, and its parent is not told."""

    def made(commit):
        kept = tuple(one for one in commit.messages if not one.type.startswith(ENDED))
        return replace(commit, messages=kept)

    change_commits(made)


@mutant("T1", "M2")
def commit_by_halves():
    """Events of a step are committed; its waits now and then are not."""

    def made(commit):
        if commit.waits and commit.release and next(numbers) % 3 == 0:
            return replace(commit, waits=(), due=None)
        return commit

    numbers = itertools.count()
    change_commits(made)


@mutant("T2")
def written_apart_from_the_answer():
    """What a transactional activity wrote is committed first, and its answer a moment later."""

    def on_sqlite(real):
        async def _finish(self, commit):
            await self._hand(self._file.connection.execute, "RELEASE edda_step")
            await self._hand(self._file.connection.execute, "COMMIT")
            await asyncio.sleep(0.2)
            await self._hand(self._file.begin)
            return await real(self, commit)

        return _finish

    def on_postgresql(real):
        async def commit_in(self, connection, commit):
            await connection.execute("COMMIT")
            await asyncio.sleep(0.2)
            await connection.execute("BEGIN")
            return await real(self, connection, commit)

        return commit_in

    change(SqliteStore, "_finish", on_sqlite)
    change(PostgresStore, "commit_in", on_postgresql)


@mutant("T1")
def undone_in_the_wrong_order():
    """Compensations run in the order of their steps."""
    Undos.add = lambda self, undo: self._stack.insert(0, undo)


@mutant("T1")
def cancellation_forgotten():
    """A cancellation is acknowledged, and not set down."""

    def made(real):
        async def request_cancel(self, instance_id):
            found = await self.instance(instance_id)
            return found is not None and not found.status.is_final

        return request_cancel

    for store in STORES:
        change(store, "request_cancel", made)


@mutant("T2")
def done_twice():
    """An activity whose worker is slow is simply called again."""

    def made(real):
        async def attempt(self, call):
            outcome = await real(self, call)
            if call.activity.name == "charge" and next(numbers) % 5 == 0:
                return await real(self, call)
            return outcome

        return attempt

    numbers = itertools.count()
    change(DirectActivities, "attempt", made)
