"""The HTTP door through a real server, with the real `curl` and with bare sockets.

What an in-process client cannot do is done here: chunked uploads, `Expect: 100-continue`,
HTTP/1.0, raw header bytes, bodies that stop in the middle; other frameworks around the app, and a
store that fails.
"""

import asyncio
import json
import logging
import re
import shutil
import socket
import sqlite3
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import a2wsgi
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from edda import EddaApp, WorkflowContext, wait_event, workflow
from edda.doors import SystemClock
from edda.errors import StoreUnavailableError
from edda.http import BearerAuth
from edda.stores.memory import MemoryStore

EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "paid"}
STRUCTURED = {"content-type": "application/cloudevents+json"}

needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed; these tests talk through it"
)


@workflow
async def http_real_wait(ctx: WorkflowContext) -> dict:
    event = await wait_event(ctx, "paid")
    return {"data": event.data, "subject": event.subject}


class Store(MemoryStore):
    """A memory store that keeps what it was given, and fails as it is told."""

    def __init__(self, clock, fails=None):
        super().__init__(clock)
        self.given = []
        self.fails = fails

    async def deliver(self, envelopes, judge=None):
        when, self.fails = self.fails, None
        if when == "before":
            raise StoreUnavailableError("db.example")
        delivered = await super().deliver(envelopes, judge)
        self.given += [one for one, done in zip(envelopes, delivered, strict=True) if done.position]
        if when == "after":
            raise StoreUnavailableError("db.example")
        return delivered


@pytest.fixture
def store():
    return Store(SystemClock())


@pytest.fixture
def app(store):
    return EddaApp("real", "memory://", store=store, workflows=[http_real_wait])


@contextmanager
def served(app, **options) -> Iterator[int]:
    """The app behind uvicorn in a thread; the port it listens on."""
    options = {"lifespan": "auto", "ws": "none", "log_level": logging.CRITICAL, **options}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def port(app):
    with served(app) as port:
        yield port


