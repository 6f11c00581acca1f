"""Hypothesis strategies of what a simulation is fed: events, inputs, whole histories.

    @given(strategies.events(PaymentCompleted, type="payment.completed"))
    def test_any_payment(event): ...

Events are CloudEvents of the SDK whose data are JSON that the model accepts, under the names
that its validation reads, so `sim.send(event)` takes them as they are.
"""

import inspect
import itertools
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

from cloudevents.core.v1.event import CloudEvent
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edda.activity import Activity
from edda.errors import ArgumentError, EncodingError, InvalidEventError, TerminalError
from edda.history import Event
from edda.workflow import Workflow
from edda_testkit.errors import StrategyError
from edda_testkit.reach import activities_of
from edda_testkit.schedule import Options, Schedule
from edda_testkit.simulation import Simulation
from edda_testkit.strategies_judge import Judge, accepts
from edda_testkit.strategies_pydantic import json_values
from edda_testkit.strategies_scalars import any_json

__all__ = [
    "GeneratedEvent",
    "activity_results",
    "data",
    "events",
    "histories",
    "invalid_events",
    "schedules",
    "workflow_inputs",
]

Attributes = Mapping[str, Any]
# Of the steps that drive a history: time goes on to the next due instant, or by so much.
DURATIONS = (timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=2))

# A schedule's deviations: choices left alone between two of them, and what is taken then.
NEAR, FARTHEST, HIGHEST = 3, 12, 3


class GeneratedEvent(CloudEvent):
    """A CloudEvent that shows what is in it, and has a time only if one was given.

    Without one, a simulation delivers it as of its own present.
    """

    def __init__(self, attributes: dict[str, Any], data: Any) -> None:
        has_time = "time" in attributes
        super().__init__(attributes, data)
        if not has_time:
            del self._attributes["time"]  # the SDK put the real clock's there

    def __repr__(self) -> str:
        said = {k: v for k, v in self._attributes.items() if k not in ("type", "specversion")}
        parts = [f"{name}={value!r}" for name, value in said.items()]
        return f"{self._attributes['type']}({', '.join([*parts, f'data={self._data!r}'])})"


def data(model: Any, *, fields: Mapping[str, Any] | None = None) -> st.SearchStrategy[Any]:
    """JSON values that `model` accepts: a pydantic model, or any type that pydantic knows.

    `fields` gives some of its fields a value or a strategy of your own, as JSON. Raises
    `StrategyError` naming the field that cannot be made.
    """
    return json_values(TypeAdapter(model), _name(model), fields or {})


def events(
    model: Any,
    *,
    type: str,
    source: str | st.SearchStrategy[str] = "test",
    subject: str | st.SearchStrategy[str] | None = None,
    id: str | st.SearchStrategy[str] | None = None,
    fields: Mapping[str, Any] | None = None,
    **extensions: Any,
) -> st.SearchStrategy[CloudEvent]:
    """CloudEvents of a type whose data `model` accepts; None is no data.

    Attributes are values or strategies of them. Without `id`, events are numbered within each
    example, so that none is taken for a repetition. Raises `StrategyError`.
    """
    attributes = {"type": type, "source": source, "subject": subject, "id": id, **extensions}
    return _events(data(model, fields=fields), attributes)


def invalid_events(
    model: Any,
    *,
    type: str,
    source: str | st.SearchStrategy[str] = "test",
    subject: str | st.SearchStrategy[str] | None = None,
    id: str | st.SearchStrategy[str] | None = None,
    **extensions: Any,
) -> st.SearchStrategy[CloudEvent]:
    """CloudEvents of a type whose data `model` refuses, most of them nearly right.

    A valid value with one place left out or replaced, or something else entirely. Raises
    `StrategyError` when the model refuses nothing.
    """
    adapter = TypeAdapter(model)
    name = _name(model)

    def welcome(value: Any) -> str | None:
        return "it is valid" if accepts(adapter, value) is None else None

    near = json_values(adapter, name, {}).flatmap(_spoilt)
    refused = (near | any_json()).filter(Judge(welcome, f"refused by {name}"))
    attributes = {"type": type, "source": source, "subject": subject, "id": id, **extensions}
    return _events(refused, attributes)


