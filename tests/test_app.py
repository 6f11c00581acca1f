"""The app: what callers are told, above all when something is wrong."""

import asyncio
import contextlib
import sys
from contextvars import Context
from datetime import timedelta

import pytest
from pydantic import BaseModel, field_validator

from edda import (
    ArgumentError,
    EddaApp,
    InstanceExistsError,
    InstanceNotFoundError,
    InvalidEventError,
    ResultTimeout,
    RetryPolicy,
    TerminalError,
    WorkflowCancelled,
    activity,
    send_event,
    send_event_transactional,
    wait_event,
    workflow,
)
from edda.doors import SystemClock
from edda.errors import (
    AmbiguousAppError,
    DefinitionError,
    DuplicateWorkflowError,
    EddaError,
    NoAppError,
    StoreError,
    StoreUnavailableError,
    StoreUrlError,
    StrandedAppError,
    UnknownWorkflowError,
)
from edda.stores.memory import MemoryStore


@workflow
async def adding(ctx, a: int, b: int = 1) -> int:
    return a + b


@workflow
async def waiting(ctx) -> object:
    return (await wait_event(ctx, "go")).data


def run(body, *, count=1, **options):
    """Run `body(app, ...)` on open apps in memory, in real time."""

    async def main():
        async with contexts(count, options) as apps:
            return await asyncio.wait_for(body(*apps), 10)

    return asyncio.run(main())


class contexts:  # noqa: N801 - used like a function
    def __init__(self, count, options):
        self.apps = [EddaApp(f"app{n}", "memory://", **options) for n in range(count)]

    async def __aenter__(self):
        for app in self.apps:
            await app.initialize()
        return self.apps

    async def __aexit__(self, *_):
        for app in self.apps:
            await app.shutdown()


@pytest.mark.parametrize(
    "url", ["", "nothing", None, "mysql://x", "memory://name", "sqlite://", "sqlite:///"]
)
def test_an_unknown_url_is_refused(url):
    """A database URL that names no store says which there are."""
    with pytest.raises(StoreUrlError, match=r"memory://, sqlite:///relative.db"):
        EddaApp(db_url=url)


def test_a_definition_needs_a_context_and_async():
    """A workflow without `ctx`, or that is a plain function, is refused when it is decorated."""
    with pytest.raises(DefinitionError, match="no context parameter"):

        @workflow
        async def bare():
            return 1

    with pytest.raises(DefinitionError, match="must be `async def`"):

        @workflow
        def plain(ctx):
            return 1


def test_a_generator_is_no_activity():
    """A function with a `yield` would run nothing when it is called: it is refused at once."""
    with pytest.raises(DefinitionError, match="has a `yield`"):

        @activity
        def plain(ctx):
            yield 1

    with pytest.raises(DefinitionError, match="has a `yield`"):

        @workflow
        async def asynchronous(ctx):
            yield 1


def test_a_negative_retry_is_refused():
    """Every field of a policy that makes no sense is named."""
    with pytest.raises(ArgumentError) as refused:
        RetryPolicy(max_attempts=0, initial_interval=-1)
    assert len(refused.value.problems) == 2


@pytest.mark.parametrize("arguments", [{"a": "x"}, {}, {"a": 1, "c": 2}])
def test_wrong_arguments_store_nothing(arguments):
    """Arguments that do not fit the annotations are refused, and there is no instance."""

    async def body(app):
        with pytest.raises(ArgumentError):
            await app.start(adding, **arguments)
        assert await app.find() == []

    run(body)


def test_an_id_starts_once():
    """The same id and work is the same instance; other work under it is an error."""

    async def body(app):
        assert await app.start(adding, 1, instance_id="x") == "x"
        assert await app.start(adding, a=1, instance_id="x") == "x"
        assert await app.result("x") == 2
        with pytest.raises(InstanceExistsError, match="arguments"):
            await app.start(adding, 2, instance_id="x")
        with pytest.raises(InstanceExistsError, match="'adding'"):
            await app.start(waiting, instance_id="x")
        with pytest.raises(ArgumentError, match="instance_id"):
            await app.start(adding, 1, instance_id="")
        assert len(await app.find()) == 1

    run(body)


