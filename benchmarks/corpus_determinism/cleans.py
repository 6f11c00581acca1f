"""Workflows that look suspicious and are replayable: nobody may complain."""

from pydantic import BaseModel, Field
import abc
import asyncio
import base64
import bisect
import calendar
import collections
import configparser
import contextlib
import contextvars
import copy
import csv
import dataclasses
import datetime as dt
import decimal
import difflib
import email.message
import email.utils
import enum
import fractions
import functools
import gc
import graphlib
import gzip
import hashlib
import heapq
import hmac
import importlib
import inspect
import io
import ipaddress
import itertools
import json
import logging
import operator
import os
import os.path
import pathlib
import pickle
import pprint
import queue
import random
import re
import secrets
import statistics
import string
import struct
import sys
import textwrap
import threading
import time
import tomllib
import traceback
import types
import typing
import urllib.parse
import uuid
import warnings
import weakref
import zipfile
import zlib
from datetime import UTC, date, datetime, timedelta
from unittest import mock
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, field_validator

from edda import sleep, wait_event, workflow

from .steps import blocking, keep, stamp

log = logging.getLogger(__name__)
STARTED = time.time()  # read by nobody
NAMES = frozenset({"ann", "bob", "cyd"})


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()


@dataclasses.dataclass(frozen=True, order=True)
class Item:
    name: str
    price: int = 0
    tags: tuple[str, ...] = ()


class Model(BaseModel):
    names: list[str] = Field(default_factory=list)
    at: datetime | None = None
    price: decimal.Decimal = decimal.Decimal("1.10")

    @field_validator("names")
    @classmethod
    def check(cls, value):
        return sorted(value)


@functools.lru_cache
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@functools.singledispatch
def size(value):
    return len(value)


@size.register
def _(value: int):
    return value


@workflow
async def context_time(ctx):
    await keep(ctx, ctx.now().isoformat())


@workflow
async def context_random(ctx):
    drawn = [ctx.random.random(), ctx.random.choice("abc"), ctx.random.gauss(0, 1)]
    cards = list(range(9))
    ctx.random.shuffle(cards)
    await keep(ctx, f"{drawn} {cards} {ctx.uuid4()} {ctx.random.sample(cards, 2)}")


@workflow
async def context_random_aliased(ctx):
    rng = ctx.random
    rng.seed(5)
    await keep(ctx, f"{rng.randint(1, 6)} {rng.randbytes(3)!r} {copy.copy(rng).random()}")


@workflow
async def seeded(ctx):
    rng = random.Random(42)
    named = random.Random(ctx.instance_id)
    late = random.Random()
    late.seed(7)
    await keep(ctx, f"{rng.random()} {rng.choice([1, 2])} {named.random()} {late.random()}")


@workflow
async def state_restored(ctx):
    rng = random.Random()
    rng.setstate(random.Random(3).getstate())
    await keep(ctx, str(rng.random()))


@workflow
async def logs(ctx):
    log.warning("at %s", ctx.now())
    logging.info("plain")
    ctx.logger.info("in %s", ctx.workflow_name)
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("with a traceback")
    await keep(ctx, "a")


class Stamped(logging.Handler):
    def emit(self, record):
        self.last = f"{datetime.now()} {record.getMessage()}"


@workflow
async def logs_to_ones_own(ctx):
    mine = logging.getLogger("corpus.own")
    mine.addHandler(Stamped())
    mine.error("x")
    await keep(ctx, "a")


@workflow
async def prints(ctx):
    print("hello", ctx.now())
    pprint.pprint({"a": [1, 2]})
    await keep(ctx, "a")


@workflow
async def warns(ctx):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn("careful", stacklevel=1)
    await keep(ctx, "a")


@workflow
async def formats_a_traceback(ctx):
    try:
        raise KeyError("a")
    except KeyError:
        text = traceback.format_exc()
    await keep(ctx, text.splitlines()[-1])


