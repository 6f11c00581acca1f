"""Mutation testing of the pure rooms: plant small faults, and count those that the tests find.

    make mutate                        every room of the table below, some minutes each
    make mutate ROOMS="retry shapes"   these
    make mutate EDDA_MUTANTS=50        at most so many mutants of a room, drawn with a fixed seed

The work is cosmic-ray's, on a copy of this tree. What it prints is, for each room, the share of
mutants that a test noticed, and the diff of each that none did. Absent: a threshold. A mutant that
lives is a question to a reader: is it the same program, or is a test missing?
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "retry": "tests/test_retry.py",
    "shapes": "tests/test_shapes.py",
    "commands": "tests/test_machine.py tests/test_history.py",
    "divergence": "tests/test_divergence.py tests/test_machine.py",
    "history": "tests/test_history.py tests/test_export.py tests/test_machine.py",
    "codec": "tests/test_codec.py",
    "loop": "tests/test_loop.py",
    "machine": "tests/test_machine.py tests/test_recur.py tests/test_patched.py",
}
MOST = int(os.environ.get("EDDA_MUTANTS", "60"))  # mutants of a room
SECONDS = 60.0  # for the tests of one mutant; more is a hang, which counts as found
COPIED = ("edda", "edda_testkit", "examples", "tests", "conftest.py", "pyproject.toml", "README.md")
# Type hints are not run, and texts are pinned or not worth pinning.
SKIPPED = "core/ReplaceBinaryOperator_BitOr_%"
SETTINGS = """\
[cosmic-ray]
module-path = "edda/{room}.py"
timeout = {seconds}
excluded-modules = []
test-command = "{python} -m pytest -x -q -p no:cacheprovider -p no:randomly {tests}"
[cosmic-ray.distributor]
name = "local"
"""


def main(rooms: list[str]) -> int:
    for room in rooms or ROOMS:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            for name in COPIED:
                source = ROOT / name
                (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
            mutate(room, copy)
    return 0


def mutate(room: str, copy: Path) -> None:
    """Try the mutants of one room, in a copy of the tree."""
    settings = SETTINGS.format(room=room, seconds=SECONDS, python=sys.executable, tests=ROOMS[room])
    (copy / "mutate.toml").write_text(settings, "utf-8")
    cosmic_ray(copy, "init", "mutate.toml", "session.sqlite")
    cosmic_ray(copy, "baseline", "mutate.toml")
    tried, of = thin_out(copy / "session.sqlite")
    cosmic_ray(copy, "exec", "mutate.toml", "session.sqlite")
    with sqlite3.connect(copy / "session.sqlite") as session:
        lived = session.execute(
            "SELECT diff FROM work_results WHERE test_outcome = 'SURVIVED'"
        ).fetchall()
    for (diff,) in lived:
        print("\n".join(line for line in diff.splitlines() if line[:1] in "+-@"), end="\n\n")
    found = tried - len(lived)
    print(
        f"{room}: {found} of {tried} mutants found, {100 * found / max(tried, 1):.0f} % ({of} made)"
    )


def thin_out(session_file: Path) -> tuple[int, int]:
    """Keep MOST mutants at random, always the same; how many are kept, and how many there were."""
    with sqlite3.connect(session_file) as session:
        skipped = session.execute(
            "SELECT job_id FROM mutation_specs WHERE operator_name LIKE ?", [SKIPPED]
        ).fetchall()
        jobs = sorted(
            {job for (job,) in session.execute("SELECT job_id FROM mutation_specs")}
            - {job for (job,) in skipped}
        )
        order = session.execute(
            "SELECT job_id FROM mutation_specs ORDER BY module_path, operator_name, occurrence"
        )
        kept = [job for (job,) in order if job in set(jobs)]
        random.Random(0).shuffle(kept)
        for table in ("mutation_specs", "work_items"):
            marks = ",".join("?" * len(kept[:MOST]))
            session.execute(f"DELETE FROM {table} WHERE job_id NOT IN ({marks})", kept[:MOST])
    return len(kept[:MOST]), len(kept)


def cosmic_ray(copy: Path, *arguments: str) -> None:
    """Run a command of cosmic-ray; its failure is ours."""
    command = [Path(sys.executable).with_name("cosmic-ray"), *arguments]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cosmic-ray {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
