"""The deterministic event loop: first come, first served, and nothing from outside."""

import asyncio
import logging
import sys
import types

import pytest

from edda.errors import NotReplayableError, RunawayWorkflowError
from edda.loop import Handle, WorkflowLoop, call_site, user_site


class Timers:
    """A clock that stands still, and a list of what was set."""

    def __init__(self):
        self.now = 0.0
        self.handles = []

    def time(self):
        return self.now

    def set_timer(self, handle, when_seconds, site):
        self.handles.append((handle, when_seconds, site))
        handle.withdraw = lambda: self.handles.remove((handle, when_seconds, site))

    def advance(self, loop):
        handle, self.now, _ = self.handles.pop(0)
        loop.fire(handle)
        loop.run()


@pytest.fixture
def timers():
    return Timers()


@pytest.fixture
def loop(timers):
    loop = WorkflowLoop(timers, "order")
    yield loop
    loop.shut()


def result(loop, coroutine):
    task = loop.create_task(coroutine)
    loop.run()
    return task.result()


# ---- Running ---------------------------------------------------------------------------------


def test_callbacks_run_in_the_order_they_came(loop):
    """What is ready runs in order, and what becomes ready by it runs after it."""
    seen = []
    loop.call_soon(lambda: (seen.append(1), loop.call_soon(seen.append, 3)))
    loop.call_soon(seen.append, 2)
    assert repr(loop) == "<WorkflowLoop of order, 2 ready>"
    loop.run()
    assert seen == [1, 2, 3]


def test_a_cancelled_callback_does_not_run(loop):
    """A callback that was taken back does not run, and taking back twice is fine."""
    seen = []
    handle = loop.call_soon(seen.append, 1)
    handle.cancel()
    handle.cancel()
    loop.run()
    assert (seen, handle.cancelled(), repr(handle)) == ([], True, "<Handle cancelled list.append>")


def test_a_timer_is_the_owners(loop, timers):
    """`call_later` and `call_at` become timers of the loop's owner, with the line that asked."""
    seen = []
    timers.now = 5.0
    handle = loop.call_later(2.5, seen.append, "later")
    loop.call_at(9.0, seen.append, "at", context=None)
    assert [(when, site.rpartition(":")[0]) for _, when, site in timers.handles] == [
        (7.5, site_of_this_file()),
        (9.0, site_of_this_file()),
    ]
    assert handle.when() == 7.5
    loop.run()
    assert seen == []
    timers.advance(loop)
    assert (seen, loop.time()) == (["later"], 7.5)


def site_of_this_file():
    return call_site(sys._getframe()).rpartition(":")[0]


def test_a_timer_can_be_withdrawn(loop, timers):
    """Cancelling a timer withdraws it; one that fired has nothing left to withdraw."""
    seen = []
    first, second = loop.call_later(1, seen.append, 1), loop.call_later(2, seen.append, 2)
    first.cancel()
    assert [handle for handle, _, _ in timers.handles] == [second]
    loop.fire(second)
    second.cancel()
    loop.fire(second)
    loop.run()
    assert seen == []


def test_tasks_have_names_by_order(loop):
    """Tasks are named by their order in the workflow, not in the process, unless named."""

    async def named():
        return [t.get_name() for t in [asyncio.create_task(done()), asyncio.create_task(done())]]

    async def done(): ...

    assert result(loop, named()) == ["order-2", "order-3"]
    assert loop.create_task(done(), name="mine").get_name() == "mine"


def test_the_loop_is_asyncios_while_it_runs(loop):
    """Workflow code finds this loop running; outside of `run` it is not."""

    async def look():
        return asyncio.get_running_loop(), loop.is_running(), loop.get_debug(), loop.is_closed()

    assert result(loop, look()) == (loop, True, False, False)
    assert not loop.is_running()


def test_an_outer_loop_keeps_its_current_task(loop):
    """Driven inside a running asyncio loop, each loop has its own current task and generators."""

    async def inner():
        await asyncio.sleep(0)
        return asyncio.current_task(), asyncio.get_running_loop()

    async def outer():
        me, hooks = asyncio.current_task(), sys.get_asyncgen_hooks()
        task = loop.create_task(inner())
        loop.run()
        assert task.result() == (task, loop)
        assert asyncio.current_task() is me
        assert asyncio.get_running_loop() is not loop
        assert sys.get_asyncgen_hooks() == hooks
        loop.shut()
        assert asyncio.current_task() is me
        await asyncio.sleep(0)
        return asyncio.current_task() is me

    assert asyncio.run(outer())


