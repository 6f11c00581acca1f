"""Which names of which modules break which rule.

Tables name things by their dotted path: a function (`time.time`), a method of an instance
(`pathlib.Path.read_text`), or all below a name (`x.*`). Absent: everything that needs a syntax
tree.
"""

from functools import cache

__all__ = [
    "GIVEN_ENOUGH",
    "LOCAL_TIME",
    "METHODS",
    "OPENERS",
    "READS",
    "TIMED",
    "WAITED_ON",
    "has_methods",
    "rule_of",
]

# ---- Calls: code -> dotted paths, "module: names" ---------------------------------------------

# What one puts things into for another to take: at module level, for whoever comes first.
WAITED_ON = frozenset(
    {f"asyncio.{name}" for name in "Queue LifoQueue PriorityQueue Event Semaphore".split()}
    | {f"queue.{name}" for name in "Queue LifoQueue PriorityQueue SimpleQueue".split()}
)

_CALLS = {
    "EDL101": """
        time: time time_ns clock_gettime clock_gettime_ns
        datetime.datetime: now utcnow today
        datetime.date: today
        email.utils: localtime make_msgid
        logging: LogRecord makeLogRecord
        logging.Logger: makeRecord
        http.cookiejar.CookieJar: clear_expired_cookies make_cookies add_cookie_header
        zipfile.ZipFile: writestr mkdir
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
        resource: getrusage
    """,
    "EDL103": "time: sleep\n gevent: sleep\n eventlet: sleep",
    "EDL305": """
        time: mktime tzset
        dateutil.tz: tzlocal
        imaplib: Time2Internaldate
        tzlocal: get_localzone get_localzone_name
        datetime.datetime@naive: timestamp astimezone
    """,
    "EDL201": """
        random: betavariate binomialvariate choice choices expovariate gammavariate gauss
        random: getrandbits getstate lognormvariate normalvariate paretovariate randbytes randint
        random: random randrange sample seed setstate shuffle triangular uniform vonmisesvariate
        random: weibullvariate
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
        django.utils.crypto: get_random_string
        django.core.management.utils: get_random_secret_key
        email.mime.multipart.MIMEMultipart: as_string as_bytes
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
    "EDL010": "\n".join(f"{one}@shared: *" for one in WAITED_ON),
    "EDL301": """
        os: getenv getenvb putenv unsetenv
        os.path: expandvars
        decouple: config
        dotenv: load_dotenv dotenv_values
        environ.Env: *
    """,
    "EDL302": """
        os: getcwd getcwdb get_terminal_size
        os.path: expanduser abspath realpath
        pathlib.Path: cwd home absolute resolve expanduser
        locale: *
        shutil: get_terminal_size which
        sys: getdefaultencoding getfilesystemencoding
        mimetypes: init
    """,
    "EDL604": """
        os: uname getlogin getuid geteuid getgid getegid getgroups cpu_count process_cpu_count
        os: getloadavg umask nice sysconf sched_getaffinity times
        socket: gethostname
        platform: *
        getpass: getuser
        pwd: *
        grp: *
        ctypes: CDLL PyDLL WinDLL
        ctypes.util: find_library
        sys: getrecursionlimit getrefcount getallocatedblocks getsizeof
        multiprocessing: cpu_count
        psutil: *
        gc: *
        tracemalloc: *
    """,
    "EDL605": "builtins: input breakpoint\n getpass: getpass",
    "EDL401": """
        builtins: open
        io: open open_code FileIO
        _io: open
        codecs: open
        os: open read write fdopen sendfile pread pwrite
        pathlib.Path: open read_text read_bytes write_text write_bytes
        tempfile: *
        fileinput: input FileInput
        logging: FileHandler
        logging.handlers: RotatingFileHandler TimedRotatingFileHandler WatchedFileHandler
        linecache: getline getlines
        gzip: open
        bz2: open
        lzma: open
        zipfile: ZipFile is_zipfile
        pkgutil: get_data
        importlib.metadata: version metadata distribution distributions files requires
        importlib.metadata: entry_points packages_distributions
        importlib.resources.files(): *
        tarfile: open is_tarfile
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
        fcntl: fcntl flock ioctl lockf
        sysconfig: get_path get_paths get_config_var get_config_vars
        site: getsitepackages getusersitepackages
    """,
    "EDL403": """
        sqlite3: connect
        sqlite3.Connection: *
        sqlite3.Cursor: *
        aiosqlite: connect
    """,
    "EDL501": """
        socket: create_connection create_server fromfd getaddrinfo getfqdn gethostbyaddr
        socket: gethostbyname gethostbyname_ex getnameinfo getservbyname socket socketpair
        socket.socket: *
        select: select poll epoll kqueue
        selectors: DefaultSelector SelectSelector
        ssl: get_server_certificate create_default_context
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
        webbrowser: open open_new open_new_tab
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
        threading.Event: wait
        threading.Condition: wait wait_for
        threading.Barrier: wait
        sched.scheduler: *
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
        asyncio: run new_event_loop run_coroutine_threadsafe Runner set_event_loop_policy
        asyncio: set_event_loop
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
    "sys.executable": "EDL302",
    "sys.prefix": "EDL302",
    "sys.flags": "EDL302",
    "sys.orig_argv": "EDL302",
    "sys.path": "EDL302",
    "sys.modules": "EDL302",
    "sys.stdin": "EDL605",
    "sys.version": "EDL604",
    "sys.platform": "EDL604",
    "os.name": "EDL604",
    "time.tzname": "EDL305",
    "time.timezone": "EDL305",
    "time.altzone": "EDL305",
    "time.daylight": "EDL305",
}

