"""Values and exceptions as JSON text, there and back."""

import json
import math
import sys
import types
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, PlainSerializer, ValidationError, field_validator

from edda.codec import (
    MAX_CAUSES,
    Parameters,
    Value,
    decode_error,
    encode_error,
    problems,
    reference,
    resolve,
    result_of,
    text_fault,
)
from edda.errors import ActivityError, ArgumentError, DecodingError, DefinitionError, EncodingError

CURE = "Annotate it with a type that pydantic can store, or pass plain JSON values."


class Paid(BaseModel):
    order_id: str = Field(alias="orderId")
    cents: int


@dataclass
class Point:
    x: float
    y: float = 0.0


class Other(BaseModel):
    x: int


class Colour(Enum):
    RED = "red"


class Opaque:
    pass


PAID = Paid(orderId="ORD-1", cents=5)

# ---- Values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Any, {"a": [1, 2.5, None, True, "é"]}),
        (None, None),
        (Paid, PAID),
        (list[Paid], [PAID]),
        (Point, Point(1.0, 2.5)),
        (Colour, Colour.RED),
        (datetime, datetime(2030, 1, 1, 12, 30, 0, 5, tzinfo=UTC)),
        (date, date(2030, 1, 1)),
        (timedelta, timedelta(days=2, microseconds=1)),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=7)),
        (set[int], {1, 2}),
        (tuple[int, str], (1, "a")),
        (dict[int, str], {1: "a"}),
        (PurePosixPath, PurePosixPath("a/b")),
        (float, -math.inf),
        (Any, [10**30]),
        (Annotated[int, {"unhashable": []}], 3),
    ],
    ids=str,
)
def test_a_value_comes_back(hint, value):
    """A value of its annotated type comes back equal and of the same type."""
    text, back = Value(hint, "It").cross(value)
    assert (back, type(back)) == (value, type(value))
    assert Value(hint, "It").decode(text) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_plain_json_needs_no_annotation(value):
    """Any plain JSON value comes back the same, or is refused; it is never changed."""
    codec = Value(Any, "It")
    try:
        text, back = codec.cross(value)
    except EncodingError:
        return
    assert repr(back) == repr(value)
    assert codec.encode(back) == text
    assert repr(codec.decode(text)) == repr(value)


@given(st.builds(Point, st.floats(), st.floats()) | st.builds(Point, st.floats(allow_nan=False)))
def test_a_dataclass_comes_back(point):
    """A dataclass comes back with every field; NaN and infinity in it are refused, not changed."""
    if math.isfinite(point.x) and math.isfinite(point.y):
        assert Value(Point, "It").cross(point)[1] == point
    else:
        with pytest.raises(EncodingError, match="Input should be a valid number"):
            Value(Point, "It").encode(point)


@pytest.mark.parametrize(
    ("hint", "value", "reason"),
    [
        (
            Any,
            (1, 2),
            f"tuple (1, 2) would become list [1, 2] after a round trip through JSON. {CURE}",
        ),
        (
            Any,
            {"a": {"b": [0, {1}]}},
            f"a.b[1]: set {{1}} would become list [1] after a round trip through JSON. {CURE}",
        ),
        (
            Any,
            {1: "a"},
            "dict {1: 'a'} would become dict {'1': 'a'} after a round trip through JSON. " + CURE,
        ),
        (
            Any,
            PAID,
            f"Paid {PAID!r} would become dict {{'orderId': 'ORD-1', 'cents': 5}} after a round "
            f"trip through JSON. {CURE}",
        ),
        (
            int,
            "many",
            "value: Input should be a valid integer, unable to parse string as an integer",
        ),
        (Paid, {"orderId": "x"}, "cents: Field required"),
    ],
)
def test_a_value_that_would_change_is_refused(hint, value, reason):
    """A value that would come back as another is refused, with the place, the change and a cure."""
    with pytest.raises(EncodingError) as caught:
        Value(hint, "The result of activity 'charge'").encode(value)
    assert str(caught.value) == f"The result of activity 'charge' cannot be stored: {reason}"


@pytest.mark.parametrize("value", [Opaque(), b"\xff", "\ud800", [Opaque()], {"a": lambda: 1}])
def test_a_value_that_is_no_json_is_refused(value):
    """What has no JSON form is refused with an error of ours that ends with the cure."""
    with pytest.raises(EncodingError) as caught:
        Value(Any, "It").encode(value)
    assert str(caught.value).startswith("It cannot be stored: ")
    assert str(caught.value).endswith(CURE)


