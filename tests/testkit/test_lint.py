"""The lint: what it finds, what it leaves alone, what it says it cannot know, and its edges.

The planted and the clean workflows are in `tests/data/lint_*.txt`, in a form that people can read
and add to.
"""

import ast
import gc
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edda.cli import main
from edda_testkit.lint import lint
from edda_testkit.lint_report import as_json, as_sarif, as_text
from edda_testkit.lint_rules import CATEGORIES, LINT_ONLY, RULES

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"

HEAD = """\
from edda import WorkflowContext, activity, wait_event, workflow

@activity
async def act(ctx: WorkflowContext, value: object = None) -> int:
    return 1

"""


def corpus(name):
    """The entries of a file: id, code, module."""
    for entry in (DATA / name).read_text("utf-8").split("\n== ")[1:]:
        title, _, text = entry.partition("\n")
        id, _, code = title.partition(" ")
        yield pytest.param(code, as_module(text.strip("\n")), id=id)


def as_module(text):
    """A module with a workflow in it, made from an entry that may be only the body of one."""
    if "@workflow" in text or ".workflow" in text or "@flow" in text:
        return f"{HEAD}{text}\n"
    lines = text.splitlines()
    top = [line for line in lines if line.startswith(("import ", "from "))]
    body = "\n".join(line for line in lines if line not in top)
    signature = "@workflow\nasync def flow(ctx: WorkflowContext, order_id: str):"
    return "\n".join([HEAD, *top, "", signature, textwrap.indent(body, "    "), ""])


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(place):
    """Writes modules below the working directory and lints it; the options are lint's."""

    def run(paths=(".",), **options):
        return lint(paths, **options)

    def write(modules):
        for name, text in modules.items():
            file = place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
            file.write_bytes(data)
        return run

    return write


def found(report):
    return [(one.rule.code, one.place.file, one.place.line) for one in report.findings]


def codes(report):
    return [one.rule.code for one in report.findings]


FLOW = """
from edda import workflow
from .helpers import price

@workflow
async def order(ctx):
    return await price(ctx)
"""

# ---- What is found, and what is left alone ---------------------------------------------------


@pytest.mark.parametrize(("code", "text"), list(corpus("lint_plants.txt")))
def test_finds_what_is_planted(project, code, text):
    """Every planted nondeterminism is found, with its code and its line, and nothing else is."""
    report = project({"flows.py": text})()
    marked = [n for n, line in enumerate(text.splitlines(), 1) if "# <-" in line]
    assert marked
    assert {(one.rule.code, one.place.line) for one in report.findings} == {
        (code, line) for line in marked
    }


@pytest.mark.parametrize(("code", "text"), list(corpus("lint_clean.txt")))
def test_leaves_clean_code_alone(project, code, text):
    """Workflows that look as if, and are deterministic, give no finding and are all read."""
    report = project({"flows.py": text})()
    assert report.findings == ()
    assert report.workflows > 0


def test_every_error_has_a_plant():
    """Each rule that is no note is held by at least one planted workflow."""
    held = {param.values[0] for param in corpus("lint_plants.txt")}
    assert {code for code, rule in RULES.items() if rule.severity != "note"} - held == {"EDL804"}


def test_the_table_of_rules_is_well_formed():
    """Codes are EDL and three digits, and each names a known category and a cure."""
    for code, rule in RULES.items():
        assert code == rule.code
        assert code.startswith("EDL")
        assert code[3:].isdigit()
        assert len(code) == 6
        assert rule.category in (*CATEGORIES, *LINT_ONLY)
        assert rule.cure


def test_every_code_is_in_the_documentation():
    """The table of docs/lint.md has a row for each rule, with its words and its cure."""
    page = (ROOT / "docs" / "lint.md").read_text("utf-8")
    for rule in RULES.values():
        severity = "" if rule.severity == "error" else f" ({rule.severity})"
        assert f"| {rule.code} | {rule.category} | {rule.title}{severity} | {rule.cure} |" in page


