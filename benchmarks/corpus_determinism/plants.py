"""Workflows that do what no replay can repeat. `# PLANT <name>: <category>` marks the line."""

from pydantic import BaseModel, Field
from collections import deque
from functools import lru_cache
import select
import logging
import importlib.metadata
import itertools
import io
import ctypes
import asyncio
import configparser
import datetime as dt
import email.utils
import enum
import gc
import getpass
import glob
import gzip
import http.client
import json
import locale
import multiprocessing
import os
import pathlib
import platform
import random
import resource
import sched
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import urllib.request
import uuid
import weakref
from collections import ChainMap, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial, reduce
from operator import call, methodcaller
from random import choice as pick
from random import shuffle

import httpx

from edda import activity, sleep, workflow

from . import helpers
from .helpers import Described, Made, Order, Session, Ticket, apply, double, measured, ticks
from .steps import keep

rng = random.Random()


class Kind(enum.Enum):
    A = 1
    B = 2
    C = 3


class Kinds:
    made = 0


tomorrow = datetime.now() + timedelta(days=1)


# ---- Clocks ----------------------------------------------------------------------------------


@workflow
async def now_naive(ctx):
    await keep(ctx, str(datetime.now()))  # PLANT now_naive: clock


@workflow
async def now_aware(ctx):
    await keep(ctx, str(datetime.now(UTC)))  # PLANT now_aware: clock


@workflow
async def utcnow(ctx):
    await keep(ctx, str(dt.datetime.utcnow()))  # PLANT utcnow: clock


@workflow
async def today(ctx):
    await keep(ctx, str(date.today()))  # PLANT today: clock


@workflow
async def wall(ctx):
    await keep(ctx, str(time.time()))  # PLANT wall: clock


@workflow
async def stopwatch(ctx):
    begin = time.perf_counter()  # PLANT stopwatch: clock
    await sleep(ctx, 1)
    await keep(ctx, str(time.perf_counter() - begin))


@workflow
async def cpu_time(ctx):
    if time.process_time() > 0:  # PLANT cpu_time: clock
        await keep(ctx, "busy")


@workflow
async def local_time(ctx):
    await keep(ctx, time.strftime("%H"))  # PLANT local_time: clock


@workflow
async def gm_time(ctx):
    await keep(ctx, str(time.gmtime().tm_hour))  # PLANT gm_time: clock


@workflow
async def blocks(ctx):
    time.sleep(0)  # PLANT blocks: clock
    await keep(ctx, "slept")


@workflow
async def deep_helper(ctx):
    await keep(ctx, str(helpers.deep(5)))


@workflow
async def aliased_import(ctx):
    await keep(ctx, str(helpers.aliased()))


@workflow
async def module_alias(ctx):
    await keep(ctx, str(helpers.module_alias()))


@workflow
async def local_alias(ctx):
    clock = time.time
    await keep(ctx, str(clock()))  # PLANT local_alias: clock


@workflow
async def by_getattr(ctx):
    await keep(ctx, str(getattr(time, "time" + "_ns")()))  # PLANT by_getattr: clock


@workflow
async def by_eval(ctx):
    await keep(ctx, str(eval("time.time()")))  # PLANT by_eval: clock


@workflow
async def partial_alias(ctx):
    await keep(ctx, str(helpers.stamp_later()))  # PLANT partial_alias: clock


@workflow
async def local_partial(ctx):
    stamp = partial(datetime.now, UTC)
    await keep(ctx, str(stamp()))  # PLANT local_partial: clock


@workflow
async def mapped(ctx):
    await keep(ctx, str([*map(datetime.fromtimestamp, [0])]))  # PLANT mapped: environment


@workflow
async def called_by_operator(ctx):
    await keep(ctx, str(call(time.monotonic)))  # PLANT called_by_operator: clock


@workflow
async def method_called(ctx):
    await keep(ctx, str(methodcaller("now")(datetime)))  # PLANT method_called: clock


@workflow
async def reduced(ctx):
    ids = reduce(lambda made, _: [*made, uuid.uuid4()], range(2), [])  # PLANT reduced: random
    await keep(ctx, str(ids))


@workflow
async def default_factory(ctx):
    times = defaultdict(time.time)
    await keep(ctx, str(times["a"]))  # PLANT default_factory: clock


@workflow
async def iterated(ctx):
    await keep(ctx, str(next(iter(time.time_ns, 0))))  # PLANT iterated: clock


