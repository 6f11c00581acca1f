"""One turn of one instance: load ▶ feed ▶ decide ▶ perform ▶ commit.

A turn begins with a claimed instance and ends when the instance waits for something that will
come from outside, or has finished. In between it hands out the calls to make and is told how
they came out. Each step is one commit (law T1); `edda.turn` is the only place that commits.

Who drives a turn decides when calls run and when time passes: the worker in production, the
simulation in tests. Deliberately absent: tasks, sleeping, queues, and any choice of order
beyond law M7's: the earlier answer wins, and at one instant the event.
"""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b

from edda.activity import Activity
from edda.codec import Value, decode_error, encode_error, reference
from edda.commands import (
    Answer,
    CallAsk,
    Cancellation,
    EventAsk,
    Expiry,
    Failure,
    Outcome,
    Recurrence,
    Result,
    ResultAsk,
    StartAsk,
    TimerAsk,
    WaitAsk,
    deadline_of,
)
from edda.errands import Errand, answer_of_end, end_of, job_of, restart_of, wait_of
from edda.errors import (
    ActivityError,
    DecodingError,
    DefinitionError,
    InvalidEventError,
    NonDeterminismError,
    RetryExhaustedError,
    RunawayWorkflowError,
    TransactionOverError,
)
from edda.events import CHANNEL, Envelope, received
from edda.history import (
    Answered,
    Asked,
    Attempted,
    CancelRequested,
    Event,
    Refused,
    Unsubscribed,
    Withdrawn,
)
from edda.machine import Machine, Question
from edda.ports import (
    Call,
    Claimed,
    Clock,
    Commit,
    Committed,
    Message,
    Status,
    Store,
    Subscription,
    Transaction,
)
from edda.retry import DEFAULT_RETRY_POLICY, RetryPolicy
from edda.value import value
from edda.workflow import Workflow

__all__ = ["Step", "Turn"]


@value
class Step:
    """What a turn wants after a step.

    `calls` are to be begun now, each answered by `Turn.answer`; `dropped` are the ids of calls
    whose outcome is not wanted any more. `due` is when the instance next does something by
    itself: `Turn.poke` is called then at the latest. `is_over` means the turn has ended and the
    lease is given back; `ended` is how, when the instance has ended with it. `woken` are other
    instances that have something to do by it; `has_sent` means there is something in the outbox.
    """

    calls: tuple[Call | Errand, ...] = ()
    dropped: tuple[str, ...] = ()
    due: datetime | None = None
    is_over: bool = False
    ended: Outcome | None = None
    woken: tuple[str, ...] = ()
    has_sent: bool = False