def test_an_event_of_an_unknown_type_is_kept():
    """Nobody waits for it yet: it is stored, and a later wait of a live instance takes it."""

    @workflow
    async def later(ctx):
        await wait_event(ctx, "first")
        return list((await wait_event(ctx, "unheard.of")).data)

    async def body(app):
        await app.start(later, instance_id="x")
        event = {"type": "unheard.of", "source": "s", "id": "1", "data_base64": "AQ=="}
        delivered = await app.handle_event(event)
        assert delivered.position is not None
        assert (await app.handle_event(event)).is_duplicate
        await app.handle_event({"type": "first", "source": "s", "id": "2"})
        assert await app.result("x", timeout=5) == [1]

    run(body)


@pytest.mark.parametrize(
    "event", [5, {"type": "x"}, {"type": "x", "source": "s", "id": "1", "data_base64": "?"}]
)
def test_what_is_no_event_is_refused(event):
    """Anything but a CloudEvent is an ArgumentError, and is not stored."""

    async def body(app):
        with pytest.raises(ArgumentError):
            await app.handle_event(event)

    run(body)


def test_result_of_a_waiting_run_times_out_and_leaves_nothing():
    """`result` gives up with the status, and keeps no future of those who gave up."""

    async def body(app):
        await app.start(waiting, instance_id="x")
        for _ in range(3):
            with pytest.raises(ResultTimeout, match="waiting_for_event"):
                await app.result("x", timeout=0.01)
        assert app._waiting == {}
        asking = asyncio.create_task(app.result("x"))
        await asyncio.sleep(0)
        await app.handle_event({"type": "go", "source": "s", "id": "1", "data": 5})
        assert await asking == 5
        assert await app.result("x") == 5
        assert app._waiting == {}

    run(body)


def test_unknown_instances_are_said_to_be_unknown():
    """Status, history, result and cancel of no instance raise InstanceNotFoundError."""

    async def body(app):
        for ask in (app.status, app.history, app.result, app.cancel):
            with pytest.raises(InstanceNotFoundError, match="'nobody'"):
                await ask("nobody")

    run(body)


def test_cancel_and_find():
    """A cancelled run has no result, cancelling it again is False, and `find` filters."""

    async def body(app):
        await app.start(waiting, instance_id="w")
        await app.start(adding, 1, instance_id="a")
        await app.result("a")
        assert await app.cancel("w")
        with pytest.raises(WorkflowCancelled):
            await app.result("w", timeout=5)
        assert not await app.cancel("w")
        assert await app.status("w") == "cancelled"
        assert [one.id for one in await app.find()] == ["a", "w"]
        assert [one.id for one in await app.find(status="cancelled")] == ["w"]
        assert [one.id for one in await app.find(workflow="adding", limit=1)] == ["a"]
        assert [one.id for one in await app.find(after="a")] == ["w"]
        assert (await app.history("w"))[-1].kind == "workflow_cancelled"
        with pytest.raises(ValueError, match="nonsense"):
            await app.find(status="nonsense")

    run(body)


def test_two_definitions_of_one_name():
    """Two workflows of one name in one app are an error that names both places."""

    @workflow(name="adding")
    async def another(ctx):
        return None

    with pytest.raises(DuplicateWorkflowError, match=r"adding.*another"):
        EddaApp(db_url="memory://", workflows=[adding, another])
    with pytest.raises(UnknownWorkflowError, match="knows: adding"):
        EddaApp(db_url="memory://", workflows=[adding]).resolve("nobody")


