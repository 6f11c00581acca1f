"""What runs in a child interpreter: it replays many histories under one perturbation.

The parent (`perturb`) writes one line of JSON, the job, and reads one line for each history, in
the order of the job, then one about what else there is. What code prints goes to stderr, so the
pipe carries nothing else. A history that takes too long ends the process, with its stack on stderr.
"""

import faulthandler
import importlib
import json
import locale
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from edda.errors import HistoryFormatError
from edda.targets import Trouble, app_of
from edda.workflow import Workflow, registry
from edda_testkit.histories import Recorded, find_workflow, load, patches_in, read, replay
from edda_testkit.replay import where_to_look

__all__ = ["BOOT", "main"]

# The first thing a child runs: the parent's path, before anything is imported from it.
BOOT = (
    "import json, sys; job = json.loads(sys.stdin.readline()); sys.path[:] = job['path']; "
    "from edda_testkit.child import main; main(job)"
)
Definition = Workflow[..., Any]
Job = dict[str, Any]


def main(job: Job) -> None:
    """Do a job: `path app modules files seconds`."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    watch(job)
    try:
        resolve, known = world(job)
    except Trouble as trouble:
        say(pipe, {"fatal": str(trouble)})
        return
    say(pipe, {"ready": True, "locale": set_locale()})
    for file in job["files"]:
        watch(job)
        say(pipe, answer(Path(file), resolve))
    unwatch()
    definitions = list(known())
    say(
        pipe,
        {
            "workflows": sorted({one.name for one in definitions}),
            "patches": patches_in(definitions),
        },
    )


def watch(job: Job) -> None:
    """From here on, too long a time ends the process.

    A signal shows the stack while Python runs; a thread does, a little later, where it does not.
    """
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, job["seconds"])
    faulthandler.dump_traceback_later(job["seconds"] + 1, exit=True)


def unwatch() -> None:
    """No time is too long from here on."""
    if hasattr(signal, "SIGALRM"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()


def end(_number: int, frame: FrameType | None) -> None:
    """It took too long: say where it is, and go."""
    sys.stderr.write("Timeout!\n" + "".join(traceback.format_stack(frame)))
    sys.stderr.flush()
    os._exit(1)


def say(pipe: TextIO, message: Any) -> None:
    """One line to the parent, at once: what was said last is known if this process dies."""
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


def set_locale() -> bool:
    """Whether the locale of the environment is installed; it is in force then."""
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        return False
    return True


def world(
    job: Job,
) -> tuple[Callable[[str], Definition] | None, Callable[[], Iterable[Definition]]]:
    """What names mean, and which workflows there are. Raises `Trouble`."""
    for name, file in job["modules"].items():
        # The parent's module: the same file under the same name, however it was imported there.
        try:
            if not _is_from(name, file):
                load(name, Path(file))
        except Exception as error:  # a history that needs it will say so; the log has it too
            print(f"{name} cannot be imported: {error}", file=sys.stderr)  # noqa: T201
    if job["app"] is None:
        return None, lambda: [one for known in registry.values() for one in known]
    app = app_of(job["app"])
    return app.resolve, lambda: [app.resolve(name) for name in app.names()]


def _is_from(name: str, file: str) -> bool:
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return getattr(found, "__file__", None) == file or not Path(file).is_file()


def answer(file: Path, resolve: Callable[[str], Definition] | None) -> dict[str, Any]:
    """What became of one history."""
    try:
        history = read(file)
    except HistoryFormatError as error:
        return {"state": "unreadable", "problem": str(error)}
    about = {
        "workflow": history.workflow,
        "instance": history.instance,
        "events": len(history.events),
        "is_finished": history.is_finished,
    }
    try:
        workflow = find_workflow(history, resolve)
    except LookupError as error:
        return about | {"state": "unknown", "problem": str(error)}
    except Exception as error:  # its module does not import: the answer says so
        problem = f"{history.reference} cannot be imported: {type(error).__name__}: {error}"
        return about | {"state": "broken", "problem": problem}
    return about | judged(workflow, history)


def judged(workflow: Definition, history: Recorded) -> dict[str, Any]:
    """What became of its replay."""
    verdict = replay(workflow, history)
    return {
        "state": "passed" if verdict.problem is None else "failed",
        "problem": verdict.problem,
        "more": verdict.more,
        "patches": verdict.patches,
        "hint": "" if verdict.problem is None else where_to_look(workflow),
    }
