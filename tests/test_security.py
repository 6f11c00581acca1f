"""The threat model of SECURITY.md, held: by reading the source of both packages, and by attack.

An exception to a rule is an entry in a table, with its reason; one that nothing needs is reported.
"""

import ast
import asyncio
import json
import logging
import sys
import types
from collections import Counter
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edda import EddaApp, WorkflowContext, wait_event, workflow
from edda.codec import decode_error, encode_error
from edda.errors import (
    BrokerError,
    DefinitionError,
    EddaError,
    HistoryFormatError,
    StoreUrlError,
    without_secrets,
)
from edda.events import as_envelope
from edda.history import from_document, from_row
from edda.http import BearerAuth, WebhookSignature
from edda.ports import Wait
from edda_testkit import Simulation
from edda_testkit.errors import ScheduleError
from edda_testkit.schedule import Schedule

ROOT = Path(__file__).resolve().parents[1]

# ---- Reasons: "room: what is done" -> why it may be ----------------------------------------------

RUNS_CODE = {
    "edda.app: importlib.import_module": "a room of our own, by a literal name",
    "edda.completion: importlib.import_module": "shtab, by a literal name",
    "edda.sender: importlib.import_module": "httpx, by a literal name",
    "edda.serving: importlib.import_module": "uvicorn and a room of our own, by literal names",
    "edda.targets: importlib.import_module": "`module:app`, which who starts the process names",
    "edda_testkit.__init__: importlib.import_module": "rooms of our own, from a table of ours",
    "edda_testkit.child: importlib.import_module": "the module of a golden file, which is code",
    "edda_testkit.freeze_stacks: importlib.import_module": "freezegun, by a literal name",
    "edda_testkit.guard_asks: import pickle": "its `dumps`, to know it when users call it",
    "edda_testkit.replay: importlib.import_module": "a room of our own, by a literal name",
    "edda_testkit.histories: importlib.import_module": "the module of a golden file, which is code",
    "edda_testkit.histories: importlib.util.spec_from_file_location": "the same, beside the file",
    "edda_testkit.perturb: subprocess.Popen": "this interpreter, on code of ours",
    "edda_testkit.plugin: importlib.import_module": "rooms of our own, by literal names",
    "edda_testkit.plugin_session: importlib.import_module": "rooms of our own, by literal names",
    "edda_testkit.web: importlib.import_module": "httpx, by a literal name",
    "edda_testkit.pydantic_time: importlib.import_module": "pydantic, by a literal name",
}
BUILDS_SQL = {
    "edda.stores.postgres_database: f'CREATE SCHEMA IF NOT EXISTS \"{self.schema}\"'": (
        "a name from the database's URL, and one without a quote"
    ),
    "edda_testkit.contract.transactions: f\"INSERT INTO contract_note VALUES ('{name}')\"": (
        "our own literal; the two databases have other placeholders"
    ),
    "edda.stores.sqlite_file: f'SAVEPOINT {SAVEPOINT}'": "a constant",
    "edda.stores.sqlite_file: f'RELEASE {SAVEPOINT}'": "a constant",
    "edda.stores.sqlite_file: f'PRAGMA user_version = {VERSION}'": "a constant, no placeholders",
}

# What turns text or bytes into code, or into objects of any class.
DANGEROUS = frozenset(
    """
    __import__ compile eval exec importlib.import_module importlib.util.spec_from_file_location
    importlib.__import__ marshal.load marshal.loads pickle.load pickle.loads pickle.Unpickler
    pydoc.locate pkgutil.resolve_name runpy.run_module runpy.run_path shelve.open subprocess.run
    subprocess.Popen os.system os.popen yaml.load yaml.unsafe_load types.FunctionType
    types.CodeType import_module resolve_name
    """.split()
)
EXECUTES = frozenset(
    """
    execute executemany executescript execute_many fetch fetchrow fetchval fetchmany prepare cursor
    _execute _execute_many copy_from_query
    """.split()
)


def sources():
    for package in ("edda", "edda_testkit"):
        for path in sorted((ROOT / package).rglob("*.py")):
            file = path.relative_to(ROOT).with_suffix("")
            yield ".".join(file.parts), ast.parse(path.read_text("utf-8"))


def dangerous(room, tree):
    """What a room calls or hands on that makes code of data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = ast.unparse(node)
            if name in DANGEROUS:
                yield f"{room}: {name}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            roots = [alias.name for alias in node.names] + [getattr(node, "module", None)]
            for name in roots:
                if name in ("pickle", "marshal", "shelve", "runpy", "dill", "cloudpickle"):
                    yield f"{room}: import {name}"


def built_sql(room, tree):
    """Statements that are put together where they are executed, or just before."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in EXECUTES and is_built(node.args[0]):
                yield f"{room}: {ast.unparse(node.args[0])}"