# Clean, depending on the arguments: how many positional ones make it so, or which keyword.
GIVEN_ENOUGH = {
    **{f"numpy.random.{one}": ("EDL202", 1, "seed") for one in ("default_rng", "RandomState")},
    "gzip.compress": ("EDL101", 3, "mtime"),
    "gzip.GzipFile": ("EDL101", 5, "mtime"),
    "xmlrpc.client.DateTime": ("EDL101", 1, "value"),
    "dateutil.parser.parse": ("EDL101", 3, "default"),
    "statistics.NormalDist.samples": ("EDL201", 2, "seed"),
    "time.gmtime": ("EDL101", 1, ""),
    "time.strftime": ("EDL101", 2, ""),
    "time.asctime": ("EDL101", 1, ""),
    "email.utils.formatdate": ("EDL101", 1, "timeval"),
    "datetime.datetime.fromtimestamp": ("EDL305", 2, "tz"),
    "datetime.datetime.astimezone": ("EDL305", 1, "tz"),
}
LOCAL_TIME = {  # with a time: the host's zone; without: the clock as well
    "time.localtime": 1,
    "time.ctime": 1,
    "datetime.date.fromtimestamp": 0,
}

# These wait for other threads once they are given a time to do so.
TIMED = frozenset(
    f"{name}.{method}" for name in WAITED_ON if "queue." in name for method in ("get", "put")
)

# Methods so peculiar that the class of the object need not be known.
METHODS = {
    "__hash__": "EDL803",
    **dict.fromkeys(("read_text", "read_bytes", "write_text", "write_bytes"), "EDL401"),
    "run_in_executor": "EDL902",
}


@cache
def _calls() -> dict[str, str]:
    table = {}
    for code, text in _CALLS.items():
        for line in filter(None, map(str.strip, text.splitlines())):
            owner, _, names = line.partition(": ")
            table.update({f"{owner}.{name}": code for name in names.split()})
    return table


# These open what they are handed, too: a buffer in memory is no file.
OPENERS = frozenset("zipfile.ZipFile tarfile.open gzip.open bz2.open lzma.open".split())


def has_methods(path: str) -> bool:
    """Whether `path` is a class all of whose methods break a rule."""
    return f"{path}.*" in _calls()


def rule_of(path: str) -> str | None:
    """The code of the rule that calling `path` breaks, whatever the arguments."""
    table = _calls()
    found = table.get(path)
    while found is None and "." in path:
        path = path.rpartition(".")[0]
        found = table.get(f"{path}.*")
    return found
