"""What people read of an instance: the timeline, the line of `ps`, the view over HTTP."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda.commands import (
    ActivityAsk,
    Cancellation,
    EventAsk,
    Expiry,
    Failure,
    Result,
    SendAsk,
    TimerAsk,
)
from edda.history import (
    ANSWERED,
    ASKED,
    FINISHED,
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
)
from edda.ports import Instance, Status, Wait
from edda.timeline import (
    GLYPHS,
    clock_text,
    duration_text,
    instance_view,
    outcome_text,
    table,
    timeline,
)

START = datetime(2026, 11, 23, 9, 37, 53, 120_000, tzinfo=UTC)
SITE = "examples/payments.py:42"
ERROR = '{"type":"shop.errors:Card.Declined","message":"no\\n  money","traceback":"..."}'
SENT = {"type": "shipped", "source": "shop", "id": "s", "data": {"parcel": 7}}


def at(seconds):
    return START + timedelta(seconds=seconds)


def received(**data):
    return Result(json.dumps({"type": "paid", "source": "bank", "id": "e", **data}))


PAYMENT = [
    Started(0, at(0), "payment", '{"order_id":"ORD-1","amount":9.5}', 7),
    Asked(1, at(0), ActivityAsk("charge:1", "charge", '{"order_id":"ORD-1"}', SITE)),
    Attempted(2, at(0.25), "charge:1", "charge", 1, ERROR, at(0), at(1.25)),
    Answered(3, at(1.5), "charge:1", "charge", "activity", Result('{"id":"P-1"}'), attempts=2),
    Asked(
        4,
        at(1.5),
        EventAsk(
            "wait_event_paid:1",
            "paid",
            at(172_801.5),
            172_800.0,
            '{"data.order":"ORD-1"}',
            None,
            "reject",
            SITE,
        ),
    ),
    Refused(5, at(40), "wait_event_paid:1", "paid", 3, ERROR),
    Answered(6, at(172_840), "wait_event_paid:1", "paid", "event", received(data=[1]), message=4),
    Asked(7, at(172_840), TimerAsk("wait_timer:1", "wait_timer", at(172_900), SITE)),
    Answered(8, at(172_900), "wait_timer:1", "wait_timer", "timer", Result("null")),
    Finished(9, at(172_900.1), Result('{"status":"完了"}')),
]

OTHERS = [
    Started(0, at(0), "other", "{}", 7),
    Asked(1, at(0), EventAsk("wait_event_a:1", "a", None, None, None, None, "raise", SITE)),
    Asked(2, at(0), TimerAsk("sleep_until:1", "sleep_until", at(3600), "?")),
    Asked(3, at(0), SendAsk("send_event_b:1", "b", json.dumps({"event": SENT}), SITE)),
    Asked(
        4,
        at(0),
        SendAsk("send_event_b:2", "b", json.dumps({"event": {}, "broker_url": "http://b"}), SITE),
    ),
    Answered(5, at(0), "send_event_b:1", "b", "send", Result("{}")),
    Answered(6, at(0), "send_event_b:2", "b", "send", Failure(ERROR)),
    Answered(7, at(1), "wait_event_a:1", "a", "event", Expiry()),
    Answered(8, at(1), "wait_event_a:2", "a", "event", received(data_base64="AA==")),
    Answered(9, at(1), "wait_event_a:3", "a", "event", Failure(ERROR)),
    Answered(10, at(1), "charge:1", "charge", "activity", Failure(ERROR), attempts=3),
    CancelRequested(11, at(1)),
    Withdrawn(12, at(1), "sleep_until:1", "sleep_until", "timer"),
    Finished(13, at(1), Cancellation()),
]


ABSOLUTE = """\
2026-11-23 09:37:53.120          ▶ payment            (order_id="ORD-1", amount=9.5)
           09:37:53.120          ○ charge:1           (order_id="ORD-1")     examples/payments.py:42
           09:37:53.370          ↻ charge:1           attempt 1 failed, again in 1s: Declined: no m…
           09:37:54.620   +1.2s  ● charge:1           returned after 2 attempts {"id": "P-1"}
           09:37:54.620          ◇ wait_event_paid:1  waits at most 48h wi…  examples/payments.py:42
           09:38:33.120  +38.5s  ⊘ wait_event_paid:1  refused message 3: Declined: no money