def is_built(node):
    """Whether an expression puts text together from something that is no literal."""
    match node:
        case ast.JoinedStr(values=values):
            return any(isinstance(value, ast.FormattedValue) for value in values)
        case ast.BinOp(op=ast.Add() | ast.Mod()):
            return True
        case ast.Call(func=ast.Attribute(attr="format" | "join" | "replace")):
            return True
        case ast.IfExp(body=body, orelse=orelse):
            return is_built(body) or is_built(orelse)
    return False


def unreasoned(rule, reasons):
    found = [line for room, tree in sources() for line in rule(room, tree)]
    wrong = [line for line in found if line not in reasons]
    idle = [line for line in reasons if line not in found]
    return wrong, idle


@pytest.mark.parametrize(("rule", "reasons"), [(dangerous, RUNS_CODE), (built_sql, BUILDS_SQL)])
def test_the_source_keeps_the_rules(rule, reasons):
    """Nothing makes code of data, no statement is put together; each exception has a reason."""
    assert unreasoned(rule, reasons) == ([], [])


@pytest.mark.parametrize(
    ("rule", "fault", "fine"),
    [
        (dangerous, "eval(text)", "evaluate(text)"),
        (dangerous, "import pickle", "import json"),
        (dangerous, "from marshal import loads", "from json import loads"),
        (dangerous, "map(exec, texts)", "map(execute, texts)"),
        (dangerous, "__import__(name)", "resolve(name)"),
        (built_sql, "db.execute(f'SELECT {x}')", "db.execute('SELECT ?', [x])"),
        (built_sql, "db.fetch('SELECT %s' % x)", "db.fetch(SQL['one'], x)"),
        (built_sql, "self._execute('A' + x)", "self._execute(statement, x)"),
        (built_sql, "db.execute('{}'.format(x))", "db.execute(f'SELECT 1')"),
    ],
)
def test_a_planted_fault_is_found(rule, fault, fine):
    """Each rule reports a planted fault, and not its neighbour."""
    assert len(list(rule("room", ast.parse(fault)))) == 1
    assert list(rule("room", ast.parse(fine))) == []


# ---- Names in stored and received data -----------------------------------------------------------

