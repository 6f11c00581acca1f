"""Hypothesis strategies: what they make is accepted where it goes, for every kind of type."""

import asyncio
import collections
import enum
import ipaddress
import json
import re
import uuid
import zoneinfo
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypeVar

import pydantic
import pytest
from cloudevents.core.v1.event import CloudEvent
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    FutureDate,
    Json,
    NaiveDatetime,
    PastDatetime,
    RootModel,
    SecretStr,
    TypeAdapter,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from edda import InvalidEventError, RetryPolicy, activity, sleep, wait_event, workflow
from edda.history import Finished, Started
from edda_testkit import Simulation, StrategyError, strategies
from edda_testkit.reach import activities_of
from edda_testkit.replay import check_replay

quick = settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    sku: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{2,4}$")]
    quantity: Annotated[int, Field(gt=0, le=99)]


class Card(BaseModel):
    kind: Literal["card"]
    number: Annotated[str, Field(min_length=4, max_length=4)]


class Transfer(BaseModel):
    kind: Literal["sepa", "swift"]
    reference: uuid.UUID


class Node(BaseModel):
    value: int
    children: list["Node"] = []
    parent: Optional["Node"] = None


class Chain(TypedDict):
    name: str
    then: NotRequired["Chain"]


@dataclass
class Money:
    amount: Annotated[Decimal, Field(max_digits=8, decimal_places=2, gt=0)]
    currency: Literal["EUR", "USD"] = "EUR"
    seen: int = field(init=False, default=0)


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Box(BaseModel, Generic[T]):
    content: T


class Order(BaseModel):
    order_id: str
    lines: Annotated[list[Line], Field(min_length=1, max_length=3)]
    payment: Annotated[Card | Transfer, Field(discriminator="kind")]
    placed: AwareDatetime
    colour: Colour
    total: Money
    tags: set[str] = set()
    box: Box[int | None]
    meta: dict[str, Any] = {}


class Aliased(BaseModel):
    amount: int = Field(alias="Amount")
    paid_by: str = Field(validation_alias="payer", serialization_alias="customer")
    street: str = Field(validation_alias=AliasPath("address", "lines", 0))
    city: str = Field(validation_alias=AliasPath("address", "lines", 1))
    zip: str = Field(validation_alias=AliasChoices("postcode", "zip_code"))


class Recording(BaseModel):
    first: int
    last: int

    @field_validator("first")
    @classmethod
    def _even(cls, value):
        assert value % 2 == 0, "must be even"
        return value

    @model_validator(mode="after")
    def _ordered(self):
        assert self.first <= self.last, "first comes first"
        return self


class Encoded(BaseModel):
    model_config = ConfigDict(val_json_bytes="base64")
    raw: Annotated[bytes, Field(min_length=2, max_length=4)]


@pydantic.dataclasses.dataclass
class Checked:
    size: Annotated[float, Field(ge=0.5, lt=2)]


TYPES = [
    int,
    Annotated[int, Field(ge=10, lt=20, multiple_of=5)],
    Annotated[int, Field(gt=10**6, multiple_of=7)],
    Annotated[float, Field(gt=1, lt=1.5)],
    Annotated[float, Field(multiple_of=0.25, ge=-3)],
    Decimal,
    Annotated[Decimal, Field(max_digits=5, decimal_places=2)],
    Annotated[Decimal, Field(gt=0, lt=Decimal("0.01"), decimal_places=4)],
    Annotated[Decimal, Field(multiple_of=Decimal("0.05"), ge=1, le=2)],
    Annotated[Decimal, Field(max_digits=3, ge=100)],
    bool,
    None,
    str,
    Annotated[str, Field(min_length=3, max_length=5)],
    Annotated[str, Field(pattern=r"^\d+$", max_length=6)],
    Annotated[str, Field(pattern="b+")],
    bytes,
    Annotated[bytes, Field(min_length=3, max_length=4)],
    Base64Bytes,
    Encoded,
    SecretStr,
    date,
    FutureDate,
    datetime,
    AwareDatetime,
    NaiveDatetime,
    PastDatetime,
    Annotated[datetime, Field(gt=datetime(2020, 1, 1, tzinfo=UTC))],
    Annotated[date, Field(gt=date(2020, 1, 1), le=date(2020, 1, 3))],
    time,
    Annotated[time, Field(ge=time(9), lt=time(17))],
    timedelta,
    Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=1))],
    uuid.UUID,
    pydantic.UUID4,
    pydantic.UUID7 if hasattr(pydantic, "UUID7") else uuid.UUID,
    Literal["a", 1] | None,
    Colour,
    int | str,
    Colour | None,
    list[int],
    Annotated[list[int], Field(min_length=7)],
    set[int],
    Annotated[frozenset[Literal[1, 2, 3]], Field(min_length=2)],
    tuple[int, str],
    tuple[int, ...],
    tuple[()],
    dict[str, int],
    dict[int, bool],
    dict[date, list[float]],
    list,
    dict,
    Any,
    object,
    Pair,
    Money,
    Checked,
    Line,
    Order,
    Aliased,
    Node,
    Chain,
    Recording,
    Box[list[int]],
    RootModel[list[int]],
    Json[dict[str, int]],
    pydantic.AnyUrl,
    pydantic.HttpUrl,
    pydantic.PostgresDsn,
    pydantic.ByteSize,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    pydantic.IPvAnyAddress,
    zoneinfo.ZoneInfo,
    complex,
    re.Pattern,
]