def test_a_call_without_an_app_says_so():
    """With no app open, `start` and `send_event` say how to open one."""

    async def body():
        with pytest.raises(NoAppError, match=r"adding\.start\(\) needs an app"):
            await adding.start(1)
        with pytest.raises(NoAppError, match="broker_url"):
            await send_event("x", "s")
        with pytest.raises(NoAppError, match="Open the app first"):
            await EddaApp(db_url="memory://").start(adding, 1)

    asyncio.run(body())


def test_an_app_whose_loop_is_closed():
    """One left open on a loop that is closed is never meant, and cannot be opened again."""
    left = EddaApp("left", "memory://")
    asyncio.run(left.initialize())

    async def body():
        with pytest.raises(NoAppError):
            await adding.start(1)
        with pytest.raises(StrandedAppError, match="'left'"):
            await left.initialize()
        async with EddaApp("mine", "memory://") as mine:
            await asyncio.create_task(adding.start(1, instance_id="a"), context=Context())
            assert await mine.result("a", timeout=5) == 2

    asyncio.run(body())


def test_of_two_apps_the_context_decides():
    """Without a context two open apps are ambiguous; the one entered is meant otherwise."""

    async def body():
        with pytest.raises(AmbiguousAppError, match="app0, app1"):
            await adding.start(1)

    async def main():
        async with contexts(0, {}):
            apps = contexts(2, {})
            await asyncio.create_task(apps.__aenter__())
            await body()
            await apps.__aexit__()
            async with EddaApp("mine", "memory://") as app:
                assert (await app.result(await adding.start(1))) == 2

    asyncio.run(main())


def test_activities_run_in_their_own_apps_context():
    """An activity's event goes to the app it runs on, whoever called `start`."""

    @activity
    async def announce(ctx) -> None:
        await send_event("go", "s", 1)

    @workflow
    async def announcing(ctx) -> None:
        await announce(ctx)

    async def body(first, second):
        # `second` was opened last, and is the current app here.
        await first.start(waiting, instance_id="w")
        await first.start(announcing)
        assert await first.result("w", timeout=5) == 1

    run(body, count=2)


def test_opening_twice_at_once_opens_once():
    """Concurrent `initialize` calls make one worker, and `shutdown` twice is fine."""

    async def main():
        opened = []
        app = EddaApp(db_url="memory://")
        app.store.open = lambda: asyncio.sleep(0, opened.append(1))
        await asyncio.gather(*(app.initialize() for _ in range(3)))
        assert await app.result(await app.start(adding, 1)) == 2
        await app.shutdown()
        await app.shutdown()
        return opened

    assert asyncio.run(main()) == [1]


def test_result_is_told_what_another_process_did():
    """An app without a worker sees the end of a run that another one drove."""

    class Shared(MemoryStore):
        async def changed(self):
            await asyncio.sleep(0.005)

    async def main():
        front = EddaApp("front", "memory://", worker=False)
        front.store = Shared(front.clock)
        async with front, EddaApp("back", workflows=[waiting], store=front.store) as back:
            await front.start(waiting, instance_id="x")
            asking = asyncio.create_task(front.result("x", timeout=5))
            await asyncio.sleep(0.02)
            await back.handle_event({"type": "go", "source": "s", "id": "1", "data": 7})
            assert await asking == 7

    asyncio.run(main())


def test_a_send_that_meets_a_closed_database_is_retried():
    """A workflow's event that the store did not take is sent again by the retry policy."""

    @workflow
    async def sending(ctx) -> str:
        return (await send_event("go", "s", 1)).get_id()

    async def body(app):
        deliver = app.store.deliver

        async def refuse(*args):
            app.store.deliver = deliver
            raise StoreUnavailableError("planted")

        app.store.deliver = refuse
        await app.start(sending, instance_id="x")
        assert await app.result("x", timeout=5) == "x/send_event_go:1"

    run(body, default_retry_policy=RetryPolicy(initial_interval=0.01))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", None, True])
