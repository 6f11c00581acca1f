"""Replays in other interpreters: what they find, how it is named, and what a dead child says."""

import json
import sys
import textwrap
from pathlib import Path

import pytest

from edda_testkit.perturb import (
    PERTURBATIONS,
    Answer,
    ChildFailed,
    Job,
    Perturbation,
    replay_everywhere,
)

FLOWS = """
import os, time
from edda import workflow, activity, wait_event

@activity
async def pay(ctx, word: str) -> int:
    return 1

@activity
async def tag(ctx, words: set[str]) -> int:
    return 1

@workflow
async def clean(ctx) -> set[str]:
    print("code that prints")
    await tag(ctx, {"apple", "pear", "plum", "fig"})
    for word in sorted({"apple", "pear", "plum", "fig"}):
        await pay(ctx, word)
    return {"apple", "pear", "plum", "fig"}

@workflow
async def of_a_set(ctx):
    for word in {"apple", "pear", "plum", "fig", "lime", "date"}:
        await pay(ctx, word)

@workflow
async def of_a_zone(ctx):
    await pay(ctx, str(time.localtime(0).tm_hour))

@workflow
async def of_a_locale(ctx):
    await pay(ctx, os.environ["LC_ALL"])

@workflow
async def to_be_continued(ctx):
    for word in {"apple", "pear", "plum", "fig", "lime", "date"}:
        await wait_event(ctx, word)

@workflow
async def deadly(ctx):
    if os.environ["PYTHONHASHSEED"] == "2":
        os._exit(7)

@workflow
async def endless(ctx):
    while os.environ["PYTHONHASHSEED"] == "3":
        pass
"""


def history(name, *asks, result="null", is_finished=True):
    """A golden file of one workflow that calls activities, one after the other."""
    at = {"at": "+0:00:00"}
    events = [{"kind": "workflow_started", **at, "name": name, "seed": 1, "payload": {}}]
    counts = {}
    for step, arguments in asks:
        counts[step] = counts.get(step, 0) + 1
        one = {**at, "id": f"{step}:{counts[step]}", "name": step}
        events.append({"kind": "activity_scheduled", **one, "payload": arguments})
        events.append({"kind": "activity_completed", **one, "payload": 1})
    if is_finished:
        events.append({"kind": "workflow_completed", **at, "payload": json.loads(result)})
    return json.dumps(
        {
            "format": "edda-golden/1",
            "workflow": f"perturbed_flows:{name}",
            "instance": name,
            "start": "2000-01-01T00:00:00Z",
            "events": events,
        }
    )


