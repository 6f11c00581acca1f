"""PostgreSQL as a store: the contract, and what is its own: many connections, machines, faults.

Run as a program, this module is the other process of some tests: `test_postgres.py VERB ...`.
"""

import asyncio
import contextlib
import functools
import json
import os
import random
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from edda import EddaApp, activity, wait_event, workflow
from edda.codec import decode_error
from edda.commands import ActivityAsk, Result
from edda.doors import SystemClock
from edda.errors import (
    HistoryFormatError,
    LeaseLost,
    StoreError,
    StoreUnavailableError,
    StoreUrlError,
    StoreVersionError,
)
from edda.events import Envelope
from edda.history import Asked, Finished, Started
from edda.ports import Changed, Commit, NewInstance, Status, Subscription, Wait
from edda.stores import postgres_signals
from edda.stores.postgres import PostgresStore
from edda.stores.postgres_database import VERSION, Database
from edda_testkit import contract
from tests.test_stores import takes_and_ends

ROOT = Path(__file__).resolve().parents[1]
CHECKS = contract.checks()
PAID = Wait("paid:1", "paid")


@contextlib.asynccontextmanager
async def opened(url, count=1):
    """Stores on one schema, each with connections of its own, as in other processes."""
    async with contextlib.AsyncExitStack() as stack:
        stores = []
        for _ in range(count):
            clock = SystemClock()
            stores.append(PostgresStore(url, clock, follow=clock.follow))
            await stores[-1].open()
            stack.push_async_callback(stores[-1].close)
        yield stores[0] if count == 1 else stores


def new(id, worker=None, lease_seconds=3600):
    started = Started(0, datetime.now(UTC), "w", "{}", 1)
    return NewInstance(id, "w", started, worker, lease_seconds)


def event(id, type="paid", data=None, to=None):
    text = json.dumps({"type": type, "id": id, "source": "shop", "data": data})
    return Envelope(type, "shop", id, text, to)


def step(lease, seq, status=Status.RUNNING, *, release=False):
    at = datetime.now(UTC)
    happened = (
        Finished(seq, at, Result("1"))
        if status.is_final
        else Asked(seq, at, ActivityAsk(f"pay:{seq}", "pay", "{}", "flow.py:1"))
    )
    return Commit(lease, seq, (happened,), status, (), (), None, release)


def look(lease, *waits, length=1, release=False, **more):
    options = {"taken": (), **more}
    taken = options.pop("taken")
    status = Status.WAITING_FOR_EVENT
    return Commit(lease, length, (), status, waits, taken, None, release, **options)


async def run_sql(url, *statements):
    connection = await asyncpg.connect(re.sub(r"[&?]schema=\w+", "", url))
    found = [await connection.fetch(statement) for statement in statements]
    await connection.close()
    return found[-1]


def schema_of(url):
    return re.search(r"[&?]schema=(\w+)", url)[1]


def run_other(*arguments):
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


# ---- The contract ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "check"), CHECKS, ids=[name for name, _ in CHECKS])
def test_postgres_keeps_the_contract(postgres, name, check):
    """Every law of the contract holds for the store in PostgreSQL."""
    check(lambda clock: PostgresStore(postgres, clock))


def test_every_statement_is_used():
    """Each named statement of postgres.sql is asked for somewhere, and none that is not there."""
    rooms = ("", "_database", "_log", "_signals")
    sources = "".join((ROOT / f"edda/stores/postgres{room}.py").read_text() for room in rooms)
    asked = re.findall(r'(?:rows|run|fetch)\(\s*(?:connection, )?"(\w+)"|sql\["(\w+)"\]', sources)
    assert {one or other for one, other in asked} == set(Database("postgresql:///x").sql)


