"""Golden histories: what is written, what counts as the same, and what a changed workflow says."""

import asyncio
import hashlib
import json
import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda import RetryPolicy, activity, wait_event, workflow
from edda.commands import ActivityAsk, Result
from edda.errors import HistoryFormatError, NonDeterminismError
from edda.history import Answered, Asked, Finished, as_document
from edda.machine import Machine
from edda_testkit import AsyncSimulation, GoldenMismatch, Misuse, Simulation
from edda_testkit.golden_format import as_golden, events_of, fits, layout
from edda_testkit.histories import Verdict, find_workflow, read, replay


@activity
async def pay(ctx, order_id: str, amount: int = 1) -> dict:
    return {"receipt": f"R-{order_id}"}


@activity(retry_policy=RetryPolicy(max_attempts=1))
async def refuse(ctx, reason: str) -> None:
    raise ValueError(f"refused: {reason}")


@activity
async def tag(ctx, words: set[str]) -> set[str]:
    return words


@activity
async def number(ctx) -> float:
    return 2.5


@workflow(name="order")
async def order(ctx, order_id: str) -> str:
    await pay(ctx, order_id)
    event = await wait_event(ctx, "paid", timeout_seconds=172_800)
    return event.data["by"]


@workflow(name="order")
async def order_with_a_step(ctx, order_id: str) -> str:
    await pay(ctx, order_id)
    await tag(ctx, {"new"})
    event = await wait_event(ctx, "paid", timeout_seconds=172_800)
    return event.data["by"]


@workflow(name="order")
async def order_step_first(ctx, order_id: str) -> str:
    await tag(ctx, {"new"})
    return await order(ctx, order_id)


@workflow(name="order")
async def order_patched(ctx, order_id: str) -> str:
    await pay(ctx, order_id)
    if ctx.patched("tagging"):
        await tag(ctx, {"new"})
    event = await wait_event(ctx, "paid", timeout_seconds=172_800)
    return event.data["by"]


def play(definition, folder, name="paid", *, update=False, instance_id=None, event_id=None):
    """One paid order, compared with its golden file."""
    with Simulation() as sim:
        sim.start(definition, order_id="ORD-1", instance_id=instance_id)
        sim.advance(hours=25)
        sim.send("paid", {"by": "card"}, id=event_id)
        sim.golden(name, directory=folder, update=update)


def at(folder, name="paid", workflow="order"):
    return folder / workflow / f"{name}.json"


def edit(path, old, new):
    """Change a golden file as a person would."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


PAID = """\
{
  "format": "edda-golden/1",
  "name": "paid",
  "workflow": "MODULE:order",
  "instance": "${instance}",
  "bindings": {"instance": "order-00000000000000000000000000000001"},
  "start": "2000-01-01T00:00:00+00:00",
  "events": [
    {"kind": "workflow_started", "at": "+0:00:00", "name": "order", "seed": 373402508605428821,
      "payload": {"order_id": "ORD-1"}},
    {"kind": "activity_scheduled", "at": "+0:00:00", "id": "pay:1", "name": "pay",
      "payload": {"order_id": "ORD-1"}},
    {"kind": "activity_completed", "at": "+0:00:00", "id": "pay:1", "name": "pay",
      "payload": {"receipt": "R-ORD-1"}},
    {"kind": "event_awaited", "at": "+0:00:00", "id": "wait_event_paid:1", "name": "paid", \
"deadline": "+2d 0:00:00", "timeout_seconds": 172800.0},
    {"kind": "event_received", "at": "+1d 1:00:00", "id": "wait_event_paid:1", "name": "paid", \
"message": 1,
      "payload": {
        "specversion": "1.0",
        "type": "paid",
        "time": "2000-01-02T01:00:00Z",
        "source": "test",
        "id": "event-1",
        "data": {"by": "card"}
      }},
    {"kind": "workflow_completed", "at": "+1d 1:00:00", "payload": "card"}
  ]
}
"""


# ---- Writing and comparing ---------------------------------------------------------------------


def test_a_golden_file_reads_like_the_run(tmp_path):
    """The file has one line or small block an event, offsets for times, and no generated ids."""
    play(order, tmp_path, update=True)
    text = at(tmp_path).read_text()
    assert text == PAID.replace("MODULE", order.fn.__module__)


def test_the_same_run_fits_and_the_file_is_left_alone(tmp_path):
    """A run that does the same fits, and updating changes no byte of a file that fits."""
    play(order, tmp_path, update=True)
    at(tmp_path).write_text(at(tmp_path).read_text() + "\n\n")
    before = at(tmp_path).read_text()
    play(order, tmp_path)
    play(order, tmp_path, update=True)
    assert at(tmp_path).read_text() == before


def test_a_missing_file_says_how_to_write_it(tmp_path):
    """Without a file the comparison fails, names the path and the option that writes it."""
    with pytest.raises(GoldenMismatch, match="There is no such file yet") as caught:
        play(order, tmp_path)
    assert "--edda-update" in str(caught.value)
    assert str(at(tmp_path)) in str(caught.value)
    assert not at(tmp_path).exists()


def test_a_changed_workflow_is_shown_beside_its_history(tmp_path):
    """A step more fails with the aligned diff, the golden file's line, and `ctx.patched`."""
    play(order, tmp_path, update=True)
    with pytest.raises(GoldenMismatch) as caught:
        play(order_with_a_step, tmp_path)
    said = str(caught.value)
    assert "  + " in said
    assert "tag:1 (activity)" in said
    assert "order/paid.json:15" in said
    assert 'if ctx.patched("change-tag")' in said