def curl(port, path, *options, body=None):
    """Status, headers and body of what curl got."""
    command = ["curl", "-sS", "-m", "20", "-i", *options, f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run(command, input=body, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    answer = done.stdout
    while True:  # a 100 Continue comes before the answer
        head, _, answer = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status >= 200:
            break
    lines = head.decode("latin-1").split("\r\n")[1:]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return status, headers, answer


def raw(port, *parts, shut=False):
    """What a socket got for these bytes, up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


BINARY = [f"-Hce-{name}: {value}" for name, value in EVENT.items()]
TYPE = "-HContent-Type: application/cloudevents+json"


# ---- curl ------------------------------------------------------------------------------------


@needs_curl
@pytest.mark.parametrize("path", ["/events", "/", "/events/", "/events?x=1"])
def test_curl_sends_a_structured_event(port, store, path):
    """A structured event is stored when the 202 comes."""
    body = json.dumps({**EVENT, "data": {"a": "é"}}).encode()
    status, headers, answer = curl(port, path, TYPE, "--data-binary", "@-", body=body)
    assert (status, answer) == (202, b'{"status":"accepted"}')
    assert headers["content-type"] == "application/json"
    assert store.given[0].document == {**EVENT, "data": {"a": "é"}}


@needs_curl
def test_curl_sends_a_binary_event(port, store):
    """Attributes come from headers in any case, percent-decoded; data from the body as it is."""
    options = [
        *BINARY,
        "-HCE-SUBJECT: Euro%20%E2%82%AC%20%F0%9F%98%80",
        '-HCe-Quoted: "a \\"b\\""',
        "-Hcontent-type: application/octet-stream",
        "--data-binary",
        "@-",
    ]
    status, _, answer = curl(port, "/events", *options, body=b"\x00\xff\r\n")
    assert (status, answer) == (202, b'{"status":"accepted"}')
    assert store.given[0].document == {
        **EVENT,
        "subject": "Euro € 😀",
        "quoted": 'a "b"',
        "datacontenttype": "application/octet-stream",
        "data_base64": "AP8NCg==",
    }


@needs_curl
def test_curl_sends_a_batch(port, store):
    """A batch is stored as a whole, in its order."""
    batch = [{**EVENT, "id": str(number)} for number in range(100)]
    kind = "-HContent-Type: application/cloudevents-batch+json"
    status, _, _ = curl(port, "/", kind, "--data-binary", "@-", body=json.dumps(batch).encode())
    assert status == 202
    assert [envelope.id for envelope in store.given] == [event["id"] for event in batch]


@needs_curl
@pytest.mark.parametrize(
    "options",
    [
        ["-HTransfer-Encoding: chunked"],
        ["-HExpect: 100-continue"],
        ["-HTransfer-Encoding: chunked", "-HExpect: 100-continue"],
        ["--http1.0"],
    ],
    ids=["chunked", "expect", "both", "http/1.0"],
)
def test_curl_uploads_in_its_ways(port, store, options):
    """Chunked, after a 100 Continue, or by HTTP/1.0: the same event is stored."""
    event = {**EVENT, "data": "x" * 300_000}
    body = json.dumps(event).encode()
    status, _, _ = curl(port, "/events", TYPE, *options, "--data-binary", "@-", body=body)
    assert status == 202
    assert store.given[0].document == event


@needs_curl
@pytest.mark.parametrize(
    "options", [[], ["-HTransfer-Encoding: chunked"]], ids=["length", "chunked"]
)
def test_curl_is_told_when_a_body_is_too_long(port, store, options):
    """A body over the limit is a 413, announced or not, and nothing is stored."""
    body = b"x" * (1 << 21)
    options = [TYPE, "-HExpect:", *options, "--data-binary", "@-"]
    command = ["curl", "-s", "-m", "20", "-w", "%{http_code}", "-o", "-", *options]
    url = f"http://127.0.0.1:{port}/events"
    # curl may see the connection end while it still sends, and has the answer by then.
    done = subprocess.run([*command, url], input=body, capture_output=True, check=False)
    assert done.stdout.endswith(b'"error_type":"PayloadTooLarge","retryable":false}413')
    assert store.given == []


@needs_curl
def test_a_body_that_is_announced_too_long_is_not_asked_for(port):
    """Who expects a 100 Continue gets the 413 in its place, and sends nothing."""
    command = ["curl", "-s", "-m", "20", "--expect100-timeout", "20", "-HExpect: 100-continue"]
    command += [TYPE, "-w", " %{size_upload}", "--data-binary", "@-"]
    url = f"http://127.0.0.1:{port}/events"
    body = b"x" * (1 << 21)
    done = subprocess.run([*command, url], input=body, capture_output=True, check=False)
    assert b"PayloadTooLarge" in done.stdout
    assert done.stdout.endswith(b" 0")


REFUSED = [
    (["-d", "{}"], "/events", 415),
    (["-d", "{}", TYPE], "/events", 400),
    (["-d", "{}", "-HContent-Type: application/json"], "/events", 415),
    ([], "/events", 405),
    (["-X", "PUT", "-d", "{}"], "/events", 405),
    (["-X", "BREW"], "/events", 405),
    ([], "/nothing", 404),
    ([], "/instances/no%2Fsuch%00thing", 404),
    ([], "/instances/%ff%fe", 404),
    ([], "/instances/x?result=yes", 400),
    (["-X", "POST"], "/cancel/none", 404),
    ([*BINARY, "-Hce-id: 2", "-X", "POST"], "/events", 400),
    ([*BINARY, "-Hce-subject: \xff", "-X", "POST"], "/events", 400),
]


@needs_curl
@pytest.mark.parametrize(("options", "path", "status"), REFUSED)
def test_curl_is_told_what_is_wrong(port, store, options, path, status):
    """Every refusal has the three fields, says what to do, and stores nothing."""
    found, headers, answer = curl(port, path, *options)
    assert found == status, answer
    refusal = json.loads(answer)
    assert list(refusal) == ["error", "error_type", "retryable"]
    assert (len(refusal["error"]) > 20, refusal["retryable"]) == (True, False)
    assert ("allow" in headers) == (status == 405)
    assert store.given == []


@needs_curl
def test_curl_reads_and_cancels_an_instance(app):
    """An instance's state is a GET, its outcome with ?result=1, its cancellation a POST."""
    with served(app) as port:
        kind = "-HContent-Type: application/json"
        status, _, body = curl(port, "/healthz")
        assert (status, json.loads(body)) == (200, {"status": "ok"})
        # The app lives on the server's loop; what starts must be started there.
        loop_of = app._watcher.get_loop()
        future = asyncio.run_coroutine_threadsafe(
            app.start(http_real_wait, instance_id="a/b c"), loop_of
        )
        assert future.result(10) == "a/b c"
        status, headers, body = curl(port, "/instances/a%2Fb%20c?result=1", kind)
        view = json.loads(body)
        assert (status, view["id"], view["result"]) == (200, "a/b c", None)
        assert headers["cache-control"] == "private, no-store"
        status, headers, body = curl(port, "/instances/a/b%20c", "-I")
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 100
        assert curl(port, "/cancel/a%2Fb%20c", "-X", "POST")[0] == 202
        while curl(port, "/cancel/a%2Fb%20c", "-X", "POST")[0] != 409:
            pass


@needs_curl
def test_the_commands_of_the_page_work(port, store):
    """Every curl command of `docs/http.md` is answered with 202 as it stands."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "http.md").read_text("utf-8")
    _, _, section = page.partition("## Events\n")
    lines = section.partition("\n## ")[0].splitlines(keepends=True)
    script = textwrap.dedent("".join(line for line in lines if line.startswith("    ")))
    script = script.replace("8001", str(port)).replace("curl ", "curl -sS -w '%{http_code} ' ")
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.count('{"status":"accepted"}202 '), done.stderr) == (3, "")
    assert [envelope.id for envelope in store.given] == ["1", "2", "3"]


@needs_curl
def test_curl_shakes_hands(port):
    """OPTIONS grants the origin that asks."""
    origin = "-HWebHook-Request-Origin: emitter.example"
    status, headers, _ = curl(port, "/events", "-X", "OPTIONS", origin)
    assert (status, headers["webhook-allowed-origin"]) == (200, "emitter.example")
    assert headers["allow"] == "POST, OPTIONS"


@needs_curl
def test_a_token_is_taken_from_header_or_query(store):
    """With auth, the right token passes by either way, and `/healthz` needs none."""
    app = EddaApp("real", "memory://", store=store, auth=BearerAuth("old", "new"))
    body = ["-d", json.dumps(EVENT), TYPE]
    with served(app) as port:
        assert curl(port, "/events", *body)[0] == 401
        assert curl(port, "/events?access_token=nope", *body)[0] == 401
        assert curl(port, "/events?access_token=new", *body)[0] == 202
        assert curl(port, "/events", "-HAuthorization: Bearer old", *body)[0] == 202
        assert curl(port, "/openapi.json")[0] == 401
        assert curl(port, "/healthz")[0] == 200


# ---- Bytes -----------------------------------------------------------------------------------


def head(length, *lines):
    lines = ["POST /events HTTP/1.1", "host: x", f"content-length: {length}", *lines]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def test_a_slow_body_is_waited_for(port, store):
    """A body in pieces, one byte first, is one event."""
    body = json.dumps(EVENT).encode()
    lines = ["connection: close", "content-type: application/cloudevents+json"]
    answer = raw(port, head(len(body), *lines), body[:1], body[1:20], body[20:])
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert [envelope.id for envelope in store.given] == ["1"]


def test_a_body_cut_in_the_middle_stores_nothing(port, store):
    """When the connection ends before the body does, nothing is accepted, and others go on."""
    body = json.dumps(EVENT).encode()
    lines = ["connection: close", "content-type: application/cloudevents+json"]
    assert b" 202 " not in raw(port, head(len(body) + 1, *lines), body, shut=True)
    assert store.given == []
    assert raw(port, head(len(body), *lines), body).startswith(b"HTTP/1.1 202 ")


def test_a_chunked_body_cut_in_the_middle_stores_nothing(port, store):
    """A chunked body without its end is no body, even if what came is a whole event."""
    body = json.dumps(EVENT).encode()
    start = (
        b"POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    assert b" 202 " not in raw(port, start, b"%x\r\n%s\r\n" % (len(body), body), shut=True)
    assert store.given == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("ce-subject: caf\xe9", 400),
        ("ce-subject: %E9", 400),
        ("ce-subject: caf%c3%a9", 202),
        ("ce-subject:   spaced   ", 202),
        ("CE-Subject: a", 202),
        ("ce-type: paid", 400),
    ],
)
def test_raw_header_bytes(port, line, status):
    """Header bytes outside ASCII, twice the same header: refused; case and padding: no matter."""
    lines = [f"ce-{name}: {value}" for name, value in EVENT.items()]
    answer = raw(port, head(0, "connection: close", *lines, line))
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer


def test_two_requests_on_one_connection(port, store):
    """A refused body is read to its end where it is short, so the next request is understood."""
    bad, good = b'{"id":"1"}', json.dumps(EVENT).encode()
    kind = "content-type: application/cloudevents+json"
    answer = raw(port, head(len(bad), kind), bad, head(len(good), kind, "connection: close"), good)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"400", b"202"]
    assert [envelope.id for envelope in store.given] == ["1"]


# ---- A store that fails ----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_trouble_of_the_store_is_mended_by_a_repeat(app, store, when):
    """503 with Retry-After, whether or not it took effect; the repeat is a 202, stored once."""
    store.fails = when
    with served(app) as port:
        url = f"http://127.0.0.1:{port}/events"
        first, second = (httpx.post(url, headers=STRUCTURED, json=EVENT) for _ in range(2))
    assert (first.status_code, first.headers["retry-after"]) == (503, "1")
    assert first.json()["retryable"] is True
    assert "db.example" not in first.text
    assert (second.status_code, len(store.given)) == (202, 1)


def test_trouble_with_a_batch_leaves_nothing_half_done(app, store):
    """A batch that met a failing store is not there in part."""
    store.fails = "before"
    batch = [{**EVENT, "id": str(number)} for number in range(3)]
    headers = {"content-type": "application/cloudevents-batch+json"}
    with served(app) as port:
        url = f"http://127.0.0.1:{port}/events"
        assert httpx.post(url, headers=headers, json=batch).status_code == 503
        assert store.given == []
        assert httpx.post(url, headers=headers, json=batch).status_code == 202
    assert len(store.given) == 3


def test_a_locked_database_is_trouble_too(tmp_path, monkeypatch):
    """While another program holds the SQLite file, the answer is 503; afterwards all is well."""
    monkeypatch.setattr("edda.stores.sqlite_file.BUSY_SECONDS", 0.05)
    app = EddaApp("real", f"sqlite:///{tmp_path}/edda.db", workflows=[http_real_wait])
    with served(app) as port:
        url = f"http://127.0.0.1:{port}/events"
        assert httpx.post(url, headers=STRUCTURED, json=EVENT).status_code == 202
        holder = sqlite3.connect(tmp_path / "edda.db", isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
            refused = httpx.post(url, headers=STRUCTURED, json={**EVENT, "id": "2"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error_type"] == "StoreUnavailableError"
            assert str(tmp_path) not in refused.text
            holder.execute("ROLLBACK")
        finally:
            holder.close()
        assert httpx.post(url, headers=STRUCTURED, json={**EVENT, "id": "2"}).status_code == 202


# ---- Inside other frameworks -----------------------------------------------------------------


def posted(port, path):
    return httpx.post(f"http://127.0.0.1:{port}{path}", headers=STRUCTURED, json=EVENT).status_code


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize("lifespan", [True, False], ids=["lifespan", "first request"])
@pytest.mark.parametrize(
    ("framework", "root_path"),
    [
        ("fastapi", ""),
        ("fastapi", "/api"),
        ("starlette", ""),
        ("starlette", "/api"),
        ("fastapi with a prefix", ""),  # a proxy took it off the path
    ],
)
def test_mounted_under_a_path(app, store, framework, root_path, lifespan):
    """Mounted, the app answers under its path, whoever opened it, also behind a prefix."""

    @asynccontextmanager
    async def life(outer):
        async with app:
            yield

    life = life if lifespan else None
    if framework == "starlette":
        outer = Starlette(routes=[Mount("/workflows", app=app)], lifespan=life)
    else:
        outer = FastAPI(lifespan=life, root_path="/v1" if "prefix" in framework else "")
        outer.mount("/workflows", app)
    with served(outer, root_path=root_path) as port:
        assert posted(port, "/workflows/events") == 202
        assert posted(port, "/workflows/") == 202
        assert posted(port, "/workflows/x") == 404
        url = f"http://127.0.0.1:{port}/workflows"
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        [server] = httpx.get(f"{url}/openapi.json").json()["servers"]
        assert server["url"].endswith("/workflows")
        assert httpx.get(f"{url}/instances/none").status_code == 404
    assert len(store.given) == 1


def test_two_first_requests_open_the_app_once(app, store):
    """Without a lifespan, requests that come together open the app once, and all are answered."""
    opened = []
    open_store = store.open

    async def slow():
        opened.append(1)
        await asyncio.sleep(0.05)
        await open_store()

    store.open = slow

    async def many(port):
        async with httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{port}/events"
            events = [{**EVENT, "id": str(number)} for number in range(5)]
            send = (client.post(url, headers=STRUCTURED, json=event) for event in events)
            return [answer.status_code for answer in await asyncio.gather(*send)]

    with served(app, lifespan="off") as port:
        assert asyncio.run(many(port)) == [202] * 5
    assert (opened, len(store.given)) == ([1], 5)


def test_inside_a_wsgi_server(app, store):
    """Wrapped by a2wsgi the app takes events as a WSGI application."""
    wsgi = a2wsgi.ASGIMiddleware(app)
    with httpx.Client(transport=httpx.WSGITransport(wsgi), base_url="http://edda") as client:
        answer = client.post("/events", headers=STRUCTURED, json=EVENT)
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.post("/events", headers=STRUCTURED, content="{").status_code == 400
    assert len(store.given) == 1
    asyncio.run_coroutine_threadsafe(app.shutdown(), wsgi.loop).result(10)