@workflow
async def sorts_a_set(ctx):
    for name in sorted({"ann", "bob", "cyd", "dan", "eve"}):
        await keep(ctx, name)


@workflow
async def uses_a_set(ctx):
    seen = {"ann", "bob"}
    total = sum(len(name) for name in seen)
    longest = max(seen)
    both = seen & {"bob", "cyd"}
    await keep(ctx, f"{total} {longest} {'ann' in seen} {both == {'bob'}} {len(seen | NAMES)}")


@workflow
async def loops_over_a_set(ctx):
    total = 0
    for name in {"ann", "bob", "cyd"}:
        total += len(name)
    names = list({"b", "a", "c"})
    names.sort()
    await keep(ctx, f"{total} {names}")


@workflow
async def set_of_numbers(ctx):
    for n in {3, 1, 2}:
        await keep(ctx, str(n))
    one = {7}
    await keep(ctx, str(one.pop()))


@workflow
async def set_of_one(ctx):
    for name in {"ann"}:
        await keep(ctx, name)
    only = {"bob"}
    await keep(ctx, only.pop())


@workflow
async def set_for_gathering(ctx):
    names = {"ann", "bob"}
    done = await asyncio.gather(*(keep(ctx, name) for name in sorted(names)))
    await keep(ctx, str(set(done) == names))


@workflow
async def ordered_dict(ctx):
    ages = dict.fromkeys(["ann", "bob", "ann"])
    for name, n in collections.Counter("banana").most_common():
        await keep(ctx, f"{name}{n}")
    await keep(ctx, str(list(ages)))


@workflow
async def keys_of_a_dict(ctx):
    wanted = {"ann": 1, "bob": 2}
    for name in wanted.keys():
        await keep(ctx, name)


@workflow
async def json_text(ctx):
    text = json.dumps({"b": 1, "a": [datetime(2024, 1, 1).isoformat()]}, sort_keys=True)
    await keep(ctx, str(json.loads(text)))


@workflow
async def enums(ctx):
    colors = {Color.RED: 1, Color.BLUE: 2}
    await keep(ctx, f"{Color('red').name} {colors[Color.BLUE]} {Flags.A | Flags.B} {[*Color]}")


@workflow
async def dataclasses_as_keys(ctx):
    stock = {Item("a", 1): 2, Item("b"): 3}
    changed = dataclasses.replace(Item("a", 1), price=5)
    await keep(
        ctx,
        f"{stock[Item('a', 1)]} {changed} {dataclasses.asdict(changed)} {Item('a') < Item('b')}",
    )


@workflow
async def makes_a_dataclass(ctx):
    @dataclasses.dataclass
    class Local:
        names: list = dataclasses.field(default_factory=list)
        at: datetime | None = None

    await keep(ctx, repr(Local(["a"])))


@workflow
async def named_tuples(ctx):
    Point = collections.namedtuple("Point", "x y")

    class Line(typing.NamedTuple):
        a: int
        b: int = 2

    await keep(ctx, f"{Point(1, 2)} {Line(1)} {types.SimpleNamespace(a=1)}")


@workflow
async def regular_expressions(ctx):
    pattern = re.compile(r"(\d+)-(?P<x>\w+)")
    await keep(ctx, pattern.sub(lambda found: found["x"].upper(), "12-ab"))


@workflow
async def decimals(ctx):
    with decimal.localcontext() as context:
        context.prec = 5
        price = decimal.Decimal(1) / 3
    await keep(ctx, f"{price} {round(decimal.Decimal('2.675'), 2)} {fractions.Fraction(1, 3)}")


@workflow
async def time_zones(ctx):
    there = ctx.now().astimezone(ZoneInfo("America/New_York"))
    fresh = ZoneInfo.no_cache("Asia/Tokyo")
    await keep(ctx, f"{there} {there.utcoffset()} {ctx.now().astimezone(fresh)} {there.tzname()}")


