"""An AI agent whose every thought and every use of a tool is a recorded step.

The model and the tools are activities, so a process that dies in the middle of a task goes on
where it was: what was thought is not paid for twice, and what was done is not done again. A tool
that cannot be undone asks a person first. The model here is a plain function that follows rules;
put a call of yours in its place.
"""

import os
from typing import Literal

from pydantic import BaseModel

from edda import (
    EddaApp,
    EventTimeoutError,
    RetryPolicy,
    WorkflowContext,
    activity,
    wait_event,
    workflow,
)

MAX_STEPS = 8


class Step(BaseModel):
    """What the model wants next: a tool with its input, or to answer."""

    tool: Literal["search", "calculate", "send_mail", "answer"]
    input: str


class Note(BaseModel):
    """What became of a step."""

    step: Step
    outcome: str


class Approval(BaseModel):
    agent: str
    is_allowed: bool


@activity(retry_policy=RetryPolicy(max_attempts=5, initial_interval=2))
async def think(ctx, task: str, notes: list[Note]) -> Step:
    """The model: from the task and the notes so far to the next step."""
    used = [note.step.tool for note in notes]
    if "search" not in used:
        return Step(tool="search", input=task)
    if "calculate" not in used:
        return Step(tool="calculate", input="6*7")
    if "send_mail" not in used:
        return Step(tool="send_mail", input=f"It is {notes[-1].outcome}")
    return Step(tool="answer", input=notes[1].outcome)


@activity
async def search(ctx, question: str) -> str:
    return f"three pages about {question!r}"


@activity
async def calculate(ctx, expression: str) -> str:
    left, _, right = expression.partition("*")
    return str(int(left) * int(right))


class Mails(dict[str, str]):
    """The outside world: a mail service that knows a mail by its key."""


class Outside:
    mails = Mails()


@activity
async def send_mail(ctx, text: str) -> str:
    Outside.mails[ctx.idempotency_key] = text
    return "sent"


TOOLS = {"search": search, "calculate": calculate, "send_mail": send_mail}
NEEDS_APPROVAL = {"send_mail"}


@workflow
async def agent(ctx: WorkflowContext, task: str) -> str:
    notes: list[Note] = []
    for _ in range(MAX_STEPS):
        step = await think(ctx, task, notes)
        if step.tool == "answer":
            return step.input
        if step.tool in NEEDS_APPROVAL and not await is_allowed(ctx):
            notes.append(Note(step=step, outcome="refused"))
            continue
        notes.append(Note(step=step, outcome=await TOOLS[step.tool](ctx, step.input)))
    return "gave up"


async def is_allowed(ctx: WorkflowContext) -> bool:
    """Ask a person; no answer within a day is a no."""
    try:
        event = await wait_event(
            ctx,
            "tool.approval",
            timeout_seconds=24 * 3600,
            model=Approval,
            match={"data.agent": ctx.instance_id},
        )
    except EventTimeoutError:
        return False
    return event.data.is_allowed


app = EddaApp("agent", os.environ.get("EDDA_DB_URL", "sqlite:///agent.db"))
