"""What workflow code must not do: the categories, and the cure of each.

One vocabulary for `@workflow(allow=[...])`, for `# edda: allow[...]`, for the guard and for the
lint. Its names are public and stable. Absent: finding anything, which is the kit's.
"""

from collections.abc import Iterable
from types import MappingProxyType

from edda.errors import DefinitionError

__all__ = ["CATEGORIES", "as_categories"]

# By name: the sentence that says what to do instead.
CATEGORIES = MappingProxyType(
    {
        "clock": "Use ctx.now() for the time, and `await sleep(ctx, seconds)` to wait.",
        "random": "Use ctx.random, or ctx.uuid4() for an id.",
        "environment": "Pass it to the workflow as an argument, or read it in an activity.",
        "files": "Make it an activity, and await the activity.",
        "network": "Make it an activity, and await the activity.",
        "process": "Make it an activity, and await the activity.",
        "threads": "Put the blocking call into a plain `def` activity, which runs in a thread; "
        "in the workflow use asyncio.gather or asyncio.TaskGroup.",
        "hash": "Use sorted(...), or a key that the data carries: hashes, addresses and the order "
        "of sets differ from process to process.",
        "asyncio": "In a workflow only edda's waits, activities and plain asyncio on the running "
        "loop work; make the rest an activity.",
    }
)


def as_categories(names: Iterable[str], role: str) -> frozenset[str]:
    """The names as a set. Raises `DefinitionError` for one that is no category."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DefinitionError(
            f"{role} takes a list of categories, such as allow=['clock'], and got {names!r}."
        )
    listed = list(names)
    for name in listed:
        if not isinstance(name, str) or name not in CATEGORIES:
            raise DefinitionError(
                f"{role} got {name!r}, which is no category. The categories are: "
                f"{', '.join(CATEGORIES)}."
            )
    return frozenset(listed)
