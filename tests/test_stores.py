"""The stores: each keeps the contract of `edda_testkit.contract`, and SQLite keeps its file.

Run as a program, this module is the other process of some tests: `python test_stores.py VERB ...`.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from edda import EddaApp, activity, workflow
from edda.codec import decode_error
from edda.commands import ActivityAsk, Result
from edda.errors import HistoryFormatError, StoreError, StoreUnavailableError, StoreVersionError
from edda.events import Envelope
from edda.history import Asked, Finished, Started
from edda.ports import Commit, NewInstance, Status, Subscription, Wait
from edda.stores import postgres_database, sqlite, sqlite_file
from edda.stores.memory import MemoryStore
from edda.stores.postgres_rows import statements
from edda.stores.sqlite import DirectSqliteStore, SqliteStore
from edda.stores.sqlite_file import SqliteFile
from edda.stores.sqlite_rows import SQL
from edda_testkit import contract
from tests.read_only import can_be_read_only, read_only

ROOT = Path(__file__).resolve().parents[1]
CHECKS = contract.checks()
DIRECT = contract.checks(is_durable=False, is_patient=False)


class SystemClock:
    def now(self):
        return datetime.now(UTC)

    def entropy(self, bits):
        return random.getrandbits(bits)


@contextlib.asynccontextmanager
async def in_a_file(clock):
    with tempfile.TemporaryDirectory() as folder:
        yield SqliteStore(Path(folder) / "edda.db", clock)


@contextlib.asynccontextmanager
async def opened(path, store=SqliteStore):
    made = store(path, SystemClock())
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def new(id, worker=None, lease_seconds=3600):
    started = Started(0, datetime.now(UTC), "w", "{}", 1)
    return NewInstance(id, "w", started, worker, lease_seconds)


def event(id, text=None, type="paid"):
    return Envelope(type, "shop", id, text or json.dumps({"type": type, "id": id}))


def step(lease, seq, status=Status.RUNNING, *, release=False):
    at = datetime.now(UTC)
    happened = (
        Finished(seq, at, Result("1"))
        if status.is_final
        else Asked(seq, at, ActivityAsk(f"pay:{seq}", "pay", "{}", "flow.py:1"))
    )
    return Commit(lease, seq, (happened,), status, (), (), None, release)


def run_other(*arguments, **options):
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options)


# ---- The contract ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "check"), CHECKS, ids=[name for name, _ in CHECKS])
@pytest.mark.parametrize("factory", [MemoryStore, in_a_file], ids=["memory", "sqlite"])
def test_a_store_keeps_the_contract(factory, name, check):
    """Every law of the contract holds for the store."""
    check(factory)


@pytest.mark.parametrize(("name", "check"), DIRECT)
def test_the_direct_store_keeps_the_contract(name, check):
    """Every law that asks neither a disk nor patience holds for SQLite in the calling thread."""
    check(DirectSqliteStore)


def test_the_contract_is_one_call():
    """`check_store` runs all checks and is silent when they hold."""
    contract.check_store(DirectSqliteStore, is_durable=False, is_patient=False)


def test_the_contract_names_what_is_broken():
    """A store that breaks a law gets a group with the law, its text and what was found."""

    class Forgetful(DirectSqliteStore):
        async def renew(self, leases, lease_seconds):
            return []

    with pytest.raises(
        ExceptionGroup, match=rf"^\d of {len(DIRECT)} checks of the Store's contract"
    ) as caught:
        contract.check_store(Forgetful, is_durable=False, is_patient=False)
    texts = [str(error) for error in caught.value.exceptions]
    assert (
        "a_lapsed_lease_nobody_took_still_commits (T3): A late commit is fine as long as nobody "
        "took over: the token decides, not the clock.\nrenewed: expected 1, found 0"
    ) in texts


def test_the_contract_finds_who_ignores_a_renewal():
    """A store that goes on reading a channel where it was is told so, by each check of it."""

    class Clinging(DirectSqliteStore):
        async def commit(self, commit):
            return await super().commit(replace(commit, renewed=()))

    with pytest.raises(ExceptionGroup) as caught:
        contract.check_store(Clinging, is_durable=False, is_patient=False)
    assert [str(error).partition(" ")[0] for error in caught.value.exceptions] == [
        "a_renewed_subscription_begins_anew",
        "a_renewing_commit_may_wait_at_once",
        "renewing_forgets_what_an_earlier_wait_had",
        "renewing_keeps_what_is_addressed_and_what_queues",
    ]


def test_every_check_says_its_law():
    """Checks have names of their own, laws that exist, and a sentence each."""
    checks = [check for _, check in contract.checks()]
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert re.fullmatch(r"[HTM]\d|Timers", check.law), check.name
        assert check.text.endswith("."), check.name


def test_direct_methods_never_suspend():
    """A method of the direct store ends in one `send`, so a simulation needs no loop for it."""
    store = DirectSqliteStore(SystemClock())
    for method in (
        store.open(),
        store.create(new("a")),
        store.deliver([event("e")]),
        store.close(),
    ):
        with pytest.raises(StopIteration):
            method.send(None)


# ---- Statements --------------------------------------------------------------------------------


def test_no_placeholder_has_a_number():
    """Python 3.12 takes `?1` for a name, and warns when it is given a sequence."""
    assert [name for name, text in SQL.items() if re.search(r"\?\d", text)] == []


def test_every_statement_is_used():
    """Each named statement of sqlite.sql is asked for somewhere, and none that is not there."""
    sources = [
        (ROOT / f"edda/stores/sqlite_{room}.py").read_text() for room in ("core", "file", "log")
    ]
    assert set(re.findall(r'SQL\["(\w+)"\]', "".join(sources))) == set(SQL)


# Asked for when a worker begins or ends, not by turns.
READS_ALL = {"held_by", "workers"}


@pytest.mark.parametrize("name", sorted(SQL.keys() - READS_ALL - {"schema", "data_version"}))
def test_no_statement_reads_a_whole_table(name):
    """What is asked all the time goes by index, however many instances and messages there are."""
    connection = sqlite3.connect(":memory:")
    with contextlib.closing(connection):
        connection.executescript(SQL["schema"])
        bare = re.sub(r"'[^']*'|--.*", "", SQL[name])
        named = dict.fromkeys(re.findall(r":(\w+)", bare))
        values = named or (None,) * bare.count("?")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", values)]
    scans = [line for line in plan if re.match(r"SCAN (edda|[a-z]$|[a-z] )", line)]
    assert [line for line in scans if "USING INDEX edda_instance_stuck" not in line] == []


# By schema: its version, and what its text is without comments and space.
SCHEMAS = {
    "sqlite": (sqlite_file.VERSION, SQL["schema"], (2, "ddd45bd4ea83b0a7")),
    "postgres": (postgres_database.VERSION, statements("edda")["schema"], (2, "e9984af81d05cbcb")),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_changed_has_another_version(name):
    """Tables and functions are of the version that a database says, in whichever release.

    Raise VERSION when this fails, then write the new digest here. Nothing is migrated yet.
    """
    version, text, known = SCHEMAS[name]
    bare = " ".join(re.sub(r"--.*", "", text).split())
    assert (version, hashlib.sha256(bare.encode()).hexdigest()[:16]) == known


# ---- Opening -----------------------------------------------------------------------------------


def fault(path):
    async def try_to_open():
        with pytest.raises(StoreError) as caught:
            await SqliteStore(path, SystemClock()).open()
        return caught.value

    return asyncio.run(try_to_open())


def test_a_folder_is_no_database(tmp_path):
    """A folder is refused, with an example of a file in it."""
    assert str(fault(tmp_path)) == (
        f"{tmp_path} is a folder, and a database is a file. Name a file in it, for example "
        f"{tmp_path}/edda.db."
    )


def test_a_missing_folder_is_not_made(tmp_path):
    """A path into a folder that is not there is refused, and nothing is made."""
    path = tmp_path / "not" / "here.db"
    assert str(fault(path)) == (
        f"There is no folder {path.parent} to keep {path} in (the working directory is "
        f"{Path.cwd()}). Make the folder first, or name a file in another one."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"short", b"no database " * 1000])
def test_another_file_is_left_alone(tmp_path, content):
    """A file that is no SQLite database is refused and stays as it is."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    assert str(fault(path)) == (
        f"{path} is not an SQLite database. Nothing was changed. Name the file of a database, or "
        f"one that does not exist yet."
    )
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (content, [path])


