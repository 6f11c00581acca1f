"""`edda check`: replay recorded histories on today's code, without tests, for CI.

Golden and exported histories, thousands of them, in parallel child interpreters that differ in
hash seed, time zone and locale. Exit codes: 0 all replay as recorded, 1 some do not or cannot be
read, 2 there was nothing to check or no code to check it with. Absent: what to print
(`check_report`).
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from edda.targets import Trouble
from edda_testkit.check_report import Report, as_json, as_junit, as_lines
from edda_testkit.histories import is_history
from edda_testkit.perturb import PERTURBATIONS, ChildFailed, Job, replay_everywhere

__all__ = ["check", "histories_in", "register", "run"]

TEXT = """\
Replay recorded histories on today's code, without tests. Each is replayed in several interpreters
that differ in hash seed, time zone and locale; one that goes another way is shown beside what it
recorded.

  edda check tests/histories --app shop.main:app
  edda check exported/ more.json --app shop.main:app --jobs 8 --junit check.xml
  edda check tests/histories                golden files name their own modules

With --app (or EDDA_APP) names of workflows mean what they mean in that app, and no other module
is imported. Without it golden files are trusted: they are a part of the project, reviewed as code.

Exit codes: 0 all replay as recorded, 1 some do not, or cannot be read, 2 usage: there is nothing to
check, or no code to check it with. What was not covered is listed, and fails with --strict.
"""

BAR = 24  # columns
EVERY_SECONDS = 0.1


def register(subparsers: Any) -> None:
    """Add the command to those of `edda` (`edda.guests`)."""
    parser = subparsers.add_parser(
        "check",
        help="replay recorded histories on today's code",
        description=TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, or folders of them")
    parser.add_argument("--app", metavar="module:app", help="whose workflows to replay them on")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.add_argument("--junit", metavar="FILE", help="write a JUnit report too")
    parser.add_argument("--strict", action="store_true", help="fail for what was not covered")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes at once (one a core)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="a replay that takes longer has failed (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code. Raises `Trouble`."""
    jobs = os.cpu_count() or 1 if arguments.jobs is None else arguments.jobs
    if jobs < 1 or not arguments.timeout > 0:
        raise Trouble("--jobs takes a number from 1 up, and --timeout one above 0.", 2)
    files, skipped = histories_in([Path(path) for path in arguments.paths])
    app = arguments.app or os.environ.get("EDDA_APP")
    progress = Progress(len(files) * len(PERTURBATIONS), sys.stderr)
    report = check(files, app=app, jobs=jobs, seconds=arguments.timeout, progress=progress)
    report.skipped = skipped
    if arguments.junit:
        try:
            Path(arguments.junit).write_text(as_junit(report), encoding="utf-8")
        except OSError as error:
            raise Trouble(f"{arguments.junit} cannot be written: {error.strerror}.", 2) from error
    lines = [as_json(report)] if arguments.json else as_lines(report)
    print("\n".join(lines))  # noqa: T201 - printing is its job
    if not report.replayed and not report.failed:
        cure = "" if app else " Name the app whose workflows they are: --app module:app."
        raise Trouble(
            f"None of these histories could be replayed: see what is not covered.{cure}", 2
        )
    return 1 if report.failed or (arguments.strict and report.uncovered) else 0


def check(
    files: Sequence[Path],
    *,
    app: str | None = None,
    jobs: int = 1,
    seconds: float = 60.0,
    progress: "Progress | None" = None,
) -> Report:
    """Replay histories under every perturbation. Raises `Trouble` where none can be."""
    began = time.monotonic()
    here = str(Path.cwd())
    path = sys.path if here in sys.path else [here, *sys.path]
    progress = progress or Progress(0, sys.stderr)
    try:
        with progress:
            batch = replay_everywhere(
                Job(app=app, seconds=seconds, path=path), files, jobs=jobs, tell=progress.step
            )
    except ChildFailed as error:
        raise Trouble(str(error), 2) from error
    return Report(batch, time.monotonic() - began)


def histories_in(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """The files that are meant, and how many JSON files are no histories. Raises `Trouble`."""
    files: dict[Path, None] = {}
    skipped = 0
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*.json")):
                if any(part.startswith(".") for part in file.relative_to(path).parts):
                    continue  # .venv, .mypy_cache and their like
                if file.is_file() and is_history(file):
                    files[file] = None
                else:
                    skipped += file.is_file()
        elif path.exists():
            files[path] = None
        else:
            raise Trouble(f"There is no file or folder {path}.", 2)
    if not files:
        where = ", ".join(repr(str(path)) for path in paths)
        raise Trouble(
            f"There are no histories in {where}. `edda history export` and `pytest --edda-update` "
            f'write them; their first line after the brace is "format".',
            2,
        )
    return list(files), skipped


class Progress:
    """A bar on a terminal, and nothing elsewhere."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._is_shown = total > 0 and stream.isatty()
        self._done = 0
        self._shown_at = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.step(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def step(self, done: int) -> None:
        """Count replays, from any thread."""
        with self._lock:
            self._done += done
            now = time.monotonic()
            if not self._is_shown or now - self._shown_at < EVERY_SECONDS:
                return
            self._shown_at = now
            filled = BAR * self._done // self._total
            bar = "█" * filled + "░" * (BAR - filled)
            self._stream.write(f"\r{bar} {self._done:,} of {self._total:,} replays")
            self._stream.flush()
