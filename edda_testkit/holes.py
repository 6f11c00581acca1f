"""Values with holes: `${name}` in strings, what they stand for, and what fits them.

Pure, and about JSON values only: what a golden history makes of them is in `golden_format`.
`${any}` fits anything, another name the same thing everywhere, and `$${` is a literal `${`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = [
    "ANY",
    "HOLE",
    "Pattern",
    "as_text",
    "bound",
    "escaped",
    "mapped",
    "same_up_to_order",
    "texts",
    "unify",
    "unordered",
    "without_lines",
]

ANY = "${any}"
HOLE = re.compile(r"\$(\$\{)|\$\{([\w.-]+)\}")


class Pattern(str):
    """A payload with holes: equal to every JSON text that fits them, the same for each name."""

    __slots__ = ("bindings", "is_error", "seen", "template")
    template: Any
    bindings: Mapping[str, Any]
    seen: dict[str, Any]
    is_error: bool

    @classmethod
    def of(
        cls, template: Any, bindings: Mapping[str, Any], seen: dict[str, Any], *, is_error: bool
    ) -> "Pattern":
        """The pattern of a payload; `seen` is shared by those of one history."""
        pattern = cls(as_text(bound(template, bindings)))
        pattern.template, pattern.bindings = template, bindings
        pattern.seen, pattern.is_error = seen, is_error
        return pattern

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return NotImplemented
        value = json.loads(other)
        if self.is_error:
            value = without_lines(value)
        found = dict(self.seen)
        if not unify(self.template, value, self.bindings, found):
            return False
        self.seen.update(found)
        return True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def unify(template: Any, value: Any, bindings: Mapping[str, Any], seen: dict[str, Any]) -> bool:
    """Whether a value fits a template; what its holes stood for is added to `seen`."""
    match template:
        case str():
            return _unify_text(template, value, bindings, seen)
        case dict():
            return (
                isinstance(value, dict)
                and template.keys() == value.keys()
                and all(unify(one, value[key], bindings, seen) for key, one in template.items())
            )
        case list():
            return (
                isinstance(value, list)
                and len(template) == len(value)
                and all(
                    unify(one, other, bindings, seen)
                    for one, other in zip(template, value, strict=True)
                )
            )
        case _:
            return type(template) is type(value) and bool(template == value)


def _unify_text(
    template: str, value: Any, bindings: Mapping[str, Any], seen: dict[str, Any]
) -> bool:
    if template in (value, ANY):
        return True
    whole = HOLE.fullmatch(template)
    if whole is not None and (name := whole.group(2)) is not None:
        return _agrees(name, value, bindings, seen)
    if not isinstance(value, str):
        return False
    names: list[str | None] = []
    parts: list[str] = []
    end = 0
    for hole in HOLE.finditer(template):
        parts.append(re.escape(template[end : hole.start()]))
        parts.append(r"\$\{" if hole.group(1) else "(.*?)")
        if not hole.group(1):
            names.append(hole.group(2))
        end = hole.end()
    parts.append(re.escape(template[end:]))
    found = re.fullmatch("".join(parts), value, re.DOTALL)
    return found is not None and all(
        name == "any" or _agrees(str(name), part, bindings, seen)
        for name, part in zip(names, found.groups(), strict=True)
    )


def _agrees(name: str, value: Any, bindings: Mapping[str, Any], seen: dict[str, Any]) -> bool:
    first: Any = seen.setdefault(name, bindings.get(name, value))
    return bool(first == value)


def same_up_to_order(template: Any, value: Any) -> bool:
    """Whether two values are the same but for the order of lists, as sets have none."""
    return bool(unordered(template) == unordered(value))


def unordered(value: Any) -> Any:
    """The value with its lists sorted: a set has another order in each process."""
    match value:
        case dict():
            return {key: unordered(one) for key, one in value.items()}
        case list():
            return sorted((unordered(one) for one in value), key=_sortable)
        case _:
            return value


def _sortable(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def bound(value: Any, bindings: Mapping[str, Any]) -> Any:
    """The value with each `${name}` replaced that has a binding; the others stay as they are."""

    def text(text: str) -> Any:
        whole = HOLE.fullmatch(text)
        if whole is not None and whole.group(2) in bindings:
            return bindings[whole.group(2)]  # a number stays a number
        return HOLE.sub(
            lambda hole: "${" if hole.group(1) else str(bindings.get(hole.group(2), hole.group())),
            text,
        )

    return mapped(value, text)


def without_lines(payload: Any) -> Any:
    """The stored error without what names lines: every edit moves them."""
    if not isinstance(payload, dict):
        return payload
    kept = {key: value for key, value in payload.items() if key != "traceback"}
    if isinstance(notes := kept.get("notes"), list):
        kept["notes"] = [note for note in notes if not str(note).startswith("It was raised at\n")]
        if not kept["notes"]:
            del kept["notes"]
    if "cause" in kept:
        kept["cause"] = without_lines(kept["cause"])
    if isinstance(inner := kept.get("exceptions"), list):
        kept["exceptions"] = [without_lines(one) for one in inner]
    return kept


def escaped(text: str) -> str:
    """The text, as one that has no holes."""
    return text.replace("${", "$${")


def as_text(value: Any) -> str:
    """A payload, as the engine writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def mapped(value: Any, text: Callable[[str], Any]) -> Any:
    """The JSON value with `text` applied to each string in it, keys included."""
    match value:
        case str():
            return text(value)
        case list():
            return [mapped(one, text) for one in value]
        case dict():
            return {str(text(key)): mapped(one, text) for key, one in value.items()}
        case _:
            return value


def texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    match value:
        case str():
            yield value
        case list():
            for one in value:
                yield from texts(one)
        case dict():
            for key, one in value.items():
                yield key
                yield from texts(one)