@workflow
async def date_arithmetic(ctx):
    day = ctx.now().date()
    due = datetime.combine(day, dt.time(9), tzinfo=UTC) + timedelta(
        days=calendar.monthrange(2024, 2)[1]
    )
    parsed = datetime.strptime("2024-02-03 +0000", "%Y-%m-%d %z")
    await keep(
        ctx,
        f"{due} {parsed} {date(2024, 1, 1):%A} {parsed.timestamp()} {date.fromisoformat('2024-01-02')}",
    )


@workflow
async def from_timestamps(ctx):
    at = datetime.fromtimestamp(0, UTC)
    again = datetime.fromtimestamp(5, tz=dt.timezone.utc)
    parts = time.gmtime(0)
    text = time.strftime("%Y", parts)
    await keep(
        ctx,
        f"{at} {again} {text} {calendar.timegm(parts)} {ctx.now().timestamp()} {time.asctime(parts)}",
    )


@workflow
async def caches(ctx):
    await keep(ctx, f"{fibonacci(20)} {size([1])} {size(4)}")


@workflow
async def imports(ctx):
    import colorsys
    import tabnanny

    module = importlib.import_module("sndhdr" if False else "this_is_not" if False else "colorsys")
    await keep(ctx, f"{colorsys.rgb_to_hsv(0, 0, 1)} {tabnanny.__name__} {module.__name__}")


@workflow
async def imports_what_asks_the_clock(ctx):
    from . import asks_at_import

    importlib.reload(asks_at_import)
    await keep(ctx, asks_at_import.NAME)


@workflow
async def activity_with_clock(ctx):
    await stamp(ctx)
    await blocking(ctx, 1)
    await keep(ctx, "a")


@workflow
async def gathers(ctx):
    done = await asyncio.gather(*(keep(ctx, str(n)) for n in range(4)))
    await keep(ctx, str(done))


@workflow
async def task_group(ctx):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep(ctx, name)) for name in "abc"]
    await keep(ctx, str([task.result() for task in tasks]))


@workflow
async def times_out(ctx):
    try:
        async with asyncio.timeout(5):
            await wait_event(ctx, "never")
    except TimeoutError:
        await keep(ctx, "timeout")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(60), 1)


@workflow
async def queues(ctx):
    queue = asyncio.Queue()

    async def produce():
        for n in range(3):
            await asyncio.sleep(1)
            await queue.put(n)

    task = asyncio.create_task(produce())
    for _ in range(3):
        await keep(ctx, str(await queue.get()))
    await task


@workflow
async def locks(ctx):
    lock, event, semaphore = asyncio.Lock(), asyncio.Event(), asyncio.Semaphore(2)

    async def one(n):
        async with lock, semaphore:
            await keep(ctx, str(n))
        event.set()

    await asyncio.gather(one(1), one(2), event.wait())
    await keep(ctx, str(asyncio.get_running_loop().time()))


@workflow
async def async_generators(ctx):
    async def pages():
        for n in range(3):
            yield await keep(ctx, str(n))

    found = [page async for page in pages()]
    async with contextlib.aclosing(pages()) as rest:
        async for page in rest:
            found.append(page)
            break
    await keep(ctx, str(found))


@workflow
async def named_ids(ctx):
    made = uuid.uuid5(uuid.NAMESPACE_URL, ctx.instance_id)
    await keep(ctx, f"{made} {uuid.uuid3(uuid.NAMESPACE_DNS, 'a')} {uuid.UUID(int=5)}")


@workflow
async def digests(ctx):
    text = hashlib.sha256(b"a").hexdigest() + hashlib.new("md5", b"b").hexdigest()
    await keep(
        ctx, f"{text} {zlib.crc32(b'a')} {hmac.new(b'k', b'm', 'sha1').hexdigest()} {hash(5)}"
    )


@workflow
async def deep_copies(ctx):
    original = {"a": [Item("x"), {"b"}], "c": Model()}
    again = copy.deepcopy(original)
    await keep(ctx, f"{again['a'][0]} {pickle.loads(pickle.dumps(again['a'][0]))}")