def test_a_value_of_a_hash_at_import_is_found(project):
    """A global made from hash() when the module was imported is found where it is read."""
    text = """
    from edda import workflow
    SHARD = hash("orders") % 8

    @workflow
    async def order(ctx):
        return SHARD
    """
    assert found(project({"flows.py": text})()) == [("EDL804", "flows.py", 7)]


# ---- Across modules --------------------------------------------------------------------------

SHOP = {
    "shop/__init__.py": "from .flows.orders import order as shop_order\n",
    "shop/flows/__init__.py": "",
    "shop/flows/orders.py": """
        from edda import workflow
        from shop import pricing
        from ..util import stamp, api
        from ..util.api import label as make_label

        @workflow
        async def order(ctx):
            a = stamp()
            b = pricing.quote(3)
            c = api.label(2)
            d = make_label(1)
            return a, b, c, d
        """,
    "shop/util/__init__.py": "from .times import *\nfrom . import api\n",
    "shop/util/times.py": """
        import time as _clock
        __all__ = ["stamp"]

        def stamp():
            return _clock.time()
        """,
    "shop/util/api.py": """
        from random import choice
        def label(n):
            return choice("abc") * n
        """,
    "shop/pricing.py": """
        import shop.util.times

        class Quote:
            def __init__(self, amount):
                self.amount = amount

            def priced_at(self):
                return shop.util.times.stamp()

        def quote(amount):
            return Quote(amount).priced_at()

        def unused():
            import uuid
            return uuid.uuid4()
        """,
}


def test_follows_helpers_through_a_package(project):
    """Relative imports, re-exports, star imports, submodules and methods are followed."""
    report = project(SHOP)()
    assert found(report) == [
        ("EDL201", "shop/util/api.py", 4),
        ("EDL101", "shop/util/times.py", 6),
    ]
    assert report.gaps == ()


def test_a_finding_shows_the_way_down(project):
    """A finding carries each call from the workflow to the line; the shortest way is shown."""
    report = project(SHOP)()
    label, stamp = report.findings
    assert [(site.file, site.line, site.function) for site in stamp.chain] == [
        ("shop/flows/orders.py", 9, "order")
    ]
    assert stamp.place.function == "stamp"
    assert stamp.workflow == "order"
    assert stamp.place.text == "return _clock.time()"
    assert stamp.place.column == 12
    assert label.chain[0].text == "c = api.label(2)"


def test_a_long_way_down_is_shown_in_full(project):
    """Calls through three modules are all in the chain, in order."""
    report = project(
        {
            "a.py": "from edda import workflow\nimport b\n"
            "@workflow\nasync def w(ctx):\n    b.f()\n",
            "b.py": "import c\ndef f():\n    return c.g()\n",
            "c.py": "import time\ndef g():\n    return h()\ndef h():\n    return time.time()\n",
        }
    )()
    [finding] = report.findings
    assert [(s.file, s.line, s.function) for s in finding.chain] == [
        ("a.py", 5, "w"),
        ("b.py", 3, "f"),
        ("c.py", 3, "g"),
    ]
    text = as_text(report)
    assert "c.py:5:12: EDL101 clock: time.time() reads the wall clock" in text
    assert "workflow w, a.py:5:5: b.f()" in text
    assert "which calls f, b.py:3:12: return c.g()" in text
    assert "instead: ctx.now()" in text


def test_one_file_brings_the_helpers_of_its_package(project):
    """Linting one file follows its imports to files that were not named."""
    modules = {"shop/__init__.py": "", "shop/flows.py": FLOW}
    modules["shop/helpers.py"] = "import time\nasync def price(ctx):\n    return time.time()\n"
    report = project(modules)(["shop/flows.py"])
    assert found(report) == [("EDL101", "shop/helpers.py", 3)]
    assert report.files == 1


@pytest.mark.parametrize("folder", ["src/shop", "shop", "deep/down/shop"])
def test_packages_are_found_wherever_they_are(project, folder):
    """Absolute imports work from `src`, from the root, and for folders without __init__."""
    modules = {
        f"{folder}/__init__.py": "",
        f"{folder}/flows.py": FLOW.replace("from .helpers", "from shop.helpers"),
        f"{folder}/helpers.py": "import time\ndef price(ctx):\n    return time.time()\n",
    }
    assert codes(project(modules)()) == ["EDL101"]