def test_a_workflow_that_spins_is_stopped(loop):
    """A workflow that never waits is stopped with an error that says how to mend it."""

    async def spin():
        while True:
            await asyncio.sleep(0)

    loop.create_task(spin())
    with pytest.raises(RunawayWorkflowError, match="'order' ran 100,000 callbacks in a row"):
        loop.run()
    assert not loop.is_running()


def test_system_exit_ends_the_task_only(loop):
    """`SystemExit` in a task is that task's outcome; the others go on."""
    seen = []

    async def leave():
        raise SystemExit(3)

    task = loop.create_task(leave())
    loop.call_soon(seen.append, 1)
    loop.run()
    assert (seen, type(task.exception())) == ([1], SystemExit)


def test_a_lost_exception_is_logged(loop, caplog):
    """An exception that nobody retrieves is logged with the workflow's name, unless closed."""
    with caplog.at_level(logging.ERROR):
        loop.call_exception_handler({"message": "lost", "exception": None})
        loop.shut()
        loop.call_exception_handler({"message": "closed"})
    assert [record.getMessage() for record in caplog.records] == ["In workflow order: lost"]


# ---- Closing ---------------------------------------------------------------------------------


def test_closing_ends_what_is_suspended(loop):
    """Every suspended coroutine ends: `finally` runs, `except Exception` does not."""
    seen = []

    async def inner():
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("inner")
            await asyncio.Event().wait()
            seen.append("never")

    async def outer():
        try:
            await inner()
        except Exception:
            seen.append("never")
        finally:
            seen.append("outer")

    task = loop.create_task(outer())
    loop.run()
    loop.shut()
    assert seen == ["inner", "outer"]
    assert loop.is_closed()
    assert task.get_coro().cr_frame is None


def test_closing_code_starts_nothing(loop):
    """A task that is made while closing never runs, and nothing warns of it."""
    seen = []

    async def child():
        seen.append("never")

    async def outer():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(child(), child())

    loop.create_task(outer())
    loop.run()
    loop.shut()
    loop.run()
    assert seen == []


def test_closing_gives_up_in_the_end(loop):
    """A coroutine that refuses to end a hundred times is left to itself."""
    tries = 0

    async def stubborn():
        nonlocal tries
        for _ in range(100):
            try:
                await asyncio.Event().wait()
            except BaseException:
                tries += 1
        await asyncio.Event().wait()

    task = loop.create_task(stubborn())
    loop.run()
    loop.shut()
    assert tries == 100
    assert not task.done()


def test_closing_marks_errors_as_seen(loop, caplog):
    """Tasks that failed or were cancelled before are not reported once the loop is shut."""

    async def fail():
        raise ValueError

    failed, cancelled = loop.create_task(fail()), loop.create_task(fail())
    cancelled.cancel()
    loop.run()
    loop.shut()
    del failed, cancelled
    assert caplog.records == []


def test_an_abandoned_generator_is_ended_at_once(loop, timers):
    """An async generator that is left is ended where it stands; what its `finally` asks is lost."""
    seen = []

    async def numbers(cleanup):
        try:
            yield 1
        except GeneratorExit:
            seen.append("exit")
            raise
        finally:
            await cleanup()
            seen.append("cleaned")

    async def waits():
        await asyncio.Event().wait()

    async def quick(): ...

    async def fails():
        raise ValueError

    async def take(cleanup):
        async for _ in numbers(cleanup):
            break
        return list(seen)

    assert result(loop, take(quick)) == ["exit", "cleaned"]
    assert result(loop, take(waits)) == ["exit", "cleaned", "exit"]
    assert result(loop, take(fails)) == ["exit", "cleaned", "exit", "exit"]
    assert not loop.is_closed()


# ---- Call sites ------------------------------------------------------------------------------


def frame_of(file, module):
    space = {"__name__": module, "sys": sys}
    exec(compile("import sys\nframe = sys._getframe()", file, "exec"), space)
    return space["frame"]


@pytest.mark.parametrize(
    ("file", "module", "site"),
    [
        ("/a/b/shop/pay.py", "shop.pay", "shop/pay.py:2"),
        ("/a/b/shop/__init__.py", "shop", "shop/__init__.py:2"),
        ("C:\\a\\shop\\pay.py", "shop.pay", "shop/pay.py:2"),
        ("/a/b/pay.py", "__main__", "pay.py:2"),
        ("<string>", "__main__", "<string>:2"),
    ],
)
def test_a_site_is_relative_to_its_package(file, module, site):
    """A call site is the file from the top of its package, and the line."""
    assert call_site(frame_of(file, module)) == site


