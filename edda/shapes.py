"""Whether a value made of dataclasses has the types that its annotations name.

For what was read from a file: types in Python are not checked by themselves, and a history with a
number where a name belongs would fail somewhere far from the reader. Plain classes, unions,
literals and nested dataclasses are all that events are made of; ints are not bools.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["misfit"]


def misfit(value: Any) -> str | None:
    """What is wrong with the first field of a dataclass that does not fit, or None."""
    shape: Any = type(value)
    for name, kinds, literals, is_nested in _shape(shape):
        found = getattr(value, name)
        kind = type(found)
        if kind in kinds:
            if is_nested and is_dataclass(found) and (deeper := misfit(found)) is not None:
                return deeper
        elif kind is int and float in kinds:
            continue
        elif not (literals and kind is str and found in literals):
            wanted = " or ".join([one.__name__ for one in kinds] + sorted(map(repr, literals)))
            return f"{name} must be {wanted}, and is {kind.__name__}"
    return None


@cache
def _shape(kind: Any) -> list[tuple[str, tuple[type, ...], frozenset[str], bool]]:
    """The fields: a name, the classes it may be of, the texts, and whether to look inside."""
    hints = get_type_hints(kind)
    shape = []
    for field in fields(kind):
        kinds = tuple(dict.fromkeys(_kinds(hints[field.name])))
        literals = frozenset(_literals(hints[field.name]))
        shape.append((field.name, kinds, literals, any(map(is_dataclass, kinds))))
    return shape


def _kinds(hint: Any) -> Iterator[type]:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        for part in get_args(hint):
            yield from _kinds(part)
    elif origin is not Literal:
        yield origin or hint


def _literals(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    elif get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _literals(part)