@pytest.mark.parametrize("name", ["max_concurrent", "max_body_bytes", "lease_seconds"])
def test_a_limit_that_is_none_is_refused(name, value):
    """Limits are numbers above zero; the error names the option and what it got."""
    with pytest.raises(ArgumentError) as caught:
        EddaApp(db_url="memory://", **{name: value})
    kind = "a number" if name == "lease_seconds" else "a whole number"
    assert str(caught.value) == f"EddaApp: {name} must be {kind} above 0, got {value!r}"


def test_every_limit_that_is_none_is_named():
    """All that is wrong is said at once."""
    with pytest.raises(ArgumentError) as caught:
        EddaApp(db_url="memory://", max_concurrent=1.5, lease_seconds="soon")
    assert caught.value.problems == [
        "max_concurrent must be a whole number above 0, got 1.5",
        "lease_seconds must be a number above 0, got 'soon'",
    ]


def test_steps_that_end_during_the_shutdown_may_use_the_app():
    """A step that comes to its end while the app closes sends, starts and publishes as ever."""
    clock = SystemClock()
    store = MemoryStore(clock)
    begun, closing = asyncio.Event(), asyncio.Event()

    @activity
    async def last(ctx) -> None:
        begun.set()
        await closing.wait()
        await send_event("closing.one", "s")
        await adding.start(a=1, instance_id="started")

    @workflow
    async def closes(ctx) -> str:
        await last(ctx)
        await send_event("closing.two", "s")
        return await adding.start(ctx, a=2, instance_id="child")

    async def main():
        once = RetryPolicy(max_attempts=1)
        app = EddaApp(store=store, clock=clock, default_retry_policy=once)
        await app.initialize()
        await app.start(closes, instance_id="x")
        await begun.wait()
        ending = [asyncio.create_task(app.shutdown()) for _ in range(2)]
        while not app._worker._is_stopping:
            await asyncio.sleep(0)
        closing.set()
        await asyncio.gather(*ending)
        with pytest.raises(NoAppError):
            await app.start(adding, a=3)
        found = {one.id: one.status for one in await store.find()}
        return found, len(store._log)

    found, messages = asyncio.run(main())
    assert found == {"x": "completed", "started": "pending", "child": "pending"}
    assert messages == 2


def test_a_shutdown_that_fails_leaves_nothing_running():
    """When the leases cannot be given back the error is told, and no task of the app is left."""

    async def main():
        app = EddaApp(db_url="memory://")
        await app.initialize()

        async def release(worker):
            raise StoreUnavailableError("away")

        app.store.release = release
        with pytest.raises(StoreUnavailableError):
            await app.shutdown()
        assert not app.is_open
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()


def test_a_shutdown_that_is_cancelled_leaves_nothing_running():
    """Who is tired of waiting for the last steps cancels the shutdown: everything ends then."""
    begun = asyncio.Event()

    @activity
    async def endless(ctx) -> None:
        begun.set()
        await asyncio.sleep(60)

    @workflow
    async def lasting(ctx) -> None:
        await endless(ctx)

    async def main():
        app = EddaApp(db_url="memory://")
        await app.initialize()
        await app.start(lasting)
        await begun.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(app.shutdown(), 0.01)
        assert not app.is_open
        await asyncio.sleep(0.01)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()


def test_a_timeout_that_is_no_number_is_refused():
    """NaN is no time to wait, and would confuse the event loop."""

    async def body(app):
        with pytest.raises(ArgumentError, match="timeout must be a number of seconds"):
            await app.result("x", timeout=float("nan"))

    run(body)


def test_result_of_a_closed_app_leaves_nothing():
    """Asking a closed app for a result is an error, and begins no task."""

    async def main():
        app = EddaApp(db_url="memory://")
        await app.initialize()
        await app.shutdown()
        with pytest.raises(NoAppError):
            await app.result("x")
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()


