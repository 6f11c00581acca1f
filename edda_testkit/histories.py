"""Recorded histories as files: reading one, finding its workflow, replaying it on today's code.

Two formats are read: golden histories (`edda-golden/1`) and exported ones (`edda-history/1`).
Whatever a file holds, reading it ends in a `Recorded` or in `HistoryFormatError`, and replaying
it in a `Verdict`; neither raises anything else. A golden file is a part of the project and may
name the module of its workflow; an exported one came from outside, and nothing is imported for it.
"""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edda.errors import EddaError, HistoryFormatError, NonDeterminismError, UnknownWorkflowError
from edda.history import Event, Finished, Started, as_document, from_document
from edda.machine import Machine
from edda.workflow import Workflow, registry
from edda_testkit.golden_format import FORMAT, events_of
from edda_testkit.holes import unordered

__all__ = ["Recorded", "Verdict", "find_workflow", "is_history", "patches_in", "read", "replay"]

Definition = Workflow[..., Any]

MARKS = (b'"edda-golden/1"', b'"edda-history/1"')
MOST_BYTES = 256 * 1024 * 1024
EVENT_LINE = re.compile(r'^    \{"kind"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One history that was read. `reference` is its workflow's, where it is a golden one."""

    path: Path
    workflow: str
    instance: str
    events: list[Event]
    reference: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_finished(self) -> bool:
        """Whether the instance had ended when this was recorded."""
        return isinstance(self.events[-1], Finished)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a replay came out. `problem` is None where the code does what the history says.

    `more` are the asks beyond the end of a history that had not finished, as text to compare;
    `patches` are the ids that were named to `ctx.patched`, and whether the new side was taken.
    """

    problem: str | None = None
    more: tuple[str, ...] = ()
    patches: Mapping[str, bool] = field(default_factory=dict)


# ---- Reading -----------------------------------------------------------------------------------


def is_history(path: Path) -> bool:
    """Whether a file looks like a history: its first bytes name the format."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError:
        return False
    return any(mark in head for mark in MARKS)


def read(path: Path) -> Recorded:
    """The history in a file. Raises `HistoryFormatError`, which says what is wrong."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise HistoryFormatError(f"It has more than {MOST_BYTES // 2**20} MiB.")
        text = path.read_bytes().decode()
        document = json.loads(text)
    except OSError as error:
        raise HistoryFormatError(f"It cannot be opened: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise HistoryFormatError(f"It is not UTF-8 (byte {error.start}).") from error
    except RecursionError as error:
        raise HistoryFormatError("Its JSON is nested too deep.") from error
    except ValueError as error:
        raise HistoryFormatError(f"It is not JSON: {error}.") from error
    try:
        return recorded(path, text, document)
    except RecursionError as error:  # from 3.12 on json reads deeper than Python code can go
        raise HistoryFormatError("Its JSON is nested too deep.") from error


def recorded(path: Path, text: str, document: Any) -> Recorded:
    """The history in a parsed document. Raises `HistoryFormatError`."""
    reference = None
    if isinstance(document, dict) and document.get("format") == FORMAT:
        lines = [text.count("\n", 0, found.start()) + 1 for found in EVENT_LINE.finditer(text)]
        label = f"{path.parent.name}/{path.name}"

        def site(index: int) -> str:
            return f"{label}:{lines[index]}" if index < len(lines) else f"{label}, event {index}"

        instance, events = events_of(document, site)
        reference = document.get("workflow")
        if not isinstance(reference, str):
            raise HistoryFormatError('A golden history names its "workflow".')
    else:
        events = from_document(document)
        instance = document.get("instance")
        if not isinstance(instance, str) or not instance:
            raise HistoryFormatError('The document names no "instance".')
        document = {}  # the events say it all
    if any(isinstance(event, Started) for event in events[1:]):
        raise HistoryFormatError("It has more than one workflow_started.")
    return Recorded(path, events[0].name, instance, events, reference, document)


# ---- The workflow of a history -----------------------------------------------------------------


def find_workflow(history: Recorded, resolve: Callable[[str], Definition] | None) -> Definition:
    """The workflow that a history is of. Raises `LookupError`, which says why there is none.

    `resolve` is an app's: then names mean what they mean there. Without it a golden history
    says which module to import; what is left is the registry of this process.
    """
    if resolve is not None:
        try:
            return resolve(history.workflow)
        except UnknownWorkflowError as error:
            raise LookupError(str(error)) from error
    module, _, path = (history.reference or "").partition(":")
    if "<locals>" in path:
        raise LookupError(
            f"The workflow {history.workflow!r} is defined inside a function ({path}), where only "
            f"its own test can find it."
        )
    found: Any = _module(module, history.path) if module else None
    for part in path.split(".") if found is not None else ():
        found = getattr(found, part, None)
    if isinstance(found, Workflow) and found.name == history.workflow:
        return found
    known = registry.get(history.workflow, [])
    if len(known) == 1:
        return known[0]
    where = f", and {history.reference} is none" if history.reference else ""
    raise LookupError(
        f"{'No' if not known else 'More than one'} workflow is called {history.workflow!r}{where}."
    )


def _module(name: str, path: Path) -> Any:
    """The module of a reference, by its name or as a file beside the folder of histories."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
    # pytest names a test's module by its folders or by its file alone, as it is told to import.
    for folder in list(path.resolve().parents)[1:4]:
        file = folder / f"{name.rpartition('.')[2]}.py"
        if file.is_file():
            return load(name, file)
    return None


def load(name: str, file: Path) -> Any:
    """A module of that name from a file, as `import` would make it."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:  # the import goes on to fail; half a module must not stay
        del sys.modules[name]
        raise
    return module


def patches_in(definitions: Iterable[Definition]) -> dict[str, str]:
    """The literal ids of `….patched("id")` in the modules of workflows, and where they are."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(definition.fn.__module__ for definition in definitions):
        try:
            tree = ast.parse(inspect.getsource(sys.modules[name]))
        except (KeyError, OSError, TypeError, SyntaxError):
            continue  # its source is not at hand: nothing is said about it
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="patched"), args=[ast.Constant(value=str(id)), *_]
                ):
                    found.setdefault(id, f"{name}:{node.lineno}")
    return found


# ---- Replaying ---------------------------------------------------------------------------------


def replay(workflow: Definition, history: Recorded) -> Verdict:
    """Feed a history to today's code. Never raises."""
    machine = Machine(workflow.program(history.instance))
    try:
        machine.replay(history.events)
        fresh = machine.decide().events
        more = as_document(history.instance, fresh)["events"]
    except NonDeterminismError as error:
        return Verdict(str(error), patches=dict(machine.patches))
    except EddaError as error:
        return Verdict(f"It cannot be replayed: {error}", patches=dict(machine.patches))
    except Exception as error:  # an edited file may say anything: the verdict names the file
        return Verdict(f"It cannot be replayed: {type(error).__name__}: {error}")
    finally:
        machine.close()
    return Verdict(None, tuple(map(_comparable, more)), dict(machine.patches))


def _comparable(entry: Mapping[str, Any]) -> str:
    kept = {key: entry[key] for key in ("kind", "id", "name", "payload") if key in entry}
    return json.dumps(unordered(kept), sort_keys=True)