def test_a_newer_version_is_left_alone(tmp_path):
    """A database of a newer version is refused and stays as it is."""
    path = tmp_path / "edda.db"
    asyncio.run(create_one(path))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    before = path.read_bytes()
    error = fault(path)
    assert isinstance(error, StoreVersionError)
    assert str(error) == (
        f"{path} has schema version 7, and this version of Edda reads version 2. Nothing "
        f"was changed. Use the edda-durable that wrote it, or another database."
    )
    assert path.read_bytes() == before


async def create_one(path):
    async with opened(path) as store:
        await store.create(new("a"))


def test_a_numbered_database_of_another_program_is_left_alone(tmp_path):
    """A database whose `user_version` somebody else counts is refused and stays as it is."""
    path = tmp_path / "theirs.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE theirs (x); PRAGMA user_version = 2;")
    before = path.read_bytes()
    assert str(fault(path)).startswith(f"{path} is the database of another program, which ")
    assert path.read_bytes() == before


def test_tables_of_the_same_file_are_left_alone(tmp_path):
    """A database that has tables of its own, and no version, may keep ours beside them."""
    path = tmp_path / "shared.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE orders (x); INSERT INTO orders VALUES (1);")
    asyncio.run(create_one(path))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT x FROM orders").fetchall() == [(1,)]


@pytest.mark.parametrize("after", range(4))
def test_another_process_makes_the_schema_in_between(tmp_path, monkeypatch, after):
    """Two that open a new file at once agree, wherever one of them comes in between."""
    path, connect = tmp_path / "edda.db", sqlite3.connect
    statements = []

    class Interrupted(sqlite3.Connection):
        def execute(self, statement, *values):
            rows = super().execute(statement, *values).fetchall()
            statements.append(statement)
            if len(statements) == after + 1:
                monkeypatch.setattr(sqlite3, "connect", connect)
                SqliteFile(path, SystemClock()).close()
            return SimpleNamespace(fetchone=lambda: rows[0])

    monkeypatch.setattr(sqlite3, "connect", functools.partial(connect, factory=Interrupted))
    SqliteFile(path, SystemClock()).close()
    assert len(statements) > after
    asyncio.run(create_one(path))


def test_a_read_only_file_is_refused(tmp_path, monkeypatch):
    """A file that may not be written is refused before anything is tried."""
    path = tmp_path / "edda.db"
    asyncio.run(create_one(path))
    monkeypatch.setattr(sqlite_file.os, "access", lambda place, mode: place != path)  # as if
    assert str(fault(path)) == (
        f"{path} cannot be written: {path} is read-only. Nothing was changed. SQLite writes the "
        f"file and others beside it: give this user the right to write both the file and its "
        f"folder."
    )


def test_a_damaged_file_says_so(tmp_path):
    """Damage that SQLite finds is reported with the path and a way out."""
    path = tmp_path / "edda.db"
    asyncio.run(create_one(path))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    async def read():
        async with opened(path) as store:
            await store.history("a")

    with pytest.raises(StoreError, match=r"is damaged: .* Restore a backup"):
        asyncio.run(read())


def test_a_store_that_is_not_open_says_so(tmp_path):
    """A call before `open` or after `close` is told what to do."""
    for store in (
        SqliteStore(tmp_path / "edda.db", SystemClock()),
        DirectSqliteStore(SystemClock()),
    ):
        with pytest.raises(StoreError, match=r"is not open. Call `await store.open\(\)` first"):
            asyncio.run(store.next_due(["w"]))


