"""What the command line points at: an app in a module, or a database.

Every mistake is a sentence with its cure and an exit code. Absent: opening what was found.
"""

import contextlib
import importlib
import os
import sqlite3
import sys
import traceback
from pathlib import Path
from typing import Any

from edda.app import EddaApp

__all__ = ["Trouble", "app_of", "database_url"]

TABLES = "SELECT count(*) FROM sqlite_master WHERE name = 'edda_instance'"


class Trouble(Exception):  # noqa: N818 - what the user is told
    """A sentence for the user, and the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def app_of(target: str) -> EddaApp:
    """The app that `module:app` names. Raises `Trouble`."""
    name, _, path = target.partition(":")
    if not all(part.isidentifier() for part in (*name.split("."), *path.split("."))):
        raise Trouble(
            f"{target!r} names no app. Write the module with dots, a colon and the variable: "
            "orders:app.",
            2,
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a module prints is not our output
            found: Any = importlib.import_module(name)
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name is not None
        if is_missing and f"{name}.".startswith(f"{error.name}."):
            raise Trouble(
                f"There is no module {name!r}, neither in {here} nor installed. Run edda in the "
                f"folder where the project's packages are, or mend the name.",
                2,
            ) from error
        raise Trouble(f"The module {name!r} cannot be imported: {error}.", 2) from error
    except Exception as error:  # goes to the user: it is their module that cannot be loaded
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise Trouble(
            f"The module {name!r} cannot be imported: {type(error).__name__}: {error} "
            f"({place.filename}, line {place.lineno}).",
            2,
        ) from error
    apps = [key for key, value in vars(found).items() if isinstance(value, EddaApp)]
    cure = f"Its apps are: {', '.join(apps)}." if apps else "It has no EddaApp at module level."
    for part in path.split("."):
        if not hasattr(found, part):
            raise Trouble(f"The module {name!r} has no {path!r}. {cure}", 2)
        found = getattr(found, part)
    if not isinstance(found, EddaApp):
        raise Trouble(f"{target!r} is of type {type(found).__name__}, no EddaApp. {cure}", 2)
    return found


def database_url(db: str | None, app: str | None) -> str:
    """The URL of the database that is meant. Raises `Trouble` where there is none."""
    if not db and not app:
        db, app = os.environ.get("EDDA_DB_URL"), os.environ.get("EDDA_APP")
    url = db or (app and app_of(app).db_url)
    if not url:
        here = sorted(path.name for path in Path.cwd().glob("*.db"))
        raise Trouble(
            f"Which database? Give --db sqlite:///{here[0] if here else 'edda.db'} or --app "
            f"module:app, or set EDDA_DB_URL or EDDA_APP.",
            2,
        )
    if url.startswith("memory:"):
        raise Trouble(
            "A memory:// database lives in the process of its app, and nothing else can open it. "
            "Give the app a file: sqlite:///edda.db.",
            2,
        )
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        raise Trouble(
            f"There is no database {file} (the working directory is {Path.cwd()}). An app makes "
            f"it when it runs first; mend the name, or start the app.",
            2,
        )
    if url.startswith("sqlite:///") and not _is_used(file):
        raise Trouble(
            f"No app has used {file} yet: it has no tables of Edda. An app makes them when it "
            f"runs first; mend the name, or start the app.",
            2,
        )
    return url


def _is_used(file: Path) -> bool:
    """Whether there are tables of Edda in a file, as far as a look can tell that changes nothing.

    What is no database, or damaged, or locked, is for the store to say.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        ) as found:
            return bool(found.execute(TABLES).fetchone()[0])
    except (sqlite3.Error, OSError, ValueError):
        return True
