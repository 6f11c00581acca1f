"""How fast the lint reads: a made-up shop of 100,000 lines, with a workflow every 100 lines.

    python benchmarks/bench_lint.py

Seconds are those of the processor, so that other work on the machine does not count. The target
is a few of them.
"""

import tempfile
import time
from pathlib import Path

from edda_testkit.lint import lint

MODULES = 500
LINES = 100_000

HELPER = """\
def price_{n}(amount, tags):
    total = 0
    for tag in sorted(set(tags)):
        if tag.startswith("x"):
            total += amount * {n}
        elif tag in {{"a", "b"}}:
            total += len(tag)
    parts = [part.strip() for part in ",".join(tags).split(",")]
    return {{"total": total, "parts": parts}}


"""
WORKFLOW = """\
@workflow
async def order_{n}(ctx, tags: list[str]):
    price = price_{n}(3, tags)
    await asyncio.gather(*(sleep(ctx, seconds) for seconds in range(3)))
    return price, ctx.now()


"""


def write(folder):
    written = 0
    for module in range(MODULES):
        near = f"from shop.module_{(module + 1) % MODULES} import price_0 as next_price\n"
        text = f"import asyncio\n\nfrom edda import sleep, workflow\n\n{near}\n\n"
        n = 0
        while text.count("\n") < LINES // MODULES:
            text += HELPER.format(n=n)
            if n % 9 == 0:
                text += WORKFLOW.format(n=n)
            n += 1
        (folder / f"module_{module}.py").write_text(text, "utf-8")
        written += text.count("\n")
    (folder / "__init__.py").write_text("", "utf-8")
    return written


def main():
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "shop"
        folder.mkdir()
        lines = write(folder)
        began = time.process_time()
        report = lint([folder])
        took = time.process_time() - began
    print(
        f"{lines:,} lines, {report.files} files, {report.workflows:,} workflows: "
        f"{took:.2f} s, {lines / took:,.0f} lines a second"
    )
    assert not report.findings
    assert not report.gaps


if __name__ == "__main__":
    main()