def test_a_module_named_like_the_standard_library_is_not_taken_for_it(project):
    """`import time` in a package that has a module of that name means the standard library."""
    modules = {
        "shop/__init__.py": "",
        "shop/time.py": "def time():\n    return 5\n",
        "shop/flows.py": """
            import time
            from . import time as ours
            from edda import workflow
            @workflow
            async def order(ctx):
                ours.time()
                return time.time()
            """,
    }
    assert found(project(modules)()) == [("EDL101", "shop/flows.py", 8)]


def test_imports_in_a_circle_come_to_an_end(project):
    """Modules that import each other, and names that lead to themselves, are no trouble."""
    modules = {
        "a.py": "from b import thing\nfrom a import again\nagain = again\n",
        "b.py": "from a import thing\nfrom edda import workflow\n"
        "@workflow\nasync def w(ctx):\n    return thing(), w\n",
    }
    assert codes(project(modules)()) == []


def test_a_workflow_decorator_can_be_renamed_on_its_way(project):
    """A decorator that another module re-exports under another name is known."""
    modules = {
        "kit.py": "from edda import workflow as durable\n",
        "flows.py": "import time\nfrom kit import durable\n@durable\nasync def w(ctx):\n"
        "    time.time()\n",
    }
    assert found(project(modules)()) == [("EDL101", "flows.py", 5)]


# ---- Allowing --------------------------------------------------------------------------------


def one_line(line, helper="    return 1"):
    head = f"import time, random\nfrom edda import workflow\ndef helper():\n{helper}\n\n"
    return f"{head}@workflow\nasync def w(ctx):\n    {line}\n"


@pytest.mark.parametrize(
    "line",
    [
        "time.time()  # edda: allow[clock]",
        "time.time(), random.random()  # edda: allow[random, clock]",
        "time.time()  # noqa: X # edda:allow[clock]",
    ],
)
def test_a_comment_allows_a_line(project, line):
    """`# edda: allow[...]` on the line silences its categories."""
    assert project({"flows.py": one_line(line)})().findings == ()


def test_a_comment_on_the_call_allows_what_is_below(project):
    """A comment on a line of the chain silences what that call leads to, and only that."""
    text = one_line("helper()  # edda: allow[clock]\n    helper()", "    return time.time()")
    assert found(project({"flows.py": text})()) == [("EDL101", "flows.py", 4)]
    text = one_line("helper()  # edda: allow[clock]", "    return time.time()")
    assert project({"flows.py": text})().findings == ()


def test_a_comment_anywhere_on_a_statement_counts(project):
    """On a statement of several lines, a comment on any of them allows what is in it."""
    text = one_line("x = [\n        time.time(),\n        1,\n    ]  # edda: allow[clock]")
    assert project({"flows.py": text})().findings == ()


def test_another_category_is_not_allowed(project):
    """A comment silences the categories it names and no other; then it is of no use itself."""
    report = project({"flows.py": one_line("time.time()  # edda: allow[random]")})()
    assert codes(report) == ["EDL101", "EDL090"]


def test_the_decorator_allows_a_whole_workflow(project):
    """`@workflow(allow=[...])` silences its categories below this workflow."""
    text = one_line("return time.time(), random.random()")
    report = project({"flows.py": text.replace("@workflow", '@workflow(allow=["clock"])')})()
    assert codes(report) == ["EDL201"]


def test_an_allow_that_silences_nothing_is_a_note(project):
    """A useless allow, and one that names no category, are notes and do not fail."""
    text = one_line("return 1  # edda: allow[clock, watch]")
    report = project({"flows.py": text.replace("@workflow", '@workflow(allow=["files"])')})()
    assert codes(report) == ["EDL090", "EDL090", "EDL091"]
    assert report.is_clean


def test_an_allow_in_a_text_is_no_comment(project):
    """The words of an allow in a string allow nothing and are no note."""
    report = project({"flows.py": one_line("'# edda: allow[clock]'; time.time()")})()
    assert codes(report) == ["EDL101"]


