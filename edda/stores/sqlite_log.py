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

from edda.events import ENDED, Envelope
from edda.ports import Clock, Delivered, Expired, Judge, Message, Subscription, Wait
from edda.stores.sqlite_rows import (
    COMPETING,
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

# Events that are looked at for expiry in one transaction: others must get at the file in between.
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
        # What is known to be there, and never goes: see `forget`.
        self._shapes: dict[tuple[str, str], int] = {}
        self._interests: set[tuple[str, str, str]] = set()

    def forget(self) -> None:
        """What was done since the last commit was undone."""
        self._shapes.clear()
        self._interests.clear()

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

    def offered(self, key: int, id: str, born: int, waits: int) -> tuple[Message, ...]:
        """What an instance with so many open waits could take now, in log order."""
        if not waits:
            return ()
        wanted = {"key": key, "mine": as_address(id, ""), "born": born, "limit": waits + OFFERED}
        if not self._execute(SQL["is_offered"], wanted).fetchone()[0]:
            return ()
        rows = self._execute(SQL["offered"], wanted)
        return tuple(
            Message(position, as_time(at), Envelope(*envelope)) for position, at, *envelope in rows
        )

    # ---- Waits ---------------------------------------------------------------------------------

    def take(self, key: int, positions: Sequence[int]) -> None:
        """These answered a wait of the instance, or were refused by one."""
        self._execute(SQL["trim_taken"], (key,))
        self._execute_many(SQL["take"], [(key, position) for position in positions])
        self._execute_many(SQL["mark_read"], [(position,) for position in positions])

    def subscribe(
        self, key: int, subscriptions: Sequence[Subscription], renewed: Sequence[str] = ()
    ) -> bool:
        """Make these the channels that an instance reads, those `renewed` from here on.

        Whether that changed anything.
        """
        stored = dict(self._execute(SQL["subscriptions"], (key,)).fetchall())
        wanted = {one.type: one.mode for one in subscriptions}
        if stored == wanted and not renewed:
            return False
        gone = [
            type for type, mode in stored.items() if wanted.get(type) != mode or type in renewed
        ]
        self._execute_many(SQL["drop_subscription"], [(key, type) for type in gone])
        new = [
            (key, type, mode)
            for type, mode in wanted.items()
            if stored.get(type) != mode or type in renewed
        ]
        self._execute_many(SQL["add_subscription"], new)
        for _, type, mode in new:
            if mode == "competing":
                self._shape(type, COMPETING)  # what nobody takes is kept for it from now on
        return True

    def waits(self, key: int) -> dict[Wait, tuple[int, int]]:
        """The open waits of an instance, in the order of registration; their rows and shapes."""
        rows = self._execute(SQL["waits"], (key,))
        return {as_wait(row[2:]): (row[0], row[1]) for row in rows}

    def register(
        self,
        key: int,
        workflow: str,
        born: int,
        stored: dict[Wait, tuple[int, int]],
        waits: Sequence[Wait],
        *,
        taken: Sequence[int],
    ) -> tuple[bool, Woken]:
        """Make these the open waits; whether that changed anything, and for whom else.

        `taken` answered waits of the instance, or were refused by them.
        """
        wanted = dict.fromkeys(waits)
        gone = [place for wait, place in stored.items() if wait not in wanted]
        new = [wait for wait in wanted if wait not in stored]
        if gone:
            self._execute_many(SQL["drop_wait"], [(row,) for row, _ in gone])
        for wait in new:
            self._add_wait(key, workflow, born, wait)
        competed = {wait.type for wait in (*stored, *wanted) if wait.mode == "competing"}
        if not competed:
            return bool(gone or new), {}
        kept = {wait.type for wait in wanted if wait.mode == "competing"}
        queues = {type: self._shape(type, COMPETING) for type in competed}
        self._give_back(key, taken, {queues[type] for type in kept})
        woken: Woken = {}
        for shape in queues.values():
            woken |= self._compete(shape)
        return bool(gone or new or woken), woken

    def _add_wait(self, key: int, workflow: str, born: int, wait: Wait) -> None:
        since = 0 if wait.mode == "competing" else born
        if wait.mode in ("broadcast", "direct"):
            since = self._execute(SQL["subscribed_since"], (key, wait.type)).fetchone()[0]
        row = {
            "key": key,
            "id": wait.id,
            "shape": self._shape(wait.type, as_shape(wait)),
            "wanted": wait.values or "",
            "model": wait.model,
            "on_invalid": wait.on_invalid,
            "mode": wait.mode,
            "since": since,
        }
        self._execute(SQL["add_wait"], row)
        interest = (workflow, wait.type, wait.mode or "")
        if interest not in self._interests:
            self._execute(SQL["add_interest"], interest)
            self._interests.add(interest)

    def _shape(self, type: str, paths: str) -> int:
        known = self._shapes.get((type, paths))
        if known is None:
            found = self._execute(SQL["shape"], (type, paths)).fetchone()
            known = self._add_shape(type, paths) if found is None else int(found[0])
            self._shapes[type, paths] = known
        return known

    def _add_shape(self, type: str, paths: str) -> int:
        """The first wait of this shape ever: the log so far is indexed for it, once."""
        added = self._execute(SQL["add_shape"], (type, paths)).lastrowid
        assert added is not None
        rows = self._execute(SQL["messages_of_type"], (type,))
        self._execute_many(
            SQL["add_facet"],
            (
                (added, value, as_address(target, paths), position)
                for position, target, text in rows
                if (value := as_facet(Envelope(type, "", "", text), paths)) is not None
            ),
        )
        return added

    # ---- Competing -----------------------------------------------------------------------------

    def give_back(self, key: int, taken: Sequence[int] = ()) -> Woken:
        """A parked instance must not keep what others could take; who is given it instead."""
        woken: Woken = {}
        returned = self._give_back(key, taken, set())
        self._execute(SQL["set_parked"], (True, key))
        for shape in returned:
            woken |= self._compete(shape)
        return woken

    def go_on(self, key: int) -> None:
        """An instance that was parked competes again."""
        self._execute(SQL["set_parked"], (False, key))

    def _compete(self, shape: int) -> Woken:
        """Give what is in a queue to those who wait, first come, first served."""
        woken: Woken = {}
        while True:
            queued = self._execute(SQL["queued"], (shape,)).fetchone()
            free = None if queued is None else self._execute(SQL["free"], (shape,)).fetchone()
            if free is None:
                return woken
            self._execute(SQL["drop_facet"], (shape, "", QUEUE, queued[0]))
            self._execute(SQL["give"], (free[0], shape, queued[0]))
            self._execute(SQL["set_busy"], (True, free[0], shape))
            woken[free[0]] = free[1]

    def _give_back(self, key: int, taken: Sequence[int], kept: set[int]) -> set[int]:
        """What was given and not taken goes back, except in these queues; whither it went."""
        returned = set()
        for shape, position in self._execute(SQL["given"], (key,)).fetchall():
            is_taken = position in taken
            if is_taken or shape not in kept:
                self._execute(SQL["drop_given"], (key, shape, position))
                self._execute(SQL["set_busy"], (False, key, shape))
            if not is_taken and shape not in kept:
                self._execute(SQL["add_facet"], (shape, "", QUEUE, position))
                returned.add(shape)
        return returned

    # ---- Expiry --------------------------------------------------------------------------------

    def expire(self, before: datetime, after: int) -> tuple[int, int | None]:
        """Look at some messages after a position: how many expired, and where to go on, if at all.

        Positions grow with time, so the first that is younger ends it. Should the clock have been
        set back, what it hides is kept a little longer.
        """
        limit = as_micros(before)
        rows = self._execute(
            SQL["expiring"],
            {"before": limit, "after": after, "limit": EXPIRING, "competing": COMPETING},
        ).fetchall()
        gone = [position for position, _, is_over in rows if is_over]
        for position in gone:
            self._drop_message(position)
        is_last = len(rows) < EXPIRING or any(at >= limit for _, at, _ in rows)
        return len(gone), None if is_last else rows[-1][0]

    def _drop_message(self, position: int) -> None:
        row = self._execute(SQL["message"], (position,)).fetchone()
        at, type, source, id, target, text, is_read = row
        for shape, paths in self._execute(SQL["shapes"], (type,)).fetchall():
            found = as_facet(Envelope(type, source, id, text), paths)
            if found is not None:
                address = as_address(target, paths)
                self._execute(SQL["drop_facet"], (shape, found, address, position))
        if not is_read and not type.startswith(ENDED):
            self._execute(SQL["add_expired"], (position, at, type, source, id))
        self._execute(SQL["drop_message"], (position,))

    def expired(self, limit: int, after: int) -> list[Expired]:
        """Events that expired unread, by position, those after a position."""
        rows = self._execute(SQL["expired"], (after, limit))
        return [Expired(position, as_time(at), *rest) for position, at, *rest in rows]

    # ---- Ready times ---------------------------------------------------------------------------

    def make_ready(self, statement: str, keys: Iterable[int]) -> None:
        """Run a statement that makes instances ready now, for each of these."""
        found = list(keys)
        if found:
            now = as_micros(self._clock.now())
            self._execute_many(
                statement, [{"now": now, "ticket": self.next_ticket(), "key": key} for key in found]
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
