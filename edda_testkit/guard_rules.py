"""Which calls a replay cannot repeat: tables of the functions themselves.

Builtins are found by the object that is called and Python functions by their code, so that an
alias hides nothing; methods of values by their name, and then by the value they are bound to.
Absent: who called (`guard_frames`), and whether it matters this time (`guard_checks`).
"""

import asyncio
import builtins
import gc
import io
import linecache
import locale
import logging
import multiprocessing.context
import multiprocessing.process
import os
import platform
import random
import secrets
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
import warnings
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import date, datetime
from functools import cache
from types import BuiltinFunctionType, BuiltinMethodType, CodeType, FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from pydantic import BaseModel

from edda import waiting
from edda.activity import Activity
from edda.errors import NotReplayableError
from edda.loop import WorkflowLoop
from edda.workflow import WorkflowContext
from edda_testkit.guard_checks import (
    hashes_something,
    is_clock_class,
    is_database,
    is_dropped,
    is_fake_naive,
    is_fake_zoneless,
    is_more_than_key,
    is_naive,
    is_numpy_global,
    is_socket,
    is_unordered,
    is_used,
    is_zoneless,
    lacks,
    lacks_arguments,
    reads_a_file,
)
from edda_testkit.guard_frames import shown, users_until
from edda_testkit.guard_words import (
    DRAW,
    IDS,
    NOW,
    OF_NAIVE,
    ORDER,
    SEEDED,
    SLEEP,
    TO_LOCAL,
    ZONE,
    Rule,
    rule,
)

__all__ = ["IN_SET_ORDER", "NETWORK_LIBRARIES", "Rule", "Rules", "rules"]


# ---- The tables ------------------------------------------------------------------------------

# Where, category, names (a dotted one is a class's), and the cure if it is not the category's.
# A module that is named as text counts once somebody has loaded it.
FUNCTIONS: tuple[tuple[Any, str, str, str], ...] = (
    (time, "clock", "process_time process_time_ns thread_time thread_time_ns ctime", NOW),
    (time, "clock", "clock_gettime clock_gettime_ns", NOW),
    (time, "clock", "sleep", SLEEP),
    (time, "environment", "tzset mktime", ZONE),
    (os, "random", "urandom getrandom", DRAW),
    (uuid, "random", "uuid1 uuid4 uuid6 uuid7 uuid8 getnode", IDS),
    (os, "environment", "getenv getenvb putenv unsetenv getcwd getcwdb get_terminal_size", ""),
    (os._Environ, "environment", "__getitem__ __iter__ __len__ copy", ""),
    (os._Environ, "environment", "__setitem__ __delitem__", ""),
    (locale, "environment", "getlocale getdefaultlocale getpreferredencoding getencoding", ""),
    (locale, "environment", "setlocale localeconv strcoll strxfrm currency nl_langinfo", ""),
    (os, "files", "open listdir scandir stat lstat fstat access walk fwalk remove unlink", ""),
    (os, "files", "rename renames replace mkdir makedirs rmdir removedirs readlink link", ""),
    (os, "files", "symlink chdir chmod chown truncate utime statvfs read write close fsync", ""),
    (os, "files", "mkfifo sendfile pipe", ""),
    (builtins, "files", "open", ""),
    (io, "files", "open_code", ""),
    (tempfile, "files", "mkstemp mkdtemp mktemp gettempdir NamedTemporaryFile TemporaryFile", ""),
    (tempfile, "files", "TemporaryDirectory.__init__ SpooledTemporaryFile.rollover", ""),
    (sqlite3, "files", "connect", ""),
    (socket, "network", "socket.__init__ create_connection create_server getaddrinfo", ""),
    (socket, "network", "gethostbyname gethostbyname_ex gethostbyaddr getnameinfo getfqdn", ""),
    (socket, "network", "getservbyname socketpair if_nameindex", ""),
    (urllib.request, "network", "urlopen urlretrieve OpenerDirector.open", ""),
    (socket, "process", "gethostname", ""),
    (subprocess, "process", "Popen.__init__ run call check_call check_output getoutput", ""),
    (os, "process", "system popen fork forkpty posix_spawn posix_spawnp spawnv spawnve", ""),
    (os, "process", "execv execve kill killpg wait waitpid abort times uname sysconf", ""),
    ("pwd", "process", "getpwuid getpwnam getpwall", ""),
    ("grp", "process", "getgrgid getgrnam getgrall", ""),
    (select, "network", "select poll epoll kqueue", ""),
    (platform, "process", "node platform uname system release version machine processor", ""),
    (platform, "process", "libc_ver mac_ver win32_ver python_version python_implementation", ""),
    (platform, "process", "architecture freedesktop_os_release", ""),
    (signal, "process", "signal alarm setitimer raise_signal pause sigwait", ""),
    (ssl, "random", "RAND_bytes", DRAW),
    (multiprocessing.process.BaseProcess, "process", "start", ""),
    (webbrowser, "process", "open open_new open_new_tab", ""),
    (builtins, "process", "input", ""),
    (threading, "threads", "Thread.start Timer.__init__ Event.wait Condition.wait", ""),
    (threading, "threads", "Barrier.wait active_count enumerate", ""),
    ("_thread", "threads", "start_new_thread start_joinable_thread", ""),
    (ThreadPoolExecutor, "threads", "submit map", ""),
    (ProcessPoolExecutor, "process", "submit map", ""),
    (
        asyncio,
        "asyncio",
        "new_event_loop set_event_loop run run_coroutine_threadsafe Runner.run",
        "",
    ),
)

