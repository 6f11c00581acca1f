"""The HTTP door of an app: CloudEvents in, instances out, as an ASGI application.

    POST /events, POST /     take CloudEvents: structured, binary or batch; 202 once stored
    OPTIONS                  the handshake of CloudEvents webhooks
    GET /instances/{id}      where an instance stands; its outcome with ?result=1
    POST /cancel/{id}        ask for a cancellation
    GET /healthz             whether the store answers
    GET /openapi.json        all of this as an OpenAPI 3.1 document

Every refusal is `{"error", "error_type", "retryable"}`. A sender may repeat what is retryable,
and only that. A trailing slash is the same resource, nothing redirects, and a prefix that the
server or a mount put in front (`root_path`) is not seen. Absent: parsing, which is in
`edda.cloudevents_http`, and what events start, which is the app's.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from pydantic_core import to_json

from edda.auth import Auth, BearerAuth, Call, WebhookSignature
from edda.cloudevents_http import content_mode, envelopes
from edda.errors import (
    ArgumentError,
    EddaError,
    InstanceNotFoundError,
    InvalidEventError,
    NoAppError,
    StoreError,
    sentence,
)
from edda.events import Envelope
from edda.openapi import openapi_document
from edda.ports import Instance
from edda.timeline import instance_view

try:
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"edda's HTTP door needs {error.name}, which is not installed. "
        f'Run: pip install "edda-durable[http]"',
        name=error.name,
    ) from error

__all__ = ["Auth", "BearerAuth", "Host", "WebhookSignature", "asgi"]

logger = logging.getLogger("edda.http")

RETRY_AFTER_SECONDS = 1

# How much of a body that is too long is read yet, in times of the limit, and for how long.
DISCARDED, DISCARD_SECONDS = 8, 2.0

DIGITS = 18  # of a length that any limit could allow


class Host(Protocol):
    """What an app is to its HTTP door."""

    service_name: str

    @property
    def auth(self) -> object | None:
        """An `Auth`, or None where anybody may call."""

    @property
    def max_body_bytes(self) -> int:
        """The longest body that is read."""

    @property
    def is_open(self) -> bool:
        """Whether the app is initialized."""

    async def initialize(self) -> None:
        """Open the app."""

    async def shutdown(self) -> None:
        """Close the app."""

    async def handle_events(self, envelopes: Sequence[Envelope]) -> object:
        """Accept events, all or none; they are stored when it returns."""

    async def instance(self, instance_id: str) -> Instance:
        """One instance. Raises `InstanceNotFoundError`."""

    async def cancel(self, instance_id: str) -> bool:
        """Ask for a cancellation; False when the instance has ended."""

    async def find(self, *, limit: int = ...) -> list[Instance]:
        """Instances by id."""


def asgi(host: Host) -> ASGIApp:
    """The ASGI application of an app. Raises `ArgumentError` for an `auth` that is none.

    The server's lifespan opens and closes the app. Where no lifespan comes (an app mounted in
    another), the first request opens it, and closing it is for whoever mounted it.
    """
    if host.auth is not None and not isinstance(host.auth, Auth):
        raise ArgumentError(
            "EddaApp",
            [f"auth must be a BearerAuth or a WebhookSignature, got {type(host.auth).__name__}"],
        )
    return _Door(host, host.auth)


# ---- The door --------------------------------------------------------------------------------

_METHODS = {
    "events": ("POST", "OPTIONS"),
    "instances": ("GET", "HEAD", "OPTIONS"),
    "cancel": ("POST", "OPTIONS"),
    "healthz": ("GET", "HEAD", "OPTIONS"),
    "openapi.json": ("GET", "HEAD", "OPTIONS"),
}
_ACCEPTED = {"status": "accepted"}
_PRIVATE = {"cache-control": "private, no-store"}


class _Refusal(Exception):  # noqa: N818 - some are answers and no errors, like a 405
    """An answer that is no success."""

    def __init__(
        self, status: int, kind: str, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.kind = kind
        self.headers = headers or {}

    def response(self) -> Response:
        retryable = self.status >= 500
        content = {"error": str(self), "error_type": self.kind, "retryable": retryable}
        again = {"retry-after": str(RETRY_AFTER_SECONDS)} if retryable else {}
        return _json(self.status, content, {**self.headers, **again})


class _Door:
    """One app's ASGI application."""

    def __init__(self, host: Host, auth: Auth | None) -> None:
        self._host = host
        self._auth = auth
        self._opening = asyncio.Lock()
        self._is_closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                request = Request(scope, receive)
                try:
                    response = await self._response(request)
                except ClientDisconnect:
                    return  # nobody is there to be answered, and nothing was accepted
                if request.method == "HEAD":
                    response.body = b""  # its headers say what a GET would give
                await response(scope, receive, send)
            case "lifespan":
                await self._live(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise NotImplementedError(f"edda's HTTP door does not speak {other!r}.")

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open the app at the server's start and close it at its end, if it was not open."""
        await receive()
        is_ours = not self._host.is_open
        self._is_closed = False
        self._opening = asyncio.Lock()  # of this event loop
        try:
            await self._open()
        except Exception as error:  # to the log, and the server does not start
            if not isinstance(error, EddaError):
                logger.exception("The app cannot be opened.")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._is_closed = is_ours
        if is_ours:
            await self._host.shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self) -> None:
        async with self._opening:
            if self._is_closed:
                raise _Refusal(503, "ShuttingDown", "The server is stopping. Try again.")
            if not self._host.is_open:
                await self._host.initialize()

    async def _response(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except _Refusal as refusal:
            return refusal.response()
        except InstanceNotFoundError as error:
            return _refusal(404, error).response()
        except (InvalidEventError, ArgumentError) as error:
            return _refusal(400, error).response()
        except (StoreError, NoAppError) as error:
            # The details may name hosts and files, so they go to the log.
            logger.warning("503 to %s %s: %s", request.method, request.scope["path"], error)
            kind = type(error).__name__
            return _Refusal(503, kind, "The store cannot be reached now. Try again.").response()
        except ClientDisconnect:
            raise
        except Exception:  # a defect of ours: to the log, and the sender learns to try again
            logger.exception("500 to %s %s", request.method, request.scope["path"])
            return _Refusal(
                500, "InternalServerError", "The server has a defect, and logged it. Try again."
            ).response()

    async def _answer(self, request: Request) -> Response:
        # Half a surrogate pair, which a server may let through, is in no id and in no answer.
        path = request.scope["path"].encode("utf-8", "replace").decode()
        resource, instance_id = _resource(path, request.scope)
        allowed = _METHODS.get(resource, ())
        if allowed and request.method == "OPTIONS":
            return _handshake(request, allowed)
        if resource == "healthz" and request.method in allowed:
            await self._open()
            await self._host.find(limit=1)
            return _json(200, {"status": "ok"})
        body = await self._body(request)
        if self._auth is not None:
            _check(request, body, self._auth)
        if not allowed:
            raise _Refusal(404, "NotFound", f"There is nothing at {path}.")
        if request.method not in allowed:
            allow = ", ".join(allowed)
            raise _Refusal(
                405,
                "MethodNotAllowed",
                f"{path} takes {allow}, not {request.method}.",
                {"allow": allow},
            )
        if resource == "events":
            return await self._events(request, body)
        if resource == "cancel":
            return await self._cancel(instance_id)
        if resource == "openapi.json":
            return self._document(request)
        result = _flag(request, "result")
        await self._open()
        return _json(200, instance_view(await self._host.instance(instance_id), result=result))

    def _document(self, request: Request) -> Response:
        document = openapi_document(
            self._host.service_name,
            root_path=request.scope.get("root_path", "").rstrip("/"),
            max_body_bytes=self._host.max_body_bytes,
            auth=self._auth,
        )
        return _json(200, document)

    async def _events(self, request: Request, body: bytes) -> Response:
        headers = request.headers.raw
        mode = content_mode(headers, body)
        if mode is None:
            found = sentence(request.headers.get("content-type"))
            raise _Refusal(
                415,
                "UnsupportedMediaType",
                f"The content type is {found}, and this is no CloudEvent that is understood here. "
                f"Send application/cloudevents+json, application/cloudevents-batch+json, or the "
                f"attributes as ce- headers.",
            )
        try:
            events = envelopes(mode, headers, body)
        except ArgumentError as error:
            raise _Refusal(400, "InvalidCloudEvent", str(error)) from error
        await self._open()
        try:
            if events:
                await self._host.handle_events(events)
        except InvalidEventError as error:
            named = [(event.type, event.id) for event in events]
            refused = (error.event_type, error.event_id)
            if mode != "batch" or refused not in named:
                raise
            index = named.index(refused)
            raise _Refusal(400, type(error).__name__, f"event {index}: {error}") from error
        return _json(202, _ACCEPTED)

    async def _cancel(self, instance_id: str) -> Response:
        await self._open()
        if not await self._host.cancel(instance_id):
            status = (await self._host.instance(instance_id)).status
            raise _Refusal(
                409,
                "InstanceFinished",
                f"The instance {instance_id!r} is {status.value} already; it cannot be cancelled.",
            )
        return _json(202, _ACCEPTED)

    async def _body(self, request: Request) -> bytes:
        """The body; refused as soon as it is known to be too long."""
        limit = self._host.max_body_bytes
        declared = request.headers.get("content-length", "")
        body, stream = bytearray(), request.stream()
        is_number = declared.isascii() and declared.isdigit()  # which int() may refuse as too long
        is_announced = is_number and (len(declared) > DIGITS or int(declared) > limit)
        if not is_announced:
            async for chunk in stream:
                body += chunk
                if len(body) > limit:
                    break
            else:
                return bytes(body)
        if not is_announced or "expect" not in request.headers:
            await _discard(stream, DISCARDED * limit)
        # What is not read yet would be taken for the next request: the connection ends here.
        close = {"connection": "close"} if request.scope["http_version"].startswith("1") else {}
        raise _Refusal(413, "PayloadTooLarge", f"The body is longer than {limit:,} bytes.", close)


# ---- Helpers ---------------------------------------------------------------------------------


async def _discard(stream: AsyncIterator[bytes], size: int) -> None:
    """Read and forget for a moment: who is cut off in the middle may never see the answer."""
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DISCARD_SECONDS):
            async for chunk in stream:
                size -= len(chunk)
                if size <= 0:
                    return


