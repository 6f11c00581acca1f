"""Raw HTTP requests into a simulation, through the app's ASGI door. Needs the extra `http`."""

import importlib
import json as json_module
from collections.abc import Mapping
from typing import Any

__all__ = ["Http"]


class Http:
    """`sim.http`: each request is answered, and everything it set going has happened."""

    def __init__(self, world: Any) -> None:
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
        httpx = importlib.import_module("httpx")
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

        response = self._world.run_on_loop(exchange())
        self._world.settle()
        return response
