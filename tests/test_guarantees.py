"""The promises of docs/guarantees.md, one test a sentence, on each store."""

import asyncio
import gc
import re
import signal
import subprocess
import sys
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from edda import (
    ActivityError,
    ArgumentError,
    EddaApp,
    EncodingError,
    EventTimeoutError,
    InvalidEventError,
    NonDeterminismError,
    RetryExhaustedError,
    RetryPolicy,
    TerminalError,
    WorkflowFailed,
    activity,
    sleep,
    wait_event,
    wait_timer,
    wait_until,
    workflow,
)
from edda.codec import decode_error, encode_error
from edda.commands import digest
from edda.errors import LeaseLost, StoreUnavailableError
from edda.events import as_envelope
from edda.history import FORMAT, Answered, Asked, CancelRequested, Refused, Started, as_document
from edda.machine import Machine
from edda.ports import Commit, Status, Wait
from edda.stores.memory import MemoryStore
from edda.stores.sqlite import DirectSqliteStore
from edda_testkit import Simulation
from tests.postgres_blocking import BlockingStore

ROOT = Path(__file__).resolve().parents[1]
STORES = {"memory": MemoryStore, "sqlite": DirectSqliteStore, "postgres": None}
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture(params=STORES)
def world(request):
    """Makes simulations on one of the stores."""

    def make(**options):
        return Simulation(**{"store": make.store, **options})

    make.store = STORES[request.param]
    if make.store is None:
        urls = request.getfixturevalue("postgres_urls")
        make.store = lambda clock: BlockingStore(urls(), clock)
    return make


class Flaky:
    """A store whose commit number `at` fails, before or after it took effect."""

    def __init__(self, inner, at, when):
        self.inner, self.left, self.when = inner, at, when

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def commit(self, commit):
        self.left -= 1
        if self.left == 0 and self.when == "before":
            raise StoreUnavailableError("planted")
        committed = await self.inner.commit(commit)
        if self.left == 0:
            raise StoreUnavailableError("planted")
        return committed


class Payment(BaseModel):
    order_id: str
    amount: float


@activity
async def double(ctx, n: int) -> int:
    return 2 * n


@activity
async def other(ctx, n: int) -> int:
    return n


@workflow
async def doubled(ctx, n: int) -> int:
    first = await double(ctx, n)
    event = await wait_event(ctx, "go", model=None)
    await wait_timer(ctx, 5)
    return await double(ctx, first + event.data)


# ---- History -----------------------------------------------------------------------------------


def test_history_only_grows(world):
    """What a history had is still its beginning later on, and its format has a version."""
    with world() as sim:
        run = sim.start(doubled, 1)
        before = run.history
        sim.send("go", 3)
        sim.run(until=run)
        assert run.history[: len(before)] == before
        assert [event.seq for event in run.history] == list(range(len(run.history)))
        assert (FORMAT, as_document(run.id, run.history)["format"]) == ("edda-history/1",) * 2


def test_every_ask_is_described(world):
    """An ask has its number, kind, name, public id, arguments' digest and call site."""
    with world() as sim:
        run = sim.start(doubled, 1)
        first, second = [event for event in run.history if isinstance(event, Asked)]
        assert (first.kind, first.name, first.id) == ("activity_scheduled", "double", "double:1")
        assert (second.kind, second.id) == ("event_awaited", "wait_event_go:1")
        assert re.fullmatch(r".*test_guarantees\.py:\d+", first.site)
        assert digest(first.ask.arguments) != digest('{"n":2}')
        assert digest(first.ask.arguments) == digest('{"n":1}')


def test_answers_are_fed_in_recorded_order(world):
    """Concurrent steps come out in the order they did, also after a crash."""

    @activity
    async def slow(ctx, seconds: int) -> int:
        await asyncio.sleep(seconds)
        return seconds

    @workflow
    async def race(ctx) -> list:
        order = []

        async def one(seconds):
            order.append(await slow(ctx, seconds))

        await asyncio.gather(one(3), one(1), one(2))
        await wait_event(ctx, "go")
        return order

    with world() as sim:
        run = sim.start(race)
        sim.advance(10)
        sim.crash()
        sim.send("go")
        assert run.result == [1, 2, 3]


