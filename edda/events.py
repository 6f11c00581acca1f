"""CloudEvents in and out: the envelope the engine carries, and what a wait hands to the author.

An envelope is one CloudEvent 1.0 in the JSON event format, as text, with the attributes that
stores and waits look at taken out. Matching and validation read it; nothing here stores it.
"""

import asyncio
import base64
import json
import re
import secrets
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

from cloudevents.core.v1.event import CloudEvent
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from edda.activity import ActivityContext
from edda.codec import Value, parsed, problems, text_fault
from edda.commands import SendAsk
from edda.current import current_host
from edda.errors import ArgumentError, InvalidEventError, sentence
from edda.loop import WorkflowLoop, user_site
from edda.machine import Machine, Question

__all__ = [
    "CHANNEL",
    "ENDED",
    "TARGET",
    "Envelope",
    "ReceivedEvent",
    "as_cloudevent",
    "as_envelope",
    "canonical",
    "lookup",
    "match_values",
    "received",
    "record_send",
    "send_event",
    "send_event_transactional",
]

M = TypeVar("M")

# The extension that addresses an event to one instance (law M3).
TARGET = "eddainstanceid"

# How types of the engine's own begin: a channel's messages, and a child's end (from nobody else).
CHANNEL = "edda.channel."
ENDED = "edda.ended."

_CORE = ("specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema")
_KNOWN = frozenset((*_CORE, "data", "data_base64"))
_NAME = re.compile(r"[a-z0-9]+")
_CHARSET = re.compile(r';\s*charset="?([^\s;"]+)', re.IGNORECASE)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class ReceivedEvent(Generic[M]):
    """An event that answered a wait; `data` is the model's instance when the wait names one.

    Without a model, `data` is decoded JSON, `str` for `text/*` and XML, `bytes` for the rest.
    `time` is the sender's, an aware datetime or None.
    """

    type: str
    source: str
    id: str
    data: M
    time: datetime | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: Mapping[str, str | int | bool] | None = None


@dataclass(frozen=True)
class Envelope:
    """One CloudEvent as the engine carries it. `text` is its JSON event format."""

    type: str
    source: str
    id: str
    text: str
    instance_id: str | None = None

    @cached_property
    def document(self) -> dict[str, Any]:
        """The parsed JSON event."""
        document: dict[str, Any] = parsed(self.text)
        return document


def as_envelope(attributes: Mapping[str, Any], data: Any) -> Envelope:
    """The envelope of CloudEvent attributes and data. Raises `ArgumentError` naming each fault.

    `data` may be JSON values, `bytes`, or anything pydantic can serialise; None is no data.
    """
    wanted = [(name, text_fault(attributes.get(name))) for name in ("type", "source", "id")]
    faults = [f"{name} {fault}" for name, fault in wanted if fault]
    if attributes.get("specversion", "1.0") != "1.0":
        faults.append(f'specversion must be "1.0", got {sentence(attributes["specversion"])}')
    document: dict[str, Any] = {"specversion": "1.0"}
    for name, value in attributes.items():
        if value is None or name == "specversion":
            continue
        fault = _fault(name, value)
        if fault:
            faults.append(fault)
        document[name] = _stamp(value) if isinstance(value, datetime) else value
    text = ""
    if not faults:
        try:
            _put_data(document, data)
            # Neither NaN nor half a surrogate pair is JSON that everybody can read.
            text = _encode(document)
            text.encode()
        except Exception as error:  # goes to the sender: what pydantic calls is the user's own code
            content_type = document.get("datacontenttype") or "JSON"
            faults.append(f"data cannot be sent as {content_type}: {error}")
    if faults:
        raise ArgumentError("CloudEvent", list(dict.fromkeys(faults)))
    kind, source, id = document["type"], document["source"], document["id"]
    return Envelope(kind, source, id, text, document.get(TARGET))


def as_cloudevent(envelope: Envelope) -> CloudEvent:
    """The CloudEvents SDK's object for an envelope."""
    document = envelope.document
    attributes = {k: v for k, v in document.items() if k not in ("data", "data_base64")}
    if "time" in attributes:
        attributes["time"] = datetime.fromisoformat(attributes["time"])
    return CloudEvent(attributes, _data(document))


