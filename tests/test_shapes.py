"""Whether dataclasses hold what their annotations promise: the check behind the reader of files."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from edda.shapes import misfit


@dataclass(frozen=True, slots=True)
class Inner:
    kind: ClassVar[Literal["inner"]] = "inner"
    word: str
    size: float | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    number: int
    inner: Inner | None = None
    mode: Literal["a", "b"] | None = "a"


@pytest.mark.parametrize(
    "value",
    [
        Inner("x"),
        Inner("x", 1.5),
        Inner("x", 2),
        Outer(1),
        Outer(1, Inner("x"), "b"),
        Outer(1, None, None),
    ],
)
def test_what_fits_has_no_fault(value):
    """Classes, unions, None, literals, nested dataclasses, and an int where a float may be."""
    assert misfit(value) is None


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (Inner(5), "word must be str, and is int"),
        (Inner("x", "2"), "size must be float or NoneType, and is str"),
        (Inner("x", True), "size must be float or NoneType, and is bool"),
        (Outer(True), "number must be int, and is bool"),
        (Outer(1.0), "number must be int, and is float"),
        (Outer(1, "x"), "inner must be Inner or NoneType, and is str"),
        (Outer(1, Inner(None)), "word must be str, and is NoneType"),
        (Outer(1, None, "c"), "mode must be NoneType or 'a' or 'b', and is str"),
        (Outer(1, None, ["a"]), "mode must be NoneType or 'a' or 'b', and is list"),
    ],
)
def test_the_first_field_that_does_not_fit_is_named(value, fault):
    """The field, what it may be, and what it is; a bool is no int."""
    assert misfit(value) == fault
