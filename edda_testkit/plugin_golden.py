"""The pytest side of golden histories: files as items, and what to say at the end of a session.

Loaded by the plugin when a golden file is met, or a test asks for one. Each file is replayed here
and, once a session and all together, in child interpreters under other circumstances.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edda.errors import HistoryFormatError
from edda.workflow import registry
from edda_testkit.golden import Goldens
from edda_testkit.histories import Recorded, find_workflow, is_history, patches_in, read, replay
from edda_testkit.perturb import PERTURBATIONS, Batch, ChildFailed, Job, replay_everywhere

__all__ = ["GoldenFile", "collect", "goldens_for", "last", "merge", "packed", "report"]

STATE = pytest.StashKey["State"]()


class GoldenFailure(Exception):  # noqa: N818 - shown as its text alone
    """A golden file that today's code does not hold."""


@dataclass
class State:
    """What a session knows of golden histories."""

    seen: dict[str, str] = field(default_factory=dict)
    items: list["GoldenItem"] = field(default_factory=list)
    orphans: dict[str, str] = field(default_factory=dict)
    alone: dict[str, str] = field(default_factory=dict)
    sides: dict[str, Counter[bool]] = field(default_factory=dict)
    definitions: list[Any] = field(default_factory=list)
    patches: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    batch: Batch | None = None


def state_of(config: pytest.Config) -> State:
    """The session's state, made when it is first wanted."""
    return config.stash.setdefault(STATE, State())


def goldens_for(item: pytest.Item) -> Goldens:
    """Where the golden histories of a test are."""
    config = item.config
    update = bool(config.getoption("--edda-update"))
    return Goldens(item.path.parent / "histories", update, state_of(config).seen)


# ---- Files as items ----------------------------------------------------------------------------


def collect(file_path: Path, parent: pytest.Collector) -> "GoldenFile | None":
    """The collector of a file, where it is a history."""
    if not is_history(file_path):
        return None
    collector: GoldenFile = GoldenFile.from_parent(parent, path=file_path)
    return collector


class GoldenFile(pytest.File):
    """One file of one history."""

    def collect(self) -> Iterable[pytest.Item]:
        """Its replay."""
        yield GoldenItem.from_parent(self, name="replay")