@workflow
async def models(ctx):
    model = Model.model_validate({"names": ["b", "a"], "at": "2024-01-01T00:00:00Z"})
    await keep(ctx, model.model_dump_json() + str(model.model_copy(deep=True).names))


@workflow
async def makes_a_model(ctx):
    class Local(BaseModel):
        names: list[str] = Field(default_factory=list)
        nested: Model = Field(default_factory=Model)

    await keep(ctx, Local().model_dump_json())


@workflow
async def paths_as_text(ctx):
    path = pathlib.PurePosixPath("a") / "b.txt"
    plain = pathlib.Path("c") / "d"
    await keep(
        ctx, f"{path.suffix} {plain.name} {os.path.join('a', 'b')} {os.path.splitext('x.y')}"
    )


@workflow
async def texts_in_memory(ctx):
    out = io.StringIO()
    csv.writer(out).writerow([1, 2])
    out.seek(0)
    rows = list(csv.reader(io.StringIO("a,b\nc,d")))
    raw = io.BytesIO(b"abc").read()
    await keep(ctx, f"{out.read()} {rows} {raw!r} {base64.b64encode(raw)!r}")


@workflow
async def iterators(ctx):
    pairs = list(itertools.product("ab", range(2)))
    groups = {key: list(found) for key, found in itertools.groupby("aabb")}
    ready = [3, 1, 2]
    heapq.heapify(ready)
    bisect.insort(ready, 2)
    await keep(ctx, f"{pairs} {groups} {ready} {functools.reduce(operator.add, [1, 2])}")


@workflow
async def carriers_of_pure_functions(ctx):
    double = functools.partial(operator.mul, 2)
    counted = collections.defaultdict(int, a=1)
    counted["b"] += 1
    most = min([3, 1], key=lambda n: -n)
    await keep(
        ctx, f"{[*map(double, [1, 2])]} {dict(counted)} {sorted('ba', key=str.upper)} {most}"
    )


@workflow
async def texts(ctx):
    filled = string.Template("$a").substitute(a=1) + textwrap.fill("a b c", 3)
    near = difflib.get_close_matches("appel", ["apple", "pear"])
    await keep(ctx, f"{filled} {near} {urllib.parse.urlencode({'a': 1})} {struct.pack('>i', 5)!r}")


@workflow
async def numbers(ctx):
    await keep(
        ctx, f"{statistics.mean([1, 2])} {statistics.NormalDist(0, 1).cdf(0)} {divmod(7, 2)}"
    )


@workflow
async def weak(ctx):
    item = Item("a")
    cache = weakref.WeakValueDictionary(a=item) if False else {"a": item}
    await keep(ctx, str(cache["a"]))


class Closes:
    def __del__(self):
        self.at = time.time()


@workflow
async def finalizers(ctx):
    thing = Closes()
    del thing
    await keep(ctx, "a")


@workflow
async def stack_of_contexts(ctx):
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: None)
        stack.enter_context(contextlib.nullcontext())
        await keep(ctx, "a")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print("x")
    await keep(ctx, out.getvalue())


class Tee(io.TextIOBase):
    def write(self, text):
        self.last = f"{datetime.now()} {text}"
        return len(text)


@workflow
async def prints_to_a_stamping_stream(ctx):
    with contextlib.redirect_stdout(Tee()):
        print("x")
    await keep(ctx, "a")


@workflow
async def allowed_on_the_line(ctx):
    begin = time.perf_counter()  # edda: allow[clock]
    log.debug(
        "took %s %s",
        time.perf_counter() - begin,
        random.random(),
    )  # edda: allow[clock, random]
    await keep(ctx, "a")


@workflow(allow=["process"])
async def allowed_for_all(ctx):
    import os

    log.debug("in %s", os.getpid())
    await keep(ctx, "a")