def test_any_prefix_asks_the_same(world):
    """Replaying a history up to any input leads to the asks that were recorded next."""
    inputs = (Started, Answered, CancelRequested)
    with world() as sim:
        run = sim.start(doubled, 1)
        sim.send("go", 3)
        sim.run(until=run)
        history = run.history
        for length in range(1, len(history)):
            if not isinstance(history[length - 1], inputs):
                continue
            machine = Machine(doubled.program(run.id))
            machine.replay(history[:length])
            fresh = machine.decide().events
            machine.close()
            assert [(e.kind, e.id) for e in fresh] == [
                (e.kind, e.id) for e in history[length : length + len(fresh)]
            ]
            assert len(fresh) > 0


def _changed(body):
    async def doubled(ctx, n: int) -> int:
        return await body(ctx, n)

    return workflow(doubled)


async def _other_kind(ctx, n):
    await wait_timer(ctx, 1)
    return 0


async def _other_name(ctx, n):
    return await other(ctx, n)


async def _other_argument(ctx, n):
    return await double(ctx, n + 1)


async def _finished_early(ctx, n):
    return 0


async def _no_longer_asks(ctx, n):
    return await double(ctx, n)


async def _asks_one_more(ctx, n):
    await asyncio.gather(double(ctx, n), other(ctx, n))
    return 0


@pytest.mark.parametrize(
    "body",
    [
        _other_kind,
        _other_name,
        _other_argument,
        _finished_early,
        _no_longer_asks,
        _asks_one_more,
    ],
)
def test_code_that_departs_is_parked(world, body):
    """Code that does not fit its history commits nothing, and the instance is stuck."""
    with world(replay=False) as sim:
        run = sim.start(doubled, 1)
        before = run.history
        sim.deploy(_changed(body))
        sim.send("go", 3)
        assert run.status == "stuck"
        assert isinstance(run.error, NonDeterminismError)
        assert run.history == before
        sim.deploy(doubled)
        sim.crash()


def test_parked_goes_on_with_code_that_fits(world):
    """A stuck instance resumes by itself once code that matches is deployed."""
    with world() as sim:
        run = sim.start(doubled, 1)
        sim.deploy(_changed(_other_name))
        sim.send("go", 3)
        assert run.status == "stuck"
        sim.deploy(doubled)
        sim.crash()
        assert sim.run(until=run).result == 10


def test_divergence_is_explained(world):
    """The message shows both source lines and both arguments, and names the cure."""
    with world(replay=False) as sim:
        run = sim.start(doubled, 1)
        sim.deploy(_changed(_other_argument))
        sim.send("go", 3)
        text = str(run.error)
        assert len(set(re.findall(r"test_guarantees\.py:\d+", text))) >= 2
        assert "patched(" in text
        assert "1" in text
        assert "2" in text
        sim.deploy(doubled)
        sim.crash()


def test_values_are_the_same_live_and_replayed(world):
    """A result, an argument and event data have one type and value, before and after a crash."""
    seen = []

    @activity
    async def fetch(ctx, at: datetime) -> Payment:
        assert isinstance(at, datetime)
        return Payment(order_id="ORD-1", amount=at.year)

    @workflow
    async def typed(ctx, at: datetime) -> str:
        got = await fetch(ctx, at)
        event = await wait_event(ctx, "paid", model=Payment)
        seen.append((at, got, event.data))
        await wait_event(ctx, "go")
        return got.order_id

    with world(replay=False) as sim:
        at = datetime(2020, 1, 1, tzinfo=UTC)
        run = sim.start(typed, at)
        sim.send("paid", {"order_id": "ORD-2", "amount": 2})
        sim.crash()
        sim.send("go")
        assert run.result == "ORD-1"
    wanted = (at, Payment(order_id="ORD-1", amount=2020), Payment(order_id="ORD-2", amount=2))
    assert len(seen) > 1
    assert seen == [wanted] * len(seen)