def test_a_store_that_breaks_while_it_is_watched(caplog, monkeypatch):
    """Whatever a store raises when it is asked what changed, it is asked again."""
    asked = []

    async def body(app):
        async def changed():
            asked.append(1)
            if len(asked) == 1:
                raise ZeroDivisionError
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(app.store, "changed", changed)
        monkeypatch.setattr("edda.app.BREATH_SECONDS", 0.001)
        app._watcher.cancel()
        app._watcher = None
        app._watch()
        while len(asked) < 2:
            await asyncio.sleep(0.001)

    run(body)
    assert "Cannot see what others change" in caplog.text


@pytest.mark.parametrize(
    ("retention", "seconds"),
    [(timedelta(microseconds=1), 0.1), (timedelta(minutes=1), 6), (timedelta.max, 3600)],
)
def test_old_events_are_looked_for_with_pauses(retention, seconds):
    """A tenth of the retention passes in between, at most an hour, and never next to nothing."""
    assert EddaApp(db_url="memory://", retention=retention).expiry_seconds == seconds


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/edda.db"])
def test_an_app_on_two_event_loops(tmp_path, url):
    """An app that is opened again on another event loop works as it did: locks, outbox and all."""
    assert opened_twice(url.format(tmp_path)) == [["twice.opened"] * 5] * 2


def test_an_app_on_two_event_loops_and_postgres(postgres):
    """The same on PostgreSQL."""
    assert opened_twice(postgres) == [["twice.opened"] * 5] * 2


def opened_twice(url):
    """What five workflows hear on each of two event loops, told by steps that compete for locks."""
    app = EddaApp(db_url=url)

    @activity(transactional=True)
    async def tells(ctx, id: str) -> None:
        await send_event_transactional(ctx, "twice.opened", "s", {"id": id})

    @workflow
    async def telling(ctx, id: str) -> str:
        await tells(ctx, id)
        return (await wait_event(ctx, "twice.opened", match={"data.id": id})).type

    async def once(number):
        await asyncio.gather(app.initialize(), app.initialize())
        try:
            told = [await app.start(telling, f"{number}.{n}") for n in range(5)]
            return list(await asyncio.gather(*(app.result(id, timeout=8) for id in told)))
        finally:
            await app.shutdown()

    return [asyncio.run(once(number)) for number in range(2)]


def test_events_may_be_kept_for_ever():
    """A retention longer than time itself drops nothing."""

    async def body(app):
        await app.handle_event({"type": "kept", "source": "s", "id": "1"})
        return await app.expire()

    assert run(body, retention=timedelta.max) == 0


class Kept(BaseModel):
    count: int


def test_a_wait_for_what_is_no_model_any_more(monkeypatch):
    """Where the name that a wait has stored means no model, the event is accepted, for the wait."""
    model = Kept

    async def body(app):
        @workflow
        async def keeping(ctx) -> int:
            return (await wait_event(ctx, "kept.model", model=model)).data.count

        await app.start(keeping, instance_id="x")
        with pytest.raises(ResultTimeout):
            await app.result("x", timeout=0.01)
        app.models.clear()  # as in a process that only accepts
        plain = type("Kept", (), {"__module__": Kept.__module__, "__qualname__": "Kept"})
        monkeypatch.setattr(sys.modules[Kept.__module__], "Kept", plain)
        await app.handle_event(
            {"type": "kept.model", "source": "s", "id": "1", "data": {"count": 3}}
        )
        return await app.result("x", timeout=5)

    assert run(body) == 3


class Fussy(BaseModel):
    count: int

    @field_validator("count")
    @classmethod
    def known(cls, value: int) -> int:
        raise TerminalError("not even an error of values")


def test_a_model_whose_validator_breaks_refuses():
    """Whatever a model's validator raises, the sender is told that the data is refused."""

    @workflow
    async def fussing(ctx) -> None:
        await wait_event(ctx, "fussy.event", model=Fussy)

    async def body(app):
        await app.start(fussing, instance_id="x")
        with pytest.raises(ResultTimeout):
            await app.result("x", timeout=0.01)
        with pytest.raises(InvalidEventError, match="TerminalError: not even"):
            await app.handle_event(
                {"type": "fussy.event", "source": "s", "id": "1", "data": {"count": 3}}
            )

    run(body)