@workflow
async def sleeps(ctx):
    await sleep(ctx, 1)
    await asyncio.sleep(2)
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    loop.call_later(3, called.set)
    await called.wait()
    await keep(ctx, str(loop.time()))


@workflow
async def asserts(ctx):
    try:
        assert {"a": 1} == {"a": 2}, "differs"
    except AssertionError as error:
        await keep(ctx, str(error))


@workflow
async def exceptions_as_values(ctx):
    try:
        raise ExceptionGroup("some", [ValueError("a"), TypeError("b")])
    except* ValueError as group:
        text = repr(group.exceptions)
    except* TypeError:
        pass
    await keep(ctx, text)


@workflow
async def passes_a_clock_on(ctx):
    settings = {"clock": time.time, "draw": random.random}  # nobody calls them
    await keep(ctx, str(sorted(settings)))


@workflow
async def clock_of_ones_own(ctx):
    class Clock:
        def time(self):
            return ctx.now().timestamp()

        now = datetime.max

    await keep(ctx, f"{Clock().time()} {Clock.now}")


# ---- More ------------------------------------------------------------------------------------


class Base(abc.ABC):
    @property
    @abc.abstractmethod
    def name(self): ...


@functools.total_ordering
class Priced(Base):
    def __init__(self, price):
        self.price = price

    @functools.cached_property
    def name(self):
        return f"at {self.price}"

    def __eq__(self, other):
        return self.price == other.price

    def __lt__(self, other):
        return self.price < other.price

    def __hash__(self):
        return hash(("priced", self.price))


@workflow
async def own_hash(ctx):
    prices = {Priced(1), Priced(2), Priced(1)}
    await keep(ctx, f"{len(prices)} {max(prices).name} {[p.price for p in sorted(prices)]}")


@workflow
async def compares_digests(ctx):
    await keep(ctx, f"{secrets.compare_digest('a', 'a')} {hmac.compare_digest('a', 'b')}")


@workflow
async def context_variables(ctx):
    variable = contextvars.ContextVar("variable", default=1)
    variable.set(2)
    await keep(ctx, str(contextvars.copy_context().run(variable.get)))


@workflow
async def thread_locks_without_threads(ctx):
    lock = threading.RLock()
    with lock:
        waiting = queue.Queue()
        waiting.put(1)
        await keep(ctx, f"{waiting.get_nowait()} {threading.local() is None}")


@workflow
async def order_of_a_set_is_all_the_same(ctx):
    for _ in {"ann", "bob", "cyd"}:
        await keep(ctx, "same")
    names = {"ann", "bob"}
    while names:
        name = min(names)
        names.discard(name)
        await keep(ctx, name)


@workflow
async def set_comprehensions(ctx):
    short = {name[:1] for name in ("ann", "bob", "cyd")}
    found = any(name.startswith("a") for name in short)
    await keep(ctx, f"{found} {','.join(sorted(short))} {len({*short, 'x'})}")


@workflow
async def set_made_and_sorted(ctx):
    names = list({"cyd", "ann", "bob"})
    names.sort()
    for name in names:
        await keep(ctx, name)
    await asyncio.gather(*(keep(ctx, name) for name in sorted(set(names))))


@workflow
async def xml_and_mail(ctx):
    tree = ElementTree.fromstring("<a><b>1</b></a>")
    mail = email.message.EmailMessage()
    mail["Subject"] = "x"
    mail.set_content("hello")
    await keep(ctx, f"{tree.find('b').text} {ElementTree.tostring(tree)} {mail.get_content()}")


@workflow
async def settings_in_memory(ctx):
    parser = configparser.ConfigParser()
    parser.read_string("[a]\nb = 1")
    await keep(ctx, f"{tomllib.loads('a = 1')} {parser['a']['b']} {ipaddress.ip_address('::1')}")


