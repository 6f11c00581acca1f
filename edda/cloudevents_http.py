"""CloudEvents 1.0 as HTTP carries them: headers and a body in, envelopes out.

The CloudEvents SDK maps headers, calls the format and builds the event. Where it is more
lenient than the specification, the specification decides: `_Strict` stands in for the SDK's
JSON format and event factory, and collects everything that is wrong instead of the first.

- The content type chooses the mode, never the presence of a `ce-` header.
- Nothing is invented: an event without an id is refused.
- The same event gives the same envelope in every mode (in binary mode extensions are strings).

Pure: no server, no store, no clock. Absent: sending, which is `edda.events`.
"""

import base64
import binascii
import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from cloudevents.core.base import BaseCloudEvent, EventFactory
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from edda.errors import ArgumentError, sentence
from edda.events import TARGET, Envelope, as_envelope

__all__ = ["FORBIDDEN", "MAX_BATCH_EVENTS", "MAX_JSON_DEPTH", "Mode", "content_mode", "envelopes"]

MAX_BATCH_EVENTS = 100
MAX_JSON_DEPTH = 64
_MAX_FAULTS = 50  # an answer names at most so many of one event

Mode = Literal["binary", "structured", "batch"]
Headers = Iterable[tuple[bytes, bytes]]  # names in lower case, as ASGI has them


def content_mode(headers: Headers, body: bytes) -> Mode | None:
    """How the message carries its events; None for a format that is not understood (415)."""
    named = dict(headers)
    if named.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return None
    content_type = named.get(b"content-type", b"").lower()
    media = content_type.partition(b";")[0].strip()
    if media.startswith(b"application/cloudevents"):
        return _MODES.get(media)
    is_binary = any(name.startswith(b"ce-") for name in named)
    # Without a content type there can be an event without data, and nothing else.
    return "binary" if is_binary and (media or not body) else None


def envelopes(mode: Mode, headers: Headers, body: bytes) -> list[Envelope]:
    """The events of a message. Raises `ArgumentError` that names everything that is wrong."""
    match mode:
        case "binary":
            return [_binary(headers, body)]
        case "structured":
            return [_structured(body)]
        case "batch":
            return _batch(body)


_MODES: dict[bytes, Mode] = {
    b"application/cloudevents+json": "structured",
    b"application/cloudevents-batch+json": "batch",
}


def _binary(headers: Headers, body: bytes) -> Envelope:
    strict = _Strict()
    message = HTTPMessage(strict.headers(headers), body)
    return strict.envelope(partial(from_binary, message, strict, strict.event))


def _structured(body: bytes) -> Envelope:
    strict = _Strict()
    message = HTTPMessage({}, body)
    return strict.envelope(partial(from_structured, message, strict, strict.event))


def _batch(body: bytes) -> list[Envelope]:
    try:
        members = _json(body)
    except ValueError as error:
        raise ArgumentError("CloudEvents batch", [f"the body {error}"]) from error
    if not isinstance(members, list):
        found = type(members).__name__
        raise ArgumentError("CloudEvents batch", [f"the body must be a JSON array, got {found}"])
    if len(members) > MAX_BATCH_EVENTS:
        raise ArgumentError(
            "CloudEvents batch",
            [f"it has {len(members)} events, more than {MAX_BATCH_EVENTS}; send several batches"],
        )
    read, faults = [], []
    for index, member in enumerate(members):
        strict = _Strict()
        try:
            read.append(strict.envelope(partial(strict.read_value, strict.event, member)))
        except ArgumentError as error:
            faults.append(f"event {index}: " + ", ".join(error.problems))
    if faults:
        raise ArgumentError("CloudEvents batch", faults)
    return read


