"""Judges a campaign: reads what it left behind, and says which law of the engine was broken.

Pure. Each rule yields lines that begin with the law's name in DESIGN and in `docs/guarantees.md`.
No rule trusts the engine's account alone: it is held against the ledger that activities wrote,
against what customers saw, and against what was done to the processes.
"""

from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise

from edda.commands import Expiry, Result
from edda.history import Answered, Asked, Attempted, Started
from edda_testkit.errors import NotReplayableRun
from edda_testkit.replay import check_replay
from tests.torture import world

__all__ = ["faults"]

ENDS = {"trip": "failed", "abandoned": "cancelled"}
RECURRING = ("consumer", "listener")
# Executions of each step that must be in the ledger, by the name in the key.
EFFECTS = {
    "order": {"charge:1": 1, "flaky:1": 2},
    "delayed": {"mark:1": 1, "charge:1": 1, "charge:2": 1},
    "trip": {"reserve:1": 1, "reserve:2": 1, "unreserve:1": 1, "unreserve:2": 1},
    "counter": {"charge:1": 1},
    "parent": {},
    "teller": {},
    "racer": {},
}
BOOKINGS = {"order": ("book:1", "book:2")}


def faults(evidence):
    """Every line that some rule has to say."""
    return [line for rule in RULES for line in rule(evidence)]


# ---- T5: nothing that was accepted is lost, and everything ends ----------------------------------


def nothing_is_lost(evidence):
    for promise in evidence.promises:
        if promise.id not in evidence.instances:
            yield f"T5 {promise.id} was accepted and is gone"
    for answer in evidence.surprises:
        yield f"T5 a customer was told {answer}"
    for job in evidence.jobs:
        if not any(key.startswith("consumer") and n == job for key, n in charges(evidence)):
            yield f"T5 job {job} was accepted and nobody has done it"


def everything_ends(evidence):
    for id, instance in evidence.instances.items():
        wanted = ENDS.get(instance.workflow, "completed")
        if instance.status == "stuck":
            yield f"H3 {id} is stuck: {instance.problem}"
        elif not instance.status.is_final:
            waits = [wait.type for wait in instance.waits]
            yield f"T1 {id} has not ended: {instance.status}, due {instance.due}, waits {waits}"
        elif instance.status != wanted:
            # A cancellation may come when the last step is done; nothing else may.
            yield f"T1 {id} is {instance.status}, not {wanted}: {evidence.outcomes[id]!r}"
    for id in evidence.left:
        yield f"T1 {id} was not brought to its end by those that were not paused"


def outcomes_are_right(evidence):
    for promise in evidence.promises:
        instance = evidence.instances.get(promise.id)
        if instance is None or instance.status != ENDS.get(promise.workflow, "completed"):
            continue
        found, n = evidence.outcomes[promise.id], promise.n
        wanted = {
            "order": [n, n],
            "delayed": 3 * n,
            "parent": n,
            "teller": n,
            "counter": [1, 2, 3],
            "trip": "TerminalError",
        }.get(promise.workflow, found)
        if found != wanted:
            yield f"M2 {promise.id} came to {found!r}, not {wanted!r}"


# ---- T2: how often things were done --------------------------------------------------------------


def every_effect_is_there(evidence):
    done = Counter(line["key"] for line in effects(evidence))
    for id, instance in evidence.instances.items():
        if not instance.status.is_final or instance.workflow in RECURRING:
            continue
        for step, least in EFFECTS.get(instance.workflow, {}).items():
            if done[f"{id}/{step}"] < least:
                yield f"T2 {id}/{step} was done {done[f'{id}/{step}']} times, not {least}"