def test_another_run_of_the_same_code_is_shown_as_a_diff(tmp_path):
    """Where the code replays the file but the run differs, the differing lines are shown."""
    play(order, tmp_path, update=True)
    with Simulation() as sim:
        sim.start(order, order_id="ORD-1")
        sim.advance(hours=1)
        sim.send("paid", {"by": "cash"})
        with pytest.raises(GoldenMismatch) as caught:
            sim.golden("paid", directory=tmp_path)
    said = str(caught.value)
    assert "this run is another one" in said
    assert '-    {"kind": "workflow_completed", "at": "+1d 1:00:00", "payload": "card"}' in said
    assert '+    {"kind": "workflow_completed", "at": "+1:00:00", "payload": "cash"}' in said


def test_a_new_version_with_patched_passes_old_and_new_histories(tmp_path):
    """With `ctx.patched` the history of the old code replays, and so does one of the new."""
    play(order, tmp_path, "old", update=True)
    play(order_patched, tmp_path, "new", update=True)
    old, new = read(at(tmp_path, "old")), read(at(tmp_path, "new"))
    assert replay(order_patched, old) == Verdict(None, (), {"tagging": False})
    assert replay(order_patched, new) == Verdict(None, (), {"tagging": True})
    assert "tag" in replay(order, new).problem


def test_the_seed_is_kept_and_not_compared(tmp_path):
    """A run that a test started second has another seed, and fits all the same."""
    play(order, tmp_path, update=True)
    with Simulation(seed=99) as sim:
        sim.start(order, order_id="ORD-1")
        sim.advance(hours=25)
        sim.send("paid", {"by": "card"})
        sim.golden("paid", directory=tmp_path)


def test_ids_from_outside_are_bound_and_ids_of_the_code_are_not(tmp_path):
    """UUIDs that a test or an activity made up are holes; those of `ctx.uuid4` must stay."""

    @workflow
    async def shop(ctx, key: str) -> list[str]:
        await pay(ctx, key)
        await pay(ctx, f"{ctx.instance_id}/{key}")
        made = str(ctx.uuid4())
        await pay(ctx, made)
        return [key, made]

    for _ in range(2):
        with Simulation() as sim:
            sim.start(shop, key=str(uuid.uuid4()))
            sim.golden("one", directory=tmp_path, update=not at(tmp_path, "one", "shop").exists())
    text = at(tmp_path, "one", "shop").read_text()
    assert '"id-1": "00000000-0000-4000-8000-000000000002"' in text
    assert '{"order_id": "${instance}/${id-1}"}' in text
    history = read(at(tmp_path, "one", "shop"))
    made = str(json.loads(history.events[-1].outcome.value)[1])
    assert uuid.UUID(made).version == 4
    assert made in text
    assert replay(shop, history).problem is None
    edit(at(tmp_path, "one", "shop"), made, str(uuid.uuid4()))
    assert "other arguments" in replay(shop, read(at(tmp_path, "one", "shop"))).problem


