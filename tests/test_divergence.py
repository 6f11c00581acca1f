"""What is said when code and history part ways, word for word."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from edda.commands import (
    ActivityAsk,
    Cancellation,
    Failure,
    Recurrence,
    Result,
    SendAsk,
    TimerAsk,
)
from edda.divergence import agrees, explain, label
from edda.history import Asked, Finished, Patched, Subscribed, Unsubscribed, Withdrawn

T0 = datetime(2030, 1, 1, tzinfo=UTC)


def act(name, n=1, arguments="{}", line=1):
    return Asked(0, T0, ActivityAsk(f"{name}:{n}", name, arguments, f"shop.py:{line}"))


def middle(text):
    """The sentences between the table and the cure."""
    return text.split("\n\n")[2].split("\nNothing was committed.")[0]


def table(text):
    return text.split("\n\n")[1].splitlines()


def test_an_inserted_step_reads_as_one_insertion():
    """One inserted step is one line with a plus, and the steps after it stand beside themselves."""
    recorded = [act("a", line=1), act("b", line=2), act("c", line=3)]
    asked = [act("a", line=1), act("x_y.z", line=9), act("b", line=3), act("c", line=4)]
    assert explain("order", recorded, asked, agreed=1) == (
        "The code of workflow 'order' does not do what its history recorded.\n"
        "\n"
        "    history recorded            the code asks now\n"
        "  = a:1 (activity)  shop.py:1   a:1 (activity)  shop.py:1\n"
        "  +                             x_y.z:1 (activity)  shop.py:9\n"
        "  = b:1 (activity)  shop.py:2   b:1 (activity)  shop.py:3\n"
        "  = c:1 (activity)  shop.py:3   c:1 (activity)  shop.py:4\n"
        "\n"
        "The history goes on with b:1 (activity), asked at shop.py:2; the code goes on with "
        "x_y.z:1 (activity), asked at shop.py:9.\n"
        "Nothing was committed. If the change is meant, keep the old path for instances that are "
        "under way:\n"
        '    if ctx.patched("change-x-y-z"): ...  # new code\n'
        "    else: ...  # what the history recorded"
    )


def test_a_removed_step_reads_as_one_removal():
    """One removed step is one line with a minus."""
    text = explain("order", [act("a"), act("b")], [act("b")], agreed=0)
    assert [row[2] for row in table(text)[1:]] == ["-", "="]


def test_changed_arguments_are_listed():
    """Of changed arguments each that differs is named, with both values."""
    old = act("pay", arguments='{"cents":5,"to":"x","gone":1,"same":0}')
    new = act("pay", arguments='{"cents":6,"to":"x","new":[2],"same":0}')
    text = explain("order", [old], [new], agreed=0)
    assert table(text)[1].startswith("  ! ")
    assert middle(text) == (
        "pay:1 (activity) has other arguments:\n"
        "    cents: 5 recorded, 6 now\n"
        "    gone: 1 recorded, not given now\n"
        "    new: [2] now, not given when recorded"
    )


def test_what_is_no_object_is_shown_whole():
    """Arguments that are no JSON objects, or no JSON, are shown side by side, shortened."""

    def send(text):
        return Asked(0, T0, SendAsk("send:1", "send", text, "shop.py:1"))

    assert middle(explain("w", [send("[1]")], [send("[2]")], agreed=0)) == (
        "send:1 (send) has other arguments:\n    recorded  [1]\n    now       [2]"
    )
    long = middle(explain("w", [send("x" * 300)], [send("y")], agreed=0)).splitlines()[1]
    assert long == f"    recorded  {'x' * 199}…"


def test_another_id_is_named():
    """The same step under another id is said to be that."""
    assert middle(explain("w", [act("a", 1)], [act("a", 2)], agreed=0)) == (
        "a:1 (activity) has another id now: a:2."
    )


def test_too_early_is_named():
    """A step that comes before an answer that the history has first is said to be early."""
    timer = Asked(0, T0, TimerAsk("sleep:1", "sleep", T0, "shop.py:1"))
    for early, name in ((act("a"), "a:1 (activity)"), (timer, "sleep:1 (timer)")):
        assert middle(explain("w", [early], [early], agreed=0)) == (
            f"{name} comes too early: the history has an answer before it."
        )


def test_too_late_and_too_much():
    """Where one side has nothing, the message says which, and where the other is."""
    assert middle(explain("w", [act("a")], [], agreed=0)) == (
        "The history has a:1 (activity), asked at shop.py:1 here; the code does not, yet."
    )
    assert middle(explain("w", [], [act("a")], agreed=0)) == (
        "The history has no a:1 (activity) here; the code goes on with a:1 (activity), asked at "
        "shop.py:1."
    )
    assert "change-ending" in explain("w", [], [], agreed=0)


def test_endings_are_compared():
    """Two endings that differ are shown, and a cancellation has nothing to show."""
    one, other = Finished(0, T0, Result("1")), Finished(0, T0, Result("2"))
    assert middle(explain("w", [one], [other], agreed=0)) == (
        "workflow completed came out differently:\n    recorded  1\n    now       2"
    )
    failed = [Finished(0, T0, Failure(f'{{"message":"{text}"}}')) for text in "ab"]
    assert middle(explain("w", failed[:1], failed[1:], agreed=0)) == (
        'workflow failed came out differently:\n    message: "a" recorded, "b" now'
    )
    cancelled = Finished(0, T0, Cancellation())
    assert middle(explain("w", [one], [cancelled], agreed=0)) == (
        "The history goes on with workflow completed; the code goes on with workflow cancelled."
    )


def test_labels():
    """Each output has a short phrase of its own."""
    assert label(Asked(0, T0, TimerAsk("sleep:1", "sleep", T0, "?"))) == "sleep:1 (timer)"
    assert label(Withdrawn(0, T0, "a:1", "a", "activity")) == "a:1 given up"
    assert label(Patched(0, T0, "new-price")) == "patched('new-price')"
    assert label(Subscribed(0, T0, "news", "competing")) == "subscribe to 'news' (competing)"
    assert label(Unsubscribed(0, T0, "news")) == "unsubscribe from 'news'"
    assert label(Finished(0, T0, Cancellation())) == "workflow cancelled"


def test_rounds_agree_when_their_arguments_do():
    """The arguments of the next round are compared as JSON, and nothing else is like them."""
    one, same, other = (
        Finished(0, T0, Recurrence(text)) for text in ('{"a":1,"b":2}', '{"b": 2, "a": 1}', "{}")
    )
    assert agrees(one, same, None)
    assert not agrees(one, other, None)
    assert not agrees(one, Finished(0, T0, Result("{}")), None)


def test_long_agreement_is_skipped():
    """Of a long agreement the last three steps are shown, and the others are counted."""
    same = [act(f"s{index}") for index in range(10)]
    lines = table(explain("w", same, [*same, act("x")], agreed=10))
    assert lines[1] == "    ... 7 equal"
    assert [line[2:6] for line in lines[2:]] == ["= s7", "= s8", "= s9", "+   "]


names = st.lists(st.sampled_from("abc"), max_size=6)


@given(names, names)
def test_the_alignment_loses_nothing(old, new):
    """The table has every step of both sides, in order, and pairs only steps of one name."""
    recorded, asked = [act(name) for name in old], [act(name) for name in new]
    rows = table(explain("w", recorded, asked, agreed=0))[1:]
    width = 4 + max(16, 26 if old else 0)
    left = [row[4:width].strip() for row in rows]
    right = [row[width:].strip() for row in rows]
    assert [cell[0] for cell in left if cell] == old
    assert [cell[0] for cell in right if cell] == new
    marks = {(bool(a), bool(b)) for a, b in zip(left, right, strict=True)}
    assert (False, False) not in marks
    assert all(a == b for a, b in zip(left, right, strict=True) if a and b)
