"""What the HTTP door says of itself: an OpenAPI 3.1 document, complete enough to fuzz from.

It describes every path, method, status and header that `edda.http` knows, and the limits of the
app at hand. Pure. Absent: what workflows want in their events; that is the workflows' own affair.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edda.auth import Auth, BearerAuth
from edda.cloudevents_http import FORBIDDEN, MAX_BATCH_EVENTS, MAX_JSON_DEPTH
from edda.ports import Status

__all__ = ["openapi_document"]


def openapi_document(
    name: str, *, root_path: str, max_body_bytes: int, auth: Auth | None
) -> dict[str, Any]:
    """The document of an app that is reached under `root_path`."""
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name}: workflows over HTTP",
            "version": _version(),
            "description": (
                f"CloudEvents 1.0 in, instances out. A body has at most {max_body_bytes:,} bytes, "
                f"a batch at most {MAX_BATCH_EVENTS} events, and JSON at most {MAX_JSON_DEPTH} "
                f"levels. A trailing slash is the same resource."
            ),
        },
        "servers": [{"url": root_path or "/"}],
        "paths": {
            "/events": _events("sendEvents"),
            "/": _events("sendEventsToRoot"),
            "/instances/{id}": _instance(),
            "/cancel/{id}": _cancel(),
            "/healthz": _health(),
            "/openapi.json": _document(),
        },
        "components": {"schemas": _SCHEMAS, "headers": _HEADERS},
    }
    if auth is not None:
        document["components"]["securitySchemes"] = _schemes(auth)
        document["security"] = [{scheme: []} for scheme in _schemes(auth)]
        for path in document["paths"].values():
            for operation in path.values():
                if operation.get("security") != []:
                    operation["responses"]["401"] = _refusal("Who sends it is not proven.", "auth")
    return document


# ---- Paths -----------------------------------------------------------------------------------


def _events(id: str) -> dict[str, Any]:
    event = {"$ref": "#/components/schemas/CloudEvent"}
    batch = {"type": "array", "maxItems": MAX_BATCH_EVENTS, "items": event}
    return {
        "post": {
            "operationId": id,
            "summary": "Send CloudEvents: structured, a batch, or binary (`ce-` headers).",
            "description": (
                "202 is sent once all events are stored; a repeated event (same source and id) is "
                "accepted and changes nothing. A batch is taken as a whole or not at all. Binary "
                "mode takes any other content type with the attributes as `ce-` headers."
            ),
            "requestBody": {
                "required": True,
                "content": {
                    "application/cloudevents+json": {"schema": event, "example": _EXAMPLE},
                    "application/cloudevents-batch+json": {"schema": batch, "example": [_EXAMPLE]},
                },
            },
            "responses": {
                "202": _answer("The events are stored.", "Accepted"),
                "400": _refusal("What is wrong, with every field."),
                "413": _refusal("The body is too long."),
                "415": _refusal("No CloudEvent in a format that is known here."),
                **_TROUBLE,
            },
        },
        "options": {
            "operationId": f"{id}Handshake",
            "summary": "The handshake of CloudEvents webhooks.",
            "security": [],
            "parameters": [
                {
                    "name": "WebHook-Request-Origin",
                    "in": "header",
                    "required": False,
                    "schema": {"type": "string"},
                    "example": "eventemitter.example.com",
                }
            ],
            "responses": {
                "200": {
                    "description": "Who asked may send, at any rate.",
                    "headers": {
                        "Allow": {"$ref": "#/components/headers/Allow"},
                        "WebHook-Allowed-Origin": {"schema": {"type": "string"}},
                        "WebHook-Allowed-Rate": {"schema": {"type": "string"}},
                    },
                }
            },
        },
    }


def _instance() -> dict[str, Any]:
    result = {
        "name": "result",
        "in": "query",
        "required": False,
        "description": "1 to see the outcome too.",
        "schema": {"enum": ["0", "1"]},
    }
    return {
        "get": {
            "operationId": "readInstance",
            "summary": "Where an instance stands.",
            "parameters": [_ID, result],
            "responses": {
                "200": _answer("The instance.", "Instance"),
                "400": _refusal("The query is not understood."),
                "404": _refusal("There is no such instance."),
                **_TROUBLE,
            },
        }
    }


def _cancel() -> dict[str, Any]:
    return {
        "post": {
            "operationId": "cancelInstance",
            "summary": "Ask for the cancellation of an instance.",
            "parameters": [_ID],
            "responses": {
                "202": _answer("It was asked for; a worker carries it out.", "Accepted"),
                "404": _refusal("There is no such instance."),
                "409": _refusal("The instance has ended."),
                "413": _refusal("The body is too long."),
                **_TROUBLE,
            },
        }
    }


def _health() -> dict[str, Any]:
    return {
        "get": {
            "operationId": "readHealth",
            "summary": "Whether the store answers.",
            "security": [],
            "responses": {"200": _answer("It does.", "Health"), **_TROUBLE},
        }
    }


def _document() -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object", "required": ["openapi"]}}}
    return {
        "get": {
            "operationId": "readOpenApi",
            "summary": "This document.",
            "responses": {"200": {"description": "It.", "content": content}},
        }
    }


# ---- Parts -----------------------------------------------------------------------------------


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _refusal(description: str, kind: str = "") -> dict[str, Any]:
    headers = {
        "retry": {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
        "auth": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    }
    answer = _answer(description, "Refusal")
    return {**answer, "headers": headers[kind]} if kind else answer


def _schemes(auth: Auth) -> dict[str, Any]:
    if isinstance(auth, BearerAuth):
        return {
            "bearer": {"type": "http", "scheme": "bearer"},
            "accessToken": {"type": "apiKey", "in": "query", "name": "access_token"},
        }
    return {
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "webhook-signature",
            "description": f"{auth.challenge}. {auth.cure}",
        }
    }


def _version() -> str:
    try:
        return version("edda-durable")
    except PackageNotFoundError:
        return "0"  # run from its sources


_EXAMPLE = {
    "specversion": "1.0",
    "id": "event-123",
    "source": "payment-service",
    "type": "payment.completed",
    "datacontenttype": "application/json",
    "data": {"order_id": "ORD-123", "amount": 99.99},
}
_TROUBLE = {
    "405": {
        **_refusal("The resource has no such method."),
        "headers": {"Allow": {"$ref": "#/components/headers/Allow"}},
    },
    "500": _refusal("A defect, which is logged. Try again.", "retry"),
    "503": _refusal("The store cannot be reached now. Try again.", "retry"),
}
_HEADERS = {
    "RetryAfter": {
        "description": "Seconds.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "Allow": {"description": "The methods.", "required": True, "schema": {"type": "string"}},
}
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}

# CloudEvents take any characters but controls, surrogates and noncharacters.
_CHARACTER = f"[^{FORBIDDEN}]"
_TEXT = {"type": "string", "minLength": 1, "pattern": f"^{_CHARACTER}+$"}
_TIME = {"type": "string", "format": "date-time"}
_UNSET: dict[str, Any] = {"type": "null"}
_STRING = {"type": ["string", "null"]}
_ATTRIBUTES: dict[str, Any] = {
    "specversion": {"const": "1.0"},
    "id": _TEXT,
    "source": _TEXT,
    "type": _TEXT,
    "subject": {"anyOf": [_TEXT, _UNSET]},
    "time": {"anyOf": [_TIME, _UNSET]},
    "dataschema": {"anyOf": [_TEXT, _UNSET]},
    "eddainstanceid": {
        "description": "The only instance that is to see it.",
        "anyOf": [_TEXT, _UNSET],
    },
}
_EXTENSION = {
    "anyOf": [
        {"type": "string", "pattern": f"^{_CHARACTER}*$"},
        {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
        {"type": "boolean"},
        _UNSET,
    ]
}


def _event(description: str, media_type: Any, data: Any, base64: Any) -> dict[str, Any]:
    required = ["specversion", "id", "source", "type"]
    return {
        "description": description,
        "type": "object",
        "required": required if base64 == _UNSET else [*required, "data_base64"],
        "properties": {
            **_ATTRIBUTES,
            "datacontenttype": media_type,
            "data": data,
            "data_base64": base64,
        },
        "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
        "additionalProperties": _EXTENSION,
    }


_JSON_TYPE = {"anyOf": [{"enum": ["application/json", "application/vnd.shop+json"]}, _UNSET]}
_OTHER_TYPE = {"enum": ["text/plain", "application/xml", "application/octet-stream"]}
_BYTES_TYPE = {"anyOf": [{"const": "application/octet-stream"}, _UNSET]}
_BASE64 = {"type": "string", "pattern": "^([A-Za-z0-9+/]{4})*$", "contentEncoding": "base64"}
_SCHEMAS: dict[str, Any] = {
    "CloudEvent": {
        "description": "The JSON format of CloudEvents 1.0. Any media type may stand for the few "
        "named here.",
        "anyOf": [
            _event("Data of a JSON type is any JSON.", _JSON_TYPE, {}, _UNSET),
            _event("Data of another type is a string.", _OTHER_TYPE, _STRING, _UNSET),
            _event("Bytes go in base64.", _BYTES_TYPE, _UNSET, _BASE64),
        ],
    },
    "Accepted": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": "accepted"}},
        "additionalProperties": False,
    },
    "Health": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": "ok"}},
        "additionalProperties": False,
    },
    "Refusal": {
        "type": "object",
        "required": ["error", "error_type", "retryable"],
        "properties": {
            "error": {"type": "string", "description": "What happened, and what to do."},
            "error_type": {"type": "string"},
            "retryable": {"type": "boolean", "description": "Whether a repeat may pass."},
        },
        "additionalProperties": False,
    },
    "Instance": {
        "type": "object",
        "required": [
            "id",
            "workflow",
            "status",
            "waiting_for",
            "started_at",
            "updated_at",
            "due",
        ],
        "properties": {
            "id": {"type": "string"},
            "workflow": {"type": "string"},
            "status": {"enum": [status.value for status in Status]},
            "waiting_for": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "type"],
                    "properties": {"id": {"type": "string"}, "type": {"type": "string"}},
                },
            },
            "started_at": _TIME,
            "updated_at": _TIME,
            "due": {"anyOf": [_TIME, _UNSET]},
            "result": {"description": "With ?result=1: what it returned, null before."},
            "error": {
                "type": "object",
                "description": "With ?result=1, where it failed or is stuck.",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
