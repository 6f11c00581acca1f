"""The main job, from end to end: the page's program, its server, its curl, its tests.

`make demo` runs this. Everything happens in a temporary folder and on loopback.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from edda import EddaApp
from examples.event_waiting_workflow import payment_workflow

ROOT = Path(__file__).resolve().parent.parent

# The page's curl, byte for byte.
CURL = """\
curl -X POST http://localhost:8001/events \\
-H "Content-Type: application/cloudevents+json" \\
-d '{
"specversion": "1.0",
"type": "payment.completed",
"source": "payment-service",
"id": "event-123",
"datacontenttype": "application/json",
"data": {
"order_id": "ORD-123",
"transaction_id": "TXN-456",
"amount": 99.99,
"status": "success"
}
}'"""
WAIT_SECONDS = 20.0


def main() -> int:
    """Run the four acts; 0 when each did what it should."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/demo.db"
        environment = os.environ | {
            "EDDA_DB_URL": database,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
        }
        act("1. The page's program, on SQLite: python examples/event_waiting_workflow.py")
        run([sys.executable, "examples/event_waiting_workflow.py"], environment)

        port = 8001 if is_free(8001) else free_port()
        act(f"2. A server: edda serve examples.event_waiting_workflow:app --port {port}")
        with serving(environment, port):
            instance = asyncio.run(start(database))
            print(f"Started {instance} from another process; it waits for its event.")
            wait_for(database, instance, "waiting_for_event")
            curl(port)
            wait_for(database, instance, "completed")
            print(f"Its result: {asyncio.run(result(database, instance))}")

        act("3. The same workflows in virtual time: pytest examples/test_event_waiting.py")
        tests = ["-m", "pytest", "-q", "-o", "addopts=", "examples/test_event_waiting.py"]
        run([sys.executable, *tests], environment)

        act(f"4. What happened to {instance}: edda show")
        run([sys.executable, "-m", "edda", "show", "--db", database, instance], environment)
    return 0


def act(title: str) -> None:
    """A heading."""
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n== {title}", flush=True)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a program here and now; its failure is ours."""
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


@contextlib.contextmanager
def serving(environment: dict[str, str], port: int) -> Iterator[None]:
    """A server until the block ends; then it is asked to stop and must."""
    target = "examples.event_waiting_workflow:app"
    command = [sys.executable, "-m", "edda", "serve", target, "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as server:
        try:
            wait_until(lambda: answers(port) or server.poll() is not None, "the server to answer")
            if server.poll() is not None:
                raise SystemExit(f"The server ended by itself, with exit code {server.returncode}.")
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(WAIT_SECONDS)


def curl(port: int) -> None:
    """Send the page's event with the page's command; expect 202."""
    command = CURL.replace(":8001", f":{port}")
    print(command, flush=True)
    if shutil.which("curl"):
        answer = subprocess.run(
            ["sh", "-c", f"{command} -s -w ' %{{http_code}}'"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    else:  # the same request, where there is no curl
        body = CURL.partition("-d '")[2].removesuffix("'").encode()
        request = urllib.request.Request(
            f"http://localhost:{port}/events",
            data=body,
            headers={"Content-Type": "application/cloudevents+json"},
        )
        with urllib.request.urlopen(request) as response:
            answer = f"{response.read().decode()} {response.status}"
    print(f"→ {answer}")
    if not answer.endswith("202") or json.loads(answer[:-3]) != {"status": "accepted"}:
        raise SystemExit(f"The event was not accepted: {answer}")


async def start(database: str) -> str:
    """Start a payment from this process; the server's worker takes it."""
    async with EddaApp("demo", database, worker=False) as app:
        return await app.start(payment_workflow, order_id="ORD-123")


async def result(database: str, instance: str) -> object:
    """What the instance returned."""
    async with EddaApp("demo", database, worker=False) as app:
        return await app.result(instance, timeout=WAIT_SECONDS)


async def status(database: str, instance: str) -> str:
    """Where the instance stands."""
    async with EddaApp("demo", database, worker=False) as app:
        return await app.status(instance)


def wait_for(database: str, instance: str, wanted: str) -> None:
    """Wait until the instance has a status."""
    wait_until(lambda: asyncio.run(status(database, instance)) == wanted, wanted)
    print(f"{instance} is {wanted}.")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Ask until it holds, for a while."""
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"Waited {WAIT_SECONDS:g} s for {what}, in vain.")
        time.sleep(0.1)


def answers(port: int) -> bool:
    """Whether something listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def is_free(port: int) -> bool:
    """Whether nothing listens there."""
    return not answers(port)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
