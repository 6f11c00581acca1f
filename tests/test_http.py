"""The HTTP door: what it takes, what it refuses and how it says so.

Most tests talk to the ASGI application without a network; the last ones through a real server.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from cloudevents.core.exceptions import MissingRequiredAttributeError
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount

from edda import EddaApp, WorkflowCancelled, WorkflowContext, http, wait_event, workflow
from edda.cloudevents_http import MAX_BATCH_EVENTS, MAX_JSON_DEPTH, envelopes
from edda.errors import ArgumentError, StoreError, StoreUnavailableError
from edda.http import BearerAuth, WebhookSignature, asgi
from edda.openapi import openapi_document

STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "paid"}
BINARY = {f"ce-{name}": value for name, value in EVENT.items()}


class Payment(BaseModel):
    amount: float
    currency: str


@workflow
async def typed_wait(ctx: WorkflowContext) -> dict:
    event = await wait_event(ctx, "paid", model=Payment)
    return {"amount": event.data.amount}


@workflow
async def plain_wait(ctx: WorkflowContext) -> float:
    event = await wait_event(ctx, "paid")
    return event.data


class Host:
    """A host that remembers what it was given, and fails as it is told."""

    def __init__(self, *, auth=None, max_body_bytes=1 << 20, fails=None, fails_to_open=None):
        self.service_name = "host"
        self.auth = auth
        self.max_body_bytes = max_body_bytes
        self.is_open = False
        self.fails = fails
        self.fails_to_open = fails_to_open
        self.taken = []
        self.opened = 0

    async def initialize(self):
        self.opened += 1
        await asyncio.sleep(0)
        if self.fails_to_open:
            raise self.fails_to_open
        self.is_open = True

    async def shutdown(self):
        self.is_open = False

    async def handle_events(self, envelopes):
        if self.fails:
            raise self.fails
        self.taken += envelopes

    async def find(self, *, limit=100):
        if self.fails:
            raise self.fails
        return []


async def answer(app, method, path, **request) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://edda") as client:
        return await client.request(method, path, **request)


def ask(host, method="POST", path="/events", **request) -> httpx.Response:
    if "json" in request:
        request["content"] = json.dumps(request.pop("json"))
        request["headers"] = {**STRUCTURED, **request.get("headers", {})}
    return asyncio.run(answer(asgi(host), method, path, **request))


def assert_refused(response, status, kind, *fragments, retryable=False):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error", "error_type", "retryable"]
    assert body["error_type"] == kind
    assert body["retryable"] is retryable
    for fragment in fragments:
        assert fragment in body["error"]


def cases(table):
    return [pytest.param(*values, id=name) for name, *values in table]


# ---- Events that are taken -------------------------------------------------------------------

NESTED = json.loads("[" * (MAX_JSON_DEPTH - 1) + "1" + "]" * (MAX_JSON_DEPTH - 1))

TAKEN = [
    ("plain", {}, {}),
    ("null attributes are unset", {"subject": None, "time": None, "ext": None}, {}),
    ("data", {"data": {"a": [1, None, "é"]}}, {"data": {"a": [1, None, "é"]}}),
    ("null data", {"data": None}, {}),
    ("false data", {"data": False}, {"data": False}),
    ("text stays text", {"data": '{"a":1}'}, {"data": '{"a":1}'}),
    ("deep data", {"data": NESTED}, {"data": NESTED}),
    ("time", {"time": "2018-04-05T17:31:00Z"}, {"time": "2018-04-05T17:31:00Z"}),
    ("time in lower case", {"time": "2018-04-05t17:31:00z"}, {"time": "2018-04-05T17:31:00Z"}),
    ("offset", {"time": "2018-04-05T17:31:00+02:00"}, {"time": "2018-04-05T15:31:00Z"}),
    (
        "nanoseconds",
        {"time": "2018-04-05T17:31:00.123456789Z"},
        {"time": "2018-04-05T17:31:00.123456Z"},
    ),
    (
        "extensions",
        {"text": "", "number": -5, "flag": True},
        {"text": "", "number": -5, "flag": True},
    ),
    ("a whole number with a point", {"number": -5.0}, {"number": -5}),
    ("a name of digits", {"2020": "x"}, {"2020": "x"}),
    ("a long name", {"a" * 40: "x"}, {"a" * 40: "x"}),
    ("base64", {"data_base64": "/wA="}, {"data_base64": "/wA="}),
    (
        "base64 of JSON",
        {"datacontenttype": "application/json", "data_base64": "eyJhIjoxfQ=="},
        {"datacontenttype": "application/json", "data": {"a": 1}},
    ),
    (
        "XML as text",
        {"datacontenttype": "application/xml", "data": "<a/>"},
        {"datacontenttype": "application/xml", "data": "<a/>"},
    ),
    (
        "text of a type that is no text",
        {"datacontenttype": "application/octet-stream", "data": "abc"},
        {"datacontenttype": "application/octet-stream", "data_base64": "YWJj"},
    ),
    ("target", {"eddainstanceid": "i-1"}, {"eddainstanceid": "i-1"}),
]


@pytest.mark.parametrize(("given", "stored"), cases(TAKEN))
def test_a_structured_event_is_taken(given, stored):
    """A valid structured event is answered with 202 and handed on as it was meant."""
    host = Host()
    response = ask(host, json={**EVENT, **given})
    assert (response.status_code, response.text) == (202, '{"status":"accepted"}')
    [envelope] = host.taken
    assert envelope.document == {**EVENT, **stored}
    assert (envelope.id, envelope.source, envelope.type) == ("1", "/shop", "paid")
    assert envelope.instance_id == given.get("eddainstanceid")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/cloudevents+json; charset=utf-8",
        "APPLICATION/CloudEvents+JSON",
        "application/cloudevents+json ; charset=UTF-8",
    ],
)
def test_the_content_type_has_no_case_and_may_have_parameters(content_type):
    """Parameters and upper case in the content type change nothing."""
    assert ask(Host(), json=EVENT, headers={"content-type": content_type}).status_code == 202


def test_the_body_of_a_structured_event_wins_over_headers():
    """In structured mode, `ce-` headers that repeat attributes are not looked at."""
    host = Host()
    assert ask(host, json=EVENT, headers={"ce-id": "other", "ce-x": "%C0"}).status_code == 202
    assert host.taken[0].document == EVENT


TAKEN_BINARY = [
    ("no data", {}, b"", {}),
    ("JSON", {"content-type": "application/json"}, b'{"a":1}', {"data": {"a": 1}}),
    ("+json", {"content-type": "application/vnd.x+json"}, b"[1]", {"data": [1]}),
    ("a JSON string", {"content-type": "application/json"}, b'"x"', {"data": "x"}),
    ("text", {"content-type": "text/plain"}, "é".encode(), {"data": "é"}),
    ("latin-1", {"content-type": "text/plain; charset=latin-1"}, b"\xe9", {"data": "é"}),
    ("XML", {"content-type": "application/xml"}, b"<a/>", {"data": "<a/>"}),
    ("bytes", {"content-type": "application/octet-stream"}, b"abc", {"data_base64": "YWJj"}),
    ("no data with a type", {"content-type": "application/json"}, b"", {}),
    (
        "the specification's vector",
        {"ce-subject": "Euro%20%E2%82%AC%20%F0%9F%98%80"},
        b"",
        {"subject": "Euro € 😀"},
    ),
    ("lower-case percents", {"ce-subject": "%e2%82%ac"}, b"", {"subject": "€"}),
    ("needless percents", {"ce-subject": "%61b"}, b"", {"subject": "ab"}),
    ("one round of decoding", {"ce-subject": "100%2525"}, b"", {"subject": "100%25"}),
    ("a stray percent", {"ce-subject": "100%"}, b"", {"subject": "100%"}),
    ("a quoted string", {"ce-subject": r'"a \"b\" \\ %20c"'}, b"", {"subject": 'a "b" \\  c'}),
    ("a backslash outside quotes", {"ce-subject": r"a\b"}, b"", {"subject": r"a\b"}),
    ("time", {"ce-time": "2018-04-05T17%3A31:00Z"}, b"", {"time": "2018-04-05T17:31:00Z"}),
    ("lower case", {"ce-time": "2018-04-05t17:31:00z"}, b"", {"time": "2018-04-05T17:31:00Z"}),
    ("extension", {"ce-number": "5"}, b"", {"number": "5"}),
    ("other headers", {"cookie": "ce", "x-ce-a": "b"}, b"", {}),
]


@pytest.mark.parametrize(("headers", "body", "stored"), cases(TAKEN_BINARY))
def test_a_binary_event_is_taken(headers, body, stored):
    """A valid binary event is taken: attributes from headers, data from the body."""
    host = Host()
    response = ask(host, headers={**BINARY, **headers}, content=body)
    assert response.status_code == 202, response.text
    kept = {"datacontenttype": headers["content-type"]} if "content-type" in headers else {}
    assert host.taken[0].document == {**EVENT, **kept, **stored}


def test_a_batch_is_taken_in_order():
    """The events of a batch are handed on together, in their order."""
    host = Host()
    events = [{**EVENT, "id": str(number)} for number in range(MAX_BATCH_EVENTS)]
    assert ask(host, json=events, headers=BATCH).status_code == 202
    assert [envelope.id for envelope in host.taken] == [event["id"] for event in events]


def test_an_empty_batch_is_taken():
    """A batch of no events is answered with 202."""
    host = Host()
    assert ask(host, json=[], headers=BATCH).status_code == 202
    assert host.taken == []


PLAIN_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | PLAIN_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    texts=st.fixed_dictionaries(
        {name: PLAIN_TEXT.filter(bool) for name in ("id", "source", "type")},
        optional={"subject": PLAIN_TEXT.filter(bool), "ext": PLAIN_TEXT},
    ),
    data=VALUES,
)
def test_an_event_is_the_same_in_every_mode(texts, data):
    """Structured, binary and batch messages of one event give the same envelope."""
    event = {"specversion": "1.0", **texts, "datacontenttype": "application/json", "data": data}
    text = json.dumps(event).encode()
    headers = [
        (f"ce-{name}".encode(), "".join(f"%{byte:02x}" for byte in value.encode()).encode())
        for name, value in event.items()
        if name not in ("data", "datacontenttype")
    ]
    headers.append((b"content-type", b"application/json"))
    [structured] = envelopes("structured", [], text)
    [in_batch] = envelopes("batch", [], b"[%s]" % text)
    [binary] = envelopes("binary", headers, json.dumps(data).encode())
    assert structured == in_batch
    assert structured.document == binary.document
    assert structured.document.get("data") == data


# ---- Events that are refused -----------------------------------------------------------------

TOO_DEEP = json.loads("[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH)

REFUSED = [
    ("no id", {**EVENT, "id": None}, "id is missing"),
    ("no specversion", {**EVENT, "specversion": None}, "specversion is missing"),
    ("empty", {}, "specversion is missing; id is missing; source is missing; type is missing"),
    ("an old version", {**EVENT, "specversion": "0.3"}, "specversion must be \"1.0\", got '0.3'"),
    ("a number as version", {**EVENT, "specversion": 1.0}, "specversion must be a non-empty"),
    ("an empty type", {**EVENT, "type": ""}, "type must be a non-empty string, got ''"),
    ("a number as id", {**EVENT, "id": 5}, "id must be a non-empty string, got 5"),
    ("an empty subject", {**EVENT, "subject": ""}, "subject must be a non-empty string"),
    ("a bad time", {**EVENT, "time": "yesterday"}, "time must be an RFC 3339 timestamp"),
    ("a naive time", {**EVENT, "time": "2018-04-05T17:31:00"}, "time must be an RFC 3339"),
    ("a time of no day", {**EVENT, "time": "2018-02-30T17:31:00Z"}, "time must be an RFC 3339"),
    ("a week as time", {**EVENT, "time": "2018-W01-1T17:31:00Z"}, "time must be an RFC 3339"),
    ("a time outside", {**EVENT, "time": "0001-01-01T00:00:00+02:00"}, "time must be an RFC"),
    ("a number as time", {**EVENT, "time": 5}, "time must be an RFC 3339 timestamp, got 5"),
    ("upper case", {**EVENT, "myExt": "x"}, "lower-case letters and digits, got 'myExt'"),
    ("an underscore", {**EVENT, "my_ext": "x"}, "lower-case letters and digits, got 'my_ext'"),
    ("an object", {**EVENT, "ext": {}}, "ext must be a string, a 32-bit integer or a boolean"),
    ("a fraction", {**EVENT, "ext": 1.5}, "ext must be a string, a 32-bit integer or a bool"),
    ("a large number", {**EVENT, "ext": 2**31}, "ext must be a string, a 32-bit integer"),
    ("a control", {**EVENT, "subject": "a\nb"}, "subject has a character that CloudEvents forbid"),
    ("a noncharacter", {**EVENT, "subject": "\ufffe"}, "subject has a character"),
    ("half a pair", {**EVENT, "ext": "\ud800"}, "ext has a character that CloudEvents forbid"),
    ("half a pair in data", {**EVENT, "data": "\ud800"}, "surrogates not allowed"),
    (
        "half a pair as bytes",
        {**EVENT, "datacontenttype": "a/b", "data": "\ud800"},
        "data has half of a surrogate pair",
    ),
    ("two kinds of data", {**EVENT, "data": 1, "data_base64": "AA=="}, "exclude each other"),
    ("bad base64", {**EVENT, "data_base64": "%%%"}, "data_base64 is not base64"),
    ("unpadded base64", {**EVENT, "data_base64": "AA"}, "data_base64 is not base64"),
    ("a number as base64", {**EVENT, "data_base64": 5}, "data_base64 must be a string, got 5"),
    (
        "base64 of broken JSON",
        {**EVENT, "datacontenttype": "application/json", "data_base64": "ew=="},
        "data is not JSON",
    ),
    (
        "an object as text",
        {**EVENT, "datacontenttype": "text/plain", "data": {}},
        "data must be a string, as it is text/plain",
    ),
    ("no media type", {**EVENT, "datacontenttype": "json"}, "datacontenttype must be like"),
    ("a target that is no text", {**EVENT, "eddainstanceid": 5}, "eddainstanceid must be a non"),
    ("deep data", {**EVENT, "data": TOO_DEEP}, "nests JSON deeper than 64 levels"),
    ("an array", [EVENT], "the event must be a JSON object, got list"),
    ("a string", "x", "the event must be a JSON object, got str"),
    ("null", None, "the event must be a JSON object, got NoneType"),
]


@pytest.mark.parametrize(("event", "fragment"), cases(REFUSED))
def test_a_structured_event_is_refused(event, fragment):
    """An event that breaks the specification is answered with 400, naming what is wrong."""
    host = Host()
    assert_refused(ask(host, json=event), 400, "InvalidCloudEvent", fragment)
    assert host.taken == []


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        (b"", "the body is empty"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not UTF-8 text"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": 1e999}', "'1e999' is too large a number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "the body is not JSON"),
        (b'{"id": "1", "id": "2"}', "'id' is there twice in one object"),
        (b"[" * 100_000, "deeper than 64 levels"),
        (b"\xef\xbb\xbf{}", "the body is not JSON"),
    ],
)
def test_a_body_that_is_no_json_is_refused(body, fragment):
    """What is not strict JSON in UTF-8 is answered with 400."""
    assert_refused(
        ask(Host(), headers=STRUCTURED, content=body), 400, "InvalidCloudEvent", fragment
    )


REFUSED_BINARY = [
    ("no id", [("ce-id", None)], b"", "id is missing"),
    ("empty id", [("ce-id", "")], b"", "id must be a non-empty string"),
    ("an old version", [("ce-specversion", "0.3")], b"", "specversion must be"),
    ("broken JSON", [("content-type", "application/json")], b"{", "data is not JSON"),
    ("text as JSON", [("content-type", "application/json")], b"hello", "data is not JSON"),
    ("latin-1 as JSON", [("content-type", "application/json")], b"\xe9", "data is not UTF-8"),
    ("latin-1 as text", [("content-type", "text/plain")], b"\xe9", "data is not utf-8 text"),
    ("a charset", [("content-type", "text/plain; charset=idna")], b"a", "the charset 'idna'"),
    ("no charset", [("content-type", "text/plain; charset=x")], b"a", "the charset 'x'"),
    ("overlong", [("ce-subject", "%C0%A0")], b"", "the header ce-subject is not UTF-8"),
    ("half an emoji", [("ce-subject", "%F0%9F")], b"", "the header ce-subject is not UTF-8"),
    ("raw bytes", [("ce-subject", "é".encode())], b"", "must be percent-encoded"),
    ("an open quote", [("ce-subject", '"abc')], b"", "has a quote that is not closed"),
    ("a control", [("ce-subject", "a%00")], b"", "subject has a character"),
    ("twice", [("ce-subject", "a"), ("ce-subject", "b")], b"", "ce-subject is given twice"),
    ("content types", [("content-type", "a/b"), ("content-type", "a/b")], b"", "given twice"),
    ("datacontenttype", [("ce-datacontenttype", "a/b")], b"", "ce-datacontenttype is not allowed"),
    ("a dash", [("ce-my-ext", "x")], b"", "lower-case letters and digits, got 'my-ext'"),
    ("data", [("ce-data", "x")], b"", "lower-case letters and digits, got 'data'"),
    ("bad time", [("ce-time", "today")], b"", "time must be an RFC 3339 timestamp, got 'today'"),
]


@pytest.mark.parametrize(("headers", "body", "fragment"), cases(REFUSED_BINARY))
def test_a_binary_event_is_refused(headers, body, fragment):
    """Binary events are held to the same rules, header by header."""
    host = Host()
    given = {name for name, _ in headers}
    sent = [(name, value) for name, value in BINARY.items() if name not in given]
    sent += [(name, value) for name, value in headers if value is not None]
    response = ask(host, headers=sent, content=body)
    assert_refused(response, 400, "InvalidCloudEvent", fragment)
    assert host.taken == []


def test_every_fault_of_an_event_is_named():
    """One answer names all that is wrong, whatever part of the message it is in."""
    headers = {"ce-id": "%C0", "ce-time": "now", "ce-b-c": "x", "content-type": "application/json"}
    response = ask(Host(), headers=headers, content=b"{")
    faults = (
        "the header ce-id is not UTF-8",
        "time must be an RFC 3339",
        "data is not JSON",
        "specversion is missing",
        "source is missing",
        "type is missing",
        "got 'b-c'",
    )
    assert_refused(response, 400, "InvalidCloudEvent", *faults)


def test_a_long_list_of_faults_is_cut():
    """An answer stays short, however much is wrong."""
    response = ask(Host(), json={**EVENT, **{f"A{number}": 1 for number in range(1000)}})
    assert_refused(response, 400, "InvalidCloudEvent", "and 950 more")


def test_a_batch_names_each_bad_member():
    """A batch is refused as a whole, with the index of each member that is wrong."""
    host = Host()
    batch = [EVENT, {**EVENT, "id": ""}, EVENT, 5]
    response = ask(host, json=batch, headers=BATCH)
    assert_refused(
        response,
        400,
        "InvalidCloudEvent",
        "event 1: id must be a non-empty string, got ''; event 3: the event must be a JSON object",
    )
    assert host.taken == []


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        (EVENT, "the body must be a JSON array, got dict"),
        (float("nan"), "the body is not JSON: NaN is no JSON number"),
        ([EVENT] * (MAX_BATCH_EVENTS + 1), "it has 101 events, more than 100"),
    ],
)
def test_a_batch_that_is_none_is_refused(body, fragment):
    """A batch is an array of at most a hundred events."""
    assert_refused(ask(Host(), json=body, headers=BATCH), 400, "InvalidCloudEvent", fragment)


def test_the_sdk_may_be_stricter(monkeypatch):
    """What the SDK refuses and we do not is an invalid event too, and no defect."""

    def refuse(attributes, data):
        raise MissingRequiredAttributeError("newattribute")

    monkeypatch.setattr("edda.cloudevents_http.CloudEvent", refuse)
    assert_refused(ask(Host(), json=EVENT), 400, "InvalidCloudEvent", "'newattribute'")


NAMES = st.sampled_from([*EVENT, "time", "subject", "datacontenttype", "data", "data_base64", "x"])
TYPES = st.sampled_from(["application/json", "text/plain; charset=utf-16", "a/b", "x", "\0/a"])
ODD = st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1.0", "Z"])


@given(
    mode=st.sampled_from(["binary", "structured", "batch"]),
    headers=st.lists(st.tuples(NAMES.map(lambda name: f"ce-{name}".encode()), st.binary())),
    content_type=TYPES,
    body=st.binary()
    | st.dictionaries(NAMES, ODD | TYPES).map(lambda event: json.dumps([event]).encode())
    | st.dictionaries(NAMES, ODD | TYPES).map(lambda event: json.dumps(event).encode()),
)
def test_no_message_is_a_defect(mode, headers, content_type, body):
    """Whatever comes, it is an event or an `ArgumentError`."""
    try:
        read = envelopes(mode, [*headers, (b"content-type", content_type.encode())], body)
    except ArgumentError:
        return
    assert all(envelope.id and envelope.source and envelope.type for envelope in read)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": "application/cloudevents"},
        {"content-type": "application/cloudevents-batch"},
        {"content-type": "application/cloudevents+avro"},
        {"content-type": "application/cloudevents+xml", **BINARY},
        {"content-type": "text/plain"},
        {},
        BINARY,
        {**STRUCTURED, "content-encoding": "gzip"},
    ],
)
def test_a_format_that_is_not_understood_is_refused(headers):
    """What is no CloudEvent in a format known here is answered with 415."""
    response = ask(Host(), headers=headers, content=json.dumps(EVENT).encode())
    assert_refused(response, 415, "UnsupportedMediaType", "application/cloudevents+json")


# ---- Resources -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/events", "/events/", "/"])
def test_events_have_two_addresses(path):
    """`/events` and `/` take events, with or without a trailing slash."""
    assert ask(Host(), path=path, json=EVENT).status_code == 202


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/events", "/", "/cancel/x"])
def test_events_are_posted(method, path):
    """A request that is not POST is answered with 405 and the methods that are."""
    response = ask(Host(), method, path)
    assert response.headers["allow"] == "POST, OPTIONS"
    assert_refused(response, 405, "MethodNotAllowed", f"{path} takes POST, OPTIONS, not {method}")


@pytest.mark.parametrize("path", ["/instances/x", "/healthz", "/openapi.json"])
def test_views_are_read(path):
    """What is only read answers 405 to a POST."""
    response = ask(Host(), "POST", path)
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"
    assert_refused(response, 405, "MethodNotAllowed")


@pytest.mark.parametrize(
    "path", ["/nothing", "/events/x", "/instances", "/instances/", "/cancel/", "/healthz/x"]
)
def test_other_paths_are_not_found(path):
    """Every other path is answered with 404 and the three fields."""
    assert_refused(ask(Host(), path=path, json=EVENT), 404, "NotFound", path)


def test_the_handshake_of_webhooks_is_answered():
    """OPTIONS allows the origin that asks at any rate, even where a token is needed."""
    headers = {"webhook-request-origin": "emitter.example", "webhook-request-rate": "120"}
    response = ask(Host(auth=BearerAuth("secret")), "OPTIONS", headers=headers)
    assert response.status_code == 200
    assert response.headers["allow"] == "POST, OPTIONS"
    assert response.headers["webhook-allowed-origin"] == "emitter.example"
    assert response.headers["webhook-allowed-rate"] == "*"


def test_options_without_an_origin_consents_to_nothing():
    """Without an origin, OPTIONS lists the methods and grants no delivery."""
    response = ask(Host(), "OPTIONS", "/instances/x")
    assert (response.status_code, response.headers["allow"]) == (200, "GET, HEAD, OPTIONS")
    assert "webhook-allowed-origin" not in response.headers


def test_a_prefix_of_the_server_is_not_seen():
    """Behind a prefix (`root_path`) the same resources are there, `""` included."""
    app = asgi(Host())

    async def statuses():
        transport = httpx.ASGITransport(app, root_path="/hooks")
        async with httpx.AsyncClient(transport=transport, base_url="http://edda") as client:
            return [
                (await client.post(path, headers=STRUCTURED, content=json.dumps(EVENT))).status_code
                for path in ("/hooks/events", "/hooks", "/hooks/", "/hooks/x", "/hooksx")
            ]

    assert asyncio.run(statuses()) == [202, 202, 202, 404, 404]


def test_a_mounted_app_works():
    """Mounted in a Starlette application, the first request opens the app."""
    host = Host()
    outer = Starlette(routes=[Mount("/workflows", app=asgi(host))])
    request = {"headers": STRUCTURED, "content": json.dumps(EVENT)}
    response = asyncio.run(answer(outer, "POST", "/workflows/events", **request))
    assert (response.status_code, host.is_open) == (202, True)


@pytest.mark.parametrize("query", ["result=2", "result=", "result=true", "result=1&result=1"])
def test_a_query_that_is_not_understood_is_refused(query):
    """`result` is 1 or 0, once; nothing else is guessed at."""
    response = ask(Host(), "GET", f"/instances/x?{query}")
    assert_refused(response, 400, "InvalidQuery", "result must be 1 or 0, once, got ")


def test_a_path_with_half_a_pair_is_not_found():
    """Half of a surrogate pair in a path, which some servers let through, breaks nothing."""
    scope = {"type": "http", "method": "GET", "path": "/x\ud800", "headers": []}
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    asyncio.run(asgi(Host())({**scope, "query_string": b""}, receive, send))
    assert sent[0]["status"] == 404
    assert json.loads(sent[1]["body"])["error"] == "There is nothing at /x?."


# ---- What the door says of itself ------------------------------------------------------------


def document(host, prefix=""):
    async def read():
        transport = httpx.ASGITransport(asgi(host), root_path=prefix)
        async with httpx.AsyncClient(transport=transport, base_url="http://edda") as client:
            return await client.get(f"{prefix}/openapi.json", headers={"authorization": "Bearer a"})

    response = asyncio.run(read())
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    return response.json()


def test_the_document_names_every_path_and_method():
    """What the door takes is in the document, under the prefix it is reached by."""
    told = document(Host(max_body_bytes=5000), "/hooks")
    assert (told["openapi"], told["servers"]) == ("3.1.0", [{"url": "/hooks"}])
    assert told["info"]["title"] == "host: workflows over HTTP"
    assert "at most 5,000 bytes" in told["info"]["description"]
    assert {path: sorted(operations) for path, operations in told["paths"].items()} == {
        "/events": ["options", "post"],
        "/": ["options", "post"],
        "/instances/{id}": ["get"],
        "/cancel/{id}": ["post"],
        "/healthz": ["get"],
        "/openapi.json": ["get"],
    }
    statuses = told["paths"]["/events"]["post"]["responses"]
    assert list(statuses) == ["202", "400", "413", "415", "405", "500", "503"]


def test_every_reference_of_the_document_leads_somewhere():
    """A `$ref` points to a component that is there."""
    told = document(Host())
    references = re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(told))
    assert references
    assert all(name in told["components"][kind] for kind, name in references)


@pytest.mark.parametrize(
    ("auth", "schemes"),
    [
        (BearerAuth("a", "b"), ["bearer", "accessToken"]),
        (None, []),
    ],
)
def test_the_document_says_who_may_call(auth, schemes):
    """With auth, all but OPTIONS and health ask for it, and may answer 401."""
    told = document(Host(auth=auth))
    assert [name for entry in told.get("security", []) for name in entry] == schemes
    asks = {
        path: "401" in operation["responses"]
        for path, operations in told["paths"].items()
        for method, operation in operations.items()
        if method != "options"
    }
    assert asks == {path: path != "/healthz" and auth is not None for path in asks}


def test_the_document_of_signed_webhooks():
    """A signature is described as the header that carries it."""
    told = openapi_document("x", root_path="", max_body_bytes=1, auth=WebhookSignature(SECRET))
    assert told["components"]["securitySchemes"]["signature"]["name"] == "webhook-signature"
    assert told["servers"] == [{"url": "/"}]


def test_a_head_has_no_body():
    """HEAD gives the headers of a GET, and no body even where the server lets one through."""
    response = ask(Host(), "HEAD", "/healthz")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "15"


def test_a_websocket_is_closed():
    """A WebSocket is closed at once: there is none here."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(asgi(Host())({"type": "websocket"}, None, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_another_protocol_is_an_error():
    """A scope that ASGI may add one day is said to be unknown."""
    with pytest.raises(NotImplementedError) as caught:
        asyncio.run(asgi(Host())({"type": "carrier pigeon"}, None, None))
    assert str(caught.value) == "edda's HTTP door does not speak 'carrier pigeon'."


