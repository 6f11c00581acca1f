"""The HTTP door of an app: CloudEvents in, instances out, as an ASGI application.

    POST /events, POST /     take CloudEvents: structured, binary or batch; 202 once stored
    OPTIONS                  the handshake of CloudEvents webhooks
    GET /instances/{id}      where an instance stands; its outcome with ?result=1
    POST /cancel/{id}        ask for a cancellation
    GET /healthz             whether the store answers

Every refusal is `{"error", "error_type", "retryable"}`. A sender may repeat what is retryable,
and only that. A trailing slash is the same resource, nothing redirects, and a prefix that the
server or a mount put in front (`root_path`) is not seen. Absent: parsing, which is in
`edda.cloudevents_http`, and starting workflows over HTTP.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic_core import to_json

from edda.cloudevents_http import content_mode, envelopes
from edda.errors import (
    ArgumentError,
    EddaError,
    InstanceNotFoundError,
    InvalidEventError,
    NoAppError,
    StoreError,
)
from edda.events import Envelope
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

SIGNATURE_TOLERANCE_SECONDS = 300
RETRY_AFTER_SECONDS = 1


class Host(Protocol):
    """What an app is to its HTTP door."""

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


# ---- Who may call ----------------------------------------------------------------------------


@runtime_checkable
class Auth(Protocol):
    """Decides whether a request may pass. `challenge` goes into `WWW-Authenticate`."""

    challenge: str
    cure: str

    def accepts(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> bool:
        """Whether the request carries what it must; names of headers are in lower case."""


class BearerAuth:
    """Requests must carry a token: `Authorization: Bearer ...`, or `?access_token=...`."""

    challenge = "Bearer"
    cure = "Send the header `Authorization: Bearer <token>`."

    def __init__(self, token: str) -> None:
        if not isinstance(token, str) or not token:
            raise ArgumentError("BearerAuth", ["token must be a non-empty string"])
        self._token = token.encode()

    def __repr__(self) -> str:
        return "BearerAuth(...)"

    def accepts(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> bool:
        """Whether the token is the right one; compared in constant time."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = token.strip().encode("latin-1")
        else:
            given = query.get("access_token", "").encode()
        return hmac.compare_digest(given, self._token)


