"""Schedules: every choice of a simulation comes from one numbered source.

* A choice has `n` possibilities and a kind; 0 is what a simulation does by default. Only choices
  with more than one possibility are counted, from 0 on, in the order they come up.
* A schedule is kept as its *deviations* from the default. It prints as a token, `edda1-...`, that
  carries the options it was explored under and the version of the default behaviour.
* Sources: the default, a record, seeded random, PCT (random priorities with a few change points),
  and a tape of small integers for Hypothesis. Which schedules to try is `exploration`'s business.

Absent: what there is to choose (the driver's), and any randomness that no seed repeats.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any, Literal, Self

from edda_testkit.errors import ScheduleError
from edda_testkit.varint import CHECK_BYTES, check_sum, numbers_in, varint

__all__ = [
    "DEFAULT_VERSION",
    "Choice",
    "Deviation",
    "Options",
    "Pct",
    "Plain",
    "Randomly",
    "Recorded",
    "Schedule",
    "Source",
    "Tape",
    "as_source",
]

# Counts up whenever choice 0 comes to mean something else: older tokens are then refused.
DEFAULT_VERSION = 1
PREFIX = "edda1-"
MOST_DEVIATIONS = 10_000

Kind = Literal["default", "recorded", "random", "pct", "tape"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a simulation may choose: how many crashes, duplicates, ... and the order.

    With `inside_activities` crashes strike also between two effects of one (`between`).
    `is_coarse` leaves out reorderings that nobody can tell apart (`exploration` says when).
    """

    crashes: int = 0
    duplicates: int = 0
    reorder: bool = True
    faults: int = 0
    workers: int = 1
    duplicate_ids: Literal["same", "fresh"] = "same"
    is_coarse: bool = False
    delays: int = 0
    inside_activities: bool = False

    def __repr__(self) -> str:
        return _said(self)

    def __post_init__(self) -> None:
        for name in ("crashes", "duplicates", "faults", "delays", "workers"):
            value, least = getattr(self, name), int(name == "workers")
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least} on, got {value!r}.")
        if self.duplicate_ids not in ("same", "fresh"):
            raise ValueError(
                f'duplicate_ids must be "same" or "fresh", got {self.duplicate_ids!r}.'
            )


@dataclass(frozen=True, slots=True)
class Deviation:
    """At the choice numbered `at`, which has `among` possibilities, take `choice`, not 0."""

    at: int
    choice: int
    among: int