@workflow
async def passed_as_callback(ctx):
    await keep(ctx, str(apply(time.time)))


@workflow
async def in_lambda(ctx):
    made = lambda: datetime.now()  # PLANT in_lambda: clock
    await keep(ctx, str(made()))


@workflow
async def in_comprehension(ctx):
    await keep(ctx, str([time.time() for _ in range(2)]))  # PLANT in_comprehension: clock


@workflow
async def in_default_argument(ctx):
    def inner(at=time.time()):  # PLANT in_default_argument: clock
        return at

    await keep(ctx, str(inner()))


@workflow
async def in_class_body(ctx):
    class Config:
        at = time.time()  # PLANT in_class_body: clock

    await keep(ctx, str(Config.at))


@workflow
async def in_property(ctx):
    await keep(ctx, str(Order(1).age))


@workflow
async def in_str(ctx):
    await keep(ctx, str(Order(1)))


@workflow
async def in_format(ctx):
    await keep(ctx, f"{Order(1):x}")


@workflow
async def in_getattr(ctx):
    await keep(ctx, str(Order(1).when))


@workflow
async def in_decorator(ctx):
    await keep(ctx, str(double(2)))


@workflow
async def in_context_manager(ctx):
    with measured() as begin:
        await keep(ctx, str(begin))


@workflow
async def in_async_generator(ctx):
    async for tick in ticks():
        await keep(ctx, str(tick))


@workflow
async def in_generator(ctx):
    await keep(ctx, str(list(helpers.lines())))


@workflow
async def in_factory(ctx):
    await keep(ctx, str(Ticket()))


@workflow
async def in_descriptor(ctx):
    await keep(ctx, str(Described().when))


@workflow
async def in_task(ctx):
    async def branch(n):
        await asyncio.sleep(n)
        return await keep(ctx, str(time.time()))  # PLANT in_task: clock

    await asyncio.gather(branch(1), branch(2))


@workflow
async def in_done_callback(ctx):
    times = []
    task = asyncio.ensure_future(keep(ctx, "a"))
    task.add_done_callback(lambda _: times.append(time.time()))  # PLANT in_done_callback: clock
    await task
    await keep(ctx, str(times))


@workflow
async def in_finally(ctx):
    try:
        await keep(ctx, "a")
    finally:
        await keep(ctx, str(time.time()))  # PLANT in_finally: clock


@workflow
async def in_except(ctx):
    try:
        raise ValueError
    except ValueError:
        await keep(ctx, str(datetime.now(UTC)))  # PLANT in_except: clock


@workflow
async def swallowed(ctx):
    try:
        at = str(datetime.now())  # PLANT swallowed: clock
    except BaseException:  # noqa: BLE001
        at = "never"
    await keep(ctx, at)


@workflow
async def in_match(ctx):
    match datetime.now().hour:  # PLANT in_match: clock
        case 0:
            await keep(ctx, "midnight")
        case _:
            await keep(ctx, "day")


@workflow
async def in_key(ctx):
    await keep(ctx, str(sorted([3, 1], key=lambda _: random.random())))  # PLANT in_key: random


@workflow
async def in_json_default(ctx):
    def default(_):
        return time.time()  # PLANT in_json_default: clock

    await keep(ctx, json.dumps({"at": object()}, default=default))


@workflow
async def after_a_wait(ctx):
    await sleep(ctx, 10)
    await keep(ctx, datetime.now().isoformat())  # PLANT after_a_wait: clock


# ---- Randomness ------------------------------------------------------------------------------


@workflow
async def draws(ctx):
    await keep(ctx, str(random.random()))  # PLANT draws: random


@workflow
async def picks(ctx):
    await keep(ctx, str(pick([1, 2])))  # PLANT picks: random


@workflow
async def shuffles(ctx):
    cards = [1, 2, 3]
    shuffle(cards)  # PLANT shuffles: random
    await keep(ctx, str(cards))


@workflow
async def unseeded(ctx):
    await keep(ctx, str(random.Random().random()))  # PLANT unseeded: random


@workflow
async def shared_generator(ctx):
    await keep(ctx, str(rng.gauss(0, 1)))  # PLANT shared_generator: random


@workflow
async def shared_seeded(ctx):
    await keep(ctx, str(helpers.generator.random()))  # PLANT shared_seeded: random


@workflow
async def seeds_the_shared(ctx):
    random.seed(4)  # PLANT seeds_the_shared: random
    await keep(ctx, str(random.random()))