# The same, for the user's own lines.
DIRECT: tuple[tuple[Any, str, str, str], ...] = (
    (os, "process", "getpid getppid getuid geteuid getgid getlogin getpgid getsid umask", ""),
    (os, "process", "cpu_count process_cpu_count sched_getaffinity getloadavg", ""),
    (threading, "threads", "get_ident get_native_id current_thread main_thread", ""),
    (gc, "process", "get_objects get_count get_referrers get_referents get_stats", ""),
    (sys, "process", "getrefcount getrecursionlimit _current_frames getallocatedblocks", ""),
    (sys, "process", "getsizeof", ""),
    (sys, "environment", "getfilesystemencoding getdefaultencoding", ""),
    ("_tracemalloc", "process", "get_traced_memory", ""),
    ("resource", "process", "getrusage getrlimit", ""),
    ("fcntl", "files", "fcntl flock ioctl lockf", ""),
    (multiprocessing.context.BaseContext, "process", "cpu_count", ""),
    (multiprocessing.process, "process", "current_process parent_process active_children", ""),
    (linecache, "files", "getline getlines", ""),
    ("importlib.metadata", "files", "version metadata distribution distributions files", ""),
    ("zoneinfo", "files", "available_timezones", ""),
    ("ctypes", "process", "CDLL.__init__", ""),
    (logging, "clock", "LogRecord.__init__ Logger.makeRecord", NOW),
    (asyncio, "asyncio", "all_tasks", "Keep the tasks in a list: asyncio keeps them in a set."),
)

METHODS = {
    "astimezone": rule("environment", TO_LOCAL, ZONE, check=is_zoneless),
    "timestamp": rule("environment", OF_NAIVE, ZONE, check=is_naive),
    "now": rule("clock", "datetime.now()", NOW, check=is_clock_class),
    "utcnow": rule("clock", "datetime.utcnow()", NOW, check=is_clock_class),
    "today": rule("clock", "datetime.today()", NOW, check=is_clock_class),
    "pop": rule("hash", "set.pop()", ORDER, check=is_unordered),
    **dict.fromkeys(
        ("connect", "recv", "recv_into", "send", "sendall", "sendto", "accept", "bind"),
        rule("network", "a method of a socket", check=is_socket),
    ),
    **dict.fromkeys(
        ("read", "read1", "readall", "readinto", "readline", "readlines"),
        rule("files", "reading a file", check=reads_a_file),
    ),
    **dict.fromkeys(
        ("execute", "executemany", "executescript", "fetchone", "fetchall"),
        rule("files", "a query to SQLite", check=is_database),
    ),
    **dict.fromkeys(
        "rand randn randint random_sample normal uniform choice shuffle permutation".split(),
        rule("random", "numpy.random", DRAW, check=is_numpy_global),
    ),
}

IN_SET_ORDER = rule("hash", "for something in the order of a set", ORDER)
ASK = Rule("", "", "", is_ask=True)
REPLAY = Rule("", "", "", check=lambda *_: False, each_time=True)  # what comes differs from before

LATE = ("freezegun.api", *(each[0] for each in FUNCTIONS + DIRECT if isinstance(each[0], str)))

# What these do on their way, reading the environment, say, is not what is wrong with it.
NETWORK_LIBRARIES = frozenset(
    """
    aiohttp aiokafka aiosmtplib asyncpg boto3 botocore confluent_kafka elasticsearch ftplib grpc
    httpcore httpx imaplib kafka nats paramiko pika poplib psycopg psycopg2 pymongo redis requests
    smtplib urllib3 websockets xmlrpc
    """.split()
)

