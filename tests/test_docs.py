"""The documentation as a reader finds it: links that lead somewhere, and nothing left out.

The site itself is built by `make docs`, strictly. Here is what can be said in a second, without the
generator. Absent: the code blocks of the pages, which are tests by themselves (see `conftest.py`).
"""

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import edda.errors

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PAGE_IDS = [page.relative_to(DOCS).as_posix() for page in PAGES]

FENCE = re.compile(r"^(```|~~~).*?^\1\s*?$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(`+)[^`\n](?:.*?[^`\n])?\1(?!`)")
LINK = re.compile(r"(?<!!)\[[^\]\[]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@cache
def reference():
    return load("reference")


@cache
def prose(page):
    """A page without its blocks of code."""
    if page.parent.name == "reference":
        return FENCE.sub("", reference().page(page.stem))
    return FENCE.sub("", page.read_text("utf-8"))


@cache
def anchors(page):
    """The anchors that headings make, as GitHub and the site write them."""
    found = []
    for heading in HEADING.findall(prose(page)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.replace("`", ""))
        slug = re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-")
        count = sum(one == slug or one.rpartition("_")[0] == slug for one in found)
        found.append(f"{slug}_{count}" if count else slug)
    return found


def is_page(path):
    return path.is_file() or (path.parent == DOCS / "reference" and path.stem in reference().ALSO)


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_somewhere(page):
    """Each link of a page leads to a page that is there, and to a heading that it has."""
    wrong = []
    for link in LINK.findall(SPAN.sub("", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue  # elsewhere
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(DOCS) or not is_page(target):
            wrong.append(f"{link}: there is no such page in docs/")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{link}: no such heading; there are {', '.join(anchors(target))}")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_headings_of_a_page_differ(page):
    """No two headings of a page make one anchor, which would be numbered and could move."""
    assert len(set(anchors(page))) == len(anchors(page))
    assert not [one for one in anchors(page) if re.search(r"_\d+$", one)]


def test_the_site_has_every_page():
    """The navigation in `mkdocs.yml` names each page once; records are listed by their index."""
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    navigation = re.findall(r"([\w/-]+\.md)$", settings.partition("\nnav:\n")[2], re.MULTILINE)
    pages = [one for one in PAGE_IDS if not re.match(r"decisions/\d", one)]
    made = [f"reference/{package}.md" for package in reference().ALSO]
    assert sorted(navigation) == sorted(pages + made)


def test_how_to_pages_are_listed():
    """`howto/index.md` links each how-to page."""
    listed = set(LINK.findall((DOCS / "howto" / "index.md").read_text("utf-8")))
    assert listed == {page.name for page in (DOCS / "howto").glob("*.md")} - {"index.md"}


def test_every_error_code_has_a_paragraph():
    """`errors.md` has a heading `CODE Class` for each error of the engine, with words below it."""
    classes = [getattr(edda.errors, name) for name in edda.errors.__all__]
    wanted = {f"{one.code} {one.__name__}" for one in classes if inspect.isclass(one)}
    parts = re.split(r"^#{2,3} ", (DOCS / "errors.md").read_text("utf-8"), flags=re.MULTILINE)
    found = {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in parts}
    explained = {heading for heading, words in found.items() if len(words) > 60}
    assert wanted == {one for one in explained if re.match(r"E\d{3} ", one)}


@pytest.mark.parametrize("package", ["edda", "edda_testkit"])
def test_the_map_of_the_code_names_every_room(package):
    """`architecture.md` says of each room what it holds."""
    section = (DOCS / "architecture.md").read_text("utf-8").partition(f"\n### {package}\n")[2]
    named = set(re.findall(r"`([a-z_0-9]+)(?:/|\.sql)?`", section.partition("\n### ")[0]))
    folder = ROOT / package
    rooms = {one.stem for one in folder.glob("*.py")} - {"__init__", "__main__"}
    rooms |= {one.name for one in folder.iterdir() if (one / "__init__.py").is_file()}
    assert rooms - named == set()


@pytest.mark.parametrize("package", ["edda", "edda_testkit"])
def test_the_reference_explains_every_public_name(package):
    """Each name that a package exports has an entry with a docstring in the reference."""
    names = list(reference().names(package))
    exported = {one.name for one in names if one.room == package}
    assert exported == set(reference().exports(package))
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bare = [one for one in names if isinstance(one.node, definitions)]
    assert [one.name for one in bare if not reference().text(one.node)] == []


def test_the_reference_hides_only_what_is_there():
    """Each name that the reference leaves out of a class is one that the class has."""
    kit = {one.name: one for package in reference().ALSO for one in reference().names(package)}
    for name, hidden in reference().INNER.items():
        found = kit[name]
        methods = {one.name for one in reference().methods(found.node, found.home)}
        assert set(hidden.split()) - methods == set(), name


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_each_block_can_be_pasted(page):
    """A Python block of a page is a program as it stands: a reader's file has no dedent."""
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        ast.parse(block, page.name)


def test_the_django_page_works(tmp_path):
    """The Django files of `howto/web-projects.md` make a project as they stand."""
    pytest.importorskip("django")
    page = (DOCS / "howto" / "web-projects.md").read_text("utf-8").partition("\n## Django\n")[2]
    block = r"^```python\n# ([\w/]+\.py)[^\n]*\n(.*?)^```"
    files = dict(re.findall(block, page, re.MULTILINE | re.DOTALL))
    assert len(files) == page.count("```python") == 5
    files |= {"shop/settings.py": SETTINGS, "shop/urls.py": URLS, "shop/__init__.py": ""}
    files |= {"drive.py": DRIVE, "transaction.py": TRANSACTION}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    for program in ("transaction.py", "drive.py"):
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        subprocess.run(
            [sys.executable, program], check=True, cwd=tmp_path, timeout=120, env=environment
        )


SETTINGS = """
SECRET_KEY = "made up"
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "users.db",
        "TEST": {"NAME": "file:testing?mode=memory&cache=shared"},
    }
}
"""

URLS = """
from django.urls import path

from shop.views import register

urlpatterns = [path("register", register)]
"""

# What pytest-django's `db` does around a test: a test database, and a transaction that is dropped.
TRANSACTION = """
from shop.worker import workflows  # it sets Django up

from django.contrib.auth.models import User
from django.db import transaction
from django.test.runner import DiscoverRunner

from edda_testkit import Simulation
from tests.test_flows import test_sign_up

DiscoverRunner(verbosity=0).setup_databases()
with transaction.atomic(), Simulation() as sim:
    test_sign_up(None, sim)
    transaction.set_rollback(True)
assert not User.objects.exists()
"""

DRIVE = """
import asyncio

import httpx
from django.core.management import call_command

from shop.asgi import application, workflows
from django.contrib.auth.models import User

call_command("migrate", verbosity=0)
EVENT = {"specversion": "1.0", "id": "1", "source": "me", "type": "confirmed", "subject": "bob"}
HEADERS = {"content-type": "application/cloudevents+json"}


async def through_the_seam():
    transport = httpx.ASGITransport(application)
    client = httpx.AsyncClient(transport=transport, base_url="http://shop")
    async with application.router.lifespan_context(application), client:
        started = (await client.get("/register?name=bob")).json()["id"]
        answer = await client.post("/workflows/events", json=EVENT, headers=HEADERS)
        assert answer.status_code == 202, answer.text
        user = await User.objects.aget(pk=await workflows.result(started, timeout=60))
        assert user.username == "bob"


asyncio.run(through_the_seam())
"""
