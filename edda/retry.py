"""When a failed attempt is tried again, and after how long. Pure: no clock, no randomness.

Attempts count from 1. The interval before attempt n+1 is
`min(initial_interval * backoff_coefficient ** (n - 1), max_interval)`, shortened by up to a
tenth (jitter) so that a crowd of instances does not come back at one instant; it is never
longer than that, so a test that advances by the nominal interval always sees the attempt.
"""

import math
from dataclasses import dataclass

from edda.errors import (
    ArgumentError,
    DecodingError,
    DefinitionError,
    EncodingError,
    InvalidEventError,
    TerminalError,
)

__all__ = ["DEFAULT_RETRY_POLICY", "RetryPolicy"]

JITTER = 0.1

# The longest pause there is: a hundred years. Past the year 9999 there is no instant to store.
LONGEST_SECONDS = 100 * 365.25 * 86_400

# The next attempt would end the same: a value that cannot be stored, or a type that cannot, whose
# step has run already, and an event that every wait it fits refuses.
_FINAL = (TerminalError, EncodingError, DecodingError, DefinitionError, InvalidEventError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently an activity is retried.

    `max_attempts` counts the first attempt too; None is unlimited. `initial_interval`,
    `max_interval` and `max_duration` are seconds; `max_duration` counts from the first attempt,
    backoff included, and None is unlimited. Exceptions of the classes in `non_retryable`, and
    `TerminalError`, are never retried. Raises `ArgumentError` for values that make no sense.
    """

    max_attempts: int | None = 5
    initial_interval: float = 1.0
    backoff_coefficient: float = 2.0
    max_interval: float = 60.0
    max_duration: float | None = 300.0
    non_retryable: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be {expected}, got {value!r}"
            for name, value, expected, ok in (
                (
                    "max_attempts",
                    self.max_attempts,
                    "a whole number from 1, or None for unlimited",
                    self.max_attempts is None or _is_count(self.max_attempts),
                ),
                (
                    "initial_interval",
                    self.initial_interval,
                    "zero or more seconds, as a number, at most 100 years",
                    _is_at_least(self.initial_interval, 0.0, LONGEST_SECONDS),
                ),
                (
                    "backoff_coefficient",
                    self.backoff_coefficient,
                    "1 or more",
                    _is_at_least(self.backoff_coefficient, 1.0),
                ),
                (
                    "max_interval",
                    self.max_interval,
                    "zero or more seconds, as a number, at most 100 years",
                    _is_at_least(self.max_interval, 0.0, LONGEST_SECONDS),
                ),
                (
                    "max_duration",
                    self.max_duration,
                    "zero or more seconds, as a number, or None for unlimited",
                    self.max_duration is None or _is_at_least(self.max_duration, 0.0),
                ),
                (
                    "non_retryable",
                    self.non_retryable,
                    "a tuple of exception classes",
                    _are_exceptions(self.non_retryable),
                ),
            )
            if not ok
        ]
        if problems:
            raise ArgumentError("RetryPolicy", problems)

    def is_retryable(self, error: BaseException) -> bool:
        """Whether an attempt that ended with `error` may be followed by another."""
        return not isinstance(error, (*_FINAL, *self.non_retryable))

    def interval(self, attempt: int, *, jitter: float = 0.0) -> float:
        """Seconds to wait after failed attempt number `attempt`; `jitter` is from 0 to 1."""
        try:
            nominal = self.initial_interval * self.backoff_coefficient ** (attempt - 1)
        except OverflowError:
            nominal = self.max_interval if self.initial_interval else 0.0
        return min(nominal, self.max_interval) * (1.0 - JITTER * jitter)

    def next_interval(
        self, error: BaseException, *, attempt: int, elapsed_seconds: float, jitter: float = 0.0
    ) -> float | None:
        """Seconds until the next attempt, or None when there is none.

        `attempt` is the one that just failed with `error`, `elapsed_seconds` the time since the
        first one began.
        """
        if not self.is_retryable(error):
            return None
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return None
        interval = self.interval(attempt, jitter=jitter)
        if self.max_duration is not None and elapsed_seconds + interval > self.max_duration:
            return None
        return interval


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_at_least(value: object, least: float, most: float = math.inf) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and least <= value <= most
    )


def _are_exceptions(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(item, type) and issubclass(item, BaseException) for item in value
    )


DEFAULT_RETRY_POLICY = RetryPolicy()