def test_a_value_that_cannot_be_compared_is_refused():
    """A value whose `__eq__` raises is refused, for nobody can say that it came back."""

    class Odd(BaseModel):
        x: int

        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    with pytest.raises(EncodingError, match=r"would become Odd"):
        Value(Odd, "It").encode(Odd(x=1))


def test_equality_by_fields_is_enough():
    """An object without `__eq__` of its own passes when its type and fields come back."""

    class Plain(BaseModel):
        x: float
        __eq__ = object.__eq__
        __hash__ = object.__hash__

    class Lossy(Plain):
        x: Annotated[float, PlainSerializer(lambda _: 0.0)]

    assert Value(Plain, "It").cross(Plain(x=1.5))[1].x == 1.5
    with pytest.raises(EncodingError):
        Value(Lossy, "It").encode(Lossy(x=1.5))


@pytest.mark.parametrize("given", [[1.0, 2.0], {"a": 2.0}, 2.0])
def test_a_serializer_that_lies_is_found(given):
    """The message points at the first member that a serializer changed."""
    hint = Annotated[
        Any, PlainSerializer(lambda value: json.loads(json.dumps(value).replace("2", "3")))
    ]
    where = {list: "[1]: ", dict: "a: ", float: ""}[type(given)]
    with pytest.raises(EncodingError) as caught:
        Value(hint, "It").encode(given)
    assert str(caught.value) == (
        f"It cannot be stored: {where}float 2.0 would become float 3.0 after a round trip through "
        f"JSON. {CURE}"
    )


def test_a_stored_value_of_another_shape_is_refused():
    """A stored value that does not fit today's type says which field and what to do."""
    with pytest.raises(DecodingError) as caught:
        Value(Paid, "The result").decode('{"orderId":"x","cents":"y"}')
    assert str(caught.value) == (
        "The result does not fit the type that the code has today: cents: Input should be a valid "
        "integer, unable to parse string as an integer. Stored values stay as they were written: "
        "give new fields a default, or accept both shapes."
    )


@pytest.mark.parametrize("hint", [Opaque, list[Opaque], Annotated[Opaque, {}]])
def test_a_type_without_a_schema_is_refused(hint):
    """A type that pydantic cannot store is refused at first use, naming it."""
    codec = Value(hint, "It")
    with pytest.raises(DefinitionError) as caught:
        codec.encode(1)
    assert str(caught.value).startswith("It: pydantic has no schema for the annotation ")
    assert str(caught.value).endswith(
        "Use a type that can be stored as JSON: a model, a dataclass or plain values."
    )


def test_an_undefined_model_is_refused():
    """A model with a name that does not exist is refused, and pydantic says which."""

    class Half(BaseModel):
        other: "Nowhere"  # noqa: F821

    with pytest.raises(EncodingError, match=r"Half.* is not fully defined"):
        Value(Half, "It").encode(Half.model_construct(other=1))


def test_a_union_that_cannot_be_told_apart_is_refused():
    """A type that pydantic itself calls wrong is a definition error."""
    hint = Annotated[Paid | Other, Field(discriminator="kind")]
    with pytest.raises(DefinitionError, match="discriminator field"):
        _ = Value(hint, "It").adapter


def test_problems_name_each_field():
    """A validation error becomes one readable line a field."""
    with pytest.raises(ValidationError) as caught:
        Value(list[Paid], "It").validate([{"cents": "x"}])
    assert problems(caught.value) == [
        "0.orderId: Field required",
        "0.cents: Input should be a valid integer, unable to parse string as an integer",
    ]


def test_codecs_say_what_they_are():
    """The reprs of codecs name the type and the thing."""

    def f(ctx, a: int, b=2): ...

    assert repr(Value(int, "It")) == "<Value <class 'int'> for It>"
    assert repr(Parameters(f, "F")) == "<Parameters (a: int, b=2) of F>"


# ---- Arguments -------------------------------------------------------------------------------


def pay(ctx, order: Paid, *extra: int, note: str = "", **more: float) -> Point: ...


def untyped(ctx, a, b=1): ...


def nothing(ctx) -> None: ...


def test_arguments_come_back():
    """A call's arguments come back as args and kwargs of their annotated types."""
    codec = Parameters(pay, "pay")
    text = codec.encode((PAID, 1, 2), {"note": "x", "fee": 0.5})
    assert text == (
        '{"order":{"orderId":"ORD-1","cents":5},"extra":[1,2],"note":"x","more":{"fee":0.5}}'
    )
    assert codec.decode(text) == ((PAID, 1, 2), {"note": "x", "fee": 0.5})
    assert codec.names == ("order", "extra", "note", "more")