@pytest.mark.parametrize("id", ["a\0b", "a\udc80"])
def test_an_id_that_no_store_keeps_is_refused(id):
    """NUL and half a surrogate pair are refused before anything is stored."""

    async def body(app):
        with pytest.raises(ArgumentError, match="instance_id has a NUL or half"):
            await app.start(adding, a=1, instance_id=id)
        return await app.find()

    assert run(body) == []


# ---- What callers hand in ----------------------------------------------------------------------

URLS = ["memory://", "sqlite:///{}/edda.db"]
NO_IDS = ["a\0b", "\ud800", 5, None, "", ["x"]]


def on(url, body):
    """Run `body(app)` on an app of this database."""

    async def main():
        async with EddaApp("asked", url, workflows=[adding]) as app:
            return await asyncio.wait_for(body(app), 10)

    return asyncio.run(main())


async def told(call):
    with pytest.raises(ArgumentError) as caught:
        await call
    return caught.value.problems


def wrong_pages(url):
    """What each wrong way to ask for a page is told."""

    async def body(app):
        pages = (app.find, app.expired_messages, app.pending_events)
        limits = [
            await told(page(limit=limit))
            for limit in (-1, 10**30, "3", 2.5, True)
            for page in pages
        ]
        positions = [
            await told(page(after=after)) for after in (-1, 10**30, "x") for page in pages[1:]
        ]
        wanted = ({"after": 5}, {"after": "\ud800"}, {"after": "a\0"}, {"workflow": adding})
        others = [await told(app.find(**one)) for one in (*wanted, {"status": "over"})]
        return limits, positions, others, [await page(limit=0) for page in pages]

    return on(url, body)


def judge_pages(found):
    limits, positions, others, empty = found
    wanted = "limit must be a whole number from 0 to 9223372036854775807, got"
    assert limits == [
        [f"{wanted} {value}"]
        for value in ("-1", f"{10**30}", "'3'", "2.5", "True")
        for _ in range(3)
    ]
    assert [one[0].partition(",")[0] for one in positions] == [
        "after must be a whole number from 0 to 9223372036854775807"
    ] * 6
    assert [one[0] for one in others[:3]] == [
        "after must be a non-empty string, got 5",
        "after has a NUL or half of a surrogate pair, which no store keeps: '\\ud800'",
        "after has a NUL or half of a surrogate pair, which no store keeps: 'a\\x00'",
    ]
    assert others[3][0].startswith("workflow must be a non-empty string, got <Workflow 'adding'")
    assert others[4] == [
        "status must be one of pending, running, waiting_for_event, waiting_for_timer, "
        "waiting_for_message, waiting_for_retry, compensating, completed, failed, cancelled, "
        "stuck, got 'over'"
    ]
    assert empty == [[], [], []]


@pytest.mark.parametrize("url", URLS)
def test_a_page_that_cannot_be_is_refused(tmp_path, url):
    """Limits, positions, names and statuses that mean nothing are refused, alike on every store."""
    judge_pages(wrong_pages(url.format(tmp_path)))


def test_a_page_that_cannot_be_is_refused_on_postgres(postgres):
    """The same on PostgreSQL."""
    judge_pages(wrong_pages(postgres))


def missing(url):
    """Which of these is found, by whatever asks for one."""

    async def body(app):
        asks = (app.instance, app.status, app.history, app.cancel, app.result)
        kinds = []
        for ask in asks:
            for id in NO_IDS:
                with pytest.raises(EddaError) as caught:
                    await ask(id)
                kinds.append(type(caught.value))
        return set(kinds), [await app.retry(id) for id in NO_IDS if id is not None]

    return on(url, body)