# ---- Limits ----------------------------------------------------------------------------------


def test_a_body_at_the_limit_is_taken():
    """A body of exactly the limit passes."""
    body = json.dumps(EVENT).encode()
    host = Host(max_body_bytes=len(body))
    assert ask(host, headers=STRUCTURED, content=body).status_code == 202
    assert_refused(
        ask(host, headers=STRUCTURED, content=body + b" "),
        413,
        "PayloadTooLarge",
        f"The body is longer than {len(body):,} bytes.",
    )


def told_to_a_long_body(receive, headers):
    """What an app that takes 1,000 bytes sends to a POST whose body `receive` gives."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/events",
        "query_string": b"",
        "headers": headers,
    }
    asyncio.run(asgi(Host(max_body_bytes=1000))(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        ([], 3 + 20),
        ([(b"content-length", b"1001")], 20),
        ([(b"content-length", b"1001"), (b"expect", b"100-continue")], 0),
        ([(b"content-length", b"9" * 5000), (b"expect", b"100-continue")], 0),
        ([(b"content-length", b"-1")], 3 + 20),
        ([(b"content-length", "²".encode("latin-1"))], 3 + 20),
    ],
)
def test_a_long_body_is_not_read_to_its_end(headers, count):
    """Eight times the limit is read and forgotten, so that who still sends sees the answer.

    Nothing is when the sender waits to be asked for the body.
    """
    read = 0

    async def receive():
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 400, "more_body": True}

    sent = told_to_a_long_body(receive, headers)
    assert (sent[0]["status"], read) == (413, count)
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_long_body_that_does_not_come_is_not_waited_for(monkeypatch):
    """Who announces a body that is too long, and sends nothing, has the answer after a moment."""
    monkeypatch.setattr(http, "DISCARD_SECONDS", 0.01)

    async def receive():
        await asyncio.sleep(60)

    sent = told_to_a_long_body(receive, [(b"content-length", b"1001")])
    assert sent[0]["status"] == 413


def test_a_sender_that_went_away_is_not_answered():
    """When the sender disconnects in the middle of its body, nothing is accepted or said."""
    host = Host()

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError(message)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/", "headers": []}
    asyncio.run(asgi(host)(scope, receive, send))
    assert host.taken == []


# ---- Trouble ---------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["open", "take"])
@pytest.mark.parametrize("error", [StoreUnavailableError("db.example"), StoreError("db.example")])
def test_a_store_that_does_not_answer_is_retryable(when, error, caplog):
    """A store in trouble is a 503 that says when to come back, with its details in the log only."""
    host = Host(fails_to_open=error) if when == "open" else Host(fails=error)
    response = ask(host, json=EVENT)
    assert response.headers["retry-after"] == "1"
    kind = type(error).__name__
    assert_refused(response, 503, kind, "The store cannot be reached now", retryable=True)
    assert str(error) not in response.text
    assert str(error) in caplog.text


def test_a_defect_is_retryable(caplog):
    """A defect of ours is a 500 that says nothing of itself, and is logged."""
    response = ask(Host(fails=ZeroDivisionError("secret")), json=EVENT)
    assert response.headers["retry-after"] == "1"
    assert_refused(response, 500, "InternalServerError", retryable=True)
    assert "secret" not in response.text
    assert "ZeroDivisionError: secret" in caplog.text


def test_health_is_that_the_store_answers():
    """`/healthz` asks the store."""
    response = ask(Host(), "GET", "/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    sick = ask(Host(fails=StoreUnavailableError("x")), "GET", "/healthz")
    assert_refused(sick, 503, "StoreUnavailableError", retryable=True)


def test_many_first_requests_open_the_app_once():
    """Where no lifespan comes, the first request opens the app, and only the first."""
    host = Host()

    async def many():
        app = asgi(host)
        request = {"headers": STRUCTURED, "content": json.dumps(EVENT)}
        await asyncio.gather(*(answer(app, "POST", "/events", **request) for _ in range(5)))

    asyncio.run(many())
    assert (host.opened, len(host.taken)) == (1, 5)


def live(host, *after_startup):
    """Run the lifespan of a server, and return what the app answered."""
    messages = ["lifespan.startup", *after_startup]
    sent = []

    async def receive():
        return {"type": messages.pop(0)}

    async def send(message):
        sent.append((message["type"], host.is_open))

    asyncio.run(asgi(host)({"type": "lifespan"}, receive, send))
    return sent


def test_the_lifespan_opens_and_closes_the_app():
    """A server's start opens the app and its end closes it."""
    host = Host()
    assert live(host, "lifespan.shutdown") == [
        ("lifespan.startup.complete", True),
        ("lifespan.shutdown.complete", False),
    ]


