"""Edda: a compact durable-execution engine.

What an author of workflows imports is here. `edda.events` has `ReceivedEvent` and `send_event`
too; the rooms behind it are described in `docs/architecture.md`.
"""

from edda.activity import ActivityContext, activity
from edda.app import EddaApp
from edda.channel import ChannelMessage, publish, receive, send_to, subscribe, unsubscribe
from edda.errors import (
    ActivityError,
    ActivityTimeoutError,
    ArgumentError,
    CompensationError,
    DefinitionError,
    EddaError,
    EncodingError,
    EventTimeoutError,
    InstanceExistsError,
    InstanceNotFoundError,
    InvalidEventError,
    NonDeterminismError,
    NoTransactionError,
    NotReplayableError,
    NotSubscribedError,
    ResultTimeout,
    RetryExhaustedError,
    TerminalError,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowStuck,
)
from edda.events import ReceivedEvent, send_event, send_event_transactional
from edda.hooks import ActivityInfo, EventInfo, Hooks, WaitInfo, WorkflowInfo
from edda.ports import Status
from edda.retry import RetryPolicy
from edda.saga import compensation, on_failure, register_compensation
from edda.waiting import (
    discard_events,
    sleep,
    sleep_until,
    wait_any,
    wait_event,
    wait_timer,
    wait_until,
)
from edda.workflow import WorkflowContext, workflow

__all__ = [
    "ActivityContext",
    "ActivityError",
    "ActivityInfo",
    "ActivityTimeoutError",
    "ArgumentError",
    "ChannelMessage",
    "CompensationError",
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
    "NoTransactionError",
    "NonDeterminismError",
    "NotReplayableError",
    "NotSubscribedError",
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
    "compensation",
    "discard_events",
    "on_failure",
    "publish",
    "receive",
    "register_compensation",
    "send_event",
    "send_event_transactional",
    "send_to",
    "sleep",
    "sleep_until",
    "subscribe",
    "unsubscribe",
    "wait_any",
    "wait_event",
    "wait_timer",
    "wait_until",
    "workflow",
]