def test_a_file_is_written_durably(tmp_path):
    """The file is in WAL mode and every commit reaches the disk."""

    async def settings():
        async with opened(tmp_path / "edda.db") as store:
            read = store._file.connection.execute
            names = ("journal_mode", "synchronous", "busy_timeout", "user_version")
            return await store._run(
                lambda _: [read(f"PRAGMA {name}").fetchone()[0] for name in names], is_write=False
            )

    assert asyncio.run(settings()) == ["wal", 2, 2000, 2]


# ---- Group commit ------------------------------------------------------------------------------


async def traced(store):
    """The statements that begin and end transactions, from now on."""
    log = []

    def note(statement):
        if statement.startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            log.append(statement)

    await store._run(lambda _: store._file.connection.set_trace_callback(note), is_write=False)
    log.clear()
    return log


def test_concurrent_commits_share_transactions(tmp_path):
    """A hundred commits made at the same time take a few transactions, not a hundred."""

    async def scenario():
        async with opened(tmp_path / "edda.db") as store:
            held = [(await store.create(new(f"i{n}", "me"))).claimed for n in range(100)]
            log = await traced(store)
            await asyncio.gather(*(store.commit(step(one.lease, 1)) for one in held))
            return log, [len(await store.history(f"i{n}")) for n in range(100)]

    log, lengths = asyncio.run(scenario())
    assert lengths == [2] * 100
    assert 1 <= log.count("COMMIT") <= 3 + 100  # the reads of the histories are in the log, too
    assert log.count("BEGIN IMMEDIATE") <= 3


def test_reading_takes_no_write_lock(tmp_path):
    """Reads go on while another connection holds the file for writing."""

    async def scenario():
        path = tmp_path / "edda.db"
        async with opened(path) as store:
            await store.create(new("a"))
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                found = await asyncio.gather(store.instance("a"), store.next_due(["w"]))
                other.execute("ROLLBACK")
            return found

    instance, due = asyncio.run(scenario())
    assert (instance.id, due is None) == ("a", False)


def test_one_failure_is_rolled_back_alone(tmp_path):
    """An operation that fails half way has no effect, and those beside it take theirs."""
    broken = event("broken", text='{"type":"paid","note":"\ud800"}')  # no UTF-8 for that

    async def scenario():
        async with opened(tmp_path / "edda.db") as store:
            calls = [store.deliver([event(f"e{n}")]) for n in range(20)]
            calls.insert(10, store.deliver([event("with"), broken]))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            return outcomes, await store.deliver([event("with")])

    outcomes, again = asyncio.run(scenario())
    assert [n for n, one in enumerate(outcomes) if isinstance(one, Exception)] == [10]
    assert isinstance(outcomes[10], UnicodeEncodeError)
    positions = [one[0].position for one in outcomes if isinstance(one, list)]
    assert (len(set(positions)), again[0].is_duplicate) == (20, False)


def test_a_caller_may_give_up(tmp_path):
    """A call that is cancelled while it waits disturbs nobody, and the store goes on."""

    async def scenario():
        async with opened(tmp_path / "edda.db") as store:
            calls = [asyncio.create_task(store.deliver([event(f"e{n}")])) for n in range(20)]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            await asyncio.wait(calls)
            kept = [call.result()[0].is_duplicate for call in calls[1::2]]
            return kept, await store.create(new("a", "me"))

    kept, created = asyncio.run(scenario())
    assert (kept, created.claimed.lease.token) == ([False] * 10, 1)


def test_closing_finishes_what_was_asked_for(tmp_path):
    """`close` waits for the operations that were asked for before it."""

    async def scenario():
        store = SqliteStore(tmp_path / "edda.db", SystemClock())
        await store.open()
        calls = [asyncio.create_task(store.deliver([event(f"e{n}")])) for n in range(20)]
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        return [call.result()[0].position for call in calls]

    assert sorted(asyncio.run(scenario())) == list(range(1, 21))


def test_a_look_writes_nothing(tmp_path):
    """A commit that changes nothing leaves the file as it is: a poked turn costs no fsync."""

    async def scenario():
        path = tmp_path / "edda.db"
        async with opened(path) as store, opened(path) as other:
            claimed = (await store.create(new("a", "me"))).claimed
            look = Commit(claimed.lease, 1, (), Status.RUNNING, (), (), None, release=False)
            await store.commit(look)
            seen = await other._run(lambda core: core.data_version())
            await store.commit(look)
            return seen == await other._run(lambda core: core.data_version())

    assert asyncio.run(scenario())


# ---- What was taken ---------------------------------------------------------------------------


async def takes_and_ends(store, clock, rows):
    """Two instances take events: one recurs and sees the first expire, one ends."""
    created = [await store.create(new(id, "me")) for id in ("a", "b")]
    leases = [one.claimed.lease for one in created]

    async def take(lease, seq, id, **more):
        await store.deliver([event(id)])
        commit = Commit(
            lease, seq, (), Status.RUNNING, (Wait("paid:1", "paid"),), (), None, release=False
        )
        found = (await store.commit(commit)).messages
        taken = tuple(message.position for message in found)
        return await store.commit(replace(commit, waits=(), taken=taken, **more))

    await take(leases[0], 1, "1")
    await take(leases[1], 1, "2")
    assert len(await rows()) == 3  # `a` took the first, `b` both
    ended = Finished(1, clock.now(), Result("1"))
    await take(leases[1], 1, "3", events=(ended,), status=Status.COMPLETED)
    assert len(await rows()) == 1
    await take(leases[0], 1, "4")
    assert len(await rows()) == 4
    await store.expire(clock.now() + timedelta(days=1))
    await take(leases[0], 1, "5")
    return len(await rows())


