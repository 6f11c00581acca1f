"""Workflows with one planted nondeterminism each, and tricky ones that are clean.

A plant is an id, the code that must be found, and a module; the line to be found carries `# <-`.
A module without `@workflow` in it is the body of one: `ctx` and the activity `act` are there.
"""

import textwrap

HEAD = """\
from edda import WorkflowContext, activity, wait_event, workflow

@activity
async def act(ctx: WorkflowContext, value: object = None) -> int:
    return 1

"""


def module(text):
    """The whole module for an entry."""
    text = textwrap.dedent(text).strip("\n")
    if "@workflow" in text or ".workflow" in text or "@flow" in text:
        return HEAD + text + "\n"
    lines = text.splitlines()
    top = [line for line in lines if line.startswith(("import ", "from "))]
    body = [line for line in lines if line not in top]
    head = "\n".join(
        [*top, "", "@workflow", "async def flow(ctx: WorkflowContext, order_id: str):"]
    )
    return HEAD + head + "\n" + textwrap.indent("\n".join(body), "    ") + "\n"


PLANTS = [
    # ---- clock
    ("time", "EDL101", "import time\nt = time.time()  # <-\nreturn t"),
    ("time-alias", "EDL101", "import time as t\nreturn t.time_ns()  # <-"),
    ("time-from-alias", "EDL101", "from time import time as tick\nreturn tick()  # <-"),
    ("datetime-now", "EDL101", "from datetime import datetime\nreturn datetime.now()  # <-"),
    ("datetime-now-tz", "EDL101", "import datetime as dt\nreturn dt.datetime.now(dt.UTC)  # <-"),
    ("utcnow", "EDL101", "from datetime import datetime\nreturn datetime.utcnow()  # <-"),
    ("today", "EDL101", "from datetime import date\nreturn date.today()  # <-"),
    (
        "now-of-a-local-alias",
        "EDL101",
        "from datetime import datetime\nnow = datetime.now\nreturn now()  # <-",
    ),
    ("now-of-an-instance", "EDL101", "t = ctx.now()\nreturn t.now()  # <-"),
    ("monotonic", "EDL102", "import time\nstart = time.monotonic()  # <-\nreturn start"),
    ("perf-counter", "EDL102", "from time import perf_counter\nreturn perf_counter()  # <-"),
    ("time-sleep", "EDL103", "import time\ntime.sleep(1)  # <-"),
    ("gmtime", "EDL101", "import time\nreturn time.gmtime()  # <-"),
    ("strftime", "EDL101", "import time\nreturn time.strftime('%Y')  # <-"),
    ("localtime", "EDL104", "import time\nreturn time.localtime(0)  # <-"),
    ("astimezone", "EDL104", "return ctx.now().astimezone()  # <-"),
    (
        "astimezone-of-what",
        "EDL104",
        "e = await wait_event(ctx, 'x')\nreturn e.data['t'].astimezone()  # <-",
    ),
    (
        "fromtimestamp",
        "EDL104",
        "from datetime import datetime\nreturn datetime.fromtimestamp(0)  # <-",
    ),
    (
        "function-local-import",
        "EDL101",
        "if order_id:\n    from time import time\n    return time()  # <-",
    ),
    (
        "dunder-import-as-attr",
        "EDL101",
        "import datetime\ncls = datetime.datetime\nreturn cls.now()  # <-",
    ),
    (
        "module-level-time",
        "EDL105",
        """
        import time
        STARTED = time.time()
        @workflow
        async def flow(ctx):
            return STARTED  # <-
        """,
    ),
    (
        "default-at-import",
        "EDL105",
        """
        from datetime import datetime
        def age(since, now=datetime.now()):
            return now - since  # <-
        @workflow
        async def flow(ctx):
            return age(ctx.now())
        """,
    ),
    (
        "default-argument-callable",
        "EDL101",
        """
        import time
        def stamp(clock=time.time):
            return clock()  # <-
        @workflow
        async def flow(ctx):
            return stamp()
        """,
    ),
    # ---- random
    ("random", "EDL201", "import random\nreturn random.random()  # <-"),
    ("choice", "EDL201", "from random import choice\nreturn choice([1, 2])  # <-"),
    ("shuffle", "EDL201", "import random as r\nxs = [1, 2]\nr.shuffle(xs)  # <-\nreturn xs"),
    ("reseed", "EDL201", "import random\nrandom.seed(order_id)  # <-"),
    ("unseeded", "EDL202", "import random\nrng = random.Random()  # <-\nreturn rng.random()"),
    ("system-random", "EDL202", "from random import SystemRandom\nrng = SystemRandom()  # <-"),
    ("secrets", "EDL202", "import secrets\nreturn secrets.token_hex(8)  # <-"),
    ("urandom", "EDL202", "import os\nreturn os.urandom(4)  # <-"),
    ("uuid4", "EDL203", "import uuid\nreturn str(uuid.uuid4())  # <-"),
    ("uuid1", "EDL203", "from uuid import uuid1\nreturn uuid1().hex  # <-"),
    ("numpy", "EDL201", "import numpy as np\nreturn np.random.rand()  # <-"),
    (
        "shared-generator",
        "EDL204",
        """
        import random
        RNG = random.Random(42)
        @workflow
        async def flow(ctx):
            return RNG.random()  # <-
        """,
    ),
    (
        "run-id",
        "EDL205",
        """
        from uuid import uuid4
        RUN = str(uuid4())
        @workflow
        async def flow(ctx):
            await act(ctx, RUN)  # <-
        """,
    ),
    # ---- environment
    ("environ", "EDL301", "import os\nreturn os.environ['HOME']  # <-"),
    ("environ-get", "EDL301", "from os import environ\nreturn environ.get('HOME')  # <-"),
    ("getenv", "EDL301", "import os\nif os.getenv('DEBUG'):  # <-\n    await act(ctx)"),
    ("environ-set", "EDL301", "import os\nos.environ['X'] = '1'  # <-"),
    ("argv", "EDL302", "import sys\nreturn len(sys.argv)  # <-"),
    ("platform", "EDL302", "import platform\nreturn platform.node()  # <-"),
    ("getcwd", "EDL302", "import os\nreturn os.getcwd()  # <-"),
    ("locale", "EDL302", "import locale\nreturn locale.getlocale()  # <-"),
    ("home", "EDL302", "from pathlib import Path\nreturn str(Path.home())  # <-"),
    ("input", "EDL303", "return input('? ')  # <-"),
    ("stdin", "EDL303", "import sys\nreturn sys.stdin.readline()  # <-"),
    (
        "setting-of-import",
        "EDL304",
        """
        import os
        LIMIT = int(os.environ.get("LIMIT", "5"))
        @workflow
        async def flow(ctx, n: int):
            if n > LIMIT:  # <-
                await act(ctx)
        """,
    ),
    # ---- files
    ("open", "EDL401", "with open('x') as f:  # <-\n    return f.read()"),
    ("read-text", "EDL401", "from pathlib import Path\nreturn Path('x').read_text()  # <-"),
    (
        "read-text-joined",
        "EDL401",
        "from pathlib import Path\np = Path('a') / 'b'\nreturn p.read_text()  # <-",
    ),
    (
        "read-text-of-parameter",
        "EDL401",
        "def load(p):\n    return p.read_text()  # <-\nreturn load(order_id)",
    ),
    ("listdir", "EDL402", "import os\nreturn os.listdir('.')  # <-"),
    ("exists", "EDL402", "import os.path\nreturn os.path.exists('x')  # <-"),
    ("path-exists", "EDL402", "from pathlib import Path\nreturn Path('x').parent.exists()  # <-"),
    ("tempfile", "EDL401", "import tempfile\nreturn tempfile.mkdtemp()  # <-"),
    ("shutil", "EDL402", "import shutil\nshutil.rmtree('x')  # <-"),
    ("sqlite", "EDL403", "import sqlite3\ndb = sqlite3.connect('x')  # <-"),
    # ---- network
    ("socket", "EDL501", "import socket\ns = socket.socket()  # <-"),
    ("gethostname", "EDL501", "import socket\nreturn socket.gethostname()  # <-"),
    ("requests", "EDL502", "import requests\nreturn requests.get('http://x').text  # <-"),
    ("httpx", "EDL502", "import httpx\nasync with httpx.AsyncClient() as c:  # <-\n    pass"),
    ("urlopen", "EDL502", "from urllib.request import urlopen\nurlopen('http://x')  # <-"),
    ("aiohttp", "EDL502", "import aiohttp\ns = aiohttp.ClientSession()  # <-"),
    ("smtp", "EDL502", "from smtplib import SMTP\ns = SMTP('x')  # <-"),
    (
        "client-parameter",
        "EDL502",
        """
        import httpx
        async def fetch(client: httpx.AsyncClient):
            return await client.get("http://x")  # <-
        @workflow
        async def flow(ctx, client):
            return await fetch(client)
        """,
    ),
    # ---- process
    ("subprocess", "EDL601", "import subprocess\nsubprocess.run(['ls'])  # <-"),
    ("system", "EDL601", "import os\nos.system('ls')  # <-"),
    ("getpid", "EDL603", "import os\nreturn os.getpid()  # <-"),
    (
        "multiprocessing",
        "EDL602",
        "from multiprocessing import Process\nProcess(target=print)  # <-",
    ),
    # ---- threads
    ("thread", "EDL701", "import threading\nthreading.Thread(target=print).start()  # <-"),
    ("get-ident", "EDL701", "from threading import get_ident\nreturn get_ident()  # <-"),
    (
        "pool",
        "EDL701",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as p:  # <-\n    pass",
    ),
    # ---- hash
    ("set-display", "EDL801", "for x in {'a', 'b'}:  # <-\n    await act(ctx, x)"),
    ("set-name", "EDL801", "xs = set(order_id)\nfor x in xs:  # <-\n    await act(ctx, x)"),
    (
        "set-comprehension",
        "EDL801",
        "xs = {c.upper() for c in order_id}\nreturn [x for x in xs]  # <-",
    ),
    ("frozenset", "EDL801", "return list(frozenset(order_id))  # <-"),
    ("set-join", "EDL801", "return ','.join({'a', order_id})  # <-"),
    ("set-pop", "EDL801", "xs = {'a', order_id}\nreturn xs.pop()  # <-"),
    ("set-next", "EDL801", "return next(iter({'a', order_id}))  # <-"),
    ("set-star", "EDL801", "import asyncio\nreturn await asyncio.gather(*{act(ctx, 1)})  # <-"),
    (
        "set-gather",
        "EDL801",
        "import asyncio\nxs = {'a', order_id}\nreturn await asyncio.gather(*[act(ctx, x) for x in xs])  # <-",
    ),
    ("set-unpack", "EDL801", "xs = {'a', 'b'}\na, b = xs  # <-\nreturn a"),
    ("set-text", "EDL801", "xs = {'a', order_id}\nreturn f'{xs}'  # <-"),
    (
        "set-of-keys",
        "EDL801",
        "d = {'a': 1}\nfor k in d.keys() - {'b'}:  # <-\n    await act(ctx, k)",
    ),
    (
        "set-enumerate",
        "EDL801",
        "for n, x in enumerate({'a', order_id}):  # <-\n    await act(ctx, n)",
    ),
    ("set-list-argument", "EDL801", "xs = list({'a', order_id})  # <-\nawait act(ctx, xs)"),
    ("set-first", "EDL801", "xs = list({'a', order_id})  # <-\nreturn xs[0]"),
    (
        "set-append",
        "EDL801",
        "out = []\nfor x in {'a', order_id}:  # <-\n    out.append(x)\nreturn out",
    ),
    (
        "set-dict",
        "EDL801",
        "d = {x: 1 for x in {'a', order_id}}  # <-\nfor k in d:\n    await act(ctx, k)",
    ),
    (
        "set-of-a-helper",
        "EDL801",
        "def tags():\n    return {'a', order_id}\nfor t in tags():  # <-\n    await act(ctx, t)",
    ),
    ("set-sum-of-floats", "EDL801", "return sum({0.1, 0.2, 0.3})  # <-"),
    (
        "set-parameter",
        "EDL801",
        """
        @workflow
        async def flow(ctx, tags: set[str]):
            for tag in tags:  # <-
                await act(ctx, tag)
        """,
    ),
    (
        "set-field",
        "EDL801",
        """
        from dataclasses import dataclass
        @dataclass
        class Order:
            id: str
            tags: "frozenset[str]"
        @workflow
        async def flow(ctx, order: Order):
            for tag in order.tags:  # <-
                await act(ctx, tag)
        """,
    ),
    ("id", "EDL802", "return id(ctx)  # <-"),
    ("hash", "EDL803", "return hash(order_id) % 10  # <-"),
    ("sorted-by-id", "EDL802", "return sorted([order_id], key=id)  # <-"),
    ("sorted-by-hash", "EDL803", "xs = [order_id]\nxs.sort(key=lambda x: hash(x))  # <-"),
    # ---- asyncio
    ("wait", "EDL901", "import asyncio\ndone, _ = await asyncio.wait([])  # <-"),
    (
        "as-completed",
        "EDL901",
        "import asyncio\nfor f in asyncio.as_completed([]):  # <-\n    await f",
    ),
    ("to-thread", "EDL902", "from asyncio import to_thread\nawait to_thread(print, 1)  # <-"),
    (
        "executor",
        "EDL902",
        "import asyncio\nloop = asyncio.get_running_loop()\nawait loop.run_in_executor(None, print)  # <-",
    ),
    ("asyncio-run", "EDL903", "import asyncio\nasyncio.run(act(ctx))  # <-"),
    ("streams", "EDL904", "import asyncio\nr, w = await asyncio.open_connection('x', 1)  # <-"),
    (
        "asyncio-subprocess",
        "EDL904",
        "import asyncio\np = await asyncio.create_subprocess_exec('ls')  # <-",
    ),
    # ---- handed on, stored, wrapped
    ("map", "EDL101", "import time\nreturn list(map(lambda _: time.time(), [1]))  # <-"),
    (
        "map-bare",
        "EDL203",
        "import uuid\nreturn list(map(uuid.UUID, [])) + [f() for f in [uuid.uuid4]]  # <-",
    ),
    (
        "partial",
        "EDL101",
        "import functools, time\nclock = functools.partial(time.time)\nreturn clock()  # <-",
    ),
    ("table", "EDL101", "import time\nclocks = {'wall': time.time}\nreturn clocks['wall']()  # <-"),
    (
        "table-get",
        "EDL203",
        "import uuid\nmakers = {'id': uuid.uuid4}\nreturn makers.get('id')()  # <-",
    ),
    ("getattr", "EDL101", "import time\nreturn getattr(time, 'time')()  # <-"),
    ("walrus", "EDL101", "import time\nif (t := time.time()) > 5:  # <-\n    return t"),
    ("in-a-lambda", "EDL101", "import time\nlater = lambda: time.time()  # <-\nreturn later()"),
    (
        "nested-function",
        "EDL101",
        "import time\ndef inner():\n    return time.time()  # <-\nreturn inner()",
    ),
    ("in-a-comprehension", "EDL203", "import uuid\nreturn [uuid.uuid4() for _ in range(3)]  # <-"),
    (
        "default-dict",
        "EDL203",
        "import uuid, collections\nd = collections.defaultdict(uuid.uuid4)  # <-\nreturn d",
    ),
    (
        "conditional",
        "EDL101",
        "import time\nclock = None\nif order_id:\n    clock = time.time\nreturn clock()  # <-",
    ),
    (
        "callback",
        "EDL101",
        "import asyncio, time\nasyncio.get_running_loop().call_later(5, time.time)  # <-",
    ),
    (
        "finally",
        "EDL101",
        "import time\ntry:\n    await act(ctx)\nfinally:\n    print(time.time())  # <-",
    ),
    (
        "match",
        "EDL101",
        "import time\nmatch order_id:\n    case 'a':\n        return time.time()  # <-",
    ),
    ("f-string", "EDL101", "import time\nreturn f'{time.time()}'  # <-"),
    (
        "default-factory",
        "EDL203",
        """
        from dataclasses import dataclass, field
        from uuid import uuid4
        @dataclass
        class Order:
            id: object = field(default_factory=uuid4)
        @workflow
        async def flow(ctx):
            return Order()  # <-
        """,
    ),
    (
        "decorator-wrapper",
        "EDL102",
        """
        import functools, time
        def timed(fn):
            @functools.wraps(fn)
            async def wrapper(*args):
                start = time.perf_counter()  # <-
                return await fn(*args)
            return wrapper
        @timed
        async def helper(ctx):
            return await act(ctx)
        @workflow
        async def flow(ctx):
            return await helper(ctx)
        """,
    ),
    (
        "under-the-decorator",
        "EDL101",
        """
        import functools, time
        def plain(fn):
            @functools.wraps(fn)
            def wrapper(*args, **kwargs):
                return fn(*args, **kwargs)
            return wrapper
        @plain
        def helper():
            return time.time()  # <-
        @workflow
        async def flow(ctx):
            return helper()
        """,
    ),
    (
        "method",
        "EDL101",
        """
        import time
        class Price:
            def __init__(self, amount):
                self.amount = amount
            def at(self):
                return self._stamp()
            def _stamp(self):
                return time.time()  # <-
        @workflow
        async def flow(ctx):
            price = Price(3)
            return price.at()
        """,
    ),
    (
        "property-of-a-base",
        "EDL203",
        """
        import uuid
        class Base:
            @property
            def id(self):
                return uuid.uuid4()  # <-
        class Order(Base):
            pass
        @workflow
        async def flow(ctx, order: Order):
            return order.id
        """,
    ),
    (
        "super-init",
        "EDL101",
        """
        import time
        class Base:
            def __init__(self):
                self.at = time.time()  # <-
        class Order(Base):
            def __init__(self):
                super().__init__()
        @workflow
        async def flow(ctx):
            return Order().at
        """,
    ),
    (
        "attribute-callable",
        "EDL101",
        """
        import time
        class Clock:
            def __init__(self):
                self.read = time.time
        @workflow
        async def flow(ctx):
            clock = Clock()
            return clock.read()  # <-
        """,
    ),
    (
        "passed-callable",
        "EDL101",
        """
        import time
        def twice(f):
            return f(), f()  # <-
        @workflow
        async def flow(ctx):
            return twice(time.time)
        """,
    ),
    (
        "context-manager",
        "EDL101",
        """
        import time
        from contextlib import contextmanager
        @contextmanager
        def span():
            yield time.time()  # <-
        @workflow
        async def flow(ctx):
            with span() as s:
                await act(ctx, s)
        """,
    ),
    (
        "generator",
        "EDL203",
        """
        import uuid
        def ids():
            while True:
                yield uuid.uuid4()  # <-
        @workflow
        async def flow(ctx):
            for one in ids():
                await act(ctx, one)
        """,
    ),
    # ---- globals
    (
        "global-counter",
        "EDL010",
        """
        COUNT = 0
        @workflow
        async def flow(ctx):
            global COUNT
            COUNT += 1  # <-
        """,
    ),
    (
        "global-list",
        "EDL010",
        """
        SEEN = []
        @workflow
        async def flow(ctx, id: str):
            SEEN.append(id)  # <-
        """,
    ),
    (
        "global-dict",
        "EDL010",
        """
        CACHE: dict[str, int] = {}
        @workflow
        async def flow(ctx, id: str):
            CACHE[id] = 1  # <-
        """,
    ),
    (
        "class-attribute",
        "EDL010",
        """
        class Order:
            count = 0
        @workflow
        async def flow(ctx):
            Order.count += 1  # <-
        """,
    ),
    (
        "mutable-default",
        "EDL010",
        """
        def note(x, seen=[]):
            seen.append(x)  # <-
            return seen
        @workflow
        async def flow(ctx, id: str):
            return note(id)
        """,
    ),
    (
        "global-count",
        "EDL010",
        """
        import itertools
        NUMBERS = itertools.count()
        @workflow
        async def flow(ctx):
            return next(NUMBERS)  # <-
        """,
    ),
    # ---- misuse
    ("not-awaited", "EDL020", "act(ctx)  # <-"),
    ("not-awaited-used", "EDL020", "x = act(ctx)\nif x > 5:  # <-\n    return 1"),
    ("bare-fn", "EDL021", "return await act.fn(ctx)  # <-"),
    (
        "start-without-ctx",
        "EDL022",
        """
        @workflow
        async def other(ctx):
            pass
        @workflow
        async def flow(ctx):
            await other.start()  # <-
        """,
    ),
    (
        "app-inside",
        "EDL023",
        """
        from edda import EddaApp
        app = EddaApp("shop")
        @workflow
        async def flow(ctx, id: str):
            return await app.status(id)  # <-
        """,
    ),
    ("bare-except", "EDL030", "try:\n    await act(ctx)\nexcept:  # <-\n    pass"),
    (
        "base-exception",
        "EDL030",
        "try:\n    await act(ctx)\nexcept BaseException:  # <-\n    return None",
    ),
    # ---- how a workflow is made
    (
        "edda-alias",
        "EDL101",
        """
        import time
        import edda as e
        @e.workflow(name="x")
        async def flow(ctx):
            return time.time()  # <-
        """,
    ),
    (
        "workflow-alias",
        "EDL101",
        """
        import time
        from edda import workflow as flow
        @flow
        async def order(ctx):
            return time.time()  # <-
        """,
    ),
    (
        "workflow-call",
        "EDL101",
        """
        import time
        async def body(ctx):
            return time.time()  # <-
        order = workflow(name="order")(body)
        @workflow
        async def flow(ctx):
            pass
        """,
    ),
    (
        "local-workflow",
        "EDL101",
        """
        import time
        def test_it():
            clock = time.time
            @workflow
            async def flow(ctx):
                return clock()  # <-
        """,
    ),
    (
        "sub-workflow",
        "EDL101",
        """
        import time
        @workflow
        async def other(ctx):
            return time.time()  # <-
        @workflow
        async def flow(ctx):
            return await other(ctx)
        """,
    ),
]

