"""The OpenTelemetry hooks: one trace a run, linked with the traces of its events."""

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from edda import RetryPolicy, WorkflowContext, activity, send_event, wait_event, workflow
from edda.otel import OpenTelemetryHooks, run_context
from edda_testkit import Simulation

SENDER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
SENDER_TRACE = 0x0AF7651916CD43DD8448EB211C80319C


@activity(retry_policy=RetryPolicy(max_attempts=2, initial_interval=10.0))
async def charge(ctx, amount: int) -> int:
    if ctx.attempt == 1 or amount < 0:
        raise ValueError("no money")
    return amount


@workflow(start_on="otel.ordered")
async def order(ctx: WorkflowContext, amount: int) -> int:
    paid = await wait_event(ctx, "paid")
    charged = await charge(ctx, amount)
    await send_event("shipped", "shop")
    return charged + paid.data


class World:
    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.hooks = OpenTelemetryHooks(
            tracer_provider=tracers, meter_provider=MeterProvider([self.reader])
        )
        self.sim = Simulation(app_options={"hooks": self.hooks, "workflows": [order]})

    @property
    def spans(self):
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def metric(self, name):
        data = self.reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
        [metric] = [one for one in data if one.name == name]
        return [(dict(point.attributes), point) for point in metric.data.data_points]


@pytest.fixture
def world():
    world = World()
    with world.sim:
        yield world


def seconds(span):
    return (span.end_time - span.start_time) / 1e9


def test_a_run_is_one_trace(world):
    """Run, attempts, what it took and what it sent hang under one context made of its id."""
    run = world.sim.start(order, amount=5)
    world.sim.send("paid", 1)
    world.sim.advance(10)
    assert run.result == 6
    parent = run_context(run.id)
    of_run = [
        span
        for span in world.exporter.get_finished_spans()
        if span.context.trace_id == parent.trace_id
    ]
    assert [span.name for span in of_run] == [
        "take paid",
        "activity charge",
        "activity charge",
        "send shipped",
        "order",
    ]
    assert {span.parent.span_id for span in of_run} == {parent.span_id}
    whole = world.spans["order"]
    assert 9 <= seconds(whole) <= 10
    assert whole.start_time == 946_684_800 * 10**9
    assert whole.attributes["edda.outcome"] == "completed"
    assert whole.attributes["edda.instance_id"] == run.id
    first, second = (span for span in of_run if span.name == "activity charge")
    assert (first.attributes["edda.attempt"], first.status.status_code) == (1, StatusCode.ERROR)
    assert first.events[0].attributes["exception.message"] == "no money"
    assert (second.attributes["edda.attempt"], second.status.status_code) == (2, StatusCode.UNSET)


def test_a_run_that_fails_has_an_error(world):
    """The span of a failed run says what failed it."""
    world.sim.start(order, amount=-1)
    world.sim.send("paid", 1)
    world.sim.advance(10)
    whole = world.spans["order"]
    assert whole.status.status_code is StatusCode.ERROR
    assert whole.status.description.startswith("RetryExhaustedError: ")
    assert whole.attributes["edda.outcome"] == "failed"


def test_an_event_is_received_in_its_senders_trace(world):
    """`traceparent` of an event makes the sender's trace go on here, linked with the run."""
    run = world.sim.start(order, amount=5)
    world.sim.send("paid", 1, **SENDER)
    received, taken = world.spans["receive paid"], world.spans["take paid"]
    assert received.context.trace_id == SENDER_TRACE
    assert received.parent.span_id == 0xB7AD6B7169203331
    assert received.kind is SpanKind.CONSUMER
    assert [link.context.trace_id for link in received.links] == [run_context(run.id).trace_id]
    assert [link.context.trace_id for link in taken.links] == [SENDER_TRACE]
    assert received.attributes["cloudevents.event_type"] == "paid"


def test_a_start_by_event_is_linked_both_ways(world):
    """The start is a span of the sender's trace that leads to the run's."""
    world.sim.send("otel.ordered", {"amount": 5}, **SENDER)
    start = world.spans["start order"]
    assert start.context.trace_id == SENDER_TRACE
    assert [link.context for link in start.links] == [run_context(world.sim.runs[0].id)]


@pytest.mark.parametrize("traceparent", ["", "nonsense", "00-0-0-01"])
def test_a_traceparent_that_is_none_is_passed_over(world, traceparent):
    """A malformed `traceparent` links nothing and breaks nothing."""
    world.sim.start(order, amount=5)
    world.sim.send("paid", 1, traceparent=traceparent)
    assert world.spans["take paid"].links == ()


def test_a_cancelled_run_ends_its_attempts(world):
    """An attempt that the run gave up has an end, and so has the run."""

    @activity
    async def nap(ctx) -> None:
        await asyncio.sleep(60)

    @workflow
    async def slow(ctx: WorkflowContext) -> None:
        await nap(ctx)

    run = world.sim.start(slow)
    world.sim.advance(5)
    world.sim.cancel(run)
    assert world.spans["slow"].attributes["edda.outcome"] == "cancelled"
    assert seconds(world.spans["activity nap"]) == 5
    assert not world.hooks._open


def test_a_stuck_run_has_a_span(world):
    """A run that does not fit today's code is seen in its trace."""

    @workflow(name="order")
    async def changed(ctx: WorkflowContext, amount: int) -> None:
        await wait_event(ctx, "other")

    world.sim.start(order, amount=5)
    world.sim.deploy(changed)
    world.sim.send("paid", 1)
    assert world.spans["stuck order"].status.description.startswith("NonDeterminismError: ")
    world.sim.deploy(order)


def test_attempts_that_never_come_out_are_not_kept_for_ever(world, monkeypatch):
    """Of too many open attempts the oldest is ended."""
    monkeypatch.setattr("edda.otel.MAX_OPEN_SPANS", 1)
    lost = world.hooks._tracer.start_span("lost")
    world.hooks._open["gone", "charge:1"] = (lost, world.sim.now)
    world.sim.start(order, amount=5)
    world.sim.send("paid", 1)
    assert "lost" in world.spans


def test_runs_and_attempts_are_counted(world):
    """Counters and durations by name and outcome."""
    world.sim.start(order, amount=5)
    world.sim.send("paid", 1)
    world.sim.advance(10)
    assert [
        (labels["edda.outcome"], point.value)
        for labels, point in world.metric("edda.activity.attempts")
    ] == [("failed", 1), ("completed", 1)]
    [(labels, point)] = world.metric("edda.workflow.duration")
    assert labels == {"edda.workflow": "order", "edda.outcome": "completed"}
    assert 9 <= point.sum <= 10


def test_it_says_what_to_install():
    """Without OpenTelemetry, the import names the command that installs it."""
    script = "import sys; sys.modules['opentelemetry'] = None; import edda.otel"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith('Run: pip install "edda-durable[otel]"\n')
