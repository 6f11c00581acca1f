"""What the corpus stands on: activities that take anything, and the outside they are allowed."""

import os
import random
import time
from datetime import datetime
from pathlib import Path

from edda import activity


@activity
async def keep(ctx, value: str) -> str:
    return value


@activity
async def stamp(ctx) -> str:
    """An activity may ask the clock, draw, read the environment and files."""
    Path(__file__).read_text("utf-8")
    return (
        f"{datetime.now()} {time.time()} {random.random()} {os.environ.get('HOME')} {os.getpid()}"
    )


@activity
def blocking(ctx, n: int) -> int:
    time.sleep(0)
    return n
