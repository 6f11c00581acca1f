"""What happened, as rows and as documents, there and back."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda.commands import (
    ActivityAsk,
    Cancellation,
    EventAsk,
    Expiry,
    Failure,
    Recurrence,
    Result,
    SendAsk,
    TimerAsk,
    digest,
)
from edda.errors import HistoryFormatError
from edda.history import (
    ANSWERED,
    FORMAT,
    Answered,
    Asked,
    Attempted,
    CancelRequested,
    Finished,
    Patched,
    Refused,
    Started,
    Subscribed,
    Unsubscribed,
    Withdrawn,
    as_document,
    as_row,
    from_document,
    from_row,
)

T0 = datetime(2030, 1, 1, tzinfo=UTC)

words = st.text(min_size=1, max_size=8)
counts = st.integers(0, 2**40)
times = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
texts = values.map(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False))
kinds = st.sampled_from(["activity", "timer", "event", "send"])


@st.composite
def waits(draw):
    deadline = draw(st.none() | times)
    return EventAsk(
        draw(words),
        draw(words),
        deadline,
        None if deadline is None else draw(st.floats(0, 1e9)),
        draw(st.none() | texts),
        draw(st.none() | words),
        draw(st.sampled_from(["reject", "raise"])),
        draw(words),
    )


@st.composite
def answers(draw):
    of, outcome = draw(st.sampled_from(list(ANSWERED)))
    return Answered(
        draw(counts),
        draw(times),
        draw(words),
        draw(words),
        of,
        Expiry() if outcome is Expiry else outcome(draw(texts)),
        draw(st.none() | counts),
        draw(st.integers(1, 9)),
    )


asks = st.one_of(
    st.builds(ActivityAsk, words, words, texts, words),
    st.builds(SendAsk, words, words, texts, words),
    st.builds(TimerAsk, words, words, times, words),
    waits(),
)
starts = st.builds(Started, counts, times, words, texts, counts)
events = st.one_of(
    starts,
    st.builds(Asked, counts, times, asks),
    answers(),
    st.builds(Withdrawn, counts, times, words, words, kinds),
    st.builds(Attempted, counts, times, words, words, counts, texts, times, times),
    st.builds(Refused, counts, times, words, words, counts, texts),
    st.builds(Patched, counts, times, words),
    st.builds(CancelRequested, counts, times),
    st.builds(
        Finished,
        counts,
        times,
        st.one_of(st.builds(Result, texts), st.builds(Failure, texts), st.just(Cancellation())),
    ),
)


def renumbered(history):
    return [
        type(event)(index, *(getattr(event, name) for name in list(event.__slots__)[1:]))
        for index, event in enumerate(history)
    ]


# ---- There and back --------------------------------------------------------------------------


@given(events)
def test_a_row_comes_back(event):
    """An event that was stored as a row is read back as it was."""
    assert from_row(as_row(event)) == event


WAIT = EventAsk("paid:1", "paid", T0, 5.0, '{"subject":"x"}', "shop:Paid", "raise", "shop.py:1")
BARE = EventAsk("paid:1", "paid", None, None, None, None, "reject", "shop.py:1")


@pytest.mark.parametrize(
    "event",
    [
        Started(0, T0, "w", "{}", 1),
        *[
            Asked(1, T0, ask)
            for ask in (
                ActivityAsk("a:1", "a", "{}", "shop.py:1"),
                SendAsk("s:1", "s", "{}", "shop.py:1"),
                TimerAsk("t:1", "t", T0, "shop.py:1"),
                WAIT,
                BARE,
            )
        ],
        *[
            Answered(2, T0, "x:1", "x", of, Expiry() if outcome is Expiry else outcome("{}"))
            for of, outcome in ANSWERED
        ],
        Withdrawn(3, T0, "x:1", "x", "event"),
        Attempted(3, T0, "x:1", "x", 1, "{}", T0, T0),
        Refused(3, T0, "x:1", "x", 4, "{}"),
        Patched(3, T0, "new-price"),
        CancelRequested(3, T0),
        *[Finished(3, T0, outcome) for outcome in (Result("1"), Failure("{}"), Cancellation())],
    ],
    ids=lambda event: event.kind,
)
def test_every_kind_of_event_comes_back(event):
    """Each kind of event is read back as it was, as a row and in a document."""
    assert from_row(as_row(event)) == event
    history = renumbered([Started(0, T0, "w", "{}", 1), event])
    assert from_document(as_document("i-1", history)) == history


@given(events)
def test_a_row_is_plain(event):
    """A row is a number, a JSON object without the payload, and the payload untouched."""
    seq, head, payload = as_row(event)
    assert seq == event.seq
    assert json.loads(head)["kind"] == event.kind
    assert payload is None or isinstance(payload, str)


@given(starts, st.lists(events, max_size=5))
def test_a_document_comes_back(first, rest):
    """A history that was exported, also through a file, is read back as it was."""
    history = renumbered([first, *rest])
    document = json.loads(json.dumps(as_document("i-1", history)))
    assert from_document(document) == history


def test_a_document_is_for_people():
    """A document names its format and instance, and holds payloads as JSON with a digest."""
    ask = ActivityAsk("charge:1", "charge", '{"cents":5}', "shop.py:3")
    document = as_document(
        "i-1",
        [
            Started(0, T0, "pay", "{}", 7),
            Asked(1, T0, ask),
            Answered(2, T0, "charge:1", "charge", "activity", Result('"ok"'), attempts=2),
            Answered(3, T0, "paid:1", "paid", "event", Result("1"), message=9),
            Finished(4, T0, Cancellation()),
        ],
    )
    at = "2030-01-01T00:00:00+00:00"
    assert document == {
        "format": "edda-history/1",
        "instance": "i-1",
        "events": [
            {
                "seq": 0,
                "kind": "workflow_started",
                "at": at,
                "name": "pay",
                "seed": 7,
                "payload": {},
            },
            {
                "seq": 1,
                "kind": "activity_scheduled",
                "at": at,
                "id": "charge:1",
                "name": "charge",
                "site": "shop.py:3",
                "payload": {"cents": 5},
                "digest": digest('{"cents":5}'),
            },
            {
                "seq": 2,
                "kind": "activity_completed",
                "at": at,
                "id": "charge:1",
                "name": "charge",
                "attempts": 2,
                "payload": "ok",
            },
            {
                "seq": 3,
                "kind": "event_received",
                "at": at,
                "id": "paid:1",
                "name": "paid",
                "message": 9,
                "payload": 1,
            },
            {"seq": 4, "kind": "workflow_cancelled", "at": at},
        ],
    }


def test_a_digest_is_short_and_stable():
    """A digest has sixteen hexadecimal digits, the same in every process."""
    assert digest("{}") == "01e7b720ff566d53"
    assert digest("{}") != digest("[]")


@pytest.mark.parametrize(
    ("event", "kind", "id", "name"),
    [
        (Started(0, T0, "pay", "{}", 7), "workflow_started", "workflow", "pay"),
        (Patched(0, T0, "new-price"), "patched", "new-price", "new-price"),
        (Subscribed(0, T0, "news", "broadcast"), "channel_subscribed", "news", "news"),
        (Unsubscribed(0, T0, "news"), "channel_unsubscribed", "news", "news"),
        (CancelRequested(0, T0), "cancel_requested", "workflow", ""),
        (Finished(0, T0, Failure("{}")), "workflow_failed", "workflow", ""),
        (Withdrawn(0, T0, "sleep:1", "sleep", "timer"), "timer_withdrawn", "sleep:1", "sleep"),
        (
            Asked(0, T0, TimerAsk("sleep:1", "sleep", T0, "a.py:1")),
            "timer_set",
            "sleep:1",
            "sleep",
        ),
        (
            Answered(0, T0, "paid:1", "paid", "event", Expiry()),
            "event_timed_out",
            "paid:1",
            "paid",
        ),
    ],
)
def test_every_event_has_kind_id_and_name(event, kind, id, name):
    """Each event says what it is, of which ask, and what that is called."""
    assert (event.kind, event.id, event.name) == (kind, id, name)


def test_an_asked_event_knows_its_place():
    """`site` of an asked event is the line that asked."""
    assert Asked(0, T0, TimerAsk("sleep:1", "sleep", T0, "a.py:1")).site == "a.py:1"


# ---- What cannot be read ---------------------------------------------------------------------

START = {"kind": "workflow_started", "at": T0.isoformat(), "name": "w", "seed": 1, "payload": {}}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (
            [],
            "This is not a history that this version reads: expected a JSON object with "
            '"format": "edda-history/1", found \'list\'. `edda history export` writes one.',
        ),
        (
            {"format": "edda-history/9"},
            "This is not a history that this version reads: expected a JSON object with "
            '"format": "edda-history/1", found \'edda-history/9\'. `edda history export` writes '
            "one.",
        ),
        ({"format": FORMAT}, 'This history has no "events": expected a list of them.'),
        (
            {"format": FORMAT, "events": []},
            'This history has no "events": expected a list of them.',
        ),
        (
            {"format": FORMAT, "events": [{"kind": "cancel_requested", "at": T0.isoformat()}]},
            "A history begins with workflow_started, and this one does not.",
        ),
        (
            {"format": FORMAT, "events": [START, {"kind": "what", "at": T0.isoformat()}]},
            "Event 1 cannot be read: 'what' is no kind of event. It was not written by this "
            "version, or was edited.",
        ),
        (
            {"format": FORMAT, "events": [START, {"kind": "cancel_requested"}]},
            "Event 1 cannot be read: 'at' is missing. It was not written by this version, or was "
            "edited.",
        ),
        (
            {"format": FORMAT, "events": [{k: v for k, v in START.items() if k != "payload"}]},
            "Event 0 cannot be read: its payload is missing. It was not written by this version, "
            "or was edited.",
        ),
        (
            {"format": FORMAT, "events": [START | {"at": "2030-01-01T00:00:00"}]},
            "Event 0 cannot be read: the time '2030-01-01T00:00:00' has no zone. It was not "
            "written by this version, or was edited.",
        ),
    ],
)
def test_a_bad_document_is_refused(document, text):
    """A document that is no history is refused, naming the event and what is wrong with it."""
    with pytest.raises(HistoryFormatError) as caught:
        from_document(document)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "found", ["edda-history/0", "edda-history/1.0", "", None, 1, FORMAT.upper()]
)
def test_another_format_is_refused(found):
    """The format is compared whole: neither an earlier nor a later one is read."""
    with pytest.raises(HistoryFormatError, match="not a history that this version reads"):
        from_document({"format": found, "events": [START]})


@pytest.mark.parametrize("seq", [-1, 1, 300, "0", None])
def test_an_event_out_of_place_is_refused(seq):
    """The number of an event is its place, neither before it nor after."""
    with pytest.raises(HistoryFormatError, match=r"its seq is .* where 0 is expected"):
        from_document({"format": FORMAT, "events": [START | {"seq": seq}]})


def test_a_channel_is_read_in_a_mode_that_there_is():
    """A subscription in a mode that this version has not is refused with it."""
    entry = {"kind": "channel_subscribed", "at": T0.isoformat(), "id": "news", "mode": "loud"}
    with pytest.raises(HistoryFormatError, match="'loud' is no mode of a subscription"):
        from_document({"format": FORMAT, "events": [START, entry]})


def test_a_history_that_recurred_comes_back():
    """Its last event holds the arguments of the next round."""
    events = [Started(0, T0, "pay", "{}", 7), Finished(1, T0, Recurrence('{"n":2}'))]
    assert from_document(as_document("p", events)) == events


def test_a_long_document_with_its_numbers_is_read():
    """Numbers are compared as numbers, in long histories too."""
    count = 400
    asked = {"kind": "cancel_requested", "at": T0.isoformat()}
    entries = [START, *(asked for _ in range(count))]
    numbered = [entry | {"seq": int(str(index))} for index, entry in enumerate(entries)]
    assert len(from_document({"format": FORMAT, "events": numbered})) == count + 1


@pytest.mark.parametrize("entry", [None, 5, "text", [], ["kind"], {"kind": [], "at": "x"}])
def test_an_entry_that_is_no_event_is_refused(entry):
    """Whatever stands where an event should, the error is ours and names its place."""
    with pytest.raises(HistoryFormatError, match=r"^Event 1 cannot be read: "):
        from_document({"format": FORMAT, "events": [START, entry]})


@given(starts, values)
def test_an_edited_event_is_read_or_refused(first, value):
    """Any one field replaced by any JSON value is read, or refused with our own error."""
    document = as_document("i-1", renumbered([first]))
    for name in list(document["events"][0]):
        edited = {**document["events"][0], name: value}
        try:
            (event,) = from_document({**document, "events": [edited]})
        except HistoryFormatError:
            continue
        assert isinstance(event, Started)


@pytest.mark.parametrize("row", [(3, "{", None), (3, "{}", None), (3, "[]", None), (3, "", None)])
def test_a_bad_row_is_refused(row):
    """A row that cannot be read is refused, naming its number."""
    with pytest.raises(HistoryFormatError, match=r"^Event 3 of a stored history cannot be read: "):
        from_row(row)
