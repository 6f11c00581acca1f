"""The engine in a simulation, under random schedules, crashes and faults, against the reference.

A scenario (`tests.model`) and the schedule it runs under are drawn from one number.
`EDDA_MODEL_SECONDS=3600` goes on for an hour, from `EDDA_MODEL_SEED`.
"""

import itertools
import os
import random
import time
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta

import pytest

from edda import turn as turn_room
from edda.ports import Commit
from edda.stores.memory import MemoryStore
from edda.stores.sqlite import DirectSqliteStore
from edda.undo import Undos
from edda_testkit import Simulation
from edda_testkit.freeze import Freezer
from edda_testkit.schedule import Options, Schedule
from tests.model import START, WORLDS, World, auditor, expected, judge, scenario, scripted

SECONDS = float(os.environ.get("EDDA_MODEL_SECONDS", "15"))
SEED = int(os.environ.get("EDDA_MODEL_SEED", "1"))


# ---- One scenario in a simulation ----------------------------------------------------------------


def observed(given, schedule, store, freezer):
    """What the engine makes of it, and its simulation."""
    WORLDS.append(World())
    sim = Simulation(schedule, store=store, replay=given.seed % 20 == 0, freezer=freezer)
    try:
        with sim:
            runs = {}
            for at, group in given.happenings:
                sim.advance(at - elapsed(sim))
                if len(group) == 1:
                    happen(sim, runs, *group[0])
                else:
                    with sim.concurrently():
                        for one in group:
                            happen(sim, runs, *one)
            sim.advance(given.end - elapsed(sim))
            ends = {id: (ending(run), result(run)) for id, run in runs.items()}
            audit = {} if store is not MemoryStore else sim.start(auditor).result
        return (ends, WORLDS[-1].done, audit), sim
    except BaseException as error:
        error.add_note(f"scenario {given.seed}: {given.happenings}\nschedule: {token(sim)}")
        raise
    finally:
        WORLDS.pop()


def token(sim):
    return sim.schedule.token


def elapsed(sim):
    return (sim.now - START).total_seconds()


def happen(sim, runs, what, *rest):
    match what:
        case "start":
            runs[rest[0]] = sim.start(scripted, rest[1], instance_id=rest[0])
        case "event":
            sim.send(rest[0], {"to": rest[1], "n": rest[2]})
        case "publish":
            sim.send(f"edda.channel.{rest[0]}", rest[1])
        case "cancel" if rest[0] in runs:
            runs[rest[0]].cancel()


def ending(run):
    return run.status if run.status in ("completed", "failed", "cancelled") else "waiting"


def result(run):
    return run.result if run.status == "completed" else None


# ---- The comparison ------------------------------------------------------------------------------


@contextmanager
def frozen():
    """One frozen clock for many simulations: to make it takes longer than to run most of them."""
    freezer = Freezer()
    freezer.hold()
    try:
        yield freezer
    finally:
        freezer.release()


def compare(seed, freezer):
    """Run one scenario under one schedule; raises what is wrong."""
    draw = random.Random(f"schedule {seed}")
    given = scenario(seed)
    options = Options(
        crashes=draw.choice([0, 1, 2]),
        duplicates=draw.choice([0, 0, 1]),
        faults=draw.choice([0, 0, 1]),
        workers=draw.choice([1, 1, 2]),
    )
    schedule = Schedule(draw.choice(["random", "pct"]), seed=seed, options=options)
    store = DirectSqliteStore if seed % 10 == 0 else MemoryStore
    (found, done, booked), sim = observed(given, schedule, store, freezer)
    try:
        judge(given, found, done, booked)
    except AssertionError as error:
        error.add_note(
            f"scenario {seed}: {given.happenings}\nuntil {given.end}\nschedule: {token(sim)} on "
            f"{store.__name__}\nagain: EDDA_MODEL_SEED={seed} pytest tests/test_model.py"
        )
        raise


def compare_some(count):
    """Run the first so many scenarios."""
    with frozen() as freezer:
        for seed in range(count):
            compare(seed, freezer)


def test_the_engine_does_what_the_reference_says():
    """Whatever the program, the schedule and the crashes, what must come of it comes of it."""
    end, count = time.monotonic() + SECONDS, 0
    with frozen() as freezer:
        for seed in itertools.count(SEED):
            compare(seed, freezer)
            count += 1
            if time.monotonic() > end:
                break
    print(f"{count} scenarios from seed {SEED} in {SECONDS:g} s")
    assert count > 0


def test_the_reference_sees_all_that_can_become_of_a_program():
    """Among the scenarios are many of each ending, and results of some length."""
    endings, lengths = Counter(), Counter()
    for seed in range(300):
        given = scenario(seed)
        found, _, _ = next(expected(given))
        for status, out in found.values():
            endings[status] += 1
            lengths[len(out or ())] += 1
    assert min(endings[one] for one in ("completed", "failed", "cancelled", "waiting")) > 20
    assert sum(count for length, count in lengths.items() if length > 1) > 50
    print(endings, lengths)


def forgotten_takes(monkeypatch):
    """What was taken is offered again."""
    monkeypatch.setattr(turn_room, "Commit", lambda taken, **rest: Commit(taken=(), **rest))


def lost_undos(monkeypatch):
    """The first step of a saga is not undone."""
    real = Undos.add

    def add(self, undo):
        if undo.step != "do:1":
            real(self, undo)

    monkeypatch.setattr(Undos, "add", add)


def shortened_timers(monkeypatch):
    """Timers last a little less than they should."""
    real = turn_room.deadline_of

    def early(ask):
        due = real(ask)
        return due and due - timedelta(seconds=0.75)

    monkeypatch.setattr(turn_room, "deadline_of", early)


@pytest.mark.parametrize("plant", [forgotten_takes, lost_undos, shortened_timers])
def test_a_planted_fault_is_noticed(monkeypatch, plant):
    """An engine with a fault departs from the reference within a few hundred scenarios."""
    plant(monkeypatch)
    with pytest.raises(BaseException) as caught:
        compare_some(400)
    assert any("schedule: edda1-" in note for note in caught.value.__notes__)
