"""Helpers that planted workflows call: some of them do what no replay can repeat."""

import contextlib
import dataclasses
import os
import random
import time
import uuid
from datetime import UTC, datetime
from functools import cached_property, partial, wraps
from time import time as t

from .steps import keep

now = datetime.now
stamp_later = partial(datetime.now, UTC)
generator = random.Random(7)
STARTED = time.time()
COUNTER = iter(range(10**9))
SEEN = []


def deep(n):
    return deep(n - 1) if n else time.time()  # PLANT deep_helper: clock


def aliased():
    return t()  # PLANT aliased_import: clock


def module_alias():
    return now()  # PLANT module_alias: clock


class Order:
    def __init__(self, number):
        self.number = number

    @property
    def age(self):
        return time.monotonic()  # PLANT in_property: clock

    @cached_property
    def token(self):
        return uuid.uuid4().hex  # PLANT in_cached_property: random

    def __str__(self):
        return f"{self.number} {datetime.now():%H}"  # PLANT in_str: clock

    def __eq__(self, other):
        return random.random() < 2  # PLANT in_eq: random

    def __hash__(self):
        return 1

    def __iter__(self):
        yield os.environ["HOME"]  # PLANT in_iter: environment

    def __call__(self):
        return os.getenv("USER")  # PLANT in_call: environment

    def __getattr__(self, name):
        if name == "when":
            return time.time_ns()  # PLANT in_getattr: clock
        raise AttributeError(name)

    def __format__(self, spec):
        return str(time.perf_counter())  # PLANT in_format: clock

    def __lt__(self, other):
        return random.choice([True, False])  # PLANT in_comparison: random


def timed(function):
    @wraps(function)
    def inner(*args):
        begin = time.perf_counter()  # PLANT in_decorator: clock
        return function(*args), begin

    return inner


@timed
def double(n):
    return 2 * n


@contextlib.contextmanager
def measured():
    begin = time.time()  # PLANT in_context_manager: clock
    yield begin


class Session:
    async def __aenter__(self):
        return uuid.uuid1()  # PLANT in_async_context_manager: random

    async def __aexit__(self, *_):
        return None


async def ticks():
    for _ in range(2):
        yield time.time()  # PLANT in_async_generator: clock


def lines():
    yield time.time()  # PLANT in_generator: clock


@dataclasses.dataclass
class Ticket:
    made: float = dataclasses.field(default_factory=lambda: time.time())  # PLANT in_factory: clock


class Meta(type):
    def __call__(cls, *args):
        made = super().__call__(*args)
        made.id = random.getrandbits(32)  # PLANT in_metaclass: random
        return made


class Made(metaclass=Meta):
    pass


class Descriptor:
    def __get__(self, instance, owner):
        return datetime.today()  # PLANT in_descriptor: clock


class Described:
    when = Descriptor()


def apply(function, *args):
    return function(*args)  # PLANT passed_as_callback: clock


class Dice(random.Random):
    pass


class Tags(frozenset):
    def text(self):
        return ",".join(self)  # PLANT set_by_inheritance: hash


def once(function):
    called = False

    @wraps(function)
    async def inner(*args):
        nonlocal called
        if not called:
            called = True  # PLANT once_for_all: state
            await function(*args)

    return inner


@once
async def prepare(ctx):
    await keep(ctx, "prepared")


def without_repeats(names):
    return list(set(names))
