"""Random programs under random events, and a small reference that says what must come of them.

A scenario is drawn from one number: programs (lists of steps that one workflow interprets), and
what happens to their instances at which time. `Reference` says in a few lines what becomes of it;
`test_model` and `test_model_worker` hold engines against it. Ties of time are left out: law M7 has
tests of its own.
"""

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edda import (
    EventTimeoutError,
    RetryPolicy,
    TerminalError,
    activity,
    compensation,
    on_failure,
    receive,
    subscribe,
    wait_any,
    wait_event,
    wait_timer,
    workflow,
)

TYPES = ("red", "green", "blue")
START = datetime(2000, 1, 1, tzinfo=UTC)


# ---- The workflow, which interprets a program ----------------------------------------------------


@dataclass
class World:
    """What the activities of one simulation have done, for one run after another."""

    done: list[tuple[str, str, int]] = field(default_factory=list)  # run, what, n


def note(ctx, what, n):
    ctx_world().done.append((ctx.instance_id, what, n))


def ctx_world():
    return WORLDS[-1]


WORLDS = []  # the one in use is the last


@compensation
async def undo(ctx, n: int) -> None:
    note(ctx, "undo", n)


@activity(retry_policy=RetryPolicy(max_attempts=5, initial_interval=1e-6, backoff_coefficient=1))
@on_failure(undo)
async def do(ctx, n: int, failures: int) -> int:
    note(ctx, "do", n)
    if ctx.attempt <= failures:
        raise ConnectionError("not yet")
    return n


@activity(transactional=True)
async def book(ctx, n: int) -> None:
    if hasattr(ctx.connection, "get"):  # in memory
        key = ctx.idempotency_key
        ctx.connection[key] = ctx.connection.get(key, 0) + 1


@activity(transactional=True)
async def booked(ctx) -> dict[str, int]:
    return dict(ctx.connection)


@workflow
async def auditor(ctx):
    return await booked(ctx)


@workflow
async def scripted(ctx, program: list):
    out = []
    await interpret(ctx, program, out)
    return out


async def interpret(ctx, program, out):
    for at, (step, *arguments) in enumerate(program):
        match step:
            case "do":
                out.append(await do(ctx, *arguments))
            case "book":
                await book(ctx, *arguments)
            case "sleep":
                await wait_timer(ctx, *arguments)
            case "wait":
                out.append(await one_event(ctx, *arguments))
            case "any":
                out.append(await any_event(ctx, *arguments))
            case "both":
                parts = [[] for _ in arguments]
                branches = zip(arguments, parts, strict=True)
                await asyncio.gather(*(interpret(ctx, *branch) for branch in branches))
                out.extend(parts)
            case "child":
                out.append(await scripted.run(ctx, *arguments))
            case "subscribe":
                await subscribe(ctx, *arguments)
            case "receive":
                out.append(await one_message(ctx, *arguments))
            case "fail":
                raise TerminalError("as the program says")
            case "recur":
                await ctx.recur(program=program[at + 1 :])


async def one_event(ctx, type, is_matched, timeout):
    match = {"data.to": ctx.instance_id} if is_matched else None
    try:
        event = await wait_event(ctx, type, match=match, timeout_seconds=timeout)
    except EventTimeoutError:
        return None
    return event.data["n"]


async def any_event(ctx, types, timeout):
    try:
        event = await wait_any(ctx, dict.fromkeys(types), timeout_seconds=timeout)
    except EventTimeoutError:
        return None
    return event.data["n"]


async def one_message(ctx, channel, timeout):
    try:
        message = await receive(ctx, channel, timeout_seconds=timeout)
    except EventTimeoutError:
        return None
    return message.data


# ---- What must come of it ------------------------------------------------------------------------


class Ended(Exception):
    """The program of an instance ended before its last step: why, and when."""

    def __init__(self, status, at):
        self.status = status
        self.at = at


