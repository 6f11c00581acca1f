"""The message log of the PostgreSQL store: accepting events, the shapes of waits, and expiry.

Which shapes a type has is remembered here and checked by the server, in the transaction that
relies on it: one that knows too few is told so, reads them anew and begins again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from edda.events import ENDED, Envelope
from edda.ports import Commit, Delivered, Judge
from edda.stores.postgres_database import Database
from edda.stores.postgres_rows import as_facets, as_stored_wait, as_wanted, as_words
from edda.stores.sqlite_rows import (
    COMPETING,
    EVERYBODY,
    QUEUE,
    as_address,
    as_facet,
    as_shape,
    is_same,
)

__all__ = ["PostgresLog"]

logger = logging.getLogger("edda.store")

# Events that expire in one transaction, and that are read at once to index the log: others must
# get at the types they lock in between.
EXPIRING = 500
INDEXING = 1000

# What a verdict is about: an event by its number, from 1, and a wait by its key.
Asked = dict[tuple[int, int], str | None]


class PostgresLog:
    """Accepted messages, and what waits look at; `now` is for the server, None for its own."""

    def __init__(self, database: Database, now: Callable[[], datetime | None]) -> None:
        self.shapes: dict[str, tuple[tuple[int, str], ...]] = {}
        self._database = database
        self._now = now
        self._making = asyncio.Lock()

    # ---- Shapes --------------------------------------------------------------------------------

    async def learn(self, types: Iterable[str], *, again: bool = False) -> None:
        """Know the shapes of these types."""
        wanted = [type for type in types if again or type not in self.shapes]
        if not wanted:
            return
        found: dict[str, list[tuple[int, str]]] = {type: [] for type in wanted}
        for key, type, paths in await self._database.rows("shapes", wanted):
            found[type].append((key, paths))
        self.shapes |= {type: tuple(shapes) for type, shapes in found.items()}

    def counts(self, types: Iterable[str]) -> list[int]:
        """How many shapes of each type are known."""
        return [len(self.shapes[type]) for type in types]

    async def make_shapes(self, commit: Commit) -> None:
        """See to it that a commit's waits have shapes, and its queues; and know them."""
        wanted = dict.fromkeys((wait.type, as_shape(wait)) for wait in commit.waits)
        wanted |= {
            (one.type, COMPETING): None for one in commit.subscriptions if one.mode == "competing"
        }
        if not self._missing(wanted):
            return
        async with self._making:  # of many turns that meet a new shape at once, one makes it
            missing = self._missing(wanted)
            types = {type for type, _ in missing}
            await self.learn(types, again=True)
            for type, paths in self._missing(missing):
                await self._make_shape(type, paths)
            await self.learn(types, again=True)

    def _missing(self, wanted: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        return [
            (type, paths)
            for type, paths in wanted
            if all(paths != known for _, known in self.shapes.get(type, ()))
        ]

    async def _make_shape(self, type: str, paths: str) -> None:
        """Index the log so far for the first wait of this shape ever."""
        names = ("lock_types", "add_shape", "messages_of_type", "add_facets")
        async with self._database.locking(*names) as run:
            await run("lock_types", [type])
            added = await run("add_shape", type, paths)
            after = 0
            while added:
                rows = await run("messages_of_type", type, after, INDEXING)
                if not rows:
                    break
                after = rows[-1][0]
                facets = [
                    (as_wanted(found), as_address(target, paths), position)
                    for position, target, text in rows
                    if (found := as_facet(Envelope(type, "", "", text), paths)) is not None
                ]
                columns = [list(column) for column in zip(*facets, strict=True)] or [[], [], []]
                await run("add_facets", added[0][0], *columns)

    # ---- Accepting -----------------------------------------------------------------------------

    async def deliver(self, envelopes: Sequence[Envelope], judge: Judge | None) -> list[Delivered]:
        """Accept events, all or none, and wake the instances whose waits they fit."""
        if not envelopes:
            return []
        types = sorted({envelope.type for envelope in envelopes})
        await self.learn(types)
        asked: Asked = {}
        while True:
            rows = await self._deliver(envelopes, types, judge, asked)
            match rows[0]["outcome"]:
                case "stale":
                    await self.learn(types, again=True)
                case "done":
                    return [_delivered(row, envelopes[row["event"] - 1]) for row in rows]
                case _ if any(row["outcome"] == "ask" for row in rows):
                    assert judge is not None
                    for row in rows:
                        if row["outcome"] == "ask":
                            wait = as_stored_wait(row["wait_words"])
                            verdict = judge(wait, envelopes[row["event"] - 1])
                            asked[row["event"], row["wait"]] = verdict
                case _:
                    refused = {row["event"] for row in rows}
                    return [
                        Delivered(None, (), _refusals(asked, number) if number in refused else ())
                        for number in range(1, len(envelopes) + 1)
                    ]

    async def _deliver(
        self,
        envelopes: Sequence[Envelope],
        types: list[str],
        judge: Judge | None,
        asked: Asked,
    ) -> list[Any]:
        facets = as_facets(envelopes, self.shapes)
        return await self._database.rows(
            "deliver",
            self._now(),
            as_words(envelopes),
            types,
            self.counts(types),
            facets.events,
            facets.shapes,
            facets.founds,
            facets.addresses,
            judge is not None,
            [event for event, _ in asked],
            [wait for _, wait in asked],
            list(asked.values()),
        )

    # ---- Expiry --------------------------------------------------------------------------------

    async def expire(self, before: datetime) -> int:
        """Drop events accepted before an instant that no live instance could still take."""
        total = 0
        while found := await self._database.rows("expiring", before, EXPIRING, None):
            count = await self._drop(before, found)
            total += count
            if not count:
                break
        return total

    async def _drop(self, before: datetime, found: Sequence[Any]) -> int:
        """Drop those of these that nobody wants even when nobody can come between."""
        types = sorted({row["type"] for row in found})
        names = ("lock_types", "shapes", "expiring", "drop_facets", "drop_messages")
        async with self._database.locking(*names) as run:
            await run("lock_types", types)
            shapes = await run("shapes", types)
            among = [row["position"] for row in found]
            rows = await run("expiring", before, EXPIRING, among)
            facets = {
                (shape, as_wanted(has), address, row["position"])
                for row in rows
                for shape, type, paths in shapes
                if type == row["type"] and (has := as_facet(_envelope(row), paths)) is not None
                for address in (EVERYBODY, QUEUE, as_address(row["target"], paths))
            }
            columns = [list(column) for column in zip(*facets, strict=True)] or [[]] * 4
            await run("drop_facets", *columns)
            positions = [row["position"] for row in rows]
            await run("drop_messages", positions, ENDED)
        return len(rows)


def _envelope(row: Any) -> Envelope:
    return Envelope(row["type"], row["source"], row["id"], row["text"], row["target"])


def _refusals(asked: Asked, number: int) -> tuple[str, ...]:
    verdicts = (
        verdict for (event, _), verdict in sorted(asked.items(), key=_key) if event == number
    )
    return tuple(dict.fromkeys(filter(None, verdicts)))


def _key(entry: tuple[tuple[int, int], str | None]) -> tuple[int, int]:
    return entry[0]


def _delivered(row: Any, envelope: Envelope) -> Delivered:
    if row["position"] is not None:
        return Delivered(row["position"], tuple(row["woken"]))
    stored = row["text"]
    if stored is not None and not is_same(stored, envelope.text):
        logger.warning(
            "The event %r of %r came again with other content; the first one stands.",
            envelope.id,
            envelope.source,
        )
    return Delivered(None, is_duplicate=True)