@workflow
async def signatures(ctx):
    hints = typing.get_type_hints(Model)
    bound = inspect.signature(fibonacci).bind(3)
    source = inspect.getsource(fibonacci)
    await keep(ctx, f"{sorted(hints)} {bound.arguments} {len(source)}")


@workflow
async def mocks(ctx):
    fake = mock.Mock(return_value=3, **{"other.side_effect": [1, 2]})
    await keep(ctx, f"{fake(1)} {fake.other()} {fake.call_count} {fake.call_args}")


@workflow
async def writes_to_streams(ctx):
    sys.stdout.write("x")
    sys.stdout.flush()
    print("x", file=sys.stderr, end="")
    await keep(ctx, f"{os.sep} {os.fspath('a')} {sys.version_info.major}")


@workflow
async def times_parsed(ctx):
    parsed = time.strptime("2024-01-02", "%Y-%m-%d")
    at = datetime.strptime("2024-01-02", "%Y-%m-%d").replace(tzinfo=UTC)
    text = time.strftime("%Y-%m-%d", (2024, 1, 2, 0, 0, 0, 0, 0, 0))
    await keep(ctx, f"{parsed.tm_yday} {at.timestamp()} {text} {email.utils.format_datetime(at)}")


@workflow
async def sub_workflow(ctx):
    await named_ids(ctx)
    if ctx.patched("sub"):
        await texts(ctx)


@workflow
async def zipped(ctx):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.txt", (2024, 1, 1, 0, 0, 0)), "a")
    await keep(ctx, hashlib.sha1(raw.getvalue()).hexdigest() + gzip.compress(b"a", mtime=0).hex())


@workflow
async def timeouts_by_the_loop(ctx):
    loop = asyncio.get_running_loop()
    async with asyncio.timeout_at(loop.time() + 5):
        await keep(ctx, "a")
    barrier = asyncio.Barrier(2)
    await asyncio.gather(barrier.wait(), barrier.wait())


@workflow
async def exits_in_order(ctx):
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(keep, ctx, "first")
        stack.push_async_callback(keep, ctx, "second")


@workflow
async def identity(ctx):
    missing = object()
    found = {"a": 1}.get("b", missing)
    await keep(ctx, str(found is missing))


@workflow
async def structures(ctx):
    kinds = enum.Enum("Kinds", "A B")
    tree = graphlib.TopologicalSorter({"b": {"a"}, "c": {"b"}})
    await keep(ctx, f"{[*kinds]} {[*tree.static_order()]} {collections.ChainMap({'a': 1})['a']}")


@workflow
async def cancels_a_task(ctx):
    task = asyncio.create_task(sleep(ctx, 100))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await keep(ctx, str(task.cancelled()))


@workflow
async def generates_in_order(ctx):
    def numbers():
        yield from range(3)

    send = (n * 2 for n in numbers())
    await keep(ctx, str([*zip(send, "abc", strict=True)]))


@workflow
async def addresses_as_keys(ctx):
    a, b = object(), object()
    seen = {id(a)}
    seen.add(id(b))
    names = {id(a): "a"}
    gc.collect()
    await keep(ctx, f"{id(a) in seen} {id(a) == id(b)} {names[id(a)]} {hash('x') == hash('x')}")


# ---- Found by reading as somebody who had not seen the guard -------------------------------------


class Dated(BaseModel):
    name: str
    at: datetime = Field(default_factory=datetime.now)


FACTOR = decimal.Decimal("0.2")
LEVELS = frozenset({"low", "high"})
HANDLERS = {"upper": str.upper, "clock": time.time}
MISSING = object()
LOCK = threading.Lock()


@workflow
async def model_that_is_given_all(ctx):
    made = Dated(name="a", at=ctx.now())
    await keep(ctx, made.model_dump_json())


@workflow
async def set_in_a_line(ctx):
    names = {"ann", "bob", "cyd"}
    long = any(len(name) > 3 for name in names)
    await keep(ctx, f"{long} {len({n.upper() for n in names})} {sorted(n for n in names)}")
    await keep(ctx, str(all(name for name in names)) + min(names) + max(names))