class GoldenItem(pytest.Item):
    """Replays one recorded history on today's code, here and in other interpreters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        state_of(self.config).items.append(self)

    def runtest(self) -> None:
        """Fail where the code departs from the history."""
        state = state_of(self.config)
        try:
            history = read(self.path)
        except HistoryFormatError as error:
            raise GoldenFailure(f"{self.path.name} cannot be read. {error}") from None
        workflow = self._workflow(history, state)
        verdict = replay(workflow, history)
        for id, is_new in verdict.patches.items():
            state.sides.setdefault(id, Counter())[is_new] += 1
        if verdict.problem is not None:
            raise GoldenFailure(verdict.problem)
        if self.config.getoption("--edda-perturb") == "on":
            judged = batch_of(self.config).judged.get(self.path)
            if judged is None or judged.answer.state in ("unknown", "broken"):
                why = "" if judged is None else f": {judged.answer.problem}"
                state.alone[str(self.path)] = f"not replayed in other interpreters{why}"
            elif judged.answer.state != "passed":
                raise GoldenFailure(judged.message)

    def _workflow(self, history: Recorded, state: State) -> Any:
        try:
            workflow = find_workflow(history, None)
        except LookupError as error:
            if "<locals>" in (history.reference or ""):
                pytest.skip(str(error))
            state.orphans[str(self.path)] = str(error)
            raise GoldenFailure(
                f"{error}\nInstances of it would be stuck. Rename it back, name the workflow "
                f"@workflow(name={history.workflow!r}), or delete the file if it is retired."
            ) from None
        state.definitions.append(workflow)
        return workflow

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The sentence alone, where it is one of ours."""
        if isinstance(excinfo.value, GoldenFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it is, for reports."""
        return self.path, 0, f"replay of {self.path.parent.name}/{self.path.name}"


def last(items: list[pytest.Item]) -> None:
    """Put the files after the tests, which may write them."""
    items.sort(key=lambda item: isinstance(item, GoldenItem))


def batch_of(config: pytest.Config) -> Batch:
    """The replays in other interpreters of all files of this session, made at the first wish."""
    state = state_of(config)
    if state.batch is None:
        files = [item.path for item in state.items]
        try:
            state.batch = replay_everywhere(
                Job(modules=modules(files)),
                files,
                perturbations=PERTURBATIONS[1:],  # this process is one of them
                jobs=min(4, os.cpu_count() or 1),
            )
        except ChildFailed as error:
            raise GoldenFailure(f"Replaying in other interpreters: {error}") from None
        state.notes += state.batch.notes
    return state.batch


def modules(files: Iterable[Path]) -> dict[str, str]:
    """The files of the modules that hold the workflows, as this process has imported them."""
    found = {}
    for path in files:
        try:
            history = read(path)
        except HistoryFormatError:
            continue
        names = [(history.reference or "").partition(":")[0]]
        names += [known.fn.__module__ for known in registry.get(history.workflow, ())]
        for name in names:
            file = getattr(sys.modules.get(name), "__file__", None)
            if file is not None:
                found[name] = file
    return found


# ---- The end of a session ----------------------------------------------------------------------


def packed(config: pytest.Config) -> dict[str, Any]:
    """What a worker of pytest-xdist found, for the process that reports."""
    state = state_of(config)
    return {
        "seen": state.seen,
        "orphans": state.orphans,
        "alone": state.alone,
        "sides": {id: [count[True], count[False]] for id, count in state.sides.items()},
        "patches": patches_in(state.definitions),
        "notes": state.notes,
    }


def merge(config: pytest.Config, found: dict[str, Any]) -> None:
    """Take in what one worker found."""
    state = state_of(config)
    state.seen |= found["seen"]
    state.orphans |= found["orphans"]
    state.alone |= found["alone"]
    state.patches |= found["patches"]
    state.notes += found["notes"]
    for id, (new, old) in found["sides"].items():
        state.sides.setdefault(id, Counter()).update({True: new, False: old})


def report(config: pytest.Config, write: Any) -> None:
    """What was written, which files nobody asks for, and who holds which patches."""
    state = state_of(config)
    if config.getoption("--edda-update"):
        for path, word in sorted(state.seen.items()):
            if word != "left alone":
                write(f"{word}: {_shown(path, config)}")
        left = sum(word == "left alone" for word in state.seen.values())
        if left or not state.seen:
            write(f"golden histories left alone: {left}")
    for path, reason in sorted(state.orphans.items()):
        asked = "" if path in state.seen else " and no test asks for it"
        tail = asked if is_full(config) else ""
        write(f"orphan: {_shown(path, config)}: {reason.rstrip('.')}{tail}")
    for path, reason in sorted(state.alone.items()):
        write(f"{_shown(path, config)}: {reason}")
    # What this machine lacks, such as a locale, is no news at each run.
    for note in dict.fromkeys(state.notes if config.getoption("verbose") > 0 else ()):
        write(note)
    for id, count in sorted(state.sides.items()):
        write(
            f"patched({id!r}): {count[True]} histories on the new side, {count[False]} on the old"
        )
    for id, place in sorted((state.patches | patches_in(state.definitions)).items()):
        if id not in state.sides:
            write(f"patched({id!r}) at {place}: no history holds it, on either side")


def is_full(config: pytest.Config) -> bool:
    """Whether nothing narrows this session: then a file that no test asked for has none."""
    narrowed = config.option.keyword or config.option.markexpr or config.getoption("lf", False)
    return not narrowed and config.args_source is not pytest.Config.ArgsSource.ARGS


def _shown(path: str, config: pytest.Config) -> str:
    file = Path(path)
    return str(file.relative_to(config.rootpath) if file.is_relative_to(config.rootpath) else file)