def test_unencodable_value_is_an_error_and_no_second_run(world):
    """A result that cannot be stored fails its step by name, and the step is not run again."""

    @activity
    async def bad(ctx):
        return {"key": object()}

    @workflow
    async def unlucky(ctx):
        return await bad(ctx)

    with world() as sim:
        run = sim.start(unlucky)
        sim.advance(hours=1)
        assert isinstance(run.error, EncodingError)
        assert "'bad'" in str(run.error)
        assert len(run.calls(bad)) == 1


class Refusal(Exception):
    def __init__(self, code: int) -> None:
        BUILT.append(code)
        super().__init__(code)
        self.code = code


BUILT: list[int] = []


def test_exceptions_keep_their_class(world):
    """An exception has its class live and on replay; one that is not loaded becomes a value."""
    seen = []
    hidden = type("Hidden", (Exception,), {"__module__": "nowhere_at_all"})

    @activity(retry_policy=RetryPolicy(non_retryable=(Refusal, hidden)))
    async def refuse(ctx, *, importable: bool) -> None:
        raise Refusal(7) if importable else hidden("lost")

    @workflow
    async def catching(ctx):
        for importable in (True, False):
            try:
                await refuse(ctx, importable=importable)
            except Exception as error:
                seen.append((type(error), error.args, getattr(error, "type_name", None)))
        await wait_event(ctx, "go")

    with world(replay=False) as sim:
        run = sim.start(catching)
        sim.crash()
        sim.send("go")
        assert run.status == "completed"
    assert seen[0] == (Refusal, (7,), None)
    assert seen[1][::2] == (ActivityError, "nowhere_at_all:Hidden")
    assert seen[2:4] == seen[:2]


def test_own_errors_keep_their_fields(world):
    """Exhausted retries, terminal errors and timeouts keep their fields through the store."""
    fields: dict[str, list] = {}

    @activity(retry_policy=RetryPolicy(max_attempts=2, initial_interval=1))
    async def flaky(ctx) -> None:
        raise ConnectionError("down")

    @activity
    async def final(ctx) -> None:
        raise TerminalError("no")

    @workflow
    async def three(ctx):
        for step in (flaky, final, None):
            try:
                await (step(ctx) if step else wait_event(ctx, "never", timeout_seconds=2))
            except RetryExhaustedError as error:
                found = (error.activity, error.attempts, type(error.last_error))
                fields.setdefault("exhausted", []).append(found)
            except TerminalError as error:
                fields.setdefault("terminal", []).append(error.args)
            except TimeoutError as error:
                found = (type(error), error.event_type, error.timeout_seconds)
                fields.setdefault("timeout", []).append(found)
        await wait_event(ctx, "go")

    with world(replay=False) as sim:
        run = sim.start(three)
        sim.advance(10)
        sim.crash()
        sim.send("go")
        assert run.status == "completed"
    assert {len(found) > 1 for found in fields.values()} == {True}
    assert {name: set(found) for name, found in fields.items()} == {
        "exhausted": {("flaky", 2, ConnectionError)},
        "terminal": {("no",)},
        "timeout": {(EventTimeoutError, "never", 2.0)},
    }


def test_stored_exceptions_run_no_code():
    """Rebuilding an exception imports no module and calls no constructor."""
    text = encode_error(Refusal(9))
    BUILT.clear()
    assert decode_error(text).args == (9,)
    assert BUILT == []
    decode_error(text.replace(__name__, "this").replace("Refusal", "x"))
    assert "this" not in sys.modules


def test_now_is_the_time_of_the_event(world):
    """`ctx.now()` is the instant of the answer being fed, the same on every replay."""
    seen = []

    @workflow
    async def clockwork(ctx) -> list[datetime]:
        times = [ctx.now()]
        await wait_timer(ctx, 60)
        times.append(ctx.now())
        seen.append(times[:])
        await wait_event(ctx, "go")
        return times

    with world(replay=False) as sim:
        began = sim.now
        run = sim.start(clockwork)
        sim.advance(hours=1)
        sim.crash()
        sim.advance(hours=1)
        sim.send("go")
        assert run.status == "completed"
    assert len(seen) > 1
    assert seen == [[began, began + timedelta(seconds=60)]] * len(seen)


