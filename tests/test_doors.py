"""The doors as production uses them: worker ids, and leases of the dead."""

import asyncio
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edda import EddaApp
from edda.doors import SystemClock, is_dead, open_store, worker_id
from edda.errors import StoreUrlError
from edda.stores.memory import MemoryStore
from edda.stores.postgres import PostgresStore
from edda.stores.sqlite import SqliteStore

ROOT = Path(__file__).parent.parent

KILLED = """
import asyncio, os
from edda import EddaApp, activity, workflow

@activity
async def slow(ctx, seconds: float) -> str:
    print("begun", flush=True)
    await asyncio.sleep(seconds)
    return "slow"

@workflow
async def patient(ctx, seconds: float) -> str:
    return await slow(ctx, seconds)

async def main(url):
    async with EddaApp("killed", url) as app:
        await app.start(patient, 60.0, instance_id="one")
        await asyncio.sleep(60)
"""


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryStore),
        ("sqlite:///edda.db", SqliteStore),
        ("postgresql://me@host/db", PostgresStore),
        ("postgres://me:secret@host/db?schema=orders", PostgresStore),
    ],
)
def test_a_url_names_a_store(url, kind):
    """The scheme of a URL says which store it is; none is opened yet, or shows a password."""
    store = open_store(url, SystemClock())
    assert isinstance(store, kind)
    assert "secret" not in repr(store)


def test_without_its_driver_a_store_says_what_to_install(monkeypatch):
    """A PostgreSQL URL without asyncpg names the extra that brings it, and not the password."""
    for name in [name for name in sys.modules if name.startswith("edda.stores.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StoreUrlError) as caught:
        open_store("postgresql://me:secret@host/db", SystemClock())
    assert str(caught.value).startswith(
        "The database URL 'postgresql://...' needs asyncpg, which is not installed "
        "(`pip install edda-durable[postgres]`). Use memory://"
    )


def test_a_clock_follows_another_one():
    """A clock that follows is moved as far as it must be wrong, and no further."""
    clock = SystemClock()
    hour, second = timedelta(hours=1), timedelta(seconds=1)
    now = clock.now()
    clock.follow(now, now - second, now + second)  # what is possible changes nothing
    assert abs(clock.now() - datetime.now(UTC)) < second / 2
    clock.follow(now + hour, now - second, now)
    assert hour - second < clock.now() - datetime.now(UTC) <= hour
    now = clock.now()
    clock.follow(now - hour, now, now + second)
    assert abs(clock.now() - datetime.now(UTC)) < second


def test_a_worker_of_this_process_is_alive():
    """A worker of this very process is not dead, and its id says which service it works for."""
    mine = worker_id("orders")
    assert mine.startswith("orders@")
    assert mine != worker_id("orders")
    assert not is_dead(mine)


def test_a_process_that_ended_is_dead():
    """A worker whose process has ended on this host is dead."""
    code = "from edda.doors import worker_id; print(worker_id('gone'))"
    gone = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert is_dead(gone)


def test_an_earlier_process_with_our_pid_is_dead():
    """A pid that was used again, as in a container, does not keep the dead alive."""
    assert is_dead(re.sub(r":[0-9a-f]{8}:", ":00000000:", worker_id("before")))


@pytest.mark.parametrize("worker", ["", "somebody", "a@elsewhere.example:1:00000000:00000000"])
def test_what_cannot_be_known_is_taken_for_alive(worker):
    """Workers of other hosts and with other names keep their leases until they lapse."""
    assert not is_dead(worker)


def test_a_process_we_may_not_ask_is_alive(monkeypatch):
    """A process of another user exists, although asking it is refused."""

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not is_dead(worker_id("x").replace(f":{os.getpid()}:", ":1:"))


def test_a_restarted_process_takes_over_at_once(tmp_path):
    """What a killed process had in flight goes on at the restart, not when its lease lapses."""
    url = f"sqlite:///{tmp_path}/edda.db"
    (tmp_path / "killed.py").write_text(
        KILLED + f"\nif __name__ == '__main__': asyncio.run(main({url!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "killed.py")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "begun\n"
        process.kill()

    async def restart() -> str:
        scope: dict[str, object] = {"__name__": "killed"}
        exec(compile(KILLED.replace("sleep(seconds)", "sleep(0)"), "killed", "exec"), scope)
        async with EddaApp("again", url, workflows=[scope["patient"]]) as app:
            return await app.result("one", timeout=10)

    begun = time.monotonic()
    assert asyncio.run(restart()) == "slow"
    assert time.monotonic() - begun < 8, "the lease of the dead is 30 s"
