"""Waiting as authors write it: for an event, for a while, until an instant.

Each verb is a recorded ask. The coroutine is suspended, the instance stored and everything in
memory released until the answer comes; deadlines are absolute and set once.
"""

import itertools
import math
import sys
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar, overload

from edda.codec import Value, reference, text_fault
from edda.commands import EventAsk, TimerAsk
from edda.errors import (
    ArgumentError,
    DecodingError,
    EventTimeoutError,
    InvalidEventError,
    sentence,
)
from edda.events import ReceivedEvent, canonical, received
from edda.loop import user_site
from edda.machine import Question
from edda.workflow import WorkflowContext, check_context

__all__ = [
    "Seconds",
    "deadline_after",
    "discard_events",
    "sleep",
    "sleep_until",
    "wait_any",
    "wait_event",
    "wait_timer",
    "wait_until",
]

M = TypeVar("M")

Seconds = float | int | timedelta


@overload
def wait_event(
    ctx: WorkflowContext,
    event_type: str,
    timeout_seconds: Seconds | None = None,
    model: None = None,
    match: Mapping[str, Any] | None = None,
    on_invalid: Literal["reject", "raise"] = "reject",
    event_id: str | None = None,
) -> Coroutine[Any, Any, ReceivedEvent[Any]]: ...


@overload
def wait_event(
    ctx: WorkflowContext,
    event_type: str,
    timeout_seconds: Seconds | None = None,
    *,
    model: type[M],
    match: Mapping[str, Any] | None = None,
    on_invalid: Literal["reject", "raise"] = "reject",
    event_id: str | None = None,
) -> Coroutine[Any, Any, ReceivedEvent[M]]: ...


def wait_event(  # noqa: PLR0917 - positions are public API (DESIGN.md)
    ctx: WorkflowContext,
    event_type: str,
    timeout_seconds: Seconds | None = None,
    model: Any = None,
    match: Mapping[str, Any] | None = None,
    on_invalid: Literal["reject", "raise"] = "reject",
    event_id: str | None = None,
) -> Coroutine[Any, Any, ReceivedEvent[Any]]:
    """Wait for the first event of a type that fits and that this instance has not taken yet.

    Events count from the moment the instance started, so one that comes early is not lost.
    `match` gives values that attributes, extensions and dotted data paths must equal
    (`{"data.order_id": "ORD-1"}`). With `model`, data that does not validate never answers the
    wait, unless `on_invalid="raise"`, which raises `InvalidEventError` here. `event_id` overrides
    the id `wait_event_<type>:n`. Raises `EventTimeoutError`, a `TimeoutError`, when
    `timeout_seconds` (or a `timedelta`) pass first.
    """
    check_context(ctx, "wait_event")
    site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
    faults = []
    if fault := text_fault(event_type):
        faults.append(f"event_type {fault}")
    if event_id is not None and (fault := text_fault(event_id)):
        faults.append(f"event_id {fault}")
    if on_invalid not in ("reject", "raise"):
        faults.append(f'on_invalid must be "reject" or "raise", got {sentence(on_invalid)}')
    if match is not None and not _is_match(match):
        faults.append(f"match must map paths to values, got {sentence(match)}")
    if faults:
        raise ArgumentError("wait_event", faults)
    seconds = None if timeout_seconds is None else _seconds(timeout_seconds, "timeout_seconds")
    return _wait_event(ctx, event_type, seconds, model, match, on_invalid, event_id, site)


def wait_any(
    ctx: WorkflowContext,
    events: Mapping[str, Any],
    timeout_seconds: Seconds | None = None,
    match: Mapping[str, Any] | None = None,
) -> Coroutine[Any, Any, ReceivedEvent[Any]]:
    """Wait for the first event of several types; the waits for the others are given up then.

    `events` maps each type to the model of its data, or to None: `{"approved": Approval,
    "rejected": None}`. Which one came is `event.type`. The rest is as in `wait_event`.
    """
    check_context(ctx, "wait_any")
    site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
    faults = []
    if not isinstance(events, Mapping) or not events or not all(map(_is_name, events)):
        faults.append(
            f"events must map event types to models or None, at least one, got {sentence(events)}"
        )
    if match is not None and not _is_match(match):
        faults.append(f"match must map paths to values, got {sentence(match)}")
    if faults:
        raise ArgumentError("wait_any", faults)
    seconds = None if timeout_seconds is None else _seconds(timeout_seconds, "timeout_seconds")
    return _wait_any(ctx, events, seconds, match, site)