def test_what_was_taken_is_forgotten_in_memory():
    """What an instance took is kept while it lives and the events are there, no longer."""
    clock = SystemClock()
    store = MemoryStore(clock)

    async def rows():
        return [position for row in store._rows.values() for position in row.taken]

    assert asyncio.run(takes_and_ends(store, clock, rows)) == 1


def test_what_was_taken_is_forgotten_in_a_file(tmp_path):
    """The same in SQLite: its table does not grow for ever."""

    async def main():
        async with opened(tmp_path / "edda.db") as store:

            async def rows():
                connection = store._file.connection
                return await store._run(
                    lambda _: connection.execute("SELECT * FROM edda_taken").fetchall()
                )

            return await takes_and_ends(store, SystemClock(), rows)

    assert asyncio.run(main()) == 1


# ---- Two connections, two processes ------------------------------------------------------------


def test_a_locked_file_is_unavailable(tmp_path, monkeypatch):
    """While another connection writes for too long calls fail, with nothing half done."""
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)

    async def scenario():
        path = tmp_path / "edda.db"
        async with opened(path) as store:
            claimed = (await store.create(new("a", "me"))).claimed
            calls = [lambda: store.commit(step(claimed.lease, 1)), lambda: store.create(new("b"))]
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                failed = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
                other.execute("ROLLBACK")
            before = (len(await store.history("a")), await store.instance("b"))
            for call in calls:
                await call()
            return failed, before, len(await store.history("a"))

    failed, before, after = asyncio.run(scenario())
    assert [type(error) for error in failed] == [StoreUnavailableError] * 2
    assert str(failed[0]) == (
        f"{tmp_path}/edda.db was locked by another connection for 0.05 s. Nothing was changed, and "
        f"the call may be repeated. A program that holds a transaction open (an `sqlite3` shell, a "
        f"backup) is the usual cause."
    )
    assert (before, after) == ((1, None), 2)


def test_changes_of_others_are_noticed(tmp_path):
    """`changed` returns when another connection wrote, also before the call, not for our own."""

    async def scenario():
        path = tmp_path / "edda.db"
        async with opened(path) as store, opened(path) as other:
            await other.create(new("a"))
            await asyncio.wait_for(store.changed(), 5)
            watch = asyncio.create_task(store.changed())
            await store.create(new("b"))
            await asyncio.sleep(0.12)
            was_done = watch.done()
            await other.create(new("c"))
            await asyncio.wait_for(watch, 5)
            return was_done

    assert asyncio.run(scenario()) is False


def test_processes_share_a_file(tmp_path):
    """Processes that make one file together finish every instance, each of them once."""
    path = tmp_path / "edda.db"
    others = [run_other("share", path, f"worker{n}") for n in range(3)]
    finished = [json.loads(other.communicate(timeout=60)[0]) for other in others]
    assert sorted(one for some in finished for one in some) == [f"i{n:02}" for n in range(40)]
    assert [other.returncode for other in others] == [0, 0, 0]


async def share(path, worker):
    finished = []
    async with opened(path) as store:
        for n in range(40):
            await store.create(new(f"i{n:02}"))
        while claimed := await store.claim(worker, ["w"], limit=3, lease_seconds=30):
            for one in claimed:
                await store.commit(step(one.lease, 1, Status.COMPLETED, release=True))
                finished.append(one.lease.instance_id)
    print(json.dumps(finished))


def test_a_program_that_does_not_close_can_end(tmp_path):
    """A program that ends without closing its store does not hang, and what it stored is there."""
    path = tmp_path / "edda.db"
    other = run_other("forget", path, stderr=subprocess.DEVNULL)
    other.communicate(timeout=30)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM edda_instance").fetchall() == [("a",)]


async def forget(path):
    store = SqliteStore(path, SystemClock())
    await store.open()
    await store.create(new("a"))
    sys.modules["kept"] = store


def test_an_opening_that_is_given_up_leaves_no_connection(tmp_path, monkeypatch):
    """Whoever is cancelled while a file is opened leaves it closed, and may open it again."""
    made, may_go = [], threading.Event()

    class Slow(sqlite_file.SqliteFile):
        def __init__(self, *arguments):
            may_go.wait(10)
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(sqlite, "SqliteFile", Slow)

    async def scenario():
        store = SqliteStore(tmp_path / "edda.db", SystemClock())
        opening = asyncio.create_task(store.open())
        await asyncio.sleep(0.01)
        opening.cancel()
        may_go.set()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await store.open()
        found = await store.find()
        await store.close()
        async with asyncio.timeout(10):
            while len(made) < 2 or not all(map(is_closed, made)):
                await asyncio.sleep(0)
        return found

    def is_closed(file):
        try:
            file.connection.total_changes  # noqa: B018 - it raises
        except sqlite3.ProgrammingError:
            return True
        return False

    assert asyncio.run(scenario()) == []


def test_an_unreadable_history_blocks_nobody(tmp_path):
    """An instance whose stored history cannot be read is parked, and the others are claimed."""

    async def scenario():
        async with opened(tmp_path / "edda.db") as store:
            for name in ("a", "b", "c"):
                await store.create(new(name))
            spoil = 'UPDATE edda_event SET head = \'{"kind":"from_the_future"}\' WHERE instance = 2'
            await store._run(lambda _: store._file.connection.execute(spoil).rowcount)
            claimed = await store.claim("me", ["w"], limit=10, lease_seconds=30)
            return [one.lease.instance_id for one in claimed], await store.instance("b")

    claimed, parked = asyncio.run(scenario())
    assert (claimed, parked.status) == (["a", "c"], Status.STUCK)
    assert isinstance(decode_error(parked.problem), HistoryFormatError)