@workflow
async def system_random(ctx):
    await keep(ctx, str(random.SystemRandom().randint(1, 9)))  # PLANT system_random: random


@workflow
async def token(ctx):
    await keep(ctx, secrets.token_hex())  # PLANT token: random


@workflow
async def secret_choice(ctx):
    await keep(ctx, secrets.choice("ab"))  # PLANT secret_choice: random


@workflow
async def urandom(ctx):
    await keep(ctx, os.urandom(4).hex())  # PLANT urandom: random


@workflow
async def uuid_four(ctx):
    await keep(ctx, str(uuid.uuid4()))  # PLANT uuid_four: random


@workflow
async def uuid_one(ctx):
    await keep(ctx, str(uuid.uuid1()))  # PLANT uuid_one: random


@workflow
async def in_cached_property(ctx):
    await keep(ctx, Order(1).token)


@workflow
async def in_eq(ctx):
    await keep(ctx, str(Order(1) == Order(2)))


@workflow
async def in_comparison(ctx):
    await keep(ctx, str(sorted([Order(1), Order(2)])[0].number))


@workflow
async def in_metaclass(ctx):
    await keep(ctx, str(Made().id))


@workflow
async def in_async_context_manager(ctx):
    async with Session() as session:
        await keep(ctx, str(session))


@workflow
async def jitter(ctx):
    await sleep(ctx, 1 + random.uniform(0, 1))  # PLANT jitter: random
    await keep(ctx, "a")


# ---- Environment, process --------------------------------------------------------------------


@workflow
async def environment(ctx):
    await keep(ctx, str(os.environ["HOME"]))  # PLANT environment: environment


@workflow
async def environment_get(ctx):
    await keep(ctx, str(os.environ.get("NO_SUCH")))  # PLANT environment_get: environment


@workflow
async def environment_in(ctx):
    if "HOME" in os.environ:  # PLANT environment_in: environment
        await keep(ctx, "home")


@workflow
async def environment_all(ctx):
    await keep(ctx, str(len(ChainMap({}, dict(os.environ)))))  # PLANT environment_all: environment


@workflow
async def getenv(ctx):
    await keep(ctx, str(os.getenv("HOME")))  # PLANT getenv: environment


@workflow
async def in_call(ctx):
    await keep(ctx, str(Order(1)()))


@workflow
async def in_iter(ctx):
    await keep(ctx, str([*Order(1)]))


@workflow
async def home(ctx):
    await keep(ctx, str(pathlib.Path.home()))  # PLANT home: environment


@workflow
async def working_directory(ctx):
    await keep(ctx, str(pathlib.Path().absolute()))  # PLANT working_directory: environment


@workflow
async def machine_zone(ctx):
    await keep(ctx, str(ctx.now().astimezone()))  # PLANT machine_zone: environment


@workflow
async def naive_timestamp(ctx):
    at = datetime(2024, 1, 1).timestamp()  # PLANT naive_timestamp: environment
    await keep(ctx, str(at))


@workflow
async def from_timestamp(ctx):
    await keep(ctx, str(datetime.fromtimestamp(0)))  # PLANT from_timestamp: environment


@workflow
async def in_locale(ctx):
    await keep(ctx, str(locale.getlocale()))  # PLANT in_locale: environment


@workflow
async def pid(ctx):
    await keep(ctx, str(os.getpid()))  # PLANT pid: process


@workflow
async def host(ctx):
    await keep(ctx, socket.gethostname())  # PLANT host: process


@workflow
async def system(ctx):
    await keep(ctx, platform.node())  # PLANT system: process


@workflow
async def cores(ctx):
    await keep(ctx, str(os.cpu_count()))  # PLANT cores: process


@workflow
async def runs_a_program(ctx):
    done = subprocess.run(["true"], check=False)  # PLANT runs_a_program: process
    await keep(ctx, str(done.returncode))


@workflow
async def shell(ctx):
    await keep(ctx, str(os.system("true")))  # PLANT shell: process


@workflow
async def collects(ctx):
    await keep(ctx, str(gc.collect()))  # PLANT collects: process


@workflow
async def references(ctx):
    await keep(ctx, str(sys.getrefcount(ctx)))  # PLANT references: process


@workflow
async def asks_a_person(ctx):
    await keep(ctx, input())  # PLANT asks_a_person: process


# ---- Files, network, threads, asyncio --------------------------------------------------------