HOSTILE_NAMES = [
    "antigravity:geohash",
    "os:system",
    "subprocess:Popen",
    "builtins:eval",
    "builtins:SystemExit.__init__",
    "edda.codec:resolve.__globals__",
    "idlelib.run:Server",
    "xmlrpc.server:SimpleXMLRPCServer",
    "__main__:__loader__",
    "no such module:x",
    ":",
    "",
    "a" * 10_000,
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_stored_exception_imports_nothing(name):
    """Whatever class a stored exception names, nothing is imported and it stays a value."""
    before = set(sys.modules)
    entry = {"type": name, "message": "m", "args": ["touch x"], "state": {"a": 1}}
    error = decode_error(json.dumps({**entry, "cause": entry}))
    assert isinstance(error, EddaError)
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_the_model_of_a_stored_wait_imports_nothing(name):
    """A wait whose model is named by somebody else validates with no code of his."""
    envelope = as_envelope({"type": "t", "source": "s", "id": "1"}, {})
    app = app_with()
    before = set(sys.modules)
    try:
        found = app._judge(Wait("w", "t", model=name), envelope)
    except DefinitionError:
        found = None  # a loaded class that is no model
    assert found is None or json.loads(found)["type"] == "edda.errors:InvalidEventError"
    assert set(sys.modules) == before


def test_no_code_of_an_exception_class_runs(monkeypatch):
    """A loaded class with a constructor, a `__new__` and properties is rebuilt without them."""
    ran = []

    class Trap(Exception):
        def __new__(cls, *args):
            ran.append("new")
            return super().__new__(cls, *args)

        def __init__(self, *args):
            ran.append("init")

        def __setattr__(self, name, value):
            ran.append(name)

    Trap.__qualname__, Trap.__module__ = "Trap", "trapped"
    monkeypatch.setitem(sys.modules, "trapped", types.ModuleType("trapped"))
    monkeypatch.setattr(sys.modules["trapped"], "Trap", Trap, raising=False)
    entry = {"type": "trapped:Trap", "message": "a", "args": ["a"], "state": {"b": 1}}
    assert type(decode_error(json.dumps(entry))) is Trap
    assert ran == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(
    """
    builtins:ValueError builtins:OSError builtins:KeyError builtins:BaseExceptionGroup
    builtins:ExceptionGroup builtins:UnicodeDecodeError builtins:SyntaxError builtins:int
    builtins:StopIteration builtins:ImportError builtins:type none:None
    edda.errors:RetryExhaustedError edda.errors:InvalidEventError edda.errors:WorkflowFailed
    edda.errors:NonDeterminismError asyncio.exceptions:IncompleteReadError
    pydantic_core._pydantic_core:ValidationError
    """.split()
)


@given(
    NAMES,
    st.lists(JSON, max_size=5),
    st.dictionaries(st.text(max_size=8), JSON, max_size=3),
    st.text(),
)
@settings(max_examples=300)
def test_any_args_of_an_exception_are_a_value(name, args, state, message):
    """Whatever arguments and state an edited exception has, it is an exception, and can be told."""
    entry = {"type": name, "message": message, "args": args, "state": state}
    error = decode_error(json.dumps(entry))
    assert isinstance(error, BaseException)
    assert isinstance(encode_error(error), str)


# ---- Fuzzing of what reads -----------------------------------------------------------------------


@given(JSON)
@settings(max_examples=300)
def test_any_document_is_a_history_or_refused(document):
    """Any JSON is a history, or refused with our own error."""
    for given_document in (document, {"format": "edda-history/1", "events": document}):
        try:
            events = from_document(given_document)
        except HistoryFormatError:
            continue
        assert isinstance(events, tuple | list)


KINDS = """
    workflow_started activity_scheduled activity_completed activity_failed attempt_failed
    event_received event_refused cancel_requested patched channel_subscribed workflow_completed
    workflow_failed workflow_recurred child_started timer_fired unheard_of
""".split()


@given(st.integers(0, 9), st.sampled_from(KINDS), JSON, st.text(max_size=40) | st.none())
@settings(max_examples=400)
def test_any_row_is_an_event_or_refused(seq, kind, rest, payload):
    """Any row of a database is an event, or refused with our own error."""
    head = {"kind": kind, "at": "2030-01-01T00:00:00+00:00"}
    if isinstance(rest, dict):
        head |= rest
    try:
        event = from_row((seq, json.dumps(head), payload))
    except HistoryFormatError:
        return
    assert event.seq == seq


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: "edda1-" + raw.hex()))
def test_any_token_is_a_schedule_or_refused(text):
    """Any text is a schedule that prints itself again, or refused with our own error."""
    try:
        schedule = Schedule.parse(text)
    except ScheduleError:
        return
    assert Schedule.parse(schedule.token) == schedule


# ---- The HTTP door -------------------------------------------------------------------------------


@workflow
async def waiting(ctx: WorkflowContext):
    return (await wait_event(ctx, "t")).data


def ask(app, method, path, **request):
    async def go():
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with app, httpx.AsyncClient(transport=transport, base_url="http://a") as client:
            return await client.request(method, path, **request)

    return asyncio.run(go())


def app_with(**options):
    return EddaApp("s", "memory://", workflows=[waiting], **options)


HEADER_NAMES = st.sampled_from(
    """
    content-type content-length content-encoding authorization webhook-id webhook-timestamp
    webhook-signature webhook-request-origin ce-id ce-type ce-source ce-specversion ce-time
    ce-eddainstanceid ce-data x-forwarded-for transfer-encoding accept
    """.split()
)
HEADER_VALUES = st.binary(max_size=30) | st.sampled_from(
    [
        b"application/cloudevents+json",
        b"application/cloudevents-batch+json",
        b"application/json; charset=utf-7",
        b"Bearer \xff\xfe",
        b"Bearer",
        b"v1,",
        b"1" * 400,
        b"99999999999",
        b"-1",
        b"1e9",
        b"1.0",
    ]
)
PATHS = st.sampled_from(
    ["/", "/events", "/instances/x", "/instances/%00", "/cancel/x", "/cancel/%FF", "/healthz"]
) | st.text(max_size=10).map(lambda text: "/" + text)
QUERIES = st.sampled_from(
    [b"", b"result=1", b"access_token=%ff", b"access_token=%ED%A0%80", b"&&=", b"a=1&a=2"]
)
BODIES = st.binary(max_size=60) | st.sampled_from(
    [
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":1e999}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":"\\ud800"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":' + b"9" * 5_000 + b"}",
        b'{"specversion":"1.0","id":"1","id":"2","source":"s","type":"t"}',
        b'{"specversion":"1.0","id":"1","source":"s","type":"edda.channel.x","eddametadata":"{"}',
    ]
)