def test_the_lifespan_leaves_an_open_app_alone():
    """An app that was open before the server started is not closed by it."""
    host = Host()
    asyncio.run(host.initialize())
    assert live(host, "lifespan.shutdown")[-1] == ("lifespan.shutdown.complete", True)
    assert host.opened == 1


@pytest.mark.parametrize("error", [StoreError("no database"), ZeroDivisionError("oh")])
def test_a_server_does_not_start_without_the_app(error, caplog):
    """An app that cannot be opened fails the server's start, and a defect is logged."""
    assert live(Host(fails_to_open=error)) == [("lifespan.startup.failed", False)]
    assert ("oh" in caplog.text) == isinstance(error, ZeroDivisionError)


def test_a_closed_app_is_not_opened_again():
    """After the server's end, a late request is told to come back and opens nothing."""
    host = Host()
    app = asgi(host)
    messages = ["lifespan.startup", "lifespan.shutdown"]

    async def run():
        async def receive():
            return {"type": messages.pop(0)}

        async def send(message):
            pass

        await app({"type": "lifespan"}, receive, send)
        return await answer(app, "GET", "/healthz")

    assert_refused(asyncio.run(run()), 503, "ShuttingDown", retryable=True)
    assert host.opened == 1


# ---- Who may call ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/events", {"authorization": "Bearer sesame"}, 202),
        ("/events", {"authorization": "bearer  sesame"}, 202),
        ("/events?access_token=sesame&x=1", {}, 202),
        ("/events", {}, 401),
        ("/events", {"authorization": "Bearer sesam"}, 401),
        ("/events", {"authorization": "Basic sesame"}, 401),
        ("/events", {"authorization": "Bearer é".encode("latin-1")}, 401),
        ("/events?access_token=", {}, 401),
        ("/nothing", {}, 401),
        ("/instances/x", {}, 401),
    ],
)
def test_a_bearer_token_is_asked_for(path, headers, status):
    """With a token set, every request must carry it, in the header or in the query."""
    sent = {**STRUCTURED, **headers}
    response = ask(Host(auth=BearerAuth("sesame")), path=path, headers=sent, json=EVENT)
    assert response.status_code == status
    if status == 401:
        assert response.headers["www-authenticate"] == "Bearer"
        assert_refused(response, 401, "Unauthorized", "Send the header `Authorization: Bearer")