@workflow
async def opens(ctx):
    with open(__file__) as file:  # PLANT opens: files
        await keep(ctx, file.readline())


@workflow
async def reads_a_path(ctx):
    await keep(ctx, pathlib.Path(__file__).read_text("utf-8")[:9])  # PLANT reads_a_path: files


@workflow
async def lists(ctx):
    await keep(ctx, str(os.listdir(".")))  # PLANT lists: files


@workflow
async def globs(ctx):
    await keep(ctx, str(glob.glob("*.md")))  # PLANT globs: files


@workflow
async def exists(ctx):
    await keep(ctx, str(os.path.exists("x")))  # PLANT exists: files


@workflow
async def path_exists(ctx):
    await keep(ctx, str(pathlib.Path("x").exists()))  # PLANT path_exists: files


@workflow
async def makes_a_temporary(ctx):
    with tempfile.TemporaryFile() as file:  # PLANT makes_a_temporary: files
        await keep(ctx, str(file.closed))


@workflow
async def copies(ctx):
    shutil.copy("no", "where")  # PLANT copies: files


@workflow
async def queries(ctx):
    base = sqlite3.connect(":memory:")  # PLANT queries: files
    await keep(ctx, str(base.execute("select 1").fetchone()))


@workflow
async def connects(ctx):
    with socket.socket() as connection:  # PLANT connects: network
        await keep(ctx, str(connection.fileno()))


@workflow
async def resolves(ctx):
    await keep(ctx, str(socket.getaddrinfo("localhost", 80)))  # PLANT resolves: network


@workflow
async def fetches(ctx):
    urllib.request.urlopen("http://localhost:9")  # PLANT fetches: network


@workflow
async def opens_a_connection(ctx):
    await asyncio.open_connection("localhost", 9)  # PLANT opens_a_connection: asyncio


@workflow
async def starts_a_thread(ctx):
    thread = threading.Thread(target=print)
    thread.start()  # PLANT starts_a_thread: threads
    thread.join()


@workflow
async def uses_a_pool(ctx):
    with ThreadPoolExecutor() as pool:
        await keep(ctx, str(pool.submit(len, "a").result()))  # PLANT uses_a_pool: threads


@workflow
async def thread_id(ctx):
    await keep(ctx, str(threading.get_ident()))  # PLANT thread_id: threads


@workflow
async def to_thread(ctx):
    await asyncio.to_thread(print)  # PLANT to_thread: asyncio


@workflow
async def in_executor(ctx):
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, print)  # PLANT in_executor: asyncio


@workflow
async def subprocess_of_asyncio(ctx):
    await asyncio.create_subprocess_exec("true")  # PLANT subprocess_of_asyncio: asyncio


@workflow
async def first_completed(ctx):
    tasks = [asyncio.ensure_future(keep(ctx, name)) for name in "ab"]
    await asyncio.wait(tasks, return_when="FIRST_COMPLETED")  # PLANT first_completed: asyncio


@workflow
async def new_loop(ctx):
    asyncio.new_event_loop().close()  # PLANT new_loop: asyncio


# ---- Order by chance -------------------------------------------------------------------------


@workflow
async def address(ctx):
    await keep(ctx, str(id(ctx)))  # PLANT address: hash


@workflow
async def sorted_by_address(ctx):
    things = [Order(1), Order(2)]
    await keep(ctx, str(sorted(things, key=id)[0].number))  # PLANT sorted_by_address: hash


@workflow
async def hash_of_text(ctx):
    shard = hash("ORD-1") % 8  # PLANT hash_of_text: hash
    await keep(ctx, str(shard))


@workflow
async def hash_of_a_key(ctx):
    key = ("a", 1)
    await keep(ctx, str(hash(key) % 2))  # PLANT hash_of_a_key: hash


@workflow
async def pops_a_set(ctx):
    names = {"ann", "bob", "cyd", "dan"}
    await keep(ctx, names.pop())  # PLANT pops_a_set: hash


@workflow
async def set_order(ctx):
    for name in {"ann", "bob", "cyd", "dan", "eve"}:
        await keep(ctx, name)  # PLANT set_order: hash


@workflow
async def set_of_arguments(ctx):
    names = set("the quick brown fox jumps over the lazy dog".split())
    for name in names:
        await keep(ctx, name)  # PLANT set_of_arguments: hash


