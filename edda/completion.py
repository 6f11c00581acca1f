"""What the Tab key does: `edda completion bash`, `zsh` or `fish` prints a script for the shell.

The script is written once from the parser, by shtab (extra `completion`), so that a Tab does not
start Python. Absent: completing instance ids, which are in a database.
"""

import argparse
import importlib

from edda.targets import Trouble

__all__ = ["SHELLS", "script"]

SHELLS = ("bash", "zsh", "fish")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script of a parser. Raises `Trouble` where shtab is not installed."""
    try:
        shtab = importlib.import_module("shtab")
    except ImportError as error:
        raise Trouble('This needs shtab: pip install "edda-durable[completion]".', 1) from error
    text: str = shtab.complete(parser, shell)
    return text