def test_the_users_line_is_found():
    """Frames of asyncio and of this package are skipped, those of a neighbour `edda_x` are not."""
    ours, neighbour = WorkflowLoop.run.__code__.co_filename, "/edda_shop/pay.py"
    neighbour = ours.replace("/edda/loop.py", neighbour)
    assert user_site(frame_of(neighbour, "edda_shop.pay")) == "edda_shop/pay.py:2"
    assert user_site(None) == "?"
    inner = types.SimpleNamespace(f_code=frame_of(ours, "x").f_code, f_back=None)
    assert user_site(inner) == "?"


# ---- What is refused -------------------------------------------------------------------------


def refused(loop, function):
    async def call():
        outcome = function()
        return await outcome if asyncio.iscoroutine(outcome) else outcome

    with pytest.raises(NotReplayableError) as caught:
        result(loop, call())
    return str(caught.value)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (
            lambda: asyncio.to_thread(print),
            "asyncio.to_thread / loop.run_in_executor cannot be replayed, so a workflow cannot use "
            "it. Put the blocking call into an activity; a plain `def` activity runs in a thread.",
        ),
        (
            lambda: asyncio.open_connection("localhost", 1),
            "asyncio.open_connection / loop.create_connection cannot be replayed, so a workflow "
            "cannot use it. Do network I/O in an activity, and await the activity.",
        ),
        (
            lambda: asyncio.start_server(print, "localhost", 1),
            "asyncio.start_server / loop.create_server cannot be replayed, so a workflow cannot "
            "use it. Do network I/O in an activity, and await the activity.",
        ),
        (
            lambda: asyncio.create_subprocess_exec("true"),
            "asyncio.create_subprocess_exec / loop.subprocess_exec cannot be replayed, so a "
            "workflow cannot use it. Start the process in an activity, and await the activity.",
        ),
        (
            lambda: asyncio.create_subprocess_shell("true"),
            "asyncio.create_subprocess_shell / loop.subprocess_shell cannot be replayed, so a "
            "workflow cannot use it. Start the process in an activity, and await the activity.",
        ),
        (
            lambda: asyncio.get_running_loop().stop(),
            "loop.stop cannot be replayed, so a workflow cannot use it. It belongs to the program "
            "that runs workers, not to a workflow.",
        ),
        (
            lambda: asyncio.get_running_loop().set_debug(True),
            "loop.set_debug cannot be replayed, so a workflow cannot use it. Debug asyncio code "
            "in an activity or a plain test.",
        ),
    ],
)
def test_the_outside_is_refused(loop, function, text):
    """What a replay cannot reproduce fails at once, with the call and the cure."""
    assert refused(loop, function) == text


def test_every_method_of_asyncio_is_decided(loop):
    """Each method of asyncio's abstract loop is either made here or refused."""
    loop.set_debug(False)
    undecided = {
        name
        for name, value in vars(asyncio.AbstractEventLoop).items()
        if not name.startswith("_") and getattr(WorkflowLoop, name) is value
    }
    assert undecided == set()


async def wait_for_all():
    return await asyncio.wait([asyncio.create_task(asyncio.sleep(1))])


async def wait_for_each():
    for each in asyncio.as_completed([asyncio.sleep(1)]):
        await each


async def wait_for_each_task():
    tasks = [asyncio.create_task(asyncio.sleep(1))]
    await asyncio.sleep(0)
    for each in asyncio.as_completed(tasks):
        await each


@pytest.mark.parametrize(
    ("function", "name"),
    [(wait_for_all, "wait"), (wait_for_each, "as_completed"), (wait_for_each_task, "as_completed")],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_sets_without_order_are_refused(loop, function, name):
    """`asyncio.wait` and `as_completed` have an order that no replay has, and say so."""
    assert refused(loop, function) == (
        f"asyncio.{name} cannot be replayed, so a workflow cannot use it. It keeps its awaitables "
        f"in a set, which has another order in every process: use asyncio.gather or "
        f"asyncio.TaskGroup."
    )


def test_a_handle_says_what_it_calls(loop):
    """The repr of a handle names the function, or the object that is called."""
    assert repr(loop.call_soon(print)) == "<Handle print>"
    assert repr(Handle(5, (), None)) == "<Handle 5>"