def test_health_needs_no_token():
    """`/healthz` is open to anybody."""
    assert ask(Host(auth=BearerAuth("sesame")), "GET", "/healthz").status_code == 200


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def signed(body: bytes, *, age: float = 0, secret: str = SECRET) -> dict[str, str]:
    at = str(int(time.time() - age))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, b"msg_1." + at.encode() + b"." + body, hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{'A' * 44} v2,x v1,{signature}",
    }


BODY = json.dumps(EVENT).encode()


@pytest.mark.parametrize(
    ("how", "changed", "status"),
    [
        ({}, {}, 202),
        ({"age": 290}, {}, 202),
        ({"body": b"other"}, {}, 401),
        ({"secret": base64.b64encode(b"another").decode()}, {}, 401),
        ({"age": 310}, {}, 401),
        ({"age": -310}, {}, 401),
        ({}, {"webhook-timestamp": "now"}, 401),
        ({}, {"webhook-id": "msg_2"}, 401),
        ({}, {"webhook-id": ""}, 401),
        ({}, {"webhook-signature": ""}, 401),
    ],
)
def test_a_signature_is_asked_for(how, changed, status):
    """With a secret set, a request must be signed with it, over its body and not long ago."""
    host = Host(auth=WebhookSignature(SECRET))
    headers = {**STRUCTURED, **signed(**{"body": BODY, **how}), **changed}
    response = ask(host, headers=headers, content=BODY)
    assert (response.status_code, len(host.taken)) == (status, int(status == 202))
    if status == 401:
        assert_refused(response, 401, "Unauthorized", "webhook-signature")


