"""What the lint sees in a workflow whose replay went another way: where to look first.

The replay knows which ask differs, and not why. Absent: any judgement of that; a hint may miss.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from edda_testkit.lint import lint

__all__ = ["hint"]

MOST = 5


@cache
def hint(function: Callable[..., Any]) -> str:
    """The findings of the lint in a workflow's function and what it calls; "" if it has none."""
    code = function.__code__
    try:
        found = lint([code.co_filename]).findings
    except OSError:  # it was typed in, or made by `exec`
        return ""
    own = [
        finding
        for finding in found
        if finding.workflow == function.__name__ and finding.rule.severity != "note"
    ]
    lines = [f"  {one.place.file}:{one.place.line}: {one.rule.code} {one.what}" for one in own]
    if len(lines) > MOST:
        lines[MOST:] = [f"  and {len(lines) - MOST} more: edda lint {code.co_filename}"]
    return "\n".join(["The lint sees in it:", *lines]) if lines else ""
