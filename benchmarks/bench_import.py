"""What an import costs: `import edda`, and the plugin in a project that does not use it.

Each figure is the least of many fresh interpreters, in milliseconds of CPU time, as a busy machine
only adds. `python benchmarks/bench_import.py --rooms` says which modules it is spent in.
"""

import os
import subprocess
import sys
from collections import Counter

RUNS = 15
CLOCK = "import time; began = time.process_time()"
END = "print((time.process_time() - began) * 1000)"
PYDANTIC = "import asyncio, pydantic; pydantic.BaseModel; pydantic.TypeAdapter"

# What is measured: a name, what is imported before, what is measured, and the goal in ms.
MEASURED = [
    ("for scale: asyncio and pydantic", "pass", PYDANTIC, 1_000),
    ("import edda", "pass", "import edda", 150),
    (
        "... where pydantic and asyncio are there",
        PYDANTIC,
        "import edda",
        40,
    ),
    ("import edda_testkit", "pass", "import edda_testkit", 10),
    ("the plugin, where pytest is there", "import pytest", "import edda_testkit.plugin", 10),
]
# As at a user's: what was compiled once is not compiled again.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
EDDAS = ("edda", "edda_testkit")


def milliseconds(before: str, measured: str) -> float:
    """The least CPU time that a fresh interpreter takes for it."""
    program = f"{before}\n{CLOCK}\n{measured}\n{END}"
    return min(
        float(
            subprocess.run(
                [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, check=True
            ).stdout
        )
        for _ in range(RUNS)
    )


def rooms() -> list[tuple[int, str]]:
    """Microseconds that each top-level package, and each room of ours, takes for itself."""
    least: dict[str, int] = {}
    for _ in range(RUNS):
        spent: Counter[str] = Counter()
        command = [sys.executable, "-X", "importtime", "-c", "import edda"]
        told = subprocess.run(
            command, env=ENVIRONMENT, capture_output=True, check=True, text=True
        ).stderr
        for line in told.splitlines()[1:]:
            own, _, name = line.removeprefix("import time:").split("|")
            name = name.strip()
            root = name.partition(".")[0]
            spent[name if root in EDDAS else root] += int(own)
        least = {name: min(us, least.get(name, us)) for name, us in spent.items()}
    return sorted(((us, name) for name, us in least.items()), reverse=True)


def main() -> int:
    is_fine = True
    for name, before, measured, goal in MEASURED:
        took = milliseconds(before, measured)
        is_fine &= took < goal
        print(f"{name:42} {took:7.1f} ms   goal: under {goal}")
    if "--rooms" in sys.argv:
        print()
        for us, name in rooms()[:30]:
            print(f"{name:42} {us / 1000:7.1f} ms")
    return 0 if is_fine else 1


if __name__ == "__main__":
    raise SystemExit(main())