def test_an_unreadable_end_hides_nobody(tmp_path):
    """An instance whose last event cannot be read is listed with the others, and says so."""
    spoil = 'UPDATE edda_event SET head = \'{"kind":"from_the_future"}\' WHERE seq = 1'

    async def scenario():
        async with opened(tmp_path / "edda.db") as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            await store.commit(step(lease, 1, Status.COMPLETED, release=True))
            await store.create(new("b"))
            await store._run(lambda _: store._file.connection.execute(spoil).rowcount)
            return await store.find(), await store.instance("a")

    found, one = asyncio.run(scenario())
    assert [(each.id, each.status) for each in found] == [("a", "completed"), ("b", "pending")]
    assert (found[0], one.outcome) == (one, None)
    assert isinstance(decode_error(one.problem), HistoryFormatError)
    with pytest.raises(HistoryFormatError):
        EddaApp(db_url="memory://").outcome_of(one)


def test_an_unreadable_history_gives_back(tmp_path):
    """An instance that is parked by a claim leaves what it was given to the next who waits."""

    async def scenario():
        async with opened(tmp_path / "edda.db") as store:
            receive = Wait("receive:1", "job", mode="competing")
            for name in ("a", "b"):
                lease = (await store.create(new(name, "me"))).claimed.lease
                commit = Commit(lease, 1, (), Status.RUNNING, (receive,), (), None, release=True)
                await store.commit(commit)
            (sent,) = await store.deliver([event("e", type="job")])
            spoil = 'UPDATE edda_event SET head = \'{"kind":"from_the_future"}\' WHERE instance = 1'
            await store._run(lambda _: store._file.connection.execute(spoil).rowcount)
            first = await store.claim("me", ["w"], limit=10, lease_seconds=30)
            then = await store.claim("me", ["w"], limit=10, lease_seconds=30)
            return sent.woken, [
                (one.lease.instance_id, len(one.messages)) for one in (*first, *then)
            ]

    assert asyncio.run(scenario()) == (("a",), [("b", 1)])


def test_an_event_that_comes_again_changed_is_logged(tmp_path, caplog):
    """A repeated id with other content is logged; the same content written otherwise is not."""

    async def scenario():
        async with opened(tmp_path / "edda.db") as store:
            for text in ('{"a":1,"b":2}', '{"b": 2, "a": 1}', '{"a":1,"b":3}'):
                await store.deliver([event("e", text)])

    asyncio.run(scenario())
    assert caplog.messages == [
        "The event 'e' of 'shop' came again with other content; the first one stands."
    ]


# ---- Transactions of activities ----------------------------------------------------------------


@contextlib.asynccontextmanager
async def with_notes(tmp_path):
    """A store with a table `note`, and an instance that is leased."""
    async with opened(tmp_path / "edda.db") as store, asyncio.timeout(20):
        await store._run(lambda _: store._file.connection.execute("CREATE TABLE note (x)").rowcount)
        yield store, (await store.create(new("a", "me"))).claimed.lease


async def noted(store):
    read = "SELECT x FROM note ORDER BY x"
    return await store._run(lambda _: store._file.connection.execute(read).fetchall())


OVER = (
    "The transaction of a transactional activity was over before its answer could be committed "
    "with it: the activity has called commit() or rollback(), or swallowed an error that ended "
    "it. Leave the end to the engine; raise to undo."
)


@pytest.mark.parametrize("again", ["INSERT INTO note VALUES (2)", "BEGIN", "BEGIN IMMEDIATE"])
@pytest.mark.parametrize("verb", ["commit", "rollback"])
def test_an_activity_must_not_end_its_transaction(tmp_path, verb, again):
    """When an activity has ended its transaction nothing of the step is applied, and it is told."""

    async def scenario():
        async with with_notes(tmp_path) as (store, lease):

            async def act():
                async with store.transaction() as transaction:
                    await transaction.connection.execute("INSERT INTO note VALUES (1)")
                    await getattr(transaction.connection, verb)()
                    await transaction.connection.execute(again)
                    await transaction.commit(step(lease, 1))

            error = await failure_of(act())
            await store.deliver([event("e")])
            return str(error), len(await store.history("a")), await store.outgoing()

    assert asyncio.run(scenario()) == (OVER, 1, [])


def test_a_savepoint_of_an_activity_is_its_own(tmp_path):
    """An activity may undo a part of what it wrote, and commits the rest with its answer."""

    async def scenario():
        async with with_notes(tmp_path) as (store, lease):
            async with store.transaction() as transaction:
                for statement in (
                    "INSERT INTO note VALUES (1)",
                    "SAVEPOINT mine",
                    "INSERT INTO note VALUES (2)",
                    "ROLLBACK TO mine",
                    "SAVEPOINT left_open",
                ):
                    await transaction.connection.execute(statement)
                await transaction.commit(step(lease, 1))
            return await noted(store), len(await store.history("a"))

    assert asyncio.run(scenario()) == ([(1,)], 2)


def test_an_activity_leaves_nothing_on_the_connection(tmp_path):
    """What an activity sets on the shared connection is gone when its transaction ends."""

    async def scenario():
        async with with_notes(tmp_path) as (store, lease):
            for is_committed in (True, False):
                async with store.transaction() as transaction:
                    connection = transaction.connection
                    connection.row_factory = sqlite3.Row
                    connection.text_factory = bytes
                    if is_committed:
                        await transaction.commit(step(lease, 1))
                    else:
                        connection.isolation_level = "DEFERRED"
                        await connection.execute("INSERT INTO note VALUES (1)")
                inner = store._file.connection
                found = (inner.row_factory, inner.text_factory, inner.isolation_level)
                assert found == (None, str, None)
            return await noted(store), len(await store.history("a"))

    assert asyncio.run(scenario()) == ([], 2)


def test_a_call_from_inside_a_transaction_is_refused(tmp_path):
    """A transactional activity that calls the store is told, instead of waiting for itself."""

    async def scenario():
        async with with_notes(tmp_path) as (store, lease):
            async with store.transaction() as transaction:
                calls = (
                    lambda: store.instance("a"),
                    lambda: asyncio.wait_for(store.deliver([event("e")]), 5),
                    store.transaction().__aenter__,
                    store.close,
                )
                for call in calls:
                    with pytest.raises(StoreError, match="calls the engine .* would wait for its"):
                        await call()
                await transaction.commit(step(lease, 1))
                await store.deliver([event("e")])
            async with opened(tmp_path / "other.db") as other, store.transaction():
                await other.create(new("b"))
            return len(await store.history("a"))

    assert asyncio.run(scenario()) == 2