# ---- Many at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_open", [False, True], ids=["registered", "released"])
def test_no_wake_up_is_lost_between_connections(postgres, is_open):
    """A wait that is registered or left to itself and an event beside it never miss."""
    held_by_me = f"SELECT id FROM {schema_of(postgres)}.instance WHERE worker = 'me'"

    async def scenario():
        async with opened(postgres, 2) as (one, other):
            lost = []
            for round_ in range(15):
                names = [f"{round_}.{n}" for n in range(8)]
                held = [(await one.create(new(name, "me"))).claimed for name in names]
                waits = [
                    PAID if n % 2 else Wait("paid:1", "paid", '["data"]', f'["{name}"]')
                    for n, name in enumerate(names)
                ]
                if is_open:
                    for claimed, wait in zip(held, waits, strict=True):
                        await one.commit(look(claimed.lease, wait))
                commits = [
                    one.commit(look(claimed.lease, wait, release=True))
                    for claimed, wait in zip(held, waits, strict=True)
                ]
                sends = [other.deliver([event(name, data=name)]) for name in names]
                both = [*commits, *sends]
                random.Random(round_).shuffle(both)
                await asyncio.gather(*both)
                found = await one.claim("you", ["w"], limit=100, lease_seconds=3600)
                heard = {claimed.lease.instance_id for claimed in found if claimed.messages}
                kept = await run_sql(postgres, held_by_me)
                kept = {row[0] for row in kept}
                # One whose commit brought the event has kept its lease for it.
                lost += [name for name in names if name not in heard | kept]
                for claimed in found:
                    done = step(claimed.lease, 1, Status.COMPLETED, release=True)
                    await one.commit(done)
            return lost

    assert asyncio.run(scenario()) == []


def test_positions_become_visible_in_order(postgres):
    """Whoever reads while many write never finds a message before one that it has passed."""

    async def scenario():
        async with opened(postgres, 4) as (reader, *writers):
            claimed = (await reader.create(new("a", "me"))).claimed
            committed = await reader.commit(look(claimed.lease, PAID))
            writing = asyncio.gather(*(write(store, n) for n, store in enumerate(writers)))
            seen = []
            while len(seen) < 3 * 4 * 46:
                taken = tuple(message.position for message in committed.messages)
                seen += taken
                committed = await reader.commit(look(claimed.lease, PAID, taken=taken))
            await writing
            return seen

    async def write(store, number):
        # A long batch draws its positions early and is committed late.
        sizes = [40, 1, 1, 1, 1, 1, 1] * 4
        batches = [[event(f"{number}.{n}.{m}") for m in range(k)] for n, k in enumerate(sizes)]
        await asyncio.gather(*(store.deliver(batch) for batch in batches))

    seen = asyncio.run(scenario())
    assert seen == sorted(set(seen))


def test_a_lane_is_written_by_one_at_a_time(postgres):
    """An event waits for one of its lane that is not committed yet; others do not."""
    waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

    async def scenario():
        async with opened(postgres, 2) as (one, other):
            lease = (await one.create(new("a", "me"))).claimed.lease
            await one.commit(look(lease, PAID))
            await one.commit(
                look((await one.create(new("b", "me"))).claimed.lease, Wait("sent:1", "sent"))
            )
            database = one._database
            async with database.begin() as connection:
                with pytest.MonkeyPatch.context() as patch:
                    fetch = functools.partial(database.fetch, connection)
                    patch.setattr(database, "rows", fetch)
                    (first,) = await one.deliver([event("first")])
                second = asyncio.create_task(other.deliver([event("second")]))
                (beside,) = await asyncio.wait_for(other.deliver([event("beside", "sent")]), 5)
                while not second.done() and not await run_sql(postgres, waiting):
                    await asyncio.sleep(0.01)
                was_early = second.done()
                await database.end(connection, "COMMIT")
            ((after,), seen) = await second, await one.commit(look(lease, PAID))
            positions = [message.position for message in seen.messages]
            return was_early, first.position, beside.position, after.position, positions

    was_early, first, beside, after, positions = asyncio.run(scenario())
    assert not was_early
    assert positions == [first, after]
    assert first < beside < after


