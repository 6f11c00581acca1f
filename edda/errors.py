"""Every sentence the engine says when something is wrong.

One class per cure, each with a stable `code` that `docs/errors.md` explains. A message says
what happened, what was expected, and what to do. Nothing here imports the rest of the engine,
and nothing here decides: the rooms that find a mistake raise it, the words are kept here.

Fields live in the instance and `args` holds the finished message, so that an error that is
stored in a history can be rebuilt from its class and `args` without calling a constructor.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "ActivityError",
    "ActivityTimeoutError",
    "AmbiguousAppError",
    "ArgumentError",
    "BrokerError",
    "CompensationError",
    "DecodingError",
    "DefinitionError",
    "DuplicateIdError",
    "DuplicateWorkflowError",
    "EddaError",
    "EncodingError",
    "EventTimeoutError",
    "HistoryFormatError",
    "InstanceExistsError",
    "InstanceNotFoundError",
    "InvalidEventError",
    "LeaseLost",
    "NoAppError",
    "NoTransactionError",
    "NonDeterminismError",
    "NotReplayableError",
    "NotSubscribedError",
    "ResultTimeout",
    "RetryExhaustedError",
    "RunawayWorkflowError",
    "StoreError",
    "StoreUnavailableError",
    "StoreUrlError",
    "StoreVersionError",
    "StrandedAppError",
    "TerminalError",
    "TransactionOverError",
    "UnknownWorkflowError",
    "WorkflowCancelled",
    "WorkflowFailed",
    "WorkflowStuck",
]


class EddaError(Exception):
    """Base of every error the engine raises on purpose."""

    code: ClassVar[str] = "E000"


# ---- Definitions and arguments: mend the code and run again ----------------------------------


class DefinitionError(EddaError, TypeError):
    """A decorated function cannot be what its decorator makes of it."""

    code = "E101"


class DuplicateWorkflowError(EddaError, ValueError):
    """Two different workflows of one app have the same name."""

    code = "E102"

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"Two different workflows of this app are called {name!r}: {first} and {second}. "
            f"Instances are stored under the name, so it must mean one thing: rename one, "
            f'or give it a name of its own with @workflow(name="...").'
        )
        self.name = name


class UnknownWorkflowError(EddaError, LookupError):
    """No workflow of this name is known to the app."""

    code = "E103"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"This app knows no workflow called {name!r} (it knows: {listed}). "
            f"Import the module that defines it, or pass it in EddaApp(workflows=[...])."
        )
        self.name = name


class ArgumentError(EddaError, TypeError, ValueError):
    """An argument has the wrong type or value; `problems` names each one."""

    code = "E104"

    def __init__(self, what: str, problems: Sequence[str]) -> None:
        super().__init__(f"{what}: " + "; ".join(problems))
        self.problems = list(problems)


class DuplicateIdError(EddaError, ValueError):
    """One history asks for the same public id twice."""

    code = "E105"

    def __init__(self, id: str, site: str) -> None:
        super().__init__(
            f"The id {id!r} is used twice in one workflow (second time at {site}). An id names "
            f"one step for ever: leave it out and the engine numbers the steps, or make it unique."
        )
        self.id = id


class NoAppError(EddaError, RuntimeError):
    """There is no app that this call could go to."""

    code = "E106"

    def __init__(self, call: str, cure: str) -> None:
        super().__init__(f"{call} needs an app, and none is running here. {cure}")


class AmbiguousAppError(EddaError, RuntimeError):
    """Several apps are open and the call does not say which it means."""

    code = "E107"

    def __init__(self, call: str, services: Sequence[str]) -> None:
        super().__init__(
            f"{call} does not say which app it means, and {len(services)} are open "
            f"({', '.join(sorted(services))}). Call it inside `async with app:`, or on the app."
        )


class StrandedAppError(NoAppError):
    """An app is used, or opened again, whose event loop was closed while it was open."""

    code = "E108"

    def __init__(self, service: str) -> None:
        RuntimeError.__init__(
            self,
            f"The app {service!r} was opened on an event loop that has been closed since, with its "
            f"worker and connections. What was stored is there. Use `async with app:` (and "
            f"Starlette's TestClient in a `with`), or await app.shutdown() before the loop ends; "
            f"here, make a new EddaApp.",
        )


# ---- Values ----------------------------------------------------------------------------------


class EncodingError(EddaError, TypeError):
    """A value cannot be stored so that it comes back the same."""

    code = "E201"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} cannot be stored: {reason}")
        self.what = what


class DecodingError(EddaError, ValueError):
    """A stored value does not fit the type that the code expects today."""

    code = "E202"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} does not fit the type that the code has today: {reason}. Stored values stay "
            f"as they were written: give new fields a default, or accept both shapes."
        )
        self.what = what


class HistoryFormatError(EddaError, ValueError):
    """A stored or exported history cannot be read."""

    code = "E203"


# ---- Determinism -----------------------------------------------------------------------------


class NonDeterminismError(EddaError):
    """What the code asks differs from what its history recorded (law H3)."""

    code = "E301"

    def __init__(self, message: str) -> None:
        super().__init__(message)


class NotReplayableError(EddaError, RuntimeError):
    """Workflow code called something that a replay cannot reproduce."""

    code = "E302"

    def __init__(self, call: str, cure: str) -> None:
        super().__init__(f"{call} cannot be replayed, so a workflow cannot use it. {cure}")
        self.call = call


class RunawayWorkflowError(EddaError, RuntimeError):
    """Workflow code keeps running without ever waiting for anything."""

    code = "E303"

    def __init__(self, workflow: str, limit: int) -> None:
        super().__init__(
            f"The workflow {workflow!r} ran {limit:,} callbacks in a row without waiting for "
            f"anything. A loop around `await asyncio.sleep(0)` never ends: wait for an event, "
            f"a timer or an activity in it."
        )


# ---- Steps -----------------------------------------------------------------------------------


class TerminalError(EddaError):
    """Raised by an activity to say: do not retry this."""

    code = "E401"


class ActivityError(EddaError):
    """An activity failed with an exception that cannot be rebuilt here.

    `type_name` is the class's `module:qualified name`, `message` its text and `traceback` the
    text of its traceback where it was raised.
    """

    code = "E402"

    def __init__(self, type_name: str, message: str, traceback: str = "") -> None:
        super().__init__(f"{type_name.rpartition(':')[2]}: {message}")
        self.type_name = type_name
        self.message = message
        self.traceback = traceback


class ActivityTimeoutError(EddaError, TimeoutError):
    """One attempt of an activity took longer than its `timeout_seconds`."""

    code = "E403"

    def __init__(self, activity: str, timeout_seconds: float) -> None:
        super().__init__(
            f"The activity {activity!r} did not finish within {timeout_seconds:g} s. "
            f"The attempt counts as failed; raise timeout_seconds if it may take longer."
        )
        self.activity = activity
        self.timeout_seconds = timeout_seconds


class RetryExhaustedError(EddaError):
    """An activity failed and its retry policy allows no further attempt.

    `last_error` is the exception of the last attempt, and the cause of this one.
    """

    code = "E404"

    def __init__(self, activity: str, attempts: int, last_error: BaseException) -> None:
        times = "once" if attempts == 1 else f"{attempts} times"
        super().__init__(
            f"The activity {activity!r} failed {times}; the last error was "
            f"{type(last_error).__name__}: {last_error}"
        )
        self.activity = activity
        self.attempts = attempts
        self.__cause__ = last_error

    @property
    def last_error(self) -> BaseException | None:
        """The exception of the last attempt."""
        return self.__cause__


class NoTransactionError(EddaError, RuntimeError):
    """An activity asks for the store's connection and is not transactional."""

    code = "E406"

    def __init__(self, activity_id: str) -> None:
        super().__init__(
            f"ctx.connection in {activity_id!r}: only a transactional activity shares the store's "
            f"transaction. Declare it with @activity(transactional=True)."
        )


