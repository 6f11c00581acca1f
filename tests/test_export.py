"""Histories out of a database: which are chosen, where they go, and what is left of secrets."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda import EddaApp, workflow
from edda.cli import main
from edda.errors import ArgumentError
from edda.export import as_since, as_text, redacted, write
from edda.targets import Trouble

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


def document(*payloads, instance="i", step="charge"):
    events = [
        {"seq": n, "kind": "activity_scheduled", "at": "t", "id": f"{step}:{n}", "name": step}
        | {"payload": payload, "digest": "d"}
        for n, payload in enumerate(payloads)
    ]
    return {"format": "edda-history/1", "instance": instance, "events": events}


def payloads(document):
    return [event["payload"] for event in document["events"]]


# ---- Redaction ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("number", ["top", "deep", "listed"]),
        ("card.number", ["deep"]),
        ("*.number", ["top", "deep", "listed"]),
        ("charge.number", ["top"]),
        ("cards.*.number", ["listed"]),
        ("cards.0.number", ["listed"]),
        ("card", ["deep", "kept-owner"]),
        ("nothing", []),
    ],
)
def test_a_path_counts_from_its_end(path, hidden):
    """A path names a key at any depth; `*` is one name; what lies below goes with it."""
    secrets = {"top": "secret-top", "deep": "secret-deep", "listed": "secret-listed"}
    given_ = {
        "number": secrets["top"],
        "card": {"number": secrets["deep"], "owner": "kept-owner"},
        "cards": [{"number": secrets["listed"]}],
    }
    text = json.dumps(redacted(document(given_), [path]))
    for name in ("top", "deep", "listed"):
        assert (secrets[name] in text) == (name not in hidden)
    assert ("kept-owner" in text) == ("kept-owner" not in hidden)


def test_a_value_is_hidden_wherever_it_is():
    """Arguments, results, messages, ids and the instance: equal values get equal placeholders."""
    secret = "4000-1234"
    found = redacted(
        document({"card": secret}, {"note": f"for {secret}!"}, [secret], instance=f"o-{secret}"),
        ["card"],
    )
    assert payloads(found) == [{"card": "redacted-1"}, {"note": "for redacted-1!"}, ["redacted-1"]]
    assert found["instance"] == "o-redacted-1"
    assert "digest" not in found["events"][0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("word", "redacted-1"),
        ("4000123412341234", "0000000000000001"),
        ("me@shop.example", "redacted-1@example.invalid"),
        ("3f2c1b7e-9d1a-4c55-8f00-aa11bb22cc33", "00000000-0000-4000-8000-000000000001"),
        ("1980-05-17", "2000-01-01"),
        ("1980-05-17T10:00:00", "2000-01-01T00:00:00"),
        ("1980-05-17T10:00:00.5+02:00", "2000-01-01T00:00:00Z"),
        ("https://shop.example/me", "https://redacted-1.example.invalid/"),
        (12.5, 1.0),
        (12, 1),
        (True, True),
        (None, None),
        ("", ""),
        (["one", 2], ["redacted-1", 1]),
        ({"k": "one"}, {"k": "redacted-1"}),
    ],
)
def test_a_placeholder_has_the_type_of_its_value(value, shown):
    """Numbers stay numbers, and strings that a type would check stay of their shape."""
    (found,) = payloads(redacted(document({"secret": value}), ["secret"]))
    assert found == {"secret": shown}
    assert type(found["secret"]) is type(shown)


def test_small_numbers_and_short_words_are_hidden_at_their_key_only():
    """A 5 elsewhere says something else; a long number is hidden wherever it is."""
    (found,) = payloads(
        redacted(document({"pin": 5, "n": 5, "id": "ab", "word": "ab", "x": {"id": "ab"}}), ["pin"])
    )
    assert found == {"pin": 1, "n": 5, "id": "ab", "word": "ab", "x": {"id": "ab"}}
    (found,) = payloads(
        redacted(document({"card": 400012, "n": 400012, "s": "is 400012"}), ["card"])
    )
    assert found == {"card": 1, "n": 1, "s": "is 1"}


def test_without_paths_nothing_is_changed():
    """No `--redact`, no change."""
    one = document({"a": 1})
    assert redacted(one, []) is one


@pytest.mark.parametrize("path", ["", ".", "a..b", "a."])
def test_a_path_that_is_none_is_refused(path):
    """An empty part in a path is an error that shows what one looks like."""
    with pytest.raises(ArgumentError, match=r"a dotted path like card\.number"):
        redacted(document({}), [path])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_no_redacted_string_is_left(value):
    """Whatever lies under a redacted key, none of its longer strings is anywhere after."""
    found = redacted(document({"secret": value}, {"copy": value}), ["secret"])
    text = {leaf for leaf in leaves(payloads(found)) if isinstance(leaf, str)}
    for leaf in leaves(value):
        if isinstance(leaf, str) and len(leaf) >= 4 and not leaf.startswith("redacted"):
            assert not any(leaf in one for one in text if not one.startswith(("0", "2000", "http")))


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from leaves(one)
    else:
        yield value


# ---- Which, and where to -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
        ("2030-01-01", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01T10:00:00Z", datetime(2030, 1, 1, 10, tzinfo=UTC)),
    ],
)
def test_since_is_an_age_or_an_instant(text, instant):
    """`--since` takes 90m, 7d, a date, or an instant; without a zone it is UTC."""
    assert as_since(text, NOW) == instant


@pytest.mark.parametrize("text", ["", "7", "d", "yesterday", "999999w", "2030-13-01", "-1d"])
def test_since_that_is_no_time_is_refused(text):
    """Anything else is an error with examples."""
    with pytest.raises(ArgumentError, match="expected 24h, 7d or 2030-01-31T12:00:00Z"):
        as_since(text, NOW)


@pytest.mark.parametrize(
    "instance", ["../../up", "/etc/x", "..", ".", "a/b", "a\\b", "ü", "x" * 300]
)
def test_no_instance_id_leaves_the_folder(instance, tmp_path):
    """Whatever an instance is called, its file lies in the folder of its workflow."""
    path = write(tmp_path, "../flow", document({}, instance=instance))
    assert path.resolve().parent.parent == tmp_path.resolve()
    assert json.loads(path.read_text())["instance"] == instance


def test_two_ids_never_share_a_file(tmp_path):
    """Ids that look alike once made plain still have files of their own."""
    paths = {write(tmp_path, "w", document({}, instance=one)) for one in ("a/b", "a_b", "a\\b")}
    assert len(paths) == 3


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    """Where no file can be made the command ends with 1 and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Trouble, match="cannot be written"):
        write(tmp_path / "file", "w", document({}))


