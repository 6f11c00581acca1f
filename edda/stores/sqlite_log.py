"""The message log of the SQLite store: who waits for what, and which message is whose.

What an event has at the paths that waits look at is kept beside it as *facets*, so a wait finds
its messages, and a message its waits, by index. A message that instances compete for stands in
its channel's queue until it is given to one of them; who gives up its wait gives it back.

Each function expects to run inside its caller's transaction. Absent: instances and their leases.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from edda.events import Envelope
from edda.ports import Clock, Delivered, Expired, Judge, Message, Subscription, Wait
from edda.stores.sqlite_rows import (
    COMPETING,
    EVERYBODY,
    QUEUE,
    SQL,
    as_address,
    as_facet,
    as_micros,
    as_shape,
    as_time,
    as_wait,
    is_same,
)

__all__ = ["SqliteLog", "Woken"]

logger = logging.getLogger("edda.store")

# How many messages more than it has waits an instance is offered at once: enough that a turn
# which refuses a few has the next ones at hand; the rest of a long log follows with each commit.
OFFERED = 16

# Events that expire in one transaction: others must get at the file in between.
EXPIRING = 1000

# Instances that have something to do: their keys and ids.
Woken = dict[int, str]


class SqliteLog:
    """Accepted messages, and the waits they may answer."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._clock = clock
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self._ticket = 0

    # ---- Accepting -----------------------------------------------------------------------------

    def deliver(self, envelopes: Sequence[Envelope], judge: Judge | None) -> list[Delivered]:
        """Accept events, all or none, and wake the instances whose waits they fit."""
        seen: set[tuple[str, str]] = set()
        plans = [self._plan(envelope, judge, seen) for envelope in envelopes]
        if any(plan.refusals for plan in plans):
            return [Delivered(None, (), plan.refusals, plan.is_duplicate) for plan in plans]
        now = as_micros(self._clock.now())
        return [self._accept(plan, now) for plan in plans]

    def _plan(self, envelope: Envelope, judge: Judge | None, seen: set[tuple[str, str]]) -> "_Plan":
        identity = (envelope.source, envelope.id)
        stored = self._execute(SQL["same_message"], identity).fetchone()
        if stored is not None and not is_same(stored[0], envelope.text):
            logger.warning(
                "The event %r of %r came again with other content; the first one stands.",
                envelope.id,
                envelope.source,
            )
        if stored is not None or identity in seen:
            return _Plan(envelope, is_duplicate=True)
        seen.add(identity)
        facets = [
            _Facet(shape, found, as_address(envelope.instance_id, paths))
            for shape, paths in self._execute(SQL["shapes"], (envelope.type,)).fetchall()
            if (found := as_facet(envelope, paths)) is not None
        ]
        fitting = [row for facet in facets for row in self._fitting(envelope, facet)]
        refusals = [
            None
            if judge is None or wait.on_invalid == "raise"  # it takes what does not validate, too
            else judge(wait, envelope)
            for _, _, wait in fitting
        ]
        return _Plan(
            envelope,
            tuple(facets),
            {key: instance_id for key, instance_id, _ in fitting},
            tuple(dict.fromkeys(filter(None, refusals))) if all(refusals) else (),
        )

    def _fitting(self, envelope: Envelope, facet: "_Facet") -> Iterator[tuple[int, str, Wait]]:
        if facet.target == QUEUE:
            return  # it is given to one of them when it has been accepted
        target = envelope.instance_id
        statement = SQL["fitting"] if target is None else SQL["fitting_of_one"]
        wanted = {"shape": facet.shape, "found": facet.found, "target": target}
        for row in self._execute(statement, wanted):
            yield row[0], row[1], as_wait(row[2:])

    def _accept(self, plan: "_Plan", now: int) -> Delivered:
        if plan.is_duplicate:
            return Delivered(None, is_duplicate=True)
        envelope = plan.envelope
        row = (
            now,
            envelope.type,
            envelope.source,
            envelope.id,
            envelope.instance_id,
            envelope.text,
        )
        position = self._execute(SQL["add_message"], row).lastrowid
        self._execute_many(
            SQL["add_facet"],
            [(facet.shape, facet.found, facet.target, position) for facet in plan.facets],
        )
        woken = plan.woken
        for facet in plan.facets:
            if facet.target == QUEUE:
                woken = woken | self._compete(facet.shape)
        self.make_ready(SQL["wake"], woken)
        return Delivered(position, tuple(woken.values()))

    def offered(self, key: int, id: str, waits: int) -> tuple[Message, ...]:
        """What an instance with so many open waits could take now, in log order."""
        if not waits:
            return ()
        limit = waits + OFFERED
        rows = self._execute(
            SQL["offered"], {"mine": as_address(id, ""), "limit": limit, "key": key}
        )
        return tuple(
            Message(position, as_time(at), Envelope(*envelope)) for position, at, *envelope in rows
        )

    # ---- Waits ---------------------------------------------------------------------------------

    def take(self, key: int, positions: Sequence[int]) -> None:
        """These answered a wait of the instance, or were refused by one."""
        self._execute_many(SQL["take"], [(key, position) for position in positions])
        self._execute_many(SQL["mark_read"], [(position,) for position in positions])

    def subscribe(self, key: int, subscriptions: Sequence[Subscription]) -> bool:
        """Make these the channels that an instance reads; whether that changed anything."""
        stored = dict(self._execute(SQL["subscriptions"], (key,)).fetchall())
        wanted = {one.type: one.mode for one in subscriptions}
        if stored == wanted:
            return False
        gone = [type for type, mode in stored.items() if wanted.get(type) != mode]
        self._execute_many(SQL["drop_subscription"], [(key, type) for type in gone])
        new = [(key, type, mode) for type, mode in wanted.items() if stored.get(type) != mode]
        self._execute_many(SQL["add_subscription"], new)
        return True

    def waits(self, key: int) -> dict[Wait, tuple[int, int]]:
        """The open waits of an instance, in the order of registration; their rows and shapes."""
        rows = self._execute(SQL["waits"], (key,))
        return {as_wait(row[2:]): (row[0], row[1]) for row in rows}

    def register(
        self, key: int, id: str, workflow: str, born: int, waits: Sequence[Wait]
    ) -> tuple[bool, Woken]:
        """Make these the open waits; whether that changed anything, and for whom else."""
        stored = self.waits(key)
        wanted = dict.fromkeys(waits)
        gone = {wait: place for wait, place in stored.items() if wait not in wanted}
        new = [wait for wait in wanted if wait not in stored]
        self._execute_many(SQL["drop_wait"], [(row,) for row, _ in gone.values()])
        shapes = {shape for wait, (_, shape) in stored.items() if wait.mode == "competing"}
        for shape in shapes:
            self._give_back(key, id, shape)
        for wait in new:
            shape = self._shape(wait)
            shapes |= {shape} if wait.mode == "competing" else set()
            since = 0 if wait.mode == "competing" else born
            if wait.mode in ("broadcast", "direct"):
                since = self._execute(SQL["subscribed_since"], (key, wait.type)).fetchone()[0]
            self._execute(
                SQL["add_wait"],
                (
                    key,
                    wait.id,
                    shape,
                    wait.values or "",
                    wait.model,
                    wait.on_invalid,
                    wait.mode,
                    since,
                ),
            )
            self._execute(SQL["add_interest"], (workflow, wait.type))
        woken: Woken = {}
        for shape in shapes:
            woken |= self._compete(shape)
        return bool(gone or new), woken

    def _shape(self, wait: Wait) -> int:
        paths = as_shape(wait)
        found = self._execute(SQL["shape"], (wait.type, paths)).fetchone()
        if found is not None:
            return int(found[0])
        # The first wait of this shape ever: the log so far is indexed for it, once.
        added = self._execute(SQL["add_shape"], (wait.type, paths)).lastrowid
        assert added is not None
        rows = self._execute(SQL["messages_of_type"], (wait.type,))
        self._execute_many(
            SQL["add_facet"],
            (
                (added, value, as_address(target, paths), position)
                for position, target, text in rows
                if (value := as_facet(Envelope(wait.type, "", "", text), paths)) is not None
            ),
        )
        return added

    # ---- Competing -----------------------------------------------------------------------------

    def give_back(self, key: int, id: str) -> Woken:
        """A parked instance must not keep what others could take."""
        woken: Woken = {}
        for wait, (_, shape) in self.waits(key).items():
            if wait.mode == "competing":
                self._give_back(key, id, shape)
                woken |= self._compete(shape)
        return woken

    def _compete(self, shape: int) -> Woken:
        """Give what is in a queue to those who wait, first come, first served."""
        woken: Woken = {}
        while True:
            queued = self._execute(SQL["queued"], (shape,)).fetchone()
            free = None if queued is None else self._execute(SQL["free"], (shape,)).fetchone()
            if free is None:
                return woken
            self._readdress(shape, queued[0], QUEUE, as_address(free[1], ""))
            self._execute(SQL["give"], (free[0], shape, queued[0]))
            woken[free[0]] = free[1]

    def _give_back(self, key: int, id: str, shape: int) -> None:
        """What was given to an instance and not taken goes back; what was taken, out of sight."""
        mine = as_address(id, "")
        for position, is_taken in self._execute(SQL["given"], (key, shape)).fetchall():
            if is_taken:
                self._execute(SQL["drop_facet"], (shape, "", mine, position))
            else:
                self._readdress(shape, position, mine, QUEUE)
        self._execute(SQL["drop_given"], (key, shape))

    def _readdress(self, shape: int, position: int, old: str, new: str) -> None:
        self._execute(SQL["drop_facet"], (shape, "", old, position))
        self._execute(SQL["add_facet"], (shape, "", new, position))

    # ---- Expiry --------------------------------------------------------------------------------

    def expire(self, before: datetime) -> int:
        """Drop some of what came before an instant and no live instance could still take."""
        rows = self._execute(
            SQL["expiring"],
            {"before": as_micros(before), "limit": EXPIRING, "competing": COMPETING},
        ).fetchall()
        for position, at, type, source, id, target, text, is_read in rows:
            for shape, paths in self._execute(SQL["shapes"], (type,)).fetchall():
                found = as_facet(Envelope(type, source, id, text), paths)
                for address in {EVERYBODY, QUEUE, as_address(target, paths)}:
                    self._execute(SQL["drop_facet"], (shape, found, address, position))
            if not is_read:
                self._execute(SQL["add_expired"], (position, at, type, source, id))
            self._execute(SQL["drop_message"], (position,))
        return len(rows)

    def expired(self, limit: int, after: int) -> list[Expired]:
        """Events that expired unread, by position, those after a position."""
        rows = self._execute(SQL["expired"], (after, limit))
        return [Expired(position, as_time(at), *rest) for position, at, *rest in rows]

    # ---- Ready times ---------------------------------------------------------------------------

    def make_ready(self, statement: str, keys: Iterable[int]) -> None:
        """Run a statement that makes instances ready now, for each of these."""
        now = as_micros(self._clock.now())
        self._execute_many(
            statement, [{"now": now, "ticket": self.next_ticket(), "key": key} for key in keys]
        )

    def next_ticket(self) -> int:
        """A number that orders one instant of one process; others are as good as simultaneous."""
        self._ticket += 1
        return self._ticket


@dataclass(frozen=True, slots=True)
class _Facet:
    """What a message has at the paths of a shape, and for whom."""

    shape: int
    found: str
    target: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """What `deliver` is going to do about one event."""

    envelope: Envelope
    facets: tuple[_Facet, ...] = ()
    woken: Woken = field(default_factory=dict)
    refusals: tuple[str, ...] = ()
    is_duplicate: bool = False