def test_defaults_are_left_out():
    """Arguments not given are not stored, so a new default changes nothing."""
    codec = Parameters(untyped, "f")
    assert codec.encode((1,), {}) == '{"a":1}'
    assert codec.decode('{"a":1}') == ((1,), {})
    assert codec.encode((), {"b": 2, "a": 1}) == codec.encode((1, 2), {})


def test_a_call_from_outside_is_made_to_fit():
    """From outside a dict becomes the model that is asked for; inside it is refused."""
    codec = Parameters(pay, "pay")
    given = {"orderId": "ORD-1", "cents": "5"}
    assert codec.accept((given,), {}) == '{"order":{"orderId":"ORD-1","cents":5}}'
    with pytest.raises(EncodingError):
        codec.encode((given,), {})


def test_wrong_arguments_are_named():
    """A call that does not fit names each argument, or the signature."""
    codec = Parameters(pay, "Workflow 'pay'")
    with pytest.raises(ArgumentError) as caught:
        codec.accept(({"cents": "x"},), {"note": 5})
    assert caught.value.problems == [
        "order.orderId: Field required",
        "order.cents: Input should be a valid integer, unable to parse string as an integer",
        "note: Input should be a valid string",
    ]
    with pytest.raises(ArgumentError) as caught:
        Parameters(untyped, "f").encode((), {})
    assert str(caught.value) == "f: missing a required argument: 'a'; it takes (a, b=1)"
    with pytest.raises(ArgumentError) as caught:
        Parameters(nothing, "f").encode((1,), {})
    assert str(caught.value) == "f: too many positional arguments; it takes (no arguments)"


def test_stored_arguments_that_no_longer_fit():
    """Stored arguments that today's signature cannot take are a clear error."""
    for text in ("{}", '{"a":1,"gone":2}', "[]"):
        with pytest.raises(
            DecodingError, match=r"^A call of f does not fit the type that the code has today"
        ):
            Parameters(untyped, "f").decode(text)


def test_an_argument_that_cannot_be_stored_is_said_to_be_one():
    """What does not fit is a call's argument, and not the activity itself."""

    def pay(ctx, amount: float): ...

    with pytest.raises(EncodingError, match=r"^A call of activity 'pay' cannot be stored: amount"):
        Parameters(pay, "Activity 'pay'").encode(("lots",), {})


def test_arguments_are_compared_by_value():
    """Two texts are the same call when they decode to equal values, and only then."""

    def tagged(ctx, tags: set[str]): ...

    codec = Parameters(tagged, "f")
    assert codec.same('{"tags":["a"]}', '{"tags":["a"]}')
    assert codec.same('{"tags":["a","b"]}', '{"tags":["b","a"]}')
    assert not codec.same('{"tags":["a"]}', '{"tags":["b"]}')
    assert codec.same('{"old":[1]}', '{"old": [1]}')
    assert not codec.same('{"old":[1]}', '{"old":[2]}')


def test_the_result_is_typed_by_its_annotation():
    """The codec of a result follows the return annotation, and is `Any` without one."""
    assert result_of(pay, "It").hint is Point
    assert result_of(nothing, "It").hint is None
    assert result_of(untyped, "It").hint is Any


def test_an_annotation_that_cannot_be_found():
    """An annotation that exists for type checkers only is named, with the cure."""

    def f(ctx, a: "Nowhere"): ...  # noqa: F821

    with pytest.raises(DefinitionError) as caught:
        result_of(f, "Activity 'f'")
    assert str(caught.value) == (
        "Activity 'f': the annotation 'Nowhere' cannot be found. Import it at run time too (not "
        "only under TYPE_CHECKING), or define the class at module level."
    )


# ---- Exceptions ------------------------------------------------------------------------------


class Declined(Exception):
    made = 0

    def __new__(cls, *args):
        cls.made += 1
        return super().__new__(cls, *args)

    def __init__(self, reason, code):
        type(self).made += 1
        super().__init__(f"{reason} ({code})")
        self.code = code


class Late(TimeoutError):
    def __init__(self, seconds):
        super().__init__(f"{seconds} s late")
        self.seconds = seconds


class Holder(Exception):
    def __init__(self, thing):
        super().__init__("holds")
        self.thing = thing


class Mute(Exception):
    def __str__(self):
        raise OSError


class Empty(Exception):
    def __len__(self):
        return 0


class Fussy(Exception):
    def __str__(self):
        return f"fussy {self.thing.name}"


@pytest.fixture(autouse=True)
def loaded(monkeypatch):
    """This module among the loaded ones: pytest's importlib mode names it, and may leave it out."""
    monkeypatch.setitem(sys.modules, __name__, types.ModuleType(__name__))
    vars(sys.modules[__name__]).update(globals())


