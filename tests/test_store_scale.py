"""The stores at scale: what is asked all the time costs the same among ten thousand as among few.

Cost is counted, not timed: the instructions of SQLite's virtual machine, and in memory the lines of
Python that run (each turn of a loop runs a line, also of one in brackets).
"""

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from edda.events import Envelope, match_values
from edda.history import Started
from edda.ports import Commit, NewInstance, Status, Subscription, Wait
from edda.stores.memory import MemoryStore
from edda.stores.sqlite import DirectSqliteStore
from edda.stores.sqlite_rows import SQL

FEW, MANY = 100, 10_000
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    def now(self):
        return NOW

    def entropy(self, bits):
        return 0


def run(coroutine):
    """What a coroutine that never suspends returns."""
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    return caught.value.value


def event(id, data=None, type="paid", to=None):
    document = {"type": type, "source": "s", "id": id, "data": data}
    return Envelope(type, "s", id, json.dumps(document), to)


def wait(value=None, id="paid:1"):
    if value is None:
        return Wait(id, "paid")
    return Wait(id, "paid", '["data"]', match_values({"data": value}, ["data"]))


def step(lease, *waits, subscriptions=(), status=Status.RUNNING, release=True, taken=()):
    return Commit(
        lease, 1, (), status, waits, taken, None, release, subscriptions=tuple(subscriptions)
    )


class World:
    """A store on SQLite in memory, with a counter of what a call costs."""

    def __init__(self):
        self.store = DirectSqliteStore(Clock())
        run(self.store.open())
        self.connection = self.store._file.connection

    def begin(self, id):
        started = Started(0, NOW, "w", "{}", 1)
        return run(self.store.create(NewInstance(id, "w", started, "me"))).claimed.lease

    def suspend(self, id, *waits, subscriptions=()):
        run(self.store.commit(step(self.begin(id), *waits, subscriptions=subscriptions)))

    def cost(self, call):
        count = 0

        def tick():
            nonlocal count
            count += 1

        self.connection.set_progress_handler(tick, 1)
        try:
            found = run(call)
        finally:
            self.connection.set_progress_handler(None, 1)
        return count, found


class MemoryWorld(World):
    """The same in memory, where the lines of Python that run are counted."""

    def __init__(self):
        self.store = MemoryStore(Clock())

    def cost(self, call):
        count = 0

        def trace(frame, kind, argument):
            nonlocal count
            if "/edda/" not in frame.f_code.co_filename:
                return None  # what the garbage collector calls is none of the store's work
            count += kind in ("call", "line")
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            found = call.send(None)
        except StopIteration as end:
            found = end.value
        finally:
            sys.settrace(before)
        return count, found


@pytest.fixture(params=[World, MemoryWorld], ids=["sqlite", "memory"])
def world(request):
    made = []

    def make():
        made.append(request.param())
        return made[-1]

    yield make
    for one in made:
        run(one.store.close())


def test_an_event_finds_its_wait_by_index(world):
    """Delivering an event with a match costs the same among ten thousand waits."""

    def cost(size):
        here = world()
        for n in range(size):
            here.suspend(f"i{n}", wait(n))
        count, found = here.cost(here.store.deliver([event("e", 7)]))
        assert found[0].woken == ("i7",)
        return count

    assert cost(MANY) == cost(FEW) > 0


def test_an_addressed_event_finds_its_wait_by_index(world):
    """An event for one instance costs the same, however many wait for such without a match."""

    def cost(size):
        here = world()
        for n in range(size):
            here.suspend(f"i{n}", wait())
        count, found = here.cost(here.store.deliver([event("e", to="i7")]))
        assert found[0].woken == ("i7",)
        return count

    assert cost(MANY) == cost(FEW) > 0


def test_a_wait_finds_its_messages_by_index(world):
    """Registering a wait with a match costs the same after ten thousand messages."""

    def cost(size):
        here = world()
        lease = here.begin("a")
        run(here.store.commit(step(lease, wait(-1), release=False)))
        run(here.store.deliver([event(f"e{n}", n) for n in range(size)]))
        commit = step(lease, wait(7, "paid:2"), release=False)
        count, found = here.cost(here.store.commit(commit))
        assert [message.envelope.id for message in found.messages] == ["e7"]
        return count

    assert cost(MANY) == cost(FEW) > 0


