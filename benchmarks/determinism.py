"""How well the kit finds what no replay can repeat, and what the guard costs.

    python benchmarks/determinism.py [-v] [freezegun | time-machine | off]

Every workflow of `corpus_determinism/plants.py` must be caught with the file and line that its
`# PLANT name: category` marks; none of `cleans.py` may be. First the guard and the replays of a
plain simulation judge; what passes them is replayed in a child interpreter with another
PYTHONHASHSEED, as `edda check` does. The table says who caught what. Exits with 1 if a plant got
away, was caught at another line, or a clean one was accused, or the guard costs 2x or more.
"""

import contextlib
import io
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

import bench_simulation  # noqa: E402
from corpus_determinism import cleans, helpers, plants  # noqa: E402

from edda.history import as_document, from_document  # noqa: E402
from edda.workflow import Workflow  # noqa: E402
from edda_testkit import NondeterministicCall, NotReplayableRun, Simulation  # noqa: E402
from edda_testkit.freeze import Freezer  # noqa: E402
from edda_testkit.replay import check_replay  # noqa: E402

MARK = re.compile(r"# PLANT (\w+): (\w+)")
TARGET = 2.0
SEEDS = ("1", "2", "3")


def marks():
    """Of each plant, its category and line, `file.py:n`."""
    found = {}
    for module in (plants, helpers):
        path = Path(module.__file__)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for name, category in MARK.findall(line):
                found[name] = category, f"{path.name}:{number}"
    return found


def workflows(module):
    return {name: made for name, made in vars(module).items() if isinstance(made, Workflow)}


def judge(workflow, freezer):
    """Who complains of a workflow, with what text; and its histories, for the children."""
    histories = []
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            Simulation(freezer=freezer) as sim,
        ):
            run = sim.start(workflow, instance_id=workflow.name)
            for _ in range(20):
                if run.is_finished or sim.next_due is None:
                    break
                sim.advance_to_next()
            histories = as_document(run.id, run.history)
            error = run.error
    except NondeterministicCall as found:
        return "guard", f"{found.category} {found}", []
    except NotReplayableRun as found:
        return "replay", str(found), []
    return None, "" if error is None else "".join(traceback.format_exception(error)), histories


def child():
    """Replay the histories that come on stdin; print the names of those that do not fit."""
    asked = json.load(sys.stdin)
    known = workflows(plants) | workflows(cleans)
    found = {}
    logging.disable()
    with contextlib.redirect_stdout(io.StringIO()):
        for name, document in asked.items():
            try:
                check_replay(known[name], name, from_document(document))
            except NotReplayableRun as error:
                found[name] = str(error)
    print(json.dumps(found))


def in_children(histories):
    """What child interpreters with other hash seeds say."""
    found = {}
    for seed in SEEDS:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo"}
        done = subprocess.run(
            [sys.executable, __file__, "--child"],
            input=json.dumps(histories),
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        found = json.loads(done.stdout) | found
    return found


def overhead():
    """The cost of a simulation with the guard, by that of one without; medians of pairs."""

    def cost(mode, times=50):
        begin = time.process_time()
        for _ in range(times):
            bench_simulation.simulate(freezer=freezer, guard=mode)
        return time.process_time() - begin

    freezer = Freezer()
    freezer.hold()
    cost("off"), cost("strict")
    pairs = [(cost("off"), cost("strict")) for _ in range(9)]
    freezer.release()
    return statistics.median(strict / off for off, strict in pairs)


def main():
    marked, verbose = marks(), "-v" in sys.argv
    logging.disable()
    warnings.simplefilter("ignore")  # coroutines that were stopped before they were awaited
    judged, histories = {}, {}
    backends = {"freezegun", "time-machine", "off"}.intersection(sys.argv)
    freezer = Freezer(*backends)
    freezer.hold()
    for name, workflow in (workflows(plants) | workflows(cleans)).items():
        who, text, histories[name] = judge(workflow, freezer)
        judged[name] = who, text
    freezer.release()
    left = {name: histories[name] for name, (who, _) in judged.items() if who is None}
    for name, text in in_children(left).items():
        judged[name] = "child", text

    by, wrong = Counter(), []
    for name in workflows(plants):
        category, line = marked[name]
        who, text = judged[name]
        by[category, who] += 1
        is_right = who is not None and re.search(rf"\b{re.escape(line)}\b", text)
        if who == "guard" and not text.startswith(category):
            is_right = False
        if not is_right:
            wrong.append(f"{name}: expected {category} at {line}, got {who}: {text}")
        elif verbose:
            print(f"  {name:<28}{category:<13}{line:<18}{who}")
    accused = [
        f"{name}: accused by {judged[name][0]}: {judged[name][1]}"
        for name in workflows(cleans)
        if judged[name][0] or judged[name][1]
    ]
    judges = ("guard", "replay", "child", None)
    print(f"{'plants':<14}" + "".join(f"{who or 'missed':>9}" for who in judges))
    for category in sorted({category for category, _ in marked.values()}):
        print(f"{category:<14}" + "".join(f"{by[category, who]:>9}" for who in judges))
    sums = [sum(n for (_, each), n in by.items() if each == who) for who in judges]
    print(f"{'all':<14}" + "".join(f"{n:>9}" for n in sums))
    caught = len(workflows(plants)) - len(wrong)
    print(f"caught with file and line: {caught} of {len(workflows(plants))}")
    print(
        f"clean and left alone: {len(workflows(cleans)) - len(accused)} of {len(workflows(cleans))}"
    )
    for line in wrong + accused:
        print("  WRONG", line)
    ratio = overhead()
    verdict = "met" if ratio < TARGET else "MISSED"
    print(f"guard: a simulation costs {ratio:.2f}x   target below {TARGET:g}x: {verdict}")
    return 1 if wrong or accused or ratio >= TARGET else 0


if __name__ == "__main__":
    sys.exit(child() if "--child" in sys.argv else main())