def test_those_who_send_to_each_other_do_not_deadlock(postgres):
    """Instances whose steps wake each other crosswise all commit, each time."""

    async def scenario():
        async with opened(postgres, 2) as stores:
            leases = [(await stores[0].create(new(f"i{n}", "me"))).claimed.lease for n in range(4)]
            waits = [(Wait("paid:1", f"to{n}"),) for n in range(4)]
            for n in range(4):
                await stores[0].commit(look(leases[n], *waits[n]))
            for round_ in range(20):
                await asyncio.gather(
                    *(
                        stores[n % 2].commit(
                            look(
                                leases[n],
                                *waits[n],
                                messages=tuple(
                                    event(f"{round_}.{n}.{to}", f"to{to}")
                                    for to in random.Random(round_ + n).sample(range(4), 4)
                                ),
                            )
                        )
                        for n in range(4)
                    )
                )
            sql = f"SELECT count(*) FROM {schema_of(postgres)}.message"
            return (await run_sql(postgres, sql))[0][0]

    assert asyncio.run(scenario()) == 20 * 4 * 4


def test_a_queue_gives_each_message_once(postgres):
    """Messages of a competing channel that come through many connections are taken once each."""
    jobs = (Subscription("job", "competing"),)
    waits = (Wait("receive:1", "job", mode="competing"),)

    async def scenario():
        async with opened(postgres, 3) as stores:
            taken = []
            sends = [stores[n % 3].deliver([event(f"{n}", "job")]) for n in range(30)]
            readers = [read(stores[n % 3], f"reader{n}", taken) for n in range(6)]
            await asyncio.gather(*readers, *sends)
            return taken

    async def read(store, name, taken):
        lease = (await store.create(new(name, "me"))).claimed.lease
        mine = ()
        while len(taken) < 30:
            # Each takes one message a wait, so the wait is another one each time.
            committed = await store.commit(look(lease, taken=mine, subscriptions=jobs))
            committed = await store.commit(look(lease, *waits, subscriptions=jobs))
            mine = tuple(message.position for message in committed.messages)
            taken += mine

    taken = asyncio.run(scenario())
    assert (len(taken), len(set(taken))) == (30, 30)


def test_processes_share_a_database(postgres):
    """Processes that make one schema together finish every instance, each of them once."""
    others = [run_other("share", postgres, f"worker{n}") for n in range(3)]
    finished = [json.loads(other.communicate(timeout=60)[0]) for other in others]
    assert sorted(one for some in finished for one in some) == [f"i{n:02}" for n in range(40)]
    assert [other.returncode for other in others] == [0, 0, 0]


async def share(url, worker):
    finished = []
    async with opened(url) as store:
        for n in range(40):
            await store.create(new(f"i{n:02}"))
        while claimed := await store.claim(worker, ["w"], limit=3, lease_seconds=30):
            for one in claimed:
                await store.commit(step(one.lease, 1, Status.COMPLETED, release=True))
                finished.append(one.lease.instance_id)
    print(json.dumps(finished))


def test_a_new_shape_is_learned_by_all(postgres):
    """A store that knows the shapes of a type delivers to waits of a shape made elsewhere since."""

    async def scenario():
        async with opened(postgres, 2) as (one, other):
            await other.deliver([event("before", data=5)])
            lease = (await one.create(new("a", "me"))).claimed.lease
            await one.commit(look(lease, Wait("p:1", "paid", '["data"]', "[5]"), release=True))
            return (await other.deliver([event("after", data=5)]))[0].woken

    assert asyncio.run(scenario()) == ("a",)


# ---- The clock ---------------------------------------------------------------------------------


def test_the_database_has_the_clock(postgres):
    """A machine whose clock is wrong takes the database's time, for leases and for itself."""

    async def scenario():
        clock = SystemClock()
        clock.follow(clock.now() + timedelta(hours=1), clock.now(), clock.now())
        store = PostgresStore(postgres, clock, follow=clock.follow)
        ahead = clock.now() - datetime.now(UTC)
        await store.open()
        lease = (await store.create(new("a", "me", lease_seconds=60))).claimed.lease
        await store.close()
        return ahead, clock.now() - datetime.now(UTC), lease.until - datetime.now(UTC)

    ahead, after, lease = asyncio.run(scenario())
    assert ahead > timedelta(minutes=59)
    assert abs(after) < timedelta(minutes=1)
    assert timedelta() < lease <= timedelta(seconds=61)


