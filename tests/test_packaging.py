"""What the distribution promises: what it needs, what it brings, and what it leaves alone.

The wheel itself is tried by `make wheel-test`. Here is what can be seen without building one.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# An import hook that behaves as if none of these were installed.
WITHOUT = """
import sys

class Without:
    absent = {"pytest", "_pytest", "hypothesis", "freezegun", "edda_testkit", "httpx", "starlette",
              "uvicorn", "asyncpg", "opentelemetry", "shtab", "time_machine"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without())
"""
ENGINE = """
import asyncio
from edda import EddaApp, activity, wait_timer, workflow

@activity
async def double(ctx, number: int) -> int:
    return number * 2

@workflow
async def alone(ctx, number: int) -> int:
    await wait_timer(ctx, 0.01)
    return await double(ctx, number)

async def main():
    async with EddaApp("alone", "sqlite:///alone.db") as app:
        return await app.result(await alone.start(number=21), timeout=20)

print(asyncio.run(main()))
"""


def run(program, folder):
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_engine_needs_no_test_tool(tmp_path):
    """A workflow runs on SQLite where pytest, hypothesis and freezegun cannot be imported."""
    assert run(f"{WITHOUT}\n{ENGINE}", tmp_path) == ["42"]


def test_the_engine_does_not_even_look(tmp_path):
    """`import edda` asks for none of them, nor for httpx, sqlite3 or the kit."""
    heavy = "['edda_testkit', 'freezegun', 'httpx', 'hypothesis', 'pytest', 'sqlite3', 'starlette']"
    program = f"import edda, sys; print([name for name in {heavy} if name in sys.modules])"
    assert run(program, tmp_path) == ["[]"]


def test_the_plugin_imports_pytest_alone(tmp_path):
    """A project that has the plugin and does not use it loads two small modules, and no engine."""
    program = (
        "import pytest, sys; before = set(sys.modules); import edda_testkit.plugin; "
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('edda')))"
    )
    assert run(program, tmp_path) == ["['edda_testkit', 'edda_testkit.plugin']"]


@pytest.mark.parametrize("package", ["edda", "edda_testkit"])
def test_types_are_shipped(package):
    """Both packages carry the marker that lets type checkers read them."""
    assert (ROOT / package / "py.typed").exists()


def test_the_extras():
    """The extras that the documentation names are there, and `all` has each of them."""
    extras = PROJECT["optional-dependencies"]
    users = set(extras) - {"dev", "docs", "fuzz", "mutate", "all"}
    assert users == {"completion", "http", "otel", "postgres", "testkit", "time-machine"}
    [everything] = extras["all"]
    assert everything == f"edda-durable[{','.join(sorted(users))}]"


def test_one_version():
    """The citation names the version of the distribution."""
    citation = (ROOT / "CITATION.cff").read_text("utf-8").splitlines()
    assert f"version: {PROJECT['version']}" in citation


def test_continuous_integration_covers_what_is_promised():
    """Every Python of the classifiers is in the CI matrix."""
    prefix = "Programming Language :: Python :: 3."
    promised = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if c.startswith(prefix)]
    matrix = (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    assert promised == ["3.11", "3.12", "3.13"]
    assert (
        f"python: [{', '.join(f'{version!r}' for version in promised)}]".replace("'", '"') in matrix
    )
