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
    """Requests must carry a token: `Authorization: Bearer ...`, or `?access_token=...`.

    Of several tokens any will do, so that they can be changed one sender at a time.
    """

    challenge = "Bearer"
    cure = "Send the header `Authorization: Bearer <token>`."

    def __init__(self, token: str, *others: str) -> None:
        tokens = (token, *others)
        if not all(_is_full(one, str) for one in tokens):
            raise ArgumentError("BearerAuth", ["token must be a non-empty string"])
        self._tokens = [one.encode() for one in tokens]

    def __repr__(self) -> str:
        return "BearerAuth(...)"

    def accepts(self, call: Call) -> bool:
        """Whether the token is the right one; compared in constant time."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            given = token.strip().encode("latin-1")
        else:
            given = call.query.get("access_token", "").encode()
        # All are compared, whichever fits: how long it takes says nothing.
        return True in [hmac.compare_digest(given, token) for token in self._tokens]


class WebhookSignature:
    """Requests must be signed as Standard Webhooks says, at most five minutes ago.

    `secret` is `whsec_...`, or the same base64 without its prefix, or bytes. Of several secrets
    any will do: give the new one and the old one while senders change over.
    """

    challenge = "StandardWebhooks"
    cure = "Send webhook-id, webhook-timestamp and webhook-signature, made with the shared secret."

    def __init__(self, secret: str | bytes, *others: str | bytes) -> None:
        self._secrets = [_key(one) for one in (secret, *others)]

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
        ours = [_signature(secret, signed) for secret in self._secrets]
        given = call.headers.get("webhook-signature", "").encode("latin-1").split()
        return True in [hmac.compare_digest(one, known) for one in given for known in ours]


def _key(secret: object) -> bytes:
    try:
        if isinstance(secret, str):
            text = secret.removeprefix("whsec_").rstrip("=")
            secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ArgumentError("WebhookSignature", ["secret must be base64"]) from error
    if not isinstance(secret, bytes) or not secret:
        raise ArgumentError("WebhookSignature", ["secret must be non-empty text or bytes"])
    return secret


def _signature(secret: bytes, signed: bytes) -> bytes:
    return b"v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest())


def _is_full(value: object, kind: type) -> bool:
    return isinstance(value, kind) and bool(value)
