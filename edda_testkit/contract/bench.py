"""What the checks of the Store's contract are written with: a clock that is set, and short verbs.

A check is an async function of a `Bench` whose docstring is the law it holds. Nothing here looks
behind the Store protocol, and nothing sleeps.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from edda.commands import ActivityAsk, Mode, Outcome, Recurrence
from edda.errors import LeaseLost
from edda.events import Envelope, match_values
from edda.history import Asked, Event, Finished, Started
from edda.ports import (
    Claimed,
    Commit,
    Committed,
    Created,
    Delivered,
    Instance,
    Judge,
    Lease,
    NewInstance,
    Status,
    Store,
    Subscription,
    Transaction,
    Wait,
)

__all__ = [
    "Bench",
    "Check",
    "ContractClock",
    "Factory",
    "channel",
    "law",
    "positions",
    "receive",
    "refused",
    "same",
    "started",
    "wait",
]

LEASE_SECONDS = 30.0


class ContractClock:
    """A `ports.Clock` that stands still until it is told to move."""

    def __init__(self, now: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now = now
        self._random = Random(0)

    def now(self) -> datetime:
        """The instant it was set to."""
        return self._now

    def entropy(self, bits: int) -> int:
        """The same numbers every time."""
        return self._random.getrandbits(bits)

    def advance(self, seconds: float = 0.0, *, microseconds: int = 0) -> datetime:
        """Move on; the new time."""
        self._now += timedelta(seconds=seconds, microseconds=microseconds)
        return self._now


Factory = Callable[[ContractClock], Store | AbstractAsyncContextManager[Store]]


@dataclass(frozen=True, slots=True)
class Check:
    """One law, checked on one fresh store. Call it with a factory; it raises when it is broken."""

    name: str
    law: str
    text: str
    body: Callable[["Bench"], Awaitable[None]]
    needs_disk: bool = False
    needs_patience: bool = False

    def __call__(self, factory: Factory) -> None:
        """Check it on a store of this factory, on an event loop of its own."""
        asyncio.run(self.run(factory))

    async def run(self, factory: Factory) -> None:
        """Check it on a store of this factory."""
        clock = ContractClock()
        async with AsyncExitStack() as stack:
            made = factory(clock)
            store = (
                await stack.enter_async_context(made)
                if isinstance(made, AbstractAsyncContextManager)
                else made
            )
            await store.open()
            stack.push_async_callback(store.close)
            await self.body(Bench(store, clock))


def law(
    name: str, *, needs_disk: bool = False, needs_patience: bool = False
) -> Callable[[Callable[["Bench"], Awaitable[None]]], Check]:
    """Make a check of a function, under the law of docs/guarantees.md that it belongs to."""

    def as_check(body: Callable[["Bench"], Awaitable[None]]) -> Check:
        text = " ".join((body.__doc__ or "").split())
        assert text, "a check says what it holds"
        return Check(body.__name__, name, text, body, needs_disk, needs_patience)

    return as_check


class Bench:
    """A store and its clock, with verbs for what checks do most."""

    def __init__(self, store: Store, clock: ContractClock) -> None:
        self.store = store
        self.clock = clock
        self._lengths: dict[str, int] = {}
        self._sent = 0

    # ---- Instances -----------------------------------------------------------------------------

    async def create(
        self, id: str = "a", *, workflow: str = "w", worker: str | None = None
    ) -> Created:
        """Create an instance; leased to `worker` when it is given."""
        self._lengths.setdefault(id, 1)
        new = NewInstance(id, workflow, started(self.clock.now()), worker, LEASE_SECONDS)
        return await self.store.create(new)

    async def begin(self, id: str = "a", *, workflow: str = "w", worker: str = "me") -> Claimed:
        """Create an instance that is leased at once."""
        claimed = (await self.create(id, workflow=workflow, worker=worker)).claimed
        assert claimed is not None, "create() with a worker must lease the instance"
        return claimed

    async def suspend(
        self,
        id: str = "a",
        *waits: Wait,
        due: datetime | None = None,
        workflow: str = "w",
        subscriptions: Sequence[Subscription] = (),
    ) -> None:
        """Create an instance that waits for these and is leased to nobody."""
        claimed = await self.begin(id, workflow=workflow)
        committed = await self.step(claimed, *waits, due=due, subscriptions=subscriptions)
        same(committed.is_released, True, "is_released")

    async def compete(self, *ids: str, type: str = "job") -> None:
        """Create instances that wait for a message of a queue, and are leased to nobody."""
        for id in ids:
            await self.suspend(id, receive(type=type), subscriptions=[channel(type)])

    async def step(
        self,
        claimed: Claimed,
        *waits: Wait,
        events: Sequence[Event] = (),
        status: Status = Status.RUNNING,
        taken: Iterable[int] = (),
        due: datetime | None = None,
        release: bool = True,
        problem: str | None = None,
        length: int | None = None,
        subscriptions: Sequence[Subscription] = (),
        outbox: Sequence[Envelope] = (),
        messages: Sequence[Envelope] = (),
        cancels: Sequence[str] = (),
        restart: Started | None = None,
        renewed: Sequence[str] = (),
        through: Transaction | None = None,
    ) -> Committed:
        """Commit a step of an instance, by default one that releases it."""
        id = claimed.lease.instance_id
        stored = self._lengths.get(id, 1)
        committed = await (through or self.store).commit(
            Commit(
                lease=claimed.lease,
                expected_length=stored if length is None else length,
                events=tuple(events),
                status=status,
                waits=waits,
                taken=tuple(taken),
                due=due,
                release=release,
                problem=problem,
                subscriptions=tuple(subscriptions),
                outbox=tuple(outbox),
                messages=tuple(messages),
                cancels=tuple(cancels),
                restart=restart,
                renewed=tuple(renewed),
            )
        )
        self._lengths[id] = stored + len(events) if restart is None else 1
        return committed

    async def recur(self, claimed: Claimed, **options: Any) -> Committed:
        """Commit the end of a history that goes on as a fresh one, as a turn does."""
        now = self.clock.now()
        finished = Finished(self._lengths[claimed.lease.instance_id], now, Recurrence("{}"))
        return await self.step(
            claimed,
            events=[finished],
            status=Status.PENDING,
            due=now,
            restart=started(now, '{"again":true}'),
            **options,
        )

    async def finish(self, claimed: Claimed, status: Status, outcome: Outcome) -> Committed:
        """Commit the end of an instance."""
        seq = self._lengths[claimed.lease.instance_id]
        finished = Finished(seq, self.clock.now(), outcome)
        return await self.step(claimed, events=[finished], status=status)

    async def claim(
        self,
        worker: str = "me",
        *names: str,
        limit: int = 100,
        lease_seconds: float = LEASE_SECONDS,
    ) -> list[Claimed]:
        """Claim what is ready, of the workflow `w` unless others are named."""
        return await self.store.claim(
            worker, names or ("w",), limit=limit, lease_seconds=lease_seconds
        )

    async def claim_one(self, worker: str = "me") -> Claimed:
        """Claim what is ready, which must be one instance."""
        claimed = await self.claim(worker)
        same([one.lease.instance_id for one in claimed][1:], [], "claimed besides the first")
        assert claimed, "nothing was ready to be claimed"
        return claimed[0]

    async def ready(self, *names: str) -> list[str]:
        """The ids of what can be claimed now, in order; each is claimed."""
        return [one.lease.instance_id for one in await self.claim("me", *names)]

    async def look(self, id: str = "a") -> Instance:
        """An instance that must be there."""
        found = await self.store.instance(id)
        assert found is not None, f"there is no instance {id!r}"
        return found

    def asked(self, seq: int, name: str = "step") -> Asked:
        """An event of a history."""
        return Asked(seq, self.clock.now(), ActivityAsk(f"{name}:{seq}", name, "{}", "flow.py:1"))

    # ---- Messages ------------------------------------------------------------------------------

    async def send(
        self,
        type: str = "paid",
        data: object = None,
        *,
        id: str | None = None,
        source: str = "shop",
        to: str | None = None,
        judge: Judge | None = None,
    ) -> Delivered:
        """Deliver one event."""
        event = self.event(type, data, id=id, source=source, to=to)
        return (await self.store.deliver([event], judge))[0]

    def event(
        self,
        type: str = "paid",
        data: object = None,
        *,
        id: str | None = None,
        source: str = "shop",
        to: str | None = None,
    ) -> Envelope:
        """An event, with an id of its own unless one is given."""
        self._sent += 1
        name = f"event-{self._sent}" if id is None else id
        document: dict[str, Any] = {
            "specversion": "1.0",
            "type": type,
            "source": source,
            "id": name,
            "data": data,
        }
        if to is not None:
            document["eddainstanceid"] = to
        return Envelope(type, source, name, json.dumps(document, ensure_ascii=False), to)


# ---- Values ----------------------------------------------------------------------------------


def started(at: datetime, arguments: str = "{}") -> Started:
    """The first event of a history."""
    return Started(0, at, "w", arguments, 2**127 + 1)


def wait(
    id: str = "paid:1",
    type: str = "paid",
    match: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
    on_invalid: str = "reject",
) -> Wait:
    """A wait, as a turn registers it."""
    paths = values = None
    if match is not None:
        names = sorted(match)
        wanted = {str(n): match[name] for n, name in enumerate(names)}
        paths, values = json.dumps(names), match_values(wanted, list(wanted))
    return Wait(id, type, paths, values, model, on_invalid)


def channel(type: str = "job", mode: Mode = "competing") -> Subscription:
    """A channel to read."""
    return Subscription(type, mode)


def receive(id: str = "receive:1", type: str = "job", mode: Mode = "competing") -> Wait:
    """A wait for a message of a channel that is read."""
    return Wait(id, type, mode=mode)


def positions(found: Claimed | Committed) -> list[int]:
    """The positions of the messages that came with a claim or a commit."""
    return [message.position for message in found.messages]


# ---- Judging ---------------------------------------------------------------------------------


def same(found: object, expected: object, what: str = "") -> None:
    """Fail unless both are equal, and say both."""
    if found != expected:
        named = f"{what}: " if what else ""
        raise AssertionError(f"{named}expected {expected!r}, found {found!r}")


async def refused(lease: Lease, commit: Awaitable[Committed]) -> None:
    """Fail unless this commit of a lease that is not held raises `LeaseLost`."""
    try:
        await commit
    except LeaseLost as error:
        same(error.instance_id, lease.instance_id, "LeaseLost.instance_id")
    else:
        raise AssertionError(f"a commit with {lease!r} was accepted; expected LeaseLost")
