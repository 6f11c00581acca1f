"""The command `edda lint`, which `edda.guests` finds through an entry point.

Exit codes: 0 nothing wrong, 1 findings, 2 the command line does not say what to do. Absent: what
is wrong and why (`lint`).
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edda.targets import Trouble
from edda_testkit.lint import Report, lint
from edda_testkit.lint_report import as_json, as_sarif, as_text
from edda_testkit.lint_rules import CATEGORIES, LINT_ONLY, RULES

__all__ = ["register", "wanted"]

ABOUT = """\
Find nondeterminism in workflows by reading them and what they call. Nothing is imported or run.

  edda lint src                                       a package, or the files of one
  edda lint . --format sarif --output lint.sarif      for code review
  edda lint src --ignore EDL402,hash --strict         by code, start of a code, or category

A line is allowed with a comment: # edda: allow[clock]
"""
CODES = """\
Exit codes: 0 nothing wrong (or only notes), 1 findings, 2 usage. With --strict, notes and places
that were not analysed are findings too.
"""
PATIENCE_SECONDS = 1.0
BAR = 30  # characters


def register(subparsers: Any) -> None:
    """Add the parser of `edda lint`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "lint",
        help="find nondeterminism in workflows without running them",
        description=ABOUT,
        epilog=CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="a file, or a folder of them")
    parser.add_argument(
        "--format",
        choices=("text", "json", "sarif"),
        default="text",
        help="text for people, json or sarif for programs (%(default)s)",
    )
    parser.add_argument("--output", metavar="FILE", help="write there and not to stdout")
    for name, what in (("select", "report only these"), ("ignore", "do not report these")):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="CODES",
            help=f"{what}: EDL101, EDL1 or clock, with commas between",
        )
    parser.add_argument(
        "--strict", action="store_true", help="exit 1 for notes and what was not analysed, too"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    is_wanted = wanted(arguments.select, arguments.ignore)
    progress = _Progress()
    try:
        report = lint(arguments.paths, is_wanted=is_wanted, progress=progress)
    except FileNotFoundError as error:
        raise Trouble(f"{error} Name the folders or files of your workflows.", 2) from error
    finally:
        progress.clear()
    if not report.files:
        sys.stderr.write("edda: there are no Python files in what was named.\n")
    _write(_formatted(report, arguments.format), arguments.output)
    is_failed = not report.is_clean
    if arguments.strict:
        is_failed = bool(report.findings or report.gaps)
    return int(is_failed)


def wanted(select: Sequence[str], ignore: Sequence[str]) -> Callable[[str], bool]:
    """Whether a code is reported. Raises `Trouble` for what is no code and no category."""
    selected, ignored = _codes("--select", select), _codes("--ignore", ignore)
    return lambda code: (not select or code in selected) and code not in ignored


def _codes(option: str, given: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for word in (part.strip() for text in given for part in text.split(",")):
        codes = {
            code
            for code, rule in RULES.items()
            if rule.category == word or (word.startswith("EDL") and code.startswith(word))
        }
        if not codes:
            raise Trouble(
                f"{option} names {word!r}, which is no code and no category. Codes are EDL010 to "
                f"EDL904, or the start of one; categories are "
                f"{', '.join((*CATEGORIES, *LINT_ONLY))}.",
                2,
            )
        found |= codes
    return found


def _formatted(report: Report, format: str) -> str:
    if format == "json":
        return as_json(report)
    if format == "sarif":
        try:
            return as_sarif(report, version("edda-durable"))
        except PackageNotFoundError:
            return as_sarif(report)
    return as_text(report)


def _write(text: str, output: str | None) -> None:
    if output is None:
        sys.stdout.write(f"{text}\n")
        return
    try:
        Path(output).write_text(f"{text}\n", "utf-8")
    except OSError as error:
        raise Trouble(f"{output} cannot be written: {error.strerror or error}.", 2) from error


class _Progress:
    """A bar on stderr, for people who have waited for a second."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._shown = ""
        self._is_tty = sys.stderr.isatty()

    def __call__(self, done: int, of: int) -> None:
        if not self._is_tty or time.monotonic() - self._since < PATIENCE_SECONDS:
            return
        full = BAR * done // max(of, 1)
        text = f"\rlint [{'#' * full}{'.' * (BAR - full)}] {100 * done // max(of, 1)} %"
        if text != self._shown:
            self._shown = text
            sys.stderr.write(text)
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown:
            sys.stderr.write(f"\r{' ' * len(self._shown)}\r")
            sys.stderr.flush()
