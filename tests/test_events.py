"""Envelopes, matching and received events: values in, values out."""

import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.v1.event import CloudEvent
from pydantic import BaseModel, field_validator

from edda import ArgumentError, InvalidEventError
from edda.codec import Value
from edda.events import as_cloudevent, as_envelope, canonical, match_values, received

CORE = {"type": "t", "source": "s", "id": "1"}


class Order(BaseModel):
    id: int

    @field_validator("id")
    @classmethod
    def known(cls, value: int) -> int:
        return {1: 1, 2: 2}[value]


def test_an_envelope_carries_everything():
    """Attributes, extensions, time and data come back from an envelope's text."""
    time = datetime(2020, 1, 1, tzinfo=UTC)
    envelope = as_envelope({**CORE, "subject": "u", "time": time, "tenant": 7}, {"a": [1]})
    event = received(envelope.text)
    assert (event.type, event.source, event.id, event.subject) == ("t", "s", "1", "u")
    assert (event.time, event.extensions, event.data) == (time, {"tenant": 7}, {"a": [1]})
    assert json.loads(envelope.text)["time"] == "2020-01-01T00:00:00Z"


def test_an_envelope_becomes_the_sdks_event():
    """The SDK's object has the same attributes and data."""
    event = as_cloudevent(as_envelope({**CORE, "time": "2020-01-01T00:00:00+02:00"}, {"a": 1}))
    assert isinstance(event, CloudEvent)
    assert (event.get_id(), event.get_data()) == ("1", {"a": 1})
    assert event.get_time() == datetime.fromisoformat("2020-01-01T00:00:00+02:00")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"type": ""}, "type must be a non-empty string"),
        ({"id": 5}, "id must be a non-empty string"),
        ({"specversion": "0.3"}, "specversion must be"),
        ({"Upper": "x"}, "lower-case letters and digits"),
        ({7: "x"}, "lower-case letters and digits"),
        ({"time": "yesterday"}, "RFC 3339"),
        ({"time": datetime(2020, 1, 1)}, "must have an offset"),  # noqa: DTZ001
        ({"subject": 5}, "subject must be a string"),
        ({"time": "0001-01-01T00:00:00+05:00"}, "RFC 3339"),
        ({"eddainstanceid": 5}, "eddainstanceid must be a non-empty string"),
        ({"eddainstanceid": ""}, "eddainstanceid must be a non-empty string"),
        ({"type": "a\0"}, "type has a NUL"),
        ({"subject": "\ud800"}, "half of a surrogate pair"),
        ({"tenant": 2**31}, "32-bit"),
        ({"tenant": 1.5}, "32-bit"),
    ],
)
def test_a_faulty_attribute_is_named(change, fault):
    """What is no CloudEvent is refused with the attribute that is wrong."""
    with pytest.raises(ArgumentError, match=fault):
        as_envelope({**CORE, **change}, None)


@pytest.mark.parametrize("data", [object(), float("nan"), "\ud800", {"x": float("inf")}])
def test_data_that_is_not_json_is_refused(data):
    """Data that not everybody could read is the sender's error."""
    with pytest.raises(ArgumentError, match="data cannot be sent"):
        as_envelope(CORE, data)


def test_bytes_that_are_not_the_json_they_say_are_refused():
    """Broken JSON bytes never get into the log, where they would stop who reads them."""
    with pytest.raises(ArgumentError, match="application/json"):
        as_envelope({**CORE, "datacontenttype": "application/json"}, b"{")


@pytest.mark.parametrize(
    ("content_type", "data", "read"),
    [
        (None, b"\xff", b"\xff"),
        ("application/octet-stream", b"{}", b"{}"),
        ("application/json", b'{"a":1}', {"a": 1}),
        ("application/vnd.x+json", b"5", 5),
        ("text/plain", b"hi", "hi"),
        ("text/plain; charset=latin-1", b"\xe9", "é"),
        ("application/xml", b"<a/>", "<a/>"),
        (None, "hi", "hi"),
        (None, None, None),
    ],
)
def test_data_has_the_type_its_content_type_says(content_type, data, read):
    """JSON is decoded, text and XML are str, the rest is bytes."""
    envelope = as_envelope({**CORE, "datacontenttype": content_type}, data)
    assert received(envelope.text).data == read
    assert type(received(envelope.text).data) is type(read)


def test_encoded_data_that_is_not_what_it_says_stays_bytes():
    """Base64 data that does not decode as its content type is handed out as it is."""
    document = {**CORE, "datacontenttype": "application/json", "data_base64": "ew=="}
    assert received(json.dumps(document)).data == b"{"


@pytest.mark.parametrize(
    ("path", "value", "matches"),
    [
        ("data.id", 5, True),
        ("data.id", 5.0, True),
        ("data.id", "5", False),
        ("data.flag", True, True),
        ("data.flag", 1, False),
        ("data.none", None, True),
        ("data.missing", None, False),
        ("data.lines.1.sku", "b", True),
        ("data.lines.01.sku", "b", False),
        ("data.lines.²", "b", False),
        ("data.lines.2", None, False),
        ("data.pair", (1.0, 2), True),
        ("subject", "u", True),
        ("tenant", 7, True),
        ("tenant", "7", False),
    ],
)
def test_matching_is_equality_of_json(path, value, matches):
    """5 is 5.0 and not "5", 1 is not True, lists have indices, what is missing never matches."""
    data = {
        "id": 5,
        "flag": True,
        "none": None,
        "lines": [{"sku": "a"}, {"sku": "b"}],
        "pair": [1, 2],
    }
    document = as_envelope({**CORE, "subject": "u", "tenant": 7}, data).document
    assert (match_values(document, [path]) == canonical([value])) is matches


@pytest.mark.parametrize(
    ("data", "problem"),
    [({"id": "x"}, "data.id: "), ({}, "data.id: "), ({"id": 9}, "data: KeyErr")],
)
def test_a_model_refuses_with_each_field(data, problem):
    """Data that does not fit is an InvalidEventError, also when the validator itself breaks."""
    envelope = as_envelope(CORE, data)
    with pytest.raises(InvalidEventError) as refused:
        received(envelope.text, Value(Order, "data"))
    assert refused.value.problems[0].startswith(problem)
    assert refused.value.model == "Order"


def test_a_model_makes_data_its_instance():
    """Data that fits comes as the model's instance."""
    assert received(as_envelope(CORE, {"id": 2}).text, Value(Order, "data")).data == Order(id=2)