def workflow_inputs(
    workflow: Workflow[..., Any], **fixed: Any
) -> st.SearchStrategy[dict[str, Any]]:
    """Keyword arguments for `sim.start(workflow, **kwargs)`, from its annotations.

    `fixed` gives some of them a value or a strategy of your own. Parameters with a default are
    left out at times; `*args` and `**kwargs` always. Raises `StrategyError`.
    """
    what = f"workflow {workflow.name!r}"
    signature = inspect.signature(workflow.fn)
    parameters = dict(list(signature.parameters.items())[1:])
    if unknown := sorted(set(fixed) - set(parameters)):
        raise StrategyError(f"The {what} has no parameter {unknown[0]!r}; its are {signature}.")
    try:
        hints = typing.get_type_hints(workflow.fn, include_extras=True)
    except NameError as error:
        raise StrategyError(f"The {what} has an annotation that is not there: {error}") from error
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(name, Any)
        made = (
            fixed[name]
            if name in fixed
            else _values(TypeAdapter(hint), f"argument {name!r} of {what}")
        )
        into = required if name in fixed or parameter.default is parameter.empty else optional
        into[name] = made if isinstance(made, st.SearchStrategy) else st.just(made)

    def refusal(arguments: dict[str, Any]) -> str | None:
        try:
            workflow.parameters.accept((), arguments)
        except (ArgumentError, EncodingError) as error:
            return str(error)
        return None

    made = st.fixed_dictionaries(required, optional=optional)
    return made.filter(Judge(refusal, f"right for {what}"))


def activity_results(activity: Activity[..., Any]) -> st.SearchStrategy[Any]:
    """Values that an activity may return by its annotation, ready for a stub."""
    what = f"the result of activity {activity.name!r}"
    return _values(activity.result.adapter, what)


@st.composite
def histories(
    draw: st.DrawFn,
    workflow: Workflow[..., Any],
    *,
    events: Any = (),
    inputs: st.SearchStrategy[dict[str, Any]] | None = None,
    activities: Mapping[Activity[..., Any], st.SearchStrategy[Any]] | None = None,
    failures: bool = True,
    max_steps: int = 8,
) -> list[Event]:
    """Histories of one run of a workflow that random answers, events and times drove.

    Finished or not. `events` are strategies of CloudEvents, or a mapping of types to models;
    `activities` gives some of them results of your own (the others get what their annotations
    allow, and, with `failures`, errors too). Crashes and cancellations are among the steps.
    """
    sent = as_event_strategies(events)
    steps = st.lists(
        st.one_of(
            st.just("next"), *sent, st.sampled_from(DURATIONS), st.sampled_from(("crash", "cancel"))
        ),
        max_size=max_steps,
    )
    arguments = draw(workflow_inputs(workflow) if inputs is None else inputs)
    todo = draw(steps)
    with Simulation(replay=False, unused_stubs=True) as sim:
        for activity in {*activities_of(workflow), *(activities or {})}:
            results = (activities or {}).get(activity)
            results = activity_results(activity) if results is None else results
            sim.stub(activity, side_effect=_answering(draw, results, has_failures=failures))
        run = sim.start(workflow, **arguments)
        for step in todo:
            _take(sim, run, step)
        return list(run.history)


def schedules(
    *,
    crashes: int = 0,
    duplicates: int = 0,
    reorder: bool = True,
    faults: int = 0,
    delays: int = 0,
    inside_activities: bool = False,
    workers: int = 1,
    duplicate_ids: Literal["same", "fresh"] = "same",
    max_deviations: int = 6,
) -> st.SearchStrategy[Schedule]:
    """Schedules for `Simulation(schedule)`: which choices differ from the default, and how.

    The options are those of `@explore`. A schedule is drawn at once, as a short list of small
    numbers, and shrinks to fewer and earlier deviations. `sim.schedule.token` names what ran.
    """
    options = Options(
        crashes=crashes,
        duplicates=duplicates,
        reorder=reorder,
        faults=faults,
        delays=delays,
        inside_activities=inside_activities,
        workers=workers,
        duplicate_ids=duplicate_ids,
    )
    return _schedules(options, max_deviations)