@pytest.mark.parametrize("url", URLS)
def test_what_can_be_no_id_is_not_there(tmp_path, url):
    """Whatever no store could keep as an id names no instance, and is no error of the store."""
    assert missing(url.format(tmp_path)) == ({InstanceNotFoundError}, [0] * 5)


def test_what_can_be_no_id_is_not_there_on_postgres(postgres):
    """The same on PostgreSQL."""
    assert missing(postgres) == ({InstanceNotFoundError}, [0] * 5)


@pytest.mark.parametrize("timeout", ["5", timedelta(seconds=5), 10**400, float("nan"), True])
def test_a_timeout_is_a_number(timeout):
    """A timeout that is no number of seconds is refused."""

    async def body(app):
        return await told(app.result("x", timeout=timeout))

    ((problem,),) = (run(body),)
    assert problem.startswith("timeout must be a number of seconds, got ")


def test_what_replaces_a_workflow_is_one():
    """Only a workflow can be deployed in place of one."""
    with pytest.raises(ArgumentError, match="expected a function decorated with @workflow, got 5"):
        EddaApp(db_url="memory://").replace(5)


# ---- Event loops -------------------------------------------------------------------------------


def calls_from_another_loop(url):
    """What an app answers to those on other event loops, and whether it goes on."""

    @activity
    def asks(ctx) -> str:
        async def outside():
            for call in (app.find, app.retry, app.pending_events):
                with contextlib.nullcontext() if "memory" in url else pytest.raises(StoreError):
                    await call()
            with pytest.raises(EddaError) as caught:
                await app.start(adding, 1)
            return str(caught.value)

        return asyncio.run(outside())

    @workflow
    async def asking(ctx) -> str:
        return await asks(ctx)

    app = EddaApp("loops", url, workflows=[adding, asking])

    async def main():
        async with app:
            said = await app.result(await app.start(asking), timeout=5)
            return said, await app.result(await app.start(adding, 1), timeout=5)

    return asyncio.run(main())


WRONG_LOOP = (
    "adding.start() needs an app, and none is running here. The app is open on another event loop, "
    "in another thread. Await the call there, for example by asyncio.run_coroutine_threadsafe, or "
    "from an `async def` activity."
)


@pytest.mark.parametrize("url", URLS)
def test_an_app_is_of_one_event_loop(tmp_path, url):
    """A call on another event loop, as a plain activity could make, is refused; the app goes on."""
    assert calls_from_another_loop(url.format(tmp_path)) == (WRONG_LOOP, 2)


def test_an_app_is_of_one_event_loop_on_postgres(postgres):
    """The same on PostgreSQL."""
    assert calls_from_another_loop(postgres) == (WRONG_LOOP, 2)


@pytest.mark.parametrize("url", URLS[1:])
def test_a_store_is_of_one_event_loop(tmp_path, url):
    """A store that is open says where it works, and what to do elsewhere."""
    app = EddaApp("left", url.format(tmp_path), workflows=[adding], worker=False)
    asyncio.run(app.initialize())
    with pytest.raises(StoreError) as caught:
        asyncio.run(app.find())
    assert str(caught.value) == (
        f"<SqliteStore: {tmp_path}/edda.db> was opened on another event loop, and works on that "
        "one alone. Await the call there, for example by asyncio.run_coroutine_threadsafe, or open "
        "an app here."
    )
    with pytest.raises(StoreError):
        asyncio.run(app.store.transaction().__aenter__())


@pytest.mark.parametrize("url", URLS)
def test_an_app_left_open_by_a_loop_that_is_over(tmp_path, url):
    """An app that nobody closed before its event loop ended says so, and does not hang."""
    app = EddaApp("left", url.format(tmp_path), workflows=[adding])

    async def main():
        await app.start(adding, 1)

    asyncio.run(app.initialize())
    with pytest.raises(StrandedAppError, match="has been closed since"):
        asyncio.run(main())