def test_randomness_comes_from_the_recorded_seed(world):
    """Draws follow from the seed, and one more draw in another function shifts none of them."""

    def elsewhere(ctx, draws):
        return [ctx.random.random() for _ in range(draws)]

    @workflow
    async def dice(ctx, draws: int) -> list:
        first = [ctx.random.random(), str(ctx.uuid4())]
        elsewhere(ctx, draws)
        return [*first, ctx.random.random(), str(ctx.uuid4())]

    results = []
    for draws, seed in ((0, 1), (5, 1), (0, 2)):
        with world(seed=seed) as sim:
            results.append(sim.start(dice, draws).result)
    assert results[0] == results[1]
    assert results[0] != results[2]


# ---- Turns and leases ----------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_step_is_committed_whole_or_not_at_all(world, when):
    """Whichever commit fails, the run goes on from whole steps to the same end."""
    make = world.store
    for at in range(1, 100):
        flaky = None

        def planted(clock, at=at):
            nonlocal flaky
            flaky = Flaky(make(clock), at, when)
            return flaky

        with world(store=planted) as sim:
            actions = [lambda: sim.send("go", 3, id="one"), lambda: sim.advance(5)]
            run = _insist(sim, lambda: sim.start(doubled, 1, instance_id="r"))
            for action in actions:
                _insist(sim, action)
            assert run.result == 10
            kinds = [event.kind for event in run.history]
            assert kinds.count("event_received") == 1
            assert kinds.count("activity_completed") == 2
            # Law T2: once more for the commit that failed, and not for any other reason.
            assert 2 <= len(run.calls(double)) <= 3
        if flaky.left > 0:
            break
    assert at > 4


def _insist(sim, action):
    try:
        return action()
    except StoreUnavailableError:
        sim.crash()
        return action()


def test_an_answer_that_is_committed_is_not_asked_for_again(world):
    """An activity runs again when its answer was lost, and never when it was committed."""
    ran = []

    @activity
    async def long(ctx) -> str:
        ran.append(ctx.idempotency_key)
        await asyncio.sleep(10)
        return "done"

    @workflow
    async def lasting(ctx):
        await long(ctx)
        await wait_event(ctx, "go")

    with world() as sim:
        run = sim.start(lasting, instance_id="r")
        sim.advance(5)
        sim.crash()
        sim.advance(10)
        assert ran == ["r/long:1"] * 2
        sim.crash()
        sim.send("go")
        assert run.status == "completed"
        assert len(ran) == 2


def test_a_stale_lease_commits_nothing(world):
    """A worker whose lease went to another one gets LeaseLost, and nothing has changed."""
    with world() as sim:
        store = sim.store
        run_id = sim.wait(sim.app.start(doubled, 1))
        options = {"limit": 1, "lease_seconds": 1}
        (old,) = sim.wait(store.claim("a", ["doubled"], **options))
        assert sim.wait(store.claim("b", ["doubled"], **options)) == []
        sim.clock.move_to(sim.now + timedelta(seconds=1))
        (new,) = sim.wait(store.claim("b", ["doubled"], **options))
        assert new.lease.token > old.lease.token
        waits = (Wait("w", "go"),)
        stale = Commit(old.lease, 1, (), Status.WAITING_FOR_EVENT, waits, (), None, release=True)
        with pytest.raises(LeaseLost):
            sim.wait(store.commit(stale))
        assert sim.wait(store.instance(run_id)).status == "running"
        assert sim.wait(store.instance(run_id)).waits == ()
        assert len(sim.wait(store.renew([old.lease, new.lease], 5))) == 1


async def _two_workers_one_long_activity():
    ran = []

    @activity
    async def long(ctx) -> int:
        ran.append(ctx.attempt)
        await asyncio.sleep(0.15)
        return 1

    @workflow
    async def lasting(ctx) -> int:
        return await long(ctx)

    app = EddaApp("a", "memory://", workflows=[lasting], lease_seconds=0.06)
    rival = EddaApp("b", workflows=[lasting], lease_seconds=0.06, store=app.store)
    async with app, rival:
        assert await app.result(await app.start(lasting), timeout=5) == 1
    return ran