# ---- Notifications -----------------------------------------------------------------------------


def test_others_hear_what_happens(postgres):
    """What one process wakes, ends or puts into the outbox another one hears at once, by name."""

    async def scenario():
        async with opened(postgres, 2) as (one, other):
            lease = (await one.create(new("a", "me"))).claimed.lease
            await one.commit(look(lease, PAID))
            first = await other.changed()  # whatever was before it listened
            heard = []
            for act in (
                one.deliver([event("e")]),
                one.create(new("b")),
                one.commit(look(lease, outbox=(event("out"),))),
                one.commit(step(lease, 1, Status.COMPLETED, release=True)),
            ):
                await act
                heard.append(await asyncio.wait_for(other.changed(), 5))
            return first, heard

    first, heard = asyncio.run(scenario())
    assert first is None
    assert heard == [
        Changed(woken=("a",)),
        Changed(woken=("b",)),
        Changed(has_sent=True),
        Changed(over=("a",)),
    ]


def test_ones_own_changes_are_not_news(postgres):
    """A process is not told of what it did itself."""

    async def scenario():
        async with opened(postgres, 2) as (one, other):
            await one.changed()
            await one.create(new("mine"))
            await one._signals._telling
            await other.create(new("theirs"))
            return await asyncio.wait_for(one.changed(), 5)

    assert asyncio.run(scenario()) == Changed(woken=("theirs",))


def test_a_long_list_is_told_as_anything(postgres):
    """More names than a notification holds mean that anything may have changed."""

    async def scenario():
        async with opened(postgres, 2) as (one, other):
            await other.changed()
            one._signals.tell([f"{n}" * 50 for n in range(200)])
            return await asyncio.wait_for(other.changed(), 5)

    assert asyncio.run(scenario()) is None


def test_a_lost_notification_is_made_up_for(postgres, monkeypatch):
    """After some seconds without news, and after a new connection, anything may have changed."""
    monkeypatch.setattr(postgres_signals, "DOUBT_SECONDS", 0.05)

    async def scenario():
        async with opened(postgres) as store:
            unsure = [await asyncio.wait_for(store.changed(), 5) for _ in range(3)]
            store._signals._connection.terminate()
            return [*unsure, await asyncio.wait_for(store.changed(), 5)]

    assert asyncio.run(scenario()) == [None] * 4


# ---- Apps --------------------------------------------------------------------------------------


@activity
async def double(ctx, n: int) -> int:
    return 2 * n


@workflow
async def survivor(ctx, n: int) -> int:
    n = await double(ctx, n)
    event = await wait_event(ctx, "go", match={"data.n": n})
    return n + await double(ctx, event.data["n"])


def go(n):
    return {"type": "go", "source": "t", "id": str(n), "data": {"n": n}}


def test_a_door_and_a_worker_meet_in_the_database(postgres):
    """What an app without a worker starts and sends, another runs; the first has the result."""

    async def scenario():
        door = EddaApp("door", postgres, worker=False)
        async with door, EddaApp("back", postgres, workflows=[survivor]) as back:
            id = await door.start(survivor, 4)
            while await back.status(id) != Status.WAITING_FOR_EVENT:
                await asyncio.sleep(0.01)
            await door.handle_event(go(8))
            return await door.result(id, timeout=postgres_signals.DOUBT_SECONDS)

    assert asyncio.run(scenario()) == 24


def test_a_killed_worker_is_taken_over(postgres):
    """Of two worker processes one is killed in mid-work: the other one finishes everything once."""
    victim = run_other("work", postgres)
    assert victim.stdout.readline() == "working\n"

    async def scenario():
        async with EddaApp("survivor", postgres, workflows=[survivor], lease_seconds=0.5) as app:
            ids = [await app.start(survivor, n, instance_id=f"i{n}") for n in range(30)]
            victim.kill()
            victim.wait()
            for n in range(30):
                await app.handle_event(go(2 * n))
            return [await app.result(id, timeout=30) for id in ids]

    with victim:
        assert asyncio.run(scenario()) == [6 * n for n in range(30)]