def test_an_allow_where_a_global_is_made_covers_its_reading(project):
    """A value made at import that is allowed where it is made is not reported where it is read."""
    text = "import os\nfrom edda import workflow\nX = os.environ['X']  # edda: allow[environment]\n"
    text += "@workflow\nasync def w(ctx):\n    return X\n"
    assert project({"flows.py": text})().findings == ()


# ---- What is not analysed --------------------------------------------------------------------

GAPS = [
    ("getattr(ctx, name)", "getattr() with a name that is made at run time"),
    ("eval(name)", "eval() runs code that cannot be seen"),
    ("import importlib; importlib.import_module(name)", "import_module() runs code"),
    ("callback()", "callback() calls a value that is not known"),
    ("handlers[name](3)", "handlers[name]() calls what comes out of an expression"),
    ("client.fetch(3)", "client.fetch() is a method of client, whose class is not known"),
    ("import acme; acme.charge()", "acme.charge is outside the linted paths, and in no table"),
]


@pytest.mark.parametrize(("line", "reason"), GAPS)
def test_says_what_it_could_not_analyse(project, line, reason):
    """Dynamic code and unknown modules are listed with place and reason, and do not fail."""
    text = "from edda import workflow\n@workflow\nasync def w(ctx, name, callback, handlers, "
    text += f"client):\n    {line}\n"
    report = project({"flows.py": text})()
    [gap] = report.gaps
    assert reason in gap.reason
    assert gap.place.line == 4
    assert report.findings == ()


def test_a_parameter_that_is_known_is_no_gap(project):
    """A callback whose value every caller shows is followed, and not reported as unknown."""
    text = one_line("return apply(lambda: 5)").replace(
        "def helper()", "def apply(f): return f()\ndef helper()"
    )
    report = project({"flows.py": text})()
    assert report.gaps == ()
    assert report.findings == ()


def test_an_unknown_module_is_listed_once(project):
    """Calling a function of an unknown module ten times is one line, where it is called first."""
    text = "import acme\nfrom edda import workflow\n@workflow\nasync def w(ctx):\n"
    report = project({"flows.py": text + "    acme.charge()\n" * 10})()
    assert [gap.place.line for gap in report.gaps] == [5]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"def f(:\n", "syntax error"),
        (b"x = '\xff'\n", "syntax error"),
        (b"# coding: no-such-codec\n", "syntax error"),
        (b"x = 1\0\n", "syntax error"),
        (b"(" * 10_000, "syntax error"),
        (b"x = " + b"-" * 200_000 + b"1\n", "parsed"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named(project, data, reason):
    """Broken files are listed with the reason, and the others are linted all the same."""
    report = project({"bad.py": data, "flows.py": one_line("time.time()")})()
    assert codes(report) == ["EDL101"]
    [gap] = report.gaps
    assert gap.place.file == "bad.py"
    assert reason in gap.reason or "syntax error" in gap.reason or "parsed" in gap.reason


def test_a_broken_helper_does_not_hide_the_rest(project):
    """A workflow that imports a module with a syntax error is still read."""
    modules = {
        "broken.py": "def f(:\n",
        "flows.py": one_line("broken.f(); time.time()").replace(
            "import time", "import broken, time"
        ),
    }
    report = project(modules)()
    assert codes(report) == ["EDL101"]
    assert any("syntax error" in gap.reason for gap in report.gaps)


# ---- Files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "# coding: latin-1\n{}# é\n".encode("latin-1"),
        b"\xef\xbb\xbf{}",
        b"{}\x0c\n",
    ],
)
def test_encodings_are_those_of_python(project, data):
    """Coding comments, byte order marks and form feeds are read as Python reads them."""
    body = one_line("time.time()").encode()
    assert codes(project({"flows.py": data.replace(b"{}", body)})()) == ["EDL101"]


def test_windows_lines_are_counted_right(project):
    """Lines that end in CR LF have the numbers that editors show."""
    data = one_line("time.time()").replace("\n", "\r\n").encode()
    [finding] = project({"flows.py": data})().findings
    assert (finding.place.line, finding.place.text) == (8, "time.time()")


