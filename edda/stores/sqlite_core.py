"""What the SQLite store does, statement by statement, on one plain connection.

One function for each method of `ports.Store`. Each expects to run inside a transaction that its
caller begins and ends, alone or together with others, and has no effect when that is rolled
back. The statements are in `sqlite.sql`, by name, with the reasons for their shape.

Absent: files, threads, `await`, and what to do about a database that does not answer.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from edda.codec import encode_error
from edda.errors import HistoryFormatError, LeaseLost
from edda.events import Envelope
from edda.history import CancelRequested, Event, Finished, Started, as_row, from_row
from edda.ports import (
    Claimed,
    Clock,
    Commit,
    Committed,
    Created,
    Delivered,
    Instance,
    Judge,
    Lease,
    Message,
    NewInstance,
    Status,
    Wait,
)
from edda.stores.sqlite_rows import SQL, as_facet, as_list, as_micros, as_time, as_wait, is_same

__all__ = ["SqliteCore"]

logger = logging.getLogger("edda.store")

# How many messages more than it has waits an instance is offered at once: enough that a turn
# which refuses a few has the next ones at hand; the rest of a long log follows with each commit.
OFFERED = 16

# The column `cancel`.
NOT_ASKED, ASKED, IN_HISTORY = 0, 1, 2


class SqliteCore:
    """The tables, and what can be done with them."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._clock = clock
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self._ticket = 0

    # ---- Instances -----------------------------------------------------------------------------

    def create(self, new: NewInstance) -> Created:
        """Store a new instance, unless its id is there already."""
        found = self._execute(SQL["started"], (new.id,)).fetchone()
        if found is not None:
            started = from_row(found[1:])
            assert isinstance(started, Started)
            return Created(None, (found[0], started))
        now = self._clock.now()
        until = now + timedelta(seconds=new.lease_seconds)
        is_leased = new.worker is not None
        status = Status.RUNNING if is_leased else Status.PENDING
        key = self._execute(
            SQL["create"],
            (
                new.id,
                new.workflow,
                status.value,
                as_micros(new.started.at),
                as_micros(now),
                as_micros(now),
                as_micros(until if is_leased else now),
                self._next_ticket(),
                new.worker,
                int(is_leased),
            ),
        ).lastrowid
        assert key is not None
        self._append(key, 0, (new.started,))
        if new.worker is None:
            return Created(None)
        lease = Lease(new.id, new.worker, 1, until)
        return Created(Claimed(lease, new.workflow, (new.started,)))

    def claim(
        self, worker: str, names: Sequence[str], limit: int, lease_seconds: float
    ) -> list[Claimed]:
        """Lease up to `limit` instances that have something to do now."""
        now = self._clock.now()
        until = now + timedelta(seconds=lease_seconds)
        rows = self._execute(
            SQL["ready"], {"names": as_list(names), "now": as_micros(now), "limit": limit}
        ).fetchall()
        claimed = []
        for key, instance_id, workflow, token, born, cancel, waits, length in rows:
            try:
                history = self._history(key)
            except HistoryFormatError as error:
                # One that nobody here can read must not keep the others from being claimed.
                self._park(key, encode_error(error), now, cancel, length)
                continue
            row = (worker, token + 1, as_micros(until), self._next_ticket(), key)
            self._execute(SQL["lease"], row)
            claimed.append(
                Claimed(
                    Lease(instance_id, worker, token + 1, until),
                    workflow,
                    history,
                    self._offered(key, instance_id, born, waits),
                    cancel == ASKED,
                )
            )
        return claimed

    def commit(self, commit: Commit) -> Committed:
        """Apply a step. Raises `LeaseLost`, with no effect, when the lease is not held."""
        lease = commit.lease
        row = self._execute(SQL["for_commit"], (lease.instance_id,)).fetchone()
        if row is None:
            raise LeaseLost(lease.instance_id)
        key, born, length, status, due, ready, ticket, worker, token, cancel, problem, open_ = row
        if worker != lease.worker or token != lease.token or length != commit.expected_length:
            raise LeaseLost(lease.instance_id)
        before = (status, due, worker, cancel, problem)
        self._append(key, length, commit.events)
        length += len(commit.events)
        if commit.taken:
            self._execute_many(SQL["take"], [(key, position) for position in commit.taken])
        if any(isinstance(event, CancelRequested) for event in commit.events):
            cancel = IN_HISTORY
        if commit.status is Status.STUCK:
            self._park(key, commit.problem, self._clock.now(), cancel, length)
            return Committed(is_released=True)
        is_final = commit.status.is_final
        waits = () if is_final else commit.waits
        is_changed = bool(waits or open_) and self._register(key, waits)
        messages = self._offered(key, lease.instance_id, born, len(waits))
        goes_on = bool(messages) or cancel == ASKED
        is_released = is_final or (commit.release and not goes_on)
        due = None if commit.due is None else as_micros(commit.due)
        if is_released:
            worker, ready, ticket = None, (None if is_final else due), self._next_ticket()
        after = (commit.status.value, due, worker, cancel, commit.problem)
        # A commit that only looks (the holder was woken) writes nothing and costs no fsync.
        if is_changed or commit.events or commit.taken or before != after:
            now = as_micros(self._clock.now())
            state = (after[0], now, length, due, ready, ticket, worker, cancel, commit.problem)
            self._execute(SQL["update"], (*state, len(waits), key))
        if is_released:
            return Committed(is_released=True)
        return Committed(messages, cancel == ASKED)

    def renew(self, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
        """Prolong leases; those that are not held any more are missing from the answer."""
        until = self._clock.now() + timedelta(seconds=lease_seconds)
        ready = as_micros(until)

        def is_held(lease: Lease) -> bool:
            held = (lease.instance_id, lease.worker, lease.token)
            row = (ready, self._next_ticket(), *held)
            return self._execute(SQL["renew"], row).rowcount == 1

        return [replace(lease, until=until) for lease in leases if is_held(lease)]

    def release(self, worker: str) -> None:
        """Give back every lease of a worker."""
        self._make_ready(SQL["give_back"], self._keys(SQL["held_by"], worker))

    def workers(self) -> list[str]:
        """The workers that hold leases, lapsed ones too."""
        return [worker for (worker,) in self._execute(SQL["workers"])]

    def request_cancel(self, instance_id: str) -> bool:
        """Ask for cancellation and wake the instance; False when it has ended or is unknown."""
        row = self._execute(SQL["for_commit"], (instance_id,)).fetchone()
        if row is None or Status(row[3]).is_final:
            return False
        key, cancel = row[0], row[9]
        if cancel == NOT_ASKED:
            self._execute(SQL["cancel"], (key,))
            self._make_ready(SQL["wake"], [key])
        return True

    def retry_stuck(self, instance_id: str | None) -> int:
        """Make stuck instances ready again (one, or all); how many."""
        keys = self._keys(SQL["stuck"], instance_id)
        self._make_ready(SQL["unpark"], keys)
        return len(keys)

    # ---- Looking -------------------------------------------------------------------------------

    def next_due(self, names: Sequence[str]) -> datetime | None:
        """When the next instance of these workflows has something to do, or its lease lapses."""
        due: int | None = self._execute(SQL["next_due"], (as_list(names),)).fetchone()[0]
        return as_time(due)

    def instance(self, instance_id: str) -> Instance | None:
        """One instance, or None."""
        row = self._execute(SQL["instance"], (instance_id,)).fetchone()
        return None if row is None else self._view(row)

    def history(self, instance_id: str) -> list[Event]:
        """The history of one instance; empty when there is none."""
        return [from_row(row) for row in self._execute(SQL["history_by_id"], (instance_id,))]

    def find(
        self, status: Status | None, workflow: str | None, limit: int, after: str | None
    ) -> list[Instance]:
        """Instances by id, at most `limit`, those after the id `after`."""
        wanted = None if status is None else status.value
        rows = self._execute(
            SQL["find"],
            {"after": after or "", "status": wanted, "workflow": workflow, "limit": limit},
        ).fetchall()
        return [self._view(row) for row in rows]

    def data_version(self) -> int:
        """A number that is another one when another connection has changed the file."""
        return int(self._execute(SQL["data_version"]).fetchone()[0])

    # ---- Messages ------------------------------------------------------------------------------

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
            (shape, found)
            for shape, paths in self._execute(SQL["shapes"], (envelope.type,)).fetchall()
            if (found := as_facet(envelope, paths)) is not None
        ]
        fitting = [row for facet in facets for row in self._fitting(envelope, *facet)]
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

    def _fitting(
        self, envelope: Envelope, shape: int, found: str
    ) -> Iterator[tuple[int, str, Wait]]:
        target = envelope.instance_id
        statement = SQL["fitting"] if target is None else SQL["fitting_of_one"]
        for row in self._execute(statement, {"shape": shape, "found": found, "target": target}):
            yield row[0], row[1], as_wait(row[2:])

    def _accept(self, plan: "_Plan", now: int) -> Delivered:
        if plan.is_duplicate:
            return Delivered(None, is_duplicate=True)
        envelope = plan.envelope
        target = envelope.instance_id
        row = (now, envelope.type, envelope.source, envelope.id, target, envelope.text)
        position = self._execute(SQL["add_message"], row).lastrowid
        self._execute_many(
            SQL["add_facet"],
            [(shape, found, target or "", position) for shape, found in plan.facets],
        )
        self._make_ready(SQL["wake"], plan.woken)
        return Delivered(position, tuple(plan.woken.values()))

    def _offered(self, key: int, id: str, born: int, waits: int) -> tuple[Message, ...]:
        if not waits:
            return ()
        rows = self._execute(
            SQL["offered"], {"id": id, "born": born, "limit": waits + OFFERED, "key": key}
        )
        return tuple(
            Message(position, as_time(at), Envelope(*envelope)) for position, at, *envelope in rows
        )

    # ---- Inside one instance -------------------------------------------------------------------

    def _append(self, key: int, length: int, events: Sequence[Event]) -> None:
        if not events:
            return
        rows = [as_row(event) for event in events]
        assert rows[0][0] == length, f"event {rows[0][0]} cannot follow {length} events"
        self._execute_many(SQL["append"], [(key, *row) for row in rows])

    def _history(self, key: int) -> tuple[Event, ...]:
        return tuple([from_row(row) for row in self._execute(SQL["history"], (key,))])

    def _park(self, key: int, problem: str | None, now: datetime, cancel: int, length: int) -> None:
        self._execute(SQL["park"], (problem, as_micros(now), cancel, length, key))

    def _waits(self, key: int) -> dict[Wait, int]:
        return {as_wait(row[1:]): row[0] for row in self._execute(SQL["waits"], (key,))}

    def _register(self, key: int, waits: Sequence[Wait]) -> bool:
        """Make these the open waits; whether that changed anything."""
        stored = self._waits(key)
        wanted = dict.fromkeys(waits)
        gone = [(row,) for wait, row in stored.items() if wait not in wanted]
        new = [wait for wait in wanted if wait not in stored]
        if gone:
            self._execute_many(SQL["drop_wait"], gone)
        for wait in new:
            shape = self._shape(wait.type, wait.paths or "")
            self._execute(
                SQL["add_wait"],
                (key, wait.id, shape, wait.values or "", wait.model, wait.on_invalid),
            )
        return bool(gone or new)

    def _shape(self, type: str, paths: str) -> int:
        found = self._execute(SQL["shape"], (type, paths)).fetchone()
        if found is not None:
            return int(found[0])
        # The first wait of this shape ever: the log so far is indexed for it, once.
        added = self._execute(SQL["add_shape"], (type, paths)).lastrowid
        assert added is not None
        rows = self._execute(SQL["messages_of_type"], (type,))
        self._execute_many(
            SQL["add_facet"],
            (
                (added, value, target, position)
                for position, target, text in rows
                if (value := as_facet(Envelope(type, "", "", text), paths)) is not None
            ),
        )
        return added

    def _view(self, row: Sequence[Any]) -> Instance:
        key, instance_id, workflow, status, started_at, updated_at, due, problem, *last = row
        finished = None if last[0] is None else from_row(last)
        is_parked = status == Status.STUCK or Status(status).is_final
        return Instance(
            id=instance_id,
            workflow=workflow,
            status=Status(status),
            started_at=as_time(started_at),
            updated_at=as_time(updated_at),
            due=None if is_parked else as_time(due),
            waits=tuple(self._waits(key)),
            outcome=finished.outcome if isinstance(finished, Finished) else None,
            problem=problem,
        )

    # ---- Ready times ---------------------------------------------------------------------------

    def _keys(self, statement: str, wanted: str | None) -> list[int]:
        return [key for (key,) in self._execute(statement, {"wanted": wanted})]

    def _make_ready(self, statement: str, keys: Iterable[int]) -> None:
        now = as_micros(self._clock.now())
        self._execute_many(
            statement, [{"now": now, "ticket": self._next_ticket(), "key": key} for key in keys]
        )

    def _next_ticket(self) -> int:
        # Orders one instant of one process; those of others are as good as simultaneous.
        self._ticket += 1
        return self._ticket


@dataclass(frozen=True, slots=True)
class _Plan:
    """What `deliver` is going to do about one event. `woken` maps keys of instances to ids."""

    envelope: Envelope
    facets: tuple[tuple[int, str], ...] = ()
    woken: dict[int, str] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()
    is_duplicate: bool = False
