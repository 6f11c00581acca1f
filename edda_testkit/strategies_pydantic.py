"""JSON values that a pydantic type accepts, as a Hypothesis strategy, read off its core schema.

What comes over the wire is JSON, so JSON is what is made: under the names that validation reads,
never by way of a model's constructor or its serializers. Constraints that the schema states are
met by construction; what only code knows (validators) is tried out, and refused values dropped.

Recursion is unrolled `DEEPEST` times. What cannot be made is a `StrategyError` that names the
field. Absent: CloudEvents, and anything of a simulation.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaError, SchemaValidator, core_schema

from edda_testkit.errors import StrategyError
from edda_testkit.strategies_judge import Judge, accepts
from edda_testkit.strategies_scalars import SCALARS, JsonStrategy, any_json, special, text

__all__ = ["json_values"]

Schema = Mapping[str, Any]

# How often a type may hold itself, and how long a list grows beyond what it must.
DEEPEST = 3
LONGER = 5

# What validators want of a text is rarely met by chance: shapes to try, with a sample of each.
SHAPES = {
    r"[A-Z]{1,8}": "ABC",
    r"[a-z]{1,8}": "abc",
    r"[0-9]{1,12}": "1234",
    r"[A-Z]{2,3}-?[0-9]{1,6}": "AB-12",
    r"[a-z]{1,8}@example\.com": "abc@example.com",
    r"https://example\.com/[a-z]{0,8}": "https://example.com/abc",
}


def json_values(adapter: TypeAdapter[Any], what: str, fixed: Mapping[str, Any]) -> JsonStrategy:
    """JSON values that `adapter` accepts; `fixed` gives top-level fields a strategy or a value.

    Raises `StrategyError` naming the field that cannot be made.
    """
    walk = _Walk(what, fixed)
    made = walk.strategy(adapter.core_schema, _Where())
    if unknown := sorted(set(fixed) - walk.given):
        raise StrategyError(f"{what} has no field {', '.join(map(repr, unknown))} to be given.")
    return made.filter(Judge(lambda value: accepts(adapter, value), f"a value of {what}"))


class _TooDeep(StrategyError):  # noqa: N818 - caught here, and seen by nobody
    """Recursion has gone deep enough: take the way out, if there is one."""


@dataclass(frozen=True)
class _Where:
    """A place in the schema: its path for messages, and what holds there."""

    path: str = "data"
    depth: int = 0
    config: Schema = field(default_factory=dict)

    def at(self, step: str) -> "_Where":
        return replace(self, path=f"{self.path}{step}")


@dataclass
class _Walk:
    what: str
    fixed: Mapping[str, Any]
    given: set[str] = field(default_factory=set)
    definitions: dict[str, Schema] = field(default_factory=dict)
    unrolled: dict[tuple[str, int], JsonStrategy] = field(default_factory=dict)

    def strategy(self, schema: Schema, where: _Where) -> JsonStrategy:
        """The strategy of one node of the schema."""
        kind: str = schema["type"]
        if (scalar := SCALARS.get(kind)) is not None:
            return self._checked(lambda: scalar(schema, where.config), where)
        walk = getattr(self, f"_{kind.replace('-', '_')}", None)
        if walk is None:
            raise self._impossible(where, f"{kind!r} has no form in JSON")
        made: JsonStrategy = walk(schema, where)
        return made

    # ---- Wrappers ------------------------------------------------------------------------------

    def _inner(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self.strategy(schema["schema"], where)

    _default = _custom_error = _inner

    def _model(self, schema: Schema, where: _Where) -> JsonStrategy:
        where = replace(where, config=schema.get("config", {}))
        return self.strategy(schema["schema"], where)

    _dataclass = _model

    def _definitions(self, schema: Schema, where: _Where) -> JsonStrategy:
        self.definitions |= {one["ref"]: one for one in schema["definitions"]}
        return self.strategy(schema["schema"], where)

    def _definition_ref(self, schema: Schema, where: _Where) -> JsonStrategy:
        ref = schema["schema_ref"]
        if where.depth > DEEPEST:
            raise _TooDeep(f"{self.what}: {where.path} holds itself without end.")
        key = (ref, where.depth)
        if key not in self.unrolled:
            deeper = replace(where, depth=where.depth + 1)
            self.unrolled[key] = self.strategy(self.definitions[ref], deeper)
        return self.unrolled[key]

    def _nullable(self, schema: Schema, where: _Where) -> JsonStrategy:
        try:
            return st.none() | self._inner(schema, where)
        except _TooDeep:
            return st.none()

    def _json_or_python(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self.strategy(schema["json_schema"], where)

    def _lax_or_strict(self, schema: Schema, where: _Where) -> JsonStrategy:
        try:
            return self.strategy(schema["lax_schema"], where)
        except _TooDeep:
            raise
        except StrategyError:
            return self.strategy(schema["strict_schema"], where)

    def _chain(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self._tried(self.strategy(schema["steps"][0], where), schema, where)

    def _json(self, schema: Schema, where: _Where) -> JsonStrategy:
        inner = self._inner(schema, where) if "schema" in schema else any_json()
        return inner.map(json.dumps)

    # ---- Choices -------------------------------------------------------------------------------

    def _union(self, schema: Schema, where: _Where) -> JsonStrategy:
        choices = [one[0] if isinstance(one, tuple) else one for one in schema["choices"]]
        return self._first_possible(choices, where)

    def _tagged_union(self, schema: Schema, where: _Where) -> JsonStrategy:
        refs = [one for one in schema["choices"].values() if not isinstance(one, str | int)]
        distinct = [one for at, one in enumerate(refs) if one not in refs[:at]]
        return self._tried(self._first_possible(distinct, where), schema, where)

    def _first_possible(self, choices: Sequence[Schema], where: _Where) -> JsonStrategy:
        """One of the members that can come from JSON at all."""
        made, faults = [], []
        for choice in choices:
            try:
                made.append(self.strategy(choice, where))
            except StrategyError as error:
                faults.append(error)
        if not made:
            raise next((one for one in faults if isinstance(one, _TooDeep)), faults[0])
        return st.one_of(made)

    # ---- Containers ----------------------------------------------------------------------------

    def _list(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self._items(schema, where, lambda items, sizes: st.lists(items, **sizes))

    _generator = _deque = _list

    def _set(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self._items(
            schema, where, lambda items, sizes: st.lists(items, **sizes, unique_by=json.dumps)
        )

    _frozenset = _set

    def _items(
        self, schema: Schema, where: _Where, make: Callable[[Any, Any], JsonStrategy]
    ) -> JsonStrategy:
        sizes = _sizes(schema)
        try:
            items = (
                self.strategy(schema["items_schema"], where.at("[]"))
                if "items_schema" in schema
                else any_json()
            )
        except _TooDeep:
            if sizes["min_size"]:
                raise
            return st.just([]).map(list)
        return self._checked(lambda: make(items, sizes), where)

    def _tuple(self, schema: Schema, where: _Where) -> JsonStrategy:
        items = [self.strategy(one, where.at("[]")) for one in schema["items_schema"]]
        many = schema.get("variadic_item_index")
        if many is None:
            return st.tuples(*items).map(list)
        fixed = len(items) - 1
        sizes = {name: max(0, size - fixed) for name, size in _sizes(schema).items()}
        before, after = items[:many], items[many + 1 :]
        parts = st.tuples(st.tuples(*before), st.lists(items[many], **sizes), st.tuples(*after))
        return parts.map(lambda drawn: [*drawn[0], *drawn[1], *drawn[2]])

    def _dict(self, schema: Schema, where: _Where) -> JsonStrategy:
        sizes = _sizes(schema)
        try:
            keys = (
                self.strategy(schema["keys_schema"], where.at(".<key>"))
                if "keys_schema" in schema
                else text()
            )
            values = (
                self.strategy(schema["values_schema"], where.at(".<value>"))
                if "values_schema" in schema
                else any_json()
            )
        except _TooDeep:
            if sizes["min_size"]:
                raise
            return st.builds(dict)
        return self._checked(lambda: st.dictionaries(keys.map(_as_key), values, **sizes), where)

    _counter = _ordered_dict = _dict

    # ---- Records -------------------------------------------------------------------------------

    def _model_fields(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self._record(list(schema["fields"].items()), where)

    def _typed_dict(self, schema: Schema, where: _Where) -> JsonStrategy:
        where = replace(where, config=schema.get("config", where.config))
        is_total = schema.get("total", True)
        fields = [(name, {"required": is_total, **one}) for name, one in schema["fields"].items()]
        return self._record(fields, where)

    def _dataclass_args(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self._named(schema["fields"], where)

    _named_tuple = _dataclass_args

    def _call(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self.strategy(schema["arguments_schema"], where)

    def _arguments(self, schema: Schema, where: _Where) -> JsonStrategy:
        return self._named(schema["arguments_schema"], where)

    def _named(self, fields: Sequence[Schema], where: _Where) -> JsonStrategy:
        return self._record([(one["name"], one) for one in fields if one.get("init", True)], where)

    def _record(self, fields: Sequence[tuple[str, Schema]], where: _Where) -> JsonStrategy:
        required: dict[str, JsonStrategy] = {}
        optional: dict[str, JsonStrategy] = {}
        paths: dict[str, list[str | int]] = {}
        for name, one in fields:
            paths[name] = path = _path(name, one, where.config)
            known = next((key for key in (name, path[0]) if key in self.fixed), None)
            if known is not None and where.path == "data":
                self.given.add(str(known))
                required[name] = _as_strategy(self.fixed[str(known)])
                continue
            has_default = not one.get("required", one["schema"]["type"] != "default")
            try:
                made = self.strategy(one["schema"], where.at(f".{path[-1]}"))
            except _TooDeep:
                if not has_default:
                    raise
            else:
                (optional if has_default else required)[name] = made
        record = st.fixed_dictionaries(required, optional=optional)
        if all(path == [name] for name, path in paths.items()):
            return record
        return record.map(lambda drawn: _placed(drawn, paths))

    # ---- Functions -----------------------------------------------------------------------------

    def _validated(self, schema: Schema, where: _Where) -> JsonStrategy:
        known = special(schema)
        if known is not None:
            return known
        return self._tried(self._inner(schema, where), schema, where)

    _function_after = _function_before = _function_wrap = _validated

    def _function_plain(self, schema: Schema, where: _Where) -> JsonStrategy:
        known = special(schema)
        if known is None:
            function = schema["function"]["function"]
            name = getattr(function, "__qualname__", repr(function))
            raise self._impossible(where, f"only the function {name}() knows what it accepts")
        return known

    def _tried(self, made: JsonStrategy, schema: Schema, where: _Where) -> JsonStrategy:
        """Without what the validators of this node refuse, as far as they can be asked here."""
        if schema.get("function", {}).get("type") == "with-info" or where.path == "data":
            return made  # it may look at other fields; the whole is judged in the end
        whole = core_schema.definitions_schema(
            _as_core(schema), [_as_core(one) for one in self.definitions.values()]
        )
        try:
            validator = SchemaValidator(whole, _as_core(where.config))
        except SchemaError:
            return made
        if schema.get("schema", {}).get("type") == "str":
            liked = [one for one, text in SHAPES.items() if _refusal(validator, text) is None]
            if len(liked) < len(SHAPES):
                made = st.one_of(made, *(st.from_regex(one, fullmatch=True) for one in liked))
        return made.filter(
            Judge(lambda value: _refusal(validator, value), f"right for {where.path}")
        )

    # ---- Trouble -------------------------------------------------------------------------------

    def _checked(self, make: Callable[[], JsonStrategy], where: _Where) -> JsonStrategy:
        try:
            made = make()
            made.validate()
        except (HypothesisException, ValueError, OverflowError, re.error) as error:
            raise self._impossible(where, str(error)) from error
        return made

    def _impossible(self, where: _Where, reason: str) -> StrategyError:
        name = where.path.removeprefix("data.")
        return StrategyError(
            f"No values can be made for {where.path!r} of {self.what}: {reason}.\n"
            f"Give it yourself: fields={{{name.partition('.')[0]!r}: strategy}}."
        )


_MISSING = object()


def _as_core(schema: Any) -> Any:
    return schema


def _refusal(validator: SchemaValidator, value: Any) -> str | None:
    try:
        validator.validate_json(json.dumps(value, allow_nan=False))
    except ValidationError as error:
        return str(error.errors(include_url=False, include_context=False)[0]["msg"])
    except Exception:  # it needs more than is here; the whole is judged in the end
        return None
    return None


def _sizes(schema: Schema) -> dict[str, Any]:
    least = schema.get("min_length") or 0
    most = schema.get("max_length")
    # Items that turn out equal shrink a set, and `Judge` refuses it.
    return {"min_size": least, "max_size": least + LONGER if most is None else most}


def _as_key(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_strategy(given: Any) -> JsonStrategy:
    return given if isinstance(given, st.SearchStrategy) else st.just(given)


def _path(name: str, one: Schema, config: Schema) -> list[str | int]:
    """Where validation looks for a field: its name, its alias, or the first of its paths."""
    alias = one.get("validation_alias")
    if alias is None or config.get("validate_by_alias") is False:
        return [name]
    if isinstance(alias, str):
        return [alias]
    return list(alias[0] if isinstance(alias[0], list) else alias)


def _placed(drawn: Mapping[str, Any], paths: Mapping[str, Sequence[str | int]]) -> Any:
    document: Any = {}
    for name, value in drawn.items():
        _put(document, paths[name], value)
    return document


def _put(into: Any, path: Sequence[str | int], value: Any) -> None:
    step, *rest = path
    if isinstance(into, list):
        assert isinstance(step, int)
        into += [None] * (step + 1 - len(into))
        is_there = into[step] is not None
    else:
        is_there = step in into
    if not rest:
        into[step] = value
        return
    if not is_there:
        into[step] = [] if isinstance(rest[0], int) else {}
    _put(into[step], rest, value)
