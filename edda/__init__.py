"""Edda: a compact durable-execution engine.

What an author of workflows imports is here. `edda.events` has `ReceivedEvent` and `send_event`
too; the rooms behind it are described in `docs/architecture.md`.
"""

from edda.activity import ActivityContext, activity
from edda.app import EddaApp
from edda.errors import (
    ActivityError,
    ActivityTimeoutError,
    ArgumentError,
    DefinitionError,
    EddaError,
    EncodingError,
    EventTimeoutError,
    InstanceExistsError,
    InstanceNotFoundError,
    InvalidEventError,
    NonDeterminismError,
    NotReplayableError,
    ResultTimeout,
    RetryExhaustedError,
    TerminalError,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowStuck,
)
from edda.events import ReceivedEvent, send_event
from edda.hooks import ActivityInfo, EventInfo, Hooks, WaitInfo, WorkflowInfo
from edda.ports import Status
from edda.retry import RetryPolicy
from edda.waiting import sleep, sleep_until, wait_event, wait_timer, wait_until
from edda.workflow import WorkflowContext, workflow

__all__ = [
    "ActivityContext",
    "ActivityError",
    "ActivityInfo",
    "ActivityTimeoutError",
    "ArgumentError",
    "DefinitionError",
    "EddaApp",
    "EddaError",
    "EncodingError",
    "EventInfo",
    "EventTimeoutError",
    "Hooks",
    "InstanceExistsError",
    "InstanceNotFoundError",
    "InvalidEventError",
    "NonDeterminismError",
    "NotReplayableError",
    "ReceivedEvent",
    "ResultTimeout",
    "RetryExhaustedError",
    "RetryPolicy",
    "Status",
    "TerminalError",
    "WaitInfo",
    "WorkflowCancelled",
    "WorkflowContext",
    "WorkflowFailed",
    "WorkflowInfo",
    "WorkflowStuck",
    "activity",
    "send_event",
    "sleep",
    "sleep_until",
    "wait_event",
    "wait_timer",
    "wait_until",
    "workflow",
]