def test_closing_waits_for_a_transaction(tmp_path):
    """`close` lets an open transaction end, then what waited for it, and then refuses."""

    async def scenario():
        store = SqliteStore(tmp_path / "edda.db", SystemClock())
        await store.open()
        lease = (await store.create(new("a", "me"))).claimed.lease
        is_open, goes_on = asyncio.Event(), asyncio.Event()

        async def act():
            async with store.transaction() as transaction:
                is_open.set()
                await goes_on.wait()
                await transaction.commit(step(lease, 1))

        acting = asyncio.create_task(act())
        await is_open.wait()
        waiting = asyncio.create_task(store.deliver([event("e")]))
        late = asyncio.create_task(store.transaction().__aenter__())
        await asyncio.sleep(0)
        late.cancel()
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        goes_on.set()
        await asyncio.wait_for(asyncio.gather(acting, waiting, closing), 10)
        with pytest.raises(StoreError, match="is not open"):
            async with store.transaction():
                raise AssertionError
        async with opened(tmp_path / "edda.db") as again:
            return len(await again.history("a")), (await again.deliver([event("e")]))[0]

    length, again = asyncio.run(scenario())
    assert (length, again.is_duplicate) == (2, True)


def test_a_failing_group_waits_for_a_transaction(tmp_path):
    """Operations that are to be repeated one by one wait for a transaction that began meanwhile."""
    broken = event("broken", text='{"type":"paid","note":"\ud800"}')

    async def scenario():
        async with with_notes(tmp_path) as (store, lease):
            calls = [asyncio.create_task(store.deliver([event(f"e{n}")])) for n in range(5)]
            calls.append(asyncio.create_task(store.deliver([broken])))
            await asyncio.sleep(0)
            async with store.transaction() as transaction:
                await transaction.connection.execute("INSERT INTO note VALUES (1)")
                assert not any(call.done() for call in calls)
                await transaction.commit(step(lease, 1))
            found = await asyncio.gather(*calls, return_exceptions=True)
            return [type(one) for one in found], await noted(store)

    found, notes = asyncio.run(scenario())
    assert found == [list] * 5 + [UnicodeEncodeError]
    assert notes == [(1,)]


def test_a_transaction_waits_no_longer_than_others_for_the_file(tmp_path, monkeypatch):
    """A transaction that cannot begin says so, and the store goes on."""
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)

    async def scenario():
        async with with_notes(tmp_path) as (store, lease):
            with contextlib.closing(
                sqlite3.connect(tmp_path / "edda.db", isolation_level=None)
            ) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreUnavailableError, match="was locked"):
                    async with store.transaction():
                        raise AssertionError
                other.execute("ROLLBACK")
            async with store.transaction() as transaction:
                await transaction.commit(step(lease, 1))
            return len(await store.history("a"))

    assert asyncio.run(scenario()) == 2


# ---- A full disk, a read-only file -------------------------------------------------------------


async def allow(store, pages):
    """Let the file have so many pages more, as a disk would that has so much room."""
    ask = store._file.connection.execute

    def limit(_):
        used = ask("PRAGMA page_count").fetchone()[0]
        return ask(f"PRAGMA max_page_count = {used + pages}").fetchone()

    await store._run(limit, is_write=False)


def test_a_full_disk_undoes_and_says_so(tmp_path):
    """Without room calls fail with nothing half done; with room they work again."""
    large = event("large", json.dumps({"type": "paid", "data": "x" * 100_000}))

    async def scenario():
        async with opened(tmp_path / "edda.db") as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            await allow(store, 4)
            calls = [
                lambda: store.commit(replace(step(lease, 1), messages=(large,), outbox=(large,))),
                lambda: store.deliver([event("small"), large]),
            ]
            failed = [await failure_of(call()) for call in calls]
            failed += await asyncio.gather(*map(failure_of, [call() for call in calls]))
            before = (len(await store.history("a")), await store.outgoing(), await store.find())
            await allow(store, 1000)
            for call in calls:
                await call()
            return failed, before, len(await store.history("a"))

    failed, (length, outgoing, found), after = asyncio.run(scenario())
    assert [str(one) for one in failed] == [
        f"{tmp_path}/edda.db cannot be read or written now: database or disk is full. Nothing was "
        f"changed, and the call may be repeated. Look at the disk: its room, its quota, its health."
    ] * 4
    assert {type(one) for one in failed} == {StoreUnavailableError}
    assert (length, outgoing, len(found), after) == (1, [], 1, 2)


async def failure_of(call):
    try:
        return await call
    except Exception as error:
        return error


def test_an_activity_that_fills_the_disk_commits_nothing(tmp_path):
    """An activity that swallows what SQLite says of a full disk has no transaction left."""

    async def scenario():
        async with with_notes(tmp_path) as (store, lease):
            await allow(store, 4)

            async def act():
                async with store.transaction() as transaction:
                    execute = transaction.connection.execute
                    await execute("INSERT INTO note VALUES (1)")
                    with contextlib.suppress(sqlite3.OperationalError):
                        await execute("INSERT INTO note VALUES (randomblob(200000))")
                    await transaction.commit(step(lease, 1))

            error = await failure_of(act())
            await allow(store, 1000)
            async with store.transaction() as transaction:
                await transaction.connection.execute("INSERT INTO note VALUES (2)")
                await transaction.commit(step(lease, 1))
            return str(error), await noted(store), len(await store.history("a"))

    error, notes, length = asyncio.run(scenario())
    assert (error, notes, length) == (OVER, [(2,)], 2)


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of a megabyte; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        is_mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    if not is_mounted:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(tiny_disk):
    """On a disk without room the log of SQLite cannot grow; with room everything goes on."""

    async def scenario():
        async with opened(tiny_disk / "edda.db") as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            ballast = tiny_disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            failed = [await failure_of(store.commit(step(lease, 1))) for _ in range(2)]
            length = len(await store.history("a"))
            ballast.unlink()
            await store.commit(step(lease, 1))
            return failed, length, len(await store.history("a"))

    failed, before, after = asyncio.run(scenario())
    assert [type(one) for one in failed] == [StoreUnavailableError] * 2
    assert (before, after) == (1, 2)


