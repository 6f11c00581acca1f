"""How this repository tests itself; nothing here reaches a user of the kit.

Hypothesis profiles, documentation that is executed, and pytest's own test bench. The kit's
hooks and fixtures are in `edda_testkit.plugin`, which pytest finds by its entry point.
"""

import os
from doctest import ELLIPSIS
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.parsers.markdown import ClearNamespaceParser, PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser
from sybil.sybil import SybilCollection

from edda.workflow import registry

pytest_plugins = ["pytester"]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Under xdist a file stays together: the blocks of a page go on from each other."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "loadfile"


# ---- Hypothesis: `dev` finds fast, `ci` is the same every time, `deep` has all night ---------

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # a busy build machine is not a bug
)
settings.register_profile(
    "deep",
    max_examples=5_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(
    os.environ.get("EDDA_HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)

# ---- Documentation: every python block of a page, every `>>>` of a docstring -----------------
# A block that cannot run carries `<!-- skip: next -->` above it, with the reason in its text.

PAGE_PARSERS = [
    PythonCodeBlockParser(doctest_optionflags=ELLIPSIS),
    SkipParser(),
    ClearNamespaceParser(),
]
DOCSTRING_PARSERS = [DocTestParser(optionflags=ELLIPSIS)]
KNOWN = "workflows known before the page"


def begin(namespace: dict[str, Any]) -> None:
    """Remember which workflows there are: those of a page must not answer other tests' events."""
    namespace[KNOWN] = {name: list(known) for name, known in registry.items()}


def end(namespace: dict[str, Any]) -> None:
    """Forget the workflows that the page has made."""
    registry.clear()
    registry.update(namespace[KNOWN])


pytest_collect_file = SybilCollection(
    [
        Sybil(PAGE_PARSERS, filenames=["README.md"], setup=begin, teardown=end),
        Sybil(PAGE_PARSERS, path="docs", pattern="*.md", setup=begin, teardown=end),
        Sybil(DOCSTRING_PARSERS, path="edda", pattern="*.py"),
        Sybil(DOCSTRING_PARSERS, path="edda_testkit", pattern="*.py"),
    ]
).pytest()