def test_columns_count_characters(project):
    """A column counts characters, not bytes, from one."""
    [finding] = project({"flows.py": one_line("x = 'äöü€𝔸'; time.time()")})().findings
    assert finding.place.column == len("    x = 'äöü€𝔸'; ") + 1


def test_links_that_go_in_circles_come_to_an_end(project, place):
    """Links to folders are not followed, a file is read once, and a link to itself is named."""
    run = project({"shop/flows.py": one_line("time.time()")})
    (place / "shop" / "again").symlink_to(place / "shop")
    (place / "shop" / "same.py").symlink_to(place / "shop" / "flows.py")
    (place / "shop" / "loop.py").symlink_to(place / "shop" / "loop.py")
    report = run()
    assert found(report) == [("EDL101", "shop/flows.py", 8)]
    assert len(report.gaps) <= 1


def test_environments_and_hidden_folders_are_skipped(project):
    """Virtual environments, hidden folders and caches below a linted folder are not read."""
    bad = one_line("time.time()")
    report = project(
        {
            "env/pyvenv.cfg": "",
            "env/lib/x.py": bad,
            ".tox/x.py": bad,
            "__pycache__/x.py": bad,
            "node_modules/x.py": bad,
            "good.py": "x = 1\n",
        }
    )()
    assert (report.files, report.findings) == (1, ())


def test_a_path_that_is_not_there_is_an_error(project):
    """A missing path is an error that names it."""
    with pytest.raises(FileNotFoundError, match="no-such"):
        project({})(["no-such"])


# ---- Robustness ------------------------------------------------------------------------------