def test_what_is_computed_of_an_id_replays_from_the_file(tmp_path):
    """A hash or a seed made of a generated id needs the id itself: no stand-in takes its place."""

    @workflow
    async def keyed(ctx, key: str) -> float:
        await pay(ctx, str(uuid.uuid5(uuid.NAMESPACE_URL, ctx.instance_id)))
        await pay(ctx, hashlib.sha256(key.encode()).hexdigest())
        return random.Random(ctx.instance_id).random()

    def record(**options):
        with Simulation() as sim:
            run = sim.start(keyed, key=key)
            sim.golden("one", directory=tmp_path, **options)
        return run

    key = str(uuid.uuid4())
    run = record(update=True)
    path = at(tmp_path, "one", "keyed")
    assert (read(path).instance, replay(keyed, read(path)).problem) == (run.id, None)
    assert f'"instance": "{run.id}"' in path.read_text()
    assert '"instance": "${instance}"' in path.read_text()
    # A file of before that has a stand-in fits the run; an update mends it.
    edit(path, run.id, "keyed-00000000000000000000000000000001")
    record()
    assert "other arguments" in replay(keyed, read(path)).problem
    record(update=True)
    assert replay(keyed, read(path)).problem is None


def test_an_instance_id_of_the_tests_own_is_written_as_it_is(tmp_path):
    """An id that was given is no generated one."""
    play(order, tmp_path, update=True, instance_id="order-7")
    assert read(at(tmp_path)).instance == "order-7"
    assert '"bindings"' not in at(tmp_path).read_text()


def test_tracebacks_and_lines_are_left_out(tmp_path):
    """What names lines of source is not in the file, and a failure still replays as one."""

    @workflow
    async def failing(ctx) -> None:
        await refuse(ctx, "no")

    with Simulation() as sim:
        sim.start(failing)
        sim.golden("one", directory=tmp_path, update=True)
    path = at(tmp_path, "one", "failing")
    text = path.read_text()
    assert "refused: no" in text
    assert '"traceback"' not in text
    assert ".py" not in text
    assert "It was raised at" not in text
    assert replay(failing, read(path)).problem is None


def test_a_set_may_come_out_in_another_order(tmp_path):
    """The order of a set in arguments and results is no difference; another member is one."""

    @workflow
    async def tags(ctx) -> set[str]:
        return await tag(ctx, {"a", "b", "c"})

    with Simulation() as sim:
        sim.start(tags)
        sim.golden("one", directory=tmp_path, update=True)
    path = at(tmp_path, "one", "tags")
    document = json.loads(path.read_text())
    for event in document["events"]:
        if isinstance(event["payload"], list):
            event["payload"].reverse()
        elif "words" in event["payload"]:
            event["payload"]["words"].reverse()
    path.write_text(layout(document))
    with Simulation() as sim:
        sim.start(tags)
        sim.golden("one", directory=tmp_path)
    edit(path, '"c"', '"d"')
    with Simulation() as sim:
        sim.start(tags)
        with pytest.raises(GoldenMismatch, match="other arguments"):
            sim.golden("one", directory=tmp_path)


# ---- Holes that people write -------------------------------------------------------------------


def test_any_fits_whatever_the_code_asks(tmp_path):
    """`${any}` in an ask fits any value, compared or replayed, and survives an update."""
    play(order, tmp_path, update=True)
    edit(
        at(tmp_path),
        '"id": "pay:1", "name": "pay",\n      "payload": {"order_id": "ORD-1"}',
        ('"id": "pay:1", "name": "pay",\n      "payload": {"order_id": "${any}"}'),
    )
    play(order, tmp_path)
    assert replay(order, read(at(tmp_path))).problem is None
    play(order_step_first, tmp_path, update=True)
    assert '"payload": {"order_id": "${any}"}' in at(tmp_path).read_text()
    assert '"name": "tag"' in at(tmp_path).read_text()


@workflow
async def twice(ctx, one: str, other: str) -> str:
    await pay(ctx, one)
    await pay(ctx, other)
    return one


def golden_of_twice(folder):
    with Simulation() as sim:
        sim.start(twice, one="left", other="right", instance_id="t")
        sim.golden("one", directory=folder, update=True)
    return at(folder, "one", "twice")