@dataclass(slots=True)
class Choice:
    """The choice numbered `at`: of what kind, among how many, between what, and what was taken."""

    at: int
    kind: str
    among: int
    options: Sequence[Any] = ()
    taken: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The choices of one simulation, as a value. `Simulation(schedule)` runs by it.

    `deviations` belong to the kind "recorded", `seed` to "random" and "pct", `tape` to "tape":
    pairs of how many choices to leave at 0, and the choice to take then.
    """

    kind: Kind = "default"
    seed: int = 0
    tape: tuple[int, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    options: Options = Options()

    def __repr__(self) -> str:
        return _said(self)

    def _repr_pretty_(self, printer: Any, _: object) -> None:
        printer.text(repr(self))  # as it is written, in Hypothesis's failing examples too

    def __str__(self) -> str:
        if self.kind in ("default", "recorded"):
            return self.token
        what = f"tape {list(self.tape)}" if self.kind == "tape" else f"seed {self.seed}"
        return f"{self.kind}, {what}"

    @property
    def token(self) -> str:
        """The short text that `parse` reads. Only a record has one; `sim.schedule` is one."""
        if self.kind not in ("default", "recorded"):
            raise ScheduleError(
                f"A schedule of the kind {self.kind!r} has no token before it was run: take that "
                f"of sim.schedule afterwards."
            )
        options = self.options
        flags = options.reorder | (options.duplicate_ids == "fresh") << 1 | options.is_coarse << 2
        delays = [options.delays] if options.delays else []
        flags |= bool(delays) << 3 | options.inside_activities << 4
        numbers = [DEFAULT_VERSION, flags, options.crashes, options.duplicates]
        numbers += [options.faults, options.workers, *delays, len(self.deviations)]
        position = 0
        for one in self.deviations:
            numbers += [one.at - position, one.choice, one.among]
            position = one.at + 1
        body = b"".join(map(varint, numbers))
        text = base64.urlsafe_b64encode(check_sum(body) + body).decode()
        return PREFIX + text.rstrip("=")

    @classmethod
    def parse(cls, token: str) -> Self:
        """The schedule of a token. Raises `ScheduleError` saying what is wrong with it."""
        if not isinstance(token, str) or not token.startswith(PREFIX):
            raise ScheduleError(f"{token!r} is no schedule: one begins with {PREFIX!r}.")
        text = token.removeprefix(PREFIX)
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        check, body = raw[:CHECK_BYTES], raw[CHECK_BYTES:]
        if not body or check != check_sum(body):
            raise ScheduleError(f"The schedule {token!r} is damaged: copy all of it.")
        schedule = cls._read(token, numbers_in(body))
        if schedule.token != token:  # two spellings of one schedule would be one too many
            raise ScheduleError(f"The schedule {token!r} is damaged: copy all of it.")
        return schedule

    @classmethod
    def _read(cls, token: str, numbers: list[int]) -> Self:
        version, rest = numbers[0], numbers[1:]
        if version != DEFAULT_VERSION:
            raise ScheduleError(
                f"The schedule {token!r} was recorded with version {version} of the default "
                f"behaviour, and this is {DEFAULT_VERSION}: explore again for a new one."
            )
        damaged = ScheduleError(f"The schedule {token!r} is damaged: copy all of it.")
        delays = rest.pop(5) if len(rest) > 6 and rest[0] & 8 else 0
        if len(rest) < 6 or len(rest) != 6 + 3 * rest[5] or rest[5] > MOST_DEVIATIONS:
            raise damaged
        flags, crashes, duplicates, faults, workers, _ = rest[:6]
        position, deviations = 0, []
        for gap, choice, among in zip(*[iter(rest[6:])] * 3, strict=True):
            deviations.append(Deviation(position + gap, choice, among))
            if not 0 < choice < among:
                raise damaged
            position += gap + 1
        if flags > 31 or workers < 1 or delays < 0:
            raise damaged
        options = Options(
            crashes=crashes,
            duplicates=duplicates,
            reorder=bool(flags & 1),
            faults=faults,
            workers=workers,
            duplicate_ids="fresh" if flags & 2 else "same",
            is_coarse=bool(flags & 4),
            delays=delays,
            inside_activities=bool(flags & 16),
        )
        return cls("recorded", deviations=tuple(deviations), options=options)

    def source(self, lengths: Mapping[str, int] | None = None) -> "Source":
        """What a simulation draws from. `lengths` is how many choices of each kind to expect."""
        match self.kind:
            case "default":
                return Source(self.options)
            case "recorded":
                return Recorded(self.options, self.deviations)
            case "random":
                return Randomly(self.options, self.seed)
            case "pct":
                return Pct(self.options, self.seed, lengths or {})
            case "tape":
                return Tape(self.options, self.tape)


class Source:
    """The default: always 0. `trail` is every choice made so far."""

    explores = True

    def __init__(self, options: Options) -> None:
        self.options = options
        self.trail: list[Choice] = []

    # All choices of a simulation go through here.
    def choose(self, among: int, kind: str, options: Sequence[Any] = ()) -> int:
        """One of `among` possibilities. `options` name them, for who has preferences."""
        if among < 2:
            return 0
        choice = Choice(len(self.trail), kind, among, options)
        self.trail.append(choice)
        choice.taken = self.take(choice)
        return choice.taken

    def take(self, choice: Choice) -> int:  # noqa: ARG002 - the others look at it
        """What to take; sources differ in this alone."""
        return 0

    @property
    def schedule(self) -> Schedule:
        """What was chosen, as a record."""
        deviations = tuple(
            Deviation(one.at, one.taken, one.among) for one in self.trail if one.taken
        )
        return Schedule("recorded", deviations=deviations, options=self.options)

    def check_spent(self) -> None:
        """Raise `ScheduleError` when the simulation did not come to where it should deviate."""


class Plain(Source):
    """The default of a simulation that nobody explores: it asks for nothing."""

    explores = False


class Recorded(Source):
    """Does again what a record says. With `is_lenient` what does not fit is taken as it may be."""

    def __init__(
        self, options: Options, deviations: Sequence[Deviation], *, is_lenient: bool = False
    ) -> None:
        super().__init__(options)
        self._left = {one.at: one for one in deviations}
        self._is_lenient = is_lenient
        self._has_strayed = False

    @property
    def has_strayed(self) -> bool:
        """Whether the simulation went another way than the one that was recorded."""
        return self._has_strayed or bool(self._left)

    def take(self, choice: Choice) -> int:
        """What the record says."""
        among = choice.among
        one = self._left.pop(choice.at, None) if self._left else None
        if one is None:
            return 0
        if one.among == among:
            return one.choice
        self._has_strayed = True
        if not self._is_lenient:
            raise ScheduleError(
                f"This schedule does not fit: at its choice {choice.at} ({choice.kind}) there "
                f"were {one.among} possibilities when it was recorded, and now there are {among}. "
                f"{_STALE}"
            )
        return one.choice if one.choice < among else 0

    def check_spent(self) -> None:
        """Raise `ScheduleError` when the simulation did not come to where it should deviate."""
        if self._left and not self._is_lenient:
            raise ScheduleError(
                f"This schedule does not fit: it deviates at choice {min(self._left)}, and there "
                f"were only {len(self.trail)} choices. {_STALE}"
            )


class Randomly(Source):
    """Any possibility as likely as any other; what is injected comes now and then."""

    def __init__(self, options: Options, seed: int) -> None:
        super().__init__(options)
        self._random = Random(seed)

    def take(self, choice: Choice) -> int:
        """Any."""
        return self._random.randrange(choice.among)


class Pct(Source):
    """Random priorities that change at a few points: finds what needs a few well-placed switches.

    What is injected (crashes, duplicates, faults) strikes at points drawn beforehand.
    """

    def __init__(self, options: Options, seed: int, lengths: Mapping[str, int]) -> None:
        super().__init__(options)
        self._random = random = Random(seed)
        self._priorities: dict[Any, float] = {}
        self._seen: dict[str, int] = {}
        self._points: dict[str, set[int]] = {}
        budgets = {
            "order": random.randrange(1, 4),
            "crash": options.crashes,
            "duplicate": options.duplicates,
            "fault": options.faults,
            "lease": options.faults,
            "delay": options.delays,
        }
        for kind, budget in budgets.items():
            length = lengths.get(kind, 10)
            self._points[kind] = {random.randrange(max(1, length)) for _ in range(budget)}

    def take(self, choice: Choice) -> int:
        """The one of highest priority; what is injected, where it was drawn to be."""
        among, kind, options = choice.among, choice.kind, choice.options
        seen = self._seen[kind] = self._seen.get(kind, -1) + 1
        is_point = seen in self._points.get(kind, ())
        if kind != "order":
            if kind in self._points:
                return self._random.randrange(1, among) if is_point else 0
            return self._random.randrange(among)
        priorities = self._priorities
        for one in options:
            if one not in priorities:
                priorities[one] = self._random.random()
        best = max(range(among), key=lambda index: priorities[options[index]])
        if is_point:  # whoever would go on is overtaken by all others
            priorities[options[best]] = -float(seen)
            best = max(range(among), key=lambda index: priorities[options[index]])
        return best


class Tape(Source):
    """Small integers in pairs: how many choices to leave at 0, and what to take then.

    What it takes is never 0: a draw that changed nothing would be a wasted one.
    """

    def __init__(self, options: Options, tape: Sequence[int]) -> None:
        super().__init__(options)
        self._taken: dict[int, int] = {}
        position = -1
        for gap, choice in zip(tape[::2], tape[1::2], strict=False):
            position += 1 + max(0, gap)
            self._taken[position] = choice

    def take(self, choice: Choice) -> int:
        """What the tape says."""
        taken = self._taken.get(choice.at)
        return 0 if taken is None else 1 + (taken - 1) % (choice.among - 1)

    def deviate(self, gap: int, choice: int) -> None:
        """Take `choice` when as many more choices as `gap` have been made from now on."""
        self._taken[len(self.trail) + gap] = choice


def as_source(schedule: "Schedule | Source | str | None") -> Source:
    """What `Simulation(schedule)` was given, as a source."""
    match schedule:
        case None:
            return Plain(Options())
        case Source():
            return schedule
        case Schedule():
            return schedule.source()
        case str():
            return Schedule.parse(schedule).source()
    raise ScheduleError(f"Simulation() takes a Schedule or its token, and got {schedule!r}.")


_STALE = "The code, the test or the options have changed since: explore again for a new one."


def _said(value: Any) -> str:
    """A dataclass as it would be written: what is at its default is left out."""
    given = [(one, getattr(value, one.name)) for one in fields(value)]
    parts = [f"{one.name}={kept!r}" for one, kept in given if kept != one.default]
    return f"{type(value).__name__}({', '.join(parts)})"
