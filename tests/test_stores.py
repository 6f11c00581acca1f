"""The stores: each keeps the contract of `edda_testkit.contract`, and SQLite keeps its file.

Run as a program, this module is the other process of some tests: `python test_stores.py VERB ...`.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edda.codec import decode_error
from edda.commands import ActivityAsk, Result
from edda.errors import HistoryFormatError, StoreError, StoreUnavailableError, StoreVersionError
from edda.events import Envelope
from edda.history import Asked, Finished, Started
from edda.ports import Commit, NewInstance, Status
from edda.stores import sqlite_file
from edda.stores.memory import MemoryStore
from edda.stores.sqlite import DirectSqliteStore, SqliteStore
from edda.stores.sqlite_rows import SQL
from edda_testkit import contract

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


def test_every_statement_is_used():
    """Each named statement of sqlite.sql is asked for somewhere, and none that is not there."""
    sources = [
        (ROOT / f"edda/stores/sqlite_{room}.py").read_text() for room in ("core", "file", "log")
    ]
    assert set(re.findall(r'SQL\["(\w+)"\]', "".join(sources))) == set(SQL)


@pytest.mark.parametrize(
    "name", ["ready", "next_due", "offered", "fitting", "fitting_of_one", "stuck"]
)
def test_no_statement_reads_a_whole_table(name):
    """What is asked all the time goes by index, however many instances and messages there are."""
    connection = sqlite3.connect(":memory:")
    with contextlib.closing(connection):
        connection.executescript(SQL["schema"])
        named = dict.fromkeys(re.findall(r":(\w+)", SQL[name]))
        values = named or (None,) * SQL[name].count("?")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", values)]
    scans = [line for line in plan if re.match(r"SCAN (edda|[a-z]$|[a-z] )", line)]
    assert [line for line in scans if "USING INDEX edda_instance_stuck" not in line] == []


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
        await asyncio.gather(*(write_one(store, pipe, f"{round_}.{n}") for n in range(8)))


async def write_one(store, pipe, name):
    claimed = (await store.create(new(name, "me"))).claimed
    for seq in range(1, 1_000_000):
        await store.commit(step(claimed.lease, seq))
        os.write(pipe, f"step {name} {seq}\n".encode())
        await store.deliver([event(f"{name}/{seq}")])
        os.write(pipe, f"event {name}/{seq} 0\n".encode())


async def look(path, told, lost, damaged):
    store = DirectSqliteStore(SystemClock(), path)
    await store.open()
    ask = store._file.connection.execute
    for line in told:
        what, name, seq = line.split()
        if what == "event":
            found = ask("SELECT 1 FROM edda_message WHERE id = ?", (name,)).fetchone()
        else:
            found = ask(
                "SELECT 1 FROM edda_instance AS i JOIN edda_event AS e ON e.instance = i.key "
                "WHERE i.id = ? AND e.seq = ?",
                (name, int(seq)),
            ).fetchone()
        if found is None:
            lost.append(line)
    damaged += [row[0] for row in ask("PRAGMA quick_check") if row[0] != "ok"]
    half = (
        "SELECT id FROM edda_instance AS i "
        "WHERE length <> (SELECT count(*) FROM edda_event WHERE instance = i.key)"
    )
    damaged += [row[0] for row in ask(half)]
    await store.close()


if __name__ == "__main__":
    VERB, *ARGUMENTS = sys.argv[1:]
    if VERB == "crash":
        crash(*ARGUMENTS)
    else:
        asyncio.run({"share": share, "forget": forget}[VERB](*ARGUMENTS))