def test_a_document_has_one_event_a_line():
    """The text is JSON, one event a line, ASCII also for half a surrogate pair."""
    text = as_text(document({"a": "\ud800"}, {"b": "ü"}))
    assert json.loads(text) == document({"a": "\ud800"}, {"b": "ü"})
    assert len([line for line in text.splitlines() if line.startswith("    {")]) == 2
    assert text.isascii()


@workflow
async def export_one(ctx, email: str) -> str:
    return email


@workflow
async def export_other(ctx) -> None:
    raise ValueError("no")


@pytest.fixture
def edda(tmp_path, monkeypatch, capsys):
    """Runs `edda history export` on a database of three instances."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDDA_APP", raising=False)
    monkeypatch.setenv("EDDA_DB_URL", "sqlite:///shop.db")

    async def fill():
        async with EddaApp("x", "sqlite:///shop.db", workflows=[export_one, export_other]) as app:
            for id in ("a", "b"):
                await app.start(export_one, f"{id}@shop.example", instance_id=id)
                await app.result(id, timeout=10)
            await app.start(export_other, instance_id="c")
            async with asyncio.timeout(10):
                while await app.status("c") != "failed":
                    await asyncio.sleep(0.005)

    asyncio.run(fill())

    def run(*arguments):
        try:
            code = main(["history", "export", *arguments])
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--workflow", "export_one"], ["export_one/a.json", "export_one/b.json"]),
        (["--status", "failed"], ["export_other/c.json"]),
        (["--since", "1h", "--status", "completed"], ["export_one/a.json", "export_one/b.json"]),
        (["--since", "2999-01-01"], []),
        (["a"], ["export_one/a.json"]),
    ],
)
def test_histories_are_chosen_and_written(edda, arguments, expected, tmp_path, monkeypatch):
    """`--status`, `--workflow`, `--since` or an id choose; each history is a file."""
    monkeypatch.setattr("edda.export.PAGE", 1)  # three instances are three pages
    code, out, err = edda(*arguments, "--output", "out")
    assert (code, out) == (0, "")
    assert err == f"edda: histories written to out: {len(expected)}\n"
    assert files(tmp_path / "out") == expected


def test_one_history_is_printed_redacted(edda):
    """Without `--output` one history goes to stdout."""
    code, out, _ = edda("a", "--redact", "email")
    assert code == 0
    assert "a@shop.example" not in out
    assert json.loads(out)["events"][0]["payload"] == {"email": "redacted-1@example.invalid"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Which histories?"),
        (["a", "--status", "failed"], "Which histories?"),
        (["--status", "failed"], "give --output DIR"),
        (["--since", "soon", "--output", "x"], "expected 24h, 7d"),
        (["a", "--redact", "a..b"], "expected a dotted path"),
    ],
)
def test_an_export_of_nothing_clear_is_usage(edda, arguments, said):
    """A command line that does not say which, where to or what ends with 2 and the cure."""
    code, out, err = edda(*arguments)
    assert (code, out) == (2, "")
    assert said in err
