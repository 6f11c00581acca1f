"""The HTTP door fuzzed by schemathesis, from the OpenAPI document that it gives of itself.

In this process, on the ASGI application, with a memory store and a worker behind it. Bounded, and
the same on every run. `make fuzz` runs it in an environment of its own (see pyproject.toml).
"""

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, settings

from edda import EddaApp, WorkflowContext, wait_event, workflow
from edda.doors import SystemClock
from edda.http import BearerAuth, WebhookSignature
from edda.openapi import openapi_document
from edda.stores.memory import MemoryStore

schemathesis = pytest.importorskip(
    "schemathesis", reason="schemathesis is not installed here; `make fuzz` has it"
)
config = pytest.importorskip("schemathesis.config")

EXAMPLES = 25


@workflow(start_on="fuzz.order")
async def fuzzed(ctx: WorkflowContext, order_id: str = "") -> None:
    await wait_event(ctx, "paid")


def made(**options) -> EddaApp:
    """An app with one waiting instance, `known`."""
    store = MemoryStore(SystemClock())
    options |= {"store": store, "workflows": [fuzzed]}

    async def fill():
        async with EddaApp("fuzz", "memory://", **options) as app:
            await app.start(fuzzed, instance_id="known")

    asyncio.run(fill())
    return EddaApp("fuzz", "memory://", **options)


def schema_of(app, **headers):
    """The schema of an app, as it tells it; `headers` go with every request."""
    generation = config.GenerationConfig(max_examples=EXAMPLES, deterministic=True)
    project = config.ProjectConfig(generation=generation, headers=headers)
    whole = config.SchemathesisConfig(projects=config.ProjectsConfig(default=project))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=whole, headers=headers)
    return schema.exclude(path="/")  # the same as /events


SCHEMA = schema_of(made())
GUARDED = schema_of(made(auth=BearerAuth("sesame")), Authorization="Bearer sesame")
FUZZ = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@SCHEMA.parametrize()
@FUZZ
def test_every_request_is_answered_as_documented(case):
    """Whatever comes, the answer has a documented status, headers and body, and is no defect."""
    case.call_and_validate()


@SCHEMA.include(path_regex="{id}").parametrize()
@FUZZ
def test_an_instance_that_is_there_is_answered_as_documented(case):
    """The same for an instance that exists."""
    case.path_parameters["id"] = "known"
    case.call_and_validate()


@GUARDED.exclude(path="/events").parametrize()
@FUZZ
def test_a_guarded_app_lets_nobody_in_without_a_token(case):
    """Behind a token the same holds, and without it, or with another, everything is a 401."""
    case.call_and_validate()


@pytest.mark.parametrize("auth", [None, BearerAuth("sesame"), WebhookSignature("whsec_b3RoZXI=")])
def test_the_document_is_valid(auth):
    """The document is OpenAPI 3.1 by the specification's own schema; one without a title is not."""
    document = openapi_document("x", root_path="", max_body_bytes=1, auth=auth)
    schemathesis.openapi.from_dict(document).validate()
    del document["info"]["title"]
    with pytest.raises(ValueError, match="title"):
        schemathesis.openapi.from_dict(document).validate()