2026-11-25 09:38:33.120    +48h  ◆ wait_event_paid:1  received from bank: [1]
           09:38:33.120          ◔ wait_timer:1       for 1m                 examples/payments.py:42
           09:39:33.120     +1m  ◕ wait_timer:1       fired
           09:39:33.220          ■ payment            completed with {"status": "完了"}"""

RELATIVE = """\
 +0       ▶ other           ()
 +0       ◇ wait_event_a:1  waits                                            examples/payments.py:42
 +0       ◔ sleep_until:1   until 2026-11-23 10:37:53.120
 +0       △ send_event_b:1  sends {"parcel": 7}                              examples/payments.py:42
 +0       △ send_event_b:2  sends null to http://b                           examples/payments.py:42
 +0       ▲ send_event_b:1  sent
 +0       ▽ send_event_b:2  failed: Declined: no money
+1s  +1s  ◈ wait_event_a:1  timed out
+1s       ◆ wait_event_a:2  received from bank: base64 AA==
+1s       ⬖ wait_event_a:3  failed: Declined: no money
+1s       ✗ charge:1        failed after 3 attempts: Declined: no money
+1s       ⊗ other           cancellation requested
+1s       ⊝ sleep_until:1   given up
+1s       □ other           cancelled"""


def test_a_history_reads_as_a_timeline():
    """One line an event: time with its date where it changes, pause, glyph, id, deed, site."""
    assert timeline(PAYMENT, width=100) == ABSOLUTE


def test_times_may_count_from_the_start():
    """With `relative`, times count from the first event."""
    assert timeline(OTHERS, relative=True, width=100) == RELATIVE


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (99, '(order_id="ORD-1")    examples/payments.py:42'),
        (98, '(order_id="ORD-1")            payments.py:42'),
        (89, '(order_id="ORD-1")'),
        (65, "(order_id=…"),
    ],
)
def test_call_sites_give_way(width, line):
    """Where there is little room, sites lose their folder, then go, and then texts are cut."""
    lines = timeline(PAYMENT, width=width).splitlines()
    assert lines[1].partition("charge:1")[2].strip() == line


def test_a_broad_character_takes_two_columns():
    """Columns line up in a terminal where ids and texts are not ASCII."""
    events = [
        Started(0, at(0), "完了", "{}", 1),
        Asked(1, at(0), ActivityAsk("é\u0301:1", "é", "{}", SITE)),
        Finished(2, at(0), Result(json.dumps("完" * 40))),
    ]
    first, second, third = timeline(events, width=76).splitlines()
    assert first == "2026-11-23 09:37:53.120    ▶ 完了  ()"
    assert (
        second
        == "           09:37:53.120    ○ é\u0301:1   ()                         payments.py:42"
    )
    assert third == f'           09:37:53.120    ■ 完了  completed with "{"完" * 12}…'


def test_an_empty_history_is_an_empty_timeline():
    """Nothing happened, nothing is shown."""
    assert timeline([]) == ""


NOTES = (Started, Attempted, Patched, Refused, CancelRequested, Subscribed, Unsubscribed)


def test_every_kind_has_a_glyph_of_its_own():
    """Each kind of event that history knows has a glyph, no two the same, each one column wide."""
    kinds = {*ASKED.values(), *ANSWERED.values(), *FINISHED.values()}
    kinds |= {f"{kind}_withdrawn" for kind in ASKED}
    kinds |= {event.kind for event in NOTES}
    assert set(GLYPHS) == kinds
    assert len(set(GLYPHS.values())) == len(kinds)
    assert all(len(glyph) == 1 for glyph in GLYPHS.values())


@given(
    width=st.integers(60, 200),
    events=st.lists(st.sampled_from(PAYMENT[1:] + OTHERS[1:]), max_size=5),
    relative=st.booleans(),
)
def test_a_line_is_never_too_wide(width, events, relative):
    """Whatever happened, a line is an event and fits where it can."""
    lines = timeline([PAYMENT[0], *events], width=width, relative=relative).splitlines()
    assert len(lines) == len(events) + 1
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0"),
        (0.0004, "0ms"),
        (0.012, "12ms"),
        (0.9994, "999ms"),
        (0.9996, "1s"),
        (1, "1s"),
        (2.54, "2.5s"),
        (59.94, "59.9s"),
        (59.96, "1m"),
        (60, "1m"),
        (90, "1m 30s"),
        (300, "5m"),
        (3599.6, "1h"),
        (3600, "1h"),
        (48 * 3600, "48h"),
        (48 * 3600 + 300, "48h 5m"),
        (96 * 3600 - 1, "4d"),
        (99 * 3600, "4d 3h"),
        (365 * 86400, "365d"),
        (-5, "-5s"),
    ],
)
def test_a_duration_has_two_units(seconds, text):
    """A length of time is said in its two largest units, rounded."""
    assert duration_text(timedelta(seconds=seconds)) == text


def test_a_clock_is_in_utc():
    """An instant of another zone is shown in UTC, to the millisecond."""
    there = datetime.fromisoformat("2026-11-23T10:00:00.123456+02:00")
    assert clock_text(there) == "2026-11-23 08:00:00.123"


def test_a_table_is_aligned_and_cut():
    """Columns are as wide as their widest cell, lines not wider than asked."""
    rows = [("ID", "NOW"), ("long-id", "completed with a result"), ("x", "")]
    assert table(rows, 20).splitlines() == ["ID       NOW", "long-id  completed …", "x"]


# ---- One instance ----------------------------------------------------------------------------


def instance(status, *, due=None, waits=(), outcome=None, problem=None):
    return Instance("i-1", "payment", status, START, at(1), due, waits, outcome, problem)


WAITS = (Wait("wait_event_paid:1", "paid"), Wait("wait_event_void:1", "void", "[]", "[]"))

STANDS = [
    (instance(Status.RUNNING), "running"),
    (instance(Status.WAITING_FOR_EVENT, waits=WAITS), "waits for paid, void"),
    (instance(Status.WAITING_FOR_MESSAGE), "waits for an event"),
    (
        instance(Status.WAITING_FOR_EVENT, waits=WAITS[:1], due=at(5)),
        "waits for paid, at most until 2026-11-23 09:37:58.120",
    ),
    (instance(Status.WAITING_FOR_TIMER, due=at(5)), "waits until 2026-11-23 09:37:58.120"),
    (instance(Status.WAITING_FOR_RETRY), "waiting for retry"),
    (instance(Status.STUCK, problem=ERROR), "stuck: Declined: no money"),
    (instance(Status.COMPLETED, outcome=Result("5")), "completed with 5"),
    (instance(Status.FAILED, outcome=Failure(ERROR)), "failed: Declined: no money"),
    (instance(Status.CANCELLED, outcome=Cancellation()), "cancelled"),
]


@pytest.mark.parametrize(("one", "text"), STANDS, ids=[text for _, text in STANDS])
def test_where_an_instance_stands_is_one_line(one, text):
    """What it waits for, how it ended, or what holds it up."""
    assert outcome_text(one) == text


def test_a_view_keeps_the_result_back():
    """The view of an instance is plain JSON, and its outcome is not in it unless asked for."""
    done = instance(Status.COMPLETED, outcome=Result('{"a":1}'), waits=WAITS, due=at(5))
    view = {
        "id": "i-1",
        "workflow": "payment",
        "status": "completed",
        "waiting_for": [
            {"id": "wait_event_paid:1", "type": "paid"},
            {"id": "wait_event_void:1", "type": "void"},
        ],
        "started_at": "2026-11-23T09:37:53.120000Z",
        "updated_at": "2026-11-23T09:37:54.120000Z",
        "due": "2026-11-23T09:37:58.120000Z",
    }
    assert instance_view(done) == view
    assert instance_view(done, result=True) == view | {"result": {"a": 1}}


@pytest.mark.parametrize(
    "one",
    [
        instance(Status.FAILED, outcome=Failure(ERROR)),
        instance(Status.STUCK, problem=ERROR),
    ],
)
def test_a_view_tells_an_error_without_its_traceback(one):
    """With the result asked for, a failure or what an instance is stuck on is named."""
    view = instance_view(one, result=True)
    assert view["result"] is None
    assert view["error"] == {"type": "shop.errors:Card.Declined", "message": "no\n  money"}
    assert "error" not in instance_view(one)