def received(text: str, model: Value | None = None) -> ReceivedEvent[Any]:
    """The event of an envelope's text. Raises `InvalidEventError` when `model` refuses its data."""
    document = parsed(text)
    data = _data(document)
    if model is not None:
        data = _validated(document, data, model)
    time, is_plain = document.get("time"), document.keys() <= _KNOWN
    return ReceivedEvent(
        type=document["type"],
        source=document["source"],
        id=document["id"],
        data=data,
        time=None if time is None else datetime.fromisoformat(time),
        subject=document.get("subject"),
        datacontenttype=document.get("datacontenttype"),
        dataschema=document.get("dataschema"),
        extensions={} if is_plain else {k: v for k, v in document.items() if k not in _KNOWN},
    )


def send_event(
    event_type: str,
    source: str,
    data: Any = None,
    *,
    subject: str | None = None,
    id: str | None = None,
    extensions: Mapping[str, str | int | bool] | None = None,
    broker_url: str | None = None,
) -> Coroutine[Any, Any, CloudEvent]:
    """Send a CloudEvent and return it.

    With `broker_url` (or `EDDA_BROKER_URL`, or the app's) it is posted there; without, it goes
    to the current app. In a workflow it is a recorded step and is sent once. Raises
    `ArgumentError`, `NoAppError`, `InvalidEventError` when every matching wait refuses the data,
    and `BrokerError` when a broker refuses it.
    """
    attributes: dict[str, Any] = {"type": event_type, "source": source, "id": id}
    attributes |= {"subject": subject, **(extensions or {})}
    site = user_site(sys._getframe(1))  # noqa: SLF001 - the documented way to one's caller
    return _send(attributes, data, broker_url, site)


async def _send(
    attributes: dict[str, Any], data: Any, broker_url: str | None, site: str
) -> CloudEvent:
    loop = asyncio.get_running_loop()
    if isinstance(loop, WorkflowLoop):
        assert isinstance(loop.timers, Machine)
        step = f"send_event_{attributes['type']}"
        return await record_send(loop.timers, step, attributes, data, broker_url, site)
    if attributes["id"] is None:
        attributes["id"] = secrets.token_hex(16)
    envelope = as_envelope(attributes, data)
    host = current_host(
        "send_event()",
        "Open one with `async with EddaApp(...)`, or give broker_url= (or EDDA_BROKER_URL).",
    )
    await host.send(envelope, broker_url)
    return as_cloudevent(envelope)


async def record_send(  # noqa: PLR0917 - those of send_event
    machine: Machine,
    step: str,
    attributes: dict[str, Any],
    data: Any,
    broker_url: str | None,
    site: str,
) -> CloudEvent:
    """Send an event as a recorded step of a workflow, `step:n`, and return it."""
    ask_id = machine.next_id(step)
    # The event's id follows from the step, so that a repeated attempt is the same event.
    given = attributes.get("id") or f"{machine.scope}/{ask_id}"
    envelope = as_envelope({**attributes, "id": given, "time": machine.now}, data)
    arguments = json.dumps(
        {"broker_url": broker_url, "event": envelope.document}, ensure_ascii=False
    )
    ask = SendAsk(ask_id, envelope.type, arguments, site)
    text = await machine.ask(Question(ask, lambda text: text, None, _same_json))
    document = json.loads(text)
    return as_cloudevent(Envelope(document["type"], document["source"], document["id"], text))


def _same_json(one: str, other: str) -> bool:
    return bool(json.loads(one) == json.loads(other))


async def send_event_transactional(
    ctx: ActivityContext,
    event_type: str,
    source: str | None = None,
    data: Any = None,
    *,
    event_source: str | None = None,
    event_data: Any = None,
    subject: str | None = None,
    extensions: Mapping[str, str | int | bool] | None = None,
) -> str:
    """Send a CloudEvent if, and only if, this activity's answer is committed; return its id.

    It is stored with the answer and posted after it, at least once, to the app's broker or,
    without one, to the app itself. The id is the same for every attempt of the step.
    `event_source` and `event_data` are other names of `source` and `data`.
    """
    _check_activity(ctx)
    attributes = {
        "type": event_type,
        "source": source if source is not None else event_source,
        "id": f"{ctx.idempotency_key}/event:{len(ctx.outbox) + 1}",
        "time": datetime.now(UTC),
        "subject": subject,
        **(extensions or {}),
    }
    envelope = as_envelope(attributes, data if data is not None else event_data)
    ctx.outbox.append(envelope)
    return envelope.id