def test_a_named_hole_is_the_same_everywhere(tmp_path):
    """`${name}` stands for one value in all that the code asks, also inside of strings."""
    path = golden_of_twice(tmp_path)
    text = path.read_text()
    asked = '"payload": {"order_id": "left"}'
    path.write_text(
        text.replace(asked, '"payload": {"order_id": "${x}ft"}').replace(
            '"payload": "left"', '"payload": "${x}f${any}"'
        )
    )
    assert replay(twice, read(path)).problem is None
    path.write_text(
        text.replace(asked, '"payload": {"order_id": "${x}"}').replace(
            '{"order_id": "right"}', '{"order_id": "${x}"}'
        )
    )
    assert "other arguments" in replay(twice, read(path)).problem


def test_a_hole_in_an_answer_needs_a_value(tmp_path):
    """What the workflow is told must be known: an unbound name there is an error with the cure."""
    path = golden_of_twice(tmp_path)
    edit(path, '"receipt": "R-left"', '"receipt": "${receipt}"')
    with pytest.raises(HistoryFormatError, match=r'\$\{receipt\}, which has no value.*"bindings"'):
        read(path)
    edit(path, '"start"', '"bindings": {"receipt": 12.5}, "start"')
    answer = next(e for e in read(path).events if isinstance(e, Answered))
    assert answer.outcome == Result('{"receipt":12.5}')  # a number stays one


def test_a_failure_may_have_holes(tmp_path):
    """`${any}` in the message of a failed run fits what the code fails with."""

    @workflow(allow=["hash"])
    async def failing(ctx) -> None:
        raise ValueError(f"object at {id(ctx):#x}")

    with Simulation(replay=False) as sim:
        sim.start(failing, instance_id="f")
        sim.golden("one", directory=tmp_path, update=True)
    path = at(tmp_path, "one", "failing")
    assert "came out differently" in replay(failing, read(path)).problem
    document = json.loads(path.read_text())
    document["events"][-1]["payload"] |= {"message": "object at ${any}", "args": "${any}"}
    path.write_text(layout(document))
    assert replay(failing, read(path)).problem is None


def test_text_that_looks_like_a_hole_is_none(tmp_path):
    """A literal `${any}` in data is escaped in the file and comes back as it was."""
    with Simulation() as sim:
        sim.start(twice, one="${any}", other="$${x}", instance_id="t")
        sim.golden("one", directory=tmp_path, update=True)
        sim.golden("one", directory=tmp_path)
        events = sim.runs[0].history
    history = read(at(tmp_path, "one", "twice"))
    assert [e.ask.arguments for e in history.events if isinstance(e, Asked)] == [
        e.ask.arguments for e in events if isinstance(e, Asked)
    ]
    assert replay(twice, history).problem is None


# ---- Misuse ------------------------------------------------------------------------------------


def test_which_run_is_meant_must_be_clear(tmp_path):
    """With several runs, or none, `golden` wants `run=` and names those there are."""
    with Simulation() as sim:
        with pytest.raises(Misuse, match="there are 0: none"):
            sim.golden("x", directory=tmp_path)
        sim.start(order, order_id="1", instance_id="a")
        second = sim.start(order, order_id="2", instance_id="b")
        with pytest.raises(Misuse, match="there are 2: order 'a', order 'b'"):
            sim.golden("x", directory=tmp_path)
        sim.golden("x", run=second, directory=tmp_path, update=True)
    assert read(at(tmp_path, "x")).instance == "b"


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", 'x"'])
def test_a_name_is_a_file_name(name, tmp_path):
    """A name that would leave the folder, or is none, is refused."""
    with Simulation() as sim:
        sim.start(order, order_id="1")
        with pytest.raises(Misuse, match="names a file"):
            sim.golden(name, directory=tmp_path)


def test_two_different_runs_cannot_share_a_file(tmp_path):
    """Writing two different runs under one name in one session is an error, not a coin toss."""
    seen = {}
    from edda_testkit.golden import Goldens, check_golden

    goldens = Goldens(tmp_path, True, seen)
    with Simulation() as sim:
        first = sim.start(twice, one="a", other="b")
        second = sim.start(twice, one="b", other="a")
        check_golden(goldens, "one", twice, first.id, first.history)
        with pytest.raises(Misuse, match="Two different runs"):
            check_golden(goldens, "one", twice, second.id, second.history)


