"""Hooks that write OpenTelemetry spans and metrics (extra `otel`).

- One trace a run: its id follows from the instance id, so what several processes do for a run on
  several days is one trace. The span of the run is written when it ends, those of activities when
  their attempts come out, and all of them hang under the run.
- An event that brings `traceparent` (the extension of CloudEvents) is received in the sender's
  trace, and the run that it starts or answers is linked with it.
- Times are the engine's, so a simulation writes virtual ones.

Absent: exporters and sampling, which are the SDK's. A run that crashed with its process has no
span for the attempt it lost. A span is written after the fact: it is not current in the activity.
"""

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from edda.events import ReceivedEvent
from edda.hooks import ActivityInfo, EventInfo, Hooks, WaitInfo, WorkflowInfo

try:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider, get_meter
    from opentelemetry.trace import (
        Link,
        NonRecordingSpan,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        TracerProvider,
        get_current_span,
        get_tracer,
        set_span_in_context,
    )
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"edda.otel needs {error.name}, which is not installed. "
        f'Run: pip install "edda-durable[otel]"',
        name=error.name,
    ) from error

__all__ = ["OpenTelemetryHooks", "run_context"]

MAX_OPEN_SPANS = 10_000  # attempts under way; of those that never come out, the oldest go first

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PROPAGATOR = TraceContextTextMapPropagator()


def run_context(instance_id: str) -> SpanContext:
    """The span context under which all spans of an instance hang, in whatever process."""
    trace_id = int.from_bytes(blake2b(instance_id.encode(), digest_size=16).digest()) or 1
    span_id = int.from_bytes(blake2b(instance_id.encode(), digest_size=8).digest()) or 1
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))