@pytest.fixture
def flagged(tmp_path):
    """A folder whose files can be made read-only, for root as well."""
    if not can_be_read_only(tmp_path):
        pytest.skip("files that root may not write need root, and ext4 or a new tmpfs")
    return tmp_path


def test_a_file_that_becomes_read_only(flagged):
    """A store whose files may not be written any more says so, and goes on when they may."""
    path = flagged / "edda.db"

    async def scenario():
        async with opened(path) as store:
            lease = (await store.create(new("a", "me"))).claimed.lease
            commit = step(lease, 1)
            with read_only(path, f"{path}-wal"):
                calls = [store.commit(commit), store.create(new("b")), store.deliver([event("e")])]
                failed = [await failure_of(call) for call in calls]
                seen = [one.id for one in await store.find()], len(await store.history("a"))
            await store.commit(commit)
            await store.create(new("b"))
            (delivered,) = await store.deliver([event("e")])
            return failed, seen, delivered.is_duplicate, len(await store.history("a"))

    failed, seen, is_duplicate, length = asyncio.run(scenario())
    assert [type(one) for one in failed] == [StoreUnavailableError] * 3
    assert str(failed[0]) == (
        f"{path} cannot be read or written now: disk I/O error. Nothing was changed, and the call "
        f"may be repeated. Look at the disk: its room, its quota, its health."
    )
    assert (seen, is_duplicate, length) == ((["a"], 1), False, 2)


@pytest.mark.parametrize("which", ["edda.db", ".", "edda.db-wal"])
def test_what_may_not_be_written_is_refused_until_it_may(flagged, which):
    """A file, a folder or a log that may not be written is named, and serves when it may be."""
    path = flagged / "edda.db"

    async def scenario():
        async with opened(path) as store:
            await store.create(new("a"))
            with read_only(flagged / which):
                error = await failure_of(SqliteStore(path, SystemClock()).open())
            async with opened(path) as other:
                await other.create(new("b"))
        return str(error)

    assert asyncio.run(scenario()).startswith(
        f"{path} cannot be written: {flagged / which} is read-only. Nothing was changed."
    )