class _Strict(JSONFormat):
    """The SDK's JSON format and event factory for one event, as strict as the specification."""

    def __init__(self) -> None:
        self._faults: list[str] = []

    def envelope(self, parse: partial[BaseCloudEvent]) -> Envelope:
        """What `parse` makes of the message. Raises `ArgumentError` with all that was found."""
        try:
            event = parse()
            made = as_envelope(event.get_attributes(), event.get_data())
            made.text.encode()
        except ArgumentError as error:
            self._faults += error.problems
        except UnicodeEncodeError:
            self._faults.append("data has half of a surrogate pair, which is no character")
        except (ValueError, BaseCloudEventException) as error:
            self._faults.append(str(error))  # the SDK is stricter than we are
        if self._faults:
            raise ArgumentError("CloudEvent", _listed(self._faults))
        return made

    # ---- Headers, before the SDK maps them -----------------------------------------------------

    def headers(self, headers: Headers) -> dict[str, str]:
        """The headers that make the event, unquoted, and known to decode."""
        kept: dict[str, str] = {}
        for name, raw in ((name.decode("latin-1").lower(), raw) for name, raw in headers):
            if name != "content-type" and not name.startswith("ce-"):
                continue
            if name in kept:
                self._faults.append(f"the header {name} is given twice")
            kept[name] = ""
            if name == "ce-datacontenttype":
                self._faults.append(
                    "the header ce-datacontenttype is not allowed: the header content-type says it"
                )
                continue
            try:
                kept[name] = raw.decode("ascii") if name == "content-type" else _unquoted(raw)
            except ValueError as error:
                self._faults.append(f"the header {name} {error}")
        if "ce-time" in kept and self._time(unquote_to_bytes(kept["ce-time"]).decode()) is None:
            del kept["ce-time"]
        return {name: text for name, text in kept.items() if name != "ce-datacontenttype"}

    def read(self, event_factory: EventFactory | None, data: str | bytes) -> BaseCloudEvent:
        """The event of a structured message."""
        try:
            value = _json(data.encode() if isinstance(data, str) else data)
        except ValueError as error:
            raise ArgumentError("CloudEvent", [f"the body {error}"]) from error
        return self.read_value(event_factory or self.event, value)

    def read_value(self, event_factory: EventFactory, value: object) -> BaseCloudEvent:
        """The event of a JSON value."""
        if not isinstance(value, dict):
            found = type(value).__name__
            raise ArgumentError("CloudEvent", [f"the event must be a JSON object, got {found}"])
        attributes = {name: _whole(name, item) for name, item in value.items() if item is not None}
        data, coded = attributes.pop("data", None), attributes.pop("data_base64", None)
        if "time" in attributes:
            time = self._time(attributes.pop("time"))
            attributes |= {} if time is None else {"time": time}
        content_type = attributes.get("datacontenttype")
        kind = _kind(content_type) if isinstance(content_type, str) else "json"
        if coded is not None:
            if data is not None:
                self._faults.append("data and data_base64 exclude each other")
            raw = self._decoded(coded)
            # With no content type, what came as bytes stays bytes.
            data = raw if content_type is None or raw is None else self._data(raw, content_type)
        elif data is not None and kind != "json":
            if not isinstance(data, str):
                self._faults.append(f"data must be a string, as it is {content_type}")
            elif kind == "bytes":
                data = data.encode()
        return event_factory(attributes, data)

    def read_data(self, body: bytes, datacontenttype: str | None) -> Any:
        """The data of a binary message."""
        return self._data(body, datacontenttype) if body else None

    def _data(self, raw: bytes, content_type: object) -> Any:
        content_type = content_type if isinstance(content_type, str) else None
        try:
            match _kind(content_type):
                case "json":
                    return _json(raw)
                case "text":
                    return raw.decode(_charset(content_type))
                case "bytes":
                    return raw
        except UnicodeDecodeError as error:
            self._faults.append(f"data is not {error.encoding} text: {error.reason}")
        except ValueError as error:
            self._faults.append(f"data {error}, and it is {content_type or 'application/json'}")
        return None

    def _decoded(self, coded: object) -> bytes | None:
        try:
            if isinstance(coded, str):
                return base64.b64decode(coded, validate=True)
            self._faults.append(f"data_base64 must be a string, got {sentence(coded)}")
        except (binascii.Error, ValueError) as error:
            self._faults.append(f"data_base64 is not base64: {error}")
        return None

    # ---- The event -------------------------------------------------------------------------------

    def event(self, attributes: dict[str, Any], data: Any) -> CloudEvent:
        """The SDK's event. Raises `ArgumentError` with everything that was found wrong."""
        self._faults += [f"{name} is missing" for name in _REQUIRED if name not in attributes]
        for name, value in attributes.items():
            fault = _fault(name, value)
            if fault is not None:
                self._faults.append(fault)
        if self._faults:
            raise ArgumentError("CloudEvent", [])
        event = CloudEvent(dict(attributes), data)
        if "time" not in attributes:
            event.get_attributes().pop("time", None)  # the SDK invents one
        return event

    def _time(self, text: object) -> datetime | None:
        try:
            if isinstance(text, str) and _RFC_3339.fullmatch(text):
                time = datetime.fromisoformat(text.upper())
                time.astimezone(UTC)
                return time
        except (ValueError, OverflowError):
            pass  # said below
        self._faults.append(f"time must be an RFC 3339 timestamp, got {sentence(text)}")
        return None


# ---- What the specification says -------------------------------------------------------------