def there_and_back(error):
    return decode_error(encode_error(error))


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ValueError("boom", 3, None, ["x"], {"a": 1.5}),
        KeyError("k"),
        FileNotFoundError(2, "No such file", "a.txt"),
        OSError(18, "Cross-device link", "a", None, "b"),
        ConnectionResetError(104, "reset"),
        Late(3),
        Declined("no money", 7),
        KeyboardInterrupt("stop"),
        ValueError("a file's name: \udc80"),
    ],
    ids=repr,
)
def test_an_exception_comes_back(error):
    """An exception comes back with its class, arguments, text and attributes."""
    back = there_and_back(error)
    assert (type(back), back.args, str(back)) == (type(error), error.args, str(error))
    assert vars(back) == vars(error)


def test_file_errors_keep_their_fields():
    """`errno`, `filename` and `filename2` of an OSError come back."""
    back = there_and_back(OSError(18, "Cross-device link", "a", None, "b"))
    assert (back.errno, back.filename, back.filename2) == (18, "a", "b")


def test_no_constructor_is_called():
    """Neither `__init__` nor `__new__` of a stored exception's class runs when it is rebuilt."""
    text = encode_error(Declined("no money", 7))
    made = Declined.made
    back = decode_error(text)
    assert (type(back), str(back), back.code) == (Declined, "no money (7)", 7)
    assert Declined.made == made


def test_a_class_is_not_imported():
    """Stored data never causes an import: an unloaded module's class becomes an ActivityError."""
    entry = {"type": "antigravity:Up", "message": "up", "args": ["up"]}
    back = decode_error(json.dumps(entry))
    assert "antigravity" not in sys.modules
    assert (type(back), str(back)) == (ActivityError, "Up: up")
    assert back.type_name == "antigravity:Up"


@pytest.mark.parametrize(
    "name", ["builtins:int", "builtins:print", "os:path", "builtins:no.such", "builtins", ":", ""]
)
def test_what_is_no_exception_class_is_not_made(name):
    """Only an exception class is made from stored data, whatever the data names."""
    back = decode_error(json.dumps({"type": name, "message": "m", "args": ["m"]}))
    assert type(back) is ActivityError


def test_classes_are_found_by_their_full_name():
    """A class is named by module and qualified name, and found by it without running code."""
    assert reference(Declined) == f"{__name__}:Declined"
    assert resolve(reference(Declined)) is Declined
    assert resolve("builtins:ValueError") is ValueError
    assert resolve("builtins:str.upper.x") is None
    assert resolve("builtins:print") is None


@pytest.mark.parametrize("thing", [Opaque(), (1, 2), {1: 2}, {"a": {3}}, math.nan])
def test_an_exception_that_is_not_plain(thing):
    """An exception that holds what JSON cannot becomes an ActivityError with type and text."""
    for error in (Holder(thing), ValueError(thing)):
        back = there_and_back(error)
        assert type(back) is ActivityError
        assert (back.type_name, back.message) == (reference(type(error)), str(error))


def test_a_structure_that_changes_is_shown_whole():
    """Where no single member changed, the message shows the whole value."""
    for value, back in (({"a": 1}, {"b": 1}), ([1], [1, 2])):
        hint = Annotated[Any, PlainSerializer(lambda _, back=back: back)]
        with pytest.raises(EncodingError) as caught:
            Value(hint, "It").encode(value)
        kind = type(value).__name__
        assert str(caught.value) == (
            f"It cannot be stored: {kind} {value!r} would become {kind} {back!r} after a round "
            f"trip through JSON. {CURE}"
        )


def test_an_exception_that_cannot_be_rebuilt():
    """An exception whose class no longer tells the same story becomes an ActivityError."""
    entry = {"type": reference(Fussy), "message": "fussy x", "args": []}
    assert type(decode_error(json.dumps(entry))) is ActivityError
    entry = {"type": "builtins:UnicodeError", "message": "m", "args": ["m"], "state": 5}
    assert type(decode_error(json.dumps(entry))) is ActivityError
    surrogates = UnicodeEncodeError("ascii", "é", 0, 1, "ordinal")
    assert there_and_back(surrogates).message == str(surrogates)


def test_an_exception_whose_text_fails():
    """An exception whose `__str__` raises is stored all the same."""
    text = encode_error(Mute())
    assert json.loads(text)["message"] == "<its __str__ raised OSError>"
    assert type(decode_error(text)) is Mute


def raised(error, cause=None, *, bare=False):
    try:
        try:
            if cause is not None:
                raise cause
        finally:
            if bare:
                raise error from None
            raise error
    except type(error) as caught:
        return caught