def test_an_app_goes_on_when_its_file_can_be_written_again(flagged):
    """An app whose file is read-only for a while loses nothing, and runs what it has accepted."""
    path = flagged / "edda.db"
    is_read_only = contextlib.ExitStack()
    spoilt = asyncio.Event()

    @activity
    async def spoil(ctx) -> int:
        is_read_only.enter_context(read_only(path, f"{path}-wal"))
        spoilt.set()
        return 1

    @workflow
    async def goes_on(ctx) -> int:
        return await spoil(ctx)

    async def scenario():
        async with EddaApp("a", f"sqlite:///{path}", workflows=[goes_on]) as app:
            id = await app.start(goes_on)
            await spoilt.wait()
            error = await failure_of(app.start(goes_on))
            is_read_only.close()
            return error, await app.result(id, timeout=10), len(await app.find())

    with is_read_only:
        error, result, count = asyncio.run(scenario())
    assert isinstance(error, StoreUnavailableError)
    assert (result, count) == (1, 1)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else"
)
@pytest.mark.parametrize("is_fooled", [False, True], ids=["asked", "tried"])
def test_somebody_elses_file_is_refused(is_fooled):
    """A file this user may not write is refused: by its mode, and by SQLite when that misleads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "edda.db"
        asyncio.run(create_one(path))
        path.parent.chmod(0o755)
        path.chmod(0o644)
        before = path.read_bytes()
        found, _ = run_other("refused", path, is_fooled).communicate(timeout=60)
        after = path.read_bytes()
    assert found.startswith(f"StoreError: {path} cannot be written: ")
    assert "Nothing was changed. SQLite writes the file and others beside it" in found
    assert after == before


async def refused(path, is_fooled):
    await asyncio.to_thread(os.getpid)  # nobody may not read our modules: have them all now
    os.setuid(65534)
    if is_fooled == "True":
        os.access = lambda *_: True
    error = await failure_of(SqliteStore(path, SystemClock()).open())
    print(f"{type(error).__name__}: {error}", flush=True)
    os._exit(0)  # nobody may write what is written at the end


# ---- kill -9 -----------------------------------------------------------------------------------

KILLS = 25


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path):
    """A writer is killed in mid-load, again and again: what it was told is stored is there."""
    other = run_other("crash", tmp_path / "edda.db", KILLS)
    report = json.loads(other.communicate(timeout=120)[0])
    assert report["lost"] == []
    assert report["damaged"] == []
    assert report["kills"] == KILLS
    assert report["acknowledged"] > 10 * KILLS  # or this has tested nothing


def crash(path, kills):
    """Fork a writer, kill it, look; as often as asked. This process has no threads to fork."""
    kills = int(kills)
    chance = random.Random(kills)
    lost, damaged, acknowledged = [], [], 0
    for round_ in range(kills):
        read, write = os.pipe()
        writer = os.fork()
        if not writer:
            os.close(read)
            asyncio.run(write_for_ever(path, write, round_))
        os.close(write)
        heard = os.read(read, 1)  # it has begun
        time.sleep(chance.uniform(0.0, 0.04))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        with os.fdopen(read, "rb") as pipe:
            told = (heard + pipe.read()).decode().splitlines()
        acknowledged += len(told)
        asyncio.run(look(path, told, lost, damaged))
    print(
        json.dumps({"lost": lost, "damaged": damaged, "acknowledged": acknowledged, "kills": kills})
    )


async def write_for_ever(path, pipe, round_):
    async with opened(path) as store:
        await store._run(
            lambda _: (
                store._file.connection.execute(
                    "CREATE TABLE IF NOT EXISTS note (name TEXT, seq INTEGER)"
                ).rowcount
            )
        )
        await asyncio.gather(
            *(write_one(store, pipe, f"{round_}.{n}") for n in range(8)),
            *(take_jobs(store, pipe, f"{round_}.taker{n}") for n in range(2)),
        )


async def write_one(store, pipe, name):
    """Steps of all kinds; each is told when it is acknowledged, and not before."""
    claimed = (await store.create(new(name, "me"))).claimed
    for seq in range(1, 1_000_000):
        sent = event(f"{name}/{seq}", type="job" if seq % 2 else "paid")
        commit = replace(step(claimed.lease, seq), messages=(sent,), outbox=(sent,))
        if seq % 3:
            await store.commit(commit)
        else:
            async with store.transaction() as transaction:
                await transaction.connection.execute("INSERT INTO note VALUES (?, ?)", (name, seq))
                await transaction.commit(commit)
        os.write(pipe, f"step {name} {seq}\n".encode())
        await store.deliver([event(f"{name}/{seq}/door")])
        os.write(pipe, f"event {name}/{seq}/door 0\n".encode())


async def take_jobs(store, pipe, name):
    """Take what is competed for, one at a time, and give some of it back."""
    claimed = (await store.create(new(name, "me"))).claimed
    taken = ()
    for n in range(1_000_000):
        waits = (Wait(f"receive:{n}", "job", mode="competing"),) if n % 5 else ()
        commit = Commit(
            claimed.lease, 1, (), Status.RUNNING, waits, taken, None, release=False,
            subscriptions=(Subscription("job", "competing"),),
        )  # fmt: skip
        committed = await store.commit(commit)
        for position in taken:
            os.write(pipe, f"taken {name} {position}\n".encode())
        taken = tuple(message.position for message in committed.messages)
        if not taken:
            await asyncio.sleep(0)


ACKNOWLEDGED = {
    "event": "SELECT 1 FROM edda_message WHERE id = :name",
    "step": """
        SELECT 1 FROM edda_instance AS i JOIN edda_event AS e ON e.instance = i.key
        WHERE i.id = :name AND e.seq = :seq""",
    "taken": """
        SELECT 1 FROM edda_instance AS i JOIN edda_taken AS t ON t.instance = i.key
        WHERE i.id = :name AND t.position = :seq""",
}

# What a crash must leave whole. Each finds what is torn.
TORN = {
    "a history with a hole, or not as long as it says": """
        SELECT i.id FROM edda_instance AS i LEFT JOIN edda_event AS e ON e.instance = i.key
        GROUP BY i.key HAVING count(e.seq) <> i.length OR max(e.seq) <> i.length - 1""",
    "a step without its outgoing event, or the reverse": """
        SELECT i.id || '/' || e.seq FROM edda_instance AS i JOIN edda_event AS e
            ON e.instance = i.key WHERE e.seq > 0
        EXCEPT SELECT json_extract(text, '$.id') FROM edda_outbox
        UNION ALL SELECT * FROM (SELECT json_extract(text, '$.id') FROM edda_outbox
        EXCEPT SELECT i.id || '/' || e.seq FROM edda_instance AS i JOIN edda_event AS e
            ON e.instance = i.key)""",
    "a step without its message": """
        SELECT i.id || '/' || e.seq FROM edda_instance AS i JOIN edda_event AS e
            ON e.instance = i.key WHERE e.seq > 0
        EXCEPT SELECT id FROM edda_message""",
    "a transactional step without what it wrote, or the reverse": """
        SELECT * FROM (SELECT i.id, e.seq FROM edda_instance AS i JOIN edda_event AS e
            ON e.instance = i.key WHERE e.seq > 0 AND e.seq % 3 = 0
        EXCEPT SELECT name, seq FROM note)
        UNION ALL SELECT * FROM (SELECT name, seq FROM note
        EXCEPT SELECT i.id, e.seq FROM edda_instance AS i JOIN edda_event AS e
            ON e.instance = i.key)""",
    "a job that is nobody's, or is twice somewhere": """
        SELECT m.position FROM edda_message AS m JOIN edda_shape AS s
            ON s.type = 'job' AND s.paths = 'competing'
        WHERE m.type = 'job' AND 1 <> (
            (SELECT count(*) FROM edda_given WHERE position = m.position)
            + (SELECT count(*) FROM edda_taken WHERE position = m.position)
            + (SELECT count(*) FROM edda_facet AS f WHERE f.shape = s.key AND f.found = ''
                AND f.target = '?' AND f.position = m.position))""",
}


async def look(path, told, lost, damaged):
    store = DirectSqliteStore(SystemClock(), path)
    await store.open()
    ask = store._file.connection.execute
    for line in told:
        if line.count(" ") == 2:  # the last one may have been cut
            what, name, seq = line.split()
            found = ask(ACKNOWLEDGED[what], {"name": name, "seq": int(seq or -1)}).fetchone()
            lost += [line] if found is None else []
    damaged += [row[0] for row in ask("PRAGMA quick_check") if row[0] != "ok"]
    for what, statement in TORN.items():
        damaged += [f"{what}: {row}" for row in ask(statement).fetchmany(3)]
    for view in await store.find(limit=1000):
        for seq, one in enumerate(await store.history(view.id)):
            if seq and (one.seq, one.ask.id) != (seq, f"pay:{seq}"):
                damaged.append(f"{view.id}: {one} is event {seq}")
    await store.close()


if __name__ == "__main__":
    VERB, *ARGUMENTS = sys.argv[1:]
    if VERB == "crash":
        crash(*ARGUMENTS)
    else:
        verbs = {"share": share, "forget": forget, "refused": refused}
        asyncio.run(verbs[VERB](*ARGUMENTS))
