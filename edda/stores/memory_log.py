"""The message log of the store in memory: who waits for what, and which message is whose.

Waits are found by index: type, then the paths they look at, then the values they want. A message
that instances compete for stands in its channel's queue until it is given to one of them; who is
given one and gives up its wait, or is parked, gives it back. Methods return the rows that have
something to do by what they did; waking those is the store's.
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from math import inf

from edda.commands import Mode, Outcome
from edda.events import Envelope, match_values
from edda.history import Event
from edda.ports import Expired, Lease, Message, Status, Subscription, Wait

__all__ = ["Log", "Row"]

logger = logging.getLogger("edda.store")


@dataclass(slots=True)
class Row:
    """One instance."""

    id: str
    workflow: str
    events: list[Event]
    since: int  # the log's end when it was created: it reads from there (law M2)
    updated_at: datetime
    status: Status = Status.PENDING
    lease: Lease | None = None
    token: int = 0
    ready: datetime | None = None  # when it can be claimed next; leased, when the lease lapses
    ticket: int = 0  # the number of its valid entry in the heap
    due: datetime | None = None
    waits: dict[str, Wait] = field(default_factory=dict)
    subscriptions: dict[str, tuple[Mode, int]] = field(default_factory=dict)  # and since when
    inbox: dict[int, Message] = field(default_factory=dict)
    given: set[int] = field(default_factory=set)  # those of the inbox that others compete for
    taken: set[int] = field(default_factory=set)
    cancel_requested: bool = False  # and history does not have it yet
    cancel_recorded: bool = False
    outcome: Outcome | None = None
    problem: str | None = None

    @property
    def is_parked(self) -> bool:
        """Whether nothing wakes it."""
        return self.status.is_final or self.status is Status.STUCK

    @property
    def messages(self) -> tuple[Message, ...]:
        """Its inbox in log order."""
        return tuple(message for _, message in sorted(self.inbox.items()))


class Log:
    """Accepted messages, and the waits they may answer."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.end = 0  # the last position that was given
        self.expired: list[Expired] = []
        self._rows = rows
        self._messages: dict[int, Message] = {}
        self._by_key: dict[tuple[str, str], int] = {}
        self._by_type: dict[str, dict[int, None]] = {}
        # type → paths → values → (instance, wait): how an event finds its waits.
        self._index: dict[str, dict[str | None, dict[str | None, dict[tuple[str, str], Wait]]]] = {}
        self._queues: dict[str, list[int]] = {}  # what is competed for and nobody's yet
        self._read: set[int] = set()  # by anyone
        self._interests: dict[str, set[str]] = {}  # workflow → types it ever waited for

    def __len__(self) -> int:
        return len(self._messages)

    # ---- Accepting -----------------------------------------------------------------------------

    def is_known(self, envelope: Envelope) -> bool:
        """Whether source and id are there already; warns when the content is another (law M1)."""
        position = self._by_key.get((envelope.source, envelope.id))
        if position is None:
            return False
        if self._messages[position].envelope.text != envelope.text:
            logger.warning(
                "The event %r of %r came again with other content; the first one stands.",
                envelope.id,
                envelope.source,
            )
        return True

    def fitting(self, envelope: Envelope) -> Iterator[tuple[Row, Wait]]:
        """The open waits that an event fits, except those it would be competed for by."""
        for paths, by_values in self._index.get(envelope.type, {}).items():
            values = None if paths is None else match_values(envelope.document, json.loads(paths))
            if paths is None or values is not None:
                for (id, _), wait in by_values.get(values, {}).items():
                    is_given = wait.mode == "competing" and envelope.instance_id is None
                    if not is_given and wait.fits(envelope, id):
                        yield self._rows[id], wait

    def accept(self, envelope: Envelope, at: datetime, rows: Iterable[Row]) -> list[Row]:
        """Add a message to the log and to the inboxes of `rows`."""
        self.end += 1
        message = self._messages[self.end] = Message(self.end, at, envelope)
        self._by_key[envelope.source, envelope.id] = self.end
        self._by_type.setdefault(envelope.type, {})[self.end] = None
        woken = list(rows)
        for row in woken:
            row.inbox[self.end] = message
        if envelope.instance_id is None and envelope.type in self._queues:
            heappush(self._queues[envelope.type], self.end)
            woken += self._compete(envelope.type)
        return woken

    # ---- Waits ---------------------------------------------------------------------------------

    def take(self, row: Row, positions: Iterable[int]) -> None:
        """These answered a wait of the instance, or were refused by one."""
        for position in positions:
            row.taken.add(position)
            row.given.discard(position)
            row.inbox.pop(position, None)
            self._read.add(position)

    def subscribe(self, row: Row, subscriptions: Iterable[Subscription]) -> None:
        """Make these the channels that an instance reads."""
        known = row.subscriptions
        row.subscriptions = {
            one.type: (
                known[one.type]
                if one.type in known and known[one.type][0] == one.mode
                else (one.mode, self.end)
            )
            for one in subscriptions
        }

    def register(self, row: Row, waits: Iterable[Wait]) -> list[Row]:
        """Make these the open waits of an instance, and look back in the log (law M5)."""
        wanted = {wait.id: wait for wait in waits}
        competed = {wait.type for wait in row.waits.values() if wait.mode == "competing"}
        for id in row.waits.keys() - wanted.keys():
            self._forget(row, row.waits.pop(id))
        # What fits none of the waits any more is found again when one is registered that it fits.
        for position in [
            position
            for position, message in row.inbox.items()
            if not any(wait.fits(message.envelope, row.id) for wait in wanted.values())
        ]:
            self._give_back(row, position)
        for id, wait in wanted.items():
            if id not in row.waits:
                self._remember(row, wait)
        competed |= {wait.type for wait in wanted.values() if wait.mode == "competing"}
        return [woken for type in competed for woken in self._compete(type)]

    def give_back(self, row: Row) -> list[Row]:
        """A parked instance must not keep what others could take."""
        types = {self._messages[position].envelope.type for position in row.given}
        for position in list(row.given):
            self._give_back(row, position)
        return [woken for type in types for woken in self._compete(type)]

    def _remember(self, row: Row, wait: Wait) -> None:
        row.waits[wait.id] = wait
        self._interests.setdefault(row.workflow, set()).add(wait.type)
        by_paths = self._index.setdefault(wait.type, {})
        by_paths.setdefault(wait.paths, {}).setdefault(wait.values, {})[row.id, wait.id] = wait
        if wait.mode == "competing" and wait.type not in self._queues:
            self._queues[wait.type] = [
                position
                for position in self._by_type.get(wait.type, ())
                if self._messages[position].envelope.instance_id is None
            ]
        for position in self._by_type.get(wait.type, ()):
            message = self._messages[position]
            if (
                position > self._since(row, wait)
                and position not in row.taken
                and wait.fits(message.envelope, row.id)
                and (wait.mode != "competing" or message.envelope.instance_id is not None)
            ):
                row.inbox[position] = message

    def _forget(self, row: Row, wait: Wait) -> None:
        by_values = self._index[wait.type][wait.paths]
        del by_values[wait.values][row.id, wait.id]
        if not by_values[wait.values]:
            del by_values[wait.values]

    def _since(self, row: Row, wait: Wait) -> int:
        if wait.mode == "competing":
            return 0  # a queue is there before those who take from it
        return row.since if wait.mode is None else row.subscriptions[wait.type][1]

    # ---- Competing -----------------------------------------------------------------------------

    def _compete(self, type: str) -> list[Row]:
        """Give what is in a queue to those who wait, first come, first served."""
        queue = self._queues.get(type, [])
        given = []
        while queue and (row := self._next_free(type)) is not None:
            position = heappop(queue)
            row.inbox[position] = self._messages[position]
            row.given.add(position)
            given.append(row)
        return given

    def _next_free(self, type: str) -> Row | None:
        for (id, _), wait in self._index.get(type, {}).get(None, {}).get(None, {}).items():
            row = self._rows[id]
            if wait.mode != "competing" or row.is_parked:
                continue
            if not any(self._messages[position].envelope.type == type for position in row.given):
                return row
        return None

    def _give_back(self, row: Row, position: int) -> None:
        message = row.inbox.pop(position)
        if position in row.given:
            row.given.discard(position)
            heappush(self._queues[message.envelope.type], position)

    # ---- Expiry --------------------------------------------------------------------------------

    def expire(self, before: datetime) -> int:
        """Drop what came before an instant and no live instance could still take (law M4)."""
        old = [position for position, one in self._messages.items() if one.at < before]
        gone = [position for position in old if not self._is_wanted(position)]
        for position in gone:
            message = self._messages.pop(position)
            envelope = message.envelope
            del self._by_key[envelope.source, envelope.id]
            del self._by_type[envelope.type][position]
            if position not in self._read:
                self.expired.append(
                    Expired(position, message.at, envelope.type, envelope.source, envelope.id)
                )
            self._read.discard(position)
        for type, queue in self._queues.items():
            self._queues[type] = sorted(set(queue).difference(gone))
        return len(gone)

    def _is_wanted(self, position: int) -> bool:
        envelope = self._messages[position].envelope
        if position in self._queues.get(envelope.type, ()):
            return any(
                not row.status.is_final and envelope.type in row.subscriptions
                for row in self._rows.values()
            )
        return any(
            not row.status.is_final
            and position not in row.taken
            and envelope.instance_id in (None, row.id)
            and (position in row.given or position > self._reads_from(row, envelope))
            for row in self._rows.values()
        )

    def _reads_from(self, row: Row, envelope: Envelope) -> float:
        """The position after which the instance may take such a message; infinite for none."""
        if envelope.type in row.subscriptions:
            mode, since = row.subscriptions[envelope.type]
            if mode == "competing":
                return 0 if envelope.instance_id == row.id else inf
            return since
        return row.since if envelope.type in self._interests.get(row.workflow, ()) else inf
