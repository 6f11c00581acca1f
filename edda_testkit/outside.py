"""The world outside a simulation: events and other happenings, now or at a virtual instant."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from cloudevents.core.v1.event import CloudEvent

from edda.events import Envelope, as_cloudevent, as_envelope
from edda_testkit.clock import as_utc
from edda_testkit.driver import Driver
from edda_testkit.runs import Run

__all__ = ["Outdoors", "Outside"]


class Outside:
    """What a test lets happen to its simulation, and what it has sent so far."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._sent: dict[tuple[str, str], str] = {}
        self._made_up = 0

    def send(
        self, event: str | CloudEvent, data: Any, attributes: dict[str, Any], at: datetime | None
    ) -> CloudEvent:
        """Send an event, now or at an instant, and return it."""
        if isinstance(event, CloudEvent):
            envelope = as_envelope(event.get_attributes(), event.get_data())
        else:
            self._made_up += 1
            known = {"type": event, "time": at or self._driver.now, **attributes}
            if known["id"] is None:
                known["id"] = f"event-{self._made_up}"
            envelope = as_envelope(known, data)
        self.happen(at, lambda: self._deliver(envelope))
        return as_cloudevent(envelope)

    def duplicate(self, event: CloudEvent, id: str | None) -> CloudEvent:
        """Deliver an event again, with the same id or another."""
        attributes = dict(event.get_attributes())
        if id is not None:
            self._made_up += 1
            attributes["id"] = f"{attributes['id']}-{self._made_up}" if id == "fresh" else id
        envelope = as_envelope(attributes, event.get_data())
        self.happen(None, lambda: self._deliver(envelope))
        return as_cloudevent(envelope)

    def happen(self, at: datetime | None, job: Callable[[], object]) -> None:
        """Let something happen, now or at an instant."""
        if at is not None:
            self._driver.clock.call_at(at, job)
            return
        job()
        self._driver.settle()

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

    def _deliver(self, envelope: Envelope) -> None:
        self._driver.wait(self._driver.app.handle_events([envelope]))
        self._sent.setdefault(
            (envelope.source, envelope.id),
            f"{envelope.type} (id {envelope.id!r}), sent at {self._driver.now.isoformat()}",
        )


class Outdoors:
    """What a simulation lets a test say of the outside world."""

    _outside: Outside

    def _open_for(self, verb: str) -> None:
        raise NotImplementedError

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
        self._open_for("send")
        attributes = {"source": source, "subject": subject, "id": id, **extensions}
        return self._outside.send(event, data, attributes, self._outside.instant(after, at))

    def duplicate(self, event: CloudEvent, *, id: str | None = None) -> CloudEvent:
        """Deliver an event again: the same id, or another (`id="fresh"` makes one up)."""
        self._open_for("duplicate")
        return self._outside.duplicate(event, id)

    def call(
        self,
        function: Callable[[], object],
        *,
        after: float | timedelta | None = None,
        at: datetime | None = None,
    ) -> None:
        """Call a plain function, now or at a virtual instant: the outside world's doing."""
        self._open_for("call")
        self._outside.happen(self._outside.instant(after, at), function)
