"""The message log of the store in memory: who waits for what, and which message is whose.

Waits are found by index: type, then the paths they look at, then the values they want. A message
that instances compete for stands in its channel's queue until it is given to one of them; who is
given one and gives up its wait, or is parked, gives it back. Methods return the rows that have
something to do by what they did; waking those is the store's.
"""

import json
import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from itertools import chain, takewhile
from typing import get_args

from edda.commands import Mode, Outcome
from edda.events import ENDED, Envelope, match_values
from edda.history import Event
from edda.ports import Expired, Lease, Message, Status, Subscription, Wait

__all__ = ["Log", "Row"]

logger = logging.getLogger("edda.store")

# How an instance may wait: for an event, or in the mode of a subscription.
MODES: tuple[Mode | None, ...] = (None, *get_args(Mode))
IN_INDEX = (None, "broadcast")  # who gets what is for all


@dataclass(slots=True)
class Row:
    """One instance."""

    id: str
    workflow: str
    events: list[Event]
    since: int  # the log's end when it was created: it reads from there (law M2)
    started_at: datetime
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
    kept: int = 0  # how many of them were left when they were looked through
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


# What messages have at some paths, and for whom they are; their positions, in log order.
Facets = dict[tuple[str | None, str | None], list[int]]


class Log:
    """Accepted messages, and the waits they may answer."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.last = 0  # the last position that was given
        self.expired: list[Expired] = []
        self._rows = rows
        self._messages: dict[int, Message] = {}
        self._by_key: dict[tuple[str, str], int] = {}
        # type → paths → values and addressee → positions: how a wait finds its messages.
        self._facets: dict[str, dict[str | None, Facets]] = {}
        # type → paths → values → (instance, wait): how an event finds its waits.
        self._index: dict[str, dict[str | None, dict[str | None, dict[tuple[str, str], Wait]]]] = {}
        # What is competed for and nobody's yet, by type, each a heap; of their positions those
        # that are not in `_queued` have expired.
        self._queues: dict[str, list[int]] = {}
        self._queued: set[int] = set()
        self._given: set[int] = set()
        # Who waits for a queue, by type: heaps of (place, instance, wait), without those that rest
        # because their instance has been given a message, or is parked.
        self._takers: dict[str, list[tuple[int, str, str]]] = {}
        self._places: dict[tuple[str, str], int] = {}
        self._resting: set[tuple[str, str]] = set()
        self._place = 0
        self._read: set[int] = set()  # by anyone
        # Whom old messages are kept for, the oldest first: those that have not ended, by workflow;
        # readers of channels by type and mode, with where they begin; which workflows ever waited.
        self._live: dict[str, dict[str, Row]] = {}
        self._readers: dict[tuple[str, Mode], dict[str, int]] = {}
        self._interests: dict[tuple[str, Mode | None], set[str]] = {}

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
        if envelope.instance_id is not None:
            row = self._rows.get(envelope.instance_id)
            for wait in () if row is None else row.waits.values():
                if wait.fits(envelope, envelope.instance_id):
                    yield self._rows[envelope.instance_id], wait
            return
        for paths, by_values in self._index.get(envelope.type, {}).items():
            values = None if paths is None else match_values(envelope.document, json.loads(paths))
            if paths is None or values is not None:
                for (id, _), wait in by_values.get(values, {}).items():
                    yield self._rows[id], wait

    def accept(self, envelope: Envelope, at: datetime, rows: Iterable[Row]) -> list[Row]:
        """Add a message to the log and to the inboxes of `rows`."""
        self.last += 1
        message = self._messages[self.last] = Message(self.last, at, envelope)
        self._by_key[envelope.source, envelope.id] = self.last
        for paths, facets in self._facets.setdefault(envelope.type, {None: {}}).items():
            _add_facet(message, paths, facets)
        woken = list(rows)
        for row in woken:
            row.inbox[self.last] = message
        if envelope.instance_id is None and envelope.type in self._queues:
            self._stand(envelope.type, self.last)
            woken += self._compete(envelope.type)
        return woken

    # ---- Waits ---------------------------------------------------------------------------------

    def add(self, row: Row) -> None:
        """An instance has begun."""
        self._live.setdefault(row.workflow, {})[row.id] = row

    def end(self, row: Row) -> None:
        """An instance has ended, and waits for nothing any more."""
        row.taken.clear()
        del self._live[row.workflow][row.id]

    def take(self, row: Row, positions: Iterable[int]) -> None:
        """These answered a wait of the instance, or were refused by one."""
        if len(row.taken) > 2 * row.kept:  # what it took of messages that are gone
            row.taken = {position for position in row.taken if position in self._messages}
            row.kept = len(row.taken)
        for position in positions:
            row.taken.add(position)
            if position in row.given:
                row.given.discard(position)
                self._given.discard(position)
            row.inbox.pop(position, None)
            self._read.add(position)

    def subscribe(self, row: Row, channels: Iterable[Subscription], renewed: Sequence[str]) -> None:
        """Make these the channels that an instance reads; those `renewed` from here on."""
        known, row.subscriptions = row.subscriptions, {}
        wanted = {one.type: one.mode for one in channels}
        for type, (mode, _) in known.items():
            if wanted.get(type) != mode or type in renewed:
                del self._readers[type, mode][row.id]
        for type, mode in wanted.items():
            if type in known and known[type][0] == mode and type not in renewed:
                row.subscriptions[type] = known[type]
                continue
            row.subscriptions[type] = (mode, self.last)
            self._readers.setdefault((type, mode), {})[row.id] = self.last
            if mode == "competing":
                self._begin_queue(type)

    def register(self, row: Row, waits: Iterable[Wait]) -> list[Row]:
        """Make these the open waits of an instance, and look back in the log (law M5)."""
        wanted = {wait.id: wait for wait in waits}
        if not (wanted or row.waits or row.inbox):
            return []
        competed = {wait.type for wait in row.waits.values() if wait.mode == "competing"}
        for id, wait in list(row.waits.items()):
            if wanted.get(id) != wait:
                self._forget(row, row.waits.pop(id))
        # What fits none of the waits any more is found again by a wait that fits and may see it.
        for position, message in list(row.inbox.items()):
            those = wanted if position in row.given else row.waits
            if not any(wait.fits(message.envelope, row.id) for wait in those.values()):
                self._put_back(row, position)
        for id, wait in wanted.items():
            if id not in row.waits:
                self._remember(row, wait)
        competed |= {wait.type for wait in wanted.values() if wait.mode == "competing"}
        self.go_on(row)
        return [woken for type in competed for woken in self._compete(type)]

    def give_back(self, row: Row) -> list[Row]:
        """A parked instance must not keep what others could take."""
        types = {row.inbox[position].envelope.type for position in row.given}
        for position in list(row.given):
            self._put_back(row, position)
        return [woken for type in types for woken in self._compete(type)]

    def _remember(self, row: Row, wait: Wait) -> None:
        row.waits[wait.id] = wait
        self._interests.setdefault((wait.type, wait.mode), set()).add(row.workflow)
        if wait.mode in IN_INDEX:
            by_paths = self._index.setdefault(wait.type, {})
            by_paths.setdefault(wait.paths, {}).setdefault(wait.values, {})[row.id, wait.id] = wait
        if wait.mode == "competing":
            self._begin_queue(wait.type)
            self._place += 1
            self._places[row.id, wait.id] = self._place
            heappush(self._takers.setdefault(wait.type, []), (self._place, row.id, wait.id))
        facets = self._shape(wait.type, wait.paths)
        # What is for it alone, from its start.
        doors: list[tuple[str | None, int]] = [(row.id, row.since)]
        if wait.mode in IN_INDEX:
            doors.append((None, self._since(row, wait)))
        for target, since in doors:
            found = facets.get((wait.values, target), [])
            for position in found[bisect_right(found, since) :]:
                if position not in row.taken:
                    row.inbox[position] = self._messages[position]

    def _shape(self, type: str, paths: str | None) -> Facets:
        """What the messages of a type have at these paths, and where each is."""
        shapes = self._facets.setdefault(type, {None: {}})
        if paths not in shapes:  # the first wait of this shape: the log so far is indexed, once
            shapes[paths] = {}
            for position in sorted(chain(*shapes[None].values())):
                _add_facet(self._messages[position], paths, shapes[paths])
        return shapes[paths]

    def _begin_queue(self, type: str) -> None:
        if type not in self._queues:
            self._queues[type] = []
            for position in self._shape(type, None).get((None, None), ()):
                self._stand(type, position)

    def _forget(self, row: Row, wait: Wait) -> None:
        self._places.pop((row.id, wait.id), None)
        self._resting.discard((row.id, wait.id))
        if wait.mode in IN_INDEX:
            by_values = self._index[wait.type][wait.paths]
            del by_values[wait.values][row.id, wait.id]
            if not by_values[wait.values]:
                del by_values[wait.values]

    def _since(self, row: Row, wait: Wait) -> int:
        """After which position it reads what is for all."""
        if wait.mode is None:
            return row.since
        _, since = row.subscriptions.get(wait.type, (wait.mode, self.last))
        return since

    # ---- Competing -----------------------------------------------------------------------------

    def _compete(self, type: str) -> list[Row]:
        """Give what is in a queue to those who wait, first come, first served."""
        queue = self._queues.get(type, [])
        given = []
        while queue:
            if queue[0] not in self._queued:
                heappop(queue)
                continue
            row = self._next_free(type)
            if row is None:
                break
            position = heappop(queue)
            self._queued.discard(position)
            self._given.add(position)
            row.inbox[position] = self._messages[position]
            row.given.add(position)
            given.append(row)
        return given

    def _stand(self, type: str, position: int) -> None:
        self._queued.add(position)
        heappush(self._queues[type], position)

    def go_on(self, row: Row) -> None:
        """An instance may have become free to be given something."""
        for wait in row.waits.values() if self._resting else ():
            taker = (row.id, wait.id)
            if taker in self._resting and not self._is_busy(row, wait.type):
                self._resting.discard(taker)
                heappush(self._takers[wait.type], (self._places[taker], *taker))

    def _next_free(self, type: str) -> Row | None:
        takers = self._takers.get(type, [])
        while takers:
            place, id, wait_id = takers[0]
            if self._places.get((id, wait_id)) == place:
                if not self._is_busy(self._rows[id], type):
                    return self._rows[id]
                self._resting.add((id, wait_id))
            heappop(takers)
        return None

    @staticmethod
    def _is_busy(row: Row, type: str) -> bool:
        return row.is_parked or any(
            row.inbox[position].envelope.type == type for position in row.given
        )

    def _put_back(self, row: Row, position: int) -> None:
        message = row.inbox.pop(position)
        if position in row.given:
            row.given.discard(position)
            self._given.discard(position)
            self._stand(message.envelope.type, position)

    # ---- Expiry --------------------------------------------------------------------------------

    def expire(self, before: datetime) -> int:
        """Drop what came before an instant and no live instance could still take (law M4)."""
        old = takewhile(lambda one: one.at < before, self._messages.values())
        gone = [one.position for one in old if not self._is_wanted(one)]
        for position in gone:
            message = self._messages.pop(position)
            type, source, id = message.envelope.type, message.envelope.source, message.envelope.id
            del self._by_key[source, id]
            if position not in self._read and not type.startswith(ENDED):
                self.expired.append(Expired(position, message.at, type, source, id))
            self._read.discard(position)
            self._queued.discard(position)
        for shapes in self._facets.values() if gone else ():
            for facets in shapes.values():
                for facet, found in list(facets.items()):
                    facets[facet] = [one for one in found if one in self._messages]
                    if not facets[facet]:
                        del facets[facet]
        return len(gone)

    def _is_wanted(self, message: Message) -> bool:
        """Whether somebody who lives could still take it; the price is those who took it."""
        envelope, position = message.envelope, message.position
        type, target = envelope.type, envelope.instance_id
        if target is not None:
            row = self._rows.get(target)
            return (
                row is not None
                and not row.status.is_final
                and row.since < position
                and position not in row.taken
                and (
                    type in row.subscriptions
                    or any(row.workflow in self._interests.get((type, mode), ()) for mode in MODES)
                )
            )
        return (
            position in self._given
            or any(position not in row.taken for row in self._may_wait(type, None, position))
            or any(
                since < position and position not in self._rows[id].taken
                for id, since in self._readers.get((type, "broadcast"), {}).items()
            )
            or (
                position in self._queued
                and (
                    bool(self._readers.get((type, "competing")))
                    or any(True for _ in self._may_wait(type, "competing", position))
                )
            )
        )

    def _may_wait(self, type: str, mode: Mode | None, position: int) -> Iterator[Row]:
        """Those who were there before it and whose workflow has waited for such, oldest first."""
        for workflow in self._interests.get((type, mode), ()):
            live = self._live.get(workflow, {}).values()
            yield from takewhile(lambda row: row.since < position, live)


def _add_facet(message: Message, paths: str | None, facets: Facets) -> None:
    envelope, values = message.envelope, None
    if paths is not None:
        values = match_values(envelope.document, json.loads(paths))
        if values is None:
            return  # something is missing: it fits nobody who looks there
    facets.setdefault((values, envelope.instance_id), []).append(message.position)
