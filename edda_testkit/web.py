"""Raw HTTP requests into a simulation, through the app's ASGI door. Needs the extra `http`."""

import importlib
import json as json_module
from collections.abc import Mapping
from typing import Any, Protocol

from edda.app import EddaApp
from edda_testkit.errors import Misuse

__all__ = ["Http"]


class World(Protocol):
    """The simulation, as its HTTP door sees it."""

    app: EddaApp

    def exchange(self, coroutine: Any) -> Any:
        """The value of a coroutine, and all that followed it."""


class Http:
    """`sim.http`: each request is answered, and everything it set going has happened."""

    def __init__(self, world: World) -> None:
        self._world = world

    def post(
        self,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
    ) -> Any:
        """POST to the app; an `httpx.Response`."""
        return self.request("POST", path, headers=headers, content=content, json=json)

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Any:
        """GET from the app; an `httpx.Response`."""
        return self.request("GET", path, headers=headers)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | str | None = None,
        json: Any = None,
    ) -> Any:
        """Send a request to the app; an `httpx.Response`."""
        try:
            httpx = importlib.import_module("httpx")
        except ModuleNotFoundError as error:
            raise Misuse(
                'sim.http needs httpx and Starlette: pip install "edda-durable[testkit]"'
            ) from error
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if json is not None:
            content = json_module.dumps(json)
            sent.setdefault("content-type", "application/json")
        request = httpx.Request(method, f"http://testserver{path}", headers=sent, content=content)

        async def exchange() -> Any:
            transport = httpx.ASGITransport(app=self._world.app)
            response = await transport.handle_async_request(request)
            await response.aread()
            return response

        return self._world.exchange(exchange())