@pytest.mark.parametrize(
    "secret", [SECRET, SECRET[6:], base64.b64decode(SECRET[6:])], ids=["prefix", "bare", "bytes"]
)
def test_the_vector_of_standard_webhooks_passes(secret, monkeypatch):
    """The signature that the specification's own tests expect is accepted."""
    monkeypatch.setattr("edda.auth.time.time", lambda: 1614265330.0)
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    response = ask(Host(auth=WebhookSignature(secret)), headers=headers, content=body)
    assert response.status_code == 415  # who sends it is clear; it is no CloudEvent


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: BearerAuth(""), "BearerAuth: token must be a non-empty string"),
        (lambda: WebhookSignature("whsec_%"), "WebhookSignature: secret must be base64"),
        (lambda: WebhookSignature(""), "WebhookSignature: secret must be non-empty text or bytes"),
        (
            lambda: asgi(Host(auth="sesame")),
            "EddaApp: auth must be a BearerAuth or a WebhookSignature, got str",
        ),
    ],
)
def test_a_secret_that_protects_nothing_is_refused(make, sentence):
    """An empty or malformed secret, or an auth that is none, is an error and never an open door."""
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == sentence


@pytest.mark.parametrize("secret", [SECRET, "whsec_b3RoZXI="])
def test_keys_can_be_changed_over(secret):
    """Of several secrets any will do, so that senders can change one by one."""
    auth = WebhookSignature(SECRET, "whsec_b3RoZXI=")
    headers = {**STRUCTURED, **signed(BODY, secret=secret)}
    assert ask(Host(auth=auth), headers=headers, content=BODY).status_code == 202
    headers = {**STRUCTURED, **signed(BODY, secret="whsec_dGhpcmQ=")}
    assert ask(Host(auth=auth), headers=headers, content=BODY).status_code == 401