@workflow
async def list_of_a_set(ctx):
    names = list({"ann", "bob", "cyd", "dan", "eve"})
    await keep(ctx, str(names))  # PLANT list_of_a_set: hash


@workflow
async def joined_set(ctx):
    await keep(ctx, ",".join({"ann", "bob", "cyd", "dan"}))  # PLANT joined_set: hash


@workflow
async def dict_of_a_set(ctx):
    ages = {name: len(name) for name in {"ann", "bob", "cyd", "dan", "eve"}}
    await keep(ctx, json.dumps(ages))  # PLANT dict_of_a_set: hash


@workflow
async def difference_of_keys(ctx):
    left = {"ann": 1, "bob": 2, "cyd": 3, "dan": 4, "eve": 5}.keys() - {"bob"}
    await asyncio.gather(*(keep(ctx, name) for name in left))  # PLANT difference_of_keys: hash


@workflow
async def set_of_tasks(ctx):
    class Job:
        def __init__(self, n):
            self.n = n

    for job in {Job(n) for n in range(9)}:
        await keep(ctx, str(job.n))  # PLANT set_of_tasks: hash


@workflow
async def default_repr(ctx):
    await keep(ctx, repr(object()))  # PLANT default_repr: hash


# ---- State of the process --------------------------------------------------------------------


@workflow
async def counts(ctx):
    await keep(ctx, str(next(helpers.COUNTER)))  # PLANT counts: state


@workflow
async def remembers(ctx):
    helpers.SEEN.append(1)
    await keep(ctx, str(len(helpers.SEEN)))  # PLANT remembers: state


@workflow
async def read_at_import(ctx):
    await keep(ctx, str(helpers.STARTED))  # PLANT read_at_import: state


@workflow
async def computed_at_import(ctx):
    await keep(ctx, tomorrow.isoformat())  # PLANT computed_at_import: clock


@workflow
async def asks_if_replaying(ctx):
    if not ctx.is_replaying:
        await keep(ctx, "first time")  # PLANT asks_if_replaying: state


# ---- More of each ------------------------------------------------------------------------------


@workflow
async def message_id(ctx):
    await keep(ctx, email.utils.make_msgid())  # PLANT message_id: clock


@workflow
async def formatted_date(ctx):
    await keep(ctx, email.utils.formatdate())  # PLANT formatted_date: clock


@workflow
async def default_timer(ctx):
    await keep(ctx, str(timeit.default_timer()))  # PLANT default_timer: clock


@workflow
async def scheduler(ctx):
    made = sched.scheduler(time.monotonic, lambda _: None)
    made.enter(0, 1, print)  # PLANT scheduler: clock
    await keep(ctx, "a")


@workflow
async def compressed(ctx):
    await keep(ctx, gzip.compress(b"a").hex())  # PLANT compressed: clock


@workflow
async def executed(ctx):
    scope = {}
    exec("import time; at = time.time()", scope)  # PLANT executed: clock
    await keep(ctx, str(scope["at"]))


@workflow
async def in_sub_workflow(ctx):
    await wall(ctx)  # PLANT in_sub_workflow: clock


@workflow
async def in_call_soon(ctx):
    seen = asyncio.Event()

    def mark():
        time.time()  # PLANT in_call_soon: clock
        seen.set()

    asyncio.get_running_loop().call_soon(mark)
    await seen.wait()


@workflow
async def in_timer_callback(ctx):
    done = asyncio.get_running_loop().create_future()

    def expire():
        done.set_result(datetime.now())  # PLANT in_timer_callback: clock

    asyncio.get_running_loop().call_later(5, expire)
    await keep(ctx, str(await done))


@workflow
async def subclass_now(ctx):
    class Stamp(datetime):
        pass

    await keep(ctx, str(Stamp.now()))  # PLANT subclass_now: clock


@workflow
async def cached_clock(ctx):
    @cache
    def first():
        return time.time()  # PLANT cached_clock: clock

    await keep(ctx, str(first() + first()))


@workflow
async def seed_of_none(ctx):
    await keep(ctx, str(random.Random(None).sample(range(9), 2)))  # PLANT seed_of_none: random


@workflow
async def mapped_draws(ctx):
    draws = map(random.getrandbits, [8, 8])  # PLANT mapped_draws: random
    await keep(ctx, str(list(draws)))


@workflow
async def below(ctx):
    await keep(ctx, str(secrets.randbelow(5)))  # PLANT below: random


