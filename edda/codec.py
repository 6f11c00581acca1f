"""Values to JSON text and back, the same on the live path as on replay (law H4).

Everything that crosses the line between a workflow and the world crosses it here: arguments,
results, event data, exceptions. A value is encoded, decoded again at once, and refused when
what comes back is not what was given, so nobody meets a silently changed type on the day of the
first replay. Types come from annotations; what is not annotated must be plain JSON.

Exceptions are values too (law H5): class, `args`, attributes and cause, and the exceptions of a
group. A class is looked up by
module and name among modules that are already loaded; nothing is imported and no constructor
with side effects is called. No pickle, no eval.
"""

import inspect
import json
import math
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import from_json
from typing_extensions import TypedDict

from edda.errors import (
    ActivityError,
    ArgumentError,
    DecodingError,
    DefinitionError,
    EncodingError,
    sentence,
)

__all__ = [
    "Parameters",
    "Value",
    "decode_error",
    "encode_error",
    "is_unicode",
    "parsed",
    "problems",
    "reference",
    "resolve",
    "result_of",
    "text_fault",
]

MAX_CAUSES = 5  # how deep a chain of them is stored
_EDDA = __file__.removesuffix("codec.py")  # whose frames are left out of what is told


class Value:
    """The codec of one type: `encode` to JSON text, `decode` back.

    `hint` is any type that pydantic understands; `what` names the value in messages
    (`"The result of activity 'charge'"`).
    """

    __slots__ = ("_adapter", "hint", "what")

    def __init__(self, hint: Any, what: str) -> None:
        self.hint = hint
        self.what = what
        self._adapter: TypeAdapter[Any] | None = None

    def __repr__(self) -> str:
        return f"<Value {self.hint!r} for {self.what}>"

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """The pydantic adapter, built at first use. Raises `DefinitionError`."""
        if self._adapter is None:
            self._adapter = _adapter(self.hint, self.what)
        return self._adapter

    def encode(self, value: Any) -> str:
        """JSON text that decodes to a value equal to this one. Raises `EncodingError`."""
        return self.cross(value)[0]

    def cross(self, value: Any) -> tuple[str, Any]:
        """The JSON text and the value as it comes back. Raises `EncodingError`."""
        adapter = self.adapter
        try:
            # No warnings: a value that is not of its annotated type is an error below. (Said as
            # "none", pydantic takes 1 µs longer.)
            # Past `dump_json` and `validate_json`, which do the same with a hundred options.
            text = adapter.serializer.to_json(value, by_alias=True, warnings=False).decode()
            back = adapter.validator.validate_json(text)
        except ValidationError as error:
            raise EncodingError(self.what, "; ".join(problems(error))) from error
        except Exception as error:  # a user's serializer may raise anything; the caller gets it
            raise EncodingError(self.what, f"{error}. {_CURE}") from error
        if not _same(value, back):
            raise EncodingError(
                self.what, f"{_first_change(value, back)} after a round trip through JSON. {_CURE}"
            )
        return text, back

    def decode(self, text: str) -> Any:
        """The value of stored text. Raises `DecodingError`."""
        adapter = self.adapter
        try:
            return adapter.validator.validate_json(text)
        except ValidationError as error:
            raise DecodingError(self.what, "; ".join(problems(error))) from error
        except Exception as error:  # a validator of the user's own may raise anything
            raise DecodingError(self.what, f"{type(error).__name__}: {error}") from error

    def same(self, one: str, other: str) -> bool:
        """Whether two texts mean equal values (a set has no order, a dict's is no matter)."""
        if one == other:
            return True
        try:
            return bool(self.decode(one) == self.decode(other))
        except DecodingError:
            return bool(json.loads(one) == json.loads(other))

    def validate(self, value: Any) -> Any:
        """A value from outside, made to fit the type. Raises pydantic's `ValidationError`."""
        return self.adapter.validate_python(value)