def test_tokens_can_be_changed_over():
    """Of several tokens any will do; an empty one among them is refused."""
    host = Host(auth=BearerAuth("old", "new"))
    for token, status in (("old", 202), ("new", 202), ("", 401), ("oldnew", 401)):
        headers = {"authorization": f"Bearer {token}"}
        assert ask(host, headers=headers, json=EVENT).status_code == status
    with pytest.raises(ArgumentError):
        BearerAuth("old", "")


@pytest.mark.parametrize("auth", [BearerAuth("sesame"), WebhookSignature(SECRET)])
def test_every_comparison_is_made(auth, monkeypatch):
    """Secrets are compared in constant time, all of them, and never with `==`."""
    compared = []
    compare = hmac.compare_digest

    def watched(one, other):
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr("edda.auth.hmac.compare_digest", watched)
    headers = {**STRUCTURED, **signed(BODY), "authorization": "Bearer sesame"}
    assert ask(Host(auth=auth), headers=headers, content=BODY).status_code == 202
    assert len(compared) == (1 if isinstance(auth, BearerAuth) else 3)


def test_a_secret_is_not_shown():
    """A repr does not tell the secret."""
    assert (repr(BearerAuth("a")), repr(WebhookSignature(SECRET))) == (
        "BearerAuth(...)",
        "WebhookSignature(...)",
    )