async def work(url):
    async with EddaApp("victim", url, workflows=[survivor], lease_seconds=0.5):
        print("working", flush=True)
        await asyncio.sleep(60)


@activity(transactional=True)
async def note(ctx, text: str) -> int:
    await ctx.connection.execute("INSERT INTO note VALUES ($1)", text)
    if ctx.attempt == 1:
        raise RuntimeError("once more")
    return await ctx.connection.fetchval("SELECT count(*) FROM note")


@workflow
async def noting(ctx, text: str) -> int:
    return await note(ctx, text)


def test_a_transactional_activity_writes_once(postgres):
    """What an activity writes through `ctx.connection` is there once, with its answer."""

    async def scenario():
        await run_sql(postgres, "CREATE TABLE note (text text)")
        async with EddaApp("a", postgres, workflows=[noting]) as app:
            found = await app.result(await app.start(noting, "x"), timeout=30)
        return found, len(await run_sql(postgres, "SELECT text FROM note"))

    assert asyncio.run(scenario()) == (1, 1)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [("COMMIT", "has ended its transaction itself"), ("SELECT 1/0", "has caught an error")],
)
def test_a_spoiled_transaction_says_so(postgres, spoil, expected):
    """An activity that ends its transaction, or goes on in a failed one, is told what to do."""

    async def scenario():
        async with opened(postgres) as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            async with store.transaction() as transaction:
                with contextlib.suppress(asyncpg.DivisionByZeroError):
                    await transaction.connection.execute(spoil)
                with pytest.raises(StoreError, match=expected):
                    await transaction.commit(step(lease, 1))
            return len(await store.history("a"))

    assert asyncio.run(scenario()) == 1


def test_who_goes_away_with_locks_is_ended(postgres):
    """A process that vanishes between its step and COMMIT keeps nobody waiting for long."""

    async def scenario():
        async with opened(postgres) as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            async with store.transaction() as transaction:
                connection = transaction.connection
                before = await connection.fetchval("SHOW idle_in_transaction_session_timeout")
                rows = functools.partial(store._database.fetch, connection)
                await store._commit(step(lease, 1), rows)
                after = await connection.fetchval("SHOW idle_in_transaction_session_timeout")
            return before, after, len(await store.history("a"))

    assert asyncio.run(scenario()) == ("0", "10s", 1)


def test_what_takes_locks_is_prepared_before(postgres, monkeypatch):
    """The server prepares nothing under locks: who is stopped then counts as busy, for ever."""
    inside = []
    real = asyncpg.Connection._get_statement

    async def noted(self, query, *arguments, **options):
        if self.is_in_transaction():
            inside.append(query)
        return await real(self, query, *arguments, **options)

    monkeypatch.setattr(asyncpg.Connection, "_get_statement", noted)

    async def scenario():
        async with opened(postgres) as store:
            inside.clear()  # whoever makes the schema is alone
            await store.deliver([event("1", "fresh", 1)])
            lease = (await store.create(new("a", "me"))).claimed.lease
            await store.commit(look(lease, Wait("w", "fresh", '["data"]', "[1]")))
            return await store.expire(datetime.now(UTC) + timedelta(days=1))

    assert asyncio.run(scenario()) == 1
    assert inside == []


def test_transactions_leave_connections_for_the_rest(postgres):
    """However many transactions are open, answers that need another connection get one."""

    async def scenario():
        async with opened(f"{postgres}&pool_size=2") as store:
            leases = [(await store.create(new(f"i{n}", "me"))).claimed.lease for n in range(4)]
            await asyncio.wait_for(asyncio.gather(*(act(store, lease) for lease in leases)), 20)

    async def act(store, lease):
        async with store.transaction() as transaction:
            await transaction.connection.execute("SELECT 1")
            wait = Wait("w:1", f"type of {lease.instance_id}")
            await transaction.commit(look(lease, wait))
            await store.renew([lease], 30)

    asyncio.run(scenario())


