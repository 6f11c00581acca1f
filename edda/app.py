"""The app: everything plugged together, and the client of what it runs.

The composition root. It chooses a store by URL, opens a worker on the running event loop, and
offers what callers need: start, events in, status, result, history, cancel. It decides what a
workflow's name means here, and validates events at the door when it knows the models.
"""

import asyncio
import base64
import importlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from cloudevents.core.v1.event import CloudEvent

from edda import current
from edda.announcing import Announcer
from edda.attempt import DirectActivities
from edda.callers import (
    check_known,
    check_numbers,
    check_page,
    check_retention,
    check_timeout,
    check_wanted,
    check_workflow,
    status_of,
)
from edda.channel import message_of
from edda.codec import Value, decode_error, encode_error, resolve, text_fault
from edda.commands import Cancellation, Failure, Outcome, Result
from edda.doors import SystemClock, is_dead, open_store, worker_id
from edda.errands import Errand, Launch
from edda.errors import (
    ArgumentError,
    DefinitionError,
    DuplicateWorkflowError,
    InstanceExistsError,
    InstanceNotFoundError,
    InvalidEventError,
    NoAppError,
    ResultTimeout,
    StoreError,
    StrandedAppError,
    UnknownWorkflowError,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowStuck,
    sentence,
    without_secrets,
)
from edda.events import CHANNEL, ENDED, TARGET, Envelope, as_envelope, received
from edda.history import Event, Started
from edda.intake import starts
from edda.outbox import Relay
from edda.ports import (
    Activities,
    Clock,
    Created,
    Delivered,
    Expired,
    Instance,
    NewInstance,
    Outgoing,
    Sender,
    Status,
    Store,
    Wait,
)
from edda.retry import DEFAULT_RETRY_POLICY, RetryPolicy
from edda.sender import HttpSender
from edda.worker import Worker
from edda.workflow import Workflow, check_id, registry

__all__ = ["EddaApp"]

logger = logging.getLogger("edda.app")

BREATH_SECONDS = 1.0  # before a store that does not answer is asked again what changed

Scope = MutableMapping[str, Any]


