"""DBOS on a SQLite file, its default, with coroutines for workflows and steps.

Messages are looked for every 10 ms where the default is a second: its documentation says that of
tests. The results of workflows of this process need no such poll.

From Python 3.12 on it takes SQLite to be 3.42 or newer, and cannot start where it is older: there
its connections are given the one function that is missing.
"""

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager

import rows
from dbos import DBOS, SetWorkflowID
from sqlalchemy import Engine, event


class Here:
    """The marks of the row that runs: workflows and steps tell them."""

    marks: rows.Marks


@DBOS.step()
async def trivial(number):
    return number


@DBOS.step()
async def marked(key, number):
    Here.marks.tell(key, number)
    return number


@DBOS.workflow()
async def three_steps():
    await trivial(1)
    await trivial(2)
    return await trivial(3)


@DBOS.workflow()
async def suspended(key):
    Here.marks.tell(key, "waits")
    return await DBOS.recv_async("paid", timeout_seconds=3600)


@DBOS.workflow()
async def alternating(key, rounds):
    for number in range(rounds):
        await DBOS.recv_async("next", timeout_seconds=3600)
        await marked(key, number)
    return rounds


@DBOS.workflow()
async def timed(key):
    Here.marks.tell(key, "began")
    await DBOS.sleep_async(1)
    Here.marks.tell(key, "woke")


class Dbos:
    def __init__(self):
        self.marks = Here.marks = rows.Marks()
        self.handles = {}

    async def start(self, workflow, key, *arguments):
        with SetWorkflowID(key):
            self.handles[key] = await DBOS.start_workflow_async(workflow, *arguments)

    async def three(self, key):
        await self.start(three_steps, key)
        await self.ended(key)

    async def start_waiting(self, key):
        await self.start(suspended, key, key)

    async def all_waiting(self, keys):
        await self.marks.all_told(keys, "waits")

    async def deliver(self, key):
        await DBOS.send_async(key, {"key": key}, "paid")

    async def ended(self, key):
        await self.handles.pop(key).get_result()

    async def start_alternating(self, key, rounds):
        await self.start(alternating, key, key, rounds)

    async def deliver_round(self, key, number):
        await DBOS.send_async(key, {"number": number}, "next")

    async def start_timed(self, key):
        await self.start(timed, key, key)


def epoch_seconds(modifier):
    """`unixepoch('subsec')`, the only way in which it is called."""
    return time.time()


def give_epoch_seconds(connection, _):
    connection.create_function("unixepoch", 1, epoch_seconds)


@asynccontextmanager
async def opened(folder):
    if sqlite3.sqlite_version_info < (3, 42):
        event.listen(Engine, "connect", give_epoch_seconds)
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{folder}/bench.sqlite",
            "notification_listener_polling_interval_sec": 0.01,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    yield Dbos()
    await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=0)


if __name__ == "__main__":
    rows.main({"SQLite": opened})