FRUIT = ["apple", "fig", "pear", "plum"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a module of workflows and a history of each."""
    folder = tmp_path_factory.mktemp("perturbed")
    (folder / "perturbed_flows.py").write_text(textwrap.dedent(FLOWS))
    # The order that hash seed 0 gives, so that exactly the other seeds go another way.
    ordered = [
        ("pay", {"word": word})
        for word in order_of({"apple", "pear", "plum", "fig", "lime", "date"}, "0")
    ]
    files = {
        "clean": history(
            "clean",
            ("tag", {"words": FRUIT}),
            *(("pay", {"word": word}) for word in FRUIT),
            result=json.dumps(FRUIT),
        ),
        "of_a_set": history("of_a_set", *ordered),
        "of_a_zone": history("of_a_zone", ("pay", {"word": "0"})),
        "of_a_locale": history("of_a_locale", ("pay", {"word": "C.UTF-8"})),
        "to_be_continued": history("to_be_continued", is_finished=False),
        "deadly": history("deadly"),
        "endless": history("endless"),
        "nobody": history("nobody"),
        "damaged": "{",
        "wrong": history("clean", ("pay", {"word": "kiwi"})),
    }
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    return folder


def order_of(words, seed):
    import subprocess

    code = f"print(*{words!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.fixture(scope="module")
def batch(place):
    """All of them, replayed in one batch, and the counts that were told on the way."""
    told = []
    names = [path for path in sorted(place.glob("*.json")) if path.stem != "endless"]
    job = Job(path=[str(place), *sys.path])
    return replay_everywhere(job, names, tell=told.append), told, place


def of(batch, name):
    found, _, place = batch
    return found.judged[place / f"{name}.json"]


def test_clean_code_passes_everywhere(batch):
    """Sets in arguments and results, printing and sorted sets are no difference."""
    judged = of(batch, "clean")
    assert (judged.answer.state, judged.under) == ("passed", None)
    assert judged.message == ""


def test_the_order_of_a_set_is_found_and_the_hash_seed_named(batch):
    """Iterating over a set of strings fails under another hash seed, with the aligned diff."""
    judged = of(batch, "of_a_set")
    assert judged.answer.state == "failed"
    assert judged.under.startswith("PYTHONHASHSEED=")
    assert "TZ" not in judged.under
    assert "does not replay with PYTHONHASHSEED=" in judged.message
    assert "has other arguments" in judged.message
    assert "Sort the set" in judged.message
    assert "EDL801 this loop takes the order of a set" in judged.message


@pytest.mark.parametrize(
    ("name", "under"), [("of_a_zone", "TZ=<+1345>-13:45"), ("of_a_locale", "LC_ALL=tr_TR.UTF-8")]
)
def test_what_changed_is_narrowed_down(name, under, batch):
    """Of several changes of one interpreter the one that matters is named."""
    judged = of(batch, name)
    assert judged.under.partition(" ")[0] == under
    assert "has other arguments" in judged.message


def test_what_follows_an_unfinished_history_is_compared(batch):
    """Beyond the end of a history the interpreters must go on alike."""
    judged = of(batch, "to_be_continued")
    assert judged.answer.state == "failed"
    assert "Beyond the end of its history it goes on differently" in judged.message
    assert judged.message.count("event_awaited") == 2


def test_a_dead_child_names_its_history_and_the_rest_goes_on(batch):
    """A child that dies fails the history it was at; another child goes on with the others."""
    judged = of(batch, "deadly")
    assert judged.answer.state == "died"
    assert "PYTHONHASHSEED=2" in judged.under
    assert "it ended with exit code 7" in judged.message
    assert of(batch, "wrong").answer.state == "failed"


def test_what_fails_everywhere_is_no_matter_of_perturbation(batch):
    """Code that departs in every interpreter alike is just another version."""
    judged = of(batch, "wrong")
    assert judged.under is None
    assert "does not do what its history recorded" in judged.message


def test_what_cannot_be_replayed_has_a_state_of_its_own(batch):
    """A damaged file and a workflow that is not there are told apart from departures."""
    assert of(batch, "damaged").answer == Answer("unreadable", of(batch, "damaged").message)
    assert of(batch, "nobody").answer.state == "unknown"


def test_each_replay_is_told_and_workflows_are_known(batch):
    """Progress adds up to files times interpreters, and the children say what there is."""
    found, told, _ = batch
    assert sum(told) == len(found.judged) * len(PERTURBATIONS)
    assert {"clean", "deadly", "of_a_set"} <= found.workflows


def test_at_least_three_other_hash_seeds_a_zone_and_a_locale():
    """The interpreters differ in what they should."""
    changes = [dict(one.changes) for one in PERTURBATIONS]
    assert len({one["PYTHONHASHSEED"] for one in changes}) >= 4
    assert any("TZ" in one for one in changes)
    assert any("LC_ALL" in one for one in changes)
    env = PERTURBATIONS[1].env
    assert (env["TZ"], env["LC_ALL"], env["LANG"]) == ("<+1345>-13:45", "C.UTF-8", "C.UTF-8")


def test_a_replay_without_an_end_is_ended(place):
    """A replay that hangs is stopped after `seconds`, and the stack shows where it was."""
    batch = replay_everywhere(
        Job(path=[str(place), *sys.path], seconds=2),
        [place / "endless.json", place / "clean.json"],
        perturbations=[Perturbation.of(PYTHONHASHSEED="3")],
    )
    judged = batch.judged[place / "endless.json"]
    assert judged.answer.state == "died"
    assert "perturbed_flows.py" in judged.message
    assert "in endless" in judged.message
    assert batch.judged[place / "clean.json"].answer.state == "passed"


def test_a_child_that_cannot_begin_is_an_error(place):
    """An app that is not there ends the batch with the sentence of the command line."""
    with pytest.raises(ChildFailed, match="There is no module 'nowhere'"):
        replay_everywhere(
            Job(app="nowhere:app"), [place / "clean.json"], perturbations=PERTURBATIONS[:1]
        )
    with pytest.raises(ChildFailed, match="could not begin: it ended with exit code 1"):
        replay_everywhere(
            Job(path=["nowhere"]), [place / "clean.json"], perturbations=PERTURBATIONS[:1]
        )


def test_many_histories_share_few_children(place, tmp_path):
    """Two hundred histories under one perturbation take two children at two jobs, not hundreds."""
    text = (place / "clean.json").read_text()
    files = []
    for number in range(200):
        files.append(tmp_path / f"{number:03}.json")
        files[-1].write_text(text)
    log = tmp_path / "children"
    module = (place / "perturbed_flows.py").read_text()
    counting = f"open({str(log)!r}, 'a').write('child ')\n"
    (tmp_path / "perturbed_flows.py").write_text(counting + module)
    batch = replay_everywhere(
        Job(path=[str(tmp_path), *sys.path]), files, perturbations=PERTURBATIONS[:1], jobs=2
    )
    assert {one.answer.state for one in batch.judged.values()} == {"passed"}
    assert log.read_text() == "child child "


def test_paths_are_found_from_anywhere(place, monkeypatch):
    """Relative paths mean the parent's working directory."""
    monkeypatch.chdir(place)
    path = Path("clean.json")
    batch = replay_everywhere(
        Job(path=[str(place), *sys.path]), [path], perturbations=PERTURBATIONS[:1]
    )
    assert batch.judged[path].answer.state == "passed"
