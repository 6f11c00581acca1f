"""A process that imports everything once, and forks servers that are to be killed.

Each server is a worker and the HTTP door on one database, as `edda serve` runs them. It listens
on a socket that the nursery keeps, so that whoever connects while it is dead waits for the next.
Orders come as lines of JSON, answers go out as lines: a number kills the server of that number, if
there is one, and starts another. Its own rules: one thread, no event loop.
"""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn

import edda.doors
import edda.http  # imported before the first fork
import edda.outbox
from edda import EddaApp
from edda.errors import EddaError, StoreUnavailableError
from tests.torture import mutants, world

BEAT_SECONDS = 0.1


def main(text):
    options = json.loads(text)
    if "postgres" in options["url"]:
        importlib.import_module("edda.stores.postgres")
    sockets = [listening() for _ in range(options["servers"])]
    say({"ports": [each.getsockname()[1] for each in sockets]})
    children = {}  # number -> pid
    for line in sys.stdin:
        number = json.loads(line)
        if number in children:
            end(children[number])
        children[number] = os.fork()
        if not children[number]:
            be_server(options, sockets[number], number)
        say({"pid": children[number]})
    for pid in children.values():
        end(pid)


def end(pid):
    """Kill a server. Its number is its own until then: nobody else's process is ever struck."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def say(what):
    print(json.dumps(what), flush=True)


def listening():
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(200)
    return made


def be_server(options, own, number):
    code = 1
    try:
        folder = Path(options["folder"])
        out = os.open(folder / f"server-{number}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        world.settings["moment_seconds"] = options["moment_seconds"]
        world.open_ledger(folder / "ledger")
        edda.outbox.LEASE_SECONDS = 2.0  # a minute is too long for this test
        set_clock(options["skew_seconds"] * (number - (options["servers"] - 1) / 2))
        if options["mutant"]:
            store = "postgres" if "postgres" in options["url"] else "sqlite"
            mutants.plant(store, options["mutant"])
        asyncio.run(serve(options, own, number))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def set_clock(ahead_seconds):
    """Let this machine's clock be wrong; that of the database is not."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=ahead_seconds)

    edda.doors.datetime = Clock


async def serve(options, own, number):
    app = EddaApp(
        f"server{number}",
        options["url"],
        workflows=list(world.WORKFLOWS.values()),
        lease_seconds=options["lease_seconds"],
    )
    beats = asyncio.create_task(beat(app, options["lease_seconds"]))
    config = uvicorn.Config(with_start(app), lifespan="on", log_level="warning", loop="asyncio")
    await uvicorn.Server(config).serve(sockets=[own])
    beats.cancel()


async def beat(app, lease_seconds):
    """Set down when this process could not have renewed its leases in time, and for how long."""
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(BEAT_SECONDS)
        with contextlib.suppress(EddaError):
            await app.store.workers()
        late = loop.time() - before - BEAT_SECONDS
        if late > lease_seconds / 3:
            world.note("stall", seconds=late + BEAT_SECONDS)


def with_start(app):
    """The app, and `POST /start?workflow=&id=&n=` beside it: `app.start`, then 202."""

    async def asgi(scope, receive, send):
        if scope.get("path") != "/start":
            await app(scope, receive, send)
            return
        query = {key: value[0] for key, value in parse_qs(scope["query_string"].decode()).items()}
        status = 202
        try:
            which = world.WORKFLOWS[query["workflow"]]
            await app.start(which, int(query["n"]), instance_id=query["id"])
        except StoreUnavailableError:
            status = 503
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return asgi


if __name__ == "__main__":
    main(sys.argv[1])