def _check_activity(ctx: object) -> None:
    if not isinstance(ctx, ActivityContext):
        problem = (
            f"its first argument must be an activity's ctx, got {type(ctx).__name__}; in a "
            f"workflow `await send_event(...)` is a recorded step already"
        )
        raise ArgumentError("send_event_transactional", [problem])


# ---- Matching --------------------------------------------------------------------------------

MISSING = object()

# `json.dumps` would make an encoder for each value.
_encode_sorted = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode


def lookup(document: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path (`"data.lines.0.sku"`, `"subject"`), or `MISSING`."""
    found: Any = document
    for part in path.split("."):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and _INDEX.fullmatch(part) and int(part) < len(found):
            found = found[int(part)]
        else:
            return MISSING
    return found


def match_values(document: Mapping[str, Any], paths: list[str]) -> str | None:
    """The values at `paths` as canonical JSON text, or None when one is missing.

    Equal texts mean equal JSON values: 5 is not "5", 1 is not true, 5 is 5.0.
    """
    values = [lookup(document, path) for path in paths]
    return None if MISSING in values else canonical(values)


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values."""
    return _encode_sorted(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# ---- Helpers ---------------------------------------------------------------------------------


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _put_data(document: dict[str, Any], data: Any) -> None:
    content_type = document.get("datacontenttype")
    if not isinstance(data, bytes | bytearray):
        if data is not None:
            document["data"] = to_jsonable_python(data, by_alias=True)
    elif content_type is not None and _is_json(content_type):
        document["data"] = json.loads(data)
    elif _is_text(content_type):
        document["data"] = _decoded(bytes(data), content_type)
    else:
        document["data_base64"] = base64.b64encode(data).decode()


def _fault(name: object, value: Any) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "data":
        return f"attribute names are lower-case letters and digits, got {name!r}"
    if name == "time":
        return _time_fault(value)
    if (name == TARGET or (isinstance(value, str) and value)) and (fault := text_fault(value)):
        return f"{name} {fault}"
    if name in _CORE:
        return None if isinstance(value, str) else f"{name} must be a string, got {sentence(value)}"
    if isinstance(value, bool | str) or (isinstance(value, int) and -(2**31) <= value < 2**31):
        return None
    return f"extension {name} must be a string, a 32-bit integer or a bool, got {sentence(value)}"


def _time_fault(value: Any) -> str | None:
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        if time.tzinfo is None:
            return f"time must have an offset, got {sentence(value)}"
        time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return f"time must be an RFC 3339 timestamp, got {sentence(value)}"
    return None


def _is_json(content_type: str | None) -> bool:
    if content_type is None:
        return True
    media = content_type.partition(";")[0].strip().lower()
    return media.endswith(("/json", "+json"))


def _data(document: Mapping[str, Any]) -> Any:
    if "data_base64" not in document:
        return document.get("data")
    raw = base64.b64decode(document["data_base64"])
    content_type = document.get("datacontenttype")
    try:
        if content_type is not None and _is_json(content_type):
            return json.loads(raw)
        return _decoded(raw, content_type) if _is_text(content_type) else raw
    except (LookupError, ValueError):
        return raw  # it is not what it says: nobody is stopped by that, a model says what is wrong


def _is_text(content_type: str | None) -> bool:
    media = (content_type or "").partition(";")[0].strip().lower()
    return media.startswith("text/") or media.endswith(("/xml", "+xml"))


def _decoded(raw: bytes, content_type: str | None) -> str:
    found = _CHARSET.search(content_type or "")
    return raw.decode(found[1] if found else "utf-8")


def _validated(document: Mapping[str, Any], data: Any, model: Value) -> Any:
    adapter = model.adapter  # a type that pydantic cannot read is no fault of the sender's
    try:
        if isinstance(data, bytes):
            return model.validate(data)
        return adapter.validate_json(json.dumps(data))
    except ValidationError as error:
        found = [f"data.{problem}" for problem in problems(error)]
    except Exception as error:  # goes to the sender: a validator of the user's own is broken
        found = [f"data: {type(error).__name__}: {error}"]
    name = getattr(model.hint, "__name__", str(model.hint))
    raise InvalidEventError(document["type"], document["id"], name, found)
