"""The machine: one workflow coroutine driven against one history. Pure.

    history ──feed──▶ machine ──decide──▶ Decision

Its rules:
* Time, answers and messages come in as events and in no other way; there is no clock, no
  randomness and no I/O here.
* Waiting is not resuming. No exception carries a suspension, so no `except` can swallow one.
* Inputs are fed in recorded order. What the code does about each input is compared with what
  history recorded up to the next input; beyond the end of history it is new, and `decide`
  hands it out to be committed.
* Whether something is in history is decided here and nowhere else.

Deliberately absent: performing anything, storing anything, and the vocabulary of authors
(decorators, contexts), which stands on `Machine.ask`.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn, Protocol, assert_never

from edda.codec import decode_error, encode_error
from edda.commands import (
    Answer,
    Ask,
    Cancellation,
    EventAsk,
    Expiry,
    Failure,
    Mode,
    Outcome,
    ReceiveAsk,
    Recurrence,
    Result,
    TimerAsk,
)
from edda.divergence import agrees, explain
from edda.errors import ArgumentError, DuplicateIdError, EventTimeoutError, NonDeterminismError
from edda.history import (
    Answered,
    Asked,
    Attempted,
    CancelRequested,
    Event,
    Finished,
    Input,
    Output,
    Patched,
    Refused,
    Started,
    Subscribed,
    Unsubscribed,
    Withdrawn,
)
from edda.loop import TimerHandle, WorkflowLoop
from edda.value import value

__all__ = ["Decision", "Machine", "Program", "Question", "Watch", "unwatched"]


Watch = Callable[[Sequence[Event]], AbstractContextManager[object]]

_NOBODY = nullcontext()


def unwatched(_events: Sequence[Event]) -> AbstractContextManager[object]:
    """The `Machine.watch` of a machine that nobody watches."""
    return _NOBODY


class Program(Protocol):
    """A workflow as the machine sees it."""

    @property
    def name(self) -> str:
        """The name that instances are stored under."""

    @property
    def instance_id(self) -> str:
        """The instance that is run."""

    def run(self, machine: "Machine", started: Started) -> Coroutine[Any, Any, Any]:
        """The user's coroutine, on decoded arguments."""

    def encode_result(self, value: Any) -> str:
        """The JSON text of what the coroutine returned."""

    def same_result(self, one: str, other: str) -> bool:
        """Whether two such texts mean equal values."""


class Question:
    """An ask with what makes a value of its answer; once it is asked, also how it stands.

    `definition` is the author's object behind it (the activity), for who performs it; `same` says
    whether two texts of arguments mean the same; `resolve` takes the answer. `attempts` and
    `retry_at` follow the notes of its failed attempts.
    """

    attempts: int = 0
    began_at: datetime | None = None
    retry_at: datetime | None = None
    refused: frozenset[int] = frozenset()

    def __init__(
        self,
        ask: Ask,
        decode: Callable[[str], Any],
        definition: Any = None,
        same: Callable[[str, str], bool] | None = None,
        resolve: Callable[[Answer], None] = lambda _: None,
    ) -> None:
        self.ask = ask
        self.decode = decode
        self.definition = definition
        self.same = same
        self.resolve = resolve

    def __repr__(self) -> str:
        return f"<Question {self.ask!r}>"


@value
class Decision:
    """What one or more inputs led to: the events to append, in order, and how it ended.

    The new asks are the `Asked` among `events`; an `outcome` of None means the code waits.
    """

    events: tuple[Event, ...]
    outcome: Outcome | None


