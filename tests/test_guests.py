"""Commands of other packages: found by name, loaded late, and never in the engine's way."""

import sys
import textwrap

import pytest

from edda import guests
from edda.cli import main

MODULE = """
def register(subparsers):
    parser = subparsers.add_parser("greet", help="say hello")
    parser.add_argument("whom")
    parser.set_defaults(run=run)

def run(arguments):
    print("hello", arguments.whom)
    return 1
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution on the path that brings modules and commands."""

    def put(commands, **modules):
        info = tmp_path / "guest-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in commands.items())
        (info / "entry_points.txt").write_text(f"[{guests.GROUP}]\n{lines}")
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(tmp_path)

    return put


def test_a_guests_command_runs(install, capsys):
    """A command that an entry point brings is parsed, run, and its exit code returned."""
    install({"greet": "greeting:register"}, greeting=MODULE)
    assert main(["greet", "you"]) == 1
    assert capsys.readouterr().out == "hello you\n"


def test_help_lists_guests(install, capsys):
    """`edda --help` names the commands of other packages beside the engine's."""
    install({"greet": "greeting:register"}, greeting=MODULE)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "say hello" in capsys.readouterr().out


def test_an_own_command_looks_for_no_guest(monkeypatch, capsys):
    """The engine's own commands, and `--version`, do not search the installed packages."""

    def searched(**_):
        raise AssertionError("entry points were looked up")

    monkeypatch.setattr(guests, "entry_points", searched)
    with pytest.raises(SystemExit):
        main(["ps", "--help"])
    with pytest.raises(SystemExit):
        main(["--version"])
    with pytest.raises(AssertionError):
        main(["greet"])


def test_an_own_command_cannot_be_replaced(install, capsys):
    """An entry point named like one of the engine's commands is not taken."""
    install({"ps": "greeting:register", "greet": "greeting:register"}, greeting=MODULE)
    with pytest.raises(SystemExit):
        main(["ps", "--help"])
    assert "List instances" in capsys.readouterr().out


def test_only_the_guest_asked_for_is_loaded(install, capsys):
    """A broken neighbour does not matter to a guest, and is a line on stderr in the listing."""
    install({"greet": "greeting:register", "broken": "nowhere_at_all:f"}, greeting=MODULE)
    assert main(["greet", "you"]) == 1
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr()
    assert "say hello" in said.out
    assert "`edda broken` comes from nowhere_at_all:f, which cannot be loaded" in said.err


def test_a_broken_guest_says_what_to_do(install, capsys):
    """Asking for a guest that cannot be loaded is exit code 1 and a sentence with the cure."""
    install({"broken": "nowhere_at_all:f"})
    assert main(["broken"]) == 1
    assert capsys.readouterr().err == (
        "edda: The command `edda broken` comes from nowhere_at_all:f, which cannot be loaded: "
        "No module named 'nowhere_at_all'. Install what it needs, or remove the package that "
        "brings it.\n"
    )