# ---- With the engine behind it ---------------------------------------------------------------


@pytest.fixture
def app():
    return EddaApp("http-tests", "memory://", workflows=[typed_wait, plain_wait])


def post(app, event, **headers):
    content = json.dumps(event)
    return answer(app, "POST", "/events", headers={**STRUCTURED, **headers}, content=content)


async def until_waiting(app, *instances):
    async with asyncio.timeout(10):
        while {await app.status(one) for one in instances} != {"waiting_for_event"}:
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_an_event_over_http_answers_a_wait(app):
    """An accepted event resumes the instance, and its outcome can be read."""
    async with app:
        run = await app.start(plain_wait)
        await until_waiting(app, run)
        waiting = (await answer(app, "GET", f"/instances/{run}?result=1")).json()
        assert (waiting["id"], waiting["workflow"]) == (run, "plain_wait")
        assert waiting["status"] == "waiting_for_event"
        assert waiting["waiting_for"] == [{"id": "wait_event_paid:1", "type": "paid"}]
        assert waiting["result"] is None
        assert (await post(app, {**EVENT, "data": 9.5})).status_code == 202
        assert await app.result(run, timeout=10) == 9.5
        view = (await answer(app, "GET", f"/instances/{run}/")).json()
        assert set(view) == {
            "id",
            "workflow",
            "status",
            "waiting_for",
            "started_at",
            "updated_at",
            "due",
        }
        assert (view["status"], view["waiting_for"]) == ("completed", [])
        assert (await answer(app, "GET", f"/instances/{run}?result=1")).json()["result"] == 9.5


