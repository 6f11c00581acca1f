"""The lint's rules: a stable code each, what is wrong, and what to write instead.

Codes are grouped by category; the categories are the guard's, plus two that only reading code
can find (`globals`, `misuse`). A code never changes its meaning, and none is used twice.
"""

from dataclasses import dataclass
from typing import Literal

__all__ = ["AT_IMPORT", "CATEGORIES", "LINT_ONLY", "RULES", "TOLD_AT_IMPORT", "Rule", "Severity"]

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
            "EDL024",
            "misuse",
            "is asked only when the code is replayed, or only when it is not",
            "ask always; ctx.is_replaying is for logs",
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
            "depends on where and how the process was started",
            "pass it as an argument of the workflow, or read it in an activity",
        ),
        Rule(
            "EDL304",
            "environment",
            "holds what the environment was at import",
            "pass it as an argument of the workflow, or read it in an activity",
        ),
        Rule(
            "EDL305",
            "environment",
            "depends on the time zone of the host",
            "name the zone: tzinfo=UTC, astimezone(UTC), fromtimestamp(t, tz=UTC)",
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
            "EDL604",
            "process",
            "differs from host to host",
            "pass it as an argument of the workflow, or read it in an activity",
        ),
        Rule("EDL605", "process", "reads what somebody types", "wait_event(ctx, ...)"),
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
    "process": "EDL304",
}
# Of the process: its number, its host. A lock or a pool that is made at import says nothing.
TOLD_AT_IMPORT = frozenset({"EDL603", "EDL604"})