# What the interpreter calls when a coroutine goes away that was never awaited.
UNAWAITED = getattr(warnings, "_warn_unawaited_coroutine", None)

# The generator behind `random.random()` and the like.
SHARED: random.Random = random.random.__self__  # type: ignore[attr-defined]


class Rules:
    """The tables, filled for this process.

    `seeded` are the generators that workflow code has seeded itself: it may draw from them. Any
    other is shared with whatever else runs here, seeded or not.
    """

    def __init__(self) -> None:
        self.seeded: WeakSet[random.Random] = WeakSet()
        self.builtins: dict[Any, Rule] = {}
        self.codes: dict[int, Rule] = {}
        self.methods = dict(METHODS)
        for name in ("random", "getrandbits"):
            self.methods[name] = rule("random", f"random.{name}()", DRAW, check=self.is_foreign)
        self._made: WeakKeyDictionary[random.Random, str] = WeakKeyDictionary()
        self._defaults: WeakKeyDictionary[type, dict[Any, Rule]] = WeakKeyDictionary()
        self._kept: list[CodeType] = []  # so that the ids of their codes stay theirs
        self._key = 0
        self.refresh()

    def refresh(self) -> None:
        """Fill the tables anew when a library has exchanged clocks, or been loaded."""
        # time-machine gives builtins another implementation, and with it another hash.
        key = hash((time.gmtime, datetime.now, *map(sys.modules.__contains__, LATE)))
        if key != self._key:
            self._key = key
            self.builtins.clear()
            self.codes.clear()
            self._defaults.clear()
            for function, made in self._all():
                self._add(function, made)

    def of(self, function: Any) -> Rule | None:
        """The rule of a function, builtin or not, that is broken whatever it is given."""
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        made = self.codes.get(id(code)) or self.of_builtin(function)
        return made if made is not None and made.check is None else None

    def of_builtin(self, function: Any) -> Rule | None:
        """The rule of a builtin that is handed on, wherever it will be called."""
        made = self.builtins.get(function) if is_hashable(function) else None
        if made is None and isinstance(function, BuiltinMethodType):
            made = self.methods.get(function.__name__)
            frame = sys._getframe()
            if made is not None and made.check is not None and not made.check(frame, function):
                return None
        return made

    def _all(self) -> Iterator[tuple[Any, Rule]]:
        for table, is_direct in ((FUNCTIONS, False), (DIRECT, True)):
            for where, category, names, cure in table:
                place = sys.modules.get(where) if isinstance(where, str) else where
                for name in names.split() if place is not None else ():
                    call = said(place, name)
                    yield found(place, name), rule(category, call, cure, is_direct=is_direct)
        yield id, rule("hash", "id()", check=is_more_than_key, is_direct=True)
        yield gc.collect, rule("process", "gc.collect()", check=is_used, is_direct=True)
        yield hash, rule("hash", "hash()", check=hashes_something, is_direct=True)
        for name in ("choice", "randbelow", "randbits", *filter(is_token, secrets.__all__)):
            yield getattr(secrets, name), rule("random", f"secrets.{name}()", DRAW)
        for name, function in vars(random.Random).items():
            if not name.startswith("_") and name not in ("seed", "getstate", "setstate"):
                yield function, rule("random", f"random.{name}()", DRAW, check=self.is_foreign)
        for name in ("seed", "setstate"):
            called = rule("random", f"random.{name}()", DRAW, check=self.sees_seed, each_time=True)
            yield getattr(random.Random, name), called
        asks = (Activity.__call__, WorkflowLoop.create_task)
        for function in (*asks, *(getattr(waiting, name) for name in waiting.__all__)):
            yield function, ASK
        yield WorkflowContext.is_replaying.fget, REPLAY  # type: ignore[attr-defined]
        yield NotReplayableError.__init__, rule("asyncio", "", by_edda=True)
        yield UNAWAITED, rule("asyncio", "", check=is_dropped, is_direct=True, is_forgotten=True)
        yield BaseModel.__init__, rule("clock", "", check=self.makes_by_chance)
        yield from clocks()

    def _add(self, function: Any, made: Rule) -> None:
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is not None:
            self._kept.append(code)
            self.codes[id(code)] = made
        elif callable(function) and not isinstance(function, type):
            self.builtins[function] = made

    def makes_by_chance(self, frame: FrameType, _: object) -> Rule | None:
        """The rule that a default of a pydantic model breaks, which is made in compiled code."""
        model, given = frame.f_locals.get("self"), frame.f_locals.get("data")
        if model is None or not isinstance(given, dict):
            return None
        if type(model) not in self._defaults:
            self._defaults[type(model)] = {
                (name, field.alias): made
                for name, field in type(model).__pydantic_fields__.items()
                if (made := self.of_builtin(field.default_factory)) is not None
            }
        harmful = self._defaults[type(model)].items()
        return next((made for names, made in harmful if given.keys().isdisjoint(names)), None)

    # ---- Generators of random numbers ------------------------------------------------------------

    def is_foreign(self, frame: FrameType, method: Any) -> object:
        """Whether a generator is drawn from that workflow code has not seeded."""
        drawn = frame.f_locals.get("self") if method is None else method.__self__
        if not isinstance(drawn, random.Random) or drawn in self.seeded:
            return False
        made = self._made.get(drawn)
        name = frame.f_code.co_name if method is None else method.__name__
        said = f"{name}() of a generator without a seed, made at {made}"
        return made is None or rule("random", said, SEEDED)

    def sees_seed(self, frame: FrameType, _: object) -> bool:
        """Follows who is seeded; it does harm to the generator that everybody shares."""
        generator = frame.f_locals.get("self")
        if generator is SHARED:
            return True
        if isinstance(generator, random.Random):
            if any(frame.f_locals.get(name) is not None for name in ("a", "state")):
                self.seeded.add(generator)
            else:
                self.seeded.discard(generator)
                self._made[generator] = shown(next(users_until(frame, None), frame))
        return False


