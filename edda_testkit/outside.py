"""The world outside a simulation: events and other happenings, now or at a virtual instant.

Inside `concurrently()` nothing happens yet: what is asked for is queued, and when the block ends
the schedule decides what falls where.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from cloudevents.core.v1.event import CloudEvent

from edda.channel import message_of
from edda.events import Envelope, as_cloudevent, as_envelope
from edda_testkit.calls import MOMENT
from edda_testkit.clock import as_utc
from edda_testkit.driver import Driver
from edda_testkit.errors import Misuse
from edda_testkit.runs import Run
from edda_testkit.workers import Move

__all__ = ["Outdoors", "Outside"]

T = TypeVar("T")
P = ParamSpec("P")


class Outside:
    """What a test lets happen to its simulation, and what it has sent so far."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._sent: dict[tuple[str, str], str] = {}
        self._made_up = 0
        self._queue: list[Move] | None = None
        self._errors: list[Exception] = []
        self._starts: dict[str, Move] = {}  # by the instance that a queued move starts
        self._advance: Move | None = None  # the last one queued
        self._late: list[Callable[[], object]] = []

    def send(
        self, event: str | CloudEvent, data: Any, attributes: dict[str, Any], at: datetime | None
    ) -> CloudEvent:
        """Send an event, now or at an instant, and return it."""
        if isinstance(event, CloudEvent):
            known = {"time": at or self._driver.now, **event.get_attributes()}
            envelope = as_envelope(known, event.get_data())
        else:
            self._made_up += 1
            known = {"type": event, "time": at or self._driver.now, **attributes}
            if known["id"] is None:
                known["id"] = f"event-{self._made_up}"
            envelope = as_envelope(known, data)
        self._happen(at, envelope, "send")
        return as_cloudevent(envelope)

    def publish(
        self,
        channel: str,
        data: Any,
        metadata: Mapping[str, Any] | None,
        instance_id: str | None,
        at: datetime | None,
    ) -> CloudEvent:
        """Publish a message, to all or to one instance, now or at an instant, and return it."""
        self._made_up += 1
        id, time = f"message-{self._made_up}", at or self._driver.now
        envelope = message_of(channel, data, metadata, instance_id, time, id)
        self._happen(at, envelope, "publish")
        return as_cloudevent(envelope)

    def duplicate(self, event: CloudEvent, id: str | None) -> CloudEvent:
        """Deliver an event again, with the same id or another."""
        attributes = dict(event.get_attributes())
        if id is not None:
            self._made_up += 1
            attributes["id"] = f"{attributes['id']}-{self._made_up}" if id == "fresh" else id
        envelope = as_envelope(attributes, event.get_data())
        self._happen(None, envelope, "duplicate")
        return as_cloudevent(envelope)

    def happen(
        self,
        at: datetime | None,
        job: Callable[[], object],
        name: str,
        *,
        starts: str | None = None,
        needs: str | None = None,
    ) -> None:
        """Let something happen, now or at an instant; in `concurrently()`, when it ends.

        What `needs` an instance that the same block `starts` comes after that: who asks for it
        was told the id.
        """
        if at is not None:
            self._driver.clock.call_at(at, job)
        elif self._queue is not None:
            move = self._as_move(name, job, starts or "")
            move.after = None if needs is None else self._starts.get(needs)
            if starts is not None:
                self._starts.setdefault(starts, move)
            self._queue.append(move)
        else:
            late, self._late = self._late, []
            for one in (job, *late):  # what was late comes after the next thing that happens
                one()
                self._driver.settle()

    @property
    def now(self) -> datetime:
        """The virtual instant."""
        return self._driver.now

    @property
    def is_concurrent(self) -> bool:
        """Whether a block of `concurrently()` is open."""
        return self._queue is not None

    @contextmanager
    def concurrently(self) -> Iterator[None]:
        """Queue what happens in the block, and let it all happen when the block ends."""
        if self._queue is not None:
            raise Misuse("concurrently() is open already: put it all into one block.")
        if self._driver.is_busy:
            self._driver.refuse("concurrently")
        self._queue, self._errors, self._starts, self._advance = [], [], {}, None
        try:
            yield
            moves = self._queue
        finally:
            self._queue = None
        with self._driver.moving("concurrently"):
            self._driver.settle_with(moves)
        if self._errors:
            first, *others = self._errors
            for other in others:
                first.add_note(f"Also, in the same block: {type(other).__name__}: {other}")
            raise first

    def advance(self, duration: timedelta) -> None:
        """Queue a move of time, which stops at every due instant on its way."""
        assert self._queue is not None, "outside of concurrently() the driver moves time itself"
        driver = self._driver
        target: datetime | None = None

        def step() -> None:
            nonlocal target
            target = driver.now + duration if target is None else target
            due = driver.next_due(is_later=True)
            if due is None or due > target:
                driver.clock.move_to(target)
                driver.is_due = True
            else:
                driver.ring(due)
                driver.go_on_with(move)

        move = self._as_move(f"advance {duration}", step)
        move.after = self._advance  # there is one clock, and one hand that moves it
        self._advance = move
        self._queue.append(move)

    def _as_move(self, name: str, job: Callable[[], object], actor: str = "") -> Move:
        def run() -> None:
            try:
                job()
            except Exception as error:  # goes to the test when the block has ended
                self._errors.append(error)

        number = 0 if self._queue is None else len(self._queue) + 1
        return Move("outside", actor, f"{number}: {name}", run)

    def instant(self, after: float | timedelta | None, at: datetime | None) -> datetime | None:
        """When `after=` or `at=` is; None for now."""
        now = self._driver.now
        if after is not None and at is not None:
            raise ValueError("Give after= or at=, not both.")
        if after is not None:
            at = now + (after if isinstance(after, timedelta) else timedelta(seconds=after))
        if at is None:
            return None
        at = as_utc(at)
        if at < now:
            raise ValueError(f"{at.isoformat()} lies in the past: it is {now.isoformat()} already.")
        return at

    def untaken(self, runs: Iterable[Run]) -> list[str]:
        """The events that none of the runs has taken, a phrase for each."""
        taken = {(event.source, event.id) for run in runs for event in run.received}
        return [text for key, text in self._sent.items() if key not in taken]

    def _happen(self, at: datetime | None, envelope: Envelope, verb: str) -> None:
        self.happen(
            at,
            lambda: self._arrive(envelope),
            f"{verb} {envelope.type}",
            needs=envelope.instance_id,
        )

    def _arrive(self, envelope: Envelope) -> None:
        """Deliver it now, after what the outside does next, or after what is due next."""
        driver = self._driver
        if not driver.chance.delays:
            self._deliver(envelope)
            return
        due = driver.next_due()
        late = driver.chance.delay(f"{envelope.type} (id {envelope.id!r})", 2 + (due is not None))
        if not late:
            self._deliver(envelope)
        elif late == 2 and due is not None:
            driver.clock.call_at(due + MOMENT, lambda: self._deliver(envelope))
        else:
            left = [envelope]
            come = lambda: self._deliver(left.pop()) if left else None  # noqa: E731
            self._late.append(come)
            driver.clock.call_at(driver.now, come)  # at the latest when time moves

    def _deliver(self, envelope: Envelope) -> None:
        delivered = self._driver.wait(self._driver.app.handle_events([envelope]))
        if delivered[0].started:
            return  # the runs that it started have taken it
        self._sent.setdefault(
            (envelope.source, envelope.id),
            f"{envelope.type} (id {envelope.id!r}), sent at {self._driver.now.isoformat()}",
        )