def test_a_folder_is_needed_without_a_test(tmp_path, monkeypatch):
    """A simulation outside of any test is told to give the folder."""
    from edda_testkit.session import current_session

    monkeypatch.chdir(tmp_path)
    token = current_session.set(None)
    try:
        with Simulation() as sim:
            sim.start(order, order_id="1")
            with pytest.raises(Misuse, match="directory="):
                sim.golden("x")
    finally:
        current_session.reset(token)


def test_an_async_simulation_has_golden_histories_too(tmp_path):
    """`AsyncSimulation.golden` is the same, and needs no await."""

    async def body():
        async with AsyncSimulation() as sim:
            await sim.start(order, order_id="ORD-1")
            await sim.advance(hours=25)
            await sim.send("paid", {"by": "card"})
            sim.golden("paid", directory=tmp_path, update=True)

    asyncio.run(body())
    assert at(tmp_path).read_text() == PAID.replace("MODULE", order.fn.__module__)


# ---- Reading, whatever is in the file ----------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def a_history():
    with Simulation() as sim:
        run = sim.start(order, order_id="ORD-1")
        sim.advance(hours=25)
        sim.send("paid", {"by": "card"})
        return run.id, run.history


INSTANCE, EVENTS = a_history()


@given(JSON, JSON)
def test_every_payload_survives_the_file(argument, result):
    """What is written is read back as the same events, whatever the payloads hold."""
    start, asked, answered = EVENTS[:3]
    text, value = (
        json.dumps(v, separators=(",", ":"), ensure_ascii=False) for v in (argument, result)
    )
    events = [
        start,
        Asked(1, asked.at, ActivityAsk("pay:1", "pay", text, "event 1")),
        Answered(2, answered.at, "pay:1", "pay", "activity", Result(value)),
    ]
    document = json.loads(layout(as_golden("x", "m:f", "i", events)))
    instance, back = events_of(document)
    assert instance == "i"
    bound = set(document.get("bindings", ()))
    assert bound or back == events
    assert fits(document, document)


DEEP = (
    b'{"format": "edda-golden/1", "workflow": "m:f", "instance": "i", '
    b'"start": "2000-01-01T00:00:00Z", "events": [{"kind": "workflow_started", '
    b'"at": "+0:00:00", "name": "order", "seed": 1, "payload": %s%s}]}'
)

MUTATIONS = st.tuples(
    st.sampled_from(["format", "instance", "start", "bindings", "workflow", "events"])
    | st.tuples(
        st.integers(0, len(EVENTS) - 1),
        st.sampled_from(
            "kind at id name seed payload deadline timeout_seconds message attempts seq".split()
        ),
    ),
    JSON | st.integers(-(10**40), 10**40) | st.just("+99999999d 0:00:00") | st.just("${x}"),
)


@pytest.mark.parametrize("kind", ["golden", "exported"])
@given(mutation=MUTATIONS)
def test_a_mangled_history_is_refused_or_replayed(kind, mutation, tmp_path_factory):
    """Whatever is put in place of a field: the reader refuses it, or a verdict comes out."""
    where, value = mutation
    document = (
        as_golden("x", order.reference, INSTANCE, EVENTS)
        if kind == "golden"
        else as_document(INSTANCE, EVENTS)
    )
    if isinstance(where, str):
        document[where] = value
    else:
        document["events"][where[0]][where[1]] = value
    path = tmp_path_factory.getbasetemp() / f"mangled-{kind}.json"
    path.write_text(json.dumps(document))
    try:
        history = read(path)
    except HistoryFormatError:
        return
    assert isinstance(replay(order, history), Verdict)


@given(JSON)
def test_any_json_is_refused_in_a_sentence(value):
    """JSON that is no history is refused, and never crashes the reader."""
    from pathlib import Path

    from edda_testkit.histories import recorded

    with pytest.raises(HistoryFormatError):
        recorded(Path("x.json"), "", value)


NESTED = st.integers(1, 20_000).map(lambda deep: DEEP % (b"[" * deep, b"]" * deep))


