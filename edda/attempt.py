"""One attempt of one activity: arguments decoded, the function called, everything into values.

The only place where an activity's function is called. It knows nothing of retries, histories or
stores; what goes wrong is a `Failure` value, never an exception.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

from edda.activity import ActivityContext
from edda.codec import encode_error
from edda.commands import Failure, Result
from edda.errors import ActivityTimeoutError
from edda.ports import Call

__all__ = ["DirectActivities", "attempt"]

# Plain functions at work at once, at most. asyncio's own threads are a handful: who waited for one
# would run out of time before it began, and calls that hang would keep all others for ever.
THREADS = 1000


class DirectActivities:
    """The door as production uses it: the activity's own function; plain ones in a thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="edda-activity")

    async def attempt(self, call: Call) -> Result | Failure:
        """Make one attempt (`ports.Activities`)."""
        is_plain = not call.activity.is_async
        return await attempt(call, call.activity.fn, in_thread=is_plain, threads=self._threads)


async def attempt(
    call: Call,
    function: Callable[..., Any],
    *,
    in_thread: bool,
    with_context: bool = True,
    threads: Executor | None = None,
) -> Result | Failure:
    """Call `function` in place of the activity's own and return how it came out.

    A plain function runs in a thread when `in_thread`, one of `threads`. `timeout_seconds` of
    the activity limits the attempt; a thread that is still at work then runs on, unheard. Without
    `with_context` the function is not given the activity's context.
    """
    activity = call.activity
    try:
        args, kwargs = activity.parameters.decode(call.arguments)
        if with_context:
            ctx = ActivityContext(
                call.instance_id,
                call.workflow,
                call.id,
                call.attempt,
                call.key,
                transaction=call.connection,
                outbox=call.outbox,
            )
            args = (ctx, *args)
        running = _run(function, args, kwargs, threads, in_thread=in_thread)
        if activity.timeout_seconds is None:
            value = await running
        else:
            value = await _within(activity.timeout_seconds, activity.name, running)
        return Result(activity.result.encode(value))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # somebody cancelled this attempt: its outcome is not wanted
        return Failure(encode_error(error))
    except (Exception, SystemExit) as error:  # goes to the workflow, by way of the retry policy
        return Failure(encode_error(error))


async def _run(
    function: Callable[..., Any],
    args: Any,
    kwargs: dict[str, Any],
    threads: Executor | None,
    *,
    in_thread: bool,
) -> Any:
    if in_thread and not asyncio.iscoroutinefunction(function):
        work = partial(copy_context().run, _safely, function, args, kwargs)
        value = await asyncio.get_running_loop().run_in_executor(threads, work)
    else:
        value = function(*args, **kwargs)
    # A plain function may hand out a coroutine (a functools.partial, a decorated one).
    return await value if asyncio.iscoroutine(value) else value


def _safely(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    # A future cannot carry a StopIteration out of its thread: who awaits it would hang.
    try:
        return function(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("the activity raised StopIteration") from error


async def _within(seconds: float, name: str, running: Coroutine[Any, Any, Any]) -> Any:
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            return await running
    except TimeoutError as error:
        if deadline.expired():
            raise ActivityTimeoutError(name, seconds) from error
        raise