@workflow
async def bound_method(ctx):
    draw = random.randint
    await keep(ctx, str(draw(1, 6)))  # PLANT bound_method: random


@workflow
async def expands_user(ctx):
    await keep(ctx, os.path.expanduser("~"))  # PLANT expands_user: environment


@workflow
async def expands_variables(ctx):
    await keep(ctx, os.path.expandvars("$HOME"))  # PLANT expands_variables: environment


@workflow
async def user_name(ctx):
    await keep(ctx, getpass.getuser())  # PLANT user_name: environment


@workflow
async def changes_environment(ctx):
    os.environ["EDDA_CORPUS"] = "1"  # PLANT changes_environment: environment
    await keep(ctx, "a")


@workflow
async def zone_name(ctx):
    await keep(ctx, str(time.tzname))  # PLANT zone_name: environment


@workflow
async def modified(ctx):
    await keep(ctx, str(os.path.getmtime(__file__)))  # PLANT modified: files


@workflow
async def writes(ctx):
    pathlib.Path("no").joinpath("x").write_text("a")  # PLANT writes: files


@workflow
async def walks(ctx):
    await keep(ctx, str(sum(1 for _ in pathlib.Path().iterdir())))  # PLANT walks: files


@workflow
async def configures(ctx):
    parser = configparser.ConfigParser()
    parser.read("no.ini")  # PLANT configures: files
    await keep(ctx, str(parser.sections()))


@workflow
async def http_connection(ctx):
    http.client.HTTPConnection("localhost", 9).request("GET", "/")  # PLANT http_connection: network


@workflow
async def uses_httpx(ctx):
    await keep(ctx, str(httpx.get("http://localhost:9")))  # PLANT uses_httpx: network


@workflow
async def uses_httpx_async(ctx):
    async with httpx.AsyncClient() as client:  # PLANT uses_httpx_async: network
        await client.get("http://localhost:9")


@workflow
async def multiprocesses(ctx):
    multiprocessing.Process(target=print).start()  # PLANT multiprocesses: process


@workflow
async def timer_thread(ctx):
    threading.Timer(1, print).start()  # PLANT timer_thread: threads


@workflow
async def as_they_complete(ctx):
    tasks = [keep(ctx, name) for name in "ab"]
    for each in asyncio.as_completed(tasks):  # PLANT as_they_complete: asyncio
        await each


@workflow
async def soon_threadsafe(ctx):
    asyncio.get_running_loop().call_soon_threadsafe(print)  # PLANT soon_threadsafe: asyncio
    await keep(ctx, "a")


@workflow
async def starts_a_server(ctx):
    await asyncio.start_server(print, port=0)  # PLANT starts_a_server: asyncio


@workflow
async def first_of_a_set(ctx):
    await keep(ctx, next(iter({"ann", "bob", "cyd", "dan"})))  # PLANT first_of_a_set: hash


@workflow
async def awaited_in_comprehension(ctx):
    names = frozenset({"ann", "bob", "cyd", "dan"})
    done = [await keep(ctx, name) for name in names]  # PLANT awaited_in_comprehension: hash
    await keep(ctx, str(len(done)))


@workflow
async def tasks_of_a_set(ctx):
    async with asyncio.TaskGroup() as group:
        for name in {"ann", "bob", "cyd"} | {"dan", "eve"}:
            group.create_task(keep(ctx, name))  # PLANT tasks_of_a_set: hash


@workflow
async def enums_in_a_set(ctx):
    for category in {Kind.A, Kind.B, Kind.C}:
        await keep(ctx, category.name)  # PLANT enums_in_a_set: hash


@workflow
async def longest_of_a_set(ctx):
    await keep(ctx, max({"ann", "bob", "cyd", "dan"}, key=len))  # PLANT longest_of_a_set: hash


@workflow
async def weak_set(ctx):
    class Thing:
        def __init__(self, number):
            self.number = number

    things = [Thing(n) for n in range(9)]
    held = weakref.WeakSet(things)
    await keep(ctx, str([thing.number for thing in held]))  # PLANT weak_set: hash


@workflow
async def class_counter(ctx):
    Kinds.made += 1
    await keep(ctx, str(Kinds.made))  # PLANT class_counter: state


@workflow
async def mutable_default(ctx):
    def add(item, to=helpers.SEEN):
        to.append(item)
        return len(to)

    await keep(ctx, str(add(1)))  # PLANT mutable_default: state