# ---- Faults ------------------------------------------------------------------------------------


def fault(url):
    async def try_to_open():
        store = PostgresStore(url, SystemClock())
        with pytest.raises(StoreError) as caught:
            await store.open()
        await store.close()
        return caught.value

    return asyncio.run(try_to_open())


def test_nobody_at_home(tmp_path):
    """A server that is not there is unavailable, by its name, without the password."""
    error = fault(f"postgresql://me:secret@/orders?host={tmp_path}")
    assert isinstance(error, StoreUnavailableError)
    assert str(error).startswith("postgresql://me@/orders does not answer: ")
    assert "secret" not in str(error)


def test_a_wrong_password(postgres):
    """A refused user is told where users and passwords are named."""
    asyncio.run(
        run_sql(postgres, "DROP ROLE IF EXISTS locked", "CREATE ROLE locked LOGIN PASSWORD 'right'")
    )
    error = fault(postgres.replace("edda@", "locked:wrong@"))
    assert not isinstance(error, StoreUnavailableError)
    assert re.fullmatch(
        r"postgresql://locked@/postgres cannot be used: password authentication failed for user "
        r'"locked"\. Correct the user or the password in the URL, or the server\'s pg_hba.conf\.',
        str(error),
    )


def test_a_missing_database(postgres):
    """A database that does not exist is to be made first."""
    error = fault(postgres.replace("@/postgres", "@/nowhere"))
    assert str(error) == (
        'postgresql://edda@/nowhere cannot be used: database "nowhere" does not exist. Make the '
        "database first (`createdb NAME`), or name another one in the URL."
    )


def test_a_user_without_rights(postgres):
    """Who may not make the schema is told what is needed, and nothing is half made."""
    asyncio.run(run_sql(postgres, "DROP ROLE IF EXISTS humble", "CREATE ROLE humble LOGIN"))
    error = fault(postgres.replace("edda@", "humble@"))
    assert "permission denied for database postgres. Give the user the right" in str(error)


def test_a_newer_version_is_left_alone(postgres):
    """A schema of a newer version is refused."""
    name = schema_of(postgres)

    async def scenario():
        async with opened(postgres):
            pass
        await run_sql(postgres, f"UPDATE {name}.version SET version = 7")

    asyncio.run(scenario())
    error = fault(postgres)
    assert isinstance(error, StoreVersionError)
    assert (error.found, error.known) == (7, VERSION)


def test_an_older_version_is_left_alone(postgres):
    """A schema of an older version is refused by those that come later, and serves as it did."""
    name = schema_of(postgres)

    async def scenario():
        async with opened(postgres) as running:
            await run_sql(postgres, f"UPDATE {name}.version SET version = {VERSION - 1}")
            with pytest.raises(StoreVersionError) as caught:
                await Database(postgres).open()
            await running.create(new("a"))
            assert (await running.instance("a")).id == "a"
        return caught.value

    error = asyncio.run(scenario())
    assert (error.found, error.known) == (VERSION - 1, VERSION)


def test_functions_of_another_version_are_a_sentence(postgres):
    """A process whose schema was made anew by another version says so, and has changed nothing."""
    name = schema_of(postgres)

    async def scenario():
        async with opened(postgres) as store:
            claimed = (await store.create(new("a", "me"))).claimed
            other = f"ALTER FUNCTION {name}.commit RENAME TO commit_of_old"
            await run_sql(postgres, other)
            with pytest.raises(StoreError, match="another version of Edda has made it anew"):
                await store.commit(step(claimed.lease, 1))
            await run_sql(postgres, f"ALTER FUNCTION {name}.commit_of_old RENAME TO commit")
            assert len(await store.history("a")) == 1
            await store.commit(step(claimed.lease, 1))

    asyncio.run(scenario())


