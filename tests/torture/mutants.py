"""Faults of the engine, planted into the servers of a campaign to prove that its checker sees them.

Each replaces a piece of the engine in its own process: the engine has no switch for it. They are
for the SQLite store, and each says which laws the checker must find broken (any of them).
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
from edda.stores.sqlite import SqliteStore
from edda.stores.sqlite_core import SqliteCore
from edda.stores.sqlite_log import SqliteLog
from edda.stores.sqlite_rows import SQL
from edda.undo import Undos

__all__ = ["MUTANTS", "plant"]

MUTANTS = {}  # name -> (laws, how to plant it)


def plant(name):
    """Plant this fault into the engine of this process."""
    MUTANTS[name][1]()


def mutant(*laws):
    def register(planter):
        MUTANTS[planter.__name__] = (laws, planter)
        return planter

    return register


def change(where, name, made):
    """Replace a method by what `made` makes of it."""
    setattr(where, name, made(getattr(where, name)))


@mutant("T3", "H1", "H2", "H3", "T1")
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


@mutant("T1", "M2")
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


@mutant("T5", "T1")
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


@mutant("M3")
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
        def take_outgoing(self, limit, lease_seconds):
            taken = real(self, limit, lease_seconds)
            for one in taken:
                self._execute(SQL["drop_outgoing"], (one.position,))
            return [one for one in taken if one.position % 2]

        return take_outgoing

    change(SqliteCore, "take_outgoing", made)


@mutant("M2", "M1")
def duplicate_accepted():
    """An event that comes again is another event."""

    def made(real):
        def _plan(self, envelope, judge, seen):
            if self._execute(SQL["same_message"], (envelope.source, envelope.id)).fetchone():
                envelope = replace(envelope, id=f"{envelope.id}-{next(numbers)}-again")
            return real(self, envelope, judge, seen)

        return _plan

    numbers = itertools.count(id(object()))
    change(SqliteLog, "_plan", made)


@mutant("T1")
def lease_for_ever():
    """A lease never lapses."""
    far = 10_000_000.0

    def made(real):
        async def claim(self, worker, names, *, limit, lease_seconds):
            return await real(self, worker, names, limit=limit, lease_seconds=far)

        return claim

    change(SqliteStore, "claim", made)
    change(
        SqliteStore,
        "create",
        lambda real: lambda self, new: real(self, replace(new, lease_seconds=far)),
    )
    change(SqliteStore, "renew", lambda real: lambda self, leases, _: real(self, leases, far))


@mutant("M2", "H3", "T1")
def restart_forgets_subscriptions():
    """A fresh history begins without the channels of the old one."""

    def made(real):
        def commit(self, commit):
            if commit.restart is not None:
                restart = replace(commit.restart, subscriptions=())
                commit = replace(commit, restart=restart, subscriptions=())
            return real(self, commit)

        return commit

    change(SqliteCore, "commit", made)


@mutant("T1")
def end_of_child_lost():
    """A child ends, and its parent is not told."""

    def made(real):
        def commit(self, commit):
            kept = tuple(one for one in commit.messages if not one.type.startswith(ENDED))
            return real(self, replace(commit, messages=kept))

        return commit

    change(SqliteCore, "commit", made)


@mutant("T1", "M2")
def commit_by_halves():
    """Events of a step are committed; its waits now and then are not."""

    def made(real):
        def commit(self, commit):
            if commit.waits and commit.release and next(numbers) % 3 == 0:
                commit = replace(commit, waits=(), due=None)
            return real(self, commit)

        return commit

    numbers = itertools.count()
    change(SqliteCore, "commit", made)


@mutant("T2")
def written_apart_from_the_answer():
    """What a transactional activity wrote is committed first, and its answer a moment later."""

    def made(real):
        async def _finish(self, commit):
            await self._hand(self._file.connection.execute, "RELEASE edda_step")
            await self._hand(self._file.connection.execute, "COMMIT")
            await asyncio.sleep(0.2)
            await self._hand(self._file.begin)
            return await real(self, commit)

        return _finish

    change(SqliteStore, "_finish", made)


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

    change(SqliteStore, "request_cancel", made)


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