def test_causes_come_back():
    """A cause comes back, given or implied, also one that counts as false."""
    error = ValueError("outer")
    error.__cause__ = Empty("inner")
    assert type(there_and_back(error).__cause__) is Empty
    assert repr(there_and_back(raised(ValueError("o"), KeyError("i"))).__cause__) == "KeyError('i')"
    assert there_and_back(raised(ValueError("o"), KeyError("i"), bare=True)).__cause__ is None


def test_the_chain_of_causes_is_bounded():
    """Only so many causes are stored, however long the chain, or a circle."""
    error = ValueError("0")
    error.__cause__ = error
    back, depth = there_and_back(error), 0
    while back.__cause__ is not None:
        back, depth = back.__cause__, depth + 1
    assert depth == MAX_CAUSES


def test_a_stored_cause_is_taken_as_it_is():
    """The stored text of a cause stands in place of the cause itself."""
    text = encode_error(ValueError("outer"), cause_text=encode_error(KeyError("k")))
    assert repr(decode_error(text).__cause__) == "KeyError('k')"


def test_notes_and_traceback_come_back_as_notes():
    """Notes come back, and where it was raised is one more."""
    error = raised(ValueError("boom"))
    error.add_note("mind the gap")
    first, second = there_and_back(error).__notes__
    assert first == "mind the gap"
    assert second.startswith("It was raised at\n  File ")
    assert "in raised" in second


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(
    st.sampled_from([ValueError, KeyError, OSError, TimeoutError, StopAsyncIteration, Late]),
    st.lists(plain | st.tuples(plain), max_size=3),
)
def test_storing_an_exception_never_fails(kind, args):
    """Any exception has ASCII JSON text, and comes back as its class or as ActivityError."""
    error = kind.__new__(kind, *args)
    BaseException.__setattr__(error, "args", tuple(args))
    text = encode_error(error)
    assert text.isascii()
    back = decode_error(text)
    assert type(back) in (type(error), ActivityError)
    assert str(back).endswith(str(error))


def test_the_right_number_of_wrong_names_is_refused():
    """As many arguments as parameters, but of another name, are refused like any misfit."""

    def pay(ctx, order_id: str, amount: int): ...

    with pytest.raises(ArgumentError, match="unexpected keyword argument 'amout'|missing"):
        Parameters(pay, "Activity 'pay'").encode(("ORD-1",), {"amout": 2})


def test_keyword_arguments_are_stored_in_the_order_of_the_signature():
    """The text of a call does not depend on the order in which keywords were written."""

    def pay(ctx, order_id: str, amount: int): ...

    codec = Parameters(pay, "Activity 'pay'")
    one = codec.encode((), {"amount": 2, "order_id": "a"})
    assert one == codec.encode(("a",), {"amount": 2}) == codec.encode(("a", 2), {})


def test_a_group_of_exceptions_comes_back():
    """A group comes back with its exceptions, each as a value, also a group in a group."""
    inner = ExceptionGroup("inner", [KeyError("k"), Declined("no money", 7)])
    back = there_and_back(ExceptionGroup("outer", [ValueError("v"), inner]))
    assert (type(back), back.message) == (ExceptionGroup, "outer")
    value, group = back.exceptions
    assert (type(value), value.args) == (ValueError, ("v",))
    assert [type(one) for one in group.exceptions] == [KeyError, Declined]
    assert vars(group.exceptions[1]) == vars(Declined("no money", 7))


def test_a_group_too_deep_is_still_a_value():
    """Groups in groups without end are cut, not refused."""
    error = ValueError("v")
    for _ in range(50):
        error = ExceptionGroup("g", [error])
    back = there_and_back(error)
    assert isinstance(back, ExceptionGroup)
    assert len(encode_error(back)) < 5000


class Touchy(BaseModel):
    a: int

    @field_validator("a")
    @classmethod
    def known(cls, value: int) -> int:
        return {1: 1}[value]


def test_a_validator_that_breaks_is_a_value_that_does_not_fit():
    """Whatever a validator raises, stored data is a DecodingError and a call an ArgumentError."""
    with pytest.raises(DecodingError, match="KeyError: 2"):
        Value(Touchy, "It").decode('{"a": 2}')

    def function(ctx, touchy: Touchy) -> None: ...

    with pytest.raises(ArgumentError, match="KeyError: 2"):
        Parameters(function, "It").accept(({"a": 2},), {})


@pytest.mark.parametrize("value", ["", 5, None, "a\0b", "a\udc80"])
def test_what_is_no_text(value):
    """An id or a type is a string of characters that every store keeps."""
    assert text_fault(value) is not None
    assert text_fault("Zürich 🚲") is None