@workflow
async def list_that_is_sorted_later(ctx):
    names = list({"ann", "bob", "cyd"})
    names.sort()
    for name in names:
        await keep(ctx, name)


@workflow
async def list_that_is_counted(ctx):
    names = list({"ann", "bob", "cyd"})
    ages = {name: len(name) for name in set(names)}
    await keep(ctx, f"{len(names)} {ages['ann']}")
    for name in sorted(ages):
        await keep(ctx, name)


@workflow
async def heap_of_a_set(ctx):
    names = list({"ann", "bob", "cyd"})
    heapq.heapify(names)
    while names:
        await keep(ctx, heapq.heappop(names))


@workflow
async def set_that_shrinks(ctx):
    left, done = {"ann", "bob", "cyd"}, set()
    while len(done) < len(left):
        name = min(left - done)
        await keep(ctx, name)
        done.add(name)


@workflow
async def address_for_people(ctx):
    thing = object()
    print(thing, id(thing), f"{id(thing):#x}")
    ctx.logger.info(f"at {id(thing)} of {set('abc')}")
    assert thing, f"{id(thing)}"
    await keep(ctx, "a")


@workflow
async def names_of_tasks(ctx):
    async def name():
        return asyncio.current_task().get_name()

    await keep(ctx, await asyncio.create_task(name(), name="mine"))


@workflow
async def constants_of_a_module(ctx):
    level = "low" if "low" in LEVELS else "none"
    await keep(ctx, f"{FACTOR * 2} {level} {HANDLERS['upper']('a')} {os.sep} {sys.maxsize}")
    with LOCK:
        await keep(ctx, "b" if ctx is not MISSING else "c")


@workflow
async def words_that_look_like_clocks(ctx):
    class Clock:
        def __init__(self, time):
            self.time = time

        def now(self):
            return self.time

        def sleep(self, seconds):
            self.time += seconds

    clock, random, uuid4 = Clock(5), 4, "fixed"
    clock.sleep(3)
    await keep(ctx, f"{clock.now()} {random} {uuid4}")


@workflow
async def seeded_at_last(ctx):
    dice = random.Random()
    dice.seed(7)
    await keep(ctx, str(dice.random()))
    await keep(ctx, str(random.Random(ctx.instance_id).random()))


@workflow
async def queues_of_ones_own(ctx):
    ordered = queue.PriorityQueue()
    ordered.put("b")
    ordered.put("a")
    await keep(ctx, ordered.get())
    left = collections.deque(["a", "b"])
    await keep(ctx, left.popleft())


# ---- Of a blind round ------------------------------------------------------------------------

ROADS = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
SQUARES = {}
PATTERNS = {}


def reachable(start):
    todo, seen = {start}, set()
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        todo.update(ROADS[place])
    return seen


def parts(places, roads):
    left, count = set(places), 0
    while left:
        stack = [left.pop()]
        count += 1
        while stack:
            for other in roads.get(stack.pop(), ()):
                if other in left:
                    left.discard(other)
                    stack.append(other)
    return count


def copied(tree, known=None):
    known = {} if known is None else known
    key = id(tree)
    if key in known:
        return known[key]
    made = known[key] = {}
    made.update((name, copied(each, known)) for name, each in tree.items())
    return made


def square(number):
    if number not in SQUARES:
        SQUARES[number] = number * number
    return SQUARES[number]


def pattern(text):
    found = PATTERNS.get(text)
    if found is None:
        found = PATTERNS[text] = re.compile(text)
    return found


class Note(BaseModel):
    id: uuid.UUID = Field(default_factory=uuid.uuid4)
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


@dataclasses.dataclass
class Line:
    sku: str
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


@workflow
async def drained_into_a_closure(ctx):
    await keep(ctx, ",".join(sorted(reachable("a"))))