CLEAN = [
    ("ctx", "t = ctx.now()\nx = ctx.random.choice([1, 2])\nu = ctx.uuid4()\nreturn t, x, u"),
    ("ctx-random-held", "rng = ctx.random\nrng.shuffle([1])\nreturn rng.random()"),
    ("seeded", "import random\nrng = random.Random(42)\nreturn rng.random()"),
    ("seeded-by-argument", "import random\nreturn random.Random(order_id).choice([1, 2])"),
    ("shadowed-local", "import time\ntime = ctx.now()\nreturn time.time()"),
    (
        "shadowed-parameter",
        "def pick(random):\n    return random.choice([1])\nreturn pick(ctx.random)",
    ),
    ("shadowed-builtin", "id = order_id\nhash = lambda x: 5\nreturn hash(id)"),
    ("open-method", "class Door:\n    def open(self):\n        return 1\nreturn Door().open()"),
    ("now-method", "class Clock:\n    def now(self):\n        return 5\nreturn Clock().now()"),
    ("sorted-set", "for x in sorted({'a', order_id}):\n    await act(ctx, x)"),
    (
        "sorted-set-name",
        "xs = set(order_id)\nfor x in sorted(xs, reverse=True):\n    await act(ctx, x)",
    ),
    ("len-set", "return len({'a', order_id}) + len(set(order_id))"),
    ("membership", "known = {'a', 'b'}\nif order_id in known:\n    await act(ctx)"),
    ("set-operations", "a = {'a'} | {'b'}\nreturn a == {'a'} or a <= {'c'} or a.isdisjoint({'d'})"),
    ("aggregates", "xs = {1, 2}\nreturn min(xs), max(xs), sum(xs), any(xs), all(xs)"),
    (
        "aggregate-generators",
        "xs = set(order_id)\nreturn sum(1 for x in xs), any(x == 'a' for x in xs)",
    ),
    ("sorted-generator", "xs = set(order_id)\nreturn sorted(x.upper() for x in xs)"),
    ("sorted-afterwards", "xs = list(set(order_id))\nxs.sort()\nreturn xs"),
    ("resorted", "xs = list(set(order_id))\nxs = sorted(xs)\nreturn xs"),
    ("set-of-a-set", "xs = {x.upper() for x in set(order_id)}\nreturn 'A' in xs"),
    ("order-free-loop", "n = 0\nfor x in set(order_id):\n    n += 1\nreturn n"),
    (
        "order-free-adding",
        "seen = set()\nfor x in set(order_id):\n    if x > 'a':\n        seen.add(x)\nreturn len(seen)",
    ),
    (
        "order-free-search",
        "for x in set(order_id):\n    if x == 'a':\n        return True\nreturn False",
    ),
    ("joined-sorted", "return ','.join(sorted(set(order_id)))"),
    ("dict-order", "d = {'b': 1, 'a': 2}\nfor k in d:\n    await act(ctx, k)\nreturn list(d)"),
    ("dict-fromkeys", "return list(dict.fromkeys(order_id))"),
    ("dict-looked-up", "prices = {x: 1 for x in set(order_id)}\nreturn prices['a']"),
    ("rebound-set", "xs = {'a', 'b'}\nxs = ['a', 'b']\nfor x in xs:\n    await act(ctx, x)"),
    (
        "logging",
        "import logging\nlogger = logging.getLogger('x')\nlogger.info('at %s', order_id)\nprint(order_id)",
    ),
    (
        "logged-set",
        "import logging\nlogging.info('tags %s', {'a'})\nctx.logger.info(f\"{set('ab')}\")\nprint({'a'})",
    ),
    (
        "datetime-built",
        "from datetime import datetime, UTC\nreturn datetime(2024, 1, 1, tzinfo=UTC)",
    ),
    (
        "datetime-parsed",
        "from datetime import datetime\nreturn datetime.fromisoformat('2024-01-01')",
    ),
    (
        "datetime-zoned",
        "from datetime import datetime, UTC\nreturn datetime.fromtimestamp(0, tz=UTC), datetime.fromtimestamp(0, UTC)",
    ),
    ("astimezone-named", "from datetime import UTC\nreturn ctx.now().astimezone(UTC)"),
    ("strftime-of-ctx", "return ctx.now().strftime('%Y')"),
    ("gmtime-given", "import time\nreturn time.gmtime(0), time.strftime('%Y', time.gmtime(0))"),
    ("uuid5", "import uuid\nreturn uuid.uuid5(uuid.NAMESPACE_DNS, order_id), uuid.UUID(int=5)"),
    ("hashlib", "import hashlib\nreturn hashlib.sha256(order_id.encode()).hexdigest()"),
    (
        "pure-path",
        "from pathlib import Path, PurePath\nreturn str(Path('a') / 'b'), PurePath('x').suffix, Path('a').parent.name",
    ),
    ("os-path-join", "import os\nreturn os.path.join('a', 'b'), os.path.basename('x'), os.sep"),
    (
        "asyncio",
        "import asyncio\nawait asyncio.gather(act(ctx, 1), act(ctx, 2))\nasync with asyncio.timeout(5), asyncio.TaskGroup() as tg:\n    tg.create_task(act(ctx, 3))\nawait asyncio.sleep(1)",
    ),
    ("loop-time", "import asyncio\nreturn asyncio.get_running_loop().time()"),
    (
        "tasks",
        "import asyncio\nt = asyncio.create_task(act(ctx))\nu = act(ctx)\nawait u\nreturn await t",
    ),
    (
        "list-of-steps",
        "import asyncio\nsteps = [act(ctx, n) for n in range(3)]\nreturn await asyncio.gather(*steps)",
    ),
    (
        "isinstance",
        "import threading, socket\nreturn isinstance(order_id, (threading.Thread, socket.socket))",
    ),
    (
        "exceptions",
        "import socket, requests\ntry:\n    await act(ctx)\nexcept (socket.timeout, requests.RequestException, Exception):\n    pass",
    ),
    ("reraised", "try:\n    await act(ctx)\nexcept BaseException:\n    print('x')\n    raise"),
    ("bare-except-no-await", "try:\n    n = int(order_id)\nexcept:\n    n = 0\nreturn n"),
    ("lock", "import threading\nwith threading.Lock():\n    return 1"),
    ("local-list", "SEEN = []\nSEEN.append(1)\nCOUNT = 0\nCOUNT += 1\nreturn SEEN"),
    ("string-methods", "return order_id.strip().upper().replace('a', 'b').split(',')"),
    ("message-of-error", "raise ValueError(f'bad {set(order_id)}')"),
    ("reference-only", "import time\nnames = {'time.time': 1}\nreturn names['time.time']"),
    (
        "activity-may",
        """
        import os, random, time, uuid
        @activity
        async def charge(ctx, n: int) -> str:
            time.sleep(0)
            for x in {1, 2}:
                print(x)
            return f"{os.environ['X']}{random.random()}{uuid.uuid4()}{time.time()}"
        @workflow
        async def flow(ctx):
            return await charge(ctx, 1)
        """,
    ),
    (
        "helper-of-an-activity",
        """
        import time
        def stamp():
            return time.time()
        @activity
        def charge(ctx):
            return stamp()
        @workflow
        async def flow(ctx):
            return await charge(ctx)
        """,
    ),
    (
        "not-reached",
        """
        import random, time
        def unused():
            return random.random()
        class Unused:
            def now(self):
                return time.time()
        @workflow
        async def flow(ctx):
            return 1
        def test_it():
            assert time.time()
        if __name__ == "__main__":
            print(time.time())
        """,
    ),
    (
        "type-checking",
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import requests
            from random import Random
        @workflow
        async def flow(ctx, session: "requests.Session | None" = None, rng: "Random | None" = None):
            return 1
        """,
    ),
    (
        "global-constants",
        """
        import logging, os, time
        logger = logging.getLogger(__name__)
        STARTED = time.time()
        URL = os.environ.get("URL")
        PRICES = {"a": 1}
        KNOWN = frozenset({"a", "b"})
        @activity
        async def call(ctx):
            return URL, STARTED
        @workflow
        async def flow(ctx, id: str):
            logger.info("x")
            return PRICES[id] if id in KNOWN else await call(ctx)
        """,
    ),
    (
        "injected-clock",
        """
        class Basket:
            def __init__(self, now):
                self._now = now
            def age(self):
                return self._now()
        @workflow
        async def flow(ctx):
            return Basket(ctx.now).age()
        """,
    ),
    (
        "own-module-names",
        """
        class random:
            @staticmethod
            def choice(xs):
                return xs[0]
        def uuid4():
            return 4
        @workflow
        async def flow(ctx):
            return random.choice([1]), uuid4()
        """,
    ),
    (
        "activity-in-a-function",
        """
        import time
        def make():
            @activity
            async def inner(ctx):
                return time.time()
            @workflow
            async def flow(ctx):
                return await inner(ctx)
            return flow
        """,
    ),
    (
        "set-argument-of-set",
        """
        @activity
        async def tag(ctx, tags: set[str]) -> int:
            return len(tags)
        @workflow
        async def flow(ctx, id: str) -> set[str]:
            await tag(ctx, {id, "b"})
            return {id, "b"}
        """,
    ),
    (
        "dataclass-given",
        """
        from dataclasses import dataclass, field
        from uuid import UUID, uuid4
        @dataclass
        class Order:
            id: UUID = field(default_factory=uuid4)
            lines: list[str] = field(default_factory=list)
        @workflow
        async def flow(ctx):
            return Order(id=ctx.uuid4())
        """,
    ),
    (
        "start-with-ctx",
        """
        @workflow
        async def other(ctx):
            pass
        @workflow
        async def flow(ctx):
            await other.start(ctx)
            await other.run(ctx)
        """,
    ),
    (
        "recursion",
        """
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        @workflow
        async def flow(ctx, n: int):
            return fib(n), even(n)
        """,
    ),
    (
        "lru-cache",
        """
        from functools import lru_cache
        @lru_cache
        def price(name: str) -> int:
            return len(name)
        @workflow
        async def flow(ctx, id: str):
            return price(id)
        """,
    ),
]