class Parameters:
    """The codec of a function's arguments, without its first parameter (`ctx`).

    The text is a JSON object of the arguments that were given: defaults are left out, so a new
    parameter with a default changes nothing that is stored.
    """

    __slots__ = ("_order", "_signature", "_value", "function", "names", "what")

    def __init__(self, function: Callable[..., Any], what: str) -> None:
        self.function = function
        self.what = what
        signature = inspect.signature(function)
        self._signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        self.names = tuple(self._signature.parameters)
        kinds = {parameter.kind for parameter in self._signature.parameters.values()}
        self._order = self.names if kinds <= _BY_PLACE else None
        self._value: Value | None = None

    def __repr__(self) -> str:
        return f"<Parameters {self._signature} of {self.what}>"

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The JSON object of a call's arguments. Raises `ArgumentError` or `EncodingError`."""
        return self._codec.encode(self._bind(args, kwargs))

    def accept(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Like `encode`, for a call from outside: values are made to fit their types first.

        A dict becomes the model that the parameter asks for. Raises `ArgumentError` naming each
        argument that does not fit.
        """
        given = self._bind(args, kwargs)
        adapter = self._codec.adapter
        try:
            fitting = adapter.validate_python(given)
        except ValidationError as error:
            raise ArgumentError(self.what, problems(error)) from error
        except Exception as error:  # a validator of the user's own may raise anything
            raise ArgumentError(self.what, [f"{type(error).__name__}: {error}"]) from error
        return self._codec.encode(fitting)

    def decode(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """`args` and `kwargs` for a call without `ctx`. Raises `DecodingError`."""
        given = self._codec.decode(text)
        if self._order == tuple(given):  # as most calls are: every argument, in order
            return tuple(given.values()), {}
        try:
            bound = inspect.BoundArguments(self._signature, given)
            args, kwargs = bound.args, bound.kwargs
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise DecodingError(self._codec.what, str(error)) from error
        return args, kwargs

    def named(self, text: str) -> dict[str, Any]:
        """The arguments that were given, by name. Raises `DecodingError`."""
        return dict(self._codec.decode(text))

    def same(self, one: str, other: str) -> bool:
        """Whether two texts mean equal arguments (`Value.same`)."""
        return self._codec.same(one, other)

    @property
    def _codec(self) -> Value:
        if self._value is None:
            role = f"{self.what[:1].lower()}{self.what[1:]}"
            self._value = Value(self._typed_dict(), f"A call of {role}")
        return self._value

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        if self._order is not None and len(args) + len(kwargs) == len(self._order):
            given = dict(zip(self._order, args))  # noqa: B905 - the rest is in kwargs
            given.update(kwargs)
            if tuple(given) == self._order:  # every argument, in order, as most calls give them
                return given
        try:
            return dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            expected = ", ".join(map(str, self._signature.parameters.values()))
            problem = f"{error}; it takes ({expected or 'no arguments'})"
            raise ArgumentError(self.what, [problem]) from None  # where it binds is no news

    def _typed_dict(self) -> Any:
        hints = _hints(self.function, self.what)
        fields = {}
        for name, parameter in self._signature.parameters.items():
            hint = hints.get(name, Any)
            if parameter.kind is parameter.VAR_POSITIONAL:
                hint = tuple[hint, ...]  # type: ignore[valid-type]
            elif parameter.kind is parameter.VAR_KEYWORD:
                hint = dict[str, hint]  # type: ignore[valid-type]
            fields[name] = hint
        # pydantic asks for the backport before Python 3.12.
        make: Any = TypedDict
        shape = make("Arguments", fields, total=False)
        shape.__pydantic_config__ = {"extra": "forbid", "ser_json_inf_nan": "constants"}
        return shape


def result_of(function: Callable[..., Any], what: str) -> Value:
    """The codec of what a function returns; `Any` where that is not annotated."""
    hint = _hints(function, what).get("return", Any)
    return Value(None if hint is type(None) else hint, what)


def problems(error: ValidationError) -> list[str]:
    """One readable entry a field of a validation error: `"data.amount: Input should be ..."`."""
    return [
        f"{'.'.join(map(str, entry['loc'])) or 'value'}: {entry['msg']}"
        for entry in error.errors(include_url=False, include_context=False)
    ]


def text_fault(value: object) -> str | None:
    """Why a value cannot be an id, a type or a name that every store keeps, or None."""
    if not isinstance(value, str) or not value:
        return f"must be a non-empty string, got {sentence(value)}"
    if "\0" in value or not is_unicode(value):
        return f"has a NUL or half of a surrogate pair, which no store keeps: {sentence(value)}"
    return None


def parsed(text: str) -> Any:
    """The values of JSON text. Raises `ValueError` when it is none."""
    try:
        return from_json(text)  # in a third of the time that `json.loads` takes
    except ValueError:  # also of what is nested deeper than it goes
        return json.loads(text)


def is_unicode(text: str) -> bool:
    """Whether UTF-8 has a form of the text: half a surrogate pair has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- Exceptions ------------------------------------------------------------------------------


def encode_error(
    error: BaseException, *, cause_text: str | None = None, causes: int = MAX_CAUSES
) -> str:
    """The exception as a JSON object that `decode_error` rebuilds. Never fails.

    `cause_text` is the stored text of its cause, where that is at hand.
    """
    entry: dict[str, Any] = {"type": reference(type(error)), "message": _message(error)}
    state = {key: value for key, value in vars(error).items() if key != "__notes__"}
    args = _args(error)
    if isinstance(error, BaseExceptionGroup) and causes > 0:
        args = args[:1]  # and the rest of them, each as a value of its own
        entry["exceptions"] = [
            json.loads(encode_error(one, causes=causes - 1)) for one in error.exceptions
        ]
    if _is_plain(args) and _is_plain(state):
        entry["args"] = args
        if state:
            entry["state"] = state
    if notes := getattr(error, "__notes__", None):
        entry["notes"] = [str(note) for note in notes]
    if error.__traceback__ is not None:
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if not frame.filename.startswith(_EDDA)]
        entry["traceback"] = "".join(traceback.format_list(theirs or frames))
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
        cause = error.__context__
    if cause_text is not None:
        entry["cause"] = json.loads(cause_text)
    elif cause is not None and causes > 0:
        entry["cause"] = json.loads(encode_error(cause, causes=causes - 1))
    # ASCII: a message may hold half a surrogate pair (a file's name), which UTF-8 cannot.
    return json.dumps(entry, separators=(",", ":"))


