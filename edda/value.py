"""`@value`: classes of values, frozen for who checks types and quick to make for who runs them.

A frozen dataclass sets each of its fields past its own `__setattr__`, which takes three times as
long as setting them does; a step of an instance makes a dozen. So nothing stops a program at run
time that sets a field of one: the type checker does, before.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

__all__ = ["value"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """Make a class a dataclass with slots, equal and hashed by its fields."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
