"""The doors of the engine: everything nondeterministic enters through these protocols.

`Store` keeps instances and messages, `Clock` tells the time and draws entropy, `Activities`
calls the functions behind steps, `Sender` posts events to brokers. Production plugs in real
ones, the testkit simulated ones; nothing else in the engine reaches outside.

The values that cross the store's door are here too. A turn makes one `Commit`; a store applies
it in one transaction or not at all (law T1).
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from edda.activity import Activity
from edda.commands import Failure, Mode, Outcome, Result
from edda.events import Envelope, match_values
from edda.history import Event, Started
from edda.value import value

__all__ = [
    "Activities",
    "Call",
    "Changed",
    "Claimed",
    "Clock",
    "Commit",
    "Committed",
    "Created",
    "Delivered",
    "Expired",
    "Instance",
    "Judge",
    "Lease",
    "Message",
    "NewInstance",
    "Outgoing",
    "Sender",
    "Status",
    "Store",
    "Subscription",
    "Transaction",
    "Wait",
]


class Status(StrEnum):
    """Where an instance stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING_FOR_EVENT = "waiting_for_event"
    WAITING_FOR_TIMER = "waiting_for_timer"
    WAITING_FOR_MESSAGE = "waiting_for_message"
    WAITING_FOR_RETRY = "waiting_for_retry"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STUCK = "stuck"

    @property
    def is_final(self) -> bool:
        """Whether the instance has ended; a stuck one has not."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


@value
class Lease:
    """One worker's right to commit for one instance until `until`.

    `token` grows with every claim; a commit with an older one is refused (law T3).
    """

    instance_id: str
    worker: str
    token: int
    until: datetime


@value
class Wait:
    """An open wait as the store keeps it, to find the instances an event concerns.

    `paths` are the paths of its match, sorted, as a JSON list; `values` the values they must
    have (`events.match_values`); both are None without a match. `mode` is that of the
    subscription it reads, None for a wait for an event.
    """

    id: str
    type: str
    paths: str | None = None
    values: str | None = None
    model: str | None = None
    on_invalid: str = "reject"
    mode: Mode | None = None

    def fits(self, envelope: Envelope, instance_id: str) -> bool:
        """Whether the event could answer this wait of that instance (law M3)."""
        if self.type != envelope.type or envelope.instance_id not in (None, instance_id):
            return False
        if self.mode == "direct" and envelope.instance_id is None:
            return False
        if self.paths is None:
            return True
        return match_values(envelope.document, json.loads(self.paths)) == self.values


@value
class Subscription:
    """A channel that an instance reads: the type of its messages, and who gets each."""

    type: str
    mode: Mode


@value
class Message:
    """An accepted event: its place in the log, and when the store accepted it."""

    position: int
    at: datetime
    envelope: Envelope


@value
class NewInstance:
    """An instance to create; with `worker`, leased to it at once for `lease_seconds`."""

    id: str
    workflow: str
    started: Started
    worker: str | None = None
    lease_seconds: float = 30.0


@value
class Claimed:
    """An instance leased to a worker, with all that a turn needs.

    `messages` are those in its inbox: they fitted an open wait and are not taken yet, in log
    order. `cancel_requested` means somebody asked and history does not have it yet.
    """

    lease: Lease
    workflow: str
    history: tuple[Event, ...]
    messages: tuple[Message, ...] = ()
    cancel_requested: bool = False


@value
class Created:
    """What `Store.create` did. `existing` is the stored start when the id was there already."""

    claimed: Claimed | None
    existing: tuple[str, Started] | None = None


@value
class Commit:
    """Everything one step changes, applied in one transaction (law T1).

    `waits` is the full set of open waits from now on; those not registered yet are checked
    against the log in this same transaction, so no wake-up is lost (law M5). `taken` are log
    positions that answered a wait or were refused by one. `due` is the next instant something
    happens by itself, None for never. `release` gives the lease back, unless the inbox holds
    something for the instance.

    `subscriptions` is the full set too: a channel is read from the commit that first has it (what
    is addressed to the instance: from its start); a competing one is a queue that is there before,
    and what it gives is the instance's own while it waits there. `renewed` are types of those that
    were left and are read anew: what came before this commit is forgotten. `outbox` are events
    to be posted, `messages` events to be accepted, `cancels` instances to be cancelled. With
    `restart` the history is replaced by this start; what was taken, and the subscriptions, stay.
    """

    lease: Lease
    expected_length: int
    events: tuple[Event, ...]
    status: Status
    waits: tuple[Wait, ...]
    taken: tuple[int, ...]
    due: datetime | None
    release: bool
    problem: str | None = None
    subscriptions: tuple[Subscription, ...] = ()
    outbox: tuple[Envelope, ...] = ()
    messages: tuple[Envelope, ...] = ()
    cancels: tuple[str, ...] = ()
    restart: Started | None = None
    renewed: tuple[str, ...] = ()


@value
class Committed:
    """What a turn learns from its commit: its whole inbox, and whether it may go on.

    `is_released` is False when the lease was kept because `messages` or `cancel_requested`
    give the turn more to do. `woken` are other instances that have something to do by it.
    """

    messages: tuple[Message, ...] = ()
    cancel_requested: bool = False
    is_released: bool = False
    woken: tuple[str, ...] = ()


@value
class Delivered:
    """What became of one event.

    `position` is None when it was not stored: a duplicate (law M1), or refused by every wait it
    fitted (`refusals`, law M6). `woken` are the instances whose inbox it reached; `started`
    those that it starts by its type, which is the app's doing and never the store's.
    """

    position: int | None
    woken: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    is_duplicate: bool = False
    started: tuple[str, ...] = ()


@value
class Instance:
    """One instance as `find` and `status` see it. `due` is when it next does something."""

    id: str
    workflow: str
    status: Status
    started_at: datetime
    updated_at: datetime
    due: datetime | None
    waits: tuple[Wait, ...]
    outcome: Outcome | None
    problem: str | None


@value
class Outgoing:
    """An event of the outbox: committed, and not posted yet. `error` is why not, the last time."""

    position: int
    envelope: Envelope
    attempts: int = 0
    due: datetime | None = None
    error: str | None = None


@value
class Expired:
    """What is known of an event that no instance took before it expired."""

    position: int
    at: datetime
    type: str
    source: str
    id: str


@value
class Changed:
    """What other processes did: woke these instances, ended those, put something in the outbox."""

    woken: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    has_sent: bool = False


# Whether a wait with a model refuses an event: why, or None. Called inside the store's transaction
# or before it, and again when that must be repeated.
Judge = Callable[[Wait, Envelope], str | None]


class Transaction(Protocol):
    """An open transaction, for an activity that writes to the store's own database.

    `connection` is the store's own (aiosqlite's, asyncpg's, a dict in memory).
    """

    @property
    def connection(self) -> Any:
        """What the activity writes through; its own `commit` must not be called."""

    async def commit(self, commit: Commit) -> Committed:
        """Apply a step together with what was written, and end the transaction."""

    async def rollback(self) -> None:
        """Undo what was written, and end the transaction."""


class Store(Protocol):
    """Keeps instances, histories and messages. Each method is one transaction.

    The store has the clock that counts for acceptance times and leases. Methods raise
    `StoreUnavailableError` when the database does not answer, with nothing half done.
    `edda_testkit.contract.check_store` says in code what is expected of each.
    """

    async def open(self) -> None:
        """Connect and make the schema. Raises `StoreError` when the database cannot be used."""

    async def close(self) -> None:
        """Disconnect; nothing that was committed is lost."""

    async def create(self, new: NewInstance) -> Created:
        """Store a new instance, unless its id is there already."""

    async def claim(
        self, worker: str, names: Sequence[str], *, limit: int, lease_seconds: float
    ) -> list[Claimed]:
        """Lease up to `limit` instances of these workflows that have something to do now.

        That is: not finished, not stuck, due or woken or with a lapsed lease, and not leased.
        Longest ready first.
        """

    async def commit(self, commit: Commit) -> Committed:
        """Apply a step. Raises `LeaseLost`, with no effect, when the lease is not held.

        A lease that has lapsed is held until somebody else claims the instance. A stuck one
        keeps its waits and due time, whatever the commit says.
        """

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction of one's own; left without `commit`, it is rolled back.

        Nobody else writes meanwhile, where the database has one writer at a time. Until it has
        ended by `commit` or `rollback`, its own body must not call the store: `StoreError`, where
        that would wait for itself.
        """

    async def renew(self, leases: Sequence[Lease], lease_seconds: float) -> list[Lease]:
        """Prolong leases; those that are not held any more are missing from the answer."""

    async def release(self, worker: str) -> None:
        """Give back every lease of a worker, for a clean shutdown."""

    async def workers(self) -> list[str]:
        """The workers that hold leases, lapsed ones too."""

    async def deliver(
        self, envelopes: Sequence[Envelope], judge: Judge | None = None
    ) -> list[Delivered]:
        """Accept events, all or none, and wake the instances whose waits they fit.

        An event that some waits fit and all of those refuse (by `judge`; a wait with
        `on_invalid="raise"` refuses nothing) is not stored, and then none is.
        """

    async def expire(self, before: datetime) -> int:
        """Drop events accepted before an instant, except those a live instance could still take.

        That is: it is not finished, it was there (or had subscribed) before the event came, it has
        not taken it, and its workflow has waited for this type before. What stands in a queue is
        kept for whoever competes, since whenever. Returns how many went.
        """

    async def expired(self, *, limit: int = 100, after: int = 0) -> list[Expired]:
        """Events that expired unread, by position, those after a position."""

    async def take_outgoing(self, *, limit: int, lease_seconds: float) -> list[Outgoing]:
        """Take up to `limit` events of the outbox that are due, the longest due first.

        They are due again when the lease ends.
        """

    async def settle_outgoing(
        self, position: int, *, error: str | None = None, retry_at: datetime | None = None
    ) -> None:
        """An event of the outbox was posted; or was not, with `error`, and is due at `retry_at`.

        Without a time it is due at once.
        """

    async def outgoing(self, *, limit: int = 100, after: int = 0) -> list[Outgoing]:
        """The events of the outbox, by position, those after a position."""

    async def outgoing_due(self) -> datetime | None:
        """When the next event of the outbox is due."""

    async def request_cancel(self, instance_id: str) -> bool:
        """Ask for cancellation and wake the instance; False when it has ended or is unknown."""

    async def retry_stuck(self, instance_id: str | None = None) -> int:
        """Make stuck instances ready again (one, or all); how many."""

    async def next_due(self, names: Sequence[str]) -> datetime | None:
        """When the next instance of these workflows can be claimed: due, or its lease lapses."""

    async def instance(self, instance_id: str) -> Instance | None:
        """One instance, or None."""

    async def history(self, instance_id: str) -> list[Event]:
        """The history of one instance; empty when there is none."""

    async def find(
        self,
        *,
        status: Status | None = None,
        workflow: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Instance]:
        """Instances by id, at most `limit`, those after the id `after`."""

    async def changed(self) -> Changed | None:
        """Return what another process changed, None for anything; may wait for ever."""


class Clock(Protocol):
    """Time and entropy."""

    def now(self) -> datetime:
        """The present: an aware datetime in UTC."""

    def entropy(self, bits: int) -> int:
        """A random integer of so many bits, for ids and seeds."""


@value
class Call:
    """One attempt of one activity to make. `arguments` is the JSON text of the ask.

    `key` names the step among all steps of all instances. A transactional one gets the
    `connection` of its transaction. `outbox` fills with the events that are to be sent if the
    attempt's answer is committed.
    """

    activity: Activity[..., object]
    instance_id: str
    workflow: str
    id: str
    arguments: str
    attempt: int
    key: str
    connection: Any = None
    outbox: list[Envelope] = field(default_factory=list)


class Activities(Protocol):
    """How a step's function is called."""

    async def attempt(self, call: Call) -> Result | Failure:
        """Make one attempt. Never raises, except for the cancellation of its own task."""


class Sender(Protocol):
    """Posts events to brokers."""

    async def post(self, envelope: Envelope, url: str) -> None:
        """Post one event. Raises `BrokerError` when it is not taken."""