@workflow
async def sorts_by_address(ctx):
    things = [Order(1), Order(2)]
    things.sort(key=id)  # PLANT sorts_by_address: hash
    await keep(ctx, str(things[0].number))


@workflow
async def key_of_addresses(ctx):
    things = sorted([Order(1), Order(2)], key=lambda one: id(one))  # PLANT key_of_addresses: hash
    await keep(ctx, str(things[0].number))


# ---- Found by reading as somebody who had not seen the guard -------------------------------------


class Stamped(BaseModel):
    name: str
    at: datetime = Field(default_factory=datetime.now)


class Labelled(BaseModel):
    tags: set[str]


class Setting:
    run = uuid.uuid4().hex


cached_clock = lru_cache(time.time)
BORN = str(time.time())
ZONE = os.environ.get("TZ", "UTC")
RING = itertools.cycle(["a", "b", "c"])
LINES = io.StringIO()


def names_of_people():
    return {"ann", "bob", "cyd", "dan"}


def counting():
    n = 0

    def count():
        nonlocal n
        n += 1  # PLANT shared_closure: state
        return n

    return count


count_up = counting()


class Tally:
    def __init__(self):
        self.n = 0

    def next(self):
        self.n += 1  # PLANT shared_instance: state
        return self.n


TALLY = Tally()


@workflow
async def model_made_by_the_clock(ctx):
    made = Stamped(name="a")  # PLANT model_made_by_the_clock: clock
    await keep(ctx, made.at.isoformat())


@workflow
async def cached_builtin(ctx):
    await keep(ctx, str(cached_clock()))  # PLANT cached_builtin: clock


@workflow
async def record_of_a_log(ctx):
    record = logging.LogRecord("a", 20, "a.py", 1, "said", (), None)  # PLANT record_of_a_log: clock
    await keep(ctx, str(record.created))


@workflow
async def list_made_before(ctx):
    names = list({"ann", "bob", "cyd", "dan"})  # PLANT list_made_before: hash
    for name in names:
        await keep(ctx, name)


@workflow
async def text_of_a_set(ctx):
    names = {"ann", "bob", "cyd", "dan"}
    await keep(ctx, f"for {names}")  # PLANT text_of_a_set: hash


@workflow
async def unpacked_set(ctx):
    first, *_ = {"ann", "bob", "cyd", "dan"}  # PLANT unpacked_set: hash
    await keep(ctx, first)


@workflow
async def queue_of_a_set(ctx):
    left = deque({"ann", "bob", "cyd", "dan"})  # PLANT queue_of_a_set: hash
    while left:
        await keep(ctx, left.popleft())


@workflow
async def chained_set(ctx):
    names = [*itertools.chain(["eve"], {"ann", "bob", "cyd"})]  # PLANT chained_set: hash
    await keep(ctx, str(names))


@workflow
async def head_of_a_loop(ctx):
    for name in {"ann", "bob", "cyd", "dan"}:  # PLANT head_of_a_loop: hash
        said = name.upper()
        await keep(ctx, said)


@workflow
async def all_tasks(ctx):
    tasks = [asyncio.create_task(keep(ctx, name)) for name in "abc"]
    for task in asyncio.all_tasks():  # PLANT all_tasks: asyncio
        if task in tasks:
            await task


@workflow
async def set_of_a_helper(ctx):
    for name in names_of_people():  # PLANT set_of_a_helper: hash
        await keep(ctx, name)


@workflow
async def model_with_a_set(ctx):
    made = Labelled(tags={"ann", "bob", "cyd", "dan"})
    await keep(ctx, made.model_dump_json())  # PLANT model_with_a_set: hash


@workflow
async def result_in_set_order(ctx) -> list[str]:
    await keep(ctx, "a")
    return list({"ann", "bob", "cyd", "dan"})  # PLANT result_in_set_order: hash


@workflow
async def unseeded_here(ctx):
    dice = random.Random()  # PLANT unseeded_here: random
    await keep(ctx, str(dice.random()))


@workflow
async def made_at_import(ctx):
    await keep(ctx, BORN)  # PLANT made_at_import: clock


@workflow
async def environment_at_import(ctx):
    await keep(ctx, ZONE)  # PLANT environment_at_import: environment


@workflow
async def attribute_at_import(ctx):
    await keep(ctx, Setting.run)  # PLANT attribute_at_import: random


@workflow
async def arguments_of_the_process(ctx):
    await keep(ctx, sys.argv[0])  # PLANT arguments_of_the_process: environment


