"""`edda init`: what it writes works, and what is there is left alone."""

import subprocess
import sys

import pytest

from edda.cli import main
from edda_testkit.init_command import FILES


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_project_tests_itself(place, capsys):
    """pytest passes in a fresh project, and the two next commands are printed."""
    assert main(["init", "shop"]) == 0
    told = capsys.readouterr().out
    assert "cd shop && pytest" in told
    assert "cd shop && edda serve orders:app" in told
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=place / "shop", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_a_bug_in_the_project_is_found(place, capsys):
    """The tests of the project are no decoration: a deadline that is off by an hour fails."""
    assert main(["init"]) == 0
    assert "\n  pytest " in capsys.readouterr().out
    module = place / "orders.py"
    module.write_text(module.read_text("utf-8").replace("24 * 3600", "23 * 3600 - 1"), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert "test_paid_in_the_last_hour" in done.stdout
    assert "1 failed, 4 passed" in done.stdout


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(place, capsys, name):
    """A file of one of the names stops it all, before anything is written."""
    (place / name).write_text("mine", "utf-8")
    assert main(["init"]) == 1
    assert capsys.readouterr().err == (
        f"edda: . has {name} already, and nothing is overwritten. Name another folder: "
        f"edda init DIR.\n"
    )
    assert [file.name for file in place.iterdir()] == [name]
    assert (place / name).read_text("utf-8") == "mine"


def test_a_file_where_the_folder_should_be(place, capsys):
    """A folder that cannot be made is a sentence and an exit code."""
    (place / "shop").write_text("a file", "utf-8")
    assert main(["init", "shop"]) == 1
    assert "shop cannot be written: " in capsys.readouterr().err
