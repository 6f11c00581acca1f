"""Who may call the HTTP door: a bearer token, or the signature of Standard Webhooks.

Secrets are compared in constant time, and never shown by a repr. Absent: users and rights;
who may pass may do everything.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edda.errors import ArgumentError

__all__ = ["Auth", "BearerAuth", "Call", "WebhookSignature"]

SIGNATURE_TOLERANCE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Call:
    """What a request shows of who sends it. Names of headers are in lower case."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


@runtime_checkable
class Auth(Protocol):
    """Decides whether a request may pass. `challenge` goes into `WWW-Authenticate`."""

    challenge: str
    cure: str

    def accepts(self, call: Call) -> bool:
        """Whether the request carries what it must."""


class BearerAuth:
    """Requests must carry a token: `Authorization: Bearer ...`, or `?access_token=...`."""

    challenge = "Bearer"
    cure = "Send the header `Authorization: Bearer <token>`."

    def __init__(self, token: str) -> None:
        if not _is_full(token, str):
            raise ArgumentError("BearerAuth", ["token must be a non-empty string"])
        self._token = token.encode()

    def __repr__(self) -> str:
        return "BearerAuth(...)"

    def accepts(self, call: Call) -> bool:
        """Whether the token is the right one; compared in constant time."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = token.strip().encode("latin-1")
        else:
            given = call.query.get("access_token", "").encode()
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
        if not _is_full(secret, bytes):
            raise ArgumentError("WebhookSignature", ["secret must be non-empty text or bytes"])
        self._secret = secret

    def __repr__(self) -> str:
        return "WebhookSignature(...)"

    def accepts(self, call: Call) -> bool:
        """Whether one of the request's signatures is ours, and fresh."""
        name, sent = call.headers.get("webhook-id", ""), call.headers.get("webhook-timestamp", "")
        if not name or not (sent.isascii() and sent.isdigit() and len(sent) <= 12):
            return False
        if abs(time.time() - int(sent)) > SIGNATURE_TOLERANCE_SECONDS:
            return False
        signed = b".".join((name.encode("latin-1"), sent.encode(), call.body))
        digest = hmac.new(self._secret, signed, hashlib.sha256).digest()
        ours = b"v1," + base64.b64encode(digest)
        given = call.headers.get("webhook-signature", "").encode("latin-1").split()
        return any(hmac.compare_digest(one, ours) for one in given)


def _is_full(value: object, kind: type) -> bool:
    return isinstance(value, kind) and bool(value)