class Machine:
    """Drives one instance of `program`. Feed it events, ask it for decisions, close it.

    `watch` is told of events that are fed, and its context is entered while the program's code
    runs on them: a tracer's or a guard's place.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.watch: Watch = unwatched
        self.open: dict[str, Question] = {}
        self.outcome: Outcome | None = None
        self.is_replaying = False
        self.is_compensating = False  # set by who undoes a saga, while it does
        self.subscriptions: dict[str, Mode] = {}  # by channel
        self.length = 0
        self.now: datetime | None = None
        self.started: Started | None = None
        # Its refused methods are set after the class, where no type checker sees them.
        self._loop = WorkflowLoop(self, program.name)  # type: ignore[abstract]
        self._root: asyncio.Task[Any] | None = None
        self._counts: dict[str, int] = {}
        self._ids: dict[str, Callable[[str, str], bool] | None] = {}  # and how to compare
        self._patches: dict[str, bool] = {}  # by id: whether this instance takes the new side
        self._patched: set[str] = set()
        # All that the code ever did, and how much of it is history.
        self.asked: list[Output] = []
        self._agreed = 0
        self._decided: list[Event] = []

    def __repr__(self) -> str:
        state = "waits for " + ", ".join(self.open) if self.open else "has not started"
        if self.outcome is not None:
            state = f"ended with {type(self.outcome).__name__}"
        return f"<Machine of {self.program.name!r}: {self.length} events, {state}>"

    # ---- Feeding -----------------------------------------------------------------------------

    def replay(self, events: Sequence[Event]) -> None:
        """Feed a recorded history. Raises `NonDeterminismError` where the code departs from it."""
        self.is_replaying = len(events) > 1
        if Patched in map(type, events):
            self._patches = {event.id: True for event in events if isinstance(event, Patched)}
        try:
            with self._loop.running(), self.watch(events):
                for event in events:
                    self.feed(event, events)
        finally:
            self.is_replaying = False

    # All events go through here.
    def feed(self, event: Event, recorded: Iterable[Event] = ()) -> None:
        """Take the next event; run the code when it is an input.

        `recorded` is the whole history, for the message when code and history part ways.
        """
        if isinstance(event, _INPUTS):
            if len(self.asked) > self._agreed:
                raise self._divergence(recorded)
            self.now = event.at
            self.length = event.seq + 1
            self._take(event)
        elif isinstance(event, _OUTPUTS):
            if len(self.asked) == self._agreed or not self._confirms(event):
                raise self._divergence(recorded)
            self._agreed += 1
        elif (found := self.open.get(event.id)) is not None:
            match event:
                case Attempted():
                    found.attempts = event.attempt
                    found.retry_at = event.retry_at
                    found.began_at = event.began_at
                case Refused():
                    found.refused |= {event.message}
                case _:  # pragma: no cover
                    assert_never(event)
        self.length = event.seq + 1

    def live(self, event: Event) -> None:
        """Feed a new event, to be committed: what `decide` returns begins with it."""
        self._settle()
        self._decided.append(event)
        with self.watch((event,)):
            self.feed(event)

    def decide(self) -> Decision:
        """All that is new since the last decision."""
        self._settle()
        events, self._decided = tuple(self._decided), []
        return Decision(events, self.outcome)

    @property
    def scope(self) -> str:
        """What ids of this history are unique within: the instance, and how often it recurred."""
        assert self.started is not None
        times = self.started.recurred
        return f"{self.program.instance_id}~{times}" if times else self.program.instance_id

    @property
    def next_seq(self) -> int:
        """The sequence number of the next event."""
        return self.length + len(self.asked) - self._agreed

    def close(self) -> None:
        """Drop the coroutine. Nothing it does while it is closed counts (law T4)."""
        self._loop.shut()
        self.open.clear()
        self._root = None

    def _settle(self) -> None:
        # What the code did beyond the end of history becomes history.
        if len(self.asked) > self._agreed:
            self.length = self.next_seq
            self._decided += self.asked[self._agreed :]
            self._agreed = len(self.asked)

    def _take(self, event: Input) -> None:
        match event:
            case Answered():
                found = self.open.pop(event.id, None)
                if found is not None:  # else it was given up: a late answer is absorbed
                    found.resolve(event.outcome)
            case Started():
                assert self._root is None, "an instance starts once"
                self.started = event
                self.subscriptions = dict(event.subscriptions)
                self._loop.salt = event.seed
                self._root = self._loop.create_task(
                    # An empty context: what a worker keeps in context variables is not replayed.
                    self.program.run(self, event),
                    context=Context(),
                )
            case CancelRequested():
                # What is being undone is undone to the end.
                if self._root is not None and not self.is_compensating:
                    self._root.cancel()
            case _:  # pragma: no cover
                assert_never(event)
        self._loop.run()
        if self.outcome is None and self._root is not None and self._root.done():
            self.outcome = self._ending(self._root)
            self._emit(Finished(self.next_seq, self._time(), self.outcome))

    def _ending(self, root: asyncio.Task[Any]) -> Outcome:
        if root.cancelled():
            return Cancellation()
        error = root.exception()
        if error is not None:
            return Failure(encode_error(error))
        try:
            return Result(self.program.encode_result(root.result()))
        except Exception as refused:  # the value cannot be stored: that fails the workflow
            return Failure(encode_error(refused))

    # ---- Asking: what authors' verbs stand on ---------------------------------------------------

    def next_id(self, name: str, given: str | None = None) -> str:
        """The public id of the next ask of that name: `given`, or `name:n`."""
        if given is not None:
            return given
        count = self._counts.get(name, 0) + 1
        if not self._loop.is_closed():  # what is asked then does not count
            self._counts[name] = count
        return f"{name}:{count}"

    async def ask(self, *questions: Question) -> Any:
        """Ask, wait for the first answer, and return its value or raise its error.

        The other questions are given up then.
        """
        future: asyncio.Future[Any] = asyncio.Future(loop=self._loop)
        try:
            for one in questions:
                one.resolve = partial(_resolve, one.ask, one.decode, future)
                self._post(one)
            return await future
        finally:
            for one in questions:
                self._withdraw(one)

    def _post(self, opened: Question) -> None:
        ask = opened.ask
        if self._loop.is_closed():
            return  # the coroutine is being closed: this await is never answered
        if ask.id in self._ids:
            raise DuplicateIdError(ask.id, ask.site)
        self._ids[ask.id] = opened.same
        self.open[ask.id] = opened
        self._emit(Asked(self.next_seq, self._time(), ask))

    def patched(self, id: str) -> bool:
        """Whether the code takes the new side of a change: history has it, or it is live.

        The answer is recorded where it is first given, and stands for the instance's life.
        """
        is_new = self._patches.setdefault(id, not self.is_replaying)
        if is_new and id not in self._patched and not self._loop.is_closed():
            self._patched.add(id)
            self._emit(Patched(self.next_seq, self._time(), id))
        return is_new

    def subscribe(self, channel: str, mode: Mode) -> None:
        """Read a channel from here on; without effect when the code does already."""
        if channel not in self.subscriptions and not self._loop.is_closed():
            self.subscriptions[channel] = mode
            self._emit(Subscribed(self.next_seq, self._time(), channel, mode))

    def unsubscribe(self, channel: str) -> None:
        """Read a channel no more; without effect when the code does not."""
        if channel in self.subscriptions and not self._loop.is_closed():
            del self.subscriptions[channel]
            self._emit(Unsubscribed(self.next_seq, self._time(), channel))

    async def recur(self, arguments: str) -> NoReturn:
        """End here, to go on as a fresh history with `arguments`. Nothing runs after it."""
        if not self._loop.is_closed():
            self.outcome = Recurrence(arguments)
            self._emit(Finished(self.next_seq, self._time(), self.outcome))
            self._loop.halt()
        await asyncio.Future(loop=self._loop)
        raise AssertionError("nobody answers it")

    async def cancel_others(self) -> None:
        """Cancel every task but the one that asks, and wait for their ends."""
        current = asyncio.current_task(self._loop)
        others = [task for task in self._loop.tasks if task is not current and not task.done()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    @property
    def patches(self) -> Mapping[str, bool]:
        """The ids that history or code has named to `patched`, and whether the side is the new."""
        return self._patches

    def _withdraw(self, opened: Question) -> None:
        ask = opened.ask
        if self.open.get(ask.id) is not opened:
            return  # it is answered, or was never asked: its id is another's
        del self.open[ask.id]
        if not self._loop.is_closed():
            self._emit(Withdrawn(self.next_seq, self._time(), ask.id, ask.name, ask.kind))

    def _emit(self, output: Output) -> None:
        self.asked.append(output)

    def _time(self) -> datetime:
        assert self.now is not None, "nothing runs before the first event"
        return self.now

    # ---- The loop's timers become asks -----------------------------------------------------------

    def time(self) -> float:
        """The loop's time: seconds since the instance started, by the event being fed."""
        assert self.started is not None
        return (self._time() - self.started.at).total_seconds()

    def set_timer(self, handle: TimerHandle, when_seconds: float, site: str) -> None:
        """A `call_later` of asyncio: a timer ask that puts `handle` on the loop."""
        assert self.started is not None
        name = _TIMER_NAMES.get(getattr(handle.callback, "__name__", ""), "call_later")
        try:
            due = self.started.at + timedelta(microseconds=round(when_seconds * 1_000_000))
        except (OverflowError, ValueError) as error:  # infinite, NaN, past the year 9999
            problem = f"{when_seconds!r} seconds from the start is no instant that can be stored"
            raise ArgumentError(f"asyncio's {name}", [problem]) from error
        ask = TimerAsk(self.next_id(name), name, due, site)
        opened = Question(ask, json.loads, resolve=lambda _: self._loop.fire(handle))
        handle.withdraw = lambda: self._withdraw(opened)
        self._post(opened)

    # ---- Comparing -----------------------------------------------------------------------------

    def _confirms(self, recorded: Output) -> bool:
        """Whether history has what the code did next; the recorded ask stands then."""
        fresh = self.asked[self._agreed]
        if not isinstance(recorded, Asked):
            is_end = isinstance(fresh, Finished)
            return agrees(recorded, fresh, self.program.same_result if is_end else None)
        ask = recorded.ask
        if not agrees(recorded, fresh, self._ids.get(ask.id)):
            return False
        if (opened := self.open.get(ask.id)) is not None:
            opened.ask = ask  # its deadline was set once
        return True

    def _divergence(self, recorded: Iterable[Event]) -> NonDeterminismError:
        outputs = [event for event in recorded if isinstance(event, Output)]
        return NonDeterminismError(
            explain(self.program.name, outputs, self.asked, agreed=self._agreed)
        )


# The events that go into the code, and those that come out of it; the frequent ones first.
_INPUTS = (Answered, Started, CancelRequested)
_OUTPUTS = (Asked, Withdrawn, Patched, Subscribed, Unsubscribed, Finished)

# What asyncio's own timers are called in a history.
_TIMER_NAMES = {
    "_set_result_unless_cancelled": "sleep",
    "_on_timeout": "timeout",
    "_release_waiter": "timeout",
}


def _resolve(
    ask: Ask, decode: Callable[[str], Any], future: "asyncio.Future[Any]", answer: Answer
) -> None:
    if future.done():
        return
    match answer:
        case Result():
            # A stored value that does not fit today's code is no fault of the workflow: the
            # error passes through `feed` to the turn, which parks the instance.
            future.set_result(decode(answer.value))
        case Failure():
            future.set_exception(decode_error(answer.error))
        case Expiry():
            future.set_exception(_expired(ask))
        case _:  # pragma: no cover
            assert_never(answer)


def _expired(ask: Ask) -> BaseException:
    assert isinstance(ask, EventAsk | ReceiveAsk), "only waits expire"
    return EventTimeoutError(ask.name, ask.timeout_seconds or 0.0)