@dataclass
class Reference:
    """One instance: what it does, given all that is ever accepted.

    `log` are messages in the order of acceptance: (time, type, to, n). `now` is its own time,
    `end` the time at which it is cancelled, or the scenario is over.
    """

    id: str
    log: list
    now: float
    end: float
    is_cancelled: bool
    done: list = field(default_factory=list)  # everything that must have been done, once
    booked: list = field(default_factory=list)
    taken: set = field(default_factory=set)
    since: dict = field(default_factory=dict)  # channel -> when it was subscribed to
    ids: Counter = field(default_factory=Counter)
    undos: list = field(default_factory=list)
    round: int = 0

    def run(self, program):
        """The status and the result, at the end."""
        out = []
        self.born = self.now  # it reads what comes after that
        try:
            while program is not None:
                out.clear()
                program = self.steps(program, out)
        except Ended as ended:
            self.now = ended.at
            if ended.status != "waiting":
                self.done += [(self.id, "undo", n) for _, n in reversed(self.undos)]
            return ended.status, None
        return "completed", out

    def until(self, at):
        """Time passes, unless somebody cancels before, or everything is over."""
        if at > self.end:
            raise Ended("cancelled" if self.is_cancelled else "waiting", self.end)
        self.now = max(self.now, at)

    def steps(self, program, out):
        for at, (step, *arguments) in enumerate(program):
            match step:
                case "do":
                    n, _ = arguments
                    self.done.append((self.id, "do", n))
                    self.undos.append((self.now, n))
                    out.append(n)
                case "book":
                    self.ids["book"] += 1
                    prefix = f"{self.id}~{self.round}" if self.round else self.id
                    self.booked.append(f"{prefix}/book:{self.ids['book']}")
                case "sleep":
                    self.until(self.now + arguments[0])
                case "wait":
                    type, is_matched, timeout = arguments
                    out.append(self.take({type}, self.born, timeout, is_matched))
                case "any":
                    out.append(self.take(set(arguments[0]), self.born, arguments[1]))
                case "both":
                    out.extend(self.both(arguments))
                case "child":
                    out.append(self.child(*arguments))
                case "subscribe":
                    self.since.setdefault(arguments[0], self.now)
                case "receive":
                    channel, timeout = arguments
                    out.append(self.take({"#" + channel}, self.since[channel], timeout))
                case "fail":
                    raise Ended("failed", self.now)
                case "recur":
                    self.undos.clear()
                    self.ids.clear()
                    self.round += 1
                    return program[at + 1 :]
        return None

    def take(self, types, since, timeout, is_matched=False):
        deadline = float("inf") if timeout is None else self.now + timeout
        for place, (at, type, to, n) in enumerate(self.log):
            fits = type in types and (not is_matched or to == self.id)
            if fits and place not in self.taken and at > since:
                if at > deadline:
                    break
                self.until(at)
                self.taken.add(place)
                return n
        self.until(deadline)
        return None

    def both(self, programs):
        """Branches that take different types do not meet; the later end is the end."""
        outs, start, ends = [], self.now, []
        problem = None
        for program in programs:
            self.now = start
            outs.append([])
            try:
                self.steps(program, outs[-1])
            except Ended as ended:
                problem = ended
            ends.append(self.now)
        if problem is not None:
            self.undos.sort(key=lambda undo: undo[0])
            raise problem
        self.now = max(ends)
        self.undos.sort(key=lambda undo: undo[0])
        return outs

    def child(self, program):
        self.ids["child"] += 1
        round = f"~{self.round}" if self.round else ""
        id = f"{self.id}{round}.scripted:{self.ids['child']}"
        one = Reference(id, self.log, self.now, self.end, self.is_cancelled)
        status, out = one.run(program)
        self.done += one.done
        self.booked += one.booked
        if status == "completed":
            self.until(one.now)
            return out
        raise Ended(status, one.now)


# ---- Scenarios -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """What happens: (time, what, ...) each at a time of its own; those in a list side by side."""

    seed: int
    happenings: list
    end: float


def programs(draw, depth=0):
    """A program that is drawn."""
    steps, channels = [], []
    for _ in range(draw.randint(1, 5)):
        step = draw.choice(
            "do do book sleep wait wait any both child subscribe receive fail recur".split()
        )
        n = draw.randrange(1000)
        timeout = draw.choice([None, None, 1, 3, 8])
        match step:
            case "do":
                steps.append(["do", n, draw.choice([0, 0, 0, 1, 2])])
            case "book":
                steps.append(["book", n])
            case "sleep":
                steps.append(["sleep", draw.randint(0, 5)])
            case "wait":
                steps.append(["wait", draw.choice(TYPES), draw.random() < 0.6, timeout])
            case "any":
                steps.append(["any", draw.sample(TYPES, 2), timeout])
            case "both" if depth == 0:
                first, second = draw.sample(TYPES, 2)
                branches = [branch(draw, first), branch(draw, second)]
                steps.append(["both", *branches])
            case "child" if depth < 2 and draw.random() < 0.5:
                steps.append(["child", programs(draw, depth + 1)])
            case "subscribe":
                channels.append(draw.choice("ab"))
                steps.append(["subscribe", channels[-1]])
            case "receive" if channels:
                steps.append(["receive", draw.choice(channels), timeout])
            case "fail" if draw.random() < 0.3:
                return [*steps, ["fail"]]
            case "recur" if depth == 0:
                steps.append(["recur"])
    return steps