_REQUIRED = ("specversion", "id", "source", "type")
_TEXTS = (*_REQUIRED, "subject", "datacontenttype", "dataschema", TARGET)
_NAME = re.compile(r"[a-z0-9]+")
_MEDIA_TYPE = re.compile(r"[^\s/;,]+/[^\s/;,]+\s*(;.*)?", re.ASCII)
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
# Controls and what Unicode calls noncharacters. Patterns of JSON Schema cannot name surrogates.
_ENDS = "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
FORBIDDEN = f"\\x00-\\x1f\\x7f-\\x9f\\ufdd0-\\ufdef{_ENDS}"
_FORBIDDEN = re.compile(f"[\\ud800-\\udfff{FORBIDDEN}]")
_QUOTING = frozenset('"\\')
# A charset that is not among these is refused: some of Python's are slow, or no text at all.
_CHARSETS = frozenset("ascii cp1252 iso8859-1 iso8859-15 utf-16 utf-16-be utf-16-le utf-8".split())


def _fault(name: str, value: object) -> str | None:
    """What is wrong with an attribute, or None. URIs and media types are taken as they come."""
    if not _NAME.fullmatch(name) or name == "data":
        return f"attribute names are lower-case letters and digits, got {sentence(name)}"
    if name == "time":
        return None  # checked where it was read
    if name in _TEXTS and not (isinstance(value, str) and value):
        return f"{name} must be a non-empty string, got {sentence(value)}"
    if not isinstance(value, str):
        if isinstance(value, bool) or (isinstance(value, int) and -(2**31) <= value < 2**31):
            return None
        return f"{name} must be a string, a 32-bit integer or a boolean, got {sentence(value)}"
    if name == "specversion" and value != "1.0":
        return f'specversion must be "1.0", got {sentence(value)}'
    if name == "datacontenttype" and not _MEDIA_TYPE.fullmatch(value):
        return f'datacontenttype must be like "application/json", got {sentence(value)}'
    if _FORBIDDEN.search(value):
        return f"{name} has a character that CloudEvents forbid: {sentence(value)}"
    return None


def _whole(name: str, value: Any) -> Any:
    # 5.0 is an integer for JSON Schema, and so for our own description of extensions.
    is_whole = isinstance(value, float) and value.is_integer() and name not in (*_TEXTS, "data")
    return int(value) if is_whole else value


def _unquoted(raw: bytes) -> str:
    """A header's value, still percent-encoded. Raises `ValueError` saying what it is not."""
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("has characters outside ASCII, which must be percent-encoded") from None
    text = _unescaped(text)
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 when percent-decoded: {error.reason}") from None
    return text


def _unescaped(text: str) -> str:
    """A header's value without the quotes and backslashes of its quoted strings (RFC 7230)."""
    kept, in_quotes, in_escape = [], False, False
    for char in text:
        if in_escape or char not in _QUOTING:
            kept.append(char)
            in_escape = False
        elif char == '"':
            in_quotes = not in_quotes
        elif in_quotes:
            in_escape = True
        else:
            kept.append(char)
    if in_quotes:
        raise ValueError("has a quote that is not closed")
    return "".join(kept)


def _listed(faults: list[str]) -> list[str]:
    faults = list(dict.fromkeys(faults))
    more = len(faults) - _MAX_FAULTS
    return faults if more <= 0 else [*faults[:_MAX_FAULTS], f"and {more} more"]


def _kind(content_type: str | None) -> Literal["json", "text", "bytes"]:
    media = (content_type or "application/json").partition(";")[0].strip().lower()
    if media.endswith(("/json", "+json")):
        return "json"
    return "text" if media.startswith("text/") or media.endswith(("/xml", "+xml")) else "bytes"


def _charset(content_type: str | None) -> str:
    found = re.search(r';\s*charset\s*=\s*"?([^";\s]+)', content_type or "", re.IGNORECASE)
    if found is None:
        return "utf-8"
    try:
        name = codecs.lookup(found[1]).name
    except LookupError:
        name = ""
    if name not in _CHARSETS:
        raise ValueError(f"has the charset {sentence(found[1])}, which is not known here")
    return name


# ---- JSON ------------------------------------------------------------------------------------


def _json(raw: bytes) -> Any:
    """The value of JSON text. Raises `ValueError` saying what it is not."""
    try:
        value = json.loads(
            raw.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}" if raw.strip() else "is empty") from error
    if _is_deeper(value, MAX_JSON_DEPTH):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"nests JSON deeper than {MAX_JSON_DEPTH} levels"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{sentence(name)} is there twice in one object")
    return made


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{sentence(text)} is too large a number")
    return number


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        inner = [one for one in layer if isinstance(one, dict | list)]
        layer = [item for one in inner for item in (one.values() if isinstance(one, dict) else one)]
    return any(isinstance(one, dict | list) for one in layer)