@given(content=st.binary(max_size=200) | NESTED)
def test_any_bytes_are_refused_in_a_sentence(content, tmp_path_factory):
    """Whatever bytes a file holds, also deep nesting inside of a history, it is refused."""
    path = tmp_path_factory.getbasetemp() / "bytes.json"
    path.write_bytes(content)
    try:
        history = read(path)
    except HistoryFormatError:
        return
    assert isinstance(replay(order, history), Verdict)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "It is not UTF-8"),
        (b"{", "It is not JSON"),
        (b"", "It is not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"format": "edda-history/2", "events": []}', "expected a JSON object with"),
        (b'{"format": "edda-history/1", "events": []}', "expected a list of them"),
        (b'{"format": "edda-golden/1", "events": {}}', 'has a list of "events"'),
        (b'{"format": "edda-golden/1", "events": [], "instance": "x", "start": "now"}', "instant"),
        (b'{"format": "edda-history/1", "events": [' + b"9" * 5000 + b"]}", "It is not JSON"),
    ],
)
def test_a_file_that_is_no_history_is_refused(content, said, tmp_path):
    """Each way of being unreadable has its sentence."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(HistoryFormatError, match=said):
        read(path)


def test_a_folder_is_no_history(tmp_path):
    """A directory, and a file that is not there, are refused like any unreadable file."""
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(HistoryFormatError, match="cannot be opened"):
            read(path)


def changed(index, **fields):
    document = as_document(INSTANCE, EVENTS)
    document["events"][index] |= fields
    return document


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (changed(1, seq=0), "Event 1 cannot be read: its seq is 0 where 1 is expected"),
        (changed(2, seq=9), "its seq is 9 where 2 is expected"),
        (changed(1, name=5), "name must be str, and is int"),
        (changed(0, seed="x"), "seed must be int, and is str"),
        (changed(0, seed=True), "seed must be int, and is bool"),
        (changed(3, timeout_seconds="5"), "timeout_seconds must be float or NoneType"),
        (changed(3, on_invalid="maybe"), "on_invalid must be"),
        (changed(4, message=[1]), "message must be int or NoneType, and is list"),
        (changed(2, kind=["a"]), "Event 2 cannot be read"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(document, said, tmp_path):
    """Numbers out of order and values of a wrong type are refused, naming event and field."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    with pytest.raises(HistoryFormatError) as caught:
        read(path)
    assert said in str(caught.value)


def test_a_second_start_is_refused(tmp_path):
    """A history that starts twice is none."""
    document = as_document(INSTANCE, EVENTS)
    document["events"][1] = document["events"][0] | {"seq": 1}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    with pytest.raises(HistoryFormatError, match="more than one workflow_started"):
        read(path)


def test_an_exported_history_imports_nothing(tmp_path):
    """An exported document cannot name a module; only a golden file may."""
    document = as_document(INSTANCE, EVENTS) | {"workflow": "antigravity:order"}
    document["events"][0]["name"] = "nobody"
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    history = read(path)
    assert history.reference is None
    with pytest.raises(LookupError, match="No workflow is called 'nobody'"):
        find_workflow(history, None)


def test_a_finished_result_is_compared_by_value():
    """`1e-7` is the same result as `1e-07`: JSON has more than one text for a value."""

    @workflow
    async def small(ctx) -> float:
        return 1e-7

    with Simulation() as sim:
        run = sim.start(small)
        events = run.history
    last = events[-1]
    assert isinstance(last, Finished)
    machine = Machine(small.program(run.id))
    machine.replay([*events[:-1], Finished(last.seq, last.at, Result("1e-07"))])
    machine.close()
    machine = Machine(small.program(run.id))
    with pytest.raises(NonDeterminismError, match="came out differently"):
        machine.replay([*events[:-1], Finished(last.seq, last.at, Result("2e-07"))])
    machine.close()


def test_an_outcome_of_another_kind_is_a_departure():
    """Code that completes where its history failed, or the other way round, has changed."""

    @workflow(name="ends")
    async def completes(ctx) -> None: ...

    @workflow(name="ends")
    async def fails(ctx) -> None:
        raise ValueError("no")

    with Simulation() as sim:
        first = sim.start(completes)
        recorded_run = first.history
    machine = Machine(fails.program(first.id))
    with pytest.raises(NonDeterminismError, match="workflow completed"):
        machine.replay(recorded_run)
    machine.close()
