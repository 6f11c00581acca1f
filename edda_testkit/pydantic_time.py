"""Makes pydantic understand freezegun's classes, and judge past and future by the shown time.

Why it does not by itself:
* A type is looked up by identity, so a schema with `FakeDatetime` in it cannot be built.
* `PastDatetime` and its kin ask Rust for the present, which nobody can freeze, and Python only for
  the zone, as `time.localtime().tm_gmtoff`; freezegun's has none, hence a TypeError.

So the fakes get the schema of the real classes, the zone is asked for once while it is real, and
in models that mention past or future the comparison is made in Python. All of it is undone.
Absent: `TypeAdapter`s and dataclasses made before, which nothing lists: they keep the real present;
and a pydantic that is first imported under a freeze, which keeps the fakes it found.
"""

import datetime as dt
import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

__all__ = ["give_fakes_a_schema", "judge_by_shown_time"]

JUDGES = ("PastDate", "FutureDate", "PastDatetime", "FutureDatetime")
NOT_SCHEMA = frozenset({"metadata", "default", "serialization", "config"})


def give_fakes_a_schema(freezegun: Any, undo: ExitStack) -> None:
    """Let `FakeDatetime` and `FakeDate` stand for the real classes in a schema."""
    for fake, kind in ((freezegun.FakeDatetime, "datetime"), (freezegun.FakeDate, "date")):
        as_real = partial(lambda kind, _cls, _source, _handler: {"type": kind}, kind)
        fake.__get_pydantic_core_schema__ = classmethod(as_real)
        undo.callback(delattr, fake, "__get_pydantic_core_schema__")


def judge_by_shown_time(freezegun: Any, plain_models: WeakSet[type], undo: ExitStack) -> None:
    """Let `PastDatetime` and its kin agree with the clock, in models built and to be built.

    Needs pydantic to be loaded. Models that mention neither past nor future go to `plain_models`.
    """
    with real_classes(freezegun):
        pydantic, core = map(importlib.import_module, ("pydantic", "pydantic_core"))
        judges = [getattr(pydantic, name) for name in JUDGES]
        models = pydantic.BaseModel
        # The first such check asks for `time.localtime` and keeps it.
        validator = core.SchemaValidator({"type": "datetime", "now_op": "past"})
        validator.validate_python("1970-01-01T00:00:00")
    for judge in judges:
        judge_in_python(judge, undo)
    rebuild_models(models, core, plain_models, undo)


@contextmanager
def real_classes(freezegun: Any) -> Iterator[None]:
    """What pydantic loads late, and keeps as keys of its tables, must be real for good."""
    with ExitStack() as put_back:
        for module, name in ((dt, "datetime"), (dt, "date"), (time, "localtime")):
            put_back.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, getattr(freezegun, f"real_{name}"))
        yield


def judge_in_python(judge: Any, undo: ExitStack) -> None:
    """Let schemas built meanwhile compare in Python; right under real time too."""
    original = judge.__dict__["__get_pydantic_core_schema__"]

    def build(cls: Any, source: Any, handler: Any) -> Any:
        return judged(original.__func__(cls, source, handler))

    judge.__get_pydantic_core_schema__ = classmethod(build)
    undo.callback(setattr, judge, "__get_pydantic_core_schema__", original)


def rebuild_models(base: Any, core: Any, plain_models: WeakSet[type], undo: ExitStack) -> None:
    """Give models built before a validator that compares in Python."""
    schemas: dict[Any, Any] = {}
    for model in subclasses(base, plain_models):
        schema = model.__dict__.get("__pydantic_core_schema__")
        changed = judged(schema)
        if changed is not schema:
            schemas[model] = changed
        elif isinstance(schema, dict):  # else it is not complete yet, and is built later
            plain_models.add(model)
    with ExitStack() as compiling:
        for model in schemas:  # a complete model would be put into another as it was compiled
            model.__pydantic_complete__ = False
            compiling.callback(setattr, model, "__pydantic_complete__", True)
        built: list[Any] = [(model, core.SchemaValidator(schemas[model])) for model in schemas]
    for model, validator in built:
        undo.callback(setattr, model, "__pydantic_validator__", model.__pydantic_validator__)
        model.__pydantic_validator__ = validator


def subclasses(base: Any, plain_models: WeakSet[type]) -> Iterator[Any]:
    for model in base.__subclasses__():
        if model not in plain_models:
            yield model
        yield from subclasses(model, plain_models)


def judged(schema: Any) -> Any:
    """The schema with comparisons in Python; the very same one if it makes none."""
    if isinstance(schema, list | tuple):
        items = [judged(item) for item in schema]
        is_same = all(new is old for new, old in zip(items, schema, strict=True))
        return schema if is_same else type(schema)(items)
    if not isinstance(schema, dict):
        return schema
    changed = {k: v if k in NOT_SCHEMA else judged(v) for k, v in schema.items()}
    operation = changed.pop("now_op", None)
    if operation is not None:
        changed.pop("now_utc_offset", None)
        check = partial(compare, schema["type"], operation)
        function = {"type": "no-info", "function": check}
        return {"type": "function-after", "function": function, "schema": changed}
    return schema if all(changed[k] is schema[k] for k in changed) else changed


def compare(kind: str, operation: str, value: Any) -> Any:
    """Raise pydantic's own error unless `value` is before or after the present that is shown."""
    if kind == "datetime":
        now: Any = dt.datetime.now(value.tzinfo)
    else:
        now = dt.date.today()  # noqa: DTZ011 (pydantic's rule for dates: the local day)
    if (value < now) if operation == "past" else (value > now):
        return value
    raise sys.modules["pydantic_core"].PydanticKnownError(f"{kind}_{operation}")
