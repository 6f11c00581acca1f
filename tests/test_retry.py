"""When a failed attempt is tried again, and after how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda import activity, workflow
from edda.errors import (
    ArgumentError,
    DecodingError,
    DefinitionError,
    EncodingError,
    TerminalError,
)
from edda.retry import DEFAULT_RETRY_POLICY, RetryPolicy

ERROR = ValueError("boom")
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.none() | st.integers(1, 50),
    initial_interval=st.floats(0, 1e4),
    backoff_coefficient=st.floats(1, 100),
    max_interval=st.floats(0, 1e4),
    max_duration=st.none() | st.floats(0, 1e6),
)


def test_the_default_is_five_attempts():
    """The default policy waits 1, 2, 4 and 8 seconds between five attempts."""
    waits = [
        DEFAULT_RETRY_POLICY.next_interval(ERROR, attempt=attempt, elapsed_seconds=0.0)
        for attempt in range(1, 6)
    ]
    assert waits == [1.0, 2.0, 4.0, 8.0, None]


def test_the_interval_has_a_ceiling():
    """An interval never exceeds `max_interval`, however many attempts failed."""
    policy = RetryPolicy(max_interval=60.0)
    assert policy.interval(7) == 60.0
    assert policy.interval(100_000) == 60.0


def test_no_interval_stays_none_for_ever():
    """With an initial interval of zero, no number of attempts makes it wait."""
    policy = RetryPolicy(initial_interval=0.0, max_attempts=None)
    assert [policy.interval(attempt) for attempt in (1, 2, 100_000)] == [0.0, 0.0, 0.0]


@given(policy=POLICIES, attempt=st.integers(1, 3000), jitter=st.floats(0, 1))
def test_jitter_only_shortens(policy, attempt, jitter):
    """Jitter takes at most a tenth off, so who waits for the nominal interval sees the attempt."""
    nominal = policy.interval(attempt)
    assert nominal * 0.89 <= policy.interval(attempt, jitter=jitter) <= nominal
    assert nominal <= policy.max_interval


@given(policy=POLICIES, attempt=st.integers(1, 3000))
def test_intervals_never_shrink(policy, attempt):
    """A later attempt waits at least as long as an earlier one."""
    assert policy.interval(attempt) <= policy.interval(attempt + 1)


def test_full_jitter_is_a_tenth():
    """The strongest jitter takes exactly a tenth off."""
    assert RetryPolicy(initial_interval=10.0).interval(1, jitter=1.0) == 9.0


def test_attempts_without_limit():
    """`max_attempts=None` and `max_duration=None` retry for ever."""
    policy = RetryPolicy(max_attempts=None, max_duration=None)
    assert policy.next_interval(ERROR, attempt=10_000, elapsed_seconds=1e9) == 60.0


def test_the_duration_counts_the_backoff():
    """No attempt is begun after `max_duration`, the wait before it included."""
    policy = RetryPolicy(initial_interval=10.0, max_duration=30.0)
    assert policy.next_interval(ERROR, attempt=1, elapsed_seconds=20.0) == 10.0
    assert policy.next_interval(ERROR, attempt=1, elapsed_seconds=20.1) is None


@pytest.mark.parametrize(
    "error", [TerminalError("no"), EncodingError("x", "y"), DecodingError("x", "y"), KeyError("k")]
)
def test_what_is_final_is_not_retried(error):
    """Terminal errors, values that cannot be stored, and the named classes end the attempts."""
    policy = RetryPolicy(non_retryable=(LookupError,))
    assert not policy.is_retryable(error)
    assert policy.next_interval(error, attempt=1, elapsed_seconds=0.0) is None
    assert policy.is_retryable(ERROR)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("max_attempts", 0, "a whole number from 1, or None for unlimited"),
        ("max_attempts", -3, "a whole number from 1, or None for unlimited"),
        ("max_attempts", True, "a whole number from 1, or None for unlimited"),
        ("max_attempts", 2.0, "a whole number from 1, or None for unlimited"),
        ("initial_interval", -1.0, "zero or more seconds, as a number, at most 100 years"),
        ("initial_interval", "1", "zero or more seconds, as a number, at most 100 years"),
        ("initial_interval", float("nan"), "zero or more seconds, as a number, at most 100 years"),
        ("backoff_coefficient", 0.5, "1 or more"),
        ("max_interval", float("inf"), "zero or more seconds, as a number, at most 100 years"),
        ("max_interval", True, "zero or more seconds, as a number, at most 100 years"),
        ("max_duration", -1, "zero or more seconds, as a number, or None for unlimited"),
        ("non_retryable", [ValueError], "a tuple of exception classes"),
        ("non_retryable", (int,), "a tuple of exception classes"),
        ("non_retryable", ("ValueError",), "a tuple of exception classes"),
    ],
)
def test_nonsense_is_refused(field, value, expected):
    """A policy that makes no sense is refused, naming the field, what it expects and the value."""
    with pytest.raises(ArgumentError) as caught:
        RetryPolicy(**{field: value})
    assert str(caught.value) == f"RetryPolicy: {field} must be {expected}, got {value!r}"


def test_every_fault_is_named_at_once():
    """All the faults of a policy are in one error."""
    with pytest.raises(ArgumentError) as caught:
        RetryPolicy(max_attempts=0, max_interval=-1)
    assert [problem.split()[0] for problem in caught.value.problems] == [
        "max_attempts",
        "max_interval",
    ]


def test_a_type_that_cannot_be_stored_is_not_retried(edda_sim):
    """A result of a type without a schema is found after the step has run: it is not run again."""
    ran = []

    class Odd: ...

    async def making(ctx) -> Odd:
        ran.append(1)
        return Odd()

    make = activity(making)

    @workflow
    async def making_odd(ctx):
        await make(ctx)

    run = edda_sim.start(making_odd)
    edda_sim.advance(600)
    assert (run.status, ran, type(run.error)) == ("failed", [1], DefinitionError)


def test_pauses_are_instants_that_can_be_stored():
    """A pause that ends past the year 9999 is refused in the policy, not when a step fails."""
    with pytest.raises(ArgumentError, match="at most 100 years"):
        RetryPolicy(initial_interval=1e15, max_interval=1e16)