@workflow
async def shared_closure(ctx):
    await keep(ctx, str(count_up()))


@workflow
async def shared_instance(ctx):
    await keep(ctx, str(TALLY.next()))


@workflow
async def shared_ring(ctx):
    await keep(ctx, next(RING))  # PLANT shared_ring: state


@workflow
async def shared_text(ctx):
    LINES.write("a")  # PLANT shared_text: state
    await keep(ctx, LINES.getvalue())


@workflow
async def version_of_a_package(ctx):
    await keep(ctx, importlib.metadata.version("pydantic"))  # PLANT version_of_a_package: files


@workflow
async def loads_a_library(ctx):
    library = ctypes.CDLL(None)  # PLANT loads_a_library: process
    await keep(ctx, str(library.getpid()))


@workflow
async def selects(ctx):
    await keep(ctx, str(select.select([], [], [], 0)))  # PLANT selects: network


@workflow
async def size_of_an_object(ctx):
    await keep(ctx, str(sys.getsizeof({})))  # PLANT size_of_an_object: process


# ---- Of a blind round ------------------------------------------------------------------------

INBOX = asyncio.Queue()
LATEST = []
DICE = helpers.Dice(1)
NAMES_SEEN = {}


@activity
async def fetch_latest(ctx) -> None:
    LATEST.append(1)


@workflow
async def shared_queue(ctx):
    INBOX.put_nowait("a")  # PLANT shared_queue: state
    await keep(ctx, str(INBOX.qsize()))


@workflow
async def filled_by_an_activity(ctx):
    await fetch_latest(ctx)
    await keep(ctx, str(len(LATEST)))  # PLANT filled_by_an_activity: state


@workflow
async def once_for_all(ctx):
    await helpers.prepare(ctx)
    await keep(ctx, "a")


@workflow
async def numbered_as_they_come(ctx):
    number = NAMES_SEEN.setdefault(len(NAMES_SEEN), "a")  # PLANT numbered_as_they_come: state
    await keep(ctx, f"{number} {len(NAMES_SEEN)}")


@workflow
async def shared_dice(ctx):
    await keep(ctx, DICE.choice("abc"))  # PLANT shared_dice: random


@workflow
async def usage_of_resources(ctx):
    used = resource.getrusage(resource.RUSAGE_SELF)  # PLANT usage_of_resources: process
    await keep(ctx, str(used.ru_maxrss))


@workflow
async def cpus_of_multiprocessing(ctx):
    await keep(ctx, str(multiprocessing.cpu_count()))  # PLANT cpus_of_multiprocessing: process


@workflow
async def version_of_python(ctx):
    await keep(ctx, sys.version)  # PLANT version_of_python: environment


@workflow
async def items_in_both(ctx):
    stock, wanted = {"ab": 1, "cd": 2, "ef": 3}, {"ab": 1, "cd": 2, "ef": 3}
    for name, _ in stock.items() & wanted.items():  # PLANT items_in_both: hash
        await keep(ctx, name)


@workflow
async def drained_by_steps(ctx):
    names = {"ab", "cd", "ef"}
    while names:
        await keep(ctx, names.pop())  # PLANT drained_by_steps: hash


@workflow
async def drained_into_a_list(ctx):
    names, found = {"ab", "cd", "ef"}, []
    while names:
        name = names.pop()  # PLANT drained_into_a_list: hash
        found.append(name)
    await keep(ctx, ",".join(found))


@workflow
async def order_of_addresses(ctx):
    things = {id(each): each for each in ("ab", "cd")}
    first = min(id(each) for each in things.values())  # PLANT order_of_addresses: hash
    await keep(ctx, things[first])


@workflow
async def set_by_inheritance(ctx):
    await keep(ctx, helpers.Tags(["ab", "cd", "ef", "gh"]).text())


@workflow
async def appended_in_order(ctx):
    found = []
    for name in {"ab", "cd", "ef"}:  # PLANT appended_in_order: hash
        found.append(name)
    await keep(ctx, found)


@workflow
async def written_in_order(ctx):
    text = ""
    for name in {"ab", "cd", "ef"}:  # PLANT written_in_order: hash
        text += name
    await keep(ctx, text)


@workflow
async def list_of_a_helper(ctx):
    for name in helpers.without_repeats(["ab", "cd", "ab"]):  # PLANT list_of_a_helper: hash
        await keep(ctx, name)
