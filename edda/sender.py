"""Posting events to brokers over HTTP, as structured CloudEvents (extra `http`).

httpx is imported with the first event that is posted: it takes longer than all of Edda.
"""

import importlib

from edda.errors import BrokerError
from edda.events import Envelope

__all__ = ["HttpSender"]

TIMEOUT_SECONDS = 10.0


class HttpSender:
    """A `ports.Sender` that posts each event in structured mode."""

    async def post(self, envelope: Envelope, url: str) -> None:
        """Post one event. Raises `BrokerError` unless the answer is a 2xx."""
        try:
            httpx = importlib.import_module("httpx")
        except ImportError as error:
            cure = 'posting needs httpx: pip install "edda-durable[http]"'
            raise BrokerError(url, cure) from error
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
                response = await client.post(
                    url,
                    content=envelope.text.encode(),
                    headers={"content-type": "application/cloudevents+json; charset=utf-8"},
                )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BrokerError(url, f"{type(error).__name__}: {error}") from error
        if not response.is_success:
            raise BrokerError(url, f"it answered {response.status_code}: {response.text[:200]}")