class Turn:
    """Drives the machine of one claimed instance. Use `begin`, then `answer` and `poke`.

    `models` is filled with the models of the waits that are met, by name, so that the door can
    validate events before it accepts them (law M6). `seen_at` is a time before the claim: what was
    accepted until then is among its messages. `observe` is told of events once they are
    committed, of calls that begin, and of the error that parks the instance.
    """

    def __init__(
        self,
        claimed: Claimed,
        workflow: Workflow[..., object],
        *,
        store: Store,
        clock: Clock,
        retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
        models: MutableMapping[str, Value] | None = None,
        seen_at: datetime | None = None,
        observe: Callable[["Turn", Sequence[object]], None] = lambda *_: None,
    ) -> None:
        self.lease = claimed.lease
        self.instance_id = claimed.lease.instance_id
        self.machine = Machine(workflow.program(self.instance_id))
        self.in_flight: dict[str, Call | Errand] = {}  # by id
        self._workflow = workflow
        self._store = store
        self._clock = clock
        self._retry_policy = retry_policy
        self._models = {} if models is None else models
        self._observe = observe
        self._history = claimed.history
        self._stored = len(claimed.history)
        self._messages = claimed.messages
        self._cancel_requested = claimed.cancel_requested
        self._seen_at = clock.now() if seen_at is None else seen_at
        self._events: list[Event] = []
        self._taken: list[int] = []
        self._outbox: list[Envelope] = []
        self._woken: tuple[str, ...] = ()
        self._has_sent = False
        self._transaction: Transaction | None = None
        self.is_over = False

    def __repr__(self) -> str:
        return f"<Turn of {self.instance_id!r}: {self.machine!r}, {len(self.in_flight)} calls>"

    # ---- The four things that can happen to a turn -----------------------------------------------

    async def begin(self) -> Step:
        """Replay the history and take the first step. Parks the instance when it diverges."""
        try:
            self.machine.replay(self._history)
            self._collect()
        except _UNFIT as error:
            return await self._park(error)
        finally:
            self._history = ()
        return await self._advance()

    async def answer(
        self, id: str, outcome: Result | Failure, transaction: Transaction | None = None
    ) -> Step:
        """A call came out. An answer nobody waits for any more is dropped.

        With `transaction` it is committed together with what was written there (law T2); what
        was written with an answer that is dropped is not committed.
        """
        call = self.in_flight.pop(id, None)
        opened = self.machine.open.get(id)
        self._transaction = transaction
        if call is None or opened is None:
            await self._roll_back()
        else:
            try:
                self._take_answer(opened, call, outcome)
            except _UNFIT as error:
                return await self._park(error)
        try:
            return await self._advance()
        except TransactionOverError as error:  # the activity is wrong, and would do it again
            return await self._park(error)

    async def poke(self) -> Step:
        """Something may have become due or arrived: look, and go on."""
        await self._save(self._commit(self.due, release=False))
        return await self._advance()

    def close(self) -> None:
        """Drop the coroutine (law T4). What was not committed did not happen (law T1)."""
        self.is_over = True
        self.machine.close()

    # ---- A step ----------------------------------------------------------------------------------

    async def _advance(self) -> Step:
        dropped: tuple[str, ...] = ()
        while True:
            try:
                self._take_what_is_ready()
            except _UNFIT as error:
                return await self._park(error, dropped)
            # Given up by the code: they must neither keep the turn alive nor look like work.
            dropped += self._drop(lambda call_id: call_id not in self.machine.open)
            calls = self._ready_calls()
            if self.machine.outcome is None and calls and self._can_commit_later():
                break
            is_idle = not calls and not self.in_flight
            # What is due comes after what was accepted before it: the log is looked at first.
            due = self.due
            is_due = due is not None and due <= self._clock.now()
            is_unseen = is_due and due is not None and due > self._seen_until
            if not self._events and not self._taken and not is_idle and not is_unseen:
                break
            commit = self._commit(due, release=is_idle and not is_due, busy=bool(calls))
            await self._save(commit)
            if self.is_over:
                dropped += self._drop(lambda _: True)
                self.close()
                ended = self.machine.outcome if commit.status.is_final else None
                return self._step((), dropped, commit.due, is_over=True, ended=ended)
            if not self._has_more() and not is_due:
                assert not is_idle, "a store keeps the lease of an idle turn only for a reason"
                break
        for call in calls:
            self.in_flight[call.id] = call
        self._observe(self, calls)
        return self._step(calls, dropped, self.due)

    def _step(
        self,
        calls: tuple[Call | Errand, ...],
        dropped: tuple[str, ...],
        due: datetime | None,
        *,
        is_over: bool = False,
        ended: Outcome | None = None,
    ) -> Step:
        woken, self._woken = self._woken, ()
        has_sent, self._has_sent = self._has_sent, False
        return Step(calls, dropped, due, is_over, ended, woken, has_sent)

    def _drop(self, is_dropped: Callable[[str], bool]) -> tuple[str, ...]:
        dropped = tuple(filter(is_dropped, self.in_flight))
        for call_id in dropped:
            del self.in_flight[call_id]
        return dropped

    @property
    def due(self) -> datetime | None:
        """The next instant at which something happens by itself."""
        first: datetime | None = None
        for opened in self.machine.open.values():
            ask = opened.ask
            if isinstance(ask, CallAsk):
                due = None if ask.id in self.in_flight else opened.retry_at
            else:
                due = deadline_of(ask)
            if due is not None and (first is None or due < first):
                first = due
        return first

    def _can_commit_later(self) -> bool:
        # Asks for activities alone can be committed with the first answer: were they lost with
        # the process, the code would ask for the same again. Everything else is committed
        # before anything is performed, deadlines above all.
        return not self._taken and all(
            isinstance(event, Asked) and isinstance(event.ask, CallAsk) for event in self._events
        )

    def _has_more(self) -> bool:
        return self._cancel_requested or bool(self._messages)

    # ---- Taking what is ready --------------------------------------------------------------------

    def _take_what_is_ready(self) -> None:
        if self._cancel_requested and self.machine.outcome is None:
            self._cancel_requested = False
            self._feed(CancelRequested(self.machine.next_seq, self._time()))
        while self.machine.outcome is None:
            ready = min(self._ready(), key=lambda entry: entry[:3], default=None)
            if ready is None:
                return
            _, _, _, opened, message = ready
            if message is not None:
                self._take_message(opened, message)
            elif isinstance(opened.ask, TimerAsk):
                self._feed_answer(opened, Result("null"))
            else:
                self._feed_answer(opened, Expiry())

    def _ready(self) -> Iterator[tuple[datetime, int, int, Question, Message | None]]:
        """What can be fed now, with its time; at one instant an event before a deadline (M7)."""
        opens = self.machine.open.values()
        # Who waits has seen the log up to then: what came since may be earlier than a deadline.
        is_waiting = any(isinstance(opened.ask, WaitAsk) for opened in opens)
        now = self._seen_until if is_waiting else self._clock.now()
        claimed: set[int] = set()
        # A wait that is not registered yet has not seen the log: what came earlier comes first.
        fresh = {event.id for event in self._events if isinstance(event, Asked)}
        for order, opened in enumerate(opens):
            ask = opened.ask
            due = deadline_of(ask)
            if (
                due is not None
                and due <= now
                and (isinstance(ask, TimerAsk) or ask.id not in fresh)
            ):
                yield due, 1, order, opened, None
            if isinstance(ask, WaitAsk) and ask.id not in fresh:
                for message in self._messages:
                    position = message.position
                    if position not in claimed and self._fits(opened, message):
                        claimed.add(position)
                        yield message.at, 0, position, opened, message
                        break

    @property
    def _seen_until(self) -> datetime:
        # What is in hand may have come after the look began, and all before it is in hand too.
        last = self._messages[-1].at if self._messages else self._seen_at
        return max(self._seen_at, last)

    def _fits(self, opened: Question, message: Message) -> bool:
        assert isinstance(opened.ask, WaitAsk)
        if message.position in opened.refused:
            return False
        return wait_of(opened.ask).fits(message.envelope, self.instance_id)

    def _take_message(self, opened: Question, message: Message) -> None:
        ask = opened.ask
        outcome: Answer = Result(message.envelope.text)
        if isinstance(ask, ResultAsk):
            # It is not taken: a child that is run again, by its id, has ended as it did before.
            self._feed_answer(opened, answer_of_end(message.envelope), message=message.position)
            return
        if isinstance(ask, EventAsk) and opened.definition is not None:
            try:
                received(message.envelope.text, opened.definition)
            except InvalidEventError as error:
                if ask.on_invalid == "reject":
                    self._refuse(opened, message, error)
                    return
                outcome = Failure(encode_error(error))
        self._messages = tuple(m for m in self._messages if m is not message)
        self._taken.append(message.position)
        self._feed_answer(opened, outcome, message=message.position)

    def _refuse(self, opened: Question, message: Message, error: InvalidEventError) -> None:
        ask, machine = opened.ask, self.machine
        self._feed(
            Refused(
                machine.next_seq,
                self._time(),
                ask.id,
                ask.name,
                message.position,
                encode_error(error),
            )
        )
        self._drop_refused()

    def _drop_refused(self) -> None:
        """What a wait has refused and no other of this instance fits is dealt with here."""
        if not self._messages:
            return
        opens = self.machine.open.values()
        refused = frozenset[int]().union(*(opened.refused for opened in opens))
        for message in self._messages if refused else ():
            if message.position in refused and not any(
                isinstance(opened.ask, WaitAsk) and self._fits(opened, message) for opened in opens
            ):
                self._messages = tuple(m for m in self._messages if m is not message)
                self._taken.append(message.position)

    def _take_answer(
        self, opened: Question, call: Call | Errand, outcome: Result | Failure
    ) -> None:
        attempt = call.attempt
        if isinstance(outcome, Result):
            self._outbox += call.outbox if isinstance(call, Call) else ()
        else:
            error = decode_error(outcome.error)
            policy = self._policy(opened)
            now = self._time()
            began_at = opened.began_at or now
            interval = policy.next_interval(
                error,
                attempt=attempt,
                elapsed_seconds=(now - began_at).total_seconds(),
                jitter=self._jitter(opened.ask.id, attempt),
            )
            # A class that is not loaded here came back as a value, and counts by its name.
            is_listed = isinstance(error, ActivityError) and error.type_name in map(
                reference, policy.non_retryable
            )
            if is_listed:
                interval = None
            if interval is not None:
                retry_at = now + timedelta(microseconds=round(interval * 1_000_000))
                ask = opened.ask
                self._feed(
                    Attempted(
                        self.machine.next_seq,
                        now,
                        ask.id,
                        ask.name,
                        attempt,
                        outcome.error,
                        began_at,
                        retry_at,
                    )
                )
                return
            if policy.is_retryable(error) and not is_listed:
                exhausted = RetryExhaustedError(opened.ask.name, attempt, error)
                outcome = Failure(encode_error(exhausted, cause_text=outcome.error))
        self._feed_answer(opened, outcome, attempts=attempt)

    def _feed_answer(
        self, opened: Question, outcome: Answer, *, message: int | None = None, attempts: int = 1
    ) -> None:
        ask = opened.ask
        self._feed(
            Answered(
                self.machine.next_seq,
                self._time(),
                ask.id,
                ask.name,
                ask.kind,
                outcome,
                message,
                attempts,
            )
        )

    def _feed(self, event: Event) -> None:
        self.machine.live(event)
        self._collect()

    def _collect(self) -> None:
        self._events += self.machine.decide().events

    def _time(self) -> datetime:
        # A worker's clock may lag behind the one that wrote the last event; time never does.
        now = self._clock.now()
        last = self.machine.now
        return now if last is None else max(now, last)

    # ---- Calls -----------------------------------------------------------------------------------

    def _ready_calls(self) -> tuple[Call | Errand, ...]:
        if self.machine.outcome is not None:
            return ()
        now = self._clock.now()
        calls = []
        for opened in self.machine.open.values():
            ask = opened.ask
            if ask.id in self.in_flight or (opened.retry_at is not None and opened.retry_at > now):
                continue
            if isinstance(ask, CallAsk):
                if opened.began_at is None:
                    opened.began_at = now
                calls.append(job_of(self.machine, opened, ask))
        return tuple(calls)

    def _policy(self, opened: Question) -> RetryPolicy:
        definition = opened.definition
        if isinstance(definition, Activity) and definition.retry_policy is not None:
            return definition.retry_policy
        return self._retry_policy

    def _jitter(self, id: str, attempt: int) -> float:
        assert self.machine.started is not None
        text = f"{self.machine.started.seed}:{id}:{attempt}"
        return int.from_bytes(blake2b(text.encode(), digest_size=4).digest()) / 2**32

    # ---- Committing ------------------------------------------------------------------------------

    def _commit(self, due: datetime | None, *, release: bool, busy: bool = False) -> Commit:
        machine, restart = self.machine, None
        self._drop_refused()  # who could have taken it may have given up
        waits = []
        for opened in machine.open.values():
            ask = opened.ask
            if isinstance(ask, WaitAsk):
                waits.append(wait_of(ask))
            if isinstance(ask, EventAsk) and ask.model is not None:
                self._models[ask.model] = opened.definition
        end: Envelope | None = None
        if machine.outcome is not None:
            assert machine.started is not None
            waits.clear()
            end = end_of(self.instance_id, machine.started, machine.outcome)
            if isinstance(machine.outcome, Recurrence):
                due, arguments = self._time(), machine.outcome.arguments
                restart = restart_of(machine.started, arguments, due, machine.subscriptions)
        return Commit(
            lease=self.lease,
            expected_length=self._stored,
            events=tuple(self._events),
            status=self._status(busy=busy),
            waits=tuple(waits),
            taken=tuple(self._taken),
            due=due,
            release=release,
            subscriptions=tuple(
                [
                    Subscription(CHANNEL + channel, mode)
                    for channel, mode in machine.subscriptions.items()
                ]
            ),
            outbox=tuple(self._outbox),
            messages=() if end is None else (end,),
            cancels=self._given_up(),
            restart=restart,
            renewed=tuple(
                [
                    CHANNEL + event.id
                    for event in self._events
                    if isinstance(event, Unsubscribed) and event.id in machine.subscriptions
                ]
            ),
        )

    def _given_up(self) -> tuple[str, ...]:
        """The children whose end nobody waits for any more: they are cancelled."""
        machine = self.machine
        ids = {event.id for event in self._events if isinstance(event, Withdrawn)}
        if machine.outcome is not None:
            ids |= machine.open.keys()
        if not ids:
            return ()
        return tuple(
            event.ask.child
            for event in machine.asked
            if isinstance(event, Asked)
            and isinstance(event.ask, StartAsk | ResultAsk)
            and event.id in ids
        )

    async def _save(self, commit: Commit) -> None:
        transaction, self._transaction = self._transaction, None
        seen_at = self._clock.now()
        committed = await (transaction or self._store).commit(commit)
        self._seen_at = seen_at
        self._stored = 1 if commit.restart is not None else self._stored + len(commit.events)
        self._observe(self, self._events)
        self._events.clear()
        self._taken.clear()
        self._outbox.clear()
        self._learn(committed)
        self._has_sent |= bool(commit.outbox)

    async def _roll_back(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            await transaction.rollback()

    def _learn(self, committed: Committed) -> None:
        self._messages = committed.messages
        self._cancel_requested = committed.cancel_requested
        self.is_over = committed.is_released
        self._woken += committed.woken

    def _status(self, *, busy: bool) -> Status:
        match self.machine.outcome:
            case Result():
                return Status.COMPLETED
            case Failure():
                return Status.FAILED
            case Cancellation():
                return Status.CANCELLED
            case Recurrence():
                return Status.PENDING
        if self.machine.is_compensating:
            return Status.COMPENSATING
        if busy or self.in_flight:
            return Status.RUNNING
        found = {_WAITING[opened.ask.kind] for opened in self.machine.open.values()}
        return min(found, key=_TELLING.index, default=Status.WAITING_FOR_TIMER)

    async def _park(self, error: Exception, dropped: tuple[str, ...] = ()) -> Step:
        """Leave the instance as its history has it, until code that fits is deployed (H3)."""
        dropped += self._drop(lambda _: True)
        await self._roll_back()
        committed = await self._store.commit(
            Commit(
                lease=self.lease,
                expected_length=self._stored,
                events=(),
                status=Status.STUCK,
                waits=(),
                taken=(),
                due=None,
                release=True,
                problem=encode_error(error),
            )
        )
        self._observe(self, [error])
        self.close()
        return Step(dropped=dropped, is_over=True, woken=self._woken + committed.woken)


# What an instance without calls waits for, by the kinds of its asks; the most telling first.
_WAITING: dict[str, Status] = {
    **dict.fromkeys(("activity", "send", "start"), Status.WAITING_FOR_RETRY),
    **dict.fromkeys(("event", "child"), Status.WAITING_FOR_EVENT),
    "message": Status.WAITING_FOR_MESSAGE,
    "timer": Status.WAITING_FOR_TIMER,
}
_TELLING = tuple(dict.fromkeys(_WAITING.values()))

# Today's code does not fit what is stored: the instance waits for code that does.
_UNFIT = (NonDeterminismError, DecodingError, DefinitionError, RunawayWorkflowError)
