"""What the kit says when a test asks for something impossible, or passes but should not.

Messages name runs, waits and source lines, what was expected, and the cure. The engine's own
errors are in `edda.errors`.
"""

from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "CrashChangedOutcome",
    "GoldenMismatch",
    "Misuse",
    "NondeterminismWarning",
    "NondeterministicCall",
    "NotExhaustive",
    "NotReplayableRun",
    "ScheduleError",
    "Stalled",
    "StrategyError",
    "StubError",
    "StuckRun",
    "UnusedStub",
    "WorkflowNotFinished",
]


class WorkflowNotFinished(AssertionError):  # noqa: N818 - the name is public API (DESIGN.md)
    """`run.result` of a run that has not finished."""

    def __init__(self, run: str, status: str, waits: Sequence[str], due: str) -> None:
        super().__init__(
            "\n".join([f"{run} has no result yet: it is {status}.", *_indented(waits), f"  {due}"])
        )


class Stalled(AssertionError):  # noqa: N818 - the name is public API (DESIGN.md)
    """What was asked for will never happen by itself."""

    def __init__(self, sentence: str, waits: Sequence[str], cure: str) -> None:
        super().__init__("\n".join([f"{sentence}.", *_indented(waits), cure]))


class CrashChangedOutcome(AssertionError):  # noqa: N818 - reads as what it is
    """With a crash a scenario came out otherwise than without."""


class NotExhaustive(AssertionError):  # noqa: N818 - reads as what it is
    """Not every schedule could be tried, and `require_exhaustive=True` asks for that."""

    def __init__(self, explored: str, max_schedules: int, budget_seconds: float) -> None:
        super().__init__(
            f"Not every schedule was tried: {explored}. Raise max_schedules ({max_schedules:,}) or "
            f"budget_seconds ({budget_seconds:g}), or explore less: fewer crashes, duplicates, "
            f"runs side by side."
        )


class Misuse(RuntimeError):  # noqa: N818 - reads as what it is
    """A simulation was used in a way that cannot work."""


class ScheduleError(ValueError):
    """A schedule that cannot be read, or does not fit the simulation it is run in."""


class StubError(AssertionError, TypeError):
    """A stub that cannot work, or has run out of answers."""


class UnusedStub(AssertionError):  # noqa: N818 - reads as what it is
    """A stub that nothing ever called."""

    def __init__(self, unused: Sequence[str], used: Sequence[str]) -> None:
        called = ", ".join(used) if used else "none"
        super().__init__(
            "\n".join(
                [
                    "These stubs were never used:",
                    *_indented(unused),
                    f"Activities that were called: {called}.",
                    "Remove the stub, or find out why the workflow did not get there.",
                    "@pytest.mark.edda(unused_stubs=True) allows it.",
                ]
            )
        )


class StuckRun(AssertionError):  # noqa: N818 - reads as what it is
    """A run whose code does not fit its history was left behind."""

    def __init__(self, run: str, reason: str) -> None:
        super().__init__(f"{run} is stuck: its code does not fit its history.\n{reason}")


class NotReplayableRun(AssertionError):  # noqa: N818 - reads as what it is
    """The test passes, but a replay of one of its runs goes another way."""

    def __init__(self, run: str, how: str, reason: str, hint: str = "") -> None:
        said = f"{reason}\n{hint}" if hint else reason
        super().__init__(
            f"The test passes, but is not replayable: {run}, {how}, goes another way.\n"
            f"{said}\n"
            f"The code depends on something that is not in its history: a clock, randomness, the "
            f"environment, a global, the order of a set. Use ctx.now(), ctx.random, ctx.uuid4(), "
            f"or make it an activity. @pytest.mark.edda(replay=False) turns this check off."
        )


class GoldenMismatch(AssertionError):  # noqa: N818 - reads as what it is
    """A run, or today's code, is not what its golden history recorded."""

    def __init__(self, path: Path, reason: str, cure: str) -> None:
        super().__init__(
            f"The golden history {path.parent.name}/{path.name} does not hold.\n{reason}\n"
            f"Where the change is meant, `pytest --edda-update` will {cure}; review it as code.\n"
            f"The file is {path}."
        )


class NondeterministicCall(BaseException):
    """Workflow code called what a replay cannot repeat.

    A `BaseException`, so that no `except Exception` of a workflow takes it for one of its own.
    `category` is one of `edda.determinism`; `file` and `line` are the innermost line of the
    user's, `call` is what it led to, `chain` the way there from the workflow.
    """

    lead = "The workflow {workflow!r} called {call} at {site}, which no replay can repeat."

    def __init__(
        self,
        workflow: str,
        category: str,
        call: str,
        cure: str,
        *,
        chain: Sequence[str],
        file: str,
        line: int,
        site: str,
    ) -> None:
        said = self.lead.format(workflow=workflow, call=call, site=site)
        allow = (
            f"`# edda: allow[{category}]` on one of these lines, or "
            f"@workflow(allow=[{category!r}]), allows it."
        )
        super().__init__("\n".join([said, *_indented(chain), f"{category}: {cure}", allow]))
        self.workflow = workflow
        self.category = category
        self.call = call
        self.cure = cure
        self.chain = tuple(chain)
        self.file = file
        self.line = line


class ForgottenAwait(NondeterministicCall):
    """Workflow code called a coroutine function, and dropped the coroutine: nothing was done.

    A `NondeterministicCall`, for it is found, allowed and reported in the same way.
    """

    lead = (
        "The workflow {workflow!r} called {call} at {site} and never awaited it, so it did nothing."
    )


class NondeterminismWarning(UserWarning):
    """The same as a warning, with `guard="warn"`."""


class StrategyError(TypeError):
    """Hypothesis cannot make what was asked for: of a type, or that a model accepts."""


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]