@pytest.mark.parametrize("hint", TYPES, ids=str)
def test_generated_data_is_accepted_by_its_type(hint):
    """Whatever the type, what is generated validates from its JSON."""
    adapter = TypeAdapter(hint)

    @quick
    @given(strategies.data(hint))
    def check(value):
        adapter.validate_json(json.dumps(value, allow_nan=False))

    check()


@quick
@given(
    strategies.events(Order, type="strategies.placed", source="shop", subject="O-1", tenant="t1")
)
def test_an_event_arrives_as_the_model(event):
    """A generated event can be sent, and answers a wait with the model's instance."""

    @workflow
    async def taking(ctx):
        event = await wait_event(ctx, "strategies.placed", model=Order)
        assert isinstance(event.data, Order)
        assert isinstance(event.data.placed, datetime)
        assert event.time == ctx.now()
        return [event.source, event.subject, event.extensions["tenant"], event.data.lines[0].sku]

    assert isinstance(event, CloudEvent)
    with Simulation(replay=False) as sim:
        run = sim.start(taking)
        sim.send(event)
        assert run.result[:3] == ["shop", "O-1", "t1"]


def test_events_have_no_time_of_their_own_and_show_what_they_hold():
    """The repr is the event in one line; the SDK's present of the real clock is not in it."""
    event = find(strategies.events(Line, type="line.added"), lambda _: True)
    assert event.get_attributes().keys() == {"type", "source", "id", "specversion"}
    assert repr(event) == (
        "line.added(source='test', id='generated-1', data={'sku': 'AAA-00', 'quantity': 1})"
    )


@quick
@given(st.data())
def test_events_of_one_example_are_never_repetitions(data):
    """Ids are numbered within an example, also over several strategies."""
    one, other = strategies.events(int, type="a"), strategies.events(str, type="b")
    ids = [data.draw(strategy).get_id() for strategy in (one, other, one)]
    assert len(set(ids)) == 3


def test_attributes_may_be_strategies():
    """`id`, `subject` and extensions are values or strategies of them."""
    made = strategies.events(
        int, type="a", id=st.just("I"), subject=st.sampled_from(["s"]), hops=st.just(3)
    )
    attributes = find(made, lambda _: True).get_attributes()
    assert (attributes["id"], attributes["subject"], attributes["hops"]) == ("I", "s", 3)


def test_fields_are_given_by_name_or_alias():
    """`fields` replaces what would be generated; an unknown name is an error."""
    fields = {"order_id": "O-1", "colour": st.just("red")}
    value = find(strategies.data(Order, fields=fields), lambda _: True)
    assert (value["order_id"], value["colour"]) == ("O-1", "red")
    value = find(strategies.data(Aliased, fields={"Amount": 5, "paid_by": "me"}), lambda _: True)
    assert (value["Amount"], value["payer"]) == (5, "me")
    value = find(strategies.data(Card | Transfer, fields={"kind": "sepa"}), lambda _: True)
    assert value["kind"] == "sepa"
    with pytest.raises(StrategyError, match="Line has no field 'colour' to be given"):
        strategies.data(Line, fields={"colour": 1})


def test_aliases_are_those_of_validation():
    """Data stand under the names that validation reads, also along paths."""
    value = find(strategies.data(Aliased), lambda _: True)
    assert value == {
        "Amount": 0,
        "payer": "",
        "address": {"lines": ["", ""]},
        "postcode": "",
    }


def test_optional_fields_are_there_and_not_there():
    """A field with a default is left out at times and given at times."""
    made = strategies.data(Node)
    assert "children" not in find(made, lambda value: "children" not in value)
    assert find(made, lambda value: bool(value.get("children")))["children"]