def discard_events(ctx: WorkflowContext, event_type: str) -> Coroutine[Any, Any, int]:
    """Drop the events of a type that have come until now, and return how many."""
    check_context(ctx, "discard_events")
    if fault := text_fault(event_type):
        raise ArgumentError("discard_events", [f"event_type {fault}"])
    site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
    return _discard(ctx, event_type, site)


def wait_timer(
    ctx: WorkflowContext, duration_seconds: Seconds | None = None, *, seconds: Seconds | None = None
) -> Coroutine[Any, Any, None]:
    """Wait for a while: seconds, or a `timedelta`. Zero or less is due at once.

    `seconds=` is another name of `duration_seconds`.
    """
    return _sleep(ctx, "wait_timer", "duration_seconds", duration_seconds, seconds)


def sleep(
    ctx: WorkflowContext, seconds: Seconds | None = None, *, duration_seconds: Seconds | None = None
) -> Coroutine[Any, Any, None]:
    """Wait for a while: seconds, or a `timedelta`. Zero or less is due at once."""
    return _sleep(ctx, "sleep", "seconds", seconds, duration_seconds)


def wait_until(
    ctx: WorkflowContext, until_time: datetime | None = None, *, target_time: datetime | None = None
) -> Coroutine[Any, Any, None]:
    """Wait until an instant, an aware `datetime`; one in the past is due at once."""
    return _sleep_until(ctx, "wait_until", "until_time", until_time, target_time)


def sleep_until(
    ctx: WorkflowContext, target_time: datetime | None = None, *, until_time: datetime | None = None
) -> Coroutine[Any, Any, None]:
    """Wait until an instant, an aware `datetime`; one in the past is due at once."""
    return _sleep_until(ctx, "sleep_until", "target_time", target_time, until_time)


# ---- Helpers ---------------------------------------------------------------------------------


async def _wait_event(  # noqa: PLR0917 - those of wait_event
    ctx: WorkflowContext,
    event_type: str,
    seconds: float | None,
    model: Any,
    match: Mapping[str, Any] | None,
    on_invalid: Literal["reject", "raise"],
    event_id: str | None,
    site: str,
) -> ReceivedEvent[Any]:
    question = _question(ctx, event_type, seconds, model, match, on_invalid, event_id, site)
    event: ReceivedEvent[Any] = await ctx.machine.ask(question)
    return event


async def _wait_any(
    ctx: WorkflowContext,
    types: Mapping[str, Any],
    seconds: float | None,
    match: Mapping[str, Any] | None,
    site: str,
) -> ReceivedEvent[Any]:
    questions = [
        _question(ctx, name, seconds, model, match, "reject", None, site)
        for name, model in types.items()
    ]
    try:
        event: ReceivedEvent[Any] = await ctx.machine.ask(*questions)
    except EventTimeoutError as error:
        raise EventTimeoutError(" | ".join(types), seconds or 0.0) from error
    return event


async def _discard(ctx: WorkflowContext, event_type: str, site: str) -> int:
    for count in itertools.count():
        question = _question(ctx, event_type, 0.0, None, None, "raise", None, site)
        try:
            await ctx.machine.ask(question)
        except EventTimeoutError:
            return count
    raise AssertionError("it counts without end")


def _question(  # noqa: PLR0917 - those of wait_event
    ctx: WorkflowContext,
    event_type: str,
    seconds: float | None,
    model: Any,
    match: Mapping[str, Any] | None,
    on_invalid: Literal["reject", "raise"],
    event_id: str | None,
    site: str,
) -> Question:
    codec = None if model is None else Value(model, f"The data of event {event_type!r}")
    if codec is not None:
        _ = codec.adapter  # a model pydantic cannot read fails here, before anything waits
    ask = EventAsk(
        id=ctx.machine.next_id(f"wait_event_{event_type}", event_id),
        name=event_type,
        deadline=None if seconds is None else _after(ctx, seconds, "timeout_seconds"),
        timeout_seconds=seconds,
        match=_match_text(match) if match else None,
        model=None if model is None else _model_name(model),
        on_invalid=on_invalid,
        site=site,
    )
    return Question(ask, lambda text: _stored(text, codec), codec)