def as_workflows(text):
    """A module whose every function is a workflow."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for part in ("body", "orelse", "finalbody"):
            block = getattr(node, part, None)
            if isinstance(block, list):
                block[:] = [_as_workflow(one) for one in block]
    return f"from edda import workflow\n{ast.unparse(ast.fix_missing_locations(tree))}\n"


def _as_workflow(node):
    if not isinstance(node, ast.FunctionDef):
        return node
    fields = dict(ast.iter_fields(node))
    fields["decorator_list"] = [*node.decorator_list, ast.Name("workflow", ast.Load())]
    return ast.AsyncFunctionDef(**fields)


LIBRARY = Path(ast.__file__).parent


@pytest.mark.parametrize(
    "name", ["argparse", "dataclasses", "enum", "inspect", "statistics", "typing"]
)
def test_reads_the_standard_library_without_a_crash(project, name):
    """Every function of a large module, taken for a workflow, is read to the end."""
    text = (LIBRARY / f"{name}.py").read_text("utf-8")
    report = project({"big.py": as_workflows(text)})()
    assert report.workflows > 0
    assert not any("nested too deeply" in gap.reason for gap in report.gaps)


names = st.sampled_from(["a", "b", "time", "ctx", "set", "self", "f"])


def statements_of(expressions):
    """Statements of every kind, over these expressions."""
    line = st.one_of(
        expressions,
        st.builds("{} = {}".format, names, expressions),
        st.builds("{}, *{} = {}".format, names, names, expressions),
        st.builds("{}.{} = {}".format, names, names, expressions),
        st.builds("{}[{}] += {}".format, names, expressions, expressions),
        st.builds("return {}".format, expressions),
        st.builds("del {}[{}]".format, names, names),
        st.builds("global g{}".format, names),
        st.builds("import time as {}".format, names),
        st.builds("raise {}".format, expressions),
    )
    compound = lambda inner: st.builds(  # noqa: E731
        lambda head, body: head + "\n" + textwrap.indent("\n".join(body), " "),
        st.one_of(
            st.builds("if {}:".format, expressions),
            st.builds("while {}:".format, expressions),
            st.builds("for {} in {}:".format, names, expressions),
            st.builds("async for {} in {}:".format, names, expressions),
            st.builds("async with {} as {}:".format, expressions, names),
            st.builds("@{}\ndef {}(x={}, *y, **z):".format, names, names, expressions),
            st.builds("class {}({}):".format, names, names),
            st.builds("match {}:\n case [*{}, _]:".format, expressions, names),
        ),
        st.lists(inner, min_size=1, max_size=3),
    )
    return st.recursive(line, compound, max_leaves=8)


expressions = st.recursive(
    st.one_of(names, st.sampled_from(["1", "'t'", "None", "{1}", "[]", "time.time"])),
    lambda inner: st.one_of(
        st.builds("({} + {})".format, inner, inner),
        st.builds("{}({})".format, inner, inner),
        st.builds("{}(*{}, k={})".format, names, inner, inner),
        st.builds("{}.{}".format, inner.filter(lambda text: not text.isdigit()), names),
        st.builds("({})[{}:]".format, inner, inner),
        st.builds("[{} for {} in {} if {}]".format, inner, names, inner, inner),
        st.builds("{{{}: {} for {} in {}}}".format, inner, inner, names, inner),
        st.builds("(lambda {}={}: {})".format, names, inner, inner),
        st.builds("(await {})".format, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("(({} := {}))".format, names, inner),
        st.builds("sorted({}, key={})".format, inner, inner),
        st.builds("(yield {})".format, inner),
    ),
    max_leaves=12,
)


@given(body=st.lists(statements_of(expressions), min_size=1, max_size=6))
def test_no_program_crashes_it(tmp_path_factory, body):
    """Whatever is valid Python is read without a crash, and gives the same report twice."""
    block = textwrap.indent("\n".join(body).replace("match ", "match "), "    ")
    text = f"import time\nfrom edda import workflow\n@workflow\nasync def w(ctx, a):\n{block}\n"
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return
    folder = tmp_path_factory.mktemp("any")
    (folder / "flows.py").write_text(text, "utf-8")
    report = lint([folder])
    assert report.workflows == 1
    assert as_json(report) == as_json(lint([folder]))
    as_text(report)
    as_sarif(report)


def test_deep_code_is_a_gap_and_no_crash(project):
    """An expression nested a thousand deep is read, or said not to have been."""
    text = one_line("x = " + "+".join(["time.time()"] * 3_000))
    report = project({"flows.py": text})()
    assert set(codes(report)) == {"EDL101"} or report.gaps


def test_it_leaves_the_interpreter_as_it_was(project):
    """The recursion limit and the garbage collector are as before, also after an error."""
    before = sys.getrecursionlimit(), gc.isenabled()
    project({"flows.py": one_line("time.time()")})()

    def interrupt(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lint(["."], progress=interrupt)
    assert (sys.getrecursionlimit(), gc.isenabled()) == before


def test_calls_without_end_come_to_an_end(project):
    """Recursion with ever new arguments, and closures that call themselves, end."""
    text = """
    import time, functools
    from edda import workflow
    def down(f):
        return down(functools.partial(f, f)) or time.time()
    def nest(x):
        return nest([x])
    def make(f):
        def inner():
            return make(inner)
        return inner()
    @workflow
    async def w(ctx):
        down(nest)
        nest(time.time)
        return make(w)
    """
    assert codes(project({"flows.py": text})()) == ["EDL101"]


# ---- Reports ---------------------------------------------------------------------------------


def test_json_is_for_scripts(project):
    """The JSON report has findings, gaps and counts."""
    report = project({"flows.py": one_line("time.time(); acme()", "    return 1")})()
    document = json.loads(as_json(report))
    assert document["format"] == "edda-lint/1"
    [finding] = document["findings"]
    assert finding == {
        "code": "EDL101",
        "category": "clock",
        "severity": "error",
        "file": "flows.py",
        "line": 8,
        "column": 5,
        "function": "w",
        "message": "time.time() reads the wall clock",
        "instead": "ctx.now()",
        "workflow": "w",
        "chain": [],
    }
    assert document["not_analysed"][0]["line"] == 8
    assert document["summary"] == {
        "files": 1,
        "workflows": 1,
        "findings": 1,
        "notes": 0,
        "not_analysed": 1,
    }


def test_sarif_has_what_the_standard_asks_for(project):
    """The SARIF log has the required properties, and every index and id in it fits."""
    modules = dict(SHOP) | {"shop/odd näme.py": one_line("callback(); time.time()")}
    log = json.loads(as_sarif(project(modules)(), "1.2.3"))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-2.1.0.json")
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("edda lint", "1.2.3")
    rules = driver["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules) == len(RULES)
    assert run["results"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"none", "note", "warning", "error"}
        assert result["message"]["text"]
        flows = [
            step["location"]
            for flow in result.get("codeFlows", [])
            for thread in flow["threadFlows"]
            for step in thread["locations"]
        ]
        for location in [*result["locations"], *flows]:
            physical = location["physicalLocation"]
            assert " " not in physical["artifactLocation"]["uri"]
            assert physical["artifactLocation"]["uri"].isascii()
            assert physical["region"]["startLine"] >= 1
            assert physical["region"]["startColumn"] >= 1
    [invocation] = run["invocations"]
    assert invocation["executionSuccessful"] is True
    [notification] = invocation["toolExecutionNotifications"]
    assert notification["message"]["text"].startswith("Not analysed: callback()")
    assert notification["level"] == "note"


def test_files_elsewhere_have_whole_uris(project, place, monkeypatch):
    """Files outside the working directory are `file:` URIs in SARIF."""
    run = project({"flows.py": one_line("time.time()")})
    (place / "inner").mkdir()
    monkeypatch.chdir(place / "inner")
    [result] = json.loads(as_sarif(run([place])))["runs"][0]["results"]
    artifact = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact["uri"].startswith("file:///")
    assert "uriBaseId" not in artifact


# ---- The command -----------------------------------------------------------------------------


def test_the_command_exits_with_what_it_found(project, capsys):
    """Exit code 0 for clean code, 1 for findings; the text says how much was looked at."""
    project({"clean.py": one_line("return ctx.now()"), "bad.py": one_line("time.time()")})
    assert main(["lint", "clean.py"]) == 0
    assert capsys.readouterr().out == "0 findings; 1 workflow in 1 file.\n"
    assert main(["lint", "."]) == 1
    assert capsys.readouterr().out.endswith("1 finding; 2 workflows in 2 files.\n")


def test_strict_fails_for_what_was_not_analysed(project, capsys):
    """With --strict, gaps and notes are findings for the exit code."""
    project({"gap.py": one_line("helper2()"), "note.py": one_line("1  # edda: allow[clock]")})
    assert main(["lint", "."]) == 0
    assert main(["lint", "gap.py", "--strict"]) == 1
    assert main(["lint", "note.py", "--strict"]) == 1
    assert "note, misuse: allow[clock]: this allow silences nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--select", "clock"], ["EDL101"]),
        (["--select", "EDL2"], ["EDL201"]),
        (["--ignore", "EDL101,random"], []),
        (["--select", "clock,random", "--ignore", "EDL101"], ["EDL201"]),
    ],
)
def test_codes_and_categories_are_chosen(project, capsys, options, left):
    """--select and --ignore take codes, starts of codes and categories."""
    project({"bad.py": one_line("time.time(); random.random()")})
    assert main(["lint", ".", "--format", "json", *options]) == int(bool(left))
    document = json.loads(capsys.readouterr().out)
    assert [one["code"] for one in document["findings"]] == left


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such"], "There is no file or folder 'no-such'"),
        ([".", "--select", "EDL999"], "names 'EDL999', which is no code and no category"),
        ([".", "--ignore", "clocks"], "names 'clocks'"),
        ([".", "--output", "no/such/folder.txt"], "no/such/folder.txt cannot be written"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_code_2(project, capsys, arguments, said):
    """Missing paths, unknown codes and places that cannot be written are usage errors."""
    assert main(["lint", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_nothing_to_lint_is_said(project, capsys):
    """An empty folder is clean, and both streams say that nothing was there."""
    assert main(["lint", "."]) == 0
    said = capsys.readouterr()
    assert said.err == "edda: there are no Python files in what was named.\n"
    assert said.out == "0 findings; no workflow in 0 files, so nothing was checked.\n"


def test_the_report_goes_into_a_file(project, capsys, place):
    """--output writes the report there and nothing to stdout."""
    project({"bad.py": one_line("time.time()  # ü")})
    assert main(["lint", ".", "--format", "sarif", "--output", "lint.sarif"]) == 1
    assert capsys.readouterr().out == ""
    assert json.loads((place / "lint.sarif").read_text("utf-8"))["version"] == "2.1.0"


def test_a_terminal_that_waits_sees_a_bar(project, capsys, monkeypatch):
    """On a terminal, after a while, progress is drawn on stderr and taken away at the end."""
    project({"bad.py": one_line("time.time()")})
    monkeypatch.setattr("edda_testkit.lint_command.PATIENCE_SECONDS", 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    main(["lint", "."])
    drawn = capsys.readouterr().err
    assert "lint [" in drawn
    assert drawn.endswith("\r")


def test_linted_code_is_never_run(project, capsys):
    """A module that would end the process when imported is linted like any other."""
    text = "raise SystemExit('it was run')\n" + one_line("time.time()")
    assert codes(project({"flows.py": text})()) == ["EDL101"]


# ---- pytest and pre-commit -------------------------------------------------------------------

NO_ASYNC = ("-p", "no:asyncio", "-p", "no:anyio", "-p", "no:cacheprovider")


@pytest.fixture
def session(pytester, monkeypatch):
    """A project with a bad workflow and a clean one; runs pytest in a process of its own."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(
        bad=one_line("time.time()"),
        clean=one_line("return ctx.now()"),
        test_it="def test_it():\n    pass\n",
    )

    def run(*args, ini=""):
        pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}\n")
        return pytester.runpytest_subprocess(*NO_ASYNC, *args)

    return run