def branch(draw, type):
    """A part that runs beside another, and takes only this type."""
    steps = []
    for _ in range(draw.randint(1, 3)):
        timeout = draw.choice([None, 2, 5])
        kinds = [["sleep", draw.randint(1, 4)], ["wait", type, draw.random() < 0.5, timeout]]
        steps.append(draw.choice(kinds))
    return steps


def scenario(seed):
    """The scenario of this number."""
    draw = random.Random(seed)
    ids = [f"R{n}" for n in range(draw.randint(1, 3))]
    targets = [*ids, f"{ids[0]}.scripted:1"]
    happenings = []
    waiting = [("start", id, programs(draw)) for id in ids]
    for n in range(draw.randint(2, 12)):
        kind = draw.choice(["event"] * 5 + ["publish"] * 2 + ["cancel"])
        match kind:
            case "event":
                to = draw.choice([*targets, None])
                waiting.append(("event", draw.choice(TYPES), to, n))
            case "publish":
                waiting.append(("publish", draw.choice("ab"), n))
            case "cancel" if draw.random() < 0.4:
                waiting.append(("cancel", draw.choice(ids)))
    draw.shuffle(waiting)
    if draw.random() < 0.7:
        waiting.sort(key=lambda one: one[0] == "start")  # these first: they are taken from the end
    # Each has a fraction of a second of its own, and programs wait for whole ones: no ties.
    # Where something begins to read the log on its way, it may do so between any two.
    is_plain = not any(word in str(waiting) for word in ("'child'", "'subscribe'"))
    at, fraction = 0, itertools.count(1)
    while waiting:
        at += draw.choice([0, 0, 1, 1, 2, 4])
        group = [waiting.pop()]
        while is_plain and waiting and len(group) < 3 and draw.random() < 0.4:
            if {group[-1][0], waiting[-1][0]} <= {"start", "event"}:
                group.append(waiting.pop())
            else:
                break
        happenings.append((at + next(fraction) / 1024, group))
    return Scenario(seed, happenings, at + draw.choice([1, 6, 30]) + 1023 / 1024)


def expected(given):
    """All that may come of a scenario: one for each order of what happens side by side."""
    orders = [itertools.permutations(group) for _, group in given.happenings]
    times = [at for at, _ in given.happenings]
    for order in itertools.product(*orders):
        yield outcome(given, list(zip(times, order, strict=True)))


def outcome(given, happenings):
    log, starts, cancels = [], {}, {}
    for at, group in happenings:
        for place, (what, *rest) in enumerate(group):
            moment = at + place * 2**-30  # side by side, but one after the other
            match what:
                case "start":
                    starts[rest[0]] = (moment, rest[1])
                case "event":
                    log.append((moment, *rest))
                case "publish":
                    log.append((moment, "#" + rest[0], None, rest[1]))
                case "cancel" if rest[0] in starts:
                    cancels.setdefault(rest[0], moment)
    found, done, booked = {}, Counter(), []
    for id, (moment, program) in starts.items():
        end = cancels.get(id, given.end)
        one = Reference(id, log, moment, end, id in cancels)
        found[id] = one.run(program)
        done.update(one.done)
        booked += one.booked
    return found, done, sorted(booked)


def judge(given, found, done, booked):
    """Hold what came of a scenario against all that may."""
    wanted = []
    for ends, must_be_done, must_be_booked in expected(given):
        is_booked = not booked or booked == dict.fromkeys(must_be_booked, 1)
        if found == ends and set(done) == set(must_be_done) and is_booked:
            return
        wanted.append((ends, sorted(must_be_done), must_be_booked))
    first = wanted[0]
    assert (found, sorted(set(done)), booked) == first, f"and {len(wanted) - 1} other ways"
