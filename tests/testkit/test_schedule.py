"""Schedules as values, their tokens, and the sources a simulation draws from."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda_testkit.errors import ScheduleError
from edda_testkit.schedule import (
    PREFIX,
    Deviation,
    Options,
    Pct,
    Plain,
    Recorded,
    Schedule,
    Source,
    as_source,
)


@st.composite
def deviations(draw):
    found, at = [], -1
    for gap, choice, more in draw(
        st.lists(
            st.tuples(st.integers(0, 300), st.integers(1, 200), st.integers(1, 50)), max_size=9
        )
    ):
        at += gap + 1
        found.append(Deviation(at, choice, choice + more))
    return tuple(found)


options = st.builds(
    Options,
    crashes=st.integers(0, 300),
    duplicates=st.integers(0, 3),
    reorder=st.booleans(),
    faults=st.integers(0, 3),
    workers=st.integers(1, 4),
    duplicate_ids=st.sampled_from(["same", "fresh"]),
    is_coarse=st.booleans(),
)


# ---- Tokens --------------------------------------------------------------------------------------


@given(deviations(), options)
def test_a_token_says_all_of_a_schedule(found, chosen):
    """What is recorded, and the options it was explored under, come back from the token."""
    schedule = Schedule("recorded", deviations=found, options=chosen)

    assert schedule == Schedule.parse(schedule.token)


@given(st.text())
def test_no_text_breaks_the_parser(text):
    """Any text is a schedule or a ScheduleError, and nothing else."""
    for token in (text, PREFIX + text):
        with contextlib.suppress(ScheduleError):
            assert Schedule.parse(token).token == token


@given(st.binary(max_size=40))
def test_no_bytes_break_the_parser(raw):
    """Bytes that happen to be base64 are a schedule or a ScheduleError."""
    token = PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")
    with contextlib.suppress(ScheduleError):
        assert Schedule.parse(token).token == token


@given(deviations(), st.integers(0, 200), st.characters(codec="ascii"))
def test_a_damaged_token_is_never_another_schedule(found, place, other):
    """One wrong character is noticed."""
    token = Schedule("recorded", deviations=found).token
    place %= len(token)
    damaged = token[:place] + other + token[place + 1 :]
    if damaged == token:
        return

    with pytest.raises(ScheduleError):
        Schedule.parse(damaged)


def test_a_token_is_short_and_safe_in_a_shell():
    """One deviation takes under 25 characters, none of which a shell or a URL minds."""
    token = Schedule("recorded", deviations=(Deviation(7, 1, 3),)).token

    assert len(token) < 25
    assert token.replace("-", "").replace("_", "").isalnum()


def test_a_token_of_another_version_is_refused(monkeypatch):
    """When the default behaviour has changed, what deviates from it means nothing any more."""
    token = Schedule().token
    monkeypatch.setattr("edda_testkit.schedule.DEFAULT_VERSION", 2)

    with pytest.raises(ScheduleError, match="version 1 of the default behaviour, and this is 2"):
        Schedule.parse(token)


def test_a_cut_token_says_so():
    """Half a token is damaged, not another schedule."""
    token = Schedule("recorded", deviations=(Deviation(7, 1, 3),)).token

    with pytest.raises(ScheduleError, match="is damaged: copy all of it"):
        Schedule.parse(token[:-3])


def test_what_is_drawn_has_no_token_before_it_ran():
    """A seed says nothing about the choices until they were made."""
    with pytest.raises(ScheduleError, match=r"take that of sim\.schedule afterwards"):
        _ = Schedule("pct", seed=3).token


# ---- Sources -------------------------------------------------------------------------------------


def drawn(source, choices):
    return [source.choose(among, "order", range(among)) for among in choices]


@given(deviations(), st.lists(st.integers(1, 5), max_size=30))
def test_what_was_chosen_is_chosen_again(found, choices):
    """The record of any source, run again, makes the same choices."""
    for kind in ("default", "random", "pct", "tape"):
        tape = tuple(number for one in found for number in (one.at % 7, one.choice))
        source = Schedule(kind, seed=len(found), tape=tape).source()
        first = drawn(source, choices)

        assert first == drawn(source.schedule.source(), choices)


@given(st.lists(st.integers(-5, 1000)), st.lists(st.integers(1, 5), max_size=30))
def test_any_tape_will_do(tape, choices):
    """Hypothesis may feed any list of integers; an empty one is the default."""
    source = Schedule("tape", tape=tuple(tape)).source()

    assert all(
        0 <= taken < among for taken, among in zip(drawn(source, choices), choices, strict=True)
    )
    assert not any(drawn(Schedule("tape").source(), choices))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=2), st.integers(2, 5))
def test_what_a_tape_takes_is_never_the_default(pair, among):
    """Where it says to deviate it does, whatever there is to choose from."""
    source = Schedule("tape", tape=tuple(pair)).source()
    taken = drawn(source, [among] * 12)
    assert [at for at, one in enumerate(taken) if one] == [pair[0]]


def test_a_tape_can_be_told_under_way():
    """A deviation that is asked for counts from the choices made so far."""
    source = Schedule("tape").source()
    drawn(source, [2, 2])
    source.deviate(1, 1)
    assert drawn(source, [2, 2, 2]) == [0, 1, 0]


@given(deviations(), st.integers(0, 2))
def test_a_schedule_prints_as_code(found, crashes):
    """What a failing example shows can be pasted, and says nothing that is at its default."""
    for schedule in (
        Schedule("recorded", deviations=tuple(found), options=Options(crashes=crashes)),
        Schedule("tape", tape=(0, 1), options=Options(duplicates=1, duplicate_ids="fresh")),
    ):
        assert eval(repr(schedule)) == schedule
    assert repr(schedule) == (
        "Schedule(kind='tape', tape=(0, 1), options=Options(duplicates=1, duplicate_ids='fresh'))"
    )


def test_a_choice_of_one_is_not_counted():
    """Only where something can be chosen is there a choice."""
    source = Source(Options())
    drawn(source, [1, 2, 1, 3])

    assert [one.among for one in source.trail] == [2, 3]


def test_a_record_that_does_not_fit_is_stale():
    """Another number of possibilities means that the code is not the one that was recorded."""
    source = Recorded(Options(), [Deviation(1, 1, 3)])

    with pytest.raises(ScheduleError, match="there were 3 possibilities when it was recorded"):
        drawn(source, [2, 2])


def test_a_record_that_is_not_used_up_is_stale():
    """A simulation that ends before it deviates did not repeat what was recorded."""
    source = Recorded(Options(), [Deviation(5, 1, 3)])
    drawn(source, [2])

    with pytest.raises(ScheduleError, match="deviates at choice 5, and there were only 1 choices"):
        source.check_spent()


def test_pct_strikes_no_more_often_than_it_may():
    """What is injected comes at as many points as the options allow, and no more."""
    for seed in range(50):
        source = Pct(Options(crashes=2), seed, {"crash": 20})

        assert sum(source.choose(2, "crash") for _ in range(20)) <= 2


def test_pct_finds_each_order_of_three():
    """Priorities are drawn anew for each seed, so every order comes up."""

    def order(seed):
        source, left, found = Pct(Options(), seed, {"order": 3}), ["a", "b", "c"], ""
        while left:
            found += left.pop(source.choose(len(left), "order", tuple(left)))
        return found

    assert len({order(seed) for seed in range(60)}) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crashes": -1}, "crashes must be a whole number from 0 on, got -1"),
        ({"workers": 0}, "workers must be a whole number from 1 on, got 0"),
        ({"faults": True}, "faults must be a whole number"),
        ({"duplicates": 1.5}, "duplicates must be a whole number"),
        ({"duplicate_ids": "new"}, 'duplicate_ids must be "same" or "fresh"'),
    ],
)
def test_impossible_options_are_refused(wrong, message):
    """An option that means nothing is named, with what it takes."""
    with pytest.raises(ValueError, match=message):
        Options(**wrong)


def test_a_simulation_takes_a_schedule_a_token_or_nothing():
    """Whatever names a schedule is one; nothing is the default, unexplored."""
    assert isinstance(as_source(None), Plain)
    assert isinstance(as_source(Schedule("pct")), Pct)
    assert isinstance(as_source(Schedule().token), Recorded)
    with pytest.raises(ScheduleError, match="takes a Schedule or its token, and got 7"):
        as_source(7)
