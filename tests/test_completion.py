"""`edda completion`: scripts that shells accept, with every command in them."""

import shutil
import subprocess
import sys

import pytest

from edda.cli import main
from edda.completion import SHELLS

COMMANDS = ("serve", "worker", "ps", "show", "history", "cancel", "retry", "init", "check", "lint")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_there(shell, capsys):
    """Each script knows the engine's commands, those of the kit, and options."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in script] == []
    assert "--port" in script or "-l port" in script


def test_bash_completes(tmp_path, capsys):
    """In a real bash, `edda hi` becomes `edda history`, and `edda serve --po` knows `--port`."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    main(["completion", "bash"])
    (tmp_path / "edda.bash").write_text(capsys.readouterr().out, "utf-8")
    asked = """
        source edda.bash
        complete_line() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            $(complete -p edda | sed 's/.*-F \\([^ ]*\\) .*/\\1/') edda "${!#}" "${COMP_WORDS[-2]}"
            echo "${COMPREPLY[*]}"
        }
        complete_line edda hi
        complete_line edda serve --po
    """
    command = ["bash", "-c", asked]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [line.strip() for line in done.stdout.splitlines()] == ["history", "--port"], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_it(shell, tmp_path, capsys):
    """zsh and fish find no fault in the syntax of their scripts."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    main(["completion", shell])
    (tmp_path / "script").write_text(capsys.readouterr().out, "utf-8")
    subprocess.run([shell, "-n", "script"], cwd=tmp_path, check=True)


def test_without_shtab(monkeypatch, capsys):
    """Where shtab is not installed, it says what to install."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert capsys.readouterr().err == (
        'edda: This needs shtab: pip install "edda-durable[completion]".\n'
    )


def test_an_unknown_shell(capsys):
    """The shells that are known are named."""
    with pytest.raises(SystemExit) as stop:
        main(["completion", "tcsh"])
    assert stop.value.code == 2
    assert "bash" in capsys.readouterr().err