def _resource(path: str, scope: Scope) -> tuple[str, str]:
    """Which resource a path names, and the id in it; `("", "")` for none."""
    root = scope.get("root_path", "").rstrip("/")
    # An outer app may have a prefix that a proxy took off the path; its mounts are still in it.
    inner = root.removeprefix(scope.get("app_root_path", "").rstrip("/"))
    for prefix in (root, inner):
        if path == prefix or path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
            break
    name, _, rest = path.removesuffix("/").removeprefix("/").partition("/")
    if bool(rest) != (name in ("instances", "cancel")):
        return "", ""
    return name or "events", rest


def _flag(request: Request, name: str) -> bool:
    """A query parameter that is 1 or 0, once; absent means 0."""
    match request.query_params.getlist(name):
        case [] | ["0"]:
            return False
        case ["1"]:
            return True
        case given:
            found = sentence(given[0] if len(given) == 1 else given)
            raise _Refusal(
                400,
                "InvalidQuery",
                f"{name} must be 1 or 0, once, got {found}. Leave it out for 0.",
            )


def _check(request: Request, body: bytes, auth: Auth) -> None:
    if not auth.accepts(Call(request.headers, request.query_params, body)):
        raise _Refusal(
            401,
            "Unauthorized",
            f"The request does not prove who sends it. {auth.cure}",
            {"www-authenticate": auth.challenge},
        )


def _handshake(request: Request, allowed: Sequence[str]) -> Response:
    """The answer that lets a webhook sender deliver, at whatever rate it asks for."""
    headers = {"allow": ", ".join(allowed)}
    origin = request.headers.get("webhook-request-origin")
    if origin is not None and "POST" in allowed:
        headers |= {"webhook-allowed-origin": origin, "webhook-allowed-rate": "*"}
    return Response(status_code=200, headers=headers)


def _refusal(status: int, error: Exception) -> _Refusal:
    return _Refusal(status, type(error).__name__, str(error))


def _json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        to_json(content, inf_nan_mode="null"),
        status,
        {**_PRIVATE, **(headers or {})},
        media_type="application/json",
    )