def test_what_came_before_costs_a_wait_nothing(world):
    """A wait that begins to read late does not look at what came before."""

    def cost(size):
        here = world()
        here.suspend("first", wait())
        run(here.store.deliver([event(f"e{n}") for n in range(size)]))
        lease = here.begin("a")
        run(here.store.deliver([event("mine")]))
        count, found = here.cost(here.store.commit(step(lease, wait(), release=False)))
        assert [message.envelope.id for message in found.messages] == ["mine"]
        return count

    assert cost(MANY) == cost(FEW) > 0


def test_a_queue_is_taken_from_its_head(world):
    """Taking from a queue of ten thousand costs what it does from a short one."""

    def cost(size):
        here = world()
        run(here.store.deliver([event(f"e{n}", type="job") for n in range(size)]))
        subscriptions = [Subscription("job", "competing")]
        lease = here.begin("a")
        first = Wait("receive:1", "job", mode="competing")
        run(here.store.commit(step(lease, first, subscriptions=subscriptions, release=False)))
        commit = step(
            lease,
            Wait("receive:2", "job", mode="competing"),
            subscriptions=subscriptions,
            taken=(1,),
            release=False,
        )
        count, found = here.cost(here.store.commit(commit))
        assert [message.position for message in found.messages] == [2]
        return count

    assert cost(MANY) == cost(FEW) > 0


@pytest.mark.parametrize("status", [Status.RUNNING, Status.STUCK])
def test_a_message_finds_who_is_free(world, status):
    """Giving a message costs the same, however many have one already or are stuck."""

    def cost(size):
        here = world()
        subscriptions = [Subscription("job", "competing")]
        for n in range(size):
            lease = here.begin(f"i{n}")
            run(here.store.deliver([event(f"e{n}", type="job")]))
            receive = Wait("receive:1", "job", mode="competing")
            run(here.store.commit(step(lease, receive, subscriptions=subscriptions, release=False)))
        if status is Status.STUCK:
            for n in range(size):
                run(here.store.release("me"))
                (claimed,) = run(here.store.claim("me", ["w"], limit=1, lease_seconds=9))
                run(here.store.commit(step(claimed.lease, status=status, taken=(n + 1,))))
        receive = Wait("receive:1", "job", mode="competing")
        here.suspend("free", receive, subscriptions=subscriptions)
        run(here.store.deliver([event("warm", type="job")]))  # those who rest are put aside, once
        here.suspend("next", receive, subscriptions=subscriptions)
        count, found = here.cost(here.store.deliver([event("e", type="job")]))
        assert found[0].woken == ("next",)
        return count

    assert cost(500) == cost(50) > 0


@pytest.mark.parametrize("kind", ["waited for", "read", "competed for", "addressed", "unwanted"])
def test_expiry_does_not_look_at_everybody(world, kind):
    """Whether an old event is wanted costs the same among ten thousand live instances."""

    def cost(size):
        here = world()
        subscriptions = {"read": "broadcast", "competed for": "competing"}
        mode = subscriptions.get(kind)
        mine = Wait("r:1", "old", mode=mode) if mode else Wait("r:1", "old")
        channels = [Subscription("old", mode)] if mode else []
        other = Wait("other:1", "other")
        for n in range(size):
            here.suspend(
                f"i{n}", *(() if kind == "unwanted" else (mine,)), other, subscriptions=channels
            )
        to = "i7" if kind == "addressed" else None
        run(here.store.deliver([event(f"e{n}", type="old", to=to) for n in range(5)]))
        count, gone = here.cost(here.store.expire(NOW + timedelta(seconds=1)))
        assert gone == (5 if kind == "unwanted" else 0)
        return count

    assert cost(MANY // 4) == cost(FEW) > 0


def test_statements_stay_prepared():
    """SQLite's cache holds every statement of the store, so that none is parsed twice."""
    assert len(SQL) < 128, "sqlite3.connect(cached_statements=...) is 128 by default"