class CompensationError(EddaError):
    """A workflow ended badly, and not all that it had done could be undone.

    `undone` and `failed` are the ids of steps; the cause is what the workflow ended with.
    """

    code = "E405"

    def __init__(
        self, error: BaseException, undone: Sequence[str], failed: Sequence[tuple[str, str, str]]
    ) -> None:
        listed = "; ".join(f"{step} (by {by}: {why})" for step, by, why in failed)
        super().__init__(
            f"The workflow ended with {type(error).__name__}: {error}, and could not be undone as "
            f"a whole. Not undone: {listed}. Undone: {', '.join(undone) or 'nothing'}. What is "
            f"left must be undone by hand."
        )
        self.undone = list(undone)
        self.failed = [step for step, _, _ in failed]
        self.__cause__ = error


# ---- Events ----------------------------------------------------------------------------------


class EventTimeoutError(EddaError, TimeoutError):
    """No matching event came before the deadline of a wait."""

    code = "E501"

    def __init__(self, event_type: str, timeout_seconds: float) -> None:
        super().__init__(f"No {event_type!r} event came within {timeout_seconds:g} s.")
        self.event_type = event_type
        self.timeout_seconds = timeout_seconds


class InvalidEventError(EddaError, ValueError):
    """An event's data does not fit the model of the wait it would answer.

    `problems` has one entry a field: `"data.amount: Input should be a valid number"`.
    """

    code = "E502"

    def __init__(self, event_type: str, event_id: str, model: str, problems: Sequence[str]) -> None:
        super().__init__(
            f"The event {event_type!r} (id {event_id!r}) does not fit {model}: "
            + "; ".join(problems)
            + ". It was not taken; send a corrected one."
        )
        self.event_type = event_type
        self.event_id = event_id
        self.model = model
        self.problems = list(problems)


class BrokerError(EddaError):
    """A broker refused an event, or could not be reached."""

    code = "E503"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"The broker at {without_secrets(url)} did not take the event: {reason}")
        self.url = url