class WebhookSignature:
    """Requests must be signed as Standard Webhooks says, at most five minutes ago.

    `secret` is `whsec_...`, or the same base64 without its prefix, or bytes.
    """

    challenge = "StandardWebhooks"
    cure = "Send webhook-id, webhook-timestamp and webhook-signature, made with the shared secret."

    def __init__(self, secret: str | bytes) -> None:
        try:
            if isinstance(secret, str):
                text = secret.removeprefix("whsec_").rstrip("=")
                secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ArgumentError("WebhookSignature", ["secret must be base64"]) from error
        if not isinstance(secret, bytes) or not secret:
            raise ArgumentError("WebhookSignature", ["secret must not be empty"])
        self._secret = secret

    def __repr__(self) -> str:
        return "WebhookSignature(...)"

    def accepts(self, headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> bool:
        """Whether one of the request's signatures is ours, and fresh."""
        id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not id or not (sent.isascii() and sent.isdigit() and len(sent) <= 12):
            return False
        if abs(time.time() - int(sent)) > SIGNATURE_TOLERANCE_SECONDS:
            return False
        signed = b".".join((id.encode("latin-1"), sent.encode(), body))
        digest = hmac.new(self._secret, signed, hashlib.sha256).digest()
        ours = b"v1," + base64.b64encode(digest)
        given = headers.get("webhook-signature", "").encode("latin-1").split()
        return any([hmac.compare_digest(one, ours) for one in given])


# ---- The door --------------------------------------------------------------------------------

_METHODS = {
    "events": ("POST", "OPTIONS"),
    "instances": ("GET", "HEAD", "OPTIONS"),
    "cancel": ("POST", "OPTIONS"),
    "healthz": ("GET", "HEAD", "OPTIONS"),
}
_ACCEPTED = {"status": "accepted"}
_PRIVATE = {"cache-control": "private, no-store"}


class _Refusal(Exception):
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
        try:
            await self._open()
        except EddaError as error:
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
            if not self._host.is_open and not self._is_closed:
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
            logger.warning("Answered 503 to %s %s: %s", request.method, request.url.path, error)
            kind = type(error).__name__
            return _Refusal(503, kind, "The store does not answer now. Try again.").response()
        except ClientDisconnect:
            raise
        except Exception:  # a defect of ours: to the log, and the sender learns to try again
            logger.exception("Answered 500 to %s %s", request.method, request.url.path)
            return _Refusal(
                500, "InternalServerError", "The server has a defect, and logged it. Try again."
            ).response()

    async def _answer(self, request: Request) -> Response:
        resource, id = _resource(request.scope)
        allowed = _METHODS.get(resource, ())
        if allowed and request.method == "OPTIONS":
            return _handshake(request, allowed)
        if resource != "healthz" and self._auth is not None:
            await self._check(request, self._auth)
        if not allowed:
            raise _Refusal(404, "NotFound", f"There is nothing at {request.url.path}.")
        if request.method not in allowed:
            allow = ", ".join(allowed)
            raise _Refusal(
                405,
                "MethodNotAllowed",
                f"{request.url.path} takes {allow}, not {request.method}.",
                {"allow": allow},
            )
        match resource:
            case "events":
                return await self._events(request)
            case "instances":
                await self._open()
                result = request.query_params.get("result") == "1"
                return _json(200, instance_view(await self._host.instance(id), result=result))
            case "cancel":
                return await self._cancel(id)
        await self._open()
        await self._host.find(limit=1)
        return _json(200, {"status": "ok"})

    async def _check(self, request: Request, auth: Auth) -> None:
        body = await self._body(request)
        if not auth.accepts(request.headers, request.query_params, body):
            raise _Refusal(
                401,
                "Unauthorized",
                f"The request does not say who sends it. {auth.cure}",
                {"www-authenticate": auth.challenge},
            )

    async def _events(self, request: Request) -> Response:
        body = await self._body(request)
        headers = request.headers.raw
        mode = content_mode(headers, body)
        if mode is None:
            found = request.headers.get("content-type", "none")
            raise _Refusal(
                415,
                "UnsupportedMediaType",
                f"The content type is {found}, and this is no CloudEvent that is understood here. "
                f"Send application/cloudevents+json, application/cloudevents-batch+json, or the "
                f"attributes as ce- headers.",
            )
        events = envelopes(mode, headers, body)
        await self._open()
        try:
            if events:
                await self._host.handle_events(events)
        except InvalidEventError as error:
            if mode != "batch":
                raise
            named = [(event.type, event.id) for event in events]
            index = named.index((error.event_type, error.event_id))
            raise _Refusal(400, type(error).__name__, f"event {index}: {error}") from error
        return _json(202, _ACCEPTED)

    async def _cancel(self, id: str) -> Response:
        await self._open()
        if not await self._host.cancel(id):
            status = (await self._host.instance(id)).status
            raise _Refusal(
                409,
                "InstanceFinished",
                f"The instance {id!r} is {status.value} already; it cannot be cancelled.",
            )
        return _json(202, _ACCEPTED)

    async def _body(self, request: Request) -> bytes:
        """The body, read once; refused as soon as it is known to be too long."""
        if hasattr(request.state, "body"):
            known: bytes = request.state.body
            return known
        limit = self._host.max_body_bytes
        declared = request.headers.get("content-length", "")
        body = bytearray()
        is_long = declared.isdigit() and int(declared) > limit
        if not is_long:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    is_long = True
                    break
        if is_long:
            # What is not read yet would be taken for the next request: the connection ends here.
            close = {"connection": "close"} if request.scope.get("http_version") != "2" else {}
            raise _Refusal(
                413, "PayloadTooLarge", f"The body is longer than {limit:,} bytes.", close
            )
        request.state.body = bytes(body)
        return bytes(body)


# ---- Helpers ---------------------------------------------------------------------------------


def _resource(scope: Scope) -> tuple[str, str]:
    """Which resource a path names, and the id in it; `("", "")` for none."""
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    if path == root or path.startswith(f"{root}/"):
        path = path[len(root) :]
    name, _, id = path.removesuffix("/").removeprefix("/").partition("/")
    if name in ("instances", "cancel"):
        return (name, id) if id else ("", "")
    if id:
        return "", ""
    return ("events" if name == "" else name), ""


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