@pytest.mark.asyncio
async def test_a_duplicate_is_accepted_and_changes_nothing(app):
    """The same source and id again is answered with 202, and nothing is taken twice."""
    async with app:
        first, second = await app.start(plain_wait), await app.start(plain_wait)
        await until_waiting(app, first, second)
        for data in (1.0, 2.0):
            assert (await post(app, {**EVENT, "data": data})).status_code == 202
        assert [await app.result(one, timeout=10) for one in (first, second)] == [1.0, 1.0]


@pytest.mark.asyncio
async def test_data_that_every_wait_refuses_is_a_400(app):
    """Data that does not fit the model is refused with each field named, and may be corrected."""
    async with app:
        run = await app.start(typed_wait)
        await until_waiting(app, run)
        response = await post(app, {**EVENT, "data": {"amount": "much"}})
        assert_refused(response, 400, "InvalidEventError", "data.amount: ", "data.currency: ")
        assert await app.status(run) == "waiting_for_event"
        right = {**EVENT, "data": {"amount": 5, "currency": "EUR"}}
        assert (await post(app, right)).status_code == 202
        assert await app.result(run, timeout=10) == {"amount": 5.0}


@pytest.mark.asyncio
async def test_a_batch_with_refused_data_is_refused_as_a_whole(app):
    """A member that its wait refuses is named by its index, and none of the batch is stored."""
    async with app:
        run = await app.start(typed_wait)
        await until_waiting(app, run)
        batch = [{**EVENT, "type": "other"}, {**EVENT, "id": "2", "data": {}}]
        response = await answer(app, "POST", "/events", headers=BATCH, content=json.dumps(batch))
        assert_refused(response, 400, "InvalidEventError", "event 1: The event 'paid' (id '2')")
        assert await app.status(run) == "waiting_for_event"


@pytest.mark.asyncio
async def test_an_instance_can_be_cancelled(app):
    """A cancellation is accepted once; a finished instance answers 409, an unknown one 404."""
    async with app:
        run = await app.start(plain_wait, instance_id="shop/1")
        await until_waiting(app, run)
        response = await answer(app, "POST", f"/cancel/{run}")
        assert (response.status_code, response.json()) == (202, {"status": "accepted"})
        with pytest.raises(WorkflowCancelled):
            await app.result(run, timeout=10)
        again = await answer(app, "POST", "/cancel/shop%2F1/")
        assert_refused(again, 409, "InstanceFinished", "'shop/1' is cancelled already")
        for method, path in (("POST", "/cancel/none"), ("GET", "/instances/none")):
            unknown = await answer(app, method, path)
            assert_refused(unknown, 404, "InstanceNotFoundError", "no instance 'none'")


def test_the_door_says_what_to_install():
    """Without Starlette, the door names the command that installs it."""
    script = "import sys; sys.modules['starlette'] = None; import edda.http"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith('Run: pip install "edda-durable[http]"\n')


# ---- Through a real server -------------------------------------------------------------------


@contextmanager
def served(app) -> Iterator[int]:
    """The app behind uvicorn in a thread; the port it listens on."""
    config = uvicorn.Config(app, port=0, lifespan="on", ws="none", log_level=logging.ERROR)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


CURL = """\
curl -X POST http://localhost:8001/events \\
-H "Content-Type: application/cloudevents+json" \\
-d '{
"specversion": "1.0",
"type": "payment.completed",
"source": "payment-service",
"id": "event-123",
"datacontenttype": "application/json",
"data": {
"order_id": "ORD-123",
"transaction_id": "TXN-456",
"amount": 99.99,
"status": "success"
}
}'
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_command_of_the_page_works():
    """The page's own curl command, with another port, is answered with 202 by a real server."""
    host = Host()
    with served(asgi(host)) as port:
        command = CURL.replace("8001", str(port)).replace("curl ", "curl -sS -w ' %{http_code}' ")
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, text=True, check=False
        )
    assert (done.stdout, done.stderr) == ('{"status":"accepted"} 202', "")
    assert host.taken[0].document["data"]["amount"] == 99.99
    assert not host.is_open


def test_a_real_server_stops_reading_a_body_without_end():
    """A body that never ends is answered with 413 and the connection is closed."""
    request = b"POST /events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n400\r\n"
    received = b""
    with (
        served(asgi(Host(max_body_bytes=1000))) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        connection.sendall(request + b"x" * 0x400 + b"\r\n")
        while chunk := connection.recv(4096):
            received += chunk
    assert received.startswith(b"HTTP/1.1 413 ")
    assert received.endswith(b'"error_type":"PayloadTooLarge","retryable":false}')
