"""How fast histories are replayed: events a second on one core, from memory and from files.

    python benchmarks/replay.py [ROUNDS]

A realistic history: an order of ROUNDS (200) lines, each with two activities, a wait for an event
with a deadline, and a timer. It is made once, by feeding the machine what a worker would; then
the machine replays it, from events in memory and from the JSON text of its document. Targets:
200,000 events a second through the machine, 50,000 from JSON. CPU time counts, of the best of
several goes; the cost of a plain call is printed with it, to compare computers.
"""

import gc
import json
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from edda import activity, sleep, wait_event, workflow
from edda.commands import ActivityAsk, Ask, EventAsk, Result, SendAsk, TimerAsk
from edda.events import as_envelope
from edda.history import Answered, Asked, Event, Started, as_document, from_document
from edda.machine import Machine

MACHINE_TARGET = 200_000
JSON_TARGET = 50_000
SECONDS = 3.0
START = datetime(2000, 1, 1, tzinfo=UTC)


@activity
async def reserve(ctx, order_id: str, line: int) -> dict[str, Any]:
    return {"reservation": f"{order_id}-{line}", "quantity": 2}


@activity
async def charge(ctx, order_id: str, amount: float) -> str:
    return f"payment of {amount} for {order_id}"


@workflow
async def order(ctx, order_id: str, lines: int) -> float:
    total = 0.0
    for line in range(lines):
        reserved = await reserve(ctx, order_id, line)
        total += reserved["quantity"] * 9.5
        await charge(ctx, order_id, amount=total)
        paid = await wait_event(ctx, "payment.completed", timeout_seconds=3600)
        await sleep(ctx, paid.data["pause_seconds"])
    return total


def main() -> int:
    """Measure and print; exit code 1 where a target is missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    events = recorded(rounds)
    text = json.dumps(as_document("order-1", events))
    print(f"one history of {len(events):,} events, {len(text) / 1024:,.0f} KiB as JSON")
    machine = rate(lambda: replayed(events), len(events))
    whole = rate(lambda: replayed(from_document(json.loads(text))), len(events))
    reader = rate(lambda: from_document(json.loads(text)), len(events))
    print(f"machine        {machine:>9,.0f} events/s   target {MACHINE_TARGET:,}")
    print(f"from JSON      {whole:>9,.0f} events/s   target {JSON_TARGET:,}")
    print(f"  reading only {reader:>9,.0f} events/s")
    call = timeit.timeit("f()", "def f(): pass", number=1_000_000) * 1000
    print(f"a call of an empty function costs {call:.0f} ns here")
    return 0 if machine >= MACHINE_TARGET and whole >= JSON_TARGET else 1


def recorded(rounds: int) -> list[Event]:
    """The history of one finished order, made by the machine itself."""
    machine = Machine(order.program("order-1"))
    arguments = json.dumps({"order_id": "ORD-1", "lines": rounds})
    events: list[Event] = []
    machine.live(Started(0, START, order.name, arguments, 42))
    now = START
    while True:
        decided = machine.decide()
        events += decided.events
        if decided.outcome is not None:
            machine.close()
            return events
        for ask in [event.ask for event in decided.events if isinstance(event, Asked)]:
            now += timedelta(seconds=1)
            answer = Result(value_of(ask))
            machine.live(Answered(machine.next_seq, now, ask.id, ask.name, ask.kind, answer))


def value_of(ask: Ask) -> str:
    """What a worker would answer."""
    match ask:
        case ActivityAsk(name="reserve"):
            return json.dumps({"reservation": "ORD-1-7", "quantity": 2})
        case ActivityAsk() | SendAsk():
            return json.dumps("payment of 19.0 for ORD-1")
        case TimerAsk():
            return "null"
        case EventAsk():
            attributes = {"type": ask.name, "source": "bench", "id": ask.id, "time": START}
            return stored(attributes, {"pause_seconds": 5, "amount": 19.0})


def stored(attributes: dict[str, Any], data: Any) -> str:
    """An event as a wait's answer is stored."""
    return as_envelope(attributes, data).text


def replayed(events: list[Event]) -> None:
    """One replay, from scratch to the end."""
    machine = Machine(order.program("order-1"))
    machine.replay(events)
    assert machine.outcome is not None
    machine.close()


def rate(work: Callable[[], object], count: int) -> float:
    """Events a second, in the best of the goes that fit in SECONDS."""
    return count / min(goes(work))


def goes(work: Callable[[], object]) -> Iterator[float]:
    """How long each go took."""
    work()
    gc.collect()
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.process_time()  # what others do on this computer does not count
        work()
        yield time.process_time() - began


if __name__ == "__main__":
    raise SystemExit(main())