@workflow
async def parts_of_a_graph(ctx):
    await keep(ctx, str(parts("abcd", {"a": ["b"], "b": ["a"]})))


@workflow
async def drained_to_be_counted(ctx):
    names, count = {"ab", "cd", "ef"}, 0
    while names:
        names.pop()
        count += 1
    await keep(ctx, str(count))


@workflow
async def the_one_that_is_equal(ctx):
    names = {"ab", "cd", "ef"}
    await keep(ctx, next((name for name in names if name == "cd"), "none"))
    await keep(ctx, [name for name in names if name == "ab"][0])


@workflow
async def the_least_in_a_loop(ctx):
    least = None
    for name in {"ab", "cd", "ef"}:
        if least is None or name < least:
            least = name
    await keep(ctx, least)


@workflow
async def looked_up_by_address(ctx):
    await keep(ctx, str(copied({"a": {"b": {}}})))


@workflow
async def memos_of_what_is_pure(ctx):
    await keep(ctx, f"{square(3)} {square(3)} {bool(pattern('a').match('ab'))}")


@workflow
async def nothing_left_to_a_factory(ctx):
    given = {"id": str(ctx.uuid4()), "at": ctx.now().isoformat()}
    notes = [Note.model_validate(given), Note(**given), Note(id=ctx.uuid4(), at=ctx.now())]
    line = dataclasses.replace(Line("tea", "fixed"), sku="cup")
    await keep(ctx, f"{notes[0].id} {notes[1].at} {notes[2].id} {line.id}")


@workflow
async def ids_of_the_instance(ctx):
    name = uuid.uuid5(uuid.NAMESPACE_URL, ctx.instance_id)
    shard = zlib.crc32(ctx.instance_id.encode()) % 8
    token = hashlib.sha256(ctx.instance_id.encode()).hexdigest()
    await keep(ctx, f"{name} {shard} {token}")


@workflow
async def decorated_with_people_in_mind(ctx):
    names = {"ab", "cd", "ef"}
    ctx.logger.info(f"{', '.join(names)} at {id(names)}")
    print(*names)
    await keep(ctx, str(len(names)))


@workflow
async def groups_of_a_size(ctx):
    counts = {}
    for name in {"ab", "cd", "efg"}:
        counts[len(name)] = counts.get(len(name), 0) + 1
    await keep(ctx, str(sorted(counts.items())))


@workflow
async def retries_of_its_own(ctx):
    for pause in itertools.takewhile(lambda each: each < 5, (2**n for n in itertools.count())):
        await sleep(ctx, pause)
        await keep(ctx, str(pause))


@workflow
async def a_queue_of_priorities(ctx):
    jobs = asyncio.PriorityQueue()
    for job in ((3, "c"), (1, "a"), (2, "b")):
        jobs.put_nowait(job)

    async def work():
        while not jobs.empty():
            await keep(ctx, jobs.get_nowait()[1])

    await asyncio.gather(work(), work())


@workflow
async def steps_in_order_of_need(ctx):
    needs, done = {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}}, set()
    while len(done) < len(needs):
        ready = sorted(name for name in needs if name not in done and needs[name] <= done)
        for name in ready:
            await keep(ctx, name)
        done.update(ready)


@workflow
async def appended_and_sorted(ctx):
    found, sizes, text = [], [], ""
    for name in {"ab", "cd", "ef"}:
        found.append(name)
        sizes.append(len(name))
    found.sort()
    for number in {1, 2, 3}:
        text += str(number)
    await keep(ctx, f"{found} {sum(sizes)} {text}")


@workflow
async def appended_for_one(ctx):
    found = []
    for name in {"ab", "cd", "ef"}:
        if name == "cd":
            found.append(name)
    await keep(ctx, found[0])


def ordered_without_repeats(names):
    return sorted(set(names))


@workflow
async def sorted_by_a_helper(ctx):
    for name in ordered_without_repeats(["cd", "ab", "cd"]):
        await keep(ctx, name)