def decode_error(text: str) -> BaseException:
    """The exception of stored text: its own class where that is loaded, else `ActivityError`."""
    return _rebuild(json.loads(text))


def reference(kind: type) -> str:
    """How a class is named in stored data: `module:qualified name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def resolve(name: str) -> type | None:
    """The class of that name among modules that are loaded already, or None."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        # `vars`, not getattr: looking must not run a module's or a class's own code.
        found = vars(found).get(part) if isinstance(found, type | type(sys)) else None
    return found if isinstance(found, type) else None


def _rebuild(entry: dict[str, Any]) -> BaseException:
    error = _instance(entry)
    if error is None:
        error = ActivityError(entry["type"], entry["message"], entry.get("traceback", ""))
    for note in entry.get("notes", ()):
        error.add_note(note)
    if "traceback" in entry:
        error.add_note(f"It was raised at\n{entry['traceback'].rstrip()}")
    if "cause" in entry:
        error.__cause__ = _rebuild(entry["cause"])
    return error


def _instance(entry: dict[str, Any]) -> BaseException | None:
    kind = resolve(entry["type"])
    if "args" not in entry or kind is None or not issubclass(kind, BaseException):
        return None
    try:
        args = entry["args"]
        if issubclass(kind, BaseExceptionGroup):
            args = [*args, [_rebuild(one) for one in entry["exceptions"]]]
        error: BaseException = _builtin(kind).__new__(kind, *args)
        if not error.args:  # OSError leaves them to a class's own __init__
            BaseException.__setattr__(error, "args", tuple(args))
        vars(error).update(entry.get("state", {}))
        faithful = _message(error) == entry["message"]
    except Exception:  # it cannot be rebuilt: it becomes an ActivityError
        return None
    return error if faithful else None


def _builtin(kind: Any) -> Any:
    # The base whose `__new__` is Python's own: a user's constructor must not run.
    while kind.__module__ != "builtins":
        kind = kind.__base__
    return kind


def _args(error: BaseException) -> list[Any]:
    # OSError keeps the names of files outside `args`, where only its `__new__` can put them.
    if isinstance(error, OSError) and error.filename is not None:
        return [*error.args, error.filename, None, error.filename2]
    return list(error.args)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # the message says so
        return f"<its __str__ raised {type(broken).__name__}>"


# ---- Helpers ---------------------------------------------------------------------------------

_CURE = "Annotate it with a type that pydantic can store, or pass plain JSON values."


# Where all may be given by place, `Signature.bind` is spared: it is most of a call's cost.
_BY_PLACE = {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def _is_plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def _hints(function: Callable[..., Any], what: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"{what}: the annotation {error.name!r} cannot be found. Import it at run time too "
            f"(not only under TYPE_CHECKING), or define the class at module level."
        ) from error


@lru_cache(maxsize=1024)
def _cached(hint: Any) -> TypeAdapter[Any]:
    return _build(hint)


def _build(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config={"ser_json_inf_nan": "constants"})
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(hint)  # a model, dataclass or TypedDict has a config of its own


def _adapter(hint: Any, what: str) -> TypeAdapter[Any]:
    try:
        try:
            return _cached(hint)
        except TypeError:  # an unhashable hint, e.g. Annotated[int, {...}]
            return _build(hint)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        first = str(error).splitlines()[0]
        raise DefinitionError(
            f"{what}: pydantic has no schema for the annotation {sentence(hint)} ({first}). "
            f"Use a type that can be stored as JSON: a model, a dataclass or plain values."
        ) from error


def _same(given: Any, back: Any) -> bool:
    try:
        if given == back:
            return True
    except Exception:  # they cannot be compared: refused by the caller
        return False
    return type(given) is type(back) and _same_parts(given, back)


def _same_parts(given: Any, back: Any) -> bool:
    match given:
        case float():
            return math.isnan(given) and math.isnan(back)
        case list() | tuple():
            return len(given) == len(back) and all(map(_same, given, back))
        case dict():
            return given.keys() == back.keys() and all(
                _same(value, back[key]) for key, value in given.items()
            )
    state, other = getattr(given, "__dict__", None), getattr(back, "__dict__", None)
    return bool(state) and _same(state, other)


def _first_change(given: Any, back: Any, path: str = "") -> str:
    members: list[tuple[str, Any, Any]] = []
    if type(given) is type(back) and isinstance(given, dict):
        dot = f"{path}." if path else ""
        members = [(f"{dot}{key}", given[key], back[key]) for key in given if key in back]
    elif type(given) is type(back) and isinstance(given, list | tuple):
        members = [(f"{path}[{at}]", *pair) for at, pair in enumerate(zip(given, back))]  # noqa: B905
    for inner, value, other in members:
        if not _same(value, other):
            return _first_change(value, other, inner)
    where = f"{path}: " if path else ""
    return (
        f"{where}{type(given).__name__} {sentence(given)} would become "
        f"{type(back).__name__} {sentence(back)}"
    )
