"""Replays in child interpreters, each with another hash seed, time zone or locale.

Code that depends on the order of a set, on the environment or on local time does the same in
every replay of one process, and something else in the next. So histories are replayed in a few
processes that differ in just that, many in each. What is compared is what the machine compares;
where a history had not finished, also what the code goes on to ask.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edda_testkit.child import BOOT

__all__ = [
    "PERTURBATIONS",
    "Answer",
    "Batch",
    "ChildFailed",
    "Job",
    "Judged",
    "Perturbation",
    "replay_everywhere",
]

MOST_DEATHS = 20
FILES_A_CHILD = 100  # fewer are not worth the start of another


class ChildFailed(Exception):  # noqa: N818 - reads as what it is
    """A child could not begin, or too many died."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One kind of interpreter: what its environment has that the others' has not."""

    changes: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, **changes: str) -> "Perturbation":
        """One by the names of its environment variables."""
        return cls(tuple(changes.items()))

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.changes)

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of such a child."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
        own = NEUTRAL | dict(self.changes)
        return plain | {"LANG": own["LC_ALL"]} | own

    @property
    def parts(self) -> "list[Perturbation]":
        """Its changes, one by one."""
        return [Perturbation((change,)) for change in self.changes]


NEUTRAL = {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
# A zone in POSIX form needs no database. A locale that is not installed still changes the
# environment.
PERTURBATIONS = (
    Perturbation.of(PYTHONHASHSEED="0"),
    Perturbation.of(PYTHONHASHSEED="1", TZ="<+1345>-13:45"),
    Perturbation.of(PYTHONHASHSEED="2", LC_ALL="tr_TR.UTF-8"),
    Perturbation.of(PYTHONHASHSEED="3"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """What every child of a batch is told. `modules` are files by the name to import them as."""

    app: str | None = None
    modules: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 60.0
    path: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What one child said of one history. `state`: passed failed unreadable unknown broken died.

    `broken` is a module that does not import, `unknown` a workflow that is not there.
    """

    state: str
    problem: str | None = None
    workflow: str = ""
    instance: str = ""
    events: int = 0
    is_finished: bool = True
    more: Sequence[str] = ()
    patches: Mapping[str, bool] = field(default_factory=dict)
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """One history, over all children. `under` is the perturbation that made it fail, if one did."""

    path: Path
    answer: Answer
    under: str | None = None

    @property
    def message(self) -> str:
        """What to tell: the problem, and under which circumstances."""
        problem = self.answer.problem or ""
        if self.under is None:
            return problem
        said = f"{problem}\n{self.answer.hint}" if self.answer.hint else problem
        return (
            f"It does not replay with {self.under}.\n{said}\n"
            f"The code depends on something that is not in its history: the order of a set, the "
            f"environment, the local time, the locale. Sort the set; use ctx.now(); or make it an "
            f"activity."
        )


@dataclass
class Batch:
    """What came of a batch. `workflows` and `patches` are those that the children know of."""

    judged: dict[Path, Judged] = field(default_factory=dict)
    workflows: set[str] = field(default_factory=set)
    patches: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def replay_everywhere(
    job: Job,
    files: Sequence[Path],
    *,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
    jobs: int = 2,
    tell: Callable[[int], object] = lambda _: None,
) -> Batch:
    """Replay each file under each perturbation, at most `jobs` at once. Raises `ChildFailed`.

    `tell` is called, from any thread, with the number of replays just done.
    """
    batch = Batch()
    answers = _answers(job, files, perturbations, jobs, tell=tell, batch=batch)
    for path in files:
        batch.judged[path] = _judge(path, dict(zip(perturbations, answers[path], strict=True)))
    mixed = [one.path for one in batch.judged.values() if one.under is not None]
    singles = [part for whole in perturbations if len(whole.changes) > 1 for part in whole.parts]
    if mixed and singles:  # which of its changes was it?
        narrow = [perturbations[0], *singles, *(p for p in perturbations[1:] if p not in singles)]
        again = _answers(job, mixed, narrow, jobs, tell=lambda _: None, batch=Batch())
        for path in mixed:
            batch.judged[path] = _judge(path, dict(zip(narrow, again[path], strict=True)))
    return batch


def _judge(path: Path, answers: Mapping[Perturbation, Answer]) -> Judged:
    first, plain = next(iter(answers.items()))
    failed = [one for one, answer in answers.items() if answer.state != "passed"]
    passed = [one for one in answers if one not in failed]
    if failed and not passed:
        if len({answer.problem for answer in answers.values()}) > 1:
            return Judged(path, plain, f"{first}, and differently with {failed[-1]}")
        return Judged(path, plain)
    if failed:  # the one that changes least says most
        least = min(failed, key=lambda one: len(one.changes))
        return Judged(path, answers[least], f"{least} (though with {passed[0]})")
    others = [one for one, answer in answers.items() if answer.more != plain.more]
    if others:
        least = min(others, key=lambda one: len(one.changes))
        problem = _differs(str(first), plain.more, str(least), answers[least].more)
        return Judged(path, replace(plain, state="failed", problem=problem), str(least))
    return Judged(path, plain)


def _differs(one: str, plain: Sequence[str], other: str, now: Sequence[str]) -> str:
    lines = [f"Beyond the end of its history it goes on differently:\n  with {one}"]
    lines += [f"    {line}" for line in plain] or ["    nothing"]
    lines += [f"  with {other}"]
    lines += [f"    {line}" for line in now] or ["    nothing"]
    return "\n".join(lines)


# ---- Children ----------------------------------------------------------------------------------


def _answers(
    job: Job,
    files: Sequence[Path],
    perturbations: Sequence[Perturbation],
    jobs: int,
    *,
    tell: Callable[[int], object],
    batch: Batch,
) -> dict[Path, list[Answer]]:
    shards = max(1, min(jobs, len(files) // FILES_A_CHILD))
    work = [(one, list(files[start::shards])) for one in perturbations for start in range(shards)]
    found: dict[Path, dict[Perturbation, Answer]] = {path: {} for path in files}
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        done = pool.map(lambda each: _children(job, each[1], each[0], tell), work)
        for (perturbation, shard), (said, about) in zip(work, done, strict=True):
            for path, answer in zip(shard, said, strict=True):
                found[path][perturbation] = answer
            batch.workflows |= set(about.get("workflows", ()))
            batch.patches.update(about.get("patches", {}))
            wanted = dict(perturbation.changes).get("LC_ALL")
            if about.get("locale") is False and wanted is not None:
                note = f"The locale {wanted} is not installed here: only the environment said it."
                batch.notes += [note] if note not in batch.notes else []
    return {path: [by[one] for one in perturbations] for path, by in found.items()}


def _children(
    job: Job, files: Sequence[Path], perturbation: Perturbation, tell: Callable[[int], object]
) -> tuple[list[Answer], dict[str, Any]]:
    """Have all files answered: by one child, and by another after each that dies."""
    answers: list[Answer] = []
    about: dict[str, Any] = {}
    deaths = 0
    while len(answers) < len(files):
        rest = files[len(answers) :]
        said, found, end = _child(job, rest, perturbation, tell)
        answers += said
        about |= found
        if len(said) < len(rest):
            deaths += 1
            if not found.get("ready"):
                raise ChildFailed(f"A child with {perturbation} could not begin: {end}")
            if deaths > MOST_DEATHS:
                raise ChildFailed(f"{deaths} children with {perturbation} have died; {end}")
            answers.append(Answer("died", f"The replay took its process with it: {end}"))
            tell(1)
    return answers, about


def _child(
    job: Job, files: Sequence[Path], perturbation: Perturbation, tell: Callable[[int], object]
) -> tuple[list[Answer], dict[str, Any], str]:
    line = json.dumps(
        {
            "path": list(job.path or sys.path),
            "app": job.app,
            "modules": dict(job.modules),
            "files": [str(path.absolute()) for path in files],
            "seconds": job.seconds,
        }
    )
    answers: list[Answer] = []
    about: dict[str, Any] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, on code of ours
            [sys.executable, "-c", BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=perturbation.env,
            encoding="utf-8",
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(line + "\n")
                process.stdin.close()
            except BrokenPipeError:  # it died first: its stderr says why
                pass
            for text in process.stdout:
                said = json.loads(text)
                if "fatal" in said:
                    raise ChildFailed(said["fatal"])
                if "state" in said:
                    answers.append(Answer(**said))
                    tell(1)
                else:
                    about |= said
        errors.seek(0)
        tail = "\n".join(errors.read().splitlines()[-15:])
    end = f"it ended with exit code {process.returncode}."
    return answers, about, f"{end}\n{tail}" if tail else end