class NotSubscribedError(EddaError, RuntimeError):
    """A workflow reads a channel that it has not subscribed to, or in another way."""

    code = "E504"

    def __init__(self, channel: str, found: str | None, wanted: str | None = None) -> None:
        if wanted is None:
            text = (
                f"receive() from the channel {channel!r}, which this workflow has not subscribed "
                f"to: `await subscribe(ctx, {channel!r})` first."
            )
        else:
            text = (
                f"This workflow reads the channel {channel!r} in the mode {found!r}, and asks for "
                f"{wanted!r}. A channel is read in one way: unsubscribe first, or use another "
                f"channel."
            )
        super().__init__(text)
        self.channel = channel


# ---- Instances -------------------------------------------------------------------------------


class InstanceNotFoundError(EddaError, LookupError):
    """No instance has this id."""

    code = "E601"

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"There is no instance {instance_id!r} in this store. "
            f"`edda ps` lists those there are; an id is what `start` returned."
        )
        self.instance_id = instance_id


class InstanceExistsError(EddaError, ValueError):
    """The id belongs to an instance of another workflow, or with other arguments."""

    code = "E602"

    def __init__(self, instance_id: str, difference: str) -> None:
        super().__init__(
            f"The instance {instance_id!r} exists already, with {difference}. The same id starts "
            f"the same work once; choose another id for other work."
        )
        self.instance_id = instance_id


class ResultTimeout(EddaError):  # noqa: N818 - the name is public API (DESIGN.md)
    """An instance had not finished when the caller stopped waiting for its result."""

    code = "E603"

    def __init__(self, instance_id: str, status: str, timeout: float | None) -> None:
        waited = "" if timeout is None else f" after {timeout:g} s"
        super().__init__(
            f"The instance {instance_id!r} has no result yet{waited}: it is {status}. "
            f"It goes on by itself; ask again later, or with a longer timeout."
        )
        self.instance_id = instance_id
        self.status = status


class WorkflowFailed(EddaError):  # noqa: N818 - the name is public API (DESIGN.md)
    """The workflow failed; its own exception is the cause of this one."""

    code = "E604"

    def __init__(self, instance_id: str, error: BaseException) -> None:
        super().__init__(
            f"The instance {instance_id!r} failed with {type(error).__name__}: {error}"
        )
        self.instance_id = instance_id
        self.__cause__ = error


class WorkflowCancelled(EddaError):  # noqa: N818 - the name is public API (DESIGN.md)
    """The workflow was cancelled, so it has no result."""

    code = "E605"

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"The instance {instance_id!r} was cancelled; it has no result.")
        self.instance_id = instance_id


class WorkflowStuck(EddaError):  # noqa: N818 - the name is public API (DESIGN.md)
    """The instance is parked: today's code does not fit its history."""

    code = "E606"

    def __init__(self, instance_id: str, error: BaseException) -> None:
        super().__init__(
            f"The instance {instance_id!r} is stuck, and goes on once code that fits its history "
            f"is deployed.\n{error}"
        )
        self.instance_id = instance_id
        self.__cause__ = error


# ---- Stores ----------------------------------------------------------------------------------


class StoreError(EddaError):
    """A store cannot be used as it is."""

    code = "E701"


class StoreUrlError(StoreError, ValueError):
    """A database URL that no store understands."""

    code = "E702"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"The database URL {without_secrets(url)!r} {reason}. Use memory://, "
            f"sqlite:///relative.db, sqlite:////absolute/path.db or postgresql://user@host/database."
        )
        self.url = url


class StoreVersionError(StoreError):
    """The database was written by another version."""

    code = "E703"

    def __init__(self, where: str, found: int, known: int) -> None:
        super().__init__(
            f"{where} has schema version {found}, and this version of Edda reads version {known}. "
            f"Nothing was changed. Use the edda-durable that wrote it, or another database."
        )
        self.found = found
        self.known = known


class StoreUnavailableError(StoreError):
    """The store did not answer in time; nothing was half done, and the call may be repeated."""

    code = "E704"


class LeaseLost(EddaError):  # noqa: N818 - the name is public API (DESIGN.md)
    """Another worker holds the instance now; this commit had no effect (law T3)."""

    code = "E705"

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"The lease of {instance_id!r} is not ours any more; nothing was committed. "
            f"Another worker goes on from the last commit."
        )
        self.instance_id = instance_id


class TransactionOverError(StoreError):
    """A transactional activity has ended its own transaction: its answer cannot be committed."""

    code = "E706"


def without_secrets(url: str) -> str:
    """A URL as it may be shown: passwords and tokens in it are not."""
    return _SECRETS.sub("...", url)


# What comes before the host, after a name; and options that are secrets.
_SECRETS = re.compile(r"(?<=:)(?!//)[^/]*(?=@)|(?<=password=)[^&]+|(?<=token=)[^&]+")


def sentence(value: Any, limit: int = 120) -> str:
    """A value's repr, shortened to `limit` characters, for use inside a message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
