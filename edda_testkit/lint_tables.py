"""What functions return, what they do with functions they are handed, and what needs no look.

Things are named by their dotted path. Absent: what breaks a rule (`lint_hazards`), and
everything that needs a syntax tree.
"""

import builtins
import sys

from edda_testkit.lint_hazards import rule_of

__all__ = [
    "BUILTINS",
    "CONTAINERS",
    "DATA_METHODS",
    "DO_NOT_CALL",
    "DO_NOT_CALL_MODULES",
    "MUTATORS",
    "PURE_PACKAGES",
    "RETURNS",
    "STDLIB",
    "is_known",
    "same_name",
]

# ---- What comes out of a call, or of an attribute --------------------------------------------

_PATH = "pathlib.Path"
_DATETIME = "datetime.datetime"
RETURNS = {
    "asyncio.get_running_loop": "asyncio.loop",
    "asyncio.get_event_loop": "asyncio.loop",
    "numpy.random.default_rng": "random.Random",
    "numpy.random.RandomState": "random.Random",
    "sqlite3.connect": "sqlite3.Connection",
    "logging.getLogger": "logging.Logger",
    "requests.session": "requests.Session",
    "builtins.iter": "itertools.count",
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
    subtract symmetric_difference_update update write writelines
    """.split()
)
CONTAINERS = frozenset(
    {"builtins.list", "builtins.dict", "builtins.set", "builtins.bytearray"}
    | {f"collections.{name}" for name in "Counter OrderedDict defaultdict deque".split()}
    | {f"weakref.{name}" for name in "WeakKeyDictionary WeakSet WeakValueDictionary".split()}
    | {"io.StringIO", "io.BytesIO", "threading.local", "types.SimpleNamespace", "array.array"}
)


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
