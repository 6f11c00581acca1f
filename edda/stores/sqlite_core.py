"""What the SQLite store does, statement by statement, on one plain connection.

One function for each method of `ports.Store`. Each expects to run inside a transaction that its
caller begins and ends, alone or together with others, and has no effect when that is rolled
back. The statements are in `sqlite.sql`, by name, with the reasons for their shape.

Absent: files, threads, `await`, and what to do about a database that does not answer.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from edda.codec import encode_error
from edda.errors import HistoryFormatError, LeaseLost
from edda.events import TARGET, Envelope
from edda.history import CancelRequested, Event, Started, as_row, from_row
from edda.ports import (
    Claimed,
    Clock,
    Commit,
    Committed,
    Created,
    Instance,
    Lease,
    NewInstance,
    Outgoing,
    Status,
)
from edda.stores.sqlite_log import SqliteLog, Woken
from edda.stores.sqlite_rows import SQL, as_end, as_list, as_micros, as_time

__all__ = ["SqliteCore"]

# The column `cancel`.
NOT_ASKED, ASKED, IN_HISTORY = 0, 1, 2


class SqliteCore:
    """The tables, and what can be done with them; `log` is the part for messages."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._clock = clock
        self._execute = connection.execute
        self._execute_many = connection.executemany
        self.log = SqliteLog(connection, clock)

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
                self.log.next_ticket(),
                new.worker,
                int(is_leased),
            ),
        ).lastrowid
        assert key is not None
        self._execute(SQL["live"], (key,))
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
        for key, instance_id, workflow, token, cancel, born, waits, length in rows:
            try:
                history = self._history(key)
            except HistoryFormatError as error:
                # One that nobody here can read must not keep the others from being claimed.
                self._park(key, encode_error(error), now, cancel, length)
                self._wake(self.log.give_back(key))
                continue
            row = (worker, token + 1, as_micros(until), self.log.next_ticket(), key)
            self._execute(SQL["lease"], row)
            claimed.append(
                Claimed(
                    Lease(instance_id, worker, token + 1, until),
                    workflow,
                    history,
                    self.log.offered(key, instance_id, born, waits),
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
        key, workflow, born, length, status, due, ready, ticket, worker, token, cancel, *rest = row
        if worker != lease.worker or token != lease.token or length != commit.expected_length:
            raise LeaseLost(lease.instance_id)
        problem, open_waits, channels = rest
        before = (status, due, worker, cancel, problem)
        length = self._extend(key, length, commit)
        if commit.taken:
            self.log.take(key, commit.taken)
        if any(isinstance(event, CancelRequested) for event in commit.events):
            cancel = IN_HISTORY
        if commit.restart is not None and cancel == IN_HISTORY:
            cancel = NOT_ASKED  # the history that has it is gone
        if commit.status is Status.STUCK:
            self._park(key, commit.problem, self._clock.now(), cancel, length)
            given = self.log.give_back(key, commit.taken)
            return Committed(is_released=True, woken=self._wake(given))
        is_final = commit.status.is_final
        waits = () if is_final else commit.waits
        subscriptions = () if is_final else commit.subscriptions
        is_changed, woken = False, dict[int, str]()
        if subscriptions or channels:
            is_changed = self.log.subscribe(key, subscriptions, commit.renewed)
        if waits or open_waits:
            stored = self.log.waits(key) if open_waits else {}
            registered, woken = self.log.register(
                key, workflow, born, stored, waits, taken=commit.taken
            )
            is_changed |= registered
        told = dict.fromkeys(self._wake(woken) + self._send_out(commit))
        told.pop(lease.instance_id, None)
        if lease.instance_id in commit.cancels and cancel == NOT_ASKED and not is_final:
            cancel = ASKED
        if is_final:
            self._execute(SQL["ended"], (workflow, born, key))
            self._execute(SQL["drop_taken"], (key,))
        messages = self.log.offered(key, lease.instance_id, born, len(waits))
        goes_on = bool(messages) or cancel == ASKED
        is_released = is_final or commit.restart is not None or (commit.release and not goes_on)
        due = None if commit.due is None else as_micros(commit.due)
        if is_released:
            worker, ready, ticket = None, (None if is_final else due), self.log.next_ticket()
        after = (commit.status.value, due, worker, cancel, commit.problem)
        # A commit that only looks (the holder was woken) writes nothing and costs no fsync.
        if is_changed or commit.events or commit.taken or before != after:
            now = as_micros(self._clock.now())
            if (before, open_waits, channels) == (after, len(waits), len(subscriptions)):
                self._execute(SQL["extend"], (now, length, key))
            else:
                state = (after[0], now, length, due, ready, ticket, worker, cancel, commit.problem)
                self._execute(SQL["update"], (*state, len(waits), len(subscriptions), key))
        if is_released:
            return Committed(is_released=True, woken=tuple(told))
        return Committed(messages, cancel == ASKED, woken=tuple(told))

    def _extend(self, key: int, length: int, commit: Commit) -> int:
        """Append the events, or begin anew; the length of the history then."""
        if commit.restart is not None:
            self._execute(SQL["forget"], (key,))
            self._append(key, 0, (commit.restart,))
            return 1
        self._append(key, length, commit.events)
        return length + len(commit.events)

    def _send_out(self, commit: Commit) -> tuple[str, ...]:
        """What is sent with a step; the instances that have something to do by it."""
        if not (commit.outbox or commit.messages or commit.cancels):
            return ()
        now = as_micros(self._clock.now())
        if commit.outbox:
            self._execute_many(SQL["add_outgoing"], [(one.text, now) for one in commit.outbox])
        delivered = self.log.deliver(commit.messages, None)
        asked = {
            key: instance_id
            for instance_id in commit.cancels
            if instance_id != commit.lease.instance_id
            and (key := self._ask_to_cancel(instance_id)) is not None
        }
        return (*(woken for one in delivered for woken in one.woken), *self._wake(asked))

    def _wake(self, woken: Woken) -> tuple[str, ...]:
        self.log.make_ready(SQL["wake"], woken)
        return tuple(woken.values())

    def renew(self, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
        """Prolong leases; those that are not held any more are missing from the answer."""
        until = self._clock.now() + timedelta(seconds=lease_seconds)
        ready = as_micros(until)

        def is_held(lease: Lease) -> bool:
            held = (lease.instance_id, lease.worker, lease.token)
            row = (ready, self.log.next_ticket(), *held)
            return self._execute(SQL["renew"], row).rowcount == 1

        return [replace(lease, until=until) for lease in leases if is_held(lease)]

    def release(self, worker: str) -> None:
        """Give back every lease of a worker."""
        self.log.make_ready(SQL["give_back"], self._keys(SQL["held_by"], worker))

    def workers(self) -> list[str]:
        """The workers that hold leases, lapsed ones too."""
        return [worker for (worker,) in self._execute(SQL["workers"])]

    def request_cancel(self, instance_id: str) -> bool:
        """Ask for cancellation and wake the instance; False when it has ended or is unknown."""
        row = self._execute(SQL["status"], (instance_id,)).fetchone()
        if row is None or Status(row[1]).is_final:
            return False
        if (key := self._ask_to_cancel(instance_id)) is not None:
            self.log.make_ready(SQL["wake"], [key])
        return True

    def _ask_to_cancel(self, instance_id: str) -> int | None:
        """Ask, where that was not done yet; the key of the instance then."""
        row = self._execute(SQL["status"], (instance_id,)).fetchone()
        if row is None or Status(row[1]).is_final or row[2] != NOT_ASKED:
            return None
        self._execute(SQL["cancel"], (row[0],))
        return int(row[0])

    def retry_stuck(self, instance_id: str | None) -> int:
        """Make stuck instances ready again (one, or all); how many."""
        keys = self._keys(SQL["stuck"], instance_id)
        for key in keys:
            self.log.go_on(key)
        self.log.make_ready(SQL["unpark"], keys)
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

    # ---- The outbox ----------------------------------------------------------------------------

    def take_outgoing(self, limit: int, lease_seconds: float) -> list[Outgoing]:
        """Take up to `limit` events of the outbox that are due, the longest due first."""
        now = self._clock.now()
        until = as_micros(now + timedelta(seconds=lease_seconds))
        rows = self._execute(SQL["due_outgoing"], (as_micros(now), limit)).fetchall()
        self._execute_many(SQL["lease_outgoing"], [(until, row[0]) for row in rows])
        return [_outgoing(row) for row in rows]

    def settle_outgoing(self, position: int, error: str | None, retry_at: datetime | None) -> None:
        """An event of the outbox was posted; or was not, with `error`."""
        if error is None:
            self._execute(SQL["drop_outgoing"], (position,))
        else:
            due = as_micros(retry_at or self._clock.now())
            self._execute(SQL["fail_outgoing"], (due, error, position))

    def outgoing(self, limit: int, after: int) -> list[Outgoing]:
        """The events of the outbox, by position, those after a position."""
        return [_outgoing(row) for row in self._execute(SQL["outgoing"], (after, limit))]

    def outgoing_due(self) -> datetime | None:
        """When the next event of the outbox is due."""
        due: int | None = self._execute(SQL["outgoing_due"]).fetchone()[0]
        return as_time(due)

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

    def _view(self, row: Sequence[Any]) -> Instance:
        key, instance_id, workflow, status, started_at, updated_at, due, problem, *last = row
        outcome, unread = as_end(last)
        is_parked = status == Status.STUCK or Status(status).is_final
        return Instance(
            id=instance_id,
            workflow=workflow,
            status=Status(status),
            started_at=as_time(started_at),
            updated_at=as_time(updated_at),
            due=None if is_parked else as_time(due),
            waits=tuple(self.log.waits(key)),
            outcome=outcome,
            problem=problem or unread,
        )

    # ---- Ready times ---------------------------------------------------------------------------

    def _keys(self, statement: str, wanted: str | None) -> list[int]:
        return [key for (key,) in self._execute(statement, {"wanted": wanted})]


def _outgoing(row: Sequence[Any]) -> Outgoing:
    position, text, attempts, due, error = row
    document = json.loads(text)
    envelope = Envelope(
        document["type"], document["source"], document["id"], text, document.get(TARGET)
    )
    return Outgoing(position, envelope, attempts, as_time(due), error)