def _stored(text: str, codec: Value | None) -> ReceivedEvent[Any]:
    # It was validated before it answered: when it does not fit now, the model has changed.
    try:
        return received(text, codec)
    except InvalidEventError as error:
        assert codec is not None, "without a model nothing is refused"
        raise DecodingError(codec.what, "; ".join(error.problems)) from error


def _match_text(match: Mapping[str, Any]) -> str:
    try:
        text = canonical(dict(match))
        text.encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise ArgumentError("wait_event", [f"match values must be plain JSON: {error}"]) from error
    return text


def _model_name(model: Any) -> str:
    return reference(model) if isinstance(model, type) else repr(model)


def _sleep(
    ctx: WorkflowContext, verb: str, argument: str, one: Seconds | None, other: Seconds | None
) -> Coroutine[Any, Any, None]:
    check_context(ctx, verb)
    duration = one if one is not None else other
    if duration is None or (one is not None and other is not None):
        raise ArgumentError(verb, [f"give the duration once, as {argument}="])
    site = user_site(sys._getframe(2))  # noqa: SLF001 - the documented way to one's caller
    return _timer(ctx, verb, _seconds(duration, argument), site)


def _sleep_until(
    ctx: WorkflowContext, verb: str, argument: str, one: datetime | None, other: datetime | None
) -> Coroutine[Any, Any, None]:
    check_context(ctx, verb)
    instant = one if one is not None else other
    if not isinstance(instant, datetime):
        raise ArgumentError(verb, [f"{argument} must be a datetime, got {sentence(instant)}"])
    if instant.utcoffset() is None:
        raise ArgumentError(
            verb,
            [
                (
                    f"{argument} is naive ({instant.isoformat()}), so it names no instant; give "
                    f"it a time zone, e.g. {argument}.replace(tzinfo=UTC)"
                )
            ],
        )
    try:
        due = instant.astimezone(UTC)
    except OverflowError as error:
        problem = f"{argument} {instant.isoformat()} lies outside the years 1 to 9999 in UTC"
        raise ArgumentError(verb, [problem]) from error
    site = user_site(sys._getframe(2))  # noqa: SLF001 - the documented way to one's caller
    return _timer(ctx, verb, due, site)


async def _timer(ctx: WorkflowContext, verb: str, when: float | datetime, site: str) -> None:
    due = when if isinstance(when, datetime) else _after(ctx, when, "the duration")
    ask = TimerAsk(ctx.machine.next_id(verb), verb, due, site)
    await ctx.machine.ask(Question(ask, lambda _: None))


def _is_name(value: object) -> bool:
    return text_fault(value) is None


def _is_match(value: object) -> bool:
    return isinstance(value, Mapping) and all(map(_is_name, value))


def deadline_after(
    ctx: WorkflowContext, timeout_seconds: Seconds | None
) -> tuple[datetime | None, float | None]:
    """The instant so long after now, and the seconds; None for both without a timeout."""
    if timeout_seconds is None:
        return None, None
    seconds = _seconds(timeout_seconds, "timeout_seconds")
    return _after(ctx, seconds, "timeout_seconds"), seconds


def _seconds(value: Seconds, argument: str) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(
            argument, [f"expected seconds (a number) or a timedelta, got {sentence(value)}"]
        )
    if not math.isfinite(value):
        raise ArgumentError(argument, [f"expected a finite number of seconds, got {value!r}"])
    return float(value)


def _after(ctx: WorkflowContext, seconds: float, argument: str) -> datetime:
    try:
        return ctx.now() + timedelta(microseconds=round(seconds * 1_000_000))
    except OverflowError as error:
        raise ArgumentError(
            argument, [f"{seconds!r} s from now lies outside the years 1 to 9999"]
        ) from error
