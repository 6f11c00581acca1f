"""What transactional activities write in memory: a mapping, and an overlay while it is not sure."""

from collections.abc import Iterator, MutableMapping
from typing import Any

__all__ = ["Overlay"]


class Overlay(MutableMapping[Any, Any]):
    """Changes to `tables`, kept apart until `apply`."""

    def __init__(self, tables: dict[Any, Any]) -> None:
        self._tables = tables
        self._written: dict[Any, Any] = {}
        self._removed: set[Any] = set()

    def __repr__(self) -> str:
        return f"<Overlay: {len(self._written)} written, {len(self._removed)} removed>"

    def apply(self) -> None:
        """Make the changes."""
        for key in self._removed:
            self._tables.pop(key, None)
        self._tables.update(self._written)

    def __getitem__(self, key: Any) -> Any:
        if key in self._removed:
            raise KeyError(key)
        return self._written[key] if key in self._written else self._tables[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._removed.discard(key)
        self._written[key] = value

    def __delitem__(self, key: Any) -> None:
        if key not in self:
            raise KeyError(key)
        self._written.pop(key, None)
        self._removed.add(key)

    def __iter__(self) -> Iterator[Any]:
        return iter([key for key in {**self._tables, **self._written} if key not in self._removed])

    def __len__(self) -> int:
        return sum(1 for _ in self)