def test_a_lease_is_renewed_while_its_turn_runs():
    """An activity that takes longer than a lease is not taken over by another worker."""
    assert asyncio.run(_two_workers_one_long_activity()) == [1]


def test_a_suspended_instance_holds_nothing(world):
    """A waiting coroutine is gone from memory, and no `except Exception` of its has run."""
    held, caught = [], []

    class Local:
        pass

    @workflow
    async def waiting(ctx):
        local = Local()
        held.append(weakref.ref(local))
        try:
            await wait_event(ctx, "go")
        except Exception as error:
            caught.append(error)
        return bool(local)

    with world() as sim:
        run = sim.start(waiting)
        gc.collect()
        assert [ref() for ref in held] == [None]
        assert caught == []
        assert run.status == "waiting_for_event"


VICTIM = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[1])
from edda import EddaApp, activity, wait_event, workflow

@activity
async def double(ctx, n: int) -> int:
    return 2 * n

@workflow
async def survivor(ctx, n: int) -> int:
    n = await double(ctx, n)
    event = await wait_event(ctx, "go")
    return n + event.data

async def main(path, step):
    app = EddaApp("s", "sqlite:///" + path, lease_seconds=0.2)
    async with app:
        if step == "start":
            await app.start(survivor, 1, instance_id="s")
        elif step == "send":
            await app.handle_event({"type": "go", "source": "t", "id": "1", "data": 5})
        else:
            print(await app.result("s", timeout=20), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[2:]))
