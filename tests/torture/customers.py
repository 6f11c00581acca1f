"""Those who use the engine under torture: each starts one instance, and keeps its side of it.

A customer repeats a request, at one server after the other, until it is accepted; then it never
says it again. What was accepted is what the engine owes (`Promise`).
"""

import asyncio
import itertools
import time

import httpx

from edda.intake import id_of_start
from tests.torture import world
from tests.torture.evidence import Promise

__all__ = ["Customers"]

ACCEPTED, BUSY = 202, 503
CHANNEL = "edda.channel."


class Customers:
    """Conversations with the servers at these ports."""

    def __init__(self, ports, random):
        self.ports = ports
        self.random = random
        self.promises = []
        self.news, self.jobs = [], []
        self.surprises = []  # answers that no customer should get
        self.numbers = itertools.count(1)
        limits = httpx.Limits(max_connections=100)
        # Nobody is asked by https: without `verify` no certificates are read, 25 ms a campaign.
        self.http = httpx.AsyncClient(timeout=1.0, limits=limits, verify=False)
        names = [name for name in world.WORKFLOWS if name != "child"]  # its parent talks to it
        self.talks = itertools.cycle([getattr(self, f"talk_{name}") for name in names])

    async def one(self):
        """One customer, from the start to the last word."""
        await next(self.talks)(next(self.numbers))

    # ---- Requests --------------------------------------------------------------------------------

    async def insist(self, path, refusal=None, **request):
        """Say it until it is accepted; whether it was. `refusal` may be the answer, too."""
        ports = self.random.sample(self.ports, len(self.ports))
        for port in itertools.cycle(ports):
            try:
                answer = await self.http.post(f"http://127.0.0.1:{port}{path}", **request)
            except httpx.TransportError:
                await asyncio.sleep(0.01)
                continue
            if answer.status_code == ACCEPTED:
                return True
            if answer.status_code == refusal:
                return False
            if answer.status_code != BUSY:
                self.surprises.append(f"{answer.status_code} to {path}: {answer.text}")
                return False
            await asyncio.sleep(0.05)

    async def send(self, type, id, data, refusal=None):
        event = {"specversion": "1.0", "type": type, "source": "customer", "id": id, "data": data}
        headers = {"content-type": "application/cloudevents+json"}
        return await self.insist("/events", refusal, json=event, headers=headers)

    async def start(self, workflow, n):
        promise = Promise(f"{workflow}-{n}", workflow, n)
        promise.told["asked"] = time.time()
        await self.insist(f"/start?workflow={workflow}&id={promise.id}&n={n}")
        self.promises.append(promise)
        return promise

    # ---- Conversations, by the workflow that they are about --------------------------------------

    async def talk_order(self, n):
        promise = await self.start("order", n)
        await asyncio.sleep(self.random.random() * 0.1)
        await self.send("paid", f"paid-{n}", {"id": promise.id, "n": n})

    async def talk_delayed(self, n):
        await self.send("start.delayed", f"delayed-{n}", {"n": n})
        id = id_of_start(world.delayed, "customer", f"delayed-{n}")
        self.promises.append(Promise(id, "delayed", n))

    async def talk_trip(self, n):
        await self.start("trip", n)

    async def talk_parent(self, n):
        await self.start("parent", n)

    async def talk_teller(self, n):
        await self.start("teller", n)

    async def talk_counter(self, n):
        promise = await self.start("counter", n)
        for tick in (1, 2, 3):
            data = {"id": promise.id, "n": tick}
            if tick == 2:
                await self.send("tick", f"bad-{n}", {"id": promise.id, "n": "two"}, refusal=400)
            await self.send("tick", f"tick-{n}-{tick}", data)
            await self.send("tick", f"tick-{n}-{tick}", data)  # and once more: M1

    async def talk_racer(self, n):
        promise = await self.start("racer", n)
        await asyncio.sleep(self.random.random() * 3 * world.SHORT)
        promise.told["sent"] = time.time()
        await self.send("raced", f"raced-{n}", {"id": promise.id})
        promise.told["accepted"] = time.time()

    async def talk_abandoned(self, n):
        promise = await self.start("abandoned", n)
        await asyncio.sleep(self.random.random() * 0.1)
        await self.insist(f"/cancel/{promise.id}", 409)

    async def talk_consumer(self, n):
        both = (n, next(self.numbers))
        for each in both:
            await self.start("consumer", each)
        for each in both:
            self.jobs.append(each)
            await self.send(CHANNEL + "jobs", f"job-{each}", each)

    async def talk_listener(self, n):
        await self.start("listener", n)

    async def talk_news(self):
        """Publish news for ever, each when the one before was accepted."""
        for n in itertools.count():
            await self.send(CHANNEL + "news", f"news-{n}", n)
            self.news.append(n)
            await asyncio.sleep(0.05)