def test_recursion_goes_a_few_levels_and_ends():
    """A recursive type is nested several times, and no deeper."""

    def depth(value):
        return 1 + max(map(depth, value.get("children") or []), default=0)

    made = strategies.data(Node)
    assert depth(find(made, lambda value: depth(value) >= 3)) == 3
    with pytest.raises(NoSuchExample):
        find(made, lambda value: depth(value) > 5, settings=settings(max_examples=200))


class Endless(BaseModel):
    inner: "Endless"


class Opaque:
    pass


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    lines: list[Opaque]
    name: str


class Never(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _refuse(cls, value):
        raise ValueError("no name is good enough")


class Narrow(BaseModel):
    size: Annotated[int, Field(gt=5, lt=6)]


class Rust(BaseModel):
    word: Annotated[str, Field(pattern=r"^\p{Lu}+$")]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Holder, r"'data.lines\[\]' of Holder: 'is-instance' has no form in JSON.*fields={'lines"),
        (Endless, r"Endless: data.inner.* holds itself without end"),
        (Narrow, r"'data.size' of Narrow: "),
        (Rust, r"'data.word' of Rust: bad escape"),
    ],
)
def test_what_cannot_be_made_names_the_field(model, message):
    """A type without a form in JSON, or without values, is an error at once."""
    with pytest.raises(StrategyError, match=re.compile(message, re.DOTALL)):
        strategies.events(model, type="x")


def test_a_field_that_cannot_be_made_can_be_given():
    """`fields` is the cure that the message names."""
    made = strategies.data(Rust, fields={"word": st.sampled_from(["Ä"])})
    assert find(made, lambda _: True) == {"word": "Ä"}


class Coded(BaseModel):
    code: Annotated[str, AfterValidator(lambda text: _must(text, text.isupper()))]
    digits: Annotated[str, AfterValidator(lambda text: _must(text, text.isdigit()))]
    mail: str

    @field_validator("mail")
    @classmethod
    def has_an_at(cls, text):
        return _must(text, "@" in text)


def _must(text, is_right):
    if not is_right:
        raise ValueError("not like that")
    return text


@settings(max_examples=25, deadline=None)
@given(strategies.events(Coded, type="x"))
def test_texts_that_validators_want_are_made(event):
    """Upper case, digits and addresses come often enough for every health check."""
    Coded.model_validate(event.get_data())


class Collected(BaseModel):
    queue: collections.deque[int]
    counts: collections.Counter[str]
    ordered: collections.OrderedDict[str, int]


@quick
@given(strategies.events(Collected, type="x"))
def test_collections_are_arrays_and_objects(event):
    """A deque is an array in JSON, a Counter and an OrderedDict are objects."""
    data = Collected.model_validate(event.get_data())
    assert (type(data.queue), type(data.counts)) == (collections.deque, collections.Counter)


def test_validators_that_refuse_everything_are_reported():
    """When nothing passes, the error has the last reason, instead of a failed health check."""

    @given(strategies.events(Never, type="x"))
    def check(event):
        raise AssertionError("there is no such event")

    with pytest.raises(StrategyError, match=r"data.name(?s:.*)no name is good enough"):
        check()


# ---- Invalid events ----------------------------------------------------------------------------


@quick
@given(strategies.invalid_events(Order, type="strategies.placed"))
def test_invalid_events_are_refused(event):
    """What `invalid_events` makes is refused by the only wait, and the wait goes on (law M6)."""

    @workflow
    async def taking(ctx):
        await wait_event(ctx, "strategies.placed", model=Order)

    with Simulation(replay=False) as sim:
        run = sim.start(taking)
        with pytest.raises(InvalidEventError, match="strategies.placed"):
            sim.send(event)
        assert run.status == "waiting_for_event"


def test_invalid_events_are_often_nearly_right():
    """A single missing or wrong field is among them, as well as something else entirely."""
    made = strategies.invalid_events(Line, type="x").map(lambda event: event.get_data())
    fine = {"sku": "AAA-00", "quantity": 1}
    assert find(made, lambda data: data == {"sku": fine["sku"]})
    assert find(made, lambda data: isinstance(data, dict) and data.get("sku") == fine["sku"])
    assert find(made, lambda data: data is None) is None


def test_a_model_that_refuses_nothing_has_no_invalid_events():
    """Asking for what cannot be is an error that says so."""

    @given(strategies.invalid_events(Any, type="x"))
    def check(event):
        raise AssertionError("there is no such event")

    with pytest.raises(StrategyError, match="none was refused by"):
        check()


# ---- Inputs ------------------------------------------------------------------------------------