class OpenTelemetryHooks(Hooks):
    """`EddaApp(hooks=OpenTelemetryHooks())`: spans and metrics through the global providers.

    Metrics: `edda.workflow.runs` and `edda.activity.attempts` count by name and outcome,
    `edda.workflow.duration` and `edda.activity.duration` are histograms in seconds.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = get_tracer("edda", tracer_provider=tracer_provider)
        meter = get_meter("edda", meter_provider=meter_provider)
        self._runs = meter.create_counter("edda.workflow.runs", unit="{run}")
        self._run_seconds = meter.create_histogram("edda.workflow.duration", unit="s")
        self._attempts = meter.create_counter("edda.activity.attempts", unit="{attempt}")
        self._attempt_seconds = meter.create_histogram("edda.activity.duration", unit="s")
        self._open: OrderedDict[tuple[str, str], tuple[Span, datetime]] = OrderedDict()

    # ---- Runs ------------------------------------------------------------------------------------

    def on_workflow_start(self, workflow: WorkflowInfo) -> None:
        """A span where the run was asked for, linked with the run."""
        span = self._tracer.start_span(
            f"start {workflow.workflow}",
            context=_sender(workflow.event),
            kind=SpanKind.PRODUCER,
            attributes=_names(workflow),
            links=[Link(run_context(workflow.instance_id))],
            start_time=_nanos(workflow.at),
        )
        span.end(_nanos(workflow.at))

    def on_workflow_complete(self, workflow: WorkflowInfo) -> None:
        """The span of the run."""
        self._end_run(workflow, "completed")

    def on_workflow_failed(self, workflow: WorkflowInfo) -> None:
        """The span of the run, with its error."""
        self._end_run(workflow, "failed")

    def on_workflow_cancelled(self, workflow: WorkflowInfo) -> None:
        """The span of the run, as far as it went."""
        self._end_run(workflow, "cancelled")

    def on_workflow_stuck(self, workflow: WorkflowInfo) -> None:
        """A span of no length that says why."""
        span = self._span(f"stuck {workflow.workflow}", workflow, SpanKind.INTERNAL)
        _end(span, workflow.at, workflow.error)

    def _end_run(self, workflow: WorkflowInfo, outcome: str) -> None:
        for key in [key for key in self._open if key[0] == workflow.instance_id]:
            self._open.pop(key)[0].end(_nanos(workflow.at))  # the run gave these attempts up
        span = self._span(workflow.workflow, workflow, SpanKind.INTERNAL, at=workflow.started_at)
        span.set_attribute("edda.outcome", outcome)
        _end(span, workflow.at, workflow.error)
        labels = {"edda.workflow": workflow.workflow, "edda.outcome": outcome}
        self._runs.add(1, labels)
        self._run_seconds.record((workflow.at - workflow.started_at).total_seconds(), labels)

    # ---- Activities ------------------------------------------------------------------------------

    def on_activity_start(self, activity: ActivityInfo) -> None:
        """The span of an attempt begins."""
        key = (activity.instance_id, activity.id)
        lost = self._open.pop(key, None)
        if lost is None and len(self._open) >= MAX_OPEN_SPANS:
            lost = self._open.popitem(last=False)[1]
        if lost is not None:
            lost[0].end(_nanos(activity.at))
        span = self._span(f"activity {activity.name}", activity, SpanKind.INTERNAL)
        span.set_attribute("edda.activity", activity.name)
        span.set_attribute("edda.activity_id", activity.id)
        span.set_attribute("edda.attempt", activity.attempt)
        self._open[key] = (span, activity.at)

    def on_activity_complete(self, activity: ActivityInfo) -> None:
        """The span of an attempt ends."""
        self._end_attempt(activity, "completed")

    def on_activity_failed(self, activity: ActivityInfo) -> None:
        """The span of an attempt ends, with its error."""
        self._end_attempt(activity, "failed")

    def _end_attempt(self, activity: ActivityInfo, outcome: str) -> None:
        labels = {"edda.activity": activity.name, "edda.outcome": outcome}
        self._attempts.add(1, labels)
        opened = self._open.pop((activity.instance_id, activity.id), None)
        if opened is not None:
            span, began_at = opened
            _end(span, activity.at, activity.error)
            self._attempt_seconds.record((activity.at - began_at).total_seconds(), labels)

    # ---- Events ----------------------------------------------------------------------------------

    def on_event_received(self, event: EventInfo) -> None:
        """A span in the trace of who sent it."""
        span = self._tracer.start_span(
            f"receive {event.event.type}",
            context=_sender(event.event),
            kind=SpanKind.CONSUMER,
            attributes=_of_event(event.event),
            links=[Link(run_context(id)) for id in (*event.reached, *event.started)[:100]],
            start_time=_nanos(event.at),
        )
        span.end(_nanos(event.at))

    def on_event_sent(self, event: EventInfo) -> None:
        """A span in the trace of the run that sent it."""
        if event.instance_id is not None:
            span = self._span(f"send {event.event.type}", event, SpanKind.PRODUCER)
            span.set_attributes(_of_event(event.event))
            span.end(_nanos(event.at))

    def on_wait_over(self, wait: WaitInfo) -> None:
        """What a wait took, linked with the trace of who sent it."""
        if wait.event is None:
            return
        sender = get_current_span(_sender(wait.event) or Context()).get_span_context()
        links = [Link(sender)] if sender.is_valid else []
        span = self._span(f"take {wait.name}", wait, SpanKind.CONSUMER, links=links)
        span.set_attributes(_of_event(wait.event))
        span.end(_nanos(wait.at))

    def _span(
        self,
        name: str,
        info: Any,
        kind: SpanKind,
        *,
        at: datetime | None = None,
        links: list[Link] | None = None,
    ) -> Span:
        parent = set_span_in_context(NonRecordingSpan(run_context(info.instance_id)), Context())
        return self._tracer.start_span(
            name,
            context=parent,
            kind=kind,
            attributes=_names(info),
            links=links,
            start_time=_nanos(at or info.at),
        )


# ---- Helpers ---------------------------------------------------------------------------------


def _nanos(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def _names(info: Any) -> dict[str, str]:
    names = {"edda.instance_id": info.instance_id, "edda.workflow": getattr(info, "workflow", None)}
    return {name: value for name, value in names.items() if value is not None}


def _of_event(event: ReceivedEvent[Any]) -> dict[str, str]:
    return {
        "cloudevents.event_id": event.id,
        "cloudevents.event_source": event.source,
        "cloudevents.event_type": event.type,
    }


def _sender(event: ReceivedEvent[Any] | None) -> Context | None:
    """The trace that an event brings; None for the current one."""
    known = (None if event is None else event.extensions) or {}
    carrier = {
        name: value
        for name in ("traceparent", "tracestate")
        if isinstance(value := known.get(name), str)
    }
    return _PROPAGATOR.extract(carrier, Context()) if "traceparent" in carrier else None


def _end(span: Span, at: datetime, error: BaseException | None) -> None:
    if error is not None:
        span.record_exception(error, timestamp=_nanos(at))
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    span.end(_nanos(at))