@given(
    st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE", "\x7f"]),
    PATHS,
    QUERIES,
    st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=6),
    BODIES,
    st.sampled_from([None, BearerAuth("sesame"), WebhookSignature(b"secret")]),
)
@settings(max_examples=80, deadline=None)
def test_no_request_is_a_defect(  # noqa: PLR0917 - as hypothesis gives them
    method, path, query, headers, body, auth
):
    """Whatever is asked, the answer is no 500, and what is not authorised is refused."""
    sent = []

    async def go():
        app = app_with(auth=auth, worker=False)
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive():
            return next(messages, {"type": "http.disconnect"})

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query,
            "headers": [(name.encode(), value) for name, value in headers],
            "client": ("1.2.3.4", 5),
            "server": ("a", 80),
        }
        async with app:
            await app(scope, receive, send)

    asyncio.run(go())
    status = sent[0]["status"]
    assert status < 500, (status, sent)
    if auth is not None and method != "OPTIONS" and path != "/healthz":
        assert status in (401, 404, 405, 413, 415, 400), status
        assert status != 202


EVENT = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
STRUCTURED = {"content-type": "application/cloudevents+json"}


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b" " * ((1 << 20) + 1), STRUCTURED, 413),
        (json.dumps(EVENT)[:-1] + f',"data":{nested(65)}}}', STRUCTURED, 400),
        (json.dumps(EVENT)[:-1] + f',"data":{nested(100_000)}}}', STRUCTURED, 400),
        (json.dumps(EVENT)[:-1] + f',"data":{nested(62)}}}', STRUCTURED, 202),
        (json.dumps([EVENT] * 101), {"content-type": "application/cloudevents-batch+json"}, 400),
    ],
)
def test_what_comes_is_limited(content, headers, status):
    """The length of a body, the depth of its JSON and the size of a batch have limits."""
    answer = ask(app_with(worker=False), "POST", "/events", content=content, headers=headers)
    assert answer.status_code == status


def test_an_event_is_never_evaluated():
    """Data that looks like code, SQL or a template reaches the workflow as it was sent."""
    for data in ("__import__('os').system('x')", "'; DROP TABLE edda_event; --", "{{7*7}}", "%s"):
        with Simulation() as sim:
            run = sim.start(waiting)
            sim.send("t", data)
            assert run.result == data


# ---- What is shown -------------------------------------------------------------------------------

SECRET = "hunter2"
URL = f"postgresql://edda:{SECRET}@db.example/edda"


def test_the_password_of_a_database_is_not_shown():
    """Neither the app's repr nor its store's has the password of the URL."""
    app = EddaApp("s", URL, workflows=[])
    assert SECRET not in repr(app)
    assert SECRET not in repr(app.store)
    assert "db.example" in repr(app)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "postgresql://edda:...@db.example/edda"),
        (f"postgresql://edda:a@{SECRET}@db.example/edda", "postgresql://edda:...@db.example/edda"),
        (f"postgresql://db/edda?password={SECRET}&x=1", "postgresql://db/edda?password=...&x=1"),
        (
            f"https://broker.example/in?access_token={SECRET}",
            "https://broker.example/in?access_token=...",
        ),
        ("postgresql://edda@db.example:5432/edda", "postgresql://edda@db.example:5432/edda"),
        ("sqlite:////srv/edda.db", "sqlite:////srv/edda.db"),
        ("memory://", "memory://"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    """Errors name the URL that they are about, without a password or a token."""
    assert without_secrets(url) == shown
    assert SECRET not in str(BrokerError(url, "it is away"))
    assert SECRET not in str(StoreUrlError(url, "is odd"))


def test_logs_have_no_data(caplog):
    """What events carry is not logged, not even of one that came twice with other content."""
    caplog.set_level(logging.DEBUG)
    with Simulation() as sim:
        run = sim.start(waiting)
        sim.send("t", {"card": SECRET}, id="1")
        sim.send("t", {"card": SECRET + "!"}, id="1")
        assert run.result == {"card": SECRET}
    assert "came again with other content" in caplog.text
    assert SECRET not in caplog.text


def test_tokens_are_compared_in_constant_time():
    """Secrets meet what was sent in `hmac.compare_digest`, and in no other comparison."""
    tree = ast.parse((ROOT / "edda/auth.py").read_text("utf-8"))
    calls = Counter(ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))
    assert calls["hmac.compare_digest"] == 2
    secret = ("token", "secret", "ours", "given", "signature")
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                names = [one.id for one in ast.walk(side) if isinstance(one, ast.Name)]
                is_digest = isinstance(side, ast.ListComp) and "compare_digest" in ast.unparse(side)
                assert is_digest or not set(names) & set(secret), ast.unparse(node)