def test_a_schema_of_another_program_is_left_alone(postgres):
    """A schema with tables that are not ours is refused, and stays as it is."""
    name = schema_of(postgres)
    asyncio.run(run_sql(postgres, f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.theirs (x int)"))
    assert str(fault(postgres)) == (
        f"The schema '{name}' of postgresql://edda@/postgres belongs to another program. Nothing "
        f"was changed. Give Edda one of its own: add ?schema=NAME to the URL."
    )
    tables = f"SELECT FROM pg_tables WHERE schemaname = '{name}'"
    assert len(asyncio.run(run_sql(postgres, tables))) == 1


@pytest.mark.parametrize("query", ["schema=Mine", "schema=a.b", "schema=pg_x", "pool_size=1"])
def test_a_wrong_option_is_refused(query):
    """A schema that is no plain name and a pool that is too small are refused at once."""
    with pytest.raises(StoreUrlError, match=r"'postgresql://me@h/db' has a (schema|pool_size)="):
        PostgresStore(f"postgresql://me:secret@h/db?{query}", SystemClock())


def test_a_store_that_is_not_open_says_so():
    """A call before `open` or after `close` is told what to do."""
    store = PostgresStore("postgresql:///nowhere", SystemClock())
    with pytest.raises(StoreError, match=r"is not open. Call `await store.open\(\)` first"):
        asyncio.run(store.next_due(["w"]))


@pytest.mark.parametrize("id", ["a\0b", "a\ud800b"])
def test_what_is_no_text_is_refused(postgres, id):
    """NUL and half a surrogate pair are refused with a sentence, and nothing is stored."""

    async def scenario():
        async with opened(postgres) as store:
            with pytest.raises(StoreError, match="UTF-8 without NUL characters"):
                await store.create(new(id))
            with pytest.raises(StoreError, match="UTF-8 without NUL characters"):
                await store.deliver([event("fine"), Envelope("paid", "s", id, "{}")])
            again = await store.deliver([event("fine")])
            return await store.find(), again[0].is_duplicate

    assert asyncio.run(scenario()) == ([], False)


def test_what_was_taken_is_forgotten(postgres):
    """What an instance took is kept while it lives and the events are there, no longer."""

    async def scenario():
        async with opened(postgres) as store:

            async def rows():
                table = f'"{store._database.schema}".taken'
                return await store._database._pool.fetch(f"SELECT * FROM {table}")

            return await takes_and_ends(store, SystemClock(), rows)

    assert asyncio.run(scenario()) == 1


def test_a_channel_that_is_read_anew(postgres):
    """A subscription that is renewed in a commit begins there."""

    async def scenario():
        async with opened(postgres) as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            channel = (Subscription("news", "broadcast"),)
            reads = look(lease, subscriptions=channel)
            await store.commit(reads)
            await store.deliver([event("old", "news")])
            await store.commit(look(lease, subscriptions=channel, renewed=("news",)))
            await store.deliver([event("new", "news")])
            waits = look(lease, Wait("r:1", "news", mode="broadcast"), subscriptions=channel)
            return [one.envelope.id for one in (await store.commit(waits)).messages]

    assert asyncio.run(scenario()) == ["new"]


def test_long_values_match_and_come_back(postgres):
    """A match on a value that no index takes is found by its digest, and seen as it is."""
    long = json.dumps(["x" * 100_000])

    async def scenario():
        async with opened(postgres) as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            wait = Wait("p:1", "paid", '["data"]', long)
            await store.commit(look(lease, wait, release=True))
            missed = await store.deliver([event("1", data="x" * 99_999)])
            found = await store.deliver([event("2", data="x" * 100_000)])
            seen = (await store.instance("a")).waits == (wait,)
            return missed[0].woken, found[0].woken, seen

    assert asyncio.run(scenario()) == ((), ("a",), True)


def test_a_broken_connection_leaves_nothing_half_done(postgres):
    """Connections that are cut in mid-load fail calls as unavailable; the store goes on."""
    name = schema_of(postgres)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'edda' AND pid <> pg_backend_pid()"
    )

    async def write(store, lease, errors, done):
        seq = 1
        while not done.is_set():
            try:
                await store.commit(step(lease, seq))
                seq += 1
            except StoreUnavailableError as error:
                errors.append(error)
            except LeaseLost:
                seq += 1  # it had taken effect although nobody said so
        return seq

    async def scenario():
        errors, done = [], asyncio.Event()
        async with opened(postgres) as store:
            leases = [(await store.create(new(f"i{n}", "me"))).claimed.lease for n in range(6)]
            writers = [asyncio.create_task(write(store, one, errors, done)) for one in leases]
            while len(errors) < 5:
                await asyncio.sleep(0.03)
                await run_sql(postgres, cut)
            done.set()
            lengths = await asyncio.gather(*writers)
        histories = await run_sql(postgres, f"SELECT length FROM {name}.instance ORDER BY key")
        half = (
            f"SELECT id FROM {name}.instance AS i WHERE length <> "
            f"(SELECT count(*) FROM {name}.event WHERE instance = i.key)"
        )
        return errors, lengths, [row[0] for row in histories], await run_sql(postgres, half)

    errors, lengths, histories, half = asyncio.run(scenario())
    assert (lengths, half) == (histories, [])
    assert "call may be repeated" in str(errors[0])


@pytest.mark.parametrize(
    "payload", ["", "no JSON", "5", "{}", "[]", '["other", 1]', '["a", {}, 2, 3]']
)
def test_a_notification_that_cannot_be_read_is_taken_for_any(postgres, payload):
    """What somebody else says on our channel, or a later version, may mean anything."""
    heard = []

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
        async with opened(postgres) as store:
            await store.changed()  # the first: it listens now
            await run_sql(postgres, f"NOTIFY \"edda:{schema_of(postgres)}\", '{payload}'")
            return await asyncio.wait_for(store.changed(), 5)

    assert (asyncio.run(scenario()), heard) == (None, [])


def test_a_store_that_cannot_be_opened_to_the_end_is_closed(postgres, monkeypatch):
    """When the last step of opening fails no connection stays, and it can be opened again."""

    async def scenario():
        store = PostgresStore(postgres, SystemClock())
        with monkeypatch.context() as patch:
            patch.setattr(store, "next_due", failing)
            with pytest.raises(ZeroDivisionError):
                await store.open()
        with pytest.raises(StoreError, match="is not open"):
            await store.find()
        await store.open()
        found = await store.find()
        await store.close()
        return found

    async def failing(_):
        raise ZeroDivisionError

    assert asyncio.run(scenario()) == []


def test_an_unreadable_history_blocks_nobody(postgres):
    """An instance whose stored history cannot be read is parked, and the others are claimed."""
    spoil = f"UPDATE {schema_of(postgres)}.event SET head = '{{}}' WHERE instance = 2"

    async def scenario():
        async with opened(postgres) as store:
            for name in ("a", "b", "c"):
                await store.create(new(name))
            await run_sql(postgres, spoil)
            claimed = await store.claim("me", ["w"], limit=10, lease_seconds=30)
            return [one.lease.instance_id for one in claimed], await store.instance("b")

    claimed, parked = asyncio.run(scenario())
    assert (claimed, parked.status) == (["a", "c"], Status.STUCK)
    assert isinstance(decode_error(parked.problem), HistoryFormatError)


def test_an_unreadable_end_hides_nobody(postgres):
    """An instance whose last event cannot be read is listed with the others, and says so."""
    spoil = f"UPDATE {schema_of(postgres)}.event SET head = '{{}}' WHERE seq = 1"

    async def scenario():
        async with opened(postgres) as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            await store.commit(step(lease, 1, Status.COMPLETED, release=True))
            await store.create(new("b"))
            await run_sql(postgres, spoil)
            return await store.find(), await store.instance("a")

    found, one = asyncio.run(scenario())
    assert [(each.id, each.status) for each in found] == [("a", "completed"), ("b", "pending")]
    assert (found[0], one.outcome) == (one, None)
    assert isinstance(decode_error(one.problem), HistoryFormatError)
    with pytest.raises(HistoryFormatError):
        EddaApp(db_url="memory://").outcome_of(one)


if __name__ == "__main__":
    VERB, *ARGUMENTS = sys.argv[1:]
    asyncio.run({"share": share, "work": work}[VERB](*ARGUMENTS))
