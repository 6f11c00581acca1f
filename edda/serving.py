"""Running an app as a process: with HTTP or without, until a signal asks for the end.

A signal drains: requests and steps under way have some seconds to come to their end, leases are
given back, and another process goes on at once. Absent: the command line, and choosing an app by
its name.
"""

import asyncio
import errno
import importlib
import signal
import socket
import sys

from edda.app import EddaApp
from edda.errors import without_secrets
from edda.targets import Trouble, app_of

__all__ = ["serve", "work"]

DRAIN_SECONDS = 10
MOST_NAMES = 8


def serve(target: str, host: str, port: int) -> int:
    """Serve the app that `module:app` names over HTTP; the exit code. Raises `Trouble`."""
    try:
        uvicorn = importlib.import_module("uvicorn")
        importlib.import_module("edda.http")
    except ModuleNotFoundError as error:
        raise Trouble(
            f"`edda serve` needs {error.name}, which is not installed. "
            f'Run: pip install "edda-durable[http]"',
            1,
        ) from error
    app = app_of(target)
    _check_address(host, port)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan="on",
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = uvicorn.Server(config)
    print(f"edda: serving {_described(app)}", file=sys.stderr, flush=True)
    # uvicorn drains, and then sends itself the signal again: a stop that was asked for is no error.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:
        return 1  # it did not start, and said why
    return 0


def work(target: str) -> int:
    """Run the workflows of the app that `module:app` names; the exit code. Raises `Trouble`."""
    app = app_of(target)
    if not app.runs_workflows:
        raise Trouble(
            f"{target} was made with worker=False: it accepts, and runs nothing. Name "
            f"an app that works, or use `edda serve` to accept.",
            1,
        )

    async def run_until_asked() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def ask(*_: object) -> None:
            loop.call_soon_threadsafe(stop.set)
            # Who asks again by hand wants no drain. A second SIGTERM may be the same one: a
            # supervisor often sends it to the process and to its group.
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
        async with app:
            print(f"edda: working on {_described(app)}; Ctrl-C stops.", file=sys.stderr, flush=True)
            await stop.wait()
            print("edda: finishing what is under way.", file=sys.stderr, flush=True)

    asyncio.run(run_until_asked())
    return 0


def _described(app: EddaApp) -> str:
    """The database and the workflows: what somebody who waits for something looks at first."""
    names = sorted(app.names())
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    known = ", ".join(names[:MOST_NAMES]) + more if names else "none"
    return f"{without_secrets(app.db_url)}, workflows: {known}"


def _check_address(host: str, port: int) -> None:
    """Find out before the app is opened whether anybody can listen there. Raises `Trouble`."""
    cure = "Choose another with --host, e.g. 127.0.0.1 for this machine or 0.0.0.0 for all."
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except UnicodeError as error:
        raise Trouble(f"Cannot listen: {host!r} is no name of a host. {cure}", 1) from error
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                reason = f"port {port} of {host} is in use"
                cure = f"Stop what listens there, or choose another: --port {port % 65_535 + 1}."
            case errno.EACCES:
                reason = f"port {port} needs rights that this user has not"
                cure = "Choose one from 1024 up, e.g. --port 8001."
            case _:
                reason = f"{host} is no address of this machine ({error.strerror})"
        raise Trouble(f"Cannot listen: {reason}. {cure}", 1) from error
