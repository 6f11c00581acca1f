"""Commands of `edda` that other packages bring, found through entry points.

A package adds a command with an entry point in the group `edda.commands`. Its name is the
command's name, and it loads a function `register(subparsers) -> None` that adds one parser of
that name and sets its default `run`, a function of the parsed arguments that returns the exit
code (0 fine, 1 findings or failures, 2 usage). `run` may raise `edda.targets.Trouble`.

A guest is loaded only when its command is asked for, or when all are listed; the engine's own
commands never look for any, and cannot be replaced by one.
"""

import sys
from collections.abc import Collection, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from edda.targets import Trouble

__all__ = ["GROUP", "invite"]

GROUP = "edda.commands"


def invite(subparsers: Any, own: Collection[str], argv: Sequence[str]) -> None:
    """Add the guest that `argv` asks for, or all of them where it asks for none of the engine's.

    A guest that cannot be loaded is an error (`Trouble`) when it was asked for, and else a line
    on stderr.
    """
    word = next((argument for argument in argv if not argument.startswith("-")), None)
    if word in own or (word is None and "--version" in argv):
        return
    guests = {guest.name: guest for guest in entry_points(group=GROUP) if guest.name not in own}
    if word in guests:
        _welcome(guests[word], subparsers)
        return
    for _, guest in sorted(guests.items()):
        try:
            _welcome(guest, subparsers)
        except Trouble as trouble:
            print(f"edda: {trouble}", file=sys.stderr)


def _welcome(guest: EntryPoint, subparsers: Any) -> None:
    try:
        register = guest.load()
    except (ImportError, AttributeError) as error:
        raise Trouble(
            f"The command `edda {guest.name}` comes from {guest.value}, which cannot be loaded: "
            f"{error}. Install what it needs, or remove the package that brings it.",
            1,
        ) from error
    register(subparsers)