class Outdoors:
    """What a simulation lets a test say of the outside world."""

    _outside: Outside

    def _open_for(self, verb: str, *, is_queued: bool = False) -> None:
        raise NotImplementedError

    @contextmanager
    def concurrently(self) -> Iterator[None]:
        """Let what the block asks for happen when it ends, in an order of the schedule's choosing.

        Takes `start send publish send_to duplicate call advance cancel crash`; each may fall
        between any two commits of what runs beside it. Without exploration the order is the
        written one.
        """
        self._open_for("concurrently")
        with self._outside.concurrently():
            yield

    def world(self, make: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """An object of the outside world that belongs to this simulation alone.

        It survives crashes, and each schedule of an exploration has a fresh one. Module globals
        survive schedules too, so keep what activities change in here.
        """
        return make(*args, **kwargs)

    def send(
        self,
        event: str | CloudEvent,
        data: Any = None,
        *,
        source: str = "test",
        subject: str | None = None,
        id: str | None = None,
        after: float | timedelta | None = None,
        at: datetime | None = None,
        **extensions: Any,
    ) -> CloudEvent:
        """Send a CloudEvent into the simulation, now or later, and return it.

        Raises `InvalidEventError` when every wait that it fits refuses its data.
        """
        self._open_for("send", is_queued=True)
        attributes = {"source": source, "subject": subject, "id": id, **extensions}
        return self._outside.send(event, data, attributes, self._outside.instant(after, at))

    def publish(
        self,
        channel: str,
        data: Any = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        after: float | timedelta | None = None,
        at: datetime | None = None,
    ) -> CloudEvent:
        """Publish a message to a channel, now or later, and return it as the event that it is."""
        self._open_for("publish", is_queued=True)
        when = self._outside.instant(after, at)
        return self._outside.publish(channel, data, metadata, None, when)

    def send_to(
        self,
        run: Run,
        channel: str,
        data: Any = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        after: float | timedelta | None = None,
        at: datetime | None = None,
    ) -> CloudEvent:
        """Send a message of a channel to one run alone, now or later; else as `publish`."""
        self._open_for("send_to", is_queued=True)
        when = self._outside.instant(after, at)
        return self._outside.publish(channel, data, metadata, run.id, when)

    def duplicate(self, event: CloudEvent, *, id: str | None = None) -> CloudEvent:
        """Deliver an event again: the same id, or another (`id="fresh"` makes one up)."""
        self._open_for("duplicate", is_queued=True)
        return self._outside.duplicate(event, id)

    def call(
        self,
        function: Callable[[], object],
        *,
        after: float | timedelta | None = None,
        at: datetime | None = None,
    ) -> None:
        """Call a plain function, now or at a virtual instant: the outside world's doing."""
        self._open_for("call", is_queued=True)
        name = getattr(function, "__name__", "a function")
        self._outside.happen(self._outside.instant(after, at), function, f"call {name}")