def answers_follow_effects(evidence):
    """No answer is in a history before its effect was made."""
    first = {}
    for line in effects(evidence):
        first.setdefault(line["key"], line["at"])
    for id, events in evidence.histories.items():
        if isinstance(events[0], Started) and events[0].recurred:
            continue
        for event in events:
            is_step = isinstance(event, Answered) and event.name in ("charge", "reserve", "mark")
            if is_step and isinstance(event.outcome, Result):
                at = first.get(f"{id}/{event.id}")
                if at is None:
                    yield f"T2 {id}/{event.id} has an answer, and was never done"
                elif event.at.timestamp() < at - evidence.clocks_seconds:
                    yield f"T2 {id}/{event.id} was answered before it was done"


def nothing_is_done_too_often(evidence):
    """Each further execution has a reason: a strike that came between effect and commit."""
    executions = defaultdict(list)
    for line in effects(evidence):
        executions[line["key"]].append(line)
    retried = {
        (f"{id}/{event.id}", event.attempt)
        for id, events in evidence.histories.items()
        for event in events
        if isinstance(event, Attempted)
    }
    for key, lines in executions.items():
        for before, after in pairwise(lines):
            if after["attempt"] > before["attempt"] and (key, before["attempt"]) in retried:
                continue
            if not any(True for _ in reasons(evidence, before, after)):
                yield f"T2 {key} was done again for no reason: {before}, {after}"


def reasons(evidence, before, after):
    """What could have kept the process of `before` from committing until `after`.

    Who could not renew a lease goes on for a moment before it finds out: it may have been the
    first to begin, and be the last to have its effect.
    """
    lease = evidence.lease_seconds
    for strike in evidence.strikes:
        until = strike.until if strike.kind == "kill" else strike.until + lease
        is_first = strike.pid in (None, before["pid"]) and until >= before["at"]
        is_second = strike.pid == after["pid"] and until >= after["at"]
        if strike.at <= after["at"] and (is_first or is_second):
            yield strike
    for line in evidence.ledger:
        is_stall = line["kind"] == "stall" and line["pid"] in (before["pid"], after["pid"])
        since = line["at"] - line.get("seconds", 0)
        if is_stall and since <= after["at"] and line["at"] + lease >= before["at"]:
            yield line


def bookings_are_exact(evidence):
    """What was written in the transaction of an answer is there once."""
    booked = Counter(key for key, _ in evidence.booked)
    for key, count in booked.items():
        if count != 1:
            yield f"T2 {key} was booked {count} times"
    for id, instance in evidence.instances.items():
        if instance.status == "completed":
            for step in BOOKINGS.get(instance.workflow, ()):
                if f"{id}/{step}" not in booked:
                    yield f"T2 {id}/{step} is in the history and was not booked"
    for key in booked:
        id, _, step = key.partition("/")
        answered = [e for e in evidence.histories.get(id, ()) if isinstance(e, Answered)]
        if step not in [event.id for event in answered]:
            yield f"T2 {key} is booked, and its answer is not in the history"


def undoing_is_in_reverse(evidence):
    undone = defaultdict(list)
    for line in effects(evidence):
        if "undone" in line and line["undone"] not in undone[line["key"].partition("/")[0]]:
            undone[line["key"].partition("/")[0]].append(line["undone"])
    for id, instance in evidence.instances.items():
        is_undone = instance.workflow == "trip" and instance.status == "failed"
        if is_undone and undone[id] != ["flight", "hotel"]:
            yield f"T1 {id} was undone in the order {undone[id]}"
        if instance.workflow == "abandoned" and instance.status == "cancelled":
            done = [
                event
                for event in evidence.histories[id]
                if isinstance(event, Answered) and event.name == "reserve"
            ]
            if done and isinstance(done[0].outcome, Result) and undone[id] != ["hotel"]:
                yield f"T1 {id} was cancelled and not undone"


# ---- T1, T3, H: histories ------------------------------------------------------------------------


def histories_only_grow(evidence):
    for id, seen in evidence.snapshots:
        now = evidence.histories.get(id, [])
        if seen and now and isinstance(now[0], Started) and now[0].recurred:
            continue
        if now[: len(seen)] != seen:
            yield f"H1 {id} had a history that it does not begin with any more"


