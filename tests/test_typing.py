"""What type checkers make of the public API: `tests/typing/api.py` is checked, and never run.

Its lines with `type: ignore` are mistakes that a checker must find; on all others it must be
silent.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
API = ROOT / "tests" / "typing" / "api.py"


def checker(name):
    """The program of that name beside this interpreter, or on the path."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    return found


def mistakes():
    """The numbers of the lines that hold a deliberate mistake."""
    lines = API.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if "# type: ignore[" in line}


def test_mypy_keeps_the_signatures_of_what_is_decorated():
    """mypy --strict finds every deliberate mistake (an unused ignore is an error) and no other."""
    command = [checker("mypy"), "--strict", str(API)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_keeps_the_signatures_of_what_is_decorated(tmp_path):
    """Pyright finds an error on every line with a deliberate mistake, and on no other."""
    program = checker("basedpyright")
    config = {
        "include": [str(API)],
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "enableTypeIgnoreComments": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    command = [program, "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    found = {
        one["range"]["start"]["line"] + 1: one["message"]
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    }
    wrong = {line: found.get(line, "nothing") for line in found.keys() ^ mistakes()}
    assert not wrong, wrong