class EddaApp:
    """An engine on one database; also an ASGI application.

    `db_url` is `memory://`, `sqlite:///relative.db`, `sqlite:////absolute.db` or
    `postgresql://...`. `workflows=None` means every workflow decorated at module level, and
    those given to `start`. With `worker=False` the app accepts, and runs nothing.
    `max_concurrent` limits turns under way, not instances. At `shutdown` steps under way have
    `drain_seconds` to end; what is cut off is done again elsewhere. `hooks` are told of what
    happens: an object like `Hooks`, or a list. Events are kept for `retention`, and longer while a
    live instance could take them. With `outbox_enabled=False` what activities have sent with
    `send_event_transactional` is stored, and another app's to post. `store`, `clock`,
    `activities` and `sender` replace the doors.
    """

    def __init__(
        self,
        service_name: str = "edda",
        db_url: str = "sqlite:///edda.db",
        *,
        workflows: Sequence[Workflow[..., Any]] | None = None,
        default_retry_policy: RetryPolicy | None = None,
        hooks: object = None,
        max_concurrent: int = 1000,
        lease_seconds: float = 30.0,
        drain_seconds: float = 5.0,
        retention: timedelta = timedelta(days=7),
        outbox_enabled: bool = True,
        broker_url: str | None = None,
        auth: Any = None,
        max_body_bytes: int = 1 << 20,
        worker: bool = True,
        store: Store | None = None,
        clock: Clock | None = None,
        activities: Activities | None = None,
        sender: Sender | None = None,
    ) -> None:
        check_retention(retention)
        check_numbers(
            max_concurrent=max_concurrent,
            max_body_bytes=max_body_bytes,
            lease_seconds=lease_seconds,
            drain_seconds=drain_seconds,
        )
        self.service_name = service_name
        self.db_url = db_url
        self.broker_url = broker_url
        self.auth = auth
        self.max_body_bytes = max_body_bytes
        self.default_retry_policy = default_retry_policy or DEFAULT_RETRY_POLICY
        self.clock: Clock = clock or SystemClock()
        self.store: Store = store or open_store(db_url, self.clock)
        self.hooks = Announcer(hooks, self.clock)
        self.models: dict[str, Value] = {}
        self._activities: Activities = activities or DirectActivities()
        self._sender: Sender = sender or HttpSender()
        self._runs_worker = worker
        self._max_concurrent = max_concurrent
        self._lease_seconds = lease_seconds
        self._drain_seconds = drain_seconds
        self._takes_any = workflows is None
        self._workflows: dict[str, Workflow[..., Any]] = {}
        for one in workflows or ():
            self.bind(one)
        self._worker: Worker | None = None
        self.retention = retention
        self.relay = Relay(self.store, self.clock, self.send)
        self._outbox_enabled = outbox_enabled
        self._expiry: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Future[_Ended | None]]] = {}
        self._opening = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asgi: Callable[..., Awaitable[None]] | None = None
        self.is_open = False
        self._is_closing = False

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<EddaApp {self.service_name!r} on {without_secrets(self.db_url)}, {state}>"

    @property
    def runs_workflows(self) -> bool:
        """Whether it has a worker, or only accepts (`worker=False`)."""
        return self._runs_worker

    @property
    def is_stranded(self) -> bool:
        """Whether the event loop it was opened on is closed: it can do nothing any more."""
        return self._loop is not None and self._loop.is_closed()

    # ---- Life ------------------------------------------------------------------------------------

    async def initialize(self) -> None:
        """Open the store, make this the current app and begin to work. Doing it twice is fine.

        Raises `StoreError`, or `StrandedAppError` where it is open on a loop that is closed.
        """
        if self.is_stranded:
            raise StrandedAppError(self.service_name)
        async with self._opening:
            if not self.is_open:
                await self._open()

    async def _open(self) -> None:
        await self.store.open()
        if self._runs_worker:
            try:
                await self.store.retry_stuck()
                for worker in await self.store.workers():
                    if is_dead(worker):  # killed on this host: nobody else will give them back
                        await self.store.release(worker)
            except BaseException:  # goes to the caller, once nothing is left half open
                await self.store.close()
                raise
        self.is_open = True
        self._loop = _running_loop()
        current.enter(self)
        if not self._runs_worker:
            return
        self._worker = Worker(
            worker_id(self.service_name),
            store=self.store,
            clock=self.clock,
            activities=self._activities,
            run_errand=self.run_errand,
            names=self.names,
            resolve=self.resolve,
            models=self.models,
            retry_policy=self.default_retry_policy,
            on_over=self._over,
            on_sent=self.relay.wake,
            hooks=self.hooks,
            max_concurrent=self._max_concurrent,
            lease_seconds=self._lease_seconds,
        )
        self._worker.open()
        if self._outbox_enabled:
            self.relay.open()
        self._expiry = asyncio.create_task(self._expire_for_ever(), name=f"{self.service_name}-old")
        self._watch()

    async def shutdown(self) -> None:
        """Let turns come to an end for a moment, give back the leases, close the store."""
        if not self.is_open or self._is_closing:
            return
        self._is_closing = True
        try:
            mine = [task for task in (self._watcher, self._expiry) if task is not None]
            self._watcher = self._expiry = None
            for task in mine:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            # Steps that come to their end may start, send and publish: this app is open to them.
            if self._worker is not None:
                await self._worker.close(self._drain_seconds)
        finally:
            worker, self._worker = self._worker, None
            self.is_open = self._is_closing = False
            self._loop = None
            self._opening = asyncio.Lock()  # it may be opened again on another event loop
            current.forget(self)
            self._tell_all()
            if worker is not None:
                await self.relay.close()
            await self.hooks.drain()
            await self.store.close()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """The ASGI door (extra `http`)."""
        if self._asgi is None:
            # Not imported above: it needs Starlette, which an engine without HTTP does not.
            self._asgi = importlib.import_module("edda.http").asgi(self)
        await self._asgi(scope, receive, send)

    # ---- What names mean here --------------------------------------------------------------------

    def bind(self, workflow: Workflow[..., Any]) -> None:
        """Let a workflow's name mean it in this app. Raises `DuplicateWorkflowError`."""
        check_workflow(workflow)
        known = self._workflows.setdefault(workflow.name, workflow)
        if known is workflow:
            return
        if known.fn.__code__ is not workflow.fn.__code__:
            raise DuplicateWorkflowError(workflow.name, known.place, workflow.place)
        self._workflows[workflow.name] = workflow  # the same function, made anew by its closure

    def replace(self, workflow: Workflow[..., Any]) -> None:
        """Deploy other code under a name that is known already. Raises `ArgumentError`."""
        check_workflow(workflow)
        self._workflows[workflow.name] = workflow

    def resolve(self, name: str) -> Workflow[..., Any]:
        """The workflow of that name. Raises `UnknownWorkflowError`, `DuplicateWorkflowError`."""
        bound = self._workflows.get(name)
        if bound is not None:
            return bound
        candidates = registry.get(name, []) if self._takes_any else []
        if not candidates:
            raise UnknownWorkflowError(name, self.names())
        if len(candidates) > 1:
            raise DuplicateWorkflowError(name, *(one.place for one in candidates[:2]))
        self.bind(candidates[0])
        return candidates[0]

    def names(self) -> list[str]:
        """The names whose instances this app runs; one with two meanings is left alone."""
        return [*(self._workflows | registry.unique if self._takes_any else self._workflows)]

    # ---- Instances -------------------------------------------------------------------------------

    async def start(
        self,
        workflow: Workflow[..., Any],
        /,
        *args: Any,
        instance_id: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Store a new instance of `workflow` and return its id; its first turn follows.

        The same `instance_id` with the same arguments starts once. Raises `ArgumentError`,
        `InstanceExistsError`, `StoreUnavailableError`.
        """
        check_workflow(workflow)
        check_id("start", "instance_id", instance_id)
        arguments = workflow.parameters.accept(args, kwargs)
        wanted = instance_id or f"{workflow.name}-{self.clock.entropy(128):032x}"
        await self._start(workflow, wanted, arguments)
        return wanted

    async def _start(
        self,
        workflow: Workflow[..., Any],
        wanted: str,
        arguments: str,
        parent: str | None = None,
    ) -> None:
        self.bind(workflow)
        self._check_open(f"{workflow.name}.start()")
        created = await self._create(wanted, workflow, arguments, parent=parent)
        if created.existing is not None:
            name, known = created.existing
            if name != workflow.name:
                raise InstanceExistsError(wanted, f"the workflow {name!r}")
            # After `ctx.recur` the first arguments are gone: a repeated start is taken at its word.
            if not known.recurred and not workflow.parameters.same(known.arguments, arguments):
                raise InstanceExistsError(wanted, f"the arguments {known.arguments}")
            if known.parent != parent and parent is not None:
                raise InstanceExistsError(wanted, "another parent")

    async def _create(
        self,
        id: str,
        workflow: Workflow[..., Any],
        arguments: str,
        *,
        cause: Envelope | None = None,
        parent: str | None = None,
    ) -> Created:
        now, seed = self.clock.now(), self.clock.entropy(63)
        started = Started(0, now, workflow.name, arguments, seed, parent)
        if self._worker is None:
            created = await self.store.create(NewInstance(id, workflow.name, started))
        else:
            created = await self._worker.create(id, workflow.name, started)
        if created.existing is None:
            self.hooks.started(id, started, cause)
        return created

    async def instance(self, instance_id: str) -> Instance:
        """One instance. Raises `InstanceNotFoundError`."""
        check_known(instance_id)
        found = await self.store.instance(instance_id)
        if found is None:
            raise InstanceNotFoundError(instance_id)
        return found

    async def status(self, instance_id: str) -> Status:
        """Where an instance stands. Raises `InstanceNotFoundError`."""
        return (await self.instance(instance_id)).status

    async def history(self, instance_id: str) -> list[Event]:
        """The events of an instance, oldest first. Raises `InstanceNotFoundError`."""
        check_known(instance_id)
        events = await self.store.history(instance_id)
        if not events:
            raise InstanceNotFoundError(instance_id)
        return events

    async def find(
        self,
        *,
        status: Status | str | None = None,
        workflow: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Instance]:
        """Instances by id, at most `limit`, those after the id `after`. Raises `ArgumentError`."""
        check_page("find", limit=limit)
        check_wanted("find", workflow=workflow, after=after)
        wanted = status_of("find", status)
        return await self.store.find(status=wanted, workflow=workflow, limit=limit, after=after)

    async def cancel(self, instance_id: str) -> bool:
        """Ask for an instance to be cancelled; False when it has ended already.

        Raises `InstanceNotFoundError`.
        """
        check_known(instance_id)
        asked = await self.store.request_cancel(instance_id)
        if not asked:
            await self.instance(instance_id)
        elif self._worker is not None:
            self._worker.wake([instance_id])
        return asked

    async def retry(self, instance_id: str | None = None) -> int:
        """Try stuck instances again, one or all; how many."""
        if instance_id is not None and text_fault(instance_id):
            return 0  # there is none
        count = await self.store.retry_stuck(instance_id)
        if self._worker is not None:
            self._worker.wake_all()
        return count

    async def result(self, instance_id: str, timeout: float | None = None) -> Any:
        """What the workflow returned; waits for it, at most `timeout` seconds (None: for ever).

        Raises `ResultTimeout`, `WorkflowFailed` (its cause is the workflow's exception),
        `WorkflowCancelled`, `WorkflowStuck` or `InstanceNotFoundError`.
        """
        check_timeout("result", timeout)
        check_known(instance_id)
        try:
            async with asyncio.timeout(timeout):
                return await self._awaited(instance_id)
        except TimeoutError:
            found = await self.instance(instance_id)
            if found.status.is_final:
                return self.outcome_of(found)
            raise ResultTimeout(instance_id, found.status, timeout) from None

    async def _awaited(self, instance_id: str) -> Any:
        # While its turn runs here it has not ended, and we hear of it when it does.
        is_running = self._worker is not None and self._worker.drives(instance_id)
        while True:
            self._check_open("result()")
            self._watch()
            future = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(instance_id, set()).add(future)
            try:
                if not is_running:
                    found = await self.instance(instance_id)
                    if found.status.is_final or found.status is Status.STUCK:
                        return self.outcome_of(found)
                is_running = False
                ended: _Ended | None = await future
            finally:
                waiting = self._waiting.get(instance_id, set())
                waiting.discard(future)
                if not waiting:
                    self._waiting.pop(instance_id, None)
            if ended is not None:
                return self._value_of(instance_id, *ended)

    def outcome_of(self, instance: Instance) -> Any:
        """The result of a finished instance, or the error that says why there is none."""
        if instance.outcome is not None:
            return self._value_of(instance.id, instance.workflow, instance.outcome)
        if instance.problem is not None:
            problem = decode_error(instance.problem)
            # One that has ended in a way that cannot be read here is not stuck.
            raise problem if instance.status.is_final else WorkflowStuck(instance.id, problem)
        raise ResultTimeout(instance.id, instance.status, None)

    def _value_of(self, instance_id: str, workflow: str, outcome: Outcome) -> Any:
        match outcome:
            case Result(value):
                return self.resolve(workflow).result.decode(value)
            case Failure(error):
                raise WorkflowFailed(instance_id, decode_error(error))
            case Cancellation():
                raise WorkflowCancelled(instance_id)
        raise AssertionError(f"{outcome!r} is no end")

    # ---- Events ----------------------------------------------------------------------------------

    async def handle_event(
        self, event: CloudEvent | Mapping[str, Any], instance_id: str | None = None
    ) -> Delivered:
        """Accept one CloudEvent (the SDK's, or a mapping in the JSON event format).

        `instance_id` addresses it to one instance; without, its type may start workflows
        (`start_on`). Returns when it is stored, and what it starts as well. Raises
        `ArgumentError` for what is no CloudEvent, `InvalidEventError` when every wait that it
        fits, or a workflow that it would start, refuses its data.
        """
        if isinstance(event, CloudEvent):
            attributes, data = dict(event.get_attributes()), event.get_data()
        elif isinstance(event, Mapping):
            attributes = {
                key: value for key, value in event.items() if key not in ("data", "data_base64")
            }
            data = _mapped_data(event)
        else:
            raise ArgumentError(
                "handle_event", [f"expected a CloudEvent or a mapping, got {sentence(event)}"]
            )
        if instance_id is not None:
            attributes[TARGET] = instance_id
        return (await self.handle_events([as_envelope(attributes, data)]))[0]

    async def handle_events(self, envelopes: Sequence[Envelope]) -> list[Delivered]:
        """Accept events, all or none. Raises `InvalidEventError` for the first refused one.

        What they start is stored after them, in transactions of its own: an event that a wait
        refuses starts nothing. Where the process dies in between, nobody was told that they are
        accepted; they come again, and then the rest is done (`docs/decisions/0016`).
        """
        self._check_open("handle_events()")
        for envelope in envelopes:
            if envelope.type.startswith(ENDED):
                problem = f"the type {envelope.type!r} is the engine's own: use another name"
                raise ArgumentError("CloudEvent", [problem])
        starters = self._starters()
        wanted = [list(starts(envelope, starters)) for envelope in envelopes]
        delivered = await self.store.deliver(envelopes, self._judge)
        refusals = [refusal for one in delivered for refusal in one.refusals]
        if refusals:
            raise decode_error(refusals[0])
        if self._worker is not None:
            self._worker.wake(woken for one in delivered for woken in one.woken)
        delivered = [
            replace(one, started=tuple(start.instance_id for start in some))
            for one, some in zip(delivered, wanted, strict=True)
        ]
        for envelope, one in zip(envelopes, delivered, strict=True):
            if not one.is_duplicate:
                self.hooks.accepted(envelope, one.woken, one.started)
        for envelope, some in zip(envelopes, wanted, strict=True):
            for start in some:
                await self._create(
                    start.instance_id, start.workflow, start.arguments, cause=envelope
                )
        return delivered

    def _starters(self) -> list[Workflow[..., Any]]:
        known = self._workflows
        if self._takes_any:  # a name with two meanings is left alone, and nothing is bound here
            known = known | registry.unique | known  # in this order, with the meanings bound here
        return [one for one in known.values() if one.start_on is not None]

    async def send(self, envelope: Envelope, broker_url: str | None = None) -> None:
        """Post an event to a broker where one is named, else accept it here.

        A channel's messages are for instances, and stay here.
        """
        url = broker_url or self.broker_url or os.environ.get("EDDA_BROKER_URL")
        if url and not envelope.type.startswith(CHANNEL):
            await self._sender.post(envelope, url)
        else:
            await self.handle_events([envelope])

    async def publish(
        self, channel: str, data: Any, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Publish a message to a channel from outside, and return its id when it is stored."""
        return await self._publish(channel, data, metadata, None)

    async def send_to(
        self,
        instance_id: str,
        channel: str,
        data: Any,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Send a message of a channel to one instance from outside; its id when it is stored."""
        if fault := text_fault(instance_id):
            raise ArgumentError("send_to", [f"instance_id {fault}"])
        return await self._publish(channel, data, metadata, instance_id)

    async def _publish(
        self, channel: str, data: Any, metadata: Mapping[str, Any] | None, target: str | None
    ) -> str:
        envelope = message_of(channel, data, metadata, target, self.clock.now())
        await self.handle_events([envelope])
        return envelope.id

    async def run_errand(self, errand: Errand) -> Result | Failure:
        """Make one attempt at what the engine does for a workflow."""
        try:
            if isinstance(errand, Launch):
                child = errand.child
                await self._start(errand.workflow, child, errand.arguments, errand.parent)
                return Result(json.dumps(child))
            await self.send(errand.envelope, errand.broker_url)
        except Exception as error:  # goes to the workflow, by way of the retry policy
            return Failure(encode_error(error))
        return Result(errand.envelope.text)

    async def expired_messages(self, *, limit: int = 100, after: int = 0) -> list[Expired]:
        """Events that expired and that no instance ever took, by position, those after one."""
        check_page("expired_messages", limit=limit, after=after)
        return await self.store.expired(limit=limit, after=after)

    async def pending_events(self, *, limit: int = 100, after: int = 0) -> list[Outgoing]:
        """Events of the outbox that are not posted yet, with the last error of each."""
        check_page("pending_events", limit=limit, after=after)
        return await self.store.outgoing(limit=limit, after=after)

    async def expire(self) -> int:
        """Drop events that are older than `retention` and that nobody could take; how many."""
        try:
            before = self.clock.now() - self.retention
        except OverflowError:
            return 0  # kept for ever: nothing is as old as that
        return await self.store.expire(before)

    @property
    def expiry_seconds(self) -> float:
        """How long nobody looks for expired events, after each look."""
        return min(3600.0, max(0.1, self.retention.total_seconds() / 10))

    async def _expire_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.expiry_seconds)
            try:
                await self.expire()
            except StoreError as error:
                logger.warning("Cannot drop expired events: %s", error)
            except Exception:  # goes to the log: the next round may do better
                logger.exception("Cannot drop expired events")

    def _judge(self, wait: Wait, envelope: Envelope) -> str | None:
        """Why a wait refuses an event, as an encoded error, or None (law M6)."""
        if wait.model is None or wait.on_invalid == "raise":
            return None
        model = self.models.get(wait.model)
        if model is None:
            found = resolve(wait.model)
            if found is None:
                return None  # a bare door: the instance itself will refuse it
            model = self.models[wait.model] = Value(found, wait.model)
        try:
            received(envelope.text, model)
        except InvalidEventError as error:
            return encode_error(error)
        except DefinitionError:
            return None  # the name means no model here: as at a bare door, the instance will say
        return None

    # ---- Watching --------------------------------------------------------------------------------

    def _watch(self) -> None:
        """See to it that what other processes change is noticed here."""
        if self._watcher is None and not self._is_closing:
            self._watcher = asyncio.create_task(
                self._watch_for_ever(), name=f"{self.service_name}-watch"
            )

    async def _watch_for_ever(self) -> None:
        while True:
            changed = None
            try:
                changed = await self.store.changed()
            except StoreError as error:
                logger.warning("Cannot see what others change: %s", error)
                await asyncio.sleep(BREATH_SECONDS)
            except Exception:  # goes to the log: who stops looking hears of nothing any more
                logger.exception("Cannot see what others change")
                await asyncio.sleep(BREATH_SECONDS)
            if changed is None:
                if self._worker is not None:
                    self._worker.wake_all()
                    self.relay.wake()
                self._tell_all()
                continue
            if self._worker is not None:
                self._worker.wake(changed.woken)
                if changed.has_sent:
                    self.relay.wake()
            for instance_id in (*changed.woken, *changed.over):
                self._tell(instance_id)

    def _over(self, instance_id: str, workflow: str, outcome: Outcome | None) -> None:
        self._tell(instance_id, None if outcome is None else (workflow, outcome))

    def _tell(self, instance_id: str, ended: "_Ended | None" = None) -> None:
        for future in self._waiting.get(instance_id, ()):
            if not future.done():
                future.set_result(ended)

    def _tell_all(self) -> None:
        for instance_id in list(self._waiting):
            self._tell(instance_id)

    def _check_open(self, call: str) -> None:
        if not self.is_open:
            raise NoAppError(
                call, "Open the app first: `async with app:`, or `await app.initialize()`."
            )
        if self.is_stranded:
            raise StrandedAppError(self.service_name)
        if self._worker is not None and self._loop is not asyncio.get_running_loop():
            raise NoAppError(
                call,
                "The app is open on another event loop, in another thread. Await the call there, "
                "for example by asyncio.run_coroutine_threadsafe, or from an `async def` activity.",
            )


_Ended = tuple[str, Outcome]  # the workflow of an instance, and how that has ended


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # in a simulation there is none
        return None


def _mapped_data(event: Mapping[str, Any]) -> Any:
    if "data_base64" not in event:
        return event.get("data")
    if "data" in event:
        raise ArgumentError("CloudEvent", ["data and data_base64 exclude each other"])
    try:
        return base64.b64decode(event["data_base64"], validate=True)
    except (TypeError, ValueError) as error:
        raise ArgumentError("CloudEvent", [f"data_base64 is not base64: {error}"]) from error
