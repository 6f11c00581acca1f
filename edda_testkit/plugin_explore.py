"""The pytest side of exploration: explored tests, what a failure shows, and the counts.

Loaded by the plugin when a test is explored, and by nobody else.
"""

import asyncio
import inspect
import re
import shlex
from dataclasses import replace
from typing import Any

import pytest

from edda_testkit.async_simulation import AsyncSimulation
from edda_testkit.exploration import MARK, Explored, explore_with
from edda_testkit.search import Exploration

__all__ = ["counted", "explore_item", "sections", "split"]

FIXTURES = ("edda_sim", "edda_async_sim")
STORY_LINES = 200
SHARE = "edda_share"


def split(metafunc: pytest.Metafunc) -> None:
    """Under xdist, make an exploration that may take long one item for each worker."""
    explored: Explored = getattr(metafunc.function, MARK)
    workers = getattr(metafunc.config, "workerinput", {}).get("workercount", 1)
    if workers < 2 or not explored.explorer.is_long or metafunc.config.getoption("edda_schedule"):
        return
    metafunc.fixturenames.append(SHARE)
    shares = [(number, workers) for number in range(workers)]
    ids = [f"{number + 1}of{workers}" for number in range(workers)]
    metafunc.parametrize(SHARE, shares, indirect=True, ids=ids)


def explore_item(item: pytest.Function, options: dict[str, Any]) -> None:
    """Run a test function once for each schedule. Raises what the test raised."""
    __tracebackhide__ = True
    explored: Explored = getattr(item.obj, MARK)
    _check_fixtures(item, explored)
    function = item.obj
    wanted = [name for name in item.funcargs if name in inspect.signature(function).parameters]
    given = {name: item.funcargs[name] for name in wanted}

    def scenario(sim: Any) -> None:
        __tracebackhide__ = True
        if "edda_sim" in given:
            given["edda_sim"] = sim
        if "edda_async_sim" in given:
            given["edda_async_sim"] = AsyncSimulation(sim)
        returned = function(**given)
        if inspect.iscoroutine(returned):
            asyncio.run(returned)

    explorer = explored.explorer
    share: Any = item.callspec.params.get(SHARE) if hasattr(item, "callspec") else None
    if share is not None:
        explorer = replace(explorer, share=share)
    done = explore_with(explorer, scenario, options)
    if done.failure is not None:
        raise done.failure.error


def _check_fixtures(item: pytest.Function, explored: Explored) -> None:
    info = item._fixtureinfo  # noqa: SLF001 - pytest has no public door to a test's fixtures
    if not set(FIXTURES).intersection(info.argnames):
        pytest.fail(
            f"@explore runs {item.name} with a fresh simulation for each schedule: "
            f"let it take edda_sim or edda_async_sim.",
            pytrace=False,
        )
    asked = [*info.argnames]
    for marker in item.iter_markers("usefixtures"):
        asked += marker.args
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    for name in asked:
        definitions = info.name2fixturedefs.get(name)
        if name in FIXTURES or name in parameters or name in explored.reuse or not definitions:
            continue
        if definitions[-1].scope == "function":
            pytest.fail(
                f"@explore runs {item.name} many times, and its fixture {name!r} is made once: "
                f"what one schedule does to it, the next one sees. Make it in the test, as "
                f"sim.world(...), or say that this is fine: @explore(reuse=[{name!r}]).",
                pytrace=False,
            )


def _whole(nodeid: str) -> str:
    """The test that a share belongs to: a schedule is repeated without xdist."""
    return re.sub(r"-?\b\d+of\d+\]$", "]", nodeid).removesuffix("[]")


def sections(explored: list[Exploration], nodeid: str) -> list[tuple[str, str]]:
    """What a failure report shows of the exploration that failed."""
    failed = [done for done in explored if done.failure is not None]
    if not failed:
        return []
    done = failed[-1]
    assert done.failure is not None
    token = done.failure.schedule.token
    if done.shares > 1:
        nodeid = _whole(nodeid)
    quoted = f"'{nodeid}'" if "'" not in nodeid else shlex.quote(nodeid)
    lines = [*done.report, f"pytest {quoted} --edda-schedule {token}"]
    found = [("edda exploration", "\n".join(lines))]
    story = done.failure.simulation.story
    if len(story) > STORY_LINES:
        story = [*story[:STORY_LINES], f"... {len(story) - STORY_LINES} more"]
    if story:
        found.append(("edda schedule", "\n".join(story)))
    return found


def counted(explored: list[Exploration]) -> str:
    """How many schedules a test went through, for its line under -v and the summary."""
    done = [one for one in explored if not one.is_replay and one.failure is None]
    return "; ".join(str(one).removeprefix("explored ") for one in done)