@activity(retry_policy=RetryPolicy(max_attempts=2, initial_interval=5))
async def price(ctx, lines: list[Line]) -> Money:
    raise NotImplementedError("must be stubbed")


@activity
async def note(ctx, word: str) -> None:
    raise NotImplementedError("must be stubbed")


async def in_a_helper(ctx):
    await note(ctx, "helped")


@workflow
async def order(ctx, lines: list[Line], when: AwareDatetime, gift: bool = False, *rest: int):
    total = await price(ctx, lines)
    event = await wait_event(ctx, "paid", timeout_seconds=60, model=Card)
    await in_a_helper(ctx)
    await sleep(ctx, 5)
    return [str(total.amount), event.data.number, gift]


@quick
@given(strategies.workflow_inputs(order))
def test_workflow_inputs_start_the_workflow(inputs):
    """The arguments are objects of the annotated types, and are accepted."""
    assert isinstance(inputs["lines"], list)
    assert isinstance(inputs["when"], datetime)
    with Simulation(replay=False) as sim:
        sim.stub(price, returns=Money(Decimal(1)))
        assert sim.start(order, **inputs).status == "waiting_for_event"


def test_workflow_inputs_can_be_fixed():
    """Some arguments are given, by value or strategy; a wrong name is an error."""
    made = strategies.workflow_inputs(order, gift=True, lines=st.just([]))
    assert find(made, lambda _: True).items() >= {"gift": True, "lines": []}.items()
    with pytest.raises(StrategyError, match="has no parameter 'liens'"):
        strategies.workflow_inputs(order, liens=[])


def test_inputs_that_cannot_be_made_are_named():
    """An argument of an opaque type is an error that names it."""

    @workflow
    async def odd(ctx, thing: type[int]):
        pass

    with pytest.raises(StrategyError, match="argument 'thing' of workflow 'odd'"):
        strategies.workflow_inputs(odd)


# ---- Histories ---------------------------------------------------------------------------------


def test_activities_are_found_through_helpers():
    """The activities of a workflow include those that only its helpers call."""
    assert set(activities_of(order)) == {price, note}


made_histories = strategies.histories(order, events={"paid": Card})


@quick
@given(made_histories)
def test_histories_are_real_ones(history):
    """A generated history begins with its start and replays."""
    assert isinstance(history[0], Started)
    check_replay(order, "any", history)


def test_histories_go_every_way():
    """Runs that complete, fail, time out, retry, are cancelled or still wait are all among them."""
    wanted = {
        *("workflow_completed", "workflow_failed", "workflow_cancelled", "event_timed_out"),
        *("event_received", "timer_fired", "attempt_failed", "activity_failed", "goes on"),
    }
    kinds = set()

    @settings(quick, max_examples=300, derandomize=False, database=None, phases=[Phase.generate])
    @given(made_histories)
    def gather(history):
        kinds.update(event.kind for event in history)
        kinds.add("finished" if isinstance(history[-1], Finished) else "goes on")

    # What Hypothesis draws depends on which modules are loaded: it takes constants from them.
    for number in range(10):
        if not kinds >= wanted:
            seed(number)(gather)()
    assert kinds >= wanted


def test_events_of_a_wrong_kind_are_explained():
    """`events=` takes strategies, or models by type."""
    with pytest.raises(StrategyError, match="strategies of CloudEvents"):
        find(strategies.histories(order, events=[Card]), lambda _: True)


# ---- Schedules ---------------------------------------------------------------------------------


@workflow
async def both(ctx):
    await asyncio.gather(note(ctx, "a"), note(ctx, "b"))


def _words(schedule):
    with Simulation(schedule, replay=False) as sim:
        sim.stub(note, returns=None)
        run = sim.start(both)
        return [call.args[0] for call in run.calls(note)]


def test_schedules_find_another_order_and_shrink():
    """A schedule that matters is found, shrunk to one deviation, and repeated by its token."""
    found = find(
        strategies.schedules(),
        lambda schedule: _words(schedule) == ["b", "a"],
        settings=settings(quick, max_examples=500),
    )
    assert len(found.tape) == 2
    with Simulation(found, replay=False) as sim:
        sim.stub(note, returns=None)
        sim.start(both)
        assert _words(sim.schedule.token) == ["b", "a"]


def test_schedules_carry_their_options():
    """The options are those of an exploration."""
    made = strategies.schedules(crashes=1, workers=2, max_deviations=0)
    schedule = find(made, lambda _: True)
    assert (schedule.options.crashes, schedule.options.workers, schedule.tape) == (1, 2, ())