def histories_are_sound(evidence):
    for id, events in evidence.histories.items():
        if [event.seq for event in events] != list(range(len(events))):
            yield f"T3 {id} has a history with holes"
        answered = Counter(event.id for event in events if isinstance(event, Answered))
        for step, count in answered.items():
            if count > 1:
                yield f"T3 {id}/{step} has {count} answers"
        workflow = world.WORKFLOWS[evidence.instances[id].workflow]
        try:
            if evidence.instances[id].status.is_final:
                check_replay(workflow, id, events)
        except NotReplayableRun as error:
            yield f"H2 {id} cannot be replayed: {error}"


# ---- M: messages ---------------------------------------------------------------------------------


def messages_are_taken_once(evidence):
    for id, events in evidence.histories.items():
        taken = [e.message for e in events if isinstance(e, Answered) and e.message is not None]
        if len(taken) != len(set(taken)):
            yield f"M2 {id} took a message twice: {taken}"


def jobs_have_one_taker(evidence):
    takers = defaultdict(set)
    for key, n in charges(evidence):
        if key.startswith("consumer"):
            takers[n].add(key.partition("/")[0].partition("~")[0])
    for job, ids in takers.items():
        if len(ids) > 1:
            yield f"M3 job {job} was done by {sorted(ids)}"


def news_have_no_gaps(evidence):
    for id, instance in evidence.instances.items():
        if instance.workflow == "listener" and instance.status == "completed":
            seen = evidence.outcomes[id]
            if seen != list(range(seen[0], seen[0] + len(seen))):
                yield f"M2 {id} heard {seen}"


def the_earlier_wins(evidence):
    for promise in evidence.promises:
        found = evidence.outcomes.get(promise.id)
        if promise.workflow != "racer" or not isinstance(found, list):
            continue
        how, deadline = found
        told = promise.told
        if how == "late" and told["accepted"] < deadline - evidence.clocks_seconds:
            yield f"M7 {promise.id} was late for an event that came before its deadline"
        if how == "came" and told["sent"] > deadline + evidence.clocks_seconds:
            yield f"M7 {promise.id} took an event that came after its deadline"


def the_outbox_is_empty(evidence):
    if evidence.pending:
        yield f"T5 {evidence.pending} events are still in the outbox"


# ---- Timers --------------------------------------------------------------------------------------


def no_timer_is_early(evidence):
    for line in effects(evidence):
        if "due" in line and line["at"] < line["due"] - evidence.clocks_seconds:
            yield f"Timers {line['key']}: {line['due'] - line['at']:.3f} s early"
    for id, events in evidence.histories.items():
        due = {}
        for event in events:
            if isinstance(event, Asked):
                due[event.ask.id] = getattr(event.ask, "due", getattr(event.ask, "deadline", None))
            is_timer = isinstance(event, Answered) and event.message is None
            is_timer = is_timer and (event.of == "timer" or isinstance(event.outcome, Expiry))
            if not is_timer:
                continue
            if event.id not in due:
                yield f"T3 {id}/{event.id} is answered before it is asked"
            elif event.at < due[event.id] - timedelta(seconds=evidence.clocks_seconds):
                yield f"Timers {id}/{event.id} fired early"


# ---- What the rules ask --------------------------------------------------------------------------


def effects(evidence):
    return (line for line in evidence.ledger if line["kind"] == "effect")


def charges(evidence):
    return [(e["key"], e["n"]) for e in effects(evidence) if "/charge" in e["key"]]


RULES = (
    nothing_is_lost,
    everything_ends,
    outcomes_are_right,
    every_effect_is_there,
    answers_follow_effects,
    nothing_is_done_too_often,
    bookings_are_exact,
    undoing_is_in_reverse,
    histories_only_grow,
    histories_are_sound,
    messages_are_taken_once,
    jobs_have_one_taker,
    news_have_no_gaps,
    the_earlier_wins,
    the_outbox_is_empty,
    no_timer_is_early,
)