# Most scenarios are short, and what is far is reached by way of what is near.
deviations = st.tuples(st.integers(0, NEAR) | st.integers(0, FARTHEST), st.integers(1, HIGHEST))


@st.composite  # which shows the schedule itself, and not how it was drawn
def _schedules(draw: st.DrawFn, options: Options, max_deviations: int) -> Schedule:
    pairs = draw(st.lists(deviations, max_size=max_deviations))
    return Schedule("tape", tape=tuple(itertools.chain(*pairs)), options=options)


def as_event_strategies(given: Any) -> list[st.SearchStrategy[CloudEvent]]:
    """`{type: model or strategy of data}`, or strategies of CloudEvents, as the latter."""
    if isinstance(given, st.SearchStrategy):
        return [given]
    if isinstance(given, Mapping):
        return [
            _events(one, {"type": type, "source": "test"})
            if isinstance(one, st.SearchStrategy)
            else events(one, type=type)
            for type, one in given.items()
        ]
    if isinstance(given, Iterable):
        made = list(given)
        if all(isinstance(one, st.SearchStrategy) for one in made):
            return made
    raise StrategyError(
        f"events takes strategies of CloudEvents, or {{type: model}}, and got {given!r}."
    )


# ---- Helpers -----------------------------------------------------------------------------------


def _name(model: Any) -> str:
    return getattr(model, "__name__", None) or str(model)


def _values(adapter: TypeAdapter[Any], what: str) -> st.SearchStrategy[Any]:
    """The objects themselves, as they are after JSON."""
    return json_values(adapter, what, {}).map(lambda made: adapter.validate_json(json.dumps(made)))


def _events(
    payload: st.SearchStrategy[Any], attributes: Attributes
) -> st.SearchStrategy[CloudEvent]:
    given = {name: value for name, value in attributes.items() if value is not None}
    if "id" not in given:
        # Shared within an example: numbers neither repeat there nor depend on other examples.
        counter = st.shared(st.builds(itertools.count, st.just(1)), key="edda event numbers")
        given["id"] = counter.map(lambda numbers: f"generated-{next(numbers)}")
    made = st.fixed_dictionaries(
        {k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in given.items()}
    )
    return st.builds(GeneratedEvent, made, payload)


def _spoilt(value: Any) -> st.SearchStrategy[Any]:
    """The value with one place of it left out or replaced."""
    places = list(_places(value))
    if not places:
        return any_json()
    return st.builds(
        lambda place, instead: _replaced(value, place, instead),
        st.sampled_from(places),
        st.just(_OUT) | any_json(),
    )


_OUT = object()


def _places(value: Any) -> Iterable[tuple[Any, ...]]:
    match value:
        case dict():
            entries: Iterable[tuple[Any, Any]] = value.items()
        case list():
            entries = enumerate(value)
        case _:
            return
    for key, inner in entries:
        yield (key,)
        yield from ((key, *rest) for rest in _places(inner))


def _replaced(value: Any, place: tuple[Any, ...], instead: Any) -> Any:
    step, *rest = place
    copy = value.copy()
    if rest:
        copy[step] = _replaced(copy[step], tuple(rest), instead)
    elif instead is _OUT:
        del copy[step]
    else:
        copy[step] = instead
    return copy


def _answering(
    draw: st.DrawFn, results: st.SearchStrategy[Any], *, has_failures: bool
) -> Callable[..., Any]:
    def answer(*_args: Any, **_kwargs: Any) -> Any:
        outcome = draw(st.sampled_from(("returns", "fails", "is refused"))) if has_failures else ""
        if outcome == "fails":
            raise RuntimeError("a failed attempt")
        if outcome == "is refused":
            raise TerminalError("a failure for good")
        return draw(results)

    return answer


def _take(sim: Simulation, run: Any, step: Any) -> None:
    match step:
        case "next":
            if sim.next_due is not None:
                sim.advance_to_next()
        case timedelta():
            sim.advance(step)
        case "crash":
            sim.crash()
        case "cancel":
            run.cancel()
        case _:
            try:
                sim.send(step)
            except InvalidEventError:
                return  # every wait refused it: an answer like another
