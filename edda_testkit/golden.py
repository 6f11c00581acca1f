"""Golden histories: what a run did, kept beside its test, and compared from then on.

A golden file is written when `update` says so (`--edda-update`) and else only read. One that still
fits is left alone, byte for byte; one that is written anew keeps the wildcards that people put
into it. Absent: the format (`golden_format`), and replaying files without a test (`histories`).
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edda.errors import HistoryFormatError
from edda.history import Event
from edda.workflow import Workflow
from edda_testkit.errors import GoldenMismatch, Misuse
from edda_testkit.golden_format import as_golden, fits, layout, with_wildcards
from edda_testkit.histories import read, recorded, replay
from edda_testkit.holes import same_up_to_order
from edda_testkit.session import Session

__all__ = ["Goldens", "check_golden", "check_run"]

NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
SHOWN = 60  # lines of difference


@dataclass(frozen=True)
class Goldens:
    """Where golden files are, whether to write them, and what became of each in this session."""

    directory: Path
    update: bool = False
    seen: dict[str, str] = field(default_factory=dict)


class Recordable(Protocol):
    """A run, as far as its history is concerned."""

    id: str
    workflow: Workflow[..., Any]

    @property
    def label(self) -> str:
        """Its name for messages."""

    @property
    def history(self) -> list[Event]:
        """Its events."""


def check_run(
    runs: Sequence[Recordable],
    name: str,
    run: Recordable | None,
    session: Session | None,
    *,
    directory: str | Path | None = None,
    update: bool = False,
) -> None:
    """Compare one of the runs of a simulation with its golden file (`Simulation.golden`)."""
    __tracebackhide__ = True
    if run is None:
        if len(runs) != 1:
            there = ", ".join(one.label for one in runs) or "none"
            raise Misuse(
                f"golden({name!r}) is of one run, and there are {len(runs)}: {there}. "
                f"Say which: sim.golden({name!r}, run=...)."
            )
        run = runs[0]
    made = None if session is None else session.goldens
    goldens: Goldens | None = None if made is None else made()
    if directory is not None:
        outer = goldens or Goldens(Path())
        goldens = Goldens(Path(directory), outer.update, outer.seen)
    if goldens is None:
        raise Misuse(
            f"golden({name!r}) has no test to keep its file beside. Give the folder: "
            f'sim.golden({name!r}, directory="tests/histories").'
        )
    goldens = Goldens(goldens.directory, update or goldens.update, goldens.seen)
    check_golden(goldens, name, run.workflow, run.id, run.history)


def check_golden(
    goldens: Goldens,
    name: str,
    workflow: Workflow[..., Any],
    instance_id: str,
    events: Sequence[Event],
) -> str:
    """Compare one run with its golden file, or write it. Returns what became of the file.

    Raises `GoldenMismatch` where the run is another one, or there is no file.
    """
    __tracebackhide__ = True
    if not NAME.fullmatch(name):
        raise Misuse(
            f"golden({name!r}) names a file: letters, digits, dots, dashes and underscores only."
        )
    folder = re.sub(r"[^\w.-]", "_", workflow.name)
    path = goldens.directory / folder / f"{name}.json"
    actual = as_golden(name, workflow.reference, instance_id, events)
    if goldens.update and not _replays(path, workflow, actual):
        # Where something was computed of an id, a stand-in leads elsewhere than the id did.
        exact = as_golden(name, workflow.reference, instance_id, events, exact=True)
        actual = exact if _replays(path, workflow, exact) else actual
    word = _settle(goldens, path, workflow, actual)
    goldens.seen[str(path)] = word
    return word


def _settle(
    goldens: Goldens, path: Path, workflow: Workflow[..., Any], actual: dict[str, Any]
) -> str:
    __tracebackhide__ = True
    if not path.exists():
        if not goldens.update:
            raise GoldenMismatch(path, "There is no such file yet.", "write it")
        return _write(goldens, path, actual, "written")
    try:
        history = read(path)
        if not history.document:
            raise HistoryFormatError("It is an exported history, and no golden one.")
    except HistoryFormatError as error:
        if goldens.update:
            return _write(goldens, path, actual, "written anew: it could not be read")
        raise GoldenMismatch(path, str(error), "write it anew") from None
    template = dict(history.document)
    is_fitting = fits(template, actual)
    if is_fitting and (not goldens.update or template.get("bindings") == actual.get("bindings")):
        return "left alone"
    verdict = replay(workflow, history)
    if is_fitting and verdict.problem is None:
        return "left alone"
    if verdict.problem is None and same_up_to_order(template["events"], actual["events"]):
        return "left alone"  # a set came out in another order
    if goldens.update:
        return _write(goldens, path, with_wildcards(template, actual), "changed")
    if verdict.problem is not None:
        raise GoldenMismatch(path, verdict.problem, "record the new one")
    raise GoldenMismatch(
        path,
        "Today's code replays the recorded history, but this run is another one:\n"
        + _difference(layout(template), layout(with_wildcards(template, actual))),
        "record the new one",
    )


def _write(goldens: Goldens, path: Path, document: dict[str, Any], word: str) -> str:
    earlier = goldens.seen.get(str(path), "left alone")
    if earlier != "left alone":
        raise Misuse(
            f"Two different runs are called golden({document['name']!r}) in this session, and "
            f"would write the same file {path}. Give each a name of its own."
        )
    text = layout(document)
    recorded(path, text, document)  # what is written can be read
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return word


def _replays(path: Path, workflow: Workflow[..., Any], document: dict[str, Any]) -> bool:
    """Whether today's code does what a document says, with the ids that it binds."""
    return replay(workflow, recorded(path, layout(document), document)).problem is None


def _difference(old: str, new: str) -> str:
    lines = list(
        difflib.unified_diff(
            old.splitlines(), new.splitlines(), "recorded", "this run", n=1, lineterm=""
        )
    )
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"... {len(lines) - SHOWN} more lines"]
    return "\n".join(f"    {line}" for line in lines)
