"""A reminder every morning, for years, until somebody says stop.

`ctx.recur` begins a fresh history each day, so that the thousandth reminder costs what the first
did. Serve it with `edda serve examples.reminder_loop:app`; a curl ends it:

    curl -X POST http://localhost:8001/events -H "Content-Type: application/cloudevents+json" \\
      -d '{"specversion": "1.0", "type": "reminder.stop", "source": "phone", "id": "1",
           "data": {"user": "ada"}}'
"""

import os
from datetime import datetime, timedelta

from edda import (
    EddaApp,
    EventTimeoutError,
    WorkflowContext,
    activity,
    wait_event,
    workflow,
)


@activity
async def remind(ctx, user: str, day: int) -> None:
    print(f"Day {day}: {user}, water the plants")


def next_morning(now: datetime) -> datetime:
    """The next 9:00 after an instant."""
    today = now.replace(hour=9, minute=0, second=0, microsecond=0)
    return today if now < today else today + timedelta(days=1)


@workflow(start_on=True)
async def reminder_loop(ctx: WorkflowContext, user: str, day: int = 1) -> int:
    wait_seconds = (next_morning(ctx.now()) - ctx.now()).total_seconds()
    try:
        await wait_event(
            ctx, "reminder.stop", timeout_seconds=wait_seconds, match={"data.user": user}
        )
    except EventTimeoutError:
        await remind(ctx, user, day)
        await ctx.recur(user=user, day=day + 1)
    return day - 1


app = EddaApp("reminders", os.environ.get("EDDA_DB_URL", "sqlite:///reminders.db"))