"""


def test_kill_minus_nine_loses_nothing(tmp_path):
    """What `start` and `handle_event` accepted is there after kill -9 the instant they return."""
    script = tmp_path / "victim.py"
    script.write_text(VICTIM)
    outputs = []
    for step in ("start", "send", "result", "result"):
        done = subprocess.run(
            [sys.executable, str(script), str(ROOT), str(tmp_path / "s.db"), step],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        outputs.append(done.stdout.strip())
    assert outputs == ["", "", "7", "7"]


# ---- Messages ----


@workflow
async def collector(ctx, count: int) -> list:
    return [(await wait_event(ctx, "item")).data for _ in range(count)]


def test_a_message_is_accepted_once(world):
    """The same source and id again is acknowledged and changes nothing."""
    with world() as sim:
        run = sim.start(collector, 2)
        event = sim.send("item", 1, id="x")
        sim.duplicate(event)
        sim.send("item", 9, id="x")
        assert run.status == "waiting_for_event"
        sim.send("item", 2, id="x", source="elsewhere")
        assert run.result == [1, 2]


def test_202_follows_the_insert(world):
    """An event that could not be stored is not answered with 202."""
    with world() as sim:
        run = sim.start(collector, 1)
        body = {"specversion": "1.0", "type": "item", "source": "s", "id": "1", "data": 4}
        headers = {"content-type": "application/cloudevents+json"}
        deliver = sim.store.deliver

        async def refuse(*args):
            raise StoreUnavailableError("planted")

        sim.store.deliver = refuse
        assert sim.http.post("/events", json=body, headers=headers).status_code == 503
        sim.store.deliver = deliver
        assert sim.http.post("/events", json=body, headers=headers).status_code == 202
        assert run.result == [4]


def test_early_messages_are_kept_in_order(world):
    """Messages that come before their wait are taken in log order when it is reached."""

    @workflow
    async def late(ctx) -> list:
        await wait_event(ctx, "open")
        return [(await wait_event(ctx, "item")).data for _ in range(3)]

    with world() as sim:
        sim.send("item", 0)
        run = sim.start(late)
        for n in (1, 2, 3):
            sim.send("item", n)
        sim.crash()
        sim.send("open")
        assert run.result == [1, 2, 3]


def test_each_wait_takes_a_message_of_its_own(world):
    """Two waits of one instance never share a message, and the first takes the first."""

    @workflow
    async def pair(ctx) -> list:
        waits = [wait_event(ctx, "item"), wait_event(ctx, "item")]
        return [event.data for event in await asyncio.gather(*waits)]

    with world() as sim:
        run = sim.start(pair)
        sim.send("item", 1)
        assert run.status == "waiting_for_event"
        sim.send("item", 2)
        assert run.result == [1, 2]


@pytest.mark.parametrize(
    ("data", "subject"),
    [({"order": {"id": "5"}}, "s"), ({"order": {}}, "s"), ({"order": {"id": 5}}, "t"), (None, "s")],
)
def test_a_match_is_strict(world, data, subject):
    """A wait takes only what equals its match in every path; the rest is left."""

    @workflow
    async def picky(ctx):
        return (await wait_event(ctx, "item", match={"data.order.id": 5, "subject": "s"})).data

    with world() as sim:
        run = sim.start(picky)
        sim.send("item", data, subject=subject)
        sim.send("other", {"order": {"id": 5}}, subject="s")
        assert run.status == "waiting_for_event"
        sim.send("item", {"order": {"id": 5}}, subject="s")
        assert run.result == {"order": {"id": 5}}


def test_an_addressed_message_is_for_one_instance(world):
    """A message with `eddainstanceid` is seen by that instance alone."""
    with world() as sim:
        one, two = (sim.start(collector, 1, instance_id=id) for id in ("one", "two"))
        sim.send("item", 1, eddainstanceid="two")
        assert [one.status, two.status] == ["waiting_for_event", "completed"]


def test_a_message_without_match_is_broadcast(world):
    """Every instance that waits for the type receives it."""
    with world() as sim:
        runs = [sim.start(collector, 1) for _ in range(3)]
        sim.send("item", 1)
        assert [run.result for run in runs] == [[1]] * 3


def test_no_wake_up_is_lost(world):
    """The commit that registers a wait also finds what had come before it."""
    with world() as sim:
        sim.wait(sim.app.start(collector, 1))
        claim = sim.store.claim("w", ["collector"], limit=1, lease_seconds=9)
        (claimed,) = sim.wait(claim)
        envelope = as_envelope({"type": "item", "source": "s", "id": "1"}, 1)
        (delivered,) = sim.wait(sim.store.deliver([envelope]))
        assert delivered.woken == ()
        waits = (Wait("wait_event_item:1", "item"),)
        status = Status.WAITING_FOR_EVENT
        commit = Commit(claimed.lease, 1, (), status, waits, (), None, release=True)
        committed = sim.wait(sim.store.commit(commit))
        assert [m.envelope.id for m in committed.messages] == ["1"]
        assert committed.is_released is False
        sim.wait(sim.store.release("w"))


@workflow
async def paying(ctx, on_invalid: str = "reject") -> float:
    event = await wait_event(ctx, "paid", model=Payment, on_invalid=on_invalid)
    return event.data.amount


def test_invalid_data_is_the_senders_error(world):
    """Data that every wait refuses is refused at the door, naming type, id and each field."""
    with world() as sim:
        run = sim.start(paying)
        with pytest.raises(InvalidEventError) as refused:
            sim.send("paid", {"amount": "a lot"}, id="p1")
        error = refused.value
        assert (error.event_type, error.event_id) == ("paid", "p1")
        assert [problem.split(":")[0] for problem in error.problems] == [
            "data.order_id",
            "data.amount",
        ]
        assert run.status == "waiting_for_event"
        sim.send("paid", {"order_id": "o", "amount": 3}, id="p1")
        assert run.result == 3.0


def test_a_refusal_is_recorded_where_it_happened(world):
    """When another wait takes the event, the instance that refused it says so and waits on."""

    @workflow
    async def anything(ctx):
        return (await wait_event(ctx, "paid")).data

    with world() as sim:
        strict, lax = sim.start(paying), sim.start(anything)
        sim.send("paid", {"amount": "a lot"})
        assert lax.result == {"amount": "a lot"}
        assert strict.status == "waiting_for_event"
        assert [event.id for event in strict.history if isinstance(event, Refused)] == [
            "wait_event_paid:1"
        ]
        sim.crash()
        sim.send("paid", {"order_id": "o", "amount": 3})
        assert strict.result == 3.0


def test_invalid_data_can_be_raised_in_the_workflow(world):
    """With `on_invalid="raise"` the wait fails with InvalidEventError."""
    with world() as sim:
        run = sim.start(paying, on_invalid="raise")
        sim.send("paid", {"amount": "a lot"})
        assert isinstance(run.error, InvalidEventError)


@workflow
async def in_time(ctx) -> bool:
    try:
        await wait_event(ctx, "item", timeout_seconds=10)
    except EventTimeoutError:
        return False
    return True


@pytest.mark.parametrize(("after", "wins"), [(9.999999, True), (10, True), (10.000001, False)])
def test_the_earlier_of_event_and_deadline_wins(world, after, wins):
    """The earlier answer wins, and at the same instant the event."""
    with world() as sim:
        run = sim.start(in_time)
        sim.send("item", after=after)
        sim.advance(20)
        assert run.result is wins


def test_deadlines_are_set_once(world):
    """However often its worker dies, a deadline stays where it was."""
    with world() as sim:
        run = sim.start(in_time)
        for _ in range(9):
            sim.advance(1)
            sim.crash()
        assert run.waiting_for[0].due == datetime(2000, 1, 1, 0, 0, 10, tzinfo=UTC)
        sim.advance(0.999999)
        assert not run.is_finished
        sim.advance(0.000001)
        assert run.result is False


# ---- Timers ----


@workflow
async def napping(ctx, seconds: float) -> float:
    before = ctx.now()
    await sleep(ctx, timedelta(seconds=seconds) if seconds > 1 else seconds)
    return (ctx.now() - before).total_seconds()


@pytest.mark.parametrize("seconds", [0.000001, 0.25, 1.000001, 3600.5])
def test_timers_are_exact_to_the_microsecond(world, seconds):
    """Floats and timedeltas fire at their very microsecond."""
    with world() as sim:
        run = sim.start(napping, seconds)
        sim.run(until=run)
        assert run.result == seconds


@pytest.mark.parametrize("seconds", [0, -5])
def test_a_timer_of_zero_or_less_is_due_at_once(world, seconds):
    """A timer of no time fires without time moving."""
    with world() as sim:
        assert sim.start(napping, seconds).result == 0.0


def test_wait_until_wants_an_instant(world):
    """A naive datetime names no instant: the error says so; an aware one is kept exactly."""

    @workflow
    async def until(ctx, naive: bool) -> datetime:
        at = datetime(2000, 1, 1, 12)  # noqa: DTZ001
        await wait_until(ctx, at if naive else at.replace(tzinfo=UTC))
        return ctx.now()

    with world() as sim:
        assert isinstance(sim.start(until, naive=True).error, ArgumentError)
        run = sim.start(until, naive=False)
        sim.run(until=run)
        assert run.result == datetime(2000, 1, 1, 12, tzinfo=UTC)


async def _claims_while_idle():
    asked = []
    app = EddaApp("idle", "memory://", workflows=[napping])
    claim = app.store.claim

    async def counted(*args, **options):
        asked.append(args)
        return await claim(*args, **options)

    app.store.claim = counted
    async with app:
        await app.start(napping, 60.0)
        await asyncio.sleep(0.01)
        before = len(asked)
        await asyncio.sleep(0.05)
        return len(asked) - before


def test_a_worker_does_not_poll():
    """A worker with nothing due asks its store nothing."""
    assert asyncio.run(_claims_while_idle()) == 0


# ---- The page ----


def test_every_promise_has_its_test():
    """docs/guarantees.md names every test of these files, and nothing that is not there."""
    page = (ROOT / "docs" / "guarantees.md").read_text()
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_guarantees*.py"))
    here = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    assert set(re.findall(r"`(test_\w+)`", page)) == here - {"test_every_promise_has_its_test"}


def test_a_workflows_failure_is_its_error(world):
    """A failed workflow's result is WorkflowFailed, and its cause the workflow's own error."""

    @workflow
    async def failing(ctx):
        raise ValueError("on purpose")

    with world() as sim:
        run = sim.start(failing)
        with pytest.raises(WorkflowFailed) as failure:
            _ = run.result
        assert str(failure.value.__cause__) == "on purpose"
