"""Channels as authors write them: subscribe, receive, publish, send to one instance.

A message of a channel is a CloudEvent of the type `edda.channel.NAME` in the same log as every
other event, under the same laws. Who gets it is the subscriber's choice: every broadcast
subscriber, one of those that compete, or, when it is sent to one instance, that one alone.
"""

import json
import secrets
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from edda.activity import ActivityContext
from edda.codec import text_fault
from edda.commands import Mode, ReceiveAsk
from edda.current import current_host
from edda.errors import ArgumentError, NotSubscribedError, sentence
from edda.events import CHANNEL, TARGET, Envelope, as_envelope, received, record_send
from edda.loop import user_site
from edda.machine import Question
from edda.waiting import Seconds, deadline_after
from edda.workflow import WorkflowContext, check_context

__all__ = [
    "ChannelMessage",
    "message_of",
    "publish",
    "receive",
    "send_to",
    "subscribe",
    "unsubscribe",
]

METADATA = "eddametadata"


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """A message of a channel. `data` is JSON as decoded, or bytes; `published_at` is aware."""

    id: str
    channel: str
    data: Any
    metadata: Mapping[str, Any]
    published_at: datetime | None


async def subscribe(
    ctx: WorkflowContext,
    channel: str,
    mode: Literal["broadcast", "competing", "direct"] = "broadcast",
) -> None:
    """Read a channel from here on; doing it again is fine, also after `ctx.recur`.

    `broadcast`: every message from now on. `competing`: a share of them, each processed by one
    of the instances that compete, also those that nobody has taken yet. `direct`: only what is
    sent to this instance. Raises `NotSubscribedError` when it is read in another mode already.
    """
    check_context(ctx, "subscribe")
    _check_channel("subscribe", channel)
    if mode not in get_args(Mode):
        problem = f'mode must be "broadcast", "competing" or "direct", got {sentence(mode)}'
        raise ArgumentError("subscribe", [problem])
    found = ctx.machine.subscriptions.get(channel)
    if found not in (None, mode):
        raise NotSubscribedError(channel, found, mode)
    ctx.machine.subscribe(channel, mode)


async def unsubscribe(ctx: WorkflowContext, channel: str) -> None:
    """Read a channel no more; without effect when it is not read."""
    check_context(ctx, "unsubscribe")
    _check_channel("unsubscribe", channel)
    ctx.machine.unsubscribe(channel)


def receive(
    ctx: WorkflowContext, channel: str, timeout_seconds: Seconds | None = None
) -> Coroutine[Any, Any, ChannelMessage]:
    """Wait for the next message of a channel, in the order of publishing.

    Raises `NotSubscribedError` without a subscription, and `EventTimeoutError`, a
    `TimeoutError`, when `timeout_seconds` (or a `timedelta`) pass first.
    """
    check_context(ctx, "receive")
    _check_channel("receive", channel)
    site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
    return _receive(ctx, channel, timeout_seconds, site)


def publish(
    ctx: WorkflowContext | ActivityContext,
    channel: str,
    data: Any,
    metadata: Mapping[str, Any] | None = None,
) -> Coroutine[Any, Any, str]:
    """Publish a message and return its id: in a workflow a recorded step, done once.

    In an activity it goes out at once. From outside, `app.publish` does the same.
    """
    site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
    return _publish(ctx, "publish", channel, data, metadata, None, site)


def send_to(
    ctx: WorkflowContext | ActivityContext,
    instance_id: str,
    channel: str,
    data: Any,
    metadata: Mapping[str, Any] | None = None,
) -> Coroutine[Any, Any, str]:
    """Send a message of a channel to one instance alone, and return its id; else as `publish`.

    It is kept for an instance that has not subscribed yet.
    """
    if fault := text_fault(instance_id):
        raise ArgumentError("send_to", [f"instance_id {fault}"])
    site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
    return _publish(ctx, "send_to", channel, data, metadata, instance_id, site)


def message_of(  # noqa: PLR0917 - those of publish and send_to
    channel: str,
    data: Any,
    metadata: Mapping[str, Any] | None,
    instance_id: str | None,
    at: datetime,
    id: str | None = None,
) -> Envelope:
    """A message for a channel, as an event that can be accepted (`app.publish`)."""
    attributes = _attributes("publish", channel, metadata, instance_id)
    return as_envelope({**attributes, "id": id or secrets.token_hex(16), "time": at}, data)


# ---- Helpers ---------------------------------------------------------------------------------


async def _receive(
    ctx: WorkflowContext, channel: str, timeout: Seconds | None, site: str
) -> ChannelMessage:
    mode = ctx.machine.subscriptions.get(channel)
    if mode is None:
        raise NotSubscribedError(channel, None)
    deadline, seconds = deadline_after(ctx, timeout)
    id = ctx.machine.next_id(f"receive_{channel}")
    ask = ReceiveAsk(id, channel, deadline, seconds, mode, site)
    message: ChannelMessage = await ctx.machine.ask(Question(ask, _decoded))
    return message


def _decoded(text: str) -> ChannelMessage:
    event = received(text)
    found = (event.extensions or {}).get(METADATA)
    return ChannelMessage(
        event.id, event.type.removeprefix(CHANNEL), event.data, _metadata(found), event.time
    )


def _metadata(text: object) -> Mapping[str, Any]:
    # Whoever can post an event can publish: what is no JSON object must not stop who receives it.
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        found = {}
    return found if isinstance(found, dict) else {}


async def _publish(  # noqa: PLR0917 - those of publish and send_to
    ctx: WorkflowContext | ActivityContext,
    verb: str,
    channel: str,
    data: Any,
    metadata: Mapping[str, Any] | None,
    instance_id: str | None,
    site: str,
) -> str:
    if isinstance(ctx, WorkflowContext):
        attributes = _attributes(verb, channel, metadata, instance_id)
        event = await record_send(ctx.machine, f"{verb}_{channel}", attributes, data, None, site)
        return str(event.get_id())
    _check_activity(ctx, verb)
    envelope = message_of(channel, data, metadata, instance_id, datetime.now(UTC))
    host = current_host(f"{verb}()", "Open one with `async with EddaApp(...)`.")
    await host.send(envelope, None)
    return envelope.id


def _check_activity(ctx: object, verb: str) -> None:
    if not isinstance(ctx, ActivityContext):
        problem = (
            f"its first argument must be the ctx of a workflow or an activity, got "
            f"{type(ctx).__name__}; from outside use app.{verb}(...)"
        )
        raise ArgumentError(verb, [problem])


def _attributes(
    verb: str, channel: str, metadata: Mapping[str, Any] | None, instance_id: str | None
) -> dict[str, Any]:
    _check_channel(verb, channel)
    text = None
    if metadata is not None:
        try:
            text = json.dumps(dict(metadata), allow_nan=False)
        except (TypeError, ValueError) as error:
            problem = f"metadata must be a mapping of plain JSON values: {error}"
            raise ArgumentError(verb, [problem]) from error
    return {"type": CHANNEL + channel, "source": "edda", METADATA: text, TARGET: instance_id}


def _check_channel(verb: str, channel: object) -> None:
    if fault := text_fault(channel):
        raise ArgumentError(verb, [f"channel {fault}"])