@cache
def rules() -> Rules:
    """The tables of this process."""
    return Rules()


def is_hashable(function: object) -> bool:
    return isinstance(function, BuiltinFunctionType | BuiltinMethodType)


def is_token(name: str) -> bool:
    return name.startswith("token_")


def found(place: Any, name: str) -> Any:
    for part in name.split("."):
        place = getattr(place, part, None)
    return place


def said(place: Any, name: str) -> str:
    if place is os._Environ:
        return "os.environ"
    prefix = "" if place is builtins else f"{place.__name__}."
    return f"{prefix}{name.removesuffix('.__init__')}()"


# ---- Clocks: the real ones, and freezegun's stand-ins --------------------------------------------


def clocks() -> Iterator[tuple[Any, Rule]]:
    api: Any = sys.modules.get("freezegun.api")

    def both(name: str) -> Iterator[tuple[Any, bool]]:
        yield getattr(api, f"real_{name}", getattr(time, name)), False
        yield getattr(api, f"fake_{name}", None), True

    for name in ("time", "monotonic", "perf_counter"):
        for each in (name, f"{name}_ns"):
            for function, _ in both(each):
                yield function, rule("clock", f"time.{each}()", NOW)
    for function, _ in both("localtime"):
        yield function, rule("clock", "time.localtime()", NOW)
    for function, is_fake in both("gmtime"):
        check = lacks("t") if is_fake else lacks_arguments(1)
        yield function, rule("clock", "time.gmtime()", NOW, check=check)
    for function, is_fake in both("strftime"):
        check = lacks("time_to_format") if is_fake else lacks_arguments(2)
        yield function, rule("clock", "time.strftime()", NOW, check=check)
    yield time.asctime, rule("clock", "time.asctime()", NOW, check=lacks_arguments(1))

    moment, day = getattr(api, "real_datetime", datetime), getattr(api, "real_date", date)
    fake, fake_day = getattr(api, "FakeDatetime", None), getattr(api, "FakeDate", None)
    for name in ("now", "utcnow", "today"):
        for cls in (moment, fake):
            yield getattr(cls, name, None), rule("clock", f"datetime.{name}()", NOW)
    for cls in (day, fake_day):
        yield getattr(cls, "today", None), rule("clock", "date.today()", NOW)
    local = "fromtimestamp() in the machine's zone"
    yield moment.fromtimestamp, rule("environment", local, ZONE, check=lacks_arguments(2))
    yield day.fromtimestamp, rule("environment", local, ZONE)
    if fake is not None:
        yield fake.fromtimestamp, rule("environment", local, ZONE, check=lacks("tz"))
        yield fake.timestamp, rule("environment", OF_NAIVE, ZONE, check=is_fake_naive)
        yield fake.astimezone, rule("environment", TO_LOCAL, ZONE, check=is_fake_zoneless)
