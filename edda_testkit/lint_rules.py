"""What the lint knows: its rules, and which names of which modules break them.

A rule has a stable code, grouped by category; the categories are the guard's, plus two that only
reading code can find (`globals`, `misuse`). Tables name things by their dotted path: a function
(`time.time`), a method of an instance (`pathlib.Path.read_text`), or all below a name (`x.*`).
Absent: everything that needs a syntax tree.
"""

import builtins
import sys
from dataclasses import dataclass
from functools import cache
from typing import Literal

__all__ = ["CATEGORIES", "LINT_ONLY", "RULES", "Rule", "rule_of"]

Severity = Literal["error", "warning", "note"]

CATEGORIES = (
    "clock",
    "random",
    "environment",
    "files",
    "network",
    "process",
    "threads",
    "hash",
    "asyncio",
)
LINT_ONLY = ("globals", "misuse")

STEP = "make it an activity and await that"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding. `title` says what is wrong, `cure` what to write instead."""

    code: str
    category: str
    title: str
    cure: str
    severity: Severity = "error"


RULES: dict[str, Rule] = {
    rule.code: rule
    for rule in (
        Rule(
            "EDL010",
            "globals",
            "changes state that all instances share",
            "keep it in a local variable, or behind an activity",
        ),
        Rule(
            "EDL020",
            "misuse",
            "an activity is called and never awaited",
            "await it, or hand it to asyncio.gather",
        ),
        Rule(
            "EDL021",
            "misuse",
            "an activity's bare function is called, past the record",
            "call the activity itself, with ctx",
        ),
        Rule(
            "EDL022",
            "misuse",
            "a workflow is started without ctx",
            "await wf.start(ctx, ...), or start it in an activity with an instance_id",
        ),
        Rule(
            "EDL023",
            "misuse",
            "the app is used inside a workflow",
            "use ctx and edda's waits; for the rest, " + STEP,
        ),
        Rule(
            "EDL030",
            "misuse",
            "swallows the cancellation of an await",
            "catch Exception, or raise again",
            "warning",
        ),
        Rule("EDL090", "misuse", "this allow silences nothing", "remove it", "note"),
        Rule(
            "EDL091",
            "misuse",
            "this allow names no category",
            "name categories: " + ", ".join((*CATEGORIES, *LINT_ONLY)),
            "note",
        ),
        Rule("EDL101", "clock", "reads the wall clock", "ctx.now()"),
        Rule(
            "EDL102",
            "clock",
            "reads a clock of this process",
            "ctx.now(), or measure in an activity",
        ),
        Rule(
            "EDL103",
            "clock",
            "blocks the worker, and a replay waits again",
            "await sleep(ctx, seconds)",
        ),
        Rule(
            "EDL104",
            "clock",
            "depends on the time zone of the host",
            "name the zone: astimezone(UTC), fromtimestamp(t, tz=UTC)",
        ),
        Rule("EDL105", "clock", "holds the time at which the module was imported", "ctx.now()"),
        Rule("EDL201", "random", "draws from the process's generator", "ctx.random"),
        Rule(
            "EDL202",
            "random",
            "draws from the operating system's entropy",
            "ctx.random; for secrets, " + STEP,
        ),
        Rule("EDL203", "random", "makes an id that is new on every replay", "ctx.uuid4()"),
        Rule(
            "EDL204",
            "random",
            "draws from a generator that all instances share",
            "ctx.random, or random.Random(seed) made in the workflow",
        ),
        Rule(
            "EDL205",
            "random",
            "holds a random value that was made at import",
            "ctx.random or ctx.uuid4()",
        ),
        Rule(
            "EDL301",
            "environment",
            "reads the environment",
            "pass it as an argument of the workflow, or read it in an activity",
        ),
        Rule(
            "EDL302",
            "environment",
            "depends on the host, the user or the command line",
            "pass it as an argument of the workflow, or read it in an activity",
        ),
        Rule("EDL303", "environment", "reads what somebody types", "wait_event(ctx, ...)"),
        Rule(
            "EDL304",
            "environment",
            "holds what the environment was at import",
            "pass it as an argument of the workflow, or read it in an activity",
        ),
        Rule("EDL401", "files", "reads or writes a file", STEP),
        Rule("EDL402", "files", "looks at or changes the file system", STEP),
        Rule("EDL403", "files", "uses a database file", STEP),
        Rule("EDL501", "network", "uses a socket", STEP),
        Rule("EDL502", "network", "talks to another machine", STEP),
        Rule("EDL601", "process", "runs another program", STEP),
        Rule("EDL602", "process", "starts, signals or ends processes", STEP),
        Rule(
            "EDL603",
            "process",
            "differs from process to process",
            "ctx.instance_id, or an activity",
        ),
        Rule(
            "EDL701",
            "threads",
            "uses threads",
            "asyncio.gather of activities; a plain `def` activity runs in a thread",
        ),
        Rule(
            "EDL801",
            "hash",
            "takes the order of a set, which differs from process to process",
            "sorted(...)",
        ),
        Rule(
            "EDL802",
            "hash",
            "is an address in memory, which differs from process to process",
            "a key of the data itself",
        ),
        Rule(
            "EDL803",
            "hash",
            "differs from process to process (PYTHONHASHSEED)",
            "hashlib, or a key of the data itself",
        ),
        Rule(
            "EDL804",
            "hash",
            "holds a hash or an address of the process that imported it",
            "hashlib, or a key of the data itself",
        ),
        Rule(
            "EDL901",
            "asyncio",
            "keeps its awaitables in a set, whose order differs",
            "asyncio.gather or asyncio.TaskGroup",
        ),
        Rule(
            "EDL902",
            "asyncio",
            "leaves the loop for a thread",
            "await an activity; a plain `def` one runs in a thread",
        ),
        Rule("EDL903", "asyncio", "runs another event loop", "await the coroutine here"),
        Rule("EDL904", "asyncio", "does I/O on the loop", STEP),
    )
}

# What a module-level value was made by, and the rule for reading it later.
AT_IMPORT = {
    "clock": "EDL105",
    "random": "EDL205",
    "environment": "EDL304",
    "hash": "EDL804",
}

# ---- Calls: code -> dotted paths, "module: names" ---------------------------------------------

_CALLS = {
    "EDL101": """
        time: time time_ns clock_gettime clock_gettime_ns
        datetime.datetime: now utcnow today
        datetime.date: today
        email.utils: localtime
        pendulum: now today tomorrow yesterday
        arrow: now utcnow
        arrow.Arrow: now utcnow
        django.utils.timezone: now localtime localdate
        pandas.Timestamp: now today utcnow
        whenever.Instant: now
        whenever.ZonedDateTime: now
    """,
    "EDL102": """
        time: monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns
        time: thread_time thread_time_ns
        timeit: default_timer timeit repeat Timer
        os: times
        resource: getrusage
    """,
    "EDL103": "time: sleep\n threading.Event: wait\n gevent: sleep\n eventlet: sleep",
    "EDL104": "time: mktime tzset\n dateutil.tz: tzlocal\n tzlocal: get_localzone get_localzone_name",
    "EDL201": """
        random: betavariate binomialvariate choice choices expovariate gammavariate gauss getrandbits
        random: getstate lognormvariate normalvariate paretovariate randbytes randint random randrange
        random: sample seed setstate shuffle triangular uniform vonmisesvariate weibullvariate
        numpy.random: beta binomial bytes choice exponential gamma geometric integers laplace
        numpy.random: lognormal multinomial normal permutation poisson rand randint randn random
        numpy.random: random_sample ranf sample seed shuffle standard_normal triangular uniform
        faker: Faker
    """,
    "EDL202": """
        random: SystemRandom
        random.SystemRandom: *
        secrets: choice randbelow randbits SystemRandom token_bytes token_hex token_urlsafe
        os: urandom getrandom
        ssl: RAND_bytes
        bcrypt: gensalt
        crypt: mksalt
        cryptography.fernet.Fernet: generate_key
    """,
    "EDL203": """
        uuid: uuid1 uuid4 uuid6 uuid7 uuid8 getnode
        ulid: new ULID
        ulid.ULID: *
        nanoid: generate
        shortuuid: uuid random
        shortuuid.ShortUUID: uuid random
        ksuid: Ksuid
        bson: ObjectId
        bson.objectid: ObjectId
        cuid: cuid
        uuid_utils: uuid1 uuid4 uuid6 uuid7
    """,
    "EDL204": "random.Random@shared: *",
    "EDL301": """
        os: getenv getenvb putenv unsetenv
        os.path: expandvars
        decouple: config
        dotenv: load_dotenv dotenv_values
        environ.Env: *
    """,
    "EDL302": """
        os: uname getlogin getuid geteuid getgid getegid getgroups cpu_count process_cpu_count
        os: getloadavg get_terminal_size umask nice sysconf getcwd getcwdb
        os.path: expanduser abspath realpath
        pathlib.Path: cwd home absolute resolve expanduser
        platform: *
        getpass: getuser
        locale: *
        shutil: get_terminal_size which
        sys: getdefaultencoding getfilesystemencoding getrecursionlimit getrefcount
        multiprocessing: cpu_count
        psutil: *
        gc: *
        tracemalloc: *
    """,
    "EDL303": "builtins: input breakpoint\n getpass: getpass",
    "EDL401": """
        builtins: open
        io: open open_code FileIO
        _io: open
        codecs: open
        os: open read write fdopen sendfile pread pwrite
        pathlib.Path: open read_text read_bytes write_text write_bytes
        tempfile: *
        fileinput: input FileInput
        linecache: getline getlines
        gzip: open
        bz2: open
        lzma: open
        zipfile: ZipFile
        tarfile: open
        tarfile.TarFile: open
        shelve: open
        dbm: open
        mmap: mmap
        runpy: run_path
        importlib.resources: open_text open_binary read_text read_binary
        configparser.ConfigParser: read
        aiofiles: open
        anyio: open_file
        numpy: load save savez loadtxt savetxt
        pandas: read_csv read_excel read_json read_parquet read_sql read_table
    """,
    "EDL402": """
        os: access chdir chmod chown fchdir fchmod fchown fstat fsync ftruncate link listdir
        os: listxattr lstat makedirs mkdir mkfifo mknod readlink remove removedirs rename renames
        os: replace rmdir scandir stat statvfs symlink sync truncate unlink utime walk fwalk
        os.path: exists getatime getctime getmtime getsize isdir isfile islink ismount lexists
        os.path: samefile
        pathlib.Path: chmod exists glob group hardlink_to is_block_device is_char_device is_dir
        pathlib.Path: is_fifo is_file is_mount is_socket is_symlink iterdir lchmod lstat mkdir owner
        pathlib.Path: readlink rename replace rglob rmdir samefile stat symlink_to touch unlink walk
        pathlib.Path: copy copy_into move move_into
        glob: glob iglob
        shutil: chown copy copy2 copyfile copyfileobj copymode copystat copytree disk_usage
        shutil: make_archive move rmtree unpack_archive
        filecmp: cmp cmpfiles dircmp
        zoneinfo: available_timezones
    """,
    "EDL403": """
        sqlite3: connect
        sqlite3.Connection: *
        sqlite3.Cursor: *
        aiosqlite: connect
    """,
    "EDL501": """
        socket: create_connection create_server fromfd getaddrinfo getfqdn gethostbyaddr
        socket: gethostbyname gethostbyname_ex gethostname getnameinfo getservbyname socket
        socket: socketpair
        socket.socket: *
        select: select poll epoll kqueue
        selectors: DefaultSelector SelectSelector
        ssl: get_server_certificate
        socketserver: *
        asyncore: *
        websockets: connect serve
        websocket: create_connection
    """,
    "EDL502": """
        requests: get post put patch delete head options request session Session
        requests.Session: *
        requests.sessions: Session
        requests.sessions.Session: *
        requests.api: *
        httpx: get post put patch delete head options request stream Client AsyncClient
        httpx.Client: *
        httpx.AsyncClient: *
        aiohttp: ClientSession request
        aiohttp.ClientSession: *
        urllib.request: urlopen urlretrieve build_opener
        urllib3: PoolManager request HTTPConnectionPool HTTPSConnectionPool
        urllib3.PoolManager: *
        http.client: HTTPConnection HTTPSConnection
        http.client.HTTPConnection: *
        http.client.HTTPSConnection: *
        http.server: HTTPServer ThreadingHTTPServer
        smtplib: SMTP SMTP_SSL LMTP
        smtplib.SMTP: *
        smtplib.SMTP_SSL: *
        ftplib: FTP FTP_TLS
        imaplib: IMAP4 IMAP4_SSL
        poplib: POP3 POP3_SSL
        telnetlib: Telnet
        nntplib: NNTP
        xmlrpc.client: ServerProxy
        webbrowser: open
        boto3: client resource session
        botocore.session: get_session
        redis: Redis StrictRedis from_url
        redis.Redis: *
        redis.asyncio: Redis from_url
        redis.asyncio.Redis: *
        psycopg: connect
        psycopg2: connect
        asyncpg: connect create_pool
        pymongo: MongoClient
        motor.motor_asyncio: AsyncIOMotorClient
        sqlalchemy: create_engine
        sqlalchemy.ext.asyncio: create_async_engine
        pymysql: connect
        aiomysql: connect create_pool
        elasticsearch: Elasticsearch AsyncElasticsearch
        grpc: insecure_channel secure_channel
        grpc.aio: insecure_channel secure_channel
        paramiko: SSHClient
        aiosmtplib: send SMTP
        stripe: *
        openai: OpenAI AsyncOpenAI
        anthropic: Anthropic AsyncAnthropic
    """,
    "EDL601": """
        subprocess: Popen run call check_call check_output getoutput getstatusoutput
        subprocess.Popen: *
        os: system popen startfile
        pty: spawn
        sh: *
        anyio: run_process open_process
    """,
    "EDL602": """
        os: abort execl execle execlp execlpe execv execve execvp execvpe fork forkpty kill killpg
        os: posix_spawn posix_spawnp spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe
        os: wait wait3 wait4 waitid waitpid setsid setpgid _exit
        signal: alarm signal setitimer pause sigwait raise_signal pthread_kill
        multiprocessing: Process Pool Queue SimpleQueue JoinableQueue Pipe Manager Lock Event Value
        multiprocessing: Array get_context current_process active_children parent_process
        multiprocessing.Process: *
        multiprocessing.pool: Pool ThreadPool
        concurrent.futures: ProcessPoolExecutor
        concurrent.futures.ProcessPoolExecutor: *
        concurrent.futures.process: ProcessPoolExecutor
        atexit: register
    """,
    "EDL603": "os: getpid getppid getpgid getpgrp getsid",
    "EDL701": """
        threading: Thread Timer active_count current_thread enumerate get_ident get_native_id
        threading: main_thread setprofile settrace
        threading.Thread: *
        _thread: start_new_thread get_ident allocate_lock
        concurrent.futures: ThreadPoolExecutor as_completed wait
        concurrent.futures.ThreadPoolExecutor: *
        concurrent.futures.thread: ThreadPoolExecutor
        anyio.to_thread: run_sync
        asgiref.sync: sync_to_async
        gevent: spawn
    """,
    "EDL802": "builtins: id",
    "EDL803": "builtins: hash",
    "EDL901": "asyncio: wait as_completed",
    "EDL902": "asyncio: to_thread\n asyncio.loop: run_in_executor set_default_executor",
    "EDL903": """
        asyncio: run new_event_loop run_coroutine_threadsafe Runner set_event_loop
        asyncio: set_event_loop_policy
        asyncio.loop: run_until_complete run_forever call_soon_threadsafe close stop
        anyio: run
        trio: run
        uvloop: run install
        nest_asyncio: apply
    """,
    "EDL904": """
        asyncio: open_connection open_unix_connection start_server start_unix_server
        asyncio: create_subprocess_exec create_subprocess_shell
        asyncio.subprocess: create_subprocess_exec create_subprocess_shell
        asyncio.loop: create_connection create_server create_datagram_endpoint getaddrinfo
        asyncio.loop: create_unix_connection create_unix_server getnameinfo sock_accept sock_connect
        asyncio.loop: sock_recv sock_sendall add_reader add_writer remove_reader remove_writer
        asyncio.loop: add_signal_handler subprocess_exec subprocess_shell connect_read_pipe
        asyncio.loop: connect_write_pipe sendfile start_tls
    """,
}

# Reading one of these is the finding; no call is needed.
READS = {
    "os.environ": "EDL301",
    "os.environb": "EDL301",
    "sys.argv": "EDL302",
    "sys.orig_argv": "EDL302",
    "sys.path": "EDL302",
    "sys.modules": "EDL302",
    "sys.stdin": "EDL303",
    "time.tzname": "EDL104",
    "time.timezone": "EDL104",
    "time.altzone": "EDL104",
    "time.daylight": "EDL104",
}

# Clean, depending on the arguments: how many positional ones make it so, or which keyword.
GIVEN_ENOUGH = {
    "random.Random": ("EDL202", 1, "x"),
    "numpy.random.default_rng": ("EDL202", 1, "seed"),
    "numpy.random.RandomState": ("EDL202", 1, "seed"),
    "time.gmtime": ("EDL101", 1, ""),
    "time.strftime": ("EDL101", 2, ""),
    "time.asctime": ("EDL101", 1, ""),
    "email.utils.formatdate": ("EDL101", 1, "timeval"),
    "datetime.datetime.fromtimestamp": ("EDL104", 2, "tz"),
    "datetime.datetime.astimezone": ("EDL104", 1, "tz"),
}
LOCAL_TIME = {  # with a time: the host's zone; without: the clock as well
    "time.localtime": 1,
    "time.ctime": 1,
    "datetime.date.fromtimestamp": 0,
}

# Methods so peculiar that the class of the object need not be known.
METHODS = {
    "read_text": "EDL401",
    "read_bytes": "EDL401",
    "write_text": "EDL401",
    "write_bytes": "EDL401",
    "run_in_executor": "EDL902",
}

# ---- What comes out of a call, or of an attribute --------------------------------------------

_PATH = "pathlib.Path"
_DATETIME = "datetime.datetime"
RETURNS = {
    "asyncio.get_running_loop": "asyncio.loop",
    "asyncio.get_event_loop": "asyncio.loop",
    "numpy.random.default_rng": "random.Random",
    "numpy.random.RandomState": "random.Random",
    "sqlite3.connect": "sqlite3.Connection",
    "requests.session": "requests.Session",
    "itertools.count": "itertools.count",
    "itertools.cycle": "itertools.count",
    **{
        f"{_PATH}.{name}": _PATH
        for name in "parent joinpath with_name with_suffix with_stem relative_to cwd home "
        "absolute resolve expanduser rename replace".split()
    },
    **{
        f"{_DATETIME}.{name}": _DATETIME
        for name in "now utcnow today replace astimezone fromtimestamp fromisoformat strptime "
        "combine".split()
    },
}
SAME = {
    "pathlib.PosixPath": _PATH,
    "pathlib.WindowsPath": _PATH,
    "posixpath": "os.path",
    "ntpath": "os.path",
    "asyncio.AbstractEventLoop": "asyncio.loop",
    "asyncio.events.AbstractEventLoop": "asyncio.loop",
    "asyncio.tasks": "asyncio",
    "asyncio.threads": "asyncio",
    "multiprocess": "multiprocessing",
}

# ---- What needs no look ----------------------------------------------------------------------

# Handed a function, these do not call it.
DO_NOT_CALL = frozenset(
    f"builtins.{name}"
    for name in "isinstance issubclass callable hasattr getattr setattr type print repr str bool "
    "vars dir format super property list tuple set frozenset dict len".split()
)
DO_NOT_CALL_MODULES = frozenset(
    "edda edda_testkit inspect logging loguru pprint structlog types typing typing_extensions "
    "warnings".split()
)
# Other people's packages whose functions are as deterministic as their arguments.
PURE_PACKAGES = frozenset(
    """
    annotated_types arrow attr attrs babel bson cattrs cloudevents cytoolz dacite dateutil deepdiff
    django edda edda_testkit faker freezegun hypothesis jinja2 jsonschema loguru markupsafe
    marshmallow more_itertools msgspec numpy opentelemetry orjson packaging pandas pendulum
    pydantic pydantic_core pytest pytz rapidjson simplejson sortedcontainers structlog tenacity
    toml tomli toolz typing_extensions tzdata ujson whenever wrapt yaml
    """.split()
)
STDLIB = frozenset(sys.stdlib_module_names)
BUILTINS = frozenset(dir(builtins))

# Methods of the types that data is made of: a call of one is no call of unknown code.
DATA_METHODS = frozenset(
    name
    for kind in (str, bytes, list, dict, set, tuple, int, float, BaseException)
    for name in dir(kind)
) | frozenset(
    """
    appendleft popleft appendright extendleft rotate most_common elements subtract total
    model_dump model_dump_json model_copy model_validate dict json copy
    isoformat date time timestamp strftime replace utcoffset weekday isoweekday total_seconds
    astimezone quantize group groups groupdict match search span
    debug info warning error exception critical log
    put get get_nowait put_nowait set wait clear is_set acquire release cancel cancelled done result
    create_task set_result set_exception add_done_callback
    now random uuid4 patched recur choice choices randint shuffle sample uniform randrange gauss
    """.split()
)

MUTATORS = frozenset(
    """
    add append appendleft clear difference_update discard extend extendleft insert
    intersection_update move_to_end pop popitem popleft remove reverse rotate setdefault sort
    subtract symmetric_difference_update update
    """.split()
)
CONTAINERS = frozenset(
    {"builtins.list", "builtins.dict", "builtins.set", "builtins.bytearray"}
    | {f"collections.{name}" for name in "Counter OrderedDict defaultdict deque".split()}
)


@cache
def _calls() -> dict[str, str]:
    table = {}
    for code, text in _CALLS.items():
        for line in filter(None, map(str.strip, text.splitlines())):
            owner, _, names = line.partition(": ")
            table.update({f"{owner}.{name}": code for name in names.split()})
    return table


def rule_of(path: str) -> str | None:
    """The code of the rule that calling `path` breaks, whatever the arguments."""
    table = _calls()
    found = table.get(path)
    while found is None and "." in path:
        path = path.rpartition(".")[0]
        found = table.get(f"{path}.*")
    return found


def same_name(path: str) -> str:
    """One spelling for what has several: `pathlib.PosixPath.cwd` is `pathlib.Path.cwd`."""
    for other, name in SAME.items():
        if path == other or path.startswith(f"{other}."):
            return name + path[len(other) :]
    return path


def is_known(path: str) -> bool:
    """Whether calls of `path` need no analysis: the standard library, and packages in a table."""
    top = path.partition(".")[0]
    return top in STDLIB or top in PURE_PACKAGES or top == "builtins" or rule_of(path) is not None