def test_pytest_lints_when_asked(session):
    """--edda-lint makes a failing item for each file with findings, and one for the whole."""
    result = session("--edda-lint", "-v")
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(
        [
            "*bad.py*FAILED*",
            "*workflows*PASSED*",
            "*bad.py:8:5: EDL101 clock: time.time() reads the wall clock*",
            "*instead: ctx.now()*",
            "*1 finding; 2 workflows in 3 files.*",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_pytest_lints_the_paths_of_the_ini_file(session):
    """edda_lint_paths names what is linted; a project without findings passes."""
    session("--edda-lint", ini="edda_lint_paths = clean.py").assert_outcomes(passed=2)


def test_pytest_says_when_nothing_was_linted(session):
    """Paths without a workflow fail: a lint that looks at nothing must not look green."""
    result = session("--edda-lint", ini="edda_lint_paths = test_it.py")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*so nothing was checked*edda_lint_paths*"])


def test_pytest_refuses_a_path_that_is_not_there(session):
    """A missing path in the ini file is an error that names it."""
    result = session("--edda-lint", ini="edda_lint_paths = no_such")
    assert result.ret != 0
    assert "no_such" in result.stdout.str() + result.stderr.str()


def test_pytest_pays_nothing_unless_asked(session):
    """Without the option no room of the lint is imported, and no item is added."""
    result = session("-v")
    result.assert_outcomes(passed=1)
    code = "import sys, edda_testkit.plugin; print([m for m in sys.modules if 'lint' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pytest_selects_lint_items_like_tests(session):
    """-k and -m choose among the items of the lint."""
    session("--edda-lint", "-m", "edda_lint").assert_outcomes(failed=1, passed=1, deselected=1)


def test_the_hook_of_pre_commit_runs(project, monkeypatch):
    """The entry and arguments of .pre-commit-hooks.yaml are a command that works."""
    text = (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8")
    fields = dict(
        line.strip().removeprefix("- ").split(": ", 1)
        for line in text.splitlines()
        if ": " in line and not line.startswith("#")
    )
    assert fields["id"] == "edda-lint"
    assert fields["language"] == "python"
    command = [*fields["entry"].split(), *json.loads(fields["args"])]
    project({"bad.py": one_line("time.time()")})
    executable = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [executable, *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 1
    assert "EDL101" in done.stdout
