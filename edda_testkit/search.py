"""The search: which schedules of a scenario to try, and when to stop.

Schedules are enumerated by how much they deviate from the default: none, one choice, two, ...
so the first failure found is a small one. Every schedule is its set of deviations, and none is
tried twice. Where there are more than can be tried, half of what is left is drawn by PCT.
A failure is shrunk, and shown only when it happens again.

Absent: running one (`exploration`), and what a schedule means (`schedule`, `chance`).
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from time import perf_counter
from typing import Any

from edda_testkit.schedule import Deviation, Options, Pct, Randomly, Recorded, Source
from edda_testkit.shrinking import Failure, failure_of, shrunk

__all__ = ["BUDGET_SECONDS", "MAX_SCHEDULES", "Attempt", "Exploration", "Explorer"]

DEFAULT_SEED = 0
MAX_SCHEDULES = 2000
BUDGET_SECONDS = 10.0
WALKS = 8  # random schedules that the number of all is judged by
COUNTING_SECONDS = 0.5  # for counting on after a failure
PROGRESS_SECONDS = 2.0
MOST_KNOWN = 50_000  # schedules that are remembered for later


@dataclass(slots=True)
class Attempt:
    """How one schedule came out: with an error, or well. The simulation is closed."""

    source: Source
    error: BaseException | None
    simulation: Any = None

    @property
    def is_shared(self) -> bool:
        """Whether a call used the app, so that every order can matter."""
        return self.simulation is not None and bool(self.simulation.is_shared)

    @property
    def failure(self) -> Failure | None:
        """What went wrong, if anything did."""
        if self.error is None:
            return None
        return failure_of(self.error, self.source.schedule, self.simulation)


# Runs the scenario once. True asks for all checks, and for the story.
Run = Callable[[Source, bool], Attempt]


@dataclass(slots=True)
class Exploration:
    """What an exploration did. `total` is how many schedules there are, if they were counted."""

    seed: int
    tried: int = 0
    total: int | None = None
    about: float | None = None
    exhaustive: bool = False
    failure: Failure | None = None
    seconds: float = 0.0
    is_replay: bool = False
    shares: int = 1  # that this is one of
    shapes: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.is_replay:
            return "explored the one schedule that was asked for"
        share = f" of one share in {self.shares}" if self.shares > 1 else ""
        if self.total is not None:
            if self.failure is None:
                return f"explored all {_schedules(self.total)}{share}"
            return f"explored {self.tried:,} of all {_schedules(self.total)}{share}"
        of = f"{_about(self.about)}{share}, seed {self.seed}"
        return f"explored {_schedules(self.tried)} of {of}"

    @property
    def report(self) -> list[str]:
        """The lines to show: what was explored, and the schedule that failed."""
        lines = [str(self)]
        if self.failure is not None:
            lines.append(f"schedule: {self.failure.schedule.token}")
        return lines


@dataclass(frozen=True, slots=True)
class Explorer:
    """How to explore: with which options, and for how long."""

    options: Options
    max_schedules: int = MAX_SCHEDULES
    budget_seconds: float = BUDGET_SECONDS
    seed: int | None = None
    require_exhaustive: bool = False
    share: tuple[int, int] = (0, 1)  # which part of the search this is, and of how many

    @property
    def is_long(self) -> bool:
        """Whether more was asked for than by default: then it is worth while to be split."""
        return self.budget_seconds > BUDGET_SECONDS or self.max_schedules > MAX_SCHEDULES

    def __post_init__(self) -> None:
        if self.max_schedules < 1 or not self.budget_seconds > 0:
            raise ValueError(
                f"max_schedules must be 1 or more and budget_seconds more than 0, got "
                f"{self.max_schedules!r} and {self.budget_seconds!r}."
            )

    def explore(self, run: Run, show: Callable[[str], None] | None = None) -> Exploration:
        """Try schedules until one fails, all are tried, or the budget is spent."""
        begin = perf_counter()
        found = self._explore(run, self._coarse(), begin, show)
        if found is None:  # a call used the app: every order can matter after all
            found = self._explore(run, self.options, begin, show)
        assert found is not None, "what is not coarse is never given up"
        found.seconds = perf_counter() - begin
        if show is not None:
            show("")
        return found

    def _coarse(self) -> Options:
        one = self.options
        injects = one.crashes or one.duplicates or one.faults or one.delays
        return replace(one, is_coarse=one.reorder and not injects and one.workers == 1)

    def _explore(
        self, run: Run, options: Options, begin: float, show: Callable[[str], None] | None
    ) -> Exploration | None:
        done = Exploration(DEFAULT_SEED if self.seed is None else self.seed, shares=self.share[1])
        tree = _Tree(options, self.share)
        tried: set[tuple[Deviation, ...]] = set()
        shown = begin
        for source in self._sources(options, tree, done):
            attempt = run(source, not tried)
            tried.add(source.schedule.deviations)
            done.tried = len(tried)
            tree.learn(source, done.shapes)
            if options.is_coarse and attempt.is_shared:
                return None
            if attempt.error is not None:
                self._failed(run, done, tree, attempt, begin)
                return done
            now = perf_counter()
            if show is not None and now - shown > PROGRESS_SECONDS:
                shown = now
                spent = max(done.tried / self.max_schedules, (now - begin) / self.budget_seconds)
                bar = "█" * round(20 * min(1.0, spent))
                show(f"exploring {bar:░<20} {done.tried:,} schedules, {now - begin:.0f} s")
            if done.tried >= self.max_schedules or now - begin > self.budget_seconds:
                break
        self._count(done, tree)
        return done

    def _sources(self, options: Options, tree: "_Tree", done: Exploration) -> Iterator[Source]:
        """By deviations while that can be finished; else by turns with PCT."""
        number, shares = self.share
        random = Random(done.seed if not number else f"{done.seed}/{number}")
        while tree.left and tree.depth <= 1:  # and the first with two
            yield tree.next()
        if not tree.left:
            return
        weights = []
        for _ in range(WALKS):
            walk = Randomly(options, random.getrandbits(32))
            yield walk
            weights.append(math.prod(float(one.among) for one in walk.trail))
        done.about = sum(weights) / len(weights) / shares
        is_feasible = done.about <= 2 * self.max_schedules
        if not is_feasible:
            tree.shuffle(random)
        while tree.left:
            yield tree.next()
            if not is_feasible:
                yield Pct(options, random.getrandbits(32), done.shapes)

    def _count(self, done: Exploration, tree: "_Tree") -> None:
        if not tree.left and not tree.is_cut:
            done.exhaustive, done.total = True, done.tried
        else:
            done.about = max(done.about or 0.0, float(done.tried + tree.left))

    def _failed(
        self, run: Run, done: Exploration, tree: "_Tree", attempt: Attempt, begin: float
    ) -> None:
        """Shrink it, and count how many schedules there are, if that is quickly done."""
        failure = attempt.failure
        assert failure is not None

        def again(deviations: tuple[Deviation, ...]) -> Failure | None:
            source = Recorded(attempt.source.options, deviations, is_lenient=True)
            return run(source, True).failure

        done.failure = shrunk(failure, again)
        end = perf_counter() + min(COUNTING_SECONDS, 0.1 + 2 * (perf_counter() - begin))
        total = tree.tried
        while tree.left and perf_counter() < end and total < self.max_schedules:
            source = tree.next()
            run(source, False)
            tree.learn(source, done.shapes)
            total += 1
        if not tree.left and not tree.is_cut:
            done.total = max(total, done.tried)
        else:
            done.about = max(done.about or 0.0, float(total + tree.left))


class _Tree:
    """The schedules not tried yet, fewest deviations first."""

    def __init__(self, options: Options, share: tuple[int, int] = (0, 1)) -> None:
        self._share = share
        self.tried = 0
        self.depth = 0
        self._options = options
        self._level: deque[tuple[Deviation, ...]] = deque([()])
        self._next: list[tuple[Deviation, ...]] = []
        self._shuffle: Random | None = None
        self._last: tuple[Deviation, ...] = ()
        self._open: Recorded | None = None
        self.is_cut = False  # whether anything was left out

    @property
    def left(self) -> int:
        """How many are known and not tried yet."""
        return len(self._level) + len(self._next)

    def next(self) -> Source:
        """The next one to try."""
        if not self._level:  # this many deviations are done: one more
            if self._shuffle is not None:
                self._shuffle.shuffle(self._next)
            self._level.extend(self._next)
            self._next.clear()
            self.depth += 1
        self._last = self._level.popleft()
        self.tried += 1
        # What real threads or leaking state change from run to run must not look like a failure.
        self._open = Recorded(self._options, self._last, is_lenient=True)
        return self._open

    def learn(self, source: Source, shapes: dict[str, int]) -> None:
        """See where this schedule could have gone another way."""
        kinds: dict[str, int] = {}
        for one in source.trail:
            kinds[one.kind] = kinds.get(one.kind, 0) + 1
        for kind, count in kinds.items():
            shapes[kind] = max(shapes.get(kind, 0), count)
        if source is not self._open:
            return  # drawn by somebody else
        if self._open.has_strayed:
            self.is_cut = True
            return
        begin = self._last[-1].at + 1 if self._last else 0
        for one in source.trail[begin:]:
            if len(self._next) > MOST_KNOWN:
                self.is_cut = True
                break
            for choice in range(1, one.among):
                self._next.append((*self._last, Deviation(one.at, choice, one.among)))
        number, shares = self._share
        if not self._last and shares > 1:  # whoever has the first deviation has all that follow
            self._next = self._next[number::shares]

    def shuffle(self, random: Random) -> None:
        """There are more than can be tried: take them as they come."""
        self._shuffle = random
        level = list(self._level)
        random.shuffle(level)
        self._level = deque(level)


def _schedules(number: int) -> str:
    return f"{number:,} schedule{'' if number == 1 else 's'}"


def _about(number: float | None) -> str:
    if number is None or number < 1:
        return "an unknown number"
    if number < 10_000:
        return f"about {round(number, -int(math.log10(max(number, 1)))):,.0f}"
    return f"about 10^{round(math.log10(min(number, 1e300)))}"
