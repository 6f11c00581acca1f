"""The doors of the engine as a simulation has them: the clock, the sender, and a telling store."""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from edda.events import Envelope, as_cloudevent
from edda.ports import Delivered, Judge, Store
from edda_testkit.clock import VirtualClock

__all__ = ["RecordingSender", "SimulatedClock", "WakingStore"]


class SimulatedClock:
    """The engine's `Clock` door: virtual time, seeded entropy."""

    def __init__(self, clock: VirtualClock, seed: int) -> None:
        self.now = clock.now
        self.entropy = Random(seed).getrandbits


class RecordingSender:
    """The engine's `Sender` door: events for brokers are kept, not posted."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, CloudEvent]] = []

    async def post(self, envelope: Envelope, url: str) -> None:
        """Keep the event."""
        self.posted.append((url, as_cloudevent(envelope)))


class WakingStore:
    """A store that tells whose inbox or cancellation changed, whoever changed it."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.on_wake: Callable[[Iterable[str]], None] = lambda _: None

    def __repr__(self) -> str:
        return repr(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def deliver(
        self, envelopes: Sequence[Envelope], judge: Judge | None = None
    ) -> list[Delivered]:
        """Accept events."""
        delivered = await self.inner.deliver(envelopes, judge)
        self.on_wake(woken for one in delivered for woken in one.woken)
        return delivered

    async def request_cancel(self, instance_id: str) -> bool:
        """Ask for a cancellation."""
        asked = await self.inner.request_cancel(instance_id)
        if asked:
            self.on_wake([instance_id])
        return asked
